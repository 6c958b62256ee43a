//! Operators that multiply and add over a shared dimension.

use super::common::{Domain, require_index, require_same_dtype};
use super::gather::normalise;
use super::spatial::{Windows, channels_last, image, join, split, swap_inner};
use super::view::View;
use crate::attrs::Attrs;
use crate::dim::{Dim, product};
use crate::op::{Arity, AttrKind, AttrSpec, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, Work};
use crate::tensor::{Elements, Tensor, numel};

/// Matrix product.
pub static MATMUL: OpDef = OpDef {
    name: "matmul",
    doc: "Matrix product of the last two axes; the axes before them broadcast.",
    arity: Arity::exactly(2),
    attrs: &[],
    class: Fusion::Contraction,
    infer: |cx| {
        let (a, b) = (cx.arg(0)?, cx.arg(1)?);
        Domain::Number.require(a)?;
        require_same_dtype(a, b)?;
        let ([a_batch @ .., m, k], [b_batch @ .., l, n]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return Err(format!("needs at least 2 axes, got {a} and {b}"));
        };
        cx.require_eq(k, l, "inner dimensions")?;
        let mut shape = cx.broadcast(a_batch, b_batch)?;
        shape.extend([m.clone(), n.clone()]);
        Ok(vec![TensorType::new(a.dtype, shape)])
    },
    eval: eval_matmul,
    content: None,
    work: |cx, out| {
        let k = cx.args.first().and_then(|a| a.shape.last()).cloned().unwrap_or_default();
        Work { flops: &Dim::from(2) * &(&k * &out.numel()) }
    },
    samples: &["f32[2,N,3], f32[3,4]", "i32[2,3], i32[3,N]", "f32[N,1,2,3], f32[4,3,2]"],
};

fn eval_matmul(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (a, b, (dtype, shape)) = (cx.arg(0)?, cx.arg(1)?, cx.out(0)?);
    let ([a_batch @ .., m, k], [b_batch @ .., _, n]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err("needs at least 2 axes".into());
    };
    let batch = &shape[..shape.len() - 2];
    let of = |own: &[usize]| View::broadcast(own, batch).indices(numel(own).unwrap_or(0));
    let pairs = of(a_batch)?.into_iter().zip(of(b_batch)?);
    let out = match (a.elements(), b.elements()) {
        (Elements::Float(a), Elements::Float(b)) => Elements::Float(
            pairs
                .flat_map(|(i, j)| {
                    float_product(
                        &a[i * m * k..(i + 1) * m * k],
                        &b[j * k * n..(j + 1) * k * n],
                        [*m, *k, *n],
                    )
                })
                .collect(),
        ),
        (Elements::Int(a), Elements::Int(b)) => {
            let (a, b) = (narrow(&a), narrow(&b));
            let products = pairs.flat_map(|(i, j)| {
                int_product(&a[i * m * k..(i + 1) * m * k], &b[j * k * n..(j + 1) * k * n], [*m, *k, *n])
            });
            Elements::Int(products.map(i128::from).collect())
        }
        _ => return Err("element types differ".into()),
    };
    Ok(vec![Tensor::from_elements(*dtype, shape.clone(), &out)])
}

fn narrow(v: &[i128]) -> Vec<i64> {
    v.iter().map(|x| *x as i64).collect()
}

/// Columns of the right side that are multiplied at a time, so that they stay in the cache.
const COLUMN_BLOCK: usize = 64;

/// `[m,k] x [k,n]`; each sum runs over `k` in order, and the inner loop along rows of `b`.
fn product_of<T: Copy>(
    a: &[T],
    b: &[T],
    [m, k, n]: [usize; 3],
    zero: T,
    add: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    let mut out = vec![zero; m * n];
    for start in (0..n).step_by(COLUMN_BLOCK) {
        let end = (start + COLUMN_BLOCK).min(n);
        for i in 0..m {
            let sums = &mut out[i * n + start..i * n + end];
            for j in 0..k {
                let factor = a[i * k + j];
                for (sum, x) in sums.iter_mut().zip(&b[j * n + start..j * n + end]) {
                    *sum = add(*sum, factor, *x);
                }
            }
        }
    }
    out
}

fn float_product(a: &[f64], b: &[f64], extents: [usize; 3]) -> Vec<f64> {
    product_of(a, b, extents, 0.0, |sum, x, y| sum + x * y)
}

/// Wrapping sums are exact for what a result of at most 64 bits keeps.
fn int_product(a: &[i64], b: &[i64], extents: [usize; 3]) -> Vec<i64> {
    product_of(a, b, extents, 0, |sum: i64, x: i64, y: i64| sum.wrapping_add(x.wrapping_mul(y)))
}

