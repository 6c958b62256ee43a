//! `TopK`: the largest or smallest elements of every column, with their positions.

use super::indexed::{copy, same_elem, whole_output};
use super::{Call, PlanCx, count, footprint};
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};
use std::cmp::Ordering;

/// Orders two elements by their bytes.
type Compare = fn(&[u8], &[u8]) -> Ordering;

struct TopK {
    step: String,
    data: ValueId,
    values: ValueId,
    indices: ValueId,
    outer: usize,
    axis: usize,
    inner: usize,
    k: usize,
    largest: bool,
    elem: ElemType,
    compare: Compare,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::TopK { outer, axis, inner, k, largest } = step.kind else {
        return Err(footprint(step, "is not a TopK step".into()));
    };
    let (data, values, indices) = (cx.arg(step, 0)?, cx.out(step, 0)?, cx.out(step, 1)?);
    let outer = cx.size(step, "the outer extent", outer)?;
    let axis = cx.size(step, "the axis extent", axis)?;
    let inner = cx.size(step, "the inner extent", inner)?;
    let k = cx.size(step, "k", k)?;
    if k > axis {
        return Err(footprint(step, format!("k is {k}, but the axis has {axis} elements")));
    }
    cx.require_len(step, "the data", data, &[outer, axis, inner])?;
    let written = cx.require_len(step, "the values", values, &[outer, k, inner])?;
    cx.require_len(step, "the indices", indices, &[outer, k, inner])?;
    let elem = same_elem(step, cx, &[data, values])?;
    if cx.elem(step, indices)? != ElemType::I64 {
        return Err(footprint(step, "the indices are not i64".into()));
    }
    let unsupported = || RunError::Unsupported { step: step.name.clone(), kind: "TopK of this element type" };
    let compare = comparison(elem).ok_or_else(unsupported)?;
    let (outer, inner) = if written == 0 { (0, 0) } else { (outer, inner) };
    let step = step.name.clone();
    Ok(Box::new(TopK { step, data, values, indices, outer, axis, inner, k, largest, elem, compare }))
}

macro_rules! by {
    ($t:ty, $order:expr) => {{
        fn compare(a: &[u8], b: &[u8]) -> Ordering {
            match (a.try_into(), b.try_into()) {
                (Ok(a), Ok(b)) => $order(&<$t>::from_le_bytes(a), &<$t>::from_le_bytes(b)),
                _ => Ordering::Equal,
            }
        }
        compare as Compare
    }};
}

/// NaN orders above every number, as numpy sorts it.
fn nan_last<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| {
        let nan = |x: &T| x.partial_cmp(x).is_none();
        nan(a).cmp(&nan(b))
    })
}

fn comparison(elem: ElemType) -> Option<Compare> {
    Some(match elem {
        ElemType::F32 => by!(f32, nan_last),
        ElemType::F64 => by!(f64, nan_last),
        ElemType::F16 => by!(half::f16, nan_last),
        ElemType::BF16 => by!(half::bf16, nan_last),
        ElemType::I64 => by!(i64, Ord::cmp),
        ElemType::I32 => by!(i32, Ord::cmp),
        ElemType::I16 => by!(i16, Ord::cmp),
        ElemType::I8 => by!(i8, Ord::cmp),
        ElemType::U64 => by!(u64, Ord::cmp),
        ElemType::U32 => by!(u32, Ord::cmp),
        ElemType::U16 => by!(u16, Ord::cmp),
        ElemType::U8 => by!(u8, Ord::cmp),
        _ => return None,
    })
}

impl Call for TopK {
    fn work(&self) -> u64 {
        let comparisons = self.axis.max(2).ilog2() as usize;
        count(&[self.outer, self.inner, self.axis, comparisons])
    }

    fn scratch_bytes(&self) -> usize {
        self.axis.saturating_mul(size_of::<u64>())
    }

    fn run(&self, mem: &Memory<'_>, part: usize, _: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        if part > 0 || self.k == 0 {
            return Ok(());
        }
        // SAFETY: only tile steps are placed over their arguments; one worker runs this step.
        let (data, values, indices) = unsafe {
            (mem.bytes(self.data)?, whole_output(mem, self.values)?, whole_output(mem, self.indices)?)
        };
        // SAFETY: every bit pattern is a u64; scratch is aligned to 64 bytes.
        let (_, order, _) = unsafe { scratch.align_to_mut::<u64>() };
        let Some(order) = order.get_mut(..self.axis) else {
            return Err(RunError::Shape("too little scratch memory".into()));
        };
        let size = self.elem.size();
        for column in 0..self.outer * self.inner {
            let (o, i) = (column / self.inner, column % self.inner);
            let at = |a: u64| ((o * self.axis + a as usize) * self.inner + i) * size;
            let element = |a: u64| data.get(at(a)..at(a) + size).unwrap_or(&[]);
            order.iter_mut().enumerate().for_each(|(a, slot)| *slot = a as u64);
            // Ties by lower index make the order total, so an unstable sort gives one answer.
            order.sort_unstable_by(|a, b| {
                let by_value = (self.compare)(element(*a), element(*b));
                if self.largest { by_value.reverse() } else { by_value }.then(a.cmp(b))
            });
            for (j, a) in order.iter().take(self.k).enumerate() {
                let to = (o * self.k + j) * self.inner + i;
                copy(&self.step, (data, at(*a)), (values, to * size), size)?;
                copy(&self.step, (&(*a as i64).to_le_bytes(), 0), (indices, to * 8), 8)?;
            }
        }
        Ok(())
    }
}
