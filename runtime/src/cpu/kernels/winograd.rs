//! Winograd's convolution: 36 products of transformed tiles with transformed windows take the place of 9 products of as
//! many rows as 16 tiles' pixels, a quarter of the arithmetic.
//!
//! Loops, outermost first: block of tiles (transformed into planes that stay in cache), group of columns, plane, panel of
//! 32 columns, row tile. Then the group's sums are transformed back.

use super::conv::ConvArgs;
use super::table::Kernels;
use super::tile::{GemmTile, MAX_ROWS, Soon, Taps, TileOut};
use super::winograd_tile::{OUT_SIDE, PLANES, SIDE, WinogradInput, WinogradOutput};
use super::{Block, KernelError, Part, Stage, balance, holds, share};
use crate::cpu::pack::{PANEL, packed_winograd_len};
use std::ops::Range;

/// Elements that the planes of a block of tiles may take: 1 MB. Every block reads all weights, so that small blocks cost
/// more than planes in the third-level cache.
const PLANES_ROOM: usize = 256 * 1024;

/// Most panels of a group of columns.
const GROUP: usize = 8;

/// Tiles of a block that are not worth fewer of, whatever they take.
const TILES_MIN: usize = 6;

/// Keeps planes apart that would fall into one set of a cache.
const PAD: usize = 16;

/// Longest piece of the inner extent.
const CHUNK: usize = super::gemm::CHUNK;

/// Transformed weights, and room to work.
pub struct WinogradB<'a> {
    /// As [`crate::cpu::pack::pack_winograd`] gives them.
    pub weights: &'a [f32],
    /// Room for [`winograd_scratch`] elements, this part's own.
    pub scratch: &'a mut [f32],
}

/// Elements of scratch that a part needs.
///
/// # Errors
/// The convolution is none for this algorithm, or a size overflows.
pub fn winograd_scratch(args: &ConvArgs) -> Result<usize, KernelError> {
    Ok(Room::new(args, false)?.len)
}

/// How the scratch is used: a line of zeros for pixels that do not exist, planes of tiles, planes of sums.
#[derive(Clone, Copy)]
struct Room {
    /// Most tiles of a block.
    tiles: usize,
    /// Most panels of a group.
    panels: usize,
    /// Distance of planes of tiles.
    plane: usize,
    len: usize,
}

impl Room {
    fn new(args: &ConvArgs, staged: bool) -> Result<Self, KernelError> {
        if args.kernel != [3, 3] || args.stride != [1, 1] || args.dilation != [1, 1] || args.groups != 1 {
            return Err(KernelError::Args(
                "Winograd's convolution is for windows of 3 x 3 neighbours, stride 1, one group",
            ));
        }
        let widest = args.m.div_ceil(PANEL).clamp(1, GROUP);
        let tile = widest.checked_mul(PANEL).and_then(|c| c.checked_add(args.channels));
        let tile = tile.and_then(|c| c.checked_mul(PLANES)).ok_or(KernelError::Overflow)?;
        let tiles = (PLANES_ROOM / tile).max(TILES_MIN);
        let len = tile.checked_mul(tiles).and_then(|n| n.checked_add(2 * PLANES * PAD));
        let len = len.and_then(|n| n.checked_add(args.channels)).ok_or(KernelError::Overflow)?;
        let panels = if staged { widest.min(Stage::PANELS) } else { widest };
        Ok(Self { tiles, panels, plane: tiles * args.channels + PAD, len })
    }
}

/// A checked problem; sizes are not 0 except the number of channels.
pub(crate) struct Winograd<'a> {
    kernels: &'a Kernels,
    args: &'a ConvArgs,
    /// Element 0 of the footprint's base, as the steps count.
    x: *const f32,
    weights: *const f32,
    bias: *const f32,
    /// Not used with a stage.
    out: *mut f32,
    out_size: [usize; 2],
    room: Room,
    scratch: *mut f32,
}

