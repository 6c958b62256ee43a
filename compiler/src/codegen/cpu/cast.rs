//! Conversions between lanes, rounding, and integers that are conditions.

use super::emit::{Emitter, MALFORMED};
use super::vector::{Val, columns};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::tile::native::Declined;
use autoglm_runtime::tile::{Lane, LaneId};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

impl Emitter<'_> {
    /// An integer lane as vectors of i64.
    pub(super) fn ints(&mut self, value: Val) -> Vec<Value> {
        match value {
            Val::Mask32(parts) => {
                let wide = self.widen32(&parts, true);
                self.ints(Val::Mask64(wide))
            }
            Val::Mask64(parts) => {
                let one = self.pair(1, 1);
                parts.into_iter().map(|p| self.b.ins().band(p, one)).collect()
            }
            Val::Int(parts) | Val::F64(parts) | Val::F32(parts) => parts,
        }
    }

    /// An integer lane as `!= 0`, two columns a part.
    pub(super) fn mask64(&mut self, value: Val) -> Vec<Value> {
        match value {
            Val::Mask64(parts) => parts,
            Val::Mask32(parts) => self.widen32(&parts, true),
            other => {
                let (parts, zero) = (self.ints(other), self.pair(0, 0));
                parts.into_iter().map(|p| self.b.ins().icmp(IntCC::NotEqual, p, zero)).collect()
            }
        }
    }

    /// An integer lane as `!= 0`, four columns a part.
    pub(super) fn mask32(&mut self, value: Val) -> Vec<Value> {
        if let Val::Mask32(parts) = value {
            return parts;
        }
        let masks = self.mask64(value);
        self.low_halves(&masks)
    }

    pub(super) fn select(&mut self, cond: LaneId, a: LaneId, b: LaneId) -> Result<Val, Declined> {
        let (cond, a, b) = (self.get(cond)?, self.get(a)?, self.get(b)?);
        let (masks, a, b, wrap): (_, _, _, fn(Vec<Value>) -> Val) = match (a, b) {
            (Val::F32(a), Val::F32(b)) => (self.mask32(cond), a, b, Val::F32),
            (Val::F64(a), Val::F64(b)) => (self.mask64(cond), a, b, Val::F64),
            (Val::Mask32(a), Val::Mask32(b)) => (self.mask32(cond), a, b, Val::Mask32),
            (Val::Mask64(a), Val::Mask64(b)) => (self.mask64(cond), a, b, Val::Mask64),
            (Val::F32(_) | Val::F64(_), _) | (_, Val::F32(_) | Val::F64(_)) => return Err(MALFORMED),
            (a, b) => {
                let (a, b) = (self.ints(a), self.ints(b));
                (self.mask64(cond), a, b, Val::Int)
            }
        };
        let parts = masks.into_iter().zip(a).zip(b);
        Ok(wrap(parts.map(|((m, a), b)| self.choose(m, a, b)).collect()))
    }

    /// One element after the other through `f`, from parts of any type to parts of type `to`.
    pub(super) fn by_element(
        &mut self,
        parts: &[Value],
        to: Type,
        mut f: impl FnMut(&mut Self, Value) -> Value,
    ) -> Vec<Value> {
        let mut elements = Vec::new();
        for &part in parts {
            for column in 0..columns(self.b.func.dfg.value_type(part)) {
                let element = self.b.ins().extractlane(part, column as u8);
                elements.push(f(self, element));
            }
        }
        let gather = |group: &[Value]| {
            let mut vector = self.b.ins().splat(to, group[0]);
            for (column, &element) in group.iter().enumerate().skip(1) {
                vector = self.b.ins().insertlane(vector, element, column as u8);
            }
            vector
        };
        elements.chunks(columns(to)).map(gather).collect()
    }

    /// `value as to`, by Rust's rules.
    pub(super) fn convert(&mut self, value: Val, from: Lane, to: Lane) -> Result<Val, Declined> {
        let unsigned = from == Lane::U64;
        Ok(match (value, to) {
            (Val::F32(p), Lane::F32) => Val::F32(p),
            (Val::F64(p), Lane::F64) => Val::F64(p),
            (Val::F32(p), Lane::F64) => Val::F64(self.promote(&p)),
            (Val::F64(p), Lane::F32) => Val::F32(self.demote(&p)),
            (Val::F32(p) | Val::F64(p), Lane::I64) => {
                Val::Int(self.by_element(&p, I64X2, |e, x| e.b.ins().fcvt_to_sint_sat(I64, x)))
            }
            (Val::F32(p) | Val::F64(p), Lane::U64) => {
                Val::Int(self.by_element(&p, I64X2, |e, x| e.b.ins().fcvt_to_uint_sat(I64, x)))
            }
            (ints, Lane::I64 | Lane::U64) => ints,
            (Val::Mask32(p), Lane::F32) => {
                let one = self.f32s(1.0);
                Val::F32(p.into_iter().map(|m| self.and(one, m)).collect())
            }
            (ints, Lane::F32) => {
                let parts = self.ints(ints);
                Val::F32(self.by_element(&parts, F32X4, |e, x| match unsigned {
                    true => e.b.ins().fcvt_from_uint(F32, x),
                    false => e.b.ins().fcvt_from_sint(F32, x),
                }))
            }
            (ints, Lane::F64) => {
                let parts = self.ints(ints);
                Val::F64(self.by_element(&parts, F64X2, |e, x| match unsigned {
                    true => e.b.ins().fcvt_from_uint(F64, x),
                    false => e.b.ins().fcvt_from_sint(F64, x),
                }))
            }
        })
    }

    /// f32 to f64.
    pub(super) fn promote(&mut self, parts: &[Value]) -> Vec<Value> {
        let mut wide = Vec::with_capacity(2 * parts.len());
        for &part in parts {
            let high = self.words(F32X4, part, part, [2, 3, 2, 3]);
            wide.extend([self.b.ins().fvpromote_low(part), self.b.ins().fvpromote_low(high)]);
        }
        wide
    }

    /// f64 to f32.
    fn demote(&mut self, parts: &[Value]) -> Vec<Value> {
        let mut narrow = Vec::with_capacity(parts.len() / 2);
        for &[low, high] in parts.as_chunks::<2>().0 {
            let (low, high) = (self.b.ins().fvdemote(low), self.b.ins().fvdemote(high));
            narrow.push(self.words(F32X4, low, high, [0, 1, 4, 5]));
        }
        narrow
    }

    /// What `elem` can hold of `value`.
    pub(super) fn round(&mut self, value: Val, elem: ElemType) -> Result<Val, Declined> {
        use ElemType::*;
        let (bits, signed) = match elem {
            F32 | F64 | I64 | U64 => return Ok(value),
            Bool => return Ok(Val::Mask64(self.mask64(value))),
            I32 => (32, true),
            I16 => (16, true),
            I8 => (8, true),
            I4 => (4, true),
            I2 => (2, true),
            U32 => (32, false),
            U16 => (16, false),
            U8 => (8, false),
            U4 => (4, false),
            U2 => (2, false),
            _ => return Err(Declined("rounding to a narrow float")),
        };
        let parts = self.ints(value);
        if !signed {
            let mask = self.all64(I64X2, (1 << bits) - 1);
            return Ok(Val::Int(parts.into_iter().map(|p| self.b.ins().band(p, mask)).collect()));
        }
        let mut halves = self.low_halves(&parts);
        if bits < 32 {
            let places = self.b.ins().iconst(types::I32, 32 - bits);
            for half in &mut halves {
                let shifted = self.b.ins().ishl(*half, places);
                *half = self.b.ins().sshr(shifted, places);
            }
        }
        debug_assert!(halves.iter().all(|&h| self.b.func.dfg.value_type(h) == I32X4));
        Ok(Val::Int(self.widen32(&halves, true)))
    }
}
