//! Weights with 2 of 4 rows left that err least on the rows that a layer meets.
//!
//! Rows are decided in order, and what a row loses is made up for by the rows after it: the update of Optimal Brain
//! Surgeon (Hassibi and Stork, 1993), applied row by row with one Cholesky factor of the inverse moments as in SparseGPT
//! (Frantar and Alistarh, 2023). Where nothing is known of the rows, all directions count the same and the largest
//! elements stay.

use super::layer::Calibrated;
use autoglm_ir::sparsity::{GROUP, KEPT, PANEL};
use faer::{Mat, Side};

/// Rows after which the updates that they cause reach the rest of the matrix; a multiple of the group.
const STRETCH: usize = 64;

/// Whose columns share a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Each column has its own.
    Columns,
    /// Blocks of columns have one.
    Blocks,
}

/// The matrix with at most 2 of 4 rows left in every column; `inverse` is the [`inverse_factor`] of the layer.
///
/// None where groups do not fit: they do not cross `period` rows: the channels of one tap of a convolution.
pub(super) fn prune(
    layer: &Calibrated,
    inverse: &Mat<f64>,
    pattern: Pattern,
    period: usize,
) -> Option<Mat<f64>> {
    let (k, n) = (layer.weight.nrows(), layer.weight.ncols());
    if !period.is_multiple_of(GROUP) || k % period.max(1) != 0 {
        return None;
    }
    let mut w = layer.weight.clone();
    for start in (0..k).step_by(STRETCH) {
        let end = (start + STRETCH).min(k);
        let mut lost = Mat::<f64>::zeros(end - start, n);
        for group in (start..end).step_by(GROUP) {
            let rows = group..(group + GROUP).min(end);
            let drop = dropped(&w, inverse, rows.clone(), pattern);
            for i in rows {
                let later: Vec<f64> = (i + 1..end).map(|l| inverse[(i, l)]).collect();
                for j in 0..n {
                    let kept = !drop[(i - group) * n + j];
                    let error = if kept { 0.0 } else { w[(i, j)] / inverse[(i, i)] };
                    lost[(i - start, j)] = error;
                    if error != 0.0 {
                        later.iter().zip(i + 1..end).for_each(|(u, l)| w[(l, j)] -= u * error);
                    }
                    if !kept {
                        w[(i, j)] = 0.0;
                    }
                }
            }
        }
        if end < k {
            let update = inverse.submatrix(start, end, end - start, k - end).transpose() * &lost;
            for j in 0..n {
                (end..k).for_each(|i| w[(i, j)] -= update[(i - end, j)]);
            }
        }
    }
    Some(w)
}

/// Which elements of a group of rows are dropped, row by row.
fn dropped(w: &Mat<f64>, inverse: &Mat<f64>, rows: std::ops::Range<usize>, pattern: Pattern) -> Vec<bool> {
    let n = w.ncols();
    let width = match pattern {
        Pattern::Columns => 1,
        Pattern::Blocks => PANEL,
    };
    let mut drop = vec![false; rows.len() * n];
    for block in (0..n).step_by(width) {
        let columns = block..(block + width).min(n);
        let score =
            |i: usize| -> f64 { columns.clone().map(|j| (w[(i, j)] / inverse[(i, i)]).powi(2)).sum() };
        let mut order: Vec<(f64, usize)> = rows.clone().map(|i| (score(i), i)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, i) in order.into_iter().skip(KEPT) {
            columns.clone().for_each(|j| drop[(i - rows.start) * n + j] = true);
        }
    }
    drop
}

/// The upper factor U of the inverse moments, `U^T U`; none where the moments have no inverse.
pub(super) fn inverse_factor(layer: &Calibrated) -> Option<Mat<f64>> {
    use faer::linalg::solvers::DenseSolveCore;
    let inverse = layer.moments.llt(Side::Lower).ok()?.inverse();
    Some(inverse.llt(Side::Lower).ok()?.L().transpose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::matrix::{Matrix, Rows};
    use super::super::tests::noise;
    use super::*;
    use autoglm_ir::sparsity::Zeros;

    fn pruned(layer: &Calibrated, pattern: Pattern, period: usize) -> Option<Mat<f64>> {
        prune(layer, &inverse_factor(layer)?, pattern, period)
    }

    fn zeros(w: &Mat<f64>, depth: usize) -> Zeros {
        let n = w.ncols();
        let data: Vec<f32> = (0..w.nrows() * n).map(|at| w[(at / n, at % n)] as f32).collect();
        Zeros::of(&data, n, depth)
    }

    #[test]
    fn patterns_are_kept() {
        let weight = Matrix { k: 136, n: 40, data: noise(5, 136 * 40) };
        let layer =
            Calibrated::new(&weight, None, &Rows { k: 136, data: noise(6, 136 * 400), ..Rows::default() });
        assert!(zeros(&pruned(&layer, Pattern::Columns, 136).unwrap(), 136).two_four);
        assert_eq!(zeros(&pruned(&layer, Pattern::Blocks, 68).unwrap(), 68).panels, (2, 4));
        assert!(pruned(&layer, Pattern::Blocks, 34).is_none(), "groups would cross taps");
    }

    #[test]
    fn without_rows_the_largest_elements_stay_as_they_are() {
        let weight = Matrix { k: 4, n: 2, data: vec![1.0, -8.0, -2.0, 7.0, 3.0, 6.0, 4.0, 5.0] };
        let layer = Calibrated::new(&weight, None, &Rows { k: 4, data: Vec::new(), ..Rows::default() });
        let left = pruned(&layer, Pattern::Columns, 4).unwrap();
        let column = |j: usize| (0..4).map(|i| left[(i, j)]).collect::<Vec<_>>();
        assert_eq!(column(0), [0.0, 0.0, 3.0, 4.0]);
        assert_eq!(column(1), [-8.0, 7.0, 0.0, 0.0]);
    }

    /// Rows that go together can stand in for each other, which magnitudes do not see.
    #[test]
    fn what_is_dropped_is_made_up_for() {
        let k = 16;
        let shared = noise(7, 300 * k / 2);
        let rows: Vec<f32> = (0..300 * k).map(|at| shared[at / 2] * (1.0 + 0.3 * (at % 2) as f32)).collect();
        let weight = Matrix { k, n: 8, data: noise(8, k * 8) };
        let layer = Calibrated::new(&weight, None, &Rows { k, data: rows, ..Rows::default() });
        let blind = Calibrated::new(&weight, None, &Rows { k, data: Vec::new(), ..Rows::default() });
        let aware = layer.error(pruned(&layer, Pattern::Columns, k).unwrap().as_ref()).mse;
        let magnitude = layer.error(pruned(&blind, Pattern::Columns, k).unwrap().as_ref()).mse;
        assert!(aware < 0.5 * magnitude, "{aware} against {magnitude}");
    }
}
