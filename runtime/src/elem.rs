//! Element types as engines store them.
//!
//! The discriminants are part of the engine format and never change. Elements narrower than a byte
//! (`I4`, `U2`, ...) take one whole byte each in memory; their packed ONNX form exists only in ONNX files.

use serde::{Deserialize, Serialize};

/// The type of one tensor element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum ElemType {
    F32 = 0,
    F64 = 1,
    F16 = 2,
    BF16 = 3,
    I64 = 4,
    I32 = 5,
    I16 = 6,
    I8 = 7,
    U64 = 8,
    U32 = 9,
    U16 = 10,
    U8 = 11,
    Bool = 12,
    I4 = 13,
    U4 = 14,
    I2 = 15,
    U2 = 16,
    F8E4M3FN = 17,
    F8E4M3FNUZ = 18,
    F8E5M2 = 19,
    F8E5M2FNUZ = 20,
    F8E8M0 = 21,
    F4E2M1 = 22,
}

impl ElemType {
    /// Bytes one element takes in memory.
    pub const fn size(self) -> usize {
        use ElemType::*;
        match self {
            F64 | I64 | U64 => 8,
            F32 | I32 | U32 => 4,
            F16 | BF16 | I16 | U16 => 2,
            _ => 1,
        }
    }
}
