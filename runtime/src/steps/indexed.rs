//! What `GatherNd`, `GatherElements`, `GatherMatMul`, `ScatterNd` and `ScatterElements` share: reading an index and checking it at use.

use super::{PlanCx, footprint};
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Reg, Step, ValueId};

/// An index tensor.
pub(super) struct Index {
    pub(super) value: ValueId,
    wide: bool,
}

impl Index {
    /// Argument `i` of a step as an index of `count` elements.
    pub(super) fn of(step: &Step, cx: &PlanCx<'_>, i: usize, count: &[usize]) -> Result<Index, RunError> {
        let index = Index::any(step, cx, i)?;
        cx.require_len(step, "the index", index.value, count)?;
        Ok(index)
    }

    /// Argument `i` of a step as an index of any number of elements.
    pub(super) fn any(step: &Step, cx: &PlanCx<'_>, i: usize) -> Result<Index, RunError> {
        let value = cx.arg(step, i)?;
        match cx.elem(step, value)? {
            ElemType::I64 => Ok(Index { value, wide: true }),
            ElemType::I32 => Ok(Index { value, wide: false }),
            other => Err(footprint(step, format!("the index is {other:?}"))),
        }
    }

    /// Element `i` of the index as a position on an axis of `extent`; negative ones count from the end.
    pub(super) fn at(&self, step: &str, bytes: &[u8], i: usize, extent: usize) -> Result<usize, RunError> {
        let index = if self.wide {
            bytes.as_chunks().0.get(i).map(|&b| i64::from_le_bytes(b))
        } else {
            bytes.as_chunks().0.get(i).map(|&b| i64::from(i32::from_le_bytes(b)))
        };
        let index = index.unwrap_or(i64::MAX);
        let position = if index < 0 {
            (extent as u64).checked_sub(index.unsigned_abs())
        } else {
            Some(index.unsigned_abs())
        };
        match position {
            Some(p) if p < extent as u64 => Ok(p as usize),
            _ => Err(RunError::Index { step: step.into(), index, extent: extent as u64 }),
        }
    }
}

/// Registers as sizes.
pub(super) fn sizes(step: &Step, cx: &PlanCx<'_>, what: &str, regs: &[Reg]) -> Result<Vec<usize>, RunError> {
    regs.iter().map(|r| cx.size(step, what, *r)).collect()
}

/// Requires two values to have one element type, and gives its size.
pub(super) fn same_elem(step: &Step, cx: &PlanCx<'_>, values: &[ValueId]) -> Result<ElemType, RunError> {
    let first = cx.elem(step, values[0])?;
    for v in values {
        let elem = cx.elem(step, *v)?;
        if elem != first {
            return Err(footprint(step, format!("the element types {first:?} and {elem:?} differ")));
        }
    }
    Ok(first)
}

/// Copies `len` bytes; a range outside either side is an error, which a resolved step never sees.
pub(super) fn copy(
    step: &str,
    (src, from): (&[u8], usize),
    (dst, to): (&mut [u8], usize),
    len: usize,
) -> Result<(), RunError> {
    match (src.get(from..from.saturating_add(len)), dst.get_mut(to..to.saturating_add(len))) {
        (Some(src), Some(dst)) => {
            dst.copy_from_slice(src);
            Ok(())
        }
        _ => Err(RunError::Footprint { step: step.into(), detail: "a copy leaves its values".into() }),
    }
}

/// The whole of an output, for steps that one worker does.
///
/// # Safety
/// Only one worker runs the step, and nobody else uses the value.
#[allow(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
pub(super) unsafe fn whole_output<'m>(mem: &'m Memory<'_>, value: ValueId) -> Result<&'m mut [u8], RunError> {
    let (_, len) = mem.dst(value)?;
    // SAFETY: passed on to the caller.
    unsafe { mem.bytes_mut(value, 0..len) }
}

/// Row-major strides, in elements; the products fit because the values they address exist.
pub(super) fn strides(extents: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; extents.len()];
    for i in (0..extents.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1].saturating_mul(extents[i + 1]);
    }
    out
}
