//! Coefficients of the elementary functions of f32, for every provider of compiled loops: those of the interpreter, so that
//! results have equal bits.

/// 1.5 * 2^23: adding it rounds a small number to an integer held in the low bits.
pub const MAGIC: f32 = 12_582_912.0;
/// The high part of ln 2, whose product with a small integer is exact.
pub const LN2_HI: f32 = 0.693_359_4;
/// The rest of ln 2.
pub const LN2_LO: f32 = -2.121_944_4e-4;

/// `erf(x) / x - 1` over `x^2`, highest power first.
pub const ERF_SMALL: [f32; 7] = [
    8.212_781e-5,
    -8.105_055e-4,
    5.197_685e-3,
    -2.685_804_2e-2,
    1.128_367_1e-1,
    -3.761_263_2e-1,
    1.283_791_6e-1,
];
/// `ln(1 - erf(x))` over `x`, highest power first.
pub const ERF_LARGE: [f32; 9] = [
    1.643_569_6e-6,
    -4.617_791_4e-5,
    5.977_435e-4,
    -4.763_575_4e-3,
    2.643_101_8e-2,
    -1.100_944_8e-1,
    -6.318_145e-1,
    -1.130_237_6,
    3.204_415_3e-4,
];
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
