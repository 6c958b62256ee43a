//! Between graphs and e-graphs.

use super::facts::merge_option;
use super::{Data, EGraph, ENode, Facts, Kind};
use crate::budget::{FoldBudget, FoldLimits};
use crate::dim::Dim;
use crate::graph::{ConstId, Def, Graph, Output, ValueId};
use crate::op::OpError;
use egg::{Id, Language};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// The e-graph of a graph, and the class of each of its values. Constants are folded within the limits.
pub fn from_graph(graph: &Graph, limits: FoldLimits) -> Result<(EGraph, Vec<Id>), OpError> {
    let mut budget = FoldBudget::new(limits);
    budget.count(&graph.consts);
    let mut analysis = Facts { consts: graph.consts.clone(), budget, ..Facts::default() };
    for value in &graph.values {
        if let (Def::Const(c), Some(content)) = (value.def, &value.content) {
            analysis.contents.insert(c, content.clone());
        }
    }
    analysis.inputs = graph
        .inputs
        .iter()
        .map(|v| Data::new(Kind::Tensors([graph.ty(*v).clone()].into()), graph.value(*v).content.clone()))
        .collect();
    analysis.guards = graph.guards.iter().map(|g| g.cond.clone()).collect();
    let mut egraph = EGraph::new(analysis);
    let mut classes: Vec<Option<Id>> = vec![None; graph.values.len()];
    for (i, value) in graph.values.iter().enumerate() {
        let node = match value.def {
            Def::Input(n) => ENode::Input(n as u32),
            Def::Const(c) => ENode::Const(c),
            Def::Node(..) => continue,
        };
        classes[i] = Some(egraph.add(node));
    }
    for node in &graph.nodes {
        if !node.regions.is_empty() {
            return Err(format!("{} {:?}: takes no regions", node.op.name(), node.loc));
        }
        let mut children = SmallVec::from_slice(&[egraph.add(ENode::Attrs(node.attrs.clone()))]);
        for arg in &node.args {
            let class = classes.get(arg.0 as usize).copied().flatten();
            children.push(class.ok_or_else(|| format!("value {} is used before its definition", arg.0))?);
        }
        let id = egraph.add(ENode::Op(node.op, children));
        if !node.loc.is_empty() {
            merge_option(&mut egraph[id].data.loc, Some(node.loc.clone()), |x, y| x <= y);
        }
        for (i, out) in node.outs.iter().enumerate() {
            let class = if node.outs.len() == 1 { id } else { egraph.add(ENode::Result(i as u32, [id])) };
            classes[out.0 as usize] = Some(class);
        }
    }
    for (value, class) in graph.values.iter().zip(&classes) {
        if let (Some(id), false) = (class, value.name.is_empty()) {
            merge_option(&mut egraph[*id].data.name, Some(value.name.as_str().into()), |x, y| x <= y);
        }
    }
    egraph.rebuild();
    let all: Option<Vec<Id>> = classes.into_iter().collect();
    let all = all.ok_or("a value has no definition")?;
    egraph.analysis.outputs =
        graph.outputs.iter().filter_map(|o| all.get(o.value.0 as usize).copied()).collect();
    Ok((egraph, all))
}

/// The graph of the nodes that `pick` chooses for each class, from the classes of the outputs of `origin`.
///
/// Inputs, symbols, guards and output names are those of `origin`; the choice must have no cycle.
pub fn to_graph(
    egraph: &EGraph,
    origin: &Graph,
    outputs: &[Id],
    pick: &dyn Fn(Id) -> Option<ENode>,
) -> Result<Graph, OpError> {
    let graph = Graph {
        name: origin.name.clone(),
        symbols: origin.symbols.clone(),
        consts: egraph.analysis.consts.clone(),
        ..Graph::default()
    };
    let mut b = Builder { egraph, graph, done: BTreeMap::new() };
    for (i, v) in origin.inputs.iter().enumerate() {
        let value = origin.value(*v);
        let id = b.graph.add_input(&value.name, value.ty.clone());
        b.graph.values[id.0 as usize].content.clone_from(&value.content);
        if let Some(class) = egraph.lookup(ENode::Input(i as u32)) {
            b.done.insert(egraph.find(class), vec![id]);
        }
    }
    if outputs.len() != origin.outputs.len() {
        return Err(format!("{} classes for {} outputs", outputs.len(), origin.outputs.len()));
    }
    for (output, class) in origin.outputs.iter().zip(outputs) {
        let value = b.build(egraph.find(*class), pick)?;
        b.graph.outputs.push(Output { name: output.name.clone(), value });
    }
    let mut graph = b.graph;
    let mut guards = origin.guards.clone();
    let known: Vec<_> = guards.iter().map(|g| g.cond.clone()).collect();
    guards.extend(std::mem::take(&mut graph.guards).into_iter().filter(|g| !known.contains(&g.cond)));
    graph.guards = guards;
    Ok(graph)
}

