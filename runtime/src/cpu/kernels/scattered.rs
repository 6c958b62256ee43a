//! A second factor of the GEMM with zeros anywhere. Few rows are multiplied with what is stored as it is expanded in registers;
//! for more of them it is expanded to dense panels, which the dense tiles read.
//!
//! The sums are those of the dense factor, bit for bit. It saves bytes, and so time where few rows are multiplied.
//!
//! **Invariant:** no bit pattern of the codes leads outside the values: starts are limited to where a whole row is inside.

use super::gemm::CHUNK;
use super::simd::Simd;
use super::table::Kernels;
use super::tile::GemmTile;
use super::{KernelError, holds};
use crate::cpu::pack::PANEL;
use crate::cpu::scattered::{BLOCK, WORDS, codes_len};

/// Elements of scratch that a [`ScatteredB`] needs: an expanded chunk, which whole taps may make longer than others.
pub const SCATTERED_SCRATCH: usize = 2 * CHUNK * PANEL;

/// Constant weights in the layout of [`crate::cpu::scattered`].
pub struct ScatteredB<'a> {
    /// The stored elements.
    pub values: &'a [f32],
    /// Where they belong.
    pub codes: &'a [u32],
    /// Room for [`SCATTERED_SCRATCH`] elements, this part's own.
    pub scratch: &'a mut [f32],
}

impl ScatteredB<'_> {
    /// Checks the operands against a matrix of so many rows and columns.
    pub(crate) fn resolve(self, kernels: &Kernels, rows: usize, n: usize) -> Result<Scattered, KernelError> {
        let words = codes_len(rows, n)?;
        holds("codes", &(0..words), self.codes.len())?;
        holds("scattered values", &(0..PANEL), self.values.len())?;
        holds("scratch", &(0..SCATTERED_SCRATCH), self.scratch.len())?;
        Ok(Scattered {
            expand: kernels.expand,
            tiles: kernels.scattered,
            values: self.values.as_ptr(),
            last: self.values.len() - PANEL,
            codes: self.codes.as_ptr(),
            words: rows.div_ceil(BLOCK) * WORDS,
            scratch: self.scratch.as_mut_ptr(),
        })
    }
}

/// A checked [`ScatteredB`].
pub(crate) struct Scattered {
    expand: unsafe fn(&ScatteredRows),
    tiles: &'static [unsafe fn(&ScatteredTile)],
    values: *const f32,
    last: usize,
    codes: *const u32,
    /// Words of a panel.
    words: usize,
    scratch: *mut f32,
}

impl Scattered {
    /// Whether so many rows of A are multiplied with rows that are not expanded before.
    pub(super) fn is_few(&self, m: usize) -> bool {
        (1..=self.tiles.len()).contains(&m)
    }

    fn rows(&self, panel: usize, first: usize, count: usize) -> ScatteredRows {
        ScatteredRows {
            values: self.values,
            last: self.last,
            codes: self.codes.wrapping_add(panel * self.words),
            first,
            count,
            out: self.scratch,
        }
    }

    /// Expands rows of a panel; gives where they are, 32 columns each.
    ///
    /// # Safety
    /// The operand outlives this, its kernels can run here, the panel and the rows are inside the matrix, the rows are at most
    /// those of the scratch, and nobody else uses it.
    pub(super) unsafe fn expanded(&self, panel: usize, first: usize, count: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { (self.expand)(&self.rows(panel, first, count)) };
        self.scratch
    }

    /// Multiplies `m` rows, which are few, with rows of a panel from `first` on; `tile` says everything but B.
    ///
    /// # Safety
    /// As for [`Self::expanded`] and for the tile's formula, of which it has all rows.
    pub(super) unsafe fn multiply(&self, panel: usize, first: usize, m: usize, tile: GemmTile) {
        let b = self.rows(panel, first, tile.taps.count * tile.depth);
        // SAFETY: the caller's promise.
        unsafe { self.tiles[m - 1](&ScatteredTile { tile, b }) };
    }
}

/// Rows of a panel, expanded as `out[i][j]` for `count` rows `first + i` and the 32 columns.
pub struct ScatteredRows {
    values: *const f32,
    /// Where a row of 32 elements can be read at most.
    last: usize,
    /// Of the panel.
    codes: *const u32,
    first: usize,
    count: usize,
    out: *mut f32,
}

/// A register tile of the GEMM over the 32 columns of a panel, all of whose rows are those of `b`.
pub struct ScatteredTile {
    tile: GemmTile,
    b: ScatteredRows,
}

