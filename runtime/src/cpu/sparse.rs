//! Packed layouts of weights with structured zeros, one for all instruction sets.
//!
//! A matrix is one run of `depth` rows for each tap of a kernel, 1 for a matrix product. Every run is cut into groups of `of`
//! rows, the last one completed by rows of zeros, and of each group `kept` rows are stored. With [`Sparsity::Panels`] they are the same
//! for the 32 columns of a panel, with [`Sparsity::Columns`] each column has its own.
//!
//! Stored rows are `[ceil(n/32)][taps * ceil(depth/of) * kept][32]`, columns beyond n filled with zeros. The code of a
//! stored row is its position in its group, of `log2(of)` bits, so that every code is inside. Codes are in the order of the
//! stored rows, as many as fit in each 32-bit word from its lowest bits on, and words are
//! `[ceil(n/32)][ceil(rows / (32 / bits))]` for `Panels`, `[ceil(n/32)][..][32]` for `Columns`.

use super::kernels::KernelError;
use super::pack::{ConvWeights, PANEL};
use crate::program::Sparsity;

/// A [`Sparsity`] that kernels can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Rows stored of each group.
    pub(crate) kept: usize,
    /// Rows of a group, a power of two.
    pub(crate) of: usize,
    /// Whether the columns of a panel share positions.
    pub(crate) shared: bool,
}

impl Pattern {
    pub(crate) fn new(sparsity: Sparsity) -> Result<Self, KernelError> {
        let (kept, of, shared) = match sparsity {
            Sparsity::Panels { kept, of } => (usize::from(kept), usize::from(of), true),
            Sparsity::Columns => (2, 4, false),
            Sparsity::Scattered => {
                return Err(KernelError::Args("elements at any place form no groups of rows"));
            }
        };
        if !matches!(of, 2 | 4 | 8 | 16) || !(1..=of).contains(&kept) {
            return Err(KernelError::Args(
                "groups must have 2, 4, 8 or 16 rows, of which 1 or more are stored",
            ));
        }
        Ok(Self { kept, of, shared })
    }

    /// Bits of a code.
    pub(crate) fn bits(&self) -> usize {
        self.of.trailing_zeros() as usize
    }

    /// Codes of a word.
    pub(crate) fn per_word(&self) -> usize {
        32 / self.bits()
    }

    /// Words for each of the codes' places: one a panel, or one a column.
    pub(crate) fn width(&self) -> usize {
        if self.shared { 1 } else { PANEL }
    }

    /// Words for the codes of `rows` stored rows.
    pub(crate) fn words(&self, rows: usize) -> usize {
        rows.div_ceil(self.per_word())
    }
}

/// The shape of weights with structured zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseMatrix {
    /// Which rows are stored.
    pub sparsity: Sparsity,
    /// Matrices of this shape, one after the other: the groups of a convolution, else 1.
    pub count: usize,
    /// Runs of rows: the positions of a convolution's kernel, else 1.
    pub taps: usize,
    /// Rows of a run: a group's input channels, or the inner extent of a matrix product.
    pub depth: usize,
    /// Columns: a group's output channels.
    pub n: usize,
}

impl SparseMatrix {
    /// The second factor `[k][n]` of a matrix product.
    pub fn product(sparsity: Sparsity, k: usize, n: usize) -> Self {
        Self { sparsity, count: 1, taps: 1, depth: k, n }
    }

    /// The weights of a convolution.
    ///
    /// # Errors
    /// [`KernelError::Args`] for a depthwise one, which has single rows, and if `groups` does not divide `m`.
    pub fn conv(sparsity: Sparsity, w: &ConvWeights) -> Result<Self, KernelError> {
        if w.groups == 0 || !w.m.is_multiple_of(w.groups) {
            return Err(KernelError::Args("groups must divide the channels"));
        }
        if w.is_depthwise() {
            return Err(KernelError::Args("a depthwise convolution has no rows to leave out"));
        }
        let taps = w.kernel[0].checked_mul(w.kernel[1]).ok_or(KernelError::Overflow)?;
        Ok(Self { sparsity, count: w.groups, taps, depth: w.c, n: w.m / w.groups })
    }

    /// Stored rows of one matrix.
    pub fn rows(&self) -> Result<usize, KernelError> {
        let pattern = Pattern::new(self.sparsity)?;
        let groups = self.depth.div_ceil(pattern.of).checked_mul(self.taps);
        groups.and_then(|groups| groups.checked_mul(pattern.kept)).ok_or(KernelError::Overflow)
    }

    /// Elements of the stored rows of all matrices.
    pub fn values_len(&self) -> Result<usize, KernelError> {
        self.panels(self.rows()?, PANEL)
    }

