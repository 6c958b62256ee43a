//! Layer and root-mean-square normalisation from means, squares and roots; softmax from exponentials, over any axis.
//!
//! A short ladder instead of one large pattern for each way to write them: what divides a tensor by the root of its mean
//! square is a normalisation with scale 1; a mean that is subtracted before, a scale and a bias join it one by one.

use super::algebra::product_of_constants;
use super::linear::vector;
use super::require_f32;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attr, Attrs, Dim, dim};
use egg::Id;

macro_rules! recovery {
    ($name:literal, $equation:literal, $lhs:literal => $rhs:expr) => {
        Rule {
            name: $name,
            equation: $equation,
            numerics: Numerics::Reassociates,
            recovers: true,
            lhs: $lhs,
            rhs: $rhs,
        }
    };
}
pub(super) use recovery;

pub(super) const RULES: &[Rule] = &[
    recovery!("rms-norm", "x / sqrt(mean(x^2) + e) = rms_norm(x)",
        "(mul ?x (reciprocal (sqrt (add (mul (reduce_sum:p (mul ?x ?x)) ?r:scalar) ?e:scalar))))" =>
        Rhs::Apply(rms_norm)),
    recovery!("layer-norm", "rms_norm(x - mean(x)) = layer_norm(x)",
        "(layer_norm:a (sub ?x (mul (reduce_sum:p ?x) ?r:scalar)) ?w)" => Rhs::Apply(layer_norm)),
    recovery!("layer-norm-axes", "rms_norm(x - mean(x)) = layer_norm(x) over several axes made one",
        "(layer_norm:a (reshape ?z=(sub ?x (mul (reduce_sum:p ?x) ?r:scalar))) ?w)" => Rhs::Apply(layer_norm_axes)),
    recovery!("norm-scale", "norm(x) * w = norm(x, w)",
        "(mul (layer_norm:a ?x ?w:const) ?s:const)" => Rhs::Apply(norm_scale)),
    recovery!("norm-bias", "norm(x, w) + b = norm(x, w, b)",
        "(add (layer_norm:a ?x ?w) ?s:const)" => Rhs::Apply(norm_bias)),
    recovery!("norm-reshape", "norm(reshape(x)) = reshape(norm(x)) where the last axis stays",
        "(layer_norm:a (reshape ?x) ?w)" => Rhs::Apply(norm_reshape)),
    recovery!("softmax", "exp(x - max(x)) / sum(exp(x - max(x))) = softmax(x)",
        "(mul (exp (sub ?x (reduce_max:p ?x))) (reciprocal (reduce_sum:q (exp (sub ?x (reduce_max:p ?x))))))" =>
        Rhs::Apply(softmax)),
    recovery!("softmax-excluded", "select(max(m) = -inf, 0, softmax(s + m)) = softmax(s + m) that gives 0 for rows without a score",
        "(select (eq (reduce_max:p ?m) ?f:scalar) ?z:scalar (softmax:s ?x=(add ?y ?m)))" => Rhs::Apply(softmax_excluded)),
    recovery!("softmax-masked", "softmax(x) with 0 for NaN = softmax(x) that gives 0 for rows without a score",
        "(select (is_nan (softmax{log=0, zero_masked=0} ?x)) 0 (softmax{log=0, zero_masked=0} ?x))" =>
        Rhs::Text("(softmax{zero_masked=1} ?x)")),
];

/// Requires a reduction over exactly the last axes, which stay as ones; gives how many and the product of their extents.
fn last_axes(b: &Builder<'_>, x: Id, attrs: &Attrs) -> Result<(usize, Dim), Miss> {
    let shape = b.ty(x)?.shape;
    let axes = attrs.ints("axes");
    let first = shape.len().checked_sub(axes.len()).ok_or("more axes than the tensor has")?;
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !attrs.flag("keepdims") || axes.is_empty() || sorted.iter().map(|a| *a as usize).ne(first..shape.len())
    {
        return Err(Miss(format!("the reduction is over axes {axes:?}, not the last ones")));
    }
    Ok((axes.len(), dim::product(&shape[first..])))
}

/// Requires the factor to turn a sum over `count` elements into their mean.
fn require_mean(b: &Builder<'_>, factor: Id, count: &Dim) -> Result<(), Miss> {
    let n = count.as_const().ok_or("the number of elements is not known")? as f64;
    let found = b.uniform(factor)?;
    let off = (found * n - 1.0).abs();
    if off.is_nan() || off > 1e-5 {
        return Err(Miss(format!("the sum of {n} elements is multiplied by {found}, which is no mean")));
    }
    Ok(())
}

fn norm_attrs(epsilon: f64, rms: bool) -> Attrs {
    Attrs::new([("epsilon", Attr::float(epsilon)), ("rms", Attr::Int(rms.into()))])
}

