//! Engines that were each made to break one thing.

use crate::common::{engine, engine_bytes, port, step, value};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::Engine;
use autoglm_runtime::error::{EngineError, RunError};
use autoglm_runtime::program::{
    Access, Program, Reg, ScatterMode, ShapeOp, ShapeProgram, Step, StepKind, Storage, Value,
};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::tile::{Instr, Reduce, ReduceOp, TileProgram};

/// Registers of every program here.
const REGISTERS: [i64; 6] = [0, 1, 1 << 40, 4, 1 << 62, 1 << 28];
const ZERO: Reg = 0;
const ONE: Reg = 1;
const WIDE: Reg = 2;
const FOUR: Reg = 3;
const HUGE: Reg = 4;
const LARGE: Reg = 5;

/// The engine of a program without inputs whose output is that of its last step. Constants are bytes 0x7f.
fn bytes(values: Vec<Value>, steps: Vec<Step>, tiles: Vec<TileProgram>) -> Vec<u8> {
    let out = steps.last().unwrap().outs[0];
    engine_bytes(|writer| {
        writer.add_weight(&[0x7f; 256]).unwrap();
        let ops = REGISTERS.iter().map(|&n| ShapeOp::Const(n)).collect();
        Program {
            inputs: vec![],
            outputs: vec![port("y", out, &[])],
            shape: ShapeProgram { ops, guards: vec![] },
            values,
            tiles,
            steps,
            separate: false,
        }
    })
}

fn run(values: Vec<Value>, steps: Vec<Step>, tiles: Vec<TileProgram>) -> Result<Vec<HostTensor>, RunError> {
    let options =
        SessionOptions { threads: 1, max_work: 1 << 32, max_memory: 1 << 30, ..SessionOptions::default() };
    Session::new(engine(bytes(values, steps, tiles)), options).unwrap().run_alloc(&[])
}

fn constant(elem: ElemType, dims: &[Reg], len: u64) -> Value {
    value(elem, dims, Storage::Const { offset: 0, len })
}

fn temp(dims: &[Reg]) -> Value {
    value(ElemType::F32, dims, Storage::Temp)
}

fn access(offset: Reg, strides: &[Reg]) -> Access {
    Access { offset, strides: strides.to_vec() }
}

#[test]
fn positions_in_an_empty_tensor_do_not_overflow() {
    // The coordinates along the wide axes are in range, and their position is beyond 2^64.
    let values =
        vec![constant(ElemType::F32, &[ZERO], 0), constant(ElemType::I32, &[FOUR], 16), temp(&[ONE])];
    let extents = vec![WIDE, WIDE, WIDE, ZERO];
    let kind = StepKind::GatherNd { batch: ONE, rows: ONE, extents, inner: ONE };
    let result = run(values, vec![step("gather", kind, &[0, 1], &[2])], vec![]);
    assert!(matches!(result, Err(RunError::Index { extent: 0, .. })), "{result:?}");
}

fn empty_scatter(rows: Reg, extents: Vec<Reg>, index: Value) -> Result<Vec<HostTensor>, RunError> {
    let empty = || constant(ElemType::F32, &[ZERO], 0);
    let kind = StepKind::ScatterNd { rows, extents, inner: ZERO, mode: ScatterMode::Replace };
    run(vec![empty(), index, empty(), temp(&[ZERO])], vec![step("scatter", kind, &[0, 1, 2], &[3])], vec![])
}

#[test]
fn positions_of_rows_without_elements_do_not_overflow() {
    let index = constant(ElemType::I32, &[FOUR], 16);
    let result = empty_scatter(ONE, vec![WIDE, WIDE, WIDE, WIDE], index);
    assert!(!matches!(result, Err(RunError::Panic(_))), "{result:?}");
}

#[test]
fn rows_without_indices_and_elements_are_not_walked() {
    let result = empty_scatter(HUGE, vec![], constant(ElemType::I32, &[ZERO], 0));
    assert!(!matches!(result, Err(RunError::Panic(_))), "{result:?}");
}

