//! Passes over the graph: same input, same output, no I/O.
//!
//! [`PIPELINE`] is the order in which a compile runs them; [`run`] verifies the graph after each.
#![forbid(unsafe_code)]

mod canonicalise;
mod emitter;
mod fold;
mod fold_conv;
mod layout;
mod simplify;

use autoglm_ir::Graph;

pub use emitter::{Emitter, live_nodes};

/// What a pass may not change, and what it may spend.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest constant that folding may create, in bytes.
    pub fold_bytes_max: usize,
    /// Sum of all constants that folding may create, in bytes.
    pub fold_total_bytes_max: usize,
    /// Only rules that leave every result bit for bit as it was.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { fold_bytes_max: 64 << 20, fold_total_bytes_max: 4 << 30, strict: false }
    }
}

/// A pass failed: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("pass `{pass}`: {message}")]
pub struct PassError {
    /// Name of the pass.
    pub pass: &'static str,
    /// What went wrong.
    pub message: String,
}

/// A pass.
pub struct Pass {
    /// Name on the command line and in dumps.
    pub name: &'static str,
    /// What it does, one line.
    pub doc: &'static str,
    /// The transformation.
    pub run: fn(&Graph, &Options) -> Result<Graph, String>,
}

/// The passes of a compile, in order. Canonicalisation comes first so that later patterns have one form to match; the
/// layout pass inserts transposes which the last canonicalisation cancels.
pub static PIPELINE: &[&Pass] = &[&CANONICALISE, &FOLD_CONV, &LAYOUT, &CLEAN_UP];

/// Identities, shape and constant folding, common subexpressions, dead code.
pub static CANONICALISE: Pass = Pass {
    name: "canonicalise",
    doc: "identities, shape and constant folding, common subexpressions, dead code",
    run: canonicalise::run,
};

/// Scales and biases after a convolution become part of it.
pub static FOLD_CONV: Pass = Pass {
    name: "fold-conv",
    doc: "constant scales and biases after a convolution go into its weights (reassociates)",
    run: fold_conv::run,
};

/// Channels last for convolutions and pools.
pub static LAYOUT: Pass =
    Pass { name: "layout", doc: "convolutions and pools compute channels-last", run: layout::run };

/// Canonicalisation again, after layout.
pub static CLEAN_UP: Pass = Pass {
    name: "clean-up",
    doc: "canonicalise again: cancels the transposes that layout left",
    run: canonicalise::run,
};

/// A pass by name.
pub fn by_name(name: &str) -> Option<&'static Pass> {
    PIPELINE.iter().copied().find(|p| p.name == name)
}

/// Runs one pass and checks its result.
pub fn run(pass: &Pass, graph: &Graph, options: &Options) -> Result<Graph, PassError> {
    let fail = |message| PassError { pass: pass.name, message };
    let result = (pass.run)(graph, options).map_err(fail)?;
    match autoglm_ir::verify::verify(&result).first() {
        None => Ok(result),
        Some(violation) => Err(fail(format!("it made an invalid graph: {violation}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_breaks_the_graph_is_an_error() {
        let pass = Pass {
            name: "break",
            doc: "removes the nodes and keeps their results",
            run: |graph, _| Ok(Graph { nodes: Vec::new(), ..graph.clone() }),
        };
        let graph = autoglm_ir::text::parse("graph @g (%x: f32[2]) {\n %0 = neg %x\n return %0 }").unwrap();
        let error = run(&pass, &graph, &Options::default()).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("pass `break`: it made an invalid graph"), "{error}");
        assert!(run(&CANONICALISE, &graph, &Options::default()).is_ok());
    }
}
