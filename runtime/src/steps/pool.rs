//! `Pool`: f32 channels-last pooling.

use super::floats::{floats, floats_out, part as part_of, refused, refused_step, workers_for};
use super::{Call, PlanCx, footprint};
use crate::cpu::kernels::{Kernels, PoolArgs, pool};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};

struct Pool {
    step: String,
    kernels: Kernels,
    args: PoolArgs,
    flops: usize,
    x: ValueId,
    out: ValueId,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Pool { mode, kernel, stride, dilation, pad, pad_end } = &step.kind else {
        return Err(footprint(step, "is not a Pool step".into()));
    };
    let (x, out) = (cx.arg(step, 0)?, cx.out(step, 0)?);
    cx.require_f32(step, x)?;
    cx.require_f32(step, out)?;
    let (&[batch, height, width, channels], &[out_batch, out_height, out_width, out_channels]) =
        (cx.sizes.dims(x), cx.sizes.dims(out))
    else {
        return Err(footprint(step, "input and output must be of rank 4".into()));
    };
    if (out_batch, out_channels) != (batch, channels) {
        return Err(footprint(step, "input and output differ in batch or channels".into()));
    }
    let pair = |what, r: &[u32; 2]| -> Result<[usize; 2], RunError> {
        Ok([cx.size(step, what, r[0])?, cx.size(step, what, r[1])?])
    };
    let args = PoolArgs {
        mode: *mode,
        batch,
        in_size: [height, width],
        channels,
        out_size: [out_height, out_width],
        kernel: pair("the window", kernel)?,
        stride: pair("the stride", stride)?,
        dilation: pair("the dilation", dilation)?,
        pad: pair("the padding", pad)?,
        pad_end: pair("the padding", pad_end)?,
    };
    let foot = args.footprint().map_err(refused_step(step))?;
    let flops = args.kernel.iter().fold(foot.out.end, |p, d| p.saturating_mul(*d));
    Ok(Box::new(Pool { step: step.name.clone(), kernels: cx.kernels()?, args, flops, x, out }))
}

impl Call for Pool {
    fn work(&self) -> u64 {
        self.flops as u64
    }

    fn parts(&self, max: usize) -> usize {
        workers_for(self.flops, max)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, _: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: only tile steps are placed over their arguments, so no worker writes what is read here.
        let x = unsafe { floats(mem, self.x)? };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        pool(&self.kernels, &self.args, x, &out, part_of(part, parts)).map_err(|e| refused(&self.step, &e))
    }
}
