//! The protocol between a benchmark driver and `autoglm bench --worker`: one line in, one line out.
//!
//! After loading, the worker runs once and prints `{"load_s":..,"first_s":..,"rss_peak_kb":..}`. Then it answers each
//! line: `N` runs N times and prints a JSON array of N durations in nanoseconds, `w DIR` writes the outputs of the
//! last run and prints `{}`, `q` ends it. Between lines it waits in a read and uses no processor time.

use crate::codes;
use crate::error::{CliError, Exit};
use crate::peak::rss_peak_kb;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// Most runs that one line may ask for: the answer has to fit in memory.
const MAX_RUNS: usize = 100_000_000;

/// Something that can be run again and again over the same inputs.
pub trait Runner {
    /// One run, from inputs in host memory to all outputs in host memory.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn run(&mut self) -> Result<(), CliError>;

    /// Writes the outputs of the last run into a folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn write_outputs(&mut self, dir: &Path) -> Result<(), CliError>;
}

/// Runs once, reports, and serves lines until `q` or the end of the input.
///
/// # Errors
/// A failed run, an unknown command, or a stream that cannot be read or written.
pub fn serve(
    runner: &mut dyn Runner,
    load_s: f64,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), CliError> {
    let start = Instant::now();
    runner.run()?;
    let first_s = start.elapsed().as_secs_f64();
    answer(output, &json!({ "load_s": load_s, "first_s": first_s, "rss_peak_kb": rss_peak_kb() }))?;
    let mut line = String::new();
    loop {
        line.clear();
        let read = input.read_line(&mut line);
        if read
            .map_err(|e| CliError::new(codes::FILE, Exit::Invalid, format!("cannot read a command: {e}")))?
            == 0
        {
            return Ok(());
        }
        match line.trim_end_matches(['\r', '\n']) {
            "" => {}
            "q" => return Ok(()),
            command => answer(output, &execute(runner, command)?)?,
        }
    }
}

/// Carries out one command and gives the line to print.
fn execute(runner: &mut dyn Runner, command: &str) -> Result<Value, CliError> {
    if let Some(dir) = command.strip_prefix("w ") {
        runner.write_outputs(Path::new(dir))?;
        return Ok(json!({}));
    }
    let runs = command.parse::<usize>().ok().filter(|&n| n <= MAX_RUNS).ok_or_else(|| {
        CliError::usage(format!("unknown worker command \"{command}\""))
            .help(format!("a number of runs up to {MAX_RUNS}, \"w DIR\" or \"q\""))
    })?;
    let mut durations = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        runner.run()?;
        durations.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(json!(durations))
}

/// Prints one line and flushes it.
fn answer(output: &mut dyn Write, value: &Value) -> Result<(), CliError> {
    writeln!(output, "{value}").and_then(|()| output.flush()).map_err(|e| CliError::stdout(&e))
}
