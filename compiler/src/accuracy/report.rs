//! What a compression did.

use super::gates::{Gates, Measured};
use super::layer::LayerError;
use autoglm_passes::egraph::{Estimate, Kind, Objective};

/// What a compression did, and what it was measured to cost.
#[derive(Clone, Debug)]
pub struct AccuracyReport {
    /// What was asked for.
    pub gates: Gates,
    /// Runs that the figures are of.
    pub samples: usize,
    /// What the chosen graph was measured to keep.
    pub measured: Measured,
    /// Why the model was left exact without a search, if so.
    pub skipped: Option<String>,
    /// Predicted nanoseconds of the exact graph and of the chosen one.
    pub latency: (f64, f64),
    /// Bytes of weights of the exact graph and of the chosen one.
    pub bytes: (f64, f64),
    /// The graphs that were measured, in order.
    pub rounds: Vec<Round>,
    /// Layers in execution order.
    pub layers: Vec<LayerReport>,
    /// What the chosen graph keeps on held-out data, if there are such.
    pub held_out: Option<HeldOut>,
}

/// What a chosen graph keeps on data that had no part in choosing it.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Runs that the figures are of.
    pub samples: usize,
    /// What was measured.
    pub measured: Measured,
    /// Gates, as they were asked for, that do not hold there.
    pub failures: Vec<String>,
}

impl AccuracyReport {
    /// What an engine says of itself: gates, figures, and of how many samples they are.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let held_out =
            self.held_out.iter().flat_map(|it| figures("accuracy.held_out", it.samples, &it.measured));
        std::iter::once(("accuracy.gates".to_owned(), self.gates.to_string()))
            .chain(figures("accuracy", self.samples, &self.measured))
            .chain(held_out)
            .collect()
    }

    /// Of a model that is left as it is.
    pub(super) fn left(gates: Gates, reason: String) -> AccuracyReport {
        AccuracyReport {
            gates,
            samples: 0,
            measured: Measured::EQUAL,
            skipped: Some(reason),
            latency: (0.0, 0.0),
            bytes: (0.0, 0.0),
            rounds: Vec::new(),
            layers: Vec::new(),
            held_out: None,
        }
    }
}

/// What was measured, under names that begin with `of`.
fn figures(of: &str, samples: usize, m: &Measured) -> Vec<(String, String)> {
    let figure = |(name, value): (&str, f64)| (format!("{of}.{name}"), format!("{value:.6}"));
    let all = [
        ("layer.cosine", m.layer_cosine),
        ("layer.mse", m.layer_mse),
        ("out.cosine", m.out_cosine),
        ("out.worst", m.out_worst),
        ("out.top1", m.out_top1),
    ];
    let samples = (format!("{of}.samples"), samples.to_string());
    std::iter::once(samples).chain(all.into_iter().map(figure)).collect()
}

/// A graph that was measured.
#[derive(Clone, Debug)]
pub struct Round {
    /// What is small early in the order of graphs in which it was found.
    pub objective: Objective,
    /// The kinds of alternatives that it was searched among.
    pub kinds: Vec<Kind>,
    /// Sum of the errors of its alternatives.
    pub error: f64,
    /// Predicted nanoseconds.
    pub latency: f64,
    /// Bytes of its weights.
    pub bytes: f64,
    /// The alternatives in it, by their ids, ascending.
    pub alternatives: Vec<u32>,
    /// What it kept.
    pub measured: Measured,
    /// Gates, tightened, that it did not keep.
    pub failures: Vec<String>,
}

/// What became of a layer.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// The ONNX nodes that it computes.
    pub name: String,
    /// Why there was nothing to choose from, if so.
    pub none: Option<String>,
    /// Predicted nanoseconds of the exact layer.
    pub latency: f64,
    /// Whether the channels that it reads are in another order than in the model, for what pruning loses.
    pub permuted: bool,
    /// What there was to choose from.
    pub offers: Vec<Offer>,
    /// How far its results are from the exact ones in the chosen graph, errors of the layers before it included.
    pub measured: LayerError,
    /// The same on held-out data, if there are such.
    pub held_out: Option<LayerError>,
}

/// An alternative of a layer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its number among the alternatives of all layers; none if the search was not offered it.
    pub id: Option<u32>,
    /// Its kind.
    pub kind: Kind,
    /// `rank 96`, `2:4`.
    pub name: String,
    /// Bytes of its weights.
    pub bytes: usize,
    /// Its error on rows that it was not made for.
    pub error: LayerError,
    /// What the search expects of it; none if it was not offered.
    pub estimate: Option<Estimate>,
    /// Why it is not in the engine; none if it is.
    pub refused: Option<String>,
}
