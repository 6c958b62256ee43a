//! One program a kernel.

use super::build::{Bench, Build, Outcome};
use autoglm_passes::egraph::Kernel;
use autoglm_runtime::cpu::pack::{ConvWeights, packed_conv_len, packed_gemm_len, packed_winograd_len};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::program::{StepKind, ValueId};
use autoglm_runtime::tile::{BinaryOp, Instr, Reduce, ReduceOp, TileProgram, UnaryOp};

/// Steps of the program that measures their overhead.
const STEPS: usize = 64;

/// Nanoseconds of a kernel for the extents of its axes.
pub(crate) fn nanoseconds(kernel: Kernel, at: &[usize], bench: &Bench) -> Outcome<f64> {
    let mut build = Build::default();
    match (kernel, at) {
        (Kernel::Gemm, &[m, k, n]) => gemm(&mut build, m, k, n)?,
        (Kernel::Product, &[m, k, n]) => products(&mut build, m, k, n),
        (Kernel::Conv, &[window, pixels, c, m]) => conv(&mut build, window, pixels, [c, m, 1])?,
        (Kernel::Winograd, &[pixels, c, m]) => winograd(&mut build, pixels, c, m)?,
        (Kernel::Depthwise, &[window, pixels, c]) => conv(&mut build, window, pixels, [c, c, c])?,
        (Kernel::Attention, &[queries, keys, columns]) => attention(&mut build, queries, keys, columns),
        (Kernel::LayerNorm, &[rows, cols]) => layer_norm(&mut build, rows, cols),
        (Kernel::Softmax, &[rows, cols]) => softmax(&mut build, rows, cols),
        (Kernel::Reduce, &[rows, cols]) => reduce(&mut build, rows, cols),
        // Two tensors are read and one is written.
        (Kernel::Map, &[bytes]) => sum(&mut build, bytes.div_ceil(12)),
        (Kernel::Transcendental, &[elements]) => exponential(&mut build, elements),
        (Kernel::Gather, &[rows, cols]) => gather(&mut build, rows, cols),
        (Kernel::Transpose, &[rows, cols]) => transpose(&mut build, rows, cols),
        (Kernel::Step, []) => return overhead(bench),
        _ => return Err(format!("{} of {at:?}", kernel.name()).into()),
    };
    build.fastest(bench)
}

fn gemm(build: &mut Build, m: usize, k: usize, n: usize) -> Outcome<()> {
    let len = packed_gemm_len(k, n).ok_or("the product is too large")?;
    let a = build.floats(m * k);
    build.weighted(len, |build, b| {
        let out = build.result(m * n);
        let [rows, inner, cols] = build.regs([m, k, n]);
        let kind = StepKind::MatMul {
            batch: vec![],
            m: rows,
            k: inner,
            n: cols,
            a: build.access(&[k, 1]),
            b: build.access(&[n, 1]),
            b_packed: true,
            out: build.access(&[n]),
            sparsity: None,
            bias: false,
            epilogue: None,
        };
        build.step(kind, vec![a, b], out);
    });
    Ok(())
}

/// Queries times keys, and weights of keys times values; heads lie beside each other in a row of each but the weights.
fn products(build: &mut Build, m: usize, k: usize, n: usize) {
    let heads = Kernel::HEADS;
    let (a, b) = (build.floats(heads * m * k), build.floats(heads * k * n));
    let strides = [
        ([k, heads * k, 1], [k, 1, heads * k], [m * n, n]),
        ([m * k, k, 1], [n, heads * n, 1], [n, heads * n]),
    ];
    build.several(&strides, |build, (of_a, of_b, of_out)| {
        let out = build.result(heads * m * n);
        let [batch, rows, inner, cols] = build.regs([heads, m, k, n]);
        let kind = StepKind::MatMul {
            batch: vec![batch],
            m: rows,
            k: inner,
            n: cols,
            a: build.access(of_a),
            b: build.access(of_b),
            b_packed: false,
            out: build.access(of_out),
            sparsity: None,
            bias: false,
            epilogue: None,
        };
        build.step(kind, vec![a, b], out);
    });
}

