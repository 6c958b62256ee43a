//! ONNX import, lowering and engine emission.
#![forbid(unsafe_code)]

pub mod diag;
pub mod import;
pub mod onnx;
