//! The reference interpreter: runs a graph with each operator's reference semantics.
//!
//! It is slow and exact (floats in f64, rounded once an operation), and the oracle of every test. Graphs must be valid
//! ([`crate::verify`]); one that is not gives an error where the interpreter meets the defect.

use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Cond, ConstData, ConstId, Def, Graph, Node, SymbolSource, ValueId};
use crate::op::{EvalCx, InferCx, OpError, OpId, TensorType};
use crate::tensor::{Tensor, numel};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Results larger than this are refused rather than allocated.
pub const TENSOR_BYTES_MAX: usize = 1 << 35;

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}{}: {message}", if loc.is_empty() { String::new() } else { format!(" {loc:?}") })]
pub struct RunError {
    /// Name of the ONNX node; empty when no node is to blame.
    pub loc: Arc<str>,
    /// Name of the operator; `input`, `guard` or `output` when no node is to blame.
    pub op: &'static str,
    /// What is wrong, with the numbers.
    pub message: String,
}

impl RunError {
    fn new(op: &'static str, message: impl Into<String>) -> RunError {
        RunError { loc: "".into(), op, message: message.into() }
    }
}

/// Values of the symbols of a graph.
pub type Binding = BTreeMap<Arc<str>, i64>;

/// Runs a graph: one tensor for each of its outputs.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
    run_tapped(graph, inputs, &mut |_, _| {})
}

/// As [`run`], and shows `tap` every result of every node.
pub fn run_tapped(
    graph: &Graph,
    inputs: &[Tensor],
    tap: &mut dyn FnMut(ValueId, &Tensor),
) -> Result<Vec<Tensor>, RunError> {
    let symbols = bind(graph, inputs)?;
    check_guards(graph, &symbols)?;
    let mut frame = Frame { graph, inputs, consts: Memo::default(), results: BTreeMap::new() };
    let dying = last_uses(graph);
    for (i, node) in graph.nodes.iter().enumerate() {
        let fail = |message| RunError { loc: node.loc.clone(), op: node.op.name(), message };
        let results = frame.eval(node, &symbols).map_err(fail)?;
        for (v, tensor) in node.outs.iter().zip(results) {
            tap(*v, &tensor);
            frame.results.insert(*v, tensor);
        }
        for v in &dying[i] {
            frame.results.remove(v);
        }
    }
    let fail = |message| RunError::new("output", message);
    graph.outputs.iter().map(|o| frame.value(o.value).map_err(fail)).collect()
}

/// Reads the symbols' values from inputs, and checks their bounds and the inputs' types.
pub fn bind(graph: &Graph, inputs: &[Tensor]) -> Result<Binding, RunError> {
    let fail = |message: String| RunError::new("input", message);
    if inputs.len() != graph.inputs.len() {
        return Err(fail(format!("needs {} inputs, got {}", graph.inputs.len(), inputs.len())));
    }
    let mut symbols = Binding::new();
    for (name, symbol) in &graph.symbols {
        let value = match symbol.source {
            SymbolSource::InputDim { input, axis } => {
                inputs.get(input).and_then(|t| t.shape.get(axis)).map(|d| *d as i64)
            }
            SymbolSource::InputElem { input, index } => inputs.get(input).and_then(|t| {
                let size = t.dtype.size();
                let bytes = t.data.get(index.checked_mul(size)?..)?.get(..size)?;
                i64::try_from(crate::encode::int(t.dtype, bytes)).ok()
            }),
        };
        let value = value.ok_or_else(|| fail(format!("the symbol `{name}` has no value")))?;
        if !(symbol.min..=symbol.max).contains(&value) {
            let (min, max) = (symbol.min, symbol.max);
            return Err(fail(format!("`{name}` is {value}, but must be in {min}..={max}")));
        }
        symbols.insert(name.clone(), value);
    }
    for (v, tensor) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(*v);
        let at = |message: String| fail(format!("{:?}: {message}", value.name));
        if tensor.dtype != value.ty.dtype {
            return Err(at(format!("needs element type {}, got {}", value.ty.dtype, tensor.dtype)));
        }
        let (_, want) = resolve_type(&value.ty, &symbols).map_err(at)?;
        if want != tensor.shape {
            return Err(at(format!("needs extents {want:?} ({}), got {:?}", value.ty, tensor.shape)));
        }
    }
    Ok(symbols)
}

/// The value of a dim.
pub fn resolve(dim: &Dim, symbols: &Binding) -> Result<i64, OpError> {
    dim.eval(&|s| symbols.get(s).copied()).ok_or_else(|| format!("{dim} has no value"))
}

