//! Tile programs one point at a time, in safe code: the oracle of the fast executor.
//!
//! It shares nothing with the fast executor but the elementary functions: rounding is a search for the nearest
//! representable number, and every access is checked when it happens.

use super::exec::ConcreteAccess;
use super::math::{m32, m64};
use super::{BinaryOp, Instr, Lane, Reduce, ReduceOp, TileError, TileProgram, UnaryOp, check};
use crate::elem::ElemType;
use half::{bf16, f16};
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug)]
enum Scalar {
    F32(f32),
    F64(f64),
    I64(i64),
    U64(u64),
}

/// Runs `program` over `dims`; `inputs[i]` and `outputs[i]` are the values that `reads[i]` and `writes[i]` access.
pub fn run(
    program: &TileProgram,
    dims: &[i64],
    (reads, inputs): (&[ConcreteAccess], &[&[u8]]),
    (writes, outputs): (&[ConcreteAccess], &mut [&mut [u8]]),
) -> Result<(), TileError> {
    let elems = |accesses: &[ConcreteAccess]| accesses.iter().map(|a| a.elem).collect::<Vec<_>>();
    check(program, dims.len(), &elems(reads), &elems(writes))?;
    if reads.len() != inputs.len() || writes.len() != outputs.len() {
        return Err(TileError::Program("not one buffer for each access"));
    }
    let (kept, reduced) = dims.split_at(dims.len() - usize::from(program.reduce_rank));
    let mut machine = Machine { reads, inputs, writes, outputs };
    if let [Instr::Load { arg }, Instr::Store { out, src: 0 }] = program.body[..]
        && reads[usize::from(arg)].elem == writes[usize::from(out)].elem
    {
        return for_each_point(kept, |point| machine.copy(arg, out, point));
    }
    for_each_point(kept, |point| {
        let mut lanes = Vec::new();
        if reduced.is_empty() {
            return machine.exec(&program.body, point, &mut lanes);
        }
        let mut folds: Vec<_> = program.reduces.iter().map(|_| None).collect();
        let mut position = 0;
        for_each_point(reduced, |inner| {
            let mut body = Vec::new();
            machine.exec(&program.body, &[point, inner].concat(), &mut body)?;
            for (fold, reduce) in folds.iter_mut().zip(&program.reduces) {
                *fold = Some(step(*fold, *reduce, body[usize::from(reduce.src)], position));
            }
            position += 1;
            Ok(())
        })?;
        let types = check(program, dims.len(), &elems(reads), &elems(writes))?;
        for (fold, reduce) in folds.iter().zip(&program.reduces) {
            let lane = types.body()[usize::from(reduce.src)].unwrap_or(Lane::F32);
            lanes.push(finish(*fold, reduce.op, lane));
        }
        machine.exec(&program.epilogue, point, &mut lanes)
    })
}

fn for_each_point(
    dims: &[i64],
    mut visit: impl FnMut(&[i64]) -> Result<(), TileError>,
) -> Result<(), TileError> {
    if dims.iter().any(|&d| d <= 0) {
        return Ok(());
    }
    let mut point = vec![0; dims.len()];
    loop {
        visit(&point)?;
        let Some(d) = (0..dims.len()).rev().find(|&d| point[d] + 1 < dims[d]) else { return Ok(()) };
        point[d] += 1;
        point[d + 1..].fill(0);
    }
}

struct Machine<'a, 'b> {
    reads: &'a [ConcreteAccess],
    inputs: &'a [&'a [u8]],
    writes: &'a [ConcreteAccess],
    outputs: &'a mut [&'b mut [u8]],
}

/// Byte range of the element that `access` refers to at `point`.
fn locate(access: &ConcreteAccess, point: &[i64], len: usize) -> Option<std::ops::Range<usize>> {
    let mut element = access.offset;
    for (index, stride) in point.iter().zip(&access.strides) {
        element = element.checked_add(index.checked_mul(*stride)?)?;
    }
    let start = usize::try_from(element).ok()?.checked_mul(access.elem.size())?;
    let end = start.checked_add(access.elem.size())?;
    (end <= len).then_some(start..end)
}

const OUTSIDE: &str = "leaves its value";

impl Machine<'_, '_> {
    fn element(&self, arg: u16, point: &[i64]) -> Result<&[u8], TileError> {
        let index = usize::from(arg);
        let bytes = self.inputs[index];
        let range = locate(&self.reads[index], point, bytes.len());
        range.map(|r| &bytes[r]).ok_or(TileError::Access { kind: "read", index, what: OUTSIDE })
    }

