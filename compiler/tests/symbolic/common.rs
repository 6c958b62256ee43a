//! Compiling a model and comparing its engine with the interpreter.

use autoglm_compiler::compile::{CompileOptions, compile};
use autoglm_compiler::lower::elem_type;
use autoglm_compiler::onnx::encode;
use autoglm_compiler::onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_type, type_proto,
};
use autoglm_compiler::onnx::{Limits, from_bytes};
use autoglm_ir::{DType, Graph, Tensor, interp};
use autoglm_runtime::cpu::features::Isa;
use autoglm_runtime::engine::EngineWriter;
use autoglm_runtime::error::RunError;
use autoglm_runtime::session::{Engine, Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorRef};

/// An engine read back from its bytes, and the graph that it was made of.
pub(crate) struct Compiled {
    pub(crate) engine: Engine,
    /// As imported, before any pass.
    pub(crate) graph: Graph,
    pub(crate) warnings: Vec<String>,
    pub(crate) step_kinds: Vec<&'static str>,
}

/// Compiles with `-D` bounds.
pub(crate) fn compiled(model: Vec<u8>, bounds: &[(&str, i64, i64)]) -> Compiled {
    compiled_with(model, bounds, true)
}

/// Compiles with `-D` bounds and perhaps `--no-opt`.
pub(crate) fn compiled_with(model: Vec<u8>, bounds: &[(&str, i64, i64)], optimise: bool) -> Compiled {
    let mut options = CompileOptions { optimise, ..CompileOptions::default() };
    options.import.dims = bounds.iter().map(|(n, lo, hi)| ((*n).to_owned(), *lo, *hi)).collect();
    let mut file = from_bytes(model.into(), &Limits::default()).unwrap();
    let mut graph = None;
    let mut keep = |phase: &'static str, g: &Graph| {
        if phase == "import" {
            graph = Some(g.clone());
        }
    };
    let writer = EngineWriter::in_memory().unwrap();
    let (bytes, report) = compile(&mut file, &options, writer, &mut keep).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    Compiled {
        engine: Engine::from_bytes(bytes.into()).unwrap(),
        graph: graph.unwrap(),
        warnings: report.warnings.iter().map(ToString::to_string).collect(),
        step_kinds: report.step_kinds,
    }
}

/// A session on some threads and the best instruction set.
pub(crate) fn session(engine: &Engine, threads: usize, isa: Option<Isa>) -> Session {
    Session::new(engine.clone(), SessionOptions { threads, isa, ..SessionOptions::default() }).unwrap()
}

/// Sessions with every instruction set of this machine, on one thread and on three.
pub(crate) fn sessions(engine: &Engine) -> Vec<(String, Session)> {
    let mut all = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 3] {
            let name = format!("{} on {threads} threads", isa.name());
            all.push((name, session(engine, threads, Some(isa))));
        }
    }
    all
}

/// Runs an engine on tensors of the IR.
pub(crate) fn run(session: &mut Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
    let hosts: Vec<HostTensor> = inputs
        .iter()
        .map(|t| HostTensor::from_bytes(elem_type(t.dtype).unwrap(), &t.shape, &t.data).unwrap())
        .collect();
    let refs: Vec<TensorRef<'_>> = hosts.iter().map(HostTensor::as_ref).collect();
    let outputs = session.run_alloc(&refs)?;
    let dtype = |host: &HostTensor| {
        let all = [DType::F32, DType::I64, DType::I32, DType::Bool, DType::U8];
        *all.iter().find(|d| elem_type(**d) == Some(host.elem)).unwrap()
    };
    let back = |host: &HostTensor| {
        Tensor::from_bytes(dtype(host), host.dims.clone(), host.bytes.to_vec().into()).unwrap()
    };
    Ok(outputs.iter().map(back).collect())
}

/// How far a result may be from the reference, in units of the reference's root mean square.
///
/// The interpreter rounds once an operation, the kernels at most once a product. A sum of k rounded products is off by
/// about sqrt(k) 2^-24 of its size; k is at most 200 here, and no more than about 30 such layers follow each other, each
/// keeping the relative size of the error: 30 sqrt(200) 2^-24 = 2.5e-5, with a factor of 2 for the polynomials of exp, erf
/// and tanh.
pub(crate) const TOLERANCE: f64 = 5e-5;

/// Requires equal types, and elements equal or, for floats, within [`TOLERANCE`] of the reference.
pub(crate) fn assert_close(what: &str, found: &[Tensor], want: &[Tensor]) {
    assert_eq!(found.len(), want.len(), "{what}");
    for (i, (found, want)) in found.iter().zip(want).enumerate() {
        assert_eq!((found.dtype, &found.shape), (want.dtype, &want.shape), "{what}: output {i}");
        if !want.dtype.is_float() {
            assert_eq!(found.to_i64(), want.to_i64(), "{what}: output {i}");
            continue;
        }
        let (found, want) = (found.to_f64(), want.to_f64());
        let finite: Vec<f64> = want.iter().copied().filter(|v| v.is_finite()).collect();
        let size = (finite.iter().map(|v| v * v).sum::<f64>() / finite.len().max(1) as f64).sqrt();
        for (j, (f, w)) in found.iter().zip(&want).enumerate() {
            let close = (f - w).abs() <= TOLERANCE * size || f == w || f.is_nan() && w.is_nan();
            assert!(close, "{what}: output {i} element {j} is {f}, must be {w} (root mean square {size})");
        }
    }
}

