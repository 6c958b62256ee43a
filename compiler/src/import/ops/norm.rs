//! Normalisations and softmax.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, float, int, ints};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId, dim};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("BatchNormalization", &[1, 6, 7, 9, 14, 15], batch_norm),
    row("GroupNormalization", &[18, 21], group_norm),
    row("Hardmax", &[1, 11, 13], hardmax),
    row("InstanceNormalization", &[1, 6, 22], instance_norm),
    row("LRN", &[1, 13], lrn),
    row("LayerNormalization", &[17], layer_norm),
    row("LogSoftmax", &[1, 11, 13], softmax),
    row("LpNormalization", &[1, 22], lp_norm),
    row("MeanVarianceNormalization", &[9, 13], mean_variance_norm),
    row("RMSNormalization", &[23], rms_norm),
    row("Softmax", &[1, 11, 13], softmax),
];

/// Rows longer than this may sum to more than the largest f16, since an exponential is at most 1.
const F16_SUM_MAX: i128 = 65504;

/// Softmax over one axis.
///
/// f16 and bf16 are computed as the operator is defined, every step rounded to the element type; the reference results
/// differ by that rounding. A row whose sum may exceed f16 is computed in f32 instead: the definition would give zeros.
pub(crate) fn softmax_axis(cx: &mut Cx, x: ValueId, axis: usize, log: bool) -> Res<ValueId> {
    let extent = cx.graph.ty(x).shape[axis].clone();
    match cx.dtype(x) {
        DType::BF16 | DType::F64 => return softmax_steps(cx, x, axis, log),
        DType::F16 if cx.range(&extent).1 <= F16_SUM_MAX => return softmax_steps(cx, x, axis, log),
        _ => {}
    }
    cx.widened(x, |cx, x| {
        let (last, back) = cx.axis_last(x, axis)?;
        let y = cx.op("softmax", [int("log", i64::from(log))], &[last])?;
        cx.transpose(y, &back)
    })
}

/// The steps of the function that defines Softmax and LogSoftmax.
fn softmax_steps(cx: &mut Cx, x: ValueId, axis: usize, log: bool) -> Res<ValueId> {
    let max = cx.reduce("reduce_max", x, &[axis], true)?;
    let moved = cx.binary("sub", x, max)?;
    let exp = cx.unary("exp", moved)?;
    let sum = cx.reduce("reduce_sum", exp, &[axis], true)?;
    if !log {
        return cx.binary("div", exp, sum);
    }
    let sum = cx.unary("log", sum)?;
    cx.binary("sub", moved, sum)
}

fn softmax(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let log = n.op == "LogSoftmax";
    per_axis_or_flat(cx, n, |cx, x, axis| softmax_axis(cx, x, axis, log))
}

/// Operator sets before 13 flatten to a matrix at the axis; later ones work along it.
fn per_axis_or_flat(
    cx: &mut Cx,
    n: &NodeCx<'_>,
    f: impl FnOnce(&mut Cx, ValueId, usize) -> Res<ValueId>,
) -> Outs {
    let x = n.input(cx, 0)?;
    let rank = cx.rank(x);
    let given = n.int("axis", if n.since < 13 { 1 } else { -1 })?;
    if rank == 0 {
        return Err(cx.invalid(codes::SHAPE, "takes no rank-0 input"));
    }
    if n.since >= 13 {
        let axis = cx.axis(given, rank)?;
        return Ok(vec![f(cx, x, axis)?]);
    }
    let axis = if given == rank as i64 { rank } else { cx.axis(given, rank)? };
    if axis + 1 == rank {
        return Ok(vec![f(cx, x, axis)?]);
    }
    let shape = cx.shape(x);
    let flat = cx.reshape(x, &[dim::product(&shape[..axis]), dim::product(&shape[axis..])])?;
    let y = f(cx, flat, 1)?;
    Ok(vec![cx.reshape(y, &shape)?])
}

