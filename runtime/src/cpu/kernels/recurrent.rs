//! Recurrent layers: at every step the products of the hidden state with the weights of the gates, then their functions.
//!
//! Parts share out the elements of the state, by panels of 32, and meet after every step, because the next one reads all of
//! the state; where there are fewer panels than parts they share out the rows instead, which do not meet.

use super::cell::{CellRow, Update};
use super::gemm::{Batch, Gemm, Operand, Rows};
use super::panel::pack_panel;
use super::table::Kernels;
use super::tile::Taps;
use super::view::View;
use super::{KernelError, Part, distinct, holds, optional, product, share, span};
use crate::barrier::Party;
use crate::cpu::pack::{PANEL, packed_gemm_len};
use crate::cpu::shared::SharedMut;
use crate::program::{Activation, Cell};
use std::ops::Range;

/// Most rows whose sums are in scratch at a time.
const ROWS: usize = 64;
/// Keeps rows of sums apart that would fall into one set of the first-level cache.
const PAD: usize = 16;

/// Lines of neighbouring elements over steps and batch: that of step t and row b starts at
/// `offset + t * steps[0] + b * steps[1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// First element.
    pub offset: usize,
    /// Distances of steps and rows.
    pub steps: [isize; 2],
}

impl Lines {
    /// Offset of a line, which is inside a checked footprint.
    fn at(&self, step: usize, row: usize) -> usize {
        let [t, b] = self.steps;
        let moved = step.cast_signed().wrapping_mul(t).wrapping_add(row.cast_signed().wrapping_mul(b));
        self.offset.wrapping_add_signed(moved)
    }
}

/// One direction of a recurrent layer, with the equations of the ONNX operators LSTM, GRU and RNN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentArgs {
    /// What a step computes.
    pub cell: Cell,
    /// The functions of gates, candidate and cell state, as far as the cell has them.
    pub functions: [Activation; 3],
    /// Bounds the arguments of the first two; infinity for none.
    pub clip: f32,
    /// Rows go from their last step to their first.
    pub reverse: bool,
    /// Steps of the longest row.
    pub steps: usize,
    /// Rows.
    pub batch: usize,
    /// Elements of a state.
    pub hidden: usize,
    /// The input's share of all gates, with their biases.
    pub x: Lines,
    /// The weights of all gates: rows are their elements. Not used when they are packed.
    pub r: View,
    /// The first hidden state.
    pub h: View,
    /// The first cell state, of an LSTM.
    pub c: View,
    /// The hidden states of all steps; its elements are distinct.
    pub y: Option<Lines>,
}

/// The elements that a layer touches, and how many its parts need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurrentFootprint {
    /// Of the input.
    pub x: Range<usize>,
    /// Of weights that are not packed.
    pub r: Range<usize>,
    /// Of packed weights.
    pub r_packed: Range<usize>,
    /// Of the first hidden state.
    pub h: Range<usize>,
    /// Of the first cell state.
    pub c: Range<usize>,
    /// Of the hidden states.
    pub y: Range<usize>,
    /// Of a dense state.
    pub state: usize,
    /// Of what parts share.
    pub shared: usize,
}

/// The weights of the gates.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// Each gate's, transposed, in the layout `[ceil(hidden/32)][hidden][32]`, one after the other.
    Packed(&'a [f32]),
    /// As the arguments' view says.
    Strided(&'a [f32]),
}

/// Operands of a layer.
pub struct RecurrentOperands<'a> {
    /// The input's share.
    pub x: &'a [f32],
    /// Weights.
    pub r: Weights<'a>,
    /// First hidden state.
    pub h: &'a [f32],
    /// First cell state; empty where the cell has none.
    pub c: &'a [f32],
    /// Peephole weights of an LSTM, three of a state's elements; bias of a GRU with `linear_before_reset`, which must have one.
    pub weights: Option<&'a [f32]>,
    /// Steps that a row takes; more than there are count as all.
    pub length: &'a dyn Fn(usize) -> usize,
    /// Gets the last hidden state, dense.
    pub last: SharedMut<'a, f32>,
    /// Holds the cell state of an LSTM, dense; empty otherwise.
    pub cell: SharedMut<'a, f32>,
    /// What parts share.
    pub shared: SharedMut<'a, f32>,
    /// Gets the hidden states.
    pub y: SharedMut<'a, f32>,
}

