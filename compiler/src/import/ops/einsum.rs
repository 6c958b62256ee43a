//! Einstein summation: operands are contracted from left to right, by matrix products where they share a summed label.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId, dim};

pub(crate) static IMPORTERS: &[Importer] = &[row("Einsum", &[12, 28], einsum)];

/// The name of a dimension: a letter, or the place of a dimension of the ellipsis counted from its end.
type Label = u32;

const ELLIPSIS: Label = 1 << 24;

/// A tensor whose dimensions have names.
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

/// Splits `ij...k` around its ellipsis.
fn parse(cx: &Cx, text: &str) -> Res<(Vec<Label>, Option<Vec<Label>>)> {
    let bad = || cx.invalid(codes::VALUE, format!("cannot read {text:?} in the equation"));
    let letters = |s: &str| -> Res<Vec<Label>> {
        s.chars().map(|c| if c.is_ascii_alphabetic() { Ok(c as Label) } else { Err(bad()) }).collect()
    };
    match text.split_once("...") {
        None => Ok((letters(text)?, None)),
        Some((head, tail)) => Ok((letters(head)?, Some(letters(tail)?))),
    }
}

/// The labels of an operand of this rank.
fn operand(cx: &Cx, text: &str, rank: usize) -> Res<Vec<Label>> {
    let (mut labels, tail) = parse(cx, text)?;
    if let Some(tail) = tail {
        let Some(open) = rank.checked_sub(labels.len() + tail.len()) else {
            return Err(
                cx.invalid(codes::SHAPE, format!("{text:?} has more labels than the {rank} dimensions"))
            );
        };
        labels.extend((0..open).rev().map(|k| ELLIPSIS + k as Label));
        labels.extend(tail);
    }
    if labels.len() != rank {
        return Err(cx.invalid(codes::SHAPE, format!("{text:?} does not name the {rank} dimensions")));
    }
    Ok(labels)
}

/// The labels of the result: as written, or every label that occurs once in alphabetical order after the ellipsis.
fn result(cx: &Cx, text: Option<&str>, terms: &[Term]) -> Res<Vec<Label>> {
    let mut all: Vec<Label> = terms.iter().flat_map(|t| t.labels.iter().copied()).collect();
    all.sort_unstable();
    let open = all.iter().filter(|l| **l >= ELLIPSIS).map(|l| l - ELLIPSIS + 1).max().unwrap_or(0);
    let dots = (0..open).rev().map(|k| ELLIPSIS + k);
    let Some(text) = text else {
        let once =
            all.iter().copied().filter(|l| *l < ELLIPSIS && all.iter().filter(|m| *m == l).count() == 1);
        return Ok(dots.chain(once).collect());
    };
    let (mut labels, tail) = parse(cx, text)?;
    if let Some(tail) = tail {
        labels.extend(dots);
        labels.extend(tail);
    }
    for (i, l) in labels.iter().enumerate() {
        if labels[..i].contains(l) || !all.contains(l) {
            return Err(
                cx.invalid(codes::VALUE, format!("the result {text:?} repeats a label or names a new one"))
            );
        }
    }
    Ok(labels)
}

fn einsum(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let equation: String = n.str("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (equation.as_str(), None),
    };
    let values = n.all(cx)?;
    let texts: Vec<&str> = inputs.split(',').collect();
    if texts.len() != values.len() {
        let what = format!("the equation has {} terms for {} inputs", texts.len(), values.len());
        return Err(cx.invalid(codes::VALUE, what));
    }
    let mut terms = Vec::with_capacity(values.len());
    for (text, value) in texts.into_iter().zip(values) {
        let labels = operand(cx, text, cx.rank(value))?;
        terms.push(diagonal(cx, Term { value, labels })?);
    }
    let output = result(cx, output, &terms)?;
    let mut rest = terms.into_iter();
    let Some(mut left) = rest.next() else {
        return Err(cx.invalid(codes::NODE, "has no input"));
    };
    let rest: Vec<Term> = rest.collect();
    for (i, right) in rest.iter().enumerate() {
        let later = |l: &Label| output.contains(l) || rest[i + 1..].iter().any(|t| t.labels.contains(l));
        left = contract(cx, &left, right, &later)?;
    }
    let left = sum_out(cx, &left, &|l| output.contains(l))?;
    let perm: Option<Vec<usize>> = output.iter().map(|l| left.labels.iter().position(|m| m == l)).collect();
    let perm = perm.ok_or_else(|| cx.invalid(codes::VALUE, "the result names a label that is gone"))?;
    Ok(vec![cx.transpose(left.value, &perm)?])
}

