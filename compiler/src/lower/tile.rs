//! Building TileIR loops and their accesses.

use super::place::{Place, Writes};
use super::view::{Move, View};
use super::{Failure, Lowering, elementwise};
use autoglm_ir::op::Fusion;
use autoglm_ir::{DType, Def, Dim, ValueId};
use autoglm_runtime::program::{self as rt, Access, StepKind};
use autoglm_runtime::tile::{Instr, Lane, LaneId, TileProgram};
use std::collections::HashMap;
use std::mem;

/// The lane type in which an element type is computed.
pub(super) fn lane(dtype: DType) -> Lane {
    match dtype {
        DType::F64 => Lane::F64,
        _ if dtype.is_float() => Lane::F32,
        _ if dtype.is_unsigned_int() => Lane::U64,
        _ => Lane::I64,
    }
}

/// The bits of a number in a lane.
pub(super) fn lane_bits(lane: Lane, value: f64) -> u64 {
    match lane {
        Lane::F32 => u64::from((value as f32).to_bits()),
        Lane::F64 => value.to_bits(),
        Lane::I64 => value as i64 as u64,
        Lane::U64 => value as u64,
    }
}

/// The value of which a loop nest writes parts, and the strides that all parts have: boxes of one tensor have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    value: rt::ValueId,
    strides: Vec<Dim>,
}

impl Parts {
    /// None where a nest writes several values, or parts that do not have the same strides.
    fn of(outs: &[Place]) -> Option<Parts> {
        let (first, more) = outs.split_first()?;
        let same = more.iter().all(|out| out.id == first.id && out.view.strides == first.view.strides);
        same.then(|| Parts { value: first.id, strides: first.view.strides.clone() })
    }
}

/// A loop body, or an epilogue, under construction.
pub(super) struct Body {
    /// Instructions so far; the first defines lane `first`.
    pub(super) instrs: Vec<Instr>,
    first: LaneId,
    /// Arguments so far and how the loop reads them; the first is argument `first_arg`.
    pub(super) args: Vec<rt::ValueId>,
    pub(super) reads: Vec<View>,
    first_arg: u16,
    lanes: HashMap<(ValueId, Vec<Move>), LaneId>,
    /// Operators that it computes, in order.
    pub(super) ops: Vec<&'static str>,
    /// A value that is a lane already.
    given: Option<(ValueId, LaneId)>,
}

impl Body {
    /// An empty body.
    pub(super) fn new() -> Body {
        Body::after(0, 0, None)
    }

    /// A section that follows `lanes` lanes and `args` arguments, one of which may be a value.
    pub(super) fn after(lanes: usize, args: usize, given: Option<ValueId>) -> Body {
        Body {
            instrs: Vec::new(),
            first: lanes as LaneId,
            args: Vec::new(),
            reads: Vec::new(),
            first_arg: args as u16,
            lanes: HashMap::new(),
            ops: Vec::new(),
            given: given.map(|v| (v, 0)),
        }
    }

    pub(super) fn push(&mut self, instr: Instr) -> LaneId {
        self.instrs.push(instr);
        self.first + (self.instrs.len() - 1) as LaneId
    }

    pub(super) fn constant(&mut self, lane: Lane, value: f64) -> LaneId {
        self.push(Instr::Const { lane, bits: lane_bits(lane, value) })
    }

    /// Says that the given value is another lane than the first.
    pub(super) fn give(&mut self, lane: LaneId) {
        if let Some(given) = &mut self.given {
            given.1 = lane;
        }
    }

    /// The lane of a value that the loop sees behind `path`: computed here if it is inlined, else loaded.
    pub(super) fn lane(
        &mut self,
        cx: &mut Lowering<'_>,
        v: ValueId,
        path: Vec<Move>,
    ) -> Result<LaneId, Failure> {
        if let Some((_, lane)) = self.given.filter(|(given, _)| *given == v) {
            return Ok(lane);
        }
        let key = (v, path);
        if let Some(lane) = self.lanes.get(&key) {
            return Ok(*lane);
        }
        let path = &key.1;
        let lane = match cx.graph.value(v).def {
            Def::Node(n, _) if cx.plan.inline[v.0 as usize] => {
                let node = cx.graph.node(n);
                if node.op.def().class == Fusion::Elementwise {
                    let root = elementwise::instructions(cx, self, node, path)?;
                    elementwise::round(self, root, cx.graph.ty(v).dtype)?
                } else {
                    let moved = Move::of(node)
                        .ok_or_else(|| Failure::Invalid(format!("{} cannot be inlined", node.op.name())))?;
                    let path = std::iter::once(moved).chain(path.iter().cloned()).collect();
                    self.lane(cx, node.args[0], path)?
                }
            }
            Def::Const(id) if cx.graph.ty(v).numel().is(1) => {
                let tensor = cx.scalar(id)?;
                self.scalar(tensor)
            }
            _ => {
                let place = cx.place(v)?;
                let place = cx.follow(place, path)?;
                self.load(&place)
            }
        };
        self.lanes.insert(key, lane);
        Ok(lane)
    }

