//! Matrix multiplication over strided batches.

use super::gemm::{Batch, CHUNK, Gemm, Operand, Rows};
use super::table::Kernels;
use super::tile::Taps;
use super::{KernelError, Part, holds, optional, product, span};
use crate::cpu::pack::{PANEL, packed_gemm_len};
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// Elements of scratch that [`MatB::Strided`] needs, whatever the sizes.
pub const MATMUL_SCRATCH: usize = CHUNK * PANEL;

/// A strided matrix: element `[i][j]` is at `offset + i * row + j * col`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// First element.
    pub offset: usize,
    /// Distance of rows.
    pub row: isize,
    /// Distance of columns.
    pub col: isize,
}

impl View {
    /// A dense row-major matrix with `columns` columns.
    pub fn dense(columns: usize) -> Self {
        Self { offset: 0, row: columns.cast_signed(), col: 1 }
    }
}

/// A batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchDim {
    /// Extent.
    pub extent: usize,
    /// Stride of A.
    pub a: isize,
    /// Stride of B; not used when B is packed.
    pub b: isize,
}

/// `out[batch.., i, j] = sum_k a[batch.., i, k] * b[batch.., k, j] + bias[j]`, out dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// B: rows are k, columns n. Not used when B is packed.
    pub b: View,
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
        let out = product(&[batches, m, n])?;
        let reads = out > 0;
        Ok(MatMulFootprint {
            a: if reads { of("a", self.a, m, k, |d| d.a)? } else { 0..0 },
            b: if reads { of("b", self.b, k, n, |d| d.b)? } else { 0..0 },
            b_packed: 0..if reads { packed_gemm_len(k, n).ok_or(KernelError::Overflow)? } else { 0 },
            out: 0..out,
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
    part.check()?;
    let foot = args.footprint()?;
    holds("out", &foot.out, out.len())?;
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
    };
    if foot.out.is_empty() {
        return Ok(());
    }
    let low = args.m <= kernels.gemm_low.tiles.len();
    let gemm = Gemm {
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
        out: out.as_ptr(),
        out_step: args.n,
        batches: foot.batches,
        batch: Batch::Dims { dims: args.batch, out: args.m * args.n },
    };
    // SAFETY: the footprint of all operands was checked above, the kernels can run here, and parts are disjoint.
    unsafe { gemm.run(part) };
    Ok(())
}
