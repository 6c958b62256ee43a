//! Operators that move elements without computing.

use super::common::{
    known, known_numbers, no_work, numbers, pick, require_extent, require_le, require_len, require_numbers,
    require_same_dtype,
};
use super::view::{View, walk};
use crate::dim::{Dim, Extents};
use crate::graph::Cond;
use crate::op::{Arity, AttrKind, AttrSpec, ContentCx, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType};
use crate::tensor::{Tensor, strides};
use bytes::Bytes;

/// A permutation attribute as axes; an error unless it is a permutation.
fn permutation(perm: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    require_len("perm", perm.len(), rank)?;
    let axes: Vec<usize> = perm.iter().filter_map(|p| usize::try_from(*p).ok()).collect();
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..rank) {
        Ok(axes)
    } else {
        Err(format!("{perm:?} is no permutation of {rank} axes"))
    }
}

fn dense(cx: &EvalCx<'_>, data: Bytes) -> Result<Vec<Tensor>, OpError> {
    let (dtype, shape) = cx.out(0)?.clone();
    let want = shape.clone();
    Tensor::from_bytes(dtype, shape, data)
        .map(|t| vec![t])
        .ok_or_else(|| format!("the result does not have the extents {want:?}"))
}

fn usizes(v: &[i64]) -> Result<Vec<usize>, OpError> {
    v.iter().map(|x| usize::try_from(*x).map_err(|_| format!("extent {x} is negative"))).collect()
}

/// The same elements in order under other extents.
pub static RESHAPE: OpDef = OpDef {
    name: "reshape",
    doc: "The same elements in order under the extents `shape`.",
    arity: Arity::exactly(1),
    attrs: &[AttrSpec::required("shape", AttrKind::Dims)],
    class: Fusion::Movement,
    infer: |cx| {
        let (x, shape) = (cx.arg(0)?, cx.attrs.dims("shape"));
        shape.iter().try_for_each(|d| require_extent(cx, d))?;
        let out = TensorType::new(x.dtype, shape.to_vec());
        cx.require_eq(&x.numel(), &out.numel(), "numbers of elements")?;
        Ok(vec![out])
    },
    eval: |cx| dense(cx, cx.arg(0)?.data.clone()),
    content: Some(|cx| known(cx, 0).map(|(content, _)| content.to_vec())),
    work: no_work,
    samples: &["f32[2,3,N] {shape=[6,N]}", "i64[4] {shape=[2,2,1]}"],
};

/// Permutes the axes.
pub static TRANSPOSE: OpDef = OpDef {
    name: "transpose",
    doc: "Permutes the axes: axis `i` of the result is axis `perm[i]` of `x`.",
    arity: Arity::exactly(1),
    attrs: &[AttrSpec::required("perm", AttrKind::Ints)],
    class: Fusion::Movement,
    infer: |cx| {
        let x = cx.arg(0)?;
        let perm = permutation(cx.attrs.ints("perm"), x.rank())?;
        Ok(vec![TensorType::new(x.dtype, perm.iter().map(|p| x.shape[*p].clone()).collect())])
    },
    eval: |cx| {
        let x = cx.arg(0)?;
        let perm = permutation(cx.attrs.ints("perm"), x.shape.len())?;
        dense(cx, View::transpose(&x.shape, &perm).copy(x)?)
    },
    content: Some(|cx| {
        let (content, shape) = known(cx, 0)?;
        pick(content, &View::transpose(&shape, &permutation(cx.attrs.ints("perm"), shape.len()).ok()?))
    }),
    work: no_work,
    samples: &["f32[2,3,N] {perm=[2,0,1]}", "i64[2,2] {perm=[1,0]}"],
};

/// Repeats along axes of extent 1.
pub static EXPAND: OpDef = OpDef {
    name: "expand",
    doc: "Broadcasts to exactly the extents `shape`.",
    arity: Arity::exactly(1),
    attrs: &[AttrSpec::required("shape", AttrKind::Dims)],
    class: Fusion::Movement,
    infer: infer_expand,
    eval: |cx| {
        let x = cx.arg(0)?;
        dense(cx, View::broadcast(&x.shape, &cx.out(0)?.1).copy(x)?)
    },
    content: Some(|cx| super::common::known_broadcast(cx, 0)),
    work: no_work,
    samples: &["f32[3,1] {shape=[2,3,N]}", "i64[] {shape=[2]}"],
};

