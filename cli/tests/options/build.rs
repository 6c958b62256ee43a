//! Options of `compile`, `check` and `opt`.

use crate::model;
use crate::program::{Folder, autoglm, failure, ok, report, testdata};
use serde_json::json;

pub(crate) fn output_and_bounds(_: &str) {
    let folder = Folder::new("options-compile");
    let (digits, engine) = (testdata("digits/digits.onnx"), folder.path("e.bin"));
    let bounded = report(&["compile", &digits, "--output", &engine, "-D", "batch=2..4"]);
    assert_eq!(bounded["engine"]["bytes"], std::fs::metadata(&engine).unwrap().len());
    assert_eq!(bounded["io"]["symbols"], json!([{ "name": "batch", "min": 2, "max": 4 }]));
    let run = |batch: &str| autoglm(&["run", &engine, "-i", "image=zeros", "-D", batch]).status.code();
    assert_eq!((run("batch=4"), run("batch=5")), (Some(0), Some(3)));
    let fixed = report(&["compile", &digits, "-o", &engine, "--dim", "batch=3"]);
    assert_eq!(fixed["io"]["inputs"][0]["type"], "f32[3,1,8,8]");
    assert!(
        fixed["memory"]["arena_bytes"].as_u64().unwrap() > bounded["memory"]["arena_bytes"].as_u64().unwrap()
    );
}

pub(crate) fn phases(_: &str) {
    let folder = Folder::new("options-phases");
    let digits = testdata("digits/digits.onnx");
    let import = ok(&["compile", &digits, "--emit", "ir=import"]);
    assert!(import.starts_with("graph @digits (%image: f32[batch,1,8,8])"), "{import}");
    let layout = ok(&["compile", &digits, "--emit", "ir=layout"]);
    assert!(!import.contains("layout=nhwc") && layout.contains("layout=nhwc"));
    let dump = folder.path("ir");
    let report = report(&["compile", &digits, "-o", &folder.path("e"), "--dump-phases", &dump]);
    assert_eq!(std::fs::read_to_string(folder.path("ir/00-import.agir")).unwrap(), import);
    assert!(std::fs::read_dir(&dump).unwrap().count() < report["phases"].as_array().unwrap().len());
}

pub(crate) fn reproducible(_: &str) {
    let folder = Folder::new("options-reproducible");
    let line = ["compile", &testdata("digits/digits.onnx"), "-o", &folder.path("e"), "-D", "batch=1..9"];
    assert!(report(&line).get("reproducible").is_none());
    let checked = report(&[&line[..], &["--check-reproducible"]].concat());
    assert_eq!(checked["reproducible"], json!({ "checked": true, "equal": true }));
    assert_eq!(folder.names(), ["e"]);
}

