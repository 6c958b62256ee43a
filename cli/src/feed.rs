//! From what the user gave to one array for each input.

mod generate;

use crate::args::FeedArgs;
use crate::backend::{Port, PortDim, Signature};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::files;
use crate::spec::{Feed, FileKind, FileRef, Fill, Number, Source, unknown_name};
use crate::tensor::{Array, elem_name, npy, npz, pb, png, range, to_f64};
use autoglm_runtime::elem::ElemType;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

/// What to do about an input that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An error.
    Refuse,
    /// Random floats, zeros for everything else (an index of 0 is within any range).
    Generate,
}

/// The inputs, in the order of the signature, and a note for each that was made up.
///
/// # Errors
/// All problems at once: unknown names, unreadable files, types and shapes that do not fit, missing inputs.
pub fn load(
    signature: &Signature,
    args: &FeedArgs,
    missing: Missing,
) -> Result<(Vec<Array>, Vec<String>), CliError> {
    let ports = &signature.inputs;
    check_symbols(ports, &args.dims)?;
    if let Some(dir) = &args.data {
        return Ok((load_folder(ports, dir, "input")?, Vec::new()));
    }
    let mut errors = Vec::new();
    let mut sources = collect(ports, &args.inputs, &mut errors)?;
    let (mut arrays, mut notes) = (Vec::new(), Vec::new());
    for port in ports {
        let source = match (sources.remove(port.name.as_str()), missing) {
            (Some(source), _) => source,
            (None, Missing::Generate) => {
                let random = range(port.elem).is_none();
                let fill = if random { Fill::Rand(None) } else { Fill::Value(Number::Int(0)) };
                let what = if random { "random" } else { "zeros" };
                notes.push(format!("input \"{}\" is not given: {what} (assumed)", port.name));
                Source::Fill(fill)
            }
            (None, Missing::Refuse) => {
                let error = CliError::new(
                    codes::INPUT_MISSING,
                    Exit::Usage,
                    format!("input \"{}\" is not given", port.name),
                );
                errors.push(error.help(format!("-i '{}=SPEC', of type {}", port.name, describe(port))));
                continue;
            }
        };
        let array = read_source(port, &source, args).and_then(|array| fit(port, array));
        match array {
            Ok(array) => arrays.push(array),
            Err(error) => errors.push(error.within(&format!("input \"{}\"", port.name))),
        }
    }
    match CliError::all(errors) {
        Some(error) => Err(error),
        None => Ok((arrays, notes)),
    }
}

/// `PREFIX_0.pb`, `PREFIX_1.pb`, ... of a folder, checked against the ports.
///
/// # Errors
/// A file that is missing, unreadable or does not fit.
pub fn load_folder(ports: &[Port], dir: &Path, prefix: &str) -> Result<Vec<Array>, CliError> {
    let mut arrays = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = dir.join(format!("{prefix}_{i}.pb"));
        let read =
            files::read(&path).and_then(|file| pb::read(&file)).and_then(|(_, array)| fit(port, array));
        arrays.push(read.map_err(|e| e.within(&format!("{prefix} \"{}\" ({})", port.name, path.display())))?);
    }
    let extra = dir.join(format!("{prefix}_{}.pb", ports.len()));
    if extra.exists() {
        let message = format!("{} has no {prefix}: there are {}", extra.display(), ports.len());
        return Err(CliError::new(codes::DATA_EXTRA, Exit::Invalid, message));
    }
    Ok(arrays)
}

/// `f32[batch,3,224,224]`
pub fn describe(port: &Port) -> String {
    let dims: Vec<String> = port
        .dims
        .iter()
        .map(|dim| match dim {
            PortDim::Fixed(n) => n.to_string(),
            PortDim::Symbol(text) => text.clone(),
        })
        .collect();
    format!("{}[{}]", elem_name(port.elem), dims.join(","))
}

/// Every `-D` must name a symbol of an input.
fn check_symbols(ports: &[Port], bindings: &[(String, u64)]) -> Result<(), CliError> {
    let mut symbols: Vec<&str> = Vec::new();
    for dim in ports.iter().flat_map(|port| &port.dims) {
        if let PortDim::Symbol(text) = dim
            && !symbols.contains(&text.as_str())
        {
            symbols.push(text);
        }
    }
    match bindings.iter().find(|(name, _)| !symbols.contains(&name.as_str())) {
        Some((name, _)) => Err(unknown_name("symbolic dimension", name, &symbols)),
        None => Ok(()),
    }
}

/// The source of each input by name. Later arguments may not repeat a name.
fn collect<'a>(
    ports: &'a [Port],
    feeds: &[Feed],
    errors: &mut Vec<CliError>,
) -> Result<BTreeMap<&'a str, Source>, CliError> {
    let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let mut sources = BTreeMap::new();
    let mut add = |name: &str, source: Source| match known.iter().find(|k| **k == name) {
        None => errors.push(unknown_name("input", name, &known)),
        Some(_) if sources.contains_key(name) => {
            errors.push(CliError::usage(format!("input \"{name}\" is given twice")));
        }
        Some(port) => {
            sources.insert(*port, source);
        }
    };
    for feed in feeds {
        match feed {
            Feed::One { name, source } => add(name, source.clone()),
            Feed::Bundle(path) => {
                for name in open_npz(path)?.names() {
                    let member = Some(name.clone());
                    add(name, Source::File(FileRef { path: path.clone(), kind: FileKind::Npz, member }));
                }
            }
        }
    }
    Ok(sources)
}

