//! The rules of the architecture that no compiler checks: who depends on whom, where dangerous names appear, how long
//! files and functions are.
//!
//! Names that this file looks for are built by concatenation, so that it does not find itself.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod repo;

use repo::{root, tracked};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use syn::visit::Visit;

/// The folders of the crates.
const CRATES: [&str; 5] = ["ir/", "passes/", "runtime/", "compiler/", "cli/"];
/// Hard limit of lines in a file.
const MAX_LINES: usize = 1000;
/// The median file has at most this many lines.
const MEDIAN_LINES: usize = 250;
/// Functions longer than this are counted.
const LONG_FUNCTION: usize = 70;
/// At most this share of the functions may be long, in percent.
const LONG_SHARE: usize = 2;
/// At most this many crates of others are part of a program that runs engines.
const RUNTIME_CRATES: usize = 20;

/// The Rust files of the five crates; tools under testdata are packages of their own.
fn rust_files() -> Vec<(String, String)> {
    let ours = |name: &str| CRATES.iter().any(|folder| name.starts_with(folder)) && name.ends_with(".rs");
    tracked().into_iter().filter(|(name, _)| ours(name)).collect()
}

/// The source with the contents of comments, strings and character literals blanked; lines stay where they are.
fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |from: usize, to: usize| {
        out[from..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let end = if rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            comment_length(rest)
        } else if rest[0] == b'"' {
            string_length(rest)
        } else if rest[0] == b'r' && !word_before_raw(bytes, at) && raw_length(rest).is_some() {
            raw_length(rest).unwrap()
        } else if rest[0] == b'\'' && !word_before {
            char_length(rest)
        } else {
            0
        };
        if end > 0 {
            blank(at, at + end);
        }
        at += end.max(1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A raw string may follow a `b` or `c` prefix, but no longer word.
fn word_before_raw(bytes: &[u8], at: usize) -> bool {
    let word = |i: usize| bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_';
    at > 0 && word(at - 1) && !(matches!(bytes[at - 1], b'b' | b'c') && (at < 2 || !word(at - 2)))
}

fn comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        if rest[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if rest[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != b'"' {
        i += 1 + usize::from(rest[i] == b'\\');
    }
    (i + 1).min(rest.len())
}

fn raw_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = &rest[2 + hashes..];
    Some(2 + hashes + body.windows(end.len()).position(|w| w == end).map_or(body.len(), |p| p + end.len()))
}

/// 0 for a lifetime.
fn char_length(rest: &[u8]) -> usize {
    let closing =
        |from: usize| rest[from..].iter().take(12).position(|&b| b == b'\'').map_or(0, |p| from + p + 1);
    match rest.get(1) {
        Some(b'\\') if rest.len() > 3 => closing(3),
        Some(&first) => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        None => 0,
    }
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Fails with everything that was found.
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn the_scanner_sees_code_only() {
    for (source, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x \\\" y\") z", "f(          ) z"),
        ("r#\"a\" b\"# c", "           c"),
        ("br\"a\" c", "b     c"),
        ("for\"a\" c", "for    c"),
        ("'a' '\\'' '\\u{41}' &'a str", "                   &'a str"),
        ("'{' 'é' x", "          x"),
    ] {
        let seen = code_only(source);
        assert_eq!(seen.replace(' ', ""), code.replace(' ', ""), "{source}");
        assert_eq!(seen.matches('\n').count(), source.matches('\n').count());
    }
}

fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--offline", "--no-deps"]).current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names of a package's dependencies; development dependencies only if asked for.
fn dependencies(package: &Value, development: bool) -> BTreeSet<String> {
    let list = package["dependencies"].as_array().unwrap().iter();
    let wanted = list.filter(|d| d["kind"] != "dev" || development);
    wanted.map(|d| d["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: [(&str, &[&str]); 6] = [
        ("autoglm-ir", &[]),
        ("autoglm-runtime", &[]),
        ("autoglm-passes", &["autoglm-ir"]),
        ("autoglm-compiler", &["autoglm-ir", "autoglm-passes", "autoglm-runtime"]),
        ("autoglm", &["autoglm-ir", "autoglm-passes", "autoglm-runtime", "autoglm-compiler"]),
        ("autoglm-generator", &["autoglm-ir", "autoglm-compiler"]),
    ];
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some((_, may)) = allowed.iter().find(|(n, _)| *n == name) else { continue };
        for dependency in dependencies(package, false).iter().filter(|d| d.starts_with("autoglm")) {
            assert!(may.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    let egraphs = ["e", "gg"].concat();
    let generator = ["crane", "lift"].concat();
    let driver = ["cuda", "rc"].concat();
    let wire = ["pro", "st"].concat();
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let has = dependencies(package, true);
        assert!(!has.contains(&egraphs) || ["autoglm-ir", "autoglm-passes"].contains(&name), "{name}");
        let generates =
            has.iter().any(|d| d.strip_prefix(generator.as_str()).is_some_and(|r| r.starts_with('-')));
        assert!(!generates || name == "autoglm-compiler", "{name}");
        // `deny.toml` ignores an advisory of it on the ground that no program links it.
        let linked = dependencies(package, false);
        assert!(linked.iter().all(|d| !d.contains("protobuf")), "{name} links a second protobuf reader");
        assert!(name != "autoglm-runtime" || !has.contains("serde_json"), "{name}");
    }
    let rules: [(&str, &[&str]); 4] = [
        (&egraphs, &["ir/", "passes/"]),
        (&generator, &["compiler/src/codegen/cpu"]),
        (&driver, &["runtime/src/cuda"]),
        (&wire, &["compiler/src/onnx", "compiler/tests/", "runtime/src/engine/manifest.rs"]),
    ];
    let mut found = Vec::new();
    for (file, source) in rust_files() {
        let code = code_only(&source);
        for (name, places) in &rules {
            let here =
                words(&code).any(|w| w == *name || w.strip_prefix(name).is_some_and(|r| r.starts_with('_')));
            if here && !places.iter().any(|place| file.starts_with(place)) {
                found.push(format!("{file} names {name}"));
            }
        }
    }
    none("libraries named outside their place", &found);
}

/// What a program that only runs engines is made of, with the features that the runtime alone asks for; proc macros and what they
/// use run in the compiler.
#[test]
fn the_runtime_needs_few_crates() {
    let options = ["--package", "autoglm-runtime", "--edges", "normal,no-proc-macro", "--prefix", "none"];
    let tree = Command::new(env!("CARGO"))
        .arg("tree")
        .args(options)
        .args(["--format", "{p}", "--offline", "--target", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let names: BTreeSet<String> = text
        .lines()
        .map(name)
        .filter(|name| !name.is_empty() && !name.starts_with("autoglm-runtime"))
        .collect();
    assert!(names.iter().any(|name| name.starts_with("memmap2 ")), "the walk found {names:?} only");
    assert!(names.len() <= RUNTIME_CRATES, "the runtime needs {} crates: {names:?}", names.len());
}

#[test]
fn unsafe_code_is_in_the_runtime_and_explained() {
    let keyword = ["un", "safe"].concat();
    let forbid = format!("#![forbid({keyword}_code)]");
    let marker = ["SAFE", "TY"].concat();
    let mut found = Vec::new();
    for (file, source) in rust_files() {
        let runtime = file.starts_with("runtime/src/");
        let entry = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
        if entry && !runtime && !source.contains(&forbid) {
            found.push(format!("{file} lacks {forbid}"));
        }
        let code = code_only(&source);
        let (code, lines): (Vec<&str>, Vec<&str>) = (code.lines().collect(), source.lines().collect());
        for (i, line) in code.iter().enumerate() {
            let mut after =
                line.match_indices(&keyword).map(|(at, _)| line[at + keyword.len()..].trim_start());
            let next = code.get(i + 1).map_or("", |line| line.trim_start());
            let block = |rest: &str| {
                rest.starts_with('{') || rest.starts_with("impl") || rest.is_empty() && next.starts_with('{')
            };
            if !after.any(block) {
                continue;
            }
            if !file.starts_with("runtime/") {
                found.push(format!("{file}:{}: {keyword} outside the runtime", i + 1));
            } else if !explained(&lines, i, &marker) {
                found.push(format!("{file}:{}: no {marker} comment above", i + 1));
            }
        }
    }
    none(&format!("{keyword} code"), &found);
}

/// The line itself, or one above it within its statement or the comment before that, has the marker.
fn explained(lines: &[&str], at: usize, marker: &str) -> bool {
    if lines[at].contains(marker) {
        return true;
    }
    let ends = |line: &str| line.ends_with(';') || line.ends_with('}') || line.is_empty();
    let mut in_comment = false;
    for line in lines[..at].iter().rev().map(|line| line.trim()) {
        let comment = line.starts_with("//");
        if comment && line.contains(marker) {
            return true;
        }
        if !comment && (in_comment || ends(line)) {
            return false;
        }
        in_comment |= comment;
    }
    false
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let files = rust_files();
    let mut found = Vec::new();
    for (file, source) in &files {
        if source.lines().count() > MAX_LINES {
            found.push(format!("{file} has {} lines", source.lines().count()));
        }
        if !source.starts_with("//!") {
            found.push(format!("{file} does not start with //!"));
        }
    }
    none("files", &found);
    let mut lengths: Vec<usize> = files.iter().map(|(_, source)| source.lines().count()).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= MEDIAN_LINES, "the median file has {median} lines");
}

/// First line and length of every function with a body, and of every closure of more than one line: many operators are
/// closures in a table.
#[derive(Default)]
struct Functions(Vec<(usize, usize)>);

impl Functions {
    fn of(source: &str) -> Result<Vec<(usize, usize)>, syn::Error> {
        let mut found = Functions::default();
        found.visit_file(&syn::parse_file(source)?);
        Ok(found.0)
    }

    /// Attributes and doc comments are not part of the length.
    fn add(&mut self, start: proc_macro2::Span, end: proc_macro2::Span) {
        let (start, end) = (start.start().line, end.end().line);
        self.0.push((start, end - start + 1));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, f: &'a syn::ItemFn) {
        self.add(f.sig.fn_token.span, f.block.brace_token.span.close());
        syn::visit::visit_item_fn(self, f);
    }

    fn visit_impl_item_fn(&mut self, f: &'a syn::ImplItemFn) {
        self.add(f.sig.fn_token.span, f.block.brace_token.span.close());
        syn::visit::visit_impl_item_fn(self, f);
    }

    fn visit_trait_item_fn(&mut self, f: &'a syn::TraitItemFn) {
        if let Some(block) = &f.default {
            self.add(f.sig.fn_token.span, block.brace_token.span.close());
        }
        syn::visit::visit_trait_item_fn(self, f);
    }

    fn visit_expr_closure(&mut self, c: &'a syn::ExprClosure) {
        if let syn::Expr::Block(body) = &*c.body {
            self.add(c.or1_token.span, body.block.brace_token.span.close());
        }
        syn::visit::visit_expr_closure(self, c);
    }
}

#[test]
fn functions_are_short() {
    let sample = "fn a() {}\ntrait T { fn b(); fn c() {\n} }\n/// Doc.\n#[x]\nfn d(x: [u8; 2]) {\n  if x {}\n}\n\
                  static F: fn(u8) = |x| {\n  fn e() {}\n};\n";
    assert_eq!(Functions::of(sample).unwrap(), [(1, 1), (2, 2), (6, 3), (9, 3), (10, 1)]);
    let (mut all, mut long) = (0, Vec::new());
    for (file, source) in rust_files() {
        for (line, length) in Functions::of(&source).unwrap_or_else(|e| panic!("{file}: {e}")) {
            all += 1;
            if length > LONG_FUNCTION {
                long.push(format!("{file}:{line}: {length} lines"));
            }
        }
    }
    assert!(all > 100, "the counter found {all} functions only");
    let allowed = all * LONG_SHARE / 100;
    assert!(long.len() <= allowed, "{} of {all} functions are long:\n  {}", long.len(), long.join("\n  "));
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    let join = |parts: &[&str]| parts.concat();
    let mut patterns = vec![
        join(&["arti", "factory"]),
        join(&["index.crates", ".io"]),
        join(&["static.crates", ".io"]),
        join(&["pypi", ".org"]),
        join(&["pythonhosted", ".org"]),
        join(&["registry.npm", "js"]),
        join(&["deb.", "debian.org"]),
        join(&["/ro", "ot/"]),
        join(&["/ho", "me/"]),
        join(&["/Us", "ers/"]),
        join(&["/wo", "rk/"]),
    ];
    patterns.push(format!("{}/", root().display()));
    let mut found = Vec::new();
    for (file, source) in tracked() {
        for (i, line) in source.lines().enumerate() {
            for pattern in patterns.iter().filter(|p| line.contains(p.as_str())) {
                found.push(format!("{file}:{}: {pattern}", i + 1));
            }
        }
    }
    none("paths and hosts of one machine", &found);
}
