//! Movement operators whose positions come from an index tensor.

use super::common::{known, no_work, require_index, require_le, require_same_dtype};
use crate::dim::Dim;
use crate::op::{
    Arity, AttrKind, AttrSpec, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, normalise_axis,
};
use crate::tensor::{Elements, Tensor, numel, strides};

/// An index counted from the start; negative ones count from the end.
pub(super) fn normalise(index: i64, extent: usize) -> Result<usize, OpError> {
    let n = extent as i64;
    let from_start = if index < 0 { index.saturating_add(n) } else { index };
    if (0..n).contains(&from_start) {
        Ok(from_start as usize)
    } else {
        Err(format!("index {index} is out of range for extent {extent}"))
    }
}

fn result(cx: &EvalCx<'_>, data: Vec<u8>) -> Result<Vec<Tensor>, OpError> {
    let (dtype, shape) = cx.out(0)?.clone();
    Tensor::from_bytes(dtype, shape, data.into())
        .map(|t| vec![t])
        .ok_or_else(|| "the result does not have its extents".into())
}

/// Slices of a tensor along an axis, chosen by index.
pub static GATHER: OpDef = OpDef {
    name: "gather",
    doc: "`gather(x, index)`: replaces `axis` of `x` by the axes of `index`, taking the slices that it names; negative \
          indices count from the end.",
    arity: Arity::exactly(2),
    attrs: &[AttrSpec::required("axis", AttrKind::Int)],
    class: Fusion::Movement,
    infer: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        require_index(index)?;
        let axis = cx.axis("axis", x.rank())?;
        let shape = [&x.shape[..axis], &index.shape, &x.shape[axis + 1..]].concat();
        Ok(vec![TensorType::new(x.dtype, shape)])
    },
    eval: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        let axis = normalise_axis(cx.attrs.int("axis"), x.shape.len())?;
        let extent = x.shape[axis];
        let outer: usize = x.shape[..axis].iter().product();
        let run = x.shape[axis + 1..].iter().product::<usize>() * x.dtype.size();
        let picks =
            index.to_i64().into_iter().map(|i| normalise(i, extent)).collect::<Result<Vec<_>, _>>()?;
        let mut data = Vec::with_capacity(outer * picks.len() * run);
        for o in 0..outer {
            for i in &picks {
                let at = (o * extent + i) * run;
                data.extend_from_slice(&x.data[at..at + run]);
            }
        }
        result(cx, data)
    },
    content: Some(|cx| {
        let (content, shape) = known(cx, 0)?;
        let axis = normalise_axis(cx.attrs.int("axis"), shape.len()).ok()?;
        let picks = super::movement::known_indices(cx, 1, shape[axis])?;
        let outer: usize = shape[..axis].iter().product();
        let run: usize = shape[axis + 1..].iter().product();
        let starts = (0..outer).flat_map(|o| picks.iter().map(move |i| (o, *i)));
        let runs = starts.map(|(o, i)| (o * shape[axis] + i) * run);
        Some(runs.flat_map(|at| content[at..at + run].iter().cloned()).collect())
    }),
    work: no_work,
    samples: &["f32[4,N], i64[2,M] {axis=0}", "i64[3], i64[] {axis=0}", "f32[2,3,N], i32[2] {axis=1}"],
};

/// Checks an index tensor that has the rank of `x` and reaches no further on the other axes.
fn require_elements_index(cx: &InferCx<'_>, x: &TensorType, index: &TensorType) -> Result<(), OpError> {
    require_index(index)?;
    if index.rank() != x.rank() {
        return Err(format!("ranks differ ({} vs {})", x.rank(), index.rank()));
    }
    let axis = cx.axis("axis", x.rank())?;
    for (i, (d, extent)) in index.shape.iter().zip(&x.shape).enumerate().filter(|(i, _)| *i != axis) {
        require_le(cx, d, extent, &format!("extent {i} of the index must not exceed that of the tensor"))?;
    }
    Ok(())
}

/// For each element of `index`, the flat offset of the element of a tensor of extents `shape` that it names along `axis`.
fn element_offsets(shape: &[usize], index: &Tensor, axis: usize) -> Result<Vec<usize>, OpError> {
    let stride = strides(shape);
    let inner = strides(&index.shape);
    let place = |(flat, value): (usize, i64)| {
        let mut at = normalise(value, shape[axis])? * stride[axis];
        for i in (0..shape.len()).filter(|i| *i != axis) {
            let position = flat / inner[i] % index.shape[i];
            if position >= shape[i] {
                return Err(format!("index {position} is out of range for extent {}", shape[i]));
            }
            at += position * stride[i];
        }
        Ok(at)
    };
    index.to_i64().into_iter().enumerate().map(place).collect()
}