    fn write(&mut self, out: u16, point: &[i64], element: &[u8]) -> Result<(), TileError> {
        let index = usize::from(out);
        let bytes = &mut self.outputs[index];
        let range = locate(&self.writes[index], point, bytes.len());
        let range = range.ok_or(TileError::Access { kind: "write", index, what: OUTSIDE })?;
        bytes[range].copy_from_slice(element);
        Ok(())
    }

    fn copy(&mut self, arg: u16, out: u16, point: &[i64]) -> Result<(), TileError> {
        let element = self.element(arg, point)?.to_vec();
        self.write(out, point, &element)
    }

    fn exec(&mut self, code: &[Instr], point: &[i64], lanes: &mut Vec<Scalar>) -> Result<(), TileError> {
        for instr in code {
            let lane = |id: u16| lanes[usize::from(id)];
            let value = match *instr {
                Instr::Load { arg } => load(self.reads[usize::from(arg)].elem, self.element(arg, point)?),
                Instr::Const { lane, bits } => match lane {
                    Lane::F32 => Scalar::F32(f32::from_bits(bits as u32)),
                    Lane::F64 => Scalar::F64(f64::from_bits(bits)),
                    Lane::I64 => Scalar::I64(bits as i64),
                    Lane::U64 => Scalar::U64(bits),
                },
                Instr::Index { dim } => Scalar::I64(point[usize::from(dim)]),
                Instr::Unary(op, a) => unary(op, lane(a)),
                Instr::Binary(op, a, b) => binary(op, lane(a), lane(b)),
                Instr::Select { cond, a, b } => {
                    if matches!(lane(cond), Scalar::I64(0)) {
                        lane(b)
                    } else {
                        lane(a)
                    }
                }
                Instr::Convert { to, src } => convert(to, lane(src)),
                Instr::Round { elem, saturate, src } => load(elem, &store(elem, saturate, lane(src))),
                Instr::Store { out, src } => {
                    let element = store(self.writes[usize::from(out)].elem, false, lane(src));
                    self.write(out, point, &element)?;
                    Scalar::I64(0)
                }
            };
            lanes.push(value);
        }
        Ok(())
    }
}

fn load(elem: ElemType, bytes: &[u8]) -> Scalar {
    use ElemType::*;
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let raw = u64::from_ne_bytes(wide);
    let signed = |bits: u32| Scalar::I64((raw << (64 - bits)) as i64 >> (64 - bits));
    let unsigned = |bits: u32| Scalar::U64(raw << (64 - bits) >> (64 - bits));
    match elem {
        F32 => Scalar::F32(f32::from_bits(raw as u32)),
        F64 => Scalar::F64(f64::from_bits(raw)),
        F16 => Scalar::F32(f16::from_bits(raw as u16).to_f32()),
        BF16 => Scalar::F32(bf16::from_bits(raw as u16).to_f32()),
        I64 => signed(64),
        I32 => signed(32),
        I16 => signed(16),
        I8 => signed(8),
        I4 => signed(4),
        I2 => signed(2),
        U64 => unsigned(64),
        U32 => unsigned(32),
        U16 => unsigned(16),
        U8 => unsigned(8),
        U4 => unsigned(4),
        U2 => unsigned(2),
        Bool => Scalar::I64(i64::from(raw != 0)),
        _ => Scalar::F32(decode_byte(elem, raw as u8) as f32),
    }
}

/// Bytes of `value` as an element of type `elem`.
fn store(elem: ElemType, saturate: bool, value: Scalar) -> Vec<u8> {
    use ElemType::*;
    let raw = match value {
        Scalar::F64(x) => x.to_bits(),
        Scalar::F32(x) => match elem {
            F32 => u64::from(x.to_bits()),
            F16 => u64::from(f16::from_f32(x).to_bits()),
            BF16 => u64::from(bf16::from_f32(x).to_bits()),
            _ => u64::from(encode_byte(elem, saturate, f64::from(x))),
        },
        Scalar::I64(x) => match elem {
            Bool => u64::from(x != 0),
            I4 => (x << 60 >> 60) as u64,
            I2 => (x << 62 >> 62) as u64,
            _ => x as u64,
        },
        Scalar::U64(x) => match elem {
            U4 => x & 15,
            U2 => x & 3,
            _ => x,
        },
    };
    if elem.size() == 8 {
        return raw.to_ne_bytes().to_vec();
    }
    match elem.size() {
        4 => (raw as u32).to_ne_bytes().to_vec(),
        2 => (raw as u16).to_ne_bytes().to_vec(),
        _ => vec![raw as u8],
    }
}

