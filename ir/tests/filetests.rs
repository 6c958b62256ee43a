//! Runs `testdata/filetests` of this crate. `BLESS=1` rewrites the expectations, and writes the files of operators that
//! have none yet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use autoglm_ir::filetest::{TESTS, run};
use autoglm_ir::graph::infer;
use autoglm_ir::ops::OPS;
use autoglm_ir::{Graph, OpDef, OpId, text};
use std::path::{Path, PathBuf};

const FOLDERS: [&str; 4] = ["roundtrip", "infer", "verify", "eval"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/filetests").join(name)
}

fn is_blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// A graph for each sample of an operator.
fn samples(op: &'static OpDef) -> Vec<Graph> {
    let id = OpId::of(op.name).unwrap();
    let sample = |(i, sample): (usize, &&str)| {
        let (types, attrs) = text::parse_sample(id, sample).unwrap();
        let mut used = std::collections::BTreeSet::new();
        types.iter().flat_map(|t| &t.shape).for_each(|d| d.symbols(&mut used));
        attrs.iter().for_each(|(_, a)| {
            if let autoglm_ir::Attr::Dims(dims) = a {
                dims.iter().for_each(|d| d.symbols(&mut used));
            }
        });
        // Symbols that no extent of an argument gives by itself come from an input of their own.
        let shown: Vec<_> = types.iter().flat_map(|t| &t.shape).filter_map(|d| d.as_sym()).collect();
        let hidden: Vec<&str> = used.iter().map(|s| &**s).filter(|s| !shown.contains(s)).collect();
        let mut inputs: Vec<String> = types.iter().enumerate().map(|(i, t)| format!("%x{i}: {t}")).collect();
        if !hidden.is_empty() {
            inputs.push(format!("%sizes: bool[{}]", hidden.join(",")));
        }
        let args: Vec<String> = (0..types.len()).map(|i| format!("%x{i}")).collect();
        let (results, _) = infer(id, &attrs, &types.iter().collect::<Vec<_>>()).unwrap();
        let attrs = sample.find('{').map_or("", |at| &sample[at..]);
        let outs = (0..results.len()).map(|i| format!("%{i}")).collect::<Vec<_>>().join(", ");
        let graph = format!(
            "graph @{}_{i} ({}) {{\n {outs} = {} {} {attrs}\n return {outs} }}",
            op.name,
            inputs.join(", "),
            op.name,
            args.join(", "),
        );
        text::parse(&graph).unwrap_or_else(|e| panic!("{graph}: {e:?}"))
    };
    op.samples.iter().enumerate().map(sample).collect()
}

/// Without the types after operations.
fn untyped(printed: &str) -> String {
    let strip =
        |l: &str| l.find(" : ").filter(|_| l.starts_with("  ")).map_or(l.to_owned(), |at| l[..at].to_owned());
    printed.lines().map(strip).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_operator_has_filetests() {
    for op in OPS {
        for name in ["roundtrip", "infer"] {
            let file = folder(name).join(format!("{}.agir", op.name));
            if !file.exists() && is_blessing() {
                let graphs = samples(op).iter().map(text::print).collect::<Vec<_>>();
                let graphs = graphs.iter().map(|g| if name == "infer" { untyped(g) } else { g.clone() });
                let graphs = graphs.collect::<Vec<_>>().join("\n\n");
                std::fs::create_dir_all(folder(name)).unwrap();
                std::fs::write(&file, format!("test {name}\n\n{graphs}\n")).unwrap();
            }
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(text.contains(&format!("= {} ", op.name)), "{} does not use it", file.display());
        }
    }
}

#[test]
fn files_give_what_they_expect() {
    let mut failures = Vec::new();
    for name in FOLDERS {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder(name)).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "agir"));
        files.sort();
        assert!(!files.is_empty(), "{name} is empty");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let outcome = run(&text, TESTS).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            assert!(text.starts_with(&format!("test {name}\n")), "{} is in the wrong folder", file.display());
            if is_blessing() {
                std::fs::write(&file, outcome.blessed).unwrap();
                continue;
            }
            for m in outcome.mismatches {
                failures.push(format!("{}:{}\n{}\nfound:\n{}", file.display(), m.line, m.expected, m.found));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
