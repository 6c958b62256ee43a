//! Arithmetic, comparison, logic, bits and casts.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, dtype, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("Abs", &[1, 6, 13], unary),
    row("Acos", &[7, 22], unary),
    row("Acosh", &[9, 22], unary),
    row("Asin", &[7, 22], unary),
    row("Asinh", &[9, 22], unary),
    row("Atan", &[7, 22], unary),
    row("Atanh", &[9, 22], unary),
    row("BitwiseNot", &[18], unary),
    row("Ceil", &[1, 6, 13], unary),
    row("Cos", &[7, 22], unary),
    row("Cosh", &[9, 22], unary),
    row("Erf", &[9, 13], unary),
    row("Exp", &[1, 6, 13], unary),
    row("Floor", &[1, 6, 13], unary),
    row("IsNaN", &[9, 13, 20], unary),
    row("Log", &[1, 6, 13], unary),
    row("Neg", &[1, 6, 13], unary),
    row("Not", &[1], unary),
    row("Reciprocal", &[1, 6, 13], unary),
    row("Round", &[11, 22], unary),
    row("Sigmoid", &[1, 6, 13], unary),
    row("Sign", &[9, 13], unary),
    row("Sin", &[7, 22], unary),
    row("Sinh", &[9, 22], unary),
    row("Sqrt", &[1, 6, 13], unary),
    row("Tan", &[7, 22], unary),
    row("Tanh", &[1, 6, 13], unary),
    row("Add", &[1, 6, 7, 13, 14], binary),
    row("And", &[1, 7], binary),
    row("BitwiseAnd", &[18], binary),
    row("BitwiseOr", &[18], binary),
    row("BitwiseXor", &[18], binary),
    row("Div", &[1, 6, 7, 13, 14], div),
    row("Equal", &[1, 7, 11, 13, 19], binary),
    row("Greater", &[1, 7, 9, 13], binary),
    row("GreaterOrEqual", &[12, 16], binary),
    row("Less", &[1, 7, 9, 13], binary),
    row("LessOrEqual", &[12, 16], binary),
    row("Mul", &[1, 6, 7, 13, 14], binary),
    row("Or", &[1, 7], binary),
    row("Sub", &[1, 6, 7, 13, 14], binary),
    row("Xor", &[1, 7], binary),
    row("BitShift", &[11, 28], bit_shift),
    row("Cast", &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28], cast),
    row("CastLike", &[15, 19, 21, 23, 24, 25], cast_like),
    row("IsInf", &[10, 20], is_inf),
    row("Max", &[1, 6, 8, 12, 13], variadic),
    row("Mean", &[1, 6, 8, 13], variadic),
    row("Min", &[1, 6, 8, 12, 13], variadic),
    row("Mod", &[10, 13, 28], modulo),
    row("Pow", &[1, 7, 12, 13, 15], pow),
    row("Sum", &[1, 6, 8, 13], variadic),
    row("Where", &[9, 16], select),
];

/// The IR operator of a one-to-one ONNX operator.
fn ir_name(op: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("Abs", "abs"),
        ("Acos", "acos"),
        ("Acosh", "acosh"),
        ("Asin", "asin"),
        ("Asinh", "asinh"),
        ("Atan", "atan"),
        ("Atanh", "atanh"),
        ("BitwiseNot", "bit_not"),
        ("Ceil", "ceil"),
        ("Cos", "cos"),
        ("Cosh", "cosh"),
        ("Erf", "erf"),
        ("Exp", "exp"),
        ("Floor", "floor"),
        ("IsNaN", "is_nan"),
        ("Log", "log"),
        ("Neg", "neg"),
        ("Not", "not"),
        ("Reciprocal", "reciprocal"),
        ("Round", "round"),
        ("Sigmoid", "sigmoid"),
        ("Sign", "sign"),
        ("Sin", "sin"),
        ("Sinh", "sinh"),
        ("Sqrt", "sqrt"),
        ("Tan", "tan"),
        ("Tanh", "tanh"),
        ("Add", "add"),
        ("And", "and"),
        ("BitwiseAnd", "bit_and"),
        ("BitwiseOr", "bit_or"),
        ("BitwiseXor", "bit_xor"),
        ("Div", "div"),
        ("Equal", "eq"),
        ("Greater", "gt"),
        ("GreaterOrEqual", "ge"),
        ("Less", "lt"),
        ("LessOrEqual", "le"),
        ("Mul", "mul"),
        ("Or", "or"),
        ("Sub", "sub"),
        ("Xor", "xor"),
        ("Max", "max"),
        ("Min", "min"),
        ("Sum", "add"),
        ("Mean", "add"),
    ];
    NAMES.iter().find(|(onnx, _)| *onnx == op).map(|(_, ir)| *ir)
}

