//! Bit patterns of the element types: widening reads and rounding writes.
//!
//! Float8 and float4 kinds follow the tables of the ONNX `Cast` operator and "OCP 8-bit Floating Point Specification"
//! / "OCP Microscaling Formats" (2023).

use crate::dtype::DType;

/// Layout of a small float format.
struct Small {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    kind: Special,
    signed: bool,
}

/// Which codes of a small format are not numbers.
#[derive(PartialEq)]
enum Special {
    /// All-ones exponent: infinity (mantissa 0) and NaN.
    Ieee,
    /// Only the all-ones code is NaN, no infinity.
    Fn,
    /// Negative zero is NaN, no infinity.
    FnUz,
    /// Neither.
    Finite,
}

const fn small(dtype: DType) -> Option<Small> {
    let (exponent_bits, mantissa_bits, bias, kind) = match dtype {
        DType::F8E4M3FN => (4, 3, 7, Special::Fn),
        DType::F8E4M3FNUZ => (4, 3, 8, Special::FnUz),
        DType::F8E5M2 => (5, 2, 15, Special::Ieee),
        DType::F8E5M2FNUZ => (5, 2, 16, Special::FnUz),
        DType::F4E2M1 => (2, 1, 1, Special::Finite),
        _ => return None,
    };
    Some(Small { exponent_bits, mantissa_bits, bias, kind, signed: true })
}

impl Small {
    fn decode(&self, code: u8) -> f64 {
        let magnitude_bits = self.exponent_bits + self.mantissa_bits;
        let sign = if self.signed && code >> magnitude_bits & 1 == 1 { -1.0 } else { 1.0 };
        let magnitude = code & ((1u16 << magnitude_bits) - 1) as u8;
        let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
        let exponent = i32::from(magnitude >> self.mantissa_bits);
        let top = (1 << self.exponent_bits) - 1;
        match self.kind {
            Special::FnUz if sign < 0.0 && magnitude == 0 => return f64::NAN,
            Special::Fn if u32::from(magnitude) == (1 << magnitude_bits) - 1 => return f64::NAN,
            Special::Ieee if exponent == top => {
                return if mantissa == 0 { sign * f64::INFINITY } else { f64::NAN };
            }
            _ => {}
        }
        let scale = 2f64.powi(-(self.mantissa_bits as i32));
        let fraction = f64::from(mantissa) * scale;
        sign * if exponent == 0 {
            fraction * 2f64.powi(1 - self.bias)
        } else {
            (1.0 + fraction) * 2f64.powi(exponent - self.bias)
        }
    }

    /// Largest finite code (without sign).
    fn max_code(&self) -> u8 {
        let all = (1u16 << (self.exponent_bits + self.mantissa_bits)) - 1;
        (match self.kind {
            Special::Ieee => all - (1 << self.mantissa_bits),
            Special::Fn => all - 1,
            Special::FnUz | Special::Finite => all,
        }) as u8
    }

    fn nan(&self) -> u8 {
        let bits = self.exponent_bits + self.mantissa_bits;
        match self.kind {
            Special::FnUz => 1 << bits,
            Special::Finite => self.max_code(),
            Special::Fn | Special::Ieee => ((1u16 << bits) - 1) as u8,
        }
    }

    fn encode(&self, x: f64, saturate: bool) -> u8 {
        let bits = self.exponent_bits + self.mantissa_bits;
        let sign = if x.is_sign_negative() { 1u8 << bits } else { 0 };
        if x.is_nan() {
            return self.nan() | if self.kind == Special::FnUz { 0 } else { sign };
        }
        let magnitude = self.nearest(x.abs());
        let overflow = magnitude.is_none();
        let code = match magnitude {
            Some(code) => code,
            None if saturate || self.kind == Special::Finite => self.max_code(),
            None if self.kind == Special::Ieee => self.max_code() + 1,
            None if self.kind == Special::FnUz => return self.nan(),
            None => self.nan(),
        };
        if self.kind == Special::FnUz && code == 0 && !overflow { 0 } else { code | sign }
    }

    /// Code of the nearest value, ties to even; `None` when it rounds beyond the largest.
    fn nearest(&self, x: f64) -> Option<u8> {
        let max = self.decode(self.max_code());
        if x.is_infinite() {
            return None;
        }
        let exponent = if x == 0.0 { 1 - self.bias } else { (x.log2().floor() as i32).max(1 - self.bias) };
        // One unit in the last place at this exponent; log2 may be off by one next to a power of two, which the
        // comparison of the rounded neighbours below absorbs.
        let ulp = 2f64.powi(exponent - self.mantissa_bits as i32);
        let rounded = (x / ulp).round_ties_even() * ulp;
        if rounded > max {
            return None;
        }
        // Codes are ordered like their values.
        let (mut lo, mut hi) = (0u8, self.max_code());
        while lo < hi {
            let mid = lo + (hi - lo) / 2;
            if self.decode(mid) < rounded { lo = mid + 1 } else { hi = mid }
        }
        Some(lo)
    }
}

