//! Operators without arguments: numbers computed from extents.

use super::common::{Domain, fit, no_work, require_extent, require_numbers};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Arity, AttrKind, AttrSpec, Fusion, InferCx, OpDef, OpError, TensorType};
use crate::tensor::{Tensor, numel};

fn number_type(cx: &InferCx<'_>) -> Result<DType, OpError> {
    let to = cx.attrs.dtype("to").ok_or("needs the attribute `to`")?;
    Domain::Number.require(&TensorType::new(to, vec![]))?;
    Ok(to)
}

/// Given numbers as a tensor.
pub static DIMS: OpDef = OpDef {
    name: "dims",
    doc: "The numbers `values` as a tensor of extents `shape` (none: a scalar) and element type `to`.",
    arity: Arity::exactly(0),
    attrs: &[
        AttrSpec::required("values", AttrKind::Dims),
        AttrSpec::required("shape", AttrKind::Ints),
        AttrSpec::required("to", AttrKind::DType),
    ],
    class: Fusion::Opaque,
    infer: |cx| {
        let (values, shape) = (cx.attrs.dims("values"), cx.attrs.ints("shape"));
        let extents: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
        let want = extents.as_deref().and_then(numel).ok_or_else(|| format!("bad extents {shape:?}"))?;
        if want != values.len() {
            return Err(format!("{} values for {want} elements", values.len()));
        }
        Ok(vec![TensorType::new(number_type(cx)?, shape.iter().map(|d| Dim::from(*d)).collect())])
    },
    eval: |cx| {
        let (dtype, shape) = cx.out(0)?.clone();
        let values = require_numbers(cx.attrs, "values")?;
        Ok(vec![Tensor::ints(dtype, shape, values.into_iter().map(i128::from).collect())])
    },
    content: Some(|cx| cx.attrs.dims("values").iter().map(|d| fit(cx.out.dtype, d.clone())).collect()),
    work: no_work,
    samples: &["{values=[N,2*N+1], shape=[2], to=i64}", "{values=[N], shape=[], to=f32}"],
};

/// The index along an axis.
pub static IOTA: OpDef = OpDef {
    name: "iota",
    doc: "Each element is its own index along `axis`.",
    arity: Arity::exactly(0),
    attrs: &[
        AttrSpec::required("shape", AttrKind::Dims),
        AttrSpec::required("axis", AttrKind::Int),
        AttrSpec::required("to", AttrKind::DType),
    ],
    class: Fusion::Opaque,
    infer: |cx| {
        let shape = cx.attrs.dims("shape");
        cx.axis("axis", shape.len())?;
        shape.iter().try_for_each(|d| require_extent(cx, d))?;
        Ok(vec![TensorType::new(number_type(cx)?, shape.to_vec())])
    },
    eval: |cx| {
        let (dtype, shape) = cx.out(0)?.clone();
        let axis = crate::op::normalise_axis(cx.attrs.int("axis"), shape.len())?;
        Ok(vec![Tensor::ints(dtype, shape.clone(), indices(&shape, axis).map(|i| i as i128).collect())])
    },
    content: Some(|cx| {
        let shape = cx.out.concrete()?;
        let axis = crate::op::normalise_axis(cx.attrs.int("axis"), shape.len()).ok()?;
        indices(&shape, axis).map(|i| Dim::from_wrapped(cx.out.dtype, i as i128)).collect()
    }),
    work: no_work,
    samples: &[
        "{shape=[N], axis=0, to=i64}",
        "{shape=[2,3], axis=1, to=i64}",
        "{shape=[2,N], axis=0, to=f32}",
    ],
};

fn indices(shape: &[usize], axis: usize) -> impl Iterator<Item = usize> {
    let inner: usize = shape[axis + 1..].iter().product();
    let extent = shape[axis].max(1);
    (0..numel(shape).unwrap_or(0)).map(move |i| i / inner.max(1) % extent)
}
