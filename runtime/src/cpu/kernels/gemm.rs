//! The indirect GEMM that matrix multiplication and convolution share.
//!
//! Loops, outermost first: batch, block of row tiles (its part of A stays in the second-level cache, packed where B is
//! sparse), chunk of the inner extent, panel of 32 columns, row tile, part of the panel. A chunk after the first goes on from what the
//! output holds, so every sum is taken in the order of k whatever the blocking.
//!
//! With a [`Stage`] the columns are also cut into blocks, and the sums of a block of rows and columns are kept in the stage
//! until they are final; then the stage's owner takes them from there.

use super::matmul::BatchDim;
use super::panel::{TurnedPanel, pack_panel};
use super::scattered::Scattered;
use super::sparse::Sparse;
use super::sparse_tile::SparseTile;
use super::table::{GemmKernel, TileKernel};
use super::tile::{GemmTile, MAX_ROWS, Soon, Taps, TileOut};
use super::{Block, CROSSING, KernelError, Limits, Part, Stage, balance, share};
use crate::cpu::pack::PANEL;
use std::ops::Range;

/// Longest chunk of the inner extent.
pub(crate) const CHUNK: usize = 512;

/// Elements of A that a block of row tiles may take: 192 KB.
const BLOCK: usize = 48 * 1024;

/// Where rows of A start, relative to its base.
pub(crate) enum Rows<'a> {
    /// Row `r` at `r` times this.
    Linear(isize),
    /// Row `(image * height + y) * width + x` at `image * image_step + y * y_step + x * x_step`.
    Pixels { height: usize, width: usize, image_step: isize, y_step: isize, x_step: isize },
    /// Row `r` at element `r` of this.
    Listed(&'a [isize]),
}

impl Rows<'_> {
    /// The start of a row.
    pub(crate) fn at(&self, row: usize) -> isize {
        self.fill(row, 1)[0]
    }

    /// The starts of `count` rows from `first`.
    pub(crate) fn fill(&self, first: usize, count: usize) -> [isize; MAX_ROWS] {
        let mut starts = [0; MAX_ROWS];
        match *self {
            Self::Linear(step) => {
                let mut at = first.cast_signed().wrapping_mul(step);
                for start in starts.iter_mut().take(count) {
                    *start = at;
                    at = at.wrapping_add(step);
                }
            }
            Self::Listed(list) => {
                let listed = list.iter().skip(first).take(count);
                starts.iter_mut().zip(listed).for_each(|(start, at)| *start = *at);
            }
            Self::Pixels { height, width, image_step, y_step, x_step } => {
                let (line, mut x) = (first / width, first % width);
                let (mut image, mut y) = (line / height, line % height);
                for start in starts.iter_mut().take(count) {
                    *start = image
                        .cast_signed()
                        .wrapping_mul(image_step)
                        .wrapping_add(y.cast_signed().wrapping_mul(y_step))
                        .wrapping_add(x.cast_signed().wrapping_mul(x_step));
                    x += 1;
                    if x == width {
                        (x, y) = (0, y + 1);
                    }
                    if y == height {
                        (y, image) = (0, image + 1);
                    }
                }
            }
        }
        starts
    }
}

/// B, with the offset of the batch still to be added.
pub(crate) enum Operand {
    Packed(*const f32),
    Strided { data: *const f32, row: isize, col: isize, scratch: *mut f32 },
    Sparse(Sparse),
    Scattered(Scattered),
}

/// How operands move from one batch to the next.
pub(crate) enum Batch<'a> {
    /// Batch dimensions; packed B and bias stay.
    Dims(&'a [BatchDim]),
    /// Groups of a convolution: A advances by a constant, B by whole panels, the columns by `n`.
    Groups { a: usize, n: usize },
}

/// Offsets of one batch.
struct Place {
    a: isize,
    b: isize,
    /// First panel of packed B.
    panels: usize,
    bias: usize,
    out: isize,
    /// First row and column of the batch in the whole result.
    first: [usize; 2],
}

/// Where the sums of some tiles go: `base` belongs to row and column `first`.
struct Target<'a> {
    base: *mut f32,
    first: [usize; 2],
    rows: &'a Rows<'a>,
}

