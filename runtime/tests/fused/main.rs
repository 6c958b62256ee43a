//! Steps that fuse what would be several, run through sessions of every instruction set and several thread counts
//! against the steps that they replace, or against naive loops.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod epilogue;
mod halves;
mod inplace;
mod nests;
mod sparse;
mod strided;

use autoglm_runtime::cpu::Isa;
use autoglm_runtime::cpu::emit::Emitter;
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::error::RunError;
use autoglm_runtime::program::{Access, Program, Reg, ShapeOp, StepKind, Storage, ValueId};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::tile::TileProgram;
use autoglm_runtime::tile::native::{CodeProvider, Declined, LoopSpec};
pub(crate) use common::Random;
use std::sync::Arc;

/// A program of constant sizes under construction, with the tensors to run it on.
#[derive(Clone, Default)]
pub(crate) struct Build {
    pub(crate) program: Program,
    pub(crate) inputs: Vec<HostTensor>,
}

impl Build {
    pub(crate) fn reg(&mut self, number: usize) -> Reg {
        self.signed(number as i64)
    }

    pub(crate) fn signed(&mut self, number: i64) -> Reg {
        let ops = &mut self.program.shape.ops;
        let found = ops.iter().position(|op| *op == ShapeOp::Const(number));
        found.unwrap_or_else(|| {
            ops.push(ShapeOp::Const(number));
            ops.len() - 1
        }) as Reg
    }

    pub(crate) fn regs(&mut self, numbers: &[usize]) -> Vec<Reg> {
        numbers.iter().map(|&n| self.reg(n)).collect()
    }

    pub(crate) fn access(&mut self, offset: usize, strides: &[usize]) -> Access {
        Access { offset: self.reg(offset), strides: self.regs(strides) }
    }

    fn value(&mut self, elem: ElemType, dims: &[usize], storage: Storage) -> ValueId {
        let dims = self.regs(dims);
        self.program.values.push(common::value(elem, &dims, storage));
        self.program.values.len() as ValueId - 1
    }

    pub(crate) fn input(&mut self, tensor: HostTensor) -> ValueId {
        let at = self.inputs.len();
        let id = self.value(tensor.elem, &tensor.dims, Storage::Input(at as u32));
        let names = vec!["d"; tensor.dims.len()];
        self.program.inputs.push(common::port(&format!("x{at}"), id, &names));
        self.inputs.push(tensor);
        id
    }

    /// An input of numbers in `[-1, 1)`.
    pub(crate) fn floats(&mut self, random: &mut Random, len: usize) -> ValueId {
        let elems: Vec<f32> = (0..len).map(|_| float(random)).collect();
        self.input(HostTensor::from_f32(&[len], &elems).unwrap())
    }

    pub(crate) fn temp(&mut self, len: usize) -> ValueId {
        self.value(ElemType::F32, &[len], Storage::Temp)
    }

    pub(crate) fn output(&mut self, id: ValueId) {
        let name = format!("y{}", self.program.outputs.len());
        self.program.outputs.push(common::port(&name, id, &["d"]));
    }

    pub(crate) fn tile(&mut self, tile: TileProgram) -> u32 {
        self.program.tiles.push(tile);
        self.program.tiles.len() as u32 - 1
    }

    pub(crate) fn step(&mut self, kind: StepKind, args: &[ValueId], out: ValueId) {
        let name = format!("{} {}", kind.name(), self.program.steps.len());
        self.program.steps.push(common::step(&name, kind, args, &[out]));
    }

    pub(crate) fn engine(&self) -> Engine {
        let writer = EngineWriter::in_memory().unwrap();
        let bytes = writer.finish(&common::signature(&self.program), &self.program).unwrap();
        let engine = common::engine(bytes);
        assert_eq!(**engine.program(), self.program);
        engine
    }

    pub(crate) fn session(&self, isa: Isa, threads: usize) -> Session {
        let options = SessionOptions { threads, isa: Some(isa), ..SessionOptions::default() };
        Session::new(self.engine(), options).unwrap()
    }

    /// A session that compiles every loop that it can.
    pub(crate) fn compiling(&self, isa: Isa, threads: usize) -> Session {
        let code: Vec<Arc<dyn CodeProvider>> = vec![Arc::new(Always)];
        let options = SessionOptions { threads, isa: Some(isa), code, ..SessionOptions::default() };
        Session::new(self.engine(), options).unwrap()
    }

    /// The outputs with interpreted loops; requires compiled loops to give the same bits.
    pub(crate) fn run(&self, isa: Isa, threads: usize) -> Result<Vec<Vec<f32>>, RunError> {
        let inputs: Vec<_> = self.inputs.iter().map(HostTensor::as_ref).collect();
        let outputs = self.session(isa, threads).run_alloc(&inputs)?;
        let outputs: Vec<Vec<f32>> = outputs.iter().map(|t| t.to_f32().unwrap()).collect();
        let compiled = self.compiling(isa, threads).run_alloc(&inputs)?;
        for (compiled, want) in compiled.iter().zip(&outputs) {
            same(&compiled.to_f32().unwrap(), want, &format!("compiled for {} x {threads}", isa.name()));
        }
        Ok(outputs)
    }

    /// Why a plan is refused.
    #[track_caller]
    pub(crate) fn refusal(&self) -> String {
        let error = self.run(Isa::Scalar, 1).unwrap_err();
        assert_eq!(error.code(), "E0608", "{error}");
        error.to_string()
    }
}

/// The emitter for loops of any length.
#[derive(Debug)]
struct Always;

impl CodeProvider for Always {
    fn worth(&self, _: &LoopSpec) -> u64 {
        0
    }

    fn compile(&self, spec: &LoopSpec) -> Result<Vec<u8>, Declined> {
        Emitter.compile(spec)
    }
}

/// The instruction sets that can be tested here.
pub(crate) fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// A number in `[-1, 1)`.
pub(crate) fn float(random: &mut Random) -> f32 {
    random.below(1 << 24) as f32 / 8_388_608.0 - 1.0
}

/// One of `choices`.
pub(crate) fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len())]
}

/// Row-major strides.
pub(crate) fn dense(extents: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; extents.len()];
    for i in (1..extents.len()).rev() {
        strides[i - 1] = strides[i] * extents[i];
    }
    strides
}

/// The product of extents.
pub(crate) fn count(extents: &[usize]) -> usize {
    extents.iter().product()
}

/// Strides with gaps between lines, for all but the last of `extents`, and the elements they span.
pub(crate) fn spread(random: &mut Random, extents: &[usize]) -> (Vec<usize>, usize) {
    let mut at = extents[extents.len() - 1];
    let mut strides = vec![0; extents.len() - 1];
    for (stride, extent) in strides.iter_mut().zip(extents).rev() {
        *stride = at + one_of(random, &[0, 0, 3, 16]);
        at = *stride * extent;
    }
    (strides, at)
}

/// Asserts that two results are the same to the bit (NaNs alike).
#[track_caller]
pub(crate) fn same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let equal = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(equal, "element {i} of {what}: {got} instead of {want}");
    }
}
