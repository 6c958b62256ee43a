//! Graph inputs: their element types, symbolic extents and, for small integer tensors, their elements.

use super::ImportOptions;
use super::codes;
use super::cx::Res;
use super::values::{dtype_of, type_name};
use crate::diag::{Class, Diagnostic};
use crate::onnx::proto::{DimensionValue, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use autoglm_ir::{DType, Dim, Graph, SymbolSource, TensorType, ValueId};
use std::collections::BTreeSet;

/// Elements of integer inputs up to this length may become symbols.
const ELEMENTS_MAX: usize = 16;

/// Declares graph inputs one by one.
pub(crate) struct Inputs<'a> {
    options: &'a ImportOptions,
    /// Names that the model gives to dimensions, which made-up names must not meet.
    taken: BTreeSet<String>,
}

fn refused(input: &ValueInfoProto, what: &str, class: Class, help: &str) -> Box<Diagnostic> {
    let title = format!("input `{}` {what}", input.name);
    Box::new(Diagnostic::error(codes::INPUT, class, title).help(help))
}

fn dim_params(shape: &TensorShapeProto) -> impl Iterator<Item = &String> {
    shape.dim.iter().filter_map(|d| match &d.value {
        Some(DimensionValue::DimParam(p)) => Some(p),
        _ => None,
    })
}

/// The tensor type of a declaration, if it is one.
pub(crate) fn tensor_type(ty: Option<&TypeProto>) -> Option<&type_proto::Tensor> {
    match ty?.value.as_ref()? {
        type_proto::Value::TensorType(t) => Some(t),
        _ => None,
    }
}

impl<'a> Inputs<'a> {
    /// For these declarations.
    pub(crate) fn new(options: &'a ImportOptions, all: &[ValueInfoProto]) -> Inputs<'a> {
        let shapes = all.iter().filter_map(|i| tensor_type(i.r#type.as_ref())?.shape.as_ref());
        let mut taken: BTreeSet<String> = shapes.flat_map(dim_params).map(|p| plain(p)).collect();
        taken.retain(|p| !p.is_empty());
        Inputs { options, taken }
    }

    /// Adds one input to the graph.
    pub(crate) fn declare(&self, graph: &mut Graph, input: &ValueInfoProto) -> Res<ValueId> {
        let Some(ty) = tensor_type(input.r#type.as_ref()) else {
            let what = "is not a tensor";
            return Err(refused(input, what, Class::Unsupported, "export the model with tensor inputs only"));
        };
        let Some(dtype) = dtype_of(ty.elem_type) else {
            let what = format!("has element type {}", type_name(ty.elem_type));
            return Err(refused(input, &what, Class::Unsupported, "use a numeric element type"));
        };
        let Some(shape) = &ty.shape else {
            let what = "has no rank";
            return Err(refused(input, what, Class::Unsupported, "declare the input's shape in the model"));
        };
        let place = graph.inputs.len();
        let mut dims = Vec::with_capacity(shape.dim.len());
        for (axis, d) in shape.dim.iter().enumerate() {
            dims.push(match &d.value {
                Some(DimensionValue::DimValue(v)) if *v >= 0 => Dim::from(*v),
                Some(DimensionValue::DimParam(p)) if !p.is_empty() && !p.starts_with("unk__") => {
                    self.symbol(graph, &plain(p), place, axis)?
                }
                _ => self.symbol(graph, &self.fresh(&input.name, axis), place, axis)?,
            });
        }
        let v = graph.add_input(&input.name, TensorType::new(dtype, dims));
        elements(graph, v, place);
        Ok(v)
    }

    /// A name for an unnamed dimension.
    fn fresh(&self, input: &str, axis: usize) -> String {
        let mut name = plain(&format!("{input}.{axis}"));
        while self.taken.contains(&name) {
            name.push('_');
        }
        name
    }

    /// The extent named `name`: a number if the user fixed it.
    fn symbol(&self, graph: &mut Graph, name: &str, input: usize, axis: usize) -> Res<Dim> {
        let (min, max) = match self.options.dims.iter().rfind(|(n, ..)| n == name) {
            Some((_, lo, hi)) if *lo < 0 || lo > hi => {
                let title = format!("the bounds {lo}..={hi} of `{name}` hold no extent");
                return Err(Box::new(Diagnostic::error(codes::BOUND, Class::Invalid, title)));
            }
            Some((_, lo, hi)) if lo == hi => return Ok(Dim::from(*lo)),
            Some((_, lo, hi)) => (*lo, *hi),
            // Empty batches and caches are extents like any other. Arithmetic on extents is checked at run time, so
            // that none has to be bounded above.
            None => (0, i64::MAX),
        };
        graph.add_symbol(name, SymbolSource::InputDim { input, axis }, min, max);
        Ok(Dim::sym(name))
    }
}

/// A dimension's name without the character that marks elements of inputs.
fn plain(name: &str) -> String {
    name.replace('@', "_")
}

/// Small integer inputs may carry shapes: their elements become symbols. Those that nobody needs go away again when
/// the import is done.
fn elements(graph: &mut Graph, v: ValueId, input: usize) {
    let value = graph.value(v);
    let known = value.ty.numel().as_usize().filter(|n| *n <= ELEMENTS_MAX);
    let bounds = match value.ty.dtype {
        DType::I64 => (i64::MIN, i64::MAX),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::Bool => (0, 1),
        _ => return,
    };
    let Some(count) = known.filter(|_| value.ty.rank() <= 1) else { return };
    let name = value.name.clone();
    let mut content = Vec::with_capacity(count);
    for index in 0..count {
        let symbol = format!("{name}@{index}");
        graph.add_symbol(&symbol, SymbolSource::InputElem { input, index }, bounds.0, bounds.1);
        content.push(Dim::sym(&symbol));
    }
    graph.values[v.0 as usize].content = Some(content);
}

/// Forgets the elements of inputs that no extent, attribute or guard depends on.
pub(crate) fn prune(graph: &mut Graph) {
    use autoglm_ir::{Attr, Cond};
    let mut used = BTreeSet::new();
    for node in &graph.nodes {
        for (_, attr) in node.attrs.iter() {
            if let Attr::Dims(dims) = attr {
                dims.iter().for_each(|d| d.symbols(&mut used));
            }
        }
    }
    graph.values.iter().flat_map(|v| &v.ty.shape).for_each(|d| d.symbols(&mut used));
    for guard in &graph.guards {
        let (Cond::Eq(a, b) | Cond::Le(a, b) | Cond::Broadcast(a, b)) = &guard.cond;
        a.symbols(&mut used);
        b.symbols(&mut used);
    }
    let element = |s: &autoglm_ir::Symbol| matches!(s.source, SymbolSource::InputElem { .. });
    graph.symbols.retain(|name, s| !element(s) || used.contains(name));
    let symbols = &graph.symbols;
    for value in &mut graph.values {
        let mut mentioned = BTreeSet::new();
        value.content.iter().flatten().for_each(|d| d.symbols(&mut mentioned));
        if mentioned.iter().any(|s| !symbols.contains_key(s)) {
            value.content = None;
        }
    }
}
