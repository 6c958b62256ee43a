//! Messages written by another protobuf implementation are read completely.

use autoglm_compiler::onnx::proto::{self, attribute_type as ty};
use autoglm_compiler::onnx::{Limits, from_bytes, wire};
use bytes::Bytes;
use onnx_protobuf as other;
use prost::Message as _;
use protobuf::{EnumOrUnknown, Message as _, MessageField, SpecialFields};

const NONE: fn() -> SpecialFields = SpecialFields::default;

fn entry(tag: &str) -> Vec<other::StringStringEntryProto> {
    let one = |n: u32| other::StringStringEntryProto {
        key: format!("{tag}-key{n}"),
        value: format!("{tag}-value{n}"),
        special_fields: NONE(),
    };
    vec![one(1), one(2)]
}

fn tensor(tag: &str) -> other::TensorProto {
    use other::tensor_proto::{DataLocation, Segment};
    other::TensorProto {
        dims: vec![2, -1, i64::MAX],
        data_type: 22,
        segment: MessageField::some(Segment { begin: -5, end: 7, special_fields: NONE() }),
        float_data: vec![1.5, -0.0, f32::MAX],
        int32_data: vec![i32::MIN, -1, 300],
        string_data: vec![b"a".to_vec(), b"\xff".to_vec(), Vec::new()],
        int64_data: vec![i64::MIN, 0, 1 << 40],
        name: format!("{tag}-tensor"),
        doc_string: format!("{tag}-doc"),
        raw_data: vec![0, 1, 2, 255],
        external_data: entry("location"),
        data_location: EnumOrUnknown::new(DataLocation::EXTERNAL),
        double_data: vec![1e300],
        uint64_data: vec![u64::MAX, 1],
        metadata_props: entry(tag),
        special_fields: NONE(),
    }
}

fn sparse() -> other::SparseTensorProto {
    other::SparseTensorProto {
        values: MessageField::some(tensor("values")),
        indices: MessageField::some(tensor("indices")),
        dims: vec![3, 4],
        special_fields: NONE(),
    }
}

fn shape() -> MessageField<other::TensorShapeProto> {
    use other::tensor_shape_proto::{Dimension, dimension::Value};
    let dim =
        |value, denotation: &str| Dimension { value, denotation: denotation.into(), special_fields: NONE() };
    let dim_list = vec![
        dim(Some(Value::DimValue(-1)), "DATA_BATCH"),
        dim(Some(Value::DimParam("batch".into())), ""),
        dim(Some(Value::DimValue(0)), ""),
        dim(None, "x"),
    ];
    MessageField::some(other::TensorShapeProto { dim: dim_list, special_fields: NONE() })
}

fn types() -> Vec<other::TypeProto> {
    use other::type_proto::{Map, Optional, Sequence, SparseTensor, Tensor, Value};
    let wrap = |value| other::TypeProto { denotation: "IMAGE".into(), value, special_fields: NONE() };
    let dense =
        || wrap(Some(Value::TensorType(Tensor { elem_type: 1, shape: shape(), special_fields: NONE() })));
    let sequence = Sequence { elem_type: MessageField::some(dense()), special_fields: NONE() };
    let map = Map { key_type: 7, value_type: MessageField::some(dense()), special_fields: NONE() };
    let nested = wrap(Some(Value::SequenceType(sequence.clone())));
    let optional = Optional { elem_type: MessageField::some(nested), special_fields: NONE() };
    let sparse = SparseTensor { elem_type: 11, shape: shape(), special_fields: NONE() };
    vec![
        dense(),
        wrap(Some(Value::SequenceType(sequence))),
        wrap(Some(Value::MapType(map))),
        wrap(Some(Value::OptionalType(optional))),
        wrap(Some(Value::SparseTensorType(sparse))),
        wrap(None),
    ]
}

fn values(tag: &str) -> Vec<other::ValueInfoProto> {
    let one = |(n, ty): (usize, other::TypeProto)| other::ValueInfoProto {
        name: format!("{tag}{n}"),
        type_: MessageField::some(ty),
        doc_string: format!("{tag}-doc"),
        metadata_props: entry(tag),
        special_fields: NONE(),
    };
    types().into_iter().enumerate().map(one).collect()
}

/// An attribute with every field set, which no real one has. `depth` levels of subgraphs lie within.
fn attribute(name: &str, depth: u32) -> other::AttributeProto {
    let inner = || graph(depth - 1);
    other::AttributeProto {
        name: name.into(),
        ref_attr_name: "outer".into(),
        doc_string: "attribute-doc".into(),
        type_: EnumOrUnknown::from_i32(ty::TYPE_PROTOS),
        f: -2.5,
        i: i64::MIN,
        s: b"\xfe text".to_vec(),
        t: MessageField::some(tensor("t")),
        g: if depth > 0 { MessageField::some(inner()) } else { MessageField::none() },
        sparse_tensor: MessageField::some(sparse()),
        tp: MessageField::some(types().remove(2)),
        floats: vec![0.0, f32::MIN_POSITIVE],
        ints: vec![-1, 0, 1],
        strings: vec![b"one".to_vec(), Vec::new()],
        tensors: vec![tensor("first"), tensor("second")],
        graphs: if depth > 0 { vec![inner(), inner()] } else { Vec::new() },
        sparse_tensors: vec![sparse()],
        type_protos: types(),
        special_fields: NONE(),
    }
}

