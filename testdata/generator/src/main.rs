//! `autoglm-generator bert --layers 2 --out model.onnx`: writes a model.
#![forbid(unsafe_code)]

use autoglm_generator::{Checkpoint, Error, Extent, Model, Seeded, Storage, Weights, bert, cnn, resnet};
use clap::{Args, Parser, Subcommand};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes ONNX models of well-known architectures.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    architecture: Architecture,
}

#[derive(Subcommand)]
enum Architecture {
    /// ResNet with bottleneck blocks; ResNet-50 by default.
    Resnet {
        /// Blocks in each stage.
        #[arg(long, value_delimiter = ',', default_values_t = [3, 4, 6, 3])]
        blocks: Vec<usize>,
        /// Channels of the first stage.
        #[arg(long, default_value_t = 64)]
        width: usize,
        /// Number of classes.
        #[arg(long, default_value_t = 1000)]
        classes: usize,
        /// Batch, height and width: numbers or names.
        #[arg(long, value_delimiter = ',', default_values = ["1", "224", "224"])]
        extents: Vec<Extent>,
        #[command(flatten)]
        output: Output,
    },
    /// BERT encoder; BERT-Base by default.
    Bert {
        /// Features of a token.
        #[arg(long, default_value_t = 768)]
        hidden: usize,
        /// Encoder layers.
        #[arg(long, default_value_t = 12)]
        layers: usize,
        /// Attention heads.
        #[arg(long, default_value_t = 12)]
        heads: usize,
        /// Features inside the feed-forward part.
        #[arg(long, default_value_t = 3072)]
        intermediate: usize,
        /// Number of tokens.
        #[arg(long, default_value_t = 30522)]
        vocabulary: usize,
        /// Longest sequence.
        #[arg(long, default_value_t = 512)]
        positions: usize,
        /// Leave out the pooled output.
        #[arg(long)]
        no_pooler: bool,
        /// Write layer normalisation as single operations.
        #[arg(long)]
        decomposed: bool,
        /// Batch and sequence: numbers or names.
        #[arg(long, value_delimiter = ',', default_values = ["1", "128"])]
        extents: Vec<Extent>,
        #[command(flatten)]
        output: Output,
    },
    /// A convolutional network of many operators.
    Cnn {
        /// Channels after the first convolution.
        #[arg(long, default_value_t = 16)]
        width: usize,
        /// Number of classes.
        #[arg(long, default_value_t = 10)]
        classes: usize,
        /// Batch, height and width: numbers or names.
        #[arg(long, value_delimiter = ',', default_values = ["batch", "height", "width"])]
        extents: Vec<Extent>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
struct Output {
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// ONNX operator set.
    #[arg(long, default_value_t = 17)]
    opset: i64,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0, conflicts_with = "weights")]
    seed: u64,
    /// A safetensors file to take the weights from.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Store the weights beside the model.
    #[arg(long)]
    external: bool,
}

fn described(architecture: Architecture) -> Result<(Model, Output), Error> {
    let extents = |given: Vec<Extent>| {
        <[Extent; 3]>::try_from(given).map_err(|_| Error::Setting("needs batch, height and width".into()))
    };
    Ok(match architecture {
        Architecture::Resnet { blocks, width, classes, extents: given, output } => {
            let blocks = blocks.try_into().map_err(|_| Error::Setting("needs four stages".into()))?;
            let [batch, h, w] = extents(given)?;
            let config = resnet::Config { blocks, width, classes, batch, size: [h, w], opset: output.opset };
            (resnet::model(&config)?, output)
        }
        Architecture::Bert {
            hidden,
            layers,
            heads,
            intermediate,
            vocabulary,
            positions,
            no_pooler,
            decomposed,
            extents,
            output,
        } => {
            let [batch, sequence] = <[Extent; 2]>::try_from(extents)
                .map_err(|_| Error::Setting("needs batch and sequence".into()))?;
            let norm = decomposed.then_some(bert::Norm::Decomposed);
            let (opset, pooler) = (output.opset, !no_pooler);
            let sizes = bert::Config {
                hidden,
                layers,
                heads,
                intermediate,
                vocabulary,
                positions,
                ..Default::default()
            };
            (bert::model(&bert::Config { pooler, batch, sequence, opset, norm, ..sizes })?, output)
        }
        Architecture::Cnn { width, classes, extents: given, output } => {
            let [batch, h, w] = extents(given)?;
            (cnn::model(&cnn::Config { width, classes, batch, size: [h, w], opset: output.opset })?, output)
        }
    })
}

fn run(cli: Cli) -> Result<String, Error> {
    let (model, output) = described(cli.architecture)?;
    let weights: Box<dyn Weights> = match &output.weights {
        Some(path) => Box::new(Checkpoint::open(path)?),
        None => Box::new(Seeded { seed: output.seed }),
    };
    let storage = if output.external { Storage::External } else { Storage::Auto };
    model.write(&output.out, weights.as_ref(), storage)?;
    Ok(format!("{}: {} parameters", output.out.display(), model.parameter_count()))
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(line) => {
            // A closed pipe is no reason to fail: the file is there.
            let _ = writeln!(std::io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: {e}");
            ExitCode::FAILURE
        }
    }
}
