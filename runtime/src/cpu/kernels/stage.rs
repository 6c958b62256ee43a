//! Results handed over in blocks while they are in cache.

use super::KernelError;
use crate::cpu::pack::PANEL;
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// Elements of a stage, whatever the sizes: 132 KB stay in the second-level cache beside a block of A. Its rows are many,
/// because every block of rows reads all of B again.
pub const STAGE: usize = 192 * (COLS + PAD);

/// Most columns of a block.
const COLS: usize = 160;

/// Keeps rows apart that would fall into one set of the first-level cache.
const PAD: usize = 16;

/// A block of a finished result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Rows; those of all batches (or pixels of all images) are counted through.
    pub rows: Range<usize>,
    /// Columns (or output channels).
    pub cols: Range<usize>,
    /// Where its first element is in the stage.
    pub start: usize,
}

/// Where a contraction puts its result instead of an output: block by block into `elements`, each of which
/// `finish` takes from there. Element `[i, j]` of a block is at `start + i * step + j`.
pub struct Stage<'a> {
    /// [`STAGE`] elements, this part's own; `finish` reads them.
    pub elements: SharedMut<'a, f32>,
    /// Distance of rows: [`Stage::step`] of the columns.
    pub step: usize,
    /// Called for every block of this part; parts get disjoint blocks.
    pub finish: &'a mut dyn FnMut(&Block) -> Result<(), KernelError>,
}

impl Stage<'_> {
    /// Panels of the widest block.
    pub(crate) const PANELS: usize = COLS / PANEL;

    /// The distance of rows in a stage for a result of `columns` columns (those of one group of a convolution). Narrow
    /// rows touch each other, so that blocks of them are contiguous.
    pub fn step(columns: usize) -> usize {
        if columns <= COLS { columns.max(1) } else { columns.min(COLS) + PAD }
    }

    /// Rows that fit.
    pub(crate) fn rows(&self) -> usize {
        STAGE / self.step.max(1)
    }

    /// Checks the stage for a result of `columns` columns.
    pub(crate) fn check(&self, columns: usize) -> Result<(), KernelError> {
        super::holds("stage", &(0..STAGE), self.elements.len())?;
        if self.step == Self::step(columns) { Ok(()) } else { Err(KernelError::Args("another stage's step")) }
    }
}
