//! Convolution and pooling.

use super::{Guarded, Random, U, all_kernels, close, in_parts};
use autoglm_runtime::cpu::kernels::{ConvArgs, ConvB, Limits, Pixels, PoolArgs, conv, pool};
use autoglm_runtime::cpu::pack::{pack_conv, packed_conv_len};
use autoglm_runtime::program::PoolMode;

pub(super) const BASE: ConvArgs = ConvArgs {
    batch: 1,
    in_size: [5, 6],
    channels: 4,
    m: 5,
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    groups: 1,
    x: Pixels { offset: 0, steps: [0; 3] },
    out: Pixels { offset: 0, steps: [0; 3] },
    limits: None,
};

/// With dense operands.
pub(super) fn dense(args: &ConvArgs) -> ConvArgs {
    let x = Pixels::dense(args.in_size, args.channels);
    ConvArgs { x, out: Pixels::dense(args.out_size().unwrap(), args.m), ..*args }
}

/// The naive result from weights in ONNX order, and a bound on the error of each element.
pub(super) fn reference(args: &ConvArgs, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<(f64, f64)> {
    let ([height, width], [kh, kw]) = (args.out_size().unwrap(), args.kernel);
    let (c, per_group) = (args.channels / args.groups, args.m / args.groups);
    let mut out = Vec::new();
    for pixel in 0..args.batch * height * width {
        let (image, oy, ox) = (pixel / (height * width), pixel / width % height, pixel % width);
        for o in 0..args.m {
            let start = bias.map_or(0.0, |bias| f64::from(bias[o]));
            let (mut sum, mut size) = (start, start.abs());
            for i in 0..c * kh * kw {
                let (channel, ky, kx) = (i / (kh * kw), i / kw % kh, i % kw);
                let y = oy * args.stride[0] + ky * args.dilation[0];
                let x_at = ox * args.stride[1] + kx * args.dilation[1];
                let line = (image * args.in_size[0] + y) * args.in_size[1] + x_at;
                let element = x[line * args.channels + o / per_group * c + channel];
                let term = f64::from(element) * f64::from(w[o * c * kh * kw + i]);
                sum += term;
                size += term.abs();
            }
            let limited = args.limits.map_or(sum, |l| sum.clamp(f64::from(l.low), f64::from(l.high)));
            out.push((limited, (c * kh * kw + 2) as f64 * U * size));
        }
    }
    out
}

fn check(args: &ConvArgs, bias: bool) {
    let args = &dense(args);
    let shape = args.weights();
    let foot = args.footprint().unwrap();
    let mut random = Random::new((args.channels * 31 + args.m) as u64);
    let x = Guarded::new(&random.floats(foot.x.len()), args.m.is_multiple_of(2));
    let w = random.floats(args.m * shape.c * args.kernel[0] * args.kernel[1]);
    let mut packed =
        Guarded::new(&vec![f32::NAN; packed_conv_len(&shape).unwrap()], args.m.is_multiple_of(2));
    pack_conv(&w, &shape, packed.elements()).unwrap();
    let bias = bias.then(|| Guarded::new(&random.floats(args.m), args.m % 2 == 1));
    let bias = bias.as_deref();
    let want = reference(args, &x, &w, bias);
    assert_eq!(want.len(), foot.out.len());
    for kernels in all_kernels() {
        let got = in_parts(want.len(), |out, part| {
            conv(&kernels, args, &x, ConvB::Packed(&packed), bias, out, part)
        });
        for (i, (&got, &(want, bound))) in got.iter().zip(&want).enumerate() {
            let what = || format!("element {i} of {} {args:?}", kernels.isa().name());
            close(got, want, bound, &what);
        }
    }
}

#[test]
fn kernels_strides_and_dilations() {
    for kernel in [[1, 1], [3, 3], [2, 3], [5, 1]] {
        for (stride, dilation) in [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 3], [2, 1]), ([2, 1], [1, 2])] {
            for in_size in [[5, 6], [11, 7]] {
                check(&ConvArgs { kernel, stride, dilation, in_size, batch: 2, ..BASE }, true);
            }
        }
    }
}

#[test]
fn edge_channel_counts() {
    for channels in [0, 1, 3, 17] {
        for m in [0, 1, 8, 15, 16, 17, 31, 32, 33, 64] {
            check(&ConvArgs { channels, m, ..BASE }, m.is_multiple_of(2));
        }
    }
}

