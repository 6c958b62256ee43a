//! Mixtures of experts: products with matrices that a router chooses.
//!
//! Exporters gather the matrices first. What they write around the gather (other axes of the index, transposed matrices,
//! the matrices on the left, the columns of all experts of a token in one product) moves away from it, until it meets
//! the product.

use super::algebra::rule;
use super::require_f32;
use super::shape::perm_of;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::dim::product;
use autoglm_ir::{Attr, Attrs, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("gather-coordinate", Exact, "gather_nd(w, i) with one coordinate = gather(w, i)",
        "(gather_nd:p ?w ?i)" => Rhs::Apply(coordinate)),
    rule!("gather-reshape", Exact, "reshape(gather(w, i)) = gather(reshape(w), reshape(i)) for matrices w",
        "(reshape:p (gather:g ?w ?i))" => Rhs::Apply(reshape)),
    rule!("gather-transpose", Exact, "transpose(gather(w, i)) = gather(transpose(w), transpose(i)) for constant matrices w",
        "(transpose:p (gather:g ?w:const ?i))" => Rhs::Apply(transpose)),
    rule!("gather-left", Exact, "matmul(y, x) = transpose(matmul(transpose(x), transpose(y))) for y = gather(constant matrices)",
        "(matmul ?y=(gather:g ?w:const ?i) ?x)" => Rhs::Apply(left)),
    rule!("gather-left-rows", Exact,
        "matmul(y, x) = transpose(matmul(transpose(x), transpose(y))) for y = reshape(gather(constant matrices))",
        "(matmul ?y=(reshape (gather:g ?w:const ?i)) ?x)" => Rhs::Apply(left)),
    rule!("gather-columns", Exact,
        "matmul(x, the columns of several matrices gather(w, i)) = the columns of matmul(x, gather(w, i))",
        "(matmul ?x ?y=(reshape ?t=(transpose:p (gather:g ?w:const ?i))))" => Rhs::Apply(columns)),
    Rule {
        name: "matmul-gather",
        equation: "matmul(x, gather(w, i)) = gather_matmul(x, w, i)",
        numerics: Numerics::Exact,
        recovers: true,
        lhs: "(matmul ?x (gather:g ?w ?i))",
        rhs: Rhs::Apply(matmul_gather),
    },
];

fn along_first() -> Attrs {
    Attrs::new([("axis", Attr::Int(0))])
}

/// The extents of the index and of what it chooses; refuses a gather that does not choose among matrices.
fn chosen(b: &Builder<'_>) -> Result<(Vec<Dim>, Vec<Dim>), Miss> {
    let (w, i) = (b.ty(b.var("w")?)?.shape, b.ty(b.var("i")?)?.shape);
    if b.attrs("g")?.int("axis") != 0 {
        return Err("the index runs along another axis".into());
    }
    match w.as_slice() {
        [_, inner @ ..] if inner.len() >= 2 => Ok((i, inner.to_vec())),
        _ => Err("what is gathered are no matrices".into()),
    }
}

fn coordinate(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (w, i) = (b.var("w")?, b.var("i")?);
    let index = b.ty(i)?.shape;
    match index.split_last() {
        Some((one, axes)) if one.is(1) && b.attrs("p")?.int("batch_dims") == 0 => {
            let i = b.reshape(i, axes.to_vec())?;
            b.op("gather", along_first(), &[w, i])
        }
        _ => Err("there is not one coordinate".into()),
    }
}

fn reshape(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (w, i, shape) = (b.var("w")?, b.var("i")?, b.attrs("p")?.dims("shape").to_vec());
    let (index, inner) = chosen(b)?;
    let (picks, elements) = (product(&index), product(&inner));
    let fits = |at: &usize| product(&shape[..*at]) == picks && product(&shape[*at..]) == elements;
    // Where axes of one element leave a choice the matrices keep their rank.
    let same = shape.len().checked_sub(inner.len()).filter(fits);
    let at = same.or_else(|| (0..=shape.len()).rev().find(fits));
    let at = at.ok_or("the reshape joins axes of the index with those of the matrices")?;
    let count = b.ty(w)?.shape[..1].to_vec();
    let w = b.reshape(w, [&count, &shape[at..]].concat())?;
    let i = b.reshape(i, shape[..at].to_vec())?;
    b.op("gather", along_first(), &[w, i])
}

