//! What is known of every class: type, contents, constants.

use super::{EGraph, ENode};
use crate::attrs::{Attr, Attrs};
use crate::budget::{AT_ONCE_WORK_MAX, FoldBudget};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Cond, Const, ConstData, ConstId, Graph, content};
use crate::interp;
use crate::op::{OpError, OpId, TensorType};
use crate::tensor::Tensor;
use egg::{Analysis, DidMerge, Id};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    /// The constant that it equals.
    pub constant: Option<ConstId>,
    /// The number that every element is (by its bits as f64), where known.
    uniform: Option<u64>,
    /// Name of the ONNX node that it came from.
    pub loc: Option<Arc<str>>,
    /// Name of the value that it came from.
    pub name: Option<Arc<str>>,
}

impl Data {
    pub(super) fn new(kind: Kind, content: Option<Vec<Dim>>) -> Data {
        Data { kind, content, constant: None, uniform: None, loc: None, name: None }
    }

    /// The number that every element of the tensor is, where known.
    pub fn uniform(&self) -> Option<f64> {
        self.uniform.map(f64::from_bits)
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
    pub(super) contents: BTreeMap<ConstId, Vec<Dim>>,
    pub(super) inputs: Vec<Data>,
    /// Classes of the results of the graph.
    pub outputs: Vec<Id>,
    /// What folding may still spend.
    pub(super) budget: FoldBudget,
    /// Constants made from constants, so that each is made once.
    pub(super) folded: BTreeMap<(OpId, Attrs, Vec<ConstId>), ConstId>,
    /// Conditions that the graph checks at run time anyway.
    pub(super) guards: Vec<Cond>,
    /// Constants that rules added, so that each is there once.
    pub(super) interned: BTreeMap<(String, Vec<u8>), ConstId>,
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

    /// Adds a small constant for new e-nodes to refer to, once.
    pub fn intern(&mut self, constant: Const) -> ConstId {
        let (kind, bytes) = match &constant.data {
            ConstData::Bytes(bytes) => ("each", bytes),
            ConstData::Splat(element) => ("splat", element),
            ConstData::Recipe { .. } => return self.add_const(constant, None),
        };
        let key = (format!("{kind} {}", constant.ty), bytes.to_vec());
        if let Some(id) = self.interned.get(&key) {
            return *id;
        }
        let id = self.add_const(constant, None);
        self.interned.insert(key, id);
        id
    }

    /// Whether the graph refuses inputs for which a condition does not hold.
    pub fn assumes(&self, cond: &Cond) -> bool {
        let swapped = match cond {
            Cond::Eq(a, b) => Some(Cond::Eq(b.clone(), a.clone())),
            Cond::Broadcast(a, b) => Some(Cond::Broadcast(b.clone(), a.clone())),
            Cond::Le(..) => None,
        };
        self.guards.contains(cond) || swapped.is_some_and(|cond| self.guards.contains(&cond))
    }

    fn leaf(&self, node: &ENode) -> Option<Data> {
        match node {
            ENode::Attrs(attrs) => Some(Data::new(Kind::Attrs(attrs.clone()), None)),
            ENode::Input(i) => self.inputs.get(*i as usize).cloned(),
            ENode::Const(c) => {
                let constant = self.consts.get(c.0 as usize)?;
                let mut data =
                    Data::new(Kind::Tensors([constant.ty.clone()].into()), self.contents.get(c).cloned());
                data.constant = Some(*c);
                data.uniform = uniform(constant).map(f64::to_bits);
                Some(data)
            }
            _ => None,
        }
    }
}

/// Constants of at most this many bytes are computed at once; larger ones become recipes.
const EAGER_BYTES_MAX: usize = 4096;

impl Facts {
    /// The result of an operator over constants as a constant, where it is not much larger than they are.
    fn fold(&mut self, op: OpId, attrs: &Attrs, args: &[ConstId], ty: &TensorType) -> Option<ConstId> {
        let key = (op, attrs.clone(), args.to_vec());
        if let Some(done) = self.folded.get(&key) {
            return Some(*done);
        }
        let outs = std::slice::from_ref(ty);
        let price = self.budget.price(&self.consts, op, attrs, args, outs)?;
        let constants: Vec<&Const> = args.iter().filter_map(|c| self.consts.get(c.0 as usize)).collect();
        let inputs = constants.iter().try_fold(0usize, |sum, c| sum.checked_add(c.ty.bytes()?))?;
        let grows = price.bytes > inputs.saturating_mul(2).max(EAGER_BYTES_MAX);
        if grows || interp::depends_on_host(op, outs) || !self.budget.admits(&price) {
            return None;
        }
        let small = inputs.max(price.bytes) <= EAGER_BYTES_MAX && price.own <= AT_ONCE_WORK_MAX;
        let tensors = small.then(|| constants.iter().map(|c| small_tensor(c)).collect::<Option<Vec<_>>>());
        let data = match tensors.flatten() {
            Some(tensors) => {
                ConstData::Bytes(interp::eval(op, attrs, &tensors).ok()?.into_iter().next()?.data)
            }
            None => ConstData::Recipe { op, attrs: attrs.clone(), args: args.to_vec(), out: 0 },
        };
        let id = self.add_const(Const { ty: ty.clone(), data }, None);
        self.budget.spend(&price);
        self.budget.is_recipe(id, &price);
        self.folded.insert(key, id);
        Some(id)
    }
}

/// Recipes deeper than this have no known bound.
const BOUND_DEPTH_MAX: usize = 8;

impl Facts {
    /// A bound on the absolute values of a constant's elements: infinite where one is no number, or where a recipe is
    /// not made of products, sums and moves.
    pub fn largest(&self, id: ConstId) -> f64 {
        self.bound(id, BOUND_DEPTH_MAX)
    }

