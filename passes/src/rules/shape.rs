//! The algebra of reshapes and transposes: they compose, and sink below elementwise operators until they meet.

use super::algebra::rule;
use super::view::{earlier_perm, regroup};
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attrs, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("reshape-reshape", Exact, "reshape(reshape(x)) = reshape(x)",
        "(reshape:p (reshape ?x))" => Rhs::Apply(reshape_reshape)),
    rule!("transpose-transpose", Exact, "transpose(transpose(x, q), p) = transpose(x, q[p])",
        "(transpose:p (transpose:q ?x))" => Rhs::Apply(transpose_transpose)),
    rule!("transpose-reshape", Exact, "transpose(reshape(x)) = reshape(transpose(x)) where axes stay together",
        "(transpose:p (reshape ?x))" => Rhs::Apply(transpose_reshape)),
    rule!("transpose-units", Exact, "a transpose that moves unit axes only is a reshape",
        "(transpose:p ?x)" => Rhs::Apply(transpose_units)),
    rule!("sink-reshape", Exact, "f(reshape(x)) = reshape(f(x))", "(unary (reshape ?x))" => Rhs::Apply(sink_reshape)),
    rule!("sink-reshapes-left", Exact, "f(reshape(x), y) = reshape(f(x, reshape(y)))",
        "(binary (reshape ?x) ?y)" => Rhs::Apply(sink_reshape_left)),
    rule!("sink-reshapes-right", Exact, "f(y, reshape(x)) = reshape(f(reshape(y), x))",
        "(binary ?y (reshape ?x))" => Rhs::Apply(sink_reshape_right)),
    rule!("sink-transpose", Exact, "f(transpose(x)) = transpose(f(x))",
        "(unary (transpose:p ?x))" => Rhs::Apply(sink_transpose)),
    rule!("sink-transposes", Exact, "f(transpose(x), transpose(y)) = transpose(f(x, y))",
        "(binary (transpose:p ?x) (transpose:p ?y))" => Rhs::Apply(sink_transposes)),
    rule!("sink-transpose-left", Exact, "f(transpose(x), c) = transpose(f(x, c))",
        "(binary (transpose:p ?x) ?c:scalar)" => Rhs::Apply(sink_transpose_left)),
    rule!("sink-transpose-right", Exact, "f(c, transpose(x)) = transpose(f(c, x))",
        "(binary ?c:scalar (transpose:p ?x))" => Rhs::Apply(sink_transpose_right)),
    rule!("sink-reshape-select-number", Exact, "select(reshape(c), s, reshape(x)) = reshape(select(c, s, x))",
        "(select (reshape ?c) ?s:scalar (reshape ?x))" => Rhs::Apply(|b| sink_reshape_select(b, false))),
    rule!("sink-reshape-select", Exact, "select(reshape(c), reshape(x), s) = reshape(select(c, x, s))",
        "(select (reshape ?c) (reshape ?x) ?s:scalar)" => Rhs::Apply(|b| sink_reshape_select(b, true))),
    rule!("sink-transpose-select-number", Exact, "select(transpose(c), s, transpose(x)) = transpose(select(c, s, x))",
        "(select (transpose:p ?c) ?s:scalar (transpose:p ?x))" => Rhs::Apply(|b| sink_transpose_select(b, false))),
    rule!("sink-transpose-select", Exact, "select(transpose(c), transpose(x), s) = transpose(select(c, x, s))",
        "(select (transpose:p ?c) (transpose:p ?x) ?s:scalar)" => Rhs::Apply(|b| sink_transpose_select(b, true))),
    rule!("gather-constant", Exact, "gather(x, one known index) = slice(x) without the axis",
        "(gather:p ?x ?i:scalar)" => Rhs::Apply(gather_constant)),
    rule!("slice-slice", Exact, "slice(slice(x)) = slice(x)",
        "(slice:p (slice:q ?x))" => Rhs::Apply(slice_slice)),
    rule!("slice-reshape", Exact, "slice(reshape(x)) = reshape(slice(x)) where axes stay together",
        "(slice:p ?m=(reshape ?x))" => Rhs::Apply(slice_reshape)),
];

pub(super) fn perm_of(attrs: &Attrs) -> Vec<usize> {
    attrs.ints("perm").iter().map(|p| *p as usize).collect()
}

