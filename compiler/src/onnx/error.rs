//! What can be wrong with a model file, as errors and warnings that can be shown to anyone.

use std::fmt::{self, Write as _};

/// The stable code of each kind of error of the ONNX file reader.
pub mod code {
    /// The file cannot be opened or read.
    pub const IO: &str = "E0100";
    /// The file is something else than an ONNX model.
    pub const NOT_ONNX: &str = "E0101";
    /// The bytes are not a well-formed protobuf message.
    pub const WIRE: &str = "E0102";
    /// A limit on size, number or depth is exceeded.
    pub const LIMIT: &str = "E0103";
    /// A well-formed message does not fit the ONNX schema.
    pub const SCHEMA: &str = "E0104";
    /// The model has no graph.
    pub const NO_GRAPH: &str = "E0105";
    /// An operator set is imported twice with different versions.
    pub const OPSET: &str = "E0106";
    /// An external data entry has an unknown, repeated or malformed key.
    pub const EXTERNAL_ENTRY: &str = "E0110";
    /// An external data location leaves the model's directory.
    pub const EXTERNAL_LOCATION: &str = "E0111";
    /// An external data file cannot be opened.
    pub const EXTERNAL_OPEN: &str = "E0112";
    /// An external data file is a link, a directory, a device or a pipe.
    pub const EXTERNAL_KIND: &str = "E0113";
    /// An external data range lies outside its file.
    pub const EXTERNAL_RANGE: &str = "E0114";
    /// A tensor has an element type that does not exist or does not fit its use.
    pub const TENSOR_TYPE: &str = "E0120";
    /// A tensor's dimensions are negative or too large.
    pub const TENSOR_DIMS: &str = "E0121";
    /// A tensor's data does not have the size that its type and dimensions give.
    pub const TENSOR_SIZE: &str = "E0122";
    /// A tensor holds its data in more than one place.
    pub const TENSOR_TWICE: &str = "E0123";
    /// A tensor is a segment of a larger one.
    pub const TENSOR_SEGMENT: &str = "E0124";
    /// A tensor holds its data in a field that its type does not use, or a value that its type cannot hold.
    pub const TENSOR_FIELD: &str = "E0125";
    /// A sparse tensor's indices are malformed.
    pub const SPARSE: &str = "E0126";
    /// An attribute has another type than its operator needs.
    pub const ATTR_TYPE: &str = "E0130";
    /// A required attribute is missing.
    pub const ATTR_MISSING: &str = "E0131";
    /// An attribute is given twice.
    pub const ATTR_TWICE: &str = "E0132";
    /// An attribute's value is missing, ambiguous or malformed.
    pub const ATTR_VALUE: &str = "E0133";
    /// Two values of one scope have the same name.
    pub const VALUE_TWICE: &str = "E0140";
    /// A value is used but nothing produces it.
    pub const VALUE_MISSING: &str = "E0141";
    /// Nodes depend on each other in a circle.
    pub const CYCLE: &str = "E0142";
    /// Two initializers of one name differ.
    pub const INITIALIZER_TWICE: &str = "E0143";
    /// A name is empty where one is needed.
    pub const EMPTY_NAME: &str = "E0144";
    /// A graph or function output is not produced.
    pub const OUTPUT_MISSING: &str = "E0145";
    /// Functions call each other in a circle.
    pub const FUNCTION_CYCLE: &str = "E0150";
    /// Expanding the functions gives too many nodes, or too deep ones.
    pub const FUNCTION_SIZE: &str = "E0151";
    /// A function is defined twice, or its definition contradicts itself.
    pub const FUNCTION_DEFINITION: &str = "E0152";
    /// A function is called with more inputs or outputs than it has.
    pub const FUNCTION_CALL: &str = "E0153";

    /// Warning: nodes were not in topological order.
    pub const W_ORDER: &str = "W0100";
    /// Warning: an initializer is repeated identically.
    pub const W_INITIALIZER: &str = "W0101";
    /// Warning: a subgraph reuses a name of an outer scope.
    pub const W_SHADOW: &str = "W0102";
    /// Warning: a call passes an attribute that the function does not declare.
    pub const W_ATTRIBUTE: &str = "W0103";
}

/// Why a model cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Stable code, one of [`code`].
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What the user can do about it.
    pub help: Option<String>,
    /// The node (or other named part of the model) concerned.
    pub node: Option<String>,
}

impl ReadError {
    /// An error without help or place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, node: None }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the node concerned, unless the error names one already.
    #[must_use]
    pub fn at(mut self, node: &str) -> Self {
        if self.node.is_none() && !node.is_empty() {
            self.node = Some(node.to_owned());
        }
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code)?;
        if let Some(node) = &self.node {
            write!(f, "{}: ", shown(node))?;
        }
        f.write_str(&escaped(&self.message))?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {}", escaped(help))?;
        }
        Ok(())
    }
}

impl std::error::Error for ReadError {}

/// Something odd in a model that was mended or can be lived with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable code, one of [`code`].
    pub code: &'static str,
    /// What is odd, and what was done about it.
    pub message: String,
    /// The node (or other named part of the model) concerned.
    pub node: Option<String>,
}

impl Warning {
    /// A warning about `node`; an empty name stands for none.
    pub fn new(code: &'static str, message: impl Into<String>, node: &str) -> Self {
        Self { code, message: message.into(), node: (!node.is_empty()).then(|| node.to_owned()) }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code)?;
        if let Some(node) = &self.node {
            write!(f, "{}: ", shown(node))?;
        }
        f.write_str(&escaped(&self.message))
    }
}

/// The longest part of a name that a message shows, in characters.
const SHOWN: usize = 160;

/// A name as messages show it: quoted, cut when very long, and with nothing in it that steers a terminal.
pub fn shown(name: &str) -> String {
    let mut out = String::from("`");
    for (i, c) in name.chars().enumerate() {
        if i == SHOWN {
            out.push('…');
            break;
        }
        push_escaped(&mut out, c);
    }
    out.push('`');
    out
}

/// Text with everything that steers a terminal escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Besides control characters: line separators, and marks that reorder or hide text.
        _ if c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}') =>
        {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", c.escape_unicode());
        }
        _ => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_steers_a_terminal() {
        let nasty = "a\u{1b}[31m\u{7}\n\u{202e}b\u{9b}c\u{200b}";
        let error = ReadError::new(code::WIRE, nasty).help(nasty).at(nasty);
        let warning = Warning::new(code::W_ORDER, nasty, nasty);
        for text in [error.to_string(), warning.to_string(), shown(nasty)] {
            let body = text.replace("\n  help: ", "");
            assert!(!body.chars().any(char::is_control), "{body:?}");
            assert!(!body.contains('\u{202e}') && !body.contains('\u{200b}'));
            assert!(body.contains("\\u{1b}[31m") && body.contains("\\n"));
        }
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shown(&"é".repeat(100_000)).chars().count(), SHOWN + 3);
        assert_eq!(shown("conv1/größe"), "`conv1/größe`");
    }

    #[test]
    fn the_innermost_place_wins() {
        let error = ReadError::new(code::ATTR_TYPE, "m").at("").at("inner").at("outer");
        assert_eq!(error.to_string(), "E0130: `inner`: m");
    }
}
