//! The verifier: what must hold of every graph between passes.
//!
//! Ids
//! - every value, constant and operator id that a graph holds exists.
//!
//! Definitions
//! - input `i` of the graph is a value defined as input `i`; result `j` of node `n` is a value defined as that result;
//!   each value is defined exactly once, and none is defined by a node that does not list it;
//! - a node's arguments are inputs, constants or results of earlier nodes; outputs are defined values.
//!
//! Operators
//! - the number of arguments and the names and kinds of attributes are those that the operator declares;
//! - the types of the results are exactly those that the operator infers;
//! - no node has regions: no operator takes any.
//!
//! Dims
//! - no coefficient leaves `i64`; every symbol is declared; its bounds are in order; its source is an axis of an input
//!   or an element of an integer input, and then the lower bound of an axis is not negative.
//!
//! Constants
//! - extents are constant; dense bytes have the length of the type and a splat that of one element;
//! - a recipe uses earlier constants only (so recipes have no cycle) and gives the declared type;
//! - a value has the type of the constant that it is.
//!
//! Contents
//! - only integer and bool values of a constant number of elements have contents, one dim an element.

use crate::Attr;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Cond, Const, ConstData, ConstId, Def, Graph, SymbolSource, ValueId, infer};
use crate::op::{OpError, OpId, TensorType};
use crate::tensor::numel;
use std::collections::BTreeSet;
use std::fmt;

/// One violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The node (its operator and ONNX name), value, constant or symbol.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// All violations, in the order of the graph; none for a valid graph.
pub fn verify(graph: &Graph) -> Vec<Violation> {
    let mut v = Verifier { graph, found: Vec::new(), seen: BTreeSet::new() };
    v.symbols();
    v.constants();
    v.values();
    v.nodes();
    v.guards_and_outputs();
    v.found
}

struct Verifier<'a> {
    graph: &'a Graph,
    found: Vec<Violation>,
    /// Values defined by what was checked so far.
    seen: BTreeSet<ValueId>,
}

