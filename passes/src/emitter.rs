//! Builds a graph from another one, on request simplifying on the way.

use crate::{Options, fold, simplify};
use autoglm_ir::budget::FoldBudget;
use autoglm_ir::graph::Output;
use autoglm_ir::{Attrs, Const, ConstData, ConstId, Def, Graph, Node, OpId, ValueId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What a node computes: nodes with equal keys have equal results.
type Key = (OpId, Attrs, Vec<ValueId>);

/// A graph under construction in which no two nodes compute the same.
pub struct Emitter<'o> {
    /// What has been built.
    pub graph: Graph,
    /// Options of the pass.
    pub options: &'o Options,
    keep: Keep,
    /// Looked up, never iterated: the order of a hash map must not reach the result.
    known: HashMap<Key, Vec<ValueId>>,
    /// What folding has spent.
    pub(crate) budget: FoldBudget,
}

/// What becomes of the nodes that a pass does not rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Identities are applied, and no two nodes compute the same.
    Simplified,
    /// They stay as the model has them; only what is known at compile time is folded.
    AsWritten,
}

impl<'o> Emitter<'o> {
    /// An empty graph with the name, symbols, guards and inputs of `old`.
    pub(crate) fn new(old: &Graph, options: &'o Options, keep: Keep) -> (Emitter<'o>, Vec<Option<ValueId>>) {
        let mut graph = Graph {
            name: old.name.clone(),
            symbols: old.symbols.clone(),
            guards: old.guards.clone(),
            ..Graph::default()
        };
        let mut map = vec![None; old.values.len()];
        for &input in &old.inputs {
            let value = old.value(input);
            let new = graph.add_input(&value.name, value.ty.clone());
            graph.values[new.0 as usize].content = value.content.clone();
            map[input.0 as usize] = Some(new);
        }
        (Emitter { graph, options, keep, known: HashMap::new(), budget: FoldBudget::new(options.fold) }, map)
    }

    /// The results of `op`: simplified, folded, an existing equal node, or a new node.
    pub fn emit(
        &mut self,
        op: OpId,
        attrs: Attrs,
        args: Vec<ValueId>,
        loc: &Arc<str>,
    ) -> Result<Vec<ValueId>, String> {
        if let Some(value) = simplify::simplify(self, op, &attrs, &args, loc)? {
            return Ok(vec![value]);
        }
        if let Some(values) = fold::fold(self, op, &attrs, &args)? {
            return Ok(values);
        }
        let key = (op, attrs, args);
        if let Some(outs) = self.known.get(&key) {
            return Ok(outs.clone());
        }
        let (op, attrs, args) = key.clone();
        let outs = self.add(op, attrs, args, loc)?;
        self.known.insert(key, outs.clone());
        Ok(outs)
    }

    /// The results of a node of the model with new attributes and arguments, as [`Keep`] says.
    pub(crate) fn node(
        &mut self,
        node: &Node,
        attrs: Attrs,
        args: Vec<ValueId>,
    ) -> Result<Vec<ValueId>, String> {
        if self.keep == Keep::Simplified {
            return self.emit(node.op, attrs, args, &node.loc);
        }
        match fold::fold(self, node.op, &attrs, &args)? {
            Some(values) => Ok(values),
            None => self.add(node.op, attrs, args, &node.loc),
        }
    }

    /// A new node. The guards of the original nodes are already there; a rewritten node needs no others.
    fn add(
        &mut self,
        op: OpId,
        attrs: Attrs,
        args: Vec<ValueId>,
        loc: &Arc<str>,
    ) -> Result<Vec<ValueId>, String> {
        let guards = self.graph.guards.len();
        let outs = self.graph.add(op, attrs, args, loc).map_err(|e| format!("{} {loc:?}: {e}", op.name()))?;
        self.graph.guards.truncate(guards);
        Ok(outs)
    }

    /// The single result of an operator by name.
    pub fn op(
        &mut self,
        name: &str,
        attrs: Attrs,
        args: Vec<ValueId>,
        loc: &Arc<str>,
    ) -> Result<ValueId, String> {
        let op = OpId::of(name).ok_or_else(|| format!("there is no operator `{name}`"))?;
        self.emit(op, attrs, args, loc)?.first().copied().ok_or_else(|| format!("`{name}` has no result"))
    }

    /// Copies a constant of `old`, with those it is computed from, once.
    fn copy_const(&mut self, old: &Graph, value: ValueId, consts: &mut ConstMap) -> Option<ValueId> {
        let value = old.value(value);
        let Def::Const(id) = value.def else { return None };
        let new = consts.import(old, id, &mut self.graph, &mut self.budget)?;
        Some(self.graph.add_const_value(&value.name, new, value.content.clone()))
    }

