//! The harness over made-up cases, and the vendored ONNX cases through the real compiler, runtime and interpreter.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod fake;

use autoglm::error::{CliError, Exit};
use autoglm::tensor::{Array, pb};
use autoglm_runtime::elem::ElemType;
use fake::{Folder, Ran, autoglm, autoglm_linked, floats};
use serde_json::{Value, json};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/conformance");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md");

fn json(ran: &Ran) -> Value {
    ran.report.as_ref().unwrap().to_json("conformance")
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

/// A case whose expected output is `y`.
fn case(folder: &Folder, name: &str, y: &Array) {
    let x = floats(&[1, 3], [1.0, 2.0, 3.0]);
    folder.write(&format!("c/{name}/model.onnx"), "");
    folder.write(&format!("c/{name}/test_data_set_0/input_0.pb"), pb::write("x", &x));
    folder.write(&format!("c/{name}/test_data_set_0/output_0.pb"), pb::write("y", y));
}

fn doubled() -> Array {
    floats(&[1, 3], [2.0, 4.0, 6.0])
}

#[test]
fn cases_are_counted() {
    let folder = Folder::new("count");
    for name in ["test_double", "test_panic", "test_strange", "test_triple", "test_unreadable"] {
        case(&folder, name, &doubled());
    }
    folder.write("c/notes.txt", "");
    let dir = folder.path("c");
    let ran = autoglm(&["conformance", &dir, "--jobs", "2"]).unwrap();
    let report = json(&ran);
    assert_eq!(report["counts"], json!({ "pass": 1, "fail": 1, "unsupported": 1, "error": 2 }));
    let verdicts: Vec<_> =
        report["cases"].as_array().unwrap().iter().map(|c| c["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["pass", "error", "unsupported", "fail", "error"]);
    assert_eq!(report["cases"][0]["operator"], "Mul");
    assert_eq!(failure(&ran).message, "4 of 5 cases do not pass");
    assert_eq!(refused(&["conformance", &dir, "--filter", "zzz"]).code, "E0944");
    assert_eq!(refused(&["conformance", &dir, "--bless"]).exit, Exit::Usage);
}

#[test]
fn wrong_results_cannot_be_recorded() {
    let folder = Folder::new("wrong");
    case(&folder, "test_triple", &doubled());
    let (dir, list) = (folder.path("c"), folder.path("list"));
    let ran = autoglm(&["conformance", &dir, "--ratchet", &list, "--bless"]).unwrap();
    assert_eq!((failure(&ran).code, failure(&ran).message.as_str()), ("E0942", "1 of 1 cases are wrong"));
    assert!(!std::path::Path::new(&list).exists());
}

#[test]
fn the_ratchet_holds_both_ways() {
    let folder = Folder::new("ratchet");
    case(&folder, "node/test_double", &doubled());
    case(&folder, "node/test_strange", &doubled());
    case(&folder, "simple/test_strange", &doubled());
    let (dir, list, page) = (folder.path("c"), folder.path("list"), folder.path("page.md"));
    let line = ["conformance", &*dir, "--ratchet", &*list];
    let with = |more: &[&str]| autoglm(&[&line[..], more].concat()).unwrap();
    let read = || std::fs::read_to_string(&list).unwrap();
    let blessed = "case\toperator\tengine\tinterpreter\n\
                   node/test_double\tMul\tpass\tpass\n\
                   node/test_strange\tMul\tE0201: Strange is not supported\t-\n\
                   simple/test_strange\tMul\tE0201: Strange is not supported\t-\n";
    with(&["--bless"]);
    assert_eq!(read(), blessed.replace("pass\tpass", "pass\t-"));
    with(&["--bless", "--interp"]);
    assert_eq!(read(), blessed.replace("supported\t-", "supported\tE0201: Strange is not supported"));
    assert!(with(&["--docs", &page]).report.unwrap().failure().is_none());
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("| node | 1 of 2 | 1 of 2 |\n| simple | 0 of 1 | 0 of 1 |"), "{page}");
    assert!(page.contains("| Mul | 1 of 2 | - | E0201: Strange is not supported (1) |"), "{page}");
    assert!(page.contains("| simple/test_strange | E0201: Strange is not supported |"), "{page}");

    let differs = |list: &str, more: &[&str]| -> Vec<String> {
        folder.write("list", list);
        with(more).report.unwrap().failure().map(|e| e.details.clone()).unwrap_or_default()
    };
    let newly = blessed.replace("pass\tpass", "E0201: no\tpass");
    assert_eq!(differs(&newly, &[]), ["node/test_double: pass, expected E0201: no"]);
    let lost = blessed.replacen("E0201: Strange is not supported", "pass", 1);
    assert_eq!(differs(&lost, &[]), ["node/test_strange: E0201: Strange is not supported, expected pass"]);
    assert_eq!(differs(&lost, &["--filter", "double"]), [""; 0]);
    let unlisted = blessed.replace("node/test_double\tMul\tpass\tpass\n", "");
    assert_eq!(differs(&unlisted, &[]), ["node/test_double: pass, but it is not in the list"]);
    let gone = format!("{blessed}node/test_gone\tMul\tpass\tpass\n");
    assert_eq!(differs(&gone, &[]), ["node/test_gone: there is no such case"]);
    assert_eq!(differs(&gone, &["--subset"]), [""; 0]);
    folder.write("list", "node/test_double\n");
    assert_eq!(refused(&line).code, "E0944");
}

#[test]
fn tolerances_come_from_the_manifest() {
    let folder = Folder::new("manifest");
    case(&folder, "node/test_double", &floats(&[1, 3], [2.0, 4.0, 6.012]));
    let dir = folder.path("c");
    let run = |manifest: &str| {
        folder.write("c/manifest.tsv", manifest);
        autoglm(&["conformance", &dir])
    };
    let verdict = |manifest: &str| json(&run(manifest).unwrap())["cases"][0]["verdict"].clone();
    assert_eq!(verdict("suite\tcase\trtol\tatol\n"), "fail");
    assert_eq!(verdict("suite\tcase\trtol\tatol\nnode\ttest_double\t0.0021\t1e-7\n"), "pass");
    assert_eq!(verdict("suite\tcase\trtol\tatol\nnode\ttest_double\t0.0019\t1e-7\n"), "fail");
    for bad in ["h\nnode\ttest_double\tx\t0\n", "h\nnode\ttest_double\n", "h\nnode\ttest_gone\t0\t0\n"] {
        assert_eq!(run(bad).map(|_| ()).unwrap_err().code, "E0944", "{bad}");
    }
}

#[test]
fn bf16_may_be_off_by_two_units_in_the_last_place() {
    let bf16 = |bits: u16| Array::new(ElemType::BF16, vec![1, 3], [bits; 3].map(u16::to_le_bytes).concat());
    let verdict = |bits: u16| {
        let folder = Folder::new(&format!("bf16{bits}"));
        case(&folder, "test_bf16", &bf16(bits).unwrap());
        json(&autoglm(&["conformance", &folder.path("c")]).unwrap())["cases"][0]["verdict"].clone()
    };
    // The engine answers 0x4000, which is 2.0; the next numbers are 2 * (1 + n / 128).
    assert_eq!([0x4000, 0x4001, 0x4002, 0x4003].map(verdict), ["pass", "pass", "pass", "fail"]);
}

/// The vendored official cases do what the ratchet says, whatever the instructions.
fn core(more: &[&str]) {
    let (dir, list) = (format!("{DATA}/core"), format!("{DATA}/expected.tsv"));
    let line = ["conformance", &*dir, "--ratchet", &*list, "--subset"];
    let ran = autoglm_linked(&[&line[..], more].concat()).unwrap();
    assert_eq!(ran.report.as_ref().unwrap().failure(), None);
    assert_eq!(json(&ran)["cases"].as_array().unwrap().len(), 301);
}

#[test]
fn core_cases_as_engines() {
    core(&[]);
}

#[test]
fn core_cases_as_engines_without_vector_instructions() {
    core(&["--isa", "scalar"]);
}

#[test]
fn core_cases_in_the_interpreter() {
    core(&["--interp"]);
}

#[test]
fn the_page_is_up_to_date() {
    let folder = Folder::new("page");
    let (dir, list, page) = (format!("{DATA}/core"), format!("{DATA}/expected.tsv"), folder.path("page.md"));
    let line = ["conformance", &dir, "--ratchet", &list, "--subset", "--filter", "test_abs", "--docs", &page];
    autoglm_linked(&line).unwrap();
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(
        written == std::fs::read_to_string(PAGE).unwrap(),
        "write it again with --docs docs/conformance.md"
    );
}
