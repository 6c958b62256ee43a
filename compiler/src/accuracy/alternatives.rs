//! The alternatives of a layer.

use super::Accuracy;
use super::layer::{Calibrated, LayerError};
use super::low_rank;
use super::matrix::{Matrix, Rows, tensor};
use super::prune::{Pattern, inverse_factor, prune};
use super::report::{LayerReport, Offer};
use autoglm_ir::Tensor;
use autoglm_ir::sparsity::Zeros;
use autoglm_passes::egraph::{Alternative, Estimate, Kind, Layer, Picked, Search};
use faer::{Mat, MatRef};
use std::collections::BTreeMap;

/// Ranks as shares of the largest that is worth it, 0.8 of the rank at which both factors have as many elements as the
/// weight.
const RANKS: [f64; 6] = [1.0, 0.8, 0.6, 0.4, 0.25, 0.12];
const WORTH: f64 = 0.8;
/// Ranks are multiples of the width of a packed panel's half, which AVX2 computes at a time.
const RANK_STEP: usize = 16;
/// Weights of fewer elements are not worth the steps.
pub(super) const ELEMENTS_MIN: usize = 2048;
/// An alternative that errs more than this share of the variance of a layer's results is of no use to any gate.
pub(super) const ERROR_MAX: f64 = 0.3;

/// What was offered for a layer.
pub(super) struct Offered {
    pub(super) offers: Vec<Offer>,
    /// Why there is nothing to choose from.
    pub(super) none: Option<String>,
}

impl Offered {
    pub(super) fn none(reason: String) -> Offered {
        Offered { offers: Vec::new(), none: Some(reason) }
    }

    /// What became of the offers in a pick.
    pub(super) fn report(
        &self,
        (layer, latency): (&Layer, f64),
        pick: &Picked,
        estimates: &BTreeMap<u32, Estimate>,
        measured: LayerError,
        held_out: Option<LayerError>,
    ) -> LayerReport {
        let offer = |offer: &Offer| {
            let chosen = offer.id.is_some_and(|id| pick.alternatives.binary_search(&id).is_ok());
            let open = (!chosen).then(|| "another graph is cheaper within the gates".to_owned());
            let estimate = offer.id.and_then(|id| estimates.get(&id).copied());
            Offer { estimate, refused: offer.refused.clone().or(open), ..offer.clone() }
        };
        LayerReport {
            name: layer.name.clone(),
            none: self.none.clone(),
            permuted: false,
            latency,
            offers: self.offers.iter().map(offer).collect(),
            measured,
            held_out,
        }
    }
}

/// Makes the alternatives of a layer and adds those that may be chosen to the search.
pub(super) fn offer(
    search: &mut Search<'_>,
    accuracy: &Accuracy,
    number: usize,
    (weight, matrix, bias): (&Tensor, &Matrix, Option<&[f32]>),
    rows: &Rows,
) -> Result<Offered, String> {
    if matrix.data.len() < ELEMENTS_MIN {
        return Ok(Offered::none(format!("{} elements are too few", matrix.data.len())));
    }
    if matrix.data.iter().any(|x| !x.is_finite()) {
        return Ok(Offered::none("its weight has elements that are no numbers".into()));
    }
    let conv = search.layers()[number].conv;
    let it = Maker { accuracy, weight, matrix, bias, conv, layer: Calibrated::new(matrix, bias, rows) };
    let mut made = Vec::new();
    if accuracy.low_rank {
        it.low_rank(&mut made);
    }
    if accuracy.sparse {
        it.sparse(&mut made);
    }
    let mut offers = Vec::with_capacity(made.len());
    for (mut offer, alternative) in made {
        offer.refused = it.refusal(&offer.error);
        if offer.refused.is_none() {
            offer.id = search.offer(number, alternative, offer.error.mse)?;
            offer.refused = offer.id.is_none().then(|| "it equals the layer".into());
        }
        offers.push(offer);
    }
    let none = offers.is_empty().then(|| "no rank and no pattern fits its extents".to_owned());
    Ok(Offered { offers, none })
}

struct Maker<'a> {
    accuracy: &'a Accuracy,
    weight: &'a Tensor,
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    conv: bool,
    layer: Calibrated,
}

