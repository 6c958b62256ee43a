//! Accuracy of the elementary functions.

use crate::tile::math::{m32, m64};

/// Distance of `got` from `exact` in units of the last place of an f32 there.
fn ulps(got: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if nearest.is_nan() || nearest.is_infinite() || got.is_nan() || got.is_infinite() {
        let same = got == nearest || (got.is_nan() && nearest.is_nan());
        return if same { 0.0 } else { f64::INFINITY };
    }
    let magnitude = nearest.abs().max(f32::MIN_POSITIVE);
    let ulp = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
    (f64::from(got) - exact).abs() / ulp
}

/// Every 997th f32, which meets all exponents and both signs, NaNs and infinities too.
fn samples() -> impl Iterator<Item = f32> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        f32::MAX,
        1e-45,
    ];
    (0..u32::MAX).step_by(997).map(f32::from_bits).chain(special)
}

/// Values where the functions do something: `-span..span`.
fn dense(span: f32) -> impl Iterator<Item = f32> {
    (-500_000..=500_000).map(move |i| i as f32 / 500_000.0 * span)
}

fn check(name: &str, limit: f64, got: fn(f32) -> f32, exact: fn(f64) -> f64, span: f32) {
    let mut worst = (0.0, 0.0);
    for x in samples().chain(dense(span)) {
        let error = ulps(got(x), exact(f64::from(x)));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    assert!(worst.0 <= limit, "{name}({:e}) is off by {} ulp", worst.1, worst.0);
}

#[test]
fn exp_is_accurate() {
    check("exp", 1.5, m32::exp, f64::exp, 104.0);
}

#[test]
fn tanh_is_accurate() {
    check("tanh", 2.3, m32::tanh, f64::tanh, 10.0);
}

#[test]
fn sigmoid_is_accurate() {
    check(
        "sigmoid",
        2.4,
        m32::sigmoid,
        |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) },
        104.0,
    );
}

#[test]
fn log_is_accurate() {
    check("log", 1.5, m32::log, f64::ln, 4.0);
}

/// Maclaurin series where it converges without cancellation, continued fraction of the complement elsewhere.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a > 6.0 {
        return if a.is_nan() { a } else { x.signum() };
    }
    let (mut term, mut sum) = (a, a);
    if a < 2.5 {
        // exp(-a^2) sum 2^k a^(2k+1) / (2k+1)!!, all terms positive.
        for k in 1..120 {
            term *= 2.0 * a * a / f64::from(2 * k + 1);
            sum += term;
        }
        return (2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum).copysign(x);
    }
    let mut fraction = 0.0;
    for k in (1..200).rev() {
        fraction = f64::from(k) / 2.0 / (a + fraction);
    }
    (1.0 - (-a * a).exp() / (a + fraction) / std::f64::consts::PI.sqrt()).copysign(x)
}

#[test]
fn erf_of_f32_is_accurate() {
    check("erf", 2.0, m32::erf, erf, 5.0);
    assert!(m32::erf(-0.0).is_sign_negative() && m32::tanh(-0.0).is_sign_negative());
}

/// (x, erf(x)) to 40 digits by mpmath, rounded.
#[test]
fn erf_of_f64_is_accurate() {
    let known = [
        (1e-300, 1.1283791670955126e-300),
        (1e-08, 1.1283791670955126e-08),
        (0.1, 0.1124629160182849),
        (0.3, 0.3286267594591274),
        (0.46875, 0.49261347321793797),
        (0.47, 0.4937450508860821),
        (0.5, 0.5204998778130465),
        (0.75, 0.7111556336535151),
        (1.0, 0.8427007929497149),
        (1.5, 0.9661051464753108),
        (2.0, 0.9953222650189527),
        (2.5, 0.999593047982555),
        (3.0, 0.9999779095030014),
        (3.9, 0.9999999652077514),
        (4.0, 0.9999999845827421),
        (4.1, 0.9999999932999724),
        (5.0, 0.9999999999984626),
        (5.9, 0.9999999999999999),
        (6.5, 1.0),
    ];
    for (x, exact) in known {
        for (x, exact) in [(x, exact), (-x, -exact)] {
            let got = m64::erf(x);
            assert!((got - exact).abs() <= 1e-15 * exact.abs(), "erf({x}) = {got}, not {exact}");
        }
    }
    assert!(m64::erf(f64::NAN).is_nan());
    assert_eq!(m64::erf(f64::INFINITY), 1.0);
    for i in 0..60_000 {
        let x = f64::from(i) * 1e-4;
        assert!((m64::erf(x) - erf(x)).abs() <= 4e-15, "erf({x})");
    }
}

#[test]
fn sigmoid_of_f64_does_not_overflow() {
    assert_eq!(m64::sigmoid(-1000.0), 0.0);
    assert_eq!(m64::sigmoid(1000.0), 1.0);
    assert!((m64::sigmoid(-700.0) - (-700f64).exp()).abs() < 1e-310);
    assert_eq!(m64::sigmoid(0.0), 0.5);
}

#[test]
fn functions_through_f64_round_once() {
    for i in -2000..2000 {
        let x = i as f32 / 100.0;
        assert_eq!(m32::sin(x), f64::from(x).sin() as f32);
        assert_eq!(m32::asinh(x), f64::from(x).asinh() as f32);
    }
    assert_eq!(m32::pow(2.0, 0.5), std::f32::consts::SQRT_2);
}
