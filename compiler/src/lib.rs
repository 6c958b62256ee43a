//! ONNX import, lowering and engine emission.
#![forbid(unsafe_code)]
