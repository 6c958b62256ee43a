//! The commands. Each takes its arguments and gives a report.

mod bench;
mod check;
mod compile;
mod compression;
mod conformance;
mod describe;
mod inspect;
mod opt;
mod optimiser;
mod run;
mod verify;

use crate::args::{Command, EngineArgs};
use crate::backend::{Backend, Engine, Execution, OpenOptions, Port, Signature};
use crate::error::{CliError, escape};
use crate::feed::describe as type_of;
use crate::report::Report;
use crate::tensor::{Array, elem_name};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// What a command works with.
pub struct Ctx<'a> {
    /// How much to say on stderr.
    pub verbose: u8,
    /// Whether a person watches stderr, so that work in progress may be shown there.
    pub watched: bool,
    /// Commands of the worker protocol.
    pub stdin: &'a mut dyn BufRead,
    /// Answers of the worker protocol; everything else goes into the report.
    pub stdout: &'a mut dyn Write,
    /// Notes and warnings.
    pub stderr: &'a mut dyn Write,
    /// The compiler and the runtime.
    pub backend: &'a dyn Backend,
    /// This program, to start it again.
    pub program: Option<PathBuf>,
}

impl Ctx<'_> {
    /// Says something on stderr.
    ///
    /// # Errors
    /// stderr is closed.
    pub fn note(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.stderr, "{}", escape(text)).map_err(|e| CliError::stdout(&e))
    }

    /// Says something on stderr if the user asked for more.
    ///
    /// # Errors
    /// stderr is closed.
    pub fn detail(&mut self, text: &str) -> Result<(), CliError> {
        if self.verbose > 0 { self.note(text) } else { Ok(()) }
    }

    /// Shows what is being done until it is over, where a person watches.
    ///
    /// # Errors
    /// stderr is closed, or what the work itself gives.
    pub(crate) fn busy<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        if !self.watched {
            return work(self);
        }
        self.show(&format!("{} ...", escape(what)))?;
        let result = work(self);
        // To the start of the line and erase it (ECMA-48, EL).
        self.show("\r\x1b[K")?;
        result
    }

    /// Writes to stderr without ending the line.
    fn show(&mut self, text: &str) -> Result<(), CliError> {
        write!(self.stderr, "{text}").and_then(|()| self.stderr.flush()).map_err(|e| CliError::stdout(&e))
    }

    /// Opens an engine or model as the options say.
    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Box<dyn Engine>, CliError> {
        self.backend.open(path, options)
    }
}

/// Runs a command. `None`: it has printed its result itself.
///
/// # Errors
/// Whatever stops it.
pub fn dispatch(ctx: &mut Ctx<'_>, command: &Command) -> Result<Option<Report>, CliError> {
    match command {
        Command::Compile(args) => compile::run(ctx, args).map(Some),
        Command::Run(args) => run::run(ctx, args).map(Some),
        Command::Bench(args) => bench::run(ctx, args),
        Command::Inspect(args) => inspect::run(ctx, args).map(Some),
        Command::Verify(args) => verify::run(ctx, args).map(Some),
        Command::Check(args) => check::run(ctx, args).map(Some),
        Command::Opt(args) => opt::run(ctx, args).map(Some),
        Command::Conformance(args) => conformance::run(ctx, args).map(Some),
    }
}

/// `n`, or one for each core that this process may use.
fn resolve_threads(n: usize) -> usize {
    if n > 0 { n } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

fn open_options(args: &EngineArgs, check_weights: bool) -> OpenOptions {
    OpenOptions {
        threads: resolve_threads(args.threads),
        isa: args.isa,
        jit: !args.no_jit,
        mmap: !args.no_mmap,
        check_weights,
        interp: false,
    }
}

/// How the loops of the last run were run: `loops` of the report.
fn loops_json(engine: &dyn Engine) -> Option<Value> {
    engine.loops().map(|loops| {
        json!({
            "compiled": loops.compiled,
            "interpreted": loops.interpreted,
            "functions": loops.functions,
            "code_bytes": loops.code_bytes,
        })
    })
}

/// How the engine runs, for the report.
fn execution_json(engine: &dyn Engine) -> Value {
    let json = |e: Execution| json!({ "threads": e.threads, "isa": e.isa, "mapped": e.mapped });
    engine.execution().map_or(Value::Null, json)
}

/// The entry of an input or output in the report.
fn port_json(port: &Port) -> Value {
    json!({ "name": port.name, "dtype": elem_name(port.elem), "type": type_of(port) })
}

/// `inputs` and `outputs` of the report.
fn signature_json(signature: &Signature) -> Value {
    let list = |ports: &[Port]| ports.iter().map(port_json).collect::<Vec<_>>();
    json!({ "inputs": list(&signature.inputs), "outputs": list(&signature.outputs) })
}

/// The outputs of the last run, by name.
fn named_outputs(engine: &mut dyn Engine) -> Result<Vec<(String, Array)>, CliError> {
    let arrays = engine.outputs()?;
    Ok(engine.signature().outputs.iter().map(|port| port.name.clone()).zip(arrays).collect())
}

/// Counts by name, as an object.
fn counts_json(counts: &[(String, u64)]) -> Value {
    Value::Object(counts.iter().map(|(name, n)| (name.clone(), json!(n))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::Linked;

    /// What stderr holds after a piece of work.
    fn shown(watched: bool) -> String {
        let (mut stdin, mut stdout, mut stderr) = (std::io::empty(), Vec::new(), Vec::new());
        let mut ctx = Ctx {
            verbose: 0,
            watched,
            stdin: &mut stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
            backend: &Linked,
            program: None,
        };
        assert_eq!(ctx.busy("reading a\tb", |_| Ok(7)).unwrap(), 7);
        assert!(stdout.is_empty());
        String::from_utf8(stderr).unwrap()
    }

    #[test]
    fn progress_is_shown_at_a_terminal_only_and_leaves_nothing() {
        assert_eq!(shown(false), "");
        assert_eq!(shown(true), format!("reading {} ...\r\x1b[K", crate::error::escape("a\tb")));
    }
}
