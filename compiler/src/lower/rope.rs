//! Rotary position embedding: one loop over all pairs, which copies along what is not turned.

use super::place::{Place, Writes};
use super::tile::Body;
use super::{Failure, Lowering};
use autoglm_ir::{Dim, Node};
use autoglm_runtime::tile::{BinaryOp, Instr, TileProgram};

/// As many times the turned elements one loop copies along.
const ALONG_MAX: i64 = 7;

/// Element `e` (0 or 1) of pair `i` is element `e * half + i` of the last axis, or `2 * i + e` where pairs are neighbours: these
/// elements of all pairs.
fn elements(place: &Place, e: i64, half: i64, interleaved: bool) -> Place {
    let (element, pair) = if interleaved { (1, 2) } else { (half, 1) };
    let last = place.view.strides.len() - 1;
    let mut view = place.view.part(last, &(e * element).into(), &half.into());
    view.strides[last] = &view.strides[last] * &Dim::from(pair);
    Place { id: place.id, view }
}

pub(super) fn rope(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let [x, cos, sin] = node.args.as_slice() else {
        return Err(Failure::Invalid("rope takes three arguments".into()));
    };
    let ty = cx.graph.ty(*x).clone();
    let (x, cos, sin) = (cx.place(*x)?, cx.place(*cos)?, cx.place(*sin)?);
    let out = cx.target(node.outs[0], &[x.id, cos.id, sin.id], Writes::Any)?;
    let extents = (ty.shape.last().and_then(Dim::as_const), cos.view.shape.last().and_then(Dim::as_const));
    let (Some(whole), Some(turned)) = extents else {
        return Err(Failure::Unsupported("rope over an extent that is not known at compile time".into()));
    };
    let last = ty.shape.len() - 1;
    let cut = |place: &Place, start: i64, end: i64| {
        let view = place.view.part(last, &start.into(), &(end - start).into());
        Place { id: place.id, view }
    };
    let rest = whole - turned;
    let along = if turned > 0 && rest % turned == 0 { rest / turned } else { ALONG_MAX + 1 };
    let along = if along <= ALONG_MAX { along } else { 0 };
    if rest > 0 && along == 0 {
        cx.copy(&cut(&x, turned, whole), &cut(&out, turned, whole))?;
    }
    if turned == 0 {
        return Ok(());
    }
    let of = |place: &Place, e: i64| elements(place, e, turned / 2, node.attrs.flag("interleaved"));
    let (first, target) = (cut(&x, 0, turned), cut(&out, 0, turned));
    let over = |place: &Place| Place { id: place.id, view: place.view.broadcast(&first.view.shape) };
    let (cos, sin) = (over(&cos), over(&sin));
    let mut body = Body::new();
    let pair = [body.load(&of(&first, 0)), body.load(&of(&first, 1))];
    for (e, sign) in [(0, BinaryOp::Sub), (1, BinaryOp::Add)] {
        let (cos, sin) = (body.load(&of(&cos, e as i64)), body.load(&of(&sin, e as i64)));
        let own = body.push(Instr::Binary(BinaryOp::Mul, pair[e], cos));
        let other = body.push(Instr::Binary(BinaryOp::Mul, pair[1 - e], sin));
        let src = body.push(Instr::Binary(sign, own, other));
        body.push(Instr::Store { out: e as u16, src });
    }
    let mut targets = vec![of(&target, 0), of(&target, 1)];
    for block in 1..=along {
        let (from, to) = (block * turned, (block + 1) * turned);
        for e in [0, 1] {
            let src = body.load(&of(&cut(&x, from, to), e));
            body.push(Instr::Store { out: targets.len() as u16, src });
            targets.push(of(&cut(&out, from, to), e));
        }
    }
    let program = TileProgram { body: body.instrs, ..TileProgram::default() };
    cx.tile_step(program, &targets[0].view.shape, (body.args, &body.reads), &targets)
}
