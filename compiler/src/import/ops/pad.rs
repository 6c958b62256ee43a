//! Padding.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] =
    &[row("CenterCropPad", &[18], center_crop_pad), row("Pad", &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25], pad)];

/// Padding before and after each axis.
fn amounts(cx: &mut Cx, n: &NodeCx<'_>, rank: usize) -> Res<(Vec<Dim>, Vec<Dim>)> {
    let flat: Vec<Dim> = if n.since >= 11 {
        let pads = n.input(cx, 1)?;
        cx.content(pads, "pads")?
    } else {
        let name = if n.since < 2 { "paddings" } else { "pads" };
        n.ints(name)?.unwrap_or_default().into_iter().map(Dim::from).collect()
    };
    let named = n.opt(3).filter(|_| n.since >= 18).map(|a| cx.content(a, "axes")).transpose()?;
    let count = named.as_ref().map_or(rank, Vec::len);
    if flat.len() != 2 * count {
        return Err(cx.invalid(codes::VALUE, format!("{} pads for {count} axes", flat.len())));
    }
    let known = named.as_ref().map(|axes| axes.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>());
    let axes = match (&named, known) {
        (_, Some(Some(axes))) => cx.axes(&axes, rank)?,
        (Some(axes), _) => {
            let flags = cx.dynamic_axes(axes, rank)?;
            let side = |pads| flags.iter().map(|f| Cx::chosen(f, pads, &0.into())).collect();
            return Ok((side(&flat[..count]), side(&flat[count..])));
        }
        (None, _) => (0..rank).collect(),
    };
    let (mut before, mut after) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
    for (i, a) in axes.iter().enumerate() {
        (before[*a], after[*a]) = (flat[i].clone(), flat[axes.len() + i].clone());
    }
    Ok((before, after))
}

fn pad(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let mode = n.known_mode(cx, "mode", "constant", &["constant", "reflect", "edge", "wrap"])?;
    let (before, after) = amounts(cx, n, cx.rank(x))?;
    if mode != "constant" {
        return Ok(vec![mirrored(cx, x, &before, &after, mode)?]);
    }
    let value = match n.opt(2) {
        Some(v) if n.since >= 11 => {
            let v = cx.reshape(v, &[])?;
            cx.cast(v, cx.dtype(x))?
        }
        _ => {
            let v = if n.since < 11 { n.float("value", 0.0)? } else { 0.0 };
            cx.scalar(cx.dtype(x), v)
        }
    };
    Ok(vec![cx.pad(x, value, &before, &after)?])
}

/// Padding with elements of the input: a gather along each padded axis.
fn mirrored(cx: &mut Cx, x: ValueId, before: &[Dim], after: &[Dim], mode: &str) -> Res<ValueId> {
    let shape = cx.shape(x);
    let mut y = x;
    for (axis, n) in shape.iter().enumerate() {
        if before[axis].is(0) && after[axis].is(0) {
            continue;
        }
        let out = &(&before[axis] + n) + &after[axis];
        let position = cx.iota(1, 0, &out, DType::I64)?;
        let first = cx.number_tensor(&before[axis], DType::I64)?;
        let position = cx.binary("sub", position, first)?;
        let index = match mode {
            "edge" => {
                let low = cx.with("max", position, 0.0)?;
                let last = cx.number_tensor(&(n - &1.into()), DType::I64)?;
                cx.binary("min", low, last)?
            }
            "wrap" => {
                let n = cx.number_tensor(n, DType::I64)?;
                cx.op("mod", [int("fmod", 0)], &[position, n])?
            }
            _ => {
                // There and back again, without repeating the ends; a single element repeats itself.
                let period = cx.larger(&(&(n + n) - &2.into()), &1.into());
                let period = cx.number_tensor(&period, DType::I64)?;
                let there = cx.op("mod", [int("fmod", 0)], &[position, period])?;
                let back = cx.binary("sub", period, there)?;
                let index = cx.binary("min", there, back)?;
                let last = cx.number_tensor(&(n - &1.into()), DType::I64)?;
                cx.binary("min", index, last)?
            }
        };
        y = cx.op("gather", [int("axis", axis as i64)], &[y, index])?;
    }
    Ok(y)
}

/// Crops or pads each axis around its centre.
fn center_crop_pad(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, wanted) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let wanted = cx.content(wanted, "the shape")?;
    let shape = cx.shape(x);
    let axes = match n.ints("axes")? {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(cx.invalid(codes::VALUE, format!("{} extents for {} axes", wanted.len(), axes.len())));
    }
    let (mut before, mut after) = (vec![Dim::from(0); shape.len()], vec![Dim::from(0); shape.len()]);
    for (axis, want) in axes.into_iter().zip(&wanted) {
        // Padding puts the odd element after; cropping takes it from the end too.
        let have = &shape[axis];
        let zero = Dim::from(0);
        let grow = cx.floor_div(&cx.larger(&(want - have), &zero), &2.into())?;
        let cut = cx.floor_div(&cx.larger(&(have - want), &zero), &2.into())?;
        before[axis] = &grow - &cut;
        after[axis] = &(want - have) - &before[axis];
    }
    let zero = cx.scalar(cx.dtype(x), 0.0);
    Ok(vec![cx.pad(x, zero, &before, &after)?])
}
