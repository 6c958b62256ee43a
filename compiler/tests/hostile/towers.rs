//! Models that are small but made of many nodes, or whose shapes, functions or data grow from node to node.

use crate::isolate::{Bounds, isolated};
use crate::models::{ADDRESS_SPACE, Random};
use crate::pipeline::{Tally, attempt, compiled};
use autoglm_compiler::onnx::proto::{
    Dimension, DimensionValue, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use autoglm_compiler::onnx::{Limits, from_bytes};
use bytes::Bytes;
use prost::Message as _;

fn value(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| Dimension {
        value: Some(match d.parse() {
            Ok(n) => DimensionValue::DimValue(n),
            Err(_) => DimensionValue::DimParam((*d).into()),
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(shape) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: input.iter().map(|s| (*s).into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn ints(name: &str, elems: &[i64]) -> TensorProto {
    let dims = vec![elems.len() as i64];
    TensorProto { name: name.into(), dims, data_type: 7, int64_data: elems.into(), ..TensorProto::default() }
}

fn floats(name: &str, count: usize) -> TensorProto {
    let (dims, raw) = (vec![count as i64], Bytes::from(vec![0x3f; 4 * count]));
    TensorProto { name: name.into(), dims, data_type: 1, raw_data: Some(raw), ..TensorProto::default() }
}

fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> Vec<u8> {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    ModelProto {
        ir_version: 10,
        graph: Some(graph),
        functions,
        opset_import: vec![opset("", 21), opset("local", 1)],
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// `count` nodes one after the other, from `from` to `y`.
fn chain(op: &str, count: usize, from: &str, more: &[&str]) -> Vec<NodeProto> {
    let name = |i: usize| {
        if i == 0 {
            from.into()
        } else if i == count {
            "y".into()
        } else {
            format!("v{i}")
        }
    };
    (0..count).map(|i| node(op, &[&[name(i).as_str()], more].concat(), &name(i + 1))).collect()
}

fn graph(node: Vec<NodeProto>, initializer: Vec<TensorProto>, input: Vec<ValueInfoProto>) -> GraphProto {
    GraphProto {
        name: "g".into(),
        node,
        initializer,
        input,
        output: vec![value("y", &[])],
        ..GraphProto::default()
    }
}

/// A hundred thousand nodes: a step of the compiler that takes time in proportion to their square takes hours.
#[test]
fn long_chains_compile() {
    const COUNT: usize = 100_000;
    let inputs = || vec![value("x", &["n", "40"])];
    let graphs = [
        graph(chain("Relu", COUNT, "x", &[]), vec![], inputs()),
        // Too large to be computed at once: a chain of recipes.
        graph(chain("Relu", COUNT, "c", &[]), vec![floats("c", 10_000)], vec![]),
        graph(chain("Add", COUNT / 5, "x", &["x"]), vec![], inputs()),
        graph(chain("Identity", COUNT / 5, "x", &[]), vec![], inputs()),
    ];
    let case = |case: u64| {
        let bytes = Bytes::from(model(graphs[case as usize].clone(), vec![]));
        let mut model = from_bytes(bytes, &Limits::default()).unwrap();
        let engine = compiled(&mut model, 1_000_000).unwrap();
        assert!(engine.program().steps.len() <= COUNT);
    };
    let bounds = Bounds { cases: graphs.len() as u64, address_space: ADDRESS_SPACE };
    isolated("towers::long_chains_compile", &bounds, case, || ());
}

/// `op` again and again on an extent of the input, the result of which sizes a tensor.
fn extents(ops: &[&str], count: usize) -> GraphProto {
    let mut nodes = vec![
        node("Shape", &["x"], "s"),
        node("Gather", &["s", "zero"], "v0"),
        node("Gather", &["s", "one"], "w"),
    ];
    for i in 0..count {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        match ops[i % ops.len()] {
            "Self" => nodes.push(node("Mul", &[&from, &from], &to)),
            "Sum" => {
                let sum = format!("sum{i}");
                nodes.push(node("Add", &[&from, "w"], &sum));
                nodes.push(node("Mul", &[&sum, &from], &to));
            }
            "Tower" => {
                let rest = format!("rest{i}");
                nodes.push(node("Mod", &[&from, "w"], &rest));
                nodes.push(node("Max", &[&from, &rest], &to));
            }
            op => nodes.push(node(op, &[&from, "w"], &to)),
        }
    }
    nodes.push(node("ConstantOfShape", &[&format!("v{count}")], "y"));
    graph(nodes, vec![ints("zero", &[0]), ints("one", &[1])], vec![value("x", &["n", "m"])])
}

/// Functions that call each other twice, or in a circle.
fn functions(count: usize, cyclic: bool) -> Vec<u8> {
    let call = |i: usize, from: &str, to: &str| NodeProto {
        domain: "local".into(),
        ..node(&format!("F{i}"), &[from], to)
    };
    let functions = (0..count).map(|i| {
        let next = if cyclic { (i + 1) % count } else { i + 1 };
        let body = if next < count {
            vec![call(next, "a", "t"), call(next, "t", "b")]
        } else {
            vec![node("Neg", &["a"], "b")]
        };
        FunctionProto {
            name: format!("F{i}"),
            domain: "local".into(),
            input: vec!["a".into()],
            output: vec!["b".into()],
            node: body,
            opset_import: vec![
                OperatorSetIdProto { domain: String::new(), version: 21 },
                OperatorSetIdProto { domain: "local".into(), version: 1 },
            ],
            ..FunctionProto::default()
        }
    });
    let functions = functions.collect();
    model(graph(vec![call(0, "x", "y")], vec![], vec![value("x", &["3"])]), functions)
}

#[test]
fn growth_from_node_to_node_is_bounded() {
    let ops: [&[&str]; 8] = [
        &["Self"],
        &["Sum"],
        &["Tower"],
        &["Sum", "Div"],
        &["Max", "Mod", "Add"],
        &["Mul", "Min"],
        &["Tower", "Sum"],
        &["Div", "Add"],
    ];
    let tally = Tally::default();
    let case = |case: u64| {
        let bytes = match case {
            0..8 => model(extents(ops[case as usize], 40), vec![]),
            8..16 => model(extents(ops[case as usize - 8], 1500), vec![]),
            16..24 => functions(10 * (case as usize - 15), case.is_multiple_of(2)),
            // Concatenations that double.
            _ => {
                let axis = autoglm_compiler::onnx::proto::AttributeProto {
                    name: "axis".into(),
                    r#type: 2,
                    i: Some(0),
                    ..Default::default()
                };
                let mut nodes: Vec<NodeProto> = (0..60)
                    .map(|i| NodeProto {
                        attribute: vec![axis.clone()],
                        ..node("Concat", &[&format!("v{i}"), &format!("v{i}")], &format!("v{}", i + 1))
                    })
                    .collect();
                nodes.push(node("Relu", &["v60"], "y"));
                let start = if case == 24 { vec![floats("v0", 3)] } else { vec![] };
                let input = if case == 24 { vec![] } else { vec![value("v0", &["n"])] };
                model(graph(nodes, start, input), vec![])
            }
        };
        attempt(&bytes, None, &tally);
    };
    let bounds = Bounds { cases: 26, address_space: ADDRESS_SPACE };
    isolated("towers::growth_from_node_to_node_is_bounded", &bounds, case, || ());
}

#[test]
fn external_data_stays_in_the_folder() {
    let root = std::env::temp_dir().join(format!("autoglm-hostile-{}", std::process::id()));
    let dir = root.join("model");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(root.join("secret"), [1; 64]).unwrap();
    std::fs::write(dir.join("data"), [0; 64]).unwrap();
    #[cfg(unix)]
    {
        let _ = std::os::unix::fs::symlink(root.join("secret"), dir.join("link"));
        let _ = std::os::unix::fs::symlink("..", dir.join("up"));
    }
    let locations = [
        "data",
        "../secret",
        "link",
        "up/secret",
        "a/../../secret",
        "./data",
        "",
        ".",
        "/etc/hosts",
        "data/x",
    ];
    let numbers =
        ["0", "4", "48", "64", "65", "-1", "18446744073709551615", "9223372036854775808", "1e3", ""];
    let tally = Tally::default();
    for case in 0..500 {
        let mut random = Random::new(case);
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        let location = locations[random.below(locations.len())];
        let mut external_data = vec![entry("location", location)];
        for key in ["offset", "length"] {
            if random.below(2) == 0 {
                external_data.push(entry(key, numbers[random.below(numbers.len())]));
            }
        }
        let tensor = TensorProto {
            name: "c".into(),
            dims: vec![*random.pick(&[4, 16, 17, i64::MAX, -1])],
            data_type: 1,
            data_location: 1,
            external_data,
            ..TensorProto::default()
        };
        let before = tally.ran.get();
        attempt(
            &model(graph(chain("Neg", 1, "c", &[]), vec![tensor], vec![]), vec![]),
            Some(dir.clone()),
            &tally,
        );
        assert!(tally.ran.get() == before || location.ends_with("data"), "{location} was read");
    }
    std::fs::remove_dir_all(&root).unwrap();
    assert!(tally.ran.get() > 0 && tally.refused.get() > 100, "{tally:?}");
}