fn hardmax(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    per_axis_or_flat(cx, n, |cx, x, axis| {
        let attrs = [int("axis", axis as i64), int("keepdims", 1)];
        let first = cx.op("arg_max", attrs, &[x])?;
        let n = cx.shape(x)[axis].clone();
        let index = cx.iota(cx.rank(x), axis, &n, DType::I64)?;
        let hit = cx.binary("eq", index, first)?;
        cx.cast(hit, cx.dtype(x))
    })
}

fn batch_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let training = match n.since {
        14.. => n.flag("training_mode", false)?,
        // Before operator set 14 a node with one output is meant for inference.
        _ => n.outputs > 1,
    };
    if training && n.since < 14 {
        return Err(cx.refuse("training mode before operator set 14", "export the model for inference"));
    }
    if n.since < 9 && !n.flag("spatial", true)? {
        return Err(cx.refuse("spatial=0", "convert the model to a newer operator set"));
    }
    for ignored in ["is_test", "momentum", "consumed_inputs"] {
        n.attrs.has(ignored);
    }
    let epsilon = n.float("epsilon", 1e-5)?;
    let (rank, from) = (cx.rank(x), cx.dtype(x));
    if rank < 2 {
        return Err(cx.invalid(codes::SHAPE, format!("needs channels, got {}", cx.ty(x))));
    }
    let wide = cx.wide(x);
    let mut p = Vec::with_capacity(4);
    for i in 1..5 {
        let v = n.input(cx, i)?;
        p.push(cx.cast(v, wide)?);
    }
    let x = cx.cast(x, wide)?;
    let mut outs = Vec::new();
    if training {
        let keep = n.float("momentum", 0.9)?;
        for (i, statistic) in statistics(cx, x)?.into_iter().enumerate() {
            let to = cx.dtype(n.input(cx, 3 + i)?);
            let (old, new) = (cx.with("mul", p[2 + i], keep)?, cx.with("mul", statistic, 1.0 - keep)?);
            let running = cx.binary("add", old, new)?;
            outs.push(cx.cast(running, to)?);
            p[2 + i] = statistic;
        }
    }
    let var = cx.with("add", p[3], epsilon)?;
    let deviation = cx.unary("sqrt", var)?;
    let scale = cx.binary("div", p[0], deviation)?;
    let moved = cx.binary("mul", p[2], scale)?;
    let bias = cx.binary("sub", p[1], moved)?;
    let (scale, bias) = (cx.along(scale, 1, rank)?, cx.along(bias, 1, rank)?);
    let y = cx.binary("mul", x, scale)?;
    let y = cx.binary("add", y, bias)?;
    outs.insert(0, cx.cast(y, from)?);
    Ok(outs)
}

/// Mean and variance of each channel.
fn statistics(cx: &mut Cx, x: ValueId) -> Res<[ValueId; 2]> {
    let axes: Vec<usize> = (0..cx.rank(x)).filter(|a| *a != 1).collect();
    let mean = cx.mean(x, &axes, true)?;
    let centred = cx.binary("sub", x, mean)?;
    let square = cx.binary("mul", centred, centred)?;
    let (mean, variance) = (cx.along(mean, 0, 1)?, cx.mean(square, &axes, false)?);
    Ok([mean, variance])
}

/// Ones of these extents.
fn ones(cx: &mut Cx, d: DType, shape: &[Dim]) -> Res<ValueId> {
    let one = cx.scalar(d, 1.0);
    cx.expand(one, shape)
}

/// Brings `x` to mean 0 and variance 1 over its last axis.
fn standardised(cx: &mut Cx, x: ValueId, epsilon: f64) -> Res<ValueId> {
    let shape = cx.shape(x);
    let scale = ones(cx, cx.dtype(x), &shape[shape.len() - 1..])?;
    cx.op("layer_norm", [float("epsilon", epsilon)], &[x, scale])
}

