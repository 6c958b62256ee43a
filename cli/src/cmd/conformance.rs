//! `autoglm conformance`

mod cases;
mod ratchet;

use super::{Ctx, resolve_threads};
use crate::args::ConformanceArgs;
use crate::codes;
use crate::error::{CliError, Exit, escape};
use crate::files;
use crate::report::{Report, Table};
use cases::{Outcome, Verdict};
use serde_json::{Value, json};

pub(super) fn run(ctx: &mut Ctx<'_>, args: &ConformanceArgs) -> Result<Report, CliError> {
    let cases = cases::find(&args.dir, args.filter.as_deref())?;
    let jobs = resolve_threads(args.jobs);
    let outcomes = cases::run_all(ctx.backend, &cases, args.interp, jobs);
    let mut report = Report::new();
    report.set("jobs", jobs);
    show(&mut report, &outcomes);
    if let Some(path) = &args.docs {
        files::write(path, page(&outcomes).as_bytes())?;
    }
    let error = match &args.ratchet {
        Some(path) if args.bless => {
            files::write(path, ratchet::render(&outcomes).as_bytes())?;
            None
        }
        Some(path) => {
            let wanted = ratchet::parse(&files::read_text(path)?);
            let news = ratchet::newly_passing(&wanted, &outcomes);
            if !news.is_empty() {
                ctx.note(&format!("{} cases pass that are not in {}", news.len(), path.display()))?;
            }
            ratchet::broken(&wanted, &outcomes, args.filter.as_deref())
        }
        None => {
            let bad = outcomes.iter().filter(|o| o.verdict != Verdict::Pass).collect::<Vec<_>>();
            (!bad.is_empty()).then(|| {
                let message = format!("{} of {} cases do not pass", bad.len(), outcomes.len());
                CliError::new(codes::RATCHET, Exit::Accuracy, message)
            })
        }
    };
    if let Some(error) = error {
        report.fail(error);
    }
    Ok(report)
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
    let entry = |o: &Outcome| json!({ "name": o.name, "verdict": o.verdict.name(), "why": o.why });
    report.set("cases", outcomes.iter().map(entry).collect::<Vec<_>>());
    if count(outcomes, Verdict::Pass) < outcomes.len() {
        report.text(&format!("{}\n", table.render()));
    }
    report.text(&format!("{} cases: {}\n", outcomes.len(), totals.join(", ")));
}

/// The results as a Markdown page.
fn page(outcomes: &[Outcome]) -> String {
    let mut text = String::from("# ONNX conformance\n\n| result | cases |\n|---|---|\n");
    for verdict in Verdict::ALL {
        text.push_str(&format!("| {} | {} |\n", verdict.name(), count(outcomes, verdict)));
    }
    text.push_str("\n| case that does not pass | result | reason |\n|---|---|---|\n");
    let cell = |s: &str| escape(s).replace('|', "\\|");
    for outcome in outcomes.iter().filter(|o| o.verdict != Verdict::Pass) {
        let row =
            format!("| {} | {} | {} |\n", cell(&outcome.name), outcome.verdict.name(), cell(&outcome.why));
        text.push_str(&row);
    }
    text
}
