//! Runs passes and holds each to the verifier.

use crate::egraph::Explanation;
use crate::{Done, Options, Pass};
use autoglm_ir::verify::verify;
use autoglm_ir::{Graph, verify};

/// Violations that a message lists; one broken invariant often breaks others after it.
const SHOWN_MAX: usize = 8;

/// A pass failed or gave an invalid graph. Passes take every valid graph, so this is a bug of the pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pass `{pass}`: {message}")]
pub struct PassError {
    /// Name of the pass.
    pub pass: &'static str,
    /// What went wrong.
    pub message: String,
}

/// What a pass did, as [`run_all`] shows it to its observer.
pub struct Step<'a> {
    /// The pass.
    pub pass: &'static Pass,
    /// What it was given.
    pub before: &'a Graph,
    /// What it made of it; valid.
    pub after: &'a Graph,
    /// Why, from a pass that weighs alternatives.
    pub explanation: Option<&'a Explanation>,
}

/// Runs one pass and verifies its result.
///
/// # Errors
/// The pass failed, or its result violates an invariant of the IR.
pub fn run(pass: &Pass, graph: &Graph, options: &Options) -> Result<Graph, PassError> {
    checked(pass, graph, options).map(|done| done.graph)
}

fn checked(pass: &Pass, graph: &Graph, options: &Options) -> Result<Done, PassError> {
    let fail = |message| PassError { pass: pass.name, message };
    let done = (pass.run)(graph, options).map_err(fail)?;
    match verify(&done.graph).as_slice() {
        [] => Ok(done),
        found => Err(fail(format!("the result is invalid: {}", listed(found)))),
    }
}

/// Runs passes in order and shows the observer each one that has run. Time is the observer's to measure: passes read
/// no clock.
///
/// # Errors
/// Those of [`run`], for the first pass that fails.
pub fn run_all(
    passes: &[&'static Pass],
    mut graph: Graph,
    options: &Options,
    observer: &mut dyn FnMut(&Step<'_>),
) -> Result<Graph, PassError> {
    for &pass in passes {
        let done = checked(pass, &graph, options)?;
        let explanation = done.explanation.as_ref();
        observer(&Step { pass, before: &graph, after: &done.graph, explanation });
        graph = done.graph;
    }
    Ok(graph)
}

fn listed(found: &[verify::Violation]) -> String {
    let mut text = found.iter().take(SHOWN_MAX).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if found.len() > SHOWN_MAX {
        text += &format!("; and {} more", found.len() - SHOWN_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoglm_ir::{Dim, text};

    fn graph() -> Graph {
        text::parse("graph @g (%x: f32[2]) {\n%0 = neg %x\n%1 = abs %0\nreturn %1 }").unwrap()
    }

    static IDENTITY: Pass = Pass { name: "identity", doc: "nothing", run: |g, _| Ok(g.clone().into()) };

    /// Changes a type and leaves the node that gives it as it was.
    static WRONG_TYPE: Pass = Pass {
        name: "wrong-type",
        doc: "breaks the graph",
        run: |g, _| {
            let mut g = g.clone();
            let out = g.nodes[1].outs[0];
            g.values[out.0 as usize].ty.shape = vec![Dim::from(3)];
            Ok(g.into())
        },
    };

    /// Puts a use before its definition.
    static WRONG_ORDER: Pass = Pass {
        name: "wrong-order",
        doc: "breaks the graph",
        run: |g, _| {
            let mut g = g.clone();
            g.nodes.swap(0, 1);
            Ok(g.into())
        },
    };

    #[test]
    fn a_pass_that_breaks_the_graph_is_named() {
        for (pass, part) in [(&WRONG_TYPE, "f32[3]"), (&WRONG_ORDER, "before its definition")] {
            let error = run(pass, &graph(), &Options::default()).unwrap_err();
            assert_eq!(error.pass, pass.name);
            assert!(error.message.contains(part), "{error}");
            let mut seen = Vec::new();
            let passes = [&IDENTITY, pass, &IDENTITY];
            let error = run_all(&passes, graph(), &Options::default(), &mut |s| seen.push(s.pass.name));
            assert_eq!((error.unwrap_err().pass, seen), (pass.name, vec!["identity"]));
        }
    }

    #[test]
    fn the_observer_sees_every_pass_in_order() {
        let mut seen = Vec::new();
        let mut see = |s: &Step<'_>| seen.push((s.pass.name, s.before.nodes.len(), s.after.nodes.len()));
        run_all(crate::PIPELINE, graph(), &Options::default(), &mut see).unwrap();
        let names: Vec<_> = crate::PIPELINE.iter().map(|p| p.name).collect();
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), names);
        assert!(seen.iter().all(|s| (s.1, s.2) == (2, 2)), "{seen:?}");
    }
}
