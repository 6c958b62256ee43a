//! One ONNX node as the importer of its operator sees it.

use super::codes;
use super::cx::{Cx, Res};
use super::values::{Decoder, dtype_of, from_read};
use crate::onnx::{Attrs, ReadError};
use autoglm_ir::{DType, Tensor, ValueId};

/// An operator's importer: which operator, which versions of it, and how.
pub(crate) struct Importer {
    /// Operator set; empty for the standard one.
    pub(crate) domain: &'static str,
    /// Operator type.
    pub(crate) op: &'static str,
    /// The operator set versions at which its definition changed, ascending.
    pub(crate) since: &'static [i64],
    /// Adds the operator's outputs to the graph.
    pub(crate) run: fn(&mut Cx, &NodeCx<'_>) -> super::cx::Outs,
}

/// A row of the table for an operator of the standard set.
pub(crate) const fn row(
    op: &'static str,
    since: &'static [i64],
    run: fn(&mut Cx, &NodeCx<'_>) -> super::cx::Outs,
) -> Importer {
    Importer { domain: "", op, since, run }
}

/// A node with its inputs resolved.
pub(crate) struct NodeCx<'a> {
    /// Operator type.
    pub(crate) op: &'a str,
    /// The version at which the operator's definition in force was made.
    pub(crate) since: i64,
    /// Inputs; `None` where an optional one is left out.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// Whether each output is used by anyone.
    pub(crate) wanted: Vec<bool>,
    /// Number of outputs that have a name.
    pub(crate) outputs: usize,
    /// Attributes.
    pub(crate) attrs: Attrs<'a>,
    /// Decodes tensors of attributes.
    pub(crate) decoder: &'a Decoder<'a>,
}

/// An attribute error as a diagnostic.
fn read<T>(r: Result<T, ReadError>) -> Res<T> {
    r.map_err(|e| Box::new(from_read(e)))
}

impl NodeCx<'_> {
    /// An optional input.
    pub(crate) fn opt(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// An input that must be there.
    pub(crate) fn input(&self, cx: &Cx, i: usize) -> Res<ValueId> {
        self.opt(i).ok_or_else(|| cx.invalid(codes::NODE, format!("input {i} is missing")))
    }

    /// Inputs of a variadic operator; at least one.
    pub(crate) fn all(&self, cx: &Cx) -> Res<Vec<ValueId>> {
        if self.inputs.is_empty() {
            return Err(cx.invalid(codes::NODE, "has no input"));
        }
        (0..self.inputs.len()).map(|i| self.input(cx, i)).collect()
    }

    /// Whether an output is used.
    pub(crate) fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// An integer attribute.
    pub(crate) fn int(&self, name: &str, default: i64) -> Res<i64> {
        read(self.attrs.i(name, default))
    }

    /// A switch.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Res<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// An integer attribute, if given.
    pub(crate) fn opt_int(&self, name: &str) -> Res<Option<i64>> {
        read(self.attrs.opt_i(name))
    }

    /// A float attribute.
    pub(crate) fn float(&self, name: &str, default: f32) -> Res<f64> {
        Ok(f64::from(read(self.attrs.f(name, default))?))
    }

    /// A float attribute, if given.
    pub(crate) fn opt_float(&self, name: &str) -> Res<Option<f64>> {
        Ok(read(self.attrs.opt_f(name))?.map(f64::from))
    }

    /// A string attribute.
    pub(crate) fn str(&self, name: &str, default: &str) -> Res<String> {
        Ok(read(self.attrs.opt_s(name))?.unwrap_or(default).to_owned())
    }

    /// A list of integers, if given.
    pub(crate) fn ints(&self, name: &str) -> Res<Option<Vec<i64>>> {
        Ok(read(self.attrs.ints(name))?.map(<[i64]>::to_vec))
    }

    /// A list of floats, if given.
    pub(crate) fn floats(&self, name: &str) -> Res<Option<Vec<f64>>> {
        Ok(read(self.attrs.floats(name))?.map(|v| v.iter().map(|x| f64::from(*x)).collect()))
    }

    /// A list of strings, if given.
    pub(crate) fn strings(&self, name: &str) -> Res<Option<Vec<String>>> {
        Ok(read(self.attrs.strings(name))?.map(|v| v.into_iter().map(str::to_owned).collect()))
    }

    /// A tensor, if given.
    pub(crate) fn tensor(&self, name: &str) -> Res<Option<Tensor>> {
        let Some(t) = read(self.attrs.tensor(name))? else { return Ok(None) };
        self.decoder.tensor(t).map(Some)
    }

    /// A sparse tensor made dense, if given.
    pub(crate) fn sparse(&self, name: &str) -> Res<Option<Tensor>> {
        let Some(t) = read(self.attrs.sparse_tensor(name))? else { return Ok(None) };
        self.decoder.sparse(t).map(Some)
    }

    /// An element type attribute, if given and not 0.
    pub(crate) fn dtype(&self, cx: &Cx, name: &str) -> Res<Option<DType>> {
        match self.opt_int(name)?.unwrap_or(0) {
            0 => Ok(None),
            code => match i32::try_from(code).ok().and_then(dtype_of) {
                Some(d) => Ok(Some(d)),
                None => Err(cx.refuse(format!("element type {code}"), "use a numeric element type")),
            },
        }
    }

    /// Refuses an attribute that asks for something unsupported.
    pub(crate) fn known_mode<'m>(
        &self,
        cx: &Cx,
        name: &str,
        default: &str,
        modes: &[&'m str],
    ) -> Res<&'m str> {
        let given = self.str(name, default)?;
        modes.iter().copied().find(|m| *m == given).ok_or_else(|| {
            cx.refuse(format!("{name}={given:?}"), &format!("supported are {}", modes.join(", ")))
        })
    }
}