/// Mantissa bits, exponent bias and whether the only NaN is the code of negative zero.
fn parameters(elem: ElemType) -> (u32, i32, bool) {
    match elem {
        ElemType::F8E4M3FN => (3, 7, false),
        ElemType::F8E4M3FNUZ => (3, 8, true),
        ElemType::F8E5M2 => (2, 15, false),
        ElemType::F8E5M2FNUZ => (2, 16, true),
        _ => (1, 1, false),
    }
}

/// The number a one-byte float stands for.
pub(super) fn decode_byte(elem: ElemType, code: u8) -> f64 {
    if elem == ElemType::F8E8M0 {
        return if code == 255 { f64::NAN } else { 2f64.powi(i32::from(code) - 127) };
    }
    let four_bits = elem == ElemType::F4E2M1;
    let (mantissa_bits, bias, unsigned_zero) = parameters(elem);
    let sign_bit = if four_bits { 8 } else { 128 };
    let magnitude = code & (sign_bit - 1);
    let sign = if code & sign_bit == 0 { 1.0 } else { -1.0 };
    match (elem, magnitude) {
        _ if unsigned_zero && code == 0x80 => return f64::NAN,
        (ElemType::F8E4M3FN, 0x7F) | (ElemType::F8E5M2, 0x7D..) => return f64::NAN,
        (ElemType::F8E5M2, 0x7C) => return sign * f64::INFINITY,
        _ => {}
    }
    let exponent = i32::from(magnitude >> mantissa_bits);
    let fraction = f64::from(magnitude & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    let value = if exponent == 0 {
        fraction * 2f64.powi(1 - bias)
    } else {
        (1.0 + fraction) * 2f64.powi(exponent - bias)
    };
    sign * value
}

/// ONNX's tables for a cast to a one-byte float.
fn encode_byte(elem: ElemType, saturate: bool, x: f64) -> u8 {
    let e8m0 = elem == ElemType::F8E8M0;
    let (_, _, unsigned_zero) = parameters(elem);
    let sign: u8 = match elem {
        ElemType::F8E8M0 => 0,
        ElemType::F4E2M1 => u8::from(x.is_sign_negative()) << 3,
        _ => u8::from(x.is_sign_negative()) << 7,
    };
    let finite_max = match elem {
        ElemType::F8E4M3FN => 0x7E,
        ElemType::F8E5M2 => 0x7B,
        ElemType::F4E2M1 => 7,
        ElemType::F8E8M0 => 0xFE,
        _ => 0x7F,
    };
    let nan = match elem {
        _ if unsigned_zero => 0x80,
        ElemType::F8E8M0 => 0xFF,
        ElemType::F4E2M1 => 8,
        _ => 0x7F | sign,
    };
    if x.is_nan() || (x.is_infinite() && ((unsigned_zero && !saturate) || e8m0)) {
        return nan;
    }
    let max = decode_byte(elem, finite_max);
    let gap = if e8m0 { max } else { max - decode_byte(elem, finite_max - 1) };
    let tie_goes_up = e8m0 || finite_max % 2 == 1;
    let threshold = max + gap / 2.0;
    let magnitude = x.abs();
    if magnitude > threshold || (magnitude == threshold && tie_goes_up) {
        return match elem {
            ElemType::F4E2M1 => 7 | sign,
            _ if saturate => finite_max | sign,
            ElemType::F8E5M2 => 0x7C | sign,
            _ => nan,
        };
    }
    let mut best = 0;
    for code in 1..=finite_max {
        let distance = |c: u8| (decode_byte(elem, c) - magnitude).abs();
        let prefer = e8m0 || code % 2 == 0;
        match distance(code).total_cmp(&distance(best)) {
            Ordering::Less => best = code,
            Ordering::Equal if prefer => best = code,
            _ => {}
        }
    }
    if best == 0 && unsigned_zero { 0 } else { best | sign }
}

fn convert(to: Lane, value: Scalar) -> Scalar {
    macro_rules! to {
        ($x:expr) => {
            match to {
                Lane::F32 => Scalar::F32($x as f32),
                Lane::F64 => Scalar::F64($x as f64),
                Lane::I64 => Scalar::I64($x as i64),
                Lane::U64 => Scalar::U64($x as u64),
            }
        };
    }
    match value {
        Scalar::F32(x) => to!(x),
        Scalar::F64(x) => to!(x),
        Scalar::I64(x) => to!(x),
        Scalar::U64(x) => to!(x),
    }
}

macro_rules! float_unary {
    ($op:expr, $x:expr, $lane:path, $m:ident) => {{
        let x = $x;
        let flag = |condition: bool| Scalar::I64(i64::from(condition));
        $lane(match $op {
            UnaryOp::Abs => x.abs(),
            UnaryOp::Neg => -x,
            UnaryOp::Sign if x.is_nan() || x == 0.0 => x,
            UnaryOp::Sign => x.signum(),
            UnaryOp::Ceil => x.ceil(),
            UnaryOp::Floor => x.floor(),
            UnaryOp::Trunc => x.trunc(),
            UnaryOp::Round => x.round_ties_even(),
            UnaryOp::Sqrt => x.sqrt(),
            UnaryOp::Reciprocal => x.recip(),
            UnaryOp::Exp => $m::exp(x),
            UnaryOp::Log => $m::log(x),
            UnaryOp::Erf => $m::erf(x),
            UnaryOp::Sin => $m::sin(x),
            UnaryOp::Cos => $m::cos(x),
            UnaryOp::Tan => $m::tan(x),
            UnaryOp::Asin => $m::asin(x),
            UnaryOp::Acos => $m::acos(x),
            UnaryOp::Atan => $m::atan(x),
            UnaryOp::Sinh => $m::sinh(x),
            UnaryOp::Cosh => $m::cosh(x),
            UnaryOp::Tanh => $m::tanh(x),
            UnaryOp::Asinh => $m::asinh(x),
            UnaryOp::Acosh => $m::acosh(x),
            UnaryOp::Atanh => $m::atanh(x),
            UnaryOp::Sigmoid => $m::sigmoid(x),
            UnaryOp::IsPosInf => return flag(x.is_infinite() && x > 0.0),
            UnaryOp::IsNegInf => return flag(x.is_infinite() && x < 0.0),
            UnaryOp::IsNan | UnaryOp::Not | UnaryOp::BitNot => return flag(x.is_nan()),
        })
    }};
}

fn unary(op: UnaryOp, value: Scalar) -> Scalar {
    match value {
        Scalar::F32(x) => float_unary!(op, x, Scalar::F32, m32),
        Scalar::F64(x) => float_unary!(op, x, Scalar::F64, m64),
        Scalar::I64(x) => Scalar::I64(match op {
            UnaryOp::Abs => x.wrapping_abs(),
            UnaryOp::Neg => x.wrapping_neg(),
            UnaryOp::Sign => x.signum(),
            UnaryOp::BitNot => !x,
            _ => i64::from(x == 0),
        }),
        Scalar::U64(x) => match op {
            UnaryOp::Abs => Scalar::U64(x),
            UnaryOp::Neg => Scalar::U64(x.wrapping_neg()),
            UnaryOp::Sign => Scalar::U64(x.min(1)),
            UnaryOp::BitNot => Scalar::U64(!x),
            _ => Scalar::I64(i64::from(x == 0)),
        },
    }
}

fn compare(op: BinaryOp, order: Option<Ordering>) -> Option<Scalar> {
    Some(Scalar::I64(i64::from(match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Ne => order != Some(Ordering::Equal),
        BinaryOp::Lt => order == Some(Ordering::Less),
        BinaryOp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => order == Some(Ordering::Greater),
        BinaryOp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => return None,
    })))
}

