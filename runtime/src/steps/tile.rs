//! `Tile`: fused loops, run by the blocked TileIR executor.

use super::{Call, PlanCx, Strided, footprint};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Access, Step, StepKind, ValueId};
use crate::tile::exec::{ConcreteAccess, TileIsa, TilePlan, TileScratch, run};
use crate::tile::{SharedBytes, TileError};
use std::cell::RefCell;

/// Most arguments, and most outputs, of one loop nest.
pub(super) const OPERANDS_MAX: usize = 128;

/// Point-instructions below which another worker costs more than it saves.
const POINTS_PER_WORKER: usize = 16 << 10;

thread_local! {
    /// Registers of this worker's loops: grown by the first run of a plan, kept from step to step.
    static SCRATCH: RefCell<TileScratch> = RefCell::new(TileScratch::new());
}

/// Calls `f` with this worker's registers.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut TileScratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

struct Tile {
    step: String,
    plan: TilePlan,
    isa: TileIsa,
    points: usize,
    args: Vec<ValueId>,
    outs: Vec<ValueId>,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Tile { tile, dims, reads, writes } = &step.kind else {
        return Err(footprint(step, "is not a Tile step".into()));
    };
    if step.args.len() > OPERANDS_MAX || step.outs.len() > OPERANDS_MAX {
        return Err(footprint(step, format!("more than {OPERANDS_MAX} operands")));
    }
    let program = cx.program.tiles.get(*tile as usize);
    let program = program.ok_or_else(|| footprint(step, format!("tile {tile} does not exist")))?;
    let dims = dims.iter().map(|r| cx.reg(step, *r)).collect::<Result<Vec<_>, _>>()?;
    let concrete = |(access, value): (&Access, &ValueId)| -> Result<ConcreteAccess, RunError> {
        Ok(ConcreteAccess {
            elem: cx.elem(step, *value)?,
            offset: cx.reg(step, access.offset)?,
            strides: access.strides.iter().map(|r| cx.reg(step, *r)).collect::<Result<_, _>>()?,
        })
    };
    let lens =
        |values: &[ValueId]| values.iter().map(|v| cx.len(step, *v)).collect::<Result<Vec<_>, RunError>>();
    let reads = reads.iter().zip(&step.args).map(concrete).collect::<Result<Vec<_>, _>>()?;
    let writes = writes.iter().zip(&step.outs).map(concrete).collect::<Result<Vec<_>, _>>()?;
    let plan = TilePlan::new(program, &dims, &reads, &writes, &lens(&step.args)?, &lens(&step.outs)?)
        .map_err(|e| footprint(step, e.to_string()))?;
    let kept = dims.len() - usize::from(program.reduce_rank);
    apart(step, &dims[..kept], &writes)?;
    let isa = TileIsa::from(cx.isa);
    let instructions = program.body.len().max(1);
    let points = dims.iter().fold(instructions, |p, d| p.saturating_mul(usize::try_from(*d).unwrap_or(0)));
    let (name, args, outs) = (step.name.clone(), step.args.clone(), step.outs.clone());
    Ok(Box::new(Tile { step: name, plan, isa, points, args, outs }))
}

/// Requires accesses that write one value to have no element in common. Sufficient: they have the same strides, and would
/// be the two halves of one access without repetition.
fn apart(step: &Step, dims: &[i64], writes: &[ConcreteAccess]) -> Result<(), RunError> {
    for (i, (a, value)) in writes.iter().zip(&step.outs).enumerate() {
        for (b, _) in writes.iter().zip(&step.outs).skip(i + 1).filter(|(_, other)| *other == value) {
            let halves = |step| Strided { offset: 0, strides: [&a.strides[..dims.len()], &[step]].concat() };
            let extents =
                dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).chain([2]).collect::<Vec<_>>();
            let same = a.strides == b.strides;
            let distance = b.offset.checked_sub(a.offset);
            if !same || !distance.is_some_and(|d| halves(d).is_injective(&extents)) {
                return Err(footprint(step, format!("parts of value {value} that it writes may overlap")));
            }
        }
    }
    Ok(())
}

impl Call for Tile {
    fn work(&self) -> u64 {
        self.points as u64
    }

    fn parts(&self, max: usize) -> usize {
        (self.points / POINTS_PER_WORKER + 1).min(max)
    }

    fn nests(&mut self) -> Vec<&mut TilePlan> {
        vec![&mut self.plan]
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, _: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: nothing is read or written through an empty range.
        let none = unsafe { SharedBytes::new(std::ptr::NonNull::dangling().as_ptr(), 0) };
        let (mut reads, mut writes) = ([none; OPERANDS_MAX], [none; OPERANDS_MAX]);
        for (slot, arg) in reads.iter_mut().zip(&self.args) {
            let (ptr, len) = mem.src(*arg)?;
            // SAFETY: `src` gives a valid, initialised range; the executor only reads through it. The planner places an
            // output over an argument only as the contract for running in place says.
            *slot = unsafe { SharedBytes::new(ptr.cast_mut(), len) };
        }
        for (slot, out) in writes.iter_mut().zip(&self.outs) {
            let (ptr, len) = mem.dst(*out)?;
            // SAFETY: `dst` gives a valid, initialised range; parts write disjoint bytes.
            *slot = unsafe { SharedBytes::new(ptr, len) };
        }
        let (reads, writes) = (&reads[..self.args.len()], &writes[..self.outs.len()]);
        let fail = |e: TileError| RunError::Footprint { step: self.step.clone(), detail: e.to_string() };
        with_scratch(|scratch| run(&self.plan, self.isa, scratch, reads, writes, part, parts)).map_err(fail)
    }
}
