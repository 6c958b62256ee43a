//! Plans: everything that depends on concrete input shapes, made once for them and then reused.

use crate::arena::{self, Block};
use crate::cpu::features::Isa;
use crate::elem::ElemType;
use crate::engine::validate::roots;
use crate::error::RunError;
use crate::memory::{ALIGN, Place, Region};
use crate::program::{Access, Program, Reg, Step, StepKind, Storage, ValueId};
use crate::shape;
use crate::steps::{self, Call, PlanCx, Strided};
use crate::tensor::{TensorRef, byte_len};
use crate::tile::native::{CodeCache, compile_loops};
use crate::tile::{Instr, TileIsa, TileProgram};
use std::sync::Arc;

/// What a plan may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the arena and scratch memory together.
    pub max_memory: u64,
    /// Bytes of one tensor.
    pub max_tensor: u64,
    /// Elementary operations of one run, as [`Call::work`] counts them.
    pub max_work: u64,
}

/// Concrete extents and byte lengths of all values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    dims: Vec<usize>,
    starts: Vec<usize>,
    bytes: Vec<usize>,
}

impl Sizes {
    /// Computes and checks the sizes of all values from the registers.
    pub fn new(program: &Program, regs: &[i64], limits: &Limits) -> Result<Self, RunError> {
        let count = program.values.len();
        let mut sizes = Self { starts: Vec::with_capacity(count + 1), ..Self::default() };
        sizes.bytes.reserve(count);
        for (id, value) in program.values.iter().enumerate() {
            let start = sizes.dims.len();
            sizes.starts.push(start);
            for &dim in &value.dims {
                let extent = regs.get(dim as usize).copied().unwrap_or(-1);
                let extent = usize::try_from(extent).map_err(|_| {
                    RunError::Shape(format!("an extent of {} is {extent}", describe(program, id)))
                })?;
                sizes.dims.push(extent);
            }
            let dims = &sizes.dims[start..];
            let bytes = byte_len(value.elem, dims).filter(|&b| b as u64 <= limits.max_tensor);
            let bytes = bytes.ok_or_else(|| RunError::Memory {
                what: format!("{}, {:?}{dims:?},", describe(program, id), value.elem),
                want: saturating_bytes(value.elem, dims),
                limit: limits.max_tensor,
            })?;
            sizes.bytes.push(bytes);
        }
        sizes.starts.push(sizes.dims.len());
        sizes.check_storage(program)?;
        Ok(sizes)
    }

    fn check_storage(&self, program: &Program) -> Result<(), RunError> {
        for (id, value) in program.values.iter().enumerate() {
            let own = self.bytes(id as ValueId);
            let (other, what) = match value.storage {
                Storage::Const { len, .. } => (len, "its constant"),
                Storage::Alias(of) => (self.bytes(of) as u64, "the value it is an alias of"),
                Storage::Input(_) | Storage::Temp => continue,
            };
            if own as u64 != other {
                let value = describe(program, id);
                return Err(RunError::Shape(format!("{value} has {own} bytes, {what} has {other}")));
            }
        }
        Ok(())
    }

    /// Extents of a value; empty for ids out of range.
    pub fn dims(&self, value: ValueId) -> &[usize] {
        let id = value as usize;
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(&start), Some(&end)) => self.dims.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Byte length of a value; 0 for ids out of range.
    pub fn bytes(&self, value: ValueId) -> usize {
        self.bytes.get(value as usize).copied().unwrap_or(0)
    }
}

fn saturating_bytes(elem: ElemType, dims: &[usize]) -> u64 {
    dims.iter().fold(elem.size() as u64, |bytes, &dim| bytes.saturating_mul(dim as u64))
}

/// How to name a value in a message: by its port, else by the step that makes it.
fn describe(program: &Program, id: usize) -> String {
    let named = |what: &str, ports: &[crate::program::Port]| {
        ports.iter().find(|p| p.value as usize == id).map(|p| format!("{what} {:?}", p.name))
    };
    let made = || {
        let step = program.steps.iter().find(|s| s.outs.contains(&(id as ValueId)))?;
        Some(format!("the result of step {:?}", step.name))
    };
    named("input", &program.inputs)
        .or_else(|| named("output", &program.outputs))
        .or_else(made)
        .unwrap_or_else(|| format!("value {id}"))
}

/// Where all values are, and how well that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// One for each value.
    pub places: Vec<Place>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Most bytes of the arena that are alive during one step.
    pub lower_bound: usize,
}

