//! Programs that several tests use.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

#[path = "isolate.rs"]
pub mod isolate;

use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::manifest::{Manifest, SymbolBound, TensorSignature};
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{
    Access, Activation, Cell, Cond, Curve, Epilogue, Guard, PoolMode, Port, Program, Reg, ShapeOp,
    ShapeProgram, Step, StepKind, Storage, Value, ValueId,
};
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, Reduce, ReduceOp, TileProgram, UnaryOp};
use std::sync::Arc;

/// Xorshift, so that tests need no dependency and repeat exactly.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub fn value(elem: ElemType, dims: &[Reg], storage: Storage) -> Value {
    Value { elem, dims: dims.to_vec(), storage }
}

pub fn port(name: &str, value: ValueId, dims: &[&str]) -> Port {
    Port { name: name.into(), value, dim_names: dims.iter().map(|d| d.to_string()).collect() }
}

pub fn step(name: &str, kind: StepKind, args: &[ValueId], outs: &[ValueId]) -> Step {
    Step { kind, args: args.to_vec(), outs: outs.to_vec(), name: name.into() }
}

pub fn signature(program: &Program) -> Manifest {
    let side = |ports: &[Port]| {
        ports
            .iter()
            .map(|p| TensorSignature {
                name: p.name.clone(),
                elem: program.values[p.value as usize].elem as u32,
                dims: p.dim_names.clone(),
            })
            .collect()
    };
    Manifest {
        producer_version: "0.1.0".into(),
        model_name: "test".into(),
        model_hash: vec![7; 32],
        opsets: [(String::new(), 21)].into(),
        inputs: side(&program.inputs),
        outputs: side(&program.outputs),
        symbols: [("n".to_string(), SymbolBound { min: 1, max: Some(512) })].into(),
        options: [("strict".to_string(), "true".to_string())].into(),
        op_histogram: [("Gather".to_string(), 2)].into(),
        step_ops: program.steps.iter().map(|s| s.kind.name().to_lowercase()).collect(),
    }
}

pub fn engine_bytes(build: impl FnOnce(&mut EngineWriter) -> Program) -> Vec<u8> {
    let mut writer = EngineWriter::in_memory().unwrap();
    let program = build(&mut writer);
    writer.finish(&signature(&program), &program).unwrap()
}

pub fn engine(bytes: Vec<u8>) -> Engine {
    Engine::from_bytes(Arc::from(bytes)).unwrap()
}

/// `y = flatten(x[idx])[[5, 0]]`, `z = [n, pick, n + k]`, `w = x[idx]` as another output, for `x[n, 4]`, `idx[k]`, `pick[1]`.
/// It runs with the steps that need no kernels.
pub fn rows_program(writer: &mut EngineWriter) -> Program {
    let table: Vec<u8> = [5i64, 0].iter().flat_map(|i| i.to_le_bytes()).collect();
    let (offset, len) = writer.add_weight(&table).unwrap();
    let one = 3;
    let gather = |outer, axis, inner, count| StepKind::Gather { outer, axis, inner, count };
    Program {
        inputs: vec![port("x", 0, &["n", "4"]), port("idx", 1, &["k"]), port("pick", 2, &["1"])],
        outputs: vec![port("y", 6, &["2"]), port("z", 7, &["3"]), port("w", 8, &["k", "4"])],
        shape: ShapeProgram {
            ops: vec![
                ShapeOp::InputDim { input: 0, axis: 0 },
                ShapeOp::Const(4),
                ShapeOp::InputDim { input: 1, axis: 0 },
                ShapeOp::Const(1),
                ShapeOp::Mul(2, 1),
                ShapeOp::Const(2),
                ShapeOp::InputElem { input: 2, index: 0 },
                ShapeOp::Add(0, 2),
                ShapeOp::Const(3),
            ],
            guards: vec![Guard { cond: Cond::Le(5, 2), message: "idx: needs two rows".into() }],
        },
        values: vec![
            value(ElemType::F32, &[0, 1], Storage::Input(0)),
            value(ElemType::I64, &[2], Storage::Input(1)),
            value(ElemType::I64, &[one], Storage::Input(2)),
            value(ElemType::I64, &[5], Storage::Const { offset, len }),
            value(ElemType::F32, &[2, 1], Storage::Temp),
            value(ElemType::F32, &[4], Storage::Alias(4)),
            value(ElemType::F32, &[5], Storage::Temp),
            value(ElemType::I64, &[8], Storage::Temp),
            value(ElemType::F32, &[2, 1], Storage::Temp),
        ],
        tiles: vec![],
        steps: vec![
            step("rows", gather(one, 0, 1, 2), &[0, 1], &[4]),
            step("elements", gather(one, 4, one, 5), &[5, 3], &[6]),
            step("sizes", StepKind::Dims { elems: vec![0, 6, 7] }, &[], &[7]),
            step("again", gather(one, 0, 1, 2), &[0, 1], &[8]),
        ],
        separate: false,
    }
}

