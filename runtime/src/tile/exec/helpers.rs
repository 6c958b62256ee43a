//! Scalar functions that compiled loops call for what has no short form in vector instructions.
//!
//! They work on bit patterns (an f32 in the low half), so that one signature serves all.

use super::ops;
use crate::tile::math::{m32, m64};
use crate::tile::{BinaryOp, Lane, UnaryOp};

/// A function of one or two lanes; a function of one ignores the second.
pub type Helper = extern "C" fn(u64, u64) -> u64;

#[derive(PartialEq, Eq)]
enum Name {
    Unary(UnaryOp, Lane),
    Binary(BinaryOp, Lane),
}

macro_rules! from_bits {
    (F32 $x:ident) => {
        f32::from_bits($x as u32)
    };
    (F64 $x:ident) => {
        f64::from_bits($x)
    };
    (I64 $x:ident) => {
        $x as i64
    };
    (U64 $x:ident) => {
        $x
    };
}

macro_rules! to_bits {
    (F32 $x:expr) => {
        u64::from($x.to_bits())
    };
    (F64 $x:expr) => {
        $x.to_bits()
    };
    ($lane:ident $x:expr) => {
        $x as u64
    };
}

macro_rules! helpers {
    ($($kind:ident $op:ident $lane:ident ($a:ident, $b:ident) => $e:expr;)*) => {
        const NAMES: &[Name] = &[$(Name::$kind($kind!($op), Lane::$lane)),*];

        /// Functions at the positions that [`unary_helper`] and [`binary_helper`] give.
        pub(in crate::tile) static HELPERS: [Helper; NAMES.len()] = [$({
            extern "C" fn helper(a: u64, b: u64) -> u64 {
                let ($a, $b) = (from_bits!($lane a), from_bits!($lane b));
                to_bits!($lane $e)
            }
            helper as Helper
        }),*];
    };
}

macro_rules! Unary {
    ($op:ident) => {
        UnaryOp::$op
    };
}
macro_rules! Binary {
    ($op:ident) => {
        BinaryOp::$op
    };
}

helpers! {
    Unary Sin F32 (x, _y) => m32::sin(x);
    Unary Cos F32 (x, _y) => m32::cos(x);
    Unary Tan F32 (x, _y) => m32::tan(x);
    Unary Asin F32 (x, _y) => m32::asin(x);
    Unary Acos F32 (x, _y) => m32::acos(x);
    Unary Atan F32 (x, _y) => m32::atan(x);
    Unary Sinh F32 (x, _y) => m32::sinh(x);
    Unary Cosh F32 (x, _y) => m32::cosh(x);
    Unary Asinh F32 (x, _y) => m32::asinh(x);
    Unary Acosh F32 (x, _y) => m32::acosh(x);
    Unary Atanh F32 (x, _y) => m32::atanh(x);
    Unary Exp F64 (x, _y) => m64::exp(x);
    Unary Log F64 (x, _y) => m64::log(x);
    Unary Erf F64 (x, _y) => m64::erf(x);
    Unary Sin F64 (x, _y) => m64::sin(x);
    Unary Cos F64 (x, _y) => m64::cos(x);
    Unary Tan F64 (x, _y) => m64::tan(x);
    Unary Asin F64 (x, _y) => m64::asin(x);
    Unary Acos F64 (x, _y) => m64::acos(x);
    Unary Atan F64 (x, _y) => m64::atan(x);
    Unary Sinh F64 (x, _y) => m64::sinh(x);
    Unary Cosh F64 (x, _y) => m64::cosh(x);
    Unary Tanh F64 (x, _y) => m64::tanh(x);
    Unary Asinh F64 (x, _y) => m64::asinh(x);
    Unary Acosh F64 (x, _y) => m64::acosh(x);
    Unary Atanh F64 (x, _y) => m64::atanh(x);
    Unary Sigmoid F64 (x, _y) => m64::sigmoid(x);
    Binary Pow F32 (x, y) => m32::pow(x, y);
    Binary TruncMod F32 (x, y) => (x % y);
    Binary FloorMod F32 (x, y) => ops::f32::floor_mod(x, y);
    Binary Pow F64 (x, y) => m64::pow(x, y);
    Binary TruncMod F64 (x, y) => (x % y);
    Binary FloorMod F64 (x, y) => ops::f64::floor_mod(x, y);
    Binary Div I64 (x, y) => ops::i64::div(x, y);
    Binary TruncMod I64 (x, y) => ops::i64::trunc_mod(x, y);
    Binary FloorMod I64 (x, y) => ops::i64::floor_mod(x, y);
    Binary Pow I64 (x, y) => ops::i64::pow(x, y);
    Binary Shl I64 (x, y) => ops::i64::shl(x, y);
    Binary Shr I64 (x, y) => ops::i64::shr(x, y);
    Binary Div U64 (x, y) => ops::u64::div(x, y);
    Binary TruncMod U64 (x, y) => ops::u64::trunc_mod(x, y);
    Binary FloorMod U64 (x, y) => ops::u64::floor_mod(x, y);
    Binary Pow U64 (x, y) => ops::u64::pow(x, y);
    Binary Shl U64 (x, y) => ops::u64::shl(x, y);
    Binary Shr U64 (x, y) => ops::u64::shr(x, y);
}

/// Position of the helper for `op` on `lane`, if there is one.
pub fn unary_helper(op: UnaryOp, lane: Lane) -> Option<usize> {
    NAMES.iter().position(|name| *name == Name::Unary(op, lane))
}

/// Position of the helper for `op` on `lane`, if there is one.
pub fn binary_helper(op: BinaryOp, lane: Lane) -> Option<usize> {
    NAMES.iter().position(|name| *name == Name::Binary(op, lane))
}
