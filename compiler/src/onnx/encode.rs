//! Encoding: tensors for `.pb` files of inputs and outputs, and whole models that tests are made of.

use super::dtype::OnnxType;
use super::error::{ReadError, code};
use super::proto::{ModelProto, TensorProto};
use super::tensor::{RawTensor, StringTensor};
use bytes::Bytes;
use prost::Message as _;

/// The message of a dense tensor, with its data in `raw_data` and types narrower than a byte packed again.
pub fn to_proto(name: &str, tensor: &RawTensor) -> Result<TensorProto, ReadError> {
    let count = tensor.count();
    let want = count.checked_mul(u64::from(tensor.dtype.size()));
    if tensor.dtype == OnnxType::String || want != Some(tensor.data.len() as u64) {
        let what = format!(
            "a {} tensor of shape {:?} cannot have {} bytes",
            tensor.dtype.name(),
            tensor.dims,
            tensor.data.len()
        );
        return Err(ReadError::new(code::TENSOR_SIZE, what).at(name));
    }
    Ok(TensorProto {
        name: name.to_owned(),
        dims: signed(&tensor.dims, name)?,
        data_type: tensor.dtype.code(),
        raw_data: Some(pack(tensor.dtype, &tensor.data)),
        ..TensorProto::default()
    })
}

/// The message of a tensor of strings.
pub fn strings_to_proto(name: &str, tensor: &StringTensor) -> Result<TensorProto, ReadError> {
    let count = tensor.dims.iter().fold(1u64, |n, d| n.saturating_mul(*d));
    if count != tensor.values.len() as u64 {
        let what = format!("a shape of {:?} cannot have {} strings", tensor.dims, tensor.values.len());
        return Err(ReadError::new(code::TENSOR_SIZE, what).at(name));
    }
    Ok(TensorProto {
        name: name.to_owned(),
        dims: signed(&tensor.dims, name)?,
        data_type: OnnxType::String.code(),
        string_data: tensor.values.clone(),
        ..TensorProto::default()
    })
}

/// The bytes of a `.pb` file that holds one dense tensor.
pub fn encode(name: &str, tensor: &RawTensor) -> Result<Vec<u8>, ReadError> {
    Ok(to_proto(name, tensor)?.encode_to_vec())
}

/// The bytes of a model's file.
pub fn model(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

fn signed(dims: &[u64], name: &str) -> Result<Vec<i64>, ReadError> {
    let fit = dims.iter().map(|d| i64::try_from(*d)).collect::<Result<_, _>>();
    fit.map_err(|_| {
        ReadError::new(code::TENSOR_DIMS, format!("the dimensions {dims:?} are too large")).at(name)
    })
}

/// Packs elements of a byte each into as many bits as the file format gives them, lowest bits first.
fn pack(dtype: OnnxType, data: &Bytes) -> Bytes {
    let bits = dtype.bits();
    if bits >= 8 {
        return data.clone();
    }
    let mask = (1u32 << bits) - 1;
    let mut out = Vec::with_capacity(data.len() * bits as usize / 8 + 1);
    let (mut word, mut filled) = (0u32, 0);
    for &value in data {
        word |= (u32::from(value) & mask) << filled;
        filled += bits;
        if filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
    Bytes::from(out)
}
