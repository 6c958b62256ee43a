//! Resizing, one axis at a time: repeated elements, a gather or an interpolation matrix when the extents are known,
//! and coordinates computed at run time when they are not.

mod dynamic;
mod taps;

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, Tensor, ValueId};
use taps::{Coordinate, Filter, Mode, Nearest};

pub(crate) static IMPORTERS: &[Importer] =
    &[row("Resize", &[10, 11, 13, 18, 19], resize), row("Upsample", &[1, 7, 9, 10], upsample)];

/// Above these, coordinates are computed at run time rather than stored.
const ROWS_MAX: usize = 1 << 20;
const MATRIX_MAX: usize = 1 << 24;

/// One resized axis.
struct Axis {
    axis: usize,
    from: Dim,
    to: Dim,
    /// The factor, where it is a number and not the quotient of the extents.
    scale: Option<f64>,
    /// First and last coordinate of the region, as a share of the extent.
    roi: (f64, f64),
}

fn resize(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let (filter, axes) = if n.since < 11 {
        let scales = n.input(cx, 1)?;
        let scales = cx.floats(scales, "scales")?;
        (old_filter(cx, n)?, scaled(cx, x, &(0..cx.rank(x)).collect::<Vec<_>>(), &scales)?)
    } else {
        (filter(cx, n)?, requested(cx, n, x)?)
    };
    Ok(vec![resized(cx, x, &filter, &axes)?])
}

fn upsample(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let scales = match n.since {
        9.. => {
            let scales = n.input(cx, 1)?;
            cx.floats(scales, "scales")?
        }
        7 => n.floats("scales")?.unwrap_or_default(),
        _ => vec![1.0, 1.0, n.float("height_scale", 1.0)?, n.float("width_scale", 1.0)?],
    };
    let axes = scaled(cx, x, &(0..cx.rank(x)).collect::<Vec<_>>(), &scales)?;
    let filter = old_filter(cx, n)?;
    Ok(vec![resized(cx, x, &filter, &axes)?])
}

/// The one way of resizing before operator set 11.
fn old_filter(cx: &Cx, n: &NodeCx<'_>) -> Res<Filter> {
    let mode = match n.known_mode(cx, "mode", "nearest", &["nearest", "linear", "bilinear"])? {
        "nearest" => Mode::Nearest(Nearest::Floor),
        _ => Mode::Linear,
    };
    Ok(Filter {
        mode,
        coordinate: Coordinate::Asymmetric,
        antialias: false,
        exclude_outside: false,
        extrapolation: 0.0,
    })
}

fn filter(cx: &Cx, n: &NodeCx<'_>) -> Res<Filter> {
    let mode = match n.known_mode(cx, "mode", "nearest", &["nearest", "linear", "cubic"])? {
        "nearest" => {
            let names = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
            Mode::Nearest(match n.known_mode(cx, "nearest_mode", "round_prefer_floor", &names)? {
                "round_prefer_ceil" => Nearest::PreferCeil,
                "floor" => Nearest::Floor,
                "ceil" => Nearest::Ceil,
                _ => Nearest::PreferFloor,
            })
        }
        "linear" => Mode::Linear,
        _ => Mode::Cubic(n.float("cubic_coeff_a", -0.75)?),
    };
    let names = [
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    ];
    let coordinate = match n.known_mode(cx, "coordinate_transformation_mode", "half_pixel", &names)? {
        "half_pixel_symmetric" => Coordinate::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinate::PytorchHalfPixel,
        "align_corners" => Coordinate::AlignCorners,
        "asymmetric" => Coordinate::Asymmetric,
        "tf_crop_and_resize" => Coordinate::Crop,
        _ => Coordinate::HalfPixel,
    };
    Ok(Filter {
        mode,
        coordinate,
        antialias: n.since >= 18 && n.flag("antialias", false)?,
        exclude_outside: n.flag("exclude_outside", false)?,
        extrapolation: n.float("extrapolation_value", 0.0)?,
    })
}

