//! The e-graph optimiser: saturation with the rules of [`crate::rules`], extraction, merges.

mod cost;
mod extract;
mod lossy;
mod merge;
mod pattern;
mod rule;
mod saturate;
mod search;
mod show;
mod table;
mod zeros;

pub use cost::CostModel;
pub use rule::{Apply, Builder, Miss, Numerics, Rhs, Rule};
pub use saturate::{Activities, Activity};
pub use search::{Alternative, Estimate, Kind, Layer, Objective, Picked, Search, Started, Tap};
pub use show::{Format, apply_rule, draw};
pub use table::{CostTable, Kernel, Point};

use crate::{Done, Options, rules};
use autoglm_ir::Graph;
use autoglm_ir::budget::FoldLimits;
use autoglm_ir::egraph::{EGraph, from_graph, to_graph};
use egg::Id;
use extract::{Choice, Dag};
use rule::Compiled;
use saturate::{Limits, near_misses, saturate};

/// Rounds of a saturation; the graphs that were measured saturate within a dozen.
const ROUNDS_MAX: usize = 24;
/// E-nodes for each node of the graph, attributes included, and at least.
const NODES_PER_NODE: usize = 24;
const NODES_MIN: usize = 20_000;

/// What the optimiser did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// By rule.
    pub activities: Activities,
    /// Groups of products that became one.
    pub merged: usize,
    /// Why the graph was left as it was, if so.
    pub skipped: Option<String>,
    /// Predicted nanoseconds before and after.
    pub cost: (f64, f64),
}

/// The pass.
pub(crate) fn run(graph: &Graph, options: &Options) -> Result<Done, String> {
    let (graph, explanation) = explain(graph, options)?;
    Ok(Done { graph, explanation: Some(explanation) })
}

/// The e-graph of a graph with everything that the rules find.
struct Saturated {
    egraph: EGraph,
    outputs: Vec<Id>,
    /// E-nodes that it may have.
    nodes_max: usize,
}

/// Why a graph is not optimised, if it is not.
fn refusal(graph: &Graph) -> Option<&'static str> {
    if graph.nodes.iter().any(|n| !n.regions.is_empty()) {
        return Some("control flow");
    }
    (graph.values.len() > extract::CLASSES_MAX).then_some(TOO_MANY)
}

const TOO_MANY: &str = "too many values";

/// The e-graph before any rule.
fn start(graph: &Graph, options: &Options) -> Result<Saturated, String> {
    // A merged weight is as large as its parts, of which each is within the limits of one constant.
    let limits = FoldLimits { bytes: usize::MAX, ..options.fold };
    let (egraph, classes) = from_graph(graph, limits)?;
    let outputs = graph.outputs.iter().map(|o| classes[o.value.0 as usize]).collect();
    let nodes_max = graph.nodes.len().saturating_mul(NODES_PER_NODE).max(NODES_MIN);
    Ok(Saturated { egraph, outputs, nodes_max })
}

/// Applies rules until nothing is new; gives them back compiled.
fn apply_all(
    it: &mut Saturated,
    rules: impl Iterator<Item = &'static Rule>,
    done: &mut Activities,
) -> Result<Vec<Compiled>, String> {
    let rules = rules.map(Compiled::new).collect::<Result<Vec<_>, _>>()?;
    saturate(&mut it.egraph, &rules, Limits { rounds: ROUNDS_MAX, nodes: it.nodes_max }, done)?;
    Ok(rules)
}

/// The optimised graph, and what happened.
pub fn explain(graph: &Graph, options: &Options) -> Result<(Graph, Explanation), String> {
    match stages(graph, options, &CostModel::with_table(options.costs.clone()))? {
        Err(said) => Ok((graph.clone(), said)),
        Ok(Stages { it, dag, choice, said }) => {
            let node = |id| dag.node(&it.egraph, &choice, id).cloned();
            Ok((to_graph(&it.egraph, graph, &it.outputs, &node)?, said))
        }
    }
}

/// A saturated e-graph with its cheapest graph.
struct Stages {
    it: Saturated,
    dag: Dag,
    choice: Choice,
    said: Explanation,
}

/// Saturates, extracts, merges products and extracts again; the explanation alone where the graph is left as it is.
fn stages(
    graph: &Graph,
    options: &Options,
    model: &CostModel,
) -> Result<Result<Stages, Explanation>, String> {
    let mut said = Explanation::default();
    let leave =
        |reason: &str, said: Explanation| Ok(Err(Explanation { skipped: Some(reason.to_owned()), ..said }));
    if let Some(reason) = refusal(graph) {
        return leave(reason, said);
    }
    let mut it = start(graph, options)?;
    let Some(dag) = Dag::new(&it.egraph, &it.outputs, model) else { return leave(TOO_MANY, said) };
    said.cost.0 = dag.best().map_or(0.0, |(_, cost)| cost);
    let rules = apply_all(&mut it, rules::with(options), &mut said.activities)?;
    near_misses(&it.egraph, &rules, &mut said.activities);
    let Some(dag) = Dag::new(&it.egraph, &it.outputs, model) else { return leave(TOO_MANY, said) };
    let cyclic = "no graph without a cycle was found";
    let Some((choice, _)) = dag.best() else { return leave(cyclic, said) };
    let groups = merge::products(&mut it.egraph, &dag, &choice, it.nodes_max * 2);
    let Some(dag) = Dag::new(&it.egraph, &it.outputs, model) else { return leave(TOO_MANY, said) };
    let Some((choice, merged)) = dag.extract(&groups, &it.egraph) else { return leave(cyclic, said) };
    said.merged = merged;
    said.cost.1 = dag.cost(&choice).unwrap_or_default();
    Ok(Ok(Stages { it, dag, choice, said }))
}
