//! Hostile programs are refused, and never make the validator or the planner panic.

use super::{Case, ELEMS, Rng, access, exec};
use crate::elem::ElemType::{self, F32, I32};
use crate::tile::testing::{BINARY, LANES, Recipe, Style, UNARY, case};
use crate::tile::{
    BinaryOp, Instr, Lane, Reduce, ReduceOp, SharedBytes, TileError, TileIsa, TileProgram, TileScratch,
    UnaryOp, check,
};

fn map(body: &[Instr]) -> TileProgram {
    TileProgram { body: body.to_vec(), ..TileProgram::default() }
}

fn refused(program: &TileProgram, rank: usize, reads: &[ElemType], writes: &[ElemType]) -> String {
    check(program, rank, reads, writes).unwrap_err().to_string()
}

#[test]
fn types_are_computed() {
    let program = TileProgram {
        body: vec![
            Instr::Load { arg: 0 },
            Instr::Binary(BinaryOp::Lt, 0, 0),
            Instr::Convert { to: Lane::F64, src: 1 },
        ],
        reduce_rank: 1,
        reduces: vec![Reduce { op: ReduceOp::Sum, src: 2 }, Reduce { op: ReduceOp::ArgMaxLast, src: 0 }],
        epilogue: vec![Instr::Store { out: 0, src: 1 }],
    };
    let types = check(&program, 2, &[ElemType::U8], &[ElemType::I16]).unwrap();
    assert_eq!(types.body(), [Some(Lane::U64), Some(Lane::I64), Some(Lane::F64)]);
    assert_eq!(types.epilogue(), [Some(Lane::F64), Some(Lane::I64), None]);
}

#[test]
fn malformed_instructions_are_refused() {
    let load = Instr::Load { arg: 0 };
    let store = Instr::Store { out: 0, src: 0 };
    let cases: &[(&[Instr], &str)] = &[
        (&[Instr::Load { arg: 1 }], "no such argument"),
        (&[Instr::Index { dim: 2 }], "no such loop dimension"),
        (&[Instr::Unary(UnaryOp::Abs, 0)], "not an earlier value"),
        (&[load, Instr::Unary(UnaryOp::Not, 0)], "no meaning"),
        (&[Instr::Index { dim: 0 }, Instr::Unary(UnaryOp::Exp, 0)], "no meaning"),
        (&[load, Instr::Binary(BinaryOp::Shl, 0, 0)], "no meaning"),
        (&[load, Instr::Index { dim: 0 }, Instr::Binary(BinaryOp::Add, 0, 1)], "different lane types"),
        (&[load, Instr::Select { cond: 0, a: 0, b: 0 }], "not an i64"),
        (&[load, Instr::Round { elem: I32, saturate: true, src: 0 }], "another lane type"),
        (&[load, Instr::Store { out: 1, src: 0 }], "no such output"),
        (&[Instr::Index { dim: 0 }, store], "another lane type"),
        (&[load, store, Instr::Unary(UnaryOp::Abs, 1)], "not an earlier value"),
        (&[Instr::Const { lane: Lane::F32, bits: 1 << 40 }], "more than 32 bits"),
        (&[load], "never stored"),
    ];
    for (body, message) in cases {
        let error = refused(&map(body), 2, &[F32], &[F32]);
        assert!(error.contains(message), "{error}, not {message}");
    }
}

#[test]
fn malformed_programs_are_refused() {
    let good = map(&[Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }]);
    assert!(check(&good, 16, &[F32], &[F32]).is_ok());
    assert!(refused(&good, 17, &[F32], &[F32]).contains("16 loop dimensions"));
    let reduced = TileProgram { reduce_rank: 1, ..good.clone() };
    assert!(refused(&reduced, 0, &[F32], &[F32]).contains("more reduced"));
    assert!(refused(&reduced, 1, &[F32], &[F32]).contains("store before"));
    let stray = TileProgram { reduces: vec![Reduce { op: ReduceOp::Sum, src: 0 }], ..good.clone() };
    assert!(refused(&stray, 1, &[F32], &[F32]).contains("without a reduced"));
    let mut source =
        TileProgram { reduce_rank: 1, reduces: vec![Reduce { op: ReduceOp::Sum, src: 9 }], ..stray };
    source.body.truncate(1);
    assert!(refused(&source, 1, &[F32], &[]).contains("source is not a value"));
    let kept = TileProgram {
        body: vec![],
        reduce_rank: 1,
        reduces: vec![],
        epilogue: vec![Instr::Index { dim: 1 }, Instr::Store { out: 0, src: 0 }],
    };
    assert!(refused(&kept, 2, &[], &[ElemType::I64]).contains("no such loop dimension"));
    let long = map(&vec![Instr::Load { arg: 0 }; 513]);
    assert!(refused(&long, 1, &[F32], &[]).contains("512 instructions"));
    assert!(refused(&good, 1, &[F32; 513], &[F32]).contains("arguments"));
}