fn resolve_type(ty: &TensorType, symbols: &Binding) -> Result<(DType, Vec<usize>), OpError> {
    let extent = |d: &Dim| {
        let v = resolve(d, symbols)?;
        usize::try_from(v).map_err(|_| format!("the extent {d} is {v}"))
    };
    Ok((ty.dtype, ty.shape.iter().map(extent).collect::<Result<_, _>>()?))
}

/// Attributes with dims replaced by their values.
fn resolve_attrs(attrs: &Attrs, symbols: &Binding) -> Result<Attrs, OpError> {
    if !attrs.iter().any(|(_, a)| matches!(a, Attr::Dims(_))) {
        return Ok(attrs.clone());
    }
    let one = |(name, attr): (&'static str, &Attr)| {
        Ok((
            name,
            match attr {
                Attr::Dims(dims) => {
                    Attr::Ints(dims.iter().map(|d| resolve(d, symbols)).collect::<Result<_, OpError>>()?)
                }
                other => other.clone(),
            },
        ))
    };
    Ok(Attrs::new(attrs.iter().map(one).collect::<Result<Vec<_>, OpError>>()?))
}

fn check_guards(graph: &Graph, symbols: &Binding) -> Result<(), RunError> {
    let fail = |message: String| RunError::new("guard", message);
    for guard in &graph.guards {
        let (Cond::Eq(a, b) | Cond::Le(a, b) | Cond::Broadcast(a, b)) = &guard.cond;
        let (x, y) = (resolve(a, symbols).map_err(fail)?, resolve(b, symbols).map_err(fail)?);
        let holds = match &guard.cond {
            Cond::Eq(..) => x == y,
            Cond::Le(..) => x <= y,
            Cond::Broadcast(..) => x == y || x == 1 || y == 1,
        };
        if !holds {
            return Err(fail(format!("{} [{x} vs {y}]", guard.message)));
        }
    }
    Ok(())
}

/// For each node, the results that nothing after it reads.
fn last_uses(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut dying = vec![Vec::new(); graph.nodes.len()];
    let mut needed: BTreeSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        for v in node.args.iter().chain(&node.outs) {
            if needed.insert(*v) {
                dying[i].push(*v);
            }
        }
    }
    dying
}

struct Frame<'a> {
    graph: &'a Graph,
    inputs: &'a [Tensor],
    consts: Memo,
    /// Live results of nodes.
    results: BTreeMap<ValueId, Tensor>,
}

impl Frame<'_> {
    fn value(&mut self, v: ValueId) -> Result<Tensor, OpError> {
        let missing = || format!("value {} is not defined", v.0);
        match self.graph.values.get(v.0 as usize).ok_or_else(missing)?.def {
            Def::Input(i) => self.inputs.get(i).cloned().ok_or_else(missing),
            Def::Const(c) => self.consts.get(self.graph, c),
            Def::Node(..) => self.results.get(&v).cloned().ok_or_else(missing),
        }
    }

    fn eval(&mut self, node: &Node, symbols: &Binding) -> Result<Vec<Tensor>, OpError> {
        if !node.regions.is_empty() {
            return Err("takes no regions".into());
        }
        let args = node.args.iter().map(|v| self.value(*v)).collect::<Result<Vec<_>, _>>()?;
        let types = node.outs.iter().map(|v| resolve_type(self.graph.ty(*v), symbols));
        let outs = types.collect::<Result<Vec<_>, _>>()?;
        eval_op(node.op, &resolve_attrs(&node.attrs, symbols)?, &args, &outs)
    }
}

/// Evaluates one operator on concrete arguments; attributes hold no dims.
fn eval_op(
    op: OpId,
    attrs: &Attrs,
    args: &[Tensor],
    outs: &[(DType, Vec<usize>)],
) -> Result<Vec<Tensor>, OpError> {
    for (dtype, shape) in outs {
        let bytes = numel(shape).and_then(|n| n.checked_mul(dtype.size()));
        if bytes.is_none_or(|b| b > TENSOR_BYTES_MAX) {
            return Err(format!("the result {dtype}{shape:?} is too large"));
        }
    }
    let results = (op.def().eval)(&EvalCx { args, attrs, outs })?;
    if results.len() != outs.len() {
        return Err(format!("has {} results, evaluated to {}", outs.len(), results.len()));
    }
    for (tensor, (dtype, shape)) in results.iter().zip(outs) {
        if tensor.dtype != *dtype || tensor.shape != *shape {
            let got = (tensor.dtype, &tensor.shape);
            return Err(format!("infers {dtype}{shape:?}, evaluates to {}{:?}", got.0, got.1));
        }
    }
    Ok(results)
}

