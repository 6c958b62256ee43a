//! Placement and memory plans, checked by simulating who owns each byte at each step.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use autoglm_runtime::arena::{Block, assign};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::memory::{Place, Region};
use autoglm_runtime::plan::{Limits, MemoryPlan, Sizes, lay_out};
use autoglm_runtime::program::{
    Access, Epilogue, Program, Reg, ShapeOp, ShapeProgram, Step, StepKind, Storage, ValueId,
};
use autoglm_runtime::tile::{Instr, TileProgram};
use common::{Random, port, step, value};
use std::collections::HashMap;

const LIMITS: Limits = Limits { max_memory: 1 << 40, max_tensor: 1 << 40, max_work: u64::MAX };

fn overlap<T: PartialOrd>(a: (T, T), b: (T, T)) -> bool {
    a.0 < b.1 && b.0 < a.1
}

fn random_blocks(random: &mut Random, count: usize, steps: usize) -> Vec<Block> {
    (0..count)
        .map(|_| {
            let first = random.below(steps) as u32;
            let last = first + random.below(steps / 4 + 1) as u32;
            let size = match random.below(4) {
                0 => 0,
                1 => random.below(100),
                _ => random.below(100_000),
            };
            Block { first, last, size }
        })
        .collect()
}

fn round(size: usize) -> usize {
    size.div_ceil(64) * 64
}

/// Most bytes alive, step by step.
fn brute_force_bound(blocks: &[Block]) -> usize {
    let steps = blocks.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let live = |s| blocks.iter().filter(|b| b.first <= s && s <= b.last).map(|b| round(b.size)).sum();
    (0..steps).map(live).max().unwrap_or(0)
}

fn check_layout(blocks: &[Block]) -> (usize, usize) {
    let layout = assign(blocks).unwrap();
    assert_eq!(layout, assign(blocks).unwrap(), "deterministic");
    assert_eq!(layout.lower_bound, brute_force_bound(blocks));
    assert!(layout.peak >= layout.lower_bound);
    for (i, a) in blocks.iter().enumerate() {
        let at = layout.offsets[i];
        assert!(at.is_multiple_of(64) && at + a.size <= layout.peak);
        for (j, b) in blocks.iter().enumerate().skip(i + 1) {
            let in_time = overlap((a.first, a.last + 1), (b.first, b.last + 1));
            let other = layout.offsets[j];
            let in_space = overlap((at, at + a.size), (other, other + b.size));
            assert!(!(in_time && in_space), "{a:?} at {at} and {b:?} at {other}");
        }
    }
    (layout.peak, layout.lower_bound)
}

#[test]
fn live_buffers_never_overlap() {
    let mut random = Random(3);
    let mut ratios = Vec::new();
    for round in 0..60 {
        let blocks = random_blocks(&mut random, 1 + round * 2, 40);
        let (peak, bound) = check_layout(&blocks);
        ratios.push(peak as f64 / bound.max(1) as f64);
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!(mean < 1.03, "peaks are {mean} times the bound on average");
}

#[test]
fn many_buffers_are_placed_in_order_of_time() {
    let mut random = Random(4);
    let blocks: Vec<Block> = (0..9000u32)
        .map(|i| Block { first: i, last: i + random.below(5) as u32, size: 1 + random.below(5000) })
        .collect();
    let layout = assign(&blocks).unwrap();
    for (i, a) in blocks.iter().enumerate() {
        for (j, b) in blocks.iter().enumerate().skip(i + 1).take_while(|(_, b)| b.first <= a.last) {
            let (x, y) = (layout.offsets[i], layout.offsets[j]);
            assert!(!overlap((x, x + a.size), (y, y + b.size)));
        }
    }
    assert!(layout.peak <= layout.lower_bound * 3, "{} vs {}", layout.peak, layout.lower_bound);
}

#[test]
fn search_beats_greedy_where_greedy_fails() {
    // Known to need more than its bound when placed by size alone: the two long thin ones end up apart.
    let block = |first, last, size: usize| Block { first, last, size: size * 64 };
    let blocks =
        [block(0, 1, 4), block(1, 2, 5), block(2, 3, 4), block(3, 4, 5), block(0, 4, 2), block(2, 2, 1)];
    let (peak, bound) = check_layout(&blocks);
    assert!(peak as f64 <= bound as f64 * 1.02, "{peak} vs {bound}");
}

#[test]
fn sizes_beyond_the_address_space_are_refused() {
    let huge = Block { first: 0, last: 0, size: usize::MAX / 2 };
    assert_eq!(assign(&[huge, huge, huge]), None);
    assert_eq!(assign(&[Block { size: usize::MAX, ..huge }]), None);
    assert_eq!(assign(&[]).unwrap().peak, 0);
}

/// Register 0 is the extent 8, 1 is the number 1, 2 is 0.
fn map_step(name: &str, transposed: bool, args: &[ValueId], out: ValueId) -> autoglm_runtime::program::Step {
    let dense = Access { offset: 2, strides: vec![0, 1] };
    let swapped = Access { offset: 2, strides: vec![1, 0] };
    let reads = args.iter().map(|_| if transposed { swapped.clone() } else { dense.clone() }).collect();
    let kind = StepKind::Tile { tile: 0, dims: vec![0, 0], reads, writes: vec![dense] };
    step(name, kind, args, &[out])
}

fn map_program(values: usize) -> Program {
    let mut program = Program {
        inputs: vec![port("x", 0, &["8", "8"])],
        shape: ShapeProgram {
            ops: vec![ShapeOp::Const(8), ShapeOp::Const(1), ShapeOp::Const(0)],
            guards: vec![],
        },
        values: vec![value(ElemType::F32, &[0, 0], Storage::Temp); values],
        tiles: vec![TileProgram {
            body: vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }],
            ..TileProgram::default()
        }],
        ..Program::default()
    };
    program.values[0].storage = Storage::Input(0);
    program
}

