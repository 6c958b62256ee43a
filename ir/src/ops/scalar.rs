//! Scalar functions that the operators apply to each element.

use crate::dtype::DType;

/// The error function, by the series `2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!`, whose terms are all positive.
pub(crate) fn erf(x: f64) -> f64 {
    // 1 - erf(6) is below half a unit in the last place of 1.
    if x.abs() >= 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// `1 / (1 + exp(-x))` without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// -1, 0 or 1; NaN stays.
pub(crate) fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// The larger; NaN wins.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller; NaN wins.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// Remainder with the sign of the divisor, which a zero has too.
pub(crate) fn floor_mod(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r == 0.0 {
        0f64.copysign(b)
    } else if (r < 0.0) != (b < 0.0) {
        r + b
    } else {
        r
    }
}

/// Remainder with the sign of the divisor; 0 for a divisor of 0.
pub(crate) fn int_floor_mod(_: DType, a: i128, b: i128) -> i128 {
    if b == 0 {
        return 0;
    }
    let r = a % b;
    if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
}

/// Remainder with the sign of the dividend; 0 for a divisor of 0.
pub(crate) fn int_trunc_mod(_: DType, a: i128, b: i128) -> i128 {
    if b == 0 { 0 } else { a % b }
}

/// Truncating division; 0 for a divisor of 0.
pub(crate) fn int_div(_: DType, a: i128, b: i128) -> i128 {
    if b == 0 { 0 } else { a / b }
}

/// Wrapping power; a negative exponent gives the truncated reciprocal (0 for base 0).
pub(crate) fn int_pow(_: DType, base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => 1 - 2 * (exponent & 1),
            _ => 0,
        };
    }
    let (mut result, mut square, mut e) = (1i128, base, exponent);
    while e > 0 {
        if e & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        e >>= 1;
    }
    result
}

/// Left shift; 0 when the amount reaches the width.
pub(crate) fn shl(dtype: DType, a: i128, amount: i128) -> i128 {
    if (0..i128::from(dtype.bits())).contains(&amount) { a << amount } else { 0 }
}

/// Right shift; 0 when the amount reaches the width.
pub(crate) fn shr(dtype: DType, a: i128, amount: i128) -> i128 {
    if (0..i128::from(dtype.bits())).contains(&amount) { a >> amount } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_matches_tabulated_values() {
        // Abramowitz and Stegun, "Handbook of Mathematical Functions", table 7.1.
        let table = [
            (0.0, 0.0),
            (0.1, 0.112_462_916_0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (1.5, 0.966_105_146_5),
            (2.0, 0.995_322_265_0),
        ];
        for (x, want) in table {
            assert!((erf(x) - want).abs() < 1e-10 && (erf(-x) + want).abs() < 1e-10, "{x}");
        }
        assert_eq!(erf(f64::INFINITY), 1.0);
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn remainders_take_the_sign_of_their_operand() {
        let t = DType::I64;
        assert_eq!([int_floor_mod(t, -7, 3), int_floor_mod(t, 7, -3), int_floor_mod(t, 7, 0)], [2, -2, 0]);
        assert_eq!([int_trunc_mod(t, -7, 3), int_trunc_mod(t, 7, -3)], [-1, 1]);
        assert_eq!([floor_mod(-7.0, 3.0), floor_mod(7.0, -3.0)], [2.0, -2.0]);
    }

    #[test]
    fn powers_of_integers() {
        let t = DType::I64;
        assert_eq!(
            [int_pow(t, 3, 4), int_pow(t, -1, -3), int_pow(t, 2, -1), int_pow(t, 0, 0)],
            [81, -1, 0, 1]
        );
    }
}
