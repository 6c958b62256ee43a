//! Tests of the module beside this file.

use super::*;
use crate::onnx::encode;
use crate::onnx::proto::{Segment, SparseTensorProto};
use crate::onnx::sparse;
use prost::Message as _;
use std::path::Path;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn read(t: &TensorProto) -> Result<Payload, ReadError> {
    let limits = Limits::default();
    decode(t, &mut ExternalFiles::new(Path::new(""), &limits), &limits)
}

fn dense(t: &TensorProto) -> RawTensor {
    read(t).unwrap().dense().unwrap()
}

/// Files written by the reference implementation: type code, the same three to five values in a typed field and in
/// `raw_data`, and the elements as NumPy keeps them (signed narrow types: sign-extended).
const REFERENCE: [(i32, &str, &str, &str); 27] = [
    (
        1,
        "08031001220c0000c03f000000c00000803e4200",
        "080310014a0c0000c03f000000c00000803e",
        "0000c03f000000c00000803e",
    ),
    (2, "080310022a0500c801ff014200", "080310024a0300c8ff", "00c8ff"),
    (3, "080310032a1580ffffffffffffffff01ffffffffffffffffff017f4200", "080310034a0380ff7f", "80ff7f"),
    (4, "080310042a0700c0b802ffff034200", "080310044a060000409cffff", "0000409cffff"),
    (
        5,
        "080310052a178080feffffffffffff01ffffffffffffffffff01ffff014200",
        "080310054a060080ffffff7f",
        "0080ffffff7f",
    ),
    (
        6,
        "080310062a1980808080f8ffffffff01ffffffffffffffffff01ffffffff074200",
        "080310064a0c00000080ffffffffffffff7f",
        "00000080ffffffffffffff7f",
    ),
    (
        7,
        "080310073a1d80808080808080808001ffffffffffffffffff01ffffffffffffffff7f4200",
        "080310074a180000000000000080ffffffffffffffffffffffffffffff7f",
        "0000000000000080ffffffffffffffffffffffffffffff7f",
    ),
    (9, "080310092a030100014200", "080310094a03010001", "010001"),
    (10, "0803100a2a08807880f002fff7014200", "0803100a4a06003c00b8ff7b", "003c00b8ff7b"),
    (
        11,
        "0803100b42005218000000000000f83f00000000000000c09c7500883ce4377e",
        "0803100b4a18000000000000f83f00000000000000c09c7500883ce4377e",
        "000000000000f83f00000000000000c09c7500883ce4377e",
    ),
    (
        12,
        "0803100c42005a070001ffffffff0f",
        "0803100c4a0c0000000001000000ffffffff",
        "0000000001000000ffffffff",
    ),
    (
        13,
        "0803100d42005a0c0001ffffffffffffffffff01",
        "0803100d4a1800000000000000000100000000000000ffffffffffffffff",
        "00000000000000000100000000000000ffffffffffffffff",
    ),
    (
        14,
        "0803100e22180000803f0000004000000000000080bf00004040000000004200",
        "0803100e4a180000803f0000004000000000000080bf0000404000000000",
        "0000803f0000004000000000000080bf0000404000000000",
    ),
    (
        15,
        "0803100f42005230000000000000f03f00000000000000400000000000000000000000000000f0bf00000000000008400000000000000000",
        "0803100f4a30000000000000f03f00000000000000400000000000000000000000000000f0bf00000000000008400000000000000000",
        "000000000000f03f00000000000000400000000000000000000000000000f0bf00000000000008400000000000000000",
    ),
    (16, "080310102a08807f80fe02c080014200", "080310104a06803f00bf4040", "803f00bf4040"),
    (17, "080310112a0438b0017e4200", "080310114a0338b07e", "38b07e"),
    (18, "080310122a0440b8017f4200", "080310124a0340b87f", "40b87f"),
    (19, "080310132a043cb8017b4200", "080310134a033cb87b", "3cb87b"),
    (20, "080310142a0440bc017f4200", "080310144a0340bc7f", "40bc7f"),
    (21, "080310152a03f101074200", "080310154a02f107", "010f07"),
    (22, "080310162a03f801074200", "080310164a02f807", "f8ff07"),
    (23, "080310172a03f101054200", "080310174a02f105", "010f05"),
    (24, "080310182a047f80017e4200", "080310184a037f807e", "7f807e"),
    (25, "080510192a0239034200", "080510194a023903", "0102030003"),
    (26, "0805101a2a024e024200", "0805101a4a024e02", "feff0001fe"),
    (27, "0805101b2a0508241f013f4200", "0805101b4a0408f9053f", "08241f013f"),
    (28, "0805101c2a050c281f043f4200", "0805101c4a040cfa113f", "0c281f043f"),
];