pub(crate) fn no_opt(_: &str) {
    let folder = Folder::new("options-no-opt");
    let line = ["compile", &testdata("digits/digits.onnx"), "-o", &folder.path("e")];
    let (plain, no_opt) = (report(&line), report(&[&line[..], &["--no-opt"]].concat()));
    assert_ne!(plain["graph"]["ops_after"], no_opt["graph"]["ops_after"]);
    let phases = |report: &serde_json::Value| -> Vec<String> {
        let list = report["phases"].as_array().unwrap();
        list.iter().map(|phase| phase["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(phases(&plain).contains(&"optimise".to_owned()));
    assert_eq!(phases(&no_opt), ["import", "fold", "baseline-layout", "lower", "emit"]);
    // The same kernels, and a step for what is an epilogue in the other.
    let count = |report: &serde_json::Value, kinds: &[&str]| -> u64 {
        kinds.iter().filter_map(|kind| report["graph"]["ops_after"][kind].as_u64()).sum()
    };
    for kinds in [&["Conv", "Winograd"][..], &["MatMul"], &["Pool"]] {
        assert_eq!(count(&plain, kinds), count(&no_opt, kinds), "{kinds:?}");
    }
    assert!(count(&no_opt, &["Tile"]) > count(&plain, &["Tile"]));
}

/// The digits network has a convolution that is worth transforming.
pub(crate) fn compact(_: &str) {
    let folder = Folder::new("options-compact");
    let line = ["compile", &testdata("digits/digits.onnx"), "-o", &folder.path("e")];
    let (plain, compact) = (report(&line), report(&[&line[..], &["--compact"]].concat()));
    let count = |report: &serde_json::Value, kind: &str| report["graph"]["ops_after"][kind].as_u64();
    assert_eq!(count(&compact, "Conv"), Some(3));
    assert_eq!((count(&plain, "Winograd"), count(&compact, "Winograd")), (Some(1), None));
    let bytes = |report: &serde_json::Value| report["memory"]["sections"]["weights"].as_u64().unwrap();
    assert!(bytes(&compact) < bytes(&plain));
}

/// The transformed convolution of the digits network is not taken where it is said to take long.
pub(crate) fn costs(_: &str) {
    let folder = Folder::new("options-costs");
    let line = ["compile", &testdata("digits/digits.onnx"), "-o", &folder.path("e")];
    let with = |costs: &str| report(&[&line[..], &["--costs", costs]].concat());
    let count = |report: &serde_json::Value| report["graph"]["ops_after"]["Winograd"].as_u64();
    let slow = folder.write("slow.txt", "# it takes a second\nwinograd f32 1 1x1x1 1000000000\n");
    assert_eq!((count(&with("roofline")), count(&with(&slow))), (Some(1), None));
    assert_eq!(count(&with("measured")), count(&report(&line)));
    let damaged = folder.write("damaged.txt", "gemm f32 1 1x1 5\n");
    assert_eq!(failure(&[&line[..], &["--costs", &damaged]].concat()), (3, "E0928".into()));
    assert_eq!(failure(&[&line[..], &["--costs", "absent.txt"]].concat()), (3, "E0903".into()));
}

pub(crate) fn optimiser(_: &str) {
    let folder = Folder::new("options-optimiser");
    let (digits, engine) = (testdata("digits/digits.onnx"), folder.path("e"));
    let line = ["compile", &digits, "-o", &engine];
    let plain = report(&line);
    let cost =
        |report: &serde_json::Value, when: &str| report["optimiser"]["cost_ns"][when].as_f64().unwrap();
    assert!(cost(&plain, "after") <= cost(&plain, "before") && plain.get("fusion").is_none());
    let strict = report(&[&line[..], &["--strict", "--check-reproducible"]].concat());
    assert!(cost(&strict, "after") >= cost(&plain, "after"));
    assert_eq!(strict["reproducible"]["equal"], true);
    let explained = report(&["compile", &digits, "--explain-fusion"]);
    let rules = explained["fusion"].as_array().unwrap();
    assert!(rules.iter().any(|r| r["rule"] == "gelu" && r["fired"] == 0), "{rules:?}");
    assert!(ok(&["compile", &digits, "--explain-fusion"]).contains("layer-norm"));
    assert!(ok(&line).contains("predicted: "));
    let dot = ok(&["compile", &digits, "--emit", "egraph=dot"]);
    assert!(dot.starts_with("digraph egraph {") && dot.contains("conv"), "{dot}");
    let json = ok(&["compile", &digits, "--emit", "egraph=json"]);
    let data: serde_json::Value = serde_json::from_str(&json).unwrap();
    let root = data["root_eclasses"][0].as_str().unwrap();
    assert!(data["nodes"].as_object().unwrap().values().any(|node| node["eclass"] == root));
    assert_eq!(failure(&["compile", &digits, "--no-opt", "--emit", "egraph=dot"]).0, 2);
}

/// The command on a model: `check`, or `compile` into the folder.
fn line<'a>(command: &'a str, model: &'a str, out: &'a str) -> Vec<&'a str> {
    if command == "compile" { vec![command, model, "-o", out] } else { vec![command, model] }
}

pub(crate) fn limit(command: &str) {
    let folder = Folder::new(&format!("options-limit-{command}"));
    let (digits, out) = (testdata("digits/digits.onnx"), folder.path("e"));
    let line = line(command, &digits, &out);
    assert_eq!(report(&line)["exit_code"], 0);
    for limit in ["nodes=3", "initializers=2", "tensor-bytes=64"] {
        assert_eq!(failure(&[&line[..], &["--limit", limit]].concat()), (7, "E0103".into()), "{limit}");
    }
    assert_eq!(failure(&[&line[..], &["--limit", "nodez=3"]].concat()), (2, "E0902".into()));
}

#[cfg(unix)]
pub(crate) fn links(command: &str) {
    let folder = Folder::new(&format!("options-links-{command}"));
    let weights = folder.write("elsewhere/w.bin", [1.0f32, 2.0].map(f32::to_le_bytes).concat());
    let model = folder.write("m/model.onnx", model::binary("Add", Some("w.bin")));
    std::os::unix::fs::symlink(weights, folder.path("m/w.bin")).unwrap();
    let out = folder.path("e");
    let line = line(command, &model, &out);
    assert_eq!(failure(&line), (3, "E0113".into()));
    assert_eq!(report(&[&line[..], &["--allow-external-links"]].concat())["exit_code"], 0);
}

pub(crate) fn opt(_: &str) {
    let folder = Folder::new("options-opt");
    // The second node is dead.
    let text = "graph @g (%x: f32[2]) {\n  %0 = neg %x : f32[2]\n  %1 = abs %x : f32[2]\n  return %0\n}\n";
    let file = folder.write("f.agir", text);
    let line = ["opt", &file, "--pass", "canonicalise"];
    let result = ok(&line);
    assert!(result.starts_with("graph @g") && result.lines().count() < text.lines().count(), "{result}");
    let out = folder.path("out.agir");
    assert_eq!(ok(&[&line[..], &["-o", &out]].concat()), "");
    assert_eq!(std::fs::read_to_string(out).unwrap(), result);
    assert_eq!(failure(&["opt", &file, "--rule", "none"]), (4, "E0302".into()));
    let mut long = "graph @g (%x: f32[2]) {\n  %0 = abs %x\n".to_owned();
    (1..17_000).for_each(|i| long += &format!("  %{i} = abs %{}\n", i - 1));
    let long = folder.write("long.agir", long + "  return %16999\n}\n");
    assert_eq!(failure(&["opt", &long, "--rule", "neg-neg"]), (4, "E0303".into()));
    let twice = "graph @g (%x: f32[2]) {\n  %0 = neg %x\n  %1 = neg %0\n  return %1\n}\n";
    let twice = folder.write("twice.agir", twice);
    assert!(ok(&["opt", &twice, "--rule", "neg-neg"]).contains("return %x"));
    assert!(ok(&["opt", &twice, "--rule", "mul-one"]).contains("return %1"));
}
