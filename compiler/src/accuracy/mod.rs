//! Compression under a declared accuracy: lossy alternatives in the e-graph, chosen by cost, and proven on data.
//!
//! 1. The exact graph runs on the calibration samples, and what each layer reads is drawn from it ([`matrix`]).
//! 2. Each layer gets alternatives, with the error that they have on samples that they were not made for ([`alternatives`]).
//! 3. Errors are weighed by what one alternative of each layer does to the outputs when it is measured alone.
//! 4. The search orders graphs from the least error to the largest; sums of errors only steer.
//! 5. The fastest graph is taken that keeps the gates when it is run on the samples beside the exact one: a bisection over
//!    the ordered graphs, each measured, with the exact graph as the last resort.
//! 6. What was taken is measured once more on data that had no part in this, if there are such.

mod alternatives;
mod calibrate;
mod channels;
mod gates;
mod layer;
mod low_rank;
mod matrix;
mod measure;
mod order;
mod prune;
mod report;
mod run;

pub use gates::{Gates, Measured};
pub use layer::LayerError;
pub use report::{AccuracyReport, HeldOut, LayerReport, Offer, Round};

pub(crate) use channels::ordered;

use alternatives::Offered;
use autoglm_ir::{Const, ConstData, ConstId, Graph, Tensor, interp};
use autoglm_passes as passes;
use autoglm_passes::channels::Permuted;
use autoglm_passes::egraph::{Kind, Layer, Objective, Picked, Search, Started, Tap};
use calibrate::Reads;
use matrix::{Matrix, Rows, floats};
use measure::{Measurement, compare};
use run::Runner;
use std::collections::{BTreeMap, BTreeSet};

/// The inputs of one run, by name.
pub type Sample = BTreeMap<String, Tensor>;

/// How a model may be compressed.
#[derive(Clone, Debug)]
pub struct Accuracy {
    /// What must hold.
    pub gates: Gates,
    /// Runs on which it is measured; at least one.
    pub samples: Vec<Sample>,
    /// Further runs on which the result is measured, and nothing decided; none if there are no such data.
    pub held_out: Vec<Sample>,
    /// Whether layers may become two products through fewer columns.
    pub low_rank: bool,
    /// Whether weights may lose 2 of 4 elements.
    pub sparse: bool,
    /// Layers that stay exact: patterns over the names of ONNX nodes, where `*` stands for any characters.
    pub keep: Vec<String>,
    /// What is to become small.
    pub objective: Objective,
}

/// Share of the allowed error that calibration may use: other data errs more.
const MARGIN: f64 = 0.75;
/// Graphs of an order that are measured at most.
const ROUNDS: usize = 10;
/// Layers at most whose alternatives are measured alone, and samples for each of them.
const WEIGHED_MAX: usize = 64;
const WEIGHING_SAMPLES: usize = 2;

/// The optimised graph of a canonical graph in order, with alternatives within the gates, what the optimiser did, and a report.
///
/// # Errors
/// Samples that do not fit the model, or a bug.
pub(crate) fn optimise(
    graph: &Graph,
    ordered: &Permuted,
    options: &passes::Options,
    accuracy: &Accuracy,
) -> Result<(Graph, passes::egraph::Explanation, AccuracyReport), String> {
    let symbols = symbols(graph, accuracy)?;
    let compact = options.compact || accuracy.objective == Objective::Bytes;
    let options = &passes::Options { compact, ..options.clone() };
    let search = match Search::start(&ordered.graph, options, &symbols)? {
        Started::Left(said) => {
            let reason = said.skipped.clone().unwrap_or_default();
            return Ok((graph.clone(), said, AccuracyReport::left(accuracy.gates, reason)));
        }
        Started::Search(search) => *search,
    };
    let outputs = graph.outputs.len();
    let mut it =
        Compression { options, accuracy, outputs, search, layers: Vec::new(), ordered: &ordered.weights };
    it.calibrate()?;
    it.weigh()?;
    let picked = it.choose()?;
    let held_out = it.held_out(&picked)?;
    let report = it.report(&picked, held_out)?;
    let said = it.search.explanation().clone();
    match &picked.pick {
        Some(pick) => Ok((it.search.graph(pick)?, said, report)),
        None if ordered.weights.is_empty() => Ok((it.search.exact()?, said, report)),
        // The exact engine of a model is one.
        None => match Search::start(graph, options, &symbols)? {
            Started::Search(search) => Ok((search.exact()?, search.explanation().clone(), report)),
            Started::Left(said) => Ok((graph.clone(), said, report)),
        },
    }
}

