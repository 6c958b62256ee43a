//! Attention from its products, softmax, scales and masks.
//!
//! Scales move out of the products, masks join, and repeated key and value heads vanish; what is left is
//! `softmax(q k^T * scale + mask) v` in one of four forms.

use super::algebra::{require_factor, rule};
use super::norm::recovery;
use super::require_f32;
use super::shape::perm_of;
use super::view::groups;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attr, Attrs};
use egg::Id;
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule] = &[
    rule!("scale-out-left", Reassociates, "(x * c) y = (x y) * c",
        "(matmul (mul ?x ?c:scalar) ?y)" => Rhs::Apply(scale_out)),
    rule!("scale-out-right", Reassociates, "x (y * c) = (x y) * c",
        "(matmul ?x (mul ?y ?c:scalar))" => Rhs::Apply(scale_out)),
    rule!("scale-out-transpose", Exact, "transpose(x * c) = transpose(x) * c",
        "(transpose:p (mul ?x ?c:scalar))" => Rhs::Apply(scale_out_transpose)),
    rule!("scale-out-reshape", Exact, "reshape(x * c) = reshape(x) * c",
        "(reshape:p (mul ?x ?c:scalar))" => Rhs::Apply(scale_out_reshape)),
    rule!("scale-in", Reassociates, "(x y) * c = (x * c) y for c constant along rows and columns",
        "(mul (matmul ?x ?y) ?c:const)" => Rhs::Apply(scale_in)),
    rule!("join-heads-left", Exact, "matmul(reshape(x), y) = reshape(matmul(x, reshape(y))) where batch and heads become one axis",
        "(matmul (reshape ?x) ?y)" => Rhs::Apply(|b| join_heads(b, true))),
    rule!("join-heads-right", Exact, "matmul(y, reshape(x)) = reshape(matmul(reshape(y), x)) where batch and heads become one axis",
        "(matmul ?y (reshape ?x))" => Rhs::Apply(|b| join_heads(b, false))),
    rule!("join-heads-softmax", Exact, "softmax(reshape(x)) = reshape(softmax(x)) where the last axis stays",
        "(softmax:s (reshape ?x))" => Rhs::Apply(join_heads_softmax)),
    rule!("window-masks", Exact, "softmax(reshape(reshape(s) + m)) = softmax(s + reshape(expand(m))) for scores s of batches of windows",
        "(softmax:s (reshape ?z=(add (reshape ?x) ?m)))" => Rhs::Apply(window_masks)),
    rule!("scale-masks", Reassociates, "softmax((s + m) * c) = softmax(s * c + m * c) for scores s",
        "(softmax:s (mul (add ?x ?m) ?c:scalar))" => Rhs::Apply(scale_masks)),
    rule!("join-masks", Reassociates, "softmax((s + m) + n) = softmax(s + (m + n)) for scores s",
        "(softmax:s (add (add ?x ?m) ?n))" => Rhs::Apply(join_masks)),
    recovery!("attention", "softmax(q k^T) v = attention(q, k, v)",
        "(matmul (softmax:s (matmul ?q ?kt)) ?v)" => Rhs::Apply(attention)),
    recovery!("attention-scale", "softmax(q k^T * c) v = attention(q, k, v)",
        "(matmul (softmax:s (mul (matmul ?q ?kt) ?c:scalar)) ?v)" => Rhs::Apply(attention)),
    recovery!("attention-mask", "softmax(q k^T + m) v = attention(q, k, v, m)",
        "(matmul (softmax:s (add (matmul ?q ?kt) ?m)) ?v)" => Rhs::Apply(attention)),
    recovery!("attention-scale-mask", "softmax(q k^T * c + m) v = attention(q, k, v, m)",
        "(matmul (softmax:s (add (mul (matmul ?q ?kt) ?c:scalar) ?m)) ?v)" => Rhs::Apply(attention)),
    recovery!("grouped-heads", "attention(q, repeat(k), repeat(v)) = attention(q, k, v)",
        "(attention:a ?q ?r=(reshape ?l=(expand ?i=(reshape ?k))) ?u=(reshape ?w=(expand ?j=(reshape ?v))))" =>
        Rhs::Apply(grouped_heads)),
    recovery!("grouped-heads-mask", "attention(q, repeat(k), repeat(v), m) = attention(q, k, v, m)",
        "(attention:a ?q ?r=(reshape ?l=(expand ?i=(reshape ?k))) ?u=(reshape ?w=(expand ?j=(reshape ?v))) ?m)" =>
        Rhs::Apply(grouped_heads)),
];

/// The factor as a number without axes.
fn factor(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let c = b.var("c")?;
    require_factor(b, c)?;
    if !b.ty(c)?.numel().is(1) {
        return Err("the factor has more than one element".into());
    }
    b.reshape(c, vec![])
}

