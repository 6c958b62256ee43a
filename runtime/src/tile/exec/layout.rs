//! Loop dimensions of a plan: footprints, normalisation, and which of them form the blocks.

use super::{BLOCK, ConcreteAccess};
use crate::elem::ElemType;

/// An access over the normalised loop dimensions.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) elem: ElemType,
    pub(super) offset: i64,
    pub(super) strides: Vec<i64>,
    /// Bytes the value must have.
    pub(super) bytes: usize,
}

impl Access {
    pub(super) fn stride(&self, dim: Option<usize>) -> i64 {
        dim.map_or(0, |d| self.strides[d])
    }
}

/// Elements that a value must have for `access` over `dims` (none of them 0).
pub(super) fn footprint(access: &ConcreteAccess, dims: &[i64]) -> Result<i64, &'static str> {
    const OVERFLOW: &str = "its footprint overflows";
    let (mut low, mut high) = (access.offset, access.offset);
    for (extent, stride) in dims.iter().zip(&access.strides) {
        let span = stride.checked_mul(extent - 1).ok_or(OVERFLOW)?;
        let end = if span < 0 { &mut low } else { &mut high };
        *end = end.checked_add(span).ok_or(OVERFLOW)?;
    }
    if low < 0 {
        return Err("it begins before its value");
    }
    high.checked_add(1).ok_or(OVERFLOW)
}

/// Whether `access`, whose footprint over `dims` is known not to overflow, meets no element twice. Sufficient, and
/// true of every strided part of a dense tensor.
pub(super) fn is_injective(access: &ConcreteAccess, dims: &[i64]) -> bool {
    let mut steps: Vec<(u64, i64)> = dims
        .iter()
        .zip(&access.strides)
        .filter(|(e, _)| **e > 1)
        .map(|(e, s)| (s.unsigned_abs(), *e))
        .collect();
    steps.sort_unstable();
    let mut reach = 0u64;
    steps.iter().all(|&(stride, extent)| {
        let fits = stride > reach;
        reach = reach.saturating_add(stride.saturating_mul(extent as u64 - 1));
        fits
    })
}

/// Loop dimensions after dropping those of extent 1 and merging neighbours.
pub(super) struct Loops {
    /// Extents, the kept ones first.
    pub(super) dims: Vec<i64>,
    /// How many are kept.
    pub(super) kept: usize,
    /// Where each original dimension went; `None` for extent 1.
    pub(super) renamed: Vec<Option<u8>>,
}

impl Loops {
    /// Normalises `dims` and the strides of `accesses` over them; dimensions in `named` are not merged.
    pub(super) fn new(dims: &[i64], kept: usize, named: &[bool], accesses: &mut [&mut Access]) -> Self {
        let mut loops = Self { dims: Vec::new(), kept: 0, renamed: vec![None; dims.len()] };
        let mut strides: Vec<Vec<i64>> = vec![Vec::new(); accesses.len()];
        let mut last: Option<usize> = None;
        for (d, &extent) in dims.iter().enumerate() {
            if extent == 1 {
                continue;
            }
            let mergeable = last.filter(|&l| (l < kept) == (d < kept) && !named[l] && !named[d]);
            let contiguous = accesses
                .iter()
                .zip(&strides)
                .all(|(a, s)| s.last().is_some_and(|&outer| a.strides[d].checked_mul(extent) == Some(outer)));
            if mergeable.is_some() && contiguous {
                if let Some(merged) = loops.dims.last_mut() {
                    *merged *= extent;
                }
                for (a, s) in accesses.iter().zip(&mut strides) {
                    s.pop();
                    s.push(a.strides[d]);
                }
            } else {
                loops.dims.push(extent);
                loops.kept += usize::from(d < kept);
                for (a, s) in accesses.iter().zip(&mut strides) {
                    s.push(a.strides[d]);
                }
            }
            loops.renamed[d] = Some((loops.dims.len() - 1) as u8);
            last = Some(d);
        }
        for (access, strides) in accesses.iter_mut().zip(strides) {
            access.strides = strides;
        }
        loops
    }
}

