//! Tests of the module beside this file.

use super::*;

fn attr(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind, ..Default::default() }
}

fn node(attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { name: "n".into(), op_type: "Op".into(), attribute, ..Default::default() }
}

fn full() -> NodeProto {
    node(vec![
        AttributeProto { i: Some(-3), ..attr("i", ty::INT) },
        AttributeProto { f: Some(0.5), ..attr("f", ty::FLOAT) },
        AttributeProto { s: Some(Bytes::from_static(b"SAME")), ..attr("s", ty::STRING) },
        AttributeProto { ints: vec![1, 2], ..attr("ints", ty::INTS) },
        AttributeProto { floats: vec![1.5], ..attr("floats", ty::FLOATS) },
        AttributeProto { strings: vec![Bytes::from_static(b"a")], ..attr("strings", ty::STRINGS) },
        AttributeProto { t: Some(Box::default()), ..attr("t", ty::TENSOR) },
        AttributeProto { g: Some(Box::default()), ..attr("g", ty::GRAPH) },
        AttributeProto { graphs: vec![GraphProto::default()], ..attr("gs", ty::GRAPHS) },
        AttributeProto { tp: Some(Box::default()), ..attr("tp", ty::TYPE_PROTO) },
        AttributeProto { sparse_tensor: Some(Box::default()), ..attr("sp", ty::SPARSE_TENSOR) },
    ])
}

#[test]
fn values_of_every_type() {
    let node = full();
    let a = Attrs::new(&node).unwrap();
    assert_eq!((a.names().count(), a.names().last()), (11, Some("sp")));
    assert_eq!((a.i("i", 7).unwrap(), a.i("none", 7).unwrap(), a.require_i("i").unwrap()), (-3, 7, -3));
    assert_eq!((a.f("f", 1.0).unwrap(), a.f("none", 1.0).unwrap()), (0.5, 1.0));
    assert_eq!((a.s("s", "x").unwrap(), a.s("none", "x").unwrap()), ("SAME", "x"));
    assert_eq!(a.ints("ints").unwrap(), Some(&[1, 2][..]));
    assert_eq!(a.ints("none").unwrap(), None);
    assert_eq!(a.require_floats("floats").unwrap(), [1.5]);
    assert_eq!(a.require_strings("strings").unwrap(), ["a"]);
    assert!(a.require_tensor("t").is_ok() && a.require_graph("g").is_ok());
    assert!(a.has("gs") && a.type_proto("tp").unwrap().is_some() && a.sparse_tensor("sp").unwrap().is_some());
}

#[test]
fn wrong_types_and_missing_ones_are_named() {
    let node = full();
    let a = Attrs::new(&node).unwrap();
    let e = a.i("f", 0).unwrap_err();
    assert_eq!((e.code, e.node.as_deref()), (code::ATTR_TYPE, Some("n")));
    assert!(e.message.contains("`f`") && e.message.contains("must be int, but is float"), "{e}");
    assert_eq!(a.ints("i").unwrap_err().code, code::ATTR_TYPE);
    let e = a.require_ints("axes").unwrap_err();
    assert_eq!(e.code, code::ATTR_MISSING);
    assert!(e.message.contains("`axes`") && e.message.contains("`Op`"));
}

#[test]
fn old_files_do_not_say_the_type() {
    let old = node(vec![
        AttributeProto { i: Some(0), ..attr("i", 0) },
        AttributeProto { floats: vec![1.0], ..attr("v", 0) },
    ]);
    let a = Attrs::new(&old).unwrap();
    assert_eq!((a.require_i("i").unwrap(), a.require_floats("v").unwrap()), (0, &[1.0][..]));
}

#[test]
fn zeros_left_out_by_the_writer() {
    let n = node(vec![attr("i", ty::INT), attr("f", ty::FLOAT), attr("s", ty::STRING), attr("v", ty::INTS)]);
    let a = Attrs::new(&n).unwrap();
    assert_eq!((a.i("i", 9).unwrap(), a.f("f", 9.0).unwrap(), a.s("s", "d").unwrap()), (0, 0.0, ""));
    assert_eq!(a.ints("v").unwrap(), Some(&[][..]));
}

#[test]
fn contradictions_are_refused() {
    let two = AttributeProto { i: Some(1), f: Some(1.0), ..attr("a", ty::INT) };
    let lie = AttributeProto { f: Some(1.0), ..attr("a", ty::INT) };
    let reference = AttributeProto { ref_attr_name: "x".into(), ..attr("a", ty::INT) };
    let cases = [
        (vec![two], code::ATTR_VALUE),
        (vec![lie], code::ATTR_VALUE),
        (vec![reference], code::ATTR_VALUE),
        (vec![attr("a", 0)], code::ATTR_VALUE),
        (vec![attr("a", 99)], code::ATTR_VALUE),
        (vec![attr("a", -1)], code::ATTR_VALUE),
        (vec![attr("a", ty::TENSOR)], code::ATTR_VALUE),
        (vec![attr("", ty::INT)], code::EMPTY_NAME),
        (vec![attr("a", ty::INT), attr("a", ty::INT)], code::ATTR_TWICE),
    ];
    for (attrs, want) in cases {
        let node = node(attrs);
        assert_eq!(Attrs::new(&node).unwrap_err().code, want, "{node:?}");
    }
    let bad = node(vec![AttributeProto { s: Some(Bytes::from_static(b"\xff")), ..attr("s", ty::STRING) }]);
    let a = Attrs::new(&bad).unwrap();
    assert_eq!(a.s("s", "").unwrap_err().code, code::ATTR_VALUE);
    assert_eq!(a.opt_bytes("s").unwrap().unwrap(), &b"\xff"[..]);
}
