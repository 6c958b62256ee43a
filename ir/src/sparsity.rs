//! Zeros in weights, and whether they form a pattern that a kernel can leave out.
//!
//! A weight is seen as a matrix [k,n]: products run along k. It is one run of rows for each tap of a convolution's kernel, 1
//! for a product; groups of rows do not cross runs. Columns are taken in panels of 32.

/// Rows of a group of the 2:4 pattern (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
pub const GROUP: usize = 4;
/// Rows of such a group that are kept.
pub const KEPT: usize = 2;
/// Columns that share a pattern where it is vector-wise.
pub const PANEL: usize = 32;
/// Rows of the groups that a panel may have its rows kept of.
const GROUPS: [usize; 3] = [4, 8, 16];
const LARGEST: usize = 16;

/// Share of the rows of panels up to which it pays to leave out the others.
const USEFUL: f64 = 0.75;

/// Share of the bytes with two of every four rows: half of the values, and two bits for each of them.
const COLUMNS: f64 = 0.5 * (1.0 + 1.0 / 16.0);
/// Share of the bytes up to which it pays to expand elements at any place.
const SCATTERED: f64 = 0.6;
/// Share of the bytes that say where elements at any place are: a bit for each, and a word for every 8 rows of a panel.
const MASKS: f64 = (1.0 + 1.0 / 8.0) / 32.0;

/// How a matrix is stored without zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// So many rows of every so many successive ones, the same for the columns of a panel.
    Panels(usize, usize),
    /// Two of every four rows, others for each column.
    Columns,
    /// Any elements.
    Scattered,
}

/// The zeros of a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zeros {
    /// Share of the elements that are not zero.
    pub density: f64,
    /// How many rows of how many a panel of columns needs at most: of the sizes of groups that kernels have, the one that
    /// stores least.
    pub panels: (usize, usize),
    /// Share of the rows that panels store so.
    pub rows: f64,
    /// Whether each column has at most 2 elements in each group of 4 rows.
    pub two_four: bool,
}

impl Zeros {
    /// Nothing is zero.
    pub const NONE: Zeros = Zeros { density: 1.0, panels: (4, 4), rows: 1.0, two_four: false };

    /// The pattern in which the matrix is stored, if one is worth it: the fastest that it has.
    pub fn pattern(&self) -> Option<Pattern> {
        if self.rows <= USEFUL {
            return Some(Pattern::Panels(self.panels.0, self.panels.1));
        }
        if self.two_four {
            return Some(Pattern::Columns);
        }
        (self.density + MASKS <= SCATTERED).then_some(Pattern::Scattered)
    }

    /// Share of a dense matrix's bytes that is stored.
    pub fn stored(&self) -> f64 {
        match self.pattern() {
            // Values, and at most four bits for each row of a panel.
            Some(Pattern::Panels(..)) => self.rows * (1.0 + 1.0 / (8 * PANEL) as f64),
            Some(Pattern::Columns) => COLUMNS,
            Some(Pattern::Scattered) => self.density + MASKS,
            None => 1.0,
        }
    }

