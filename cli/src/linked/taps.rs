//! The intermediate values of an engine.
//!
//! An engine file has no names for them. Compiling its model again in the same way gives the same program and the
//! names of its values; the engine's own program then runs with these values as further outputs. A model, and an engine
//! whose model gives another program, run as compiled with every named value as an output, without passes.

use super::engine::compilers;
use super::{all, engine_error, open_model, run_error};
use crate::backend::{CompileRequest, OpenOptions, Tap, Taps};
use crate::error::CliError;
use crate::tensor::Array;
use autoglm_compiler::compile::{CompileOptions, compile};
use autoglm_compiler::import::import;
use autoglm_compiler::lower::NamedValue;
use autoglm_ir::SymbolSource;
use autoglm_runtime::engine::manifest::{Manifest, TensorSignature};
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{Port, Program};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorRef};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Runs `engine` or `model` over the inputs and gives the named values. `is_file` says that the engine was not
/// compiled from the model just now, so that its own values count.
pub(super) fn taps(
    engine: &Engine,
    is_file: bool,
    model: &Path,
    options: &OpenOptions,
    inputs: &[HostTensor],
) -> Result<Taps, CliError> {
    let base = like(engine, model)?;
    if is_file {
        let (again, names) = recompile(model, &base)?;
        if **again.program() == **engine.program() {
            let own = with_outputs(engine, &names)?;
            let list = run(own, &names, options, inputs)?;
            return Ok(Taps { list, note: None });
        }
    }
    let (tapped, names) = recompile(model, &CompileOptions { taps: true, ..base })?;
    let list = run(tapped, &names, options, inputs)?;
    let note = is_file.then(|| {
        "the model does not compile to this engine's program: the layers are those of the model, compiled \
         without passes"
            .to_string()
    });
    Ok(Taps { list, note })
}

/// The options that the engine was compiled with: flags and bounds, and extents that were fixed.
fn like(engine: &Engine, model: &Path) -> Result<CompileOptions, CliError> {
    let manifest = engine.manifest();
    let is_set = |key: &str| manifest.options.get(key).is_some_and(|value| value == "true");
    let mut options = CompileOptions { optimise: is_set("optimise"), ..CompileOptions::default() };
    options.passes.strict = is_set("strict");
    options.passes.compact = is_set("compact");
    let file = open_model(&CompileRequest::of_model(model))?;
    let graph = import(&file, &options.import).map_err(|e| all(&e))?.graph;
    for (name, symbol) in &graph.symbols {
        let SymbolSource::InputDim { input, axis } = symbol.source else { continue };
        let input = graph.inputs.get(input).map_or("", |v| &graph.value(*v).name);
        let port = engine.program().inputs.iter().find(|port| port.name == input);
        let extent = port.and_then(|port| port.dim_names.get(axis)?.parse::<i64>().ok());
        let bound = manifest.symbols.get(&**name).map(|b| (b.min, b.max.unwrap_or(symbol.max)));
        if let Some((min, max)) = extent.map(|n| (n, n)).or(bound) {
            options.import.dims.push((name.to_string(), min, max));
        }
    }
    Ok(options)
}

fn recompile(model: &Path, options: &CompileOptions) -> Result<(Engine, Vec<NamedValue>), CliError> {
    let mut file = open_model(&CompileRequest::of_model(model))?;
    let writer = EngineWriter::in_memory().map_err(|e| engine_error(&e))?;
    let (bytes, report) = compile(&mut file, options, writer, &mut |_, _| {}).map_err(|e| all(&e))?;
    let engine = Engine::from_bytes(Arc::from(bytes)).map_err(|e| engine_error(&e))?;
    Ok((engine, report.names))
}

/// The engine with further values as outputs, over the same weights.
fn with_outputs(engine: &Engine, names: &[NamedValue]) -> Result<Engine, CliError> {
    let mut program = Program::clone(engine.program());
    let mut known: BTreeSet<u32> = program.outputs.iter().map(|port| port.value).collect();
    for named in names.iter().filter(|named| known.insert(named.value)) {
        let rank = program.values.get(named.value as usize).map_or(0, |value| value.dims.len());
        let dim_names = (0..rank).map(|axis| format!("axis{axis}")).collect();
        program.outputs.push(Port { name: named.name.clone(), value: named.value, dim_names });
    }
    let signature = |port: &Port| TensorSignature {
        name: port.name.clone(),
        elem: program.values.get(port.value as usize).map_or(u32::MAX, |value| value.elem as u32),
        dims: port.dim_names.clone(),
    };
    let outputs = program.outputs.iter().map(signature).collect();
    let manifest = Manifest { outputs, ..engine.manifest().clone() };
    let write = || {
        let mut writer = EngineWriter::in_memory()?;
        // One piece at the start of the section: every offset stays what it was.
        writer.add_weight(engine.weights())?;
        Engine::from_bytes(Arc::from(writer.finish(&manifest, &program)?))
    };
    write().map_err(|e| engine_error(&e))
}

/// The named values among the outputs of one run.
fn run(
    engine: Engine,
    names: &[NamedValue],
    options: &OpenOptions,
    inputs: &[HostTensor],
) -> Result<Vec<Tap>, CliError> {
    let places: BTreeMap<u32, usize> =
        engine.program().outputs.iter().enumerate().map(|(i, port)| (port.value, i)).collect();
    let session = SessionOptions {
        threads: options.threads,
        isa: options.isa.fixed(),
        code: compilers(options.jit),
        ..SessionOptions::default()
    };
    let mut session = Session::new(engine, session).map_err(|e| run_error(&e))?;
    let refs: Vec<TensorRef<'_>> = inputs.iter().map(HostTensor::as_ref).collect();
    let outputs = session.run_alloc(&refs).map_err(|e| run_error(&e))?;
    let tap = |named: &NamedValue| {
        let output = places.get(&named.value).and_then(|i| outputs.get(*i))?;
        let array = Array::new(output.elem, output.dims.clone(), output.bytes.to_vec());
        Some(array.map(|array| Tap {
            node: named.node.clone(),
            value: named.name.clone(),
            array: array.transposed(&named.perm),
        }))
    };
    names.iter().filter_map(tap).collect()
}
