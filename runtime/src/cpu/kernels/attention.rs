//! Scaled dot-product attention, with the softmax taken online over blocks of keys.
//!
//! The query heads that share a key head are taken together, their rows (head, query) cut into blocks at fixed places;
//! parts share out these blocks. A chunk of neighbouring blocks goes through the keys once, block by block: keys and
//! values are packed, then each block of rows gets its scores, their exponentials relative to the largest score so
//! far, and the sum of values weighted by them. Few rows, as of a decoder that makes one token, read keys and
//! values where they are.

use super::gemm::Rows;
use super::panel::pack_panel;
use super::scores::{DotTile, ScoreRow};
use super::table::{GemmKernel, Kernels};
use super::tile::{GemmTile, MAX_ROWS, Soon, Taps, TileOut};
use super::{KernelError, Part, distinct, holds, product, share, span};
use crate::cpu::pack::PANEL;
use crate::cpu::shared::SharedMut;
use std::ops::Range;

/// Keys of a block.
const KEYS: usize = 512;
/// Rows of a block.
const ROWS: usize = 64;
/// Blocks of rows that go through the keys together.
const CHUNK: usize = 8;
/// Distance of rows of scores; apart from a power of two, so that they do not meet in the first-level cache.
const SCORE_STEP: usize = KEYS + 16;
/// A score this far below the largest of its row has a weight that f32 rounds to 0: `exp(-104) < 2^-150`.
const NO_WEIGHT: f32 = 104.0;
/// Rows up to which packing does not pay.
const FEW: usize = 8;

/// A tensor of four dimensions: element `i` is at `offset + sum_d i[d] * steps[d]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// First element.
    pub offset: usize,
    /// Distances along batch, heads, rows and columns.
    pub steps: [isize; 4],
}

impl Heads {
    /// A dense row-major tensor.
    pub fn dense([heads, rows, cols]: [usize; 3]) -> Self {
        let steps = [heads.wrapping_mul(rows.wrapping_mul(cols)), rows.wrapping_mul(cols), cols, 1];
        Self { offset: 0, steps: steps.map(usize::cast_signed) }
    }

    fn dims(&self, extents: [usize; 4]) -> impl Iterator<Item = (usize, isize)> + Clone {
        extents.into_iter().zip(self.steps)
    }

    /// Offset of the first element of a head.
    fn at(&self, batch: usize, head: usize) -> isize {
        let [b, h, ..] = self.steps;
        let moved = batch.cast_signed().wrapping_mul(b).wrapping_add(head.cast_signed().wrapping_mul(h));
        self.offset.cast_signed().wrapping_add(moved)
    }
}

/// `out[b, h, i] = sum_j softmax_j(scale * q[b, h, i] . k[b, g, j] + mask[b, h, i, j]) * v[b, g, j]` with
/// `g = h / (heads / kv_heads)`.
///
/// A row of scores that is all negative infinity or empty, or holds NaN or positive infinity, gives NaN, or zeros with
/// `zero_masked`. A value that is NaN or infinite makes NaN also of rows that weigh it with 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionArgs {
    /// Batches.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads; divides `heads`.
    pub kv_heads: usize,
    /// Queries.
    pub q_len: usize,
    /// Keys.
    pub kv_len: usize,
    /// Columns of queries and keys.
    pub head_dim: usize,
    /// Columns of values and the output.
    pub v_dim: usize,
    /// Factor of the products.
    pub scale: f32,
    /// Over batch, heads, queries, head_dim.
    pub q: Heads,
    /// Over batch, key heads, keys, head_dim.
    pub k: Heads,
    /// Over batch, key heads, keys, v_dim.
    pub v: Heads,
    /// Over batch, heads, queries, v_dim; its elements are distinct.
    pub out: Heads,
    /// Over batch, heads, queries, keys.
    pub mask: Option<Heads>,
    /// Query `i` sees only keys `j <= i + causal`; the scores of the others are `fill`, whatever the mask says.
    pub causal: Option<i64>,
    /// Keys that a query does not see are left out, unless the scores of all others are so low that this one has a weight.
    pub fill: f32,
    /// Rows without a softmax give zeros instead of NaN.
    pub zero_masked: bool,
}

