//! Options of `run`, `bench` and `verify` that say how to run and what to show.

use crate::model;
use crate::program::{Folder, command, failure, ok, report, stdout, testdata};
use autoglm_runtime::cpu::Isa;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Stdio;

/// An engine of the digits network and a line that runs it quickly.
fn engine(folder: &Folder) -> String {
    let path = folder.path("e.bin");
    ok(&["compile", &testdata("digits/digits.onnx"), "-o", &path]);
    path
}

fn line<'a>(command: &'a str, engine: &'a str, against: &'a str) -> Vec<&'a str> {
    let mut line = vec![command, engine, "-i", "image=rand", "-D", "batch=2"];
    match command {
        "bench" => line.extend(["-n", "2", "--warmup", "0"]),
        "verify" => line.extend(["--against", against]),
        _ => {}
    }
    line
}

pub(crate) fn execution(command_name: &str) {
    let folder = Folder::new(&format!("options-exec-{command_name}"));
    let (engine, digits) = (engine(&folder), testdata("digits/digits.onnx"));
    let line = line(command_name, &engine, &digits);
    let with = |options: &[&str]| report(&[&line[..], options].concat())["execution"].clone();
    let cores = std::thread::available_parallelism().unwrap().get();
    let plain = json!({ "threads": cores, "isa": Isa::detect().name(), "mapped": true });
    assert_eq!(with(&[]), plain);
    assert_eq!(with(&["--threads", "3"])["threads"], 3);
    assert_eq!(with(&["--no-mmap"])["mapped"], false);
    for (option, isa) in [("scalar", Isa::Scalar), ("avx2", Isa::Avx2), ("avx512", Isa::Avx512)] {
        if isa.is_available() {
            assert_eq!(with(&["--isa", option])["isa"], isa.name());
        } else {
            assert_eq!(failure(&[&line[..], &["--isa", option]].concat()), (8, "E0801".into()));
        }
    }
    let by_variable =
        command(&[&line[..], &["--json"]].concat()).env("AUTOGLM_ISA", "scalar").output().unwrap();
    let by_variable: Value = serde_json::from_str(&stdout(&by_variable)).unwrap();
    assert_eq!(by_variable["execution"]["isa"], "scalar");
}

/// A loop over many elements is compiled, unless told otherwise or without instructions to compile it to.
pub(crate) fn compiled_loops(command_name: &str) {
    let folder = Folder::new(&format!("options-jit-{command_name}"));
    let (onnx, engine) = (folder.write("chain.onnx", model::chain()), folder.path("e.bin"));
    ok(&["compile", &onnx, "-o", &engine]);
    let mut line = line(command_name, &engine, &onnx);
    line[3..=5].copy_from_slice(&["x=rand", "-D", "n=400000"]);
    let loops = |options: &[&str]| {
        let loops = report(&[&line[..], options].concat())["loops"].clone();
        ["compiled", "interpreted", "functions"].map(|key| loops[key].as_u64().unwrap())
    };
    let has_vectors = Isa::Avx2.is_available();
    assert_eq!(loops(&[]), if has_vectors { [1, 0, 1] } else { [0, 1, 0] });
    assert_eq!(loops(&["--no-jit"]), [0, 1, 0]);
    assert_eq!(loops(&["--isa", "scalar"]), [0, 1, 0]);
}

pub(crate) fn check_weights(command: &str) {
    let folder = Folder::new(&format!("options-weights-{command}"));
    let mut bytes = std::fs::read(engine(&folder)).unwrap();
    // The weights begin at the second page.
    bytes[4096 + 2000] ^= 1;
    let damaged = folder.write("damaged.bin", bytes);
    let line = line(command, &damaged, "");
    assert_eq!(report(&line)["exit_code"], 0, "weights are not hashed unless asked for");
    assert_eq!(failure(&[&line[..], &["--check-weights"]].concat()), (9, "E0506".into()));
}

pub(crate) fn results(_: &str) {
    let folder = Folder::new("options-results");
    let engine = engine(&folder);
    let picture = format!("image=@{}", testdata("digits/images/digit-7-a.png"));
    let run = ["run", &engine, "-i", &picture];
    let plain = report(&run);
    assert!(plain.get("top").is_none() && plain.get("timing").is_none());
    assert_eq!(plain["outputs"][0]["path"], Value::Null);
    let (out, archive) = (folder.path("out"), folder.path("o.npz"));
    let labels = folder.write("labels", "a\nb\nc\nd\ne\nf\ng\nseven\ni\nj\n");
    let shown =
        report(&[&run[..], &["--top", "2", "--labels", &labels, "--timing", "--output", &out]].concat());
    assert_eq!(shown["top"].as_array().unwrap().len(), 2);
    assert_eq!((&shown["top"][0]["index"], &shown["top"][0]["label"]), (&json!(7), &json!("seven")));
    assert!(shown["timing"]["run_ms"].as_f64().unwrap() > 0.0);
    for name in ["logits", "probabilities"] {
        assert!(std::fs::metadata(folder.path(&format!("out/{name}.npy"))).unwrap().len() > 40);
    }
    ok(&[&run[..], &["-o", &archive]].concat());
    let file = std::fs::File::open(&archive).unwrap();
    assert_eq!(autoglm::tensor::npz::Npz::open(file).unwrap().names(), ["logits", "probabilities"]);
}

pub(crate) fn measurement(_: &str) {
    let folder = Folder::new("options-bench");
    let engine = engine(&folder);
    let bench = ["bench", &engine, "-i", "image=zeros", "-D", "batch=1", "--threads", "1"];
    let counted =
        report(&[&bench[..], &["--iterations", "7", "--warmup", "0", "--percentile", "25,75"]].concat());
    let perf = &counted["perf"];
    assert_eq!((&perf["n"], &perf["config"]["warmup_ms"]), (&json!(7), &json!(0.0)));
    assert!(perf["latency_ms"]["p25"].as_f64() <= perf["latency_ms"]["p75"].as_f64());
    assert!(perf["latency_ms"].get("p50").is_none());
    let timed = |duration: &str| {
        let line = [&bench[..], &["--duration", duration, "--warmup", "1ms"]].concat();
        let perf = report(&line)["perf"].clone();
        perf["n"].as_f64().unwrap() * perf["latency_ms"]["mean"].as_f64().unwrap()
    };
    // Time in runs, in milliseconds.
    assert!(timed("40ms") > timed("1ms"));
}

pub(crate) fn worker(_: &str) {
    let folder = Folder::new("options-worker");
    let engine = engine(&folder);
    let line = ["bench", &engine, "--worker", "-i", "image=zeros", "-D", "batch=1"];
    let mut child = command(&line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"3\nq\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> = stdout(&output).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), lines[1].as_array().unwrap().len()), (2, 3));
}
