//! NHWC convolution without padding: an indirect GEMM over shifted rows (no im2col), or the depthwise kernel.

use super::gemm::{Batch, Gemm, Operand, Rows};
use super::table::Kernels;
use super::tile::{DepthwiseTile, Taps};
use super::{KernelError, Part, holds, optional, product, rectangle, share};
use crate::cpu::pack::{ConvWeights, PANEL, packed_conv_len, packed_gemm_len};
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// Elements of the input that a block of channels of a depthwise convolution may take: 24 KB.
const DEPTHWISE_BLOCK: usize = 6 * 1024;

/// `x[batch, in_size.., channels]` convolved to `out[batch, out_size.., m]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvArgs {
    /// Images.
    pub batch: usize,
    /// Height and width of the input, padding included.
    pub in_size: [usize; 2],
    /// Input channels; `groups` divides them.
    pub channels: usize,
    /// Output channels; `groups` divides them.
    pub m: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Strides.
    pub stride: [usize; 2],
    /// Dilations.
    pub dilation: [usize; 2],
    /// Groups.
    pub groups: usize,
}

/// The elements that a convolution touches, all from the start of their operand; the bias has m.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvFootprint {
    /// Of the input.
    pub x: Range<usize>,
    /// Of the packed weights.
    pub weights: Range<usize>,
    /// Of the output.
    pub out: Range<usize>,
}

impl ConvArgs {
    /// Height and width of the output; 0 where the kernel does not fit into the input.
    pub fn out_size(&self) -> Result<[usize; 2], KernelError> {
        let mut size = [0; 2];
        for (i, out) in size.iter_mut().enumerate() {
            if self.kernel[i] == 0 || self.stride[i] == 0 || self.dilation[i] == 0 {
                return Err(KernelError::Args("kernel, stride and dilation must be positive"));
            }
            let reach = (self.kernel[i] - 1).checked_mul(self.dilation[i]).ok_or(KernelError::Overflow)?;
            *out = self.in_size[i].checked_sub(reach).map_or(0, |room| room.div_ceil(self.stride[i]));
        }
        Ok(size)
    }

    /// What is read and written.
    pub fn footprint(&self) -> Result<ConvFootprint, KernelError> {
        if self.groups == 0
            || !self.channels.is_multiple_of(self.groups)
            || !self.m.is_multiple_of(self.groups)
        {
            return Err(KernelError::Args("groups must divide the channels"));
        }
        let [height, width] = self.out_size()?;
        Ok(ConvFootprint {
            x: 0..product(&[self.batch, self.in_size[0], self.in_size[1], self.channels])?,
            weights: 0..packed_conv_len(&self.weights()).ok_or(KernelError::Overflow)?,
            out: 0..product(&[self.batch, height, width, self.m])?,
        })
    }

    /// The shape of the weights.
    pub fn weights(&self) -> ConvWeights {
        let c = self.channels.checked_div(self.groups).unwrap_or(0);
        ConvWeights { m: self.m, c, kernel: self.kernel, groups: self.groups }
    }

    /// Row starts and taps; the output and the input are not empty.
    fn geometry(&self, [height, width]: [usize; 2]) -> (Rows, Taps) {
        // Steps that no access takes may wrap: those of extents of 1, and all without channels.
        let [in_height, in_width] = self.in_size;
        let c = self.channels;
        let line = in_width.wrapping_mul(c);
        let taps = Taps {
            first: 0,
            count: self.kernel[0] * self.kernel[1],
            width: self.kernel[1],
            step: self.dilation[1].wrapping_mul(c).cast_signed(),
            row_step: self.dilation[0].wrapping_mul(line).cast_signed(),
        };
        let rows = if self.stride == [1, 1] && [height, width] == self.in_size {
            Rows::Linear(c.cast_signed())
        } else {
            Rows::Pixels {
                height,
                width,
                image_step: in_height.wrapping_mul(line).cast_signed(),
                y_step: self.stride[0].wrapping_mul(line).cast_signed(),
                x_step: self.stride[1].wrapping_mul(c).cast_signed(),
            }
        };
        (rows, taps)
    }
}

