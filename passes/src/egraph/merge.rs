//! Maximal merges of contractions that share their input: one product with the concatenated weights, of which each
//! takes a slice. Found once, over what extraction chose: pairwise rules would explode (`egraph.md`: 1.3 million nodes in
//! the fourth round). A merge pays only when all its slices are taken, so it is offered to the extraction as a group.

use super::extract::{Choice, Dag};
use super::rule::{Builder, Miss};
use autoglm_ir::egraph::{EGraph, ENode};
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, Dim};
use egg::Id;
use std::collections::{BTreeMap, BTreeSet};

/// Classes and the node that each of them has to take.
pub(crate) type Group = Vec<(Id, ENode)>;

/// A product with a constant weight that the choice contains.
struct Product {
    class: Id,
    weight: Id,
    bias: Option<Id>,
    /// Columns of the weight: extent of the result along the merged axis.
    columns: i64,
}

/// What products must share to become one: the input and, for convolutions, the attributes.
type Shared = (Id, Option<Attrs>);

/// Adds the merged products to the e-graph.
pub(crate) fn products(egraph: &mut EGraph, dag: &Dag, choice: &Choice, nodes_max: usize) -> Vec<Group> {
    let mut sharing: BTreeMap<Shared, Vec<Product>> = BTreeMap::new();
    let needed = dag.reachable(choice).unwrap_or_default();
    let loops = read_by_loops(egraph, dag, choice, &needed);
    for class in needed {
        // Behind a convolution an elementwise operator is a part of its step, behind a slice it would be one more.
        let conv = matches!(dag.node(egraph, choice, class), Some(ENode::Op(op, _)) if op.name() == "conv");
        if conv && loops.contains(&class) {
            continue;
        }
        if let Some((shared, product)) = product(egraph, dag, choice, class) {
            sharing.entry(shared).or_default().push(product);
        }
    }
    let groups = sharing
        .into_iter()
        .filter(|(_, products)| products.len() > 1)
        .filter_map(|(shared, products)| merge(egraph, shared, &products, nodes_max).ok())
        .collect();
    egraph.rebuild();
    groups
}

/// Classes that an elementwise operator of the choice reads.
fn read_by_loops(egraph: &EGraph, dag: &Dag, choice: &Choice, needed: &[Id]) -> BTreeSet<Id> {
    let read = needed.iter().flat_map(|class| match dag.node(egraph, choice, *class) {
        Some(ENode::Op(op, children)) if op.def().class == Fusion::Elementwise => &children[1..],
        _ => &[],
    });
    read.map(|class| egraph.find(*class)).collect()
}

/// A linear product, or a convolution of single pixels without groups, that the choice contains.
fn product(egraph: &EGraph, dag: &Dag, choice: &Choice, class: Id) -> Option<(Shared, Product)> {
    let ENode::Op(op, children) = dag.node(egraph, choice, class)? else { return None };
    let constant = |id: Id| egraph[id].data.constant.map(|_| egraph.find(id));
    if !matches!(op.name(), "linear" | "conv") {
        return None;
    }
    let (x, weight) = (egraph.find(children[1]), constant(children[2])?);
    let bias = match children.get(3) {
        Some(bias) => Some(constant(*bias)?),
        None => None,
    };
    let shape = &egraph[weight].data.ty()?.shape;
    let (attrs, columns) = match op.name() {
        "linear" => (None, shape.get(1)?.as_const()?),
        _ => {
            let attrs = egraph[children[0]].data.attrs()?;
            let pixels = shape.iter().skip(2).all(|d| d.is(1));
            if !pixels || attrs.int("groups") != 1 || !attrs.str("layout").is_empty() {
                return None;
            }
            (Some(attrs.clone()), shape.first()?.as_const()?)
        }
    };
    egraph[x].data.constant.is_none().then_some(((x, attrs), Product { class, weight, bias, columns }))
}

fn merge(
    egraph: &mut EGraph,
    (x, conv): Shared,
    products: &[Product],
    nodes_max: usize,
) -> Result<Group, Miss> {
    let mut b = Builder::free(egraph, nodes_max);
    let dtype = b.ty(x)?.dtype;
    let axis = |axis| Attrs::new([("axis", Attr::Int(axis))]);
    let weights: Vec<Id> = products.iter().map(|p| p.weight).collect();
    let mut args = vec![x, b.op("concat", axis(i64::from(conv.is_none())), &weights)?];
    if products.iter().any(|p| p.bias.is_some()) {
        let biases = products
            .iter()
            .map(|p| p.bias.map_or_else(|| b.fill(dtype, &p.columns.into(), 0.0), Ok))
            .collect::<Result<Vec<_>, _>>()?;
        args.push(b.op("concat", axis(0), &biases)?);
    }
    if args[1..].iter().any(|weight| b.data(*weight).constant.is_none()) {
        return Err("the merged weights are too large to be computed here".into());
    }
    let (op, along) = if conv.is_some() { ("conv", 1) } else { ("linear", b.ty(x)?.rank() - 1) };
    let product = b.op(op, conv.unwrap_or_default(), &args)?;
    let mut group = Vec::with_capacity(products.len());
    let mut start = 0;
    for part in products {
        let slice = b.slice(product, along, start, &Dim::from(part.columns))?;
        start = i64::checked_add(start, part.columns).ok_or("too many columns")?;
        let node = b.node(slice, "slice")?;
        b.same(part.class, slice)?;
        group.push((part.class, node));
    }
    // It computes what all of them do.
    let nodes: BTreeSet<String> =
        products.iter().filter_map(|p| Some(b.data(p.class).loc.as_deref()?.to_owned())).collect();
    b.locate(product, &nodes.into_iter().collect::<Vec<_>>().join("+"));
    Ok(group)
}
