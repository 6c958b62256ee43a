//! Small models, imported and run by the reference interpreter against values computed by hand.

#![allow(clippy::unwrap_used, reason = "a helper of the tests may panic as they do")]

use autoglm_compiler::diag::{Class, Diagnostic};
use autoglm_compiler::import::{ImportOptions, Imported, import};
use autoglm_compiler::onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_type, type_proto,
};
use autoglm_compiler::onnx::{Limits, ModelFile, from_bytes};
use autoglm_ir::{DType, Def, SymbolSource, Tensor, interp};
use prost::Message as _;

const F32: i32 = 1;
const F16: i32 = 10;
const I64: i32 = 7;

/// A model under construction.
struct Model {
    graph: GraphProto,
    opset: i64,
}

/// `"x"` with elements of a type and dimensions such as `"N,3"`.
fn value(name: &str, elem: i32, dims: &str) -> ValueInfoProto {
    let dim = |d: &str| Dimension {
        value: match d.parse() {
            Ok(v) => Some(DimensionValue::DimValue(v)),
            Err(_) if d == "?" => None,
            Err(_) => Some(DimensionValue::DimParam(d.into())),
        },
        ..Dimension::default()
    };
    let dim = dims.split(',').filter(|d| !d.is_empty()).map(dim).collect();
    let tensor = type_proto::Tensor { elem_type: elem, shape: Some(TensorShapeProto { dim }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

fn attr_i(name: &str, v: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::INT, i: Some(v), ..AttributeProto::default() }
}

fn attr_ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::INTS,
        ints: v.into(),
        ..AttributeProto::default()
    }
}

fn attr_s(name: &str, v: &'static str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::STRING,
        s: Some(v.as_bytes().into()),
        ..AttributeProto::default()
    }
}

impl Model {
    fn new(opset: i64) -> Model {
        Model { graph: GraphProto { name: "g".into(), ..GraphProto::default() }, opset }
    }

    fn input(mut self, name: &str, elem: i32, dims: &str) -> Model {
        self.graph.input.push(value(name, elem, dims));
        self
    }

    fn output(mut self, name: &str, elem: i32, dims: &str) -> Model {
        self.graph.output.push(value(name, elem, dims));
        self
    }

    fn floats(mut self, name: &str, dims: &[i64], v: &[f32]) -> Model {
        let t = TensorProto {
            name: name.into(),
            data_type: F32,
            dims: dims.into(),
            float_data: v.into(),
            ..TensorProto::default()
        };
        self.graph.initializer.push(t);
        self
    }

    fn ints(mut self, name: &str, dims: &[i64], v: &[i64]) -> Model {
        let t = TensorProto {
            name: name.into(),
            data_type: I64,
            dims: dims.into(),
            int64_data: v.into(),
            ..TensorProto::default()
        };
        self.graph.initializer.push(t);
        self
    }

