//! The byte layout of an engine file; `docs/engine-format.md` is the specification.
//!
//! All integers are little-endian. The file is a 64-byte header, a table of 64-byte section entries, and the sections,
//! each starting at a multiple of [`PAGE`] with nothing but zeros before it.

use crate::error::EngineError;

/// First bytes of every engine. The high bit, the line ends and the control-Z reveal text-mode transfers.
pub const MAGIC: [u8; 8] = *b"\x89AGLM\r\n\x1a";
/// Version of this layout and of the encoding of the sections.
pub const VERSION: u32 = 3;
/// Alignment of sections.
pub const PAGE: u64 = 4096;
/// Alignment of each constant within the weights section.
pub const WEIGHT_ALIGN: u64 = 64;
/// Bytes of the header.
pub const HEADER_LEN: usize = 64;
/// Bytes of one table entry.
pub const ENTRY_LEN: usize = 64;
/// Largest number of sections; header and table then always fit the first page.
pub const MAX_SECTIONS: usize = 16;
/// Largest program section, in bytes. Decoded, a program takes up to some forty times its encoded size, so this bounds
/// what a hostile file can make a reader allocate; a program of 100,000 steps takes about 6 MiB.
pub const MAX_PROGRAM: u64 = 64 << 20;
/// Largest manifest, in bytes: protobuf decodes to many times its size, and real manifests are a few kilobytes.
pub const MAX_MANIFEST: u64 = 8 << 20;

const ROOT_AT: usize = 32;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SectionKind {
    /// Constants.
    Weights = 1,
    /// [`super::manifest::Manifest`] in protobuf encoding.
    Manifest = 2,
    /// [`crate::program::Program`] in postcard encoding.
    Program = 3,
}

impl SectionKind {
    /// The kind with this number.
    pub fn from_u32(kind: u32) -> Option<Self> {
        [Self::Weights, Self::Manifest, Self::Program].into_iter().find(|k| *k as u32 == kind)
    }

    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Manifest => "manifest",
            Self::Program => "program",
        }
    }

    /// The largest length a reader accepts.
    pub fn limit(self) -> u64 {
        match self {
            Self::Weights => u64::MAX,
            Self::Manifest => MAX_MANIFEST,
            Self::Program => MAX_PROGRAM,
        }
    }
}

/// One entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

/// `n` rounded up to a multiple of `align` (a power of two).
pub fn align_up(n: u64, align: u64) -> Option<u64> {
    Some(n.checked_add(align - 1)? & !(align - 1))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn hash_at(bytes: &[u8], at: usize) -> [u8; 32] {
    bytes.get(at..at + 32).and_then(|b| b.try_into().ok()).unwrap_or([0; 32])
}

/// The hash over header and table, with the header's own hash field taken as zero.
fn root_hash(head: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.get(..ROOT_AT).unwrap_or_default());
    hasher.update(&[0; 32]);
    hasher.update(head.get(HEADER_LEN..).unwrap_or_default());
    *hasher.finalize().as_bytes()
}

/// Header and table for these sections.
pub fn encode_head(sections: &[Section], file_len: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEADER_LEN + sections.len() * ENTRY_LEN);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(sections.len() as u32).to_le_bytes());
    head.extend_from_slice(&file_len.to_le_bytes());
    head.resize(HEADER_LEN, 0);
    for section in sections {
        head.extend_from_slice(&(section.kind as u32).to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&section.offset.to_le_bytes());
        head.extend_from_slice(&section.len.to_le_bytes());
        head.extend_from_slice(&[0; 8]);
        head.extend_from_slice(&section.hash);
    }
    let root = root_hash(&head);
    head[ROOT_AT..HEADER_LEN].copy_from_slice(&root);
    head
}

/// The damage of header and table that their hash proves. `file` is the first page, or all of a shorter file.
///
/// Comes before everything that could be said about damaged bytes: a flipped bit of the version is not another version. Where
/// magic or version differ from ours, the hash tells whether that is the damage; else the file may be something else.
pub fn damage(file: &[u8]) -> Option<EngineError> {
    let count = (u32_at(file, 12) as usize).min(MAX_SECTIONS);
    let mut head = file.get(..HEADER_LEN + count * ENTRY_LEN)?.to_vec();
    let (found, want) = (root_hash(&head), hash_at(&head, ROOT_AT));
    if head[..8] == MAGIC && u32_at(&head, 8) == VERSION {
        return (found != want).then(|| hash_error("the section table", found, want));
    }
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    (root_hash(&head) == want).then(|| hash_error("the header", found, want))
}

/// Whether a file is meant to be an engine, damaged or not. `file` is the first page, or all of a shorter file.
pub fn is_engine(file: &[u8]) -> bool {
    file.starts_with(&MAGIC) || is_cut_magic(file) || damage(file).is_some()
}

fn is_cut_magic(file: &[u8]) -> bool {
    !file.is_empty() && file.len() < MAGIC.len() && MAGIC.starts_with(file)
}

