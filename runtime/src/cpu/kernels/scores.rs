//! Kernel bodies of attention: products of few rows, and exponentials of scores.

use super::simd::{Simd, exp, max_lanes};
use super::tile::MAX_ROWS;

/// Products of `count` rows with many: `out[r * out_step + j] = sum_i a[rows[r] + i] * b[j * b_step + i]`.
pub struct DotTile {
    pub(crate) a: *const f32,
    pub(crate) rows: [isize; MAX_ROWS],
    pub(crate) count: usize,
    pub(crate) b: *const f32,
    pub(crate) b_step: isize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_step: usize,
}

/// # Safety
/// The instruction set is available, and the elements of [`DotTile`]'s formula are valid.
#[inline(always)]
pub(crate) unsafe fn dot_tile<S: Simd>(t: &DotTile) {
    // SAFETY: the caller's promise.
    unsafe {
        for j in 0..t.columns {
            let b = t.b.wrapping_offset(j.cast_signed().wrapping_mul(t.b_step));
            S::prefetch(b.wrapping_offset(t.b_step.wrapping_mul(8)));
            let mut r = 0;
            while r + 4 <= t.count {
                dot_rows::<S, 4>(t, r, b, j);
                r += 4;
            }
            while r < t.count {
                dot_rows::<S, 1>(t, r, b, j);
                r += 1;
            }
        }
    }
}

/// `MR` rows from `r` with row `j` of b.
///
/// # Safety
/// As for [`dot_tile`].
#[inline(always)]
unsafe fn dot_rows<S: Simd, const MR: usize>(t: &DotTile, r: usize, b: *const f32, j: usize) {
    let whole = t.depth - t.depth % S::LANES;
    // SAFETY: the caller's promise; whole vectors end at or before `depth`, and the rest is masked.
    unsafe {
        let mut rows = [t.a; MR];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = t.a.wrapping_offset(t.rows[r + i]);
        }
        let mut acc = [S::splat(0.0); MR];
        for i in (0..whole).step_by(S::LANES) {
            let y = S::load(b.add(i));
            for (sum, row) in acc.iter_mut().zip(&rows) {
                *sum = S::fma(S::load(row.add(i)), y, *sum);
            }
        }
        if whole < t.depth {
            let rest = S::mask(t.depth - whole);
            let y = S::load_mask(b.add(whole), rest);
            for (sum, row) in acc.iter_mut().zip(&rows) {
                // Lanes outside the mask are 0 in both, and stay so.
                *sum = S::fma(S::load_mask(row.add(whole), rest), y, *sum);
            }
        }
        for (i, &sum) in acc.iter().enumerate() {
            *t.out.add((r + i) * t.out_step + j) = sum_pairs::<S>(sum);
        }
    }
}

/// Sum of all lanes, as a tree: shorter chains than one lane after the other.
///
/// # Safety
/// The instruction set is available.
#[inline(always)]
unsafe fn sum_pairs<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0.0_f32; 16];
    // SAFETY: the caller's promise; no vector is longer than the array.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// A row of products of queries and keys, which becomes one of exponentials relative to the largest score so far.
pub struct ScoreRow {
    pub(crate) x: *mut f32,
    pub(crate) len: usize,
    pub(crate) scale: f32,
    /// Added to the scaled products; null for none.
    pub(crate) mask: *const f32,
    pub(crate) mask_step: isize,
    /// In: the largest score so far. Out: the largest one now, the sum of the row's exponentials, and the factor that makes
    /// earlier exponentials relative to it.
    pub(crate) state: *mut [f32; 3],
}

/// # Safety
/// The instruction set is available; `len` elements of `x`, as many of `mask` a step apart, and the state are valid.
#[inline(always)]
pub(crate) unsafe fn score_row<S: Simd>(row: &ScoreRow) {
    let whole = row.len - row.len % S::LANES;
    // SAFETY: whole vectors end at or before `len`, and the rest is masked.
    unsafe {
        let largest = largest_score::<S>(row, whole);
        let before = (*row.state)[0];
        let largest = if before > largest || before.is_nan() { before } else { largest };
        // As long as all scores are negative infinity their exponentials are 0, not those of a difference of infinities.
        let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        let factor =
            if before == f32::NEG_INFINITY || before == largest { 1.0 } else { one_exp::<S>(before - shift) };
        let shift = S::splat(shift);
        let mut sum = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            let e = exp::<S>(S::sub(S::load(row.x.add(i)), shift));
            S::store(row.x.add(i), e);
            sum = S::add(sum, e);
        }
        if whole < row.len {
            let rest = S::mask(row.len - whole);
            let e = exp::<S>(S::sub(S::load_mask(row.x.add(whole), rest), shift));
            S::store_mask(row.x.add(whole), rest, e);
            sum = S::add(sum, S::select(rest, e, S::splat(0.0)));
        }
        *row.state = [largest, sum_pairs::<S>(sum), factor];
    }
}

/// Scales and masks the row, and gives its largest score.
///
/// # Safety
/// As for [`score_row`].
#[inline(always)]
unsafe fn largest_score<S: Simd>(row: &ScoreRow, whole: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut scale = row.scale;
        let mut mask = row.mask;
        if !mask.is_null() && row.mask_step != 1 {
            for i in 0..row.len {
                let m = *mask.wrapping_offset(i.cast_signed().wrapping_mul(row.mask_step));
                *row.x.add(i) = *row.x.add(i) * scale + m;
            }
            (scale, mask) = (1.0, std::ptr::null());
        }
        let scale = S::splat(scale);
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(S::LANES) {
            let mut x = S::mul(S::load(row.x.add(i)), scale);
            if !mask.is_null() {
                x = S::add(x, S::load(mask.add(i)));
            }
            S::store(row.x.add(i), x);
            largest = S::max_nan(largest, x);
        }
        if whole < row.len {
            let rest = S::mask(row.len - whole);
            let mut x = S::mul(S::load_mask(row.x.add(whole), rest), scale);
            if !mask.is_null() {
                x = S::add(x, S::load_mask(mask.add(whole), rest));
            }
            S::store_mask(row.x.add(whole), rest, x);
            largest = S::max_nan(largest, S::select(rest, x, S::splat(f32::NEG_INFINITY)));
        }
        max_lanes::<S>(largest)
    }
}

/// # Safety
/// The instruction set is available.
#[inline(always)]
unsafe fn one_exp<S: Simd>(x: f32) -> f32 {
    let mut lanes = [0.0; 16];
    // SAFETY: the caller's promise; no vector is longer than the array.
    unsafe { S::store(lanes.as_mut_ptr(), exp::<S>(S::splat(x))) };
    lanes[0]
}
