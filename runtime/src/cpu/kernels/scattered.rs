//! A second factor of the GEMM with zeros anywhere: what is stored is expanded to dense panels, which the dense tiles read.
//!
//! The sums are those of the dense factor, bit for bit. It saves bytes, and so time where few rows are multiplied.
//!
//! **Invariant:** no bit pattern of the codes leads outside the values: starts are limited to where a whole row is inside.

use super::gemm::CHUNK;
use super::simd::Simd;
use super::table::Kernels;
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
    values: *const f32,
    last: usize,
    codes: *const u32,
    /// Words of a panel.
    words: usize,
    scratch: *mut f32,
}

impl Scattered {
    /// Expands rows of a panel; gives where they are, 32 columns each.
    ///
    /// # Safety
    /// The operand outlives this, its kernels can run here, the panel and the rows are inside the matrix, the rows are at most
    /// those of the scratch, and nobody else uses it.
    pub(super) unsafe fn panel(&self, panel: usize, first: usize, count: usize) -> *const f32 {
        let rows = ScatteredRows {
            values: self.values,
            last: self.last,
            codes: self.codes.wrapping_add(panel * self.words),
            first,
            count,
            out: self.scratch,
        };
        // SAFETY: the caller's promise.
        unsafe { (self.expand)(&rows) };
        self.scratch
    }
}

/// Rows of a panel to be expanded: `out[i][j]` for `count` rows `first + i` and the 32 columns.
pub struct ScatteredRows {
    pub(crate) values: *const f32,
    /// Where a row of 32 elements can be read at most.
    pub(crate) last: usize,
    /// Of the panel.
    pub(crate) codes: *const u32,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) out: *mut f32,
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

/// # Safety
/// The instruction set is available; the codes of the rows, `last + 32` values and `count` rows of the output are valid.
#[inline(always)]
pub(crate) unsafe fn expand_rows<S: Simd>(t: &ScatteredRows) {
    let count = |mask: u32| -> usize {
        mask.to_le_bytes().map(|byte| usize::from(COUNTS[usize::from(byte)])).iter().sum()
    };
    // SAFETY: the caller's promise; a row has at most 32 elements, which are inside from `last` on.
    unsafe {
        let block = |row: usize| t.codes.add(row / BLOCK * WORDS);
        let mask = |row: usize| *block(row).add(1 + row % BLOCK);
        let before = (t.first / BLOCK * BLOCK..t.first).map(|row| count(mask(row))).sum::<usize>();
        let mut at = 0;
        for i in 0..t.count {
            let row = t.first + i;
            if i == 0 {
                at = *block(row) as usize + before;
            } else if row.is_multiple_of(BLOCK) {
                at = *block(row) as usize;
            }
            let mut bits = mask(row);
            let stored = count(bits);
            let mut from = t.values.add(at.min(t.last));
            let to = t.out.add(i * PANEL);
            for lane in (0..PANEL).step_by(S::LANES) {
                let these = bits & (u32::MAX >> (32 - S::LANES));
                S::store(to.add(lane), S::expand(from, these));
                from = from.add(count(these));
                bits = bits.checked_shr(S::LANES as u32).unwrap_or(0);
            }
            at += stored;
        }
    }
}