/// A run of neighbouring tiles in a row of tiles: the first of them, counted from the block's, and where their result is.
struct Run {
    tile: usize,
    count: usize,
    /// Image, line and pixel of the result.
    at: [usize; 3],
    /// Lines and pixels of a line.
    size: [usize; 2],
}

impl<'a> Winograd<'a> {
    /// Checks weights and scratch; the other operands are checked by the caller.
    pub(super) fn new(
        kernels: &'a Kernels,
        args: &'a ConvArgs,
        b: WinogradB<'_>,
        (x, bias, out): (*const f32, *const f32, *mut f32),
        staged: bool,
    ) -> Result<Self, KernelError> {
        let room = Room::new(args, staged)?;
        let weights = packed_winograd_len(args.channels, args.m).ok_or(KernelError::Overflow)?;
        holds("weights", &(0..weights), b.weights.len())?;
        holds("scratch", &(0..room.len), b.scratch.len())?;
        let out_size = args.out_size()?;
        let scratch = b.scratch.as_mut_ptr();
        Ok(Self { kernels, args, x, weights: b.weights.as_ptr(), bias, out, out_size, room, scratch })
    }

    /// Writes a part of the result to the output, or hands it to the stage's owner.
    ///
    /// # Safety
    /// The footprint of the arguments is valid from `x` and `out`, the kernels can run here, and concurrent calls with the
    /// same problem have the same part count, different part indices, scratches and stages.
    pub(crate) unsafe fn run(
        &self,
        part: Part,
        mut stage: Option<&mut Stage<'_>>,
    ) -> Result<(), KernelError> {
        let panels = self.args.m.div_ceil(PANEL);
        let [height, width] = self.out_size.map(|size| size.div_ceil(OUT_SIDE));
        let tiles = self.args.batch * height * width;
        let (tiles, panels) = if self.prefers_panels(tiles, panels, part.count) {
            (0..tiles, part.of(panels))
        } else {
            (part.of(tiles), 0..panels)
        };
        if panels.is_empty() {
            return Ok(());
        }
        // SAFETY: the scratch begins with this line.
        unsafe { std::ptr::write_bytes(self.scratch, 0, self.args.channels) };
        let blocks = tiles.len().div_ceil(self.room.tiles);
        for block in 0..blocks {
            let piece = share(tiles.len(), blocks, block);
            let piece = tiles.start + piece.start..tiles.start + piece.end;
            // SAFETY: the caller's promise; a block's tiles fit the scratch.
            unsafe { self.transform(piece.clone()) };
            for first in panels.clone().step_by(self.room.panels) {
                let group = first..panels.end.min(first + self.room.panels);
                // SAFETY: as above; a group's sums fit the scratch.
                unsafe {
                    self.multiply(piece.len(), group.clone());
                    self.finish(piece.clone(), group, stage.as_deref_mut())?;
                }
            }
        }
        Ok(())
    }

    /// Whether to share out panels instead of tiles: where there are so few tiles that the weights, of which each part then
    /// reads its own, are most of what is read.
    fn prefers_panels(&self, tiles: usize, panels: usize, parts: usize) -> bool {
        let few = tiles.div_ceil(parts) <= 2 * self.kernels.gemm.tiles.len();
        let (by_panels, by_tiles) = (balance(panels, parts), balance(tiles, parts));
        by_panels > by_tiles || few && by_panels + 50 >= by_tiles
    }

    /// Image, line and pixel of the result that a tile begins with.
    fn position(&self, tile: usize) -> [usize; 3] {
        let [height, width] = self.out_size.map(|size| size.div_ceil(OUT_SIDE));
        let row = tile / width;
        [row / height, row % height * OUT_SIDE, tile % width * OUT_SIDE]
    }

