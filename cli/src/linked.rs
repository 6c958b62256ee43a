//! The backend of the real program: the compiler, the runtime and the reference interpreter.

mod compression;
mod engine;
mod interpreter;
mod optimiser;
mod taps;

use crate::backend::{
    Backend, CompileRequest, Compiled, Engine, KeepIr, OpenOptions, Phase, Port, PortDim, Signature,
};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::peak::rss_peak_kb;
use crate::spec::{Costs, Limit};
use autoglm_compiler::compile::{CompileOptions, compile};
use autoglm_compiler::costs::reference;
use autoglm_compiler::diag::{Class, Diagnostic, Severity};
use autoglm_compiler::import::{Imported, import};
use autoglm_compiler::onnx::error::ReadError;
use autoglm_compiler::onnx::file::{self, ModelFile};
use autoglm_compiler::onnx::limits::Limits;
use autoglm_ir::{DType, Dim, Graph};
use autoglm_passes as passes;
use autoglm_passes::egraph::CostTable;
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::{Engine as EngineFile, EngineWriter, Mode, format};
use autoglm_runtime::error::{EngineError, RunError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Compiler and runtime.
pub struct Linked;

impl Backend for Linked {
    fn compile(&self, request: &CompileRequest) -> Result<Compiled, CliError> {
        let mut model = open_model(request)?;
        let mut options = options(request)?;
        if let Some(compress) = &request.compress {
            let Imported { graph, .. } = import(&model, &options.import).map_err(|e| all(&e))?;
            options.accuracy = Some(compression::accuracy(&graph, compress)?);
        }
        let writer = match &request.output {
            Some(path) => EngineWriter::create(path),
            None => EngineWriter::in_memory(),
        };
        let mut texts = Vec::new();
        let mut before = Vec::new();
        let mut canonical = None;
        let mut peaks = Vec::new();
        let mut keep = |name: &'static str, graph: &Graph| {
            peaks.push((name, rss_peak_kb()));
            if name == passes::CANONICALISE.name && request.egraph.is_some() {
                canonical = Some(graph.clone());
            }
            if name == "import" {
                before = count(graph.nodes.iter().map(|n| n.op.name()));
            }
            let wanted = match &request.keep_ir {
                KeepIr::No => false,
                KeepIr::Phase(phase) => phase == name,
                KeepIr::All => true,
            };
            if wanted {
                texts.push((name, autoglm_ir::text::print(graph)));
            }
        };
        let writer = writer.map_err(|e| engine_error(&e))?;
        let (_, report) = compile(&mut model, &options, writer, &mut keep).map_err(|e| all(&e))?;
        peaks.extend(report.phases.last().map(|last| (last.name, rss_peak_kb())));
        let phase = |phase: &autoglm_compiler::compile::Phase| {
            let ir = texts.iter().find(|(n, _)| *n == phase.name).map(|(_, text)| text.clone());
            let rss_peak_kb = peaks.iter().find(|(n, _)| *n == phase.name).and_then(|(_, peak)| *peak);
            Phase { name: phase.name.into(), time: phase.time, nodes: phase.nodes, ir, rss_peak_kb }
        };
        Ok(Compiled {
            phases: report.phases.iter().map(phase).collect(),
            ops_before: before,
            ops_after: count(report.step_kinds.iter().copied()),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
            optimised: report.explanation.as_ref().map(optimiser::optimised),
            egraph: match request.egraph {
                Some(format) => Some(optimiser::draw(canonical.as_ref(), &options.passes, format)?),
                None => None,
            },
            compression: report.accuracy.as_ref().map(compression::compression),
            zeros: report.zeros.iter().map(compression::zeros).collect(),
        })
    }

    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Box<dyn Engine>, CliError> {
        if is_engine(path)? {
            if options.interp {
                return Err(CliError::usage("the reference interpreter runs ONNX models, not engines"));
            }
            let mode = if options.mmap { Mode::Map } else { Mode::Read };
            let file = EngineFile::open_with(path, mode).map_err(|e| engine_error(&e))?;
            return Ok(Box::new(engine::Native::new(file, options, None)?));
        }
        let request = CompileRequest::of_model(path);
        if options.interp {
            let model = open_model(&request)?;
            let Imported { graph, .. } =
                import(&model, &self::options(&request)?.import).map_err(|e| all(&e))?;
            return Ok(Box::new(interpreter::Interpreter::new(graph)?));
        }
        self.open_exact(&request, options)
    }

    fn open_exact(
        &self,
        request: &CompileRequest,
        options: &OpenOptions,
    ) -> Result<Box<dyn Engine>, CliError> {
        let mut model = open_model(request)?;
        let writer = EngineWriter::in_memory().map_err(|e| engine_error(&e))?;
        let compiled = compile(&mut model, &self::options(request)?, writer, &mut |_, _| {});
        let (bytes, _) = compiled.map_err(|e| all(&e))?;
        drop(model);
        let file = EngineFile::from_bytes(Arc::from(bytes)).map_err(|e| engine_error(&e))?;
        Ok(Box::new(engine::Native::new(file, options, Some(&request.model))?))
    }

    fn check(&self, request: &CompileRequest) -> Result<Vec<CliError>, CliError> {
        let mut model = open_model(request)?;
        let writer = EngineWriter::in_memory().map_err(|e| engine_error(&e))?;
        match compile(&mut model, &options(request)?, writer, &mut |_, _| {}) {
            Ok(_) => Ok(Vec::new()),
            Err(problems) => Ok(problems.iter().map(diagnostic).collect()),
        }
    }

    fn operators(&self, model: &Path) -> Result<Vec<String>, CliError> {
        let file = open_model(&CompileRequest::of_model(model))?;
        let nodes = file.model.graph.iter().flat_map(|graph| &graph.node);
        Ok(nodes.map(|node| node.op_type.clone()).collect())
    }

    fn opt(&self, text: &str, pass_names: &[String], rule: Option<&str>) -> Result<String, CliError> {
        rule.map_or(Ok(()), optimiser::require)?;
        let graphs =
            autoglm_ir::text::parse_all(text, &autoglm_ir::text::Pool::default()).map_err(|errors| {
                let list = errors
                    .iter()
                    .map(|e| CliError::new(codes::IR_TEXT, Exit::Invalid, e.to_string()))
                    .collect();
                CliError::all(list)
                    .unwrap_or_else(|| CliError::new(codes::IR_TEXT, Exit::Invalid, "no graph"))
            })?;
        let mut out = String::new();
        for mut graph in graphs {
            // What a pass is given must be valid, or its own mistakes could not be told from those of the file.
            let found = autoglm_ir::verify::verify(&graph);
            if !found.is_empty() {
                let list = found.iter().map(|v| CliError::new(codes::IR_TEXT, Exit::Invalid, v.to_string()));
                return Err(CliError::all(list.collect())
                    .unwrap_or_else(|| CliError::new(codes::IR_TEXT, Exit::Invalid, "invalid graph")));
            }
            for name in pass_names {
                let known: Vec<&str> = passes::all().map(|p| p.name).collect();
                let pass =
                    passes::by_name(name).ok_or_else(|| crate::spec::unknown_name("pass", name, &known))?;
                graph = passes::run(pass, &graph, &passes::Options::default())
                    .map_err(|e| CliError::new(autoglm_compiler::codes::PASS, Exit::Bug, e.to_string()))?;
            }
            if let Some(rule) = rule {
                graph = optimiser::apply(&graph, rule)?;
            }
            out.push_str(&autoglm_ir::text::print(&graph));
        }
        Ok(out)
    }
}