/// A class of loop dimensions, walked as outer loops around blocks of rows and columns.
#[derive(Clone, Debug)]
pub(super) struct Nest {
    /// Outer dimensions, outermost first.
    pub(super) outer: Vec<usize>,
    pub(super) row: Option<usize>,
    pub(super) col: Option<usize>,
    /// Extents of the row and column dimension.
    pub(super) extent: [i64; 2],
    /// Most rows and columns of a block.
    pub(super) block: [i64; 2],
}

/// What an access costs an element for its stride along the columns, in arbitrary units.
fn weight(stride: i64, is_write: bool) -> f64 {
    match stride {
        0 => 0.25,
        1 => 1.0,
        -1 => 2.0,
        _ if is_write => 4.0,
        _ => 3.0,
    }
}

impl Nest {
    /// Estimated cost an element with `dim` as columns.
    fn cost(dim: usize, extents: &[i64], accesses: &[(&Access, bool)]) -> f64 {
        let weights: f64 = accesses.iter().map(|(a, is_write)| weight(a.strides[dim], *is_write)).sum();
        weights + 8.0 * (accesses.len() as f64 + 1.0) / extents[dim].clamp(1, BLOCK) as f64
    }

    /// The dimension of `class` that serves best as columns, with its cost; the innermost of equals.
    pub(super) fn best_column(
        class: &std::ops::Range<usize>,
        extents: &[i64],
        accesses: &[(&Access, bool)],
    ) -> Option<(usize, f64)> {
        let costs = class.clone().rev().map(|d| (d, Self::cost(d, extents, accesses)));
        costs.reduce(|best, next| if next.1 < best.1 { next } else { best })
    }

    /// A nest over `class`. With `in_order`, blocks follow each other in row-major order.
    pub(super) fn new(
        class: std::ops::Range<usize>,
        extents: &[i64],
        accesses: &[(&Access, bool)],
        in_order: bool,
    ) -> Self {
        let best = Self::best_column(&class, extents, accesses).map(|(d, _)| d);
        let col = if in_order { class.clone().last() } else { best };
        let mut outer: Vec<usize> = class.filter(|&d| Some(d) != col).collect();
        let Some(c) = col else {
            return Self { outer, row: None, col: None, extent: [1, 1], block: [1, 1] };
        };
        let cols = extents[c];
        let crossing = |d: usize| {
            accesses.iter().any(|(a, _)| a.strides[d] == 1 && a.strides[c].unsigned_abs() > 1)
                && extents[d] >= 4
        };
        let transposed = outer.iter().copied().rev().find(|&d| !in_order && crossing(d));
        let (row, block) = if let Some(r) = transposed {
            // 16 elements of 4 bytes fill a cache line on the side that is contiguous along the rows.
            let width = cols.min(BLOCK / extents[r].min(16));
            (Some(r), [extents[r].min(BLOCK / width.max(1)), width])
        } else if cols <= BLOCK / 2 && !outer.is_empty() {
            let row = outer.last().copied();
            let rows = row.map_or(1, |r| extents[r]);
            (row, [rows.min(BLOCK / cols.max(1)), cols])
        } else {
            let chunks = (cols + BLOCK - 1) / BLOCK;
            let width = (cols / chunks.max(1) + 1 + 15) / 16 * 16;
            (None, [1, width.min(BLOCK).min(cols)])
        };
        outer.retain(|&d| Some(d) != row);
        Self { outer, row, col, extent: [row.map_or(1, |r| extents[r]), cols], block }
    }

    /// A nest with the last of `dims` as columns (if `has_cols`), the one before as rows, and blocks that serve any part.
    pub(super) fn of_rows(dims: &[i64], has_cols: bool) -> Self {
        let col = dims.len().checked_sub(1).filter(|_| has_cols);
        let row = col.unwrap_or(dims.len()).checked_sub(1);
        let extent = [row, col].map(|d| d.map_or(1, |d| dims[d]));
        let block = if extent[1] <= BLOCK / 2 {
            [extent[0].min(BLOCK / extent[1].max(1)), extent[1]]
        } else {
            [1, extent[1].min(BLOCK)]
        };
        Self { outer: (0..row.unwrap_or(0)).collect(), row, col, extent, block }
    }

