//! The search that fuses and approximates at once: one e-graph with an exact graph and its lossy alternatives, from which
//! the cheapest graph within an error budget is taken.
//!
//! Where an alternative comes from and how much it errs is the caller's matter: it needs data that the passes do not have.

use super::cost::CostModel;
use super::extract::{Choice, Dag};
use super::lossy::{self, Pick, Price};
use super::rule::{Builder, Miss};
use super::{Explanation, Saturated, Stages};
use crate::Options;
use autoglm_ir::egraph::{ENode, to_graph};
use autoglm_ir::graph::Output;
use autoglm_ir::sparsity::Zeros;
use autoglm_ir::{Attr, Attrs, ConstId, DType, Graph, Tensor, ValueId};
use egg::Id;
use std::collections::BTreeMap;

mod estimate;

pub use estimate::Estimate;

/// What the cheapest graph is to be cheap in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// Predicted nanoseconds.
    #[default]
    Latency,
    /// Bytes of the weights.
    Bytes,
}

/// How a layer is approximated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two products through fewer columns.
    LowRank,
    /// A weight with zeros in a pattern.
    Sparse,
}

/// A product with a constant weight in the exact graph.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its result.
    class: Id,
    x: Id,
    attrs: Attrs,
    /// Whether it is a convolution.
    pub conv: bool,
    /// The ONNX nodes that it computes, joined by `+`.
    pub name: String,
    /// Weight: [k,n] of a linear product, [m,c,kernel..] of a convolution.
    pub weight: ConstId,
    /// Added to every row or channel.
    pub bias: Option<ConstId>,
}

impl Layer {
    /// The attributes of the convolution, empty for a linear product.
    pub fn attrs(&self) -> &Attrs {
        &self.attrs
    }
}

/// What takes a layer's place.
#[derive(Clone, Debug)]
pub enum Alternative {
    /// `x·down·up + bias`: down [k,r] and up [r,n]; for a convolution down [r,c,kernel..] and up [m,r,1..].
    LowRank {
        /// The first factor.
        down: Tensor,
        /// The second factor.
        up: Tensor,
        /// Added at the end.
        bias: Option<Tensor>,
    },
    /// The layer with another weight, in which zeros form a pattern.
    Sparse {
        /// The weight, of the same shape.
        weight: Tensor,
        /// Its zeros.
        zeros: Zeros,
        /// Added at the end.
        bias: Option<Tensor>,
    },
}

impl Alternative {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Alternative::LowRank { .. } => Kind::LowRank,
            Alternative::Sparse { .. } => Kind::Sparse,
        }
    }
}

/// A graph that the search found.
#[derive(Clone, Debug)]
pub struct Picked {
    choice: Choice,
    /// Predicted nanoseconds.
    pub latency: f64,
    /// Bytes of its weights.
    pub bytes: f64,
    /// Sum of the errors of its alternatives.
    pub error: f64,
    /// The alternatives in it, ascending.
    pub alternatives: Vec<u32>,
}

/// The e-graph of a model with its exact graph; alternatives may be added.
pub struct Search<'g> {
    origin: &'g Graph,
    it: Saturated,
    model: CostModel,
    /// The exact graph: classes and their nodes.
    exact: Vec<(Id, ENode)>,
    said: Explanation,
    layers: Vec<Layer>,
    offers: BTreeMap<u32, (Kind, Price)>,
}

/// A search, or the reason why the graph is left as it is.
pub enum Started<'g> {
    /// The search.
    Search(Box<Search<'g>>),
    /// The graph is left as it is; the explanation says why.
    Left(Explanation),
}

