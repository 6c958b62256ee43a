//! Products and convolutions with structured sparse weights, against sums over the stored weights as the layout's
//! description says, and against naive loops over matrices that were packed.

use super::{Guarded, Random, U, all_kernels, close, in_parts};
use autoglm_runtime::cpu::kernels::{
    BatchDim, ConvArgs, ConvB, KernelError, Kernels, MatB, MatMulArgs, Part, Pixels, RowView, SPARSE_SCRATCH,
    SparseB, View, conv, matmul,
};
use autoglm_runtime::cpu::pack::ConvWeights;
use autoglm_runtime::cpu::sparse::{SparseMatrix, pack_sparse_b, pack_sparse_conv};
use autoglm_runtime::cpu::{Isa, SharedMut};
use autoglm_runtime::program::Sparsity;

const fn panels(kept: u8, of: u8) -> Sparsity {
    Sparsity::Panels { kept, of }
}

const ALL: [Sparsity; 9] = [
    Sparsity::Columns,
    panels(2, 4),
    panels(1, 2),
    panels(2, 2),
    panels(1, 4),
    panels(3, 4),
    panels(5, 8),
    panels(3, 16),
    panels(16, 16),
];

/// `(kept, of, bits, columns that share)` as the documentation of the layout gives them.
fn parameters(sparsity: Sparsity) -> (usize, usize, usize, usize) {
    match sparsity {
        Sparsity::Columns => (2, 4, 2, 1),
        Sparsity::Scattered => panic!("not in groups of rows"),
        Sparsity::Panels { kept, of } => {
            let bits = match of {
                2 => 1,
                4 => 2,
                8 => 3,
                _ => 4,
            };
            (kept.into(), of.into(), bits, 32)
        }
    }
}

/// Stored weights and codes between guard pages.
struct Weights {
    matrix: SparseMatrix,
    values: Guarded,
    codes: Guarded,
}

impl Weights {
    fn new(matrix: SparseMatrix, values: &[f32], codes: &[u32]) -> Self {
        let words: Vec<f32> = codes.iter().map(|&word| f32::from_bits(word)).collect();
        let at_end = matrix.n.is_multiple_of(2);
        Self { matrix, values: Guarded::new(values, at_end), codes: Guarded::new(&words, at_end) }
    }

    /// Any weights with any codes: no bit pattern is invalid.
    fn random(random: &mut Random, matrix: SparseMatrix) -> Self {
        let values = random.floats(matrix.values_len().unwrap());
        let codes = (0..matrix.codes_len().unwrap()).map(|_| (random.next() << 16 ^ random.next()) as u32);
        Self::new(matrix, &values, &codes.collect::<Vec<_>>())
    }

    fn words(&self) -> &[u32] {
        // SAFETY: every bit pattern is a word, of the same size and alignment.
        unsafe { self.codes.align_to::<u32>() }.1
    }

    fn operand<'a>(&'a self, scratch: &'a mut Guarded) -> SparseB<'a> {
        let (values, codes) = (&*self.values, self.words());
        SparseB { sparsity: self.matrix.sparsity, values, codes, scratch: scratch.elements() }
    }

    /// Row within its run and weight of every stored row that column `col` of matrix 0, run 0 meets.
    fn column(&self, col: usize) -> Vec<(usize, f32)> {
        let (kept, of, bits, share) = parameters(self.matrix.sparsity);
        let rows = self.matrix.depth.div_ceil(of) * kept;
        let words = rows.div_ceil(32 / bits);
        (0..rows)
            .map(|row| {
                let word = (col / 32 * words + row / (32 / bits)) * (32 / share) + col % 32 / share;
                let code = self.words()[word] as usize >> (row % (32 / bits) * bits) & ((1 << bits) - 1);
                (row / kept * of + code, self.values[(col / 32 * rows + row) * 32 + col % 32])
            })
            .collect()
    }
}

fn scratch(part: Part) -> Guarded {
    Guarded::new(&vec![f32::NAN; SPARSE_SCRATCH], part.index.is_multiple_of(2))
}

fn run(kernels: &Kernels, args: &MatMulArgs, a: &[f32], b: &Weights, bias: Option<&[f32]>) -> Vec<f32> {
    let len = args.footprint().unwrap().out.len();
    in_parts(len, |out, part| {
        let mut scratch = scratch(part);
        matmul(kernels, args, a, MatB::Sparse(b.operand(&mut scratch)), bias, out, part)
    })
}

