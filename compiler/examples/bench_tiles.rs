//! Prints nanoseconds an element of fused loops on one thread, interpreted, compiled, and written in Rust:
//! `cargo run --release -p autoglm-compiler --example bench_tiles`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use autoglm_compiler::codegen::cpu::Cranelift;
use autoglm_runtime::cpu::emit::Emitter;
use autoglm_runtime::elem::ElemType::F32;
use autoglm_runtime::tile::native::CodeCache;
use autoglm_runtime::tile::testing::{Case, plain};
use autoglm_runtime::tile::{
    BinaryOp, ConcreteAccess, Instr, Lane, LaneId, Reduce, ReduceOp, TileIsa, TileProgram, UnaryOp,
};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Builds bodies by naming operands.
#[derive(Default)]
struct Body(Vec<Instr>);

impl Body {
    fn push(&mut self, instr: Instr) -> LaneId {
        self.0.push(instr);
        (self.0.len() - 1) as LaneId
    }

    fn load(&mut self, arg: u16) -> LaneId {
        self.push(Instr::Load { arg })
    }

    fn constant(&mut self, x: f32) -> LaneId {
        self.push(Instr::Const { lane: Lane::F32, bits: u64::from(x.to_bits()) })
    }

    fn unary(&mut self, op: UnaryOp, a: LaneId) -> LaneId {
        self.push(Instr::Unary(op, a))
    }

    fn binary(&mut self, op: BinaryOp, a: LaneId, b: LaneId) -> LaneId {
        self.push(Instr::Binary(op, a, b))
    }

    fn map(mut self, src: LaneId) -> TileProgram {
        self.push(Instr::Store { out: 0, src });
        TileProgram { body: self.0, ..TileProgram::default() }
    }
}

fn add_relu() -> TileProgram {
    let mut b = Body::default();
    let (x, y, zero) = (b.load(0), b.load(1), b.constant(0.0));
    let sum = b.binary(BinaryOp::Add, x, y);
    let result = b.binary(BinaryOp::Max, sum, zero);
    b.map(result)
}

/// Scale, shift, clip and gate: a chain of cheap operations.
fn chain() -> TileProgram {
    let mut b = Body::default();
    let (x, y) = (b.load(0), b.load(1));
    let (scale, shift, low, high) = (b.constant(0.17), b.constant(0.5), b.constant(0.0), b.constant(1.0));
    let scaled = b.binary(BinaryOp::Mul, x, scale);
    let shifted = b.binary(BinaryOp::Add, scaled, shift);
    let raised = b.binary(BinaryOp::Max, shifted, low);
    let gate = b.binary(BinaryOp::Min, raised, high);
    let gated = b.binary(BinaryOp::Mul, x, gate);
    let sum = b.binary(BinaryOp::Add, gated, y);
    b.map(sum)
}

fn exp() -> TileProgram {
    let mut b = Body::default();
    let x = b.load(0);
    let e = b.unary(UnaryOp::Exp, x);
    b.map(e)
}

fn gelu_erf() -> TileProgram {
    let mut b = Body::default();
    let (x, root, one, half) =
        (b.load(0), b.constant(std::f32::consts::FRAC_1_SQRT_2), b.constant(1.0), b.constant(0.5));
    let scaled = b.binary(BinaryOp::Mul, x, root);
    let erf = b.unary(UnaryOp::Erf, scaled);
    let sum = b.binary(BinaryOp::Add, erf, one);
    let product = b.binary(BinaryOp::Mul, x, sum);
    let result = b.binary(BinaryOp::Mul, product, half);
    b.map(result)
}

fn gelu_tanh() -> TileProgram {
    let mut b = Body::default();
    let (x, cubic, root) = (b.load(0), b.constant(0.044_715), b.constant(0.797_884_6));
    let (one, half) = (b.constant(1.0), b.constant(0.5));
    let square = b.binary(BinaryOp::Mul, x, x);
    let cube = b.binary(BinaryOp::Mul, square, x);
    let term = b.binary(BinaryOp::Mul, cube, cubic);
    let sum = b.binary(BinaryOp::Add, x, term);
    let inner = b.binary(BinaryOp::Mul, sum, root);
    let tanh = b.unary(UnaryOp::Tanh, inner);
    let sum = b.binary(BinaryOp::Add, tanh, one);
    let product = b.binary(BinaryOp::Mul, x, sum);
    let result = b.binary(BinaryOp::Mul, product, half);
    b.map(result)
}

fn sum() -> TileProgram {
    TileProgram {
        body: vec![Instr::Load { arg: 0 }],
        reduce_rank: 1,
        reduces: vec![Reduce { op: ReduceOp::Sum, src: 0 }],
        epilogue: vec![Instr::Store { out: 0, src: 0 }],
    }
}

type Plain = fn(&[f32], &[f32], &mut [f32]);

