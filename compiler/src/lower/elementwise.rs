//! Elementwise operators as TileIR instructions.

use super::place::Writes;
use super::tile::{Body, lane};
use super::view::Move;
use super::{Failure, Lowering, elem};
use autoglm_ir::graph::ConstData;
use autoglm_ir::{DType, Node, ValueId, interp};
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, LaneId, UnaryOp};

/// Operators that are one instruction.
static UNARY: &[(&str, UnaryOp)] = &[
    ("abs", UnaryOp::Abs),
    ("neg", UnaryOp::Neg),
    ("sign", UnaryOp::Sign),
    ("ceil", UnaryOp::Ceil),
    ("floor", UnaryOp::Floor),
    ("round", UnaryOp::Round),
    ("sqrt", UnaryOp::Sqrt),
    ("reciprocal", UnaryOp::Reciprocal),
    ("exp", UnaryOp::Exp),
    ("log", UnaryOp::Log),
    ("erf", UnaryOp::Erf),
    ("sin", UnaryOp::Sin),
    ("cos", UnaryOp::Cos),
    ("tan", UnaryOp::Tan),
    ("asin", UnaryOp::Asin),
    ("acos", UnaryOp::Acos),
    ("atan", UnaryOp::Atan),
    ("sinh", UnaryOp::Sinh),
    ("cosh", UnaryOp::Cosh),
    ("tanh", UnaryOp::Tanh),
    ("asinh", UnaryOp::Asinh),
    ("acosh", UnaryOp::Acosh),
    ("atanh", UnaryOp::Atanh),
    ("sigmoid", UnaryOp::Sigmoid),
    ("not", UnaryOp::Not),
    ("bit_not", UnaryOp::BitNot),
    ("is_nan", UnaryOp::IsNan),
];

/// Operators of two arguments that are one instruction.
static BINARY: &[(&str, BinaryOp)] = &[
    ("add", BinaryOp::Add),
    ("sub", BinaryOp::Sub),
    ("mul", BinaryOp::Mul),
    ("div", BinaryOp::Div),
    ("pow", BinaryOp::Pow),
    ("max", BinaryOp::Max),
    ("min", BinaryOp::Min),
    ("eq", BinaryOp::Eq),
    ("lt", BinaryOp::Lt),
    ("le", BinaryOp::Le),
    ("gt", BinaryOp::Gt),
    ("ge", BinaryOp::Ge),
    ("and", BinaryOp::And),
    ("or", BinaryOp::Or),
    ("xor", BinaryOp::Xor),
    ("bit_and", BinaryOp::And),
    ("bit_or", BinaryOp::Or),
    ("bit_xor", BinaryOp::Xor),
    ("shl", BinaryOp::Shl),
    ("shr", BinaryOp::Shr),
];

/// Lowers a node to one loop over its result.
pub(super) fn map(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let mut body = Body::new();
    let src = instructions(cx, &mut body, node, &[])?;
    let out = cx.target(node.outs[0], &body.args, Writes::Any)?;
    body.finish_map(cx, src, &out)
}

/// The instructions of one node that the loop sees behind `path`; the lane is not yet rounded to the node's element type.
pub(super) fn instructions(
    cx: &mut Lowering<'_>,
    body: &mut Body,
    node: &Node,
    path: &[Move],
) -> Result<LaneId, Failure> {
    let name = node.op.name();
    let path = Body::operand_path(&cx.graph.ty(node.outs[0]).shape, path);
    if let Some(src) = power(cx, body, node, &path)? {
        body.ops.push(name);
        return Ok(src);
    }
    let lanes = node.args.iter().map(|a| body.lane(cx, *a, path.clone())).collect::<Result<Vec<_>, _>>()?;
    body.ops.push(name);
    let from = cx.graph.ty(node.args[0]).dtype;
    if let (Some((_, op)), [x]) = (UNARY.iter().find(|(n, _)| *n == name), lanes.as_slice()) {
        return Ok(body.push(Instr::Unary(*op, *x)));
    }
    if let (Some((_, op)), [x, y]) = (BINARY.iter().find(|(n, _)| *n == name), lanes.as_slice()) {
        return Ok(body.push(Instr::Binary(*op, *x, *y)));
    }
    match (name, lanes.as_slice()) {
        ("select", [cond, a, b]) => Ok(body.push(Instr::Select { cond: *cond, a: *a, b: *b })),
        ("mod", [x, y]) => {
            let op = if node.attrs.flag("fmod") { BinaryOp::TruncMod } else { BinaryOp::FloorMod };
            Ok(body.push(Instr::Binary(op, *x, *y)))
        }
        ("is_inf", [x]) => {
            let positive = body.push(Instr::Unary(UnaryOp::IsPosInf, *x));
            let negative = body.push(Instr::Unary(UnaryOp::IsNegInf, *x));
            Ok(match (node.attrs.flag("positive"), node.attrs.flag("negative")) {
                (true, true) => body.push(Instr::Binary(BinaryOp::Or, positive, negative)),
                (true, false) => positive,
                (false, true) => negative,
                (false, false) => body.constant(Lane::I64, 0.0),
            })
        }
        ("gelu" | "silu" | "hard_swish", [x]) => Ok(activation(body, node, *x, lane(from))),
        ("cast", [x]) => {
            let to = node.attrs.dtype("to").ok_or_else(|| Failure::Invalid("cast without a type".into()))?;
            cast(body, *x, (from, to), !node.attrs.flag("wrap_overflow"))
        }
        _ => Err(Failure::Unsupported(format!("`{name}` has no TileIR instruction"))),
    }
}

