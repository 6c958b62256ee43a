//! The program itself: exit codes, help texts, streams.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm::error::Exit;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 8] = ["compile", "run", "bench", "inspect", "verify", "check", "opt", "conformance"];

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoglm"));
    command.args(args).env_remove("NO_COLOR").env_remove("AUTOGLM_ISA").stdin(Stdio::null());
    command
}

fn autoglm(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for args in [
        vec![],
        vec!["frobnicate"],
        vec!["compile"],
        vec!["compile", "m.onnx"],
        vec!["compile", "m.onnx", "-o", "e", "-D", "batch=5..1"],
        vec!["compile", "m.onnx", "-o", "e", "--limit", "x"],
        vec!["run", "e", "-i", "x"],
        vec!["run", "e", "-i", "x=zeros", "--data", "d"],
        vec!["run", "e", "--labels", "l"],
        vec!["run", "e", "--isa", "mmx"],
        vec!["bench", "e", "-n", "0"],
        vec!["bench", "e", "-n", "5", "-t", "1s"],
        vec!["bench", "e", "--worker", "-n", "5"],
        vec!["verify", "e", "--min-cosine", "2"],
        vec!["inspect", "e", "--show", "io,colour"],
        vec!["opt", "f"],
        vec!["conformance", "d", "--bless"],
        vec!["--color", "blue", "check", "m"],
    ] {
        let output = autoglm(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let last = stderr(&output).lines().last().unwrap_or_default().to_string();
        assert!(args.is_empty() || last.starts_with("autoglm: E0902: "), "{args:?}: {last}");
    }
    let wrong_isa = command(&["run", "e"]).env("AUTOGLM_ISA", "mmx").output().unwrap();
    assert_eq!(wrong_isa.status.code(), Some(2));
}

#[test]
fn every_help_text_lists_the_exit_codes() {
    let check = |args: &[&str]| {
        let output = autoglm(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let text = stdout(&output);
        assert!(text.contains("Exit codes:"), "{args:?}");
        for exit in Exit::ALL {
            let line = format!("{:>3}  {}", exit.code(), exit.meaning());
            assert!(text.contains(&line), "{args:?}: {line}");
        }
    };
    check(&["--help"]);
    for name in COMMANDS {
        check(&[name, "--help"]);
        check(&[name, "-h"]);
    }
}

#[test]
fn the_reason_is_the_last_line_and_json_is_on_stdout() {
    let output = autoglm(&["opt", "no-such-file.agir", "--pass", "fold", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let last = stderr(&output).lines().last().unwrap().to_string();
    assert!(last.contains("E0903") && last.contains("no-such-file.agir"), "{last}");
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["schema"], &report["exit_code"]), (&"autoglm.report/1".into(), &3.into()));
    assert_eq!((&report["command"], &report["diagnostics"][0]["code"]), (&"opt".into(), &"E0903".into()));
    let usage = autoglm(&["run", "--json"]);
    assert_eq!(usage.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_str(&stdout(&usage)).unwrap();
    assert_eq!((&report["status"], &report["exit_code"]), (&"error".into(), &2.into()));
}

#[test]
fn colours_only_when_wanted() {
    let coloured = |args: &[&str], no_color: &str| {
        let output = command(args).env("NO_COLOR", no_color).output().unwrap();
        stderr(&output).contains('\x1b')
    };
    let base = ["opt", "none", "--pass", "p"];
    assert!(!coloured(&base, ""), "a pipe is no terminal");
    assert!(coloured(&[&base[..], &["--color", "always"]].concat(), "1"));
    assert!(!coloured(&[&base[..], &["--color", "never"]].concat(), ""));
    assert!(coloured(&["--color=always", "frobnicate"], ""));
    assert!(!coloured(&["frobnicate"], ""));
}

/// A reader that goes away is no error.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_quiet() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&["--help"]).stdout(writer.try_clone().unwrap()).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let json = command(&["opt", "none", "--pass", "p", "--json"]).stdout(writer).output().unwrap();
    assert!(!stderr(&json).contains("panicked"), "{}", stderr(&json));
}

#[test]
fn version() {
    let output = autoglm(&["--version"]);
    assert_eq!(stdout(&output), format!("autoglm {}\n", env!("CARGO_PKG_VERSION")));
}
