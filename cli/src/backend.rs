//! What the commands need from the compiler and the runtime.
//!
//! The commands are written against these traits, so that they are tested with a made-up engine.

use crate::args::Isa;
use crate::error::{CliError, Exit};
use crate::spec::{Binding, Limit};
use crate::tensor::Array;
use autoglm_runtime::elem::ElemType;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The ONNX name.
    pub name: String,
    /// Element type.
    pub elem: ElemType,
    /// Extents.
    pub dims: Vec<PortDim>,
}

/// An extent of a [`Port`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortDim {
    /// Known.
    Fixed(usize),
    /// A symbol or an expression over symbols, as the user reads it.
    Symbol(String),
}

/// The inputs and outputs in graph order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
}

/// What `compile` asks for.
#[derive(Clone, Debug)]
pub struct CompileRequest {
    /// The ONNX model.
    pub model: PathBuf,
    /// Bounds of symbolic dimensions.
    pub dims: Vec<Binding>,
    /// No rewrites, no fusion.
    pub no_opt: bool,
    /// Changed limits; an unknown key is the backend's error.
    pub limits: Vec<Limit>,
    /// Follow symbolic links to external data.
    pub allow_external_links: bool,
    /// Keep the IR text of these phases.
    pub keep_ir: KeepIr,
    /// Where to write the engine; without it only the IR is of interest.
    pub output: Option<PathBuf>,
}

impl CompileRequest {
    /// To compile a model in memory with no options.
    pub fn of_model(model: &Path) -> CompileRequest {
        CompileRequest {
            model: model.to_path_buf(),
            dims: Vec::new(),
            no_opt: false,
            limits: Vec::new(),
            allow_external_links: false,
            keep_ir: KeepIr::No,
            output: None,
        }
    }
}

/// Whose IR text to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepIr {
    /// None.
    No,
    /// One phase; an unknown name is the backend's error.
    Phase(String),
    /// Every phase.
    All,
}

/// What `compile` gets.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// How many of each operation the model has.
    pub ops_before: Vec<(String, u64)>,
    /// How many of each step the engine has.
    pub ops_after: Vec<(String, u64)>,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

/// One phase of the compiler.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub time: Duration,
    /// The IR after it, if it was asked for.
    pub ir: Option<String>,
}

/// How to open an engine or model.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Instructions to use.
    pub isa: Isa,
    /// Compile loops.
    pub jit: bool,
    /// Map the weights.
    pub mmap: bool,
    /// Check the hash of the weights.
    pub check_weights: bool,
    /// Run an ONNX model in the reference interpreter.
    pub interp: bool,
}

/// What `inspect` shows. Every list is in the order to show it.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// How many of each operation.
    pub ops: Vec<(String, u64)>,
    /// Sizes in bytes.
    pub memory: Vec<(String, u64)>,
    /// Facts about the build.
    pub manifest: Vec<(String, String)>,
    /// Steps: kind, name, shapes as text.
    pub steps: Vec<[String; 3]>,
}

/// How the loops of a run are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loops {
    /// By machine code.
    pub compiled: usize,
    /// By the interpreter.
    pub interpreted: usize,
    /// Distinct functions that were compiled.
    pub functions: usize,
    /// Their length together.
    pub code_bytes: usize,
}

/// An engine that is ready to run, or a model in the reference interpreter.
pub trait Engine {
    /// Inputs and outputs.
    fn signature(&self) -> &Signature;

    /// Sets the inputs of all further runs, in the order of the signature.
    ///
    /// # Errors
    /// Shapes that the engine does not accept.
    fn bind(&mut self, inputs: Vec<Array>) -> Result<(), CliError>;

    /// One run, from inputs in host memory to all outputs in host memory.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn run(&mut self) -> Result<(), CliError>;

    /// The outputs of the last run, in the order of the signature.
    ///
    /// # Errors
    /// There was no run.
    fn outputs(&mut self) -> Result<Vec<Array>, CliError>;

    /// Runs once and gives every intermediate value that has an ONNX name, in execution order.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn taps(&mut self) -> Result<Vec<(String, Array)>, CliError>;

    /// What is in it.
    fn describe(&self) -> Description;

    /// Floating-point operations of one run over the bound inputs, if known.
    fn flops(&self) -> Option<f64>;

    /// How the loops of one run over the bound inputs are run; `None` where there are no such loops.
    fn loops(&self) -> Option<Loops>;
}

/// The compiler and the runtime.
pub trait Backend: Sync {
    /// Compiles a model.
    ///
    /// # Errors
    /// Everything that is wrong with the model, in one error.
    fn compile(&self, request: &CompileRequest) -> Result<Compiled, CliError>;

    /// Opens an engine, or an ONNX model (told by its contents), which is compiled in memory or interpreted.
    ///
    /// # Errors
    /// A file that is neither, or an engine that is damaged or for another machine.
    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Box<dyn Engine>, CliError>;

    /// Everything that is wrong with a model or not supported; empty if it compiles.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn check(&self, request: &CompileRequest) -> Result<Vec<CliError>, CliError>;

    /// Applies passes in order, or one rule, to IR text.
    ///
    /// # Errors
    /// Text that does not parse, an unknown pass or rule.
    fn opt(&self, text: &str, passes: &[String], rule: Option<&str>) -> Result<String, CliError>;
}

/// A program without compiler and runtime: every call is refused.
pub struct Unlinked;

fn unlinked<T>() -> Result<T, CliError> {
    Err(CliError::new(
        "E0901",
        Exit::Unsupported,
        "this program was built without the compiler and the runtime",
    ))
}

impl Backend for Unlinked {
    fn compile(&self, _: &CompileRequest) -> Result<Compiled, CliError> {
        unlinked()
    }

    fn open(&self, _: &Path, _: &OpenOptions) -> Result<Box<dyn Engine>, CliError> {
        unlinked()
    }

    fn check(&self, _: &CompileRequest) -> Result<Vec<CliError>, CliError> {
        unlinked()
    }

    fn opt(&self, _: &str, _: &[String], _: Option<&str>) -> Result<String, CliError> {
        unlinked()
    }
}
