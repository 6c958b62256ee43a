//! The ends of classifiers and language models: which element is the largest, and at which position that is asked.

use super::algebra::{rule, widens};
use super::shape::perm_of;
use super::view::groups;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::egraph::ENode;
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, DType, Dim};
use egg::Id;
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule] = &[
    rule!("arg-max-neg", Exact, "arg_max(-x) = arg_min(x)", "(arg_max:p (neg ?x))" => Rhs::Apply(|b| arg_neg(b, "arg_min"))),
    rule!("arg-min-neg", Exact, "arg_min(-x) = arg_max(x)", "(arg_min:p (neg ?x))" => Rhs::Apply(|b| arg_neg(b, "arg_max"))),
    rule!("max-neg", Exact, "max(-x) = -min(x)", "(reduce_max:p (neg ?x))" => Rhs::Apply(|b| fold_neg(b, "reduce_min"))),
    rule!("min-neg", Exact, "min(-x) = -max(x)", "(reduce_min:p (neg ?x))" => Rhs::Apply(|b| fold_neg(b, "reduce_max"))),
    rule!("arg-max-cast", Exact, "arg_max(cast(x, wider)) = arg_max(x)",
        "(arg_max:p (cast:q ?x))" => Rhs::Apply(|b| arg_cast(b, "arg_max"))),
    rule!("arg-min-cast", Exact, "arg_min(cast(x, wider)) = arg_min(x)",
        "(arg_min:p (cast:q ?x))" => Rhs::Apply(|b| arg_cast(b, "arg_min"))),
    rule!("max-cast", Exact, "max(cast(x, wider)) = cast(max(x), wider)",
        "(reduce_max:p (cast:q ?x))" => Rhs::Apply(|b| fold_cast(b, "reduce_max"))),
    rule!("min-cast", Exact, "min(cast(x, wider)) = cast(min(x), wider)",
        "(reduce_min:p (cast:q ?x))" => Rhs::Apply(|b| fold_cast(b, "reduce_min"))),
    rule!("arg-max-reshape", Exact, "arg_max(reshape(x)) = reshape(arg_max(x)) where the axis stays",
        "(arg_max:p ?y=(reshape ?x))" => Rhs::Apply(|b| arg_reshape(b, "arg_max"))),
    rule!("arg-min-reshape", Exact, "arg_min(reshape(x)) = reshape(arg_min(x)) where the axis stays",
        "(arg_min:p ?y=(reshape ?x))" => Rhs::Apply(|b| arg_reshape(b, "arg_min"))),
    rule!("arg-max-transpose", Exact, "arg_max(transpose(x)) = transpose(arg_max(x))",
        "(arg_max:p (transpose:q ?x))" => Rhs::Apply(|b| arg_transpose(b, "arg_max"))),
    rule!("arg-min-transpose", Exact, "arg_min(transpose(x)) = transpose(arg_min(x))",
        "(arg_min:p (transpose:q ?x))" => Rhs::Apply(|b| arg_transpose(b, "arg_min"))),
    rule!("top-one-index", Exact, "the index of top_k(x) for k = 1 = arg_max(x)",
        "(result#1 (top_k:p ?x))" => Rhs::Apply(|b| Ok(top_one(b)?.0))),
    rule!("top-one", Exact, "the value of top_k(x) for k = 1 = x at arg_max(x)",
        "(result#0 (top_k:p ?x))" => Rhs::Apply(top_one_value)),
    rule!("slice-unary", Exact, "one position of f(x) = f(that position of x)",
        "(slice:p ?y=(unary ?x))" => Rhs::Apply(|b| cut_elementwise(b, Cut::of_slice))),
    rule!("gather-unary", Exact, "gather(f(x), one index) = f(gather(x, the index))",
        "(gather:p ?y=(unary ?x) ?i)" => Rhs::Apply(|b| cut_elementwise(b, Cut::of_gather))),
    rule!("slice-binary", Exact, "one position of f(x, z) = f(that position of x, that of z)",
        "(slice:p ?y=(binary ?x ?z))" => Rhs::Apply(|b| cut_elementwise(b, Cut::of_slice))),
    rule!("gather-binary", Exact, "gather(f(x, z), one index) = f(gather(x, the index), gather(z, the index))",
        "(gather:p ?y=(binary ?x ?z) ?i)" => Rhs::Apply(|b| cut_elementwise(b, Cut::of_gather))),
    rule!("slice-matmul", Exact, "one row of matmul(x, z) = matmul(that row of x, z)",
        "(slice:p ?y=(matmul ?x ?z))" => Rhs::Apply(|b| cut_matmul(b, Cut::of_slice))),
    rule!("gather-matmul", Exact, "gather(matmul(x, z), one row) = matmul(gather(x, the row), z)",
        "(gather:p ?y=(matmul ?x ?z) ?i)" => Rhs::Apply(|b| cut_matmul(b, Cut::of_gather))),
    rule!("slice-linear", Exact, "one row of linear(x, w) = linear(that row of x, w)",
        "(slice:p ?y=(linear ?x ?w))" => Rhs::Apply(|b| cut_rows(b, Cut::of_slice, "linear"))),
    rule!("gather-linear", Exact, "gather(linear(x, w), one row) = linear(gather(x, the row), w)",
        "(gather:p ?y=(linear ?x ?w) ?i)" => Rhs::Apply(|b| cut_rows(b, Cut::of_gather, "linear"))),
    rule!("slice-linear-bias", Exact, "one row of linear(x, w, b) = linear(that row of x, w, b)",
        "(slice:p ?y=(linear ?x ?w ?b))" => Rhs::Apply(|b| cut_rows(b, Cut::of_slice, "linear"))),
    rule!("gather-linear-bias", Exact, "gather(linear(x, w, b), one row) = linear(gather(x, the row), w, b)",
        "(gather:p ?y=(linear ?x ?w ?b) ?i)" => Rhs::Apply(|b| cut_rows(b, Cut::of_gather, "linear"))),
    rule!("slice-norm", Exact, "one row of norm(x, w) = norm(that row of x, w)",
        "(slice:p ?y=(layer_norm:q ?x ?w))" => Rhs::Apply(|b| cut_rows(b, Cut::of_slice, "layer_norm"))),
    rule!("gather-norm", Exact, "gather(norm(x, w), one row) = norm(gather(x, the row), w)",
        "(gather:p ?y=(layer_norm:q ?x ?w) ?i)" => Rhs::Apply(|b| cut_rows(b, Cut::of_gather, "layer_norm"))),
    rule!("slice-norm-bias", Exact, "one row of norm(x, w, b) = norm(that row of x, w, b)",
        "(slice:p ?y=(layer_norm:q ?x ?w ?b))" => Rhs::Apply(|b| cut_rows(b, Cut::of_slice, "layer_norm"))),
    rule!("gather-norm-bias", Exact, "gather(norm(x, w, b), one row) = norm(gather(x, the row), w, b)",
        "(gather:p ?y=(layer_norm:q ?x ?w ?b) ?i)" => Rhs::Apply(|b| cut_rows(b, Cut::of_gather, "layer_norm"))),
    rule!("slice-softmax", Exact, "one row of softmax(x) = softmax(that row of x)",
        "(slice:p ?y=(softmax:q ?x))" => Rhs::Apply(|b| cut_rows(b, Cut::of_slice, "softmax"))),
    rule!("gather-softmax", Exact, "gather(softmax(x), one row) = softmax(gather(x, the row))",
        "(gather:p ?y=(softmax:q ?x) ?i)" => Rhs::Apply(|b| cut_rows(b, Cut::of_gather, "softmax"))),
    rule!("slice-arg-max", Exact, "one position of arg_max(x) = arg_max(that position of x)",
        "(slice:p ?y=(arg_max:q ?x))" => Rhs::Apply(|b| cut_arg(b, Cut::of_slice, "arg_max"))),
    rule!("gather-arg-max", Exact, "gather(arg_max(x), one index) = arg_max(gather(x, the index))",
        "(gather:p ?y=(arg_max:q ?x) ?i)" => Rhs::Apply(|b| cut_arg(b, Cut::of_gather, "arg_max"))),
    rule!("slice-arg-min", Exact, "one position of arg_min(x) = arg_min(that position of x)",
        "(slice:p ?y=(arg_min:q ?x))" => Rhs::Apply(|b| cut_arg(b, Cut::of_slice, "arg_min"))),
    rule!("gather-arg-min", Exact, "gather(arg_min(x), one index) = arg_min(gather(x, the index))",
        "(gather:p ?y=(arg_min:q ?x) ?i)" => Rhs::Apply(|b| cut_arg(b, Cut::of_gather, "arg_min"))),
];

