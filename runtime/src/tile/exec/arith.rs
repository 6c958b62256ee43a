//! Arithmetic over blocks of lanes.
//!
//! Every function takes pointers to `n` elements: `d` is written and overlaps what is read nowhere, or is that very
//! address (a step that runs in place); all are aligned for their lane type.

use super::isa::{for_each_isa, map1, map2};
use super::ops;
use crate::tile::math::{m32, m64};
use crate::tile::{BinaryOp, Lane, UnaryOp};

macro_rules! unary_float {
    ($name:ident, $t:ident, $m:ident) => {
        #[inline(always)]
        unsafe fn $name(op: UnaryOp, d: *mut u8, a: *const u8, n: usize) {
            // SAFETY: the contract of this module.
            unsafe {
                match op {
                    UnaryOp::Abs => map1!(n, d => $t, a => $t, x => x.abs()),
                    UnaryOp::Neg => map1!(n, d => $t, a => $t, x => -x),
                    UnaryOp::Sign => map1!(n, d => $t, a => $t, x => ops::$t::sign(x)),
                    UnaryOp::Ceil => map1!(n, d => $t, a => $t, x => x.ceil()),
                    UnaryOp::Floor => map1!(n, d => $t, a => $t, x => x.floor()),
                    UnaryOp::Trunc => map1!(n, d => $t, a => $t, x => x.trunc()),
                    UnaryOp::Round => map1!(n, d => $t, a => $t, x => x.round_ties_even()),
                    UnaryOp::Sqrt => map1!(n, d => $t, a => $t, x => x.sqrt()),
                    UnaryOp::Reciprocal => map1!(n, d => $t, a => $t, x => 1.0 / x),
                    UnaryOp::Exp => map1!(n, d => $t, a => $t, x => $m::exp(x)),
                    UnaryOp::Log => map1!(n, d => $t, a => $t, x => $m::log(x)),
                    UnaryOp::Erf => map1!(n, d => $t, a => $t, x => $m::erf(x)),
                    UnaryOp::Sin => map1!(n, d => $t, a => $t, x => $m::sin(x)),
                    UnaryOp::Cos => map1!(n, d => $t, a => $t, x => $m::cos(x)),
                    UnaryOp::Tan => map1!(n, d => $t, a => $t, x => $m::tan(x)),
                    UnaryOp::Asin => map1!(n, d => $t, a => $t, x => $m::asin(x)),
                    UnaryOp::Acos => map1!(n, d => $t, a => $t, x => $m::acos(x)),
                    UnaryOp::Atan => map1!(n, d => $t, a => $t, x => $m::atan(x)),
                    UnaryOp::Sinh => map1!(n, d => $t, a => $t, x => $m::sinh(x)),
                    UnaryOp::Cosh => map1!(n, d => $t, a => $t, x => $m::cosh(x)),
                    UnaryOp::Tanh => map1!(n, d => $t, a => $t, x => $m::tanh(x)),
                    UnaryOp::Asinh => map1!(n, d => $t, a => $t, x => $m::asinh(x)),
                    UnaryOp::Acosh => map1!(n, d => $t, a => $t, x => $m::acosh(x)),
                    UnaryOp::Atanh => map1!(n, d => $t, a => $t, x => $m::atanh(x)),
                    UnaryOp::Sigmoid => map1!(n, d => $t, a => $t, x => $m::sigmoid(x)),
                    UnaryOp::IsPosInf => map1!(n, d => i64, a => $t, x => i64::from(x == $t::INFINITY)),
                    UnaryOp::IsNegInf => map1!(n, d => i64, a => $t, x => i64::from(x == $t::NEG_INFINITY)),
                    // The validator admits neither `Not` nor `BitNot` here.
                    UnaryOp::IsNan | UnaryOp::Not | UnaryOp::BitNot => {
                        map1!(n, d => i64, a => $t, x => i64::from(x.is_nan()))
                    }
                }
            }
        }
    };
}
unary_float!(unary_f32, f32, m32);
unary_float!(unary_f64, f64, m64);

#[inline(always)]
unsafe fn unary_int(op: UnaryOp, lane: Lane, d: *mut u8, a: *const u8, n: usize) {
    // SAFETY: the contract of this module.
    unsafe {
        match (op, lane) {
            (UnaryOp::Abs, Lane::I64) => map1!(n, d => i64, a => i64, x => x.wrapping_abs()),
            (UnaryOp::Abs, _) => map1!(n, d => u64, a => u64, x => x),
            (UnaryOp::Neg, _) => map1!(n, d => i64, a => i64, x => x.wrapping_neg()),
            (UnaryOp::Sign, Lane::I64) => map1!(n, d => i64, a => i64, x => x.signum()),
            (UnaryOp::Sign, _) => map1!(n, d => u64, a => u64, x => x.min(1)),
            (UnaryOp::BitNot, _) => map1!(n, d => i64, a => i64, x => !x),
            // The validator admits only `Not` besides.
            _ => map1!(n, d => i64, a => i64, x => i64::from(x == 0)),
        }
    }
}

#[inline(always)]
unsafe fn unary_body(op: UnaryOp, lane: Lane, d: *mut u8, a: *const u8, n: usize) {
    // SAFETY: the contract of this module.
    unsafe {
        match lane {
            Lane::F32 => unary_f32(op, d, a, n),
            Lane::F64 => unary_f64(op, d, a, n),
            Lane::I64 | Lane::U64 => unary_int(op, lane, d, a, n),
        }
    }
}

