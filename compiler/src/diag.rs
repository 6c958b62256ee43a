//! What the compiler tells its user: errors and warnings with a stable code, a place and one line of help.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The compile stops.
    Error,
    /// The compile goes on.
    Warning,
}

/// What kind of problem it is, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The input cannot be read or is not a valid model.
    Invalid,
    /// The model is valid, but uses something that is not supported.
    Unsupported,
    /// A limit on time or size is exceeded.
    Budget,
    /// A defect of the compiler.
    Internal,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, such as `E0130`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the numbers, in one line.
    pub title: String,
    /// The ONNX node (or other named part of the model) concerned.
    pub node: Option<String>,
    /// Facts that help to see why: shapes of the inputs and where they come from.
    pub notes: Vec<String>,
    /// What the user can do about it, in one line.
    pub help: Option<String>,
    /// Kind of problem.
    pub class: Class,
}

impl Diagnostic {
    /// An error without place, notes and help.
    pub fn error(code: &'static str, class: Class, title: impl Into<String>) -> Diagnostic {
        let title = title.into();
        Diagnostic {
            code,
            severity: Severity::Error,
            title,
            node: None,
            notes: Vec::new(),
            help: None,
            class,
        }
    }

    /// A warning without place, notes and help.
    pub fn warning(code: &'static str, title: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, Class::Invalid, title) }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }

    /// Adds the node concerned, unless one is named already.
    #[must_use]
    pub fn at(mut self, node: &str) -> Diagnostic {
        if self.node.is_none() && !node.is_empty() {
            self.node = Some(node.to_owned());
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}[{}]: {}", self.code, Plain(&self.title))?;
        if let Some(node) = &self.node {
            write!(f, "\n  --> node `{}`", Plain(node))?;
        }
        for note in &self.notes {
            write!(f, "\n   = {}", Plain(note))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n   = help: {}", Plain(help)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Text with everything that steers a terminal or hides text escaped.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let hides = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
            if c.is_control() || hides {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_every_part_in_order() {
        let d = Diagnostic::error("E0204", Class::Invalid, "MatMul: inner dimensions differ (768 vs 512)")
            .at("/fc/MatMul")
            .note("A: f32[1,768]")
            .help("check the exporter");
        let text = "error[E0204]: MatMul: inner dimensions differ (768 vs 512)\n  --> node `/fc/MatMul`\n   = A: \
                    f32[1,768]\n   = help: check the exporter";
        assert_eq!(d.to_string(), text);
    }

    #[test]
    fn control_characters_are_escaped() {
        let d = Diagnostic::warning("W0001", "a\u{1b}[31m\n\u{202e}b").at("n\u{7}");
        let text = d.to_string();
        assert_eq!(text, "warning[W0001]: a\\u{1b}[31m\\n\\u{202e}b\n  --> node `n\\u{7}`");
    }
}
