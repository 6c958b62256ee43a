//! Pooling.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int, ints};
use super::super::node::{Importer, NodeCx, row};
use super::conv::spatial;
use super::window::Window;
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("AveragePool", &[1, 7, 10, 11, 19, 22], average_pool),
    row("GlobalAveragePool", &[1, 22], global),
    row("GlobalLpPool", &[1, 2, 22], global),
    row("GlobalMaxPool", &[1, 22], global),
    row("LpPool", &[1, 2, 11, 18, 22], lp_pool),
    row("MaxPool", &[1, 8, 10, 11, 12, 22], max_pool),
];

fn global(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axes: Vec<usize> = (2..cx.rank(x)).collect();
    if axes.is_empty() {
        return Err(cx.invalid(codes::SHAPE, format!("needs spatial dimensions, got {}", cx.ty(x))));
    }
    let y = match n.op {
        "GlobalMaxPool" => cx.reduce("reduce_max", x, &axes, true)?,
        "GlobalAveragePool" => cx.widened(x, |cx, x| cx.mean(x, &axes, true))?,
        _ => {
            let p = order(cx, n)?;
            cx.widened(x, |cx, x| {
                let powers = power(cx, x, p)?;
                let sum = cx.reduce("reduce_sum", powers, &axes, true)?;
                root(cx, sum, p)
            })?
        }
    };
    Ok(vec![y])
}

fn window(cx: &Cx, n: &NodeCx<'_>, x: ValueId) -> Res<Window> {
    let input = spatial(cx, x)?;
    let kernel = n.ints("kernel_shape")?.unwrap_or_default();
    Window::read(cx, n, kernel, &input)
}

/// Adds a pooling node whose padding consists of numbers.
fn pooled(
    cx: &mut Cx,
    op: &'static str,
    x: ValueId,
    w: &Window,
    pads: &[i64],
    (include_pad, ceil): (bool, bool),
) -> Res<ValueId> {
    if pads.iter().any(|p| *p < 0) {
        return Err(cx.refuse("negative padding", "slice the input instead"));
    }
    let mut attrs = vec![
        ints("kernel", &w.kernel),
        ints("strides", &w.strides),
        ints("dilations", &w.dilations),
        ints("pads", pads),
        int("ceil", i64::from(ceil)),
    ];
    if op == "avg_pool" {
        attrs.push(int("include_pad", i64::from(include_pad)));
    }
    cx.op(op, attrs, &[x])
}

/// `ceil_mode`; with automatic padding the extents divide evenly and it changes nothing.
fn ceil_mode(n: &NodeCx<'_>) -> Res<bool> {
    n.flag("ceil_mode", false)
}

fn max_pool(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    if n.wants(1) {
        return Err(cx.refuse("the output Indices", "remove the use of the second output"));
    }
    n.opt_int("storage_order")?;
    let mut w = window(cx, n, x)?;
    let ceil = ceil_mode(n)?;
    let y = match w.fixed_pads() {
        Some(pads) => pooled(cx, "max_pool", x, &w, &pads, (false, ceil))?,
        None => {
            let least = lowest(cx.dtype(x));
            let padded = w.pad(cx, x, least)?;
            let none = vec![0; 2 * w.kernel.len()];
            pooled(cx, "max_pool", padded, &w, &none, (false, ceil))?
        }
    };
    Ok(vec![y])
}

/// The smallest value of a type, which a maximum ignores.
fn lowest(d: DType) -> f64 {
    d.int_range().map_or(f64::NEG_INFINITY, |(lo, _)| lo as f64)
}

fn average_pool(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let w = window(cx, n, x)?;
    let include = n.flag("count_include_pad", false)?;
    let ceil = ceil_mode(n)?;
    let y = cx.widened(x, |cx, x| average(cx, x, w, include, ceil))?;
    Ok(vec![y])
}

