//! autoglm's intermediate representation.
//!
//! Types ([`DType`], [`Dim`], [`TensorType`]), the table of operators ([`ops::OPS`]), the [`Graph`] and its reference
//! semantics. This crate does no I/O and depends on no other crate of the workspace.
#![forbid(unsafe_code)]

pub mod attrs;
pub mod budget;
pub mod dim;
pub mod dtype;
pub mod egraph;
pub mod encode;
pub mod filetest;
pub mod graph;
pub mod interp;
pub mod op;
pub mod ops;
pub mod sparsity;
pub mod tensor;
pub mod text;
pub mod verify;

pub use attrs::{Attr, Attrs};
pub use dim::Dim;
pub use dtype::DType;
pub use graph::{
    Cond, Const, ConstData, ConstId, Def, Graph, Guard, Node, NodeId, Symbol, SymbolSource, Value, ValueId,
};
pub use op::{OpDef, OpId, TensorType};
pub use tensor::Tensor;
