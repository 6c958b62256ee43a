//! Convolutions.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int, ints};
use super::super::node::{Importer, NodeCx, row};
use super::window::Window;
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("Conv", &[1, 11, 22], conv),
    row("ConvInteger", &[10], conv_integer),
    row("QLinearConv", &[10], super::quant::qlinear_conv),
];

/// The spatial extents of `x[n, c, ...]`.
pub(crate) fn spatial(cx: &Cx, x: ValueId) -> Res<Vec<Dim>> {
    let shape = cx.shape(x);
    if shape.len() < 3 {
        return Err(
            cx.invalid(codes::SHAPE, format!("needs [batch, channels, spatial...], got {}", cx.ty(x)))
        );
    }
    Ok(shape[2..].to_vec())
}

/// The kernel extents of the weights, checked against the attribute.
pub(crate) fn kernel(cx: &Cx, n: &NodeCx<'_>, w: ValueId) -> Res<Vec<i64>> {
    let extents: Option<Vec<i64>> = cx.shape(w).iter().skip(2).map(Dim::as_const).collect();
    let given = n.ints("kernel_shape")?.filter(|k| !k.is_empty());
    let Some(extents) = extents.or_else(|| given.clone()) else {
        return Err(cx.unknown("the extents of the kernel"));
    };
    match given {
        Some(given) if given != extents => {
            let what = format!("kernel_shape {given:?} is not that of the weights {}", cx.ty(w));
            Err(cx.invalid(codes::VALUE, what))
        }
        _ => Ok(extents),
    }
}

/// A convolution with the geometry of the node, without bias.
pub(crate) fn convolved(
    cx: &mut Cx,
    n: &NodeCx<'_>,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
) -> Res<ValueId> {
    let input = spatial(cx, x)?;
    let kernel = kernel(cx, n, w)?;
    let mut window = Window::read(cx, n, kernel, &input)?;
    let groups = n.int("group", 1)?;
    let (x, pads) = match window.fixed_pads().filter(|p| p.iter().all(|p| *p >= 0)) {
        Some(pads) => (x, pads),
        None => (window.pad(cx, x, 0.0)?, vec![0; 2 * input.len()]),
    };
    let attrs = [
        ints("strides", &window.strides),
        ints("dilations", &window.dilations),
        ints("pads", &pads),
        int("groups", groups),
    ];
    let args: Vec<ValueId> = [Some(x), Some(w), bias].into_iter().flatten().collect();
    cx.op("conv", attrs, &args)
}

fn conv(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, w) = (n.input(cx, 0)?, n.input(cx, 1)?);
    Ok(vec![convolved(cx, n, x, w, n.opt(2))?])
}

/// The float type in which sums of `terms` products of 9-bit integers are exact.
pub(crate) fn exact_float(terms: &Dim) -> DType {
    // Each factor is a difference of two 8-bit numbers, so at most 255 in magnitude.
    let bound = terms.as_const().and_then(|t| t.checked_mul(255 * 255));
    if bound.is_some_and(|b| b <= 1 << 24) { DType::F32 } else { DType::F64 }
}

/// The integer convolution of values and weights less their zero points, in a float type that holds it exactly.
pub(crate) fn integer_product(
    cx: &mut Cx,
    n: &NodeCx<'_>,
    (x, x_zero): (ValueId, Option<ValueId>),
    (w, w_zero): (ValueId, Option<ValueId>),
) -> Res<ValueId> {
    let shape = cx.shape(w);
    let float = exact_float(&autoglm_ir::dim::product(shape.iter().skip(1)));
    let rank = shape.len();
    let mut centre = |v, zero: Option<ValueId>| {
        let v = cx.cast(v, float)?;
        let Some(zero) = zero else { return Ok(v) };
        let zero = cx.cast(zero, float)?;
        // A vector of zero points belongs to the output channels.
        let zero = if cx.rank(zero) == 1 { cx.along(zero, 0, rank)? } else { zero };
        cx.binary("sub", v, zero)
    };
    let (x, w) = (centre(x, x_zero)?, centre(w, w_zero)?);
    convolved(cx, n, x, w, None)
}

fn conv_integer(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, w) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let y = integer_product(cx, n, (x, n.opt(2)), (w, n.opt(3)))?;
    Ok(vec![cx.cast(y, DType::I32)?])
}
