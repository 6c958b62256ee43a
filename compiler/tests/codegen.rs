//! Compiled loops against the scalar interpreter.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm_compiler::codegen::cpu::Cranelift;
use autoglm_runtime::cpu::emit::Emitter;
use autoglm_runtime::cpu::features::Isa;
use autoglm_runtime::elem::ElemType::{self, *};
use autoglm_runtime::engine::manifest::{Manifest, TensorSignature};
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{
    Access, Port, Program, ShapeOp, ShapeProgram, Step as ProgramStep, StepKind, Storage, Value,
};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::tile::native::{CodeCache, CodeCounts, CodeProvider, Declined, LoopSpec, Operand, Step};
use autoglm_runtime::tile::testing::checks::{self, LENGTHS, Tally};
use autoglm_runtime::tile::testing::{Case, LANES, Recipe, Style};
use autoglm_runtime::tile::{
    BinaryOp, ConcreteAccess, Instr, Lane, Reduce, ReduceOp, TileIsa, TileProgram, UnaryOp,
};
use std::sync::Arc;

/// Element types that compiled loops read and write.
const ELEMS: [ElemType; 11] = [F32, F64, I64, I32, I16, I8, U64, U32, U16, U8, Bool];

/// A compiler, where this machine has one.
fn code() -> Option<CodeCache> {
    match Cranelift::for_every_loop() {
        Ok(compiler) => Some(CodeCache::eager(Arc::new(compiler))),
        Err(why) => {
            assert!(!cfg!(target_arch = "x86_64") || !TileIsa::Avx2.is_supported(), "{why}");
            None
        }
    }
}

fn assert_compiled(tally: &Tally, least: usize) {
    assert!(tally.compiled >= least, "{tally:?}");
    for reason in
        ["Cranelift has no instructions for it", "a malformed loop", "an operation without a short form"]
    {
        assert!(!tally.declined.contains_key(reason), "{tally:?}");
    }
}

const RECIPE: Recipe<'static> =
    Recipe { style: Style::Wild, limit: 3000, elems: &ELEMS, lanes: &LANES, extents: &LENGTHS, max_rank: 3 };

#[test]
fn wild_programs_agree_bit_for_bit() {
    let Some(code) = code() else { return };
    assert_compiled(&checks::random(&code, &RECIPE, 0..3000), 800);
}

#[test]
fn programs_with_float_sums_agree_within_rounding() {
    let Some(code) = code() else { return };
    let recipe = Recipe { style: Style::Tame, ..RECIPE };
    assert_compiled(&checks::random(&code, &recipe, 90_000..91_000), 250);
}

#[test]
fn outputs_over_arguments_and_parts_of_values_agree() {
    let Some(code) = code() else { return };
    assert_compiled(&checks::shared(&code, &RECIPE, 40_000..42_500), 200);
}

/// Also the element types that need tables or rounding.
#[test]
fn programs_of_every_type_agree_or_are_declined() {
    let Some(code) = code() else { return };
    checks::random(&code, &Recipe::new(Style::Wild, 2000), 0..400);
}

#[test]
fn one_loop_dimension_of_every_length() {
    let Some(code) = code() else { return };
    for n in 0..67 {
        let extents = [n];
        let recipe = Recipe { limit: 67, extents: &extents, max_rank: 1, ..RECIPE };
        checks::random(&code, &recipe, 1000 * n as u64..1000 * n as u64 + 6);
    }
}

#[test]
fn operations_at_special_values() {
    let Some(code) = code() else { return };
    for tally in [
        checks::every_operation_at_special_values(&code),
        checks::bounds_that_are_constants(&code),
        checks::functions_of_f32_have_the_bits_of_the_interpreter(&code),
    ] {
        assert!(tally.compiled > 0 && tally.declined.is_empty(), "{tally:?}");
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
        checks::one_output(body, &[n], vec![(F32, &[1], bytes)], F32)
    };
    for n in [16, 17, 64] {
        checks::compare(&relu(n), &code, Style::Wild, "abs").unwrap();
    }
    let counts = code.counts();
    assert_eq!((counts.functions, counts.declined), (1, 0));
    assert!(counts.code_bytes > 16);
}

/// What a session's compiler declines because the interpreter is faster.
#[test]
fn elementary_functions_stay_with_wider_vectors() {
    let Ok(compiler) = Cranelift::for_host() else { return };
    let code = CodeCache::eager(Arc::new(compiler));
    let case = |op| {
        let body = vec![Instr::Load { arg: 0 }, Instr::Unary(op, 0), Instr::Store { out: 0, src: 1 }];
        checks::one_output(body, &[8], vec![(F32, &[1], vec![0; 32])], F32)
    };
    let declines = |op| case(op).compiled(&code, TileIsa::detect(), 1).is_err();
    assert_eq!((declines(UnaryOp::Sqrt), declines(UnaryOp::Exp)), (false, cfg!(target_arch = "x86_64")));
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
        LoopSpec { writes: vec![Operand { step: Step::Broadcast, ..operand }], ..good.clone() },
        LoopSpec { body: vec![Instr::Index { dim: 99 }, good.body[1], good.body[2]], ..good.clone() },
        LoopSpec { folds: vec![Reduce { op: ReduceOp::Max, src: 9 }], ..good.clone() },
        LoopSpec { folds: vec![Reduce { op: ReduceOp::ArgMaxLast, src: 1 }], ..good.clone() },
        LoopSpec { body: vec![Instr::Unary(UnaryOp::Neg, 1), good.body[1], good.body[2]], ..good.clone() },
    ];
    for spec in bad {
        assert!(compiler.compile(&spec).is_err(), "{spec:?}");
        assert!(Emitter.compile(&spec).is_err(), "{spec:?}");
    }
}