fn reshape_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, shape) = (b.var("x")?, b.attrs("p")?.dims("shape").to_vec());
    b.reshape(x, shape)
}

fn transpose_transpose(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (outer, inner) = (perm_of(&b.attrs("p")?), perm_of(&b.attrs("q")?));
    let both: Vec<usize> = outer.iter().map(|p| inner[*p]).collect();
    let x = b.var("x")?;
    b.transpose(x, &both)
}

fn transpose_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, perm) = (b.var("x")?, perm_of(&b.attrs("p")?));
    let (inner, outer) = (b.ty(x)?.shape, b.ty(b.root()?)?.shape);
    let mut middle = outer.clone();
    perm.iter().zip(&outer).for_each(|(p, d)| middle[*p] = d.clone());
    let earlier =
        earlier_perm(&inner, &middle, &perm).ok_or("the reshape regroups what the transpose moves")?;
    let moved = b.transpose(x, &earlier)?;
    b.reshape(moved, outer)
}

fn transpose_units(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, perm) = (b.var("x")?, perm_of(&b.attrs("p")?));
    let shape = b.ty(x)?.shape;
    let moved: Vec<usize> = perm.iter().copied().filter(|p| !shape[*p].is(1)).collect();
    if !moved.is_sorted() {
        return Err("it moves more than unit axes".into());
    }
    let outer = b.ty(b.root()?)?.shape;
    b.reshape(x, outer)
}

fn sink_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, shape) = (b.var("x")?, b.ty(b.root()?)?.shape);
    let inner = b.any(&[x])?;
    b.reshape(inner, shape)
}

/// The other operand in the shape that it has before the reshape of `x` to the shape of the result.
fn before_reshape(b: &mut Builder<'_>, x: Id, y: Id) -> Result<(Id, Vec<Dim>), Miss> {
    let (inner, outer, other) = (b.ty(x)?.shape, b.ty(b.root()?)?.shape, b.ty(y)?.shape);
    if autoglm_ir::dim::product(&inner) != autoglm_ir::dim::product(&outer) {
        return Err("the reshaped operand is broadcast".into());
    }
    let shape = match b.data(y).uniform() {
        // A number needs no axes.
        Some(_) if b.ty(y)?.numel().is(1) => vec![],
        _ => regroup(&other, &outer, &inner).ok_or("the other operand does not follow the reshape")?,
    };
    let y = b.reshape(y, shape)?;
    Ok((y, outer))
}

fn sink_reshape_left(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, y) = (b.var("x")?, b.var("y")?);
    let (y, shape) = before_reshape(b, x, y)?;
    let inner = b.any(&[x, y])?;
    b.reshape(inner, shape)
}

fn sink_reshape_right(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, y) = (b.var("x")?, b.var("y")?);
    let (y, shape) = before_reshape(b, x, y)?;
    let inner = b.any(&[y, x])?;
    b.reshape(inner, shape)
}

fn sink_transpose(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, perm) = (b.var("x")?, perm_of(&b.attrs("p")?));
    let inner = b.any(&[x])?;
    b.transpose(inner, &perm)
}

fn sink_transposes(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, y, perm) = (b.var("x")?, b.var("y")?, perm_of(&b.attrs("p")?));
    if b.ty(x)?.rank() != b.ty(y)?.rank() {
        return Err("the operands have different numbers of axes".into());
    }
    let inner = b.any(&[x, y])?;
    b.transpose(inner, &perm)
}

/// A number with at most as many axes as the tensor that it meets, as one without axes.
fn bare(b: &mut Builder<'_>, c: Id) -> Result<Id, Miss> {
    if !b.ty(c)?.numel().is(1) {
        return Err("the number is broadcast already".into());
    }
    b.reshape(c, vec![])
}

fn sink_transpose_left(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, perm) = (b.var("x")?, b.var("c")?, perm_of(&b.attrs("p")?));
    let c = bare(b, c)?;
    let inner = b.any(&[x, c])?;
    b.transpose(inner, &perm)
}

fn sink_transpose_right(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, perm) = (b.var("x")?, b.var("c")?, perm_of(&b.attrs("p")?));
    let c = bare(b, c)?;
    let inner = b.any(&[c, x])?;
    b.transpose(inner, &perm)
}

