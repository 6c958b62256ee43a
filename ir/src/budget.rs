//! What constant folding may spend, so that a small model cannot ask for a large compile.

use crate::attrs::Attrs;
use crate::graph::{Const, ConstData, ConstId};
use crate::interp;
use crate::op::{OpId, TensorType};

/// Elements that the evaluation of a constant may read, compute and write where it is done at once: a small window of few
/// elements may have many taps.
pub const AT_ONCE_WORK_MAX: u64 = 1 << 24;

/// What constants made from constants may cost. Work is counted in elements read, computed and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldLimits {
    /// Bytes of one constant.
    pub bytes: usize,
    /// Bytes of all of them together.
    pub total_bytes: usize,
    /// Work of one operator.
    pub work: u64,
    /// Work of all constants together, each with everything that it is computed from.
    pub total_work: u64,
}

impl Default for FoldLimits {
    fn default() -> FoldLimits {
        FoldLimits { bytes: 64 << 20, total_bytes: 4 << 30, work: 1 << 27, total_work: 1 << 31 }
    }
}

/// The budget of one pass.
///
/// Recipes of the graph that a pass is given count as if the pass had made them, so that all recipes of a graph stay
/// within the limits, however many passes made them.
#[derive(Clone, Debug, Default)]
pub struct FoldBudget {
    limits: FoldLimits,
    bytes: usize,
    work: u64,
    /// For each constant, the work of its evaluation with everything that it is made from; constants that are not
    /// listed cost nothing.
    costs: Vec<u64>,
}

/// What one fold takes from the budget.
#[derive(Clone, Copy, Debug)]
pub struct FoldPrice {
    /// Work of the operator itself.
    pub own: u64,
    /// Bytes of the results.
    pub bytes: usize,
    /// Work of the operator and of what its arguments are made from.
    pub work: u64,
}

impl FoldBudget {
    /// A budget of which nothing is spent.
    pub fn new(limits: FoldLimits) -> FoldBudget {
        FoldBudget { limits, ..FoldBudget::default() }
    }

    /// What folding an operator over constants takes; none if it has no number.
    pub fn price(
        &self,
        consts: &[Const],
        op: OpId,
        attrs: &Attrs,
        args: &[ConstId],
        outs: &[TensorType],
    ) -> Option<FoldPrice> {
        let types = args.iter().map(|c| consts.get(c.0 as usize).map(|c| &c.ty));
        let own = interp::eval_cost(op, attrs, &types.collect::<Option<Vec<_>>>()?, outs)?;
        let bytes = outs.iter().try_fold(0usize, |sum, ty| sum.checked_add(ty.bytes()?))?;
        let mut distinct = args.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let cost = |c: &ConstId| self.costs.get(c.0 as usize).copied().unwrap_or(0);
        let work = distinct.iter().map(cost).fold(own, u64::saturating_add);
        Some(FoldPrice { own, bytes, work })
    }

    /// Whether there is enough left for a fold of this price.
    pub fn admits(&self, price: &FoldPrice) -> bool {
        price.bytes <= self.limits.bytes
            && self.bytes.saturating_add(price.bytes) <= self.limits.total_bytes
            && price.own <= self.limits.work
            && self.work.saturating_add(price.work) <= self.limits.total_work
    }

    /// Takes a fold from the budget.
    pub fn spend(&mut self, price: &FoldPrice) {
        self.bytes = self.bytes.saturating_add(price.bytes);
        self.work = self.work.saturating_add(price.work);
    }

    /// Remembers that a constant is a recipe of this price.
    pub fn is_recipe(&mut self, constant: ConstId, price: &FoldPrice) {
        let at = constant.0 as usize;
        self.costs.resize(self.costs.len().max(at + 1), 0);
        self.costs[at] = price.work;
    }

    /// Takes the recipes that are there already from the budget; one without a number takes all of it.
    pub fn count(&mut self, consts: &[Const]) {
        for (i, constant) in consts.iter().enumerate() {
            let ConstData::Recipe { op, attrs, args, .. } = &constant.data else { continue };
            let price = self.price(consts, *op, attrs, args, std::slice::from_ref(&constant.ty));
            let price = price.unwrap_or(FoldPrice { own: u64::MAX, bytes: usize::MAX, work: u64::MAX });
            self.spend(&price);
            self.is_recipe(ConstId(i as u32), &price);
        }
    }
}
