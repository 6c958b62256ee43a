//! `autoglm verify`

use super::{Ctx, execution_json, loops_json, named_outputs, open_options};
use crate::args::VerifyArgs;
use crate::backend::{Engine, OpenOptions, Signature, Tap};
use crate::codes;
use crate::compare::{Comparison, Tolerance, compare};
use crate::error::{CliError, Exit, escape};
use crate::feed::{self, Missing};
use crate::report::{Report, Table};
use crate::tensor::Array;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn run(ctx: &mut Ctx<'_>, args: &VerifyArgs) -> Result<Report, CliError> {
    let options = open_options(&args.exec, true);
    let mut engine = ctx.open(&args.engine, &options)?;
    let mut report = Report::new();
    report.set("execution", execution_json(engine.as_ref()));
    report.set("integrity", "ok");
    report.text("integrity: ok\n");
    if args.against.is_none() && args.feed.data.is_none() {
        return Ok(report);
    }
    let (inputs, notes) = feed::load(engine.signature(), &args.feed, Missing::Generate)?;
    for note in &notes {
        ctx.note(note)?;
    }
    report.set("assumed", notes);
    let tolerance = Tolerance { atol: args.atol, rtol: args.rtol, min_cosine: args.min_cosine };
    engine.bind(inputs.clone())?;
    engine.run()?;
    report.set("loops", loops_json(engine.as_ref()));
    let ours = named_outputs(engine.as_mut())?;

    let mut reference = None;
    let expected = match (&args.against, &args.feed.data) {
        (Some(model), _) => {
            let mut other = ctx.open(model, &OpenOptions { interp: true, ..options })?;
            bind_by_name(other.as_mut(), engine.signature(), inputs)?;
            other.run()?;
            let outputs = named_outputs(other.as_mut())?;
            reference = Some(other);
            outputs
        }
        (None, Some(dir)) => {
            let ports = &engine.signature().outputs;
            let arrays = feed::load_folder(ports, dir, "output")?;
            ports.iter().map(|port| port.name.clone()).zip(arrays).collect()
        }
        (None, None) => Vec::new(),
    };
    let expected: Vec<Named<'_>> = expected.iter().map(Named::output).collect();
    let ours: Vec<Named<'_>> = ours.iter().map(Named::output).collect();
    let outputs = judge(&mut report, "outputs", &ours, &expected, &tolerance);
    let mut failed: Vec<CliError> = outputs.into_iter().map(|(_, error)| error).collect();
    if let (true, Some(mut reference), Some(model)) = (args.per_layer, reference, &args.against) {
        let (ours, expected) = (engine.taps(model)?, reference.taps(model)?);
        if let Some(note) = &ours.note {
            ctx.note(&format!("note: {note}"))?;
        }
        report.set("layers_note", ours.note.clone());
        failed.extend(layers(&mut report, &ours.list, &expected.list, &tolerance));
    }
    if let Some(error) = CliError::all(failed) {
        report.fail(error);
    }
    Ok(report)
}

/// Gives `engine` the inputs of another signature, which may be in another order.
fn bind_by_name(engine: &mut dyn Engine, from: &Signature, inputs: Vec<Array>) -> Result<(), CliError> {
    let mut by_name: BTreeMap<&str, Array> =
        from.inputs.iter().map(|port| port.name.as_str()).zip(inputs).collect();
    let mut ordered = Vec::new();
    for port in &engine.signature().inputs {
        let array = by_name.remove(port.name.as_str()).ok_or_else(|| {
            CliError::new(
                codes::OTHER_MODEL,
                Exit::Invalid,
                format!("the engine has no input \"{}\"", port.name),
            )
            .help("compare the engine with the model that it was compiled from")
        })?;
        ordered.push(array);
    }
    engine.bind(ordered)
}

/// A tensor and what it is called.
struct Named<'a> {
    name: &'a str,
    array: &'a Array,
}

impl Named<'_> {
    fn output((name, array): &(String, Array)) -> Named<'_> {
        Named { name, array }
    }

    fn tap(tap: &Tap) -> Named<'_> {
        Named { name: &tap.value, array: &tap.array }
    }
}

/// Compares intermediate values in execution order. The error names the first node whose result differs, and the
/// nodes directly before it whose results the engine does not keep.
fn layers(report: &mut Report, ours: &[Tap], reference: &[Tap], tolerance: &Tolerance) -> Option<CliError> {
    let names: Vec<Named<'_>> = reference.iter().map(Named::tap).collect();
    let ours: Vec<Named<'_>> = ours.iter().map(Named::tap).collect();
    let failed = judge(report, "layers", &ours, &names, tolerance);
    let (at, first) = failed.into_iter().next()?;
    let kept = |tap: &&Tap| ours.iter().any(|own| own.name == tap.value);
    let before: Vec<&str> =
        reference[..at].iter().rev().take_while(|tap| !kept(tap)).map(|tap| tap.node.as_str()).collect();
    let tap = &reference[at];
    report.set("first_difference", json!({ "node": tap.node, "value": tap.value, "unseen": before }));
    report.text(&format!("\nfirst node that differs: \"{}\"\n", escape(&tap.node)));
    let mut error = first.within(&format!("the first node that differs is \"{}\"", tap.node));
    if !before.is_empty() {
        let list: Vec<String> = before.iter().rev().map(|node| format!("\"{node}\"")).collect();
        let text = format!("results that the engine does not keep, directly before it: {}", list.join(", "));
        error = error.detail(text).help("compile with --no-opt to see them");
    }
    Some(error)
}

/// Compares the tensors of `reference` that `ours` has too, in the order of the reference. Gives what failed and
/// its place in the reference.
fn judge(
    report: &mut Report,
    what: &str,
    ours: &[Named<'_>],
    reference: &[Named<'_>],
    tolerance: &Tolerance,
) -> Vec<(usize, CliError)> {
    let by_name: BTreeMap<&str, &Array> = ours.iter().map(|own| (own.name, own.array)).collect();
    let mut table = Table::new(&[what, "", ">cosine", ">max |error|", ">outside", ">needed atol"]);
    let (mut failed, mut list) = (Vec::new(), Vec::new());
    for (at, Named { name, array: expected }) in reference.iter().enumerate() {
        let Some(array) = by_name.get(name) else {
            // Values that were fused away are not to be had; an output always is.
            if what == "outputs" {
                failed.push((at, accuracy(what, name, "the engine does not have it")));
            }
            continue;
        };
        let result = compare(array, expected, tolerance);
        show(&mut table, name, &result);
        list.push(result.to_json(name));
        if !result.pass {
            failed.push((at, accuracy(what, name, &result.summary())));
        }
    }
    report.set(what, list);
    report.text(&format!("\n{}", table.render()));
    failed
}

fn accuracy(what: &str, name: &str, why: &str) -> CliError {
    let kind = what.trim_end_matches('s');
    CliError::new(codes::ACCURACY, Exit::Accuracy, format!("{kind} \"{name}\": {why}"))
}

fn show(table: &mut Table, name: &str, result: &Comparison) {
    let verdict = if result.pass { "pass" } else { "FAIL" };
    table.row([
        name,
        verdict,
        &format!("{:.6}", result.cosine),
        &format!("{:.3e}", result.max_abs),
        &result.outside.to_string(),
        &format!("{:.3e}", result.needed_atol),
    ]);
}