fn name(cx: &Cx, n: &NodeCx<'_>) -> Res<&'static str> {
    ir_name(n.op).ok_or_else(|| cx.invalid(codes::NODE, "has no IR operator"))
}

fn unary(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let op = name(cx, n)?;
    Ok(vec![cx.unary(op, x)?])
}

fn binary(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b) = operands(cx, n)?;
    let op = name(cx, n)?;
    Ok(vec![cx.binary(op, a, b)?])
}

/// A quotient of extents is an extent: of a dividend that cannot be negative, or that the divisor divides.
fn div(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b) = operands(cx, n)?;
    let out = cx.binary("div", a, b)?;
    let known = |v: ValueId| cx.graph.value(v).content.clone();
    if let (None, Some(a), Some(b)) = (known(out), known(a), known(b))
        && a.len() == b.len()
    {
        let quotients = a.iter().zip(&b).map(|(a, b)| quotient(cx, a, b)).collect::<Res<Option<_>>>()?;
        cx.graph.values[out.0 as usize].content = quotients;
    }
    Ok(vec![out])
}

fn quotient(cx: &mut Cx, a: &Dim, b: &Dim) -> Res<Option<Dim>> {
    let natural = cx.range(a).0 >= 0 && cx.range(b).0 >= 0;
    let found = a.exact_div(b).or_else(|| a.floor_div(b).filter(|_| natural));
    if found.is_some() && b.as_const().is_none() {
        cx.require_le(&1.into(), b, "the divisor must be positive")?;
    }
    Ok(found.filter(Dim::is_sane))
}

/// The two operands, the second aligned as operator sets before 7 say.
fn operands(cx: &mut Cx, n: &NodeCx<'_>) -> Res<(ValueId, ValueId)> {
    let (a, b) = (n.input(cx, 0)?, n.input(cx, 1)?);
    if n.since >= 7 {
        return Ok((a, b));
    }
    n.ints("consumed_inputs")?;
    let axis = n.opt_int("axis")?;
    if !n.flag("broadcast", false)? {
        return Ok((a, b));
    }
    Ok((a, aligned(cx, a, b, axis)?))
}

/// `b` with extents of 1 appended so that its first dimension meets `axis` of `a`; trailing when no axis is given.
pub(crate) fn aligned(cx: &mut Cx, a: ValueId, b: ValueId, axis: Option<i64>) -> Res<ValueId> {
    let Some(axis) = axis else { return Ok(b) };
    let rank = cx.rank(a);
    let axis = cx.axis(axis, rank)?;
    let mut shape = cx.shape(b);
    if axis + shape.len() > rank {
        return Err(
            cx.invalid(codes::SHAPE, format!("axis {axis} leaves no room for {} dimensions", shape.len()))
        );
    }
    shape.resize(rank - axis, Dim::from(1));
    cx.reshape(b, &shape)
}

fn variadic(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let op = name(cx, n)?;
    let xs = n.all(cx)?;
    let mut y = xs[0];
    for x in &xs[1..] {
        y = cx.binary(op, y, *x)?;
    }
    if n.op == "Mean" {
        y = cx.with("div", y, xs.len() as f64)?;
    }
    Ok(vec![y])
}

fn modulo(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let fmod = n.flag("fmod", false)?;
    Ok(vec![cx.op("mod", [int("fmod", i64::from(fmod))], &[a, b])?])
}

/// The exponent may have another type than the base, whose type the result has.
fn pow(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (a, b) = operands(cx, n)?;
    let (base, exponent) = (cx.dtype(a), cx.dtype(b));
    if base.is_int() && exponent.is_float() {
        let (a, b) = (cx.cast(a, DType::F64)?, cx.cast(b, DType::F64)?);
        let y = cx.binary("pow", a, b)?;
        return Ok(vec![cx.cast(y, base)?]);
    }
    let wide = if base.is_float() && base != exponent && base != DType::F64 { DType::F32 } else { base };
    let (a, b) = (cx.cast(a, wide)?, cx.cast(b, wide)?);
    let y = cx.binary("pow", a, b)?;
    Ok(vec![cx.cast(y, base)?])
}

/// The unsigned type of the same width.
fn unsigned(d: DType) -> DType {
    match d {
        DType::I64 => DType::U64,
        DType::I32 => DType::U32,
        DType::I16 => DType::U16,
        DType::I8 => DType::U8,
        DType::I4 => DType::U4,
        DType::I2 => DType::U2,
        other => other,
    }
}