fn node(name: &str, depth: u32) -> other::NodeProto {
    other::NodeProto {
        input: vec!["x".into(), String::new(), "y".into()],
        output: vec!["z".into(), String::new()],
        name: name.into(),
        op_type: "Op".into(),
        domain: "com.example".into(),
        overload: "over".into(),
        attribute: vec![attribute("a", depth), attribute("b", 0)],
        doc_string: "node-doc".into(),
        metadata_props: entry("node"),
        special_fields: NONE(),
    }
}

fn graph(depth: u32) -> other::GraphProto {
    other::GraphProto {
        node: vec![node("first", depth), node("größe\u{1F600}", 0)],
        name: "graph".into(),
        initializer: vec![tensor("init"), tensor("init2")],
        sparse_initializer: vec![sparse()],
        doc_string: "graph-doc".into(),
        input: values("input"),
        output: values("output"),
        value_info: values("info"),
        quantization_annotation: vec![other::TensorAnnotation {
            tensor_name: "x".into(),
            quant_parameter_tensor_names: entry("SCALE_TENSOR"),
            special_fields: NONE(),
        }],
        metadata_props: entry("graph"),
        special_fields: NONE(),
    }
}

fn opsets() -> Vec<other::OperatorSetIdProto> {
    let one = |domain: &str, version| other::OperatorSetIdProto {
        domain: domain.into(),
        version,
        special_fields: NONE(),
    };
    vec![one("", 21), one("ai.onnx.ml", 3)]
}

fn model() -> other::ModelProto {
    let function = other::FunctionProto {
        name: "f".into(),
        input: vec!["a".into(), "b".into()],
        output: vec!["c".into()],
        attribute: vec!["alpha".into(), "beta".into()],
        attribute_proto: vec![attribute("gamma", 1)],
        node: vec![node("inner", 0)],
        doc_string: "function-doc".into(),
        opset_import: opsets(),
        domain: "local".into(),
        overload: "v2".into(),
        value_info: values("local"),
        metadata_props: entry("function"),
        special_fields: NONE(),
    };
    other::ModelProto {
        ir_version: 10,
        opset_import: opsets(),
        producer_name: "producer".into(),
        producer_version: "1.2".into(),
        domain: "org".into(),
        model_version: -4,
        doc_string: "model-doc".into(),
        graph: MessageField::some(graph(2)),
        metadata_props: entry("model"),
        training_info: vec![other::TrainingInfoProto {
            initialization: MessageField::some(graph(0)),
            algorithm: MessageField::some(graph(0)),
            initialization_binding: entry("initialization"),
            update_binding: entry("update"),
            special_fields: NONE(),
        }],
        functions: vec![function],
        special_fields: NONE(),
    }
}

#[test]
fn every_field_survives_the_way_there_and_back() {
    let want = model();
    let file = from_bytes(Bytes::from(want.write_to_bytes().unwrap()), &Limits::default()).unwrap();
    // Only bytes that this test has made are given to the other decoder.
    let back = other::ModelProto::parse_from_bytes(&file.model.encode_to_vec()).unwrap();
    assert!(back == want);
}

