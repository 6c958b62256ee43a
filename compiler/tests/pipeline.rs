//! A pass that breaks the graph stops the compile, and the diagnostic names it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm_compiler::compile::{CompileOptions, compile};
use autoglm_compiler::diag::Class;
use autoglm_compiler::onnx::{file, limits::Limits};
use autoglm_passes::{CANONICALISE, LAYOUT, Pass};
use autoglm_runtime::engine::EngineWriter;
use std::path::Path;

/// Forgets a node, so that its results are defined by nothing.
static BROKEN: Pass = Pass {
    name: "broken",
    doc: "breaks the graph",
    run: |graph, _| {
        let mut graph = graph.clone();
        graph.nodes.pop();
        Ok(graph.into())
    },
};

static PASSES: &[&Pass] = &[&CANONICALISE, &BROKEN, &LAYOUT];

#[test]
fn a_broken_pass_is_named() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/digits/digits.onnx");
    let mut model = file::open(&path, &Limits::default()).unwrap();
    let options = CompileOptions { pipeline: PASSES, ..CompileOptions::default() };
    let mut seen = Vec::new();
    let result =
        compile(&mut model, &options, EngineWriter::in_memory().unwrap(), &mut |phase, _| seen.push(phase));
    let errors = result.err().unwrap();
    assert_eq!((errors[0].code, errors[0].class), ("E0301", Class::Internal));
    assert!(errors[0].title.starts_with("pass `broken`: the result is invalid"), "{}", errors[0].title);
    assert_eq!(seen, ["import", "canonicalise"]);
}
