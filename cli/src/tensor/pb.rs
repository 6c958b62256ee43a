//! ONNX `TensorProto` files, as the `test_data_set_N` folders of the ONNX project hold them.
//!
//! A reader of the few fields that such a file has; models are read by the compiler.

use super::{Array, byte_len};
use crate::codes;
use crate::error::{CliError, Exit};
use autoglm_runtime::elem::ElemType;

/// A field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

fn pb_error(message: &str) -> CliError {
    CliError::new(codes::PB, Exit::Invalid, format!("not a readable tensor file: {message}"))
}

fn unsupported(message: &str) -> CliError {
    CliError::new(codes::PB_TYPE, Exit::Unsupported, format!("tensor file: {message}"))
}

/// The fields of a `TensorProto` that matter, contents not yet decoded.
#[derive(Default)]
struct Proto<'a> {
    dims: Vec<u64>,
    data_type: u64,
    name: String,
    raw: Option<&'a [u8]>,
    /// `float_data`, `double_data`: little-endian elements.
    fixed: Vec<u8>,
    /// `int32_data`, `int64_data`, `uint64_data`.
    varints: Vec<u64>,
}

/// Reads a tensor and its name.
///
/// # Errors
/// `E0918` for a malformed file, `E0919` for strings, complex numbers and external data, `E0913`/`E0914` for a wrong size.
pub fn read(file: &[u8]) -> Result<(String, Array), CliError> {
    let proto = parse(file)?;
    let (elem, per_byte) = elem_type(proto.data_type)?;
    let dims: Option<Vec<usize>> = proto.dims.iter().map(|&d| usize::try_from(d as i64).ok()).collect();
    let dims = dims.ok_or_else(|| pb_error("a dimension is negative"))?;
    let count = byte_len(elem, &dims)? / elem.size();
    let mut bytes = match proto.raw {
        Some(raw) => raw.to_vec(),
        None if !proto.fixed.is_empty() => proto.fixed,
        // The typed fields hold each element in the low bytes of a number; packed elements share one number a byte.
        None => proto.varints.iter().flat_map(|v| v.to_le_bytes().into_iter().take(elem.size())).collect(),
    };
    if per_byte > 1 {
        bytes = unpack(&bytes, per_byte, elem, count)?;
    }
    if elem == ElemType::Bool {
        bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    Ok((proto.name, Array::new(elem, dims, bytes)?))
}

/// The file for a tensor, contents as raw data.
pub fn write(name: &str, array: &Array) -> Vec<u8> {
    let mut out = Vec::with_capacity(array.bytes.len() + 64);
    for &dim in &array.dims {
        out.push(1 << 3);
        put_varint(&mut out, dim as u64);
    }
    let (code, per_byte) = onnx_code(array.elem);
    out.push(2 << 3);
    put_varint(&mut out, code);
    put_bytes(&mut out, 8, name.as_bytes());
    if per_byte == 1 {
        put_bytes(&mut out, 9, &array.bytes);
    } else {
        put_bytes(&mut out, 9, &pack(&array.bytes, per_byte));
    }
    out
}

/// Element types by their ONNX number, with how many elements share a byte.
const TYPES: [(u64, ElemType, usize); 23] = [
    (1, ElemType::F32, 1),
    (2, ElemType::U8, 1),
    (3, ElemType::I8, 1),
    (4, ElemType::U16, 1),
    (5, ElemType::I16, 1),
    (6, ElemType::I32, 1),
    (7, ElemType::I64, 1),
    (9, ElemType::Bool, 1),
    (10, ElemType::F16, 1),
    (11, ElemType::F64, 1),
    (12, ElemType::U32, 1),
    (13, ElemType::U64, 1),
    (16, ElemType::BF16, 1),
    (17, ElemType::F8E4M3FN, 1),
    (18, ElemType::F8E4M3FNUZ, 1),
    (19, ElemType::F8E5M2, 1),
    (20, ElemType::F8E5M2FNUZ, 1),
    (21, ElemType::U4, 2),
    (22, ElemType::I4, 2),
    (23, ElemType::F4E2M1, 2),
    (24, ElemType::F8E8M0, 1),
    (25, ElemType::U2, 4),
    (26, ElemType::I2, 4),
];

fn elem_type(code: u64) -> Result<(ElemType, usize), CliError> {
    match TYPES.iter().find(|row| row.0 == code) {
        Some(&(_, elem, per_byte)) => Ok((elem, per_byte)),
        None if code == 8 => Err(unsupported("strings are not supported")),
        None if code == 14 || code == 15 => Err(unsupported("complex numbers are not supported")),
        None => Err(pb_error(&format!("element type {code} is unknown"))),
    }
}

fn onnx_code(elem: ElemType) -> (u64, usize) {
    TYPES.iter().find(|row| row.1 == elem).map_or((0, 1), |row| (row.0, row.2))
}

/// One byte an element from elements that share bytes, the first in the low bits.
fn unpack(packed: &[u8], per_byte: usize, elem: ElemType, count: usize) -> Result<Vec<u8>, CliError> {
    if packed.len() != count.div_ceil(per_byte) {
        return Err(pb_error(&format!("{count} packed elements in {} bytes", packed.len())));
    }
    let bits = 8 / per_byte;
    let signed = matches!(elem, ElemType::I4 | ElemType::I2);
    let element = |i: usize| {
        let low = (packed[i / per_byte] >> (i % per_byte * bits)) << (8 - bits);
        if signed { ((low as i8) >> (8 - bits)) as u8 } else { low >> (8 - bits) }
    };
    Ok((0..count).map(element).collect())
}

fn pack(bytes: &[u8], per_byte: usize) -> Vec<u8> {
    let bits = 8 / per_byte;
    let mask = (1u8 << bits) - 1;
    let byte = |chunk: &[u8]| chunk.iter().enumerate().fold(0, |b, (i, &x)| b | (x & mask) << (i * bits));
    bytes.chunks(per_byte).map(byte).collect()
}

fn parse(file: &[u8]) -> Result<Proto<'_>, CliError> {
    let mut proto = Proto::default();
    let mut rest = file;
    while !rest.is_empty() {
        let (number, field) = next_field(&mut rest)?;
        match (number, field) {
            (1, field) => put_numbers(&mut proto.dims, field)?,
            (2, Field::Varint(code)) => proto.data_type = code,
            (4 | 10, Field::Bytes(bytes) | Field::Fixed(bytes)) => proto.fixed.extend_from_slice(bytes),
            (5 | 7 | 11, field) => put_numbers(&mut proto.varints, field)?,
            (6, _) => return Err(unsupported("strings are not supported")),
            (8, Field::Bytes(name)) => proto.name = String::from_utf8_lossy(name).into_owned(),
            (9, Field::Bytes(raw)) => proto.raw = Some(raw),
            (13, _) | (14, Field::Varint(1)) => {
                return Err(unsupported("its contents are in another file"));
            }
            (3, _) => return Err(unsupported("it is a segment of a larger tensor")),
            (12 | 14 | 16, _) => {}
            (number, _) => return Err(pb_error(&format!("field {number} does not belong to a tensor"))),
        }
    }
    Ok(proto)
}

/// A repeated number, packed or not.
fn put_numbers(out: &mut Vec<u64>, field: Field<'_>) -> Result<(), CliError> {
    match field {
        Field::Varint(value) => out.push(value),
        Field::Bytes(mut packed) => {
            while !packed.is_empty() {
                out.push(take_varint(&mut packed)?);
            }
        }
        Field::Fixed(_) => return Err(pb_error("a number has the wrong wire type")),
    }
    Ok(())
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Field<'a>), CliError> {
    let tag = take_varint(rest)?;
    let field = match tag & 7 {
        0 => Field::Varint(take_varint(rest)?),
        1 => Field::Fixed(take(rest, 8)?),
        2 => {
            let length = take_varint(rest)?;
            Field::Bytes(take(rest, length)?)
        }
        5 => Field::Fixed(take(rest, 4)?),
        wire => return Err(pb_error(&format!("wire type {wire} is unknown"))),
    };
    Ok((tag >> 3, field))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], CliError> {
    let length = usize::try_from(length).ok().filter(|&n| n <= rest.len());
    let (head, tail) = rest.split_at(length.ok_or_else(|| pb_error("it is cut off"))?);
    *rest = tail;
    Ok(head)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, CliError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(pb_error("a number is too long"))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