#[test]
fn every_type_as_the_reference_implementation_writes_it() {
    for (code, typed, raw, want) in REFERENCE {
        for file in [typed, raw] {
            let t = TensorProto::decode(&*bytes(file)).unwrap();
            let got = dense(&t);
            assert_eq!(got.dtype.code(), code);
            assert_eq!(got.data, bytes(want), "type {code}, {file}");
            assert_eq!(got.count() * u64::from(got.dtype.size()), got.data.len() as u64);
        }
    }
}

#[test]
fn encoding_gives_the_reference_bytes() {
    for (_, _, raw, _) in REFERENCE {
        let t = TensorProto::decode(&*bytes(raw)).unwrap();
        assert_eq!(encode::encode("", &dense(&t)).unwrap(), bytes(raw));
    }
    let bad = RawTensor { dtype: OnnxType::Int4, dims: vec![3], data: Bytes::from_static(b"ab") };
    assert_eq!(encode::encode("t", &bad).unwrap_err().code, code::TENSOR_SIZE);
}

#[test]
fn raw_data_is_not_copied() {
    let raw = Bytes::from(vec![7u8; 4096]);
    let t = TensorProto { dims: vec![1024], data_type: 1, raw_data: Some(raw.clone()), ..Default::default() };
    assert_eq!(dense(&t).data.as_ptr(), raw.as_ptr());
}

#[test]
fn bool_is_zero_or_one() {
    let raw = Bytes::from_static(&[0, 1, 2, 255]);
    let t = TensorProto { dims: vec![4], data_type: 9, raw_data: Some(raw), ..Default::default() };
    assert_eq!(dense(&t).data, &[0, 1, 1, 1][..]);
    let t = TensorProto { dims: vec![3], data_type: 9, int32_data: vec![0, -1, 256], ..Default::default() };
    assert_eq!(dense(&t).data, &[0, 1, 1][..]);
}

#[test]
fn scalars_empty_tensors_and_strings() {
    let t = TensorProto { data_type: 7, int64_data: vec![-2], ..Default::default() };
    assert_eq!((dense(&t).dims.len(), dense(&t).data), (0, Bytes::copy_from_slice(&(-2i64).to_le_bytes())));
    let t =
        TensorProto { dims: vec![3, 0], data_type: 1, raw_data: Some(Bytes::new()), ..Default::default() };
    assert_eq!((dense(&t).dims, dense(&t).data.len()), (vec![3, 0], 0));
    let values = vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")];
    let t = TensorProto { dims: vec![2], data_type: 8, string_data: values.clone(), ..Default::default() };
    let Payload::Strings(s) = read(&t).unwrap() else { panic!("not strings") };
    assert_eq!(s.values, values);
    assert_eq!(encode::strings_to_proto("", &s).unwrap(), t);
    assert_eq!(read(&t).unwrap().dense().unwrap_err().code, code::TENSOR_TYPE);
}

fn f32s(dims: Vec<i64>) -> TensorProto {
    TensorProto { name: "w".into(), dims, data_type: 1, ..Default::default() }
}

#[test]
fn sizes_must_match_and_both_are_named() {
    let t = TensorProto { raw_data: Some(Bytes::from_static(&[0; 20])), ..f32s(vec![2, 3]) };
    let e = read(&t).unwrap_err();
    assert_eq!((e.code, e.node.as_deref()), (code::TENSOR_SIZE, Some("w")));
    assert!(e.message.contains("24") && e.message.contains("20") && e.message.contains("[2, 3]"), "{e}");
    for (data_type, dims, ok, bad) in
        [(22, 3, 2, 1), (22, 3, 2, 3), (25, 5, 2, 3), (27, 5, 4, 3), (10, 3, 6, 5), (2, 0, 0, 1)]
    {
        let with = |len: usize| TensorProto {
            dims: vec![dims],
            data_type,
            raw_data: Some(Bytes::from(vec![0; len])),
            ..Default::default()
        };
        assert!(read(&with(ok)).is_ok(), "type {data_type}");
        assert_eq!(read(&with(bad)).unwrap_err().code, code::TENSOR_SIZE, "type {data_type}");
    }
    assert_eq!(read(&f32s(vec![1])).unwrap_err().code, code::TENSOR_SIZE);
    let t = TensorProto { float_data: vec![0.0; 5], ..f32s(vec![2, 3]) };
    assert!(read(&t).unwrap_err().message.contains("needs 6 values in float_data, but has 5"));
}

#[test]
fn impossible_dimensions() {
    for dims in [
        vec![-1],
        vec![i64::MIN, 0],
        vec![i64::MAX],
        vec![1 << 40, 1 << 40],
        vec![0, i64::MAX, i64::MAX],
        vec![1; MAX_RANK + 1],
    ] {
        assert_eq!(read(&f32s(dims.clone())).unwrap_err().code, code::TENSOR_DIMS, "{dims:?}");
    }
    assert_eq!(read(&f32s(vec![1 << 50])).unwrap_err().code, code::LIMIT);
}

