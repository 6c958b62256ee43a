//! Random programs whose operands lie in one value, as the planner places them.

use super::{Case, Recipe, Rng, case};
use crate::tile::{ConcreteAccess, Instr, SharedBytes, TileIsa, TilePlan, TileScratch, exec};

/// A case of which some operands share memory.
#[derive(Clone, Debug)]
pub struct SharedCase {
    /// Its outputs are all in the first of its `outputs`.
    pub case: Case,
    /// Arguments that are in that memory too: read through the access of the only output, with elements of its size.
    pub over: Vec<usize>,
}

/// Strides of a dense tensor.
fn dense(dims: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d].max(1);
    }
    strides
}

/// A random map with one dense output, stored last, over some of its arguments.
pub fn in_place(rng: &mut Rng, recipe: &Recipe<'_>) -> Option<SharedCase> {
    let mut case = case(rng, recipe);
    let store = case.program.body.iter().position(|i| matches!(i, Instr::Store { .. }))?;
    if case.program.reduce_rank > 0 || case.dims.contains(&0) {
        return None;
    }
    case.program.body.truncate(store + 1);
    case.writes.truncate(1);
    let elem = case.writes[0].elem;
    case.writes[0] = ConcreteAccess { elem, offset: 0, strides: dense(&case.dims) };
    let len = case.dims.iter().product::<i64>() as usize * elem.size();
    let memory: Vec<u8> = (0..len).map(|_| rng.bits() as u8 & 0x3f).collect();
    let mut over = Vec::new();
    for (i, read) in case.reads.iter_mut().enumerate() {
        if read.elem.size() == elem.size() && rng.below(4) > 0 {
            *read = ConcreteAccess { elem: read.elem, ..case.writes[0].clone() };
            case.inputs[i].clone_from(&memory);
            over.push(i);
        }
    }
    case.outputs = vec![memory];
    (!over.is_empty()).then_some(SharedCase { case, over })
}

/// A random map with two outputs of one type, which are the halves of one value: next to each other along a dimension, or
/// by turns.
pub fn halves(rng: &mut Rng, recipe: &Recipe<'_>) -> Option<SharedCase> {
    let mut case = case(rng, recipe);
    let store = case.program.body.iter().position(|i| matches!(i, Instr::Store { .. }))?;
    if case.program.reduce_rank > 0 || case.dims.contains(&0) || case.writes.len() < 2 {
        return None;
    }
    let elem = case.writes[0].elem;
    if case.writes[1].elem != elem {
        return None;
    }
    case.program.body.truncate(store + 2);
    let d = rng.below(case.dims.len() + 1);
    let mut whole = case.dims.clone();
    whole.insert(d, 2);
    let mut strides = dense(&whole);
    let distance = strides.remove(d);
    let write = |offset| ConcreteAccess { elem, offset, strides: strides.clone() };
    case.writes = vec![write(0), write(distance)];
    let len = whole.iter().product::<i64>() as usize * elem.size();
    case.outputs = vec![vec![0x5A; len]; 2];
    Some(SharedCase { case, over: Vec::new() })
}

impl SharedCase {
    /// The plan, made as the runtime makes it: values that share memory are values of their own.
    pub fn plan(&self) -> TilePlan {
        self.case.plan().unwrap()
    }

    /// The memory after a run of `plan`.
    pub fn run(&self, plan: &TilePlan, isa: TileIsa, parts: usize) -> Vec<u8> {
        let mut memory = self.case.outputs[0].clone();
        // SAFETY: the vector outlives the calls and nothing else uses it meanwhile; accesses to it are equal or apart.
        let output = unsafe { SharedBytes::new(memory.as_mut_ptr(), memory.len()) };
        // SAFETY: as above, and inputs are only read.
        let input = |v: &Vec<u8>| unsafe { SharedBytes::new(v.as_ptr().cast_mut(), v.len()) };
        let inputs = self.case.inputs.iter().enumerate();
        let inputs: Vec<SharedBytes> =
            inputs.map(|(i, v)| if self.over.contains(&i) { output } else { input(v) }).collect();
        let outputs = vec![output; self.case.writes.len()];
        let mut scratch = TileScratch::new();
        for part in (0..parts).rev() {
            exec::run(plan, isa, &mut scratch, &inputs, &outputs, part, parts).unwrap();
        }
        memory
    }

    /// What the scalar interpreter makes of it, one output after the other and with memory of their own for the arguments.
    pub fn slow(&self) -> Vec<u8> {
        let mut memory = self.case.outputs[0].clone();
        let is_store = |i: &Instr| matches!(i, Instr::Store { .. });
        let first = self.case.program.body.iter().position(is_store).unwrap();
        for (i, write) in self.case.writes.iter().enumerate() {
            let mut one = self.case.clone();
            let Instr::Store { src, .. } = one.program.body[first + i] else { panic!("stores come last") };
            one.program.body.truncate(first);
            one.program.body.push(Instr::Store { out: 0, src });
            (one.writes, one.outputs) = (vec![write.clone()], vec![memory]);
            memory = one.slow().remove(0);
        }
        memory
    }
}
