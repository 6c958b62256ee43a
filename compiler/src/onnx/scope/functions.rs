//! The functions a model defines, and what calling them amounts to.

use super::{Opsets, Sink, opset_imports, plain_domain, subgraphs};
use crate::onnx::error::{ReadError, code, shown};
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use std::collections::{HashMap, HashSet};

/// One function and the operator sets that its body obeys.
pub(super) struct Function {
    pub(super) proto: FunctionProto,
    pub(super) opsets: Opsets,
    /// The attributes that calls can give.
    pub(super) attributes: HashSet<String>,
}

impl Function {
    fn title(&self) -> String {
        let FunctionProto { domain, name, overload, .. } = &self.proto;
        let colon = if overload.is_empty() { "" } else { ":" };
        shown(&format!("{domain}::{name}{colon}{overload}"))
    }
}

/// All functions of a model.
pub(super) struct Library {
    functions: Vec<Function>,
    /// Names of functions, to tell most nodes quickly.
    names: HashSet<String>,
    /// Domain, name and overload to index.
    index: HashMap<[String; 3], usize>,
    /// Whether calls can be expanded: false after an error that makes them endless.
    usable: bool,
}

impl Library {
    /// Indexes the functions, and refuses those that contradict themselves, call each other in a circle, or would make
    /// `graph` too large.
    pub(super) fn new(protos: Vec<FunctionProto>, graph: &GraphProto, sink: &mut Sink<'_>) -> Self {
        let mut library =
            Self { functions: Vec::new(), names: HashSet::new(), index: HashMap::new(), usable: true };
        for mut proto in protos {
            proto.domain = plain_domain(&proto.domain).to_owned();
            let opsets = opset_imports(&proto.opset_import).unwrap_or_else(|e| {
                sink.error(e.at(&proto.name));
                Opsets::new()
            });
            let attributes: HashSet<String> = proto
                .attribute
                .iter()
                .chain(proto.attribute_proto.iter().map(|a| &a.name))
                .cloned()
                .collect();
            let function = Function { proto, opsets, attributes };
            let p = &function.proto;
            let key = [p.domain.clone(), p.name.clone(), p.overload.clone()];
            if library.index.contains_key(&key) {
                let what = format!("the function {} is defined twice", function.title());
                sink.error(ReadError::new(code::FUNCTION_DEFINITION, what));
                continue;
            }
            check_signature(&function, sink);
            library.names.insert(p.name.clone());
            library.index.insert(key, library.functions.len());
            library.functions.push(function);
        }
        if !library.functions.is_empty() {
            library.measure(graph, sink);
        }
        library
    }

    fn called(&self, node: &NodeProto) -> Option<usize> {
        if !self.names.contains(&node.op_type) {
            return None;
        }
        let key = [plain_domain(&node.domain).to_owned(), node.op_type.clone(), node.overload.clone()];
        self.index.get(&key).copied()
    }

    /// The function that a node calls, if it calls one.
    pub(super) fn find(&self, node: &NodeProto) -> Option<&Function> {
        if self.usable { self.called(node).map(|i| &self.functions[i]) } else { None }
    }

    /// Finds circles among the functions, and the size of everything expanded.
    fn measure(&mut self, graph: &GraphProto, sink: &mut Sink<'_>) {
        let calls: Vec<Calls> = self.functions.iter().map(|f| self.calls_of(&f.proto)).collect();
        let mut sizes: Vec<Option<u64>> = vec![None; calls.len()];
        let mut open = vec![false; calls.len()];
        for root in 0..calls.len() {
            // The way from the root down, each with the next callee to look at.
            let mut path = vec![(root, 0)];
            while let Some((at, next)) = path.last_mut() {
                let at = *at;
                if sizes[at].is_some() {
                    path.pop();
                    continue;
                }
                open[at] = true;
                if let Some(&callee) = calls[at].callees.get(*next) {
                    *next += 1;
                    if open[callee] && sizes[callee].is_none() {
                        let circle: Vec<usize> =
                            path.iter().map(|(i, _)| *i).skip_while(|i| *i != callee).collect();
                        sink.error(self.circle(&circle));
                        self.usable = false;
                        return;
                    }
                    path.push((callee, 0));
                } else {
                    sizes[at] = Some(calls[at].expanded(&sizes));
                    path.pop();
                }
            }
        }
        let mut main = Calls::default();
        self.gather(&graph.node, &mut main, false);
        let total = main.expanded(&sizes);
        let most = sink.budget;
        if total > most {
            let what = format!(
                "with its functions inlined, the model has the size of {total} nodes; {most} are the most"
            );
            sink.error(ReadError::new(code::FUNCTION_SIZE, what));
            self.usable = false;
        }
    }

