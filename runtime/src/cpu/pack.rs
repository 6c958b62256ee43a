//! Packed weight layouts, one for all instruction sets.
//!
//! A matrix `[k][n]` is packed as `[ceil(n/32)][k][32]`: panels of 32 columns, the last one filled with zeros. Kernels
//! whose tiles are narrower read a part of each panel row.

use super::kernels::KernelError;
use super::kernels::winograd_tile::{PLANES, WINDOW};

/// Columns of a panel.
pub const PANEL: usize = 32;

/// Elements of a packed `[k][n]` matrix, or `None` on overflow.
pub fn packed_gemm_len(k: usize, n: usize) -> Option<usize> {
    n.div_ceil(PANEL).checked_mul(PANEL)?.checked_mul(k)
}

/// Packs the matrix whose element `[i][j]` is `src[i * row_stride + j * col_stride]`; `dst` has exactly
/// [`packed_gemm_len`] elements.
pub fn pack_gemm_b(
    src: &[f32],
    k: usize,
    n: usize,
    row_stride: usize,
    col_stride: usize,
    dst: &mut [f32],
) -> Result<(), KernelError> {
    let len = packed_gemm_len(k, n).ok_or(KernelError::Overflow)?;
    check("packed weights", len, dst.len())?;
    if len == 0 {
        return Ok(());
    }
    let extent = |count: usize, stride: usize| (count - 1).checked_mul(stride);
    let last = extent(k, row_stride)
        .zip(extent(n, col_stride))
        .and_then(|(i, j)| i.checked_add(j))
        .ok_or(KernelError::Overflow)?;
    if last >= src.len() {
        return Err(KernelError::Footprint {
            operand: "weights",
            need: last.saturating_add(1),
            have: src.len(),
        });
    }
    for (panel, rows) in dst.chunks_exact_mut(k * PANEL).enumerate() {
        let first = panel * PANEL;
        let cols = PANEL.min(n - first);
        for (i, row) in rows.chunks_exact_mut(PANEL).enumerate() {
            let base = i * row_stride + first * col_stride;
            if col_stride == 1 {
                row[..cols].copy_from_slice(&src[base..base + cols]);
            } else {
                for (j, out) in row[..cols].iter_mut().enumerate() {
                    *out = src[base + j * col_stride];
                }
            }
            row[cols..].fill(0.0);
        }
    }
    Ok(())
}

/// The shape of convolution weights in ONNX order, `[m][c][kh][kw]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvWeights {
    /// Output channels of all groups.
    pub m: usize,
    /// Input channels of one group.
    pub c: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Groups; divides `m`.
    pub groups: usize,
}

impl ConvWeights {
    /// Whether every group has one input and one output channel (and there are several groups).
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.c == 1 && self.m == self.groups
    }

    /// Rows of a group's packed matrix: taps times channels.
    pub(crate) fn depth(&self) -> Option<usize> {
        self.kernel[0].checked_mul(self.kernel[1])?.checked_mul(self.c)
    }
}

/// Elements of packed convolution weights, or `None` on overflow or if `groups` does not divide `m`.
pub fn packed_conv_len(w: &ConvWeights) -> Option<usize> {
    if w.groups == 0 || !w.m.is_multiple_of(w.groups) {
        return None;
    }
    let depth = w.depth()?;
    if w.is_depthwise() {
        return depth.checked_mul(w.m);
    }
    packed_gemm_len(depth, w.m / w.groups)?.checked_mul(w.groups)
}

/// Packs `[m][c][kh][kw]` weights into the layout that `StepKind::Conv` documents; `dst` has exactly
/// [`packed_conv_len`] elements.
pub fn pack_conv(src: &[f32], w: &ConvWeights, dst: &mut [f32]) -> Result<(), KernelError> {
    let len = packed_conv_len(w).ok_or(KernelError::Overflow)?;
    check("packed weights", len, dst.len())?;
    let depth = w.depth().ok_or(KernelError::Overflow)?;
    check("weights", depth.checked_mul(w.m).ok_or(KernelError::Overflow)?, src.len())?;
    if src.is_empty() {
        return Ok(());
    }
    let taps = w.kernel[0] * w.kernel[1];
    if w.is_depthwise() {
        for (channel, kernel) in src.chunks_exact(taps).enumerate() {
            for (tap, &x) in kernel.iter().enumerate() {
                dst[tap * w.m + channel] = x;
            }
        }
        return Ok(());
    }
    dst.fill(0.0);
    let per_group = w.m / w.groups;
    for (row, filter) in src.chunks_exact(depth).enumerate() {
        let (group, column) = (row / per_group, row % per_group);
        let block = group * per_group.div_ceil(PANEL) + column / PANEL;
        for (i, &x) in filter.iter().enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            dst[(block * depth + tap * w.c + channel) * PANEL + column % PANEL] = x;
        }
    }
    Ok(())
}

