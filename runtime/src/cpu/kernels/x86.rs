//! AVX2+FMA and AVX-512F forms of [`Simd`].
#![allow(unsafe_op_in_unsafe_fn, reason = "each function is one intrinsic under the contract of the trait")]

use super::simd::Simd;
use std::arch::x86_64::*;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// `LANE_MASKS[8 - n..]` starts with `n` set lanes.
static LANE_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// For each byte of bits: which of successive elements each lane takes, a byte a lane.
static SOURCES: [u64; 256] = {
    let mut all = [0; 256];
    let mut bits = 0;
    while bits < 256 {
        let mut lane = 0;
        while lane < 8 {
            let below = bits as u8 & ((1_u16 << lane) - 1) as u8;
            all[bits] |= (below.count_ones() as u64) << (8 * lane);
            lane += 1;
        }
        bits += 1;
    }
    all
};

impl Simd for Avx2 {
    const LANES: usize = 8;
    type V = __m256;
    type M = __m256i;
    type I = __m256i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        _mm256_set1_ps(x)
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        _mm256_loadu_ps(p)
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        _mm256_storeu_ps(p, v);
    }

    #[inline(always)]
    unsafe fn mask(n: usize) -> Self::M {
        _mm256_loadu_si256(LANE_MASKS.as_ptr().add(8 - n.min(8)).cast())
    }

    #[inline(always)]
    unsafe fn load_mask(p: *const f32, m: Self::M) -> Self::V {
        _mm256_maskload_ps(p, m)
    }

    #[inline(always)]
    unsafe fn store_mask(p: *mut f32, m: Self::M, v: Self::V) {
        _mm256_maskstore_ps(p, m, v);
    }

    #[inline(always)]
    unsafe fn select(m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        _mm256_blendv_ps(b, a, _mm256_castsi256_ps(m))
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        _mm256_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        _mm256_sub_ps(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        _mm256_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        _mm256_div_ps(a, b)
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V {
        // The instruction gives its second operand when either is NaN, so only a NaN in `a` needs mending.
        _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }

    #[inline(always)]
    unsafe fn clamp(x: Self::V, lo: Self::V, hi: Self::V) -> Self::V {
        // `x` second: a NaN is kept.
        _mm256_min_ps(hi, _mm256_max_ps(lo, x))
    }

    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }

    #[inline(always)]
    unsafe fn expand(p: *const f32, bits: u32) -> Self::V {
        let sources = _mm_cvtsi64_si128(SOURCES[(bits & 255) as usize].cast_signed());
        let packed = _mm256_permutevar8x32_ps(_mm256_loadu_ps(p), _mm256_cvtepu8_epi32(sources));
        let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let set = _mm256_and_si256(_mm256_set1_epi32(bits.cast_signed()), lanes);
        _mm256_and_ps(packed, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lanes)))
    }

    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }

    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }

    #[inline(always)]
    unsafe fn transpose8(src: *const f32, src_step: isize, dst: *mut f32, dst_step: usize) {
        let mut r = [_mm256_setzero_ps(); 8];
        for (j, row) in r.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(src.offset(j.cast_signed() * src_step));
        }
        // Pairs, then quadruples of rows, within each half of 4 columns; then the halves.
        let mut pairs = r;
        for j in (0..8).step_by(2) {
            pairs[j] = _mm256_unpacklo_ps(r[j], r[j + 1]);
            pairs[j + 1] = _mm256_unpackhi_ps(r[j], r[j + 1]);
        }
        let mut fours = pairs;
        for j in [0, 4] {
            fours[j] = _mm256_shuffle_ps::<0x44>(pairs[j], pairs[j + 2]);
            fours[j + 1] = _mm256_shuffle_ps::<0xEE>(pairs[j], pairs[j + 2]);
            fours[j + 2] = _mm256_shuffle_ps::<0x44>(pairs[j + 1], pairs[j + 3]);
            fours[j + 3] = _mm256_shuffle_ps::<0xEE>(pairs[j + 1], pairs[j + 3]);
        }
        for j in 0..4 {
            let (low, high) = (fours[j], fours[j + 4]);
            _mm256_storeu_ps(dst.add(j * dst_step), _mm256_permute2f128_ps::<0x20>(low, high));
            _mm256_storeu_ps(dst.add((j + 4) * dst_step), _mm256_permute2f128_ps::<0x31>(low, high));
        }
    }

    #[inline(always)]
    unsafe fn load_words(p: *const u32) -> Self::I {
        _mm256_loadu_si256(p.cast())
    }

    #[inline(always)]
    unsafe fn next_code(w: Self::I) -> Self::I {
        _mm256_srli_epi32::<2>(w)
    }

    #[inline(always)]
    unsafe fn load_four(p: *const f32) -> Self::V {
        let four = _mm_loadu_ps(p);
        _mm256_set_m128(four, four)
    }

    #[inline(always)]
    unsafe fn pick(four: Self::V, w: Self::I) -> Self::V {
        _mm256_permutevar_ps(four, w)
    }
}

/// AVX-512F.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx512 {
    const LANES: usize = 16;
    type V = __m512;
    type M = __mmask16;
    type I = __m512i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        _mm512_set1_ps(x)
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        _mm512_loadu_ps(p)
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        _mm512_storeu_ps(p, v);
    }

    #[inline(always)]
    unsafe fn mask(n: usize) -> Self::M {
        if n >= 16 { u16::MAX } else { (1 << n) - 1 }
    }

    #[inline(always)]
    unsafe fn load_mask(p: *const f32, m: Self::M) -> Self::V {
        _mm512_maskz_loadu_ps(m, p)
    }

    #[inline(always)]
    unsafe fn store_mask(p: *mut f32, m: Self::M, v: Self::V) {
        _mm512_mask_storeu_ps(p, m, v);
    }

    #[inline(always)]
    unsafe fn select(m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        _mm512_mask_blend_ps(m, b, a)
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        _mm512_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        _mm512_sub_ps(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        _mm512_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        _mm512_div_ps(a, b)
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), _mm512_max_ps(a, b), a)
    }

    #[inline(always)]
    unsafe fn clamp(x: Self::V, lo: Self::V, hi: Self::V) -> Self::V {
        _mm512_min_ps(hi, _mm512_max_ps(lo, x))
    }

    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
    }

    #[inline(always)]
    unsafe fn expand(p: *const f32, bits: u32) -> Self::V {
        _mm512_maskz_expand_ps(bits as __mmask16, _mm512_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }

    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }

    #[inline(always)]
    unsafe fn transpose8(src: *const f32, src_step: isize, dst: *mut f32, dst_step: usize) {
        // The instruction set includes the other.
        Avx2::transpose8(src, src_step, dst, dst_step);
    }

    #[inline(always)]
    unsafe fn load_words(p: *const u32) -> Self::I {
        _mm512_loadu_si512(p.cast())
    }

    #[inline(always)]
    unsafe fn next_code(w: Self::I) -> Self::I {
        _mm512_srli_epi32::<2>(w)
    }

    #[inline(always)]
    unsafe fn load_four(p: *const f32) -> Self::V {
        _mm512_broadcast_f32x4(_mm_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn pick(four: Self::V, w: Self::I) -> Self::V {
        _mm512_permutevar_ps(four, w)
    }
}