#[test]
fn contradictions_are_refused() {
    let raw = || Some(Bytes::from_static(&[0; 4]));
    let cases = [
        (TensorProto { raw_data: raw(), float_data: vec![1.0], ..f32s(vec![1]) }, code::TENSOR_TWICE),
        (TensorProto { int32_data: vec![1], float_data: vec![1.0], ..f32s(vec![1]) }, code::TENSOR_TWICE),
        (TensorProto { raw_data: raw(), data_location: 1, ..f32s(vec![1]) }, code::TENSOR_TWICE),
        (TensorProto { int32_data: vec![1], ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { string_data: vec![Bytes::new()], ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { raw_data: raw(), data_type: 8, ..f32s(vec![4]) }, code::TENSOR_FIELD),
        (TensorProto { raw_data: raw(), data_type: 0, ..f32s(vec![1]) }, code::TENSOR_TYPE),
        (TensorProto { raw_data: raw(), data_type: 29, ..f32s(vec![1]) }, code::TENSOR_TYPE),
        (TensorProto { raw_data: raw(), data_location: 2, ..f32s(vec![1]) }, code::SCHEMA),
        (
            TensorProto { raw_data: raw(), segment: Some(Segment::default()), ..f32s(vec![1]) },
            code::TENSOR_SEGMENT,
        ),
        (TensorProto { int32_data: vec![256], data_type: 2, ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { int32_data: vec![-129], data_type: 3, ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { int32_data: vec![65536], data_type: 10, ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { int32_data: vec![64], data_type: 27, ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { int32_data: vec![300], data_type: 22, ..f32s(vec![2]) }, code::TENSOR_FIELD),
        (TensorProto { uint64_data: vec![1 << 32], data_type: 12, ..f32s(vec![1]) }, code::TENSOR_FIELD),
        (TensorProto { data_location: 1, ..f32s(vec![1]) }, code::EXTERNAL_ENTRY),
    ];
    for (t, want) in cases {
        assert_eq!(read(&t).unwrap_err().code, want, "{t:?}");
    }
}

fn ints(dims: Vec<i64>, int64_data: Vec<i64>) -> Option<TensorProto> {
    Some(TensorProto { dims, data_type: 7, int64_data, ..Default::default() })
}

fn sparse_of(values: &[f32], index_dims: Vec<i64>, indices: &[i64], dims: &[i64]) -> SparseTensorProto {
    let values = TensorProto { float_data: values.to_vec(), ..f32s(vec![values.len() as i64]) };
    SparseTensorProto {
        values: Some(values),
        indices: ints(index_dims, indices.to_vec()),
        dims: dims.to_vec(),
    }
}

fn read_sparse(s: &SparseTensorProto) -> Result<Vec<f32>, ReadError> {
    let limits = Limits { sparse_bytes: 1 << 20, ..Limits::default() };
    let t = sparse::decode(s, &mut ExternalFiles::new(Path::new(""), &limits), &limits)?;
    Ok(t.data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

#[test]
fn sparse_tensors() {
    let want = vec![0.0, 5.0, 0.0, 0.0, 0.0, 6.0];
    assert_eq!(read_sparse(&sparse_of(&[5.0, 6.0], vec![2], &[1, 5], &[2, 3])).unwrap(), want);
    assert_eq!(read_sparse(&sparse_of(&[5.0, 6.0], vec![2, 2], &[0, 1, 1, 2], &[2, 3])).unwrap(), want);
    assert_eq!(read_sparse(&sparse_of(&[], vec![0], &[], &[2])).unwrap(), [0.0, 0.0]);
}

#[test]
fn malformed_sparse_tensors() {
    for (index_dims, indices, dims) in [
        (vec![2], vec![1, 6], vec![2, 3]),
        (vec![2], vec![-1, 2], vec![2, 3]),
        (vec![2], vec![5, 1], vec![2, 3]),
        (vec![2], vec![1, 1], vec![2, 3]),
        (vec![2, 2], vec![0, 3, 1, 0], vec![2, 3]),
        (vec![2, 2], vec![0, -1, 1, 0], vec![2, 3]),
        (vec![2, 2], vec![1, 0, 0, 1], vec![2, 3]),
        (vec![3], vec![0, 1, 2], vec![2, 3]),
        (vec![2, 1], vec![0, 1], vec![2, 3]),
        (vec![2, 0], vec![], vec![]),
    ] {
        let s = sparse_of(&[1.0, 2.0], index_dims, &indices, &dims);
        assert_eq!(read_sparse(&s).unwrap_err().code, code::SPARSE, "{s:?}");
    }
    let huge = sparse_of(&[1.0], vec![1], &[0], &[1 << 30]);
    assert_eq!(read_sparse(&huge).unwrap_err().code, code::LIMIT);
    let none = SparseTensorProto { values: None, ..sparse_of(&[], vec![0], &[], &[2]) };
    assert_eq!(read_sparse(&none).unwrap_err().code, code::SPARSE);
}
