//! Elements as numbers.

use super::Array;
use crate::spec::Number;
use autoglm_runtime::elem::ElemType;
use half::{bf16, f16};

/// Every element as an f64. 64-bit integers above 2^53 are rounded.
pub fn to_f64(array: &Array) -> Vec<f64> {
    array.bytes.chunks_exact(array.elem.size()).map(|chunk| decode(array.elem, chunk)).collect()
}

/// The little-endian bytes of one element as a number.
fn decode(elem: ElemType, bytes: &[u8]) -> f64 {
    let mut word = [0u8; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    let bits = u64::from_le_bytes(word);
    match elem {
        ElemType::F32 => f32::from_bits(bits as u32).into(),
        ElemType::F64 => f64::from_bits(bits),
        ElemType::F16 => f16::from_bits(bits as u16).to_f64(),
        ElemType::BF16 => bf16::from_bits(bits as u16).to_f64(),
        ElemType::I64 => bits as i64 as f64,
        ElemType::I32 => f64::from(bits as i32),
        ElemType::I16 => f64::from(bits as i16),
        ElemType::I8 | ElemType::I4 | ElemType::I2 => f64::from(bits as i8),
        ElemType::U64 | ElemType::U32 | ElemType::U16 | ElemType::U8 => bits as f64,
        ElemType::Bool | ElemType::U4 | ElemType::U2 => bits as f64,
        narrow => decode_narrow(narrow, bits as u8),
    }
}

/// The formats of eight bits and fewer.
fn decode_narrow(elem: ElemType, bits: u8) -> f64 {
    let (exponent_bits, mantissa_bits, bias, nan) = match elem {
        ElemType::F8E4M3FN => (4, 3, 7, bits & 0x7f == 0x7f),
        ElemType::F8E4M3FNUZ => (4, 3, 8, bits == 0x80),
        ElemType::F8E5M2 if bits & 0x7f == 0x7c => {
            return if bits > 0x7f { -f64::INFINITY } else { f64::INFINITY };
        }
        ElemType::F8E5M2 => (5, 2, 15, bits & 0x7f > 0x7c),
        ElemType::F8E5M2FNUZ => (5, 2, 16, bits == 0x80),
        ElemType::F8E8M0 if bits == 0xff => return f64::NAN,
        ElemType::F8E8M0 => return 2f64.powi(i32::from(bits) - 127),
        _ => (2, 1, 1, false),
    };
    if nan {
        return f64::NAN;
    }
    let mantissa = f64::from(bits & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    let exponent = i32::from((bits >> mantissa_bits) & ((1 << exponent_bits) - 1));
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(1 - bias),
        e => (1.0 + mantissa) * 2f64.powi(e - bias),
    };
    if bits >> (exponent_bits + mantissa_bits) & 1 == 1 { -magnitude } else { magnitude }
}

/// Smallest and largest value of an integer type; `None` for floats.
pub fn range(elem: ElemType) -> Option<(i128, i128)> {
    use ElemType::*;
    let signed = |bits: u32| Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1));
    let unsigned = |bits: u32| Some((0, (1i128 << bits) - 1));
    match elem {
        I64 => signed(64),
        I32 => signed(32),
        I16 => signed(16),
        I8 => signed(8),
        I4 => signed(4),
        I2 => signed(2),
        U64 => unsigned(64),
        U32 => unsigned(32),
        U16 => unsigned(16),
        U8 => unsigned(8),
        U4 => unsigned(4),
        U2 => unsigned(2),
        Bool => unsigned(1),
        _ => None,
    }
}

/// Appends one element.
///
/// # Errors
/// A number that the type cannot hold (a fraction in an integer type, one out of range), or a float type of eight bits
/// or fewer, for which there is no conversion.
pub fn encode(elem: ElemType, number: Number, out: &mut Vec<u8>) -> Result<(), String> {
    if let Some((lo, hi)) = range(elem) {
        let value = match number {
            Number::Int(value) => value,
            Number::Float(value) if value.fract() == 0.0 => value as i128,
            Number::Float(value) => return Err(format!("{value} is not a whole number")),
        };
        if value < lo || value > hi {
            return Err(format!("{value} is outside {lo}..{hi}"));
        }
        out.extend_from_slice(&value.to_le_bytes()[..elem.size()]);
        return Ok(());
    }
    let value = match number {
        Number::Int(value) => value as f64,
        Number::Float(value) => value,
    };
    match elem {
        ElemType::F32 => out.extend_from_slice(&(value as f32).to_le_bytes()),
        ElemType::F64 => out.extend_from_slice(&value.to_le_bytes()),
        ElemType::F16 => out.extend_from_slice(&f16::from_f64(value).to_le_bytes()),
        ElemType::BF16 => out.extend_from_slice(&bf16::from_f64(value).to_le_bytes()),
        _ => return Err(format!("{} values can only come from a file", super::elem_name(elem))),
    }
    Ok(())
}

