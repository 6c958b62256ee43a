//! Sessions: one thread's use of an engine, with its own workers, arena and plans.

pub use crate::engine::Engine;

use crate::cpu::features::Isa;
use crate::engine::validate::is_integer;
use crate::error::RunError;
use crate::memory::{AlignedBuf, Bases, Memory};
use crate::plan::{Limits, Plan, Target};
use crate::program::{Port, ShapeOp};
use crate::shape;
use crate::tensor::{HostTensor, TensorMut, TensorRef, byte_len};
use crate::threads::Pool;
use crate::tile::native::{CodeCache, CodeCounts, CodeProvider};
use std::sync::{Arc, Mutex, PoisonError};

/// How a session runs.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Number of threads, the calling one included; 0 takes as many as the process may use.
    pub threads: usize,
    /// The instruction set; none takes the best that this machine has.
    pub isa: Option<Isa>,
    /// How many plans for different input shapes are kept.
    pub max_plans: usize,
    /// Most bytes of temporaries and scratch memory.
    pub max_memory: u64,
    /// Most bytes of one tensor.
    pub max_tensor: u64,
    /// Most bytes of the outputs that [`Session::run_alloc`] makes, together.
    pub max_outputs: u64,
    /// Most elementary operations of one run: an engine of a few bytes can ask for years of arithmetic.
    pub max_work: u64,
    /// Who compiles the loops of `Tile` steps when a plan is made, in the order in which they are asked; without one they
    /// are interpreted, as with [`Isa::Scalar`] here. See [`CodeProvider`] for what that trusts.
    pub code: Vec<Arc<dyn CodeProvider>>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            isa: None,
            max_plans: 16,
            max_memory: 1 << 40,
            max_tensor: 1 << 40,
            max_outputs: 1 << 40,
            max_work: 1 << 56,
            code: Vec::new(),
        }
    }
}

/// An engine with the memory and threads to run it. After the first run for given input shapes, further runs for
/// them allocate nothing.
pub struct Session {
    engine: Engine,
    options: SessionOptions,
    limits: Limits,
    pool: Pool,
    plans: PlanCache,
    arena: AlignedBuf,
    scratch: AlignedBuf,
    bases: Bases,
    /// Input elements that the shape program reads: input, flat index.
    key_elems: Vec<(u32, u32)>,
    /// The compiled loops of all plans.
    code: Option<CodeCache>,
}

