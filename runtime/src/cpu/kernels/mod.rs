//! The f32 microkernels.
//!
//! Every entry takes the kernels of one instruction set ([`Kernels`]), an argument struct of concrete sizes, slices, and
//! the [`Part`] of the work to do. It checks the arguments' footprint against the slices, then writes its part of the
//! output: parts with the same arguments and count write disjoint elements, and all parts together write every
//! element of the output exactly once, except that a part may rewrite its own elements before it returns.
//! Contractions can hand their result to the caller in blocks instead ([`Stage`]).

pub mod attention;
mod cell;
pub mod conv;
pub mod gather_matmul;
mod gemm;
pub mod matmul;
pub mod norm;
mod panel;
pub mod pool;
pub mod probe;
pub mod recurrent;
pub mod scattered;
mod scores;
mod simd;
pub mod softmax;
pub mod sparse;
mod sparse_tile;
pub mod stage;
pub mod table;
mod tile;
pub mod view;
pub mod winograd;
pub(crate) mod winograd_tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::{AttentionArgs, Heads, attention};
pub use conv::{ConvArgs, ConvB, conv, conv_staged};
pub use gather_matmul::{GatherMatMulArgs, Stack, gather_matmul};
pub use matmul::{BatchDim, MATMUL_SCRATCH, MatB, MatMulArgs, matmul, matmul_staged};
pub use norm::{NormArgs, layer_norm};
pub use pool::{PoolArgs, pool};
pub use recurrent::{Lines, RecurrentArgs, RecurrentOperands, Weights, recurrent};
pub use scattered::{SCATTERED_SCRATCH, ScatteredB};
pub use softmax::{SoftmaxArgs, softmax};
pub use sparse::{SPARSE_SCRATCH, SparseB};
pub use stage::{Block, STAGE, Stage};
pub use table::{KERNELS, KernelFn, KernelRow, Kernels, TileKernel};
pub use view::{Pixels, RowView, View};
pub use winograd::{WinogradB, winograd_scratch};

use std::ops::Range;

/// Why a kernel refused its arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// An operand is too short for what the arguments say is read or written.
    #[error("{operand} holds {have} elements, but {need} are needed")]
    Footprint {
        /// Which operand.
        operand: &'static str,
        /// Elements needed.
        need: usize,
        /// Elements there are.
        have: usize,
    },
    /// An access would lie before the start of an operand.
    #[error("{operand} is accessed before its first element")]
    BeforeStart {
        /// Which operand.
        operand: &'static str,
    },
    /// A size does not fit in the address space.
    #[error("a size overflows")]
    Overflow,
    /// The arguments contradict each other.
    #[error("{0}")]
    Args(&'static str),
    /// The machine lacks an instruction set.
    #[error("this machine does not support {0}")]
    Unavailable(&'static str),
}

/// What the results of a contraction are limited to, at least 0 at the lower end; NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Least.
    pub low: f32,
    /// Most.
    pub high: f32,
}

impl Limits {
    /// `v` within the limits; +0 for either zero where 0 is the least.
    ///
    /// # Safety
    /// The instruction set is available.
    #[inline(always)]
    unsafe fn apply<S: simd::Simd>(self, v: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::clamp(S::add(v, S::splat(0.0)), S::splat(self.low), S::splat(self.high)) }
    }
}

/// One of `count` parts of a kernel's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which part.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Part {
    /// All the work.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether the index is one of the parts.
    pub(crate) fn check(self) -> Result<(), KernelError> {
        if self.index < self.count { Ok(()) } else { Err(KernelError::Args("part index out of range")) }
    }

    /// This part's share of `0..total`; shares differ by at most 1 in length.
    pub(crate) fn of(self, total: usize) -> Range<usize> {
        share(total, self.count, self.index)
    }
}

/// Share `index` of `0..total` cut into `count` even pieces.
pub(crate) fn share(total: usize, count: usize, index: usize) -> Range<usize> {
    let (base, extra) = (total / count, total % count);
    let start = index * base + index.min(extra);
    start..start + base + usize::from(index < extra)
}

/// Permille of workers' time that cutting along columns must save to be worth it: all steps cut along rows where they can, so
/// that a worker reads what it wrote itself.
pub(crate) const CROSSING: usize = 30;

/// A rectangle of `rows` x `columns` units, cut along the dimension that balances better (rows when about equal).
pub(crate) fn rectangle(rows: usize, columns: usize, part: Part) -> (Range<usize>, Range<usize>) {
    if balance(columns, part.count) > balance(rows, part.count) + CROSSING {
        (0..rows, part.of(columns))
    } else {
        (part.of(rows), 0..columns)
    }
}

/// Permille of `count` workers' time that is used when `units` equal units are shared out.
pub(crate) fn balance(units: usize, count: usize) -> usize {
    let rounds = units.div_ceil(count).saturating_mul(count);
    if rounds == 0 { 1000 } else { (units as u128 * 1000 / rounds as u128) as usize }
}