impl RecurrentArgs {
    /// What is read and written.
    pub fn footprint(&self) -> Result<RecurrentFootprint, KernelError> {
        let Self { steps, batch, hidden, .. } = *self;
        let all = product(&[self.cell.gates(), hidden])?;
        let state = product(&[batch, hidden])?;
        let lines = |operand, lines: &Lines, cols| {
            let dims = [(steps, lines.steps[0]), (batch, lines.steps[1]), (cols, 1)];
            span(operand, lines.offset, dims.into_iter())
        };
        let matrix = |operand, view: &View, rows| {
            span(operand, view.offset, [(rows, view.row), (hidden, view.col)].into_iter())
        };
        let y = match &self.y {
            Some(view) => lines("y", view, hidden)?,
            None => 0..0,
        };
        if let Some(view) = self.y.filter(|_| !y.is_empty()) {
            distinct([(steps, view.steps[0]), (batch, view.steps[1]), (hidden, 1)].into_iter())?;
        }
        let has_cell = matches!(self.cell, Cell::Lstm { .. });
        let r = if state == 0 { 0..0 } else { matrix("r", &self.r, all)? };
        Ok(RecurrentFootprint {
            x: lines("x", &self.x, all)?,
            r,
            r_packed: 0..if state == 0 { 0 } else { product(&[self.cell.gates(), self.packed()?])? },
            h: matrix("h", &self.h, batch)?,
            c: if has_cell { matrix("c", &self.c, batch)? } else { 0..0 },
            y,
            state,
            shared: product(&[self.cell.states(), state])?,
        })
    }

    /// Elements of a gate's packed weights.
    fn packed(&self) -> Result<usize, KernelError> {
        packed_gemm_len(self.hidden, self.hidden).ok_or(KernelError::Overflow)
    }

    /// Most parts that have work.
    pub fn parts(&self) -> usize {
        self.hidden.div_ceil(PANEL).max(self.batch)
    }

    /// Rows and panels of a part, and whether parts have to meet.
    fn split(&self, part: Part) -> (Range<usize>, Range<usize>, bool) {
        let panels = self.hidden.div_ceil(PANEL);
        if panels >= part.count {
            (0..self.batch, part.of(panels), part.count > 1)
        } else {
            (part.of(self.batch), 0..panels, false)
        }
    }

    /// Elements of scratch that one of `count` parts needs for sums, and for weights that it packs itself.
    pub fn scratch(&self, count: usize, packed: bool) -> Result<usize, KernelError> {
        let (rows, panels, _) = self.split(Part { index: 0, count: count.max(1) });
        let columns = panels.len().checked_mul(PANEL).ok_or(KernelError::Overflow)?;
        let sums = product(&[self.cell.gates(), rows.len().min(ROWS), columns + PAD])?;
        let weights = if packed { 0 } else { product(&[self.cell.gates(), columns, self.hidden])? };
        let all = sums.checked_add(weights).filter(|all| isize::try_from(*all).is_ok());
        all.ok_or(KernelError::Overflow)
    }
}

/// Runs one part of a layer. All parts run at once, `party` among as many as there are parts; `scratch` is this part's own.
///
/// # Errors
/// Arguments that do not fit the operands, and another part that has failed.
pub fn recurrent(
    kernels: &Kernels,
    args: &RecurrentArgs,
    operands: &RecurrentOperands<'_>,
    scratch: &mut [f32],
    part: Part,
    party: &Party<'_>,
) -> Result<(), KernelError> {
    part.check()?;
    if party.count() != part.count {
        return Err(KernelError::Args("another number of parts meets"));
    }
    let foot = args.footprint()?;
    check(args, &foot, operands)?;
    if foot.state == 0 {
        return Ok(());
    }
    let (rows, panels, meets) = args.split(part);
    if rows.is_empty() {
        return Ok(());
    }
    let own = matches!(operands.r, Weights::Strided(_));
    holds("scratch", &(0..args.scratch(part.count, !own)?), scratch.len())?;
    let cols = panels.start * PANEL..args.hidden.min(panels.end * PANEL);
    let sums_step = panels.len() * PANEL + PAD;
    let (sums, packed) = scratch.split_at_mut(args.cell.gates() * rows.len().min(ROWS) * sums_step);
    let mut run = Run {
        kernels,
        args,
        operands,
        rows,
        cols,
        panels,
        sums: sums.as_mut_ptr(),
        sums_step,
        weights: std::ptr::null(),
        gate: 0,
        state: foot.state,
        meets: meets.then_some(party),
    };
    // SAFETY: all footprints were checked above, the kernels can run here, and parts write disjoint rows or columns.
    unsafe {
        run.pack(packed);
        run.walk()
    }
}

