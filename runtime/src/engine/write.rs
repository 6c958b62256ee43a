//! Writing engines: weights are streamed, so memory does not grow with the model.

use super::format::{self, PAGE, Section, SectionKind, WEIGHT_ALIGN, align_up};
use super::manifest::Manifest;
use crate::error::EngineError;
use crate::program::Program;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes one engine, to a file or to memory.
///
/// A file appears under its name only when [`EngineWriter::finish`] succeeds, complete and synced; until then the
/// bytes are in a temporary file beside it, which is removed when the writer is dropped.
pub struct EngineWriter {
    sink: Sink,
    /// Bytes of the weights section so far.
    len: u64,
    hasher: blake3::Hasher,
    /// Where each distinct constant is.
    known: HashMap<[u8; 32], (u64, u64)>,
}

enum Sink {
    Memory(Vec<u8>),
    File(TempFile),
}

impl EngineWriter {
    /// Starts an engine that will be at `path`.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::new(Sink::File(TempFile::create(path.as_ref())?))
    }

    /// Starts an engine in memory.
    pub fn in_memory() -> Result<Self, EngineError> {
        Self::new(Sink::Memory(Vec::new()))
    }

    fn new(mut sink: Sink) -> Result<Self, EngineError> {
        // The weights come first because their hash and length are known last; the first page is filled in at the end.
        sink.append(&[0; PAGE as usize])?;
        Ok(Self { sink, len: 0, hasher: blake3::Hasher::new(), known: HashMap::new() })
    }

    /// Stores a constant and gives its offset within the weights section and its length, as
    /// [`crate::program::Storage::Const`] wants them. Equal bytes are stored once.
    pub fn add_weight(&mut self, bytes: &[u8]) -> Result<(u64, u64), EngineError> {
        let hash = *blake3::hash(bytes).as_bytes();
        if let Some(place) = self.known.get(&hash) {
            return Ok(*place);
        }
        let too_large = || EngineError::Write("the weights section exceeds 2^64 bytes".into());
        let offset = align_up(self.len, WEIGHT_ALIGN).ok_or_else(too_large)?;
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(too_large)?;
        let padding = [0; WEIGHT_ALIGN as usize];
        for part in [&padding[..(offset - self.len) as usize], bytes] {
            self.hasher.update(part);
            self.sink.append(part)?;
        }
        self.len = end;
        let place = (offset, bytes.len() as u64);
        self.known.insert(hash, place);
        Ok(place)
    }

    /// Completes the engine. A writer to memory gives its bytes, a writer to a file an empty vector.
    pub fn finish(mut self, manifest: &Manifest, program: &Program) -> Result<Vec<u8>, EngineError> {
        let program = postcard::to_allocvec(program)
            .map_err(|e| EngineError::Write(format!("the program cannot be encoded: {e}")))?;
        let weights_hash = *self.hasher.finalize().as_bytes();
        let mut end = PAGE + self.len;
        let mut sections =
            vec![Section { kind: SectionKind::Weights, offset: PAGE, len: self.len, hash: weights_hash }];
        let control = [(SectionKind::Manifest, manifest.to_bytes()), (SectionKind::Program, program)];
        for (kind, bytes) in control {
            let len = bytes.len() as u64;
            if len > kind.limit() {
                return Err(EngineError::Limit {
                    what: format!("length of the {} section", kind.name()),
                    value: len,
                    limit: kind.limit(),
                });
            }
            let offset = align_up(end, PAGE)
                .ok_or_else(|| EngineError::Write("the engine exceeds 2^64 bytes".into()))?;
            self.sink.append(&vec![0; (offset - end) as usize])?;
            self.sink.append(&bytes)?;
            sections.push(Section { kind, offset, len, hash: *blake3::hash(&bytes).as_bytes() });
            end = offset + len;
        }
        self.sink.finish(&format::encode_head(&sections, end))
    }
}

impl Sink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        match self {
            Self::Memory(out) => out.extend_from_slice(bytes),
            Self::File(file) => file.with("write", |f| f.write_all(bytes))?,
        }
        Ok(())
    }

    fn finish(self, head: &[u8]) -> Result<Vec<u8>, EngineError> {
        match self {
            Self::Memory(mut out) => {
                out[..head.len()].copy_from_slice(head);
                Ok(out)
            }
            Self::File(mut file) => {
                file.with("write", |f| {
                    f.seek(SeekFrom::Start(0))?;
                    f.write_all(head)
                })?;
                file.with("sync", |f| {
                    f.flush()?;
                    f.get_ref().sync_all()
                })?;
                file.publish()?;
                Ok(Vec::new())
            }
        }
    }
}

/// A file beside its target that is removed on drop unless it was renamed to the target.
struct TempFile {
    file: Option<BufWriter<File>>,
    temp: PathBuf,
    target: PathBuf,
    published: bool,
}

impl TempFile {
    fn create(target: &Path) -> Result<Self, EngineError> {
        let error = |source| EngineError::Io { action: "create", path: target.to_path_buf(), source };
        let name = target.file_name().ok_or_else(|| {
            error(io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file"))
        })?;
        // Names are taken in order, and only by creating them, so concurrent writers never share a file.
        for attempt in 0..1000u32 {
            let mut temp_name = std::ffi::OsString::from(".");
            temp_name.push(name);
            temp_name.push(format!(".{}-{attempt}.tmp", std::process::id()));
            let temp = target.with_file_name(temp_name);
            match OpenOptions::new().write(true).create_new(true).open(&temp) {
                Ok(file) => {
                    let target = target.to_path_buf();
                    let file = Some(BufWriter::with_capacity(1 << 20, file));
                    return Ok(Self { file, temp, target, published: false });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(error(e)),
            }
        }
        Err(error(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "no free name for a temporary file beside it",
        )))
    }

    fn with<T>(
        &mut self,
        action: &'static str,
        f: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
    ) -> Result<T, EngineError> {
        let result = match &mut self.file {
            Some(file) => f(file),
            None => Err(io::Error::other("the file is closed")),
        };
        result.map_err(|source| EngineError::Io { action, path: self.target.clone(), source })
    }

    fn publish(mut self) -> Result<(), EngineError> {
        self.file = None;
        let error = |source| EngineError::Io { action: "create", path: self.target.clone(), source };
        fs::rename(&self.temp, &self.target).map_err(error)?;
        self.published = true;
        // Not all file systems can sync a directory, and the engine is complete under its name either way.
        let _ = sync_directory(&self.target);
        Ok(())
    }
}

/// Makes the rename itself durable where directories can be synced.
fn sync_directory(file: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match file.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published {
            self.file = None;
            // Nothing can be done about a failure here, and the writer has already reported its own.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_beyond_the_offsets_of_the_format_are_refused() {
        let mut writer = EngineWriter::in_memory().unwrap();
        writer.len = u64::MAX - 100;
        assert_eq!(writer.add_weight(&[1; 200]).unwrap_err().code(), "E0511");
    }
}
