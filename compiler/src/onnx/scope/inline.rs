//! Expanding function calls and giving every value a name of its own, in one walk over the model.

use super::functions::{Function, Library, attr_weight};
use super::{CALL_DEPTH, GRAPH_DEPTH, OPSET_KEY, Opsets, Sink, label, sort};
use crate::onnx::error::{ReadError, code, shown};
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, StringStringEntryProto};
use std::collections::{HashMap, HashSet};

/// A prefix longer than this is replaced by a number, so that names do not grow with the depth of calls.
const PREFIX: usize = 256;

/// The names of one graph or function body. None stands for a name that stays as it is; an empty name for an
/// optional input that the call left out.
type Names = HashMap<String, Option<String>>;

/// Where the walk is: the scopes that a name is looked up in, innermost last, up to the function's border.
struct Context<'l> {
    scopes: Vec<Names>,
    /// Whether names found in no scope are somebody else's, already resolved.
    open: bool,
    call: Option<Call<'l>>,
}

/// The call being expanded.
struct Call<'l> {
    function: &'l Function,
    attributes: HashMap<String, AttributeProto>,
    /// What names of the body are prefixed with.
    prefix: String,
    /// The exporter's notes on the calling node, for body nodes without any.
    notes: Vec<StringStringEntryProto>,
}

impl Context<'_> {
    fn lookup(&self, name: &str) -> Option<String> {
        let found = self.scopes.iter().rev().find_map(|names| names.get(name));
        match found {
            Some(renamed) => Some(renamed.clone().unwrap_or_else(|| name.to_owned())),
            None => self.open.then(|| name.to_owned()),
        }
    }

    fn prefix(&self) -> &str {
        self.call.as_ref().map_or("", |call| &call.prefix)
    }

    /// What a node is called in messages.
    fn label(&self, node: &NodeProto) -> String {
        format!("{}{}", self.prefix(), label(node))
    }
}

/// Whether the exporter's note says where a node comes from.
fn is_note(entry: &StringStringEntryProto) -> bool {
    matches!(
        entry.key.as_str(),
        "namespace" | "pkg.torch.onnx.name_scopes" | "pkg.torch.onnx.class_hierarchy"
    )
}

/// The walk over a model.
pub(super) struct Inliner<'l, 'w> {
    library: &'l Library,
    opsets: &'l Opsets,
    sink: Sink<'w>,
    /// Every name in use, with the number that the next name like it gets.
    taken: HashMap<String, u32>,
    nodes: u64,
    calls: usize,
    graphs: usize,
    stopped: bool,
}

impl<'l, 'w> Inliner<'l, 'w> {
    pub(super) fn new(library: &'l Library, opsets: &'l Opsets, sink: Sink<'w>) -> Self {
        Self { library, opsets, sink, taken: HashMap::new(), nodes: 0, calls: 0, graphs: 0, stopped: false }
    }

