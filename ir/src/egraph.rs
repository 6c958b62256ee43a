//! Graphs as e-graphs (Willsey et al., "egg", POPL 2021).
//!
//! An operator is an e-node whose first child is a leaf with its attributes, so that patterns can bind them:
//! `(transpose ?p (transpose ?q ?x))`. In patterns `{}` is the leaf without attributes and `softmax{log=1}` one with
//! attributes as that operator declares them. An operator with several results is used through `result#i` nodes.
//!
//! The analysis keeps the type and the known elements of every class. A union of classes whose types differ, and an
//! operator that its own inference refuses, are recorded in [`Facts::poison`]: what is extracted from such an e-graph
//! must not be used.

use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::graph::{Const, ConstId, Def, Graph, Output, ValueId, content};
use crate::op::{OpError, OpId, TensorType};
use egg::{Analysis, DidMerge, FromOp, Id, Language};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// An e-graph of IR operators.
pub type EGraph = egg::EGraph<ENode, Facts>;

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ENode {
    /// An operator; its first child is the class of its attributes.
    Op(OpId, SmallVec<[Id; 4]>),
    /// The attributes of an operator.
    Attrs(Attrs),
    /// An input of the graph.
    Input(u32),
    /// A constant of [`Facts::consts`].
    Const(ConstId),
    /// One result of an operator with several.
    Result(u32, [Id; 1]),
}

impl Language for ENode {
    type Discriminant = (u8, u32);

    fn discriminant(&self) -> (u8, u32) {
        match self {
            ENode::Op(op, _) => (0, op.0.into()),
            ENode::Attrs(_) => (1, 0),
            ENode::Input(i) => (2, *i),
            ENode::Const(c) => (3, c.0),
            ENode::Result(i, _) => (4, *i),
        }
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (ENode::Op(a, x), ENode::Op(b, y)) => a == b && x.len() == y.len(),
            (ENode::Result(a, _), ENode::Result(b, _)) => a == b,
            (ENode::Op(..) | ENode::Result(..), _) => false,
            _ => self == other,
        }
    }

    fn children(&self) -> &[Id] {
        match self {
            ENode::Op(_, children) => children,
            ENode::Result(_, children) => children,
            _ => &[],
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            ENode::Op(_, children) => children,
            ENode::Result(_, children) => children,
            _ => &mut [],
        }
    }
}

impl fmt::Display for ENode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ENode::Op(op, _) => f.write_str(op.name()),
            ENode::Attrs(attrs) => f.write_str(&crate::text::print_attrs(attrs.iter(), ",")),
            ENode::Input(i) => write!(f, "input#{i}"),
            ENode::Const(c) => write!(f, "const#{}", c.0),
            ENode::Result(i, _) => write!(f, "result#{i}"),
        }
    }
}

impl FromOp for ENode {
    type Error = OpError;

    fn from_op(text: &str, children: Vec<Id>) -> Result<Self, OpError> {
        if let (Some(i), [of]) = (text.strip_prefix("result#"), children.as_slice()) {
            return Ok(ENode::Result(i.parse().map_err(|_| format!("`{text}` has no index"))?, [*of]));
        }
        if let (Some(at), []) = (text.find('{'), children.as_slice()) {
            if text == "{}" {
                return Ok(ENode::Attrs(Attrs::default()));
            }
            let op = OpId::of(&text[..at]).ok_or_else(|| format!("unknown operator `{}`", &text[..at]))?;
            return Ok(ENode::Attrs(crate::text::parse_attrs(op, &text[at..])?));
        }
        let op = OpId::of(text).ok_or_else(|| format!("unknown operator `{text}`"))?;
        let arity = op.def().arity;
        let args = children.len().checked_sub(1).ok_or_else(|| format!("`{text}` lacks its attributes"))?;
        if args < arity.min || args > arity.max {
            return Err(format!(
                "`{text}` takes {arity:?} arguments after its attributes, the pattern has {args}"
            ));
        }
        Ok(ENode::Op(op, children.into()))
    }
}

/// What a class stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Attributes.
    Attrs(Attrs),
    /// The results of an operator: one tensor, or several to be used through `result#i`.
    Tensors(Arc<[TensorType]>),
    /// An operator that its inference refuses.
    Poison,
}

/// What is known of a class.
#[derive(Clone, Debug)]
pub struct Data {
    /// What it stands for.
    pub kind: Kind,
    /// Elements of a small integer tensor, where known.
    pub content: Option<Vec<Dim>>,
    /// Name of the ONNX node that it came from.
    pub loc: Option<Arc<str>>,
    /// Name of the value that it came from.
    pub name: Option<Arc<str>>,
}

impl Data {
    fn new(kind: Kind, content: Option<Vec<Dim>>) -> Data {
        Data { kind, content, loc: None, name: None }
    }

    /// The type of a class that is one tensor.
    pub fn ty(&self) -> Option<&TensorType> {
        match &self.kind {
            Kind::Tensors(types) => match &types[..] {
                [ty] => Some(ty),
                _ => None,
            },
            _ => None,
        }
    }

