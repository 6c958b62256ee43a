//! The list of what every case is expected to do, compiled and interpreted. It is wrong in both directions: a case that
//! passes although the list says that it is refused has to be recorded, so that it stays.

use super::judge::{Outcome, Verdict};
use crate::codes;
use crate::error::{CliError, Exit};
use std::collections::BTreeMap;
use std::path::Path;

const HEADER: &str = "case\toperator\tengine\tinterpreter";
/// The cell of a case that has not been run this way.
const UNKNOWN: &str = "-";
/// The cell of a case that passes.
pub(super) const PASS: &str = "pass";

/// Whether cases are compiled or interpreted, as the column of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Compiled to an engine, which is loaded and run.
    Engine,
    /// Imported and run by the reference interpreter.
    Interpreter,
}

/// One case: the operator that it is about, and for each [`Way`] `pass`, or code and reason of the refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) operator: String,
    pub(super) cells: [String; 2],
}

/// All cases, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ratchet {
    pub(super) rows: BTreeMap<String, Row>,
}

/// Which cases of the list were meant to run.
pub(super) struct Scope<'a> {
    /// Those whose name contains this.
    pub(super) filter: Option<&'a str>,
    /// Only those that were found.
    pub(super) subset: bool,
}

fn cell(outcome: &Outcome) -> &str {
    if outcome.verdict == Verdict::Pass { PASS } else { &outcome.why }
}

impl Ratchet {
    /// Reads the file.
    ///
    /// # Errors
    /// A line that is not a row.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Ratchet, CliError> {
        let bad = |line: &str| {
            let message = format!("{}: \"{line}\" is not a row of the ratchet", path.display());
            CliError::new(codes::NO_CASE, Exit::Invalid, message).help("write it again with --bless")
        };
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        if header != HEADER {
            return Err(bad(header));
        }
        let mut rows = BTreeMap::new();
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, operator, engine, interpreter] = fields.as_slice() else { return Err(bad(line)) };
            let cells = [(*engine).to_string(), (*interpreter).to_string()];
            rows.insert((*name).to_string(), Row { operator: (*operator).to_string(), cells });
        }
        Ok(Ratchet { rows })
    }

    /// The text of the file: a header and one row a case, sorted by name.
    pub(super) fn render(&self) -> String {
        let row = |(name, row): (&String, &Row)| {
            format!("{name}\t{}\t{}\t{}\n", row.operator, row.cells[0], row.cells[1])
        };
        format!("{HEADER}\n{}", self.rows.iter().map(row).collect::<String>())
    }

    /// The list with these outcomes in place of what it says about them; cases without outcome go.
    pub(super) fn blessed(&self, outcomes: &[Outcome], way: Way) -> Ratchet {
        let row = |o: &Outcome| {
            let old = self.rows.get(&o.name).map(|row| row.cells.clone());
            let mut cells = old.unwrap_or_else(|| [UNKNOWN.to_string(), UNKNOWN.to_string()]);
            cells[way as usize] = cell(o).to_string();
            (o.name.clone(), Row { operator: o.operator.clone(), cells })
        };
        Ratchet { rows: outcomes.iter().map(row).collect() }
    }

    /// Everything in which the outcomes differ from the list, one line each.
    pub(super) fn differences(&self, outcomes: &[Outcome], way: Way, scope: &Scope<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        for outcome in outcomes {
            let (name, found) = (&outcome.name, cell(outcome));
            match self.rows.get(name).map(|row| row.cells[way as usize].as_str()) {
                Some(expected) if expected == found => {}
                None | Some(UNKNOWN) => lines.push(format!("{name}: {found}, but it is not in the list")),
                Some(expected) => lines.push(format!("{name}: {found}, expected {expected}")),
            }
        }
        let ran: BTreeMap<&str, ()> = outcomes.iter().map(|o| (o.name.as_str(), ())).collect();
        let meant = |name: &str| !scope.subset && scope.filter.is_none_or(|sub| name.contains(sub));
        let missing = self.rows.keys().filter(|name| meant(name) && !ran.contains_key(name.as_str()));
        lines.extend(missing.map(|name| format!("{name}: there is no such case")));
        lines
    }
}
