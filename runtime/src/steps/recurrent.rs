//! `Recurrent`: one direction of a recurrent layer.

use super::floats::{
    floats, floats_out, part as part_of, refused, refused_step, scratch_floats, start, workers_for,
};
use super::{Call, PlanCx, Strided, count, footprint};
use crate::barrier::Barrier;
use crate::cpu::kernels::{Kernels, Lines, RecurrentArgs, RecurrentOperands, View, Weights, recurrent};
use crate::cpu::shared::SharedMut;
use crate::elem::ElemType;
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Access, Activation, Cell, Curve, Step, StepKind, ValueId};

struct Recurrent {
    step: String,
    kernels: Kernels,
    args: RecurrentArgs,
    packed: bool,
    values: Values,
    /// Bytes of scratch.
    scratch: usize,
    barrier: Barrier,
}

/// The operands.
struct Values {
    x: ValueId,
    r: ValueId,
    h: ValueId,
    c: Option<ValueId>,
    weights: Option<ValueId>,
    /// With whether they are i64.
    lengths: Option<(ValueId, bool)>,
    last: ValueId,
    cell: Option<ValueId>,
    shared: ValueId,
    y: Option<ValueId>,
}

impl Values {
    fn of(step: &Step, cx: &PlanCx<'_>) -> Result<Values, RunError> {
        let StepKind::Recurrent { cell, peepholes, lengths, y, .. } = &step.kind else {
            return Err(footprint(step, "is not a Recurrent step".into()));
        };
        let has_cell = matches!(cell, Cell::Lstm { .. });
        let has_bias = matches!(cell, Cell::Gru { linear_before_reset: true });
        let (mut args, mut outs) = (3, 0);
        let mut arg = |there: bool| {
            args += usize::from(there);
            there.then(|| cx.arg(step, args - 1)).transpose()
        };
        let c = arg(has_cell)?;
        let weights = arg(has_bias || *peepholes)?;
        let lengths = match arg(*lengths)? {
            Some(value) => match cx.elem(step, value)? {
                ElemType::I64 => Some((value, true)),
                ElemType::I32 => Some((value, false)),
                other => return Err(footprint(step, format!("the lengths are {other:?}"))),
            },
            None => None,
        };
        let mut out = |there: bool| {
            outs += usize::from(there);
            there.then(|| cx.out(step, outs - 1)).transpose()
        };
        let missing = || footprint(step, "an output is missing".into());
        let values = Values {
            x: cx.arg(step, 0)?,
            r: cx.arg(step, 1)?,
            h: cx.arg(step, 2)?,
            c,
            weights,
            lengths,
            last: out(true)?.ok_or_else(missing)?,
            cell: out(has_cell)?,
            shared: out(true)?.ok_or_else(missing)?,
            y: out(y.is_some())?,
        };
        let Values { x, r, h, c, weights, last, cell, shared, y, .. } = values;
        for value in
            [Some(x), Some(r), Some(h), c, weights, Some(last), cell, Some(shared), y].into_iter().flatten()
        {
            cx.require_f32(step, value)?;
        }
        Ok(values)
    }
}

/// A checked access over steps and batch with lines of `cols` neighbours.
fn lines(
    step: &Step,
    cx: &PlanCx<'_>,
    access: &Access,
    extents: [usize; 3],
    value: ValueId,
) -> Result<Lines, RunError> {
    let strided = cx.lines(step, access, &extents, value)?;
    match *strided.strides.as_slice() {
        [t, b, _] => Ok(Lines { offset: start(step, &strided)?, steps: [t as isize, b as isize] }),
        ref other => Err(footprint(step, format!("{} strides instead of 3", other.len()))),
    }
}

/// A checked access to a matrix.
fn matrix(
    step: &Step,
    cx: &PlanCx<'_>,
    access: &Access,
    extents: [usize; 2],
    value: ValueId,
) -> Result<View, RunError> {
    let Strided { mut offset, strides } = cx.access(step, access, &extents, value)?;
    if extents.contains(&0) {
        offset = 0;
    }
    match *strides.as_slice() {
        [row, col] => {
            let strided = Strided { offset, strides: Vec::new() };
            Ok(View { offset: start(step, &strided)?, row: row as isize, col: col as isize })
        }
        ref other => Err(footprint(step, format!("{} strides instead of 2", other.len()))),
    }
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let values = Values::of(step, cx)?;
    let args = arguments(step, cx, &values)?;
    let StepKind::Recurrent { r_packed, peepholes, .. } = step.kind else {
        return Err(footprint(step, "is not a Recurrent step".into()));
    };
    let foot = args.footprint().map_err(refused_step(step))?;
    let state = [args.batch, args.hidden];
    cx.require_len(step, "the last state", values.last, &state)?;
    cx.require_len(step, "the shared states", values.shared, &[args.cell.states(), state[0], state[1]])?;
    if let Some(cell) = values.cell {
        cx.require_len(step, "the cell state", cell, &state)?;
    }
    if let Some(weights) = values.weights {
        cx.require_len(
            step,
            "the bias or peephole weights",
            weights,
            &[if peepholes { 3 } else { 1 }, args.hidden],
        )?;
    }
    if let Some((lengths, _)) = values.lengths {
        cx.require_len(step, "the lengths", lengths, &[args.batch])?;
    }
    let have = cx.len(step, values.r)?;
    if r_packed && foot.r_packed.end > have {
        let detail = format!("the packed weights have {have} of {} elements", foot.r_packed.end);
        return Err(footprint(step, detail));
    }
    let mut call = Recurrent {
        step: step.name.clone(),
        kernels: cx.kernels()?,
        args,
        packed: r_packed,
        values,
        scratch: 0,
        barrier: Barrier::default(),
    };
    let scratch = args.scratch(call.parts(cx.workers), r_packed).map_err(refused_step(step))?;
    call.scratch = scratch.saturating_mul(size_of::<f32>());
    Ok(Box::new(call))
}

