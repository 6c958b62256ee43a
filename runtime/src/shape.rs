//! Evaluation of shape programs: checked arithmetic over the extents and some elements of the inputs.

use crate::elem::ElemType;
use crate::error::RunError;
use crate::program::{Cond, Guard, Port, Reg, ShapeOp, ShapeProgram};
use crate::tensor::TensorRef;

/// Evaluates all operations, then checks all guards. Register values go to `regs`, whose memory is reused.
pub fn evaluate(
    program: &ShapeProgram,
    inputs: &[TensorRef<'_>],
    regs: &mut Vec<i64>,
) -> Result<(), RunError> {
    regs.clear();
    for op in &program.ops {
        match eval_op(*op, regs, inputs) {
            Ok(value) => regs.push(value),
            Err(error) => {
                // A guard that fails already says what the user did wrong, which is better than the arithmetic
                // that broke down because of it.
                let known = regs.len();
                let ready = |g: &&Guard| registers(g.cond).iter().all(|&r| (r as usize) < known);
                program.guards.iter().filter(ready).try_for_each(|g| check_guard(g, regs))?;
                return Err(error);
            }
        }
    }
    program.guards.iter().try_for_each(|guard| check_guard(guard, regs))
}

fn registers(cond: Cond) -> [Reg; 2] {
    let (Cond::Eq(a, b) | Cond::Le(a, b) | Cond::Broadcast(a, b)) = cond;
    [a, b]
}

fn reg(regs: &[i64], reg: Reg) -> Result<i64, RunError> {
    regs.get(reg as usize).copied().ok_or_else(|| RunError::Shape(format!("register {reg} is not defined")))
}

fn check_guard(guard: &Guard, regs: &[i64]) -> Result<(), RunError> {
    let [a, b] = registers(guard.cond);
    let (left, right) = (reg(regs, a)?, reg(regs, b)?);
    let holds = match guard.cond {
        Cond::Eq(..) => left == right,
        Cond::Le(..) => left <= right,
        Cond::Broadcast(..) => left == right || left == 1 || right == 1,
    };
    if holds {
        Ok(())
    } else {
        {
            let message = guard.message.clone();
            Err(RunError::Guard { message, left, right, given: String::new() })
        }
    }
}

fn eval_op(op: ShapeOp, regs: &[i64], inputs: &[TensorRef<'_>]) -> Result<i64, RunError> {
    let two = |a: Reg, b: Reg| Ok::<_, RunError>((reg(regs, a)?, reg(regs, b)?));
    let arith = |name: &str, a: Reg, b: Reg, f: fn(i64, i64) -> Option<i64>| {
        let (a, b) = two(a, b)?;
        f(a, b).ok_or_else(|| {
            let why = if matches!(name, "/" | "%") { "the divisor must be positive" } else { "overflow" };
            RunError::Shape(format!("{a} {name} {b} in register {}: {why}", regs.len()))
        })
    };
    Ok(match op {
        ShapeOp::Const(value) => value,
        ShapeOp::InputDim { input, axis } => {
            let dim = inputs.get(input as usize).and_then(|t| t.dims.get(axis as usize));
            let dim = dim.ok_or_else(|| RunError::Shape(format!("input {input} has no axis {axis}")))?;
            i64::try_from(*dim).map_err(|_| {
                RunError::Shape(format!("axis {axis} of input {input} is {dim}, more than 2^63"))
            })?
        }
        ShapeOp::InputElem { input, index } => input_elem(inputs, input, index)?,
        ShapeOp::Add(a, b) => arith("+", a, b, i64::checked_add)?,
        ShapeOp::Sub(a, b) => arith("-", a, b, i64::checked_sub)?,
        ShapeOp::Mul(a, b) => arith("*", a, b, i64::checked_mul)?,
        ShapeOp::FloorDiv(a, b) => arith("/", a, b, |a, b| (b > 0).then(|| a.div_euclid(b)))?,
        ShapeOp::Mod(a, b) => arith("%", a, b, |a, b| (b > 0).then(|| a.rem_euclid(b)))?,
        ShapeOp::Min(a, b) => two(a, b).map(|(a, b)| a.min(b))?,
        ShapeOp::Max(a, b) => two(a, b).map(|(a, b)| a.max(b))?,
        ShapeOp::Eq(a, b) => two(a, b).map(|(a, b)| i64::from(a == b))?,
    })
}

/// Adds to a failed guard what the named extents in its message are, and in which input.
pub fn explained(error: RunError, ports: &[Port], inputs: &[TensorRef<'_>]) -> RunError {
    let RunError::Guard { message, left, right, .. } = error else { return error };
    let mut known: Vec<(&str, usize)> = Vec::new();
    let mut given = String::new();
    for (port, input) in ports.iter().zip(inputs) {
        for (axis, (name, &extent)) in port.dim_names.iter().zip(input.dims).enumerate() {
            // Many inputs may share a name; one for each of its values tells them apart.
            if known.contains(&(name, extent)) || !is_named(name) || !mentions(&message, name) {
                continue;
            }
            known.push((name, extent));
            let start = if given.is_empty() { ", where" } else { "," };
            given.push_str(&format!("{start} {name} is {extent} (axis {axis} of input {:?})", port.name));
        }
    }
    RunError::Guard { message, left, right, given }
}

fn is_named(dim: &str) -> bool {
    !dim.is_empty() && !dim.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a name occurs in a text, and not as a part of another name.
fn mentions(text: &str, name: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '@');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(inner) && !after.starts_with(inner)
    })
}

/// Element `index` of an integer or bool input.
pub fn input_elem(inputs: &[TensorRef<'_>], input: u32, index: u32) -> Result<i64, RunError> {
    let missing = || RunError::Shape(format!("input {input} has no element {index}"));
    let tensor = inputs.get(input as usize).ok_or_else(missing)?;
    let size = tensor.elem.size();
    let start = (index as usize).checked_mul(size).ok_or_else(missing)?;
    let end = start.checked_add(size).ok_or_else(missing)?;
    let bytes = tensor.bytes.get(start..end).ok_or_else(missing)?;
    let mut wide = [0; 8];
    wide[..size].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    let unused = 64 - 8 * size as u32;
    match tensor.elem {
        ElemType::I64 | ElemType::I32 | ElemType::I16 | ElemType::I8 => {
            Ok(((bits << unused) as i64) >> unused)
        }
        ElemType::U64 | ElemType::U32 | ElemType::U16 | ElemType::U8 => i64::try_from(bits).map_err(|_| {
            RunError::Shape(format!("element {index} of input {input} is {bits}, more than 2^63"))
        }),
        ElemType::Bool => Ok(i64::from(bits != 0)),
        other => Err(RunError::Shape(format!("input {input} is {other:?}, not an integer"))),
    }
}
