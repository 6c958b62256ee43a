//! NumPy `.npy` files, versions 1 to 3.
//!
//! NumPy has no name for some of our types. bf16 is written as `<V2` and the floats of eight bits and fewer as `<V1`,
//! raw bits in the layout that the `ml_dtypes` package uses; integers narrower than a byte are written as i1 or u1.

use super::{Array, byte_len, describe, elem_name};
use crate::codes;
use crate::error::{CliError, Exit};
use autoglm_runtime::elem::ElemType;
use std::io::Read;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read; NumPy itself stops at 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    elem: ElemType,
    swap: bool,
    fortran: bool,
    dims: Vec<usize>,
}

/// Reads one array. Types that NumPy cannot name are taken to be `expected` where its size fits.
///
/// # Errors
/// `E0910` not a valid header, `E0911` pickled objects, `E0912` a type that is not supported, `E0913` an absurd shape,
/// `E0914` too few or too many bytes, or more than `max_bytes`.
pub fn read(input: &mut dyn Read, expected: Option<ElemType>, max_bytes: usize) -> Result<Array, CliError> {
    let header = read_header(input, expected)?;
    let wanted = byte_len(header.elem, &header.dims)?;
    if wanted > max_bytes {
        let what = describe(header.elem, &header.dims);
        return Err(size_error(format!("{what} is larger than the limit of {max_bytes} bytes")));
    }
    let mut bytes = Vec::new();
    input.take(wanted as u64 + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() != wanted {
        let what = describe(header.elem, &header.dims);
        let have = if bytes.len() > wanted { "more".to_string() } else { bytes.len().to_string() };
        return Err(size_error(format!("{what} needs {wanted} bytes, the file has {have}")));
    }
    let size = header.elem.size();
    if header.swap {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    if size == 1 {
        bytes.iter_mut().for_each(|b| *b = normalise(header.elem, *b));
    }
    if header.fortran {
        bytes = from_fortran(&bytes, size, &header.dims);
    }
    Array::new(header.elem, header.dims, bytes)
}

/// The file for an array: version 1.0, C order, little-endian.
pub fn write(array: &Array) -> Vec<u8> {
    let mut dims = array.dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if array.dims.len() == 1 {
        dims.push(',');
    }
    let mut header =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({dims}), }}", descr(array.elem));
    // The data starts at a multiple of 64 bytes, and the header ends in a newline, as the format demands.
    let padding = 63 - (MAGIC.len() + 4 + header.len()) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&[1, 0]);
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&array.bytes);
    file
}

fn descr(elem: ElemType) -> &'static str {
    use ElemType::*;
    match elem {
        F32 => "<f4",
        F64 => "<f8",
        F16 => "<f2",
        BF16 => "<V2",
        I64 => "<i8",
        I32 => "<i4",
        I16 => "<i2",
        I8 | I4 | I2 => "|i1",
        U64 => "<u8",
        U32 => "<u4",
        U16 => "<u2",
        U8 | U4 | U2 => "|u1",
        Bool => "|b1",
        F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1 => "<V1",
    }
}

/// Also what a damaged archive member ends in.
fn read_error(error: std::io::Error) -> CliError {
    CliError::new(codes::FILE, Exit::Invalid, format!("cannot read the elements: {error}"))
}

fn size_error(message: String) -> CliError {
    CliError::new(codes::TENSOR_BYTES, Exit::Invalid, message)
}

fn header_error(message: &str) -> CliError {
    CliError::new(codes::NPY_HEADER, Exit::Invalid, format!("not a valid .npy file: {message}"))
}

fn read_header(input: &mut dyn Read, expected: Option<ElemType>) -> Result<Header, CliError> {
    let mut start = [0u8; 8];
    input.read_exact(&mut start).map_err(|_| header_error("it is too short"))?;
    if &start[..6] != MAGIC {
        return Err(header_error("it does not start with \\x93NUMPY"));
    }
    let mut length = [0u8; 4];
    let width = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(header_error(&format!("version {version} is unknown"))),
    };
    input.read_exact(&mut length[..width]).map_err(|_| header_error("it is too short"))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(header_error(&format!("its header has {length} bytes")));
    }
    let mut text = vec![0u8; length];
    input.read_exact(&mut text).map_err(|_| header_error("its header is cut off"))?;
    let text = std::str::from_utf8(&text).map_err(|_| header_error("its header is not text"))?;
    parse_header(text, expected)
}

/// Parses the Python dictionary `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(text: &str, expected: Option<ElemType>) -> Result<Header, CliError> {
    let mut parser = Parser { rest: text };
    let (mut descr, mut fortran, mut dims) = (None, None, None);
    parser.expect('{')?;
    while !parser.accept('}') {
        let key = parser.string()?;
        parser.expect(':')?;
        match key {
            "descr" if parser.peek() == Some('[') => {
                return Err(dtype_error("a structured type", text));
            }
            "descr" if descr.is_none() => descr = Some(parser.string()?),
            "fortran_order" if fortran.is_none() => fortran = Some(parser.boolean()?),
            "shape" if dims.is_none() => dims = Some(parser.tuple()?),
            _ => return Err(header_error(&format!("key \"{key}\" is unknown or repeated"))),
        }
        if !parser.accept(',') && parser.peek() != Some('}') {
            return Err(header_error("a comma is missing"));
        }
    }
    if parser.peek().is_some() {
        return Err(header_error("something follows the dictionary"));
    }
    let (Some(descr), Some(fortran), Some(dims)) = (descr, fortran, dims) else {
        return Err(header_error("descr, fortran_order or shape is missing"));
    };
    let (elem, swap) = parse_descr(descr, expected)?;
    Ok(Header { elem, swap, fortran, dims })
}