/// Whether the operands hold what the arguments name.
fn check(
    args: &RecurrentArgs,
    foot: &RecurrentFootprint,
    operands: &RecurrentOperands<'_>,
) -> Result<(), KernelError> {
    let RecurrentOperands { x, r, h, c, weights, last, cell, shared, y, .. } = operands;
    holds("x", &foot.x, x.len())?;
    match r {
        Weights::Packed(r) => holds("packed r", &foot.r_packed, r.len())?,
        Weights::Strided(r) => holds("r", &foot.r, r.len())?,
    }
    holds("h", &foot.h, h.len())?;
    holds("c", &foot.c, c.len())?;
    holds("last", &(0..foot.state), last.len())?;
    holds("shared", &(0..foot.shared), shared.len())?;
    holds("y", &foot.y, y.len())?;
    let vector = |factor: usize| -> Result<(), KernelError> {
        let need = product(&[factor, args.hidden])?;
        weights.map_or(Ok(()), |w| holds("peephole weights or bias", &(0..need), w.len()))
    };
    match args.cell {
        Cell::Lstm { .. } => {
            holds("cell", &(0..foot.state), cell.len())?;
            vector(3)
        }
        Cell::Gru { linear_before_reset: true } if weights.is_none() => {
            Err(KernelError::Args("the bias is missing"))
        }
        _ => vector(1),
    }
}

/// A part being run.
struct Run<'a> {
    kernels: &'a Kernels,
    args: &'a RecurrentArgs,
    operands: &'a RecurrentOperands<'a>,
    rows: Range<usize>,
    /// Elements of the state.
    cols: Range<usize>,
    panels: Range<usize>,
    /// Sums of a block of rows, gate by gate.
    sums: *mut f32,
    /// Distance of rows of sums.
    sums_step: usize,
    /// Packed weights of the first own panel of the first gate.
    weights: *const f32,
    /// Distance of the gates' packed weights.
    gate: usize,
    /// Elements of a dense state.
    state: usize,
    /// Set if parts meet after every step.
    meets: Option<&'a Party<'a>>,
}

/// Which states in shared memory a pass reads and writes.
#[derive(Clone, Copy)]
struct Pass {
    update: Update,
    /// The first gate, and that after the last.
    gates: (usize, usize),
    /// The state that is multiplied.
    factor: usize,
    /// The hidden state before and after the step.
    before: usize,
    after: usize,
}

/// In shared memory, after the two hidden states: the scaled state and the update gate of a GRU.
const RESET: usize = 2;
const UPDATE: usize = 3;

