//! Decoding tensors: whatever form a file uses, the result is dense little-endian bytes.

use super::dtype::OnnxType;
use super::error::{ReadError, code};
use super::external::ExternalFiles;
use super::limits::Limits;
use super::proto::TensorProto;
use bytes::Bytes;

/// The most dimensions a tensor may have.
pub const MAX_RANK: usize = 64;

/// A dense tensor of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor {
    /// Element type.
    pub dtype: OnnxType,
    /// Extents, outermost first.
    pub dims: Vec<u64>,
    /// The elements, row-major and little-endian, at any alignment. A type narrower than a byte takes one byte an
    /// element: integers sign- or zero-extended, small floats as their code. `bool` is 0 or 1.
    pub data: Bytes,
}

impl RawTensor {
    /// Number of elements.
    pub fn count(&self) -> u64 {
        self.dims.iter().fold(1, |n, d| n.saturating_mul(*d))
    }
}

/// A tensor of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringTensor {
    /// Extents, outermost first.
    pub dims: Vec<u64>,
    /// The elements, row-major; UTF-8 by the standard, but not checked.
    pub values: Vec<Bytes>,
}

/// A decoded tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Numbers.
    Dense(RawTensor),
    /// Strings.
    Strings(StringTensor),
}

impl Payload {
    /// The tensor, if it holds numbers.
    pub fn dense(self) -> Result<RawTensor, ReadError> {
        match self {
            Self::Dense(tensor) => Ok(tensor),
            Self::Strings(_) => {
                Err(ReadError::new(code::TENSOR_TYPE, "a tensor of strings where numbers are needed"))
            }
        }
    }

    /// Extents, outermost first.
    pub fn dims(&self) -> &[u64] {
        match self {
            Self::Dense(tensor) => &tensor.dims,
            Self::Strings(tensor) => &tensor.dims,
        }
    }
}

/// Decodes a tensor. Raw and external data of byte-sized types share the file's memory.
pub fn decode(
    tensor: &TensorProto,
    files: &mut ExternalFiles,
    limits: &Limits,
) -> Result<Payload, ReadError> {
    decode_unnamed(tensor, files, limits).map_err(|e| e.at(&tensor.name))
}

fn decode_unnamed(t: &TensorProto, files: &mut ExternalFiles, limits: &Limits) -> Result<Payload, ReadError> {
    if t.segment.is_some() {
        return Err(ReadError::new(code::TENSOR_SEGMENT, "the tensor is one segment of a larger one")
            .help("No exporter is known to write segments; export the model again."));
    }
    let dtype = dtype(t.data_type)?;
    let (dims, count) = shape(&t.dims, dtype, limits)?;
    let place = place(t)?;
    if dtype == OnnxType::String {
        return strings(t, &place, dims, count);
    }
    let packed = dtype.packed_len(count).ok_or_else(|| too_large(&t.dims))?;
    let data = match place {
        Place::Nowhere => {
            expect_size(dtype, &dims, packed, 0, "bytes of data")?;
            Bytes::new()
        }
        Place::External => {
            let raw = files.resolve(t, packed)?;
            expect_size(dtype, &dims, packed, raw.len() as u64, "bytes of external data")?;
            unpack(dtype, count, raw)
        }
        Place::Raw(raw) => {
            expect_size(dtype, &dims, packed, raw.len() as u64, "bytes of raw_data")?;
            unpack(dtype, count, raw.clone())
        }
        Place::Typed(field) => typed(t, field, dtype, &dims, count)?,
    };
    Ok(Payload::Dense(RawTensor { dtype, dims, data }))
}

/// The element type with this code.
pub fn dtype(code: i32) -> Result<OnnxType, ReadError> {
    OnnxType::from_code(code).ok_or_else(|| {
        let what = match code {
            0 => "the tensor has no element type".to_owned(),
            _ => format!("the element type {code} does not exist in any known version of ONNX"),
        };
        ReadError::new(code::TENSOR_TYPE, what)
    })
}

fn too_large(dims: &[i64]) -> ReadError {
    ReadError::new(code::TENSOR_DIMS, format!("the dimensions {} are too large", list(dims)))
}

/// Dimensions as messages show them.
fn list<T: std::fmt::Debug>(dims: &[T]) -> String {
    if dims.len() <= 12 {
        format!("{dims:?}")
    } else {
        format!("{:?} (and {} more)", &dims[..12], dims.len() - 12)
    }
}

