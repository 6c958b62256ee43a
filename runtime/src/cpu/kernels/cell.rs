//! What a step of a recurrent layer does with the sums of its gates. The loops are plain: the compiler vectorises them for each
//! instruction set.

use crate::program::{Activation, Curve};
use crate::tile::math::m32;

/// A function applied to `len` elements in place, after their clipping.
pub struct CurveRow {
    pub(crate) x: *mut f32,
    pub(crate) len: usize,
    pub(crate) function: Activation,
    /// Infinity for none.
    pub(crate) clip: f32,
}

/// # Safety
/// `len` elements of `x` are valid for reading and writing, and nobody else uses them.
#[inline(always)]
pub(crate) unsafe fn curve_row(row: &CurveRow) {
    // SAFETY: the caller's promise.
    let x = unsafe { std::slice::from_raw_parts_mut(row.x, row.len) };
    let Activation { curve, alpha, beta } = row.function;
    let clip = row.clip;
    if clip != f32::INFINITY {
        map(x, |x| clamp(x, -clip, clip));
    }
    match curve {
        Curve::Sigmoid => map(x, m32::sigmoid),
        Curve::Tanh => map(x, m32::tanh),
        Curve::Relu => map(x, |x| if x < 0.0 { 0.0 } else { x }),
        Curve::HardSigmoid => map(x, |x| clamp(alpha * x + beta, 0.0, 1.0)),
        Curve::Affine => map(x, |x| alpha * x + beta),
        Curve::LeakyRelu => map(x, |x| if x < 0.0 { alpha * x } else { x }),
        Curve::ThresholdedRelu => map(x, |x| if x < alpha { 0.0 } else { x }),
        Curve::ScaledTanh => map(x, |x| alpha * m32::tanh(beta * x)),
        Curve::Elu => map(x, |x| if x < 0.0 { alpha * (m32::exp(x) - 1.0) } else { x }),
        Curve::Softsign => map(x, |x| x / (1.0 + x.abs())),
        Curve::Softplus => map(x, |x| clamp(x, 0.0, f32::INFINITY) + m32::log(1.0 + m32::exp(-x.abs()))),
    }
}

#[inline(always)]
fn map(x: &mut [f32], f: impl Fn(f32) -> f32) {
    x.iter_mut().for_each(|x| *x = f(*x));
}

/// `x` within bounds; NaN stays.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// What is computed of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// The next states of an LSTM.
    Lstm { input_forget: bool },
    /// The next state of a GRU whose reset gate scales the product.
    Gru,
    /// The update gate of a GRU, and the state that its reset gate scales.
    GruGates,
    /// The next state of a GRU from the product of the scaled state.
    GruCandidate,
    /// The next state of a plain layer.
    Rnn,
}

/// Neighbouring elements of a row's state, at one step.
pub struct CellRow<'a> {
    pub(crate) update: Update,
    /// Applies a function.
    pub(crate) curve: unsafe fn(&CurveRow),
    pub(crate) functions: &'a [Activation; 3],
    pub(crate) clip: f32,
    pub(crate) cols: usize,
    /// The input's share of the first gate; the next gate's is this far away.
    pub(crate) x: *const f32,
    pub(crate) x_step: usize,
    /// The products of the first gate with the state, which are overwritten; the next gate's are this far away.
    pub(crate) sums: *mut f32,
    pub(crate) sums_step: usize,
    /// Peephole weights of the first gate that has them, a state apart, or the bias of the candidate; null for none.
    pub(crate) weights: *const f32,
    pub(crate) hidden: usize,
    /// The hidden state before.
    pub(crate) h: *const f32,
    /// The hidden state after; not used for [`Update::GruGates`].
    pub(crate) next: *mut f32,
    /// The cell state of an LSTM; the update gate between the two halves of a GRU's step.
    pub(crate) kept: *mut f32,
    /// The scaled state, for [`Update::GruGates`].
    pub(crate) reset: *mut f32,
}

/// # Safety
/// `cols` elements of each operand that the update names are valid, for writing where the pointer is `mut`; nobody else uses
/// those or writes the others, and no two operands overlap. `curve` can run here.
#[inline(always)]
pub(crate) unsafe fn cell_row(row: &CellRow<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match row.update {
            Update::Lstm { input_forget } => lstm(row, input_forget),
            Update::Gru => gru(row),
            Update::GruGates => gru_gates(row),
            Update::GruCandidate => gru_candidate(row),
            Update::Rnn => {
                let sums = row.with_input(0);
                row.apply(0, sums);
                row.written(row.next).copy_from_slice(sums);
            }
        }
    }
}