fn infer_expand(cx: &InferCx<'_>) -> Result<Vec<TensorType>, OpError> {
    let (x, shape) = (cx.arg(0)?, cx.attrs.dims("shape"));
    shape.iter().try_for_each(|d| require_extent(cx, d))?;
    let Some(skip) = shape.len().checked_sub(x.rank()) else {
        return Err(format!("{} axes cannot hold the {} of {x}", shape.len(), x.rank()));
    };
    for (from, to) in x.shape.iter().zip(&shape[skip..]) {
        if from == to || from.is(1) {
            continue;
        }
        match from.as_const() {
            Some(_) => cx.require_eq(from, to, "extents")?,
            None => {
                let text = format!("extent {from} must be 1 or {to}");
                let joined = from.broadcast(to).ok_or_else(|| text.clone())?;
                let mut guards = cx.guards.borrow_mut();
                guards.push((Cond::Broadcast(from.clone(), to.clone()), text.clone()));
                // Broadcasting would also let `from` repeat a target extent of 1.
                if joined != *to || to.is(1) {
                    guards.push((Cond::Eq(joined, to.clone()), text));
                }
            }
        }
    }
    Ok(vec![TensorType::new(x.dtype, shape.to_vec())])
}

/// A box of elements at regular steps.
pub static SLICE: OpDef = OpDef {
    name: "slice",
    doc: "Element `i` of axis `a` is element `starts[a] + i * steps[a]` of `x`; one entry an axis, all inside `x`.",
    arity: Arity::exactly(1),
    attrs: &[
        AttrSpec::required("starts", AttrKind::Dims),
        AttrSpec::required("sizes", AttrKind::Dims),
        AttrSpec::required("steps", AttrKind::Ints),
    ],
    class: Fusion::Movement,
    infer: infer_slice,
    eval: |cx| {
        let x = cx.arg(0)?;
        dense(cx, slice_view(cx.attrs, &x.shape).ok_or("the slice is not resolved to numbers")?.copy(x)?)
    },
    content: Some(|cx| {
        let (content, shape) = known(cx, 0)?;
        pick(content, &slice_view(cx.attrs, &shape)?)
    }),
    work: no_work,
    samples: &[
        "f32[4,N] {starts=[1,0], sizes=[2,N], steps=[1,1]}",
        "i64[5] {starts=[4], sizes=[3], steps=[-2]}",
        "f32[N] {starts=[N-1], sizes=[N], steps=[-1]}",
    ],
};

fn slice_view(attrs: &crate::Attrs, shape: &[usize]) -> Option<View> {
    let (starts, sizes) = (numbers(attrs, "starts")?, usizes(&numbers(attrs, "sizes")?).ok()?);
    Some(View::slice(shape, &starts, &sizes, attrs.ints("steps")))
}

fn infer_slice(cx: &InferCx<'_>) -> Result<Vec<TensorType>, OpError> {
    let (x, starts, sizes) = (cx.arg(0)?, cx.attrs.dims("starts"), cx.attrs.dims("sizes"));
    let steps = cx.attrs.ints("steps");
    for (what, len) in [("starts", starts.len()), ("sizes", sizes.len()), ("steps", steps.len())] {
        require_len(what, len, x.rank())?;
    }
    for (axis, extent) in x.shape.iter().enumerate() {
        let (start, size, step) = (&starts[axis], &sizes[axis], steps[axis]);
        if step == 0 {
            return Err(format!("the step of axis {axis} is 0"));
        }
        require_extent(cx, size)?;
        if size.is(0) {
            continue;
        }
        let last = start + &(&(size - &1.into()) * &step.into());
        // The importer clamps, so only what is certainly outside is worth a message.
        for end in [start, &last] {
            let inside = end.range(&Extents).1 >= 0 && (extent - end).range(&Extents).1 >= 1;
            if !inside && size.as_const().is_some() {
                return Err(format!(
                    "the slice reads element {end} of axis {axis}, whose extent is {extent}"
                ));
            }
        }
    }
    Ok(vec![TensorType::new(x.dtype, sizes.to_vec())])
}

