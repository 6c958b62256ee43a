//! `ScatterNd` and `ScatterElements`: updates written at indexed positions of a copy of the data.

use super::gather_nd::{base_position, check_extents};
use super::indexed::{Index, copy, same_elem, sizes, strides, whole_output};
use super::{Call, PlanCx, count, footprint};
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{ScatterMode, Step, StepKind, ValueId};

/// Writes one update over one element of the same type.
type Combine = fn(&mut [u8], &[u8]);

struct Scatter {
    step: String,
    data: ValueId,
    index: Index,
    updates: ValueId,
    out: ValueId,
    combine: Option<Combine>,
    elem_bytes: usize,
    target: Target,
}

/// Where an update goes.
enum Target {
    /// Row `r` of the updates to the position that index row `r` names.
    Rows { rows: usize, extents: Vec<usize>, inner: usize },
    /// Element `i` of the updates to its own position with the coordinate on `axis` replaced.
    Elements { data: Vec<usize>, shape: Vec<usize>, axis: usize },
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let (data, updates, out) = (cx.arg(step, 0)?, cx.arg(step, 2)?, cx.out(step, 0)?);
    let (target, index, mode) = match &step.kind {
        StepKind::ScatterNd { rows, extents, inner, mode } => {
            let rows = cx.size(step, "the number of rows", *rows)?;
            let extents = sizes(step, cx, "an extent", extents)?;
            let inner = cx.size(step, "the inner extent", *inner)?;
            cx.require_len(step, "the data", data, &[extents.as_slice(), &[inner]].concat())?;
            cx.require_len(step, "the updates", updates, &[rows, inner])?;
            let index = Index::of(step, cx, 1, &[rows, extents.len()])?;
            // Without indices and elements nothing bounds the number of rows.
            let rows = if extents.is_empty() && inner == 0 { 0 } else { rows };
            (Target::Rows { rows, extents, inner }, index, *mode)
        }
        StepKind::ScatterElements { data: extents, shape, axis, mode } => {
            let extents = sizes(step, cx, "an extent", extents)?;
            let shape = sizes(step, cx, "an extent", shape)?;
            let axis = *axis as usize;
            check_extents(step, &extents, &shape, axis)?;
            cx.require_len(step, "the data", data, &extents)?;
            cx.require_len(step, "the updates", updates, &shape)?;
            let index = Index::of(step, cx, 1, &shape)?;
            (Target::Elements { data: extents, shape, axis }, index, *mode)
        }
        _ => return Err(footprint(step, "is not a scatter step".into())),
    };
    let elem = same_elem(step, cx, &[data, updates, out])?;
    if cx.len(step, data)? != cx.len(step, out)? {
        return Err(footprint(step, "data and output differ in size".into()));
    }
    let combine = match mode {
        ScatterMode::Replace => None,
        mode => {
            let unsupported =
                || RunError::Unsupported { step: step.name.clone(), kind: "Scatter with this element type" };
            Some(combiner(elem, mode).ok_or_else(unsupported)?)
        }
    };
    let (step, elem_bytes) = (step.name.clone(), elem.size());
    Ok(Box::new(Scatter { step, data, index, updates, out, combine, elem_bytes, target }))
}

macro_rules! combine {
    ($t:ty, |$a:ident, $b:ident| $e:expr) => {{
        fn apply(there: &mut [u8], update: &[u8]) {
            if let (Ok(a), Ok(b)) = (<[u8; size_of::<$t>()]>::try_from(&*there), update.try_into()) {
                let ($a, $b) = (<$t>::from_le_bytes(a), <$t>::from_le_bytes(b));
                there.copy_from_slice(&<$t>::to_le_bytes($e));
            }
        }
        apply as Combine
    }};
}

macro_rules! float_combiner {
    ($t:ty, $mode:expr) => {
        match $mode {
            ScatterMode::Add => Some(combine!($t, |a, b| a + b)),
            ScatterMode::Mul => Some(combine!($t, |a, b| a * b)),
            ScatterMode::Max => Some(combine!($t, |a, b| if a.is_nan() || a > b { a } else { b })),
            ScatterMode::Min => Some(combine!($t, |a, b| if a.is_nan() || a < b { a } else { b })),
            ScatterMode::Replace => None,
        }
    };
}

