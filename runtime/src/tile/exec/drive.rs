//! Running of plans.

use super::code::{Op, is_native, lane_size};
use super::layout::{Access, Blocks, Nest, Rect, Rects, View};
use super::plan::Kind;
use super::{TileIsa, TilePlan, TileScratch, arith, convert, copy, memory};
use crate::tile::native::MAX_FOLDS;
use crate::tile::{Instr, MAX_RANK, SharedBytes, TileError};

/// Runs part `part` of `parts` of `plan`; all parts together do everything once, in any order or at the same time,
/// and write disjoint bytes. `reads` and `writes` are the values that the plan's accesses refer to.
pub fn run(
    plan: &TilePlan,
    isa: TileIsa,
    scratch: &mut TileScratch,
    reads: &[SharedBytes],
    writes: &[SharedBytes],
    part: usize,
    parts: usize,
) -> Result<(), TileError> {
    if plan.is_empty() {
        return Ok(());
    }
    plan.runs_with(isa)?;
    if part >= parts {
        return Err(TileError::Program("no such part"));
    }
    let reads_fit =
        reads.len() == plan.reads.len() && plan.reads.iter().zip(reads).all(|(a, r)| a.bytes <= r.len());
    let writes_fit =
        writes.len() == plan.writes.len() && plan.writes.iter().zip(writes).all(|(a, w)| a.bytes <= w.len());
    if !reads_fit || !writes_fit {
        return Err(TileError::Program("the values are not those that the plan was made for"));
    }
    let mut machine = Machine::new(plan, isa, scratch, reads, writes);
    // Results of folds across blocks are worth a piece each; else pieces begin at whole cache lines.
    let granule = if matches!(plan.kind, Kind::Across { .. }) { 1 } else { 16 };
    let mut rects = Rects::new(&plan.kept, plan.outer_points, (part, parts), granule).peekable();
    if rects.peek().is_none() {
        return Ok(());
    }
    // SAFETY: the plan's accesses are within the values, whose lengths were just checked, at every index of the loops;
    // the scratch fits the plan; the processor has the instruction set.
    unsafe {
        machine.run_once();
        for rect in rects {
            machine.run_rect(rect);
        }
    }
    Ok(())
}

/// Which set of element offsets an execution refers to.
#[derive(Clone, Copy)]
pub(super) enum At {
    /// A rectangle of kept points.
    Rect = 0,
    /// A block of kept points.
    Block = 1,
    /// A rectangle of reduced points at a kept one.
    ReducedRect = 2,
    /// A block of reduced points at a kept one, or one reduced point at a block of kept ones.
    Point = 3,
}

/// A plan being run. Its unsafe functions need what `run` has checked, and indices within the loops.
pub(super) struct Machine<'a> {
    pub(super) plan: &'a TilePlan,
    pub(super) isa: TileIsa,
    reads: &'a [SharedBytes],
    writes: &'a [SharedBytes],
    pub(super) registers: *mut u8,
    pub(super) lanes: &'a mut [*const u8],
    pub(super) addresses: &'a mut [*mut u8],
    pub(super) bases: &'a mut [Vec<i64>; 4],
    pub(super) folds: &'a mut [(u64, i64)],
    /// Index of each loop dimension; of the dimensions of a block, that of its first element.
    pub(super) index: [i64; MAX_RANK],
    /// The element of the first read's value that its memory begins with: not 0 where that holds a window of it.
    pub(super) origin: i64,
}

impl<'a> Machine<'a> {
    pub(super) fn new(
        plan: &'a TilePlan,
        isa: TileIsa,
        scratch: &'a mut TileScratch,
        reads: &'a [SharedBytes],
        writes: &'a [SharedBytes],
    ) -> Self {
        scratch.reserve(plan);
        let registers = scratch.registers();
        let TileScratch { lanes, addresses, bases, folds, .. } = scratch;
        let index = [0; MAX_RANK];
        Self { plan, isa, reads, writes, registers, lanes, addresses, bases, folds, index, origin: 0 }
    }

