//! `Gather`: rows picked by an index tensor. Indices are checked when they are used.

use super::{Call, PlanCx, count, footprint, share};
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};

/// Bytes copied below which another worker costs more than it saves.
const BYTES_PER_PART: usize = 64 << 10;

struct Gather {
    step: String,
    data: ValueId,
    index: ValueId,
    out: ValueId,
    wide_index: bool,
    outer: usize,
    axis: usize,
    count: usize,
    /// Bytes of `inner` elements.
    row: usize,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Gather { outer, axis, inner, count } = step.kind else {
        return Err(footprint(step, "is not a Gather step".into()));
    };
    let (data, index, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    let outer = cx.size(step, "the outer extent", outer)?;
    let axis = cx.size(step, "the axis extent", axis)?;
    let inner = cx.size(step, "the inner extent", inner)?;
    let count = cx.size(step, "the number of indices", count)?;
    cx.require_len(step, "the data", data, &[outer, axis, inner])?;
    cx.require_len(step, "the index", index, &[count])?;
    let written = cx.require_len(step, "the output", out, &[outer, count, inner])?;
    let elem = cx.elem(step, out)?;
    if cx.elem(step, data)? != elem {
        return Err(footprint(step, format!("data and output ({elem:?}) have different types")));
    }
    let wide_index = match cx.elem(step, index)? {
        ElemType::I64 => true,
        ElemType::I32 => false,
        other => return Err(footprint(step, format!("the index is {other:?}"))),
    };
    // If nothing is written, no memory bounds the extents, and products of them could overflow.
    let (outer, count, inner) = if written == 0 { (0, 0, 0) } else { (outer, count, inner) };
    let row = inner.saturating_mul(elem.size());
    let call = Gather { step: step.name.clone(), data, index, out, wide_index, outer, axis, count, row };
    Ok(Box::new(call))
}

impl Gather {
    /// The row that index `i` picks.
    fn row_at(&self, indices: &[u8], i: usize) -> Result<usize, RunError> {
        let index = if self.wide_index {
            indices.as_chunks().0.get(i).map(|&b| i64::from_le_bytes(b))
        } else {
            indices.as_chunks().0.get(i).map(|&b| i64::from(i32::from_le_bytes(b)))
        };
        let index = index.unwrap_or(i64::MAX);
        let extent = self.axis as u64;
        let row =
            if index < 0 { extent.checked_sub(index.unsigned_abs()) } else { Some(index.unsigned_abs()) };
        match row {
            Some(row) if row < extent => Ok(row as usize),
            _ => Err(RunError::Index { step: self.step.clone(), index, extent }),
        }
    }
}

impl Call for Gather {
    fn work(&self) -> u64 {
        count(&[self.outer, self.count, self.row])
    }

    fn parts(&self, max: usize) -> usize {
        let rows = self.outer * self.count;
        (rows.saturating_mul(self.row) / BYTES_PER_PART + 1).min(rows.max(1)).min(max)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, _: &mut [u8]) -> Result<(), RunError> {
        let rows = share(self.outer * self.count, part, parts);
        if rows.is_empty() {
            return Ok(());
        }
        // SAFETY: no step reads a value that it writes, and only tile steps are placed over their arguments.
        let (data, index) = unsafe { (mem.bytes(self.data)?, mem.bytes(self.index)?) };
        let (first, last) = (rows.start * self.row, rows.end * self.row);
        // SAFETY: parts have disjoint rows, and nobody reads the output while it is written.
        let out = unsafe { mem.bytes_mut(self.out, first..last)? };
        for (i, row) in rows.enumerate() {
            let picked = self.row_at(index, row % self.count)?;
            let from = (row / self.count * self.axis + picked) * self.row;
            let (Some(src), Some(dst)) =
                (data.get(from..from + self.row), out.get_mut(i * self.row..(i + 1) * self.row))
            else {
                let detail = format!("row {picked} is outside the data");
                return Err(RunError::Footprint { step: self.step.clone(), detail });
            };
            dst.copy_from_slice(src);
        }
        Ok(())
    }
}
