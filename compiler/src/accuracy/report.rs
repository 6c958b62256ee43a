//! What a compression did.

use super::gates::{Gates, Measured};
use super::layer::LayerError;
use autoglm_passes::egraph::Kind;

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
}

impl AccuracyReport {
    /// What an engine says of itself: gates, figures, and of how many samples they are.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let m = &self.measured;
        [
            ("accuracy.gates", self.gates.to_string()),
            ("accuracy.samples", self.samples.to_string()),
            ("accuracy.layer.cosine", format!("{:.6}", m.layer_cosine)),
            ("accuracy.layer.mse", format!("{:.6}", m.layer_mse)),
            ("accuracy.out.cosine", format!("{:.6}", m.out_cosine)),
            ("accuracy.out.worst", format!("{:.6}", m.out_worst)),
            ("accuracy.out.top1", format!("{:.6}", m.out_top1)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
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
        }
    }
}

/// A graph that was measured.
#[derive(Clone, Debug)]
pub struct Round {
    /// The kinds of alternatives that it was searched among.
    pub kinds: Vec<Kind>,
    /// Sum of the errors of its alternatives.
    pub error: f64,
    /// Predicted nanoseconds.
    pub latency: f64,
    /// Bytes of its weights.
    pub bytes: f64,
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
    /// What there was to choose from.
    pub offers: Vec<Offer>,
    /// How far its results are from the exact ones in the chosen graph, errors of the layers before it included.
    pub measured: LayerError,
}

/// An alternative of a layer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its kind.
    pub kind: Kind,
    /// `rank 96`, `2:4`.
    pub name: String,
    /// Bytes of its weights.
    pub bytes: usize,
    /// Its error on rows that it was not made for.
    pub error: LayerError,
    /// Why it is not in the engine; none if it is.
    pub refused: Option<String>,
}
