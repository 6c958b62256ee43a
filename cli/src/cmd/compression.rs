//! What a compression did, for the report of `compile`.

use super::Ctx;
use crate::args::Isa;
use crate::backend::{
    Alternative, CompileRequest, Compression, Estimate, Figures, HeldOut, OpenOptions, WeightZeros,
};
use crate::calib;
use crate::error::{CliError, escape};
use crate::report::{Report, Table};
use crate::stats::{format_bytes, format_duration};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Runs of both engines that are timed: at most, at least, and for how long if more than those.
const RUNS: (usize, usize, Duration) = (9, 3, Duration::from_secs(2));

/// Measured medians, of the exact engine and of the compressed one.
#[derive(Default)]
pub(super) struct Times {
    run: [Duration; 2],
    /// By layer: all steps that bear its name.
    layers: BTreeMap<String, [Duration; 2]>,
}

/// Runs the exact engine and the compressed one over the first calibration sample, on one thread, as predictions are for
/// one. They take turns, so that what else the machine does slows both. None where no engine was written.
pub(super) fn time(
    ctx: &Ctx<'_>,
    request: &CompileRequest,
    it: &Compression,
) -> Result<Option<Times>, CliError> {
    let (Some(output), Some(compress), None) = (&request.output, &request.compress, &it.skipped) else {
        return Ok(None);
    };
    let isa = Isa::Auto;
    let options = OpenOptions { threads: 1, isa, jit: true, mmap: true, check_weights: false, interp: false };
    let mut engines = [ctx.backend.open_exact(request, &options)?, ctx.backend.open(output, &options)?];
    let first =
        calib::samples(engines[0].signature(), &compress.calib)?.into_iter().next().unwrap_or_default();
    for engine in &mut engines {
        engine.bind(first.clone())?;
        engine.run()?;
    }
    let mut runs: [Vec<Vec<Duration>>; 2] = Default::default();
    let start = Instant::now();
    while runs[0].len() < RUNS.0 && (runs[0].len() < RUNS.1 || start.elapsed() < RUNS.2) {
        for (runs, engine) in runs.iter_mut().zip(&mut engines) {
            runs.push(engine.time_steps()?);
        }
    }
    let mut times = Times::default();
    for (i, (runs, engine)) in runs.iter().zip(&engines).enumerate() {
        let names: Vec<String> = engine.describe().steps.into_iter().map(|step| step.name).collect();
        let sum = |wanted: &dyn Fn(&str) -> bool| {
            let of = |run: &Vec<Duration>| {
                run.iter().zip(&names).filter(|(_, name)| wanted(name)).map(|(time, _)| *time).sum()
            };
            median(runs.iter().map(of).collect())
        };
        times.run[i] = sum(&|_| true);
        for layer in it.layers.iter().filter(|layer| !layer.name.is_empty()) {
            times.layers.entry(layer.name.clone()).or_default()[i] = sum(&|name| name == layer.name);
        }
    }
    Ok(Some(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Sets the key of the report; the text for people where `text` is set.
pub(super) fn show(report: &mut Report, it: &Compression, times: Option<&Times>, text: bool) {
    report.set("compression", as_json(it, times));
    if !text {
        return;
    }
    if let Some(reason) = &it.skipped {
        report.text(&format!("not compressed: {}\n\n", escape(reason)));
        return;
    }
    report.text(&format!("{}\n", layers(it, times)));
    report.text(&format!("gates {}: {}, measured on {} samples\n", it.gates, line(&it.measured), it.samples));
    if let Some(held_out) = &it.held_out {
        let samples = held_out.samples;
        report.text(&format!("held out: {}, measured on {samples} samples\n", line(&held_out.measured)));
    }
    report.text(&format!(
        "weights: {} -> {}, predicted: {} -> {} a run\n",
        format_bytes(it.bytes.0 as u64),
        format_bytes(it.bytes.1 as u64),
        format_duration(nanoseconds(it.latency_ns.0)),
        format_duration(nanoseconds(it.latency_ns.1)),
    ));
    if let Some([exact, chosen]) = times.map(|times| times.run.map(format_duration)) {
        report.text(&format!("measured: {exact} -> {chosen} a run of the first sample on one thread\n"));
    }
    report.text("\n");
}

fn line(m: &Figures) -> String {
    format!(
        "layer.cosine {:.6}, layer.mse {:.6}, out.cosine {:.6}, out.worst {:.6}, out.top1 {:.4}",
        m.layer_cosine, m.layer_mse, m.out_cosine, m.out_worst, m.out_top1
    )
}

fn nanoseconds(ns: f64) -> Duration {
    Duration::try_from_secs_f64(ns * 1e-9).unwrap_or(Duration::MAX)
}

/// A row for each layer with what was chosen, or why nothing was.
fn layers(it: &Compression, times: Option<&Times>) -> String {
    let columns = [
        "layer",
        "channels",
        "chosen",
        ">bytes",
        ">predicted",
        ">measured",
        ">mse alone",
        ">mse",
        ">cosine",
        "why not more",
    ];
    let mut table = Table::new(&columns);
    for layer in &it.layers {
        let chosen = layer.alternatives.iter().find(|a| a.refused.is_none());
        let change = |[exact, now]: [Duration; 2]| match chosen {
            Some(_) => format!("{} -> {}", format_duration(exact), format_duration(now)),
            None => format_duration(exact),
        };
        let saved = chosen.and_then(|a| a.estimate).map_or(0.0, |e| e.saves_ns);
        let predicted = change([layer.latency_ns, layer.latency_ns - saved].map(nanoseconds));
        let measured =
            times.and_then(|times| times.layers.get(&layer.name)).map_or(String::new(), |t| change(*t));
        let bytes = chosen.map_or(String::new(), |a| format_bytes(a.bytes));
        let alone = chosen.map_or(String::new(), |a| format!("{:.5}", a.mse));
        let why = match (&layer.none, chosen) {
            (Some(reason), _) => reason.clone(),
            (None, Some(_)) => String::new(),
            (None, None) => closest(&layer.alternatives),
        };
        table.row([
            layer.name.as_str(),
            if layer.permuted { "permuted" } else { "" },
            chosen.map_or("exact", |a| a.name.as_str()),
            &bytes,
            &predicted,
            &measured,
            &alone,
            &format!("{:.5}", layer.mse),
            &format!("{:.5}", layer.cosine),
            &why,
        ]);
    }
    table.render()
}

/// The refused alternative that errs least, and why it is refused.
fn closest(alternatives: &[Alternative]) -> String {
    let best = alternatives.iter().min_by(|a, b| a.mse.total_cmp(&b.mse));
    best.and_then(|a| Some(format!("{}: {}", a.name, a.refused.as_ref()?))).unwrap_or_default()
}

fn figures(m: &Figures) -> Value {
    json!({
        "layer.cosine": m.layer_cosine, "layer.mse": m.layer_mse,
        "out.cosine": m.out_cosine, "out.worst": m.out_worst, "out.mse": m.out_mse, "out.top1": m.out_top1,
    })
}

fn as_json(it: &Compression, times: Option<&Times>) -> Value {
    let pair = |[exact, chosen]: [Duration; 2]| json!({ "exact": exact.as_nanos() as u64, "chosen": chosen.as_nanos() as u64 });
    let estimate =
        |e: Estimate| json!({ "error": e.error, "saves": { "ns": e.saves_ns, "bytes": e.saves_bytes } });
    let alternative = |a: &Alternative| {
        json!({
            "id": a.id, "name": a.name, "kind": a.kind, "bytes": a.bytes, "mse": a.mse, "cosine": a.cosine,
            "estimate": a.estimate.map(estimate),
            "chosen": a.refused.is_none(), "refused": a.refused,
        })
    };
    let rounds: Vec<Value> = it
        .rounds
        .iter()
        .map(|r| {
            json!({
                "objective": r.objective, "kinds": r.kinds, "error": r.error, "latency_ns": r.latency_ns, "bytes": r.bytes,
                "alternatives": r.alternatives,
                "measured": figures(&r.measured), "failures": r.failures,
            })
        })
        .collect();
    let layers: Vec<Value> = it
        .layers
        .iter()
        .map(|l| {
            let alternatives: Vec<Value> = l.alternatives.iter().map(alternative).collect();
            json!({
                "name": l.name, "mse": l.mse, "cosine": l.cosine, "none": l.none, "alternatives": alternatives,
                "permuted": l.permuted,
                "latency_ns": l.latency_ns,
                "measured_ns": times.and_then(|times| times.layers.get(&l.name)).copied().map(pair),
                "held_out": l.held_out.map(|(mse, cosine)| json!({ "mse": mse, "cosine": cosine })),
            })
        })
        .collect();
    let held_out = |h: &HeldOut| json!({ "samples": h.samples, "measured": figures(&h.measured), "failures": h.failures });
    json!({
        "gates": it.gates, "samples": it.samples, "measured": figures(&it.measured), "skipped": it.skipped,
        "latency_ns": { "exact": it.latency_ns.0, "chosen": it.latency_ns.1 },
        "measured_ns": times.map(|times| pair(times.run)),
        "bytes": { "exact": it.bytes.0, "chosen": it.bytes.1 },
        "rounds": rounds, "layers": layers, "held_out": it.held_out.as_ref().map(held_out),
    })
}

/// Sets the key of the report with the zeros of every weight; the text for people where `text` is set.
pub(super) fn show_zeros(report: &mut Report, weights: &[WeightZeros], text: bool) {
    let weight = |w: &WeightZeros| {
        json!({
            "node": w.node, "extents": w.extents, "density": w.density, "pattern": w.pattern,
            "arithmetic": w.arithmetic, "bytes": { "dense": w.bytes[0], "stored": w.bytes[1] },
        })
    };
    report.set("zeros", weights.iter().map(weight).collect::<Vec<Value>>());
    if !text {
        return;
    }
    let columns =
        ["weight of", ">rows", ">columns", ">not zero", "pattern", ">bytes", ">stored", ">arithmetic"];
    let mut table = Table::new(&columns);
    for w in weights {
        table.row([
            w.node.as_str(),
            &w.extents[0].to_string(),
            &w.extents[1].to_string(),
            &format!("{:.1} %", 100.0 * w.density),
            w.pattern.as_deref().unwrap_or("none"),
            &format_bytes(w.bytes[0]),
            &format_bytes(w.bytes[1]),
            &format!("{:.0} %", 100.0 * w.arithmetic),
        ]);
    }
    let sparse = weights.iter().filter(|w| w.pattern.is_some()).count();
    let (dense, stored) = weights.iter().fold((0, 0), |(a, b), w| (a + w.bytes[0], b + w.bytes[1]));
    report.text(&format!("{}\n", table.render()));
    report.text(&format!(
        "{sparse} of {} weights are sparse in a pattern that is left out: {} -> {}\n\n",
        weights.len(),
        format_bytes(dense),
        format_bytes(stored)
    ));
}
