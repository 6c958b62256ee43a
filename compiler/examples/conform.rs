//! Runs ONNX backend test cases through the importer and the reference interpreter.
//!
//! `conform DIR [FILTER]`: every `DIR/*/CASE/model.onnx` whose case name holds FILTER, against its data sets.
//! With `--bind`, inputs whose contents must be known at compile time are given to the importer as constants.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report is what this tool is for")]

use autoglm_compiler::diag::Class;
use autoglm_compiler::import::{ImportOptions, codes, dtype_of, import};
use autoglm_compiler::onnx::proto::TensorProto;
use autoglm_compiler::onnx::{ExternalFiles, Limits, open, tensor};
use autoglm_ir::verify::verify;
use autoglm_ir::{DType, Tensor, interp};
use prost::Message as _;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Relative and absolute tolerance of the official runner.
const TOLERANCE: (f64, f64) = (1e-3, 1e-7);

/// How a case ended.
enum Outcome {
    Pass,
    Bound,
    Close,
    Refused(&'static str, String),
    Wrong(String),
    Crash(String),
}

/// A tensor file; none when it holds something else.
fn load(path: &Path) -> Option<(String, Tensor)> {
    let limits = Limits::default();
    let proto = TensorProto::decode(std::fs::read(path).ok()?.as_slice()).ok()?;
    let mut files = ExternalFiles::new(Path::new(""), &limits);
    let raw = tensor::decode(&proto, &mut files, &limits).ok()?.dense().ok()?;
    let shape = raw.dims.iter().map(|d| *d as usize).collect();
    Some((proto.name, Tensor::from_bytes(dtype_of(raw.dtype.code())?, shape, raw.data)?))
}

/// The tensors `input_0.pb`, `input_1.pb`, ... or the outputs.
fn tensors(set: &Path, kind: &str) -> Option<Vec<(String, Tensor)>> {
    let paths = (0..).map(|i| set.join(format!("{kind}_{i}.pb"))).take_while(|p| p.exists());
    paths.map(|p| load(&p)).collect()
}

/// How two tensors differ.
enum Difference {
    /// By up to two units in the last place of a 16-bit float, which is more than the official tolerance.
    LastPlace,
    /// By more.
    Real(String),
}

/// Compares as the official runner does.
fn compare(got: &Tensor, want: &Tensor) -> Result<(), Difference> {
    if got.dtype != want.dtype || got.shape != want.shape {
        let text = format!("{}{:?} instead of {}{:?}", got.dtype, got.shape, want.dtype, want.shape);
        return Err(Difference::Real(text));
    }
    let unit = match got.dtype {
        DType::F16 => 2f64.powi(-9),
        DType::BF16 => 2f64.powi(-6),
        _ => 0.0,
    };
    let mut result = Ok(());
    let (a, b) = (got.to_f64(), want.to_f64());
    let exact = !got.dtype.is_float();
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        let close = x == y
            || (x.is_nan() && y.is_nan())
            || (!exact && (x - y).abs() <= TOLERANCE.1 + TOLERANCE.0 * y.abs());
        if !close && (x - y).abs() <= unit * y.abs() {
            result = Err(Difference::LastPlace);
        } else if !close {
            return Err(Difference::Real(format!("element {i} of {:?} is {x} instead of {y}", got.shape)));
        }
    }
    result
}

/// The first outcome that is not a pass over the data sets of a case.
fn attempt_all(case: &Path, bind: bool) -> Outcome {
    let entries = std::fs::read_dir(case).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let mut sets: Vec<PathBuf> = entries.filter(|p| p.is_dir()).collect();
    sets.sort();
    let mut outcome = Outcome::Wrong("the case has no data".into());
    for set in sets {
        outcome = attempt(case, &set, bind);
        if !matches!(outcome, Outcome::Pass) {
            break;
        }
    }
    outcome
}

