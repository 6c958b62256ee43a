//! Compiled loops against the scalar interpreter.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm_compiler::codegen::cpu::Cranelift;
use autoglm_runtime::elem::ElemType::{self, *};
use autoglm_runtime::tile::native::{CodeCache, CodeProvider, Declined, LoopSpec, Operand, Step};
use autoglm_runtime::tile::testing::{BINARY, Case, LANES, Recipe, Rng, Style, UNARY, agree, case, number};
use autoglm_runtime::tile::{
    BinaryOp, ConcreteAccess, Instr, Lane, Reduce, ReduceOp, TileIsa, TileProgram, UnaryOp,
};
use std::sync::Arc;

/// Element types that compiled loops read and write.
const ELEMS: [ElemType; 11] = [F32, F64, I64, I32, I16, I8, U64, U32, U16, U8, Bool];

/// A compiler, where this machine has one.
fn code() -> Option<CodeCache> {
    match Cranelift::for_host() {
        Ok(compiler) => Some(CodeCache::eager(Arc::new(compiler))),
        Err(why) => {
            assert!(!cfg!(target_arch = "x86_64") || !TileIsa::Avx2.is_supported(), "{why}");
            None
        }
    }
}

/// Whether the case was compiled; fails if results differ.
fn compare(case: &Case, code: &CodeCache, style: Style, what: &str) -> Result<(), Declined> {
    for parts in 1..=2 {
        let fast = case.compiled(code, TileIsa::detect(), parts)?;
        let slow = case.slow();
        for (out, access) in case.writes.iter().enumerate() {
            let size = access.elem.size();
            for (i, (f, s)) in fast[out].chunks(size).zip(slow[out].chunks(size)).enumerate() {
                assert!(
                    agree(access.elem, style, f, s),
                    "{what}, {parts} parts, output {out} element {i}: {f:?} {:?}, expected {s:?} {:?}\n{:#?}\n{:?} {:?} {:?}",
                    number(access.elem, f),
                    number(access.elem, s),
                    case.program,
                    case.dims,
                    case.reads,
                    case.writes,
                );
            }
        }
    }
    Ok(())
}

fn must_agree(case: &Case, code: &CodeCache, what: &str) {
    compare(case, code, Style::Wild, what).unwrap_or_else(|why| panic!("{what}: {why}"));
}

fn random(recipe: &Recipe<'_>, seeds: std::ops::Range<u64>) {
    let Some(code) = code() else { return };
    let (mut compiled, mut reasons) = (0, std::collections::BTreeMap::new());
    for seed in seeds.clone() {
        let case = case(&mut Rng::new(seed), recipe);
        match compare(&case, &code, recipe.style, &format!("seed {seed}")) {
            Ok(()) => compiled += 1,
            Err(why) => *reasons.entry(why.0).or_insert(0u64) += 1,
        }
    }
    let all = seeds.end - seeds.start;
    assert!(compiled * 4 > all, "only {compiled} of {all} were compiled: {reasons:?}");
    for reason in
        ["Cranelift has no instructions for it", "a malformed loop", "an operation without a short form"]
    {
        assert!(!reasons.contains_key(reason), "{reason}: {reasons:?}");
    }
}

/// Lengths on both sides of an iteration and of several.
const LENGTHS: [i64; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 23, 24, 31, 33, 47, 64, 66, 67];

#[test]
fn wild_programs_agree_bit_for_bit() {
    let recipe = Recipe { style: Style::Wild, limit: 3000, elems: &ELEMS, extents: &LENGTHS, max_rank: 3 };
    random(&recipe, 0..3000);
}

#[test]
fn programs_with_float_sums_agree_within_rounding() {
    let recipe = Recipe { style: Style::Tame, limit: 3000, elems: &ELEMS, extents: &LENGTHS, max_rank: 3 };
    random(&recipe, 90_000..91_000);
}

#[test]
fn one_loop_dimension_of_every_length() {
    for n in 0..67 {
        let extents = [n];
        let recipe = Recipe { style: Style::Wild, limit: 67, elems: &ELEMS, extents: &extents, max_rank: 1 };
        let Some(code) = code() else { return };
        for seed in 0..6 {
            let case = case(&mut Rng::new(1000 * n as u64 + seed), &recipe);
            let _declined = compare(&case, &code, Style::Wild, &format!("length {n}, seed {seed}"));
        }
    }
}

