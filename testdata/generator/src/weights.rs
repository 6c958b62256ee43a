//! Where the numbers of a model come from.

use crate::Error;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// The distribution of a seeded tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Roughly normal (the sum of four uniform numbers) around a mean.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Uniform.
    Uniform {
        /// Smallest.
        lo: f64,
        /// Supremum.
        hi: f64,
    },
}

impl Init {
    /// Weights of a layer that sums `fan_in` products: the variance of the sum is `gain` times that of the inputs.
    pub fn scaled(fan_in: usize, gain: f64) -> Init {
        Init::Normal { mean: 0.0, std: (gain / fan_in.max(1) as f64).sqrt() }
    }

    /// Around a mean with a small spread.
    pub fn near(mean: f64) -> Init {
        Init::Normal { mean, std: 0.1 }
    }
}

/// One f32 tensor that a checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The name that Hugging Face or torchvision checkpoints use.
    pub name: String,
    /// Extents in the checkpoint.
    pub dims: Vec<usize>,
    /// Seeded contents.
    pub init: Init,
    /// Whether the model stores a matrix transposed, as the exporter does for `MatMul`.
    pub transposed: bool,
    /// Whether it is a statistic rather than something that training learns; such do not count as parameters.
    pub statistic: bool,
}

impl Parameter {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The initializer's name.
    pub fn initializer(&self) -> String {
        if self.transposed { format!("{}.transposed", self.name) } else { self.name.clone() }
    }

    /// The initializer's extents.
    pub fn stored_dims(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        if self.transposed {
            dims.reverse();
        }
        dims
    }
}

/// A source of weights.
pub trait Weights {
    /// The elements of a parameter, in the order of [`Parameter::dims`].
    fn values(&self, parameter: &Parameter) -> Result<Vec<f32>, Error>;
}

/// Weights that depend on the seed and the parameter's name only. All arithmetic is exact or correctly rounded, so
/// they are the same on every machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seeded {
    /// Other seeds give other weights.
    pub seed: u64,
}

/// The standard deviation of the sum of four numbers that are uniform on `0..65536`: `sqrt(4 (65536^2 - 1) / 12)`.
const SUM_OF_FOUR_STD: f64 = 37_837.227_237_206_48;

impl Weights for Seeded {
    fn values(&self, parameter: &Parameter) -> Result<Vec<f32>, Error> {
        let mut state = fnv(&parameter.name) ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let one = |_| {
            let bits = next();
            match parameter.init {
                Init::Normal { mean, std } => {
                    let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
                    (mean + std * ((sum as f64 - 131_070.0) / SUM_OF_FOUR_STD)) as f32
                }
                Init::Uniform { lo, hi } => {
                    (lo + (hi - lo) * ((bits >> 11) as f64 / (1u64 << 53) as f64)) as f32
                }
            }
        };
        Ok((0..parameter.count()).map(one).collect())
    }
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A safetensors file.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    bytes: Vec<u8>,
}

impl Checkpoint {
    /// Reads a file into memory and checks its header.
    pub fn open(path: &Path) -> Result<Checkpoint, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Checkpoint::from_bytes(bytes)
    }

    /// Checks the header of a file in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Checkpoint, Error> {
        SafeTensors::deserialize(&bytes)
            .map_err(|e| Error::Checkpoint(format!("is not in safetensors form: {e}")))?;
        Ok(Checkpoint { bytes })
    }
}

/// The names that checkpoints of different ages and heads give to one parameter.
fn spellings(name: &str) -> Vec<String> {
    let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    vec![name.to_owned(), format!("bert.{name}"), old.clone(), format!("bert.{old}")]
}

impl Weights for Checkpoint {
    fn values(&self, parameter: &Parameter) -> Result<Vec<f32>, Error> {
        let file = SafeTensors::deserialize(&self.bytes)
            .map_err(|e| Error::Checkpoint(format!("is not in safetensors form: {e}")))?;
        let name = &parameter.name;
        let tensor = spellings(name)
            .iter()
            .find_map(|n| file.tensor(n).ok())
            .ok_or_else(|| Error::Checkpoint(format!("has no tensor `{name}`")))?;
        if tensor.shape() != parameter.dims {
            let (have, want) = (tensor.shape(), &parameter.dims);
            return Err(Error::Checkpoint(format!("has `{name}` with extents {have:?}, not {want:?}")));
        }
        let data = tensor.data();
        let halves = || data.as_chunks::<2>().0.iter();
        match tensor.dtype() {
            Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::F16 => Ok(halves().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()),
            Dtype::BF16 => Ok(halves().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()),
            other => Err(Error::Checkpoint(format!("has `{name}` as {other:?}, which is not a float type"))),
        }
    }
}
