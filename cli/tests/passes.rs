//! Passes from the command line: `opt`, `--emit` and `--dump-phases` of the real program.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn autoglm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_autoglm")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn digits() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/digits/digits.onnx").display().to_string()
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("autoglm-passes-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The passes of a compile, in order.
const PHASES: [&str; 6] = ["import", "canonicalise", "optimise", "layout", "sink", "clean-up"];

#[test]
fn every_phase_is_dumped_printed_and_measured() {
    let folder = scratch("dump");
    let (engine, dumps) = (folder.join("e.bin"), folder.join("ir"));
    let dumps_arg = dumps.display().to_string();
    let output = autoglm(&[
        "compile",
        &digits(),
        "-o",
        &engine.display().to_string(),
        "--dump-phases",
        &dumps_arg,
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let phases = report["phases"].as_array().unwrap();
    let mut before = 0;
    for (i, name) in PHASES.iter().enumerate() {
        let text = std::fs::read_to_string(dumps.join(format!("{i:02}-{name}.agir"))).unwrap();
        let printed = autoglm(&["compile", &digits(), "--emit", &format!("ir={name}")]);
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), text, "{name}");
        assert_eq!(phases[i]["name"], *name);
        assert!(phases[i]["ms"].as_f64().unwrap() >= 0.0);
        // The peak so far never falls.
        let peak = |i: usize| phases[i].get("rss_peak_kb").map(|kb| kb.as_u64().unwrap());
        assert_eq!(peak(i).is_some(), cfg!(target_os = "linux"), "{name}");
        assert!(i == 0 || peak(i) >= peak(i - 1), "{name}");
        let nodes = &phases[i]["nodes"];
        assert_eq!(nodes["before"], before, "{name}: {nodes}");
        before = nodes["after"].as_u64().unwrap();
    }
    let unknown = autoglm(&["compile", &digits(), "--emit", "ir=layuot"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn opt_runs_passes_in_the_order_given() {
    let folder = scratch("opt");
    let file = folder.join("g.agir");
    let name = file.display().to_string();
    let graph = "graph @g (%x: f32[1,2,4,4]) {\n  %0 = max_pool %x {kernel=[2,2], strides=[2,2], \
                 dilations=[1,1], pads=[0,0,0,0]}\n  %1 = cast %0 {to=f32}\n  return %1 as \"y\"\n}\n";
    std::fs::write(&file, graph).unwrap();
    let opt = |args: &[&str]| {
        let output = autoglm(&[&["opt", &name], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let canonical = opt(&["--pass", "canonicalise"]);
    assert!(!canonical.contains("cast") && !canonical.contains("nhwc"), "{canonical}");
    let both = opt(&["--pass", "canonicalise", "--pass", "layout"]);
    assert!(both.contains("nhwc"), "{both}");
    let unknown = autoglm(&["opt", &name, "--pass", "layuot"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("layout"));
    // The file's own mistakes are not those of a pass.
    std::fs::write(&file, "graph @g (%x: f32[2]) {\n  %0 = expand %x {shape=[K,2]}\n  return %0\n}\n")
        .unwrap();
    let invalid = autoglm(&["opt", &name, "--pass", "canonicalise"]);
    assert_eq!(invalid.status.code(), Some(3), "{}", String::from_utf8_lossy(&invalid.stderr));
    std::fs::remove_dir_all(folder).unwrap();
}
