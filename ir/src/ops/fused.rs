//! Operators that the optimiser recovers from their parts, because a kernel computes them as a whole.

use super::common::{Domain, require_same_dtype};
use super::contraction::MATMUL;
use super::scalar;
use super::view::View;
use crate::dim::Dim;
use crate::op::{Arity, AttrKind, AttrSpec, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, Work};
use crate::tensor::{Tensor, numel};

/// A matrix product with a weight, and a bias.
pub static LINEAR: OpDef = OpDef {
    name: "linear",
    doc: "`linear(x, w, bias)`: x [..,k] times the matrix w [k,n], plus bias [n].",
    arity: Arity::range(2, 3),
    attrs: &[],
    class: Fusion::Contraction,
    infer: |cx| {
        let (x, w) = (cx.arg(0)?, cx.arg(1)?);
        Domain::Float.require(x)?;
        cx.args[1..].iter().try_for_each(|other| require_same_dtype(x, other))?;
        let ([lead @ .., k], [inner, n]) = (x.shape.as_slice(), w.shape.as_slice()) else {
            return Err(format!("needs at least 1 and exactly 2 axes, got {x} and {w}"));
        };
        cx.require_eq(k, inner, "inner dimensions")?;
        if let Some(bias) = cx.args.get(2) {
            let [d] = bias.shape.as_slice() else {
                return Err(format!("the bias must have one axis, got {bias}"));
            };
            cx.require_eq(n, d, "columns and extent of the bias")?;
        }
        let shape = lead.iter().chain([n]).cloned().collect();
        Ok(vec![TensorType::new(x.dtype, shape)])
    },
    eval: eval_linear,
    content: None,
    work: |cx, out| {
        let k = cx.args.first().and_then(|a| a.shape.last()).cloned().unwrap_or_default();
        Work { flops: &Dim::from(2) * &(&k * &out.numel()) }
    },
    samples: &["f32[2,N,3], f32[3,4], f32[4]", "f32[N], f32[N,2]"],
};

fn eval_linear(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, w, (dtype, shape)) = (cx.arg(0)?, cx.arg(1)?, cx.out(0)?);
    let k = x.shape.last().copied().unwrap_or(0);
    let rows = numel(&shape[..shape.len() - 1]).ok_or("too many rows")?;
    let columns = w.shape.get(1).copied().unwrap_or(0);
    let matrix = Tensor { dtype: x.dtype, shape: vec![rows, k], data: x.data.clone() };
    let outs = [(*dtype, vec![rows, columns])];
    let inner = EvalCx { args: &[matrix, w.clone()], attrs: cx.attrs, outs: &outs };
    let mut result = (MATMUL.eval)(&inner)?.remove(0).to_f64();
    if let Some(bias) = cx.args.get(2) {
        let bias = bias.to_f64();
        for row in result.chunks_exact_mut(columns.max(1)) {
            row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b);
        }
    }
    Ok(vec![Tensor::floats(*dtype, shape.clone(), result)])
}

/// Scaled dot-product attention.
pub static ATTENTION: OpDef = OpDef {
    name: "attention",
    doc: "`attention(q, k, v, mask)`: `softmax(scale * q k^T + mask) v` (Vaswani et al., 2017, section 3.2.1) for q [b,h,s,d], k [b,g,t,d], \
          v [b,g,t,e] and a mask that broadcasts to [b,h,s,t]; `h / g` query heads share a key head. With `zero_masked` a row whose scores \
          are all -inf or hold a NaN gives zeros. With `causal=[o]` the score of key j for query i is `fill` where j > i + o, whatever \
          the mask and the product say: -inf, or a number that a row sees only where all its other scores are as low.",
    arity: Arity::range(3, 4),
    attrs: &[
        AttrSpec::required("scale", AttrKind::Float),
        AttrSpec::optional("zero_masked", AttrKind::Int),
        AttrSpec::optional("causal", AttrKind::Dims),
        AttrSpec::optional("fill", AttrKind::Float),
    ],
    class: Fusion::Contraction,
    infer: infer_attention,
    eval: eval_attention,
    content: None,
    work: |cx, out| {
        let [q, k, ..] = cx.args else { return Work { flops: Dim::default() } };
        let ([b, h, s, d], [_, _, t, _], Some(e)) =
            (q.shape.as_slice(), k.shape.as_slice(), out.shape.get(3))
        else {
            return Work { flops: Dim::default() };
        };
        let twice = &Dim::from(2) * &(s * t);
        // The last queries see all keys, the first of as many queries as keys see one.
        let last = [t - s];
        let scores = if cx.attrs.dims("causal") == last { &twice - &(s * s) } else { twice };
        Work { flops: &(&(b * h) * &scores) * &(d + e) }
    },
    samples: &[
        "f32[2,4,N,8], f32[2,2,M,8], f32[2,2,M,3], f32[N,M] {scale=0.5}",
        "f32[1,2,3,4], f32[1,2,N,4], f32[1,2,N,4] {scale=1, zero_masked=1}",
        "f32[1,2,S,4], f32[1,2,P+S,4], f32[1,2,P+S,4] {scale=1, causal=[P], fill=-1e4}",
    ],
};

