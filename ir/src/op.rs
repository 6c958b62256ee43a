//! What an operator is: one static [`OpDef`] holds its name, arguments, attributes, inference and reference semantics.

use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::Cond;
use crate::tensor::Tensor;
use std::cell::RefCell;
use std::fmt;

/// Element type and extents of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> TensorType {
        TensorType { dtype, shape }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> Dim {
        crate::dim::product(&self.shape)
    }

    /// Bytes of a tensor of this type, if its extents are constant and that fits.
    pub fn bytes(&self) -> Option<usize> {
        self.numel().as_usize()?.checked_mul(self.dtype.size())
    }

    /// Extents as numbers, if all are constant.
    pub fn concrete(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::as_usize).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("]")
    }
}

/// How many arguments an operator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least.
    pub min: usize,
    /// At most.
    pub max: usize,
}

impl Arity {
    /// Exactly `n`.
    pub const fn exactly(n: usize) -> Arity {
        Arity { min: n, max: n }
    }

    /// From `min` to `max`.
    pub const fn range(min: usize, max: usize) -> Arity {
        Arity { min, max }
    }
}

/// The kind of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of `Attr`")]
pub enum AttrKind {
    Int,
    Float,
    Str,
    DType,
    Ints,
    Dims,
}

impl AttrKind {
    /// Whether a value is of this kind.
    pub fn admits(self, attr: &Attr) -> bool {
        matches!(
            (self, attr),
            (AttrKind::Int, Attr::Int(_))
                | (AttrKind::Float, Attr::Float(_))
                | (AttrKind::Str, Attr::Str(_))
                | (AttrKind::DType, Attr::DType(_))
                | (AttrKind::Ints, Attr::Ints(_))
                | (AttrKind::Dims, Attr::Dims(_))
        )
    }
}

/// A declared attribute. One that is not required reads as 0, empty or none when absent.
#[derive(Clone, Copy, Debug)]
pub struct AttrSpec {
    /// Name.
    pub name: &'static str,
    /// Kind.
    pub kind: AttrKind,
    /// Whether every node must have it.
    pub required: bool,
}

impl AttrSpec {
    /// One that every node must have.
    pub const fn required(name: &'static str, kind: AttrKind) -> AttrSpec {
        AttrSpec { name, kind, required: true }
    }

    /// One that may be absent.
    pub const fn optional(name: &'static str, kind: AttrKind) -> AttrSpec {
        AttrSpec { name, kind, required: false }
    }
}

/// How an operator reads its arguments, which decides what it can be fused with (the kinds of Chen et al., "TVM",
/// OSDI 2018, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Each output element from the elements at (the broadcast of) its own index.
    Elementwise,
    /// Moves elements without computing.
    Movement,
    /// Folds over dimensions.
    Reduction,
    /// Multiplies and adds over a shared dimension.
    Contraction,
    /// None of these.
    Opaque,
}

/// Why an inference or evaluation failed: what, with the numbers.
pub type OpError = String;

/// What inference sees.
pub struct InferCx<'a> {
    /// Argument types.
    pub args: &'a [&'a TensorType],
    /// Attributes, already of the declared kinds.
    pub attrs: &'a Attrs,
    /// Conditions that the operator needs and that could not be proven: the caller turns them into guards.
    pub guards: RefCell<Vec<(Cond, String)>>,
}

impl InferCx<'_> {
    /// The type of argument `i`.
    pub fn arg(&self, i: usize) -> Result<&TensorType, OpError> {
        self.args.get(i).copied().ok_or_else(|| format!("argument {i} is missing"))
    }

    /// A normalised axis of a tensor of this rank from an attribute that counts from the end when negative.
    pub fn axis(&self, name: &str, rank: usize) -> Result<usize, OpError> {
        normalise_axis(self.attrs.int(name), rank)
    }

    /// Requires two extents to be equal: an error if they provably differ, a guard if unknown.
    pub fn require_eq(&self, a: &Dim, b: &Dim, what: &str) -> Result<(), OpError> {
        let difference = (a - b).as_const();
        match difference {
            Some(0) => Ok(()),
            Some(_) => Err(format!("{what} differ ({a} vs {b})")),
            None => {
                let text = format!("{what} must be equal ({a} vs {b})");
                self.guards.borrow_mut().push((Cond::Eq(a.clone(), b.clone()), text));
                Ok(())
            }
        }
    }

    /// The broadcast of two shapes (numpy rules), with guards where it depends on symbols.
    pub fn broadcast(&self, a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let rank = a.len().max(b.len());
        let one = Dim::from(1);
        let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(one.clone(), |j| s[j].clone());
        (0..rank)
            .map(|i| {
                let (x, y) = (at(a, i), at(b, i));
                let out = x.broadcast(&y).ok_or_else(|| format!("extents {x} and {y} do not broadcast"))?;
                if x != y && !x.is(1) && !y.is(1) {
                    let text = format!("extents {x} and {y} must be equal or one of them 1");
                    self.guards.borrow_mut().push((Cond::Broadcast(x, y), text));
                }
                Ok(out)
            })
            .collect()
    }
}

