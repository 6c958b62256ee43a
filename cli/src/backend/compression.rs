//! What `compile` is told about compression, and what it says.

use autoglm_compiler::accuracy::Gates;
use std::path::PathBuf;

/// What `compile` asks for.
#[derive(Clone, Debug)]
pub struct CompressRequest {
    /// What must hold.
    pub gates: Gates,
    /// Where the calibration data is.
    pub calib: PathBuf,
    /// Where the held-out data are, if there are such.
    pub holdout: Option<PathBuf>,
    /// Whether layers may become products of lower rank.
    pub low_rank: bool,
    /// Whether weights may become sparse.
    pub sparse: bool,
    /// Patterns of layers that stay exact.
    pub keep: Vec<String>,
    /// Whether bytes count instead of time.
    pub by_bytes: bool,
}

/// What a compression did.
#[derive(Clone, Debug, Default)]
pub struct Compression {
    /// What was asked for.
    pub gates: String,
    /// Runs that it was measured on.
    pub samples: u64,
    /// What was measured.
    pub measured: Figures,
    /// Why nothing was tried, if so.
    pub skipped: Option<String>,
    /// Predicted nanoseconds of the exact graph and of the chosen one.
    pub latency_ns: (f64, f64),
    /// Bytes of weights of the exact graph and of the chosen one.
    pub bytes: (f64, f64),
    /// Graphs that were measured.
    pub rounds: Vec<CompressionRound>,
    /// Layers in execution order.
    pub layers: Vec<CompressedLayer>,
    /// What it keeps on held-out data, if there are such.
    pub held_out: Option<HeldOut>,
}

/// What a compressed graph keeps on data that had no part in choosing it.
#[derive(Clone, Debug, Default)]
pub struct HeldOut {
    /// Runs that it was measured on.
    pub samples: u64,
    /// What was measured.
    pub measured: Figures,
    /// Gates that do not hold there.
    pub failures: Vec<String>,
}

/// How far a graph is from the exact one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Least cosine of a layer.
    pub layer_cosine: f64,
    /// Largest mean squared error of a layer in units of its variance.
    pub layer_mse: f64,
    /// Least cosine of an output.
    pub out_cosine: f64,
    /// Least cosine of an item of an output's first axis.
    pub out_worst: f64,
    /// Largest mean squared error of an output in units of its variance.
    pub out_mse: f64,
    /// Share of rows of the outputs whose largest element is at the same place.
    pub out_top1: f64,
}

/// A graph that was measured.
#[derive(Clone, Debug, Default)]
pub struct CompressionRound {
    /// What is small early in the order of graphs in which it was found: `latency` or `bytes`.
    pub objective: &'static str,
    /// Kinds of the alternatives that it was searched among.
    pub kinds: Vec<&'static str>,
    /// Sum of the errors of its alternatives.
    pub error: f64,
    /// Predicted nanoseconds.
    pub latency_ns: f64,
    /// Bytes of weights.
    pub bytes: f64,
    /// Ids of the alternatives in it.
    pub alternatives: Vec<u32>,
    /// What was measured.
    pub measured: Figures,
    /// Gates that did not hold.
    pub failures: Vec<String>,
}

/// What became of a layer.
#[derive(Clone, Debug, Default)]
pub struct CompressedLayer {
    /// Its ONNX nodes.
    pub name: String,
    /// Why there was nothing to choose from, if so.
    pub none: Option<String>,
    /// Predicted nanoseconds of the exact layer.
    pub latency_ns: f64,
    /// Whether the channels that it reads are in another order than in the model.
    pub permuted: bool,
    /// What there was.
    pub alternatives: Vec<Alternative>,
    /// Mean squared error in the chosen graph, in units of the variance.
    pub mse: f64,
    /// Cosine in the chosen graph.
    pub cosine: f64,
    /// Both on held-out data, if there are such.
    pub held_out: Option<(f64, f64)>,
}

/// What could take a layer's place.
#[derive(Clone, Debug, Default)]
pub struct Alternative {
    /// Its number among those of all layers; none if it could not be chosen.
    pub id: Option<u32>,
    /// `rank 64`, `2:4`.
    pub name: String,
    /// `low-rank` or `sparse`.
    pub kind: &'static str,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Mean squared error of this layer alone, in units of the variance.
    pub mse: f64,
    /// Cosine of this layer alone.
    pub cosine: f64,
    /// What the search expects of it; none if it could not be chosen.
    pub estimate: Option<Estimate>,
    /// Why it is not in the engine; none if it is.
    pub refused: Option<String>,
}

/// What the search expects of an alternative in its layer's place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    /// Nanoseconds of a run that it saves.
    pub saves_ns: f64,
    /// Bytes of weights that it saves.
    pub saves_bytes: f64,
    /// What it adds to the error of a graph.
    pub error: f64,
}

/// The zeros of a weight.
#[derive(Clone, Debug, Default)]
pub struct WeightZeros {
    /// The ONNX node that uses it.
    pub node: String,
    /// Rows and columns as a matrix.
    pub extents: [usize; 2],
    /// Share of its elements that are not zero.
    pub density: f64,
    /// `2:4`, or `2 of 4 rows a panel`; none where they form no pattern.
    pub pattern: Option<String>,
    /// Share of the arithmetic that the pattern leaves.
    pub arithmetic: f64,
    /// Bytes, dense and in the pattern.
    pub bytes: [u64; 2],
}
