//! NHWC convolution without padding: an indirect GEMM over shifted rows (no im2col), or the depthwise kernel.

use super::gemm::{Batch, Gemm, Operand, Rows};
use super::scattered::ScatteredB;
use super::sparse::SparseB;
use super::table::Kernels;
use super::tile::{DepthwiseTile, Taps};
use super::view::{Pixels, merged};
use super::winograd::{Winograd, WinogradB};
use super::{
    Block, KernelError, Limits, Part, Stage, distinct, holds, optional, product, rectangle, share, span,
};
use crate::cpu::pack::{ConvWeights, PANEL, packed_conv_len};
use crate::cpu::shared::SharedMut;
use crate::cpu::sparse::SparseMatrix;
use std::ops::Range;

/// Elements of the input that a block of channels of a depthwise convolution may take: 24 KB.
const DEPTHWISE_BLOCK: usize = 6 * 1024;

/// Elements of a block that a depthwise convolution hands over: 32 KB.
const DEPTHWISE_STAGE: usize = 8 * 1024;

/// `x[batch, in_size.., channels]` convolved to `out[batch, out_size.., m]`.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// The input.
    pub x: Pixels,
    /// The output; its elements are distinct.
    pub out: Pixels,
    /// Of the result, after the bias.
    pub limits: Option<Limits>,
}

/// The elements that a convolution touches; the bias has m.
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
        let [in_height, in_width] = self.in_size;
        let out = self.out.dims([self.batch, height, width, self.m]);
        product(&out.map(|(extent, _)| extent))?;
        if out.iter().all(|(extent, _)| *extent > 0) {
            distinct(out.into_iter())?;
        }
        let x = self.x.dims([self.batch, in_height, in_width, self.channels]);
        product(&x.map(|(extent, _)| extent))?;
        Ok(ConvFootprint {
            x: span("x", self.x.offset, x.into_iter())?,
            weights: 0..packed_conv_len(&self.weights()).ok_or(KernelError::Overflow)?,
            out: span("out", self.out.offset, out.into_iter())?,
        })
    }

    /// The shape of the weights.
    pub fn weights(&self) -> ConvWeights {
        let c = self.channels.checked_div(self.groups).unwrap_or(0);
        ConvWeights { m: self.m, c, kernel: self.kernel, groups: self.groups }
    }

    /// Columns that the step of a stage is for: a group's outputs, or the channels of a depthwise convolution.
    pub fn stage_columns(&self) -> usize {
        if self.weights().is_depthwise() { self.m } else { self.m.checked_div(self.groups).unwrap_or(0) }
    }

    /// The tile of all channels at the first pixel, and the pixels of a line of the output. Along images of single columns
    /// and windows alike, lines are columns.
    fn depthwise(
        &self,
        size: [usize; 2],
        taps: Taps,
        (x, w, bias, out): (*const f32, *const f32, *const f32, *mut f32),
    ) -> (DepthwiseTile, usize) {
        let columns = size[1] == 1 && self.kernel[1] == 1;
        let along = usize::from(!columns);
        let tile = DepthwiseTile {
            x,
            x_step: self.stride[along].cast_signed().wrapping_mul(self.x.steps[1 + along]),
            taps: if columns { Taps { width: taps.count, step: taps.row_step, ..taps } } else { taps },
            w,
            w_step: self.m,
            bias,
            out,
            out_step: self.out.steps[1 + along],
            channels: self.m,
            limits: self.limits,
        };
        (tile, size[along])
    }

    /// Row starts of x, taps, and row starts of the output, which is not empty.
    fn geometry(&self, [height, width]: [usize; 2]) -> (Rows<'static>, Taps, Rows<'static>) {
        // Steps that no access takes may wrap: those of extents of 1, and all without channels.
        let [image_step, line, pixel] = self.x.steps;
        let taps = Taps {
            first: 0,
            count: self.kernel[0] * self.kernel[1],
            width: self.kernel[1],
            step: self.dilation[1].cast_signed().wrapping_mul(pixel),
            row_step: self.dilation[0].cast_signed().wrapping_mul(line),
        };
        let rows = |steps: [isize; 3]| match merged([self.batch, height, width], steps) {
            Some(step) => Rows::Linear(step),
            None => {
                let [image_step, y_step, x_step] = steps;
                Rows::Pixels { height, width, image_step, y_step, x_step }
            }
        };
        let y_step = self.stride[0].cast_signed().wrapping_mul(line);
        let x_step = self.stride[1].cast_signed().wrapping_mul(pixel);
        (rows([image_step, y_step, x_step]), taps, rows(self.out.steps))
    }
}

