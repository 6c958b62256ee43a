//! Matrix multiplication with matrices chosen by index.

use super::{Guarded, Random, U, all_kernels, close, in_parts};
use autoglm_runtime::cpu::SharedMut;
use autoglm_runtime::cpu::kernels::{
    BatchDim, GatherMatMulArgs, KernelError, Kernels, MATMUL_SCRATCH, MatMulArgs, Part, RowView, Stack, View,
    gather_matmul,
};
use autoglm_runtime::cpu::pack::{pack_gemm_b, packed_gemm_len};

/// Dense operands: x [batch, m, k], or one for all `slots` of a batch element; matrices [matrices, k, n].
struct Problem {
    batch: [BatchDim; 2],
    m: usize,
    k: usize,
    n: usize,
    matrices: usize,
}

impl Problem {
    fn new([tokens, slots]: [usize; 2], [m, k, n]: [usize; 3], matrices: usize) -> Problem {
        let dim = |extent, a: usize, out: usize| BatchDim {
            extent,
            a: a.cast_signed(),
            b: 0,
            out: out.cast_signed(),
        };
        Problem { batch: [dim(tokens, m * k, slots * m * n), dim(slots, 0, m * n)], m, k, n, matrices }
    }

    fn args(&self) -> GatherMatMulArgs<'_> {
        let Problem { m, k, n, .. } = *self;
        let (a, b, out) = (View::dense(k), View::dense(n), RowView::dense(n));
        let product = MatMulArgs { batch: &self.batch, m, k, n, a, b, out, limits: None };
        GatherMatMulArgs { product, matrices: self.matrices, step: (k * n).cast_signed() }
    }

    /// The naive result and a bound on the error of each element.
    fn reference(&self, a: &[f32], b: &[f32], choice: &[usize]) -> Vec<(f64, f64)> {
        let Problem { m, k, n, .. } = *self;
        let mut out = Vec::new();
        for (index, matrix) in choice.iter().enumerate() {
            for i in 0..m {
                for j in 0..n {
                    let terms = (0..k).map(|l| {
                        let token = index / self.batch[1].extent;
                        f64::from(a[(token * m + i) * k + l]) * f64::from(b[(matrix * k + l) * n + j])
                    });
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    out.push((sum, (k + 2) as f64 * U * size));
                }
            }
        }
        out
    }

    fn packed(&self, b: &[f32]) -> Guarded {
        let Problem { k, n, .. } = *self;
        let len = packed_gemm_len(k, n).unwrap();
        let mut all = vec![f32::NAN; len * self.matrices];
        for (i, packed) in all.chunks_exact_mut(len.max(1)).enumerate() {
            pack_gemm_b(&b[i * k * n..(i + 1) * k * n], k, n, n, 1, packed).unwrap();
        }
        Guarded::new(&all, k.is_multiple_of(2))
    }

    fn run(&self, kernels: &Kernels, a: &[f32], b: Result<&[f32], &[f32]>, choice: &[usize]) -> Vec<f32> {
        let args = self.args();
        let foot = args.footprint().unwrap();
        in_parts(foot.out.len(), |out, part| {
            let mut scratch = Guarded::new(&vec![f32::NAN; MATMUL_SCRATCH], part.index.is_multiple_of(2));
            let b = match b {
                Ok(packed) => Stack::Packed(packed),
                Err(data) => Stack::Strided { data, scratch: scratch.elements() },
            };
            gather_matmul(kernels, &args, (a, b), choice, &mut vec![-1; foot.lists], out, part)
        })
    }

    fn check(&self) {
        let Problem { m, k, n, matrices, .. } = *self;
        let (tokens, slots) = (self.batch[0].extent, self.batch[1].extent);
        let mut random = Random::new((tokens * 1009 + k * 31 + n) as u64);
        let a = Guarded::new(&random.floats(tokens * m * k), true);
        let b = Guarded::new(&random.floats(matrices * k * n), n.is_multiple_of(2));
        let packed = self.packed(&b);
        // Matrix 1 is never chosen where there are others.
        let pick = |random: &mut Random| match random.next() as usize % matrices {
            1 => 0,
            other => other,
        };
        let choice: Vec<usize> = (0..tokens * slots).map(|_| pick(&mut random)).collect();
        let want = self.reference(&a, &b, &choice);
        for kernels in all_kernels() {
            for b in [Ok(&*packed), Err(&*b)] {
                let got = self.run(&kernels, &a, b, &choice);
                assert_eq!(got.len(), want.len());
                for (i, (&got, &(want, bound))) in got.iter().zip(&want).enumerate() {
                    let what = || format!("{} {:?} element {i}", kernels.isa().name(), self.args());
                    close(got, want, bound, &what);
                }
            }
        }
    }
}

