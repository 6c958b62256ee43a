//! From an ONNX model to a graph of the IR.
//!
//! [`import`] normalises the model (functions inlined, nodes sorted), declares inputs with symbolic extents and adds
//! each node through its row in the table of importers, which decomposes it into IR operators of one canonical meaning
//! whatever the operator set version. Declared shapes are hints: what counts is inferred.

mod cx;
mod declared;
mod dims;
mod inputs;
mod node;
mod ops;
mod schema;
mod unsupported;
mod values;

pub(crate) use crate::codes;
use crate::diag::{Class, Diagnostic};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::scope::{Opsets, opset_imports};
use crate::onnx::{Attrs, Limits, ModelFile, node_opset, normalise_within};
use autoglm_ir::dim::Atom;
use autoglm_ir::graph::Output;
use autoglm_ir::{Cond, Def, Dim, Graph, SymbolSource, Tensor, ValueId};
use cx::{Cx, Outs, Res};
use inputs::Inputs;
use node::NodeCx;
use std::collections::{BTreeMap, HashMap, HashSet};
use unsupported::{Unsupported, find};
pub use values::dtype_of;
use values::{Decoder, from_read};

/// The newest operator set that the importers were written for.
pub const OPSET_MAX: i64 = 28;
/// More problems than this are not listed.
const PROBLEMS_MAX: usize = 100;

/// How a model is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Name, smallest and largest value of symbolic extents. Equal bounds fix the extent. Others are at least 0.
    pub dims: Vec<(String, i64, i64)>,
    /// Inputs that get a constant value.
    pub fixed: Vec<(String, Tensor)>,
    /// Bounds on what the model may ask for.
    pub limits: Limits,
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// What is odd but can be lived with.
    pub warnings: Vec<Diagnostic>,
}

/// Imports a model, or says everything that stands in the way.
///
/// A window needs an extent that holds it. What is not known before the extents are that large is looked at again then.
pub fn import(model: &ModelFile, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let mut required = Vec::new();
    import_once(model, options, &mut required).or_else(|errors| {
        if required.is_empty() || errors.iter().all(|e| e.code != codes::NOT_CONSTANT) {
            return Err(errors);
        }
        let mut bounded = options.clone();
        bounded.dims.append(&mut required);
        import_once(model, &bounded, &mut required)
    })
}

/// Imports a model; if that fails, `required` gets what its guards say of symbols.
fn import_once(
    model: &ModelFile,
    options: &ImportOptions,
    required: &mut Vec<(String, i64, i64)>,
) -> Result<Imported, Vec<Diagnostic>> {
    let mut noted = Vec::new();
    let opsets = opset_imports(&model.model.opset_import).map_err(|e| vec![from_read(e)])?;
    let onnx = normalise_within(model.model.clone(), &mut noted, options.limits.nodes)
        .map_err(|errors| errors.into_iter().map(from_read).collect::<Vec<_>>())?;
    let mut warnings: Vec<Diagnostic> = noted
        .into_iter()
        .map(|w| Diagnostic::warning(w.code, w.message).at(w.node.as_deref().unwrap_or("")))
        .collect();
    if let Some(version) = opsets.get("").filter(|v| **v > OPSET_MAX) {
        let title = format!("the model uses operator set {version}; {OPSET_MAX} is the newest known");
        warnings.push(Diagnostic::warning(codes::W_OPSET, title));
    }
    check_operators(&onnx, &opsets)?;
    let decoder = Decoder::new(&model.dir, &options.limits);
    let mut importer = Importing {
        cx: Cx {
            graph: Graph { name: onnx.name.clone(), ..Graph::default() },
            loc: "".into(),
            op_type: String::new(),
            fold_work: 0,
        },
        scope: HashMap::new(),
        broken: HashSet::new(),
        onnx: &onnx,
        decoder: &decoder,
        opsets: &opsets,
        used: used_names(&onnx),
        located: HashSet::new(),
        errors: Vec::new(),
    };
    importer.declare_inputs(options);
    importer.add_nodes();
    importer.add_outputs(&mut warnings);
    if !importer.errors.is_empty() {
        *required = bounds_required(&importer.cx.graph);
        return Err(importer.errors);
    }
    let mut graph = importer.cx.graph;
    inputs::prune(&mut graph);
    Ok(Imported { graph, warnings })
}

/// Bounds of extents that the guards of a graph require beyond those that it has.
fn bounds_required(graph: &Graph) -> Vec<(String, i64, i64)> {
    let mut least: BTreeMap<&str, i64> = BTreeMap::new();
    for guard in &graph.guards {
        let Cond::Le(low, high) = &guard.cond else { continue };
        let gap = high - low;
        for (name, symbol) in &graph.symbols {
            let Some(bound) = least_value(&gap, name) else { continue };
            let extent = matches!(symbol.source, SymbolSource::InputDim { .. });
            if extent && bound > symbol.min && bound < symbol.max {
                let slot = least.entry(name).or_insert(bound);
                *slot = bound.max(*slot);
            }
        }
    }
    least.into_iter().map(|(name, bound)| (name.to_owned(), bound, graph.symbols[name].max)).collect()
}