/// The elements that an attention touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionFootprint {
    /// Of the queries.
    pub q: Range<usize>,
    /// Of the keys.
    pub k: Range<usize>,
    /// Of the values.
    pub v: Range<usize>,
    /// Of the mask.
    pub mask: Range<usize>,
    /// Of the output.
    pub out: Range<usize>,
    /// Elements of scratch that a part needs.
    pub scratch: usize,
}

impl AttentionArgs {
    /// What is read and written.
    pub fn footprint(&self) -> Result<AttentionFootprint, KernelError> {
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(KernelError::Args("key heads must divide the heads"));
        }
        let of = |operand, view: &Heads, [heads, rows, cols]: [usize; 3]| {
            let extents = [self.batch, heads, rows, cols];
            product(&extents)?;
            span(operand, view.offset, view.dims(extents))
        };
        let out = of("out", &self.out, [self.heads, self.q_len, self.v_dim])?;
        if !out.is_empty() {
            distinct(self.out.dims([self.batch, self.heads, self.q_len, self.v_dim]))?;
        }
        Ok(AttentionFootprint {
            q: of("q", &self.q, [self.heads, self.q_len, self.head_dim])?,
            k: of("k", &self.k, [self.kv_heads, self.kv_len, self.head_dim])?,
            v: of("v", &self.v, [self.kv_heads, self.kv_len, self.v_dim])?,
            mask: match &self.mask {
                Some(mask) => of("mask", mask, [self.heads, self.q_len, self.kv_len])?,
                None => 0..0,
            },
            out,
            scratch: self.layout()?.iter().try_fold(0_usize, |all, &len| {
                all.checked_add(len).filter(|_| isize::try_from(len).is_ok()).ok_or(KernelError::Overflow)
            })?,
        })
    }

    /// Rows that share a key head.
    fn rows(&self) -> Result<usize, KernelError> {
        product(&[self.heads / self.kv_heads.max(1), self.q_len])
    }

    /// Blocks of rows, the units of work.
    pub fn blocks(&self) -> Result<usize, KernelError> {
        product(&[self.batch, self.kv_heads, self.rows()?.div_ceil(ROWS)])
    }

    /// Elements of scratch for packed keys, packed values, scores, sums of values, largest scores and sums.
    fn layout(&self) -> Result<[usize; 5], KernelError> {
        let keys = self.kv_len.min(KEYS);
        let rows = self.rows()?.min(ROWS * CHUNK);
        Ok([
            product(&[keys.next_multiple_of(PANEL), self.head_dim])?,
            product(&[keys, self.sum_step()?])?,
            ROWS * SCORE_STEP,
            product(&[rows, self.sum_step()?])?,
            2 * rows,
        ])
    }

    /// Distance of rows of sums of values.
    fn sum_step(&self) -> Result<usize, KernelError> {
        self.v_dim.checked_next_multiple_of(PANEL).ok_or(KernelError::Overflow)
    }

    /// Keys that query `i` sees.
    fn visible(&self, i: usize) -> usize {
        let Some(offset) = self.causal else { return self.kv_len };
        let end = i64::try_from(i).unwrap_or(i64::MAX).saturating_add(offset).saturating_add(1);
        usize::try_from(end.max(0)).unwrap_or(usize::MAX).min(self.kv_len)
    }

    /// Most keys that one of these rows sees.
    fn visible_to(&self, rows: &Range<usize>) -> usize {
        let last = rows.end - 1;
        let crosses = rows.start / self.q_len != last / self.q_len;
        self.visible(if crosses { self.q_len - 1 } else { last % self.q_len })
    }
}