/// Refuses what a sign does not turn around: integers, whose smallest has no opposite, and the floats of a byte, some of
/// which have no negative numbers or no infinities.
fn require_symmetric(b: &Builder<'_>, x: Id) -> Result<(), Miss> {
    match b.ty(x)?.dtype {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Ok(()),
        other => Err(Miss(format!("not every {other} has an opposite"))),
    }
}

/// Both directions prefer NaN, and ties go the same way: -0 and 0 are equal.
fn arg_neg(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    require_symmetric(b, x)?;
    b.op(op, attrs, &[x])
}

fn fold_neg(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    require_symmetric(b, x)?;
    let folded = b.op(op, attrs, &[x])?;
    b.op("neg", Attrs::default(), &[folded])
}

/// The element type of a tensor before a cast that keeps the order of all values and makes no two of them equal.
fn require_widening(b: &Builder<'_>, x: Id) -> Result<DType, Miss> {
    let from = b.ty(x)?.dtype;
    let to = b.attrs("q")?.dtype("to").ok_or("a cast without a type")?;
    if widens(from, to) { Ok(from) } else { Err(Miss(format!("{to} does not hold every {from}"))) }
}

fn arg_cast(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    require_widening(b, x)?;
    b.op(op, attrs, &[x])
}

fn fold_cast(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    let from = require_widening(b, x)?;
    // No element gives the end of the type, which for integers is another one after a cast.
    if !from.is_float() {
        return Err("the end of a wider integer type is further".into());
    }
    let folded = b.op(op, attrs, &[x])?;
    let wide = b.attrs("q")?;
    b.op("cast", wide, &[folded])
}

