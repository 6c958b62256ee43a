//! Programs whose output lies over their arguments, as the planner places it, against the same out of place.

use super::{Case, Rng, SharedBytes, TileIsa, TileScratch, dense, exec, isas};
use crate::tile::Instr;
use crate::tile::testing::{Recipe, Style, case};

/// A random map with one dense output, stored last, and the arguments that may share its memory: they are read through
/// the same access and hold the same bytes.
fn shared_case(rng: &mut Rng, limit: i64) -> Option<(Case, Vec<usize>)> {
    let mut case = case(rng, &Recipe::new(Style::Wild, limit));
    let store = case.program.body.iter().position(|i| matches!(i, Instr::Store { .. }))?;
    if case.program.reduce_rank > 0 || case.dims.contains(&0) {
        return None;
    }
    case.program.body.truncate(store + 1);
    case.writes.truncate(1);
    case.writes[0] = dense(case.writes[0].elem, &case.dims);
    let elem = case.writes[0].elem;
    let len = case.dims.iter().product::<i64>() as usize * elem.size();
    let memory: Vec<u8> = (0..len).map(|_| rng.bits() as u8 & 0x3f).collect();
    let mut shared = Vec::new();
    for (i, read) in case.reads.iter_mut().enumerate() {
        if read.elem.size() == elem.size() && rng.below(4) > 0 {
            *read = dense(read.elem, &case.dims);
            case.inputs[i].clone_from(&memory);
            shared.push(i);
        }
    }
    case.outputs = vec![memory];
    (!shared.is_empty()).then_some((case, shared))
}

/// Runs with the output over the shared arguments.
fn in_place(case: &Case, shared: &[usize], isa: TileIsa, parts: usize) -> Vec<u8> {
    let plan = case.plan().unwrap();
    let mut memory = case.outputs[0].clone();
    // SAFETY: the vector outlives the calls and nothing else uses it meanwhile; accesses to it are equal.
    let output = unsafe { SharedBytes::new(memory.as_mut_ptr(), memory.len()) };
    // SAFETY: as above, and inputs are only read.
    let input = |v: &Vec<u8>| unsafe { SharedBytes::new(v.as_ptr().cast_mut(), v.len()) };
    let inputs: Vec<SharedBytes> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, v)| if shared.contains(&i) { output } else { input(v) })
        .collect();
    let mut scratch = TileScratch::new();
    for part in (0..parts).rev() {
        exec::run(&plan, isa, &mut scratch, &inputs, &[output], part, parts).unwrap();
    }
    memory
}

#[test]
fn results_in_place_are_those_out_of_place() {
    let isas = isas();
    let mut compared = 0;
    for seed in 0..8000 {
        let limit = if seed % 50 == 0 { 60_000 } else { 2500 };
        let Some((case, shared)) = shared_case(&mut Rng::new(seed), limit) else { continue };
        for parts in 1..=3 {
            let isa = isas[(seed as usize + parts) % isas.len()];
            let apart = case.fast(isa, parts);
            assert!(
                apart[0] == in_place(&case, &shared, isa, parts),
                "seed {seed}, {isa:?}, {parts} parts: {case:#?}"
            );
            compared += 1;
        }
    }
    assert!(compared > 3000, "{compared} comparisons");
}
