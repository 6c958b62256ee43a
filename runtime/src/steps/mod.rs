//! Execution of steps: every [`StepKind`] has one module, which checks a step's footprint against concrete sizes when a
//! plan is made and runs it later without further checks of sizes. What depends on tensor contents, such as indices,
//! is checked at use.

mod attention;
mod conv;
mod dims;
mod epilogue;
mod floats;
mod gather;
mod gather_matmul;
mod gather_nd;
mod indexed;
mod matmul;
mod norm;
mod pool;
mod recurrent;
mod scatter;
mod sparse;
mod tile;
mod tiles;
mod top_k;

pub(crate) use epilogue::check_map;
pub(crate) use tiles::nests;

use crate::cpu::features::Isa;
use crate::cpu::kernels::Kernels;
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::plan::Sizes;
use crate::program::{Access, Program, Reg, Step, StepKind, ValueId};
use crate::tile::TilePlan;
use std::sync::Arc;

/// A step resolved for concrete sizes.
pub trait Call: Send + Sync {
    /// How many workers are useful, at most `max`.
    fn parts(&self, max: usize) -> usize {
        max.min(1)
    }

    /// Arithmetic operations of the step, for kernels that are limited by arithmetic; a multiply-add counts 2.
    fn flops(&self) -> u64 {
        0
    }

    /// Elementary operations of the step, within a small factor: what bounds its running time.
    fn work(&self) -> u64;

    /// The loop nests that the step runs, to be compiled: its own, or those of its epilogue.
    fn nests(&mut self) -> Vec<&mut TilePlan> {
        Vec::new()
    }

    /// Bytes of scratch memory that each worker needs.
    fn scratch_bytes(&self) -> usize {
        0
    }

    /// Does part `part` of `parts`. All parts run at once; they write disjoint bytes of the step's outputs. `scratch`
    /// is this worker's, aligned to 64 bytes, with arbitrary contents.
    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError>;
}

/// Resolves a step, or says why its sizes do not fit.
pub fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    match &step.kind {
        StepKind::Tile { .. } => tile::resolve(step, cx),
        StepKind::Tiles { .. } => tiles::resolve(step, cx),
        StepKind::MatMul { .. } => matmul::resolve(step, cx),
        StepKind::Conv { .. } | StepKind::Winograd { .. } => conv::resolve(step, cx),
        StepKind::Pool { .. } => pool::resolve(step, cx),
        StepKind::Softmax { .. } => norm::resolve_softmax(step, cx),
        StepKind::LayerNorm { .. } => norm::resolve_layer_norm(step, cx),
        StepKind::GatherNd { .. } => gather_nd::resolve(step, cx),
        StepKind::GatherElements { .. } => gather_nd::resolve_elements(step, cx),
        StepKind::ScatterNd { .. } | StepKind::ScatterElements { .. } => scatter::resolve(step, cx),
        StepKind::TopK { .. } => top_k::resolve(step, cx),
        StepKind::Gather { .. } => gather::resolve(step, cx),
        StepKind::GatherMatMul { .. } => gather_matmul::resolve(step, cx),
        StepKind::Dims { .. } => dims::resolve(step, cx),
        StepKind::Attention { .. } => attention::resolve(step, cx),
        StepKind::Recurrent { .. } => recurrent::resolve(step, cx),
    }
}

/// What a step can see while a plan is made.
pub struct PlanCx<'a> {
    /// The program, to be kept by calls that need parts of it.
    pub program: &'a Arc<Program>,
    /// The registers of the shape program.
    pub regs: &'a [i64],
    /// Sizes of all values.
    pub sizes: &'a Sizes,
    /// The instruction set to use.
    pub isa: Isa,
    /// How many threads will run the plan.
    pub workers: usize,
}