/// A checked problem; sizes are not 0 except `depth` and the number of taps.
pub(crate) struct Gemm<'a> {
    pub kernel: GemmKernel,
    /// Packs a panel of B that is contiguous along k.
    pub turn: unsafe fn(&TurnedPanel),
    pub m: usize,
    pub n: usize,
    /// Elements of a row of A at each tap.
    pub depth: usize,
    pub taps: Taps,
    pub a: *const f32,
    pub a_step: isize,
    pub rows: Rows<'a>,
    pub b: Operand,
    pub bias: *const f32,
    pub limits: Option<Limits>,
    /// Not used with a stage.
    pub out: *mut f32,
    /// Rows of the output, relative to the batch's first; not used with a stage.
    pub out_rows: Rows<'a>,
    pub batches: usize,
    pub batch: Batch<'a>,
}

/// A kernel's argument that the loops over tiles set rows and columns of.
trait Tile {
    fn out(&mut self) -> &mut TileOut;

    /// Takes `rows` of A next; `block` is the first of the block of rows.
    fn set_rows(&mut self, gemm: &Gemm<'_>, block: usize, rows: &Range<usize>);

    /// Brings its share of the chunk of B at `next`, if that is not null, nearer: this is call `call` of `calls` on
    /// the present chunk.
    fn set_soon(&mut self, next: *const f32, call: usize, calls: usize);
}

impl Tile for GemmTile {
    fn out(&mut self) -> &mut TileOut {
        &mut self.out
    }

    fn set_rows(&mut self, gemm: &Gemm<'_>, _block: usize, rows: &Range<usize>) {
        self.rows = gemm.rows.fill(rows.start, rows.len());
    }

    fn set_soon(&mut self, next: *const f32, call: usize, calls: usize) {
        if !next.is_null() {
            let elements = PANEL * self.depth * self.taps.count;
            self.soon = Soon { at: next.wrapping_add(elements * call / calls), step: PANEL.div_ceil(calls) };
        }
    }
}

impl Tile for SparseTile {
    fn out(&mut self) -> &mut TileOut {
        &mut self.out
    }

    fn set_rows(&mut self, _gemm: &Gemm<'_>, block: usize, rows: &Range<usize>) {
        self.row = rows.start - block;
    }

    fn set_soon(&mut self, _next: *const f32, _call: usize, _calls: usize) {}
}

/// A piece of the inner extent: whole taps, or a piece of one tap. For a sparse B `depth` is in groups, counted through
/// all taps.
struct Chunk {
    taps: Range<usize>,
    depth: Range<usize>,
}

/// A chunk of a panel to be multiplied.
struct Turn<'a> {
    chunk: &'a Chunk,
    accumulate: bool,
    /// Whether the sums are final after it.
    is_last: bool,
    panel: usize,
    /// Where what is multiplied after it starts; null if that is not known.
    next: *const f32,
}

