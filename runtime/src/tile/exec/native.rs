//! Plans whose inner loops are compiled.

use super::code::{Code, Op, operands};
use super::drive::{At, Machine};
use super::layout::{Access, Nest, Rect, View};
use super::plan::{Kind, TilePlan};
use super::{TileIsa, helpers::HELPERS};
use crate::tile::native::{CodeCache, Declined, Frame, Function, LoopSpec, MAX_FOLDS, Operand, Step};
use crate::tile::{Instr, Reduce, TileError};
use std::sync::Arc;

/// Fewest columns that a vector loop is compiled for.
const COLUMNS: i64 = 4;

/// The compiled loop of a plan.
#[derive(Clone, Debug)]
pub(super) struct Native {
    function: Arc<Function>,
    isa: TileIsa,
    /// Bytes from row to row and from column to column, reads first.
    row_steps: Vec<i64>,
    col_steps: Vec<i64>,
    /// Whether the loop touches each operand.
    used: Vec<bool>,
}

impl TilePlan {
    /// The loop that can be compiled for `isa` instead of being interpreted; says why where that is not possible.
    pub fn loop_spec(&self, isa: TileIsa) -> Result<LoopSpec, Declined> {
        let nest = self.compiled_nest()?;
        if nest.extent[1] < COLUMNS {
            return Err(Declined("too few columns"));
        }
        if self.reduced_points == 0 {
            return Err(Declined("an empty reduction"));
        }
        spec(isa, &self.body_ops(), nest, self)
    }

    /// Element-instructions that one run executes in the loop.
    pub fn loop_work(&self) -> u64 {
        let points: i64 = self.dims.iter().product();
        u64::try_from(points).unwrap_or(0).saturating_mul(self.body_ops().len() as u64)
    }

    /// Replaces the interpretation of the body by a compiled loop for `isa`; says why where that is not possible or does
    /// not pay. `work` is that of all loops of one run that have the same spec.
    pub fn compile(&mut self, code: &CodeCache, isa: TileIsa, work: u64) -> Result<(), Declined> {
        let spec = self.loop_spec(isa)?;
        let function = code.get(&spec, work)?;
        let used = spec.reads.iter().chain(&spec.writes).map(|o| o.step != Step::Unused).collect();
        let nest = self.compiled_nest()?;
        let accesses = || self.reads.iter().chain(&self.writes);
        let bytes = |dim| accesses().map(|a| a.stride(dim).wrapping_mul(a.elem.size() as i64)).collect();
        let (row_steps, col_steps) = (bytes(nest.row), bytes(nest.col));
        self.body = Code::default();
        self.native = Some(Native { function, isa, row_steps, col_steps, used });
        Ok(())
    }

    /// The rows and columns that the body runs over.
    fn compiled_nest(&self) -> Result<&Nest, Declined> {
        match &self.kind {
            _ if self.native.is_some() => Err(Declined("it is compiled")),
            Kind::Map => Ok(&self.kept),
            Kind::Across { reduced } => Ok(reduced),
            Kind::Nothing | Kind::Copy { .. } => Err(Declined("no arithmetic")),
            Kind::Into { .. } => Err(Declined("folds of one row into another")),
        }
    }

    /// The instructions of the body in their order in the program.
    fn body_ops(&self) -> Vec<&Op> {
        let mut ops: Vec<&Op> =
            [&self.body.once, &self.body.rect, &self.body.block].into_iter().flatten().collect();
        ops.sort_by_key(|op| op.id);
        ops
    }

    /// Refuses an instruction set that this processor lacks, or that the loop was not compiled for.
    pub(super) fn runs_with(&self, isa: TileIsa) -> Result<(), TileError> {
        if self.native.as_ref().is_some_and(|native| native.isa != isa) {
            return Err(TileError::Program("compiled for another instruction set"));
        }
        if isa.is_supported() {
            Ok(())
        } else {
            Err(TileError::Program("this processor lacks the instruction set"))
        }
    }

    /// Whether [`Self::compile`] succeeded.
    pub fn is_compiled(&self) -> bool {
        self.native.is_some()
    }
}

