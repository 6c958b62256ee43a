//! Softmax and normalisation.

use super::{Guarded, Random, U, all_kernels, close, in_parts};
use autoglm_runtime::cpu::kernels::{Kernels, NormArgs, RowView, SoftmaxArgs, layer_norm, softmax};

const COLS: [usize; 13] = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 1000];

fn softmax_args(rows: usize, cols: usize, log: bool) -> SoftmaxArgs {
    SoftmaxArgs { rows, cols, log, x: RowView::dense(cols), out: RowView::dense(cols) }
}

fn run(kernels: &Kernels, args: &SoftmaxArgs, x: &[f32]) -> Vec<f32> {
    in_parts(x.len(), |out, part| softmax(kernels, args, x, out, part))
}

#[test]
fn softmax_of_edge_shapes() {
    for cols in COLS {
        for rows in [0, 1, 5] {
            let mut random = Random::new(cols as u64);
            let data: Vec<f32> = random.floats(rows * cols).iter().map(|x| x * 20.0).collect();
            let x = Guarded::new(&data, cols.is_multiple_of(2));
            for kernels in all_kernels() {
                let out = run(&kernels, &softmax_args(rows, cols, false), &x);
                let log = run(&kernels, &softmax_args(rows, cols, true), &x);
                for (i, row) in x.chunks_exact(cols).enumerate() {
                    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                    let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
                    for (j, &x) in row.iter().enumerate() {
                        let what = || format!("[{i}, {j}] of {} for {cols} columns", kernels.isa().name());
                        let want = (f64::from(x) - max).exp() / sum;
                        // The difference itself rounds: up to 40 times U, which is what exp magnifies.
                        close(out[i * cols + j], want, want * (cols as f64 + 50.0) * U, &what);
                        let want = f64::from(x) - max - sum.ln();
                        // Two differences round, each of a number up to 50.
                        close(log[i * cols + j], want, (cols as f64 + 100.0) * U, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn softmax_of_infinities_is_numpys() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for kernels in all_kernels() {
        for cols in [3, 8, 21] {
            let of = |fill: f32, first: f32| {
                let mut x = vec![fill; cols];
                x[0] = first;
                run(&kernels, &softmax_args(1, cols, false), &x)
            };
            assert!(of(-inf, -inf).iter().all(|x| x.is_nan()));
            assert!(of(0.0, inf).iter().all(|x| x.is_nan()));
            assert!(of(0.0, nan).iter().all(|x| x.is_nan()));
            assert!(of(nan, 0.0).iter().all(|x| x.is_nan()));
            let one = of(-inf, 3.0);
            assert_eq!(one[0], 1.0);
            assert!(one[1..].iter().all(|&x| x == 0.0));
            let low = of(-100.0, 0.0);
            // e^-100 is subnormal: 26.55 times the least.
            assert_eq!(low[1].to_bits(), 27);
        }
    }
}

/// Distance in representable numbers from the correctly rounded result.
fn ulps(got: f32, want: f64) -> u32 {
    got.to_bits().abs_diff((want as f32).to_bits())
}

#[test]
fn exp_is_within_two_ulp() {
    // Of 0 and x below -17.4 the sum rounds to 1, so the softmax of x is e^x itself.
    for kernels in all_kernels() {
        let mut x = -17.4_f32;
        while x > -105.0 {
            let out = run(&kernels, &softmax_args(1, 2, false), &[0.0, x]);
            assert_eq!(out[0], 1.0);
            let want = f64::from(x).exp();
            assert!(ulps(out[1], want) <= 2, "{} exp({x}) = {}, want {want}", kernels.isa().name(), out[1]);
            x -= 0.0137;
        }
    }
}

#[test]
fn norms_of_edge_shapes() {
    for cols in COLS {
        for (rows, rms, with_bias) in [(0, false, true), (1, true, true), (4, false, true), (3, true, false)]
        {
            let mut random = Random::new(cols as u64);
            // A mean far from 0, which one-pass formulas lose.
            let data: Vec<f32> = random.floats(rows * cols).iter().map(|x| x + 30.0).collect();
            let x = Guarded::new(&data, cols.is_multiple_of(2));
            let scale = Guarded::new(&random.floats(cols), cols.is_multiple_of(2));
            let bias = with_bias.then(|| Guarded::new(&random.floats(cols), cols.is_multiple_of(2)));
            let args = NormArgs {
                rows,
                cols,
                epsilon: 1e-2,
                rms,
                x: RowView::dense(cols),
                out: RowView::dense(cols),
            };
            for kernels in all_kernels() {
                let out = in_parts(rows * cols, |out, part| {
                    layer_norm(&kernels, &args, &x, &scale, bias.as_deref(), out, part)
                });
                for (i, row) in x.chunks_exact(cols).enumerate() {
                    let count = cols as f64;
                    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
                    let mean = if rms { 0.0 } else { mean };
                    let var = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
                    for (j, &x) in row.iter().enumerate() {
                        let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[j]));
                        let unit = (f64::from(x) - mean) / (var + 1e-2).sqrt();
                        let want = unit * f64::from(scale[j]) + bias;
                        let what = || format!("[{i}, {j}] of {} {args:?}", kernels.isa().name());
                        close(out[i * cols + j], want, 1e-4, &what);
                    }
                }
            }
        }
    }
}