/// Joins tensors along an axis.
pub static CONCAT: OpDef = OpDef {
    name: "concat",
    doc: "Joins tensors along `axis`.",
    arity: Arity::range(1, usize::MAX),
    attrs: &[AttrSpec::required("axis", AttrKind::Int)],
    class: Fusion::Movement,
    infer: |cx| {
        let first = cx.arg(0)?;
        let axis = cx.axis("axis", first.rank())?;
        let mut shape = first.shape.clone();
        for x in &cx.args[1..] {
            require_same_dtype(first, x)?;
            if x.rank() != first.rank() {
                return Err(format!("ranks differ ({} vs {})", first.rank(), x.rank()));
            }
            for (i, d) in x.shape.iter().enumerate() {
                match i == axis {
                    true => shape[i] = &shape[i] + d,
                    false => cx.require_eq(&shape[i], d, &format!("extents of axis {i}"))?,
                }
            }
        }
        Ok(vec![TensorType::new(first.dtype, shape)])
    },
    eval: |cx| {
        let axis = crate::op::normalise_axis(cx.attrs.int("axis"), cx.arg(0)?.shape.len())?;
        let outer: usize = cx.arg(0)?.shape[..axis].iter().product();
        let mut data = Vec::with_capacity(cx.args.iter().map(|x| x.data.len()).sum());
        for i in 0..outer {
            for x in cx.args {
                let run = x.data.len() / outer;
                data.extend_from_slice(&x.data[i * run..(i + 1) * run]);
            }
        }
        dense(cx, data.into())
    },
    content: Some(content_concat),
    work: no_work,
    samples: &[
        "f32[2,N], f32[3,N] {axis=0}",
        "i64[1], i64[2], i64[1] {axis=0}",
        "f32[N,2], f32[N,M] {axis=1}",
    ],
};

fn content_concat(cx: &ContentCx<'_>) -> Option<Vec<Dim>> {
    let parts: Vec<_> = (0..cx.args.len()).map(|i| known(cx, i)).collect::<Option<_>>()?;
    let axis = crate::op::normalise_axis(cx.attrs.int("axis"), cx.out.rank()).ok()?;
    let outer: usize = parts.first()?.1[..axis].iter().product();
    let runs = (0..outer).flat_map(|i| parts.iter().map(move |(p, _)| (p, i, p.len() / outer)));
    Some(runs.flat_map(|(p, i, run)| p[i * run..(i + 1) * run].iter().cloned()).collect())
}

/// Adds elements around a tensor or cuts them off.
pub static PAD: OpDef = OpDef {
    name: "pad",
    doc: "`pad(x, value)`: adds `before` and `after` elements of the scalar `value` along each axis; negative numbers cut.",
    arity: Arity::exactly(2),
    attrs: &[AttrSpec::required("before", AttrKind::Dims), AttrSpec::required("after", AttrKind::Dims)],
    class: Fusion::Movement,
    infer: |cx| {
        let (x, value) = (cx.arg(0)?, cx.arg(1)?);
        require_same_dtype(x, value)?;
        if value.rank() != 0 {
            return Err(format!("the value must be a scalar, got {value}"));
        }
        let (before, after) = (cx.attrs.dims("before"), cx.attrs.dims("after"));
        require_len("before", before.len(), x.rank())?;
        require_len("after", after.len(), x.rank())?;
        let shape: Vec<Dim> =
            x.shape.iter().zip(before.iter().zip(after)).map(|(d, (b, a))| &(b + d) + a).collect();
        shape.iter().try_for_each(|d| require_extent(cx, d))?;
        Ok(vec![TensorType::new(x.dtype, shape)])
    },
    eval: |cx| {
        let (x, value) = (cx.arg(0)?, cx.arg(1)?);
        let before = require_numbers(cx.attrs, "before")?;
        let mut data = value.data.repeat(crate::tensor::numel(&cx.out(0)?.1).unwrap_or(0));
        let size = x.dtype.size();
        for_each_padded_run(&x.shape, &cx.out(0)?.1, &before, |from, to, run| {
            data[to * size..(to + run) * size].copy_from_slice(&x.data[from * size..(from + run) * size]);
        });
        dense(cx, data.into())
    },
    content: Some(|cx| {
        let ((content, shape), (value, _)) = (known(cx, 0)?, known(cx, 1)?);
        let out = cx.out.concrete()?;
        let mut padded = vec![value.first()?.clone(); crate::tensor::numel(&out)?];
        for_each_padded_run(&shape, &out, &numbers(cx.attrs, "before")?, |from, to, run| {
            padded[to..to + run].clone_from_slice(&content[from..from + run]);
        });
        Some(padded)
    }),
    work: no_work,
    samples: &["f32[2,N], f32[] {before=[1,0], after=[0,2]}", "i64[4], i64[] {before=[-1], after=[2]}"],
};

