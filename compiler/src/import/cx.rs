//! What an importer of one operator works with: the graph so far and short ways to extend it.

use super::codes;
use crate::diag::{Class, Diagnostic};
use autoglm_ir::graph::{Guard, infer};
use autoglm_ir::op::normalise_axis;
use autoglm_ir::{
    Attr, Attrs, Cond, ConstData, DType, Def, Dim, Graph, OpId, Tensor, TensorType, ValueId, dim, interp,
    tensor,
};
use std::sync::Arc;

/// A result whose error is one problem, boxed because it is rare and large.
pub(crate) type Res<T> = Result<T, Box<Diagnostic>>;
/// What the importer of an operator answers: one value for each output.
pub(crate) type Outs = Res<Vec<ValueId>>;

/// Constants of at most this many elements are computed while importing.
const FOLD_ELEMS_MAX: usize = 4096;
/// Elements that one such computation may read, compute and write: a window of few elements may have many taps.
const FOLD_WORK_MAX: u64 = 1 << 22;
/// The same for all of them together.
const FOLD_TOTAL_WORK_MAX: u64 = 1 << 29;

/// The graph under construction and the place that messages name.
pub(crate) struct Cx {
    /// The graph so far.
    pub(crate) graph: Graph,
    /// Name of the ONNX node being imported.
    pub(crate) loc: Arc<str>,
    /// Operator type of the ONNX node being imported.
    pub(crate) op_type: String,
    /// What folding has spent of [`FOLD_TOTAL_WORK_MAX`].
    pub(super) fold_work: u64,
}

/// An integer attribute.
pub(crate) fn int(name: &'static str, v: i64) -> (&'static str, Attr) {
    (name, Attr::Int(v))
}

/// An attribute of several integers.
pub(crate) fn ints(name: &'static str, v: &[i64]) -> (&'static str, Attr) {
    (name, Attr::Ints(v.to_vec()))
}

/// An attribute of symbolic integers.
pub(crate) fn dims(name: &'static str, v: &[Dim]) -> (&'static str, Attr) {
    (name, Attr::Dims(v.to_vec()))
}

/// An element type attribute.
pub(crate) fn dtype(name: &'static str, v: DType) -> (&'static str, Attr) {
    (name, Attr::DType(v))
}

/// A float attribute.
pub(crate) fn float(name: &'static str, v: f64) -> (&'static str, Attr) {
    (name, Attr::float(v))
}

impl Cx {
    /// An error of the model: what is written does not fit the operator.
    pub(crate) fn invalid(&self, code: &'static str, what: impl AsRef<str>) -> Box<Diagnostic> {
        let title = format!("{}: {}", self.op_type, what.as_ref());
        Box::new(Diagnostic::error(code, Class::Invalid, title).at(&self.loc))
    }

    /// A feature that the importer knows but does not support.
    pub(crate) fn refuse(&self, feature: impl AsRef<str>, help: &str) -> Box<Diagnostic> {
        let title = format!("{}: {} is not supported", self.op_type, feature.as_ref());
        Box::new(Diagnostic::error(codes::FEATURE, Class::Unsupported, title).at(&self.loc).help(help))
    }

    /// A value that has to be known at compile time and is not.
    pub(crate) fn unknown(&self, what: &str) -> Box<Diagnostic> {
        let title = format!("{}: {what} must be known at compile time", self.op_type);
        let help = format!("make {what} an initializer, or give the graph input it comes from a fixed value");
        Box::new(Diagnostic::error(codes::NOT_CONSTANT, Class::Unsupported, title).at(&self.loc).help(help))
    }

    /// The type of a value.
    pub(crate) fn ty(&self, v: ValueId) -> TensorType {
        self.graph.ty(v).clone()
    }

