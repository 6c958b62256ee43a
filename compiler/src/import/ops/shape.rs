//! Operators that change or report shapes.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId, dim};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("Concat", &[1, 4, 11, 13], concat),
    row("DepthToSpace", &[1, 11, 13, 28], depth_to_space),
    row("Dropout", &[1, 6, 7, 10, 12, 13, 22], dropout),
    row("Expand", &[8, 13], expand),
    row("Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], flatten),
    row("Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], identity),
    row("Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], reshape),
    row("Shape", &[1, 13, 15, 19, 21, 23, 24, 25], shape),
    row("Size", &[1, 13, 19, 21, 23, 24, 25], size),
    row("SpaceToDepth", &[1, 13, 28], space_to_depth),
    row("Squeeze", &[1, 11, 13, 21, 23, 24, 25], squeeze),
    row("Tile", &[1, 6, 13], tile),
    row("Transpose", &[1, 13, 21, 23, 24, 25], transpose),
    row("Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], unsqueeze),
];

fn identity(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    Ok(vec![n.input(cx, 0)?])
}

fn dropout(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    for ignored in ["seed", "ratio", "is_test", "consumed_inputs"] {
        n.attrs.has(ignored);
    }
    if let Some(mode) = n.opt(2).filter(|_| n.since >= 12) {
        let training = cx.number(mode, "training_mode")? != 0;
        let none = n.opt(1).and_then(|r| cx.known(r)).is_some_and(|r| r.to_f64() == [0.0]);
        if training && !none {
            return Err(cx.refuse("training mode", "export the model for inference"));
        }
    }
    let mut outs = vec![x];
    if n.wants(1) {
        // Nothing is dropped. Before operator set 10 the mask has the type of the data.
        let d = if n.since < 10 { cx.dtype(x) } else { DType::Bool };
        let one = cx.scalar(d, 1.0);
        let shape = cx.shape(x);
        outs.push(cx.expand(one, &shape)?);
    }
    Ok(outs)
}

/// The extents that the elements of Reshape's shape ask for: 0 copies (unless `allow_zero`) and -1 is what remains.
fn target(cx: &Cx, from: &[Dim], wanted: &[Dim], allow_zero: bool) -> Res<Vec<Dim>> {
    let mut out = Vec::with_capacity(wanted.len());
    let mut remainder = None;
    for (i, d) in wanted.iter().enumerate() {
        let copied = from.get(i);
        match d.as_const() {
            Some(-1) if remainder.is_none() => {
                remainder = Some(i);
                out.push(Dim::from(1));
            }
            Some(-1) => return Err(cx.invalid(codes::VALUE, "the shape holds -1 twice")),
            Some(v) if v < 0 => return Err(cx.invalid(codes::VALUE, format!("the shape holds {v}"))),
            Some(0) if !allow_zero => {
                let what =
                    || cx.invalid(codes::VALUE, format!("0 at {i} copies an extent that does not exist"));
                out.push(copied.ok_or_else(what)?.clone());
            }
            Some(_) => out.push(d.clone()),
            None => out.push(open(cx, d, copied, allow_zero)),
        }
    }
    let total = dim::product(from);
    if let Some(i) = remainder {
        let rest = dim::product(&out);
        out[i] = match total.exact_div(&rest) {
            Some(q) => q,
            None => cx.floor_div(&total, &cx.larger(&rest, &1.into()))?,
        };
        return Ok(out);
    }
    Ok(filled(&total, wanted, out))
}

/// An extent known only at run time, where 0 still copies and -1 stays: `max(d, (d == 0) * copied - (d == -1))`, one
/// term, so that products of such extents stay small.
fn open(cx: &Cx, d: &Dim, copied: Option<&Dim>, allow_zero: bool) -> Dim {
    if !is_element(d) || cx.range(d).0 > 0 {
        return d.clone();
    }
    let zero = Dim::from(0);
    let copied = copied.filter(|_| !allow_zero).unwrap_or(&zero);
    d.larger(&(&(&d.equals(&zero) * copied) - &d.equals(&(-1).into())))
}

/// Whether a dim is read from the contents of an input, where it can be anything.
fn is_element(d: &Dim) -> bool {
    let mut symbols = std::collections::BTreeSet::new();
    d.symbols(&mut symbols);
    symbols.iter().any(|s| s.contains('@'))
}

/// Elements read at run time may be -1 as well. Such an extent is what the others leave, whose product is that of all
/// extents, negated.
fn filled(total: &Dim, wanted: &[Dim], out: Vec<Dim>) -> Vec<Dim> {
    let others = &Dim::from(0) - &dim::product(&out);
    let Some(rest) = total.floor_div(&others.larger(&1.into())) else { return out };
    let one = |(w, d): (&Dim, &Dim)| {
        if is_element(w) { d.larger(&(&w.equals(&(-1).into()) * &rest)) } else { d.clone() }
    };
    wanted.iter().zip(&out).map(one).collect()
}

fn reshape(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let wanted = if n.since >= 5 {
        let v = n.input(cx, 1)?;
        cx.content(v, "the shape")?
    } else {
        n.ints("shape")?.unwrap_or_default().into_iter().map(Dim::from).collect()
    };
    let allow_zero = n.since >= 14 && n.flag("allowzero", false)?;
    let shape = target(cx, &cx.shape(x), &wanted, allow_zero)?;
    Ok(vec![cx.reshape(x, &shape)?])
}

fn flatten(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let (axis, shape) = (n.int("axis", 1)?, cx.shape(x));
    let rank = shape.len();
    let axis = if axis == rank as i64 { rank } else { cx.axis(axis, rank)? };
    Ok(vec![cx.reshape(x, &[dim::product(&shape[..axis]), dim::product(&shape[axis..])])?])
}

/// Axes from an input in new versions, from an attribute in old ones.
fn axes(cx: &Cx, n: &NodeCx<'_>) -> Res<Option<Vec<i64>>> {
    if n.since >= 13 { n.opt(1).map(|a| cx.numbers(a, "axes")).transpose() } else { n.ints("axes") }
}

fn squeeze(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let shape = cx.shape(x);
    let axes = match axes(cx, n)? {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => {
            if shape.iter().any(|d| d.as_const().is_none()) {
                return Err(cx.unknown("every extent of an input without axes"));
            }
            (0..shape.len()).filter(|a| shape[*a].is(1)).collect()
        }
    };
    for a in &axes {
        cx.require_eq(&shape[*a], &1.into(), "only an extent of 1 can be removed")?;
    }
    let kept: Vec<Dim> = (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a].clone()).collect();
    Ok(vec![cx.reshape(x, &kept)?])
}

fn unsqueeze(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let axes = axes(cx, n)?.ok_or_else(|| cx.invalid(codes::VALUE, "needs axes"))?;
    let shape = cx.shape(x);
    let rank = shape.len() + axes.len();
    let axes = cx.axes(&axes, rank)?;
    let mut old = shape.into_iter();
    let new: Vec<Dim> =
        (0..rank).filter_map(|a| if axes.contains(&a) { Some(Dim::from(1)) } else { old.next() }).collect();
    Ok(vec![cx.reshape(x, &new)?])
}

fn transpose(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let rank = cx.rank(x);
    let perm = match n.ints("perm")? {
        Some(perm) => cx.axes(&perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank {
        return Err(
            cx.invalid(codes::VALUE, format!("`perm` has {} entries for {rank} dimensions", perm.len()))
        );
    }
    Ok(vec![cx.transpose(x, &perm)?])
}

fn concat(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let xs = n.all(cx)?;
    let axis = match n.opt_int("axis")? {
        Some(axis) => axis,
        None if n.since < 4 => 1,
        None => return Err(cx.invalid(codes::VALUE, "needs the attribute `axis`")),
    };
    let axis = cx.axis(axis, cx.rank(xs[0]))?;
    match xs.as_slice() {
        [x] => Ok(vec![*x]),
        _ => Ok(vec![cx.concat(&xs, axis)?]),
    }
}

fn expand(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, to) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let wanted = cx.content(to, "the shape")?;
    let shape = cx.broadcast(&cx.shape(x), &wanted)?;
    Ok(vec![cx.expand(x, &shape)?])
}

fn tile(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, repeats) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let shape = cx.shape(x);
    let repeats = if n.since < 6 {
        let axis = n.input(cx, 2)?;
        let axis = cx.axis(cx.number(axis, "axis")?, shape.len())?;
        let mut all = vec![Dim::from(1); shape.len()];
        all[axis] = cx.one(repeats, "tiles")?;
        all
    } else {
        cx.content(repeats, "repeats")?
    };
    if repeats.len() != shape.len() {
        let what = format!("{} repeats for {} dimensions", repeats.len(), shape.len());
        return Err(cx.invalid(codes::VALUE, what));
    }
    let (mut split, mut wide, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for (d, r) in shape.iter().zip(&repeats) {
        if !r.is(1) {
            split.push(Dim::from(1));
            wide.push(r.clone());
        }
        split.push(d.clone());
        wide.push(d.clone());
        out.push(d * r);
    }
    let y = cx.reshape(x, &split)?;
    let y = cx.expand(y, &wide)?;
    Ok(vec![cx.reshape(y, &out)?])
}

fn shape(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let shape = cx.shape(x);
    let rank = shape.len() as i64;
    let bound = |v: i64| if v < 0 { v.saturating_add(rank) } else { v }.clamp(0, rank) as usize;
    let (mut start, mut end) = (0, shape.len());
    if n.since >= 15 {
        start = bound(n.int("start", 0)?);
        end = n.opt_int("end")?.map_or(end, bound);
    }
    let part = shape.get(start..end).unwrap_or_default();
    Ok(vec![cx.dims_tensor(part, DType::I64)?])
}

fn size(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let count = dim::product(&cx.shape(x));
    Ok(vec![cx.number_tensor(&count, DType::I64)?])
}

/// `[n, c, h, w]` and the block size.
fn blocks(cx: &Cx, n: &NodeCx<'_>) -> Res<(ValueId, [Dim; 4], Dim)> {
    let x = n.input(cx, 0)?;
    let block = n.int("blocksize", 0)?;
    let shape = <[Dim; 4]>::try_from(cx.shape(x))
        .map_err(|_| cx.invalid(codes::SHAPE, format!("needs [n, c, h, w], got {}", cx.ty(x))))?;
    if block < 1 {
        return Err(cx.invalid(codes::VALUE, format!("`blocksize` must be positive, not {block}")));
    }
    Ok((x, shape, Dim::from(block)))
}

fn divided(cx: &Cx, d: &Dim, by: &Dim) -> Res<Dim> {
    match d.exact_div(by) {
        Some(q) => Ok(q),
        None if d.as_const().is_some() => {
            Err(cx.invalid(codes::SHAPE, format!("extent {d} is not a multiple of {by}")))
        }
        None => cx.floor_div(d, by),
    }
}

fn depth_to_space(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, [b, c, h, w], k) = blocks(cx, n)?;
    let dcr = n.known_mode(cx, "mode", "DCR", &["DCR", "CRD"])? == "DCR";
    let inner = divided(cx, &c, &(&k * &k))?;
    let (split, perm) = if dcr {
        ([b.clone(), k.clone(), k.clone(), inner.clone(), h.clone(), w.clone()], [0, 3, 4, 1, 5, 2])
    } else {
        ([b.clone(), inner.clone(), k.clone(), k.clone(), h.clone(), w.clone()], [0, 1, 4, 2, 5, 3])
    };
    let y = cx.reshape(x, &split)?;
    let y = cx.transpose(y, &perm)?;
    Ok(vec![cx.reshape(y, &[b, inner, &h * &k, &w * &k])?])
}

fn space_to_depth(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, [b, c, h, w], k) = blocks(cx, n)?;
    let dcr = n.known_mode(cx, "mode", "DCR", &["DCR", "CRD"])? == "DCR";
    let (rows, cols) = (divided(cx, &h, &k)?, divided(cx, &w, &k)?);
    let y = cx.reshape(x, &[b.clone(), c.clone(), rows.clone(), k.clone(), cols.clone(), k.clone()])?;
    let y = cx.transpose(y, if dcr { &[0, 3, 5, 1, 2, 4] } else { &[0, 1, 3, 5, 2, 4] })?;
    Ok(vec![cx.reshape(y, &[b, &(&c * &k) * &k, rows, cols])?])
}
