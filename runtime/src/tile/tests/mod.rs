//! Tests of the tile layer.

mod emit;
mod folds;
mod in_place;
mod layout;
mod math;
mod narrow;
mod ops;
mod random;
mod validate;

use super::testing::{Case, ELEMS, Rng};
use super::{ConcreteAccess, SharedBytes, TileIsa, TileScratch, exec};
use crate::elem::ElemType;

/// Instruction sets of this machine.
fn isas() -> Vec<TileIsa> {
    [TileIsa::Scalar, TileIsa::Avx2, TileIsa::Avx512].into_iter().filter(|i| i.is_supported()).collect()
}

/// A dense access over `dims`.
fn dense(elem: ElemType, dims: &[i64]) -> ConcreteAccess {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    ConcreteAccess { elem, offset: 0, strides }
}

fn access(elem: ElemType, offset: i64, strides: &[i64]) -> ConcreteAccess {
    ConcreteAccess { elem, offset, strides: strides.to_vec() }
}

macro_rules! bytes_of {
    ($values:expr) => {
        $values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>()
    };
}
use bytes_of;

fn to_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}

fn to_f64(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_ne_bytes(*b)).collect()
}

fn to_i64(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|b| i64::from_ne_bytes(*b)).collect()
}
