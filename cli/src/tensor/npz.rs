//! NumPy `.npz` files: zip archives of `.npy` members, stored or deflated.

use super::{Array, npy};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::spec::unknown_name;
use autoglm_runtime::elem::ElemType;
use std::io::{Cursor, Read, Seek, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Most bytes that one compressed member may unfold to: a small archive can claim any size.
const MAX_DEFLATED: usize = 4 << 30;

/// An open archive.
pub struct Npz<R> {
    archive: ZipArchive<R>,
    names: Vec<String>,
}

fn archive_error(error: impl std::fmt::Display) -> CliError {
    CliError::new(codes::NPZ, Exit::Invalid, format!("not a readable .npz file: {error}"))
}

impl<R: Read + Seek> Npz<R> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// `E0915` for what is not a zip archive.
    pub fn open(input: R) -> Result<Npz<R>, CliError> {
        let archive = ZipArchive::new(input).map_err(archive_error)?;
        let mut names = Vec::new();
        for name in archive.file_names() {
            let name = name.map_err(archive_error)?;
            names.push(name.strip_suffix(".npy").unwrap_or(&name).to_string());
        }
        Ok(Npz { archive, names })
    }

    /// The arrays in the archive, in its order, without `.npy`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads one array; see [`npy::read`] for `expected`.
    ///
    /// # Errors
    /// A name that is not there, `E0915` for a broken archive, and the errors of [`npy::read`].
    pub fn read(&mut self, name: &str, expected: Option<ElemType>) -> Result<Array, CliError> {
        let full = format!("{name}.npy");
        let index = self.archive.index_for_name(&full).or_else(|| self.archive.index_for_name(name));
        let Some(index) = index else {
            let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
            return Err(unknown_name("member", name, &known));
        };
        let mut file = self.archive.by_index(index).map_err(archive_error)?;
        let stored = file.compression() == CompressionMethod::Stored;
        let limit = if stored { usize::MAX } else { MAX_DEFLATED };
        let array = npy::read(&mut file, expected, limit).map_err(|e| e.within(name))?;
        // The checksum is only compared when the end of the member is read.
        file.read(&mut [0u8; 1]).map_err(archive_error)?;
        Ok(array)
    }
}

/// Writes arrays uncompressed, as `numpy.savez` does, with a fixed time stamp so that equal arrays give equal bytes.
///
/// # Errors
/// `E0915` when two names are equal or the archive cannot hold them.
pub fn write(arrays: &[(&str, &Array)]) -> Result<Vec<u8>, CliError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        let file = npy::write(array);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(u32::try_from(file.len()).is_err());
        archive.start_file(format!("{name}.npy"), options).map_err(write_error)?;
        archive.write_all(&file).map_err(write_error)?;
    }
    Ok(archive.finish().map_err(write_error)?.into_inner())
}

fn write_error(error: impl std::fmt::Display) -> CliError {
    CliError::new(codes::NPZ, Exit::Invalid, format!("cannot write an .npz file: {error}"))
}