fn plan(program: &Program) -> MemoryPlan {
    let regs: Vec<i64> = program
        .shape
        .ops
        .iter()
        .map(|op| match op {
            ShapeOp::Const(n) => *n,
            other => panic!("{other:?}"),
        })
        .collect();
    let sizes = Sizes::new(program, &regs, &LIMITS).unwrap();
    lay_out(program, &regs, &sizes, &LIMITS).unwrap()
}

#[test]
fn a_chain_of_maps_runs_in_the_output_buffer() {
    let mut program = map_program(4);
    program.outputs = vec![port("y", 3, &["8", "8"])];
    program.steps =
        vec![map_step("a", false, &[0], 1), map_step("b", false, &[1], 2), map_step("c", false, &[2], 3)];
    let plan = plan(&program);
    assert_eq!(plan.arena_bytes, 0);
    assert!(plan.places[1..].iter().all(|p| p.region == Region::Output(0)));
    assert_eq!(plan.places[0].region, Region::Input(0));
}

#[test]
fn what_is_read_otherwise_or_later_is_not_overwritten() {
    let shared = |steps: Vec<autoglm_runtime::program::Step>, tile: Option<TileProgram>| {
        let mut program = map_program(4);
        program.outputs = vec![port("y", 3, &["8", "8"])];
        program.steps = steps;
        program.tiles.extend(tile);
        let plan = plan(&program);
        plan.places[1].region == plan.places[2].region && plan.places[1].offset == plan.places[2].offset
    };
    let a = || map_step("a", false, &[0], 1);
    let last = || map_step("c", true, &[2], 3);
    assert!(shared(vec![a(), map_step("b", false, &[1], 2), last()], None), "the plain case shares");
    assert!(!shared(vec![a(), map_step("b", true, &[1], 2), last()], None), "transposed");
    assert!(
        !shared(vec![a(), map_step("b", false, &[1], 2), map_step("c", false, &[2, 1], 3)], None),
        "read later"
    );
    let mut both = map_step("b", false, &[1, 1], 2);
    if let StepKind::Tile { reads, .. } = &mut both.kind {
        reads[1].strides.swap(0, 1);
    }
    assert!(!shared(vec![a(), both, last()], None), "read in two ways");
    let mut late = map_step("b", false, &[1], 2);
    if let StepKind::Tile { tile, .. } = &mut late.kind {
        *tile = 1;
    }
    let body = vec![
        Instr::Load { arg: 0 },
        Instr::Store { out: 0, src: 0 },
        Instr::Load { arg: 0 },
        Instr::Store { out: 0, src: 2 },
    ];
    let tile = TileProgram { body, ..TileProgram::default() };
    assert!(!shared(vec![a(), late, last()], Some(tile)), "loaded after the store");
}

/// A product of `args[0]` with itself whose epilogue reads all of `args`, dense or transposed.
fn product_step(name: &str, transposed: bool, side: Reg, args: &[ValueId], out: ValueId) -> Step {
    let dense = Access { offset: 2, strides: vec![side, 1] };
    let swapped = Access { offset: 2, strides: vec![1, side] };
    let reads = args.iter().map(|_| if transposed { swapped.clone() } else { dense.clone() }).collect();
    let kind = StepKind::MatMul {
        batch: vec![],
        m: side,
        k: side,
        n: side,
        a: dense.clone(),
        b: dense,
        b_packed: false,
        sparsity: None,
        out: Access { offset: 2, strides: vec![side] },
        bias: false,
        epilogue: Some(Epilogue { tile: 0, reads }),
    };
    step(name, kind, &[&[0, 0], args].concat(), &[out])
}

