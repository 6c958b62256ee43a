//! Folds over blocks: across one block to a scalar, and element by element into a block of accumulators.

use super::isa::for_each_isa;
use super::ops;
use crate::tile::{Lane, ReduceOp};

/// Bits of the identity in the accumulator of `op` over `lane`: f64 for a sum or product of f32, else the lane.
pub(super) fn identity(op: ReduceOp, lane: Lane) -> u64 {
    use ReduceOp::*;
    match (op, lane) {
        (Sum, _) => 0,
        (Prod, Lane::F32 | Lane::F64) => 1f64.to_bits(),
        (Prod, _) => 1,
        (Max | ArgMaxFirst | ArgMaxLast, _) => match lane {
            Lane::F32 => u64::from(f32::NEG_INFINITY.to_bits()),
            Lane::F64 => f64::NEG_INFINITY.to_bits(),
            Lane::I64 => i64::MIN as u64,
            Lane::U64 => 0,
        },
        (Min | ArgMinFirst | ArgMinLast, _) => match lane {
            Lane::F32 => u64::from(f32::INFINITY.to_bits()),
            Lane::F64 => f64::INFINITY.to_bits(),
            Lane::I64 => i64::MAX as u64,
            Lane::U64 => u64::MAX,
        },
    }
}

/// The lane that `op` over `lane` accumulates in.
pub(super) fn accumulator(op: ReduceOp, lane: Lane) -> Lane {
    if lane == Lane::F32 && matches!(op, ReduceOp::Sum | ReduceOp::Prod) { Lane::F64 } else { lane }
}

/// Independent partial results of a fold across a block, enough to keep the adders busy.
const WAYS: usize = 16;

macro_rules! across {
    ($src:expr, $n:expr, $t:ty => $acc:ty, $identity:expr, $s:ident, $x:ident => $e:expr) => {{
        let values = std::slice::from_raw_parts($src.cast::<$t>(), $n);
        let mut partial: [$acc; WAYS] = [$identity; WAYS];
        let (chunks, rest) = values.as_chunks::<WAYS>();
        for chunk in chunks {
            for (p, &x) in partial.iter_mut().zip(chunk) {
                let ($s, $x) = (*p, x as $acc);
                *p = $e;
            }
        }
        for (p, &x) in partial.iter_mut().zip(rest) {
            let ($s, $x) = (*p, x as $acc);
            *p = $e;
        }
        let mut width = WAYS;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                let ($s, $x) = (partial[i], partial[i + width]);
                partial[i] = $e;
            }
        }
        partial[0]
    }};
}

macro_rules! across_float {
    ($name:ident, $t:ident) => {
        #[inline(always)]
        unsafe fn $name(op: ReduceOp, src: *const u8, n: usize) -> u64 {
            use ReduceOp::*;
            // SAFETY: the contract of `across`.
            unsafe {
                match op {
                    Sum => across!(src, n, $t => f64, 0.0, s, x => s + x).to_bits(),
                    Prod => across!(src, n, $t => f64, 1.0, s, x => s * x).to_bits(),
                    Max | ArgMaxFirst | ArgMaxLast => {
                        across!(src, n, $t => $t, $t::NEG_INFINITY, s, x => ops::$t::max(s, x)).to_bits().into()
                    }
                    _ => across!(src, n, $t => $t, $t::INFINITY, s, x => ops::$t::min(s, x)).to_bits().into(),
                }
            }
        }
    };
}
across_float!(across_f32, f32);
across_float!(across_f64, f64);

macro_rules! across_int {
    ($name:ident, $t:ident) => {
        #[inline(always)]
        unsafe fn $name(op: ReduceOp, src: *const u8, n: usize) -> u64 {
            use ReduceOp::*;
            // SAFETY: the contract of `across`.
            let folded = unsafe {
                match op {
                    Sum => across!(src, n, $t => $t, 0, s, x => s.wrapping_add(x)),
                    Prod => across!(src, n, $t => $t, 1, s, x => s.wrapping_mul(x)),
                    Max | ArgMaxFirst | ArgMaxLast => across!(src, n, $t => $t, $t::MIN, s, x => s.max(x)),
                    _ => across!(src, n, $t => $t, $t::MAX, s, x => s.min(x)),
                }
            };
            folded as u64
        }
    };
}
across_int!(across_i64, i64);
across_int!(across_u64, u64);

