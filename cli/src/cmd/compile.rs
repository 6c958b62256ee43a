//! `autoglm compile`

use super::{Ctx, compression, counts_json, describe, optimiser};
use crate::args::{CompileArgs, Isa, LowRank, Objective, Sparsity};
use crate::backend::{CompileRequest, Compiled, CompressRequest, KeepIr, OpenOptions};
use crate::codes;
use crate::error::{CliError, Exit, escape};
use crate::files;
use crate::report::{Report, Table};
use crate::spec::{Costs, Emit};
use crate::stats::{format_bytes, format_duration};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) fn run(ctx: &mut Ctx<'_>, args: &CompileArgs) -> Result<Report, CliError> {
    let what = format!("compiling {}", args.model.display());
    let compiled = ctx.busy(&what, |ctx| ctx.backend.compile(&request(args)))?;
    for warning in &compiled.warnings {
        ctx.note(&format!("warning: {warning}"))?;
    }
    let mut report = Report::new();
    report.set("warnings", compiled.warnings.clone());
    if let Some(dir) = &args.dump_phases {
        dump(dir, &compiled)?;
    }
    emit(&mut report, args, &compiled)?;
    show_phases(ctx, &mut report, &compiled)?;
    if let Some(optimised) = &compiled.optimised {
        optimiser::show(&mut report, optimised, args.explain_fusion, args.emit.is_none());
    }
    if let Some(compression) = &compiled.compression {
        let times = compression::time(ctx, &request(args), compression)?;
        compression::show(&mut report, compression, times.as_ref(), args.emit.is_none());
    }
    if args.compress.sparsity == Sparsity::Check {
        compression::show_zeros(&mut report, &compiled.zeros, args.emit.is_none());
    }
    let Some(output) = &args.output else { return Ok(report) };
    let bytes = std::fs::metadata(output).map_err(|e| CliError::io(output, "read", &e))?.len();
    report.set("engine", json!({ "path": output.display().to_string(), "bytes": bytes }));
    if args.check_reproducible {
        let equal = again(ctx, args, output)? == files::read(output)?;
        report.set("reproducible", json!({ "checked": true, "equal": equal }));
        if !equal {
            report.fail(CliError::new(
                codes::REPRODUCIBLE,
                Exit::Reproducible,
                "a second compilation gave other bytes",
            ));
            return Ok(report);
        }
    }
    let isa = Isa::Auto;
    let options =
        OpenOptions { threads: 1, isa, jit: false, mmap: true, check_weights: false, interp: false };
    let mut engine = ctx.open(output, &options)?;
    let planned = describe::plan(engine.as_mut(), &[])?;
    let description = engine.describe();
    let mut described = Report::new();
    describe::io(&mut described, engine.as_ref(), &description);
    described.text("\n");
    describe::memory(&mut described, &description, &planned);
    report.take_fields(&described);
    if args.emit.is_none() {
        show_ops(&mut report, &compiled);
        report.text(&format!("{}\n", described.as_text()));
        let path = escape(&output.display().to_string());
        report.text(&format!("{path}: {}\n", format_bytes(bytes)));
    }
    let held_out = compiled.compression.as_ref().and_then(|it| it.held_out.as_ref());
    let failed = held_out.into_iter().flat_map(|it| &it.failures);
    let failed =
        failed.map(|why| CliError::new(codes::HELD_OUT, Exit::Accuracy, format!("on held-out data {why}")));
    if let Some(error) = CliError::all(failed.collect()) {
        report.fail(error);
    }
    Ok(report)
}

/// What the backend is asked for.
fn request(args: &CompileArgs) -> CompileRequest {
    let keep_ir = match (&args.dump_phases, &args.emit) {
        (Some(_), _) => KeepIr::All,
        (None, Some(Emit::Ir(phase))) => KeepIr::Phase(phase.clone()),
        (None, _) => KeepIr::No,
    };
    let egraph = match &args.emit {
        Some(Emit::EGraph(format)) => Some(*format),
        _ => None,
    };
    CompileRequest {
        model: args.model.clone(),
        dims: args.dims.clone(),
        no_opt: args.no_opt,
        limits: args.limits.clone(),
        allow_external_links: args.allow_external_links,
        strict: args.strict,
        compact: args.compact,
        costs: args.costs.clone(),
        compress: compress(args),
        sparse: args.compress.sparsity != Sparsity::Off,
        keep_ir,
        egraph,
        output: args.output.clone(),
    }
}

/// How far the engine may be from the model, if it may.
fn compress(args: &CompileArgs) -> Option<CompressRequest> {
    let wanted = &args.compress;
    Some(CompressRequest {
        gates: wanted.accuracy?,
        calib: wanted.calib.clone()?,
        holdout: wanted.holdout.clone(),
        low_rank: wanted.low_rank == LowRank::Auto,
        sparse: wanted.sparsity != Sparsity::Off,
        keep: wanted.keep.clone(),
        by_bytes: wanted.objective == Objective::Bytes || wanted.sparsity == Sparsity::TwoFour,
    })
}

