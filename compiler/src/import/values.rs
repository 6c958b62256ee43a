//! From ONNX tensors and element types to those of the IR.

use super::codes;
use super::cx::Res;
use crate::diag::{Class, Diagnostic};
use crate::onnx::error::code;
use crate::onnx::proto::{SparseTensorProto, TensorProto};
use crate::onnx::{ExternalFiles, Limits, OnnxType, RawTensor, ReadError, sparse, tensor};
use autoglm_ir::{DType, Tensor};
use std::cell::RefCell;

/// The IR's element type for an ONNX code; none for strings, complex numbers and six-bit floats.
pub fn dtype_of(code: i32) -> Option<DType> {
    use OnnxType as O;
    Some(match OnnxType::from_code(code)? {
        O::Float => DType::F32,
        O::Double => DType::F64,
        O::Float16 => DType::F16,
        O::Bfloat16 => DType::BF16,
        O::Int64 => DType::I64,
        O::Int32 => DType::I32,
        O::Int16 => DType::I16,
        O::Int8 => DType::I8,
        O::Int4 => DType::I4,
        O::Int2 => DType::I2,
        O::Uint64 => DType::U64,
        O::Uint32 => DType::U32,
        O::Uint16 => DType::U16,
        O::Uint8 => DType::U8,
        O::Uint4 => DType::U4,
        O::Uint2 => DType::U2,
        O::Bool => DType::Bool,
        O::Float8E4M3Fn => DType::F8E4M3FN,
        O::Float8E4M3Fnuz => DType::F8E4M3FNUZ,
        O::Float8E5M2 => DType::F8E5M2,
        O::Float8E5M2Fnuz => DType::F8E5M2FNUZ,
        O::Float8E8M0 => DType::F8E8M0,
        O::Float4E2M1 => DType::F4E2M1,
        O::String | O::Complex64 | O::Complex128 | O::Float6E2M3 | O::Float6E3M2 => return None,
    })
}

/// The name of an ONNX element type code, for messages.
pub(crate) fn type_name(code: i32) -> String {
    OnnxType::from_code(code).map_or_else(|| format!("type {code}"), |t| t.name().to_owned())
}

/// An error of the reader as a diagnostic.
pub(crate) fn from_read(e: ReadError) -> Diagnostic {
    let class = if e.code == code::LIMIT { Class::Budget } else { Class::Invalid };
    let node = e.node.unwrap_or_default();
    let d = Diagnostic::error(e.code, class, e.message).at(&node);
    match e.help {
        Some(help) => d.help(help),
        None => d,
    }
}

/// Decodes tensors, with the files that hold their data.
pub(crate) struct Decoder<'a> {
    files: RefCell<ExternalFiles>,
    limits: &'a Limits,
}

impl<'a> Decoder<'a> {
    /// For a model whose external data lies in `dir`.
    pub(crate) fn new(dir: &std::path::Path, limits: &'a Limits) -> Decoder<'a> {
        Decoder { files: RefCell::new(ExternalFiles::new(dir, limits)), limits }
    }

    /// A tensor of numbers.
    pub(crate) fn tensor(&self, t: &TensorProto) -> Res<Tensor> {
        let payload = tensor::decode(t, &mut self.files.borrow_mut(), self.limits)
            .map_err(|e| Box::new(from_read(e)))?;
        match payload {
            tensor::Payload::Dense(raw) => converted(raw, &t.name),
            tensor::Payload::Strings(_) => Err(unsupported("string", &t.name)),
        }
    }

    /// A sparse tensor made dense.
    pub(crate) fn sparse(&self, t: &SparseTensorProto) -> Res<Tensor> {
        let raw = sparse::decode(t, &mut self.files.borrow_mut(), self.limits)
            .map_err(|e| Box::new(from_read(e)))?;
        converted(raw, t.values.as_ref().map_or("", |v| v.name.as_str()))
    }
}

fn unsupported(what: &str, name: &str) -> Box<Diagnostic> {
    let title = format!("tensors of element type {what} are not supported");
    let d = Diagnostic::error(codes::FEATURE, Class::Unsupported, title).at(name);
    Box::new(d.help("convert the tensor to a numeric element type"))
}

fn converted(raw: RawTensor, name: &str) -> Res<Tensor> {
    let dtype = dtype_of(raw.dtype.code()).ok_or_else(|| unsupported(raw.dtype.name(), name))?;
    let shape: Option<Vec<usize>> = raw.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    shape.and_then(|s| Tensor::from_bytes(dtype, s, raw.data)).ok_or_else(|| {
        let title = format!("a tensor of extents {:?} has another number of bytes", raw.dims);
        Box::new(Diagnostic::error(codes::VALUE, Class::Invalid, title).at(name))
    })
}