/// The axis that the attributes `name` of the left side name, of so many.
fn axis_of(b: &Builder<'_>, name: &str, rank: usize) -> Result<usize, Miss> {
    let axis = usize::try_from(b.attrs(name)?.int("axis")).ok().filter(|axis| *axis < rank);
    axis.ok_or_else(|| "an axis out of range".into())
}

/// The position along one axis of a tensor, which stays as an axis of one element; ties go as `attrs` say.
fn arg_kept(b: &mut Builder<'_>, op: &str, attrs: &Attrs, x: Id, axis: usize) -> Result<Id, Miss> {
    let attrs = attrs.with("axis", Attr::Int(axis as i64)).with("keepdims", Attr::Int(1));
    b.op(op, attrs, &[x])
}

fn arg_reshape(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    let (inner, middle) = (b.ty(x)?.shape, b.ty(b.var("y")?)?.shape);
    let axis = axis_of(b, "p", middle.len())?;
    let groups = groups(&inner, &middle).ok_or("the reshape regroups axes")?;
    let (old, new) =
        groups.into_iter().find(|(_, new)| new.contains(&axis)).ok_or("the axis corresponds to none")?;
    let mut wide = old.filter(|i| !inner[*i].is(1));
    let (Some(only), None) = (wide.next(), wide.next()) else {
        return Err("the reshape made the axis".into());
    };
    if inner[only] != middle[axis] || new.into_iter().any(|i| i != axis && !middle[i].is(1)) {
        return Err("the reshape made the axis".into());
    }
    let found = arg_kept(b, op, &attrs, x, only)?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(found, shape)
}

fn arg_transpose(b: &mut Builder<'_>, op: &str) -> Result<Id, Miss> {
    let (x, attrs, perm) = (b.var("x")?, b.attrs("p")?, perm_of(&b.attrs("q")?));
    let axis = axis_of(b, "p", perm.len())?;
    let found = arg_kept(b, op, &attrs, x, perm[axis])?;
    let moved = b.transpose(found, &perm)?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(moved, shape)
}

/// The position that top_k gives for k = 1, and its axis. Ties go to the first in both, and NaN is the largest.
fn top_one(b: &mut Builder<'_>) -> Result<(Id, usize), Miss> {
    let (x, attrs) = (b.var("x")?, b.attrs("p")?);
    let ty = b.ty(x)?;
    if !matches!(attrs.dims("k"), [k] if k.is(1)) {
        return Err("k is not known to be 1".into());
    }
    let op = match attrs.flag("largest") {
        true => "arg_max",
        false if ty.dtype.is_int() => "arg_min",
        false => return Err("arg_min prefers NaN, which is the largest".into()),
    };
    let axis = axis_of(b, "p", ty.rank())?;
    Ok((arg_kept(b, op, &Attrs::default(), x, axis)?, axis))
}

/// The largest element itself may be the other zero.
fn top_one_value(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (index, axis) = top_one(b)?;
    let x = b.var("x")?;
    b.op("gather_elements", Attrs::new([("axis", Attr::Int(axis as i64))]), &[x, index])
}

