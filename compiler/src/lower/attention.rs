//! Scaled dot-product attention as one step.

use super::place::{Place, Writes};
use super::{Failure, Lowering};
use autoglm_ir::{DType, Node};
use autoglm_runtime::program::StepKind;

pub(super) fn attention(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let ty = cx.graph.ty(node.outs[0]).clone();
    let wide = match ty.dtype {
        DType::F32 => false,
        DType::F16 | DType::BF16 => true,
        other => return Err(Failure::Unsupported(format!("`attention` of {other} tensors"))),
    };
    let mut operands = Vec::with_capacity(4);
    for arg in &node.args {
        let place = cx.place(*arg)?;
        // Halves are widened, and the result is rounded once.
        operands.push(if wide { cx.convert(&place, (ty.dtype, DType::F32))? } else { place });
    }
    let args: Vec<_> = operands.iter().map(|p| p.id).collect();
    if !wide {
        let out = cx.target(node.outs[0], &args, Writes::Any)?;
        return emit(cx, node, &operands, &out);
    }
    let result = cx.temp(DType::F32, &ty.shape)?;
    emit(cx, node, &operands, &result)?;
    let out = cx.target(node.outs[0], &[result.id], Writes::Any)?;
    cx.convert_to(&result, (DType::F32, ty.dtype), &out)
}

/// The step over operands `[batch, heads, rows, columns]`.
fn emit(cx: &mut Lowering<'_>, node: &Node, operands: &[Place], out: &Place) -> Result<(), Failure> {
    let [q, k, v, mask @ ..] = operands else {
        return Err(Failure::Invalid("attention needs queries, keys and values".into()));
    };
    let [batch, heads, q_len, head_dim] = q.view.shape.as_slice() else {
        return Err(Failure::Invalid("attention needs tensors of 4 axes".into()));
    };
    let (kv_heads, kv_len, v_dim) = (&k.view.shape[1], &k.view.shape[2], &v.view.shape[3]);
    let scores = [batch.clone(), heads.clone(), q_len.clone(), kv_len.clone()];
    let kind = StepKind::Attention {
        batch: cx.reg(batch)?,
        heads: cx.reg(heads)?,
        kv_heads: cx.reg(kv_heads)?,
        q_len: cx.reg(q_len)?,
        kv_len: cx.reg(kv_len)?,
        head_dim: cx.reg(head_dim)?,
        v_dim: cx.reg(v_dim)?,
        scale: node.attrs.float("scale") as f32,
        q: cx.view_access(&q.view)?,
        k: cx.view_access(&k.view)?,
        v: cx.view_access(&v.view)?,
        out: cx.view_access(&out.view)?,
        mask: match mask.first() {
            Some(mask) => Some(cx.view_access(&mask.view.broadcast(&scores))?),
            None => None,
        },
        causal: match node.attrs.dims("causal") {
            [offset] => Some(cx.reg(offset)?),
            _ => None,
        },
        fill: node.attrs.float("fill") as f32,
        zero_masked: node.attrs.flag("zero_masked"),
    };
    cx.step(kind, operands.iter().map(|p| p.id).collect(), vec![out.id]);
    Ok(())
}