fn dtype_error(what: &str, descr: &str) -> CliError {
    CliError::new(codes::NPY_TYPE, Exit::Unsupported, format!("{what} is not a tensor: {}", descr.trim()))
        .help("save it as bool, int8..int64, uint8..uint64, float16, float32 or float64")
}

/// The element type, and whether the bytes are to be swapped.
fn parse_descr(descr: &str, expected: Option<ElemType>) -> Result<(ElemType, bool), CliError> {
    use ElemType::*;
    let (order, kind) = match descr.chars().next() {
        Some(order @ ('<' | '>' | '|')) => (order, &descr[1..]),
        _ => ('|', descr),
    };
    if kind == "O" || kind.starts_with("O8") || kind.starts_with("O4") {
        return Err(CliError::new(
            codes::NPY_OBJECTS,
            Exit::Invalid,
            "the array holds pickled Python objects, which are not read",
        )
        .help("save it with an explicit numeric dtype"));
    }
    let opaque = |size: usize| expected.filter(|e| e.size() == size && descr_is_opaque(*e));
    let elem = match kind {
        "f4" => F32,
        "f8" => F64,
        "f2" => F16,
        "i8" => I64,
        "i4" => I32,
        "i2" => I16,
        "i1" => I8,
        "u8" => U64,
        "u4" => U32,
        "u2" => U16,
        "u1" => U8,
        "b1" | "?" => Bool,
        "V2" => BF16,
        "V1" | "f1" => match opaque(1).or_else(|| expected.filter(|e| is_sub_byte_integer(*e))) {
            Some(elem) => elem,
            None => {
                let wanted = expected.map_or("no type", elem_name);
                return Err(dtype_error(&format!("one opaque byte ({wanted} is expected)"), descr));
            }
        },
        _ => return Err(dtype_error("this type", descr)),
    };
    if elem.size() > 1 && order == '|' && kind != "V2" {
        return Err(dtype_error("a type without byte order", descr));
    }
    Ok((elem, order == '>'))
}

/// One byte as our element types define it: a bool is 0 or 1, an element narrower than a byte is extended to one.
/// `ml_dtypes` leaves the upper bits of such elements 0.
fn normalise(elem: ElemType, byte: u8) -> u8 {
    match elem {
        ElemType::Bool => u8::from(byte != 0),
        ElemType::I4 => ((byte << 4) as i8 >> 4) as u8,
        ElemType::I2 => ((byte << 6) as i8 >> 6) as u8,
        ElemType::U4 | ElemType::F4E2M1 => byte & 15,
        ElemType::U2 => byte & 3,
        _ => byte,
    }
}

/// Types written as raw bits because NumPy has no name for them.
fn descr_is_opaque(elem: ElemType) -> bool {
    descr(elem).contains('V')
}

fn is_sub_byte_integer(elem: ElemType) -> bool {
    matches!(elem, ElemType::I4 | ElemType::U4 | ElemType::I2 | ElemType::U2)
}

/// Row-major bytes of an array stored column-major.
fn from_fortran(bytes: &[u8], size: usize, dims: &[usize]) -> Vec<u8> {
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = size;
    for &dim in dims {
        strides.push(stride);
        // No element is copied when an extent is 0, so the wrapped strides of that case are never used.
        stride = stride.wrapping_mul(dim);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; dims.len()];
    let mut at = 0;
    while out.len() < bytes.len() {
        out.extend_from_slice(&bytes[at..at + size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    out
}

/// The few Python literals that a header holds.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn accept(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.rest = &self.rest[c.len_utf8()..];
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), CliError> {
        if self.accept(c) { Ok(()) } else { Err(header_error(&format!("'{c}' is missing"))) }
    }

    fn string(&mut self) -> Result<&'a str, CliError> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(header_error("a string is missing")),
        };
        let (text, rest) =
            self.rest[1..].split_once(quote).ok_or_else(|| header_error("a string does not end"))?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, CliError> {
        self.peek();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(header_error("fortran_order is neither True nor False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, CliError> {
        self.expect('(')?;
        let mut dims = Vec::new();
        while !self.accept(')') {
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            let dim = digits.parse().map_err(|_| header_error("an extent is not a number that fits"))?;
            dims.push(dim);
            // Python 2 wrote long integers as 3L.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if !self.accept(',') && self.peek() != Some(')') {
                return Err(header_error("a comma is missing in shape"));
            }
            self.peek();
        }
        Ok(dims)
    }
}
