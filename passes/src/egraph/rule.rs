//! Rules: an equation, how exact it is, and how its right side is built.

use super::pattern::{Bindings, Make, Pattern};
use autoglm_ir::dim::product;
use autoglm_ir::egraph::{Data, EGraph, ENode, Kind};
use autoglm_ir::op::TensorType;
use autoglm_ir::{Attr, Attrs, Const, ConstData, DType, Dim, OpId, Tensor};
use egg::{Id, Language};
use std::fmt;

/// What a rule may do to the bits of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Numerics {
    /// Nothing: equal for every input, but for which NaN it is.
    Exact,
    /// Rounds in another order or place: equal over the reals.
    Reassociates,
    /// Differs over the reals, within a stated bound.
    Approximate,
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Numerics::Exact => "exact",
            Numerics::Reassociates => "reassociates",
            Numerics::Approximate => "approximate",
        })
    }
}

/// A rewrite rule: where the left side matches, the right side is made equal to it.
pub struct Rule {
    /// Name, unique.
    pub name: &'static str,
    /// The equation, for people.
    pub equation: &'static str,
    /// How exact it is.
    pub numerics: Numerics,
    /// Whether it recovers an operator that a kernel computes as a whole; near misses of those are explained.
    pub recovers: bool,
    /// Pattern of the left side (see `egraph/pattern.rs` for the language).
    pub lhs: &'static str,
    /// The right side.
    pub rhs: Rhs,
}

/// The right side of a rule.
pub enum Rhs {
    /// An expression over the variables of the left side.
    Text(&'static str),
    /// Built by a function that may refuse.
    Apply(Apply),
}

/// Builds a right side.
pub type Apply = fn(&mut Builder<'_>) -> Result<Id, Miss>;

/// Why a rule did not apply to a match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Miss(pub String);

impl<T: Into<String>> From<T> for Miss {
    fn from(message: T) -> Miss {
        Miss(message.into())
    }
}

/// A rule whose texts are parsed.
pub(crate) struct Compiled {
    pub(crate) rule: &'static Rule,
    pub(crate) lhs: Pattern,
    rhs: Option<Pattern>,
}

impl Compiled {
    pub(crate) fn new(rule: &'static Rule) -> Result<Compiled, String> {
        let parse = |text| Pattern::parse(text).map_err(|e| format!("rule `{}`: {e}", rule.name));
        let rhs = match rule.rhs {
            Rhs::Text(text) => Some(parse(text)?),
            Rhs::Apply(_) => None,
        };
        Ok(Compiled { rule, lhs: parse(rule.lhs)?, rhs })
    }

    /// Adds the right side of a match. Refuses unless its type is provably that of the left side.
    pub(crate) fn apply(&self, egraph: &mut EGraph, found: &Bindings, nodes_max: usize) -> Result<Id, Miss> {
        let root = found.root;
        let dtype = egraph[root].data.ty().map(|ty| ty.dtype);
        // Function bodies of half precision are defined with a rounding after every operator; another order is off by
        // a whole unit of so short a fraction.
        if self.rule.numerics != Numerics::Exact && dtype.is_some_and(|d| d.is_float() && d.bits() < 32) {
            return Err("the type rounds too coarsely for another order".into());
        }
        let mut builder = Builder { egraph, of: Some((&self.lhs, found)), nodes_max };
        let id = match (&self.rhs, &self.rule.rhs) {
            (Some(rhs), _) => rhs.build(&mut builder)?,
            (None, Rhs::Apply(apply)) => apply(&mut builder)?,
            (None, Rhs::Text(_)) => return Err("the right side is not compiled".into()),
        };
        let (left, right) = (&egraph[root].data.kind, &egraph[id].data.kind);
        if left != right {
            return Err(Miss(format!("the right side is {right:?}, the left side {left:?}")));
        }
        Ok(id)
    }
}

/// An e-node of an operator: its attributes come first.
fn operator(op: OpId, attrs: Id, args: &[Id]) -> ENode {
    ENode::Op(op, std::iter::once(attrs).chain(args.iter().copied()).collect())
}

/// Elements of a constant of one number that are written one by one; more are one element and an extent, which a model
/// may choose at will.
const SPELT_OUT_MAX: usize = 4096;

/// What a right side is built with.
pub struct Builder<'e> {
    egraph: &'e mut EGraph,
    /// The left side and its match.
    of: Option<(&'e Pattern, &'e Bindings)>,
    nodes_max: usize,
}

impl Make for Builder<'_> {
    type Error = Miss;

