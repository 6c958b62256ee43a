//! Speed of products with sparse and low-rank weights against dense ones, on one thread. Runs are interleaved and short, and
//! the least time counts, so that other load on the machine disturbs all alike. Arguments: seconds a line, and a part of the
//! titles of the lines wanted.
#![allow(clippy::print_stdout, reason = "the table is this program's result")]

use autoglm_runtime::cpu::kernels::{
    ConvArgs, ConvB, KernelError, Kernels, MatB, MatMulArgs, Part, Pixels, RowView, SCATTERED_SCRATCH,
    SPARSE_SCRATCH, ScatteredB, SparseB, View, conv, matmul, probe,
};
use autoglm_runtime::cpu::pack::{packed_conv_len, packed_gemm_len};
use autoglm_runtime::cpu::scattered::pack_scattered;
use autoglm_runtime::cpu::sparse::SparseMatrix;
use autoglm_runtime::cpu::{Isa, SharedMut};
use autoglm_runtime::memory::AlignedBuf;
use autoglm_runtime::program::Sparsity;
use std::time::{Duration, Instant};

const PANELS: Sparsity = Sparsity::Panels { kept: 2, of: 4 };

/// Times in seconds, least and median, of each of `runs`, taken in turns.
fn interleaved(
    seconds: f64,
    runs: &mut [Box<dyn FnMut() -> Result<(), KernelError> + '_>],
) -> Result<Vec<[f64; 2]>, KernelError> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = vec![Vec::new(); runs.len()];
    while Instant::now() < end || times[0].len() < 5 {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            [times[0], times[times.len() / 2]]
        })
        .collect())
}

/// A buffer that starts on a cache line, as an engine's weights and its arena do.
struct Floats(AlignedBuf);

impl Floats {
    fn new(len: usize) -> Self {
        let mut buffer = AlignedBuf::zeroed(len * 4).unwrap_or_default();
        buffer.chunks_exact_mut(4).for_each(|x| x.copy_from_slice(&0.5f32.to_le_bytes()));
        Self(buffer)
    }

    fn get(&self) -> &[f32] {
        // SAFETY: every bit pattern is a float.
        unsafe { self.0.align_to::<f32>() }.1
    }

    fn get_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { self.0.align_to_mut::<f32>() }.1
    }
}

/// Sparse weights with some valid codes.
struct Sparse {
    sparsity: Sparsity,
    values: Floats,
    codes: Vec<u32>,
    scratch: Floats,
}

impl Sparse {
    fn new(matrix: &SparseMatrix) -> Result<Self, KernelError> {
        let codes = (0..matrix.codes_len()?).map(|i| [0x4444_4444, 0x9999_dddd, 0xe4e4_8c9d][i % 3]);
        Ok(Self {
            sparsity: matrix.sparsity,
            values: Floats::new(matrix.values_len()?),
            codes: codes.collect(),
            scratch: Floats::new(SPARSE_SCRATCH),
        })
    }

    fn operand(&mut self) -> SparseB<'_> {
        let (values, scratch) = (self.values.get(), self.scratch.0.len() / 4);
        debug_assert_eq!(scratch, SPARSE_SCRATCH);
        // SAFETY: every bit pattern is a float; the scratch is another buffer than the values.
        let scratch = unsafe { self.scratch.0.align_to_mut::<f32>() }.1;
        SparseB { sparsity: self.sparsity, values, codes: &self.codes, scratch }
    }

    fn bytes(&self) -> usize {
        self.values.0.len() + self.codes.len() * 4
    }
}

/// Weights of which one element in `every` is stored.
struct Scattered {
    values: Vec<f32>,
    codes: Vec<u32>,
    scratch: Floats,
}

impl Scattered {
    fn new(k: usize, n: usize, every: usize) -> Result<Self, KernelError> {
        // Neighbours of one residue, in rows that are shifted by a number that is prime to `every`.
        let at = |i: usize, j: usize| if (i * 7 + j).is_multiple_of(every) { 0.5 } else { 0.0 };
        let (values, codes) = pack_scattered(k, n, at)?;
        Ok(Self { values, codes, scratch: Floats::new(SCATTERED_SCRATCH) })
    }

    fn operand(&mut self) -> ScatteredB<'_> {
        ScatteredB { values: &self.values, codes: &self.codes, scratch: self.scratch.get_mut() }
    }

    fn bytes(&self) -> usize {
        (self.values.len() + self.codes.len()) * 4
    }
}

