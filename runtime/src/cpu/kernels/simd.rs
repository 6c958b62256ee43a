//! The vector operations that kernel bodies are written in, and their portable form.
//!
//! Bodies are `#[inline(always)]` functions generic over [`Simd`]; each instruction set instantiates them inside
//! functions with the right `#[target_feature]`, where the intrinsics inline.
#![allow(unsafe_op_in_unsafe_fn, reason = "each function is one operation under the contract of the trait")]

/// One vector register type and its operations.
///
/// # Safety
/// Every method requires that the instruction set is available; those with pointers that the elements they name are
/// valid for the access (no alignment needed).
pub(crate) trait Simd: Copy + 'static {
    /// Elements of a vector.
    const LANES: usize;
    /// A vector.
    type V: Copy;
    /// A set of lanes.
    type M: Copy;
    /// As many 32-bit words as a vector has lanes.
    type I: Copy;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `LANES` elements from `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Writes `LANES` elements to `p`.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` lanes (all when `n >= LANES`).
    unsafe fn mask(n: usize) -> Self::M;
    /// The lanes of `m` from `p`, others 0; touches only the elements of `m`.
    unsafe fn load_mask(p: *const f32, m: Self::M) -> Self::V;
    /// Writes the lanes of `m` only.
    unsafe fn store_mask(p: *mut f32, m: Self::M, v: Self::V);
    /// `a` in the lanes of `m`, `b` in others.
    unsafe fn select(m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// `a + b`
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the hardware can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; a NaN in either wins.
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V;
    /// `x` limited to `lo..=hi`; NaN stays NaN.
    unsafe fn clamp(x: Self::V, lo: Self::V, hi: Self::V) -> Self::V;
    /// `2^n` for whole `n` in `-126..=127`.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// Lanes whose bits are set are successive elements from `p` on, the others 0. Bits from `LANES` on are not set.
    ///
    /// # Safety
    /// The instruction set is available and `LANES` elements from `p` on are valid.
    unsafe fn expand(p: *const f32, bits: u32) -> Self::V;

    /// Hints that `p` is read soon; `p` may be any address.
    unsafe fn prefetch(p: *const f32);
    /// Hints that `p` is read later, but not at once; `p` may be any address.
    unsafe fn prefetch_far(p: *const f32);
    /// Transposes 8 x 8 elements: `dst[i * dst_step + j] = src[j * src_step + i]`.
    unsafe fn transpose8(src: *const f32, src_step: isize, dst: *mut f32, dst_step: usize);
    /// `LANES` words from `p`.
    unsafe fn load_words(p: *const u32) -> Self::I;
    /// Every word without its lowest 2 bits.
    unsafe fn next_code(w: Self::I) -> Self::I;
    /// 4 elements from `p`, repeated over the vector.
    unsafe fn load_four(p: *const f32) -> Self::V;
    /// In each lane that of the 4 elements of a repeated vector that the lowest 2 bits of the word name.
    unsafe fn pick(four: Self::V, w: Self::I) -> Self::V;
}

/// Portable code in blocks of eight.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map2(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    const LANES: usize = 8;
    type V = [f32; 8];
    type M = usize;
    type I = [u32; 8];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        p.cast::<Self::V>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        p.cast::<Self::V>().write_unaligned(v);
    }

    #[inline(always)]
    unsafe fn mask(n: usize) -> Self::M {
        n.min(8)
    }

    #[inline(always)]
    unsafe fn load_mask(p: *const f32, m: Self::M) -> Self::V {
        let mut v = [0.0; 8];
        for (i, x) in v.iter_mut().enumerate().take(m) {
            *x = *p.add(i);
        }
        v
    }

    #[inline(always)]
    unsafe fn store_mask(p: *mut f32, m: Self::M, v: Self::V) {
        for (i, x) in v.into_iter().enumerate().take(m) {
            *p.add(i) = x;
        }
    }

    #[inline(always)]
    unsafe fn select(m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if i < m { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |x, y| x - y)
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |x, y| x * y)
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |x, y| x / y)
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |x, y| if x > y || x.is_nan() { x } else { y })
    }

    #[inline(always)]
    unsafe fn clamp(x: Self::V, lo: Self::V, hi: Self::V) -> Self::V {
        let x = map2(x, lo, |x, lo| if x < lo { lo } else { x });
        map2(x, hi, |x, hi| if x > hi { hi } else { x })
    }

    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        n.map(|n| f32::from_bits((n as i32).wrapping_add(127).cast_unsigned() << 23))
    }

    #[inline(always)]
    unsafe fn expand(p: *const f32, bits: u32) -> Self::V {
        let mut next = p;
        std::array::from_fn(|i| {
            if bits >> i & 1 == 0 {
                return 0.0;
            }
            let x = *next;
            next = next.add(1);
            x
        })
    }

    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_far(_p: *const f32) {}

    #[inline(always)]
    unsafe fn transpose8(src: *const f32, src_step: isize, dst: *mut f32, dst_step: usize) {
        for i in 0..8 {
            for j in 0..8_usize {
                *dst.add(i * dst_step + j) = *src.offset(j.cast_signed() * src_step + i.cast_signed());
            }
        }
    }

    #[inline(always)]
    unsafe fn load_words(p: *const u32) -> Self::I {
        p.cast::<Self::I>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn next_code(w: Self::I) -> Self::I {
        w.map(|w| w >> 2)
    }

    #[inline(always)]
    unsafe fn load_four(p: *const f32) -> Self::V {
        let four = p.cast::<[f32; 4]>().read_unaligned();
        std::array::from_fn(|i| four[i & 3])
    }

    #[inline(always)]
    unsafe fn pick(four: Self::V, w: Self::I) -> Self::V {
        w.map(|w| four[(w & 3) as usize])
    }
}

