//! Arguments of the commands that look at things and judge them: `inspect`, `verify`, `conformance`.

use super::{EngineArgs, FeedArgs, Isa};
use crate::spec::parse_binding;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// A part of what `inspect` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Inputs, outputs and the bounds of their symbols.
    Io,
    /// How many of each operation and of each kind of step.
    Ops,
    /// Sizes of the sections, and the memory of a run.
    Memory,
    /// What built it, from what.
    Manifest,
    /// Every step in order.
    Steps,
}

/// Arguments of `inspect`.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// An engine, or an ONNX model that is compiled first
    #[arg(value_name = "ENGINE|MODEL")]
    pub engine: PathBuf,
    /// What to show, comma separated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT",
          default_values_t = [Section::Io, Section::Ops, Section::Memory])]
    pub show: Vec<Section>,
    /// Extent of a symbolic dimension, for the memory of a run; others are the smallest allowed. May be repeated
    #[arg(short = 'D', long = "dim", value_name = "SYM=N", value_parser = parse_binding)]
    pub dims: Vec<(String, u64)>,
}

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// An engine, or an ONNX model that is compiled first
    #[arg(value_name = "ENGINE|MODEL")]
    pub engine: PathBuf,
    /// Compare with this model in the reference interpreter; without it, with output_0.pb, ... of --data
    #[arg(long, value_name = "MODEL")]
    pub against: Option<PathBuf>,
    /// Compare intermediate values too, and name the first that differs
    #[arg(long, requires = "against")]
    pub per_layer: bool,
    /// What the inputs hold; inputs that are not given are random.
    #[command(flatten)]
    pub feed: FeedArgs,
    /// How to run.
    #[command(flatten)]
    pub exec: EngineArgs,
    /// Largest absolute error of an element
    #[arg(long, default_value_t = 1e-4, value_name = "X", value_parser = parse_tolerance)]
    pub atol: f64,
    /// Largest relative error of an element; |a - b| <= atol + rtol * |b| must hold
    #[arg(long, default_value_t = 1e-3, value_name = "X", value_parser = parse_tolerance)]
    pub rtol: f64,
    /// Smallest cosine similarity of a floating-point output
    #[arg(long, default_value_t = 0.9999, value_name = "X", allow_negative_numbers = true, value_parser = parse_cosine)]
    pub min_cosine: f64,
}

/// Arguments of `conformance`.
#[derive(Clone, Debug, Args)]
pub struct ConformanceArgs {
    /// A folder of cases, or of suites of cases: a case is a folder with model.onnx and test_data_set_N
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// What every case is expected to do: fail if one does anything else
    #[arg(long, value_name = "FILE")]
    pub ratchet: Option<PathBuf>,
    /// Rewrite the ratchet with what the cases do now; wrong results cannot be recorded
    #[arg(long, requires = "ratchet", conflicts_with_all = ["filter", "subset"])]
    pub bless: bool,
    /// The folder holds a part of the cases of the ratchet
    #[arg(long, requires = "ratchet")]
    pub subset: bool,
    /// Use the reference interpreter instead of the compiler
    #[arg(long)]
    pub interp: bool,
    /// Instructions to use
    #[arg(long, value_enum, default_value_t = Isa::Auto, env = "AUTOGLM_ISA", value_name = "ISA")]
    pub isa: Isa,
    /// Only cases whose name contains this
    #[arg(long, value_name = "SUB")]
    pub filter: Option<String>,
    /// Cases at the same time; 0 means one for each available core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub jobs: usize,
    /// Write the ratchet as a Markdown page
    #[arg(long, requires = "ratchet", value_name = "FILE")]
    pub docs: Option<PathBuf>,
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|x| *x >= 0.0);
    value.ok_or_else(|| format!("\"{text}\" is not a tolerance (0 or larger)"))
}

fn parse_cosine(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|x| (-1.0..=1.0).contains(x));
    value.ok_or_else(|| format!("\"{text}\" is not a cosine (-1 to 1)"))
}
