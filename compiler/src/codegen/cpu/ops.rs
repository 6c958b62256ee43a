//! Operations on lanes.

use super::emit::{Emitter, MALFORMED, Slot};
use super::vector::Val;
use autoglm_runtime::tile::native::{Declined, binary_helper, frame, unary_helper};
use autoglm_runtime::tile::{BinaryOp, Lane, LaneId, UnaryOp};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I32, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value};

const NO_FORM: Declined = Declined("an operation without a short form");

fn vector_of(lane: Lane) -> Type {
    match lane {
        Lane::F32 => F32X4,
        Lane::F64 => F64X2,
        Lane::I64 | Lane::U64 => I64X2,
    }
}

fn float_condition(op: BinaryOp) -> Option<FloatCC> {
    Some(match op {
        BinaryOp::Eq => FloatCC::Equal,
        BinaryOp::Ne => FloatCC::NotEqual,
        BinaryOp::Lt => FloatCC::LessThan,
        BinaryOp::Le => FloatCC::LessThanOrEqual,
        BinaryOp::Gt => FloatCC::GreaterThan,
        BinaryOp::Ge => FloatCC::GreaterThanOrEqual,
        _ => return None,
    })
}

/// The condition on signed integers.
fn int_condition(op: BinaryOp) -> Option<IntCC> {
    Some(match op {
        BinaryOp::Eq => IntCC::Equal,
        BinaryOp::Ne => IntCC::NotEqual,
        BinaryOp::Lt => IntCC::SignedLessThan,
        BinaryOp::Le => IntCC::SignedLessThanOrEqual,
        BinaryOp::Gt => IntCC::SignedGreaterThan,
        BinaryOp::Ge => IntCC::SignedGreaterThanOrEqual,
        _ => return None,
    })
}

