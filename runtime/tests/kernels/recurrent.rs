//! Recurrent layers, whose parts run at once.

use super::{Guarded, Random, U, all_kernels, close};
use autoglm_runtime::barrier::Barrier;
use autoglm_runtime::cpu::SharedMut;
use autoglm_runtime::cpu::kernels::{
    KernelError, Kernels, Lines, Part, RecurrentArgs, RecurrentOperands, View, Weights, recurrent,
};
use autoglm_runtime::cpu::pack::{pack_gemm_b, packed_gemm_len};
use autoglm_runtime::program::{Activation, Cell, Curve};
use std::thread;

const CELLS: [Cell; 5] = [
    Cell::Lstm { input_forget: false },
    Cell::Lstm { input_forget: true },
    Cell::Gru { linear_before_reset: false },
    Cell::Gru { linear_before_reset: true },
    Cell::Rnn,
];

fn plain(curve: Curve) -> Activation {
    Activation { curve, alpha: 0.0, beta: 0.0 }
}

/// Dense operands.
fn dense(cell: Cell, [steps, batch, hidden]: [usize; 3]) -> RecurrentArgs {
    let lines = |cols: usize| Lines { offset: 0, steps: [batch * cols, cols].map(usize::cast_signed) };
    RecurrentArgs {
        cell,
        functions: match cell {
            Cell::Rnn => [plain(Curve::Tanh); 3],
            _ => [plain(Curve::Sigmoid), plain(Curve::Tanh), plain(Curve::Tanh)],
        },
        clip: f32::INFINITY,
        reverse: false,
        steps,
        batch,
        hidden,
        x: lines(cell.gates() * hidden),
        r: View::dense(hidden),
        h: View::dense(hidden),
        c: View::dense(hidden),
        y: Some(lines(hidden)),
    }
}

/// Numbers for the operands of a layer.
struct Numbers {
    x: Vec<f32>,
    r: Vec<f32>,
    h: Vec<f32>,
    c: Vec<f32>,
    weights: Option<Vec<f32>>,
    lengths: Vec<usize>,
}

impl Numbers {
    fn new(args: &RecurrentArgs, random: &mut Random) -> Self {
        let RecurrentArgs { cell, steps, batch, hidden, .. } = *args;
        let all = cell.gates() * hidden;
        // So small that rounding errors do not grow from step to step.
        let scale = 1.0 / (hidden.max(1) as f32).sqrt();
        let vector = match cell {
            Cell::Lstm { .. } => 3 * hidden,
            _ => hidden,
        };
        Self {
            x: random.floats(steps * batch * all),
            r: random.floats(all * hidden).into_iter().map(|x| x * scale).collect(),
            h: random.floats(batch * hidden),
            c: random.floats(batch * hidden),
            weights: (cell != Cell::Rnn).then(|| random.floats(vector)),
            lengths: (0..batch).map(|_| random.next() as usize % (steps + 1)).collect(),
        }
    }

    /// The weights in the kernel's layout.
    fn packed(&self, args: &RecurrentArgs) -> Vec<f32> {
        let n = args.hidden;
        let len = packed_gemm_len(n, n).unwrap();
        let mut packed = vec![0.0; args.cell.gates() * len];
        for (gate, to) in packed.chunks_exact_mut(len.max(1)).enumerate() {
            pack_gemm_b(&self.r[gate * n * n..(gate + 1) * n * n], n, n, 1, n, to).unwrap();
        }
        packed
    }
}

/// Last hidden state, last cell state and all hidden states.
type Results = [Vec<f32>; 3];

