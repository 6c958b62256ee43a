//! "Did you mean": the nearest of the known names.

use crate::error::CliError;

/// Longest name that is compared; an edit distance takes time in proportion to the product of the lengths.
const MAX_LEN: usize = 256;
/// Most names listed in a help line.
const MAX_LISTED: usize = 8;

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            row[j + 1] = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// The candidate nearest to `name`, if it is near enough to be a slip: a third of the length, case ignored.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let limit = (lower.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|c| c.len() <= MAX_LEN && name.len() <= MAX_LEN)
        .map(|c| (edit_distance(&lower, &c.to_lowercase()), c))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// The error for a name that is not among `known`: `what` is the kind of thing, as in "input".
pub fn unknown_name(what: &str, name: &str, known: &[&str]) -> CliError {
    let error = CliError::usage(format!("no {what} is named \"{name}\""));
    match nearest(name, known.iter().copied()) {
        Some(near) => error.help(format!("did you mean \"{near}\"?")),
        None if known.is_empty() => error.help(format!("there is no {what}")),
        None => {
            let more = if known.len() > MAX_LISTED { ", ..." } else { "" };
            let listed = known.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join(", ");
            error.help(format!("known: {listed}{more}"))
        }
    }
}