/// A square image and a square window; `channels` are those of the input and of the output, and the groups.
fn conv(build: &mut Build, window: usize, pixels: usize, [c, m, groups]: [usize; 3]) -> Outcome<()> {
    let (side, kernel) = (pixels.isqrt(), window.isqrt());
    let (w, h) = (pixels / side + kernel - 1, side + kernel - 1);
    let weights = ConvWeights { m, c: c / groups, kernel: [kernel, kernel], groups };
    let len = packed_conv_len(&weights).ok_or("the weights are too large")?;
    let out_extents = [side, pixels / side];
    let x = build.floats(h * w * c);
    build.weighted(len, |build, weight| {
        let out_len = out_extents[0] * out_extents[1] * m;
        let out = build.result(out_len);
        let kind = StepKind::Conv {
            extents: build.regs([1, h, w, c]),
            out_extents: build.regs(out_extents),
            x: build.access(&[h * w * c, w * c, c]),
            out: build.access(&[out_len, out_extents[1] * m, m]),
            kernel: build.regs([kernel, kernel]),
            stride: build.regs([1, 1]),
            dilation: build.regs([1, 1]),
            groups: build.reg(groups),
            m: build.reg(m),
            sparsity: None,
            bias: false,
            epilogue: None,
        };
        build.step(kind, vec![x, weight], out);
    });
    Ok(())
}

/// A square image.
fn winograd(build: &mut Build, pixels: usize, c: usize, m: usize) -> Outcome<()> {
    let side = pixels.isqrt();
    let (w, h) = (pixels / side + 2, side + 2);
    let len = packed_winograd_len(c, m).ok_or("the weights are too large")?;
    let x = build.floats(h * w * c);
    build.weighted(len, |build, weight| {
        let out_len = (h - 2) * (w - 2) * m;
        let out = build.result(out_len);
        let kind = StepKind::Winograd {
            extents: build.regs([1, h, w, c]),
            out_extents: build.regs([h - 2, w - 2]),
            x: build.access(&[h * w * c, w * c, c]),
            out: build.access(&[out_len, (w - 2) * m, m]),
            m: build.reg(m),
            bias: false,
            epilogue: None,
        };
        build.step(kind, vec![x, weight], out);
    });
    Ok(())
}

/// Heads lie beside each other in a row, as a product makes them.
fn attention(build: &mut Build, queries: usize, keys: usize, columns: usize) {
    let heads = Kernel::HEADS;
    let [q, k, v] = [queries, keys, keys].map(|n| build.floats(heads * n * columns));
    let out = build.result(heads * queries * columns);
    let strides = [0, columns, heads * columns, 1];
    let kind = StepKind::Attention {
        batch: build.reg(1),
        heads: build.reg(heads),
        kv_heads: build.reg(heads),
        q_len: build.reg(queries),
        kv_len: build.reg(keys),
        head_dim: build.reg(columns),
        v_dim: build.reg(columns),
        scale: 0.125,
        q: build.access(&strides),
        k: build.access(&strides),
        v: build.access(&strides),
        out: build.access(&strides),
        mask: None,
        causal: None,
        fill: f32::NEG_INFINITY,
        zero_masked: false,
    };
    build.step(kind, vec![q, k, v], out);
}

fn layer_norm(build: &mut Build, rows: usize, cols: usize) {
    let args = vec![build.floats(rows * cols), build.floats(cols), build.floats(cols)];
    let out = build.result(rows * cols);
    let [row_count, col_count] = build.regs([rows, cols]);
    let line = build.access(&[cols]);
    let kind = StepKind::LayerNorm {
        rows: row_count,
        cols: col_count,
        epsilon: 1e-5,
        bias: true,
        rms: false,
        x: line.clone(),
        out: line,
    };
    build.step(kind, args, out);
}

