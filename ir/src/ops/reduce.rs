//! Folds over axes.

use super::common::{Domain, fit, known, require_le, work_per_input};
use super::scalar;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{
    Arity, AttrKind, AttrSpec, ContentCx, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, normalise_axis,
};
use crate::tensor::{Elements, Tensor, numel, strides};

/// Which axes an attribute names.
fn mask(axes: &[i64], rank: usize) -> Result<Vec<bool>, OpError> {
    let mut mask = vec![false; rank];
    for axis in axes {
        let i = normalise_axis(*axis, rank)?;
        if std::mem::replace(&mut mask[i], true) {
            return Err(format!("axis {axis} is listed twice"));
        }
    }
    Ok(mask)
}

fn reduced_shape(shape: &[Dim], mask: &[bool], keep: bool) -> Vec<Dim> {
    let folded = shape.iter().zip(mask).filter(|(_, m)| keep || !**m);
    folded.map(|(d, m)| if *m { Dim::from(1) } else { d.clone() }).collect()
}

fn infer_reduce(cx: &InferCx<'_>, domain: Domain) -> Result<Vec<TensorType>, OpError> {
    let x = cx.arg(0)?;
    domain.require(x)?;
    let mask = mask(cx.attrs.ints("axes"), x.rank())?;
    Ok(vec![TensorType::new(x.dtype, reduced_shape(&x.shape, &mask, cx.attrs.flag("keepdims")))])
}

/// For each element of a tensor, the flat index of the group that it folds into, and the number of groups.
fn groups(shape: &[usize], mask: &[bool]) -> (Vec<usize>, usize) {
    let kept: Vec<usize> = shape.iter().zip(mask).map(|(d, m)| if *m { 1 } else { *d }).collect();
    let view = super::view::View::broadcast(&kept, shape);
    let count = numel(&kept).unwrap_or(0);
    (view.indices(count).unwrap_or_default(), count)
}

fn fold<T: Copy>(values: Vec<T>, groups: &(Vec<usize>, usize), start: T, f: impl Fn(T, T) -> T) -> Vec<T> {
    let mut out = vec![start; groups.1];
    for (v, g) in values.into_iter().zip(&groups.0) {
        out[*g] = f(out[*g], v);
    }
    out
}

type Fold<T> = (fn(DType) -> T, fn(T, T) -> T);

fn eval_reduce(cx: &EvalCx<'_>, float: Fold<f64>, int: Fold<i128>) -> Result<Vec<Tensor>, OpError> {
    let (x, (dtype, shape)) = (cx.arg(0)?, cx.out(0)?);
    let groups = groups(&x.shape, &mask(cx.attrs.ints("axes"), x.shape.len())?);
    let folded = match x.elements() {
        Elements::Float(v) => Elements::Float(fold(v, &groups, float.0(*dtype), float.1)),
        Elements::Int(v) => Elements::Int(fold(v, &groups, int.0(*dtype), int.1)),
    };
    Ok(vec![Tensor::from_elements(*dtype, shape.clone(), &folded)])
}

fn content_reduce(cx: &ContentCx<'_>, start: Dim, f: fn(&Dim, &Dim) -> Dim) -> Option<Vec<Dim>> {
    let (content, shape) = known(cx, 0)?;
    let (of, count) = groups(&shape, &mask(cx.attrs.ints("axes"), shape.len()).ok()?);
    let mut out: Vec<Option<Dim>> = vec![None; count];
    for (d, g) in content.iter().zip(of) {
        out[g] = Some(out[g].as_ref().map_or_else(|| d.clone(), |sum| f(sum, d)));
    }
    out.into_iter().map(|d| fit(cx.out.dtype, d.unwrap_or_else(|| start.clone()))).collect()
}

/// The ends of a type without floats; bools are 0 and 1.
fn int_range(dtype: DType) -> (i128, i128) {
    dtype.int_range().unwrap_or((0, 1))
}

