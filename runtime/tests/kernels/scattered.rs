//! Products and convolutions with weights that are stored without zeros, against those with dense weights, bit for bit.

use super::{Guarded, Random, all_kernels, in_parts};
use autoglm_runtime::cpu::SharedMut;
use autoglm_runtime::cpu::kernels::{
    ConvArgs, ConvB, KernelError, Kernels, MatB, MatMulArgs, Part, Pixels, RowView, SCATTERED_SCRATCH,
    ScatteredB, View, conv, matmul,
};
use autoglm_runtime::cpu::pack::{pack_conv, pack_gemm_b, packed_conv_len, packed_gemm_len};
use autoglm_runtime::cpu::scattered::{codes_len, pack_scattered};

/// Values and codes between guard pages.
struct Weights {
    values: Guarded,
    codes: Guarded,
}

impl Weights {
    fn new(values: &[f32], codes: &[u32]) -> Self {
        let words: Vec<f32> = codes.iter().map(|&word| f32::from_bits(word)).collect();
        Self { values: Guarded::new(values, true), codes: Guarded::new(&words, true) }
    }

    fn operand<'a>(&'a self, scratch: &'a mut Guarded) -> ScatteredB<'a> {
        // SAFETY: every bit pattern is a word, of the same size and alignment.
        let codes = unsafe { self.codes.align_to::<u32>() }.1;
        ScatteredB { values: &self.values, codes, scratch: scratch.elements() }
    }
}

fn scratch() -> Guarded {
    Guarded::new(&vec![f32::NAN; SCATTERED_SCRATCH], true)
}

/// Floats of which one in `every` is not zero; negative zeros among them.
fn thinned(random: &mut Random, len: usize, every: u64) -> Vec<f32> {
    let zero = [0.0, -0.0];
    (0..len)
        .map(
            |i| {
                if random.next().is_multiple_of(every) {
                    random.float()
                } else {
                    zero[usize::from(i % 7 == 0)]
                }
            },
        )
        .collect()
}

fn dense(m: usize, k: usize, n: usize) -> MatMulArgs<'static> {
    let (a, b, out) = (View::dense(k), View::dense(n), RowView::dense(n));
    MatMulArgs { batch: &[], m, k, n, a, b, out, limits: None }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn product(kernels: &Kernels, args: &MatMulArgs, a: &[f32], b: &Weights) -> Vec<f32> {
    in_parts(args.m * args.n, |out, part| {
        let mut scratch = scratch();
        matmul(kernels, args, a, MatB::Scattered(b.operand(&mut scratch)), None, out, part)
    })
}

#[test]
fn products_are_those_of_dense_weights() {
    let mut random = Random::new(5);
    for (m, k, n) in [
        (0, 3, 5),
        (1, 0, 4),
        (1, 1, 1),
        (1, 77, 95),
        (3, 1030, 64),
        (5, 40, 33),
        (6, 9, 31),
        (29, 513, 40),
        (97, 130, 70),
    ] {
        for every in [1, 2, 10, 1000] {
            let (mut a, w) = (random.floats(m * k), thinned(&mut random, k * n, every));
            // What is not stored is a factor too.
            if every == 2 && m * k > 3 {
                a[m * k / 2] = f32::INFINITY;
            }
            let (values, codes) = pack_scattered(k, n, |i, j| w[i * n + j]).unwrap();
            let stored = Weights::new(&values, &codes);
            let mut packed = vec![0.0; packed_gemm_len(k, n).unwrap()];
            pack_gemm_b(&w, k, n, n, 1, &mut packed).unwrap();
            for kernels in all_kernels() {
                let args = dense(m, k, n);
                let want = in_parts(m * n, |out, part| {
                    matmul(&kernels, &args, &a, MatB::Packed(&packed), None, out, part)
                });
                let got = product(&kernels, &args, &a, &stored);
                assert_eq!(bits(&got), bits(&want), "{} {m}x{k}x{n}, 1 of {every}", kernels.isa().name());
            }
        }
    }
}

#[test]
fn convolutions_are_those_of_dense_weights() {
    let mut random = Random::new(6);
    for (channels, m, kernel) in [(3, 5, [1, 1]), (20, 33, [3, 3]), (300, 40, [3, 2]), (600, 32, [1, 2])] {
        let in_size = [5, 7];
        let args = ConvArgs {
            batch: 2,
            in_size,
            channels,
            m,
            kernel,
            stride: [1, 2],
            dilation: [1, 1],
            groups: 1,
            x: Pixels::dense(in_size, channels),
            out: Pixels { offset: 0, steps: [0; 3] },
            limits: None,
        };
        let size = args.out_size().unwrap();
        let args = ConvArgs { out: Pixels::dense(size, m), ..args };
        let len = args.footprint().unwrap().out.len();
        let x = random.floats(2 * in_size[0] * in_size[1] * channels);
        let taps = kernel[0] * kernel[1];
        let w = thinned(&mut random, m * channels * taps, 4);
        let shape = args.weights();
        let mut packed = vec![0.0; packed_conv_len(&shape).unwrap()];
        pack_conv(&w, &shape, &mut packed).unwrap();
        let at = |row: usize, column: usize| w[(column * channels + row % channels) * taps + row / channels];
        let (values, codes) = pack_scattered(taps * channels, m, at).unwrap();
        let stored = Weights::new(&values, &codes);
        for kernels in all_kernels() {
            let want =
                in_parts(len, |out, part| conv(&kernels, &args, &x, ConvB::Packed(&packed), None, out, part));
            let got = in_parts(len, |out, part| {
                let mut scratch = scratch();
                conv(&kernels, &args, &x, ConvB::Scattered(stored.operand(&mut scratch)), None, out, part)
            });
            assert_eq!(bits(&got), bits(&want), "{} {args:?}", kernels.isa().name());
        }
    }
}

#[test]
fn no_codes_lead_outside() {
    let mut random = Random::new(7);
    for (k, n, stored) in [(40, 33, 0), (530, 64, 3), (9, 32, 1000)] {
        let a = random.floats(2 * k);
        for shift in [0, 20, 31] {
            let values = random.floats(stored + 32);
            let word = |random: &mut Random| (random.next() << 16 ^ random.next()) as u32 >> shift;
            let codes: Vec<u32> = (0..codes_len(k, n).unwrap()).map(|_| word(&mut random)).collect();
            let stored = Weights::new(&values, &codes);
            for kernels in all_kernels() {
                assert_eq!(product(&kernels, &dense(2, k, n), &a, &stored).len(), 2 * n);
            }
        }
    }
}

#[test]
fn operands_that_are_too_short_are_refused() {
    let kernels = Kernels::detect().unwrap();
    let run = |values: usize, codes: usize, room: usize| {
        let stored = Weights::new(&vec![1.0; values], &vec![0; codes]);
        let (mut scratch, mut out) = (Guarded::new(&vec![0.0; room], true), [0.0; 6]);
        let b = MatB::Scattered(stored.operand(&mut scratch));
        matmul(&kernels, &dense(2, 8, 3), &[1.0; 16], b, None, &SharedMut::new(&mut out), Part::WHOLE)
    };
    assert_eq!(run(32, 9, SCATTERED_SCRATCH), Ok(()));
    for (values, codes, room) in [(31, 9, 0), (32, 8, 0), (32, 9, 1)] {
        let refused = run(values, codes, SCATTERED_SCRATCH - room);
        assert!(matches!(refused, Err(KernelError::Footprint { .. })), "{refused:?}");
    }
}