fn attempt(case: &Path, set: &Path, bind: bool) -> Outcome {
    let (Some(inputs), Some(outputs)) = (tensors(set, "input"), tensors(set, "output")) else {
        return refused_or_wrong(case);
    };
    let model = match open(&case.join("model.onnx"), &Limits::default()) {
        Ok(m) => m,
        Err(e) => return Outcome::Refused(e.code, e.to_string()),
    };
    let mut options = ImportOptions::default();
    if bind {
        // The data itself, the first input, stays an input unless it is all there is.
        let skip = usize::from(inputs.first().is_some_and(|(_, t)| !t.shape.is_empty()));
        options.fixed = inputs.iter().skip(skip).filter(|(_, t)| t.shape.len() <= 1).cloned().collect();
    }
    let imported = match import(&model, &options) {
        Ok(i) => i,
        Err(errors) => {
            if !bind && errors.iter().any(|e| e.code == codes::NOT_CONSTANT) {
                match attempt(case, set, true) {
                    Outcome::Pass => return Outcome::Bound,
                    Outcome::Refused(..) => {}
                    other => return other,
                }
            }
            if let Some(bad) = errors.iter().find(|e| e.class != Class::Unsupported) {
                return Outcome::Wrong(bad.to_string());
            }
            return errors
                .into_iter()
                .next()
                .map_or(Outcome::Crash("no error".into()), |e| Outcome::Refused(e.code, e.title));
        }
    };
    let graph = &imported.graph;
    if let Some(violation) = verify(graph).first() {
        return Outcome::Wrong(format!("the verifier says: {violation:?}"));
    }
    if outputs.is_empty() {
        return Outcome::Wrong("the case has no outputs to compare with".into());
    }
    let takes = |name: &str| graph.inputs.iter().any(|v| graph.value(*v).name == name);
    let left: Vec<Tensor> =
        inputs.iter().filter(|(n, _)| !bind || takes(n)).map(|(_, t)| t.clone()).collect();
    match interp::run(graph, &left) {
        Err(e) => Outcome::Wrong(e.to_string()),
        Ok(results) if results.len() < outputs.len() => Outcome::Wrong(format!("{} outputs", results.len())),
        Ok(results) => {
            let mut outcome = Outcome::Pass;
            for (got, (name, want)) in results.iter().zip(&outputs) {
                match compare(got, want) {
                    Ok(()) => {}
                    Err(Difference::LastPlace) => outcome = Outcome::Close,
                    Err(Difference::Real(e)) => return Outcome::Wrong(format!("{name}: {e}")),
                }
            }
            outcome
        }
    }
}

/// A case whose data are not tensors of numbers: the importer must refuse it by name.
fn refused_or_wrong(case: &Path) -> Outcome {
    let model = match open(&case.join("model.onnx"), &Limits::default()) {
        Ok(m) => m,
        Err(e) => return Outcome::Refused(e.code, e.to_string()),
    };
    match import(&model, &ImportOptions::default()) {
        Err(errors) if errors.iter().all(|e| e.class == Class::Unsupported) => errors
            .into_iter()
            .next()
            .map_or(Outcome::Crash("no error".into()), |e| Outcome::Refused(e.code, e.title)),
        Err(errors) => Outcome::Wrong(errors.first().map_or(String::new(), ToString::to_string)),
        Ok(_) => Outcome::Refused("data", "the test's data is not made of numeric tensors".into()),
    }
}

fn cases(dir: &Path, filter: &str) -> Vec<PathBuf> {
    let list = |d: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(d).map(|r| r.filter_map(|e| Some(e.ok()?.path())).collect()).unwrap_or_default()
    };
    let mut out: Vec<PathBuf> =
        list(dir).iter().flat_map(|s| list(s)).filter(|c| c.join("model.onnx").exists()).collect();
    out.extend(list(dir).into_iter().filter(|c| c.join("model.onnx").exists()));
    out.retain(|c| c.file_name().is_some_and(|n| n.to_string_lossy().contains(filter)));
    out.sort();
    out
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let bind = args.iter().any(|a| a == "--bind");
    let verbose = args.iter().any(|a| a == "--list");
    let plain: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let Some(dir) = plain.first() else {
        eprintln!("usage: conform DIR [FILTER] [--bind] [--list]");
        return;
    };
    std::panic::set_hook(Box::new(|_| {}));
    let filter = plain.get(1).map_or("", |s| s.as_str());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases(Path::new(dir), filter) {
        let name = case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt_all(&case, bind))).unwrap_or_else(|e| {
            let text = e.downcast_ref::<String>().cloned();
            Outcome::Crash(
                text.or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default(),
            )
        });
        let key = match outcome {
            Outcome::Pass => "pass".to_owned(),
            Outcome::Close => {
                println!("close {name}");
                "within two units in the last place of a 16-bit float".to_owned()
            }
            Outcome::Bound => "pass with bound inputs".to_owned(),
            Outcome::Refused(code, why) => {
                if verbose {
                    println!("refused {name}: {why}");
                }
                *reasons.entry(format!("{code} {why}")).or_default() += 1;
                format!("refused {code}")
            }
            Outcome::Wrong(why) => {
                println!("WRONG {name}: {why}");
                "wrong".to_owned()
            }
            Outcome::Crash(why) => {
                println!("CRASH {name}: {why}");
                "crash".to_owned()
            }
        };
        *counts.entry(key).or_default() += 1;
    }
    let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    reasons.iter().take(60).for_each(|(why, n)| println!("{n:5} {why}"));
    counts.iter().for_each(|(k, n)| println!("{k}: {n}"));
    println!("total: {}", counts.values().sum::<usize>());
}
