//! `--image`: how the pixels of a picture become the elements of an input.

/// Order of the axes of an input that takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// An element is `(pixel / scale - mean[channel]) / std[channel]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageOptions {
    /// Divisor of the 8-bit value.
    pub scale: f32,
    /// One value a channel, or one for all.
    pub mean: Vec<f32>,
    /// One value a channel, or one for all.
    pub std: Vec<f32>,
    /// Order of the axes.
    pub layout: Layout,
}

impl Default for ImageOptions {
    fn default() -> ImageOptions {
        ImageOptions { scale: 255.0, mean: vec![0.0], std: vec![1.0], layout: Layout::Nchw }
    }
}

/// Parses comma-separated `scale=V`, `mean=V[,V..]`, `std=V[,V..]`, `layout=nchw|nhwc` and `imagenet`.
///
/// # Errors
/// A line that says what is wrong with it.
pub fn parse_image(text: &str) -> Result<ImageOptions, String> {
    let mut options = ImageOptions::default();
    let mut items: Vec<(&str, Vec<&str>)> = Vec::new();
    for piece in text.split(',') {
        match (piece.split_once('='), items.last_mut()) {
            (Some((key, value)), _) => items.push((key, vec![value])),
            (None, Some((key, values))) if *key == "mean" || *key == "std" => values.push(piece),
            (None, _) => items.push((piece, Vec::new())),
        }
    }
    for (key, values) in items {
        match (key, values.as_slice()) {
            ("imagenet", []) => {
                options.mean = vec![0.485, 0.456, 0.406];
                options.std = vec![0.229, 0.224, 0.225];
            }
            ("scale", [value]) => options.scale = parse_divisor(value)?,
            ("mean", values) => {
                options.mean = values.iter().map(|v| parse_finite(v)).collect::<Result<_, _>>()?
            }
            ("std", values) => {
                options.std = values.iter().map(|v| parse_divisor(v)).collect::<Result<_, _>>()?
            }
            ("layout", ["nchw"]) => options.layout = Layout::Nchw,
            ("layout", ["nhwc"]) => options.layout = Layout::Nhwc,
            _ => {
                return Err(format!(
                    "\"{key}\": expected scale=V, mean=V,V,V, std=V,V,V, layout=nchw|nhwc or imagenet"
                ));
            }
        }
    }
    Ok(options)
}

fn parse_finite(text: &str) -> Result<f32, String> {
    text.parse::<f32>().ok().filter(|x| x.is_finite()).ok_or_else(|| format!("\"{text}\" is not a number"))
}

fn parse_divisor(text: &str) -> Result<f32, String> {
    parse_finite(text).and_then(|x| if x == 0.0 { Err("a divisor must not be 0".to_string()) } else { Ok(x) })
}