    /// `node("y = Add a b", ..)`; the node is called `/Add`.
    fn node(mut self, text: &str, attribute: Vec<AttributeProto>) -> Model {
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

    fn file(self) -> ModelFile {
        let import = OperatorSetIdProto { domain: String::new(), version: self.opset };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![import],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        from_bytes(model.encode_to_vec().into(), &Limits::default()).unwrap()
    }

    fn import(self) -> Imported {
        import(&self.file(), &ImportOptions::default()).unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn errors(self) -> Vec<Diagnostic> {
        import(&self.file(), &ImportOptions::default()).unwrap_err()
    }

    /// The first output for these inputs.
    fn run(self, inputs: &[Tensor]) -> Tensor {
        let imported = self.import();
        interp::run(&imported.graph, inputs).unwrap_or_else(|e| panic!("{e}")).remove(0)
    }
}

fn f(shape: &[usize], v: &[f64]) -> Tensor {
    Tensor::floats(DType::F32, shape.to_vec(), v.to_vec())
}

fn close(got: &Tensor, shape: &[usize], want: &[f64]) {
    assert_eq!(got.shape, shape);
    for (g, w) in got.to_f64().iter().zip(want) {
        assert!((g - w).abs() <= 1e-5 * w.abs().max(1.0), "{:?} instead of {want:?}", got.to_f64());
    }
}

#[test]
fn a_layer_with_a_symbolic_batch() {
    let model = Model::new(13)
        .input("x", F32, "batch,2")
        .floats("w", &[2, 3], &[1.0, 2.0, 3.0, -4.0, 5.0, -6.0])
        .floats("b", &[3], &[0.5, -20.0, 0.0])
        .node("h = Gemm x w b", vec![])
        .node("y = Relu h", vec![])
        .output("y", F32, "batch,3");
    let imported = model.import();
    assert!(imported.warnings.is_empty());
    assert_eq!(imported.graph.symbols.len(), 1);
    // [1,1]*w = [-3,7,-3], [2,0]*w = [2,4,6]
    let y = interp::run(&imported.graph, &[f(&[2, 2], &[1.0, 1.0, 2.0, 0.0])]).unwrap();
    close(&y[0], &[2, 3], &[0.0, 0.0, 0.0, 2.5, 0.0, 6.0]);
}

#[test]
fn softmax_of_f16_rounds_every_step() {
    let model = |dims: &str| {
        Model::new(13).input("x", F16, dims).node("y = Softmax x", vec![]).output("y", F16, dims)
    };
    let x = Tensor::floats(DType::F16, vec![1, 2], vec![0.0, -0.03125]);
    // exp(-1/32) is 1985/2048 in f16, the sum 2016/1024: the quotients round to 1040/2048 and 2017/4096.
    let stepwise = model("1,2").run(std::slice::from_ref(&x));
    assert_eq!(stepwise.to_f64(), [1040.0 / 2048.0, 2017.0 / 4096.0]);
    // 1 / (1 + e^(1/32)) is 0.49218; rows of unknown length are not summed in f16.
    let wide = model("1,n").run(&[x]);
    assert_eq!(wide.to_f64(), [1040.0 / 2048.0, 2016.0 / 4096.0]);
}

#[test]
fn casts_to_powers_of_two_round_as_asked() {
    let codes = |mode: &'static str, saturate: i64| {
        let attrs = vec![attr_i("to", 24), attr_i("saturate", saturate), attr_s("round_mode", mode)];
        let model = Model::new(24).input("x", F32, "5").node("y = Cast x", attrs).output("y", 24, "5");
        model.run(&[f(&[5], &[1.25, -1.25, 1.5, 3e38, f64::INFINITY])]).data.to_vec()
    };
    // Code c stands for 2^(c - 127), 255 for NaN; 3e38 is 1.76 times the largest power.
    assert_eq!(codes("up", 1), [128, 128, 128, 254, 255]);
    assert_eq!(codes("up", 0), [128, 128, 128, 255, 255]);
    assert_eq!(codes("down", 1), [127, 127, 127, 254, 255]);
    assert_eq!(codes("nearest", 1), [127, 127, 128, 254, 255]);
    assert_eq!(codes("nearest", 0), [127, 127, 128, 255, 255]);
}

#[test]
fn slices_and_pads_along_axes_that_are_inputs() {
    let input = |v: &[i64]| Tensor::i64s(vec![v.len()], v);
    let x = f(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let slice = || {
        Model::new(13)
            .input("x", F32, "2,3")
            .input("from", I64, "1")
            .input("to", I64, "1")
            .input("axis", I64, "1")
            .input("step", I64, "1")
            .node("y = Slice x from to axis step", vec![])
            .output("y", F32, "a,b")
    };
    let cut = |v: [i64; 4]| slice().run(&[vec![x.clone()], v.map(|v| input(&[v])).to_vec()].concat());
    close(&cut([1, 9, 1, 1]), &[2, 2], &[1.0, 2.0, 4.0, 5.0]);
    close(&cut([-1, -9, -1, -2]), &[2, 2], &[2.0, 0.0, 5.0, 3.0]);
    close(&cut([0, 1, -2, 1]), &[1, 3], &[0.0, 1.0, 2.0]);
    let graph = slice().import().graph;
    for bad in [[0, 1, 2, 1], [0, 1, -3, 1], [0, 1, 0, 0]] {
        let inputs = [vec![x.clone()], bad.map(|v| input(&[v])).to_vec()].concat();
        assert!(interp::run(&graph, &inputs).is_err(), "{bad:?}");
    }
    let pad = Model::new(18)
        .input("x", F32, "2,3")
        .input("pads", I64, "2")
        .input("axis", I64, "1")
        .node("y = Pad x pads _ axis", vec![])
        .output("y", F32, "a,b");
    let y = pad.run(&[x.clone(), input(&[1, -2]), input(&[-1])]);
    close(&y, &[2, 2], &[0.0, 0.0, 0.0, 3.0]);
}

#[test]
fn equal_names_are_equal_extents_and_unnamed_ones_are_not() {
    let model = Model::new(13)
        .input("a", F32, "n,unk__1")
        .input("b", F32, "n,unk__1")
        .input("c", F32, "?")
        .node("y = Identity a", vec![])
        .output("y", F32, "n,unk__1");
    let graph = model.import().graph;
    let names: Vec<&str> = graph.symbols.keys().map(|s| &**s).collect();
    assert_eq!(names, ["a.1", "b.1", "c.0", "n"]);
    assert_eq!(graph.symbols["n"].source, SymbolSource::InputDim { input: 0, axis: 0 });
}

#[test]
fn bounds_and_fixed_extents() {
    let model =
        || Model::new(13).input("x", F32, "n,s").node("y = Relu x", vec![]).output("y", F32, "n,s").file();
    let options = |dims: &[(&str, i64, i64)]| ImportOptions {
        dims: dims.iter().map(|(n, a, b)| ((*n).to_owned(), *a, *b)).collect(),
        ..ImportOptions::default()
    };
    let graph = import(&model(), &options(&[("n", 4, 4), ("s", 0, 9)])).unwrap().graph;
    assert_eq!(graph.ty(graph.inputs[0]).to_string(), "f32[4,s]");
    assert_eq!((graph.symbols["s"].min, graph.symbols["s"].max), (0, 9));
    assert_eq!(import(&model(), &options(&[("t", 1, 2)])).unwrap_err()[0].code, "E0165");
    assert_eq!(import(&model(), &options(&[("n", 3, 2)])).unwrap_err()[0].code, "E0165");
}

#[test]
fn shape_arithmetic_vanishes() {
    // x[n, s, 4] -> [n, s * 4] through Shape, Gather, Unsqueeze and Concat.
    let graph = Model::new(13)
        .input("x", F32, "n,s,4")
        .ints("zero", &[], &[0])
        .ints("axis", &[1], &[0])
        .ints("rest", &[1], &[-1])
        .node("sh = Shape x", vec![])
        .node("n = Gather sh zero", vec![])
        .node("n1 = Unsqueeze n axis", vec![])
        .node("to = Concat n1 rest", vec![attr_i("axis", 0)])
        .node("y = Reshape x to", vec![])
        .output("y", F32, "n,m")
        .import()
        .graph;
    assert_eq!(graph.ty(graph.outputs[0].value).to_string(), "f32[n,4*s]");
    assert!(graph.guards.is_empty());
}

#[test]
fn a_shape_read_at_run_time() {
    let model = || {
        Model::new(13)
            .input("x", F32, "2,6")
            .input("to", I64, "3")
            .node("y = Reshape x to", vec![])
            .output("y", F32, "?,?,?")
            .import()
            .graph
    };
    let graph = model();
    assert_eq!(graph.symbols.len(), 3);
    let x = f(&[2, 6], &[0.0; 12]);
    let shape =
        |to: &[i64]| interp::run(&graph, &[x.clone(), Tensor::i64s(vec![3], to)]).map(|y| y[0].shape.clone());
    assert_eq!(shape(&[3, 2, 2]).unwrap(), [3, 2, 2]);
    assert_eq!(shape(&[0, -1, 3]).unwrap(), [2, 2, 3]);
    assert_eq!(shape(&[-1, 1, 0]).ok(), None, "0 copies an extent that does not exist, so nothing is left");
    assert!(shape(&[5, 1, 1]).is_err());
    assert!(shape(&[-1, -1, 3]).is_err());
}

#[test]
fn elements_that_nobody_needs_are_no_symbols() {
    let graph = Model::new(13)
        .input("ids", I64, "4")
        .floats("table", &[3, 1], &[1.0, 2.0, 3.0])
        .node("y = Gather table ids", vec![])
        .output("y", F32, "4,1")
        .import()
        .graph;
    assert!(graph.symbols.is_empty() && graph.values.iter().all(|v| v.content.is_none()));
}

#[test]
fn softmax_before_and_after_operator_set_13() {
    let run = |opset| {
        Model::new(opset)
            .input("x", F32, "1,2,2")
            .node("y = Softmax x", vec![attr_i("axis", 1)])
            .output("y", F32, "1,2,2")
            .run(&[f(&[1, 2, 2], &[0.0, 0.0, 2f64.ln(), 0.0])])
    };
    close(&run(11), &[1, 2, 2], &[0.2, 0.2, 0.4, 0.2]);
    close(&run(13), &[1, 2, 2], &[1.0 / 3.0, 0.5, 2.0 / 3.0, 0.5]);
}

#[test]
fn every_unsupported_operator_at_once() {
    let errors = Model::new(13)
        .input("x", F32, "3")
        .node("a = NonZero x", vec![])
        .node("b = Frobnicate x", vec![])
        .node("c = NonZero x", vec![])
        .output("a", I64, "?")
        .errors();
    let titles: Vec<&str> = errors.iter().map(|e| e.title.as_str()).collect();
    assert_eq!(titles.len(), 2);
    assert!(titles[0].contains("Frobnicate") && titles[0].contains("1 node"), "{titles:?}");
    assert!(titles[1].contains("NonZero") && titles[1].contains("2 nodes"), "{titles:?}");
    for e in errors {
        assert_eq!((e.code, e.class), ("E0130", Class::Unsupported));
        assert!(e.help.is_some() && e.node.is_some());
    }
}

#[test]
fn errors_name_the_node_and_its_inputs_and_do_not_cascade() {
    let errors = Model::new(13)
        .input("x", F32, "2,3")
        .floats("w", &[4, 5], &[0.0; 20])
        .node("h = MatMul x w", vec![])
        .node("i = Relu h", vec![])
        .node("j = Transpose x", vec![attr_ints("perm", &[0, 2])])
        .output("i", F32, "2,5")
        .output("j", F32, "3,2")
        .errors();
    assert_eq!(errors.len(), 2);
    let text = errors[0].to_string();
    assert!(text.starts_with("error[E0163]: MatMul: inner dimensions differ (3 vs 4)"), "{text}");
    assert!(text.contains("--> node `/MatMul`"), "{text}");
    assert!(text.contains("input 1 `w`: f32[4,5] from a constant"), "{text}");
    assert_eq!(errors[1].node.as_deref(), Some("/Transpose"));
}

#[test]
fn what_must_be_known_can_be_fixed() {
    let model = || {
        Model::new(18)
            .input("x", F32, "2,3")
            .input("axes", I64, "1")
            .node("y = ReduceSum x axes", vec![attr_i("keepdims", 0)])
            .output("y", F32, "?")
            .file()
    };
    let errors = import(&model(), &ImportOptions::default()).unwrap_err();
    assert_eq!((errors[0].code, errors[0].class), ("E0131", Class::Unsupported));
    let options = ImportOptions {
        fixed: vec![("axes".into(), Tensor::i64s(vec![1], &[-1]))],
        ..ImportOptions::default()
    };
    let graph = import(&model(), &options).unwrap().graph;
    assert_eq!(graph.inputs.len(), 1);
    let y = interp::run(&graph, &[f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]).unwrap();
    close(&y[0], &[2], &[6.0, 15.0]);
}

#[test]
fn a_wrong_declaration_is_a_warning() {
    let imported =
        Model::new(13).input("x", F32, "2").node("y = Relu x", vec![]).output("y", F32, "5").import();
    assert_eq!(imported.warnings.len(), 1);
    assert_eq!(imported.warnings[0].code, "W0160");
    let open = Model::new(13).input("x", F32, "n").node("y = Relu x", vec![]).output("y", F32, "5").import();
    assert_eq!(open.warnings.len(), 1);
    assert_eq!(open.warnings[0].code, "W0162", "a symbol may be 5, but need not");
    assert_eq!(interp::run(&open.graph, &[f(&[5], &[1.0; 5])]).unwrap()[0].shape, [5]);
    let error = interp::run(&open.graph, &[f(&[2], &[1.0; 2])]).unwrap_err();
    assert!(error.op == "guard" && error.message.contains("declared as 5"), "{error}");
}

#[test]
fn slices_backwards_and_beyond_the_end() {
    let run = |start: i64, end: i64, step: i64| {
        Model::new(13)
            .input("x", F32, "n")
            .ints("s", &[1], &[start])
            .ints("e", &[1], &[end])
            .ints("a", &[1], &[0])
            .ints("st", &[1], &[step])
            .node("y = Slice x s e a st", vec![])
            .output("y", F32, "?")
            .run(&[f(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0])])
    };
    close(&run(-1, i64::MIN, -2), &[3], &[4.0, 2.0, 0.0]);
    close(&run(1, i64::MAX, 3), &[2], &[1.0, 4.0]);
    close(&run(-3, -1, 1), &[2], &[2.0, 3.0]);
    close(&run(4, 2, 1), &[0], &[]);
    close(&run(100, -100, -1), &[5], &[4.0, 3.0, 2.0, 1.0, 0.0]);
}

#[test]
fn transposed_convolution_by_tiles_and_by_stuffing() {
    // Each input element adds its multiple of the kernel at its place.
    let run = |stride: i64| {
        Model::new(13)
            .input("x", F32, "1,1,h")
            .floats("w", &[1, 1, 2], &[10.0, 1.0])
            .node("y = ConvTranspose x w", vec![attr_ints("strides", &[stride])])
            .output("y", F32, "1,1,?")
            .run(&[f(&[1, 1, 3], &[1.0, 2.0, 3.0])])
    };
    close(&run(2), &[1, 1, 6], &[10.0, 1.0, 20.0, 2.0, 30.0, 3.0]);
    close(&run(1), &[1, 1, 4], &[10.0, 21.0, 32.0, 3.0]);
    close(&run(3), &[1, 1, 8], &[10.0, 1.0, 0.0, 20.0, 2.0, 0.0, 30.0, 3.0]);
}

#[test]
fn same_padding_of_symbolic_extents() {
    let run = |mode: &'static str, n: usize| {
        Model::new(13)
            .input("x", F32, "1,1,h")
            .node(
                "y = AveragePool x",
                vec![attr_ints("kernel_shape", &[3]), attr_ints("strides", &[2]), attr_s("auto_pad", mode)],
            )
            .output("y", F32, "1,1,?")
            .run(&[f(&[1, 1, n], &(1..=n).map(|v| v as f64).collect::<Vec<_>>())])
    };
    // 4 elements: windows 1..3 and 3..5 with one element of padding, at the end or at the start.
    close(&run("SAME_UPPER", 4), &[1, 1, 2], &[2.0, 3.5]);
    close(&run("SAME_LOWER", 4), &[1, 1, 2], &[1.5, 3.0]);
    close(&run("SAME_UPPER", 5), &[1, 1, 3], &[1.5, 3.0, 4.5]);
}