/// Matrix product with matrices chosen by an index tensor.
pub static GATHER_MATMUL: OpDef = OpDef {
    name: "gather_matmul",
    doc: "`gather_matmul(x, w, index)`: `matmul(x, gather(w, index, axis=0))` for x [..,m,k] and matrices w [e,k,n], none of which is \
          copied; negative indices count from the end.",
    arity: Arity::exactly(3),
    attrs: &[],
    class: Fusion::Contraction,
    infer: |cx| {
        let (x, w, index) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
        Domain::Float.require(x)?;
        require_same_dtype(x, w)?;
        require_index(index)?;
        let ([batch @ .., m, k], [_, l, n]) = (x.shape.as_slice(), w.shape.as_slice()) else {
            return Err(format!("needs at least 2 and exactly 3 axes, got {x} and {w}"));
        };
        cx.require_eq(k, l, "inner dimensions")?;
        let mut shape = cx.broadcast(batch, &index.shape)?;
        shape.extend([m.clone(), n.clone()]);
        Ok(vec![TensorType::new(x.dtype, shape)])
    },
    eval: eval_gather_matmul,
    content: None,
    work: |cx, out| {
        let k = cx.args.first().and_then(|a| a.shape.last()).cloned().unwrap_or_default();
        Work { flops: &Dim::from(2) * &(&k * &out.numel()) }
    },
    samples: &[
        "f32[N,1,2,3], f32[4,3,5], i64[N,2]",
        "f32[2,3], f32[M,3,1], i32[N]",
        "f16[2,1,N], f16[4,N,2], i64[]",
    ],
};

fn eval_gather_matmul(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, w, index, (dtype, shape)) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?, cx.out(0)?);
    let ([own @ .., m, k], [matrices, _, n]) = (x.shape.as_slice(), w.shape.as_slice()) else {
        return Err("needs at least 2 and exactly 3 axes".into());
    };
    let batch = &shape[..shape.len() - 2];
    let of = |own: &[usize]| View::broadcast(own, batch).indices(numel(own).unwrap_or(0));
    let picks = index.to_i64().into_iter().map(|i| normalise(i, *matrices)).collect::<Result<Vec<_>, _>>()?;
    let (left, right) = (x.to_f64(), w.to_f64());
    let products = of(own)?.into_iter().zip(of(&index.shape)?).flat_map(|(i, j)| {
        let (a, b) = (&left[i * m * k..(i + 1) * m * k], picks[j] * k * n);
        float_product(a, &right[b..b + k * n], [*m, *k, *n])
    });
    Ok(vec![Tensor::floats(*dtype, shape.clone(), products.collect())])
}

/// Convolution.
pub static CONV: OpDef = OpDef {
    name: "conv",
    doc: "`conv(x, w, bias)`: cross-correlation of x [n,c,spatial..] with w [m,c/groups,kernel..]; with layout `nhwc` x \
          and the result are [n,spatial..,c]. The algorithm `winograd` is for 3 x 3 windows of neighbours, stride 1, one group: \
          less arithmetic, more bytes of weights, another rounding.",
    arity: Arity::range(2, 3),
    attrs: &[
        AttrSpec::required("strides", AttrKind::Ints),
        AttrSpec::required("dilations", AttrKind::Ints),
        AttrSpec::required("pads", AttrKind::Ints),
        AttrSpec::required("groups", AttrKind::Int),
        AttrSpec::optional("layout", AttrKind::Str),
        AttrSpec::optional("algorithm", AttrKind::Str),
    ],
    class: Fusion::Contraction,
    infer: infer_conv,
    eval: eval_conv,
    content: None,
    work: |cx, out| {
        let taps = cx.args.get(1).map(|w| product(w.shape.iter().skip(1))).unwrap_or_default();
        Work { flops: &Dim::from(2) * &(&taps * &out.numel()) }
    },
    samples: &[
        "f32[N,3,8,8], f32[4,3,3,3], f32[4] {strides=[2,2], dilations=[1,1], pads=[1,1,1,1], groups=1}",
        "f32[1,4,H+3], f32[6,2,2] {strides=[1], dilations=[2], pads=[0,1], groups=2}",
        "f32[N,5,6,2], f32[4,1,3,2] {strides=[1,2], dilations=[1,1], pads=[1,0,1,0], groups=2, layout=nhwc}",
        "f32[N,3,6,7], f32[4,3,3,3] {strides=[1,1], dilations=[1,1], pads=[1,1,1,1], groups=1, algorithm=winograd}",
    ],
};

/// Whether Winograd's algorithm computes a convolution with these windows.
pub fn winograd_fits(attrs: &Attrs, weight: &TensorType) -> bool {
    let ones = |name| attrs.ints(name) == [1, 1];
    let window = weight.shape.get(2..).unwrap_or_default();
    let three = window.len() == 2 && window.iter().all(|d| d.is(3));
    three && ones("strides") && ones("dilations") && attrs.int("groups") == 1
}

