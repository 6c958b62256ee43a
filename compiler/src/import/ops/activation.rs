//! Activation functions, decomposed.

use super::super::cx::{Cx, Outs, Res};
use super::super::node::{Importer, NodeCx, row};
use super::elementwise::aligned;
use autoglm_ir::{DType, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("Celu", &[12, 28], celu),
    row("Clip", &[1, 6, 11, 12, 13], clip),
    row("Elu", &[1, 6, 22], elu),
    row("Gelu", &[20], gelu),
    row("HardSigmoid", &[1, 6, 22], hard_sigmoid),
    row("HardSwish", &[14, 22], hard_swish),
    row("LeakyRelu", &[1, 6, 16], leaky_relu),
    row("Mish", &[18, 22], mish),
    row("PRelu", &[1, 6, 7, 9, 16], prelu),
    row("Relu", &[1, 6, 13, 14], relu),
    row("Selu", &[1, 6, 22], selu),
    row("Shrink", &[9], shrink),
    row("Softplus", &[1, 22], softplus),
    row("Softsign", &[1, 22], softsign),
    row("SwiGLU", &[28], swiglu),
    row("Swish", &[24], swish),
    row("ThresholdedRelu", &[10, 22], thresholded_relu),
];

fn relu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    Ok(vec![cx.with("max", x, 0.0)?])
}

/// `slope * x` for negative x, else x.
fn leaky(cx: &mut Cx, x: ValueId, slope: ValueId) -> Res<ValueId> {
    let negative = cx.with("lt", x, 0.0)?;
    let scaled = cx.binary("mul", x, slope)?;
    cx.select(negative, scaled, x)
}

fn leaky_relu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let alpha = n.float("alpha", 0.01)?;
    let x = n.input(cx, 0)?;
    let y = cx.widened(x, |cx, x| {
        let slope = cx.scalar(cx.dtype(x), alpha);
        leaky(cx, x, slope)
    })?;
    Ok(vec![y])
}

fn prelu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, mut slope) = (n.input(cx, 0)?, n.input(cx, 1)?);
    // Before operator set 7 a vector of slopes belongs to the channels.
    if n.since < 7 && cx.rank(slope) == 1 && cx.rank(x) > 2 {
        slope = aligned(cx, x, slope, Some(1))?;
    }
    Ok(vec![leaky(cx, x, slope)?])
}

/// `scale * (exp(x / width) - 1)`.
fn exp_minus_one(cx: &mut Cx, x: ValueId, scale: f64, width: f64) -> Res<ValueId> {
    let x = if width == 1.0 { x } else { cx.with("div", x, width)? };
    let e = cx.unary("exp", x)?;
    let m = cx.with("sub", e, 1.0)?;
    if scale == 1.0 { Ok(m) } else { cx.with("mul", m, scale) }
}

fn elu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, alpha) = (n.input(cx, 0)?, n.float("alpha", 1.0)?);
    let y = cx.widened(x, |cx, x| {
        let negative = cx.with("lt", x, 0.0)?;
        let curve = exp_minus_one(cx, x, alpha, 1.0)?;
        cx.select(negative, curve, x)
    })?;
    Ok(vec![y])
}

fn celu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, alpha) = (n.input(cx, 0)?, n.float("alpha", 1.0)?);
    let y = cx.widened(x, |cx, x| {
        let above = cx.with("max", x, 0.0)?;
        let curve = exp_minus_one(cx, x, alpha, alpha)?;
        let below = cx.with("min", curve, 0.0)?;
        cx.binary("add", above, below)
    })?;
    Ok(vec![y])
}

fn selu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    // Operator set 1 gives slightly different defaults.
    let old = n.since < 6;
    let alpha = n.float("alpha", if old { 1.6732 } else { 1.673_263_2 })?;
    let gamma = n.float("gamma", if old { 1.0507 } else { 1.050_701 })?;
    let y = cx.widened(x, |cx, x| {
        let negative = cx.with("lt", x, 0.0)?;
        let curve = exp_minus_one(cx, x, alpha, 1.0)?;
        let y = cx.select(negative, curve, x)?;
        cx.with("mul", y, gamma)
    })?;
    Ok(vec![y])
}

fn clip(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let d = cx.dtype(x);
    let (lo, hi) = if n.since < 11 {
        let (lo, hi) = (n.opt_float("min")?, n.opt_float("max")?);
        (lo.map(|v| cx.scalar(d, v)), hi.map(|v| cx.scalar(d, v)))
    } else {
        (n.opt(1), n.opt(2))
    };
    let mut y = x;
    for (op, bound) in [("max", lo), ("min", hi)] {
        if let Some(bound) = bound {
            y = cx.binary(op, y, bound)?;
        }
    }
    Ok(vec![y])
}