    /// The value in this graph of a value of `old`.
    pub fn resolve(
        &mut self,
        old: &Graph,
        map: &mut [Option<ValueId>],
        consts: &mut ConstMap,
        value: ValueId,
    ) -> Result<ValueId, String> {
        if let Some(new) = map[value.0 as usize] {
            return Ok(new);
        }
        let new = self
            .copy_const(old, value, consts)
            .ok_or_else(|| format!("value {} is used before it is defined", value.0))?;
        map[value.0 as usize] = Some(new);
        Ok(new)
    }
}

/// Which constants of the old graph are where in the new one.
#[derive(Default)]
pub struct ConstMap {
    done: HashMap<ConstId, ConstId>,
}

impl ConstMap {
    /// The constant in the new graph, copied there with all that its recipe is made from.
    ///
    /// Recipes refer to earlier constants only, so ascending order puts arguments first. A stack rather than recursion,
    /// because chains of recipes may be long.
    fn import(
        &mut self,
        old: &Graph,
        id: ConstId,
        new: &mut Graph,
        budget: &mut FoldBudget,
    ) -> Option<ConstId> {
        let (mut needed, mut stack) = (BTreeSet::new(), vec![id]);
        while let Some(c) = stack.pop() {
            if self.done.contains_key(&c) || !needed.insert(c) {
                continue;
            }
            if let ConstData::Recipe { args, .. } = &old.consts.get(c.0 as usize)?.data {
                stack.extend(args);
            }
        }
        for c in needed {
            let copy = self.copy(old.consts.get(c.0 as usize)?, new, budget)?;
            self.done.insert(c, copy);
        }
        self.done.get(&id).copied()
    }

    fn copy(&self, constant: &Const, new: &mut Graph, budget: &mut FoldBudget) -> Option<ConstId> {
        let at = ConstId(new.consts.len() as u32);
        let mut constant = constant.clone();
        if let ConstData::Recipe { op, attrs, args, .. } = &mut constant.data {
            for arg in args.iter_mut() {
                *arg = *self.done.get(arg)?;
            }
            let price = budget.price(&new.consts, *op, attrs, args, std::slice::from_ref(&constant.ty))?;
            budget.spend(&price);
            budget.is_recipe(at, &price);
        }
        new.consts.push(constant);
        Some(at)
    }
}

/// Which nodes some output depends on.
pub fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    let mut stack: Vec<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    while let Some(v) = stack.pop() {
        if let Def::Node(n, _) = graph.value(v).def
            && !std::mem::replace(&mut live[n.0 as usize], true)
        {
            stack.extend(&graph.node(n).args);
        }
    }
    live
}

/// The results of a node in the new graph, from its new arguments.
pub(crate) type Rewrite<'r> =
    &'r mut dyn FnMut(&mut Emitter<'_>, &Node, Vec<ValueId>) -> Result<Vec<ValueId>, String>;

/// Rebuilds the live part of a graph; `rewrite` gives the results of a node from its new arguments.
///
/// Nodes that a rewrite left without a use are not in the result, unless nodes stay as they are written.
pub(crate) fn rebuild(
    old: &Graph,
    options: &Options,
    keep: Keep,
    rewrite: Rewrite<'_>,
) -> Result<Graph, String> {
    let graph = rebuild_once(old, options, keep, rewrite)?;
    // A transpose that nothing reads says where a value of the model is, in another order of its axes.
    if keep == Keep::AsWritten || live_nodes(&graph).iter().all(|live| *live) {
        return Ok(graph);
    }
    rebuild_once(&graph, options, keep, &mut |emitter, node, args| {
        emitter.node(node, node.attrs.clone(), args)
    })
}

fn rebuild_once(old: &Graph, options: &Options, keep: Keep, rewrite: Rewrite<'_>) -> Result<Graph, String> {
    let (mut emitter, mut map) = Emitter::new(old, options, keep);
    let mut consts = ConstMap::default();
    let live = live_nodes(old);
    for (node, live) in old.nodes.iter().zip(live) {
        if !live {
            continue;
        }
        let args = node
            .args
            .iter()
            .map(|a| emitter.resolve(old, &mut map, &mut consts, *a))
            .collect::<Result<Vec<_>, _>>()?;
        let outs = rewrite(&mut emitter, node, args)?;
        for (old_out, new_out) in node.outs.iter().zip(outs) {
            map[old_out.0 as usize] = Some(new_out);
            let name = &old.value(*old_out).name;
            let slot = &mut emitter.graph.values[new_out.0 as usize];
            if slot.name.is_empty() {
                slot.name.clone_from(name);
            }
        }
    }
    for output in &old.outputs {
        let value = emitter.resolve(old, &mut map, &mut consts, output.value)?;
        emitter.graph.outputs.push(Output { name: output.name.clone(), value });
    }
    Ok(emitter.graph)
}