/// The value from which `gap`, the symbol plus a number or a floor of that, is not negative.
fn least_value(gap: &Dim, symbol: &str) -> Option<i64> {
    if let Some(spare) = (gap - &Dim::sym(symbol)).as_const() {
        return spare.checked_neg();
    }
    let (x, by) = gap.terms().find_map(|(atoms, k)| match atoms {
        [Atom::FloorDiv(x, by)] if k == 1 => Some((x, by)),
        _ => None,
    })?;
    let floor = x.floor_div(by)?;
    let beside = (gap - &floor).as_const()?.checked_mul(by.as_const()?)?;
    least_value(&(&**x + &beside.into()), symbol)
}

/// Refuses every operator without an importer at once.
fn check_operators(graph: &GraphProto, opsets: &Opsets) -> Result<(), Vec<Diagnostic>> {
    let mut missing = Unsupported::default();
    for node in &graph.node {
        let opset = opset_of(node, opsets);
        if find(&node.domain, &node.op_type, opset).is_none() {
            missing.note(&node.domain, node, opset);
        }
    }
    let errors = missing.into_errors();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The operator set version of a node; files of the first IR versions do not state it and mean 1.
fn opset_of(node: &NodeProto, opsets: &Opsets) -> i64 {
    node_opset(node, opsets).unwrap_or(1)
}

/// What a node is called in messages: its name, or else its operator and first output.
pub(crate) fn label(node: &NodeProto) -> String {
    match node.output.iter().find(|o| !o.is_empty()) {
        _ if !node.name.is_empty() => node.name.clone(),
        Some(output) => format!("{} -> {output}", node.op_type),
        None => node.op_type.clone(),
    }
}

/// Names that a node or the graph's outputs read.
fn used_names(graph: &GraphProto) -> HashSet<&str> {
    let read = graph.node.iter().flat_map(|n| &n.input).map(String::as_str);
    read.chain(graph.output.iter().map(|o| o.name.as_str())).collect()
}

/// The state of one import.
struct Importing<'a> {
    cx: Cx,
    /// Values by ONNX name.
    scope: HashMap<String, ValueId>,
    /// Names that a failed node should have produced.
    broken: HashSet<&'a str>,
    onnx: &'a GraphProto,
    decoder: &'a Decoder<'a>,
    opsets: &'a Opsets,
    used: HashSet<&'a str>,
    /// Labels of the nodes so far.
    located: HashSet<String>,
    errors: Vec<Diagnostic>,
}

impl<'a> Importing<'a> {
    fn fail(&mut self, d: Diagnostic) {
        if self.errors.len() < PROBLEMS_MAX {
            self.errors.push(d);
        }
    }

