//! Matrix multiplication over strided batches.

use super::gemm::{Batch, CHUNK, Gemm, Operand, Rows};
use super::scattered::ScatteredB;
use super::sparse::SparseB;
use super::table::Kernels;
use super::tile::Taps;
use super::view::{RowView, View};
use super::{KernelError, Limits, Part, Stage, distinct, holds, optional, product, span};
use crate::cpu::pack::{PANEL, packed_gemm_len};
use crate::cpu::shared::SharedMut;
use crate::cpu::sparse::SparseMatrix;
use std::ops::Range;

/// Elements of scratch that [`MatB::Strided`] needs, whatever the sizes.
pub const MATMUL_SCRATCH: usize = CHUNK * PANEL;

/// A batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchDim {
    /// Extent.
    pub extent: usize,
    /// Stride of A.
    pub a: isize,
    /// Stride of B; not used when B is packed or sparse.
    pub b: isize,
    /// Stride of the output.
    pub out: isize,
}

/// `out[batch.., i, j] = sum_k a[batch.., i, k] * b[batch.., k, j] + bias[j]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatMulArgs<'a> {
    /// Batch dimensions, outermost first.
    pub batch: &'a [BatchDim],
    /// Rows.
    pub m: usize,
    /// Inner extent.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// A: rows are m, columns k.
    pub a: View,
    /// B: rows are k, columns n. Not used when B is packed or sparse.
    pub b: View,
    /// The output; its elements are distinct.
    pub out: RowView,
    /// Of the result, after the bias.
    pub limits: Option<Limits>,
}

/// The second matrix.
pub enum MatB<'a> {
    /// In the layout `[ceil(n/32)][k][32]` of [`crate::cpu::pack`], shared by the whole batch.
    Packed(&'a [f32]),
    /// As the arguments' view says.
    Strided {
        /// The elements.
        data: &'a [f32],
        /// Room for [`MATMUL_SCRATCH`] elements, this part's own.
        scratch: &'a mut [f32],
    },
    /// Stored in part, as [`crate::cpu::sparse`] says, and shared by the whole batch.
    Sparse(SparseB<'a>),
    /// Stored without zeros, as [`crate::cpu::scattered`] says, and shared by the whole batch.
    Scattered(ScatteredB<'a>),
}

/// The elements that a matrix multiplication touches; packed B and bias are read from their start to this end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatMulFootprint {
    /// Of A.
    pub a: Range<usize>,
    /// Of strided B.
    pub b: Range<usize>,
    /// Of packed B.
    pub b_packed: Range<usize>,
    /// Of the output.
    pub out: Range<usize>,
    /// Batches.
    batches: usize,
}

impl MatMulArgs<'_> {
    /// What is read and written.
    pub fn footprint(&self) -> Result<MatMulFootprint, KernelError> {
        let batches = self.batch.iter().try_fold(1, |all, dim| product(&[all, dim.extent]))?;
        let of = |operand, view: View, rows, cols, stride: fn(&BatchDim) -> isize| {
            let inner = [(rows, view.row), (cols, view.col)].into_iter();
            span(operand, view.offset, self.batch.iter().map(|d| (d.extent, stride(d))).chain(inner))
        };
        let (m, k, n) = (self.m, self.k, self.n);
        let reads = product(&[batches, m, n])? > 0;
        let row = View { offset: self.out.offset, row: self.out.row, col: 1 };
        let out = if reads { of("out", row, m, n, |d| d.out)? } else { 0..0 };
        if reads {
            let lines = self.batch.iter().map(|d| (d.extent, d.out)).chain([(m, row.row), (n, 1)]);
            distinct(lines)?;
        }
        Ok(MatMulFootprint {
            a: if reads { of("a", self.a, m, k, |d| d.a)? } else { 0..0 },
            b: if reads { of("b", self.b, k, n, |d| d.b)? } else { 0..0 },
            b_packed: 0..if reads { packed_gemm_len(k, n).ok_or(KernelError::Overflow)? } else { 0 },
            out,
            batches,
        })
    }
}

/// Runs one part of a matrix multiplication. `bias` has n elements.
pub fn matmul(
    kernels: &Kernels,
    args: &MatMulArgs,
    a: &[f32],
    b: MatB,
    bias: Option<&[f32]>,
    out: &SharedMut<f32>,
    part: Part,
) -> Result<(), KernelError> {
    holds("out", &args.footprint()?.out, out.len())?;
    checked(kernels, args, (a, b, bias), Ok(out), part)
}

/// As [`matmul`], with the result given to a stage, whose step is that of n columns.
pub fn matmul_staged(
    kernels: &Kernels,
    args: &MatMulArgs,
    a: &[f32],
    b: MatB,
    bias: Option<&[f32]>,
    stage: Stage<'_>,
    part: Part,
) -> Result<(), KernelError> {
    stage.check(args.n)?;
    checked(kernels, args, (a, b, bias), Err(stage), part)
}

/// Runs one part into an output that holds the footprint, or into a stage that was checked.
fn checked(
    kernels: &Kernels,
    args: &MatMulArgs,
    (a, b, bias): (&[f32], MatB, Option<&[f32]>),
    to: Result<&SharedMut<f32>, Stage<'_>>,
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let foot = args.footprint()?;
    holds("a", &foot.a, a.len())?;
    if let Some(bias) = bias {
        holds("bias", &(0..args.n), bias.len())?;
    }
    let b = match b {
        MatB::Packed(data) => {
            holds("packed b", &foot.b_packed, data.len())?;
            Operand::Packed(data.as_ptr())
        }
        MatB::Strided { data, scratch } => {
            holds("b", &foot.b, data.len())?;
            holds("scratch", &(0..MATMUL_SCRATCH), scratch.len())?;
            let data = data.as_ptr().wrapping_add(if args.k == 0 { 0 } else { args.b.offset });
            Operand::Strided { data, row: args.b.row, col: args.b.col, scratch: scratch.as_mut_ptr() }
        }
        MatB::Sparse(b) => {
            let matrix = SparseMatrix::product(b.sparsity, args.k, args.n);
            Operand::Sparse(b.resolve(kernels, args.m, &matrix, !foot.out.is_empty())?)
        }
        MatB::Scattered(b) => Operand::Scattered(b.resolve(kernels, args.k, args.n)?),
    };
    if foot.out.is_empty() {
        return Ok(());
    }
    let low = args.m <= kernels.gemm_low.tiles.len();
    let gemm = Gemm {
        turn: kernels.turn,
        kernel: if low { kernels.gemm_low } else { kernels.gemm },
        m: args.m,
        n: args.n,
        depth: args.k,
        taps: Taps::ONE,
        a: a.as_ptr().wrapping_add(if args.k == 0 { 0 } else { args.a.offset }),
        a_step: args.a.col,
        rows: Rows::Linear(args.a.row),
        b,
        bias: optional(bias),
        limits: args.limits,
        out: to.as_ref().map_or(std::ptr::null_mut(), |out| out.as_ptr().wrapping_add(args.out.offset)),
        out_rows: Rows::Linear(args.out.row),
        batches: foot.batches,
        batch: Batch::Dims(args.batch),
    };
    // SAFETY: the footprint of all operands was checked above and by the callers, the kernels can run here, and parts
    // are disjoint because the output's elements are distinct.
    unsafe { gemm.run(part, to.err().as_mut()) }
}