impl<'g> Search<'g> {
    /// Saturates the e-graph of a canonical graph and finds its exact graph. Costs are those at `symbols`, the values of
    /// symbolic extents that matter.
    ///
    /// # Errors
    /// A bug in a rule.
    pub fn start(
        graph: &'g Graph,
        options: &Options,
        symbols: &BTreeMap<String, i64>,
    ) -> Result<Started<'g>, String> {
        let model = CostModel { symbols: symbols.clone(), ..CostModel::with_table(options.costs.clone()) };
        let Stages { it, dag, choice, said } = match super::stages(graph, options, &model)? {
            Ok(stages) => stages,
            Err(said) => return Ok(Started::Left(said)),
        };
        let exact = dag.nodes_of(&it.egraph, &choice);
        let mut search =
            Search { origin: graph, it, model, exact, said, layers: Vec::new(), offers: BTreeMap::new() };
        search.layers = search.find_layers(&dag, &choice);
        Ok(Started::Search(Box::new(search)))
    }

    /// What the exact optimiser did.
    pub fn explanation(&self) -> &Explanation {
        &self.said
    }

    /// The products with constant weights of the exact graph that alternatives can be offered for, in execution order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn dag(&self, model: &CostModel) -> Result<Dag, String> {
        Dag::new(&self.it.egraph, &self.it.outputs, model).ok_or_else(|| super::TOO_MANY.into())
    }

    /// The exact graph as a choice of this e-graph as it is now.
    fn exact_choice(&self, dag: &Dag) -> Result<Choice, String> {
        let exact = dag.priced(|node| if node.approx.is_some() { f64::INFINITY } else { node.cost });
        let (choice, _) = exact.best().ok_or("there is no exact graph")?;
        Ok(dag.adopt(&self.it.egraph, choice, &self.exact))
    }

    fn find_layers(&self, dag: &Dag, exact: &Choice) -> Vec<Layer> {
        let order = dag.reachable(exact).unwrap_or_default();
        order.iter().filter_map(|class| self.layer(dag, exact, *class)).collect()
    }

    fn layer(&self, dag: &Dag, exact: &Choice, class: Id) -> Option<Layer> {
        let egraph = &self.it.egraph;
        let ENode::Op(op, children) = dag.node(egraph, exact, class)? else { return None };
        let conv = op.name() == "conv";
        let attrs = egraph[children[0]].data.attrs()?.clone();
        if !conv && op.name() != "linear"
            || conv && (attrs.int("groups") != 1 || !attrs.str("layout").is_empty())
        {
            return None;
        }
        let constant = |i: usize| egraph[*children.get(i)?].data.constant;
        let ty = egraph[class].data.ty()?;
        if ty.dtype != DType::F32 || egraph[children[2]].data.ty()?.concrete().is_none() {
            return None;
        }
        let bias = match children.len() {
            4 => Some(constant(3)?),
            _ => None,
        };
        let name = egraph[class].data.loc.as_deref().unwrap_or_default().to_owned();
        Some(Layer { class, x: egraph.find(children[1]), attrs, conv, name, weight: constant(2)?, bias })
    }

    /// The exact graph.
    ///
    /// # Errors
    /// A bug in the extraction.
    pub fn exact(&self) -> Result<Graph, String> {
        self.tapped(None, &[])
    }

    /// The graph of a pick, which must be younger than the last offer.
    ///
    /// # Errors
    /// A bug in the extraction.
    pub fn graph(&self, pick: &Picked) -> Result<Graph, String> {
        self.tapped(Some(pick), &[])
    }

    /// The graph of a pick, or the exact one, with what layers read or give as further outputs, one for each tap in order.
    ///
    /// # Errors
    /// A bug in the extraction.
    pub fn tapped(&self, pick: Option<&Picked>, taps: &[Tap]) -> Result<Graph, String> {
        let dag = self.dag(&self.model)?;
        let choice = match pick {
            Some(pick) => pick.choice.clone(),
            None => self.exact_choice(&dag)?,
        };
        let mut origin = self.origin.clone();
        let mut outputs = self.it.outputs.clone();
        for (i, tap) in taps.iter().enumerate() {
            let (Tap::Input(layer) | Tap::Output(layer)) = *tap;
            let layer = self.layers.get(layer).ok_or("there is no such layer")?;
            outputs.push(if matches!(tap, Tap::Input(_)) { layer.x } else { layer.class });
            origin.outputs.push(Output { name: format!("tap {i}"), value: ValueId(0) });
        }
        let node = |id| dag.node(&self.it.egraph, &choice, id).cloned();
        to_graph(&self.it.egraph, &origin, &outputs, &node)
    }

    /// Adds an alternative for a layer with its error, and gives its id; none if it equals the layer.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn offer(
        &mut self,
        layer: usize,
        alternative: Alternative,
        error: f64,
    ) -> Result<Option<u32>, String> {
        let layer = self.layers.get(layer).ok_or("there is no such layer")?.clone();
        let kind = alternative.kind();
        let made = self.build_alternative(&layer, alternative).map_err(|Miss(reason)| reason)?;
        let egraph = &mut self.it.egraph;
        Builder::free(egraph, usize::MAX).locate(made, &layer.name);
        egraph.rebuild();
        if egraph.find(made) == egraph.find(layer.class) {
            return Ok(None);
        }
        let id = self.offers.len() as u32;
        let approx = egraph.add(ENode::Approx(id, [made]));
        egraph.union(layer.class, approx);
        egraph.rebuild();
        if let Some(poison) = egraph.analysis.poison.first() {
            return Err(format!("an alternative of {}: {poison}", layer.name));
        }
        self.offers.insert(id, (kind, Price { latency: 0.0, error }));
        Ok(Some(id))
    }

    /// Sets the error of an alternative that was offered.
    pub fn weigh(&mut self, alternative: u32, error: f64) {
        if let Some((_, price)) = self.offers.get_mut(&alternative) {
            price.error = error;
        }
    }

    fn build_alternative(&mut self, layer: &Layer, alternative: Alternative) -> Result<Id, Miss> {
        let op = if layer.conv { "conv" } else { "linear" };
        let mut b = Builder::free(&mut self.it.egraph, usize::MAX);
        match alternative {
            Alternative::LowRank { down, up, bias } => {
                let axes = down.shape.len();
                let down = b.constant(down)?;
                let inner = b.op(op, layer.attrs.clone(), &[layer.x, down])?;
                b.locate(inner, &layer.name);
                let mut args = vec![inner, b.constant(up)?];
                args.extend(bias.map(|bias| b.constant(bias)).transpose()?);
                b.op(op, if layer.conv { pixel(axes.saturating_sub(2)) } else { Attrs::default() }, &args)
            }
            Alternative::Sparse { weight, zeros, bias } => {
                let weight = b.constant(weight)?;
                let mut args = vec![layer.x, weight];
                args.extend(bias.map(|bias| b.constant(bias)).transpose()?);
                if let Some(id) = b.data(weight).constant {
                    self.model.zeros.insert(id, zeros);
                }
                // A transformed weight has no zeros to leave out.
                b.op(op, layer.attrs.without("algorithm"), &args)
            }
        }
    }

    /// The graphs that are cheaper than the exact one, from the least error to the largest: each is the cheapest that
    /// was found for its error, so both error and saving grow. Of `kinds` none but these are used.
    ///
    /// # Errors
    /// A bug in the extraction.
    pub fn frontier(&self, objective: Objective, kinds: &[Kind]) -> Result<Vec<Picked>, String> {
        let latency = self.dag(&self.model)?;
        let bytes = self.bytes()?;
        let dag = match objective {
            Objective::Latency => &latency,
            Objective::Bytes => &bytes,
        };
        let exact = self.exact_choice(dag)?;
        let mut picks = Vec::new();
        // What one kind alone can do is among the candidates of both.
        let alone = kinds.iter().map(|kind| vec![*kind]);
        for kinds in alone.chain((kinds.len() > 1).then(|| kinds.to_vec())) {
            let usable = self.offers.iter().filter(|(_, (kind, _))| kinds.contains(kind));
            let prices = usable.map(|(id, (_, price))| (*id, *price)).collect();
            picks.extend(lossy::candidates(dag, &prices, &exact));
        }
        let exact = dag.cost(&exact).unwrap_or(f64::INFINITY);
        Ok(pareto(picks, exact).into_iter().map(|pick| self.picked(pick, [&latency, &bytes])).collect())
    }

    /// The exact graph with these alternatives in their layers' places, for comparison.
    ///
    /// # Errors
    /// The e-graph is too large.
    pub fn with(&self, alternatives: &[u32]) -> Result<Picked, String> {
        let (latency, bytes) = (self.dag(&self.model)?, self.bytes()?);
        let mut choice = self.exact_choice(&latency)?;
        for (class, node, id) in latency.approximate() {
            if alternatives.contains(&id) {
                choice = choice.with(class, node);
            }
        }
        let ids = latency.approximations(&choice);
        let error = ids.iter().filter_map(|id| self.offers.get(id)).map(|(_, price)| price.error).sum();
        Ok(self.picked(Pick { choice, latency: 0.0, error }, [&latency, &bytes]))
    }

    fn picked(&self, pick: Pick, [latency, bytes]: [&Dag; 2]) -> Picked {
        Picked {
            latency: latency.cost(&pick.choice).unwrap_or(f64::INFINITY),
            bytes: bytes.cost(&pick.choice).unwrap_or(f64::INFINITY),
            error: pick.error,
            alternatives: latency.approximations(&pick.choice),
            choice: pick.choice,
        }
    }

    /// The exact graph as a pick.
    ///
    /// # Errors
    /// The e-graph is too large.
    pub fn exact_pick(&self) -> Result<Picked, String> {
        let (latency, bytes) = (self.dag(&self.model)?, self.bytes()?);
        let pick = Pick { choice: self.exact_choice(&latency)?, latency: 0.0, error: 0.0 };
        Ok(self.picked(pick, [&latency, &bytes]))
    }

    /// Bytes by which a transformed weight exceeds the constant that it is made of.
    fn transformed(&self, node: &ENode) -> f64 {
        let egraph = &self.it.egraph;
        let ENode::Op(_, children) = node else { return 0.0 };
        let attrs = egraph[children[0]].data.attrs();
        if attrs.is_none_or(|attrs| attrs.str("algorithm") != "winograd") {
            return 0.0;
        }
        let weight = children.get(2).and_then(|weight| egraph[*weight].data.constant);
        weight.map_or(0.0, |id| 3.0 * self.model.stored(&egraph.analysis.consts, id))
    }

    /// Costs are bytes of weights; work decides between equals.
    fn bytes(&self) -> Result<Dag, String> {
        let bytes = |node: &ENode| match node {
            ENode::Const(id) => self.model.stored(&self.it.egraph.analysis.consts, *id),
            _ => self.transformed(node) + 1e-6 * self.model.node(&self.it.egraph, node),
        };
        Dag::with(&self.it.egraph, &self.it.outputs, bytes).ok_or_else(|| super::TOO_MANY.into())
    }
}

/// What a tapped graph gives beside its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// What the layer with this number reads.
    Input(usize),
    /// What it gives.
    Output(usize),
}

/// The attributes of a convolution of single pixels.
fn pixel(axes: usize) -> Attrs {
    let ints = |v, n| Attr::Ints(vec![v; n]);
    Attrs::new([
        ("strides", ints(1, axes)),
        ("dilations", ints(1, axes)),
        ("pads", ints(0, 2 * axes)),
        ("groups", Attr::Int(1)),
    ])
}

/// The picks that no other beats in both latency and error, cheaper than `exact`, by ascending error.
fn pareto(mut picks: Vec<Pick>, exact: f64) -> Vec<Pick> {
    picks.sort_by(|a, b| a.error.total_cmp(&b.error).then(a.latency.total_cmp(&b.latency)));
    let mut least = exact;
    let mut kept = Vec::new();
    for pick in picks {
        if pick.latency < least {
            least = pick.latency;
            kept.push(pick);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