    /// The attributes of a class that is attributes.
    pub fn attrs(&self) -> Option<&Attrs> {
        match &self.kind {
            Kind::Attrs(attrs) => Some(attrs),
            _ => None,
        }
    }
}

/// The analysis: types and contents, and the constants that e-nodes refer to.
#[derive(Debug, Default)]
pub struct Facts {
    /// Constants; rules may append to them.
    pub consts: Vec<Const>,
    /// Known elements of the constants.
    contents: BTreeMap<ConstId, Vec<Dim>>,
    inputs: Vec<Data>,
    /// What must never happen: classes of different types that were made equal, operators without a type.
    pub poison: BTreeSet<String>,
}

impl Facts {
    /// Adds a constant for new e-nodes to refer to.
    pub fn add_const(&mut self, constant: Const, content: Option<Vec<Dim>>) -> ConstId {
        let id = ConstId(self.consts.len() as u32);
        self.consts.push(constant);
        if let Some(content) = content {
            self.contents.insert(id, content);
        }
        id
    }

    fn leaf(&self, node: &ENode) -> Option<Data> {
        match node {
            ENode::Attrs(attrs) => Some(Data::new(Kind::Attrs(attrs.clone()), None)),
            ENode::Input(i) => self.inputs.get(*i as usize).cloned(),
            ENode::Const(c) => {
                let ty = self.consts.get(c.0 as usize)?.ty.clone();
                Some(Data::new(Kind::Tensors([ty].into()), self.contents.get(c).cloned()))
            }
            _ => None,
        }
    }
}

/// The data of an operator from those of its children.
fn operator(egraph: &EGraph, op: OpId, children: &[Id]) -> Result<Data, OpError> {
    let (attrs, args) = children.split_first().ok_or("it has no attributes")?;
    let attrs = egraph[*attrs].data.attrs().ok_or("its first child is no attributes")?;
    let datas: Vec<&Data> = args.iter().map(|a| &egraph[*a].data).collect();
    let types: Option<Vec<&TensorType>> = datas.iter().map(|d| d.ty()).collect();
    let types = types.ok_or("an argument is not one tensor")?;
    let results = crate::verify::infer(op, attrs, &types)?;
    let contents: Vec<Option<&[Dim]>> = datas.iter().map(|d| d.content.as_deref()).collect();
    let known = match results.as_slice() {
        [out] => content(op, attrs, &types, &contents, out),
        _ => None,
    };
    Ok(Data::new(Kind::Tensors(results.into()), known))
}

fn facts(egraph: &EGraph, node: &ENode) -> Result<Data, OpError> {
    match node {
        ENode::Op(op, children) => operator(egraph, *op, children).map_err(|e| format!("{}: {e}", op.name())),
        ENode::Result(i, [of]) => match &egraph[*of].data.kind {
            Kind::Tensors(types) => {
                let ty = types.get(*i as usize).ok_or_else(|| format!("there is no result {i}"))?;
                Ok(Data::new(Kind::Tensors([ty.clone()].into()), None))
            }
            _ => Err(format!("result {i} of what has no results")),
        },
        leaf => egraph.analysis.leaf(leaf).ok_or_else(|| format!("{leaf} does not exist")),
    }
}

impl Analysis<ENode> for Facts {
    type Data = Data;

    fn make(egraph: &mut EGraph, node: &ENode, _id: Id) -> Data {
        facts(egraph, node).unwrap_or_else(|message| {
            egraph.analysis.poison.insert(message);
            Data::new(Kind::Poison, None)
        })
    }

    fn merge(&mut self, a: &mut Data, b: Data) -> DidMerge {
        let mut did = DidMerge(false, false);
        match (&a.kind, &b.kind) {
            (x, y) if x == y => {}
            (Kind::Poison, _) => {
                a.kind = b.kind;
                did.0 = true;
            }
            (_, Kind::Poison) => did.1 = true,
            (x, y) => {
                self.poison.insert(format!("classes of {x:?} and {y:?} were made equal"));
                did.1 = true;
            }
        }
        did | merge_option(&mut a.content, b.content, |_, _| true)
            | merge_option(&mut a.loc, b.loc, |x, y| x <= y)
            | merge_option(&mut a.name, b.name, |x, y| x <= y)
    }
}

/// Keeps what is known, and of two the one that `keep` prefers.
fn merge_option<T: PartialEq>(a: &mut Option<T>, b: Option<T>, keep: impl Fn(&T, &T) -> bool) -> DidMerge {
    if *a == b {
        return DidMerge(false, false);
    }
    match (&*a, &b) {
        (_, None) => DidMerge(false, true),
        (Some(x), Some(y)) if keep(x, y) => DidMerge(false, true),
        _ => {
            *a = b;
            DidMerge(true, false)
        }
    }
}

/// The e-graph of a graph, and the class of each of its values.
pub fn from_graph(graph: &Graph) -> Result<(EGraph, Vec<Id>), OpError> {
    let mut analysis = Facts { consts: graph.consts.clone(), ..Facts::default() };
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
    Ok((egraph, all.ok_or("a value has no definition")?))
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
