//! Constant scales and biases after a convolution become part of its weights.
//!
//! conv(x, w, b) * s = conv(x, w * s, b * s) and conv(x, w, b) + t = conv(x, w, b + t), for s and t constant along
//! everything but the channel. Reassociates: the products round in another order.

use crate::Options;
use crate::emitter::{Emitter, rebuild};
use autoglm_ir::{Attr, Attrs, Dim, Graph, Node, Tensor, ValueId};

/// Folds until nothing is left to fold.
pub(crate) fn run(graph: &Graph, options: &Options) -> Result<Graph, String> {
    if options.strict {
        return Ok(graph.clone());
    }
    let uses = use_counts(graph);
    let single: Vec<bool> = uses.iter().map(|n| *n == 1).collect();
    // Whether a new value stands for an old one that has a single use.
    let mut absorbable: Vec<bool> = Vec::new();
    rebuild(graph, options, true, &mut |e, node, args| {
        let folded = fold(e, node, &args, &absorbable)?;
        let outs = match folded {
            Some(v) => vec![v],
            None => e.emit(node.op, node.attrs.clone(), args, &node.loc)?,
        };
        if let ([old], [new]) = (node.outs.as_slice(), outs.as_slice()) {
            let at = new.0 as usize;
            absorbable.resize(absorbable.len().max(at + 1), false);
            absorbable[at] = single[old.0 as usize];
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
    absorbable: &[bool],
) -> Result<Option<ValueId>, String> {
    let name = node.op.name();
    let (true, [a, b]) = (matches!(name, "mul" | "add"), args) else { return Ok(None) };
    let (conv_out, factor) = if e.graph.constant(*b).is_some() { (*a, *b) } else { (*b, *a) };
    if !absorbable.get(conv_out.0 as usize).copied().unwrap_or(false) {
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
    let loc = &conv.loc;
    let flat = |e: &mut Emitter<'_>, v: ValueId| -> Result<ValueId, String> {
        let shape = Attrs::new([("shape", Attr::Dims(vec![e.graph.ty(v).numel()]))]);
        let v = e.op("reshape", shape, vec![v], loc)?;
        let shape = Attrs::new([("shape", Attr::Dims(vec![channels.into()]))]);
        e.op("expand", shape, vec![v], loc)
    };
    let factor = flat(e, factor)?;
    let mut new_args = vec![conv.args[0], weight];
    let bias = conv.args.get(2).copied();
    if name == "mul" {
        let mut shape = vec![Dim::from(1); e.graph.ty(weight).rank()];
        shape[0] = channels.into();
        let column = e.op("reshape", Attrs::new([("shape", Attr::Dims(shape))]), vec![factor], loc)?;
        new_args[1] = e.op("mul", Attrs::default(), vec![weight, column], loc)?;
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