#[test]
fn results_within_limits() {
    for (low, high) in [(0.0, f32::INFINITY), (0.0, 0.5), (0.25, 0.75)] {
        let args = ConvArgs { limits: Some(Limits { low, high }), ..BASE };
        check(&args, true);
        check(&ConvArgs { channels: 520, kernel: [2, 1], m: 33, ..args }, false);
        check(&ConvArgs { groups: 9, channels: 9, m: 9, ..args }, true);
        check(&ConvArgs { groups: 2, m: 6, ..args }, true);
    }
}

#[test]
fn long_taps_and_many_taps_are_cut_into_chunks() {
    check(&ConvArgs { channels: 520, kernel: [2, 1], ..BASE }, true);
    check(&ConvArgs { channels: 130, kernel: [3, 3], ..BASE }, true);
    check(&ConvArgs { channels: 300, kernel: [1, 5], ..BASE }, false);
}

#[test]
fn kernels_that_do_not_fit_give_nothing() {
    check(&ConvArgs { kernel: [6, 1], ..BASE }, true);
    check(&ConvArgs { in_size: [0, 6], ..BASE }, true);
    check(&ConvArgs { batch: 0, ..BASE }, true);
    check(&ConvArgs { kernel: [5, 6], ..BASE }, true);
}

#[test]
fn groups() {
    for (groups, c, per_group) in [(2, 3, 4), (3, 1, 2), (4, 5, 1), (2, 16, 33)] {
        let (channels, m) = (groups * c, groups * per_group);
        check(&ConvArgs { groups, channels, m, in_size: [6, 5], stride: [2, 1], ..BASE }, true);
    }
}

#[test]
fn depthwise() {
    for c in [2, 7, 8, 9, 16, 17, 31, 33, 100] {
        let args = ConvArgs { groups: c, channels: c, m: c, batch: 2, in_size: [6, 7], ..BASE };
        check(&args, true);
        check(&ConvArgs { stride: [2, 2], dilation: [1, 2], ..args }, false);
        check(&ConvArgs { kernel: [5, 5], ..args }, true);
    }
}

#[test]
fn depthwise_windows_of_all_kinds() {
    let c = 11;
    let args = ConvArgs { groups: c, channels: c, m: c, ..BASE };
    for kernel in [[1, 1], [3, 3], [5, 5], [1, 3], [3, 1], [4, 3], [2, 5], [3, 4]] {
        for (stride, dilation) in
            [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 2], [2, 1]), ([3, 3], [1, 1]), ([2, 2], [2, 2])]
        {
            for in_size in [[9, 29], [9, 10], [10, 9]] {
                check(&ConvArgs { kernel, stride, dilation, in_size, ..args }, true);
            }
        }
    }
    // Signals along either axis.
    for (kernel, in_size) in [([3, 1], [40, 1]), ([1, 3], [1, 40]), ([4, 1], [23, 1]), ([1, 1], [23, 1])] {
        for (batch, stride) in [(1, [1, 1]), (2, [2, 1]), (2, [1, 2])] {
            check(&ConvArgs { batch, kernel, stride, in_size, ..args }, batch == 2);
        }
    }
}

const POOL: PoolArgs = PoolArgs {
    mode: PoolMode::Max,
    batch: 2,
    in_size: [7, 6],
    channels: 5,
    out_size: [4, 3],
    kernel: [3, 3],
    stride: [2, 2],
    dilation: [1, 1],
    pad: [1, 1],
    pad_end: [1, 1],
    x: Pixels { offset: 0, steps: [0; 3] },
    out: Pixels { offset: 0, steps: [0; 3] },
};

/// With dense operands.
fn dense_pool(args: &PoolArgs) -> PoolArgs {
    let c = args.channels;
    PoolArgs { x: Pixels::dense(args.in_size, c), out: Pixels::dense(args.out_size, c), ..*args }
}

