//! Epilogues of contractions: a map over each block of the result while it is in cache.

use super::tile::{OPERANDS_MAX, with_scratch};
use super::{PlanCx, Strided, footprint};
use crate::cpu::kernels::{Block, KernelError, Limits, STAGE, Stage};
use crate::cpu::shared::SharedMut;
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{self, Step, ValueId};
use crate::tile::exec::{ConcreteAccess, Rows, TileIsa, WindowPlan, Windows};
use crate::tile::{self, BinaryOp, Instr, SharedBytes, TilePlan, TileProgram};

/// Bytes of scratch that an epilogue needs.
pub(super) const STAGE_BYTES: usize = STAGE * size_of::<f32>();

pub(super) struct Epilogue {
    plan: WindowPlan,
    isa: TileIsa,
    /// Arguments of the map after the result.
    args: Vec<ValueId>,
    out: ValueId,
    /// Distance of rows in the stage.
    step: usize,
}

/// The contraction's side of an epilogue.
pub(super) struct Product<'a> {
    /// Extents of the result.
    pub(super) extents: &'a [usize],
    /// The access of the output over them.
    pub(super) out: (ValueId, &'a Strided),
    /// Columns that a block of the kernel is made for.
    pub(super) stage_columns: usize,
    /// Position of the first argument that the epilogue reads.
    pub(super) first_arg: usize,
}

impl Epilogue {
    /// The epilogue of a step, or the limits that are all that it does.
    pub(super) fn or_limits(
        step: &Step,
        cx: &PlanCx<'_>,
        epilogue: Option<&program::Epilogue>,
        result: &Product<'_>,
    ) -> Result<(Option<Self>, Option<Limits>), RunError> {
        let resolved = Self::resolve(step, cx, epilogue, result)?;
        let tile = epilogue.and_then(|epilogue| cx.program.tiles.get(epilogue.tile as usize));
        let limits = tile.and_then(limits);
        Ok((resolved.filter(|_| limits.is_none()), limits))
    }

    fn resolve(
        step: &Step,
        cx: &PlanCx<'_>,
        epilogue: Option<&program::Epilogue>,
        result: &Product<'_>,
    ) -> Result<Option<Self>, RunError> {
        let Some(epilogue) = epilogue else { return Ok(None) };
        let program = cx.program.tiles.get(epilogue.tile as usize);
        let program =
            program.ok_or_else(|| footprint(step, format!("tile {} does not exist", epilogue.tile)))?;
        check_map(program).map_err(|detail| footprint(step, detail))?;
        let args = step.args.get(result.first_arg..).unwrap_or_default();
        if args.len() != epilogue.reads.len() || args.len() >= OPERANDS_MAX {
            let detail = format!("{} accesses for {} arguments", epilogue.reads.len(), args.len());
            return Err(footprint(step, detail));
        }
        let dims: Vec<i64> = result.extents.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
        let mut reads = Vec::with_capacity(args.len());
        let mut lens = Vec::with_capacity(args.len());
        for (access, &arg) in epilogue.reads.iter().zip(args) {
            let Strided { offset, strides } = cx.strided(step, access)?;
            reads.push(ConcreteAccess { elem: cx.elem(step, arg)?, offset, strides });
            lens.push(cx.len(step, arg)?);
        }
        let (out, Strided { offset, strides }) = result.out;
        let write = ConcreteAccess { elem: cx.elem(step, out)?, offset: *offset, strides: strides.clone() };
        let row_step = Stage::step(result.stage_columns);
        let nest = Rows { dims: &dims, step: row_step };
        let plan = WindowPlan::new(program, nest, (&reads, &lens), (&write, cx.len(step, out)?))
            .map_err(|e| footprint(step, format!("epilogue: {e}")))?;
        Ok(Some(Self { plan, isa: TileIsa::from(cx.isa), args: args.to_vec(), out, step: row_step }))
    }

    /// Its loops.
    pub(super) fn nest(&mut self) -> &mut TilePlan {
        self.plan.nest()
    }

