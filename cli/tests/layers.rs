//! `verify --per-layer` over the real compiler: the first node that differs is named.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod program;

use autoglm_compiler::onnx::file;
use autoglm_compiler::onnx::limits::Limits;
use program::{Folder, autoglm, ok, report, stderr, testdata};
use serde_json::{Value, json};

/// The digits network with the weights called `name` changed.
fn damaged(folder: &Folder, name: &str) -> String {
    let path = testdata("digits/digits.onnx");
    let model = file::open(path.as_ref(), &Limits::default()).unwrap();
    let graph = model.model.graph.as_ref().unwrap();
    let weights = graph.initializer.iter().find(|t| t.name == name).unwrap();
    let raw = weights.raw_data.as_ref().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(raw.len()).position(|window| window == &raw[..]).unwrap();
    // The sign of every fourth element.
    (at + 3..at + raw.len()).step_by(16).for_each(|i| bytes[i] ^= 0x80);
    folder.write(&format!("{name}.onnx"), bytes)
}

fn names() -> Vec<String> {
    let path = testdata("digits/digits.onnx");
    let model = file::open(path.as_ref(), &Limits::default()).unwrap();
    model.model.graph.as_ref().unwrap().initializer.iter().map(|t| t.name.clone()).collect()
}

fn layers(report: &Value) -> Vec<&str> {
    report["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect()
}

#[test]
fn a_sound_engine_has_no_difference() {
    let folder = Folder::new("layers-sound");
    let (model, engine) = (testdata("digits/digits.onnx"), folder.path("e.bin"));
    ok(&["compile", &model, "-o", &engine, "-D", "batch=1..4"]);
    let by_engine =
        report(&["verify", &engine, "--against", &model, "--per-layer", "-D", "batch=3", "-i", "image=rand"]);
    assert_eq!((&by_engine["status"], &by_engine["layers_note"]), (&json!("ok"), &Value::Null));
    assert!(layers(&by_engine).contains(&"logits"), "{:?}", layers(&by_engine));
    let by_model = report(&["verify", &model, "--against", &model, "--per-layer", "-D", "batch=2"]);
    assert_eq!(by_model["status"], "ok");
    for value in ["conv1", "relu1", "conv2", "pool", "fc1", "logits", "probabilities"] {
        assert!(layers(&by_model).contains(&value), "{value}: {:?}", layers(&by_model));
    }
}

#[test]
fn the_first_node_that_differs_is_named_for_a_model() {
    let folder = Folder::new("layers-model");
    let model = testdata("digits/digits.onnx");
    for (weights, node) in [("conv2.weight", "conv2"), ("fc2.weight", "fc2")] {
        assert!(names().iter().any(|name| name == weights), "{:?}", names());
        let wrong = damaged(&folder, weights);
        let line = ["verify", &wrong, "--against", &model, "--per-layer", "-D", "batch=2"];
        let report = report(&line);
        assert_eq!((&report["exit_code"], &report["first_difference"]["node"]), (&json!(5), &json!(node)));
        let output = autoglm(&line);
        assert!(stderr(&output).contains(&format!("the first node that differs is \"{node}\"")));
    }
}

#[test]
fn the_first_node_that_differs_is_named_for_an_engine() {
    let folder = Folder::new("layers-engine");
    let (model, engine) = (testdata("digits/digits.onnx"), folder.path("e.bin"));
    let verify = ["verify", &engine, "--against", &model, "--per-layer", "-D", "batch=2"];
    ok(&["compile", &damaged(&folder, "fc2.weight"), "-o", &engine]);
    let fc2 = report(&verify);
    assert_eq!(fc2["first_difference"], json!({ "node": "fc2", "value": "logits", "unseen": [] }));
    // Fused and channels-last results are not kept under their names: the candidates are listed.
    ok(&["compile", &damaged(&folder, "conv2.weight"), "-o", &engine]);
    let conv2 = report(&verify);
    let unseen = conv2["first_difference"]["unseen"].as_array().unwrap();
    assert!(unseen.contains(&json!("conv2")), "{}", conv2["first_difference"]);
    ok(&["compile", &damaged(&folder, "conv2.weight"), "-o", &engine, "--no-opt"]);
    assert_eq!(report(&verify)["first_difference"]["node"], "conv2");
}

#[test]
fn an_engine_of_another_program_falls_back_to_the_model_and_says_so() {
    let folder = Folder::new("layers-other");
    let (model, engine) = (testdata("digits/digits.onnx"), folder.path("e.bin"));
    let relu = program::case("test_relu");
    ok(&["compile", &relu, "-o", &engine]);
    let other = report(&["verify", &engine, "--against", &program::case("test_abs"), "--per-layer"]);
    assert!(other["layers_note"].as_str().unwrap().contains("does not compile to this engine"));
    assert_eq!(report(&["verify", &engine, "--against", &model, "--per-layer"])["exit_code"], 3);
}