fn infer_attention(cx: &InferCx<'_>) -> Result<Vec<TensorType>, OpError> {
    let (q, k, v) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    Domain::Float.require(q)?;
    cx.args[1..].iter().try_for_each(|other| require_same_dtype(q, other))?;
    let ([b, h, s, d], [kb, g, t, kd], [vb, vg, vt, e]) =
        (q.shape.as_slice(), k.shape.as_slice(), v.shape.as_slice())
    else {
        return Err(format!("needs tensors of 4 axes, got {q}, {k} and {v}"));
    };
    cx.require_eq(b, kb, "batch extents of queries and keys")?;
    cx.require_eq(b, vb, "batch extents of queries and values")?;
    cx.require_eq(d, kd, "head extents of queries and keys")?;
    cx.require_eq(g, vg, "heads of keys and values")?;
    cx.require_eq(t, vt, "lengths of keys and values")?;
    match (h.as_const(), g.as_const()) {
        (Some(h), Some(g)) if g > 0 && h % g == 0 => {}
        _ if h == g => {}
        _ => return Err(format!("{h} query heads are not a known multiple of {g} key heads")),
    }
    match (cx.attrs.get("causal").is_some(), cx.attrs.dims("causal"), cx.attrs.get("fill")) {
        (false, _, None) => {}
        (true, [_], Some(_)) if !cx.attrs.float("fill").is_nan() => {}
        _ => return Err("`causal` must be one number, and `fill` a number given with it".into()),
    }
    if let Some(mask) = cx.args.get(3) {
        let scores = [b.clone(), h.clone(), s.clone(), t.clone()];
        let shape = cx.broadcast(&scores, &mask.shape)?;
        if shape != scores {
            return Err(format!("the mask {mask} does not broadcast to [{b},{h},{s},{t}]"));
        }
    }
    Ok(vec![TensorType::new(q.dtype, vec![b.clone(), h.clone(), s.clone(), e.clone()])])
}

fn eval_attention(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (q, k, v, (dtype, shape)) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?, cx.out(0)?);
    let ([b, h, s, d], [_, g, t, _]) = (q.shape.as_slice(), k.shape.as_slice()) else {
        return Err("needs tensors of 4 axes".into());
    };
    let (e, group) = (shape[3], h / g.max(&1));
    let (scale, zero_masked) = (cx.attrs.float("scale"), cx.attrs.flag("zero_masked"));
    let (causal, fill) = (cx.attrs.ints("causal").first().copied(), cx.attrs.float("fill"));
    let mask = match cx.args.get(3) {
        Some(m) => {
            let at = View::broadcast(&m.shape, &[*b, *h, *s, *t]).indices(m.numel())?;
            let m = m.to_f64();
            Some(at.into_iter().map(|i| m[i]).collect::<Vec<_>>())
        }
        None => None,
    };
    let (q, k, v) = (q.to_f64(), k.to_f64(), v.to_f64());
    let mut out = Vec::with_capacity(b * h * s * e);
    for row in 0..b * h * s {
        let head = row / s;
        let source = head / h * g + head % h / group.max(1);
        let query = &q[row * d..(row + 1) * d];
        let mut scores: Vec<f64> = (0..*t)
            .map(|j| {
                if causal.is_some_and(|offset| j as i64 > ((row % s) as i64).saturating_add(offset)) {
                    return fill;
                }
                let key = &k[(source * t + j) * d..(source * t + j + 1) * d];
                let dot: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                scale * dot + mask.as_ref().map_or(0.0, |m| m[row * t + j])
            })
            .collect();
        super::norm::softmax_row(&mut scores, false, zero_masked);
        out.extend((0..e).map(|c| {
            let of = |(j, p): (usize, &f64)| p * v[(source * t + j) * e + c];
            scores.iter().enumerate().map(of).sum::<f64>()
        }));
    }
    Ok(vec![Tensor::floats(*dtype, shape.clone(), out)])
}

