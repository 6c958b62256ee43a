//! What the operators of ai.onnx take: how many inputs and outputs, and which attributes, version by version.
//!
//! The table is written from the schemas of the onnx package by `testdata/conformance/schemas.py`.

use super::codes;
use super::cx::{Cx, Res};
use super::values::from_read;
use crate::onnx::attrs::{Attrs, kind_named};
use crate::onnx::proto::NodeProto;
use crate::onnx::shown;
use std::collections::HashMap;
use std::sync::LazyLock;

const TABLE: &str = include_str!("../../schemas/ai.onnx.txt");

/// The signatures of each operator, in the order of their versions.
static SCHEMAS: LazyLock<HashMap<&str, Vec<Schema>>> = LazyLock::new(|| {
    let mut all: HashMap<&str, Vec<Schema>> = HashMap::new();
    for (op, schema) in rows().filter_map(parsed) {
        all.entry(op).or_default().push(schema);
    }
    all
});

/// The signature of an operator in some of its versions.
pub(super) struct Schema {
    versions: Vec<i64>,
    /// The most inputs; none where any number may be given.
    inputs: Option<usize>,
    /// The most outputs.
    outputs: Option<usize>,
    /// Attributes and their types.
    attrs: Vec<(&'static str, i32)>,
}

/// The lines of the table.
fn rows() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|l| !l.starts_with('#'))
}

/// A line of the table: `Softmax 1,11,13 1 1 axis:int`.
fn parsed(row: &'static str) -> Option<(&'static str, Schema)> {
    let mut words = row.split(' ');
    let (op, versions) = (words.next()?, words.next()?);
    let versions = versions.split(',').map(|v| v.parse().ok()).collect::<Option<_>>()?;
    let mut most = || match words.next()? {
        "*" => Some(None),
        count => count.parse().ok().map(Some),
    };
    let (inputs, outputs) = (most()?, most()?);
    let attr =
        |word: &'static str| word.split_once(':').and_then(|(name, kind)| Some((name, kind_named(kind)?)));
    Some((op, Schema { versions, inputs, outputs, attrs: words.map(attr).collect::<Option<_>>()? }))
}

/// The signature of an operator of ai.onnx in the version that dates from `since`.
fn find(op: &str, since: i64) -> Option<&'static Schema> {
    SCHEMAS.get(op)?.iter().find(|s| s.versions.contains(&since))
}

/// Refuses inputs, outputs and attributes that an operator of ai.onnx does not have in the version that dates from
/// `since`, and attributes of another type. Like `onnx.checker` it passes over attributes that start with `__`.
pub(super) fn check(cx: &Cx, node: &NodeProto, since: i64, attrs: &Attrs<'_>) -> Res<()> {
    let op = node.op_type.as_str();
    let Some(schema) = find(op, since) else {
        return Err(cx.invalid(codes::OPERATOR, format!("has no version {since}")));
    };
    for (what, names, most) in
        [("input", &node.input, schema.inputs), ("output", &node.output, schema.outputs)]
    {
        let given = names.iter().rposition(|n| !n.is_empty()).map_or(0, |last| last + 1);
        if let Some(most) = most.filter(|most| given > *most) {
            let title = format!("has {given} {what}s, but version {since} takes at most {most}");
            let help = format!("remove {what} {most} and those behind it, or export the model again");
            return Err(Box::new(cx.invalid(codes::SURPLUS, title).help(help)));
        }
    }
    for name in attrs.names().filter(|n| !n.starts_with("__")) {
        match schema.attrs.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => attrs.expect(name, *kind).map_err(|e| Box::new(from_read(e)))?,
            None => {
                let title = format!("version {since} has no attribute {}", shown(name));
                return Err(Box::new(
                    cx.invalid(codes::ATTR_UNKNOWN, title).help(schema.known(op, since, name)),
                ));
            }
        }
    }
    Ok(())
}

impl Schema {
    /// What to say of an attribute that is not among those of this version.
    fn known(&self, op: &str, since: i64, name: &str) -> String {
        let known = match self.attrs.as_slice() {
            [] => "no attribute".to_owned(),
            attrs => attrs.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", "),
        };
        let has = |s: &&Schema| s.attrs.iter().any(|(n, _)| *n == name);
        let others = SCHEMAS.get(op).into_iter().flatten().filter(has).flat_map(|s| &s.versions);
        let others = others.map(i64::to_string).collect::<Vec<_>>().join(", ");
        match others.as_str() {
            "" => format!("remove it: {op} of version {since} has {known}"),
            others => format!("{op} has it in version {others}; of version {since} it has {known}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ops::IMPORTERS;
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read() {
        assert!(rows().count() > 300);
        for row in rows() {
            assert!(parsed(row).is_some(), "{row}");
        }
    }

    /// Importers state the versions at which a definition changed: those of the schemas, from the first supported one on.
    #[test]
    fn importers_have_the_versions_of_the_schemas() {
        for row in IMPORTERS.iter().copied().flatten() {
            let known: Vec<i64> = SCHEMAS[row.op].iter().flat_map(|s| s.versions.iter().copied()).collect();
            let supported: Vec<i64> = known.into_iter().filter(|v| *v >= row.since[0]).collect();
            assert_eq!(row.since, supported, "{}", row.op);
        }
    }
}