impl Maker<'_> {
    /// Why a layer with this error cannot keep the gates, if it cannot.
    fn refusal(&self, error: &LayerError) -> Option<String> {
        let gates = &self.accuracy.gates;
        if error.mse.is_nan() || error.mse > ERROR_MAX {
            return Some(format!("it errs {:.3} of the variance", error.mse));
        }
        if gates.layer_mse.is_some_and(|limit| error.mse > limit) {
            return Some(format!("layer.mse is {:.5} for this layer alone", error.mse));
        }
        let low = gates.layer_cosine.is_some_and(|limit| error.cosine < limit);
        low.then(|| format!("layer.cosine is {:.5} for this layer alone", error.cosine))
    }

    fn low_rank(&self, made: &mut Vec<(Offer, Alternative)>) {
        let (k, n) = (self.matrix.k, self.matrix.n);
        let largest = WORTH * (k * n) as f64 / (k + n) as f64;
        let mut ranks: Vec<usize> =
            RANKS.iter().map(|share| (largest * share) as usize / RANK_STEP * RANK_STEP).collect();
        ranks.retain(|rank| *rank > 0);
        ranks.dedup();
        let Some(factors) = ranks.first().and_then(|rank| low_rank::factors(&self.layer, *rank)) else {
            return;
        };
        for rank in ranks {
            let (down, up) = factors.of(rank);
            // What the engine computes with is rounded to f32.
            let product = rounded(down) * rounded(up);
            let alternative = Alternative::LowRank {
                down: self.down(down),
                up: self.up(up),
                bias: Some(self.shifted(product.as_ref())),
            };
            let bytes = 4 * rank * (k + n);
            made.push((
                self.offered(Kind::LowRank, format!("rank {rank}"), bytes, product.as_ref()),
                alternative,
            ));
        }
    }

    fn sparse(&self, made: &mut Vec<(Offer, Alternative)>) {
        let period = if self.conv { self.weight.shape[1] } else { self.matrix.k };
        let Some(inverse) = inverse_factor(&self.layer) else { return };
        for (pattern, name) in [(Pattern::Columns, "2:4"), (Pattern::Blocks, "vector-wise 2:4")] {
            let Some(pruned) = prune(&self.layer, &inverse, pattern, period) else { continue };
            let matrix = Matrix { k: self.matrix.k, n: self.matrix.n, data: row_major(pruned.as_ref()) };
            let zeros = Zeros::of(&matrix.data, matrix.n, period);
            let bytes = match pattern {
                Pattern::Columns => matrix.data.len() * 4 / 2 + matrix.data.len() / 8,
                Pattern::Blocks => matrix.data.len() * 4 / 2 + matrix.data.len() / 64,
            };
            let rounded = rounded(pruned.as_ref());
            let alternative = Alternative::Sparse {
                weight: matrix.tensor(&self.weight.shape, self.conv),
                zeros,
                bias: Some(self.shifted(rounded.as_ref())),
            };
            made.push((self.offered(Kind::Sparse, name.to_owned(), bytes, rounded.as_ref()), alternative));
        }
    }

    fn offered(&self, kind: Kind, name: String, bytes: usize, other: MatRef<'_, f64>) -> Offer {
        Offer { id: None, kind, name, bytes, error: self.layer.error(other), estimate: None, refused: None }
    }

    /// The bias that keeps the mean of the results.
    fn shifted(&self, other: MatRef<'_, f64>) -> Tensor {
        let shift = self.layer.shift((other - &self.layer.weight).as_ref());
        let of = |(j, shift): (usize, f64)| (f64::from(self.bias.map_or(0.0, |b| b[j])) + shift) as f32;
        tensor(vec![self.matrix.n], shift.into_iter().enumerate().map(of))
    }

    /// The first factor: [k,r], or [r,c,kernel..].
    fn down(&self, down: MatRef<'_, f64>) -> Tensor {
        let matrix = Matrix { k: self.matrix.k, n: down.ncols(), data: row_major(down) };
        matrix.tensor(&self.weight.shape, self.conv)
    }

    /// The second factor: [r,n], or [m,r,1..].
    fn up(&self, up: MatRef<'_, f64>) -> Tensor {
        let (rank, n) = (up.nrows(), up.ncols());
        let matrix = Matrix { k: rank, n, data: row_major(up) };
        let mut like = vec![n, rank];
        like.extend(self.weight.shape.iter().skip(2).map(|_| 1));
        matrix.tensor(&like, self.conv)
    }
}

fn row_major(m: MatRef<'_, f64>) -> Vec<f32> {
    (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)] as f32)).collect()
}

/// The matrix with every element rounded to f32.
fn rounded(m: MatRef<'_, f64>) -> Mat<f64> {
    Mat::from_fn(m.nrows(), m.ncols(), |i, j| f64::from(m[(i, j)] as f32))
}