/// The last state of an LSTM of 100 elements over `x[5, 2, 400]`.
pub fn layer_program(writer: &mut EngineWriter) -> Program {
    let (offset, len) = writer.add_weight(&vec![0; 4 * 4 * 128 * 100]).unwrap();
    let ops = [5, 2, 400, 100, 0, 1, 800, 4 * 128 * 100].map(ShapeOp::Const).to_vec();
    let (steps, batch, columns, hidden, zero, one) = (0, 1, 2, 3, 4, 5);
    let state = Access { offset: zero, strides: vec![hidden, one] };
    let function = |curve| Activation { curve, alpha: 0.0, beta: 0.0 };
    let kind = StepKind::Recurrent {
        cell: Cell::Lstm { input_forget: false },
        steps,
        batch,
        hidden,
        reverse: false,
        functions: [Curve::Sigmoid, Curve::Tanh, Curve::Tanh].map(function).to_vec(),
        clip: f32::INFINITY,
        x: Access { offset: zero, strides: vec![6, columns] },
        r: Access { offset: zero, strides: vec![] },
        r_packed: true,
        h: state.clone(),
        c: Some(state),
        peepholes: false,
        lengths: false,
        y: None,
    };
    let temp = |dims: &[Reg]| value(ElemType::F32, dims, Storage::Temp);
    Program {
        inputs: vec![port("x", 0, &["5", "2", "400"])],
        outputs: vec![port("y", 2, &["2", "100"])],
        shape: ShapeProgram { ops, guards: vec![] },
        values: vec![
            value(ElemType::F32, &[steps, batch, columns], Storage::Input(0)),
            value(ElemType::F32, &[7], Storage::Const { offset, len }),
            temp(&[batch, hidden]),
            temp(&[batch, hidden]),
            temp(&[batch, batch, hidden]),
        ],
        tiles: vec![],
        steps: vec![step("layer", kind, &[0, 1, 1, 1], &[2, 3, 4])],
        separate: false,
    }
}

fn sample_tile() -> TileProgram {
    TileProgram {
        body: vec![
            Instr::Load { arg: 0 },
            Instr::Const { lane: Lane::F32, bits: 0x3f80_0000 },
            Instr::Binary(BinaryOp::Add, 0, 1),
            Instr::Unary(UnaryOp::Exp, 2),
            Instr::Index { dim: 1 },
            Instr::Convert { to: Lane::F32, src: 4 },
            Instr::Select { cond: 4, a: 3, b: 5 },
            Instr::Round { elem: ElemType::F16, saturate: false, src: 6 },
        ],
        reduce_rank: 1,
        reduces: vec![Reduce { op: ReduceOp::Sum, src: 7 }],
        epilogue: vec![Instr::Store { out: 0, src: 0 }],
    }
}

/// `out = arg 0 + arg 1`.
pub fn sum_tile() -> TileProgram {
    let body = vec![
        Instr::Load { arg: 0 },
        Instr::Load { arg: 1 },
        Instr::Binary(BinaryOp::Add, 0, 1),
        Instr::Store { out: 0, src: 2 },
    ];
    TileProgram { body, ..TileProgram::default() }
}

/// A valid program with every kind of step. All extents are register 0 (the input's) or 1 (the constant 1).
pub fn all_kinds_program(writer: &mut EngineWriter) -> Program {
    let (offset, len) = writer.add_weight(&[1; 64]).unwrap();
    let (n, one) = (0, 1);
    let f32s = ElemType::F32;
    let temp = |dims: &[Reg]| value(f32s, dims, Storage::Temp);
    Program {
        inputs: vec![port("x", 0, &["n", "n"])],
        outputs: vec![port("y", 3, &["n", "n"]), port("i", 10, &["1"])],
        shape: ShapeProgram {
            ops: vec![
                ShapeOp::InputDim { input: 0, axis: 0 },
                ShapeOp::Const(1),
                ShapeOp::Const(0),
                ShapeOp::FloorDiv(0, 1),
                ShapeOp::Mod(0, 1),
                ShapeOp::Min(0, 1),
                ShapeOp::Max(0, 1),
                ShapeOp::Eq(0, 1),
                ShapeOp::Sub(0, 1),
            ],
            guards: vec![
                Guard { cond: Cond::Eq(0, 0), message: "square".into() },
                Guard { cond: Cond::Broadcast(0, 1), message: "broadcast".into() },
            ],
        },
        values: vec![
            value(f32s, &[n, n], Storage::Input(0)),
            value(f32s, &[n], Storage::Const { offset, len }),
            temp(&[n]),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
            value(ElemType::I64, &[one], Storage::Temp),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
            temp(&[n, n]),
        ],
        tiles: vec![sample_tile(), sum_tile()],
        steps: all_kinds_steps(),
        separate: false,
    }
}

