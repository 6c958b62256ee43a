//! Files that a command reads whole and writes at once.

use crate::error::CliError;
use crate::tensor::{Array, npy, npz};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads a whole file.
///
/// # Errors
/// `E0903`
pub fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|e| CliError::io(path, "read", &e))
}

/// Reads a whole text file.
///
/// # Errors
/// `E0903`
pub fn read_text(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|e| CliError::io(path, "read", &e))
}

/// Writes a file so that no reader ever sees a part of it: into a temporary file beside it, then renamed.
///
/// # Errors
/// `E0903`; the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|e| {
        // The error that is reported is the first one.
        let _ = fs::remove_file(&temporary);
        CliError::io(path, "write", &e)
    })
}

/// Makes a folder and those above it.
///
/// # Errors
/// `E0903`
pub fn create_dir(path: &Path) -> Result<(), CliError> {
    fs::create_dir_all(path).map_err(|e| CliError::io(path, "create", &e))
}

/// The file name for a tensor: every character outside `[A-Za-z0-9_.-]` becomes `_`.
pub fn sanitize(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

/// Writes tensors to `to`: one archive if its name ends in `.npz`, else a folder with one `.npy` file each. Gives the
/// files in the order of the tensors. A name that another tensor has taken gets `-2`, `-3`, ...
///
/// # Errors
/// `E0903`, `E0915`
pub fn write_tensors(to: &Path, tensors: &[(String, Array)]) -> Result<Vec<PathBuf>, CliError> {
    if to.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")) {
        let members: Vec<(&str, &Array)> =
            tensors.iter().map(|(name, array)| (name.as_str(), array)).collect();
        write(to, &npz::write(&members)?)?;
        return Ok(vec![to.to_path_buf(); tensors.len()]);
    }
    create_dir(to)?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, array) in tensors {
        let stem = sanitize(name);
        let mut path = to.join(format!("{stem}.npy"));
        let mut copy = 2;
        while paths.contains(&path) {
            path = to.join(format!("{stem}-{copy}.npy"));
            copy += 1;
        }
        write(&path, &npy::write(array))?;
        paths.push(path);
    }
    Ok(paths)
}