/// Product of sizes.
pub(crate) fn product(sizes: &[usize]) -> Result<usize, KernelError> {
    if sizes.contains(&0) {
        return Ok(0);
    }
    sizes.iter().try_fold(1_usize, |a, &b| a.checked_mul(b)).ok_or(KernelError::Overflow)
}

/// The elements from the first to the last that `offset + sum_d i[d] * stride[d]` names, empty if an extent is 0.
pub(crate) fn span(
    operand: &'static str,
    offset: usize,
    dims: impl Iterator<Item = (usize, isize)> + Clone,
) -> Result<Range<usize>, KernelError> {
    if dims.clone().any(|(extent, _)| extent == 0) {
        return Ok(0..0);
    }
    let (mut low, mut high) = (offset as i128, offset as i128);
    for (extent, stride) in dims {
        let reach = (extent as i128 - 1).checked_mul(stride as i128).ok_or(KernelError::Overflow)?;
        let end = if reach < 0 { &mut low } else { &mut high };
        *end = end.checked_add(reach).ok_or(KernelError::Overflow)?;
    }
    let low = usize::try_from(low).map_err(|_| KernelError::BeforeStart { operand })?;
    let high = isize::try_from(high).map_err(|_| KernelError::Overflow)?;
    Ok(low..high.cast_unsigned() + 1)
}

/// Most dimensions of more than one element that an output may have.
const DIMS_MAX: usize = 32;

/// Requires that `sum_d i[d] * stride[d]` is another element for every index: parts could write one twice otherwise.
/// Sufficient, and true of every strided part of a dense tensor. Does not allocate, as it is called in every run.
pub(crate) fn distinct(dims: impl Iterator<Item = (usize, isize)>) -> Result<(), KernelError> {
    let mut steps = [(0, 1); DIMS_MAX];
    let mut count = 0;
    for (extent, step) in dims.filter(|(extent, _)| *extent > 1) {
        let slot = steps.get_mut(count).ok_or(KernelError::Args("out has too many dimensions"))?;
        *slot = (step.unsigned_abs(), extent);
        count += 1;
    }
    let steps = &mut steps[..count];
    steps.sort_unstable();
    let mut reach = 0_usize;
    for &mut (step, extent) in steps {
        if step <= reach {
            return Err(KernelError::Args("elements of out overlap"));
        }
        reach = reach.saturating_add(step.saturating_mul(extent - 1));
    }
    Ok(())
}

/// Checks that an operand of `have` elements holds `range`.
pub(crate) fn holds(operand: &'static str, range: &Range<usize>, have: usize) -> Result<(), KernelError> {
    if range.end <= have { Ok(()) } else { Err(KernelError::Footprint { operand, need: range.end, have }) }
}

/// The pointer of an operand that may be absent; null then.
pub(crate) fn optional(operand: Option<&[f32]>) -> *const f32 {
    operand.map_or(std::ptr::null(), <[f32]>::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for total in 0..40 {
            for count in 1..9 {
                let mut next = 0;
                for index in 0..count {
                    let range = Part { index, count }.of(total);
                    assert_eq!(range.start, next);
                    assert!(range.len() <= total.div_ceil(count));
                    next = range.end;
                }
                assert_eq!(next, total);
            }
        }
        assert!(Part { index: 2, count: 2 }.check().is_err());
        assert!(Part { index: 0, count: 0 }.check().is_err());
    }

    #[test]
    fn spans_follow_signs_and_refuse_what_does_not_fit() {
        let of = |offset, dims: &[(usize, isize)]| span("a", offset, dims.iter().copied());
        assert_eq!(of(10, &[(3, -4), (5, 1)]), Ok(2..15));
        assert_eq!(of(10, &[(0, isize::MIN), (5, 1)]), Ok(0..0));
        assert_eq!(of(7, &[(3, -4)]), Err(KernelError::BeforeStart { operand: "a" }));
        assert_eq!(of(0, &[(usize::MAX, isize::MAX)]), Err(KernelError::Overflow));
        assert_eq!(of(0, &[(usize::MAX, isize::MAX); 3]), Err(KernelError::Overflow));
        assert_eq!(of(3, &[(1, isize::MAX)]), Ok(3..4));
    }

    #[test]
    fn elements_of_outputs_are_distinct() {
        let of = |dims: &[(usize, isize)]| distinct(dims.iter().copied()).is_ok();
        assert!(of(&[(3, 20), (4, 5), (5, 1)]));
        assert!(of(&[(4, 5), (3, -20), (5, 1)]));
        assert!(of(&[(1, 0), (5, 1)]));
        assert!(!of(&[(4, 4), (5, 1)]));
        assert!(!of(&[(2, 0)]));
        assert!(!of(&[(2, isize::MIN), (usize::MAX, isize::MAX)]));
        assert!(of(&[]));
        let nested = |count: usize| (0..count).map(|i| (2, 1_isize << i));
        assert!(distinct(nested(DIMS_MAX)).is_ok() && distinct(nested(DIMS_MAX + 1)).is_err());
    }
}
