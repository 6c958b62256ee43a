//! Single elements as text, exact for every bit pattern.

use crate::dtype::DType;
use crate::encode;

/// A float in the fewest digits that give it back.
fn float(v: f64) -> String {
    if v.is_nan() { "nan".into() } else { whole(format!("{v:?}")) }
}

/// Without the fraction of a whole number.
fn whole(text: String) -> String {
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The value of one element, or its bit pattern in hexadecimal where the value does not give back the bytes.
pub(super) fn print(dtype: DType, bytes: &[u8]) -> String {
    let text = match dtype {
        DType::F32 => match bytes.try_into().map(f32::from_le_bytes) {
            Ok(v) if v.is_nan() => "nan".into(),
            Ok(v) => whole(format!("{v:?}")),
            Err(_) => String::new(),
        },
        _ if dtype.is_float() => float(encode::float(dtype, bytes)),
        _ => encode::int(dtype, bytes).to_string(),
    };
    if parse(dtype, &text).as_deref() == Ok(bytes) {
        return text;
    }
    let digits: String = bytes.iter().rev().map(|b| format!("{b:02x}")).collect();
    format!("0x{digits}")
}

/// The bytes of one element.
pub(super) fn parse(dtype: DType, text: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("`{text}` is not an element of type {dtype}");
    let mut out = Vec::with_capacity(dtype.size());
    if let Some(digits) = text.strip_prefix("0x") {
        let bits = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
        if dtype.size() < 8 && bits >> (8 * dtype.size()) != 0 {
            return Err(bad());
        }
        out.extend_from_slice(&bits.to_le_bytes()[..dtype.size()]);
        return Ok(out);
    }
    if dtype == DType::F32 {
        // Through f64 the digits would be rounded twice.
        out.extend_from_slice(&text.parse::<f32>().map_err(|_| bad())?.to_le_bytes());
    } else if dtype.is_float() {
        encode::push_float_as(dtype, text.parse().map_err(|_| bad())?, false, &mut out);
    } else {
        let v: i128 = text.parse().map_err(|_| bad())?;
        let (lo, hi) = dtype.int_range().unwrap_or((0, 1));
        if v < lo || v > hi {
            return Err(bad());
        }
        encode::push_int(dtype, v, &mut out);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_of_the_small_types_comes_back() {
        for dtype in DType::ALL.iter().copied().filter(|d| (1..=2).contains(&d.size())) {
            for bits in 0..1u32 << (8 * dtype.size()) {
                let bytes = &bits.to_le_bytes()[..dtype.size()];
                assert_eq!(parse(dtype, &print(dtype, bytes)).as_deref(), Ok(bytes), "{dtype} {bits:x}");
            }
        }
    }

    #[test]
    fn wide_floats_come_back() {
        for bits in [0u64, 1, 0x8000_0000_0000_0000, 0x7ff0_0000_0000_0001, 0x3fb9_9999_9999_999a, u64::MAX] {
            let bytes = bits.to_le_bytes();
            assert_eq!(parse(DType::F64, &print(DType::F64, &bytes)).unwrap(), bytes);
            let narrow = ((bits >> 32) as u32).to_le_bytes();
            assert_eq!(parse(DType::F32, &print(DType::F32, &narrow)).unwrap(), narrow);
        }
    }
}
