//! Running ONNX test cases and judging their outputs as the runner of the ONNX project does.

use super::cases::{Allowed, Case, data_sets};
use crate::args::{ConformanceArgs, Isa};
use crate::backend::{Backend, OpenOptions};
use crate::codes;
use crate::compare::{Tolerance, compare};
use crate::error::{CliError, Exit, escape};
use crate::feed::load_folder;
use autoglm_runtime::elem::ElemType;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the runner of the ONNX project allows at least where the result is bf16: two units in the last place.
const BF16_RTOL: f64 = 1.0 / 64.0;

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
    /// The operator that the case is about; `-` if it is about several.
    pub(super) operator: String,
    pub(super) verdict: Verdict,
    /// Code and message of what stopped it; empty for a pass.
    pub(super) why: String,
}

/// How cases are run.
#[derive(Clone, Copy)]
pub(super) struct How {
    interp: bool,
    isa: Isa,
}

impl How {
    pub(super) fn new(args: &ConformanceArgs) -> How {
        How { interp: args.interp, isa: args.isa }
    }
}

/// Runs the cases on `jobs` threads; the outcomes are in the order of the cases.
pub(super) fn run_all(backend: &dyn Backend, cases: &[Case], how: How, jobs: usize) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            scope.spawn(|| {
                while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < cases.len()) {
                    let outcome = run_one(backend, &cases[i], how);
                    // A panic while the list is locked would need a failed allocation of the list itself.
                    done.lock().unwrap_or_else(|e| e.into_inner()).push((i, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(i, _)| *i);
    let mut outcomes: Vec<Outcome> = done.into_iter().map(|(_, outcome)| outcome).collect();
    name_operators(&mut outcomes);
    outcomes
}

/// The name of the case whose operator this case replaces by its function body.
pub(super) fn unexpanded(name: &str) -> Option<&str> {
    name.rsplit_once("_expanded").map(|(base, _)| base)
}

/// A function body consists of other operators; the case is about the one that it defines.
fn name_operators(outcomes: &mut [Outcome]) {
    let known: BTreeMap<String, String> =
        outcomes.iter().map(|o| (o.name.clone(), o.operator.clone())).collect();
    for outcome in outcomes {
        if let Some(base) = unexpanded(&outcome.name) {
            outcome.operator = known.get(base).map_or("-", String::as_str).to_string();
        }
    }
}

fn run_one(backend: &dyn Backend, case: &Case, how: How) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| try_one(backend, case, how)));
    let (verdict, why) = match result {
        Ok(Ok(())) => (Verdict::Pass, String::new()),
        Ok(Err(error)) => {
            let verdict = match error.exit {
                Exit::Accuracy => Verdict::Fail,
                Exit::Unsupported => Verdict::Unsupported,
                _ => Verdict::Error,
            };
            (verdict, escape(&format!("{}: {}", error.code, error.message)))
        }
        Err(_) => (Verdict::Error, format!("{}: panicked", codes::BUG)),
    };
    let types = catch_unwind(AssertUnwindSafe(|| backend.operators(&case.dir.join("model.onnx"))));
    let types: BTreeSet<String> = types.ok().and_then(Result::ok).unwrap_or_default().into_iter().collect();
    let operator = match types.len() {
        1 => types.first().map(|t| escape(t)),
        _ => None,
    };
    Outcome { name: case.name.clone(), operator: operator.unwrap_or_else(|| "-".into()), verdict, why }
}

fn tolerance(allowed: Allowed, elem: ElemType) -> Tolerance {
    let rtol = if elem == ElemType::BF16 { allowed.rtol.max(BF16_RTOL) } else { allowed.rtol };
    Tolerance { atol: allowed.atol, rtol, min_cosine: -1.0 }
}

fn try_one(backend: &dyn Backend, case: &Case, how: How) -> Result<(), CliError> {
    let options = OpenOptions {
        threads: 1,
        isa: how.isa,
        jit: true,
        mmap: true,
        check_weights: true,
        interp: how.interp,
    };
    let mut engine = backend.open(&case.dir.join("model.onnx"), &options)?;
    let signature = engine.signature().clone();
    for set in data_sets(&case.dir)? {
        engine.bind(load_folder(&signature.inputs, &set, "input")?)?;
        engine.run()?;
        let expected = load_folder(&signature.outputs, &set, "output")?;
        for ((port, ours), reference) in signature.outputs.iter().zip(engine.outputs()?).zip(expected) {
            let result = compare(&ours, &reference, &tolerance(case.allowed, port.elem));
            if !result.pass {
                let message = format!("output \"{}\": {}", port.name, result.summary());
                return Err(CliError::new(codes::ACCURACY, Exit::Accuracy, message));
            }
        }
    }
    Ok(())
}