/// The naive result: a window is a set of positions, some of them padding, some (of a rounded-up output) beyond it.
fn pool_reference(args: &PoolArgs, x: &[f32]) -> Vec<f64> {
    let ([height, width], c) = (args.out_size, args.channels);
    let mut out = Vec::new();
    for i in 0..args.batch * height * width * c {
        let (image, oy, ox) = (i / c / width / height, i / c / width % height, i / c % width);
        let (mut inside, mut padded) = (Vec::new(), 0);
        for k in 0..args.kernel[0] * args.kernel[1] {
            let y = oy * args.stride[0] + k / args.kernel[1] * args.dilation[0];
            let x_at = ox * args.stride[1] + k % args.kernel[1] * args.dilation[1];
            let (end_y, end_x) = (args.pad[0] + args.in_size[0], args.pad[1] + args.in_size[1]);
            padded += usize::from(y < end_y + args.pad_end[0] && x_at < end_x + args.pad_end[1]);
            if (args.pad[0]..end_y).contains(&y) && (args.pad[1]..end_x).contains(&x_at) {
                let line = (image * args.in_size[0] + y - args.pad[0]) * args.in_size[1] + x_at - args.pad[1];
                inside.push(f64::from(x[line * c + i % c]));
            }
        }
        let sum: f64 = inside.iter().sum();
        out.push(match args.mode {
            PoolMode::Max => inside.into_iter().fold(f64::NEG_INFINITY, f64::max),
            PoolMode::Average => sum / inside.len() as f64,
            PoolMode::AverageIncludePad => sum / padded as f64,
            PoolMode::Sum => sum,
        });
    }
    out
}

fn check_pool(args: &PoolArgs) {
    let args = &dense_pool(args);
    let foot = args.footprint().unwrap();
    let x = Guarded::new(
        &Random::new(args.channels as u64).floats(foot.x.len()),
        args.channels.is_multiple_of(2),
    );
    let want = pool_reference(args, &x);
    for kernels in all_kernels() {
        let got = in_parts(want.len(), |out, part| pool(&kernels, args, &x, out, part));
        for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
            if want.is_finite() {
                // Sums of lines, then of their sums.
                let terms = if args.mode == PoolMode::Sum { args.kernel.iter().sum::<usize>() } else { 1 };
                let size = if args.mode == PoolMode::Sum { args.kernel.iter().product::<usize>() } else { 1 };
                close(got, want, 1e-6_f64.max(terms as f64 * U * size as f64), &|| {
                    format!("element {i} of {} {args:?}", kernels.isa().name())
                });
            } else {
                assert_eq!(got.to_string(), want.to_string(), "element {i} of {args:?}");
            }
        }
    }
}

#[test]
fn pooling() {
    for mode in [PoolMode::Max, PoolMode::Average, PoolMode::AverageIncludePad, PoolMode::Sum] {
        for channels in [1, 7, 8, 16, 31, 32, 33, 130] {
            check_pool(&PoolArgs { mode, channels, ..POOL });
        }
        check_pool(&PoolArgs { mode, out_size: [5, 4], pad_end: [2, 2], ..POOL });
        check_pool(&PoolArgs { mode, dilation: [2, 2], stride: [1, 1], out_size: [5, 4], ..POOL });
        check_pool(&PoolArgs { mode, kernel: [7, 6], pad: [0, 0], out_size: [1, 1], batch: 1, ..POOL });
        check_pool(&PoolArgs { mode, pad: [5, 0], out_size: [2, 9], ..POOL });
        check_pool(&PoolArgs { mode, in_size: [0, 6], ..POOL });
        check_pool(&PoolArgs { mode, batch: 0, ..POOL });
        let whole = PoolArgs { in_size: [90, 70], kernel: [90, 70], pad: [0; 2], pad_end: [0; 2], ..POOL };
        check_pool(&PoolArgs { mode, out_size: [1, 1], channels: 40, ..whole });
    }
}

#[test]
fn nan_wins_in_max_pooling() {
    let args = PoolArgs { batch: 1, in_size: [1, 3], channels: 9, kernel: [1, 3], out_size: [1, 1], ..POOL };
    let args = dense_pool(&PoolArgs { pad: [0, 0], pad_end: [0, 0], ..args });
    for at in 0..3 {
        let mut x = vec![1.0; 27];
        x[at * 9 + 2] = f32::NAN;
        x[at * 9 + 8] = f32::NAN;
        for kernels in all_kernels() {
            let out = in_parts(9, |out, part| pool(&kernels, &args, &x, out, part));
            let nans: Vec<usize> = (0..9).filter(|&i| out[i].is_nan()).collect();
            assert_eq!(nans, [2, 8]);
        }
    }
}
