//! `Dims`: registers of the shape program as a tensor.

use super::{Call, PlanCx, footprint};
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, StepKind, ValueId};

struct Dims {
    out: ValueId,
    bytes: Vec<u8>,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let StepKind::Dims { elems } = &step.kind else {
        return Err(footprint(step, "is not a Dims step".into()));
    };
    let out = cx.out(step, 0)?;
    cx.require_len(step, "the output", out, &[elems.len()])?;
    let elem = cx.elem(step, out)?;
    let mut bytes = Vec::with_capacity(cx.sizes.bytes(out));
    for &reg in elems {
        let value = cx.reg(step, reg)?;
        match elem {
            ElemType::I64 => bytes.extend_from_slice(&value.to_le_bytes()),
            ElemType::I32 => {
                let narrow = i32::try_from(value);
                let narrow = narrow.map_err(|_| footprint(step, format!("{value} does not fit an i32")))?;
                bytes.extend_from_slice(&narrow.to_le_bytes());
            }
            ElemType::F32 => bytes.extend_from_slice(&(value as f32).to_le_bytes()),
            other => return Err(footprint(step, format!("cannot write {other:?}"))),
        }
    }
    Ok(Box::new(Dims { out, bytes }))
}

impl Call for Dims {
    fn work(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn run(&self, mem: &Memory<'_>, _: usize, _: usize, _: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: the step has one part and no arguments, and steps do not overlap in time.
        let out = unsafe { mem.bytes_mut(self.out, 0..self.bytes.len())? };
        out.copy_from_slice(&self.bytes);
        Ok(())
    }
}
