//! The element types of ONNX tensors.

/// An element type, with the code that files use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are those of the public ONNX schema")]
pub enum OnnxType {
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Uint16 = 4,
    Int16 = 5,
    Int32 = 6,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Float16 = 10,
    Double = 11,
    Uint32 = 12,
    Uint64 = 13,
    Complex64 = 14,
    Complex128 = 15,
    Bfloat16 = 16,
    Float8E4M3Fn = 17,
    Float8E4M3Fnuz = 18,
    Float8E5M2 = 19,
    Float8E5M2Fnuz = 20,
    Uint4 = 21,
    Int4 = 22,
    Float4E2M1 = 23,
    Float8E8M0 = 24,
    Uint2 = 25,
    Int2 = 26,
    Float6E2M3 = 27,
    Float6E3M2 = 28,
}

/// Every type, in the order of the codes 1, 2, 3, ..., with its name and its bits per element in files.
const TYPES: [(OnnxType, &str, u32); 28] = {
    use OnnxType::*;
    [
        (Float, "float32", 32),
        (Uint8, "uint8", 8),
        (Int8, "int8", 8),
        (Uint16, "uint16", 16),
        (Int16, "int16", 16),
        (Int32, "int32", 32),
        (Int64, "int64", 64),
        (String, "string", 0),
        (Bool, "bool", 8),
        (Float16, "float16", 16),
        (Double, "float64", 64),
        (Uint32, "uint32", 32),
        (Uint64, "uint64", 64),
        (Complex64, "complex64", 64),
        (Complex128, "complex128", 128),
        (Bfloat16, "bfloat16", 16),
        (Float8E4M3Fn, "float8e4m3fn", 8),
        (Float8E4M3Fnuz, "float8e4m3fnuz", 8),
        (Float8E5M2, "float8e5m2", 8),
        (Float8E5M2Fnuz, "float8e5m2fnuz", 8),
        (Uint4, "uint4", 4),
        (Int4, "int4", 4),
        (Float4E2M1, "float4e2m1", 4),
        (Float8E8M0, "float8e8m0", 8),
        (Uint2, "uint2", 2),
        (Int2, "int2", 2),
        (Float6E2M3, "float6e2m3", 6),
        (Float6E3M2, "float6e3m2", 6),
    ]
};

impl OnnxType {
    /// The type with this code; 0 ("undefined") and codes that do not exist give none.
    pub fn from_code(code: i32) -> Option<Self> {
        let index = usize::try_from(code).ok()?.checked_sub(1)?;
        TYPES.get(index).map(|(ty, _, _)| *ty)
    }

    /// The code that files use.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The usual name, such as `float16`.
    pub fn name(self) -> &'static str {
        TYPES[self as usize - 1].1
    }

    /// Bits that an element takes in a file; 0 for strings.
    pub fn bits(self) -> u32 {
        TYPES[self as usize - 1].2
    }

    /// Bytes that an element takes once decoded, where narrow types take a whole byte; 0 for strings.
    pub fn size(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// Whether narrow values are two's complement.
    pub fn signed_narrow(self) -> bool {
        matches!(self, Self::Int4 | Self::Int2)
    }

    /// Bytes that so many elements take in a file, packed.
    pub fn packed_len(self, count: u64) -> Option<u64> {
        Some(count.checked_mul(u64::from(self.bits()))?.div_ceil(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes() {
        for (i, (ty, _, _)) in TYPES.iter().enumerate() {
            assert_eq!(ty.code(), i as i32 + 1);
            assert_eq!(OnnxType::from_code(i as i32 + 1), Some(*ty));
        }
        for code in [0, -1, 29, i32::MIN, i32::MAX] {
            assert_eq!(OnnxType::from_code(code), None);
        }
    }

    #[test]
    fn packed_sizes() {
        let cases = [(OnnxType::Int4, 3, 2), (OnnxType::Uint2, 5, 2), (OnnxType::Float6E2M3, 4, 3)];
        for (ty, count, want) in cases {
            assert_eq!(ty.packed_len(count), Some(want));
        }
        assert_eq!(OnnxType::Double.packed_len(u64::MAX / 8), None);
    }
}
