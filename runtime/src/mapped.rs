//! Read-only memory maps of files, behind a safe entry.

use std::fs::File;
use std::io;

/// The bytes of a file, mapped read only. Dropping it unmaps them.
#[derive(Debug)]
pub struct Mapped(Option<memmap2::Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Maps a regular file as it is now; an empty file gives no bytes.
///
/// The bytes are those of the file, not a copy: whoever maps a file must not let it be changed while the map lives.
/// A file cut short meanwhile ends the process with a bus error on Linux. Callers that cannot trust the
/// file's other users read it into memory instead.
pub fn map_file(file: &File) -> io::Result<Mapped> {
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only regular files can be mapped"));
    }
    if facts.len() == 0 {
        return Ok(Mapped(None));
    }
    // SAFETY: the map is private and read only, so nothing in this process writes through it, and it owns its
    // address range until dropped. Other processes changing the file are excluded by this function's contract,
    // which is the one every user of mapped files has to rely on.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Mapped(Some(map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("autoglm-mapped-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_map_shows_the_bytes_of_the_file() {
        let path = scratch("bytes");
        let want: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &want).unwrap();
        let map = map_file(&File::open(&path).unwrap()).unwrap();
        assert_eq!(map.as_ref(), want);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_empty_file_and_a_directory() {
        let path = scratch("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(map_file(&File::open(&path).unwrap()).unwrap().as_ref().is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(map_file(&File::open(std::env::temp_dir()).unwrap()).is_err());
    }
}
