//! Layer and root-mean-square normalisation over rows, in two passes so that the variance does not cancel.

use super::simd::{Simd, sum_lanes};
use super::table::Kernels;
use super::view::{RowView, row_footprint};
use super::{KernelError, Part, holds, optional};
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// `out[i, j] = (x[i, j] - mean_i) / sqrt(var_i + epsilon) * scale[j] + bias[j]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormArgs {
    /// Rows.
    pub rows: usize,
    /// Columns; also the length of scale and bias.
    pub cols: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// The mean is taken to be 0.
    pub rms: bool,
    /// The input.
    pub x: RowView,
    /// The output; its elements are distinct.
    pub out: RowView,
}

impl NormArgs {
    /// Elements read of x, and written of the output.
    pub fn footprint(&self) -> Result<[Range<usize>; 2], KernelError> {
        row_footprint(self.rows, self.cols, &self.x, &self.out)
    }
}

/// One row.
pub struct NormRow {
    x: *const f32,
    scale: *const f32,
    /// Null for none.
    bias: *const f32,
    out: *mut f32,
    cols: usize,
    epsilon: f32,
    rms: bool,
}

/// Runs one part of a normalisation.
pub fn layer_norm(
    kernels: &Kernels,
    args: &NormArgs,
    x: &[f32],
    scale: &[f32],
    bias: Option<&[f32]>,
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
    holds("scale", &(0..args.cols), scale.len())?;
    if let Some(bias) = bias {
        holds("bias", &(0..args.cols), bias.len())?;
    }
    for row in part.of(args.rows) {
        let args = NormRow {
            x: x.as_ptr().wrapping_add(args.x.at(row)),
            scale: scale.as_ptr(),
            bias: optional(bias),
            out: out.as_ptr().wrapping_add(args.out.at(row)),
            cols: args.cols,
            epsilon: args.epsilon,
            rms: args.rms,
        };
        // SAFETY: the row is inside all operands; the kernels can run here, and parts are disjoint.
        unsafe { (kernels.norm)(&args) };
    }
    Ok(())
}

/// Sum of `f(x - mean)` over a row, with `f` the identity or the square.
///
/// # Safety
/// As for [`norm_row`].
#[inline(always)]
unsafe fn fold<S: Simd, const SQUARE: bool>(row: &NormRow, mean: S::V) -> f32 {
    /// Independent sums, to hide the latency of additions.
    const WAYS: usize = 4;
    let whole = row.cols - row.cols % S::LANES;
    let blocks = whole - whole % (WAYS * S::LANES);
    // SAFETY: whole vectors end at or before `cols`, and the rest is masked.
    unsafe {
        let mut sums = [S::splat(0.0); WAYS];
        for i in (0..blocks).step_by(WAYS * S::LANES) {
            for (j, sum) in sums.iter_mut().enumerate() {
                let d = S::sub(S::load(row.x.add(i + j * S::LANES)), mean);
                *sum = if SQUARE { S::fma(d, d, *sum) } else { S::add(*sum, d) };
            }
        }
        for i in (blocks..whole).step_by(S::LANES) {
            let d = S::sub(S::load(row.x.add(i)), mean);
            sums[0] = if SQUARE { S::fma(d, d, sums[0]) } else { S::add(sums[0], d) };
        }
        let rest = S::mask(row.cols - whole);
        let d = S::sub(S::load_mask(row.x.add(whole), rest), mean);
        let d = S::select(rest, d, S::splat(0.0));
        sums[1] = if SQUARE { S::fma(d, d, sums[1]) } else { S::add(sums[1], d) };
        sum_lanes::<S>(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])))
    }
}

/// # Safety
/// The instruction set is available, and `cols` elements of every operand are valid.
#[inline(always)]
pub(crate) unsafe fn norm_row<S: Simd>(row: &NormRow) {
    let whole = row.cols - row.cols % S::LANES;
    let count = row.cols as f32;
    // SAFETY: whole vectors end at or before `cols`, and the rest is masked.
    unsafe {
        let mean = if row.rms { 0.0 } else { fold::<S, false>(row, S::splat(0.0)) / count };
        let mean = S::splat(mean);
        let variance = fold::<S, true>(row, mean) / count;
        let factor = S::splat(1.0 / (variance + row.epsilon).sqrt());
        for i in (0..whole).step_by(S::LANES) {
            let d = S::mul(S::sub(S::load(row.x.add(i)), mean), factor);
            let bias = if row.bias.is_null() { S::splat(0.0) } else { S::load(row.bias.add(i)) };
            S::store(row.out.add(i), S::fma(d, S::load(row.scale.add(i)), bias));
        }
        let rest = S::mask(row.cols - whole);
        let d = S::mul(S::sub(S::load_mask(row.x.add(whole), rest), mean), factor);
        let scale = S::load_mask(row.scale.add(whole), rest);
        let bias = if row.bias.is_null() { S::splat(0.0) } else { S::load_mask(row.bias.add(whole), rest) };
        S::store_mask(row.out.add(whole), rest, S::fma(d, scale, bias));
    }
}
