//! Tensors whose elements follow from their position: counters, and what comparisons of them say.
//!
//! Exporters compute masks from ranges. What decides whether a mask hides keys by position alone is an [`Affine`] form of both
//! sides of a comparison, found through whatever moves, sums and casts lie between.

use super::view::regroup;
use crate::egraph::{Builder, Miss};
use autoglm_ir::dim::Bounds;
use autoglm_ir::{Attr, Attrs, DType, Dim};
use egg::Id;
use std::collections::BTreeSet;

/// Nodes that one question may look at.
const LOOKS_MAX: usize = 600;
/// How deep expressions are followed.
const DEPTH_MAX: usize = 16;
/// Elements of constants that are looked at one by one.
const ELEMENTS_MAX: usize = 1 << 24;

/// `constant + sum of steps[axis] * index[axis]` for the element at an index; axes of one element have step 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    pub(super) constant: Dim,
    pub(super) steps: Vec<Dim>,
}

/// Extents are at least 0; numbers out of tensors are anything.
struct Symbols;

impl Bounds for Symbols {
    fn bounds(&self, symbol: &str) -> Option<(i64, i64)> {
        Some((if symbol.contains('@') { i64::MIN } else { 0 }, i64::MAX))
    }
}

impl Affine {
    fn uniform(constant: Dim, rank: usize) -> Affine {
        Affine { constant, steps: vec![Dim::from(0); rank] }
    }

    /// Aligned with the last of `rank` axes.
    fn widened(mut self, rank: usize) -> Affine {
        while self.steps.len() < rank {
            self.steps.insert(0, Dim::from(0));
        }
        self
    }

    fn sum(self, other: Affine, factor: i64) -> Affine {
        let rank = self.steps.len().max(other.steps.len());
        let (a, b, factor) = (self.widened(rank), other.widened(rank), Dim::from(factor));
        let steps = a.steps.iter().zip(&b.steps).map(|(x, y)| x + &(y * &factor)).collect();
        Affine { constant: &a.constant + &(&b.constant * &factor), steps }
    }

    fn scaled(mut self, by: &Dim) -> Affine {
        self.constant = &self.constant * by;
        self.steps.iter_mut().for_each(|s| *s = &*s * by);
        self
    }

    /// As a movement with these attributes shows it.
    fn moved(self, op: &str, attrs: &Attrs, from: &[Dim], to: &[Dim]) -> Option<Affine> {
        let wide = |shape: &[Dim]| (0..shape.len()).filter(|i| !shape[*i].is(1)).collect::<Vec<_>>();
        let mut out = Affine::uniform(self.constant.clone(), to.len());
        match op {
            "reshape" => {
                let (old, new) = (wide(from), wide(to));
                if !old.iter().map(|i| &from[*i]).eq(new.iter().map(|i| &to[*i])) {
                    return None;
                }
                for (i, j) in old.into_iter().zip(new) {
                    out.steps[j] = self.steps[i].clone();
                }
            }
            "expand" => {
                let lead = to.len().checked_sub(from.len())?;
                for i in wide(from) {
                    out.steps[lead + i] = self.steps[i].clone();
                }
            }
            "transpose" => {
                for (i, p) in attrs.ints("perm").iter().enumerate() {
                    out.steps[i] = self.steps.get(usize::try_from(*p).ok()?)?.clone();
                }
            }
            "slice" => {
                let (starts, steps) = (attrs.dims("starts"), attrs.ints("steps"));
                for (i, own) in self.steps.iter().enumerate() {
                    out.constant = &out.constant + &(own * starts.get(i)?);
                    if !to.get(i)?.is(1) {
                        out.steps[i] = own * &Dim::from(*steps.get(i)?);
                    }
                }
            }
            _ => return None,
        }
        Some(out)
    }

    /// Whether it depends on a number out of a tensor.
    fn has_element(&self) -> bool {
        let mut symbols = BTreeSet::new();
        std::iter::once(&self.constant).chain(&self.steps).for_each(|d| d.symbols(&mut symbols));
        symbols.iter().any(|s| s.contains('@'))
    }

