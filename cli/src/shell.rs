//! From the process's arguments to its exit status: the only module that knows of terminals and panics.

use crate::args::{Cli, Color, GlobalArgs};
use crate::backend::Backend;
use crate::cmd::{self, Ctx};
use crate::codes;
use crate::error::{CliError, Exit, escape};
use crate::report::{Report, error_json};
use clap::{ColorChoice, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Runs the command line `args` (the first is the program's name).
pub fn main(args: Vec<OsString>, backend: &dyn Backend) -> ExitCode {
    let colour = ask_colour(&args);
    let choice = match colour {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    let wants_json = args.iter().any(|arg| arg == "--json");
    let matches = Cli::command().color(choice).try_get_matches_from(args);
    let exit = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => run(&cli, backend),
        Err(error) => usage(&error, wants_json),
    };
    ExitCode::from(exit.code())
}

/// The value of `--color` before the arguments are parsed, so that it also holds for errors in them.
fn ask_colour(args: &[OsString]) -> Color {
    let mut found = None;
    let mut value_follows = false;
    for arg in args.iter().filter_map(|arg| arg.to_str()) {
        let value = if value_follows { Some(arg) } else { arg.strip_prefix("--color=") };
        found = value.or(found);
        value_follows = arg == "--color";
    }
    match found {
        Some("always") => Color::Always,
        Some("never") => Color::Never,
        _ => Color::Auto,
    }
}

/// Whether stderr gets colours.
fn colours(global: &GlobalArgs) -> bool {
    wants_colour(global.color, |name| std::env::var_os(name), io::stderr().is_terminal())
}

fn wants_colour(color: Color, variable: impl Fn(&str) -> Option<OsString>, terminal: bool) -> bool {
    let no_color = || variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = || variable("TERM").is_some_and(|term| term == "dumb");
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !no_color() && !dumb(),
    }
}

/// Help, version and wrong command lines.
fn usage(error: &clap::Error, wants_json: bool) -> Exit {
    // Whoever closed our stdout or stderr does not want this text.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Ok;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let reason = first.strip_prefix("error: ").unwrap_or(first);
    let error = CliError::usage(reason);
    if wants_json {
        let _ = writeln!(io::stdout(), "{}", error_json("", &error));
    }
    let _ = writeln!(io::stderr(), "autoglm: {}: {}", error.code, escape(reason));
    Exit::Usage
}

fn run(cli: &Cli, backend: &dyn Backend) -> Exit {
    let mut stdin = io::stdin().lock();
    let mut stdout = BufWriter::new(io::stdout().lock());
    let mut stderr = io::stderr();
    let result = {
        let mut ctx = Ctx {
            verbose: cli.global.verbose,
            watched: io::stderr().is_terminal(),
            stdin: &mut stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
            backend,
            program: std::env::current_exe().ok(),
        };
        catch_unwind(AssertUnwindSafe(|| cmd::dispatch(&mut ctx, &cli.command)))
            .unwrap_or_else(|_| Err(bug()))
    };
    let error = match result {
        Ok(None) => None,
        Ok(Some(report)) => {
            let printed = print(&mut stdout, cli, &report);
            printed.err().or_else(|| report.failure().cloned())
        }
        Err(error) => {
            if cli.global.json && !error.is_quiet() {
                // The error itself goes to stderr in any case.
                let _ = writeln!(stdout, "{}", error_json(cli.command.name(), &error));
            }
            Some(error)
        }
    };
    let error = error.or_else(|| stdout.flush().err().map(|e| CliError::stdout(&e)));
    match error {
        Some(error) if !error.is_quiet() => {
            let _ = stdout.flush();
            let _ = stderr.write_all(error.render(colours(&cli.global)).as_bytes());
            error.exit
        }
        _ => Exit::Ok,
    }
}

fn print(stdout: &mut dyn Write, cli: &Cli, report: &Report) -> Result<(), CliError> {
    let written = if cli.global.json {
        writeln!(stdout, "{}", report.to_json(cli.command.name()))
    } else {
        stdout.write_all(report.as_text().as_bytes())
    };
    written.and_then(|()| stdout.flush()).map_err(|e| CliError::stdout(&e))
}

/// What a panic becomes; its message is already on stderr.
fn bug() -> CliError {
    CliError::new(codes::BUG, Exit::Bug, "internal error: autoglm panicked, see above")
        .help("this is a bug; please report it with the command line and the model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let with = |color, name: &'static str, value: &'static str, terminal| {
            wants_colour(color, |asked| (asked == name).then(|| value.into()), terminal)
        };
        assert!(with(Color::Auto, "", "", true) && !with(Color::Auto, "", "", false));
        assert!(!with(Color::Auto, "NO_COLOR", "1", true) && with(Color::Auto, "NO_COLOR", "", true));
        assert!(!with(Color::Auto, "TERM", "dumb", true) && with(Color::Auto, "TERM", "xterm", true));
        assert!(with(Color::Always, "NO_COLOR", "1", false) && !with(Color::Never, "", "", true));
    }

    #[test]
    fn a_panic_is_a_bug() {
        assert_eq!((bug().code, bug().exit), ("E0900", Exit::Bug));
    }
}
