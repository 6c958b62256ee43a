//! Runs the built program in a folder of its own, with the digits network and small official cases at hand.
#![allow(dead_code, reason = "each test binary uses a part")]

#[path = "../folder/mod.rs"]
mod folder;

pub(crate) use folder::Folder;
use serde_json::Value;
use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A file under testdata/.
pub(crate) fn testdata(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name);
    assert!(path.exists(), "{}", path.display());
    path.to_str().unwrap().to_string()
}

/// The model of an official case.
pub(crate) fn case(name: &str) -> String {
    testdata(&format!("conformance/core/node/{name}/model.onnx"))
}

thread_local! {
    /// The command lines of this thread, for the test that every option is used by its check.
    static LINES: RefCell<Vec<Vec<String>>> = const { RefCell::new(Vec::new()) };
}

/// The command lines since the last call.
pub(crate) fn take_lines() -> Vec<Vec<String>> {
    LINES.take()
}

/// The program with these arguments and an environment that changes nothing.
pub(crate) fn command(args: &[&str]) -> Command {
    LINES.with_borrow_mut(|lines| lines.push(args.iter().map(|arg| (*arg).to_string()).collect()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoglm"));
    command.args(args).env_remove("NO_COLOR").env_remove("AUTOGLM_ISA").stdin(Stdio::null());
    command
}

pub(crate) fn autoglm(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// stdout of a command that must succeed.
pub(crate) fn ok(args: &[&str]) -> String {
    let output = autoglm(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// The report of a command, whatever its status, which must agree with the exit status.
pub(crate) fn report(args: &[&str]) -> Value {
    let output = autoglm(&[args, &["--json"]].concat());
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    assert_eq!(report["exit_code"].as_i64(), output.status.code().map(i64::from), "{args:?}");
    report
}

/// Exit status and code of a command that must fail.
pub(crate) fn failure(args: &[&str]) -> (i64, String) {
    let report = report(args);
    let code = report["diagnostics"][0]["code"].as_str().unwrap_or_default().to_string();
    (report["exit_code"].as_i64().unwrap(), code)
}
