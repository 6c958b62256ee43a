//! The transforms of Winograd's convolution: tiles of 6 x 6 pixels in, tiles of 4 x 4 pixels out, for 3 x 3 windows.
//!
//! F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), at the points 0, 1, -1,
//! 1/2 and -2, which lose less precision than theirs (Alam et al., "Winograd Convolution for Deep Neural Networks:
//! Efficient Point Selection", 2022).

use super::Limits;
use super::simd::Simd;

/// Pixels on a side of a tile of the result.
pub(crate) const OUT_SIDE: usize = 4;

/// Pixels on a side of what such a tile is computed from.
pub(crate) const SIDE: usize = 6;

/// Matrices that take the place of one convolution.
pub(crate) const PLANES: usize = SIDE * SIDE;

/// The transform of a window's rows, and of its columns.
pub(crate) const WINDOW: [[f64; 3]; SIDE] = [
    [1.0, 0.0, 0.0],
    [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
    [-1.0 / 3.0, 1.0 / 3.0, -1.0 / 3.0],
    [-16.0 / 15.0, -8.0 / 15.0, -4.0 / 15.0],
    [1.0 / 15.0, -2.0 / 15.0, 4.0 / 15.0],
    [0.0, 0.0, 1.0],
];

/// A tile of the input: plane `p` gets element `p` of its transform, channel by channel, at `out + p * plane`.
pub struct WinogradInput {
    /// First channel of each pixel, row by row.
    pub(crate) pixels: [*const f32; PLANES],
    pub(crate) out: *mut f32,
    pub(crate) plane: usize,
    pub(crate) channels: usize,
}

/// A tile of the result from the planes of sums, of which `sums` is the first: its pixel `[y, x]`, if it is within `size`, is
/// at `out + y * line + x * pixel`.
pub struct WinogradOutput {
    pub(crate) sums: *const f32,
    pub(crate) plane: usize,
    /// Null for none.
    pub(crate) bias: *const f32,
    pub(crate) out: *mut f32,
    pub(crate) line: isize,
    pub(crate) pixel: isize,
    /// Rows and columns, at most 4 each.
    pub(crate) size: [usize; 2],
    pub(crate) channels: usize,
    pub(crate) limits: Option<Limits>,
}

/// # Safety
/// The instruction set is available; `channels` elements of every pixel are valid for reading and those of every plane for
/// writing.
#[inline(always)]
pub(crate) unsafe fn winograd_input<S: Simd>(t: &WinogradInput) {
    let mut c = 0;
    // SAFETY: vectors are full as long as they end at or before `channels`; the last is masked.
    unsafe {
        while c + S::LANES <= t.channels {
            input_lanes::<S, false>(t, c);
            c += S::LANES;
        }
        if c < t.channels {
            input_lanes::<S, true>(t, c);
        }
    }
}

/// # Safety
/// As for [`winograd_input`]; not `TAIL` only when `c + LANES <= channels`.
#[inline(always)]
unsafe fn input_lanes<S: Simd, const TAIL: bool>(t: &WinogradInput, c: usize) {
    // SAFETY: the caller's promise; in the tail only lanes below `channels` are touched.
    unsafe {
        let mask = S::mask(t.channels - c);
        let mut half = [[S::splat(0.0); SIDE]; SIDE];
        for (x, half) in half.iter_mut().enumerate() {
            let mut column = [S::splat(0.0); SIDE];
            for (y, v) in column.iter_mut().enumerate() {
                *v = load::<S, TAIL>(t.pixels[y * SIDE + x].wrapping_add(c), mask);
            }
            *half = before::<S>(column);
        }
        let mut to = t.out.wrapping_add(c);
        for y in 0..SIDE {
            let mut row = [S::splat(0.0); SIDE];
            for (v, column) in row.iter_mut().zip(&half) {
                *v = column[y];
            }
            for v in before::<S>(row) {
                store::<S, TAIL>(to, mask, v);
                to = to.wrapping_add(t.plane);
            }
        }
    }
}

/// # Safety
/// The instruction set is available; `channels` elements of every plane and the bias are valid for reading, and those of every
/// pixel within `size` for writing.
#[inline(always)]
pub(crate) unsafe fn winograd_output<S: Simd>(t: &WinogradOutput) {
    let mut c = 0;
    // SAFETY: vectors are full as long as they end at or before `channels`; the last is masked.
    unsafe {
        while c + S::LANES <= t.channels {
            output_lanes::<S, false>(t, c);
            c += S::LANES;
        }
        if c < t.channels {
            output_lanes::<S, true>(t, c);
        }
    }
}

/// # Safety
/// As for [`winograd_output`]; not `TAIL` only when `c + LANES <= channels`.
#[inline(always)]
unsafe fn output_lanes<S: Simd, const TAIL: bool>(t: &WinogradOutput, c: usize) {
    // SAFETY: the caller's promise; in the tail only lanes below `channels` are touched.
    unsafe {
        let mask = S::mask(t.channels - c);
        let mut half = [[S::splat(0.0); OUT_SIDE]; SIDE];
        for (x, half) in half.iter_mut().enumerate() {
            let mut column = [S::splat(0.0); SIDE];
            for (y, v) in column.iter_mut().enumerate() {
                let from = t.sums.wrapping_add((y * SIDE + x) * t.plane + c);
                *v = load::<S, TAIL>(from, mask);
            }
            *half = after::<S>(column);
        }
        let bias =
            if t.bias.is_null() { S::splat(0.0) } else { load::<S, TAIL>(t.bias.wrapping_add(c), mask) };
        for y in 0..t.size[0] {
            let mut row = [S::splat(0.0); SIDE];
            for (v, column) in row.iter_mut().zip(&half) {
                *v = column[y];
            }
            let mut to = t.out.wrapping_offset(y.cast_signed().wrapping_mul(t.line)).wrapping_add(c);
            for v in after::<S>(row).into_iter().take(t.size[1]) {
                let v = S::add(v, bias);
                store::<S, TAIL>(to, mask, t.limits.map_or(v, |limits| limits.apply::<S>(v)));
                to = to.wrapping_offset(t.pixel);
            }
        }
    }
}

/// The transform of 6 pixels of the input.
///
/// # Safety
/// The instruction set is available.
#[inline(always)]
unsafe fn before<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let k = |x: f32| S::splat(x);
        let [p, q] = [S::sub(d[4], d[2]), S::sub(d[3], d[1])];
        [
            S::fma(k(1.5), q, S::fma(k(-2.0), d[2], S::add(d[0], d[4]))),
            S::fma(k(2.5), d[3], S::fma(k(0.5), d[2], S::sub(d[4], d[1]))),
            S::fma(k(0.5), d[3], S::fma(k(-2.5), d[2], S::add(d[4], d[1]))),
            S::fma(k(2.0), q, p),
            S::fma(k(-0.5), q, p),
            S::fma(k(1.5), p, S::fma(k(-2.0), d[3], S::add(d[1], d[5]))),
        ]
    }
}