/// `x` times a function of it.
fn activation(body: &mut Body, node: &Node, x: LaneId, lane: Lane) -> LaneId {
    let constant = |body: &mut Body, v: f64| body.constant(lane, v);
    let binary = |body: &mut Body, op, a, b| body.push(Instr::Binary(op, a, b));
    let factor = match (node.op.name(), node.attrs.flag("tanh")) {
        ("silu", _) => body.push(Instr::Unary(UnaryOp::Sigmoid, x)),
        ("hard_swish", _) => {
            let (sixth, half) = (constant(body, 1.0 / 6.0), constant(body, 0.5));
            let (zero, one) = (constant(body, 0.0), constant(body, 1.0));
            let scaled = binary(body, BinaryOp::Mul, x, sixth);
            let shifted = binary(body, BinaryOp::Add, scaled, half);
            let below = binary(body, BinaryOp::Min, one, shifted);
            binary(body, BinaryOp::Max, zero, below)
        }
        (_, tanh) => {
            let (half, one) = (constant(body, 0.5), constant(body, 1.0));
            let curve = if tanh {
                let (cubic, scale) =
                    (constant(body, 0.044715), constant(body, (2.0 / std::f64::consts::PI).sqrt()));
                let square = binary(body, BinaryOp::Mul, x, x);
                let inner = binary(body, BinaryOp::Mul, square, cubic);
                let inner = binary(body, BinaryOp::Add, inner, one);
                let inner = binary(body, BinaryOp::Mul, inner, x);
                let inner = binary(body, BinaryOp::Mul, inner, scale);
                body.push(Instr::Unary(UnaryOp::Tanh, inner))
            } else {
                let scale = constant(body, std::f64::consts::FRAC_1_SQRT_2);
                let inner = binary(body, BinaryOp::Mul, x, scale);
                body.push(Instr::Unary(UnaryOp::Erf, inner))
            };
            let sum = binary(body, BinaryOp::Add, curve, one);
            binary(body, BinaryOp::Mul, sum, half)
        }
    };
    binary(body, BinaryOp::Mul, x, factor)
}

/// A power with the same small exponent everywhere.
fn power(
    cx: &mut Lowering<'_>,
    body: &mut Body,
    node: &Node,
    path: &[Move],
) -> Result<Option<LaneId>, Failure> {
    let [base, exponent] = node.args.as_slice() else { return Ok(None) };
    let Some(exponent) = uniform(cx, *exponent)?.filter(|_| node.op.name() == "pow") else { return Ok(None) };
    let dtype = cx.graph.ty(*base).dtype;
    let root = exponent == 0.5 && dtype.is_float();
    if !root && exponent != 2.0 && exponent != 3.0 {
        return Ok(None);
    }
    let x = body.lane(cx, *base, path.to_vec())?;
    if root {
        // The square root has its own ideas of -0 and -inf.
        let zero = body.constant(lane(dtype), 0.0);
        let infinity = body.constant(lane(dtype), f64::INFINITY);
        let root = body.push(Instr::Unary(UnaryOp::Sqrt, x));
        let root = body.push(Instr::Binary(BinaryOp::Add, root, zero));
        let cond = body.push(Instr::Unary(UnaryOp::IsNegInf, x));
        return Ok(Some(body.push(Instr::Select { cond, a: infinity, b: root })));
    }
    let square = body.push(Instr::Binary(BinaryOp::Mul, x, x));
    if exponent == 2.0 {
        return Ok(Some(square));
    }
    Ok(Some(body.push(Instr::Binary(BinaryOp::Mul, square, x))))
}

/// The element of a constant that is the same everywhere.
fn uniform(cx: &Lowering<'_>, v: ValueId) -> Result<Option<f64>, Failure> {
    let Some(id) = cx.graph.constant(v) else { return Ok(None) };
    let splat = matches!(cx.graph.consts[id.0 as usize].data, ConstData::Splat(_));
    if !splat && !cx.graph.ty(v).numel().is(1) {
        return Ok(None);
    }
    let tensor = interp::const_tensor(cx.graph, id).map_err(Failure::Invalid)?;
    Ok(tensor.to_f64().first().copied())
}

fn cast(body: &mut Body, x: LaneId, (from, to): (DType, DType), saturate: bool) -> Result<LaneId, Failure> {
    if to == DType::Bool {
        let zero = body.constant(lane(from), 0.0);
        return Ok(body.push(Instr::Binary(BinaryOp::Ne, x, zero)));
    }
    // A float becomes a narrow unsigned integer by way of a signed one, whose low bits it keeps.
    let narrow_unsigned = to.is_unsigned_int() && to != DType::U64;
    let mut src = x;
    if narrow_unsigned && from.is_float() {
        src = body.push(Instr::Convert { to: Lane::I64, src });
    }
    if lane(from) != lane(to) {
        src = body.push(Instr::Convert { to: lane(to), src });
    }
    // A store never saturates, so what saturates is rounded before.
    let small_float = to.is_float() && to.bits() <= 8;
    if !small_float {
        return Ok(src);
    }
    Ok(body.push(Instr::Round { elem: elem(to)?, saturate, src }))
}

/// Rounds a lane to what its element type holds, where the lane holds more.
pub(super) fn round(body: &mut Body, src: LaneId, dtype: DType) -> Result<LaneId, Failure> {
    let exact = matches!(dtype, DType::F32 | DType::F64 | DType::I64 | DType::U64 | DType::Bool);
    if exact {
        return Ok(src);
    }
    Ok(body.push(Instr::Round { elem: elem(dtype)?, saturate: true, src }))
}
