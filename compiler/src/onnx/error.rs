//! What can be wrong with a model file, as errors and warnings that can be shown to anyone.

use std::fmt::{self, Write as _};

pub use crate::codes as code;

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
        assert_eq!(error.to_string(), "E0134: `inner`: m");
    }
}
