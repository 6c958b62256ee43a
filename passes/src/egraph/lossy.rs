//! Extraction under an error budget: the graph of least latency whose approximations together err no more than allowed.
//!
//! Every approximation has an id with a latency and an error; the error of a graph is the sum over the ids that it picks.
//! The candidates do not depend on the budget, and the fastest that keeps it is taken: a larger budget never gives a
//! slower graph. With few ids the candidates are all sets of them. With more they are those of a Lagrangian relaxation
//! (Everett, 1963), which prices errors at a growing rate, and the solutions of a knapsack for every share of the whole
//! error, in which each approximation saves what it saves alone.

#![cfg_attr(not(test), allow(dead_code, reason = "approximations are priced before any rule makes them"))]

use super::extract::{Choice, Dag};
use std::collections::{BTreeMap, BTreeSet};

/// With at most this many ids every set of them is tried.
const EXHAUSTIVE_MAX: usize = 8;
/// Rates of the relaxation: one for each power of two around the rate of the whole.
const RATES: i32 = 20;
/// Shares of the whole error for which a knapsack is packed.
const SHARES: usize = 128;
/// With more ids than this only the relaxation is tried.
const KNAPSACK_MAX: usize = 512;

/// What an approximation costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Price {
    /// Nanoseconds that the approximation takes beside its argument.
    pub(crate) latency: f64,
    /// What it adds to the error of the graph, 0 or more.
    pub(crate) error: f64,
}

/// A graph under the budget.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub(crate) choice: Choice,
    /// Predicted nanoseconds.
    pub(crate) latency: f64,
    /// Sum of the errors of the approximations in it.
    pub(crate) error: f64,
}

/// The fastest graph found whose error is at most `budget`; none if no graph without approximations has no cycle.
pub(crate) fn extract(dag: &Dag, prices: &BTreeMap<u32, Price>, budget: f64) -> Option<Pick> {
    let search = Search { dag, prices };
    let exact = search.with(&BTreeSet::new())?;
    let mut best = exact.clone();
    for pick in search.candidates(exact) {
        if pick.error <= budget && pick.latency < best.latency {
            best = pick;
        }
    }
    Some(best)
}

struct Search<'d> {
    dag: &'d Dag,
    prices: &'d BTreeMap<u32, Price>,
}

impl Search<'_> {
    fn candidates(&self, exact: Pick) -> Vec<Pick> {
        let ids = self.dag.all_approximations();
        let priced =
            |id: &u32| self.prices.get(id).is_some_and(|p| p.latency.is_finite() && p.error.is_finite());
        let ids: Vec<u32> = ids.into_iter().filter(priced).collect();
        if ids.len() <= EXHAUSTIVE_MAX {
            let set = |bits: u32| {
                ids.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, id)| *id).collect()
            };
            return (1..1u32 << ids.len()).filter_map(|bits| self.with(&set(bits))).collect();
        }
        let mut picks = self.relaxed(&ids, &exact);
        if ids.len() <= KNAPSACK_MAX {
            picks.extend(self.packed(&ids, &exact));
        }
        picks
    }

    /// The graph that uses none but the allowed approximations.
    fn with(&self, allowed: &BTreeSet<u32>) -> Option<Pick> {
        self.under(|id, price| if allowed.contains(&id) { price.latency } else { f64::INFINITY })
    }

    /// The graph that is cheapest with these costs of the approximations.
    fn under(&self, cost: impl Fn(u32, Price) -> f64) -> Option<Pick> {
        let of = |id: u32| self.prices.get(&id).map_or(f64::INFINITY, |price| cost(id, *price));
        let (choice, _) = self.dag.priced(|node| node.approx.map_or(node.cost, of)).best()?;
        let ids = self.dag.approximations(&choice);
        let price = |id: &u32| self.prices.get(id).copied();
        let error = ids.iter().filter_map(price).map(|p| p.error).sum();
        let real = self.dag.priced(|node| match node.approx {
            Some(id) => self.prices.get(&id).map_or(f64::INFINITY, |p| p.latency),
            None => node.cost,
        });
        Some(Pick { latency: real.cost(&choice)?, choice, error })
    }

    /// Errors at a price: `latency + rate * error`, from cheap to dear.
    fn relaxed(&self, ids: &[u32], exact: &Pick) -> Vec<Pick> {
        let errors: f64 = ids.iter().filter_map(|id| self.prices.get(id)).map(|p| p.error).sum();
        let whole = exact.latency.max(f64::MIN_POSITIVE) / errors.max(f64::MIN_POSITIVE);
        let rates = std::iter::once(0.0).chain((-RATES..=RATES).map(|power| whole * 2f64.powi(power)));
        rates.filter_map(|rate| self.under(|_, price| price.latency + rate * price.error)).collect()
    }

    /// For every share of the whole error, the approximations that together save most, as if each saved what it saves
    /// alone. Their errors are rounded up to shares.
    fn packed(&self, ids: &[u32], exact: &Pick) -> Vec<Pick> {
        let alone = |id: &u32| {
            let saved = exact.latency - self.with(&BTreeSet::from([*id]))?.latency;
            (saved > 0.0).then(|| self.prices.get(id).map(|p| (*id, saved, p.error)))?
        };
        let items: Vec<(u32, f64, f64)> = ids.iter().filter_map(alone).collect();
        let whole = items.iter().map(|(_, _, error)| error).sum::<f64>().max(f64::MIN_POSITIVE);
        let shares = |error: f64| (error / whole * SHARES as f64).ceil() as usize;
        let capacity = SHARES + items.len();
        // Row i is what the first i items save at most within each capacity.
        let mut rows = vec![vec![0.0f64; capacity + 1]];
        for (i, (_, saved, error)) in items.iter().enumerate() {
            let with = |c: usize| c.checked_sub(shares(*error)).map_or(0.0, |rest| rows[i][rest] + saved);
            rows.push((0..=capacity).map(|c| rows[i][c].max(with(c))).collect());
        }
        let pack = |capacity: usize| {
            let (mut left, mut set) = (capacity, BTreeSet::new());
            for (i, (id, _, error)) in items.iter().enumerate().rev() {
                if rows[i + 1][left] > rows[i][left] {
                    set.insert(*id);
                    left -= shares(*error);
                }
            }
            set
        };
        let sets: BTreeSet<BTreeSet<u32>> = (0..=capacity).map(pack).collect();
        sets.iter().filter_map(|set| self.with(set)).collect()
    }
}

#[cfg(test)]
mod tests;
