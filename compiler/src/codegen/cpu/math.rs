//! The elementary functions of f32, operation by operation those of the interpreter, so that results have equal bits.

use super::emit::Emitter;
use autoglm_runtime::tile::native::coefficients::{
    ERF, ERF_END, ERF_SLOPE, ERF_SLOPE_LOW, EXP, LN2_HI, LN2_LO, LOG, MAGIC,
};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, I32, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

impl Emitter<'_> {
    fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.b.ins().fma(a, b, c)
    }

    fn horner(&mut self, x: Value, coefficients: &[f32]) -> Value {
        let mut p = self.f32s(coefficients[0]);
        for &c in &coefficients[1..] {
            let c = self.f32s(c);
            p = self.fma(p, x, c);
        }
        p
    }

    /// `x` within bounds; NaN stays.
    fn clamp(&mut self, x: Value, low: f32, high: f32) -> Value {
        let low = self.f32s(low);
        let x = self.above(low, x);
        let high = self.f32s(high);
        self.below(high, x)
    }

    fn abs(&mut self, x: Value) -> Value {
        let mask = self.sign_mask(F32X4, false);
        self.and(x, mask)
    }

    /// `magnitude`, which has no sign, with the sign of `x`.
    fn with_sign(&mut self, magnitude: Value, x: Value) -> Value {
        let mask = self.sign_mask(F32X4, true);
        let sign = self.and(x, mask);
        self.or(magnitude, sign)
    }

    /// `n` as i32 and `e^r - 1` with `x = n ln 2 + r`, for `|x|` below about 110.
    fn reduce(&mut self, x: Value) -> (Value, Value) {
        let (log2e, magic) = (self.f32s(std::f32::consts::LOG2_E), self.f32s(MAGIC));
        let shifted = self.fma(x, log2e, magic);
        let (bits, magic_bits) = (self.cast(I32X4, shifted), self.all32(I32X4, MAGIC.to_bits()));
        let n = self.b.ins().isub(bits, magic_bits);
        let magic = self.f32s(MAGIC);
        let whole = self.b.ins().fsub(shifted, magic);
        let high = self.f32s(-LN2_HI);
        let r = self.fma(whole, high, x);
        let low = self.f32s(-LN2_LO);
        let r = self.fma(whole, low, r);
        let p = self.horner(r, &EXP);
        let square = self.b.ins().fmul(r, r);
        (n, self.fma(p, square, r))
    }

    /// `2^n` for `-126 <= n <= 127`.
    fn power(&mut self, n: Value) -> Value {
        let bias = self.all32(I32X4, 127);
        let biased = self.b.ins().iadd(n, bias);
        let places = self.b.ins().iconst(I32, 23);
        let bits = self.b.ins().ishl(biased, places);
        self.cast(F32X4, bits)
    }

    pub(super) fn exp(&mut self, x: Value) -> Value {
        let x = self.clamp(x, -105.0, 90.0);
        let (n, p) = self.reduce(x);
        let one = self.b.ins().iconst(I32, 1);
        let half = self.b.ins().sshr(n, one);
        let rest = self.b.ins().isub(n, half);
        let one = self.f32s(1.0);
        let e = self.b.ins().fadd(p, one);
        let (first, second) = (self.power(half), self.power(rest));
        let e = self.b.ins().fmul(e, first);
        self.b.ins().fmul(e, second)
    }

    pub(super) fn tanh(&mut self, x: Value) -> Value {
        let two = self.f32s(2.0);
        let a = self.abs(x);
        let doubled = self.b.ins().fmul(two, a);
        let clamped = self.clamp(doubled, 0.0, 20.0);
        let (n, p) = self.reduce(clamped);
        let scale = self.power(n);
        let one = self.f32s(1.0);
        let less = self.b.ins().fsub(scale, one);
        let e = self.fma(scale, p, less);
        let two = self.f32s(2.0);
        let sum = self.b.ins().fadd(e, two);
        let quotient = self.b.ins().fdiv(e, sum);
        let quotient = self.abs(quotient);
        self.with_sign(quotient, x)
    }

    pub(super) fn sigmoid(&mut self, x: Value) -> Value {
        let sign = self.sign_mask(F32X4, true);
        let negative = self.or(x, sign);
        let e = self.exp(negative);
        let zero = self.f32s(0.0);
        let below = self.b.ins().fcmp(FloatCC::LessThan, x, zero);
        let one = self.f32s(1.0);
        let numerator = self.choose(below, e, one);
        let denominator = self.b.ins().fadd(one, e);
        self.b.ins().fdiv(numerator, denominator)
    }

    pub(super) fn erf(&mut self, x: Value) -> Value {
        let (a, end) = (self.abs(x), self.f32s(ERF_END));
        let t = self.below(end, a);
        let p = self.horner(t, &ERF);
        let low = self.f32s(ERF_SLOPE_LOW);
        let p = self.fma(p, t, low);
        let rest = self.b.ins().fmul(t, p);
        let slope = self.f32s(ERF_SLOPE);
        let q = self.fma(t, slope, rest);
        let (n, p) = self.reduce(q);
        let scale = self.power(n);
        let one = self.f32s(1.0);
        let less = self.b.ins().fsub(scale, one);
        let e = self.fma(scale, p, less);
        let magnitude = self.abs(e);
        self.with_sign(magnitude, x)
    }

    pub(super) fn log(&mut self, x: Value) -> Value {
        let least = self.f32s(f32::MIN_POSITIVE);
        let tiny = self.b.ins().fcmp(FloatCC::LessThan, x, least);
        let factor = self.f32s(8_388_608.0);
        let larger = self.b.ins().fmul(x, factor);
        let scaled = self.choose(tiny, larger, x);
        let bits = self.cast(I32X4, scaled);
        let root = self.all32(I32X4, 0x3F35_04F3);
        let bits = self.b.ins().isub(bits, root);
        let places = self.b.ins().iconst(I32, 23);
        let exponent = self.b.ins().sshr(bits, places);
        let correction = self.all32(I32X4, 23);
        let correction = self.b.ins().band(tiny, correction);
        let exponent = self.b.ins().isub(exponent, correction);
        let n = self.b.ins().fcvt_from_sint(F32X4, exponent);
        let mask = self.all32(I32X4, 0x7F_FFFF);
        let fraction = self.b.ins().band(bits, mask);
        let root = self.all32(I32X4, 0x3F35_04F3);
        let significand = self.b.ins().iadd(fraction, root);
        let significand = self.cast(F32X4, significand);
        let one = self.f32s(1.0);
        let m = self.b.ins().fsub(significand, one);
        let p = self.horner(m, &LOG);
        let z = self.b.ins().fmul(m, m);
        let low = self.f32s(LN2_LO);
        let low = self.b.ins().fmul(n, low);
        let cube = self.b.ins().fmul(z, m);
        let low = self.fma(p, cube, low);
        let half = self.f32s(-0.5);
        let low = self.fma(z, half, low);
        let sum = self.b.ins().fadd(m, low);
        let high = self.f32s(LN2_HI);
        let y = self.fma(n, high, sum);
        self.log_special(x, y)
    }

    /// `y`, but the logarithm of infinity, of zeros, and of numbers that have none.
    fn log_special(&mut self, x: Value, y: Value) -> Value {
        let infinity = self.f32s(f32::INFINITY);
        let infinite = self.b.ins().fcmp(FloatCC::Equal, x, infinity);
        let y = self.choose(infinite, x, y);
        let zero = self.f32s(0.0);
        let is_zero = self.b.ins().fcmp(FloatCC::Equal, x, zero);
        let least = self.f32s(f32::NEG_INFINITY);
        let y = self.choose(is_zero, least, y);
        let has_one = self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, zero);
        let nan = self.f32s(f32::NAN);
        self.choose(has_one, y, nan)
    }

    /// -1, 0 or 1 of signed integers of 64 bits.
    pub(super) fn signum(&mut self, x: Value) -> Value {
        let zero = self.pair(0, 0);
        let negative = self.b.ins().icmp(IntCC::SignedLessThan, x, zero);
        let positive = self.b.ins().icmp(IntCC::SignedGreaterThan, x, zero);
        self.b.ins().isub(negative, positive)
    }
}