/// The IR shifts unsigned numbers, where a negative amount is a huge one that leaves nothing. A negative number shifts
/// right as its complement, so that what comes in from the left are copies of its sign.
fn bit_shift(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, amount) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let left = n.known_mode(cx, "direction", "", &["LEFT", "RIGHT"])? == "LEFT";
    let signed = cx.dtype(x);
    let bits = unsigned(signed);
    let amount = cx.cast(amount, bits)?;
    if left {
        let x = cx.cast(x, bits)?;
        let y = cx.binary("shl", x, amount)?;
        return Ok(vec![cx.cast(y, signed)?]);
    }
    if bits == signed {
        return Ok(vec![cx.binary("shr", x, amount)?]);
    }
    let negative = cx.with("lt", x, 0.0)?;
    let flipped = cx.unary("bit_not", x)?;
    let magnitude = cx.select(negative, flipped, x)?;
    let magnitude = cx.cast(magnitude, bits)?;
    let y = cx.binary("shr", magnitude, amount)?;
    let y = cx.cast(y, signed)?;
    let flipped = cx.unary("bit_not", y)?;
    Ok(vec![cx.select(negative, flipped, y)?])
}

fn is_inf(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let (p, m) = (n.int("detect_positive", 1)?, n.int("detect_negative", 1)?);
    Ok(vec![cx.op(
        "is_inf",
        [int("positive", i64::from(p != 0)), int("negative", i64::from(m != 0))],
        &[x],
    )?])
}

fn select(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (cond, a, b) = (n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?);
    Ok(vec![cx.select(cond, a, b)?])
}

/// A cast with the rounding that the node asks for.
fn converted(cx: &mut Cx, n: &NodeCx<'_>, x: ValueId, to: DType) -> Res<ValueId> {
    let saturate = n.since < 19 || n.flag("saturate", true)?;
    let from = cx.dtype(x);
    if to == DType::F8E8M0 && from != to {
        let mode = n.known_mode(cx, "round_mode", "up", &["up", "down", "nearest"])?;
        return power_of_two(cx, x, mode, saturate);
    }
    if from.is_float() && to.is_unsigned_int() && to.bits() < 64 {
        // A negative number keeps its low bits, as every signed conversion does.
        let x = cx.cast(x, DType::I64)?;
        return cx.cast(x, to);
    }
    if to == DType::F4E2M1 && from.is_float() && from != to {
        // The type has no NaN; ONNX's reference makes it -0.
        let nan = cx.unary("is_nan", x)?;
        let zero = cx.scalar(from, -0.0);
        let x = cx.select(nan, zero, x)?;
        return cx.cast(x, to);
    }
    if saturate || !to.is_float() || from == to {
        return cx.cast(x, to);
    }
    cx.op("cast", [dtype("to", to), int("wrap_overflow", 1)], &[x])
}

/// A cast to powers of two. The IR's gives the nearest, from which the next in the direction of the mode is one step away.
fn power_of_two(cx: &mut Cx, x: ValueId, mode: &str, saturate: bool) -> Res<ValueId> {
    let x = cx.cast(x, DType::F32)?;
    let size = cx.unary("abs", x)?;
    let convert = |cx: &mut Cx, v| {
        let attrs = [dtype("to", DType::F8E8M0), int("wrap_overflow", i64::from(!saturate))];
        cx.op("cast", attrs, &[v])
    };
    let nearest = convert(cx, size)?;
    let (compare, factor) = match mode {
        "up" => ("lt", 2.0),
        "down" => ("gt", 0.5),
        _ => return Ok(nearest),
    };
    // Doubled, the largest power does not fit f32.
    let power = cx.cast(nearest, DType::F64)?;
    let size = cx.cast(size, DType::F64)?;
    let wrong = cx.binary(compare, power, size)?;
    let mut next = cx.with("mul", power, factor)?;
    if saturate {
        next = cx.with("min", next, 127f64.exp2())?;
    }
    let power = cx.select(wrong, next, power)?;
    convert(cx, power)
}

fn cast(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    if n.since < 6 {
        return Err(
            cx.refuse("the operator before operator set 6", "convert the model to a newer operator set")
        );
    }
    let to = n.dtype(cx, "to")?.ok_or_else(|| cx.invalid(codes::VALUE, "needs the attribute `to`"))?;
    Ok(vec![converted(cx, n, x, to)?])
}

fn cast_like(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, like) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let to = cx.dtype(like);
    Ok(vec![converted(cx, n, x, to)?])
}