/// Decides where every value lives for these registers and sizes.
pub fn lay_out(
    program: &Program,
    regs: &[i64],
    sizes: &Sizes,
    limits: &Limits,
) -> Result<MemoryPlan, RunError> {
    let roots = roots(program);
    let classes = Classes::new(program, regs, sizes, &roots);
    let too_large = || RunError::Memory {
        what: "the arena".into(),
        want: classes.blocks.iter().fold(0, |sum: u64, b| sum.saturating_add(b.size as u64)),
        limit: limits.max_memory,
    };
    // Classes that an output buffer holds take no room in the arena.
    let in_arena: Vec<usize> = (0..classes.blocks.len()).filter(|&c| classes.output[c].is_none()).collect();
    let blocks: Vec<Block> = in_arena.iter().map(|&c| classes.blocks[c]).collect();
    let layout = arena::assign(&blocks).ok_or_else(too_large)?;
    if layout.peak as u64 > limits.max_memory {
        return Err(RunError::Memory {
            what: "the arena".into(),
            want: layout.peak as u64,
            limit: limits.max_memory,
        });
    }
    let mut offsets = vec![0; classes.blocks.len()];
    in_arena.iter().zip(&layout.offsets).for_each(|(&c, &offset)| offsets[c] = offset);
    let place = |id: usize| {
        let root = roots[id] as usize;
        let len = sizes.bytes(id as ValueId);
        let (region, offset) = match (program.values[root].storage, classes.of[root]) {
            (Storage::Input(i), _) => (Region::Input(i), 0),
            (Storage::Const { offset, .. }, _) => (Region::Const, usize::try_from(offset).ok()?),
            (_, Some(class)) => match classes.output[class] {
                Some(output) => (Region::Output(output), 0),
                None => (Region::Arena, offsets[class]),
            },
            // Neither written nor read: it has an address, but no bytes.
            (_, None) => return Some(Place { region: Region::Arena, offset: 0, len: 0 }),
        };
        Some(Place { region, offset, len })
    };
    let places = (0..program.values.len()).map(place).collect::<Option<_>>().ok_or_else(too_large)?;
    Ok(MemoryPlan { places, arena_bytes: layout.peak, lower_bound: layout.lower_bound })
}

/// Temporaries grouped by shared memory: a value and those that are computed in place over it.
struct Classes {
    /// Class of each value that is a written temporary.
    of: Vec<Option<usize>>,
    /// Lifetime and size of each class.
    blocks: Vec<Block>,
    /// The output that a class contains.
    output: Vec<Option<u32>>,
}

impl Classes {
    fn new(program: &Program, regs: &[i64], sizes: &Sizes, roots: &[ValueId]) -> Self {
        let count = program.values.len();
        let end = program.steps.len() as u32;
        let mut first = vec![u32::MAX; count];
        let mut last = vec![0; count];
        for (s, step) in program.steps.iter().enumerate() {
            for &out in &step.outs {
                let root = roots[out as usize] as usize;
                first[root] = first[root].min(s as u32);
                last[root] = s as u32;
            }
            for &arg in &step.args {
                last[roots[arg as usize] as usize] = s as u32;
            }
        }
        let mut port = vec![None; count];
        for (i, output) in program.outputs.iter().enumerate() {
            last[output.value as usize] = end;
            port[output.value as usize] = Some(i as u32);
        }
        let mut classes = Self { of: vec![None; count], blocks: Vec::new(), output: Vec::new() };
        let mut taken = Vec::new();
        for (s, step) in program.steps.iter().enumerate() {
            let in_place = if program.separate { None } else { InPlace::of(program, regs, sizes, step) };
            taken.clear();
            for &out in &step.outs {
                let id = out as usize;
                if classes.of[id].is_some() {
                    continue;
                }
                let dying = step.args.iter().find_map(|&arg| {
                    let root = roots[arg as usize];
                    let class = classes.of[root as usize]?;
                    let free = last[root as usize] == s as u32
                        && !taken.contains(&class)
                        && sizes.bytes(root) == sizes.bytes(out);
                    let allowed = |way: &InPlace| way.allows(program, roots, step, arg);
                    (free && in_place.as_ref().is_some_and(allowed)).then_some(class)
                });
                let class = dying.unwrap_or_else(|| {
                    classes.blocks.push(Block { first: first[id], last: last[id], size: sizes.bytes(out) });
                    classes.output.push(None);
                    classes.blocks.len() - 1
                });
                taken.push(class);
                classes.of[id] = Some(class);
                classes.blocks[class].last = last[id];
                classes.output[class] = classes.output[class].or(port[id]);
            }
        }
        classes
    }
}

/// The part of a step that computes each element of an output from elements of arguments.
struct ElementMap {
    tile: u32,
    dims: Vec<i64>,
    /// For each argument of the step its access; none if the step does more with it than to load it in the map.
    reads: Vec<Option<Strided>>,
    write: Strided,
}

