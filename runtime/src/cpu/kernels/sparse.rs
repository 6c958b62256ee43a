//! A sparse second factor of the GEMM: its rows of A are packed, so that every stored row of B finds its element by a
//! position that is the same for all row tiles.
//!
//! What a weight that is not stored would meet is never read into a sum: it multiplies nothing, not even an infinity.
//!
//! **Invariant:** no bit pattern of the codes leads outside the packed rows: groups are as long as codes have values.

use super::gemm::Gemm;
use super::sparse_tile::{RUNTIME_ROWS, STRIDE, SparseTile, WORD_GROUPS};
use super::table::{Kernels, TileKernel};
use super::tile::{MAX_ROWS, Taps, TileOut};
use super::{KernelError, holds, share};
use crate::cpu::pack::PANEL;
use crate::cpu::sparse::{Pattern, SparseMatrix};
use crate::program::Sparsity;
use std::ops::Range;

/// Rows of the inner extent that a chunk takes, tiles of many rows and tiles of few.
const RUN: usize = 512;
const LOW_RUN: usize = 8192;

/// Keeps rows apart that would fall into one set of the first-level cache.
const PAD: usize = STRIDE - RUN;

/// Elements of packed rows of A: 198 KB stay in the second-level cache.
const ROWS: usize = 96 * STRIDE;

/// Elements of scratch that a [`SparseB`] needs, whatever the sizes.
pub const SPARSE_SCRATCH: usize = ROWS + LOW_RUN;

// Tiles of few rows fit with their longer chunks.
const _: () = assert!(RUNTIME_ROWS * (LOW_RUN + PAD) <= ROWS && MAX_ROWS * STRIDE <= ROWS);

/// Constant weights of which some rows of every group are stored, in the layout of [`crate::cpu::sparse`].
pub struct SparseB<'a> {
    /// Which rows.
    pub sparsity: Sparsity,
    /// The stored rows.
    pub values: &'a [f32],
    /// Their positions.
    pub codes: &'a [u32],
    /// Room for [`SPARSE_SCRATCH`] elements, this part's own.
    pub scratch: &'a mut [f32],
}

impl SparseB<'_> {
    /// Checks the operands against a matrix that is read unless it is not `used`, for `m` rows of A.
    pub(crate) fn resolve(
        self,
        kernels: &Kernels,
        m: usize,
        matrix: &SparseMatrix,
        used: bool,
    ) -> Result<Sparse, KernelError> {
        let pattern = Pattern::new(self.sparsity)?;
        if used {
            holds("sparse values", &(0..matrix.values_len()?), self.values.len())?;
            holds("sparse codes", &(0..matrix.codes_len()?), self.codes.len())?;
        }
        holds("scratch", &(0..SPARSE_SCRATCH), self.scratch.len())?;
        let [high, low] = if pattern.shared { kernels.sparse_panels } else { kernels.sparse_columns };
        let run = if m <= RUNTIME_ROWS { LOW_RUN } else { RUN };
        let scratch = self.scratch.as_mut_ptr();
        Ok(Sparse {
            kernel: if m <= low.tiles.len() { low } else { high },
            pattern,
            groups: matrix.depth.div_ceil(pattern.of),
            run,
            values: self.values.as_ptr(),
            codes: self.codes.as_ptr(),
            rows: scratch,
            positions: scratch.wrapping_add(ROWS).cast(),
        })
    }
}

/// A checked [`SparseB`].
pub(crate) struct Sparse {
    pub(super) kernel: TileKernel<SparseTile>,
    pattern: Pattern,
    /// Groups of one tap.
    groups: usize,
    /// Rows of the inner extent that a chunk may take.
    run: usize,
    values: *const f32,
    codes: *const u32,
    /// Packed rows of A.
    rows: *mut f32,
    /// Positions in a packed row that the stored rows of a panel meet.
    positions: *mut u32,
}

impl Sparse {
    /// Rows of a tile.
    pub(super) fn height(&self) -> usize {
        self.kernel.tiles.len()
    }

    /// Distance of packed rows.
    fn stride(&self) -> usize {
        self.run + PAD
    }

    /// Rows of A that can be packed at once.
    pub(super) fn rows(&self) -> usize {
        ROWS / self.stride()
    }

    /// Chunks start at multiples of this many groups: with a pattern for each column, at whole words.
    fn unit(&self) -> usize {
        PANEL / self.pattern.of
    }

    /// Pieces of the inner extent.
    pub(super) fn chunks(&self, taps: usize) -> usize {
        (taps * self.groups).div_ceil(self.unit()).div_ceil(self.run / PANEL).max(1)
    }

    /// The groups of a chunk, counted through all taps.
    pub(super) fn chunk(&self, taps: usize, index: usize, chunks: usize) -> Range<usize> {
        let (all, unit) = (taps * self.groups, self.unit());
        let units = share(all.div_ceil(unit), chunks, index);
        units.start * unit..all.min(units.end * unit)
    }