macro_rules! float_binary {
    ($op:expr, $a:expr, $b:expr, $t:ty, $m:ident) => {{
        let (a, b) = ($a, $b);
        match $op {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
            BinaryOp::Div => a / b,
            BinaryOp::TruncMod => a % b,
            BinaryOp::FloorMod => {
                let r = a % b;
                if r == 0.0 {
                    (0.0 as $t).copysign(b)
                } else if (r < 0.0) != (b < 0.0) {
                    r + b
                } else {
                    r
                }
            }
            BinaryOp::Pow => $m::pow(a, b),
            _ if a.is_nan() || b.is_nan() => <$t>::NAN,
            BinaryOp::Max if a.total_cmp(&b) == Ordering::Less => b,
            BinaryOp::Min if a.total_cmp(&b) == Ordering::Greater => b,
            _ => a,
        }
    }};
}

macro_rules! int_binary {
    ($op:expr, $a:expr, $b:expr, $t:ty) => {{
        let (a, b) = ($a, $b);
        let in_range = u32::try_from(b).ok().filter(|&n| n < 64);
        match $op {
            BinaryOp::Add => a.wrapping_add(b),
            BinaryOp::Sub => a.wrapping_sub(b),
            BinaryOp::Mul => a.wrapping_mul(b),
            BinaryOp::Div if b == 0 => 0,
            BinaryOp::Div => a.wrapping_div(b),
            BinaryOp::TruncMod | BinaryOp::FloorMod if b == 0 => 0,
            BinaryOp::TruncMod => a.wrapping_rem(b),
            BinaryOp::FloorMod => {
                let (a, b) = (a as i128, b as i128);
                ((a % b + b) % b) as $t
            }
            BinaryOp::Pow => power(a as i128, b as i128) as $t,
            BinaryOp::Max => a.max(b),
            BinaryOp::Min => a.min(b),
            BinaryOp::And => a & b,
            BinaryOp::Or => a | b,
            BinaryOp::Xor => a ^ b,
            BinaryOp::Shl => in_range.map_or(0, |n| a << n),
            _ => in_range.map_or((a as i128 >> 64) as $t, |n| a >> n),
        }
    }};
}

