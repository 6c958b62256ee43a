//! The e-graph optimiser: saturation with the rules of [`crate::rules`], extraction, merges.

mod cost;
mod extract;
mod lossy;
mod merge;
mod pattern;
mod rule;
mod saturate;

pub use cost::CostModel;
pub use rule::{Apply, Builder, Miss, Numerics, Rhs, Rule};
pub use saturate::{Activities, Activity};

use crate::{Options, rules};
use autoglm_ir::Graph;
use autoglm_ir::egraph::{FoldBudget, from_graph, to_graph};
use extract::Dag;
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
pub(crate) fn run(graph: &Graph, options: &Options) -> Result<Graph, String> {
    explain(graph, options).map(|(graph, _)| graph)
}

/// The optimised graph, and what happened.
pub fn explain(graph: &Graph, options: &Options) -> Result<(Graph, Explanation), String> {
    let mut said = Explanation::default();
    let leave = |reason: &str, mut said: Explanation| {
        said.skipped = Some(reason.to_owned());
        Ok((graph.clone(), said))
    };
    if graph.nodes.iter().any(|n| !n.regions.is_empty()) {
        return leave("control flow", said);
    }
    if graph.values.len() > extract::CLASSES_MAX {
        return leave("too many values", said);
    }
    let budget = FoldBudget { bytes: options.fold_total_bytes_max, work: options.fold_total_work_max };
    let (mut egraph, classes) = from_graph(graph, budget)?;
    let outputs: Vec<egg::Id> = graph.outputs.iter().map(|o| classes[o.value.0 as usize]).collect();
    let model = CostModel::default();
    let rules = rules::all()
        .filter(|r| !options.strict || r.numerics == Numerics::Exact)
        .filter(|r| r.numerics != Numerics::Approximate)
        .map(Compiled::new)
        .collect::<Result<Vec<_>, _>>()?;
    let skip = "too many values";
    let Some(dag) = Dag::new(&egraph, &outputs, &model) else { return leave(skip, said) };
    said.cost.0 = dag.extract(&[], &egraph).and_then(|(choice, _)| dag.cost(&choice)).unwrap_or_default();
    let nodes = graph.nodes.len().saturating_mul(NODES_PER_NODE).max(NODES_MIN);
    saturate(&mut egraph, &rules, Limits { rounds: ROUNDS_MAX, nodes }, &mut said.activities)?;
    near_misses(&egraph, &rules, &mut said.activities);
    let Some(dag) = Dag::new(&egraph, &outputs, &model) else { return leave(skip, said) };
    let cyclic = "no graph without a cycle was found";
    let Some((choice, _)) = dag.extract(&[], &egraph) else { return leave(cyclic, said) };
    let groups = merge::products(&mut egraph, &dag, &choice, nodes * 2);
    let Some(dag) = Dag::new(&egraph, &outputs, &model) else { return leave(skip, said) };
    let Some((choice, merged)) = dag.extract(&groups, &egraph) else { return leave(cyclic, said) };
    said.merged = merged;
    said.cost.1 = dag.cost(&choice).unwrap_or_default();
    let optimised = to_graph(&egraph, graph, &outputs, &|id| dag.node(&egraph, &choice, id).cloned())?;
    Ok((optimised, said))
}