    /// The path of an operand of a node that the loop sees behind `path`.
    pub(super) fn operand_path(shape: &[Dim], path: &[Move]) -> Vec<Move> {
        let over = Move::Broadcast(shape.to_vec());
        if path.first() == Some(&over) {
            return path.to_vec();
        }
        std::iter::once(over).chain(path.iter().cloned()).collect()
    }

    fn scalar(&mut self, tensor: &autoglm_ir::Tensor) -> LaneId {
        let lane = lane(tensor.dtype);
        let bits = match tensor.elements() {
            autoglm_ir::tensor::Elements::Float(v) => lane_bits(lane, v.first().copied().unwrap_or(0.0)),
            autoglm_ir::tensor::Elements::Int(v) => v.first().copied().unwrap_or(0) as u64,
        };
        self.push(Instr::Const { lane, bits })
    }

    /// Loads what a view over the loop's extents shows.
    pub(super) fn load(&mut self, place: &Place) -> LaneId {
        let arg = self.arg(place);
        self.push(Instr::Load { arg })
    }

    /// The argument with this view.
    pub(super) fn arg(&mut self, place: &Place) -> u16 {
        let found =
            self.args.iter().zip(&self.reads).position(|(a, view)| *a == place.id && *view == place.view);
        let arg = found.unwrap_or_else(|| {
            self.args.push(place.id);
            self.reads.push(place.view.clone());
            self.args.len() - 1
        });
        self.first_arg + arg as u16
    }

    /// Emits a loop without reductions over the elements of `out`, in their order in memory; `src` is stored. No instruction
    /// names a loop dimension.
    pub(super) fn finish_map(
        mut self,
        cx: &mut Lowering<'_>,
        src: LaneId,
        out: &Place,
    ) -> Result<(), Failure> {
        self.push(Instr::Store { out: 0, src });
        let order = out.view.storage_order();
        let program = TileProgram { body: self.instrs, ..TileProgram::default() };
        let reads = self.reads.iter().map(|view| view.permute(&order)).collect::<Vec<_>>();
        let write = Place { id: out.id, view: out.view.permute(&order) };
        cx.pending = self.ops;
        cx.tile_step(program, &write.view.shape, (self.args, &reads), std::slice::from_ref(&write))
    }

    /// Emits a loop over `dims` whose last dimensions are reduced by `program`; the result goes to `out`, whose extents are
    /// those of the other dimensions.
    pub(super) fn finish_fold(
        self,
        cx: &mut Lowering<'_>,
        dims: &[Dim],
        mut program: TileProgram,
        epilogue: Option<Body>,
        out: &Place,
    ) -> Result<(), Failure> {
        let (mut args, mut reads) = (self.args, self.reads);
        cx.pending = self.ops;
        cx.pending.push(cx.op);
        program.body = self.instrs;
        program.reduce_rank = (dims.len() - out.view.shape.len()) as u8;
        if let Some(epilogue) = epilogue {
            program.epilogue = epilogue.instrs;
            args.extend(epilogue.args);
            reads.extend(epilogue.reads);
            cx.pending.extend(epilogue.ops);
        }
        // An argument that only the epilogue reads stays where it is in the reduced dimensions.
        for view in &mut reads {
            view.strides.resize(dims.len(), Dim::from(0));
        }
        cx.tile_step(program, dims, (args, &reads), std::slice::from_ref(out))
    }
}

