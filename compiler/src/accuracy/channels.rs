//! Channels in an order in which the layers that read them lose less when they are pruned.
//!
//! The order of the channels between layers is an accident, and pruning keeps two of every four successive ones. Before the
//! search for a compressed graph each set of channels whose order is free is put in the order in which the layers
//! that sum over them lose least (Pool and Yu, 2021). It is kept if no sparse alternative errs more for it.

use super::alternatives::{ELEMENTS_MIN, ERROR_MAX};
use super::calibrate::{self, Reads};
use super::layer::{Calibrated, variances};
use super::matrix::{Matrix, Rows};
use super::order::Scores;
use super::prune::{Pattern, inverse_factor, prune};
use super::{Accuracy, matches, symbols};
use autoglm_ir::graph::Output;
use autoglm_ir::sparsity::{GROUP, PANEL};
use autoglm_ir::{Graph, NodeId, interp};
use autoglm_passes as passes;
use autoglm_passes::channels::{Channels, Layer, Permuted, channels, permute};
use std::collections::{BTreeMap, BTreeSet};

/// Columns of all readers together that an order is looked for by; of more, every so many.
const COLUMNS_MAX: usize = 1 << 14;
/// Sums in another order may differ by this share.
const ROUNDING: f64 = 1e-9;

/// A canonical graph with its channels in order, where weights may become sparse.
///
/// # Errors
/// Samples that do not fit the model, or a bug.
pub(crate) fn ordered(
    graph: &Graph,
    options: &passes::Options,
    accuracy: &Accuracy,
) -> Result<Permuted, String> {
    symbols(graph, accuracy)?;
    let sets = if accuracy.sparse { wanted(graph, accuracy) } else { Vec::new() };
    if sets.is_empty() {
        return Ok(Permuted { graph: graph.clone(), weights: BTreeSet::new() });
    }
    let members = sets.iter().flat_map(|set| set.readers.iter().chain(&set.writers));
    let layers: BTreeMap<NodeId, &Layer> = members.map(|layer| (layer.node, layer)).collect();
    let mut tapped = graph.clone();
    let taps = layers.values().enumerate();
    tapped.outputs.extend(taps.map(|(i, l)| Output { name: format!("tap {i}"), value: l.x }));
    let reads = |layer: &&Layer| Reads {
        conv: layer.conv,
        attrs: graph.node(layer.node).attrs.clone(),
        shape: graph.consts[layer.weight.0 as usize].ty.concrete(),
    };
    let reads: Vec<Reads> = layers.values().map(reads).collect();
    let rows = calibrate::rows(tapped, &reads, options, &accuracy.samples)?;
    let layers =
        layers.keys().copied().zip(rows.into_iter().map(|rows| Known { rows, orders: Orders::default() }));
    let mut it = Ordering { graph, layers: layers.collect() };
    let mut orders = Vec::new();
    for set in &sets {
        if let Some(order) = it.better(set)? {
            orders.push((set, order));
        }
    }
    let orders: Vec<(&Channels, &[usize])> =
        orders.iter().map(|(set, order)| (*set, order.as_slice())).collect();
    permute(graph, &orders, options)
}

/// The sets that groups fit, with the layers that may be pruned.
fn wanted(graph: &Graph, accuracy: &Accuracy) -> Vec<Channels> {
    let mut sets = channels(graph);
    let open = |layer: &Layer| {
        let ty = &graph.consts[layer.weight.0 as usize].ty;
        let loc = &graph.node(layer.node).loc;
        ty.numel().as_usize().is_some_and(|n| n >= ELEMENTS_MIN)
            && ty.shape[usize::from(layer.conv)].as_usize().is_some_and(|n| n.is_multiple_of(GROUP))
            && !accuracy.keep.iter().any(|pattern| matches(pattern, loc))
    };
    for set in &mut sets {
        set.readers.retain(open);
        set.writers.retain(open);
    }
    sets.retain(|set| set.extent > GROUP && !set.readers.is_empty());
    sets
}