/// Infers and evaluates one operator on concrete arguments.
pub fn eval(op: OpId, attrs: &Attrs, args: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let tys: Vec<TensorType> = args.iter().map(type_of).collect();
    let (types, _) = crate::graph::infer(op, attrs, &tys.iter().collect::<Vec<_>>())?;
    let none = Binding::new();
    let outs = types.iter().map(|t| resolve_type(t, &none)).collect::<Result<Vec<_>, _>>()?;
    eval_op(op, &resolve_attrs(attrs, &none)?, args, &outs)
}

/// Operators that the reference semantics compute with functions of the host's C library.
const HOST_FUNCTIONS: &[&str] = &[
    "exp",
    "log",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "pow",
    "erf",
    "sigmoid",
    "softmax",
    "gelu",
    "silu",
    "attention",
    "recurrent",
];

/// Whether the last bits of an evaluation depend on the machine: C libraries differ in them, and one library chooses by
/// processor. Such a result must not become a constant of an engine.
///
/// Narrower floats hide the difference: they are rounded once from f64, and the libraries agree in 29 bits more.
pub fn depends_on_host(op: OpId, outs: &[TensorType]) -> bool {
    outs.iter().any(|ty| ty.dtype == DType::F64) && HOST_FUNCTIONS.contains(&op.name())
}

/// Elements that one evaluation of an operator reads, computes and writes; `None` where that is not a number.
pub fn eval_cost(op: OpId, attrs: &Attrs, args: &[&TensorType], outs: &[TensorType]) -> Option<u64> {
    let cx = InferCx { args, attrs, guards: Default::default() };
    let elems = |ty: &TensorType| ty.numel().as_const().and_then(|n| u64::try_from(n).ok());
    let work = outs.first().map_or(Some(0), |out| (op.def().work)(&cx, out).flops.as_const());
    let mut cost = u64::try_from(work?).ok()?;
    for ty in args.iter().copied().chain(outs) {
        cost = cost.checked_add(elems(ty)?)?;
    }
    Some(cost)
}

fn type_of(tensor: &Tensor) -> TensorType {
    TensorType::new(tensor.dtype, tensor.shape.iter().map(|d| Dim::from(*d)).collect())
}

/// The tensor of a constant, evaluating its recipe.
pub fn const_tensor(graph: &Graph, id: ConstId) -> Result<Tensor, OpError> {
    Memo::default().get(graph, id)
}

/// Constants evaluated so far.
#[derive(Default)]
struct Memo(BTreeMap<ConstId, Tensor>);

impl Memo {
    fn get(&mut self, graph: &Graph, id: ConstId) -> Result<Tensor, OpError> {
        // Recipes use earlier constants only, so ascending order is an order of evaluation. A stack rather than
        // recursion, because chains of recipes may be long.
        let (mut needed, mut stack) = (BTreeSet::new(), vec![id]);
        while let Some(c) = stack.pop() {
            let constant =
                graph.consts.get(c.0 as usize).ok_or_else(|| format!("constant {} does not exist", c.0))?;
            if self.0.contains_key(&c) || !needed.insert(c) {
                continue;
            }
            if let ConstData::Recipe { args, .. } = &constant.data {
                if let Some(later) = args.iter().find(|a| **a >= c) {
                    return Err(format!("constant {} is made from the later constant {}", c.0, later.0));
                }
                stack.extend(args);
            }
        }
        for c in needed {
            let tensor = self.make(graph, c)?;
            self.0.insert(c, tensor);
        }
        self.0.get(&id).cloned().ok_or_else(|| format!("constant {} does not exist", id.0))
    }

    fn make(&self, graph: &Graph, id: ConstId) -> Result<Tensor, OpError> {
        let constant = &graph.consts[id.0 as usize];
        let (dtype, shape) = resolve_type(&constant.ty, &Binding::new())?;
        let bytes = numel(&shape).and_then(|n| n.checked_mul(dtype.size()));
        let bytes = bytes
            .filter(|b| *b <= TENSOR_BYTES_MAX)
            .ok_or_else(|| format!("{} is too large", constant.ty))?;
        let data = match &constant.data {
            ConstData::Bytes(data) => data.clone(),
            ConstData::Splat(element) => element.repeat(bytes / dtype.size().max(1)).into(),
            ConstData::Recipe { op, attrs, args, out } => {
                let args: Vec<Tensor> = args.iter().filter_map(|a| self.0.get(a).cloned()).collect();
                let results = eval(*op, attrs, &args).map_err(|e| format!("{}: {e}", op.name()))?;
                results
                    .into_iter()
                    .nth(*out)
                    .ok_or_else(|| format!("{} has no result {out}", op.name()))?
                    .data
            }
        };
        let wrong = || format!("constant {} does not have the bytes of {}", id.0, constant.ty);
        Tensor::from_bytes(dtype, shape, data).ok_or_else(wrong)
    }
}
