//! Loads and stores.

use super::emit::{Emitter, MALFORMED, Mode};
use super::vector::{Val, columns, unchecked};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::tile::LaneId;
use autoglm_runtime::tile::native::{Declined, Operand, Step};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32X4, F64X2, I8X16, I16X8, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

const FORMAT: Declined = Declined("an element type that needs tables or rounding");

/// The vector that elements are brought to first: integers below 64 bits as i32.
fn raw_type(elem: ElemType) -> Result<Type, Declined> {
    use ElemType::*;
    match elem {
        F32 => Ok(F32X4),
        F64 => Ok(F64X2),
        I64 | U64 => Ok(I64X2),
        I32 | I16 | I8 | U32 | U16 | U8 | Bool => Ok(I32X4),
        _ => Err(FORMAT),
    }
}

/// Whether widening repeats the sign.
fn is_signed(elem: ElemType) -> bool {
    matches!(elem, ElemType::I32 | ElemType::I16 | ElemType::I8)
}

impl Emitter<'_> {
    /// What read `i` is.
    pub(super) fn read(&self, i: usize) -> Result<Operand, Declined> {
        self.spec.reads.get(i).copied().filter(|o| o.step != Step::Unused).ok_or(MALFORMED)
    }

    /// Address of the element at `self.col + column`, kept from passing the last one if the mode says so.
    fn address(&mut self, operand: Operand, base: usize, column: usize) -> Value {
        let mut at = self.b.ins().iadd_imm_s(self.col, column as i64);
        if self.mode == Mode::Clamped {
            let last = self.b.ins().iadd_imm_s(self.cols, -1);
            let within = self.b.ins().icmp(IntCC::SignedLessThan, at, last);
            at = self.b.ins().select(within, at, last);
        }
        let offset = if operand.step == Step::Dense {
            let places = operand.elem.size().trailing_zeros();
            self.b.ins().ishl_imm_u(at, i64::from(places))
        } else {
            self.b.ins().imul(at, self.steps[base])
        };
        self.b.ins().iadd(self.bases[base], offset)
    }

    /// Element at `address` as an element of [`raw_type`].
    fn scalar(&mut self, elem: ElemType, address: Value) -> Value {
        use ElemType::*;
        let flags = unchecked();
        let ins = self.b.ins();
        match elem {
            F32 => ins.load(types::F32, flags, address, 0),
            F64 => ins.load(types::F64, flags, address, 0),
            I64 | U64 => ins.load(types::I64, flags, address, 0),
            I16 => ins.sload16(types::I32, flags, address, 0),
            U16 => ins.uload16(types::I32, flags, address, 0),
            I8 => ins.sload8(types::I32, flags, address, 0),
            U8 | Bool => ins.uload8(types::I32, flags, address, 0),
            _ => ins.load(types::I32, flags, address, 0),
        }
    }

    /// Read `arg` at the columns of the iteration.
    pub(super) fn load(&mut self, arg: usize) -> Result<Val, Declined> {
        let operand = self.read(arg)?;
        let raw = raw_type(operand.elem)?;
        let parts = 4 * self.vectors / columns(raw);
        let mut loaded = Vec::with_capacity(parts);
        if operand.step == Step::Broadcast {
            let element = self.scalar(operand.elem, self.bases[arg]);
            loaded = vec![self.b.ins().splat(raw, element); parts];
        } else if operand.step == Step::Dense && self.mode == Mode::Full {
            let address = self.address(operand, arg, 0);
            for part in 0..parts {
                let offset = part * columns(raw) * operand.elem.size();
                loaded.push(self.load_dense(operand.elem, raw, address, offset as i32));
            }
        } else {
            for part in 0..parts {
                let address = self.address(operand, arg, part * columns(raw));
                let first = self.scalar(operand.elem, address);
                let mut vector = self.b.ins().splat(raw, first);
                for column in 1..columns(raw) {
                    let address = self.address(operand, arg, part * columns(raw) + column);
                    let element = self.scalar(operand.elem, address);
                    vector = self.b.ins().insertlane(vector, element, column as u8);
                }
                loaded.push(vector);
            }
        }
        Ok(self.widen(operand.elem, loaded))
    }

    /// A vector of neighbours.
    fn load_dense(&mut self, elem: ElemType, raw: Type, address: Value, offset: i32) -> Value {
        let flags = unchecked();
        if elem.size() * columns(raw) == 16 {
            return self.b.ins().load(raw, flags, address, offset);
        }
        let signed = is_signed(elem);
        let mut narrow = if elem.size() == 1 {
            let bytes = self.b.ins().load(I32, flags, address, offset);
            let bytes = self.b.ins().scalar_to_vector(I32X4, bytes);
            let bytes = self.cast(I8X16, bytes);
            if signed { self.b.ins().swiden_low(bytes) } else { self.b.ins().uwiden_low(bytes) }
        } else {
            let halves = self.b.ins().load(I64, flags, address, offset);
            let halves = self.b.ins().scalar_to_vector(I64X2, halves);
            self.cast(I16X8, halves)
        };
        narrow = if signed { self.b.ins().swiden_low(narrow) } else { self.b.ins().uwiden_low(narrow) };
        narrow
    }

    /// Raw elements as lanes.
    fn widen(&mut self, elem: ElemType, parts: Vec<Value>) -> Val {
        match elem {
            ElemType::F32 => Val::F32(parts),
            ElemType::F64 => Val::F64(parts),
            ElemType::I64 | ElemType::U64 => Val::Int(parts),
            ElemType::Bool => {
                let zero = self.all32(I32X4, 0);
                Val::Mask32(parts.iter().map(|&p| self.b.ins().icmp(IntCC::NotEqual, p, zero)).collect())
            }
            _ => Val::Int(self.widen32(&parts, is_signed(elem))),
        }
    }

    /// Vectors of i32 as twice as many of i64.
    pub(super) fn widen32(&mut self, parts: &[Value], signed: bool) -> Vec<Value> {
        let mut wide = Vec::with_capacity(2 * parts.len());
        for &part in parts {
            if signed {
                wide.extend([self.b.ins().swiden_low(part), self.b.ins().swiden_high(part)]);
            } else {
                wide.extend([self.b.ins().uwiden_low(part), self.b.ins().uwiden_high(part)]);
            }
        }
        wide
    }

    /// The low halves of vectors of i64, as half as many of i32.
    pub(super) fn low_halves(&mut self, parts: &[Value]) -> Vec<Value> {
        parts.as_chunks::<2>().0.iter().map(|&[a, b]| self.words(I32X4, a, b, [0, 2, 4, 6])).collect()
    }

    /// Stores lane `src` to write `out` at the columns of the iteration.
    pub(super) fn store(&mut self, out: usize, src: LaneId) -> Result<(), Declined> {
        let skip = self.spec.reads.len();
        let moves = |o: &Operand| matches!(o.step, Step::Dense | Step::Strided);
        let operand = self.spec.writes.get(out).copied().filter(moves).ok_or(MALFORMED)?;
        let raw = raw_type(operand.elem)?;
        let value = self.get(src)?;
        let parts = self.narrow(operand.elem, value)?;
        if operand.step == Step::Dense && self.mode == Mode::Full {
            let address = self.address(operand, skip + out, 0);
            for (part, value) in parts.into_iter().enumerate() {
                let offset = part * columns(raw) * operand.elem.size();
                self.store_dense(operand.elem, value, address, offset as i32);
            }
            return Ok(());
        }
        // The last columns first: of those that were kept from passing the last one, the true last one is written last.
        for column in (0..4 * self.vectors).rev() {
            let address = self.address(operand, skip + out, column);
            let part = *parts.get(column / columns(raw)).ok_or(MALFORMED)?;
            let element = self.b.ins().extractlane(part, (column % columns(raw)) as u8);
            match operand.elem.size() {
                1 => self.b.ins().istore8(unchecked(), element, address, 0),
                2 => self.b.ins().istore16(unchecked(), element, address, 0),
                _ => self.b.ins().store(unchecked(), element, address, 0),
            };
        }
        Ok(())
    }

    /// Lanes as raw elements, of which the low bits count.
    fn narrow(&mut self, elem: ElemType, value: Val) -> Result<Vec<Value>, Declined> {
        match elem {
            ElemType::F32 | ElemType::F64 => match value {
                Val::F32(parts) | Val::F64(parts) => Ok(parts),
                _ => Err(MALFORMED),
            },
            ElemType::I64 | ElemType::U64 => Ok(self.ints(value)),
            ElemType::Bool => {
                let masks = self.mask32(value);
                let one = self.all32(I32X4, 1);
                Ok(masks.into_iter().map(|m| self.b.ins().band(m, one)).collect())
            }
            _ => {
                let wide = self.ints(value);
                Ok(self.low_halves(&wide))
            }
        }
    }

    fn store_dense(&mut self, elem: ElemType, value: Value, address: Value, offset: i32) {
        let flags = unchecked();
        match elem.size() {
            1 => {
                let order = std::array::from_fn(|i| 4 * (i as u8 % 4));
                let bytes = self.bytes(I32X4, value, value, order);
                let bytes = self.b.ins().extractlane(bytes, 0u8);
                self.b.ins().store(flags, bytes, address, offset);
            }
            2 => {
                let order = std::array::from_fn(|i| 4 * (i as u8 / 2 % 4) + i as u8 % 2);
                let halves = self.bytes(I64X2, value, value, order);
                let halves = self.b.ins().extractlane(halves, 0u8);
                self.b.ins().store(flags, halves, address, offset);
            }
            _ => {
                self.b.ins().store(flags, value, address, offset);
            }
        }
    }
}
