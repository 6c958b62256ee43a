//! A body as operations on vectors of eight f32, in order, each computed once.

use super::asm::{
    ADD, AND, COMPARE, DIV, INT_ADD, INT_SUB, INT_TO_FLOAT, MAX, MIN, MUL, OR, Opcode, SQRT, SUB, XOR,
};
use std::collections::HashMap;

/// An operation's result.
pub(super) type Id = usize;

/// How two vectors are compared; false for NaN except for `NotEqual` and `Unordered`. The numbers are the instruction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    Equal = 0,
    Unordered = 3,
    NotEqual = 4,
    Less = 0x11,
    LessOrEqual = 0x12,
    GreaterOrEqual = 0x1D,
    Greater = 0x1E,
}

/// How to round to integers; the numbers are the instruction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rounding {
    HalfEven = 8,
    Down = 9,
    Up = 10,
    TowardsZero = 11,
}

/// An operation on vectors of eight elements of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// The same bits in every element.
    Const(u32),
    /// Neighbours of an operand that moves with the columns: those of the vector of this number.
    Load(usize, u8),
    /// An operand that stays, from its copy on the stack.
    Fixed(usize),
    /// An instruction of two operands.
    Two(Opcode, Id, Id),
    /// An instruction of one operand.
    One(Opcode, Id),
    Round(Rounding, Id),
    Compare(Order, Id, Id),
    /// `a * b + c`, rounded once.
    Fma(Id, Id, Id),
    /// `mask ? a : b` by the highest bit of each element.
    Blend(Id, Id, Id),
    ShiftLeft(Id, u8),
    /// Keeps the sign.
    ShiftRight(Id, u8),
    Store(usize, u8, Id),
}

impl Op {
    /// What it reads.
    pub(super) fn operands(self) -> [Option<Id>; 3] {
        match self {
            Self::Const(_) | Self::Load(..) | Self::Fixed(_) => [None; 3],
            Self::One(_, a)
            | Self::Round(_, a)
            | Self::ShiftLeft(a, _)
            | Self::ShiftRight(a, _)
            | Self::Store(_, _, a) => [Some(a), None, None],
            Self::Two(_, a, b) | Self::Compare(_, a, b) => [Some(a), Some(b), None],
            Self::Fma(a, b, c) | Self::Blend(a, b, c) => [Some(a), Some(b), Some(c)],
        }
    }

    /// The same for the vector `vector`, whose results are `to`.
    fn on(self, vector: u8, to: impl Fn(Id) -> Id) -> Self {
        match self {
            Self::Const(_) | Self::Fixed(_) => self,
            Self::Load(operand, _) => Self::Load(operand, vector),
            Self::Two(opcode, a, b) => Self::Two(opcode, to(a), to(b)),
            Self::One(opcode, a) => Self::One(opcode, to(a)),
            Self::Round(rounding, a) => Self::Round(rounding, to(a)),
            Self::Compare(order, a, b) => Self::Compare(order, to(a), to(b)),
            Self::Fma(a, b, c) => Self::Fma(to(a), to(b), to(c)),
            Self::Blend(a, b, c) => Self::Blend(to(a), to(b), to(c)),
            Self::ShiftLeft(a, places) => Self::ShiftLeft(to(a), places),
            Self::ShiftRight(a, places) => Self::ShiftRight(to(a), places),
            Self::Store(operand, _, a) => Self::Store(operand, vector, to(a)),
        }
    }
}

/// The operations of a body.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) ops: Vec<Op>,
    known: HashMap<Op, Id>,
}

impl Graph {
    pub(super) fn push(&mut self, op: Op) -> Id {
        if let Some(&id) = self.known.get(&op) {
            return id;
        }
        self.ops.push(op);
        let id = self.ops.len() - 1;
        if !matches!(op, Op::Store(..)) {
            self.known.insert(op, id);
        }
        id
    }

    /// The operations for `vectors` neighbouring vectors, in turn. A processor looks only so far ahead for an operation that
    /// need not wait for the one before it; here the next one is always of another vector.
    pub(super) fn side_by_side(&self, vectors: u8) -> Self {
        let mut all = Self::default();
        let mut ids: Vec<Vec<Id>> = vec![Vec::with_capacity(self.ops.len()); usize::from(vectors)];
        for op in &self.ops {
            for (vector, ids) in (0..vectors).zip(&mut ids) {
                let id = all.push(op.on(vector, |id| ids[id]));
                ids.push(id);
            }
        }
        all
    }

    pub(super) fn bits(&mut self, bits: u32) -> Id {
        self.push(Op::Const(bits))
    }

    pub(super) fn float(&mut self, x: f32) -> Id {
        self.bits(x.to_bits())
    }

    pub(super) fn add(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(ADD, a, b))
    }

    pub(super) fn sub(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(SUB, a, b))
    }

    pub(super) fn mul(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(MUL, a, b))
    }

    pub(super) fn div(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(DIV, a, b))
    }

    pub(super) fn sqrt(&mut self, a: Id) -> Id {
        self.push(Op::One(SQRT, a))
    }

    pub(super) fn fma(&mut self, a: Id, b: Id, c: Id) -> Id {
        self.push(Op::Fma(a, b, c))
    }

    /// `a > b ? a : b`
    pub(super) fn above(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(MAX, a, b))
    }

    /// `a < b ? a : b`
    pub(super) fn below(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(MIN, a, b))
    }

    pub(super) fn and(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(AND, a, b))
    }

    pub(super) fn or(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(OR, a, b))
    }

    pub(super) fn xor(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(XOR, a, b))
    }

    pub(super) fn int_add(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(INT_ADD, a, b))
    }

    pub(super) fn int_sub(&mut self, a: Id, b: Id) -> Id {
        self.push(Op::Two(INT_SUB, a, b))
    }

    pub(super) fn int_to_float(&mut self, a: Id) -> Id {
        self.push(Op::One(INT_TO_FLOAT, a))
    }

    pub(super) fn compare(&mut self, order: Order, a: Id, b: Id) -> Id {
        self.push(Op::Compare(order, a, b))
    }

    /// `mask ? a : b`
    pub(super) fn blend(&mut self, mask: Id, a: Id, b: Id) -> Id {
        self.push(Op::Blend(mask, a, b))
    }

    pub(super) fn shift_left(&mut self, a: Id, places: u8) -> Id {
        self.push(Op::ShiftLeft(a, places))
    }

    pub(super) fn shift_right(&mut self, a: Id, places: u8) -> Id {
        self.push(Op::ShiftRight(a, places))
    }

    pub(super) fn abs(&mut self, a: Id) -> Id {
        let mask = self.bits(0x7FFF_FFFF);
        self.and(a, mask)
    }

    /// `magnitude`, which has no sign, with the sign of `x`.
    pub(super) fn with_sign(&mut self, magnitude: Id, x: Id) -> Id {
        let mask = self.bits(0x8000_0000);
        let sign = self.and(x, mask);
        self.or(magnitude, sign)
    }

    pub(super) fn not(&mut self, mask: Id) -> Id {
        let all = self.bits(u32::MAX);
        self.xor(mask, all)
    }
}

/// Whether the operands may be exchanged without changing any result bit but those of NaN.
pub(super) fn commutes(opcode: Opcode) -> bool {
    [ADD, MUL, AND, OR, XOR, INT_ADD].contains(&opcode)
}

/// The instruction that compares.
pub(super) const COMPARISON: Opcode = COMPARE;
