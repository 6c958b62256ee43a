//! How far one graph is from another on the same data.

use super::Sample;
use super::gates::Measured;
use super::layer::LayerError;
use super::run::Runner;
use autoglm_ir::Tensor;

/// Sums over pairs of elements, from which cosine and relative error follow.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    /// Of the exact values, their squares, those of the others, products, squared differences.
    exact: f64,
    exact2: f64,
    other2: f64,
    product: f64,
    off2: f64,
}

impl Sums {
    fn add(&mut self, exact: &[f64], other: &[f64]) {
        for (x, y) in exact.iter().zip(other) {
            // Equal infinities, of masks, are no difference and have no product.
            if x == y && !x.is_finite() {
                continue;
            }
            self.count += 1.0;
            self.exact += x;
            self.exact2 += x * x;
            self.other2 += y * y;
            self.product += x * y;
            self.off2 += (x - y) * (x - y);
        }
    }

    fn error(&self) -> LayerError {
        let mean = self.exact / self.count.max(1.0);
        let variance = self.exact2 / self.count.max(1.0) - mean * mean;
        let mse = if self.off2 == 0.0 { 0.0 } else { self.off2 / self.count / variance };
        let zero = self.exact2 == 0.0 && self.other2 == 0.0;
        let cosine = if zero { 1.0 } else { self.product / (self.exact2 * self.other2).sqrt() };
        LayerError { mse, cosine }
    }
}

/// What was measured, and the errors of the layers in the order of their taps.
pub(super) struct Measurement {
    pub(super) measured: Measured,
    pub(super) layers: Vec<LayerError>,
}

/// Runs two graphs on samples and compares their first `outputs` outputs, and what follows as results of layers.
pub(super) fn compare(
    exact: &mut Runner,
    other: &mut Runner,
    outputs: usize,
    samples: &[Sample],
) -> Result<Measurement, String> {
    let mut measured = Measured::EQUAL;
    let (mut sums, mut wholes): (Vec<Sums>, Vec<Sums>) = (Vec::new(), vec![Sums::default(); outputs]);
    let (mut rows, mut same) = (0usize, 0usize);
    for sample in samples {
        let (a, b) = (exact.run(sample)?, other.run(sample)?);
        sums.resize(a.len().saturating_sub(outputs), Sums::default());
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            let (x, y) = (a.to_f64(), b.to_f64());
            match i.checked_sub(outputs) {
                Some(layer) => sums[layer].add(&x, &y),
                None => {
                    wholes[i].add(&x, &y);
                    // An item of a batch is one answer.
                    let item = match a.shape.as_slice() {
                        [_, inner @ ..] if !inner.is_empty() => inner.iter().product(),
                        _ => x.len(),
                    };
                    let item = item.max(1);
                    for (x, y) in x.chunks(item).zip(y.chunks(item)) {
                        let mut own = Sums::default();
                        own.add(x, y);
                        measured.out_worst = least(measured.out_worst, own.error().cosine);
                    }
                    let (n, equal) = top1(a, &x, &y);
                    (rows, same) = (rows + n, same + equal);
                }
            }
        }
    }
    let layers: Vec<LayerError> = sums.iter().map(Sums::error).collect();
    for layer in &layers {
        measured.layer_cosine = least(measured.layer_cosine, layer.cosine);
        measured.layer_mse = largest(measured.layer_mse, layer.mse);
    }
    measured.out_cosine = wholes.iter().map(|w| w.error().cosine).fold(1.0, least);
    measured.out_mse = wholes.iter().map(|w| w.error().mse).fold(0.0, largest);
    measured.out_top1 = if rows == 0 { 1.0 } else { same as f64 / rows as f64 };
    Ok(Measurement { measured, layers })
}

/// Rows of a float output, and in how many of them the largest element is at the same place.
fn top1(tensor: &Tensor, x: &[f64], y: &[f64]) -> (usize, usize) {
    let width = tensor.shape.last().copied().unwrap_or(1);
    if width < 2 || !tensor.dtype.is_float() {
        return (0, 0);
    }
    let largest = |row: &[f64]| {
        row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).map(|(i, _)| i)
    };
    let pairs = x.chunks_exact(width).zip(y.chunks_exact(width));
    (x.len() / width, pairs.filter(|(x, y)| largest(x) == largest(y)).count())
}

/// The lesser, and what is no number if one is.
fn least(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