/// The kernel's arguments, with accesses that stay inside their values.
fn arguments(step: &Step, cx: &PlanCx<'_>, values: &Values) -> Result<RecurrentArgs, RunError> {
    let StepKind::Recurrent {
        cell,
        steps,
        batch,
        hidden,
        reverse,
        functions,
        clip,
        x,
        r,
        r_packed,
        h,
        c,
        peepholes: _,
        lengths: _,
        y,
    } = &step.kind
    else {
        return Err(footprint(step, "is not a Recurrent step".into()));
    };
    let [steps, batch, hidden] = cx.sizes_of(step, "an extent", &[*steps, *batch, *hidden])?;
    let all = cell.gates().checked_mul(hidden);
    let all = all.ok_or_else(|| footprint(step, format!("{hidden} elements of a state are too many")))?;
    let mut chosen = [Activation { curve: Curve::Tanh, alpha: 0.0, beta: 0.0 }; 3];
    chosen.iter_mut().zip(functions).for_each(|(to, from)| *to = *from);
    let unused = View::dense(0);
    Ok(RecurrentArgs {
        cell: *cell,
        functions: chosen,
        clip: *clip,
        reverse: *reverse,
        steps,
        batch,
        hidden,
        x: lines(step, cx, x, [steps, batch, all], values.x)?,
        r: if *r_packed { unused } else { matrix(step, cx, r, [all, hidden], values.r)? },
        h: matrix(step, cx, h, [batch, hidden], values.h)?,
        c: match (c, values.c) {
            (Some(access), Some(value)) => matrix(step, cx, access, [batch, hidden], value)?,
            _ => unused,
        },
        y: match (y, values.y) {
            (Some(access), Some(value)) => Some(lines(step, cx, access, [steps, batch, hidden], value)?),
            _ => None,
        },
    })
}

/// The length of a row.
fn length(bytes: &[u8], wide: bool, row: usize) -> i64 {
    let length = if wide {
        bytes.as_chunks().0.get(row).map(|&b| i64::from_le_bytes(b))
    } else {
        bytes.as_chunks().0.get(row).map(|&b| i64::from(i32::from_le_bytes(b)))
    };
    length.unwrap_or(-1)
}

impl Recurrent {
    /// Operations of one step, the functions of gates aside.
    fn step_flops(&self) -> u64 {
        let RecurrentArgs { cell, batch, hidden, .. } = self.args;
        count(&[2, batch, cell.gates(), hidden, hidden])
    }

    fn refuse_lengths(&self, bytes: &[u8], wide: bool) -> Result<(), RunError> {
        for row in 0..self.args.batch {
            let length = length(bytes, wide, row);
            if usize::try_from(length).map_or(true, |length| length > self.args.steps) {
                let (step, steps) = (self.step.clone(), self.args.steps);
                return Err(RunError::Length { step, row, length, steps });
            }
        }
        Ok(())
    }
}

/// Operations that a function of a gate costs, roughly.
const FLOPS_PER_FUNCTION: usize = 20;

impl Call for Recurrent {
    fn work(&self) -> u64 {
        let RecurrentArgs { cell, steps, batch, hidden, .. } = self.args;
        let functions = count(&[batch, cell.gates(), hidden, FLOPS_PER_FUNCTION]);
        (steps as u64).saturating_mul(self.step_flops().saturating_add(functions))
    }

    fn flops(&self) -> u64 {
        (self.args.steps as u64).saturating_mul(self.step_flops())
    }

    fn parts(&self, max: usize) -> usize {
        // They meet at every step.
        workers_for(usize::try_from(self.step_flops()).unwrap_or(usize::MAX), max)
            .min(self.args.parts().max(1))
    }

    fn scratch_bytes(&self) -> usize {
        self.scratch
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        let party = self.barrier.join(parts);
        let Values { x, r, h, c, weights, lengths, last, cell, shared, y } = self.values;
        // SAFETY: no output is placed over these arguments, so no worker writes what is read here.
        let read = |value| unsafe { floats(mem, value) };
        // SAFETY: the kernel writes disjoint elements for different parts, and those that it reads of other parts after they met.
        let written = |value| unsafe { floats_out(mem, value) };
        let optional = |value: Option<ValueId>| value.map(written).unwrap_or(Ok(SharedMut::new(&mut [])));
        let (bytes, wide) = match lengths {
            // SAFETY: as above.
            Some((value, wide)) => (Some(unsafe { mem.bytes(value)? }), wide),
            None => (None, false),
        };
        if let Some(bytes) = bytes {
            self.refuse_lengths(bytes, wide)?;
        }
        let steps = self.args.steps;
        let row_length = |row| bytes.map_or(steps, |b| usize::try_from(length(b, wide, row)).unwrap_or(0));
        let r = read(r)?;
        let operands = RecurrentOperands {
            x: read(x)?,
            r: if self.packed { Weights::Packed(r) } else { Weights::Strided(r) },
            h: read(h)?,
            c: c.map(read).unwrap_or(Ok(&[]))?,
            weights: weights.map(read).transpose()?,
            length: &row_length,
            last: written(last)?,
            cell: optional(cell)?,
            shared: written(shared)?,
            y: optional(y)?,
        };
        let scratch = scratch_floats(scratch);
        recurrent(&self.kernels, &self.args, &operands, scratch, part_of(part, parts), &party)
            .map_err(|e| refused(&self.step, &e))
    }
}
