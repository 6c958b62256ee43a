//! What a compression did, for the report of `compile`.

use crate::backend::{Alternative, Compression, Figures, HeldOut, WeightZeros};
use crate::error::escape;
use crate::report::{Report, Table};
use crate::stats::{format_bytes, format_duration};
use serde_json::{Value, json};
use std::time::Duration;

/// Sets the key of the report; the text for people where `text` is set.
pub(super) fn show(report: &mut Report, it: &Compression, text: bool) {
    report.set("compression", as_json(it));
    if !text {
        return;
    }
    if let Some(reason) = &it.skipped {
        report.text(&format!("not compressed: {}\n\n", escape(reason)));
        return;
    }
    report.text(&format!("{}\n", layers(it)));
    report.text(&format!("gates {}: {}, measured on {} samples\n", it.gates, line(&it.measured), it.samples));
    if let Some(held_out) = &it.held_out {
        let samples = held_out.samples;
        report.text(&format!("held out: {}, measured on {samples} samples\n", line(&held_out.measured)));
    }
    report.text(&format!(
        "weights: {} -> {}, predicted: {} -> {} a run\n\n",
        format_bytes(it.bytes.0 as u64),
        format_bytes(it.bytes.1 as u64),
        format_duration(nanoseconds(it.latency_ns.0)),
        format_duration(nanoseconds(it.latency_ns.1)),
    ));
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
fn layers(it: &Compression) -> String {
    let mut table =
        Table::new(&["layer", "chosen", ">bytes", ">mse alone", ">mse", ">cosine", "why not more"]);
    for layer in &it.layers {
        let chosen = layer.alternatives.iter().find(|a| a.refused.is_none());
        let bytes = chosen.map_or(String::new(), |a| format_bytes(a.bytes));
        let alone = chosen.map_or(String::new(), |a| format!("{:.5}", a.mse));
        let why = match (&layer.none, chosen) {
            (Some(reason), _) => reason.clone(),
            (None, Some(_)) => String::new(),
            (None, None) => closest(&layer.alternatives),
        };
        table.row([
            layer.name.as_str(),
            chosen.map_or("exact", |a| a.name.as_str()),
            &bytes,
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

fn as_json(it: &Compression) -> Value {
    let alternative = |a: &Alternative| {
        json!({
            "name": a.name, "kind": a.kind, "bytes": a.bytes, "mse": a.mse, "cosine": a.cosine,
            "chosen": a.refused.is_none(), "refused": a.refused,
        })
    };
    let rounds: Vec<Value> = it
        .rounds
        .iter()
        .map(|r| {
            json!({
                "kinds": r.kinds, "error": r.error, "latency_ns": r.latency_ns, "bytes": r.bytes,
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
                "held_out": l.held_out.map(|(mse, cosine)| json!({ "mse": mse, "cosine": cosine })),
            })
        })
        .collect();
    let held_out = |h: &HeldOut| {
        json!({ "samples": h.samples, "measured": figures(&h.measured), "failures": h.failures })
    };
    json!({
        "gates": it.gates, "samples": it.samples, "measured": figures(&it.measured), "skipped": it.skipped,
        "latency_ns": { "exact": it.latency_ns.0, "chosen": it.latency_ns.1 },
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
