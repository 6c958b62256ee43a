//! Making sparse tensors dense.

use super::dtype::OnnxType;
use super::error::{ReadError, code};
use super::external::ExternalFiles;
use super::limits::Limits;
use super::proto::SparseTensorProto;
use super::tensor::{self, RawTensor};
use bytes::Bytes;

/// Decodes a sparse tensor to a dense one, with zeros where it has no value. Its name is that of its `values`.
pub fn decode(
    sparse: &SparseTensorProto,
    files: &mut ExternalFiles,
    limits: &Limits,
) -> Result<RawTensor, ReadError> {
    let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
    decode_unnamed(sparse, files, limits).map_err(|e| e.at(name))
}

fn bad(what: impl Into<String>) -> ReadError {
    ReadError::new(code::SPARSE, what)
}

fn decode_unnamed(
    sparse: &SparseTensorProto,
    files: &mut ExternalFiles,
    limits: &Limits,
) -> Result<RawTensor, ReadError> {
    let Some(values) = &sparse.values else { return Err(bad("the sparse tensor has no values")) };
    let values = tensor::decode(values, files, limits)?.dense()?;
    let (dims, count) = tensor::shape(&sparse.dims, values.dtype, limits)?;
    let width = u64::from(values.dtype.size());
    if count * width > limits.sparse_bytes {
        let what = format!(
            "made dense, the sparse tensor takes {} bytes; the limit is {}",
            count * width,
            limits.sparse_bytes
        );
        return Err(
            ReadError::new(code::LIMIT, what).help("If you trust the file, raise the limit `sparse-bytes`.")
        );
    }
    if values.dims.len() != 1 {
        return Err(bad(format!(
            "the values of a sparse tensor must have one dimension, not {}",
            values.dims.len()
        )));
    }
    let places = match &sparse.indices {
        Some(indices) => {
            places(&tensor::decode(indices, files, limits)?.dense()?, values.dims[0], &dims, count)?
        }
        None if values.dims[0] == 0 => Vec::new(),
        None => return Err(bad("the sparse tensor has no indices")),
    };
    // Both fit: the limit on the bytes was checked above, and `width` is at most 16.
    let (size, width) = ((count * width) as usize, width as usize);
    let mut data = Vec::new();
    data.try_reserve_exact(size)
        .map_err(|_| ReadError::new(code::LIMIT, format!("no memory for a tensor of {size} bytes")))?;
    data.resize(size, 0);
    for (place, value) in places.iter().zip(values.data.chunks_exact(width)) {
        let at = *place as usize * width;
        data[at..at + width].copy_from_slice(value);
    }
    Ok(RawTensor { dtype: values.dtype, dims, data: Bytes::from(data) })
}

/// The linear index of each value: checked to be inside, ascending and so without repetition.
fn places(indices: &RawTensor, number: u64, dims: &[u64], count: u64) -> Result<Vec<u64>, ReadError> {
    if indices.dtype != OnnxType::Int64 {
        return Err(bad(format!(
            "the indices of a sparse tensor must be int64, not {}",
            indices.dtype.name()
        )));
    }
    let rank = dims.len() as u64;
    let linear = match indices.dims.as_slice() {
        [n] if *n == number => true,
        [n, r] if *n == number && *r == rank => false,
        other => {
            return Err(bad(format!(
                "{number} values of rank {rank} need indices of shape [{number}] or [{number}, {rank}], not {other:?}"
            )));
        }
    };
    let step = if linear { 1 } else { dims.len() };
    let numbers: Vec<i64> = indices
        .data
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
        .collect();
    if step == 0 && number > 1 {
        return Err(bad("a sparse scalar has several values"));
    }
    let mut out: Vec<u64> = Vec::with_capacity(numbers.len() / step.max(1));
    for i in 0..number as usize {
        let index = &numbers[i * step..(i + 1) * step];
        let place = if linear {
            u64::try_from(index[0]).ok().filter(|p| *p < count)
        } else {
            index.iter().zip(dims).try_fold(0u64, |sum, (&i, &dim)| {
                // Stays below the number of elements, which was checked.
                u64::try_from(i).ok().filter(|i| *i < dim).map(|i| sum * dim + i)
            })
        };
        let place =
            place.ok_or_else(|| bad(format!("the sparse index {index:?} lies outside of {dims:?}")))?;
        if out.last().is_some_and(|last| *last >= place) {
            return Err(bad(format!("the sparse index {index:?} is not after the one before it")));
        }
        out.push(place);
    }
    Ok(out)
}
