//! Matrix multiplication with one of several matrices for each element of a batch, as in a mixture of experts.
//!
//! Rows that multiply the same matrix are listed together, and the indirect GEMM reads and writes them where they are:
//! each matrix is read once, and nothing is copied.

use super::gemm::{Batch, Gemm, Operand, Rows};
use super::matmul::{BatchDim, MATMUL_SCRATCH, MatMulArgs};
use super::table::Kernels;
use super::tile::Taps;
use super::{KernelError, Part, holds, product, span};
use crate::cpu::pack::{PANEL, packed_gemm_len};
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// Rows whose arithmetic takes about as long as reading the matrix that they multiply.
const ROWS_OF_A_READ: usize = 8;

/// `out[batch.., i, j] = sum_k a[batch.., i, k] * b[choice[batch..], k, j]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatherMatMulArgs<'a> {
    /// The product; its view of B is that of the first matrix, and the batch strides of B are not used.
    pub product: MatMulArgs<'a>,
    /// Matrices to choose from.
    pub matrices: usize,
    /// Distance of matrices. Not used when B is packed.
    pub step: isize,
}

/// The matrices.
pub enum Stack<'a> {
    /// Each in the layout `[ceil(n/32)][k][32]` of [`crate::cpu::pack`], one after the other.
    Packed(&'a [f32]),
    /// As the arguments say.
    Strided {
        /// The elements.
        data: &'a [f32],
        /// Room for [`MATMUL_SCRATCH`] elements, this part's own.
        scratch: &'a mut [f32],
    },
}

/// The elements that such a multiplication touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatherMatMulFootprint {
    /// Of A.
    pub a: Range<usize>,
    /// Of strided B.
    pub b: Range<usize>,
    /// Of packed B.
    pub b_packed: Range<usize>,
    /// Of the output.
    pub out: Range<usize>,
    /// Elements of the choice, one for each element of the batch.
    pub choice: usize,
    /// Elements of the lists.
    pub lists: usize,
}

impl GatherMatMulArgs<'_> {
    /// What is read and written, and the room that [`gather_matmul`] needs.
    pub fn footprint(&self) -> Result<GatherMatMulFootprint, KernelError> {
        let MatMulArgs { batch, m, k, n, b, .. } = self.product;
        let one = self.product.footprint()?;
        if one.out.is_empty() {
            return Ok(GatherMatMulFootprint {
                a: 0..0,
                b: 0..0,
                b_packed: 0..0,
                out: 0..0,
                choice: 0,
                lists: 0,
            });
        }
        let choice = batch.iter().try_fold(1, |all, dim| product(&[all, dim.extent]))?;
        let matrices = [(self.matrices, self.step), (k, b.row), (n, b.col)];
        let packed = packed_gemm_len(k, n).and_then(|len| len.checked_mul(self.matrices));
        let starts = product(&[choice, m, 2])?;
        Ok(GatherMatMulFootprint {
            a: one.a,
            b: span("b", b.offset, matrices.into_iter())?,
            b_packed: 0..packed.ok_or(KernelError::Overflow)?,
            out: one.out,
            choice,
            lists: starts.checked_add(self.matrices).ok_or(KernelError::Overflow)?,
        })
    }
}

