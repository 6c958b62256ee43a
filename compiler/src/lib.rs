//! ONNX import, lowering and engine emission.
#![forbid(unsafe_code)]

<<<<<<< HEAD
pub mod compile;
pub mod diag;
pub mod import;
pub mod lower;
=======
>>>>>>> h-onnx
pub mod onnx;