/// Runs an engine in every session and compares with the interpreter, whose results it gives.
pub(crate) fn check(
    what: &str,
    graph: &Graph,
    sessions: &mut [(String, Session)],
    inputs: &[Tensor],
) -> Vec<Tensor> {
    let want = interp::run(graph, inputs).unwrap_or_else(|e| panic!("{what}: the interpreter: {e}"));
    for (name, session) in sessions {
        let found = run(session, inputs).unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
        assert_close(&format!("{what}: {name}"), &found, &want);
    }
    want
}

/// Numbers that look random and are the same everywhere: about uniform in -1..1.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    Tensor::floats(DType::F32, shape.to_vec(), draw(shape, seed).map(|u| u * 2.0 - 1.0).collect())
}

/// Integers in `0..below`.
pub(crate) fn integers(shape: &[usize], below: i64, seed: u64) -> Tensor {
    let values: Vec<i64> = draw(shape, seed).map(|u| (u * below as f64) as i64).collect();
    Tensor::i64s(shape.to_vec(), &values)
}

fn draw(shape: &[usize], seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..shape.iter().product::<usize>()).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

/// A small model under construction.
pub(crate) struct Model {
    graph: GraphProto,
    opset: i64,
}

/// `"x"` with elements of a type and dimensions such as `"N,3"`.
fn info(name: &str, elem: i32, dims: &str) -> ValueInfoProto {
    let value = |d: &str| match d.parse() {
        Ok(v) => DimensionValue::DimValue(v),
        Err(_) => DimensionValue::DimParam(d.into()),
    };
    let dim = dims.split(',').filter(|d| !d.is_empty());
    let dim = dim.map(|d| Dimension { value: Some(value(d)), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: elem, shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

pub(crate) fn int(name: &str, v: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::INT, i: Some(v), ..AttributeProto::default() }
}

pub(crate) fn ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::INTS,
        ints: v.into(),
        ..AttributeProto::default()
    }
}

pub(crate) fn text(name: &str, v: &'static str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::STRING,
        s: Some(v.as_bytes().into()),
        ..AttributeProto::default()
    }
}

impl Model {
    pub(crate) fn new() -> Model {
        Model::at(18)
    }

    /// For an operator set.
    pub(crate) fn at(opset: i64) -> Model {
        Model { graph: GraphProto { name: "g".into(), ..GraphProto::default() }, opset }
    }

    pub(crate) fn floats(mut self, name: &str, dims: &str) -> Model {
        self.graph.input.push(info(name, 1, dims));
        self
    }

    pub(crate) fn integers(mut self, name: &str, dims: &str) -> Model {
        self.graph.input.push(info(name, 7, dims));
        self
    }

    /// An input of i32.
    pub(crate) fn lengths(mut self, name: &str, dims: &str) -> Model {
        self.graph.input.push(info(name, 6, dims));
        self
    }

    /// An output of f32; without dimensions its shape is not declared.
    pub(crate) fn output(mut self, name: &str, dims: Option<&str>) -> Model {
        let mut output = info(name, 1, dims.unwrap_or_default());
        if dims.is_none() {
            output.r#type = None;
        }
        self.graph.output.push(output);
        self
    }

    pub(crate) fn declare(mut self, name: &str, dims: &str) -> Model {
        self.graph.value_info.push(info(name, 1, dims));
        self
    }

    pub(crate) fn weight(self, name: &str, dims: &[usize]) -> Model {
        let values: Vec<f32> = noise(dims, 99).to_f64().into_iter().map(|v| v as f32).collect();
        let mut model = self.numbers(name, &values);
        if let Some(t) = model.graph.initializer.last_mut() {
            t.dims = dims.iter().map(|d| *d as i64).collect();
        }
        model
    }

    /// A constant vector of floats.
    pub(crate) fn numbers(mut self, name: &str, values: &[f32]) -> Model {
        let (dims, values) = (vec![values.len() as i64], values.to_vec());
        let t =
            TensorProto { name: name.into(), data_type: 1, dims, float_data: values, ..Default::default() };
        self.graph.initializer.push(t);
        self
    }

    pub(crate) fn constant(mut self, name: &str, values: &[i64]) -> Model {
        let (dims, values) = (vec![values.len() as i64], values.to_vec());
        let t =
            TensorProto { name: name.into(), data_type: 7, dims, int64_data: values, ..Default::default() };
        self.graph.initializer.push(t);
        self
    }

    /// `node("y = Add a b", ..)`; the node is called `/Add`, `_` leaves an input out.
    pub(crate) fn node(mut self, text: &str, attribute: Vec<AttributeProto>) -> Model {
        let (outs, call) = text.split_once(" = ").unwrap();
        let mut words = call.split(' ');
        let op = words.next().unwrap();
        self.graph.node.push(NodeProto {
            name: format!("/{op}"),
            op_type: op.into(),
            input: words.map(|w| if w == "_" { String::new() } else { w.into() }).collect(),
            output: outs.split(' ').map(String::from).collect(),
            attribute,
            ..NodeProto::default()
        });
        self
    }

    /// The file's bytes. Outputs that nobody named are those of the last node.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        if self.graph.output.is_empty() {
            let names = self.graph.node.last().unwrap().output.clone();
            self = names.iter().fold(self, |m, name| m.output(name, None));
        }
        encode::model(&ModelProto {
            ir_version: 8,
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            ..ModelProto::default()
        })
    }
}
