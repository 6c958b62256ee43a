//! Graphs as e-graphs (Willsey et al., "egg", POPL 2021).
//!
//! An operator is an e-node whose first child is a leaf with its attributes, so that patterns can bind them:
//! `(transpose ?p (transpose ?q ?x))`. In patterns `{}` is the leaf without attributes and `softmax{log=1}` one with
//! attributes as that operator declares them. An operator with several results is used through `result#i` nodes.
//!
//! The analysis keeps the type and the known elements of every class. A union of classes whose types differ, and an
//! operator that its own inference refuses, are recorded in [`Facts::poison`]: what is extracted from such an e-graph
//! must not be used.

mod convert;
mod facts;

pub use convert::{from_graph, to_graph};
pub use facts::{Data, Facts, Kind};

use crate::attrs::Attrs;
use crate::graph::ConstId;
use crate::op::{OpError, OpId};
use egg::{FromOp, Id, Language};
use smallvec::SmallVec;
use std::fmt;

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
    /// The approximation of a tensor with this id, unique in the e-graph. No rule looks through it: what holds for the
    /// tensor need not hold for what only approximates it.
    Approx(u32, [Id; 1]),
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
            ENode::Approx(i, _) => (5, *i),
        }
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (ENode::Op(a, x), ENode::Op(b, y)) => a == b && x.len() == y.len(),
            (ENode::Result(a, _), ENode::Result(b, _)) | (ENode::Approx(a, _), ENode::Approx(b, _)) => a == b,
            (ENode::Op(..) | ENode::Result(..) | ENode::Approx(..), _) => false,
            _ => self == other,
        }
    }

    fn children(&self) -> &[Id] {
        match self {
            ENode::Op(_, children) => children,
            ENode::Result(_, children) | ENode::Approx(_, children) => children,
            _ => &[],
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            ENode::Op(_, children) => children,
            ENode::Result(_, children) | ENode::Approx(_, children) => children,
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
            ENode::Approx(i, _) => write!(f, "approx#{i}"),
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
