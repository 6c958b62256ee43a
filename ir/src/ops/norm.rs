//! Normalisations over the last axis.

use super::common::{Domain, require_same_dtype};
use crate::dim::Dim;
use crate::op::{Arity, AttrKind, AttrSpec, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, Work};
use crate::tensor::Tensor;

fn last_extent<'a>(cx: &'a InferCx<'_>) -> Result<&'a Dim, OpError> {
    let x = cx.arg(0)?;
    Domain::Float.require(x)?;
    x.shape.last().ok_or_else(|| "needs at least one axis".into())
}

/// Applies `f` to every row along the last axis.
fn map_rows(x: &Tensor, f: impl Fn(&mut [f64])) -> Vec<Tensor> {
    let mut v = x.to_f64();
    let extent = x.shape.last().copied().unwrap_or(1).max(1);
    v.chunks_exact_mut(extent).for_each(f);
    vec![Tensor::floats(x.dtype, x.shape.clone(), v)]
}

/// Exponentials that sum to 1.
pub static SOFTMAX: OpDef = OpDef {
    name: "softmax",
    doc: "`exp(x) / sum(exp(x))` over the last axis, shifted by the maximum; its logarithm with `log`. With `zero_masked` a row of only -inf, \
          or with a NaN, gives zeros.",
    arity: Arity::exactly(1),
    attrs: &[AttrSpec::optional("log", AttrKind::Int), AttrSpec::optional("zero_masked", AttrKind::Int)],
    class: Fusion::Reduction,
    infer: |cx| {
        last_extent(cx)?;
        Ok(vec![cx.arg(0)?.clone()])
    },
    eval: |cx| {
        let (log, zero_masked) = (cx.attrs.flag("log"), cx.attrs.flag("zero_masked"));
        Ok(map_rows(cx.arg(0)?, |row| softmax_row(row, log, zero_masked)))
    },
    content: None,
    work: |_, out| Work { flops: &Dim::from(5) * &out.numel() },
    samples: &["f32[2,N]", "f16[3] {log=1}", "f32[N,3] {zero_masked=1}"],
};

/// In place.
pub(super) fn softmax_row(row: &mut [f64], log: bool, zero_masked: bool) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, super::scalar::max);
    let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
    for x in row {
        *x = if log { *x - max - sum.ln() } else { (*x - max).exp() / sum };
        if zero_masked && x.is_nan() {
            *x = 0.0;
        }
    }
}

/// Rows of mean 0 and variance 1, then scaled and shifted.
pub static LAYER_NORM: OpDef = OpDef {
    name: "layer_norm",
    doc: "`(x - mean) / sqrt(variance + epsilon) * scale + bias` over the last axis; with `rms` the mean is not \
          subtracted and the mean square takes the place of the variance.",
    arity: Arity::range(2, 3),
    attrs: &[AttrSpec::required("epsilon", AttrKind::Float), AttrSpec::optional("rms", AttrKind::Int)],
    class: Fusion::Reduction,
    infer: |cx| {
        let (x, extent) = (cx.arg(0)?, last_extent(cx)?);
        for factor in &cx.args[1..] {
            require_same_dtype(x, factor)?;
            let [d] = factor.shape.as_slice() else {
                return Err(format!("scale and bias must have one axis, got {factor}"));
            };
            cx.require_eq(extent, d, "extents of the last axis and of scale or bias")?;
        }
        Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
    },
    eval: eval_layer_norm,
    content: None,
    work: |_, out| Work { flops: &Dim::from(8) * &out.numel() },
    samples: &["f32[2,N], f32[N], f32[N] {epsilon=1e-5}", "f32[N,4], f32[4] {epsilon=1e-6, rms=1}"],
};

fn eval_layer_norm(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (epsilon, rms) = (cx.attrs.float("epsilon"), cx.attrs.flag("rms"));
    let scale = cx.arg(1)?.to_f64();
    let bias = cx.args.get(2).map(Tensor::to_f64);
    Ok(map_rows(cx.arg(0)?, |row| {
        let n = row.len() as f64;
        let mean = if rms { 0.0 } else { row.iter().sum::<f64>() / n };
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for (i, x) in row.iter_mut().enumerate() {
            *x = (*x - mean) * factor * scale[i] + bias.as_ref().map_or(0.0, |b| b[i]);
        }
    }))
}
