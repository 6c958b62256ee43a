//! The commands over a made-up engine: what they read, write, report and refuse.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod fake;

use autoglm::error::{CliError, Exit};
use autoglm::tensor::{npy, pb, to_f64};
use fake::{Folder, Ran, autoglm, autoglm_with, floats};
use serde_json::{Value, json};

fn json(ran: &Ran, command: &str) -> Value {
    ran.report.as_ref().unwrap().to_json(command)
}

fn text(ran: &Ran) -> &str {
    ran.report.as_ref().unwrap().as_text()
}

fn failure(ran: &Ran) -> &CliError {
    ran.report.as_ref().unwrap().failure().unwrap()
}

fn refused(line: &[&str]) -> CliError {
    match autoglm(line) {
        Err(error) => error,
        Ok(_) => panic!("{line:?} was accepted"),
    }
}

#[test]
fn run_writes_every_output() {
    let folder = Folder::new("run");
    let x = folder.write("x.npy", npy::write(&floats(&[2, 3], [1.0, 2.0, 3.0, -1.0, 9.0, 0.5])));
    let out = folder.path("out");
    let labels = folder.write("labels.txt", "cat\ndog\nbird\n");
    let input = format!("x=@{x}");
    let line =
        ["run", "double", "-i", &input, "-o", &out, "--top", "2", "--labels", &labels, "--timing", "-v"];
    let ran = autoglm(&line).unwrap();
    let file = std::fs::read(folder.path("out/y_0.npy")).unwrap();
    let y = npy::read(&mut file.as_slice(), None, 1000).unwrap();
    assert_eq!(y, floats(&[2, 3], [2.0, 4.0, 6.0, -2.0, 18.0, 1.0]));
    let report = json(&ran, "run");
    let output = &report["outputs"][0];
    assert_eq!(
        (&output["name"], &output["dtype"], &output["shape"]),
        (&json!("y:0"), &json!("f32"), &json!([2, 3]))
    );
    assert_eq!((&output["min"], &output["max"]), (&json!(-2.0), &json!(18.0)));
    let top: Vec<_> =
        report["top"].as_array().unwrap().iter().map(|t| t["label"].as_str().unwrap()).collect();
    assert_eq!(top, ["bird", "dog", "dog", "bird"]);
    assert!(report["timing"]["run_ms"].is_number());
    assert!(text(&ran).contains("f32[2,3]") && ran.stderr.contains("loaded in"));
}

#[test]
fn inputs_are_refused_with_reasons() {
    let folder = Folder::new("refuse");
    let i64s = folder.write("i64.pb", include_bytes!("fixtures/i64_typed.pb"));
    let wide = folder.write("wide.npy", npy::write(&floats(&[1, 4], [0.0; 4])));
    for (inputs, code, exit, part) in [
        (vec![], "E0922", Exit::Usage, "input \"x\" is not given"),
        (vec!["X=zeros"], "E0902", Exit::Usage, "no input is named \"X\""),
        (vec!["x=zeros"], "E0924", Exit::Usage, "\"batch\" is not known"),
        (vec!["x=@none.npy"], "E0903", Exit::Invalid, "none.npy"),
        (vec![&*format!("x=@{i64s}")], "E0920", Exit::Invalid, "it is i64[2], the model wants f32[batch,3]"),
        (
            vec![&*format!("x=@{wide}")],
            "E0921",
            Exit::Invalid,
            "it is f32[1,4], the model wants f32[batch,3]",
        ),
    ] {
        let mut line = vec!["run", "double"];
        inputs.iter().for_each(|input| line.extend(["-i", input]));
        let error = refused(&line);
        assert_eq!((error.code, error.exit), (code, exit), "{error:?}");
        assert!(error.message.contains(part), "{error:?}");
    }
    let twice = refused(&["run", "double", "-D", "batch=1", "-i", "x=zeros", "-i", "x=ones"]);
    assert!(twice.message.contains("given twice"));
    let both = refused(&["run", "double", "-D", "batch=1", "-i", "y=zeros"]);
    assert!(
        both.message.contains("named \"y\"") && both.details[0].contains("\"x\" is not given"),
        "{both:?}"
    );
    let symbol = refused(&["run", "double", "-D", "bach=1", "-i", "x=zeros"]);
    assert_eq!(symbol.help.as_deref(), Some("did you mean \"batch\"?"));
    assert_eq!(refused(&["run", "damaged"]).exit, Exit::Integrity);
}

