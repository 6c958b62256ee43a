//! `autoglm bench`

use super::{Ctx, execution_json, loops_json, named_outputs, open_options};
use crate::args::BenchArgs;
use crate::backend::{Engine, OpenOptions};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::feed::{self, Missing};
use crate::files;
use crate::peak::{peak_flops, rss_peak_kb};
use crate::report::{Report, Table};
use crate::stats::{Stats, format_bytes, format_duration, format_ns, percentile};
use crate::worker::{Runner, serve};
use autoglm_runtime::cpu::Isa;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Most samples of a measurement by time: the report keeps them in memory.
const MAX_SAMPLES: usize = 10_000_000;

pub(super) fn run(ctx: &mut Ctx<'_>, args: &BenchArgs) -> Result<Option<Report>, CliError> {
    let options = open_options(&args.exec, args.check_weights);
    let start = Instant::now();
    let mut engine = ctx.open(&args.engine, &options)?;
    let load = start.elapsed();
    let missing = if args.worker { Missing::Refuse } else { Missing::Generate };
    let (inputs, notes) = feed::load(engine.signature(), &args.feed, missing)?;
    for note in &notes {
        ctx.note(note)?;
    }
    engine.bind(inputs)?;
    if args.worker {
        let mut runner = EngineRunner(engine);
        serve(&mut runner, load.as_secs_f64(), ctx.stdin, ctx.stdout)?;
        return Ok(None);
    }
    let start = Instant::now();
    engine.run()?;
    let first = start.elapsed();
    let samples = measure(engine.as_mut(), args)?;
    let mut report = Report::new();
    report.set("assumed", notes);
    report.set("execution", execution_json(engine.as_ref()));
    report.set("loops", loops_json(engine.as_ref()));
    show(&mut report, &samples, args, options.threads, load, first)?;
    if let Some(flops) = engine.flops() {
        show_rate(&mut report, &samples, flops, &options);
    }
    Ok(Some(report))
}

/// Durations in nanoseconds, after the warm-up.
fn measure(engine: &mut dyn Engine, args: &BenchArgs) -> Result<Vec<u64>, CliError> {
    let start = Instant::now();
    while start.elapsed() < args.warmup {
        engine.run()?;
    }
    let wanted = args.iterations.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut samples = Vec::new();
    let start = Instant::now();
    loop {
        let run = Instant::now();
        engine.run()?;
        samples.push(u64::try_from(run.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let done = match wanted {
            Some(n) => samples.len() >= n,
            None => start.elapsed() >= args.duration || samples.len() >= MAX_SAMPLES,
        };
        if done {
            return Ok(samples);
        }
    }
}

fn show(
    report: &mut Report,
    samples: &[u64],
    args: &BenchArgs,
    threads: usize,
    load: Duration,
    first: Duration,
) -> Result<(), CliError> {
    let stats =
        Stats::of(samples).ok_or_else(|| CliError::new(codes::BUG, Exit::Bug, "nothing was measured"))?;
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let mut table = Table::new(&["latency", ">time"]);
    let mut latency = serde_json::Map::new();
    let entries = [("min", stats.min), ("mean", stats.mean), ("median", stats.median)];
    let chosen: Vec<(String, f64)> =
        args.percentiles.iter().map(|&p| (format!("p{p}"), percentile(&sorted, p))).collect();
    let tail = [("max", stats.max), ("std", stats.std)];
    let all = entries.iter().map(|(n, t)| (n.to_string(), *t)).chain(chosen);
    for (name, ns) in all.chain(tail.iter().map(|(n, t)| (n.to_string(), *t))) {
        table.row([&name, &format_ns(ns)]);
        latency.insert(name, json!(ns * 1e-6));
    }
    let per_second = 1e9 / stats.mean.max(1.0);
    let memory = rss_peak_kb();
    report.set(
        "perf",
        json!({
            "config": { "threads": threads, "warmup_ms": args.warmup.as_secs_f64() * 1e3 },
            "n": stats.n,
            "load_ms": load.as_secs_f64() * 1e3,
            "first_ms": first.as_secs_f64() * 1e3,
            "latency_ms": Value::Object(latency),
            "throughput_per_s": per_second,
            "rss_peak_kb": memory,
        }),
    );
    report.text(&table.render());
    report.text(&format!(
        "\n{} runs, {per_second:.2} a second, {threads} threads\nload {}, first run {}\n",
        stats.n,
        format_duration(load),
        format_duration(first)
    ));
    if let Some(kb) = memory {
        report.text(&format!("peak memory {}\n", format_bytes(kb.saturating_mul(1024))));
    }
    Ok(())
}

/// The arithmetic rate reached, and its share of what the same instructions reach on this machine.
fn show_rate(report: &mut Report, samples: &[u64], flops: f64, options: &OpenOptions) {
    let Some(stats) = Stats::of(samples) else { return };
    let isa = options.isa.fixed().unwrap_or_else(Isa::detect);
    let achieved = flops / stats.median.max(1.0);
    let peak = peak_flops(isa, options.threads, Duration::from_millis(50)).map(|rate| rate * 1e-9);
    let fraction = peak.map(|peak| achieved / peak);
    report.set(
        "rate",
        json!({
            "flops": flops,
            "achieved_gflops": achieved,
            "isa": isa.name(),
            "peak_gflops": peak,
            "fraction": fraction,
        }),
    );
    let of_peak = peak.zip(fraction).map_or(String::new(), |(peak, fraction)| {
        let (percent, name) = (fraction * 100.0, isa.name());
        format!(", {percent:.0} % of the {peak:.1} that {name} reaches on {} threads", options.threads)
    });
    report.text(&format!("{achieved:.1} GFLOP/s{of_peak}\n"));
}

/// An engine with bound inputs behind the worker protocol.
struct EngineRunner(Box<dyn Engine>);

impl Runner for EngineRunner {
    fn run(&mut self) -> Result<(), CliError> {
        self.0.run()
    }

    fn write_outputs(&mut self, dir: &Path) -> Result<(), CliError> {
        files::write_tensors(dir, &named_outputs(self.0.as_mut())?).map(|_| ())
    }
}
