//! What the operator families share: checks of element types, proofs about extents, and known contents.

use super::view::View;
use crate::dim::{Dim, Extents};
use crate::dtype::DType;
use crate::encode;
use crate::graph::Cond;
use crate::op::{ContentCx, InferCx, OpError, TensorType, Work};

/// Which element types an operator takes.
#[derive(Clone, Copy)]
pub(crate) enum Domain {
    Float,
    Int,
    Unsigned,
    Number,
    NumberOrBool,
    Bool,
}

impl Domain {
    fn admits(self, d: DType) -> bool {
        match self {
            Domain::Float => d.is_float(),
            Domain::Int => d.is_int(),
            Domain::Unsigned => d.is_unsigned_int(),
            Domain::Number => d.is_float() || d.is_int(),
            Domain::NumberOrBool => d != DType::Str,
            Domain::Bool => d == DType::Bool,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Domain::Float => "a float type",
            Domain::Int => "an integer type",
            Domain::Unsigned => "an unsigned integer type",
            Domain::Number => "a number type",
            Domain::NumberOrBool => "a number type or bool",
            Domain::Bool => "bool",
        }
    }

    /// Refuses an argument outside the domain.
    pub(crate) fn require(self, x: &TensorType) -> Result<(), OpError> {
        if self.admits(x.dtype) {
            return Ok(());
        }
        Err(format!("needs {}, got {x}", self.name()))
    }
}

/// Refuses different element types.
pub(crate) fn require_same_dtype(a: &TensorType, b: &TensorType) -> Result<(), OpError> {
    if a.dtype == b.dtype {
        Ok(())
    } else {
        Err(format!("element types differ ({} vs {})", a.dtype, b.dtype))
    }
}

/// Refuses index types other than i32 and i64.
pub(crate) fn require_index(x: &TensorType) -> Result<(), OpError> {
    match x.dtype {
        DType::I64 | DType::I32 => Ok(()),
        _ => Err(format!("indices must be i64 or i32, got {x}")),
    }
}

/// Requires `a <= b`: an error if provably not, a guard if unknown.
pub(crate) fn require_le(cx: &InferCx<'_>, a: &Dim, b: &Dim, what: &str) -> Result<(), OpError> {
    let (lo, hi) = (b - a).range(&Extents);
    if hi < 0 {
        return Err(format!("{what} ({a} vs {b})"));
    }
    if lo < 0 {
        cx.guards.borrow_mut().push((Cond::Le(a.clone(), b.clone()), format!("{what} ({a} vs {b})")));
    }
    Ok(())
}

/// Requires a computed extent to be at least 0.
pub(crate) fn require_extent(cx: &InferCx<'_>, extent: &Dim) -> Result<(), OpError> {
    require_le(cx, &0.into(), extent, "an extent must not be negative")
}

/// Requires one entry an axis.
pub(crate) fn require_len(what: &str, len: usize, rank: usize) -> Result<(), OpError> {
    if len == rank { Ok(()) } else { Err(format!("`{what}` has {len} entries for {rank} axes")) }
}

/// One arithmetic operation an element of the result.
pub(crate) fn work_per_element(_cx: &InferCx<'_>, out: &TensorType) -> Work {
    Work { flops: out.numel() }
}

/// One arithmetic operation an element of the first argument.
pub(crate) fn work_per_input(cx: &InferCx<'_>, _out: &TensorType) -> Work {
    Work { flops: cx.args.first().map(|x| x.numel()).unwrap_or_default() }
}

/// No arithmetic.
pub(crate) fn no_work(_cx: &InferCx<'_>, _out: &TensorType) -> Work {
    Work::default()
}

/// A known element of an integer or bool tensor, wrapped as that type wraps; `None` where that cannot be known.
///
/// Symbolic values are taken to fit 32 bits and more: shape arithmetic is often done in i32, and an extent that
/// overflows it cannot be allocated by what produces such models. The run-time evaluation of dims is checked.
pub(crate) fn fit(dtype: DType, value: Dim) -> Option<Dim> {
    if let Some(v) = value.as_const() {
        return Dim::from_wrapped(dtype, i128::from(v));
    }
    if !value.is_sane() {
        return None;
    }
    let (lo, hi) = value.range(&Extents);
    let fits = match dtype {
        // Operators on bools keep 0 and 1, even where the interval of their polynomial is wider.
        DType::Bool | DType::I64 | DType::I32 => true,
        DType::U64 | DType::U32 => lo >= 0,
        _ => dtype.int_range().is_some_and(|(min, max)| lo >= min && hi <= max),
    };
    fits.then_some(value)
}

impl Dim {
    /// A number as an element of `dtype` holds it; `None` where that does not fit `i64`.
    pub(crate) fn from_wrapped(dtype: DType, v: i128) -> Option<Dim> {
        let wrapped = if dtype == DType::Bool { i128::from(v != 0) } else { encode::wrap(dtype, v) };
        i64::try_from(wrapped).ok().map(Dim::from)
    }
}

/// Known elements of argument `i`, and its extents.
pub(crate) fn known<'a>(cx: &ContentCx<'a>, i: usize) -> Option<(&'a [Dim], Vec<usize>)> {
    let content = (*cx.contents.get(i)?)?;
    let shape = cx.args.get(i)?.concrete()?;
    (crate::tensor::numel(&shape)? == content.len()).then_some((content, shape))
}

/// Known elements of argument `i` as numbers, if all are constant.
pub(crate) fn known_numbers(cx: &ContentCx<'_>, i: usize) -> Option<Vec<i64>> {
    (*cx.contents.get(i)?)?.iter().map(Dim::as_const).collect()
}

/// Argument `i` as the result sees it after broadcasting.
pub(crate) fn known_broadcast(cx: &ContentCx<'_>, i: usize) -> Option<Vec<Dim>> {
    let (content, shape) = known(cx, i)?;
    pick(content, &View::broadcast(&shape, &cx.out.concrete()?))
}

/// The elements that a view shows.
pub(crate) fn pick(content: &[Dim], view: &View) -> Option<Vec<Dim>> {
    let indices = view.indices(content.len()).ok()?;
    Some(indices.into_iter().map(|i| content[i].clone()).collect())
}

/// An attribute of dims as numbers, at compile time (constant dims) or at run time (already resolved to ints).
pub(crate) fn numbers(attrs: &crate::Attrs, name: &str) -> Option<Vec<i64>> {
    match attrs.get(name) {
        Some(crate::Attr::Ints(v)) => Some(v.clone()),
        Some(crate::Attr::Dims(v)) => v.iter().map(Dim::as_const).collect(),
        _ => None,
    }
}

/// As [`numbers`], where a missing value is an error.
pub(crate) fn require_numbers(attrs: &crate::Attrs, name: &str) -> Result<Vec<i64>, OpError> {
    numbers(attrs, name).ok_or_else(|| format!("attribute `{name}` is not resolved to numbers"))
}