/// All methods: the arguments are those of [`recurrent`], checked, for a state that is not empty.
impl Run<'_> {
    /// Finds the packed weights, or packs those of the own panels.
    ///
    /// # Safety
    /// Nobody else uses `own`, which has the room that [`RecurrentArgs::scratch`] says.
    unsafe fn pack(&mut self, own: &mut [f32]) {
        let RecurrentArgs { hidden, r: view, .. } = *self.args;
        let panel = hidden * PANEL;
        let r = match self.operands.r {
            Weights::Packed(r) => {
                self.gate = hidden.div_ceil(PANEL) * panel;
                self.weights = r.as_ptr().wrapping_add(self.panels.start * panel);
                return;
            }
            Weights::Strided(r) => r.as_ptr().wrapping_add(view.offset),
        };
        self.gate = self.panels.len() * panel;
        for (i, to) in
            own.chunks_exact_mut(panel).take(self.args.cell.gates() * self.panels.len()).enumerate()
        {
            let (gate, first) = (i / self.panels.len(), (self.panels.start + i % self.panels.len()) * PANEL);
            let from = r.wrapping_offset((gate * hidden + first).cast_signed().wrapping_mul(view.row));
            let cols = PANEL.min(hidden - first);
            // SAFETY: the rows are inside the weights, and a panel has room for `hidden` rows of 32.
            unsafe {
                pack_panel(self.kernels.turn, from, [view.col, view.row], hidden, cols, to.as_mut_ptr())
            };
        }
        self.weights = own.as_ptr();
    }

    /// All steps.
    ///
    /// # Safety
    /// Parts have disjoint rows or columns, and run at once.
    unsafe fn walk(&self) -> Result<(), KernelError> {
        let args = self.args;
        // SAFETY: the caller's promise; parts meet before one reads what another has written.
        unsafe {
            self.start();
            self.meet()?;
            for step in 0..args.steps {
                let (before, after) = (step % 2, (step + 1) % 2);
                let pass = |update, gates, factor| Pass { update, gates, factor, before, after };
                match args.cell {
                    Cell::Lstm { input_forget } => {
                        self.pass(step, pass(Update::Lstm { input_forget }, (0, 4), before))?;
                    }
                    Cell::Gru { linear_before_reset: true } => {
                        self.pass(step, pass(Update::Gru, (0, 3), before))?;
                    }
                    Cell::Gru { linear_before_reset: false } => {
                        self.pass(step, pass(Update::GruGates, (0, 2), before))?;
                        self.meet()?;
                        self.pass(step, pass(Update::GruCandidate, (2, 3), RESET))?;
                    }
                    Cell::Rnn => self.pass(step, pass(Update::Rnn, (0, 1), before))?,
                }
                self.meet()?;
            }
            for row in self.rows.clone() {
                let last = self.operands.last.as_ptr().add(row * args.hidden + self.cols.start);
                std::ptr::copy_nonoverlapping(self.state(args.steps % 2, row), last, self.cols.len());
            }
        }
        Ok(())
    }

    fn meet(&self) -> Result<(), KernelError> {
        match self.meets {
            Some(party) if !party.wait() => Err(KernelError::Args("another part has failed")),
            _ => Ok(()),
        }
    }

    /// Steps that a row takes.
    fn length(&self, row: usize) -> usize {
        (self.operands.length)(row).min(self.args.steps)
    }

    /// The own columns of a row of a state in shared memory.
    fn state(&self, state: usize, row: usize) -> *mut f32 {
        let at = state * self.state + row * self.args.hidden + self.cols.start;
        self.operands.shared.as_ptr().wrapping_add(at)
    }

    /// The own columns of a row's cell state.
    fn cell(&self, row: usize) -> *mut f32 {
        self.operands.cell.as_ptr().wrapping_add(row * self.args.hidden + self.cols.start)
    }

    /// The own columns of a line of the hidden states; null if they are not wanted.
    fn y(&self, step: usize, row: usize) -> *mut f32 {
        match &self.args.y {
            Some(view) => self.operands.y.as_ptr().wrapping_add(view.at(step, row) + self.cols.start),
            None => std::ptr::null_mut(),
        }
    }

    /// The first states, and zeros beyond the rows' ends.
    ///
    /// # Safety
    /// As for [`Self::walk`].
    unsafe fn start(&self) {
        let RecurrentArgs { steps, cell, h, c, y, .. } = *self.args;
        let at = |view: View, row: usize, col: usize| {
            let moved = row
                .cast_signed()
                .wrapping_mul(view.row)
                .wrapping_add(col.cast_signed().wrapping_mul(view.col));
            view.offset.wrapping_add_signed(moved)
        };
        for row in self.rows.clone() {
            for (i, col) in self.cols.clone().enumerate() {
                // SAFETY: the elements are inside the states; the written ones belong to this part.
                unsafe {
                    *self.state(0, row).add(i) = *self.operands.h.as_ptr().add(at(h, row, col));
                    if let Cell::Lstm { .. } = cell {
                        *self.cell(row).add(i) = *self.operands.c.as_ptr().add(at(c, row, col));
                    }
                }
            }
            if y.is_some() {
                for step in self.length(row)..steps {
                    // SAFETY: the line is inside y, and these columns of it belong to this part.
                    unsafe { std::ptr::write_bytes(self.y(step, row), 0, self.cols.len()) };
                }
            }
        }
    }

    /// One step, or one half of it.
    ///
    /// # Safety
    /// As for [`Self::walk`]; all parts have come to this pass.
    unsafe fn pass(&self, step: usize, pass: Pass) -> Result<(), KernelError> {
        let blocks = self.rows.len().div_ceil(ROWS);
        for block in 0..blocks {
            let piece = share(self.rows.len(), blocks, block);
            let rows = self.rows.start + piece.start..self.rows.start + piece.end;
            for gate in pass.gates.0..pass.gates.1 {
                // SAFETY: the caller's promise.
                unsafe { self.products(&rows, gate, pass.factor)? };
            }
            for (i, row) in rows.clone().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { self.row(step, pass, (row, i * self.sums_step), rows.len() * self.sums_step) };
            }
        }
        Ok(())
    }

    /// Products of rows of a state with the own columns of a gate's weights.
    ///
    /// # Safety
    /// As for [`Self::pass`].
    unsafe fn products(&self, rows: &Range<usize>, gate: usize, factor: usize) -> Result<(), KernelError> {
        let (kernels, hidden) = (self.kernels, self.args.hidden);
        let low = rows.len() <= kernels.gemm_low.tiles.len();
        let gemm = Gemm {
            turn: kernels.turn,
            kernel: if low { kernels.gemm_low } else { kernels.gemm },
            m: rows.len(),
            n: self.cols.len(),
            depth: hidden,
            taps: Taps::ONE,
            a: self.operands.shared.as_ptr().wrapping_add(factor * self.state + rows.start * hidden),
            a_step: 1,
            rows: Rows::Linear(hidden.cast_signed()),
            b: Operand::Packed(self.weights.wrapping_add(gate * self.gate)),
            bias: std::ptr::null(),
            limits: None,
            out: self.sums.wrapping_add(gate * rows.len() * self.sums_step),
            out_rows: Rows::Linear(self.sums_step.cast_signed()),
            batches: 1,
            batch: Batch::Dims(&[]),
        };
        // SAFETY: the rows are inside the state, which nobody writes in this pass; the sums are this part's own.
        unsafe { gemm.run(Part::WHOLE, None) }
    }

    /// Makes a row's next state of its sums, which start at `sums` and whose gates are `sums_step` apart.
    ///
    /// # Safety
    /// As for [`Self::pass`].
    unsafe fn row(&self, step: usize, pass: Pass, (row, sums): (usize, usize), sums_step: usize) {
        let (args, cols) = (self.args, self.cols.len());
        let next = self.state(pass.after, row);
        let length = self.length(row);
        // SAFETY: the caller's promise; all operands are own columns of a row, and lie apart.
        unsafe {
            if step >= length {
                if pass.update != Update::GruGates {
                    std::ptr::copy_nonoverlapping(self.state(pass.before, row), next, cols);
                }
                return;
            }
            let at = if args.reverse { length - 1 - step } else { step };
            let weights = optional(self.operands.weights);
            (self.kernels.cell)(&CellRow {
                update: pass.update,
                curve: self.kernels.curve,
                functions: &args.functions,
                clip: args.clip,
                cols,
                x: self.operands.x.as_ptr().wrapping_add(args.x.at(at, row) + self.cols.start),
                x_step: args.hidden,
                sums: self.sums.wrapping_add(sums),
                sums_step,
                weights: weights.wrapping_add(if weights.is_null() { 0 } else { self.cols.start }),
                hidden: args.hidden,
                h: self.state(pass.before, row),
                next,
                kept: match args.cell {
                    Cell::Lstm { .. } => self.cell(row),
                    _ => self.state(UPDATE, row),
                },
                reset: self.state(RESET, row),
            });
            if args.y.is_some() && pass.update != Update::GruGates {
                std::ptr::copy_nonoverlapping(next, self.y(at, row), cols);
            }
        }
    }
}
