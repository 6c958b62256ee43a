//! Reductions and arg-reductions.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, ValueId, dim};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("ArgMax", &[1, 11, 12, 13], arg),
    row("ArgMin", &[1, 11, 12, 13], arg),
    row("ReduceL1", &[1, 11, 13, 18], reduce),
    row("ReduceL2", &[1, 11, 13, 18], reduce),
    row("ReduceLogSum", &[1, 11, 13, 18, 28], reduce),
    row("ReduceLogSumExp", &[1, 11, 13, 18, 28], reduce),
    row("ReduceMax", &[1, 11, 12, 13, 18, 20], reduce),
    row("ReduceMean", &[1, 11, 13, 18], reduce),
    row("ReduceMin", &[1, 11, 12, 13, 18, 20], reduce),
    row("ReduceProd", &[1, 11, 13, 18], reduce),
    row("ReduceSum", &[1, 11, 13], reduce),
    row("ReduceSumSquare", &[1, 11, 13, 18], reduce),
];

fn arg(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axis = cx.axis(n.int("axis", 0)?, cx.rank(x))?;
    let keep = n.flag("keepdims", true)?;
    let last = n.flag("select_last_index", false)?;
    let op = if n.op == "ArgMax" { "arg_max" } else { "arg_min" };
    let attrs = [int("axis", axis as i64), int("keepdims", i64::from(keep)), int("last", i64::from(last))];
    Ok(vec![cx.op(op, attrs, &[x])?])
}

/// The axes to reduce: an attribute in old versions, an input in new ones; none given means all, or none at all
/// under `noop_with_empty_axes`.
fn axes(cx: &Cx, n: &NodeCx<'_>, rank: usize) -> Res<Vec<usize>> {
    let from_input = n.since >= if n.op == "ReduceSum" { 13 } else { 18 };
    let given =
        if from_input { n.opt(1).map(|a| cx.numbers(a, "axes")).transpose()? } else { n.ints("axes")? };
    match given.filter(|a| !a.is_empty()) {
        Some(given) => cx.axes(&given, rank),
        None if from_input && n.flag("noop_with_empty_axes", false)? => Ok(Vec::new()),
        None => Ok((0..rank).collect()),
    }
}

/// The element type to compute in: wide enough for sums, and float where a root or logarithm follows.
fn accumulator(cx: &Cx, op: &str, x: ValueId) -> DType {
    let d = cx.dtype(x);
    let fractional = matches!(op, "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp");
    match d {
        DType::Bool => DType::U8,
        d if d.is_int() && fractional => DType::F64,
        _ => cx.wide(x),
    }
}

fn reduce(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axes = axes(cx, n, cx.rank(x))?;
    let keep = n.flag("keepdims", true)?;
    let from = cx.dtype(x);
    if from == DType::Bool && !matches!(n.op, "ReduceMax" | "ReduceMin") {
        return Err(cx.invalid(codes::SHAPE, "does not take bool"));
    }
    let x = cx.cast(x, accumulator(cx, n.op, x))?;
    let y = match n.op {
        "ReduceSum" => cx.reduce("reduce_sum", x, &axes, keep)?,
        "ReduceProd" => cx.reduce("reduce_prod", x, &axes, keep)?,
        "ReduceMax" | "ReduceMin" => extreme(cx, n.op, from, x, &axes, keep)?,
        "ReduceMean" => mean(cx, x, &axes, keep)?,
        "ReduceL1" => {
            let a = cx.unary("abs", x)?;
            cx.reduce("reduce_sum", a, &axes, keep)?
        }
        "ReduceL2" => {
            let s = sum_square(cx, x, &axes, keep)?;
            cx.unary("sqrt", s)?
        }
        "ReduceLogSum" => {
            let s = cx.reduce("reduce_sum", x, &axes, keep)?;
            cx.unary("log", s)?
        }
        "ReduceLogSumExp" => log_sum_exp(cx, x, &axes, keep)?,
        _ => sum_square(cx, x, &axes, keep)?,
    };
    Ok(vec![cx.cast(y, from)?])
}

/// Over no elements a bool maximum is false and a minimum true, which their 8-bit forms do not give.
fn extreme(cx: &mut Cx, op: &str, from: DType, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
    let max = op == "ReduceMax";
    let y = cx.reduce(if max { "reduce_max" } else { "reduce_min" }, x, axes, keep)?;
    if from == DType::Bool { cx.with(if max { "max" } else { "min" }, y, f64::from(!max)) } else { Ok(y) }
}

fn mean(cx: &mut Cx, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
    let shape = cx.shape(x);
    let count = dim::product(axes.iter().map(|a| &shape[*a]));
    let sum = cx.reduce("reduce_sum", x, axes, keep)?;
    let count = cx.number_tensor(&count, cx.dtype(x))?;
    cx.binary("div", sum, count)
}

fn sum_square(cx: &mut Cx, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
    let s = cx.binary("mul", x, x)?;
    cx.reduce("reduce_sum", s, axes, keep)
}

/// Subtracts the maximum first, so that large inputs do not overflow.
fn log_sum_exp(cx: &mut Cx, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
    let max = cx.reduce("reduce_max", x, axes, true)?;
    let infinite = cx.op("is_inf", [int("positive", 1), int("negative", 1)], &[max])?;
    let zero = cx.scalar(cx.dtype(x), 0.0);
    let max = cx.select(infinite, zero, max)?;
    let shifted = cx.binary("sub", x, max)?;
    let e = cx.unary("exp", shifted)?;
    let s = cx.reduce("reduce_sum", e, axes, true)?;
    let log = cx.unary("log", s)?;
    let y = cx.binary("add", log, max)?;
    if keep || axes.is_empty() {
        return Ok(y);
    }
    let shape = cx.shape(y);
    let kept: Vec<_> = (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a].clone()).collect();
    cx.reshape(y, &kept)
}
