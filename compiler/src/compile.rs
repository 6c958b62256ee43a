//! From a model file to an engine: import, passes, lowering, emission.

use crate::diag::{Class, Diagnostic};
use crate::import::{ImportOptions, import};
use crate::lower::{LowerError, WeightSink, lower};
use crate::onnx::file::ModelFile;
use autoglm_ir::Graph;
use autoglm_passes as passes;
use autoglm_runtime::engine::EngineWriter;
use autoglm_runtime::engine::manifest::{Manifest, SymbolBound, TensorSignature};
use autoglm_runtime::error::EngineError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What to compile and how.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// How the model is read.
    pub import: ImportOptions,
    /// What the passes may do.
    pub passes: passes::Options,
    /// Whether to run the passes at all.
    pub optimise: bool,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            import: ImportOptions::default(),
            passes: passes::Options::default(),
            optimise: true,
        }
    }
}

/// What a compile did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Phases in order, and how long each took.
    pub phases: Vec<(&'static str, Duration)>,
    /// Warnings of the import.
    pub warnings: Vec<Diagnostic>,
    /// Nodes after import.
    pub imported_nodes: usize,
    /// Nodes that were lowered.
    pub final_nodes: usize,
    /// Kinds of the engine's steps, in order.
    pub step_kinds: Vec<&'static str>,
}

/// Sees the graph after every phase; `import` comes first.
pub type Observer<'a> = &'a mut dyn FnMut(&'static str, &Graph);

/// Compiles a model and finishes the writer. Gives the engine's bytes if the writer is in memory, else none.
///
/// Nothing is left behind at the writer's target if this fails.
pub fn compile(
    model: &mut ModelFile,
    options: &CompileOptions,
    writer: EngineWriter,
    observer: Observer<'_>,
) -> Result<(Vec<u8>, Report), Vec<Diagnostic>> {
    let mut clock = Clock::new();
    let (graph, warnings) = frontend(model, options, &mut clock, observer)?;
    let imported_nodes = graph.nodes.len();
    let graph = if options.optimise { optimise(graph, options, &mut clock, observer)? } else { graph };
    let mut sink = Sink { writer };
    let program =
        lower(&graph, &mut sink).map_err(|errors| errors.iter().map(diagnostic).collect::<Vec<_>>())?;
    clock.lap("lower");
    let manifest = manifest(model, &graph, options);
    let step_kinds = program.steps.iter().map(|s| s.kind.name()).collect();
    let bytes = sink.writer.finish(&manifest, &program).map_err(|e| vec![emission(&e)])?;
    clock.lap("emit");
    let final_nodes = graph.nodes.len();
    Ok((bytes, Report { phases: clock.laps, warnings, imported_nodes, final_nodes, step_kinds }))
}

/// The imported graph and what the import warned about.
fn frontend(
    model: &mut ModelFile,
    options: &CompileOptions,
    clock: &mut Clock,
    observer: Observer<'_>,
) -> Result<(Graph, Vec<Diagnostic>), Vec<Diagnostic>> {
    let imported = import(model, &options.import)?;
    clock.lap("import");
    observer("import", &imported.graph);
    Ok((imported.graph, imported.warnings))
}

/// All passes in order.
fn optimise(
    mut graph: Graph,
    options: &CompileOptions,
    clock: &mut Clock,
    observer: Observer<'_>,
) -> Result<Graph, Vec<Diagnostic>> {
    for pass in passes::PIPELINE {
        graph = passes::run(pass, &graph, &options.passes).map_err(|e| {
            vec![Diagnostic::error("E0301", Class::Internal, e.to_string()).help("This is a bug in autoglm.")]
        })?;
        clock.lap(pass.name);
        observer(pass.name, &graph);
    }
    Ok(graph)
}

struct Clock {
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn new() -> Clock {
        Clock { last: Instant::now(), laps: Vec::new() }
    }

    fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.laps.push((name, now - self.last));
        self.last = now;
    }
}

struct Sink {
    writer: EngineWriter,
}

impl WeightSink for Sink {
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<(u64, u64)> {
        self.writer.add_weight(bytes).map_err(std::io::Error::other)
    }
}

fn diagnostic(error: &LowerError) -> Diagnostic {
    let class = match error.code {
        "E0401" => Class::Unsupported,
        "E0403" => Class::Invalid,
        "E0404" => Class::Budget,
        _ => Class::Internal,
    };
    Diagnostic::error(error.code, class, format!("{}: {}", error.op, error.message)).at(&error.loc)
}

fn emission(error: &EngineError) -> Diagnostic {
    Diagnostic::error(error.code(), Class::Invalid, error.to_string())
}

/// Everything that names the engine for people; equal inputs and options give equal bytes.
fn manifest(model: &mut ModelFile, graph: &Graph, options: &CompileOptions) -> Manifest {
    let model_hash = model.content_hash().as_bytes().to_vec();
    let mut op_histogram = BTreeMap::new();
    for node in model.model.graph.iter().flat_map(|g| &g.node) {
        *op_histogram.entry(node.op_type.clone()).or_insert(0) += 1;
    }
    let opsets = model.model.opset_import.iter();
    let signature = |name: &str, value| {
        let ty = graph.ty(value);
        let elem = crate::lower::elem(ty.dtype).map_or(u32::MAX, |e| e as u32);
        TensorSignature { name: name.into(), elem, dims: ty.shape.iter().map(ToString::to_string).collect() }
    };
    let bound =
        |s: &autoglm_ir::Symbol| SymbolBound { min: s.min, max: (s.max != i64::MAX).then_some(s.max) };
    Manifest {
        producer_version: env!("CARGO_PKG_VERSION").into(),
        model_name: graph.name.clone(),
        model_hash,
        opsets: opsets.map(|o| (o.domain.clone(), o.version)).collect(),
        inputs: graph.inputs.iter().map(|v| signature(&graph.value(*v).name, *v)).collect(),
        outputs: graph.outputs.iter().map(|o| signature(&o.name, o.value)).collect(),
        symbols: graph.symbols.iter().map(|(name, s)| (name.to_string(), bound(s))).collect(),
        options: BTreeMap::from([
            ("optimise".into(), options.optimise.to_string()),
            ("strict".into(), options.passes.strict.to_string()),
        ]),
        op_histogram,
    }
}
