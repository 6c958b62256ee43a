//! `Pool`: f32 channels-last pooling.

use super::floats::{floats, floats_out, part as part_of, pixels, refused, refused_step, workers_for};
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
    let StepKind::Pool {
        mode,
        extents,
        out_extents,
        x: x_access,
        out: out_access,
        kernel,
        stride,
        dilation,
        pad,
        pad_end,
    } = &step.kind
    else {
        return Err(footprint(step, "is not a Pool step".into()));
    };
    let (x, out) = (cx.arg(step, 0)?, cx.out(step, 0)?);
    cx.require_f32(step, x)?;
    cx.require_f32(step, out)?;
    let [batch, height, width, channels] = cx.sizes_of(step, "an extent of the input", extents)?;
    let out_size = cx.sizes_of(step, "an extent of the output", out_extents)?;
    let x_access = cx.lines(step, x_access, &[batch, height, width, channels], x)?;
    let out_access = cx.lines(step, out_access, &[batch, out_size[0], out_size[1], channels], out)?;
    let args = PoolArgs {
        mode: *mode,
        batch,
        in_size: [height, width],
        channels,
        out_size,
        kernel: cx.sizes_of(step, "the window", kernel)?,
        stride: cx.sizes_of(step, "the stride", stride)?,
        dilation: cx.sizes_of(step, "the dilation", dilation)?,
        pad: cx.sizes_of(step, "the padding", pad)?,
        pad_end: cx.sizes_of(step, "the padding", pad_end)?,
        x: pixels(step, &x_access)?,
        out: pixels(step, &out_access)?,
    };
    args.footprint().map_err(refused_step(step))?;
    let work = [batch, out_size[0], out_size[1], channels];
    let flops = work.iter().chain(&args.kernel).fold(1usize, |p, d| p.saturating_mul(*d));
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
        // SAFETY: no output is placed over this argument, so no worker writes what is read here.
        let x = unsafe { floats(mem, self.x)? };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        pool(&self.kernels, &self.args, x, &out, part_of(part, parts)).map_err(|e| refused(&self.step, &e))
    }
}
