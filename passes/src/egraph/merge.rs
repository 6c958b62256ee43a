//! Maximal merges of contractions that share their input: one product with the concatenated weights, of which each
//! takes a slice. Found once, over what extraction chose: pairwise rules would explode (`egraph.md`: 1.3 million nodes in
//! the fourth round). A merge pays only when all its slices are taken, so it is offered to the extraction as a group.

use super::extract::{Choice, Dag};
use super::rule::{Builder, Miss};
use autoglm_ir::egraph::{EGraph, ENode};
use autoglm_ir::{Attr, Attrs, Dim};
use egg::Id;
use std::collections::BTreeMap;

/// Classes and the node that each of them has to take.
pub(crate) type Group = Vec<(Id, ENode)>;

/// A product with a constant weight that the choice contains.
struct Linear {
    class: Id,
    weight: Id,
    bias: Option<Id>,
    columns: i64,
}

/// Adds the merged products to the e-graph.
pub(crate) fn linears(egraph: &mut EGraph, dag: &Dag, choice: &Choice, nodes_max: usize) -> Vec<Group> {
    let mut sharing: BTreeMap<Id, Vec<Linear>> = BTreeMap::new();
    for class in dag.reachable(choice).unwrap_or_default() {
        if let Some((x, linear)) = linear(egraph, dag, choice, class) {
            sharing.entry(x).or_default().push(linear);
        }
    }
    let groups = sharing
        .into_iter()
        .filter(|(_, linears)| linears.len() > 1)
        .filter_map(|(x, linears)| merge(egraph, x, &linears, nodes_max).ok())
        .collect();
    egraph.rebuild();
    groups
}

/// The shared input and the rest of a product that the choice contains.
fn linear(egraph: &EGraph, dag: &Dag, choice: &Choice, class: Id) -> Option<(Id, Linear)> {
    let ENode::Op(op, children) = dag.node(egraph, choice, class)? else { return None };
    if op.name() != "linear" {
        return None;
    }
    let constant = |id: Id| egraph[id].data.constant.map(|_| egraph.find(id));
    let (x, weight) = (egraph.find(children[1]), constant(children[2])?);
    let bias = match children.get(3) {
        Some(bias) => Some(constant(*bias)?),
        None => None,
    };
    let columns = egraph[weight].data.ty()?.shape.get(1)?.as_const()?;
    egraph[x].data.constant.is_none().then_some((x, Linear { class, weight, bias, columns }))
}

fn merge(egraph: &mut EGraph, x: Id, linears: &[Linear], nodes_max: usize) -> Result<Group, Miss> {
    let mut b = Builder::free(egraph, nodes_max);
    let dtype = b.ty(x)?.dtype;
    let axis = |axis| Attrs::new([("axis", Attr::Int(axis))]);
    let weights: Vec<Id> = linears.iter().map(|l| l.weight).collect();
    let mut args = vec![x, b.op("concat", axis(1), &weights)?];
    if linears.iter().any(|l| l.bias.is_some()) {
        let biases = linears
            .iter()
            .map(|l| l.bias.map_or_else(|| b.fill(dtype, &l.columns.into(), 0.0), Ok))
            .collect::<Result<Vec<_>, _>>()?;
        args.push(b.op("concat", axis(0), &biases)?);
    }
    if args[1..].iter().any(|weight| b.data(*weight).constant.is_none()) {
        return Err("the merged weights are too large to be computed here".into());
    }
    let product = b.op("linear", Attrs::default(), &args)?;
    let last = b.ty(product)?.rank() - 1;
    let mut group = Vec::with_capacity(linears.len());
    let mut start = 0;
    for linear in linears {
        let slice = b.slice(product, last, start, &Dim::from(linear.columns))?;
        start += linear.columns;
        let node = b.node(slice, "slice")?;
        b.same(linear.class, slice)?;
        group.push((linear.class, node));
    }
    Ok(group)
}
