//! Data movement: views where the bytes stay in order, strided copies otherwise.

use super::tile::{Body, lane, strides};
use super::{Failure, Lowering};
use autoglm_ir::{DType, Dim, Node, ValueId};
use autoglm_runtime::program::{self as rt, StepKind, Storage};
use autoglm_runtime::tile::{Instr, TileProgram};

/// A reshape is a view.
pub(super) fn reshape(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let source = cx.value(node.args[0])?;
    let ty = cx.graph.ty(node.outs[0]);
    let id = cx.push_value(ty.dtype, &ty.shape, Storage::Alias(source))?;
    cx.bind(node.outs[0], id);
    Ok(())
}

pub(super) fn transpose(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let from = cx.value(node.args[0])?;
    let source = strides(&cx.graph.ty(node.args[0]).shape);
    let read: Vec<Dim> = node.attrs.ints("perm").iter().map(|p| source[*p as usize].clone()).collect();
    gather_copy(cx, node, from, &0.into(), &read)
}

pub(super) fn expand(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let from = cx.value(node.args[0])?;
    let (x, out) = (cx.graph.ty(node.args[0]), cx.graph.ty(node.outs[0]));
    let read = super::tile::broadcast_strides(&x.shape, &out.shape);
    gather_copy(cx, node, from, &0.into(), &read)
}

pub(super) fn slice(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let from = cx.value(node.args[0])?;
    let dense = strides(&cx.graph.ty(node.args[0]).shape);
    let mut offset = Dim::from(0);
    let mut read = Vec::with_capacity(dense.len());
    for ((stride, start), step) in dense.iter().zip(node.attrs.dims("starts")).zip(node.attrs.ints("steps")) {
        offset = &offset + &(start * stride);
        read.push(stride * &Dim::from(*step));
    }
    gather_copy(cx, node, from, &offset, &read)
}

/// The result, dense, from a strided read.
fn gather_copy(
    cx: &mut Lowering<'_>,
    node: &Node,
    from: rt::ValueId,
    offset: &Dim,
    read: &[Dim],
) -> Result<(), Failure> {
    let shape = cx.graph.ty(node.outs[0]).shape.clone();
    let out = cx.result(node.outs[0])?;
    let read = cx.access(offset, read)?;
    let write = cx.access(&0.into(), &strides(&shape))?;
    cx.copy(&shape, (from, read), (out, write))
}

/// One copy an argument, into its slice of the result.
pub(super) fn concat(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let axis = node.attrs.int("axis") as usize;
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let write = strides(&out_shape);
    let sources = node.args.iter().map(|a| cx.value(*a)).collect::<Result<Vec<_>, _>>()?;
    let out = cx.result(node.outs[0])?;
    let mut at = Dim::from(0);
    for (arg, source) in node.args.iter().zip(sources) {
        let shape = cx.graph.ty(*arg).shape.clone();
        let from = cx.access(&0.into(), &strides(&shape))?;
        let to = cx.access(&(&at * &write[axis]), &write)?;
        cx.copy(&shape, (source, from), (out, to))?;
        at = &at + &shape[axis];
    }
    Ok(())
}

/// A value for every element of padding: a number or a rank-0 tensor.
pub(super) enum Fill {
    Number(f64),
    Value(ValueId),
}

pub(super) fn pad(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let from = cx.value(node.args[0])?;
    let ty = cx.graph.ty(node.args[0]).clone();
    let (before, after) = (node.attrs.dims("before").to_vec(), node.attrs.dims("after").to_vec());
    let fill = Fill::Value(node.args[1]);
    let out = padded(cx, from, (ty.dtype, &ty.shape), (&before, &after), fill)?;
    cx.bind(node.outs[0], out);
    Ok(())
}