    /// Words of the codes of all matrices.
    pub fn codes_len(&self) -> Result<usize, KernelError> {
        let pattern = Pattern::new(self.sparsity)?;
        self.panels(pattern.words(self.rows()?), pattern.width())
    }

    /// The product with the panels of all matrices.
    fn panels(&self, rows: usize, width: usize) -> Result<usize, KernelError> {
        let panels = self.n.div_ceil(PANEL).checked_mul(self.count);
        let sizes = panels.and_then(|panels| panels.checked_mul(rows)).and_then(|all| all.checked_mul(width));
        sizes.ok_or(KernelError::Overflow)
    }
}

/// Packs the matrix of a product whose element `[i][j]` is `src[i * row_stride + j * col_stride]`. It has its zeros already:
/// `matrix` is a [`SparseMatrix::product`], `values` has exactly [`SparseMatrix::values_len`] elements and
/// `codes` exactly [`SparseMatrix::codes_len`]. Where a group has fewer rows (or a column fewer elements) that are not
/// zero than are stored, the first others are stored too.
///
/// # Errors
/// [`KernelError::Args`] if a group has more that are not zero, else what does not fit.
pub fn pack_sparse_b(
    src: &[f32],
    matrix: &SparseMatrix,
    [row_stride, col_stride]: [usize; 2],
    values: &mut [f32],
    codes: &mut [u32],
) -> Result<(), KernelError> {
    if (matrix.count, matrix.taps) != (1, 1) {
        return Err(KernelError::Args("not the matrix of a product"));
    }
    let (k, n) = (matrix.depth, matrix.n);
    if k > 0 && n > 0 {
        let reach = |count: usize, stride: usize| (count - 1).checked_mul(stride);
        let last = reach(k, row_stride).zip(reach(n, col_stride)).and_then(|(i, j)| i.checked_add(j));
        let need = last.and_then(|last| last.checked_add(1)).ok_or(KernelError::Overflow)?;
        super::kernels::holds("weights", &(0..need), src.len())?;
    }
    pack(matrix, |_, _, i, j| src[i * row_stride + j * col_stride], values, codes)
}

/// As [`pack_sparse_b`] for convolution weights `[m][c][kh][kw]`: groups are of input channels, at each tap.
///
/// # Errors
/// As for [`pack_sparse_b`] and [`SparseMatrix::conv`].
pub fn pack_sparse_conv(
    src: &[f32],
    w: &ConvWeights,
    sparsity: Sparsity,
    values: &mut [f32],
    codes: &mut [u32],
) -> Result<(), KernelError> {
    let matrix = SparseMatrix::conv(sparsity, w)?;
    let (taps, c, n) = (matrix.taps, matrix.depth, matrix.n);
    let depth = w.depth().ok_or(KernelError::Overflow)?;
    exactly("weights", depth.checked_mul(w.m).ok_or(KernelError::Overflow)?, src.len())?;
    pack(&matrix, |group, tap, i, j| src[((group * n + j) * c + i) * taps + tap], values, codes)
}

/// Packs the matrices whose elements `at` gives for matrix, tap, row and column.
fn pack(
    matrix: &SparseMatrix,
    at: impl Fn(usize, usize, usize, usize) -> f32,
    values: &mut [f32],
    codes: &mut [u32],
) -> Result<(), KernelError> {
    let pattern = Pattern::new(matrix.sparsity)?;
    exactly("sparse values", matrix.values_len()?, values.len())?;
    exactly("sparse codes", matrix.codes_len()?, codes.len())?;
    codes.fill(0);
    let (rows, panels) = (matrix.rows()?, matrix.n.div_ceil(PANEL));
    if values.is_empty() {
        return Ok(());
    }
    let (bits, per_word, width) = (pattern.bits(), pattern.per_word(), pattern.width());
    let words = codes.chunks_exact_mut(pattern.words(rows) * width);
    for (panel, (values, codes)) in values.chunks_exact_mut(rows * PANEL).zip(words).enumerate() {
        let (which, first_col) = (panel / panels, panel % panels * PANEL);
        for (group, stored) in values.chunks_exact_mut(pattern.kept * PANEL).enumerate() {
            let per_tap = matrix.depth.div_ceil(pattern.of);
            let (tap, first) = (group / per_tap, group % per_tap * pattern.of);
            let element = |i: usize, lane: usize| match (first + i < matrix.depth, first_col + lane) {
                (true, col) if col < matrix.n => at(which, tap, first + i, col),
                _ => 0.0,
            };
            for place in 0..width {
                let lanes = if pattern.shared { 0..PANEL } else { place..place + 1 };
                let positions = choose(&pattern, |i| lanes.clone().any(|lane| element(i, lane) != 0.0))?;
                for (j, position) in positions.into_iter().take(pattern.kept).enumerate() {
                    lanes.clone().for_each(|lane| stored[j * PANEL + lane] = element(position, lane));
                    let row = group * pattern.kept + j;
                    codes[row / per_word * width + place] |= (position as u32) << (row % per_word * bits);
                }
            }
        }
    }
    Ok(())
}

