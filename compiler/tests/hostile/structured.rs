//! Well-formed files whose contents are wild: names, extents, attributes, tensors.

use crate::isolate::{Bounds, isolated};
use crate::models::{ADDRESS_SPACE, Random, corpus};
use crate::pipeline::{Tally, attempt};
use autoglm_compiler::onnx::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, type_proto,
};
use bytes::Bytes;
use prost::Message as _;

/// Numbers that extents, axes, sizes and indices overflow at.
const WILD: [i64; 20] = [
    0,
    1,
    -1,
    2,
    3,
    -2,
    7,
    16,
    63,
    64,
    65,
    255,
    1 << 16,
    1 << 31,
    -(1 << 31),
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
];
const FLOATS: [f32; 7] = [0.0, -1.0, 0.5, f32::NAN, f32::INFINITY, 1e30, f32::MIN_POSITIVE];

fn mutate(model: &mut ModelProto, donor: &ModelProto, random: &mut Random) {
    let Some(graph) = model.graph.as_mut() else { return };
    match random.below(8) {
        0 | 1 => attribute(graph, random),
        2 => extent(graph, random),
        3 => initializer(graph, random),
        4 => wiring(graph, random),
        5 => node(graph, donor, random),
        6 => {
            for opset in &mut model.opset_import {
                opset.version = [1, 6, 9, 11, 13, 17, 18, 21, 23, 26, -1, i64::MAX][random.below(12)];
            }
        }
        _ => value_type(graph, random),
    }
}

fn some_node<'a>(graph: &'a mut GraphProto, random: &mut Random) -> Option<&'a mut NodeProto> {
    let at = random.below(graph.node.len());
    graph.node.get_mut(at)
}

fn attribute(graph: &mut GraphProto, random: &mut Random) {
    let Some(node) = some_node(graph, random) else { return };
    let at = random.below(node.attribute.len());
    let Some(attr) = node.attribute.get_mut(at) else {
        let name = *random.pick(&["axis", "axes", "perm", "pads", "kernel_shape", "group", "to", "keepdims"]);
        let value = *random.pick(&WILD);
        return node.attribute.push(AttributeProto {
            name: name.into(),
            r#type: if random.below(2) == 0 { 2 } else { 7 },
            i: Some(value),
            ints: vec![value],
            ..AttributeProto::default()
        });
    };
    match random.below(6) {
        0 => attr.i = Some(*random.pick(&WILD)),
        1 | 2 if !attr.ints.is_empty() => {
            let at = random.below(attr.ints.len());
            attr.ints[at] = *random.pick(&WILD);
        }
        3 => attr.ints.push(*random.pick(&WILD)),
        4 => attr.f = Some(*random.pick(&FLOATS)),
        _ => {
            attr.i = Some(*random.pick(&WILD));
            attr.s = Some(Bytes::from_static(b"SAME_UPPER"));
            attr.ints.pop();
        }
    }
}

