//! Maps that run on windows of their loop nest while these are in cache, with a window of their first argument in a
//! buffer: the epilogues of contractions.

use super::drive::Machine;
use super::layout::Rect;
use super::{ConcreteAccess, TileIsa, TilePlan, TileScratch};
use crate::elem::ElemType;
use crate::tile::{SharedBytes, TileError, TileProgram};
use std::ops::Range;

/// The loop nest of a [`WindowPlan`].
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Loop extents, outermost first; the last are columns, the others together are rows.
    pub dims: &'a [i64],
    /// Elements from one row to the next in the buffer that holds a window of the first argument, f32.
    pub step: usize,
}

/// A map over rows and columns that is run window by window.
#[derive(Clone, Debug)]
pub struct WindowPlan {
    plan: TilePlan,
    step: i64,
    rows: i64,
    cols: i64,
}

impl WindowPlan {
    /// Checks `program`, a map with one output, and plans it. `reads` and `read_lens` are those of its arguments but the
    /// first; lengths are in elements.
    pub fn new(
        program: &TileProgram,
        nest: Rows<'_>,
        (reads, read_lens): (&[ConcreteAccess], &[usize]),
        (write, write_len): (&ConcreteAccess, usize),
    ) -> Result<Self, TileError> {
        let large = || TileError::Program("too many points");
        let Some((&cols, row_dims)) = nest.dims.split_last() else {
            return Err(TileError::Program("no loop dimension"));
        };
        let step = i64::try_from(nest.step).map_err(|_| large())?;
        let mut strides = vec![1; nest.dims.len()];
        let mut rows = 1i64;
        for (stride, &extent) in strides.iter_mut().rev().skip(1).zip(row_dims.iter().rev()) {
            *stride = rows.checked_mul(step).ok_or_else(large)?;
            rows = rows.checked_mul(extent).ok_or_else(large)?;
        }
        let staged = ConcreteAccess { elem: ElemType::F32, offset: 0, strides };
        // Only a window of it exists; every window is checked against its buffer.
        let unbounded = usize::MAX >> 4;
        let reads: Vec<ConcreteAccess> = std::iter::once(staged).chain(reads.iter().cloned()).collect();
        let read_lens: Vec<usize> = std::iter::once(unbounded).chain(read_lens.iter().copied()).collect();
        let plan = TilePlan::of_rows(program, nest.dims, (&reads, &read_lens), (write, write_len))?;
        Ok(Self { plan, step, rows, cols })
    }

    /// The loops, to be compiled.
    pub fn nest(&mut self) -> &mut TilePlan {
        &mut self.plan
    }
}

/// A [`WindowPlan`] being run by one worker.
pub struct Windows<'a> {
    plan: &'a WindowPlan,
    machine: Option<Machine<'a>>,
    /// Elements of the buffer.
    staged: usize,
    started: bool,
}

impl<'a> Windows<'a> {
    /// Begins. `reads[0]` is the buffer, the others and `write` are the values that the plan's accesses refer to.
    pub fn new(
        plan: &'a WindowPlan,
        isa: TileIsa,
        scratch: &'a mut TileScratch,
        reads: &'a [SharedBytes],
        write: &'a SharedBytes,
    ) -> Result<Self, TileError> {
        let staged = reads.first().map_or(0, |r| r.len() / size_of::<f32>());
        if plan.plan.is_empty() {
            return Ok(Self { plan, machine: None, staged, started: true });
        }
        plan.plan.runs_with(isa)?;
        let accesses = &plan.plan.reads;
        let fit = reads.len() == accesses.len()
            && accesses.iter().zip(reads).skip(1).all(|(a, r)| a.bytes <= r.len())
            && plan.plan.writes.iter().all(|a| a.bytes <= write.len());
        if !fit {
            return Err(TileError::Program("the values are not those that the plan was made for"));
        }
        let machine = Machine::new(&plan.plan, isa, scratch, reads, std::slice::from_ref(write));
        Ok(Self { plan, machine: Some(machine), staged, started: false })
    }

    /// Runs the window of these rows (of all row dimensions together, row-major) and columns, whose first element is
    /// element `start` of the buffer.
    pub fn run(&mut self, rows: Range<usize>, cols: Range<usize>, start: usize) -> Result<(), TileError> {
        let Some(machine) = &mut self.machine else { return Ok(()) };
        let outside = TileError::Program("a window that is not inside its loops and buffer");
        let range = |r: &Range<usize>, extent: i64| {
            let ends = i64::try_from(r.start).ok().zip(i64::try_from(r.end).ok());
            ends.filter(|(start, end)| start <= end && *end <= extent)
        };
        let ends = range(&rows, self.plan.rows).zip(range(&cols, self.plan.cols));
        let ((mut row, last), (first_col, last_col)) = ends.ok_or(outside.clone())?;
        if row == last || first_col == last_col {
            return Ok(());
        }
        // Within i64: the plan's own check covers the last row and column.
        let needed = (last - row - 1) * self.plan.step + (last_col - first_col);
        if usize::try_from(needed).map_or(true, |needed| needed.saturating_add(start) > self.staged) {
            return Err(outside);
        }
        // Inside the buffer, so within i64.
        machine.origin = row * self.plan.step + first_col - start as i64;
        if !self.started {
            // What does not depend on the loops reads the buffer only if they have a single point: this window's.
            // SAFETY: the accesses were checked, and the scratch fits the plan.
            unsafe { machine.run_once() };
            self.started = true;
        }
        let extent = self.plan.plan.kept.extent[0];
        while row < last {
            let (outer, start) = (row / extent, row % extent);
            let end = extent.min(start + last - row);
            // SAFETY: the window is inside the loops, for which the accesses were checked, and the buffer holds it.
            unsafe { machine.run_rect(Rect { outer, rows: [start, end], cols: [first_col, last_col] }) };
            row += end - start;
        }
        Ok(())
    }
}