/// Rotary position embedding.
pub static ROPE: OpDef = OpDef {
    name: "rope",
    doc: "`rope(x, cos, sin)`: turns pairs of the first r elements of the last axis by an angle (Su et al., \"RoFormer\", 2021): element i becomes \
          `x[i] * cos[i] - x[i + r/2] * sin[i]` for i < r/2 and `x[i] * cos[i] + x[i - r/2] * sin[i]` for the others, or with `interleaved` the \
          pairs are neighbours; cos and sin [..,r] broadcast to x, whose other elements stay.",
    arity: Arity::exactly(3),
    attrs: &[AttrSpec::optional("interleaved", AttrKind::Int)],
    class: Fusion::Movement,
    infer: |cx| {
        let (x, cos, sin) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
        Domain::Float.require(x)?;
        require_same_dtype(x, cos)?;
        if cos != sin {
            return Err(format!("cosine and sine differ ({cos} vs {sin})"));
        }
        let ([lead @ .., d], [rows @ .., r]) = (x.shape.as_slice(), cos.shape.as_slice()) else {
            return Err(format!("needs at least one axis, got {x} and {cos}"));
        };
        match (d.as_const(), r.as_const()) {
            (Some(d), Some(r)) if r % 2 == 0 && r <= d => {}
            _ => return Err(format!("{r} of {d} elements cannot be turned in pairs")),
        }
        if cx.broadcast(lead, rows)? != lead {
            return Err(format!("{cos} does not broadcast to {x}"));
        }
        Ok(vec![x.clone()])
    },
    eval: eval_rope,
    content: None,
    work: |_, out| Work { flops: &Dim::from(3) * &out.numel() },
    samples: &["f32[2,N,4], f32[N,4], f32[N,4]", "f32[N,3,6], f32[3,4], f32[3,4] {interleaved=1}"],
};

fn eval_rope(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, cos, sin) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    let (Some((d, lead)), Some(r)) = (x.shape.split_last(), cos.shape.last()) else {
        return Err("needs at least one axis".into());
    };
    let interleaved = cx.attrs.flag("interleaved");
    let turned: Vec<usize> = lead.iter().chain([r]).copied().collect();
    let at = View::broadcast(&cos.shape, &turned).indices(cos.numel())?;
    let (cos, sin) = (cos.to_f64(), sin.to_f64());
    let mut out = x.to_f64();
    for (row, values) in out.chunks_exact_mut((*d).max(1)).enumerate() {
        let old = values.to_vec();
        for i in 0..*r {
            let (pair, sign) = match (interleaved, i) {
                (true, i) if i % 2 == 0 => (i + 1, -1.0),
                (true, i) => (i - 1, 1.0),
                (false, i) if i < r / 2 => (i + r / 2, -1.0),
                (false, i) => (i - r / 2, 1.0),
            };
            let factor = at[row * r + i];
            values[i] = old[i] * cos[factor] + sign * old[pair] * sin[factor];
        }
    }
    Ok(vec![Tensor::floats(x.dtype, x.shape.clone(), out)])
}

macro_rules! activation {
    ($($id:ident $name:literal $doc:literal $attrs:expr, $samples:expr, $f:expr;)*) => { $(
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            arity: Arity::exactly(1),
            attrs: $attrs,
            class: Fusion::Elementwise,
            infer: |cx| {
                let x = cx.arg(0)?;
                Domain::Float.require(x)?;
                Ok(vec![x.clone()])
            },
            eval: |cx| {
                let f: fn(&EvalCx<'_>, f64) -> f64 = $f;
                let x = cx.arg(0)?;
                let values = x.to_f64().into_iter().map(|v| f(cx, v)).collect();
                Ok(vec![Tensor::floats(x.dtype, x.shape.clone(), values)])
            },
            content: None,
            work: |_, out| Work { flops: &Dim::from(4) * &out.numel() },
            samples: $samples,
        };
    )* };
}

activation! {
    GELU "gelu" "`x * (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel, 2016), or with `tanh` its approximation \
        `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`."
        &[AttrSpec::optional("tanh", AttrKind::Int)], &["f32[2,N]", "f16[3] {tanh=1}"],
        |cx, x| if cx.attrs.flag("tanh") {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        } else {
            0.5 * x * (1.0 + scalar::erf(x * std::f64::consts::FRAC_1_SQRT_2))
        };
    SILU "silu" "`x / (1 + exp(-x))`." &[], &["f32[2,N]", "f16[]"], |_, x| x * scalar::sigmoid(x);
    HARD_SWISH "hard_swish" "`x * max(0, min(1, x / 6 + 1 / 2))`." &[], &["f32[2,N]"],
        |_, x| x * scalar::max(0.0, scalar::min(1.0, x / 6.0 + 0.5));
}
