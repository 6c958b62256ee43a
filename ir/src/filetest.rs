//! Filetests: files of graphs with what is expected of them in comments.
//!
//! ```text
//! test infer
//!
//! graph @g (%x: f32[2,N]) {
//!   %0 = neg %x
//!   return %0
//! }
//! ; graph @g (%x: f32[2,N]) {
//! ...
//! ```
//!
//! The header names one test and its arguments; each graph is a case; the comments after a graph are what the test is
//! expected to give. Tests are functions from a case to text, so other crates register theirs beside [`TESTS`]:
//!
//! - `roundtrip`: the graph as printed, which must be the very text of the case;
//! - `infer`: the graph with inferred types, or the errors;
//! - `verify`: `valid`, or the errors of the parser and the verifier;
//! - `eval`: for every run of `in` lines (one tensor an input, given), `out` lines with the outputs, or an error.

use crate::interp;
use crate::tensor::Tensor;
use crate::text::{ParseError, Pool, parse_tensor, parse_with, print, print_tensor};
use crate::verify::verify;

/// One graph of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Line of the file where the graph starts, from 1.
    pub line: usize,
    /// The text of the graph.
    pub graph: String,
    /// The comments after it, without `; `.
    pub expected: Vec<String>,
}

/// What a test found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The text that the graph itself should have.
    Graph(String),
    /// The lines that should follow the graph.
    Lines(Vec<String>),
}

/// A test: from its arguments in the header and a case to what it finds.
pub type Test = fn(&str, &Case) -> Found;

/// The tests of this crate.
pub const TESTS: &[(&str, Test)] =
    &[("roundtrip", roundtrip), ("infer", infer), ("verify", verify_graph), ("eval", eval)];

/// A case that did not find what it expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Line of the file where the graph starts.
    pub line: usize,
    /// The text of the file.
    pub expected: String,
    /// The text of the test.
    pub found: String,
}

/// The outcome of a file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// How many cases ran.
    pub cases: usize,
    /// Those that failed.
    pub mismatches: Vec<Mismatch>,
    /// The file with every expectation replaced by what was found.
    pub blessed: String,
}

/// Runs a file; an error when the file itself is malformed.
pub fn run(text: &str, tests: &[(&str, Test)]) -> Result<Outcome, String> {
    let (header, cases) = split(text)?;
    let mut commands = header.iter().filter_map(|line| line.strip_prefix("test "));
    let (Some(command), None) = (commands.next(), commands.next()) else {
        return Err("the header must have one line `test NAME`".into());
    };
    let (name, arguments) = command.split_once(' ').unwrap_or((command, ""));
    let test = tests.iter().find(|(n, _)| *n == name).map(|(_, test)| test);
    let test = test.ok_or_else(|| format!("unknown test `{name}`"))?;
    let mut outcome = Outcome { cases: cases.len(), ..Outcome::default() };
    outcome.blessed = header.join("\n");
    for case in &cases {
        let expected = block(&case.graph, &case.expected);
        let found = match test(arguments.trim(), case) {
            Found::Graph(graph) => block(&graph, &case.expected),
            Found::Lines(lines) => block(&case.graph, &lines),
        };
        outcome.blessed += "\n\n";
        outcome.blessed += found.trim_end();
        if expected != found {
            outcome.mismatches.push(Mismatch { line: case.line, expected, found });
        }
    }
    outcome.blessed += "\n";
    Ok(outcome)
}

fn block(graph: &str, lines: &[String]) -> String {
    let comments = lines.iter().map(|l| if l.is_empty() { ";\n".into() } else { format!("; {l}\n") });
    format!("{}\n{}", graph.trim_end(), comments.collect::<String>())
}

