//! Arguments of the commands that read models and IR: `compile`, `check`, `opt`.

use super::CompressArgs;
use crate::spec::{Binding, Costs, Emit, Limit, parse_bound, parse_costs, parse_emit, parse_limit};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `compile`.
#[derive(Clone, Debug, Args)]
pub struct CompileArgs {
    /// The ONNX model
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// The engine file to write
    #[arg(short, long, value_name = "ENGINE", required_unless_present_any = ["emit", "explain_fusion"])]
    pub output: Option<PathBuf>,
    /// Fix a symbolic dimension, or bound it (both ends included); may be repeated
    #[arg(short = 'D', long = "dim", value_name = "SYM=N|LO..HI", value_parser = parse_bound)]
    pub dims: Vec<Binding>,
    /// Print the IR after a phase, or the optimiser's e-graph
    #[arg(long, value_name = "ir=PHASE|egraph=dot|egraph=json", value_parser = parse_emit)]
    pub emit: Option<Emit>,
    /// Show for each fused operator how often it was recovered and where that nearly succeeded
    #[arg(long)]
    pub explain_fusion: bool,
    /// Only rewrites that leave every result bit for bit as it was
    #[arg(long)]
    pub strict: bool,
    /// No algorithm whose weights take more bytes than the model's, however fast it is
    #[arg(long)]
    pub compact: bool,
    /// What kernels are said to take: as they were measured for this program, by arithmetic and bytes, or by a table of `measure_costs`
    #[arg(long, value_name = "measured|roofline|FILE", default_value = "measured", value_parser = parse_costs)]
    pub costs: Costs,
    /// Write the IR after every phase into a folder
    #[arg(long, value_name = "DIR")]
    pub dump_phases: Option<PathBuf>,
    /// Compile a second time in another process and compare the bytes
    #[arg(long, requires = "output")]
    pub check_reproducible: bool,
    /// The same kernels and layout, and nothing else: no rewriting, one step an operator, no views, nothing in place
    #[arg(long)]
    pub no_opt: bool,
    /// Change a limit of the compiler; may be repeated
    #[arg(long = "limit", value_name = "KEY=VALUE", value_parser = parse_limit)]
    pub limits: Vec<Limit>,
    /// Follow symbolic links to files with external weights
    #[arg(long)]
    pub allow_external_links: bool,
    /// How the model may be compressed.
    #[command(flatten)]
    pub compress: CompressArgs,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The ONNX model
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Change a limit of the compiler; may be repeated
    #[arg(long = "limit", value_name = "KEY=VALUE", value_parser = parse_limit)]
    pub limits: Vec<Limit>,
    /// Follow symbolic links to files with external weights
    #[arg(long)]
    pub allow_external_links: bool,
}

/// Arguments of `opt`.
#[derive(Clone, Debug, Args)]
pub struct OptArgs {
    /// The IR text
    #[arg(value_name = "FILE.agir")]
    pub file: PathBuf,
    /// A pass to apply; repeated passes run in the order given
    #[arg(long = "pass", value_name = "PASS", required_unless_present = "rule")]
    pub passes: Vec<String>,
    /// Apply this rewrite rule only
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Write the result to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
