//! Slices and splits.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, dims, int, ints};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] =
    &[row("Slice", &[1, 10, 11, 13], slice), row("Split", &[1, 2, 11, 13, 18], split)];

/// The bounds of a slice, one entry a sliced axis.
struct Bounds {
    starts: Vec<Dim>,
    ends: Vec<Dim>,
    axes: Option<Vec<Dim>>,
    steps: Option<Vec<Dim>>,
}

fn bounds(cx: &Cx, n: &NodeCx<'_>) -> Res<Bounds> {
    if n.since < 10 {
        let list = |v: Option<Vec<i64>>| v.unwrap_or_default().into_iter().map(Dim::from).collect();
        let (starts, ends) = (list(n.ints("starts")?), list(n.ints("ends")?));
        let axes = n.ints("axes")?.map(|axes| list(Some(axes)));
        return Ok(Bounds { starts, ends, axes, steps: None });
    }
    let (starts, ends) = (n.input(cx, 1)?, n.input(cx, 2)?);
    Ok(Bounds {
        starts: cx.content(starts, "starts")?,
        ends: cx.content(ends, "ends")?,
        axes: n.opt(3).map(|a| cx.content(a, "axes")).transpose()?,
        steps: n.opt(4).map(|s| cx.content(s, "steps")).transpose()?,
    })
}

/// The end of a slice. The specification recommends `INT_MAX` for "as far as there is", which exporters write in either
/// width.
fn open_end(end: &Dim) -> Dim {
    if end.is(i64::from(i32::MAX)) { i64::MAX.into() } else { end.clone() }
}

/// First element and number of elements along an axis of extent `n`, `stride` apart, upwards or downwards.
fn span(cx: &Cx, n: &Dim, (start, end): (&Dim, &Dim), upwards: bool, stride: &Dim) -> Res<(Dim, Dim)> {
    let (zero, last) = (Dim::from(0), n - &1.into());
    let (start, end) = (cx.counted_from_end(start, n), cx.counted_from_end(end, n));
    let (start, length) = if upwards {
        let (start, end) = (cx.clamped(&start, &zero, n), cx.clamped(&end, &zero, n));
        let length = &end - &start;
        (start, length)
    } else {
        let start = cx.clamped(&start, &zero, &cx.larger(&last, &zero));
        let end = cx.clamped(&end, &(-1).into(), &last);
        let length = cx.smaller(&(&start - &end), n);
        (start, length)
    };
    let count = cx.ceil_div(&cx.larger(&length, &zero), stride)?;
    Ok((start, count))
}

fn slice(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let b = bounds(cx, n)?;
    let count = b.starts.len();
    let axes = b.axes.unwrap_or_else(|| (0..count).map(Dim::from).collect());
    let steps = b.steps.unwrap_or_else(|| vec![1.into(); count]);
    if b.ends.len() != count || axes.len() != count || steps.len() != count {
        return Err(cx.invalid(codes::VALUE, "starts, ends, axes and steps must have equal lengths"));
    }
    let numbers = |dims: &[Dim]| dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>();
    let y = match (numbers(&axes), numbers(&steps)) {
        (Some(axes), Some(steps)) => static_slice(cx, x, (&b.starts, &b.ends), &axes, &steps)?,
        _ => dynamic_slice(cx, x, (&b.starts, &b.ends), &axes, &steps)?,
    };
    Ok(vec![y])
}

fn static_slice(
    cx: &mut Cx,
    x: ValueId,
    (from, to): (&[Dim], &[Dim]),
    axes: &[i64],
    given: &[i64],
) -> Res<ValueId> {
    let mut sizes = cx.shape(x);
    let rank = sizes.len();
    let axes = cx.axes(axes, rank)?;
    let (mut starts, mut steps) = (vec![Dim::from(0); rank], vec![1; rank]);
    for (i, axis) in axes.into_iter().enumerate() {
        if given[i] == 0 {
            return Err(cx.invalid(codes::VALUE, "a step is 0"));
        }
        // No extent is as large as the ends of i64, which stand for "as far as there is".
        let step = given[i].clamp(-i64::from(i32::MAX), i64::from(i32::MAX));
        let stride = Dim::from(step.unsigned_abs() as usize);
        let (start, size) = span(cx, &sizes[axis], (&from[i], &open_end(&to[i])), step > 0, &stride)?;
        (starts[axis], sizes[axis], steps[axis]) = (start, size, step);
    }
    if sizes == cx.shape(x) && steps.iter().all(|s| *s == 1) {
        return Ok(x);
    }
    cx.op("slice", [dims("starts", &starts), dims("sizes", &sizes), ints("steps", &steps)], &[x])
}