/// Checked dimensions and number of elements. Even beside a zero the other dimensions must multiply to something that
/// fits, so that no later product of some of them can overflow.
pub(super) fn shape(dims: &[i64], dtype: OnnxType, limits: &Limits) -> Result<(Vec<u64>, u64), ReadError> {
    if dims.len() > MAX_RANK {
        let what = format!("the tensor has {} dimensions; {MAX_RANK} are the most", dims.len());
        return Err(ReadError::new(code::TENSOR_DIMS, what));
    }
    let mut out = Vec::with_capacity(dims.len());
    let mut extent = 1u64;
    for &dim in dims {
        let dim = u64::try_from(dim).map_err(|_| {
            ReadError::new(code::TENSOR_DIMS, format!("the dimensions {} contain a negative one", list(dims)))
        })?;
        extent = extent.checked_mul(dim.max(1)).ok_or_else(|| too_large(dims))?;
        out.push(dim);
    }
    let bytes = extent.checked_mul(u64::from(dtype.size().max(1))).ok_or_else(|| too_large(dims))?;
    if i64::try_from(bytes).is_err() {
        return Err(too_large(dims));
    }
    let count = if out.contains(&0) { 0 } else { extent };
    if count > 0 && bytes > limits.tensor_bytes {
        let what = format!("the tensor takes {bytes} bytes, more than the limit of {}", limits.tensor_bytes);
        return Err(
            ReadError::new(code::LIMIT, what).help("If you trust the file, raise the limit `tensor-bytes`.")
        );
    }
    Ok((out, count))
}

/// Where a tensor keeps its data.
enum Place<'a> {
    Nowhere,
    External,
    Raw(&'a Bytes),
    Typed(&'static str),
}

fn place(t: &TensorProto) -> Result<Place<'_>, ReadError> {
    let typed = [
        ("float_data", t.float_data.len()),
        ("int32_data", t.int32_data.len()),
        ("string_data", t.string_data.len()),
        ("int64_data", t.int64_data.len()),
        ("double_data", t.double_data.len()),
        ("uint64_data", t.uint64_data.len()),
    ];
    let mut places = typed.iter().filter(|(_, len)| *len > 0).map(|(name, _)| (*name, Place::Typed(name)));
    // Some writers set `raw_data` to nothing beside a typed field.
    let raw = t.raw_data.as_ref().filter(|raw| !raw.is_empty()).map(|raw| ("raw_data", Place::Raw(raw)));
    let external = match t.data_location {
        0 => None,
        1 => Some(("external data", Place::External)),
        other => {
            let what = format!("the data location {other} does not exist");
            return Err(ReadError::new(code::SCHEMA, what));
        }
    };
    let mut all = external.into_iter().chain(raw).chain(&mut places);
    let Some((first, place)) = all.next() else { return Ok(Place::Nowhere) };
    match all.next() {
        None => Ok(place),
        Some((second, _)) => Err(ReadError::new(
            code::TENSOR_TWICE,
            format!("the tensor holds data twice: in {first} and in {second}"),
        )),
    }
}

fn expect_size(dtype: OnnxType, dims: &[u64], want: u64, got: u64, unit: &str) -> Result<(), ReadError> {
    if want == got {
        return Ok(());
    }
    let what =
        format!("a {} tensor of shape {} needs {want} {unit}, but has {got}", dtype.name(), list(dims));
    Err(ReadError::new(code::TENSOR_SIZE, what))
}

fn strings(t: &TensorProto, place: &Place<'_>, dims: Vec<u64>, count: u64) -> Result<Payload, ReadError> {
    match place {
        Place::Nowhere | Place::Typed("string_data") => {}
        Place::Typed(other) => return Err(wrong_field(other, OnnxType::String, "string_data")),
        Place::Raw(_) => return Err(wrong_field("raw_data", OnnxType::String, "string_data")),
        Place::External => return Err(wrong_field("external data", OnnxType::String, "string_data")),
    }
    expect_size(OnnxType::String, &dims, count, t.string_data.len() as u64, "strings")?;
    Ok(Payload::Strings(StringTensor { dims, values: t.string_data.clone() }))
}

fn wrong_field(field: &str, dtype: OnnxType, right: &str) -> ReadError {
    let what = format!("the data of a {} tensor is in {field} instead of {right}", dtype.name());
    ReadError::new(code::TENSOR_FIELD, what)
}

