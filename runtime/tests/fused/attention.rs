//! Attention against the products, the softmax and the loop that it replaces.

use super::{Build, Random, dense, isas, one_of};
use autoglm_runtime::cpu::Isa;
use autoglm_runtime::program::{Access, StepKind, ValueId};
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, TileProgram};

/// Sizes of a test, with queries, keys and values out of one buffer `[batch, length, heads + 2 kv_heads, columns]`.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    length: usize,
    columns: usize,
}

impl Shape {
    fn line(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.columns
    }

    /// The access of the heads from `first` on.
    fn heads(&self, build: &mut Build, first: usize) -> Access {
        let strides = [self.length * self.line(), self.columns, self.line(), 1];
        build.access(first * self.columns, &strides)
    }

    fn out(&self) -> [usize; 4] {
        [self.batch, self.length, self.heads, self.columns]
    }

    /// Strides of the output over batch, heads, queries, columns.
    fn out_strides(&self) -> [usize; 4] {
        let [b, q, h, c] = dense(&self.out())[..] else { panic!() };
        [b, h, q, c]
    }
}

/// The buffer, a mask `[batch, 1, length, length]`, and the output.
fn operands(shape: &Shape) -> (Build, [ValueId; 3]) {
    let mut random = Random(41 + shape.length as u64);
    let mut build = Build::default();
    let x = build.floats(&mut random, shape.batch * shape.length * shape.line());
    let mask = build.floats(&mut random, shape.batch * shape.length * shape.length);
    let out = build.temp(super::count(&shape.out()));
    build.output(out);
    (build, [x, mask, out])
}

fn fused(shape: &Shape) -> Build {
    let (mut build, [x, mask, out]) = operands(shape);
    let Shape { batch, heads, kv_heads, length, columns } = *shape;
    let square = length * length;
    let kind = StepKind::Attention {
        batch: build.reg(batch),
        heads: build.reg(heads),
        kv_heads: build.reg(kv_heads),
        q_len: build.reg(length),
        kv_len: build.reg(length),
        head_dim: build.reg(columns),
        v_dim: build.reg(columns),
        scale: 0.25,
        q: shape.heads(&mut build, 0),
        k: shape.heads(&mut build, heads),
        v: shape.heads(&mut build, heads + kv_heads),
        out: build.access(0, &shape.out_strides()),
        mask: Some(build.access(0, &[square, 0, length, 1])),
        causal: None,
        fill: f32::NEG_INFINITY,
        zero_masked: false,
    };
    build.step(kind, &[x, x, x, mask], out);
    build
}

/// Product, scale and mask, softmax, product; query heads are batch dimensions of their key head.
fn apart(shape: &Shape) -> Build {
    let (mut build, [x, mask, out]) = operands(shape);
    let Shape { batch, heads, kv_heads, length, columns } = *shape;
    let group = heads / kv_heads;
    let square = length * length;
    let scores = build.temp(batch * heads * square);
    let masked = build.temp(batch * heads * square);
    let weights = build.temp(batch * heads * square);
    let (image, line) = (length * shape.line(), shape.line());
    let dims = build.regs(&[batch, kv_heads, group]);
    let [n, c] = [build.reg(length), build.reg(columns)];
    let over_scores = [heads * square, group * square, square, length, 1];
    let kind = StepKind::MatMul {
        batch: dims.clone(),
        m: n,
        k: c,
        n,
        a: build.access(0, &[image, group * columns, columns, line, 1]),
        b: build.access(heads * columns, &[image, columns, 0, 1, line]),
        b_packed: false,
        sparsity: None,
        out: build.access(0, &over_scores[..4]),
        bias: false,
        epilogue: None,
    };
    build.step(kind, &[x, x], scores);
    let quarter = Instr::Const { lane: Lane::F32, bits: u64::from(0.25f32.to_bits()) };
    let body = vec![
        Instr::Load { arg: 0 },
        quarter,
        Instr::Binary(BinaryOp::Mul, 0, 1),
        Instr::Load { arg: 1 },
        Instr::Binary(BinaryOp::Add, 2, 3),
        Instr::Store { out: 0, src: 4 },
    ];
    let tile = build.tile(TileProgram { body, ..TileProgram::default() });
    let loops = build.regs(&[batch, heads, length, length]);
    let every = build.access(0, &dense(&[batch, heads, length, length]));
    let reads = vec![every.clone(), build.access(0, &[square, 0, length, 1])];
    build.step(StepKind::Tile { tile, dims: loops, reads, writes: vec![every] }, &[scores, mask], masked);
    let rows = build.reg(batch * heads * length);
    let x_rows = build.access(0, &[length]);
    let kind = StepKind::Softmax { rows, cols: n, log: false, x: x_rows.clone(), out: x_rows };
    build.step(kind, &[masked], weights);
    let [b, h, q, _] = shape.out_strides();
    let kind = StepKind::MatMul {
        batch: dims,
        m: n,
        k: n,
        n: c,
        a: build.access(0, &over_scores),
        b: build.access((heads + kv_heads) * columns, &[image, columns, 0, line, 1]),
        b_packed: false,
        sparsity: None,
        out: build.access(0, &[b, group * h, h, q]),
        bias: false,
        epilogue: None,
    };
    build.step(kind, &[weights, x], out);
    build
}

