//! Reading ONNX files: from bytes on disk to one flat, sorted graph of decoded messages.
//!
//! The order of things is [`file::open`] (sniff, map, prescan, decode), [`scope::normalise`] (inline functions,
//! resolve names, sort), then [`attrs::Attrs`] and [`tensor::decode`] for each node and tensor. Every step takes
//! hostile input: it answers with a [`error::ReadError`], and neither panics nor allocates more than the file justifies.

pub mod attrs;
mod beneath;
pub mod dtype;
pub mod encode;
pub mod error;
pub mod external;
pub mod file;
pub mod limits;
pub mod proto;
pub mod scope;
pub mod sniff;
pub mod sparse;
pub mod tensor;
pub mod wire;

pub use attrs::Attrs;
pub use dtype::OnnxType;
pub use error::{ReadError, Warning, shown};
pub use external::ExternalFiles;
pub use file::{ModelFile, from_bytes, open};
pub use limits::Limits;
pub use scope::{exporter_scope, node_opset, normalise, normalise_within};
pub use tensor::{Payload, RawTensor, StringTensor};
