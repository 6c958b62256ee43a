//! Several loop nests as one step.

use super::{Build, Random, isas};
use autoglm_runtime::cpu::Isa;
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{Nest, StepKind};
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, TileProgram};

/// `out[.., :split] = x`, `out[.., split + gap:] = y + y`, and 7 between; the second nest writes from column `at`.
fn side_by_side(rows: usize, (split, gap, more): (usize, usize, usize), at: usize) -> Build {
    let mut random = Random(52);
    let mut build = Build::default();
    let width = split + gap + more;
    let (x, y) = (build.floats(&mut random, rows * split), build.floats(&mut random, rows * more));
    let out = build.temp(rows * width);
    let (load, store) = (Instr::Load { arg: 0 }, |src| Instr::Store { out: 0, src });
    let copy = vec![load, store(0)];
    let twice = vec![load, Instr::Binary(BinaryOp::Add, 0, 0), store(1)];
    let seven = vec![Instr::Const { lane: Lane::F32, bits: u64::from(7f32.to_bits()) }, store(0)];
    let mut nests = Vec::new();
    for (body, columns, start) in [(copy, split, 0), (twice, more, at), (seven, gap, split)] {
        let reads = match body[0] {
            Instr::Load { .. } => vec![build.access(0, &[columns, 1])],
            _ => vec![],
        };
        let tile = build.tile(TileProgram { body, ..TileProgram::default() });
        let writes = vec![build.access(start, &[width, 1])];
        nests.push(Nest { tile, dims: build.regs(&[rows, columns]), reads, writes });
    }
    let kind = StepKind::Tiles { nests };
    build.program.steps.push(super::common::step("side by side", kind, &[x, y], &[out, out, out]));
    build.output(out);
    build
}

#[test]
fn every_nest_writes_its_part() {
    for (rows, (split, gap, more)) in [(1, (1, 1, 1)), (3, (5, 2, 7)), (40, (300, 3, 211)), (2, (9, 0, 4))] {
        let build = side_by_side(rows, (split, gap, more), split + gap);
        let [x, y] = [0, 1].map(|i: usize| HostTensor::to_f32(&build.inputs[i]).unwrap());
        let want = (0..rows).flat_map(|row| {
            let own = x[row * split..][..split].iter().copied();
            let doubled = y[row * more..][..more].iter().map(|y| y + y);
            own.chain(std::iter::repeat_n(7.0, gap)).chain(doubled).collect::<Vec<_>>()
        });
        let want: Vec<f32> = want.collect();
        for isa in isas() {
            for threads in [1, 3] {
                assert_eq!(
                    build.run(isa, threads).unwrap().remove(0),
                    want,
                    "{rows} x {split}, {gap}, {more}"
                );
            }
        }
    }
}

#[test]
fn nests_are_compiled() {
    if !Isa::Avx2.is_available() {
        return;
    }
    let build = side_by_side(40, (300, 3, 211), 303);
    let inputs: Vec<_> = build.inputs.iter().map(HostTensor::as_ref).collect();
    let mut session = build.compiling(Isa::Avx2, 1);
    let loops = session.plan(&inputs).unwrap().loops();
    // A copy stays one, and three columns are too few.
    assert_eq!((loops.compiled, loops.interpreted), (1, 2));
}

#[test]
fn of_nests_that_overlap_the_last_counts() {
    let (rows, split, gap, more) = (64, 100, 50, 60);
    let build = side_by_side(rows, (split, gap, more), split);
    let y = HostTensor::to_f32(&build.inputs[1]).unwrap();
    for isa in isas() {
        for threads in [1, 3] {
            let got = build.run(isa, threads).unwrap().remove(0);
            for (i, got) in got.iter().enumerate().filter(|(i, _)| (split..split + more).contains(&(i % 210)))
            {
                let (row, at) = (i / 210, i % 210 - split);
                assert_eq!(*got, if at < gap { 7.0 } else { y[row * more + at] * 2.0 }, "element {i}");
            }
        }
    }
}

#[test]
fn nests_that_do_not_account_for_the_operands_or_are_too_many_are_refused() {
    let changes: [fn(&mut Build); 5] = [
        |b| {
            if let StepKind::Tiles { nests } = &mut b.program.steps[0].kind {
                let tile = TileProgram::default();
                b.program.tiles.push(tile);
                let tile = b.program.tiles.len() as u32 - 1;
                let empty = Nest { tile, dims: vec![], reads: vec![], writes: vec![] };
                nests.resize(65, empty);
            }
        },
        |b| b.program.steps[0].args.truncate(1),
        |b| b.program.steps[0].outs.truncate(2),
        |b| b.program.steps[0].args.push(0),
        |b| {
            if let StepKind::Tiles { nests } = &mut b.program.steps[0].kind {
                nests[2].tile = 99;
            }
        },
    ];
    for change in changes {
        let mut build = side_by_side(3, (5, 2, 7), 7);
        change(&mut build);
        let bytes = EngineWriter::in_memory().unwrap();
        let bytes = bytes.finish(&super::common::signature(&build.program), &build.program).unwrap();
        let error = Engine::from_bytes(bytes.into()).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "E0509", "{error}");
    }
}

#[test]
fn nests_that_leave_the_output_are_refused() {
    side_by_side(3, (5, 2, 7), 8).refusal();
}
