//! Sparse weights of matrix products and convolutions.

use super::floats::{floats, refused_step, words};
use super::{PlanCx, footprint};
use crate::cpu::kernels::SparseB;
use crate::cpu::sparse::SparseMatrix;
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Sparsity, Step, ValueId};

/// Weights of which only some rows are stored.
pub(super) struct Weights {
    sparsity: Sparsity,
    values: ValueId,
    codes: ValueId,
    /// Stored rows that each column of the result is summed over.
    pub(super) rows: usize,
}

impl Weights {
    /// Arguments 1 and 2 of a step, which hold exactly the matrix.
    pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>, matrix: &SparseMatrix) -> Result<Self, RunError> {
        let (values, codes) = (cx.arg(step, 1)?, cx.arg(step, 2)?);
        cx.require_f32(step, values)?;
        if cx.elem(step, codes)? != ElemType::U32 {
            return Err(footprint(step, "the codes of the weights are not u32".into()));
        }
        let lens = (matrix.values_len(), matrix.codes_len());
        cx.require_len(step, "the weights", values, &[lens.0.map_err(refused_step(step))?])?;
        cx.require_len(step, "the codes", codes, &[lens.1.map_err(refused_step(step))?])?;
        let rows = matrix.rows().map_err(refused_step(step))?;
        Ok(Self { sparsity: matrix.sparsity, values, codes, rows })
    }

    /// The operand, with the scratch that it needs.
    ///
    /// # Safety
    /// As for [`Memory::bytes`], for both arguments.
    pub(super) unsafe fn operand<'m>(
        &self,
        mem: &'m Memory<'_>,
        scratch: &'m mut [f32],
    ) -> Result<SparseB<'m>, RunError> {
        // SAFETY: passed on to the caller.
        let (values, codes) = unsafe { (floats(mem, self.values)?, words(mem, self.codes)?) };
        Ok(SparseB { sparsity: self.sparsity, values, codes, scratch })
    }
}
