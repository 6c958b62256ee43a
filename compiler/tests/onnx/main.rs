//! The ONNX file reader as a whole: files of other writers, hostile files, and files beside the model.

#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod differential;
mod external;
mod hostile;
