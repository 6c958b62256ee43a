//! What constant folding may spend, so that a small model cannot ask for a large compile.

use crate::Options;
use autoglm_ir::op::TensorType;
use autoglm_ir::{Attrs, ConstId, Graph, OpId, interp};

/// The budget of one pass.
///
/// Recipes of the graph that a pass is given count as if the pass had made them, so that all recipes of a graph stay
/// within the limits, however many passes made them.
pub(crate) struct Budget {
    bytes: usize,
    work: u64,
    /// For each constant, the elements that its evaluation reads, computes and writes, with everything that it is
    /// made from; constants that are not listed cost nothing.
    costs: Vec<u64>,
}

/// What one fold takes from the budget.
pub(crate) struct Price {
    bytes: usize,
    /// The operator itself and what its arguments are made from.
    work: u64,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget { bytes: 0, work: 0, costs: Vec::new() }
    }

    /// What folding an operator over constants takes; none if it has no number.
    pub(crate) fn price(
        &self,
        graph: &Graph,
        op: OpId,
        attrs: &Attrs,
        args: &[ConstId],
        outs: &[TensorType],
    ) -> Option<(u64, Price)> {
        let types: Vec<&TensorType> = args.iter().map(|c| &graph.consts[c.0 as usize].ty).collect();
        let own = interp::eval_cost(op, attrs, &types, outs)?;
        let size = |t: &TensorType| t.numel().as_usize().and_then(|n| n.checked_mul(t.dtype.size()));
        let bytes = outs.iter().map(size).try_fold(0usize, |sum, n| sum.checked_add(n?))?;
        let mut distinct = args.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let cost = |c: &ConstId| self.costs.get(c.0 as usize).copied().unwrap_or(0);
        let work = distinct.iter().map(cost).fold(own, u64::saturating_add);
        Some((own, Price { bytes, work }))
    }

    /// Whether the options admit a fold of this price, whose operator alone has the work `own`.
    pub(crate) fn admits(&self, options: &Options, own: u64, price: &Price) -> bool {
        price.bytes <= options.fold_bytes_max
            && self.bytes.saturating_add(price.bytes) <= options.fold_total_bytes_max
            && own <= options.fold_work_max
            && self.work.saturating_add(price.work) <= options.fold_total_work_max
    }

    /// Takes a fold from the budget.
    pub(crate) fn spend(&mut self, price: &Price) {
        self.bytes = self.bytes.saturating_add(price.bytes);
        self.work = self.work.saturating_add(price.work);
    }

    /// Remembers that a constant is a recipe of this price.
    pub(crate) fn is_recipe(&mut self, constant: ConstId, price: &Price) {
        let at = constant.0 as usize;
        self.costs.resize(self.costs.len().max(at + 1), 0);
        self.costs[at] = price.work;
    }
}