    fn pixel(steps: [isize; 3], at: [usize; 3]) -> isize {
        let terms = steps.into_iter().zip(at).map(|(step, i)| i.cast_signed().wrapping_mul(step));
        terms.fold(0, isize::wrapping_add)
    }

    /// Fills the planes of a block of tiles.
    ///
    /// # Safety
    /// As for [`Self::run`]; the block fits the scratch.
    unsafe fn transform(&self, block: Range<usize>) {
        let channels = self.args.channels;
        let zeros = self.scratch.cast_const();
        let [in_height, in_width] = self.args.in_size;
        for (i, index) in block.enumerate() {
            let [image, first_y, first_x] = self.position(index);
            let mut pixels = [zeros; PLANES];
            for (p, pixel) in pixels.iter_mut().enumerate() {
                let (y, x) = (first_y + p / SIDE, first_x + p % SIDE);
                if y < in_height && x < in_width {
                    *pixel = self.x.wrapping_offset(Self::pixel(self.args.x.steps, [image, y, x]));
                }
            }
            let out = self.scratch.wrapping_add(channels + i * channels);
            let tile = WinogradInput { pixels, out, plane: self.room.plane, channels };
            // SAFETY: pixels are inside the image or a line of zeros; the planes hold the tile.
            unsafe { (self.kernels.winograd_input)(&tile) };
        }
    }

    /// Where the planes of sums of a group of `panels` of `tiles` tiles start, and how far they are from each other.
    fn sums(&self, tiles: usize, panels: usize) -> (*mut f32, usize) {
        let start = self.args.channels + PLANES * self.room.plane;
        (self.scratch.wrapping_add(start), tiles * panels * PANEL + PAD)
    }

    /// Multiplies the planes of `tiles` tiles with the panels of a group.
    ///
    /// # Safety
    /// As for [`Self::run`]; the planes of the block are filled, and the sums fit the scratch.
    unsafe fn multiply(&self, tiles: usize, group: Range<usize>) {
        let low = self.kernels.gemm_low;
        let kernel = if tiles <= low.tiles.len() { low } else { self.kernels.gemm };
        let pieces = tiles.div_ceil(kernel.tiles.len());
        let channels = self.args.channels;
        let panels = self.args.m.div_ceil(PANEL);
        let (sums, distance) = self.sums(tiles, group.len());
        let step = group.len() * PANEL;
        let chunks = channels.div_ceil(CHUNK).max(1);
        let calls = pieces * (PANEL / kernel.cols);
        for (plane, panel) in (0..PLANES).flat_map(|plane| group.clone().map(move |panel| (plane, panel))) {
            let a = self.scratch.wrapping_add(channels + plane * self.room.plane).cast_const();
            let b = self.weights.wrapping_add((plane * panels + panel) * channels * PANEL);
            let c = sums.wrapping_add(plane * distance + (panel - group.start) * PANEL);
            // The panel after the group's last is that of another plane.
            let next = b.wrapping_add(
                if panel + 1 < group.end { 1 } else { panels + 1 - group.len() } * channels * PANEL,
            );
            for chunk in 0..chunks {
                let depth = share(channels, chunks, chunk);
                let mut tile = GemmTile {
                    a: a.wrapping_add(depth.start),
                    rows: [0; MAX_ROWS],
                    taps: Taps::ONE,
                    depth: depth.len(),
                    a_step: 1,
                    b: b.wrapping_add(depth.start * PANEL),
                    b_step: PANEL.cast_signed(),
                    soon: Soon::NONE,
                    out: TileOut {
                        bias: std::ptr::null(),
                        c,
                        c_rows: [0; MAX_ROWS],
                        col: 0,
                        cols: kernel.cols,
                        accumulate: chunk > 0,
                        limits: None,
                    },
                };
                for (call, (piece, col)) in (0..pieces)
                    .flat_map(|piece| (0..PANEL).step_by(kernel.cols).map(move |col| (piece, col)))
                    .enumerate()
                {
                    let rows = share(tiles, pieces, piece);
                    for (i, row) in rows.clone().enumerate() {
                        tile.rows[i] = (row * channels).cast_signed();
                        tile.out.c_rows[i] = (row * step).cast_signed();
                    }
                    tile.out.col = col;
                    let share = next.wrapping_add(depth.start * PANEL + PANEL * depth.len() * call / calls);
                    tile.soon = Soon { at: share, step: PANEL.div_ceil(calls) };
                    // SAFETY: rows and columns are inside the planes of tiles, the panel and the planes of sums.
                    unsafe { kernel.tiles[rows.len() - 1](&tile) };
                }
            }
        }
    }

