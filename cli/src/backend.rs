//! What the commands need from the compiler and the runtime.
//!
//! The commands are written against these traits, so that they are tested with a made-up engine.

mod compression;

pub use compression::{
    Alternative, CompressRequest, CompressedLayer, Compression, CompressionRound, Estimate, Figures, HeldOut,
    WeightZeros,
};

use crate::args::Isa;
use crate::error::CliError;
use crate::spec::{Binding, Costs, Limit};
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
    /// Only rewrites that leave every result bit for bit as it was.
    pub strict: bool,
    /// No algorithm whose weights take more bytes than the model's.
    pub compact: bool,
    /// What the optimiser goes by.
    pub costs: Costs,
    /// How far the engine may be from the model, and by what means; none for an exact engine.
    pub compress: Option<CompressRequest>,
    /// Leave out zeros in weights that form a pattern.
    pub sparse: bool,
    /// Keep the IR text of these phases.
    pub keep_ir: KeepIr,
    /// Write the e-graph of the optimiser in this format.
    pub egraph: Option<EGraphFormat>,
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
            strict: false,
            compact: false,
            costs: Costs::Measured,
            compress: None,
            sparse: true,
            keep_ir: KeepIr::No,
            egraph: None,
            output: None,
        }
    }
}

/// How an e-graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EGraphFormat {
    /// For Graphviz.
    Dot,
    /// As `egraph-serialize` reads it.
    Json,
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
    /// What the optimiser did, if it ran.
    pub optimised: Option<Optimised>,
    /// The e-graph, if it was asked for.
    pub egraph: Option<String>,
    /// What a compression did, if one was asked for.
    pub compression: Option<Compression>,
    /// Zeros of the weights that are large enough to matter.
    pub zeros: Vec<WeightZeros>,
}

/// What the optimiser did.
#[derive(Clone, Debug, Default)]
pub struct Optimised {
    /// Predicted nanoseconds of a run before and after, on the reference machine with symbols at its profile point.
    pub cost: (f64, f64),
    /// Groups of products that became one.
    pub merged: u64,
    /// Why the graph was left as it was, if so.
    pub skipped: Option<String>,
    /// The rules that recover an operator from its parts.
    pub recoveries: Vec<Recovery>,
}

/// What a rule that recovers an operator did.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Its name.
    pub rule: String,
    /// Its equation.
    pub equation: String,
    /// How often it fired.
    pub fired: u64,
    /// Where it nearly did, the nearest first.
    pub misses: Vec<NearMiss>,
}

/// Where a rule nearly fired.
#[derive(Clone, Debug, Default)]
pub struct NearMiss {
    /// What does not hold.
    pub why: String,
    /// In how many places.
    pub count: u64,
    /// An ONNX node of one of them; may be empty.
    pub node: String,
}

/// One phase of the compiler.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub time: Duration,
    /// Nodes of the graph before and after it, if it works on the graph.
    pub nodes: Option<(usize, usize)>,
    /// The IR after it, if it was asked for.
    pub ir: Option<String>,
    /// The largest resident set of the process up to the end of the phase, in KiB, where that is known.
    pub rss_peak_kb: Option<u64>,
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
    /// How many of each kind of step.
    pub step_kinds: Vec<(String, u64)>,
    /// Symbols of the dimensions.
    pub symbols: Vec<SymbolRange>,
    /// Sections of the file and their sizes in bytes.
    pub sections: Vec<(String, u64)>,
    /// Facts about the build.
    pub manifest: Vec<(String, String)>,
    /// Steps.
    pub steps: Vec<StepLine>,
}

/// A step of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLine {
    /// Its kind.
    pub kind: String,
    /// The ONNX node that it came from.
    pub name: String,
    /// Operators of the IR that it computes, in order; `copy` and `fill` for loops that only move or set elements.
    pub ops: Vec<String>,
    /// Element types of arguments and outputs.
    pub shapes: String,
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

/// What the value of a symbol may be, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolRange {
    /// Its name.
    pub name: String,
    /// Smallest value.
    pub min: i64,
    /// Largest value, if bounded.
    pub max: Option<i64>,
}

/// The memory of one run in bytes, without inputs, outputs and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Intermediate values.
    pub arena: u64,
    /// Most bytes of intermediate values that are alive during one step: no plan needs less.
    pub lower_bound: u64,
    /// Scratch memory of all workers.
    pub scratch: u64,
}

/// How an engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Worker threads, the calling one included.
    pub threads: usize,
    /// Name of the instruction set of the kernels.
    pub isa: &'static str,
    /// The engine's file is mapped.
    pub mapped: bool,
}

/// An intermediate value of a run.
#[derive(Clone, Debug)]
pub struct Tap {
    /// ONNX name of the node.
    pub node: String,
    /// ONNX name of the value.
    pub value: String,
    /// What it holds.
    pub array: Array,
}

/// The intermediate values of a run, in execution order.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// The values.
    pub list: Vec<Tap>,
    /// What the reader must know of where they come from.
    pub note: Option<String>,
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

    /// One run, and how long each of its steps took, in the order of [`Description::steps`]; no steps if it is interpreted.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn time_steps(&mut self) -> Result<Vec<Duration>, CliError>;

    /// The outputs of the last run, in the order of the signature.
    ///
    /// # Errors
    /// There was no run.
    fn outputs(&mut self) -> Result<Vec<Array>, CliError>;

    /// Runs once and gives the intermediate values that have an ONNX name. An engine file holds no names: they come
    /// from `model`, which it was compiled from.
    ///
    /// # Errors
    /// Whatever stops the run or the compilation of the model.
    fn taps(&mut self, model: &Path) -> Result<Taps, CliError>;

    /// What is in it.
    fn describe(&self) -> Description;

    /// How it runs, unless it is interpreted.
    fn execution(&self) -> Option<Execution>;

    /// The memory of one run over the bound inputs, if it is planned.
    fn memory(&self) -> Option<MemoryUse>;

    /// Floating-point operations of the matrix products and convolutions of one run over the bound inputs, if known.
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

    /// Compiles a model in memory, without the compression that is asked for, and opens the engine.
    ///
    /// # Errors
    /// Those of [`Backend::compile`] and of [`Backend::open`].
    fn open_exact(
        &self,
        request: &CompileRequest,
        options: &OpenOptions,
    ) -> Result<Box<dyn Engine>, CliError>;

    /// Everything that is wrong with a model or not supported; empty if it compiles.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn check(&self, request: &CompileRequest) -> Result<Vec<CliError>, CliError>;

    /// The operator type of every node of an ONNX model's main graph, in file order.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn operators(&self, model: &Path) -> Result<Vec<String>, CliError>;

    /// Applies passes in order, or one rule, to IR text.
    ///
    /// # Errors
    /// Text that does not parse, an unknown pass or rule.
    fn opt(&self, text: &str, passes: &[String], rule: Option<&str>) -> Result<String, CliError>;
}
