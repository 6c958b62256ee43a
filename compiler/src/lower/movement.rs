//! Data movement: views where strides express it, strided copies otherwise.

use super::fusion::{Fusion, of_one_node};
use super::place::{Place, Writes, part};
use super::tile::{Body, lane};
use super::view::{Move, View};
use super::{Failure, Lowering};
use autoglm_ir::{DType, Dim, Node, ValueId};
use autoglm_runtime::program::{StepKind, Storage};
use autoglm_runtime::tile::{Instr, TileProgram};

/// `reshape`, `transpose`, `slice` and `expand`.
pub(super) fn view(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (x, out) = (node.args[0], node.outs[0]);
    if cx.places[out.0 as usize].is_some() {
        // The step that computes it wrote it in this form.
        return Ok(());
    }
    let moved = Move::of(node).ok_or_else(|| Failure::Invalid("not a move".into()))?;
    let place = cx.place(x)?;
    match (place.view.apply(&moved), &moved) {
        (Some(_), Move::Reshape(_)) if cx.is_whole(&place) => reshape_whole(cx, &place, out),
        (Some(view), _) if cx.options.views || is_internal(cx, out) => {
            cx.bind(out, Place { id: place.id, view });
            Ok(())
        }
        (Some(view), _) => {
            let target = cx.target(out, &[place.id], Writes::Any)?;
            cx.copy(&Place { id: place.id, view }, &target)
        }
        (None, _) => reshape_copy(cx, node, &place),
    }
}

/// Whether only the ONNX node that a value belongs to reads it, which as a whole is what the baseline makes a kernel of.
fn is_internal(cx: &Lowering<'_>, v: ValueId) -> bool {
    let uses = cx.plan.uses(v);
    cx.options.fusion == Fusion::OneNode
        && !cx.plan.is_output[v.0 as usize]
        && !uses.is_empty()
        && uses.iter().all(|u| of_one_node(cx.graph, v, &cx.graph.nodes[u.node]))
}

/// All of a value under other extents. Where only a guard says that there are as many elements, the program has a value for either.
fn reshape_whole(cx: &mut Lowering<'_>, place: &Place, out: ValueId) -> Result<(), Failure> {
    let ty = cx.graph.ty(out).clone();
    let view = View::dense(&ty.shape);
    let same = view.numel() == place.view.numel();
    let id = if same {
        place.id
    } else {
        cx.push_value(super::elem(ty.dtype)?, &ty.shape, Storage::Alias(place.id))?
    };
    cx.bind(out, Place { id, view });
    Ok(())
}

/// A reshape that no strides express: the elements are copied to where the result is needed, or once for all that need them
/// in order.
fn reshape_copy(cx: &mut Lowering<'_>, node: &Node, place: &Place) -> Result<(), Failure> {
    let (x, out) = (node.args[0], node.outs[0]);
    if cx.plan.uses(x).len() == 1 {
        let target = cx.target(out, &[place.id], Writes::Any)?;
        if let Some(view) = target.view.reshape(&place.view.shape) {
            return cx.copy(place, &Place { id: target.id, view });
        }
    }
    let id = cx.dense(x)?;
    let whole = Place { id, view: View::dense(&place.view.shape) };
    reshape_whole(cx, &whole, out)
}

/// The arguments that are not computed in their part of the result are copied there.
pub(super) fn concat(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let whole = cx.whole(node.outs[0])?;
    for (at, arg) in node.args.iter().enumerate() {
        let target = Place { id: whole.id, view: part(cx.graph, node, at, &whole.view) };
        let mut source = cx.place(*arg)?;
        if source.id == target.id {
            if source.view.is_same(&target.view) {
                continue;
            }
            // No step reads and writes the same memory.
            let elsewhere = cx.temp(cx.graph.ty(*arg).dtype, &source.view.shape)?;
            cx.copy(&source, &elsewhere)?;
            source = elsewhere;
        }
        cx.copy(&source, &target)?;
    }
    cx.bind(node.outs[0], whole);
    Ok(())
}

/// A value for every element of padding: a number or a rank-0 tensor.
pub(super) enum Fill {
    Number(f64),
    Value(Place),
}

pub(super) fn pad(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let from = cx.place(node.args[0])?;
    let (before, after) = (node.attrs.dims("before").to_vec(), node.attrs.dims("after").to_vec());
    let fill = cx.place(node.args[1])?;
    let dtype = cx.graph.ty(node.args[0]).dtype;
    let out = cx.whole(node.outs[0])?;
    let out = if cx.is_free(&out, &[fill.id], Writes::Any)
        && (out.id != from.id || cx.is_inside(node, &from, &out))
    {
        out
    } else {
        cx.temp(dtype, &out.view.shape)?
    };
    padded(cx, &from, (&before, &after), (dtype, &Fill::Value(fill)), &out)?;
    cx.bind(node.outs[0], out);
    Ok(())
}

/// The extents of a padded tensor.
pub(super) fn padded_shape(shape: &[Dim], before: &[Dim], after: &[Dim]) -> Vec<Dim> {
    shape.iter().zip(before.iter().zip(after)).map(|(d, (b, a))| &(d + b) + a).collect()
}