struct Builder<'a> {
    egraph: &'a EGraph,
    graph: Graph,
    /// Values of each class that is built.
    done: BTreeMap<Id, Vec<ValueId>>,
}

impl Builder<'_> {
    /// Builds a class after its children, without recursion because graphs are deep.
    fn build(&mut self, root: Id, pick: &dyn Fn(Id) -> Option<ENode>) -> Result<ValueId, OpError> {
        let mut stack = vec![root];
        let mut open: BTreeMap<Id, ENode> = BTreeMap::new();
        while let Some(class) = stack.last().copied() {
            if self.done.contains_key(&class) {
                stack.pop();
                continue;
            }
            let first_visit = !open.contains_key(&class);
            if first_visit {
                let node = pick(class).ok_or_else(|| format!("no node was chosen for class {class}"))?;
                open.insert(class, node);
            }
            let node = open[&class].clone();
            let missing: Vec<Id> = self.tensors(&node).filter(|c| !self.done.contains_key(c)).collect();
            if missing.is_empty() {
                let values = self.add(class, &node)?;
                self.done.insert(class, values);
                open.remove(&class);
                stack.pop();
            } else if let Some(cycle) = missing.iter().find(|c| open.contains_key(c)) {
                return Err(format!("the chosen nodes have a cycle through class {cycle}"));
            } else {
                stack.extend(missing.into_iter().rev());
            }
        }
        match self.done[&root].as_slice() {
            [value] => Ok(*value),
            several => Err(format!("an output has {} results", several.len())),
        }
    }

    /// The classes of the tensors that a node uses.
    fn tensors(&self, node: &ENode) -> impl Iterator<Item = Id> {
        let skip = usize::from(matches!(node, ENode::Op(..)));
        let children: Vec<Id> = node.children()[skip..].iter().map(|c| self.egraph.find(*c)).collect();
        children.into_iter()
    }

    fn add(&mut self, class: Id, node: &ENode) -> Result<Vec<ValueId>, OpError> {
        let data = &self.egraph[class].data;
        let name = data.name.as_deref().unwrap_or("");
        let values = match node {
            ENode::Op(op, children) => {
                let attrs =
                    self.egraph[children[0]].data.attrs().cloned().ok_or("an operator has no attributes")?;
                let args = self.tensors(node).map(|c| match self.done[&c].as_slice() {
                    [v] => Ok(*v),
                    several => Err(format!("{}: an argument has {} results", op.name(), several.len())),
                });
                let args = args.collect::<Result<Vec<_>, _>>()?;
                let loc = data.loc.clone().unwrap_or_else(|| "".into());
                self.graph.add(*op, attrs, args, &loc).map_err(|e| format!("{} {loc:?}: {e}", op.name()))?
            }
            ENode::Const(c) => {
                let known = self.egraph.analysis.contents.get(c).cloned();
                return Ok(vec![self.const_value(*c, name, known)]);
            }
            ENode::Result(i, [of]) => {
                let results = &self.done[&self.egraph.find(*of)];
                vec![*results.get(*i as usize).ok_or_else(|| format!("there is no result {i}"))?]
            }
            ENode::Approx(_, [of]) => return Ok(self.done[&self.egraph.find(*of)].clone()),
            ENode::Input(_) | ENode::Attrs(_) => return Err(format!("{node} is not to be built")),
        };
        if let ([v], false) = (values.as_slice(), name.is_empty()) {
            self.graph.values[v.0 as usize].name = name.to_owned();
        }
        Ok(values)
    }

    fn const_value(&mut self, id: ConstId, name: &str, content: Option<Vec<Dim>>) -> ValueId {
        let ty = self.graph.consts[id.0 as usize].ty.clone();
        let value = crate::Value { name: name.into(), ty, def: Def::Const(id), content };
        self.graph.values.push(value);
        ValueId(self.graph.values.len() as u32 - 1)
    }
}
