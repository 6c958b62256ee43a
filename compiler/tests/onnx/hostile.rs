//! Files made to break the reader.

use autoglm_compiler::onnx::error::code;
use autoglm_compiler::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    TensorProto, ValueInfoProto, attribute_type as ty,
};
use autoglm_compiler::onnx::{
    Attrs, ExternalFiles, Limits, ReadError, from_bytes, normalise, sparse, tensor, wire,
};
use bytes::Bytes;
use prost::Message as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A length-delimited field.
fn field(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut out);
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

fn read(bytes: Vec<u8>) -> Result<(), ReadError> {
    let start = Instant::now();
    let read = from_bytes(Bytes::from(bytes), &Limits::default());
    assert!(start.elapsed() < Duration::from_secs(10));
    read.map(|_| ())
}

#[test]
fn groups() {
    // Nested group tags, as the whole file and inside a graph: decoders that recurse into them overflow the stack.
    let bomb = [b"\x08\x08".to_vec(), vec![0x0b; 200_000]].concat();
    let e = read(bomb.clone()).unwrap_err();
    assert!(e.code == code::WIRE && e.message.contains("groups"), "{e}");
    assert_eq!(read(field(7, &bomb[2..])).unwrap_err().code, code::WIRE);
    assert_eq!(read(vec![0x08, 0x08, 0x0c]).unwrap_err().code, code::WIRE);
    // Within a field that nobody knows they are only bytes.
    let unknown = [field(7, &[]), field(999, &bomb)].concat();
    assert!(read(unknown).is_ok());
}

#[test]
fn nesting() {
    for step in [[6, 5, 1].as_slice(), &[1, 4]] {
        // Graph in attribute in node in graph ..., and sequence of sequences.
        let mut body = Vec::new();
        for _ in 0..400 {
            for number in step {
                body = field(*number, &body);
            }
        }
        let bytes = if step.len() == 3 { field(7, &body) } else { field(7, &field(11, &field(2, &body))) };
        let e = read(bytes).unwrap_err();
        assert!(e.code == code::LIMIT && e.message.contains("depth"), "{e}");
    }
    // Twenty subgraphs within each other are fine.
    let mut body = Vec::new();
    for _ in 0..20 {
        body = field(1, &field(5, &field(6, &body)));
    }
    assert!(read(field(7, &body)).is_ok());
}

#[test]
fn lengths_that_lie() {
    let mut lie = field(7, &[]);
    lie.extend([0x3a]);
    prost::encoding::encode_varint(1_900_000_000, &mut lie);
    let e = read(lie).unwrap_err();
    assert!(e.code == code::WIRE && e.message.contains("1900000000"), "{e}");
    // A tensor that reaches beyond the graph it is in, though not beyond the file.
    let inner = [vec![0x2a, 20], vec![0x4a, 4, 0, 0, 0, 0]].concat();
    let bytes = [field(7, &inner), vec![0x72, 30], vec![0; 30]].concat();
    assert_eq!(read(bytes).unwrap_err().code, code::WIRE);
    for huge in [u64::MAX, 1 << 63, (1 << 63) - 1, u64::from(u32::MAX)] {
        let mut bytes = vec![0x3a];
        prost::encoding::encode_varint(huge, &mut bytes);
        assert_eq!(read(bytes).unwrap_err().code, code::WIRE);
    }
}

#[test]
fn numbers_and_tags() {
    let ok = [vec![0x28], vec![0xff; 9], vec![1], field(7, &[])].concat();
    assert!(read(ok).is_ok(), "a ten-byte number is how -1 is written");
    let cases: [(&str, Vec<u8>); 8] = [
        ("eleven bytes", [vec![0x28], vec![0xff; 10], vec![1]].concat()),
        ("65 bits", [vec![0x28], vec![0xff; 9], vec![2]].concat()),
        ("endless", [vec![0x28], vec![0x80; 5]].concat()),
        ("field 0", vec![0x02, 0x00]),
        ("wire type 6", vec![0x0e, 0x00]),
        ("wire type 7", vec![0x0f, 0x00]),
        ("field 2^29", [vec![0x80, 0x80, 0x80, 0x80, 0x10], vec![0]].concat()),
        ("short fixed64", vec![0x09, 1, 2, 3]),
    ];
    for (what, bytes) in cases {
        assert_eq!(read(bytes).unwrap_err().code, code::WIRE, "{what}");
    }
}

