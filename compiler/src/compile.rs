//! From a model file to an engine: import, passes, lowering, emission.

use crate::accuracy::{self, Accuracy, AccuracyReport};
use crate::codes;
use crate::costs;
use crate::diag::{Class, Diagnostic};
use crate::import::{ImportOptions, import};
use crate::lower::{self, LowerError, Lowered, NamedValue, WeightSink, WeightZeros, lower_described};
use crate::onnx::file::ModelFile;
use autoglm_ir::graph::Output;
use autoglm_ir::{Graph, ValueId};
use autoglm_passes as passes;
use autoglm_runtime::engine::EngineWriter;
use autoglm_runtime::engine::manifest::{Manifest, SymbolBound, TensorSignature};
use autoglm_runtime::error::EngineError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What to compile and how.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// How the model is read.
    pub import: ImportOptions,
    /// What the passes may do.
    pub passes: passes::Options,
    /// Whether to optimise. If not, only [`passes::BASELINE`] runs, every ONNX node keeps a step of its own and every result
    /// has memory of its own: the same kernels in the same layout, and nothing else.
    pub optimise: bool,
    /// Every value with an ONNX name becomes an output, and no pass runs, as passes remove names.
    pub taps: bool,
    /// Whether zeros in weights that form a pattern are left out. Under `strict` they never are: a zero that is not there
    /// is no factor of an infinity.
    pub sparse: bool,
    /// How far the engine may be from the model; none for an exact engine.
    pub accuracy: Option<Accuracy>,
    /// The passes of an optimising compile, in order.
    pub pipeline: &'static [&'static passes::Pass],
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            import: ImportOptions::default(),
            passes: passes::Options { costs: costs::reference().ok(), ..passes::Options::default() },
            optimise: true,
            taps: false,
            sparse: true,
            accuracy: None,
            pipeline: passes::PIPELINE,
        }
    }
}

/// A phase that is over.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name; that of the pass, if it is one.
    pub name: &'static str,
    /// How long it took, with the verification of its graph.
    pub time: Duration,
    /// Nodes of the graph before and after; none for a phase that does not change the graph.
    pub nodes: Option<(usize, usize)>,
}

/// What a compile did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Phases in order.
    pub phases: Vec<Phase>,
    /// Warnings of the import.
    pub warnings: Vec<Diagnostic>,
    /// Nodes after import.
    pub imported_nodes: usize,
    /// Nodes that were lowered.
    pub final_nodes: usize,
    /// Kinds of the engine's steps, in order.
    pub step_kinds: Vec<&'static str>,
    /// What the optimiser did, if it ran.
    pub explanation: Option<passes::egraph::Explanation>,
    /// What a compression did, if one was asked for.
    pub accuracy: Option<AccuracyReport>,
    /// The program's values that hold a value with an ONNX name, in execution order.
    pub names: Vec<NamedValue>,
    /// Zeros of the constant weights, in execution order.
    pub zeros: Vec<WeightZeros>,
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
    let (mut explanation, mut accuracy) = (None, None);
    let fast = lower::Options { sparse: options.sparse && !options.passes.strict, ..lower::Options::FAST };
    let (graph, how) = match &options.accuracy {
        _ if options.taps => (with_taps(graph), lower::Options::PLAIN),
        Some(wanted) if options.optimise => {
            let (graph, said, report) = compress(graph, options, wanted, &mut clock, observer)?;
            (explanation, accuracy) = (Some(said), Some(report));
            (graph, fast)
        }
        _ => {
            let (pipeline, how) = match options.optimise {
                true => (options.pipeline, fast),
                false => (passes::BASELINE, lower::Options::BASELINE),
            };
            (run_passes(pipeline, graph, options, &mut clock, observer, &mut explanation)?, how)
        }
    };
    let mut sink = Sink { writer };
    let Lowered { program, names, ops, zeros } = lower_described(&graph, how, &mut sink)
        .map_err(|errors| errors.iter().map(diagnostic).collect::<Vec<_>>())?;
    clock.lap("lower", None);
    let mut manifest = manifest(model, &graph, options, accuracy.as_ref());
    manifest.step_ops = ops.iter().map(|ops| ops.join(" ")).collect();
    let step_kinds = program.steps.iter().map(|s| s.kind.name()).collect();
    let bytes = sink.writer.finish(&manifest, &program).map_err(|e| vec![emission(&e)])?;
    clock.lap("emit", None);
    let final_nodes = graph.nodes.len();
    let phases = clock.laps;
    let report = Report {
        phases,
        warnings,
        imported_nodes,
        final_nodes,
        step_kinds,
        explanation,
        accuracy,
        names,
        zeros,
    };
    Ok((bytes, report))
}