/// What takes one position along an axis of a tensor.
struct Cut {
    axis: usize,
    at: At,
}

enum At {
    /// Attributes of a slice along the axis.
    Slice { start: Dim, size: Dim, step: i64 },
    /// A vector of one index.
    Gather(Id),
}

impl Cut {
    /// The cut that the slice of the left side is of `?y`.
    fn of_slice(b: &mut Builder<'_>) -> Result<Cut, Miss> {
        let (y, attrs) = (b.var("y")?, b.attrs("p")?);
        let axis = one_position(&attrs, &b.ty(y)?.shape).ok_or("the slice takes more than one position")?;
        require_only_cut(b, y)?;
        let (start, size) = (attrs.dims("starts")[axis].clone(), attrs.dims("sizes")[axis].clone());
        Ok(Cut { axis, at: At::Slice { start, size, step: attrs.ints("steps")[axis] } })
    }

    /// The cut that the gather of the left side is of `?y`.
    fn of_gather(b: &mut Builder<'_>) -> Result<Cut, Miss> {
        let (y, i) = (b.var("y")?, b.var("i")?);
        let shape = b.ty(y)?.shape;
        let axis = axis_of(b, "p", shape.len())?;
        if !b.ty(i)?.numel().is(1) {
            return Err("there is more than one index".into());
        }
        if is_slice_of(b, b.root()?, b.find(y)) {
            return Err("a slice, which costs nothing, takes the position".into());
        }
        require_only_cut(b, y)?;
        Ok(Cut { axis, at: At::Gather(b.reshape(i, vec![1.into()])?) })
    }

    /// The position of a tensor with the axis at another place.
    fn along(&self, b: &mut Builder<'_>, x: Id, axis: usize) -> Result<Id, Miss> {
        match &self.at {
            At::Gather(index) => b.op("gather", Attrs::new([("axis", Attr::Int(axis as i64))]), &[x, *index]),
            At::Slice { start, size, step } => {
                let mut sizes = b.ty(x)?.shape;
                let (mut starts, mut steps) = (vec![Dim::from(0); sizes.len()], vec![1; sizes.len()]);
                (starts[axis], sizes[axis], steps[axis]) = (start.clone(), size.clone(), *step);
                let attrs = [
                    ("starts", Attr::Dims(starts)),
                    ("sizes", Attr::Dims(sizes)),
                    ("steps", Attr::Ints(steps)),
                ];
                b.op("slice", Attrs::new(attrs), &[x])
            }
        }
    }

    /// The position of an operand that broadcasts to the extents `out`.
    fn operand(&self, b: &mut Builder<'_>, x: Id, out: &[Dim]) -> Result<Id, Miss> {
        let shape = b.ty(x)?.shape;
        let Some(axis) = (self.axis + shape.len()).checked_sub(out.len()) else { return Ok(x) };
        match &shape[axis] {
            own if *own == out[self.axis] => self.along(b, x, axis),
            own if own.is(1) => Ok(x),
            _ => Err("which operand has the positions is not known".into()),
        }
    }
}

