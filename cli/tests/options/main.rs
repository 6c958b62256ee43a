//! Every option of every command changes something, over the real compiler and runtime.
//!
//! [`CHECKS`] has a row for each check. A test compares its options with those that the command line has, and each
//! check must give the option to the program.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod build;
mod compression;
mod feeds;
mod model;
#[path = "../program/mod.rs"]
mod program;
mod quality;
mod runs;

use autoglm::args::Cli;
use clap::CommandFactory;
use program::{Folder, autoglm, failure, ok, report, stderr, stdout, take_lines, testdata};
use std::collections::BTreeSet;

/// Command, its options, and what checks that they do something.
type Check = (&'static str, &'static [&'static str], fn(&str));

const CHECKS: &[Check] = &[
    ("compile", &["output", "dim"], build::output_and_bounds),
    ("compile", &["emit", "dump-phases"], build::phases),
    ("compile", &["check-reproducible"], build::reproducible),
    ("compile", &["no-opt"], build::no_opt),
    ("compile", &["compact"], build::compact),
    ("compile", &["costs"], build::costs),
    ("compile", &["strict", "explain-fusion"], build::optimiser),
    ("compile", &["limit"], build::limit),
    ("compile", &["allow-external-links"], build::links),
    ("compile", &["accuracy"], compression::gates),
    ("compile", &["calib"], compression::calibration),
    ("compile", &["holdout"], compression::held_out),
    ("compile", &["low-rank", "sparsity", "keep"], compression::kinds),
    ("compile", &["objective"], compression::objective),
    ("check", &["limit"], build::limit),
    ("check", &["allow-external-links"], build::links),
    ("opt", &["pass", "rule", "output"], build::opt),
    ("run", &["input", "dim"], feeds::files_and_fills),
    ("run", &["data"], feeds::folder),
    ("run", &["seed"], feeds::seed),
    ("run", &["image"], feeds::image),
    ("bench", &["input", "dim"], feeds::files_and_fills),
    ("bench", &["data"], feeds::folder),
    ("bench", &["seed"], feeds::seed),
    ("bench", &["image"], feeds::image),
    ("run", &["threads", "isa", "no-mmap"], runs::execution),
    ("bench", &["threads", "isa", "no-mmap"], runs::execution),
    ("verify", &["threads", "isa", "no-mmap"], runs::execution),
    ("run", &["no-jit"], runs::compiled_loops),
    ("bench", &["no-jit"], runs::compiled_loops),
    ("verify", &["no-jit"], runs::compiled_loops),
    ("run", &["check-weights"], runs::check_weights),
    ("bench", &["check-weights"], runs::check_weights),
    ("run", &["output", "top", "labels", "timing"], runs::results),
    ("bench", &["iterations", "duration", "warmup", "percentile"], runs::measurement),
    ("bench", &["worker"], runs::worker),
    ("inspect", &["show", "dim"], quality::inspect),
    ("verify", &["input", "dim", "data"], quality::verify_inputs),
    ("verify", &["seed", "image"], quality::verify_seed_and_image),
    ("verify", &["against", "per-layer", "atol", "rtol", "min-cosine"], quality::tolerances),
    ("conformance", &["filter", "jobs", "docs", "interp"], quality::cases),
    ("conformance", &["isa"], quality::conformance_isa),
    ("conformance", &["ratchet", "bless", "subset"], quality::ratchet),
];

/// Options of all commands; [`global`] checks them for each.
const GLOBAL: [&str; 3] = ["color", "verbose", "json"];

/// The forms of an option: `--dim`, `-D`.
fn forms(command: &str, option: &str) -> Vec<String> {
    let cli = Cli::command();
    let command = cli.find_subcommand(command).unwrap();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(option)).unwrap();
    [format!("--{option}")].into_iter().chain(arg.get_short().map(|c| format!("-{c}"))).collect()
}

#[test]
fn every_option_has_a_check() {
    let cli = Cli::command();
    let (mut missing, mut checked) = (Vec::new(), BTreeSet::new());
    CHECKS.iter().for_each(|(command, options, _)| {
        options.iter().for_each(|option| assert!(checked.insert((*command, *option)), "{command} {option}"));
    });
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_global_set()) {
            let long = arg.get_long().expect("every option has a long form");
            if long != "help" && !checked.remove(&(command.get_name(), long)) {
                missing.push(format!("{} --{long}", command.get_name()));
            }
        }
    }
    assert!(missing.is_empty(), "no check in CHECKS:\n  {}", missing.join("\n  "));
    assert!(checked.is_empty(), "there are no such options: {checked:?}");
    let global: Vec<&str> = cli.get_arguments().filter_map(|arg| arg.get_long()).collect();
    assert_eq!(
        global.into_iter().filter(|long| !["help", "version"].contains(long)).collect::<Vec<_>>(),
        GLOBAL
    );
}