/// Bytes of header and table, from the header alone. `file_len` is the length of the whole file.
pub fn head_len(header: &[u8], file_len: u64) -> Result<usize, EngineError> {
    let shown = header.get(..8).unwrap_or(header);
    if shown != MAGIC && !is_cut_magic(header) {
        return Err(EngineError::Magic { found: shown.to_vec() });
    }
    if header.len() < HEADER_LEN {
        return Err(EngineError::Length {
            what: "the header".into(),
            want: HEADER_LEN as u64,
            have: header.len() as u64,
        });
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(EngineError::Version { found: version, supported: VERSION });
    }
    let count = u32_at(header, 12) as usize;
    if count > MAX_SECTIONS {
        return Err(EngineError::Limit {
            what: "number of sections".into(),
            value: count as u64,
            limit: MAX_SECTIONS as u64,
        });
    }
    let recorded = u64_at(header, 16);
    if recorded != file_len {
        return Err(EngineError::Length { what: "the engine".into(), want: recorded, have: file_len });
    }
    if header[24..ROOT_AT].iter().any(|&b| b != 0) {
        return Err(EngineError::Layout("reserved bytes 24..32 of the header are not zero".into()));
    }
    let len = HEADER_LEN + count * ENTRY_LEN;
    if len as u64 > file_len {
        return Err(EngineError::Length {
            what: "the section table".into(),
            want: len as u64,
            have: file_len,
        });
    }
    Ok(len)
}

/// Checks and decodes header and table (`head` as long as [`head_len`] says); gives the root hash too.
pub fn decode_head(head: &[u8], file_len: u64) -> Result<(Vec<Section>, [u8; 32]), EngineError> {
    let (found, want) = (root_hash(head), hash_at(head, ROOT_AT));
    if found != want {
        return Err(hash_error("the section table", found, want));
    }
    let mut sections: Vec<Section> = Vec::new();
    let mut end = head.len() as u64;
    for (i, entry) in head[HEADER_LEN..].chunks_exact(ENTRY_LEN).enumerate() {
        let (number, offset, len) = (u32_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16));
        let kind = SectionKind::from_u32(number)
            .ok_or_else(|| EngineError::Layout(format!("section {i} has unknown kind {number}")))?;
        if u32_at(entry, 4) != 0 || u64_at(entry, 24) != 0 {
            return Err(EngineError::Layout(format!("reserved bytes of section {i} are not zero")));
        }
        if sections.iter().any(|s| s.kind == kind) {
            return Err(EngineError::Layout(format!("two {} sections", kind.name())));
        }
        if align_up(end, PAGE) != Some(offset) {
            return Err(EngineError::Layout(format!(
                "the {} section starts at {offset}, not on the page after {end}",
                kind.name()
            )));
        }
        if len > kind.limit() {
            return Err(EngineError::Limit {
                what: format!("length of the {} section", kind.name()),
                value: len,
                limit: kind.limit(),
            });
        }
        end = offset.checked_add(len).filter(|end| *end <= file_len).ok_or_else(|| EngineError::Length {
            what: format!("the {} section at {offset} with {len} bytes", kind.name()),
            want: offset.saturating_add(len),
            have: file_len,
        })?;
        sections.push(Section { kind, offset, len, hash: hash_at(entry, 32) });
    }
    if end != file_len {
        return Err(EngineError::Layout(format!("sections end at {end}, the file at {file_len}")));
    }
    Ok((sections, want))
}

/// A [`EngineError::Hash`].
pub(super) fn hash_error(what: &'static str, found: [u8; 32], want: [u8; 32]) -> EngineError {
    let hex = |hash: [u8; 32]| blake3::Hash::from_bytes(hash).to_hex().to_string();
    EngineError::Hash { what, found: hex(found), want: hex(want) }
}

/// Makes every hash of a damaged engine match its bytes again, as far as its table can be read: tests use it to get
/// past the hashes to the validation behind them.
#[doc(hidden)]
pub fn repair_hashes(file: &mut [u8]) {
    let count = (u32_at(file, 12) as usize).min(MAX_SECTIONS);
    let table_end = HEADER_LEN + count * ENTRY_LEN;
    if file.len() < table_end {
        return;
    }
    for at in (HEADER_LEN..table_end).step_by(ENTRY_LEN) {
        let (offset, len) = (u64_at(file, at + 8), u64_at(file, at + 16));
        let range = usize::try_from(offset)
            .ok()
            .zip(offset.checked_add(len).and_then(|end| usize::try_from(end).ok()))
            .and_then(|(start, end)| file.get(start..end));
        if let Some(bytes) = range {
            let hash = blake3::hash(bytes);
            file[at + 32..at + 64].copy_from_slice(hash.as_bytes());
        }
    }
    let root = root_hash(&file[..table_end]);
    file[ROOT_AT..HEADER_LEN].copy_from_slice(&root);
}