/// Reads the cut of the left side.
type Read = fn(&mut Builder<'_>) -> Result<Cut, Miss>;

/// The axis of which a slice of a tensor with these extents takes one position, and of the others all.
fn one_position(slice: &Attrs, shape: &[Dim]) -> Option<usize> {
    let (sizes, steps) = (slice.dims("sizes"), slice.ints("steps"));
    let mut cut = (0..shape.len()).filter(|i| sizes[*i] != shape[*i] || steps[*i] != 1);
    let axis = cut.next().filter(|axis| is_one(&sizes[*axis]))?;
    cut.next().is_none().then_some(axis)
}

/// Whether a size is 1 for all that is not short: `x[-1:]` of what may be empty has `min(1, n)` elements, in other words.
/// What moves by it is equal for every size, so that this need not be proven.
fn is_one(size: &Dim) -> bool {
    [64, 65].iter().all(|extent| size.eval(&|_| Some(*extent)) == Some(1))
}

/// Whether a tensor is also a slice of another one, in any extents.
fn is_slice_of(b: &Builder<'_>, x: Id, of: Id) -> bool {
    let slice = |id: Id| b.nodes(id, "slice").iter().any(|(_, args)| args[0] == of);
    slice(x) || b.nodes(x, "reshape").iter().any(|(_, args)| slice(args[0]))
}

/// Classes of readers that are looked at.
const READERS_MAX: usize = 256;

/// Refuses a tensor of which other positions are needed too: then it is computed anyway, and to take a position of it is
/// free. Without this a cut would follow the residuals of a network up to its inputs.
fn require_only_cut(b: &Builder<'_>, x: Id) -> Result<(), Miss> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![b.find(x)]);
    while let Some(class) = open.pop() {
        if !seen.insert(class) {
            continue;
        }
        if b.is_output(class) || seen.len() > READERS_MAX {
            return Err("more than the position is read".into());
        }
        for (node, of) in b.readers(class) {
            match reading(b, &node, class) {
                Reading::Cut => {}
                Reading::Rowwise => open.push(of),
                Reading::Other => return Err("more than the position is read".into()),
            }
        }
    }
    Ok(())
}

/// How an operator reads a tensor.
enum Reading {
    /// One position of it.
    Cut,
    /// Each position for the same one of the result.
    Rowwise,
    /// In any way.
    Other,
}

fn reading(b: &Builder<'_>, node: &ENode, x: Id) -> Reading {
    let ENode::Op(op, children) = node else { return Reading::Other };
    let (attrs, args) = (b.data(children[0]).attrs(), &children[1..]);
    let first = args.iter().position(|arg| *arg == x) == Some(0) && !args[1..].contains(&x);
    let one = |id: Id| b.ty(id).is_ok_and(|ty| ty.numel().is(1));
    let is_cut = |attrs: &Attrs| b.ty(x).is_ok_and(|ty| one_position(attrs, &ty.shape).is_some());
    match op.name() {
        "slice" if attrs.is_some_and(is_cut) => Reading::Cut,
        "gather" if first && one(args[1]) => Reading::Cut,
        "matmul" | "linear" | "layer_norm" if first => Reading::Rowwise,
        "reshape" | "softmax" | "arg_max" | "arg_min" => Reading::Rowwise,
        name if name.starts_with("reduce_") => Reading::Rowwise,
        _ if op.def().class == Fusion::Elementwise => Reading::Rowwise,
        _ => Reading::Other,
    }
}

/// What was computed of one position, in the extents of the left side: a gather may drop the axis.
fn as_root(b: &mut Builder<'_>, cut: Id) -> Result<Id, Miss> {
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(cut, shape)
}

fn cut_elementwise(b: &mut Builder<'_>, read: Read) -> Result<Id, Miss> {
    let cut = read(b)?;
    let out = b.ty(b.var("y")?)?.shape;
    let mut args = vec![cut.operand(b, b.var("x")?, &out)?];
    if let Ok(z) = b.var("z") {
        args.push(cut.operand(b, z, &out)?);
    }
    let inner = b.any(&args)?;
    as_root(b, inner)
}

fn cut_matmul(b: &mut Builder<'_>, read: Read) -> Result<Id, Miss> {
    let cut = read(b)?;
    let (x, z, out) = (b.var("x")?, b.var("z")?, b.ty(b.var("y")?)?.shape);
    let args = match out.len() - cut.axis {
        1 => return Err("a column is taken".into()),
        2 => [cut.along(b, x, b.ty(x)?.rank() - 2)?, z],
        _ => [cut.operand(b, x, &out)?, cut.operand(b, z, &out)?],
    };
    let inner = b.op("matmul", Attrs::default(), &args)?;
    as_root(b, inner)
}

/// An operator that computes each row of its first operand along the last axis for itself.
fn cut_rows(b: &mut Builder<'_>, read: Read, op: &str) -> Result<Id, Miss> {
    let cut = read(b)?;
    let x = b.var("x")?;
    if cut.axis + 1 == b.ty(x)?.rank() {
        return Err("a column is taken".into());
    }
    let attrs = b.attrs("q").unwrap_or_default();
    let row = cut.along(b, x, cut.axis)?;
    let args: Vec<Id> = [Ok(row), b.var("w"), b.var("b")].into_iter().flatten().collect();
    let inner = b.op(op, attrs, &args)?;
    as_root(b, inner)
}

fn cut_arg(b: &mut Builder<'_>, read: Read, op: &str) -> Result<Id, Miss> {
    let cut = read(b)?;
    let (x, attrs) = (b.var("x")?, b.attrs("q")?);
    let axis = axis_of(b, "q", b.ty(x)?.rank())?;
    let of = if attrs.flag("keepdims") || cut.axis < axis { cut.axis } else { cut.axis + 1 };
    if of == axis {
        return Err("the axis has one position".into());
    }
    let position = cut.along(b, x, of)?;
    let inner = b.op(op, attrs, &[position])?;
    as_root(b, inner)
}
