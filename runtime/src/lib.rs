//! autoglm's engine file and the small runtime that executes it.
//!
//! This crate knows nothing of ONNX, of the compiler's IR or of e-graphs: it runs kernel calls over byte ranges.

pub mod elem;
pub mod mapped;
pub mod program;
pub mod tile;
