//! Matrix multiplication.

use super::{Guarded, Random, U, all_kernels, close, in_parts};
use autoglm_runtime::cpu::kernels::{
    BatchDim, Kernels, MATMUL_SCRATCH, MatB, MatMulArgs, RowView, View, matmul,
};
use autoglm_runtime::cpu::pack::{pack_gemm_b, packed_gemm_len};

/// Element `[batch.., i, j]` of an operand.
fn at(view: View, batch: isize, i: usize, j: usize) -> usize {
    let offset = view.offset.cast_signed() + batch + i.cast_signed() * view.row + j.cast_signed() * view.col;
    offset.cast_unsigned()
}

/// Offsets of all batches in A and B.
fn batches(dims: &[BatchDim]) -> Vec<(isize, isize)> {
    dims.iter().fold(vec![(0, 0)], |all, dim| {
        all.iter()
            .flat_map(|&(a, b)| (0..dim.extent.cast_signed()).map(move |i| (a + i * dim.a, b + i * dim.b)))
            .collect()
    })
}

/// The naive result and a bound on the error of each element.
fn reference(args: &MatMulArgs, a: &[f32], b: &[f32], bias: Option<&[f32]>) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for (a_batch, b_batch) in batches(args.batch) {
        for i in 0..args.m {
            for j in 0..args.n {
                let start = bias.map_or(0.0, |bias| f64::from(bias[j]));
                let (mut sum, mut size) = (start, start.abs());
                for l in 0..args.k {
                    let x = f64::from(a[at(args.a, a_batch, i, l)]);
                    let y = f64::from(b[at(args.b, b_batch, l, j)]);
                    sum += x * y;
                    size += (x * y).abs();
                }
                out.push((sum, (args.k + 2) as f64 * U * size));
            }
        }
    }
    out
}

fn compare(got: &[f32], want: &[(f64, f64)], what: &dyn Fn() -> String) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &(want, bound))) in got.iter().zip(want).enumerate() {
        close(got, want, bound, &|| format!("element {i} of {}", what()));
    }
}

/// Runs with strided B.
fn strided(kernels: &Kernels, args: &MatMulArgs, a: &[f32], b: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let len = args.footprint().unwrap().out.len();
    in_parts(len, |out, part| {
        let mut scratch = Guarded::new(&vec![f32::NAN; MATMUL_SCRATCH], part.index.is_multiple_of(2));
        let b = MatB::Strided { data: b, scratch: scratch.elements() };
        matmul(kernels, args, a, b, bias, out, part)
    })
}

/// Runs with B packed; B has no batch.
fn packed(kernels: &Kernels, args: &MatMulArgs, a: &[f32], b: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (k, n) = (args.k, args.n);
    let mut data = Guarded::new(&vec![f32::NAN; packed_gemm_len(k, n).unwrap()], k.is_multiple_of(2));
    pack_gemm_b(b, k, n, args.b.row.cast_unsigned(), args.b.col.cast_unsigned(), data.elements()).unwrap();
    let len = args.footprint().unwrap().out.len();
    in_parts(len, |out, part| matmul(kernels, args, a, MatB::Packed(&data), bias, out, part))
}

fn check(args: &MatMulArgs, a_len: usize, b_len: usize, bias: bool) {
    let mut random = Random::new((args.m * 1_000_003 + args.k * 1009 + args.n) as u64);
    let a = Guarded::new(&random.floats(a_len), args.m.is_multiple_of(2));
    let b = Guarded::new(&random.floats(b_len), args.n.is_multiple_of(2));
    let bias = bias.then(|| Guarded::new(&random.floats(args.n), args.n.is_multiple_of(2)));
    let bias = bias.as_deref();
    let want = reference(args, &a, &b, bias);
    for kernels in all_kernels() {
        let isa = kernels.isa().name();
        compare(&strided(&kernels, args, &a, &b, bias), &want, &|| format!("{isa} strided {args:?}"));
        if args.batch.iter().all(|dim| dim.b == 0) && args.b.row >= 0 && args.b.col >= 0 && args.b.offset == 0
        {
            compare(&packed(&kernels, args, &a, &b, bias), &want, &|| format!("{isa} packed {args:?}"));
        }
    }
}