fn is_engine(path: &Path) -> Result<bool, CliError> {
    use std::io::Read as _;
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| CliError::io(path, "read", &e))?;
    file.take(format::PAGE).read_to_end(&mut head).map_err(|e| CliError::io(path, "read", &e))?;
    Ok(format::is_engine(&head))
}

fn open_model(request: &CompileRequest) -> Result<ModelFile, CliError> {
    file::open(&request.model, &limits(request)?).map_err(|e| read_error(&e))
}

fn limits(request: &CompileRequest) -> Result<Limits, CliError> {
    let mut limits = Limits::default();
    for limit in &request.limits {
        set_limit(&mut limits, limit)?;
    }
    limits.allow_links = request.allow_external_links;
    Ok(limits)
}

fn set_limit(limits: &mut Limits, limit: &Limit) -> Result<(), CliError> {
    let slot = match limit.key.as_str() {
        "nodes" => &mut limits.nodes,
        "initializers" => &mut limits.initializers,
        "attributes" => &mut limits.attributes,
        "functions" => &mut limits.functions,
        "name-bytes" => &mut limits.name_bytes,
        "metadata-bytes" => &mut limits.metadata_bytes,
        "decoded-bytes" => &mut limits.decoded_bytes,
        "tensor-bytes" => &mut limits.tensor_bytes,
        "sparse-bytes" => &mut limits.sparse_bytes,
        other => {
            let known = [
                "nodes",
                "initializers",
                "attributes",
                "functions",
                "name-bytes",
                "metadata-bytes",
                "decoded-bytes",
                "tensor-bytes",
                "sparse-bytes",
            ];
            return Err(crate::spec::unknown_name("limit", other, &known));
        }
    };
    *slot = limit.value;
    Ok(())
}