/// Dense bytes from packed ones of the right length.
pub(super) fn unpack(dtype: OnnxType, count: u64, raw: Bytes) -> Bytes {
    let bits = dtype.bits();
    if dtype == OnnxType::Bool {
        // The standard asks for 0 and 1; other writers mean "not zero".
        let clean = raw.iter().all(|b| *b <= 1);
        return if clean { raw } else { raw.iter().map(|b| u8::from(*b != 0)).collect() };
    }
    if bits >= 8 {
        return raw;
    }
    let widen = |value: u8| {
        let unused = 8 - bits;
        if dtype.signed_narrow() { (((value << unused) as i8) >> unused) as u8 } else { value }
    };
    // It fits: the packed bytes are in memory, and there are at most four elements in each.
    let count = count as usize;
    let mask = (1u8 << bits) - 1;
    let mut out = Vec::with_capacity(count + 4);
    if bits == 6 {
        for chunk in raw.chunks(3) {
            let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
            let word = at(0) | at(1) << 8 | at(2) << 16;
            out.extend((0..4).map(|k| (word >> (6 * k)) as u8 & mask));
        }
    } else {
        for byte in &raw {
            out.extend((0..8 / bits).map(|k| widen(byte >> (bits * k) & mask)));
        }
    }
    out.truncate(count);
    Bytes::from(out)
}

/// Decodes one of the typed fields.
fn typed(
    t: &TensorProto,
    field: &str,
    dtype: OnnxType,
    dims: &[u64],
    count: u64,
) -> Result<Bytes, ReadError> {
    use OnnxType::*;
    let right = match dtype {
        Float | Complex64 => "float_data",
        Double | Complex128 => "double_data",
        Int64 => "int64_data",
        Uint32 | Uint64 => "uint64_data",
        _ => "int32_data",
    };
    if field != right {
        return Err(wrong_field(field, dtype, right));
    }
    let (want, got) = match right {
        "float_data" => (count * u64::from(dtype.size() / 4), t.float_data.len()),
        "double_data" => (count * u64::from(dtype.size() / 8), t.double_data.len()),
        "int64_data" => (count, t.int64_data.len()),
        "uint64_data" => (count, t.uint64_data.len()),
        // One byte of packed elements in each; six-bit types do not pack here.
        _ if matches!(dtype.bits(), 2 | 4) => {
            (count.div_ceil(8 / u64::from(dtype.bits())), t.int32_data.len())
        }
        _ => (count, t.int32_data.len()),
    };
    expect_size(dtype, dims, want, got as u64, &format!("values in {right}"))?;
    let data = match right {
        "float_data" => t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        "double_data" => t.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        "int64_data" => t.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        "uint64_data" if dtype == Uint64 => t.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        "uint64_data" => narrow(&t.uint64_data, |v| u32::try_from(v).ok().map(u32::to_le_bytes), dtype)?,
        _ => return small(&t.int32_data, dtype, count),
    };
    Ok(Bytes::from(data))
}

/// Decodes `int32_data`, where everything up to 32 bits has a value each and narrow types have a byte each. Values
/// are taken as written with or without a sign: -1 and 255 are the same eight bits.
fn small(values: &[i32], dtype: OnnxType, count: u64) -> Result<Bytes, ReadError> {
    let fits = |v: i32, bits: u32| v >= -(1 << (bits - 1)) && v < 1 << bits;
    let byte = |v: i32| fits(v, 8).then_some([v as u8]);
    Ok(match (dtype, dtype.bits()) {
        (OnnxType::Int32, _) => Bytes::from(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
        (OnnxType::Bool, _) => values.iter().map(|v| u8::from(*v != 0)).collect(),
        (_, 16) => narrow(values, |v| fits(v, 16).then_some((v as u16).to_le_bytes()), dtype)?.into(),
        (_, 6) => narrow(values, |v| (0..64).contains(&v).then_some([v as u8]), dtype)?.into(),
        (_, 8) => narrow(values, byte, dtype)?.into(),
        _ => unpack(dtype, count, narrow(values, byte, dtype)?.into()),
    })
}

/// Converts values one by one, refusing those that do not fit.
fn narrow<T: Copy + std::fmt::Display, const N: usize>(
    values: &[T],
    convert: impl Fn(T) -> Option<[u8; N]>,
    dtype: OnnxType,
) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::with_capacity(values.len() * N);
    for &value in values {
        let bytes = convert(value).ok_or_else(|| {
            let what = format!("the value {value} does not fit the element type {}", dtype.name());
            ReadError::new(code::TENSOR_FIELD, what)
        })?;
        out.extend_from_slice(&bytes);
    }
    Ok(out)
}

#[cfg(test)]
#[path = "tensor_tests.rs"]
mod tests;