/// Widens one element of a float type from its bytes.
pub fn float(dtype: DType, bytes: &[u8]) -> f64 {
    match (dtype, bytes) {
        (DType::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        (DType::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (DType::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f64(),
        (DType::BF16, &[a, b]) => half::bf16::from_le_bytes([a, b]).to_f64(),
        (DType::F8E8M0, &[255]) => f64::NAN,
        (DType::F8E8M0, &[code]) => 2f64.powi(i32::from(code) - 127),
        (_, &[code]) => small(dtype).map_or(f64::NAN, |s| s.decode(code)),
        _ => f64::NAN,
    }
}

/// Widens one element of an integer type or bool from its bytes.
pub fn int(dtype: DType, bytes: &[u8]) -> i128 {
    let mut wide = [0u8; 8];
    wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    let raw = u64::from_le_bytes(wide);
    match dtype {
        DType::Bool => i128::from(raw != 0),
        _ => wrap(dtype, i128::from(raw)),
    }
}

/// Wraps to the range of an integer type, two's complement.
pub fn wrap(dtype: DType, v: i128) -> i128 {
    match dtype.int_range() {
        // Masking first keeps the sum below from overflowing.
        Some((lo, hi)) => (((v & (hi - lo)) - lo) & (hi - lo)) + lo,
        None => v,
    }
}

/// Appends an integer, wrapped; for float types its nearest value; for bool whether it is not 0.
pub fn push_int(dtype: DType, v: i128, into: &mut Vec<u8>) {
    match dtype {
        DType::Bool => into.push(u8::from(v != 0)),
        _ if dtype.is_float() => push_float(dtype, v as f64, into),
        _ => into.extend_from_slice(&(v as u128).to_le_bytes()[..dtype.size()]),
    }
    // Narrow unsigned kinds keep their high bits clear, narrow signed kinds keep the sign extension of a byte.
    if let (Some(last), true) = (into.last_mut(), dtype.is_int() && dtype.bits() < 8) {
        *last = wrap(dtype, v) as u8;
    }
}

/// Appends a float, rounded to nearest even; float8 kinds saturate, integers truncate and wrap.
pub fn push_float(dtype: DType, v: f64, into: &mut Vec<u8>) {
    push_float_as(dtype, v, true, into);
}

/// As [`push_float`], with ONNX's `saturate` for float8 kinds.
pub fn push_float_as(dtype: DType, v: f64, saturate: bool, into: &mut Vec<u8>) {
    // Hosts differ in the sign of the NaN that arithmetic gives; results must not.
    let v = if v.is_nan() { f64::NAN } else { v };
    match dtype {
        DType::F64 => into.extend_from_slice(&v.to_le_bytes()),
        DType::F32 => into.extend_from_slice(&(v as f32).to_le_bytes()),
        DType::F16 => into.extend_from_slice(&half::f16::from_f64(v).to_le_bytes()),
        DType::BF16 => into.extend_from_slice(&half::bf16::from_f64(v).to_le_bytes()),
        DType::F8E8M0 => into.push(e8m0(v, saturate)),
        DType::Bool => into.push(u8::from(v != 0.0)),
        _ => match small(dtype) {
            Some(s) => into.push(s.encode(v, saturate)),
            None => push_int(dtype, v as i128, into),
        },
    }
}

/// The power of two nearest to the magnitude of `v`, ties up. What is not finite is NaN, and so is what is nearer to a
/// power beyond the largest unless `saturate`.
fn e8m0(v: f64, saturate: bool) -> u8 {
    if !v.is_finite() {
        return 255;
    }
    let size = v.abs().max(2f64.powi(-127));
    let exponent = size.log2().floor();
    let up = size / exponent.exp2() >= 1.5;
    let code = exponent as i32 + 127 + i32::from(up);
    if code > 254 && !saturate { 255 } else { code.clamp(0, 254) as u8 }
}

#[cfg(test)]
mod tests {
    use super::e8m0;

    #[test]
    fn powers_of_two_drop_the_sign_and_have_no_infinity() {
        let cases = [
            (1.0, 127, 127),
            (-2.0, 128, 128),
            (1.49, 127, 127),
            (1.5, 128, 128),
            (0.0, 0, 0),
            (1.75 * 127f64.exp2(), 254, 255),
            (f64::INFINITY, 255, 255),
            (f64::NEG_INFINITY, 255, 255),
            (f64::NAN, 255, 255),
        ];
        for (v, saturated, wrapped) in cases {
            assert_eq!((e8m0(v, true), e8m0(v, false)), (saturated, wrapped), "{v}");
        }
    }
}