fn options(request: &CompileRequest) -> Result<CompileOptions, CliError> {
    let mut options = CompileOptions { optimise: !request.no_opt, ..CompileOptions::default() };
    options.import.limits = limits(request)?;
    options.passes.strict = request.strict;
    options.passes.compact = request.compact;
    options.passes.costs = costs(&request.costs)?;
    options.sparse = request.sparse;
    let bound = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
    options.import.dims = request.dims.iter().map(|b| (b.name.clone(), bound(b.min), bound(b.max))).collect();
    Ok(options)
}

/// The table of measured kernels that is asked for.
fn costs(wanted: &Costs) -> Result<Option<Arc<CostTable>>, CliError> {
    match wanted {
        Costs::Roofline => Ok(None),
        Costs::Measured => reference().map(Some).map_err(|e| CliError::new(codes::BUG, Exit::Bug, e)),
        Costs::Table(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| CliError::io(path, "read", &e))?;
            let fail = |e| CliError::new(codes::COSTS, Exit::Invalid, format!("{}: {e}", path.display()));
            CostTable::parse(&text).map(|table| Some(Arc::new(table))).map_err(fail)
        }
    }
}

/// How often each name occurs, sorted by name.
fn count<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(String, u64)> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name.to_string()).or_insert(0) += 1);
    counts.into_iter().collect()
}

fn diagnostic(d: &Diagnostic) -> CliError {
    let exit = match d.class {
        Class::Invalid => Exit::Invalid,
        Class::Unsupported => Exit::Unsupported,
        Class::Budget => Exit::Budget,
        Class::Internal => Exit::Bug,
    };
    let mut error = CliError::new(d.code, exit, d.title.clone());
    if let Some(node) = &d.node {
        error = error.detail(format!("node {node:?}"));
    }
    error = d.notes.iter().fold(error, |e, note| e.detail(note.clone()));
    match &d.help {
        Some(help) => error.help(help.clone()),
        None => error,
    }
}

fn all(problems: &[Diagnostic]) -> CliError {
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).map(diagnostic).collect();
    CliError::all(errors).unwrap_or_else(|| CliError::new(codes::BUG, Exit::Bug, "failed without a reason"))
}

fn read_error(error: &ReadError) -> CliError {
    let exit = if error.code == autoglm_compiler::codes::LIMIT { Exit::Budget } else { Exit::Invalid };
    let problem = CliError::new(error.code, exit, error.message.clone());
    match &error.help {
        Some(help) => problem.help(help.clone()),
        None => problem,
    }
}

fn engine_error(error: &EngineError) -> CliError {
    let exit = match error {
        EngineError::Hash { .. } | EngineError::Length { .. } | EngineError::Padding { .. } => {
            Exit::Integrity
        }
        EngineError::Version { .. } => Exit::Target,
        _ => Exit::Invalid,
    };
    CliError::new(error.code(), exit, error.to_string())
}

fn run_error(error: &RunError) -> CliError {
    let exit = match error {
        RunError::Unsupported { .. } => Exit::Unsupported,
        RunError::Threads { .. } => Exit::Budget,
        RunError::Memory { .. } | RunError::OutOfMemory(_) | RunError::Work { .. } => Exit::Budget,
        RunError::Panic(_) => Exit::Bug,
        _ => Exit::Invalid,
    };
    CliError::new(error.code(), exit, error.to_string())
}

/// The engine's element type for the interpreter's.
fn elem(dtype: DType) -> Result<ElemType, CliError> {
    autoglm_compiler::lower::elem_type(dtype).ok_or_else(|| {
        CliError::new(codes::EXCHANGE, Exit::Unsupported, format!("{dtype} tensors cannot be exchanged"))
    })
}

fn port_dim(text: &str) -> PortDim {
    text.parse().map_or_else(|_| PortDim::Symbol(text.into()), PortDim::Fixed)
}

/// The signature of a graph.
fn signature(graph: &Graph) -> Result<Signature, CliError> {
    let port = |name: &str, v| -> Result<Port, CliError> {
        let ty = graph.ty(v);
        let dim = |d: &Dim| d.as_usize().map_or_else(|| PortDim::Symbol(d.to_string()), PortDim::Fixed);
        Ok(Port { name: name.into(), elem: elem(ty.dtype)?, dims: ty.shape.iter().map(dim).collect() })
    };
    let inputs = graph.inputs.iter().map(|v| port(&graph.value(*v).name, *v)).collect::<Result<_, _>>()?;
    let outputs = graph.outputs.iter().map(|o| port(&o.name, o.value)).collect::<Result<_, _>>()?;
    Ok(Signature { inputs, outputs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_cannot_be_exchanged() {
        let error = elem(DType::Str).unwrap_err();
        assert_eq!((error.code, error.exit), ("E0702", Exit::Unsupported));
        assert_eq!(elem(DType::F32), Ok(ElemType::F32));
    }
}
