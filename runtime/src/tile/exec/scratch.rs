//! Working memory of a worker.

use super::TilePlan;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

/// Registers and loop state of one worker, reused from plan to plan.
#[derive(Default)]
pub struct TileScratch {
    registers: Vec<Line>,
    /// Where each lane's elements are; valid only within one block.
    pub(super) lanes: Vec<*const u8>,
    /// Where compiled loops find the first element of each access; valid only within one call.
    pub(super) addresses: Vec<*mut u8>,
    /// Element offsets of all accesses, indexed by [`super::drive::At`].
    pub(super) bases: [Vec<i64>; 4],
    /// Value bits and position of each fold across a block.
    pub(super) folds: Vec<(u64, i64)>,
}

// SAFETY: the pointers in `lanes` and `addresses` are written before they are read within one `run`, which stays on one thread.
unsafe impl Send for TileScratch {}

impl TileScratch {
    /// Memory that fits no plan yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it large enough for `plan`.
    pub fn reserve(&mut self, plan: &TilePlan) {
        fn grow<T: Clone>(v: &mut Vec<T>, len: usize, value: T) {
            if v.len() < len {
                v.resize(len, value);
            }
        }
        grow(&mut self.registers, plan.register_bytes.div_ceil(64), Line { _bytes: [0; 64] });
        grow(&mut self.lanes, plan.lanes, std::ptr::null());
        grow(&mut self.addresses, plan.reads.len() + plan.writes.len(), std::ptr::null_mut());
        for bases in &mut self.bases {
            grow(bases, plan.reads.len() + plan.writes.len(), 0);
        }
        grow(&mut self.folds, plan.folds.len(), (0, 0));
    }

    pub(super) fn registers(&mut self) -> *mut u8 {
        self.registers.as_mut_ptr().cast()
    }
}