/// The axes and their new extents, from `scales` or `sizes`.
fn requested(cx: &Cx, n: &NodeCx<'_>, x: ValueId) -> Res<Vec<Axis>> {
    let rank = cx.rank(x);
    let axes = match n.ints("axes")? {
        Some(axes) if n.since >= 18 => cx.axes(&axes, rank)?,
        _ => (0..rank).collect(),
    };
    // An empty tensor stands for an input that is left out.
    let given = |i: usize| n.opt(i).filter(|v| !cx.graph.ty(*v).numel().is(0));
    let mut out = match (given(2), given(3)) {
        (Some(scales), None) => scaled(cx, x, &axes, &cx.floats(scales, "scales")?)?,
        (None, Some(sizes)) => {
            let sizes = cx.content(sizes, "sizes")?;
            let policy = n.str("keep_aspect_ratio_policy", "stretch")?;
            sized(cx, x, &axes, &sizes, if n.since >= 18 { &policy } else { "stretch" })?
        }
        _ => return Err(cx.invalid(codes::VALUE, "needs one of scales and sizes")),
    };
    if n.str("coordinate_transformation_mode", "half_pixel")? == "tf_crop_and_resize" {
        let roi =
            given(1).ok_or_else(|| cx.invalid(codes::NODE, "tf_crop_and_resize needs the input roi"))?;
        let roi = cx.floats(roi, "roi")?;
        if roi.len() != 2 * axes.len() {
            return Err(
                cx.invalid(codes::VALUE, format!("roi has {} numbers for {} axes", roi.len(), axes.len()))
            );
        }
        for (i, a) in out.iter_mut().enumerate() {
            a.roi = (roi[i], roi[axes.len() + i]);
        }
    }
    Ok(out)
}

/// Axes multiplied by factors; the new extent is rounded down.
fn scaled(cx: &Cx, x: ValueId, axes: &[usize], scales: &[f64]) -> Res<Vec<Axis>> {
    if scales.len() != axes.len() || scales.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(
            cx.invalid(codes::VALUE, format!("scales {scales:?} must be {} positive numbers", axes.len()))
        );
    }
    let shape = cx.shape(x);
    let one = |(axis, scale): (&usize, &f64)| {
        let from = shape[*axis].clone();
        let to = match from.as_const() {
            // In f32, as the factor is: 0.7 of 10 is 7.
            Some(n) => Dim::from((n as f32 * *scale as f32).floor() as i64),
            None => fraction(cx, &from, *scale)?,
        };
        Ok(Axis { axis: *axis, from, to, scale: Some(*scale), roi: (0.0, 1.0) })
    };
    axes.iter().zip(scales).map(one).collect()
}

/// `floor(n * scale)` for a factor that is a multiple of 1/256.
fn fraction(cx: &Cx, n: &Dim, scale: f64) -> Res<Dim> {
    let num = scale * 256.0;
    if num.fract() != 0.0 || num > 65536.0 {
        let what = format!("the factor {scale} for an extent known only at run time");
        return Err(cx.refuse(what, "fix the extent with --dim, or give sizes instead of scales"));
    }
    cx.floor_div(&(n * &Dim::from(num as i64)), &256.into())
}

/// Axes of given extents; a policy other than "stretch" uses one factor for all.
fn sized(cx: &Cx, x: ValueId, axes: &[usize], sizes: &[Dim], policy: &str) -> Res<Vec<Axis>> {
    // Operator sets before 18 have a size for every axis.
    if sizes.len() != axes.len() {
        return Err(cx.invalid(codes::VALUE, format!("{} sizes for {} axes", sizes.len(), axes.len())));
    }
    let shape = cx.shape(x);
    let mut out: Vec<Axis> = axes
        .iter()
        .zip(sizes)
        .map(|(a, to)| Axis {
            axis: *a,
            from: shape[*a].clone(),
            to: to.clone(),
            scale: None,
            roi: (0.0, 1.0),
        })
        .collect();
    if policy == "stretch" {
        return Ok(out);
    }
    let ratio = |a: &Axis| Some(a.to.as_const()? as f64 / a.from.as_const().filter(|n| *n > 0)? as f64);
    let ratios: Option<Vec<f64>> = out.iter().map(ratio).collect();
    let ratios = ratios.ok_or_else(|| cx.unknown("every extent under keep_aspect_ratio_policy"))?;
    let scale = match policy {
        "not_larger" => ratios.iter().copied().fold(f64::INFINITY, f64::min),
        "not_smaller" => ratios.iter().copied().fold(0.0, f64::max),
        other => {
            return Err(
                cx.invalid(codes::VALUE, format!("keep_aspect_ratio_policy {other:?} does not exist"))
            );
        }
    };
    for a in &mut out {
        a.scale = Some(scale);
        a.to = Dim::from((scale * a.from.as_const().unwrap_or(0) as f64 + 0.5).floor() as i64);
    }
    Ok(out)
}