impl PlanCx<'_> {
    /// A register.
    pub fn reg(&self, step: &Step, reg: Reg) -> Result<i64, RunError> {
        let missing = || footprint(step, format!("register {reg} does not exist"));
        self.regs.get(reg as usize).copied().ok_or_else(missing)
    }

    /// A register that is a size.
    pub fn size(&self, step: &Step, what: &str, reg: Reg) -> Result<usize, RunError> {
        let value = self.reg(step, reg)?;
        usize::try_from(value).map_err(|_| footprint(step, format!("{what} is {value}")))
    }

    /// Registers that are sizes.
    pub fn sizes_of<const N: usize>(
        &self,
        step: &Step,
        what: &str,
        regs: &[Reg; N],
    ) -> Result<[usize; N], RunError> {
        let mut sizes = [0; N];
        for (size, reg) in sizes.iter_mut().zip(regs) {
            *size = self.size(step, what, *reg)?;
        }
        Ok(sizes)
    }

    /// Element type of a value.
    pub fn elem(&self, step: &Step, value: ValueId) -> Result<ElemType, RunError> {
        let missing = || footprint(step, format!("value {value} does not exist"));
        self.program.values.get(value as usize).map(|v| v.elem).ok_or_else(missing)
    }

    /// The kernels of the session's instruction set.
    pub fn kernels(&self) -> Result<Kernels, RunError> {
        Kernels::new(self.isa).map_err(|e| RunError::Shape(e.to_string()))
    }

    /// Requires a value to be f32.
    pub fn require_f32(&self, step: &Step, value: ValueId) -> Result<(), RunError> {
        match self.elem(step, value)? {
            ElemType::F32 => Ok(()),
            other => Err(footprint(step, format!("value {value} is {other:?} where f32 is needed"))),
        }
    }

    /// Number of elements of a value.
    pub fn len(&self, step: &Step, value: ValueId) -> Result<usize, RunError> {
        Ok(self.sizes.bytes(value) / self.elem(step, value)?.size())
    }

    /// Argument `i` of a step.
    pub fn arg(&self, step: &Step, i: usize) -> Result<ValueId, RunError> {
        step.args.get(i).copied().ok_or_else(|| footprint(step, format!("argument {i} is missing")))
    }

    /// Output `i` of a step.
    pub fn out(&self, step: &Step, i: usize) -> Result<ValueId, RunError> {
        step.outs.get(i).copied().ok_or_else(|| footprint(step, format!("output {i} is missing")))
    }

    /// Requires a value to have exactly the product of `extents` elements, and gives that product.
    pub fn require_len(
        &self,
        step: &Step,
        what: &str,
        value: ValueId,
        extents: &[usize],
    ) -> Result<usize, RunError> {
        let have = self.len(step, value)?;
        let want = if extents.contains(&0) {
            Some(0)
        } else {
            extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))
        };
        match want {
            Some(want) if want == have => Ok(want),
            _ => Err(footprint(step, format!("{what} has {have} elements instead of those of {extents:?}"))),
        }
    }

    /// Evaluates an access and requires every element that it visits over a loop nest of `extents` to be inside the
    /// value. An empty loop nest visits nothing.
    pub fn access(
        &self,
        step: &Step,
        access: &Access,
        extents: &[usize],
        value: ValueId,
    ) -> Result<Strided, RunError> {
        let strided = self.strided(step, access)?;
        self.check_span(step, &strided, extents, value)?;
        Ok(strided)
    }

    /// An access with the registers' numbers.
    pub fn strided(&self, step: &Step, access: &Access) -> Result<Strided, RunError> {
        let strides = access.strides.iter().map(|&r| self.reg(step, r)).collect::<Result<_, _>>()?;
        Ok(Strided { offset: self.reg(step, access.offset)?, strides })
    }

    /// As [`Self::access`] for an access that leaves out its last dimension, of stride 1; the result has it.
    pub fn lines(
        &self,
        step: &Step,
        access: &Access,
        extents: &[usize],
        value: ValueId,
    ) -> Result<Strided, RunError> {
        let mut strided = self.strided(step, access)?;
        strided.strides.push(1);
        self.check_span(step, &strided, extents, value)?;
        if extents.contains(&0) {
            strided.offset = 0;
        }
        Ok(strided)
    }

    fn check_span(
        &self,
        step: &Step,
        strided: &Strided,
        extents: &[usize],
        value: ValueId,
    ) -> Result<(), RunError> {
        let len = self.len(step, value)?;
        match strided.span(extents) {
            Ok(None) => Ok(()),
            Ok(Some((low, high))) if low >= 0 && high < len as i128 => Ok(()),
            Ok(Some((low, high))) => Err(footprint(
                step,
                format!("elements {low} to {high} of value {value} are accessed, it has {len}"),
            )),
            Err(detail) => Err(footprint(step, format!("access to value {value}: {detail}"))),
        }
    }
}

/// The product of counts, saturating.
pub fn count(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product, &n| product.saturating_mul(n as u64))
}

/// An [`Access`] with concrete numbers, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// First element.
    pub offset: i64,
    /// One stride a loop dimension.
    pub strides: Vec<i64>,
}

impl Strided {
    /// The smallest and the largest element visited over a loop nest of `extents`, or `None` if it is empty.
    pub fn span(&self, extents: &[usize]) -> Result<Option<(i128, i128)>, String> {
        if extents.len() != self.strides.len() {
            return Err(format!("{} strides for {} loop dimensions", self.strides.len(), extents.len()));
        }
        if extents.contains(&0) {
            return Ok(None);
        }
        let (mut low, mut high) = (i128::from(self.offset), i128::from(self.offset));
        for (&extent, &stride) in extents.iter().zip(&self.strides) {
            // Less than 2^127: an i64 times a usize; the sums are few.
            let reach = i128::from(stride).checked_mul(extent as i128 - 1).ok_or("stride overflow")?;
            let end = if reach < 0 { &mut low } else { &mut high };
            *end = end.checked_add(reach).ok_or("offset overflow")?;
        }
        Ok(Some((low, high)))
    }
}

impl Strided {
    /// Whether no element is visited twice over a loop nest of `extents`. Sufficient, and true of every strided part of a
    /// dense tensor.
    pub fn is_injective(&self, extents: &[usize]) -> bool {
        let mut steps: Vec<(u64, u64)> = extents
            .iter()
            .zip(&self.strides)
            .filter(|(extent, _)| **extent > 1)
            .map(|(extent, stride)| (stride.unsigned_abs(), *extent as u64))
            .collect();
        steps.sort_unstable();
        let mut reach = 0u64;
        steps.iter().all(|&(stride, extent)| {
            let fits = stride > reach;
            reach = reach.saturating_add(stride.saturating_mul(extent - 1));
            fits
        })
    }
}

/// A [`RunError::Footprint`].
pub fn footprint(step: &Step, detail: String) -> RunError {
    RunError::Footprint { step: step.name.clone(), detail }
}

/// The `part`-th of `parts` nearly equal pieces of `0..count`.
pub fn share(count: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    let (each, extra) = (count / parts.max(1), count % parts.max(1));
    let start = part * each + part.min(extra);
    start..start + each + usize::from(part < extra)
}
