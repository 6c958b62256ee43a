//! Element types of the IR.

use std::fmt;
use std::str::FromStr;

macro_rules! dtypes {
    ($($variant:ident = $name:literal, $bits:literal;)*) => {
        /// The type of one tensor element.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are the documentation")]
        pub enum DType { $($variant),* }

        impl DType {
            /// Every element type.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The name in textual IR, such as `f32`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }

            /// Significant bits of one element (0 for strings). In memory every element takes whole bytes.
            pub const fn bits(self) -> u32 {
                match self { $(DType::$variant => $bits),* }
            }
        }
    };
}

dtypes! {
    F32 = "f32", 32; F64 = "f64", 64; F16 = "f16", 16; BF16 = "bf16", 16;
    I64 = "i64", 64; I32 = "i32", 32; I16 = "i16", 16; I8 = "i8", 8; I4 = "i4", 4; I2 = "i2", 2;
    U64 = "u64", 64; U32 = "u32", 32; U16 = "u16", 16; U8 = "u8", 8; U4 = "u4", 4; U2 = "u2", 2;
    Bool = "bool", 1;
    F8E4M3FN = "f8e4m3fn", 8; F8E4M3FNUZ = "f8e4m3fnuz", 8; F8E5M2 = "f8e5m2", 8; F8E5M2FNUZ = "f8e5m2fnuz", 8;
    F8E8M0 = "f8e8m0", 8; F4E2M1 = "f4e2m1", 4;
    Str = "str", 0;
}

impl DType {
    /// Bytes one element takes in memory; elements narrower than a byte take a whole one.
    pub const fn size(self) -> usize {
        (self.bits() as usize).div_ceil(8)
    }

    /// Floating point of any width.
    pub const fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F64 | F32 | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1)
    }

    /// Signed or unsigned integer (not bool).
    pub const fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }

    /// Two's complement integer.
    pub const fn is_signed_int(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::I4 | DType::I2)
    }

    /// Unsigned integer.
    pub const fn is_unsigned_int(self) -> bool {
        matches!(self, DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::U4 | DType::U2)
    }

    /// Smallest and largest value of an integer type; `None` for other types.
    pub const fn int_range(self) -> Option<(i128, i128)> {
        if self.is_signed_int() {
            let half = 1i128 << (self.bits() - 1);
            Some((-half, half - 1))
        } else if self.is_unsigned_int() {
            Some((0, (1i128 << self.bits()) - 1))
        } else {
            None
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|d| d.name() == s).ok_or_else(|| format!("unknown element type `{s}`"))
    }
}
