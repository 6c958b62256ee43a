//! Elementary functions. Where they use fused multiply-add they say so with `mul_add`, which rounds once on every
//! processor, so every instruction set gives the same bits (one without it pays a library call).
#![allow(clippy::excessive_precision, reason = "coefficients are written as their sources print them")]

pub(crate) mod m32 {
    //! f32: `exp`, `erf`, `tanh`, `sigmoid`, `log` have no branches, so loops over them are vectorised; the others go
    //! through f64 and round once.

    use crate::tile::native::coefficients::{
        ERF, ERF_END, ERF_SLOPE, ERF_SLOPE_LOW, EXP, LN2_HI, LN2_LO, LOG, MAGIC,
    };

    #[inline(always)]
    fn horner<const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
        coefficients[1..].iter().fold(coefficients[0], |p, &c| p.mul_add(x, c))
    }

    /// `n` and `e^r - 1` with `x = n ln 2 + r`, for `|x|` below about 110.
    #[inline(always)]
    fn reduce(x: f32) -> (i32, f32) {
        let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
        let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
        let whole = shifted - MAGIC;
        let r = whole.mul_add(-LN2_LO, whole.mul_add(-LN2_HI, x));
        let p = horner(r, &EXP);
        (n, p.mul_add(r * r, r))
    }

    /// `2^n` for `-126 <= n <= 127`.
    #[inline(always)]
    fn power(n: i32) -> f32 {
        f32::from_bits((n.wrapping_add(127) as u32) << 23)
    }

    /// `x` within bounds; NaN stays.
    #[inline(always)]
    fn clamp(x: f32, low: f32, high: f32) -> f32 {
        let x = if x < low { low } else { x };
        if x > high { high } else { x }
    }

    #[inline(always)]
    pub(crate) fn exp(x: f32) -> f32 {
        let (n, p) = reduce(clamp(x, -105.0, 90.0));
        // Two steps, so that neither factor leaves the range of normal numbers and a denormal result is rounded once.
        let half = n >> 1;
        (p + 1.0) * power(half) * power(n.wrapping_sub(half))
    }

    #[inline(always)]
    pub(crate) fn tanh(x: f32) -> f32 {
        let (n, p) = reduce(clamp(2.0 * x.abs(), 0.0, 20.0));
        let scale = power(n);
        let e = scale.mul_add(p, scale - 1.0);
        (e / (e + 2.0)).copysign(x)
    }

    #[inline(always)]
    pub(crate) fn sigmoid(x: f32) -> f32 {
        let e = exp(-x.abs());
        (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    /// `1 - e^q` with `q = ln(1 - erf(|x|))`, which `e^q - 1` keeps accurate near 0.
    #[inline(always)]
    pub(in crate::tile) fn erf(x: f32) -> f32 {
        let t = x.abs();
        let t = if t > ERF_END { ERF_END } else { t };
        let p = horner(t, &ERF).mul_add(t, ERF_SLOPE_LOW);
        let (n, p) = reduce(t.mul_add(ERF_SLOPE, t * p));
        let scale = power(n);
        scale.mul_add(p, scale - 1.0).copysign(x)
    }

    #[inline(always)]
    pub(crate) fn log(x: f32) -> f32 {
        // Denormals are scaled into the normal range first.
        let tiny = x < f32::MIN_POSITIVE;
        let scaled = if tiny { x * 8_388_608.0 } else { x };
        // Significand within [sqrt(1/2), sqrt(2)).
        let bits = scaled.to_bits().wrapping_sub(0x3F35_04F3) as i32;
        let n = (bits >> 23).wrapping_sub(if tiny { 23 } else { 0 }) as f32;
        let m = f32::from_bits(((bits & 0x7F_FFFF) as u32).wrapping_add(0x3F35_04F3)) - 1.0;
        let p = horner(m, &LOG);
        let z = m * m;
        let low = z.mul_add(-0.5, p.mul_add(z * m, n * LN2_LO));
        let y = n.mul_add(LN2_HI, m + low);
        let y = if x == f32::INFINITY { x } else { y };
        let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
        if x >= 0.0 { y } else { f32::NAN }
    }

    macro_rules! through_f64 {
        ($($name:ident)*) => {
            $(#[inline(always)]
            pub(in crate::tile) fn $name(x: f32) -> f32 {
                f64::from(x).$name() as f32
            })*
        };
    }
    through_f64!(sin cos tan asin acos atan sinh cosh asinh acosh atanh);

    #[inline(always)]
    pub(in crate::tile) fn pow(x: f32, y: f32) -> f32 {
        x.powf(y)
    }
}

pub(super) mod m64 {
    //! f64: the platform's functions, and `erf`.

    macro_rules! std_functions {
        ($($name:ident = $method:ident)*) => {
            $(#[inline(always)]
            pub(in crate::tile) fn $name(x: f64) -> f64 {
                x.$method()
            })*
        };
    }
    std_functions!(exp = exp log = ln sin = sin cos = cos tan = tan asin = asin acos = acos atan = atan
        sinh = sinh cosh = cosh tanh = tanh asinh = asinh acosh = acosh atanh = atanh);

    #[inline(always)]
    pub(in crate::tile) fn pow(x: f64, y: f64) -> f64 {
        x.powf(y)
    }

    pub(in crate::tile) fn sigmoid(x: f64) -> f64 {
        let e = (-x.abs()).exp();
        (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    /// Numerator and denominator, highest power first.
    fn rational(x: f64, numerator: &[f64], denominator: &[f64]) -> f64 {
        let horner = |coefficients: &[f64]| coefficients.iter().fold(0.0, |acc, c| acc * x + c);
        horner(numerator) / horner(denominator)
    }

    /// Rational approximations of W. J. Cody, "Rational Chebyshev approximations for the error function",
    /// Mathematics of Computation 23 (1969).
    #[allow(clippy::excessive_precision, reason = "the digits as published")]
    pub(in crate::tile) fn erf(x: f64) -> f64 {
        const A: [f64; 5] = [
            1.857_777_061_846_031_53e-1,
            3.161_123_743_870_565_60,
            1.138_641_541_510_501_56e2,
            3.774_852_376_853_020_21e2,
            3.209_377_589_138_469_47e3,
        ];
        const B: [f64; 5] = [
            1.0,
            2.360_129_095_234_412_09e1,
            2.440_246_379_344_441_73e2,
            1.282_616_526_077_372_28e3,
            2.844_236_833_439_170_62e3,
        ];
        const C: [f64; 9] = [
            2.153_115_354_744_038_46e-8,
            5.641_884_969_886_700_89e-1,
            8.883_149_794_388_375_94,
            6.611_919_063_714_162_95e1,
            2.986_351_381_974_001_31e2,
            8.819_522_212_417_690_90e2,
            1.712_047_612_634_070_58e3,
            2.051_078_377_826_071_47e3,
            1.230_339_354_797_997_25e3,
        ];
        const D: [f64; 9] = [
            1.0,
            1.574_492_611_070_983_47e1,
            1.176_939_508_913_124_99e2,
            5.371_811_018_620_098_58e2,
            1.621_389_574_566_690_19e3,
            3.290_799_235_733_459_63e3,
            4.362_619_090_143_247_16e3,
            3.439_367_674_143_721_64e3,
            1.230_339_354_803_749_42e3,
        ];
        const P: [f64; 6] = [
            1.631_538_713_730_209_78e-2,
            3.053_266_349_612_323_44e-1,
            3.603_448_999_498_044_39e-1,
            1.257_817_261_112_292_46e-1,
            1.608_378_514_874_227_66e-2,
            6.587_491_615_298_378_03e-4,
        ];
        const Q: [f64; 6] = [
            1.0,
            2.568_520_192_289_822_42,
            1.872_952_849_923_467_25,
            5.279_051_029_514_284_12e-1,
            6.051_834_131_244_131_91e-2,
            2.335_204_976_268_691_85e-3,
        ];
        const INV_SQRT_PI: f64 = 0.564_189_583_547_756_28;
        let a = x.abs();
        if a <= 0.468_75 {
            return x * rational(x * x, &A, &B);
        }
        if x.is_nan() || a > 6.0 {
            return if x.is_nan() { x } else { 1f64.copysign(x) };
        }
        let complement = if a <= 4.0 {
            rational(a, &C, &D)
        } else {
            let z = 1.0 / (a * a);
            (INV_SQRT_PI - z * rational(z, &P, &Q)) / a
        };
        // exp(-a^2) with the square split, so that its rounding error is not magnified.
        let high = (a * 16.0).trunc() / 16.0;
        let low = (a - high) * (a + high);
        (1.0 - (-high * high).exp() * (-low).exp() * complement).copysign(x)
    }
}
