//! Where the contents of an input come from: `NAME=SPEC` and `@feeds.npz`.

use super::number::{Number, parse_number};
use super::split_last;
use std::path::PathBuf;

/// One `-i` argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Feed {
    /// `NAME=SPEC`
    One {
        /// The input.
        name: String,
        /// Its contents.
        source: Source,
    },
    /// `@feeds.npz`: every member is an input of that name.
    Bundle(PathBuf),
}

/// The contents of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Read from a file.
    File(FileRef),
    /// Made up.
    Fill(Fill),
}

/// A file that holds a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Where it is.
    pub path: PathBuf,
    /// How to read it.
    pub kind: FileKind,
    /// The member of an archive; without one it must hold exactly one.
    pub member: Option<String>,
}

/// Formats of tensor files, told by the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// NumPy array.
    Npy,
    /// Archive of NumPy arrays.
    Npz,
    /// ONNX `TensorProto`.
    Pb,
    /// Picture.
    Png,
    /// Raw little-endian elements; type and shape are those of the input.
    Bin,
}

/// Generated contents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Uniform in `lo <= x < hi`. Without bounds: 0..1 for floats, 0..2 for integers.
    Rand(Option<(f64, f64)>),
    /// One value everywhere.
    Value(Number),
    /// 0, 1, 2, ...
    Arange,
}

impl FileKind {
    /// By the extension, whatever its case.
    pub fn of(path: &str) -> Option<FileKind> {
        let (stem, extension) = path.rsplit_once('.')?;
        if stem.is_empty() {
            return None;
        }
        match extension.to_ascii_lowercase().as_str() {
            "npy" => Some(FileKind::Npy),
            "npz" => Some(FileKind::Npz),
            "pb" => Some(FileKind::Pb),
            "png" => Some(FileKind::Png),
            "bin" => Some(FileKind::Bin),
            _ => None,
        }
    }
}

/// Parses one `-i` argument.
///
/// # Errors
/// A line that says what is wrong with it.
pub fn parse_feed(text: &str) -> Result<Feed, String> {
    match split_last(text, parse_source) {
        Some(Ok((name, source))) => Ok(Feed::One { name: name.to_string(), source }),
        split => match (text.strip_prefix('@'), split) {
            (Some(path), _) if FileKind::of(path) == Some(FileKind::Npz) => Ok(Feed::Bundle(path.into())),
            (_, Some(Err(error))) => Err(error),
            _ => Err("expected NAME=SPEC or @FILE.npz".to_string()),
        },
    }
}

/// Parses the right side of `NAME=SPEC`.
///
/// # Errors
/// A line that says what is wrong with it.
pub fn parse_source(text: &str) -> Result<Source, String> {
    if let Some(file) = text.strip_prefix('@') {
        return parse_file(file).map(Source::File);
    }
    let (word, argument) = match text.split_once(':') {
        Some((word, argument)) => (word, Some(argument)),
        None => (text, None),
    };
    let fill = match (word, argument) {
        ("rand", None) => Fill::Rand(None),
        ("rand", Some(range)) => Fill::Rand(Some(parse_range(range)?)),
        ("fill", Some(value)) => Fill::Value(parse_number(value)?),
        ("fill", None) => return Err("fill needs a value, as in fill:0.5".to_string()),
        ("zeros", None) => Fill::Value(Number::Int(0)),
        ("ones", None) => Fill::Value(Number::Int(1)),
        ("arange", None) => Fill::Arange,
        _ => {
            return Err(format!(
                "\"{text}\" is neither @FILE nor one of rand[:LO..HI], fill:V, zeros, ones, arange"
            ));
        }
    };
    Ok(Source::Fill(fill))
}

/// `FILE.ext` or `FILE.npz:MEMBER`.
fn parse_file(text: &str) -> Result<FileRef, String> {
    if let Some(kind) = FileKind::of(text) {
        return Ok(FileRef { path: text.into(), kind, member: None });
    }
    if let Some(at) = text.to_ascii_lowercase().find(".npz:") {
        let (path, member) = (&text[..at + 4], &text[at + 5..]);
        if FileKind::of(path).is_some() && !member.is_empty() {
            return Ok(FileRef { path: path.into(), kind: FileKind::Npz, member: Some(member.to_string()) });
        }
    }
    Err(format!("\"@{text}\": the file must end in .npy, .npz, .npz:MEMBER, .pb, .png or .bin"))
}

/// `LO..HI` with `LO < HI`, both finite.
fn parse_range(text: &str) -> Result<(f64, f64), String> {
    let parse = |s: &str| s.parse::<f64>().ok().filter(|x| x.is_finite());
    text.split_once("..")
        .and_then(|(lo, hi)| Some((parse(lo)?, parse(hi)?)))
        .filter(|(lo, hi)| lo < hi)
        .ok_or_else(|| format!("\"{text}\": expected LO..HI with LO below HI, as in rand:-1..1"))
}
