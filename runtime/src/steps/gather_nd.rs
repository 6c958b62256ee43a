//! `GatherNd` and `GatherElements`: elements picked by index tensors.

use super::indexed::{Index, copy, same_elem, sizes, strides, whole_output};
use super::{Call, PlanCx, count, footprint};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};

struct GatherNd {
    step: String,
    data: ValueId,
    index: Index,
    out: ValueId,
    batch: usize,
    rows: usize,
    extents: Vec<usize>,
    /// Bytes of `inner` elements.
    row: usize,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::GatherNd { batch, rows, extents, inner } = &step.kind else {
        return Err(footprint(step, "is not a GatherNd step".into()));
    };
    let (data, out) = (cx.arg(step, 0)?, cx.out(step, 0)?);
    let batch = cx.size(step, "the batch extent", *batch)?;
    let rows = cx.size(step, "the number of rows", *rows)?;
    let extents = sizes(step, cx, "an extent", extents)?;
    let inner = cx.size(step, "the inner extent", *inner)?;
    cx.require_len(step, "the data", data, &[&[batch], extents.as_slice(), &[inner]].concat())?;
    let written = cx.require_len(step, "the output", out, &[batch, rows, inner])?;
    let index = Index::of(step, cx, 1, &[batch, rows, extents.len()])?;
    let elem = same_elem(step, cx, &[data, out])?;
    let (batch, rows, inner) = if written == 0 { (0, 0, 0) } else { (batch, rows, inner) };
    let row = inner * elem.size();
    Ok(Box::new(GatherNd { step: step.name.clone(), data, index, out, batch, rows, extents, row }))
}

impl Call for GatherNd {
    fn work(&self) -> u64 {
        count(&[self.batch, self.rows, self.row.saturating_add(self.extents.len())])
    }

    fn run(&self, mem: &Memory<'_>, part: usize, _: usize, _: &mut [u8]) -> Result<(), RunError> {
        if part > 0 {
            return Ok(());
        }
        // SAFETY: only tile steps are placed over their arguments; one worker runs this step.
        let (data, index, out) =
            unsafe { (mem.bytes(self.data)?, mem.bytes(self.index.value)?, whole_output(mem, self.out)?) };
        let depth = self.extents.len();
        for r in 0..self.batch * self.rows {
            let mut at = r / self.rows;
            // Positions are exact where the data has elements; in empty data some coordinate is out of range.
            for (d, extent) in self.extents.iter().enumerate() {
                at = at.wrapping_mul(*extent).wrapping_add(self.index.at(
                    &self.step,
                    index,
                    r * depth + d,
                    *extent,
                )?);
            }
            copy(&self.step, (data, at * self.row), (out, r * self.row), self.row)?;
        }
        Ok(())
    }
}

struct GatherElements {
    step: String,
    data: ValueId,
    index: Index,
    out: ValueId,
    shape: Vec<usize>,
    data_extents: Vec<usize>,
    axis: usize,
    elem_bytes: usize,
}

pub(super) fn resolve_elements(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::GatherElements { data: data_regs, shape, axis } = &step.kind else {
        return Err(footprint(step, "is not a GatherElements step".into()));
    };
    let (data, out) = (cx.arg(step, 0)?, cx.out(step, 0)?);
    let data_extents = sizes(step, cx, "an extent", data_regs)?;
    let shape = sizes(step, cx, "an extent", shape)?;
    let axis = *axis as usize;
    check_extents(step, &data_extents, &shape, axis)?;
    cx.require_len(step, "the data", data, &data_extents)?;
    cx.require_len(step, "the output", out, &shape)?;
    let index = Index::of(step, cx, 1, &shape)?;
    let elem_bytes = same_elem(step, cx, &[data, out])?.size();
    let step = step.name.clone();
    Ok(Box::new(GatherElements { step, data, index, out, shape, data_extents, axis, elem_bytes }))
}

/// The index has the rank of the data and does not exceed it but along the axis.
pub(super) fn check_extents(
    step: &Step,
    data: &[usize],
    index: &[usize],
    axis: usize,
) -> Result<(), RunError> {
    let fits = |(i, (d, s)): (usize, (&usize, &usize))| i == axis || s <= d;
    if data.len() != index.len() || axis >= data.len() || !data.iter().zip(index).enumerate().all(fits) {
        let detail = format!("an index of extents {index:?} does not fit data of {data:?} along axis {axis}");
        return Err(footprint(step, detail));
    }
    Ok(())
}

/// For element `i` of an index of extents `shape`, its position in the data but for the axis.
pub(super) fn base_position(i: usize, shape: &[usize], data_strides: &[usize], axis: usize) -> usize {
    let (mut rest, mut at) = (i, 0);
    for d in (0..shape.len()).rev() {
        let coordinate = rest % shape[d];
        rest /= shape[d];
        if d != axis {
            at += coordinate * data_strides[d];
        }
    }
    at
}

impl Call for GatherElements {
    fn work(&self) -> u64 {
        count(&self.shape).saturating_mul(self.shape.len() as u64)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, _: usize, _: &mut [u8]) -> Result<(), RunError> {
        if part > 0 || self.shape.contains(&0) {
            return Ok(());
        }
        // SAFETY: only tile steps are placed over their arguments; one worker runs this step.
        let (data, index, out) =
            unsafe { (mem.bytes(self.data)?, mem.bytes(self.index.value)?, whole_output(mem, self.out)?) };
        let (count, steps) = (out.len() / self.elem_bytes, strides(&self.data_extents));
        for i in 0..count {
            let picked = self.index.at(&self.step, index, i, self.data_extents[self.axis])?;
            let at = base_position(i, &self.shape, &steps, self.axis) + picked * steps[self.axis];
            copy(&self.step, (data, at * self.elem_bytes), (out, i * self.elem_bytes), self.elem_bytes)?;
        }
        Ok(())
    }
}