macro_rules! reductions {
    ($($id:ident $name:literal $domain:ident, $doc:literal, $float:expr, $int:expr, $content:expr, $samples:expr;)*) => { $(
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            arity: Arity::exactly(1),
            attrs: &[AttrSpec::required("axes", AttrKind::Ints), AttrSpec::required("keepdims", AttrKind::Int)],
            class: Fusion::Reduction,
            infer: |cx| infer_reduce(cx, Domain::$domain),
            eval: |cx| eval_reduce(cx, $float, $int),
            content: $content,
            work: work_per_input,
            samples: $samples,
        };
    )* };
}

const SAMPLES: &[&str] = &[
    "f32[2,3,N] {axes=[1], keepdims=1}",
    "i64[2,N] {axes=[0,1], keepdims=0}",
    "f16[N,2] {axes=[], keepdims=0}",
];

reductions! {
    REDUCE_SUM "reduce_sum" Number, "The sum over `axes`.", (|_| 0.0, |a, b| a + b), (|_| 0, |a, b| a + b),
        Some(|cx| content_reduce(cx, 0.into(), |a, b| a + b)), SAMPLES;
    REDUCE_PROD "reduce_prod" Number, "The product over `axes`.", (|_| 1.0, |a, b| a * b), (|_| 1, i128::wrapping_mul),
        Some(|cx| content_reduce(cx, 1.into(), |a, b| a * b)), SAMPLES;
    REDUCE_MAX "reduce_max" NumberOrBool, "The largest over `axes`; NaN wins, and no element gives the smallest value.",
        (|_| f64::NEG_INFINITY, scalar::max), (|d| int_range(d).0, i128::max),
        Some(|cx| content_reduce(cx, Dim::from_wrapped(cx.out.dtype, int_range(cx.out.dtype).0)?, |a, b| a.larger(b))),
        SAMPLES;
    REDUCE_MIN "reduce_min" NumberOrBool, "The smallest over `axes`; NaN wins, and no element gives the largest value.",
        (|_| f64::INFINITY, scalar::min), (|d| int_range(d).1, i128::min),
        Some(|cx| content_reduce(cx, Dim::from_wrapped(cx.out.dtype, int_range(cx.out.dtype).1)?, |a, b| a.smaller(b))),
        SAMPLES;
}

fn infer_arg(cx: &InferCx<'_>) -> Result<Vec<TensorType>, OpError> {
    let x = cx.arg(0)?;
    Domain::Number.require(x)?;
    let axis = cx.axis("axis", x.rank())?;
    require_le(cx, &1.into(), &x.shape[axis], "an empty axis has no largest or smallest element")?;
    let mask: Vec<bool> = (0..x.rank()).map(|i| i == axis).collect();
    Ok(vec![TensorType::new(DType::I64, reduced_shape(&x.shape, &mask, cx.attrs.flag("keepdims")))])
}

/// Position of the element that `better` prefers to all others along the axis; NaN is preferred to numbers.
fn eval_arg(cx: &EvalCx<'_>, larger: bool) -> Result<Vec<Tensor>, OpError> {
    let (x, last) = (cx.arg(0)?, cx.attrs.flag("last"));
    let axis = normalise_axis(cx.attrs.int("axis"), x.shape.len())?;
    let found = match x.elements() {
        Elements::Float(v) => arg(&v, &x.shape, axis, |new, old| {
            let better = if larger { new > old } else { new < old };
            let equal = new == old || new.is_nan() && old.is_nan();
            !old.is_nan() && (better || new.is_nan()) || last && equal
        }),
        Elements::Int(v) => arg(&v, &x.shape, axis, |new, old| {
            (if larger { new > old } else { new < old }) || last && new == old
        }),
    }?;
    Ok(vec![Tensor::i64s(cx.out(0)?.1.clone(), &found)])
}