/// Elements of the transformed 3 x 3 windows of a convolution, or `None` on overflow.
pub fn packed_winograd_len(c: usize, m: usize) -> Option<usize> {
    packed_gemm_len(c, m)?.checked_mul(PLANES)
}

/// Transforms `[m][c][3][3]` weights for Winograd's convolution, in f64: `dst`, of [`packed_winograd_len`] elements, gets 36
/// matrices `[c][m]`, each packed as [`pack_gemm_b`] does.
pub fn pack_winograd(src: &[f32], c: usize, m: usize, dst: &mut [f32]) -> Result<(), KernelError> {
    let len = packed_winograd_len(c, m).ok_or(KernelError::Overflow)?;
    check("packed weights", len, dst.len())?;
    check(
        "weights",
        m.checked_mul(c).and_then(|n| n.checked_mul(9)).ok_or(KernelError::Overflow)?,
        src.len(),
    )?;
    dst.fill(0.0);
    let plane = len / PLANES;
    for (at, window) in src.chunks_exact(9).enumerate() {
        let (column, channel) = (at / c, at % c);
        let place = (column / PANEL * c + channel) * PANEL + column % PANEL;
        // Rows first: half[i][x] = sum_y WINDOW[i][y] window[y][x].
        let half = WINDOW
            .map(|g| [0, 1, 2].map(|x| (0..3).map(|y| g[y] * f64::from(window[y * 3 + x])).sum::<f64>()));
        for (i, row) in half.iter().enumerate() {
            for (j, g) in WINDOW.iter().enumerate() {
                let sum: f64 = row.iter().zip(g).map(|(w, g)| w * g).sum();
                dst[(i * WINDOW.len() + j) * plane + place] = sum as f32;
            }
        }
    }
    Ok(())
}

fn check(operand: &'static str, need: usize, have: usize) -> Result<(), KernelError> {
    if need == have { Ok(()) } else { Err(KernelError::Footprint { operand, need, have }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_round_up_to_panels_and_refuse_overflow() {
        assert_eq!(packed_gemm_len(7, 33), Some(7 * 64));
        assert_eq!(packed_gemm_len(0, 33), Some(0));
        assert_eq!(packed_gemm_len(usize::MAX, 2), None);
        let w = ConvWeights { m: 6, c: 2, kernel: [3, 3], groups: 4 };
        assert_eq!(packed_conv_len(&w), None);
        assert_eq!(packed_conv_len(&ConvWeights { groups: 2, ..w }), Some(2 * 18 * 32));
        assert_eq!(packed_conv_len(&ConvWeights { c: 1, groups: 6, ..w }), Some(9 * 6));
    }

    #[test]
    fn a_transposed_matrix_packs_like_its_plain_form() {
        let (k, n) = (3, 35);
        let plain: Vec<f32> = (0..k * n).map(|i| i as f32 + 1.0).collect();
        let turned: Vec<f32> = (0..k * n).map(|i| plain[(i % k) * n + i / k]).collect();
        let (mut a, mut b) = (vec![9.0; 2 * 3 * 32], vec![9.0; 2 * 3 * 32]);
        pack_gemm_b(&plain, k, n, n, 1, &mut a).unwrap();
        pack_gemm_b(&turned, k, n, 1, k, &mut b).unwrap();
        assert_eq!(a, b);
        assert_eq!(a[32], plain[n]);
        assert_eq!(a[3 * 32 + 2], plain[34]);
        assert_eq!(a[3 * 32 + 3], 0.0);
        assert!(pack_gemm_b(&plain, k, n, n + 1, 1, &mut a).is_err());
        assert!(pack_gemm_b(&plain, k, n, n, 1, &mut a[1..]).is_err());
    }

    #[test]
    fn convolution_weights_are_tap_major() {
        let w = ConvWeights { m: 2, c: 3, kernel: [1, 2], groups: 1 };
        let src: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut dst = vec![9.0; 6 * 32];
        pack_conv(&src, &w, &mut dst).unwrap();
        // Row (tap 1, channel 2), column (output 1) is weight [1][2][0][1].
        assert_eq!(dst[5 * 32 + 1], 11.0);
        assert_eq!(dst[32], 2.0);
        assert_eq!(dst[2], 0.0);
        let w = ConvWeights { m: 3, c: 1, kernel: [2, 2], groups: 3 };
        let mut dst = vec![9.0; 12];
        pack_conv(&src, &w, &mut dst).unwrap();
        assert_eq!(dst[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert!(pack_conv(&src[1..], &w, &mut dst).is_err());
    }
}
