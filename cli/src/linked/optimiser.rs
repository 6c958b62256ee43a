//! What the optimiser of the passes says, in the words of the command line.

use crate::backend::{EGraphFormat, NearMiss, Optimised, Recovery};
use crate::codes;
use crate::error::{CliError, Exit};
use autoglm_ir::Graph;
use autoglm_passes as passes;
use passes::egraph::{Activity, Explanation, Format};

/// What happened, with every recovery rule.
pub(super) fn optimised(said: &Explanation) -> Optimised {
    let recovery = |rule: &passes::egraph::Rule| {
        let activity = said.activities.rules.get(rule.name).cloned().unwrap_or_default();
        Recovery {
            rule: rule.name.to_string(),
            equation: rule.equation.to_string(),
            fired: activity.fired as u64,
            misses: misses(&activity),
        }
    };
    Optimised {
        cost: said.cost,
        merged: said.merged as u64,
        skipped: said.skipped.clone(),
        recoveries: passes::rules::all().filter(|r| r.recovers).map(recovery).collect(),
    }
}

/// Whole matches that a guard refused come before parts of a match; of those the most complete first.
fn misses(activity: &Activity) -> Vec<NearMiss> {
    let miss = |why: String, (count, node): &(usize, String)| NearMiss {
        why,
        count: *count as u64,
        node: node.clone(),
    };
    let refused = activity.refused.iter().map(|(why, places)| miss(why.clone(), places));
    let near = activity.near.iter().map(|(missing, places)| {
        let why = match missing {
            0 => "a number or an operand is not that of the pattern".to_string(),
            1 => "1 operator does not match the pattern".to_string(),
            _ => format!("{missing} operators do not match the pattern"),
        };
        miss(why, places)
    });
    refused.chain(near).collect()
}

/// The e-graph of a canonical graph.
pub(super) fn draw(
    canonical: Option<&Graph>,
    options: &passes::Options,
    format: EGraphFormat,
) -> Result<String, CliError> {
    let graph = canonical.ok_or_else(|| CliError::usage("--no-opt leaves no e-graph to print"))?;
    let format = match format {
        EGraphFormat::Dot => Format::Dot,
        EGraphFormat::Json => Format::Json,
    };
    passes::egraph::draw(graph, options, format).map_err(unsupported)
}

/// Refuses the name of no rule.
pub(super) fn require(rule: &str) -> Result<(), CliError> {
    let known: Vec<&str> = passes::rules::all().map(|r| r.name).collect();
    if known.contains(&rule) {
        return Ok(());
    }
    let error = no_rule(rule);
    Err(match crate::spec::nearest(rule, known) {
        Some(near) => error.help(format!("did you mean \"{near}\"?")),
        None => error,
    })
}

fn no_rule(rule: &str) -> CliError {
    CliError::new(codes::NO_RULE, Exit::Unsupported, format!("there is no rule `{rule}`"))
}

/// A graph after one rule.
pub(super) fn apply(graph: &Graph, rule: &str) -> Result<Graph, CliError> {
    let options = passes::Options::default();
    let applied = passes::egraph::apply_rule(graph, rule, &options).map_err(unsupported)?;
    applied.map(|(graph, _)| graph).ok_or_else(|| no_rule(rule))
}

fn unsupported(message: String) -> CliError {
    CliError::new(codes::EGRAPH, Exit::Unsupported, message)
}