fn garbage(rng: &mut Rng, len: usize) -> Instr {
    let id = rng.below(len + 2) as u16;
    let other = rng.below(len + 2) as u16;
    match rng.below(9) {
        0 => Instr::Load { arg: rng.below(4) as u16 },
        1 => Instr::Const { lane: rng.pick(&LANES), bits: rng.bits() >> rng.below(64) },
        2 => Instr::Index { dim: rng.below(6) as u8 },
        3 => Instr::Unary(rng.pick(&UNARY), id),
        4 => Instr::Binary(rng.pick(&BINARY), id, other),
        5 => Instr::Select { cond: id, a: other, b: rng.below(len + 1) as u16 },
        6 => Instr::Convert { to: rng.pick(&LANES), src: id },
        7 => Instr::Round { elem: rng.pick(&ELEMS), saturate: rng.below(2) == 0, src: id },
        _ => Instr::Store { out: rng.below(3) as u16, src: id },
    }
}

/// Runs the case if it is accepted; the buffers are as long as the plan was told, so nothing may go wrong.
fn run_if_accepted(case: &Case) -> bool {
    let Ok(plan) = case.plan() else { return false };
    let points: i64 = case.dims.iter().fold(1, |n, d| n.saturating_mul(*d));
    if points > 100_000 {
        return false;
    }
    let mut outputs = case.outputs.clone();
    // SAFETY: the vectors outlive the call and nothing else uses them meanwhile.
    let shared: Vec<_> =
        outputs.iter_mut().map(|v| unsafe { SharedBytes::new(v.as_mut_ptr(), v.len()) }).collect();
    // SAFETY: as above, and inputs are only read.
    let input = |v: &Vec<u8>| unsafe { SharedBytes::new(v.as_ptr().cast_mut(), v.len()) };
    let inputs: Vec<_> = case.inputs.iter().map(input).collect();
    exec::run(&plan, TileIsa::detect(), &mut TileScratch::new(), &inputs, &shared, 0, 1).unwrap();
    true
}

#[test]
fn mutated_programs_never_panic() {
    let mut accepted = 0;
    for seed in 0..6000 {
        let mut rng = Rng::new(9_000_000 + seed);
        let mut case = case(&mut rng, &Recipe::new(Style::Wild, 300));
        for _ in 0..=rng.below(3) {
            let body = rng.below(2) == 0 || case.program.epilogue.is_empty();
            let code = if body { &mut case.program.body } else { &mut case.program.epilogue };
            let len = code.len();
            match rng.below(6) {
                0 if len > 0 => code[rng.below(len)] = garbage(&mut rng, len),
                1 => code.insert(rng.below(len + 1), garbage(&mut rng, len)),
                2 => case.program.reduce_rank = rng.below(7) as u8,
                3 => case.program.reduces.push(Reduce { op: ReduceOp::Max, src: rng.below(9) as u16 }),
                4 if !case.dims.is_empty() => {
                    let d = rng.below(case.dims.len());
                    case.dims[d] = rng.pick(&[0, 1, 2, 7, -1, i64::MAX, i64::MIN, 1 << 40]);
                }
                _ => {
                    let accesses = if rng.below(2) == 0 { &mut case.reads } else { &mut case.writes };
                    if let Some(access) = accesses.first_mut() {
                        let wild = rng.pick(&[0, 1, -1, 3, i64::MAX, i64::MIN, 1 << 33, -(1 << 50)]);
                        match access.strides.first_mut() {
                            Some(stride) if rng.below(2) == 0 => *stride = wild,
                            _ => access.offset = wild,
                        }
                    }
                }
            }
        }
        accepted += usize::from(run_if_accepted(&case));
    }
    assert!(accepted > 500, "only {accepted} mutants were accepted");
}

