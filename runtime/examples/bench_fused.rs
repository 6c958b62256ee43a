//! Microseconds of fused steps and of the steps that they replace, on one thread: `cargo run --release --example
//! bench_fused`, of attention alone with `-- attention`.
#![allow(clippy::print_stdout, reason = "the table is this program's result")]

use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::manifest::{Manifest, TensorSignature};
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{
    Access, Epilogue, Port, Program, Reg, ShapeOp, Step, StepKind, Storage, Value, ValueId,
};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorMut};
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, TileProgram, UnaryOp};
use std::error::Error;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A program of constant sizes.
#[derive(Default)]
struct Build {
    program: Program,
    sizes: Vec<usize>,
}

impl Build {
    fn reg(&mut self, number: usize) -> Reg {
        self.program.shape.ops.push(ShapeOp::Const(number as i64));
        self.program.shape.ops.len() as Reg - 1
    }

    fn access(&mut self, strides: &[usize]) -> Access {
        Access { offset: self.reg(0), strides: strides.iter().map(|&s| self.reg(s)).collect() }
    }

    fn value(&mut self, len: usize, storage: Storage) -> ValueId {
        let dims = vec![self.reg(len)];
        self.program.values.push(Value { elem: ElemType::F32, dims, storage });
        self.program.values.len() as ValueId - 1
    }

    fn input(&mut self, len: usize) -> ValueId {
        let at = self.sizes.len();
        self.sizes.push(len);
        let value = self.value(len, Storage::Input(at as u32));
        self.program.inputs.push(Port { name: format!("x{at}"), value, dim_names: vec!["n".into()] });
        value
    }

    fn step(&mut self, kind: StepKind, args: Vec<ValueId>, out: ValueId) {
        self.program.steps.push(Step { kind, args, outs: vec![out], name: String::new() });
    }