    fn circle(&self, circle: &[usize]) -> ReadError {
        let mut names: Vec<String> = circle.iter().take(10).map(|i| self.functions[*i].title()).collect();
        if circle.len() > 10 {
            names.push(format!("({} more)", circle.len() - 10));
        }
        names.extend(names.first().cloned());
        ReadError::new(
            code::FUNCTION_CYCLE,
            format!("functions call each other in a circle: {}", names.join(" -> ")),
        )
    }

    fn calls_of(&self, function: &FunctionProto) -> Calls {
        let bound = function.input.len() + function.output.len() + function.attribute_proto.len();
        let defaults: u64 = function.attribute_proto.iter().map(attr_weight).sum();
        let mut calls = Calls { own: (bound / 8) as u64 + defaults, callees: Vec::new() };
        self.gather(&function.node, &mut calls, true);
        for graph in function.attribute_proto.iter().flat_map(subgraphs) {
            self.gather(&graph.node, &mut calls, true);
        }
        calls
    }

    fn gather(&self, nodes: &[NodeProto], calls: &mut Calls, copied: bool) {
        for node in nodes {
            calls.own = calls.own.saturating_add(if copied { weight(node) } else { 1 });
            calls.callees.extend(self.called(node));
            for graph in node.attribute.iter().flat_map(subgraphs) {
                self.gather(&graph.node, calls, copied);
            }
        }
    }
}

/// What a body holds: its own size and the functions it calls, as often as it calls them.
#[derive(Default)]
struct Calls {
    own: u64,
    callees: Vec<usize>,
}

impl Calls {
    fn expanded(&self, sizes: &[Option<u64>]) -> u64 {
        self.callees.iter().fold(self.own, |sum, i| sum.saturating_add(sizes[*i].unwrap_or(0)))
    }
}

/// How much a copy of a node takes, an ordinary node being 1. Payloads are shared, so they do not count, and nodes of
/// subgraphs count by themselves.
fn weight(node: &NodeProto) -> u64 {
    let names = node.input.iter().chain(&node.output).map(|n| n.len() + 24).sum::<usize>();
    1 + ((names + node.op_type.len() + node.name.len()) / UNIT) as u64
        + node.attribute.iter().map(attr_weight).sum::<u64>()
}

/// Bytes that count as one more node.
const UNIT: usize = 2048;

/// How much a copy of an attribute takes, in nodes; 0 for small ones.
pub(super) fn attr_weight(attr: &AttributeProto) -> u64 {
    (attr_bytes(attr) / UNIT) as u64
}

fn attr_bytes(attr: &AttributeProto) -> usize {
    let initializers = subgraphs(attr).flat_map(|g| &g.initializer);
    let tensors = attr.t.as_deref().into_iter().chain(&attr.tensors).chain(initializers);
    let typed = tensors.map(|t| {
        4 * (t.float_data.len() + t.int32_data.len())
            + 8 * (t.dims.len() + t.int64_data.len() + t.double_data.len() + t.uint64_data.len())
            + 32 * t.string_data.len()
    });
    let infos = subgraphs(attr).map(|g| 128 * (g.input.len() + g.output.len() + g.value_info.len()));
    attr.name.len()
        + 8 * attr.ints.len()
        + 4 * attr.floats.len()
        + 32 * attr.strings.len()
        + typed.chain(infos).sum::<usize>()
}

fn check_signature(function: &Function, sink: &mut Sink<'_>) {
    let p = &function.proto;
    let mut bad = |what: String| {
        sink.error(ReadError::new(
            code::FUNCTION_DEFINITION,
            format!("the function {} {what}", function.title()),
        ));
    };
    let mut seen = HashSet::new();
    for name in &p.input {
        if name.is_empty() {
            bad("has an input without a name".into());
        } else if !seen.insert(name.as_str()) {
            bad(format!("has two inputs named {}", shown(name)));
        }
    }
    if p.output.iter().any(String::is_empty) {
        bad("has an output without a name".into());
    }
    let mut seen = HashSet::new();
    for name in p.attribute.iter().chain(p.attribute_proto.iter().map(|a| &a.name)) {
        if !seen.insert(name.as_str()) {
            bad(format!("declares the attribute {} twice", shown(name)));
        }
    }
}
