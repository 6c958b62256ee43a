//! Gathering, scattering and ordering by index.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, dims, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{Attr, DType, Dim};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("Gather", &[1, 11, 13], gather),
    row("GatherElements", &[11, 13], gather_elements),
    row("GatherND", &[11, 12, 13], gather_nd),
    row("OneHot", &[9, 11, 28], one_hot),
    row("ReverseSequence", &[10, 28], reverse_sequence),
    row("Scatter", &[9, 11], scatter_elements),
    row("ScatterElements", &[11, 13, 16, 18], scatter_elements),
    row("ScatterND", &[11, 13, 16, 18], scatter_nd),
    row("TopK", &[1, 10, 11, 24], top_k),
];

fn axis_attr(cx: &Cx, n: &NodeCx<'_>, default: i64, rank: usize) -> Res<i64> {
    Ok(cx.axis(n.int("axis", default)?, rank)? as i64)
}

fn gather(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, index) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let axis = axis_attr(cx, n, 0, cx.rank(x))?;
    Ok(vec![cx.op("gather", [int("axis", axis)], &[x, index])?])
}

fn gather_elements(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, index) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let axis = axis_attr(cx, n, 0, cx.rank(x))?;
    Ok(vec![cx.op("gather_elements", [int("axis", axis)], &[x, index])?])
}

fn gather_nd(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, index) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let batch = n.int("batch_dims", 0)?;
    Ok(vec![cx.op("gather_nd", [int("batch_dims", batch)], &[x, index])?])
}

/// The attribute `reduction` as the IR names it.
fn reduction(cx: &Cx, n: &NodeCx<'_>) -> Res<Attr> {
    let mode = n.known_mode(cx, "reduction", "none", &["none", "add", "mul", "max", "min"])?;
    Ok(Attr::Str(if mode == "none" { "" } else { mode }.into()))
}

fn scatter_elements(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let args = [n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?];
    let axis = axis_attr(cx, n, 0, cx.rank(args[0]))?;
    let mode = reduction(cx, n)?;
    Ok(vec![cx.op("scatter_elements", [int("axis", axis), ("mode", mode)], &args)?])
}

fn scatter_nd(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let args = [n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?];
    let mode = reduction(cx, n)?;
    Ok(vec![cx.op("scatter_nd", [("mode", mode)], &args)?])
}

fn top_k(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axis = axis_attr(cx, n, -1, cx.rank(x))?;
    let k = if n.since >= 10 {
        let k = n.input(cx, 1)?;
        cx.one(k, "k")?
    } else {
        Dim::from(n.int("k", 0)?)
    };
    let extent = cx.shape(x)[axis as usize].clone();
    cx.require_le(&k, &extent, "k is larger than the extent of the axis")?;
    let attrs = [
        dims("k", &[k]),
        int("axis", axis),
        int("largest", i64::from(n.flag("largest", true)?)),
        int("sorted", i64::from(n.flag("sorted", true)?)),
    ];
    cx.add("top_k", attrs, &[x])
}

/// The class axis of one-hot: `values[1]` where the index along it is that of the element, else `values[0]`.
fn one_hot(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (index, depth, values) = (n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?);
    let depth = if cx.dtype(depth).is_float() {
        match cx.floats(depth, "depth")?.as_slice() {
            [d] => Dim::from(*d as i64),
            d => {
                return Err(cx.invalid(codes::VALUE, format!("depth must have one element, has {}", d.len())));
            }
        }
    } else {
        cx.one(depth, "depth")?
    };
    let rank = cx.rank(index) + 1;
    let axis = cx.axis(n.int("axis", -1)?, rank)?;
    let mut shape = cx.shape(index);
    shape.insert(axis, Dim::from(1));
    let index = cx.cast(index, DType::I64)?;
    let index = cx.reshape(index, &shape)?;
    let classes = cx.iota(rank, axis, &depth, DType::I64)?;
    let negative = cx.with("lt", index, 0.0)?;
    let count = cx.number_tensor(&depth, DType::I64)?;
    let from_end = cx.binary("add", index, count)?;
    let index = cx.select(negative, from_end, index)?;
    let hit = cx.binary("eq", classes, index)?;
    let (off, on) = (cx.take(values, 0, 0)?, cx.take(values, 0, 1)?);
    Ok(vec![cx.select(hit, on, off)?])
}

/// Reverses the first `lens[b]` elements along the time axis of each batch entry.
fn reverse_sequence(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, lens) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let shape = cx.shape(x);
    let rank = shape.len();
    let time = cx.axis(n.int("time_axis", 0)?, rank)?;
    let batch = cx.axis(n.int("batch_axis", 1)?, rank)?;
    if time == batch || time > 1 || batch > 1 {
        return Err(cx.invalid(codes::VALUE, "time_axis and batch_axis must be 0 and 1, in either order"));
    }
    let lens = cx.cast(lens, DType::I64)?;
    let lens = cx.along(lens, batch, rank)?;
    let step = cx.iota(rank, time, &shape[time], DType::I64)?;
    let inside = cx.binary("lt", step, lens)?;
    let last = cx.with("sub", lens, 1.0)?;
    let mirrored = cx.binary("sub", last, step)?;
    let index = cx.select(inside, mirrored, step)?;
    let index = cx.expand(index, &shape)?;
    Ok(vec![cx.op("gather_elements", [int("axis", time as i64)], &[x, index])?])
}
