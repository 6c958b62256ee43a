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
/// Every element of the area may be read at `src` and written at `dst`; the two do not overlap.
pub(super) unsafe fn copy(size: usize, src: *const u8, dst: *mut u8, area: Area) {
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
                (1, 1) => src.copy_to_nonoverlapping(dst, cols),
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

/// Side of the squares that a transposition goes through.
const SIDE: usize = 16;

/// An area contiguous along the rows at the source and along the columns at the destination.
unsafe fn transpose<const N: usize>(src: *const [u8; N], dst: *mut [u8; N], area: Area) {
    let Area { rows, cols, from, to } = area;
    let mut square = [[[0; N]; SIDE]; SIDE];
    for r0 in (0..rows).step_by(SIDE) {
        let height = SIDE.min(rows - r0);
        for c0 in (0..cols).step_by(SIDE) {
            let width = SIDE.min(cols - c0);
            // SAFETY: as for `copy`; rows and columns are within the area.
            unsafe {
                let src = src.add(r0).offset(c0 as isize * from[1]);
                let dst = dst.add(c0).offset(r0 as isize * to[0]);
                if height == SIDE && width == SIDE {
                    for (c, column) in square.iter_mut().enumerate() {
                        *column = *src.offset(c as isize * from[1]).cast::<[[u8; N]; SIDE]>();
                    }
                    #[allow(clippy::needless_range_loop, reason = "a row of the transposed square")]
                    for r in 0..SIDE {
                        let row: [[u8; N]; SIDE] = std::array::from_fn(|c| square[c][r]);
                        *dst.offset(r as isize * to[0]).cast::<[[u8; N]; SIDE]>() = row;
                    }
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
