//! The fast executor: tile programs over blocks of up to 512 elements a lane.
//!
//! A [`TilePlan`] fixes everything that depends on the extents: it proves that every access stays within its value,
//! merges and orders the loops, picks the dimension that the loops over a block run along and assigns registers.
//! Running it allocates nothing once the [`TileScratch`] is large enough.

mod arith;
mod code;
mod convert;
mod copy;
mod drive;
mod fold;
pub(in crate::tile) mod helpers;
mod isa;
mod layout;
mod memory;
mod native;
mod ops;
mod plan;
mod reduce;
mod scratch;
mod window;

pub use drive::run;
pub use isa::TileIsa;
pub use plan::{ConcreteAccess, TilePlan};
pub use scratch::TileScratch;
pub use window::{Rows, WindowPlan, Windows};

/// Most elements of a block.
const BLOCK: i64 = 512;