    /// The tiles of a block in runs of one row of tiles, of which a stage holds the result.
    fn runs(
        &self,
        block: Range<usize>,
        stage: Option<&Stage<'_>>,
    ) -> impl Iterator<Item = Run> + use<'_, 'a> {
        let most = stage.map_or(usize::MAX, |stage| (stage.rows() / (OUT_SIDE * OUT_SIDE)).max(1));
        let [height, width] = self.out_size;
        let in_row = width.div_ceil(OUT_SIDE);
        let mut next = block.start;
        std::iter::from_fn(move || {
            let tile = next;
            let count = most.min(in_row - tile % in_row).min(block.end - tile);
            next += count;
            let at = self.position(tile);
            let size = [OUT_SIDE.min(height - at[1]), (count * OUT_SIDE).min(width - at[2])];
            (count > 0).then_some(Run { tile: tile - block.start, count, at, size })
        })
    }

    /// Transforms the sums of a group of panels into the result of a block of tiles.
    ///
    /// # Safety
    /// As for [`Self::run`]; the sums are there.
    unsafe fn finish(
        &self,
        block: Range<usize>,
        group: Range<usize>,
        mut stage: Option<&mut Stage<'_>>,
    ) -> Result<(), KernelError> {
        let (sums, plane) = self.sums(block.len(), group.len());
        let cols = group.start * PANEL..self.args.m.min(group.end * PANEL);
        let [height, width] = self.out_size;
        for run in self.runs(block, stage.as_deref()) {
            let [image, y, x] = run.at;
            let (out, line, pixel) = match &stage {
                Some(stage) => {
                    let step = stage.step.cast_signed();
                    (stage.elements.as_ptr(), run.size[1].cast_signed().wrapping_mul(step), step)
                }
                None => {
                    let steps = self.args.out.steps;
                    let at = Self::pixel(steps, run.at);
                    (self.out.wrapping_offset(at).wrapping_add(cols.start), steps[1], steps[2])
                }
            };
            for i in 0..run.count {
                let tile = WinogradOutput {
                    sums: sums.wrapping_add((run.tile + i) * group.len() * PANEL).cast_const(),
                    plane,
                    bias: if self.bias.is_null() { self.bias } else { self.bias.wrapping_add(cols.start) },
                    out: out.wrapping_offset((i * OUT_SIDE).cast_signed().wrapping_mul(pixel)),
                    line,
                    pixel,
                    size: [run.size[0], OUT_SIDE.min(run.size[1] - i * OUT_SIDE)],
                    channels: cols.len(),
                    limits: self.args.limits,
                };
                // SAFETY: the tile's pixels within its size are those of the result or the stage; the sums are there.
                unsafe { (self.kernels.winograd_output)(&tile) };
            }
            let Some(stage) = &mut stage else { continue };
            let first = (image * height + y) * width + x;
            // Whole lines follow each other.
            let (lines, long) =
                if run.size[1] == width { (1, run.size[0] * width) } else { (run.size[0], run.size[1]) };
            for i in 0..lines {
                let rows = first + i * width..first + i * width + long;
                let start = i * long * stage.step;
                (stage.finish)(&Block { rows, cols: cols.clone(), start })?;
            }
        }
        Ok(())
    }
}
