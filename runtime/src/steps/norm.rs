//! `Softmax` and `LayerNorm`: f32 rows.

use super::floats::{floats, floats_out, part as part_of, refused, refused_step, row_view, workers_for};
use super::{Call, PlanCx, count, footprint};
use crate::cpu::kernels::{Kernels, NormArgs, RowView, SoftmaxArgs, layer_norm, softmax};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Access, Step, StepKind, ValueId};

/// Operations that one element of a row costs, roughly.
const FLOPS_PER_ELEMENT: usize = 16;

/// The rows of f32 values.
fn views(
    step: &Step,
    cx: &PlanCx<'_>,
    extents: [usize; 2],
    operands: [(ValueId, &Access); 2],
) -> Result<[RowView; 2], RunError> {
    let mut views = [RowView::dense(0); 2];
    for (view, (value, access)) in views.iter_mut().zip(operands) {
        cx.require_f32(step, value)?;
        *view = row_view(step, &cx.lines(step, access, &extents, value)?)?;
    }
    Ok(views)
}

struct Softmax {
    step: String,
    kernels: Kernels,
    args: SoftmaxArgs,
    x: ValueId,
    out: ValueId,
}

pub(super) fn resolve_softmax(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Softmax { rows, cols, log, x: x_access, out: out_access } = &step.kind else {
        return Err(footprint(step, "is not a Softmax step".into()));
    };
    let (x, out) = (cx.arg(step, 0)?, cx.out(step, 0)?);
    let (rows, cols) = (cx.size(step, "rows", *rows)?, cx.size(step, "columns", *cols)?);
    let [x_view, out_view] = views(step, cx, [rows, cols], [(x, x_access), (out, out_access)])?;
    let args = SoftmaxArgs { rows, cols, log: *log, x: x_view, out: out_view };
    args.footprint().map_err(refused_step(step))?;
    Ok(Box::new(Softmax { step: step.name.clone(), kernels: cx.kernels()?, args, x, out }))
}

impl Call for Softmax {
    fn work(&self) -> u64 {
        count(&[self.args.rows, self.args.cols, FLOPS_PER_ELEMENT])
    }

    fn parts(&self, max: usize) -> usize {
        let elements = self.args.rows.saturating_mul(self.args.cols);
        workers_for(elements.saturating_mul(FLOPS_PER_ELEMENT), max)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, _: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: no output is placed over these arguments, so no worker writes what is read here.
        let x = unsafe { floats(mem, self.x)? };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        softmax(&self.kernels, &self.args, x, &out, part_of(part, parts)).map_err(|e| refused(&self.step, &e))
    }
}

struct LayerNorm {
    step: String,
    kernels: Kernels,
    args: NormArgs,
    x: ValueId,
    scale: ValueId,
    bias: Option<ValueId>,
    out: ValueId,
}

pub(super) fn resolve_layer_norm(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::LayerNorm { rows, cols, epsilon, bias, rms, x: x_access, out: out_access } = &step.kind
    else {
        return Err(footprint(step, "is not a LayerNorm step".into()));
    };
    let (x, scale, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    let bias = if *bias { Some(cx.arg(step, 2)?) } else { None };
    let (rows, cols) = (cx.size(step, "rows", *rows)?, cx.size(step, "columns", *cols)?);
    let [x_view, out_view] = views(step, cx, [rows, cols], [(x, x_access), (out, out_access)])?;
    for value in [Some(scale), bias].into_iter().flatten() {
        cx.require_f32(step, value)?;
        cx.require_len(step, "scale or bias", value, &[cols])?;
    }
    let args = NormArgs { rows, cols, epsilon: *epsilon, rms: *rms, x: x_view, out: out_view };
    args.footprint().map_err(refused_step(step))?;
    let (step, kernels) = (step.name.clone(), cx.kernels()?);
    Ok(Box::new(LayerNorm { step, kernels, args, x, scale, bias, out }))
}

impl Call for LayerNorm {
    fn work(&self) -> u64 {
        count(&[self.args.rows, self.args.cols, FLOPS_PER_ELEMENT])
    }

    fn parts(&self, max: usize) -> usize {
        let elements = self.args.rows.saturating_mul(self.args.cols);
        workers_for(elements.saturating_mul(FLOPS_PER_ELEMENT), max)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, _: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: no output is placed over these arguments, so no worker writes what is read here.
        let (x, scale) = unsafe { (floats(mem, self.x)?, floats(mem, self.scale)?) };
        let bias = match self.bias {
            // SAFETY: as above.
            Some(bias) => Some(unsafe { floats(mem, bias)? }),
            None => None,
        };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        layer_norm(&self.kernels, &self.args, x, scale, bias, &out, part_of(part, parts))
            .map_err(|e| refused(&self.step, &e))
    }
}
