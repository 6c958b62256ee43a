//! How operators carry the order of their axes.
//!
//! Two axes have one order if exchanging elements along one of them exchanges what depends on them along the other, or if a
//! sum runs along both. An operator without a row here, and that is not elementwise, holds its axes where they are.

use super::Axes;
use autoglm_ir::dim::product;
use autoglm_ir::op::{Fusion, normalise_axis};
use autoglm_ir::{Node, ValueId};

type Carry = fn(&mut Axes<'_>, &Node);

/// What each operator does to the orders of its axes.
static CARRY: &[(&str, Carry)] = &[
    ("matmul", matmul),
    ("linear", linear),
    ("conv", conv),
    ("attention", attention),
    ("max_pool", pool),
    ("avg_pool", pool),
    ("softmax", pointwise),
    ("layer_norm", pointwise),
    ("reduce_sum", reduce),
    ("reduce_prod", reduce),
    ("reduce_max", reduce),
    ("reduce_min", reduce),
    ("transpose", transpose),
    ("reshape", reshape),
    ("expand", pointwise),
    ("slice", slice),
    ("concat", concat),
    ("pad", pad),
    ("gather", gather),
];

/// Relates the axes of the arguments and results of a node.
pub(super) fn carry(axes: &mut Axes<'_>, node: &Node) {
    let row = CARRY.iter().find(|(name, _)| *name == node.op.name());
    match row {
        Some((_, carry)) => carry(axes, node),
        None if node.op.def().class == Fusion::Elementwise => pointwise(axes, node),
        None => axes.hold_all(node),
    }
}

/// Elements meet at their own index, or are broadcast. Folds along the last axis see all of its elements alike.
fn pointwise(axes: &mut Axes<'_>, node: &Node) {
    let out = node.outs[0];
    let rank = axes.rank(out);
    for arg in &node.args {
        let missing = rank - axes.rank(*arg);
        for axis in 0..axes.rank(*arg) {
            let wide = !axes.extent(*arg, axis).is(1) || axes.extent(out, axis + missing).is(1);
            if wide {
                axes.tie((*arg, axis), (out, axis + missing));
            }
        }
    }
}

/// Ties axes of leading extents that broadcast, all but the last two.
fn batches(axes: &mut Axes<'_>, arg: ValueId, out: ValueId) {
    let (rank, outer) = (axes.rank(arg), axes.rank(out));
    for axis in 0..rank.saturating_sub(2) {
        let to = axis + outer - rank;
        if !axes.extent(arg, axis).is(1) || axes.extent(out, to).is(1) {
            axes.tie((arg, axis), (out, to));
        }
    }
}

fn matmul(axes: &mut Axes<'_>, node: &Node) {
    let ([a, b], out) = ([node.args[0], node.args[1]], node.outs[0]);
    let (i, j, k) = (axes.rank(a), axes.rank(b), axes.rank(out));
    if i < 2 || j < 2 {
        return axes.hold_all(node);
    }
    batches(axes, a, out);
    batches(axes, b, out);
    axes.tie((a, i - 1), (b, j - 2));
    axes.tie((a, i - 2), (out, k - 2));
    axes.tie((b, j - 1), (out, k - 1));
}

fn linear(axes: &mut Axes<'_>, node: &Node) {
    let ([x, w], out) = ([node.args[0], node.args[1]], node.outs[0]);
    let last = axes.rank(x) - 1;
    (0..last).for_each(|axis| axes.tie((x, axis), (out, axis)));
    axes.tie((x, last), (w, 0));
    axes.tie((w, 1), (out, last));
    node.args.get(2).into_iter().for_each(|bias| axes.tie((*bias, 0), (out, last)));
}

fn conv(axes: &mut Axes<'_>, node: &Node) {
    let ([x, w], out) = ([node.args[0], node.args[1]], node.outs[0]);
    let depthwise = axes.extent(w, 1).is(1) && axes.extent(w, 0) == axes.extent(x, 1);
    let full = node.attrs.int("groups") == 1;
    if !node.attrs.str("layout").is_empty() || !full && !depthwise {
        return axes.hold_all(node);
    }
    for v in [x, w, out] {
        (2..axes.rank(v)).for_each(|axis| axes.hold(v, axis));
    }
    axes.tie((x, 0), (out, 0));
    axes.tie((x, 1), (w, usize::from(full)));
    axes.tie((w, 0), (out, 1));
    node.args.get(2).into_iter().for_each(|bias| axes.tie((*bias, 0), (out, 1)));
}

/// Rows of queries and keys meet in a sum along their last axis; values are averaged.
fn attention(axes: &mut Axes<'_>, node: &Node) {
    let ([q, k, v], out) = ([node.args[0], node.args[1], node.args[2]], node.outs[0]);
    for value in node.args.iter().copied().chain([out]) {
        let heads = if node.args.get(3) == Some(&value) { 4 } else { 3 };
        (0..axes.rank(value).min(heads)).for_each(|axis| axes.hold(value, axis));
    }
    axes.tie((q, 3), (k, 3));
    axes.tie((v, 3), (out, 3));
}

fn pool(axes: &mut Axes<'_>, node: &Node) {
    let (x, out) = (node.args[0], node.outs[0]);
    if !node.attrs.str("layout").is_empty() {
        return axes.hold_all(node);
    }
    for axis in 0..axes.rank(x) {
        if axis < 2 {
            axes.tie((x, axis), (out, axis));
        } else {
            axes.hold(x, axis);
            axes.hold(out, axis);
        }
    }
}

fn reduce(axes: &mut Axes<'_>, node: &Node) {
    let (x, out) = (node.args[0], node.outs[0]);
    let rank = axes.rank(x);
    let along: Vec<usize> =
        node.attrs.ints("axes").iter().filter_map(|axis| normalise_axis(*axis, rank).ok()).collect();
    let mut to = 0;
    for axis in 0..rank {
        let gone = along.contains(&axis);
        if !gone {
            axes.tie((x, axis), (out, to));
        }
        to += usize::from(!gone || node.attrs.flag("keepdims"));
    }
}

fn transpose(axes: &mut Axes<'_>, node: &Node) {
    for (to, from) in node.attrs.ints("perm").iter().enumerate() {
        axes.tie((node.args[0], *from as usize), (node.outs[0], to));
    }
}

/// An axis stays where its extent and the number of elements within one of its steps do.
fn reshape(axes: &mut Axes<'_>, node: &Node) {
    let (x, out) = (node.args[0], node.outs[0]);
    let within = |axes: &Axes<'_>, v, axis: usize| product(&axes.shape(v)[axis + 1..]);
    let mut kept = vec![false; axes.rank(out)];
    for axis in 0..axes.rank(x) {
        let same = |to: &usize| {
            !kept[*to]
                && axes.extent(x, axis) == axes.extent(out, *to)
                && within(axes, x, axis) == within(axes, out, *to)
        };
        match (0..kept.len()).find(same) {
            Some(to) => {
                kept[to] = true;
                axes.tie((x, axis), (out, to));
            }
            None => axes.hold(x, axis),
        }
    }
    kept.iter().enumerate().filter(|(_, kept)| !**kept).for_each(|(to, _)| axes.hold(out, to));
}

fn slice(axes: &mut Axes<'_>, node: &Node) {
    let (x, out) = (node.args[0], node.outs[0]);
    let [starts, sizes] = ["starts", "sizes"].map(|name| node.attrs.dims(name));
    for (axis, step) in node.attrs.ints("steps").iter().enumerate() {
        let whole = starts[axis].is(0) && sizes[axis] == *axes.extent(x, axis) && *step == 1;
        axes.tie_if(whole, (x, axis), (out, axis));
    }
}

fn concat(axes: &mut Axes<'_>, node: &Node) {
    let out = node.outs[0];
    let joined = normalise_axis(node.attrs.int("axis"), axes.rank(out)).ok();
    for arg in &node.args {
        (0..axes.rank(out)).for_each(|axis| axes.tie_if(joined != Some(axis), (*arg, axis), (out, axis)));
    }
}

fn pad(axes: &mut Axes<'_>, node: &Node) {
    let (x, out) = (node.args[0], node.outs[0]);
    let [before, after] = ["before", "after"].map(|name| node.attrs.dims(name));
    for (axis, (before, after)) in before.iter().zip(after).enumerate() {
        axes.tie_if(before.is(0) && after.is(0), (x, axis), (out, axis));
    }
}

fn gather(axes: &mut Axes<'_>, node: &Node) {
    let ([x, index], out) = ([node.args[0], node.args[1]], node.outs[0]);
    let (rank, inner) = (axes.rank(x), axes.rank(index));
    let Ok(at) = normalise_axis(node.attrs.int("axis"), rank) else { return axes.hold_all(node) };
    axes.hold(x, at);
    (0..at).for_each(|axis| axes.tie((x, axis), (out, axis)));
    (0..inner).for_each(|axis| axes.tie((index, axis), (out, at + axis)));
    (at + 1..rank).for_each(|axis| axes.tie((x, axis), (out, axis + inner - 1)));
}
