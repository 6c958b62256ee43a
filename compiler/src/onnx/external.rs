//! Tensor data in files beside the model.

use super::beneath;
use super::error::{ReadError, code, shown};
use super::limits::Limits;
use super::proto::{StringStringEntryProto, TensorProto};
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// An entry of `external_data`, parsed but not yet looked up.
///
/// A `checksum` (SHA-1 by the standard) is accepted and kept but not verified: it guards against accidents only,
/// and computing it would read every weight at import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The path components beneath the model's directory.
    pub parts: Vec<&'a str>,
    /// Where the data starts in the file.
    pub offset: u64,
    /// How long it is, if the entry says so.
    pub length: Option<u64>,
    /// The checksum as written.
    pub checksum: Option<&'a str>,
}

/// Parses the entries of one tensor.
pub fn parse(entries: &[StringStringEntryProto]) -> Result<Reference<'_>, ReadError> {
    let mut found: [Option<&str>; 4] = [None; 4];
    for entry in entries {
        let slot = match entry.key.as_str() {
            "location" => 0,
            "offset" => 1,
            "length" => 2,
            "checksum" => 3,
            other => return Err(bad_entry(format!("unknown external data key {}", shown(other)))),
        };
        if found[slot].replace(&entry.value).is_some() {
            return Err(bad_entry(format!("the external data key `{}` is given twice", entry.key)));
        }
    }
    let [location, offset, length, checksum] = found;
    let Some(location) = location else {
        return Err(bad_entry("the external data has no `location`".into()));
    };
    let offset = offset.map(|text| number("offset", text)).transpose()?.unwrap_or(0);
    let length = length.map(|text| number("length", text)).transpose()?;
    Ok(Reference { parts: parts(location)?, offset, length, checksum })
}

fn bad_entry(what: String) -> ReadError {
    ReadError::new(code::EXTERNAL_ENTRY, what)
        .help("Allowed are `location`, `offset`, `length` and `checksum`.")
}

fn number(key: &str, text: &str) -> Result<u64, ReadError> {
    // `parse` alone would take a leading plus sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        let what = format!("the external data {key} {} is not a number from 0 to 2^64-1", shown(text));
        ReadError::new(code::EXTERNAL_ENTRY, what)
    })
}

/// The components of a location, if it can only lead downwards.
fn parts(location: &str) -> Result<Vec<&str>, ReadError> {
    let refuse = |why: &str| {
        let what = format!("the external data location {} {why}", shown(location));
        Err(ReadError::new(code::EXTERNAL_LOCATION, what)
            .help("External data must lie in the model's directory or beneath it, named by a relative path."))
    };
    let bytes = location.as_bytes();
    if location.is_empty() || location.len() > 4096 {
        return refuse("is empty or longer than 4096 bytes");
    }
    if location.contains('\0') {
        return refuse("contains a NUL");
    }
    if location.contains('\\') {
        return refuse("contains a backslash");
    }
    if bytes[0] == b'/' {
        return refuse("is an absolute path");
    }
    if bytes.len() > 1 && bytes[1] == b':' && bytes[0].is_ascii_alphabetic() {
        return refuse("names a drive");
    }
    if location.ends_with('/') {
        return refuse("names a directory");
    }
    let parts: Vec<&str> = location.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("leads out of the model's directory");
    }
    if parts.is_empty() {
        return refuse("names no file");
    }
    Ok(parts)
}

/// The external data files of one model: each is opened safely, and mapped once however many tensors it holds.
#[derive(Debug)]
pub struct ExternalFiles {
    dir: PathBuf,
    allow_links: bool,
    copy_files: bool,
    root: Option<OwnedFd>,
    by_name: HashMap<String, Bytes>,
    by_inode: HashMap<(u64, u64), Bytes>,
}

impl ExternalFiles {
    /// For a model in `dir`; an empty path means that the model has no directory and no external data.
    pub fn new(dir: &Path, limits: &Limits) -> Self {
        Self {
            dir: dir.to_owned(),
            allow_links: limits.allow_links,
            copy_files: limits.copy_files,
            root: None,
            by_name: HashMap::new(),
            by_inode: HashMap::new(),
        }
    }

    /// The bytes of a tensor with external data, sharing the file's memory. `expected` is the size that the
    /// tensor's type and dimensions give; it is the length where the entry names none.
    pub fn resolve(&mut self, tensor: &TensorProto, expected: u64) -> Result<Bytes, ReadError> {
        self.lookup(tensor, expected).map_err(|mut e| {
            e.message = format!("{}; tensor {} needs {expected} bytes of it", e.message, shown(&tensor.name));
            e.at(&tensor.name)
        })
    }

