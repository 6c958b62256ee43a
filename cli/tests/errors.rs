//! The error codes of all crates: one table a crate, unique, each triggered by a test, and docs/errors.md made of them.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "repo/page.rs"]
mod page;
mod repo;

use autoglm::error::Exit;
use autoglm_runtime::codes::ErrorCode;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Each crate that has codes: its folder and its table.
const CRATES: [(&str, &[ErrorCode]); 3] = [
    ("compiler/", autoglm_compiler::codes::CODES),
    ("runtime/", autoglm_runtime::codes::CODES),
    ("cli/", autoglm::codes::CODES),
];

/// What the codes from a number on are about.
const RANGES: [(u32, &str); 12] = [
    (100, "The model file"),
    (110, "External weights"),
    (120, "Tensors of the model"),
    (130, "Operators and attributes"),
    (140, "Names and order of nodes"),
    (150, "Functions"),
    (160, "Import of nodes"),
    (200, "IR text, passes, lowering"),
    (500, "Engine files"),
    (599, "Runs"),
    (700, "Reference interpreter and machine"),
    (900, "Command line and files"),
];

fn number(code: &str) -> u32 {
    code[1..].parse().unwrap()
}

fn all() -> impl Iterator<Item = (&'static str, &'static ErrorCode)> {
    CRATES.iter().flat_map(|(folder, codes)| codes.iter().map(move |code| (*folder, code)))
}

#[test]
fn codes_are_unique_and_in_order() {
    let mut seen = BTreeMap::new();
    for (folder, code) in all() {
        let shape = code.code.len() == 5 && code.code[1..].bytes().all(|b| b.is_ascii_digit());
        assert!(shape && ["E", "W"].contains(&&code.code[..1]), "{code:?}");
        assert!(code.meaning.ends_with('.') && code.help.ends_with('.'), "{code:?}");
        assert_eq!(seen.insert(code.code, folder), None, "{code:?} is defined twice");
    }
    for (_, codes) in CRATES {
        assert!(codes.is_sorted_by_key(|code| code.code), "{:?}", codes[0]);
    }
}

/// Splits a file into what ships and what tests it.
fn split_tests<'a>(name: &str, source: &'a str) -> (&'a str, &'a str) {
    let file = name.rsplit('/').next().unwrap_or(name);
    if name.contains("/tests/") || file.ends_with("tests.rs") || name.starts_with("testdata/filetests/") {
        return ("", source);
    }
    source.split_at(source.find("#[cfg(test)]").unwrap_or(source.len()))
}

/// Whether a line of a test names the constant `name`, alone or behind a path.
fn names(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].ends_with("code::") || line[..at].ends_with("codes::");
        before && !line[at + name.len()..].starts_with(word)
    })
}

#[test]
fn every_code_is_triggered_by_a_test() {
    let files = repo::tracked();
    // Lines that make an error themselves show nothing about the code under test.
    let makes = ["::new(", "::error(", "::warning("];
    let tests: Vec<(&str, &str)> = files
        .iter()
        .flat_map(|(name, source)| split_tests(name, source).1.lines().map(|line| (name.as_str(), line)))
        .filter(|(_, line)| !makes.iter().any(|make| line.contains(make)))
        .collect();
    let mut missing = Vec::new();
    for (folder, code) in all() {
        let quoted = format!("{}\"", code.code);
        let bracketed = format!("[{}]", code.code);
        let hit = tests.iter().any(|(file, line)| {
            line.contains(&quoted)
                || line.contains(&bracketed)
                || (file.starts_with(folder) && names(line, code.name))
        });
        if !hit {
            missing.push(format!("{} {}", code.code, code.name));
        }
    }
    assert!(missing.is_empty(), "no test triggers:\n  {}", missing.join("\n  "));
}

#[test]
fn codes_are_written_in_the_tables_only() {
    let mut found = Vec::new();
    for (name, source) in repo::tracked() {
        if !name.ends_with(".rs") || name.ends_with("src/codes.rs") || !name.contains("/src/") {
            continue;
        }
        for (i, line) in split_tests(&name, &source).0.lines().enumerate() {
            let code = |at: usize| line[at + 2..].bytes().take(4).filter(u8::is_ascii_digit).count() == 4;
            let quoted = line.match_indices("\"E").chain(line.match_indices("\"W"));
            if quoted.map(|(at, _)| at).any(|at| line.is_char_boundary(at + 2) && code(at)) {
                found.push(format!("{name}:{}", i + 1));
            }
        }
    }
    assert!(found.is_empty(), "use the constants of codes.rs:\n  {}", found.join("\n  "));
}

#[test]
fn the_page_is_up_to_date() {
    let mut text = String::from(
        "# Error codes\n\nGenerated from the tables `codes.rs` of the crates: `BLESS=1 cargo test -p autoglm --test errors`.\n\n\
         A code stays the same when its message changes. Codes that start with `W` are warnings.\n\n## Exit status\n\n\
         | status | meaning |\n|---|---|\n",
    );
    for exit in Exit::ALL {
        writeln!(text, "| {} | {} |", exit.code(), exit.meaning()).unwrap();
    }
    let mut codes: Vec<&ErrorCode> = all().map(|(_, code)| code).collect();
    codes.sort_by_key(|code| (number(code.code), code.code));
    let mut ranges = RANGES.iter().peekable();
    for code in codes {
        let mut title = None;
        while let Some((_, name)) = ranges.next_if(|(from, _)| *from <= number(code.code)) {
            title = Some(name);
        }
        if let Some(title) = title {
            writeln!(text, "\n## {title}\n\n| code | meaning | what to do |\n|---|---|---|").unwrap();
        }
        writeln!(text, "| {} | {} | {} |", code.code, code.meaning, code.help).unwrap();
    }
    page::hold(&repo::root().join("docs/errors.md"), &text);
}
