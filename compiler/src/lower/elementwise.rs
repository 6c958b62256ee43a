//! Elementwise operators as TileIR instructions.

use super::tile::{Body, lane};
use super::{Failure, Lowering, elem};
use autoglm_ir::{DType, Node};
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
    let result = node.outs[0];
    let ty = cx.graph.ty(result).clone();
    let mut body = Body::new(&ty.shape, (0..ty.rank()).collect());
    let src = instructions(cx, &mut body, node)?;
    body.push(Instr::Store { out: 0, src });
    let out = cx.result(result)?;
    body.finish(cx, None, out)
}

/// The instructions of one node; the lane is not yet rounded to the node's element type.
pub(super) fn instructions(cx: &mut Lowering<'_>, body: &mut Body, node: &Node) -> Result<LaneId, Failure> {
    let name = node.op.name();
    let lanes = node.args.iter().map(|a| body.lane(cx, *a)).collect::<Result<Vec<_>, _>>()?;
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
        ("cast", [x]) => {
            let to = node.attrs.dtype("to").ok_or_else(|| Failure::Invalid("cast without a type".into()))?;
            cast(body, *x, (from, to), !node.attrs.flag("wrap_overflow"))
        }
        _ => Err(Failure::Unsupported(format!("`{name}` has no TileIR instruction"))),
    }
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
