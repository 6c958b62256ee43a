//! Constant scales and biases after a convolution become part of its weights.
//!
//! conv(x, w, b) * s = conv(x, w * s, b * s) and conv(x, w, b) + t = conv(x, w, b + t), for s and t constant along
//! everything but the channel. Reassociates: the products round in another order.

use crate::Options;
use crate::emitter::{Emitter, rebuild};
use autoglm_ir::{Attr, Attrs, ConstData, ConstId, Dim, Graph, Node, Tensor, ValueId, interp};

/// How far a bound is followed through recipes: a scale or two, each through a reshape.
const RECIPE_DEPTH_MAX: usize = 6;

/// Folds until nothing is left to fold.
pub(crate) fn run(graph: &Graph, options: &Options) -> Result<Graph, String> {
    if options.strict {
        return Ok(graph.clone());
    }
    let uses = use_counts(graph);
    let single: Vec<bool> = uses.iter().map(|n| *n == 1).collect();
    // Whether a new value stands for one old value only, and that has a single use.
    let mut absorbable: Vec<Option<bool>> = Vec::new();
    rebuild(graph, options, true, &mut |e, node, args| {
        let folded = fold(e, node, &args, &absorbable)?;
        let outs = match folded {
            Some(v) => vec![v],
            None => e.emit(node.op, node.attrs.clone(), args, &node.loc)?,
        };
        if let ([old], [new]) = (node.outs.as_slice(), outs.as_slice()) {
            let at = new.0 as usize;
            absorbable.resize(absorbable.len().max(at + 1), None);
            absorbable[at] = Some(absorbable[at].is_none() && single[old.0 as usize]);
        }
        Ok(outs)
    })
}

/// How often each value is an argument or an output.
fn use_counts(graph: &Graph) -> Vec<u32> {
    let mut uses = vec![0; graph.values.len()];
    let args = graph.nodes.iter().flat_map(|n| n.args.iter().copied());
    for v in args.chain(graph.outputs.iter().map(|o| o.value)) {
        uses[v.0 as usize] += 1;
    }
    uses
}

fn fold(
    e: &mut Emitter<'_>,
    node: &Node,
    args: &[ValueId],
    absorbable: &[Option<bool>],
) -> Result<Option<ValueId>, String> {
    let name = node.op.name();
    let (true, [a, b]) = (matches!(name, "mul" | "add"), args) else { return Ok(None) };
    let (conv_out, factor) = if e.graph.constant(*b).is_some() { (*a, *b) } else { (*b, *a) };
    if absorbable.get(conv_out.0 as usize) != Some(&Some(true)) {
        return Ok(None);
    }
    let Some(conv) = e.graph.producer(conv_out).filter(|n| n.op.name() == "conv").cloned() else {
        return Ok(None);
    };
    let Some(&weight) = conv.args.get(1) else { return Ok(None) };
    if e.graph.constant(factor).is_none() || e.graph.constant(weight).is_none() {
        return Ok(None);
    }
    let out = e.graph.ty(conv_out).clone();
    let Some(channels) = out.shape.get(1).and_then(Dim::as_usize) else { return Ok(None) };
    if !per_channel(&e.graph.ty(factor).shape, out.rank(), channels) || !conv.attrs.str("layout").is_empty() {
        return Ok(None);
    }
    let bias = conv.args.get(2).copied();
    let scaled = (name == "mul").then_some(weight);
    if !stays_finite(&e.graph, name, scaled.into_iter().chain(bias), factor) {
        return Ok(None);
    }
    let loc = &conv.loc;
    let flat = |e: &mut Emitter<'_>, v: ValueId| -> Result<ValueId, String> {
        let shape = Attrs::new([("shape", Attr::Dims(vec![e.graph.ty(v).numel()]))]);
        let v = e.op("reshape", shape, vec![v], loc)?;
        let shape = Attrs::new([("shape", Attr::Dims(vec![channels.into()]))]);
        e.op("expand", shape, vec![v], loc)
    };
    let factor = flat(e, factor)?;
    let mut new_args = vec![conv.args[0], weight];
    if name == "mul" {
        let mut shape = vec![Dim::from(1); e.graph.ty(weight).rank()];
        shape[0] = channels.into();
        let column = e.op("reshape", Attrs::new([("shape", Attr::Dims(shape))]), vec![factor], loc)?;
        new_args[1] = e.op("mul", Attrs::default(), vec![weight, column], loc)?;
        if e.graph.constant(new_args[1]).is_none() {
            // The budget for constants is spent, and a weight that is computed in every run costs more than the scale.
            return Ok(None);
        }
        if let Some(bias) = bias {
            new_args.push(e.op("mul", Attrs::default(), vec![bias, factor], loc)?);
        }
    } else {
        let bias = match bias {
            Some(bias) => bias,
            None => {
                let zero = Tensor::floats(out.dtype, vec![channels], vec![0.0; channels]);
                e.graph.add_const("", zero)
            }
        };
        new_args.push(e.op("add", Attrs::default(), vec![bias, factor], loc)?);
    }
    e.op("conv", conv.attrs.clone(), new_args, loc).map(Some)
}

/// Whether the constants among `parts`, scaled or shifted by a constant factor, are finite for certain.
///
/// Where they are not, the convolution would sum infinities that the model never had: 0 * inf, or inf - inf.
fn stays_finite(graph: &Graph, op: &str, parts: impl Iterator<Item = ValueId>, factor: ValueId) -> bool {
    let Some(factor_id) = graph.constant(factor) else { return false };
    let dtype = graph.ty(factor).dtype;
    let finite = |bound: f64| Tensor::scalar(dtype, bound).to_f64().iter().all(|v| v.is_finite());
    let factor = largest(graph, factor_id, 0);
    let mut constants = parts.filter_map(|v| graph.constant(v)).map(|c| largest(graph, c, 0));
    finite(factor) && constants.all(|part| finite(if op == "mul" { part * factor } else { part + factor }))
}

/// A bound on the absolute value of a constant's elements, infinite if one is no number. Looks through the recipes that
/// this pass makes, and evaluates what is deeper or made otherwise.
fn largest(graph: &Graph, id: ConstId, depth: usize) -> f64 {
    if let ConstData::Recipe { op, args, .. } = &graph.consts[id.0 as usize].data
        && depth < RECIPE_DEPTH_MAX
    {
        match (op.name(), args.as_slice()) {
            ("mul", [a, b]) => return largest(graph, *a, depth + 1) * largest(graph, *b, depth + 1),
            ("reshape" | "expand" | "transpose", [x]) => return largest(graph, *x, depth + 1),
            _ => {}
        }
    }
    let Ok(tensor) = interp::const_tensor(graph, id) else { return f64::INFINITY };
    let larger = |m: f64, v: &f64| if v.is_nan() { f64::INFINITY } else { m.max(v.abs()) };
    tensor.to_f64().iter().fold(0.0, larger)
}

/// Whether a shape broadcasts only over the channel axis (1) of a result of this rank.
fn per_channel(shape: &[Dim], rank: usize, channels: usize) -> bool {
    let channel_axis = 1;
    shape.len() <= rank
        && shape
            .iter()
            .rev()
            .enumerate()
            .all(|(back, d)| d.is(1) || (rank - 1 - back == channel_axis && d.as_usize() == Some(channels)))
}
