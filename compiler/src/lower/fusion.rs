//! Which values exist only inside the step that consumes them.

use autoglm_ir::op::Fusion;
use autoglm_ir::{DType, Def, Graph, Node, ValueId};

/// Instructions of a loop body stay below this, so that its lanes fit the first-level cache.
const BODY_SIZE_MAX: usize = 96;

/// Decisions for every value of a graph.
pub(super) struct Plan {
    /// The value is computed inside the loop of its only consumer.
    pub(super) inline: Vec<bool>,
    /// The value is a transpose that its consumers, all matrix products, read through strides.
    pub(super) through: Vec<bool>,
    /// Whether some output depends on the node.
    pub(super) live: Vec<bool>,
}

impl Plan {
    pub(super) fn of(graph: &Graph) -> Plan {
        let live = autoglm_passes::live_nodes(graph);
        let mut uses = vec![0u32; graph.values.len()];
        let mut consumer: Vec<Option<usize>> = vec![None; graph.values.len()];
        let mut foldable = vec![true; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            for (at, arg) in node.args.iter().enumerate() {
                uses[arg.0 as usize] += 1;
                consumer[arg.0 as usize] = Some(i);
                foldable[arg.0 as usize] &= reads_through(graph, node, at);
            }
        }
        for output in &graph.outputs {
            uses[output.value.0 as usize] += 1;
            consumer[output.value.0 as usize] = None;
            foldable[output.value.0 as usize] = false;
        }
        let mut plan = Plan { inline: vec![false; uses.len()], through: vec![false; uses.len()], live };
        let mut size = vec![1usize; uses.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            let [out] = node.outs.as_slice() else { continue };
            let v = out.0 as usize;
            if !plan.live[i] {
                continue;
            }
            plan.through[v] = node.op.name() == "transpose" && foldable[v];
            if node.op.def().class != Fusion::Elementwise {
                continue;
            }
            size[v] = 2 + node.args.iter().map(|a| inlined_size(&plan, &size, *a)).sum::<usize>();
            let single = uses[v] == 1 && size[v] < BODY_SIZE_MAX;
            plan.inline[v] = single
                && consumer[v].is_some_and(|c| loops_over(graph, &graph.nodes[c], &graph.ty(*out).shape));
        }
        plan
    }

    /// Whether a value has no tensor of its own.
    pub(super) fn is_virtual(&self, v: ValueId) -> bool {
        self.inline[v.0 as usize] || self.through[v.0 as usize]
    }
}

fn inlined_size(plan: &Plan, size: &[usize], v: ValueId) -> usize {
    if plan.inline[v.0 as usize] { size[v.0 as usize] } else { 1 }
}

/// Whether a node is lowered to a loop over exactly this shape.
fn loops_over(graph: &Graph, node: &Node, shape: &[autoglm_ir::Dim]) -> bool {
    match node.op.def().class {
        Fusion::Elementwise => graph.ty(node.outs[0]).shape == shape,
        Fusion::Reduction => {
            let tile = node.op.name().starts_with("reduce_") || node.op.name().starts_with("arg_");
            tile && graph.ty(node.args[0]).shape == shape
        }
        _ => false,
    }
}

/// Whether argument `at` of `node` may be a transpose that the node reads through strides: the right side of a product is
/// packed from any strides, the left side needs its inner dimension contiguous.
fn reads_through(graph: &Graph, node: &Node, at: usize) -> bool {
    let arg = node.args[at];
    let Def::Node(..) = graph.value(arg).def else { return false };
    let Some(producer) = graph.producer(arg).filter(|p| p.op.name() == "transpose") else { return false };
    if node.op.name() != "matmul" || graph.ty(arg).dtype != DType::F32 {
        return false;
    }
    let perm = producer.attrs.ints("perm");
    at == 1 || perm.last().copied() == Some(perm.len() as i64 - 1)
}
