//! Engines of constant sizes in memory, and how long they take.

use autoglm_runtime::cpu::features::Isa;
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::manifest::{Manifest, TensorSignature};
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{
    Access, Port, Program, Reg, ShapeOp, Step, StepKind, Storage, Value, ValueId,
};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorMut};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs of a measurement, at least.
const RUNS_MIN: usize = 3;

/// Steps with weights of their own that are measured together, at most, and the most floats of their weights.
const COPIES_MAX: usize = 8;
const WEIGHTS_MAX: usize = 1 << 26;

/// Floats that leave nothing else in the caches when they are read.
const CACHES: usize = 1 << 24;

/// How to measure.
pub(crate) struct Bench {
    pub(crate) isa: Isa,
    pub(crate) threads: usize,
    pub(crate) budget: Duration,
}

/// A program of constant sizes.
#[derive(Default)]
pub(crate) struct Build {
    pub(crate) program: Program,
    inputs: Vec<(ElemType, usize)>,
    /// Steps that are measured together, one if 0.
    steps: usize,
    /// No cache holds what a run reads when it starts.
    cold: bool,
}

impl Build {
    pub(crate) fn reg(&mut self, number: usize) -> Reg {
        self.program.shape.ops.push(ShapeOp::Const(number as i64));
        self.program.shape.ops.len() as Reg - 1
    }

    pub(crate) fn regs<const N: usize>(&mut self, numbers: [usize; N]) -> [Reg; N] {
        numbers.map(|number| self.reg(number))
    }

    pub(crate) fn access(&mut self, strides: &[usize]) -> Access {
        Access { offset: self.reg(0), strides: strides.iter().map(|s| self.reg(*s)).collect() }
    }

    fn value(&mut self, elem: ElemType, len: usize, storage: Storage) -> ValueId {
        let dims = vec![self.reg(len)];
        self.program.values.push(Value { elem, dims, storage });
        self.program.values.len() as ValueId - 1
    }

    pub(crate) fn floats(&mut self, len: usize) -> ValueId {
        self.input(ElemType::F32, len)
    }

    /// Floats between -0.5 and 0.5, or the integers from 0.
    pub(crate) fn input(&mut self, elem: ElemType, len: usize) -> ValueId {
        let at = self.inputs.len();
        self.inputs.push((elem, len));
        let value = self.value(elem, len, Storage::Input(at as u32));
        self.program.inputs.push(Port { name: format!("x{at}"), value, dim_names: vec!["n".into()] });
        value
    }

    /// Several steps, of which the mean is measured.
    pub(crate) fn several<T>(&mut self, of: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        for step in of {
            self.steps += 1;
            each(self, step);
        }
    }

    /// A step that `each` makes from weights of `len` floats. In a model the weights of a layer were used a run ago, and
    /// those of all others since.
    pub(crate) fn weighted(&mut self, len: usize, mut each: impl FnMut(&mut Self, ValueId)) {
        self.cold = true;
        self.several(0..(WEIGHTS_MAX / len.max(1)).clamp(1, COPIES_MAX), |build, _| {
            let weights = build.floats(len);
            each(build, weights);
        });
    }

    pub(crate) fn result(&mut self, len: usize) -> ValueId {
        self.value(ElemType::F32, len, Storage::Temp)
    }

    pub(crate) fn step(&mut self, kind: StepKind, args: Vec<ValueId>, out: ValueId) {
        self.program.steps.push(Step { kind, args, outs: vec![out], name: String::new() });
    }

    fn engine(&self) -> Outcome<Engine> {
        let signature = |port: &Port| TensorSignature {
            name: port.name.clone(),
            elem: self.program.values[port.value as usize].elem as u32,
            dims: port.dim_names.clone(),
        };
        let manifest = Manifest {
            inputs: self.program.inputs.iter().map(signature).collect(),
            outputs: self.program.outputs.iter().map(signature).collect(),
            ..Manifest::default()
        };
        let bytes = EngineWriter::in_memory()?.finish(&manifest, &self.program)?;
        Ok(Engine::from_bytes(bytes.into())?)
    }

    /// Nanoseconds of a step in the fastest run within the budget.
    pub(crate) fn fastest(mut self, bench: &Bench) -> Outcome<f64> {
        let out = self.program.steps.last().ok_or("there is nothing to measure")?.outs[0];
        self.program.outputs = vec![Port { name: "y".into(), value: out, dim_names: vec!["n".into()] }];
        let options =
            SessionOptions { threads: bench.threads, isa: Some(bench.isa), ..SessionOptions::default() };
        let mut session = Session::new(self.engine()?, options)?;
        let tensor = |(elem, len): &(ElemType, usize)| match elem {
            ElemType::I64 => {
                let bytes: Vec<u8> = (0..*len as i64).flat_map(i64::to_le_bytes).collect();
                HostTensor::from_bytes(*elem, &[*len], &bytes)
            }
            _ => {
                let elems: Vec<f32> = (0..*len).map(|i| (i * 37 % 101) as f32 * 0.01 - 0.5).collect();
                HostTensor::from_f32(&[*len], &elems)
            }
        };
        let inputs = self.inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<_> = inputs.iter().map(HostTensor::as_ref).collect();
        let mut outputs = session.run_alloc(&inputs)?;
        let mut outputs: Vec<TensorMut<'_>> = outputs.iter_mut().map(HostTensor::as_mut).collect();
        let others = vec![1.0f32; if self.cold { CACHES } else { 0 }];
        let (end, mut best, mut runs) = (Instant::now() + bench.budget, f64::INFINITY, 0);
        while runs < RUNS_MIN || Instant::now() < end {
            black_box(others.iter().step_by(16).sum::<f32>());
            let start = Instant::now();
            session.run(&inputs, &mut outputs)?;
            best = best.min(start.elapsed().as_secs_f64());
            runs += 1;
        }
        Ok(best * 1e9 / self.steps.max(1) as f64)
    }
}