fn scale_out(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, y, c) = (b.var("x")?, b.var("y")?, factor(b)?);
    let product = b.op("matmul", Attrs::default(), &[x, y])?;
    b.op("mul", Attrs::default(), &[product, c])
}

fn scale_out_transpose(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, perm) = (b.var("x")?, factor(b)?, perm_of(&b.attrs("p")?));
    if b.ty(x)?.rank() != perm.len() {
        return Err("the factor adds axes".into());
    }
    let moved = b.transpose(x, &perm)?;
    b.op("mul", Attrs::default(), &[moved, c])
}

fn scale_out_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, shape) = (b.var("x")?, factor(b)?, b.attrs("p")?.dims("shape").to_vec());
    let moved = b.reshape(x, shape)?;
    b.op("mul", Attrs::default(), &[moved, c])
}

fn scale_in(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, y, c) = (b.var("x")?, b.var("y")?, b.var("c")?);
    require_f32(b, x)?;
    let (shape, rank) = (b.ty(c)?.shape, b.ty(x)?.rank());
    if b.data(c).uniform().is_some() || !(3..=rank).contains(&shape.len()) || b.ty(y)?.rank() != rank {
        return Err("the factor is a number, or has other axes than the product".into());
    }
    if !shape.iter().rev().take(2).all(|d| d.is(1)) || !b.largest(c)?.is_finite() {
        return Err("the factor varies along rows or columns, or is not finite".into());
    }
    let scaled = b.op("mul", Attrs::default(), &[x, c])?;
    b.op("matmul", Attrs::default(), &[scaled, y])
}

/// Batch and heads of products with three axes become two axes again, so that masks find the heads.
fn join_heads(b: &mut Builder<'_>, left: bool) -> Result<Id, Miss> {
    let (x, y, root) = (b.var("x")?, b.var("y")?, b.root()?);
    let (inner, other, outer) = (b.ty(x)?.shape, b.ty(y)?.shape, b.ty(root)?.shape);
    let ([n, heads, rows, cols], [m, ..], [joined, height, width]) =
        (inner.as_slice(), other.as_slice(), outer.as_slice())
    else {
        return Err("the operand has no batch, heads, rows and columns that become three axes".into());
    };
    let stays = if left { rows == height } else { cols == width };
    if other.len() != 3 || m != joined || &(n * heads) != joined || !stays {
        return Err("the reshape does more than to join batch and heads".into());
    }
    let split = [n, heads, &other[1], &other[2]].map(Clone::clone).to_vec();
    let y = b.reshape(y, split)?;
    let args = if left { [x, y] } else { [y, x] };
    let product = b.op("matmul", Attrs::default(), &args)?;
    b.reshape(product, outer)
}

fn join_heads_softmax(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, attrs, outer) = (b.var("x")?, b.attrs("s")?, b.ty(b.root()?)?.shape);
    let inner = b.ty(x)?.shape;
    if inner.len() != 4 || outer.len() != 3 || inner[2..] != outer[1..] {
        return Err("the reshape does more than to join batch and heads".into());
    }
    let softmax = b.op("softmax", attrs, &[x])?;
    b.reshape(softmax, outer)
}

/// How many sums, scales and reshapes may lie between a softmax and the product of queries and keys.
const BETWEEN: usize = 4;

/// Whether a class is a product, or one that is scaled, reshaped or added to.
pub(super) fn is_score(b: &Builder<'_>, x: Id) -> bool {
    let (mut seen, mut classes) = (BTreeSet::from([x]), vec![x]);
    for _ in 0..=BETWEEN {
        if classes.iter().any(|x| !b.nodes(*x, "matmul").is_empty()) {
            return true;
        }
        let args = |x: Id| {
            ["mul", "add", "reshape"]
                .into_iter()
                .flat_map(move |op| b.nodes(x, op))
                .flat_map(|(_, args)| args)
        };
        classes = classes.into_iter().flat_map(args).filter(|x| seen.insert(*x)).collect();
    }
    false
}

/// A mask for each window of an image is the same for all images, which share an axis with the windows.
fn window_masks(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, z, m, attrs) = (b.var("x")?, b.var("z")?, b.var("m")?, b.attrs("s")?);
    let (to, from, shape) = (b.ty(x)?.shape, b.ty(z)?.shape, b.ty(m)?.shape);
    if to != b.ty(b.root()?)?.shape || shape.len() != from.len() {
        return Err("the reshapes are not each other's inverse, or the mask has fewer axes".into());
    }
    if !is_score(b, x) {
        return Err("what the mask is added to is no product".into());
    }
    let (mut wide, mut joined) = (shape.clone(), to.clone());
    for (old, new) in groups(&from, &to).ok_or("the reshape moves elements between axes")? {
        if shape[old.clone()].iter().all(|d| d.is(1)) {
            joined[new].fill(1.into());
        } else {
            wide[old.clone()].clone_from_slice(&from[old]);
        }
    }
    let wide = b.op("expand", Attrs::new([("shape", Attr::Dims(wide))]), &[m])?;
    let mask = b.reshape(wide, joined)?;
    let sum = b.op("add", Attrs::default(), &[x, mask])?;
    b.op("softmax", attrs, &[sum])
}