/// An axis counted from the start; negative ones count from the end.
pub fn normalise_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let r = rank as i64;
    if (-r..r).contains(&axis) {
        Ok(if axis < 0 { axis + r } else { axis } as usize)
    } else {
        Err(format!("axis {axis} is out of range for rank {rank}"))
    }
}

/// What evaluation sees: everything concrete. `Dims` attributes have become `Ints`.
pub struct EvalCx<'a> {
    /// Arguments.
    pub args: &'a [Tensor],
    /// Attributes.
    pub attrs: &'a Attrs,
    /// Inferred element type and extents of each result.
    pub outs: &'a [(DType, Vec<usize>)],
}

impl EvalCx<'_> {
    /// Argument `i`.
    pub fn arg(&self, i: usize) -> Result<&Tensor, OpError> {
        self.args.get(i).ok_or_else(|| format!("argument {i} is missing"))
    }

    /// Element type and extents of result `i`.
    pub fn out(&self, i: usize) -> Result<&(DType, Vec<usize>), OpError> {
        self.outs.get(i).ok_or_else(|| format!("result {i} has no type"))
    }
}

/// What content propagation sees: what is known of small integer arguments at compile time.
pub struct ContentCx<'a> {
    /// Argument types.
    pub args: &'a [&'a TensorType],
    /// Known elements of each argument, flat, as symbolic integers.
    pub contents: &'a [Option<&'a [Dim]>],
    /// Attributes.
    pub attrs: &'a Attrs,
    /// Inferred type of the (first) result.
    pub out: &'a TensorType,
}

/// Work of one evaluation, for rooflines.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Work {
    /// Arithmetic operations; a multiply-add counts 2.
    pub flops: Dim,
}

/// Elements of a small integer result as symbolic integers, where known.
pub type ContentFn = fn(&ContentCx<'_>) -> Option<Vec<Dim>>;

/// Everything there is to know of an operator.
pub struct OpDef {
    /// Name in textual IR.
    pub name: &'static str,
    /// One line: what it computes.
    pub doc: &'static str,
    /// Number of arguments.
    pub arity: Arity,
    /// Declared attributes, in the order of printing.
    pub attrs: &'static [AttrSpec],
    /// Fusion class.
    pub class: Fusion,
    /// Types of the results.
    pub infer: fn(&InferCx<'_>) -> Result<Vec<TensorType>, OpError>,
    /// Reference semantics.
    pub eval: fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>,
    /// Elements of a small integer result as symbolic integers, where known.
    pub content: Option<ContentFn>,
    /// Arithmetic work, from argument types, attributes and the first result's type.
    pub work: fn(&InferCx<'_>, &TensorType) -> Work,
    /// Textual samples for the property tests: argument types and attributes, `"f32[2,N], f32[3] {axis=1}"`.
    pub samples: &'static [&'static str],
}

/// Index into [`crate::ops::OPS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u16);

impl OpId {
    /// By name.
    pub fn of(name: &str) -> Option<OpId> {
        crate::ops::OPS.iter().position(|o| o.name == name).map(|i| OpId(i as u16))
    }

    /// The operator.
    pub fn def(self) -> &'static OpDef {
        crate::ops::OPS[self.0 as usize]
    }

    /// The operator's name.
    pub fn name(self) -> &'static str {
        self.def().name
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for OpDef {
    fn eq(&self, other: &OpDef) -> bool {
        std::ptr::eq(self, other)
    }
}