/// The header's lines and the cases.
fn split(text: &str) -> Result<(Vec<&str>, Vec<Case>), String> {
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].starts_with("graph ")).collect();
    let first = *starts.first().ok_or("the file has no graph")?;
    let header = lines[..first].iter().copied().filter(|l| !l.is_empty()).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    let cases = starts.iter().zip(ends).map(|(start, end)| case(*start, &lines[*start..end]));
    Ok((header, cases.collect::<Result<_, _>>()?))
}

fn case(start: usize, lines: &[&str]) -> Result<Case, String> {
    let line = start + 1;
    let end =
        lines.iter().position(|l| *l == "}").ok_or_else(|| format!("line {line}: the graph does not end"))?;
    let comment = |l: &&str| l.strip_prefix(';').map(|l| l.strip_prefix(' ').unwrap_or(l).to_owned());
    let expected = lines[end + 1..].iter().filter(|l| !l.is_empty()).map(|l| {
        comment(l).ok_or_else(|| format!("line {line}: only comments may follow a graph, not `{l}`"))
    });
    Ok(Case { line, graph: lines[..=end].join("\n"), expected: expected.collect::<Result<_, _>>()? })
}

fn errors(errors: &[ParseError]) -> Vec<String> {
    errors.iter().map(|e| format!("error: {e}")).collect()
}

fn roundtrip(_: &str, case: &Case) -> Found {
    match parse_with(&case.graph, &Pool::new()) {
        Ok(graph) => Found::Graph(print(&graph)),
        Err(e) => Found::Lines(errors(&e)),
    }
}

fn infer(_: &str, case: &Case) -> Found {
    Found::Lines(match parse_with(&case.graph, &Pool::new()) {
        Ok(graph) => print(&graph).lines().map(str::to_owned).collect(),
        Err(e) => errors(&e),
    })
}

fn verify_graph(_: &str, case: &Case) -> Found {
    Found::Lines(match parse_with(&case.graph, &Pool::new()) {
        Ok(graph) => match verify(&graph) {
            violations if violations.is_empty() => vec!["valid".into()],
            violations => violations.iter().map(|v| format!("error: {v}")).collect(),
        },
        Err(e) => errors(&e),
    })
}

fn eval(_: &str, case: &Case) -> Found {
    let graph = match parse_with(&case.graph, &Pool::new()) {
        Ok(graph) => graph,
        Err(e) => return Found::Lines(errors(&e)),
    };
    let mut found = Vec::new();
    let mut given = case.expected.iter().filter(|l| l.starts_with("in ")).peekable();
    loop {
        let lines: Vec<&String> = given.by_ref().take(graph.inputs.len()).collect();
        let inputs =
            lines.iter().map(|l| parse_tensor(&l["in ".len()..])).collect::<Result<Vec<Tensor>, _>>();
        found.extend(lines.into_iter().cloned());
        match inputs.and_then(|inputs| interp::run(&graph, &inputs).map_err(|e| e.to_string())) {
            Ok(outputs) => found.extend(outputs.iter().map(|t| format!("out {}", print_tensor(t)))),
            Err(message) => found.push(format!("error: {message}")),
        }
        if given.peek().is_none() || graph.inputs.is_empty() {
            return Found::Lines(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "test infer\n\ngraph @g (%x: f32[2]) {\n  %0 = neg %x\n  return %0\n}\n; wrong\n";

    #[test]
    fn blessing_a_file_makes_it_pass() {
        let outcome = run(FILE, TESTS).unwrap();
        assert_eq!((outcome.cases, outcome.mismatches.len()), (1, 1));
        assert!(outcome.blessed.contains(";   %0 = neg %x : f32[2]\n"));
        let again = run(&outcome.blessed, TESTS).unwrap();
        assert_eq!(again.mismatches, []);
        assert_eq!(again.blessed, outcome.blessed);
    }

    #[test]
    fn malformed_files_are_errors() {
        assert!(run("test infer\n", TESTS).is_err());
        assert!(run(&FILE.replace("infer", "nothing"), TESTS).is_err());
        assert!(run(&FILE.replace("; wrong", "wrong"), TESTS).is_err());
    }
}