impl ElementMap {
    fn of(step: &Step, regs: &[i64]) -> Option<Self> {
        let numbers =
            |of: &[Reg]| -> Option<Vec<i64>> { of.iter().map(|r| regs.get(*r as usize).copied()).collect() };
        let strided = |access: &Access| -> Option<Strided> {
            let offset = regs.get(access.offset as usize).copied()?;
            Some(Strided { offset, strides: numbers(&access.strides)? })
        };
        let (tile, dims, own, reads, write) = match &step.kind {
            StepKind::Tile { tile, dims, reads, writes } => {
                (*tile, numbers(dims)?, 0, reads, strided(writes.first()?)?)
            }
            StepKind::MatMul { epilogue: Some(epilogue), batch, m, n, out, .. } => {
                let dims = numbers(&[batch.as_slice(), &[*m, *n]].concat())?;
                (epilogue.tile, dims, step.kind.own_args(), &epilogue.reads, strided(out)?)
            }
            StepKind::Conv { epilogue: Some(epilogue), extents, out_extents: [oh, ow], m, out, .. }
            | StepKind::Winograd {
                epilogue: Some(epilogue), extents, out_extents: [oh, ow], m, out, ..
            } => {
                let dims = numbers(&[extents[0], *oh, *ow, *m])?;
                (epilogue.tile, dims, step.kind.own_args(), &epilogue.reads, strided(out)?)
            }
            _ => return None,
        };
        let mut write = write;
        if own > 0 {
            // The columns of a contraction's output are neighbours.
            write.strides.push(1);
        }
        let mut all = vec![None; own];
        for read in reads {
            all.push(Some(strided(read)?));
        }
        Some(Self { tile, dims, reads: all, write })
    }
}

/// How a step may write its output over an argument that nothing reads later: a pure map or epilogue with one output, which
/// it writes densely, once an element and after everything that it loads there.
struct InPlace {
    map: ElementMap,
    elem_size: usize,
}

impl InPlace {
    fn of(program: &Program, regs: &[i64], sizes: &Sizes, step: &Step) -> Option<Self> {
        let [out] = step.outs.as_slice() else { return None };
        let map = ElementMap::of(step, regs)?;
        let elem_size = elem_size(program, *out);
        let tile = program.tiles.get(map.tile as usize)?;
        let dense = is_dense(&map.write, &map.dims, sizes.bytes(*out) / elem_size.max(1));
        (dense && stores_last(tile)).then_some(Self { map, elem_size })
    }

    /// Whether the output may be written over argument `arg`. `roots` is each value's memory, as aliases share it.
    fn allows(&self, program: &Program, roots: &[ValueId], step: &Step, arg: ValueId) -> bool {
        let root = roots.get(arg as usize);
        // Every operand that looks at the same memory has to look at it the way the output does.
        let shared = step.args.iter().enumerate().filter(|(_, a)| roots.get(**a as usize) == root);
        let mut same = shared.map(|(i, &a)| {
            let read = self.map.reads.get(i).and_then(Option::as_ref);
            read == Some(&self.map.write) && elem_size(program, a) == self.elem_size
        });
        same.all(|same| same)
    }
}

fn elem_size(program: &Program, id: ValueId) -> usize {
    program.values.get(id as usize).map_or(0, |v| v.elem.size())
}

/// Whether a pure map has one store, and no load after it.
fn stores_last(tile: &TileProgram) -> bool {
    let mut accesses = tile.body.iter().filter(|i| matches!(i, Instr::Load { .. } | Instr::Store { .. }));
    let first_store = accesses.find(|i| matches!(i, Instr::Store { .. }));
    tile.reduce_rank == 0 && first_store.is_some() && accesses.next().is_none()
}

/// Whether an access visits elements `0..count` once each, in order.
fn is_dense(access: &Strided, dims: &[i64], count: usize) -> bool {
    let mut expected = 1i64;
    for (&dim, &stride) in dims.iter().zip(&access.strides).rev() {
        if dim != 1 && stride != expected {
            return false;
        }
        let Some(product) = expected.checked_mul(dim) else { return false };
        expected = product;
    }
    access.offset == 0 && usize::try_from(expected) == Ok(count)
}

/// A step that is ready to run.
pub(crate) struct PlannedStep {
    pub(crate) call: Box<dyn Call>,
    /// Workers it is run on.
    pub(crate) parts: usize,
    /// Scratch bytes of one worker, a multiple of [`ALIGN`].
    pub(crate) scratch: usize,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The instruction set to use.
    pub isa: Isa,
    /// How many threads will run the plan.
    pub workers: usize,
    /// Compiles the loops; without it they are interpreted.
    pub code: Option<&'a CodeCache>,
}