/// Name, program, extents, strides of reads and of the write, and the same in Rust.
struct Bench {
    name: &'static str,
    program: TileProgram,
    dims: Vec<i64>,
    reads: Vec<Vec<i64>>,
    write: Vec<i64>,
    plain: Option<Plain>,
}

fn benches() -> Vec<Bench> {
    let flat = |name, program: fn() -> TileProgram, n: i64, plain: Option<Plain>| Bench {
        name,
        program: program(),
        dims: vec![n],
        reads: vec![vec![1], vec![1]],
        write: vec![1],
        plain,
    };
    let mut all = Vec::new();
    for n in [1 << 10, 1 << 14, 1 << 20] {
        all.push(flat("add+relu", add_relu, n, Some(plain::sums)));
        all.push(flat("chain of 6", chain, n, Some(plain::chains)));
        all.push(flat("exp", exp, n, Some(plain::exps)));
        all.push(flat("gelu (erf)", gelu_erf, n, Some(plain::gelus_erf)));
        all.push(flat("gelu (tanh)", gelu_tanh, n, Some(plain::gelus_tanh)));
    }
    // Far more than any cache: what remains is the speed of memory.
    all.push(flat("add+relu", add_relu, 1 << 23, Some(plain::sums)));
    all.push(flat("chain of 6", chain, 1 << 23, Some(plain::chains)));
    for cols in [16, 48, 768] {
        let rows = (1 << 16) / cols;
        let name = match cols {
            16 => "bias+relu, 16 wide",
            48 => "bias+relu, 48 wide",
            _ => "bias+relu, 768 wide",
        };
        let (dims, reads) = (vec![rows, cols], vec![vec![cols, 1], vec![0, 1]]);
        all.push(Bench { name, program: add_relu(), dims, reads, write: vec![cols, 1], plain: None });
        let (dims, reads) = (vec![rows, cols], vec![vec![cols, 1], vec![0, 0]]);
        let name = match cols {
            16 => "row sum, 16 wide",
            48 => "row sum, 48 wide",
            _ => "row sum, 768 wide",
        };
        all.push(Bench { name, program: sum(), dims, reads, write: vec![1], plain: None });
    }
    all
}

/// Least nanoseconds an element of several measurements.
fn least(points: i64, mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let repeats = (1 << 20) / points.max(1) + 1;
    let mut best = f64::INFINITY;
    for _ in 0..30 {
        let start = Instant::now();
        for _ in 0..repeats {
            run()?;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (repeats * points) as f64);
    }
    Ok(best)
}

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 97) as f32 / 20.0 - 2.4).collect()
}

fn measure(bench: &Bench, codes: &[CodeCache]) -> Result<(), Box<dyn Error>> {
    let points: i64 = bench.dims.iter().product();
    let len = points as usize;
    let access = |strides: &Vec<i64>| ConcreteAccess { elem: F32, offset: 0, strides: strides.clone() };
    let bytes = || floats(len).into_iter().flat_map(f32::to_ne_bytes).collect::<Vec<u8>>();
    let case = Case {
        program: bench.program.clone(),
        dims: bench.dims.clone(),
        reads: bench.reads.iter().map(access).collect(),
        inputs: bench.reads.iter().map(|_| bytes()).collect(),
        writes: vec![access(&bench.write)],
        outputs: vec![vec![0; 4 * len]],
    };
    print!("{:20} {points:8}", bench.name);
    for isa in [TileIsa::Avx2, TileIsa::Avx512] {
        if isa.is_supported() {
            let mut bound = case.bind(isa, None)?;
            print!("  {:5.3}", least(points, || Ok(bound.run()?))?);
        }
    }
    let mut times = Vec::new();
    for code in codes {
        let start = Instant::now();
        match case.bind(TileIsa::detect(), Some(code)) {
            Ok(mut bound) => {
                times.push(start.elapsed().as_secs_f64() * 1e6);
                print!("  {:5.3}", least(points, || Ok(bound.run()?))?);
            }
            Err(_) => print!("      -"),
        }
    }
    if let Some(plain) = bench.plain {
        let (a, b, mut y) = (floats(len), floats(len), vec![0.0; len]);
        print!(
            "  {:5.3}",
            least(points, || {
                plain(&a, &b, &mut y);
                Ok(())
            })?
        );
    } else {
        print!("      -");
    }
    times.iter().for_each(|time| print!("  {time:6.1} us"));
    println!();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "ns an element: interpreted with AVX2 and AVX-512, emitted, Cranelift, plain Rust with AVX2; then time to compile"
    );
    for bench in benches() {
        let emitted = CodeCache::eager(Arc::new(Emitter));
        let compiled = CodeCache::eager(Arc::new(Cranelift::for_every_loop()?));
        measure(&bench, &[emitted, compiled])?;
    }
    Ok(())
}
