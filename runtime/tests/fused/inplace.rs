//! Results placed over an argument of their epilogue.

use super::{Build, Random, isas, same};
use autoglm_runtime::program::{Epilogue, Step, StepKind};
use autoglm_runtime::tile::{Instr, TileProgram};

/// `h = copy(x)`, `y = (h or x) * w + h`, all `[m, m]`; the residual `h` dies in the product.
fn residual(m: usize, from_h: bool) -> Build {
    let mut random = Random(21);
    let mut build = Build::default();
    let (x, w) = (build.floats(&mut random, m * m), build.floats(&mut random, m * m));
    let (h, y) = (build.temp(m * m), build.temp(m * m));
    let copy = build.tile(TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }],
        ..TileProgram::default()
    });
    let sum = build.tile(super::common::sum_tile());
    let dense = build.access(0, &[m, 1]);
    let dims = build.regs(&[m, m]);
    let kind = StepKind::Tile { tile: copy, dims, reads: vec![dense.clone()], writes: vec![dense.clone()] };
    build.step(kind, &[x], h);
    let size = build.reg(m);
    let kind = StepKind::MatMul {
        batch: vec![],
        m: size,
        k: size,
        n: size,
        a: dense.clone(),
        b: dense.clone(),
        b_packed: false,
        sparsity: None,
        out: build.access(0, &[m]),
        bias: false,
        epilogue: Some(Epilogue { tile: sum, reads: vec![dense] }),
    };
    build.step(kind, &[if from_h { h } else { x }, w, h], y);
    build.output(y);
    build
}

/// Whether the residual's memory is the result's.
fn in_place(build: &Build) -> bool {
    let mut session = build.session(autoglm_runtime::cpu::Isa::Scalar, 1);
    let inputs: Vec<_> = build.inputs.iter().map(|t| t.as_ref()).collect();
    let places = &session.plan(&inputs).unwrap().memory().places;
    places[2] == places[3]
}

#[test]
fn a_residual_that_dies_is_overwritten_with_the_same_result() {
    // 40: one block; 600: chunks of the inner extent, and several blocks of rows and columns.
    for m in [1, 40, 600] {
        let (over, apart) = (residual(m, false), residual(m, true));
        assert!(in_place(&over));
        // The product reads the residual's memory as a factor too, in another order.
        assert!(!in_place(&apart));
        let mut separate = residual(m, false);
        separate.program.separate = true;
        assert!(!in_place(&separate));
        for isa in isas() {
            let want = apart.run(isa, 1).unwrap();
            for threads in [1, 2, 3] {
                same(&over.run(isa, threads).unwrap()[0], &want[0], &format!("{} {m}", isa.name()));
            }
        }
    }
}

#[test]
fn a_residual_read_in_another_way_is_kept() {
    let edited = |edit: &dyn Fn(&mut Build, &mut Step)| {
        let mut build = residual(40, false);
        let mut step = build.program.steps[1].clone();
        edit(&mut build, &mut step);
        build.program.steps[1] = step;
        in_place(&build)
    };
    fn reads(step: &mut Step) -> &mut Epilogue {
        match &mut step.kind {
            StepKind::MatMul { epilogue: Some(epilogue), .. } => epilogue,
            other => panic!("{other:?}"),
        }
    }
    assert!(edited(&|_, _| ()));
    assert!(!edited(&|build, step| reads(step).reads[0] = build.access(0, &[1, 40])), "transposed");
    assert!(!edited(&|build, step| reads(step).reads[0] = build.access(0, &[0, 1])), "broadcast");
    assert!(!edited(&|build, step| {
        // Read twice, in two ways.
        let other = build.access(0, &[1, 40]);
        reads(step).reads.push(other);
        step.args.push(2);
    }));
    assert!(!edited(&|_, step| step.args[1] = 2), "a factor");
    assert!(
        !edited(&|build, step| {
            // A part of the output only: the rest of the residual would be lost.
            if let StepKind::MatMul { m, .. } = &mut step.kind {
                *m = build.reg(39);
            }
        }),
        "a part"
    );
}

#[test]
fn a_copy_over_its_argument_moves_nothing() {
    let mut random = Random(22);
    let mut build = Build::default();
    let x = build.floats(&mut random, 1000);
    let (h, y) = (build.temp(1000), build.temp(1000));
    let body = vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }];
    let tile = build.tile(TileProgram { body, ..TileProgram::default() });
    for (from, to) in [(x, h), (h, y)] {
        let dense = build.access(0, &[1]);
        let kind = StepKind::Tile {
            tile,
            dims: build.regs(&[1000]),
            reads: vec![dense.clone()],
            writes: vec![dense],
        };
        build.step(kind, &[from], to);
    }
    build.output(y);
    for isa in isas() {
        for threads in [1, 2] {
            same(&build.run(isa, threads).unwrap()[0], &build.inputs[0].to_f32().unwrap(), isa.name());
        }
    }
}