/// Calls `f(from, to, run)` for each run of elements of `x` that padding by `before` keeps.
fn for_each_padded_run(x: &[usize], out: &[usize], before: &[i64], mut f: impl FnMut(usize, usize, usize)) {
    let (from_strides, to_strides) = (strides(x), strides(out));
    let (mut from, mut to, mut kept) = (0i64, 0i64, Vec::with_capacity(x.len()));
    for (axis, (extent, pad)) in x.iter().zip(before).enumerate() {
        let skip = (-pad).max(0).min(*extent as i64);
        let start = (*pad).max(0).min(out[axis] as i64);
        kept.push((*extent as i64 - skip).min(out[axis] as i64 - start).max(0) as usize);
        from += skip * from_strides[axis] as i64;
        to += start * to_strides[axis] as i64;
    }
    let Some((run, outer)) = kept.split_last() else { return f(0, 0, 1) };
    if *run == 0 {
        return;
    }
    // Both walks visit the same indices in the same order.
    let signed = |s: &[usize]| s[..outer.len()].iter().map(|v| *v as i64).collect::<Vec<_>>();
    let mut targets = Vec::new();
    walk(outer, &signed(&to_strides), to, &mut |at| targets.push(at));
    let mut next = targets.into_iter();
    walk(outer, &signed(&from_strides), from, &mut |at| {
        if let Some(to) = next.next() {
            f(at, to, *run);
        }
    });
}

/// The `k` largest or smallest elements along an axis.
pub static TOP_K: OpDef = OpDef {
    name: "top_k",
    doc: "The `k` largest (or smallest) elements along `axis` and their i64 indices, in order when `sorted`; the lower \
          index first among equals, and NaN is the largest.",
    arity: Arity::exactly(1),
    attrs: &[
        AttrSpec::required("k", AttrKind::Dims),
        AttrSpec::required("axis", AttrKind::Int),
        AttrSpec::required("largest", AttrKind::Int),
        AttrSpec::required("sorted", AttrKind::Int),
    ],
    class: Fusion::Opaque,
    infer: |cx| {
        let x = cx.arg(0)?;
        super::common::Domain::Number.require(x)?;
        let axis = cx.axis("axis", x.rank())?;
        let [k] = cx.attrs.dims("k") else { return Err("`k` must be one number".into()) };
        require_extent(cx, k)?;
        require_le(cx, k, &x.shape[axis], "`k` must not exceed the extent")?;
        let mut shape = x.shape.clone();
        shape[axis] = k.clone();
        Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(crate::DType::I64, shape)])
    },
    eval: eval_top_k,
    content: None,
    work: super::common::work_per_input,
    samples: &[
        "f32[2,N] {k=[1], axis=1, largest=1, sorted=1}",
        "i64[5] {k=[3], axis=0, largest=0, sorted=1}",
    ],
};

fn eval_top_k(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, (dtype, shape)) = (cx.arg(0)?, cx.out(0)?);
    let axis = crate::op::normalise_axis(cx.attrs.int("axis"), x.shape.len())?;
    let (extent, k) = (x.shape[axis], shape[axis]);
    let (outer, inner): (usize, usize) =
        (x.shape[..axis].iter().product(), x.shape[axis + 1..].iter().product());
    if k > extent {
        return Err(format!("`k` is {k} but the extent is {extent}"));
    }
    let order = ordering(x, cx.attrs.flag("largest"));
    let size = dtype.size();
    let mut values = vec![0u8; outer * k * inner * size];
    let mut indices = vec![0i64; outer * k * inner];
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * extent + j) * inner + i;
            let mut ranks: Vec<usize> = (0..extent).collect();
            ranks.sort_by(|a, b| order(at(*a), at(*b)).then(a.cmp(b)));
            for (r, j) in ranks.into_iter().take(k).enumerate() {
                let to = (o * k + r) * inner + i;
                indices[to] = j as i64;
                values[to * size..(to + 1) * size].copy_from_slice(&x.data[at(j) * size..(at(j) + 1) * size]);
            }
        }
    }
    let values = Tensor { dtype: *dtype, shape: shape.clone(), data: values.into() };
    Ok(vec![values, Tensor::i64s(shape.clone(), &indices)])
}

/// Compares elements by flat index, best first.
fn ordering(x: &Tensor, largest: bool) -> impl Fn(usize, usize) -> std::cmp::Ordering {
    use crate::tensor::Elements;
    use std::cmp::Ordering;
    let elements = x.elements();
    move |a, b| {
        let ascending = match &elements {
            Elements::Float(v) => {
                v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].is_nan().cmp(&v[b].is_nan()))
            }
            Elements::Int(v) => v[a].cmp(&v[b]),
        };
        if largest { ascending.reverse() } else { Ordering::then(ascending, Ordering::Equal) }
    }
}

/// Constant indices for content propagation, normalised; `None` where one is unknown or outside.
pub(super) fn known_indices(cx: &ContentCx<'_>, arg: usize, extent: usize) -> Option<Vec<usize>> {
    known_numbers(cx, arg)?.into_iter().map(|i| super::gather::normalise(i, extent).ok()).collect()
}
