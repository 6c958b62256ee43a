//! Running of reductions.

use super::drive::{At, Machine, rect_width};
use super::fold;
use super::layout::{Blocks, Nest, Rect, View};
use super::native::Native;
use super::{convert, fold::identity};
use crate::tile::native::MAX_FOLDS;
use crate::tile::{Lane, ReduceOp};

impl Machine<'_> {
    /// Folds across blocks of reduced points, one kept point after the other.
    pub(super) unsafe fn reduce_across(&mut self, rect: Rect, reduced: &Nest) {
        let plan = self.plan;
        let nest = &plan.kept;
        let width = rect_width(nest, rect);
        // SAFETY: as for this function.
        unsafe {
            self.exec_point(&plan.epilogue.rect, nest, At::Rect, plan.epilogue_lanes, width);
            for view in Blocks::new(nest, rect) {
                for row in 0..view.rows {
                    for col in 0..view.cols {
                        let at = [view.at[0] + row as i64, view.at[1] + col as i64];
                        self.enter(nest, View { at, rows: 1, cols: 1 }, At::Rect, At::Block);
                        self.fold_point(reduced);
                        self.keep(row * view.cols + col);
                    }
                }
                self.enter(nest, view, At::Rect, At::Block);
                self.finish(nest, view);
            }
        }
    }

    /// Folds all reduced points of one kept point, whose offsets are in `At::Block`.
    unsafe fn fold_point(&mut self, reduced: &Nest) {
        let plan = self.plan;
        for (state, fold) in self.folds.iter_mut().zip(&plan.folds) {
            *state = (identity(fold.op, fold.lane), 0);
        }
        let outer: i64 = reduced.outer.iter().map(|&d| plan.dims[d]).product();
        let mut position = 0;
        for outer in 0..outer {
            self.seek(&reduced.outer, outer);
            self.place(Some(At::Block), At::ReducedRect, &reduced.outer);
            let rect = Rect { outer, rows: [0, reduced.extent[0]], cols: [0, reduced.extent[1]] };
            if let Some(native) = &plan.native {
                // SAFETY: as for this function.
                unsafe { self.call_fold(native, reduced, rect) };
                continue;
            }
            // SAFETY: as for this function.
            unsafe {
                self.exec_point(&plan.body.rect, reduced, At::ReducedRect, 0, rect_width(reduced, rect));
                for view in Blocks::new(reduced, rect) {
                    self.enter(reduced, view, At::ReducedRect, At::Point);
                    self.exec(&plan.body.block, reduced, At::Point, 0, view);
                    self.fold_block(view.len(), position);
                    position += view.len() as i64;
                }
            }
        }
    }

    /// Folds a rectangle of reduced points into the states with a compiled loop.
    unsafe fn call_fold(&mut self, native: &Native, reduced: &Nest, rect: Rect) {
        let mut state = [0; MAX_FOLDS];
        state.iter_mut().zip(&*self.folds).for_each(|(s, fold)| *s = fold.0);
        // SAFETY: as for this function.
        unsafe { self.call(native, reduced, rect, (At::ReducedRect, At::Point), &mut state) };
        self.folds.iter_mut().zip(state).for_each(|(fold, s)| fold.0 = s);
    }

    /// Folds a block of `n` elements at `position` into the states.
    unsafe fn fold_block(&mut self, n: usize, position: i64) {
        for (state, fold) in self.folds.iter_mut().zip(&self.plan.folds) {
            let src = self.lanes[fold.src];
            // SAFETY: the source is a lane of the block.
            let value = unsafe { fold::across(self.isa, fold.op, fold.lane, src, n) };
            if !fold.op.is_arg() {
                state.0 = fold::combine(fold.op, fold.lane, state.0, value);
            } else if position == 0 || fold::replaces(fold.op, fold.lane, value, state.0) {
                let last = matches!(fold.op, ReduceOp::ArgMaxLast | ReduceOp::ArgMinLast);
                // SAFETY: as above.
                let found = unsafe { fold::find(fold.lane, value, last, src, n) };
                *state = (value, position + found.unwrap_or(0) as i64);
            }
        }
    }

    /// Writes the states to element `i` of the accumulators.
    unsafe fn keep(&mut self, i: usize) {
        for (state, fold) in self.folds.iter().zip(&self.plan.folds) {
            // SAFETY: the registers have the width of a block of kept points.
            unsafe {
                if fold.op.is_arg() {
                    self.registers.add(fold.at).cast::<i64>().add(i).write(state.1);
                } else if fold::accumulator(fold.op, fold.lane) == Lane::F32 {
                    self.registers.add(fold.acc).cast::<u32>().add(i).write(state.0 as u32);
                } else {
                    self.registers.add(fold.acc).cast::<u64>().add(i).write(state.0);
                }
            }
        }
    }

    /// Folds one reduced point after the other into a block of kept points.
    pub(super) unsafe fn reduce_into(&mut self, rect: Rect, reduced: &[usize]) {
        let plan = self.plan;
        let nest = &plan.kept;
        let width = rect_width(nest, rect);
        // SAFETY: as for this function.
        unsafe {
            self.exec_point(&plan.epilogue.rect, nest, At::Rect, plan.epilogue_lanes, width);
            for view in Blocks::new(nest, rect) {
                self.enter(nest, view, At::Rect, At::Block);
                self.clear(view.len());
                for position in 0..plan.reduced_points {
                    self.seek(reduced, position);
                    self.place(Some(At::Block), At::Point, reduced);
                    self.exec_point(&plan.body.rect, nest, At::Point, 0, view.len());
                    self.exec(&plan.body.block, nest, At::Point, 0, view);
                    self.fold_into(view.len(), position);
                }
                self.finish(nest, view);
            }
        }
    }

    /// Sets `n` elements of the accumulators to the identity.
    unsafe fn clear(&mut self, n: usize) {
        for fold in &self.plan.folds {
            let lane = fold::accumulator(fold.op, fold.lane);
            let bits = identity(fold.op, fold.lane);
            // SAFETY: the registers have the width of a block of kept points.
            unsafe {
                let acc = self.registers.add(fold.acc);
                match lane {
                    Lane::F32 => acc.cast::<u32>().write(bits as u32),
                    _ => acc.cast::<u64>().write(bits),
                }
                convert::broadcast(lane, acc, n);
                if fold.op.is_arg() {
                    convert::repeat(self.registers.add(fold.at), 0, n);
                }
            }
        }
    }

    unsafe fn fold_into(&mut self, n: usize, position: i64) {
        for fold in &self.plan.folds {
            let src = self.lanes[fold.src];
            // SAFETY: the source is a lane of the block; the registers have its width and are not lanes of the body.
            unsafe {
                let acc = self.registers.add(fold.acc);
                if fold.op.is_arg() {
                    let at = self.registers.add(fold.at);
                    fold::arg_into(self.isa, fold.op, fold.lane, [acc, at], src, n, position);
                } else {
                    fold::into(self.isa, fold.op, fold.lane, acc, src, n);
                }
            }
        }
    }

    /// Turns accumulators into lanes and runs the epilogue on a block, whose offsets are in `At::Block`.
    unsafe fn finish(&mut self, nest: &Nest, view: View) {
        let plan = self.plan;
        for (j, fold) in plan.folds.iter().enumerate() {
            // SAFETY: the registers have the width of a block of kept points.
            unsafe {
                let result = self.registers.add(fold.result);
                if fold::accumulator(fold.op, fold.lane) != fold.lane {
                    let acc = self.registers.add(fold.acc);
                    convert::convert(self.isa, Lane::F64, fold.lane, result, acc, view.len());
                }
                self.lanes[plan.epilogue_lanes + j] = result;
            }
        }
        // SAFETY: as for this function.
        unsafe { self.exec(&plan.epilogue.block, nest, At::Block, plan.epilogue_lanes, view) };
    }
}
