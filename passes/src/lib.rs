//! Passes over the graph: same input, same output, no I/O.
//!
//! [`PIPELINE`] is the order in which a compile runs them; [`run`] verifies the graph after each.
#![forbid(unsafe_code)]

mod baseline;
mod canonicalise;
pub mod channels;
pub mod egraph;
mod emitter;
mod fold;
mod layout;
mod manager;
pub mod rules;
mod simplify;
mod sink;

use autoglm_ir::Graph;
use autoglm_ir::budget::FoldLimits;
use std::sync::Arc;

use emitter::Keep;
pub use emitter::{Emitter, live_nodes};
pub use manager::{PassError, Step, run, run_all};

/// What a pass may not change, and what it may spend.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What constant folding may spend.
    pub fold: FoldLimits,
    /// Only rules that leave every result bit for bit as it was.
    pub strict: bool,
    /// No algorithm whose weights take more bytes than the model's.
    pub compact: bool,
    /// Measured times of kernels; without them the optimiser goes by a roofline.
    pub costs: Option<Arc<egraph::CostTable>>,
}

/// A pass.
#[derive(Debug)]
pub struct Pass {
    /// Name on the command line and in dumps.
    pub name: &'static str,
    /// What it does, one line.
    pub doc: &'static str,
    /// The transformation.
    pub run: fn(&Graph, &Options) -> Result<Done, String>,
}

/// What a pass made.
#[derive(Debug)]
pub struct Done {
    /// The new graph.
    pub graph: Graph,
    /// Why it is as it is, from a pass that weighs alternatives.
    pub explanation: Option<egraph::Explanation>,
}

impl From<Graph> for Done {
    fn from(graph: Graph) -> Done {
        Done { graph, explanation: None }
    }
}

/// The passes of a compile, in order. Canonicalisation comes first so that later patterns have one form to match; the
/// layout pass inserts transposes which the last canonicalisation cancels.
pub static PIPELINE: &[&Pass] = &[&CANONICALISE, &OPTIMISE, &LAYOUT, &SINK, &CLEAN_UP];

/// Those of them that follow [`OPTIMISE`].
pub fn after_search() -> &'static [&'static Pass] {
    let search = PIPELINE.iter().position(|pass| pass.name == OPTIMISE.name);
    search.map_or(PIPELINE, |at| &PIPELINE[at + 1..])
}

/// The passes of a compile that only makes a model runnable: the layout and the constant weights that the kernels need,
/// and no rewriting. What the optimiser gains is measured against it.
pub static BASELINE: &[&Pass] = &[&FOLD, &BASELINE_LAYOUT];

/// Identities, shape and constant folding, common subexpressions, dead code.
pub static CANONICALISE: Pass = Pass {
    name: "canonicalise",
    doc: "identities, shape and constant folding, common subexpressions, dead code",
    run: |graph, options| canonicalise::run(graph, options).map(Done::from),
};

/// Equality saturation.
pub static OPTIMISE: Pass = Pass {
    name: "optimise",
    doc: "equality saturation with the rules of docs/rules.md, extraction of the cheapest graph, merged products",
    run: egraph::run,
};

/// Channels last for convolutions and pools.
pub static LAYOUT: Pass = Pass {
    name: "layout",
    doc: "convolutions and pools compute channels-last",
    run: |graph, options| layout::run(graph, options, Keep::Simplified).map(Done::from),
};

/// Movement behind loops.
pub static SINK: Pass = Pass {
    name: "sink",
    doc: "elementwise operators compute before the movement that precedes them: in a product's order, in the parts of a concatenation",
    run: |graph, options| sink::run(graph, options).map(Done::from),
};

/// Canonicalisation again, after layout.
pub static CLEAN_UP: Pass = Pass {
    name: "clean-up",
    doc: "canonicalise again: cancels the transposes that layout left",
    run: |graph, options| canonicalise::run(graph, options).map(Done::from),
};

/// What does not depend on the inputs.
pub static FOLD: Pass = Pass {
    name: "fold",
    doc: "shape and constant folding, and nothing else: every other node stays as the model has it",
    run: |graph, options| baseline::fold(graph, options).map(Done::from),
};

/// The layout of [`LAYOUT`] in a graph that is not optimised.
pub static BASELINE_LAYOUT: Pass = Pass {
    name: "baseline-layout",
    doc: "convolutions and pools compute channels-last; every other node stays as the model has it",
    run: |graph, options| layout::run(graph, options, Keep::AsWritten).map(Done::from),
};

/// All passes, in the order of the pipelines.
pub fn all() -> impl Iterator<Item = &'static Pass> {
    PIPELINE.iter().chain(BASELINE).copied()
}

/// A pass by name.
pub fn by_name(name: &str) -> Option<&'static Pass> {
    all().find(|p| p.name == name)
}
