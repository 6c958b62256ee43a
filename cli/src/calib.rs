//! Calibration data: the inputs of several runs.

use crate::args::FeedArgs;
use crate::backend::Signature;
use crate::codes;
use crate::error::{CliError, Exit};
use crate::feed::{Missing, load, load_folder};
use crate::spec::Feed;
use crate::tensor::Array;
use std::path::{Path, PathBuf};

/// The inputs of every run, in the order of the signature: of an archive, or of the archives and folders of a folder in
/// the order of their names.
///
/// # Errors
/// What cannot be read or does not fit the model; a folder without data.
pub fn samples(signature: &Signature, path: &Path) -> Result<Vec<Vec<Array>>, CliError> {
    if !path.is_dir() {
        return Ok(vec![sample(signature, path)?]);
    }
    let unreadable = |e: std::io::Error| CliError::io(path, "read", &e);
    let entries = std::fs::read_dir(path).map_err(unreadable)?;
    let mut paths =
        entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<PathBuf>, _>>().map_err(unreadable)?;
    paths.retain(|p| is_archive(p) || p.join("input_0.pb").is_file());
    paths.sort();
    if paths.is_empty() {
        let message = format!("{} holds no calibration data", path.display());
        return Err(CliError::new(codes::CALIBRATION_DATA, Exit::Invalid, message));
    }
    paths.iter().map(|p| sample(signature, p)).collect()
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "npz")
}

fn sample(signature: &Signature, path: &Path) -> Result<Vec<Array>, CliError> {
    if path.is_dir() {
        return load_folder(&signature.inputs, path, "input");
    }
    let feed = FeedArgs {
        inputs: vec![Feed::Bundle(path.to_path_buf())],
        data: None,
        dims: Vec::new(),
        seed: 0,
        image: None,
    };
    let (arrays, _) =
        load(signature, &feed, Missing::Refuse).map_err(|e| e.within(&path.display().to_string()))?;
    Ok(arrays)
}