#[test]
fn linear_resize_of_a_symbolic_extent() {
    let run = |dims: &str| {
        Model::new(13)
            .input("x", F32, dims)
            .floats("scales", &[3], &[1.0, 1.0, 2.0])
            .node("y = Resize x _ scales", vec![attr_s("mode", "linear")])
            .output("y", F32, "1,1,?")
            .run(&[f(&[1, 1, 2], &[0.0, 4.0])])
    };
    for dims in ["1,1,w", "1,1,2"] {
        close(&run(dims), &[1, 1, 4], &[0.0, 1.0, 3.0, 4.0]);
    }
}

#[test]
fn a_resize_of_a_symbolic_extent_whose_corners_stay() {
    let run = |dims: &str| {
        Model::new(13)
            .input("x", F32, dims)
            .floats("scales", &[3], &[1.0, 1.0, 2.0])
            .node(
                "y = Resize x _ scales",
                vec![attr_s("mode", "linear"), attr_s("coordinate_transformation_mode", "align_corners")],
            )
            .output("y", F32, "1,1,?")
            .run(&[f(&[1, 1, 2], &[0.0, 3.0])])
    };
    for dims in ["1,1,w", "1,1,2"] {
        close(&run(dims), &[1, 1, 4], &[0.0, 1.0, 2.0, 3.0]);
    }
}

