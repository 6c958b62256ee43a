//! `MatMul`: f32 matrix products.

use super::epilogue::{Epilogue, Product, STAGE_BYTES};
use super::floats::{
    floats, floats_out, part as part_of, refused, refused_step, scratch_floats, start, workers_for,
};
use super::sparse::Weights;
use super::{Call, PlanCx, Strided, footprint};
use crate::cpu::kernels::{
    BatchDim, Kernels, Limits, MATMUL_SCRATCH, MatB, MatMulArgs, RowView, View, matmul, matmul_staged,
};
use crate::cpu::sparse::SparseMatrix;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};
use crate::tile::TilePlan;

struct MatMul {
    step: String,
    kernels: Kernels,
    batch: Vec<BatchDim>,
    m: usize,
    k: usize,
    n: usize,
    a_view: View,
    b_view: View,
    out_view: RowView,
    packed: bool,
    sparse: Option<Weights>,
    a: ValueId,
    b: ValueId,
    bias: Option<ValueId>,
    out: ValueId,
    limits: Option<Limits>,
    epilogue: Option<Epilogue>,
}

/// The last two dimensions of an access.
fn view(step: &Step, access: &Strided) -> Result<View, RunError> {
    let [.., row, col] = access.strides.as_slice() else {
        return Err(footprint(step, "an operand has fewer than two strides".into()));
    };
    Ok(View { offset: start(step, access)?, row: *row as isize, col: *col as isize })
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::MatMul { batch, m, k, n, a, b, b_packed, sparsity, out: out_access, bias, epilogue } =
        &step.kind
    else {
        return Err(footprint(step, "is not a MatMul step".into()));
    };
    let extents = batch.iter().map(|r| cx.size(step, "a batch extent", *r)).collect::<Result<Vec<_>, _>>()?;
    let (m, k, n) = (cx.size(step, "m", *m)?, cx.size(step, "k", *k)?, cx.size(step, "n", *n)?);
    let (a_value, b_value, out) = (cx.arg(step, 0)?, cx.arg(step, 1)?, cx.out(step, 0)?);
    let bias = if *bias { Some(cx.arg(step, step.kind.own_args() - 1)?) } else { None };
    let sparse = sparsity.map(|s| Weights::resolve(step, cx, &SparseMatrix::product(s, k, n))).transpose()?;
    for value in [Some(a_value), Some(b_value), bias, Some(out)].into_iter().flatten() {
        cx.require_f32(step, value)?;
    }
    let nest = |rows, cols| [extents.as_slice(), &[rows, cols]].concat();
    let a_strides = cx.access(step, a, &nest(m, k), a_value)?;
    // A packed factor is read as a whole, whatever the access says.
    let b_strides = if *b_packed {
        Strided { offset: 0, strides: vec![0; extents.len() + 2] }
    } else {
        cx.access(step, b, &nest(k, n), b_value)?
    };
    let out_strides = cx.lines(step, out_access, &nest(m, n), out)?;
    let batch = extents
        .iter()
        .enumerate()
        .map(|(i, &extent)| {
            let of = |access: &Strided| access.strides[i] as isize;
            BatchDim { extent, a: of(&a_strides), b: of(&b_strides), out: of(&out_strides) }
        })
        .collect();
    let product = Product {
        extents: &nest(m, n),
        out: (out, &out_strides),
        stage_columns: n,
        first_arg: step.kind.own_args(),
    };
    let (epilogue, limits) = Epilogue::or_limits(step, cx, epilogue.as_ref(), &product)?;
    let call = MatMul {
        step: step.name.clone(),
        kernels: cx.kernels()?,
        batch,
        m,
        k,
        n,
        a_view: view(step, &a_strides)?,
        b_view: view(step, &b_strides)?,
        out_view: RowView { offset: start(step, &out_strides)?, row: view(step, &out_strides)?.row },
        packed: *b_packed,
        sparse,
        a: a_value,
        b: b_value,
        bias,
        out,
        limits,
        epilogue,
    };
    let foot = call.args().footprint().map_err(refused_step(step))?;
    let fits = |what: &str, end: usize, value| match cx.len(step, value)? {
        have if end <= have => Ok(()),
        have => Err(footprint(step, format!("{what} has {have} of {end} elements"))),
    };
    fits("the left factor", foot.a.end, a_value)?;
    // Sparse weights were checked above.
    if call.sparse.is_none() {
        fits("the right factor", if *b_packed { foot.b_packed.end } else { foot.b.end }, b_value)?;
    }
    if let Some(bias) = bias {
        cx.require_len(step, "the bias", bias, &[n])?;
    }
    Ok(Box::new(call))
}

impl MatMul {
    fn args(&self) -> MatMulArgs<'_> {
        let (batch, a, b, out) = (self.batch.as_slice(), self.a_view, self.b_view, self.out_view);
        MatMulArgs { batch, m: self.m, k: self.k, n: self.n, a, b, out, limits: self.limits }
    }

    /// Elements of scratch that the right factor needs.
    fn own_scratch(&self) -> usize {
        match &self.sparse {
            Some(weights) => weights.scratch(),
            None if self.packed => 0,
            None => MATMUL_SCRATCH,
        }
    }
}

impl Call for MatMul {
    fn work(&self) -> u64 {
        self.flops()
    }

    fn flops(&self) -> u64 {
        let batches = self.batch.iter().fold(1u64, |p, d| p.saturating_mul(d.extent as u64));
        let k = self.sparse.as_ref().map_or(self.k, |weights| weights.rows);
        [self.m, k, self.n, 2].iter().fold(batches, |p, d| p.saturating_mul(*d as u64))
    }

    fn parts(&self, max: usize) -> usize {
        workers_for(self.flops() as usize, max)
    }

    fn nests(&mut self) -> Vec<&mut TilePlan> {
        self.epilogue.iter_mut().map(Epilogue::nest).collect()
    }

    fn scratch_bytes(&self) -> usize {
        self.own_scratch() * size_of::<f32>() + if self.epilogue.is_some() { STAGE_BYTES } else { 0 }
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: no output is placed over these arguments, so no worker writes them.
        let (a, b) = unsafe { (floats(mem, self.a)?, floats(mem, self.b)?) };
        let bias = match self.bias {
            // SAFETY: as above.
            Some(bias) => Some(unsafe { floats(mem, bias)? }),
            None => None,
        };
        let scratch = scratch_floats(scratch);
        let (scratch, stage) = scratch.split_at_mut(self.own_scratch().min(scratch.len()));
        let b = match &self.sparse {
            // SAFETY: as above.
            Some(weights) => unsafe { weights.operand(mem, scratch)? }.into(),
            None if self.packed => MatB::Packed(b),
            None => MatB::Strided { data: b, scratch },
        };
        let part = part_of(part, parts);
        if let Some(epilogue) = &self.epilogue {
            return epilogue.run(mem, stage, |stage| {
                matmul_staged(&self.kernels, &self.args(), a, b, bias, stage, part)
            });
        }
        // SAFETY: the kernel writes disjoint elements for different parts.
        let out = unsafe { floats_out(mem, self.out)? };
        matmul(&self.kernels, &self.args(), a, b, bias, &out, part).map_err(|e| refused(&self.step, &e))
    }
}
