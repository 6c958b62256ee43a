//! What can go wrong: loading or writing an engine (`E05xx`) and running one (`E06xx`).
//!
//! Messages name the place, the value found and the value wanted; the stable code is in [`EngineError::code`] and
//! [`RunError::code`], so that callers need not parse text.

use crate::codes;
use std::path::PathBuf;
use thiserror::Error;

/// An engine file could not be written, read or trusted.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, e.g. "open".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The first bytes are not those of an engine.
    #[error(
        "not an engine file: it starts with {found:02x?} instead of {:02x?}",
        crate::engine::format::MAGIC
    )]
    Magic {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// Another format version.
    #[error("engine format version {found}; this runtime reads version {supported}: compile the model again")]
    Version {
        /// In the file.
        found: u32,
        /// Of this runtime.
        supported: u32,
    },
    /// The file is shorter or longer than it says.
    #[error("{what} needs {want} bytes, the file has {have}: it is truncated or damaged")]
    Length {
        /// What does not fit.
        what: String,
        /// Bytes needed.
        want: u64,
        /// Bytes there.
        have: u64,
    },
    /// Header, section table or padding break the format's rules.
    #[error("malformed engine: {0}")]
    Layout(String),
    /// Bytes do not have the hash the file records for them.
    #[error("{what} is damaged: its BLAKE3 hash is {found}, the file says {want}")]
    Hash {
        /// What was hashed.
        what: &'static str,
        /// Computed.
        found: String,
        /// Recorded.
        want: String,
    },
    /// A byte between sections, which no hash covers, is not zero.
    #[error("padding byte at {at} is not zero: the file is damaged")]
    Padding {
        /// Where, from the start of the file.
        at: u64,
    },
    /// More than this runtime accepts.
    #[error("{what}: {value} exceeds the limit of {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// How large.
        value: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A section cannot be decoded.
    #[error("cannot decode the {section} section: {detail}")]
    Decode {
        /// Which.
        section: &'static str,
        /// Why.
        detail: String,
    },
    /// The program breaks a structural rule.
    #[error("invalid program: {place}: {detail}")]
    Program {
        /// Where, e.g. `step #3 "/fc"`.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// Manifest and program contradict each other.
    #[error("manifest and program disagree: {0}")]
    Manifest(String),
    /// The writer was asked for something it cannot store.
    #[error("cannot write the engine: {0}")]
    Write(String),
}

impl EngineError {
    /// The stable code, one of [`codes`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => codes::ENGINE_IO,
            Self::Magic { .. } => codes::ENGINE_MAGIC,
            Self::Version { .. } => codes::ENGINE_VERSION,
            Self::Length { .. } => codes::ENGINE_LENGTH,
            Self::Layout(_) => codes::ENGINE_LAYOUT,
            Self::Hash { .. } => codes::ENGINE_HASH,
            Self::Limit { .. } => codes::ENGINE_LIMIT,
            Self::Decode { .. } => codes::ENGINE_DECODE,
            Self::Program { .. } => codes::ENGINE_PROGRAM,
            Self::Manifest(_) => codes::ENGINE_MANIFEST,
            Self::Write(_) => codes::ENGINE_WRITE,
            Self::Padding { .. } => codes::ENGINE_PADDING,
        }
    }
}

/// A run, or the preparation of one, failed. Outputs may have been written in part; the session stays usable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// This build has no executor for a kind of step.
    #[error("step {step:?}: this runtime cannot execute {kind}")]
    Unsupported {
        /// The step's name.
        step: String,
        /// The kind of step.
        kind: &'static str,
    },
    /// Too few or too many tensors were passed.
    #[error("the engine has {want} {what} ({names}), {found} were passed")]
    Count {
        /// "inputs" or "outputs".
        what: &'static str,
        /// How many the engine has.
        want: usize,
        /// How many were passed.
        found: usize,
        /// Their names.
        names: String,
    },
    /// A tensor does not fit its port.
    #[error("{port}: {detail}; {help}")]
    Tensor {
        /// For example `input "x"`.
        port: String,
        /// What is wrong, with both numbers.
        detail: String,
        /// What to do.
        help: String,
    },
    /// A condition of the model on its inputs does not hold.
    #[error("{message} ({left} vs {right}){given}")]
    Guard {
        /// The model's message.
        message: String,
        /// Left value.
        left: i64,
        /// Right value.
        right: i64,
        /// The named extents that the message speaks of, with their values and inputs; empty if there is none.
        given: String,
    },
    /// Size arithmetic went wrong.
    #[error("size computation: {0}")]
    Shape(String),
    /// A tensor element used as an index is out of range.
    #[error("step {step:?}: index {index} is out of range for an axis of extent {extent}")]
    Index {
        /// The step's name.
        step: String,
        /// The index.
        index: i64,
        /// The extent.
        extent: u64,
    },
    /// A length of a row that is longer than the sequence, or negative.
    #[error("step {step:?}: the length of row {row} is {length}, must be in 0..={steps}")]
    Length {
        /// The step's name.
        step: String,
        /// The row.
        row: usize,
        /// Its length.
        length: i64,
        /// Steps of the sequence.
        steps: usize,
    },
    /// More memory than allowed.
    #[error("{what} needs {want} bytes, the limit is {limit}: use smaller inputs or raise the limit")]
    Memory {
        /// What needs it.
        what: String,
        /// How much.
        want: u64,
        /// How much there may be.
        limit: u64,
    },
    /// More arithmetic than allowed.
    #[error(
        "step {step:?}: the run needs {want} operations up to here, the limit is {limit}: use smaller inputs or raise the limit"
    )]
    Work {
        /// The step at which the limit is exceeded.
        step: String,
        /// Operations of the steps up to and with this one.
        want: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The allocator refused.
    #[error("out of memory: {0} bytes could not be allocated")]
    OutOfMemory(u64),
    /// A step would touch memory outside its values for these input shapes.
    #[error("step {step:?}: {detail}")]
    Footprint {
        /// The step's name.
        step: String,
        /// What does not fit.
        detail: String,
    },
    /// A worker panicked: a bug in this runtime.
    #[error("a worker panicked: {0}")]
    Panic(String),
    /// Worker threads could not be started.
    #[error("cannot start {count} worker threads: {detail}")]
    Threads {
        /// How many were asked for.
        count: usize,
        /// Why not.
        detail: String,
    },
}

impl RunError {
    /// The stable code, one of [`codes`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => codes::RUN_UNSUPPORTED,
            Self::Count { .. } => codes::RUN_COUNT,
            Self::Tensor { .. } => codes::RUN_TENSOR,
            Self::Index { .. } | Self::Length { .. } => codes::RUN_INDEX,
            Self::Guard { .. } => codes::RUN_GUARD,
            Self::Shape(_) => codes::RUN_SHAPE,
            Self::Memory { .. } => codes::RUN_MEMORY,
            Self::OutOfMemory(_) => codes::RUN_OUT_OF_MEMORY,
            Self::Footprint { .. } => codes::RUN_FOOTPRINT,
            Self::Panic(_) => codes::RUN_PANIC,
            Self::Threads { .. } => codes::RUN_THREADS,
            Self::Work { .. } => codes::RUN_WORK,
        }
    }
}
