//! Tensors as the command line handles them: dense little-endian bytes, and the files that hold them.

pub mod npy;
pub mod npz;
pub mod pb;
pub mod png;
mod value;

pub use value::{Summary, encode, range, to_f64};

use crate::codes;
use crate::error::{CliError, Exit};
use autoglm_runtime::elem::ElemType;

/// Most axes a tensor may have (the limit of NumPy).
pub const MAX_RANK: usize = 64;

/// A dense row-major tensor. Elements narrower than a byte take one byte each, a bool is 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Element type.
    pub elem: ElemType,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// The elements, little-endian: `product(dims) * elem.size()` bytes.
    pub bytes: Vec<u8>,
}

impl Array {
    /// Checks that `bytes` has the length that `elem` and `dims` call for.
    ///
    /// # Errors
    /// `E0913` when the size overflows, `E0914` when the length differs.
    pub fn new(elem: ElemType, dims: Vec<usize>, bytes: Vec<u8>) -> Result<Array, CliError> {
        let expected = byte_len(elem, &dims)?;
        if bytes.len() != expected {
            return Err(CliError::new(
                codes::TENSOR_BYTES,
                Exit::Invalid,
                format!("{} needs {expected} bytes, there are {}", describe(elem, &dims), bytes.len()),
            ));
        }
        Ok(Array { elem, dims, bytes })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.elem.size()
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The tensor whose axis `i` is this one's axis `perm[i]`; `perm` names every axis once.
    pub fn transposed(&self, perm: &[usize]) -> Array {
        let mut strides = vec![self.elem.size(); self.dims.len()];
        for axis in (1..self.dims.len()).rev() {
            strides[axis - 1] = strides[axis] * self.dims[axis];
        }
        let dims: Vec<usize> = perm.iter().map(|axis| self.dims[*axis]).collect();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for i in 0..self.len() {
            let (mut rest, mut at) = (i, 0);
            for (extent, axis) in dims.iter().zip(perm).rev() {
                at += rest % extent * strides[*axis];
                rest /= extent;
            }
            bytes.extend_from_slice(&self.bytes[at..at + self.elem.size()]);
        }
        Array { elem: self.elem, dims, bytes }
    }

    /// `f32[1,3,224,224]`
    pub fn describe(&self) -> String {
        describe(self.elem, &self.dims)
    }
}

/// Bytes of a tensor of this type and shape.
///
/// # Errors
/// `E0913` when it has too many axes or its size does not fit in memory addresses.
pub fn byte_len(elem: ElemType, dims: &[usize]) -> Result<usize, CliError> {
    // Extents multiply as if none were 0, so that a zero cannot hide an absurd extent from later stride arithmetic.
    let product = dims.iter().try_fold(elem.size(), |n, &d| n.checked_mul(d.max(1)));
    match product {
        Some(n) if isize::try_from(n).is_ok() && dims.len() <= MAX_RANK => {
            Ok(if dims.contains(&0) { 0 } else { n })
        }
        _ => Err(CliError::new(
            codes::TENSOR_SIZE,
            Exit::Invalid,
            format!("{} is too large", describe(elem, dims)),
        )),
    }
}

/// `f32[1,3,224,224]`
pub fn describe(elem: ElemType, dims: &[usize]) -> String {
    let dims = dims.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    format!("{}[{dims}]", elem_name(elem))
}

/// The short name of an element type, as every message and report uses it.
pub const fn elem_name(elem: ElemType) -> &'static str {
    use ElemType::*;
    match elem {
        F32 => "f32",
        F64 => "f64",
        F16 => "f16",
        BF16 => "bf16",
        I64 => "i64",
        I32 => "i32",
        I16 => "i16",
        I8 => "i8",
        U64 => "u64",
        U32 => "u32",
        U16 => "u16",
        U8 => "u8",
        Bool => "bool",
        I4 => "i4",
        U4 => "u4",
        I2 => "i2",
        U2 => "u2",
        F8E4M3FN => "f8e4m3fn",
        F8E4M3FNUZ => "f8e4m3fnuz",
        F8E5M2 => "f8e5m2",
        F8E5M2FNUZ => "f8e5m2fnuz",
        F8E8M0 => "f8e8m0",
        F4E2M1 => "f4e2m1",
    }
}