fn open_npz(path: &Path) -> Result<npz::Npz<BufReader<File>>, CliError> {
    let file = File::open(path).map_err(|e| CliError::io(path, "read", &e))?;
    npz::Npz::open(BufReader::new(file)).map_err(|e| e.within(&path.display().to_string()))
}

fn read_source(port: &Port, source: &Source, args: &FeedArgs) -> Result<Array, CliError> {
    match source {
        Source::Fill(fill) => {
            let dims = concrete_dims(port, &args.dims)?;
            generate::generate(port, dims, fill, args.seed)
        }
        Source::File(file) => {
            let read = read_file(port, file, args);
            read.map_err(
                |e| if e.code == codes::FILE { e } else { e.within(&file.path.display().to_string()) },
            )
        }
    }
}

fn read_file(port: &Port, file: &FileRef, args: &FeedArgs) -> Result<Array, CliError> {
    let expected = Some(port.elem);
    match file.kind {
        FileKind::Npy => npy::read(&mut Cursor::new(files::read(&file.path)?), expected, usize::MAX),
        FileKind::Npz => {
            let mut archive = open_npz(&file.path)?;
            match (&file.member, archive.names()) {
                (Some(member), _) => archive.read(member, expected),
                (None, [only]) => {
                    let only = only.clone();
                    archive.read(&only, expected)
                }
                (None, names) => Err(CliError::usage(format!("the archive has {} members", names.len()))
                    .help(format!("choose one as in @{}:NAME", file.path.display()))),
            }
        }
        FileKind::Pb => pb::read(&files::read(&file.path)?).map(|(_, array)| array),
        FileKind::Png => {
            let shape: Vec<Option<usize>> = port.dims.iter().map(|dim| extent(dim, &args.dims)).collect();
            let options = args.image.clone().unwrap_or_default();
            png::read(&files::read(&file.path)?, port.elem, &shape, &options)
        }
        FileKind::Bin => {
            let mut array =
                Array::new(port.elem, concrete_dims(port, &args.dims)?, files::read(&file.path)?)?;
            if port.elem == ElemType::Bool {
                array.bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
            }
            Ok(array)
        }
    }
}

/// The extent of a dimension, by itself or by `-D`.
fn extent(dim: &PortDim, bindings: &[(String, u64)]) -> Option<usize> {
    match dim {
        PortDim::Fixed(n) => Some(*n),
        PortDim::Symbol(text) => {
            let bound = bindings.iter().rev().find(|(name, _)| name == text);
            bound.and_then(|(_, n)| usize::try_from(*n).ok())
        }
    }
}

fn concrete_dims(port: &Port, bindings: &[(String, u64)]) -> Result<Vec<usize>, CliError> {
    let mut dims = Vec::new();
    for dim in &port.dims {
        let Some(n) = extent(dim, bindings) else {
            let PortDim::Symbol(text) = dim else { continue };
            return Err(CliError::new(
                codes::EXTENT,
                Exit::Usage,
                format!("the extent \"{text}\" is not known"),
            )
            .help(format!("give it, as in -D '{text}=1'")));
        };
        dims.push(n);
    }
    Ok(dims)
}

/// Checks type and shape; integers narrower than a byte may come as i8 or u8.
fn fit(port: &Port, mut array: Array) -> Result<Array, CliError> {
    use ElemType::*;
    let narrows = matches!((array.elem, port.elem), (I8, I4 | I2) | (U8, U4 | U2));
    if narrows {
        let (lo, hi) = range(port.elem).unwrap_or_default();
        if let Some(bad) = to_f64(&array).into_iter().find(|x| *x < lo as f64 || *x > hi as f64) {
            let message = format!("{bad} is outside {lo}..{hi}, the range of {}", elem_name(port.elem));
            return Err(CliError::new(codes::INPUT_TYPE, Exit::Invalid, message));
        }
        array.elem = port.elem;
    }
    if array.elem != port.elem {
        let message = format!("it is {}, the model wants {}", array.describe(), describe(port));
        return Err(CliError::new(codes::INPUT_TYPE, Exit::Invalid, message)
            .help("convert it; types are never changed silently"));
    }
    let fixed = |(dim, n): (&PortDim, &usize)| !matches!(dim, PortDim::Fixed(want) if want != n);
    if array.dims.len() != port.dims.len() || !port.dims.iter().zip(&array.dims).all(fixed) {
        let message = format!("it is {}, the model wants {}", array.describe(), describe(port));
        return Err(CliError::new(codes::INPUT_SHAPE, Exit::Invalid, message));
    }
    Ok(array)
}