#[test]
fn a_quotient_of_extents_that_a_window_bounds() {
    let mut model = Model::new(18)
        .input("x", F32, "1,1,h")
        .floats("w", &[1, 1, 3], &[1.0, 1.0, 1.0])
        .ints("two", &[], &[2])
        .ints("one", &[], &[1])
        .ints("row", &[1], &[-1])
        .node("s = Shape x", vec![])
        .node("h = Gather s two", vec![])
        .node("less = Sub h one", vec![])
        .node("half = Div less two", vec![])
        .node("n = Add half one", vec![])
        .node("shape = Reshape n row", vec![]);
    model = model
        .node("c = Conv x w", vec![attr_ints("pads", &[1, 1]), attr_ints("strides", &[2])])
        .node("y = Reshape c shape", vec![])
        .output("y", F32, "?");
    let graph = model.import().graph;
    assert_eq!(graph.ty(graph.outputs[0].value).to_string(), "f32[floordiv(h-1, 2)+1]");
    assert_eq!(graph.symbols["h"].min, 1);
}

#[test]
fn a_quantised_product() {
    // (3 - 1) * (4 - 2) = 4 and so on, in steps of 0.5 * 0.5 / 0.25 = 1, plus the zero point.
    let mut model = Model::new(10).input("x", 2, "1,2").output("y", 2, "1,1");
    for (name, elem, dims, data) in [
        ("xz", 2, vec![], vec![1]),
        ("w", 2, vec![2, 1], vec![4, 1]),
        ("wz", 2, vec![], vec![2]),
        ("yz", 2, vec![], vec![100]),
    ] {
        let t = TensorProto {
            name: name.into(),
            data_type: elem,
            dims,
            int32_data: data,
            ..TensorProto::default()
        };
        model.graph.initializer.push(t);
    }
    let y = model
        .floats("xs", &[], &[0.5])
        .floats("ws", &[], &[0.5])
        .floats("ys", &[], &[0.25])
        .node("y = QLinearMatMul x xs xz w ws wz ys yz", vec![])
        .run(&[Tensor::ints(DType::U8, vec![1, 2], vec![3, 6])]);
    // 2 * 2 + 5 * -1 = -1
    assert_eq!((y.dtype, y.to_i64()), (DType::U8, vec![99]));
}

