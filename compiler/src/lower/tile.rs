//! Building TileIR loops and their accesses.

use super::{Failure, Lowering, elementwise};
use autoglm_ir::{DType, Def, Dim, ValueId};
use autoglm_runtime::program::{self as rt, Access, StepKind};
use autoglm_runtime::tile::{Instr, Lane, LaneId, TileProgram};
use std::collections::HashMap;

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

/// Row-major strides of a shape, in elements.
pub(super) fn strides(shape: &[Dim]) -> Vec<Dim> {
    let mut out = vec![Dim::from(1); shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = &out[i + 1] * &shape[i + 1];
    }
    out
}

/// Strides with which a tensor is read in a loop over `over` (numpy broadcasting; 0 where it is broadcast).
pub(super) fn broadcast_strides(shape: &[Dim], over: &[Dim]) -> Vec<Dim> {
    let dense = strides(shape);
    let lead = over.len() - shape.len();
    over.iter()
        .enumerate()
        .map(|(i, extent)| {
            let Some(axis) = i.checked_sub(lead) else { return Dim::from(0) };
            let (own, stride) = (&shape[axis], &dense[axis]);
            if own == extent {
                stride.clone()
            } else {
                // Not broadcast where the extent is not 1; which one it is may be known only at run time.
                stride * &(&Dim::from(1) - &own.equals(&1.into()))
            }
        })
        .collect()
}

/// A loop body under construction over `shape`; loop dimension `i` runs over axis `order[i]`.
pub(super) struct Body {
    shape: Vec<Dim>,
    order: Vec<usize>,
    pub(super) instrs: Vec<Instr>,
    args: Vec<rt::ValueId>,
    reads: Vec<Vec<Dim>>,
    lanes: HashMap<ValueId, LaneId>,
}

impl Body {
    pub(super) fn new(shape: &[Dim], order: Vec<usize>) -> Body {
        Body {
            shape: shape.to_vec(),
            order,
            instrs: Vec::new(),
            args: Vec::new(),
            reads: Vec::new(),
            lanes: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, instr: Instr) -> LaneId {
        self.instrs.push(instr);
        (self.instrs.len() - 1) as LaneId
    }

    pub(super) fn constant(&mut self, lane: Lane, value: f64) -> LaneId {
        self.push(Instr::Const { lane, bits: lane_bits(lane, value) })
    }

    /// The lane of a value: computed here if it is inlined, else loaded.
    pub(super) fn lane(&mut self, cx: &mut Lowering<'_>, v: ValueId) -> Result<LaneId, Failure> {
        if let Some(lane) = self.lanes.get(&v) {
            return Ok(*lane);
        }
        let lane = match cx.graph.value(v).def {
            Def::Node(n, _) if cx.plan.inline[v.0 as usize] => {
                let node = cx.graph.node(n);
                let root = elementwise::instructions(cx, self, node)?;
                elementwise::round(self, root, cx.graph.ty(v).dtype)?
            }
            Def::Const(id) if cx.graph.ty(v).numel().is(1) => {
                let tensor = cx.scalar(id)?;
                self.scalar(tensor)
            }
            _ => {
                let id = cx.value(v)?;
                let strides = broadcast_strides(&cx.graph.ty(v).shape, &self.shape);
                self.load(id, strides)
            }
        };
        self.lanes.insert(v, lane);
        Ok(lane)
    }

    fn scalar(&mut self, tensor: &autoglm_ir::Tensor) -> LaneId {
        let lane = lane(tensor.dtype);
        let bits = match tensor.elements() {
            autoglm_ir::tensor::Elements::Float(v) => lane_bits(lane, v.first().copied().unwrap_or(0.0)),
            autoglm_ir::tensor::Elements::Int(v) => v.first().copied().unwrap_or(0) as u64,
        };
        self.push(Instr::Const { lane, bits })
    }

    /// Loads a value with strides over the axes of the shape.
    pub(super) fn load(&mut self, id: rt::ValueId, strides: Vec<Dim>) -> LaneId {
        let arg = self.epilogue_arg(id, strides);
        self.push(Instr::Load { arg })
    }

    /// An argument that an epilogue loads: its strides over the reduced axes are 0.
    pub(super) fn epilogue_arg(&mut self, id: rt::ValueId, strides: Vec<Dim>) -> u16 {
        let found = self.args.iter().zip(&self.reads).position(|(a, s)| *a == id && *s == strides);
        let arg = found.unwrap_or_else(|| {
            self.args.push(id);
            self.reads.push(strides);
            self.args.len() - 1
        });
        arg as u16
    }

    /// Emits the loop. `reduces` holds the reductions over the last `reduce_rank` loop dimensions and the epilogue; without
    /// them the body stores. The result is written densely in loop order.
    pub(super) fn finish(
        self,
        cx: &mut Lowering<'_>,
        reduced: Option<(u8, TileProgram)>,
        out: rt::ValueId,
    ) -> Result<(), Failure> {
        let dims: Vec<Dim> = self.order.iter().map(|a| self.shape[*a].clone()).collect();
        let (reduce_rank, mut program) = reduced.unwrap_or_default();
        program.body = self.instrs;
        program.reduce_rank = reduce_rank;
        let kept = &dims[..dims.len() - usize::from(reduce_rank)];
        let mut reads = Vec::with_capacity(self.reads.len());
        for strides in &self.reads {
            let strides: Vec<Dim> = self.order.iter().map(|a| strides[*a].clone()).collect();
            reads.push(cx.access(&0.into(), &strides)?);
        }
        let write = cx.access(&0.into(), &strides(kept))?;
        cx.tile_step(program, &dims, self.args, reads, vec![out], vec![write])
    }
}

impl Lowering<'_> {
    /// An access from symbolic offset and strides.
    pub(super) fn access(&mut self, offset: &Dim, strides: &[Dim]) -> Result<Access, Failure> {
        Ok(Access { offset: self.reg(offset)?, strides: self.shape.regs(strides)? })
    }

