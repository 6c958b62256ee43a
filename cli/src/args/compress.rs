//! Arguments of `compile` that let the engine differ from the model, within limits.

use autoglm_compiler::accuracy::Gates;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Whether layers may become products of lower rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LowRank {
    /// Where it is cheaper and the gates hold.
    Auto,
    /// Nowhere.
    Off,
}

/// What is done about zeros in weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sparsity {
    /// Weights that are sparse run without their zeros where that is faster; with --accuracy others may become sparse.
    Auto,
    /// As auto, but weights become 2:4 wherever the gates hold, for their bytes, faster or not.
    #[value(name = "2:4")]
    TwoFour,
    /// As auto, and the report lists the zeros of every weight and what they could gain.
    Check,
    /// Zeros are multiplied like other elements.
    Off,
}

/// What is to become small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Objective {
    /// The predicted time of a run.
    Latency,
    /// The bytes of the weights.
    Bytes,
}

/// How a model may be compressed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compression")]
pub struct CompressArgs {
    /// How far the engine may be from the model, on the calibration data, comma separated: layer.cosine>=V,
    /// layer.mse<=V (in units of the variance), out.cosine>=V, out.worst>=V (of an
    /// item of a batch), out.top1>=V. Without it the engine is exact
    #[arg(long, value_name = "GATES", value_parser = Gates::parse, requires = "calib",
          conflicts_with_all = ["strict", "no_opt"])]
    pub accuracy: Option<Gates>,
    /// Calibration data: an archive with all inputs of one run; or a folder of such archives, or of folders with
    /// input_0.pb, input_1.pb, ...
    #[arg(long, value_name = "DIR|FILE.npz", requires = "accuracy")]
    pub calib: Option<PathBuf>,
    /// Data like those of --calib that the result is measured on once more, and nothing is decided by: the figures go into
    /// the report and the engine, and a gate that does not hold there fails the command
    #[arg(long, value_name = "DIR|FILE.npz", requires = "accuracy")]
    pub holdout: Option<PathBuf>,
    /// Whether layers may become two products of lower rank
    #[arg(long, value_enum, default_value_t = LowRank::Auto, value_name = "WHEN")]
    pub low_rank: LowRank,
    /// What is done about zeros in weights
    #[arg(long, value_enum, default_value_t = Sparsity::Auto, value_name = "WHEN")]
    pub sparsity: Sparsity,
    /// Layers that stay exact: names of ONNX nodes, where * stands for any characters. May be repeated
    #[arg(long, value_name = "PATTERN", requires = "accuracy")]
    pub keep: Vec<String>,
    /// What compression makes small
    #[arg(long, value_enum, default_value_t = Objective::Latency, value_name = "WHAT")]
    pub objective: Objective,
}

impl CompressArgs {
    /// The options as a command line, but for data.
    pub fn flags(&self) -> Vec<OsString> {
        let name = |value: &dyn ValueName| value.name();
        let mut flags = vec![
            format!("--low-rank={}", name(&self.low_rank)),
            format!("--sparsity={}", name(&self.sparsity)),
            format!("--objective={}", name(&self.objective)),
        ];
        flags.extend(self.accuracy.map(|gates| format!("--accuracy={gates}")));
        flags.extend(self.keep.iter().map(|pattern| format!("--keep={pattern}")));
        flags.into_iter().map(OsString::from).collect()
    }
}

/// The name of a value on the command line.
trait ValueName {
    fn name(&self) -> String;
}

impl<T: ValueEnum> ValueName for T {
    fn name(&self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