    /// The zeros of a row-major matrix of `n` columns, made of runs of `depth` rows; -0 counts as zero.
    pub fn of(weight: &[f32], n: usize, depth: usize) -> Zeros {
        if weight.is_empty() || n == 0 || depth == 0 {
            return Zeros::NONE;
        }
        let mut nonzero = 0usize;
        let mut two_four = true;
        let mut most = [0u32; GROUPS.len()];
        let mut columns = vec![0u8; n];
        let mut needed = vec![0u32; n.div_ceil(PANEL)];
        for group in weight.chunks(depth * n).flat_map(|run| run.chunks(LARGEST * n)) {
            needed.fill(0);
            for (i, row) in group.chunks_exact(n).enumerate() {
                if i % GROUP == 0 {
                    columns.fill(0);
                }
                for ((elements, counts), needed) in
                    row.chunks(PANEL).zip(columns.chunks_mut(PANEL)).zip(&mut needed)
                {
                    let mut any = 0usize;
                    for (x, count) in elements.iter().zip(counts) {
                        let is = u8::from(*x != 0.0);
                        *count += is;
                        any += usize::from(is);
                    }
                    nonzero += any;
                    *needed |= u32::from(any > 0) << i;
                }
                two_four = two_four && columns.iter().all(|count| usize::from(*count) <= KEPT);
            }
            for (most, of) in most.iter_mut().zip(GROUPS) {
                let window = |bits: u32, at: usize| (bits >> at & ((1 << of) - 1)).count_ones();
                let largest =
                    needed.iter().flat_map(|bits| (0..LARGEST).step_by(of).map(|at| window(*bits, at)));
                *most = (*most).max(largest.max().unwrap_or(0));
            }
        }
        // The last group of a run is completed; a panel stores at least one row of each.
        let stored = |(kept, of): &(usize, usize)| depth.div_ceil(*of) * kept;
        let panels = most.iter().zip(GROUPS).map(|(kept, of)| ((*kept).max(1) as usize, of));
        let panels = panels.min_by_key(stored).unwrap_or(Zeros::NONE.panels);
        Zeros {
            density: nonzero as f64 / weight.len() as f64,
            panels,
            rows: stored(&panels) as f64 / depth as f64,
            two_four,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(k: usize, n: usize, is: impl Fn(usize, usize) -> bool) -> Vec<f32> {
        (0..k * n).map(|at| f32::from(u8::from(is(at / n, at % n)))).collect()
    }

    #[test]
    fn patterns_are_told_apart() {
        assert_eq!(Zeros::of(&matrix(8, 40, |_, _| true), 40, 8), Zeros::NONE);
        // Rows 1 and 2 of each group in every column.
        let vector = matrix(8, 40, |i, _| matches!(i % 4, 1 | 2));
        assert_eq!(
            Zeros::of(&vector, 40, 8),
            Zeros { density: 0.5, panels: (2, 4), rows: 0.5, two_four: true }
        );
        // Another pair of rows in each column.
        let columns = matrix(8, 40, |i, j| (i + j) % 4 < 2);
        assert_eq!(
            Zeros::of(&columns, 40, 8),
            Zeros { density: 0.5, panels: (4, 4), rows: 1.0, two_four: true }
        );
        // Blocks of 8 rows in turn: half of the rows of every 16, and all 4 of some groups of 4.
        let blocks = matrix(32, 64, |i, j| (i / 8 + j / 32) % 2 == 0);
        assert_eq!(
            Zeros::of(&blocks, 64, 32),
            Zeros { density: 0.5, panels: (8, 16), rows: 0.5, two_four: false }
        );
    }

    #[test]
    fn the_fastest_pattern_is_taken() {
        let of = |density, two_four| Zeros { density, two_four, ..Zeros::NONE };
        for (zeros, pattern, stored) in [
            (Zeros::NONE, None, 1.0),
            (of(0.5, true), Some(Pattern::Columns), 0.53125),
            (of(0.25, true), Some(Pattern::Columns), 0.53125),
            (of(0.25, false), Some(Pattern::Scattered), 0.28515625),
            (of(0.5, false), Some(Pattern::Scattered), 0.53515625),
            (of(0.57, false), None, 1.0),
            (Zeros { panels: (2, 4), rows: 0.5, ..of(0.1, false) }, Some(Pattern::Panels(2, 4)), 0.501953125),
        ] {
            assert_eq!((zeros.pattern(), zeros.stored()), (pattern, stored), "{zeros:?}");
        }
    }

    #[test]
    fn a_single_element_too_many_breaks_a_pattern() {
        let mut weight = matrix(8, 40, |i, _| i % 4 < 2);
        weight[3 * 40 + 39] = -0.0;
        assert_eq!(Zeros::of(&weight, 40, 8).panels, (2, 4));
        weight[3 * 40 + 39] = 1e-30;
        let zeros = Zeros::of(&weight, 40, 8);
        assert_eq!((zeros.panels, zeros.two_four), ((5, 8), false));
    }

    #[test]
    fn groups_do_not_cross_runs() {
        // Runs of 6 rows of which the first two of each four are kept: as one run they would not fit.
        let weight = matrix(12, 33, |i, _| i % 6 % 4 < 2);
        let zeros = Zeros::of(&weight, 33, 6);
        assert_eq!((zeros.panels, zeros.two_four), ((2, 4), true));
        assert!(!Zeros::of(&weight, 33, 12).two_four);
        assert_eq!(Zeros::of(&[], 0, 0), Zeros::NONE);
        assert_eq!(Zeros::of(&[0.0; 64], 32, 2).panels.0, 1);
    }
}