#[test]
fn every_option_changes_something() {
    for (command, options, check) in CHECKS {
        take_lines();
        check(command);
        let lines = take_lines();
        for option in *options {
            let forms = forms(command, option);
            let given = |arg: &String| {
                forms
                    .iter()
                    .any(|form| arg == form || arg.strip_prefix(form).is_some_and(|r| r.starts_with('=')))
            };
            let used = lines.iter().any(|line| line[0] == *command && line.iter().any(given));
            assert!(used, "the check of {command} --{option} does not use it");
        }
    }
}

/// One failing line for each command, as colours are for errors.
#[test]
fn global_options_hold_for_every_command() {
    let folder = Folder::new("options-global");
    let (none, out) = (folder.path("none"), folder.path("out"));
    for line in [
        &["compile", &none, "-o", &out][..],
        &["run", &none],
        &["bench", &none],
        &["inspect", &none],
        &["verify", &none],
        &["check", &none],
        &["opt", &none, "--pass", "fold"],
        &["conformance", &none],
    ] {
        let plain = autoglm(line);
        assert_eq!((plain.status.code(), stdout(&plain).as_str()), (Some(3), ""), "{line:?}");
        assert!(!stderr(&plain).contains('\x1b'));
        assert!(stderr(&autoglm(&[line, &["--color", "always"]].concat())).contains('\x1b'));
        assert!(report(line)["command"] == line[0]);
    }
}

#[test]
fn verbose_says_more_on_stderr() {
    let folder = Folder::new("options-verbose");
    let (digits, out) = (testdata("digits/digits.onnx"), folder.path("e.bin"));
    let quiet = autoglm(&["compile", &digits, "-o", &out]);
    assert_eq!(stderr(&quiet), "", "no progress where stderr is no terminal");
    assert!(stderr(&autoglm(&["compile", &digits, "-o", &out, "-v"])).contains("import"));
    let run = ["run", &out, "-i", "image=zeros", "-D", "batch=1"];
    assert_eq!(stderr(&autoglm(&run)), "");
    assert!(stderr(&autoglm(&[&run[..], &["--verbose"]].concat())).contains("loaded in"));
}

#[test]
fn failures_have_the_exit_status_of_their_kind() {
    let folder = Folder::new("options-exit");
    let (digits, engine) = (testdata("digits/digits.onnx"), folder.path("e.bin"));
    assert_eq!(failure(&["check", &folder.write("m.onnx", "no model")]).0, 3);
    let odd = folder.write("odd.onnx", model::binary("Frobnicate", None));
    assert_eq!(failure(&["check", &odd]), (4, "E0130".into()));
    assert_eq!(failure(&["check", &digits, "--limit", "nodes=1"]), (7, "E0103".into()));
    ok(&["compile", &digits, "-o", &engine]);
    let mut bytes = std::fs::read(&engine).unwrap();
    let sound = bytes.clone();
    bytes[8] = 99;
    // A newer version may hash otherwise.
    bytes[32..64].fill(7);
    let newer = folder.write("newer.bin", &bytes);
    assert_eq!(failure(&["run", &newer]), (8, "E0503".into()));
    bytes = sound;
    bytes[5000] ^= 1;
    let damaged = folder.write("damaged.bin", &bytes);
    assert_eq!(failure(&["verify", &damaged]), (9, "E0506".into()));
    assert_eq!(failure(&["run", &engine]), (2, "E0922".into()));
    assert_eq!(failure(&["run", &engine, "--threads", "5000", "-i", "image=zeros", "-D", "batch=1"]).0, 7);
}
