//! `GatherMatMul`: f32 products with matrices picked by an index tensor. Indices are checked when they are used.

use super::floats::{
    floats, floats_out, part as part_of, refused, refused_step, scratch_floats, start, workers_for,
};
use super::indexed::Index;
use super::{Call, PlanCx, Strided, count, footprint};
use crate::cpu::kernels::gather_matmul::GatherMatMulFootprint;
use crate::cpu::kernels::{
    BatchDim, GatherMatMulArgs, Kernels, MATMUL_SCRATCH, MatMulArgs, RowView, Stack, View, gather_matmul,
};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};

struct GatherMatMul {
    step: String,
    kernels: Kernels,
    batch: Vec<BatchDim>,
    m: usize,
    k: usize,
    n: usize,
    matrices: usize,
    a_view: View,
    /// Of the first matrix.
    b_view: View,
    /// Distance of matrices.
    b_step: isize,
    out_view: RowView,
    packed: bool,
    a: ValueId,
    b: ValueId,
    index: Index,
    index_at: Strided,
    out: ValueId,
    foot: GatherMatMulFootprint,
}

/// The last two dimensions of an access.
fn view(step: &Step, access: &Strided) -> Result<View, RunError> {
    let [.., row, col] = access.strides.as_slice() else {
        return Err(footprint(step, "an operand has fewer than two strides".into()));
    };
    Ok(View { offset: start(step, access)?, row: *row as isize, col: *col as isize })
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::GatherMatMul { batch, m, k, n, matrices, a, b, b_packed, index, out: out_access } =
        &step.kind
    else {
        return Err(footprint(step, "is not a GatherMatMul step".into()));
    };
    let extents = batch.iter().map(|r| cx.size(step, "a batch extent", *r)).collect::<Result<Vec<_>, _>>()?;
    let (m, k, n) = (cx.size(step, "m", *m)?, cx.size(step, "k", *k)?, cx.size(step, "n", *n)?);
    let matrices = cx.size(step, "the number of matrices", *matrices)?;
    let (a_value, b_value, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    for value in [a_value, b_value, out] {
        cx.require_f32(step, value)?;
    }
    let picks = Index::any(step, cx, 2)?;
    let nest = |rows, cols| [extents.as_slice(), &[rows, cols]].concat();
    let a_at = cx.access(step, a, &nest(m, k), a_value)?;
    // Packed matrices are read as a whole, whatever the access says.
    let b_at = if *b_packed {
        Strided { offset: 0, strides: vec![0; 3] }
    } else {
        cx.access(step, b, &[matrices, k, n], b_value)?
    };
    let index_at = cx.access(step, index, &extents, picks.value)?;
    let out_at = cx.lines(step, out_access, &nest(m, n), out)?;
    let of = |access: &Strided, i: usize| access.strides[i] as isize;
    let batch: Vec<BatchDim> = (extents.iter().enumerate())
        .map(|(i, &extent)| BatchDim { extent, a: of(&a_at, i), b: 0, out: of(&out_at, i) })
        .collect();
    let out_view = RowView { offset: start(step, &out_at)?, row: view(step, &out_at)?.row };
    let (a_view, b_view, b_step) = (view(step, &a_at)?, view(step, &b_at)?, of(&b_at, 0));
    let product = MatMulArgs { batch: &batch, m, k, n, a: a_view, b: b_view, out: out_view, limits: None };
    let foot =
        GatherMatMulArgs { product, matrices, step: b_step }.footprint().map_err(refused_step(step))?;
    let read = if *b_packed { &foot.b_packed } else { &foot.b };
    for (what, end, value) in [("the left factor", foot.a.end, a_value), ("the matrices", read.end, b_value)]
    {
        let have = cx.len(step, value)?;
        if end > have {
            return Err(footprint(step, format!("{what} has {have} of {end} elements")));
        }
    }
    Ok(Box::new(GatherMatMul {
        step: step.name.clone(),
        kernels: cx.kernels()?,
        batch,
        m,
        k,
        n,
        matrices,
        a_view,
        b_view,
        b_step,
        out_view,
        packed: *b_packed,
        a: a_value,
        b: b_value,
        index: picks,
        index_at,
        out,
        foot,
    }))
}

impl GatherMatMul {
    fn args(&self) -> GatherMatMulArgs<'_> {
        let (batch, a, b, out) = (self.batch.as_slice(), self.a_view, self.b_view, self.out_view);
        let product = MatMulArgs { batch, m: self.m, k: self.k, n: self.n, a, b, out, limits: None };
        GatherMatMulArgs { product, matrices: self.matrices, step: self.b_step }
    }

    /// Bytes of scratch for packing columns of a matrix.
    fn packing(&self) -> usize {
        if self.packed { 0 } else { MATMUL_SCRATCH * size_of::<f32>() }
    }

    /// The matrix of each element of the batch.
    fn choose(&self, index: &[u8], choice: &mut [usize]) -> Result<(), RunError> {
        for (i, slot) in choice.iter_mut().enumerate() {
            let (mut at, mut rest) = (self.index_at.offset, i);
            for (dim, stride) in self.batch.iter().zip(&self.index_at.strides).rev() {
                at = at.wrapping_add((rest % dim.extent) as i64 * stride);
                rest /= dim.extent;
            }
            // The access was checked; what it would leave the index at is no position.
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            *slot = self.index.at(&self.step, index, at, self.matrices)?;
        }
        Ok(())
    }
}

impl Call for GatherMatMul {
    fn work(&self) -> u64 {
        self.flops().saturating_add(count(&[self.foot.lists]))
    }

    fn flops(&self) -> u64 {
        count(&[self.foot.choice, self.m, self.k, self.n, 2])
    }

    fn parts(&self, max: usize) -> usize {
        workers_for(self.flops() as usize, max)
    }

    fn scratch_bytes(&self) -> usize {
        let lists = self.foot.choice.saturating_add(self.foot.lists).saturating_mul(size_of::<usize>());
        lists.saturating_add(self.packing())
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: no output is placed over these arguments, so no worker writes them.
        let (a, b, index) =
            unsafe { (floats(mem, self.a)?, floats(mem, self.b)?, mem.bytes(self.index.value)?) };
        let too_little = || RunError::Shape("too little scratch memory".into());
        let (packing, rest) = scratch.split_at_mut_checked(self.packing()).ok_or_else(too_little)?;
        // SAFETY: every bit pattern is a number; both pieces of scratch are aligned to 64 bytes.
        let (_, numbers, _) = unsafe { rest.align_to_mut::<usize>() };
        let (choice, lists) = numbers.split_at_mut_checked(self.foot.choice).ok_or_else(too_little)?;
        // SAFETY: every bit pattern is a number, and both types have one alignment.
        let (_, lists, _) = unsafe { lists.align_to_mut::<isize>() };
        self.choose(index, choice)?;
        let stack = match self.packed {
            true => Stack::Packed(b),
            false => Stack::Strided { data: b, scratch: scratch_floats(packing) },
        };
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        let part = part_of(part, parts);
        gather_matmul(&self.kernels, &self.args(), (a, stack), choice, lists, &out, part)
            .map_err(|e| refused(&self.step, &e))
    }
}
