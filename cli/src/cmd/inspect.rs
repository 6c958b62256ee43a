//! `autoglm inspect`

use super::{Ctx, describe};
use crate::args::{InspectArgs, Isa, Section};
use crate::backend::{Description, OpenOptions, StepLine};
use crate::error::CliError;
use crate::report::{Report, Table};
use serde_json::{Value, json};

pub(super) fn run(ctx: &mut Ctx<'_>, args: &InspectArgs) -> Result<Report, CliError> {
    let isa = Isa::Auto;
    let options =
        OpenOptions { threads: 1, isa, jit: false, mmap: true, check_weights: false, interp: false };
    let mut engine = ctx.open(&args.engine, &options)?;
    let description = engine.describe();
    let planned = describe::plan(engine.as_mut(), &args.dims)?;
    let mut report = Report::new();
    for (i, section) in args.show.iter().enumerate() {
        if args.show[..i].contains(section) {
            continue;
        }
        if i > 0 {
            report.text("\n");
        }
        match section {
            Section::Io => describe::io(&mut report, engine.as_ref(), &description),
            Section::Ops => describe::ops(&mut report, &description),
            Section::Memory => describe::memory(&mut report, &description, &planned),
            Section::Manifest => manifest(&mut report, &description),
            Section::Steps => steps(&mut report, &description),
        }
    }
    Ok(report)
}

fn manifest(report: &mut Report, description: &Description) {
    let mut table = Table::new(&["manifest", ""]);
    description.manifest.iter().for_each(|(key, value)| table.row([key, value]));
    let map = description.manifest.iter().map(|(key, value)| (key.clone(), json!(value)));
    report.set("manifest", Value::Object(map.collect()));
    report.text(&table.render());
}

fn steps(report: &mut Report, description: &Description) {
    let mut table = Table::new(&[">step", "kind", "operators", "name", "shapes"]);
    for (i, step) in description.steps.iter().enumerate() {
        table.row([&i.to_string(), &step.kind, &step.ops.join(" "), &step.name, &step.shapes]);
    }
    let step = |s: &StepLine| json!({ "kind": s.kind, "name": s.name, "ops": s.ops, "shapes": s.shapes });
    report.set("steps", Value::Array(description.steps.iter().map(step).collect()));
    report.text(&table.render());
}
