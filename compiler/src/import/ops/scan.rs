//! Running sums and products.

use super::super::cx::{Cx, Outs, Res, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] =
    &[row("CumProd", &[26], cum_prod), row("CumSum", &[11, 14], cum_sum)];

/// The result along the axis that input 1 names. If it is known at run time only, those along all axes are computed and
/// one is chosen.
fn along_axis(cx: &mut Cx, n: &NodeCx<'_>, f: &dyn Fn(&mut Cx, usize) -> Res<ValueId>) -> Outs {
    let rank = cx.rank(n.input(cx, 0)?);
    let axis = n.input(cx, 1)?;
    let axis = cx.one(axis, "axis")?;
    if let Some(axis) = axis.as_const() {
        let axis = cx.axis(axis, rank)?;
        return Ok(vec![f(cx, axis)?]);
    }
    let from_end = Dim::from(-(rank as i64));
    cx.require_le(&from_end, &axis, "the axis does not exist")?;
    cx.require_le(&axis, &Dim::from(rank as i64 - 1), "the axis does not exist")?;
    let axis = cx.counted_from_end(&axis, &Dim::from(rank as i64));
    let axis = cx.number_tensor(&axis, DType::I64)?;
    let mut y = f(cx, 0)?;
    for other in 1..rank {
        let (chosen, along) = (cx.with("eq", axis, other as f64)?, f(cx, other)?);
        y = cx.select(chosen, along, y)?;
    }
    Ok(vec![y])
}

fn cum_sum(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let exclusive = int("exclusive", i64::from(n.flag("exclusive", false)?));
    let reverse = int("reverse", i64::from(n.flag("reverse", false)?));
    along_axis(cx, n, &|cx, axis| {
        cx.op("cum_sum", [int("axis", axis as i64), exclusive.clone(), reverse.clone()], &[x])
    })
}

fn cum_prod(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    along_axis(cx, n, &|cx, axis| cum_prod_along(cx, x, axis, exclusive, reverse))
}

/// Doubles the length of the products in each step (Hillis and Steele, "Data parallel algorithms", 1986).
fn cum_prod_along(cx: &mut Cx, x: ValueId, axis: usize, exclusive: bool, reverse: bool) -> Res<ValueId> {
    let rank = cx.rank(x);
    let Some(len) = cx.shape(x)[axis].as_usize() else {
        return Err(cx.unknown("the extent of the axis"));
    };
    let mut y = x;
    if reverse {
        y = cx.reverse(y, axis)?;
    }
    // A shift by `by` puts ones before and drops as many elements at the end.
    let one = cx.scalar(cx.dtype(x), 1.0);
    let shifted = |cx: &mut Cx, y, by: usize| {
        let (mut before, mut after) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
        before[axis] = by.into();
        after[axis] = Dim::from(-(by as i64));
        cx.pad(y, one, &before, &after)
    };
    if exclusive && len > 0 {
        y = shifted(cx, y, 1)?;
    }
    let mut by = 1;
    while by < len {
        let other = shifted(cx, y, by)?;
        y = cx.binary("mul", y, other)?;
        by *= 2;
    }
    if reverse {
        y = cx.reverse(y, axis)?;
    }
    Ok(y)
}
