//! The stable code of each kind of error of this crate: loading or writing an engine (`E05xx`), running one (`E06xx`).

/// A stable code and what users are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The name of its constant.
    pub name: &'static str,
    /// For example `E0507`; warnings start with `W`.
    pub code: &'static str,
    /// What is wrong, one line.
    pub meaning: &'static str,
    /// What the user can do, one line.
    pub help: &'static str,
}

/// Declares a crate's codes: a constant for each, and the table `CODES` of all, in the order given.
///
/// A row is `NAME = "E0507", "what is wrong", "what to do";`.
#[macro_export]
macro_rules! error_codes {
    ($($name:ident = $code:literal, $meaning:literal, $help:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $code;)*

        /// Every code of this crate, in ascending order.
        pub static CODES: &[$crate::codes::ErrorCode] = &[$($crate::codes::ErrorCode {
            name: stringify!($name),
            code: $code,
            meaning: $meaning,
            help: $help,
        }),*];
    };
}

error_codes! {
    ENGINE_IO = "E0501", "The engine file cannot be opened, read or written.",
        "Check the path, the permissions and the space on the disk.";
    ENGINE_MAGIC = "E0502", "The file is not an engine.", "Give a file that `autoglm compile` wrote.";
    ENGINE_VERSION = "E0503", "The engine has another format version.",
        "Compile the model again with this version of autoglm.";
    ENGINE_LENGTH = "E0504", "The engine is shorter or longer than it says.",
        "It was cut off or damaged: copy it again.";
    ENGINE_LAYOUT = "E0505", "Header, section table or padding break the rules of the format.",
        "It is damaged: copy it again, or compile the model again.";
    ENGINE_HASH = "E0506", "A part of the engine does not have the hash that the file records.",
        "It is damaged: copy it again, or compile the model again.";
    ENGINE_LIMIT = "E0507", "A part of the engine is larger than this runtime accepts.",
        "Do not trust the file; if it is yours, report the size.";
    ENGINE_DECODE = "E0508", "A section of the engine cannot be decoded.",
        "Compile the model again with this version of autoglm.";
    ENGINE_PROGRAM = "E0509", "The engine's program breaks a structural rule.",
        "Compile the model again; if it stays, it is a bug of the compiler.";
    ENGINE_MANIFEST = "E0510", "The engine's manifest and its program contradict each other.",
        "Compile the model again; if it stays, it is a bug of the compiler.";
    ENGINE_WRITE = "E0511", "The engine holds something that the format cannot store.",
        "Make the model or its weights smaller.";
    ENGINE_PADDING = "E0512", "Bytes between the sections of the engine are not zero.",
        "The file is damaged: copy it or compile the model again.";
    RUN_UNSUPPORTED = "E0599", "This runtime has no executor for a step.",
        "Use a runtime that was built for this engine.";
    RUN_COUNT = "E0601", "Too few or too many tensors were passed.",
        "Pass one for each input, as `autoglm inspect` lists them.";
    RUN_TENSOR = "E0602", "A tensor does not have the element type, rank or extents of its port.",
        "Convert it, or compile the model with a dynamic dimension.";
    RUN_INDEX = "E0603", "An element of a tensor that is used as an index or a length is out of range.",
        "Check the tensor's contents, for example token ids against the vocabulary.";
    RUN_GUARD = "E0604", "The input shapes break a condition of the model.",
        "Pass inputs whose extents fit together as the message says.";
    RUN_SHAPE = "E0605", "A size cannot be computed for these inputs.", "Pass inputs of sensible extents.";
    RUN_MEMORY = "E0606", "A run needs more memory than allowed.", "Use smaller inputs or raise the limit.";
    RUN_OUT_OF_MEMORY = "E0607", "The operating system refused memory.", "Use smaller inputs or free memory.";
    RUN_FOOTPRINT = "E0608", "A step would touch memory outside its tensors for these input shapes.",
        "Compile the model again; if it stays, it is a bug of the compiler.";
    RUN_PANIC = "E0609", "A worker thread panicked.", "This is a bug: report it with the engine and the inputs.";
    RUN_THREADS = "E0610", "The worker threads could not be started.", "Ask for fewer threads.";
    RUN_WORK = "E0611", "A run would take more work than allowed.", "Use smaller inputs or raise the limit.";
}
