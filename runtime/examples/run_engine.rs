//! Runs an engine once and prints the shape and checksum of every output:
//! `run_engine ENGINE [--dim SYMBOL=EXTENT]... [--input NAME=RAW_FILE]... [--threads N]`.
//!
//! Inputs without a file are zeros. This is all that a program needs to run engines on the CPU; `.ci/steps/size.sh`
//! holds its size.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use autoglm_runtime::engine::Engine;
use autoglm_runtime::program::Port;
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorRef};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

/// The command line.
#[derive(Default)]
struct Args {
    engine: String,
    /// Extents of symbols.
    dims: BTreeMap<String, usize>,
    /// Files of inputs.
    files: BTreeMap<String, String>,
    /// 0 for all.
    threads: usize,
}

fn parse(mut line: impl Iterator<Item = String>) -> Result<Args, Box<dyn Error>> {
    let mut args = Args::default();
    while let Some(word) = line.next() {
        if !word.starts_with("--") {
            args.engine = word;
            continue;
        }
        let value = line.next().ok_or_else(|| format!("{word} needs a value"))?;
        let pair = || value.split_once('=').ok_or_else(|| format!("{word} needs NAME=VALUE, not {value}"));
        match word.as_str() {
            "--dim" => {
                let (name, extent) = pair()?;
                args.dims.insert(name.into(), extent.parse()?);
            }
            "--input" => {
                let (name, file) = pair()?;
                args.files.insert(name.into(), file.into());
            }
            "--threads" => args.threads = value.parse()?,
            _ => return Err(format!("there is no option {word}").into()),
        }
    }
    if args.engine.is_empty() {
        return Err("which engine?".into());
    }
    Ok(args)
}

fn input(engine: &Engine, port: &Port, args: &Args) -> Result<HostTensor, Box<dyn Error>> {
    let elem = engine.program().values[port.value as usize].elem;
    let extent = |dim: &String| {
        let known = dim.parse().ok().or_else(|| args.dims.get(dim).copied());
        known.ok_or_else(|| format!("{dim} of input {} is not known: give --dim {dim}=EXTENT", port.name))
    };
    let dims = port.dim_names.iter().map(extent).collect::<Result<Vec<usize>, _>>()?;
    match args.files.get(&port.name) {
        Some(file) => Ok(HostTensor::from_bytes(elem, &dims, &std::fs::read(file)?)?),
        None => Ok(HostTensor::zeros(elem, &dims)?),
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(&args.engine)?;
    let program = engine.program().clone();
    let inputs =
        program.inputs.iter().map(|port| input(&engine, port, args)).collect::<Result<Vec<_>, _>>()?;
    let mut session = Session::new(engine, SessionOptions { threads: args.threads, ..Default::default() })?;
    let refs: Vec<TensorRef<'_>> = inputs.iter().map(HostTensor::as_ref).collect();
    for (port, output) in program.outputs.iter().zip(session.run_alloc(&refs)?) {
        println!("{} {:?}{:?} blake3 {}", port.name, output.elem, output.dims, blake3::hash(&output.bytes));
    }
    Ok(())
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run_engine: {error}");
            ExitCode::FAILURE
        }
    }
}