fn resized(cx: &mut Cx, x: ValueId, f: &Filter, axes: &[Axis]) -> Res<ValueId> {
    let from = cx.dtype(x);
    let mut y = x;
    for a in axes {
        let same = a.from == a.to && a.scale.is_none_or(|s| s == 1.0);
        if same && (f.coordinate != Coordinate::Crop || a.roi == (0.0, 1.0)) {
            continue;
        }
        y = one_axis(cx, y, f, a)?;
    }
    if cx.dtype(y) == from {
        return Ok(y);
    }
    // Interpolated integers are rounded by truncation after saturation.
    if let Some((lo, hi)) = from.int_range() {
        let lo = cx.with("max", y, lo as f64)?;
        y = cx.with("min", lo, hi as f64)?;
    }
    cx.cast(y, from)
}

fn one_axis(cx: &mut Cx, x: ValueId, f: &Filter, a: &Axis) -> Res<ValueId> {
    if let Some(times) = repeats(f, a) {
        return repeated(cx, x, a, times);
    }
    let (Some(from), Some(to)) = (a.from.as_usize(), a.to.as_usize()) else {
        return dynamic::interpolated(cx, x, f, a);
    };
    if to == 0 || from == 0 {
        return Err(cx.refuse(format!("resizing an extent of {from} to {to}"), "give a positive size"));
    }
    if to > ROWS_MAX || from.saturating_mul(to) > MATRIX_MAX {
        return dynamic::interpolated(cx, x, f, a);
    }
    let scale = a.scale.unwrap_or(to as f64 / from as f64);
    let rows = taps::rows(f, from, to, scale, a.roi);
    let y = if let Mode::Nearest(_) = f.mode {
        let index: Vec<i64> = rows.iter().map(|r| r.taps.first().map_or(0, |t| t.0 as i64)).collect();
        let index = cx.i64s(&index);
        cx.op("gather", [int("axis", a.axis as i64)], &[x, index])?
    } else {
        let wide = wide(cx, x)?;
        let mut m = vec![0.0; from * to];
        for (i, r) in rows.iter().enumerate() {
            r.taps.iter().for_each(|(j, w)| m[j * to + i] += w);
        }
        let m = cx.constant(Tensor::floats(cx.dtype(wide), vec![from, to], m));
        let (last, back) = cx.axis_last(wide, a.axis)?;
        let y = super::matmul::product(cx, last, m)?;
        cx.transpose(y, &back)?
    };
    outside(cx, y, f, a, &rows)
}

/// Interpolation happens in at least f32.
fn wide(cx: &mut Cx, x: ValueId) -> Res<ValueId> {
    let to = if cx.dtype(x).is_int() { DType::F64 } else { cx.wide(x) };
    cx.cast(x, to)
}

/// Puts the extrapolation value where a coordinate lies outside the input.
fn outside(cx: &mut Cx, y: ValueId, f: &Filter, a: &Axis, rows: &[taps::Row]) -> Res<ValueId> {
    if rows.iter().all(|r| !r.outside) {
        return Ok(y);
    }
    let mask = rows.iter().map(|r| i128::from(r.outside)).collect();
    let mask = cx.constant(Tensor::ints(DType::Bool, vec![rows.len()], mask));
    let mask = cx.along(mask, a.axis, cx.rank(y))?;
    let value = cx.scalar(cx.dtype(y), f.extrapolation);
    cx.select(mask, value, y)
}

/// How often each element is repeated, if that is all the resize does.
fn repeats(f: &Filter, a: &Axis) -> Option<i64> {
    let Mode::Nearest(nearest) = f.mode else { return None };
    let times = match a.scale {
        Some(s) if s.fract() == 0.0 && s < 65536.0 => s as i64,
        Some(_) => return None,
        None => a.to.exact_div(&a.from)?.as_const()?,
    };
    let exact = &a.from * &Dim::from(times) == a.to;
    let blocks = match f.coordinate {
        // The centres of the copies of an element all lie nearer to it than to any other.
        Coordinate::HalfPixel | Coordinate::HalfPixelSymmetric => {
            matches!(nearest, Nearest::PreferFloor | Nearest::PreferCeil)
        }
        Coordinate::Asymmetric => nearest == Nearest::Floor,
        _ => false,
    };
    (times >= 1 && exact && blocks).then_some(times)
}

fn repeated(cx: &mut Cx, x: ValueId, a: &Axis, times: i64) -> Res<ValueId> {
    let mut out = cx.shape(x);
    let (mut split, mut wide) = (out.clone(), out.clone());
    split.insert(a.axis + 1, Dim::from(1));
    wide.insert(a.axis + 1, Dim::from(times));
    out[a.axis] = a.to.clone();
    let y = cx.reshape(x, &split)?;
    let y = cx.expand(y, &wide)?;
    cx.reshape(y, &out)
}
