//! Other algorithms for an operator. Their weights take more bytes.

use super::algebra::rule;
use super::require_f32;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::Attr;
use autoglm_ir::ops::contraction::winograd_fits;
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("winograd", Reassociates, "conv(x, w) = conv(x, w) by Winograd's algorithm for windows of 3 x 3",
        "(conv:p ?x ?w:const)" => Rhs::Apply(winograd)),
    rule!("winograd-bias", Reassociates, "conv(x, w, b) = conv(x, w, b) by Winograd's algorithm for windows of 3 x 3",
        "(conv:p ?x ?w:const ?b)" => Rhs::Apply(winograd)),
];

/// The convolution by Winograd's algorithm (Lavin and Gray, 2016).
fn winograd(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, attrs) = (b.var("x")?, b.var("w")?, b.attrs("p")?);
    require_f32(b, x)?;
    if !attrs.str("algorithm").is_empty() {
        return Err("the algorithm is chosen already".into());
    }
    if !winograd_fits(&attrs, &b.ty(w)?) {
        return Err("the windows are not of 3 x 3 neighbours, stride 1, one group".into());
    }
    let args: Vec<Id> = [x, w].into_iter().chain(b.var("b").ok()).collect();
    b.op("conv", attrs.with("algorithm", Attr::Str("winograd".into())), &args)
}