/// What a person wants to see of a tensor first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Smallest finite element (0 if there is none).
    pub min: f64,
    /// Largest finite element (0 if there is none).
    pub max: f64,
    /// Mean of the finite elements (0 if there is none).
    pub mean: f64,
    /// Elements that are NaN or infinite.
    pub not_finite: usize,
}

impl Summary {
    /// Looks at every element once.
    pub fn of(array: &Array) -> Summary {
        let (mut min, mut max, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0usize);
        for chunk in array.bytes.chunks_exact(array.elem.size()) {
            let value = decode(array.elem, chunk);
            if value.is_finite() {
                (min, max, sum, count) = (min.min(value), max.max(value), sum + value, count + 1);
            }
        }
        let not_finite = array.len() - count;
        if count == 0 {
            return Summary { min: 0.0, max: 0.0, mean: 0.0, not_finite };
        }
        Summary { min, max, mean: sum / count as f64, not_finite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(elem: ElemType, bytes: &[u8]) -> Vec<f64> {
        to_f64(&Array::new(elem, vec![bytes.len() / elem.size()], bytes.to_vec()).unwrap())
    }

    #[test]
    fn narrow_floats_have_their_published_extremes() {
        assert_eq!(values(ElemType::F8E4M3FN, &[0x7e, 0x38, 0x01, 0xb8]), [448.0, 1.0, 2f64.powi(-9), -1.0]);
        assert_eq!(values(ElemType::F8E4M3FNUZ, &[0x7f, 0x40, 0x01]), [240.0, 1.0, 2f64.powi(-10)]);
        assert_eq!(
            values(ElemType::F8E5M2, &[0x7b, 0x3c, 0x01, 0xfc]),
            [57344.0, 1.0, 2f64.powi(-16), -f64::INFINITY]
        );
        assert_eq!(values(ElemType::F8E5M2FNUZ, &[0x7f, 0x40]), [57344.0, 1.0]);
        assert_eq!(values(ElemType::F8E8M0, &[127, 0, 254]), [1.0, 2f64.powi(-127), 2f64.powi(127)]);
        assert_eq!(
            values(ElemType::F4E2M1, &[0, 1, 2, 3, 4, 5, 6, 7, 15]),
            [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -6.0]
        );
        for (elem, nan) in [
            (ElemType::F8E4M3FN, 0xff),
            (ElemType::F8E4M3FNUZ, 0x80),
            (ElemType::F8E5M2, 0x7f),
            (ElemType::F8E5M2FNUZ, 0x80),
            (ElemType::F8E8M0, 0xff),
        ] {
            assert!(values(elem, &[nan])[0].is_nan(), "{elem:?}");
        }
    }

    #[test]
    fn encoding_inverts_decoding_or_refuses() {
        for (elem, number, value) in [
            (ElemType::F32, Number::Float(0.5), 0.5),
            (ElemType::F16, Number::Int(-3), -3.0),
            (ElemType::BF16, Number::Float(1.5), 1.5),
            (ElemType::F64, Number::Float(0.1), 0.1),
            (ElemType::I64, Number::Int(i64::MIN.into()), i64::MIN as f64),
            (ElemType::U16, Number::Float(65535.0), 65535.0),
            (ElemType::I4, Number::Int(-8), -8.0),
            (ElemType::Bool, Number::Int(1), 1.0),
        ] {
            let mut bytes = Vec::new();
            encode(elem, number, &mut bytes).unwrap();
            assert_eq!(values(elem, &bytes), [value], "{elem:?}");
        }
        for (elem, number) in [
            (ElemType::I8, Number::Int(128)),
            (ElemType::U8, Number::Int(-1)),
            (ElemType::I32, Number::Float(0.5)),
            (ElemType::I32, Number::Float(f64::NAN)),
            (ElemType::I64, Number::Float(f64::INFINITY)),
            (ElemType::Bool, Number::Int(2)),
            (ElemType::F8E5M2, Number::Int(1)),
        ] {
            assert!(encode(elem, number, &mut Vec::new()).is_err(), "{elem:?} {number:?}");
        }
    }

    #[test]
    fn summaries_skip_what_is_not_finite() {
        let bytes: Vec<u8> =
            [1.0f32, f32::NAN, -2.0, f32::INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect();
        let array = Array::new(ElemType::F32, vec![4], bytes).unwrap();
        assert_eq!(Summary::of(&array), Summary { min: -2.0, max: 1.0, mean: -0.5, not_finite: 2 });
    }
}
