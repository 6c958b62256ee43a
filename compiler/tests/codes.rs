//! Problems that the other tests do not reach, by their codes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm_compiler::diag::Class;
use autoglm_compiler::import::{ImportOptions, import};
use autoglm_compiler::lower::{Options, WeightSink, lower};
use autoglm_compiler::onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_type, type_proto,
};
use autoglm_compiler::onnx::{Limits, ModelFile, from_bytes};
use autoglm_ir::{Graph, text};
use prost::Message as _;

fn value(name: &str, elem_type: i32, dims: Option<&[i64]>) -> ValueInfoProto {
    let dim = |d: &i64| Dimension { value: Some(DimensionValue::DimValue(*d)), ..Dimension::default() };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let ty = type_proto::Value::TensorType(type_proto::Tensor { elem_type, shape });
    let ty = TypeProto { value: Some(ty), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// `y = op(inputs)` with an integer attribute.
fn model(opset: i64, input: ValueInfoProto, op: &str, inputs: &[&str], attr: (&str, i64)) -> ModelFile {
    let attribute = AttributeProto {
        name: attr.0.into(),
        r#type: attribute_type::INT,
        i: Some(attr.1),
        ..AttributeProto::default()
    };
    let node = NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|i| (*i).into()).collect(),
        output: vec!["y".into()],
        attribute: if attr.0.is_empty() { vec![] } else { vec![attribute] },
        ..NodeProto::default()
    };
    let complex = TensorProto {
        name: "complex".into(),
        data_type: 14,
        dims: vec![1],
        raw_data: Some(vec![0; 8].into()),
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: vec![complex],
        input: vec![input],
        output: vec![value("y", 1, None)],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    from_bytes(model.encode_to_vec().into(), &Limits::default()).unwrap()
}

#[test]
fn what_the_import_refuses() {
    let x = || value("x", 1, Some(&[2, 3]));
    let code = |model: ModelFile| {
        let problems = import(&model, &ImportOptions::default()).map(|_| ()).unwrap_err();
        (problems[0].code, problems[0].class)
    };
    assert_eq!(code(model(13, x(), "Relu", &["complex"], ("", 0))), ("E0160", Class::Unsupported));
    assert_eq!(code(model(13, value("x", 1, None), "Relu", &["x"], ("", 0))), ("E0161", Class::Unsupported));
    assert_eq!(code(model(13, x(), "Add", &["x"], ("", 0))), ("E0162", Class::Invalid));
    assert_eq!(code(model(13, x(), "Softmax", &["x"], ("axis", 5))), ("E0164", Class::Invalid));
}

fn refusal(model: &ModelFile) -> (&'static str, String) {
    let problem = import(model, &ImportOptions::default()).map(|_| ()).unwrap_err().swap_remove(0);
    (problem.code, problem.to_string())
}

#[test]
fn attributes_that_the_version_does_not_have() {
    let x = || value("x", 1, Some(&[2, 3]));
    let given = |opset, op: &str, name| model(opset, x(), op, &["x"], (name, 1));
    let (code, text) = refusal(&given(13, "Softmax", "axes"));
    assert_eq!(code, "E0136");
    assert!(
        text.contains("Softmax: version 13 has no attribute `axes`\n  --> node `Softmax -> y`"),
        "{text}"
    );
    assert!(text.contains("help: remove it: Softmax of version 13 has axis"), "{text}");
    let (code, text) = refusal(&given(24, "ReduceSum", "axes"));
    assert_eq!(code, "E0136");
    assert!(
        text.contains("ReduceSum has it in version 1, 11; of version 13 it has keepdims, noop"),
        "{text}"
    );
    assert_eq!(refusal(&given(13, "Relu", "axis")).0, "E0136");
    assert!(refusal(&given(13, "Relu", "axis")).1.contains("Relu of version 13 has no attribute"));
    // Marks of tools, which onnx.checker passes over too.
    assert!(import(&given(13, "Relu", "__axis"), &ImportOptions::default()).is_ok());
}

#[test]
fn attributes_of_another_type() {
    let mut model = model(13, value("x", 1, Some(&[2, 3])), "Softmax", &["x"], ("axis", 1));
    let attribute = &mut model.model.graph.as_mut().unwrap().node[0].attribute[0];
    (attribute.r#type, attribute.i, attribute.f) = (attribute_type::FLOAT, None, Some(1.0));
    let (code, text) = refusal(&model);
    assert_eq!(code, "E0134");
    assert!(text.contains("the attribute `axis` of `Softmax` must be int, but is float"), "{text}");
    // An importer that never asks for an attribute.
    let mut model = self::model(13, value("x", 1, Some(&[2, 3])), "Dropout", &["x"], ("seed", 1));
    assert!(import(&model, &ImportOptions::default()).is_ok());
    let attribute = &mut model.model.graph.as_mut().unwrap().node[0].attribute[0];
    (attribute.r#type, attribute.i, attribute.f) = (attribute_type::FLOAT, None, Some(1.0));
    assert_eq!(refusal(&model).0, "E0134");
}

#[test]
fn more_inputs_or_outputs_than_the_operator_has() {
    let given = |inputs: &[&str], outputs: &[&str]| {
        let mut model = model(13, value("x", 1, Some(&[2, 3])), "Relu", inputs, ("", 0));
        let node = &mut model.model.graph.as_mut().unwrap().node[0];
        node.output = outputs.iter().map(|o| (*o).into()).collect();
        model
    };
    let (code, text) = refusal(&given(&["x", "x", "x"], &["y"]));
    assert_eq!(code, "E0166");
    assert!(text.contains("Relu: has 3 inputs, but version 13 takes at most 1"), "{text}");
    assert!(text.contains("help: remove input 1 and those behind it"), "{text}");
    let (code, text) = refusal(&given(&["x"], &["y", "z"]));
    assert_eq!(code, "E0166");
    assert!(text.contains("Relu: has 2 outputs, but version 13 takes at most 1"), "{text}");
    // Names left empty stand for nothing.
    assert!(import(&given(&["x", ""], &["y", ""]), &ImportOptions::default()).is_ok());
}

#[test]
fn a_newer_operator_set_is_a_warning() {
    let imported =
        import(&model(99, value("x", 1, Some(&[2])), "Relu", &["x"], ("", 0)), &ImportOptions::default());
    assert_eq!(imported.unwrap().warnings[0].code, "W0161");
}

/// Takes nothing.
struct Full;

impl WeightSink for Full {
    fn add(&mut self, _: &[u8]) -> std::io::Result<(u64, u64)> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

fn graph(text: &str) -> Graph {
    text::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

#[test]
fn what_the_lowering_refuses() {
    let code = |graph: &Graph| lower(graph, Options::FAST, &mut Full).map(|_| ()).unwrap_err()[0].code;
    assert_eq!(code(&graph("graph @g (%x: str[2]) {\n return %x }")), "E0401");
    assert_eq!(
        code(&graph("graph @g (%x: f32[2]) {\n %c = const f32[2] [1, 2]\n %0 = add %x, %c\n return %0 }")),
        "E0403"
    );
    let wide = "graph @g (%x: f32[1099511627776,1099511627776,2]) {\n %0 = softmax %x\n return %0 }";
    assert_eq!(code(&graph(wide)), "E0404");
    let mut unordered = graph(
        "graph @g (%x: f32[2,3]) {\n %0 = transpose %x {perm=[1,0]}\n %1 = transpose %0 {perm=[1,0]}\n return %1 }",
    );
    unordered.nodes.swap(0, 1);
    assert_eq!(code(&unordered), "E0402");
}
