//! The engine file: writing one, and loading one that nobody vouches for.

pub mod format;
pub mod manifest;
mod read;
pub mod validate;
mod write;

pub use crate::error::EngineError;
pub use manifest::Manifest;
pub use read::Mode;
pub use write::EngineWriter;

use crate::program::Program;
use read::Source;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

// Weights are used as they lie in the file.
const _: () = assert!(cfg!(target_endian = "little"), "engines are little-endian");

/// A loaded, validated engine. Clones share it, and any number of sessions can use it at once.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    manifest: Manifest,
    program: Arc<Program>,
    source: Source,
    weights: Range<usize>,
    weights_hash: [u8; 32],
    sections: Vec<format::Section>,
    root_hash: [u8; 32],
}

impl Engine {
    /// Maps and validates an engine file. See [`Mode::Map`] for what that asks of the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(path, Mode::Map)
    }

    /// Loads and validates an engine file.
    pub fn open_with(path: impl AsRef<Path>, mode: Mode) -> Result<Self, EngineError> {
        Self::load(Source::open(path.as_ref(), mode)?)
    }

    /// Validates an engine in memory. It is copied unless it is aligned to 64 bytes.
    pub fn from_bytes(bytes: Arc<[u8]>) -> Result<Self, EngineError> {
        Self::load(Source::from_bytes(bytes)?)
    }

    fn load(source: Source) -> Result<Self, EngineError> {
        let parts = read::parse(source.bytes())?;
        validate::validate(&parts.program, parts.weights.len() as u64)?;
        validate::validate_tiles(&parts.program, &|tile, rank, reads, writes| {
            crate::tile::check(tile, rank, reads, writes).map(|_| ()).map_err(|e| e.to_string())
        })?;
        validate::validate_manifest(&parts.manifest, &parts.program)?;
        Ok(Self(Arc::new(Inner {
            manifest: parts.manifest,
            program: Arc::new(parts.program),
            source,
            weights: parts.weights,
            weights_hash: parts.weights_hash,
            sections: parts.sections,
            root_hash: parts.root_hash,
        })))
    }

    /// What the engine is.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// What the engine executes.
    pub fn program(&self) -> &Arc<Program> {
        &self.0.program
    }

    /// The weights section. Its bytes have not been compared with their hash: see [`Engine::verify_weights`].
    pub fn weights(&self) -> &[u8] {
        self.0.source.bytes().get(self.0.weights.clone()).unwrap_or_default()
    }

    /// Whether the file is mapped, so that it must not change while it is in use.
    pub fn is_mapped(&self) -> bool {
        matches!(self.0.source, Source::Map(_))
    }

    /// The sections of the file in the order in which they lie.
    pub fn sections(&self) -> &[format::Section] {
        &self.0.sections
    }

    /// The hash over all hashes of the file: equal for equal engines, different for different ones.
    pub fn root_hash(&self) -> [u8; 32] {
        self.0.root_hash
    }

    /// Reads all weights and compares them with their hash.
    pub fn verify_weights(&self) -> Result<(), EngineError> {
        let found = *blake3::hash(self.weights()).as_bytes();
        if found != self.0.weights_hash {
            return Err(format::hash_error("weights", found, self.0.weights_hash));
        }
        Ok(())
    }
}
