//! Softmax and layer normalisation over the last axis.

use super::tile::{lane, lane_bits};
use super::{Failure, Lowering};
use autoglm_ir::dim::product;
use autoglm_ir::{DType, Dim, Node};
use autoglm_runtime::program::StepKind;
use autoglm_runtime::tile::{BinaryOp, Instr, Reduce, ReduceOp, TileProgram};

/// Rows and columns of a tensor whose last axis is normalised; only f32 has a kernel.
fn rows_and_cols(cx: &Lowering<'_>, node: &Node) -> Result<(Dim, Dim), Failure> {
    let ty = cx.graph.ty(node.args[0]);
    if ty.dtype != DType::F32 {
        return Err(Failure::Unsupported(format!("`{}` of {} tensors", node.op.name(), ty.dtype)));
    }
    match ty.shape.split_last() {
        Some((cols, rows)) => Ok((product(rows), cols.clone())),
        None => Err(Failure::Invalid("a tensor without dimensions has no last axis".into())),
    }
}

pub(super) fn softmax(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (rows, cols) = rows_and_cols(cx, node)?;
    let x = cx.value(node.args[0])?;
    let dense = cx.access(&0.into(), std::slice::from_ref(&cols))?;
    let kind = StepKind::Softmax {
        rows: cx.reg(&rows)?,
        cols: cx.reg(&cols)?,
        log: node.attrs.flag("log"),
        x: dense.clone(),
        out: dense,
    };
    let out = cx.result(node.outs[0])?;
    cx.step(kind, vec![x], vec![out]);
    Ok(())
}

pub(super) fn layer_norm(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (rows, cols) = rows_and_cols(cx, node)?;
    let args = node.args.iter().map(|a| cx.value(*a)).collect::<Result<Vec<_>, _>>()?;
    let dense = cx.access(&0.into(), std::slice::from_ref(&cols))?;
    let kind = StepKind::LayerNorm {
        rows: cx.reg(&rows)?,
        cols: cx.reg(&cols)?,
        epsilon: node.attrs.float("epsilon") as f32,
        bias: node.args.len() > 2,
        rms: node.attrs.flag("rms"),
        x: dense.clone(),
        out: dense,
    };
    let out = cx.result(node.outs[0])?;
    cx.step(kind, args, vec![out]);
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