fn dense(m: usize, n: usize, k: usize) -> MatMulArgs<'static> {
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

struct Bench {
    kernels: Kernels,
    seconds: f64,
    /// Part of the titles of the lines wanted.
    filter: String,
}

impl Bench {
    /// A line for each way; the first is what the others are compared with.
    fn report(&self, title: &str, names: &[&str], work: &[(f64, usize)], times: &[[f64; 2]]) {
        println!("  {title}");
        for ((name, (flops, bytes)), [least, median]) in names.iter().zip(work).zip(times) {
            println!(
                "    {name:10} {:9.1} us (median {:9.1})  {:6.1} GFLOP/s  {:5.1} GB/s of B  {:5.2} x",
                least * 1e6,
                median * 1e6,
                flops / least * 1e-9,
                *bytes as f64 / least * 1e-9,
                times[0][0] / least
            );
        }
    }

    /// A product with dense weights and with all kinds of sparse ones.
    fn product(&self, m: usize, n: usize, k: usize) -> Result<(), KernelError> {
        let title = format!("product {m}x{n}x{k}");
        if !title.contains(&self.filter) {
            return Ok(());
        }
        let args = dense(m, n, k);
        let (a, b) = (Floats::new(m * k), Floats::new(packed_gemm_len(k, n).unwrap_or(0)));
        let mut outs = [(); 5].map(|()| Floats::new(m * n));
        let mut panels = Sparse::new(&SparseMatrix::product(PANELS, k, n))?;
        let mut columns = Sparse::new(&SparseMatrix::product(Sparsity::Columns, k, n))?;
        let (mut half, mut tenth) = (Scattered::new(k, n, 2)?, Scattered::new(k, n, 10)?);
        let bytes = [b.0.len(), panels.bytes(), columns.bytes(), half.bytes(), tenth.bytes()];
        let [out0, out1, out2, out3, out4] = outs.each_mut().map(|out| SharedMut::new(out.get_mut()));
        let run =
            |b: MatB, out: &SharedMut<f32>| matmul(&self.kernels, &args, a.get(), b, None, out, Part::WHOLE);
        let times = interleaved(
            self.seconds,
            &mut [
                Box::new(|| run(MatB::Packed(b.get()), &out0)),
                Box::new(|| run(MatB::Sparse(panels.operand()), &out1)),
                Box::new(|| run(MatB::Sparse(columns.operand()), &out2)),
                Box::new(|| run(MatB::Scattered(half.operand()), &out3)),
                Box::new(|| run(MatB::Scattered(tenth.operand()), &out4)),
            ],
        )?;
        let flops = 2.0 * (m * n * k) as f64;
        let flops = [flops, flops / 2.0, flops / 2.0, flops, flops];
        let work: Vec<_> = flops.into_iter().zip(bytes).collect();
        self.report(&title, &["dense", "panels", "columns", "1 of 2", "1 of 10"], &work, &times);
        Ok(())
    }

    /// A product with weights of rank `r` as two products.
    fn low_rank(&self, m: usize, n: usize, k: usize, r: usize) -> Result<(), KernelError> {
        let saved = (n * k) as f64 / (r * (n + k)) as f64;
        let title = format!("product {m}x{n}x{k}, rank {r}: {saved:.2} times fewer bytes");
        if !title.contains(&self.filter) {
            return Ok(());
        }
        let (a, b) = (Floats::new(m * k), Floats::new(packed_gemm_len(k, n).unwrap_or(0)));
        let u = Floats::new(packed_gemm_len(k, r).unwrap_or(0));
        let v = Floats::new(packed_gemm_len(r, n).unwrap_or(0));
        let (mut between, mut out0, mut out1) = (Floats::new(m * r), Floats::new(m * n), Floats::new(m * n));
        let (out0, out1) = (SharedMut::new(out0.get_mut()), SharedMut::new(out1.get_mut()));
        let run = |args: &MatMulArgs, a: &[f32], b: &[f32], out: &SharedMut<f32>| {
            matmul(&self.kernels, args, a, MatB::Packed(b), None, out, Part::WHOLE)
        };
        let times = interleaved(
            self.seconds,
            &mut [
                Box::new(|| run(&dense(m, n, k), a.get(), b.get(), &out0)),
                Box::new(|| {
                    run(&dense(m, r, k), a.get(), u.get(), &SharedMut::new(between.get_mut()))?;
                    run(&dense(m, n, r), between.get(), v.get(), &out1)
                }),
            ],
        )?;
        let work =
            [(2.0 * (m * n * k) as f64, b.0.len()), (2.0 * (m * r * (n + k)) as f64, u.0.len() + v.0.len())];
        self.report(&title, &["dense", "two steps"], &work, &times);
        Ok(())
    }

