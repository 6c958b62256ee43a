//! Pages of docs/ that are generated from the code.

use std::path::Path;

/// Fails if the file differs from `text`; with `BLESS=1` it is written instead.
pub(crate) fn hold(path: &Path, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{} is stale: run the tests with BLESS=1", path.display());
}
