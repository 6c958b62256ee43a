//! What calibration knows of a layer, and how far an alternative is from it.

use super::matrix::{Matrix, Rows};
use faer::{Mat, MatRef};

/// One run in this many tells how an alternative does on data that it was not made for. Rows of one run are no such data: a
/// word that it repeats gives the same rows. Of fewer runs it is one row in as many.
pub(super) const HELD_BACK: usize = 4;
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
    /// Variance of those: over all elements, about the mean of all.
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
        let (fit, held) = split(rows);
        let mean = mean(&fit, k);
        let centred = Mat::from_fn(fit.len(), k, |row, i| f64::from(fit[row][i]) - mean[i]);
        let mut moments = centred.transpose() * &centred;
        let scale = 1.0 / fit.len().max(1) as f64;
        let trace: f64 = (0..k).map(|i| moments[(i, i)]).sum::<f64>() * scale;
        let damping = damping(trace, k);
        for j in 0..k {
            for i in 0..k {
                moments[(i, j)] = moments[(i, j)] * scale + if i == j { damping } else { 0.0 };
            }
        }
        let test = Mat::from_fn(held.len(), k, |row, i| f64::from(held[row][i]));
        let mut results = &test * &matrix;
        for (j, bias) in bias.into_iter().flatten().enumerate() {
            (0..held.len()).for_each(|row| results[(row, j)] += f64::from(*bias));
        }
        let variance = variance(results.as_ref());
        Calibrated { weight: matrix, mean, moments, test, results, variance }
    }

    /// The same layer with row `rows[i]` at place i, and if wanted its results in another order too.
    pub(super) fn reordered(&self, rows: &[usize], columns: Option<&[usize]>) -> Calibrated {
        let (k, n) = (self.weight.nrows(), self.weight.ncols());
        let column = |j: usize| columns.map_or(j, |columns| columns[j]);
        let samples = self.test.nrows();
        Calibrated {
            weight: Mat::from_fn(k, n, |i, j| self.weight[(rows[i], column(j))]),
            mean: rows.iter().map(|row| self.mean[*row]).collect(),
            moments: Mat::from_fn(k, k, |i, j| self.moments[(rows[i], rows[j])]),
            test: Mat::from_fn(samples, k, |s, i| self.test[(s, rows[i])]),
            results: Mat::from_fn(samples, n, |s, j| self.results[(s, column(j))]),
            variance: self.variance,
        }
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

/// Variance of each element of the rows that alternatives are made for, damped as the moments are.
pub(super) fn variances(rows: &Rows) -> Vec<f64> {
    let (fit, _) = split(rows);
    let mut squares = vec![0.0; rows.k];
    let mean = mean(&fit, rows.k);
    for row in &fit {
        squares.iter_mut().zip(*row).zip(&mean).for_each(|((sum, x), m)| *sum += (f64::from(*x) - m).powi(2));
    }
    let scale = 1.0 / fit.len().max(1) as f64;
    let damping = damping(squares.iter().sum::<f64>() * scale, rows.k);
    squares.into_iter().map(|sum| sum * scale + damping).collect()
}

fn mean(rows: &[&[f32]], k: usize) -> Vec<f64> {
    let of = |i: usize| rows.iter().map(|row| f64::from(row[i])).sum::<f64>();
    (0..k).map(|i| of(i) / rows.len().max(1) as f64).collect()
}

/// What is added to the moments of k elements of this trace. Without rows every direction counts the same.
fn damping(trace: f64, k: usize) -> f64 {
    if trace > 0.0 { DAMPING * trace / k as f64 } else { 1.0 }
}

/// The rows that alternatives are made for, and those that tell how they do.
fn split(rows: &Rows) -> (Vec<&[f32]>, Vec<&[f32]>) {
    let all = |data| <[f32]>::chunks_exact(data, rows.k.max(1));
    if !rows.held_back.is_empty() {
        return (all(&rows.data).collect(), all(&rows.held_back).collect());
    }
    let numbered = all(&rows.data).enumerate();
    // With few rows all are used for both.
    let enough = numbered.len() >= 4 * HELD_BACK;
    let pick = |held: bool| {
        let wanted = numbered.clone().filter(|(i, _)| !enough || (i % HELD_BACK == HELD_BACK - 1) == held);
        wanted.map(|(_, row)| row).collect()
    };
    (pick(false), pick(true))
}

/// Variance over all elements, about the mean of all: what the figures of a run are divided by too.
fn variance(y: MatRef<'_, f64>) -> f64 {
    let elements = || (0..y.ncols()).flat_map(|j| (0..y.nrows()).map(move |i| y[(i, j)]));
    let count = (y.nrows() * y.ncols()).max(1) as f64;
    let mean = elements().sum::<f64>() / count;
    elements().map(|x| (x - mean).powi(2)).sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_are_held_back_are_not_fitted() {
        let rows = Rows { k: 1, data: vec![1.0; 32], held_back: vec![5.0, 7.0] };
        let (fit, held) = split(&rows);
        assert_eq!((fit, held), (vec![&[1.0f32][..]; 32], vec![&[5.0f32][..], &[7.0]]));
        let weight = Matrix { k: 1, n: 1, data: vec![2.0] };
        let layer = Calibrated::new(&weight, None, &rows);
        assert_eq!(layer.mean, [1.0]);
        // Results 10 and 14 have a variance of 4. Half the weight errs -5 and -7, and the shift of the mean 1 gives 1 back.
        let error = layer.error(Mat::from_fn(1, 1, |_, _| 1.0).as_ref());
        assert!((error.mse - (16.0 + 36.0) / 2.0 / 4.0).abs() < 1e-12, "{error:?}");
        let few = Rows { held_back: Vec::new(), ..rows };
        assert_eq!((split(&few).0.len(), split(&few).1.len()), (24, 8));
    }

    /// One input and two outputs far apart: columns of variance 1.25 and 5, elements of variance 28.125 about 5.
    #[test]
    fn errors_are_in_units_of_the_variance_of_all_elements() {
        let weight = Matrix { k: 1, n: 2, data: vec![1.0, 2.0] };
        let rows = Rows { k: 1, data: vec![-1.5, -0.5, 0.5, 1.5], ..Rows::default() };
        let layer = Calibrated::new(&weight, Some(&[0.0, 10.0]), &rows);
        // Results -1.5, -0.5, 0.5, 1.5 and 7, 9, 11, 13: squares 5 and 420 about zero, so 425 / 8 - 25.
        assert_eq!(layer.variance, 28.125);
        // Without the second column the squared error is 4 * (2.25 + 0.25 + 0.25 + 2.25) of 8 elements.
        let error = layer.error(Mat::from_fn(1, 2, |_, j| [1.0, 0.0][j]).as_ref());
        assert!((error.mse - 2.5 / 28.125).abs() < 1e-12, "{error:?}");
    }
}
