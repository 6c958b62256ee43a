//! Losses.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int};
use super::super::node::{Importer, NodeCx, row};
use super::norm::softmax_axis;
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("NegativeLogLikelihoodLoss", &[12, 13, 22], negative_log_likelihood),
    row("SoftmaxCrossEntropyLoss", &[12, 13], cross_entropy),
];

fn negative_log_likelihood(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, target) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let from = cx.dtype(x);
    let log = cx.cast(x, cx.wide(x))?;
    let y = likelihood(cx, n, log, target)?;
    Ok(vec![cx.cast(y, from)?])
}

fn cross_entropy(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, target) = (n.input(cx, 0)?, n.input(cx, 1)?);
    if cx.rank(x) < 2 {
        return Err(cx.invalid(codes::SHAPE, format!("needs [batch, classes, ...], got {}", cx.ty(x))));
    }
    let from = cx.dtype(x);
    let wide = cx.cast(x, cx.wide(x))?;
    let log = softmax_axis(cx, wide, 1, true)?;
    let y = likelihood(cx, n, log, target)?;
    Ok(vec![cx.cast(y, from)?, cx.cast(log, from)?])
}

/// The weighted loss of `log[n, c, ...]` for the classes `target[n, ...]`, reduced as the node says.
fn likelihood(cx: &mut Cx, n: &NodeCx<'_>, log: ValueId, target: ValueId) -> Res<ValueId> {
    let shape = cx.shape(log);
    if shape.len() < 2 || cx.rank(target) + 1 != shape.len() {
        let what = format!("needs [n, c, ...] and [n, ...], got {} and {}", cx.ty(log), cx.ty(target));
        return Err(cx.invalid(codes::SHAPE, what));
    }
    let reduction = n.known_mode(cx, "reduction", "mean", &["none", "sum", "mean"])?;
    let target = cx.cast(target, DType::I64)?;
    let zero = cx.scalar(cx.dtype(log), 0.0);
    // An ignored class may lie outside the range of classes, so 0 takes its place in the gathers.
    let (mut index, mut ignored) = (target, None);
    if let Some(v) = n.opt_int("ignore_index")? {
        let v = cx.scalar_int(DType::I64, i128::from(v));
        let hit = cx.binary("eq", target, v)?;
        let first = cx.scalar_int(DType::I64, 0);
        index = cx.select(hit, first, target)?;
        ignored = Some(hit);
    }
    let mut column = cx.shape(index);
    column.insert(1, Dim::from(1));
    let at = cx.reshape(index, &column)?;
    let picked = cx.op("gather_elements", [int("axis", 1)], &[log, at])?;
    let target_shape = cx.shape(index);
    let picked = cx.reshape(picked, &target_shape)?;
    let mut loss = cx.unary("neg", picked)?;
    let mut weight = match n.opt(2) {
        Some(w) => {
            let w = cx.cast(w, cx.dtype(log))?;
            Some(cx.op("gather", [int("axis", 0)], &[w, index])?)
        }
        None => None,
    };
    if let Some(hit) = ignored {
        let w = match weight {
            Some(w) => w,
            None => cx.scalar(cx.dtype(log), 1.0),
        };
        weight = Some(cx.select(hit, zero, w)?);
        loss = cx.select(hit, zero, loss)?;
    }
    if let Some(w) = weight {
        loss = cx.binary("mul", loss, w)?;
    }
    let all: Vec<usize> = (0..cx.rank(loss)).collect();
    match (reduction, weight) {
        ("none", _) => Ok(loss),
        ("sum", _) => cx.reduce("reduce_sum", loss, &all, false),
        (_, None) => cx.mean(loss, &all, false),
        (_, Some(w)) => {
            let total = cx.reduce("reduce_sum", loss, &all, false)?;
            let weights = cx.reduce("reduce_sum", w, &all, false)?;
            cx.binary("div", total, weights)
        }
    }
}