    pub(super) fn finish(self) -> Sink<'w> {
        self.sink
    }

    /// Walks the main graph.
    pub(super) fn main(&mut self, graph: &mut GraphProto) {
        let mut seen = HashSet::new();
        for output in &graph.output {
            if !seen.insert(output.name.as_str()) {
                let what = format!("the graph output {} is listed twice", shown(&output.name));
                self.sink.error(ReadError::new(code::VALUE_TWICE, what));
            }
        }
        let mut cx = Context { scopes: Vec::new(), open: false, call: None };
        self.graph(&mut cx, graph, "main graph");
    }

    fn stop(&mut self, what: String, node: &str) {
        self.stopped = true;
        self.sink.error(ReadError::new(code::FUNCTION_SIZE, what).at(node));
    }

    /// A name that nothing else has, like `base`.
    fn fresh(&mut self, base: String) -> String {
        if !self.taken.contains_key(&base) {
            self.taken.insert(base.clone(), 2);
            return base;
        }
        loop {
            let next = self.taken.entry(base.clone()).or_insert(2);
            let name = format!("{base}#{next}");
            *next += 1;
            if !self.taken.contains_key(&name) {
                self.taken.insert(name.clone(), 2);
                return name;
            }
        }
    }

    /// Declares a value in the innermost scope. False if the scope has it already.
    fn declare(&mut self, cx: &mut Context<'_>, name: &str, at: &str) -> bool {
        let Some((inner, outer)) = cx.scopes.split_last_mut() else { return true };
        if inner.contains_key(name) {
            return false;
        }
        if outer.iter().any(|names| names.contains_key(name)) {
            let what =
                format!("the subgraph value {} has the name of an outer value and was renamed", shown(name));
            self.sink.warn(code::W_SHADOW, what, at);
        }
        let unique = self.fresh(format!("{}{name}", cx.call.as_ref().map_or("", |call| &call.prefix)));
        inner.insert(name.to_owned(), (unique != name).then_some(unique));
        true
    }

    fn declare_outputs(&mut self, cx: &mut Context<'_>, nodes: &[NodeProto]) {
        for node in nodes {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if !self.declare(cx, name, &node.name) {
                    let what = format!("the value {} is produced more than once", shown(name));
                    let error = ReadError::new(code::VALUE_TWICE, what).at(&cx.label(node));
                    self.sink.error(error);
                }
            }
        }
    }

    /// Walks a graph: declares all of its names, then resolves all uses. `at` says where the graph is.
    fn graph(&mut self, cx: &mut Context<'_>, graph: &mut GraphProto, at: &str) {
        if self.graphs == GRAPH_DEPTH {
            self.stop(format!("subgraphs nest deeper than {GRAPH_DEPTH} levels"), at);
        }
        if self.stopped {
            return;
        }
        self.graphs += 1;
        cx.scopes.push(Names::new());
        self.declare_inputs(cx, graph, at);
        self.declare_outputs(cx, &graph.node);
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            self.node(cx, node, &mut nodes);
        }
        for output in &mut graph.output {
            let problem = if output.name.is_empty() {
                Some((code::EMPTY_NAME, "a graph output has no name".to_owned()))
            } else {
                match cx.lookup(&output.name).filter(|name| !name.is_empty()) {
                    Some(name) => {
                        output.name = name;
                        None
                    }
                    None => Some((
                        code::OUTPUT_MISSING,
                        format!("nothing produces the graph output {}", shown(&output.name)),
                    )),
                }
            };
            if let Some((code, what)) = problem {
                self.sink.error(ReadError::new(code, what).at(at));
            }
        }
        let names = cx.scopes.pop().unwrap_or_default();
        let renamed = |name: &mut String| match names.get(name.as_str()) {
            Some(Some(new)) => {
                new.clone_into(name);
                true
            }
            found => found.is_some(),
        };
        graph.value_info.retain_mut(|info| renamed(&mut info.name));
        graph.quantization_annotation.retain_mut(|a| renamed(&mut a.tensor_name));
        graph.node = if self.stopped { nodes } else { sort::sorted(nodes, at, &mut self.sink) };
        self.graphs -= 1;
    }

    /// Declares the inputs and initializers of a graph under their new names.
    fn declare_inputs(&mut self, cx: &mut Context<'_>, graph: &mut GraphProto, at: &str) {
        let mut inputs = HashSet::new();
        for input in &graph.input {
            if input.name.is_empty() {
                self.sink.error(ReadError::new(code::EMPTY_NAME, "a graph input has no name").at(at));
            } else if !self.declare(cx, &input.name, at) {
                let what = format!("the graph input {} is listed twice", shown(&input.name));
                self.sink.error(ReadError::new(code::VALUE_TWICE, what).at(at));
            }
            inputs.insert(input.name.clone());
        }
        let old = std::mem::take(&mut graph.initializer);
        let mut kept: HashMap<String, usize> = HashMap::with_capacity(old.len());
        for tensor in old {
            if tensor.name.is_empty() {
                self.sink.error(ReadError::new(code::EMPTY_NAME, "an initializer has no name").at(at));
                continue;
            }
            if let Some(&first) = kept.get(&tensor.name) {
                self.repeated_initializer(graph.initializer[first] == tensor, &tensor.name);
                continue;
            }
            // An initializer may be the default of an input of the same name.
            if !inputs.contains(&tensor.name) {
                self.declare(cx, &tensor.name, at);
            }
            kept.insert(tensor.name.clone(), graph.initializer.len());
            graph.initializer.push(tensor);
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
            if name.is_empty() {
                self.sink.error(ReadError::new(code::EMPTY_NAME, "a sparse initializer has no name").at(at));
            } else if !inputs.contains(name) && !self.declare(cx, name, at) {
                self.repeated_initializer(false, name);
            }
        }
        let sparse = graph.sparse_initializer.iter_mut().filter_map(|s| s.values.as_mut());
        let names = graph.input.iter_mut().map(|i| &mut i.name);
        for name in names.chain(graph.initializer.iter_mut().chain(sparse).map(|t| &mut t.name)) {
            if let Some(new) =
                cx.scopes.last().and_then(|names| names.get(name.as_str())).and_then(Option::as_ref)
            {
                new.clone_into(name);
            }
        }
    }

    fn repeated_initializer(&mut self, identical: bool, name: &str) {
        if identical {
            self.sink.warn(code::W_INITIALIZER, "the initializer is repeated; one copy is used".into(), name);
        } else {
            let what = format!("the initializer {} is given twice, with different contents", shown(name));
            self.sink.error(ReadError::new(code::INITIALIZER_TWICE, what));
        }
    }

    /// Resolves one node, and appends it, or the body of the function it calls.
    fn node(&mut self, cx: &mut Context<'_>, mut node: NodeProto, out: &mut Vec<NodeProto>) {
        if self.stopped {
            return;
        }
        self.nodes += 1;
        let at = cx.label(&node);
        let most = self.sink.budget;
        if self.nodes > most {
            return self
                .stop(format!("with its functions inlined, the model has more than {most} nodes"), &at);
        }
        if node.domain == "ai.onnx" {
            node.domain.clear();
        }
        self.attributes(cx, &mut node, &at);
        for (i, input) in node.input.iter_mut().enumerate().filter(|(_, name)| !name.is_empty()) {
            match cx.lookup(input) {
                Some(name) => *input = name,
                None => {
                    let what = format!(
                        "nothing produces the value {}, which is input {i} of the node",
                        shown(input)
                    );
                    self.sink.error(ReadError::new(code::VALUE_MISSING, what).at(&at));
                }
            }
        }
        for output in node.output.iter_mut().filter(|name| !name.is_empty()) {
            if let Some(name) = cx.lookup(output) {
                *output = name;
            }
        }
        self.annotate(cx, &mut node);
        match self.library.find(&node) {
            // A graph that was passed to a function has been expanded where it was written.
            Some(function) if !cx.open => self.call(function, node, at, out),
            _ => out.push(node),
        }
    }

    /// Notes on an inlined node where it comes from and which operator set it obeys.
    fn annotate(&self, cx: &Context<'_>, node: &mut NodeProto) {
        if cx.open {
            return;
        }
        node.metadata_props.retain(|entry| entry.key != OPSET_KEY);
        let Some(call) = &cx.call else { return };
        node.name =
            format!("{}{}", call.prefix, if node.name.is_empty() { &node.op_type } else { &node.name });
        if !node.metadata_props.iter().any(is_note) {
            node.metadata_props.extend(call.notes.iter().cloned());
        }
        let version = call.function.opsets.get(&node.domain);
        if let Some(version) = version.filter(|v| self.opsets.get(&node.domain) != Some(v)) {
            let (key, value) = (OPSET_KEY.to_owned(), version.to_string());
            node.metadata_props.push(StringStringEntryProto { key, value });
        }
    }

    /// Replaces references to the function's attributes, and walks the node's subgraphs.
    fn attributes(&mut self, cx: &mut Context<'_>, node: &mut NodeProto, at: &str) {
        for mut attr in std::mem::take(&mut node.attribute) {
            if let Some(call) = cx.call.as_ref().filter(|_| !attr.ref_attr_name.is_empty()) {
                // Without a value the node does not have the attribute.
                let Some(value) = call.attributes.get(&attr.ref_attr_name) else { continue };
                if attr.r#type != 0 && value.r#type != 0 && attr.r#type != value.r#type {
                    let what = format!(
                        "the attribute {} and the function attribute {} that it refers to have different types",
                        shown(&attr.name),
                        shown(&attr.ref_attr_name)
                    );
                    self.sink.error(ReadError::new(code::ATTR_TYPE, what).at(at));
                }
                self.nodes += attr_weight(value);
                attr = AttributeProto { name: attr.name, ..value.clone() };
                // Its names are the caller's; each copy needs inner names of its own.
                let mut theirs = Context { scopes: Vec::new(), open: true, call: None };
                self.attribute_graphs(&mut theirs, &mut attr, at);
            } else {
                self.attribute_graphs(cx, &mut attr, at);
            }
            node.attribute.push(attr);
        }
    }

    fn attribute_graphs(&mut self, cx: &mut Context<'_>, attr: &mut AttributeProto, at: &str) {
        for graph in attr.g.as_deref_mut().into_iter().chain(&mut attr.graphs) {
            self.graph(cx, graph, at);
        }
    }

    /// Expands a call whose inputs, outputs and attributes are resolved.
    fn call(&mut self, function: &'l Function, node: NodeProto, at: String, out: &mut Vec<NodeProto>) {
        let proto = &function.proto;
        for (what, given, most) in [
            ("inputs", node.input.len(), proto.input.len()),
            ("outputs", node.output.len(), proto.output.len()),
        ] {
            if given > most {
                let what = format!(
                    "the call has {given} {what}, but the function {} has {most}",
                    shown(&proto.name)
                );
                self.sink.error(ReadError::new(code::FUNCTION_CALL, what).at(&at));
                return;
            }
        }
        if self.calls == CALL_DEPTH {
            return self.stop(format!("function calls nest deeper than {CALL_DEPTH} levels"), &at);
        }
        self.calls += 1;
        let attributes = self.bind_attributes(function, &node, &at);
        let prefix = if at.len() < PREFIX { format!("{at}/") } else { format!("call{}/", self.nodes) };
        let notes = node.metadata_props.into_iter().filter(is_note).collect();
        let call = Call { function, attributes, prefix, notes };
        let mut cx = Context { scopes: vec![Names::new()], open: false, call: Some(call) };
        let copies = self.bind_values(&mut cx, function, &node.input, &node.output, &at);
        for inner in &proto.node {
            let mut inner = NodeProto { doc_string: bytes::Bytes::new(), ..inner.clone() };
            inner.metadata_props.retain(is_note);
            self.node(&mut cx, inner, out);
        }
        for (from, to) in copies {
            let mut copy = NodeProto {
                op_type: "Identity".into(),
                input: vec![from],
                output: vec![to],
                ..Default::default()
            };
            self.annotate(&cx, &mut copy);
            out.push(copy);
        }
        self.calls -= 1;
    }

    fn bind_attributes(
        &mut self,
        function: &Function,
        node: &NodeProto,
        at: &str,
    ) -> HashMap<String, AttributeProto> {
        let mut bound = HashMap::new();
        for attr in &node.attribute {
            if !function.attributes.contains(&attr.name) {
                let what = format!("the function has no attribute {}; it is ignored", shown(&attr.name));
                self.sink.warn(code::W_ATTRIBUTE, what, at);
            } else if bound.insert(attr.name.clone(), attr.clone()).is_some() {
                let what = format!("the attribute {} is given twice", shown(&attr.name));
                self.sink.error(ReadError::new(code::ATTR_TWICE, what).at(at));
            }
        }
        for default in &function.proto.attribute_proto {
            if !bound.contains_key(&default.name) {
                let mut value = default.clone();
                let mut cx = Context { scopes: Vec::new(), open: false, call: None };
                self.attribute_graphs(&mut cx, &mut value, at);
                bound.insert(value.name.clone(), value);
            }
        }
        bound
    }

    /// Gives the names of a function's body their meaning at this call. Returns the copies that are needed where an
    /// output is an input passed through, or another output again: from, to.
    fn bind_values(
        &mut self,
        cx: &mut Context<'_>,
        function: &Function,
        inputs: &[String],
        outputs: &[String],
        at: &str,
    ) -> Vec<(String, String)> {
        let proto = &function.proto;
        let mut names = Names::new();
        for (i, formal) in proto.input.iter().enumerate() {
            names.insert(formal.clone(), Some(inputs.get(i).cloned().unwrap_or_default()));
        }
        let made: HashSet<&str> = proto.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
        let mut bound = HashSet::new();
        let mut copies = Vec::new();
        for (i, formal) in proto.output.iter().enumerate() {
            let actual = outputs.get(i).filter(|name| !name.is_empty());
            if let (Some(actual), Some(Some(from))) = (actual, names.get(formal)) {
                if from.is_empty() {
                    let what =
                        format!("the function output {} is an input that the call leaves out", shown(formal));
                    self.sink.error(ReadError::new(code::FUNCTION_CALL, what).at(at));
                }
                copies.push((from.clone(), actual.clone()));
            } else if !made.contains(formal.as_str()) && !names.contains_key(formal) {
                let what = format!("nothing produces the function output {}", shown(formal));
                self.sink.error(ReadError::new(code::OUTPUT_MISSING, what).at(at));
            } else if let Some(actual) = actual {
                names.insert(formal.clone(), Some(actual.clone()));
                bound.insert(formal.as_str());
            }
        }
        if let Some(scope) = cx.scopes.last_mut() {
            *scope = names;
        }
        for inner in &proto.node {
            for name in inner.output.iter().filter(|name| !name.is_empty()) {
                // An output of the function has its name already, but may take it only once.
                if !bound.remove(name.as_str()) && !self.declare(cx, name, at) {
                    let what = format!("the value {} is produced more than once", shown(name));
                    self.sink.error(ReadError::new(code::VALUE_TWICE, what).at(&cx.label(inner)));
                }
            }
        }
        copies
    }
}
