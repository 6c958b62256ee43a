//! ONNX import, lowering and engine emission.
#![forbid(unsafe_code)]

pub mod onnx;