    /// Most elements of a block.
    pub(super) fn width(&self) -> usize {
        (self.block[0] * self.block[1]).max(1) as usize
    }

    /// Whether `dim` varies within a block.
    pub(super) fn in_block(&self, dim: usize) -> bool {
        self.row == Some(dim) || self.col == Some(dim)
    }
}

/// A part of a nest: one point of the outer dimensions, ranges of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    /// Row-major position within the outer dimensions.
    pub(super) outer: i64,
    pub(super) rows: [i64; 2],
    pub(super) cols: [i64; 2],
}

/// The rectangles of one part of a nest.
pub(super) struct Rects {
    next: i64,
    end: i64,
    rows: i64,
    cols: i64,
    /// Pieces that each row is cut into, and their width.
    pieces: i64,
    piece: i64,
}

impl Rects {
    /// Part `part` of `parts` of a nest with `outer` points in its outer dimensions; parts are about equal, and together
    /// cover everything once. Pieces of rows are multiples of `granule` columns.
    pub(super) fn new(nest: &Nest, outer: i64, (part, parts): (usize, usize), granule: i64) -> Self {
        let [rows, cols] = nest.extent;
        let lines = outer * rows;
        let wanted = (parts as i64).saturating_mul(4);
        let (mut pieces, mut piece) = (1, cols);
        if parts > 1 && lines < wanted && lines > 0 {
            let most = (cols / (4 * granule - 3)).max(1);
            let count = (wanted / lines).clamp(1, most);
            piece = ((cols / count).max(1) + granule - 1) / granule * granule;
            pieces = (cols + piece - 1) / piece;
        }
        let units = i128::from(lines) * i128::from(pieces);
        let cut = |k: usize| (units * k as i128 / parts.max(1) as i128) as i64;
        Self { next: cut(part), end: cut(part + 1), rows, cols, pieces, piece }
    }
}

impl Iterator for Rects {
    type Item = Rect;

    fn next(&mut self) -> Option<Rect> {
        if self.next >= self.end {
            return None;
        }
        let line = self.next / self.pieces;
        let (outer, row) = (line / self.rows, line % self.rows);
        if self.pieces > 1 {
            let first = self.next % self.pieces * self.piece;
            self.next += 1;
            let cols = [first, (first + self.piece).min(self.cols)];
            return Some(Rect { outer, rows: [row, row + 1], cols });
        }
        let rows = [row, self.rows.min(row + self.end - self.next)];
        self.next += rows[1] - rows[0];
        Some(Rect { outer, rows, cols: [0, self.cols] })
    }
}

/// One block of a rectangle.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// First row and column.
    pub(super) at: [i64; 2],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl View {
    pub(super) const POINT: Self = Self { at: [0, 0], rows: 1, cols: 1 };

    pub(super) fn len(self) -> usize {
        self.rows * self.cols
    }
}

/// The blocks of a rectangle, row-major.
pub(super) struct Blocks {
    rect: Rect,
    block: [i64; 2],
    at: [i64; 2],
}

impl Blocks {
    pub(super) fn new(nest: &Nest, rect: Rect) -> Self {
        Self { rect, block: nest.block, at: [rect.rows[0], rect.cols[0]] }
    }
}

impl Iterator for Blocks {
    type Item = View;

    fn next(&mut self) -> Option<View> {
        if self.at[1] >= self.rect.cols[1] {
            self.at = [self.at[0] + self.block[0], self.rect.cols[0]];
        }
        if self.at[0] >= self.rect.rows[1] || self.at[1] >= self.rect.cols[1] {
            return None;
        }
        let at = self.at;
        let rows = (self.rect.rows[1] - at[0]).min(self.block[0]) as usize;
        let cols = (self.rect.cols[1] - at[1]).min(self.block[1]) as usize;
        self.at[1] += self.block[1];
        Some(View { at, rows, cols })
    }
}
