//! Kernel bodies that accumulate over shifted rows: the indirect GEMM tile and the depthwise tile.

use super::Limits;
use super::simd::Simd;

/// Most rows of any tile.
pub(crate) const MAX_ROWS: usize = 14;

/// How many steps of `k` ahead B is prefetched.
pub(crate) const AHEAD: isize = 24;

/// The same for tiles of few rows, which read B faster.
pub(crate) const AHEAD_LOW: isize = 64;

/// Offsets that are added to every row base, one a kernel position: tap `t` is at
/// `(t / width) * row_step + (t % width) * step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taps {
    /// First tap.
    pub first: usize,
    /// Number of taps.
    pub count: usize,
    /// Taps of a kernel row; not 0.
    pub width: usize,
    /// Distance of neighbours in a kernel row.
    pub step: isize,
    /// Distance of kernel rows.
    pub row_step: isize,
}

impl Taps {
    /// A single tap at offset 0.
    pub(crate) const ONE: Self = Self { first: 0, count: 1, width: 1, step: 0, row_step: 0 };

    /// The offset of the first tap, and its position in its kernel row.
    #[inline(always)]
    pub(crate) fn cursor(&self) -> (isize, usize) {
        let (row, col) = (self.first / self.width, self.first % self.width);
        let at = (row as isize).wrapping_mul(self.row_step);
        (at.wrapping_add((col as isize).wrapping_mul(self.step)), col)
    }

    #[inline(always)]
    pub(crate) fn advance(&self, (at, col): (isize, usize)) -> (isize, usize) {
        if col + 1 < self.width {
            return (at.wrapping_add(self.step), col + 1);
        }
        let back = (col as isize).wrapping_mul(self.step);
        (at.wrapping_sub(back).wrapping_add(self.row_step), 0)
    }
}

/// One register tile of an indirect GEMM:
/// `c[c_rows[r] + j] (+)= sum_t sum_{i < depth} a[rows[r] + tap(t) + i * a_step] * b[(t * depth + i) * b_step + j]`
/// for the columns `j` of `out`.
pub struct GemmTile {
    pub(crate) a: *const f32,
    pub(crate) rows: [isize; MAX_ROWS],
    pub(crate) taps: Taps,
    pub(crate) depth: usize,
    pub(crate) a_step: isize,
    pub(crate) b: *const f32,
    pub(crate) b_step: isize,
    /// What later tiles read, to be brought nearer.
    pub(crate) soon: Soon,
    pub(crate) out: TileOut,
}

/// Memory that is read soon: from `at` on, `step` elements further at every step of `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soon {
    pub at: *const f32,
    pub step: usize,
}

impl Soon {
    /// Nothing.
    pub(crate) const NONE: Self = Self { at: std::ptr::null(), step: 0 };
}

/// What the sums of a tile start from, and where they go.
pub(crate) struct TileOut {
    /// Of the panel's columns, added once, when not `accumulate`; null for none.
    pub(crate) bias: *const f32,
    /// The panel's first column.
    pub(crate) c: *mut f32,
    /// Offsets of the rows from `c`.
    pub(crate) c_rows: [isize; MAX_ROWS],
    /// First column of the tile in the panel; B starts there too.
    pub(crate) col: usize,
    /// Columns written, at most those of the tile. B is read over the full width.
    pub(crate) cols: usize,
    /// Adds to what `c` holds.
    pub(crate) accumulate: bool,
    /// Of the finished sums.
    pub(crate) limits: Option<Limits>,
}

