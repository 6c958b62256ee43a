//! `Conv` and `Winograd`: f32 channels-last convolutions.

use super::epilogue::{Epilogue, Product, STAGE_BYTES};
use super::floats::{
    floats, floats_out, part as part_of, pixels, refused, refused_step, scratch_floats, workers_for,
};
use super::sparse::Weights;
use super::{Call, PlanCx, footprint};
use crate::cpu::kernels::{
    ConvArgs, ConvB, KernelError, Kernels, WinogradB, conv, conv_staged, winograd_scratch,
};
use crate::cpu::pack::packed_winograd_len;
use crate::cpu::sparse::SparseMatrix;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{self, Access, Reg, Sparsity, Step, StepKind, ValueId};
use crate::tile::TilePlan;

struct Conv {
    step: String,
    kernels: Kernels,
    args: ConvArgs,
    /// Of the direct algorithm without what is not stored.
    flops: usize,
    x: ValueId,
    weights: ValueId,
    form: Form,
    bias: Option<ValueId>,
    out: ValueId,
    epilogue: Option<Epilogue>,
}

/// How the weights are stored.
enum Form {
    Packed,
    Sparse(Weights),
    /// For Winograd's algorithm, which needs this many elements of scratch.
    Transformed(usize),
}

impl Form {
    /// Argument 1 of a step and its codes, which hold exactly the weights of a convolution whose footprint is checked.
    fn resolve(step: &Step, cx: &PlanCx<'_>, parts: &Parts<'_>, args: &ConvArgs) -> Result<Self, RunError> {
        let holds = |len| cx.require_len(step, "the weights", cx.arg(step, 1)?, &[len]);
        match (parts.sparsity, parts.windows) {
            (Some(sparsity), _) => {
                let matrix = SparseMatrix::conv(sparsity, &args.weights()).map_err(refused_step(step))?;
                Ok(Form::Sparse(Weights::resolve(step, cx, &matrix)?))
            }
            (None, Some(_)) => {
                holds(args.footprint().map_err(refused_step(step))?.weights.end)?;
                Ok(Form::Packed)
            }
            (None, None) => {
                let len = packed_winograd_len(args.channels, args.m).ok_or(KernelError::Overflow);
                holds(len.map_err(refused_step(step))?)?;
                Ok(Form::Transformed(winograd_scratch(args).map_err(refused_step(step))?))
            }
        }
    }
}