impl Lowering<'_> {
    /// An access from symbolic offset and strides.
    pub(super) fn access(&mut self, offset: &Dim, strides: &[Dim]) -> Result<Access, Failure> {
        Ok(Access { offset: self.reg(offset)?, strides: self.shape.regs(strides)? })
    }

    /// The access of a view.
    pub(super) fn view_access(&mut self, view: &View) -> Result<Access, Failure> {
        self.access(&view.offset, &view.strides)
    }

    /// The access of a view whose last axis is contiguous, without that axis.
    pub(super) fn lines_access(&mut self, view: &View) -> Result<Access, Failure> {
        let lead = view.strides.len().saturating_sub(1);
        self.access(&view.offset, &view.strides[..lead])
    }

    /// The index of a tile program; equal programs are stored once.
    pub(super) fn tile(&mut self, program: TileProgram) -> u32 {
        let tiles = &mut self.program.tiles;
        *self.tiles.entry(format!("{program:?}")).or_insert_with(|| {
            tiles.push(program);
            (tiles.len() - 1) as u32
        })
    }

    /// A step that runs a tile program over `dims` and stores to `outs`.
    pub(super) fn tile_step(
        &mut self,
        program: TileProgram,
        dims: &[Dim],
        (args, reads): (Vec<rt::ValueId>, &[View]),
        outs: &[Place],
    ) -> Result<(), Failure> {
        let ops = self.ops_of(&program);
        let tile = self.tile(program);
        let dims = self.shape.regs(dims)?;
        let reads = reads.iter().map(|v| self.view_access(v)).collect::<Result<_, _>>()?;
        let writes = outs.iter().map(|out| self.view_access(&out.view)).collect::<Result<_, _>>()?;
        self.nest(rt::Nest { tile, dims, reads, writes }, ops, args, outs);
        Ok(())
    }

    /// What a loop nest computes: what was said, else what its instructions show, else the operator of the node.
    fn ops_of(&mut self, program: &TileProgram) -> Vec<&'static str> {
        let said = mem::take(&mut self.pending);
        let op = match program.body.as_slice() {
            _ if !said.is_empty() => return said,
            [Instr::Load { .. }, Instr::Store { .. }] => "copy",
            [Instr::Load { .. }, Instr::Convert { .. }, Instr::Store { .. }] => "cast",
            _ => self.op,
        };
        vec![op]
    }

    /// A loop nest that goes on with writing parts of what the last step wrote joins that step; another is a step of its own.
    fn nest(&mut self, nest: rt::Nest, ops: Vec<&'static str>, args: Vec<rt::ValueId>, outs: &[Place]) {
        let written = Parts::of(outs);
        let at = self.program.steps.len();
        let joins = written.is_some()
            && self
                .parts
                .as_ref()
                .is_some_and(|(step, parts)| *step + 1 == at && Some(parts) == written.as_ref())
            && outs.iter().all(|out| self.is_free(out, &args, Writes::Any));
        // In a baseline no two ONNX nodes share a step.
        let any_node = self.options.fusion == super::Fusion::All;
        match self.program.steps.last_mut() {
            Some(step)
                if joins && (any_node || step.name == self.loc) && step.can_join(args.len(), outs.len()) =>
            {
                step.join(nest);
                step.args.extend(args);
                step.outs.extend(outs.iter().map(|out| out.id));
                self.ops[at - 1].extend(ops);
            }
            _ => {
                let rt::Nest { tile, dims, reads, writes } = nest;
                let outs = outs.iter().map(|out| out.id).collect();
                self.step_of(ops, StepKind::Tile { tile, dims, reads, writes }, args, outs);
                self.parts = written.map(|parts| (at, parts));
            }
        }
    }

    /// Copies all elements of one place to another of the same extents, both in the other's order.
    pub(super) fn copy(&mut self, from: &Place, to: &Place) -> Result<(), Failure> {
        let mut body = Body::new();
        let src = body.load(from);
        body.finish_map(self, src, to)
    }

    /// A dense copy in another element type.
    pub(super) fn convert(
        &mut self,
        from: &Place,
        (from_type, to_type): (DType, DType),
    ) -> Result<Place, Failure> {
        let out = self.temp(to_type, &from.view.shape)?;
        self.convert_to(from, (from_type, to_type), &out)?;
        Ok(out)
    }

    /// A copy in another element type.
    pub(super) fn convert_to(
        &mut self,
        from: &Place,
        (from_type, to_type): (DType, DType),
        out: &Place,
    ) -> Result<(), Failure> {
        let mut body = Body::new();
        let mut src = body.load(from);
        if lane(from_type) != lane(to_type) {
            src = body.push(Instr::Convert { to: lane(to_type), src });
        }
        body.finish_map(self, src, out)
    }

    /// The view moved along a path; where no strides express a move, what is before it is copied.
    pub(super) fn follow(&mut self, place: Place, path: &[Move]) -> Result<Place, Failure> {
        let mut at = place;
        for moved in path {
            at.view = match at.view.apply(moved) {
                Some(view) => view,
                None => {
                    let elem = self.program.values[at.id as usize].elem;
                    let copy = self.temp_of(elem, &at.view.shape)?;
                    self.copy(&at, &copy)?;
                    at.id = copy.id;
                    let again = copy.view.apply(moved);
                    again.ok_or_else(|| Failure::Invalid("a dense tensor cannot be reshaped".into()))?
                }
            };
        }
        Ok(at)
    }
}
