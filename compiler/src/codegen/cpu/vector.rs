//! Values of a body in vectors, and short names for what is done with them.

use super::emit::Emitter;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32X4, F64X2, I8X16, I32X4, I64X2};
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value};

/// A lane of the program for as many columns as are computed at once: parts of 128 bits, first columns first.
#[derive(Clone, Debug)]
pub(super) enum Val {
    /// Four f32 a part.
    F32(Vec<Value>),
    /// Two f64 a part.
    F64(Vec<Value>),
    /// Two i64 or u64 a part.
    Int(Vec<Value>),
    /// An integer 0 or 1 as four i32 a part, 0 or -1.
    Mask32(Vec<Value>),
    /// An integer 0 or 1 as two i64 a part, 0 or -1.
    Mask64(Vec<Value>),
}

/// Columns in a part of type `ty`.
pub(super) fn columns(ty: Type) -> usize {
    ty.lane_count() as usize
}

/// Memory accesses at any alignment that do not fail: the plan has checked them.
pub(super) fn unchecked() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Emitter<'_> {
    /// The bits of `v` as a vector or scalar of type `ty`.
    pub(super) fn cast(&mut self, ty: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == ty {
            return v;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(ty, flags, v)
    }

    fn constant(&mut self, ty: Type, bytes: [u8; 16]) -> Value {
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes.to_vec()));
        self.b.ins().vconst(ty, constant)
    }

    /// Four times `bits`.
    pub(super) fn all32(&mut self, ty: Type, bits: u32) -> Value {
        let bytes = bits.to_le_bytes();
        self.constant(ty, std::array::from_fn(|i| bytes[i % 4]))
    }

    /// Two times `bits`.
    pub(super) fn all64(&mut self, ty: Type, bits: u64) -> Value {
        let bytes = bits.to_le_bytes();
        self.constant(ty, std::array::from_fn(|i| bytes[i % 8]))
    }

    /// `[first, second]` as i64.
    pub(super) fn pair(&mut self, first: i64, second: i64) -> Value {
        let both = [first.to_le_bytes(), second.to_le_bytes()];
        self.constant(I64X2, std::array::from_fn(|i| both[i / 8][i % 8]))
    }

    /// Four times `x`.
    pub(super) fn f32s(&mut self, x: f32) -> Value {
        self.all32(F32X4, x.to_bits())
    }

    /// A float constant in every element of `ty`, which is [`F32X4`] or [`F64X2`].
    pub(super) fn floats(&mut self, ty: Type, x: f64) -> Value {
        if ty == F32X4 { self.f32s(x as f32) } else { self.all64(F64X2, x.to_bits()) }
    }

    /// The same bit of every element of `ty`: the sign, or everything but the sign.
    pub(super) fn sign_mask(&mut self, ty: Type, sign: bool) -> Value {
        if ty == F32X4 {
            let bits = if sign { 1 << 31 } else { u32::MAX >> 1 };
            return self.all32(I32X4, bits);
        }
        let bits = if sign { 1 << 63 } else { u64::MAX >> 1 };
        self.all64(I64X2, bits)
    }

    /// The vector of integers as wide as the elements of `ty`.
    pub(super) fn bits_of(ty: Type) -> Type {
        if ty == F32X4 || ty == I32X4 { I32X4 } else { I64X2 }
    }

    /// `mask ? a : b`, by elements; the mask has all or no bits of each element.
    pub(super) fn choose(&mut self, mask: Value, a: Value, b: Value) -> Value {
        let mask = self.cast(self.b.func.dfg.value_type(a), mask);
        self.b.ins().bitselect(mask, a, b)
    }

    /// `x > y ? x : y`: one instruction on x86-64.
    pub(super) fn above(&mut self, x: Value, y: Value) -> Value {
        let mask = self.b.ins().fcmp(FloatCC::LessThan, y, x);
        self.choose(mask, x, y)
    }

    /// `x < y ? x : y`: one instruction on x86-64.
    pub(super) fn below(&mut self, x: Value, y: Value) -> Value {
        let mask = self.b.ins().fcmp(FloatCC::LessThan, x, y);
        self.choose(mask, x, y)
    }

    /// `and` over the bits of two floats, as a float.
    pub(super) fn and(&mut self, x: Value, mask: Value) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let bits = self.cast(Self::bits_of(ty), x);
        let mask = self.cast(Self::bits_of(ty), mask);
        let result = self.b.ins().band(bits, mask);
        self.cast(ty, result)
    }

    /// `or` over the bits of two floats, as a float.
    pub(super) fn or(&mut self, x: Value, mask: Value) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let bits = self.cast(Self::bits_of(ty), x);
        let mask = self.cast(Self::bits_of(ty), mask);
        let result = self.b.ins().bor(bits, mask);
        self.cast(ty, result)
    }

    /// Bytes of `a` (0 to 15) and `b` (16 to 31) in the order `mask`, as a vector of type `ty`.
    pub(super) fn bytes(&mut self, ty: Type, a: Value, b: Value, mask: [u8; 16]) -> Value {
        let (a, b) = (self.cast(I8X16, a), self.cast(I8X16, b));
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(mask.to_vec()));
        let shuffled = self.b.ins().shuffle(a, b, mask);
        self.cast(ty, shuffled)
    }

    /// Groups of 4 bytes of `a` (0 to 3) and `b` (4 to 7) in the order `words`.
    pub(super) fn words(&mut self, ty: Type, a: Value, b: Value, words: [u8; 4]) -> Value {
        self.bytes(ty, a, b, std::array::from_fn(|i| words[i / 4] * 4 + (i % 4) as u8))
    }
}