    fn var(&mut self, name: &str) -> Result<Id, Miss> {
        Builder::var(self, name)
    }

    fn attrs(&mut self, name: &str) -> Result<Attrs, Miss> {
        Builder::attrs(self, name)
    }

    fn number(&mut self, x: f64) -> Result<Id, Miss> {
        let dtype = self.ty(self.root()?)?.dtype;
        self.scalar(dtype, x)
    }

    fn any(&mut self, args: &[Id]) -> Result<Id, Miss> {
        Builder::any(self, args)
    }

    fn node(&mut self, op: OpId, attrs: Attrs, args: &[Id]) -> Result<Id, Miss> {
        self.add(op, attrs, args)
    }

    fn result(&mut self, i: u32, of: Id) -> Result<Id, Miss> {
        match &self.data(of).kind {
            Kind::Tensors(types) if types.len() > 1 && (i as usize) < types.len() => {
                Ok(self.egraph.add(ENode::Result(i, [of])))
            }
            _ => Err(Miss(format!("there is no result {i} among several"))),
        }
    }
}

impl<'e> Builder<'e> {
    /// A builder that belongs to no match.
    pub(crate) fn free(egraph: &'e mut EGraph, nodes_max: usize) -> Builder<'e> {
        Builder { egraph, of: None, nodes_max }
    }
}

impl Builder<'_> {
    /// The class that matched as a whole.
    pub fn root(&self) -> Result<Id, Miss> {
        self.of.map(|(_, found)| found.root).ok_or_else(|| "there is no match".into())
    }

    /// The first operator of a class with this name.
    pub(crate) fn node(&self, id: Id, name: &str) -> Result<ENode, Miss> {
        let of = |node: &&ENode| matches!(node, ENode::Op(op, _) if op.name() == name);
        self.egraph[id].nodes.iter().find(of).cloned().ok_or_else(|| Miss(format!("a class has no `{name}`")))
    }

    /// Makes two classes equal; refuses unless their types are.
    pub(crate) fn same(&mut self, a: Id, b: Id) -> Result<(), Miss> {
        let (left, right) = (self.ty(a)?, self.ty(b)?);
        if left != right {
            return Err(Miss(format!("{left} is not {right}")));
        }
        self.egraph.union(a, b);
        Ok(())
    }

    /// The class that a variable of the left side is bound to.
    pub fn var(&self, name: &str) -> Result<Id, Miss> {
        let bound = self.of.and_then(|(lhs, found)| found.var(lhs.var(name)?));
        bound.ok_or_else(|| Miss(format!("`?{name}` is not bound")))
    }

    /// Attributes that the left side binds.
    pub fn attrs(&self, name: &str) -> Result<Attrs, Miss> {
        let bound = self.of.and_then(|(lhs, found)| found.attrs(lhs.attr(name)?)).cloned();
        bound.ok_or_else(|| Miss(format!("attributes `{name}` are not bound")))
    }

    /// The operator that the wildcard of the left side stands for, over other arguments.
    pub fn any(&mut self, args: &[Id]) -> Result<Id, Miss> {
        let any = self.of.and_then(|(_, found)| found.any()).cloned();
        let (op, attrs) = any.ok_or("the pattern has no wildcard")?;
        self.add(op, attrs, args)
    }