/// Runs all parts at once, with every operand between guard pages.
fn run(
    kernels: &Kernels,
    args: &RecurrentArgs,
    numbers: &Numbers,
    (count, packed, at_end): (usize, bool, bool),
) -> Result<Results, KernelError> {
    let RecurrentArgs { cell, steps, batch, hidden, .. } = *args;
    let is_lstm = matches!(cell, Cell::Lstm { .. });
    let guarded = |v: &[f32]| Guarded::new(v, at_end);
    let r = if packed { guarded(&numbers.packed(args)) } else { guarded(&numbers.r) };
    let (x, h) = (guarded(&numbers.x), guarded(&numbers.h));
    let c = guarded(if is_lstm { &numbers.c } else { &[] });
    let weights = numbers.weights.as_deref().map(guarded);
    let state = vec![f32::NAN; batch * hidden];
    let mut outs = [
        guarded(&state),
        guarded(if is_lstm { &state } else { &[] }),
        guarded(&vec![f32::NAN; if args.y.is_some() { steps * batch * hidden } else { 0 }]),
        guarded(&vec![f32::NAN; cell.states() * batch * hidden]),
    ];
    let [last, cell_state, y, shared] = outs.each_mut().map(|out| SharedMut::new(out.elements()));
    let length = |row: usize| numbers.lengths[row];
    let barrier = Barrier::default();
    let scratch = args.scratch(count, packed)?;
    let failures: Vec<Result<(), KernelError>> = thread::scope(|scope| {
        let part = |index: usize| {
            // SAFETY: the kernel's parts write disjoint elements, and read others' only after they met.
            let share =
                |out: &SharedMut<'_, f32>| unsafe { SharedMut::from_raw_parts(out.as_ptr(), out.len()) };
            let (last, cell, shared, y) = (share(&last), share(&cell_state), share(&shared), share(&y));
            let (x, h, c, r, weights, barrier) = (&*x, &*h, &*c, &*r, weights.as_deref(), &barrier);
            let r = if packed { Weights::Packed(r) } else { Weights::Strided(r) };
            move || {
                let party = barrier.join(count);
                let mut scratch = vec![f32::NAN; scratch];
                let length = &length;
                let operands = RecurrentOperands { x, r, h, c, weights, length, last, cell, shared, y };
                recurrent(kernels, args, &operands, &mut scratch, Part { index, count }, &party)
            }
        };
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(part(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    failures.into_iter().collect::<Result<(), _>>()?;
    let [last, cell, y, _] = &outs;
    Ok([last, cell, y].map(|out| out.to_vec()))
}

fn applied(function: Activation, clip: f32, x: f64) -> f64 {
    let x = x.clamp(-f64::from(clip), f64::from(clip));
    match function.curve {
        Curve::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Curve::Tanh => x.tanh(),
        other => panic!("{other:?}"),
    }
}

/// The equations in f64.
fn naive(args: &RecurrentArgs, numbers: &Numbers) -> [Vec<f64>; 3] {
    let RecurrentArgs { cell, steps, batch, hidden: n, clip, .. } = *args;
    let f = |i: usize, x: f64| applied(args.functions[i], if i == 2 { f32::INFINITY } else { clip }, x);
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let (mut h, mut c, mut y) = (wide(&numbers.h), wide(&numbers.c), vec![0.0; steps * batch * n]);
    let w = numbers.weights.as_deref().map(wide).unwrap_or_default();
    for row in 0..batch {
        let length = numbers.lengths[row];
        for step in 0..length {
            let t = if args.reverse { length - 1 - step } else { step };
            let x = |gate: usize, j: usize| {
                f64::from(numbers.x[(t * batch + row) * cell.gates() * n + gate * n + j])
            };
            let product = |gate: usize, j: usize, state: &[f64]| {
                let weights = &numbers.r[(gate * n + j) * n..(gate * n + j + 1) * n];
                weights.iter().zip(state).map(|(w, h)| f64::from(*w) * h).sum::<f64>()
            };
            let old = h[row * n..(row + 1) * n].to_vec();
            let sum = |gate: usize, j: usize| x(gate, j) + product(gate, j, &old);
            let reset: Vec<f64> = match cell {
                Cell::Gru { .. } => (0..n).map(|j| f(0, sum(1, j)) * old[j]).collect(),
                _ => Vec::new(),
            };
            for j in 0..n {
                let at = row * n + j;
                h[at] = match cell {
                    Cell::Rnn => f(0, sum(0, j)),
                    Cell::Lstm { input_forget } => {
                        let i = f(0, sum(0, j) + w[j] * c[at]);
                        let forget =
                            if input_forget { 1.0 - i } else { f(0, sum(2, j) + w[2 * n + j] * c[at]) };
                        c[at] = forget * c[at] + i * f(1, sum(3, j));
                        f(0, sum(1, j) + w[n + j] * c[at]) * f(2, c[at])
                    }
                    Cell::Gru { linear_before_reset } => {
                        let share = if linear_before_reset {
                            f(0, sum(1, j)) * (product(2, j, &old) + w[j])
                        } else {
                            product(2, j, &reset)
                        };
                        let z = f(0, sum(0, j));
                        (1.0 - z) * f(1, x(2, j) + share) + z * old[j]
                    }
                };
                y[(t * batch + row) * n + j] = h[at];
            }
        }
    }
    [h, c, y]
}

/// Compares with the equations; any number of parts gives the same bits.
fn check(args: &RecurrentArgs, random: &mut Random) {
    let numbers = Numbers::new(args, random);
    let wants = naive(args, &numbers);
    for kernels in all_kernels() {
        let mut first: Option<Results> = None;
        for count in [1, 2, 3, 5] {
            for packed in [true, false] {
                let found = run(&kernels, args, &numbers, (count, packed, count % 2 == 0)).unwrap();
                if let Some(first) = &first {
                    let same = first
                        .iter()
                        .flatten()
                        .zip(found.iter().flatten())
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{count} parts give another result: {args:?}");
                    continue;
                }
                for (i, (found, want)) in found.iter().zip(&wants).enumerate() {
                    for (j, (found, want)) in found.iter().zip(want).enumerate() {
                        let bound = 100.0 * U * args.steps.max(1) as f64;
                        close(*found, *want, bound, &|| format!("result {i}, element {j}: {args:?}"));
                    }
                }
                first = Some(found);
            }
        }
    }
}

#[test]
fn recurrent_matches_its_equations() {
    let mut random = Random::new(41);
    for cell in CELLS {
        for hidden in [1, 7, 32, 33, 100] {
            for [steps, batch] in [[1, 1], [5, 3], [3, 70]] {
                let args = dense(cell, [steps, batch, hidden]);
                check(&args, &mut random);
                check(&RecurrentArgs { reverse: true, clip: 0.5, ..args }, &mut random);
                check(&RecurrentArgs { y: None, ..args }, &mut random);
            }
        }
        for extents in [[0, 2, 3], [4, 0, 3], [4, 2, 0]] {
            check(&dense(cell, extents), &mut random);
        }
    }
}

/// Operands that are longer than what is read of them, with other distances.
#[test]
fn recurrent_reads_and_writes_through_strides() {
    let mut random = Random::new(43);
    let kernels = all_kernels();
    for cell in CELLS {
        let args = dense(cell, [4, 3, 9]);
        let mut numbers = Numbers::new(&args, &mut random);
        let want = run(&kernels[0], &args, &numbers, (2, false, true)).unwrap();
        let all = cell.gates() * 9;
        // The batch comes first; states are stored by columns, the weights transposed.
        let turned = |v: &[f32], [a, b, c]: [usize; 3]| -> Vec<f32> {
            (0..a * b * c).map(|i| v[((i / c) % a) * b * c + i / (a * c) * c + i % c]).collect()
        };
        let strided = RecurrentArgs {
            x: Lines { offset: 0, steps: [all, 4 * all].map(usize::cast_signed) },
            y: Some(Lines { offset: 0, steps: [9, 36] }),
            h: View { offset: 0, row: 1, col: 3 },
            c: View { offset: 0, row: 1, col: 3 },
            r: View { offset: 0, row: 1, col: all.cast_signed() },
            ..args
        };
        numbers.x = turned(&numbers.x, [4, 3, all]);
        numbers.h = turned(&numbers.h, [3, 9, 1]);
        numbers.c = turned(&numbers.c, [3, 9, 1]);
        numbers.r = turned(&numbers.r, [all, 9, 1]);
        for count in [1, 3] {
            let found = run(&kernels[0], &strided, &numbers, (count, false, false)).unwrap();
            assert_eq!(found[..2], want[..2], "{cell:?}");
            assert_eq!(found[2], turned(&want[2], [4, 3, 9]), "{cell:?}");
        }
    }
}

#[test]
fn recurrent_refuses_what_does_not_fit() {
    let mut random = Random::new(47);
    let kernels = all_kernels()[0];
    for cell in CELLS {
        let args = dense(cell, [2, 3, 5]);
        let numbers = || Numbers::new(&args, &mut Random::new(1));
        let refused = |args: &RecurrentArgs, numbers: &Numbers, packed: bool| {
            run(&kernels, args, numbers, (2, packed, true)).is_err()
        };
        assert!(!refused(&args, &numbers(), true) && !refused(&args, &numbers(), false));
        for short in 0..4 {
            let mut numbers = numbers();
            let lost = [&mut numbers.x, &mut numbers.r, &mut numbers.h, &mut numbers.c][short].pop();
            assert!(lost.is_some());
            let matters = short < 3 || matches!(cell, Cell::Lstm { .. });
            assert_eq!(refused(&args, &numbers, false), matters, "{cell:?} {short}");
        }
        let mut bare = numbers();
        bare.weights = None;
        assert_eq!(refused(&args, &bare, false), cell == Cell::Gru { linear_before_reset: true });
        let overlapping = Some(Lines { offset: 0, steps: [3, 5] });
        assert!(refused(&RecurrentArgs { y: overlapping, ..args }, &numbers(), true));
        let outside = View { offset: 0, row: -1, col: 1 };
        assert!(refused(&RecurrentArgs { h: outside, ..args }, &numbers(), true));
        let huge = usize::MAX / 2;
        let numbers = Numbers::new(&args, &mut random);
        for args in [
            RecurrentArgs { hidden: huge, ..args },
            RecurrentArgs { batch: huge, ..args },
            RecurrentArgs { steps: huge, ..args },
        ] {
            assert!(args.footprint().is_err() || refused_whole(&kernels, &args, &numbers), "{args:?}");
        }
    }
}

/// Whether operands without outputs are refused.
fn refused_whole(kernels: &Kernels, args: &RecurrentArgs, numbers: &Numbers) -> bool {
    let none = || SharedMut::new(&mut []);
    let operands = RecurrentOperands {
        x: &numbers.x,
        r: Weights::Strided(&numbers.r),
        h: &numbers.h,
        c: &numbers.c,
        weights: numbers.weights.as_deref(),
        length: &|_| 1,
        last: none(),
        cell: none(),
        shared: none(),
        y: none(),
    };
    let barrier = Barrier::default();
    recurrent(kernels, args, &operands, &mut [], Part::WHOLE, &barrier.join(1)).is_err()
}
