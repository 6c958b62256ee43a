//! Channels in another order: which axes of a graph can be permuted together without changing what it computes.
//!
//! Every axis of every value has an order. Operators tie the orders of their axes ([`carry`]): those that compute each
//! channel for itself carry the order on, and a product has the same order on both sides of its sum. What the graph reads and
//! gives, and what tells elements apart by their place, holds an order. A set of tied axes that nothing holds may be put in any
//! order: only constants change.

mod carry;

use crate::Options;
use crate::emitter::{ConstMap, Emitter, Keep};
use crate::fold::EAGER_ELEMS_MAX;
use autoglm_ir::graph::Output;
use autoglm_ir::{
    Attr, Attrs, Const, ConstData, ConstId, DType, Dim, Graph, Node, NodeId, OpId, Tensor, ValueId, interp,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Axes that have one order, which can be any.
#[derive(Clone, Debug)]
pub struct Channels {
    /// How many channels there are.
    pub extent: usize,
    /// Layers that sum over these channels; at least one.
    pub readers: Vec<Layer>,
    /// Layers that give these channels.
    pub writers: Vec<Layer>,
    /// The axes, by value.
    axes: Vec<(ValueId, usize)>,
}

/// A product or a convolution in one group with a constant f32 weight.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its node.
    pub node: NodeId,
    /// What it reads.
    pub x: ValueId,
    /// Weight: [k,n] of a product, [m,c,kernel..] of a convolution.
    pub weight: ConstId,
    /// Whether it is a convolution.
    pub conv: bool,
}

/// A graph with channels in another order.
#[derive(Clone, Debug)]
pub struct Permuted {
    /// Computes what the graph did, up to the order of sums.
    pub graph: Graph,
    /// The weights of the readers of these channels.
    pub weights: BTreeSet<ConstId>,
}

/// The sets of channels of a graph that have readers, in the order of these.
pub fn channels(graph: &Graph) -> Vec<Channels> {
    let mut axes = Axes::new(graph);
    graph.nodes.iter().for_each(|node| carry::carry(&mut axes, node));
    let mut sets: BTreeMap<usize, Channels> = BTreeMap::new();
    let mut order = Vec::new();
    let layers: Vec<(Layer, [usize; 2])> =
        (0..graph.nodes.len()).filter_map(|at| axes.layer(NodeId(at as u32))).collect();
    for (layer, [set, _]) in &layers {
        let extent = axes.extent(layer.x, axes.along(layer)).as_usize();
        let Some(extent) = extent.filter(|_| !axes.held[*set]) else { continue };
        let found = sets.entry(*set).or_insert_with(|| {
            order.push(*set);
            Channels { extent, readers: Vec::new(), writers: Vec::new(), axes: Vec::new() }
        });
        found.readers.push(layer.clone());
    }
    for (layer, [_, set]) in layers {
        sets.get_mut(&set).into_iter().for_each(|found| found.writers.push(layer.clone()));
    }
    for (value, start) in axes.starts.clone().into_iter().enumerate() {
        let value = ValueId(value as u32);
        for axis in 0..axes.rank(value) {
            let set = axes.find(start + axis);
            if let Some(found) = sets.get_mut(&set).filter(|_| !axes.is_splat(value)) {
                found.axes.push((value, axis));
            }
        }
    }
    order.into_iter().filter_map(|set| sets.remove(&set)).collect()
}

/// The graph with sets of channels in other orders: place i of a set then holds the channel that was at `order[i]`. Values that
/// are no longer those of the model lose their names.
///
/// # Errors
/// An order that does not fit its set, or a bug.
pub fn permute(
    graph: &Graph,
    orders: &[(&Channels, &[usize])],
    options: &Options,
) -> Result<Permuted, String> {
    let mut moved: HashMap<ValueId, Vec<(usize, &[usize])>> = HashMap::new();
    for (set, order) in orders {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..set.extent) {
            return Err(format!("no order of {} channels", set.extent));
        }
        set.axes.iter().for_each(|(value, axis)| moved.entry(*value).or_default().push((*axis, order)));
    }
    let (mut emitter, mut map) = Emitter::new(graph, options, Keep::Simplified);
    let mut consts = ConstMap::default();
    let e = &mut emitter;
    for node in &graph.nodes {
        let mut args = Vec::with_capacity(node.args.len());
        for arg in &node.args {
            let known = map[arg.0 as usize].is_some();
            let mut new = e.resolve(graph, &mut map, &mut consts, *arg)?;
            if !known && graph.constant(*arg).is_some() {
                for (axis, order) in moved.get(arg).into_iter().flatten() {
                    new = gathered(&mut e.graph, new, *axis, order)?;
                }
                map[arg.0 as usize] = Some(new);
            }
            args.push(new);
        }
        let outs = e.emit(node.op, node.attrs.clone(), args, &node.loc)?;
        for (old, new) in node.outs.iter().zip(outs) {
            map[old.0 as usize] = Some(new);
            let (name, slot) = (&graph.value(*old).name, &mut e.graph.values[new.0 as usize]);
            if slot.name.is_empty() && !moved.contains_key(old) {
                slot.name.clone_from(name);
            }
        }
    }
    for output in &graph.outputs {
        let value = e.resolve(graph, &mut map, &mut consts, output.value)?;
        e.graph.outputs.push(Output { name: output.name.clone(), value });
    }
    let weights = orders.iter().flat_map(|(set, _)| &set.readers).filter_map(|reader| {
        let weight = graph.node(reader.node).args.get(1)?;
        emitter.graph.constant(map[weight.0 as usize]?)
    });
    Ok(Permuted { weights: weights.collect(), graph: emitter.graph })
}

