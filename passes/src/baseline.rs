//! A graph that is made runnable but not optimised.

use crate::Options;
use crate::emitter::{Emitter, Keep, rebuild};
use autoglm_ir::{Graph, Node, ValueId};

/// Folds what does not depend on the inputs and leaves all else as the model has it; dead nodes go.
pub(crate) fn fold(graph: &Graph, options: &Options) -> Result<Graph, String> {
    let folded = rebuild(graph, options, Keep::AsWritten, &mut |e, node, args| {
        if let Some(out) = product_with_bias(e, node, &args)? {
            return Ok(vec![out]);
        }
        e.node(node, node.attrs.clone(), args)
    })?;
    let live = crate::live_nodes(&folded);
    if live.iter().all(|live| *live) {
        return Ok(folded);
    }
    rebuild(&folded, options, Keep::AsWritten, &mut |e, node, args| e.node(node, node.attrs.clone(), args))
}

/// The sum of a product and a vector, where one ONNX node (`Gemm`) is both: the product's kernel adds the vector.
fn product_with_bias(e: &mut Emitter<'_>, node: &Node, args: &[ValueId]) -> Result<Option<ValueId>, String> {
    let &[sum, bias] = args else { return Ok(None) };
    let Some(product) = e.graph.producer(sum) else { return Ok(None) };
    let same = product.loc == node.loc && !node.loc.is_empty();
    if e.options.strict || node.op.name() != "add" || product.op.name() != "matmul" || !same {
        return Ok(None);
    }
    let (x, weight) = (product.args[0], product.args[1]);
    let columns = e.graph.ty(sum).shape.last().cloned();
    let bias_ty = e.graph.ty(bias);
    let fits = bias_ty.rank() == 1
        && bias_ty.shape.last() == columns.as_ref()
        && e.graph.ty(weight).rank() == 2
        && e.graph.constant(weight).is_some()
        && bias_ty.dtype == e.graph.ty(sum).dtype;
    if !fits {
        return Ok(None);
    }
    e.op("linear", autoglm_ir::Attrs::default(), vec![x, weight, bias], &node.loc).map(Some)
}
