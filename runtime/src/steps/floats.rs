//! f32 views of values, for the kernels.

use crate::cpu::kernels::{KernelError, Part};
use crate::cpu::kernels::{Pixels, RowView};
use crate::cpu::shared::SharedMut;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Step, ValueId};
use crate::steps::{Strided, footprint};

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

/// A value to read as 32-bit words.
///
/// # Safety
/// As for [`floats`].
pub(super) unsafe fn words<'m>(mem: &'m Memory<'_>, value: ValueId) -> Result<&'m [u32], RunError> {
    // SAFETY: passed on to the caller.
    let bytes = unsafe { mem.bytes(value)? };
    // SAFETY: every bit pattern is a word.
    let (head, words, _) = unsafe { bytes.align_to::<u32>() };
    if head.is_empty() { Ok(words) } else { Err(unaligned(value)) }
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

/// Scratch bytes as floats.
pub(super) fn scratch_floats(scratch: &mut [u8]) -> &mut [f32] {
    // SAFETY: every bit pattern is a float; scratch is aligned to 64 bytes.
    unsafe { scratch.align_to_mut::<f32>() }.1
}

/// The first element of a checked access.
pub(super) fn start(step: &Step, access: &Strided) -> Result<usize, RunError> {
    let refused = |_| footprint(step, format!("an operand starts at element {}", access.offset));
    usize::try_from(access.offset).map_err(refused)
}

/// A checked access over rows and columns, the latter of stride 1.
pub(super) fn row_view(step: &Step, access: &Strided) -> Result<RowView, RunError> {
    match access.strides.as_slice() {
        [row, _] => Ok(RowView { offset: start(step, access)?, row: *row as isize }),
        other => Err(footprint(step, format!("{} strides instead of 2", other.len()))),
    }
}

/// A checked access over images, lines, pixels and channels, the latter of stride 1.
pub(super) fn pixels(step: &Step, access: &Strided) -> Result<Pixels, RunError> {
    match *access.strides.as_slice() {
        [n, y, x, _] => {
            Ok(Pixels { offset: start(step, access)?, steps: [n as isize, y as isize, x as isize] })
        }
        _ => Err(footprint(step, format!("{} strides instead of 4", access.strides.len()))),
    }
}

fn unaligned(value: ValueId) -> RunError {
    RunError::Shape(format!("value {value} is not aligned for its elements"))
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
