//! Causal masks: what hides keys by position alone becomes a property of the attention, which then skips them.
//!
//! A mask is `select(c, m, f)` with a condition `c` on positions, or what is added to that. The part of `c` that compares the
//! positions of queries and keys leaves the mask; what is left (padding, a window) stays. In f32 a score plus `f` is `f` where `f` is
//! low enough, so the attention gives hidden keys that score: a row that sees no other key weighs them as before.

use super::algebra::{require_factor, rule};
use super::norm::recovery;
use super::positions::{always, causal_attrs, magnitude, split, zeros};
use super::require_f32;
use super::shape::perm_of;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attr, Attrs};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    recovery!("causal", "attention(q, k, v, select(j <= i + o and c, m, f)) = attention(q, k, v, select(c, m, f)) that sees keys up to o",
        "(attention:a ?q ?k ?v (select ?c ?m ?f:scalar))" => Rhs::Apply(|b| causal(b, true))),
    recovery!("causal-not", "attention(q, k, v, select(j > i + o or c, f, m)) = attention(q, k, v, select(c, f, m)) that sees keys up to o",
        "(attention:a ?q ?k ?v (select ?c ?f:scalar ?m))" => Rhs::Apply(|b| causal(b, false))),
    recovery!("causal-bias", "attention(q, k, v, n + select(j <= i + o and c, m, f)) = attention(q, k, v, n + select(c, m, f)) that sees keys up to o",
        "(attention:a ?q ?k ?v (add ?n (select ?c ?m ?f:scalar)))" => Rhs::Apply(|b| causal(b, true))),
    recovery!("causal-bias-not", "attention(q, k, v, n + select(j > i + o or c, f, m)) = attention(q, k, v, n + select(c, f, m)) that sees keys up to o",
        "(attention:a ?q ?k ?v (add ?n (select ?c ?f:scalar ?m)))" => Rhs::Apply(|b| causal(b, false))),
    recovery!("causal-constant", "attention(q, k, v, a triangle of zeros and f) = attention(q, k, v) that sees keys up to its diagonal",
        "(attention:a ?q ?k ?v ?m:const)" => Rhs::Apply(causal_constant)),
    recovery!("causal-table", "attention(q, k, v, a slice of a triangle of zeros and f) = attention(q, k, v) that sees keys up to its diagonal",
        "(attention:a ?q ?k ?v ?x=(slice ?m:const))" => Rhs::Apply(causal_constant)),
    recovery!("masked-scores", "softmax(select(c, s, f)) = softmax(s + select(c, 0, f)) for scores s",
        "(softmax:s (select ?c ?x ?f:scalar))" => Rhs::Apply(|b| masked_scores(b, true))),
    recovery!("masked-scores-not", "softmax(select(c, f, s)) = softmax(s + select(c, f, 0)) for scores s",
        "(softmax:s (select ?c ?f:scalar ?x))" => Rhs::Apply(|b| masked_scores(b, false))),
    recovery!("masked-scores-bias", "softmax(select(c, s, f) + m) = softmax(s + (select(c, 0, f) + m)) for scores s",
        "(softmax:s (add (select ?c ?x ?f:scalar) ?m))" => Rhs::Apply(|b| masked_scores(b, true))),
    recovery!("masked-scores-bias-not", "softmax(select(c, f, s) + m) = softmax(s + (select(c, f, 0) + m)) for scores s",
        "(softmax:s (add (select ?c ?f:scalar ?x) ?m))" => Rhs::Apply(|b| masked_scores(b, false))),
    rule!("scale-select", Exact, "select(c, a, b) * k = select(c, a * k, b * k) for numbers a, b and k",
        "(mul (select ?c ?x:scalar ?y:scalar) ?k:scalar)" => Rhs::Apply(scale_select)),
    rule!("nested-masks", Exact, "select(c, select(d, x, f), f) = select(c and d, x, f)",
        "(select ?c (select ?d ?x ?f:scalar) ?g:scalar)" => Rhs::Apply(|b| nested_masks(b, true))),
    rule!("nested-masks-not", Exact, "select(c, f, select(d, x, f)) = select(not c and d, x, f)",
        "(select ?c ?g:scalar (select ?d ?x ?f:scalar))" => Rhs::Apply(|b| nested_masks(b, false))),
    rule!("mask-expand", Exact, "attention(q, k, v, expand(m)) = attention(q, k, v, m)",
        "(attention:a ?q ?k ?v (expand ?m))" => Rhs::Apply(mask_expand)),
    rule!("certain-select", Exact, "select(c, x, y) = expand(x) where c holds at every position",
        "(select ?c ?x ?y)" => Rhs::Apply(|b| certain(b, true))),
    rule!("certain-select-not", Exact, "select(c, x, y) = expand(y) where c holds at no position",
        "(select ?c ?x ?y)" => Rhs::Apply(|b| certain(b, false))),
    rule!("certain-and", Exact, "c and x = expand(x) where c holds at every position", "(and ?c ?x)" => Rhs::Apply(certain_and)),
    rule!("add-zeros", Reassociates, "x + expand(0) = expand(x)", "(add ?x 0)" => Rhs::Apply(widened)),
    rule!("expand-select", Exact, "select(expand(c), a, b) = expand(select(c, a, b)) for numbers a and b",
        "(select (expand ?c) ?x:scalar ?y:scalar)" => Rhs::Apply(expand_select)),
    rule!("reshape-select", Exact, "reshape(select(c, a, b)) = select(reshape(c), a, b) for numbers a and b",
        "(reshape:p (select ?c ?x:scalar ?y:scalar))" => Rhs::Apply(reshape_select)),
    rule!("transpose-select", Exact, "transpose(select(c, a, b)) = select(transpose(c), a, b) for numbers a and b",
        "(transpose:p (select ?c ?x:scalar ?y:scalar))" => Rhs::Apply(transpose_select)),
];

