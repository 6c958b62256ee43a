//! `autoglm check`

use super::Ctx;
use crate::args::CheckArgs;
use crate::backend::CompileRequest;
use crate::error::{CliError, Exit};
use crate::report::{Report, Table};

pub(super) fn run(ctx: &mut Ctx<'_>, args: &CheckArgs) -> Result<Report, CliError> {
    let request = CompileRequest {
        limits: args.limits.clone(),
        allow_external_links: args.allow_external_links,
        ..CompileRequest::of_model(&args.model)
    };
    let problems = ctx.backend.check(&request)?;
    let mut report = Report::new();
    report.set("problems", problems.iter().map(CliError::to_json).collect::<Vec<_>>());
    if problems.is_empty() {
        report.text("no problems found\n");
        return Ok(report);
    }
    let mut table = Table::new(&["code", "problem"]);
    for problem in &problems {
        table.row([problem.code, &problem.message]);
    }
    report.text(&table.render());
    // What is invalid outranks what is merely unsupported.
    let worst = problems.iter().find(|p| p.exit != Exit::Unsupported).unwrap_or(&problems[0]);
    let more = if problems.len() > 1 { format!(" (and {} more)", problems.len() - 1) } else { String::new() };
    report.fail(CliError { message: format!("{}{more}", worst.message), ..worst.clone() });
    Ok(report)
}
