//! Softmax over rows.

use super::simd::{Simd, exp, max_lanes, sum_lanes};
use super::table::Kernels;
use super::view::{RowView, row_footprint};
use super::{KernelError, Part, holds};
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// `out[i, ..] = softmax(x[i, ..])`. A row that is all negative infinity, or holds NaN or infinity, gives NaN as numpy
/// does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftmaxArgs {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Logarithm of the softmax instead.
    pub log: bool,
    /// The input.
    pub x: RowView,
    /// The output; its elements are distinct.
    pub out: RowView,
}

impl SoftmaxArgs {
    /// Elements read of x, and written of the output.
    pub fn footprint(&self) -> Result<[Range<usize>; 2], KernelError> {
        row_footprint(self.rows, self.cols, &self.x, &self.out)
    }
}

/// One row.
pub struct SoftmaxRow {
    x: *const f32,
    out: *mut f32,
    cols: usize,
    log: bool,
}

/// Runs one part of a softmax.
pub fn softmax(
    kernels: &Kernels,
    args: &SoftmaxArgs,
    x: &[f32],
    out: &SharedMut<f32>,
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let [read, written] = args.footprint()?;
    holds("x", &read, x.len())?;
    holds("out", &written, out.len())?;
    if written.is_empty() {
        return Ok(());
    }
    for row in part.of(args.rows) {
        let args = SoftmaxRow {
            x: x.as_ptr().wrapping_add(args.x.at(row)),
            out: out.as_ptr().wrapping_add(args.out.at(row)),
            cols: args.cols,
            log: args.log,
        };
        // SAFETY: the row is inside both operands; the kernels can run here, and parts are disjoint.
        unsafe { (kernels.softmax)(&args) };
    }
    Ok(())
}

/// # Safety
/// The instruction set is available, and `cols` elements of `x` and `out` are valid.
#[inline(always)]
pub(crate) unsafe fn softmax_row<S: Simd>(row: &SoftmaxRow) {
    let whole = row.cols - row.cols % S::LANES;
    // SAFETY: whole vectors end at or before `cols`, and the rest is masked.
    unsafe {
        let rest = S::mask(row.cols - whole);
        let low = S::splat(f32::NEG_INFINITY);
        let mut max = S::select(rest, S::load_mask(row.x.add(whole), rest), low);
        for i in (0..whole).step_by(S::LANES) {
            max = S::max_nan(max, S::load(row.x.add(i)));
        }
        let max = max_lanes::<S>(max);
        let shift = S::splat(max);

        let mut sum = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            let e = exp::<S>(S::sub(S::load(row.x.add(i)), shift));
            if !row.log {
                S::store(row.out.add(i), e);
            }
            sum = S::add(sum, e);
        }
        let e = exp::<S>(S::sub(S::load_mask(row.x.add(whole), rest), shift));
        if !row.log {
            S::store_mask(row.out.add(whole), rest, e);
        }
        let sum = sum_lanes::<S>(S::add(sum, S::select(rest, e, S::splat(0.0))));

        if row.log {
            let log = S::splat(sum.ln());
            for i in (0..whole).step_by(S::LANES) {
                S::store(row.out.add(i), S::sub(S::sub(S::load(row.x.add(i)), shift), log));
            }
            let v = S::sub(S::sub(S::load_mask(row.x.add(whole), rest), shift), log);
            S::store_mask(row.out.add(whole), rest, v);
        } else {
            let sum = S::splat(sum);
            for i in (0..whole).step_by(S::LANES) {
                S::store(row.out.add(i), S::div(S::load(row.out.add(i)), sum));
            }
            let v = S::div(S::load_mask(row.out.add(whole), rest), sum);
            S::store_mask(row.out.add(whole), rest, v);
        }
    }
}
