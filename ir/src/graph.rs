//! The graph: values in SSA form and nodes in execution order.

use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::op::{ContentCx, InferCx, OpError, OpId, TensorType};
use crate::tensor::{Elements, Tensor};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Index of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstId(pub u32);

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// A model, or the body of a control-flow operator (which sees nothing but its inputs).
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name, for people.
    pub name: String,
    /// Every symbol that occurs in a dim.
    pub symbols: BTreeMap<Arc<str>, Symbol>,
    /// Inputs in order.
    pub inputs: Vec<ValueId>,
    /// Outputs in order; one value may be several outputs.
    pub outputs: Vec<Output>,
    /// All values.
    pub values: Vec<Value>,
    /// Nodes in an order in which every value is defined before it is used.
    pub nodes: Vec<Node>,
    /// Constants.
    pub consts: Vec<Const>,
    /// Conditions to check at run time, once the input shapes are known.
    pub guards: Vec<Guard>,
}

/// A named result of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// ONNX name.
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// Where a symbol's value comes from, and its inclusive bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Source.
    pub source: SymbolSource,
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

/// Where the runtime reads a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolSource {
    /// Extent `axis` of graph input `input`.
    InputDim {
        /// Which input.
        input: usize,
        /// Which axis.
        axis: usize,
    },
    /// Element `index` of the integer graph input `input`.
    InputElem {
        /// Which input.
        input: usize,
        /// Flat index.
        index: usize,
    },
}

/// An SSA value.
#[derive(Clone, Debug)]
pub struct Value {
    /// ONNX name, for messages and outputs; may be empty.
    pub name: String,
    /// Type.
    pub ty: TensorType,
    /// Definition.
    pub def: Def,
    /// Elements of a small integer tensor, where known at compile time.
    pub content: Option<Vec<Dim>>,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// The `i`-th input.
    Input(usize),
    /// A constant.
    Const(ConstId),
    /// Result `1` of a node.
    Node(NodeId, usize),
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// Operator.
    pub op: OpId,
    /// Attributes.
    pub attrs: Attrs,
    /// Arguments.
    pub args: Vec<ValueId>,
    /// Results.
    pub outs: Vec<ValueId>,
    /// Bodies of control flow; each sees only its own inputs.
    pub regions: Vec<Graph>,
    /// Name of the ONNX node it came from.
    pub loc: Arc<str>,
}

/// A constant tensor, computed when asked for.
#[derive(Clone, Debug)]
pub struct Const {
    /// Type; all extents are constant.
    pub ty: TensorType,
    /// Data.
    pub data: ConstData,
}

/// Bytes, or how to compute them.
#[derive(Clone, Debug)]
pub enum ConstData {
    /// Dense bytes in the layout of [`Tensor`], often a view of a mapped file.
    Bytes(Bytes),
    /// The same element everywhere.
    Splat(Bytes),
    /// An operator applied to earlier constants: evaluated only if the final graph uses it.
    Recipe {
        /// Operator.
        op: OpId,
        /// Attributes.
        attrs: Attrs,
        /// Arguments.
        args: Vec<ConstId>,
        /// Which result.
        out: usize,
    },
}

/// A condition on dims with the text to show when it does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Condition.
    pub cond: Cond,
    /// What the user should know.
    pub message: String,
}

/// A comparison of dims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// Equal.
    Eq(Dim, Dim),
    /// At most.
    Le(Dim, Dim),
    /// Equal, or one of them 1.
    Broadcast(Dim, Dim),
}

/// Content is tracked for integer tensors of at most this many elements.
pub const CONTENT_ELEMS_MAX: usize = 1024;

impl Graph {
    /// A value.
    pub fn value(&self, v: ValueId) -> &Value {
        &self.values[v.0 as usize]
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.value(v).ty
    }

    /// A node.
    pub fn node(&self, n: NodeId) -> &Node {
        &self.nodes[n.0 as usize]
    }

    /// The node that defines a value.
    pub fn producer(&self, v: ValueId) -> Option<&Node> {
        match self.value(v).def {
            Def::Node(n, _) => Some(self.node(n)),
            _ => None,
        }
    }

    /// The constant that a value is.
    pub fn constant(&self, v: ValueId) -> Option<ConstId> {
        match self.value(v).def {
            Def::Const(c) => Some(c),
            _ => None,
        }
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let def = Def::Input(self.inputs.len());
        let v = self.push_value(Value { name: name.into(), ty, def, content: None });
        self.inputs.push(v);
        v
    }

    /// Declares a symbol, or narrows the bounds of one that exists; its first source stays.
    pub fn add_symbol(&mut self, name: &str, source: SymbolSource, min: i64, max: i64) {
        let slot = self.symbols.entry(name.into()).or_insert(Symbol { source, min, max });
        slot.min = slot.min.max(min);
        slot.max = slot.max.min(max);
    }

    /// Adds a constant from a tensor.
    pub fn add_const(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let shape = tensor.shape.iter().map(|d| Dim::from(*d)).collect();
        let small_int = (tensor.dtype.is_int() || tensor.dtype == crate::DType::Bool)
            && tensor.numel() <= CONTENT_ELEMS_MAX;
        let content = small_int.then(|| tensor.elements()).and_then(|elements| match elements {
            Elements::Int(v) => v.into_iter().map(|x| i64::try_from(x).ok().map(Dim::from)).collect(),
            Elements::Float(_) => None,
        });
        let ty = TensorType::new(tensor.dtype, shape);
        self.add_lazy_const(name, Const { ty, data: ConstData::Bytes(tensor.data) }, content)
    }

