//! Pooling: folds over sliding windows.

use super::common::Domain;
use super::spatial::{Windows, channels_last, image, join, split, swap_inner};
use crate::dim::{Dim, product};
use crate::op::{Arity, AttrKind, AttrSpec, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, Work};
use crate::tensor::{Tensor, numel};

const KERNEL: AttrSpec = AttrSpec::required("kernel", AttrKind::Ints);
const STRIDES: AttrSpec = AttrSpec::required("strides", AttrKind::Ints);
const DILATIONS: AttrSpec = AttrSpec::required("dilations", AttrKind::Ints);
const PADS: AttrSpec = AttrSpec::required("pads", AttrKind::Ints);
const INCLUDE_PAD: AttrSpec = AttrSpec::optional("include_pad", AttrKind::Int);
const CEIL: AttrSpec = AttrSpec::optional("ceil", AttrKind::Int);
const LAYOUT: AttrSpec = AttrSpec::optional("layout", AttrKind::Str);

/// The largest element of each window.
pub static MAX_POOL: OpDef = OpDef {
    name: "max_pool",
    doc: "The largest element of each window, padding ignored; `ceil` rounds the number of windows up, but each must \
          start inside the input or the padding before it.",
    arity: Arity::exactly(1),
    attrs: &[KERNEL, STRIDES, DILATIONS, PADS, CEIL, LAYOUT],
    class: Fusion::Reduction,
    infer: |cx| infer_pool(cx, Domain::Number),
    eval: |cx| {
        let empty = cx.arg(0)?.dtype.int_range().map_or(f64::NEG_INFINITY, |(lo, _)| lo as f64);
        eval_pool(cx, |taps, _| taps.fold(empty, super::scalar::max))
    },
    content: None,
    work,
    samples: &[
        "f32[N,2,6,6] {kernel=[2,2], strides=[2,2], dilations=[1,1], pads=[0,0,0,0]}",
        "f32[1,2,H+4] {kernel=[3], strides=[2], dilations=[1], pads=[1,1], ceil=1}",
        "i8[N,5,5,2] {kernel=[3,3], strides=[1,1], dilations=[1,1], pads=[1,1,1,1], layout=nhwc}",
    ],
};

/// The mean of each window.
pub static AVG_POOL: OpDef = OpDef {
    name: "avg_pool",
    doc: "The mean of each window; padding counts only with `include_pad`, what `ceil` adds beyond it never, and a \
          window without elements gives 0.",
    arity: Arity::exactly(1),
    attrs: &[KERNEL, STRIDES, DILATIONS, PADS, INCLUDE_PAD, CEIL, LAYOUT],
    class: Fusion::Reduction,
    infer: |cx| infer_pool(cx, Domain::Float),
    eval: |cx| {
        let include = cx.attrs.flag("include_pad");
        eval_pool(cx, |taps, padding| {
            let (sum, count) = taps.fold((0.0, 0usize), |(sum, n), x| (sum + x, n + 1));
            let count = if include { count + padding } else { count };
            sum / count.max(1) as f64
        })
    },
    content: None,
    work,
    samples: &[
        "f32[N,2,6,6] {kernel=[3,3], strides=[2,2], dilations=[1,1], pads=[1,1,1,1], include_pad=1}",
        "f32[1,2,H+4] {kernel=[3], strides=[2], dilations=[1], pads=[1,1], ceil=1}",
        "f32[N,5,5,2] {kernel=[2,2], strides=[1,1], dilations=[2,2], pads=[0,0,0,0], layout=nhwc}",
    ],
};

fn work(cx: &InferCx<'_>, out: &TensorType) -> Work {
    let kernel: Vec<Dim> = cx.attrs.ints("kernel").iter().map(|k| Dim::from(*k)).collect();
    Work { flops: &product(&kernel) * &out.numel() }
}

fn infer_pool(cx: &InferCx<'_>, domain: Domain) -> Result<Vec<TensorType>, OpError> {
    let x = cx.arg(0)?;
    domain.require(x)?;
    // Windows are folded in f64.
    if x.dtype.is_int() && x.dtype.bits() > 32 {
        return Err(format!("integers must have at most 32 bits, got {x}"));
    }
    let (n, c, spatial) = image(x, cx.attrs)?;
    let kernel = cx.attrs.ints("kernel");
    super::common::require_len("kernel", kernel.len(), spatial.len())?;
    if let Some(bad) = kernel.iter().find(|k| **k < 1 || **k > 1 << 30) {
        return Err(format!("kernel extents must be positive and below 2^30, got {bad}"));
    }
    let windows = Windows::new(cx.attrs, spatial.len())?;
    let out = (0..spatial.len())
        .map(|i| windows.count(cx, i, &spatial[i], &kernel[i].into(), cx.attrs.flag("ceil")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(vec![TensorType::new(x.dtype, join(n, c, out, channels_last(cx.attrs)?))])
}

/// Applies `fold` to the elements of each window and the number of its taps in padding.
fn eval_pool(
    cx: &EvalCx<'_>,
    fold: impl Fn(&mut dyn Iterator<Item = f64>, usize) -> f64,
) -> Result<Vec<Tensor>, OpError> {
    let (x, (dtype, shape)) = (cx.arg(0)?, cx.out(0)?);
    let last = channels_last(cx.attrs)?;
    let (n, c, spatial) = split(&x.shape, last)?;
    let (_, _, out_spatial) = split(shape, last)?;
    let kernel: Vec<usize> = cx.attrs.ints("kernel").iter().map(|k| *k as usize).collect();
    let windows = Windows::new(cx.attrs, spatial.len())?;
    let (pixels, positions) = (numel(&spatial).unwrap_or(0), numel(&out_spatial).unwrap_or(0));
    let offsets = windows.taps(&spatial, &kernel, 0..positions, &out_spatial);
    let taps = numel(&kernel).unwrap_or(0).max(1);
    let mut input = x.to_f64();
    if last {
        input = swap_inner(&input, n, pixels, c);
    }
    let mut out = Vec::with_capacity(n * c * positions);
    for plane in 0..n * c {
        let plane = &input[plane * pixels..(plane + 1) * pixels];
        for window in offsets.chunks_exact(taps) {
            let padding = window.iter().filter(|at| **at == -1).count();
            let mut inside = window.iter().filter(|at| **at >= 0).map(|at| plane[*at as usize]);
            out.push(fold(&mut inside, padding));
        }
    }
    if last {
        out = swap_inner(&out, n, c, positions);
    }
    Ok(vec![Tensor::floats(*dtype, shape.clone(), out)])
}
