//! Writes ONNX models without Python: ResNet, BERT and a convolutional network with dynamic extents.
//!
//! An architecture gives a [`Model`]: a graph with a list of [`Parameter`]s and no weights. Weights come from
//! [`Seeded`], which is the same on every machine, or from a [`Checkpoint`] in safetensors form, and are made one
//! tensor at a time, so that a model larger than memory can be written with external data.
#![forbid(unsafe_code)]

pub mod bert;
mod builder;
pub mod cnn;
mod model;
pub mod resnet;
mod weights;

pub use builder::{Extent, OPSETS};
pub use model::{Model, Storage};
pub use weights::{Checkpoint, Init, Parameter, Seeded, Weights};

use std::path::PathBuf;

/// Why a model could not be described or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that gives no model.
    #[error("{0}")]
    Setting(String),
    /// A checkpoint that lacks a tensor or has it in another shape.
    #[error("the checkpoint {0}")]
    Checkpoint(String),
    /// A message of protobuf cannot be larger than 2 GiB.
    #[error("the model has {0} bytes of weights, more than one file may hold: store them externally")]
    TooLarge(u64),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
