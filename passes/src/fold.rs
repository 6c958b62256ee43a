//! Constant and shape folding under a budget.
//!
//! A node over constants becomes a constant: computed at once when it is small, otherwise a recipe that is evaluated
//! only if the final graph still uses it. A small integer value whose elements are known becomes a constant or `dims`.

use crate::Emitter;
use autoglm_ir::budget::AT_ONCE_WORK_MAX;
use autoglm_ir::op::TensorType;
use autoglm_ir::{Attr, Attrs, Const, ConstData, ConstId, Dim, OpId, Tensor, ValueId, interp};
use std::collections::BTreeSet;

/// Up to this many elements in and out, a node over constants is computed at once.
pub(crate) const EAGER_ELEMS_MAX: usize = 4096;

/// The results of a node that is known at compile time.
pub(crate) fn fold(
    emitter: &mut Emitter<'_>,
    op: OpId,
    attrs: &Attrs,
    args: &[ValueId],
) -> Result<Option<Vec<ValueId>>, String> {
    let tys: Vec<&TensorType> = args.iter().map(|a| emitter.graph.ty(*a)).collect();
    let (types, _) = autoglm_ir::graph::infer(op, attrs, &tys)?;
    let consts: Option<Vec<ConstId>> = args.iter().map(|a| emitter.graph.constant(*a)).collect();
    let concrete =
        attrs.iter().all(|(_, a)| !matches!(a, Attr::Dims(d) if d.iter().any(|d| d.as_const().is_none())));
    if let (Some(consts), true, true) = (consts, concrete, types.iter().all(|t| t.concrete().is_some())) {
        return fold_constants(emitter, op, attrs, &consts, types);
    }
    if let [ty] = types.as_slice() {
        return Ok(fold_content(emitter, op, attrs, args, ty)?.map(|v| vec![v]));
    }
    Ok(None)
}

fn fold_constants(
    emitter: &mut Emitter<'_>,
    op: OpId,
    attrs: &Attrs,
    consts: &[ConstId],
    types: Vec<TensorType>,
) -> Result<Option<Vec<ValueId>>, String> {
    if interp::depends_on_host(op, &types) {
        return Ok(None);
    }
    let priced = emitter.budget.price(&emitter.graph.consts, op, attrs, consts, &types);
    let Some(price) = priced.filter(|price| emitter.budget.admits(price)) else { return Ok(None) };
    let elems = |t: &TensorType| t.numel().as_usize().unwrap_or(usize::MAX);
    let inputs = consts.iter().map(|c| elems(&emitter.graph.consts[c.0 as usize].ty));
    let inputs = inputs.fold(0, usize::saturating_add);
    let outputs: usize = types.iter().map(elems).fold(0, usize::saturating_add);
    emitter.budget.spend(&price);
    if inputs.max(outputs) <= EAGER_ELEMS_MAX && price.own <= AT_ONCE_WORK_MAX {
        return Ok(evaluate(emitter, op, attrs, consts)
            .map(|outs| outs.into_iter().map(|t| emitter.graph.add_const("", t)).collect()));
    }
    let mut values = Vec::with_capacity(types.len());
    for (out, ty) in types.into_iter().enumerate() {
        let data = ConstData::Recipe { op, attrs: attrs.clone(), args: consts.to_vec(), out };
        let value = emitter.graph.add_lazy_const("", Const { ty, data }, None);
        if let Some(constant) = emitter.graph.constant(value) {
            emitter.budget.is_recipe(constant, &price);
        }
        values.push(value);
    }
    Ok(Some(values))
}

/// The results of an operator on constants; none where it has none, such as for an index that is out of range: that is
/// the model's error, which a run of the node reports.
fn evaluate(emitter: &Emitter<'_>, op: OpId, attrs: &Attrs, consts: &[ConstId]) -> Option<Vec<Tensor>> {
    let args = consts.iter().map(|c| interp::const_tensor(&emitter.graph, *c));
    interp::eval(op, attrs, &args.collect::<Result<Vec<_>, _>>().ok()?).ok()
}

/// A value whose elements are known becomes a constant, or `dims` where they depend on symbols.
fn fold_content(
    emitter: &mut Emitter<'_>,
    op: OpId,
    attrs: &Attrs,
    args: &[ValueId],
    ty: &TensorType,
) -> Result<Option<ValueId>, String> {
    let (Some(content_of), Some(shape)) = (op.def().content, ty.concrete()) else { return Ok(None) };
    if op.name() == "dims" || ty.dtype.is_float() || ty.numel().as_usize().is_none_or(|n| n > 1024) {
        return Ok(None);
    }
    let content = {
        let tys: Vec<&TensorType> = args.iter().map(|a| emitter.graph.ty(*a)).collect();
        let contents: Vec<Option<&[Dim]>> =
            args.iter().map(|a| emitter.graph.value(*a).content.as_deref()).collect();
        content_of(&autoglm_ir::op::ContentCx { args: &tys, contents: &contents, attrs, out: ty })
    };
    let Some(content) = content else { return Ok(None) };
    if let Some(ints) = content.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() {
        let elements = ints.into_iter().map(i128::from).collect();
        return Ok(Some(emitter.graph.add_const("", Tensor::ints(ty.dtype, shape, elements))));
    }
    // An expression over input elements stays tensor arithmetic: as `dims` it would make a plan for every content.
    let mut symbols = BTreeSet::new();
    content.iter().for_each(|d| d.symbols(&mut symbols));
    if symbols.iter().any(|s| s.contains('@')) {
        return Ok(None);
    }
    let dims = Attrs::new([
        ("values", Attr::Dims(content)),
        ("shape", Attr::Ints(shape.iter().map(|d| *d as i64).collect())),
        ("to", Attr::DType(ty.dtype)),
    ]);
    emitter.op("dims", dims, vec![], &"".into()).map(Some)
}
