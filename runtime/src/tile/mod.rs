//! TileIR: the loop DAG for everything that is not a big kernel.
//!
//! A [`TileProgram`] says what happens at one point of a loop nest; the step that refers to it gives the extents and
//! the affine accesses. Values inside are lanes: f32, f64, i64, u64. Integers narrower than 64 bits are computed in
//! i64 (u64 for unsigned) and wrapped when stored or by `Round`, which gives two's complement results for every width;
//! f16, bf16 and float8 are computed in f32 and rounded when stored or by `Round`. Bools are i64 0 or 1.

pub mod exec;
pub(crate) mod math;
mod narrow;
pub mod native;
pub mod scalar;
mod shared;
mod validate;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use exec::{ConcreteAccess, TileIsa, TilePlan, TileScratch};
pub use shared::SharedBytes;
pub use validate::{TileTypes, check};

use crate::elem::ElemType;
use serde::{Deserialize, Serialize};

/// Most loop dimensions a step may have.
pub const MAX_RANK: usize = 16;
/// Most instructions a body or an epilogue may have, and most reductions and arguments.
pub const MAX_INSTRS: usize = 512;

/// Why a tile program or a use of one is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// An instruction is malformed.
    #[error("{section} instruction {at}: {what}")]
    Instr {
        /// `body`, `reduces` or `epilogue`.
        section: &'static str,
        /// Its position there.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The program as a whole is malformed, or does not fit the extents or accesses given.
    #[error("{0}")]
    Program(&'static str),
    /// An access leaves its value, or could write one element twice.
    #[error("{kind} {index}: {what}")]
    Access {
        /// `read` or `write`.
        kind: &'static str,
        /// Position in the step's `reads` or `writes`.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Index of an instruction's result inside a program.
pub type LaneId = u16;

/// The type of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Lane {
    F32,
    F64,
    I64,
    U64,
}

impl Lane {
    /// The lane that elements of type `elem` are computed in.
    pub const fn of(elem: ElemType) -> Self {
        use ElemType::*;
        match elem {
            F64 => Self::F64,
            I64 | I32 | I16 | I8 | I4 | I2 | Bool => Self::I64,
            U64 | U32 | U16 | U8 | U4 | U2 => Self::U64,
            F32 | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1 => Self::F32,
        }
    }

    /// Whether it holds floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// Body, reductions and epilogue of a loop nest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TileProgram {
    /// Runs at every point; instruction `i` defines lane `i`.
    pub body: Vec<Instr>,
    /// How many of the last loop dimensions are reduced (0: a pure map; the stores are in `body`).
    pub reduce_rank: u8,
    /// Folds over the reduced dimensions; the result of reduction `j` is lane `j` of the epilogue.
    pub reduces: Vec<Reduce>,
    /// Runs once a reduced group; instruction `i` defines lane `reduces.len() + i`.
    pub epilogue: Vec<Instr>,
}

/// A fold of a body lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reduce {
    /// How to fold.
    pub op: ReduceOp,
    /// Body lane.
    pub src: LaneId,
}

/// Folds; an empty fold gives the identity. `ArgMax`/`ArgMin` give the i64 row-major position within the reduced
/// dimensions (NaN wins; 0 when empty). `Sum` and `Prod` of f32 are accumulated in f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum ReduceOp {
    Sum,
    Prod,
    /// NaN wins.
    Max,
    /// NaN wins.
    Min,
    ArgMaxFirst,
    ArgMaxLast,
    ArgMinFirst,
    ArgMinLast,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Instr {
    /// Element of argument `arg`, widened to the lane of its element type (f32 for float types up to 32 bits, f64, i64 for
    /// signed ints and bool, u64 for unsigned ints).
    Load {
        /// Index into the step's `reads`.
        arg: u16,
    },
    /// A constant; `bits` are those of the lane type (f32 in the low half).
    Const {
        /// Lane type.
        lane: Lane,
        /// Bit pattern.
        bits: u64,
    },
    /// Index of loop dimension `dim`, i64.
    Index {
        /// Loop dimension.
        dim: u8,
    },
    /// One operand, same lane type out (i64 0/1 for `Not`, `IsNan`, `IsInf*`).
    Unary(UnaryOp, LaneId),
    /// Two operands of one lane type (comparisons give i64 0/1).
    Binary(BinaryOp, LaneId, LaneId),
    /// `cond != 0 ? a : b`; cond is i64.
    Select {
        /// Condition.
        cond: LaneId,
        /// Taken when not 0.
        a: LaneId,
        /// Taken when 0.
        b: LaneId,
    },
    /// Converts to another lane type with Rust's `as` rules (saturating float to int, NaN to 0).
    Convert {
        /// Target.
        to: Lane,
        /// Source lane.
        src: LaneId,
    },
    /// Rounds or wraps to what `elem` can hold, staying in the lane. Narrow ints wrap; `Bool` gives `!= 0`.
    Round {
        /// Element type; its lane is the lane of `src`.
        elem: ElemType,
        /// ONNX `saturate` for float8 types; without it overflow gives NaN or infinity as ONNX's tables say.
        saturate: bool,
        /// Source lane.
        src: LaneId,
    },
    /// Stores a lane to output `out`, narrowing as `Round` without `saturate` does. Defines no useful lane.
    Store {
        /// Index into the step's `writes`.
        out: u16,
        /// Source lane.
        src: LaneId,
    },
}

impl UnaryOp {
    /// Whether the operation has a meaning on `lane`.
    pub const fn accepts(self, lane: Lane) -> bool {
        match self {
            Self::Abs | Self::Neg | Self::Sign => true,
            Self::Not | Self::BitNot => !lane.is_float(),
            _ => lane.is_float(),
        }
    }

    /// The lane of the result.
    pub const fn result(self, lane: Lane) -> Lane {
        match self {
            Self::Not | Self::IsNan | Self::IsPosInf | Self::IsNegInf => Lane::I64,
            _ => lane,
        }
    }
}

impl BinaryOp {
    /// Whether the operation has a meaning on `lane`.
    pub const fn accepts(self, lane: Lane) -> bool {
        match self {
            Self::And | Self::Or | Self::Xor | Self::Shl | Self::Shr => !lane.is_float(),
            _ => true,
        }
    }

    /// The lane of the result.
    pub const fn result(self, lane: Lane) -> Lane {
        match self {
            Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => Lane::I64,
            _ => lane,
        }
    }
}

impl ReduceOp {
    /// Whether the result is a position rather than a value.
    pub const fn is_arg(self) -> bool {
        matches!(self, Self::ArgMaxFirst | Self::ArgMaxLast | Self::ArgMinFirst | Self::ArgMinLast)
    }

    /// The lane of the result.
    pub const fn result(self, lane: Lane) -> Lane {
        if self.is_arg() { Lane::I64 } else { lane }
    }
}

/// One-operand operations; on integers only those that have a meaning there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum UnaryOp {
    Abs,
    Neg,
    Sign,
    Ceil,
    Floor,
    Trunc,
    /// Half to even.
    Round,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
    Erf,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Sigmoid,
    /// Boolean not.
    Not,
    BitNot,
    IsNan,
    IsPosInf,
    IsNegInf,
}

/// Two-operand operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// Floats: IEEE; ints: truncating, 0 for a divisor of 0, wrapping for MIN / -1.
    Div,
    /// Sign of the divisor; ints: 0 for a divisor of 0.
    FloorMod,
    /// Sign of the dividend; ints: 0 for a divisor of 0.
    TruncMod,
    /// Ints: wrapping, exponent < 0 gives 1 for base 1, +-1 for base -1, else 0.
    Pow,
    /// NaN wins; +0 is above -0.
    Max,
    /// NaN wins; +0 is above -0.
    Min,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Xor,
    /// Amounts outside 0..64 give 0 (an arithmetic right shift of i64 gives the sign).
    Shl,
    Shr,
}