/// A repeated label keeps the elements where its indices are equal.
fn diagonal(cx: &mut Cx, mut term: Term) -> Res<Term> {
    while let Some((first, second)) = repeated(&term.labels) {
        let (shape, d) = (cx.shape(term.value), cx.dtype(term.value));
        cx.require_eq(&shape[first], &shape[second], "a repeated label must name equal extents")?;
        let rank = shape.len();
        let rows = cx.iota(rank, first, &shape[first], DType::I64)?;
        let cols = cx.iota(rank, second, &shape[second], DType::I64)?;
        let equal = cx.binary("eq", rows, cols)?;
        let zero = cx.scalar(d, 0.0);
        let kept = cx.select(equal, term.value, zero)?;
        term.value = cx.reduce("reduce_sum", kept, &[second], false)?;
        term.labels.remove(second);
    }
    Ok(term)
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    labels.iter().enumerate().find_map(|(j, l)| labels[..j].iter().position(|m| m == l).map(|i| (i, j)))
}

/// Sums over the labels that nobody needs.
fn sum_out(cx: &mut Cx, term: &Term, needed: &dyn Fn(&Label) -> bool) -> Res<Term> {
    let gone: Vec<usize> = (0..term.labels.len()).filter(|i| !needed(&term.labels[*i])).collect();
    let value = cx.reduce("reduce_sum", term.value, &gone, false)?;
    let labels = term.labels.iter().copied().filter(|l| needed(l)).collect();
    Ok(Term { value, labels })
}

/// `term` with its dimensions in the order of `labels`; those it lacks have extent 1.
fn arranged(cx: &mut Cx, term: &Term, labels: &[Label]) -> Res<ValueId> {
    let present: Vec<usize> = labels.iter().filter_map(|l| term.labels.iter().position(|m| m == l)).collect();
    let moved = cx.transpose(term.value, &present)?;
    let mut extents = cx.shape(moved).into_iter();
    let one = Dim::from(1);
    let shape: Vec<Dim> = labels
        .iter()
        .map(|l| if term.labels.contains(l) { extents.next().unwrap_or(one.clone()) } else { one.clone() })
        .collect();
    cx.reshape(moved, &shape)
}

/// Multiplies two terms and sums over the labels that are not needed later.
fn contract(cx: &mut Cx, a: &Term, b: &Term, later: &dyn Fn(&Label) -> bool) -> Res<Term> {
    let a = sum_out(cx, a, &|l| later(l) || b.labels.contains(l))?;
    let b = sum_out(cx, b, &|l| later(l) || a.labels.contains(l))?;
    let shared = |l: &&Label| a.labels.contains(l) && b.labels.contains(l);
    let batch: Vec<Label> = a.labels.iter().filter(shared).filter(|l| later(l)).copied().collect();
    let summed: Vec<Label> = a.labels.iter().filter(shared).filter(|l| !later(l)).copied().collect();
    let only = |x: &Term, y: &Term| -> Vec<Label> {
        x.labels.iter().filter(|l| !y.labels.contains(l)).copied().collect()
    };
    let (rows, cols) = (only(&a, &b), only(&b, &a));
    let labels: Vec<Label> = [batch.as_slice(), &rows, &cols].concat();
    if summed.is_empty() {
        let (x, y) = (arranged(cx, &a, &labels)?, arranged(cx, &b, &labels)?);
        return Ok(Term { value: cx.binary("mul", x, y)?, labels });
    }
    let x = arranged(cx, &a, &[batch.as_slice(), &rows, &summed].concat())?;
    let y = arranged(cx, &b, &[batch.as_slice(), &summed, &cols].concat())?;
    let (sx, sy) = (cx.shape(x), cx.shape(y));
    let (nb, nr, ns) = (batch.len(), rows.len(), summed.len());
    let matrix = |s: &[Dim], first: usize| -> Vec<Dim> {
        let parts = [dim::product(&s[nb..nb + first]), dim::product(&s[nb + first..])];
        s[..nb].iter().cloned().chain(parts).collect()
    };
    let (mx, my) = (cx.reshape(x, &matrix(&sx, nr))?, cx.reshape(y, &matrix(&sy, ns))?);
    let product = cx.op("matmul", [], &[mx, my])?;
    let mut shape = cx.shape(product)[..nb].to_vec();
    shape.extend(sx[nb..nb + nr].iter().cloned());
    shape.extend(sy[nb + ns..].iter().cloned());
    Ok(Term { value: cx.reshape(product, &shape)?, labels })
}
