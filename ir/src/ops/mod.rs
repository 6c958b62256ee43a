//! The table of operators, one family a file.

mod common;
pub mod contraction;
pub mod elementwise;
pub mod fused;
pub mod gather;
pub mod movement;
pub mod norm;
pub mod recurrent;
pub mod reduce;
mod scalar;
pub mod source;
mod spatial;
mod view;
pub mod window;

use crate::op::OpDef;

/// Every operator. A new one is a `static` in its family's file and a row here.
pub static OPS: &[&OpDef] = &[
    &elementwise::ABS,
    &elementwise::NEG,
    &elementwise::SIGN,
    &elementwise::CEIL,
    &elementwise::FLOOR,
    &elementwise::ROUND,
    &elementwise::SQRT,
    &elementwise::RECIPROCAL,
    &elementwise::EXP,
    &elementwise::LOG,
    &elementwise::ERF,
    &elementwise::SIN,
    &elementwise::COS,
    &elementwise::TAN,
    &elementwise::ASIN,
    &elementwise::ACOS,
    &elementwise::ATAN,
    &elementwise::SINH,
    &elementwise::COSH,
    &elementwise::TANH,
    &elementwise::ASINH,
    &elementwise::ACOSH,
    &elementwise::ATANH,
    &elementwise::SIGMOID,
    &elementwise::BIT_NOT,
    &elementwise::NOT,
    &elementwise::IS_NAN,
    &elementwise::IS_INF,
    &elementwise::CAST,
    &elementwise::ADD,
    &elementwise::SUB,
    &elementwise::MUL,
    &elementwise::DIV,
    &elementwise::MOD,
    &elementwise::POW,
    &elementwise::MAX,
    &elementwise::MIN,
    &elementwise::AND,
    &elementwise::OR,
    &elementwise::XOR,
    &elementwise::BIT_AND,
    &elementwise::BIT_OR,
    &elementwise::BIT_XOR,
    &elementwise::SHL,
    &elementwise::SHR,
    &elementwise::EQ,
    &elementwise::LT,
    &elementwise::LE,
    &elementwise::GT,
    &elementwise::GE,
    &elementwise::SELECT,
    &reduce::REDUCE_SUM,
    &reduce::REDUCE_PROD,
    &reduce::REDUCE_MAX,
    &reduce::REDUCE_MIN,
    &reduce::ARG_MAX,
    &reduce::ARG_MIN,
    &reduce::CUM_SUM,
    &contraction::MATMUL,
    &contraction::GATHER_MATMUL,
    &contraction::CONV,
    &window::MAX_POOL,
    &window::AVG_POOL,
    &norm::SOFTMAX,
    &norm::LAYER_NORM,
    &fused::GELU,
    &fused::SILU,
    &fused::HARD_SWISH,
    &fused::LINEAR,
    &fused::ATTENTION,
    &fused::ROPE,
    &recurrent::RECURRENT,
    &movement::RESHAPE,
    &movement::TRANSPOSE,
    &movement::EXPAND,
    &movement::SLICE,
    &movement::CONCAT,
    &movement::PAD,
    &gather::GATHER,
    &gather::GATHER_ELEMENTS,
    &gather::GATHER_ND,
    &gather::SCATTER_ELEMENTS,
    &gather::SCATTER_ND,
    &movement::TOP_K,
    &source::DIMS,
    &source::IOTA,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = OPS.iter().map(|o| o.name).collect();
        assert_eq!(names.len(), OPS.len());
    }
}