    /// Says which ONNX nodes a class computes, if that is not known.
    pub(crate) fn locate(&mut self, id: Id, nodes: &str) {
        let loc = &mut self.egraph[id].data.loc;
        if loc.is_none() && !nodes.is_empty() {
            *loc = Some(nodes.into());
        }
    }

    /// What is known of a class.
    pub fn data(&self, id: Id) -> &Data {
        &self.egraph[id].data
    }

    /// The type of a class.
    pub fn ty(&self, id: Id) -> Result<TensorType, Miss> {
        self.egraph[id].data.ty().cloned().ok_or_else(|| "not one tensor".into())
    }

    /// The canonical id of a class.
    pub fn find(&self, id: Id) -> Id {
        self.egraph.find(id)
    }

    /// The one number that all elements of a class are.
    pub fn uniform(&self, id: Id) -> Result<f64, Miss> {
        self.egraph[id].data.uniform().ok_or_else(|| "not a known number".into())
    }

    /// A bound on the absolute values of the elements of a constant, which is infinite if one is no number.
    pub fn largest(&self, id: Id) -> Result<f64, Miss> {
        let constant = self.egraph[id].data.constant.ok_or("not a constant")?;
        Ok(self.egraph.analysis.largest(constant))
    }

    /// The least absolute value of the elements of a constant; 0 if that is not known.
    pub fn least(&self, id: Id) -> Result<f64, Miss> {
        let constant = self.egraph[id].data.constant.ok_or("not a constant")?;
        Ok(self.egraph.analysis.least(constant))
    }

    /// The tensor that a class is, if that is a constant of at most so many elements.
    pub fn elements(&self, id: Id, most: usize) -> Option<Tensor> {
        self.egraph.analysis.tensor(self.egraph[id].data.constant?, most)
    }

    /// The operators of a class with this name: attributes and arguments.
    pub fn nodes(&self, id: Id, name: &str) -> Vec<(Attrs, Vec<Id>)> {
        let named = self.operators(id).filter(|(op, _)| op.name() == name);
        named.filter_map(|(_, children)| self.operands(children)).collect()
    }

    /// All operators of a class: attributes and arguments.
    pub(crate) fn all_nodes(&self, id: Id) -> Vec<(OpId, Attrs, Vec<Id>)> {
        let of = |(op, children)| self.operands(children).map(|(attrs, args)| (op, attrs, args));
        self.operators(id).filter_map(of).collect()
    }

    fn operators(&self, id: Id) -> impl Iterator<Item = (OpId, &[Id])> {
        self.egraph[id].nodes.iter().filter_map(|node| match node {
            ENode::Op(op, children) => Some((*op, children.as_slice())),
            _ => None,
        })
    }

    fn operands(&self, children: &[Id]) -> Option<(Attrs, Vec<Id>)> {
        let (attrs, args) = children.split_first()?;
        let attrs = self.egraph[*attrs].data.attrs()?.clone();
        Some((attrs, args.iter().map(|c| self.egraph.find(*c)).collect()))
    }

    /// The nodes that read a class, and the classes that they are in.
    pub(crate) fn readers(&self, id: Id) -> Vec<(ENode, Id)> {
        let of = |node: Id| {
            let canonical = self.egraph.id_to_node(node).clone().map_children(|c| self.egraph.find(c));
            (canonical, self.egraph.find(node))
        };
        self.egraph[id].parents().map(of).collect()
    }

    /// Whether a class is a result of the graph.
    pub(crate) fn is_output(&self, id: Id) -> bool {
        let id = self.egraph.find(id);
        self.egraph.analysis.outputs.iter().any(|output| self.egraph.find(*output) == id)
    }

    /// An operator, unless its inference refuses it or needs a guard, or the e-graph is full.
    pub fn op(&mut self, name: &str, attrs: Attrs, args: &[Id]) -> Result<Id, Miss> {
        let op = OpId::of(name).ok_or_else(|| Miss(format!("there is no operator `{name}`")))?;
        self.add(op, attrs, args)
    }

