//! `Attention`: f32 scaled dot-product attention.

use super::floats::{
    floats, floats_out, part as part_of, refused, refused_step, scratch_floats, start, workers_for,
};
use super::{Call, PlanCx, count, footprint};
use crate::cpu::kernels::{AttentionArgs, Heads, Kernels, attention};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Access, Step, StepKind, ValueId};

struct Attention {
    step: String,
    kernels: Kernels,
    args: AttentionArgs,
    blocks: usize,
    scratch: usize,
    q: ValueId,
    k: ValueId,
    v: ValueId,
    mask: Option<ValueId>,
    out: ValueId,
}

/// A checked f32 operand.
fn operand(
    step: &Step,
    cx: &PlanCx<'_>,
    value: ValueId,
    access: &Access,
    extents: [usize; 4],
) -> Result<Heads, RunError> {
    cx.require_f32(step, value)?;
    let mut strided = cx.access(step, access, &extents, value)?;
    if extents.contains(&0) {
        strided.offset = 0;
    }
    let [b, h, r, c] = *strided.strides.as_slice() else {
        return Err(footprint(step, format!("{} strides instead of 4", strided.strides.len())));
    };
    Ok(Heads { offset: start(step, &strided)?, steps: [b as isize, h as isize, r as isize, c as isize] })
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Attention {
        batch,
        heads,
        kv_heads,
        q_len,
        kv_len,
        head_dim,
        v_dim,
        scale,
        q: q_access,
        k: k_access,
        v: v_access,
        out: out_access,
        mask: mask_access,
        causal,
        fill,
        zero_masked,
    } = &step.kind
    else {
        return Err(footprint(step, "is not an Attention step".into()));
    };
    let sizes = [*batch, *heads, *kv_heads, *q_len, *kv_len, *head_dim, *v_dim];
    let [batch, heads, kv_heads, q_len, kv_len, head_dim, v_dim] = cx.sizes_of(step, "an extent", &sizes)?;
    let (q, k, v, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.arg(step, 2)?, cx.out(step, 0)?);
    let mask = if mask_access.is_some() { Some(cx.arg(step, 3)?) } else { None };
    let of = |value, access, extents| operand(step, cx, value, access, extents);
    let args = AttentionArgs {
        batch,
        heads,
        kv_heads,
        q_len,
        kv_len,
        head_dim,
        v_dim,
        scale: *scale,
        q: of(q, q_access, [batch, heads, q_len, head_dim])?,
        k: of(k, k_access, [batch, kv_heads, kv_len, head_dim])?,
        v: of(v, v_access, [batch, kv_heads, kv_len, v_dim])?,
        out: of(out, out_access, [batch, heads, q_len, v_dim])?,
        mask: match (mask, mask_access) {
            (Some(mask), Some(access)) => Some(of(mask, access, [batch, heads, q_len, kv_len])?),
            _ => None,
        },
        causal: match causal {
            Some(offset) => Some(cx.reg(step, *offset)?),
            None => None,
        },
        fill: *fill,
        zero_masked: *zero_masked,
    };
    let scratch = args.footprint().map_err(refused_step(step))?.scratch;
    let blocks = args.blocks().map_err(refused_step(step))?;
    let (step, kernels) = (step.name.clone(), cx.kernels()?);
    Ok(Box::new(Attention { step, kernels, args, blocks, scratch, q, k, v, mask, out }))
}

/// Operations that the softmax of one score costs, roughly.
const FLOPS_PER_SCORE: usize = 16;

impl Call for Attention {
    fn work(&self) -> u64 {
        let AttentionArgs { batch, heads, q_len, kv_len, .. } = self.args;
        self.flops().saturating_add(count(&[batch, heads, q_len, kv_len, FLOPS_PER_SCORE]))
    }

    fn flops(&self) -> u64 {
        let AttentionArgs { batch, heads, q_len, kv_len, head_dim, v_dim, .. } = self.args;
        let depth = head_dim.saturating_add(v_dim);
        [batch, heads, q_len, kv_len, depth].iter().fold(2u64, |all, size| all.saturating_mul(*size as u64))
    }

    fn parts(&self, max: usize) -> usize {
        workers_for(self.flops() as usize, max).min(self.blocks)
    }

    fn scratch_bytes(&self) -> usize {
        self.scratch.saturating_mul(size_of::<f32>())
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: no output is placed over these arguments, so no worker writes what is read here.
        let (q, k, v) = unsafe { (floats(mem, self.q)?, floats(mem, self.k)?, floats(mem, self.v)?) };
        let mask = match self.mask {
            // SAFETY: as above.
            Some(mask) => Some(unsafe { floats(mem, mask)? }),
            None => None,
        };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        let scratch = scratch_floats(scratch);
        attention(&self.kernels, &self.args, q, k, v, mask, &out, scratch, part_of(part, parts))
            .map_err(|e| refused(&self.step, &e))
    }
}
