//! The ratchet as a page to read.

use super::judge::unexpanded;
use super::ratchet::{PASS, Ratchet, Row, Way};
use std::collections::BTreeMap;

const HEAD: &str = "# ONNX conformance

Written by `autoglm conformance --docs` from `testdata/conformance/expected.tsv`; a test fails when it is not up to date.

The cases are the backend tests of onnx 1.23.2. Each is compiled to the bytes of an engine, which is loaded and run, and once
more run by the reference interpreter; every output of every data set is compared with the tolerance of the case
(rtol 1e-3 and atol 1e-7 but for one; two units in the last place for bf16, as in the runner of the ONNX project).
Integers must be equal. A case is right or it is refused with a code and a reason: a wrong result and a crash are errors that
the list cannot record.
[testing.md](testing.md) says how to run them.

";

/// How many cases pass, of how many.
#[derive(Clone, Copy, Default)]
struct Count {
    pass: usize,
    all: usize,
}

impl Count {
    fn add(&mut self, pass: bool) {
        self.pass += usize::from(pass);
        self.all += 1;
    }

    fn show(self) -> String {
        if self.all == 0 { "-".into() } else { format!("{} of {}", self.pass, self.all) }
    }
}

/// What is known of one operator.
#[derive(Default)]
struct Operator<'a> {
    direct: Count,
    expanded: Count,
    reasons: BTreeMap<&'a str, usize>,
}

/// The page.
pub(super) fn render(ratchet: &Ratchet) -> String {
    let mut page = HEAD.to_string();
    suites(&mut page, ratchet);
    operators(&mut page, ratchet);
    others(&mut page, ratchet);
    page
}

/// `node/test_abs` is of the suite `node`.
fn suite(name: &str) -> &str {
    name.split_once('/').map_or("", |(suite, _)| suite)
}

fn passes(row: &Row, way: Way) -> bool {
    row.cells[way as usize] == PASS
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn suites(page: &mut String, ratchet: &Ratchet) {
    let mut suites: BTreeMap<&str, [Count; 2]> = BTreeMap::new();
    for (name, row) in &ratchet.rows {
        let counts = suites.entry(suite(name)).or_default();
        for way in [Way::Engine, Way::Interpreter] {
            counts[way as usize].add(passes(row, way));
        }
    }
    page.push_str("| suite | engine | interpreter |\n|---|---|---|\n");
    for (suite, [engine, interpreter]) in suites {
        page.push_str(&format!("| {suite} | {} | {} |\n", engine.show(), interpreter.show()));
    }
}

/// Every operator that a case of one operator is about.
fn operators(page: &mut String, ratchet: &Ratchet) {
    let mut operators: BTreeMap<&str, Operator<'_>> = BTreeMap::new();
    for (name, row) in &ratchet.rows {
        if suite(name) != "node" {
            continue;
        }
        let entry = operators.entry(&row.operator).or_default();
        let pass = passes(row, Way::Engine);
        let count = if unexpanded(name).is_some() { &mut entry.expanded } else { &mut entry.direct };
        count.add(pass);
        if !pass {
            *entry.reasons.entry(&row.cells[Way::Engine as usize]).or_default() += 1;
        }
    }
    page.push_str(
        "\nOperators of the suite node, run as engines; `-` stands for cases with several operators. Cases that \
         replace\nan operator by its function body are counted apart.\n\n\
         | operator | pass | as function body | refused, with the number of cases |\n|---|---|---|---|\n",
    );
    for (name, operator) in operators {
        let reason = |(reason, n): (&&str, &usize)| format!("{} ({n})", cell(reason));
        let reasons = operator.reasons.iter().map(reason).collect::<Vec<_>>().join("<br>");
        let (direct, expanded) = (operator.direct.show(), operator.expanded.show());
        page.push_str(&format!("| {} | {direct} | {expanded} | {reasons} |\n", cell(name)));
    }
}

/// Refused cases of the other suites.
fn others(page: &mut String, ratchet: &Ratchet) {
    page.push_str("\n| refused case of another suite | reason |\n|---|---|\n");
    for (name, row) in &ratchet.rows {
        if suite(name) != "node" && !passes(row, Way::Engine) {
            page.push_str(&format!("| {} | {} |\n", cell(name), cell(&row.cells[Way::Engine as usize])));
        }
    }
}