    /// Packs `groups` of the rows `rows` of A, each filled to whole groups with zeros.
    ///
    /// # Safety
    /// The rows and taps are inside A, which lies `a` elements from its base; no more rows than [`Self::rows`], no more
    /// groups than a chunk has.
    pub(super) unsafe fn pack_rows(
        &self,
        gemm: &Gemm<'_>,
        a: isize,
        rows: Range<usize>,
        groups: Range<usize>,
    ) {
        let base = gemm.a.wrapping_offset(a);
        let mut to = self.rows;
        for first in rows.clone().step_by(MAX_ROWS) {
            let count = MAX_ROWS.min(rows.end - first);
            for start in gemm.rows.fill(first, count).into_iter().take(count) {
                // SAFETY: the caller's promise.
                unsafe { self.pack_row(gemm, base.wrapping_offset(start), to, groups.clone()) };
                to = to.wrapping_add(self.stride());
            }
        }
    }

    /// # Safety
    /// As for [`Self::pack_rows`], with the starts of the row and of its place.
    unsafe fn pack_row(&self, gemm: &Gemm<'_>, row: *const f32, mut to: *mut f32, groups: Range<usize>) {
        let of = self.pattern.of;
        let mut at = groups.start;
        while at < groups.end {
            let (tap, first) = (at / self.groups, at % self.groups);
            let count = (self.groups - first).min(groups.end - at);
            let have = (gemm.depth - first * of).min(count * of);
            let offset = Taps { first: tap, ..gemm.taps }.cursor().0;
            let from = row
                .wrapping_offset(offset)
                .wrapping_offset((first * of).cast_signed().wrapping_mul(gemm.a_step));
            // SAFETY: `have` elements of this tap are in A, and `count` groups have room.
            unsafe {
                if gemm.a_step == 1 {
                    std::ptr::copy_nonoverlapping(from, to, have);
                } else {
                    for i in 0..have {
                        *to.add(i) = *from.wrapping_offset(i.cast_signed().wrapping_mul(gemm.a_step));
                    }
                }
                to.add(have).write_bytes(0, count * of - have);
            }
            to = to.wrapping_add(count * of);
            at += count;
        }
    }

    /// The tile over `groups` of a panel, counted through all groups of a convolution. Positions are valid until the next
    /// call.
    ///
    /// # Safety
    /// The panel exists, and the groups are those of a chunk.
    pub(super) unsafe fn panel(
        &self,
        panel: usize,
        taps: usize,
        groups: &Range<usize>,
        out: TileOut,
    ) -> SparseTile {
        let pattern = &self.pattern;
        let (all, first) = (taps * self.groups * pattern.kept, groups.start * pattern.kept);
        let words = self.codes.wrapping_add(panel * pattern.words(all) * pattern.width());
        let words = words.wrapping_add(first / pattern.per_word() * pattern.width());
        let index = if pattern.shared {
            // SAFETY: the caller's promise; a chunk has at most as many rows as there is room for positions.
            unsafe { self.decode(words, first % pattern.per_word(), groups.len()) };
            self.positions.cast_const()
        } else {
            words
        };
        SparseTile {
            a: self.rows,
            row: 0,
            stride: self.stride(),
            index,
            kept: groups.len() * pattern.kept,
            b: self.values.wrapping_add((panel * all + first) * PANEL),
            out,
        }
    }

    /// Writes the positions of `groups` groups, whose codes start with number `skip` of the first word.
    ///
    /// # Safety
    /// The words are valid, and so is the room for the positions.
    unsafe fn decode(&self, mut words: *const u32, skip: usize, groups: usize) {
        let Pattern { kept, of, .. } = self.pattern;
        let (bits, per_word) = (self.pattern.bits(), self.pattern.per_word());
        let mut to = self.positions;
        // SAFETY: the caller's promise: a word is read only when a code of it is still to come.
        unsafe {
            let whole = if [kept, of, skip] == [2, 4, 0] { groups / WORD_GROUPS } else { 0 };
            for word in 0..whole {
                let codes = *words;
                for i in 0..2 * WORD_GROUPS {
                    *to.add(i) = (word * 4 * WORD_GROUPS + i / 2 * 4) as u32 + (codes >> (2 * i) & 3);
                }
                (words, to) = (words.add(1), to.add(2 * WORD_GROUPS));
            }
            let mut at = skip;
            for group in whole * WORD_GROUPS..groups {
                for _ in 0..kept {
                    let code = *words >> (at * bits) & (of - 1) as u32;
                    *to = (group * of) as u32 + code;
                    (to, at) = (to.add(1), at + 1);
                    if at == per_word {
                        (words, at) = (words.wrapping_add(1), 0);
                    }
                }
            }
        }
    }
}