    /// The value of a constant of at most so many elements.
    pub fn tensor(&self, id: ConstId, most: usize) -> Option<Tensor> {
        let shape = self.consts.get(id.0 as usize)?.ty.concrete()?;
        if crate::tensor::numel(&shape)? > most {
            return None;
        }
        let graph = Graph { consts: self.consts.clone(), ..Graph::default() };
        interp::const_tensor(&graph, id).ok()
    }

    /// The least absolute value of a constant's elements; 0 where it is a recipe or one is no number.
    pub fn least(&self, id: ConstId) -> f64 {
        let smaller = |m: f64, v: f64| if v.is_nan() { 0.0 } else { m.min(v.abs()) };
        let Some(constant) = self.consts.get(id.0 as usize) else { return 0.0 };
        let elements = match &constant.data {
            ConstData::Bytes(bytes) | ConstData::Splat(bytes) => bytes.clone(),
            ConstData::Recipe { .. } => return 0.0,
        };
        let count = elements.len() / constant.ty.dtype.size().max(1);
        let tensor = Tensor::from_bytes(constant.ty.dtype, vec![count], elements);
        tensor.map_or(0.0, |t| t.to_f64().into_iter().fold(f64::INFINITY, smaller))
    }

    fn bound(&self, id: ConstId, depth: usize) -> f64 {
        let Some(constant) = self.consts.get(id.0 as usize) else { return f64::INFINITY };
        let elements = match &constant.data {
            ConstData::Bytes(bytes) => bytes.clone(),
            ConstData::Splat(element) => element.clone(),
            ConstData::Recipe { op, args, .. } if depth > 0 => {
                let mut bounds = args.iter().map(|a| self.bound(*a, depth - 1));
                return match op.name() {
                    "mul" => bounds.product(),
                    "add" | "sub" => bounds.sum(),
                    "concat" => bounds.fold(0.0, f64::max),
                    "reshape" | "transpose" | "expand" | "slice" | "gather" => {
                        bounds.next().unwrap_or(f64::INFINITY)
                    }
                    _ => f64::INFINITY,
                };
            }
            ConstData::Recipe { .. } => return f64::INFINITY,
        };
        let dtype = constant.ty.dtype;
        let larger = |m: f64, v: f64| if v.is_nan() { f64::INFINITY } else { m.max(v.abs()) };
        if dtype == DType::F32 {
            let values = elements.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            return values.fold(0.0, |m, v| larger(m, v.into()));
        }
        let count = elements.len() / dtype.size().max(1);
        let tensor = Tensor::from_bytes(dtype, vec![count], elements);
        tensor.map_or(f64::INFINITY, |t| t.to_f64().into_iter().fold(0.0, larger))
    }
}

/// The tensor of a small constant that is not a recipe.
fn small_tensor(constant: &Const) -> Option<Tensor> {
    let shape = constant.ty.concrete()?;
    let data = match &constant.data {
        ConstData::Bytes(bytes) if bytes.len() <= EAGER_BYTES_MAX => bytes.clone(),
        ConstData::Splat(element) => element.repeat(crate::tensor::numel(&shape)?).into(),
        _ => return None,
    };
    Tensor::from_bytes(constant.ty.dtype, shape, data)
}

/// The number that every element of a small constant is.
fn uniform(constant: &Const) -> Option<f64> {
    let one = match &constant.data {
        ConstData::Splat(element) => Tensor::from_bytes(constant.ty.dtype, vec![1], element.clone())?,
        ConstData::Bytes(bytes) if bytes.len() <= EAGER_BYTES_MAX && constant.ty.dtype.size() > 0 => {
            let mut elements = bytes.chunks_exact(constant.ty.dtype.size());
            let first = elements.next()?;
            if elements.any(|e| e != first) {
                return None;
            }
            Tensor::from_bytes(constant.ty.dtype, vec![1], bytes.slice_ref(first))?
        }
        _ => return None,
    };
    one.to_f64().first().copied()
}

/// Whether every element of the result is an element of the first argument.
fn moves(op: OpId) -> bool {
    matches!(op.name(), "reshape" | "transpose" | "expand" | "slice")
}

/// The data of an operator from those of its children.
fn operator(egraph: &mut EGraph, op: OpId, children: &[Id]) -> Result<Data, OpError> {
    let (attrs, args) = children.split_first().ok_or("it has no attributes")?;
    let attrs = egraph[*attrs].data.attrs().ok_or("its first child is no attributes")?;
    let datas: Vec<&Data> = args.iter().map(|a| &egraph[*a].data).collect();
    let types: Option<Vec<&TensorType>> = datas.iter().map(|d| d.ty()).collect();
    let types = types.ok_or("an argument is not one tensor")?;
    let (results, _) = crate::graph::infer(op, attrs, &types)?;
    let contents: Vec<Option<&[Dim]>> = datas.iter().map(|d| d.content.as_deref()).collect();
    let known = match results.as_slice() {
        [out] => content(op, attrs, &types, &contents, out),
        _ => None,
    };
    let uniform = datas.first().and_then(|d| d.uniform).filter(|_| moves(op));
    let constants: Option<Vec<ConstId>> = datas.iter().map(|d| d.constant).collect();
    let mut data = Data::new(Kind::Tensors(results.into()), known);
    data.uniform = uniform;
    let attrs = attrs.clone();
    let symbolic = |a: &Attr| matches!(a, Attr::Dims(dims) if dims.iter().any(|d| d.as_const().is_none()));
    if let (Some(constants), Some(ty)) = (constants, data.ty().cloned())
        && ty.concrete().is_some()
        && !attrs.iter().any(|(_, a)| symbolic(a))
    {
        data.constant = egraph.analysis.fold(op, &attrs, &constants, &ty);
    }
    Ok(data)
}

fn facts(egraph: &mut EGraph, node: &ENode) -> Result<Data, OpError> {
    match node {
        ENode::Op(op, children) => operator(egraph, *op, children).map_err(|e| format!("{}: {e}", op.name())),
        ENode::Result(i, [of]) => match &egraph[*of].data.kind {
            Kind::Tensors(types) => {
                let ty = types.get(*i as usize).ok_or_else(|| format!("there is no result {i}"))?;
                Ok(Data::new(Kind::Tensors([ty.clone()].into()), None))
            }
            _ => Err(format!("result {i} of what has no results")),
        },
        ENode::Approx(_, [of]) => match &egraph[*of].data.kind {
            Kind::Poison => Err("the approximation of what has no type".into()),
            kind => Ok(Data::new(kind.clone(), None)),
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
            | merge_option(&mut a.constant, b.constant, |x, y| x <= y)
            | merge_option(&mut a.uniform, b.uniform, |_, _| true)
            | merge_option(&mut a.loc, b.loc, |x, y| x <= y)
            | merge_option(&mut a.name, b.name, |x, y| x <= y)
    }

    /// A class that is known to be a constant gets the constant as a node.
    fn modify(egraph: &mut EGraph, id: Id) {
        if let Some(constant) = egraph[id].data.constant
            && !egraph[id].nodes.contains(&ENode::Const(constant))
        {
            let leaf = egraph.add(ENode::Const(constant));
            egraph.union(id, leaf);
        }
    }
}

/// Keeps what is known, and of two the one that `keep` prefers.
pub(super) fn merge_option<T: PartialEq>(
    a: &mut Option<T>,
    b: Option<T>,
    keep: impl Fn(&T, &T) -> bool,
) -> DidMerge {
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
