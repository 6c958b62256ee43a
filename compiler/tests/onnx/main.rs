//! The ONNX file reader as a whole: files of other writers, hostile files, and files beside the model.

mod differential;
mod external;
mod hostile;