fn softmax(build: &mut Build, rows: usize, cols: usize) {
    let (x, out) = (build.floats(rows * cols), build.result(rows * cols));
    let [row_count, col_count] = build.regs([rows, cols]);
    let line = build.access(&[cols]);
    let kind = StepKind::Softmax { rows: row_count, cols: col_count, log: false, x: line.clone(), out: line };
    build.step(kind, vec![x], out);
}

fn map(body: Vec<Instr>) -> TileProgram {
    TileProgram { body, ..TileProgram::default() }
}

/// A loop over `dims`, whose arguments and result are read and written with these strides.
fn tile(
    build: &mut Build,
    program: TileProgram,
    dims: &[usize],
    (args, reads): (Vec<ValueId>, &[&[usize]]),
    (out, write): (ValueId, &[usize]),
) {
    build.program.tiles.push(program);
    let kind = StepKind::Tile {
        tile: build.program.tiles.len() as u32 - 1,
        dims: dims.iter().map(|d| build.reg(*d)).collect(),
        reads: reads.iter().map(|strides| build.access(strides)).collect(),
        writes: vec![build.access(write)],
    };
    build.step(kind, args, out);
}

fn reduce(build: &mut Build, rows: usize, cols: usize) {
    let (x, out) = (build.floats(rows * cols), build.result(rows));
    let program = TileProgram {
        body: vec![Instr::Load { arg: 0 }],
        reduce_rank: 1,
        reduces: vec![Reduce { op: ReduceOp::Sum, src: 0 }],
        epilogue: vec![Instr::Store { out: 0, src: 0 }],
    };
    tile(build, program, &[rows, cols], (vec![x], &[&[cols, 1]]), (out, &[1]));
}

fn sum(build: &mut Build, len: usize) {
    let (x, y, out) = (build.floats(len), build.floats(len), build.result(len));
    let program = map(vec![
        Instr::Load { arg: 0 },
        Instr::Load { arg: 1 },
        Instr::Binary(BinaryOp::Add, 0, 1),
        Instr::Store { out: 0, src: 2 },
    ]);
    tile(build, program, &[len], (vec![x, y], &[&[1], &[1]]), (out, &[1]));
}

fn exponential(build: &mut Build, len: usize) {
    let (x, out) = (build.floats(len), build.result(len));
    let program =
        map(vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Exp, 0), Instr::Store { out: 0, src: 1 }]);
    tile(build, program, &[len], (vec![x], &[&[1]]), (out, &[1]));
}

fn copy() -> TileProgram {
    map(vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }])
}

fn gather(build: &mut Build, rows: usize, cols: usize) {
    let (table, index) = (build.floats(rows * cols), build.input(ElemType::I64, rows));
    let out = build.result(rows * cols);
    let [outer, axis, inner, count] = build.regs([1, rows, cols, rows]);
    build.step(StepKind::Gather { outer, axis, inner, count }, vec![table, index], out);
}

fn transpose(build: &mut Build, rows: usize, cols: usize) {
    let (x, out) = (build.floats(rows * cols), build.result(rows * cols));
    tile(build, copy(), &[cols, rows], (vec![x], &[&[1, cols]]), (out, &[rows, 1]));
}

/// What each of many small steps adds.
fn overhead(bench: &Bench) -> Outcome<f64> {
    let steps = |count: usize| -> Outcome<f64> {
        let mut build = Build::default();
        let mut at = build.floats(16);
        for _ in 0..count {
            let out = build.result(16);
            tile(&mut build, copy(), &[16], (vec![at], &[&[1]]), (out, &[1]));
            at = out;
        }
        build.fastest(bench)
    };
    let (many, one) = (steps(STEPS)?, steps(1)?);
    Ok(((many - one) / (STEPS - 1) as f64).max(1.0))
}
