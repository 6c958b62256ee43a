//! The small languages of the command line: tensors, symbol bounds, limits, durations, picture options.
//!
//! Every `NAME=VALUE` is split at the last `=` whose right side parses, because ONNX names such as `/model/Add=0` or
//! `serving_default_x:0` contain nearly every character.

mod feed;
mod image;
mod number;
mod suggest;

pub use feed::{Feed, FileKind, FileRef, Fill, Source, parse_feed, parse_source};
pub use image::{ImageOptions, Layout, parse_image};
pub use number::{
    Binding, Costs, Emit, Limit, Number, parse_binding, parse_bound, parse_costs, parse_duration, parse_emit,
    parse_limit, parse_number, parse_percentiles,
};
pub use suggest::{edit_distance, nearest, unknown_name};

/// Splits `text` at the last `=` whose right side `parse` accepts and whose left side is not empty. If none is, the
/// error is that of the last `=`; without any `=` the answer is `None`.
fn split_last<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Result<(&str, T), String>> {
    let mut first_error = None;
    for (at, _) in text.rmatch_indices('=') {
        match (at > 0).then(|| parse(&text[at + 1..])) {
            Some(Ok(value)) => return Some(Ok((&text[..at], value))),
            Some(Err(error)) => first_error = first_error.or(Some(error)),
            None => first_error = first_error.or_else(|| Some("the name is empty".to_string())),
        }
    }
    first_error.map(Err)
}