#[test]
fn fields_mean_what_they_say() {
    let m = from_bytes(Bytes::from(model().write_to_bytes().unwrap()), &Limits::default()).unwrap().model;
    assert_eq!((m.ir_version, m.model_version, m.producer_name.as_str()), (10, -4, "producer"));
    assert_eq!((m.opset_import[1].domain.as_str(), m.opset_import[1].version), ("ai.onnx.ml", 3));
    let f = &m.functions[0];
    assert_eq!((f.name.as_str(), f.domain.as_str(), f.overload.as_str()), ("f", "local", "v2"));
    assert_eq!((f.attribute.len(), f.attribute_proto[0].name.as_str(), f.value_info.len()), (2, "gamma", 6));
    let g = m.graph.unwrap();
    let n = &g.node[0];
    assert_eq!((n.op_type.as_str(), n.overload.as_str(), n.input[1].as_str()), ("Op", "over", ""));
    let a = &n.attribute[0];
    assert_eq!((a.i, a.f, a.r#type), (Some(i64::MIN), Some(-2.5), ty::TYPE_PROTOS));
    assert_eq!(a.s.as_deref(), Some(&b"\xfe text"[..]));
    let t = a.t.as_ref().unwrap();
    assert_eq!((t.dims.as_slice(), t.data_type, t.data_location), (&[2, -1, i64::MAX][..], 22, 1));
    assert_eq!(
        (t.int32_data.as_slice(), t.uint64_data.as_slice()),
        (&[i32::MIN, -1, 300][..], &[u64::MAX, 1][..])
    );
    let Some(proto::type_proto::Value::TensorType(t)) = &g.input[0].r#type.as_ref().unwrap().value else {
        panic!("not a tensor")
    };
    let dims: Vec<_> = t.shape.as_ref().unwrap().dim.iter().map(|d| d.value.clone()).collect();
    use proto::DimensionValue::{DimParam, DimValue};
    assert_eq!(dims, [Some(DimValue(-1)), Some(DimParam("batch".into())), Some(DimValue(0)), None]);
}

/// Counts by walking the decoded message, to compare with what the prescan counted on the bytes.
#[derive(Default)]
struct Count {
    nodes: u64,
    attributes: u64,
    initializers: u64,
}

impl Count {
    fn graph(&mut self, g: &other::GraphProto) {
        self.initializers += (g.initializer.len() + g.sparse_initializer.len()) as u64;
        self.nodes(&g.node);
    }

    fn nodes(&mut self, nodes: &[other::NodeProto]) {
        self.nodes += nodes.len() as u64;
        nodes.iter().for_each(|n| self.attributes(&n.attribute));
    }

    fn attributes(&mut self, attributes: &[other::AttributeProto]) {
        self.attributes += attributes.len() as u64;
        for a in attributes {
            a.g.iter().chain(&a.graphs).for_each(|g| self.graph(g));
        }
    }
}

#[test]
fn the_prescan_counts_what_is_there() {
    let m = model();
    let census = wire::prescan(&m.write_to_bytes().unwrap(), &Limits::default()).unwrap();
    let mut count = Count::default();
    count.graph(&m.graph);
    m.training_info.iter().for_each(|t| {
        count.graph(&t.initialization);
        count.graph(&t.algorithm);
    });
    m.functions.iter().for_each(|f| {
        count.nodes(&f.node);
        count.attributes(&f.attribute_proto);
    });
    assert_eq!(
        (census.nodes, census.attributes, census.initializers, census.functions),
        (count.nodes, count.attributes, count.initializers, 1)
    );
    // Model, three graphs with a node and an attribute between each, sparse tensor's values or a nested type.
    assert!(census.depth >= 1 + 3 * 3 + 2, "{}", census.depth);
    assert!(census.metadata_bytes > 0 && census.decoded_bytes > 10_000);
}

#[test]
fn payloads_share_the_memory_of_the_file() {
    let mut m = model();
    m.graph.as_mut().unwrap().initializer[0].raw_data = vec![9; 100_000];
    let bytes = Bytes::from(m.write_to_bytes().unwrap());
    let (start, end) = (bytes.as_ptr() as usize, bytes.as_ptr() as usize + bytes.len());
    let file = from_bytes(bytes, &Limits::default()).unwrap();
    let graph = file.model.graph.unwrap();
    let raw = graph.initializer[0].raw_data.as_ref().unwrap();
    assert!(raw.as_ptr() as usize >= start && raw.as_ptr() as usize + raw.len() <= end);
    assert!((start..end).contains(&(graph.doc_string.as_ptr() as usize)));
}

/// Device annotations and opaque types as the reference implementation (IR version 14) writes them.
#[test]
fn the_newest_fields_are_read() {
    let hex = "080e3a530a422203416464523b0a0363666712320a0178100010ffffffffffffffffff011a0f08ffffffffffffffffff01100410\
               05220f0801120512014e180212040808180218035a0d0a016f12083a060a016412016ed2010d0a0363666710021a01611a0162";
    let hex: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let m = from_bytes(Bytes::from(bytes), &Limits::default()).unwrap().model;
    let configuration = &m.configuration[0];
    assert_eq!((configuration.name.as_str(), configuration.num_devices), ("cfg", 2));
    assert_eq!(configuration.device, ["a", "b"]);
    let graph = m.graph.unwrap();
    let device = &graph.node[0].device_configurations[0];
    assert_eq!((device.configuration_id.as_str(), device.pipeline_stage), ("cfg", Some(3)));
    let spec = &device.sharding_spec[0];
    assert_eq!((spec.tensor_name.as_str(), spec.device.as_slice()), ("x", &[0, -1][..]));
    let groups = &spec.index_to_device_group_map[0];
    assert_eq!((groups.key, groups.value.as_slice()), (-1, &[4, 5][..]));
    let shards = &spec.sharded_dim[0];
    assert_eq!((shards.axis, shards.simple_sharding.len(), shards.simple_sharding[1].num_shards), (1, 2, 2));
    assert_eq!(shards.simple_sharding[0].dim, Some(proto::DimensionValue::DimParam("N".into())));
    let Some(proto::type_proto::Value::OpaqueType(o)) = &graph.input[0].r#type.as_ref().unwrap().value else {
        panic!("not opaque")
    };
    assert_eq!((o.domain.as_str(), o.name.as_str()), ("d", "n"));
}
