//! Products with weights.

use super::algebra::rule;
use super::require_f32;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attrs, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("linear", Exact, "matmul(x, constant matrix w) = linear(x, w)",
        "(matmul ?x ?w:const)" => Rhs::Apply(linear)),
    rule!("linear-bias", Reassociates, "linear(x, w) + b = linear(x, w, b) for constant b along the columns",
        "(add (linear ?x ?w) ?b:const)" => Rhs::Apply(linear_bias)),
    rule!("linear-reshape", Exact, "linear(reshape(x), w) = reshape(linear(x, w)) where the last axis stays",
        "(linear (reshape ?x) ?w)" => Rhs::Apply(linear_reshape)),
    rule!("linear-bias-reshape", Exact, "linear(reshape(x), w, b) = reshape(linear(x, w, b)) where the last axis stays",
        "(linear (reshape ?x) ?w ?b)" => Rhs::Apply(linear_reshape)),
    rule!("linear-chain", Reassociates, "linear(linear(x, a), b) = linear(x, a b)",
        "(linear (linear ?x ?a:const) ?w:const)" => Rhs::Apply(chain)),
    rule!("linear-chain-bias", Reassociates, "linear(linear(x, a), b, d) = linear(x, a b, d)",
        "(linear (linear ?x ?a:const) ?w:const ?d)" => Rhs::Apply(chain)),
];

fn linear(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w) = (b.var("x")?, b.var("w")?);
    require_f32(b, x)?;
    if b.ty(w)?.rank() != 2 || b.data(x).constant.is_some() {
        return Err("the constant is not one matrix".into());
    }
    b.op("linear", Attrs::default(), &[x, w])
}

/// A constant that only varies along the last axis, as a vector.
pub(super) fn vector(b: &mut Builder<'_>, c: Id, len: &Dim) -> Result<Id, Miss> {
    let ty = b.ty(c)?;
    let Some((last, lead)) = ty.shape.split_last() else {
        let value = b.uniform(c)?;
        return b.fill(ty.dtype, len, value);
    };
    if !lead.iter().all(|d| d.is(1)) {
        return Err(Miss(format!("{ty} varies along more than the last axis")));
    }
    if last == len {
        return b.reshape(c, vec![len.clone()]);
    }
    let value = b.uniform(c)?;
    b.fill(ty.dtype, len, value)
}

fn linear_bias(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, bias) = (b.var("x")?, b.var("w")?, b.var("b")?);
    let columns = b.ty(w)?.shape[1].clone();
    let bias = vector(b, bias, &columns)?;
    b.op("linear", Attrs::default(), &[x, w, bias])
}

/// Pays where the matrix in the middle is not much narrower than the others; the cost decides.
fn chain(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, a, w) = (b.var("x")?, b.var("a")?, b.var("w")?);
    let inner = b.ty(a)?.shape[1].as_const().ok_or("the inner extent is not known")? as f64;
    let bound = b.largest(a)? * b.largest(w)? * inner;
    if bound.is_nan() || bound > f64::from(f32::MAX) {
        return Err(Miss(format!("the weights together may be as large as {bound}")));
    }
    let both = b.op("matmul", Attrs::default(), &[a, w])?;
    if b.data(both).constant.is_none() {
        return Err("the weights are too large to be multiplied here".into());
    }
    let args: Vec<Id> = [x, both].into_iter().chain(b.var("d").ok()).collect();
    b.op("linear", Attrs::default(), &args)
}

fn linear_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w) = (b.var("x")?, b.var("w")?);
    if b.ty(x)?.shape.last() != b.ty(w)?.shape.first() {
        return Err("the reshape changes the last axis".into());
    }
    let args: Vec<Id> = [x, w].into_iter().chain(b.var("b").ok()).collect();
    let product = b.op("linear", Attrs::default(), &args)?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(product, shape)
}