    /// A convolution that keeps the size, the padding being part of the input.
    fn convolution(&self, size: usize, channels: usize, kernel: usize) -> Result<(), KernelError> {
        let title = format!("convolution {kernel}x{kernel} {size}x{size}x{channels}");
        if !title.contains(&self.filter) {
            return Ok(());
        }
        let in_size = [size + kernel - 1; 2];
        let args = ConvArgs {
            batch: 1,
            in_size,
            channels,
            m: channels,
            kernel: [kernel; 2],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 1,
            x: Pixels::dense(in_size, channels),
            out: Pixels::dense([size; 2], channels),
            limits: None,
        };
        let foot = args.footprint()?;
        let (x, w) = (Floats::new(foot.x.len()), Floats::new(packed_conv_len(&args.weights()).unwrap_or(0)));
        let (mut out0, mut out1) = (Floats::new(foot.out.len()), Floats::new(foot.out.len()));
        let (out0, out1) = (SharedMut::new(out0.get_mut()), SharedMut::new(out1.get_mut()));
        let mut panels = Sparse::new(&SparseMatrix::conv(PANELS, &args.weights())?)?;
        let bytes = [w.0.len(), panels.bytes()];
        let run =
            |b: ConvB, out: &SharedMut<f32>| conv(&self.kernels, &args, x.get(), b, None, out, Part::WHOLE);
        let times = interleaved(
            self.seconds,
            &mut [
                Box::new(|| run(ConvB::Packed(w.get()), &out0)),
                Box::new(|| run(ConvB::Sparse(panels.operand()), &out1)),
            ],
        )?;
        let flops = 2.0 * (size * size * channels * channels * kernel * kernel) as f64;
        let work = [(flops, bytes[0]), (flops / 2.0, bytes[1])];
        self.report(&title, &["dense", "panels"], &work, &times);
        Ok(())
    }
}

/// GFLOP/s of multiply-adds in registers, and GB/s of reading 256 MB.
fn limits(isa: Isa) -> Result<(f64, f64), KernelError> {
    let mut peak = 0.0f64;
    for _ in 0..20 {
        let start = Instant::now();
        let done = probe::multiply_adds(isa, 200_000)?;
        peak = peak.max(done as f64 / start.elapsed().as_secs_f64() * 1e-9);
    }
    let data = vec![1u64; 32 << 20];
    let mut read = 0.0f64;
    for _ in 0..4 {
        let start = Instant::now();
        let sum = data.chunks_exact(8).fold([0u64; 8], |mut sum, chunk| {
            sum.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
            sum
        });
        std::hint::black_box(sum);
        read = read.max((data.len() * 8) as f64 / start.elapsed().as_secs_f64() * 1e-9);
    }
    Ok((peak, read))
}

fn main() -> Result<(), KernelError> {
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse::<f64>().ok());
    let isa = Isa::detect();
    let filter = std::env::args().nth(2).unwrap_or_default();
    let bench = Bench { kernels: Kernels::new(isa)?, seconds: number(1).unwrap_or(0.5), filter };
    let (peak, read) = limits(isa)?;
    println!("{}: peak {peak:.1} GFLOP/s, memory {read:.1} GB/s", isa.name());
    for (m, n, k) in [
        (140, 768, 768),
        (128, 3072, 768),
        (128, 768, 3072),
        (6, 768, 768),
        (16, 768, 768),
        (512, 512, 512),
        (1, 768, 768),
        (1, 4096, 4096),
        (2, 4096, 4096),
        (4, 4096, 4096),
        (1, 8192, 8192),
    ] {
        bench.product(m, n, k)?;
    }
    for (m, n, k, r) in
        [(128, 3072, 768, 180), (128, 3072, 768, 176), (128, 768, 768, 113), (128, 768, 768, 112)]
    {
        bench.low_rank(m, n, k, r)?;
    }
    for (size, c, kernel) in [(56, 64, 3), (28, 128, 3), (14, 256, 3), (28, 256, 1)] {
        bench.convolution(size, c, kernel)?;
    }
    Ok(())
}
