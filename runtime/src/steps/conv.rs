//! `Conv`: f32 channels-last convolutions.

use super::floats::{floats, floats_out, part as part_of, refused, refused_step, workers_for};
use super::{Call, PlanCx, footprint};
use crate::cpu::kernels::{ConvArgs, Kernels, conv};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};

struct Conv {
    step: String,
    kernels: Kernels,
    args: ConvArgs,
    flops: usize,
    x: ValueId,
    weights: ValueId,
    bias: Option<ValueId>,
    out: ValueId,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Conv { kernel, stride, dilation, groups, m, bias } = &step.kind else {
        return Err(footprint(step, "is not a Conv step".into()));
    };
    let (x, weights, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    let bias = if *bias { Some(cx.arg(step, 2)?) } else { None };
    for value in [Some(x), Some(weights), bias, Some(out)].into_iter().flatten() {
        cx.require_f32(step, value)?;
    }
    let &[batch, height, width, channels] = cx.sizes.dims(x) else {
        return Err(footprint(step, "the input is not of rank 4".into()));
    };
    let pair = |what, r: &[u32; 2]| -> Result<[usize; 2], RunError> {
        Ok([cx.size(step, what, r[0])?, cx.size(step, what, r[1])?])
    };
    let args = ConvArgs {
        batch,
        in_size: [height, width],
        channels,
        m: cx.size(step, "the number of outputs", *m)?,
        kernel: pair("the kernel", kernel)?,
        stride: pair("the stride", stride)?,
        dilation: pair("the dilation", dilation)?,
        groups: cx.size(step, "the number of groups", *groups)?,
    };
    let foot = args.footprint().map_err(refused_step(step))?;
    let [oh, ow] = args.out_size().map_err(refused_step(step))?;
    cx.require_len(step, "the weights", weights, &[foot.weights.end])?;
    cx.require_len(step, "the output", out, &[batch, oh, ow, args.m])?;
    if let Some(bias) = bias {
        cx.require_len(step, "the bias", bias, &[args.m])?;
    }
    let window = [args.kernel[0], args.kernel[1], channels / args.groups.max(1), 2];
    let flops = window.iter().fold(foot.out.end, |p, d| p.saturating_mul(*d));
    let (step, kernels) = (step.name.clone(), cx.kernels()?);
    Ok(Box::new(Conv { step, kernels, args, flops, x, weights, bias, out }))
}

impl Call for Conv {
    fn work(&self) -> u64 {
        self.flops as u64
    }

    fn flops(&self) -> u64 {
        self.flops as u64
    }

    fn parts(&self, max: usize) -> usize {
        workers_for(self.flops, max)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, _: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: only tile steps are placed over their arguments, so no worker writes what is read here.
        let (x, weights) = unsafe { (floats(mem, self.x)?, floats(mem, self.weights)?) };
        let bias = match self.bias {
            // SAFETY: as above.
            Some(bias) => Some(unsafe { floats(mem, bias)? }),
            None => None,
        };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        conv(&self.kernels, &self.args, x, weights, bias, &out, part_of(part, parts))
            .map_err(|e| refused(&self.step, &e))
    }
}