/// Elements chosen one by one along an axis.
pub static GATHER_ELEMENTS: OpDef = OpDef {
    name: "gather_elements",
    doc: "`gather_elements(x, index)`: each element is the one of `x` at its own position, but at `index` along `axis`.",
    arity: Arity::exactly(2),
    attrs: &[AttrSpec::required("axis", AttrKind::Int)],
    class: Fusion::Movement,
    infer: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        require_elements_index(cx, x, index)?;
        Ok(vec![TensorType::new(x.dtype, index.shape.clone())])
    },
    eval: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        let axis = normalise_axis(cx.attrs.int("axis"), x.shape.len())?;
        let size = x.dtype.size();
        let mut data = Vec::with_capacity(index.numel() * size);
        for at in element_offsets(&x.shape, index, axis)? {
            data.extend_from_slice(&x.data[at * size..(at + 1) * size]);
        }
        result(cx, data)
    },
    content: None,
    work: no_work,
    samples: &["f32[2,N], i64[2,N] {axis=0}", "f32[3,N], i64[2,N] {axis=1}"],
};

/// Checks an index tensor of coordinate tuples; gives how many axes one tuple names.
fn coordinates(x: &TensorType, index: &TensorType, batch: usize) -> Result<usize, OpError> {
    require_index(index)?;
    let last = index.shape.last().ok_or("the index must have at least one axis")?;
    let k = last
        .as_usize()
        .ok_or_else(|| format!("the last extent of the index must be constant, got {last}"))?;
    if batch >= index.rank() || batch + k > x.rank() {
        return Err(format!("{batch} batch axes and {k} coordinates do not fit {x} and {index}"));
    }
    Ok(k)
}

/// First flat offset of the block of a tensor that each coordinate tuple names.
fn block_offsets(shape: &[usize], index: &Tensor, batch: usize) -> Result<Vec<usize>, OpError> {
    let k = index.shape.last().copied().unwrap_or(0);
    let stride = strides(shape);
    let tuples: usize = index.shape.iter().rev().skip(1).product();
    let groups: usize = shape[..batch].iter().product();
    let (values, a_group) = (index.to_i64(), tuples.checked_div(groups).unwrap_or(0).max(1));
    let block: usize = shape[batch..].iter().product();
    (0..tuples)
        .map(|t| {
            let tuple = &values[t * k..(t + 1) * k];
            let axes = shape[batch..].iter().zip(&stride[batch..]);
            tuple.iter().zip(axes).try_fold(t / a_group * block, |at, (i, (extent, stride))| {
                Ok(at + normalise(*i, *extent)? * stride)
            })
        })
        .collect()
}

/// Blocks chosen by coordinate tuples.
pub static GATHER_ND: OpDef = OpDef {
    name: "gather_nd",
    doc: "`gather_nd(x, index)`: the last axis of `index` holds coordinates of blocks of `x`; the first `batch_dims` axes \
          of both go together.",
    arity: Arity::exactly(2),
    attrs: &[AttrSpec::required("batch_dims", AttrKind::Int)],
    class: Fusion::Movement,
    infer: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        let batch = usize::try_from(cx.attrs.int("batch_dims")).map_err(|_| "`batch_dims` is negative")?;
        let k = coordinates(x, index, batch)?;
        for i in 0..batch {
            cx.require_eq(&x.shape[i], &index.shape[i], &format!("batch extents of axis {i}"))?;
        }
        let shape = [&index.shape[..index.rank() - 1], &x.shape[batch + k..]].concat();
        Ok(vec![TensorType::new(x.dtype, shape)])
    },
    eval: |cx| {
        let (x, index, batch) = (cx.arg(0)?, cx.arg(1)?, cx.attrs.int("batch_dims") as usize);
        let k = index.shape.last().copied().unwrap_or(0);
        let run = x.shape[batch + k..].iter().product::<usize>();
        let size = x.dtype.size();
        let mut data = Vec::new();
        for at in block_offsets(&x.shape, index, batch)? {
            data.extend_from_slice(&x.data[at * size..(at + run) * size]);
        }
        result(cx, data)
    },
    content: None,
    work: no_work,
    samples: &["f32[2,3,N], i64[M,2] {batch_dims=0}", "f32[2,3,N], i64[2,1] {batch_dims=1}"],
};

const MODES: [&str; 5] = ["", "add", "mul", "max", "min"];

fn require_mode(cx: &InferCx<'_>) -> Result<(), OpError> {
    let mode = cx.attrs.str("mode");
    if MODES.contains(&mode) { Ok(()) } else { Err(format!("unknown mode `{mode}`")) }
}