    fn lookup(&mut self, tensor: &TensorProto, expected: u64) -> Result<Bytes, ReadError> {
        let reference = parse(&tensor.external_data)?;
        let path = self.dir.join(reference.parts.join("/"));
        let bytes = self.file(&reference.parts, &path)?;
        let size = bytes.len() as u64;
        let length = reference.length.unwrap_or(expected);
        // No sum of two numbers from the file, so nothing can wrap around.
        if length > size || reference.offset > size - length {
            let what = format!(
                "external data of {length} bytes at offset {} lies outside {}, which has {size} bytes",
                reference.offset,
                path.display()
            );
            return Err(ReadError::new(code::EXTERNAL_RANGE, what)
                .help("The data file is cut short or belongs to another model: copy it again."));
        }
        // Both fit the length of a slice.
        let start = reference.offset as usize;
        Ok(bytes.slice(start..start + length as usize))
    }

    fn file(&mut self, parts: &[&str], path: &Path) -> Result<Bytes, ReadError> {
        let key = parts.join("/");
        if let Some(bytes) = self.by_name.get(&key) {
            return Ok(bytes.clone());
        }
        let file = self.open(parts, path)?;
        let failed = |e: std::io::Error| {
            let what = format!("cannot read external data {}: {}", path.display(), beneath::reason(&e));
            ReadError::new(code::EXTERNAL_OPEN, what)
        };
        let facts = file.metadata().map_err(failed)?;
        let refuse = |why: &str| ReadError::new(code::EXTERNAL_KIND, format!("{} {why}", path.display()));
        if !facts.is_file() {
            return Err(refuse("is not a regular file"));
        }
        if facts.nlink() != 1 && !self.allow_links {
            return Err(refuse(
                "has several hard links, so it may be a file from outside the model's directory",
            )
            .help("Copy the file, or allow links (limit `allow-links`) if you trust the directory."));
        }
        let inode = (facts.dev(), facts.ino());
        let bytes = match self.by_inode.get(&inode) {
            Some(bytes) => bytes.clone(),
            None => beneath::contents(&file, self.copy_files).map_err(failed)?,
        };
        self.by_inode.insert(inode, bytes.clone());
        self.by_name.insert(key, bytes.clone());
        Ok(bytes)
    }

    fn open(&mut self, parts: &[&str], path: &Path) -> Result<File, ReadError> {
        if self.dir.as_os_str().is_empty() {
            let what = format!("the external data {} has no directory to be looked up in", path.display());
            return Err(ReadError::new(code::EXTERNAL_OPEN, what)
                .help("Open the model from a file instead of from bytes."));
        }
        let root = match self.root.take() {
            Some(root) => Ok(root),
            None => beneath::open_dir(&self.dir),
        };
        let opened = root.and_then(|root| {
            let file = beneath::open_beneath(&root, parts, self.allow_links);
            self.root = Some(root);
            file
        });
        opened.map_err(|e| {
            if beneath::met_link(&e) {
                let what = format!("the external data {} is reached through a symbolic link", path.display());
                return ReadError::new(code::EXTERNAL_KIND, what)
                    .help("Copy the file, or allow links (limit `allow-links`) if you trust the directory.");
            }
            let what = format!("cannot open external data {}: {}", path.display(), beneath::reason(&e));
            ReadError::new(code::EXTERNAL_OPEN, what)
                .help("External data files must be copied along with the .onnx file, under their own names.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
        pairs
            .iter()
            .map(|(k, v)| StringStringEntryProto { key: (*k).to_owned(), value: (*v).to_owned() })
            .collect()
    }

    #[test]
    fn good_entries() {
        let e =
            entries(&[("location", "./a//b.bin"), ("offset", "4096"), ("length", "12"), ("checksum", "ab")]);
        let want =
            Reference { parts: vec!["a", "b.bin"], offset: 4096, length: Some(12), checksum: Some("ab") };
        assert_eq!(parse(&e).unwrap(), want);
        let e = entries(&[("location", "größe ..x")]);
        assert_eq!(parse(&e).unwrap().parts, ["größe ..x"]);
    }

    #[test]
    fn locations_that_lead_elsewhere() {
        let long = "a/".repeat(4096) + "x";
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            "..",
            ".",
            "./",
            "a/",
            "C:x",
            "C:/x",
            "c:\\x",
            "a\\..\\x",
            "\\\\host\\share",
            "//host/share",
            "a\0b",
            &long,
        ] {
            let e = entries(&[("location", bad)]);
            assert_eq!(parse(&e).unwrap_err().code, code::EXTERNAL_LOCATION, "{bad:?}");
        }
    }

    #[test]
    fn malformed_entries() {
        for bad in [
            &[("offset", "0")][..],
            &[("location", "a"), ("location", "b")],
            &[("location", "a"), ("basepath", "/")],
            &[("location", "a"), ("__class__", "x")],
            &[("location", "a"), ("offset", "-1")],
            &[("location", "a"), ("offset", "+1")],
            &[("location", "a"), ("offset", "")],
            &[("location", "a"), ("offset", " 1")],
            &[("location", "a"), ("offset", "0x10")],
            &[("location", "a"), ("length", "1.5")],
            &[("location", "a"), ("length", "18446744073709551616")],
        ] {
            assert_eq!(parse(&entries(bad)).unwrap_err().code, code::EXTERNAL_ENTRY, "{bad:?}");
        }
    }
}