    /// A step that runs a tile program; equal programs are stored once.
    pub(super) fn tile_step(
        &mut self,
        program: TileProgram,
        dims: &[Dim],
        args: Vec<rt::ValueId>,
        reads: Vec<Access>,
        outs: Vec<rt::ValueId>,
        writes: Vec<Access>,
    ) -> Result<(), Failure> {
        let tiles = &mut self.program.tiles;
        let tile = *self.tiles.entry(format!("{program:?}")).or_insert_with(|| {
            tiles.push(program);
            (tiles.len() - 1) as u32
        });
        let dims = self.shape.regs(dims)?;
        self.step(StepKind::Tile { tile, dims, reads, writes }, args, outs);
        Ok(())
    }

    /// Copies `dims` elements from one access to another.
    pub(super) fn copy(
        &mut self,
        dims: &[Dim],
        from: (rt::ValueId, Access),
        to: (rt::ValueId, Access),
    ) -> Result<(), Failure> {
        let body = vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }];
        let program = TileProgram { body, ..TileProgram::default() };
        self.tile_step(program, dims, vec![from.0], vec![from.1], vec![to.0], vec![to.1])
    }

    /// Copies a dense tensor.
    pub(super) fn copy_dense(
        &mut self,
        from: rt::ValueId,
        to: rt::ValueId,
        shape: &[Dim],
    ) -> Result<(), Failure> {
        let access = self.access(&0.into(), &strides(shape))?;
        self.copy(shape, (from, access.clone()), (to, access))
    }

    /// Copies a dense tensor into another element type.
    pub(super) fn convert(
        &mut self,
        from: rt::ValueId,
        shape: &[Dim],
        (from_type, to_type): (DType, DType),
    ) -> Result<rt::ValueId, Failure> {
        let out = self.temp(to_type, shape)?;
        let access = self.access(&0.into(), &strides(shape))?;
        let mut body = vec![Instr::Load { arg: 0 }];
        if lane(from_type) != lane(to_type) {
            body.push(Instr::Convert { to: lane(to_type), src: 0 });
        }
        body.push(Instr::Store { out: 0, src: (body.len() - 1) as LaneId });
        let program = TileProgram { body, ..TileProgram::default() };
        self.tile_step(program, shape, vec![from], vec![access.clone()], vec![out], vec![access])?;
        Ok(out)
    }
}
