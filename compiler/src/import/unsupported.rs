//! Every operator that has no importer, reported at once.

use super::codes;
use super::node::Importer;
use super::ops::IMPORTERS;
use crate::diag::{Class, Diagnostic};
use crate::onnx::exporter_scope;
use crate::onnx::proto::NodeProto;
use std::collections::BTreeMap;

/// The importer of an operator of the operator set version `opset`, and the version its definition dates from.
pub(crate) fn find(domain: &str, op: &str, opset: i64) -> Option<(&'static Importer, i64)> {
    let row = IMPORTERS.iter().copied().flatten().find(|i| i.op == op && i.domain == domain)?;
    let since = row.since.iter().copied().filter(|s| *s <= opset).max()?;
    Some((row, since))
}

/// What kind of operator it is, where that says more than its name.
fn kind(op: &str) -> Option<&'static str> {
    match op {
        "If" | "Loop" | "Scan" => Some("control flow"),
        "NonZero" | "Unique" | "Compress" | "NonMaxSuppression" => Some("output extents that depend on data"),
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike" | "Bernoulli"
        | "Multinomial" => Some("random numbers"),
        _ if op.starts_with("Sequence") || op.ends_with("Sequence") || op.contains("ToSequence") => {
            Some("sequences")
        }
        _ if op.starts_with("Optional") => Some("optional values"),
        _ if op.starts_with("String") || matches!(op, "RegexFullMatch" | "TfIdfVectorizer") => {
            Some("strings")
        }
        _ => None,
    }
}

/// Where an operator without an importer occurs.
struct Occurrence {
    count: usize,
    first: String,
    scope: Option<String>,
    opset: i64,
}

/// Operators without an importer, by domain and name.
#[derive(Default)]
pub(crate) struct Unsupported {
    found: BTreeMap<(String, String), Occurrence>,
}

impl Unsupported {
    /// Notes a node.
    pub(crate) fn note(&mut self, domain: &str, node: &NodeProto, opset: i64) {
        let entry = self.found.entry((domain.to_owned(), node.op_type.clone()));
        let first = || {
            let (first, scope) = (super::label(node), exporter_scope(node));
            Occurrence { count: 0, first, scope, opset }
        };
        entry.or_insert_with(first).count += 1;
    }

    /// One error an operator.
    pub(crate) fn into_errors(self) -> Vec<Diagnostic> {
        self.found
            .into_iter()
            .map(|((domain, op), Occurrence { count, first, scope, opset })| {
                let set = if domain.is_empty() { "ai.onnx" } else { &domain };
                let kind = kind(&op).map_or(String::new(), |k| format!(" ({k})"));
                let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
                let title = format!("operator {op}{kind} of {set} {opset} is not supported ({nodes})");
                let mut d = Diagnostic::error(codes::OPERATOR, Class::Unsupported, title).at(&first);
                if let Some(scope) = scope {
                    d = d.note(format!("exporter scope: {scope}"));
                }
                d.help(if domain.is_empty() {
                    "rewrite this part of the model with supported operators, or export it to another operator set"
                } else {
                    "export the model with operators of ai.onnx only"
                })
            })
            .collect()
    }
}
