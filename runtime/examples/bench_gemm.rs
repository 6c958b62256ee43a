//! Speed of the f32 kernels on one thread, in GFLOP/s and as a fraction of the measured peak of multiply-add:
//! `bench_gemm [gemm|gemv|conv|depthwise]`.
#![allow(clippy::print_stdout, reason = "the table is this program's result")]

use autoglm_runtime::cpu::kernels::{
    ConvArgs, ConvB, KernelError, Kernels, MATMUL_SCRATCH, MatB, MatMulArgs, Part, Pixels, RowView, View,
    WinogradB, conv, matmul, winograd_scratch,
};
use autoglm_runtime::cpu::pack::{packed_conv_len, packed_gemm_len, packed_winograd_len};
use autoglm_runtime::cpu::{Isa, SharedMut};
use std::time::{Duration, Instant};

/// Least time of many runs: on a shared machine the only statistic that means something.
fn fastest(mut run: impl FnMut() -> Result<(), KernelError>) -> Result<f64, KernelError> {
    let end = Instant::now() + Duration::from_millis(400);
    let mut best = f64::INFINITY;
    while Instant::now() < end {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// GFLOP/s of independent multiply-adds in registers.
#[cfg(target_arch = "x86_64")]
fn peak(isa: Isa) -> f64 {
    use std::arch::x86_64::*;
    const STEPS: usize = 200_000;
    #[target_feature(enable = "avx2,fma")]
    fn avx2() -> f32 {
        let mut acc = [_mm256_set1_ps(1.0); 12];
        let (a, b) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(std::hint::black_box(0.25)));
        for _ in 0..STEPS {
            for x in &mut acc {
                *x = _mm256_fmadd_ps(*x, a, b);
            }
        }
        acc.into_iter().map(|x| _mm256_cvtss_f32(x)).sum()
    }
    #[target_feature(enable = "avx512f")]
    fn avx512() -> f32 {
        let mut acc = [_mm512_set1_ps(1.0); 12];
        let (a, b) = (_mm512_set1_ps(std::hint::black_box(0.5)), _mm512_set1_ps(std::hint::black_box(0.25)));
        for _ in 0..STEPS {
            for x in &mut acc {
                *x = _mm512_fmadd_ps(*x, a, b);
            }
        }
        acc.into_iter().map(|x| _mm512_cvtss_f32(x)).sum()
    }
    if !isa.is_available() || isa == Isa::Scalar {
        return f64::NAN;
    }
    let seconds = fastest(|| {
        // SAFETY: the instruction set is available.
        std::hint::black_box(unsafe { if isa == Isa::Avx2 { avx2() } else { avx512() } });
        Ok(())
    });
    let lanes = if isa == Isa::Avx2 { 8.0 } else { 16.0 };
    seconds.map_or(f64::NAN, |seconds| STEPS as f64 * 12.0 * lanes * 2.0 / seconds * 1e-9)
}

/// Not measured here.
#[cfg(not(target_arch = "x86_64"))]
fn peak(_isa: Isa) -> f64 {
    f64::NAN
}

/// A buffer that starts on a cache line, as an engine's weights and its arena do.
struct Aligned {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let data = vec![0.5; len + 15];
        let start = data.as_ptr().align_offset(64).min(15);
        Self { data, start, len }
    }

    fn get(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// A matrix multiplication with packed or plain B.
fn gemm(kernels: &Kernels, m: usize, n: usize, k: usize, packed: bool) -> Result<f64, KernelError> {
    let args = MatMulArgs {
        batch: &[],
        m,
        k,
        n,
        a: View::dense(k),
        b: View::dense(n),
        out: RowView::dense(n),
        limits: None,
    };
    let (a, b) = (Aligned::new(m * k), Aligned::new(packed_gemm_len(k, n).unwrap_or(0)));
    let (mut out, mut scratch) = (Aligned::new(m * n), Aligned::new(MATMUL_SCRATCH));
    let out = SharedMut::new(out.get_mut());
    fastest(|| {
        let b = if packed {
            MatB::Packed(b.get())
        } else {
            MatB::Strided { data: b.get(), scratch: scratch.get_mut() }
        };
        matmul(kernels, &args, a.get(), b, None, &out, Part::WHOLE)
    })
}

/// A square convolution that keeps the channels; the padding is part of the input.
struct Windows {
    /// Pixels of a line of the result.
    size: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

fn convolution(kernels: &Kernels, problem: &Windows, winograd: bool) -> Result<f64, KernelError> {
    let Windows { size, channels, kernel, stride, groups } = *problem;
    let in_size = [(size - 1) * stride + kernel; 2];
    let args = ConvArgs {
        batch: 1,
        in_size,
        channels,
        m: channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1, 1],
        groups,
        x: Pixels::dense(in_size, channels),
        out: Pixels::dense([size; 2], channels),
        limits: None,
    };
    let foot = args.footprint()?;
    let x = Aligned::new(foot.x.len());
    let len =
        if winograd { packed_winograd_len(channels, channels) } else { packed_conv_len(&args.weights()) };
    let w = Aligned::new(len.unwrap_or(0));
    let mut scratch = Aligned::new(if winograd { winograd_scratch(&args)? } else { 0 });
    let mut out = Aligned::new(foot.out.len());
    let out = SharedMut::new(out.get_mut());
    fastest(|| {
        let b = if winograd {
            ConvB::Winograd(WinogradB { weights: w.get(), scratch: scratch.get_mut() })
        } else {
            ConvB::Packed(w.get())
        };
        conv(kernels, &args, x.get(), b, None, &out, Part::WHOLE)
    })
}

fn main() -> Result<(), KernelError> {
    let only = std::env::args().nth(1);
    let wants = |kind: &str| only.as_deref().is_none_or(|only| only == kind);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let kernels = Kernels::new(isa)?;
        let peak = peak(isa);
        println!("{}: peak {peak:.1} GFLOP/s", isa.name());
        let report = |name: &str, macs: usize, seconds: f64| {
            let speed = macs as f64 * 2e-9 / seconds;
            println!(
                "  {name:32} {:9.1} us {speed:7.1} GFLOP/s {:5.1} %",
                seconds * 1e6,
                speed / peak * 100.0
            );
        };
        let gemms = [
            (128, 768, 768),
            (128, 3072, 768),
            (128, 768, 3072),
            (3136, 64, 576),
            (3136, 64, 64),
            (49, 2048, 512),
            (512, 512, 512),
            (128, 128, 64),
            (12544, 96, 16),
            (3136, 144, 24),
            (784, 192, 32),
            (3136, 24, 144),
        ];
        for (m, n, k) in gemms.into_iter().filter(|_| wants("gemm")) {
            report(&format!("gemm {m}x{n}x{k}"), m * n * k, gemm(&kernels, m, n, k, true)?);
        }
        for (m, n, k) in [(128, 768, 768), (128, 128, 64)].into_iter().filter(|_| wants("gemm")) {
            report(&format!("gemm {m}x{n}x{k}, B not packed"), m * n * k, gemm(&kernels, m, n, k, false)?);
        }
        let gemvs = [(1, 1000, 2048), (1, 4096, 4096), (3, 1000, 2048)];
        for (m, n, k) in gemvs.into_iter().filter(|_| wants("gemv")) {
            let seconds = gemm(&kernels, m, n, k, true)?;
            report(&format!("gemv {m}x{n}x{k}"), m * n * k, seconds);
            println!("  {:32} {:9.1} GB/s of B", "", (n * k * 4) as f64 / seconds * 1e-9);
        }
        let convs = [(256, 32), (56, 64), (28, 128), (14, 256), (7, 512), (55, 16), (27, 32), (13, 64)];
        for (size, c) in convs.into_iter().filter(|_| wants("conv")) {
            for (how, winograd) in [("", false), (", Winograd", true)] {
                let seconds = convolution(
                    &kernels,
                    &Windows { size, channels: c, kernel: 3, stride: 1, groups: 1 },
                    winograd,
                )?;
                report(&format!("conv 3x3 {size}x{size}x{c}{how}"), size * size * c * c * 9, seconds);
            }
        }
        let windows = [(112, 32, 3, 1), (56, 96, 3, 2), (56, 144, 3, 1), (28, 192, 3, 1), (14, 384, 3, 1)];
        let windows = windows.into_iter().chain([(7, 960, 3, 1), (28, 40, 5, 1), (14, 240, 5, 2)]);
        for (size, c, kernel, stride) in windows.filter(|_| wants("depthwise")) {
            let problem = Windows { size, channels: c, kernel, stride, groups: c };
            let name = format!("depthwise {kernel}x{kernel}/{stride} {size}x{size}x{c}");
            report(&name, size * size * c * kernel * kernel, convolution(&kernels, &problem, false)?);
        }
    }
    Ok(())
}
