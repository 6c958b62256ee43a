//! Matrix products with matrices chosen by an index tensor, as one step.

use super::place::Writes;
use super::view::View;
use super::{Failure, Lowering, weights};
use autoglm_ir::{DType, Dim, Node};
use autoglm_runtime::program::StepKind;

/// `gather_matmul` of f32 tensors.
pub(super) fn gather_matmul(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let out_ty = cx.graph.ty(node.outs[0]).clone();
    if out_ty.dtype != DType::F32 {
        return Err(Failure::Unsupported(format!("`gather_matmul` of {} tensors", out_ty.dtype)));
    }
    let matrices = cx.graph.ty(node.args[1]).shape.clone();
    let ([batch @ .., m, n], [count, k, _]) = (out_ty.shape.as_slice(), matrices.as_slice()) else {
        return Err(Failure::Invalid("a product without rows and columns, or no stack of matrices".into()));
    };
    let over = |inner: &[&Dim]| [batch, &inner.iter().map(|d| (*d).clone()).collect::<Vec<_>>()].concat();
    let a = cx.readable(node.args[0], View::has_lines)?;
    let index = cx.place(node.args[2])?;
    let (b, b_view) = match cx.graph.constant(node.args[1]) {
        Some(id) => (weights::stack(cx, id)?.args().next(), None),
        None => {
            let place = cx.place(node.args[1])?;
            (Some(place.id), Some(place.view))
        }
    };
    let b = b.ok_or_else(|| Failure::Invalid("packed matrices without values".into()))?;
    let args = vec![a.id, b, index.id];
    let out = cx.target(node.outs[0], &args, Writes::Lines)?;
    let kind = StepKind::GatherMatMul {
        batch: cx.shape.regs(batch)?,
        m: cx.reg(m)?,
        k: cx.reg(k)?,
        n: cx.reg(n)?,
        matrices: cx.reg(count)?,
        a: cx.view_access(&a.view.broadcast(&over(&[m, k])))?,
        b: cx.view_access(b_view.as_ref().unwrap_or(&View::dense(&[])))?,
        b_packed: b_view.is_none(),
        index: cx.view_access(&index.view.broadcast(batch))?,
        out: cx.lines_access(&out.view)?,
    };
    cx.step(kind, args, vec![out.id]);
    Ok(())
}
