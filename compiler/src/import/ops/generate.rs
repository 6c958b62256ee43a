//! Operators that make tensors from little or nothing.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, Tensor, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("BlackmanWindow", &[17], signal_window),
    row("Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], constant),
    row("ConstantOfShape", &[9, 20, 21, 23, 24, 25], constant_of_shape),
    row("EyeLike", &[9, 22], eye_like),
    row("HammingWindow", &[17], signal_window),
    row("HannWindow", &[17], signal_window),
    row("Range", &[11, 27], range),
    row("Trilu", &[14], trilu),
];

fn constant(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    if n.attrs.has("value_string") || n.attrs.has("value_strings") {
        return Err(cx.refuse("a constant of strings", "remove text processing from the model"));
    }
    let float = |v: &[f64], shape| Tensor::floats(DType::F32, shape, v.to_vec());
    let found = if let Some(t) = n.tensor("value")? {
        Some(t)
    } else if let Some(t) = n.sparse("sparse_value")? {
        Some(t)
    } else if let Some(v) = n.opt_float("value_float")? {
        Some(float(&[v], vec![]))
    } else if let Some(v) = n.floats("value_floats")? {
        Some(float(&v, vec![v.len()]))
    } else if let Some(v) = n.opt_int("value_int")? {
        Some(Tensor::i64s(vec![], &[v]))
    } else {
        n.ints("value_ints")?.map(|v| Tensor::i64s(vec![v.len()], &v))
    };
    let t = found.ok_or_else(|| cx.invalid(codes::VALUE, "has no value"))?;
    Ok(vec![cx.constant(t)])
}

fn constant_of_shape(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let shape = n.input(cx, 0)?;
    let shape = cx.content(shape, "the shape")?;
    let value = match n.tensor("value")? {
        Some(t) if t.numel() == 1 => Tensor { shape: vec![], ..t },
        Some(t) => return Err(cx.invalid(codes::VALUE, format!("`value` has {} elements", t.numel()))),
        None => Tensor::scalar(DType::F32, 0.0),
    };
    let value = cx.constant(value);
    Ok(vec![cx.expand(value, &shape)?])
}

/// Row and column numbers of the last two dimensions of a shape.
fn grid(cx: &mut Cx, shape: &[Dim]) -> Res<(ValueId, ValueId)> {
    let rank = shape.len();
    let rows = cx.iota(rank, rank - 2, &shape[rank - 2], DType::I64)?;
    let cols = cx.iota(rank, rank - 1, &shape[rank - 1], DType::I64)?;
    Ok((rows, cols))
}

fn eye_like(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let to = n.dtype(cx, "dtype")?.unwrap_or(cx.dtype(x));
    let shape = cx.shape(x);
    if shape.len() != 2 {
        return Err(cx.invalid(codes::SHAPE, format!("needs a matrix, got {}", cx.ty(x))));
    }
    let k = n.int("k", 0)?;
    let (rows, cols) = grid(cx, &shape)?;
    let k = cx.scalar_int(DType::I64, i128::from(k));
    let diagonal = cx.binary("add", rows, k)?;
    let hit = cx.binary("eq", diagonal, cols)?;
    Ok(vec![cx.cast(hit, to)?])
}

/// Keeps what lies on one side of a diagonal, whose number may be computed at run time.
fn trilu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let shape = cx.shape(x);
    if shape.len() < 2 {
        return Err(cx.invalid(codes::SHAPE, format!("needs a matrix, got {}", cx.ty(x))));
    }
    let upper = n.flag("upper", true)?;
    let (rows, cols) = grid(cx, &shape[shape.len() - 2..])?;
    let mut offset = cx.binary("sub", cols, rows)?;
    if let Some(k) = n.opt(1) {
        let k = cx.reshape(k, &[])?;
        offset = cx.binary("sub", offset, k)?;
    }
    let kept = cx.with(if upper { "ge" } else { "le" }, offset, 0.0)?;
    let zero = cx.scalar(cx.dtype(x), 0.0);
    Ok(vec![cx.select(kept, x, zero)?])
}

