//! Where the elements of operands are.

use super::{KernelError, distinct, product, span};
use std::ops::Range;

/// A strided matrix: element `[i][j]` is at `offset + i * row + j * col`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// First element.
    pub offset: usize,
    /// Distance of rows.
    pub row: isize,
    /// Distance of columns.
    pub col: isize,
}

impl View {
    /// A dense row-major matrix with `columns` columns.
    pub fn dense(columns: usize) -> Self {
        Self { offset: 0, row: columns.cast_signed(), col: 1 }
    }
}

/// Rows of neighbouring elements: element `[i][j]` is at `offset + i * row + j`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowView {
    /// First element.
    pub offset: usize,
    /// Distance of rows.
    pub row: isize,
}

impl RowView {
    /// A dense row-major matrix with `columns` columns.
    pub fn dense(columns: usize) -> Self {
        Self { offset: 0, row: columns.cast_signed() }
    }

    /// Offset of row `i`, which is inside a checked footprint.
    pub(crate) fn at(&self, i: usize) -> usize {
        self.offset.wrapping_add_signed(i.cast_signed().wrapping_mul(self.row))
    }
}

/// The elements of two matrices, the second of which is written.
pub(crate) fn row_footprint(
    rows: usize,
    cols: usize,
    x: &RowView,
    out: &RowView,
) -> Result<[Range<usize>; 2], KernelError> {
    product(&[rows, cols])?;
    let dims = |view: &RowView| [(rows, view.row), (cols, 1)].into_iter();
    let (read, written) = (span("x", x.offset, dims(x))?, span("out", out.offset, dims(out))?);
    if !written.is_empty() {
        distinct(dims(out))?;
    }
    Ok([read, written])
}

/// Images of pixels of neighbouring channels: channel `c` of pixel `[n, y, x]` is at
/// `offset + n * steps[0] + y * steps[1] + x * steps[2] + c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// First element.
    pub offset: usize,
    /// Distances of images, lines and pixels.
    pub steps: [isize; 3],
}

impl Pixels {
    /// Dense images of `height` lines of `width` pixels with `channels` channels. Distances too large for the address
    /// space wrap: sizes that need them are refused before they are used.
    pub fn dense([height, width]: [usize; 2], channels: usize) -> Self {
        let line = width.wrapping_mul(channels);
        let steps = [height.wrapping_mul(line), line, channels].map(usize::cast_signed);
        Self { offset: 0, steps }
    }

    /// Offset of a pixel, which is inside a checked footprint.
    pub(crate) fn at(&self, index: [usize; 3]) -> usize {
        let moved =
            |at: usize, (i, step): (usize, isize)| at.wrapping_add_signed(i.cast_signed().wrapping_mul(step));
        index.into_iter().zip(self.steps).fold(self.offset, moved)
    }

    /// Extents and distances of images, lines, pixels and channels.
    pub(crate) fn dims(&self, extents: [usize; 4]) -> [(usize, isize); 4] {
        let [n, y, x] = self.steps;
        [(extents[0], n), (extents[1], y), (extents[2], x), (extents[3], 1)]
    }
}

/// The distance of neighbours in row-major order over `extents`, if all are equally far apart.
pub(crate) fn merged(extents: [usize; 3], steps: [isize; 3]) -> Option<isize> {
    let mut inner: Option<(isize, usize)> = None;
    for (extent, step) in extents.into_iter().zip(steps).rev().filter(|(extent, _)| *extent != 1) {
        inner = match inner {
            None => Some((step, extent)),
            Some((first, count)) if first.checked_mul(count.cast_signed()) == Some(step) => {
                Some((first, count.checked_mul(extent)?))
            }
            Some(_) => return None,
        };
    }
    Some(inner.map_or(0, |(step, _)| step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_pixels_merge_and_strided_ones_do_not() {
        let dense = Pixels::dense([5, 7], 3);
        assert_eq!(merged([2, 5, 7], dense.steps), Some(3));
        assert_eq!(merged([2, 4, 7], dense.steps), None);
        assert_eq!(merged([1, 4, 7], dense.steps), Some(3));
        assert_eq!(merged([1, 4, 1], dense.steps), Some(21));
        assert_eq!(merged([1, 1, 1], [9, 9, 9]), Some(0));
        assert_eq!(dense.at([1, 2, 3]), 105 + 42 + 9);
    }
}
