//! NHWC pooling, vectorised over channels.

use super::simd::Simd;
use super::table::Kernels;
use super::view::Pixels;
use super::{KernelError, Part, distinct, holds, product, rectangle, span};
use crate::cpu::pack::PANEL;
use crate::cpu::shared::SharedMut;
use crate::program::PoolMode;
use std::ops::Range;

/// `x[batch, in_size.., channels]` pooled to `out[batch, out_size.., channels]`.
///
/// In [`PoolMode::Max`] NaN wins. A window that holds no element gives negative infinity, NaN if an average, 0 if a sum. Sums
/// are those of the window's lines, so that those over large windows lose little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolArgs {
    /// Maximum, average or sum.
    pub mode: PoolMode,
    /// Images.
    pub batch: usize,
    /// Height and width of the input.
    pub in_size: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Height and width of the output.
    pub out_size: [usize; 2],
    /// Window.
    pub kernel: [usize; 2],
    /// Strides.
    pub stride: [usize; 2],
    /// Dilations.
    pub dilation: [usize; 2],
    /// Padding before.
    pub pad: [usize; 2],
    /// Padding after.
    pub pad_end: [usize; 2],
    /// The input.
    pub x: Pixels,
    /// The output; its elements are distinct.
    pub out: Pixels,
}

/// The elements that a pooling touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFootprint {
    /// Of the input.
    pub x: Range<usize>,
    /// Of the output.
    pub out: Range<usize>,
}

impl PoolArgs {
    /// What is read and written.
    pub fn footprint(&self) -> Result<PoolFootprint, KernelError> {
        for i in 0..2 {
            if self.kernel[i] == 0 || self.stride[i] == 0 || self.dilation[i] == 0 {
                return Err(KernelError::Args("kernel, stride and dilation must be positive"));
            }
            // The farthest position that a window names must be countable.
            let steps = self.out_size[i].checked_mul(self.stride[i]);
            let reach = self.kernel[i].checked_mul(self.dilation[i]);
            let padded =
                self.in_size[i].checked_add(self.pad[i]).and_then(|s| s.checked_add(self.pad_end[i]));
            let all = steps.zip(reach).and_then(|(s, r)| s.checked_add(r)).zip(padded);
            all.and_then(|(a, b)| a.checked_add(b)).ok_or(KernelError::Overflow)?;
        }
        let x = self.x.dims([self.batch, self.in_size[0], self.in_size[1], self.channels]);
        let out = self.out.dims([self.batch, self.out_size[0], self.out_size[1], self.channels]);
        product(&x.map(|(extent, _)| extent))?;
        if product(&out.map(|(extent, _)| extent))? > 0 {
            distinct(out.into_iter())?;
        }
        Ok(PoolFootprint {
            x: span("x", self.x.offset, x.into_iter())?,
            out: span("out", self.out.offset, out.into_iter())?,
        })
    }

    /// The window of output position `at` along axis `i`.
    fn window(&self, i: usize, at: usize) -> Window {
        let (size, pad, step) = (self.in_size[i], self.pad[i], self.dilation[i]);
        let start = at * self.stride[i];
        // Positions are counted from the start of the padding.
        let below = |end: usize| end.saturating_sub(start).div_ceil(step).min(self.kernel[i]);
        let (outside, inside) = (below(pad), below(pad + size));
        Window {
            first: (start + outside * step).saturating_sub(pad),
            count: inside - outside,
            padded: below(pad + size + self.pad_end[i]),
        }
    }
}

/// The elements of a window along one axis.
struct Window {
    /// First element inside the input.
    first: usize,
    /// Elements inside the input.
    count: usize,
    /// Elements inside the input and its padding.
    padded: usize,
}

/// One output pixel over neighbouring channels, reading `count[0] x count[1]` input pixels.
pub struct PoolPixel {
    x: *const f32,
    count: [usize; 2],
    step: [isize; 2],
    out: *mut f32,
    channels: usize,
    max: bool,
    divisor: f32,
}