/// A constant in another order along an axis: a recipe where it is large.
fn gathered(graph: &mut Graph, v: ValueId, axis: usize, order: &[usize]) -> Result<ValueId, String> {
    let (op, constant) = (OpId::of("gather"), graph.constant(v));
    let (Some(op), Some(constant)) = (op, constant) else {
        return Err("only constants are put in order".into());
    };
    let index: Vec<i64> = order.iter().map(|channel| *channel as i64).collect();
    let index = graph.add_const("", Tensor::i64s(vec![index.len()], &index));
    let args = vec![constant, graph.constant(index).ok_or("a constant is none")?];
    let attrs = Attrs::new([("axis", Attr::Int(axis as i64))]);
    let ty = graph.ty(v).clone();
    let small = ty.numel().as_usize().is_some_and(|n| n <= EAGER_ELEMS_MAX);
    let recipe = Const { ty, data: ConstData::Recipe { op, attrs, args, out: 0 } };
    let lazy = graph.add_lazy_const("", recipe, None);
    match graph.constant(lazy) {
        Some(id) if small => interp::const_tensor(graph, id).map(|tensor| graph.add_const("", tensor)),
        _ => Ok(lazy),
    }
}

/// The orders of all axes: sets of those that are tied.
struct Axes<'g> {
    graph: &'g Graph,
    /// Number of the first axis of each value.
    starts: Vec<usize>,
    /// Parents in trees of tied axes.
    parents: Vec<usize>,
    /// Whether an order cannot change, by the root of its tree.
    held: Vec<bool>,
}

impl<'g> Axes<'g> {
    /// Nothing is tied; what the graph reads and gives is held, and so are numbers that shapes may depend on.
    fn new(graph: &'g Graph) -> Axes<'g> {
        let mut starts = Vec::with_capacity(graph.values.len());
        let mut count = 0;
        for value in &graph.values {
            starts.push(count);
            count += value.ty.rank();
        }
        let mut axes = Axes { graph, starts, parents: (0..count).collect(), held: vec![false; count] };
        let ends = graph.inputs.iter().copied().chain(graph.outputs.iter().map(|o| o.value));
        let known = (0..graph.values.len()).map(|v| ValueId(v as u32));
        for v in ends.chain(known.filter(|v| graph.value(*v).content.is_some())) {
            (0..axes.rank(v)).for_each(|axis| axes.hold(v, axis));
        }
        axes
    }

    fn rank(&self, v: ValueId) -> usize {
        self.graph.ty(v).rank()
    }

    fn shape(&self, v: ValueId) -> &'g [Dim] {
        &self.graph.ty(v).shape
    }

    fn extent(&self, v: ValueId, axis: usize) -> &'g Dim {
        &self.shape(v)[axis]
    }

    /// Whether all elements of a value are one: it is the same in every order.
    fn is_splat(&self, v: ValueId) -> bool {
        let constant = self.graph.constant(v).and_then(|id| self.graph.consts.get(id.0 as usize));
        constant.is_some_and(|constant| matches!(constant.data, ConstData::Splat(_)))
    }

    fn find(&mut self, mut axis: usize) -> usize {
        while self.parents[axis] != axis {
            self.parents[axis] = self.parents[self.parents[axis]];
            axis = self.parents[axis];
        }
        axis
    }

    /// Two axes have one order; where they may have different extents, both are held.
    fn tie(&mut self, a: (ValueId, usize), b: (ValueId, usize)) {
        self.tie_if(true, a, b);
    }

    /// Two axes have one order if `does`, else both are held.
    fn tie_if(&mut self, does: bool, a: (ValueId, usize), b: (ValueId, usize)) {
        if !does || self.extent(a.0, a.1) != self.extent(b.0, b.1) {
            self.hold(a.0, a.1);
            return self.hold(b.0, b.1);
        }
        if self.is_splat(a.0) || self.is_splat(b.0) {
            return;
        }
        let (a, b) =
            (self.find(self.starts[a.0.0 as usize] + a.1), self.find(self.starts[b.0.0 as usize] + b.1));
        let held = self.held[a] || self.held[b];
        self.parents[a.max(b)] = a.min(b);
        self.held[a.min(b)] = held;
    }

    /// The order of an axis stays.
    fn hold(&mut self, v: ValueId, axis: usize) {
        if !self.is_splat(v) {
            let root = self.find(self.starts[v.0 as usize] + axis);
            self.held[root] = true;
        }
    }

    /// The orders of all axes of a node stay.
    fn hold_all(&mut self, node: &Node) {
        for v in node.args.iter().chain(&node.outs) {
            (0..self.rank(*v)).for_each(|axis| self.hold(*v, axis));
        }
    }

    /// The axis of what a layer reads that it sums over.
    fn along(&self, layer: &Layer) -> usize {
        if layer.conv { 1 } else { self.rank(layer.x) - 1 }
    }

    /// The node as a layer, with the sets of the channels that it sums over and of those that it gives.
    fn layer(&mut self, at: NodeId) -> Option<(Layer, [usize; 2])> {
        let node = self.graph.node(at);
        let conv = node.op.name() == "conv";
        let product = matches!(node.op.name(), "matmul" | "linear");
        if !conv && !product || conv && node.attrs.int("groups") != 1 {
            return None;
        }
        let ([x, w], out) = ([*node.args.first()?, *node.args.get(1)?], *node.outs.first()?);
        let weight = self.graph.constant(w)?;
        if !conv && self.rank(w) != 2 || self.graph.ty(w).dtype != DType::F32 {
            return None;
        }
        let layer = Layer { node: at, x, weight, conv };
        let along = self.along(&layer);
        let axes = [(x, along), (out, if conv { 1 } else { self.rank(out) - 1 })];
        Some((layer, axes.map(|(v, axis)| self.find(self.starts[v.0 as usize] + axis))))
    }
}
