//! `Tiles`: several loop nests that write parts of their outputs side by side, as one step.

use super::{Call, PlanCx, footprint, tile};
use crate::error::RunError;
use crate::memory::Memory;
use crate::program::{Access, Nest, Step, StepKind, ValueId};
use crate::tile::TilePlan;

/// The nests as steps of their own.
///
/// # Errors
/// The nests do not account for all arguments and outputs.
pub(crate) fn nests(step: &Step) -> Result<Vec<Step>, String> {
    let StepKind::Tiles { nests } = &step.kind else { return Err("is not a Tiles step".into()) };
    let (mut args, mut outs) = (step.args.as_slice(), step.outs.as_slice());
    let mut take = |nest: &Nest| -> Option<Step> {
        let (own_args, more_args) = args.split_at_checked(nest.reads.len())?;
        let (own_outs, more_outs) = outs.split_at_checked(nest.writes.len())?;
        (args, outs) = (more_args, more_outs);
        let Nest { tile, dims, reads, writes } = nest.clone();
        let kind = StepKind::Tile { tile, dims, reads, writes };
        Some(Step { kind, args: own_args.to_vec(), outs: own_outs.to_vec(), name: step.name.clone() })
    };
    let steps: Option<Vec<Step>> = nests.iter().map(&mut take).collect();
    match steps.filter(|_| args.is_empty() && outs.is_empty()) {
        Some(steps) => Ok(steps),
        None => Err(format!(
            "{} nests for {} arguments, {} outputs",
            nests.len(),
            step.args.len(),
            step.outs.len()
        )),
    }
}

struct Tiles {
    nests: Vec<Box<dyn Call>>,
    /// No two nests write an element of the same value, so that workers need not wait for each other between nests.
    apart: bool,
}

pub(super) fn resolve(step: &Step, cx: &PlanCx<'_>) -> Result<Box<dyn Call>, RunError> {
    let steps = nests(step).map_err(|detail| footprint(step, detail))?;
    let mut boxes: Vec<(ValueId, Strided)> = Vec::new();
    let (mut calls, mut apart) = (Vec::with_capacity(steps.len()), true);
    for (i, own) in steps.iter().enumerate() {
        calls.push(tile::resolve(own, cx)?);
        let StepKind::Tile { tile, dims, writes, .. } = &own.kind else { continue };
        let reduced = cx.program.tiles.get(*tile as usize).map_or(0, |t| usize::from(t.reduce_rank));
        let kept = &dims[..dims.len().saturating_sub(reduced)];
        let before = boxes.len();
        for (write, out) in writes.iter().zip(&own.outs) {
            let written = Strided::of(own, cx, write, kept)?;
            apart &= i == 0 || boxes[..before].iter().all(|(v, b)| v != out || b.is_apart(&written));
            boxes.push((*out, written));
        }
    }
    Ok(Box::new(Tiles { nests: calls, apart }))
}

/// What a write visits: extents and strides of its loops from the largest stride to the smallest, and its first element.
struct Strided {
    offset: i64,
    loops: Vec<(i64, i64)>,
}

impl Strided {
    fn of(step: &Step, cx: &PlanCx<'_>, write: &Access, dims: &[u32]) -> Result<Strided, RunError> {
        let mut loops = Vec::with_capacity(dims.len());
        for (dim, stride) in dims.iter().zip(&write.strides) {
            loops.push((cx.reg(step, *stride)?, cx.reg(step, *dim)?));
        }
        // A stable order: of equal strides the outer loop comes first.
        loops.sort_by_key(|(stride, _)| std::cmp::Reverse(*stride));
        Ok(Strided { offset: cx.reg(step, write.offset)?, loops })
    }

    /// Whether two accesses are certain to have no element in common. Sufficient, and true of boxes of one strided
    /// tensor: both have its strides, each of which divides the one before it, so that the distance from a first element
    /// is the box's coordinates in one way only, and along some axis the boxes do not meet.
    fn is_apart(&self, other: &Strided) -> bool {
        let empty = |s: &Strided| s.loops.iter().any(|(_, extent)| *extent <= 0);
        if empty(self) || empty(other) {
            return true;
        }
        if self.loops.len() != other.loops.len() {
            return false;
        }
        let mut axes = Vec::with_capacity(self.loops.len());
        for (&(stride, m), &(same, n)) in self.loops.iter().zip(&other.loops) {
            if stride != same {
                return false;
            }
            // What neither box goes along only moves their first elements.
            if (m, n) != (1, 1) {
                axes.push((stride, m, n));
            }
        }
        // Boxes of a whole value have their coordinates there, those of a part of one count from the lower box.
        [0, self.offset.min(other.offset)].into_iter().any(|base| meets_nowhere(&axes, self, other, base))
    }
}