fn dense(m: usize, k: usize, n: usize) -> MatMulArgs<'static> {
    MatMulArgs {
        batch: &[],
        m,
        k,
        n,
        a: View::dense(k),
        b: View::dense(n),
        out: RowView::dense(n),
        limits: None,
    }
}

#[test]
fn edge_shapes() {
    for m in (0..=8).chain([12, 13, 15, 28, 29]) {
        for n in [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64] {
            for k in [0, 1, 2, 17] {
                check(&dense(m, k, n), m * k, k * n, (m + n + k).is_multiple_of(2));
            }
        }
    }
}

#[test]
fn long_sums_are_cut_into_chunks() {
    for k in [511, 512, 513, 1024, 1030] {
        for m in [1, 3, 7, 17] {
            check(&dense(m, k, 37), m * k, k * 37, true);
        }
    }
}

#[test]
fn many_rows_are_cut_into_blocks() {
    check(&dense(211, 515, 33), 211 * 515, 515 * 33, true);
}

#[test]
fn strides_of_any_sign() {
    let (k, n) = (19_usize, 35_usize);
    for m in [1_usize, 2, 5, 14] {
        let turned = MatMulArgs {
            a: View { offset: 0, row: 1, col: m.cast_signed() },
            b: View { offset: 0, row: 1, col: k.cast_signed() },
            ..dense(m, k, n)
        };
        check(&turned, m * k, k * n, true);
        let reversed = MatMulArgs {
            a: View { offset: m * k - 1, row: -k.cast_signed(), col: -1 },
            b: View { offset: k * n - 1, row: -n.cast_signed(), col: -1 },
            ..dense(m, k, n)
        };
        check(&reversed, m * k, k * n, false);
        let upward =
            MatMulArgs { b: View { offset: (k - 1) * n, row: -n.cast_signed(), col: 1 }, ..dense(m, k, n) };
        check(&upward, m * k, k * n, false);
        let spread = MatMulArgs {
            a: View { offset: 0, row: 3 * k.cast_signed(), col: 3 },
            b: View { offset: 0, row: 2 * n.cast_signed(), col: 2 },
            ..dense(m, k, n)
        };
        check(&spread, (m * k - 1) * 3 + 1, (k * n - 1) * 2 + 1, true);
        let constant = MatMulArgs {
            a: View { offset: 0, row: 0, col: 0 },
            b: View { offset: 0, row: 0, col: 1 },
            ..dense(m, k, n)
        };
        check(&constant, 1, n, false);
    }
}

#[test]
fn batches_with_broadcasting() {
    let (m, k, n) = (5_usize, 7_usize, 34_usize);
    let (a, b, out) = ((m * k).cast_signed(), (k * n).cast_signed(), (m * n).cast_signed());
    let cases: [&[BatchDim]; 4] = [
        &[BatchDim { extent: 3, a, b, out }],
        &[BatchDim { extent: 2, a: 3 * a, b: 0, out: 3 * out }, BatchDim { extent: 3, a, b: 0, out }],
        &[BatchDim { extent: 2, a: 0, b, out: 3 * out }, BatchDim { extent: 3, a, b: 0, out }],
        &[BatchDim { extent: 2, a, b, out: 0 }, BatchDim { extent: 0, a, b, out }],
    ];
    for batch in cases {
        check(&MatMulArgs { batch, ..dense(m, k, n) }, 6 * m * k, 3 * k * n, true);
    }
}

#[test]
fn sums_have_the_same_order_on_every_row() {
    // A row's result must not depend on the height of the tile it falls into.
    let (m, k, n) = (13, 700, 40);
    let mut random = Random::new(5);
    let row = random.floats(k);
    let (a, b) = (row.repeat(m), random.floats(k * n));
    for kernels in all_kernels() {
        let out = packed(&kernels, &dense(m, k, n), &a, &b, None);
        for other in out.chunks_exact(n).skip(1) {
            assert_eq!(other, &out[..n]);
        }
    }
}
