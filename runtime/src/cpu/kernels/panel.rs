//! Packing of panels of strided matrices.

use super::simd::Simd;
use crate::cpu::pack::PANEL;

/// A panel whose columns are contiguous in the source: `dst[i * 32 + j] = src[j * step + i]` for `i < depth`, `j < cols`.
pub struct TurnedPanel {
    pub(crate) src: *const f32,
    pub(crate) step: isize,
    pub(crate) depth: usize,
    pub(crate) cols: usize,
    pub(crate) dst: *mut f32,
}

/// # Safety
/// The instruction set is available, and all elements that [`TurnedPanel`] names are valid.
#[inline(always)]
pub(crate) unsafe fn turned_panel<S: Simd>(p: &TurnedPanel) {
    /// Side of the squares that are transposed in registers.
    const SIDE: usize = 8;
    let (cols, depth) = (p.cols - p.cols % SIDE, p.depth - p.depth % SIDE);
    // SAFETY: squares end at or before `cols` and `depth`; the rest goes element by element.
    unsafe {
        for j in (0..cols).step_by(SIDE) {
            let src = p.src.wrapping_offset(j.cast_signed().wrapping_mul(p.step));
            for i in (0..depth).step_by(SIDE) {
                S::transpose8(src.add(i), p.step, p.dst.add(i * PANEL + j), PANEL);
            }
        }
        for j in 0..p.cols {
            let src = p.src.wrapping_offset(j.cast_signed().wrapping_mul(p.step));
            for i in if j < cols { depth } else { 0 }..p.depth {
                *p.dst.add(i * PANEL + j) = *src.add(i);
            }
        }
    }
}

/// Copies `depth` rows of up to 32 columns to `dst`, filling rows to 32 with zeros.
///
/// # Safety
/// Elements `i * row + j * col` of `src` are valid for reading, and `depth * 32` of `dst` for writing; `turn` can run here.
pub(crate) unsafe fn pack_panel(
    turn: unsafe fn(&TurnedPanel),
    src: *const f32,
    [row, col]: [isize; 2],
    depth: usize,
    cols: usize,
    dst: *mut f32,
) {
    /// Columns read in turn, so that B's lines and the written ones both stay in the cache.
    const STRIPE: usize = 8;
    // SAFETY: the caller's promise; `j` stays below 32.
    unsafe {
        if cols < PANEL {
            std::ptr::write_bytes(dst, 0, depth * PANEL);
        }
        if col == 1 {
            for i in 0..depth {
                let from = src.wrapping_offset(i.cast_signed().wrapping_mul(row));
                std::ptr::copy_nonoverlapping(from, dst.add(i * PANEL), cols);
            }
            return;
        }
        if row == 1 {
            turn(&TurnedPanel { src, step: col, depth, cols, dst });
            return;
        }
        for stripe in (0..cols).step_by(STRIPE) {
            let width = STRIPE.min(cols - stripe);
            let base = src.wrapping_offset(stripe.cast_signed().wrapping_mul(col));
            for i in 0..depth {
                let from = base.wrapping_offset(i.cast_signed().wrapping_mul(row));
                let to = dst.add(i * PANEL + stripe);
                if width == STRIPE {
                    for j in 0..STRIPE {
                        *to.add(j) = *from.wrapping_offset(j.cast_signed().wrapping_mul(col));
                    }
                } else {
                    for j in 0..width {
                        *to.add(j) = *from.wrapping_offset(j.cast_signed().wrapping_mul(col));
                    }
                }
            }
        }
    }
}
