//! The e-graph for people: as a picture, as data, and after one rule alone.

use super::cost::CostModel;
use super::extract::Dag;
use super::saturate::Activities;
use super::{Saturated, apply_all, refusal, start};
use crate::{Options, rules};
use autoglm_ir::Graph;
use autoglm_ir::egraph::{EGraph, ENode, to_graph};
use egg::{Id, Language};
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How an e-graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The language of Graphviz: a box a class, its nodes inside.
    Dot,
    /// The format of the crate `egraph-serialize`: nodes by id with operator, children, class and cost.
    Json,
}

impl Format {
    /// E-nodes that are written at most: a larger picture cannot be read, a larger file is of no use.
    fn nodes_max(self) -> usize {
        match self {
            Format::Dot => 2_000,
            Format::Json => 200_000,
        }
    }
}

/// The saturated e-graph of a graph; of the classes, those that its outputs may be built from.
///
/// # Errors
/// The graph is not optimised, or its e-graph is too large to be shown; a bug in a rule.
pub fn draw(graph: &Graph, options: &Options, format: Format) -> Result<String, String> {
    if let Some(reason) = refusal(graph) {
        return Err(format!("the graph has no e-graph: {reason}"));
    }
    let mut it = start(graph, options)?;
    apply_all(&mut it, rules::with(options), &mut Activities::default())?;
    let classes = reachable(&it.egraph, &it.outputs);
    let nodes: usize = classes.iter().map(|c| it.egraph[*c].nodes.len()).sum();
    if nodes > format.nodes_max() {
        return Err(format!(
            "the e-graph has {nodes} nodes, more than the {} that are shown: take a part of the model",
            format.nodes_max()
        ));
    }
    Ok(match format {
        Format::Dot => dot(&it.egraph, &it.outputs, &classes),
        Format::Json => json(&it.egraph, &it.outputs, &classes),
    })
}

/// The graph after one rule, used wherever it applies, and how often it fired; none if there is no rule of this name.
///
/// # Errors
/// The graph is not optimised; a bug in the rule.
pub fn apply_rule(graph: &Graph, name: &str, options: &Options) -> Result<Option<(Graph, usize)>, String> {
    let Some(rule) = rules::all().find(|r| r.name == name) else { return Ok(None) };
    if let Some(reason) = refusal(graph) {
        return Err(format!("the graph has no e-graph: {reason}"));
    }
    let mut it = start(graph, options)?;
    let old: BTreeSet<ENode> = it.egraph.nodes().iter().map(|n| canonical(&it.egraph, n)).collect();
    let mut done = Activities::default();
    apply_all(&mut it, std::iter::once(rule), &mut done)?;
    let Saturated { egraph, outputs, .. } = it;
    let old: BTreeSet<ENode> = old.iter().map(|n| canonical(&egraph, n)).collect();
    let model = CostModel::default();
    // What was there before is so dear that what the rule made is taken instead.
    let price = |node: &ENode| match node {
        ENode::Op(..) if old.contains(&canonical(&egraph, node)) => 1e12 + model.node(&egraph, node),
        _ => model.node(&egraph, node),
    };
    let dag = Dag::with(&egraph, &outputs, price).ok_or("the graph has too many values")?;
    let (choice, _) = dag.best().ok_or("no graph without a cycle was found")?;
    let after = to_graph(&egraph, graph, &outputs, &|id| dag.node(&egraph, &choice, id).cloned())?;
    Ok(Some((after, done.rules.get(name).map_or(0, |a| a.fired))))
}

fn canonical(egraph: &EGraph, node: &ENode) -> ENode {
    node.clone().map_children(|c| egraph.find(c))
}

/// Attributes are shown with their operator, not as children of it.
fn children<'n>(egraph: &'n EGraph, node: &'n ENode) -> impl Iterator<Item = Id> + 'n {
    let skip = usize::from(matches!(node, ENode::Op(..)));
    node.children().iter().skip(skip).map(|c| egraph.find(*c))
}

fn reachable(egraph: &EGraph, roots: &[Id]) -> BTreeSet<Id> {
    let mut seen = BTreeSet::new();
    let mut stack: Vec<Id> = roots.iter().map(|r| egraph.find(*r)).collect();
    while let Some(class) = stack.pop() {
        if seen.insert(class) {
            stack.extend(egraph[class].nodes.iter().flat_map(|n| children(egraph, n)));
        }
    }
    seen
}

/// The operator with its attributes; a constant with its number.
fn label(egraph: &EGraph, class: Id, node: &ENode) -> String {
    match node {
        ENode::Op(op, args) => match args.first().and_then(|a| egraph[*a].data.attrs()) {
            Some(attrs) if attrs.iter().next().is_some() => {
                format!("{} {}", op.name(), ENode::Attrs(attrs.clone()))
            }
            _ => op.name().to_owned(),
        },
        ENode::Const(_) => match egraph[class].data.uniform() {
            Some(number) => format!("{number}"),
            None => "constant".to_owned(),
        },
        other => other.to_string(),
    }
}

fn type_of(egraph: &EGraph, class: Id) -> String {
    egraph[class].data.ty().map(ToString::to_string).unwrap_or_default()
}

/// A string literal of Graphviz.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn dot(egraph: &EGraph, roots: &[Id], classes: &BTreeSet<Id>) -> String {
    let mut out = String::from("digraph egraph {\n  compound=true;\n  node [shape=box, style=rounded];\n");
    // Writing to a string does not fail.
    for class in classes {
        let _ = writeln!(out, "  subgraph cluster_{class} {{");
        let _ = writeln!(out, "    label={};", quoted(&format!("{class}: {}", type_of(egraph, *class))));
        for (i, node) in egraph[*class].nodes.iter().enumerate() {
            let _ = writeln!(out, "    n{class}_{i} [label={}];", quoted(&label(egraph, *class, node)));
        }
        out += "  }\n";
    }
    for class in classes {
        for (i, node) in egraph[*class].nodes.iter().enumerate() {
            for child in children(egraph, node) {
                let _ = writeln!(out, "  n{class}_{i} -> n{child}_0 [lhead=cluster_{child}];");
            }
        }
    }
    for (i, root) in roots.iter().enumerate() {
        let root = egraph.find(*root);
        let _ = writeln!(out, "  out{i} [shape=plaintext, label=\"output {i}\"];");
        let _ = writeln!(out, "  out{i} -> n{root}_0 [lhead=cluster_{root}];");
    }
    out + "}\n"
}

fn json(egraph: &EGraph, roots: &[Id], classes: &BTreeSet<Id>) -> String {
    let model = CostModel::default();
    let (mut nodes, mut class_data) = (Map::new(), Map::new());
    for class in classes {
        for (i, node) in egraph[*class].nodes.iter().enumerate() {
            let children: Vec<String> = children(egraph, node).map(|c| format!("{c}.0")).collect();
            let entry = json!({
                "op": label(egraph, *class, node),
                "children": children,
                "eclass": class.to_string(),
                // JSON has no infinity.
                "cost": model.node(egraph, node).min(f64::MAX),
            });
            nodes.insert(format!("{class}.{i}"), entry);
        }
        class_data.insert(class.to_string(), json!({ "type": type_of(egraph, *class) }));
    }
    let roots: Vec<String> = roots.iter().map(|r| egraph.find(*r).to_string()).collect();
    let whole = json!({ "nodes": nodes, "root_eclasses": roots, "class_data": class_data });
    format!("{whole:#}\n")
}
