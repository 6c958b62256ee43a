//! docs/ir.md against the code: its tables are generated (`BLESS=1` rewrites them), its example is canonical text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use autoglm_ir::op::{Arity, AttrKind};
use autoglm_ir::ops::OPS;
use autoglm_ir::{text, verify};
use std::path::{Path, PathBuf};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ir.md")
}

/// The text with the region called `name` replaced.
fn with_region(page: &str, name: &str, contents: &str) -> String {
    let start = format!("<!-- generated: {name} -->\n");
    let (before, rest) = page.split_once(&start).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{start}{contents}<!-- end -->{after}")
}

fn operators() -> String {
    let mut table =
        String::from("| operator | arguments | attributes | class | computes |\n|---|---|---|---|---|\n");
    for op in OPS {
        let arguments = match op.arity {
            Arity { min, max } if min == max => min.to_string(),
            Arity { min, max: usize::MAX } => format!("{min} or more"),
            Arity { min, max } => format!("{min} to {max}"),
        };
        let attribute = |spec: &autoglm_ir::op::AttrSpec| {
            let kind = match spec.kind {
                AttrKind::Int => "int",
                AttrKind::Float => "float",
                AttrKind::Str => "string",
                AttrKind::DType => "dtype",
                AttrKind::Ints => "ints",
                AttrKind::Dims => "dims",
            };
            format!("{}{}: {kind}", if spec.required { "" } else { "?" }, spec.name)
        };
        let attributes: Vec<String> = op.attrs.iter().map(attribute).collect();
        let class = format!("{:?}", op.class).to_lowercase();
        let doc = op.doc.replace('|', "\\|");
        let row = format!("| `{}` | {arguments} | {} | {class} | {doc} |\n", op.name, attributes.join(", "));
        table.push_str(&row);
    }
    table
}

/// The list in the documentation of the verifier, which stands beside the checks.
fn invariants() -> String {
    let source =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verify.rs")).unwrap();
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).skip(2);
    let mut list = String::new();
    for line in lines {
        match line.strip_prefix("- ") {
            Some(item) => list.push_str(&format!("- {item}\n")),
            None if line.is_empty() => list.push('\n'),
            None if list.ends_with("\n\n") || list.is_empty() => list.push_str(&format!("{line}\n\n")),
            None => list.push_str(&format!("  {line}\n")),
        }
    }
    format!("{}\n\n", list.trim())
}

#[test]
fn the_tables_are_up_to_date() {
    let found = std::fs::read_to_string(page()).unwrap();
    let wanted = with_region(&with_region(&found, "ops", &operators()), "verifier", &invariants());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(page(), &wanted).unwrap();
    } else {
        assert!(found == wanted, "docs/ir.md is stale: run the tests with BLESS=1");
    }
    assert!(wanted.contains("recipe") && wanted.contains("| `matmul` | 2 |"));
}

#[test]
fn the_example_is_valid_and_canonical() {
    let page = std::fs::read_to_string(page()).unwrap();
    let examples: Vec<&str> =
        page.split("```agir\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let graph = text::parse(example).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(verify::verify(&graph), []);
        assert_eq!(text::print(&graph).trim_end(), example.trim_end());
    }
}
