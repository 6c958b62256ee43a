//! Rotary position embedding from slices, negation and concatenation.

use super::norm::recovery;
use super::require_f32;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attr, Attrs, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    recovery!("rope", "x * cos + concat(-x[h..], x[..h]) * sin = rope(x, cos, sin)",
        "(add (mul ?x ?cos) (mul (concat:c (neg (slice:s ?x)) (slice:t ?x)) ?sin))" => Rhs::Apply(halves)),
    recovery!("rope-interleaved", "x * cos + stack(-x[1::2], x[0::2]) * sin = rope(x, cos, sin) of neighbours",
        "(add (mul ?x ?cos) (mul (reshape (concat:c ?a=(reshape (neg (slice:s ?x))) ?b=(reshape (slice:t ?x)))) ?sin))" =>
        Rhs::Apply(neighbours)),
    recovery!("rope-terms", "concat(a * c - b * s, b * c + a * s) = rope(x, concat(c, c), concat(s, s)) for the halves a and b of x",
        "(concat:k (sub (mul ?a=(slice:s ?x) ?c) (mul ?b=(slice:t ?x) ?n)) (add (mul ?b ?c) (mul ?a ?n)))" => Rhs::Apply(terms)),
    recovery!("rope-part", "concat(rope(x[..r]), x[r..]) = rope(x)",
        "(concat:c (rope:r (slice:s ?x) ?cos ?sin) (slice:t ?x))" => Rhs::Apply(part)),
];

/// Requires a slice to take `len` elements along the last axis, every `step`-th from `start`, and all of the others.
fn require_last(
    b: &Builder<'_>,
    x: Id,
    attrs: &Attrs,
    start: &Dim,
    len: &Dim,
    step: i64,
) -> Result<(), Miss> {
    let shape = b.ty(x)?.shape;
    let last = shape.len() - 1;
    let (starts, sizes, steps) = (attrs.dims("starts"), attrs.dims("sizes"), attrs.ints("steps"));
    let whole = (0..last).all(|i| starts[i].is(0) && sizes[i] == shape[i] && steps[i] == 1);
    if !whole || starts[last] != *start || sizes[last] != *len || steps[last] != step {
        return Err("a slice takes other elements than the rotation".into());
    }
    Ok(())
}

/// The last extent, which must be a known even number.
fn even_extent(b: &Builder<'_>, x: Id) -> Result<i64, Miss> {
    let extent = b.ty(x)?.shape.last().and_then(Dim::as_const).ok_or("the last extent is not known")?;
    if extent % 2 == 0 && extent > 0 {
        Ok(extent)
    } else {
        Err(Miss(format!("{extent} elements have no pairs")))
    }
}

fn rope(b: &mut Builder<'_>, interleaved: bool) -> Result<Id, Miss> {
    let (x, cos, sin) = (b.var("x")?, b.var("cos")?, b.var("sin")?);
    require_f32(b, x)?;
    let attrs = Attrs::new([("interleaved", Attr::Int(interleaved.into()))]);
    b.op("rope", attrs, &[x, cos, sin])
}

fn halves(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    let half = even_extent(b, x)? / 2;
    let rank = b.ty(x)?.rank() as i64;
    if b.attrs("c")?.int("axis") != rank - 1 {
        return Err("the halves are not joined along the last axis".into());
    }
    require_last(b, x, &b.attrs("s")?, &half.into(), &half.into(), 1)?;
    require_last(b, x, &b.attrs("t")?, &0.into(), &half.into(), 1)?;
    rope(b, false)
}

fn neighbours(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    let half = even_extent(b, x)? / 2;
    let rank = b.ty(x)?.rank() as i64;
    if b.attrs("c")?.int("axis") != rank {
        return Err("the neighbours are not stacked along a new last axis".into());
    }
    let mut stacked = b.ty(x)?.shape;
    stacked.pop();
    stacked.extend([Dim::from(half), Dim::from(1)]);
    if b.ty(b.var("a")?)?.shape != stacked || b.ty(b.var("b")?)?.shape != stacked {
        return Err("a reshape does more than to add an axis".into());
    }
    require_last(b, x, &b.attrs("s")?, &1.into(), &half.into(), 2)?;
    require_last(b, x, &b.attrs("t")?, &0.into(), &half.into(), 2)?;
    rope(b, true)
}

/// Halves of two elements are the neighbours of all pairs.
fn terms(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, tables) = (b.var("x")?, [b.var("c")?, b.var("n")?]);
    require_f32(b, x)?;
    let half = even_extent(b, x)? / 2;
    let shape = b.ty(x)?.shape;
    if b.attrs("k")?.int("axis") != shape.len() as i64 - 1 {
        return Err("the halves are not joined along the last axis".into());
    }
    require_last(b, x, &b.attrs("s")?, &0.into(), &half.into(), 1)?;
    require_last(b, x, &b.attrs("t")?, &half.into(), &half.into(), 1)?;
    let mut both = Vec::new();
    for table in tables {
        let axis = b.ty(table)?.rank() as i64 - 1;
        if b.ty(table)?.shape.last().is_none_or(|last| *last != half.into()) {
            return Err("cosines or sines are not one for each pair".into());
        }
        both.push(b.op("concat", Attrs::new([("axis", Attr::Int(axis))]), &[table, table])?);
    }
    let ([cos, sin], [rest @ .., pairs, _]) = (both.as_slice(), shape.as_slice()) else {
        return Err("a vector has no pairs of its own".into());
    };
    let interleaved = |of: bool| Attrs::new([("interleaved", Attr::Int(of.into()))]);
    if half != 1 {
        return b.op("rope", interleaved(false), &[x, *cos, *sin]);
    }
    let whole = [rest, &[pairs * &Dim::from(2)]].concat();
    let (cos, sin) = (joined(b, *cos, pairs)?, joined(b, *sin, pairs)?);
    let x = b.reshape(x, whole)?;
    let turned = b.op("rope", interleaved(true), &[x, cos, sin])?;
    b.reshape(turned, shape)
}

/// A table over pairs and their two elements as one over elements.
fn joined(b: &mut Builder<'_>, table: Id, pairs: &Dim) -> Result<Id, Miss> {
    let shape = b.ty(table)?.shape;
    let [rest @ .., own, _] = shape.as_slice() else { return Err("a table has no axis of pairs".into()) };
    if own != pairs {
        return Err("cosines or sines are not one for each pair".into());
    }
    b.reshape(table, [rest, &[pairs * &Dim::from(2)]].concat())
}

fn part(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, cos, sin, attrs) = (b.var("x")?, b.var("cos")?, b.var("sin")?, b.attrs("r")?);
    let shape = b.ty(x)?.shape;
    let whole = shape.last().cloned().ok_or("a tensor without axes")?;
    let turned = b.ty(cos)?.shape.last().cloned().ok_or("a tensor without axes")?;
    if b.attrs("c")?.int("axis") != shape.len() as i64 - 1 {
        return Err("the parts are not joined along the last axis".into());
    }
    require_last(b, x, &b.attrs("s")?, &0.into(), &turned, 1)?;
    require_last(b, x, &b.attrs("t")?, &turned, &(&whole - &turned), 1)?;
    b.op("rope", attrs, &[x, cos, sin])
}