/// The weights.
pub enum ConvB<'a> {
    /// Packed as [`crate::cpu::pack::pack_conv`] does.
    Packed(&'a [f32]),
    /// Stored in part, as [`crate::cpu::sparse::pack_sparse_conv`] does. Not for depthwise convolutions.
    Sparse(SparseB<'a>),
    /// Stored without zeros, as [`crate::cpu::scattered`] does; one group, not depthwise.
    Scattered(ScatteredB<'a>),
    /// Transformed, as [`crate::cpu::pack::pack_winograd`] does. For 3 x 3 windows of neighbours, stride 1, one group.
    Winograd(WinogradB<'a>),
}

/// Runs one part of a convolution. `bias` has m elements.
pub fn conv(
    kernels: &Kernels,
    args: &ConvArgs,
    x: &[f32],
    weights: ConvB,
    bias: Option<&[f32]>,
    out: &SharedMut<f32>,
    part: Part,
) -> Result<(), KernelError> {
    holds("out", &args.footprint()?.out, out.len())?;
    checked(kernels, args, (x, weights, bias), Ok(out), part)
}

/// As [`conv`], with the result given to a stage, whose step is that of [`ConvArgs::stage_columns`].
pub fn conv_staged(
    kernels: &Kernels,
    args: &ConvArgs,
    x: &[f32],
    weights: ConvB,
    bias: Option<&[f32]>,
    stage: Stage<'_>,
    part: Part,
) -> Result<(), KernelError> {
    stage.check(args.stage_columns())?;
    checked(kernels, args, (x, weights, bias), Err(stage), part)
}

/// Runs one part into an output that holds the footprint, or into a stage that was checked.
fn checked(
    kernels: &Kernels,
    args: &ConvArgs,
    (x, weights, bias): (&[f32], ConvB, Option<&[f32]>),
    to: Result<&SharedMut<f32>, Stage<'_>>,
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let foot = args.footprint()?;
    let size = args.out_size()?;
    holds("x", &foot.x, x.len())?;
    let pixels = product(&[args.batch, size[0], size[1]])?;
    if let Some(bias) = bias {
        holds("bias", &(0..args.m), bias.len())?;
    }
    let base = x.as_ptr().wrapping_add(if foot.x.is_empty() { 0 } else { args.x.offset });
    let out = to.as_ref().map_or(std::ptr::null_mut(), |out| out.as_ptr().wrapping_add(args.out.offset));
    let mut stage = to.err();
    let b = match weights {
        ConvB::Packed(weights) => {
            holds("weights", &foot.weights, weights.len())?;
            Operand::Packed(weights.as_ptr())
        }
        ConvB::Sparse(b) => {
            let matrix = SparseMatrix::conv(b.sparsity, &args.weights())?;
            Operand::Sparse(b.resolve(kernels, pixels, &matrix, true)?)
        }
        ConvB::Scattered(b) => {
            let shape = args.weights();
            if shape.groups != 1 {
                return Err(KernelError::Args("weights of groups are not stored without zeros anywhere"));
            }
            let rows = shape.depth().ok_or(KernelError::Overflow)?;
            Operand::Scattered(b.resolve(kernels, rows, args.m)?)
        }
        ConvB::Winograd(b) => {
            let all = Winograd::new(kernels, args, b, (base, optional(bias), out), stage.is_some())?;
            if foot.out.is_empty() {
                return Ok(());
            }
            // SAFETY: all footprints were checked above and by the callers, the kernels can run here, and parts are
            // disjoint because the output's elements are distinct.
            return unsafe { all.run(part, stage.as_mut()) };
        }
    };
    if foot.out.is_empty() {
        return Ok(());
    }
    let (rows, taps, out_rows) = args.geometry(size);
    let shape = args.weights();
    let per_group = args.m / args.groups;
    if let (true, Operand::Packed(w)) = (shape.is_depthwise(), &b) {
        let (tile, width) = args.depthwise(size, taps, (base, *w, optional(bias), out));
        let window = args.in_size[1].saturating_mul(args.kernel[0]);
        let all = Depthwise { kernels, tile, rows, out_rows, pixels, width, window };
        // SAFETY: all footprints were checked above and by the callers, the kernels can run here, and parts are disjoint
        // because the output's elements are distinct.
        return unsafe { all.run(part, stage.as_mut()) };
    }
    let gemm = Gemm {
        turn: kernels.turn,
        kernel: if pixels <= kernels.gemm_low.tiles.len() { kernels.gemm_low } else { kernels.gemm },
        m: pixels,
        n: per_group,
        depth: shape.c,
        // Without channels there is nothing to sum, and the input may be empty.
        taps: if shape.c == 0 { Taps::ONE } else { taps },
        a: base,
        a_step: 1,
        rows,
        b,
        bias: optional(bias),
        limits: args.limits,
        out,
        out_rows,
        batches: args.groups,
        batch: Batch::Groups { a: shape.c, n: per_group },
    };
    // SAFETY: as above.
    unsafe { gemm.run(part, stage.as_mut()) }
}

/// A depthwise convolution: `tile` is that of all channels at the first pixel.
struct Depthwise<'a> {
    kernels: &'a Kernels,
    tile: DepthwiseTile,
    rows: Rows<'a>,
    out_rows: Rows<'a>,
    pixels: usize,
    /// Pixels of a line of the output.
    width: usize,
    /// Pixels of the input lines under the kernel.
    window: usize,
}

impl Depthwise<'_> {
    /// Tiles of a line.
    fn per_line(&self) -> usize {
        self.width.div_ceil(self.kernels.depthwise.len())
    }

    /// The pixels of a tile, all of one line.
    fn pixels(&self, tile: usize) -> Range<usize> {
        let (line, at) = (tile / self.per_line(), tile % self.per_line());
        let pixels = share(self.width, self.per_line(), at);
        line * self.width + pixels.start..line * self.width + pixels.end
    }

    /// # Safety
    /// As for [`Gemm::run`].
    unsafe fn run(&self, part: Part, mut stage: Option<&mut Stage<'_>>) -> Result<(), KernelError> {
        let tiles = self.pixels / self.width * self.per_line();
        let channels = self.tile.channels;
        let (t, blocks) = rectangle(tiles, channels.div_ceil(PANEL), part);
        // Channels are taken in blocks of which the rows under the kernel stay in the first-level cache.
        let block = (DEPTHWISE_BLOCK / self.window.max(1) / PANEL).max(1);
        let block = if stage.is_some() { block.min(Stage::PANELS) } else { block };
        for first in blocks.clone().step_by(block) {
            let cols = first * PANEL..channels.min(blocks.end.min(first + block) * PANEL);
            let Some(stage) = stage.as_deref_mut() else {
                // SAFETY: the caller's promise; pixels and channels are inside the problem.
                unsafe { self.tiles(&cols, t.clone(), None) };
                continue;
            };
            let height = (DEPTHWISE_STAGE / stage.step / self.kernels.depthwise.len()).max(1);
            for at in t.clone().step_by(height) {
                let t = at..t.end.min(at + height);
                let rows = self.pixels(t.start).start..self.pixels(t.end - 1).end;
                let staged = (stage.elements.as_ptr(), stage.step, rows.start);
                // SAFETY: as above; the tiles' rows fit the stage, and the columns its step.
                unsafe { self.tiles(&cols, t, Some(staged)) };
                (stage.finish)(&Block { rows, cols: cols.clone(), start: 0 })?;
            }
        }
        Ok(())
    }

    /// Computes the channels `cols` of the tiles `t`, into the output or the stage: where it is, the distance of its
    /// rows, and the pixel of the first of them.
    ///
    /// # Safety
    /// As for [`Gemm::run`]; the tiles and columns are inside the problem and what they are written to.
    unsafe fn tiles(&self, cols: &Range<usize>, t: Range<usize>, staged: Option<(*mut f32, usize, usize)>) {
        let all = &self.tile;
        let mut tile = DepthwiseTile {
            w: all.w.wrapping_add(cols.start),
            bias: if all.bias.is_null() { all.bias } else { all.bias.wrapping_add(cols.start) },
            out_step: staged.map_or(all.out_step, |(_, step, _)| step.cast_signed()),
            channels: cols.len(),
            ..*all
        };
        let per_line = self.per_line();
        let mut t = t;
        while !t.is_empty() {
            let (line, first) = (t.start / per_line, t.start % per_line);
            let last = per_line.min(first + t.len());
            t.start += last - first;
            let start = line * self.width;
            let x = all.x.wrapping_offset(self.rows.at(start)).wrapping_add(cols.start);
            let out = match staged {
                // The first pixel of the stage may be within the line.
                Some((base, step, first)) => base.wrapping_sub(first * step).wrapping_add(start * step),
                None => all.out.wrapping_offset(self.out_rows.at(start)).wrapping_add(cols.start),
            };
            for at in first..last {
                let pixels = share(self.width, per_line, at);
                let from = pixels.start.cast_signed();
                tile.x = x.wrapping_offset(from.wrapping_mul(tile.x_step));
                tile.out = out.wrapping_offset(from.wrapping_mul(tile.out_step));
                // SAFETY: pixels and channels are inside the problem.
                unsafe { self.kernels.depthwise[pixels.len() - 1](&tile) };
            }
        }
    }
}