/// Runs one part of an attention. `scratch` is this part's own.
#[allow(clippy::too_many_arguments, reason = "the operands of the formula")]
pub fn attention(
    kernels: &Kernels,
    args: &AttentionArgs,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    mask: Option<&[f32]>,
    out: &SharedMut<f32>,
    scratch: &mut [f32],
    part: Part,
) -> Result<(), KernelError> {
    part.check()?;
    let foot = args.footprint()?;
    holds("q", &foot.q, q.len())?;
    holds("k", &foot.k, k.len())?;
    holds("v", &foot.v, v.len())?;
    holds("mask", &foot.mask, mask.map_or(0, <[f32]>::len))?;
    holds("out", &foot.out, out.len())?;
    holds("scratch", &(0..foot.scratch), scratch.len())?;
    if foot.out.is_empty() {
        return Ok(());
    }
    let rows = args.rows()?;
    let [keys, values, scores, sums, _] = args.layout()?;
    let (keys, rest) = scratch.split_at_mut(keys);
    let (values, rest) = rest.split_at_mut(values);
    let (scores, rest) = rest.split_at_mut(scores);
    let (sums, state) = rest.split_at_mut(sums);
    let (largest, totals) = state.split_at_mut(rows.min(ROWS * CHUNK));
    let low = rows <= kernels.gemm_low.tiles.len();
    let mut run = Run {
        kernels,
        gemm: if low { kernels.gemm_low } else { kernels.gemm },
        args,
        few: rows <= FEW && args.k.steps[3] == 1 && args.q.steps[3] == 1,
        q: q.as_ptr(),
        k: k.as_ptr(),
        v: v.as_ptr(),
        mask: mask.map_or(std::ptr::null(), <[f32]>::as_ptr),
        out: out.as_ptr(),
        rows: 0..0,
        batch: 0,
        group: 0,
        sum_step: args.sum_step()?,
        keys,
        values,
        scores,
        sums,
        largest,
        totals,
    };
    let each = rows.div_ceil(ROWS);
    let work = part.of(args.blocks()?);
    let mut at = work.start;
    while at < work.end {
        let (unit, first) = (at / each, at % each);
        let last = each.min(first + CHUNK).min(first + work.end - at);
        (run.batch, run.group) = (unit / args.kv_heads, unit % args.kv_heads);
        run.rows = first * ROWS..rows.min(last * ROWS);
        // SAFETY: all footprints were checked above, the kernels can run here, and parts write disjoint rows.
        unsafe { run.chunk() };
        at += last - first;
    }
    Ok(())
}

/// A part being run, at the rows `rows` of a key head.
struct Run<'a> {
    kernels: &'a Kernels,
    gemm: GemmKernel,
    args: &'a AttentionArgs,
    /// Keys and values are read where they are.
    few: bool,
    q: *const f32,
    k: *const f32,
    v: *const f32,
    mask: *const f32,
    out: *mut f32,
    rows: Range<usize>,
    batch: usize,
    /// The key head.
    group: usize,
    sum_step: usize,
    keys: &'a mut [f32],
    values: &'a mut [f32],
    scores: &'a mut [f32],
    sums: &'a mut [f32],
    /// Largest score of each row so far.
    largest: &'a mut [f32],
    /// Sum of the exponentials of each row so far.
    totals: &'a mut [f32],
}