/// What is this low absorbs a score when it is added to it, unless the score is out of all proportion.
const ABSORBS_MAX: f64 = -1e30;
/// A number absorbs what is smaller than it by this factor: half a unit of its last place in f32.
const ABSORBED: f64 = 3.4e7;

/// The number that hides a key.
fn fill(b: &Builder<'_>) -> Result<f64, Miss> {
    let fill = b.uniform(b.var("f")?)?;
    if fill <= ABSORBS_MAX {
        return Ok(fill);
    }
    if fill == 0.0 {
        return Err("the number that the condition chooses hides no key".into());
    }
    Err(Miss(format!("{fill} is not low enough to hide a key whatever its score")))
}

fn require_no_causal(attrs: &Attrs) -> Result<(), Miss> {
    if attrs.get("causal").is_none() { Ok(()) } else { Err("the attention is causal already".into()) }
}

fn causal(b: &mut Builder<'_>, holds: bool) -> Result<Id, Miss> {
    let (q, k, v, attrs) = (b.var("q")?, b.var("k")?, b.var("v")?, b.attrs("a")?);
    let (c, m, f) = (b.var("c")?, b.var("m")?, b.var("f")?);
    require_no_causal(&attrs)?;
    let fill = fill(b)?;
    let bias = b.var("n").ok();
    if let Some(n) = bias
        && fill.is_finite()
        && magnitude(b, n) * ABSORBED > -fill
    {
        return Err(
            "what is added to the mask may itself hide keys, which differs in rows that see none".into()
        );
    }
    let queries = b.ty(q)?.shape.get(2).cloned().ok_or("the queries have no positions")?;
    let split = split(b, c, holds, &queries)?;
    let mut args = vec![q, k, v];
    let mut mask = match split.rest {
        Some(rest) => Some(b.op("select", Attrs::default(), &[rest, m, f])?),
        None if b.data(m).uniform() == Some(0.0) => None,
        None => Some(m),
    };
    if let Some(n) = bias {
        mask = Some(match mask {
            Some(mask) => b.op("add", Attrs::default(), &[n, mask])?,
            None => n,
        });
    }
    args.extend(mask);
    b.op("attention", causal_attrs(&attrs, split.offset, fill), &args)
}

fn causal_constant(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (q, k, v, m, attrs) = (b.var("q")?, b.var("k")?, b.var("v")?, b.var("m")?, b.attrs("a")?);
    require_no_causal(&attrs)?;
    let mask = b.elements(m, 1 << 24).ok_or("the mask is too large to look at")?;
    let elements = mask.to_f64();
    let fill = elements.iter().copied().fold(0.0, f64::min);
    if fill > ABSORBS_MAX || elements.iter().any(|x| *x != 0.0 && *x != fill) {
        return Err("the mask holds more than zeros and one number that hides".into());
    }
    let queries = b.ty(q)?.shape.get(2).cloned().ok_or("the queries have no positions")?;
    let read = b.var("x").unwrap_or(m);
    let offset = zeros(b, read, &queries).ok_or("its zeros are no triangle over queries and keys")?;
    b.op("attention", causal_attrs(&attrs, offset, fill), &[q, k, v])
}

