//! The command line as data.

mod build;
mod compress;
mod execute;
mod quality;

pub use build::{CheckArgs, CompileArgs, OptArgs};
pub use compress::{CompressArgs, LowRank, Objective, Sparsity};
pub use execute::{BenchArgs, EngineArgs, FeedArgs, Isa, RunArgs};
pub use quality::{ConformanceArgs, InspectArgs, Section, VerifyArgs};

use crate::error::Exit;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Compiles ONNX models ahead of time and runs them.
#[derive(Debug, Parser)]
#[command(name = "autoglm", version, after_help = Exit::help_text(), max_term_width = 100, infer_long_args = false)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// When to use colours; NO_COLOR in the environment means never unless this says always
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// Say more on stderr; may be repeated
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print one JSON report (autoglm.report/1) on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// At a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a model into an engine file
    #[command(after_help = Exit::help_text())]
    Compile(CompileArgs),
    /// Run an engine or a model once and write its outputs
    #[command(after_help = Exit::help_text())]
    Run(RunArgs),
    /// Measure how long a run takes
    #[command(after_help = Exit::help_text())]
    Bench(BenchArgs),
    /// Show what is in an engine or a model
    #[command(after_help = Exit::help_text())]
    Inspect(InspectArgs),
    /// Check an engine's hashes, and its results against the reference interpreter or stored outputs
    #[command(after_help = Exit::help_text())]
    Verify(VerifyArgs),
    /// List everything that is wrong with a model or not supported, without compiling it
    #[command(after_help = Exit::help_text())]
    Check(CheckArgs),
    /// Apply passes or one rewrite rule to IR text
    #[command(after_help = Exit::help_text())]
    Opt(OptArgs),
    /// Run a folder of ONNX test cases
    #[command(after_help = Exit::help_text())]
    Conformance(ConformanceArgs),
}

impl Command {
    /// The name that the user typed.
    pub const fn name(&self) -> &'static str {
        match self {
            Command::Compile(_) => "compile",
            Command::Run(_) => "run",
            Command::Bench(_) => "bench",
            Command::Inspect(_) => "inspect",
            Command::Verify(_) => "verify",
            Command::Check(_) => "check",
            Command::Opt(_) => "opt",
            Command::Conformance(_) => "conformance",
        }
    }
}
