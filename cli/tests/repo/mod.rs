//! The files of this repository, for tests that read them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The files under version control that are text, by path from the root.
pub(crate) fn tracked() -> Vec<(String, String)> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let read = |name: &str| Some((name.to_string(), std::fs::read_to_string(root().join(name)).ok()?));
    names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect()
}
