//! Lowers a graph in textual form, runs it as an engine and compares with the reference interpreter.

use autoglm_compiler::lower::{self, LowerError, Lowered, Options, WeightSink};
use autoglm_ir::{DType, Dim, Graph, Tensor, TensorType, interp, text, verify};
use autoglm_runtime::engine::manifest::TensorSignature;
use autoglm_runtime::engine::{EngineWriter, Manifest};
use autoglm_runtime::program::Port;
use autoglm_runtime::session::{Engine, Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use std::collections::BTreeMap;

/// A deterministic sequence of numbers (Marsaglia's xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn tensor(&mut self, dtype: DType, shape: Vec<usize>) -> Tensor {
        let n = shape.iter().product();
        if dtype.is_float() {
            Tensor::floats(dtype, shape, (0..n).map(|_| self.below(4000) as f64 / 4000.0 - 0.5).collect())
        } else {
            let most = if dtype == DType::Bool { 2 } else { 5 };
            Tensor::ints(dtype, shape, (0..n).map(|_| self.below(most) as i128).collect())
        }
    }
}

struct Sink(EngineWriter);

impl WeightSink for Sink {
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<(u64, u64)> {
        self.0.add_weight(bytes).map_err(std::io::Error::other)
    }
}

pub(crate) fn parse(text: &str) -> Graph {
    let graph = text::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let violations = verify::verify(&graph);
    assert!(violations.is_empty(), "{violations:?}\n{text}");
    graph
}

/// The lowered graph and the engine's bytes.
pub(crate) fn compile(graph: &Graph, options: Options) -> (Lowered, Vec<u8>) {
    let mut sink = Sink(EngineWriter::in_memory().unwrap());
    let lowered = lower::lower_described(graph, options, &mut sink)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", text::print(graph)));
    let program = &lowered.program;
    assert_eq!(program.steps.len(), lowered.ops.len());
    let signature = |port: &Port| TensorSignature {
        name: port.name.clone(),
        elem: program.values[port.value as usize].elem as u32,
        dims: port.dim_names.clone(),
    };
    let manifest = Manifest {
        inputs: program.inputs.iter().map(signature).collect(),
        outputs: program.outputs.iter().map(signature).collect(),
        ..Manifest::default()
    };
    let bytes = sink.0.finish(&manifest, program).unwrap();
    (lowered, bytes)
}

/// Why a graph is not lowered.
pub(crate) fn refusal(graph: &Graph) -> LowerError {
    let mut sink = Sink(EngineWriter::in_memory().unwrap());
    lower::lower(graph, Options::FAST, &mut sink).unwrap_err().remove(0)
}

/// Inputs of a graph with these values of its symbols.
pub(crate) fn inputs(graph: &Graph, symbols: &BTreeMap<&str, i64>, random: &mut Random) -> Vec<Tensor> {
    let extent =
        |d: &Dim| d.eval(&|s| symbols.get(s).copied()).and_then(|d| usize::try_from(d).ok()).unwrap();
    let tensor = |ty: &TensorType| random.tensor(ty.dtype, ty.shape.iter().map(extent).collect());
    graph.inputs.iter().map(|v| graph.ty(*v)).map(tensor).collect()
}

/// Runs an engine on one and on three threads, twice each, and compares every output with the interpreter's.
pub(crate) fn compare(graph: &Graph, engine: &[u8], inputs: &[Tensor]) {
    let want = interp::run(graph, inputs).unwrap_or_else(|e| panic!("{e}\n{}", text::print(graph)));
    let engine = Engine::from_bytes(engine.into()).unwrap_or_else(|e| panic!("{e}\n{}", text::print(graph)));
    let given: Vec<HostTensor> = inputs
        .iter()
        .map(|t| HostTensor::from_bytes(lower::elem_type(t.dtype).unwrap(), &t.shape, &t.data).unwrap())
        .collect();
    let given: Vec<_> = given.iter().map(HostTensor::as_ref).collect();
    for threads in [1, 3] {
        let options = SessionOptions { threads, ..SessionOptions::default() };
        let mut session = Session::new(engine.clone(), options).unwrap();
        for _ in 0..2 {
            let got = session.run_alloc(&given).unwrap_or_else(|e| panic!("{e}\n{}", text::print(graph)));
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got.dims, want.shape, "output {i}\n{}", text::print(graph));
                let got =
                    Tensor::from_bytes(want.dtype, want.shape.clone(), got.bytes.to_vec().into()).unwrap();
                close(&got, want, &format!("output {i}, {threads} threads\n{}", text::print(graph)));
            }
        }
    }
}

fn close(got: &Tensor, want: &Tensor, what: &str) {
    let (absolute, relative) = match want.dtype {
        DType::F32 => (1e-5, 1e-5),
        DType::F64 => (1e-12, 1e-12),
        DType::F16 | DType::BF16 => (2e-2, 1e-2),
        _ => (0.0, 0.0),
    };
    for (i, (g, w)) in got.to_f64().into_iter().zip(want.to_f64()).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= absolute + relative * w.abs();
        assert!(same, "element {i} is {g} instead of {w}, {what}");
    }
}

/// Kinds of the steps of the optimised program, and how many are plain copies; both programs are run for all symbol values.
pub(crate) fn check(source: &str, symbols: &[&[(&str, i64)]]) -> Steps {
    let graph = parse(source);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (fast, engine) = compile(&graph, Options::FAST);
    let (_, plain) = compile(&graph, Options::PLAIN);
    for symbols in symbols {
        let inputs = inputs(&graph, &symbols.iter().copied().collect(), &mut random);
        compare(&graph, &engine, &inputs);
        compare(&graph, &plain, &inputs);
    }
    Steps::of(&fast)
}

/// What a program does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Kinds in order; a loop that only copies is `Copy`, a step with an epilogue has a `+`, one of several nests
    /// their number.
    pub(crate) kinds: Vec<String>,
    /// Operators of each step.
    pub(crate) ops: Vec<String>,
}

impl Steps {
    fn of(lowered: &Lowered) -> Steps {
        let program = &lowered.program;
        use autoglm_runtime::program::StepKind;
        use autoglm_runtime::tile::Instr;
        let copies = |tile: u32| {
            let body = program.tiles[tile as usize].body.as_slice();
            matches!(body, [Instr::Load { .. }, Instr::Store { .. }])
        };
        let kind = |kind: &StepKind| match kind {
            StepKind::Tile { tile, .. } => {
                let body = &program.tiles[*tile as usize].body;
                let copy = |pair: &[Instr]| matches!(pair, [Instr::Load { .. }, Instr::Store { .. }]);
                match (body.chunks(2).all(copy), body.len()) {
                    (true, 2) => "Copy".to_string(),
                    (true, _) => "Copies".to_string(),
                    _ => "Tile".to_string(),
                }
            }
            StepKind::Tiles { nests } => {
                let name = if nests.iter().all(|n| copies(n.tile)) { "Copy" } else { "Tile" };
                format!("{name}*{}", nests.len())
            }
            StepKind::MatMul { epilogue: Some(_), .. } | StepKind::Conv { epilogue: Some(_), .. } => {
                format!("{}+", kind.name())
            }
            _ => kind.name().to_string(),
        };
        let kinds = program.steps.iter().map(|s| kind(&s.kind)).collect();
        Steps { kinds, ops: lowered.ops.iter().map(|ops| ops.join(" ")).collect() }
    }

    /// Kinds joined with spaces.
    pub(crate) fn list(&self) -> String {
        self.kinds.join(" ")
    }
}