fn infer_conv(cx: &InferCx<'_>) -> Result<Vec<TensorType>, OpError> {
    let (x, w) = (cx.arg(0)?, cx.arg(1)?);
    Domain::Float.require(x)?;
    let (n, c, spatial) = image(x, cx.attrs)?;
    let [m, c_group, kernel @ ..] = w.shape.as_slice() else {
        return Err(format!("weights need at least 3 axes, got {w}"));
    };
    cx.args[1..].iter().try_for_each(|other| require_same_dtype(x, other))?;
    if kernel.len() != spatial.len() {
        return Err(format!("{w} has {} kernel axes for {} spatial axes", kernel.len(), spatial.len()));
    }
    let groups = cx.attrs.int("groups");
    if groups < 1 {
        return Err(format!("`groups` must be positive, got {groups}"));
    }
    cx.require_eq(&c, &(c_group * &groups.into()), "channels of the input and of the weights")?;
    if m.as_const().is_some_and(|m| m % groups != 0) {
        return Err(format!("{m} output channels do not divide into {groups} groups"));
    }
    if let Some(bias) = cx.args.get(2) {
        let [d] = bias.shape.as_slice() else {
            return Err(format!("the bias must have one axis, got {bias}"));
        };
        cx.require_eq(m, d, "output channels and extent of the bias")?;
    }
    match cx.attrs.str("algorithm") {
        "" => {}
        "winograd" if winograd_fits(cx.attrs, w) => {}
        "winograd" => return Err(format!("the algorithm `winograd` does not fit the windows of {w}")),
        other => return Err(format!("unknown algorithm `{other}`")),
    }
    let windows = Windows::new(cx.attrs, spatial.len())?;
    let out = (0..spatial.len())
        .map(|i| windows.count(cx, i, &spatial[i], &kernel[i], false))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(vec![TensorType::new(x.dtype, join(n, m.clone(), out, channels_last(cx.attrs)?))])
}

/// How many windows are gathered at a time, which bounds the memory for patches and keeps them in the cache.
const WINDOW_BLOCK: usize = COLUMN_BLOCK;

/// Gathers the patches of a block of windows into a matrix and multiplies the weights with it.
fn eval_conv(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, w, (dtype, shape)) = (cx.arg(0)?, cx.arg(1)?, cx.out(0)?);
    let last = channels_last(cx.attrs)?;
    let (n, c, spatial) = split(&x.shape, last)?;
    let (_, m, out_spatial) = split(shape, last)?;
    let groups = cx.attrs.int("groups").max(1) as usize;
    let (kernel, windows) = (&w.shape[2..], Windows::new(cx.attrs, spatial.len())?);
    let numel = |s: &[usize]| numel(s).unwrap_or(0);
    let (pixels, positions, taps) = (numel(&spatial), numel(&out_spatial), numel(kernel));
    let (c_group, m_group) = (c / groups, m / groups);
    let (weights, bias) = (w.to_f64(), cx.args.get(2).map(Tensor::to_f64));
    let mut input = x.to_f64();
    if last {
        input = swap_inner(&input, n, pixels, c);
    }
    let mut out = vec![0.0; n * m * positions];
    for start in (0..positions).step_by(WINDOW_BLOCK) {
        let block = start..(start + WINDOW_BLOCK).min(positions);
        let offsets = windows.taps(&spatial, kernel, block.clone(), &out_spatial);
        for image in 0..n {
            for group in 0..groups {
                let first = (image * c + group * c_group) * pixels;
                let patches =
                    patches(&input[first..first + c_group * pixels], &offsets, [c_group, pixels, taps]);
                let rows = &weights[group * m_group * c_group * taps..(group + 1) * m_group * c_group * taps];
                let products = float_product(rows, &patches, [m_group, c_group * taps, block.len()]);
                for (i, row) in products.chunks_exact(block.len()).enumerate() {
                    let channel = group * m_group + i;
                    let bias = bias.as_ref().map_or(0.0, |b| b[channel]);
                    let at = (image * m + channel) * positions + start;
                    out[at..at + row.len()].iter_mut().zip(row).for_each(|(o, p)| *o = p + bias);
                }
            }
        }
    }
    if last {
        out = swap_inner(&out, n, m, positions);
    }
    Ok(vec![Tensor::floats(*dtype, shape.clone(), out)])
}

/// The matrix `[channels * taps, windows]` of input elements under each tap of each window, 0 in padding.
fn patches(input: &[f64], offsets: &[i64], [channels, pixels, taps]: [usize; 3]) -> Vec<f64> {
    let windows = offsets.len() / taps.max(1);
    let mut out = Vec::with_capacity(channels * offsets.len());
    for c in 0..channels {
        let plane = &input[c * pixels..(c + 1) * pixels];
        for tap in 0..taps {
            out.extend((0..windows).map(|p| {
                let at = offsets[p * taps + tap];
                if at < 0 { 0.0 } else { plane[at as usize] }
            }));
        }
    }
    out
}
