//! Speed of the recurrent kernel on one thread: microseconds a step and GFLOP/s of its products. The weights are read at every step, so beyond
//! the second-level cache its memory is the bound.
#![allow(clippy::print_stdout, reason = "the table is this program's result")]

use autoglm_runtime::barrier::Barrier;
use autoglm_runtime::cpu::SharedMut;
use autoglm_runtime::cpu::kernels::{
    KernelError, Kernels, Lines, Part, RecurrentArgs, RecurrentOperands, View, Weights, recurrent,
};
use autoglm_runtime::cpu::pack::packed_gemm_len;
use autoglm_runtime::program::{Activation, Cell, Curve};
use std::time::{Duration, Instant};

/// Steps of a sequence.
const STEPS: usize = 128;

/// Least seconds of many runs of a layer.
fn seconds(kernels: &Kernels, cell: Cell, [batch, hidden]: [usize; 2]) -> Result<f64, KernelError> {
    let function = |curve| Activation { curve, alpha: 0.0, beta: 0.0 };
    let lines = |cols: usize| Lines { offset: 0, steps: [batch * cols, cols].map(usize::cast_signed) };
    let args = RecurrentArgs {
        cell,
        functions: [Curve::Sigmoid, Curve::Tanh, Curve::Tanh].map(function),
        clip: f32::INFINITY,
        reverse: false,
        steps: STEPS,
        batch,
        hidden,
        x: lines(cell.gates() * hidden),
        r: View::dense(hidden),
        h: View::dense(hidden),
        c: View::dense(hidden),
        y: Some(lines(hidden)),
    };
    let numbers = |len: usize| (0..len).map(|i| (i % 17) as f32 / 170.0 - 0.05).collect::<Vec<f32>>();
    let each = packed_gemm_len(hidden, hidden).ok_or(KernelError::Overflow)?;
    let (x, r) = (numbers(STEPS * batch * cell.gates() * hidden), numbers(cell.gates() * each));
    let (state, weights) = (numbers(batch * hidden), numbers(hidden));
    let is_lstm = matches!(cell, Cell::Lstm { .. });
    let (mut last, mut kept, mut y) = (state.clone(), state.clone(), numbers(STEPS * batch * hidden));
    let mut shared = numbers(cell.states() * batch * hidden);
    let mut scratch = numbers(args.scratch(1, true)?);
    let operands = RecurrentOperands {
        x: &x,
        r: Weights::Packed(&r),
        h: &state,
        c: &state,
        weights: (!is_lstm).then_some(&weights),
        length: &|_| STEPS,
        last: SharedMut::new(&mut last),
        cell: SharedMut::new(&mut kept),
        shared: SharedMut::new(&mut shared),
        y: SharedMut::new(&mut y),
    };
    let barrier = Barrier::default();
    let end = Instant::now() + Duration::from_millis(400);
    let mut best = f64::INFINITY;
    while Instant::now() < end {
        let start = Instant::now();
        recurrent(kernels, &args, &operands, &mut scratch, Part::WHOLE, &barrier.join(1))?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn main() -> Result<(), KernelError> {
    let kernels = Kernels::detect()?;
    println!("{}", kernels.isa().name());
    println!("| cell | rows | elements | microseconds a step | GFLOP/s |\n|---|---|---|---|---|");
    let cells = [
        ("LSTM", Cell::Lstm { input_forget: false }),
        ("GRU", Cell::Gru { linear_before_reset: false }),
        ("GRU, linear before reset", Cell::Gru { linear_before_reset: true }),
        ("RNN", Cell::Rnn),
    ];
    for (name, cell) in cells {
        for [batch, hidden] in [[1, 64], [1, 128], [1, 256], [1, 1024], [8, 256], [32, 64], [64, 512]] {
            let step = seconds(&kernels, cell, [batch, hidden])? / STEPS as f64;
            let flops = (2 * batch * cell.gates() * hidden * hidden) as f64;
            println!("| {name} | {batch} | {hidden} | {:.2} | {:.1} |", step * 1e6, flops / step * 1e-9);
        }
    }
    Ok(())
}