#[inline(always)]
unsafe fn across_body(op: ReduceOp, lane: Lane, src: *const u8, n: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match lane {
            Lane::F32 => across_f32(op, src, n),
            Lane::F64 => across_f64(op, src, n),
            Lane::I64 => across_i64(op, src, n),
            Lane::U64 => across_u64(op, src, n),
        }
    }
}

// Folds the `n` elements of `lane` at `src`; accumulator bits.
for_each_isa! { pub(super) unsafe fn across(op: ReduceOp, lane: Lane, src: *const u8, n: usize) -> u64 = across_body }

/// Position of the first or last of the `n` elements of `lane` at `src` whose value is `best` (any NaN for NaN).
///
/// # Safety
/// `src` holds `n` elements of `lane`.
pub(super) unsafe fn find(lane: Lane, best: u64, last: bool, src: *const u8, n: usize) -> Option<usize> {
    macro_rules! find {
        ($t:ty, $best:expr, $same:expr) => {{
            let best: $t = $best;
            // SAFETY: the caller's promise.
            let values = unsafe { std::slice::from_raw_parts(src.cast::<$t>(), n) };
            let same = |x: &$t| $same(*x, best);
            if last { values.iter().rposition(same) } else { values.iter().position(same) }
        }};
    }
    match lane {
        Lane::F32 => {
            find!(f32, f32::from_bits(best as u32), |x: f32, b: f32| x == b || (x.is_nan() && b.is_nan()))
        }
        Lane::F64 => find!(f64, f64::from_bits(best), |x: f64, b: f64| x == b || (x.is_nan() && b.is_nan())),
        Lane::I64 | Lane::U64 => find!(u64, best, |x, b| x == b),
    }
}

/// Whether candidate `x` of a later position replaces `best` in an arg fold.
#[inline(always)]
pub(super) fn replaces(op: ReduceOp, lane: Lane, x: u64, best: u64) -> bool {
    macro_rules! ordered {
        ($x:expr, $b:expr) => {
            match op {
                ReduceOp::ArgMaxFirst => $x > $b,
                ReduceOp::ArgMaxLast => $x >= $b,
                ReduceOp::ArgMinFirst => $x < $b,
                _ => $x <= $b,
            }
        };
    }
    macro_rules! float {
        ($x:expr, $b:expr) => {{
            let (x, b) = ($x, $b);
            let last = matches!(op, ReduceOp::ArgMaxLast | ReduceOp::ArgMinLast);
            (x.is_nan() && (last || !b.is_nan())) || ordered!(x, b)
        }};
    }
    match lane {
        Lane::F32 => float!(f32::from_bits(x as u32), f32::from_bits(best as u32)),
        Lane::F64 => float!(f64::from_bits(x), f64::from_bits(best)),
        Lane::I64 => ordered!(x as i64, best as i64),
        Lane::U64 => ordered!(x, best),
    }
}

/// Combines two accumulators of a fold that is not an arg fold.
pub(super) fn combine(op: ReduceOp, lane: Lane, a: u64, b: u64) -> u64 {
    use ReduceOp::*;
    macro_rules! float {
        ($t:ident, $bits:ty) => {{
            let (a, b) = ($t::from_bits(a as $bits), $t::from_bits(b as $bits));
            u64::from(if op == Max { ops::$t::max(a, b) } else { ops::$t::min(a, b) }.to_bits())
        }};
    }
    match (op, lane) {
        (Sum, Lane::F32 | Lane::F64) => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        (Prod, Lane::F32 | Lane::F64) => (f64::from_bits(a) * f64::from_bits(b)).to_bits(),
        (Sum, _) => a.wrapping_add(b),
        (Prod, _) => a.wrapping_mul(b),
        (_, Lane::F32) => float!(f32, u32),
        (_, Lane::F64) => float!(f64, u64),
        (Max, Lane::I64) => (a as i64).max(b as i64) as u64,
        (_, Lane::I64) => (a as i64).min(b as i64) as u64,
        (Max, Lane::U64) => a.max(b),
        (_, Lane::U64) => a.min(b),
    }
}

