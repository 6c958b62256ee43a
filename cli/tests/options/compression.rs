//! Options that let the engine differ from the model.

use crate::program::{Folder, failure, ok, report, testdata};
use autoglm::tensor::{Array, npz};
use autoglm_runtime::elem::ElemType;
use serde_json::{Value, json};

const GATES: &str = "layer.cosine>=0.95,out.cosine>=0.99";

fn compress(engine: &str, more: &[&str]) -> Value {
    let (digits, calib) = (testdata("digits/digits.onnx"), testdata("digits/calib"));
    report(&[&["compile", &digits, "-o", engine, "--accuracy", GATES, "--calib", &calib], more].concat())
}

/// Names of the alternatives that are in the engine, by layer.
fn chosen(report: &Value) -> Vec<(String, String)> {
    let layers = report["compression"]["layers"].as_array().unwrap();
    let of = |layer: &Value| {
        let alternatives = layer["alternatives"].as_array().unwrap();
        let chosen = alternatives.iter().find(|a| a["chosen"] == true)?;
        Some((layer["name"].as_str()?.to_owned(), chosen["name"].as_str()?.to_owned()))
    };
    layers.iter().filter_map(of).collect()
}

pub(crate) fn gates(_: &str) {
    let folder = Folder::new("options-accuracy");
    let engine = folder.path("e");
    let it = compress(&engine, &["--check-reproducible"]);
    assert_eq!((&it["status"], &it["reproducible"]["equal"]), (&json!("ok"), &json!(true)), "{it}");
    let measured = &it["compression"]["measured"];
    assert!(
        measured["layer.cosine"].as_f64().unwrap() >= 0.95
            && measured["out.cosine"].as_f64().unwrap() >= 0.99
    );
    assert!(!chosen(&it).is_empty());
    let bytes = &it["compression"]["bytes"];
    assert!(bytes["chosen"].as_f64().unwrap() < bytes["exact"].as_f64().unwrap());
    // The engine says what it was measured to keep.
    let manifest = ok(&["inspect", &engine, "--show", "manifest"]);
    assert!(manifest.contains("accuracy.out.cosine") && manifest.contains(GATES), "{manifest}");
    // Every layer says what it is expected to take and what it took, exactly and as chosen.
    for layer in it["compression"]["layers"].as_array().unwrap() {
        let measured = |what: &str| layer["measured_ns"][what].as_u64().unwrap();
        assert!(measured("exact") > 0 && measured("chosen") > 0, "{layer}");
        let predicted = layer["latency_ns"].as_f64().unwrap();
        for alternative in layer["alternatives"].as_array().unwrap().iter().filter(|a| !a["id"].is_null()) {
            assert!(alternative["estimate"]["saves"]["ns"].as_f64().unwrap() < predicted, "{alternative}");
        }
    }
    let layers: u64 = it["compression"]["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["measured_ns"]["exact"].as_u64().unwrap())
        .sum();
    assert!(it["compression"]["measured_ns"]["exact"].as_u64().unwrap() >= layers / 2);
    // A layer that errs no more than a billionth of its variance is exact, and so is the engine.
    let (digits, calib) = (testdata("digits/digits.onnx"), testdata("digits/calib"));
    let tight = "layer.mse<=0.000000001";
    let none = report(&["compile", &digits, "-o", &engine, "--accuracy", tight, "--calib", &calib]);
    assert_eq!(chosen(&none), []);
    let text = ok(&["compile", &digits, "-o", &engine, "--accuracy", tight, "--calib", &calib]);
    assert!(text.contains("layer.mse is") && text.contains("measured on 8 samples"), "{text}");
}

pub(crate) fn calibration(_: &str) {
    let folder = Folder::new("options-calib");
    let (digits, engine) = (testdata("digits/digits.onnx"), folder.path("e"));
    let with = |calib: &str| {
        ["compile", &digits, "-o", &engine, "--accuracy", GATES, "--calib", calib].map(str::to_owned)
    };
    let line = |calib: &str| -> Vec<String> { with(calib).to_vec() };
    let run = |calib: &str| {
        let line = line(calib);
        report(&line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let one = run(&testdata("digits/calib/000.npz"));
    assert_eq!(one["compression"]["samples"], 1, "{one}");
    let kept = std::fs::read(&engine).unwrap();
    let bounded = [&line(&testdata("digits/calib"))[..], &["-D".into(), "batch=2..4".into()]].concat();
    let refused = report(&bounded.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused["diagnostics"][0]["code"], "E0304", "{refused}");
    let empty = folder.path("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(run(&empty)["diagnostics"][0]["code"], "E0927");
    assert_eq!(run(&folder.path("nowhere"))["diagnostics"][0]["code"], "E0903");
    let usage = |args: &[&str]| failure(&[&["compile", &digits, "-o", &engine], args].concat()).0;
    assert_eq!(usage(&["--accuracy", GATES]), 2);
    assert_eq!(usage(&["--calib", &testdata("digits/calib")]), 2);
    assert_eq!(usage(&["--accuracy", "out.cosine=1", "--calib", &testdata("digits/calib")]), 2);
    assert_eq!(usage(&["--accuracy", GATES, "--calib", &testdata("digits/calib"), "--strict"]), 2);
    // What failed has left the engine of the first compile as it was.
    assert_eq!(std::fs::read(&engine).unwrap(), kept);
}

pub(crate) fn held_out(_: &str) {
    let folder = Folder::new("options-holdout");
    let (engine, unseen) = (folder.path("e"), testdata("digits/held_out"));
    let plain = compress(&engine, &[]);
    assert!(plain["compression"]["held_out"].is_null());
    let it = compress(&engine, &["--holdout", &unseen, "--check-reproducible"]);
    assert_eq!((&it["status"], &it["reproducible"]["equal"]), (&json!("ok"), &json!(true)), "{it}");
    // It changes what is known of the engine, and not the engine.
    assert_eq!(chosen(&it), chosen(&plain));
    assert_eq!(it["compression"]["measured"], plain["compression"]["measured"]);
    let held_out = &it["compression"]["held_out"];
    let figure = |name: &str| held_out["measured"][name].as_f64().unwrap();
    assert_eq!((&held_out["samples"], &held_out["failures"]), (&json!(1), &json!([])), "{held_out}");
    assert!(figure("layer.cosine") >= 0.95 && figure("out.cosine") >= 0.99 && figure("layer.mse") > 0.0);
    assert!(held_out["measured"] != it["compression"]["measured"]);
    let layers = it["compression"]["layers"].as_array().unwrap();
    let least = layers.iter().map(|l| l["held_out"]["cosine"].as_f64().unwrap()).fold(1.0, f64::min);
    assert_eq!(least, figure("layer.cosine"));
    let manifest = ok(&["inspect", &engine, "--show", "manifest"]);
    assert!(manifest.contains("accuracy.held_out.layer.cosine"), "{manifest}");
    // Calibration saw nothing of the kind: the gate fails, and the engine is there to be looked at.
    let stripes = folder.write("stripes.npz", stripes());
    let (digits, calib) = (testdata("digits/digits.onnx"), testdata("digits/calib"));
    let line =
        ["compile", &digits, "-o", &engine, "--accuracy", GATES, "--calib", &calib, "--holdout", &stripes];
    assert_eq!(failure(&line), (5, "E0945".into()));
    assert!(ok(&["inspect", &engine, "--show", "manifest"]).contains("accuracy.held_out.samples"));
    let without = ["compile", &digits, "-o", &engine, "--holdout", &unseen];
    assert_eq!(failure(&without).0, 2);
    let nowhere = compress(&engine, &["--holdout", &folder.path("nowhere")]);
    assert_eq!(nowhere["diagnostics"][0]["code"], "E0903");
}

/// A run of pictures whose pixels alternate between two large values of different sign.
fn stripes() -> Vec<u8> {
    let pixel = |at: usize| if at.is_multiple_of(2) { 60.0f32 } else { -60.0 };
    let bytes = (0..8 * 8 * 8).flat_map(|at| pixel(at).to_le_bytes()).collect();
    let pictures = Array::new(ElemType::F32, vec![8, 1, 8, 8], bytes).unwrap();
    npz::write(&[("image", &pictures)]).unwrap()
}

pub(crate) fn kinds(_: &str) {
    let folder = Folder::new("options-kinds");
    let engine = folder.path("e");
    let kinds = |more: &[&str]| -> Vec<String> {
        let it = compress(&engine, more);
        let layers = it["compression"]["layers"].as_array().unwrap().clone();
        let all = layers.iter().flat_map(|l| l["alternatives"].as_array().unwrap().clone());
        all.map(|a| a["kind"].as_str().unwrap().to_owned()).collect()
    };
    let of = |kinds: &[String], kind: &str| kinds.iter().filter(|k| *k == kind).count();
    let both = kinds(&[]);
    assert!(of(&both, "low-rank") > 0 && of(&both, "sparse") > 0);
    let sparse = kinds(&["--low-rank", "off"]);
    assert!(of(&sparse, "low-rank") == 0 && of(&sparse, "sparse") > 0);
    let low_rank = kinds(&["--sparsity", "off"]);
    assert!(of(&low_rank, "low-rank") > 0 && of(&low_rank, "sparse") == 0);
    permuted_channels();
    // Layers that are kept have nothing to choose from.
    let kept = compress(&engine, &["--keep", "fc*", "--keep", "norm2"]);
    assert!(chosen(&kept).iter().all(|(layer, _)| !layer.starts_with("fc") && layer != "norm2"));
    assert!(kept["compression"]["layers"].to_string().contains("kept by the pattern"));
}

/// Where weights may be pruned the channels between layers are in another order, and the report says so.
fn permuted_channels() {
    let folder = Folder::new("options-permuted");
    let engine = folder.path("e");
    let permuted = |more: &[&str]| -> Vec<String> {
        let it = compress(&engine, more);
        let layers = it["compression"]["layers"].as_array().unwrap().clone();
        let layers = layers.iter().filter(|layer| layer["permuted"].as_bool().unwrap());
        layers.map(|layer| layer["name"].as_str().unwrap().to_owned()).collect()
    };
    // The first layer reads the picture, the first behind the images a flat row, and the last is too small.
    let prunable = permuted(&["--low-rank", "off"]);
    assert!(!prunable.is_empty() && prunable.iter().all(|name| ["norm2", "norm3", "fc2"].contains(&&**name)));
    assert!(permuted(&["--sparsity", "off"]).is_empty());
    let (digits, calib) = (testdata("digits/digits.onnx"), testdata("digits/calib"));
    let line = ["compile", &digits, "-o", &engine, "--accuracy", GATES, "--calib", &calib];
    let with = |more: &[&str]| ok(&[&line[..], more].concat());
    assert!(with(&["--sparsity", "2:4"]).contains("permuted"));
    let ir = |phase: &str| with(&["--emit", &format!("ir={phase}")]);
    assert!(ir("canonicalise") != ir("permute") && ir("permute").contains("conv"));
    let ir = |phase: &str| with(&["--sparsity", "off", "--emit", &format!("ir={phase}")]);
    assert_eq!(ir("canonicalise"), ir("permute"));
}

pub(crate) fn objective(_: &str) {
    let folder = Folder::new("options-objective");
    let engine = folder.path("e");
    let bytes = |more: &[&str]| compress(&engine, more)["compression"]["bytes"]["chosen"].as_f64().unwrap();
    let latency =
        |more: &[&str]| compress(&engine, more)["compression"]["latency_ns"]["chosen"].as_f64().unwrap();
    assert!(bytes(&["--objective", "bytes"]) <= bytes(&[]));
    assert!(latency(&[]) <= latency(&["--objective", "bytes"]));
    assert!(bytes(&["--sparsity", "2:4"]) <= bytes(&[]));
    without_a_budget();
}

/// None of the options changes an engine that is exact.
fn without_a_budget() {
    let folder = Folder::new("options-no-budget");
    let digits = testdata("digits/digits.onnx");
    let compile = |name: &str, more: &[&str]| {
        let engine = folder.path(name);
        ok(&[&["compile", &digits, "-o", &engine], more].concat());
        std::fs::read(engine).unwrap()
    };
    let plain = compile("plain", &[]);
    for more in
        [["--low-rank", "off"], ["--sparsity", "check"], ["--sparsity", "off"], ["--objective", "bytes"]]
    {
        assert!(compile("other", &more) == plain, "{more:?}");
    }
    let checked = report(&["compile", &digits, "-o", &folder.path("e"), "--sparsity", "check"]);
    let zeros = checked["zeros"].as_array().unwrap();
    assert!(zeros.len() >= 4 && zeros.iter().all(|w| w["pattern"].is_null()), "{zeros:?}");
}
