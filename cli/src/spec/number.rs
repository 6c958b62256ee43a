//! Numbers, `-D` bounds, limits and durations.

use super::split_last;
use crate::backend::EGraphFormat;
use std::path::PathBuf;
use std::time::Duration;

/// A number as it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i128),
    /// Anything else.
    Float(f64),
}

/// `-D sym=N` or `-D sym=LO..HI`: inclusive bounds of a symbolic dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The ONNX `dim_param`.
    pub name: String,
    /// Smallest extent.
    pub min: u64,
    /// Largest extent.
    pub max: u64,
}

/// `--limit key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which limit.
    pub key: String,
    /// Its value, suffixes resolved.
    pub value: u64,
}

/// An integer, a float, `true` or `false`.
///
/// # Errors
/// Anything else.
pub fn parse_number(text: &str) -> Result<Number, String> {
    match text {
        "true" => return Ok(Number::Int(1)),
        "false" => return Ok(Number::Int(0)),
        _ => {}
    }
    if let Ok(int) = text.parse::<i128>() {
        return Ok(Number::Int(int));
    }
    text.parse::<f64>().map(Number::Float).map_err(|_| format!("\"{text}\" is not a number"))
}

/// An extent: at most 2^63-1, because the shape program computes with signed registers.
fn parse_extent(text: &str) -> Result<u64, String> {
    let value = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    value.map(i64::unsigned_abs).ok_or_else(|| format!("\"{text}\" is not an extent (0, 1, 2, ...)"))
}

/// Parses `-D` of `compile`: `sym=N` or `sym=LO..HI`, both ends included.
///
/// # Errors
/// A line that says what is wrong with it.
pub fn parse_bound(text: &str) -> Result<Binding, String> {
    let range = |text: &str| match text.split_once("..") {
        None => parse_extent(text).map(|n| (n, n)),
        Some((lo, hi)) => match (parse_extent(lo)?, parse_extent(hi)?) {
            (lo, hi) if lo <= hi => Ok((lo, hi)),
            (lo, hi) => Err(format!("the range {lo}..{hi} is empty")),
        },
    };
    match split_last(text, range) {
        Some(split) => split.map(|(name, (min, max))| Binding { name: name.to_string(), min, max }),
        None => Err("expected SYMBOL=N or SYMBOL=LO..HI".to_string()),
    }
}

/// Parses `-D` where one value is needed: `sym=N`.
///
/// # Errors
/// A line that says what is wrong with it.
pub fn parse_binding(text: &str) -> Result<(String, u64), String> {
    match split_last(text, parse_extent) {
        Some(split) => split.map(|(name, value)| (name.to_string(), value)),
        None => Err("expected SYMBOL=N".to_string()),
    }
}

/// `N` with an optional suffix: K, M, G (thousands), KiB, MiB, GiB; digits may be grouped by `_`.
fn parse_count(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let scale: Option<u64> = match suffix {
        "" => Some(1),
        "K" => Some(1000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number = digits.replace('_', "").parse::<u64>().ok();
    let product = number.zip(scale).and_then(|(n, s)| n.checked_mul(s));
    product.ok_or_else(|| format!("\"{text}\" is not a count (as in 500, 2_000, 64MiB)"))
}

/// Parses `--limit key=value`.
///
/// # Errors
/// A line that says what is wrong with it.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    match split_last(text, parse_count) {
        Some(split) => split.map(|(key, value)| Limit { key: key.to_string(), value }),
        None => Err("expected KEY=VALUE".to_string()),
    }
}

/// Parses a duration: `250ms`, `10s`, `1.5m`, `80us`, `5ns`; a bare number is seconds.
///
/// # Errors
/// Negative, too large, or not a number with one of these units.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "ns" => Some(1e-9),
        "us" => Some(1e-6),
        "ms" => Some(1e-3),
        "" | "s" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    number
        .parse::<f64>()
        .ok()
        .zip(scale)
        .and_then(|(value, scale)| Duration::try_from_secs_f64(value * scale).ok())
        .ok_or_else(|| format!("\"{text}\" is not a duration (as in 10s, 250ms, 2m)"))
}

/// What kernels are said to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Costs {
    /// What their arithmetic and bytes need.
    Roofline,
    /// What was measured on the reference machine.
    Measured,
    /// What a table says.
    Table(PathBuf),
}

/// Parses `measured`, `roofline`, or the path of a table.
///
/// # Errors
/// Nothing is given.
pub fn parse_costs(text: &str) -> Result<Costs, String> {
    match text {
        "" => Err("needs `measured`, `roofline` or a file".into()),
        "roofline" => Ok(Costs::Roofline),
        "measured" => Ok(Costs::Measured),
        path => Ok(Costs::Table(path.into())),
    }
}

/// What `--emit` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emit {
    /// The IR after this phase.
    Ir(String),
    /// The e-graph of the optimiser.
    EGraph(EGraphFormat),
}

/// Parses the value of `--emit`.
///
/// # Errors
/// Another kind of output, or no phase.
pub fn parse_emit(text: &str) -> Result<Emit, String> {
    match text.split_once('=') {
        Some(("ir", phase)) if !phase.is_empty() => Ok(Emit::Ir(phase.to_string())),
        Some(("egraph", "dot")) => Ok(Emit::EGraph(EGraphFormat::Dot)),
        Some(("egraph", "json")) => Ok(Emit::EGraph(EGraphFormat::Json)),
        _ => Err(format!("\"{text}\": expected ir=PHASE, egraph=dot or egraph=json")),
    }
}

/// Parses one number of `--percentile`.
///
/// # Errors
/// Not between 0 and 100.
pub fn parse_percentiles(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    value.ok_or_else(|| format!("\"{text}\" is not a percentile (0 to 100)"))
}
