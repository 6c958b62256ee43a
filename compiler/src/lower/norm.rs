//! Softmax and layer normalisation over the last axis.

use super::place::Writes;
use super::tile::{Body, lane, lane_bits};
use super::view::View;
use super::{Failure, Lowering};
use autoglm_ir::{DType, Node};
use autoglm_runtime::program::{Access, StepKind};
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, Reduce, ReduceOp, TileProgram, UnaryOp};

/// Only f32 tensors with a last axis have a kernel.
fn require_rows(cx: &Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let ty = cx.graph.ty(node.args[0]);
    if ty.dtype != DType::F32 {
        return Err(Failure::Unsupported(format!("`{}` of {} tensors", node.op.name(), ty.dtype)));
    }
    if ty.shape.is_empty() {
        return Err(Failure::Invalid("a tensor without dimensions has no last axis".into()));
    }
    Ok(())
}

fn has_rows(view: &View) -> bool {
    view.rows().is_some()
}

/// A view as rows and columns, and its access over the rows.
fn rows(cx: &mut Lowering<'_>, view: &View) -> Result<(View, Access), Failure> {
    let rows = view.rows().ok_or_else(|| Failure::Invalid("the rows have no common stride".into()))?;
    let access = cx.lines_access(&rows)?;
    Ok((rows, access))
}

pub(super) fn softmax(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    require_rows(cx, node)?;
    let x = cx.readable(node.args[0], has_rows)?;
    let zero_masked = node.attrs.flag("zero_masked");
    let out = if zero_masked {
        cx.temp(DType::F32, &x.view.shape)?
    } else {
        cx.target(node.outs[0], &[x.id], Writes::Rows)?
    };
    let (view, read) = rows(cx, &x.view)?;
    let (_, write) = rows(cx, &out.view)?;
    let kind = StepKind::Softmax {
        rows: cx.reg(&view.shape[0])?,
        cols: cx.reg(&view.shape[1])?,
        log: node.attrs.flag("log"),
        x: read,
        out: write,
    };
    cx.step(kind, vec![x.id], vec![out.id]);
    if !zero_masked {
        return Ok(());
    }
    let mut body = Body::new();
    let a = body.constant(Lane::F32, 0.0);
    let b = body.load(&out);
    let cond = body.push(Instr::Unary(UnaryOp::IsNan, b));
    let src = body.push(Instr::Select { cond, a, b });
    let target = cx.target(node.outs[0], &[out.id], Writes::Any)?;
    body.finish_map(cx, src, &target)
}

pub(super) fn layer_norm(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    require_rows(cx, node)?;
    let x = cx.readable(node.args[0], has_rows)?;
    let mut args = vec![x.id];
    for factor in &node.args[1..] {
        args.push(cx.dense(*factor)?);
    }
    let out = cx.target(node.outs[0], &args, Writes::Rows)?;
    let (view, read) = rows(cx, &x.view)?;
    let (_, write) = rows(cx, &out.view)?;
    let kind = StepKind::LayerNorm {
        rows: cx.reg(&view.shape[0])?,
        cols: cx.reg(&view.shape[1])?,
        epsilon: node.attrs.float("epsilon") as f32,
        bias: node.args.len() > 2,
        rms: node.attrs.flag("rms"),
        x: read,
        out: write,
    };
    cx.step(kind, args, vec![out.id]);
    Ok(())
}

/// The sum of a lane divided by a known count.
pub(super) fn mean(dtype: DType, count: f64, src: u16) -> TileProgram {
    let lane = lane(dtype);
    TileProgram {
        reduces: vec![Reduce { op: ReduceOp::Sum, src }],
        epilogue: vec![
            Instr::Const { lane, bits: lane_bits(lane, count) },
            Instr::Binary(BinaryOp::Div, 0, 1),
            Instr::Store { out: 0, src: 2 },
        ],
        ..TileProgram::default()
    }
}
