//! Times every step of an engine: `profile_steps ENGINE [--dim SYMBOL=EXTENT]... [--threads N] [--runs N] [--all]`.
//!
//! Prints the least time of each kind of step, or of each step with `--all`, over runs on random floats, other elements
//! being 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use autoglm_runtime::cpu::emit::Emitter;
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::Engine;
use autoglm_runtime::program::{Port, Program};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorMut, TensorRef};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// The command line.
struct Args {
    engine: String,
    /// Extents of symbols.
    dims: BTreeMap<String, usize>,
    /// 0 for all.
    threads: usize,
    runs: usize,
    all: bool,
}

fn parse(mut line: impl Iterator<Item = String>) -> Result<Args, Box<dyn Error>> {
    let mut args = Args { engine: String::new(), dims: BTreeMap::new(), threads: 1, runs: 20, all: false };
    while let Some(word) = line.next() {
        if word == "--all" {
            args.all = true;
            continue;
        }
        if !word.starts_with("--") {
            args.engine = word;
            continue;
        }
        let value = line.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--dim" => {
                let (name, extent) =
                    value.split_once('=').ok_or_else(|| format!("{word} needs NAME=EXTENT, not {value}"))?;
                args.dims.insert(name.into(), extent.parse()?);
            }
            "--threads" => args.threads = value.parse()?,
            "--runs" => args.runs = value.parse()?,
            _ => return Err(format!("there is no option {word}").into()),
        }
    }
    if args.engine.is_empty() || args.runs == 0 {
        return Err("which engine, and how many runs?".into());
    }
    Ok(args)
}

fn input(program: &Program, port: &Port, args: &Args) -> Result<HostTensor, Box<dyn Error>> {
    let elem = program.values[port.value as usize].elem;
    let extent = |dim: &String| {
        let known = dim.parse().ok().or_else(|| args.dims.get(dim).copied());
        known.ok_or_else(|| format!("{dim} of input {} is not known: give --dim {dim}=EXTENT", port.name))
    };
    let dims = port.dim_names.iter().map(extent).collect::<Result<Vec<usize>, _>>()?;
    let mut state = 1u32;
    let mut element = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state >> 8) / f64::from(1 << 24) - 0.5) as f32
    };
    let count: usize = dims.iter().product();
    let mut one = vec![0; elem.size()];
    one[0] = 1;
    let bytes = match elem {
        ElemType::F32 => (0..count).flat_map(|_| element().to_le_bytes()).collect(),
        _ => one.repeat(count),
    };
    Ok(HostTensor::from_bytes(elem, &dims, &bytes)?)
}

/// Seconds of each step in each run.
fn times(session: &mut Session, inputs: &[HostTensor], args: &Args) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    let refs: Vec<TensorRef<'_>> = inputs.iter().map(HostTensor::as_ref).collect();
    let mut results = session.run_alloc(&refs)?;
    let steps = session.engine().program().steps.len();
    let mut times = vec![Vec::with_capacity(args.runs); steps];
    for _ in 0..args.runs {
        let mut outputs: Vec<TensorMut<'_>> = results.iter_mut().map(HostTensor::as_mut).collect();
        let mut before = Instant::now();
        session.run_observed(&refs, &mut outputs, |step| {
            let now = Instant::now();
            times[step].push((now - before).as_secs_f64());
            before = now;
        })?;
    }
    Ok(times)
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(&args.engine)?;
    let program = engine.program().clone();
    let inputs =
        program.inputs.iter().map(|port| input(&program, port, args)).collect::<Result<Vec<_>, _>>()?;
    let code = vec![Arc::new(Emitter) as _];
    let options = SessionOptions { threads: args.threads, code, ..Default::default() };
    let mut session = Session::new(engine, options)?;
    let times = times(&mut session, &inputs, args)?;
    // On a shared machine the least time says most.
    let fastest: Vec<f64> = times.iter().map(|t| t.iter().copied().fold(f64::INFINITY, f64::min)).collect();
    let total: f64 = fastest.iter().sum();
    let mut rows: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for (at, (step, time)) in program.steps.iter().zip(&fastest).enumerate() {
        let kind = step.kind.name();
        let key = if args.all { format!("{at:4} {kind} {}", step.name) } else { kind.into() };
        let row = rows.entry(key).or_default();
        *row = (row.0 + 1, row.1 + time);
    }
    for (name, (count, time)) in &rows {
        println!("{:9.3} ms {:5.1} % {count:4} {name}", time * 1e3, time / total * 100.0);
    }
    println!("{:9.3} ms of {} steps", total * 1e3, fastest.len());
    if let Some(plan) = session.last_plan() {
        println!("loops compiled {}, interpreted {}", plan.loops().compiled, plan.loops().interpreted);
    }
    Ok(())
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profile_steps: {error}");
            ExitCode::FAILURE
        }
    }
}