/// Whether two boxes of these strides and extents, largest stride first, are apart as seen from the element `base`.
fn meets_nowhere(axes: &[(i64, i64, i64)], a: &Strided, b: &Strided, base: i64) -> bool {
    let (Some(mut rest_a), Some(mut rest_b)) = (a.offset.checked_sub(base), b.offset.checked_sub(base))
    else {
        return false;
    };
    if rest_a < 0 || rest_b < 0 {
        return false;
    }
    let (mut apart, mut radix, mut before) = (false, i64::MAX, None);
    for &(stride, m, n) in axes {
        if stride < 1 || before.is_some_and(|before| before % stride != 0) {
            return false;
        }
        if let Some(before) = before {
            radix = before / stride;
        }
        before = Some(stride);
        let (from_a, from_b) = (rest_a / stride, rest_b / stride);
        (rest_a, rest_b) = (rest_a % stride, rest_b % stride);
        let (Some(to_a), Some(to_b)) = (from_a.checked_add(m), from_b.checked_add(n)) else { return false };
        if to_a > radix || to_b > radix {
            return false;
        }
        apart |= to_a <= from_b || to_b <= from_a;
    }
    // What is left is smaller than the last stride, so boxes that differ there never meet.
    apart || rest_a != rest_b
}

impl Call for Tiles {
    fn work(&self) -> u64 {
        self.nests.iter().fold(0, |sum, nest| sum.saturating_add(nest.work()))
    }

    fn parts(&self, max: usize) -> usize {
        // One worker does the nests one after the other.
        if self.apart { self.nests.iter().map(|nest| nest.parts(max)).max().unwrap_or(1) } else { 1 }
    }

    fn nests(&mut self) -> Vec<&mut TilePlan> {
        self.nests.iter_mut().flat_map(|nest| nest.nests()).collect()
    }

    fn run(&self, mem: &Memory<'_>, part: usize, parts: usize, scratch: &mut [u8]) -> Result<(), RunError> {
        self.nests.iter().try_for_each(|nest| nest.run(mem, part, parts, scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strided(offset: i64, loops: &[(i64, i64)]) -> Strided {
        Strided { offset, loops: loops.to_vec() }
    }

    fn elements(s: &Strided) -> Vec<i64> {
        s.loops.iter().fold(vec![s.offset], |all, (stride, extent)| {
            all.iter().flat_map(|at| (0..*extent).map(move |i| at + i * stride)).collect()
        })
    }

    /// Every pair of boxes of `strides` with first elements below `len`: what is said to be apart is.
    fn sound(strides: &[i64], len: i64, extents: &[i64]) -> usize {
        let mut all = Vec::new();
        for offset in 0..len {
            let mut loops: Vec<Vec<(i64, i64)>> = vec![Vec::new()];
            for stride in strides {
                let with = |l: &Vec<(i64, i64)>, e: &i64| [l.as_slice(), &[(*stride, *e)]].concat();
                loops = loops.iter().flat_map(|l| extents.iter().map(move |e| with(l, e))).collect();
            }
            all.extend(loops.into_iter().map(|loops| strided(offset, &loops)));
        }
        let mut proven = 0;
        for a in &all {
            for b in all.iter().filter(|b| a.is_apart(b)) {
                let (x, y) = (elements(a), elements(b));
                assert!(
                    x.iter().all(|e| !y.contains(e)),
                    "{:?} {:?}",
                    (a.offset, &a.loops),
                    (b.offset, &b.loops)
                );
                proven += 1;
            }
        }
        proven
    }

    #[test]
    fn what_is_said_to_be_apart_is() {
        assert!(sound(&[6, 2], 14, &[0, 1, 2, 3]) > 1000);
        assert!(sound(&[4, 4, 1], 9, &[1, 2, 4]) > 100);
        assert!(sound(&[5, 2], 12, &[1, 2, 3]) > 0);
        sound(&[3, 0, -1], 7, &[1, 2]);
    }

    #[test]
    fn the_slabs_of_a_border_and_its_inside_are_apart() {
        // A 2 x 5 x 6 x 3 tensor with a border of one row above and below and two columns to the left.
        let slab = |n: i64, h: (i64, i64), w: (i64, i64)| {
            strided(h.0 * 18 + w.0 * 3, &[(90, n), (18, h.1), (3, w.1), (1, 3)])
        };
        let all = [
            slab(2, (0, 1), (0, 6)),
            slab(2, (4, 1), (0, 6)),
            slab(2, (1, 3), (0, 2)),
            slab(2, (1, 3), (2, 4)),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a.is_apart(b) && b.is_apart(a)), "{i}");
            assert!(!a.is_apart(a));
        }
    }

    #[test]
    fn boxes_of_a_part_in_split_axes_are_apart() {
        // Rows 1..15 of 16 x 10, seen as 7 x 2 rows: even and odd ones.
        let rows = |at: i64| strided(at * 10, &[(20, 7), (10, 1), (1, 10)]);
        assert!(rows(1).is_apart(&rows(2)));
        assert!(!rows(1).is_apart(&rows(3)));
    }
}
