//! Quantisation and operators on quantised tensors.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, dtype, int};
use super::super::node::{Importer, NodeCx, row};
use super::conv::integer_product;
use super::matmul::{centred, product};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("DequantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], dequantize),
    row("DynamicQuantizeLinear", &[11], dynamic_quantize),
    row("QuantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], quantize),
];

/// A scale or zero point brought to a shape that broadcasts with `x`.
fn parameter(cx: &mut Cx, n: &NodeCx<'_>, v: ValueId, x: ValueId) -> Res<ValueId> {
    let (own, shape) = (cx.shape(v), cx.shape(x));
    if own.is_empty() || (own.len() == 1 && own[0].is(1)) {
        return cx.reshape(v, &[]);
    }
    let axis = cx.axis(n.int("axis", 1)?, shape.len())?;
    let block = if n.since >= 21 { n.int("block_size", 0)? } else { 0 };
    if block == 0 && own.len() == 1 {
        cx.require_eq(&own[0], &shape[axis], "the axis and its scales must have equal extents")?;
        return cx.along(v, axis, shape.len());
    }
    if own.len() != shape.len() || block < 1 {
        let what = format!("scale {} does not fit {} with block_size {block}", cx.ty(v), cx.ty(x));
        return Err(cx.invalid(codes::SHAPE, what));
    }
    // One scale a block: repeat each along the axis and cut the last block to the extent.
    let block = Dim::from(block);
    let (mut split, mut wide, mut joined) = (own.clone(), own.clone(), own.clone());
    split.insert(axis + 1, Dim::from(1));
    wide.insert(axis + 1, block.clone());
    joined[axis] = &own[axis] * &block;
    let y = cx.reshape(v, &split)?;
    let y = cx.expand(y, &wide)?;
    let y = cx.reshape(y, &joined)?;
    if joined[axis] == shape[axis] {
        return Ok(y);
    }
    cx.require_le(&shape[axis], &joined[axis], "there are too few blocks for the axis")?;
    cx.slice_axis(y, axis, &0.into(), &shape[axis], 1)
}

/// Rounds to nearest even, adds the zero point and saturates to an integer type.
fn to_integer(cx: &mut Cx, x: ValueId, zero: Option<ValueId>, to: DType) -> Res<ValueId> {
    let Some((lo, hi)) = to.int_range().filter(|_| to.bits() <= 16) else {
        return Err(cx.refuse(format!("quantisation to {to}"), "quantise to an integer of at most 16 bits"));
    };
    let x = cx.cast(x, if cx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 })?;
    let mut y = cx.unary("round", x)?;
    if let Some(zero) = zero {
        let zero = cx.cast(zero, cx.dtype(y))?;
        y = cx.binary("add", y, zero)?;
    }
    let y = cx.with("max", y, lo as f64)?;
    let y = cx.with("min", y, hi as f64)?;
    cx.cast(y, to)
}

fn quantize(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, scale) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let declared = if n.since >= 21 { n.dtype(cx, "output_dtype")? } else { None };
    let to = n.opt(2).map(|z| cx.dtype(z)).or(declared).unwrap_or(DType::U8);
    let precision = if n.since >= 23 { n.dtype(cx, "precision")? } else { None };
    let saturate = n.since < 19 || n.flag("saturate", true)?;
    let wide = precision.unwrap_or(cx.dtype(scale));
    if wide == DType::F8E8M0 || to == DType::F8E8M0 {
        return Err(cx.refuse("float8e8m0", "use float32 scales"));
    }
    let scale = parameter(cx, n, scale, x)?;
    let zero = n.opt(2).map(|z| parameter(cx, n, z, x)).transpose()?;
    let (wide_x, scale) = (cx.cast(x, wide)?, cx.cast(scale, wide)?);
    let mut y = cx.binary("div", wide_x, scale)?;
    if to.is_int() {
        return Ok(vec![to_integer(cx, y, zero, to)?]);
    }
    if !to.is_float() {
        return Err(cx.refuse(format!("quantisation to {to}"), "quantise to an integer or float type"));
    }
    if let Some(zero) = zero {
        let zero = cx.cast(zero, cx.dtype(y))?;
        y = cx.binary("add", y, zero)?;
    }
    let attrs = [dtype("to", to), int("wrap_overflow", i64::from(!saturate))];
    Ok(vec![cx.op("cast", attrs, &[y])?])
}