/// `clamp(alpha * x + beta, 0, 1)`.
fn hard(cx: &mut Cx, x: ValueId, alpha: f64, beta: f64) -> Res<ValueId> {
    let y = cx.with("mul", x, alpha)?;
    let y = cx.with("add", y, beta)?;
    let y = cx.with("max", y, 0.0)?;
    cx.with("min", y, 1.0)
}

fn hard_sigmoid(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (alpha, beta) = (n.float("alpha", 0.2)?, n.float("beta", 0.5)?);
    let x = n.input(cx, 0)?;
    Ok(vec![cx.widened(x, |cx, x| hard(cx, x, alpha, beta))?])
}

fn hard_swish(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let y = cx.widened(x, |cx, x| {
        let gate = hard(cx, x, f64::from(1.0f32 / 6.0), 0.5)?;
        cx.binary("mul", x, gate)
    })?;
    Ok(vec![y])
}

/// `log(1 + exp(x))` without overflow.
fn soft_plus(cx: &mut Cx, x: ValueId) -> Res<ValueId> {
    let a = cx.unary("abs", x)?;
    let minus = cx.unary("neg", a)?;
    let e = cx.unary("exp", minus)?;
    let one = cx.with("add", e, 1.0)?;
    let log = cx.unary("log", one)?;
    let above = cx.with("max", x, 0.0)?;
    cx.binary("add", above, log)
}

fn softplus(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    Ok(vec![cx.widened(x, soft_plus)?])
}

fn softsign(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let y = cx.widened(x, |cx, x| {
        let a = cx.unary("abs", x)?;
        let d = cx.with("add", a, 1.0)?;
        cx.binary("div", x, d)
    })?;
    Ok(vec![y])
}

fn mish(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let y = cx.widened(x, |cx, x| {
        let s = soft_plus(cx, x)?;
        let t = cx.unary("tanh", s)?;
        cx.binary("mul", x, t)
    })?;
    Ok(vec![y])
}

/// `x * sigmoid(alpha * x)`.
fn swished(cx: &mut Cx, x: ValueId, alpha: f64) -> Res<ValueId> {
    let scaled = if alpha == 1.0 { x } else { cx.with("mul", x, alpha)? };
    let gate = cx.unary("sigmoid", scaled)?;
    cx.binary("mul", x, gate)
}

fn swish(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, alpha) = (n.input(cx, 0)?, n.float("alpha", 1.0)?);
    Ok(vec![cx.widened(x, |cx, x| swished(cx, x, alpha))?])
}

fn swiglu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b, alpha) = (n.input(cx, 0)?, n.input(cx, 1)?, n.float("alpha", 1.0)?);
    let (from, wide) = (cx.dtype(a), cx.wide(a));
    let (a, b) = (cx.cast(a, wide)?, cx.cast(b, wide)?);
    let gate = swished(cx, a, alpha)?;
    let y = cx.binary("mul", gate, b)?;
    Ok(vec![cx.cast(y, from)?])
}

fn gelu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let tanh = n.known_mode(cx, "approximate", "none", &["none", "tanh"])? == "tanh";
    let y = cx.widened(x, |cx, x| {
        let inner = if tanh {
            let square = cx.binary("mul", x, x)?;
            let cube = cx.binary("mul", square, x)?;
            let c = cx.with("mul", cube, 0.044715)?;
            let s = cx.binary("add", x, c)?;
            let scaled = cx.with("mul", s, (2.0 / std::f64::consts::PI).sqrt())?;
            cx.unary("tanh", scaled)?
        } else {
            let scaled = cx.with("mul", x, std::f64::consts::FRAC_1_SQRT_2)?;
            cx.unary("erf", scaled)?
        };
        let gate = cx.with("add", inner, 1.0)?;
        let y = cx.binary("mul", x, gate)?;
        cx.with("mul", y, 0.5)
    })?;
    Ok(vec![y])
}

fn thresholded_relu(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, alpha) = (n.input(cx, 0)?, n.float("alpha", 1.0)?);
    let above = cx.with("gt", x, alpha)?;
    let zero = cx.scalar(cx.dtype(x), 0.0);
    Ok(vec![cx.select(above, x, zero)?])
}

fn shrink(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, bias, lambd) = (n.input(cx, 0)?, n.float("bias", 0.0)?, n.float("lambd", 0.5)?);
    let from = cx.dtype(x);
    // Integers are compared with fractional thresholds.
    let wide = if from.is_int() { DType::F64 } else { cx.wide(x) };
    let x = cx.cast(x, wide)?;
    let (low, high) = (cx.with("lt", x, -lambd)?, cx.with("gt", x, lambd)?);
    let (up, down) = (cx.with("add", x, bias)?, cx.with("sub", x, bias)?);
    let zero = cx.scalar(wide, 0.0);
    let y = cx.select(high, down, zero)?;
    let y = cx.select(low, up, y)?;
    Ok(vec![cx.cast(y, from)?])
}