/// The IR or the e-graph that was asked for.
fn emit(report: &mut Report, args: &CompileArgs, compiled: &Compiled) -> Result<(), CliError> {
    match &args.emit {
        Some(Emit::Ir(phase)) => {
            let ir = find_ir(compiled, phase)?;
            report.set("ir", ir);
            report.text(ir);
        }
        Some(Emit::EGraph(_)) => {
            let egraph = compiled.egraph.as_deref().unwrap_or_default();
            report.set("egraph", egraph);
            report.text(egraph);
        }
        None => {}
    }
    Ok(())
}

fn find_ir<'a>(compiled: &'a Compiled, phase: &str) -> Result<&'a str, CliError> {
    let known: Vec<&str> = compiled.phases.iter().map(|p| p.name.as_str()).collect();
    let found = compiled.phases.iter().rev().find(|p| p.name == phase).and_then(|p| p.ir.as_deref());
    found.ok_or_else(|| crate::spec::unknown_name("phase with IR", phase, &known))
}

/// One file a phase, numbered in order.
fn dump(dir: &Path, compiled: &Compiled) -> Result<(), CliError> {
    files::create_dir(dir)?;
    for (i, phase) in compiled.phases.iter().enumerate() {
        if let Some(ir) = &phase.ir {
            let name = format!("{i:02}-{}.agir", files::sanitize(&phase.name));
            files::write(&dir.join(name), ir.as_bytes())?;
        }
    }
    Ok(())
}

fn show_phases(ctx: &mut Ctx<'_>, report: &mut Report, compiled: &Compiled) -> Result<(), CliError> {
    let mut list = Vec::new();
    for phase in &compiled.phases {
        let mut entry = json!({ "name": phase.name, "ms": phase.time.as_secs_f64() * 1e3 });
        let mut nodes = String::new();
        if let Some((before, after)) = phase.nodes {
            nodes = format!("  {before} -> {after} nodes");
            entry["nodes"] = json!({ "before": before, "after": after });
        }
        if let Some(kb) = phase.rss_peak_kb {
            entry["rss_peak_kb"] = kb.into();
        }
        ctx.detail(&format!("{:>12}  {}{nodes}", format_duration(phase.time), phase.name))?;
        list.push(entry);
    }
    report.set("phases", Value::Array(list));
    let before = counts_json(&compiled.ops_before);
    report.set("graph", json!({ "ops_before": before, "ops_after": counts_json(&compiled.ops_after) }));
    Ok(())
}

/// Operations before and after, side by side.
fn show_ops(report: &mut Report, compiled: &Compiled) {
    let names: BTreeSet<&str> =
        compiled.ops_before.iter().chain(&compiled.ops_after).map(|(name, _)| name.as_str()).collect();
    let count = |list: &[(String, u64)], name: &str| {
        list.iter().find(|(n, _)| n == name).map_or(String::new(), |(_, n)| n.to_string())
    };
    let mut table = Table::new(&["operation", ">model", ">engine"]);
    for name in names {
        table.row([name, &count(&compiled.ops_before, name), &count(&compiled.ops_after, name)]);
    }
    report.text(&format!("{}\n", table.render()));
}

/// The engine that another process, in another folder, compiles from the same arguments.
fn again(ctx: &Ctx<'_>, args: &CompileArgs, output: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |why: String| {
        CliError::new(codes::REPRODUCIBLE, Exit::Reproducible, format!("cannot compile a second time: {why}"))
    };
    let program =
        ctx.program.as_ref().ok_or_else(|| failed("the program's own path is not known".to_string()))?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| failed(e.to_string()));
    let mut second = absolute(output)?.into_os_string();
    second.push(format!(".{}.again", std::process::id()));
    let second = Path::new(&second);
    let mut command = Command::new(program);
    command.arg("compile").arg(absolute(&args.model)?).arg("-o").arg(second);
    for dim in &args.dims {
        command.arg(format!("-D{}={}..{}", dim.name, dim.min, dim.max));
    }
    for limit in &args.limits {
        command.arg(format!("--limit={}={}", limit.key, limit.value));
    }
    for (flag, set) in [
        ("--no-opt", args.no_opt),
        ("--strict", args.strict),
        ("--compact", args.compact),
        ("--allow-external-links", args.allow_external_links),
    ] {
        if set {
            command.arg(flag);
        }
    }
    match &args.costs {
        Costs::Measured => {}
        Costs::Roofline => {
            command.arg("--costs=roofline");
        }
        Costs::Table(path) => {
            command.arg("--costs").arg(absolute(path)?);
        }
    }
    for (flag, data) in [("--calib", &args.compress.calib), ("--holdout", &args.compress.holdout)] {
        if let Some(data) = data {
            command.arg(flag).arg(absolute(data)?);
        }
    }
    command.args(args.compress.flags());
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null()).stdout(Stdio::null());
    let done = command.output().map_err(|e| failed(e.to_string()))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(failed(said.lines().last().unwrap_or("no reason given").to_string()));
    }
    let bytes = files::read(second)?;
    // The comparison is done in memory; a file that cannot be removed does not change its result.
    let _ = std::fs::remove_file(second);
    Ok(bytes)
}