impl CellRow<'_> {
    /// # Safety
    /// `cols` elements from `p` are valid, and nobody writes them.
    #[inline(always)]
    unsafe fn read<'r>(&self, p: *const f32) -> &'r [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(p, self.cols) }
    }

    /// # Safety
    /// `cols` elements from `p` are valid, and nobody else uses them.
    #[inline(always)]
    unsafe fn written<'r>(&self, p: *mut f32) -> &'r mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(p, self.cols) }
    }

    /// The products of a gate.
    ///
    /// # Safety
    /// As for [`cell_row`]; one slice of each gate at a time.
    #[inline(always)]
    unsafe fn sums<'r>(&self, gate: usize) -> &'r mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.written(self.sums.add(gate * self.sums_step)) }
    }

    /// The products of a gate with the input's share added.
    ///
    /// # Safety
    /// As for [`Self::sums`].
    #[inline(always)]
    unsafe fn with_input<'r>(&self, gate: usize) -> &'r mut [f32] {
        // SAFETY: the caller's promise.
        let (sums, x) = unsafe { (self.sums(gate), self.read(self.x.add(gate * self.x_step))) };
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        sums
    }

    /// Adds the share of the cell state, if it has one.
    ///
    /// # Safety
    /// As for [`cell_row`].
    #[inline(always)]
    unsafe fn peep(&self, gate: usize, sums: &mut [f32], c: &[f32]) {
        if self.weights.is_null() {
            return;
        }
        // SAFETY: the caller's promise.
        let weights = unsafe { self.read(self.weights.add(gate * self.hidden)) };
        for ((sum, weight), c) in sums.iter_mut().zip(weights).zip(c) {
            *sum += weight * c;
        }
    }

    /// Applies a function to elements.
    ///
    /// # Safety
    /// As for [`cell_row`].
    #[inline(always)]
    unsafe fn apply(&self, function: usize, x: &mut [f32]) {
        // That of the cell state sees all of it.
        let clip = if function == 2 { f32::INFINITY } else { self.clip };
        let function = self.functions[function];
        // SAFETY: the caller's promise; the elements are borrowed.
        unsafe { (self.curve)(&CurveRow { x: x.as_mut_ptr(), len: x.len(), function, clip }) }
    }
}

/// # Safety
/// As for [`cell_row`].
#[inline(always)]
unsafe fn lstm(row: &CellRow<'_>, input_forget: bool) {
    // SAFETY: the caller's promise; every operand is taken once.
    unsafe {
        let (c, next) = (row.written(row.kept), row.written(row.next));
        let (i, o, f, g) = (row.with_input(0), row.with_input(1), row.with_input(2), row.with_input(3));
        row.peep(0, i, c);
        row.apply(0, i);
        if input_forget {
            f.iter_mut().zip(&*i).for_each(|(f, i)| *f = 1.0 - i);
        } else {
            row.peep(2, f, c);
            row.apply(0, f);
        }
        row.apply(1, g);
        for (((c, f), i), g) in c.iter_mut().zip(&*f).zip(&*i).zip(&*g) {
            *c = f * *c + i * g;
        }
        row.peep(1, o, c);
        row.apply(0, o);
        next.copy_from_slice(c);
        row.apply(2, next);
        next.iter_mut().zip(&*o).for_each(|(next, o)| *next *= o);
    }
}

/// # Safety
/// As for [`cell_row`].
#[inline(always)]
unsafe fn gru(row: &CellRow<'_>) {
    // SAFETY: the caller's promise; every operand is taken once.
    unsafe {
        let (z, r, g) = (row.with_input(0), row.with_input(1), row.sums(2));
        row.apply(0, z);
        row.apply(0, r);
        let (bias, x) = (row.read(row.weights), row.read(row.x.add(2 * row.x_step)));
        for (((g, r), bias), x) in g.iter_mut().zip(&*r).zip(bias).zip(x) {
            *g = r * (*g + bias) + x;
        }
        row.apply(1, g);
        mix(row.written(row.next), z, g, row.read(row.h));
    }
}

/// # Safety
/// As for [`cell_row`].
#[inline(always)]
unsafe fn gru_gates(row: &CellRow<'_>) {
    // SAFETY: the caller's promise; every operand is taken once.
    unsafe {
        let (z, r) = (row.with_input(0), row.with_input(1));
        row.apply(0, z);
        row.apply(0, r);
        row.written(row.kept).copy_from_slice(z);
        for ((reset, r), h) in row.written(row.reset).iter_mut().zip(&*r).zip(row.read(row.h)) {
            *reset = r * h;
        }
    }
}

/// # Safety
/// As for [`cell_row`].
#[inline(always)]
unsafe fn gru_candidate(row: &CellRow<'_>) {
    // SAFETY: the caller's promise; every operand is taken once.
    unsafe {
        let g = row.with_input(2);
        row.apply(1, g);
        mix(row.written(row.next), row.read(row.kept), g, row.read(row.h));
    }
}

/// `next = (1 - z) * g + z * h`
#[inline(always)]
fn mix(next: &mut [f32], z: &[f32], g: &[f32], h: &[f32]) {
    for (((next, z), g), h) in next.iter_mut().zip(z).zip(g).zip(h) {
        *next = (1.0 - z) * g + z * h;
    }
}
