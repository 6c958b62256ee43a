//! Scales, biases and pads around convolutions and pools.
//!
//! Extraction keeps the convolution as it was where it has another use: two convolutions cost more than one and a scale.

use super::algebra::{nonnegative, product_of_constants, require_factor, rule, sum_of_constants};
use super::require_f32;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attr, Attrs, Dim};
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    rule!("conv-scale", Reassociates, "conv(x, w) * s = conv(x, w * s) for s constant but along channels",
        "(mul (conv:p ?x ?w:const) ?s:const)" => Rhs::Apply(scale)),
    rule!("conv-bias-scale", Reassociates, "conv(x, w, b) * s = conv(x, w * s, b * s) for s constant but along channels",
        "(mul (conv:p ?x ?w:const ?b) ?s:const)" => Rhs::Apply(scale)),
    rule!("conv-bias", Reassociates, "conv(x, w) + t = conv(x, w, t) for t constant but along channels",
        "(add (conv:p ?x ?w) ?s:const)" => Rhs::Apply(bias)),
    rule!("conv-more-bias", Reassociates, "conv(x, w, b) + t = conv(x, w, b + t) for t constant but along channels",
        "(add (conv:p ?x ?w ?b:const) ?s:const)" => Rhs::Apply(bias)),
    rule!("scale-conv", Reassociates, "conv(x * s, w) = conv(x, w * s) for s constant but along channels",
        "(conv:p (mul ?x ?s:const) ?w:const)" => Rhs::Apply(input_scale)),
    rule!("scale-conv-bias", Reassociates, "conv(x * s, w, b) = conv(x, w * s, b) for s constant but along channels",
        "(conv:p (mul ?x ?s:const) ?w:const ?b)" => Rhs::Apply(input_scale)),
    rule!("bias-conv", Reassociates, "conv(x + t, w) = conv(x, w, w t) without padding",
        "(conv:p (add ?x ?s:const) ?w:const)" => Rhs::Apply(input_bias)),
    rule!("bias-conv-bias", Reassociates, "conv(x + t, w, b) = conv(x, w, w t + b) without padding",
        "(conv:p (add ?x ?s:const) ?w:const ?b:const)" => Rhs::Apply(input_bias)),
    rule!("pad-conv", Reassociates, "conv(pad(x), w) = conv(x, w) with that padding",
        "(conv:p (pad:q ?x 0) ?w)" => Rhs::Apply(pad_conv)),
    rule!("pad-conv-bias", Reassociates, "conv(pad(x), w, b) = conv(x, w, b) with that padding",
        "(conv:p (pad:q ?x 0) ?w ?b)" => Rhs::Apply(pad_conv)),
    rule!("conv-line", Exact, "conv(x, w) = reshape(conv(reshape(x), reshape(w))) of a line as an image of one row",
        "(conv:p ?x ?w:const)" => Rhs::Apply(line)),
    rule!("conv-line-bias", Exact, "conv(x, w, b) = reshape(conv(reshape(x), reshape(w), b)) of a line as an image of one row",
        "(conv:p ?x ?w:const ?b)" => Rhs::Apply(line)),
    rule!("pad-max-pool", Reassociates, "max_pool(pad(x)) = max_pool(x) with that padding, of -inf or of 0 where x >= 0",
        "(max_pool:p (pad:q ?x ?v:scalar))" => Rhs::Apply(pad_max_pool)),
    rule!("pad-avg-pool", Reassociates, "avg_pool(pad(x)) = avg_pool(x) that counts that padding",
        "(avg_pool:p (pad:q ?x 0))" => Rhs::Apply(pad_avg_pool)),
];

/// Requires the form of convolutions and pools that a model has.
pub(super) fn require_plain(attrs: &Attrs) -> Result<(), Miss> {
    match (attrs.str("layout"), attrs.str("algorithm")) {
        ("", "") => Ok(()),
        ("", _) => Err("the algorithm is chosen already".into()),
        _ => Err("the channels are last".into()),
    }
}

/// Requires channels in the second axis; gives their number in the result.
fn channels(b: &Builder<'_>, x: Id) -> Result<i64, Miss> {
    require_plain(&b.attrs("p")?)?;
    require_f32(b, x)?;
    b.ty(x)?.shape.get(1).and_then(Dim::as_const).ok_or_else(|| "the number of channels is not known".into())
}

