//! Running sums and products.

use super::super::cx::{Cx, Outs, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::Dim;

pub(crate) static IMPORTERS: &[Importer] =
    &[row("CumProd", &[26], cum_prod), row("CumSum", &[11, 14], cum_sum)];

fn cum_sum(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, axis) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let axis = cx.axis(cx.number(axis, "axis")?, cx.rank(x))?;
    let attrs = [
        int("axis", axis as i64),
        int("exclusive", i64::from(n.flag("exclusive", false)?)),
        int("reverse", i64::from(n.flag("reverse", false)?)),
    ];
    Ok(vec![cx.op("cum_sum", attrs, &[x])?])
}

/// Doubles the length of the products in each step (Hillis and Steele, "Data parallel algorithms", 1986).
fn cum_prod(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, axis) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let rank = cx.rank(x);
    let axis = cx.axis(cx.number(axis, "axis")?, rank)?;
    let Some(len) = cx.shape(x)[axis].as_usize() else {
        return Err(cx.unknown("the extent of the axis"));
    };
    let reverse = n.flag("reverse", false)?;
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
    if n.flag("exclusive", false)? && len > 0 {
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
    Ok(vec![y])
}
