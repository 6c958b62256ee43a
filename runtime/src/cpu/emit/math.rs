//! The elementary functions, operation by operation those of the interpreter, so that results have equal bits.

use super::graph::{Graph, Id, Order};
use crate::tile::native::coefficients::{
    ERF, ERF_END, ERF_SLOPE, ERF_SLOPE_LOW, EXP, LN2_HI, LN2_LO, LOG, MAGIC,
};

impl Graph {
    fn horner(&mut self, x: Id, coefficients: &[f32]) -> Id {
        let mut p = self.float(coefficients[0]);
        for &c in &coefficients[1..] {
            let c = self.float(c);
            p = self.fma(p, x, c);
        }
        p
    }

    /// `x` within bounds; NaN stays.
    fn clamp(&mut self, x: Id, low: f32, high: f32) -> Id {
        let (low, high) = (self.float(low), self.float(high));
        let x = self.above(low, x);
        self.below(high, x)
    }

    /// `n` as i32 and `e^r - 1` with `x = n ln 2 + r`, for `|x|` below about 110.
    fn reduce(&mut self, x: Id) -> (Id, Id) {
        let (log2e, magic) = (self.float(std::f32::consts::LOG2_E), self.float(MAGIC));
        let shifted = self.fma(x, log2e, magic);
        let n = self.int_sub(shifted, magic);
        let whole = self.sub(shifted, magic);
        let (high, low) = (self.float(-LN2_HI), self.float(-LN2_LO));
        let r = self.fma(whole, high, x);
        let r = self.fma(whole, low, r);
        let p = self.horner(r, &EXP);
        let square = self.mul(r, r);
        (n, self.fma(p, square, r))
    }

    /// `2^n` for `-126 <= n <= 127`.
    fn power(&mut self, n: Id) -> Id {
        let bias = self.bits(127);
        let biased = self.int_add(n, bias);
        self.shift_left(biased, 23)
    }

    pub(super) fn exp(&mut self, x: Id) -> Id {
        let x = self.clamp(x, -105.0, 90.0);
        let (n, p) = self.reduce(x);
        let half = self.shift_right(n, 1);
        let rest = self.int_sub(n, half);
        let one = self.float(1.0);
        let e = self.add(p, one);
        let (first, second) = (self.power(half), self.power(rest));
        let e = self.mul(e, first);
        self.mul(e, second)
    }

    pub(super) fn tanh(&mut self, x: Id) -> Id {
        let (one, two) = (self.float(1.0), self.float(2.0));
        let a = self.abs(x);
        let doubled = self.mul(a, two);
        let clamped = self.clamp(doubled, 0.0, 20.0);
        let (n, p) = self.reduce(clamped);
        let scale = self.power(n);
        let less = self.sub(scale, one);
        let e = self.fma(scale, p, less);
        let sum = self.add(e, two);
        let quotient = self.div(e, sum);
        let quotient = self.abs(quotient);
        self.with_sign(quotient, x)
    }

    pub(super) fn sigmoid(&mut self, x: Id) -> Id {
        let (sign, zero, one) = (self.bits(1 << 31), self.float(0.0), self.float(1.0));
        let negative = self.or(x, sign);
        let e = self.exp(negative);
        let below = self.compare(Order::Less, x, zero);
        let numerator = self.blend(below, e, one);
        let denominator = self.add(e, one);
        self.div(numerator, denominator)
    }

    pub(super) fn erf(&mut self, x: Id) -> Id {
        let (a, end) = (self.abs(x), self.float(ERF_END));
        let t = self.below(end, a);
        let p = self.horner(t, &ERF);
        let (low, slope, one) = (self.float(ERF_SLOPE_LOW), self.float(ERF_SLOPE), self.float(1.0));
        let p = self.fma(p, t, low);
        let rest = self.mul(t, p);
        let q = self.fma(t, slope, rest);
        let (n, p) = self.reduce(q);
        let scale = self.power(n);
        let less = self.sub(scale, one);
        let e = self.fma(scale, p, less);
        let magnitude = self.abs(e);
        self.with_sign(magnitude, x)
    }

    pub(super) fn log(&mut self, x: Id) -> Id {
        let (least, factor) = (self.float(f32::MIN_POSITIVE), self.float(8_388_608.0));
        let tiny = self.compare(Order::Less, x, least);
        let larger = self.mul(x, factor);
        let scaled = self.blend(tiny, larger, x);
        let root = self.bits(0x3F35_04F3);
        let bits = self.int_sub(scaled, root);
        let exponent = self.shift_right(bits, 23);
        let places = self.bits(23);
        let correction = self.and(tiny, places);
        let exponent = self.int_sub(exponent, correction);
        let n = self.int_to_float(exponent);
        let mask = self.bits(0x7F_FFFF);
        let fraction = self.and(bits, mask);
        let significand = self.int_add(fraction, root);
        let one = self.float(1.0);
        let m = self.sub(significand, one);
        let p = self.horner(m, &LOG);
        let z = self.mul(m, m);
        let (low, high, half) = (self.float(LN2_LO), self.float(LN2_HI), self.float(-0.5));
        let low = self.mul(n, low);
        let cube = self.mul(z, m);
        let low = self.fma(p, cube, low);
        let low = self.fma(z, half, low);
        let sum = self.add(m, low);
        let y = self.fma(n, high, sum);
        let (infinity, zero) = (self.float(f32::INFINITY), self.float(0.0));
        let infinite = self.compare(Order::Equal, x, infinity);
        let y = self.blend(infinite, x, y);
        let is_zero = self.compare(Order::Equal, x, zero);
        let least = self.float(f32::NEG_INFINITY);
        let y = self.blend(is_zero, least, y);
        let has_one = self.compare(Order::GreaterOrEqual, x, zero);
        let nan = self.float(f32::NAN);
        self.blend(has_one, y, nan)
    }
}