/// Orders of the channels that a layer reads and gives, where they are others than the model's.
#[derive(Clone, Debug, Default)]
struct Orders {
    reads: Option<Vec<usize>>,
    gives: Option<Vec<usize>>,
}

/// What is known of a layer, and the orders that were chosen.
struct Known {
    rows: Rows,
    orders: Orders,
}

/// An order of a set that is open.
struct Candidate {
    order: Vec<usize>,
    /// Errors of all alternatives that were looked at, as shares of what they are without it, summed up.
    shares: f64,
    /// The layers of these.
    layers: Vec<(NodeId, Orders)>,
}

/// Errors as shares of what they were, summed up; none if one is worse.
fn shares(before: [f64; 2], after: [f64; 2]) -> Option<f64> {
    let share = |(before, after): (f64, f64)| match after <= before * (1.0 + ROUNDING) {
        _ if after == before => Some(1.0),
        true => Some(after / before),
        // What errs too much anyway is no alternative.
        false => (before > ERROR_MAX && after > ERROR_MAX).then_some(1.0),
    };
    before.into_iter().zip(after).map(share).sum()
}

/// The choice of orders.
struct Ordering<'g> {
    graph: &'g Graph,
    layers: BTreeMap<NodeId, Known>,
}

impl Ordering<'_> {
    /// The order of a set in which alternatives err least of those in which none errs more; none if that is as it is.
    fn better(&mut self, set: &Channels) -> Result<Option<Vec<usize>>, String> {
        let orders = self.orders(set)?.into_iter();
        let mut open: Vec<Candidate> =
            orders.map(|order| Candidate { order, shares: 0.0, layers: Vec::new() }).collect();
        let is_in = |layers: &[Layer], node| layers.iter().any(|layer| layer.node == node);
        let members: BTreeMap<NodeId, &Layer> =
            set.readers.iter().chain(&set.writers).map(|layer| (layer.node, layer)).collect();
        for (node, layer) in members {
            let now = &self.layers[&node].orders;
            let (reads, gives) = (is_in(&set.readers, node), is_in(&set.writers, node));
            let with = |order: &Vec<usize>| Orders {
                reads: if reads { Some(order.clone()) } else { now.reads.clone() },
                gives: if gives { Some(order.clone()) } else { now.gives.clone() },
            };
            let others = open.iter().map(|candidate| with(&candidate.order));
            let all: Vec<Orders> = std::iter::once(now.clone()).chain(others).collect();
            let Some(errors) = self.errors(layer, &all)? else { continue };
            let mut after = all.into_iter().zip(&errors).skip(1);
            open.retain_mut(|candidate| {
                let Some((orders, after)) = after.next() else { return false };
                let Some(shares) = shares(errors[0], *after) else { return false };
                candidate.shares += shares;
                candidate.layers.push((node, orders));
                true
            });
            if open.is_empty() {
                return Ok(None);
            }
        }
        open.retain(|it| it.shares < (2 * it.layers.len()) as f64 * (1.0 - ROUNDING));
        let best = open.into_iter().min_by(|a, b| a.shares.total_cmp(&b.shares));
        Ok(best.map(|best| {
            for (node, orders) in best.layers {
                self.layers.entry(node).and_modify(|known| known.orders = orders);
            }
            best.order
        }))
    }

    /// Orders of a set that are likely to be better.
    fn orders(&self, set: &Channels) -> Result<Vec<Vec<usize>>, String> {
        let columns = |layer: &Layer| self.graph.consts[layer.weight.0 as usize].ty.numel().as_usize();
        let columns: usize = set.readers.iter().filter_map(columns).map(|n| n / set.extent).sum();
        let step = columns.div_ceil(COLUMNS_MAX).max(1);
        let (mut groups, mut panels) = (Scores::new(set.extent), Scores::new(set.extent));
        for layer in &set.readers {
            self.score_rows(layer, step, &mut groups)?;
        }
        for layer in &set.writers {
            self.score_columns(layer, &mut panels)?;
        }
        Ok(groups.orders(&panels))
    }

    /// The matrix of a layer; none where it cannot be pruned.
    fn matrix(&self, layer: &Layer) -> Result<Option<Matrix>, String> {
        let weight = interp::const_tensor(self.graph, layer.weight)?;
        let usable =
            |m: &Matrix| self.layers[&layer.node].rows.k == m.k && m.data.iter().all(|x| x.is_finite());
        Ok(Matrix::of(&weight, layer.conv).filter(usable))
    }

    /// Channels that a layer reads.
    fn period(&self, layer: &Layer) -> usize {
        let ty = &self.graph.consts[layer.weight.0 as usize].ty;
        ty.shape[usize::from(layer.conv)].as_usize().unwrap_or(1)
    }

    /// The rows of a layer with the channels that it reads in an order.
    fn places(&self, layer: &Layer, k: usize, order: Option<&[usize]>) -> Vec<usize> {
        let period = self.period(layer);
        let place = |row: usize| order.map_or(row, |order| row - row % period + order[row % period]);
        (0..k).map(place).collect()
    }

    /// What losing elements of a matrix costs, as a share of what losing all would: row by row.
    fn shares(&self, layer: &Layer, matrix: &Matrix) -> Vec<f32> {
        let variances = variances(&self.layers[&layer.node].rows);
        let rows = matrix.data.chunks_exact(matrix.n).zip(variances);
        let costs: Vec<f64> = rows
            .flat_map(|(row, variance)| row.iter().map(move |x| f64::from(*x).powi(2) * variance))
            .collect();
        let all = costs.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        costs.into_iter().map(|cost| (cost / all) as f32).collect()
    }

    /// Scores of the channels that a layer reads: one of every `step` columns, and the sums of those that share a pattern.
    fn score_rows(&self, layer: &Layer, step: usize, scores: &mut Scores) -> Result<(), String> {
        let Some(matrix) = self.matrix(layer)? else { return Ok(()) };
        for (row, of) in self.shares(layer, &matrix).chunks_exact(matrix.n).enumerate() {
            let panels = of.chunks(PANEL).map(|panel| panel.iter().sum());
            let columns = of.iter().step_by(step).map(|share| step as f32 * share);
            scores.extend(row % self.period(layer), columns.chain(panels));
        }
        Ok(())
    }

    /// Scores of the channels that a layer gives.
    fn score_columns(&self, layer: &Layer, scores: &mut Scores) -> Result<(), String> {
        let Some(matrix) = self.matrix(layer)? else { return Ok(()) };
        let shares = self.shares(layer, &matrix);
        let places = self.places(layer, matrix.k, self.layers[&layer.node].orders.reads.as_deref());
        for column in 0..matrix.n {
            scores.extend(column, places.iter().map(|row| shares[row * matrix.n + column]));
        }
        Ok(())
    }

    /// Errors of a layer's sparse alternatives in each of these orders; none where it cannot be pruned.
    fn errors(&self, layer: &Layer, orders: &[Orders]) -> Result<Option<Vec<[f64; 2]>>, String> {
        let Some(matrix) = self.matrix(layer)? else { return Ok(None) };
        let as_is = Calibrated::new(&matrix, None, &self.layers[&layer.node].rows);
        let errors = |orders: &Orders| {
            let rows = self.places(layer, matrix.k, orders.reads.as_deref());
            let it = as_is.reordered(&rows, orders.gives.as_deref());
            let inverse = inverse_factor(&it)?;
            let error = |pattern| {
                let pruned = prune(&it, &inverse, pattern, self.period(layer))?;
                Some(it.error(pruned.as_ref()).mse)
            };
            Some([error(Pattern::Columns)?, error(Pattern::Blocks)?])
        };
        Ok(orders.iter().map(errors).collect())
    }
}

#[cfg(test)]
mod tests;
