//! Attention over heads, as the function that defines the operator computes it.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res};
use super::super::node::{Importer, NodeCx, row};
use super::norm::softmax_axis;
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[row("Attention", &[23, 24, 25], attention)];

/// What is added to the scores, and whether it may exclude every key of a query.
struct Bias {
    value: ValueId,
    may_exclude_all: bool,
}

/// Query, key and value are `[batch, heads, length, size]`, or `[batch, length, heads * size]`.
fn attention(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (q, k, v) = (n.input(cx, 0)?, n.input(cx, 1)?, n.input(cx, 2)?);
    let flat = cx.rank(q) == 3;
    let q = heads(cx, n, q, "q_num_heads")?;
    let k = heads(cx, n, k, "kv_num_heads")?;
    let v = heads(cx, n, v, "kv_num_heads")?;
    if n.opt(4).is_some() != n.opt(5).is_some() {
        return Err(cx.invalid(codes::NODE, "needs past_key and past_value, or neither"));
    }
    let past = n.opt(4).map(|p| cx.shape(p).get(2).cloned().unwrap_or_default());
    let k = n.opt(4).map_or(Ok(k), |p| cx.concat(&[p, k], 2))?;
    let v = n.opt(5).map_or(Ok(v), |p| cx.concat(&[p, v], 2))?;

    let element = cx.dtype(q);
    let raw = products(cx, n, q, k)?;
    let capped = match n.float("softcap", 0.0)? {
        cap if cap > 0.0 => {
            let y = cx.with("div", raw, cap)?;
            let y = cx.unary("tanh", y)?;
            cx.with("mul", y, cap)?
        }
        _ => raw,
    };
    let lengths = [cx.shape(q)[2].clone(), cx.shape(k)[2].clone()];
    let bias = bias(cx, n, element, &lengths, past.as_ref())?;
    let biased = bias.as_ref().map_or(Ok(capped), |b| cx.binary("add", capped, b.value))?;
    let precision = n.dtype(cx, "softmax_precision")?.unwrap_or(element);
    let scores = cx.cast(biased, precision)?;
    let mut weights = softmax_axis(cx, scores, 3, false)?;
    if let Some(Bias { value, may_exclude_all: true }) = bias {
        weights = zero_where_excluded(cx, weights, value)?;
    }
    let weights = cx.cast(weights, element)?;
    let y = grouped(cx, weights, v)?;
    let y = if flat { merged(cx, y)? } else { y };
    let shown = match n.int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => weights,
        other => {
            return Err(
                cx.invalid(codes::VALUE, format!("`qk_matmul_output_mode` must be 0 to 3, not {other}"))
            );
        }
    };
    Ok(vec![y, k, v, shown])
}

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`, which may already be its form.
fn heads(cx: &mut Cx, n: &NodeCx<'_>, x: ValueId, attr: &str) -> Res<ValueId> {
    let shape = cx.shape(x);
    let count = n.opt_int(attr)?;
    match (shape.len(), count) {
        (4, _) => Ok(x),
        (3, Some(count)) if count > 0 => split_heads(cx, x, &count.into()),
        (3, _) => Err(cx.invalid(codes::VALUE, format!("needs `{attr}` for inputs of three dimensions"))),
        _ => Err(cx.invalid(codes::SHAPE, format!("takes three or four dimensions, got {}", cx.ty(x)))),
    }
}

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`.
fn split_heads(cx: &mut Cx, x: ValueId, count: &Dim) -> Res<ValueId> {
    let shape = cx.shape(x);
    let Some(size) = shape[2].exact_div(count) else {
        return Err(cx.invalid(codes::SHAPE, format!("{} does not divide into {count} heads", shape[2])));
    };
    let x = cx.reshape(x, &[shape[0].clone(), shape[1].clone(), count.clone(), size])?;
    cx.transpose(x, &[0, 2, 1, 3])
}

/// The inverse of [`split_heads`].
fn merged(cx: &mut Cx, x: ValueId) -> Res<ValueId> {
    let x = cx.transpose(x, &[0, 2, 1, 3])?;
    let s = cx.shape(x);
    cx.reshape(x, &[s[0].clone(), s[1].clone(), &s[2] * &s[3]])
}

/// Scaled products of queries and keys.
///
/// The definition scales both sides by the square root, whose rounding shows in narrow types only; else one
/// multiplication on the side of the queries does.
fn products(cx: &mut Cx, n: &NodeCx<'_>, q: ValueId, k: ValueId) -> Res<ValueId> {
    let scale = match (n.opt_float("scale")?, cx.shape(q)[3].as_const()) {
        (Some(scale), _) => scale as f32,
        (None, Some(size)) => 1.0 / (size as f32).sqrt(),
        (None, None) => return Err(cx.unknown("the size of a head")),
    };
    let k = cx.transpose(k, &[0, 1, 3, 2])?;
    if cx.wide(q) == cx.dtype(q) || scale < 0.0 {
        let q = cx.with("mul", q, f64::from(scale))?;
        return grouped(cx, q, k);
    }
    let root = f64::from(scale.sqrt());
    let (q, k) = (cx.with("mul", q, root)?, cx.with("mul", k, root)?);
    grouped(cx, q, k)
}