/// Checks a product whose elements of A for batch `b` start at `starts[b]`.
fn check(args: &MatMulArgs, sparsity: Sparsity, a_len: usize, starts: &[usize], bias: bool) {
    let mut random = Random::new((args.m * 1_000_003 + args.k * 1009 + args.n) as u64);
    let a = Guarded::new(&random.floats(a_len), args.m.is_multiple_of(2));
    let bias = bias.then(|| Guarded::new(&random.floats(args.n), args.n.is_multiple_of(2)));
    let bias = bias.as_deref();
    let b = Weights::random(&mut random, SparseMatrix::product(sparsity, args.k, args.n));
    let columns: Vec<_> = (0..args.n).map(|j| b.column(j)).collect();
    let mut want = Vec::new();
    for start in starts {
        for i in 0..args.m {
            for (j, column) in columns.iter().enumerate() {
                let first = bias.map_or(0.0, |bias| f64::from(bias[j]));
                let (mut sum, mut size) = (first, first.abs());
                for &(k, weight) in column.iter().filter(|(k, _)| *k < args.k) {
                    let at =
                        start.cast_signed() + i.cast_signed() * args.a.row + k.cast_signed() * args.a.col;
                    let term = f64::from(a[at.cast_unsigned()]) * f64::from(weight);
                    sum += term;
                    size += term.abs();
                }
                want.push((sum, (args.k + 18) as f64 * U * size));
            }
        }
    }
    for kernels in all_kernels() {
        let got = run(&kernels, args, &a, &b, bias);
        assert_eq!(got.len(), want.len());
        for (i, (&got, &(want, bound))) in got.iter().zip(&want).enumerate() {
            let what = || format!("element {i} of {} {sparsity:?} {args:?}", kernels.isa().name());
            close(got, want, bound, &what);
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
    for m in (0..=9).chain([13, 15, 29]) {
        for n in [0, 1, 17, 32, 33, 64] {
            for k in [0, 3, 18, 33] {
                for sparsity in [Sparsity::Columns, panels(2, 4)] {
                    check(&dense(m, k, n), sparsity, m * k, &[0], (m + n + k).is_multiple_of(2));
                }
            }
        }
    }
}

#[test]
fn every_pattern() {
    for sparsity in ALL {
        for (m, k, n) in [(1, 45, 33), (2, 64, 40), (3, 31, 64), (4, 7, 5), (7, 77, 70), (20, 128, 32)] {
            check(&dense(m, k, n), sparsity, m * k, &[0], true);
        }
    }
}

#[test]
fn long_sums_are_cut_into_chunks() {
    for sparsity in [Sparsity::Columns, panels(2, 4), panels(5, 8)] {
        for (m, k) in [(5, 767), (5, 769), (9, 1537), (14, 2400), (1, 8191), (2, 8200), (4, 16400), (3, 8192)]
        {
            check(&dense(m, k, 37), sparsity, m * k, &[0], true);
        }
    }
}

#[test]
fn many_rows_are_cut_into_blocks() {
    for sparsity in [Sparsity::Columns, panels(2, 4)] {
        check(&dense(211, 801, 33), sparsity, 211 * 801, &[0], true);
    }
}

#[test]
fn strides_of_any_sign() {
    let (m, k, n) = (9_usize, 19_usize, 35_usize);
    for sparsity in [Sparsity::Columns, panels(2, 4)] {
        for m in [m, 3] {
            let turned = MatMulArgs { a: View { offset: 0, row: 1, col: m.cast_signed() }, ..dense(m, k, n) };
            check(&turned, sparsity, m * k, &[0], true);
            let a = View { offset: m * k - 1, row: -k.cast_signed(), col: -1 };
            check(&MatMulArgs { a, ..dense(m, k, n) }, sparsity, m * k, &[m * k - 1], false);
            let a = View { offset: 0, row: 0, col: 0 };
            check(&MatMulArgs { a, ..dense(m, k, n) }, sparsity, 1, &[0], false);
        }
    }
}

#[test]
fn batches_share_the_weights() {
    let (m, k, n) = (5_usize, 7_usize, 34_usize);
    let (a, out) = ((m * k).cast_signed(), (m * n).cast_signed());
    for sparsity in [Sparsity::Columns, panels(2, 4)] {
        let batch = [BatchDim { extent: 3, a, b: 1 << 40, out }];
        check(&MatMulArgs { batch: &batch, ..dense(m, k, n) }, sparsity, 3 * m * k, &[0, 35, 70], true);
        let batch = [BatchDim { extent: 2, a: 0, b: 7, out }];
        check(&MatMulArgs { batch: &batch, ..dense(m, k, n) }, sparsity, m * k, &[0, 0], true);
    }
}

#[test]
fn sums_have_the_same_order_on_every_row() {
    let (m, k, n) = (13, 1700, 40);
    let mut random = Random::new(5);
    let a = random.floats(k).repeat(m);
    for sparsity in [Sparsity::Columns, panels(2, 4)] {
        let b = Weights::random(&mut random, SparseMatrix::product(sparsity, k, n));
        for kernels in all_kernels() {
            let first = run(&kernels, &dense(1, k, n), &a[..k], &b, None);
            for rows in [2, 3, 5, m] {
                let out = run(&kernels, &dense(rows, k, n), &a[..rows * k], &b, None);
                out.chunks_exact(n).for_each(|row| assert_eq!(row, first));
            }
        }
    }
}

/// Zeroes a matrix so that the pattern holds it, what is kept being chosen at random.
fn prune(random: &mut Random, w: &mut [f32], k: usize, n: usize, sparsity: Sparsity) {
    let (kept, of, _, share) = parameters(sparsity);
    for first_row in (0..k).step_by(of) {
        for first_col in (0..n).step_by(share) {
            let mut order: Vec<usize> = (0..of).collect();
            (0..of).for_each(|i| order.swap(i, random.next() as usize % of));
            for &i in order[kept..].iter().filter(|i| first_row + **i < k) {
                let row = &mut w[(first_row + i) * n..][..n];
                row[first_col..n.min(first_col + share)].fill(0.0);
            }
        }
    }
}

#[test]
fn packed_matrices_are_what_they_were() {
    let mut random = Random::new(8);
    for sparsity in ALL {
        for (m, k, n) in [(3, 4, 32), (1, 43, 70), (9, 130, 33)] {
            let mut w = random.floats(k * n);
            prune(&mut random, &mut w, k, n, sparsity);
            let matrix = SparseMatrix::product(sparsity, k, n);
            let (mut values, mut codes) =
                (vec![f32::NAN; matrix.values_len().unwrap()], vec![u32::MAX; matrix.codes_len().unwrap()]);
            pack_sparse_b(&w, &matrix, [n, 1], &mut values, &mut codes).unwrap();
            let turned: Vec<f32> = (0..k * n).map(|i| w[i % k * n + i / k]).collect();
            let (mut values2, mut codes2) = (values.clone(), codes.clone());
            pack_sparse_b(&turned, &matrix, [1, k], &mut values2, &mut codes2).unwrap();
            assert_eq!((&values, &codes), (&values2, &codes2));
            let b = Weights::new(matrix, &values, &codes);
            for j in 0..n {
                let rows: Vec<usize> = b.column(j).iter().map(|(k, _)| *k).collect();
                assert!(rows.is_sorted_by(|a, b| a < b), "codes ascend in every group: {rows:?}");
            }
            let a = random.floats(m * k);
            for kernels in all_kernels() {
                let got = run(&kernels, &dense(m, k, n), &a, &b, None);
                for (at, &got) in got.iter().enumerate() {
                    let terms = (0..k).map(|l| f64::from(a[at / n * k + l]) * f64::from(w[l * n + at % n]));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                    close(got, sum, (k + 2) as f64 * U * size, &|| format!("{sparsity:?} {m}x{k}x{n} {at}"));
                }
            }
        }
    }
}

#[test]
fn weights_that_are_not_stored_multiply_nothing() {
    let (k, n) = (11, 40);
    for sparsity in [Sparsity::Columns, panels(2, 4), panels(1, 4)] {
        for m in [1, 2, 6, 17] {
            // Rows 1 and 3 of every group are stored; the last group has only rows 0 to 2.
            let w: Vec<f32> = (0..k * n).map(|i| if i / n % 4 == 1 { -2.0 } else { 0.0 }).collect();
            let matrix = SparseMatrix::product(sparsity, k, n);
            let (mut values, mut codes) =
                (vec![0.0; matrix.values_len().unwrap()], vec![0; matrix.codes_len().unwrap()]);
            pack_sparse_b(&w, &matrix, [n, 1], &mut values, &mut codes).unwrap();
            let b = Weights::new(matrix, &values, &codes);
            let (kept, ..) = parameters(sparsity);
            // With two rows stored the packer takes row 0 beside row 1.
            let free = move |row: usize| row % 4 > 1 || kept == 1 && row.is_multiple_of(4);
            let a: Vec<f32> = (0..m * k)
                .map(|i| match (free(i % k), i % 3) {
                    (true, 0) => f32::NAN,
                    (true, 1) => f32::INFINITY,
                    (true, _) => f32::NEG_INFINITY,
                    _ => -0.0,
                })
                .collect();
            for kernels in all_kernels() {
                let out = run(&kernels, &dense(m, k, n), &a, &b, None);
                assert!(out.iter().all(|x| x.to_bits() == 0), "{sparsity:?} {m} {}", kernels.isa().name());
                let mut met = a.clone();
                met[1] = f32::INFINITY;
                let out = run(&kernels, &dense(m, k, n), &met, &b, None);
                assert!(
                    out[..n].iter().all(|x| *x == f32::NEG_INFINITY) && out[n..].iter().all(|x| *x == 0.0)
                );
            }
        }
    }
}

fn check_conv(args: &ConvArgs, sparsity: Sparsity, bias: bool) {
    let x_view = Pixels::dense(args.in_size, args.channels);
    let args = &ConvArgs { x: x_view, out: Pixels::dense(args.out_size().unwrap(), args.m), ..*args };
    let ([height, width], [kh, kw]) = (args.out_size().unwrap(), args.kernel);
    let (shape, foot) = (args.weights(), args.footprint().unwrap());
    let (c, per_group, taps) = (shape.c, args.m / args.groups, kh * kw);
    let mut random = Random::new((args.channels * 31 + args.m) as u64);
    let x = Guarded::new(&random.floats(foot.x.len()), args.m.is_multiple_of(2));
    let bias = bias.then(|| random.floats(args.m));
    // Pruned over the input channels of each tap, then put into ONNX order.
    let mut w = vec![0.0; args.m * c * taps];
    for group in 0..args.groups {
        for tap in 0..taps {
            let mut slice = random.floats(c * per_group);
            prune(&mut random, &mut slice, c, per_group, sparsity);
            for (i, &weight) in slice.iter().enumerate() {
                let (channel, o) = (i / per_group, group * per_group + i % per_group);
                w[(o * c + channel) * taps + tap] = weight;
            }
        }
    }
    let matrix = SparseMatrix::conv(sparsity, &shape).unwrap();
    let (mut values, mut codes) =
        (vec![f32::NAN; matrix.values_len().unwrap()], vec![0; matrix.codes_len().unwrap()]);
    pack_sparse_conv(&w, &shape, sparsity, &mut values, &mut codes).unwrap();
    let b = Weights::new(matrix, &values, &codes);
    for kernels in all_kernels() {
        let got = in_parts(foot.out.len(), |out, part| {
            let mut scratch = scratch(part);
            conv(&kernels, args, &x, ConvB::Sparse(b.operand(&mut scratch)), bias.as_deref(), out, part)
        });
        for (at, &got) in got.iter().enumerate() {
            let (pixel, o) = (at / args.m, at % args.m);
            let (image, oy, ox) = (pixel / (height * width), pixel / width % height, pixel % width);
            let first = bias.as_ref().map_or(0.0, |bias| f64::from(bias[o]));
            let (mut sum, mut size) = (first, first.abs());
            for i in 0..c * taps {
                let (channel, ky, kx) = (i / taps, i / kw % kh, i % kw);
                let y = oy * args.stride[0] + ky * args.dilation[0];
                let line = (image * args.in_size[0] + y) * args.in_size[1]
                    + ox * args.stride[1]
                    + kx * args.dilation[1];
                let element = x[line * args.channels + o / per_group * c + channel];
                let term = f64::from(element) * f64::from(w[o * c * taps + i]);
                (sum, size) = (sum + term, size + term.abs());
            }
            let what = || format!("element {at} of {} {sparsity:?} {args:?}", kernels.isa().name());
            close(got, sum, (c * taps + 2) as f64 * U * size, &what);
        }
    }
}

const BASE: ConvArgs = ConvArgs {
    batch: 2,
    in_size: [5, 6],
    channels: 10,
    m: 7,
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    groups: 1,
    x: Pixels { offset: 0, steps: [0; 3] },
    out: Pixels { offset: 0, steps: [0; 3] },
    limits: None,
};

#[test]
fn convolutions() {
    for sparsity in [Sparsity::Columns, panels(2, 4), panels(5, 8)] {
        check_conv(&BASE, sparsity, true);
        check_conv(&ConvArgs { kernel: [1, 1], m: 40, ..BASE }, sparsity, false);
        check_conv(&ConvArgs { stride: [2, 1], dilation: [1, 2], ..BASE }, sparsity, true);
        check_conv(&ConvArgs { channels: 6, m: 70, groups: 2, ..BASE }, sparsity, true);
        check_conv(&ConvArgs { channels: 0, ..BASE }, sparsity, true);
        check_conv(&ConvArgs { channels: 130, m: 33, ..BASE }, sparsity, false);
        check_conv(&ConvArgs { in_size: [3, 3], batch: 1, channels: 1100, ..BASE }, sparsity, true);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut random = Random::new(3);
    let b = Weights::random(&mut random, SparseMatrix::product(Sparsity::Columns, 8, 6));
    for kernels in all_kernels() {
        let run = |args: &MatMulArgs, sparsity, a: usize, values: usize, codes: usize, scratch: usize| {
            let (a, mut out, mut scratch) = (vec![0.0; a], vec![0.0; 24], vec![0.0; scratch]);
            let (values, codes, scratch) = (&b.values[..values], &b.words()[..codes], scratch.as_mut_slice());
            let b = MatB::Sparse(SparseB { sparsity, values, codes, scratch });
            matmul(&kernels, args, &a, b, None, &SharedMut::new(&mut out), Part::WHOLE)
        };
        let args = dense(4, 8, 6);
        assert_eq!(run(&args, Sparsity::Columns, 32, 128, 32, SPARSE_SCRATCH), Ok(()));
        assert_eq!(run(&args, panels(2, 4), 32, 128, 1, SPARSE_SCRATCH), Ok(()));
        for (a, values, codes, less) in
            [(31, 128, 32, 0), (32, 127, 32, 0), (32, 128, 31, 0), (32, 128, 32, 1)]
        {
            let refused = run(&args, Sparsity::Columns, a, values, codes, SPARSE_SCRATCH - less);
            assert!(matches!(refused, Err(KernelError::Footprint { .. })));
        }
        assert!(run(&args, panels(2, 4), 32, 128, 0, SPARSE_SCRATCH).is_err());
        for sparsity in [panels(0, 4), panels(5, 4), panels(1, 3), panels(1, 255)] {
            assert!(matches!(run(&args, sparsity, 32, 128, 32, SPARSE_SCRATCH), Err(KernelError::Args(_))));
        }
        for huge in [usize::MAX, usize::MAX / 2, 1 << 40, 1 << 32] {
            for args in [dense(huge, 8, 6), dense(4, huge, 6), dense(4, 8, huge)] {
                assert!(run(&args, Sparsity::Columns, 32, 128, 32, SPARSE_SCRATCH).is_err());
            }
        }
        let depthwise = ConvArgs { channels: 8, m: 8, groups: 8, ..BASE };
        let mut scratch = vec![0.0; SPARSE_SCRATCH];
        let w = ConvB::Sparse(SparseB {
            sparsity: Sparsity::Columns,
            values: &b.values,
            codes: b.words(),
            scratch: &mut scratch,
        });
        let mut out = vec![0.0; 1000];
        let refused =
            conv(&kernels, &depthwise, &[0.0; 1000], w, None, &SharedMut::new(&mut out), Part::WHOLE);
        assert!(matches!(refused, Err(KernelError::Args(_))), "{refused:?}");
    }
    let shape = ConvWeights { m: 4, c: 8, kernel: [1, 1], groups: 1 };
    let mut values = vec![0.0; 128];
    let refused = pack_sparse_conv(&[1.0; 32], &shape, Sparsity::Columns, &mut values, &mut [0; 32]);
    assert!(matches!(refused, Err(KernelError::Args(_))), "{refused:?}");
    assert!(all_kernels().iter().any(|kernels| kernels.isa() == Isa::Scalar));
}
