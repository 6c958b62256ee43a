//! Channels-last layout for two-dimensional convolutions and pools.
//!
//! Every such node is wrapped: transpose to NHWC, the node with `layout = "nhwc"`, transpose back. Elementwise nodes,
//! concatenations, pads and reductions then compute on the NHWC side of such a transpose, so that it moves down the
//! graph until it meets its inverse and both vanish.

use crate::Options;
use crate::emitter::{Emitter, Keep, rebuild};
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, DType, Dim, Graph, Node, ValueId};

/// From NCHW to NHWC.
const TO_LAST: [i64; 4] = [0, 2, 3, 1];
/// From NHWC to NCHW.
const TO_FIRST: [i64; 4] = [0, 3, 1, 2];

/// Runs the pass; `keep` says what becomes of the model's own nodes.
pub(crate) fn run(graph: &Graph, options: &Options, keep: Keep) -> Result<Graph, String> {
    rebuild(graph, options, keep, &mut |e, node, args| {
        if let Some(out) = wrap(e, node, &args)? {
            return Ok(vec![out]);
        }
        if let Some(out) = sink(e, node, &args)? {
            return Ok(vec![out]);
        }
        e.node(node, node.attrs.clone(), args)
    })
}

fn perm(p: [i64; 4]) -> Attrs {
    Attrs::new([("perm", Attr::Ints(p.to_vec()))])
}

fn wrap(e: &mut Emitter<'_>, node: &Node, args: &[ValueId]) -> Result<Option<ValueId>, String> {
    let spatial = matches!(node.op.name(), "conv" | "max_pool" | "avg_pool");
    let Some(&x) = args.first() else { return Ok(None) };
    let ty = e.graph.ty(x);
    if !spatial || ty.rank() != 4 || ty.dtype != DType::F32 || !node.attrs.str("layout").is_empty() {
        return Ok(None);
    }
    // Only a constant weight can be packed for the channels-last kernel.
    if args.get(1).is_some_and(|w| e.graph.constant(*w).is_none()) {
        return Ok(None);
    }
    let last = e.op("transpose", perm(TO_LAST), vec![x], &node.loc)?;
    let mut new_args = args.to_vec();
    new_args[0] = last;
    let attrs = node.attrs.with("layout", Attr::Str("nhwc".into()));
    let out = e.node(node, attrs, new_args)?[0];
    e.op("transpose", perm(TO_FIRST), vec![out], &node.loc).map(Some)
}

/// The channels-last value behind a transpose to NCHW, also behind a reshape that is one: of an image of one pixel, say.
fn behind(e: &Emitter<'_>, v: ValueId) -> Option<ValueId> {
    let node = e.graph.producer(v)?;
    let inner = *node.args.first()?;
    let shape = &e.graph.ty(inner).shape;
    let moves = match node.op.name() {
        "transpose" => node.attrs.ints("perm") == TO_FIRST,
        "reshape" if shape.len() == 4 => {
            let order = TO_FIRST.map(|axis| axis as usize);
            let wide: Vec<usize> = order.into_iter().filter(|axis| !shape[*axis].is(1)).collect();
            wide.is_sorted() && order.iter().map(|axis| &shape[*axis]).eq(node.attrs.dims("shape"))
        }
        _ => false,
    };
    moves.then_some(inner)
}

/// op(transpose(x), ..) = transpose(op(x, ..)) for operators that do not care where an axis is.
fn sink(e: &mut Emitter<'_>, node: &Node, args: &[ValueId]) -> Result<Option<ValueId>, String> {
    if !args.iter().any(|a| behind(e, *a).is_some()) {
        return Ok(None);
    }
    let name = node.op.name();
    let elementwise = node.op.def().class == Fusion::Elementwise;
    let data_args = if name == "pad" { 1 } else { args.len() };
    let attrs = match name {
        _ if elementwise => node.attrs.clone(),
        "concat" => {
            let Some(axis) = TO_LAST.iter().position(|a| *a == from_start(node.attrs.int("axis"))) else {
                return Ok(None);
            };
            node.attrs.with("axis", Attr::Int(axis as i64))
        }
        "pad" => {
            let moved =
                |n| Attr::Dims(TO_LAST.iter().map(|a| node.attrs.dims(n)[*a as usize].clone()).collect());
            node.attrs.with("before", moved("before")).with("after", moved("after"))
        }
        // A sum or product over other strides adds in another order.
        "reduce_sum" | "reduce_prod" if e.options.strict => return Ok(None),
        "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod" if node.attrs.flag("keepdims") => {
            let axes: Vec<i64> = node.attrs.ints("axes").iter().map(|a| from_start(*a)).collect();
            let moved = (0..4i64).filter(|i| axes.contains(&TO_LAST[*i as usize])).collect();
            node.attrs.with("axes", Attr::Ints(moved))
        }
        _ => return Ok(None),
    };
    let rank4 = node.outs.len() == 1 && args[..data_args].iter().all(|a| e.graph.ty(*a).rank() <= 4);
    if !rank4 {
        return Ok(None);
    }
    let mut moved = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        moved.push(if i < data_args { to_last(e, node, *arg)? } else { *arg });
    }
    let out = e.node(node, attrs, moved)?[0];
    e.op("transpose", perm(TO_FIRST), vec![out], &node.loc).map(Some)
}

/// An axis of four counted from the start; negative ones count from the end.
fn from_start(axis: i64) -> i64 {
    if axis < 0 { axis + 4 } else { axis }
}

/// The channels-last form of an argument of at most four dimensions.
fn to_last(e: &mut Emitter<'_>, node: &Node, v: ValueId) -> Result<ValueId, String> {
    if let Some(last) = behind(e, v) {
        return Ok(last);
    }
    let ty = e.graph.ty(v).clone();
    if ty.rank() == 0 {
        return Ok(v);
    }
    let mut shape = vec![Dim::from(1); 4 - ty.rank()];
    shape.extend(ty.shape);
    let v = e.op("reshape", Attrs::new([("shape", Attr::Dims(shape))]), vec![v], &node.loc)?;
    e.op("transpose", perm(TO_LAST), vec![v], &node.loc)
}