/// The positions that are stored, ascending: those that are `used`, then the first others.
fn choose(pattern: &Pattern, used: impl Fn(usize) -> bool) -> Result<[usize; 16], KernelError> {
    let used: [bool; 16] = std::array::from_fn(|i| i < pattern.of && used(i));
    let count = used.iter().filter(|used| **used).count();
    let mut spare = pattern
        .kept
        .checked_sub(count)
        .ok_or(KernelError::Args("a group has more weights that are not zero than its pattern stores"))?;
    let (mut positions, mut len) = ([0; 16], 0);
    for (i, used) in used.into_iter().enumerate().take(pattern.of) {
        let taken = used || spare > 0;
        spare -= usize::from(taken && !used);
        if taken {
            positions[len] = i;
            len += 1;
        }
    }
    Ok(positions)
}

fn exactly(operand: &'static str, need: usize, have: usize) -> Result<(), KernelError> {
    if need == have { Ok(()) } else { Err(KernelError::Footprint { operand, need, have }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_matrix_packs_as_the_layout_says() {
        // Two columns, five rows: a whole group and one of a single row.
        let src = [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0];
        let columns = SparseMatrix::product(Sparsity::Columns, 5, 2);
        let (mut values, mut codes) = (vec![9.0; 4 * 32], vec![9; 32]);
        pack_sparse_b(&src, &columns, [2, 1], &mut values, &mut codes).unwrap();
        assert_eq!(codes[..3], [0b01_00_11_01, 0b01_00_11_00, 0b01_00_01_00]);
        assert_eq!(
            [0, 1, 32, 33, 64, 65, 96, 97].map(|i| values[i]),
            [2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]
        );
        let panels = |kept| SparseMatrix::product(Sparsity::Panels { kept, of: 4 }, 5, 2);
        let (mut values, mut codes) = (vec![9.0; 6 * 32], vec![9; 1]);
        pack_sparse_b(&src, &panels(3), [2, 1], &mut values, &mut codes).unwrap();
        assert_eq!(codes, [0b10_01_00_11_01_00]);
        assert_eq!([0, 1, 33, 65, 97, 128].map(|i| values[i]), [0.0, 1.0, 0.0, 4.0, 6.0, 0.0]);
        let refused = pack_sparse_b(&src, &panels(2), [2, 1], &mut values[..128], &mut codes);
        assert!(matches!(refused, Err(KernelError::Args(_))));
        assert!(pack_sparse_b(&src[1..], &panels(3), [2, 1], &mut values, &mut codes).is_err());
        assert!(pack_sparse_b(&src, &panels(3), [2, 1], &mut values[1..], &mut codes).is_err());
        assert!(pack_sparse_b(&src, &panels(3), [2, 1], &mut values, &mut [0; 2]).is_err());
    }

    #[test]
    fn lengths_refuse_what_does_not_fit() {
        let of = |sparsity, k, n| SparseMatrix::product(sparsity, k, n);
        assert_eq!(of(Sparsity::Columns, 33, 33).values_len(), Ok(2 * 18 * 32));
        assert_eq!(of(Sparsity::Columns, 33, 33).codes_len(), Ok(2 * 2 * 32));
        let eight = Sparsity::Panels { kept: 3, of: 8 };
        assert_eq!(of(eight, 33, 33).rows(), Ok(15));
        assert_eq!(of(eight, 33, 33).codes_len(), Ok(2 * 2));
        assert_eq!(of(eight, 0, 33).values_len(), Ok(0));
        for (kept, of) in [(0, 4), (5, 4), (1, 3), (1, 1), (2, 32), (0, 0)] {
            assert!(Pattern::new(Sparsity::Panels { kept, of }).is_err());
        }
        for (k, n) in [(usize::MAX, 1), (1 << 40, 1 << 40), (8, usize::MAX)] {
            assert_eq!(of(Sparsity::Columns, k, n).values_len(), Err(KernelError::Overflow));
        }
        let w = ConvWeights { m: 4, c: 1, kernel: [3, 3], groups: 4 };
        assert!(SparseMatrix::conv(Sparsity::Columns, &w).is_err());
        let matrix = SparseMatrix::conv(Sparsity::Columns, &ConvWeights { c: 6, groups: 2, ..w }).unwrap();
        assert_eq!(matrix.values_len(), Ok(2 * 9 * 4 * 32));
    }
}