/// Runs one part of a convolution. `weights` are packed as [`crate::cpu::pack::pack_conv`] does, `bias` has m elements.
pub fn conv(
    kernels: &Kernels,
    args: &ConvArgs,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    out: &SharedMut<f32>,
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let foot = args.footprint()?;
    let size = args.out_size()?;
    holds("x", &foot.x, x.len())?;
    holds("weights", &foot.weights, weights.len())?;
    holds("out", &foot.out, out.len())?;
    if let Some(bias) = bias {
        holds("bias", &(0..args.m), bias.len())?;
    }
    if foot.out.is_empty() {
        return Ok(());
    }
    let (rows, taps) = args.geometry(size);
    let pixels = args.batch * size[0] * size[1];
    let shape = args.weights();
    let per_group = args.m / args.groups;
    if shape.is_depthwise() {
        let tile = DepthwiseTile {
            x: x.as_ptr(),
            rows: rows.fill(0, 0),
            taps,
            w: weights.as_ptr(),
            w_step: args.m,
            bias: optional(bias),
            out: out.as_ptr(),
            out_step: args.m,
            channels: 0,
        };
        // SAFETY: all footprints were checked above, the kernels can run here, and parts are disjoint.
        unsafe { depthwise(kernels, &tile, &rows, pixels, part) };
        return Ok(());
    }
    let depth = taps.count * shape.c;
    let gemm = Gemm {
        kernel: if pixels <= kernels.gemm_low.tiles.len() { kernels.gemm_low } else { kernels.gemm },
        m: pixels,
        n: per_group,
        depth: shape.c,
        // Without channels there is nothing to sum, and the input may be empty.
        taps: if shape.c == 0 { Taps::ONE } else { taps },
        a: x.as_ptr(),
        a_step: 1,
        rows,
        b: Operand::Packed(weights.as_ptr()),
        bias: optional(bias),
        out: out.as_ptr(),
        out_step: args.m,
        batches: args.groups,
        batch: Batch::Groups {
            a: shape.c,
            b: packed_gemm_len(depth, per_group).ok_or(KernelError::Overflow)?,
            n: per_group,
        },
    };
    // SAFETY: all footprints were checked above, the kernels can run here, and parts are disjoint.
    unsafe { gemm.run(part) };
    Ok(())
}

/// # Safety
/// `all` is the tile of all channels at row offset 0 of a checked problem, `rows` its `pixels` rows; otherwise as for
/// [`Gemm::run`].
unsafe fn depthwise(kernels: &Kernels, all: &DepthwiseTile, rows: &Rows, pixels: usize, part: Part) {
    let tiles = pixels.div_ceil(kernels.depthwise.len());
    let channels = all.w_step;
    let (t, blocks) = rectangle(tiles, channels.div_ceil(PANEL), part);
    // Channels are taken in blocks of which the rows under the kernel stay in the first-level cache.
    let line = all.taps.row_step.unsigned_abs() / channels * (all.taps.count / all.taps.width);
    let block = (DEPTHWISE_BLOCK / line.max(1) / PANEL).max(1);
    for first in blocks.clone().step_by(block) {
        let end = channels.min(blocks.end.min(first + block) * PANEL);
        let first = first * PANEL;
        let mut tile = DepthwiseTile {
            x: all.x.wrapping_add(first),
            w: all.w.wrapping_add(first),
            bias: if all.bias.is_null() { all.bias } else { all.bias.wrapping_add(first) },
            channels: end - first,
            ..*all
        };
        for index in t.clone() {
            let range = share(pixels, tiles, index);
            tile.rows = rows.fill(range.start, range.len());
            tile.out = all.out.wrapping_add(range.start * channels + first);
            // SAFETY: pixels and channels are inside the problem.
            unsafe { kernels.depthwise[range.len() - 1](&tile) };
        }
    }
}