impl TileOut {
    /// # Safety
    /// The instruction set is available; `cols` elements of the bias, if there is one, or with `accumulate` of `MR` rows
    /// of `c` are valid for reading.
    #[inline(always)]
    pub(crate) unsafe fn start<S: Simd, const MR: usize, const NV: usize>(&self) -> [[S::V; NV]; MR] {
        // SAFETY: the caller's promise; columns from `cols` are masked out.
        unsafe {
            let mut acc = [[S::splat(0.0); NV]; MR];
            if !self.accumulate && self.bias.is_null() {
                return acc;
            }
            let (full, masks) = self.masks::<S, NV>();
            for (r, row) in acc.iter_mut().enumerate() {
                let c = self.c.wrapping_offset(self.c_rows[r]).cast_const();
                let start = if self.accumulate { c } else { self.bias }.wrapping_add(self.col);
                for (j, v) in row.iter_mut().enumerate() {
                    let p = start.wrapping_add(j * S::LANES);
                    *v = if full { S::load(p) } else { S::load_mask(p, masks[j]) };
                }
            }
            acc
        }
    }

    /// # Safety
    /// The instruction set is available; `cols` elements of `MR` rows of `c` are valid for writing.
    #[inline(always)]
    pub(crate) unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(&self, acc: &[[S::V; NV]; MR]) {
        // SAFETY: the caller's promise; columns from `cols` are masked out.
        unsafe {
            let (full, masks) = self.masks::<S, NV>();
            for (r, row) in acc.iter().enumerate() {
                let start = self.c.wrapping_offset(self.c_rows[r]).wrapping_add(self.col);
                for (j, &v) in row.iter().enumerate() {
                    let p = start.wrapping_add(j * S::LANES);
                    let v = self.limits.map_or(v, |limits| limits.apply::<S>(v));
                    if full { S::store(p, v) } else { S::store_mask(p, masks[j], v) }
                }
            }
        }
    }

    /// Whether all columns of the tile are written, and the masks of those that are.
    ///
    /// # Safety
    /// The instruction set is available.
    #[inline(always)]
    unsafe fn masks<S: Simd, const NV: usize>(&self) -> (bool, [S::M; NV]) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut masks = [S::mask(0); NV];
            for (j, mask) in masks.iter_mut().enumerate() {
                *mask = S::mask(self.cols.saturating_sub(j * S::LANES));
            }
            (self.cols == NV * S::LANES, masks)
        }
    }
}

/// # Safety
/// The instruction set is available; every element that [`GemmTile`]'s formula names for `MR` rows is valid for
/// reading (`a`, `b` over `NV * LANES` columns, `bias` over `cols`) or for writing (`c` over `cols`).
#[inline(always)]
pub(crate) unsafe fn gemm_tile<S: Simd, const MR: usize, const NV: usize>(t: &GemmTile) {
    // SAFETY: the caller's promise covers each access: A at the formula's elements, B at full rows, C and bias under
    // the column masks. Offsets wrap only where the pointer is not used.
    unsafe {
        let mut acc = t.out.start::<S, MR, NV>();
        let mut b = t.b.wrapping_add(t.out.col);
        let mut cursor = t.taps.cursor();
        let mut soon = t.soon.at;
        for _ in 0..t.taps.count {
            let mut rows = [t.a; MR];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = t.a.wrapping_offset(t.rows[r].wrapping_add(cursor.0));
            }
            (b, soon) = gemm_run::<S, MR, NV>(t, &rows, (b, soon), &mut acc);
            cursor = t.taps.advance(cursor);
        }
        t.out.finish::<S, MR, NV>(&acc);
    }
}

