//! Reductions as TileIR loops.

use super::tile::{Body, lane};
use super::{Failure, Lowering};
use autoglm_ir::{Dim, Node};
use autoglm_runtime::tile::{BinaryOp, Instr, Reduce, ReduceOp, TileProgram};

/// `reduce_*`, `arg_max`, `arg_min`: one loop, kept dimensions outside, reduced ones inside.
pub(super) fn reduce(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let x = node.args[0];
    let shape = cx.graph.ty(x).shape.clone();
    let last = node.attrs.flag("last");
    let (op, axes) = match node.op.name() {
        "reduce_sum" => (ReduceOp::Sum, node.attrs.ints("axes").to_vec()),
        "reduce_prod" => (ReduceOp::Prod, node.attrs.ints("axes").to_vec()),
        "reduce_max" => (ReduceOp::Max, node.attrs.ints("axes").to_vec()),
        "reduce_min" => (ReduceOp::Min, node.attrs.ints("axes").to_vec()),
        name => {
            let op = match (name == "arg_max", last) {
                (true, false) => ReduceOp::ArgMaxFirst,
                (true, true) => ReduceOp::ArgMaxLast,
                (false, false) => ReduceOp::ArgMinFirst,
                (false, true) => ReduceOp::ArgMinLast,
            };
            (op, vec![node.attrs.int("axis")])
        }
    };
    let (reduced, kept): (Vec<usize>, Vec<usize>) =
        (0..shape.len()).partition(|a| axes.contains(&(*a as i64)));
    let order = kept.into_iter().chain(reduced.iter().copied()).collect();
    let mut body = Body::new(&shape, order);
    let src = body.lane(cx, x)?;
    let out = cx.result(node.outs[0])?;
    if reduced.is_empty() {
        body.push(Instr::Store { out: 0, src });
        return body.finish(cx, None, out);
    }
    let program = fold(op, src);
    body.finish(cx, Some((reduced.len() as u8, program)), out)
}

/// One reduction whose result is stored.
pub(super) fn fold(op: ReduceOp, src: u16) -> TileProgram {
    TileProgram {
        reduces: vec![Reduce { op, src }],
        epilogue: vec![Instr::Store { out: 0, src: 0 }],
        ..TileProgram::default()
    }
}

/// `cum_sum`: out[i] sums x[j] over j <= i, as one reduction over j of the masked input.
pub(super) fn cum_sum(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let x = node.args[0];
    let ty = cx.graph.ty(x).clone();
    let axis = node.attrs.int("axis") as usize;
    let extent = ty.shape.get(axis).cloned().ok_or_else(|| Failure::Invalid("axis out of range".into()))?;
    // The loop has one more dimension, last: the summed position j.
    let mut shape = ty.shape.clone();
    shape.push(extent);
    let rank = shape.len();
    let mut body = Body::new(&shape, (0..rank).collect());
    let id = cx.value(x)?;
    let mut strides = super::tile::strides(&ty.shape);
    let along = std::mem::replace(&mut strides[axis], Dim::from(0));
    strides.push(along);
    let element = body.load(id, strides);
    let i = body.push(Instr::Index { dim: axis as u8 });
    let j = body.push(Instr::Index { dim: (rank - 1) as u8 });
    let op = match (node.attrs.flag("reverse"), node.attrs.flag("exclusive")) {
        (false, false) => BinaryOp::Le,
        (false, true) => BinaryOp::Lt,
        (true, false) => BinaryOp::Ge,
        (true, true) => BinaryOp::Gt,
    };
    let cond = body.push(Instr::Binary(op, j, i));
    let zero = body.constant(lane(ty.dtype), 0.0);
    let src = body.push(Instr::Select { cond, a: element, b: zero });
    let out = cx.result(node.outs[0])?;
    body.finish(cx, Some((1, fold(ReduceOp::Sum, src))), out)
}