    /// Least time of many runs.
    fn fastest(mut self, out: ValueId) -> Outcome<f64> {
        self.program.outputs = vec![Port { name: "y".into(), value: out, dim_names: vec!["n".into()] }];
        let signature = |p: &Port| TensorSignature {
            name: p.name.clone(),
            elem: ElemType::F32 as u32,
            dims: p.dim_names.clone(),
        };
        let manifest = Manifest {
            inputs: self.program.inputs.iter().map(signature).collect(),
            outputs: self.program.outputs.iter().map(signature).collect(),
            ..Manifest::default()
        };
        let bytes = EngineWriter::in_memory()?.finish(&manifest, &self.program)?;
        let options = SessionOptions { threads: 1, ..SessionOptions::default() };
        let mut session = Session::new(Engine::from_bytes(bytes.into())?, options)?;
        let inputs = self.sizes.iter().map(|&len| {
            let elems: Vec<f32> = (0..len).map(|i| (i * 37 % 101) as f32 * 0.01 - 0.5).collect();
            HostTensor::from_f32(&[len], &elems)
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<_> = inputs.iter().map(HostTensor::as_ref).collect();
        let mut outputs = session.run_alloc(&inputs)?;
        let mut outputs: Vec<TensorMut<'_>> = outputs.iter_mut().map(HostTensor::as_mut).collect();
        let (end, mut best) = (Instant::now() + Duration::from_millis(400), f64::INFINITY);
        while Instant::now() < end {
            let start = Instant::now();
            session.run(&inputs, &mut outputs)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best * 1e6)
    }
}

/// How the elementwise part is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Map {
    No,
    Inside,
    Behind,
}

/// GELU of the first argument, plus the second.
fn gelu_and_residual() -> TileProgram {
    let number = |x: f32| Instr::Const { lane: Lane::F32, bits: u64::from(x.to_bits()) };
    let body = vec![
        Instr::Load { arg: 0 },
        number(std::f32::consts::FRAC_1_SQRT_2),
        Instr::Binary(BinaryOp::Mul, 0, 1),
        Instr::Unary(UnaryOp::Erf, 2),
        number(1.0),
        Instr::Binary(BinaryOp::Add, 3, 4),
        Instr::Binary(BinaryOp::Mul, 0, 5),
        Instr::Load { arg: 1 },
        Instr::Binary(BinaryOp::Add, 6, 7),
        Instr::Store { out: 0, src: 8 },
    ];
    TileProgram { body, ..TileProgram::default() }
}

fn product(m: usize, k: usize, n: usize, map: Map) -> Outcome<f64> {
    let mut build = Build::default();
    let (a, b, residual) = (build.input(m * k), build.input(k * n.next_multiple_of(32)), build.input(m * n));
    let (out, mapped) = (build.value(m * n, Storage::Temp), build.value(m * n, Storage::Temp));
    build.program.tiles.push(gelu_and_residual());
    let dense = build.access(&[n, 1]);
    let kind = StepKind::MatMul {
        batch: vec![],
        m: build.reg(m),
        k: build.reg(k),
        n: build.reg(n),
        a: build.access(&[k, 1]),
        b: build.access(&[0, 0]),
        b_packed: true,
        sparsity: None,
        out: build.access(&[n]),
        bias: false,
        epilogue: (map == Map::Inside).then(|| Epilogue { tile: 0, reads: vec![dense.clone()] }),
    };
    let args = if map == Map::Inside { vec![a, b, residual] } else { vec![a, b] };
    build.step(kind, args, out);
    if map != Map::Behind {
        return build.fastest(out);
    }
    let dims = vec![build.reg(m), build.reg(n)];
    let kind =
        StepKind::Tile { tile: 0, dims, reads: vec![dense.clone(), dense.clone()], writes: vec![dense] };
    build.step(kind, vec![out, residual], mapped);
    build.fastest(mapped)
}

fn attention(heads: usize, kv_heads: usize, q_len: usize, kv_len: usize, columns: usize) -> Outcome<f64> {
    let mut build = Build::default();
    let [q, k, v] =
        [(heads, q_len), (kv_heads, kv_len), (kv_heads, kv_len)].map(|(h, n)| build.input(h * n * columns));
    let out = build.value(heads * q_len * columns, Storage::Temp);
    // [length, heads, columns], as a product makes it.
    let strides = |heads: usize| [0, columns, heads * columns, 1];
    let kind = StepKind::Attention {
        batch: build.reg(1),
        heads: build.reg(heads),
        kv_heads: build.reg(kv_heads),
        q_len: build.reg(q_len),
        kv_len: build.reg(kv_len),
        head_dim: build.reg(columns),
        v_dim: build.reg(columns),
        scale: 0.125,
        q: build.access(&strides(heads)),
        k: build.access(&strides(kv_heads)),
        v: build.access(&strides(kv_heads)),
        out: build.access(&strides(heads)),
        mask: None,
        causal: None,
        fill: f32::NEG_INFINITY,
        zero_masked: false,
    };
    build.step(kind, vec![q, k, v], out);
    build.fastest(out)
}

fn main() -> Outcome<()> {
    let only_attention = std::env::args().nth(1).is_some_and(|only| only == "attention");
    for (m, k, n) in [(128, 768, 3072), (128, 3072, 768), (3136, 64, 64), (1, 768, 3072)]
        .into_iter()
        .filter(|_| !only_attention)
    {
        let alone = product(m, k, n, Map::No)?;
        let (inside, behind) = (product(m, k, n, Map::Inside)?, product(m, k, n, Map::Behind)?);
        println!(
            "{m}x{n}x{k}: product {alone:8.1} us, with epilogue {inside:8.1}, with a loop behind {behind:8.1}"
        );
    }
    for (heads, kv_heads, q_len, kv_len) in [
        (12, 12, 128, 128),
        (12, 12, 197, 197),
        (12, 12, 512, 512),
        (32, 8, 1, 1024),
        (12, 12, 1, 512),
        (8, 8, 1024, 2048),
    ] {
        let time = attention(heads, kv_heads, q_len, kv_len, 64)?;
        let gflops = (heads * q_len * kv_len * 64 * 4) as f64 * 1e-3 / time;
        println!(
            "attention {heads}/{kv_heads} heads, {q_len} x {kv_len}: {time:9.1} us, {gflops:6.1} GFLOP/s"
        );
    }
    Ok(())
}
