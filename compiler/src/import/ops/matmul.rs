//! Matrix products of floats and integers.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("Gemm", &[1, 6, 7, 9, 11, 13], gemm),
    row("MatMul", &[1, 9, 13], matmul),
    row("MatMulInteger", &[10], matmul_integer),
    row("QLinearMatMul", &[10, 21], super::quant::qlinear_matmul),
];

/// A matrix product by numpy's rules, vectors included.
pub(crate) fn product(cx: &mut Cx, a: ValueId, b: ValueId) -> Res<ValueId> {
    let (sa, sb) = (cx.shape(a), cx.shape(b));
    if sa.is_empty() || sb.is_empty() {
        return Err(cx.invalid(codes::SHAPE, "takes no rank-0 operand"));
    }
    let one = Dim::from(1);
    let left = if sa.len() == 1 { cx.reshape(a, &[one.clone(), sa[0].clone()])? } else { a };
    let right = if sb.len() == 1 { cx.reshape(b, &[sb[0].clone(), one])? } else { b };
    let y = cx.op("matmul", [], &[left, right])?;
    let mut shape = cx.shape(y);
    let last = shape.len() - 1;
    if sb.len() == 1 {
        shape.remove(last);
    }
    if sa.len() == 1 {
        shape.remove(last - 1);
    }
    cx.reshape(y, &shape)
}

fn matmul(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b) = (n.input(cx, 0)?, n.input(cx, 1)?);
    Ok(vec![product(cx, a, b)?])
}

fn gemm(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (mut a, mut b) = (n.input(cx, 0)?, n.input(cx, 1)?);
    if cx.rank(a) != 2 || cx.rank(b) != 2 {
        return Err(cx.invalid(codes::SHAPE, "takes matrices"));
    }
    if n.flag("transA", false)? {
        a = cx.transpose(a, &[1, 0])?;
    }
    if n.flag("transB", false)? {
        b = cx.transpose(b, &[1, 0])?;
    }
    // Operator sets before 7 broadcast only when told to, which the IR does whenever it is needed.
    n.opt_int("broadcast")?;
    let (alpha, beta) = (n.float("alpha", 1.0)?, n.float("beta", 1.0)?);
    let from = cx.dtype(a);
    let fractional = from.is_int() && (alpha.fract() != 0.0 || beta.fract() != 0.0);
    let wide = if fractional { DType::F64 } else { from };
    let (a, b) = (cx.cast(a, wide)?, cx.cast(b, wide)?);
    let mut y = cx.op("matmul", [], &[a, b])?;
    if alpha != 1.0 {
        y = cx.with("mul", y, alpha)?;
    }
    if let Some(c) = n.opt(2).filter(|_| beta != 0.0) {
        let mut c = cx.cast(c, wide)?;
        if beta != 1.0 {
            c = cx.with("mul", c, beta)?;
        }
        y = cx.binary("add", y, c)?;
        if cx.rank(y) != 2 {
            return Err(cx.invalid(codes::SHAPE, "C must broadcast to the product"));
        }
    }
    Ok(vec![cx.cast(y, from)?])
}

/// A zero point brought to the rank of its operand: one a row of the left, one a column of the right.
fn zero_point(cx: &mut Cx, zp: ValueId, rank: usize, left: bool) -> Res<ValueId> {
    let shape = cx.shape(zp);
    match shape.as_slice() {
        [n] if !n.is(1) && left && rank >= 2 => cx.reshape(zp, &[n.clone(), Dim::from(1)]),
        [n] if n.is(1) => cx.reshape(zp, &[]),
        _ => Ok(zp),
    }
}

/// Integers as i32 with their zero point taken off.
pub(crate) fn centred(cx: &mut Cx, x: ValueId, zp: Option<ValueId>, left: bool) -> Res<ValueId> {
    let rank = cx.rank(x);
    let wide = cx.cast(x, DType::I32)?;
    let Some(zp) = zp else { return Ok(wide) };
    let zp = zero_point(cx, zp, rank, left)?;
    let zp = cx.cast(zp, DType::I32)?;
    cx.binary("sub", wide, zp)
}

fn matmul_integer(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let (a, b) = (centred(cx, a, n.opt(2), true)?, centred(cx, b, n.opt(3), false)?);
    Ok(vec![product(cx, a, b)?])
}