fn arg<T: Copy>(
    v: &[T],
    shape: &[usize],
    axis: usize,
    better: impl Fn(T, T) -> bool,
) -> Result<Vec<i64>, OpError> {
    let (extent, inner) = (shape[axis], strides(shape)[axis].max(1));
    let lines: usize = shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| d).product();
    if extent == 0 && lines > 0 {
        return Err("an empty axis has no largest or smallest element".into());
    }
    let line = |i: usize| {
        let start = i / inner * extent * inner + i % inner;
        (1..extent)
            .fold(0, |best, j| if better(v[start + j * inner], v[start + best * inner]) { j } else { best })
    };
    Ok((0..lines).map(|i| line(i) as i64).collect())
}

macro_rules! arg_reductions {
    ($($id:ident $name:literal $doc:literal, $larger:literal;)*) => { $(
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            arity: Arity::exactly(1),
            attrs: &[
                AttrSpec::required("axis", AttrKind::Int),
                AttrSpec::required("keepdims", AttrKind::Int),
                AttrSpec::optional("last", AttrKind::Int),
            ],
            class: Fusion::Reduction,
            infer: infer_arg,
            eval: |cx| eval_arg(cx, $larger),
            content: None,
            work: work_per_input,
            samples: &["f32[2,N] {axis=0, keepdims=0}", "i64[N,3,2] {axis=1, keepdims=1, last=1}"],
        };
    )* };
}

arg_reductions! {
    ARG_MAX "arg_max" "The i64 index of the largest element along `axis`: the first, or with `last` the last of equals.", true;
    ARG_MIN "arg_min" "The i64 index of the smallest element along `axis`: the first, or with `last` the last of equals.", false;
}

/// Running sums along an axis.
pub static CUM_SUM: OpDef = OpDef {
    name: "cum_sum",
    doc: "Running sums along `axis`: up to and with each element, without it (`exclusive`), from the end (`reverse`).",
    arity: Arity::exactly(1),
    attrs: &[
        AttrSpec::required("axis", AttrKind::Int),
        AttrSpec::optional("exclusive", AttrKind::Int),
        AttrSpec::optional("reverse", AttrKind::Int),
    ],
    class: Fusion::Opaque,
    infer: |cx| {
        let x = cx.arg(0)?;
        Domain::Number.require(x)?;
        cx.axis("axis", x.rank())?;
        Ok(vec![x.clone()])
    },
    eval: |cx| {
        let x = cx.arg(0)?;
        let axis = normalise_axis(cx.attrs.int("axis"), x.shape.len())?;
        let sums = match x.elements() {
            Elements::Float(v) => Elements::Float(running(cx, v, &x.shape, axis, 0.0, |a, b| a + b)),
            Elements::Int(v) => Elements::Int(running(cx, v, &x.shape, axis, 0, |a, b| a + b)),
        };
        Ok(vec![Tensor::from_elements(x.dtype, x.shape.clone(), &sums)])
    },
    content: None,
    work: work_per_input,
    samples: &["f32[2,N] {axis=1}", "i64[N,3] {axis=0, exclusive=1, reverse=1}"],
};

fn running<T: Copy>(
    cx: &EvalCx<'_>,
    mut v: Vec<T>,
    shape: &[usize],
    axis: usize,
    zero: T,
    add: impl Fn(T, T) -> T,
) -> Vec<T> {
    let (exclusive, reverse) = (cx.attrs.flag("exclusive"), cx.attrs.flag("reverse"));
    let (extent, inner) = (shape[axis], strides(shape)[axis].max(1));
    let lines = v.len() / extent.max(1);
    for i in 0..lines {
        let start = i / inner * extent * inner + i % inner;
        let mut sum = zero;
        for j in 0..extent {
            let at = start + if reverse { extent - 1 - j } else { j } * inner;
            let next = add(sum, v[at]);
            v[at] = if exclusive { sum } else { next };
            sum = next;
        }
    }
    v
}