#[test]
fn limits_hold() {
    let nodes = field(7, &field(1, &[]).repeat(100));
    let inits = field(7, &field(5, &[]).repeat(100));
    let attrs = field(7, &field(1, &field(5, &[]).repeat(100)));
    let functions = field(25, &[]).repeat(100);
    let name = field(7, &field(1, &field(3, &[b'a'; 100])));
    let meta = field(14, &field(2, &[b'a'; 100]));
    let base = Limits::default();
    let cases = [
        (nodes, Limits { nodes: 99, ..base.clone() }, "nodes"),
        (inits, Limits { initializers: 99, ..base.clone() }, "initializers"),
        (attrs.clone(), Limits { attributes: 99, ..base.clone() }, "attributes"),
        (functions, Limits { functions: 99, ..base.clone() }, "functions"),
        (name, Limits { name_bytes: 99, ..base.clone() }, "name"),
        (meta, Limits { metadata_bytes: 99, ..base.clone() }, "metadata"),
        // Two bytes of file a piece, several hundred bytes of memory.
        (attrs, Limits { decoded_bytes: 20_000, ..base.clone() }, "memory"),
    ];
    for (bytes, limits, what) in cases {
        assert!(wire::prescan(&bytes, &base).is_ok(), "{what}");
        let e = wire::prescan(&bytes, &limits).unwrap_err();
        assert!(e.code == code::LIMIT && e.message.contains(what), "{e}");
    }
}

#[test]
fn wrong_files_are_named() {
    for (bytes, what) in [
        (&b"<!DOCTYPE html>"[..], "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"PK\x03\x04rest", "zip"),
        (b"", "empty"),
        (b"just some notes", "text"),
        (b"{\"json\": true}", "JSON"),
    ] {
        let e = read(bytes.to_vec()).unwrap_err();
        assert!(e.code == code::NOT_ONNX && e.message.contains(what) && e.help.is_some(), "{e}");
    }
    assert_eq!(read(b"\x08\x08".to_vec()).unwrap_err().code, code::NO_GRAPH);
    let e = read(field(7, &field(1, &field(3, b"\xff\xfe")))).unwrap_err();
    assert_eq!(e.code, code::SCHEMA, "names must be UTF-8");
}

fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..Default::default() }
}

fn node(op: &str, input: &[&str], output: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: input.iter().map(|s| (*s).into()).collect(),
        output: output.iter().map(|s| (*s).into()).collect(),
        attribute,
        ..Default::default()
    }
}

/// A small model with a bit of everything.
fn small() -> ModelProto {
    let branch = |op: &str| GraphProto {
        node: vec![node(op, &["h"], &["r"], vec![])],
        output: vec![value("r")],
        ..Default::default()
    };
    let branches = [("then_branch", "Neg"), ("else_branch", "Abs")].map(|(name, op)| AttributeProto {
        name: name.into(),
        r#type: ty::GRAPH,
        g: Some(Box::new(branch(op))),
        ..Default::default()
    });
    let alpha =
        AttributeProto { name: "alpha".into(), r#type: ty::FLOAT, f: Some(0.5), ..Default::default() };
    let inner = AttributeProto { ref_attr_name: "alpha".into(), f: None, ..alpha.clone() };
    let function = FunctionProto {
        name: "F".into(),
        domain: "local".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute: vec!["alpha".into()],
        node: vec![node("Relu", &["x"], &["t"], vec![]), node("LeakyRelu", &["t"], &["y"], vec![inner])],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 18 }],
        ..Default::default()
    };
    let call = NodeProto { domain: "local".into(), ..node("F", &["s"], &["h"], vec![alpha]) };
    let w = TensorProto {
        name: "w".into(),
        dims: vec![2],
        data_type: 1,
        float_data: vec![1.0, 2.0],
        ..Default::default()
    };
    let q = TensorProto {
        name: "q".into(),
        dims: vec![3],
        data_type: 22,
        raw_data: Some(Bytes::from_static(&[0xf1, 0x07])),
        ..Default::default()
    };
    let sparse = SparseTensorProto {
        values: Some(TensorProto { name: "sp".into(), dims: vec![1], ..w.clone() }),
        indices: Some(TensorProto { dims: vec![1], data_type: 7, int64_data: vec![3], ..Default::default() }),
        dims: vec![2, 2],
    };
    let sparse = SparseTensorProto {
        values: sparse.values.map(|v| TensorProto { float_data: vec![9.0], ..v }),
        ..sparse
    };
    let graph = GraphProto {
        name: "g".into(),
        node: vec![
            node("If", &["c"], &["o"], branches.into()),
            call,
            node("Add", &["a", "w"], &["s"], vec![]),
            node("Use", &["q", "sp"], &["u"], vec![]),
        ],
        initializer: vec![w, q],
        sparse_initializer: vec![sparse],
        input: vec![value("a"), value("c")],
        output: vec![value("o")],
        ..Default::default()
    };
    ModelProto {
        ir_version: 10,
        graph: Some(graph),
        functions: vec![function],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 21 }],
        ..Default::default()
    }
}

