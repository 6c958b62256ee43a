//! The manifest: what an engine is, for people and tools. Nothing in it steers execution.
//!
//! It holds no time stamps, paths or thread counts, and its maps are sorted, so equal models and flags give equal
//! bytes.

use std::collections::BTreeMap;

/// Contents of the manifest section.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Manifest {
    /// Version of the compiler that wrote the engine.
    #[prost(string, tag = "1")]
    pub producer_version: String,
    /// Name of the graph in the source model.
    #[prost(string, tag = "2")]
    pub model_name: String,
    /// BLAKE3 of the source model's bytes, or empty.
    #[prost(bytes = "vec", tag = "3")]
    pub model_hash: Vec<u8>,
    /// Operator set version by domain (`""` is ai.onnx).
    #[prost(btree_map = "string, int64", tag = "4")]
    pub opsets: BTreeMap<String, i64>,
    /// Inputs in order.
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<TensorSignature>,
    /// Outputs in order.
    #[prost(message, repeated, tag = "6")]
    pub outputs: Vec<TensorSignature>,
    /// What the symbols in dimension names may be.
    #[prost(btree_map = "string, message", tag = "7")]
    pub symbols: BTreeMap<String, SymbolBound>,
    /// Compiler options and flags in effect.
    #[prost(btree_map = "string, string", tag = "8")]
    pub options: BTreeMap<String, String>,
    /// How often each operator of the source model occurs.
    #[prost(btree_map = "string, uint64", tag = "9")]
    pub op_histogram: BTreeMap<String, u64>,
    /// For each step of the program the operators of the compiler's IR that it computes, in order, separated by spaces.
    #[prost(string, repeated, tag = "10")]
    pub step_ops: Vec<String>,
}

impl Manifest {
    /// Decodes a manifest section.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        prost::Message::decode(bytes)
    }

    /// Encodes a manifest section.
    pub fn to_bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(self)
    }
}

/// Name, element type and dimensions of an input or output.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TensorSignature {
    /// The ONNX name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// [`crate::elem::ElemType`] as a number.
    #[prost(uint32, tag = "2")]
    pub elem: u32,
    /// Dimensions as the user reads them (`batch`, `3`, `2*seq+1`).
    #[prost(string, repeated, tag = "3")]
    pub dims: Vec<String>,
}

/// Inclusive bounds of a symbol.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SymbolBound {
    /// Smallest value.
    #[prost(int64, tag = "1")]
    pub min: i64,
    /// Largest value, if bounded.
    #[prost(int64, optional, tag = "2")]
    pub max: Option<i64>,
}
