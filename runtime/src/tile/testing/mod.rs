//! Random programs and their two results, for the tests of everything that executes tile programs.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod checks;
mod generate;
pub mod plain;
pub mod shared;

pub use generate::{BINARY, LANES, Recipe, Style, UNARY, case};

use super::native::{CodeCache, Declined};
use super::scalar::decode_byte;
use super::{ConcreteAccess, SharedBytes, TileError, TileIsa, TilePlan, TileProgram, TileScratch, exec};
use crate::elem::ElemType;

/// A program bound to extents and values.
#[derive(Clone, Debug)]
pub struct Case {
    /// The program.
    pub program: TileProgram,
    /// Extents of the loops.
    pub dims: Vec<i64>,
    /// Accesses to the inputs.
    pub reads: Vec<ConcreteAccess>,
    /// Contents of the inputs.
    pub inputs: Vec<Vec<u8>>,
    /// Accesses to the outputs.
    pub writes: Vec<ConcreteAccess>,
    /// Contents of the outputs before the run.
    pub outputs: Vec<Vec<u8>>,
}

impl Case {
    /// The plan for the whole of the inputs and outputs.
    ///
    /// # Errors
    /// A program or access that is refused.
    pub fn plan(&self) -> Result<TilePlan, TileError> {
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

    /// The outputs of the interpreter over blocks.
    pub fn fast(&self, isa: TileIsa, parts: usize) -> Vec<Vec<u8>> {
        self.run(&self.plan().unwrap(), isa, parts)
    }

    /// The outputs of compiled loops.
    ///
    /// # Errors
    /// The loop is not compiled.
    pub fn compiled(&self, code: &CodeCache, isa: TileIsa, parts: usize) -> Result<Vec<Vec<u8>>, Declined> {
        let mut plan = self.plan().unwrap();
        plan.compile(code, isa, u64::MAX)?;
        Ok(self.run(&plan, isa, parts))
    }

    /// A plan with buffers of its own, to run it many times.
    ///
    /// # Errors
    /// A program or access that is refused, or a loop that `code` declines.
    pub fn bind(&self, isa: TileIsa, code: Option<&CodeCache>) -> Result<Bound, Box<dyn std::error::Error>> {
        let mut plan = self.plan()?;
        if let Some(code) = code {
            plan.compile(code, isa, u64::MAX)?;
        }
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        Ok(Bound { plan, isa, inputs, outputs, scratch: TileScratch::new() })
    }

    fn run(&self, plan: &TilePlan, isa: TileIsa, parts: usize) -> Vec<Vec<u8>> {
        let mut outputs = self.outputs.clone();
        // SAFETY: the vectors outlive the calls and nothing else uses them meanwhile.
        let shared: Vec<_> =
            outputs.iter_mut().map(|v| unsafe { SharedBytes::new(v.as_mut_ptr(), v.len()) }).collect();
        // SAFETY: as above, and inputs are only read.
        let input = |v: &Vec<u8>| unsafe { SharedBytes::new(v.as_ptr().cast_mut(), v.len()) };
        let inputs: Vec<_> = self.inputs.iter().map(input).collect();
        let mut scratch = TileScratch::new();
        for part in (0..parts).rev() {
            exec::run(plan, isa, &mut scratch, &inputs, &shared, part, parts).unwrap();
        }
        outputs
    }

    /// Fails unless the outputs of two executors agree.
    pub fn assert_agree(&self, (fast, slow): (&[Vec<u8>], &[Vec<u8>]), style: Style, what: &str) {
        for (out, access) in self.writes.iter().enumerate() {
            let size = access.elem.size();
            for (i, (f, s)) in fast[out].chunks(size).zip(slow[out].chunks(size)).enumerate() {
                assert!(
                    agree(access.elem, style, f, s),
                    "{what}, output {out} element {i}: {f:?} {:?}, expected {s:?} {:?}\n{:#?}\n{:?} {:?} {:?}",
                    number(access.elem, f),
                    number(access.elem, s),
                    self.program,
                    self.dims,
                    self.reads,
                    self.writes,
                );
            }
        }
    }

    /// The outputs of the scalar interpreter.
    pub fn slow(&self) -> Vec<Vec<u8>> {
        let mut outputs = self.outputs.clone();
        let inputs: Vec<&[u8]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        super::scalar::run(&self.program, &self.dims, (&self.reads, &inputs), (&self.writes, &mut slices))
            .unwrap();
        outputs
    }
}

/// A plan with its buffers.
pub struct Bound {
    plan: TilePlan,
    isa: TileIsa,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
    scratch: TileScratch,
}

impl Bound {
    /// Runs all of it on this thread.
    ///
    /// # Errors
    /// The processor lacks the instruction set.
    pub fn run(&mut self) -> Result<(), TileError> {
        // SAFETY: the vectors outlive the call and nothing else uses them meanwhile; inputs are only read.
        let shared = |v: &mut Vec<u8>| unsafe { SharedBytes::new(v.as_mut_ptr(), v.len()) };
        let outputs: Vec<_> = self.outputs.iter_mut().map(shared).collect();
        let inputs: Vec<_> = self.inputs.iter_mut().map(shared).collect();
        exec::run(&self.plan, self.isa, &mut self.scratch, &inputs, &outputs, 0, 1)
    }

    /// The outputs of the last run.
    pub fn outputs(&self) -> &[Vec<u8>] {
        &self.outputs
    }
}

/// An element as a number, if its type is a float.
pub fn number(elem: ElemType, bytes: &[u8]) -> Option<f64> {
    Some(match elem {
        ElemType::F32 => f64::from(f32::from_ne_bytes(bytes.try_into().ok()?)),
        ElemType::F64 => f64::from_ne_bytes(bytes.try_into().ok()?),
        ElemType::F16 => half::f16::from_ne_bytes(bytes.try_into().ok()?).to_f64(),
        ElemType::BF16 => half::bf16::from_ne_bytes(bytes.try_into().ok()?).to_f64(),
        _ if elem >= ElemType::F8E4M3FN => decode_byte(elem, bytes[0]),
        _ => return None,
    })
}

/// Bits agree, both are NaN, or (when the order of a sum matters) the numbers are within 4 units in the last place.
pub fn agree(elem: ElemType, style: Style, fast: &[u8], slow: &[u8]) -> bool {
    if fast == slow {
        return true;
    }
    let (Some(a), Some(b)) = (number(elem, fast), number(elem, slow)) else { return false };
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let ulp = match elem {
        ElemType::F64 => 1e-12,
        ElemType::F32 => 1.2e-7,
        ElemType::F16 => 1e-3,
        _ => 0.25,
    };
    style == Style::Tame && ((a - b).abs() <= 1e-10 || (a - b).abs() <= 4.0 * ulp * a.abs().max(b.abs()))
}

/// Reproducible random numbers.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits() >> 32) as usize) % n.max(1)
    }

    /// One of `from`.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// In `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Every element type.
pub const ELEMS: [ElemType; 23] = {
    use ElemType::*;
    [
        F32, F64, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool, I4, U4, I2, U2, F8E4M3FN,
        F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1,
    ]
};
