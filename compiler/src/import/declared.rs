//! Declared types of outputs and intermediate values against those that the model computes.
//!
//! A declaration is a hint: where it is certainly wrong, the computed type counts. An output's declared extent that
//! depends on the inputs is checked at run time, because who reads the model relies on it. Intermediate declarations
//! are often left over from an edit of the model and bind nobody.

use super::codes;
use super::inputs::tensor_type;
use super::values::dtype_of;
use crate::diag::Diagnostic;
use crate::onnx::proto::{DimensionValue, TensorShapeProto, ValueInfoProto};
use autoglm_ir::dim::Bounds;
use autoglm_ir::graph::Guard;
use autoglm_ir::{Cond, Dim, Graph, ValueId};
use std::collections::HashMap;

struct Symbols<'a>(&'a Graph);

impl Bounds for Symbols<'_> {
    fn bounds(&self, symbol: &str) -> Option<(i64, i64)> {
        self.0.symbols.get(symbol).map(|s| (s.min, s.max))
    }
}

/// Axes with a declared number.
fn numbers(shape: &TensorShapeProto) -> impl Iterator<Item = (usize, i64)> {
    shape.dim.iter().enumerate().filter_map(|(axis, d)| match d.value {
        Some(DimensionValue::DimValue(v)) => Some((axis, v)),
        _ => None,
    })
}

/// Whether a declaration cannot be true of a value for any inputs.
fn is_wrong(graph: &Graph, v: ValueId, declared: &ValueInfoProto) -> bool {
    let Some(declared) = tensor_type(declared.r#type.as_ref()) else { return false };
    let ty = graph.ty(v);
    let excluded = |have: &Dim, want: i64| {
        let (lo, hi) = have.range(&Symbols(graph));
        !(lo..=hi).contains(&i128::from(want))
    };
    dtype_of(declared.elem_type).is_some_and(|d| d != ty.dtype)
        || declared.shape.as_ref().is_some_and(|s| {
            s.dim.len() != ty.rank() || numbers(s).any(|(axis, want)| excluded(&ty.shape[axis], want))
        })
}

/// Checks an output's declaration: a warning where it is wrong, guards where that depends on the inputs.
pub(super) fn output(graph: &mut Graph, v: ValueId, declared: &ValueInfoProto) -> Vec<Diagnostic> {
    let name = &declared.name;
    if is_wrong(graph, v, declared) {
        let ty = graph.ty(v);
        let title =
            format!("output `{name}` is declared with another type than the {ty} that the model computes");
        return vec![Diagnostic::warning(codes::W_DECLARED, title).help("the computed type counts")];
    }
    let shape = tensor_type(declared.r#type.as_ref()).and_then(|t| t.shape.as_ref());
    let mut warnings = Vec::new();
    for (axis, want) in shape.into_iter().flat_map(numbers) {
        let have = graph.ty(v).shape[axis].clone();
        if have.as_const().is_some() {
            continue;
        }
        let title = format!("output `{name}` is declared with extent {want} on axis {axis}, which is {have}");
        warnings.push(
            Diagnostic::warning(codes::W_UNPROVEN, title)
                .help("runs that give another extent will fail; declare the dimension as dynamic if it is"),
        );
        let message = format!("output {name:?}: extent of axis {axis} is declared as {want} and is {have}");
        graph.guards.push(Guard { cond: Cond::Eq(have, want.into()), message });
    }
    warnings
}

/// One warning for all intermediate values whose declaration is wrong.
pub(super) fn intermediate(
    graph: &Graph,
    scope: &HashMap<String, ValueId>,
    declared: &[ValueInfoProto],
) -> Option<Diagnostic> {
    let wrong = declared.iter().filter_map(|d| {
        let v = *scope.get(&d.name)?;
        is_wrong(graph, v, d).then_some((&d.name, v))
    });
    let wrong: Vec<_> = wrong.collect();
    let (name, v) = wrong.first()?;
    let ty = graph.ty(*v);
    let title = format!("`{name}` is declared with another type than the {ty} that the model computes");
    let warning = Diagnostic::warning(codes::W_DECLARED, title).help("the computed type counts");
    Some(match wrong.len() - 1 {
        0 => warning,
        more => warning.note(format!("so are {more} other intermediate values")),
    })
}
