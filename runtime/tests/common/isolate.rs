//! Runs numbered cases in a process of their own, so that a case that crashes, hangs or takes too much memory is named.
//!
//! `HOSTILE_CASE=17 cargo test -p PACKAGE --test hostile NAME` runs one case of one test in the test's own process.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Set for the process that runs the cases: where to note the one at hand.
const NOTE: &str = "HOSTILE_NOTE";
/// Set by people: the only case to run.
const ONLY: &str = "HOSTILE_CASE";
/// A case that takes longer hangs. Cases take milliseconds, but machines may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bounds of a test.
pub struct Bounds {
    /// How many cases there are; case `n` is everything that `case` makes of the number.
    pub cases: u64,
    /// Most bytes of address space of the process that runs them, where the system can bound it.
    pub address_space: u64,
}

/// Runs all cases of the test `name` (as the test harness names it). `done` sees the process through at the end, where
/// tallies are checked.
pub fn isolated(name: &str, bounds: &Bounds, mut case: impl FnMut(u64), done: impl FnOnce()) {
    if let Some(only) = std::env::var(ONLY).ok().and_then(|n| n.parse().ok()) {
        return case(only);
    }
    if let Some(note) = std::env::var_os(NOTE) {
        run_all(Path::new(&note), bounds.cases, &mut case);
        return done();
    }
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "hostile-{}-{}",
        std::process::id(),
        name.replace(':', "_")
    ));
    std::fs::write(&note, "none").unwrap();
    let output = spawn(name, bounds, &note);
    let at = std::fs::read_to_string(&note).unwrap_or_default();
    let _ = std::fs::remove_file(&note);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{name}: case {at} ended with {}; {ONLY} set to its number runs it alone\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("1 passed"), "no test is called {name}");
}

fn spawn(name: &str, bounds: &Bounds, note: &Path) -> Output {
    let this = std::env::current_exe().unwrap();
    let arguments = [name, "--exact", "--nocapture", "--test-threads=1"];
    let mut command = if cfg!(unix) {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", bounds.address_space >> 10);
        shell.arg("-c").arg(script).arg(this);
        shell
    } else {
        Command::new(this)
    };
    command.args(arguments).env(NOTE, note).env("RUST_BACKTRACE", "0").output().unwrap()
}

fn run_all(note: &Path, cases: u64, case: &mut impl FnMut(u64)) {
    let now: &'static Mutex<(u64, Instant)> = Box::leak(Box::new(Mutex::new((0, Instant::now()))));
    let hangs = note.to_path_buf();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let (n, since) = *now.lock().unwrap();
            if since.elapsed() > PATIENCE {
                let _ = std::fs::write(&hangs, format!("{n} (still running after {PATIENCE:?})"));
                std::process::abort();
            }
        }
    });
    for n in 0..cases {
        *now.lock().unwrap() = (n, Instant::now());
        std::fs::write(note, n.to_string()).unwrap();
        case(n);
    }
}
