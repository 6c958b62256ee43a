//! Runs `testdata/filetests/passes`: one folder a pass, files whose header is `test pass NAME`.
//!
//! Each graph is followed by what the pass makes of it. Beyond the text, graph and result must give equal outputs in the
//! reference interpreter for random inputs. `BLESS=1` rewrites the expectations, but never past a wrong output.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod equal;

use autoglm_ir::filetest::{Case, Found, run};
use autoglm_ir::text::{Pool, parse_with, print};
use autoglm_ir::verify::verify;
use autoglm_ir::{Graph, ops::OPS};
use autoglm_passes as passes;
use std::path::{Path, PathBuf};

/// Passes that round in another order: they are held to equal bits only under `strict`.
const REASSOCIATING: [&str; 2] = ["fold", "optimise"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/filetests")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|f| f.unwrap().path())
        .filter(|f| f.extension().is_some_and(|e| e == "agir"))
        .collect();
    files.sort();
    files
}

/// Holds a pass to its contract on one graph and gives the result.
fn checked(name: &str, graph: &Graph, at: &str) -> Graph {
    let pass = passes::by_name(name).unwrap_or_else(|| panic!("there is no pass `{name}`"));
    let options = passes::Options::default();
    let after = passes::run(pass, graph, &options).unwrap_or_else(|e| panic!("{at}: {e}"));
    let exact = !REASSOCIATING.contains(&name);
    equal::assert_equal(graph, &after, exact, at);
    if !exact {
        let strict = passes::Options { strict: true, ..options };
        let exact = passes::run(pass, graph, &strict).unwrap_or_else(|e| panic!("{at}: {e}"));
        equal::assert_equal(graph, &exact, true, &format!("{at} (strict)"));
    }
    after
}

fn pass(name: &str, case: &Case) -> Found {
    let graph = match parse_with(&case.graph, &Pool::new()) {
        Ok(graph) => graph,
        Err(errors) => return Found::Lines(errors.iter().map(|e| format!("error: {e}")).collect()),
    };
    let invalid = verify(&graph);
    if !invalid.is_empty() {
        return Found::Lines(invalid.iter().map(|v| format!("error: {v}")).collect());
    }
    let after = checked(name, &graph, &format!("{name}, line {}", case.line));
    Found::Lines(print(&after).lines().map(str::to_owned).collect())
}

#[test]
fn files_give_what_they_expect() {
    let blessing = std::env::var_os("BLESS").is_some();
    let mut failures = Vec::new();
    for pass_of in passes::all() {
        let files = files(&root().join("passes").join(pass_of.name));
        assert!(!files.is_empty(), "`{}` has no filetest", pass_of.name);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let header = format!("test pass {}\n", pass_of.name);
            assert!(text.starts_with(&header), "{} must start with {header}", file.display());
            let outcome = run(&text, &[("pass", pass)]).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            if blessing {
                std::fs::write(&file, outcome.blessed).unwrap();
                continue;
            }
            let show = |m: autoglm_ir::filetest::Mismatch| {
                format!("{}:{}\n{}\nfound:\n{}", file.display(), m.line, m.expected, m.found)
            };
            failures.extend(outcome.mismatches.into_iter().map(show));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Every graph of the other filetests, and so every operator, goes through every pass.
#[test]
fn passes_keep_what_every_operator_computes() {
    let mut seen = std::collections::BTreeSet::new();
    for folder in ["roundtrip", "eval"] {
        for file in files(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for source in text.split("\ngraph ").skip(1) {
                let end = source.find("\n}").unwrap_or_else(|| panic!("{}: no end", file.display()));
                let Ok(graph) = parse_with(&format!("graph {}\n}}", &source[..end]), &Pool::new()) else {
                    continue;
                };
                seen.extend(graph.nodes.iter().map(|n| n.op.name()));
                for pipeline in [passes::PIPELINE, passes::BASELINE] {
                    let mut current = graph.clone();
                    for pass in pipeline {
                        let at = format!("{} @{}, {}", file.display(), current.name, pass.name);
                        current = checked(pass.name, &current, &at);
                    }
                }
            }
        }
    }
    let missing: Vec<_> = OPS.iter().map(|op| op.name).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no graph has {missing:?}");
}