    /// Runs a kernel with a stage in `scratch` and the epilogue behind it.
    pub(super) fn run(
        &self,
        mem: &Memory<'_>,
        scratch: &mut [f32],
        kernel: impl FnOnce(Stage<'_>) -> Result<(), KernelError>,
    ) -> Result<(), RunError> {
        // SAFETY: nothing is read or written through an empty range.
        let none = unsafe { SharedBytes::new(std::ptr::NonNull::dangling().as_ptr(), 0) };
        let mut reads = [none; OPERANDS_MAX];
        let stage = SharedMut::new(scratch);
        for (slot, arg) in reads.iter_mut().skip(1).zip(&self.args) {
            let (ptr, len) = mem.src(*arg)?;
            // SAFETY: `src` gives a valid, initialised range; the executor only reads through it. Where the planner placed
            // the output over this argument, each point is read before it is written, and by the same worker.
            *slot = unsafe { SharedBytes::new(ptr.cast_mut(), len) };
        }
        // SAFETY: the stage is this worker's; the kernel writes it, and the executor reads it between the kernel's writes.
        reads[0] = unsafe { SharedBytes::new(stage.as_ptr().cast(), size_of::<f32>() * stage.len()) };
        let (ptr, len) = mem.dst(self.out)?;
        // SAFETY: `dst` gives a valid, initialised range; parts write disjoint blocks of distinct elements.
        let write = unsafe { SharedBytes::new(ptr, len) };
        let reads = &reads[..=self.args.len()];
        with_scratch(|scratch| {
            let mut windows = Windows::new(&self.plan, self.isa, scratch, reads, &write)
                .map_err(|e| RunError::Shape(e.to_string()))?;
            let mut finish = |block: &Block| {
                windows
                    .run(block.rows.clone(), block.cols.clone(), block.start)
                    .map_err(|_| KernelError::Args("the epilogue does not cover the result"))
            };
            kernel(Stage { elements: stage, step: self.step, finish: &mut finish })
                .map_err(|e| RunError::Shape(e.to_string()))
        })
    }
}

/// The limits that a map puts on the result, if it does nothing else: such a map needs no stage.
pub(super) fn limits(program: &TileProgram) -> Option<Limits> {
    /// The result within limits, or a number.
    #[derive(Clone, Copy)]
    enum Lane {
        Result(Limits),
        Number(f32),
    }
    let mut lanes: Vec<Option<Lane>> = Vec::new();
    let mut stored = None;
    for instr in &program.body {
        let lane = |id: u16| lanes.get(usize::from(id)).copied().flatten();
        lanes.push(Some(match *instr {
            Instr::Load { arg: 0 } => Lane::Result(Limits { low: f32::NEG_INFINITY, high: f32::INFINITY }),
            Instr::Const { lane: tile::Lane::F32, bits } => Lane::Number(f32::from_bits(bits as u32)),
            Instr::Round { elem: ElemType::F32, src, .. } => lane(src)?,
            Instr::Binary(op @ (BinaryOp::Max | BinaryOp::Min), a, b) => {
                let ((Lane::Result(x), Lane::Number(c)) | (Lane::Number(c), Lane::Result(x))) =
                    (lane(a)?, lane(b)?)
                else {
                    return None;
                };
                let of = if op == BinaryOp::Max { f32::max } else { f32::min };
                if c.is_nan() {
                    return None;
                }
                Lane::Result(Limits { low: of(x.low, c), high: of(x.high, c) })
            }
            Instr::Store { out: 0, src } => {
                stored = Some(lane(src)?);
                lane(src)?
            }
            _ => return None,
        }));
    }
    match stored? {
        Lane::Result(limits) if limits.low.is_sign_positive() && limits.high > limits.low => Some(limits),
        _ => None,
    }
}

/// Requires a map with a single store, so that nothing is read after it was written.
pub(crate) fn check_map(program: &TileProgram) -> Result<(), String> {
    let stores = program.body.iter().filter(|i| matches!(i, Instr::Store { .. })).count();
    if program.reduce_rank != 0 || stores != 1 {
        return Err(format!(
            "an epilogue reduces {} loop dimensions and has {stores} stores instead of 0 and 1",
            program.reduce_rank
        ));
    }
    Ok(())
}
