//! Loops as one would write them in Rust, vectorised by its compiler for AVX2: what generated code is measured against.

use crate::tile::TileIsa;
use crate::tile::math::m32;

/// `max(a + b, 0)` of two numbers.
#[inline(always)]
fn add_relu(a: f32, b: f32) -> f32 {
    let sum = a + b;
    if sum < 0.0 { 0.0 } else { sum }
}

/// Scale, shift, clip and gate `a`, and add `b`.
#[inline(always)]
fn chain(a: f32, b: f32) -> f32 {
    let shifted = a * 0.17 + 0.5;
    let raised = if shifted < 0.0 { 0.0 } else { shifted };
    let gate = if raised > 1.0 { 1.0 } else { raised };
    a * gate + b
}

#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    0.5 * (x * (1.0 + m32::erf(x * std::f32::consts::FRAC_1_SQRT_2)))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * (x * x * x));
    0.5 * (x * (1.0 + m32::tanh(inner)))
}

macro_rules! loops {
    ($($(#[$doc:meta])* $name:ident = |$a:ident, $b:ident| $e:expr;)*) => {
        $($(#[$doc])*
        ///
        /// Does nothing where the processor has no AVX2.
        pub fn $name(a: &[f32], b: &[f32], y: &mut [f32]) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2(a: &[f32], b: &[f32], y: &mut [f32]) {
                    for ((y, &$a), &$b) in y.iter_mut().zip(a).zip(b) {
                        *y = $e;
                    }
                }
                if TileIsa::Avx2.is_supported() {
                    // SAFETY: the processor has the instructions.
                    unsafe { avx2(a, b, y) }
                }
            }
        })*
    };
}
loops! {
    /// `max(a + b, 0)`.
    sums = |a, b| add_relu(a, b);
    /// `a * min(max(0.17 * a + 0.5, 0), 1) + b`.
    chains = |a, b| chain(a, b);
    /// `exp(a)`.
    exps = |a, _b| m32::exp(a);
    /// GELU of `a` by the error function.
    gelus_erf = |a, _b| gelu_erf(a);
    /// GELU of `a` by the hyperbolic tangent.
    gelus_tanh = |a, _b| gelu_tanh(a);
}
