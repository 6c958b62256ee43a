//! Compiled inner loops: what is compiled, by whom, and where the results are kept.
//!
//! A [`super::TilePlan`] has proved where every access goes before any code exists; compiled code replaces only the
//! interpreter's work between "the first element of each access is here" and "these rows and columns are done". It
//! therefore touches the same elements, and gives the same bits, except that sums and products of floats may be added
//! up in another order.

mod cache;
pub mod coefficients;
mod publish;
mod select;

pub use cache::{CodeCache, CodeCounts};
pub use publish::Function;
pub(crate) use select::compile_loops;

use super::exec::TileIsa;
use super::{Instr, Lane, Reduce};
use crate::elem::ElemType;

pub use super::exec::helpers::{Helper, binary_helper, unary_helper};

/// Most reductions of a compiled loop.
pub const MAX_FOLDS: usize = 8;

/// How an operand moves from one column to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The loop does not touch it.
    Unused,
    /// It stays at one element.
    Broadcast,
    /// By one element.
    Dense,
    /// By the number of bytes in [`Frame::col_steps`].
    Strided,
}

/// One of a loop's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Element type in memory, at any alignment.
    pub elem: ElemType,
    /// Movement along the columns; every operand may move along the rows.
    pub step: Step,
}

/// A loop over rows and columns whose body is compiled: a map if `folds` is empty, else a fold of body lanes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoopSpec {
    /// The instructions that the code may use; it is not asked for where the processor lacks them.
    pub isa: TileIsa,
    /// Instruction `i` defines lane `i`, at every point. All loads of a point come before its stores.
    pub body: Vec<Instr>,
    /// Type of each lane; `None` for stores.
    pub lanes: Vec<Option<Lane>>,
    /// What `Load` refers to.
    pub reads: Vec<Operand>,
    /// What `Store` refers to.
    pub writes: Vec<Operand>,
    /// Folds of body lanes over all rows and columns, in any order; never arg folds.
    pub folds: Vec<Reduce>,
    /// The dimensions that `Index` finds in the rows and in the columns; other dimensions do not change.
    pub block_dims: [Option<u8>; 2],
}

/// What compiled code is given: addresses of 8 bytes each, at the offsets in [`frame`].
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// Rows, at least 1.
    pub rows: i64,
    /// Columns, at least 1.
    pub cols: i64,
    /// First element of every read, then of every write. Those of unused operands mean nothing.
    pub bases: *const *mut u8,
    /// Bytes from one row to the next, in the same order.
    pub row_steps: *const i64,
    /// Bytes from one column to the next, in the same order.
    pub col_steps: *const i64,
    /// Index of every loop dimension at the first row and column.
    pub index: *const i64,
    /// Accumulators of the folds: read, folded into, written. Sums and products of f32 are f64; an f32 is in the low half.
    pub state: *mut u64,
    /// The table that [`unary_helper`] and [`binary_helper`] give positions in.
    pub helpers: *const Helper,
}

/// Offsets in a [`Frame`], in bytes.
#[allow(missing_docs, reason = "named as the fields of Frame")]
pub mod frame {
    use super::Frame;
    use std::mem::offset_of;

    pub const ROWS: i32 = offset_of!(Frame, rows) as i32;
    pub const COLS: i32 = offset_of!(Frame, cols) as i32;
    pub const BASES: i32 = offset_of!(Frame, bases) as i32;
    pub const ROW_STEPS: i32 = offset_of!(Frame, row_steps) as i32;
    pub const COL_STEPS: i32 = offset_of!(Frame, col_steps) as i32;
    pub const INDEX: i32 = offset_of!(Frame, index) as i32;
    pub const STATE: i32 = offset_of!(Frame, state) as i32;
    pub const HELPERS: i32 = offset_of!(Frame, helpers) as i32;
}

/// Why a loop stays with the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0}")]
pub struct Declined(pub &'static str);

/// A compiler of loops.
///
/// # Trust
/// A session runs the bytes that its provider returns, so a provider is trusted like code of this program; one that is
/// wrong can do anything. Whoever implements it promises that the bytes are a function
/// `extern "C" fn(*const Frame)` of this host at offset 0, position independent and complete, which for every frame
/// that fits the spec reads and writes only the elements that the spec's loads and stores visit at the frame's
/// addresses and steps, the arrays of the frame within the operands, loop dimensions and folds of the spec,
/// and its own stack; which does not unwind; and which computes what [`super::scalar`] computes, sums and products of
/// floats up to their order. No bytes of an engine file ever take this way.
pub trait CodeProvider: Send + Sync + std::fmt::Debug {
    /// How many element-instructions the loops of `spec` must execute in one run before machine code saves the time in
    /// that very run that it takes to make it.
    fn worth(&self, spec: &LoopSpec) -> u64;

    /// Machine code for a loop.
    fn compile(&self, spec: &LoopSpec) -> Result<Vec<u8>, Declined>;
}
