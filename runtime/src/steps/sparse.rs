//! Sparse weights of matrix products and convolutions.

use super::floats::{floats, refused_step, words};
use super::{PlanCx, footprint};
use crate::cpu::kernels::{ConvB, MatB, SCATTERED_SCRATCH, SPARSE_SCRATCH, ScatteredB, SparseB};
use crate::cpu::pack::PANEL;
use crate::cpu::scattered::codes_len;
use crate::cpu::sparse::SparseMatrix;
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Sparsity, Step, ValueId};

/// Weights that are stored in part.
pub(super) struct Weights {
    sparsity: Sparsity,
    values: ValueId,
    codes: ValueId,
    /// Rows that each column of the result is summed over.
    pub(super) rows: usize,
}

/// Weights with their scratch, as an operand of a product or a convolution.
pub(super) enum Operand<'m> {
    Rows(SparseB<'m>),
    Scattered(ScatteredB<'m>),
}

impl<'m> From<Operand<'m>> for MatB<'m> {
    fn from(operand: Operand<'m>) -> Self {
        match operand {
            Operand::Rows(b) => MatB::Sparse(b),
            Operand::Scattered(b) => MatB::Scattered(b),
        }
    }
}

impl<'m> From<Operand<'m>> for ConvB<'m> {
    fn from(operand: Operand<'m>) -> Self {
        match operand {
            Operand::Rows(b) => ConvB::Sparse(b),
            Operand::Scattered(b) => ConvB::Scattered(b),
        }
    }
}

impl Weights {
    /// Arguments 1 and 2 of a step, which hold exactly the matrix; of scattered elements there may be any number, as no code
    /// leads outside.
    pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>, matrix: &SparseMatrix) -> Result<Self, RunError> {
        let (values, codes) = (cx.arg(step, 1)?, cx.arg(step, 2)?);
        cx.require_f32(step, values)?;
        if cx.elem(step, codes)? != ElemType::U32 {
            return Err(footprint(step, "the codes of the weights are not u32".into()));
        }
        let fail = refused_step(step);
        let rows = if matrix.sparsity == Sparsity::Scattered {
            let rows = matrix.taps.saturating_mul(matrix.depth);
            if matrix.count != 1 {
                return Err(footprint(step, "the weights of groups are scattered".into()));
            }
            if cx.len(step, values)? < PANEL {
                return Err(footprint(step, format!("scattered weights have fewer than {PANEL} elements")));
            }
            cx.require_len(step, "the codes", codes, &[codes_len(rows, matrix.n).map_err(fail)?])?;
            rows
        } else {
            let lens = (matrix.values_len(), matrix.codes_len());
            cx.require_len(step, "the weights", values, &[lens.0.map_err(&fail)?])?;
            cx.require_len(step, "the codes", codes, &[lens.1.map_err(&fail)?])?;
            matrix.rows().map_err(fail)?
        };
        Ok(Self { sparsity: matrix.sparsity, values, codes, rows })
    }

    /// Elements of scratch.
    pub(super) fn scratch(&self) -> usize {
        if self.sparsity == Sparsity::Scattered { SCATTERED_SCRATCH } else { SPARSE_SCRATCH }
    }

    /// The operand, with the scratch that it needs.
    ///
    /// # Safety
    /// As for [`Memory::bytes`], for both arguments.
    pub(super) unsafe fn operand<'m>(
        &self,
        mem: &'m Memory<'_>,
        scratch: &'m mut [f32],
    ) -> Result<Operand<'m>, RunError> {
        // SAFETY: passed on to the caller.
        let (values, codes) = unsafe { (floats(mem, self.values)?, words(mem, self.codes)?) };
        Ok(match self.sparsity {
            Sparsity::Scattered => Operand::Scattered(ScatteredB { values, codes, scratch }),
            sparsity => Operand::Rows(SparseB { sparsity, values, codes, scratch }),
        })
    }
}