fn dequantize(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, scale) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let declared = if n.since >= 23 { n.dtype(cx, "output_dtype")? } else { None };
    let to = declared.unwrap_or(cx.dtype(scale));
    if cx.dtype(scale) == DType::F8E8M0 || !to.is_float() {
        return Err(cx.refuse(format!("scales of type {}", cx.dtype(scale)), "use float32 scales"));
    }
    let wide = if to == DType::F64 { DType::F64 } else { DType::F32 };
    let scale = parameter(cx, n, scale, x)?;
    let mut y = cx.cast(x, wide)?;
    if let Some(zero) = n.opt(2) {
        let zero = parameter(cx, n, zero, x)?;
        let zero = cx.cast(zero, wide)?;
        y = cx.binary("sub", y, zero)?;
    }
    let scale = cx.cast(scale, wide)?;
    let y = cx.binary("mul", y, scale)?;
    Ok(vec![cx.cast(y, to)?])
}

fn dynamic_quantize(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let all: Vec<usize> = (0..cx.rank(x)).collect();
    // The range always holds 0, so that 0 has an exact code.
    let (hi, lo) = (cx.reduce("reduce_max", x, &all, false)?, cx.reduce("reduce_min", x, &all, false)?);
    let (hi, lo) = (cx.with("max", hi, 0.0)?, cx.with("min", lo, 0.0)?);
    let span = cx.binary("sub", hi, lo)?;
    let scale = cx.with("div", span, 255.0)?;
    let below = cx.unary("neg", lo)?;
    let zero = cx.binary("div", below, scale)?;
    let zero = to_integer(cx, zero, None, DType::U8)?;
    let y = cx.binary("div", x, scale)?;
    Ok(vec![to_integer(cx, y, Some(zero), DType::U8)?, scale, zero])
}

fn require_integers(cx: &Cx, values: &[ValueId]) -> Res<()> {
    match values.iter().map(|v| cx.dtype(*v)).find(|d| !d.is_int() || d.bits() > 8) {
        Some(d) => Err(cx.refuse(format!("element type {d}"), "use int8 or uint8")),
        None => Ok(()),
    }
}

/// `round(accumulator * scales) + zero`, saturated. The scales are in f32.
fn requantized(cx: &mut Cx, y: ValueId, scales: ValueId, zero: ValueId) -> Res<ValueId> {
    let to = cx.dtype(zero);
    let y = cx.cast(y, DType::F32)?;
    let y = cx.binary("mul", y, scales)?;
    let zero = cx.reshape(zero, &[])?;
    to_integer(cx, y, Some(zero), to)
}

/// A scale as f32: a scalar, or a vector along `axis` of a tensor of `rank` dimensions.
fn scale(cx: &mut Cx, v: ValueId, axis: usize, rank: usize) -> Res<ValueId> {
    let v = cx.cast(v, DType::F32)?;
    match cx.shape(v).as_slice() {
        [n] if !n.is(1) => cx.along(v, axis, rank),
        [_] => cx.reshape(v, &[]),
        _ => Ok(v),
    }
}

/// `a * b / y` of three scales.
fn joint(cx: &mut Cx, a: ValueId, b: ValueId, y: ValueId) -> Res<ValueId> {
    let p = cx.binary("mul", a, b)?;
    cx.binary("div", p, y)
}

pub(crate) fn qlinear_matmul(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let mut p = Vec::with_capacity(8);
    for i in 0..8 {
        p.push(n.input(cx, i)?);
    }
    require_integers(cx, &[p[0], p[2], p[3], p[5], p[7]])?;
    let (a, b) = (centred(cx, p[0], Some(p[2]), true)?, centred(cx, p[3], Some(p[5]), false)?);
    let y = product(cx, a, b)?;
    let rank = cx.rank(y).max(2);
    let sa = scale(cx, p[1], rank - 2, rank)?;
    let sb = scale(cx, p[4], rank - 1, rank)?;
    let sy = scale(cx, p[6], rank - 2, rank)?;
    let scales = joint(cx, sa, sb, sy)?;
    Ok(vec![requantized(cx, y, scales, p[7])?])
}

pub(crate) fn qlinear_conv(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let mut p = Vec::with_capacity(8);
    for i in 0..8 {
        p.push(n.input(cx, i)?);
    }
    require_integers(cx, &[p[0], p[2], p[3], p[5], p[7]])?;
    let mut y = integer_product(cx, n, (p[0], Some(p[2])), (p[3], Some(p[5])))?;
    let rank = cx.rank(y);
    if let Some(bias) = n.opt(8) {
        let bias = cx.cast(bias, cx.dtype(y))?;
        let bias = cx.along(bias, 1, rank)?;
        y = cx.binary("add", y, bias)?;
    }
    let (sx, sw) = (scale(cx, p[1], 1, rank)?, scale(cx, p[4], 1, rank)?);
    let sy = scale(cx, p[6], 1, rank)?;
    let scales = joint(cx, sx, sw, sy)?;
    Ok(vec![requantized(cx, y, scales, p[7])?])
}
