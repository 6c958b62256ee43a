//! Placement of buffers with known lifetimes in one arena.
//!
//! Largest first, each into the smallest gap that its lifetime leaves, then, if that is worse than the lower bound, a
//! bounded search over orders. Everything is deterministic: budgets count work, not time.

use crate::memory::ALIGN;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A buffer and the steps during which it must keep its contents, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First step that writes it.
    pub first: u32,
    /// Last step that reads or writes it.
    pub last: u32,
    /// Bytes.
    pub size: usize,
}

/// Where the buffers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Byte offset of each, a multiple of [`ALIGN`].
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub peak: usize,
    /// Most bytes that are alive during one step: no placement needs less.
    pub lower_bound: usize,
}

/// Beyond this many buffers the quadratic placement is given up for one in order of time.
const MAX_QUADRATIC: usize = 8192;
/// Pairs of buffers that the search over orders may look at.
const SEARCH_BUDGET: usize = 20_000_000;
/// Orders that the search may try.
const MAX_ROUNDS: usize = 2000;
/// Free ranges looked at for one buffer when placing in order of time.
const MAX_FREE_SCAN: usize = 256;

/// Places all blocks, or gives `None` if their sizes together exceed the address space.
pub fn assign(blocks: &[Block]) -> Option<Layout> {
    let sizes: Vec<usize> =
        blocks.iter().map(|b| b.size.checked_next_multiple_of(ALIGN)).collect::<Option<_>>()?;
    let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size))?;
    isize::try_from(total).ok()?;
    let lower_bound = lower_bound(blocks, &sizes);
    let used: Vec<usize> = (0..blocks.len()).filter(|&i| sizes[i] > 0).collect();
    let mut placer = Placer { blocks, sizes: &sizes, offsets: vec![0; blocks.len()], placed: Vec::new() };
    if used.len() > MAX_QUADRATIC {
        let peak = placer.by_time(used);
        return Some(Layout { offsets: placer.offsets, peak, lower_bound });
    }
    let (offsets, peak) = search(&mut placer, used, lower_bound);
    Some(Layout { offsets, peak, lower_bound })
}

/// Most bytes alive at once.
fn lower_bound(blocks: &[Block], sizes: &[usize]) -> usize {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(blocks.len() * 2);
    for (block, &size) in blocks.iter().zip(sizes) {
        events.push((u64::from(block.first), true, size));
        events.push((u64::from(block.last) + 1, false, size));
    }
    // What ends before a step goes before what starts with it.
    events.sort_unstable();
    let (mut live, mut most) = (0usize, 0usize);
    for (_, starts, size) in events {
        live = if starts { live.saturating_add(size) } else { live.saturating_sub(size) };
        most = most.max(live);
    }
    most
}

fn search(placer: &mut Placer<'_>, mut used: Vec<usize>, lower_bound: usize) -> (Vec<usize>, usize) {
    let (blocks, sizes) = (placer.blocks, placer.sizes);
    let duration = |i: usize| u64::from(blocks[i].last.saturating_sub(blocks[i].first)) + 1;
    let good = lower_bound.saturating_add(lower_bound / 50);
    used.sort_unstable_by_key(|&i| (Reverse(sizes[i]), blocks[i].first, i));
    let mut best = (placer.in_order(&used, usize::MAX).unwrap_or(usize::MAX), placer.offsets.clone(), used);
    let area = |i: usize| (sizes[i] as u128) * u128::from(duration(i));
    for order in 0..2 {
        if best.0 <= good {
            break;
        }
        let mut used = best.2.clone();
        match order {
            0 => used.sort_unstable_by_key(|&i| (Reverse(area(i)), i)),
            _ => used.sort_unstable_by_key(|&i| (Reverse(duration(i)), Reverse(sizes[i]), i)),
        }
        if let Some(peak) = placer.in_order(&used, best.0) {
            best = (peak, placer.offsets.clone(), used);
        }
    }
    let (mut peak, mut offsets, mut order) = best;
    let count = order.len();
    let rounds = if count < 2 { 0 } else { (SEARCH_BUDGET / (count * count)).min(MAX_ROUNDS) };
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n as u64) as usize
    };
    for _ in 0..rounds {
        if peak <= good {
            break;
        }
        let (from, to) = (below(count), below(count));
        let moved = order.remove(from);
        order.insert(to, moved);
        // Equal peaks are taken too: they let the search cross plateaus.
        match placer.in_order(&order, peak.saturating_add(1)) {
            Some(found) => {
                peak = found;
                offsets.clone_from(&placer.offsets);
            }
            None => {
                let moved = order.remove(to);
                order.insert(from, moved);
            }
        }
    }
    (offsets, peak)
}

