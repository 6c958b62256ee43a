//! A depthwise convolution and the pointwise one behind it as one convolution.
//!
//! It takes more arithmetic and one step less, so it is worth it for few channels; the cost model decides.

use super::algebra::{product_of_constants, rule, sum_of_constants};
use super::conv::require_plain;
use super::require_f32;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::op::TensorType;
use autoglm_ir::{Attr, Attrs, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("depthwise-pointwise", Reassociates, "conv(conv(x, d), w) = conv(x, w d) for d depthwise and w pointwise",
        "(conv:p (conv:q ?x ?d:const) ?w:const)" => Rhs::Apply(joined)),
    rule!("depthwise-pointwise-bias", Reassociates, "conv(conv(x, d), w, b) = conv(x, w d, b) for d depthwise and w pointwise",
        "(conv:p (conv:q ?x ?d:const) ?w:const ?b:const)" => Rhs::Apply(joined)),
    rule!("depthwise-bias-pointwise", Reassociates, "conv(conv(x, d, e), w) = conv(x, w d, w e) for d depthwise and w pointwise",
        "(conv:p (conv:q ?x ?d:const ?e:const) ?w:const)" => Rhs::Apply(joined)),
    rule!("depthwise-bias-pointwise-bias", Reassociates,
        "conv(conv(x, d, e), w, b) = conv(x, w d, w e + b) for d depthwise and w pointwise",
        "(conv:p (conv:q ?x ?d:const ?e:const) ?w:const ?b:const)" => Rhs::Apply(joined)),
];

/// The channels of a depthwise convolution, each with a window of its own.
fn depthwise(attrs: &Attrs, weight: &TensorType) -> Result<Dim, Miss> {
    require_plain(attrs)?;
    match weight.shape.as_slice() {
        [channels, one, ..] if one.is(1) && *channels == Dim::from(attrs.int("groups")) => {
            Ok(channels.clone())
        }
        _ => Err("the first convolution does not have a window for each channel".into()),
    }
}

/// Requires windows of one pixel, one after the other, over all channels.
fn require_pointwise(attrs: &Attrs, weight: &TensorType) -> Result<(), Miss> {
    require_plain(attrs)?;
    let single = weight.shape.iter().skip(2).all(|extent| extent.is(1));
    let dense = attrs.ints("strides").iter().all(|s| *s == 1) && attrs.ints("pads").iter().all(|p| *p == 0);
    if single && dense && attrs.int("groups") == 1 {
        Ok(())
    } else {
        Err("the second convolution is not pointwise".into())
    }
}

fn joined(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, d, w) = (b.var("x")?, b.var("d")?, b.var("w")?);
    require_f32(b, x)?;
    let (outer, inner) = (b.attrs("p")?, b.attrs("q")?);
    let (windows, mixing) = (b.ty(d)?, b.ty(w)?);
    let channels = depthwise(&inner, &windows)?;
    require_pointwise(&outer, &mixing)?;
    // [m, c, 1, 1] times [1, c, kh, kw].
    let mut row = windows.shape.clone();
    row.swap(0, 1);
    let row = b.reshape(d, row)?;
    let weight = product_of_constants(b, w, row)?;
    let mut bias = b.var("b").ok();
    if let Ok(e) = b.var("e") {
        let matrix = b.reshape(w, vec![mixing.shape[0].clone(), channels])?;
        let terms = product_of_constants(b, matrix, e)?;
        let sum = Attrs::new([("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(0))]);
        let own = b.op("reduce_sum", sum, &[terms])?;
        bias = Some(match bias {
            Some(bias) => sum_of_constants(b, own, bias)?,
            None => own,
        });
    }
    let args: Vec<Id> = [x, weight].into_iter().chain(bias).collect();
    b.op("conv", inner.with("groups", Attr::Int(1)), &args)
}
