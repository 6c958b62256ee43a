//! The list of cases that must pass: it only ever grows.

use super::cases::{Outcome, Verdict};
use crate::codes;
use crate::error::{CliError, Exit};
use std::collections::{BTreeMap, BTreeSet};

/// One name a line; empty lines and those that start with `#` do not count.
pub(super) fn parse(text: &str) -> BTreeSet<String> {
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.map(str::to_string).collect()
}

/// The file for the cases that pass now.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let passing: BTreeSet<&str> = passing(outcomes).collect();
    passing.into_iter().map(|name| format!("{name}\n")).collect()
}

fn passing(outcomes: &[Outcome]) -> impl Iterator<Item = &str> {
    outcomes.iter().filter(|o| o.verdict == Verdict::Pass).map(|o| o.name.as_str())
}

/// Cases that pass and are not in the list.
pub(super) fn newly_passing<'a>(wanted: &BTreeSet<String>, outcomes: &'a [Outcome]) -> Vec<&'a str> {
    passing(outcomes).filter(|name| !wanted.contains(*name)).collect()
}

/// The error for cases of the list that do not pass or are not there.
pub(super) fn broken(
    wanted: &BTreeSet<String>,
    outcomes: &[Outcome],
    filter: Option<&str>,
) -> Option<CliError> {
    let by_name: BTreeMap<&str, &Outcome> = outcomes.iter().map(|o| (o.name.as_str(), o)).collect();
    let mut lines = Vec::new();
    for name in wanted.iter().filter(|name| filter.is_none_or(|sub| name.contains(sub))) {
        match by_name.get(name.as_str()) {
            None => lines.push(format!("{name}: there is no such case")),
            Some(o) if o.verdict != Verdict::Pass => lines.push(format!("{name}: {}", o.why)),
            Some(_) => {}
        }
    }
    if lines.is_empty() {
        return None;
    }
    let message = format!("{} cases that must pass do not; the first is {}", lines.len(), lines[0]);
    let error = CliError::new(codes::RATCHET, Exit::Accuracy, message);
    Some(CliError { details: lines, ..error })
}
