//! Convolutions: the channels-last f32 kernel for constant weights, or a TileIR loop for everything else.

use super::movement::{Fill, padded};
use super::place::{Place, Writes};
use super::tile::Body;
use super::view::View;
use super::{Failure, Lowering, epilogue, weights};
use autoglm_ir::{Dim, Node, ValueId};
use autoglm_runtime::program::{self as rt, StepKind};
use autoglm_runtime::tile::{BinaryOp, Instr, LaneId, ReduceOp, TileProgram};

pub(super) fn conv(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    if node.attrs.str("layout") == "nhwc" { kernel(cx, node) } else { general(cx, node) }
}

/// Begin and end padding of every axis, given those of the spatial axes that start at `first`.
pub(super) fn pads(node: &Node, rank: usize, first: usize) -> (Vec<Dim>, Vec<Dim>) {
    let spatial = node.attrs.ints("pads");
    let half = spatial.len() / 2;
    let mut both = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
    for i in 0..half {
        both.0[first + i] = spatial[i].into();
        both.1[first + i] = spatial[half + i].into();
    }
    both
}

/// Registers of the extents of a channels-last tensor of images.
pub(super) fn extents(cx: &mut Lowering<'_>, shape: &[Dim]) -> Result<[rt::Reg; 4], Failure> {
    Ok([cx.reg(&shape[0])?, cx.reg(&shape[1])?, cx.reg(&shape[2])?, cx.reg(&shape[3])?])
}

fn kernel(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let Some(weight_id) = cx.graph.constant(node.args[1]) else {
        return Err(Failure::Invalid("a channels-last convolution needs a constant weight".into()));
    };
    let groups = node.attrs.int("groups").max(1) as usize;
    let Some(&[m, _, kh, kw]) = cx.graph.ty(node.args[1]).concrete().as_deref() else {
        return Err(Failure::Invalid(format!("a weight of type {}", cx.graph.ty(node.args[1]))));
    };
    let winograd = node.attrs.str("algorithm") == "winograd";
    let weight = weights::convolution(cx, weight_id, groups, winograd)?;
    let x = input(cx, node)?;
    let mut args = vec![x.id];
    args.extend(weight.args());
    let bias = node.args.get(2).copied();
    if let Some(bias) = bias {
        args.push(cx.dense(bias)?);
    }
    let tail = epilogue::of_contraction(cx, node)?;
    if let Some(tail) = &tail {
        args.extend(&tail.args);
    }
    let out = cx.target(cx.result_of(node), &args, Writes::Lines)?;
    let epilogue = match tail {
        Some(tail) => {
            let reads = tail.reads.clone();
            Some(tail.emit(cx, &reads)?)
        }
        None => None,
    };
    let pair = |cx: &mut Lowering<'_>, v: [usize; 2]| -> Result<[rt::Reg; 2], Failure> {
        Ok([cx.reg(&v[0].into())?, cx.reg(&v[1].into())?])
    };
    let ints = |name: &str| [node.attrs.ints(name)[0] as usize, node.attrs.ints(name)[1] as usize];
    let extents = extents(cx, &x.view.shape)?;
    let out_extents = [cx.reg(&out.view.shape[1])?, cx.reg(&out.view.shape[2])?];
    let (x, to, bias, m) =
        (cx.lines_access(&x.view)?, cx.lines_access(&out.view)?, bias.is_some(), cx.reg(&m.into())?);
    let kind = if winograd && weight.sparsity.is_none() {
        StepKind::Winograd { extents, out_extents, x, out: to, m, bias, epilogue }
    } else {
        StepKind::Conv {
            extents,
            out_extents,
            x,
            out: to,
            kernel: pair(cx, [kh, kw])?,
            stride: pair(cx, ints("strides"))?,
            dilation: pair(cx, ints("dilations"))?,
            groups: cx.reg(&groups.into())?,
            m,
            sparsity: weight.sparsity,
            bias,
            epilogue,
        }
    };
    cx.step(kind, args, vec![out.id]);
    Ok(())
}

/// The padded input of the channels-last kernel.
fn input(cx: &mut Lowering<'_>, node: &Node) -> Result<Place, Failure> {
    let (before, after) = pads(node, 4, 1);
    if before.iter().chain(&after).all(|p| p.is(0)) {
        return cx.readable(node.args[0], View::has_lines);
    }
    padded_once(cx, node.args[0], (&before, &after))
}