/// For each byte how many of its bits are set.
static COUNTS: [u8; 256] = {
    let mut counts = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        counts[byte] = (byte as u8).count_ones() as u8;
        byte += 1;
    }
    counts
};

/// Set bits: without the instruction for it, which the tables' instruction sets do not include.
#[inline(always)]
fn count(mask: u32) -> usize {
    mask.to_le_bytes().map(|byte| usize::from(COUNTS[usize::from(byte)])).iter().sum()
}

/// A place among the rows of a panel.
struct Cursor<'r> {
    rows: &'r ScatteredRows,
    row: usize,
    /// Where its elements begin.
    at: usize,
}

impl<'r> Cursor<'r> {
    /// # Safety
    /// The codes up to the first row are valid.
    #[inline(always)]
    unsafe fn new(rows: &'r ScatteredRows) -> Self {
        let mut cursor = Cursor { rows, row: rows.first / BLOCK * BLOCK, at: 0 };
        while cursor.row < rows.first {
            // SAFETY: the caller's promise.
            unsafe { cursor.next() };
        }
        cursor
    }

    /// The elements of the row and the mask of their columns; goes on to the next row.
    ///
    /// # Safety
    /// The row's codes are valid.
    #[inline(always)]
    unsafe fn next(&mut self) -> (*const f32, u32) {
        let (row, within) = (self.row, self.row % BLOCK);
        // SAFETY: the caller's promise.
        let mask = unsafe {
            let block = self.rows.codes.add(row / BLOCK * WORDS);
            if within == 0 {
                self.at = *block as usize;
            }
            *block.add(1 + within)
        };
        let from = self.rows.values.wrapping_add(self.at.min(self.rows.last));
        self.at += count(mask);
        self.row += 1;
        (from, mask)
    }
}

/// The vectors of a row.
///
/// # Safety
/// The instruction set is available, and 32 elements from `from` on are valid.
#[inline(always)]
unsafe fn expanded<S: Simd, const NV: usize>(mut from: *const f32, mut mask: u32) -> [S::V; NV] {
    // SAFETY: the caller's promise; what is before a vector is at most all of its lanes.
    unsafe {
        let mut row = [S::splat(0.0); NV];
        for v in &mut row {
            let bits = mask & (u32::MAX >> (32 - S::LANES));
            *v = S::expand(from, bits);
            from = from.add(count(bits));
            mask = mask.checked_shr(S::LANES as u32).unwrap_or(0);
        }
        row
    }
}

/// # Safety
/// The instruction set is available; the codes of the rows, `last + 32` values and `count` rows of the output are valid.
#[inline(always)]
pub(crate) unsafe fn expand_rows<S: Simd, const NV: usize>(t: &ScatteredRows) {
    // SAFETY: the caller's promise; a row has at most 32 elements, which are inside up to `last`.
    unsafe {
        let mut cursor = Cursor::new(t);
        for i in 0..t.count {
            let (from, mask) = cursor.next();
            for (j, v) in expanded::<S, NV>(from, mask).into_iter().enumerate() {
                S::store(t.out.add(i * PANEL + j * S::LANES), v);
            }
        }
    }
}

/// # Safety
/// As for [`expand_rows`] without its output, and for [`super::tile::gemm_tile`] without its B.
#[inline(always)]
pub(crate) unsafe fn scattered_tile<S: Simd, const MR: usize, const NV: usize>(t: &ScatteredTile) {
    // SAFETY: the caller's promise.
    unsafe {
        let (tile, mut b) = (&t.tile, Cursor::new(&t.b));
        let mut acc = tile.out.start::<S, MR, NV>();
        let mut cursor = tile.taps.cursor();
        for _ in 0..tile.taps.count {
            let mut rows = [tile.a; MR];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = tile.a.wrapping_offset(tile.rows[r].wrapping_add(cursor.0));
            }
            for i in 0..tile.depth {
                let (from, mask) = b.next();
                let row = expanded::<S, NV>(from, mask);
                for (acc, a) in acc.iter_mut().zip(&rows) {
                    let x = S::splat(*a.offset(i.cast_signed().wrapping_mul(tile.a_step)));
                    for (sum, &v) in acc.iter_mut().zip(&row) {
                        *sum = S::fma(x, v, *sum);
                    }
                }
            }
            cursor = tile.taps.advance(cursor);
        }
        tile.out.finish::<S, MR, NV>(&acc);
    }
}
