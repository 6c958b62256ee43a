//! What decoders need besides attention: rotations by position, caches and convolutions with a state.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int, ints};
use super::super::node::{Importer, NodeCx, row};
use autoglm_ir::{DType, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("CausalConvWithState", &[27], causal_conv),
    row("RotaryEmbedding", &[23], rotary),
    row("TensorScatter", &[24], tensor_scatter),
];

/// Rotates pairs of elements of `[batch, heads, length, size]` or `[batch, length, heads * size]`.
fn rotary(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let x = n.input(cx, 0)?;
    let shape = cx.shape(x);
    let count = n.int("num_heads", 0)?;
    let (by_head, split, head_axis) = match shape.as_slice() {
        [_, _, _, _] => (x, shape.clone(), 1),
        [batch, length, hidden] if count > 0 => {
            let Some(size) = hidden.exact_div(&count.into()) else {
                return Err(cx.invalid(codes::SHAPE, format!("{hidden} does not divide into {count} heads")));
            };
            let split = vec![batch.clone(), length.clone(), count.into(), size];
            (cx.reshape(x, &split)?, split, 2)
        }
        _ => {
            return Err(
                cx.invalid(codes::SHAPE, format!("takes heads, got {} and num_heads={count}", cx.ty(x)))
            );
        }
    };
    let size = split[3].as_const().ok_or_else(|| cx.unknown("the size of a head"))?;
    let turned = match n.int("rotary_embedding_dim", 0)? {
        0 => size,
        d if (1..=size).contains(&d) => d,
        d => return Err(cx.invalid(codes::VALUE, format!("cannot rotate {d} of {size} elements"))),
    };
    if turned % 2 != 0 {
        return Err(cx.invalid(codes::VALUE, format!("cannot form pairs of {turned} elements")));
    }
    let cos = cache(cx, n, 1, head_axis, turned / 2)?;
    let sin = cache(cx, n, 2, head_axis, turned / 2)?;
    let half = Dim::from(turned / 2);
    let interleaved = n.flag("interleaved", false)?;
    let (second, step) = if interleaved { (1.into(), 2) } else { (half.clone(), 1) };
    let a = cx.slice_axis(by_head, 3, &0.into(), &half, step)?;
    let b = cx.slice_axis(by_head, 3, &second, &half, step)?;
    let real = turned_by(cx, (a, cos), (b, sin), "sub")?;
    let imaginary = turned_by(cx, (a, sin), (b, cos), "add")?;
    let mut y = if interleaved {
        let pair: Vec<Dim> = [&split[..3], &[half, 1.into()]].concat();
        let (real, imaginary) = (cx.reshape(real, &pair)?, cx.reshape(imaginary, &pair)?);
        let y = cx.concat(&[real, imaginary], 4)?;
        cx.reshape(y, &[&split[..3], &[turned.into()]].concat())?
    } else {
        cx.concat(&[real, imaginary], 3)?
    };
    if turned < size {
        let rest = cx.slice_axis(by_head, 3, &turned.into(), &(size - turned).into(), 1)?;
        y = cx.concat(&[y, rest], 3)?;
    }
    Ok(vec![cx.reshape(y, &shape)?])
}

/// `a * s op b * t`.
fn turned_by(
    cx: &mut Cx,
    (a, s): (ValueId, ValueId),
    (b, t): (ValueId, ValueId),
    op: &'static str,
) -> Res<ValueId> {
    let (left, right) = (cx.binary("mul", a, s)?, cx.binary("mul", b, t)?);
    cx.binary(op, left, right)
}

/// The rows of a cache that belong to the positions, with an extent of 1 for the heads.
fn cache(cx: &mut Cx, n: &NodeCx<'_>, input: usize, head_axis: usize, half: i64) -> Res<ValueId> {
    let mut rows = n.input(cx, input)?;
    if let Some(positions) = n.opt(3) {
        rows = cx.op("gather", [int("axis", 0)], &[rows, positions])?;
    }
    let mut shape = cx.shape(rows);
    if shape.len() != 3 {
        return Err(cx.invalid(codes::SHAPE, format!("a cache must be by position, got {}", cx.ty(rows))));
    }
    cx.require_eq(&shape[2], &half.into(), "a cache holds another number of pairs than are rotated")?;
    shape.insert(head_axis, 1.into());
    cx.reshape(rows, &shape)
}

/// A convolution of each channel by itself over what came before, of which the end is handed on.
fn causal_conv(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, w) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let (xs, ws) = (cx.shape(x), cx.shape(w));
    if xs.len() != 3 || ws.len() != 3 {
        let what = format!(
            "takes [batch, channels, length] and [channels, 1, size], got {} and {}",
            cx.ty(x),
            cx.ty(w)
        );
        return Err(cx.invalid(codes::SHAPE, what));
    }
    let channels = xs[1].as_const().ok_or_else(|| cx.unknown("the number of channels"))?;
    let kept = &ws[2] - &1.into();
    let padded = match n.opt(3) {
        Some(past) => cx.concat(&[past, x], 2)?,
        None => {
            let zero = cx.scalar(cx.dtype(x), 0.0);
            let none = vec![Dim::from(0); 3];
            cx.pad(x, zero, &[0.into(), 0.into(), kept.clone()], &none)?
        }
    };
    let attrs =
        [ints("strides", &[1]), ints("dilations", &[1]), ints("pads", &[0, 0]), int("groups", channels)];
    let args: Vec<ValueId> = [Some(padded), Some(w), n.opt(2)].into_iter().flatten().collect();
    let y = cx.op("conv", attrs, &args)?;
    let y = match n.known_mode(cx, "activation", "none", &["none", "silu", "swish"])? {
        "none" => y,
        _ => cx.widened(y, |cx, y| {
            let gate = cx.unary("sigmoid", y)?;
            cx.binary("mul", y, gate)
        })?,
    };
    let state = cx.slice_axis(padded, 2, &xs[2], &kept, 1)?;
    Ok(vec![y, state])
}

/// Writes one run of elements for each batch into a cache, from a position of its own on.
fn tensor_scatter(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (past, update) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let rank = cx.rank(past);
    let axis = cx.axis(n.int("axis", -2)?, rank)?;
    let circular = n.known_mode(cx, "mode", "linear", &["linear", "circular"])? == "circular";
    let shape = cx.shape(update);
    if shape.len() != rank || axis == 0 {
        let what = format!("cannot write {} along axis {axis} of {}", cx.ty(update), cx.ty(past));
        return Err(cx.invalid(codes::SHAPE, what));
    }
    let mut index = cx.iota(rank, axis, &shape[axis], DType::I64)?;
    if let Some(start) = n.opt(2) {
        let start = cx.cast(start, DType::I64)?;
        let start = cx.along(start, 0, rank)?;
        index = cx.binary("add", index, start)?;
    }
    if circular {
        let length = cx.shape(past)[axis].clone();
        let length = cx.number_tensor(&length, DType::I64)?;
        index = cx.op("mod", [int("fmod", 0)], &[index, length])?;
    }
    let index = cx.expand(index, &shape)?;
    Ok(vec![cx.op("scatter_elements", [int("axis", axis as i64)], &[past, index, update])?])
}