/// An argument padded with zeros: filled by the first convolution that needs it.
fn padded_once(
    cx: &mut Lowering<'_>,
    v: ValueId,
    (before, after): (&[Dim], &[Dim]),
) -> Result<Place, Failure> {
    let source = cx.place(v)?;
    let out = cx.padded_input(v, (before, after))?;
    if cx.filled.insert(out.id) {
        let dtype = cx.graph.ty(v).dtype;
        padded(cx, &source, (before, after), (dtype, &Fill::Number(0.0)), &out)?;
    }
    Ok(out)
}

/// Any rank, element type and weight: a loop over n, groups, channels and positions with a reduction over the window.
fn general(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (x, w) = (cx.graph.ty(node.args[0]).clone(), cx.graph.ty(node.args[1]).clone());
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let spatial = x.rank() - 2;
    let groups = Dim::from(node.attrs.int("groups").max(1));
    let (before, after) = pads(node, x.rank(), 2);
    let source = if before.iter().chain(&after).all(|p| p.is(0)) {
        cx.place(node.args[0])?
    } else {
        padded_once(cx, node.args[0], (&before, &after))?
    };
    let whole = || Failure::Invalid("the groups do not divide the channels".into());
    let per_group = w.shape[0].exact_div(&groups).ok_or_else(whole)?;
    // Loop: n, group, m/group, positions | c/group, window.
    let mut dims = vec![out_shape[0].clone(), groups, per_group.clone()];
    dims.extend_from_slice(&out_shape[2..]);
    dims.extend_from_slice(&w.shape[1..]);
    let weight = cx.place(node.args[1])?;
    let (xs, ws) = (&source.view.strides, &weight.view.strides);
    let zero = || Dim::from(0);
    let mut over_x = vec![xs[0].clone(), &xs[1] * &w.shape[1], zero()];
    let mut over_w = vec![zero(), &ws[0] * &per_group, ws[0].clone()];
    let scaled = |name: &str, i: usize| &xs[2 + i] * &Dim::from(node.attrs.ints(name)[i]);
    over_x.extend((0..spatial).map(|i| scaled("strides", i)));
    over_w.extend((0..spatial).map(|_| zero()));
    over_x.push(xs[1].clone());
    over_x.extend((0..spatial).map(|i| scaled("dilations", i)));
    over_w.extend_from_slice(&ws[1..]);
    let over = |place: &Place, strides: Vec<Dim>| {
        let view = View { shape: dims.clone(), offset: place.view.offset.clone(), strides };
        Place { id: place.id, view }
    };
    let mut body = Body::new();
    let (a, b) = (body.load(&over(&source, over_x)), body.load(&over(&weight, over_w)));
    let src = body.push(Instr::Binary(BinaryOp::Mul, a, b));
    let mut fold = super::reduce::fold(ReduceOp::Sum, src);
    let kept = &dims[..3 + spatial];
    if let Some(bias) = node.args.get(2) {
        let bias = cx.place(*bias)?;
        let stride = &bias.view.strides[0];
        let mut strides = vec![zero(), &per_group * stride, stride.clone()];
        strides.resize(kept.len(), zero());
        let view = View { shape: kept.to_vec(), offset: bias.view.offset.clone(), strides };
        add_after(&mut body, &mut fold, &Place { id: bias.id, view });
    }
    let out = cx.target(node.outs[0], &body.args, Writes::Any)?;
    // Splitting an axis is always a view.
    let view =
        out.view.reshape(kept).ok_or_else(|| Failure::Invalid("the channels have no stride".into()))?;
    body.finish_fold(cx, &dims, fold, None, &Place { id: out.id, view })
}

/// Adds a tensor to the result of the only reduction, in the epilogue.
fn add_after(body: &mut Body, fold: &mut TileProgram, value: &Place) {
    let arg = body.arg(value);
    let sum: LaneId = 2;
    fold.epilogue =
        vec![Instr::Load { arg }, Instr::Binary(BinaryOp::Add, 0, 1), Instr::Store { out: 0, src: sum }];
}