    fn access(&self, i: usize) -> &'a Access {
        let plan = self.plan;
        plan.reads.get(i).unwrap_or_else(|| &plan.writes[i - plan.reads.len()])
    }

    fn accesses(&self) -> usize {
        self.plan.reads.len() + self.plan.writes.len()
    }

    /// Moves to the point of `nest`'s outer dimensions that has the row-major position `position`.
    pub(super) fn seek(&mut self, outer: &[usize], mut position: i64) {
        for &d in outer.iter().rev() {
            let extent = self.plan.dims[d];
            self.index[d] = position % extent;
            position /= extent;
        }
    }

    /// Sets the offsets `to` to those of `from` (`None`: of the values) at the current index of `dims`.
    pub(super) fn place(&mut self, from: Option<At>, to: At, dims: &[usize]) {
        for i in 0..self.accesses() {
            let access = self.access(i);
            let first = if i == 0 { access.offset.wrapping_sub(self.origin) } else { access.offset };
            let start = from.map_or(first, |from| self.bases[from as usize][i]);
            let moved =
                |base: i64, d: &usize| base.wrapping_add(self.index[*d].wrapping_mul(access.strides[*d]));
            self.bases[to as usize][i] = dims.iter().fold(start, moved);
        }
    }

    /// Moves the index to the first element of `view` and sets the offsets `to` to it, from those at the outer dimensions.
    pub(super) fn enter(&mut self, nest: &Nest, view: View, from: At, to: At) {
        let dims = [nest.row, nest.col];
        for (dim, at) in dims.into_iter().zip(view.at) {
            if let Some(d) = dim {
                self.index[d] = at;
            }
        }
        for i in 0..self.accesses() {
            let access = self.access(i);
            let base = self.bases[from as usize][i];
            let base = base.wrapping_add(view.at[0].wrapping_mul(access.stride(nest.row)));
            self.bases[to as usize][i] = base.wrapping_add(view.at[1].wrapping_mul(access.stride(nest.col)));
        }
    }

    /// Runs what does not depend on the loops.
    pub(super) unsafe fn run_once(&mut self) {
        let plan = self.plan;
        self.place(None, At::Rect, &[]);
        let body_nest = if let Kind::Across { reduced } = &plan.kind { reduced } else { &plan.kept };
        // SAFETY: as for this function.
        unsafe {
            self.exec_point(&plan.body.once, body_nest, At::Rect, 0, body_nest.width());
            self.exec_point(
                &plan.epilogue.once,
                &plan.kept,
                At::Rect,
                plan.epilogue_lanes,
                plan.kept.width(),
            );
        }
    }

    pub(super) unsafe fn run_rect(&mut self, rect: Rect) {
        let plan = self.plan;
        let nest = &plan.kept;
        self.seek(&nest.outer, rect.outer);
        self.place(None, At::Rect, &nest.outer);
        // SAFETY: as for this function.
        unsafe {
            match &plan.kind {
                Kind::Nothing => {}
                Kind::Copy { arg, out } => self.copy(rect, *arg, *out),
                Kind::Map if plan.native.is_some() => {
                    if let Some(native) = &plan.native {
                        self.call(native, nest, rect, (At::Rect, At::Block), &mut [0; MAX_FOLDS]);
                    }
                }
                Kind::Map => {
                    self.exec_point(&plan.body.rect, nest, At::Rect, 0, rect_width(nest, rect));
                    for view in Blocks::new(nest, rect) {
                        self.enter(nest, view, At::Rect, At::Block);
                        self.exec(&plan.body.block, nest, At::Block, 0, view);
                    }
                }
                Kind::Across { reduced } => self.reduce_across(rect, reduced),
                Kind::Into { reduced } => self.reduce_into(rect, reduced),
            }
        }
    }

    unsafe fn copy(&mut self, rect: Rect, arg: usize, out: usize) {
        let nest = &self.plan.kept;
        let at = [rect.rows[0], rect.cols[0]];
        let rows = (rect.rows[1] - rect.rows[0]) as usize;
        let cols = (rect.cols[1] - rect.cols[0]) as usize;
        self.enter(nest, View { at, rows, cols }, At::Rect, At::Block);
        let (read, write) = (&self.plan.reads[arg], &self.plan.writes[out]);
        let size = read.elem.size();
        let strides = |a: &Access| [a.stride(nest.row) as isize, a.stride(nest.col) as isize];
        let area = copy::Area { rows, cols, from: strides(read), to: strides(write) };
        // SAFETY: as for this function.
        unsafe {
            let src = self.source(arg, At::Block);
            let dst = self.target(out, At::Block);
            // In place, each element is where it goes.
            if src != dst.cast_const() || area.from != area.to {
                copy::copy(size, src, dst, area);
            }
        }
    }

    pub(super) unsafe fn source(&self, arg: usize, at: At) -> *const u8 {
        let offset = self.bases[at as usize][arg] as isize * self.plan.reads[arg].elem.size() as isize;
        // SAFETY: the element lies within the value.
        unsafe { self.reads[arg].as_ptr().offset(offset) }
    }

    pub(super) unsafe fn target(&self, out: usize, at: At) -> *mut u8 {
        let base = self.bases[at as usize][self.plan.reads.len() + out];
        // SAFETY: the element lies within the value.
        unsafe {
            self.writes[out].as_ptr().offset(base as isize * self.plan.writes[out].elem.size() as isize)
        }
    }

    /// Runs `ops` on one element, and copies the results that blocks use to `width` elements.
    pub(super) unsafe fn exec_point(
        &mut self,
        ops: &[Op],
        nest: &Nest,
        at: At,
        first_lane: usize,
        width: usize,
    ) {
        for op in ops {
            // SAFETY: as for this function; registers have the width of a block.
            unsafe {
                self.exec(std::slice::from_ref(op), nest, at, first_lane, View::POINT);
                if op.fill {
                    convert::broadcast(op.result, self.registers.add(op.reg), width);
                }
            }
        }
    }

    /// Runs `ops` on the elements of `view`, whose first one has the offsets `at`.
    pub(super) unsafe fn exec(&mut self, ops: &[Op], nest: &Nest, at: At, first_lane: usize, view: View) {
        let (isa, n) = (self.isa, view.len());
        for op in ops {
            let lane = |id: u16| self.lanes[first_lane + usize::from(id)];
            // SAFETY: as for this function; operands are lanes that were defined before, with at least `n` elements,
            // and no register is that of an operand.
            unsafe {
                let register = self.registers.add(op.reg);
                let direct = op.direct.and_then(|out| self.direct(out, nest, at, view));
                let d = direct.unwrap_or(register);
                let mut result = d.cast_const();
                match op.instr {
                    Instr::Load { arg } => result = self.load(op, usize::from(arg), d, (nest, at, view)),
                    Instr::Const { bits, .. } if lane_size(op.lane) == 4 => {
                        d.cast::<u32>().write(bits as u32)
                    }
                    Instr::Const { bits, .. } => d.cast::<u64>().write(bits),
                    Instr::Index { dim } => self.indices(usize::from(dim), d, nest, view),
                    Instr::Unary(f, a) => arith::unary(isa, f, op.lane, d, lane(a), n),
                    Instr::Binary(f, a, b) => arith::binary(isa, f, op.lane, d, lane(a), lane(b), n),
                    Instr::Select { cond, a, b } => {
                        convert::select(isa, op.lane, d, lane(cond), lane(a), lane(b), n);
                    }
                    Instr::Convert { to, src } => convert::convert(isa, op.lane, to, d, lane(src), n),
                    Instr::Round { elem, saturate, src } => {
                        convert::round(isa, elem, saturate, d, lane(src), n);
                    }
                    Instr::Store { out, src } => {
                        let src = lane(src);
                        self.store(op, usize::from(out), src, (nest, at, view));
                    }
                }
                self.lanes[first_lane + op.id] = result;
            }
        }
    }

    /// The bytes of output `out` that `view` covers, if they can hold a lane as they are.
    unsafe fn direct(&self, out: u16, nest: &Nest, at: At, view: View) -> Option<*mut u8> {
        let out = usize::from(out);
        let access = &self.plan.writes[out];
        if !is_native(access.elem) || run_stride(access, nest, view) != Some(1) {
            return None;
        }
        // SAFETY: as for `exec`.
        let target = unsafe { self.target(out, at) };
        (target.addr().is_multiple_of(access.elem.size())).then_some(target)
    }

    /// Where the elements of a load are: in memory if they can stay there, else in `d`.
    unsafe fn load(&self, op: &Op, arg: usize, d: *mut u8, (nest, at, view): (&Nest, At, View)) -> *const u8 {
        let access = &self.plan.reads[arg];
        let elem = access.elem;
        // SAFETY: as for `exec`.
        unsafe {
            let src = self.source(arg, at);
            if let Some(stride) = run_stride(access, nest, view) {
                let aligned = src.addr().is_multiple_of(elem.size());
                if (stride == 1 || view.len() == 1) && is_native(elem) && aligned && !op.fill {
                    return src;
                }
                memory::load(self.isa, elem, src, stride, d, view.len());
                return d;
            }
            let [row, col] = [access.stride(nest.row), access.stride(nest.col)];
            if row == 1 {
                // Contiguous along the rows: gathered line by line first, else every element would be a cache miss.
                let stage = if is_native(elem) { d } else { self.registers.add(self.plan.stage) };
                let area = dense_area(view, [row, col]);
                copy::copy(elem.size(), src, stage, area);
                if !is_native(elem) {
                    memory::load(self.isa, elem, stage, 1, d, view.len());
                }
                return d;
            }
            for r in 0..view.rows {
                let src = src.offset(r as isize * row as isize * elem.size() as isize);
                let d = d.add(r * view.cols * lane_size(op.result));
                memory::load(self.isa, elem, src, col as isize, d, view.cols);
            }
            d
        }
    }

    unsafe fn store(&self, op: &Op, out: usize, src: *const u8, (nest, at, view): (&Nest, At, View)) {
        let access = &self.plan.writes[out];
        let elem = access.elem;
        // SAFETY: as for `exec`.
        unsafe {
            let dst = self.target(out, at);
            if let Some(stride) = run_stride(access, nest, view) {
                if !std::ptr::eq(dst, src) {
                    memory::store(self.isa, elem, dst, stride, src, view.len());
                }
                return;
            }
            let [row, col] = [access.stride(nest.row), access.stride(nest.col)];
            if row == 1 {
                // The counterpart of the gathering in `load`, with rows and columns exchanged.
                let stage = if is_native(elem) { src } else { self.registers.add(self.plan.stage) };
                if !is_native(elem) {
                    memory::store(self.isa, elem, stage.cast_mut(), 1, src, view.len());
                }
                let from = [1, view.cols as isize];
                let area = copy::Area { rows: view.cols, cols: view.rows, from, to: [col as isize, 1] };
                copy::copy(elem.size(), stage, dst, area);
                return;
            }
            for r in 0..view.rows {
                let dst = dst.offset(r as isize * row as isize * elem.size() as isize);
                let src = src.add(r * view.cols * lane_size(op.lane));
                memory::store(self.isa, elem, dst, col as isize, src, view.cols);
            }
        }
    }

    unsafe fn indices(&self, dim: usize, d: *mut u8, nest: &Nest, view: View) {
        let first = self.index[dim];
        for r in 0..view.rows {
            // SAFETY: as for `exec`.
            unsafe {
                let d = d.add(r * view.cols * 8);
                if nest.col == Some(dim) {
                    convert::count(d, first, view.cols);
                } else {
                    let in_row = if nest.row == Some(dim) { r as i64 } else { 0 };
                    convert::repeat(d, first + in_row, view.cols);
                }
            }
        }
    }
}

/// The stride of the elements of `view`, if they all are one stride apart.
fn run_stride(access: &Access, nest: &Nest, view: View) -> Option<isize> {
    let [row, col] = [access.stride(nest.row), access.stride(nest.col)];
    if view.rows == 1 {
        return Some(col as isize);
    }
    if view.cols == 1 {
        return Some(row as isize);
    }
    (col.checked_mul(view.cols as i64) == Some(row)).then_some(row as isize / view.cols as isize)
}

/// Rows and columns of `view`, to be made dense.
fn dense_area(view: View, from: [i64; 2]) -> copy::Area {
    let from = from.map(|stride| stride as isize);
    copy::Area { rows: view.rows, cols: view.cols, from, to: [view.cols as isize, 1] }
}

/// Elements of the largest block of `rect`.
pub(super) fn rect_width(nest: &Nest, rect: Rect) -> usize {
    let extent = |range: [i64; 2], block: i64| (range[1] - range[0]).min(block).max(1) as usize;
    extent(rect.rows, nest.block[0]) * extent(rect.cols, nest.block[1])
}