fn scale_masks(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, m, c) = (b.var("x")?, b.var("m")?, factor(b)?);
    require_f32(b, x)?;
    if !is_score(b, x) {
        return Err("what the mask is added to is no product".into());
    }
    let scores = b.op("mul", Attrs::default(), &[x, c])?;
    let mask = b.op("mul", Attrs::default(), &[m, c])?;
    let sum = b.op("add", Attrs::default(), &[scores, mask])?;
    let attrs = b.attrs("s")?;
    b.op("softmax", attrs, &[sum])
}

fn join_masks(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, m, n) = (b.var("x")?, b.var("m")?, b.var("n")?);
    if !is_score(b, x) {
        return Err("what the masks are added to is no product".into());
    }
    let mask = b.op("add", Attrs::default(), &[m, n])?;
    let sum = b.op("add", Attrs::default(), &[x, mask])?;
    let attrs = b.attrs("s")?;
    b.op("softmax", attrs, &[sum])
}

/// A tensor with exactly four axes: of three, the second is made; a mask's leading axes may be missing.
fn four_axes(b: &mut Builder<'_>, x: Id) -> Result<Id, Miss> {
    match b.ty(x)?.shape.as_slice() {
        [n, rows, cols] => {
            let shape = vec![n.clone(), 1.into(), rows.clone(), cols.clone()];
            b.reshape(x, shape)
        }
        _ => Ok(x),
    }
}

fn attention(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (q, kt, v, softmax) = (b.var("q")?, b.var("kt")?, b.var("v")?, b.attrs("s")?);
    require_f32(b, q)?;
    if softmax.flag("log") {
        return Err("the softmax is logarithmic".into());
    }
    let (rank, out) = (b.ty(kt)?.rank(), b.ty(b.root()?)?.shape);
    if !(3..=4).contains(&rank) || b.ty(q)?.rank() != rank || b.ty(v)?.rank() != rank {
        return Err(Miss(format!("the products have {rank} axes, not 3 or 4 on both sides")));
    }
    let mut swap: Vec<usize> = (0..rank).collect();
    swap.swap(rank - 2, rank - 1);
    let k = b.transpose(kt, &swap)?;
    let mut args = vec![four_axes(b, q)?, four_axes(b, k)?, four_axes(b, v)?];
    if let Ok(mask) = b.var("m") {
        args.push(if rank == 3 { four_axes(b, mask)? } else { mask });
    }
    let scale = match b.var("c") {
        Ok(c) if b.ty(c)?.numel().is(1) => require_factor(b, c)?,
        Ok(_) => return Err("the scale has more than one element".into()),
        Err(_) => 1.0,
    };
    let attrs = Attrs::new([
        ("scale", Attr::float(scale)),
        ("zero_masked", Attr::Int(softmax.flag("zero_masked").into())),
    ]);
    let result = b.op("attention", attrs, &args)?;
    b.reshape(result, out)
}

/// Requires `wide` to repeat each head of `x` along a new axis right after the heads, from the unit axis of `unit`, and
/// `heads` to count the repeated heads.
fn require_repeat(b: &Builder<'_>, x: Id, unit: Id, wide: Id, repeated: Id) -> Result<(), Miss> {
    let (own, unit, wide) = (b.ty(x)?.shape, b.ty(unit)?.shape, b.ty(wide)?.shape);
    let ([n, heads, t, d], [un, uh, one, ut, ud], [wn, wh, times, wt, wd]) =
        (own.as_slice(), unit.as_slice(), wide.as_slice())
    else {
        return Err("keys and values need 4 axes".into());
    };
    if !one.is(1) || [n, heads, t, d] != [un, uh, ut, ud] || [n, heads, t, d] != [wn, wh, wt, wd] {
        return Err("the repeated axis does not follow the heads".into());
    }
    if b.ty(repeated)?.shape != [n.clone(), heads * times, t.clone(), d.clone()] {
        return Err("the repeated axis does not join the heads".into());
    }
    Ok(())
}

fn grouped_heads(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (q, k, v, attrs) = (b.var("q")?, b.var("k")?, b.var("v")?, b.attrs("a")?);
    require_repeat(b, k, b.var("i")?, b.var("l")?, b.var("r")?)?;
    require_repeat(b, v, b.var("j")?, b.var("w")?, b.var("u")?)?;
    let args: Vec<Id> = [q, k, v].into_iter().chain(b.var("m").ok()).collect();
    b.op("attention", attrs, &args)
}