/// The values of the model's symbols in the first sample.
fn symbols(graph: &Graph, accuracy: &Accuracy) -> Result<BTreeMap<String, i64>, String> {
    let first = accuracy.samples.first().ok_or("there are no calibration samples")?;
    let inputs = graph.inputs.iter().map(|v| {
        let name = &graph.value(*v).name;
        first.get(name).cloned().ok_or_else(|| format!("the first sample has no `{name}`"))
    });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let bound = interp::bind(graph, &inputs).map_err(|e| format!("the first sample: {e}"))?;
    Ok(bound.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

/// A compression under way.
struct Compression<'a> {
    options: &'a passes::Options,
    accuracy: &'a Accuracy,
    /// Outputs of the model.
    outputs: usize,
    search: Search<'a>,
    /// What was offered for each layer, or why nothing was.
    layers: Vec<Offered>,
    /// Weights of layers that read channels in another order than the model has.
    ordered: &'a BTreeSet<ConstId>,
}

/// What was chosen.
struct Chosen {
    /// The graph; none for the exact one.
    pick: Option<Picked>,
    measurement: Measurement,
    rounds: Vec<report::Round>,
}

impl Compression<'_> {
    /// Draws rows for every layer and offers alternatives for it.
    fn calibrate(&mut self) -> Result<(), String> {
        let count = self.search.layers().len();
        let taps: Vec<Tap> = (0..count).map(Tap::Input).collect();
        let exact = self.search.tapped(None, &taps)?;
        let weights = self.search.exact()?;
        let reads = |layer: &Layer| Reads {
            conv: layer.conv,
            attrs: layer.attrs().clone(),
            shape: weights.consts[layer.weight.0 as usize].ty.concrete(),
        };
        let reads: Vec<Reads> = self.search.layers().iter().map(reads).collect();
        let rows = calibrate::rows(exact, &reads, self.options, &self.accuracy.samples)?;
        for (layer, rows) in rows.into_iter().enumerate() {
            let offered = self.offer(&weights, layer, &rows)?;
            self.layers.push(offered);
        }
        Ok(())
    }

    /// Whether alternatives are not made for this sample.
    fn held_back(&self, sample: usize) -> bool {
        calibrate::held_back(self.accuracy.samples.len(), sample)
    }

    /// Offers alternatives for a layer.
    fn offer(&mut self, graph: &Graph, number: usize, rows: &Rows) -> Result<Offered, String> {
        let layer = self.search.layers()[number].clone();
        if let Some(pattern) =
            self.accuracy.keep.iter().find(|p| layer.name.split('+').any(|n| matches(p, n)))
        {
            return Ok(Offered::none(format!("kept by the pattern {pattern:?}")));
        }
        let weight = interp::const_tensor(graph, layer.weight)?;
        let Some(matrix) = Matrix::of(&weight, layer.conv) else {
            return Ok(Offered::none("its weight is no matrix".into()));
        };
        let bias = layer.bias.map(|id| interp::const_tensor(graph, id)).transpose()?;
        let bias = bias.as_ref().and_then(floats);
        if rows.k != matrix.k {
            return Ok(Offered::none("calibration did not reach it".into()));
        }
        alternatives::offer(
            &mut self.search,
            self.accuracy,
            number,
            (&weight, &matrix, bias.as_deref()),
            rows,
        )
    }

    /// Weighs the errors of alternatives by what those of their layers do to the outputs: measured for one alternative of
    /// each layer alone. Each kind is weighed for itself, so that what it can do does not depend on the other being there.
    fn weigh(&mut self) -> Result<(), String> {
        // Errors of offers are of samples that are held back, if any are.
        let all = &self.accuracy.samples;
        let apart: Vec<usize> = (0..all.len()).filter(|i| self.held_back(*i)).collect();
        let apart = if apart.is_empty() { (0..all.len()).collect() } else { apart };
        let samples: Vec<&Sample> = apart.iter().take(WEIGHING_SAMPLES).map(|i| &all[*i]).collect();
        let mut exact = Runner::new(self.search.exact()?, self.options)?;
        for kind in [Kind::LowRank, Kind::Sparse] {
            self.weigh_kind(kind, &mut exact, &samples)?;
        }
        Ok(())
    }

    /// Weighs alternatives of one kind. Where there are too many layers to measure all weigh the same.
    fn weigh_kind(&mut self, kind: Kind, exact: &mut Runner, samples: &[&Sample]) -> Result<(), String> {
        let open = |offered: &Offered| -> Vec<(u32, f64)> {
            let of_kind = offered.offers.iter().filter(|offer| offer.kind == kind);
            let usable = of_kind.filter_map(|offer| Some((offer.id?, offer.error.mse)));
            usable.filter(|(_, error)| *error > 0.0).collect()
        };
        let layers: Vec<Vec<(u32, f64)>> = self.layers.iter().map(open).filter(|o| !o.is_empty()).collect();
        if layers.len() > WEIGHED_MAX {
            return Ok(());
        }
        for mut offers in layers {
            offers.sort_by(|a, b| a.1.total_cmp(&b.1));
            let (id, error) = offers[offers.len() / 2];
            let mut alone = Runner::new(self.search.graph(&self.search.with(&[id])?)?, self.options)?;
            let measured = compare(exact, &mut alone, self.outputs, samples.iter().map(|s| (*s, false)))?;
            let weight = measured.measured.out_mse / error;
            if weight.is_finite() {
                offers.iter().for_each(|(id, error)| self.search.weigh(*id, weight * error));
            }
        }
        Ok(())
    }

    /// The cheapest graph that keeps the gates: the best of those that both kinds of alternatives together and each of them alone
    /// allow, so that another kind never makes the result worse, and of those that are ordered to be fast where it is to be small.
    fn choose(&self) -> Result<Chosen, String> {
        let kinds: Vec<Kind> =
            [(self.accuracy.low_rank, Kind::LowRank), (self.accuracy.sparse, Kind::Sparse)]
                .into_iter()
                .filter_map(|(wanted, kind)| wanted.then_some(kind))
                .collect();
        let taps = self.taps();
        let mut exact = Runner::new(self.search.tapped(None, &taps)?, self.options)?;
        let equal = vec![LayerError { mse: 0.0, cosine: 1.0 }; taps.len()];
        let mut chosen = Chosen {
            pick: None,
            measurement: Measurement { measured: Measured::EQUAL, layers: equal },
            rounds: Vec::new(),
        };
        let alone = kinds.iter().map(|kind| vec![*kind]).filter(|alone| *alone != kinds);
        let all: Vec<Vec<Kind>> = std::iter::once(kinds.clone()).chain(alone).collect();
        // What is looked for among fast graphs may be smaller than what is found among small ones.
        let objectives = match self.accuracy.objective {
            Objective::Latency => &[Objective::Latency][..],
            Objective::Bytes => &[Objective::Bytes, Objective::Latency],
        };
        for objective in objectives {
            for kinds in &all {
                let frontier = self.search.frontier(*objective, kinds)?;
                self.bisect((*objective, kinds, &frontier), (&mut exact, &taps), &mut chosen)?;
            }
        }
        Ok(chosen)
    }

    /// Looks for the cheapest graph of a frontier that keeps the gates, and takes it if it is cheaper than what was chosen before.
    /// The graphs, with alternatives of these kinds, are in the order of their errors: with wider gates a bisection ends no earlier.
    fn bisect(
        &self,
        (objective, kinds, frontier): (Objective, &[Kind], &[Picked]),
        (exact, taps): (&mut Runner, &[Tap]),
        chosen: &mut Chosen,
    ) -> Result<(), String> {
        let gates = self.accuracy.gates.tightened(MARGIN);
        // Graphs below `low` hold as far as is known, those from `high` on do not.
        let (mut low, mut high) = (0, frontier.len());
        for _ in 0..ROUNDS {
            if low == high {
                break;
            }
            let middle = low + (high - low) / 2;
            let pick = &frontier[middle];
            let mut other = Runner::new(self.search.tapped(Some(pick), taps)?, self.options)?;
            let measurement = self.compare(exact, &mut other)?;
            let failures = gates.failures(&measurement.measured);
            let holds = failures.is_empty();
            chosen.rounds.push(report::Round {
                objective,
                kinds: kinds.to_vec(),
                error: pick.error,
                latency: pick.latency,
                bytes: pick.bytes,
                alternatives: pick.alternatives.clone(),
                measured: measurement.measured,
                failures,
            });
            if !holds {
                high = middle;
                continue;
            }
            low = middle + 1;
            if chosen.pick.as_ref().is_none_or(|best| self.cost(pick) < self.cost(best)) {
                (chosen.pick, chosen.measurement) = (Some(pick.clone()), measurement);
            }
        }
        Ok(())
    }

    /// How far a graph is from the exact one on the samples. Alternatives were made for most of them, and do worse on others:
    /// the figures are the worse of those over all and of those over the samples that are held back.
    fn compare(&self, exact: &mut Runner, other: &mut Runner) -> Result<Measurement, String> {
        let samples = &self.accuracy.samples;
        let held_back = |i: usize| self.held_back(i);
        compare(exact, other, self.outputs, samples.iter().enumerate().map(|(i, s)| (s, held_back(i))))
    }

    fn cost(&self, pick: &Picked) -> f64 {
        match self.accuracy.objective {
            Objective::Latency => pick.latency,
            Objective::Bytes => pick.bytes,
        }
    }

    /// What the chosen graph keeps on data that had no part in choosing it; none without such data.
    fn held_out(&self, chosen: &Chosen) -> Result<Option<Measurement>, String> {
        let samples = &self.accuracy.held_out;
        if samples.is_empty() {
            return Ok(None);
        }
        let taps = self.taps();
        let mut exact = Runner::new(self.search.tapped(None, &taps)?, self.options)?;
        let mut other = Runner::new(self.search.tapped(chosen.pick.as_ref(), &taps)?, self.options)?;
        let all = samples.iter().map(|s| (s, false));
        compare(&mut exact, &mut other, self.outputs, all)
            .map(Some)
            .map_err(|e| format!("held-out data: {e}"))
    }

    /// The results of all layers.
    fn taps(&self) -> Vec<Tap> {
        (0..self.search.layers().len()).map(Tap::Output).collect()
    }

    /// Whether a weight is one of those whose rows are in another order, or made from one: of several products, say.
    fn is_permuted(&self, consts: &[Const], weight: ConstId) -> bool {
        let (mut stack, mut seen) = (vec![weight], BTreeSet::new());
        while let Some(id) = stack.pop() {
            if self.ordered.contains(&id) {
                return true;
            }
            if seen.insert(id)
                && let Some(ConstData::Recipe { args, .. }) = consts.get(id.0 as usize).map(|c| &c.data)
            {
                stack.extend(args);
            }
        }
        false
    }

    fn report(&self, chosen: &Chosen, held_out: Option<Measurement>) -> Result<AccuracyReport, String> {
        let gates = self.accuracy.gates;
        let (exact, weights) = (self.search.exact_pick()?, self.search.exact()?.consts);
        let pick = chosen.pick.as_ref().unwrap_or(&exact);
        let (estimates, latencies) = (self.search.estimates()?, self.search.layer_latencies()?);
        let layer = |(i, (layer, offered)): (usize, (&Layer, &Offered))| {
            let held_out = held_out.as_ref().map(|it| it.layers[i]);
            let mut report = offered.report(
                (layer, latencies[i]),
                pick,
                &estimates,
                chosen.measurement.layers[i],
                held_out,
            );
            report.permuted = chosen.pick.is_some() && self.is_permuted(&weights, layer.weight);
            report
        };
        Ok(AccuracyReport {
            gates,
            samples: self.accuracy.samples.len(),
            measured: chosen.measurement.measured,
            skipped: None,
            latency: (exact.latency, pick.latency),
            bytes: (exact.bytes, pick.bytes),
            rounds: chosen.rounds.clone(),
            layers: self.search.layers().iter().zip(&self.layers).enumerate().map(layer).collect(),
            held_out: held_out.map(|it| HeldOut {
                samples: self.accuracy.held_out.len(),
                measured: it.measured,
                failures: gates.failures(&it.measured),
            }),
        })
    }
}

/// Whether a name is of a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests;
