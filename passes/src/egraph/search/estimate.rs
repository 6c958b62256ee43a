//! What the search expects of alternatives, for those who want to follow or to check it.

use super::super::extract::Choice;
use super::Search;
use egg::Id;
use std::collections::BTreeMap;

/// What an alternative is expected to change in the exact graph, alone in its layer's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Nanoseconds that a run takes less; negative if more.
    pub latency: f64,
    /// Bytes of weights fewer; negative if more.
    pub bytes: f64,
    /// What it adds to the error that a graph is ordered by.
    pub error: f64,
}

impl Search<'_> {
    /// The estimates of all alternatives that can be chosen. The search sums them: a graph errs as its alternatives together.
    ///
    /// # Errors
    /// The e-graph is too large.
    pub fn estimates(&self) -> Result<BTreeMap<u32, Estimate>, String> {
        let (latency, bytes) = (self.dag(&self.model)?, self.bytes()?);
        let exact = self.exact_choice(&latency)?;
        let costs = |choice: &Choice| Some([latency.cost(choice)?, bytes.cost(choice)?]);
        let whole = costs(&exact).ok_or("the exact graph has no price")?;
        let of = |(class, node, id): (usize, usize, u32)| {
            let alone = costs(&exact.clone().with(class, node))?;
            let (_, price) = self.offers.get(&id)?;
            let [latency, bytes] = [whole[0] - alone[0], whole[1] - alone[1]];
            Some((id, Estimate { latency, bytes, error: price.error }))
        };
        Ok(latency.approximate().filter_map(of).collect())
    }

    /// Predicted nanoseconds of every layer in the exact graph, in the order of the layers.
    ///
    /// # Errors
    /// The e-graph is too large.
    pub fn layer_latencies(&self) -> Result<Vec<f64>, String> {
        let dag = self.dag(&self.model)?;
        let exact = self.exact_choice(&dag)?;
        let egraph = &self.it.egraph;
        let of =
            |class: Id| dag.node(egraph, &exact, class).map_or(0.0, |node| self.model.node(egraph, node));
        Ok(self.layers.iter().map(|layer| of(layer.class)).collect())
    }
}