/// A random program of maps, products with epilogues, aliases and values written twice.
fn random_program(random: &mut Random) -> Program {
    let mut program = map_program(1);
    let sides = [0, 3];
    program.shape.ops.push(ShapeOp::Const(5));
    let mut readable: Vec<ValueId> = vec![0];
    for s in 0..4 + random.below(25) {
        let side = sides[random.below(2)];
        if random.below(4) == 0 {
            let of = readable[random.below(readable.len())];
            let dims = program.values[of as usize].dims.clone();
            program.values.push(value(ElemType::I32, &dims, Storage::Alias(of)));
            readable.push(program.values.len() as ValueId - 1);
            continue;
        }
        program.values.push(value(ElemType::F32, &[side, side], Storage::Temp));
        let out = program.values.len() as ValueId - 1;
        for again in 0..1 + random.below(2) {
            let fits: Vec<ValueId> =
                readable.iter().copied().filter(|&v| program.values[v as usize].dims[0] == side).collect();
            let args: Vec<ValueId> =
                (0..random.below(3).min(fits.len())).map(|_| fits[random.below(fits.len())]).collect();
            let mut step = map_step(&format!("{s}.{again}"), random.below(3) == 0, &args, out);
            if let StepKind::Tile { dims, reads, writes, .. } = &mut step.kind {
                dims.fill(side);
                let accesses = reads.iter_mut().chain(writes);
                accesses.for_each(|a| a.strides.iter_mut().filter(|r| **r == 0).for_each(|r| *r = side));
            }
            if !fits.is_empty() && random.below(4) == 0 {
                step = product_step(&step.name, random.below(3) == 0, side, &args, out);
                let factor = fits[random.below(fits.len())];
                step.args[..2].fill(factor);
            }
            program.steps.push(step);
        }
        readable.push(out);
        if random.below(6) == 0 {
            let name = format!("out{s}");
            program.outputs.push(port(&name, out, &["s", "s"]));
        }
    }
    program
}

/// The bytes of a place, each named.
fn cells(place: Place) -> impl Iterator<Item = (Region, usize)> {
    (place.offset..place.offset + place.len).map(move |at| (place.region, at))
}

/// Runs a plan with bytes that remember which value wrote them last.
fn simulate(program: &Program, plan: &MemoryPlan) {
    let root = |mut id: ValueId| {
        while let Storage::Alias(of) = program.values[id as usize].storage {
            id = of;
        }
        id
    };
    let mut owner: HashMap<_, ValueId> = HashMap::new();
    owner.extend(cells(plan.places[0]).map(|cell| (cell, 0)));
    for step in &program.steps {
        let (own, reads, write) = match &step.kind {
            StepKind::Tile { reads, writes, .. } => (0, reads, writes[0].clone()),
            StepKind::MatMul { epilogue: Some(epilogue), out, .. } => {
                let strides = [out.strides.as_slice(), &[1]].concat();
                (2, &epilogue.reads, Access { offset: out.offset, strides })
            }
            other => panic!("{other:?}"),
        };
        let out = plan.places[step.outs[0] as usize];
        let reads = std::iter::repeat_n(None, own).chain(reads.iter().map(Some));
        for (&arg, read) in step.args.iter().zip(reads) {
            let place = plan.places[arg as usize];
            assert!(cells(place).all(|cell| owner.get(&cell) == Some(&root(arg))), "{arg} was overwritten");
            if place.region == out.region
                && overlap((place.offset, place.offset + place.len), (out.offset, out.offset + out.len))
            {
                assert_eq!(
                    (place, read),
                    (out, Some(&write)),
                    "in place only where it is read as it is written"
                );
            }
        }
        owner.extend(cells(out).map(|cell| (cell, step.outs[0])));
    }
    for (i, output) in program.outputs.iter().enumerate() {
        let place = plan.places[output.value as usize];
        assert_eq!(place.region, Region::Output(i as u32));
        assert!(cells(place).all(|cell| owner.get(&cell) == Some(&output.value)));
    }
}

#[test]
fn random_programs_keep_what_they_still_need() {
    let mut random = Random(5);
    let mut shared = 0;
    for _ in 0..400 {
        let program = random_program(&mut random);
        let plan = plan(&program);
        simulate(&program, &plan);
        assert!(plan.lower_bound <= plan.arena_bytes);
        let arena: Vec<_> = plan.places.iter().filter(|p| p.region == Region::Arena && p.len > 0).collect();
        shared += usize::from(arena.iter().map(|p| p.len).sum::<usize>() > plan.arena_bytes);
    }
    assert!(shared > 100, "memory was shared in {shared} programs");
}