/// The inner loop over one tap; returns where B, and what is read soon, go on.
///
/// # Safety
/// As for [`gemm_tile`], with `rows` the rows' first elements.
#[inline(always)]
unsafe fn gemm_run<S: Simd, const MR: usize, const NV: usize>(
    t: &GemmTile,
    rows: &[*const f32; MR],
    (mut b, mut soon): (*const f32, *const f32),
    acc: &mut [[S::V; NV]; MR],
) -> (*const f32, *const f32) {
    let mut i: isize = 0;
    for _ in 0..t.depth {
        // SAFETY: element `i` of each row and a full row of B are valid by the caller's promise; prefetching any
        // address is harmless.
        unsafe {
            S::prefetch_far(soon);
            soon = soon.wrapping_add(t.soon.step);
            for line in 0..(NV * S::LANES).div_ceil(16) {
                S::prefetch(
                    b.wrapping_offset(t.b_step.wrapping_mul(if MR < NV { AHEAD_LOW } else { AHEAD }))
                        .wrapping_add(line * 16),
                );
            }
            if MR < NV {
                // Fewer rows than vectors: hold the rows' elements and stream B, or registers run out.
                let mut x = [S::splat(0.0); MR];
                for (x, row) in x.iter_mut().zip(rows) {
                    *x = S::splat(*row.offset(i));
                }
                for j in 0..NV {
                    let v = S::load(b.add(j * S::LANES));
                    for (row, &x) in acc.iter_mut().zip(&x) {
                        row[j] = S::fma(x, v, row[j]);
                    }
                }
            } else {
                let mut v = [S::splat(0.0); NV];
                for (j, v) in v.iter_mut().enumerate() {
                    *v = S::load(b.add(j * S::LANES));
                }
                for (row, a) in acc.iter_mut().zip(rows) {
                    let x = S::splat(*a.offset(i));
                    for (sum, &v) in row.iter_mut().zip(&v) {
                        *sum = S::fma(x, v, *sum);
                    }
                }
            }
        }
        i = i.wrapping_add(t.a_step);
        b = b.wrapping_offset(t.b_step);
    }
    (b, soon)
}

/// Some neighbouring pixels of an output line of a depthwise convolution, over `channels` neighbouring channels:
/// `out[r * out_step + c] = sum_t x[r * x_step + tap(t) + c] * w[t * w_step + c] + bias[c]`.
#[derive(Clone, Copy)]
pub struct DepthwiseTile {
    /// The first tap of the first pixel.
    pub(crate) x: *const f32,
    pub(crate) x_step: isize,
    pub(crate) taps: Taps,
    pub(crate) w: *const f32,
    pub(crate) w_step: usize,
    /// Null for none.
    pub(crate) bias: *const f32,
    pub(crate) out: *mut f32,
    pub(crate) out_step: isize,
    pub(crate) channels: usize,
    pub(crate) limits: Option<Limits>,
}

/// # Safety
/// The instruction set is available; the elements of [`DepthwiseTile`]'s formula for `MR` pixels are valid.
#[inline(always)]
pub(crate) unsafe fn depthwise_tile<S: Simd, const MR: usize>(t: &DepthwiseTile) {
    let strides = t.x_step.checked_div(t.taps.step).filter(|strides| strides * t.taps.step == t.x_step);
    // SAFETY: the caller's promise.
    unsafe {
        match (t.taps.width, strides) {
            (3, Some(1)) => depthwise_windows::<S, MR, 3, 1>(t),
            (3, Some(2)) => depthwise_windows::<S, MR, 3, 2>(t),
            (5, Some(1)) => depthwise_windows::<S, MR, 5, 1>(t),
            (5, Some(2)) => depthwise_windows::<S, MR, 5, 2>(t),
            _ => depthwise_windows::<S, MR, 0, 0>(t),
        }
    }
}

/// Windows of `KW` taps a line, `STRIDE` taps apart; with 0, of any.
///
/// # Safety
/// As for [`depthwise_tile`].
#[inline(always)]
unsafe fn depthwise_windows<S: Simd, const MR: usize, const KW: usize, const STRIDE: usize>(
    t: &DepthwiseTile,
) {
    let mut c = 0;
    // SAFETY: blocks are full as long as `c` plus their width is at most `channels`; the last is masked.
    unsafe {
        while c + S::LANES <= t.channels {
            depthwise_block::<S, MR, KW, STRIDE, false>(t, c);
            c += S::LANES;
        }
        if c < t.channels {
            depthwise_block::<S, MR, KW, STRIDE, true>(t, c);
        }
    }
}

/// # Safety
/// As for [`depthwise_tile`]; not `TAIL` only when `c + LANES <= channels`.
#[inline(always)]
unsafe fn depthwise_block<
    S: Simd,
    const MR: usize,
    const KW: usize,
    const STRIDE: usize,
    const TAIL: bool,