macro_rules! compare {
    ($op:expr, $t:ty, $n:expr, $d:expr, $a:expr, $b:expr) => {
        match $op {
            BinaryOp::Eq => map2!($n, $d => i64, $a, $b => $t, x, y => i64::from(x == y)),
            BinaryOp::Ne => map2!($n, $d => i64, $a, $b => $t, x, y => i64::from(x != y)),
            BinaryOp::Lt => map2!($n, $d => i64, $a, $b => $t, x, y => i64::from(x < y)),
            BinaryOp::Le => map2!($n, $d => i64, $a, $b => $t, x, y => i64::from(x <= y)),
            BinaryOp::Gt => map2!($n, $d => i64, $a, $b => $t, x, y => i64::from(x > y)),
            _ => map2!($n, $d => i64, $a, $b => $t, x, y => i64::from(x >= y)),
        }
    };
}

macro_rules! binary_float {
    ($name:ident, $t:ident, $m:ident) => {
        #[inline(always)]
        unsafe fn $name(op: BinaryOp, d: *mut u8, a: *const u8, b: *const u8, n: usize) {
            // SAFETY: the contract of this module.
            unsafe {
                match op {
                    BinaryOp::Add => map2!(n, d => $t, a, b => $t, x, y => x + y),
                    BinaryOp::Sub => map2!(n, d => $t, a, b => $t, x, y => x - y),
                    BinaryOp::Mul => map2!(n, d => $t, a, b => $t, x, y => x * y),
                    BinaryOp::Div => map2!(n, d => $t, a, b => $t, x, y => x / y),
                    BinaryOp::TruncMod => map2!(n, d => $t, a, b => $t, x, y => x % y),
                    BinaryOp::FloorMod => map2!(n, d => $t, a, b => $t, x, y => ops::$t::floor_mod(x, y)),
                    BinaryOp::Pow => map2!(n, d => $t, a, b => $t, x, y => $m::pow(x, y)),
                    BinaryOp::Max => map2!(n, d => $t, a, b => $t, x, y => ops::$t::max(x, y)),
                    BinaryOp::Min => map2!(n, d => $t, a, b => $t, x, y => ops::$t::min(x, y)),
                    _ => compare!(op, $t, n, d, a, b),
                }
            }
        }
    };
}
binary_float!(binary_f32, f32, m32);
binary_float!(binary_f64, f64, m64);

macro_rules! binary_int {
    ($name:ident, $t:ident) => {
        #[inline(always)]
        unsafe fn $name(op: BinaryOp, d: *mut u8, a: *const u8, b: *const u8, n: usize) {
            // SAFETY: the contract of this module.
            unsafe {
                match op {
                    BinaryOp::Add => map2!(n, d => $t, a, b => $t, x, y => x.wrapping_add(y)),
                    BinaryOp::Sub => map2!(n, d => $t, a, b => $t, x, y => x.wrapping_sub(y)),
                    BinaryOp::Mul => map2!(n, d => $t, a, b => $t, x, y => x.wrapping_mul(y)),
                    BinaryOp::Div => map2!(n, d => $t, a, b => $t, x, y => ops::$t::div(x, y)),
                    BinaryOp::TruncMod => map2!(n, d => $t, a, b => $t, x, y => ops::$t::trunc_mod(x, y)),
                    BinaryOp::FloorMod => map2!(n, d => $t, a, b => $t, x, y => ops::$t::floor_mod(x, y)),
                    BinaryOp::Pow => map2!(n, d => $t, a, b => $t, x, y => ops::$t::pow(x, y)),
                    BinaryOp::Max => map2!(n, d => $t, a, b => $t, x, y => x.max(y)),
                    BinaryOp::Min => map2!(n, d => $t, a, b => $t, x, y => x.min(y)),
                    BinaryOp::And => map2!(n, d => $t, a, b => $t, x, y => x & y),
                    BinaryOp::Or => map2!(n, d => $t, a, b => $t, x, y => x | y),
                    BinaryOp::Xor => map2!(n, d => $t, a, b => $t, x, y => x ^ y),
                    BinaryOp::Shl => map2!(n, d => $t, a, b => $t, x, y => ops::$t::shl(x, y)),
                    BinaryOp::Shr => map2!(n, d => $t, a, b => $t, x, y => ops::$t::shr(x, y)),
                    _ => compare!(op, $t, n, d, a, b),
                }
            }
        }
    };
}
binary_int!(binary_i64, i64);
binary_int!(binary_u64, u64);

#[inline(always)]
unsafe fn binary_body(op: BinaryOp, lane: Lane, d: *mut u8, a: *const u8, b: *const u8, n: usize) {
    // SAFETY: the contract of this module.
    unsafe {
        match lane {
            Lane::F32 => binary_f32(op, d, a, b, n),
            Lane::F64 => binary_f64(op, d, a, b, n),
            Lane::I64 => binary_i64(op, d, a, b, n),
            Lane::U64 => binary_u64(op, d, a, b, n),
        }
    }
}

for_each_isa! { pub(super) unsafe fn unary(op: UnaryOp, lane: Lane, d: *mut u8, a: *const u8, n: usize) = unary_body }
for_each_isa! {
    pub(super) unsafe fn binary(op: BinaryOp, lane: Lane, d: *mut u8, a: *const u8, b: *const u8, n: usize)
        = binary_body
}