    fn add(&mut self, op: OpId, attrs: Attrs, args: &[Id]) -> Result<Id, Miss> {
        // What is there was inferred when it was added.
        if let Some(leaf) = self.egraph.lookup(ENode::Attrs(attrs.clone()))
            && let Some(id) = self.egraph.lookup(operator(op, leaf, args))
        {
            return Ok(id);
        }
        let types = args.iter().map(|a| self.ty(*a)).collect::<Result<Vec<_>, _>>()?;
        let types: Vec<&TensorType> = types.iter().collect();
        let inferred = autoglm_ir::graph::infer(op, &attrs, &types);
        let (_, conditions) = inferred.map_err(|e| Miss(format!("{}: {e}", op.name())))?;
        if let Some((_, text)) = conditions.iter().find(|(cond, _)| !self.egraph.analysis.assumes(cond)) {
            return Err(Miss(format!("{}: not proven: {text}", op.name())));
        }
        if self.egraph.total_size() >= self.nodes_max {
            return Err("the e-graph is full".into());
        }
        let leaf = self.egraph.add(ENode::Attrs(attrs));
        Ok(self.egraph.add(operator(op, leaf, args)))
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> Result<Id, Miss> {
        let shape = tensor.shape.iter().map(|d| Dim::from(*d)).collect();
        let constant =
            Const { ty: TensorType::new(tensor.dtype, shape), data: ConstData::Bytes(tensor.data) };
        let id = self.egraph.analysis.intern(constant);
        Ok(self.egraph.add(ENode::Const(id)))
    }

    /// A constant without axes.
    pub fn scalar(&mut self, dtype: DType, x: f64) -> Result<Id, Miss> {
        self.constant(Tensor::scalar(dtype, x))
    }

    /// A vector of one number.
    pub fn fill(&mut self, dtype: DType, len: &Dim, x: f64) -> Result<Id, Miss> {
        let len = len.as_usize().ok_or_else(|| Miss(format!("the extent {len} is not known")))?;
        if len > SPELT_OUT_MAX {
            let ty = TensorType::new(dtype, vec![len.into()]);
            let data = ConstData::Splat(Tensor::scalar(dtype, x).data);
            let id = self.egraph.analysis.intern(Const { ty, data });
            return Ok(self.egraph.add(ENode::Const(id)));
        }
        self.constant(Tensor::floats(dtype, vec![len], vec![x; len]))
    }

    /// The tensor with another shape; itself if it is that shape.
    pub fn reshape(&mut self, x: Id, shape: Vec<Dim>) -> Result<Id, Miss> {
        let ty = self.ty(x)?;
        if ty.shape == shape {
            return Ok(x);
        }
        if product(&ty.shape) != product(&shape) {
            return Err(Miss(format!("{ty} has not provably the elements of {shape:?}")));
        }
        self.op("reshape", Attrs::new([("shape", Attr::Dims(shape))]), &[x])
    }

    /// The tensor with its axes in another order; itself for the identity.
    pub fn transpose(&mut self, x: Id, perm: &[usize]) -> Result<Id, Miss> {
        if perm.iter().enumerate().all(|(i, p)| i == *p) {
            return Ok(x);
        }
        let perm = perm.iter().map(|p| *p as i64).collect();
        self.op("transpose", Attrs::new([("perm", Attr::Ints(perm))]), &[x])
    }

    /// `len` elements from `start` along one axis.
    pub fn slice(&mut self, x: Id, axis: usize, start: i64, len: &Dim) -> Result<Id, Miss> {
        let ty = self.ty(x)?;
        let mut starts = vec![Dim::from(0); ty.rank()];
        let mut sizes = ty.shape;
        starts[axis] = start.into();
        sizes[axis] = len.clone();
        let steps = vec![1; sizes.len()];
        let attrs =
            [("starts", Attr::Dims(starts)), ("sizes", Attr::Dims(sizes)), ("steps", Attr::Ints(steps))];
        self.op("slice", Attrs::new(attrs), &[x])
    }
}
