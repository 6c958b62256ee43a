//! Which values exist only inside the loops that use them.
//!
//! Values are visited from the last to the first, so that the loops in which a value could be computed are known when it is
//! decided. An elementwise value disappears into the loops that read it, also through reshapes, transposes, slices and
//! broadcasts, whose effect on indices its own operands then take over. The elementwise loop behind a contraction or a
//! reduction becomes the epilogue of that step.

use super::view::{Move, View, without_units};
use autoglm_ir::op::Fusion as Class;
use autoglm_ir::{DType, Def, Dim, Graph, Node, ValueId};
use std::collections::BTreeMap;

/// Instructions of a loop body stay below this, so that its lanes fit the first-level cache.
const BODY_SIZE_MAX: usize = 96;
/// In at most this many places one value is computed instead of being stored.
const COPIES_MAX: usize = 4;
/// Arithmetic instructions that are worth repeating instead of storing their result.
const REPEATED_COST_MAX: usize = 2;
/// What is not worth repeating.
const EXPENSIVE: usize = 100;
/// Nodes that are looked at for a contraction or reduction before an elementwise node.
const ANCHOR_SEARCH_MAX: usize = 32;

/// Which nodes may share a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Every node has a step of its own.
    None,
    /// Those that one ONNX node became.
    OneNode,
    /// All.
    All,
}

/// A node that reads a value, and as which argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Index of the node.
    pub(super) node: usize,
    /// Position in its arguments.
    pub(super) at: usize,
}

/// A loop in which a value is computed: the node that the loop belongs to, and how the loop's index leads to the value's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Context {
    root: usize,
    path: Vec<Move>,
}

/// Decisions for every value of a graph.
pub(super) struct Plan {
    /// The value is computed inside the loops of its consumers.
    pub(super) inline: Vec<bool>,
    /// Whether some output depends on the node.
    pub(super) live: Vec<bool>,
    /// Live nodes that read each value, in order.
    pub(super) uses: Vec<Vec<Use>>,
    /// Whether the value is an output of the graph.
    pub(super) is_output: Vec<bool>,
    /// For the result of a contraction or reduction the node whose loop is its epilogue.
    pub(super) tails: BTreeMap<ValueId, usize>,
    /// For the node of an epilogue the contraction or reduction.
    pub(super) anchors: Vec<Option<usize>>,
}

impl Plan {
    /// Decides.
    pub(super) fn of(graph: &Graph, fusion: Fusion) -> Plan {
        let live = autoglm_passes::live_nodes(graph);
        let count = graph.values.len();
        let mut plan = Plan {
            inline: vec![false; count],
            uses: vec![Vec::new(); count],
            is_output: vec![false; count],
            tails: BTreeMap::new(),
            anchors: vec![None; graph.nodes.len()],
            live,
        };
        for (node, n) in graph.nodes.iter().enumerate().filter(|(i, _)| plan.live[*i]) {
            for (at, arg) in n.args.iter().enumerate() {
                plan.uses[arg.0 as usize].push(Use { node, at });
            }
        }
        for output in &graph.outputs {
            plan.is_output[output.value.0 as usize] = true;
        }
        if fusion != Fusion::None {
            let (sizes, repeated) = (vec![0; graph.nodes.len()], vec![0; count]);
            let mut planner = Planner { graph, fusion, sizes, repeated, plan };
            for i in (0..graph.nodes.len()).rev() {
                if planner.plan.live[i] {
                    planner.decide(i);
                }
            }
            plan = planner.plan;
        }
        plan
    }

    /// What reads a value, unless it is an output.
    pub(super) fn uses(&self, v: ValueId) -> &[Use] {
        &self.uses[v.0 as usize]
    }

    /// Whether the node's results exist only inside other steps, or are computed by the step of its epilogue.
    pub(super) fn is_virtual(&self, node: &Node) -> bool {
        node.outs.iter().all(|o| self.inline[o.0 as usize] || self.tails.contains_key(o))
    }
}