/// The imported graph and what the import warned about.
fn frontend(
    model: &mut ModelFile,
    options: &CompileOptions,
    clock: &mut Clock,
    observer: Observer<'_>,
) -> Result<(Graph, Vec<Diagnostic>), Vec<Diagnostic>> {
    let imported = import(model, &options.import)?;
    let found = autoglm_ir::verify::verify(&imported.graph);
    if let Some(first) = found.first() {
        return Err(vec![bug(format!("the import gave an invalid graph: {first}"))]);
    }
    clock.lap("import", Some((0, imported.graph.nodes.len())));
    observer("import", &imported.graph);
    clock.skip();
    Ok((imported.graph, imported.warnings))
}

/// The graph with every named result of a node as an output; its own outputs come first.
fn with_taps(mut graph: Graph) -> Graph {
    let mut known: BTreeSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    let mut names: BTreeSet<String> = graph.outputs.iter().map(|o| o.name.clone()).collect();
    for value in graph.nodes.iter().flat_map(|node| &node.outs) {
        let name = &graph.values[value.0 as usize].name;
        if !name.is_empty() && known.insert(*value) && names.insert(name.clone()) {
            graph.outputs.push(Output { name: name.clone(), value: *value });
        }
    }
    graph
}

/// Passes in order.
fn run_passes(
    pipeline: &[&'static passes::Pass],
    graph: Graph,
    options: &CompileOptions,
    clock: &mut Clock,
    observer: Observer<'_>,
    explanation: &mut Option<passes::egraph::Explanation>,
) -> Result<Graph, Vec<Diagnostic>> {
    let mut step = |step: &passes::Step<'_>| {
        clock.lap(step.pass.name, Some((step.before.nodes.len(), step.after.nodes.len())));
        observer(step.pass.name, step.after);
        if let Some(said) = step.explanation {
            *explanation = Some(said.clone());
        }
        clock.skip();
    };
    passes::run_all(pipeline, graph, &options.passes, &mut step).map_err(|e| vec![bug(e.to_string())])
}

/// All passes in order, with the search for a compressed graph in the place of the optimiser.
fn compress(
    graph: Graph,
    options: &CompileOptions,
    wanted: &Accuracy,
    clock: &mut Clock,
    observer: Observer<'_>,
) -> Result<(Graph, passes::egraph::Explanation, AccuracyReport), Vec<Diagnostic>> {
    let canonical = run_passes(&[&passes::CANONICALISE], graph, options, clock, observer, &mut None)?;
    let fail = |e| vec![Diagnostic::error(codes::CALIBRATION, Class::Invalid, e)];
    let mut show = |phase, before: &Graph, after: &Graph| {
        if let Some(first) = autoglm_ir::verify::verify(after).first() {
            return Err(vec![bug(format!("`{phase}` gave an invalid graph: {first}"))]);
        }
        clock.lap(phase, Some((before.nodes.len(), after.nodes.len())));
        observer(phase, after);
        clock.skip();
        Ok(())
    };
    let ordered = accuracy::ordered(&canonical, &options.passes, wanted).map_err(fail)?;
    show("permute", &canonical, &ordered.graph)?;
    let (graph, said, report) =
        accuracy::optimise(&canonical, &ordered, &options.passes, wanted).map_err(fail)?;
    show("compress", &ordered.graph, &graph)?;
    let graph = run_passes(passes::after_search(), graph, options, clock, observer, &mut None)?;
    Ok((graph, said, report))
}

