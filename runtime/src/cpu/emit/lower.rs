//! Instructions of a tile program as operations on vectors.

use super::graph::{Graph, Id, Op, Order, Rounding};
use crate::tile::native::{Declined, LoopSpec, Operand, Step};
use crate::tile::{BinaryOp, Instr, Lane, LaneId, UnaryOp};

const NO_FORM: Declined = Declined("an operation without a short form");
const MALFORMED: Declined = Declined("a malformed loop");

/// What a lane is.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// f32.
    Float(Id),
    /// An integer 0 or 1, as words of zeros or ones.
    Mask(Id),
    /// An integer constant.
    Int(i64),
    /// A store, or a constant that is never used.
    None,
}

/// The operations of the body of `spec`; `fixed` are the reads that stay in place.
pub(super) fn lower(spec: &LoopSpec, fixed: &[usize]) -> Result<Graph, Declined> {
    let is_store = |i: &Instr| matches!(i, Instr::Store { .. });
    let lanes_fit = spec.body.iter().zip(&spec.lanes).all(|(i, lane)| lane.is_none() == is_store(i));
    if spec.body.len() != spec.lanes.len() || !lanes_fit {
        return Err(MALFORMED);
    }
    let mut lowering = Lowering { spec, fixed, graph: Graph::default(), values: Vec::new() };
    for instr in &spec.body {
        let value = lowering.one(*instr)?;
        lowering.values.push(value);
    }
    Ok(lowering.graph)
}

fn is_dense(operands: &[Operand], i: usize) -> bool {
    operands.get(i).is_some_and(|o| o.step == Step::Dense)
}

struct Lowering<'a> {
    spec: &'a LoopSpec,
    fixed: &'a [usize],
    graph: Graph,
    values: Vec<Value>,
}