struct Placer<'a> {
    blocks: &'a [Block],
    sizes: &'a [usize],
    offsets: Vec<usize>,
    /// What is placed already, by offset.
    placed: Vec<usize>,
}

impl Placer<'_> {
    /// Places in this order and gives the peak, or `None` once it reaches `limit`.
    fn in_order(&mut self, order: &[usize], limit: usize) -> Option<usize> {
        self.placed.clear();
        let mut peak = 0;
        for &i in order {
            let offset = self.best_gap(i);
            peak = peak.max(offset + self.sizes[i]);
            if peak >= limit {
                return None;
            }
            self.offsets[i] = offset;
            let at = self.placed.partition_point(|&p| self.offsets[p] <= offset);
            self.placed.insert(at, i);
        }
        Some(peak)
    }

    /// Offset of the smallest gap that fits block `i` between those alive with it, else of the end.
    fn best_gap(&self, i: usize) -> usize {
        let (block, size) = (self.blocks[i], self.sizes[i]);
        let mut end = 0;
        let mut best: Option<(usize, usize)> = None;
        for &p in &self.placed {
            let other = self.blocks[p];
            if other.last < block.first || block.last < other.first {
                continue;
            }
            let start = self.offsets[p];
            if start >= end + size && best.is_none_or(|(gap, _)| start - end < gap) {
                best = Some((start - end, end));
            }
            end = end.max(start + self.sizes[p]);
        }
        best.map_or(end, |(_, offset)| offset)
    }

    /// Places in order of time into the first free range that fits.
    fn by_time(&mut self, mut used: Vec<usize>) -> usize {
        used.sort_unstable_by_key(|&i| (self.blocks[i].first, i));
        let mut live: BinaryHeap<Reverse<(u32, usize)>> = BinaryHeap::new();
        let mut free = FreeRanges::default();
        for i in used {
            while let Some(&Reverse((last, ended))) = live.peek() {
                if last >= self.blocks[i].first {
                    break;
                }
                live.pop();
                free.release(self.offsets[ended], self.sizes[ended]);
            }
            self.offsets[i] = free.take(self.sizes[i]);
            live.push(Reverse((self.blocks[i].last, i)));
        }
        free.end
    }
}

/// Free ranges below `end`, by offset, never adjacent.
#[derive(Default)]
struct FreeRanges {
    ranges: BTreeMap<usize, usize>,
    end: usize,
}

impl FreeRanges {
    fn take(&mut self, size: usize) -> usize {
        let fit = self.ranges.iter().take(MAX_FREE_SCAN).find(|(_, len)| **len >= size);
        let Some((&offset, &len)) = fit else {
            // The last range may reach the end; then it only has to grow.
            let tail = self.ranges.last_key_value().filter(|(o, l)| *o + *l == self.end);
            let offset = tail.map_or(self.end, |(offset, _)| *offset);
            self.ranges.remove(&offset);
            self.end = self.end.max(offset + size);
            return offset;
        };
        self.ranges.remove(&offset);
        if len > size {
            self.ranges.insert(offset + size, len - size);
        }
        offset
    }

    fn release(&mut self, mut offset: usize, mut size: usize) {
        if let Some((&before, &len)) = self.ranges.range(..offset).next_back()
            && before + len == offset
        {
            self.ranges.remove(&before);
            (offset, size) = (before, len + size);
        }
        if let Some(len) = self.ranges.remove(&(offset + size)) {
            size += len;
        }
        self.ranges.insert(offset, size);
    }
}