fn range(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let args = [n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?];
    let d = cx.dtype(args[0]);
    if d.is_float() {
        return float_range(cx, n, args, d);
    }
    let start = cx.one(args[0], "start")?;
    let limit = cx.one(args[1], "limit")?;
    let delta = cx.one(args[2], "delta")?;
    let count = match delta.as_const() {
        Some(0) => return Err(cx.invalid(codes::VALUE, "delta is 0")),
        Some(d) if d > 0 => cx.ceil_div(&(&limit - &start), &delta)?,
        Some(_) => cx.ceil_div(&(&start - &limit), &(&Dim::from(0) - &delta))?,
        None => {
            let (one, down) = (Dim::from(1), &Dim::from(0) - &delta);
            let rising = cx.ceil_div(&(&limit - &start), &cx.larger(&delta, &one))?;
            let falling = cx.ceil_div(&(&start - &limit), &cx.larger(&down, &one))?;
            Dim::select(&cx.is_negative(&delta), &falling, &rising)
        }
    };
    let count = cx.larger(&count, &0.into());
    let index = cx.iota(1, 0, &count, d)?;
    let mut y = index;
    if !delta.is(1) {
        let delta = cx.number_tensor(&delta, d)?;
        y = cx.binary("mul", y, delta)?;
    }
    if !start.is(0) {
        let start = cx.number_tensor(&start, d)?;
        y = cx.binary("add", y, start)?;
    }
    let known = count.as_usize().filter(|c| *c <= autoglm_ir::graph::CONTENT_ELEMS_MAX);
    if let Some(count) = known {
        let content = (0..count).map(|i| &start + &(&delta * &Dim::from(i))).collect();
        cx.graph.values[y.0 as usize].content.get_or_insert(content);
    }
    Ok(vec![y])
}

fn float_range(cx: &mut Cx, n: &NodeCx<'_>, args: [ValueId; 3], d: DType) -> Outs {
    let mut numbers = [0.0; 3];
    for ((slot, arg), what) in numbers.iter_mut().zip(args).zip(["start", "limit", "delta"]) {
        *slot = match cx.floats(arg, what)?.as_slice() {
            [v] => *v,
            v => {
                return Err(
                    cx.invalid(codes::VALUE, format!("{what} must have one element, has {}", v.len()))
                );
            }
        };
    }
    let [start, limit, delta] = numbers;
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() || count > f64::from(i32::MAX) {
        return Err(cx.invalid(codes::VALUE, format!("from {start} to {limit} by {delta} never ends")));
    }
    let narrow = d != DType::F64 && d != DType::F32;
    // `stash_type` 1 counts in f32; other accumulation in a narrow type is not defined well enough to follow.
    if narrow && n.int("stash_type", 1)? != 1 {
        return Err(cx.refuse("stash_type other than float", "leave stash_type at its default"));
    }
    let wide = if d == DType::F64 { d } else { DType::F32 };
    let index = cx.iota(1, 0, &Dim::from(count as i64), wide)?;
    let y = cx.with("mul", index, delta)?;
    let y = cx.with("add", y, start)?;
    Ok(vec![cx.cast(y, d)?])
}

/// A weighted sum of cosines over one period.
fn signal_window(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let size = n.input(cx, 0)?;
    let size = cx.one(size, "the size")?;
    let to = n.dtype(cx, "output_datatype")?.unwrap_or(DType::F32);
    let weights: &[f64] = match n.op {
        "HannWindow" => &[0.5, -0.5],
        "HammingWindow" => &[25.0 / 46.0, -21.0 / 46.0],
        _ => &[0.42, -0.5, 0.08],
    };
    let period = if n.flag("periodic", true)? { size.clone() } else { &size - &1.into() };
    let wide = if to == DType::F64 { to } else { DType::F32 };
    let index = cx.iota(1, 0, &size, wide)?;
    let period = cx.number_tensor(&period, wide)?;
    let mut y = cx.scalar(wide, weights[0]);
    for (k, weight) in weights.iter().enumerate().skip(1) {
        let angle = cx.with("mul", index, std::f64::consts::TAU * k as f64)?;
        let angle = cx.binary("div", angle, period)?;
        let wave = cx.unary("cos", angle)?;
        let wave = cx.with("mul", wave, *weight)?;
        y = cx.binary("add", wave, y)?;
    }
    Ok(vec![cx.cast(y, to)?])
}
