//! TileIR: the loop DAG for everything that is not a big kernel.
//!
//! A [`TileProgram`] says what happens at one point of a loop nest; the step that refers to it gives the extents and
//! the affine accesses. Values inside are lanes: f32, f64, i64, u64. Integers narrower than 64 bits are computed in
//! i64 (u64 for unsigned) and wrapped when stored or by `Round`, which gives two's complement results for every width;
//! f16, bf16 and float8 are computed in f32 and rounded when stored or by `Round`. Bools are i64 0 or 1.

use crate::elem::ElemType;
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduce {
    /// How to fold.
    pub op: ReduceOp,
    /// Body lane.
    pub src: LaneId,
}

/// Folds; an empty fold gives the identity. `ArgMax`/`ArgMin` give the i64 position within the reduced dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Stores a lane to output `out`, narrowing as `Round` with `saturate` does. Defines no useful lane.
    Store {
        /// Index into the step's `writes`.
        out: u16,
        /// Source lane.
        src: LaneId,
    },
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
    /// NaN wins.
    Max,
    /// NaN wins.
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
