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

/// Runs two graphs on samples and compares their first `outputs` outputs, and what follows as results of layers. The figures are
/// the worse of those over all samples and of those over the samples that are marked.
pub(super) fn compare<'s>(
    exact: &mut Runner,
    other: &mut Runner,
    outputs: usize,
    samples: impl IntoIterator<Item = (&'s Sample, bool)>,
) -> Result<Measurement, String> {
    let (mut all, mut marked) = (Tally::default(), None);
    for (sample, mark) in samples {
        let pairs: Vec<Pair> =
            exact.run(sample)?.into_iter().zip(other.run(sample)?).map(Pair::new).collect();
        all.add(&pairs, outputs);
        if mark {
            marked.get_or_insert_with(Tally::default).add(&pairs, outputs);
        }
    }
    Ok(match marked {
        Some(marked) => all.measurement().or_worse(&marked.measurement()),
        None => all.measurement(),
    })
}

/// A tensor of both graphs.
struct Pair {
    exact: Tensor,
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Pair {
    fn new((exact, other): (Tensor, Tensor)) -> Pair {
        let (x, y) = (exact.to_f64(), other.to_f64());
        Pair { exact, x, y }
    }
}

/// What is summed up over samples.
struct Tally {
    outputs: Vec<Sums>,
    layers: Vec<Sums>,
    worst: f64,
    rows: usize,
    same: usize,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { outputs: Vec::new(), layers: Vec::new(), worst: 1.0, rows: 0, same: 0 }
    }
}

impl Tally {
    fn add(&mut self, pairs: &[Pair], outputs: usize) {
        let (wholes, layers) = pairs.split_at(outputs.min(pairs.len()));
        for (sums, pairs) in [(&mut self.outputs, wholes), (&mut self.layers, layers)] {
            sums.resize(pairs.len(), Sums::default());
            sums.iter_mut().zip(pairs).for_each(|(sums, pair)| sums.add(&pair.x, &pair.y));
        }
        for Pair { exact, x, y } in wholes {
            // An item of a batch is one answer.
            let item = match exact.shape.as_slice() {
                [_, inner @ ..] if !inner.is_empty() => inner.iter().product(),
                _ => x.len(),
            };
            let item = item.max(1);
            for (x, y) in x.chunks(item).zip(y.chunks(item)) {
                let mut own = Sums::default();
                own.add(x, y);
                self.worst = least(self.worst, own.error().cosine);
            }
            let (n, equal) = top1(exact, x, y);
            (self.rows, self.same) = (self.rows + n, self.same + equal);
        }
    }

    fn measurement(&self) -> Measurement {
        let layers: Vec<LayerError> = self.layers.iter().map(Sums::error).collect();
        let outputs: Vec<LayerError> = self.outputs.iter().map(Sums::error).collect();
        let cosine = |errors: &[LayerError]| errors.iter().map(|e| e.cosine).fold(1.0, least);
        let mse = |errors: &[LayerError]| errors.iter().map(|e| e.mse).fold(0.0, largest);
        let measured = Measured {
            layer_cosine: cosine(&layers),
            layer_mse: mse(&layers),
            out_cosine: cosine(&outputs),
            out_worst: self.worst,
            out_mse: mse(&outputs),
            out_top1: if self.rows == 0 { 1.0 } else { self.same as f64 / self.rows as f64 },
        };
        Measurement { measured, layers }
    }
}

impl Measurement {
    /// The worse figure of both, each for itself.
    fn or_worse(&self, other: &Measurement) -> Measurement {
        let (a, b) = (&self.measured, &other.measured);
        let layer = |(a, b): (&LayerError, &LayerError)| LayerError {
            mse: largest(a.mse, b.mse),
            cosine: least(a.cosine, b.cosine),
        };
        Measurement {
            measured: Measured {
                layer_cosine: least(a.layer_cosine, b.layer_cosine),
                layer_mse: largest(a.layer_mse, b.layer_mse),
                out_cosine: least(a.out_cosine, b.out_cosine),
                out_worst: least(a.out_worst, b.out_worst),
                out_top1: least(a.out_top1, b.out_top1),
                out_mse: largest(a.out_mse, b.out_mse),
            },
            layers: self.layers.iter().zip(&other.layers).map(layer).collect(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use autoglm_ir::DType;

    fn tally(pairs: &[(&[f64], &[f64])]) -> Tally {
        let tensor = |values: &[f64]| Tensor::floats(DType::F32, vec![values.len() / 2, 2], values.to_vec());
        let mut tally = Tally::default();
        let pairs: Vec<Pair> = pairs.iter().map(|(x, y)| Pair::new((tensor(x), tensor(y)))).collect();
        tally.add(&pairs, 1);
        tally
    }

    /// An output whose second row turns by a right angle, and a layer that is off by 1 in one of 4 elements of variance 5.
    #[test]
    fn figures_are_those_of_their_definitions() {
        let output: (&[f64], &[f64]) = (&[3.0, 4.0, 1.0, 0.0], &[3.0, 4.0, 0.0, 1.0]);
        let layer: (&[f64], &[f64]) = (&[1.0, 3.0, 5.0, 7.0], &[1.0, 3.0, 5.0, 8.0]);
        let m = tally(&[output, layer]).measurement();
        assert_eq!(
            (m.measured.out_worst, m.measured.out_top1, m.measured.out_cosine),
            (0.0, 0.5, 25.0 / 26.0)
        );
        assert_eq!(m.measured.layer_mse, 0.25 / 5.0);
        let cosine = 91.0 / (84.0f64 * 99.0).sqrt();
        assert!((m.measured.layer_cosine - cosine).abs() < 1e-12 && m.layers.len() == 1);
    }

    #[test]
    fn the_worse_figure_counts_each_for_itself() {
        let same: (&[f64], &[f64]) = (&[1.0, 2.0], &[1.0, 2.0]);
        let off: (&[f64], &[f64]) = (&[1.0, 2.0], &[2.0, 1.0]);
        let (outputs, layers) = (tally(&[off, same]).measurement(), tally(&[same, off]).measurement());
        for worse in [outputs.or_worse(&layers), layers.or_worse(&outputs)] {
            let m = worse.measured;
            assert_eq!((m.out_cosine, m.out_top1, m.layer_cosine), (0.8, 0.0, 0.8));
            assert!(m.out_mse == outputs.measured.out_mse && m.layer_mse == layers.measured.layer_mse);
            assert_eq!(worse.layers, layers.layers);
        }
    }
}