#[test]
fn einsum_of_a_diagonal_and_a_batch() {
    let run = |equation: &'static str, a: &str, b: &str, x: &Tensor, y: &Tensor| {
        Model::new(13)
            .input("a", F32, a)
            .input("b", F32, b)
            .node("y = Einsum a b", vec![attr_s("equation", equation)])
            .output("y", F32, "?")
            .run(&[x.clone(), y.clone()])
    };
    let (x, y) = (f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), f(&[2], &[10.0, 100.0]));
    close(&run("ii,i->", "2,2", "2", &x, &y), &[], &[410.0]);
    close(&run("ij,j->ji", "n,m", "m", &x, &y), &[2, 2], &[10.0, 30.0, 200.0, 400.0]);
    close(&run("...j,j", "2,2", "2", &x, &y), &[2], &[210.0, 430.0]);
}

#[test]
fn a_constant_is_the_bytes_of_the_file() {
    let mut model = Model::new(13).input("x", F32, "2").node("y = Add x w", vec![]).output("y", F32, "2");
    let raw: Vec<u8> = [1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    model.graph.initializer.push(TensorProto {
        name: "w".into(),
        data_type: F32,
        dims: vec![2],
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    });
    let file = model.file();
    let imported = import(&file, &ImportOptions::default()).unwrap();
    let graph = imported.graph;
    let w = graph.values.iter().find(|v| v.name == "w").unwrap();
    let Def::Const(c) = w.def else { panic!("{:?}", w.def) };
    let autoglm_ir::ConstData::Bytes(bytes) = &graph.consts[c.0 as usize].data else { panic!() };
    let onnx = file.model.graph.as_ref().unwrap();
    assert_eq!(bytes.as_ptr(), onnx.initializer[0].raw_data.as_ref().unwrap().as_ptr());
}

#[test]
fn hostile_attributes_are_errors() {
    let big = [i64::MIN, -1, 0, i64::MAX];
    for v in big {
        let ops = [
            ("y = Transpose x", vec![attr_ints("perm", &[v, 0, 1])]),
            ("y = Flatten x", vec![attr_i("axis", v)]),
            ("y = Softmax x", vec![attr_i("axis", v)]),
            ("y = Concat x x", vec![attr_i("axis", v)]),
            ("y = MaxPool x", vec![attr_ints("kernel_shape", &[v])]),
            ("y = AveragePool x", vec![attr_ints("kernel_shape", &[2]), attr_ints("pads", &[v, v])]),
            ("y = LpPool x", vec![attr_ints("kernel_shape", &[2]), attr_ints("dilations", &[v])]),
            ("y = ConvTranspose x x", vec![attr_i("group", v), attr_ints("strides", &[v])]),
            (
                "y = ConvTranspose x x",
                vec![attr_ints("output_padding", &[v]), attr_ints("output_shape", &[v])],
            ),
            ("y = Conv x x", vec![attr_i("group", v), attr_ints("dilations", &[v])]),
            ("y = LRN x", vec![attr_i("size", v)]),
            ("y = DepthToSpace x", vec![attr_i("blocksize", v)]),
            ("y = Split x", vec![attr_i("num_outputs", v)]),
            ("y = Shape x", vec![attr_i("start", v), attr_i("end", v)]),
            ("y = GroupNormalization x w w", vec![attr_i("num_groups", v)]),
            ("y = EyeLike x", vec![attr_i("dtype", v), attr_i("k", v)]),
            ("y = Cast x", vec![attr_i("to", v)]),
            ("y = TopK x w", vec![attr_i("axis", v)]),
            ("y = Einsum x", vec![attr_s("equation", "...->->,é")]),
            ("y = Resize x _ w", vec![attr_s("mode", "cubic")]),
        ];
        for (text, attrs) in ops {
            let model = Model::new(18)
                .input("x", F32, "2,3,4")
                .floats("w", &[3], &[1.0, 1e-30, 3e7])
                .node(text, attrs)
                .output("y", F32, "?");
            // Whatever the answer, it comes soon and without a panic.
            if let Err(errors) = import(&model.file(), &ImportOptions::default()) {
                assert!(errors.iter().all(|e| e.class != Class::Internal), "{errors:?}");
            }
        }
    }
}

/// A layer over x `[7, 2, 3]` with 4 hidden elements.
fn recurrent(op: &str, attrs: Vec<AttributeProto>) -> Model {
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let zeros = |n: usize| vec![0.0; n];
    Model::new(22)
        .input("x", F32, "7,2,3")
        .floats("w", &[1, 4 * gates, 3], &zeros(12 * gates as usize))
        .floats("r", &[1, 4 * gates, 4], &zeros(16 * gates as usize))
        .node(&format!("y = {op} x w r"), attrs)
        .output("y", F32, "?")
}

fn attr_strings(name: &str, v: &[&'static str]) -> AttributeProto {
    let strings = v.iter().map(|s| s.as_bytes().into()).collect();
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::STRINGS,
        strings,
        ..AttributeProto::default()
    }
}

fn attr_f(name: &str, v: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: attribute_type::FLOAT,
        f: Some(v),
        ..AttributeProto::default()
    }
}

