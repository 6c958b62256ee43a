//! Resizing an axis whose extents are known only at run time.

use super::super::super::cx::{Cx, Res, int};
use super::taps::{Coordinate, Filter, Mode, Nearest};
use super::{Axis, wide};
use autoglm_ir::{DType, Dim, ValueId};

/// Nearest and linear interpolation with coordinates computed at run time.
pub(super) fn interpolated(cx: &mut Cx, x: ValueId, f: &Filter, a: &Axis) -> Res<ValueId> {
    let help = "fix the extents with --dim";
    if f.antialias || f.exclude_outside || matches!(f.mode, Mode::Cubic(_)) {
        return Err(cx.unknown("every extent of a cubic, antialiased or excluding resize"));
    }
    let position =
        coordinate(cx, f, a)?.ok_or_else(|| cx.refuse("this coordinate mode with run-time extents", help))?;
    let last = cx.number_tensor(&(&a.from - &1.into()), DType::F64)?;
    let axis = int("axis", a.axis as i64);
    if let Mode::Nearest(nearest) = f.mode {
        let rounded = match nearest {
            Nearest::Floor => cx.unary("floor", position)?,
            Nearest::Ceil => cx.unary("ceil", position)?,
            Nearest::PreferFloor => {
                let p = cx.with("sub", position, 0.5)?;
                cx.unary("ceil", p)?
            }
            Nearest::PreferCeil => {
                let p = cx.with("add", position, 0.5)?;
                cx.unary("floor", p)?
            }
        };
        let index = clamped(cx, rounded, last)?;
        let index = cx.cast(index, DType::I64)?;
        return cx.op("gather", [axis], &[x, index]);
    }
    let position = clamped(cx, position, last)?;
    let low = cx.unary("floor", position)?;
    let share = cx.binary("sub", position, low)?;
    let high = cx.with("add", low, 1.0)?;
    let high = cx.binary("min", high, last)?;
    let (low, high) = (cx.cast(low, DType::I64)?, cx.cast(high, DType::I64)?);
    let x = wide(cx, x)?;
    let (before, after) = (cx.op("gather", [axis.clone()], &[x, low])?, cx.op("gather", [axis], &[x, high])?);
    let share = cx.cast(share, cx.dtype(x))?;
    let share = cx.along(share, a.axis, cx.rank(x))?;
    let step = cx.binary("sub", after, before)?;
    let step = cx.binary("mul", step, share)?;
    cx.binary("add", before, step)
}

fn clamped(cx: &mut Cx, v: ValueId, last: ValueId) -> Res<ValueId> {
    let v = cx.with("max", v, 0.0)?;
    cx.binary("min", v, last)
}

/// The input coordinate of each output, or nothing for a mode that is not supported here.
fn coordinate(cx: &mut Cx, f: &Filter, a: &Axis) -> Res<Option<ValueId>> {
    let i = cx.iota(1, 0, &a.to, DType::F64)?;
    let y = match f.coordinate {
        Coordinate::HalfPixel | Coordinate::PytorchHalfPixel => {
            // The single output of `PytorchHalfPixel` would read at 0; the clamp and this agree unless it shrinks.
            if f.coordinate == Coordinate::PytorchHalfPixel && !cx.range(&(&a.to - &2.into())).0.is_negative()
            {
                return half_pixel(cx, i, a).map(Some);
            }
            let y = half_pixel(cx, i, a)?;
            if f.coordinate == Coordinate::HalfPixel {
                return Ok(Some(y));
            }
            let many = cx.number_tensor(&Dim::from(1).equals(&a.to), DType::I64)?;
            let single = cx.with("eq", many, 1.0)?;
            let zero = cx.scalar(DType::F64, 0.0);
            cx.select(single, zero, y)?
        }
        Coordinate::Asymmetric => over_scale(cx, i, a)?,
        // With another factor the last element would lie beyond the last output.
        Coordinate::AlignCorners if a.scale.is_none_or(|scale| scale.fract() == 0.0) => {
            let ends = cx.larger(&(&a.to - &1.into()), &1.into());
            let (num, den) =
                (cx.number_tensor(&(&a.from - &1.into()), DType::F64)?, cx.number_tensor(&ends, DType::F64)?);
            let y = cx.binary("mul", i, num)?;
            cx.binary("div", y, den)?
        }
        _ => return Ok(None),
    };
    Ok(Some(y))
}

fn half_pixel(cx: &mut Cx, i: ValueId, a: &Axis) -> Res<ValueId> {
    let centre = cx.with("add", i, 0.5)?;
    let y = over_scale(cx, centre, a)?;
    cx.with("sub", y, 0.5)
}

/// Divided by the factor.
fn over_scale(cx: &mut Cx, v: ValueId, a: &Axis) -> Res<ValueId> {
    if let Some(scale) = a.scale {
        return cx.with("div", v, scale);
    }
    let (from, to) = (cx.number_tensor(&a.from, DType::F64)?, cx.number_tensor(&a.to, DType::F64)?);
    let y = cx.binary("mul", v, from)?;
    cx.binary("div", y, to)
}