macro_rules! into {
    ($acc:expr, $src:expr, $n:expr, $t:ty => $at:ty, $s:ident, $x:ident => $e:expr) => {{
        let acc = std::slice::from_raw_parts_mut($acc.cast::<$at>(), $n);
        let src = std::slice::from_raw_parts($src.cast::<$t>(), $n);
        for (a, &x) in acc.iter_mut().zip(src) {
            let ($s, $x) = (*a, x as $at);
            *a = $e;
        }
    }};
}

macro_rules! arg_into {
    ($op:expr, $lane:expr, $t:ty, $acc:expr, $at:expr, $src:expr, $n:expr, $position:expr, $x:ident => $bits:expr) => {{
        let acc = std::slice::from_raw_parts_mut($acc.cast::<$t>(), $n);
        let at = std::slice::from_raw_parts_mut($at.cast::<i64>(), $n);
        let src = std::slice::from_raw_parts($src.cast::<$t>(), $n);
        for ((a, p), &x) in acc.iter_mut().zip(at).zip(src) {
            let bits = |$x: $t| u64::from($bits);
            let take = $position == 0 || replaces($op, $lane, bits(x), bits(*a));
            *a = if take { x } else { *a };
            *p = if take { $position } else { *p };
        }
    }};
}

#[inline(always)]
unsafe fn into_body(op: ReduceOp, lane: Lane, acc: *mut u8, src: *const u8, n: usize) {
    use ReduceOp::*;
    // SAFETY: the caller's promise.
    unsafe {
        match (op, lane) {
            (Sum, Lane::F32) => into!(acc, src, n, f32 => f64, s, x => s + x),
            (Sum, Lane::F64) => into!(acc, src, n, f64 => f64, s, x => s + x),
            (Sum, _) => into!(acc, src, n, u64 => u64, s, x => s.wrapping_add(x)),
            (Prod, Lane::F32) => into!(acc, src, n, f32 => f64, s, x => s * x),
            (Prod, Lane::F64) => into!(acc, src, n, f64 => f64, s, x => s * x),
            (Prod, _) => into!(acc, src, n, u64 => u64, s, x => s.wrapping_mul(x)),
            (Max, Lane::F32) => into!(acc, src, n, f32 => f32, s, x => ops::f32::max(s, x)),
            (Max, Lane::F64) => into!(acc, src, n, f64 => f64, s, x => ops::f64::max(s, x)),
            (Max, Lane::I64) => into!(acc, src, n, i64 => i64, s, x => s.max(x)),
            (Max, Lane::U64) => into!(acc, src, n, u64 => u64, s, x => s.max(x)),
            (_, Lane::F32) => into!(acc, src, n, f32 => f32, s, x => ops::f32::min(s, x)),
            (_, Lane::F64) => into!(acc, src, n, f64 => f64, s, x => ops::f64::min(s, x)),
            (_, Lane::I64) => into!(acc, src, n, i64 => i64, s, x => s.min(x)),
            (_, Lane::U64) => into!(acc, src, n, u64 => u64, s, x => s.min(x)),
        }
    }
}

#[inline(always)]
unsafe fn arg_body(
    op: ReduceOp,
    lane: Lane,
    [acc, at]: [*mut u8; 2],
    src: *const u8,
    n: usize,
    position: i64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match lane {
            Lane::F32 => arg_into!(op, lane, f32, acc, at, src, n, position, x => x.to_bits()),
            Lane::F64 => arg_into!(op, lane, f64, acc, at, src, n, position, x => x.to_bits()),
            _ => arg_into!(op, lane, u64, acc, at, src, n, position, x => x),
        }
    }
}

// Folds `n` elements of `lane` at `src` into `n` accumulators at `acc`.
for_each_isa! {
    pub(super) unsafe fn into(op: ReduceOp, lane: Lane, acc: *mut u8, src: *const u8, n: usize) = into_body
}
// As `into`, for arg folds: `n` best values and their positions; `position` is that of the candidates.
for_each_isa! {
    pub(super) unsafe fn arg_into(
        op: ReduceOp, lane: Lane, accumulators: [*mut u8; 2], src: *const u8, n: usize, position: i64,
    ) = arg_body
}