/// A slice whose axes or steps are known at run time only: elements are gathered along each axis by computed numbers.
fn dynamic_slice(
    cx: &mut Cx,
    x: ValueId,
    (from, to): (&[Dim], &[Dim]),
    axes: &[Dim],
    steps: &[Dim],
) -> Res<ValueId> {
    let (zero, one) = (Dim::from(0), Dim::from(1));
    for step in steps {
        cx.require_eq(&step.equals(&zero), &zero, "a step is 0")?;
    }
    let shape = cx.shape(x);
    let flags = cx.dynamic_axes(axes, shape.len())?;
    let mut y = x;
    for (axis, (extent, flags)) in shape.iter().zip(&flags).enumerate() {
        let step = Cx::chosen(flags, steps, &one);
        let bounds = (&Cx::chosen(flags, from, &zero), &Cx::chosen(flags, to, extent));
        let (first, many) = span(cx, extent, bounds, true, &cx.larger(&step, &one))?;
        let down = cx.larger(&(&zero - &step), &one);
        let (last, few) = span(cx, extent, bounds, false, &down)?;
        let falls = cx.is_negative(&step);
        let (start, count) = (Dim::select(&falls, &last, &first), Dim::select(&falls, &few, &many));
        let index = cx.iota(1, 0, &count, DType::I64)?;
        let (step, start) = (cx.number_tensor(&step, DType::I64)?, cx.number_tensor(&start, DType::I64)?);
        let index = cx.binary("mul", index, step)?;
        let index = cx.binary("add", index, start)?;
        y = cx.op("gather", [int("axis", axis as i64)], &[y, index])?;
    }
    Ok(y)
}

/// The sizes of the pieces.
fn pieces(cx: &Cx, n: &NodeCx<'_>, extent: &Dim) -> Res<Vec<Dim>> {
    let given = if n.since >= 13 || n.since == 1 {
        match n.opt(1) {
            Some(s) => Some(cx.content(s, "the sizes of the pieces")?),
            None => None,
        }
    } else {
        None
    };
    let from_attr =
        || -> Res<Option<Vec<Dim>>> { Ok(n.ints("split")?.map(|v| v.into_iter().map(Dim::from).collect())) };
    if let Some(sizes) = given.map_or_else(from_attr, |g| Ok(Some(g)))? {
        return Ok(sizes);
    }
    let count = match n.opt_int("num_outputs")? {
        Some(c) if n.since >= 18 => c,
        _ => n.wanted.len() as i64,
    };
    if count < 1 || count as usize != n.wanted.len() {
        let what = format!("{count} pieces for {} outputs", n.wanted.len());
        return Err(cx.invalid(codes::VALUE, what));
    }
    // Equal pieces, the last one smaller where they do not come out even.
    let each = cx.ceil_div(extent, &count.into())?;
    let mut sizes = vec![each.clone(); n.wanted.len()];
    let (whole, last) = (sizes.len() - 1, &each * &Dim::from(count - 1));
    sizes[whole] = extent - &last;
    let uneven = sizes[whole] != each;
    if n.since < 18 && uneven && extent.as_const().is_some() {
        return Err(
            cx.invalid(codes::VALUE, format!("extent {extent} does not split into {count} equal pieces"))
        );
    }
    if cx.range(&sizes[whole]).1 < 0 {
        return Err(cx.invalid(codes::VALUE, format!("extent {extent} does not split into {count} pieces")));
    }
    Ok(sizes)
}

fn split(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axis = cx.axis(n.int("axis", 0)?, cx.rank(x))?;
    let extent = cx.shape(x)[axis].clone();
    let sizes = pieces(cx, n, &extent)?;
    if sizes.len() != n.wanted.len() {
        let what = format!("{} pieces for {} outputs", sizes.len(), n.wanted.len());
        return Err(cx.invalid(codes::VALUE, what));
    }
    let total = sizes.iter().fold(Dim::from(0), |a, b| &a + b);
    cx.require_eq(&total, &extent, "the pieces must add up to the extent")?;
    let mut start = Dim::from(0);
    let mut outs: Vec<ValueId> = Vec::with_capacity(sizes.len());
    for size in sizes {
        outs.push(if size == extent { x } else { cx.slice_axis(x, axis, &start, &size, 1)? });
        start = &start + &size;
    }
    Ok(outs)
}
