//! Winograd's convolution.

use super::conv::{BASE, dense, reference};
use super::refuse::with_out;
use super::{Guarded, Random, all_kernels, in_parts};
use autoglm_runtime::cpu::SharedMut;
use autoglm_runtime::cpu::kernels::{
    Block, ConvArgs, ConvB, KernelError, Kernels, Limits, Part, STAGE, Stage, WinogradB, conv, conv_staged,
    winograd_scratch,
};
use autoglm_runtime::cpu::pack::{pack_winograd, packed_winograd_len};

/// Operands of a convolution.
struct Problem {
    args: ConvArgs,
    x: Guarded,
    plain: Vec<f32>,
    weights: Guarded,
    bias: Option<Guarded>,
}

impl Problem {
    fn new(args: &ConvArgs, bias: bool) -> Self {
        let args = dense(args);
        let mut random = Random::new((args.channels * 31 + args.m) as u64);
        let at_end = args.in_size[1].is_multiple_of(2);
        let x = Guarded::new(&random.floats(args.footprint().unwrap().x.len()), at_end);
        let plain = random.floats(args.m * args.channels * 9);
        let len = packed_winograd_len(args.channels, args.m).unwrap();
        let mut weights = Guarded::new(&vec![f32::NAN; len], at_end);
        pack_winograd(&plain, args.channels, args.m, weights.elements()).unwrap();
        let bias = bias.then(|| Guarded::new(&random.floats(args.m), !at_end));
        Self { args, x, plain, weights, bias }
    }

    fn run(&self, kernels: &Kernels, out: &SharedMut<f32>, part: Part) -> Result<(), KernelError> {
        let mut scratch = Guarded::new(&vec![f32::NAN; winograd_scratch(&self.args).unwrap()], true);
        let b = ConvB::Winograd(WinogradB { weights: &self.weights, scratch: scratch.elements() });
        conv(kernels, &self.args, &self.x, b, self.bias.as_deref(), out, part)
    }

    /// The result collected from a stage's blocks.
    fn staged(&self, kernels: &Kernels, out: &mut [f32], part: Part) {
        let mut scratch = vec![f32::NAN; winograd_scratch(&self.args).unwrap()];
        let b = ConvB::Winograd(WinogradB { weights: &self.weights, scratch: &mut scratch });
        let mut elements = Guarded::new(&vec![f32::NAN; STAGE], true);
        let elements = SharedMut::new(elements.elements());
        let step = Stage::step(self.args.m);
        let m = self.args.m;
        let mut finish = |block: &Block| {
            for (i, row) in block.rows.clone().enumerate() {
                let start = block.start + i * step;
                // SAFETY: nothing else uses the stage now.
                let from = unsafe { elements.slice(start..start + block.cols.len()) }.unwrap();
                out[row * m..][block.cols.clone()].copy_from_slice(from);
            }
            Ok(())
        };
        // SAFETY: the kernel and `finish` take turns.
        let stage = Stage { elements: unsafe { elements.share() }, step, finish: &mut finish };
        conv_staged(kernels, &self.args, &self.x, b, self.bias.as_deref(), stage, part).unwrap();
    }
}

/// No element is off by more than 1e-4 of the result's standard deviation, the bound of the design, and all together by
/// no more than 3e-6, twice what numpy gave for these points.
fn check(args: &ConvArgs, bias: bool) {
    let problem = Problem::new(args, bias);
    let want = reference(&problem.args, &problem.x, &problem.plain, problem.bias.as_deref());
    let count = want.len().max(1) as f64;
    let mean = want.iter().map(|(x, _)| x).sum::<f64>() / count;
    let deviation = (want.iter().map(|(x, _)| (x - mean).powi(2)).sum::<f64>() / count).sqrt().max(1e-2);
    for kernels in all_kernels() {
        let got = in_parts(want.len(), |out, part| problem.run(&kernels, out, part));
        let errors = || got.iter().zip(&want).map(|(&got, (want, _))| (f64::from(got) - want).abs());
        let (largest, squares) = (errors().fold(0.0, f64::max), errors().map(|e| e * e).sum::<f64>());
        assert!(largest <= 1e-4 * deviation, "{largest} of {deviation}: {args:?}");
        assert!((squares / count).sqrt() <= 3e-6 * deviation, "{squares} of {deviation}: {args:?}");
        let mut from_stage = vec![f32::NAN; want.len()];
        for index in 0..3 {
            problem.staged(&kernels, &mut from_stage, Part { index, count: 3 });
        }
        assert!(got.iter().zip(&from_stage).all(|(a, b)| a.to_bits() == b.to_bits()), "staged: {args:?}");
    }
}

