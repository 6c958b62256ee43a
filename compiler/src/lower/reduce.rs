//! Reductions as TileIR loops.

use super::epilogue;
use super::place::{Place, Writes};
use super::tile::{Body, lane};
use super::view::Move;
use super::{Failure, Lowering};
use autoglm_ir::{DType, Dim, Node};
use autoglm_runtime::program::{PoolMode, StepKind};
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
    if op == ReduceOp::Sum && sum_of_image(cx, node, &axes)? {
        return Ok(());
    }
    let (reduced, kept): (Vec<usize>, Vec<usize>) =
        (0..shape.len()).partition(|a| axes.contains(&(*a as i64)));
    let mut body = Body::new();
    let src = body.lane(cx, x, vec![Move::Broadcast(shape.clone())])?;
    if reduced.is_empty() {
        let out = cx.target(node.outs[0], &body.args, Writes::Any)?;
        return body.finish_map(cx, src, &out);
    }
    let kept_shape: Vec<Dim> = kept.iter().map(|a| shape[*a].clone()).collect();
    let order: Vec<usize> = kept.into_iter().chain(reduced).collect();
    body.reads.iter_mut().for_each(|view| *view = view.permute(&order));
    let dims: Vec<Dim> = order.iter().map(|a| shape[*a].clone()).collect();
    let epilogue = epilogue::of_fold(cx, node, body.args.len(), &kept_shape)?;
    let reads = [body.args.as_slice(), epilogue.as_ref().map_or(&[], |e| e.args.as_slice())].concat();
    let out = cx.target(cx.result_of(node), &reads, Writes::Any)?;
    let view = out.view.reshape(&kept_shape);
    let view = view.ok_or_else(|| Failure::Invalid("axes of extent 1 have no stride".into()))?;
    body.finish_fold(cx, &dims, fold(op, src), epilogue, &Place { id: out.id, view })
}

/// The sum of the pixels of each channels-last f32 image, if that is what the node computes and no loop computes more along
/// with it: a pool over whole images.
fn sum_of_image(cx: &mut Lowering<'_>, node: &Node, axes: &[i64]) -> Result<bool, Failure> {
    let x = node.args[0];
    let ty = cx.graph.ty(x);
    let [n, height, width, c] = ty.shape.as_slice() else { return Ok(false) };
    let alone = !cx.plan.inline[x.0 as usize] && !cx.plan.tails.contains_key(&node.outs[0]);
    if !alone || ty.dtype != DType::F32 || !matches!(axes, [1, 2] | [2, 1]) {
        return Ok(false);
    }
    let one = || Dim::from(1);
    let (pixels, window) = ([n.clone(), one(), one(), c.clone()], [height, width].map(|d| d.larger(&one())));
    let from = cx.place(x)?;
    if !from.view.has_lines() {
        return Ok(false);
    }
    let out = cx.target(node.outs[0], &[from.id], Writes::Lines)?;
    let Some(view) = out.view.reshape(&pixels) else {
        return Err(Failure::Invalid("axes of extent 1 have no stride".into()));
    };
    let [zero, one] = [cx.reg(&0.into())?, cx.reg(&one())?];
    let kind = StepKind::Pool {
        mode: PoolMode::Sum,
        extents: super::conv::extents(cx, &from.view.shape)?,
        out_extents: [one; 2],
        x: cx.lines_access(&from.view)?,
        out: cx.lines_access(&view)?,
        kernel: [cx.reg(&window[0])?, cx.reg(&window[1])?],
        stride: [one; 2],
        dilation: [one; 2],
        pad: [zero; 2],
        pad_end: [zero; 2],
    };
    cx.step(kind, vec![from.id], vec![out.id]);
    Ok(true)
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
    let mut body = Body::new();
    let Place { id, mut view } = cx.place(x)?;
    let along = std::mem::replace(&mut view.strides[axis], Dim::from(0));
    view.strides.push(along);
    view.shape.clone_from(&shape);
    let element = body.load(&Place { id, view });
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
    let out = cx.target(node.outs[0], &[id], Writes::Any)?;
    body.finish_fold(cx, &shape, fold(ReduceOp::Sum, src), None, &out)
}
