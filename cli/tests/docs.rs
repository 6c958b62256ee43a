//! Runs the commands that the README and docs/ show, in a folder with the digits network.
//!
//! Commands stand in blocks fenced as `sh`, one a line; ` #` starts a comment. Each is run, or listed in [`NOT_RUN`].
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod program;
mod repo;

use program::{Folder, testdata};
use std::path::Path;
use std::process::{Command, Stdio};

/// How a command that is not run begins, and why it is not.
const NOT_RUN: [(&str, &str); 12] = [
    ("sh testdata/digits/demo.sh", "builds with cargo; .ci/run runs it"),
    ("cargo test --workspace", "is what runs this test"),
    ("cargo test -p ", "is part of the former"),
    (".ci/run", "builds and tests everything"),
    ("cargo run --release -p autoglm-runtime --example ", "a release build and minutes of measurement"),
    ("cargo run --release -p autoglm-compiler --example ", "a release build and minutes of measurement"),
    (
        "cargo run --release -- conformance target/",
        "needs the official cases, which are generated with Python",
    ),
    ("python3 testdata/conformance/generate.py ", "needs the onnx package"),
    (
        "target/release/autoglm conformance target/",
        "needs the official cases, which are generated with Python",
    ),
    ("python3 testdata/zoo/", "needs onnxruntime and minutes"),
    ("sh testdata/real/build.sh ", "downloads 90 MB; .ci/run runs it"),
    ("target/real/venv/bin/python testdata/real/", "needs what build.sh makes; .ci/run runs it"),
];

/// README.md and the pages of docs/.
fn pages() -> Vec<(String, String)> {
    let page = |name: &str| name == "README.md" || (name.starts_with("docs/") && name.ends_with(".md"));
    repo::tracked().into_iter().filter(|(name, _)| page(name)).collect()
}

/// The commands of a page with their lines, and lines that look like commands outside of a block.
fn commands(page: &str) -> (Vec<(usize, String)>, Vec<usize>) {
    let (mut found, mut loose) = (Vec::new(), Vec::new());
    let mut fence: Option<&str> = None;
    for (i, line) in page.lines().enumerate() {
        let text = line.trim_start();
        if let Some(language) = text.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language) };
        } else if fence == Some("sh") {
            let command = text.split(" #").next().unwrap().trim();
            if !command.is_empty() && !command.starts_with('#') {
                found.push((i + 1, command.to_string()));
            }
        } else if fence.is_none() && line.starts_with("    ") {
            let tools = ["autoglm ", "cargo ", "sh ", "python", "git "];
            if tools.iter().any(|tool| text.starts_with(tool)) {
                loose.push(i + 1);
            }
        }
    }
    (found, loose)
}

/// What the commands find: the names that the pages use.
fn prepare(folder: &Folder) {
    for (name, from) in [
        ("model.onnx", "digits/digits.onnx"),
        ("image.npy", "digits/images.npy"),
        ("seven.png", "digits/images/digit-7-a.png"),
        ("labels.txt", "digits/labels.txt"),
    ] {
        folder.write(name, std::fs::read(testdata(from)).unwrap());
    }
    for (to, run) in [("calib", "000.npz"), ("calib", "001.npz"), ("held_out", "002.npz")] {
        let bytes = std::fs::read(testdata(&format!("digits/calib/{run}"))).unwrap();
        folder.write(&format!("{to}/{run}"), bytes);
    }
    folder.write("graph.agir", "graph @g (%x: f32[2]) {\n  %0 = neg %x : f32[2]\n  return %0\n}\n");
    for file in ["model.onnx", "test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb"] {
        let bytes = std::fs::read(testdata(&format!("conformance/core/node/test_relu/{file}"))).unwrap();
        folder.write(&format!("cases/test_relu/{file}"), bytes);
    }
}

#[test]
fn commands_are_found_by_their_fences() {
    let page = "a\n```sh\nautoglm x  # why\n# no\n\nls\n```\n    cargo build\n```text\nautoglm y\n```\n";
    assert_eq!(commands(page), (vec![(3, "autoglm x".into()), (6, "ls".into())], vec![8]));
}

#[test]
fn every_command_shown_works() {
    let program = Path::new(env!("CARGO_BIN_EXE_autoglm")).parent().unwrap();
    let path = std::env::join_paths(
        [program.to_path_buf()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let (mut failures, mut run, mut skipped) = (Vec::new(), 0, [0; NOT_RUN.len()]);
    for (name, text) in pages() {
        let folder = Folder::new(&format!("docs-{}", name.replace(['/', '.'], "-")));
        prepare(&folder);
        let (list, loose) = commands(&text);
        failures.extend(loose.iter().map(|line| format!("{name}:{line}: a command outside of a `sh` block")));
        for (line, command) in list {
            if let Some(at) = NOT_RUN.iter().position(|(start, _)| command.starts_with(start)) {
                skipped[at] += 1;
                continue;
            }
            if !command.starts_with("autoglm ") {
                failures.push(format!("{name}:{line}: `{command}` is neither run nor listed in NOT_RUN"));
                continue;
            }
            run += 1;
            let mut shell = Command::new("sh");
            shell.args(["-ec", &command]).current_dir(folder.path("")).env("PATH", &path);
            let output = shell.env_remove("AUTOGLM_ISA").stdin(Stdio::null()).output().unwrap();
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                failures.push(format!("{name}:{line}: `{command}`: {}: {why}", output.status));
            }
        }
    }
    for ((start, _), count) in NOT_RUN.iter().zip(skipped) {
        if count == 0 {
            failures.push(format!("no page shows `{start}`, which NOT_RUN lists"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(run > 15, "{run} commands were found only");
}