fn instance_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, scale, bias) = (n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?);
    n.attrs.has("consumed_inputs");
    let epsilon = n.float("epsilon", 1e-5)?;
    let shape = cx.shape(x);
    if shape.len() < 3 {
        return Err(cx.invalid(codes::SHAPE, format!("needs spatial dimensions, got {}", cx.ty(x))));
    }
    let flat = [shape[0].clone(), shape[1].clone(), dim::product(&shape[2..])];
    let y = affine(cx, x, &flat, &flat, (scale, bias), epsilon)?;
    Ok(vec![cx.reshape(y, &shape)?])
}

/// Standardises rows of `x` seen as `rows`, then scales and shifts axis 1 of the result seen as `channels`.
fn affine(
    cx: &mut Cx,
    x: ValueId,
    rows: &[Dim],
    channels: &[Dim],
    (scale, bias): (ValueId, ValueId),
    epsilon: f64,
) -> Res<ValueId> {
    let (from, wide) = (cx.dtype(x), cx.wide(x));
    let x = cx.cast(x, wide)?;
    let y = cx.reshape(x, rows)?;
    let y = standardised(cx, y, epsilon)?;
    let mut y = cx.reshape(y, channels)?;
    for (op, v) in [("mul", scale), ("add", bias)] {
        let v = cx.cast(v, wide)?;
        let v = cx.along(v, 1, channels.len())?;
        y = cx.binary(op, y, v)?;
    }
    cx.cast(y, from)
}

fn group_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, scale, bias) = (n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?);
    let (epsilon, groups) = (n.float("epsilon", 1e-5)?, n.int("num_groups", 0)?);
    let shape = cx.shape(x);
    if shape.len() < 2 || groups < 1 {
        return Err(cx.invalid(codes::SHAPE, format!("cannot form {groups} groups of {}", cx.ty(x))));
    }
    let groups = Dim::from(groups);
    let Some(each) = shape[1].exact_div(&groups) else {
        return Err(cx.invalid(codes::SHAPE, format!("{} channels do not form {groups} groups", shape[1])));
    };
    let space = dim::product(&shape[2..]);
    let rows = [shape[0].clone(), groups, &each * &space];
    // Version 18 has one scale a group, version 21 one a channel.
    let per_channel = [shape[0].clone(), shape[1].clone(), space];
    let channels = if n.since >= 21 { &per_channel } else { &rows };
    let y = affine(cx, x, &rows, channels, (scale, bias), epsilon)?;
    Ok(vec![cx.reshape(y, &shape)?])
}

/// A parameter of a layer normalisation as one vector over the normalised dimensions.
fn flat_parameter(cx: &mut Cx, v: ValueId, normalised: &[Dim], to: DType) -> Res<ValueId> {
    let v = cx.cast(v, to)?;
    let v = cx.expand(v, normalised)?;
    cx.reshape(v, &[dim::product(normalised)])
}

/// Layer normalisation over the axes from `axis` on, flattened to one.
fn normalised(cx: &mut Cx, n: &NodeCx<'_>, x: ValueId, rms: bool) -> Res<(ValueId, usize)> {
    let scale = n.input(cx, 1)?;
    let axis = cx.axis(n.int("axis", -1)?, cx.rank(x))?;
    n.opt_int("stash_type")?;
    let epsilon = n.float("epsilon", 1e-5)?;
    let (shape, from, wide) = (cx.shape(x), cx.dtype(x), cx.wide(x));
    let mut rows = shape[..axis].to_vec();
    rows.push(dim::product(&shape[axis..]));
    let wide_x = cx.cast(x, wide)?;
    let flat = cx.reshape(wide_x, &rows)?;
    let mut args = vec![flat, flat_parameter(cx, scale, &shape[axis..], wide)?];
    if let Some(bias) = n.opt(2).filter(|_| !rms) {
        args.push(flat_parameter(cx, bias, &shape[axis..], wide)?);
    }
    let y = cx.op("layer_norm", [float("epsilon", epsilon), int("rms", i64::from(rms))], &args)?;
    let y = cx.reshape(y, &shape)?;
    // The result has the type of the scale where that differs from the input's.
    let to = if rms { cx.dtype(scale) } else { from };
    Ok((cx.cast(y, to)?, axis))
}

