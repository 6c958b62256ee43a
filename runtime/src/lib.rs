//! autoglm's engine file and the small runtime that executes it.
//!
//! This crate knows nothing of ONNX, of the compiler's IR or of e-graphs: it runs kernel calls over byte ranges.

pub mod arena;
pub mod barrier;
pub mod codes;
pub mod cpu;
pub mod elem;
pub mod engine;
pub mod error;
pub mod mapped;
pub mod memory;
pub mod plan;
pub mod program;
pub mod session;
pub mod shape;
pub mod steps;
pub mod tensor;
pub mod threads;
pub mod tile;