fn all_kinds_steps() -> Vec<Step> {
    let (n, one) = (0, 1);
    let access = |rank: usize| Access { offset: 2, strides: vec![one; rank] };
    let pair = [one, one];
    let [product, convolution, attention] = contractions();
    vec![
        step(
            "tile",
            StepKind::Tile { tile: 0, dims: vec![n, n], reads: vec![access(2)], writes: vec![access(1)] },
            &[0],
            &[2],
        ),
        product,
        convolution,
        transformed_convolution(),
        step(
            "pool",
            StepKind::Pool {
                mode: PoolMode::AverageIncludePad,
                extents: [one, n, n, one],
                out_extents: [n, n],
                x: access(3),
                out: access(3),
                kernel: pair,
                stride: pair,
                dilation: pair,
                pad: pair,
                pad_end: pair,
            },
            &[5],
            &[6],
        ),
        step(
            "softmax",
            StepKind::Softmax { rows: n, cols: n, log: true, x: access(1), out: access(1) },
            &[6],
            &[7],
        ),
        step(
            "norm",
            StepKind::LayerNorm {
                rows: n,
                cols: n,
                epsilon: 1e-5,
                bias: true,
                rms: false,
                x: access(1),
                out: access(1),
            },
            &[7, 1, 2],
            &[8],
        ),
        attention,
        step("dims", StepKind::Dims { elems: vec![n] }, &[], &[10]),
        layer(),
        step("gather", StepKind::Gather { outer: one, axis: n, inner: n, count: one }, &[8, 10], &[3]),
    ]
}

/// A recurrent layer with all operands.
fn layer() -> Step {
    let (n, one) = (0, 1);
    let access = || Access { offset: 2, strides: vec![one; 2] };
    let function = Activation { curve: Curve::Elu, alpha: 0.5, beta: 0.0 };
    let kind = StepKind::Recurrent {
        cell: Cell::Lstm { input_forget: true },
        steps: one,
        batch: n,
        hidden: n,
        reverse: true,
        functions: vec![function; 3],
        clip: 2.0,
        x: access(),
        r: access(),
        r_packed: false,
        h: access(),
        c: Some(access()),
        peepholes: true,
        lengths: true,
        y: Some(access()),
    };
    step("layer", kind, &[9, 0, 0, 0, 1, 10], &[11, 12, 13, 14])
}

/// A convolution by Winograd's algorithm.
fn transformed_convolution() -> Step {
    let (n, one) = (0, 1);
    let access = |rank: usize| Access { offset: 2, strides: vec![one; rank] };
    step(
        "winograd",
        StepKind::Winograd {
            extents: [one, n, n, one],
            out_extents: [n, n],
            x: access(3),
            out: access(3),
            m: n,
            bias: true,
            epilogue: Some(Epilogue { tile: 1, reads: vec![access(4)] }),
        },
        &[4, 0, 1, 0],
        &[5],
    )
}

/// Steps with epilogues, and attention.
fn contractions() -> [Step; 3] {
    let (n, one) = (0, 1);
    let access = |rank: usize| Access { offset: 2, strides: vec![one; rank] };
    let pair = [one, one];
    [
        step(
            "matmul",
            StepKind::MatMul {
                batch: vec![],
                m: n,
                k: n,
                n,
                a: access(2),
                b: access(2),
                b_packed: false,
                sparsity: None,
                out: access(1),
                bias: true,
                epilogue: Some(Epilogue { tile: 1, reads: vec![access(2)] }),
            },
            &[0, 0, 2, 0],
            &[4],
        ),
        step(
            "conv",
            StepKind::Conv {
                extents: [one, n, n, one],
                out_extents: [n, n],
                x: access(3),
                out: access(3),
                kernel: pair,
                stride: pair,
                dilation: pair,
                groups: one,
                m: n,
                sparsity: None,
                bias: true,
                epilogue: Some(Epilogue { tile: 1, reads: vec![access(4)] }),
            },
            &[4, 0, 1, 0],
            &[5],
        ),
        step(
            "attention",
            StepKind::Attention {
                batch: one,
                heads: n,
                kv_heads: n,
                q_len: one,
                kv_len: n,
                head_dim: one,
                v_dim: one,
                scale: 0.5,
                q: access(4),
                k: access(4),
                v: access(4),
                out: access(4),
                mask: Some(access(4)),
                causal: Some(one),
                fill: -1e4,
                zero_masked: true,
            },
            &[8, 8, 0, 0],
            &[9],
        ),
    ]
}