#[test]
fn edges_of_tiles() {
    for height in [3, 4, 6, 7, 10] {
        for width in [3, 5, 6, 9, 14] {
            check(&ConvArgs { in_size: [height, width], batch: 2, ..BASE }, width % 2 == 0);
        }
    }
}

#[test]
fn edge_channel_counts() {
    for channels in [0, 1, 3, 8, 17] {
        for m in [1, 8, 15, 16, 17, 31, 32, 33, 64, 65] {
            check(&ConvArgs { channels, m, in_size: [7, 8], ..BASE }, m.is_multiple_of(2));
        }
    }
}

#[test]
fn many_tiles_channels_and_panels() {
    check(&ConvArgs { channels: 64, m: 64, in_size: [42, 30], ..BASE }, true);
    check(&ConvArgs { channels: 130, m: 40, in_size: [21, 21], batch: 3, ..BASE }, true);
    check(&ConvArgs { channels: 520, m: 33, in_size: [9, 9], ..BASE }, false);
    check(&ConvArgs { channels: 16, m: 300, in_size: [15, 15], ..BASE }, true);
    check(&ConvArgs { channels: 3, m: 170, in_size: [6, 260], ..BASE }, true);
}

#[test]
fn results_within_limits() {
    let args = ConvArgs { in_size: [9, 11], channels: 20, m: 40, ..BASE };
    check(&ConvArgs { limits: Some(Limits { low: 0.0, high: f32::INFINITY }), ..args }, true);
    check(&ConvArgs { limits: Some(Limits { low: 0.0, high: 0.5 }), ..args }, false);
}

#[test]
fn results_without_elements() {
    check(&ConvArgs { in_size: [2, 6], ..BASE }, true);
    check(&ConvArgs { batch: 0, ..BASE }, true);
    check(&ConvArgs { m: 0, ..BASE }, true);
}

#[test]
fn other_windows_and_short_operands_are_refused() {
    let problem = Problem::new(&BASE, true);
    let refused = |args: ConvArgs| matches!(winograd_scratch(&args), Err(KernelError::Args(_)));
    assert!(refused(ConvArgs { kernel: [3, 1], ..BASE }));
    assert!(refused(ConvArgs { stride: [1, 2], ..BASE }));
    assert!(refused(ConvArgs { dilation: [2, 1], ..BASE }));
    assert!(refused(ConvArgs { groups: 2, m: 4, ..BASE }));
    let huge = ConvArgs { channels: usize::MAX / 40, ..BASE };
    assert_eq!(winograd_scratch(&huge), Err(KernelError::Overflow));
    let (weights, scratch) = (problem.weights.len(), winograd_scratch(&problem.args).unwrap());
    for kernels in all_kernels() {
        let len = problem.args.footprint().unwrap().out.len();
        let run = |weights: usize, scratch: usize| {
            with_out(len, |out| {
                let mut scratch = vec![0.0; scratch];
                let weights = &problem.weights[..weights];
                let b = ConvB::Winograd(WinogradB { weights, scratch: &mut scratch });
                conv(&kernels, &problem.args, &problem.x, b, None, out, Part::WHOLE)
            })
        };
        assert_eq!(run(weights, scratch), Ok(()));
        assert!(matches!(run(weights - 1, scratch), Err(KernelError::Footprint { .. })));
        assert!(matches!(run(weights, scratch - 1), Err(KernelError::Footprint { .. })));
    }
}