/// Writes or combines `updates` into `x`: update `i` goes to element `targets(i)`.
fn scatter(cx: &EvalCx<'_>, targets: impl Fn(usize) -> usize) -> Result<Vec<Tensor>, OpError> {
    let (x, updates, mode) = (cx.arg(0)?, cx.arg(2)?, cx.attrs.str("mode"));
    if mode.is_empty() {
        let size = x.dtype.size();
        let mut data = x.data.to_vec();
        for i in 0..updates.numel() {
            let at = targets(i) * size;
            data[at..at + size].copy_from_slice(&updates.data[i * size..(i + 1) * size]);
        }
        return result(cx, data);
    }
    let mut into = x.elements();
    match (&mut into, updates.elements()) {
        (Elements::Float(into), Elements::Float(updates)) => {
            let f = match mode {
                "add" => |a, b| a + b,
                "mul" => |a, b| a * b,
                "max" => super::scalar::max,
                _ => super::scalar::min,
            };
            updates.into_iter().enumerate().for_each(|(i, u)| into[targets(i)] = f(into[targets(i)], u));
        }
        (Elements::Int(into), Elements::Int(updates)) => {
            let f = match mode {
                "add" => i128::wrapping_add,
                "mul" => i128::wrapping_mul,
                "max" => i128::max,
                _ => i128::min,
            };
            updates.into_iter().enumerate().for_each(|(i, u)| into[targets(i)] = f(into[targets(i)], u));
        }
        _ => return Err("element types differ".into()),
    }
    Ok(vec![Tensor::from_elements(x.dtype, x.shape.clone(), &into)])
}

/// Writes elements one by one along an axis.
pub static SCATTER_ELEMENTS: OpDef = OpDef {
    name: "scatter_elements",
    doc: "`scatter_elements(x, index, updates)`: `x` with each update written at its own position, but at `index` along \
          `axis`; `mode` (add, mul, max, min) combines instead.",
    arity: Arity::exactly(3),
    attrs: &[AttrSpec::required("axis", AttrKind::Int), AttrSpec::optional("mode", AttrKind::Str)],
    class: Fusion::Opaque,
    infer: |cx| {
        let (x, index, updates) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
        require_mode(cx)?;
        require_same_dtype(x, updates)?;
        require_elements_index(cx, x, index)?;
        if updates.rank() != index.rank() {
            return Err(format!("ranks differ ({} vs {})", index.rank(), updates.rank()));
        }
        for (i, (a, b)) in index.shape.iter().zip(&updates.shape).enumerate() {
            cx.require_eq(a, b, &format!("extents of axis {i} of index and updates"))?;
        }
        Ok(vec![x.clone()])
    },
    eval: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        let axis = normalise_axis(cx.attrs.int("axis"), x.shape.len())?;
        let offsets = element_offsets(&x.shape, index, axis)?;
        scatter(cx, |i| offsets[i])
    },
    content: None,
    work: no_work,
    samples: &["f32[2,N], i64[1,N], f32[1,N] {axis=0}", "i64[3], i64[2], i64[2] {axis=0, mode=add}"],
};

/// Writes blocks at coordinate tuples.
pub static SCATTER_ND: OpDef = OpDef {
    name: "scatter_nd",
    doc: "`scatter_nd(x, index, updates)`: `x` with blocks of `updates` written at the coordinates that the last axis of \
          `index` holds; `mode` (add, mul, max, min) combines instead.",
    arity: Arity::exactly(3),
    attrs: &[AttrSpec::optional("mode", AttrKind::Str)],
    class: Fusion::Opaque,
    infer: |cx| {
        let (x, index, updates) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
        require_mode(cx)?;
        require_same_dtype(x, updates)?;
        let k = coordinates(x, index, 0)?;
        let want: Vec<Dim> = [&index.shape[..index.rank() - 1], &x.shape[k..]].concat();
        if updates.rank() != want.len() {
            return Err(format!("updates must have {} axes, got {updates}", want.len()));
        }
        for (i, (a, b)) in want.iter().zip(&updates.shape).enumerate() {
            cx.require_eq(a, b, &format!("extents of axis {i} of the updates"))?;
        }
        Ok(vec![x.clone()])
    },
    eval: |cx| {
        let (x, index) = (cx.arg(0)?, cx.arg(1)?);
        let k = index.shape.last().copied().unwrap_or(0);
        let run = numel(&x.shape[k..]).unwrap_or(0).max(1);
        let offsets = block_offsets(&x.shape, index, 0)?;
        scatter(cx, |i| offsets[i / run] + i % run)
    },
    content: None,
    work: no_work,
    samples: &["f32[4,N], i64[2,1], f32[2,N]", "i64[3], i64[M,1], i64[M] {mode=max}"],
};
