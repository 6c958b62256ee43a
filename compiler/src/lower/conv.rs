//! Convolutions: the channels-last f32 kernel for constant weights, or a TileIR loop for everything else.

use super::matmul::{f32s, store_f32};
use super::movement::{Fill, padded};
use super::tile::{Body, strides};
use super::{Failure, Lowering};
use autoglm_ir::{DType, Dim, Node, interp};
use autoglm_runtime::cpu::pack;
use autoglm_runtime::program::{self as rt, StepKind};
use autoglm_runtime::tile::{BinaryOp, Instr, LaneId, ReduceOp, TileProgram};

pub(super) fn conv(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    if node.attrs.str("layout") == "nhwc" { kernel(cx, node) } else { general(cx, node) }
}

/// Begin and end padding of every axis, given those of the spatial axes that start at `first`.
fn pads(node: &Node, rank: usize, first: usize) -> (Vec<Dim>, Vec<Dim>) {
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
    let x = cx.graph.ty(node.args[0]).clone();
    let Some(weight_id) = cx.graph.constant(node.args[1]) else {
        return Err(Failure::Invalid("a channels-last convolution needs a constant weight".into()));
    };
    let weight = interp::const_tensor(cx.graph, weight_id).map_err(Failure::Invalid)?;
    let &[m, per_group, kh, kw] = weight.shape.as_slice() else {
        return Err(Failure::Invalid(format!("a weight of rank {}", weight.shape.len())));
    };
    let groups = node.attrs.int("groups").max(1) as usize;
    let shape = pack::ConvWeights { m, c: per_group, kernel: [kh, kw], groups };
    let too_large = || Failure::Unsupported(format!("a weight of {:?} in {groups} groups", weight.shape));
    let mut packed = vec![0f32; pack::packed_conv_len(&shape).ok_or_else(too_large)?];
    pack::pack_conv(&f32s(&weight.data), &shape, &mut packed).map_err(|e| Failure::Invalid(e.to_string()))?;
    drop(weight);
    let weight = store_f32(cx, &packed)?;
    let mut source = cx.value(node.args[0])?;
    let (before, after) = pads(node, 4, 1);
    let padded_shape: Vec<Dim> = (0..4).map(|i| &(&x.shape[i] + &before[i]) + &after[i]).collect();
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    if before.iter().chain(&after).any(|p| !p.is(0)) {
        source = padded(cx, source, (DType::F32, &x.shape), (&before, &after), Fill::Number(0.0))?;
    }
    let mut args = vec![source, weight];
    let bias = node.args.get(2).copied();
    if let Some(bias) = bias {
        args.push(cx.value(bias)?);
    }
    let pair = |cx: &mut Lowering<'_>, v: [usize; 2]| -> Result<[rt::Reg; 2], Failure> {
        Ok([cx.reg(&v[0].into())?, cx.reg(&v[1].into())?])
    };
    let ints = |name: &str| [node.attrs.ints(name)[0] as usize, node.attrs.ints(name)[1] as usize];
    let kind = StepKind::Conv {
        extents: extents(cx, &padded_shape)?,
        out_extents: [cx.reg(&out_shape[1])?, cx.reg(&out_shape[2])?],
        x: cx.access(&0.into(), &strides(&padded_shape)[..3])?,
        out: cx.access(&0.into(), &strides(&out_shape)[..3])?,
        kernel: pair(cx, [kh, kw])?,
        stride: pair(cx, ints("strides"))?,
        dilation: pair(cx, ints("dilations"))?,
        groups: cx.reg(&groups.into())?,
        m: cx.reg(&m.into())?,
        bias: bias.is_some(),
        epilogue: None,
    };
    let out = cx.result(node.outs[0])?;
    cx.step(kind, args, vec![out]);
    Ok(())
}

/// Any rank, element type and weight: a loop over n, groups, channels and positions with a reduction over the window.
fn general(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (x, w) = (cx.graph.ty(node.args[0]).clone(), cx.graph.ty(node.args[1]).clone());
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let spatial = x.rank() - 2;
    let groups = Dim::from(node.attrs.int("groups").max(1));
    let source = cx.value(node.args[0])?;
    let (before, after) = pads(node, x.rank(), 2);
    let padded_shape: Vec<Dim> = (0..x.rank()).map(|i| &(&x.shape[i] + &before[i]) + &after[i]).collect();
    let source = if before.iter().chain(&after).all(|p| p.is(0)) {
        source
    } else {
        padded(cx, source, (x.dtype, &x.shape), (&before, &after), Fill::Number(0.0))?
    };
    let whole = || Failure::Invalid("the groups do not divide the channels".into());
    let per_group = w.shape[0].exact_div(&groups).ok_or_else(whole)?;
    // Loop: n, group, m/group, positions | c/group, window.
    let mut dims = vec![out_shape[0].clone(), groups, per_group.clone()];
    dims.extend_from_slice(&out_shape[2..]);
    dims.extend_from_slice(&w.shape[1..]);
    let (xs, ws) = (strides(&padded_shape), strides(&w.shape));
    let zero = || Dim::from(0);
    let mut over_x = vec![xs[0].clone(), &xs[1] * &w.shape[1], zero()];
    let mut over_w = vec![zero(), &ws[0] * &per_group, ws[0].clone()];
    let scaled = |name: &str, i: usize| &xs[2 + i] * &Dim::from(node.attrs.ints(name)[i]);
    over_x.extend((0..spatial).map(|i| scaled("strides", i)));
    over_w.extend((0..spatial).map(|_| zero()));
    over_x.push(xs[1].clone());
    over_x.extend((0..spatial).map(|i| scaled("dilations", i)));
    over_w.extend_from_slice(&ws[1..]);
    let mut body = Body::new(&dims, (0..dims.len()).collect());
    let weight = cx.value(node.args[1])?;
    let (a, b) = (body.load(source, over_x), body.load(weight, over_w));
    let src = body.push(Instr::Binary(BinaryOp::Mul, a, b));
    let mut fold = super::reduce::fold(ReduceOp::Sum, src);
    if let Some(bias) = node.args.get(2) {
        let bias = cx.value(*bias)?;
        let mut over = vec![zero(), per_group, Dim::from(1)];
        over.resize(dims.len(), zero());
        add_after(&mut body, &mut fold, bias, over);
    }
    let out = cx.result(node.outs[0])?;
    body.finish(cx, Some((1 + spatial as u8, fold)), out)
}

/// Adds a tensor to the result of the only reduction, in the epilogue.
fn add_after(body: &mut Body, fold: &mut TileProgram, value: rt::ValueId, over: Vec<Dim>) {
    let arg = body.epilogue_arg(value, over);
    let sum: LaneId = 2;
    fold.epilogue =
        vec![Instr::Load { arg }, Instr::Binary(BinaryOp::Add, 0, 1), Instr::Store { out: 0, src: sum }];
}
