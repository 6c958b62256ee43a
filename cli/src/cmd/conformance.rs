//! `autoglm conformance`

mod cases;
mod judge;
mod page;
mod ratchet;

use super::{Ctx, resolve_threads};
use crate::args::ConformanceArgs;
use crate::codes;
use crate::error::{CliError, Exit};
use crate::files;
use crate::report::{Report, Table};
use judge::{How, Outcome, Verdict};
use ratchet::{Ratchet, Scope, Way};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn run(ctx: &mut Ctx<'_>, args: &ConformanceArgs) -> Result<Report, CliError> {
    let cases = cases::find(&args.dir, args.filter.as_deref())?;
    let jobs = resolve_threads(args.jobs);
    let outcomes = judge::run_all(ctx.backend, &cases, How::new(args), jobs);
    let mut report = Report::new();
    report.set("jobs", jobs);
    report.set("isa", format!("{:?}", args.isa).to_lowercase());
    show(&mut report, &outcomes);
    let error = match &args.ratchet {
        Some(path) => hold(path, &outcomes, args)?,
        None => failed(&outcomes, &|o| o.verdict != Verdict::Pass, "do not pass"),
    };
    if let Some(error) = error {
        report.fail(error);
    }
    Ok(report)
}

/// Compares the outcomes with the list, or writes the list; then writes the page.
fn hold(path: &Path, outcomes: &[Outcome], args: &ConformanceArgs) -> Result<Option<CliError>, CliError> {
    let bad = |o: &Outcome| matches!(o.verdict, Verdict::Fail | Verdict::Error);
    if let Some(error) = failed(outcomes, &bad, "are wrong") {
        return Ok(Some(error));
    }
    let way = if args.interp { Way::Interpreter } else { Way::Engine };
    let mut list = match args.bless && !path.exists() {
        true => Ratchet::default(),
        false => Ratchet::parse(&files::read_text(path)?, path)?,
    };
    let mut error = None;
    if args.bless {
        list = list.blessed(outcomes, way);
        files::write(path, list.render().as_bytes())?;
    } else {
        let scope = Scope { filter: args.filter.as_deref(), subset: args.subset };
        let lines = list.differences(outcomes, way, &scope);
        error = lines.first().map(|first| {
            let message =
                format!("{} cases differ from {}; the first is {first}", lines.len(), path.display());
            CliError::new(codes::RATCHET, Exit::Accuracy, message)
                .help("if that is right, record it with --bless")
        });
        error = error.map(|e| CliError { details: lines, ..e });
    }
    if let Some(docs) = &args.docs {
        files::write(docs, page::render(&list).as_bytes())?;
    }
    Ok(error)
}

/// The error for the outcomes that are `bad`.
fn failed(outcomes: &[Outcome], bad: &dyn Fn(&Outcome) -> bool, what: &str) -> Option<CliError> {
    let details: Vec<String> =
        outcomes.iter().filter(|o| bad(o)).map(|o| format!("{}: {}", o.name, o.why)).collect();
    let message = format!("{} of {} cases {what}", details.len(), outcomes.len());
    (!details.is_empty())
        .then(|| CliError { details, ..CliError::new(codes::RATCHET, Exit::Accuracy, message) })
}

fn count(outcomes: &[Outcome], verdict: Verdict) -> usize {
    outcomes.iter().filter(|o| o.verdict == verdict).count()
}

fn show(report: &mut Report, outcomes: &[Outcome]) {
    let mut table = Table::new(&["case", "", "why"]);
    for outcome in outcomes.iter().filter(|o| o.verdict != Verdict::Pass) {
        table.row([&outcome.name, outcome.verdict.name(), &outcome.why]);
    }
    let mut counts = serde_json::Map::new();
    let mut totals = Vec::new();
    for verdict in Verdict::ALL {
        let n = count(outcomes, verdict);
        counts.insert(verdict.name().to_string(), json!(n));
        totals.push(format!("{n} {}", verdict.name()));
    }
    report.set("counts", Value::Object(counts));
    let entry = |o: &Outcome| json!({ "name": o.name, "operator": o.operator, "verdict": o.verdict.name(), "why": o.why });
    report.set("cases", outcomes.iter().map(entry).collect::<Vec<_>>());
    if count(outcomes, Verdict::Pass) < outcomes.len() {
        report.text(&format!("{}\n", table.render()));
    }
    report.text(&format!("{} cases: {}\n", outcomes.len(), totals.join(", ")));
}