impl Session {
    /// Prepares to run an engine.
    pub fn new(engine: Engine, options: SessionOptions) -> Result<Self, RunError> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let mut key_elems: Vec<(u32, u32)> = Vec::new();
        for op in &engine.program().shape.ops {
            if let ShapeOp::InputElem { input, index } = *op {
                key_elems.push((input, index));
            }
        }
        key_elems.sort_unstable();
        key_elems.dedup();
        let compiles = !options.code.is_empty() && options.isa != Some(Isa::Scalar);
        Ok(Self {
            limits: Limits {
                max_memory: options.max_memory,
                max_tensor: options.max_tensor,
                max_work: options.max_work,
            },
            pool: Pool::new(threads)?,
            plans: PlanCache::new(options.max_plans),
            arena: AlignedBuf::default(),
            scratch: AlignedBuf::default(),
            bases: Bases::default(),
            key_elems,
            code: compiles.then(|| CodeCache::new(options.code.clone())),
            engine,
            options,
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.workers()
    }

    /// The instruction set that its kernels use.
    pub fn isa(&self) -> Isa {
        self.options.isa.unwrap_or_else(Isa::detect)
    }

    /// Number of plans kept at present.
    pub fn cached_plans(&self) -> usize {
        self.plans.entries.len()
    }

    /// How many distinct loops were compiled for the plans made so far.
    pub fn code_counts(&self) -> CodeCounts {
        self.code.as_ref().map(CodeCache::counts).unwrap_or_default()
    }

    /// Extents of the outputs for these inputs.
    pub fn output_shapes(&mut self, inputs: &[TensorRef<'_>]) -> Result<&[Vec<usize>], RunError> {
        Ok(self.plan(inputs)?.output_dims())
    }

    /// The plan that was used last.
    pub fn last_plan(&self) -> Option<&Plan> {
        self.plans.entries.iter().max_by_key(|e| e.used).map(|e| &e.plan)
    }

    /// The plan for these inputs, made if there is none yet.
    pub fn plan(&mut self, inputs: &[TensorRef<'_>]) -> Result<&Plan, RunError> {
        let at = self.find_plan(inputs)?;
        self.plans.get(at)
    }

    /// Runs the engine. Inputs and outputs are in the engine's order, and are used where they are. If this fails,
    /// outputs may have been written in part.
    pub fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), RunError> {
        self.run_observed(inputs, outputs, |_| {})
    }

    /// [`Session::run`], which calls `done` after every step with the step's place in the program, when all threads are done
    /// with it.
    pub fn run_observed(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        done: impl FnMut(usize),
    ) -> Result<(), RunError> {
        let at = self.find_plan(inputs)?;
        let plan = self.plans.get(at)?;
        check_outputs(&self.engine.program().outputs, &self.engine, plan, outputs)?;
        grow(&mut self.arena, plan.memory().arena_bytes)?;
        grow(&mut self.scratch, plan.scratch_bytes())?;
        self.bases.inputs.clear();
        self.bases.inputs.extend(inputs.iter().map(|t| (t.bytes.as_ptr(), t.bytes.len())));
        self.bases.outputs.clear();
        self.bases.outputs.extend(outputs.iter_mut().map(|t| (t.bytes.as_mut_ptr(), t.bytes.len())));
        let weights = self.engine.weights();
        self.bases.consts = (weights.as_ptr(), weights.len());
        self.bases.arena = (self.arena.as_mut_ptr(), self.arena.len());
        // SAFETY: the bases were taken just now from buffers that stay borrowed until this function returns: shared
        // for inputs and weights, exclusive for outputs and arena; all are initialised.
        let memory = unsafe { Memory::new(&plan.memory().places, &self.bases) };
        self.pool.hold();
        let result = run_steps(&mut self.pool, plan, &memory, &mut self.scratch, done);
        self.pool.relax();
        result
    }

    /// Runs the engine and gives its outputs in new tensors.
    pub fn run_alloc(&mut self, inputs: &[TensorRef<'_>]) -> Result<Vec<HostTensor>, RunError> {
        let engine = self.engine.clone();
        let program = engine.program();
        let limit = self.options.max_outputs;
        let plan = self.plan(inputs)?;
        let bytes = program.outputs.iter().map(|port| plan.sizes().bytes(port.value) as u64);
        let want = bytes.fold(0, u64::saturating_add);
        if want > limit {
            return Err(RunError::Memory { what: "all outputs together".into(), want, limit });
        }
        let shapes = plan.output_dims();
        let mut tensors = Vec::with_capacity(shapes.len());
        for (port, dims) in program.outputs.iter().zip(shapes) {
            let value = program.values.get(port.value as usize);
            let elem = value.map(|v| v.elem).ok_or_else(|| no_value(port))?;
            tensors.push(HostTensor::zeros(elem, dims)?);
        }
        let mut outputs: Vec<TensorMut<'_>> = tensors.iter_mut().map(HostTensor::as_mut).collect();
        self.run(inputs, &mut outputs)?;
        Ok(tensors)
    }

    fn find_plan(&mut self, inputs: &[TensorRef<'_>]) -> Result<usize, RunError> {
        let program = self.engine.program();
        check_count("inputs", &program.inputs, inputs.len())?;
        let key = &mut self.plans.key;
        key.clear();
        for (port, input) in program.inputs.iter().zip(inputs) {
            let value = program.values.get(port.value as usize).ok_or_else(|| no_value(port))?;
            check_tensor("input", port, input, value.elem, value.dims.len())?;
            key.extend(input.dims.iter().map(|&d| d as i64));
        }
        for &(input, index) in &self.key_elems {
            key.push(shape::input_elem(inputs, input, index)?);
        }
        if let Some(at) = self.plans.find() {
            return Ok(at);
        }
        let target = Target {
            isa: self.options.isa.unwrap_or_else(Isa::detect),
            workers: self.pool.workers(),
            code: self.code.as_ref(),
        };
        let plan = Plan::new(program, inputs, &self.limits, &target)?;
        Ok(self.plans.insert(plan))
    }
}

/// Runs all steps in order. Of several workers that fail in one step the first one's error is reported, so that
/// errors do not depend on timing.
fn run_steps(
    pool: &mut Pool,
    plan: &Plan,
    memory: &Memory<'_>,
    scratch: &mut AlignedBuf,
    mut done: impl FnMut(usize),
) -> Result<(), RunError> {
    let scratch = Scratch { base: scratch.as_mut_ptr(), len: scratch.len() };
    let failure: Mutex<Option<(usize, RunError)>> = Mutex::new(None);
    for (place, step) in plan.steps().iter().enumerate() {
        pool.run_parts(step.parts, |part, parts| {
            // SAFETY: each part runs on one worker at a time, and parts get disjoint ranges.
            let scratch = unsafe { scratch.part(part, step.scratch) };
            if let Err(error) = step.call.run(memory, part, parts, scratch) {
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(other, _)| part < *other) {
                    *first = Some((part, error));
                }
            }
        })?;
        if let Some((_, error)) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        done(place);
    }
    Ok(())
}

/// The scratch memory of all workers.
#[derive(Clone, Copy)]
struct Scratch {
    base: *mut u8,
    len: usize,
}

// SAFETY: only `part` follows the address, and its caller keeps workers apart.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// The `part`-th range of `each` bytes; empty if the memory does not have it.
    ///
    /// # Safety
    /// The memory is exclusively borrowed, and no two living slices have the same `part` or different `each`.
    #[allow(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
    unsafe fn part(&self, part: usize, each: usize) -> &mut [u8] {
        let start = part.saturating_mul(each);
        if each == 0 || start.saturating_add(each) > self.len {
            return &mut [];
        }
        // SAFETY: the range is inside the memory, and the caller keeps ranges disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), each) }
    }
}

fn grow(buffer: &mut AlignedBuf, len: usize) -> Result<(), RunError> {
    if buffer.len() < len {
        // Given back first: the contents need not be kept, and both might not fit.
        *buffer = AlignedBuf::default();
        *buffer = AlignedBuf::zeroed(len)?;
    }
    Ok(())
}

fn no_value(port: &Port) -> RunError {
    RunError::Shape(format!("{:?} has no value", port.name))
}

fn check_count(what: &'static str, ports: &[Port], found: usize) -> Result<(), RunError> {
    if ports.len() == found {
        return Ok(());
    }
    let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
    Err(RunError::Count { what, want: ports.len(), found, names: names.join(", ") })
}

fn check_outputs(
    ports: &[Port],
    engine: &Engine,
    plan: &Plan,
    outputs: &[TensorMut<'_>],
) -> Result<(), RunError> {
    check_count("outputs", ports, outputs.len())?;
    for (port, output) in ports.iter().zip(outputs) {
        let value = engine.program().values.get(port.value as usize).ok_or_else(|| no_value(port))?;
        let view = TensorRef { elem: output.elem, dims: output.dims, bytes: &*output.bytes };
        check_tensor("output", port, &view, value.elem, value.dims.len())?;
        let want = plan.sizes().dims(port.value);
        if want != output.dims {
            return Err(RunError::Tensor {
                port: format!("output {:?}", port.name),
                detail: format!("extents are {:?}, these inputs give {want:?}", output.dims),
                help: "ask output_shapes for the extents".into(),
            });
        }
    }
    Ok(())
}

/// Element type, rank, number of bytes and alignment.
fn check_tensor(
    what: &str,
    port: &Port,
    tensor: &TensorRef<'_>,
    elem: crate::elem::ElemType,
    rank: usize,
) -> Result<(), RunError> {
    let fail = |detail: String, help: String| {
        Err(RunError::Tensor { port: format!("{what} {:?}", port.name), detail, help })
    };
    if tensor.elem != elem {
        let hint = if is_integer(elem) == is_integer(tensor.elem) { "convert it" } else { "check the order" };
        return fail(format!("element type is {:?}, must be {elem:?}", tensor.elem), hint.into());
    }
    if tensor.dims.len() != rank {
        let want = port.dim_names.join(", ");
        return fail(
            format!("rank is {} ({:?}), must be {rank}", tensor.dims.len(), tensor.dims),
            format!("its extents are [{want}]"),
        );
    }
    if byte_len(elem, tensor.dims) != Some(tensor.bytes.len()) {
        return fail(
            format!("{} bytes were passed for {elem:?}{:?}", tensor.bytes.len(), tensor.dims),
            format!("pass {} bytes an element", elem.size()),
        );
    }
    if !tensor.bytes.is_empty() && !tensor.bytes.as_ptr().addr().is_multiple_of(elem.size()) {
        return fail(
            format!("its address is not a multiple of {}, the element size", elem.size()),
            "pass memory of the element type, or a HostTensor".into(),
        );
    }
    Ok(())
}

/// Least recently used plans give way to new ones.
struct PlanCache {
    entries: Vec<Entry>,
    max: usize,
    clock: u64,
    /// The key of the inputs at hand: extents of all inputs, then the elements that the shape program reads.
    key: Vec<i64>,
}

struct Entry {
    key: Box<[i64]>,
    plan: Plan,
    used: u64,
}

impl PlanCache {
    fn new(max: usize) -> Self {
        Self { entries: Vec::new(), max: max.max(1), clock: 0, key: Vec::new() }
    }

    fn get(&self, at: usize) -> Result<&Plan, RunError> {
        self.entries.get(at).map(|e| &e.plan).ok_or_else(|| RunError::Shape("no plan was made".into()))
    }

    /// The plan for `self.key`, marked as used.
    fn find(&mut self) -> Option<usize> {
        let at = self.entries.iter().position(|e| *e.key == *self.key)?;
        self.clock += 1;
        self.entries[at].used = self.clock;
        Some(at)
    }

    /// Adds a plan for `self.key`.
    fn insert(&mut self, plan: Plan) -> usize {
        self.clock += 1;
        let entry = Entry { key: self.key.as_slice().into(), plan, used: self.clock };
        if self.entries.len() < self.max {
            self.entries.push(entry);
            return self.entries.len() - 1;
        }
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, e)| e.used).map_or(0, |(at, _)| at);
        self.entries[oldest] = entry;
        oldest
    }
}
