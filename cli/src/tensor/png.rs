//! Pictures as tensors.

use super::{Array, elem_name};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::spec::{ImageOptions, Layout};
use autoglm_runtime::elem::ElemType;
use std::io::Cursor;

/// Most bytes of a decoded picture.
const MAX_BYTES: usize = 1 << 29;

/// 8-bit pixels, channels innermost.
struct Pixels {
    width: usize,
    height: usize,
    channels: usize,
    data: Vec<u8>,
}

fn png_error(message: impl std::fmt::Display) -> CliError {
    CliError::new(codes::PICTURE, Exit::Invalid, format!("not a readable picture: {message}"))
}

fn size_error(message: String) -> CliError {
    CliError::new(codes::PICTURE_SIZE, Exit::Invalid, message)
}

/// Decodes a PNG for an input of the given shape, `[C,H,W]` or `[N,C,H,W]` (NHWC: `[H,W,C]`, `[N,H,W,C]`), where
/// `None` stands for an extent that the picture decides.
///
/// The channels of the input decide what becomes of the picture's: 1 is luma, 3 is RGB without the alpha channel, 4
/// is RGBA. An f32 input gets `(pixel / scale - mean) / std`; a u8 input gets the pixels, whatever the options.
///
/// # Errors
/// `E0916` for what is not a PNG, `E0917` when the sizes differ or the input cannot hold a picture.
pub fn read(
    file: &[u8],
    elem: ElemType,
    shape: &[Option<usize>],
    options: &ImageOptions,
) -> Result<Array, CliError> {
    let pixels = decode(file)?;
    let (axes, batched) = match shape.len() {
        3 => (shape, false),
        4 => (&shape[1..], true),
        rank => return Err(size_error(format!("an input with {rank} axes cannot hold a picture"))),
    };
    if batched && !matches!(shape[0], None | Some(1)) {
        return Err(size_error("a picture fills a batch of 1, the input's is larger".to_string()));
    }
    let (channels, height, width) = match options.layout {
        Layout::Nchw => (axes[0], axes[1], axes[2]),
        Layout::Nhwc => (axes[2], axes[0], axes[1]),
    };
    let channels = channels.unwrap_or(3);
    if height.is_some_and(|h| h != pixels.height) || width.is_some_and(|w| w != pixels.width) {
        let show = |n: Option<usize>| n.map_or("?".to_string(), |n| n.to_string());
        return Err(size_error(format!(
            "the picture is {}x{} (height x width), the input is {}x{}",
            pixels.height,
            pixels.width,
            show(height),
            show(width)
        ))
        .help("resize the picture, or check --image layout=nchw|nhwc"));
    }
    let dims = [channels, pixels.height, pixels.width];
    let pixels = with_channels(pixels, channels)?;
    let data = if options.layout == Layout::Nchw { planar(&pixels.data, channels) } else { pixels.data };
    let bytes = convert(&data, elem, channels, options)?;
    let mut dims = match options.layout {
        Layout::Nchw => dims.to_vec(),
        Layout::Nhwc => vec![dims[1], dims[2], dims[0]],
    };
    if batched {
        dims.insert(0, 1);
    }
    Array::new(elem, dims, bytes)
}

fn decode(file: &[u8]) -> Result<Pixels, CliError> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), png::Limits { bytes: MAX_BYTES });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(png_error)?;
    let size = reader.output_buffer_size().filter(|&n| n <= MAX_BYTES);
    let mut data = vec![0; size.ok_or_else(|| png_error("it is too large"))?];
    let frame = reader.next_frame(&mut data).map_err(png_error)?;
    data.truncate(frame.buffer_size());
    let channels = frame.color_type.samples();
    Ok(Pixels { width: frame.width as usize, height: frame.height as usize, channels, data })
}

/// Adds, drops or mixes channels so that there are `wanted`.
fn with_channels(pixels: Pixels, wanted: usize) -> Result<Pixels, CliError> {
    if !matches!(wanted, 1 | 3 | 4) {
        return Err(size_error(format!("an input with {wanted} channels cannot hold a picture (1, 3 or 4)")));
    }
    let mut data = Vec::with_capacity(pixels.width * pixels.height * wanted);
    for pixel in pixels.data.chunks_exact(pixels.channels) {
        let (rgb, alpha) = match *pixel {
            [gray] => ([gray; 3], 255),
            [gray, alpha] => ([gray; 3], alpha),
            [r, g, b] => ([r, g, b], 255),
            [r, g, b, alpha, ..] => ([r, g, b], alpha),
            [] => return Err(png_error("it has no channels")),
        };
        match wanted {
            1 => data.push(luma(rgb)),
            3 => data.extend_from_slice(&rgb),
            _ => data.extend_from_slice(&[rgb[0], rgb[1], rgb[2], alpha]),
        }
    }
    Ok(Pixels { channels: wanted, data, ..pixels })
}

/// ITU-R 601-2 luma in 16-bit fixed point, the weights that picture libraries use.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000;
    (sum >> 16) as u8
}

/// Channels innermost to channels outermost.
fn planar(data: &[u8], channels: usize) -> Vec<u8> {
    (0..channels).flat_map(|c| data.iter().skip(c).step_by(channels).copied()).collect()
}

fn convert(
    data: &[u8],
    elem: ElemType,
    channels: usize,
    options: &ImageOptions,
) -> Result<Vec<u8>, CliError> {
    match elem {
        ElemType::U8 => return Ok(data.to_vec()),
        ElemType::F32 => {}
        other => return Err(size_error(format!("a picture cannot become {} elements", elem_name(other)))),
    }
    for (name, values) in [("mean", &options.mean), ("std", &options.std)] {
        if values.len() != 1 && values.len() != channels {
            return Err(CliError::usage(format!(
                "--image {name} has {} values, the input has {channels} channels",
                values.len()
            )));
        }
    }
    let pick = |values: &[f32], c: usize| values[c.min(values.len() - 1)];
    let plane = (data.len() / channels).max(1);
    let mut bytes = Vec::with_capacity(data.len() * 4);
    for (i, &pixel) in data.iter().enumerate() {
        let c = if options.layout == Layout::Nchw { i / plane } else { i % channels };
        let value = (f32::from(pixel) / options.scale - pick(&options.mean, c)) / pick(&options.std, c);
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    Ok(bytes)
}
