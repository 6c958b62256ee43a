//! What slices, concatenations, expansions and reductions do to each other.

use super::algebra::rule;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attr, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("concat-slices", Exact, "concat(x[a..b], x[b..c]) = x[a..c]",
        "(concat:c (slice:p ?x) (slice:q ?x))" => Rhs::Apply(concat_slices)),
    rule!("concat-three-slices", Exact, "concat(x[a..b], x[b..c], x[c..d]) = x[a..d]",
        "(concat:c (slice:p ?x) (slice:q ?x) (slice:r ?x))" => Rhs::Apply(concat_slices)),
    rule!("slice-concat", Exact, "a slice inside one part of concat(x, y) = the slice of the part",
        "(slice:p (concat:c ?x ?y))" => Rhs::Apply(slice_concat)),
    rule!("slice-concat-three", Exact, "a slice inside one part of concat(x, y, z) = the slice of the part",
        "(slice:p (concat:c ?x ?y ?z))" => Rhs::Apply(slice_concat)),
    rule!("expand-expand", Exact, "expand(expand(x)) = expand(x)", "(expand:p (expand ?x))" => Rhs::Apply(expand_expand)),
    rule!("sink-expand", Exact, "f(expand(x)) = expand(f(x))", "(unary (expand:p ?x))" => Rhs::Apply(sink_expand)),
    rule!("drop-expand-left", Exact, "f(expand(x), y) = f(x, y) where y has the extents",
        "(binary (expand ?x) ?y)" => Rhs::Text("(binary ?x ?y)")),
    rule!("drop-expand-right", Exact, "f(y, expand(x)) = f(y, x) where y has the extents",
        "(binary ?y (expand ?x))" => Rhs::Text("(binary ?y ?x)")),
    rule!("keep-sum", Exact, "a sum over axes that vanish = reshape(the sum over axes that stay)",
        "(reduce_sum:p ?x)" => Rhs::Apply(|b| keep(b, "reduce_sum"))),
    rule!("keep-max", Exact, "a maximum over axes that vanish = reshape(the maximum over axes that stay)",
        "(reduce_max:p ?x)" => Rhs::Apply(|b| keep(b, "reduce_max"))),
    rule!("unit-sum", Reassociates, "the sum over axes of one element = reshape(x)", "(reduce_sum:p ?x)" => Rhs::Apply(unit)),
    rule!("unit-max", Exact, "the maximum over axes of one element = reshape(x)",
        "(reduce_max:p ?x)" => Rhs::Apply(unit)),
    rule!("unit-min", Exact, "the minimum over axes of one element = reshape(x)",
        "(reduce_min:p ?x)" => Rhs::Apply(unit)),
    rule!("unit-prod", Exact, "the product over axes of one element = reshape(x)",
        "(reduce_prod:p ?x)" => Rhs::Apply(unit)),
];

/// The axis of a concatenation.
fn axis_of(b: &Builder<'_>) -> Result<usize, Miss> {
    usize::try_from(b.attrs("c")?.int("axis")).map_err(|_| "a negative axis".into())
}

fn concat_slices(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, axis, first) = (b.var("x")?, axis_of(b)?, b.attrs("p")?);
    let step = first.ints("steps")[axis];
    let mut size = first.dims("sizes")[axis].clone();
    for name in ["q", "r"] {
        let Ok(next) = b.attrs(name) else { continue };
        let adjacent = &first.dims("starts")[axis] + &(&size * &step.into());
        for (i, start) in first.dims("starts").iter().enumerate() {
            let wanted = if i == axis { &adjacent } else { start };
            let as_wide = i == axis || next.dims("sizes")[i] == first.dims("sizes")[i];
            if next.dims("starts")[i] != *wanted
                || next.ints("steps")[i] != first.ints("steps")[i]
                || !as_wide
            {
                return Err("the slices are not adjacent".into());
            }
        }
        size = &size + &next.dims("sizes")[axis];
    }
    let mut sizes = first.dims("sizes").to_vec();
    sizes[axis] = size;
    b.op("slice", first.with("sizes", Attr::Dims(sizes)), &[x])
}

fn slice_concat(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (axis, attrs) = (axis_of(b)?, b.attrs("p")?);
    let (start, size, step) =
        (&attrs.dims("starts")[axis], &attrs.dims("sizes")[axis], attrs.ints("steps")[axis]);
    let known = "where the slice lies is not known";
    let size = size.as_const().filter(|n| *n > 0).ok_or(known)?;
    let mut before = Dim::from(0);
    for name in ["x", "y", "z"] {
        let Ok(part) = b.var(name) else { continue };
        let extent = b.ty(part)?.shape[axis].clone();
        let first = start - &before;
        let last = &first + &(&Dim::from(size - 1) * &step.into());
        let inside = |at: &Dim| match (at.as_const(), extent.as_const()) {
            (Some(at), Some(extent)) => Some((0..extent).contains(&at)),
            _ => None,
        };
        if inside(&first).ok_or(known)? && inside(&last).ok_or(known)? {
            let mut starts = attrs.dims("starts").to_vec();
            starts[axis] = first;
            return b.op("slice", attrs.with("starts", Attr::Dims(starts)), &[part]);
        }
        before = &before + &extent;
    }
    Err("the slice takes elements of several parts".into())
}

fn expand_expand(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    b.op("expand", attrs, &[x])
}

fn sink_expand(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    let inner = b.any(&[x])?;
    b.op("expand", attrs, &[inner])
}

fn keep(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    if attrs.flag("keepdims") {
        return Err("the axes stay already".into());
    }
    let kept = b.op(op, attrs.with("keepdims", Attr::Int(1)), &[x])?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(kept, shape)
}

fn unit(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    let shape = b.ty(x)?.shape;
    let is_unit =
        |axis: &i64| usize::try_from(*axis).ok().and_then(|a| shape.get(a)).is_some_and(|d| d.is(1));
    if !attrs.ints("axes").iter().all(is_unit) {
        return Err("an axis has more than one element".into());
    }
    let result = b.ty(b.root()?)?.shape;
    b.reshape(x, result)
}
