//! Reading engines. The file is taken to be hostile: nothing in it is believed before it is checked.

use super::format::{self, HEADER_LEN, PAGE, Section, SectionKind};
use super::manifest::Manifest;
use crate::error::EngineError;
use crate::memory::AlignedBuf;
use crate::program::Program;
use memmap2::Mmap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How to get at an engine's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Maps the file: loading is fast and processes share the weights, but the file must not be changed while an
    /// engine uses it. A changed file gives wrong results, a truncated one ends the process.
    #[default]
    Map,
    /// Reads the whole file into memory.
    Read,
}

/// The bytes of an engine file.
#[derive(Debug)]
pub(super) enum Source {
    Map(Mmap),
    Heap(AlignedBuf),
    Shared(Arc<[u8]>),
}

impl Source {
    pub(super) fn open(path: &Path, mode: Mode) -> Result<Self, EngineError> {
        let error = |action, source| EngineError::Io { action, path: path.to_path_buf(), source };
        // Looked at before it is opened too, because opening a pipe would wait for a writer.
        let regular = std::fs::metadata(path).map_err(|e| error("open", e))?.is_file();
        if !regular {
            return Err(error("open", std::io::Error::other("not a regular file")));
        }
        let mut file = File::open(path).map_err(|e| error("open", e))?;
        let meta = file.metadata().map_err(|e| error("inspect", e))?;
        let len = usize::try_from(meta.len())
            .map_err(|_| limit("length of the engine", meta.len(), usize::MAX as u64))?;
        if len < HEADER_LEN || mode == Mode::Read {
            let mut buf = allocate(len)?;
            file.read_exact(&mut buf).map_err(|e| error("read", e))?;
            return Ok(Self::Heap(buf));
        }
        // SAFETY: the mapping is read only and private. `Mode::Map` passes on to the caller that the file must stay as
        // it is; control sections are copied before they are checked, so a change cannot get past validation, and
        // bytes read later are only ever plain numbers.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| error("map", e))?;
        Ok(Self::Map(map))
    }

    /// Shares `bytes` if its weights happen to be aligned, else copies them.
    pub(super) fn from_bytes(bytes: Arc<[u8]>) -> Result<Self, EngineError> {
        if bytes.as_ptr().addr().is_multiple_of(crate::memory::ALIGN) {
            return Ok(Self::Shared(bytes));
        }
        let mut buf = allocate(bytes.len())?;
        buf.copy_from_slice(&bytes);
        Ok(Self::Heap(buf))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Heap(buf) => buf,
            Self::Shared(bytes) => bytes,
        }
    }
}

fn allocate(len: usize) -> Result<AlignedBuf, EngineError> {
    AlignedBuf::zeroed(len).map_err(|_| limit("length of the engine", len as u64, isize::MAX as u64))
}

fn limit(what: &str, value: u64, limit: u64) -> EngineError {
    EngineError::Limit { what: what.into(), value, limit }
}

/// The decoded parts of a file whose control sections have their hashes. The program is not validated yet.
pub(super) struct Parts {
    pub(super) manifest: Manifest,
    pub(super) program: Program,
    pub(super) weights: Range<usize>,
    pub(super) weights_hash: [u8; 32],
    pub(super) sections: Vec<Section>,
    pub(super) root_hash: [u8; 32],
}

/// Checks layout and hashes and decodes the control sections.
pub(super) fn parse(file: &[u8]) -> Result<Parts, EngineError> {
    let file_len = file.len() as u64;
    // A mapped file may change between two looks at it, so what is checked is a copy, and the copy is what is used.
    // Header and table always fit the first page.
    let start = file.get(..PAGE as usize).unwrap_or(file).to_vec();
    if let Some(damage) = format::damage(&start) {
        return Err(damage);
    }
    let head_len = format::head_len(start.get(..HEADER_LEN).unwrap_or(&start), file_len)?;
    let mut head = start;
    head.truncate(head_len);
    let (sections, root_hash) = format::decode_head(&head, file_len)?;
    check_padding(file, head_len, &sections)?;
    let manifest = control(file, &sections, SectionKind::Manifest)?;
    let manifest = Manifest::from_bytes(&manifest).map_err(|e| decode("manifest", &e))?;
    let program = control(file, &sections, SectionKind::Program)?;
    let (program, rest) = postcard::take_from_bytes(&program).map_err(|e| decode("program", &e))?;
    if !rest.is_empty() {
        return Err(decode("program", &format!("{} bytes follow the program", rest.len())));
    }
    let weights = find(&sections, SectionKind::Weights)?;
    let (weights, weights_hash) = (range(weights)?, weights.hash);
    Ok(Parts { manifest, program, weights, weights_hash, sections, root_hash })
}

fn decode(section: &'static str, detail: &dyn std::fmt::Display) -> EngineError {
    EngineError::Decode { section, detail: detail.to_string() }
}

fn find(sections: &[Section], kind: SectionKind) -> Result<&Section, EngineError> {
    sections
        .iter()
        .find(|s| s.kind == kind)
        .ok_or_else(|| EngineError::Layout(format!("there is no {} section", kind.name())))
}

fn range(section: &Section) -> Result<Range<usize>, EngineError> {
    let index = |n: u64| usize::try_from(n).map_err(|_| limit("section end", n, usize::MAX as u64));
    Ok(index(section.offset)?..index(section.offset.saturating_add(section.len))?)
}

/// A heap copy of a control section that has the hash it should have.
fn control(file: &[u8], sections: &[Section], kind: SectionKind) -> Result<Vec<u8>, EngineError> {
    let section = find(sections, kind)?;
    let bytes = file
        .get(range(section)?)
        .ok_or_else(|| EngineError::Layout(format!("the {} section is outside the file", kind.name())))?
        .to_vec();
    let found = *blake3::hash(&bytes).as_bytes();
    if found != section.hash {
        return Err(format::hash_error(kind.name(), found, section.hash));
    }
    Ok(bytes)
}

/// Bytes between sections are zero, so no byte of a file is free to vary.
fn check_padding(file: &[u8], head_len: usize, sections: &[Section]) -> Result<(), EngineError> {
    let mut end = head_len;
    for section in sections {
        let next = range(section)?;
        let gap = file.get(end..next.start).unwrap_or_default();
        debug_assert!(gap.len() < PAGE as usize, "decode_head checked that sections are contiguous");
        if let Some(at) = gap.iter().position(|&b| b != 0) {
            return Err(EngineError::Padding { at: (end + at) as u64 });
        }
        end = next.end;
    }
    Ok(())
}
