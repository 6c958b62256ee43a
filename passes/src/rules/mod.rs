//! The rules of the optimiser, one theme a file.

mod activation;
mod algebra;
mod attention;
mod causal;
mod conv;
mod experts;
mod linear;
mod norm;
mod positions;
mod rope;
mod select;
mod shape;
mod tails;
pub(crate) mod view;

use crate::egraph::{Builder, Miss, Rule};
use autoglm_ir::DType;
use egg::Id;

/// Every theme and its rules, in the order in which they are searched.
pub static THEMES: &[(&str, &[Rule])] = &[
    ("algebra", algebra::RULES),
    ("shape", shape::RULES),
    ("select", select::RULES),
    ("linear", linear::RULES),
    ("experts", experts::RULES),
    ("conv", conv::RULES),
    ("norm", norm::RULES),
    ("activation", activation::RULES),
    ("attention", attention::RULES),
    ("causal", causal::RULES),
    ("rope", rope::RULES),
    ("tails", tails::RULES),
];

/// All rules.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    THEMES.iter().flat_map(|(_, rules)| rules.iter())
}

/// Refuses what has no kernel: all but f32.
fn require_f32(b: &Builder<'_>, x: Id) -> Result<(), Miss> {
    match b.ty(x)?.dtype {
        DType::F32 => Ok(()),
        other => Err(Miss(format!("only f32 has a kernel, this is {other}"))),
    }
}

/// Refuses integers, whose arithmetic rounds otherwise.
fn require_float(b: &Builder<'_>, x: Id) -> Result<DType, Miss> {
    let dtype = b.ty(x)?.dtype;
    if dtype.is_float() { Ok(dtype) } else { Err(Miss(format!("holds for floats, this is {dtype}"))) }
}