    /// Initializers are constants even where they are listed as inputs.
    fn declare_inputs(&mut self, options: &ImportOptions) {
        let onnx = self.onnx;
        let dense = onnx.initializer.iter().map(|t| t.name.as_str());
        let sparse = onnx.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name.as_str()));
        let constants: HashSet<&str> = dense.chain(sparse).collect();
        let inputs = Inputs::new(options, &onnx.input);
        for input in onnx.input.iter().filter(|i| !constants.contains(i.name.as_str())) {
            if let Some((_, value)) = options.fixed.iter().find(|(n, _)| *n == input.name) {
                let v = self.cx.graph.add_const(&input.name, value.clone());
                self.scope.insert(input.name.clone(), v);
                continue;
            }
            match inputs.declare(&mut self.cx.graph, input) {
                Ok(v) => {
                    self.scope.insert(input.name.clone(), v);
                }
                Err(d) => {
                    self.broken.insert(&input.name);
                    self.fail(*d);
                }
            }
        }
        for (name, ..) in &options.dims {
            let fixed = options.dims.iter().rfind(|(n, ..)| n == name).is_some_and(|(_, lo, hi)| lo == hi);
            if !fixed && !self.cx.graph.symbols.contains_key(name.as_str()) && self.errors.is_empty() {
                let title = format!("no input has a dimension called `{name}`");
                let known: Vec<&str> = self.cx.graph.symbols.keys().map(|s| &**s).collect();
                let help = format!("the model's dimensions are: {}", known.join(", "));
                self.fail(Diagnostic::error(codes::BOUND, Class::Invalid, title).help(help));
            }
        }
        self.declare_constants();
    }

    fn declare_constants(&mut self) {
        let onnx = self.onnx;
        for t in &onnx.initializer {
            if self.used.contains(t.name.as_str()) {
                let tensor = self.decoder.tensor(t);
                self.declare_constant(&t.name, tensor);
            }
        }
        for s in &onnx.sparse_initializer {
            let name = s.values.as_ref().map_or("", |v| v.name.as_str());
            if self.used.contains(name) {
                let tensor = self.decoder.sparse(s);
                self.declare_constant(name, tensor);
            }
        }
    }

    fn declare_constant(&mut self, name: &'a str, tensor: Res<Tensor>) {
        match tensor {
            Ok(t) => {
                let v = self.cx.graph.add_const(name, t);
                self.scope.insert(name.to_owned(), v);
            }
            Err(d) => {
                self.broken.insert(name);
                self.fail(d.at(name));
            }
        }
    }

    /// A node that depends on one that failed is left out, so that each problem is reported once.
    fn add_nodes(&mut self) {
        let onnx = self.onnx;
        for node in &onnx.node {
            let outputs = node.output.iter().filter(|o| !o.is_empty()).map(String::as_str);
            if node.input.iter().any(|i| self.broken.contains(i.as_str())) {
                self.broken.extend(outputs);
                continue;
            }
            self.cx.loc = self.location(node).into();
            self.cx.op_type.clone_from(&node.op_type);
            match self.add_node(node) {
                Ok(values) => {
                    for (name, v) in node.output.iter().zip(values) {
                        self.name(name, v);
                    }
                }
                Err(d) => {
                    self.broken.extend(outputs);
                    let d = self.with_inputs(*d, node);
                    self.fail(d);
                }
            }
        }
    }

    /// The label of a node; nodes of one name are told apart by their results.
    fn location(&mut self, node: &NodeProto) -> String {
        let name = label(node);
        if self.located.insert(name.clone()) {
            return name;
        }
        let result = node.output.iter().find(|o| !o.is_empty());
        result.map_or_else(|| name.clone(), |result| format!("{name} -> {result}"))
    }

    fn name(&mut self, name: &str, v: ValueId) {
        if name.is_empty() {
            return;
        }
        let value = &mut self.cx.graph.values[v.0 as usize];
        if value.name.is_empty() {
            name.clone_into(&mut value.name);
        }
        self.scope.insert(name.to_owned(), v);
    }

    fn add_node(&mut self, node: &'a NodeProto) -> Outs {
        let opset = opset_of(node, self.opsets);
        let Some((importer, since)) = find(&node.domain, &node.op_type, opset) else {
            return Err(self.cx.invalid(codes::NODE, "has no importer"));
        };
        let attrs = Attrs::new(node).map_err(|e| Box::new(from_read(e)))?;
        if importer.domain.is_empty() {
            schema::check(&self.cx, node, since, &attrs)?;
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match self.scope.get(name) {
                _ if name.is_empty() => None,
                Some(v) => Some(*v),
                None => {
                    return Err(self.cx.invalid(codes::NODE, format!("nothing produces the input `{name}`")));
                }
            });
        }
        let n = NodeCx {
            op: &node.op_type,
            since,
            inputs,
            wanted: node.output.iter().map(|o| self.used.contains(o.as_str()) && !o.is_empty()).collect(),
            outputs: node.output.iter().filter(|o| !o.is_empty()).count(),
            attrs,
            decoder: self.decoder,
        };
        let values = (importer.run)(&mut self.cx, &n)?;
        let missing = n.wanted.iter().enumerate().find(|(i, w)| **w && *i >= values.len());
        match missing {
            None => Ok(values),
            Some((i, _)) => Err(self.cx.refuse(format!("output {i}"), "remove the use of this output")),
        }
    }

    /// Notes on the inputs of a node and where they come from.
    fn with_inputs(&self, mut d: Diagnostic, node: &NodeProto) -> Diagnostic {
        let graph = &self.cx.graph;
        for (i, name) in node.input.iter().enumerate() {
            let Some(v) = self.scope.get(name) else { continue };
            let from = match graph.value(*v).def {
                Def::Input(_) => "a graph input".to_owned(),
                Def::Const(_) => "a constant".to_owned(),
                Def::Node(n, _) => format!("`{}`", graph.node(n).loc),
            };
            d = d.note(format!("input {i} `{name}`: {} from {from}", graph.ty(*v)));
        }
        let d = d.at(&self.cx.loc);
        match crate::onnx::exporter_scope(node) {
            Some(scope) => d.note(format!("exporter scope: {scope}")),
            None => d,
        }
    }

    fn add_outputs(&mut self, warnings: &mut Vec<Diagnostic>) {
        let onnx = self.onnx;
        warnings.extend(declared::intermediate(&self.cx.graph, &self.scope, &onnx.value_info));
        for output in &onnx.output {
            match self.scope.get(&output.name) {
                Some(v) => {
                    warnings.extend(declared::output(&mut self.cx.graph, *v, output));
                    self.cx.graph.outputs.push(Output { name: output.name.clone(), value: *v });
                }
                None if self.broken.contains(output.name.as_str()) => {}
                None => {
                    let title = format!("nothing produces the output `{}`", output.name);
                    self.fail(Diagnostic::error(codes::NODE, Class::Invalid, title));
                }
            }
        }
    }
}