/// The products of each head; one of `b` serves as many neighbouring ones of `a` as it takes.
fn grouped(cx: &mut Cx, a: ValueId, b: ValueId) -> Res<ValueId> {
    let (sa, sb) = (cx.shape(a), cx.shape(b));
    if sa[1] == sb[1] {
        return cx.op("matmul", [], &[a, b]);
    }
    let Some(each) = sa[1].exact_div(&sb[1]) else {
        let what = format!("{} query heads cannot share {} key and value heads", sa[1], sb[1]);
        return Err(cx.invalid(codes::SHAPE, what));
    };
    let a = cx.reshape(a, &[sa[0].clone(), sb[1].clone(), each, sa[2].clone(), sa[3].clone()])?;
    let b = cx.reshape(b, &[sb[0].clone(), sb[1].clone(), 1.into(), sb[2].clone(), sb[3].clone()])?;
    let y = cx.op("matmul", [], &[a, b])?;
    cx.reshape(y, &[sa[0].clone(), sa[1].clone(), sa[2].clone(), sb[3].clone()])
}

/// Zeros for queries that may attend to no key, whose softmax is not a number.
fn zero_where_excluded(cx: &mut Cx, weights: ValueId, bias: ValueId) -> Res<ValueId> {
    let last = cx.rank(bias) - 1;
    let top = cx.reduce("reduce_max", bias, &[last], true)?;
    let excluded = cx.with("eq", top, f64::NEG_INFINITY)?;
    let zero = cx.scalar(cx.dtype(weights), 0.0);
    cx.select(excluded, zero, weights)
}

/// The sum of the given mask and of -inf at keys that causality, window or length exclude.
fn bias(
    cx: &mut Cx,
    n: &NodeCx<'_>,
    element: DType,
    lengths: &[Dim; 2],
    past: Option<&Dim>,
) -> Res<Option<Bias>> {
    let (mask, mut allowed) = mask(cx, n, element, &lengths[1])?;
    let causal = n.flag("is_causal", false)?;
    let windows = [n.int("left_window_size", -1)?, n.int("right_window_size", -1)?];
    let lasting = n.opt(6).map(|v| cx.cast(v, DType::I64)).transpose()?;
    let lasting = lasting.map(|v| cx.along(v, 0, 4)).transpose()?;
    let may_exclude_all = n.opt(3).is_some() || lasting.is_some() || windows.iter().any(|w| *w >= 0);
    let key = cx.iota(2, 1, &lengths[1], DType::I64)?;
    if causal || windows.iter().any(|w| *w >= 0) {
        let position = position(cx, &lengths[0], past, lasting)?;
        let behind = cx.binary("sub", position, key)?;
        let ahead = cx.unary("neg", behind)?;
        let right = if causal { Some(0) } else { None };
        let bounds = [(behind, windows[0]), (ahead, windows[1]), (ahead, right.unwrap_or(-1))];
        for (distance, bound) in bounds.into_iter().filter(|(_, bound)| *bound >= 0) {
            let bound = cx.scalar_int(DType::I64, bound.into());
            let near = cx.binary("le", distance, bound)?;
            allowed = Some(both(cx, allowed, near)?);
        }
    }
    if let Some(length) = lasting {
        let within = cx.binary("lt", key, length)?;
        allowed = Some(both(cx, allowed, within)?);
    }
    let excluding = match allowed {
        Some(allowed) => {
            let (zero, least) = (cx.scalar(element, 0.0), cx.scalar(element, f64::NEG_INFINITY));
            Some(cx.select(allowed, zero, least)?)
        }
        None => None,
    };
    let value = match (mask, excluding) {
        (Some(a), Some(b)) => Some(cx.binary("add", a, b)?),
        (a, b) => a.or(b),
    };
    Ok(value.map(|value| Bias { value, may_exclude_all }))
}

fn both(cx: &mut Cx, a: Option<ValueId>, b: ValueId) -> Res<ValueId> {
    a.map_or(Ok(b), |a| cx.binary("and", a, b))
}

/// The place of each query among the keys: after the past ones, or at the end of those that are not padding.
fn position(cx: &mut Cx, queries: &Dim, past: Option<&Dim>, lasting: Option<ValueId>) -> Res<ValueId> {
    let query = cx.iota(2, 0, queries, DType::I64)?;
    let offset = match (past, lasting) {
        (Some(past), _) => cx.number_tensor(past, DType::I64)?,
        (None, Some(length)) => {
            let queries = cx.number_tensor(queries, DType::I64)?;
            cx.binary("sub", length, queries)?
        }
        (None, None) => return Ok(query),
    };
    cx.binary("add", query, offset)
}

/// The mask as numbers to add, or as keys that are allowed; keys beyond its end are excluded.
fn mask(cx: &mut Cx, n: &NodeCx<'_>, element: DType, keys: &Dim) -> Res<(Option<ValueId>, Option<ValueId>)> {
    let Some(mask) = n.opt(3) else { return Ok((None, None)) };
    let chosen = cx.dtype(mask) == DType::Bool;
    let mask = if chosen { mask } else { cx.cast(mask, element)? };
    let shape = cx.shape(mask);
    let Some((given, outer)) = shape.split_last() else {
        return Err(cx.invalid(codes::SHAPE, "takes no mask of rank 0"));
    };
    cx.require_le(given, keys, "the mask is longer than the keys")?;
    let outside = cx.scalar(cx.dtype(mask), if chosen { 0.0 } else { f64::NEG_INFINITY });
    let before = vec![Dim::from(0); shape.len()];
    let mut after = vec![Dim::from(0); outer.len()];
    after.push(keys - given);
    let mask = cx.pad(mask, outside, &before, &after)?;
    Ok(if chosen { (None, Some(mask)) } else { (Some(mask), None) })
}