/// How the loop nests of a plan are run, epilogues among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounts {
    /// By machine code.
    pub compiled: usize,
    /// By the interpreter.
    pub interpreted: usize,
}

/// A program specialised for concrete input shapes.
pub struct Plan {
    sizes: Sizes,
    memory: MemoryPlan,
    steps: Vec<PlannedStep>,
    loops: LoopCounts,
    scratch_bytes: usize,
    output_dims: Vec<Vec<usize>>,
}

impl Plan {
    /// Makes a plan for inputs of these shapes. Of their contents only the elements that the shape program reads
    /// matter.
    pub fn new(
        program: &Arc<Program>,
        inputs: &[TensorRef<'_>],
        limits: &Limits,
        target: &Target<'_>,
    ) -> Result<Self, RunError> {
        let Target { isa, workers, code } = *target;
        let mut regs = Vec::with_capacity(program.shape.ops.len());
        shape::evaluate(&program.shape, inputs, &mut regs)
            .map_err(|e| shape::explained(e, &program.inputs, inputs))?;
        let sizes = Sizes::new(program, &regs, limits)?;
        check_inputs(program, &sizes, inputs)?;
        let memory = lay_out(program, &regs, &sizes, limits)?;
        let cx = PlanCx { program, regs: &regs, sizes: &sizes, isa, workers };
        let (mut scratch_bytes, mut work) = (0usize, 0u64);
        let mut steps: Vec<PlannedStep> = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            let call = steps::resolve(step, &cx)?;
            work = work.saturating_add(call.work());
            if work > limits.max_work {
                return Err(RunError::Work { step: step.name.clone(), want: work, limit: limits.max_work });
            }
            let parts = call.parts(workers).clamp(1, workers.max(1));
            let scratch = call.scratch_bytes().checked_next_multiple_of(ALIGN);
            let total = scratch.and_then(|s| s.checked_mul(parts));
            let want = total.map_or(u64::MAX, |t| (t as u64).saturating_add(memory.arena_bytes as u64));
            let (Some(scratch), Some(total)) = (scratch.filter(|_| want <= limits.max_memory), total) else {
                let what = format!("the arena with the scratch memory of step {:?}", step.name);
                return Err(RunError::Memory { what, want, limit: limits.max_memory });
            };
            scratch_bytes = scratch_bytes.max(total);
            steps.push(PlannedStep { call, parts, scratch });
        }
        if let Some(code) = code {
            compile_loops(steps.iter_mut().flat_map(|step| step.call.nests()), code, TileIsa::from(isa));
        }
        let mut loops = LoopCounts::default();
        for nest in steps.iter_mut().flat_map(|step| step.call.nests()) {
            *(if nest.is_compiled() { &mut loops.compiled } else { &mut loops.interpreted }) += 1;
        }
        let output_dims = program.outputs.iter().map(|port| sizes.dims(port.value).to_vec()).collect();
        Ok(Self { sizes, memory, steps, loops, scratch_bytes, output_dims })
    }

    /// Concrete sizes of all values.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Where all values are.
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// Extents of the outputs.
    pub fn output_dims(&self) -> &[Vec<usize>] {
        &self.output_dims
    }

    /// Arithmetic operations of the matrix products and convolutions of one run.
    pub fn flops(&self) -> u64 {
        self.steps.iter().fold(0, |sum, step| sum.saturating_add(step.call.flops()))
    }

    /// How many of its loop nests are compiled.
    pub fn loops(&self) -> LoopCounts {
        self.loops
    }

    /// Scratch bytes of all workers together.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch_bytes
    }

    pub(crate) fn steps(&self) -> &[PlannedStep] {
        &self.steps
    }
}

/// The inputs' extents are those that the program computes for them (a fixed extent is a constant there).
fn check_inputs(program: &Program, sizes: &Sizes, inputs: &[TensorRef<'_>]) -> Result<(), RunError> {
    for (port, input) in program.inputs.iter().zip(inputs) {
        let want = sizes.dims(port.value);
        let differs = want.iter().zip(input.dims).position(|(want, found)| want != found);
        if let Some(axis) = differs {
            let name = port.dim_names.get(axis).map_or("", String::as_str);
            return Err(RunError::Tensor {
                port: format!("input {:?}", port.name),
                detail: format!("extent {axis} ({name}) is {}, must be {}", input.dims[axis], want[axis]),
                help: format!(
                    "pass a tensor of extents {want:?}, or compile the model with a dynamic dimension"
                ),
            });
        }
    }
    Ok(())
}