impl Gemm<'_> {
    /// Writes a part of the result to the output, or hands it to the stage's owner.
    ///
    /// # Safety
    /// Every element that the formula names is valid, the kernel can run here, and concurrent calls with the same
    /// problem have the same part count, different part indices and different stages. A stage has [`super::STAGE`] elements.
    pub(crate) unsafe fn run(
        &self,
        part: Part,
        mut stage: Option<&mut Stage<'_>>,
    ) -> Result<(), KernelError> {
        let tiles = self.m.div_ceil(self.height());
        let panels = self.n.div_ceil(PANEL);
        let by_panels = self.prefers_panels(tiles, panels, part.count);
        let each = if by_panels { panels } else { tiles };
        let work = part.of(self.batches * each);
        let mut at = work.start;
        while at < work.end {
            let (batch, first) = (at / each, at % each);
            let last = each.min(first + work.end - at);
            let (t, p) = if by_panels { (0..tiles, first..last) } else { (first..last, 0..panels) };
            // SAFETY: the caller's promise; tiles and panels are inside the problem.
            unsafe { self.batch(&self.place(batch), tiles, t, p, stage.as_deref_mut())? };
            at += last - first;
        }
        Ok(())
    }

    /// As [`Self::run`] for some panels of a problem of one batch, which no other call writes at the time.
    ///
    /// # Safety
    /// As for [`Self::run`]; the panels are inside the problem.
    pub(crate) unsafe fn run_panels(&self, panels: Range<usize>) -> Result<(), KernelError> {
        let tiles = self.m.div_ceil(self.height());
        // SAFETY: the caller's promise.
        unsafe { self.batch(&self.place(0), tiles, 0..tiles, panels, None) }
    }

    /// Rows of a tile. Rows of A at multiples of 4 KiB fall into one set of a first-level cache, which has 8 ways: more
    /// of them would evict each other at every step.
    fn height(&self) -> usize {
        let full = self.kernel.tiles.len();
        if let Operand::Sparse(sparse) = &self.b {
            return sparse.height();
        }
        match self.rows {
            Rows::Linear(step) if full > 8 && step != 0 && step % 1024 == 0 => full.div_ceil(2),
            Rows::Listed(list) if full > 8 && list.iter().all(|at| at % 1024 == 0) => full.div_ceil(2),
            _ => full,
        }
    }

    /// Whether to share out panels instead of row tiles: if that balances better, or about as well where each part
    /// would otherwise pack all of B.
    fn prefers_panels(&self, tiles: usize, panels: usize, parts: usize) -> bool {
        let by_tiles = balance(self.batches.saturating_mul(tiles), parts);
        let by_panels = balance(self.batches.saturating_mul(panels), parts);
        let unpacked = matches!(self.b, Operand::Strided { .. } | Operand::Scattered(_));
        let handicap = if unpacked { 100 } else { 0 };
        by_panels + handicap > by_tiles + CROSSING
    }

    fn place(&self, mut index: usize) -> Place {
        match self.batch {
            Batch::Dims(dims) => {
                let (mut a, mut b, mut out) = (0_isize, 0_isize, 0_isize);
                let first = [index * self.m, 0];
                for dim in dims.iter().rev() {
                    let i = (index % dim.extent).cast_signed();
                    index /= dim.extent;
                    a = a.wrapping_add(i.wrapping_mul(dim.a));
                    b = b.wrapping_add(i.wrapping_mul(dim.b));
                    out = out.wrapping_add(i.wrapping_mul(dim.out));
                }
                Place { a, b, panels: 0, bias: 0, out, first }
            }
            Batch::Groups { a, n } => Place {
                a: (index * a).cast_signed(),
                b: 0,
                panels: index * n.div_ceil(PANEL),
                bias: index * n,
                out: (index * n).cast_signed(),
                first: [0, index * n],
            },
        }
    }

    fn chunks(&self) -> usize {
        if let Operand::Sparse(sparse) = &self.b {
            return sparse.chunks(self.taps.count);
        }
        if self.depth <= CHUNK {
            let all = self.depth.saturating_mul(self.taps.count).div_ceil(CHUNK);
            all.min(self.taps.count).max(1)
        } else {
            (self.taps.count * self.depth.div_ceil(CHUNK)).max(1)
        }
    }

    fn chunk(&self, index: usize, chunks: usize) -> Chunk {
        if let Operand::Sparse(sparse) = &self.b {
            return Chunk { taps: 0..0, depth: sparse.chunk(self.taps.count, index, chunks) };
        }
        if self.depth <= CHUNK || self.taps.count == 0 {
            return Chunk { taps: share(self.taps.count, chunks, index), depth: 0..self.depth };
        }
        let pieces = self.depth.div_ceil(CHUNK);
        let tap = index / pieces;
        Chunk { taps: tap..tap + 1, depth: share(self.depth, pieces, index % pieces) }
    }

    /// Row tiles of a block, and panels of a block of columns.
    fn blocks(&self, chunks: usize, stage: Option<&Stage<'_>>) -> (usize, usize) {
        let rows = match &self.b {
            Operand::Sparse(sparse) => sparse.rows(),
            _ => {
                let longest = self.chunk(0, chunks);
                BLOCK / (longest.taps.len() * longest.depth.len()).max(1)
            }
        };
        let tiles = (rows / self.height()).max(1);
        match stage {
            None => (tiles, usize::MAX),
            Some(stage) => (tiles.min(stage.rows() / self.height()).max(1), Stage::PANELS),
        }
    }

    /// # Safety
    /// As for [`Self::run`].
    unsafe fn batch(
        &self,
        place: &Place,
        tiles: usize,
        t: Range<usize>,
        panels: Range<usize>,
        mut stage: Option<&mut Stage<'_>>,
    ) -> Result<(), KernelError> {
        let chunks = self.chunks();
        let (block, group) = self.blocks(chunks, stage.as_deref());
        // Rounded where a few rows too many do no harm, so that they do not read all of B again.
        let bounded = stage.is_some() || matches!(self.b, Operand::Sparse(_));
        let slack = if bounded { block - 1 } else { block / 2 };
        let blocks = (t.len().saturating_add(slack) / block).max(1);
        for part in 0..blocks {
            let piece = share(t.len(), blocks, part);
            let piece = t.start + piece.start..t.start + piece.end;
            let mut first = panels.start;
            while first < panels.end {
                let last = panels.end.min(first.saturating_add(group));
                let rows = share(self.m, tiles, piece.start).start..share(self.m, tiles, piece.end - 1).end;
                let cols = first * PANEL..self.n.min(last * PANEL);
                let staged =
                    stage.as_ref().map(|s| (s.elements.as_ptr(), Rows::Linear(s.step.cast_signed())));
                let target = match &staged {
                    Some((base, step)) => Target { base: *base, first: [rows.start, cols.start], rows: step },
                    None => {
                        let base = self.out.wrapping_offset(place.out);
                        Target { base, first: [0, 0], rows: &self.out_rows }
                    }
                };
                for index in 0..chunks {
                    let chunk = self.chunk(index, chunks);
                    if let Operand::Sparse(sparse) = &self.b {
                        // SAFETY: the caller's promise; a block of rows fits the scratch.
                        unsafe { sparse.pack_rows(self, place.a, rows.clone(), chunk.depth.clone()) };
                    }
                    for panel in first..last {
                        let at = |index, panel| self.packed(place, &self.chunk(index, chunks), panel);
                        let next = if panel + 1 < last {
                            at(index, panel + 1)
                        } else if index + 1 < chunks {
                            at(index + 1, first)
                        } else if last < panels.end {
                            at(0, last)
                        } else if part + 1 < blocks {
                            at(0, panels.start)
                        } else {
                            std::ptr::null()
                        };
                        let is_last = index + 1 == chunks;
                        let turn = Turn { chunk: &chunk, accumulate: index > 0, is_last, panel, next };
                        // SAFETY: the caller's promise; a block of rows and columns fits the stage.
                        unsafe { self.panel(place, &turn, (tiles, piece.clone()), &target) };
                    }
                }
                if let Some(stage) = &mut stage {
                    let [row, col] = place.first;
                    let (rows, cols) = (row + rows.start..row + rows.end, col + cols.start..col + cols.end);
                    (stage.finish)(&Block { rows, cols, start: 0 })?;
                }
                first = last;
            }
        }
        Ok(())
    }

    /// # Safety
    /// As for [`Self::run`].
    unsafe fn panel(
        &self,
        place: &Place,
        turn: &Turn<'_>,
        (tiles, t): (usize, Range<usize>),
        target: &Target<'_>,
    ) {
        let Turn { chunk, accumulate, is_last, panel, next } = *turn;
        let first_col = panel * PANEL;
        let bias = self.bias.wrapping_add(if self.bias.is_null() { 0 } else { place.bias + first_col });
        let c = target.base.wrapping_add(first_col - target.first[1]);
        let limits = self.limits.filter(|_| is_last);
        let out = TileOut { bias, c, c_rows: [0; MAX_ROWS], col: 0, cols: 0, accumulate, limits };
        // SAFETY: the caller's promise; the rows of the block are packed for this chunk where B is sparse.
        unsafe {
            if let Operand::Sparse(sparse) = &self.b {
                let mut tile = sparse.panel(place.panels + panel, self.taps.count, &chunk.depth, out);
                return self.tiles(&mut tile, &sparse.kernel, (panel, next), (tiles, t), target);
            }
            let few = match &self.b {
                Operand::Scattered(b) if b.is_few(self.m) => Some(b),
                _ => None,
            };
            let (b, b_step) = match few {
                Some(_) => (std::ptr::null(), 0),
                None => self.panel_of_b(place, chunk, panel, t.len()),
            };
            let mut tile = GemmTile {
                a: self
                    .a
                    .wrapping_offset(place.a)
                    .wrapping_offset(chunk.depth.start.cast_signed().wrapping_mul(self.a_step)),
                rows: [0; MAX_ROWS],
                taps: Taps { first: chunk.taps.start, count: chunk.taps.len(), ..self.taps },
                depth: chunk.depth.len(),
                a_step: self.a_step,
                b,
                b_step,
                soon: Soon::NONE,
                out,
            };
            let Some(scattered) = few else {
                return self.tiles(&mut tile, &self.kernel, (panel, next), (tiles, t), target);
            };
            tile.rows = self.rows.fill(0, self.m);
            tile.out.c_rows = target.rows.fill(0, self.m);
            tile.out.cols = PANEL.min(self.n - first_col);
            let first = chunk.taps.start * self.depth + chunk.depth.start;
            scattered.multiply(place.panels + panel, first, self.m, tile);
        }
    }

    /// Runs a kernel over the tiles `t` of a panel, while what is read after it, if known, is brought nearer.
    ///
    /// # Safety
    /// As for [`Self::run`]; `tile` belongs to the panel.
    unsafe fn tiles<T: Tile>(
        &self,
        tile: &mut T,
        kernel: &TileKernel<T>,
        (panel, next): (usize, *const f32),
        (tiles, t): (usize, Range<usize>),
        target: &Target<'_>,
    ) {
        let cols = PANEL.min(self.n - panel * PANEL);
        let block = share(self.m, tiles, t.start).start;
        let calls = t.len() * cols.div_ceil(kernel.cols);
        let mut call = 0;
        for index in t {
            let rows = share(self.m, tiles, index);
            tile.set_rows(self, block, &rows);
            tile.out().c_rows = target.rows.fill(rows.start - target.first[0], rows.len());
            for col in (0..cols).step_by(kernel.cols) {
                (tile.out().col, tile.out().cols) = (col, kernel.cols.min(cols - col));
                tile.set_soon(next, call, calls);
                call += 1;
                // SAFETY: the rows and columns are inside the problem; B's panel is 32 wide.
                unsafe { kernel.tiles[rows.len() - 1](tile) };
            }
        }
    }

    /// Where a chunk of a panel of packed B starts; null if B is not packed.
    fn packed(&self, place: &Place, chunk: &Chunk, panel: usize) -> *const f32 {
        let Operand::Packed(data) = self.b else { return std::ptr::null() };
        let above = (place.panels + panel) * self.taps.count * self.depth;
        data.wrapping_add((above + chunk.taps.start * self.depth + chunk.depth.start) * PANEL)
    }

    /// The start and the row distance of a chunk of a panel of B, packed into the scratch where it has to be.
    ///
    /// # Safety
    /// As for [`Self::run`].
    unsafe fn panel_of_b(
        &self,
        place: &Place,
        chunk: &Chunk,
        panel: usize,
        tiles: usize,
    ) -> (*const f32, isize) {
        let first = chunk.taps.start * self.depth + chunk.depth.start;
        match self.b {
            Operand::Packed(_) => (self.packed(place, chunk, panel), PANEL.cast_signed()),
            // Read without being unpacked.
            Operand::Sparse(_) => (std::ptr::null(), 0),
            Operand::Scattered(ref b) => {
                let rows = chunk.taps.len() * chunk.depth.len();
                // SAFETY: the panel and its rows are inside the matrix, and a chunk fits the scratch.
                (unsafe { b.expanded(place.panels + panel, first, rows) }, PANEL.cast_signed())
            }
            Operand::Strided { data, row, col, scratch } => {
                let first_col = panel * PANEL;
                let cols = PANEL.min(self.n - first_col);
                let start = data
                    .wrapping_offset(place.b)
                    .wrapping_offset(first.cast_signed().wrapping_mul(row))
                    .wrapping_offset(first_col.cast_signed().wrapping_mul(col));
                // Packing pays only if several row tiles read the panel.
                if col == 1 && tiles <= 2 && cols.is_multiple_of(self.kernel.cols) {
                    return (start, row);
                }
                // SAFETY: the chunk is inside B, and the scratch holds CHUNK rows.
                unsafe { pack_panel(self.turn, start, [row, col], chunk.depth.len(), cols, scratch) };
                (scratch.cast_const(), PANEL.cast_signed())
            }
        }
    }
}
