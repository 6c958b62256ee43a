//! What a command prints: one JSON envelope, or text with tables.

use crate::error::{CliError, Exit, escape};
use serde_json::{Map, Value, json};

/// The name and version of the JSON schema; changes within it only add keys.
pub const SCHEMA: &str = "autoglm.report/1";

/// The result of a command in both forms.
#[derive(Clone, Debug, Default)]
pub struct Report {
    fields: Map<String, Value>,
    text: String,
    failure: Option<CliError>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Report {
        Report::default()
    }

    /// Sets a key of the envelope.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.to_string(), value.into());
    }

    /// Adds the keys of another report, without its text.
    pub fn take_fields(&mut self, other: &Report) {
        self.fields.extend(other.fields.clone());
    }

    /// Adds text for people. Control characters of foreign names must already be escaped; [`Table`] does it.
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Marks the result as failed: it is still printed, then the error ends the program.
    pub fn fail(&mut self, error: CliError) {
        self.failure = Some(error);
    }

    /// The error that ends the program after the result is printed.
    pub fn failure(&self) -> Option<&CliError> {
        self.failure.as_ref()
    }

    /// The text for people.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// The envelope of a finished command.
    pub fn to_json(&self, command: &str) -> Value {
        let mut all = envelope(command, self.failure.as_ref());
        all.extend(self.fields.clone());
        Value::Object(all)
    }
}

/// The envelope of a command that ended without a result.
pub fn error_json(command: &str, error: &CliError) -> Value {
    Value::Object(envelope(command, Some(error)))
}

fn envelope(command: &str, error: Option<&CliError>) -> Map<String, Value> {
    let exit = error.map_or(Exit::Ok, |e| e.exit);
    let status = match exit {
        Exit::Ok => "ok",
        Exit::Accuracy | Exit::Performance | Exit::Budget | Exit::Reproducible => "fail",
        _ => "error",
    };
    let mut map = Map::new();
    map.insert("schema".into(), json!(SCHEMA));
    map.insert("command".into(), json!(command));
    map.insert("status".into(), json!(status));
    map.insert("exit_code".into(), json!(exit.code()));
    map.insert("tool".into(), json!({ "version": env!("CARGO_PKG_VERSION") }));
    let diagnostics: Vec<Value> = error.iter().map(|e| e.to_json()).collect();
    map.insert("diagnostics".into(), Value::Array(diagnostics));
    map
}

/// Columns padded to equal width.
#[derive(Clone, Debug)]
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; a heading that starts with `>` marks a column aligned to the right.
    pub fn new(headings: &[&str]) -> Table {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        let first = headings.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
        Table { right, rows: vec![first] }
    }

    /// Adds a row; control characters are escaped.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| escape(cell)).collect());
    }

    /// The lines, two spaces between columns, no spaces at the ends.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = if right { (padding.as_str(), "") } else { ("", padding.as_str()) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["name", ">ms"]);
        table.row(["a\nb", "1.5"]);
        table.row(["é", "10.25"]);
        assert_eq!(table.render(), "name     ms\na\\nb    1.5\né     10.25\n");
    }

    #[test]
    fn the_envelope_has_its_keys_first_and_in_order() {
        let mut report = Report::new();
        report.set("perf", json!({ "n": 3 }));
        let text = report.to_json("bench").to_string();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text,
            format!(
                "{{\"schema\":\"autoglm.report/1\",\"command\":\"bench\",\"status\":\"ok\",\"exit_code\":0,\
                 \"tool\":{{\"version\":\"{version}\"}},\"diagnostics\":[],\"perf\":{{\"n\":3}}}}"
            )
        );
        report.fail(CliError::new("E0940", Exit::Accuracy, "differs"));
        let value = report.to_json("verify");
        assert_eq!((&value["status"], &value["exit_code"]), (&json!("fail"), &json!(5)));
        assert_eq!(value["diagnostics"][0]["code"], "E0940");
        let error = error_json("run", &CliError::usage("x"));
        assert_eq!((&error["status"], &error["exit_code"]), (&json!("error"), &json!(2)));
    }
}
