//! The rules of the optimiser, one theme a file.

mod activation;
mod algebra;
mod algorithm;
mod attention;
mod causal;
mod conv;
mod experts;
mod linear;
mod mixture;
mod norm;
mod positions;
mod rope;
mod select;
mod separable;
mod shape;
mod tails;
pub(crate) mod view;

use crate::Options;
use crate::egraph::{Builder, Miss, Numerics, Rule};
use autoglm_ir::DType;
use egg::Id;

/// Every theme and its rules, in the order in which they are searched.
pub static THEMES: &[(&str, &[Rule])] = &[
    ("algebra", algebra::RULES),
    ("shape", shape::RULES),
    ("select", select::RULES),
    ("linear", linear::RULES),
    ("experts", experts::RULES),
    ("mixture", mixture::RULES),
    ("conv", conv::RULES),
    ("separable", separable::RULES),
    ("norm", norm::RULES),
    ("activation", activation::RULES),
    ("attention", attention::RULES),
    ("causal", causal::RULES),
    ("rope", rope::RULES),
    ("tails", tails::RULES),
    ALGORITHM,
];

/// The theme that [`crate::Options::compact`] does without.
const ALGORITHM: (&str, &[Rule]) = ("algorithm", algorithm::RULES);

/// All rules.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    THEMES.iter().flat_map(|(_, rules)| rules.iter())
}

/// The rules of a compile with these options.
pub(crate) fn with(options: &Options) -> impl Iterator<Item = &'static Rule> {
    let (strict, compact) = (options.strict, options.compact);
    THEMES
        .iter()
        .filter(move |(theme, _)| !compact || *theme != ALGORITHM.0)
        .flat_map(|(_, rules)| rules.iter())
        .filter(move |r| !strict || r.numerics == Numerics::Exact)
        .filter(|r| r.numerics != Numerics::Approximate)
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