#[test]
fn pure_garbage_never_panics() {
    for seed in 0..4000 {
        let mut rng = Rng::new(4_000_000 + seed);
        let program = TileProgram {
            body: (0..rng.below(20)).map(|i| garbage(&mut rng, i)).collect(),
            reduce_rank: rng.below(4) as u8,
            reduces: (0..rng.below(3))
                .map(|_| Reduce { op: ReduceOp::Sum, src: rng.below(8) as u16 })
                .collect(),
            epilogue: (0..rng.below(10)).map(|i| garbage(&mut rng, i)).collect(),
        };
        let elems: Vec<ElemType> = (0..3).map(|_| rng.pick(&ELEMS)).collect();
        let _ = check(&program, rng.below(18), &elems, &elems);
    }
}

fn copy_case(dims: &[i64], read: (i64, &[i64]), write: (i64, &[i64]), lens: (usize, usize)) -> Case {
    Case {
        program: map(&[Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }]),
        dims: dims.to_vec(),
        reads: vec![access(F32, read.0, read.1)],
        inputs: vec![vec![0; 4 * lens.0]],
        writes: vec![access(F32, write.0, write.1)],
        outputs: vec![vec![0; 4 * lens.1]],
    }
}

#[test]
fn accesses_that_leave_their_value_are_refused() {
    let ok = |case: Case| case.plan().is_ok();
    assert!(ok(copy_case(&[3, 4], (0, &[4, 1]), (0, &[4, 1]), (12, 12))));
    assert!(!ok(copy_case(&[3, 4], (0, &[4, 1]), (0, &[4, 1]), (11, 12))));
    assert!(!ok(copy_case(&[3, 4], (0, &[4, 1]), (0, &[4, 1]), (12, 11))));
    assert!(!ok(copy_case(&[3, 4], (1, &[4, 1]), (0, &[4, 1]), (12, 12))));
    assert!(ok(copy_case(&[3, 4], (3, &[4, -1]), (0, &[4, 1]), (12, 12))));
    assert!(!ok(copy_case(&[3, 4], (2, &[4, -1]), (0, &[4, 1]), (12, 12))));
    assert!(!ok(copy_case(&[3], (0, &[i64::MAX]), (0, &[1]), (12, 12))));
    assert!(!ok(copy_case(&[3], (i64::MAX, &[1]), (0, &[1]), (12, 12))));
    assert!(!ok(copy_case(&[-1], (0, &[1]), (0, &[1]), (12, 12))));
    assert!(ok(copy_case(&[0, 4], (99, &[4, 1]), (-5, &[4, 1]), (0, 0))));
    assert!(!ok(copy_case(&[1 << 40, 1 << 40], (0, &[0, 0]), (0, &[0, 0]), (1, 1))));
    assert!(!ok(copy_case(&[3, 4], (0, &[4]), (0, &[4, 1]), (12, 12))));
}

#[test]
fn writes_that_meet_an_element_twice_are_refused() {
    let overlaps = |strides: &[i64], dims: &[i64]| {
        let zeros = vec![0; dims.len()];
        matches!(
            copy_case(dims, (0, &zeros), (0, strides), (1, 4096)).plan(),
            Err(TileError::Access { kind: "write", .. })
        )
    };
    assert!(overlaps(&[0], &[2]));
    assert!(overlaps(&[3, 1], &[3, 4]));
    assert!(overlaps(&[4, 0, 1], &[3, 2, 4]));
    assert!(!overlaps(&[0, 1], &[1, 4]));
    assert!(!overlaps(&[1, 3], &[3, 4]));
    assert!(!overlaps(&[2, 12, 24], &[6, 2, 3]));
}

#[test]
fn values_shorter_than_planned_are_refused() {
    let case = copy_case(&[3, 4], (0, &[4, 1]), (0, &[4, 1]), (12, 12));
    let plan = case.plan().unwrap();
    let mut output = vec![0u8; 48];
    // SAFETY: `output` outlives the calls and nothing else uses it meanwhile.
    let mut shared = |len| [unsafe { SharedBytes::new(output.as_mut_ptr(), len) }];
    let (full, short) = (shared(48), shared(47));
    let mut scratch = TileScratch::new();
    let mut run = |input: &[u8], out: &[SharedBytes], part| {
        // SAFETY: as above, and the input is only read.
        let input = unsafe { SharedBytes::new(input.as_ptr().cast_mut(), input.len()) };
        exec::run(&plan, TileIsa::Scalar, &mut scratch, &[input], out, part, 2).is_ok()
    };
    assert!(run(&[0; 48], &full, 1));
    assert!(!run(&[0; 47], &full, 0));
    assert!(!run(&[0; 48], &short, 0));
    assert!(!run(&[0; 48], &[], 0));
    assert!(!run(&[0; 48], &full, 2));
}
