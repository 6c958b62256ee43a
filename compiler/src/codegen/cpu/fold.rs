//! Folds over all columns and rows.

use super::emit::{Emitter, MALFORMED, Mode};
use super::vector::{Val, columns, unchecked};
use autoglm_runtime::tile::native::{Declined, frame};
use autoglm_runtime::tile::{Lane, Reduce, ReduceOp};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, F64X2, I32X4, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value};

/// For each fold the vectors of partial results.
#[derive(Clone, Debug, Default)]
pub(super) struct Accumulators(pub(super) Vec<Vec<Value>>);

/// The vector that a fold accumulates in.
fn accumulator(op: ReduceOp, lane: Lane) -> Type {
    match lane {
        Lane::F32 if matches!(op, ReduceOp::Sum | ReduceOp::Prod) => F64X2,
        Lane::F32 => F32X4,
        Lane::F64 => F64X2,
        Lane::I64 | Lane::U64 => I64X2,
    }
}

impl Emitter<'_> {
    /// What every fold begins with.
    pub(super) fn identities(&mut self) -> Result<Accumulators, Declined> {
        let mut all = Vec::new();
        for fold in &self.spec.folds {
            let lane = self.lane(fold.src)?;
            let identity = self.identity(*fold, lane)?;
            let ty = accumulator(fold.op, lane);
            all.push(vec![identity; 4 * self.vectors / columns(ty)]);
        }
        Ok(Accumulators(all))
    }

    fn identity(&mut self, fold: Reduce, lane: Lane) -> Result<Value, Declined> {
        use ReduceOp::{Max, Min, Prod, Sum};
        let ty = accumulator(fold.op, lane);
        Ok(match (fold.op, lane) {
            (Sum, Lane::F32 | Lane::F64) => self.floats(ty, 0.0),
            (Prod, Lane::F32 | Lane::F64) => self.floats(ty, 1.0),
            (Max, Lane::F32 | Lane::F64) => self.floats(ty, f64::NEG_INFINITY),
            (Min, Lane::F32 | Lane::F64) => self.floats(ty, f64::INFINITY),
            (Sum, _) | (Max, Lane::U64) => self.pair(0, 0),
            (Prod, _) => self.pair(1, 1),
            (Max, _) => self.pair(i64::MIN, i64::MIN),
            (Min, Lane::U64) => self.pair(-1, -1),
            (Min, _) => self.pair(i64::MAX, i64::MAX),
            _ => return Err(Declined("positions of extrema")),
        })
    }

    /// Folds the lanes of the iteration in; columns past the last one do not count.
    pub(super) fn fold(&mut self, mut sums: Accumulators) -> Result<Accumulators, Declined> {
        for (i, fold) in self.spec.folds.iter().enumerate() {
            let lane = self.lane(fold.src)?;
            let value = self.get(fold.src)?;
            let parts = match value {
                Val::F32(parts) if accumulator(fold.op, lane) == F64X2 => self.promote(&parts),
                Val::F32(parts) | Val::F64(parts) => parts,
                ints => self.ints(ints),
            };
            let identity = self.identity(*fold, lane)?;
            for (k, mut part) in parts.into_iter().enumerate() {
                if self.mode == Mode::Clamped {
                    let exists = self.exists(part, k);
                    part = self.choose(exists, part, identity);
                }
                let sum = sums.0.get_mut(i).and_then(|parts| parts.get_mut(k)).ok_or(MALFORMED)?;
                *sum = self.combine(*fold, lane, *sum, part);
            }
        }
        Ok(sums)
    }

    /// Which columns of part `k` are not past the last one.
    fn exists(&mut self, part: Value, k: usize) -> Value {
        let ty = self.b.func.dfg.value_type(part);
        let left = self.b.ins().isub(self.cols, self.col);
        let left = self.b.ins().splat(I64X2, left);
        let width = columns(ty);
        let masks: Vec<Value> = (0..width / 2)
            .map(|half| {
                let first = (k * width + 2 * half) as i64;
                let places = self.pair(first, first + 1);
                self.b.ins().icmp(IntCC::SignedGreaterThan, left, places)
            })
            .collect();
        match masks[..] {
            [low, high] => self.words(I32X4, low, high, [0, 2, 4, 6]),
            _ => masks[0],
        }
    }

    fn combine(&mut self, fold: Reduce, lane: Lane, a: Value, b: Value) -> Value {
        match (fold.op, lane.is_float()) {
            (ReduceOp::Sum, true) => self.b.ins().fadd(a, b),
            (ReduceOp::Sum, false) => self.b.ins().iadd(a, b),
            (ReduceOp::Prod, true) => self.b.ins().fmul(a, b),
            (ReduceOp::Prod, false) => self.b.ins().imul(a, b),
            (op, true) => self.extremum(op == ReduceOp::Max, a, b),
            (op, false) => self.int_extremum(op == ReduceOp::Max, a, b, lane),
        }
    }

    /// Combines partial results with each other and with the frame's accumulators, and writes those.
    pub(super) fn finish_folds(&mut self, sums: &Accumulators) -> Result<(), Declined> {
        for (i, fold) in self.spec.folds.iter().enumerate() {
            let lane = self.lane(fold.src)?;
            let mut parts = sums.0.get(i).cloned().unwrap_or_default();
            let mut total = parts.pop().ok_or(MALFORMED)?;
            for part in parts {
                total = self.combine(*fold, lane, part, total);
            }
            let ty = accumulator(fold.op, lane);
            let swaps: &[[u8; 4]] = if ty == F32X4 { &[[2, 3, 0, 1], [1, 0, 3, 2]] } else { &[[2, 3, 0, 1]] };
            for &order in swaps {
                let other = self.words(ty, total, total, order);
                total = self.combine(*fold, lane, total, other);
            }
            let state = self.field(frame::STATE);
            let at = i as i32 * 8;
            let element = if ty == F32X4 { F32 } else { ty.lane_type() };
            let before = self.b.ins().load(element, unchecked(), state, at);
            let before = self.b.ins().splat(ty, before);
            total = self.combine(*fold, lane, before, total);
            let result = self.b.ins().extractlane(total, 0u8);
            self.b.ins().store(unchecked(), result, state, at);
        }
        Ok(())
    }
}
