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