macro_rules! int_combiner {
    ($t:ty, $mode:expr) => {
        match $mode {
            ScatterMode::Add => Some(combine!($t, |a, b| a.wrapping_add(b))),
            ScatterMode::Mul => Some(combine!($t, |a, b| a.wrapping_mul(b))),
            ScatterMode::Max => Some(combine!($t, |a, b| a.max(b))),
            ScatterMode::Min => Some(combine!($t, |a, b| a.min(b))),
            ScatterMode::Replace => None,
        }
    };
}

fn combiner(elem: ElemType, mode: ScatterMode) -> Option<Combine> {
    match elem {
        ElemType::F32 => float_combiner!(f32, mode),
        ElemType::F64 => float_combiner!(f64, mode),
        ElemType::I64 => int_combiner!(i64, mode),
        ElemType::I32 => int_combiner!(i32, mode),
        ElemType::I16 => int_combiner!(i16, mode),
        ElemType::I8 => int_combiner!(i8, mode),
        ElemType::U64 => int_combiner!(u64, mode),
        ElemType::U32 => int_combiner!(u32, mode),
        ElemType::U16 => int_combiner!(u16, mode),
        ElemType::U8 => int_combiner!(u8, mode),
        _ => None,
    }
}

impl Scatter {
    fn put(
        &self,
        out: &mut [u8],
        to: usize,
        updates: &[u8],
        from: usize,
        elems: usize,
    ) -> Result<(), RunError> {
        let size = self.elem_bytes;
        let Some(combine) = self.combine else {
            return copy(&self.step, (updates, from * size), (out, to * size), elems * size);
        };
        for i in 0..elems {
            let (src, dst) = ((from + i) * size, (to + i) * size);
            if let (Some(src), Some(dst)) = (updates.get(src..src + size), out.get_mut(dst..dst + size)) {
                combine(dst, src);
            }
        }
        Ok(())
    }
}

impl Call for Scatter {
    fn work(&self) -> u64 {
        let (data, updates) = match &self.target {
            Target::Rows { rows, extents, inner } => (
                count(extents).saturating_mul(*inner as u64),
                count(&[*rows, inner.saturating_add(extents.len())]),
            ),
            Target::Elements { data, shape, .. } => {
                (count(data), count(shape).saturating_mul(shape.len() as u64))
            }
        };
        data.saturating_add(updates)
    }

    fn run(&self, mem: &Memory<'_>, part: usize, _: usize, _: &mut [u8]) -> Result<(), RunError> {
        if part > 0 {
            return Ok(());
        }
        // SAFETY: only tile steps are placed over their arguments; one worker runs this step.
        let (data, index, updates, out) = unsafe {
            let (data, index) = (mem.bytes(self.data)?, mem.bytes(self.index.value)?);
            (data, index, mem.bytes(self.updates)?, whole_output(mem, self.out)?)
        };
        copy(&self.step, (data, 0), (out, 0), data.len())?;
        match &self.target {
            Target::Rows { rows, extents, inner } => {
                for r in 0..*rows {
                    let mut at = 0usize;
                    for (d, extent) in extents.iter().enumerate() {
                        // Positions are exact where rows have elements; else nothing is written.
                        let at_axis = self.index.at(&self.step, index, r * extents.len() + d, *extent)?;
                        at = at.wrapping_mul(*extent).wrapping_add(at_axis);
                    }
                    if *inner > 0 {
                        self.put(out, at * inner, updates, r * inner, *inner)?;
                    }
                }
            }
            Target::Elements { data, shape, axis } => {
                let (count, steps) = (updates.len() / self.elem_bytes, strides(data));
                for i in 0..count {
                    let picked = self.index.at(&self.step, index, i, data[*axis])?;
                    let at = base_position(i, shape, &steps, *axis) + picked * steps[*axis];
                    self.put(out, at, updates, i, 1)?;
                }
            }
        }
        Ok(())
    }
}
