//! `autoglm inspect`

use super::{Ctx, counts_json, signature_json};
use crate::args::{InspectArgs, Isa, Section};
use crate::backend::OpenOptions;
use crate::error::CliError;
use crate::feed::describe;
use crate::report::{Report, Table};
use crate::stats::format_bytes;
use serde_json::{Value, json};

pub(super) fn run(ctx: &mut Ctx<'_>, args: &InspectArgs) -> Result<Report, CliError> {
    let isa = Isa::Auto;
    let options =
        OpenOptions { threads: 1, isa, jit: false, mmap: true, check_weights: false, interp: false };
    let engine = ctx.open(&args.engine, &options)?;
    let description = engine.describe();
    let mut report = Report::new();
    for (i, section) in args.show.iter().enumerate() {
        if args.show[..i].contains(section) {
            continue;
        }
        let (title, value, table) = match section {
            Section::Io => {
                let signature = engine.signature();
                let mut table = Table::new(&["", "name", "type"]);
                for (kind, ports) in [("in", &signature.inputs), ("out", &signature.outputs)] {
                    ports.iter().for_each(|port| table.row([kind, &port.name, &describe(port)]));
                }
                ("io", signature_json(signature), table)
            }
            Section::Ops => {
                let mut table = Table::new(&["operation", ">count"]);
                description.ops.iter().for_each(|(name, n)| table.row([name, &n.to_string()]));
                ("ops", counts_json(&description.ops), table)
            }
            Section::Memory => {
                let mut table = Table::new(&["memory", ">size"]);
                description.memory.iter().for_each(|(name, n)| table.row([name, &format_bytes(*n)]));
                ("memory", counts_json(&description.memory), table)
            }
            Section::Manifest => {
                let mut table = Table::new(&["manifest", ""]);
                description.manifest.iter().for_each(|(key, value)| table.row([key, value]));
                let map = description.manifest.iter().map(|(key, value)| (key.clone(), json!(value)));
                ("manifest", Value::Object(map.collect()), table)
            }
            Section::Steps => {
                let mut table = Table::new(&[">step", "kind", "name", "shapes"]);
                for (i, [kind, name, shapes]) in description.steps.iter().enumerate() {
                    table.row([&i.to_string(), kind, name, shapes]);
                }
                let step = |[kind, name, shapes]: &[String; 3]| json!({ "kind": kind, "name": name, "shapes": shapes });
                ("steps", Value::Array(description.steps.iter().map(step).collect()), table)
            }
        };
        report.set(title, value);
        if i > 0 {
            report.text("\n");
        }
        report.text(&table.render());
    }
    Ok(report)
}