fn rms_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    Ok(vec![normalised(cx, n, x, true)?.0])
}

fn layer_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let (y, axis) = normalised(cx, n, x, false)?;
    let mut outs = vec![y];
    if n.wants(1) || n.wants(2) {
        let axes: Vec<usize> = (axis..cx.rank(x)).collect();
        let x = cx.cast(x, cx.wide(x))?;
        let mean = cx.mean(x, &axes, true)?;
        let centred = cx.binary("sub", x, mean)?;
        let square = cx.binary("mul", centred, centred)?;
        let var = cx.mean(square, &axes, true)?;
        let var = cx.with("add", var, n.float("epsilon", 1e-5)?)?;
        let deviation = cx.unary("sqrt", var)?;
        outs.extend([mean, cx.unary("reciprocal", deviation)?]);
    }
    Ok(outs)
}

fn lp_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axis = cx.axis(n.int("axis", -1)?, cx.rank(x))?;
    let p = n.int("p", 2)?;
    let y = cx.widened(x, |cx, x| {
        let norm = match p {
            1 => {
                let a = cx.unary("abs", x)?;
                cx.reduce("reduce_sum", a, &[axis], true)?
            }
            2 => {
                let s = cx.binary("mul", x, x)?;
                let s = cx.reduce("reduce_sum", s, &[axis], true)?;
                cx.unary("sqrt", s)?
            }
            _ => return Err(cx.invalid(codes::VALUE, format!("`p` must be 1 or 2, not {p}"))),
        };
        // Where the norm is 0, so is every element.
        let none = cx.with("eq", norm, 0.0)?;
        let one = cx.scalar(cx.dtype(x), 1.0);
        let norm = cx.select(none, one, norm)?;
        cx.binary("div", x, norm)
    })?;
    Ok(vec![y])
}

fn mean_variance_norm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axes = n.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = cx.axes(&axes, cx.rank(x))?;
    let y = cx.widened(x, |cx, x| {
        let mean = cx.mean(x, &axes, true)?;
        let centred = cx.binary("sub", x, mean)?;
        let square = cx.binary("mul", centred, centred)?;
        let var = cx.mean(square, &axes, true)?;
        let deviation = cx.unary("sqrt", var)?;
        // The operator's definition adds this so that a constant input gives 0.
        let deviation = cx.with("add", deviation, 1e-9)?;
        cx.binary("div", centred, deviation)
    })?;
    Ok(vec![y])
}

/// The sum of squares over neighbouring channels is a mean that counts the padding.
fn lrn(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let size = n.int("size", 0)?;
    let (alpha, beta, bias) = (n.float("alpha", 1e-4)?, n.float("beta", 0.75)?, n.float("bias", 1.0)?);
    let shape = cx.shape(x);
    if size < 1 || shape.len() < 2 {
        return Err(cx.invalid(codes::VALUE, format!("needs a positive `size` and channels, got {size}")));
    }
    let y = cx.widened(x, |cx, x| {
        let square = cx.binary("mul", x, x)?;
        let plane = [shape[0].clone(), Dim::from(1), shape[1].clone(), dim::product(&shape[2..])];
        let square = cx.reshape(square, &plane)?;
        let attrs = [
            ints("kernel", &[size, 1]),
            ints("strides", &[1, 1]),
            ints("dilations", &[1, 1]),
            ints("pads", &[(size - 1) / 2, 0, size / 2, 0]),
            int("include_pad", 1),
        ];
        let mean = cx.op("avg_pool", attrs, &[square])?;
        let mean = cx.reshape(mean, &shape)?;
        let scaled = cx.with("mul", mean, alpha)?;
        let base = cx.with("add", scaled, bias)?;
        let divisor = cx.with("pow", base, beta)?;
        cx.binary("div", x, divisor)
    })?;
    Ok(vec![y])
}