fn spec(isa: TileIsa, ops: &[&Op], nest: &Nest, plan: &TilePlan) -> Result<LoopSpec, Declined> {
    if plan.folds.len() > MAX_FOLDS || plan.folds.iter().any(|f| f.op.is_arg()) {
        return Err(Declined("positions of extrema, or many reductions"));
    }
    let live = live(ops, plan);
    let mut reads: Vec<Operand> = plan.reads.iter().map(unused).collect();
    let mut writes: Vec<Operand> = plan.writes.iter().map(unused).collect();
    let (mut body, mut lanes, mut has_index) = (Vec::new(), Vec::new(), false);
    for (op, live) in ops.iter().zip(live) {
        match op.instr {
            Instr::Load { arg } if live => {
                reads[usize::from(arg)] = operand(&plan.reads[usize::from(arg)], nest)?
            }
            Instr::Store { out, .. } => {
                writes[usize::from(out)] = operand(&plan.writes[usize::from(out)], nest)?
            }
            Instr::Index { .. } if live => has_index = true,
            _ => {}
        }
        let is_store = matches!(op.instr, Instr::Store { .. });
        // Lanes keep their numbers; what nobody uses becomes a constant that no code is made for.
        body.push(if live { op.instr } else { Instr::Const { lane: op.result, bits: 0 } });
        lanes.push(Some(op.result).filter(|_| !is_store));
    }
    let folds = plan.folds.iter().map(|f| Reduce { op: f.op, src: f.src as u16 }).collect();
    let dims = [nest.row, nest.col].map(|d| d.filter(|_| has_index).map(|d| d as u8));
    Ok(LoopSpec { isa, body, lanes, reads, writes, folds, block_dims: dims })
}

/// Which instructions a store or a fold needs.
fn live(ops: &[&Op], plan: &TilePlan) -> Vec<bool> {
    let mut live = vec![false; ops.len()];
    plan.folds.iter().for_each(|f| live[f.src] = true);
    for (i, op) in ops.iter().enumerate().rev() {
        live[i] |= matches!(op.instr, Instr::Store { .. });
        if live[i] {
            operands(&op.instr).into_iter().flatten().for_each(|id| live[usize::from(id)] = true);
        }
    }
    live
}

fn unused(access: &Access) -> Operand {
    Operand { elem: access.elem, step: Step::Unused }
}

fn operand(access: &Access, nest: &Nest) -> Result<Operand, Declined> {
    let (row, col) = (access.stride(nest.row), access.stride(nest.col));
    if row == 1 && col.unsigned_abs() > 1 {
        return Err(Declined("a transposition"));
    }
    let step = match col {
        0 => Step::Broadcast,
        1 => Step::Dense,
        _ => Step::Strided,
    };
    Ok(Operand { elem: access.elem, step })
}

impl Machine<'_> {
    /// Runs the compiled loop on a rectangle of `nest`, whose outer dimensions have the offsets `from`; folds into `state`.
    pub(super) unsafe fn call(
        &mut self,
        native: &Native,
        nest: &Nest,
        rect: Rect,
        (from, to): (At, At),
        state: &mut [u64; MAX_FOLDS],
    ) {
        let [rows, cols] = [rect.rows, rect.cols].map(|[start, end]| end - start);
        if rows <= 0 || cols <= 0 {
            return;
        }
        let view = View { at: [rect.rows[0], rect.cols[0]], rows: rows as usize, cols: cols as usize };
        self.enter(nest, view, from, to);
        let reads = self.plan.reads.len();
        for (i, used) in native.used.iter().enumerate() {
            if *used {
                // SAFETY: the first element of an operand that the loop uses lies within its value.
                self.addresses[i] = unsafe {
                    if i < reads { self.source(i, to).cast_mut() } else { self.target(i - reads, to) }
                };
            }
        }
        let frame = Frame {
            rows,
            cols,
            bases: self.addresses.as_ptr(),
            row_steps: native.row_steps.as_ptr(),
            col_steps: native.col_steps.as_ptr(),
            index: self.index.as_ptr(),
            state: state.as_mut_ptr(),
            helpers: HELPERS.as_ptr(),
        };
        // SAFETY: the plan's accesses are within their values at every row and column of the rectangle; the arrays have one
        // entry for each operand, loop dimension and fold; `run` has checked the instruction set.
        unsafe { native.function.call(&frame) };
    }
}
