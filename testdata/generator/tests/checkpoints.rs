//! Checkpoints written byte by byte, sound and damaged: the numbers that they hold, or an error that says what is wrong.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm_generator::{Checkpoint, Error, Init, Parameter, Weights as _};
use std::path::Path;

/// A file: the length of the header, the header, the data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn tensor(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""a.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn parameter(name: &str, dims: &[usize]) -> Parameter {
    Parameter {
        name: name.into(),
        dims: dims.into(),
        init: Init::near(0.0),
        transposed: false,
        statistic: false,
    }
}

/// The elements of `a.weight`, or the message of the error.
fn read(bytes: Vec<u8>, dims: &[usize]) -> Result<Vec<f32>, String> {
    let values = |file: Checkpoint| file.values(&parameter("a.weight", dims));
    Checkpoint::from_bytes(bytes).and_then(values).map_err(|e| e.to_string())
}

fn bytes_of(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[test]
fn the_float_types_are_read() {
    let values = [1.5f32, -2.0, 0.0, 1.0e-3, 7.0, -0.25];
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, tensor("F32", "[2,3]", "[0,24]"));
    assert_eq!(read(file(&header, &data), &[2, 3]).unwrap(), values);
    // 1.5, -2, the least subnormal and the largest number of each type.
    let header = format!("{{{}}}", tensor("F16", "[4]", "[0,8]"));
    let halves = bytes_of(&[0x3e00, 0xc000, 0x0001, 0x7bff]);
    assert_eq!(read(file(&header, &halves), &[4]).unwrap(), [1.5, -2.0, (-24f32).exp2(), 65504.0]);
    let header = format!("{{{}}}", tensor("BF16", "[4]", "[0,8]"));
    let brains = bytes_of(&[0x3fc0, 0xc000, 0x0001, 0x7f7f]);
    let largest = f32::from_bits(0x7f7f_0000);
    assert_eq!(read(file(&header, &brains), &[4]).unwrap(), [1.5, -2.0, f32::from_bits(0x1_0000), largest]);
}

#[test]
fn a_tensor_is_found_under_its_older_names() {
    let entry = |name: &str, at: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{at},{}]}}"#, at + 4)
    };
    let header = format!("{{{},{}}}", entry("bert.x.LayerNorm.gamma", 0), entry("bert.y.bias", 4));
    let data = [3.0f32.to_le_bytes(), 4.0f32.to_le_bytes()].concat();
    let checkpoint = Checkpoint::from_bytes(file(&header, &data)).unwrap();
    assert_eq!(checkpoint.values(&parameter("x.LayerNorm.weight", &[1])).unwrap(), [3.0]);
    assert_eq!(checkpoint.values(&parameter("y.bias", &[1])).unwrap(), [4.0]);
}

#[test]
fn what_a_model_cannot_use_is_named() {
    let header = format!("{{{}}}", tensor("F32", "[2]", "[0,8]"));
    let sound = Checkpoint::from_bytes(file(&header, &[0; 8])).unwrap();
    let missing = sound.values(&parameter("b.bias", &[2])).unwrap_err().to_string();
    assert_eq!(missing, "the checkpoint has no tensor `b.bias`");
    let error = read(file(&header, &[0; 8]), &[1, 2]).unwrap_err();
    assert_eq!(error, "the checkpoint has `a.weight` with extents [2], not [1, 2]");
    let integers = format!("{{{}}}", tensor("I64", "[1]", "[0,8]"));
    let error = read(file(&integers, &[0; 8]), &[1]).unwrap_err();
    assert_eq!(error, "the checkpoint has `a.weight` as I64, which is not a float type");
}

#[test]
fn malformed_files_are_refused() {
    let sound = format!("{{{}}}", tensor("F32", "[2]", "[0,8]"));
    let with = |dtype, shape, offsets| file(&format!("{{{}}}", tensor(dtype, shape, offsets)), &[0; 8]);
    let two =
        format!("{{{},{}}}", tensor("F32", "[2]", "[0,8]"), tensor("F32", "[1]", "[4,8]").replace('a', "b"));
    let cases = [
        ("no bytes", vec![]),
        ("no header", vec![8, 0, 0, 0, 0, 0, 0, 0]),
        ("a header longer than the file", [&u64::MAX.to_le_bytes(), sound.as_bytes()].concat()),
        ("a header that is not JSON", file("{\"a", &[])),
        ("a header that is not UTF-8", [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat()),
        ("an unknown type", with("F31", "[2]", "[0,8]")),
        ("less data than elements", with("F32", "[3]", "[0,8]")),
        ("offsets in the wrong order", with("F32", "[2]", "[8,0]")),
        ("offsets behind the end", with("F32", "[2]", "[8,16]")),
        ("an extent that overflows", with("F32", "[9223372036854775807,9223372036854775807]", "[0,8]")),
        ("a negative extent", with("F32", "[-2]", "[0,8]")),
        ("tensors that overlap", file(&two, &[0; 8])),
        ("data that no tensor owns", file(&sound, &[0; 12])),
        ("data that is cut off", file(&sound, &[0; 7])),
    ];
    for (what, bytes) in cases {
        let error = Checkpoint::from_bytes(bytes).expect_err(what);
        assert!(matches!(error, Error::Checkpoint(_)), "{what}: {error}");
        assert!(
            error.to_string().starts_with("the checkpoint is not in safetensors form: "),
            "{what}: {error}"
        );
    }
    // Every cut and every flipped bit of a sound file: an error or two numbers.
    let sound = file(&sound, &[0; 8]);
    for len in 0..sound.len() {
        assert!(Checkpoint::from_bytes(sound[..len].to_vec()).is_err(), "{len} bytes");
    }
    for bit in 0..8 * sound.len() {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(values) = read(bytes, &[2]) {
            assert_eq!(values.len(), 2, "bit {bit}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Checkpoint::open(Path::new("no such file.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().starts_with("no such file.safetensors: "));
}