impl Run<'_> {
    /// First head of the group.
    fn first_head(&self) -> usize {
        self.group * (self.args.heads / self.args.kv_heads)
    }

    /// Where the rows of a tensor over heads and queries start, relative to the group's first.
    fn row_starts(&self, view: &Heads) -> Rows<'static> {
        let [_, y_step, x_step, _] = view.steps;
        Rows::Pixels { height: usize::MAX, width: self.args.q_len, image_step: 0, y_step, x_step }
    }

    /// # Safety
    /// The arguments are those of [`attention`], checked; nobody else uses the scratch or these rows of the output.
    unsafe fn chunk(&mut self) {
        let count = self.rows.len();
        self.largest[..count].fill(f32::NEG_INFINITY);
        self.totals[..count].fill(0.0);
        self.sums[..count * self.sum_step].fill(0.0);
        let visible = self.args.visible_to(&self.rows);
        for first in (0..visible).step_by(KEYS) {
            let keys = first..visible.min(first + KEYS);
            // SAFETY: the caller's promise; keys and rows are inside the problem.
            unsafe {
                self.pack(&keys);
                for start in self.rows.clone().step_by(ROWS) {
                    let rows = start..self.rows.end.min(start + ROWS);
                    let seen = keys.start..keys.end.min(self.args.visible_to(&rows));
                    if seen.is_empty() {
                        continue;
                    }
                    if self.few {
                        self.dots(&rows, &seen)
                    } else {
                        self.products(&rows, &seen)
                    }
                    self.softmax(&rows, &seen);
                    self.weigh(&rows, &seen, keys.len());
                }
            }
        }
        // SAFETY: as above.
        unsafe {
            self.add_hidden();
            self.finish()
        }
    }

    /// Adds the keys that a row does not see where `fill` is not lower than its other scores.
    unsafe fn add_hidden(&mut self) {
        let (args, fill) = (self.args, self.args.fill);
        if args.causal.is_none() || fill == f32::NEG_INFINITY {
            return;
        }
        let v = self.v.wrapping_offset(args.v.at(self.batch, self.group));
        let [_, _, down, right] = args.v.steps;
        for (at, row) in self.rows.clone().enumerate() {
            let hidden = args.visible(row % args.q_len)..args.kv_len;
            // NaN stays what it is.
            if hidden.is_empty() || self.largest[at] - fill > NO_WEIGHT || self.largest[at].is_nan() {
                continue;
            }
            let largest = self.largest[at].max(fill);
            let (old, weight) = ((self.largest[at] - largest).exp(), (fill - largest).exp());
            self.totals[at] = self.totals[at] * old + weight * hidden.len() as f32;
            let sums = &mut self.sums[at * self.sum_step..][..args.v_dim];
            for (c, sum) in sums.iter_mut().enumerate() {
                let column = v.wrapping_offset(c.cast_signed().wrapping_mul(right));
                let each = hidden.clone().map(|j| {
                    // SAFETY: the element is one of the values, whose footprint was checked.
                    unsafe { *column.wrapping_offset(j.cast_signed().wrapping_mul(down)) }
                });
                *sum = *sum * old + weight * each.sum::<f32>();
            }
            self.largest[at] = largest;
        }
    }

    /// Packs a block of keys, transposed, and of values.
    unsafe fn pack(&mut self, keys: &Range<usize>) {
        let (args, turn) = (self.args, self.kernels.turn);
        let k = self.k.wrapping_offset(args.k.at(self.batch, self.group));
        let [_, _, row, col] = args.k.steps;
        if !self.few {
            for (panel, to) in self.keys.chunks_exact_mut((PANEL * args.head_dim).max(1)).enumerate() {
                let first = keys.start + panel * PANEL;
                if first >= keys.end {
                    break;
                }
                let from = k.wrapping_offset(first.cast_signed().wrapping_mul(row));
                // SAFETY: the caller's promise; a panel has room for `head_dim` rows.
                unsafe {
                    pack_panel(
                        turn,
                        from,
                        [col, row],
                        args.head_dim,
                        PANEL.min(keys.end - first),
                        to.as_mut_ptr(),
                    )
                };
            }
        }
        let v = self.v.wrapping_offset(args.v.at(self.batch, self.group));
        let [_, _, row, col] = args.v.steps;
        let in_place = self.in_place();
        for (panel, to) in self.values.chunks_exact_mut(PANEL * keys.len()).enumerate() {
            let first = panel * PANEL;
            if first >= args.v_dim {
                break;
            }
            let cols = PANEL.min(args.v_dim - first);
            if in_place.is_some_and(|width| cols.is_multiple_of(width)) {
                continue;
            }
            let from = v
                .wrapping_offset(keys.start.cast_signed().wrapping_mul(row))
                .wrapping_offset(first.cast_signed().wrapping_mul(col));
            // SAFETY: the caller's promise; a panel has room for a row a key.
            unsafe { pack_panel(turn, from, [row, col], keys.len(), cols, to.as_mut_ptr()) };
        }
    }

    /// The width of tiles for which values are read where they are: panels of a multiple of it need no packing.
    fn in_place(&self) -> Option<usize> {
        (self.few && self.args.v.steps[3] == 1).then_some(self.gemm.cols)
    }

    /// Products of queries and keys that are where they are.
    unsafe fn dots(&mut self, rows: &Range<usize>, keys: &Range<usize>) {
        let args = self.args;
        let k = self.k.wrapping_offset(args.k.at(self.batch, self.group));
        let tile = DotTile {
            a: self.q.wrapping_offset(args.q.at(self.batch, self.first_head())),
            rows: self.row_starts(&args.q).fill(rows.start, rows.len()),
            count: rows.len(),
            b: k.wrapping_offset(keys.start.cast_signed().wrapping_mul(args.k.steps[2])),
            b_step: args.k.steps[2],
            columns: keys.len(),
            depth: args.head_dim,
            out: self.scores.as_mut_ptr(),
            out_step: SCORE_STEP,
        };
        // SAFETY: the caller's promise; there are at most `FEW` rows.
        unsafe { (self.kernels.dot)(&tile) };
    }

    /// Products of queries and packed keys.
    unsafe fn products(&mut self, rows: &Range<usize>, keys: &Range<usize>) {
        let args = self.args;
        let starts = self.row_starts(&args.q);
        // As in the GEMM: rows at multiples of 4 KiB fall into one set of the first-level cache.
        let crowded = args.q.steps[2] % 1024 == 0 && self.gemm.tiles.len() > 8;
        let height = if crowded { self.gemm.tiles.len().div_ceil(2) } else { self.gemm.tiles.len() };
        for first in (0..keys.len()).step_by(PANEL) {
            let mut tile = GemmTile {
                a: self.q.wrapping_offset(args.q.at(self.batch, self.first_head())),
                rows: [0; MAX_ROWS],
                taps: Taps::ONE,
                depth: args.head_dim,
                a_step: args.q.steps[3],
                b: self.keys.as_ptr().wrapping_add(first * args.head_dim),
                b_step: PANEL.cast_signed(),
                soon: Soon::NONE,
                out: TileOut {
                    bias: std::ptr::null(),
                    c: self.scores.as_mut_ptr().wrapping_add(first),
                    c_rows: [0; MAX_ROWS],
                    col: 0,
                    cols: 0,
                    accumulate: false,
                    limits: None,
                },
            };
            let cols = PANEL.min(keys.len() - first);
            // SAFETY: the caller's promise; a block of rows fits the scores.
            unsafe { self.tiles(&mut tile, &starts, (rows, height), SCORE_STEP, cols) };
        }
    }

    /// Runs a tile for all `rows`, in groups of `height`, over `cols` columns.
    unsafe fn tiles(
        &self,
        tile: &mut GemmTile,
        starts: &Rows<'_>,
        (rows, height): (&Range<usize>, usize),
        step: usize,
        cols: usize,
    ) {
        let count = rows.len().div_ceil(height);
        for index in 0..count {
            let part = share(rows.len(), count, index);
            tile.rows = starts.fill(rows.start + part.start, part.len());
            tile.out.c_rows = Rows::Linear(step.cast_signed()).fill(part.start, part.len());
            for col in (0..cols).step_by(self.gemm.cols) {
                tile.out.cols = self.gemm.cols.min(cols - col);
                tile.out.col = col;
                // SAFETY: the caller's promise.
                unsafe { self.gemm.tiles[part.len() - 1](tile) };
            }
        }
    }

    /// Replaces products by exponentials of scores, and makes what was summed up so far relative to the new largest score.
    unsafe fn softmax(&mut self, rows: &Range<usize>, keys: &Range<usize>) {
        let args = self.args;
        let (mask, mask_step) = match &args.mask {
            Some(view) => {
                let start = view.at(self.batch, self.first_head());
                let start = start.wrapping_add(keys.start.cast_signed().wrapping_mul(view.steps[3]));
                (self.mask.wrapping_offset(start), view.steps[3])
            }
            None => (self.mask, 0),
        };
        for (row, scores) in rows.clone().zip(self.scores.chunks_exact_mut(SCORE_STEP)) {
            let (head, i) = (row / args.q_len, row % args.q_len);
            let seen = args.visible(i).saturating_sub(keys.start).min(keys.len());
            scores[seen..keys.len()].fill(0.0);
            if seen == 0 {
                continue;
            }
            let mask = args.mask.as_ref().map_or(mask, |view| {
                let down = i.cast_signed().wrapping_mul(view.steps[2]);
                mask.wrapping_offset(head.cast_signed().wrapping_mul(view.steps[1]).wrapping_add(down))
            });
            let at = row - self.rows.start;
            let mut state = [self.largest[at], 0.0, 1.0];
            let scored = ScoreRow {
                x: scores.as_mut_ptr(),
                len: seen,
                scale: args.scale,
                mask,
                mask_step,
                state: &raw mut state,
            };
            // SAFETY: the caller's promise; the row has `seen` scores, and the mask as many elements.
            unsafe { (self.kernels.score)(&scored) };
            let [largest, total, factor] = state;
            self.largest[at] = largest;
            self.totals[at] = self.totals[at] * factor + total;
            // Not so for NaN, which has to reach the sums.
            if factor != 1.0 {
                let sums = &mut self.sums[at * self.sum_step..][..args.v_dim];
                sums.iter_mut().for_each(|sum| *sum *= factor);
            }
        }
    }

    /// Adds the values of `keys`, the first of a block of `packed` keys, weighted with the exponentials.
    unsafe fn weigh(&mut self, rows: &Range<usize>, keys: &Range<usize>, packed: usize) {
        let args = self.args;
        let v = self.v.wrapping_offset(args.v.at(self.batch, self.group));
        let v = v.wrapping_offset(keys.start.cast_signed().wrapping_mul(args.v.steps[2]));
        let within = 0..rows.len();
        for first in (0..args.v_dim).step_by(PANEL) {
            let cols = PANEL.min(args.v_dim - first);
            let in_place = self.in_place().is_some_and(|width| cols.is_multiple_of(width));
            let (b, b_step) = if in_place {
                (v.wrapping_add(first), args.v.steps[2])
            } else {
                (self.values.as_ptr().wrapping_add(first * packed), PANEL.cast_signed())
            };
            let mut tile = GemmTile {
                a: self.scores.as_ptr(),
                rows: [0; MAX_ROWS],
                taps: Taps::ONE,
                depth: keys.len(),
                a_step: 1,
                b,
                b_step,
                soon: Soon::NONE,
                out: TileOut {
                    bias: std::ptr::null(),
                    c: self
                        .sums
                        .as_mut_ptr()
                        .wrapping_add((rows.start - self.rows.start) * self.sum_step + first),
                    c_rows: [0; MAX_ROWS],
                    col: 0,
                    cols: 0,
                    accumulate: true,
                    limits: None,
                },
            };
            let starts = Rows::Linear(SCORE_STEP.cast_signed());
            let height = self.gemm.tiles.len();
            // SAFETY: the caller's promise; the chunk's rows fit the sums.
            unsafe { self.tiles(&mut tile, &starts, (&within, height), self.sum_step, cols) };
        }
    }

    /// Divides by the sums of exponentials.
    unsafe fn finish(&mut self) {
        let args = self.args;
        let starts = self.row_starts(&args.out);
        let out = self.out.wrapping_offset(args.out.at(self.batch, self.first_head()));
        let step = args.out.steps[3];
        for (at, row) in self.rows.clone().enumerate() {
            let to = out.wrapping_offset(starts.fill(row, 1)[0]);
            let total = self.totals[at];
            let zero = args.zero_masked && (total.is_nan() || total == 0.0);
            let sums = &mut self.sums[at * self.sum_step..][..args.v_dim];
            // In place first: one loop over neighbours is vectorised.
            if zero {
                sums.fill(0.0)
            } else {
                sums.iter_mut().for_each(|sum| *sum /= total)
            }
            for (j, &value) in sums.iter().enumerate() {
                // SAFETY: the element is inside the output, whose footprint was checked.
                unsafe { *to.wrapping_offset(j.cast_signed().wrapping_mul(step)) = value };
            }
        }
    }
}
