//! Arithmetic on symbolic extents with the bounds of the graph's symbols.

use super::codes;
use super::cx::{Cx, Res};
use autoglm_ir::dim::Bounds;
use autoglm_ir::op::InferCx;
use autoglm_ir::{Attrs, Dim, Graph};
use std::cell::RefCell;

/// The declared bounds of a graph's symbols.
struct Declared<'a>(&'a Graph);

impl Bounds for Declared<'_> {
    fn bounds(&self, symbol: &str) -> Option<(i64, i64)> {
        self.0.symbols.get(symbol).map(|s| (s.min, s.max))
    }
}

impl Cx {
    /// Inclusive bounds of a dim.
    pub(crate) fn range(&self, d: &Dim) -> (i128, i128) {
        d.range(&Declared(&self.graph))
    }

    /// The smaller of two, decided where the bounds decide.
    pub(crate) fn smaller(&self, a: &Dim, b: &Dim) -> Dim {
        match self.range(&(b - a)) {
            (0.., _) => a.clone(),
            (_, ..=0) => b.clone(),
            _ => a.smaller(b),
        }
    }

    /// The larger of two, decided where the bounds decide.
    pub(crate) fn larger(&self, a: &Dim, b: &Dim) -> Dim {
        match self.range(&(b - a)) {
            (0.., _) => b.clone(),
            (_, ..=0) => a.clone(),
            _ => a.larger(b),
        }
    }

    /// `lo.max(min(d, hi))`.
    pub(crate) fn clamped(&self, d: &Dim, lo: &Dim, hi: &Dim) -> Dim {
        self.larger(lo, &self.smaller(d, hi))
    }

    /// 1 where `d < 0`, else 0.
    pub(crate) fn is_negative(&self, d: &Dim) -> Dim {
        match self.range(d) {
            (0.., _) => 0.into(),
            (_, ..=-1) => 1.into(),
            _ => self.smaller(d, &(-1).into()).equals(d),
        }
    }

    /// An index that counts from the end of an axis of extent `n` when negative.
    pub(crate) fn counted_from_end(&self, index: &Dim, n: &Dim) -> Dim {
        Dim::select(&self.is_negative(index), &(index + n), index)
    }

    /// `ceil(a / b)`.
    pub(crate) fn ceil_div(&self, a: &Dim, b: &Dim) -> Res<Dim> {
        a.ceil_div(b).ok_or_else(|| self.invalid(codes::VALUE, format!("divides {a} by {b}")))
    }

    /// `floor(a / b)`.
    pub(crate) fn floor_div(&self, a: &Dim, b: &Dim) -> Res<Dim> {
        a.floor_div(b).ok_or_else(|| self.invalid(codes::VALUE, format!("divides {a} by {b}")))
    }

    /// The extents that numpy broadcasting of two shapes gives.
    pub(crate) fn broadcast(&self, a: &[Dim], b: &[Dim]) -> Res<Vec<Dim>> {
        let cx = InferCx { args: &[], attrs: &Attrs::default(), guards: RefCell::default() };
        cx.broadcast(a, b).map_err(|e| self.invalid(codes::SHAPE, e))
    }

    /// For each dimension of a tensor of this rank and each of `axes`, which are known at run time only, 1 if the axis is
    /// that dimension, else 0. Guards make sure that the axes exist and differ.
    pub(crate) fn dynamic_axes(&mut self, axes: &[Dim], rank: usize) -> Res<Vec<Vec<Dim>>> {
        let (rank, last) = (Dim::from(rank), rank as i64 - 1);
        let mut places: Vec<Dim> = Vec::with_capacity(axes.len());
        for axis in axes {
            self.require_le(&(&Dim::from(0) - &rank), axis, "an axis does not exist")?;
            self.require_le(axis, &last.into(), "an axis does not exist")?;
            let place = self.counted_from_end(axis, &rank);
            for other in &places {
                self.require_eq(&place.equals(other), &0.into(), "an axis is given twice")?;
            }
            places.push(place);
        }
        Ok((0..=last).map(|d| places.iter().map(|p| p.equals(&d.into())).collect()).collect())
    }

    /// The value whose flag is 1, or `other` if there is none.
    pub(crate) fn chosen(flags: &[Dim], values: &[Dim], other: &Dim) -> Dim {
        let pick = |rest: Dim, (flag, value): (&Dim, &Dim)| Dim::select(flag, value, &rest);
        flags.iter().zip(values).fold(other.clone(), pick)
    }
}