#[test]
fn generated_inputs() {
    let y = |specs: &[&str]| {
        let folder = Folder::new(&format!("gen{}", specs.join("").len()));
        let out = folder.path("o.npz");
        let mut line = vec!["run", "double", "-D", "batch=2", "-o", &out];
        line.extend(specs);
        autoglm(&line).unwrap();
        let file = std::fs::File::open(&out).unwrap();
        to_f64(&autoglm::tensor::npz::Npz::open(file).unwrap().read("y:0", None).unwrap())
    };
    assert_eq!(y(&["-i", "x=ones"]), [2.0; 6]);
    assert_eq!(y(&["-i", "x=fill:-0.25"]), [-0.5; 6]);
    assert_eq!(y(&["-i", "x=arange"]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    let (a, b, c) =
        (y(&["-i", "x=rand"]), y(&["-i", "x=rand", "--seed=0"]), y(&["-i", "x=rand", "--seed", "1"]));
    assert!(a == b && a != c);
    assert!(a.iter().all(|v| (0.0..2.0).contains(v)));
    assert!(y(&["-i", "x=rand:5..6"]).iter().all(|v| (10.0..12.0).contains(v)));
}

#[test]
fn bundles_raw_files_and_folders() {
    let folder = Folder::new("bundle");
    let x = floats(&[1, 3], [1.0, 2.0, 3.0]);
    let npz = folder.write("f.npz", autoglm::tensor::npz::write(&[("x", &x)]).unwrap());
    let raw = folder.write("x.bin", &x.bytes);
    folder.write("set/input_0.pb", pb::write("x", &x));
    let out = folder.path("o");
    let (bundle, member) = (format!("@{npz}"), format!("x=@{npz}"));
    let (raw, set) = (format!("x=@{raw}"), folder.path("set"));
    for args in
        [vec!["-i", &bundle], vec!["-i", &member], vec!["-D", "batch=1", "-i", &raw], vec!["--data", &set]]
    {
        let mut line = vec!["run", "triple", "-o", &out];
        line.extend(&args);
        autoglm(&line).unwrap_or_else(|e| panic!("{args:?} {e:?}"));
        let file = std::fs::read(folder.path("o/y_0.npy")).unwrap();
        assert_eq!(to_f64(&npy::read(&mut file.as_slice(), None, 1000).unwrap()), [3.0, 6.0, 9.0]);
    }
    assert_eq!(refused(&["run", "triple", "-D", "batch=2", "-i", &raw]).code, "E0914");
    folder.write("set/input_1.pb", pb::write("z", &x));
    assert_eq!(refused(&["run", "triple", "--data", &set]).code, "E0923");
}

#[test]
fn loops_are_compiled_unless_told_otherwise() {
    for command in [&["run"][..], &["bench", "-n", "1", "--warmup", "0"]] {
        let line = [command, &["double", "-D", "batch=1", "-i", "x=ones"]].concat();
        let loops = |line: &[&str]| json(&autoglm(line).unwrap(), "")["loops"].clone();
        let interpreted = loops(&[&line[..], &["--no-jit"]].concat());
        assert_eq!(
            loops(&line),
            json!({ "compiled": 1, "interpreted": 0, "functions": 1, "code_bytes": 64 })
        );
        assert_eq!((&interpreted["compiled"], &interpreted["interpreted"]), (&json!(0), &json!(1)));
    }
}

#[test]
fn bench_measures() {
    let ran = autoglm(&[
        "bench",
        "double",
        "-D",
        "batch=1",
        "-n",
        "20",
        "--warmup",
        "1ms",
        "--percentile",
        "50,99.9",
    ]);
    let ran = ran.unwrap();
    let report = json(&ran, "bench");
    assert_eq!(report["perf"]["n"], 20);
    let latency = &report["perf"]["latency_ms"];
    for key in ["min", "mean", "median", "p50", "p99.9", "max", "std"] {
        assert!(latency[key].as_f64().is_some_and(|x| x >= 0.0), "{key}");
    }
    assert!(latency.get("p90").is_none());
    let rate = |key: &str| report["rate"][key].as_f64().unwrap();
    assert!((rate("achieved_gflops") / rate("peak_gflops") - rate("fraction")).abs() < 1e-9);
    assert!(text(&ran).contains(report["rate"]["isa"].as_str().unwrap()));
    assert_eq!(report["assumed"], json!(["input \"x\" is not given: random (assumed)"]));
    assert!(ran.stderr.contains("(assumed)") && text(&ran).contains("20 runs"));
    let timed = autoglm(&["bench", "double", "-D", "batch=1", "-t", "5ms", "--warmup", "0"]).unwrap();
    assert!(json(&timed, "bench")["perf"]["n"].as_u64().unwrap() > 1);
}

#[test]
fn bench_serves_a_driver() {
    let folder = Folder::new("worker");
    let out = folder.path("w");
    let line = ["bench", "double", "--worker", "--threads", "1", "-D", "batch=1", "-i", "x=ones"];
    let ran = autoglm_with(&line, &format!("3\nw {out}\nq\n9\n"), None).unwrap();
    assert!(ran.report.is_none());
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "nothing is answered after q");
    assert!(lines[0]["first_s"].is_number() && lines[0]["load_s"].is_number());
    assert_eq!((lines[1].as_array().unwrap().len(), &lines[2]), (3, &json!({})));
    let file = std::fs::read(folder.path("w/y_0.npy")).unwrap();
    assert_eq!(to_f64(&npy::read(&mut file.as_slice(), None, 1000).unwrap()), [2.0; 3]);
    assert_eq!(autoglm_with(&line, "x\n", None).err().map(|e| e.exit), Some(Exit::Usage));
    assert_eq!(refused(&["bench", "double", "--worker"]).code, "E0922", "a worker makes nothing up");
}

#[test]
fn inspect_shows_what_is_asked_for() {
    let ran = autoglm(&["inspect", "double", "--show", "io,manifest,steps,io"]).unwrap();
    let report = json(&ran, "inspect");
    assert_eq!(report["io"]["inputs"][0]["type"], "f32[batch,3]");
    assert_eq!(report["steps"][0]["name"], "/mul");
    assert!(report.get("ops").is_none());
    assert!(text(&ran).contains("a\\u{1b}[31m") && !text(&ran).contains('\x1b'));
    let all = autoglm(&["inspect", "double"]).unwrap();
    let report = json(&all, "");
    let memory = &report["memory"];
    assert_eq!((&report["ops"]["Mul"], &memory["sections"]["weights"]), (&json!(1), &json!(2048)));
    assert_eq!(
        (&memory["arena_bytes"], &memory["assumed"]),
        (&json!(24), &json!(["batch=2 (assumed)"])),
        "the smallest extent allowed"
    );
    assert_eq!(report["io"]["symbols"], json!([{ "name": "batch", "min": 2, "max": 8 }]));
    assert!(text(&all).contains("2.00 KiB") && text(&all).contains("symbol  batch  2..8"), "{}", text(&all));
    let given = autoglm(&["inspect", "double", "--show", "memory", "-D", "batch=4"]).unwrap();
    let memory = &json(&given, "")["memory"];
    assert_eq!((&memory["arena_bytes"], &memory["assumed"]), (&json!(48), &json!([])));
    assert!(text(&given).contains("a run with batch=4\n"));
    assert_eq!(refused(&["inspect", "double", "-D", "bach=4"]).code, "E0902");
}

#[test]
fn verify_judges_outputs_and_layers() {
    let same =
        autoglm(&["verify", "double", "--against", "double.onnx", "--per-layer", "-D", "batch=4"]).unwrap();
    assert!(same.report.as_ref().unwrap().failure().is_none());
    assert_eq!(json(&same, "verify")["layers"].as_array().unwrap().len(), 2);
    let other =
        autoglm(&["verify", "double", "--against", "triple.onnx", "--per-layer", "-D", "batch=4"]).unwrap();
    let error = failure(&other);
    assert_eq!((error.code, error.exit), ("E0940", Exit::Accuracy));
    assert!(error.message.starts_with("output \"y:0\": cosine 1.000000"), "{error:?}");
    assert!(error.details[0].contains("the first node that differs is \"/mul\": layer \"y:0\""), "{error:?}");
    let report = json(&other, "verify");
    assert_eq!((&report["status"], &report["layers"][0]["pass"]), (&json!("fail"), &json!(true)));
    let loose = ["verify", "double", "--against", "triple.onnx", "-D", "batch=4", "--atol", "3"];
    assert!(autoglm(&loose).unwrap().report.unwrap().failure().is_none());
    let only_hashes = autoglm(&["verify", "double"]).unwrap();
    assert_eq!(text(&only_hashes), "integrity: ok\n");
    assert_eq!(refused(&["verify", "double", "--per-layer"]).exit, Exit::Usage);
}

#[test]
fn verify_reads_stored_outputs() {
    let folder = Folder::new("stored");
    folder.write("input_0.pb", pb::write("x", &floats(&[1, 3], [1.0, 2.0, 3.0])));
    folder.write("output_0.pb", pb::write("y", &floats(&[1, 3], [2.0, 4.0, 6.0])));
    let data = folder.path("");
    assert!(autoglm(&["verify", "double", "--data", &data]).unwrap().report.unwrap().failure().is_none());
    let wrong = autoglm(&["verify", "triple", "--data", &data]).unwrap();
    assert_eq!(failure(&wrong).exit, Exit::Accuracy);
}

#[test]
fn compile_writes_engine_and_phases() {
    let folder = Folder::new("compile");
    let out = folder.path("e.bin");
    let dump = folder.path("ir");
    let ran =
        autoglm(&["compile", "m.onnx", "-o", &out, "-D", "batch=1..8", "--dump-phases", &dump]).unwrap();
    let engine = std::fs::read_to_string(&out).unwrap();
    assert!(engine.contains("batch") && engine.contains("max: 8"));
    assert_eq!(folder.names(), ["e.bin", "ir"]);
    assert_eq!(std::fs::read_to_string(folder.path("ir/01-lower.agir")).unwrap(), "ir 2\n");
    let report = json(&ran, "compile");
    assert_eq!(report["engine"]["bytes"], engine.len());
    assert_eq!(report["graph"]["ops_after"], json!({ "Mul": 1, "Tile": 1 }));
    assert_eq!((&report["phases"][1]["name"], ran.stderr.as_str()), (&json!("lower"), "warning: a guess\n"));
    let ir = autoglm(&["compile", "m.onnx", "--emit", "ir=import"]).unwrap();
    assert_eq!(text(&ir), "ir 1\n");
    assert_eq!(
        refused(&["compile", "m.onnx", "--emit", "ir=importt"]).help.as_deref(),
        Some("did you mean \"import\"?")
    );
    assert_eq!(refused(&["compile", "m.onnx"]).exit, Exit::Usage);
}

/// The second compilation is another process: a script that writes fixed bytes to the file after `-o`.
#[cfg(unix)]
#[test]
fn compile_checks_reproducibility() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("again");
    let out = folder.path("e.bin");
    for (body, exit) in [
        ("printf 'engine of [] no_opt=true' > \"$4\"; test \"$5\" = --no-opt", None),
        ("printf other > \"$4\"", Some(Exit::Reproducible)),
    ] {
        let script = folder.write("fake.sh", format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let line = ["compile", "m.onnx", "-o", &out, "--check-reproducible", "--no-opt"];
        let ran = autoglm_with(&line, "", Some(script.into())).unwrap();
        let failure = ran.report.as_ref().unwrap().failure();
        assert_eq!(failure.map(|e| e.exit), exit);
        assert!(failure.is_none_or(|e| e.code == "E0941"));
        assert_eq!(json(&ran, "")["reproducible"]["equal"], exit.is_none());
        assert_eq!(folder.names(), ["e.bin", "fake.sh"]);
    }
    let script = folder.write("fake.sh", "#!/bin/sh\necho no reason >&2\nexit 3\n");
    let line = ["compile", "m.onnx", "-o", &out, "--check-reproducible"];
    let error = autoglm_with(&line, "", Some(script.into())).err().unwrap();
    assert!(error.message.ends_with("no reason"), "{error:?}");
}

#[test]
fn check_lists_everything() {
    let ran = autoglm(&["check", "m.onnx"]).unwrap();
    assert_eq!(json(&ran, "check")["problems"].as_array().unwrap().len(), 2);
    assert_eq!(failure(&ran).exit, Exit::Invalid);
    assert_eq!(failure(&ran).message, "cut off (and 1 more)");
    assert!(text(&ran).contains("Strange is not supported"));
    assert_eq!(text(&autoglm(&["check", "double"]).unwrap()), "no problems found\n");
}

#[test]
fn opt_rewrites_text() {
    let folder = Folder::new("opt");
    let file = folder.write("f.agir", "graph\n");
    let ran = autoglm(&["opt", &file, "--pass", "fold", "--pass", "fold"]).unwrap();
    assert_eq!(text(&ran), "graph\n; [\"fold\", \"fold\"] None\n");
    let out = folder.path("o.agir");
    autoglm(&["opt", &file, "--rule", "r", "-o", &out]).unwrap();
    assert_eq!(std::fs::read_to_string(out).unwrap(), "graph\n; [] Some(\"r\")\n");
    assert_eq!(refused(&["opt", &file, "--pass", "fodl"]).help.as_deref(), Some("did you mean \"fold\"?"));
    assert_eq!(refused(&["opt", &file]).exit, Exit::Usage);
}