fn rms_norm(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, factor, epsilon) = (b.var("x")?, b.var("r")?, b.var("e")?);
    require_f32(b, x)?;
    let (axes, extent) = last_axes(b, x, &b.attrs("p")?)?;
    require_mean(b, factor, &extent)?;
    let (epsilon, ty) = (b.uniform(epsilon)?, b.ty(x)?);
    let ones = b.fill(ty.dtype, &extent, 1.0)?;
    if axes == 1 {
        return b.op("layer_norm", norm_attrs(epsilon, true), &[x, ones]);
    }
    let lead = ty.shape[..ty.rank() - axes].iter().cloned().chain([extent]).collect();
    let flat = b.reshape(x, lead)?;
    let norm = b.op("layer_norm", norm_attrs(epsilon, true), &[flat, ones])?;
    b.reshape(norm, ty.shape)
}

fn layer_norm(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, factor, attrs) = (b.var("x")?, b.var("w")?, b.var("r")?, b.attrs("a")?);
    if !attrs.flag("rms") {
        return Err("the mean is subtracted already".into());
    }
    let (axes, extent) = last_axes(b, x, &b.attrs("p")?)?;
    require_mean(b, factor, &extent)?;
    if axes != 1 {
        return Err("the mean is over more axes than the normalisation".into());
    }
    b.op("layer_norm", norm_attrs(attrs.float("epsilon"), false), &[x, w])
}

fn layer_norm_axes(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, factor, attrs) = (b.var("x")?, b.var("w")?, b.var("r")?, b.attrs("a")?);
    if !attrs.flag("rms") {
        return Err("the mean is subtracted already".into());
    }
    let (axes, extent) = last_axes(b, x, &b.attrs("p")?)?;
    require_mean(b, factor, &extent)?;
    let (shape, flat) = (b.ty(x)?.shape, b.ty(b.root()?)?.shape);
    let lead = &shape[..shape.len() - axes];
    if b.ty(b.var("z")?)?.shape != shape
        || !flat.split_last().is_some_and(|(d, rest)| *d == extent && rest == lead)
    {
        return Err("the mean is over other axes than the normalisation".into());
    }
    let flat = b.reshape(x, flat)?;
    b.op("layer_norm", norm_attrs(attrs.float("epsilon"), false), &[flat, w])
}

fn norm_scale(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, s) = (b.var("x")?, b.var("w")?, b.var("s")?);
    let extent = b.ty(w)?.shape[0].clone();
    let s = vector(b, s, &extent)?;
    let scale = if b.data(w).uniform() == Some(1.0) { s } else { product_of_constants(b, w, s)? };
    let attrs = b.attrs("a")?;
    b.op("layer_norm", attrs, &[x, scale])
}

fn norm_bias(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, s) = (b.var("x")?, b.var("w")?, b.var("s")?);
    let extent = b.ty(w)?.shape[0].clone();
    let bias = vector(b, s, &extent)?;
    let attrs = b.attrs("a")?;
    b.op("layer_norm", attrs, &[x, w, bias])
}

fn norm_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, attrs) = (b.var("x")?, b.var("w")?, b.attrs("a")?);
    if b.ty(x)?.shape.last() != b.ty(w)?.shape.first() {
        return Err("the reshape changes the last axis".into());
    }
    let norm = b.op("layer_norm", attrs, &[x, w])?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(norm, shape)
}

fn softmax(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_f32(b, x)?;
    let (largest, sum) = (b.attrs("p")?, b.attrs("q")?);
    let [axis] = sum.ints("axes") else { return Err("it is over more than one axis".into()) };
    if largest != sum || !sum.flag("keepdims") {
        return Err("the largest element is not taken as the sum is".into());
    }
    // The operator is over the last axis; swapping two axes is its own inverse.
    let mut swap: Vec<usize> = (0..b.ty(x)?.rank()).collect();
    let last = swap.len() - 1;
    let axis = usize::try_from(*axis).ok().filter(|a| *a <= last).ok_or("a negative axis")?;
    swap.swap(axis, last);
    let moved = b.transpose(x, &swap)?;
    let result = b.op("softmax", Attrs::default(), &[moved])?;
    b.transpose(result, &swap)
}

fn softmax_excluded(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, m, attrs, softmax) = (b.var("x")?, b.var("m")?, b.attrs("p")?, b.attrs("s")?);
    require_f32(b, x)?;
    let (low, other) = (b.uniform(b.var("f")?)?, b.uniform(b.var("z")?)?);
    if low != f64::NEG_INFINITY || other != 0.0 || softmax.flag("log") {
        return Err("it is not zero where nothing but -inf is added".into());
    }
    let last = b.ty(m)?.rank() as i64 - 1;
    if attrs.ints("axes") != [last] || !attrs.flag("keepdims") || b.ty(b.root()?)?.shape != b.ty(x)?.shape {
        return Err("the largest element is not that of a row".into());
    }
    if b.ty(m)?.shape.last() != b.ty(x)?.shape.last() {
        return Err("a row has more elements than the mask".into());
    }
    b.op("softmax", softmax.with("zero_masked", Attr::Int(1)), &[x])
}
