//! `Conv`: f32 channels-last convolutions.

use super::epilogue::{Epilogue, Product, STAGE_BYTES};
use super::floats::{
    floats, floats_out, part as part_of, pixels, refused, refused_step, scratch_floats, workers_for,
};
use super::sparse::Weights;
use super::{Call, PlanCx, footprint};
use crate::cpu::kernels::{ConvArgs, ConvB, Kernels, SPARSE_SCRATCH, conv, conv_staged};
use crate::cpu::sparse::SparseMatrix;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};
use crate::tile::TilePlan;

struct Conv {
    step: String,
    kernels: Kernels,
    args: ConvArgs,
    flops: usize,
    x: ValueId,
    weights: ValueId,
    sparse: Option<Weights>,
    bias: Option<ValueId>,
    out: ValueId,
    epilogue: Option<Epilogue>,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Conv {
        extents,
        out_extents,
        x: x_access,
        out: out_access,
        kernel,
        stride,
        dilation,
        groups,
        m,
        sparsity,
        bias,
        epilogue,
    } = &step.kind
    else {
        return Err(footprint(step, "is not a Conv step".into()));
    };
    let (x, weights, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    let bias = if *bias { Some(cx.arg(step, step.kind.own_args() - 1)?) } else { None };
    for value in [Some(x), Some(weights), bias, Some(out)].into_iter().flatten() {
        cx.require_f32(step, value)?;
    }
    let [batch, height, width, channels] = cx.sizes_of(step, "an extent of the input", extents)?;
    let out_size = cx.sizes_of(step, "an extent of the output", out_extents)?;
    let m = cx.size(step, "the number of outputs", *m)?;
    let x_access = cx.lines(step, x_access, &[batch, height, width, channels], x)?;
    let out_dims = [batch, out_size[0], out_size[1], m];
    let out_access = cx.lines(step, out_access, &out_dims, out)?;
    let args = ConvArgs {
        batch,
        in_size: [height, width],
        channels,
        m,
        kernel: cx.sizes_of(step, "the kernel", kernel)?,
        stride: cx.sizes_of(step, "the stride", stride)?,
        dilation: cx.sizes_of(step, "the dilation", dilation)?,
        groups: cx.size(step, "the number of groups", *groups)?,
        x: pixels(step, &x_access)?,
        out: pixels(step, &out_access)?,
    };
    let foot = args.footprint().map_err(refused_step(step))?;
    let computed = args.out_size().map_err(refused_step(step))?;
    if computed != out_size {
        return Err(footprint(step, format!("the output is {out_size:?} instead of {computed:?}")));
    }
    let sparse = match sparsity {
        Some(sparsity) => {
            let matrix = SparseMatrix::conv(*sparsity, &args.weights()).map_err(refused_step(step))?;
            Some(Weights::resolve(step, cx, &matrix)?)
        }
        None => {
            cx.require_len(step, "the weights", weights, &[foot.weights.end])?;
            None
        }
    };
    if let Some(bias) = bias {
        cx.require_len(step, "the bias", bias, &[m])?;
    }
    let product = Product {
        extents: &out_dims,
        out: (out, &out_access),
        stage_columns: args.stage_columns(),
        first_arg: step.kind.own_args(),
    };
    let epilogue = Epilogue::resolve(step, cx, epilogue.as_ref(), &product)?;
    let rows = sparse.as_ref().map_or_else(|| dense_rows(&args), |weights| weights.rows);
    let flops = out_dims.iter().chain(&[rows, 2]).fold(1usize, |p, d| p.saturating_mul(*d));
    let (step, kernels) = (step.name.clone(), cx.kernels()?);
    Ok(Box::new(Conv { step, kernels, args, flops, x, weights, sparse, bias, out, epilogue }))
}

/// Rows of a group's weights: what each element of the result is summed over.
fn dense_rows(args: &ConvArgs) -> usize {
    let rows = [args.kernel[0], args.kernel[1], args.weights().c];
    rows.iter().fold(1, |p, d| p.saturating_mul(*d))
}

impl Conv {
    /// Elements of scratch that the weights need.
    fn own_scratch(&self) -> usize {
        if self.sparse.is_some() { SPARSE_SCRATCH } else { 0 }
    }
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

    fn nests(&mut self) -> Vec<&mut TilePlan> {
        self.epilogue.iter_mut().map(Epilogue::nest).collect()
    }

    fn scratch_bytes(&self) -> usize {
        self.own_scratch() * size_of::<f32>() + if self.epilogue.is_some() { STAGE_BYTES } else { 0 }
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: no output is placed over these arguments, so no worker writes what is read here.
        let (x, weights) = unsafe { (floats(mem, self.x)?, floats(mem, self.weights)?) };
        let bias = match self.bias {
            // SAFETY: as above.
            Some(bias) => Some(unsafe { floats(mem, bias)? }),
            None => None,
        };
        let scratch = scratch_floats(scratch);
        let (scratch, stage) = scratch.split_at_mut(self.own_scratch().min(scratch.len()));
        let weights = match &self.sparse {
            // SAFETY: as above.
            Some(weights) => ConvB::Sparse(unsafe { weights.operand(mem, scratch)? }),
            None => ConvB::Packed(weights),
        };
        let part = part_of(part, parts);
        if let Some(epilogue) = &self.epilogue {
            return epilogue.run(mem, stage, |stage| {
                conv_staged(&self.kernels, &self.args, x, weights, bias, stage, part)
            });
        }
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        conv(&self.kernels, &self.args, x, weights, bias, &out, part).map_err(|e| refused(&self.step, &e))
    }
}
