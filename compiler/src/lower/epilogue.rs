//! The elementwise loop behind a contraction or a reduction, as part of that step.

use super::tile::Body;
use super::view::{Move, View};
use super::{Failure, Lowering, elementwise};
use autoglm_ir::{Dim, Node, ValueId};
use autoglm_runtime::program::{self as rt};
use autoglm_runtime::tile::{Instr, TileProgram};

/// What a contraction does with its result before it stores it.
#[derive(Clone, Default)]
pub(super) struct Tail {
    /// The map; its first argument is the result.
    program: TileProgram,
    /// Its other arguments.
    pub(super) args: Vec<rt::ValueId>,
    /// How they are read over the extents of the result.
    pub(super) reads: Vec<View>,
    /// The operators that it computes.
    ops: Vec<&'static str>,
}

impl Tail {
    /// The epilogue of the step that comes next; `reads` are those of the tail over the step's loops.
    pub(super) fn emit(self, cx: &mut Lowering<'_>, reads: &[View]) -> Result<rt::Epilogue, Failure> {
        let reads = reads.iter().map(|view| cx.view_access(view)).collect::<Result<_, _>>()?;
        cx.pending = self.ops;
        Ok(rt::Epilogue { tile: cx.tile(self.program), reads })
    }
}

impl Lowering<'_> {
    /// The value that the step of a node stores: its result, or that of its epilogue.
    pub(super) fn result_of(&self, node: &Node) -> ValueId {
        match self.plan.tails.get(&node.outs[0]) {
            Some(tail) => self.graph.nodes[*tail].outs[0],
            None => node.outs[0],
        }
    }
}

/// The epilogue of a contraction, if it has one.
pub(super) fn of_contraction(cx: &mut Lowering<'_>, node: &Node) -> Result<Option<Tail>, Failure> {
    let Some(tail) = cx.plan.tails.get(&node.outs[0]) else { return Ok(None) };
    let tail = &cx.graph.nodes[*tail];
    // Argument 0 of the map is the result itself.
    let mut body = Body::after(0, 1, Some(node.outs[0]));
    body.push(Instr::Load { arg: 0 });
    let path = path(&cx.graph.ty(tail.outs[0]).shape, &cx.graph.ty(node.outs[0]).shape);
    let src = elementwise::instructions(cx, &mut body, tail, &path)?;
    body.push(Instr::Store { out: 0, src });
    let program = TileProgram { body: body.instrs, ..TileProgram::default() };
    Ok(Some(Tail { program, args: body.args, reads: body.reads, ops: body.ops }))
}

/// How the loops over `over` see a value of the extents `shape`.
fn path(shape: &[Dim], over: &[Dim]) -> Vec<Move> {
    if shape == over { Vec::new() } else { vec![Move::Reshape(over.to_vec())] }
}

/// The epilogue of a reduction over `kept`, if it has one; `args` arguments come before its own.
pub(super) fn of_fold(
    cx: &mut Lowering<'_>,
    node: &Node,
    args: usize,
    kept: &[Dim],
) -> Result<Option<Body>, Failure> {
    let Some(tail) = cx.plan.tails.get(&node.outs[0]) else { return Ok(None) };
    let tail = &cx.graph.nodes[*tail];
    let mut body = Body::after(1, args, Some(node.outs[0]));
    let folded = elementwise::round(&mut body, 0, cx.graph.ty(node.outs[0]).dtype)?;
    body.give(folded);
    let path = path(&cx.graph.ty(tail.outs[0]).shape, kept);
    let src = elementwise::instructions(cx, &mut body, tail, &path)?;
    body.push(Instr::Store { out: 0, src });
    Ok(Some(body))
}
