//! `docs/rules.md` is written from the tables of the rules; `BLESS=1` rewrites it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use autoglm_passes::rules::THEMES;
use std::fmt::Write as _;

const HEAD: &str = "# Rewrite rules

The optimiser applies these equations, from left to right, until none gives anything new, and then takes the cheapest graph that
they make. `reading-an-egraph.md` shows how to watch it.

**Exact** rules leave every result bit for bit as it was, but for which NaN it is; `--strict` admits no others. Rules that
**reassociate** are equations over the real numbers: they round in another order or place. A rule that *recovers* an operator is
listed by `compile --explain-fusion`. Guards that an equation does not show (element types, finite constants, axes) are in
`passes/src/rules/`; every rule has graphs where it fires and where it must not in `testdata/filetests/rules/`.

This page is generated: `BLESS=1 cargo test -p autoglm-passes --test docs`.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (theme, rules) in THEMES {
        write!(page, "\n## {theme}\n\n| rule | equation | numerics | recovers |\n|---|---|---|---|\n")
            .unwrap();
        for rule in *rules {
            let recovers = if rule.recovers { "yes" } else { "" };
            let equation = rule.equation.replace('|', "\\|");
            writeln!(page, "| `{}` | {equation} | {} | {recovers} |", rule.name, rule.numerics).unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_the_rules_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page(),
        "docs/rules.md is out of date: BLESS=1 cargo test -p autoglm-passes --test docs"
    );
}

#[test]
fn rules_have_names_of_their_own() {
    let mut names: Vec<&str> = THEMES.iter().flat_map(|(_, rules)| rules.iter().map(|r| r.name)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