    /// Whether it is at least 0 at every position of a tensor.
    fn never_negative(&self, shape: &[Dim]) -> bool {
        let mut least = self.constant.clone();
        for (step, extent) in self.steps.iter().zip(shape) {
            match step.as_const() {
                Some(s) if s >= 0 => {}
                // A tensor without elements has no position.
                Some(_) => least = &least + &(step * &(extent - &Dim::from(1))),
                None => return false,
            }
        }
        least.range(&Symbols).0 >= 0
    }
}

/// Operators that only move elements.
const MOVES: [&str; 4] = ["reshape", "expand", "transpose", "slice"];

/// A question to an e-graph, which looks at so many nodes at most.
struct Search<'b, 'e> {
    b: &'b Builder<'e>,
    looks: usize,
}

impl Search<'_, '_> {
    fn look(&mut self, depth: usize) -> Option<usize> {
        self.looks = self.looks.checked_sub(1)?;
        depth.checked_sub(1)
    }

    fn shape(&self, id: Id) -> Option<Vec<Dim>> {
        self.b.ty(id).ok().map(|ty| ty.shape)
    }

    /// The first answer among the movements that a class is.
    fn through_moves(
        &mut self,
        id: Id,
        mut of: impl FnMut(&mut Self, Id) -> Option<Affine>,
    ) -> Option<Affine> {
        let to = self.shape(id)?;
        for op in MOVES {
            for (attrs, args) in self.b.nodes(id, op) {
                let from = self.shape(args[0])?;
                let found = of(self, args[0]).and_then(|a| a.moved(op, &attrs, &from, &to));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// What the elements of an integer tensor are by position.
    fn numbers(&mut self, id: Id, depth: usize) -> Option<Affine> {
        let depth = self.look(depth)?;
        let ty = self.b.ty(id).ok()?;
        let found = match ty.dtype {
            DType::I64 => self.integers(id, depth),
            // A number out of a tensor may not fit.
            DType::I32 => self.integers(id, depth).filter(|a| !a.has_element()),
            _ => None,
        };
        found.map(|a| a.widened(ty.rank()))
    }

    fn integers(&mut self, id: Id, depth: usize) -> Option<Affine> {
        if let Some(known) = self.known(id) {
            return Some(known);
        }
        let shape = self.shape(id)?;
        if let Some((attrs, _)) = self.b.nodes(id, "iota").first() {
            let mut counter = Affine::uniform(Dim::from(0), shape.len());
            let axis = usize::try_from(attrs.int("axis")).ok()?;
            if !shape.get(axis)?.is(1) {
                counter.steps[axis] = Dim::from(1);
            }
            return Some(counter);
        }
        if let Some(found) = self.arithmetic(id, shape.len(), depth) {
            return Some(found);
        }
        for (op, factor) in [("neg", -1), ("cast", 1)] {
            for (_, args) in self.b.nodes(id, op) {
                if let Some(a) = self.numbers(args[0], depth) {
                    return Some(a.scaled(&Dim::from(factor)));
                }
            }
        }
        self.through_moves(id, |s, of| s.numbers(of, depth))
    }

    /// A sum, difference or product of numbers by position.
    fn arithmetic(&mut self, id: Id, rank: usize, depth: usize) -> Option<Affine> {
        for op in ["add", "sub", "mul"] {
            for (_, args) in self.b.nodes(id, op) {
                let (Some(a), Some(c)) = (self.numbers(args[0], depth), self.numbers(args[1], depth)) else {
                    continue;
                };
                let flat = |a: &Affine| a.steps.iter().all(|s| s.is(0));
                match op {
                    "add" => return Some(a.sum(c, 1)),
                    "sub" => return Some(a.sum(c, -1)),
                    _ if flat(&c) => return Some(a.widened(rank).scaled(&c.constant)),
                    _ if flat(&a) => return Some(c.widened(rank).scaled(&a.constant)),
                    _ => {}
                }
            }
        }
        None
    }

    /// A tensor of one number, or of numbers that grow evenly along one axis.
    fn known(&self, id: Id) -> Option<Affine> {
        let shape = self.shape(id)?;
        if let Some(x) = self.b.data(id).uniform() {
            let whole = x.fract() == 0.0 && x.abs() < 9e15;
            return whole.then(|| Affine::uniform(Dim::from(x as i64), shape.len()));
        }
        let content = self.b.data(id).content.as_ref()?;
        let first = content.first()?.clone();
        let mut even = Affine::uniform(first.clone(), shape.len());
        if content.iter().all(|x| *x == first) {
            return Some(even);
        }
        let mut wide = (0..shape.len()).filter(|i| !shape[*i].is(1));
        let (axis, None) = (wide.next()?, wide.next()) else { return None };
        let step = &content[1] - &first;
        let grows = content.windows(2).all(|pair| &pair[1] - &pair[0] == step);
        even.steps[axis] = step;
        grows.then_some(even)
    }

    /// What is at least 0 exactly where a bool tensor holds, or with `holds` unset where it does not.
    fn condition(&mut self, id: Id, holds: bool, depth: usize) -> Option<Affine> {
        let depth = self.look(depth)?;
        let ty = self.b.ty(id).ok().filter(|ty| ty.dtype == DType::Bool)?;
        if let Some(x) = self.b.data(id).uniform() {
            return Some(Affine::uniform(Dim::from(if (x != 0.0) == holds { 0 } else { -1 }), ty.rank()));
        }
        // a <= b where 0 <= b - a; not so where 0 <= a - b - 1.
        for (op, swapped, equal) in
            [("le", false, true), ("lt", false, false), ("ge", true, true), ("gt", true, false)]
        {
            for (_, args) in self.b.nodes(id, op) {
                let (Some(x), Some(y)) = (self.numbers(args[0], depth), self.numbers(args[1], depth)) else {
                    continue;
                };
                let (low, high) = if swapped == holds { (y, x) } else { (x, y) };
                let mut gap = high.sum(low, -1);
                if equal != holds {
                    gap.constant = &gap.constant - &Dim::from(1);
                }
                return Some(gap.widened(ty.rank()));
            }
        }
        for (_, args) in self.b.nodes(id, "not") {
            if let Some(found) = self.condition(args[0], !holds, depth) {
                return Some(found);
            }
        }
        if let Some(found) = self.of_numbers(id, holds, depth) {
            return Some(found);
        }
        if let Some(t) = self.b.elements(id, ELEMENTS_MAX) {
            return triangle(&t.shape, &t.to_f64(), |x| (*x != 0.0) == holds);
        }
        self.through_moves(id, |s, of| s.condition(of, holds, depth))
    }

    /// A bool tensor that tests numbers which another condition, or a constant, chose.
    fn of_numbers(&mut self, id: Id, holds: bool, depth: usize) -> Option<Affine> {
        let rank = self.b.ty(id).ok()?.rank();
        let mut tests: Vec<(Id, Option<f64>)> = Vec::new();
        tests.extend(self.b.nodes(id, "cast").into_iter().map(|(_, args)| (args[0], None)));
        for (_, args) in self.b.nodes(id, "eq") {
            for (x, c) in [(args[0], args[1]), (args[1], args[0])] {
                tests.extend(self.b.data(c).uniform().map(|c| (x, Some(c))));
            }
        }
        tests.into_iter().find_map(|(x, equal)| self.tested(x, equal, holds, depth)).map(|a| a.widened(rank))
    }

    /// Where the elements of a tensor equal a number, or are not 0; with `holds` unset where not so.
    fn tested(&mut self, id: Id, equal: Option<f64>, holds: bool, depth: usize) -> Option<Affine> {
        let depth = self.look(depth)?;
        let test = |v: f64| equal.map_or(v != 0.0, |c| v == c);
        if let Some(t) = self.b.elements(id, ELEMENTS_MAX) {
            return triangle(&t.shape, &t.to_f64(), |x| test(*x) == holds);
        }
        let mut chosen: Vec<(Id, f64, f64)> = Vec::new();
        for (_, args) in self.b.nodes(id, "select") {
            let numbers = (self.b.data(args[1]).uniform(), self.b.data(args[2]).uniform());
            if let (Some(u), Some(v)) = numbers {
                chosen.push((args[0], u, v));
            }
        }
        chosen.extend(self.b.nodes(id, "cast").into_iter().map(|(_, args)| (args[0], 1.0, 0.0)));
        for (c, u, v) in chosen {
            let found = match (test(u), test(v)) {
                (true, false) => self.condition(c, holds, depth),
                (false, true) => self.condition(c, !holds, depth),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
        self.through_moves(id, |s, of| s.tested(of, equal, holds, depth))
    }
}

/// For a constant whose elements are set on and below a diagonal of its last two axes and nowhere else: `row - column` and the
/// diagonal's number.
fn triangle(shape: &[usize], elements: &[f64], set: impl Fn(&f64) -> bool) -> Option<Affine> {
    let [.., rows, cols] = *shape else { return None };
    let number = diagonal(rows, cols, elements, set)?;
    let mut below = Affine::uniform(Dim::from(number), shape.len());
    let rank = shape.len();
    if rows > 1 {
        below.steps[rank - 2] = Dim::from(1);
    }
    if cols > 1 {
        below.steps[rank - 1] = Dim::from(-1);
    }
    Some(below)
}

/// The number `o` for which in every matrix exactly the elements with `column <= row + o` are set, if some are and some are not.
fn diagonal(rows: usize, cols: usize, elements: &[f64], set: impl Fn(&f64) -> bool) -> Option<i64> {
    let first = elements.get(..rows.checked_mul(cols)?)?;
    let counts = || first.chunks_exact(cols.max(1)).map(|row| row.iter().take_while(|x| set(x)).count());
    let (row, count) = counts().enumerate().find(|(_, n)| (1..cols).contains(n))?;
    let number = count as i64 - 1 - row as i64;
    let seen = |row: usize| usize::try_from((row as i64 + number + 1).max(0)).unwrap_or(0).min(cols);
    let rows_match = elements.chunks_exact(cols).enumerate().all(|(at, row)| {
        let seen = seen(at % rows);
        row[..seen].iter().all(&set) && !row[seen..].iter().any(&set)
    });
    rows_match.then_some(number)
}

/// A condition as one that holds where a key is not later than a query and further ones.
pub(super) struct Split {
    /// Keys `j <= i + offset` of query `i` pass.
    pub(super) offset: Dim,
    /// All of the other conditions at once, if there are any.
    pub(super) rest: Option<Id>,
}

/// A part of a conjunction: the class, and whether it must hold or must not.
type Leaf = (Id, bool);

/// Where a conjunction is being taken apart.
struct Way {
    /// The classes around the one that is looked at.
    path: Vec<Id>,
    looks: usize,
}

/// Parts of a condition that must all be so; none for a class that is within itself. Reshapes that only add or drop unit axes are
/// passed.
fn leaves(b: &mut Builder<'_>, id: Id, holds: bool, way: &mut Way) -> Option<Vec<Leaf>> {
    let id = b.find(id);
    if way.path.contains(&id) {
        return None;
    }
    let whole = vec![(id, holds)];
    if way.path.len() >= DEPTH_MAX || way.looks == 0 {
        return Some(whole);
    }
    way.looks -= 1;
    way.path.push(id);
    let found = leaves_within(b, id, holds, way);
    way.path.pop();
    Some(found.unwrap_or(whole))
}

fn leaves_within(b: &mut Builder<'_>, id: Id, holds: bool, way: &mut Way) -> Option<Vec<Leaf>> {
    for (_, args) in b.nodes(id, if holds { "and" } else { "or" }) {
        let parts: Option<Vec<_>> = args.iter().map(|arg| leaves(b, *arg, holds, way)).collect();
        if let Some(parts) = parts {
            return Some(parts.concat());
        }
    }
    for (_, args) in b.nodes(id, "not") {
        if let Some(parts) = leaves(b, args[0], !holds, way) {
            return Some(parts);
        }
    }
    for op in ["expand", "reshape"] {
        for (_, args) in b.nodes(id, op) {
            let Some(inner) = leaves(b, args[0], holds, way) else { continue };
            let apart = inner.len() > 1 || inner.first().is_some_and(|(leaf, _)| *leaf != args[0]);
            if apart && let Some(moved) = placed(b, &inner, op, args[0], id) {
                return Some(moved);
            }
        }
    }
    None
}

/// Parts of what a movement moves, as parts of its result.
fn placed(b: &mut Builder<'_>, inner: &[Leaf], op: &str, from: Id, to: Id) -> Option<Vec<Leaf>> {
    if op == "expand" {
        // What is broadcast once more is aligned alike.
        return Some(inner.to_vec());
    }
    let (from, to) = (b.ty(from).ok()?.shape, b.ty(to).ok()?.shape);
    let mut moved = Vec::with_capacity(inner.len());
    for (leaf, holds) in inner {
        let shape = regroup(&b.ty(*leaf).ok()?.shape, &from, &to)?;
        moved.push((b.reshape(*leaf, shape).ok()?, *holds));
    }
    Some(moved)
}

/// Parts of a condition, and what each says of positions where that is known.
fn parts(b: &mut Builder<'_>, id: Id, holds: bool) -> Vec<(Leaf, Option<Affine>)> {
    let mut way = Way { path: Vec::new(), looks: LOOKS_MAX };
    let found = leaves(b, id, holds, &mut way).unwrap_or_else(|| vec![(id, holds)]);
    let mut search = Search { b, looks: LOOKS_MAX };
    found.into_iter().map(|leaf| (leaf, search.condition(leaf.0, leaf.1, DEPTH_MAX))).collect()
}

fn is_certain(b: &Builder<'_>, leaf: Leaf, says: Option<&Affine>) -> bool {
    let (Some(says), Ok(ty)) = (says, b.ty(leaf.0)) else { return false };
    says.never_negative(&ty.shape)
}

/// Whether a condition holds (or, with `holds` unset, fails) at every position of its tensor.
pub(super) fn always(b: &mut Builder<'_>, id: Id, holds: bool) -> bool {
    let parts = parts(b, id, holds);
    parts.iter().all(|(leaf, says)| is_certain(b, *leaf, says.as_ref()))
}

/// Splits a condition on scores of `queries` rows; with `holds` unset it is where the condition fails that a key is seen.
pub(super) fn split(b: &mut Builder<'_>, id: Id, holds: bool, queries: &Dim) -> Result<Split, Miss> {
    let (mut offset, mut rest) = (None, Vec::new());
    for (leaf, says) in parts(b, id, holds) {
        if is_certain(b, leaf, says.as_ref()) {
            continue;
        }
        match says.as_ref().and_then(|says| diagonal_of(says, queries)) {
            Some(found) if offset.is_none() => offset = Some(found),
            _ => rest.push(leaf),
        }
    }
    let offset = offset.ok_or("no part of the mask is known to compare the positions of queries and keys")?;
    let mut joined = None;
    for (leaf, holds) in rest {
        let part = if holds { leaf } else { b.op("not", Attrs::default(), &[leaf])? };
        joined = Some(match joined {
            Some(before) => b.op("and", Attrs::default(), &[before, part])?,
            None => part,
        });
    }
    Ok(Split { offset, rest: joined })
}

/// The number of the diagonal up to which a mask is 0, if it is 0 there and nowhere else.
pub(super) fn zeros(b: &Builder<'_>, mask: Id, queries: &Dim) -> Option<Dim> {
    let says = Search { b, looks: LOOKS_MAX }.tested(mask, Some(0.0), true, DEPTH_MAX)?;
    diagonal_of(&says, queries)
}

/// The number of the diagonal up to which a row sees keys.
fn diagonal_of(says: &Affine, queries: &Dim) -> Option<Dim> {
    let (key, before) = says.steps.split_last()?;
    let one_query = queries.is(1) && before.last().is_none_or(|row| row.is(0));
    let row = one_query || before.last().is_some_and(|row| row.is(1));
    let flat = before.split_last().is_none_or(|(_, outer)| outer.iter().all(|s| s.is(0)));
    (key.is(-1) && row && flat).then(|| says.constant.clone())
}

/// What a mask's absolute values stay below; infinite where that is not known.
pub(super) fn magnitude(b: &Builder<'_>, id: Id) -> f64 {
    Search { b, looks: LOOKS_MAX }.magnitude(id, DEPTH_MAX)
}

impl Search<'_, '_> {
    fn magnitude(&mut self, id: Id, depth: usize) -> f64 {
        if let Some(x) = self.b.data(id).uniform() {
            return x.abs();
        }
        if let Ok(bound) = self.b.largest(id) {
            return bound;
        }
        let Some(depth) = self.look(depth) else { return f64::INFINITY };
        // The first expression of a class that has a bound is as good as any.
        for op in [
            "reshape",
            "expand",
            "transpose",
            "slice",
            "gather",
            "neg",
            "abs",
            "add",
            "sub",
            "mul",
            "select",
            "cast",
        ] {
            for (_, args) in self.b.nodes(id, op) {
                let bound = match op {
                    "cast" if self.b.ty(args[0]).is_ok_and(|ty| !ty.dtype.is_float()) => 2f64.powi(64),
                    "add" | "sub" => self.magnitude(args[0], depth) + self.magnitude(args[1], depth),
                    "mul" => self.magnitude(args[0], depth) * self.magnitude(args[1], depth),
                    "select" => self.magnitude(args[1], depth).max(self.magnitude(args[2], depth)),
                    _ => self.magnitude(args[0], depth),
                };
                if bound.is_finite() {
                    return bound;
                }
            }
        }
        f64::INFINITY
    }
}

/// Attributes of an attention whose query `i` sees the keys `j <= i + offset`.
pub(super) fn causal_attrs(attrs: &Attrs, offset: Dim, fill: f64) -> Attrs {
    attrs.with("causal", Attr::Dims(vec![offset])).with("fill", Attr::float(fill))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(x: &f64) -> bool {
        *x == 0.0
    }

    #[test]
    fn a_diagonal_is_that_of_all_rows_or_none() {
        let lower = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
        assert_eq!(diagonal(2, 3, &lower, set), Some(0));
        assert_eq!(diagonal(2, 3, &[lower, lower].concat(), set), Some(0));
        assert_eq!(diagonal(2, 3, &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0], set), Some(1));
        assert_eq!(diagonal(2, 3, &[1.0, 1.0, 1.0, 0.0, 1.0, 1.0], set), Some(-1));
        assert_eq!(diagonal(2, 3, &[0.0, 1.0, 1.0, 0.0, 1.0, 1.0], set), None, "the second row sees too few");
        assert_eq!(diagonal(2, 3, &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0], set), None, "a hole");
        assert_eq!(diagonal(2, 2, &[0.0; 4], set), None, "no diagonal");
        assert_eq!(diagonal(0, 0, &[], set), None);
    }

    #[test]
    fn a_bound_holds_at_every_position() {
        let (past, one) = (Dim::sym("past"), Dim::from(1));
        let says = Affine { constant: past.clone(), steps: vec![0.into(), (-1).into()] };
        assert!(says.never_negative(&[one.clone(), &past + &one]));
        assert!(!says.never_negative(&[one.clone(), &past + &Dim::from(2)]));
        let element = Affine { constant: Dim::sym("x@0"), steps: vec![] };
        assert!(!element.never_negative(&[]));
    }
}
