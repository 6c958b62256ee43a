//! Coefficients of the elementary functions of f32, for the interpreter and every provider of compiled loops, so that results
//! have equal bits. Those of `ERF` and `LOG` are fits made for this file, with relative errors below 1e-8 on their intervals.

/// 1.5 * 2^23: adding it rounds a small number to an integer held in the low bits.
pub const MAGIC: f32 = 12_582_912.0;
/// The high part of ln 2, whose product with a small integer is exact.
pub const LN2_HI: f32 = 0.693_359_4;
/// The rest of ln 2.
pub const LN2_LO: f32 = -2.121_944_4e-4;

/// `(e^r - 1 - r) / r^2` over `r`, highest power first: the series of Taylor, whose first term left out is below 6e-9 for
/// `|r| <= ln 2 / 2`.
pub const EXP: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];
/// `(ln(1 - erf(x)) / x - ERF_SLOPE - ERF_SLOPE_LOW) / x` over `x` in `[0, ERF_END]`, highest power first.
pub const ERF: [f32; 8] = [
    9.256_443e-6,
    -1.176_427_8e-4,
    6.328_42e-4,
    -1.667_036_2e-3,
    1.604_041_3e-4,
    1.915_306e-2,
    -1.027_778_3e-1,
    -6.366_194e-1,
];
/// The limit of `ln(1 - erf(x)) / x` at 0, `-2 / sqrt(pi)`.
pub const ERF_SLOPE: f32 = -std::f32::consts::FRAC_2_SQRT_PI;
/// What the fit adds to [`ERF_SLOPE`].
pub const ERF_SLOPE_LOW: f32 = 5.412_079_7e-8;
/// From here on `erf` rounds to 1.
pub const ERF_END: f32 = 3.92;

/// `(ln(1 + m) - m + m^2 / 2) / m^3` over `m`, highest power first.
pub const LOG: [f32; 9] = [
    6.971_612e-2,
    -1.147_973_4e-1,
    1.168_542e-1,
    -1.242_568_7e-1,
    1.424_905_8e-1,
    -1.666_780_2e-1,
    2.000_071_6e-1,
    -2.499_999_7e-1,
    3.333_333e-1,
];
