//! Extraction under an error budget: the graph of least latency whose approximations together err no more than allowed.
//!
//! Every approximation has an id with a latency and an error; the error of a graph is the sum over the ids that it picks.
//! The candidates do not depend on the budget, and the fastest that keeps it is taken: a larger budget never gives a
//! slower graph. With few ids the candidates are all sets of them. With more they are those of a Lagrangian relaxation
//! (Everett, 1963), which prices errors at a growing rate, and the solutions of multiple-choice knapsacks (Sinha and
//! Zoltners, 1979) for shares of the whole error, in which each approximation saves what it saves alone.

use super::extract::{Choice, Dag};
use std::collections::{BTreeMap, BTreeSet};

/// With at most this many ids every set of them is tried.
const EXHAUSTIVE_MAX: usize = 8;
/// Rates of the relaxation: one for each power of two around the rate of the whole.
const RATES: i32 = 20;
/// Shares of an error for which a knapsack is packed, and the parts of the whole error that are divided so: small budgets
/// need small shares.
const SHARES: usize = 128;
const SCALES: [f64; 4] = [1.0, 8.0, 64.0, 512.0];
/// With more ids than this only the relaxation is tried.
const KNAPSACK_MAX: usize = 2048;

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
#[cfg(test)]
pub(crate) fn extract(dag: &Dag, prices: &BTreeMap<u32, Price>, budget: f64) -> Option<Pick> {
    let search = Search { dag, prices };
    let mut best = search.with(&BTreeSet::new())?;
    for pick in candidates(dag, prices, &best.choice) {
        if pick.error <= budget && pick.latency < best.latency {
            best = pick;
        }
    }
    Some(best)
}

/// Graphs with approximations; `exact` is the best without.
pub(crate) fn candidates(dag: &Dag, prices: &BTreeMap<u32, Price>, exact: &Choice) -> Vec<Pick> {
    let search = Search { dag, prices };
    let ids = dag.all_approximations();
    let priced = |id: &u32| prices.get(id).is_some_and(|p| p.latency.is_finite() && p.error.is_finite());
    let ids: Vec<u32> = ids.into_iter().filter(priced).collect();
    if ids.len() <= EXHAUSTIVE_MAX {
        let set = |bits: u32| {
            ids.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, id)| *id).collect()
        };
        return (1..1u32 << ids.len()).filter_map(|bits| search.with(&set(bits))).collect();
    }
    let Some(exact) = search.price(exact.clone()) else { return Vec::new() };
    let mut picks = search.relaxed(&ids, &exact);
    if ids.len() <= KNAPSACK_MAX {
        picks.extend(search.packed(&exact));
    }
    picks
}

struct Search<'d> {
    dag: &'d Dag,
    prices: &'d BTreeMap<u32, Price>,
}

/// An approximation in the place of a class's node.
struct Item {
    class: usize,
    node: usize,
    saved: f64,
    error: f64,
}

impl Search<'_> {
    /// The graph that uses none but the allowed approximations.
    fn with(&self, allowed: &BTreeSet<u32>) -> Option<Pick> {
        self.under(|id, price| if allowed.contains(&id) { price.latency } else { f64::INFINITY })
    }

    /// The graph that is cheapest with these costs of the approximations.
    fn under(&self, cost: impl Fn(u32, Price) -> f64) -> Option<Pick> {
        let of = |id: u32| self.prices.get(&id).map_or(f64::INFINITY, |price| cost(id, *price));
        let (choice, _) = self.dag.priced(|node| node.approx.map_or(node.cost, of)).best()?;
        self.price(choice)
    }

    /// Latency and error of a choice; none if it has a cycle or no finite price.
    fn price(&self, choice: Choice) -> Option<Pick> {
        let (mut latency, mut error) = (0.0, 0.0);
        self.dag.walk(&choice, |_, node| match node.approx.map(|id| self.prices.get(&id)) {
            Some(Some(price)) => (latency, error) = (latency + price.latency, error + price.error),
            Some(None) => latency = f64::INFINITY,
            None => latency += node.cost,
        })?;
        latency.is_finite().then_some(Pick { choice, latency, error })
    }

    /// Errors at a price: `latency + rate * error`, from cheap to dear.
    fn relaxed(&self, ids: &[u32], exact: &Pick) -> Vec<Pick> {
        let errors: f64 = ids.iter().filter_map(|id| self.prices.get(id)).map(|p| p.error).sum();
        let whole = exact.latency.max(f64::MIN_POSITIVE) / errors.max(f64::MIN_POSITIVE);
        let rates = std::iter::once(0.0).chain((-RATES..=RATES).map(|power| whole * 2f64.powi(power)));
        rates.filter_map(|rate| self.under(|_, price| price.latency + rate * price.error)).collect()
    }

    /// For many budgets, the approximations that together save most, as if each saved what it saves alone; of one class
    /// at most one. Their errors are rounded up to shares of the budget.
    fn packed(&self, exact: &Pick) -> Vec<Pick> {
        let mut groups: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
        for (class, node, id) in self.dag.approximate() {
            let Some(price) = self.prices.get(&id) else { continue };
            let Some(alone) = self.price(exact.choice.clone().with(class, node)) else { continue };
            let saved = exact.latency - alone.latency;
            if saved > 0.0 {
                groups.entry(class).or_default().push(Item { class, node, saved, error: price.error });
            }
        }
        let groups: Vec<Vec<Item>> = groups.into_values().collect();
        let largest = |group: &Vec<Item>| group.iter().map(|item| item.error).fold(0.0, f64::max);
        let whole = groups.iter().map(largest).sum::<f64>().max(f64::MIN_POSITIVE);
        let sets: BTreeSet<Vec<(usize, usize)>> =
            SCALES.iter().flat_map(|scale| pack(&groups, whole / scale)).collect();
        let with = |set: &Vec<(usize, usize)>| {
            let choose = |choice: Choice, (class, node): &(usize, usize)| choice.with(*class, *node);
            self.price(set.iter().fold(exact.choice.clone(), choose))
        };
        sets.iter().filter_map(with).collect()
    }
}

/// For every number of shares of `budget` the items that save most, as classes and their nodes.
fn pack(groups: &[Vec<Item>], budget: f64) -> Vec<Vec<(usize, usize)>> {
    let shares = |error: f64| (error / budget * SHARES as f64).ceil() as usize;
    // Where rounding up costs each item a share, all items together still fit.
    let capacity = SHARES + groups.len();
    // Row i is what the first i groups save at most within each capacity, and which item does.
    let mut rows = vec![vec![(0.0f64, None); capacity + 1]];
    for (i, group) in groups.iter().enumerate() {
        let best = |capacity: usize| {
            let mut best = (rows[i][capacity].0, None);
            for (j, item) in group.iter().enumerate() {
                let Some(rest) = capacity.checked_sub(shares(item.error)) else { continue };
                let saved = rows[i][rest].0 + item.saved;
                if saved > best.0 {
                    best = (saved, Some(j));
                }
            }
            best
        };
        rows.push((0..=capacity).map(best).collect());
    }
    let set = |capacity: usize| {
        let (mut left, mut set) = (capacity, Vec::new());
        for (i, group) in groups.iter().enumerate().rev() {
            if let Some(item) = rows[i + 1][left].1.and_then(|j: usize| group.get(j)) {
                set.push((item.class, item.node));
                left -= shares(item.error);
            }
        }
        set
    };
    (0..=capacity).map(set).collect()
}

#[cfg(test)]
mod tests;
