//! `autoglm run`

use super::{Ctx, execution_json, loops_json, named_outputs, open_options};
use crate::args::RunArgs;
use crate::codes;
use crate::error::{CliError, Exit, escape};
use crate::feed::{self, Missing};
use crate::files;
use crate::report::{Report, Table};
use crate::stats::format_duration;
use crate::tensor::{Array, Summary, elem_name, to_f64};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) fn run(ctx: &mut Ctx<'_>, args: &RunArgs) -> Result<Report, CliError> {
    let labels = args.labels.as_deref().map(files::read_text).transpose()?;
    let start = Instant::now();
    let mut engine = ctx.open(&args.engine, &open_options(&args.exec, args.check_weights))?;
    let load = start.elapsed();
    let (inputs, _) = feed::load(engine.signature(), &args.feed, Missing::Refuse)?;
    engine.bind(inputs)?;
    let start = Instant::now();
    engine.run()?;
    let time = start.elapsed();
    let outputs = named_outputs(engine.as_mut())?;

    let mut report = Report::new();
    report.set("execution", execution_json(engine.as_ref()));
    let paths = match &args.output {
        Some(to) => {
            files::write_tensors(to, &outputs)?.iter().map(|p| Some(p.display().to_string())).collect()
        }
        None => vec![None; outputs.len()],
    };
    show_outputs(&mut report, &outputs, &paths);
    if let Some(k) = args.top {
        let labels: Vec<&str> = labels.as_deref().unwrap_or_default().lines().collect();
        show_top(&mut report, &outputs, k, &labels)?;
    }
    report.set("loops", loops_json(engine.as_ref()));
    if args.timing {
        show_timing(&mut report, load, time);
    }
    ctx.detail(&format!("loaded in {}, ran in {}", format_duration(load), format_duration(time)))?;
    Ok(report)
}

fn show_outputs(report: &mut Report, outputs: &[(String, Array)], paths: &[Option<String>]) {
    let mut table = Table::new(&["output", "type", ">min", ">max", ">mean", ">not finite", "file"]);
    let mut list = Vec::new();
    for ((name, array), path) in outputs.iter().zip(paths) {
        let s = Summary::of(array);
        let number = |x: f64| format!("{x:.6}");
        table.row([
            name,
            &array.describe(),
            &number(s.min),
            &number(s.max),
            &number(s.mean),
            &s.not_finite.to_string(),
            path.as_deref().unwrap_or(""),
        ]);
        list.push(json!({
            "name": name,
            "dtype": elem_name(array.elem),
            "shape": array.dims,
            "min": s.min,
            "max": s.max,
            "mean": s.mean,
            "not_finite": s.not_finite,
            "path": path,
        }));
    }
    report.set("outputs", Value::Array(list));
    report.text(&table.render());
}

/// The `k` largest elements along the last axis of the first output, for each of its rows.
fn show_top(
    report: &mut Report,
    outputs: &[(String, Array)],
    k: usize,
    labels: &[&str],
) -> Result<(), CliError> {
    let classes = outputs.first().and_then(|(_, array)| array.dims.last().copied()).filter(|&n| n > 0);
    let (Some((name, array)), Some(classes)) = (outputs.first(), classes) else {
        return Err(CliError::new(
            codes::TOP,
            Exit::Usage,
            "--top needs a first output with at least one axis",
        ));
    };
    let mut table = Table::new(&[">row", ">index", ">value", "label"]);
    let mut list = Vec::new();
    for (row, values) in to_f64(array).chunks(classes).enumerate() {
        let mut order: Vec<usize> = (0..classes).collect();
        // NaN last, and equal values in the order of their indices.
        let key = |i: usize| if values[i].is_nan() { f64::NEG_INFINITY } else { values[i] };
        order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
        for &index in order.iter().take(k) {
            let label = labels.get(index).copied().unwrap_or("");
            table.row([&row.to_string(), &index.to_string(), &format!("{:.6}", values[index]), label]);
            list.push(json!({ "row": row, "index": index, "value": values[index], "label": label }));
        }
    }
    report.text(&format!("\ntop {k} of \"{}\"\n{}", escape(name), table.render()));
    report.set("top", Value::Array(list));
    Ok(())
}

fn show_timing(report: &mut Report, load: Duration, time: Duration) {
    report.set("timing", json!({ "load_ms": load.as_secs_f64() * 1e3, "run_ms": time.as_secs_f64() * 1e3 }));
    report.text(&format!("\nload {}\nrun  {}\n", format_duration(load), format_duration(time)));
}
