//! What can go wrong, how it is shown, and the exit status it maps to.

use crate::codes;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The exit statuses of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// A bug in autoglm.
    Bug = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A model or an input cannot be read.
    Invalid = 3,
    /// An operator, type or shape that is not supported.
    Unsupported = 4,
    /// Results differ by more than allowed.
    Accuracy = 5,
    /// Too slow.
    Performance = 6,
    /// A limit on size, memory or time was reached.
    Budget = 7,
    /// The engine was built for another machine.
    Target = 8,
    /// A hash does not match.
    Integrity = 9,
    /// Two builds differ.
    Reproducible = 10,
    /// Stopped by a time limit.
    Timeout = 124,
    /// Stopped by the user.
    Interrupted = 130,
}

impl Exit {
    /// Every status, in ascending order.
    pub const ALL: [Exit; 13] = [
        Exit::Ok,
        Exit::Bug,
        Exit::Usage,
        Exit::Invalid,
        Exit::Unsupported,
        Exit::Accuracy,
        Exit::Performance,
        Exit::Budget,
        Exit::Target,
        Exit::Integrity,
        Exit::Reproducible,
        Exit::Timeout,
        Exit::Interrupted,
    ];

    /// The number the process exits with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A few words for the help text.
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Bug => "internal error (a bug)",
            Exit::Usage => "wrong command line",
            Exit::Invalid => "invalid model or unreadable input",
            Exit::Unsupported => "unsupported operator, type or shape",
            Exit::Accuracy => "accuracy gate failed",
            Exit::Performance => "performance gate failed",
            Exit::Budget => "limit on size, memory or time reached",
            Exit::Target => "engine is for another machine",
            Exit::Integrity => "hash mismatch",
            Exit::Reproducible => "not reproducible",
            Exit::Timeout => "timed out",
            Exit::Interrupted => "interrupted",
        }
    }

    /// The block that ends every help text.
    pub fn help_text() -> String {
        let mut text = String::from("Exit codes:\n");
        for exit in Exit::ALL {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
        }
        text
    }
}

/// The code of an error that ends the program without a word: whoever read our output has gone.
const QUIET: &str = "pipe";

/// An error with everything that the user is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// Stable identifier such as `E0204`.
    pub code: &'static str,
    /// Exit status.
    pub exit: Exit,
    /// One line: what is wrong.
    pub message: String,
    /// One line: what to do about it.
    pub help: Option<String>,
    /// Further lines: where it happened, other problems found.
    pub details: Vec<String>,
}

impl CliError {
    /// An error without help or details.
    pub fn new(code: &'static str, exit: Exit, message: impl Into<String>) -> CliError {
        CliError { code, exit, message: message.into(), help: None, details: Vec::new() }
    }

    /// A wrong command line (`E0902`).
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(codes::USAGE, Exit::Usage, message)
    }

    /// A file that cannot be read or written (`E0903`).
    pub fn io(path: &Path, what: &str, error: &io::Error) -> CliError {
        CliError::new(codes::FILE, Exit::Invalid, format!("cannot {what} {}: {error}", path.display()))
    }

    /// A failed write to stdout or stderr; a closed pipe ends the program silently.
    pub fn stdout(error: &io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return CliError::new(QUIET, Exit::Ok, "");
        }
        CliError::new(codes::FILE, Exit::Invalid, format!("cannot write the result: {error}"))
    }

    /// Adds the line that says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> CliError {
        self.help = Some(help.into());
        self
    }

    /// Adds a line of detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> CliError {
        self.details.push(detail.into());
        self
    }

    /// Puts `context: ` before the message, for example the file it is about.
    #[must_use]
    pub fn within(mut self, context: &str) -> CliError {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Joins several errors into one that shows all of them: the first leads, the others are details.
    pub fn all(errors: Vec<CliError>) -> Option<CliError> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        for other in errors {
            first.details.push(format!("also: {}", other.message));
            first.details.extend(other.help.map(|help| format!("      help: {help}")));
        }
        Some(first)
    }

    /// Nothing is to be printed: the reader of our output closed it.
    pub fn is_quiet(&self) -> bool {
        self.code == QUIET
    }

    /// The text for stderr. The reason also stands on the last line, where scripts look for it.
    pub fn render(&self, colour: bool) -> String {
        let (red, bold, reset) = if colour { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let message = escape(&self.message);
        let mut text = format!("{red}error[{}]{reset}{bold}: {message}{reset}\n", self.code);
        for detail in &self.details {
            text.push_str(&format!("  | {}\n", escape(detail)));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("  = help: {}\n", escape(help)));
        }
        if self.help.is_some() || !self.details.is_empty() {
            text.push_str(&format!("autoglm: {}: {message}\n", self.code));
        }
        text
    }

    /// The entry for `diagnostics` of the report.
    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "severity": "error",
            "message": self.message,
            "help": self.help,
            "details": self.details,
        })
    }
}

/// Replaces control characters, so that a name read from a file cannot steer the terminal or break a line.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional overrides are not control characters to Rust, but they reorder what the user reads.
        let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line() {
        let error = CliError::new("E0204", Exit::Unsupported, "MatMul: inner dimensions differ (768 vs 512)")
            .help("check the export")
            .detail("node /fc");
        let text = error.render(false);
        assert_eq!(
            text,
            "error[E0204]: MatMul: inner dimensions differ (768 vs 512)\n  | node /fc\n  = help: check the export\n\
             autoglm: E0204: MatMul: inner dimensions differ (768 vs 512)\n"
        );
        let bare = CliError::usage("no").render(false);
        assert_eq!(bare, "error[E0902]: no\n");
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = CliError::usage("a\x1b[31m\nb\u{202e}é").render(false);
        assert_eq!(text, "error[E0902]: a\\u{1b}[31m\\nb\\u{202e}é\n");
    }

    #[test]
    fn a_closed_pipe_is_quiet() {
        assert!(CliError::stdout(&io::Error::from(io::ErrorKind::BrokenPipe)).is_quiet());
        assert!(!CliError::stdout(&io::Error::from(io::ErrorKind::StorageFull)).is_quiet());
    }

    #[test]
    fn several_errors_become_one() {
        let all = CliError::all(vec![CliError::usage("a"), CliError::usage("b").help("h")]);
        assert_eq!(all.map(|e| e.details), Some(vec!["also: b".to_string(), "      help: h".to_string()]));
        assert_eq!(CliError::all(Vec::new()), None);
    }
}
