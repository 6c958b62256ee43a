//! Loops that write two parts of one value.

use super::{Build, Random, isas};
use autoglm_runtime::cpu::Isa;
use autoglm_runtime::program::StepKind;
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::tile::{BinaryOp, Instr, TileProgram};

/// `out[.., :half] = x1 c - x2 s`, `out[.., half:] = x1 s + x2 c` for x `[rows, 2 half]` and c, s `[half]`.
fn rotation(rows: usize, half: usize, distance: i64) -> Build {
    let mut random = Random(51);
    let mut build = Build::default();
    let x = build.floats(&mut random, rows * 2 * half);
    let (c, s) = (build.floats(&mut random, half), build.floats(&mut random, half));
    let out = build.temp(rows * 2 * half);
    let load = |arg| Instr::Load { arg };
    let body = vec![
        load(0),
        load(1),
        load(2),
        load(3),
        Instr::Binary(BinaryOp::Mul, 0, 2),
        Instr::Binary(BinaryOp::Mul, 1, 3),
        Instr::Binary(BinaryOp::Sub, 4, 5),
        Instr::Store { out: 0, src: 6 },
        Instr::Binary(BinaryOp::Mul, 0, 3),
        Instr::Binary(BinaryOp::Mul, 1, 2),
        Instr::Binary(BinaryOp::Add, 8, 9),
        Instr::Store { out: 1, src: 10 },
    ];
    let tile = build.tile(TileProgram { body, ..TileProgram::default() });
    let dims = build.regs(&[rows, half]);
    let lines = [2 * half, 1];
    let reads = vec![
        build.access(0, &lines),
        build.access(half, &lines),
        build.access(0, &[0, 1]),
        build.access(0, &[0, 1]),
    ];
    let mut second = build.access(0, &lines);
    second.offset = build.signed(distance);
    let writes = vec![build.access(0, &lines), second];
    let kind = StepKind::Tile { tile, dims, reads, writes };
    let name = "rotation";
    build.program.steps.push(super::common::step(name, kind, &[x, x, c, s], &[out, out]));
    build.output(out);
    build
}

#[test]
fn both_halves_are_written() {
    for (rows, half) in [(1, 1), (3, 5), (7, 32), (40, 300), (2, 1000)] {
        let build = rotation(rows, half, half as i64);
        let [x, c, s] = [0, 1, 2].map(|i: usize| HostTensor::to_f32(&build.inputs[i]).unwrap());
        for isa in isas() {
            for threads in [1, 3] {
                let got = build.run(isa, threads).unwrap().remove(0);
                for (i, got) in got.iter().enumerate() {
                    let (row, j) = (i / (2 * half) * 2 * half, i % half);
                    let (a, b) = (x[row + j], x[row + half + j]);
                    let want = if i % (2 * half) < half { a * c[j] - b * s[j] } else { a * s[j] + b * c[j] };
                    assert_eq!(*got, want, "element {i} of {rows} x {half}");
                }
            }
        }
    }
}

#[test]
fn halves_that_may_overlap_are_refused() {
    assert!(rotation(3, 8, 8).run(Isa::Scalar, 1).is_ok());
    for distance in [0, 1, 4, 7] {
        let message = rotation(3, 8, distance).refusal();
        assert!(message.contains("may overlap"), "{message}");
    }
    for distance in [-8, 9, i64::MAX, i64::MIN] {
        rotation(3, 8, distance).refusal();
    }
    let mut turned = rotation(3, 8, 8);
    let one = turned.reg(1);
    if let StepKind::Tile { writes, .. } = &mut turned.program.steps[0].kind {
        writes[1].strides[0] = one;
    }
    turned.refusal();
}
