//! f32 views of values, for the kernels.

use crate::cpu::kernels::{KernelError, Part};
use crate::cpu::shared::SharedMut;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, ValueId};

/// A value to read as floats.
///
/// # Safety
/// As for [`Memory::bytes`]: no worker writes the value's bytes while the slice lives.
pub(super) unsafe fn floats<'m>(mem: &'m Memory<'_>, value: ValueId) -> Result<&'m [f32], RunError> {
    // SAFETY: passed on to the caller.
    let bytes = unsafe { mem.bytes(value)? };
    // SAFETY: every bit pattern is a float.
    let (head, floats, _) = unsafe { bytes.align_to::<f32>() };
    if head.is_empty() { Ok(floats) } else { Err(unaligned(value)) }
}

/// A value to write as floats, shared by all workers.
///
/// # Safety
/// All workers that use the result at one time write disjoint elements, and nobody else uses the value.
pub(super) unsafe fn floats_out<'m>(
    mem: &'m Memory<'_>,
    value: ValueId,
) -> Result<SharedMut<'m, f32>, RunError> {
    let (ptr, len) = mem.dst(value)?;
    if !ptr.addr().is_multiple_of(align_of::<f32>()) {
        return Err(unaligned(value));
    }
    // SAFETY: `dst` gives a valid, initialised range, aligned as checked; the caller keeps workers apart.
    Ok(unsafe { SharedMut::from_raw_parts(ptr.cast(), len / size_of::<f32>()) })
}

fn unaligned(value: ValueId) -> RunError {
    RunError::Shape(format!("value {value} is not aligned for floats"))
}

/// A kernel's refusal as the step's.
pub(super) fn refused(step: &str, error: &KernelError) -> RunError {
    RunError::Footprint { step: step.into(), detail: error.to_string() }
}

/// As [`refused`], while a step is resolved.
pub(super) fn refused_step(step: &Step) -> impl Fn(KernelError) -> RunError + '_ {
    |error| refused(&step.name, &error)
}

/// The part of a kernel's work that a worker does.
pub(super) fn part(index: usize, count: usize) -> Part {
    Part { index, count }
}

/// How many workers `flops` operations are worth: starting one costs about a microsecond.
pub(super) fn workers_for(flops: usize, max: usize) -> usize {
    const FLOPS_PER_WORKER: usize = 50_000;
    (flops / FLOPS_PER_WORKER + 1).min(max)
}
