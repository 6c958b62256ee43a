//! Finding ONNX test cases: folders with `model.onnx` and `test_data_set_N/{input,output}_M.pb`.

use crate::codes;
use crate::error::{CliError, Exit};
use crate::files;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Cases lie at most this many folders below the one that is given: suite and case, with room for one more level.
const DEPTH_MAX: usize = 3;
/// What the runner of the ONNX project allows where a case does not say otherwise.
const DEFAULT: Allowed = Allowed { rtol: 1e-3, atol: 1e-7 };

/// The error that a case allows: `|a - b| <= atol + rtol * |b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowed {
    /// Relative part.
    pub(super) rtol: f64,
    /// Absolute part.
    pub(super) atol: f64,
}

/// A folder with a model.
pub(super) struct Case {
    /// `case`, or `suite/case` where the cases lie in folders of suites.
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) allowed: Allowed,
}

/// The cases in and below `dir`, by name; `dir` itself if it is a case.
///
/// # Errors
/// Folders that cannot be read, a damaged `manifest.tsv` or one with cases that are not there, no case at all.
pub(super) fn find(dir: &Path, filter: Option<&str>) -> Result<Vec<Case>, CliError> {
    let mut found = BTreeMap::new();
    collect(dir, "", DEPTH_MAX, &mut found)?;
    let manifest = manifest(&dir.join("manifest.tsv"))?;
    if let Some(missing) = manifest.keys().find(|name| !found.contains_key(*name)) {
        let message = format!("{} lists {missing}, which is not there", dir.join("manifest.tsv").display());
        return Err(CliError::new(codes::NO_CASE, Exit::Invalid, message).help("generate the suite again"));
    }
    let wanted = |name: &str| filter.is_none_or(|sub| name.contains(sub));
    let cases: Vec<Case> = found
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, dir)| Case { allowed: manifest.get(&name).copied().unwrap_or(DEFAULT), name, dir })
        .collect();
    if cases.is_empty() {
        let message = format!("no case found in {}", dir.display());
        return Err(
            CliError::new(codes::NO_CASE, Exit::Invalid, message).help("a case is a folder with model.onnx")
        );
    }
    Ok(cases)
}

fn collect(
    dir: &Path,
    name: &str,
    depth: usize,
    found: &mut BTreeMap<String, PathBuf>,
) -> Result<(), CliError> {
    if dir.join("model.onnx").is_file() {
        let own = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.insert(if name.is_empty() { own } else { name.to_string() }, dir.to_path_buf());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(|e| CliError::io(dir, "read", &e))? {
        let entry = entry.map_err(|e| CliError::io(dir, "read", &e))?;
        let path = entry.path();
        if path.is_dir() {
            let leaf = entry.file_name().to_string_lossy().into_owned();
            let name = if name.is_empty() { leaf } else { format!("{name}/{leaf}") };
            collect(&path, &name, depth - 1, found)?;
        }
    }
    Ok(())
}

/// Tolerances by `suite/case`; empty if there is no such file.
fn manifest(path: &Path) -> Result<BTreeMap<String, Allowed>, CliError> {
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = files::read_text(path)?;
    let row = |line: &str| {
        let [suite, case, rtol, atol] = <[&str; 4]>::try_from(line.split('\t').collect::<Vec<_>>()).ok()?;
        let number = |text: &str| text.parse::<f64>().ok().filter(|x| *x >= 0.0);
        Some((format!("{suite}/{case}"), Allowed { rtol: number(rtol)?, atol: number(atol)? }))
    };
    let rows = text.lines().skip(1).map(|line| {
        row(line).ok_or_else(|| {
            let message = format!("{}: \"{line}\" is not suite, case, rtol, atol", path.display());
            CliError::new(codes::NO_CASE, Exit::Invalid, message)
        })
    });
    rows.collect()
}

/// The folders `test_data_set_N` of a case, by name.
///
/// # Errors
/// A folder that cannot be read, or none.
pub(super) fn data_sets(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| CliError::io(dir, "read", &e))? {
        let entry = entry.map_err(|e| CliError::io(dir, "read", &e))?;
        if entry.file_name().to_string_lossy().starts_with("test_data_set_") {
            sets.push(entry.path());
        }
    }
    sets.sort();
    if sets.is_empty() {
        let message = format!("{} has no test_data_set_N", dir.display());
        return Err(CliError::new(codes::NO_CASE, Exit::Invalid, message));
    }
    Ok(sets)
}
