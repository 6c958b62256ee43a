//! Identities that hold bit for bit.
//!
//! Each function gives the value that a node equals, or none. They see arguments that are simplified already.

use crate::Emitter;
use autoglm_ir::{Attr, Attrs, Dim, Node, OpId, ValueId};
use std::sync::Arc;

/// The value that `op` of `args` equals without computing it.
pub(crate) fn simplify(
    e: &mut Emitter<'_>,
    op: OpId,
    attrs: &Attrs,
    args: &[ValueId],
    loc: &Arc<str>,
) -> Result<Option<ValueId>, String> {
    match (op.name(), args) {
        ("reshape", [x]) => reshape(e, attrs, *x, loc),
        ("transpose", [x]) => transpose(e, attrs, *x, loc),
        // expand(x) = x when the shape does not change.
        ("expand", [x]) => Ok((e.graph.ty(*x).shape == attrs.dims("shape")).then_some(*x)),
        ("cast", [x]) => Ok((Some(e.graph.ty(*x).dtype) == attrs.dtype("to")).then_some(*x)),
        ("concat", [x]) => Ok(Some(*x)),
        ("slice", [x]) => Ok(whole(e, attrs, *x).then_some(*x)),
        ("pad", [x, _]) => {
            let none = |name| attrs.dims(name).iter().all(|d: &Dim| d.is(0));
            Ok((none("before") && none("after")).then_some(*x))
        }
        ("max" | "min", [x, y]) if x == y => Ok(Some(*x)),
        _ => Ok(None),
    }
}

fn producer<'g>(e: &'g Emitter<'_>, v: ValueId, op: &str) -> Option<&'g Node> {
    e.graph.producer(v).filter(|n| n.op.name() == op)
}

/// reshape(x) = x when the shape does not change; reshape(reshape(x)) = reshape(x).
fn reshape(
    e: &mut Emitter<'_>,
    attrs: &Attrs,
    x: ValueId,
    loc: &Arc<str>,
) -> Result<Option<ValueId>, String> {
    if e.graph.ty(x).shape == attrs.dims("shape") {
        return Ok(Some(x));
    }
    match producer(e, x, "reshape").map(|n| n.args[0]) {
        Some(inner) => e.op("reshape", attrs.clone(), vec![inner], loc).map(Some),
        None => Ok(None),
    }
}

/// transpose by the identity = x; transpose of transpose = one transpose; a transpose that moves only unit
/// dimensions past others = reshape.
fn transpose(
    e: &mut Emitter<'_>,
    attrs: &Attrs,
    x: ValueId,
    loc: &Arc<str>,
) -> Result<Option<ValueId>, String> {
    let perm: Vec<usize> = attrs.ints("perm").iter().map(|p| *p as usize).collect();
    if perm.iter().enumerate().all(|(i, p)| i == *p) {
        return Ok(Some(x));
    }
    let shape = e.graph.ty(x).shape.clone();
    let moved: Vec<usize> = perm.iter().copied().filter(|p| !shape[*p].is(1)).collect();
    if moved.is_sorted() {
        let out = perm.iter().map(|p| shape[*p].clone()).collect();
        let attrs = Attrs::new([("shape", Attr::Dims(out))]);
        return e.op("reshape", attrs, vec![x], loc).map(Some);
    }
    let Some(inner) = producer(e, x, "transpose") else { return Ok(None) };
    let (source, first) = (inner.args[0], inner.attrs.ints("perm").to_vec());
    let both = perm.iter().map(|p| first[*p]).collect();
    e.op("transpose", Attrs::new([("perm", Attr::Ints(both))]), vec![source], loc).map(Some)
}

/// Whether a slice takes everything in order.
fn whole(e: &Emitter<'_>, attrs: &Attrs, x: ValueId) -> bool {
    let steps = attrs.ints("steps");
    let starts_at_zero = attrs.dims("starts").iter().zip(steps).all(|(s, step)| s.is(0) && *step == 1);
    starts_at_zero && e.graph.ty(x).shape == attrs.dims("sizes")
}
