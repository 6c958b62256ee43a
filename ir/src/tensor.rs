//! Concrete tensors and their element access, for constants and the reference interpreter.

use crate::dtype::DType;
use bytes::Bytes;

/// A dense row-major tensor, little-endian, elements narrower than a byte in one byte each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Element type (never `Str`).
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<usize>,
    /// `numel * dtype.size()` bytes.
    pub data: Bytes,
}

/// The elements of a tensor, widened without loss.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Any float type.
    Float(Vec<f64>),
    /// Any integer type or bool (0 and 1).
    Int(Vec<i128>),
}

impl Tensor {
    /// From raw bytes; `None` when their number is not that of the shape.
    pub fn from_bytes(dtype: DType, shape: Vec<usize>, data: Bytes) -> Option<Tensor> {
        let bytes = numel(&shape)?.checked_mul(dtype.size())?;
        (bytes == data.len() && dtype != DType::Str).then_some(Tensor { dtype, shape, data })
    }

    /// Rounds (floats: to nearest even, saturating only where the type has no infinity) or wraps (integers) into `dtype`.
    pub fn from_elements(dtype: DType, shape: Vec<usize>, elements: &Elements) -> Tensor {
        let mut data = Vec::with_capacity(elements.len() * dtype.size());
        match elements {
            Elements::Float(v) => v.iter().for_each(|x| crate::encode::push_float(dtype, *x, &mut data)),
            Elements::Int(v) => v.iter().for_each(|x| crate::encode::push_int(dtype, *x, &mut data)),
        }
        Tensor { dtype, shape, data: data.into() }
    }

    /// From floats.
    pub fn floats(dtype: DType, shape: Vec<usize>, v: Vec<f64>) -> Tensor {
        Tensor::from_elements(dtype, shape, &Elements::Float(v))
    }

    /// From integers.
    pub fn ints(dtype: DType, shape: Vec<usize>, v: Vec<i128>) -> Tensor {
        Tensor::from_elements(dtype, shape, &Elements::Int(v))
    }

    /// An i64 tensor.
    pub fn i64s(shape: Vec<usize>, v: &[i64]) -> Tensor {
        Tensor::ints(DType::I64, shape, v.iter().map(|x| i128::from(*x)).collect())
    }

    /// A rank-0 float or integer of any type.
    pub fn scalar(dtype: DType, v: f64) -> Tensor {
        if dtype.is_float() {
            Tensor::floats(dtype, vec![], vec![v])
        } else {
            Tensor::ints(dtype, vec![], vec![v as i128])
        }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.data.len() / self.dtype.size().max(1)
    }

    /// All elements, widened.
    pub fn elements(&self) -> Elements {
        let chunks = self.data.chunks_exact(self.dtype.size().max(1));
        if self.dtype.is_float() {
            Elements::Float(chunks.map(|c| crate::encode::float(self.dtype, c)).collect())
        } else {
            Elements::Int(chunks.map(|c| crate::encode::int(self.dtype, c)).collect())
        }
    }

    /// All elements as floats.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.elements() {
            Elements::Float(v) => v,
            Elements::Int(v) => v.into_iter().map(|x| x as f64).collect(),
        }
    }

    /// All elements as integers; floats are truncated.
    pub fn to_i64(&self) -> Vec<i64> {
        match self.elements() {
            Elements::Float(v) => v.into_iter().map(|x| x as i64).collect(),
            Elements::Int(v) => v.into_iter().map(|x| x as i64).collect(),
        }
    }
}

impl Elements {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Elements::Float(v) => v.len(),
            Elements::Int(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Product of extents; `None` on overflow.
pub fn numel(shape: &[usize]) -> Option<usize> {
    // A zero extent makes the product 0 whatever overflows beside it.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |p, d| p.checked_mul(*d))
}

/// Row-major strides in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1].saturating_mul(shape[i + 1]);
    }
    out
}