>(
    t: &DepthwiseTile,
    c: usize,
) {
    // SAFETY: the caller's promise covers the formula's elements; in the tail only lanes below `channels` are touched.
    unsafe {
        let mask = S::mask(t.channels - c);
        let bias =
            if t.bias.is_null() { S::splat(0.0) } else { load::<S, TAIL>(t.bias.wrapping_add(c), mask) };
        let mut acc = [bias; MR];
        let (mut line, mut w) = (t.x.wrapping_add(c), t.w.wrapping_add(c));
        let width = if KW == 0 { t.taps.width } else { KW };
        for _ in 0..t.taps.count / width {
            if KW == 0 {
                depthwise_line::<S, MR, TAIL>(t, (line, w), mask, &mut acc);
            } else {
                shared_line::<S, MR, KW, STRIDE, TAIL>(t, (line, w), mask, &mut acc);
            }
            line = line.wrapping_offset(t.taps.row_step);
            w = w.wrapping_add(width * t.w_step);
        }
        for (r, &v) in acc.iter().enumerate() {
            let p = t.out.wrapping_offset(r.cast_signed().wrapping_mul(t.out_step)).wrapping_add(c);
            let v = t.limits.map_or(v, |limits| limits.apply::<S>(v));
            if TAIL { S::store_mask(p, mask, v) } else { S::store(p, v) }
        }
    }
}

/// Adds a line of the window: tap after tap, each for all pixels.
///
/// # Safety
/// As for [`depthwise_block`], with x and w at the line.
#[inline(always)]
unsafe fn depthwise_line<S: Simd, const MR: usize, const TAIL: bool>(
    t: &DepthwiseTile,
    (line, mut w): (*const f32, *const f32),
    mask: S::M,
    acc: &mut [S::V; MR],
) {
    for tap in 0..t.taps.width {
        // SAFETY: the caller's promise.
        unsafe {
            let weight = load::<S, TAIL>(w, mask);
            let mut x = line.wrapping_offset(tap.cast_signed().wrapping_mul(t.taps.step));
            for sum in acc.iter_mut() {
                *sum = S::fma(load::<S, TAIL>(x, mask), weight, *sum);
                x = x.wrapping_offset(t.x_step);
            }
        }
        w = w.wrapping_add(t.w_step);
    }
}

/// As [`depthwise_line`] for windows that share their pixels: each is loaded once. Every sum is taken in the same order.
///
/// # Safety
/// As for [`depthwise_line`].
#[inline(always)]
unsafe fn shared_line<S: Simd, const MR: usize, const KW: usize, const STRIDE: usize, const TAIL: bool>(
    t: &DepthwiseTile,
    (mut x, w): (*const f32, *const f32),
    mask: S::M,
    acc: &mut [S::V; MR],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [S::splat(0.0); KW];
        for (tap, weight) in weights.iter_mut().enumerate() {
            *weight = load::<S, TAIL>(w.wrapping_add(tap * t.w_step), mask);
        }
        // A pixel is at tap `phase + STRIDE * k` of the windows of pixels `at - k`.
        for at in 0..MR + (KW - 1) / STRIDE {
            for phase in 0..STRIDE.min(KW + (MR - 1) * STRIDE - at * STRIDE) {
                let v = load::<S, TAIL>(x, mask);
                x = x.wrapping_offset(t.taps.step);
                for k in 0..(KW - phase).div_ceil(STRIDE) {
                    if at >= k && at - k < MR {
                        acc[at - k] = S::fma(v, weights[phase + STRIDE * k], acc[at - k]);
                    }
                }
            }
        }
    }
}

/// # Safety
/// The instruction set is available and the lanes read (those of `mask` in the tail) are valid.
#[inline(always)]
unsafe fn load<S: Simd, const TAIL: bool>(p: *const f32, mask: S::M) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if TAIL { S::load_mask(p, mask) } else { S::load(p) } }
}