/// The transform of 6 sums to 4 pixels of the result.
///
/// # Safety
/// The instruction set is available.
#[inline(always)]
unsafe fn after<S: Simd>(m: [S::V; SIDE]) -> [S::V; OUT_SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let k = |x: f32| S::splat(x);
        let [sum, difference] = [S::add(m[1], m[2]), S::sub(m[1], m[2])];
        [
            S::add(S::add(m[0], sum), S::add(m[3], m[4])),
            S::fma(k(0.5), m[3], S::fma(k(-2.0), m[4], difference)),
            S::fma(k(0.25), m[3], S::fma(k(4.0), m[4], sum)),
            S::add(m[5], S::fma(k(0.125), m[3], S::fma(k(-8.0), m[4], difference))),
        ]
    }
}

/// # Safety
/// The instruction set is available and the lanes read (those of `mask` in the tail) are valid.
#[inline(always)]
unsafe fn load<S: Simd, const TAIL: bool>(p: *const f32, mask: S::M) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if TAIL { S::load_mask(p, mask) } else { S::load(p) } }
}

/// # Safety
/// The instruction set is available and the lanes written (those of `mask` in the tail) are valid.
#[inline(always)]
unsafe fn store<S: Simd, const TAIL: bool>(p: *mut f32, mask: S::M, v: S::V) {
    // SAFETY: the caller's promise.
    unsafe { if TAIL { S::store_mask(p, mask, v) } else { S::store(p, v) } }
}