/// Runs one part of a pooling.
pub fn pool(
    kernels: &Kernels,
    args: &PoolArgs,
    x: &[f32],
    out: &SharedMut<f32>,
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let foot = args.footprint()?;
    holds("x", &foot.x, x.len())?;
    holds("out", &foot.out, out.len())?;
    if foot.out.is_empty() {
        return Ok(());
    }
    let [height, width] = args.out_size;
    let [_, line_step, step] = args.x.steps;
    let c = args.channels;
    let (pixels, blocks) = rectangle(args.batch * height * width, c.div_ceil(PANEL), part);
    let first = blocks.start * PANEL;
    let end = c.min(blocks.end * PANEL);
    if first >= end {
        return Ok(());
    }
    for pixel in pixels {
        let (line, at_x) = (pixel / width, pixel % width);
        let (image, at_y) = (line / height, line % height);
        let (rows, cols) = (args.window(0, at_y), args.window(1, at_x));
        let empty = rows.count == 0 || cols.count == 0;
        let start = if empty { 0 } else { args.x.at([image, rows.first, cols.first]) + first };
        let divisor = match args.mode {
            PoolMode::AverageIncludePad => rows.padded as f32 * cols.padded as f32,
            PoolMode::Max | PoolMode::Sum => 1.0,
            PoolMode::Average => rows.count as f32 * cols.count as f32,
        };
        let args = PoolPixel {
            x: x.as_ptr().wrapping_add(start),
            count: if empty { [0, 0] } else { [rows.count, cols.count] },
            // A step that is not taken may wrap.
            step: [
                args.dilation[0].cast_signed().wrapping_mul(line_step),
                args.dilation[1].cast_signed().wrapping_mul(step),
            ],
            out: out.as_ptr().wrapping_add(args.out.at([image, at_y, at_x]) + first),
            channels: end - first,
            max: args.mode == PoolMode::Max,
            divisor,
        };
        // SAFETY: the windows were clipped to the input, whose size was checked as the output's was; the kernels can
        // run here, and parts are disjoint.
        unsafe { (kernels.pool)(&args) };
    }
    Ok(())
}

/// # Safety
/// The instruction set is available, and all elements that [`PoolPixel`] names are valid.
#[inline(always)]
pub(crate) unsafe fn pool_pixel<S: Simd>(p: &PoolPixel) {
    let mut c = 0;
    // SAFETY: blocks end at or before `channels`, and the last one is masked.
    unsafe {
        while c + 4 * S::LANES <= p.channels {
            pool_block::<S, 4, false>(p, c);
            c += 4 * S::LANES;
        }
        while c + S::LANES <= p.channels {
            pool_block::<S, 1, false>(p, c);
            c += S::LANES;
        }
        if c < p.channels {
            pool_block::<S, 1, true>(p, c);
        }
    }
}

/// # Safety
/// As for [`pool_pixel`]; not `TAIL` only when `c + NV * LANES <= channels`.
#[inline(always)]
unsafe fn pool_block<S: Simd, const NV: usize, const TAIL: bool>(p: &PoolPixel, c: usize) {
    // SAFETY: the caller's promise; in the tail only lanes below `channels` are touched.
    unsafe {
        let mask = S::mask(p.channels - c);
        let nothing = [S::splat(if p.max { f32::NEG_INFINITY } else { 0.0 }); NV];
        let with = |a, b| if p.max { S::max_nan(a, b) } else { S::add(a, b) };
        let mut acc = nothing;
        let mut line = p.x.wrapping_add(c);
        for _ in 0..p.count[0] {
            let mut at = line;
            line = line.wrapping_offset(p.step[0]);
            let mut of_line = nothing;
            for _ in 0..p.count[1] {
                for (j, sum) in of_line.iter_mut().enumerate() {
                    let from = at.add(j * S::LANES);
                    *sum = with(*sum, if TAIL { S::load_mask(from, mask) } else { S::load(from) });
                }
                at = at.wrapping_offset(p.step[1]);
            }
            for (sum, of_line) in acc.iter_mut().zip(of_line) {
                *sum = with(*sum, of_line);
            }
        }
        for (j, &sum) in acc.iter().enumerate() {
            let v = if p.max { sum } else { S::div(sum, S::splat(p.divisor)) };
            let to = p.out.add(c + j * S::LANES);
            if TAIL { S::store_mask(to, mask, v) } else { S::store(to, v) }
        }
    }
}