    /// Extents of a value.
    pub(crate) fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.graph.ty(v).shape.clone()
    }

    /// Number of dimensions of a value.
    pub(crate) fn rank(&self, v: ValueId) -> usize {
        self.graph.ty(v).rank()
    }

    /// Element type of a value.
    pub(crate) fn dtype(&self, v: ValueId) -> DType {
        self.graph.ty(v).dtype
    }

    /// A normalised axis of a tensor of this rank.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Res<usize> {
        normalise_axis(axis, rank).map_err(|e| self.invalid(codes::VALUE, e))
    }

    /// Normalised axes, none twice.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Res<Vec<usize>> {
        let mut out = Vec::with_capacity(axes.len());
        for a in axes {
            let a = self.axis(*a, rank)?;
            if out.contains(&a) {
                return Err(self.invalid(codes::VALUE, format!("axis {a} is given twice")));
            }
            out.push(a);
        }
        Ok(out)
    }

    /// Adds a node with all its results; small constants are computed at once.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        attrs: impl IntoIterator<Item = (&'static str, Attr)>,
        args: &[ValueId],
    ) -> Outs {
        let attrs = Attrs::new(attrs);
        let Some(op) = OpId::of(name) else {
            let title = format!("{}: the IR has no operator `{name}`", self.op_type);
            return Err(Box::new(Diagnostic::error(codes::NODE, Class::Internal, title).at(&self.loc)));
        };
        if let Some(outs) = self.folded(op, &attrs, args) {
            return Ok(outs.into_iter().map(|t| self.graph.add_const("", t)).collect());
        }
        let loc = self.loc.clone();
        self.graph.add(op, attrs, args.to_vec(), &loc).map_err(|e| self.invalid(codes::SHAPE, e))
    }

    /// Adds a node with one result.
    pub(crate) fn op(
        &mut self,
        name: &'static str,
        attrs: impl IntoIterator<Item = (&'static str, Attr)>,
        args: &[ValueId],
    ) -> Res<ValueId> {
        let outs = self.add(name, attrs, args)?;
        outs.first().copied().ok_or_else(|| self.invalid(codes::NODE, "has no result"))
    }

    /// The results of an operator, if all its arguments are small constants.
    fn folded(&mut self, op: OpId, attrs: &Attrs, args: &[ValueId]) -> Option<Vec<Tensor>> {
        let small =
            args.iter().all(|a| self.graph.ty(*a).numel().as_usize().is_some_and(|n| n <= FOLD_ELEMS_MAX));
        if !small {
            return None;
        }
        let tensors = args.iter().map(|a| self.known(*a)).collect::<Option<Vec<Tensor>>>()?;
        let tys: Vec<&TensorType> = args.iter().map(|a| self.graph.ty(*a)).collect();
        let (types, conditions) = infer(op, attrs, &tys).ok()?;
        if !conditions.is_empty() {
            return None;
        }
        let cost = interp::eval_cost(op, attrs, &tys, &types)?;
        let host = interp::depends_on_host(op, &types);
        if host || cost > FOLD_WORK_MAX || self.fold_work.saturating_add(cost) > FOLD_TOTAL_WORK_MAX {
            return None;
        }
        self.fold_work += cost;
        if types.iter().any(|t| t.numel().as_usize().is_none_or(|n| n > FOLD_ELEMS_MAX)) {
            return None;
        }
        interp::eval(op, attrs, &tensors).ok()
    }

    /// The tensor, if it is known at compile time without evaluating recipes.
    pub(crate) fn known(&self, v: ValueId) -> Option<Tensor> {
        let value = self.graph.value(v);
        let shape = value.ty.concrete()?;
        if let Def::Const(c) = value.def {
            match &self.graph.consts[c.0 as usize].data {
                ConstData::Bytes(b) => return Tensor::from_bytes(value.ty.dtype, shape, b.clone()),
                ConstData::Splat(b) => {
                    let data = b.repeat(tensor::numel(&shape).filter(|n| *n <= FOLD_ELEMS_MAX)?);
                    return Tensor::from_bytes(value.ty.dtype, shape, data.into());
                }
                ConstData::Recipe { .. } => return None,
            }
        }
        let elements = value.content.as_ref()?.iter().map(|d| d.as_const().map(i128::from));
        Some(Tensor::ints(value.ty.dtype, shape, elements.collect::<Option<_>>()?))
    }

    /// The elements of a small integer tensor as symbolic integers.
    pub(crate) fn content(&self, v: ValueId, what: &str) -> Res<Vec<Dim>> {
        self.graph.value(v).content.clone().ok_or_else(|| self.unknown(what))
    }

    /// The elements of a small integer tensor as numbers.
    pub(crate) fn numbers(&self, v: ValueId, what: &str) -> Res<Vec<i64>> {
        let content = self.content(v, what)?;
        content.iter().map(|d| d.as_const().ok_or_else(|| self.unknown(what))).collect()
    }

    /// The elements of a constant as floats.
    pub(crate) fn floats(&self, v: ValueId, what: &str) -> Res<Vec<f64>> {
        Ok(self.known(v).ok_or_else(|| self.unknown(what))?.to_f64())
    }

    /// The only element of a small integer tensor.
    pub(crate) fn one(&self, v: ValueId, what: &str) -> Res<Dim> {
        let content = self.content(v, what)?;
        match content.as_slice() {
            [d] => Ok(d.clone()),
            _ => {
                Err(self
                    .invalid(codes::VALUE, format!("{what} must have one element, has {}", content.len())))
            }
        }
    }

    /// The only element of a small integer tensor as a number.
    pub(crate) fn number(&self, v: ValueId, what: &str) -> Res<i64> {
        self.one(v, what)?.as_const().ok_or_else(|| self.unknown(what))
    }

    /// Requires a condition on dims: an error when it is known to be false, else a guard.
    pub(crate) fn require_eq(&mut self, a: &Dim, b: &Dim, what: &str) -> Res<()> {
        match (a - b).as_const() {
            Some(0) => Ok(()),
            Some(_) => Err(self.invalid(codes::SHAPE, format!("{what} ({a} vs {b})"))),
            None => {
                let message = format!("{} {:?}: {what} ({a} vs {b})", self.op_type, self.loc);
                self.graph.guards.push(Guard { cond: Cond::Eq(a.clone(), b.clone()), message });
                Ok(())
            }
        }
    }

    /// Requires `a <= b`.
    pub(crate) fn require_le(&mut self, a: &Dim, b: &Dim, what: &str) -> Res<()> {
        let (lo, hi) = self.range(&(b - a));
        if hi < 0 {
            return Err(self.invalid(codes::VALUE, format!("{what} ({a} vs {b})")));
        }
        if lo < 0 {
            let message = format!("{} {:?}: {what} ({a} vs {b})", self.op_type, self.loc);
            self.graph.guards.push(Guard { cond: Cond::Le(a.clone(), b.clone()), message });
        }
        Ok(())
    }

    /// A constant.
    pub(crate) fn constant(&mut self, t: Tensor) -> ValueId {
        self.graph.add_const("", t)
    }

    /// A rank-0 constant.
    pub(crate) fn scalar(&mut self, dtype: DType, v: f64) -> ValueId {
        if dtype == DType::Bool {
            return self.graph.add_const("", Tensor::ints(dtype, vec![], vec![i128::from(v != 0.0)]));
        }
        self.graph.add_const("", Tensor::scalar(dtype, v))
    }

    /// A rank-0 integer constant.
    pub(crate) fn scalar_int(&mut self, dtype: DType, v: i128) -> ValueId {
        self.graph.add_const("", Tensor::ints(dtype, vec![], vec![v]))
    }

    /// An i64 vector constant.
    pub(crate) fn i64s(&mut self, v: &[i64]) -> ValueId {
        self.graph.add_const("", Tensor::i64s(vec![v.len()], v))
    }

    /// An operator on one value that keeps its element type.
    pub(crate) fn unary(&mut self, name: &'static str, x: ValueId) -> Res<ValueId> {
        self.op(name, [], &[x])
    }

    /// A broadcasting operator on two values.
    pub(crate) fn binary(&mut self, name: &'static str, a: ValueId, b: ValueId) -> Res<ValueId> {
        self.op(name, [], &[a, b])
    }

    /// A broadcasting operator on a value and a number of its element type.
    pub(crate) fn with(&mut self, name: &'static str, x: ValueId, v: f64) -> Res<ValueId> {
        let c = self.scalar(self.dtype(x), v);
        self.binary(name, x, c)
    }

    /// `a` where `cond`, else `b`.
    pub(crate) fn select(&mut self, cond: ValueId, a: ValueId, b: ValueId) -> Res<ValueId> {
        self.op("select", [], &[cond, a, b])
    }

    /// Another element type; nothing is added when it is the same.
    pub(crate) fn cast(&mut self, x: ValueId, to: DType) -> Res<ValueId> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.op("cast", [dtype("to", to)], &[x])
    }

    /// f32 for narrower floats, which composite operators compute in; else the type itself.
    pub(crate) fn wide(&self, x: ValueId) -> DType {
        match self.dtype(x) {
            d if d.is_float() && d != DType::F64 => DType::F32,
            d => d,
        }
    }

    /// Applies `f` to the value in at least f32 and casts the result back.
    pub(crate) fn widened(
        &mut self,
        x: ValueId,
        f: impl FnOnce(&mut Cx, ValueId) -> Res<ValueId>,
    ) -> Res<ValueId> {
        let from = self.dtype(x);
        let wide = self.cast(x, self.wide(x))?;
        let y = f(self, wide)?;
        self.cast(y, from)
    }

    /// Other extents; nothing is added when they are the same.
    pub(crate) fn reshape(&mut self, x: ValueId, shape: &[Dim]) -> Res<ValueId> {
        if self.graph.ty(x).shape == shape {
            return Ok(x);
        }
        self.op("reshape", [dims("shape", shape)], &[x])
    }

    /// Dimensions in another order; nothing is added for the identity.
    pub(crate) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Res<ValueId> {
        if perm.iter().enumerate().all(|(i, p)| i == *p) {
            return Ok(x);
        }
        let perm: Vec<i64> = perm.iter().map(|p| *p as i64).collect();
        self.op("transpose", [ints("perm", &perm)], &[x])
    }

    /// Broadcast to exactly these extents; nothing is added when they are the same.
    pub(crate) fn expand(&mut self, x: ValueId, shape: &[Dim]) -> Res<ValueId> {
        if self.graph.ty(x).shape == shape {
            return Ok(x);
        }
        self.op("expand", [dims("shape", shape)], &[x])
    }

    /// Elements `start .. start + size` of one axis, with `step`.
    pub(crate) fn slice_axis(
        &mut self,
        x: ValueId,
        axis: usize,
        start: &Dim,
        size: &Dim,
        step: i64,
    ) -> Res<ValueId> {
        let mut sizes = self.shape(x);
        let mut starts = vec![Dim::from(0); sizes.len()];
        let mut steps = vec![1; sizes.len()];
        (sizes[axis], starts[axis], steps[axis]) = (size.clone(), start.clone(), step);
        self.op("slice", [dims("starts", &starts), dims("sizes", &sizes), ints("steps", &steps)], &[x])
    }

    /// The elements of an axis in reverse order.
    pub(crate) fn reverse(&mut self, x: ValueId, axis: usize) -> Res<ValueId> {
        let n = self.shape(x)[axis].clone();
        self.slice_axis(x, axis, &(&n - &1.into()), &n, -1)
    }

    /// Element `index` of an axis, which goes away.
    pub(crate) fn take(&mut self, x: ValueId, axis: usize, index: i64) -> Res<ValueId> {
        let y = self.slice_axis(x, axis, &index.into(), &1.into(), 1)?;
        let mut shape = self.shape(y);
        shape.remove(axis);
        self.reshape(y, &shape)
    }

    /// Pads with a value of the element type; negative numbers crop. Nothing is added when all are 0.
    pub(crate) fn pad(&mut self, x: ValueId, value: ValueId, before: &[Dim], after: &[Dim]) -> Res<ValueId> {
        if before.iter().chain(after).all(|d| d.is(0)) {
            return Ok(x);
        }
        self.op("pad", [dims("before", before), dims("after", after)], &[x, value])
    }

    /// Joins along an axis.
    pub(crate) fn concat(&mut self, xs: &[ValueId], axis: usize) -> Res<ValueId> {
        self.op("concat", [int("axis", axis as i64)], xs)
    }

    /// A reduction; nothing is added when there is no axis.
    pub(crate) fn reduce(
        &mut self,
        name: &'static str,
        x: ValueId,
        axes: &[usize],
        keep: bool,
    ) -> Res<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        let mut axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
        axes.sort_unstable();
        self.op(name, [ints("axes", &axes), int("keepdims", i64::from(keep))], &[x])
    }

    /// The mean over axes, of a float tensor.
    pub(crate) fn mean(&mut self, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        let shape = self.shape(x);
        let count = dim::product(axes.iter().map(|a| &shape[*a]));
        let sum = self.reduce("reduce_sum", x, axes, keep)?;
        let n = self.number_tensor(&count, self.dtype(x))?;
        self.binary("div", sum, n)
    }

    /// Symbolic integers as a vector.
    pub(crate) fn dims_tensor(&mut self, values: &[Dim], to: DType) -> Res<ValueId> {
        let attrs = [dims("values", values), ints("shape", &[values.len() as i64]), dtype("to", to)];
        self.op("dims", attrs, &[])
    }

    /// A symbolic integer as a rank-0 tensor.
    pub(crate) fn number_tensor(&mut self, value: &Dim, to: DType) -> Res<ValueId> {
        let attrs = [dims("values", std::slice::from_ref(value)), ints("shape", &[]), dtype("to", to)];
        self.op("dims", attrs, &[])
    }

    /// The index along an axis of a tensor of `rank` dimensions whose other extents are 1.
    pub(crate) fn iota(&mut self, rank: usize, axis: usize, n: &Dim, to: DType) -> Res<ValueId> {
        let mut shape = vec![Dim::from(1); rank];
        shape[axis] = n.clone();
        self.op("iota", [dims("shape", &shape), int("axis", axis as i64), dtype("to", to)], &[])
    }

    /// `v` as a vector along `axis` of a tensor of `rank` dimensions, so that it broadcasts.
    pub(crate) fn along(&mut self, v: ValueId, axis: usize, rank: usize) -> Res<ValueId> {
        let n = self.graph.ty(v).numel();
        let mut shape = vec![Dim::from(1); rank];
        shape[axis] = n;
        self.reshape(v, &shape)
    }

    /// Moves an axis to the end; the permutation that moves it back comes with it.
    pub(crate) fn axis_last(&mut self, x: ValueId, axis: usize) -> Res<(ValueId, Vec<usize>)> {
        let rank = self.rank(x);
        let perm: Vec<usize> = (0..rank).filter(|a| *a != axis).chain([axis]).collect();
        let mut back = vec![0; rank];
        perm.iter().enumerate().for_each(|(i, p)| back[*p] = i);
        Ok((self.transpose(x, &perm)?, back))
    }
}
