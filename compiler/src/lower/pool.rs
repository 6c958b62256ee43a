//! Pooling: the channels-last f32 kernel, or a TileIR loop for other ranks and element types.

use super::movement::{Fill, padded, padded_shape};
use super::place::{Place, Writes};
use super::tile::Body;
use super::view::View;
use super::{Failure, Lowering};
use autoglm_ir::{DType, Dim, Node};
use autoglm_runtime::program::{self as rt, PoolMode, StepKind};
use autoglm_runtime::tile::ReduceOp;

pub(super) fn pool(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    if node.attrs.str("layout") == "nhwc" { kernel(cx, node) } else { general(cx, node) }
}

fn pair(cx: &mut Lowering<'_>, v: &[i64]) -> Result<[rt::Reg; 2], Failure> {
    Ok([cx.reg(&v[0].into())?, cx.reg(&v[1].into())?])
}

fn kernel(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let x = cx.readable(node.args[0], View::has_lines)?;
    let out = cx.target(node.outs[0], &[x.id], Writes::Lines)?;
    let pads = node.attrs.ints("pads").to_vec();
    let mode = match (cx.is_op(node, "max_pool"), node.attrs.flag("include_pad")) {
        (true, _) => PoolMode::Max,
        (false, true) => PoolMode::AverageIncludePad,
        (false, false) => PoolMode::Average,
    };
    let kind = StepKind::Pool {
        mode,
        extents: super::conv::extents(cx, &x.view.shape)?,
        out_extents: [cx.reg(&out.view.shape[1])?, cx.reg(&out.view.shape[2])?],
        x: cx.lines_access(&x.view)?,
        out: cx.lines_access(&out.view)?,
        kernel: pair(cx, node.attrs.ints("kernel"))?,
        stride: pair(cx, node.attrs.ints("strides"))?,
        dilation: pair(cx, node.attrs.ints("dilations"))?,
        pad: pair(cx, &pads[..2])?,
        pad_end: pair(cx, &pads[2..])?,
    };
    cx.step(kind, vec![x.id], vec![out.id]);
    Ok(())
}

/// The maximum over windows of the input, padded with the smallest number.
fn general(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let x = cx.graph.ty(node.args[0]).clone();
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let no_padding = node.attrs.ints("pads").iter().all(|p| *p == 0);
    let average = cx.is_op(node, "avg_pool");
    let ceil = node.attrs.flag("ceil");
    if average && (!no_padding || ceil) {
        return Err(Failure::Unsupported(format!(
            "average pooling of a {} tensor with padding or ceil_mode",
            x
        )));
    }
    let spatial = x.rank() - 2;
    let (kernel, pads) = (node.attrs.ints("kernel"), node.attrs.ints("pads"));
    let (step, dilation) = (node.attrs.ints("strides"), node.attrs.ints("dilations"));
    let mut before = vec![Dim::from(0); x.rank()];
    let mut after = before.clone();
    for i in 0..spatial {
        before[2 + i] = pads[i].into();
        // The last window may reach beyond the declared padding when the extent is rounded up.
        let last =
            &(&(&out_shape[2 + i] - &1.into()) * &step[i].into()) + &((kernel[i] - 1) * dilation[i]).into();
        let reach = &(&last + &1.into()) - &(&x.shape[2 + i] + &pads[i].into());
        after[2 + i] = reach.larger(&pads[spatial + i].into());
    }
    let mut source = cx.place(node.args[0])?;
    if before.iter().chain(&after).any(|p| !p.is(0)) {
        let padded_to = cx.temp(x.dtype, &padded_shape(&x.shape, &before, &after))?;
        let fill = Fill::Number(lowest(x.dtype));
        padded(cx, &source, (&before, &after), (x.dtype, &fill), &padded_to)?;
        source = padded_to;
    }
    let along = &source.view.strides;
    let mut dims = out_shape;
    dims.extend(kernel.iter().map(|k| Dim::from(*k)));
    let mut over = along[..2].to_vec();
    over.extend((0..spatial).map(|i| &along[2 + i] * &step[i].into()));
    over.extend((0..spatial).map(|i| &along[2 + i] * &dilation[i].into()));
    let view = View { shape: dims.clone(), offset: source.view.offset.clone(), strides: over };
    let mut body = Body::new();
    let src = body.load(&Place { id: source.id, view });
    let program = if average {
        super::norm::mean(x.dtype, kernel.iter().product::<i64>() as f64, src)
    } else {
        super::reduce::fold(ReduceOp::Max, src)
    };
    let out = cx.target(node.outs[0], &body.args, Writes::Any)?;
    body.finish_fold(cx, &dims, program, None, &out)
}

/// The smallest value of an element type.
fn lowest(dtype: DType) -> f64 {
    dtype.int_range().map_or(f64::NEG_INFINITY, |(lo, _)| lo as f64)
}