fn masked_scores(b: &mut Builder<'_>, holds: bool) -> Result<Id, Miss> {
    let (x, c, f, attrs) = (b.var("x")?, b.var("c")?, b.var("f")?, b.attrs("s")?);
    require_f32(b, x)?;
    let fill = fill(b)?;
    if !super::attention::is_score(b, x) {
        return Err("what is replaced is no product".into());
    }
    let bias = b.var("m").ok();
    if let Some(m) = bias
        && fill.is_finite()
        && !only_hides(b, m)
        && magnitude(b, m) * ABSORBED > -fill
    {
        return Err("what is added to the replaced scores may be as large as their fill".into());
    }
    let zero = b.scalar(autoglm_ir::DType::F32, 0.0)?;
    let args = if holds { [c, zero, f] } else { [c, f, zero] };
    let mut mask = b.op("select", Attrs::default(), &args)?;
    if let Some(m) = bias {
        mask = b.op("add", Attrs::default(), &[mask, m])?;
    }
    let sum = b.op("add", Attrs::default(), &[x, mask])?;
    b.op("softmax", attrs, &[sum])
}

/// Whether a mask chooses between numbers that are not above zero.
fn only_hides(b: &Builder<'_>, m: Id) -> bool {
    let low = |x: &Id| b.data(*x).uniform().is_some_and(|x| x <= 0.0);
    b.nodes(m, "select").iter().any(|(_, args)| args[1..].iter().all(low))
}

fn scale_select(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (c, x, y, k) = (b.var("c")?, b.var("x")?, b.var("y")?, b.var("k")?);
    require_f32(b, x)?;
    let factor = require_factor(b, k)?;
    let mut scaled = |x: Id| {
        let product = b.uniform(x)? * factor;
        b.scalar(autoglm_ir::DType::F32, product)
    };
    let (x, y) = (scaled(x)?, scaled(y)?);
    let joined = b.op("select", Attrs::default(), &[c, x, y])?;
    spread(b, joined)
}

fn nested_masks(b: &mut Builder<'_>, holds: bool) -> Result<Id, Miss> {
    let (c, d, x, f, g) = (b.var("c")?, b.var("d")?, b.var("x")?, b.var("f")?, b.var("g")?);
    if b.uniform(f)?.to_bits() != b.uniform(g)?.to_bits() {
        return Err("the masks are filled with different numbers".into());
    }
    let c = if holds { c } else { b.op("not", Attrs::default(), &[c])? };
    let both = b.op("and", Attrs::default(), &[c, d])?;
    let fill = b.scalar(b.ty(f)?.dtype, b.uniform(f)?)?;
    let joined = b.op("select", Attrs::default(), &[both, x, fill])?;
    spread(b, joined)
}

fn mask_expand(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let args = [b.var("q")?, b.var("k")?, b.var("v")?, b.var("m")?];
    let attrs = b.attrs("a")?;
    b.op("attention", attrs, &args)
}

/// `x` with the extents of what matched.
fn spread(b: &mut Builder<'_>, x: Id) -> Result<Id, Miss> {
    let shape = b.ty(b.root()?)?.shape;
    if b.ty(x)?.shape == shape {
        return Ok(x);
    }
    b.op("expand", Attrs::new([("shape", Attr::Dims(shape))]), &[x])
}

fn widened(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    spread(b, x)
}

fn certain_and(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let c = b.var("c")?;
    if !always(b, c, true) {
        return Err("neither condition holds at every position".into());
    }
    widened(b)
}

fn certain(b: &mut Builder<'_>, holds: bool) -> Result<Id, Miss> {
    let c = b.var("c")?;
    if !always(b, c, holds) {
        return Err("the condition depends on more than positions, or on the position".into());
    }
    let x = b.var(if holds { "x" } else { "y" })?;
    spread(b, x)
}

fn expand_select(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let [c, x, y] = choice(b)?;
    let narrow = b.op("select", Attrs::default(), &[c, x, y])?;
    spread(b, narrow)
}

/// The condition of a choice between two numbers, spread over all that it chooses.
fn choice(b: &mut Builder<'_>) -> Result<[Id; 3], Miss> {
    let (c, x, y) = (b.var("c")?, b.var("x")?, b.var("y")?);
    let number = |b: &mut Builder<'_>, x: Id| {
        let (dtype, value) = (b.ty(x)?.dtype, b.uniform(x)?);
        b.scalar(dtype, value)
    };
    Ok([c, number(b, x)?, number(b, y)?])
}

fn reshape_select(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let ([c, x, y], shape) = (choice(b)?, b.ty(b.root()?)?.shape);
    let moved = b.reshape(c, shape)?;
    b.op("select", Attrs::default(), &[moved, x, y])
}

fn transpose_select(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let ([c, x, y], perm) = (choice(b)?, perm_of(&b.attrs("p")?));
    if b.ty(c)?.rank() != perm.len() {
        return Err("the condition has fewer axes".into());
    }
    let moved = b.transpose(c, &perm)?;
    b.op("select", Attrs::default(), &[moved, x, y])
}