fn extent(graph: &mut GraphProto, random: &mut Random) {
    let at = random.below(graph.input.len());
    let Some(ty) = graph.input.get_mut(at).and_then(|i| i.r#type.as_mut()) else { return };
    let Some(type_proto::Value::TensorType(tensor)) = ty.value.as_mut() else { return };
    let Some(shape) = tensor.shape.as_mut() else { return };
    match random.below(5) {
        0 => shape.dim.truncate(random.below(3)),
        1 => shape.dim.extend(shape.dim.clone()),
        _ => {
            let at = random.below(shape.dim.len());
            if let Some(dim) = shape.dim.get_mut(at) {
                dim.value = Some(match random.below(3) {
                    0 => DimensionValue::DimParam(["n", "m"][random.below(2)].into()),
                    _ => DimensionValue::DimValue(*random.pick(&WILD)),
                });
            }
        }
    }
}

fn value_type(graph: &mut GraphProto, random: &mut Random) {
    let at = random.below(graph.input.len());
    let Some(ty) = graph.input.get_mut(at).and_then(|i| i.r#type.as_mut()) else { return };
    if let Some(type_proto::Value::TensorType(tensor)) = ty.value.as_mut() {
        tensor.elem_type = random.below(26) as i32;
    }
}

/// Turns an input into a constant with wild elements, or spoils a constant that there is.
fn initializer(graph: &mut GraphProto, random: &mut Random) {
    let at = random.below(graph.initializer.len() + graph.input.len());
    if let Some(tensor) = graph.initializer.get_mut(at) {
        match random.below(3) {
            0 => tensor.dims.push(*random.pick(&WILD)),
            1 if !tensor.dims.is_empty() => tensor.dims[0] = *random.pick(&WILD),
            _ => tensor.data_type = random.below(26) as i32,
        }
        return;
    }
    let Some(input) = graph.input.get(random.below(graph.input.len())) else { return };
    let Some(type_proto::Value::TensorType(ty)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return;
    };
    let of = |d: &autoglm_compiler::onnx::proto::Dimension| match d.value {
        Some(DimensionValue::DimValue(n)) => n,
        _ => 2,
    };
    let dims: Vec<i64> = ty.shape.iter().flat_map(|s| &s.dim).map(of).collect();
    let count = dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d)).filter(|n| (0..4096).contains(n));
    let Some(count) = count else { return };
    let mut tensor =
        TensorProto { name: input.name.clone(), dims, data_type: ty.elem_type, ..TensorProto::default() };
    match ty.elem_type {
        1 => tensor.float_data = (0..count).map(|_| *random.pick(&FLOATS)).collect(),
        7 => tensor.int64_data = (0..count).map(|_| *random.pick(&WILD)).collect(),
        2 | 3 | 6 | 9 => tensor.int32_data = (0..count).map(|_| random.below(256) as i32).collect(),
        _ => return,
    }
    graph.initializer.push(tensor);
}

/// Swaps, repeats or drops names.
fn wiring(graph: &mut GraphProto, random: &mut Random) {
    let names: Vec<String> = graph
        .node
        .iter()
        .flat_map(|n| n.input.iter().chain(&n.output))
        .chain(graph.input.iter().map(|i| &i.name))
        .cloned()
        .chain(["".into(), "nobody".into()])
        .collect();
    let name = random.pick(&names).clone();
    let which = random.below(5);
    let Some(node) = some_node(graph, random) else { return };
    match which {
        0 | 1 if !node.input.is_empty() => {
            let at = random.below(node.input.len());
            node.input[at] = name;
        }
        2 => node.input.push(name),
        3 => drop(node.input.pop()),
        _ if !node.output.is_empty() => {
            let at = random.below(node.output.len());
            node.output[at] = name;
        }
        _ => {}
    }
}

/// Another operator in the same place, or a node of another model.
fn node(graph: &mut GraphProto, donor: &ModelProto, random: &mut Random) {
    let Some(theirs) = donor.graph.as_ref().and_then(|g| g.node.get(random.below(g.node.len()))) else {
        return;
    };
    let swap = random.below(2) == 0;
    let Some(ours) = some_node(graph, random) else { return };
    if swap {
        ours.op_type.clone_from(&theirs.op_type);
        if random.below(2) == 0 {
            ours.attribute.clone_from(&theirs.attribute);
        }
        return;
    }
    let mut new = theirs.clone();
    new.input.iter_mut().zip(ours.output.iter().cycle()).for_each(|(i, o)| i.clone_from(o));
    new.output.iter_mut().for_each(|o| o.push('+'));
    let outputs = new.output.clone();
    graph.node.push(new);
    if let Some(output) = graph.output.first_mut()
        && let Some(name) = outputs.first()
    {
        output.name.clone_from(name);
    }
}

#[test]
fn wild_contents() {
    let models: Vec<ModelProto> =
        corpus().iter().map(|bytes| ModelProto::decode(bytes.as_slice()).unwrap()).collect();
    let tally = Tally::default();
    let case = |case: u64| {
        let mut random = Random::new(case);
        let mut model = random.pick(&models).clone();
        for _ in 0..=random.below(3) {
            let donor = random.pick(&models);
            mutate(&mut model, donor, &mut random);
        }
        attempt(&model.encode_to_vec(), None, &tally);
    };
    let bounds = Bounds { cases: 5000, address_space: ADDRESS_SPACE };
    isolated("structured::wild_contents", &bounds, case, || {
        assert!(tally.refused.get() > 1000 && tally.failed.get() + tally.ran.get() > 1000, "{tally:?}");
    });
}
