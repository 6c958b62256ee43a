//! One form for what can be written in many: identities, folded shapes and constants, no duplicate and no dead node.

use crate::Options;
use crate::emitter::{Keep, rebuild};
use autoglm_ir::Graph;

/// Rounds after which the graph no longer changes in practice; more only cost time.
const ROUNDS_MAX: usize = 4;

/// Runs to a fixed point.
pub(crate) fn run(graph: &Graph, options: &Options) -> Result<Graph, String> {
    let mut current = once(graph, options)?;
    for _ in 1..ROUNDS_MAX {
        let next = once(&current, options)?;
        let settled = next.nodes.len() == current.nodes.len();
        current = next;
        if settled {
            break;
        }
    }
    Ok(current)
}

fn once(graph: &Graph, options: &Options) -> Result<Graph, String> {
    rebuild(graph, options, Keep::Simplified, &mut |emitter, node, args| {
        emitter.node(node, node.attrs.clone(), args)
    })
}