#[test]
fn every_row_meets_its_matrix() {
    for tokens in [1, 2, 7, 31] {
        for slots in [1, 2, 4] {
            for (k, n) in [(1, 1), (17, 31), (8, 32), (33, 70), (0, 5)] {
                Problem::new([tokens, slots], [1, k, n], 8).check();
            }
        }
    }
    Problem::new([3, 2], [5, 9, 40], 4).check();
    Problem::new([2, 2], [3, 5, 7], 1).check();
}

#[test]
fn long_sums_and_many_rows_are_cut() {
    Problem::new([150, 2], [1, 515, 33], 4).check();
    // Rows of A at multiples of 4 KiB.
    Problem::new([40, 1], [1, 1024, 64], 2).check();
}

#[test]
fn nothing_is_done_without_rows_or_columns() {
    for (tokens, n) in [(0, 4), (3, 0)] {
        let problem = Problem::new([tokens, 2], [1, 4, n], 0);
        let foot = problem.args().footprint().unwrap();
        assert_eq!((foot.out, foot.choice, foot.lists), (0..0, 0, 0));
        for kernels in all_kernels() {
            assert!(problem.run(&kernels, &[], Ok(&[]), &[]).is_empty());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let problem = Problem::new([2, 2], [1, 4, 6], 3);
    let args = problem.args();
    let run = |args: &GatherMatMulArgs<'_>, lens: [usize; 4], choice: &[usize]| {
        let [a, b, lists, out] = lens;
        let (a, b, mut lists, mut out) = (vec![0.0; a], vec![0.0; b], vec![0; lists], vec![0.0; out]);
        let (mut scratch, out) = (vec![0.0; MATMUL_SCRATCH], SharedMut::new(&mut out));
        let kernels = &all_kernels()[0];
        let stack = Stack::Strided { data: &b, scratch: &mut scratch };
        gather_matmul(kernels, args, (&a, stack), choice, &mut lists, &out, Part::WHOLE)
    };
    let fits = [8, 72, 11, 24];
    assert_eq!(run(&args, fits, &[0, 1, 2, 2]), Ok(()));
    for short in 0..4 {
        let mut lens = fits;
        lens[short] -= 1;
        assert!(matches!(run(&args, lens, &[0, 1, 2, 2]), Err(KernelError::Footprint { .. })), "{short}");
    }
    for choice in [&[0, 1, 2][..], &[0, 1, 2, 3], &[0, 1, usize::MAX, 2], &[0; 5]] {
        assert!(matches!(run(&args, fits, choice), Err(KernelError::Args(_))), "{choice:?}");
    }
    for huge in [usize::MAX, usize::MAX / 2, 1 << 61] {
        assert!(run(&GatherMatMulArgs { matrices: huge, ..args }, fits, &[0; 4]).is_err());
        let product = MatMulArgs { m: huge, ..args.product };
        assert!(run(&GatherMatMulArgs { product, ..args }, fits, &[0; 4]).is_err());
        assert!(run(&GatherMatMulArgs { step: huge.cast_signed(), ..args }, fits, &[0; 4]).is_err());
    }
}