/// Values where operations have corners.
const SPECIAL: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-40,
    -1e-45,
    3.4e38,
    -3.4e38,
    88.9,
    -104.5,
    4.0,
    0.93,
    9.0,
    -9.1,
    1e10,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1.1754943508222875e-38,
];

fn special(lane: Lane) -> (ElemType, Vec<u8>) {
    let integers = [0, 1, -1, 2, 63, 64, -64, i64::MIN, i64::MAX, 1 << 32, -(1 << 31), 12345, 3];
    match lane {
        Lane::F32 => (F32, SPECIAL.iter().flat_map(|x| (*x as f32).to_ne_bytes()).collect()),
        Lane::F64 => (F64, SPECIAL.iter().flat_map(|x| x.to_ne_bytes()).collect()),
        Lane::I64 => (I64, integers.iter().flat_map(|x| x.to_ne_bytes()).collect()),
        Lane::U64 => (U64, integers.iter().flat_map(|x| x.to_ne_bytes()).collect()),
    }
}

fn native(lane: Lane) -> ElemType {
    special(lane).0
}

fn one_output(
    body: Vec<Instr>,
    dims: &[i64],
    reads: Vec<(ElemType, &[i64], Vec<u8>)>,
    out: ElemType,
) -> Case {
    let points: i64 = dims.iter().product();
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    let access = |elem, strides: &[i64]| ConcreteAccess { elem, offset: 0, strides: strides.to_vec() };
    Case {
        program: TileProgram { body, ..TileProgram::default() },
        dims: dims.to_vec(),
        reads: reads.iter().map(|(elem, strides, _)| access(*elem, strides)).collect(),
        inputs: reads.into_iter().map(|(_, _, bytes)| bytes).collect(),
        writes: vec![access(out, &strides)],
        outputs: vec![vec![0x5A; points as usize * out.size()]],
    }
}

#[test]
fn every_operation_at_special_values() {
    let Some(code) = code() else { return };
    for lane in LANES {
        let (elem, bytes) = special(lane);
        let n = (bytes.len() / elem.size()) as i64;
        for op in UNARY.into_iter().filter(|op| op.accepts(lane)) {
            let body = vec![Instr::Load { arg: 0 }, Instr::Unary(op, 0), Instr::Store { out: 0, src: 1 }];
            let case = one_output(body, &[n], vec![(elem, &[1], bytes.clone())], native(op.result(lane)));
            must_agree(&case, &code, &format!("{op:?} {lane:?}"));
        }
        for op in BINARY.into_iter().filter(|op| op.accepts(lane)) {
            let body = vec![
                Instr::Load { arg: 0 },
                Instr::Load { arg: 1 },
                Instr::Binary(op, 0, 1),
                Instr::Store { out: 0, src: 2 },
            ];
            let reads = vec![(elem, &[1, 0][..], bytes.clone()), (elem, &[0, 1][..], bytes.clone())];
            let case = one_output(body, &[n, n], reads, native(op.result(lane)));
            must_agree(&case, &code, &format!("{op:?} {lane:?}"));
        }
        for to in LANES {
            let body =
                vec![Instr::Load { arg: 0 }, Instr::Convert { to, src: 0 }, Instr::Store { out: 0, src: 1 }];
            let case = one_output(body, &[n], vec![(elem, &[1], bytes.clone())], native(to));
            must_agree(&case, &code, &format!("{lane:?} to {to:?}"));
        }
    }
}

/// A maximum or minimum with a constant has a short form; it must not change zeros and NaN.
#[test]
fn bounds_that_are_constants() {
    let Some(code) = code() else { return };
    for lane in [Lane::F32, Lane::F64] {
        let (elem, bytes) = special(lane);
        let n = (bytes.len() / elem.size()) as i64;
        for bound in [0.0, -0.0, 6.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let bits = if lane == Lane::F32 { u64::from((bound as f32).to_bits()) } else { bound.to_bits() };
            for op in [BinaryOp::Max, BinaryOp::Min] {
                for [a, b] in [[0, 1], [1, 0]] {
                    let constant = Instr::Const { lane, bits };
                    let (op, store) = (Instr::Binary(op, a, b), Instr::Store { out: 0, src: 2 });
                    let body = vec![Instr::Load { arg: 0 }, constant, op, store];
                    let case = one_output(body, &[n], vec![(elem, &[1], bytes.clone())], elem);
                    must_agree(&case, &code, &format!("{op:?} {bound}"));
                }
            }
        }
    }
}

