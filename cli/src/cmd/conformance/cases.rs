//! Finding and running ONNX test cases: folders with `model.onnx` and `test_data_set_N/{input,output}_M.pb`.

use crate::args::Isa;
use crate::backend::{Backend, OpenOptions};
use crate::compare::{Tolerance, compare};
use crate::error::{CliError, Exit};
use crate::feed::load_folder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The tolerance of the ONNX project's own runner.
const TOLERANCE: Tolerance = Tolerance { atol: 1e-7, rtol: 1e-3, min_cosine: -1.0 };

/// A folder with a model.
pub(super) struct Case {
    pub(super) name: String,
    dir: PathBuf,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every output of every data set is right.
    Pass,
    /// An output is wrong.
    Fail,
    /// Refused as not supported.
    Unsupported,
    /// Anything else went wrong, panics included.
    Error,
}

impl Verdict {
    pub(super) const ALL: [Verdict; 4] = [Verdict::Pass, Verdict::Fail, Verdict::Unsupported, Verdict::Error];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Unsupported => "unsupported",
            Verdict::Error => "error",
        }
    }
}

/// The result of one case.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) why: String,
}

/// The folders of `dir` that hold a model, by name; `dir` itself if it is a case.
pub(super) fn find(dir: &Path, filter: Option<&str>) -> Result<Vec<Case>, CliError> {
    let mut cases = Vec::new();
    let mut add = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.join("model.onnx").is_file() && filter.is_none_or(|sub| name.contains(sub)) {
            cases.push(Case { name, dir: path });
        }
    };
    add(dir.to_path_buf());
    for entry in std::fs::read_dir(dir).map_err(|e| CliError::io(dir, "read", &e))? {
        add(entry.map_err(|e| CliError::io(dir, "read", &e))?.path());
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    if cases.is_empty() {
        let message = format!("no case found in {}", dir.display());
        return Err(CliError::new("E0944", Exit::Invalid, message).help("a case is a folder with model.onnx"));
    }
    Ok(cases)
}

/// Runs the cases on `jobs` threads; the outcomes are in the order of the cases.
pub(super) fn run_all(backend: &dyn Backend, cases: &[Case], interp: bool, jobs: usize) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            scope.spawn(|| {
                while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < cases.len()) {
                    let outcome = run_one(backend, &cases[i], interp);
                    // A panic while the list is locked would need a failed allocation of the list itself.
                    done.lock().unwrap_or_else(|e| e.into_inner()).push((i, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run_one(backend: &dyn Backend, case: &Case, interp: bool) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| try_one(backend, case, interp)));
    let (verdict, why) = match result {
        Ok(Ok(())) => (Verdict::Pass, String::new()),
        Ok(Err(error)) => {
            let verdict = match error.exit {
                Exit::Accuracy => Verdict::Fail,
                Exit::Unsupported => Verdict::Unsupported,
                _ => Verdict::Error,
            };
            (verdict, format!("{}: {}", error.code, error.message))
        }
        Err(_) => (Verdict::Error, "panicked".to_string()),
    };
    Outcome { name: case.name.clone(), verdict, why }
}

fn try_one(backend: &dyn Backend, case: &Case, interp: bool) -> Result<(), CliError> {
    let isa = Isa::Auto;
    let options = OpenOptions { threads: 1, isa, jit: true, mmap: true, check_weights: false, interp };
    let mut engine = backend.open(&case.dir.join("model.onnx"), &options)?;
    let signature = engine.signature().clone();
    for set in data_sets(&case.dir)? {
        engine.bind(load_folder(&signature.inputs, &set, "input")?)?;
        engine.run()?;
        let expected = load_folder(&signature.outputs, &set, "output")?;
        for ((port, ours), reference) in signature.outputs.iter().zip(engine.outputs()?).zip(expected) {
            let result = compare(&ours, &reference, &TOLERANCE);
            if !result.pass {
                let message = format!("output \"{}\": {}", port.name, result.summary());
                return Err(CliError::new("E0940", Exit::Accuracy, message));
            }
        }
    }
    Ok(())
}

fn data_sets(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| CliError::io(dir, "read", &e))? {
        let entry = entry.map_err(|e| CliError::io(dir, "read", &e))?;
        if entry.file_name().to_string_lossy().starts_with("test_data_set_") {
            sets.push(entry.path());
        }
    }
    sets.sort();
    if sets.is_empty() {
        let message = format!("{} has no test_data_set_N", dir.display());
        return Err(CliError::new("E0944", Exit::Invalid, message));
    }
    Ok(sets)
}
