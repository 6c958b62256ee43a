//! What the optimiser did, for the report of `compile`.

use crate::backend::{NearMiss, Optimised};
use crate::report::{Report, Table};
use crate::stats::format_duration;
use serde_json::{Value, json};
use std::time::Duration;

/// Near misses of a rule that are shown.
const MISSES_SHOWN: usize = 3;

/// Sets the keys of the report; the text for people where `text` is set.
pub(super) fn show(report: &mut Report, optimised: &Optimised, fusion: bool, text: bool) {
    let (before, after) = optimised.cost;
    report.set(
        "optimiser",
        json!({
            "cost_ns": { "before": before, "after": after },
            "merged": optimised.merged,
            "skipped": optimised.skipped,
        }),
    );
    if fusion {
        report.set("fusion", fusion_json(optimised));
        if text {
            report.text(&format!("{}\n", fusion_table(optimised)));
        }
    }
    if !text {
        return;
    }
    match &optimised.skipped {
        Some(reason) => report.text(&format!("not optimised: {reason}\n\n")),
        None => report.text(&format!(
            "predicted: {} -> {} a run on the reference machine\n\n",
            format_duration(nanoseconds(before)),
            format_duration(nanoseconds(after))
        )),
    }
}

fn nanoseconds(ns: f64) -> Duration {
    Duration::try_from_secs_f64(ns * 1e-9).unwrap_or(Duration::MAX)
}

fn fusion_json(optimised: &Optimised) -> Value {
    let miss = |m: &NearMiss| json!({ "why": m.why, "count": m.count, "node": m.node });
    optimised
        .recoveries
        .iter()
        .map(|r| {
            let misses: Vec<Value> = r.misses.iter().map(miss).collect();
            json!({ "rule": r.rule, "equation": r.equation, "fired": r.fired, "near_misses": misses })
        })
        .collect()
}

fn fusion_table(optimised: &Optimised) -> String {
    let mut table = Table::new(&["rule", ">fired", ">missed", "nearest misses", "node"]);
    for recovery in &optimised.recoveries {
        let fired = recovery.fired.to_string();
        let mut first = [recovery.rule.as_str(), fired.as_str()];
        if recovery.misses.is_empty() {
            table.row([first[0], first[1], "", "", ""]);
        }
        for miss in recovery.misses.iter().take(MISSES_SHOWN) {
            table.row([first[0], first[1], &miss.count.to_string(), &miss.why, &miss.node]);
            first = ["", ""];
        }
    }
    table.render()
}
