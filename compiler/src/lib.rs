//! ONNX import, lowering and engine emission.
#![forbid(unsafe_code)]

pub mod accuracy;
pub mod codegen;
pub mod codes;
pub mod compile;
pub mod costs;
pub mod diag;
pub mod import;
pub mod lower;
pub mod onnx;
