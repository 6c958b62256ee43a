//! Recurrent layers as one step a direction.

use super::place::{Place, Writes};
use super::view::View;
use super::{Failure, Lowering, weights};
use autoglm_ir::ops::recurrent::{Cell, FUNCTION_ATTRS, Operands};
use autoglm_ir::{DType, Def, Dim, Node, ValueId};
use autoglm_runtime::program::{self as rt, Activation, Curve, StepKind};

/// Whether the step reads argument `at` through any view.
pub(super) fn reads_views(node: &Node, at: usize) -> bool {
    let is_cell_state = at == 3 && Cell::of(&node.attrs) == Ok(Cell::Lstm);
    matches!(at, 1 | 2) || is_cell_state
}

pub(super) fn recurrent(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let dtype = cx.graph.ty(node.outs[0]).dtype;
    match dtype {
        DType::F32 => narrow(cx, node),
        DType::F16 | DType::BF16 => wide(cx, node, dtype),
        other => Err(Failure::Unsupported(format!("`recurrent` of {other} tensors"))),
    }
}

/// What the step reads besides dense vectors.
struct Read {
    x: Place,
    r: Place,
    /// The weights are in the kernel's layout.
    packed: bool,
    h: Place,
    c: Option<Place>,
}

/// Of f32: every operand is read where it is.
fn narrow(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let args = Operands::of(&node.attrs, &node.args)?;
    let packed = matches!(cx.graph.value(args.r).def, Def::Const(_));
    let r = if packed {
        let gates = Cell::of(&node.attrs)?.gates();
        Place { id: weights::gates(cx, args.r, gates)?, view: View::dense(&[]) }
    } else {
        cx.place(args.r)?
    };
    let read = Read {
        x: cx.readable(args.x, View::has_lines)?,
        r,
        packed,
        h: cx.place(args.h)?,
        c: args.c.map(|c| cx.place(c)).transpose()?,
    };
    let vectors = [args.bias, args.peepholes, args.lengths];
    let vectors = vectors.into_iter().flatten().map(|v| cx.dense(v)).collect::<Result<Vec<_>, _>>()?;
    let states = node.outs[1..].iter().map(|out| cx.own_result(*out)).collect::<Result<Vec<_>, _>>()?;
    let places = [Some(&read.x), Some(&read.r), Some(&read.h), read.c.as_ref()];
    let reads: Vec<_> = places.into_iter().flatten().map(|p| p.id).chain(vectors.iter().copied()).collect();
    let y = match is_needed(cx, node.outs[0]) {
        true => Some(cx.target(node.outs[0], &reads, Writes::Lines)?),
        false => None,
    };
    emit(cx, node, &read, vectors, states, y.as_ref())
}

/// Halves are widened, and the results are rounded once.
fn wide(cx: &mut Lowering<'_>, node: &Node, dtype: DType) -> Result<(), Failure> {
    let args = Operands::of(&node.attrs, &node.args)?;
    let widened = |cx: &mut Lowering<'_>, v: ValueId| -> Result<Place, Failure> {
        let place = cx.place(v)?;
        cx.convert(&place, (dtype, DType::F32))
    };
    let read = Read {
        x: widened(cx, args.x)?,
        r: widened(cx, args.r)?,
        packed: false,
        h: widened(cx, args.h)?,
        c: args.c.map(|c| widened(cx, c)).transpose()?,
    };
    let mut vectors = Vec::with_capacity(3);
    for v in [args.bias, args.peepholes].into_iter().flatten() {
        vectors.push(widened(cx, v)?.id);
    }
    if let Some(lengths) = args.lengths {
        vectors.push(cx.dense(lengths)?);
    }
    let needed: Vec<ValueId> = node
        .outs
        .iter()
        .enumerate()
        .filter(|(i, out)| *i > 0 || is_needed(cx, **out))
        .map(|(_, out)| *out)
        .collect();
    let mut made = Vec::with_capacity(needed.len());
    for out in &needed {
        made.push(cx.temp(DType::F32, &cx.graph.ty(*out).shape.clone())?);
    }
    let states = made.len() + 1 - node.outs.len();
    let ids = made[states..].iter().map(|place| place.id).collect();
    emit(cx, node, &read, vectors, ids, made[..states].first())?;
    for (out, place) in needed.into_iter().zip(made) {
        let target = cx.target(out, &[place.id], Writes::Any)?;
        cx.convert_to(&place, (DType::F32, dtype), &target)?;
    }
    Ok(())
}

