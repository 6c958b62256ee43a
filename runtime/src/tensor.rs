//! Tensors as callers pass and get them: dense, row-major.

use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::AlignedBuf;

/// An input tensor in the caller's memory. The address must be a multiple of the element size.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    /// Element type.
    pub elem: ElemType,
    /// Extents, outermost first.
    pub dims: &'a [usize],
    /// The elements.
    pub bytes: &'a [u8],
}

/// An output tensor in the caller's memory. The address must be a multiple of the element size.
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// Element type.
    pub elem: ElemType,
    /// Extents, outermost first.
    pub dims: &'a [usize],
    /// Where the elements go.
    pub bytes: &'a mut [u8],
}

/// A tensor that owns its elements, in memory aligned for every element type.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Element type.
    pub elem: ElemType,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// The elements.
    pub bytes: AlignedBuf,
}

impl HostTensor {
    /// A tensor of zeros.
    pub fn zeros(elem: ElemType, dims: &[usize]) -> Result<Self, RunError> {
        let len = byte_len(elem, dims)
            .ok_or_else(|| RunError::Shape(format!("a tensor of extents {dims:?} has too many bytes")))?;
        Ok(Self { elem, dims: dims.to_vec(), bytes: AlignedBuf::zeroed(len)? })
    }

    /// A tensor with a copy of these little-endian elements.
    pub fn from_bytes(elem: ElemType, dims: &[usize], bytes: &[u8]) -> Result<Self, RunError> {
        match byte_len(elem, dims) {
            Some(len) if len == bytes.len() => {
                Ok(Self { elem, dims: dims.to_vec(), bytes: AlignedBuf::copy_of(bytes)? })
            }
            len => Err(RunError::Tensor {
                port: format!("tensor {elem:?}{dims:?}"),
                detail: format!("{} bytes given, its extents need {len:?}", bytes.len()),
                help: "pass as many elements as the extents say".into(),
            }),
        }
    }

    /// A view to pass as an input.
    pub fn as_ref(&self) -> TensorRef<'_> {
        TensorRef { elem: self.elem, dims: &self.dims, bytes: &self.bytes }
    }

    /// A view to pass as an output.
    pub fn as_mut(&mut self) -> TensorMut<'_> {
        TensorMut { elem: self.elem, dims: &self.dims, bytes: &mut self.bytes }
    }
}

/// Bytes of a tensor, unless they exceed the address space.
pub fn byte_len(elem: ElemType, dims: &[usize]) -> Option<usize> {
    // A zero extent anywhere makes the tensor empty, however large the others are.
    if dims.contains(&0) {
        return Some(0);
    }
    let len = dims.iter().try_fold(elem.size(), |len, &dim| len.checked_mul(dim))?;
    isize::try_from(len).ok().map(|_| len)
}

macro_rules! typed {
    ($($from:ident $to:ident $ty:ty, $elem:ident;)*) => {
        impl HostTensor {
            $(
                #[doc = concat!("A tensor of `", stringify!($ty), "` elements.")]
                pub fn $from(dims: &[usize], elems: &[$ty]) -> Result<Self, RunError> {
                    let bytes: Vec<u8> = elems.iter().flat_map(|e| e.to_le_bytes()).collect();
                    Self::from_bytes(ElemType::$elem, dims, &bytes)
                }

                #[doc = concat!("The elements, if they are `", stringify!($ty), "`.")]
                pub fn $to(&self) -> Option<Vec<$ty>> {
                    let (elems, _) = self.bytes.as_chunks();
                    (self.elem == ElemType::$elem)
                        .then(|| elems.iter().map(|&e| <$ty>::from_le_bytes(e)).collect())
                }
            )*
        }
    };
}

typed! {
    from_f32 to_f32 f32, F32;
    from_f64 to_f64 f64, F64;
    from_i64 to_i64 i64, I64;
    from_i32 to_i32 i32, I32;
    from_u8 to_u8 u8, U8;
}
