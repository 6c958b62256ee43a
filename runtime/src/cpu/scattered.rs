//! The packed layout of weights with zeros anywhere, one for all instruction sets.
//!
//! A matrix `[rows][n]` is cut into panels of 32 columns, and of each row of a panel only the elements that are not zero are
//! stored, one after the other. Codes are `[ceil(n/32)][ceil(rows/8)][9]`: for every 8 rows of a panel where the elements of
//! the first begin, then for each row a mask of the columns that are stored. 32 elements that nothing stands for follow, so that
//! a whole row can be read from anywhere.

use super::kernels::KernelError;
use super::pack::PANEL;

/// Rows that share a start.
pub(crate) const BLOCK: usize = 8;
/// Words of the codes of a block.
pub(crate) const WORDS: usize = BLOCK + 1;

/// Words of the codes of a matrix.
///
/// # Errors
/// [`KernelError::Overflow`].
pub fn codes_len(rows: usize, n: usize) -> Result<usize, KernelError> {
    let blocks = n.div_ceil(PANEL).checked_mul(rows.div_ceil(BLOCK));
    blocks.and_then(|blocks| blocks.checked_mul(WORDS)).ok_or(KernelError::Overflow)
}

/// Values and codes of the matrix whose element `at` gives for row and column. Negative zeros are stored.
///
/// # Errors
/// [`KernelError::Overflow`] where a start does not fit its word.
pub fn pack_scattered(
    rows: usize,
    n: usize,
    at: impl Fn(usize, usize) -> f32,
) -> Result<(Vec<f32>, Vec<u32>), KernelError> {
    let (mut values, mut codes) = (Vec::new(), Vec::with_capacity(codes_len(rows, n)?));
    for panel in (0..n).step_by(PANEL) {
        for block in (0..rows).step_by(BLOCK) {
            codes.push(u32::try_from(values.len()).map_err(|_| KernelError::Overflow)?);
            for row in block..block + BLOCK {
                let mut mask = 0;
                for (lane, column) in (panel..n.min(panel + PANEL)).enumerate().filter(|_| row < rows) {
                    let element = at(row, column);
                    if element.to_bits() != 0 {
                        mask |= 1 << lane;
                        values.push(element);
                    }
                }
                codes.push(mask);
            }
        }
    }
    values.extend([0.0; PANEL]);
    Ok((values, codes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_matrix_packs_as_the_layout_says() {
        // Nine rows of 33 columns: two panels of two blocks each.
        let stored = [(0, 1, 1.0), (0, 31, 2.0), (7, 0, -0.0), (8, 3, 3.0), (1, 32, 4.0)];
        let at = |row, column| {
            let found = stored.iter().find(|(i, j, _)| (*i, *j) == (row, column));
            found.map_or(0.0, |(.., x)| *x)
        };
        let (values, codes) = pack_scattered(9, 33, at).unwrap();
        assert_eq!(values[..5], [1.0, 2.0, -0.0, 3.0, 4.0]);
        assert_eq!(values[2].to_bits(), (-0.0_f32).to_bits());
        assert_eq!((values.len(), codes.len()), (5 + 32, codes_len(9, 33).unwrap()));
        let words: Vec<(usize, u32)> =
            codes.iter().copied().enumerate().filter(|(_, word)| *word != 0).collect();
        let first = [(1, 1 << 1 | 1 << 31), (8, 1), (9, 3), (10, 1 << 3)];
        assert_eq!(words, [first.as_slice(), &[(18, 4), (20, 1), (27, 5)]].concat());
        assert_eq!(pack_scattered(0, 3, at).unwrap(), (vec![0.0; 32], vec![]));
        assert_eq!(codes_len(usize::MAX, usize::MAX), Err(KernelError::Overflow));
    }
}
