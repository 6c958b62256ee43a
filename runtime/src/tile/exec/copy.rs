//! Copies of two-dimensional areas that preserve every bit.

/// Shape of an area; strides in elements along rows and columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) from: [isize; 2],
    pub(super) to: [isize; 2],
}

/// Copies `area` of elements of `size` bytes (1, 2, 4 or 8), at any alignment.
///
/// # Safety
/// Every element of the area may be read at `src` and written at `dst`; the two do not overlap, or are the same elements
/// in the same order.
pub(super) unsafe fn copy(size: usize, src: *const u8, dst: *mut u8, area: Area) {
    // The planner places a copy over its argument where both are visited alike.
    if src == dst.cast_const() && area.from == area.to {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => copy_as::<1>(src.cast(), dst.cast(), area),
            2 => copy_as::<2>(src.cast(), dst.cast(), area),
            4 => copy_as::<4>(src.cast(), dst.cast(), area),
            _ => copy_as::<8>(src.cast(), dst.cast(), area),
        }
    }
}

unsafe fn copy_as<const N: usize>(src: *const [u8; N], dst: *mut [u8; N], area: Area) {
    let Area { rows, cols, from, to } = area;
    // SAFETY: as for `copy`.
    unsafe {
        if from[0] == 1 && to[1] == 1 && from[1].unsigned_abs() > 1 && rows > 1 {
            transpose(src, dst, area);
            return;
        }
        for r in 0..rows as isize {
            let (src, dst) = (src.offset(r * from[0]), dst.offset(r * to[0]));
            match (from[1], to[1]) {
                // A copy in place reads where it writes.
                (1, 1) => src.copy_to(dst, cols),
                (0, 1) => std::slice::from_raw_parts_mut(dst, cols).fill(*src),
                (1, step) => {
                    for (c, value) in std::slice::from_raw_parts(src, cols).iter().enumerate() {
                        *dst.offset(c as isize * step) = *value;
                    }
                }
                (step, 1) => {
                    for (c, value) in std::slice::from_raw_parts_mut(dst, cols).iter_mut().enumerate() {
                        *value = *src.offset(c as isize * step);
                    }
                }
                (a, b) => {
                    for c in 0..cols as isize {
                        *dst.offset(c * b) = *src.offset(c * a);
                    }
                }
            }
        }
    }
}

/// Side of the squares that a transposition goes through; 16 elements of 4 bytes fill a cache line.
const SIDE: usize = 16;

/// Side of the tiles that are finished one after the other, so that few pages are in use at a time.
const TILE: usize = 64;

/// An area contiguous along the rows at the source and along the columns at the destination.
unsafe fn transpose<const N: usize>(src: *const [u8; N], dst: *mut [u8; N], area: Area) {
    let Area { from, to, .. } = area;
    for r0 in (0..area.rows).step_by(TILE) {
        for c0 in (0..area.cols).step_by(TILE) {
            let (rows, cols) = (TILE.min(area.rows - r0), TILE.min(area.cols - c0));
            // SAFETY: as for `copy`; rows and columns are within the area.
            unsafe {
                let src = src.add(r0).offset(c0 as isize * from[1]);
                let dst = dst.add(c0).offset(r0 as isize * to[0]);
                tile(src, dst, Area { rows, cols, from, to });
            }
        }
    }
}

unsafe fn tile<const N: usize>(src: *const [u8; N], dst: *mut [u8; N], area: Area) {
    let Area { rows, cols, from, to } = area;
    for r0 in (0..rows).step_by(SIDE) {
        let height = SIDE.min(rows - r0);
        for c0 in (0..cols).step_by(SIDE) {
            let width = SIDE.min(cols - c0);
            // SAFETY: as for `copy`; rows and columns are within the area.
            unsafe {
                let src = src.add(r0).offset(c0 as isize * from[1]);
                let dst = dst.add(c0).offset(r0 as isize * to[0]);
                if height == SIDE && width == SIDE {
                    square(src, from[1], dst, to[0]);
                } else {
                    for r in 0..height {
                        for c in 0..width {
                            *dst.offset(r as isize * to[0]).add(c) = *src.add(r).offset(c as isize * from[1]);
                        }
                    }
                }
            }
        }
    }
}

/// Transposes a full square: columns `from` elements apart become rows `to` elements apart.
#[inline(always)]
unsafe fn square<const N: usize>(src: *const [u8; N], from: isize, dst: *mut [u8; N], to: isize) {
    // SAFETY: as for `copy`.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if N == 4 {
            for r in (0..SIDE as isize).step_by(4) {
                for c in (0..SIDE as isize).step_by(4) {
                    square_of_4(
                        src.offset(c * from + r).cast(),
                        4 * from,
                        dst.offset(r * to + c).cast(),
                        4 * to,
                    );
                }
            }
            return;
        }
        let mut columns = [[[0; N]; SIDE]; SIDE];
        for (c, column) in columns.iter_mut().enumerate() {
            *column = *src.offset(c as isize * from).cast::<[[u8; N]; SIDE]>();
        }
        let rows: [[[u8; N]; SIDE]; SIDE] = std::array::from_fn(|r| std::array::from_fn(|c| columns[c][r]));
        for (r, row) in rows.iter().enumerate() {
            *dst.offset(r as isize * to).cast::<[[u8; N]; SIDE]>() = *row;
        }
    }
}

/// Transposes four times four elements of four bytes; distances in bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn square_of_4(src: *const u8, from: isize, dst: *mut u8, to: isize) {
    use std::arch::x86_64::{
        __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi32, _mm_unpackhi_epi64,
        _mm_unpacklo_epi32, _mm_unpacklo_epi64,
    };
    // SAFETY: as for `copy`; every x86-64 processor has these instructions.
    unsafe {
        let load = |c: isize| _mm_loadu_si128(src.offset(c * from).cast::<__m128i>());
        let store = |r: isize, row: __m128i| _mm_storeu_si128(dst.offset(r * to).cast::<__m128i>(), row);
        let (a, b, c, d) = (load(0), load(1), load(2), load(3));
        let (ab_low, cd_low) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        store(0, _mm_unpacklo_epi64(ab_low, cd_low));
        store(1, _mm_unpackhi_epi64(ab_low, cd_low));
        store(2, _mm_unpacklo_epi64(ab_high, cd_high));
        store(3, _mm_unpackhi_epi64(ab_high, cd_high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_place_changes_nothing() {
        let bytes: Vec<u8> = (0..96).collect();
        for size in [1, 2, 4, 8] {
            for strides in [[3, 1], [4, 1], [6, 2]] {
                let mut copied = bytes.clone();
                let at = copied.as_mut_ptr();
                // SAFETY: two rows of three elements of at most 8 bytes end within 96 bytes.
                unsafe { copy(size, at, at, Area { rows: 2, cols: 3, from: strides, to: strides }) };
                assert_eq!(copied, bytes, "{size} {strides:?}");
            }
        }
    }
}
