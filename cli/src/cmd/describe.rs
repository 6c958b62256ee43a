//! What `inspect` shows of an engine, and `compile` of the one that it wrote.

use super::{counts_json, signature_json};
use crate::args::FeedArgs;
use crate::backend::{Description, Engine, MemoryUse, Port, PortDim, Signature, SymbolRange};
use crate::error::CliError;
use crate::feed::{self, Missing, describe};
use crate::report::{Report, Table};
use crate::stats::format_bytes;
use serde_json::{Value, json};

/// Bytes of inputs that are made up for a plan, at most.
const INPUTS_MAX: u64 = 1 << 30;

/// The memory of one run, and for which extents.
pub(super) struct Planned {
    dims: Vec<(String, u64)>,
    /// Extents that nobody gave.
    assumed: Vec<String>,
    memory: Option<MemoryUse>,
    /// Why there is no plan.
    reason: Option<String>,
}

/// Plans a run over inputs of these extents; symbols that are not given take the smallest value above 0 that is allowed. Inputs that
/// such extents or made-up contents do not suit, or that would be too large to make up, give no plan.
///
/// # Errors
/// A name in `given` that is no symbol.
pub(super) fn plan(engine: &mut dyn Engine, given: &[(String, u64)]) -> Result<Planned, CliError> {
    let symbols = engine.describe().symbols;
    let mut planned = Planned { dims: given.to_vec(), assumed: Vec::new(), memory: None, reason: None };
    for dim in engine.signature().inputs.iter().flat_map(|port| &port.dims) {
        let PortDim::Symbol(name) = dim else { continue };
        if planned.dims.iter().all(|(known, _)| known != name) {
            let bounds = symbols.iter().find(|s| s.name == *name);
            let min = bounds.map_or(1, |s| s.min.max(1).min(s.max.unwrap_or(i64::MAX)));
            let min = u64::try_from(min).unwrap_or(0);
            planned.dims.push((name.clone(), min));
            planned.assumed.push(format!("{name}={min} (assumed)"));
        }
    }
    let bytes = inputs_bytes(engine.signature(), &planned.dims);
    if bytes > INPUTS_MAX {
        let most = format_bytes(INPUTS_MAX);
        planned.reason = Some(format!("inputs of {} are not made up, at most {most}", format_bytes(bytes)));
        return Ok(planned);
    }
    let args = FeedArgs { inputs: Vec::new(), data: None, dims: planned.dims.clone(), seed: 0, image: None };
    let (inputs, _) = feed::load(engine.signature(), &args, Missing::Generate)?;
    match engine.bind(inputs) {
        Ok(()) => planned.memory = engine.memory(),
        Err(error) => planned.reason = Some(error.message),
    }
    Ok(planned)
}

/// Bytes of all inputs; extents that are no plain symbol count as 1.
fn inputs_bytes(signature: &Signature, dims: &[(String, u64)]) -> u64 {
    let extent = |dim: &PortDim| match dim {
        PortDim::Fixed(extent) => *extent as u64,
        PortDim::Symbol(name) => {
            dims.iter().find(|(known, _)| known == name).map_or(1, |(_, extent)| *extent)
        }
    };
    let bytes = |port: &Port| port.dims.iter().map(extent).fold(port.elem.size() as u64, u64::saturating_mul);
    signature.inputs.iter().map(bytes).fold(0, u64::saturating_add)
}

/// Inputs, outputs and symbols.
pub(super) fn io(report: &mut Report, engine: &dyn Engine, description: &Description) {
    let signature = engine.signature();
    let mut table = Table::new(&["", "name", "type"]);
    for (kind, ports) in [("in", &signature.inputs), ("out", &signature.outputs)] {
        ports.iter().for_each(|port| table.row([kind, &port.name, &describe(port)]));
    }
    for SymbolRange { name, min, max } in &description.symbols {
        let max = max.map_or(String::new(), |max| max.to_string());
        table.row(["symbol", name, &format!("{min}..{max}")]);
    }
    let symbol = |s: &SymbolRange| json!({ "name": s.name, "min": s.min, "max": s.max });
    let mut value = signature_json(signature);
    value["symbols"] = description.symbols.iter().map(symbol).collect();
    report.set("io", value);
    report.text(&table.render());
}

/// Operations of the model and steps of the engine.
pub(super) fn ops(report: &mut Report, description: &Description) {
    let mut table = Table::new(&["operation", ">count"]);
    description.ops.iter().for_each(|(name, n)| table.row([name, &n.to_string()]));
    report.set("ops", counts_json(&description.ops));
    report.text(&table.render());
    if !description.step_kinds.is_empty() {
        let mut table = Table::new(&["step", ">count"]);
        description.step_kinds.iter().for_each(|(name, n)| table.row([name, &n.to_string()]));
        report.text(&format!("\n{}", table.render()));
    }
    report.set("step_kinds", counts_json(&description.step_kinds));
}

/// Sections of the file and memory of a run.
pub(super) fn memory(report: &mut Report, description: &Description, planned: &Planned) {
    let mut table = Table::new(&["memory", ">size"]);
    let mut value = serde_json::Map::new();
    for (name, bytes) in &description.sections {
        table.row([name, &format_bytes(*bytes)]);
    }
    value.insert("sections".into(), counts_json(&description.sections));
    if let Some(memory) = planned.memory {
        for (name, key, bytes) in [
            ("arena", "arena_bytes", memory.arena),
            ("arena, lower bound", "lower_bound_bytes", memory.lower_bound),
            ("scratch", "scratch_bytes", memory.scratch),
        ] {
            table.row([name, &format_bytes(bytes)]);
            value.insert(key.into(), json!(bytes));
        }
    }
    let dims = planned.dims.iter().map(|(name, n)| (name.clone(), json!(n)));
    value.insert("dims".into(), Value::Object(dims.collect()));
    value.insert("assumed".into(), json!(planned.assumed));
    value.insert("reason".into(), json!(planned.reason));
    report.set("memory", Value::Object(value));
    report.text(&table.render());
    if let Some(line) = note(planned) {
        report.text(&format!("{}\n", crate::error::escape(&line)));
    }
}

/// For which extents the memory is, or why it is not known.
fn note(planned: &Planned) -> Option<String> {
    if let Some(reason) = &planned.reason {
        return Some(format!("the memory of a run is not known: {reason}"));
    }
    let given = planned.dims.iter().take(planned.dims.len() - planned.assumed.len());
    let given = given.map(|(name, n)| format!("{name}={n}"));
    let all: Vec<String> = given.chain(planned.assumed.iter().cloned()).collect();
    (!all.is_empty() && planned.memory.is_some()).then(|| format!("a run with {}", all.join(", ")))
}
