//! Tests of the tile layer.

mod folds;
mod generate;
mod in_place;
mod layout;
mod math;
mod narrow;
mod ops;
mod random;
mod validate;

use super::{ConcreteAccess, SharedBytes, TileError, TileIsa, TilePlan, TileProgram, TileScratch, exec};
use crate::elem::ElemType;

/// Instruction sets of this machine.
fn isas() -> Vec<TileIsa> {
    [TileIsa::Scalar, TileIsa::Avx2, TileIsa::Avx512].into_iter().filter(|i| i.is_supported()).collect()
}

/// A program bound to extents and values.
#[derive(Clone, Debug)]
struct Case {
    program: TileProgram,
    dims: Vec<i64>,
    reads: Vec<ConcreteAccess>,
    inputs: Vec<Vec<u8>>,
    writes: Vec<ConcreteAccess>,
    /// Contents of the outputs before the run.
    outputs: Vec<Vec<u8>>,
}

impl Case {
    fn plan(&self) -> Result<TilePlan, TileError> {
        let lens = |values: &[Vec<u8>], accesses: &[ConcreteAccess]| -> Vec<usize> {
            values.iter().zip(accesses).map(|(v, a)| v.len() / a.elem.size()).collect()
        };
        TilePlan::new(
            &self.program,
            &self.dims,
            &self.reads,
            &self.writes,
            &lens(&self.inputs, &self.reads),
            &lens(&self.outputs, &self.writes),
        )
    }

    fn fast(&self, isa: TileIsa, parts: usize) -> Vec<Vec<u8>> {
        let plan = self.plan().unwrap();
        let mut outputs = self.outputs.clone();
        // SAFETY: the vectors outlive the calls and nothing else uses them meanwhile.
        let shared: Vec<_> =
            outputs.iter_mut().map(|v| unsafe { SharedBytes::new(v.as_mut_ptr(), v.len()) }).collect();
        // SAFETY: as above, and inputs are only read.
        let input = |v: &Vec<u8>| unsafe { SharedBytes::new(v.as_ptr().cast_mut(), v.len()) };
        let inputs: Vec<_> = self.inputs.iter().map(input).collect();
        let mut scratch = TileScratch::new();
        for part in (0..parts).rev() {
            exec::run(&plan, isa, &mut scratch, &inputs, &shared, part, parts).unwrap();
        }
        outputs
    }

    fn slow(&self) -> Vec<Vec<u8>> {
        let mut outputs = self.outputs.clone();
        let inputs: Vec<&[u8]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        super::scalar::run(&self.program, &self.dims, (&self.reads, &inputs), (&self.writes, &mut slices))
            .unwrap();
        outputs
    }
}

/// A dense access over `dims`.
fn dense(elem: ElemType, dims: &[i64]) -> ConcreteAccess {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    ConcreteAccess { elem, offset: 0, strides }
}

fn access(elem: ElemType, offset: i64, strides: &[i64]) -> ConcreteAccess {
    ConcreteAccess { elem, offset, strides: strides.to_vec() }
}

macro_rules! bytes_of {
    ($values:expr) => {
        $values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>()
    };
}
use bytes_of;

fn to_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}

fn to_f64(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_ne_bytes(*b)).collect()
}

fn to_i64(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|b| i64::from_ne_bytes(*b)).collect()
}

/// Reproducible random numbers.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 32) as usize) % n.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

const ELEMS: [ElemType; 23] = {
    use ElemType::*;
    [
        F32, F64, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool, I4, U4, I2, U2, F8E4M3FN,
        F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1,
    ]
};