#[test]
fn matrices_without_elements_are_not_counted_without_end() {
    let values = vec![constant(ElemType::F32, &[ZERO], 0), constant(ElemType::I32, &[ONE], 4), temp(&[ONE])];
    let kind = |matrices| StepKind::GatherMatMul {
        batch: vec![ONE],
        m: ONE,
        k: ZERO,
        n: ONE,
        matrices,
        a: access(ZERO, &[ZERO, ZERO, ZERO]),
        b: access(ZERO, &[]),
        b_packed: true,
        index: access(ZERO, &[ZERO]),
        out: access(ZERO, &[ZERO, ZERO]),
    };
    for (matrices, code) in [(HUGE, "E0611"), (WIDE, "E0611"), (LARGE, "E0606"), (ZERO, "E0603")] {
        let result = run(values.clone(), vec![step("gather", kind(matrices), &[0, 0, 1], &[2])], vec![]);
        assert_eq!(result.as_ref().map_err(RunError::code).err(), Some(code), "{result:?}");
    }
}

/// One element, read again and again through strides of 0.
#[test]
fn work_without_end_is_refused_before_it_starts() {
    let values = || vec![constant(ElemType::F32, &[ONE], 4), temp(&[ONE])];
    let zeros = access(ZERO, &[ZERO, ZERO]);
    let (a, b) = (zeros.clone(), zeros);
    let matmul = StepKind::MatMul {
        batch: vec![],
        m: ONE,
        k: WIDE,
        n: ONE,
        a,
        b,
        b_packed: false,
        sparsity: None,
        bias: false,
        epilogue: None,
        out: access(ZERO, &[ONE]),
    };
    let result = run(values(), vec![step("matmul", matmul, &[0, 0], &[1])], vec![]);
    assert_eq!(result.as_ref().map_err(RunError::code).err(), Some("E0611"), "{result:?}");
    let sum = TileProgram {
        body: vec![Instr::Load { arg: 0 }],
        reduce_rank: 1,
        reduces: vec![Reduce { op: ReduceOp::Sum, src: 0 }],
        epilogue: vec![Instr::Store { out: 0, src: 0 }],
    };
    let (reads, writes) = (vec![access(ZERO, &[ZERO])], vec![access(ZERO, &[])]);
    let tile = StepKind::Tile { tile: 0, dims: vec![WIDE], reads, writes };
    let result = run(values(), vec![step("sum", tile, &[0], &[1])], vec![sum]);
    assert!(matches!(result, Err(RunError::Work { .. })), "{result:?}");
}

/// Every step of a small file refers to one large tile program.
#[test]
fn plans_do_not_multiply_a_tile_program() {
    let mut body = vec![Instr::Load { arg: 0 }; 511];
    body.push(Instr::Store { out: 0, src: 0 });
    let tile = TileProgram { body, ..TileProgram::default() };
    let kind = StepKind::Tile {
        tile: 0,
        dims: vec![],
        reads: vec![access(ZERO, &[])],
        writes: vec![access(ZERO, &[])],
    };
    let values = vec![constant(ElemType::F32, &[ONE], 4), temp(&[ONE])];
    let steps = vec![step("", kind, &[0], &[1]); 100_000];
    let result = Engine::from_bytes(bytes(values, steps, vec![tile]).into());
    assert!(matches!(result, Err(EngineError::Limit { .. })), "{result:?}");
}

#[test]
fn outputs_count_as_memory() {
    let gib = |_| temp(&[LARGE]);
    let mut values: Vec<Value> = (0..64).map(gib).collect();
    values.push(constant(ElemType::F32, &[ONE], 4));
    let copy = TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }],
        ..TileProgram::default()
    };
    let steps: Vec<Step> = (0..64)
        .map(|out| {
            let (reads, writes) = (vec![access(ZERO, &[ZERO])], vec![access(ZERO, &[ONE])]);
            let dims = vec![LARGE];
            step("fill", StepKind::Tile { tile: 0, dims, reads, writes }, &[64], &[out])
        })
        .collect();
    let bytes = engine_bytes(|writer| {
        writer.add_weight(&[0x7f; 256]).unwrap();
        let ops = REGISTERS.iter().map(|&n| ShapeOp::Const(n)).collect();
        Program {
            inputs: vec![],
            outputs: (0..64).map(|i| port(&i.to_string(), i, &[])).collect(),
            shape: ShapeProgram { ops, guards: vec![] },
            values,
            tiles: vec![copy],
            steps,
            separate: false,
        }
    });
    let options = SessionOptions { threads: 1, max_outputs: 4 << 30, ..SessionOptions::default() };
    let result = Session::new(engine(bytes), options).unwrap().run_alloc(&[]);
    assert!(matches!(result, Err(RunError::Memory { .. })), "{:?}", result.map(|t| t.len()));
}
