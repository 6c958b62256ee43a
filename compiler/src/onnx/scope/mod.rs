//! From a model as written to one flat graph: functions inlined, every value under a name of its own, nodes in order.
//!
//! All problems are reported at once, each with the node it concerns.

mod functions;
mod inline;
mod sort;

use super::error::{ReadError, Warning, code, shown};
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use std::collections::BTreeMap;

/// The most nodes a model may have once its functions are inlined.
pub const NODE_BUDGET: u64 = 10_000_000;
/// The deepest that function calls may nest.
pub const CALL_DEPTH: usize = 100;
/// The deepest that subgraphs may nest once functions are inlined.
pub const GRAPH_DEPTH: usize = 64;
/// More problems than this are only counted.
const REPORTED: usize = 500;

/// The metadata key under which [`normalise`] notes that a node obeys another operator set version than the model
/// imports, because it came from a function with imports of its own.
const OPSET_KEY: &str = "autoglm.opset";

/// Operator set versions by domain; the default domain is the empty string.
pub type Opsets = BTreeMap<String, i64>;

/// The operator sets that a model or function imports.
pub fn opset_imports(imports: &[OperatorSetIdProto]) -> Result<Opsets, ReadError> {
    let mut out = Opsets::new();
    for import in imports {
        let domain = plain_domain(&import.domain);
        if import.version < 1 {
            let what =
                format!("the operator set {} is imported in version {}", shown(domain), import.version);
            return Err(ReadError::new(code::OPSET, what));
        }
        match out.insert(domain.to_owned(), import.version) {
            Some(other) if other != import.version => {
                let what = format!(
                    "the operator set {} is imported in versions {other} and {}",
                    shown(domain),
                    import.version
                );
                return Err(ReadError::new(code::OPSET, what));
            }
            _ => {}
        }
    }
    Ok(out)
}

/// The operator set version that a node of a normalised graph obeys, given the model's imports. None if neither the
/// model nor the function that the node came from imports the node's domain.
pub fn node_opset(node: &NodeProto, model: &Opsets) -> Option<i64> {
    let noted = node.metadata_props.iter().find(|p| p.key == OPSET_KEY).and_then(|p| p.value.parse().ok());
    noted.or_else(|| model.get(plain_domain(&node.domain)).copied())
}

/// The module of the original program that a node comes from, such as `encoder.layer.0`, if the exporter noted it.
pub fn exporter_scope(node: &NodeProto) -> Option<String> {
    let value = |key: &str| node.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.as_str());
    if let Some(scopes) = value("pkg.torch.onnx.name_scopes") {
        // A printed Python list, each entry a path from the root, the last one the operation itself.
        let inner = scopes.trim().strip_prefix('[')?.strip_suffix(']')?;
        let parts: Vec<&str> = inner.split(", ").map(|p| p.trim().trim_matches(['\'', '"'])).collect();
        let modules = &parts[..parts.len() - 1];
        return modules.iter().rev().find(|p| !p.is_empty()).map(|p| (*p).to_owned());
    }
    // `: Model/encoder: Encoder/encoder.layer.0: Layer/linear: aten.linear`, the last part the operation itself.
    let (modules, _) = value("namespace")?.rsplit_once('/')?;
    let mut names = modules.split('/').map(|p| p.split(": ").next().unwrap_or(p).trim_matches([':', ' ']));
    names.rfind(|n| !n.is_empty()).map(str::to_owned)
}

/// Inlines functions, gives every value of the graph and its subgraphs a name of its own, sorts nodes, and
/// checks that all that is used is produced, once.
///
/// Names of the main graph stay as they are. In the result no two values share a name, not even in different
/// subgraphs; the default domain is the empty string; metadata and types of names that do not exist are gone.
pub fn normalise(model: ModelProto, warnings: &mut Vec<Warning>) -> Result<GraphProto, Vec<ReadError>> {
    normalise_within(model, warnings, NODE_BUDGET)
}

/// As [`normalise`], for a model that may have `nodes` nodes once its functions are inlined, or [`NODE_BUDGET`] if that is less.
pub fn normalise_within(
    model: ModelProto,
    warnings: &mut Vec<Warning>,
    nodes: u64,
) -> Result<GraphProto, Vec<ReadError>> {
    let mut sink = Sink { errors: Vec::new(), suppressed: 0, warnings, budget: nodes.min(NODE_BUDGET) };
    let Some(mut graph) = model.graph else {
        return Err(vec![ReadError::new(code::NO_GRAPH, "the file holds no graph")]);
    };
    let opsets = opset_imports(&model.opset_import).unwrap_or_else(|e| {
        sink.error(e);
        Opsets::new()
    });
    let library = functions::Library::new(model.functions, &graph, &mut sink);
    let mut inliner = inline::Inliner::new(&library, &opsets, sink);
    inliner.main(&mut graph);
    let sink = inliner.finish();
    if sink.errors.is_empty() { Ok(graph) } else { Err(sink.into_errors()) }
}

/// Where problems are collected.
struct Sink<'w> {
    errors: Vec<ReadError>,
    suppressed: usize,
    warnings: &'w mut Vec<Warning>,
    /// The most nodes once functions are inlined.
    budget: u64,
}

impl Sink<'_> {
    fn error(&mut self, error: ReadError) {
        if self.errors.len() < REPORTED {
            self.errors.push(error);
        } else {
            self.suppressed += 1;
        }
    }

    fn warn(&mut self, code: &'static str, message: String, node: &str) {
        if self.warnings.len() < REPORTED {
            self.warnings.push(Warning::new(code, message, node));
        }
    }

    fn into_errors(mut self) -> Vec<ReadError> {
        if self.suppressed > 0 {
            let what = format!("{} more problems are not listed", self.suppressed);
            self.errors.push(ReadError::new(code::LIMIT, what));
        }
        self.errors
    }
}

/// The default domain has two spellings.
fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// What a node is called in messages: its name, or else its operator and first output.
fn label(node: &NodeProto) -> String {
    match node.output.iter().find(|o| !o.is_empty()) {
        _ if !node.name.is_empty() => node.name.clone(),
        Some(output) => format!("{} -> {output}", node.op_type),
        None => node.op_type.clone(),
    }
}

/// The graphs of an attribute.
fn subgraphs(attr: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attr.g.as_deref().into_iter().chain(&attr.graphs)
}

#[cfg(test)]
mod tests;
