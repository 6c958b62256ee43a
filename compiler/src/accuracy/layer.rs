//! What calibration knows of a layer, and how far an alternative is from it.

use super::matrix::{Matrix, Rows};
use faer::{Mat, MatRef};

/// One row in this many tells how an alternative does on rows that it was not made for.
const HELD_BACK: usize = 4;
/// Added to the second moments of the rows, in units of their mean: directions that calibration did not see may occur.
const DAMPING: f64 = 0.01;

/// A layer's matrix with the rows that it meets.
pub(super) struct Calibrated {
    /// [k,n].
    pub(super) weight: Mat<f64>,
    /// Mean of the rows, [k].
    pub(super) mean: Vec<f64>,
    /// Second moments about the mean, damped: [k,k].
    pub(super) moments: Mat<f64>,
    /// Rows held back, [s,k].
    test: Mat<f64>,
    /// Their results, [s,n].
    results: Mat<f64>,
    /// Variance of those, the mean over columns.
    variance: f64,
}

/// How far an alternative is from its layer, on rows that it was not made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerError {
    /// Mean squared error in units of the variance of the layer's results.
    pub mse: f64,
    /// Cosine between the results.
    pub cosine: f64,
}

impl Calibrated {
    /// Of a weight, its bias (none for zeros) and the rows that calibration drew.
    pub(super) fn new(weight: &Matrix, bias: Option<&[f32]>, rows: &Rows) -> Calibrated {
        let (k, n) = (weight.k, weight.n);
        let matrix = Mat::from_fn(k, n, |i, j| f64::from(weight.data[i * n + j]));
        let count = rows.len();
        let element = |row: usize, i: usize| f64::from(rows.data[row * k + i]);
        // With few rows all are used for both.
        let enough = count >= 4 * HELD_BACK;
        let pick = |held: bool| -> Vec<usize> {
            (0..count).filter(|row| !enough || (row % HELD_BACK == HELD_BACK - 1) == held).collect()
        };
        let (fit, held) = (pick(false), pick(true));
        let mean: Vec<f64> = (0..k)
            .map(|i| fit.iter().map(|row| element(*row, i)).sum::<f64>() / fit.len().max(1) as f64)
            .collect();
        let centred = Mat::from_fn(fit.len(), k, |row, i| element(fit[row], i) - mean[i]);
        let mut moments = centred.transpose() * &centred;
        let scale = 1.0 / fit.len().max(1) as f64;
        let trace: f64 = (0..k).map(|i| moments[(i, i)]).sum::<f64>() * scale;
        // Without rows every direction counts the same.
        let damping = if trace > 0.0 { DAMPING * trace / k as f64 } else { 1.0 };
        for j in 0..k {
            for i in 0..k {
                moments[(i, j)] = moments[(i, j)] * scale + if i == j { damping } else { 0.0 };
            }
        }
        let test = Mat::from_fn(held.len(), k, |row, i| element(held[row], i));
        let mut results = &test * &matrix;
        for (j, bias) in bias.into_iter().flatten().enumerate() {
            (0..held.len()).for_each(|row| results[(row, j)] += f64::from(*bias));
        }
        let variance = variance(results.as_ref());
        Calibrated { weight: matrix, mean, moments, test, results, variance }
    }

    /// How far another weight is, with the shift of the bias that keeps the mean.
    pub(super) fn error(&self, other: MatRef<'_, f64>) -> LayerError {
        let difference = other - &self.weight;
        let shift = self.shift(difference.as_ref());
        let off = &self.test * &difference;
        let (mut squares, mut products, mut own, mut others) = (0.0, 0.0, 0.0, 0.0);
        for j in 0..off.ncols() {
            for i in 0..off.nrows() {
                let y = self.results[(i, j)];
                let d = off[(i, j)] + shift[j];
                squares += d * d;
                products += y * (y + d);
                own += y * y;
                others += (y + d) * (y + d);
            }
        }
        let count = (off.nrows() * off.ncols()).max(1) as f64;
        let mse = if squares == 0.0 { 0.0 } else { squares / count / self.variance };
        let cosine = if own == 0.0 && others == 0.0 { 1.0 } else { products / (own * others).sqrt() };
        LayerError { mse, cosine }
    }

    /// What a bias must gain where the weight gains `difference`, so that the mean of the results stays.
    pub(super) fn shift(&self, difference: MatRef<'_, f64>) -> Vec<f64> {
        let of = |j: usize| -> f64 {
            -self.mean.iter().enumerate().map(|(i, mean)| mean * difference[(i, j)]).sum::<f64>()
        };
        (0..difference.ncols()).map(of).collect()
    }
}

/// Mean over the columns of their variances.
fn variance(y: MatRef<'_, f64>) -> f64 {
    let rows = y.nrows().max(1) as f64;
    let of = |j: usize| {
        let mean = (0..y.nrows()).map(|i| y[(i, j)]).sum::<f64>() / rows;
        (0..y.nrows()).map(|i| (y[(i, j)] - mean).powi(2)).sum::<f64>() / rows
    };
    (0..y.ncols()).map(of).sum::<f64>() / y.ncols().max(1) as f64
}