/// What both kinds of steps say.
struct Parts<'s> {
    extents: &'s [Reg; 4],
    out_extents: &'s [Reg; 2],
    x: &'s Access,
    out: &'s Access,
    /// Kernel, stride and dilation where they are not those of Winograd's algorithm, and the groups.
    windows: Option<([&'s [Reg; 2]; 3], Reg)>,
    m: Reg,
    sparsity: Option<Sparsity>,
    bias: bool,
    epilogue: Option<&'s program::Epilogue>,
}

fn parts(kind: &StepKind) -> Option<Parts<'_>> {
    match kind {
        StepKind::Conv {
            extents,
            out_extents,
            x,
            out,
            kernel,
            stride,
            dilation,
            groups,
            m,
            sparsity,
            bias,
            epilogue,
        } => Some(Parts {
            extents,
            out_extents,
            x,
            out,
            windows: Some(([kernel, stride, dilation], *groups)),
            m: *m,
            sparsity: *sparsity,
            bias: *bias,
            epilogue: epilogue.as_ref(),
        }),
        StepKind::Winograd { extents, out_extents, x, out, m, bias, epilogue } => Some(Parts {
            extents,
            out_extents,
            x,
            out,
            windows: None,
            m: *m,
            sparsity: None,
            bias: *bias,
            epilogue: epilogue.as_ref(),
        }),
        _ => None,
    }
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let Some(parts) = parts(&step.kind) else {
        return Err(footprint(step, "is not a convolution".into()));
    };
    let (x, weights, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    let bias = if parts.bias { Some(cx.arg(step, step.kind.own_args() - 1)?) } else { None };
    for value in [Some(x), Some(weights), bias, Some(out)].into_iter().flatten() {
        cx.require_f32(step, value)?;
    }
    let [batch, height, width, channels] = cx.sizes_of(step, "an extent of the input", parts.extents)?;
    let out_size = cx.sizes_of(step, "an extent of the output", parts.out_extents)?;
    let m = cx.size(step, "the number of outputs", parts.m)?;
    let x_access = cx.lines(step, parts.x, &[batch, height, width, channels], x)?;
    let out_dims = [batch, out_size[0], out_size[1], m];
    let out_access = cx.lines(step, parts.out, &out_dims, out)?;
    let (kernel, stride, dilation, groups) = match parts.windows {
        Some(([kernel, stride, dilation], groups)) => (
            cx.sizes_of(step, "the kernel", kernel)?,
            cx.sizes_of(step, "the stride", stride)?,
            cx.sizes_of(step, "the dilation", dilation)?,
            cx.size(step, "the number of groups", groups)?,
        ),
        None => ([3; 2], [1; 2], [1; 2], 1),
    };
    let args = ConvArgs {
        batch,
        in_size: [height, width],
        channels,
        m,
        kernel,
        stride,
        dilation,
        groups,
        x: pixels(step, &x_access)?,
        out: pixels(step, &out_access)?,
        limits: None,
    };
    args.footprint().map_err(refused_step(step))?;
    let computed = args.out_size().map_err(refused_step(step))?;
    if computed != out_size {
        return Err(footprint(step, format!("the output is {out_size:?} instead of {computed:?}")));
    }
    let form = Form::resolve(step, cx, &parts, &args)?;
    if let Some(bias) = bias {
        cx.require_len(step, "the bias", bias, &[m])?;
    }
    let product = Product {
        extents: &out_dims,
        out: (out, &out_access),
        stage_columns: args.stage_columns(),
        first_arg: step.kind.own_args(),
    };
    let (epilogue, limits) = Epilogue::or_limits(step, cx, parts.epilogue, &product)?;
    let args = ConvArgs { limits, ..args };
    let rows = if let Form::Sparse(weights) = &form { weights.rows } else { dense_rows(&args) };
    let flops = out_dims.iter().chain(&[rows, 2]).fold(1usize, |p, d| p.saturating_mul(*d));
    let (step, kernels) = (step.name.clone(), cx.kernels()?);
    Ok(Box::new(Conv { step, kernels, args, flops, x, weights, form, bias, out, epilogue }))
}

/// Rows of a group's weights: what each element of the result is summed over.
fn dense_rows(args: &ConvArgs) -> usize {
    let rows = [args.kernel[0], args.kernel[1], args.weights().c];
    rows.iter().fold(1, |p, d| p.saturating_mul(*d))
}

impl Conv {
    /// Elements of scratch that the weights need.
    fn own_scratch(&self) -> usize {
        match &self.form {
            Form::Packed => 0,
            Form::Sparse(weights) => weights.scratch(),
            Form::Transformed(len) => *len,
        }
    }

    /// What the arithmetic is worth in that of the direct algorithm, with which it was measured.
    fn effort(&self) -> usize {
        if matches!(self.form, Form::Transformed(_)) { self.flops / 3 } else { self.flops }
    }
}

impl Call for Conv {
    fn work(&self) -> u64 {
        self.effort() as u64
    }

    fn flops(&self) -> u64 {
        self.flops as u64
    }

    fn parts(&self, max: usize) -> usize {
        workers_for(self.effort(), max)
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
        let weights = match &self.form {
            Form::Packed => ConvB::Packed(weights),
            // SAFETY: as above.
            Form::Sparse(weights) => unsafe { weights.operand(mem, scratch)? }.into(),
            Form::Transformed(_) => ConvB::Winograd(WinogradB { weights, scratch }),
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
