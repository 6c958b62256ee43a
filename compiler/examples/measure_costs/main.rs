//! Measures the kernels of this machine for the optimiser's cost table:
//!
//!     cargo run --release -p autoglm-compiler --example measure_costs -- --out compiler/costs/x86_64-avx2.txt
//!
//! `--isa avx2` measures another instruction set than the best, `--quick` a fraction of the time, `--only KERNEL` one kernel,
//! whose rows it replaces in the table of `--out`, `--check TABLE` compares
//! a table's predictions with measurements of extents that it does not hold. An idle machine is needed; a full run takes
//! about six minutes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod build;
mod grids;
mod programs;

use autoglm_passes::egraph::{CostModel, CostTable, Kernel, Point};
use autoglm_runtime::cpu::features::Isa;
use build::{Bench, Outcome};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Times that every point is measured.
const SWEEPS: usize = 3;

/// The command line.
struct Args {
    out: Option<String>,
    check: Option<String>,
    only: Option<Kernel>,
    isa: Isa,
    /// Time for one measurement.
    budget: Duration,
}

fn parse(mut line: impl Iterator<Item = String>) -> Outcome<Args> {
    let best = Isa::ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Isa::Scalar);
    let mut args = Args { out: None, check: None, only: None, isa: best, budget: Duration::from_millis(30) };
    while let Some(word) = line.next() {
        let mut value = || line.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--out" => args.out = Some(value()?),
            "--check" => args.check = Some(value()?),
            "--quick" => args.budget = Duration::from_millis(2),
            "--only" => {
                let name = value()?;
                let kernel = Kernel::ALL.into_iter().find(|kernel| kernel.name() == name);
                args.only = Some(kernel.ok_or_else(|| format!("there is no kernel {name}"))?);
            }
            "--isa" => {
                let name = value()?;
                let known = Isa::ALL.into_iter().find(|isa| isa.name() == name && isa.is_available());
                args.isa = known.ok_or_else(|| format!("this machine has no {name}"))?;
            }
            _ => return Err(format!("there is no option {word}").into()),
        }
    }
    Ok(args)
}

/// The processor's name, as Linux tells it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, name)| name).to_string()
}

/// Nanoseconds of a kernel.
fn nanoseconds(kernel: Kernel, at: &[u64], threads: u32, args: &Args) -> Outcome<f64> {
    let bench = Bench { isa: args.isa, threads: threads as usize, budget: args.budget };
    let sizes: Vec<usize> = at.iter().map(|x| *x as usize).collect();
    programs::nanoseconds(kernel, &sizes, &bench)
}

/// All points, each as fast as in the best of several sweeps: what disturbs a machine for seconds does not meet a point in all of
/// them.
fn measure(args: &Args) -> Outcome<CostTable> {
    let mut points: Vec<Point> = Vec::new();
    for kernel in Kernel::ALL.into_iter().filter(|kernel| args.only.is_none_or(|only| only == *kernel)) {
        for threads in [1, 2] {
            let point = |at| Point { kernel, threads, at, ns: f64::INFINITY };
            points.extend(grids::grid(kernel).into_iter().map(point));
        }
    }
    for sweep in 1..=SWEEPS {
        for point in &mut points {
            point.ns = point.ns.min(nanoseconds(point.kernel, &point.at, point.threads, args)?);
        }
        eprintln!("sweep {sweep} of {SWEEPS}: done");
    }
    if let (Some(only), Some(path)) = (args.only, &args.out) {
        let table = CostTable::parse(&std::fs::read_to_string(path)?)?;
        points.extend(table.points().filter(|point| point.kernel != only));
    }
    Ok(CostTable::measured(args.isa.name(), &machine(), &points)?)
}

/// Prints measurements beside what a table and the roofline predict.
fn check(path: &str, args: &Args) -> Outcome<()> {
    let table = Arc::new(CostTable::parse(&std::fs::read_to_string(path)?)?);
    println!("| kernel | extents | threads | measured us | table us | ratio | roofline us | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    let (mut errors, mut count) = ([0.0f64; 2], 0.0);
    for (kernel, at) in grids::CHECKED {
        for threads in [1, 2] {
            let measured = nanoseconds(*kernel, at, threads, args)?;
            let extents: Vec<f64> = at.iter().map(|x| *x as f64).collect();
            let roofline = CostModel { threads, ..CostModel::default() };
            let model = CostModel { table: Some(table.clone()), ..roofline.clone() };
            let predicted = [model, roofline].map(|model| model.predict(*kernel, &extents));
            let ratios = predicted.map(|ns| ns / measured);
            errors.iter_mut().zip(ratios).for_each(|(sum, ratio)| *sum += ratio.ln().abs());
            count += 1.0;
            let shape = at.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
            println!(
                "| {} | {shape} | {threads} | {:.1} | {:.1} | {:.2} | {:.1} | {:.2} |",
                kernel.name(),
                measured * 1e-3,
                predicted[0] * 1e-3,
                ratios[0],
                predicted[1] * 1e-3,
                ratios[1]
            );
        }
    }
    let [table, roofline] = errors.map(|sum| (sum / count).exp());
    println!("\nmean factor between prediction and measurement: table {table:.2}, roofline {roofline:.2}");
    Ok(())
}

fn run(args: &Args) -> Outcome<()> {
    if let Some(table) = &args.check {
        return check(table, args);
    }
    let text = measure(args)?.to_string();
    match &args.out {
        Some(path) => std::fs::write(path, text)?,
        None => print!("{text}"),
    }
    Ok(())
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure_costs: {error}");
            ExitCode::FAILURE
        }
    }
}
