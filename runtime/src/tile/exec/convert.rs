//! Conversions, selection, rounding and broadcasting over blocks of lanes; same contract as [`super::arith`].

use super::isa::{for_each_isa, map1};
use crate::elem::ElemType;
use crate::tile::narrow::{self, E2M1, E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ};
use crate::tile::{Lane, narrow::Format};

macro_rules! convert_from {
    ($t:ty, $to:expr, $n:expr, $d:expr, $a:expr) => {
        match $to {
            Lane::F32 => map1!($n, $d => f32, $a => $t, x => x as f32),
            Lane::F64 => map1!($n, $d => f64, $a => $t, x => x as f64),
            Lane::I64 => map1!($n, $d => i64, $a => $t, x => x as i64),
            Lane::U64 => map1!($n, $d => u64, $a => $t, x => x as u64),
        }
    };
}

#[inline(always)]
unsafe fn convert_body(from: Lane, to: Lane, d: *mut u8, a: *const u8, n: usize) {
    // SAFETY: the contract of this module.
    unsafe {
        match from {
            Lane::F32 => convert_from!(f32, to, n, d, a),
            Lane::F64 => convert_from!(f64, to, n, d, a),
            Lane::I64 => convert_from!(i64, to, n, d, a),
            Lane::U64 => convert_from!(u64, to, n, d, a),
        }
    }
}

macro_rules! select_as {
    ($t:ty, $n:expr, $d:expr, $c:expr, $a:expr, $b:expr) => {{
        let (d, c) = ($d.cast::<$t>(), $c.cast::<i64>());
        let (a, b) = ($a.cast::<$t>(), $b.cast::<$t>());
        for i in 0..$n {
            let (x, y) = (a.add(i).read(), b.add(i).read());
            d.add(i).write(if c.add(i).read() != 0 { x } else { y });
        }
    }};
}

#[inline(always)]
unsafe fn select_body(lane: Lane, d: *mut u8, c: *const u8, a: *const u8, b: *const u8, n: usize) {
    // SAFETY: the contract of this module.
    unsafe {
        match lane {
            Lane::F32 => select_as!(u32, n, d, c, a, b),
            _ => select_as!(u64, n, d, c, a, b),
        }
    }
}

macro_rules! round_byte {
    ($n:expr, $d:expr, $a:expr, $elem:expr, $x:ident => $code:expr) => {{
        let table = narrow::byte_table($elem);
        map1!($n, $d => f32, $a => f32, $x => table[($code & 255) as usize]);
    }};
}

#[inline(always)]
unsafe fn round_body(elem: ElemType, saturate: bool, d: *mut u8, a: *const u8, n: usize) {
    use ElemType::*;
    // SAFETY: the contract of this module.
    unsafe {
        match elem {
            F32 => map1!(n, d => u32, a => u32, x => x),
            F64 | I64 | U64 => map1!(n, d => u64, a => u64, x => x),
            F16 => map1!(n, d => f32, a => f32, x => narrow::decode_f16(narrow::encode_f16(x))),
            BF16 => map1!(n, d => f32, a => f32, x => narrow::decode_bf16(narrow::encode_bf16(x))),
            I32 => map1!(n, d => i64, a => i64, x => i64::from(x as i32)),
            I16 => map1!(n, d => i64, a => i64, x => i64::from(x as i16)),
            I8 => map1!(n, d => i64, a => i64, x => i64::from(x as i8)),
            I4 => map1!(n, d => i64, a => i64, x => x << 60 >> 60),
            I2 => map1!(n, d => i64, a => i64, x => x << 62 >> 62),
            Bool => map1!(n, d => i64, a => i64, x => i64::from(x != 0)),
            U32 => map1!(n, d => u64, a => u64, x => u64::from(x as u32)),
            U16 => map1!(n, d => u64, a => u64, x => u64::from(x as u16)),
            U8 => map1!(n, d => u64, a => u64, x => u64::from(x as u8)),
            U4 => map1!(n, d => u64, a => u64, x => x & 15),
            U2 => map1!(n, d => u64, a => u64, x => x & 3),
            F8E4M3FN => round_byte!(n, d, a, elem, x => Format::encode(E4M3FN, x, saturate)),
            F8E4M3FNUZ => round_byte!(n, d, a, elem, x => Format::encode(E4M3FNUZ, x, saturate)),
            F8E5M2 => round_byte!(n, d, a, elem, x => Format::encode(E5M2, x, saturate)),
            F8E5M2FNUZ => round_byte!(n, d, a, elem, x => Format::encode(E5M2FNUZ, x, saturate)),
            F4E2M1 => round_byte!(n, d, a, elem, x => Format::encode(E2M1, x, saturate)),
            F8E8M0 => round_byte!(n, d, a, elem, x => narrow::encode_e8m0(x, saturate)),
        }
    }
}

for_each_isa! {
    pub(super) unsafe fn convert(from: Lane, to: Lane, d: *mut u8, a: *const u8, n: usize) = convert_body
}
for_each_isa! {
    pub(super) unsafe fn select(lane: Lane, d: *mut u8, c: *const u8, a: *const u8, b: *const u8, n: usize)
        = select_body
}
for_each_isa! {
    pub(super) unsafe fn round(elem: ElemType, saturate: bool, d: *mut u8, a: *const u8, n: usize) = round_body
}

/// Copies the first element of `d` to the `n - 1` after it.
///
/// # Safety
/// `d` holds `n` elements of `lane`, the first one initialised, or `n` is 0.
pub(super) unsafe fn broadcast(lane: Lane, d: *mut u8, n: usize) {
    if n == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        match lane {
            Lane::F32 => std::slice::from_raw_parts_mut(d.cast::<u32>(), n).fill(*d.cast::<u32>()),
            _ => std::slice::from_raw_parts_mut(d.cast::<u64>(), n).fill(*d.cast::<u64>()),
        }
    }
}

/// Writes `first, first + 1, ...`.
///
/// # Safety
/// `d` holds `n` i64.
pub(super) unsafe fn count(d: *mut u8, first: i64, n: usize) {
    // SAFETY: the caller's promise.
    let d = unsafe { std::slice::from_raw_parts_mut(d.cast::<i64>(), n) };
    for (x, value) in d.iter_mut().zip(first..) {
        *x = value;
    }
}

/// Writes `value` `n` times.
///
/// # Safety
/// `d` holds `n` i64.
pub(super) unsafe fn repeat(d: *mut u8, value: i64, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(d.cast::<i64>(), n).fill(value) };
}