impl Emitter<'_> {
    fn each(&mut self, parts: Vec<Value>, mut f: impl FnMut(&mut Self, Value) -> Value) -> Vec<Value> {
        parts.into_iter().map(|p| f(self, p)).collect()
    }

    fn both(
        &mut self,
        a: Vec<Value>,
        b: Vec<Value>,
        mut f: impl FnMut(&mut Self, Value, Value) -> Value,
    ) -> Vec<Value> {
        a.into_iter().zip(b).map(|(a, b)| f(self, a, b)).collect()
    }

    pub(super) fn unary(&mut self, op: UnaryOp, value: Val, lane: Lane) -> Result<Val, Declined> {
        let is_test = matches!(op, UnaryOp::IsNan | UnaryOp::IsPosInf | UnaryOp::IsNegInf);
        match value {
            Val::F32(p) if is_test => Ok(Val::Mask32(self.each(p, |e, x| e.float_test(op, x)))),
            Val::F64(p) if is_test => Ok(Val::Mask64(self.each(p, |e, x| e.float_test(op, x)))),
            Val::F32(p) => self.unary_float(op, p, lane).map(Val::F32),
            Val::F64(p) => self.unary_float(op, p, lane).map(Val::F64),
            Val::Mask32(p) if op == UnaryOp::Not => Ok(Val::Mask32(self.each(p, |e, x| e.b.ins().bnot(x)))),
            ints if op == UnaryOp::Not => {
                let masks = self.mask64(ints);
                Ok(Val::Mask64(self.each(masks, |e, x| e.b.ins().bnot(x))))
            }
            ints => {
                let parts = self.ints(ints);
                Ok(Val::Int(self.each(parts, |e, x| e.unary_int(op, x, lane == Lane::U64))))
            }
        }
    }

    fn float_test(&mut self, op: UnaryOp, x: Value) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        match op {
            UnaryOp::IsPosInf => {
                let infinity = self.floats(ty, f64::INFINITY);
                self.b.ins().fcmp(FloatCC::Equal, x, infinity)
            }
            UnaryOp::IsNegInf => {
                let infinity = self.floats(ty, f64::NEG_INFINITY);
                self.b.ins().fcmp(FloatCC::Equal, x, infinity)
            }
            _ => self.b.ins().fcmp(FloatCC::Unordered, x, x),
        }
    }

    fn unary_int(&mut self, op: UnaryOp, x: Value, unsigned: bool) -> Value {
        match op {
            UnaryOp::Abs if unsigned => x,
            UnaryOp::Abs => self.b.ins().iabs(x),
            UnaryOp::Neg => self.b.ins().ineg(x),
            UnaryOp::Sign if unsigned => {
                let (zero, one) = (self.pair(0, 0), self.pair(1, 1));
                let some = self.b.ins().icmp(IntCC::NotEqual, x, zero);
                self.b.ins().band(some, one)
            }
            UnaryOp::Sign => self.signum(x),
            _ => self.b.ins().bnot(x),
        }
    }

    fn unary_float(&mut self, op: UnaryOp, parts: Vec<Value>, lane: Lane) -> Result<Vec<Value>, Declined> {
        let ty = vector_of(lane);
        let mut failed = None;
        let results = self.each(parts, |e, x| match op {
            UnaryOp::Abs => {
                let mask = e.sign_mask(ty, false);
                e.and(x, mask)
            }
            UnaryOp::Neg => e.b.ins().fneg(x),
            UnaryOp::Sign => e.float_sign(x),
            UnaryOp::Ceil => e.b.ins().ceil(x),
            UnaryOp::Floor => e.b.ins().floor(x),
            UnaryOp::Trunc => e.b.ins().trunc(x),
            UnaryOp::Round => e.b.ins().nearest(x),
            UnaryOp::Sqrt => e.b.ins().sqrt(x),
            UnaryOp::Reciprocal => {
                let one = e.floats(ty, 1.0);
                e.b.ins().fdiv(one, x)
            }
            UnaryOp::Exp if lane == Lane::F32 => e.exp(x),
            UnaryOp::Log if lane == Lane::F32 => e.log(x),
            UnaryOp::Erf if lane == Lane::F32 => e.erf(x),
            UnaryOp::Tanh if lane == Lane::F32 => e.tanh(x),
            UnaryOp::Sigmoid if lane == Lane::F32 => e.sigmoid(x),
            _ => e.call(unary_helper(op, lane), x, x, lane).unwrap_or_else(|why| {
                failed = Some(why);
                x
            }),
        });
        failed.map_or(Ok(results), Err)
    }

    /// -1, 1, or the zero or NaN itself.
    fn float_sign(&mut self, x: Value) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let mask = self.sign_mask(ty, true);
        let sign = self.and(x, mask);
        let one = self.floats(ty, 1.0);
        let unit = self.or(sign, one);
        let zero = self.floats(ty, 0.0);
        let (is_zero, is_nan) =
            (self.b.ins().fcmp(FloatCC::Equal, x, zero), self.b.ins().fcmp(FloatCC::Unordered, x, x));
        let stays = self.b.ins().bor(is_zero, is_nan);
        self.choose(stays, x, unit)
    }

    /// The helper at `position`, called for one element after the other.
    fn call(&mut self, position: Option<usize>, x: Value, y: Value, lane: Lane) -> Result<Value, Declined> {
        let table = self.field(frame::HELPERS);
        let at = position.ok_or(NO_FORM)? as i32 * 8;
        let function = self.b.ins().load(I64, super::vector::unchecked(), table, at);
        let signature = self.helper;
        let mut column = 0u8;
        let parts = self.by_element(&[x], vector_of(lane), |e, x| {
            let y = e.b.ins().extractlane(y, column);
            column += 1;
            let (x, y) = (e.element_bits(x), e.element_bits(y));
            let call = e.b.ins().call_indirect(signature, function, &[x, y]);
            let result = e.b.inst_results(call)[0];
            match lane {
                Lane::F32 => {
                    let low = e.b.ins().ireduce(I32, result);
                    e.cast(F32, low)
                }
                Lane::F64 => e.cast(F64, result),
                Lane::I64 | Lane::U64 => result,
            }
        });
        parts.first().copied().ok_or(MALFORMED)
    }

    /// An element as 64 bits.
    fn element_bits(&mut self, x: Value) -> Value {
        match self.b.func.dfg.value_type(x) {
            F32 => {
                let bits = self.cast(I32, x);
                self.b.ins().uextend(I64, bits)
            }
            _ => self.cast(I64, x),
        }
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: LaneId, b: LaneId) -> Result<Val, Declined> {
        let lane = self.lane(a)?;
        if matches!(op, BinaryOp::Max | BinaryOp::Min) && lane.is_float() {
            for (x, c) in [(a, b), (b, a)] {
                if let Some(Slot::Const(_, bits)) = self.slots.get(usize::from(c)).cloned()
                    && let Some(value) = self.bounded(op, x, lane, bits)?
                {
                    return Ok(value);
                }
            }
        }
        let (a, b) = (self.get(a)?, self.get(b)?);
        match (a, b) {
            (Val::F32(a), Val::F32(b)) => self.binary_float(op, a, b, lane),
            (Val::F64(a), Val::F64(b)) => self.binary_float(op, a, b, lane),
            (Val::F32(_) | Val::F64(_), _) | (_, Val::F32(_) | Val::F64(_)) => Err(MALFORMED),
            (a, b) => self.binary_int(op, a, b, lane),
        }
    }

    /// Maximum or minimum of lane `x` and a constant whose bits make the short form right for NaN and zeros.
    fn bounded(&mut self, op: BinaryOp, x: LaneId, lane: Lane, bits: u64) -> Result<Option<Val>, Declined> {
        let c = if lane == Lane::F32 { f64::from(f32::from_bits(bits as u32)) } else { f64::from_bits(bits) };
        let is_relu = op == BinaryOp::Max && c == 0.0 && c.is_sign_positive();
        if c.is_nan() || (c == 0.0 && !is_relu) {
            return Ok(None);
        }
        let (Val::F32(parts) | Val::F64(parts)) = self.get(x)? else { return Err(MALFORMED) };
        let ty = vector_of(lane);
        let results = self.each(parts, |e, x| {
            let bound = e.floats(ty, c);
            // NaN fails the comparison and stays, as the operand that is chosen then.
            let y = if op == BinaryOp::Max { e.above(bound, x) } else { e.below(bound, x) };
            if !is_relu {
                return y;
            }
            // -0 is not below 0, but becomes +0 in a sum with it.
            let zero = e.floats(ty, 0.0);
            e.b.ins().fadd(y, zero)
        });
        Ok(Some(if lane == Lane::F32 { Val::F32(results) } else { Val::F64(results) }))
    }

    fn binary_float(
        &mut self,
        op: BinaryOp,
        a: Vec<Value>,
        b: Vec<Value>,
        lane: Lane,
    ) -> Result<Val, Declined> {
        let is_f32 = lane == Lane::F32;
        if let Some(condition) = float_condition(op) {
            let masks = self.both(a, b, |e, a, b| e.b.ins().fcmp(condition, a, b));
            return Ok(if is_f32 { Val::Mask32(masks) } else { Val::Mask64(masks) });
        }
        let mut failed = None;
        let parts = self.both(a, b, |e, a, b| match op {
            BinaryOp::Add => e.b.ins().fadd(a, b),
            BinaryOp::Sub => e.b.ins().fsub(a, b),
            BinaryOp::Mul => e.b.ins().fmul(a, b),
            BinaryOp::Div => e.b.ins().fdiv(a, b),
            BinaryOp::Max | BinaryOp::Min => e.extremum(op == BinaryOp::Max, a, b),
            _ => e.call(binary_helper(op, lane), a, b, lane).unwrap_or_else(|why| {
                failed = Some(why);
                a
            }),
        });
        match failed {
            Some(why) => Err(why),
            None => Ok(if is_f32 { Val::F32(parts) } else { Val::F64(parts) }),
        }
    }

    /// The larger (or smaller) of two floats; NaN wins, +0 is above -0.
    pub(super) fn extremum(&mut self, larger: bool, a: Value, b: Value) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        let chosen = if larger { self.above(a, b) } else { self.below(a, b) };
        let zeros = if larger { self.and(a, b) } else { self.or(a, b) };
        let equal = self.b.ins().fcmp(FloatCC::Equal, a, b);
        let chosen = self.choose(equal, zeros, chosen);
        let unordered = self.b.ins().fcmp(FloatCC::Unordered, a, b);
        let nan = self.floats(ty, f64::NAN);
        self.choose(unordered, nan, chosen)
    }

    fn binary_int(&mut self, op: BinaryOp, a: Val, b: Val, lane: Lane) -> Result<Val, Declined> {
        if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor)
            && matches!(a, Val::Mask32(_) | Val::Mask64(_))
            && matches!(b, Val::Mask32(_) | Val::Mask64(_))
        {
            let narrow = matches!(a, Val::Mask32(_)) || matches!(b, Val::Mask32(_));
            let [a, b] = [a, b].map(|v| if narrow { self.mask32(v) } else { self.mask64(v) });
            let masks = self.both(a, b, |e, a, b| e.bitwise(op, a, b));
            return Ok(if narrow { Val::Mask32(masks) } else { Val::Mask64(masks) });
        }
        let (a, b) = (self.ints(a), self.ints(b));
        if let Some(condition) = int_condition(op) {
            return Ok(Val::Mask64(self.both(a, b, |e, a, b| e.compare(condition, a, b, lane))));
        }
        let mut failed = None;
        let parts = self.both(a, b, |e, a, b| match op {
            BinaryOp::Add => e.b.ins().iadd(a, b),
            BinaryOp::Sub => e.b.ins().isub(a, b),
            BinaryOp::Mul => e.b.ins().imul(a, b),
            BinaryOp::Max | BinaryOp::Min => e.int_extremum(op == BinaryOp::Max, a, b, lane),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => e.bitwise(op, a, b),
            _ => e.call(binary_helper(op, lane), a, b, lane).unwrap_or_else(|why| {
                failed = Some(why);
                a
            }),
        });
        failed.map_or(Ok(Val::Int(parts)), Err)
    }

    fn bitwise(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        match op {
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            _ => self.b.ins().bxor(a, b),
        }
    }

    /// A comparison of integers of 64 bits; flipping the highest bit orders unsigned ones as signed ones.
    fn compare(&mut self, condition: IntCC, a: Value, b: Value, lane: Lane) -> Value {
        if lane == Lane::I64 || matches!(condition, IntCC::Equal | IntCC::NotEqual) {
            return self.b.ins().icmp(condition, a, b);
        }
        let high = self.pair(i64::MIN, i64::MIN);
        let (a, b) = (self.b.ins().bxor(a, high), self.b.ins().bxor(b, high));
        self.b.ins().icmp(condition, a, b)
    }

    pub(super) fn int_extremum(&mut self, larger: bool, a: Value, b: Value, lane: Lane) -> Value {
        let above = self.compare(IntCC::SignedGreaterThan, a, b, lane);
        if larger { self.choose(above, a, b) } else { self.choose(above, b, a) }
    }
}