/// Copies a tensor into the middle of a larger one (or crops, for negative pads). The border is written slab by slab, two an
/// axis, so that every element is written once.
pub(super) fn padded(
    cx: &mut Lowering<'_>,
    from: rt::ValueId,
    (dtype, shape): (DType, &[Dim]),
    (before, after): (&[Dim], &[Dim]),
    fill: Fill,
) -> Result<rt::ValueId, Failure> {
    let zero = Dim::from(0);
    let sum = |a: &Dim, b: &Dim| a + b;
    let out_shape: Vec<Dim> =
        shape.iter().zip(before.iter().zip(after)).map(|(d, (b, a))| sum(&sum(d, b), a)).collect();
    let crop = |pad: &Dim| (&zero - pad).larger(&zero);
    // What of the source is copied, and where it starts in either tensor.
    let skip: Vec<Dim> = before.iter().map(crop).collect();
    let lead: Vec<Dim> = before.iter().map(|p| p.larger(&zero)).collect();
    let inner: Vec<Dim> = (0..shape.len()).map(|i| &(&shape[i] - &skip[i]) - &crop(&after[i])).collect();
    let out = cx.temp(dtype, &out_shape)?;
    let (read, write) = (strides(shape), strides(&out_shape));
    let offset = |starts: &[Dim], strides: &[Dim]| {
        starts.iter().zip(strides).fold(Dim::from(0), |sum, (s, d)| &sum + &(s * d))
    };
    // Axes before `axis` are restricted to the copied range, those after it are whole.
    let mut extents = out_shape.clone();
    let mut starts = vec![zero.clone(); shape.len()];
    for axis in 0..shape.len() {
        let tail = &lead[axis] + &inner[axis];
        let behind = &out_shape[axis] - &tail;
        for (start, extent) in [(zero.clone(), lead[axis].clone()), (tail, behind)] {
            if extent.is(0) {
                continue;
            }
            let (mut slab, mut at) = (extents.clone(), starts.clone());
            slab[axis] = extent;
            at[axis] = start;
            fill_slab(cx, out, &slab, (&offset(&at, &write), &write), (dtype, &fill))?;
        }
        extents[axis] = inner[axis].clone();
        starts[axis] = lead[axis].clone();
    }
    let source = cx.access(&offset(&skip, &read), &read)?;
    let target = cx.access(&offset(&lead, &write), &write)?;
    cx.copy(&inner, (from, source), (out, target))?;
    Ok(out)
}

fn fill_slab(
    cx: &mut Lowering<'_>,
    out: rt::ValueId,
    dims: &[Dim],
    (offset, strides): (&Dim, &[Dim]),
    (dtype, fill): (DType, &Fill),
) -> Result<(), Failure> {
    let write = cx.access(offset, strides)?;
    let store = Instr::Store { out: 0, src: 0 };
    let (instr, args, reads) = match fill {
        Fill::Number(v) => {
            let lane = lane(dtype);
            (Instr::Const { lane, bits: super::tile::lane_bits(lane, *v) }, vec![], vec![])
        }
        Fill::Value(v) => {
            let id = cx.value(*v)?;
            let scalar = cx.access(&0.into(), &vec![Dim::from(0); dims.len()])?;
            (Instr::Load { arg: 0 }, vec![id], vec![scalar])
        }
    };
    let program = TileProgram { body: vec![instr, store], ..TileProgram::default() };
    cx.tile_step(program, dims, args, reads, vec![out], vec![write])
}

/// Numbers of the shape program as a tensor; element types other than the three that the step writes are converted.
pub(super) fn dims(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let values = node.attrs.dims("values").to_vec();
    let elems = cx.shape.regs(&values)?;
    let ty = cx.graph.ty(node.outs[0]).clone();
    if matches!(ty.dtype, DType::I64 | DType::I32 | DType::F32) {
        let out = cx.result(node.outs[0])?;
        cx.step(StepKind::Dims { elems }, vec![], vec![out]);
        return Ok(());
    }
    let wide = cx.temp(DType::I64, &ty.shape)?;
    cx.step(StepKind::Dims { elems }, vec![], vec![wide]);
    let out = cx.convert(wide, &ty.shape, (DType::I64, ty.dtype))?;
    cx.bind(node.outs[0], out);
    Ok(())
}

pub(super) fn iota(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let ty = cx.graph.ty(node.outs[0]).clone();
    let mut body = Body::new(&ty.shape, (0..ty.rank()).collect());
    let index = body.push(Instr::Index { dim: node.attrs.int("axis") as u8 });
    let to = lane(ty.dtype);
    let src = if to == autoglm_runtime::tile::Lane::I64 {
        index
    } else {
        body.push(Instr::Convert { to, src: index })
    };
    body.push(Instr::Store { out: 0, src });
    let out = cx.result(node.outs[0])?;
    body.finish(cx, None, out)
}