#[test]
fn attention_is_the_steps_that_it_replaces() {
    let mut random = Random(42);
    for length in [1, 2, 17, 64, 130] {
        for (heads, kv_heads) in [(1, 1), (4, 2), (6, 1), (12, 12)] {
            let (batch, columns) = (one_of(&mut random, &[1, 2]), one_of(&mut random, &[7, 32, 64]));
            let shape = Shape { batch, heads, kv_heads, length, columns };
            for isa in isas() {
                let want = apart(&shape).run(isa, 1).unwrap();
                let one = fused(&shape).run(isa, 1).unwrap();
                for (i, (got, want)) in one[0].iter().zip(&want[0]).enumerate() {
                    let off = (got - want).abs();
                    assert!(off < 2e-5, "element {i} of {shape:?} {}: {got}, {want}", isa.name());
                }
                for threads in [2, 3] {
                    let got = fused(&shape).run(isa, threads).unwrap();
                    super::same(&got[0], &one[0], &format!("{shape:?} {threads}"));
                }
            }
        }
    }
}

#[test]
fn accesses_that_leave_their_values_or_overlap_are_refused() {
    let shape = Shape { batch: 2, heads: 4, kv_heads: 2, length: 5, columns: 8 };
    let edited = |edit: &dyn Fn(&mut Build, &mut StepKind)| {
        let mut build = fused(&shape);
        let mut kind = build.program.steps[0].kind.clone();
        edit(&mut build, &mut kind);
        build.program.steps[0].kind = kind;
        build
    };
    assert!(edited(&|_, _| ()).run(Isa::Scalar, 1).is_ok());
    fn access(kind: &mut StepKind, which: usize) -> &mut Access {
        let StepKind::Attention { q, k, v, out, mask: Some(mask), .. } = kind else { panic!() };
        [q, k, v, out, mask].into_iter().nth(which).unwrap()
    }
    for which in 0..5 {
        for number in [i64::MAX, i64::MIN, 1 << 20] {
            edited(&|build, kind| access(kind, which).offset = build.signed(number)).refusal();
            for d in 0..4 {
                edited(&|build, kind| access(kind, which).strides[d] = build.signed(number)).refusal();
            }
        }
    }
    for d in 0..4 {
        edited(&|build, kind| access(kind, 3).strides[d] = build.reg(0)).refusal();
    }
    for number in [0, -1, 3, i64::MAX] {
        edited(&|build, kind| {
            let StepKind::Attention { kv_heads, .. } = kind else { panic!() };
            *kv_heads = build.signed(number);
        })
        .refusal();
    }
    for number in [-1, i64::MAX, 1 << 40] {
        for which in 0..6 {
            edited(&|build, kind| {
                let StepKind::Attention { batch, heads, q_len, kv_len, head_dim, v_dim, .. } = kind else {
                    panic!()
                };
                *[batch, heads, q_len, kv_len, head_dim, v_dim][which] = build.signed(number);
            })
            .refusal();
        }
    }
    // Nothing to access, but scratch of any size to ask for.
    let vast = edited(&|build, kind| {
        let StepKind::Attention { kv_len, head_dim, k, q, .. } = kind else { panic!() };
        (*head_dim, *kv_len) = (build.signed(1 << 60), build.reg(5));
        (k.strides, q.strides) = (build.regs(&[0; 4]), build.regs(&[0; 4]));
    });
    assert!(vast.run(Isa::Scalar, 1).is_err());
}