    /// Adds a constant in any form.
    pub fn add_lazy_const(&mut self, name: &str, constant: Const, content: Option<Vec<Dim>>) -> ValueId {
        let id = ConstId(self.consts.len() as u32);
        self.consts.push(constant);
        self.add_const_value(name, id, content)
    }

    /// Adds a value for a constant of the pool.
    pub fn add_const_value(&mut self, name: &str, id: ConstId, content: Option<Vec<Dim>>) -> ValueId {
        let ty = self.consts[id.0 as usize].ty.clone();
        self.push_value(Value { name: name.into(), ty, def: Def::Const(id), content })
    }

    fn push_value(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        self.values.push(value);
        id
    }

    /// Appends a node: checks arity and attributes, infers its types, propagates contents, records guards.
    ///
    /// Errors name what is wrong, not where: the caller knows the node.
    pub fn add(
        &mut self,
        op: OpId,
        attrs: Attrs,
        args: Vec<ValueId>,
        loc: &Arc<str>,
    ) -> Result<Vec<ValueId>, OpError> {
        let tys: Vec<&TensorType> = args.iter().map(|a| self.ty(*a)).collect();
        let (types, conditions) = infer(op, &attrs, &tys)?;
        let known: Vec<_> = args.iter().map(|a| self.value(*a).content.as_deref()).collect();
        let content = types.first().and_then(|out| content(op, &attrs, &tys, &known, out));
        let content = content.filter(|dims| dims.iter().all(Dim::is_sane));
        self.guards.extend(conditions.into_iter().map(|condition| guard(op, loc, condition)));
        let id = NodeId(self.nodes.len() as u32);
        let mut contents = vec![None; types.len()];
        if let Some(first) = contents.first_mut() {
            *first = content;
        }
        let outs = types
            .into_iter()
            .zip(contents)
            .enumerate()
            .map(|(i, (ty, content))| {
                self.push_value(Value { name: String::new(), ty, def: Def::Node(id, i), content })
            })
            .collect::<Vec<_>>();
        self.nodes.push(Node { op, attrs, args, outs: outs.clone(), regions: Vec::new(), loc: loc.clone() });
        Ok(outs)
    }
}

/// Types of an operator's results, and the conditions with their texts that it needs and that could not be proven.
pub type Inferred = (Vec<TensorType>, Vec<(Cond, String)>);

/// Checks the signature of an operator on arguments of these types, and infers.
pub fn infer(op: OpId, attrs: &Attrs, args: &[&TensorType]) -> Result<Inferred, OpError> {
    check_signature(op, attrs, args.len())?;
    let cx = InferCx { args, attrs, guards: RefCell::default() };
    let types = (op.def().infer)(&cx)?;
    let conditions = cx.guards.into_inner();
    let compared = conditions.iter().flat_map(|(cond, _)| match cond {
        Cond::Eq(a, b) | Cond::Le(a, b) | Cond::Broadcast(a, b) => [a, b],
    });
    if !types.iter().flat_map(|ty| &ty.shape).chain(compared).all(Dim::is_sane) {
        return Err("an extent overflows, or is too complex an expression".into());
    }
    Ok((types, conditions))
}

/// A condition of an operator as the user sees it.
fn guard(op: OpId, loc: &str, (cond, text): (Cond, String)) -> Guard {
    let message = if loc.is_empty() { text } else { format!("{} {loc:?}: {text}", op.name()) };
    Guard { cond, message }
}

/// The guards that the operators of a graph need by themselves.
pub(crate) fn implied_guards(graph: &Graph) -> Vec<Guard> {
    let of = |node: &Node| {
        let tys: Vec<&TensorType> = node.args.iter().map(|a| graph.ty(*a)).collect();
        let conditions =
            infer(node.op, &node.attrs, &tys).map(|(_, conditions)| conditions).unwrap_or_default();
        conditions.into_iter().map(|condition| guard(node.op, &node.loc, condition)).collect::<Vec<_>>()
    };
    graph.nodes.iter().flat_map(of).collect()
}

/// Known elements of the first result of an operator, if it is a small tensor without floats.
pub(crate) fn content(
    op: OpId,
    attrs: &Attrs,
    args: &[&TensorType],
    contents: &[Option<&[Dim]>],
    out: &TensorType,
) -> Option<Vec<Dim>> {
    let small = out.numel().as_usize().is_some_and(|n| n <= CONTENT_ELEMS_MAX);
    if !small || out.dtype.is_float() {
        return None;
    }
    op.def().content?(&ContentCx { args, contents, attrs, out })
}

/// Checks the number of arguments and the names and kinds of attributes against the operator's declaration.
pub fn check_signature(op: OpId, attrs: &Attrs, args: usize) -> Result<(), OpError> {
    let def = op.def();
    if args < def.arity.min || args > def.arity.max {
        let want = if def.arity.min == def.arity.max {
            format!("{}", def.arity.min)
        } else {
            format!("{} to {}", def.arity.min, def.arity.max)
        };
        return Err(format!("takes {want} arguments, got {args}"));
    }
    for (name, attr) in attrs.iter() {
        let spec = def.attrs.iter().find(|s| s.name == name);
        let spec = spec.ok_or_else(|| format!("has no attribute `{name}`"))?;
        if !spec.kind.admits(attr) {
            return Err(format!("attribute `{name}` must be {:?}, got {attr:?}", spec.kind));
        }
        if let Attr::Dims(dims) = attr
            && let Some(d) = dims.iter().find(|d| !d.is_sane())
        {
            return Err(format!("attribute `{name}` overflows ({d})"));
        }
    }
    match def.attrs.iter().find(|s| s.required && attrs.get(s.name).is_none()) {
        Some(missing) => Err(format!("needs the attribute `{}`", missing.name)),
        None => Ok(()),
    }
}