/// Runs one part. `choice` has the matrix of each element of the batch, row-major; `lists` is this part's own scratch.
pub fn gather_matmul(
    kernels: &Kernels,
    args: &GatherMatMulArgs,
    (a, b): (&[f32], Stack),
    choice: &[usize],
    lists: &mut [isize],
    out: &SharedMut<f32>,
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let foot = args.footprint()?;
    holds("out", &foot.out, out.len())?;
    holds("a", &foot.a, a.len())?;
    holds("lists", &(0..foot.lists), lists.len())?;
    if choice.len() != foot.choice || choice.iter().any(|matrix| *matrix >= args.matrices) {
        return Err(KernelError::Args("the choice is not one of the matrices for each element of the batch"));
    }
    let MatMulArgs { m, k, n, .. } = args.product;
    let (first, step, b) = match b {
        Stack::Packed(data) => {
            holds("packed b", &foot.b_packed, data.len())?;
            (data.as_ptr(), foot.b_packed.len().checked_div(args.matrices).unwrap_or(0).cast_signed(), None)
        }
        Stack::Strided { data, scratch } => {
            holds("b", &foot.b, data.len())?;
            holds("scratch", &(0..MATMUL_SCRATCH), scratch.len())?;
            let first = data.as_ptr().wrapping_add(if k == 0 { 0 } else { args.product.b.offset });
            (first, args.step, Some(scratch.as_mut_ptr()))
        }
    };
    if foot.out.is_empty() {
        return Ok(());
    }
    let (ends, starts) = lists[..foot.lists].split_at_mut(args.matrices);
    let (a_starts, out_starts) = starts.split_at_mut(choice.len() * m);
    list(&args.product, choice, ends, (a_starts, out_starts));
    let mut shares = Shares::new(ends, n.div_ceil(PANEL), part);
    let mut from = 0;
    for (matrix, end) in ends.iter().enumerate() {
        let rows = from..end.cast_unsigned();
        from = rows.end;
        let panels = shares.next(rows.len());
        if panels.is_empty() {
            continue;
        }
        let low = rows.len() <= kernels.gemm_low.tiles.len();
        let data = first.wrapping_offset(matrix.cast_signed().wrapping_mul(step));
        let gemm = Gemm {
            turn: kernels.turn,
            kernel: if low { kernels.gemm_low } else { kernels.gemm },
            m: rows.len(),
            n,
            depth: k,
            taps: Taps::ONE,
            a: a.as_ptr().wrapping_add(if k == 0 { 0 } else { args.product.a.offset }),
            a_step: args.product.a.col,
            rows: Rows::Listed(&a_starts[rows.clone()]),
            b: match b {
                None => Operand::Packed(data),
                Some(scratch) => {
                    Operand::Strided { data, row: args.product.b.row, col: args.product.b.col, scratch }
                }
            },
            bias: std::ptr::null(),
            limits: args.product.limits,
            out: out.as_ptr().wrapping_add(args.product.out.offset),
            out_rows: Rows::Listed(&out_starts[rows]),
            batches: 1,
            batch: Batch::Dims(&[]),
        };
        // SAFETY: the footprint of all operands was checked above, the listed rows and the matrix are inside it, and the
        // kernels can run here; every row of the output is listed once, its elements are distinct, and shares are disjoint.
        unsafe { gemm.run_panels(panels)? };
    }
    Ok(())
}

/// Lists the starts of the rows that multiply each matrix, in the order of the matrices (a counting sort); those of matrix
/// `i` end before `ends[i]`.
fn list(args: &MatMulArgs, choice: &[usize], ends: &mut [isize], (a, out): (&mut [isize], &mut [isize])) {
    let rows = args.m.cast_signed();
    ends.fill(0);
    // The rows of each matrix are counted one place further on, so that sums are where its rows begin.
    for matrix in choice {
        if let Some(count) = ends.get_mut(matrix + 1) {
            *count += rows;
        }
    }
    let mut sum = 0;
    for count in &mut *ends {
        sum += *count;
        *count = sum;
    }
    for (index, matrix) in choice.iter().enumerate() {
        let (mut a_at, mut out_at) = offsets(args.batch, index);
        let first = ends[*matrix];
        ends[*matrix] += rows;
        for row in first.cast_unsigned()..ends[*matrix].cast_unsigned() {
            (a[row], out[row]) = (a_at, out_at);
            (a_at, out_at) = (a_at.wrapping_add(args.a.row), out_at.wrapping_add(args.out.row));
        }
    }
}

/// Where an element of the batch starts in A and in the output.
fn offsets(batch: &[BatchDim], mut index: usize) -> (isize, isize) {
    let (mut a, mut out) = (0_isize, 0_isize);
    for dim in batch.iter().rev() {
        let i = (index % dim.extent).cast_signed();
        index /= dim.extent;
        a = a.wrapping_add(i.wrapping_mul(dim.a));
        out = out.wrapping_add(i.wrapping_mul(dim.out));
    }
    (a, out)
}

/// One part's share of the panels of all matrices, which count as much as they take time.
struct Shares {
    panels: usize,
    /// The part's share of the time.
    own: Range<u128>,
    /// Time before the next matrix.
    at: u128,
}

impl Shares {
    /// For matrices whose rows end at `ends`.
    fn new(ends: &[isize], panels: usize, part: Part) -> Shares {
        let mut shares = Shares { panels, own: 0..0, at: 0 };
        let mut from = 0;
        for end in ends {
            let rows = end - from;
            from = *end;
            shares.next(rows.cast_unsigned());
        }
        let bound = |i: usize| shares.at * i as u128 / part.count as u128;
        Shares { panels, own: bound(part.index)..bound(part.index + 1), at: 0 }
    }

    /// The panels of the next matrix, with so many rows, that begin in the share.
    fn next(&mut self, rows: usize) -> Range<usize> {
        if rows == 0 {
            return 0..0;
        }
        let (at, each) = (self.at, rows as u128 + ROWS_OF_A_READ as u128);
        self.at += each * self.panels as u128;
        let panel = |time: u128| (time.saturating_sub(at).div_ceil(each) as usize).min(self.panels);
        panel(self.own.start)..panel(self.own.end)
    }
}