/// Whether anything reads a result.
fn is_needed(cx: &Lowering<'_>, v: ValueId) -> bool {
    cx.plan.is_output[v.0 as usize] || !cx.plan.uses(v).is_empty()
}

/// The step. `states` get the last states.
fn emit(
    cx: &mut Lowering<'_>,
    node: &Node,
    read: &Read,
    vectors: Vec<rt::ValueId>,
    states: Vec<rt::ValueId>,
    y: Option<&Place>,
) -> Result<(), Failure> {
    let attrs = &node.attrs;
    let cell = match Cell::of(attrs)? {
        Cell::Lstm => rt::Cell::Lstm { input_forget: attrs.flag("input_forget") },
        Cell::Gru => rt::Cell::Gru { linear_before_reset: attrs.flag("linear_before_reset") },
        Cell::Rnn => rt::Cell::Rnn,
    };
    let [steps, batch, _] = read.x.view.shape.as_slice() else {
        return Err(Failure::Invalid("`recurrent` needs an input of 3 axes".into()));
    };
    let hidden = cx.graph.ty(node.args[1]).shape.last().cloned().unwrap_or_default();
    let shared = cx.temp(DType::F32, &[Dim::from(cell.states()), batch.clone(), hidden.clone()])?;
    let functions = FUNCTION_ATTRS[..cell.functions()].iter().map(|[name, alpha, beta]| {
        let curve = curve(attrs.str(name))?;
        Ok(Activation { curve, alpha: attrs.float(alpha) as f32, beta: attrs.float(beta) as f32 })
    });
    let kind = StepKind::Recurrent {
        cell,
        steps: cx.reg(steps)?,
        batch: cx.reg(batch)?,
        hidden: cx.reg(&hidden)?,
        reverse: attrs.flag("reverse"),
        functions: functions.collect::<Result<_, Failure>>()?,
        clip: attrs.get("clip").map_or(f32::INFINITY, |_| attrs.float("clip") as f32),
        x: cx.lines_access(&read.x.view)?,
        r: cx.view_access(&read.r.view)?,
        r_packed: read.packed,
        h: cx.view_access(&read.h.view)?,
        c: read.c.as_ref().map(|c| cx.view_access(&c.view)).transpose()?,
        peepholes: attrs.flag("peepholes"),
        lengths: Operands::of(attrs, &node.args)?.lengths.is_some(),
        y: y.map(|y| cx.lines_access(&y.view)).transpose()?,
    };
    let mut args = vec![read.x.id, read.r.id, read.h.id];
    args.extend(read.c.as_ref().map(|c| c.id));
    args.extend(vectors);
    let mut outs = states;
    outs.push(shared.id);
    outs.extend(y.map(|y| y.id));
    cx.step(kind, args, outs);
    Ok(())
}

fn curve(name: &str) -> Result<Curve, Failure> {
    Ok(match name {
        "sigmoid" => Curve::Sigmoid,
        "tanh" => Curve::Tanh,
        "relu" => Curve::Relu,
        "hard_sigmoid" => Curve::HardSigmoid,
        "affine" => Curve::Affine,
        "leaky_relu" => Curve::LeakyRelu,
        "thresholded_relu" => Curve::ThresholdedRelu,
        "scaled_tanh" => Curve::ScaledTanh,
        "elu" => Curve::Elu,
        "softsign" => Curve::Softsign,
        "softplus" => Curve::Softplus,
        other => return Err(Failure::Unsupported(format!("the function {other:?} of gates"))),
    })
}
