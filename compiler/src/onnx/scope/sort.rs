//! Putting nodes in an order in which each comes after those it reads from.

use super::{Sink, label, subgraphs};
use crate::onnx::error::{ReadError, code, shown};
use crate::onnx::proto::NodeProto;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Calls `each` with every name that a node reads, also within its subgraphs.
fn reads<'n>(node: &'n NodeProto, each: &mut dyn FnMut(&'n str)) {
    node.input.iter().for_each(|name| each(name));
    for graph in node.attribute.iter().flat_map(subgraphs) {
        graph.output.iter().for_each(|output| each(&output.name));
        graph.node.iter().for_each(|inner| reads(inner, each));
    }
}

/// The nodes, in order. Those already in order keep it; others move as little as possible, with a warning.
/// Nodes in a circle are reported and left where they are.
pub(super) fn sorted(nodes: Vec<NodeProto>, graph: &str, sink: &mut Sink<'_>) -> Vec<NodeProto> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            producer.entry(output).or_insert(i);
        }
    }
    let sources = |i: usize| {
        let mut found: Vec<usize> = Vec::new();
        reads(&nodes[i], &mut |name| found.extend(producer.get(name)));
        found
    };
    let Some(first) = (0..nodes.len()).find(|&i| sources(i).iter().any(|&from| from >= i)) else {
        drop(producer);
        return nodes;
    };

    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waits = vec![0usize; nodes.len()];
    for (i, wait) in waits.iter_mut().enumerate() {
        for from in sources(i) {
            readers[from].push(i);
            *wait += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|i| waits[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &reader in &readers[i] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = |i: usize| sources(i).into_iter().find(|from| waits[*from] > 0);
        report_circles(&nodes, &waits, stuck, sink);
        drop(producer);
        return nodes;
    }
    let what =
        "the nodes were not in topological order and have been sorted; this is the first that came too early";
    sink.warn(code::W_ORDER, format!("{what} (graph {})", shown(graph)), &label(&nodes[first]));
    drop(producer);
    let mut slots: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| slots[i].take()).collect()
}

/// Follows the waiting nodes backwards: every such walk ends in a circle.
fn report_circles(
    nodes: &[NodeProto],
    waits: &[usize],
    before: impl Fn(usize) -> Option<usize>,
    sink: &mut Sink<'_>,
) {
    // The walk that first came by each node; 0 for none.
    let mut walk = vec![0usize; nodes.len()];
    for start in (0..nodes.len()).filter(|i| waits[*i] > 0) {
        let mut path = Vec::new();
        let mut at = Some(start);
        while let Some(i) = at {
            if walk[i] != 0 {
                break;
            }
            walk[i] = start + 1;
            path.push(i);
            at = before(i);
        }
        let Some(meeting) = at.filter(|i| walk[*i] == start + 1) else { continue };
        let mut circle: Vec<usize> = path.into_iter().skip_while(|i| *i != meeting).collect();
        // The walk went against the flow of data.
        circle.reverse();
        let mut names: Vec<String> = circle.iter().take(10).map(|i| shown(&label(&nodes[*i]))).collect();
        if circle.len() > 10 {
            names.push(format!("({} more)", circle.len() - 10));
        }
        names.extend(names.first().cloned());
        let what = format!("nodes depend on each other in a circle: {}", names.join(" -> "));
        sink.error(ReadError::new(code::CYCLE, what).at(&label(&nodes[meeting])));
    }
}
