//! Options of `inspect`, `verify` and `conformance`.

use crate::program::{Folder, case, failure, report, testdata};
use autoglm::tensor::{Array, pb};
use autoglm_runtime::elem::ElemType;
use serde_json::{Value, json};

pub(crate) fn inspect(_: &str) {
    let digits = testdata("digits/digits.onnx");
    let shown = |what: &str| report(&["inspect", &digits, "--show", what]);
    for (what, other) in
        [("io", "ops"), ("ops", "memory"), ("memory", "manifest"), ("manifest", "steps"), ("steps", "io")]
    {
        let report = shown(what);
        assert!(report.get(what).is_some() && report.get(other).is_none(), "{what}");
    }
    let arena = |batch: &str| {
        let memory = report(&["inspect", &digits, "-D", batch])["memory"].clone();
        let bytes = |key: &str| memory[key].as_u64().unwrap();
        assert!(bytes("arena_bytes") >= bytes("lower_bound_bytes"));
        assert!(memory["sections"]["weights"].as_u64().unwrap() > 172_000 * 4);
        bytes("lower_bound_bytes")
    };
    // The second convolution needs most: 32 channels in, with or without a border of one, and 64 out, f32 each.
    let (bare, bordered) = (8 * 8 * (32 + 64) * 4, (10 * 10 * 32 + 8 * 8 * 64) * 4);
    assert!((bare..=bordered).contains(&arena("batch=1")), "{}", arena("batch=1"));
    assert_eq!(arena("batch=6"), 6 * arena("batch=1"));
    assert_eq!(shown("memory")["memory"]["assumed"], json!(["batch=1 (assumed)"]));
    let huge = report(&["inspect", &digits, "--show", "memory", "-D", "batch=1099511627776"]);
    let memory = &huge["memory"];
    let reason = memory["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("are not made up, at most 1.00 GiB"), "{memory}");
    assert!(memory["arena_bytes"].is_null(), "{memory}");
}

pub(crate) fn verify_inputs(_: &str) {
    let folder = Folder::new("options-verify");
    let digits = testdata("digits/digits.onnx");
    let base = ["verify", &digits, "--against", &digits];
    let with = |options: &[&str]| report(&[&base[..], options].concat());
    assert_eq!(with(&[])["diagnostics"][0]["code"], "E0924");
    assert_eq!(with(&["-D", "batch=2"])["assumed"].as_array().unwrap().len(), 1);
    let given = with(&["-i", &format!("image=@{}", testdata("digits/images.npy"))]);
    assert_eq!((&given["status"], &given["assumed"]), (&json!("ok"), &json!([])));
    let set = testdata("conformance/core/node/test_relu/test_data_set_0");
    assert_eq!(report(&["verify", &case("test_relu"), "--data", &set])["outputs"][0]["pass"], true);
    let input = std::fs::read(format!("{set}/input_0.pb")).unwrap();
    folder.write("set/input_0.pb", &input);
    folder.write("set/output_0.pb", &input);
    let wrong = ["verify", &case("test_relu"), "--data", &folder.path("set")];
    assert_eq!(failure(&wrong), (5, "E0940".into()));
}

pub(crate) fn verify_seed_and_image(_: &str) {
    let digits = testdata("digits/digits.onnx");
    let with = |options: &[&str]| {
        let report = report(&[&["verify", &digits, "--against", &digits], options].concat());
        assert_eq!(report["status"], "ok");
        report["outputs"].clone()
    };
    let seed = |seed: &str| with(&["-D", "batch=4", "--seed", seed]);
    assert!(seed("1") == seed("1") && seed("1") != seed("2"));
    let picture = format!("image=@{}", testdata("digits/images/digit-3-a.png"));
    assert_ne!(with(&["-i", &picture]), with(&["-i", &picture, "--image", "scale=25"]));
}

pub(crate) fn tolerances(_: &str) {
    let (abs, relu) = (case("test_abs"), case("test_relu"));
    let same = ["verify", &abs, "--against", &abs];
    assert!(report(&same).get("layers").is_none());
    assert!(report(&[&same[..], &["--per-layer"]].concat())["layers"][0]["pass"].as_bool().unwrap());
    let exit = |options: &[&str]| {
        report(&[&["verify", &abs, "--against", &relu], options].concat())["exit_code"].clone()
    };
    // abs and relu of values in -1..1 differ by at most 1, and half of the values are equal: a cosine of about 0.7.
    let negative = ["-i", "x=rand:-1..1"];
    let with = |options: &[&str]| exit(&[&negative[..], options].concat());
    assert_eq!(with(&[]), 5);
    assert_eq!(with(&["--atol", "1.1", "--min-cosine", "0.5"]), 0);
    assert_eq!(with(&["--atol", "1.1", "--min-cosine", "0.9"]), 5);
    let digits = testdata("digits/digits.onnx");
    let close = ["verify", &digits, "--against", &digits, "-D", "batch=4", "--atol", "0"];
    assert_eq!(report(&[&close[..], &["--rtol", "0"]].concat())["exit_code"], 5);
    assert_eq!(report(&[&close[..], &["--rtol", "0.1"]].concat())["exit_code"], 0);
}

fn verdicts(report: &Value) -> Vec<(&str, &str)> {
    let cases = report["cases"].as_array().unwrap().iter();
    cases.map(|c| (c["name"].as_str().unwrap(), c["verdict"].as_str().unwrap())).collect()
}

pub(crate) fn cases(_: &str) {
    let folder = Folder::new("options-cases");
    let core = testdata("conformance/core/node");
    let page = folder.path("page.md");
    let chosen = report(&["conformance", &core, "--filter", "test_relu", "--jobs", "2"]);
    assert!(verdicts(&chosen).contains(&("test_relu", "pass")) && chosen["jobs"] == 2);
    assert!(verdicts(&chosen).iter().all(|(name, _)| name.contains("test_relu")));
    let (one, list) = (testdata("conformance/core/node/test_relu"), folder.path("list"));
    let write = ["conformance", &one, "--ratchet", &list, "--bless", "--docs", &page];
    assert_eq!(report(&write)["exit_code"], 0);
    assert!(std::fs::read_to_string(&page).unwrap().starts_with("# ONNX conformance"));
    // An index out of range: each of the two says it in its own words.
    let set = testdata("conformance/core/node/test_gather_0/test_data_set_0");
    for file in ["input_0.pb", "output_0.pb"] {
        let bytes = std::fs::read(format!("{set}/{file}")).unwrap();
        folder.write(&format!("c/far/test_data_set_0/{file}"), bytes);
    }
    let far = Array::new(ElemType::I64, vec![3], [99i64; 3].map(i64::to_le_bytes).concat()).unwrap();
    folder.write("c/far/test_data_set_0/input_1.pb", pb::write("indices", &far));
    folder.write("c/far/model.onnx", std::fs::read(case("test_gather_0")).unwrap());
    let cases = folder.path("c");
    let why = |options: &[&str]| {
        report(&[&["conformance", &cases], options].concat())["cases"][0]["why"].as_str().unwrap().to_string()
    };
    assert!(why(&[]).starts_with("E0603") && why(&["--interp"]).starts_with("E0701"));
}

pub(crate) fn conformance_isa(_: &str) {
    let core = testdata("conformance/core/node/test_relu");
    let scalar = report(&["conformance", &core, "--isa", "scalar"]);
    assert_eq!((&scalar["counts"]["pass"], &scalar["isa"]), (&json!(1), &json!("scalar")));
}

pub(crate) fn ratchet(_: &str) {
    let folder = Folder::new("options-ratchet");
    let core = testdata("conformance/core/node/test_relu");
    let list = folder.path("list");
    let line = ["conformance", &core, "--ratchet", &list];
    assert_eq!(failure(&line), (3, "E0903".into()));
    assert_eq!(report(&[&line[..], &["--bless"]].concat())["exit_code"], 0);
    let blessed = std::fs::read_to_string(&list).unwrap();
    assert!(blessed.contains("\ntest_relu\tRelu\tpass\t-\n"), "{blessed}");
    assert_eq!(report(&line)["exit_code"], 0);
    folder.write("list", format!("{blessed}test_void\tVoid\tpass\t-\n"));
    assert_eq!(failure(&line), (5, "E0942".into()));
    assert_eq!(report(&[&line[..], &["--subset"]].concat())["exit_code"], 0);
}
