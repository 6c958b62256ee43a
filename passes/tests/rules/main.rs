//! Every rule has a file in `testdata/filetests/rules` with a graph where it fires and one where it must not. `BLESS=1`
//! rewrites the expectations; what a rule may do to the results is checked against the reference interpreter all the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../equal/mod.rs"]
mod equal;
mod numeric;
mod perturb;

use autoglm_ir::filetest::{self, Case, Found};
use autoglm_ir::text::{Pool, parse_with, print};
use autoglm_ir::{Graph, verify};
use autoglm_passes::{CANONICALISE, Options, egraph, rules, run};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/filetests/rules"))
}

/// Canonicalised, optimised, and what the rules did.
pub(crate) fn optimise(graph: &Graph) -> (Graph, egraph::Explanation) {
    let options = Options::default();
    let graph = run(&CANONICALISE, graph, &options).unwrap();
    let (graph, said) = egraph::explain(&graph, &options).unwrap();
    let graph = run(&CANONICALISE, &graph, &options).unwrap();
    assert_eq!(verify::verify(&graph), [], "{}", print(&graph));
    (graph, said)
}

fn rule(name: &str, case: &Case) -> Found {
    let graph = match parse_with(&case.graph, &Pool::new()) {
        Ok(graph) => graph,
        Err(errors) => return Found::Lines(errors.iter().map(|e| format!("error: {e}")).collect()),
    };
    let invalid = verify::verify(&graph);
    if !invalid.is_empty() {
        return Found::Lines(invalid.iter().map(|v| format!("error: {v}")).collect());
    }
    let (optimised, said) = optimise(&graph);
    if let Err(wrong) = numeric::check(&graph, &optimised) {
        return Found::Lines(vec![format!("wrong: {wrong}"), print(&optimised)]);
    }
    let activity = said.activities.rules.get(name).cloned().unwrap_or_default();
    let mut lines = if activity.fired > 0 {
        vec!["fired".to_owned()]
    } else {
        std::iter::once("silent".to_owned())
            .chain(activity.refused.keys().map(|reason| format!("refused: {reason}")))
            .collect()
    };
    lines.extend(print(&optimised).lines().map(str::to_owned));
    Found::Lines(lines)
}

/// The rule files: name of the rule, path, text.
fn files() -> Vec<(String, PathBuf, String)> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), path, text)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_rule_fires_where_it_should_and_only_there() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut tested = BTreeSet::new();
    let mut failures = Vec::new();
    for (name, path, text) in files() {
        assert!(text.starts_with(&format!("test rule {name}\n")), "{} tests another rule", path.display());
        let outcome =
            filetest::run(&text, &[("rule", rule)]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if bless {
            std::fs::write(&path, &outcome.blessed).unwrap();
        }
        let at = path.display();
        for m in outcome.mismatches.iter().filter(|_| !bless) {
            failures.push(format!("{at}:{}\nexpected\n{}\nfound\n{}", m.line, m.expected, m.found));
        }
        failures.extend(misnamed(&outcome.blessed).map(|problem| format!("{at}: {problem}")));
        let says = |word: &str| outcome.blessed.contains(&format!("\n; {word}\n"));
        if !says("fired") || !says("silent") {
            failures.push(format!("{at} needs a case that fires and one that does not"));
        }
        tested.insert(name);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let all: BTreeSet<String> = rules::all().map(|r| r.name.to_owned()).collect();
    assert_eq!(tested, all, "one file a rule");
}

/// Cases whose names promise something else than what is found; a wrong result keeps no promise.
fn misnamed(text: &str) -> impl Iterator<Item = String> {
    text.split("\ngraph @").skip(1).filter_map(|case| {
        let (name, rest) = case.split_once(' ')?;
        let found = rest.split_once("\n; ").map_or("", |(_, found)| found.lines().next().unwrap_or(""));
        let promised = if name.starts_with("fires") { "fired" } else { "silent" };
        (found != promised).then(|| format!("{name}: {found}"))
    })
}

/// The graphs of a rule's file in which it fires.
fn firing(text: &str) -> Vec<Graph> {
    text.split("\ngraph ")
        .skip(1)
        .filter(|case| case.contains("\n; fired\n"))
        .map(|case| {
            let graph = format!("graph {}", &case[..case.find("\n}").unwrap() + 2]);
            parse_with(&graph, &Pool::new()).unwrap()
        })
        .collect()
}

#[test]
fn exact_rules_keep_every_bit() {
    let strict = Options { strict: true, ..Options::default() };
    for (name, path, text) in files() {
        let exact = rules::all().any(|r| r.name == name && r.numerics == egraph::Numerics::Exact);
        for graph in firing(&text).iter().filter(|_| exact) {
            let canonical = run(&CANONICALISE, graph, &strict).unwrap();
            let (optimised, _) = egraph::explain(&canonical, &strict).unwrap();
            equal::assert_equal(graph, &optimised, true, &format!("{} @{}", path.display(), graph.name));
        }
    }
}

#[test]
fn recovery_rules_fire_whatever_the_exporter_wrote() {
    let mut failures = Vec::new();
    for (name, path, text) in files() {
        let recovers = rules::all().any(|r| r.name == name && r.recovers);
        for graph in firing(&text).iter().filter(|_| recovers) {
            for seed in 0..5 {
                let changed = perturb::perturb(graph, seed);
                let (optimised, said) = optimise(&changed);
                let equal = numeric::check(graph, &optimised);
                let fired = said.activities.rules.get(name.as_str()).map_or(0, |a| a.fired);
                if equal.is_err() || fired == 0 {
                    let (at, changed, optimised) = (path.display(), print(&changed), print(&optimised));
                    failures
                        .push(format!("{at} seed {seed}: {equal:?}, fired {fired}\n{changed}\n{optimised}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn nothing_but_the_rules_recovers() {
    for (name, path, text) in files() {
        let recovers = rules::all().any(|r| r.name == name && r.recovers);
        for graph in firing(&text).iter().filter(|_| recovers) {
            let options = Options::default();
            let canonical = run(&CANONICALISE, graph, &options).unwrap();
            let ops = |g: &Graph| g.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>();
            assert_ne!(
                ops(&canonical),
                ops(&optimise(graph).0),
                "{}: recovered without rules",
                path.display()
            );
        }
    }
}
