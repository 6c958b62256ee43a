//! Opening a model file.

use super::error::{ReadError, code};
use super::limits::Limits;
use super::proto::ModelProto;
use super::wire::Census;
use super::{beneath, sniff, wire};
use bytes::Bytes;
use prost::Message as _;
use std::path::{Path, PathBuf};

/// A decoded model and where it came from. Tensor payloads share the memory of the file.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The model as the file has it.
    pub model: ModelProto,
    /// The directory that external data is looked up in; empty if the model came as bytes.
    pub dir: PathBuf,
    /// What the prescan counted.
    pub census: Census,
    bytes: Bytes,
    hash: Option<blake3::Hash>,
}

impl ModelFile {
    /// The BLAKE3 hash of the file's bytes (external data not included), computed on the first call.
    pub fn content_hash(&mut self) -> blake3::Hash {
        *self.hash.get_or_insert_with(|| blake3::hash(&self.bytes))
    }

    /// Length of the file.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the file is empty, which no readable model is.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Opens, checks and decodes a model file; its external data stays closed until a tensor needs it.
pub fn open(path: &Path, limits: &Limits) -> Result<ModelFile, ReadError> {
    let failed = |e: &std::io::Error| {
        ReadError::new(code::IO, format!("cannot read {}: {}", path.display(), beneath::reason(e)))
    };
    let file = beneath::open_trusted(path).map_err(|e| failed(&e))?;
    let facts = file.metadata().map_err(|e| failed(&e))?;
    if facts.is_dir() {
        return Err(ReadError::new(code::IO, format!("{} is a directory", path.display()))
            .help("Give the .onnx file in it."));
    }
    if !facts.is_file() {
        return Err(ReadError::new(code::IO, format!("{} is not a regular file", path.display())));
    }
    let bytes = beneath::contents(&file, limits.copy_files).map_err(|e| failed(&e))?;
    let mut model = from_bytes(bytes, limits)?;
    model.dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(model)
}

/// Checks and decodes a model. It has no directory, so external data is refused unless the caller sets one.
pub fn from_bytes(bytes: Bytes, limits: &Limits) -> Result<ModelFile, ReadError> {
    if let Some(kind) = sniff::sniff(&bytes) {
        return Err(kind.error());
    }
    let better = |e: ReadError| sniff::guess(&bytes).map_or(e, sniff::Kind::error);
    let census = wire::prescan(&bytes, limits).map_err(better)?;
    let model = ModelProto::decode(bytes.clone()).map_err(|e| {
        better(ReadError::new(code::SCHEMA, format!("the file does not follow the ONNX schema: {e}")))
    })?;
    if model.graph.is_none() {
        let what = "the file holds no graph";
        return Err(better(
            ReadError::new(code::NO_GRAPH, what)
                .help("It may be a single tensor (.pb) or another protobuf file."),
        ));
    }
    Ok(ModelFile { model, dir: PathBuf::new(), census, bytes, hash: None })
}