fn bug(message: String) -> Diagnostic {
    Diagnostic::error(codes::PASS, Class::Internal, message).help("This is a bug in autoglm.")
}

struct Clock {
    last: Instant,
    laps: Vec<Phase>,
}

impl Clock {
    fn new() -> Clock {
        Clock { last: Instant::now(), laps: Vec::new() }
    }

    fn lap(&mut self, name: &'static str, nodes: Option<(usize, usize)>) {
        let now = Instant::now();
        self.laps.push(Phase { name, time: now - self.last, nodes });
        self.last = now;
    }

    /// What happened since the last lap belongs to no phase.
    fn skip(&mut self) {
        self.last = Instant::now();
    }
}

/// Weights that go to an engine's writer.
pub(crate) struct Sink {
    pub(crate) writer: EngineWriter,
}

impl WeightSink for Sink {
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<(u64, u64)> {
        self.writer.add_weight(bytes).map_err(std::io::Error::other)
    }
}

fn diagnostic(error: &LowerError) -> Diagnostic {
    let class = match error.code {
        codes::LOWER_UNSUPPORTED | codes::LOWER_TOO_LARGE => Class::Unsupported,
        codes::LOWER_IO => Class::Invalid,
        _ => Class::Internal,
    };
    Diagnostic::error(error.code, class, format!("{}: {}", error.op, error.message)).at(&error.loc)
}

fn emission(error: &EngineError) -> Diagnostic {
    Diagnostic::error(error.code(), Class::Invalid, error.to_string())
}

/// An input or output as the manifest names it.
pub(crate) fn signature(graph: &Graph, name: &str, value: ValueId) -> TensorSignature {
    let ty = graph.ty(value);
    let elem = lower::elem(ty.dtype).map_or(u32::MAX, |e| e as u32);
    TensorSignature { name: name.into(), elem, dims: ty.shape.iter().map(ToString::to_string).collect() }
}

/// Everything that names the engine for people; equal inputs and options give equal bytes.
fn manifest(
    model: &mut ModelFile,
    graph: &Graph,
    options: &CompileOptions,
    accuracy: Option<&AccuracyReport>,
) -> Manifest {
    let model_hash = model.content_hash().as_bytes().to_vec();
    let mut op_histogram = BTreeMap::new();
    for node in model.model.graph.iter().flat_map(|g| &g.node) {
        *op_histogram.entry(node.op_type.clone()).or_insert(0) += 1;
    }
    let opsets = model.model.opset_import.iter();
    let signature = |name: &str, value| signature(graph, name, value);
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
        options: [
            ("optimise".into(), options.optimise.to_string()),
            ("strict".into(), options.passes.strict.to_string()),
            ("compact".into(), options.passes.compact.to_string()),
        ]
        .into_iter()
        .chain(accuracy.map(AccuracyReport::facts).unwrap_or_default())
        .collect(),
        op_histogram,
        step_ops: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoglm_ir::{Def, NodeId, OpId, TensorType};

    /// A graph that no import makes: the matrix product of two vectors.
    fn broken() -> Graph {
        let mut graph =
            autoglm_ir::text::parse("graph @g (%x: f32[3,3]) {\n %0 = matmul %x, %x\n return %0 }")
                .unwrap_or_else(|e| panic!("{e:?}"));
        graph.values[0].ty = TensorType::new(autoglm_ir::DType::F32, vec![3.into()]);
        assert_eq!(Some(graph.node(NodeId(0)).op), OpId::of("matmul"));
        assert_eq!(graph.value(ValueId(1)).def, Def::Node(NodeId(0), 0));
        graph
    }

    #[test]
    fn a_pass_that_fails_is_a_bug() {
        let options = CompileOptions::default();
        let result =
            run_passes(options.pipeline, broken(), &options, &mut Clock::new(), &mut |_, _| {}, &mut None);
        let problems = result.map(|_| ()).unwrap_err();
        assert_eq!((problems[0].code, problems[0].class), (codes::PASS, Class::Internal));
    }
}