/// Polynomials over a dense range, every one of whose results must have the interpreter's bits.
#[test]
fn functions_of_f32_have_the_bits_of_the_interpreter() {
    let Some(code) = code() else { return };
    let n = 20_000;
    let values = (0..n).flat_map(|i| ((i as f32 / n as f32 - 0.5) * 220.0).to_ne_bytes());
    let mut bytes: Vec<u8> = values.collect();
    bytes.extend((0..n as u32).flat_map(|i| (i * 214_748).to_ne_bytes()));
    for op in [UnaryOp::Exp, UnaryOp::Log, UnaryOp::Erf, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Round] {
        let body = vec![Instr::Load { arg: 0 }, Instr::Unary(op, 0), Instr::Store { out: 0, src: 1 }];
        let case = one_output(body, &[2 * n], vec![(F32, &[1], bytes.clone())], F32);
        must_agree(&case, &code, &format!("{op:?}"));
    }
}

/// Sums of f32 are f64: 2^24 + 1 + ... + 1 would stay 2^24 in f32.
#[test]
fn sums_of_f32_are_accumulated_in_f64() {
    let Some(code) = code() else { return };
    for n in [5i64, 8, 67] {
        let mut bytes = 16_777_216f32.to_ne_bytes().to_vec();
        bytes.extend((1..n).flat_map(|_| 1f32.to_ne_bytes()));
        let program = TileProgram {
            body: vec![Instr::Load { arg: 0 }],
            reduce_rank: 1,
            reduces: vec![Reduce { op: ReduceOp::Sum, src: 0 }],
            epilogue: vec![Instr::Store { out: 0, src: 0 }],
        };
        let access = |strides: &[i64]| ConcreteAccess { elem: F32, offset: 0, strides: strides.to_vec() };
        let case = Case {
            program,
            dims: vec![n],
            reads: vec![access(&[1])],
            inputs: vec![bytes],
            writes: vec![access(&[])],
            outputs: vec![vec![0; 4]],
        };
        let sum = case.compiled(&code, TileIsa::detect(), 1).unwrap();
        let exact = (16_777_216.0 + (n - 1) as f64) as f32;
        assert_eq!(sum, [exact.to_ne_bytes().to_vec()]);
    }
}

#[test]
fn equal_loops_are_compiled_once() {
    let Some(code) = code() else { return };
    let relu = |n: i64| {
        let body =
            vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Abs, 0), Instr::Store { out: 0, src: 1 }];
        let bytes = (0..n).flat_map(|i| (i as f32 - 8.0).to_ne_bytes()).collect();
        one_output(body, &[n], vec![(F32, &[1], bytes)], F32)
    };
    for n in [16, 17, 64] {
        must_agree(&relu(n), &code, "abs");
    }
    let counts = code.counts();
    assert_eq!((counts.functions, counts.declined), (1, 0));
    assert!(counts.code_bytes > 16);
}

/// A provider is not asked for specs that no plan makes, but must not fall over them.
#[test]
fn malformed_specs_are_declined() {
    let Ok(compiler) = Cranelift::for_host() else { return };
    let operand = Operand { elem: F32, step: Step::Dense };
    let good = LoopSpec {
        isa: TileIsa::detect(),
        body: vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Neg, 0), Instr::Store { out: 0, src: 1 }],
        lanes: vec![Some(Lane::F32), Some(Lane::F32), None],
        reads: vec![operand],
        writes: vec![operand],
        folds: vec![],
        block_dims: [None; 2],
    };
    compiler.compile(&good).unwrap();
    let bad = [
        LoopSpec { lanes: vec![], ..good.clone() },
        LoopSpec { lanes: vec![None; 3], ..good.clone() },
        LoopSpec { reads: vec![], ..good.clone() },
        LoopSpec { writes: vec![], ..good.clone() },
        LoopSpec { reads: vec![Operand { step: Step::Unused, ..operand }], ..good.clone() },
        LoopSpec { writes: vec![Operand { elem: F16, ..operand }], ..good.clone() },
        LoopSpec { folds: vec![Reduce { op: ReduceOp::Max, src: 9 }], ..good.clone() },
        LoopSpec { folds: vec![Reduce { op: ReduceOp::ArgMaxLast, src: 1 }], ..good.clone() },
        LoopSpec { body: vec![Instr::Unary(UnaryOp::Neg, 1), good.body[1], good.body[2]], ..good.clone() },
    ];
    for spec in bad {
        assert!(compiler.compile(&spec).is_err(), "{spec:?}");
    }
}