impl Verifier<'_> {
    fn report(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.found.push(Violation { at: at.into(), message: message.into() });
    }

    fn ty(&self, v: ValueId) -> Option<&TensorType> {
        self.graph.values.get(v.0 as usize).map(|v| &v.ty)
    }

    fn symbols(&mut self) {
        let graph = self.graph;
        for (name, symbol) in &graph.symbols {
            let at = format!("symbol `{name}`");
            if symbol.min > symbol.max {
                self.report(&at, format!("its bounds {}..={} are empty", symbol.min, symbol.max));
            }
            let input = |i: usize| graph.inputs.get(i).and_then(|v| self.ty(*v));
            match symbol.source {
                SymbolSource::InputDim { input: i, axis } => {
                    if input(i).is_none_or(|ty| axis >= ty.rank()) {
                        self.report(&at, format!("input {i} has no axis {axis}"));
                    }
                    if symbol.min < 0 {
                        self.report(&at, format!("an extent cannot be {}", symbol.min));
                    }
                }
                SymbolSource::InputElem { input: i, index } => {
                    let holds = |ty: &TensorType| {
                        (ty.dtype.is_int() || ty.dtype == DType::Bool)
                            && ty.numel().as_usize().is_none_or(|n| index < n)
                    };
                    if !input(i).is_some_and(holds) {
                        self.report(&at, format!("input {i} has no integer element {index}"));
                    }
                }
            }
        }
    }

    fn dims<'d>(&mut self, at: &str, dims: impl IntoIterator<Item = &'d Dim>) {
        for dim in dims {
            if !dim.is_sane() {
                self.report(at, format!("the dim {dim} overflows"));
            }
            let mut used = BTreeSet::new();
            dim.symbols(&mut used);
            for name in used {
                if !self.graph.symbols.contains_key(&name) {
                    self.report(at, format!("the symbol `{name}` is not declared"));
                }
            }
        }
    }

    fn constants(&mut self) {
        for (i, constant) in self.graph.consts.iter().enumerate() {
            if let Err(message) = self.constant(ConstId(i as u32), constant) {
                self.report(format!("constant {i}"), message);
            }
        }
    }

    fn constant(&self, id: ConstId, constant: &Const) -> Result<(), OpError> {
        let ty = &constant.ty;
        let shape = ty.concrete().ok_or_else(|| format!("the type {ty} is not concrete"))?;
        if ty.dtype == DType::Str {
            return Err("strings are no constants".into());
        }
        let size = ty.dtype.size();
        let bytes =
            numel(&shape).and_then(|n| n.checked_mul(size)).ok_or_else(|| format!("{ty} is too large"))?;
        match &constant.data {
            ConstData::Bytes(data) if data.len() != bytes => {
                Err(format!("{ty} takes {bytes} bytes, got {}", data.len()))
            }
            ConstData::Splat(data) if data.len() != size => {
                Err(format!("an element of {ty} takes {size} bytes, got {}", data.len()))
            }
            ConstData::Bytes(_) | ConstData::Splat(_) => Ok(()),
            ConstData::Recipe { op, attrs, args, out } => {
                if let Some(later) = args.iter().find(|a| **a >= id) {
                    return Err(format!("its recipe uses constant {}, which is not earlier", later.0));
                }
                known_op(*op)?;
                let tys: Vec<&TensorType> =
                    args.iter().map(|a| &self.graph.consts[a.0 as usize].ty).collect();
                let (types, _) = infer(*op, attrs, &tys).map_err(|e| format!("{}: {e}", op.name()))?;
                match types.get(*out) {
                    Some(got) if got == ty => Ok(()),
                    Some(got) => Err(format!("its recipe gives {got}, not {ty}")),
                    None => Err(format!("its recipe has no result {out}")),
                }
            }
        }
    }

    fn values(&mut self) {
        let graph = self.graph;
        for (i, v) in graph.inputs.iter().enumerate() {
            match graph.values.get(v.0 as usize) {
                Some(value) if value.def == Def::Input(i) => {}
                Some(_) => self.report(format!("input {i}"), format!("value {} is not defined as it", v.0)),
                None => self.report(format!("input {i}"), format!("value {} does not exist", v.0)),
            }
        }
        for (i, value) in graph.values.iter().enumerate() {
            let id = ValueId(i as u32);
            let at = if value.name.is_empty() {
                format!("value {i}")
            } else {
                format!("value {i} {:?}", value.name)
            };
            self.dims(&at, value.ty.shape.iter().chain(value.content.iter().flatten()));
            if let Some(content) = &value.content
                && (value.ty.dtype.is_float() || value.ty.numel().as_usize() != Some(content.len()))
            {
                self.report(&at, format!("{} cannot have {} known elements", value.ty, content.len()));
            }
            match value.def {
                Def::Input(n) if graph.inputs.get(n) != Some(&id) => {
                    self.report(&at, format!("it is not input {n} of the graph"));
                }
                Def::Const(c) => match graph.consts.get(c.0 as usize) {
                    None => self.report(&at, format!("constant {} does not exist", c.0)),
                    Some(constant) if constant.ty != value.ty => {
                        self.report(&at, format!("has type {}, its constant {}", value.ty, constant.ty));
                    }
                    Some(_) => {}
                },
                Def::Node(n, j) => {
                    let outs = graph.nodes.get(n.0 as usize).map(|n| &n.outs);
                    if outs.and_then(|outs| outs.get(j)) != Some(&id) {
                        self.report(&at, format!("it is not result {j} of node {}", n.0));
                    }
                }
                Def::Input(_) => {}
            }
            if !matches!(value.def, Def::Node(..)) {
                self.seen.insert(id);
            }
        }
    }

    fn nodes(&mut self) {
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let op = crate::ops::OPS.get(node.op.0 as usize).map_or("unknown operator", |o| o.name);
            let at =
                if node.loc.is_empty() { format!("{op} (node {i})") } else { format!("{op} {:?}", node.loc) };
            for (name, attr) in node.attrs.iter() {
                if let Attr::Dims(dims) = attr {
                    self.dims(&format!("{at}, attribute `{name}`"), dims);
                }
            }
            if !node.regions.is_empty() {
                self.report(&at, "takes no regions");
            }
            for arg in &node.args {
                if !self.seen.contains(arg) {
                    self.report(&at, format!("uses value {} before its definition", arg.0));
                }
            }
            if let Err(message) = self.types(node) {
                self.report(&at, message);
            }
            for out in &node.outs {
                if !self.seen.insert(*out) {
                    self.report(&at, format!("defines value {} again", out.0));
                }
            }
        }
    }

    fn types(&self, node: &crate::Node) -> Result<(), OpError> {
        known_op(node.op)?;
        let tys: Option<Vec<&TensorType>> = node.args.iter().map(|a| self.ty(*a)).collect();
        let (types, _) = infer(node.op, &node.attrs, &tys.ok_or("an argument does not exist")?)?;
        if types.len() != node.outs.len() {
            return Err(format!("has {} results, but {} values", types.len(), node.outs.len()));
        }
        for (want, out) in types.iter().zip(&node.outs) {
            match self.ty(*out) {
                Some(got) if got == want => {}
                Some(got) => return Err(format!("gives {want}, but value {} has type {got}", out.0)),
                None => return Err(format!("result {} does not exist", out.0)),
            }
        }
        Ok(())
    }

    fn guards_and_outputs(&mut self) {
        let graph = self.graph;
        for guard in &graph.guards {
            let (Cond::Eq(a, b) | Cond::Le(a, b) | Cond::Broadcast(a, b)) = &guard.cond;
            self.dims(&format!("guard {:?}", guard.message), [a, b]);
        }
        for output in &graph.outputs {
            if !self.seen.contains(&output.value) {
                self.report(
                    format!("output {:?}", output.name),
                    format!("value {} is not defined", output.value.0),
                );
            }
        }
    }
}

fn known_op(op: OpId) -> Result<(), OpError> {
    match crate::ops::OPS.get(op.0 as usize) {
        Some(_) => Ok(()),
        None => Err(format!("there is no operator {}", op.0)),
    }
}
