//! CPU execution: instruction sets, packed weight layouts and the f32 microkernels.
//!
//! **Invariant:** every entry in [`kernels`] checks the footprint of its arguments against the slices it was given
//! before the first access, so wrong arguments give a [`kernels::KernelError`], never an access out of bounds.
//!
//! **Invariant:** for fixed arguments the result does not depend on how many parts the work is split into.

pub mod emit;
pub mod features;
pub mod kernels;
pub mod pack;
pub mod scattered;
pub mod shared;
pub mod sparse;

pub use features::Isa;
pub use shared::SharedMut;
