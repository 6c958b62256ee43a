//! Low-rank factors of a layer that err least on the rows that it meets.
//!
//! The best rank-r approximation of `X W` for centred rows X projects the results onto their r principal directions V
//! (Eckart and Young, 1936): `W ~ (W V) V^T`. V are eigenvectors of `W^T C W`, C the second moments of X; where W has
//! more columns than rows they come from the smaller matrix `L^T W W^T L`, with `C = L L^T`.

use super::layer::Calibrated;
use faer::{Mat, MatRef, Side};

/// The factors of a matrix in order of weight: the first r columns and rows are the factors of rank r.
pub(super) struct Factors {
    /// [k,rank].
    down: Mat<f64>,
    /// [rank,n].
    up: Mat<f64>,
}

/// The factors up to a rank; none where the decomposition does not converge.
pub(super) fn factors(layer: &Calibrated, rank: usize) -> Option<Factors> {
    let w = layer.weight.as_ref();
    let (k, n) = (w.nrows(), w.ncols());
    let up = if n <= k {
        let gram = w.transpose() * (&layer.moments * w);
        principal(gram.as_ref(), rank)?.transpose().to_owned()
    } else {
        let cholesky = layer.moments.llt(Side::Lower).ok()?;
        let m = cholesky.L().transpose() * w;
        let p = principal((&m * m.transpose()).as_ref(), rank)?;
        // Rows of `P^T M`, each of length 1.
        let mut up = p.transpose() * &m;
        for i in 0..up.nrows() {
            let norm = (0..n).map(|j| up[(i, j)].powi(2)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            (0..n).for_each(|j| up[(i, j)] *= scale);
        }
        up
    };
    let down = w * up.transpose();
    Some(Factors { down, up })
}

/// Eigenvectors of a symmetric matrix for its largest eigenvalues, as columns, largest first.
fn principal(gram: MatRef<'_, f64>, count: usize) -> Option<Mat<f64>> {
    let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
    let vectors = eigen.U();
    let n = vectors.ncols();
    // Eigenvalues come in ascending order.
    Some(Mat::from_fn(n, count.min(n), |i, j| vectors[(i, n - 1 - j)]))
}

impl Factors {
    /// The factors of a rank.
    pub(super) fn of(&self, rank: usize) -> (MatRef<'_, f64>, MatRef<'_, f64>) {
        let rank = rank.min(self.up.nrows());
        (self.down.subcols(0, rank), self.up.subrows(0, rank))
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::{Matrix, Rows};
    use super::super::tests::noise;
    use super::*;

    fn layer(k: usize, n: usize, rank: usize) -> Calibrated {
        let (a, b) = (noise(1, k * rank), noise(2, rank * n));
        let product = |at: usize| (0..rank).map(|r| a[at / n * rank + r] * b[r * n + at % n]).sum();
        let weight = Matrix { k, n, data: (0..k * n).map(product).collect() };
        Calibrated::new(&weight, None, &Rows { k, data: noise(3, 200 * k), ..Rows::default() })
    }

    #[test]
    fn a_matrix_of_low_rank_is_found_again() {
        for (k, n) in [(24, 40), (40, 24)] {
            let layer = layer(k, n, 5);
            let factors = factors(&layer, 8).unwrap();
            let (down, up) = factors.of(5);
            assert!(layer.error((down * up).as_ref()).mse < 1e-10, "{k} x {n}");
            let (down, up) = factors.of(3);
            let few = layer.error((down * up).as_ref());
            assert!(few.mse > 0.01 && few.cosine < 0.999, "{few:?}");
        }
    }

    #[test]
    fn errors_fall_with_the_rank() {
        let layer = layer(30, 30, 30);
        let factors = factors(&layer, 30).unwrap();
        let error = |rank| {
            let (down, up) = factors.of(rank);
            layer.error((down * up).as_ref()).mse
        };
        let errors: Vec<f64> = [5, 10, 20, 30].into_iter().map(error).collect();
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert!(errors[3] < 1e-10);
    }
}
