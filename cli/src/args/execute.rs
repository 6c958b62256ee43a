//! Arguments of the commands that run something: `run`, `bench`, and what `verify` shares with them.

use crate::spec::{
    Feed, ImageOptions, parse_binding, parse_duration, parse_feed, parse_image, parse_percentiles,
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Which instructions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isa {
    /// The widest that the processor has.
    Auto,
    /// Portable code.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512.
    Avx512,
}

impl Isa {
    /// The instruction set; none for the widest that the processor has.
    pub fn fixed(self) -> Option<autoglm_runtime::cpu::Isa> {
        use autoglm_runtime::cpu::Isa as Fixed;
        match self {
            Isa::Auto => None,
            Isa::Scalar => Some(Fixed::Scalar),
            Isa::Avx2 => Some(Fixed::Avx2),
            Isa::Avx512 => Some(Fixed::Avx512),
        }
    }
}

/// How to load and run an engine.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Execution")]
pub struct EngineArgs {
    /// Worker threads; 0 means one for each available core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Instructions to use
    #[arg(long, value_enum, default_value_t = Isa::Auto, env = "AUTOGLM_ISA", value_name = "ISA")]
    pub isa: Isa,
    /// Interpret all loops instead of compiling the long ones when the shapes are known
    #[arg(long)]
    pub no_jit: bool,
    /// Read the weights into memory instead of mapping the file
    #[arg(long)]
    pub no_mmap: bool,
}

/// What the inputs hold.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Inputs")]
pub struct FeedArgs {
    /// An input: NAME=SPEC, where SPEC is @FILE.npy, @FILE.npz[:MEMBER], @FILE.pb, @FILE.png, @FILE.bin (raw
    /// elements), rand[:LO..HI], fill:V, zeros, ones or arange; or all inputs from @FEEDS.npz
    #[arg(short = 'i', long = "input", value_name = "NAME=SPEC", value_parser = parse_feed)]
    pub inputs: Vec<Feed>,
    /// Take the inputs from input_0.pb, input_1.pb, ... of a folder
    #[arg(long, value_name = "DIR", conflicts_with = "inputs")]
    pub data: Option<PathBuf>,
    /// Extent of a symbolic dimension, for inputs that are generated or raw; may be repeated
    #[arg(short = 'D', long = "dim", value_name = "SYM=N", value_parser = parse_binding)]
    pub dims: Vec<(String, u64)>,
    /// Seed of generated inputs
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// How pixels become elements, comma separated: scale=V (default 255), mean=V,V,V, std=V,V,V,
    /// layout=nchw|nhwc, imagenet (its mean and std); an element is (pixel / scale - mean) / std
    #[arg(long, value_name = "OPTIONS", value_parser = parse_image)]
    pub image: Option<ImageOptions>,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// An engine, or an ONNX model that is compiled first
    #[arg(value_name = "ENGINE|MODEL")]
    pub engine: PathBuf,
    /// What the inputs hold.
    #[command(flatten)]
    pub feed: FeedArgs,
    /// Folder for the outputs, one .npy file each; or one .npz file
    #[arg(short, long, value_name = "OUTDIR")]
    pub output: Option<PathBuf>,
    /// How to run.
    #[command(flatten)]
    pub exec: EngineArgs,
    /// Check the hash of the weights when loading
    #[arg(long, help_heading = "Execution")]
    pub check_weights: bool,
    /// Show the K largest elements of the last axis of the first output
    #[arg(long, value_name = "K")]
    pub top: Option<usize>,
    /// Names for --top, one a line
    #[arg(long, value_name = "FILE", requires = "top")]
    pub labels: Option<PathBuf>,
    /// Show how long loading and running took
    #[arg(long)]
    pub timing: bool,
}

/// Arguments of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// An engine, or an ONNX model that is compiled first
    #[arg(value_name = "ENGINE|MODEL")]
    pub engine: PathBuf,
    /// What the inputs hold.
    #[command(flatten)]
    pub feed: FeedArgs,
    /// How to run.
    #[command(flatten)]
    pub exec: EngineArgs,
    /// Check the hash of the weights when loading
    #[arg(long, help_heading = "Execution")]
    pub check_weights: bool,
    /// Serve a benchmark driver over stdin and stdout: N runs, "w DIR" writes the outputs, "q" quits
    #[arg(long, conflicts_with_all = ["iterations", "duration", "warmup", "percentiles"])]
    pub worker: bool,
    /// Measure exactly this many runs
    #[arg(short = 'n', long, value_name = "ITER", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,
    /// Measure for about this long
    #[arg(short = 't', long, value_name = "DURATION", value_parser = parse_duration, default_value = "3s",
          conflicts_with = "iterations")]
    pub duration: Duration,
    /// Run for this long before measuring
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "500ms")]
    pub warmup: Duration,
    /// Percentiles to report, comma separated
    #[arg(long = "percentile", value_name = "P,..", value_delimiter = ',', value_parser = parse_percentiles,
          default_values = ["50", "90", "99"])]
    pub percentiles: Vec<f64>,
}