fn transpose(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (w, i, perm) = (b.var("w")?, b.var("i")?, perm_of(&b.attrs("p")?));
    let rank = chosen(b)?.0.len();
    let (outer, inner) = perm.split_at(rank.min(perm.len()));
    if outer.iter().any(|axis| *axis >= rank) {
        return Err("the transpose mixes axes of the index with those of the matrices".into());
    }
    let inner: Vec<usize> = std::iter::once(0).chain(inner.iter().map(|axis| axis + 1 - rank)).collect();
    let w = b.transpose(w, &inner)?;
    let i = b.transpose(i, outer)?;
    b.op("gather", along_first(), &[w, i])
}

/// The tensor with its last two axes exchanged.
fn turned(b: &mut Builder<'_>, x: Id) -> Result<Id, Miss> {
    let rank = b.ty(x)?.rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    b.transpose(x, &perm)
}

fn left(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (y, x) = (b.var("y")?, b.var("x")?);
    chosen(b)?;
    let (x, y) = (turned(b, x)?, turned(b, y)?);
    let product = b.op("matmul", Attrs::default(), &[x, y])?;
    turned(b, product)
}

/// For a transpose to [batch.., k, slots.., n] of the matrices that an index [batch.., slots..] chooses, which a reshape makes
/// [batch.., k, slots * n].
fn columns(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, i, perm) = (b.var("x")?, b.var("w")?, b.var("i")?, perm_of(&b.attrs("p")?));
    let (index, inner) = chosen(b)?;
    let (root, right, wide) = (b.ty(b.root()?)?.shape, b.ty(b.var("y")?)?.shape, b.ty(b.var("t")?)?.shape);
    let rank = index.len();
    let batch = perm.iter().position(|axis| *axis >= rank).unwrap_or(rank);
    let (k, n) = match perm.get(batch..) {
        Some([k, slots @ .., n])
            if inner.len() == 2 && perm[..batch].is_sorted() && slots.iter().copied().eq(batch..rank) =>
        {
            (*k, *n)
        }
        _ => return Err("the columns are not those of one matrix after the other".into()),
    };
    let (slots, joined) = (rank - batch, [&wide[..=batch], &[product(&wide[batch + 1..])]].concat());
    if slots == 0 || right != joined {
        return Err("the reshape does not join the columns of several matrices".into());
    }
    let w = b.transpose(w, &[0, k + 1 - rank, n + 1 - rank])?;
    let y = b.op("gather", along_first(), &[w, i])?;
    let mut rows = b.ty(x)?.shape;
    let at = rows.len() - 2;
    rows.splice(at..at, vec![Dim::from(1); slots]);
    let x = b.reshape(x, rows)?;
    let product = b.op("matmul", Attrs::default(), &[x, y])?;
    // [batch.., slots.., m, n] becomes [batch.., m, slots.., n].
    let first = b.ty(product)?.rank() - slots - 2;
    let (m, n) = (first + slots, first + slots + 1);
    let back: Vec<usize> = (0..first).chain([m]).chain(first..m).chain([n]).collect();
    let product = b.transpose(product, &back)?;
    b.reshape(product, root)
}

fn matmul_gather(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, i) = (b.var("x")?, b.var("w")?, b.var("i")?);
    require_f32(b, x)?;
    if chosen(b)?.1.len() != 2 {
        return Err("more than one matrix is gathered at a time".into());
    }
    b.op("gather_matmul", Attrs::default(), &[x, w, i])
}
