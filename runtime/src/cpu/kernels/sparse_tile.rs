//! Kernel bodies of GEMMs whose B stores some rows of every group of rows.

use super::simd::Simd;
use super::tile::{AHEAD, AHEAD_LOW, TileOut};
use crate::cpu::pack::PANEL;

/// Distance of the packed rows of A for tiles of more than [`RUNTIME_ROWS`] rows. It is a constant of the code, so that one
/// register addresses all rows; 16 more than a power of two keeps them in different sets of the first-level cache.
pub(crate) const STRIDE: usize = 512 + 16;

/// Most rows of a tile that takes the distance of rows from its arguments.
pub(crate) const RUNTIME_ROWS: usize = 4;

/// One register tile over packed rows of A.
pub struct SparseTile {
    /// Rows of a block, packed with zeros up to whole groups.
    pub(crate) a: *const f32,
    /// The tile's first row in the block.
    pub(crate) row: usize,
    /// Distance of rows; [`STRIDE`] where a tile has more than [`RUNTIME_ROWS`].
    pub(crate) stride: usize,
    /// Which element of A a stored row meets: its position, or codes in the layout of [`crate::cpu::sparse`].
    pub(crate) index: *const u32,
    /// Stored rows.
    pub(crate) kept: usize,
    /// The panel's stored rows of 32 elements.
    pub(crate) b: *const f32,
    pub(crate) out: TileOut,
}

impl SparseTile {
    /// The first row, and the distance of rows.
    #[inline(always)]
    fn rows<const MR: usize>(&self) -> (*const f32, usize) {
        let stride = if MR > RUNTIME_ROWS { STRIDE } else { self.stride };
        (self.a.wrapping_add(self.row * stride), stride)
    }
}

/// `c[r, j] (+)= sum_i a[r][index[i]] * b[i][j]` for the columns of `out`.
///
/// # Safety
/// The instruction set is available; `index` has `kept` positions inside the rows of A, B as many rows over the full
/// width of the tile, and C and bias are valid as [`TileOut`] says.
#[inline(always)]
pub(crate) unsafe fn panels_tile<S: Simd, const MR: usize, const NV: usize>(t: &SparseTile) {
    // SAFETY: the caller's promise; prefetching any address is harmless.
    unsafe {
        let mut acc = t.out.start::<S, MR, NV>();
        let (a, stride) = t.rows::<MR>();
        let mut b = t.b.wrapping_add(t.out.col);
        let ahead = PANEL * if MR < NV { AHEAD_LOW } else { AHEAD }.cast_unsigned();
        for i in 0..t.kept {
            let a = a.add(*t.index.add(i) as usize);
            for line in 0..(NV * S::LANES).div_ceil(16) {
                S::prefetch(b.wrapping_add(ahead + line * 16));
            }
            if MR < NV {
                // As in the dense tile: hold the rows' elements and stream B.
                let mut x = [S::splat(0.0); MR];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = S::splat(*a.add(r * stride));
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
                for (r, row) in acc.iter_mut().enumerate() {
                    let x = S::splat(*a.add(r * stride));
                    for (sum, &v) in row.iter_mut().zip(&v) {
                        *sum = S::fma(x, v, *sum);
                    }
                }
            }
            b = b.wrapping_add(PANEL);
        }
        t.out.finish::<S, MR, NV>(&acc);
    }
}

/// Groups of 4 rows whose codes share a word.
pub(crate) const WORD_GROUPS: usize = 8;

/// `c[r, j] (+)= sum_i a[r][4 * (i / 2) + code(i, j)] * b[i][j]` for the columns of `out`; `kept` is even.
///
/// # Safety
/// The instruction set is available; rows of A have `2 * kept` elements, B `kept` rows over the full width of the tile and
/// `index` their words, and C and bias are valid as [`TileOut`] says.
#[inline(always)]
pub(crate) unsafe fn columns_tile<S: Simd, const MR: usize, const NV: usize>(t: &SparseTile) {
    // SAFETY: the caller's promise; prefetching any address is harmless.
    unsafe {
        let mut acc = t.out.start::<S, MR, NV>();
        let (mut a, stride) = t.rows::<MR>();
        let mut b = t.b.wrapping_add(t.out.col);
        let mut words = t.index.wrapping_add(t.out.col);
        let mut left = t.kept / 2;
        while left > 0 {
            let mut codes = [S::load_words(words); NV];
            for (j, codes) in codes.iter_mut().enumerate() {
                *codes = S::load_words(words.add(j * S::LANES));
            }
            let groups = left.min(WORD_GROUPS);
            for _ in 0..groups {
                columns_group::<S, MR, NV>((a, stride), b, &mut codes, &mut acc);
                (a, b) = (a.wrapping_add(4), b.wrapping_add(2 * PANEL));
            }
            words = words.wrapping_add(PANEL);
            left -= groups;
        }
        t.out.finish::<S, MR, NV>(&acc);
    }
}

/// The two stored rows of a group, and on to the next codes.
///
/// # Safety
/// As for [`columns_tile`].
#[inline(always)]
unsafe fn columns_group<S: Simd, const MR: usize, const NV: usize>(
    (a, stride): (*const f32, usize),
    b: *const f32,
    codes: &mut [S::I; NV],
    acc: &mut [[S::V; NV]; MR],
) {
    // SAFETY: the caller's promise; prefetching any address is harmless.
    unsafe {
        for line in 0..(NV * S::LANES).div_ceil(16) {
            for row in 0..2 {
                S::prefetch(b.wrapping_add((AHEAD_LOW.cast_unsigned() + row) * PANEL + line * 16));
            }
        }
        let mut x = [S::splat(0.0); MR];
        if NV > 1 {
            for (r, x) in x.iter_mut().enumerate() {
                *x = S::load_four(a.add(r * stride));
            }
        }
        for j in 0..NV {
            let first = S::load(b.add(j * S::LANES));
            let second = S::load(b.add(PANEL + j * S::LANES));
            let next = S::next_code(codes[j]);
            for (r, row) in acc.iter_mut().enumerate() {
                let x = if NV > 1 { x[r] } else { S::load_four(a.add(r * stride)) };
                row[j] = S::fma(S::pick(x, codes[j]), first, row[j]);
                row[j] = S::fma(S::pick(x, next), second, row[j]);
            }
            codes[j] = S::next_code(next);
        }
    }
}