struct Planner<'g> {
    graph: &'g Graph,
    fusion: Fusion,
    plan: Plan,
    /// Instructions of each root's loop so far.
    sizes: Vec<usize>,
    /// For an inlined value that is computed in several places: arithmetic that is repeated there.
    repeated: Vec<usize>,
}

impl Planner<'_> {
    fn decide(&mut self, i: usize) {
        let node = &self.graph.nodes[i];
        let [out] = node.outs.as_slice() else { return };
        match node.op.def().class {
            Class::Elementwise => self.elementwise(node, *out),
            Class::Contraction | Class::Reduction => self.anchor(i, node, *out),
            _ => {}
        }
    }

    /// Every loop that would compute `v`, if loops are all that reads it.
    fn contexts(&self, v: ValueId) -> Option<Vec<Context>> {
        if self.plan.is_output[v.0 as usize] {
            return None;
        }
        let mut found = Vec::new();
        for u in self.plan.uses(v) {
            let node = &self.graph.nodes[u.node];
            if !self.may_join(v, node) {
                return None;
            }
            let out = *node.outs.first()?;
            let shape = &self.graph.ty(out).shape;
            let root = |path| vec![Context { root: u.node, path }];
            let next = if node.op.def().class == Class::Elementwise {
                let over = Move::Broadcast(shape.clone());
                if self.plan.inline[out.0 as usize] {
                    self.contexts(out)?.into_iter().map(|c| prepend(over.clone(), c)).collect()
                } else {
                    root(vec![over])
                }
            } else if let Some(moved) = Move::of(node) {
                self.contexts(out)?.into_iter().map(|c| prepend(moved.clone(), c)).collect()
            } else if is_fold(node) {
                root(vec![Move::Broadcast(self.graph.ty(v).shape.clone())])
            } else {
                return None;
            };
            for context in next {
                if !found.contains(&context) {
                    found.push(context);
                }
            }
            if found.len() > COPIES_MAX {
                return None;
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Whether what computes a value and a node that reads it may share a step.
    fn may_join(&self, v: ValueId, reader: &Node) -> bool {
        self.fusion == Fusion::All || of_one_node(self.graph, v, reader)
    }

    fn elementwise(&mut self, node: &Node, v: ValueId) {
        let Some(contexts) = self.contexts(v) else { return };
        let shape = &self.graph.ty(v).shape;
        let single = contexts.len() == 1;
        // An epilogue reaches through reshapes of rows.
        let rows = |c: &Context| {
            let same = |s: &[Dim]| s.last() == shape.last();
            !repeats(shape, &c.path)
                && c.path.iter().all(|m| matches!(m, Move::Broadcast(s) | Move::Reshape(s) if same(s)))
        };
        if !(single && rows(&contexts[0])) && self.follows_anchor(node) {
            // It costs nothing as the epilogue of what comes before.
            return;
        }
        let repeats = !single || contexts.iter().any(|c| repeats(shape, &c.path));
        let mut cost = 0;
        if repeats && !self.graph.ty(v).numel().is(1) {
            let behind = self.plan.uses(v).iter().map(|u| self.repeated_in(u.node)).max().unwrap_or(0);
            cost = arithmetic(self.graph, node) + behind;
            let large = node.args.iter().filter(|a| self.graph.ty(**a).shape == *shape).count();
            let stored_is_cheaper = contexts.len() > 2 && large > 1;
            if cost > REPEATED_COST_MAX || stored_is_cheaper {
                return;
            }
        }
        let size = 2 + node.args.len();
        if contexts.iter().any(|c| self.sizes[c.root] + size > BODY_SIZE_MAX)
            || !self.is_affine(node, v, &contexts)
        {
            return;
        }
        contexts.iter().for_each(|c| self.sizes[c.root] += size);
        self.plan.inline[v.0 as usize] = true;
        self.repeated[v.0 as usize] = cost;
        self.absorb_moves(v);
    }

    /// Arithmetic that is repeated behind a node which reads a value.
    fn repeated_in(&self, node: usize) -> usize {
        let Some(out) = self.graph.nodes[node].outs.first() else { return 0 };
        if Move::of(&self.graph.nodes[node]).is_none() {
            return self.repeated[out.0 as usize];
        }
        self.plan.uses(*out).iter().map(|u| self.repeated_in(u.node)).max().unwrap_or(0)
    }

    /// The moves behind an inlined value are parts of how its operands are read.
    fn absorb_moves(&mut self, v: ValueId) {
        for i in 0..self.plan.uses(v).len() {
            let node = &self.graph.nodes[self.plan.uses(v)[i].node];
            if Move::of(node).is_some() {
                let out = node.outs[0];
                self.plan.inline[out.0 as usize] = true;
                self.absorb_moves(out);
            }
        }
    }

    /// Whether the operands can be read by strides in all contexts.
    fn is_affine(&self, node: &Node, v: ValueId, contexts: &[Context]) -> bool {
        let shape = &self.graph.ty(v).shape;
        node.args.iter().all(|arg| {
            let operand = View::dense(&self.graph.ty(*arg).shape).broadcast(shape);
            let read =
                |c: &Context| c.path.iter().try_fold(operand.clone(), |view, m| view.apply(m)).is_some();
            contexts.iter().all(read)
        })
    }

    /// Whether a contraction or reduction that only this chain reads comes before, in the same shape.
    fn follows_anchor(&self, node: &Node) -> bool {
        let mut pending = vec![node];
        let mut budget = ANCHOR_SEARCH_MAX;
        while let Some(node) = pending.pop() {
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return false;
            }
            let shape = without_units(&self.graph.ty(node.outs[0]).shape);
            for arg in &node.args {
                let (Def::Node(..), Some(producer)) = (self.graph.value(*arg).def, self.graph.producer(*arg))
                else {
                    continue;
                };
                let only = self.plan.uses(*arg).len() == 1 && !self.plan.is_output[arg.0 as usize];
                let own = without_units(&self.graph.ty(*arg).shape);
                // Rows of a product may be other axes behind a reshape.
                let rows = node.op.name() == "reshape" && own.last() == shape.last();
                if !only || !(rows || own == shape) || !self.may_join(*arg, node) {
                    continue;
                }
                let reshape = producer.op.name() == "reshape";
                if takes_epilogue(self.graph, producer) {
                    return true;
                }
                if producer.op.def().class == Class::Elementwise || reshape {
                    pending.push(producer);
                }
            }
        }
        false
    }

    /// How a value will lie in memory if what the moves before it start from is dense.
    fn likely_view(&self, v: ValueId) -> View {
        let dense = View::dense(&self.graph.ty(v).shape);
        let Some(node) = self.graph.producer(v) else { return dense };
        Move::of(node).and_then(|moved| self.likely_view(node.args[0]).apply(&moved)).unwrap_or(dense)
    }

    /// Whether everything that the loop of a node reads besides `result` can be read over a reshape of its extents.
    fn reads_as(&self, node: &Node, result: ValueId, shape: &[Dim]) -> bool {
        let over = &self.graph.ty(node.outs[0]).shape;
        if without_units(over) == without_units(shape) {
            return true;
        }
        node.args.iter().filter(|arg| **arg != result).all(|arg| {
            let inner = self.graph.producer(*arg).filter(|_| self.plan.inline[arg.0 as usize]);
            match inner {
                Some(inner) if Move::of(inner).is_some() => inner.args[0] == result,
                Some(inner) => self.graph.ty(*arg).shape == *over && self.reads_as(inner, result, shape),
                None => self.likely_view(*arg).broadcast(over).reshape(shape).is_some(),
            }
        })
    }

    /// Makes the loop that reads the result of a contraction or reduction its epilogue.
    fn anchor(&mut self, i: usize, node: &Node, v: ValueId) {
        if !takes_epilogue(self.graph, node) {
            return;
        }
        let contexts = self.contexts(v).unwrap_or_default();
        let [context] = contexts.as_slice() else { return };
        let root = &self.graph.nodes[context.root];
        let shape = &self.graph.ty(v).shape;
        let rows = matches!(node.op.name(), "matmul" | "linear");
        let same = |s: &[Dim]| match node.op.def().class {
            // A product may see its rows as other axes.
            Class::Contraction if rows => s.last() == shape.last(),
            Class::Contraction => s == shape,
            _ => without_units(s) == without_units(shape),
        };
        let even = !repeats(shape, &context.path)
            && context.path.iter().all(|m| match m {
                Move::Broadcast(s) | Move::Reshape(s) => same(s),
                Move::Permute(_) | Move::Slice { .. } => false,
            });
        let result = self.graph.ty(root.outs[0]);
        let dtype = node.op.def().class == Class::Reduction || result.dtype == DType::F32;
        let elementwise = root.op.def().class == Class::Elementwise;
        let taken = self.plan.anchors[context.root].is_some();
        let fits = elementwise && even && dtype && same(&result.shape) && !taken;
        if !fits || !self.reads_as(root, v, shape) {
            return;
        }
        self.plan.anchors[context.root] = Some(i);
        self.plan.tails.insert(v, context.root);
        self.absorb_moves(v);
    }
}

/// Whether the same ONNX node became what computes a value and the node that reads it.
pub(super) fn of_one_node(graph: &Graph, v: ValueId, reader: &Node) -> bool {
    graph.producer(v).is_some_and(|node| !node.loc.is_empty() && node.loc == reader.loc)
}

/// Whether a path visits elements of `shape` more than once.
fn repeats(shape: &[Dim], path: &[Move]) -> bool {
    let mut at = shape.to_vec();
    for moved in path {
        at = match moved {
            Move::Broadcast(over) if without_units(over) != without_units(&at) => return true,
            Move::Broadcast(to) | Move::Reshape(to) | Move::Slice { sizes: to, .. } => to.clone(),
            Move::Permute(perm) => perm.iter().map(|p| at[*p].clone()).collect(),
        };
    }
    false
}

fn prepend(first: Move, context: Context) -> Context {
    if context.path.first() == Some(&first) {
        return context;
    }
    let path = std::iter::once(first).chain(context.path).collect();
    Context { root: context.root, path }
}

/// Whether a node is a loop that folds its only argument.
fn is_fold(node: &Node) -> bool {
    let name = node.op.name();
    name.starts_with("reduce_") || matches!(name, "arg_max" | "arg_min")
}

/// Whether the step of a node can go on with an elementwise loop over its result.
fn takes_epilogue(graph: &Graph, node: &Node) -> bool {
    let f32_result = graph.ty(node.outs[0]).dtype == DType::F32;
    match node.op.name() {
        "matmul" | "linear" => f32_result,
        "conv" => f32_result && node.attrs.str("layout") == "nhwc",
        // Without axes it is a copy.
        _ => is_fold(node) && (node.attrs.get("axes").is_none() || !node.attrs.ints("axes").is_empty()),
    }
}

/// Arithmetic instructions an element, roughly.
fn arithmetic(graph: &Graph, node: &Node) -> usize {
    match node.op.name() {
        "add" | "sub" | "mul" | "neg" | "abs" | "max" | "min" | "eq" | "lt" | "le" | "gt" | "ge" | "and"
        | "or" | "xor" | "not" | "select" | "bit_and" | "bit_or" | "bit_xor" | "bit_not" | "is_nan" => 1,
        "cast" => 1,
        "sqrt" | "div" | "reciprocal" if graph.ty(node.outs[0]).dtype.is_float() => 2,
        _ => EXPENSIVE,
    }
}