/// The whole way: whatever the bytes are, it ends with an answer.
fn whole_way(bytes: Vec<u8>, limits: &Limits) -> bool {
    let Ok(file) = from_bytes(Bytes::from(bytes), limits) else { return false };
    let Ok(graph) = normalise(file.model, &mut Vec::new()) else { return false };
    let mut files = ExternalFiles::new(Path::new(""), limits);
    let tensors = graph.initializer.iter().all(|t| tensor::decode(t, &mut files, limits).is_ok());
    let sparse = graph.sparse_initializer.iter().all(|t| sparse::decode(t, &mut files, limits).is_ok());
    let attrs = graph.node.iter().all(|n| Attrs::new(n).is_ok());
    tensors && sparse && attrs
}

#[test]
fn every_truncation() {
    let bytes = small().encode_to_vec();
    let limits = Limits { sparse_bytes: 1 << 20, ..Limits::default() };
    assert!(whole_way(bytes.clone(), &limits));
    for len in 0..bytes.len() {
        whole_way(bytes[..len].to_vec(), &limits);
    }
    // Cut inside of the graph, which comes first, nothing is left that could be read.
    let graph = field(7, &small().graph.unwrap().encode_to_vec());
    for len in 0..graph.len() {
        assert!(!whole_way(graph[..len].to_vec(), &limits), "{len}");
    }
}

#[test]
fn thousands_of_mutations() {
    let original = small().encode_to_vec();
    let limits = Limits { sparse_bytes: 1 << 20, ..Limits::default() };
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut survived = 0;
    for round in 0..4_000 {
        let mut bytes = original.clone();
        match round % 4 {
            0 | 1 => bytes[next(original.len())] ^= 1 << next(8),
            2 => bytes[next(original.len())] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
            _ => {
                let (from, len) = (next(original.len()), next(16));
                let piece = original[from..original.len().min(from + len)].to_vec();
                let at = next(original.len());
                bytes.splice(at..at, piece);
            }
        }
        survived += usize::from(whole_way(bytes, &limits));
    }
    // Some flips only change a value or a name consistently; most must be noticed.
    assert!((1..3_000).contains(&survived), "{survived}");
}

#[test]
fn many_nodes_in_reasonable_time() {
    let chain = (0..50_000).map(|i| {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        node("Relu", &[&from], &[&to], vec![])
    });
    let graph = GraphProto {
        // Backwards, so that everything has to be sorted.
        node: chain.rev().collect(),
        input: vec![value("v0")],
        output: vec![value("v50000")],
        ..Default::default()
    };
    let bytes = ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
    let start = Instant::now();
    let model = from_bytes(Bytes::from(bytes), &Limits::default()).unwrap().model;
    let mut warnings = Vec::new();
    let graph = normalise(model, &mut warnings).unwrap();
    assert!(graph.node.iter().enumerate().all(|(i, n)| n.input[0] == format!("v{i}")));
    assert_eq!((warnings.len(), warnings[0].code), (1, code::W_ORDER));
    assert!(start.elapsed() < Duration::from_secs(20));
}
