//! `autoglm opt`

use super::Ctx;
use crate::args::OptArgs;
use crate::error::CliError;
use crate::files;
use crate::report::Report;

pub(super) fn run(ctx: &mut Ctx<'_>, args: &OptArgs) -> Result<Report, CliError> {
    let text = files::read_text(&args.file)?;
    let result = ctx.backend.opt(&text, &args.passes, args.rule.as_deref())?;
    let mut report = Report::new();
    if let Some(output) = &args.output {
        files::write(output, result.as_bytes())?;
        report.set("path", output.display().to_string());
    } else {
        report.set("ir", result.as_str());
        report.text(&result);
    }
    Ok(report)
}