/// Sum of all lanes.
///
/// # Safety
/// The instruction set is available.
#[inline(always)]
pub(crate) unsafe fn sum_lanes<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0.0; 16];
    S::store(lanes.as_mut_ptr(), v);
    lanes.iter().sum()
}

/// Largest of all lanes; NaN wins.
///
/// # Safety
/// The instruction set is available.
#[inline(always)]
pub(crate) unsafe fn max_lanes<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    S::store(lanes.as_mut_ptr(), v);
    lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b })
}

/// `e^x` within 2 ulp, over the whole range: subnormal results, 0, infinity and NaN included.
///
/// # Safety
/// The instruction set is available.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // 1.5 * 2^23: adding and subtracting it rounds to a whole number.
    const MAGIC: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has 9 significant bits, so its product with a whole number is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Taylor series: with |r| <= ln(2)/2 the remainder is below 6e-9.
    const TERMS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

    // Beyond these the result has already become 0 or infinity.
    let x = S::clamp(x, S::splat(-104.0), S::splat(89.0));
    let magic = S::splat(MAGIC);
    let n = S::sub(S::fma(x, S::splat(std::f32::consts::LOG2_E), magic), magic);
    let r = S::fma(n, S::splat(-LN2_HI), x);
    let r = S::fma(n, S::splat(-LN2_LO), r);
    let mut p = S::splat(1.0 / 5040.0);
    for c in TERMS {
        p = S::fma(p, r, S::splat(c));
    }
    // 2^n in two factors, because 2^n itself may be subnormal or infinite where the result is neither.
    let half = S::sub(S::fma(n, S::splat(0.5), magic), magic);
    S::mul(S::mul(p, S::pow2(half)), S::pow2(S::sub(n, half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks `e^x` on a grid over the whole range, and its special values.
    #[inline(always)]
    unsafe fn check<S: Simd>() {
        let of = |x: f32| {
            let mut lanes = [0.0; 16];
            // SAFETY: the caller's promise; no vector is longer than the array.
            unsafe { S::store(lanes.as_mut_ptr(), exp::<S>(S::splat(x))) };
            lanes[0]
        };
        let mut x = -106.0_f32;
        while x < 91.0 {
            let want = f64::from(x).exp() as f32;
            assert!(of(x).to_bits().abs_diff(want.to_bits()) <= 2, "exp({x}) = {}, want {want}", of(x));
            x += 0.003_7;
        }
        assert_eq!(of(0.0), 1.0);
        assert_eq!(of(-0.0), 1.0);
        assert_eq!(of(f32::NEG_INFINITY), 0.0);
        assert_eq!(of(f32::INFINITY), f32::INFINITY);
        assert_eq!(of(f32::MAX), f32::INFINITY);
        assert!(of(f32::NAN).is_nan());
    }

    #[test]
    fn exp_scalar() {
        // SAFETY: always available.
        unsafe { check::<Scalar>() }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn exp_x86() {
        use crate::cpu::{Isa, kernels::x86};
        #[target_feature(enable = "avx2,fma")]
        fn avx2() {
            // SAFETY: this function requires the instruction set.
            unsafe { check::<x86::Avx2>() }
        }
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn avx512() {
            // SAFETY: this function requires the instruction set.
            unsafe { check::<x86::Avx512>() }
        }
        if Isa::Avx2.is_available() {
            // SAFETY: just checked.
            unsafe { avx2() }
        }
        if Isa::Avx512.is_available() {
            // SAFETY: just checked.
            unsafe { avx512() }
        }
    }
}
