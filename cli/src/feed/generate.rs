//! Inputs that are made up.

use crate::backend::Port;
use crate::codes;
use crate::error::{CliError, Exit};
use crate::spec::{Fill, Number};
use crate::tensor::{Array, byte_len, encode, range};

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    /// The name goes into the seed, so that an input's contents do not depend on the other inputs.
    fn new(seed: u64, name: &str) -> Random {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Random(seed ^ hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0 <= x < 1`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The contents of `port` with extents `dims`.
///
/// # Errors
/// Values that the element type cannot hold, or a size that overflows.
pub(super) fn generate(port: &Port, dims: Vec<usize>, fill: &Fill, seed: u64) -> Result<Array, CliError> {
    let length = byte_len(port.elem, &dims)?;
    let count = length / port.elem.size();
    let mut bytes = Vec::new();
    let mut random = Random::new(seed, &port.name);
    let whole = range(port.elem).is_some();
    for i in 0..count {
        let number = match *fill {
            Fill::Value(number) => number,
            Fill::Arange => Number::Int(i as i128),
            Fill::Rand(bounds) => {
                let (lo, hi) = bounds.unwrap_or(if whole { (0.0, 2.0) } else { (0.0, 1.0) });
                let value = lo + (hi - lo) * random.unit();
                Number::Float(if whole { value.floor() } else { value })
            }
        };
        encode(port.elem, number, &mut bytes).map_err(|e| CliError::new(codes::FILL, Exit::Usage, e))?;
    }
    Array::new(port.elem, dims, bytes)
}