/// `base^exponent` modulo 2^64.
fn power(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut rest) = (1u64, base as u64, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest /= 2;
    }
    i128::from(result)
}

fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    let order = match (a, b) {
        (Scalar::F32(a), Scalar::F32(b)) => a.partial_cmp(&b),
        (Scalar::F64(a), Scalar::F64(b)) => a.partial_cmp(&b),
        (Scalar::I64(a), Scalar::I64(b)) => Some(a.cmp(&b)),
        (Scalar::U64(a), Scalar::U64(b)) => Some(a.cmp(&b)),
        _ => None,
    };
    if let Some(flag) = compare(op, order) {
        return flag;
    }
    match (a, b) {
        (Scalar::F32(a), Scalar::F32(b)) => Scalar::F32(float_binary!(op, a, b, f32, m32)),
        (Scalar::F64(a), Scalar::F64(b)) => Scalar::F64(float_binary!(op, a, b, f64, m64)),
        (Scalar::I64(a), Scalar::I64(b)) => Scalar::I64(int_binary!(op, a, b, i64)),
        (Scalar::U64(a), Scalar::U64(b)) => Scalar::U64(int_binary!(op, a, b, u64)),
        _ => a,
    }
}

/// State of a fold: the value so far (sums of f32 in f64) and the position of an extremum.
type Fold = Option<(Scalar, i64)>;

fn step(fold: Fold, reduce: Reduce, value: Scalar, position: i64) -> (Scalar, i64) {
    use ReduceOp::*;
    let widened = match value {
        Scalar::F32(x) if matches!(reduce.op, Sum | Prod) => Scalar::F64(f64::from(x)),
        other => other,
    };
    let Some((best, at)) = fold else { return (widened, position) };
    let nan = |x: Scalar| matches!(unary(UnaryOp::IsNan, x), Scalar::I64(1)) && is_float(x);
    let holds = |op| matches!(binary(op, value, best), Scalar::I64(1));
    let take = |strict, ties| {
        (nan(value) && !nan(best)) || holds(strict) || (ties && (holds(BinaryOp::Eq) || nan(value)))
    };
    let taken = match reduce.op {
        Sum => return (binary(BinaryOp::Add, best, widened), 0),
        Prod => return (binary(BinaryOp::Mul, best, widened), 0),
        Max => return (binary(BinaryOp::Max, best, value), 0),
        Min => return (binary(BinaryOp::Min, best, value), 0),
        ArgMaxFirst => take(BinaryOp::Gt, false),
        ArgMaxLast => take(BinaryOp::Gt, true),
        ArgMinFirst => take(BinaryOp::Lt, false),
        ArgMinLast => take(BinaryOp::Lt, true),
    };
    if taken { (value, position) } else { (best, at) }
}

fn is_float(x: Scalar) -> bool {
    matches!(x, Scalar::F32(_) | Scalar::F64(_))
}

fn finish(fold: Fold, op: ReduceOp, lane: Lane) -> Scalar {
    use ReduceOp::*;
    match (fold, op) {
        (Some((_, at)), ArgMaxFirst | ArgMaxLast | ArgMinFirst | ArgMinLast) => Scalar::I64(at),
        (None, ArgMaxFirst | ArgMaxLast | ArgMinFirst | ArgMinLast) => Scalar::I64(0),
        (Some((value, _)), _) => convert(lane, value),
        (None, Sum) => convert(lane, Scalar::I64(0)),
        (None, Prod) => convert(lane, Scalar::I64(1)),
        (None, Max) => match lane {
            Lane::F32 | Lane::F64 => convert(lane, Scalar::F64(f64::NEG_INFINITY)),
            Lane::I64 => Scalar::I64(i64::MIN),
            Lane::U64 => Scalar::U64(0),
        },
        (None, Min) => match lane {
            Lane::F32 | Lane::F64 => convert(lane, Scalar::F64(f64::INFINITY)),
            Lane::I64 => Scalar::I64(i64::MAX),
            Lane::U64 => Scalar::U64(u64::MAX),
        },
    }
}