/// A constant that varies along nothing but the second of `rank` axes, as a vector of its `channels`.
fn per_channel(b: &mut Builder<'_>, s: Id, rank: usize, channels: i64) -> Result<Id, Miss> {
    let ty = b.ty(s)?;
    let at = |axis: usize| (axis + ty.rank()).checked_sub(rank).map(|i| &ty.shape[i]);
    let others = (0..rank).filter(|axis| *axis != 1).filter_map(at).all(|d| d.is(1));
    let len = Dim::from(channels);
    if !others || ty.rank() > rank {
        return Err(Miss(format!("{ty} varies along more than the channels")));
    }
    match at(1) {
        Some(d) if *d == len => b.reshape(s, vec![len]),
        Some(d) if !d.is(1) => Err(Miss(format!("{ty} does not have {channels} channels"))),
        _ => {
            let value = b.uniform(s)?;
            b.fill(ty.dtype, &len, value)
        }
    }
}

/// A factor for each channel: neither infinite nor zero where it is one number.
fn factor(b: &mut Builder<'_>, rank: usize, channels: i64) -> Result<Id, Miss> {
    let s = b.var("s")?;
    match b.data(s).uniform() {
        Some(_) => require_factor(b, s).map(|_| ())?,
        None if b.largest(s)?.is_finite() => {}
        None => return Err("the factor is not finite".into()),
    }
    per_channel(b, s, rank, channels)
}

fn scale(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, root) = (b.var("x")?, b.var("w")?, b.root()?);
    let rank = b.ty(x)?.rank();
    channels(b, x)?;
    let outputs = b.ty(w)?.shape[0].as_const().ok_or("the number of channels is not known")?;
    if b.ty(root)?.rank() != rank {
        return Err("the factor adds axes".into());
    }
    let s = factor(b, rank, outputs)?;
    let mut column = vec![Dim::from(1); rank];
    column[0] = outputs.into();
    let column = b.reshape(s, column)?;
    let mut args = vec![x, product_of_constants(b, w, column)?];
    if let Ok(bias) = b.var("b") {
        args.push(match b.data(bias).constant {
            Some(_) => product_of_constants(b, bias, s)?,
            None => b.op("mul", Attrs::default(), &[bias, s])?,
        });
    }
    let attrs = b.attrs("p")?;
    b.op("conv", attrs, &args)
}

fn bias(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, s) = (b.var("x")?, b.var("w")?, b.var("s")?);
    let rank = b.ty(x)?.rank();
    channels(b, x)?;
    let outputs = b.ty(w)?.shape[0].as_const().ok_or("the number of channels is not known")?;
    if !b.largest(s)?.is_finite() {
        return Err("the bias is not finite".into());
    }
    let more = per_channel(b, s, rank, outputs)?;
    let bias = match b.var("b") {
        Ok(bias) => sum_of_constants(b, bias, more)?,
        Err(_) => more,
    };
    let attrs = b.attrs("p")?;
    b.op("conv", attrs, &[x, w, bias])
}

/// The weight times what belongs to each input channel.
fn weighted(b: &mut Builder<'_>, s: Id) -> Result<Id, Miss> {
    let (w, groups) = (b.var("w")?, b.attrs("p")?.int("groups"));
    let shape = b.ty(w)?.shape;
    let outputs = shape[0].as_const().filter(|m| groups > 0 && m % groups == 0);
    let outputs = outputs.ok_or("the groups of the weight are not known")?;
    // [m, c / g, ..] is [g, m / g, c / g, ..], and s is [g, c / g].
    let mut grouped = vec![Dim::from(groups), Dim::from(outputs / groups)];
    grouped.extend(shape[1..].iter().cloned());
    let mut along = vec![Dim::from(1); grouped.len()];
    (along[0], along[2]) = (groups.into(), shape[1].clone());
    let (wide, along) = (b.reshape(w, grouped)?, b.reshape(s, along)?);
    let product = product_of_constants(b, wide, along)?;
    b.reshape(product, shape)
}

fn input_scale(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    let (rank, inputs) = (b.ty(x)?.rank(), channels(b, x)?);
    let s = factor(b, rank, inputs)?;
    let w = weighted(b, s)?;
    let args: Vec<Id> = [x, w].into_iter().chain(b.var("b").ok()).collect();
    let attrs = b.attrs("p")?;
    b.op("conv", attrs, &args)
}

fn input_bias(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, s, attrs) = (b.var("x")?, b.var("w")?, b.var("s")?, b.attrs("p")?);
    if attrs.ints("pads").iter().any(|p| *p != 0) {
        return Err("the convolution pads, and padding has no bias".into());
    }
    let (rank, inputs) = (b.ty(x)?.rank(), channels(b, x)?);
    if !b.largest(s)?.is_finite() {
        return Err("the bias is not finite".into());
    }
    let shift = per_channel(b, s, rank, inputs)?;
    let product = weighted(b, shift)?;
    let axes = (1..rank as i64).collect();
    let sum = Attrs::new([("axes", Attr::Ints(axes)), ("keepdims", Attr::Int(0))]);
    let mut bias = b.op("reduce_sum", sum, &[product])?;
    if let Ok(own) = b.var("b") {
        bias = sum_of_constants(b, bias, own)?;
    }
    if b.data(bias).constant.is_none() || !b.largest(bias)?.is_finite() {
        return Err("the bias together is not known to be finite".into());
    }
    b.op("conv", attrs, &[x, w, bias])
}