fn average(cx: &mut Cx, x: ValueId, mut w: Window, include: bool, ceil: bool) -> Res<ValueId> {
    if let Some(pads) = w.fixed_pads() {
        let y = pooled(cx, "avg_pool", x, &w, &pads, (include, ceil))?;
        // Kernels count the covered elements of windows in two dimensions.
        let plain = w.kernel.len() == 2 || !ceil && pads.iter().all(|p| *p == 0);
        return if plain { Ok(y) } else { average_by_share(cx, (x, y), &w, &pads, include) };
    }
    // Padding that depends on the shape: the mean over the padded input, divided by the covered share of each window.
    let none = vec![0; 2 * w.kernel.len()];
    let mut other = Window {
        kernel: w.kernel.clone(),
        strides: w.strides.clone(),
        dilations: w.dilations.clone(),
        pads: w.pads.clone(),
    };
    let padded = w.pad(cx, x, 0.0)?;
    let mean = pooled(cx, "avg_pool", padded, &w, &none, (true, ceil))?;
    if include {
        return Ok(mean);
    }
    let mut shape = cx.shape(x);
    (shape[0], shape[1]) = (Dim::from(1), Dim::from(1));
    let one = cx.scalar(cx.dtype(x), 1.0);
    let ones = cx.expand(one, &shape)?;
    let ones = other.pad(cx, ones, 0.0)?;
    let share = pooled(cx, "avg_pool", ones, &w, &none, (true, ceil))?;
    cx.binary("div", mean, share)
}

/// The mean over windows of the input padded with zeros, divided by the share of each window that counts. `y` is the
/// pooling itself, whose extents say how far the last windows reach.
fn average_by_share(
    cx: &mut Cx,
    (x, y): (ValueId, ValueId),
    w: &Window,
    pads: &[i64],
    include: bool,
) -> Res<ValueId> {
    let (shape, out, spatial) = (cx.shape(x), cx.shape(y), w.kernel.len());
    let none = vec![Dim::from(0); 2];
    let (mut before, mut after, mut beyond) = (none.clone(), none.clone(), none);
    for i in 0..spatial {
        let (begin, end) = (Dim::from(pads[i]), Dim::from(pads[spatial + i]));
        let reach = &(&out[2 + i] - &1.into()) * &w.strides[i].into();
        let reach = &reach + &Dim::from((w.kernel[i] - 1) * w.dilations[i] + 1);
        let rest = cx.larger(&(&reach - &(&(&shape[2 + i] + &begin) + &end)), &0.into());
        before.push(begin);
        after.push(end);
        beyond.push(rest);
    }
    let zero = cx.scalar(cx.dtype(x), 0.0);
    let one = cx.scalar(cx.dtype(x), 1.0);
    let far: Vec<Dim> = after.iter().zip(&beyond).map(|(a, b)| a + b).collect();
    let unpadded = vec![0; 2 * spatial];
    let padded = cx.pad(x, zero, &before, &far)?;
    let mean = pooled(cx, "avg_pool", padded, w, &unpadded, (true, false))?;
    let ones = cx.expand(one, &[&[1.into(), 1.into()], &shape[2..]].concat())?;
    let ones = cx.pad(ones, if include { one } else { zero }, &before, &after)?;
    let ones = cx.pad(ones, zero, &vec![Dim::from(0); 2 + spatial], &beyond)?;
    let share = pooled(cx, "avg_pool", ones, w, &unpadded, (true, false))?;
    cx.binary("div", mean, share)
}

/// The order of the norm.
fn order(cx: &Cx, n: &NodeCx<'_>) -> Res<f64> {
    let p = if n.since < 2 { n.float("p", 2.0)? } else { n.int("p", 2)? as f64 };
    if p >= 1.0 { Ok(p) } else { Err(cx.invalid(codes::VALUE, format!("`p` must be at least 1, not {p}"))) }
}

/// `|x|^p`.
fn power(cx: &mut Cx, x: ValueId, p: f64) -> Res<ValueId> {
    if p == 2.0 {
        return cx.binary("mul", x, x);
    }
    let a = cx.unary("abs", x)?;
    if p == 1.0 { Ok(a) } else { cx.with("pow", a, p) }
}

/// `x^(1/p)`.
fn root(cx: &mut Cx, x: ValueId, p: f64) -> Res<ValueId> {
    match p {
        1.0 => Ok(x),
        2.0 => cx.unary("sqrt", x),
        _ => cx.with("pow", x, 1.0 / p),
    }
}

/// The mean of powers over windows that include the padding, times the size of the window.
fn lp_pool(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let mut w = window(cx, n, x)?;
    let p = order(cx, n)?;
    if ceil_mode(n)? {
        return Err(cx.refuse("ceil_mode=1", "pad the input explicitly instead"));
    }
    let y = cx.widened(x, |cx, x| {
        let powers = power(cx, x, p)?;
        let padded = w.pad(cx, powers, 0.0)?;
        let none = vec![0; 2 * w.kernel.len()];
        let mean = pooled(cx, "avg_pool", padded, &w, &none, (true, false))?;
        let count: f64 = w.kernel.iter().map(|k| *k as f64).product();
        let sum = cx.with("mul", mean, count)?;
        root(cx, sum, p)
    })?;
    Ok(vec![y])
}