/// A choice by `c` between `x` and the number `s`, which comes second if `first`; both have the same extents.
fn select(b: &mut Builder<'_>, first: bool) -> Result<Id, Miss> {
    let (cond, x, s) = (b.var("c")?, b.var("x")?, b.var("s")?);
    if b.ty(cond)?.shape != b.ty(x)?.shape {
        return Err("the condition has other extents".into());
    }
    let s = bare(b, s)?;
    let args = if first { [cond, x, s] } else { [cond, s, x] };
    b.op("select", Attrs::default(), &args)
}

fn sink_reshape_select(b: &mut Builder<'_>, first: bool) -> Result<Id, Miss> {
    let inner = select(b, first)?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(inner, shape)
}

fn sink_transpose_select(b: &mut Builder<'_>, first: bool) -> Result<Id, Miss> {
    let perm = perm_of(&b.attrs("p")?);
    let inner = select(b, first)?;
    b.transpose(inner, &perm)
}

fn gather_constant(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, i, axis) = (b.var("x")?, b.var("i")?, b.attrs("p")?.int("axis"));
    let shape = b.ty(x)?.shape;
    let axis = usize::try_from(axis).map_err(|_| "a negative axis")?;
    let extent = shape.get(axis).and_then(Dim::as_const).ok_or("the extent is not known")?;
    let index = b.uniform(i)? as i64;
    let index = if index < 0 { index + extent } else { index };
    if !b.ty(i)?.numel().is(1) || !(0..extent).contains(&index) {
        return Err("not one element inside the axis".into());
    }
    let taken = b.slice(x, axis, index, &1.into())?;
    let result = b.ty(b.root()?)?.shape;
    b.reshape(taken, result)
}

fn slice_slice(b: &mut Builder<'_>) -> Result<Id, Miss> {
    use autoglm_ir::Attr;
    let (x, outer, inner) = (b.var("x")?, b.attrs("p")?, b.attrs("q")?);
    let both = |name: &'static str, v| (name, Attr::Dims(v));
    let steps = outer.ints("steps").iter().zip(inner.ints("steps")).map(|(a, b)| a.checked_mul(*b));
    let steps: Vec<i64> = steps.collect::<Option<_>>().ok_or("the steps together are too large")?;
    let starts = (inner.dims("starts").iter().zip(inner.ints("steps")).zip(outer.dims("starts")))
        .map(|((start, step), more)| start + &(&Dim::from(*step) * more))
        .collect();
    let attrs =
        [both("starts", starts), both("sizes", outer.dims("sizes").to_vec()), ("steps", Attr::Ints(steps))];
    b.op("slice", Attrs::new(attrs), &[x])
}

/// slice(reshape(x)) where every group of axes that the slice cuts is one axis on both sides.
fn slice_reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    use autoglm_ir::Attr;
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    let (inner, middle, result) = (b.ty(x)?.shape, b.ty(b.var("m")?)?.shape, b.ty(b.root()?)?.shape);
    let groups = super::view::groups(&inner, &middle).ok_or("the reshape regroups axes")?;
    let (mut starts, mut sizes, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for (old, new) in groups {
        let cut =
            new.clone().filter(|i| attrs.dims("sizes")[*i] != middle[*i] || attrs.ints("steps")[*i] != 1);
        let cut: Vec<usize> = cut.collect();
        let wide: Vec<usize> = old.clone().filter(|i| !inner[*i].is(1)).collect();
        for axis in old {
            match (cut.as_slice(), wide.as_slice()) {
                ([], _) => {
                    starts.push(Dim::from(0));
                    sizes.push(inner[axis].clone());
                    steps.push(1);
                }
                ([from], [only]) if middle[*from] == inner[*only] => {
                    let here = axis == *only;
                    starts.push(if here { attrs.dims("starts")[*from].clone() } else { 0.into() });
                    sizes.push(if here { attrs.dims("sizes")[*from].clone() } else { 1.into() });
                    steps.push(if here { attrs.ints("steps")[*from] } else { 1 });
                }
                _ => return Err("the slice cuts an axis that the reshape made".into()),
            }
        }
    }
    let attrs = [("starts", Attr::Dims(starts)), ("sizes", Attr::Dims(sizes)), ("steps", Attr::Ints(steps))];
    let cut = b.op("slice", Attrs::new(attrs), &[x])?;
    b.reshape(cut, result)
}