/// An engine of `count` equal loops over `x[n]`, one behind the other: `y = max(x * x - 2, 0)`.
fn engine(count: u32) -> Engine {
    let access = || Access { offset: 1, strides: vec![2] };
    let constant = |x: f32| Instr::Const { lane: Lane::F32, bits: u64::from(x.to_bits()) };
    let input = Value { elem: F32, dims: vec![0], storage: Storage::Input(0) };
    let step = |i| ProgramStep {
        kind: StepKind::Tile { tile: 0, dims: vec![0], reads: vec![access()], writes: vec![access()] },
        args: vec![i],
        outs: vec![i + 1],
        name: format!("square {i}"),
    };
    let program = Program {
        separate: false,
        inputs: vec![Port { name: "x".into(), value: 0, dim_names: vec!["n".into()] }],
        outputs: vec![Port { name: "y".into(), value: count, dim_names: vec!["n".into()] }],
        shape: ShapeProgram {
            ops: vec![ShapeOp::InputDim { input: 0, axis: 0 }, ShapeOp::Const(0), ShapeOp::Const(1)],
            guards: vec![],
        },
        values: std::iter::once(input)
            .chain((0..count).map(|_| Value { elem: F32, dims: vec![0], storage: Storage::Temp }))
            .collect(),
        tiles: vec![TileProgram {
            body: vec![
                Instr::Load { arg: 0 },
                Instr::Binary(BinaryOp::Mul, 0, 0),
                constant(2.0),
                Instr::Binary(BinaryOp::Sub, 1, 2),
                constant(0.0),
                Instr::Binary(BinaryOp::Max, 3, 4),
                Instr::Store { out: 0, src: 5 },
            ],
            ..TileProgram::default()
        }],
        steps: (0..count).map(step).collect(),
    };
    let side = |name: &str| TensorSignature { name: name.into(), elem: F32 as u32, dims: vec!["n".into()] };
    let manifest = Manifest { inputs: vec![side("x")], outputs: vec![side("y")], ..Manifest::default() };
    let bytes = EngineWriter::in_memory().unwrap().finish(&manifest, &program).unwrap();
    Engine::from_bytes(Arc::from(bytes)).unwrap()
}

/// Cranelift for loops that execute 7000 element-instructions in a run: 1000 elements of [`engine`]'s.
#[derive(Debug)]
struct From7000(Cranelift);

impl CodeProvider for From7000 {
    fn worth(&self, _: &LoopSpec) -> u64 {
        7000
    }

    fn compile(&self, spec: &LoopSpec) -> Result<Vec<u8>, Declined> {
        self.0.compile(spec)
    }
}

fn run(session: &mut Session, n: usize) -> Vec<u8> {
    let x: Vec<u8> = (0..n).flat_map(|i| ((i % 57) as f32 / 9.0 - 3.0).to_ne_bytes()).collect();
    let x = HostTensor::from_bytes(F32, &[n], &x).unwrap();
    session.run_alloc(&[x.as_ref()]).unwrap()[0].bytes.to_vec()
}

fn session(count: u32, isa: Option<Isa>, code: &[Arc<dyn CodeProvider>]) -> Session {
    let options = SessionOptions { threads: 2, isa, code: code.to_vec(), ..SessionOptions::default() };
    Session::new(engine(count), options).unwrap()
}

#[test]
fn sessions_compile_loops_whose_work_in_a_run_pays_for_it() {
    let Ok(compiler) = Cranelift::for_host() else { return };
    let code: [Arc<dyn CodeProvider>; 1] = [Arc::new(From7000(compiler))];
    for (count, n, compiles) in [(1, 999, false), (1, 1000, true), (12, 83, false), (12, 84, true)] {
        let mut with = session(count, None, &code);
        let mut without = session(count, None, &[]);
        assert_eq!(run(&mut with, n), run(&mut without, n), "{count} of {n}");
        let counts = |session: &Session| {
            let loops = session.last_plan().unwrap().loops();
            (loops.compiled, loops.interpreted, session.code_counts().functions)
        };
        let all = count as usize;
        assert_eq!(counts(&with), if compiles { (all, 0, 1) } else { (0, all, 0) }, "{count} of {n}");
        assert_eq!(counts(&without), (0, all, 0));
    }
}

/// A shape is run by the same code whatever was run before.
#[test]
fn sessions_do_not_compile_short_loops_because_a_long_one_was() {
    let Ok(compiler) = Cranelift::for_host() else { return };
    let mut session = session(1, None, &[Arc::new(From7000(compiler))]);
    for (n, compiled) in [(2000, 1), (40, 0), (3000, 1)] {
        run(&mut session, n);
        assert_eq!(session.last_plan().unwrap().loops().compiled, compiled, "{n}");
    }
    assert_eq!(session.code_counts().functions, 1);
}

#[test]
fn sessions_for_the_scalar_instruction_set_run_no_machine_code() {
    let Ok(compiler) = Cranelift::for_host() else { return };
    let mut scalar = session(1, Some(Isa::Scalar), &[Arc::new(Emitter), Arc::new(From7000(compiler))]);
    run(&mut scalar, 1 << 21);
    assert_eq!(scalar.last_plan().unwrap().loops().compiled, 0);
    assert_eq!(scalar.code_counts(), CodeCounts::default());
}