impl Lowering<'_> {
    fn value(&self, id: LaneId) -> Result<Value, Declined> {
        self.values.get(usize::from(id)).copied().ok_or(MALFORMED)
    }

    fn float(&self, id: LaneId) -> Result<Id, Declined> {
        if let Value::Float(id) = self.value(id)? { Ok(id) } else { Err(NO_FORM) }
    }

    fn mask(&mut self, id: LaneId) -> Result<Id, Declined> {
        match self.value(id)? {
            Value::Mask(id) => Ok(id),
            Value::Int(x) => Ok(self.graph.bits(if x == 0 { 0 } else { u32::MAX })),
            Value::Float(_) | Value::None => Err(NO_FORM),
        }
    }

    fn one(&mut self, instr: Instr) -> Result<Value, Declined> {
        Ok(match instr {
            Instr::Load { arg } => {
                let arg = usize::from(arg);
                let op = match self.fixed.iter().position(|&f| f == arg) {
                    Some(slot) => Op::Fixed(slot),
                    None if is_dense(&self.spec.reads, arg) => Op::Load(arg, 0),
                    None => return Err(MALFORMED),
                };
                Value::Float(self.graph.push(op))
            }
            Instr::Const { lane: Lane::F32, bits } => Value::Float(self.graph.bits(bits as u32)),
            Instr::Const { lane: Lane::I64, bits } => Value::Int(bits as i64),
            Instr::Const { .. } => Value::None,
            Instr::Index { .. } => return Err(NO_FORM),
            Instr::Unary(op, a) => self.unary(op, a)?,
            Instr::Binary(op, a, b) => self.binary(op, a, b)?,
            Instr::Select { cond, a, b } => self.select(cond, a, b)?,
            Instr::Convert { to: Lane::F32, src } => match self.value(src)? {
                Value::Mask(mask) => {
                    let one = self.graph.float(1.0);
                    Value::Float(self.graph.and(mask, one))
                }
                Value::Int(x) => Value::Float(self.graph.float(x as f32)),
                other => other,
            },
            Instr::Convert { .. } => return Err(NO_FORM),
            Instr::Round { elem: crate::elem::ElemType::F32, src, .. } => self.value(src)?,
            Instr::Round { .. } => return Err(NO_FORM),
            Instr::Store { out, src } => {
                let out = usize::from(out);
                if !is_dense(&self.spec.writes, out) {
                    return Err(MALFORMED);
                }
                let src = self.float(src)?;
                self.graph.push(Op::Store(self.spec.reads.len() + out, 0, src));
                Value::None
            }
        })
    }

    fn select(&mut self, cond: LaneId, a: LaneId, b: LaneId) -> Result<Value, Declined> {
        let cond = self.mask(cond)?;
        if let (Value::Float(a), Value::Float(b)) = (self.value(a)?, self.value(b)?) {
            return Ok(Value::Float(self.graph.blend(cond, a, b)));
        }
        if let (Value::Mask(a), Value::Mask(b)) = (self.value(a)?, self.value(b)?) {
            return Ok(Value::Mask(self.graph.blend(cond, a, b)));
        }
        Err(NO_FORM)
    }

    fn unary(&mut self, op: UnaryOp, a: LaneId) -> Result<Value, Declined> {
        use UnaryOp::*;
        if op == Not {
            let mask = self.mask(a)?;
            return Ok(Value::Mask(self.graph.not(mask)));
        }
        let x = self.float(a)?;
        let g = &mut self.graph;
        Ok(Value::Float(match op {
            Abs => g.abs(x),
            Neg => {
                let sign = g.bits(1 << 31);
                g.xor(x, sign)
            }
            Sign => {
                let (zero, one) = (g.float(0.0), g.float(1.0));
                let unit = g.with_sign(one, x);
                let (is_zero, is_nan) = (g.compare(Order::Equal, x, zero), g.compare(Order::Unordered, x, x));
                let stays = g.or(is_zero, is_nan);
                g.blend(stays, x, unit)
            }
            Ceil => g.push(Op::Round(Rounding::Up, x)),
            Floor => g.push(Op::Round(Rounding::Down, x)),
            Trunc => g.push(Op::Round(Rounding::TowardsZero, x)),
            Round => g.push(Op::Round(Rounding::HalfEven, x)),
            Sqrt => g.sqrt(x),
            Reciprocal => {
                let one = g.float(1.0);
                g.div(one, x)
            }
            Exp => g.exp(x),
            Log => g.log(x),
            Erf => g.erf(x),
            Tanh => g.tanh(x),
            Sigmoid => g.sigmoid(x),
            IsNan => return Ok(Value::Mask(g.compare(Order::Unordered, x, x))),
            IsPosInf | IsNegInf => {
                let infinity = g.float(if op == IsPosInf { f32::INFINITY } else { f32::NEG_INFINITY });
                return Ok(Value::Mask(g.compare(Order::Equal, x, infinity)));
            }
            _ => return Err(NO_FORM),
        }))
    }

    fn binary(&mut self, op: BinaryOp, a: LaneId, b: LaneId) -> Result<Value, Declined> {
        use BinaryOp::*;
        if let (Value::Mask(a), Value::Mask(b)) = (self.value(a)?, self.value(b)?) {
            return Ok(Value::Mask(match op {
                And => self.graph.and(a, b),
                Or => self.graph.or(a, b),
                Xor => self.graph.xor(a, b),
                _ => return Err(NO_FORM),
            }));
        }
        let (a, b) = (self.float(a)?, self.float(b)?);
        let order = match op {
            Eq => Some(Order::Equal),
            Ne => Some(Order::NotEqual),
            Lt => Some(Order::Less),
            Le => Some(Order::LessOrEqual),
            Gt => Some(Order::Greater),
            Ge => Some(Order::GreaterOrEqual),
            _ => None,
        };
        if let Some(order) = order {
            return Ok(Value::Mask(self.graph.compare(order, a, b)));
        }
        let g = &mut self.graph;
        Ok(Value::Float(match op {
            Add => g.add(a, b),
            Sub => g.sub(a, b),
            Mul => g.mul(a, b),
            Div => g.div(a, b),
            Max | Min => extremum(g, op == Max, a, b),
            _ => return Err(NO_FORM),
        }))
    }
}

/// The larger (or smaller) of two; NaN wins, +0 is above -0.
fn extremum(g: &mut Graph, larger: bool, a: Id, b: Id) -> Id {
    for (x, c) in [(a, b), (b, a)] {
        let Op::Const(bits) = g.ops[c] else { continue };
        let bound = f32::from_bits(bits);
        let is_relu = larger && bits == 0;
        if bound.is_nan() || (bound == 0.0 && !is_relu) {
            continue;
        }
        // NaN fails the comparison and stays, as the operand that is chosen then.
        let y = if larger { g.above(c, x) } else { g.below(c, x) };
        // -0 is not below 0, but becomes +0 in a sum with it.
        return if is_relu { g.add(y, c) } else { y };
    }
    let chosen = if larger { g.above(a, b) } else { g.below(a, b) };
    let zeros = if larger { g.and(a, b) } else { g.or(a, b) };
    let equal = g.compare(Order::Equal, a, b);
    let chosen = g.blend(equal, zeros, chosen);
    let unordered = g.compare(Order::Unordered, a, b);
    let nan = g.float(f32::NAN);
    g.blend(unordered, nan, chosen)
}