#[test]
fn recurrent_layers_say_what_does_not_fit() {
    let refused = |op: &str, attrs: Vec<AttributeProto>, code: &str, what: &str, help: &str| {
        let errors = recurrent(op, attrs).errors();
        assert_eq!((errors.len(), errors[0].code), (1, code), "{errors:?}");
        let text = errors[0].to_string();
        assert!(text.contains(what) && text.contains(help), "{text}");
    };
    let hidden = attr_i("hidden_size", 5);
    refused(
        "LSTM",
        vec![hidden.clone()],
        "E0163",
        "W along axis 1 differ (16 vs 20)",
        "check hidden_size and direction",
    );
    refused(
        "GRU",
        vec![hidden],
        "E0163",
        "W along axis 1 differ (12 vs 15)",
        "for hidden_size 5 in 1 directions",
    );
    let huge = vec![attr_i("hidden_size", i64::MAX / 2)];
    refused("LSTM", huge, "E0163", "R along axis 2 differ (4 vs 4611686018427387903)", "check hidden_size");
    for negative in [-1, i64::MIN] {
        let hidden = vec![attr_i("hidden_size", negative)];
        refused("GRU", hidden, "E0164", "`hidden_size` must not be negative", &negative.to_string());
    }
    let both = attr_s("direction", "bidirectional");
    refused("RNN", vec![both], "E0163", "W along axis 0 differ (1 vs 2)", "check hidden_size and direction");
    refused(
        "GRU",
        vec![attr_s("direction", "sideways")],
        "E0160",
        "direction=\"sideways\"",
        "supported are forward",
    );
    refused("LSTM", vec![attr_i("layout", 2)], "E0164", "`layout` must be 0 or 1, not 2", "");
    refused("LSTM", vec![attr_f("clip", 0.0)], "E0164", "`clip` must be positive, not 0", "");
    let names = |names: &[&'static str]| vec![attr_strings("activations", names)];
    refused("GRU", names(&["Tanh"]), "E0164", "needs 2 activations for 1 directions, got 1", "");
    refused(
        "GRU",
        names(&["Sigmoid", "Tanh"].repeat(2)),
        "E0164",
        "needs 2 activations for 1 directions, got 4",
        "",
    );
    refused("LSTM", names(&["Tanh"; 6]), "E0164", "needs 3 activations for 1 directions, got 6", "");
    refused("RNN", names(&["Gelu"]), "E0160", "the activation \"Gelu\"", "supported are Affine, Elu");
    refused("RNN", names(&["ScaledTanh"]), "E0164", "`activation_alpha` has no value for ScaledTanh", "");
    // The default of RNN names one for each of two directions.
    recurrent("RNN", names(&["Tanh", "Tanh"])).import();
    recurrent("RNN", names(&["softsign"])).import();
    let vector = Model::new(22)
        .input("x", F32, "7,2,3")
        .input("w", F32, "1,16,3")
        .input("r", F32, "16,4")
        .node("y = LSTM x w r", vec![])
        .output("y", F32, "?");
    let errors = vector.errors();
    assert_eq!(errors[0].code, "E0163");
    assert!(errors[0].to_string().contains("X and R must have three axes"), "{}", errors[0]);
}

#[test]
fn inputs_of_recurrent_layers_are_told_apart() {
    let refused = |op: &str, own: fn(Model) -> Model, inputs: &str, layout: i64, what: &str, help: &str| {
        let mut model = own(recurrent(op, vec![attr_i("layout", layout)]));
        model.graph.node[0].input.extend(inputs.split(' ').map(|w| w.trim_matches('_').to_owned()));
        let text = model.errors()[0].to_string();
        assert!(text.contains("E0163") && text.contains(what) && text.contains(help), "{text}");
    };
    let lengths = |m: Model| m.ints("l", &[7], &[1; 7]);
    let what = "extents of sequence_lens along axis 0 differ (7 vs 2)";
    let help = "help: for a batch of 2, axis 1 of X with layout 0, sequence_lens needs [2]";
    refused("GRU", lengths, "_ l", 0, what, help);
    let help = "help: for a batch of 7, axis 0 of X with layout 1, sequence_lens needs [7]";
    refused("GRU", |m| m.ints("l", &[2], &[1; 2]), "_ l", 1, "(2 vs 7)", help);
    let what = "sequence_lens must have 1 axes, got i64[1,2]";
    refused("RNN", |m| m.ints("l", &[1, 2], &[1; 2]), "_ l", 0, what, "sequence_lens needs [2]");
    let help = "help: for hidden_size 4 in 1 directions and a batch of 2, axis 1 of X with layout 0, initial_h needs [1, 2, 4]";
    refused("LSTM", |m| m.floats("h", &[1, 3, 4], &[0.0; 12]), "_ _ h", 0, "initial_h along axis 1", help);
    let help = "help: for hidden_size 4 in 1 directions B needs [1, 32]; check hidden_size and direction";
    refused("LSTM", |m| m.floats("b", &[1, 16], &[0.0; 16]), "b", 0, "extents of B along axis 1", help);
    refused("LSTM", |m| m.input("b", F16, "1,32"), "b", 0, "X is f32, but input 3 is f16", "");
}

/// ONNX Runtime computes such a layer in f32 too.
#[test]
fn sums_of_f16_layers_are_not_rounded() {
    let mut model = Model::new(22)
        .input("x", F16, "1,1,2")
        .input("w", F16, "1,1,2")
        .input("r", F16, "1,1,1")
        .input("b", F16, "1,2")
        .node("y = RNN x w r b", vec![attr_strings("activations", &["Relu"])])
        .output("y", F16, "?");
    model.graph.node[0].output.push("last".into());
    let half = |shape: &[usize], v: &[f64]| Tensor::floats(DType::F16, shape.to_vec(), v.to_vec());
    let x = half(&[1, 1, 2], &[2048.0, 1.0]);
    let (w, r, b) = (half(&[1, 1, 2], &[1.0, 1.0]), half(&[1, 1, 1], &[0.0]), half(&[1, 2], &[-2048.0, 0.0]));
    // 2049 is not a number of f16: rounded there it is 2048, and nothing is left of the sum.
    let y = model.run(&[x, w, r, b]);
    assert_eq!((y.dtype, y.to_f64()), (DType::F16, vec![1.0]));
}

/// Values of alpha and beta go to the functions that have such a parameter, in order.
#[test]
fn parameters_of_functions_are_taken_in_order() {
    let alpha = AttributeProto {
        name: "activation_alpha".into(),
        r#type: attribute_type::FLOATS,
        floats: vec![0.25, 0.5],
        ..AttributeProto::default()
    };
    let names = attr_strings("activations", &["LeakyRelu", "Tanh", "HardSigmoid"]);
    let graph = recurrent("LSTM", vec![names, alpha]).import().graph;
    let node = graph.nodes.iter().find(|node| node.op.name() == "recurrent").unwrap();
    assert_eq!((node.attrs.float("f_alpha"), node.attrs.get("g_alpha")), (0.25, None));
    assert_eq!((node.attrs.float("h_alpha"), node.attrs.float("h_beta")), (0.5, 0.5));
}