/// The padding of a window operator with that of a pad, which must add along spatial axes only.
fn joined_pads(b: &Builder<'_>) -> Result<Attrs, Miss> {
    let (attrs, pad) = (b.attrs("p")?, b.attrs("q")?);
    require_plain(&attrs)?;
    let own = attrs.ints("pads");
    let mut pads = Vec::with_capacity(own.len());
    for (side, own) in ["before", "after"].into_iter().zip(own.chunks(own.len().div_ceil(2).max(1))) {
        let added = pad.dims(side);
        if added.iter().take(2).any(|d| !d.is(0)) {
            return Err("batches or channels are padded, too".into());
        }
        for (own, added) in own.iter().zip(added.iter().skip(2)) {
            let added = added.as_const().filter(|n| (0..=1 << 20).contains(n));
            let joined = added.and_then(|added| own.checked_add(added));
            pads.push(joined.ok_or("the padding is not known or cuts")?);
        }
    }
    if pads.len() != own.len() {
        return Err("the padding has other axes than the windows".into());
    }
    Ok(attrs.with("pads", Attr::Ints(pads)))
}

fn pad_conv(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, attrs) = (b.var("x")?, b.var("w")?, joined_pads(b)?);
    let args: Vec<Id> = [x, w].into_iter().chain(b.var("b").ok()).collect();
    b.op("conv", attrs, &args)
}

/// Requires no window to lie in the padding altogether, so that ignoring padding leaves it something.
fn require_inside(attrs: &Attrs) -> Result<(), Miss> {
    let kernel = attrs.ints("kernel");
    if attrs.flag("ceil") || attrs.ints("dilations").iter().any(|d| *d != 1) {
        return Err("windows may reach beyond the padding".into());
    }
    if attrs.ints("pads").iter().zip(kernel.iter().cycle()).all(|(pad, kernel)| pad < kernel) {
        Ok(())
    } else {
        Err("a window may lie in the padding".into())
    }
}

fn pad_max_pool(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, value, attrs) = (b.var("x")?, b.uniform(b.var("v")?)?, joined_pads(b)?);
    require_f32(b, x)?;
    require_inside(&attrs)?;
    let bounded = |args: &[Id]| args.iter().any(|a| b.data(*a).uniform().is_some_and(|u| u >= 0.0));
    let raised = b.nodes(x, "max").iter().any(|(_, args)| bounded(args));
    if value != f64::NEG_INFINITY && !(value == 0.0 && (raised || nonnegative(b, x, 6))) {
        return Err(Miss(format!("a maximum with {value} may be another")));
    }
    b.op("max_pool", attrs, &[x])
}

fn pad_avg_pool(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, attrs) = (b.var("x")?, joined_pads(b)?);
    if b.attrs("p")?.ints("pads").iter().any(|p| *p != 0) || attrs.flag("ceil") {
        return Err("the pool has padding of its own".into());
    }
    if b.ty(x)?.rank() != 4 {
        return Err("only images have a kernel for pools that count padding".into());
    }
    b.op("avg_pool", attrs.with("include_pad", Attr::Int(1)), &[x])
}

fn line(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, w, attrs) = (b.var("x")?, b.var("w")?, b.attrs("p")?);
    require_plain(&attrs)?;
    require_f32(b, x)?;
    let (mut image, mut kernel) = (b.ty(x)?.shape, b.ty(w)?.shape);
    if image.len() != 3 || kernel.len() != 3 {
        return Err("it is not over one axis".into());
    }
    image.insert(2, 1.into());
    kernel.insert(2, 1.into());
    let (image, kernel) = (b.reshape(x, image)?, b.reshape(w, kernel)?);
    let of = |name: &str| attrs.ints(name).to_vec();
    let (strides, dilations, pads) = (of("strides"), of("dilations"), of("pads"));
    let ([stride], [dilation], [before, after]) = (strides.as_slice(), dilations.as_slice(), pads.as_slice())
    else {
        return Err("a geometry of more than one axis".into());
    };
    let attrs = attrs
        .with("strides", Attr::Ints(vec![1, *stride]))
        .with("dilations", Attr::Ints(vec![1, *dilation]))
        .with("pads", Attr::Ints(vec![0, *before, 0, *after]));
    let args: Vec<Id> = [image, kernel].into_iter().chain(b.var("b").ok()).collect();
    let product = b.op("conv", attrs, &args)?;
    let shape = b.ty(b.root()?)?.shape;
    b.reshape(product, shape)
}