/// Copies a tensor into the middle of a larger one (or crops, for negative pads), unless it is there already, and fills the
/// border. Every element is written once.
pub(super) fn padded(
    cx: &mut Lowering<'_>,
    from: &Place,
    (before, after): (&[Dim], &[Dim]),
    (dtype, fill): (DType, &Fill),
    out: &Place,
) -> Result<(), Failure> {
    let zero = Dim::from(0);
    let shape = &from.view.shape;
    let crop = |pad: &Dim| (&zero - pad).larger(&zero);
    // What of the source is copied, and where it starts in either tensor.
    let skip: Vec<Dim> = before.iter().map(crop).collect();
    let lead: Vec<Dim> = before.iter().map(|p| p.larger(&zero)).collect();
    let inner: Vec<Dim> = (0..shape.len()).map(|i| &(&shape[i] - &skip[i]) - &crop(&after[i])).collect();
    border(cx, (&lead, &inner), (dtype, fill), out)?;
    let steps = vec![1; shape.len()];
    let source = Place { id: from.id, view: from.view.slice(&skip, &inner, &steps) };
    let target = Place { id: out.id, view: out.view.slice(&lead, &inner, &steps) };
    if source.id == target.id && source.view.is_same(&target.view) {
        return Ok(());
    }
    cx.copy(&source, &target)
}

/// Fills what is outside the box of extents `inner` that starts at `lead`, slab by slab: two an axis, in one loop nest where they
/// are equally thick.
fn border(
    cx: &mut Lowering<'_>,
    (lead, inner): (&[Dim], &[Dim]),
    (dtype, fill): (DType, &Fill),
    out: &Place,
) -> Result<(), Failure> {
    let zero = Dim::from(0);
    let steps = vec![1; lead.len()];
    // Axes before `axis` are restricted to the box, those after it are whole.
    let mut extents = out.view.shape.clone();
    let mut starts = vec![zero.clone(); lead.len()];
    for axis in 0..lead.len() {
        let tail = &lead[axis] + &inner[axis];
        let behind = &out.view.shape[axis] - &tail;
        let slab = |start: Dim, extent: &Dim| {
            let (mut slab, mut at) = (extents.clone(), starts.clone());
            slab[axis].clone_from(extent);
            at[axis] = start;
            Place { id: out.id, view: out.view.slice(&at, &slab, &steps) }
        };
        let slabs = [slab(zero.clone(), &lead[axis]), slab(tail, &behind)];
        if lead[axis] == behind && !behind.is(0) {
            fill_all(cx, &slabs, (dtype, fill))?;
        } else {
            for slab in slabs.iter().filter(|s| !s.view.shape[axis].is(0)) {
                fill_all(cx, std::slice::from_ref(slab), (dtype, fill))?;
            }
        }
        extents[axis] = inner[axis].clone();
        starts[axis] = lead[axis].clone();
    }
    Ok(())
}

/// Fills places of the same extents and strides, in their order in memory.
fn fill_all(cx: &mut Lowering<'_>, outs: &[Place], (dtype, fill): (DType, &Fill)) -> Result<(), Failure> {
    let order = outs[0].view.storage_order();
    let outs: Vec<Place> =
        outs.iter().map(|out| Place { id: out.id, view: out.view.permute(&order) }).collect();
    let shape = &outs[0].view.shape;
    let mut body = Body::new();
    let src = match fill {
        Fill::Number(v) => body.constant(lane(dtype), *v),
        Fill::Value(place) => body.load(&Place { id: place.id, view: place.view.broadcast(shape) }),
    };
    for out in 0..outs.len() {
        body.push(Instr::Store { out: out as u16, src });
    }
    let program = TileProgram { body: body.instrs, ..TileProgram::default() };
    cx.pending.push("fill");
    cx.tile_step(program, shape, (body.args, &body.reads), &outs)
}

/// Numbers of the shape program as a tensor; element types other than the three that the step writes are converted.
pub(super) fn dims(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let values = node.attrs.dims("values").to_vec();
    let elems = cx.shape.regs(&values)?;
    let ty = cx.graph.ty(node.outs[0]).clone();
    let direct = matches!(ty.dtype, DType::I64 | DType::I32 | DType::F32);
    let written = cx.temp(if direct { ty.dtype } else { DType::I64 }, &ty.shape)?;
    cx.step(StepKind::Dims { elems }, vec![], vec![written.id]);
    if direct {
        cx.bind(node.outs[0], written);
        return Ok(());
    }
    let out = cx.target(node.outs[0], &[written.id], Writes::Any)?;
    cx.convert_to(&written, (DType::I64, ty.dtype), &out)
}

pub(super) fn iota(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let ty = cx.graph.ty(node.outs[0]).clone();
    let mut body = vec![Instr::Index { dim: node.attrs.int("axis") as u8 }];
    let to = lane(ty.dtype);
    if to != autoglm_runtime::tile::Lane::I64 {
        body.push(Instr::Convert { to, src: 0 });
    }
    body.push(Instr::Store { out: 0, src: (body.len() - 1) as u16 });
    let out = cx.target(node.outs[0], &[], Writes::Any)?;
    cx.tile_step(TileProgram { body, ..TileProgram::default() }, &ty.shape, (vec![], &[]), &[out])
}
