//! Prints nanoseconds an element of typical tile programs, single-threaded: `cargo run --release --example bench_tile`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use autoglm_runtime::elem::ElemType::F32;
use autoglm_runtime::tile::{
    BinaryOp, ConcreteAccess, Instr, Lane, Reduce, ReduceOp, SharedBytes, TileError, TileIsa, TilePlan,
    TileProgram, TileScratch, UnaryOp, exec,
};
use std::time::Instant;

fn constant(x: f32) -> Instr {
    Instr::Const { lane: Lane::F32, bits: u64::from(x.to_bits()) }
}

fn map(body: Vec<Instr>) -> TileProgram {
    TileProgram { body, ..TileProgram::default() }
}

fn sum(op: ReduceOp) -> TileProgram {
    TileProgram {
        body: vec![Instr::Load { arg: 0 }],
        reduce_rank: 1,
        reduces: vec![Reduce { op, src: 0 }],
        epilogue: vec![Instr::Store { out: 0, src: 0 }],
    }
}

fn gelu() -> TileProgram {
    map(vec![
        Instr::Load { arg: 0 },
        constant(std::f32::consts::FRAC_1_SQRT_2),
        Instr::Binary(BinaryOp::Mul, 0, 1),
        Instr::Unary(UnaryOp::Erf, 2),
        constant(1.0),
        Instr::Binary(BinaryOp::Add, 3, 4),
        Instr::Binary(BinaryOp::Mul, 0, 5),
        constant(0.5),
        Instr::Binary(BinaryOp::Mul, 6, 7),
        Instr::Store { out: 0, src: 8 },
    ])
}

fn unary(op: UnaryOp) -> TileProgram {
    map(vec![Instr::Load { arg: 0 }, Instr::Unary(op, 0), Instr::Store { out: 0, src: 1 }])
}

struct Bench {
    name: &'static str,
    program: TileProgram,
    dims: Vec<i64>,
    reads: Vec<Vec<i64>>,
    write: Vec<i64>,
}

fn benches(n: i64) -> Vec<Bench> {
    let bench = |name, program, dims: &[i64], reads: &[&[i64]], write: &[i64]| Bench {
        name,
        program,
        dims: dims.to_vec(),
        reads: reads.iter().map(|r| r.to_vec()).collect(),
        write: write.to_vec(),
    };
    let add = || {
        map(vec![
            Instr::Load { arg: 0 },
            Instr::Load { arg: 1 },
            Instr::Binary(BinaryOp::Add, 0, 1),
            Instr::Store { out: 0, src: 2 },
        ])
    };
    let copy = || map(vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }]);
    let half = n / 8;
    vec![
        bench("add (in cache)", add(), &[16384], &[&[1], &[1]], &[1]),
        bench("add", add(), &[n * n], &[&[1], &[1]], &[1]),
        bench("add bias", add(), &[n, n], &[&[n, 1], &[0, 1]], &[n, 1]),
        bench("add bias of 48", add(), &[n * n / 48, 48], &[&[48, 1], &[0, 1]], &[48, 1]),
        bench("exp (in cache)", unary(UnaryOp::Exp), &[16384], &[&[1]], &[1]),
        bench("tanh (in cache)", unary(UnaryOp::Tanh), &[16384], &[&[1]], &[1]),
        bench("sigmoid (in cache)", unary(UnaryOp::Sigmoid), &[16384], &[&[1]], &[1]),
        bench("log (in cache)", unary(UnaryOp::Log), &[16384], &[&[1]], &[1]),
        bench("gelu (in cache)", gelu(), &[16384], &[&[1]], &[1]),
        bench("gelu", gelu(), &[n * n], &[&[1]], &[1]),
        bench("copy", copy(), &[n * n], &[&[1]], &[1]),
        bench("transpose", copy(), &[n, n], &[&[1, n]], &[n, 1]),
        bench("transpose, small", copy(), &[half, half], &[&[1, half]], &[half, 1]),
        bench("transpose and exp", unary(UnaryOp::Exp), &[n, n], &[&[1, n]], &[n, 1]),
        bench("nhwc to nchw, 64", copy(), &[64, n * n / 64], &[&[1, 64]], &[n * n / 64, 1]),
        bench("row sum", sum(ReduceOp::Sum), &[n, n], &[&[n, 1]], &[1]),
        bench("row sum of 64", sum(ReduceOp::Sum), &[n * n / 64, 64], &[&[64, 1]], &[1]),
        bench("row sum of 4", sum(ReduceOp::Sum), &[n * n / 4, 4], &[&[4, 1]], &[1]),
        bench("row max", sum(ReduceOp::Max), &[n, n], &[&[n, 1]], &[1]),
        bench("row argmax", sum(ReduceOp::ArgMaxFirst), &[n, n], &[&[n, 1]], &[1]),
        bench("column sum", sum(ReduceOp::Sum), &[n, n], &[&[1, n]], &[1]),
        bench("column max", sum(ReduceOp::Max), &[n, n], &[&[1, n]], &[1]),
    ]
}

fn measure(bench: &Bench, isa: TileIsa) -> Result<f64, TileError> {
    let points: i64 = bench.dims.iter().product();
    let is_arg = bench.program.reduces.iter().any(|r| r.op.is_arg());
    let out = if is_arg { autoglm_runtime::elem::ElemType::I64 } else { F32 };
    let reads: Vec<_> =
        bench.reads.iter().map(|s| ConcreteAccess { elem: F32, offset: 0, strides: s.clone() }).collect();
    let write = ConcreteAccess { elem: out, offset: 0, strides: bench.write.clone() };
    let len = points as usize;
    let inputs: Vec<Vec<u8>> = reads
        .iter()
        .map(|_| (0..len).flat_map(|i| ((i % 97) as f32 / 20.0 - 2.4).to_ne_bytes()).collect())
        .collect();
    let mut output = vec![0u8; len * out.size()];
    let lens = vec![len; reads.len()];
    let plan = TilePlan::new(&bench.program, &bench.dims, &reads, &[write], &lens, &[len])?;
    // SAFETY: the vectors outlive the calls and are only read.
    let slice = |v: &Vec<u8>| unsafe { SharedBytes::new(v.as_ptr().cast_mut(), v.len()) };
    let slices: Vec<_> = inputs.iter().map(slice).collect();
    // SAFETY: `output` lives to the end of the function and is not used otherwise.
    let shared = [unsafe { SharedBytes::new(output.as_mut_ptr(), output.len()) }];
    let mut scratch = TileScratch::new();
    let repeats = (1 << 24) / points.max(1) + 1;
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..repeats {
            exec::run(&plan, isa, &mut scratch, &slices, &shared, 0, 1)?;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (repeats * points) as f64);
    }
    Ok(best)
}

fn main() -> Result<(), TileError> {
    for bench in benches(1024) {
        print!("{:20}", bench.name);
        for isa in [TileIsa::Scalar, TileIsa::Avx2, TileIsa::Avx512] {
            if isa.is_supported() {
                print!("  {isa:?} {:.3} ns", measure(&bench, isa)?);
            }
        }
        println!();
    }
    Ok(())
}
