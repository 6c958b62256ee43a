//! Affine views: where the elements of a tensor lie in memory, and what movement operators do to that.

use autoglm_ir::dim::product;
use autoglm_ir::{Dim, Node};

/// Element `i` of the tensor is element `offset + sum_d i[d] * strides[d]` of its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Extents, outermost first.
    pub(super) shape: Vec<Dim>,
    /// First element.
    pub(super) offset: Dim,
    /// One stride an axis; 0 where it is broadcast, negative where it is reversed.
    pub(super) strides: Vec<Dim>,
}

/// What a movement operator does to indices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// The same elements in order under these extents.
    Reshape(Vec<Dim>),
    /// Axis `i` of the result is axis `perm[i]`.
    Permute(Vec<usize>),
    /// A box of elements at regular steps.
    Slice {
        /// First index of each axis.
        starts: Vec<Dim>,
        /// Extents of the result.
        sizes: Vec<Dim>,
        /// Distance of neighbours along each axis.
        steps: Vec<i64>,
    },
    /// Repetition to these extents (numpy rules).
    Broadcast(Vec<Dim>),
}

impl Move {
    /// The move that a node is, if it is one of those that only change indices.
    pub(super) fn of(node: &Node) -> Option<Move> {
        Some(match node.op.name() {
            "reshape" => Move::Reshape(node.attrs.dims("shape").to_vec()),
            "transpose" => {
                let perm = node.attrs.ints("perm").iter().map(|p| usize::try_from(*p));
                Move::Permute(perm.collect::<Result<_, _>>().ok()?)
            }
            "expand" => Move::Broadcast(node.attrs.dims("shape").to_vec()),
            "slice" => Move::Slice {
                starts: node.attrs.dims("starts").to_vec(),
                sizes: node.attrs.dims("sizes").to_vec(),
                steps: node.attrs.ints("steps").to_vec(),
            },
            _ => return None,
        })
    }
}

/// Row-major strides of a shape, in elements.
pub(super) fn strides(shape: &[Dim]) -> Vec<Dim> {
    let mut out = vec![Dim::from(1); shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = &out[i + 1] * &shape[i + 1];
    }
    out
}

/// The extents that are not known to be 1.
pub(super) fn without_units(shape: &[Dim]) -> Vec<Dim> {
    shape.iter().filter(|d| !d.is(1)).cloned().collect()
}

/// The permutation that undoes another.
pub(super) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut out = vec![0; perm.len()];
    for (i, p) in perm.iter().enumerate() {
        out[*p] = i;
    }
    out
}

impl View {
    /// Row-major from the first element of its memory.
    pub(super) fn dense(shape: &[Dim]) -> View {
        View { shape: shape.to_vec(), offset: Dim::from(0), strides: strides(shape) }
    }

    /// Number of elements.
    pub(super) fn numel(&self) -> Dim {
        product(&self.shape)
    }

    /// Whether neighbours along the last axis are neighbours in memory.
    pub(super) fn has_lines(&self) -> bool {
        match (self.shape.last(), self.strides.last()) {
            (Some(extent), Some(stride)) => stride.is(1) || extent.is(1),
            _ => true,
        }
    }

    /// Whether its elements follow each other in memory in row-major order, wherever the first is.
    pub(super) fn is_dense(&self) -> bool {
        let mut expected = Dim::from(1);
        for (extent, stride) in self.shape.iter().zip(&self.strides).rev() {
            if extent.is(0) {
                return true;
            }
            if !extent.is(1) && *stride != expected {
                return false;
            }
            expected = &expected * extent;
        }
        true
    }

    /// The view as lines with one stride between them: extents `[rows, columns]`.
    pub(super) fn rows(&self) -> Option<View> {
        let (cols, lead) = self.shape.split_last()?;
        self.reshape(&[product(lead), cols.clone()]).filter(View::has_lines)
    }

    /// Whether two views meet the same elements in the same order.
    pub(super) fn is_same(&self, other: &View) -> bool {
        let strides = |v: &View| -> Vec<Dim> {
            v.shape.iter().zip(&v.strides).filter(|(d, _)| !d.is(1)).map(|(_, s)| s.clone()).collect()
        };
        self.offset == other.offset
            && without_units(&self.shape) == without_units(&other.shape)
            && strides(self) == strides(other)
    }

    /// The view behind a move; none for a reshape that no strides express.
    pub(super) fn apply(&self, to: &Move) -> Option<View> {
        match to {
            Move::Reshape(shape) => self.reshape(shape),
            Move::Permute(perm) => Some(self.permute(perm)),
            Move::Slice { starts, sizes, steps } => Some(self.slice(starts, sizes, steps)),
            Move::Broadcast(shape) => Some(self.broadcast(shape)),
        }
    }

    /// Axis `i` of the result is axis `perm[i]`.
    pub(super) fn permute(&self, perm: &[usize]) -> View {
        let pick = |of: &[Dim]| perm.iter().map(|p| of[*p].clone()).collect();
        View { shape: pick(&self.shape), offset: self.offset.clone(), strides: pick(&self.strides) }
    }

    /// Element `i` of axis `a` is element `starts[a] + i * steps[a]`.
    pub(super) fn slice(&self, starts: &[Dim], sizes: &[Dim], steps: &[i64]) -> View {
        let offset = self.strides.iter().zip(starts).fold(self.offset.clone(), |o, (s, at)| &o + &(s * at));
        let strides = self.strides.iter().zip(steps).map(|(s, step)| s * &Dim::from(*step)).collect();
        View { shape: sizes.to_vec(), offset, strides }
    }

    /// The part of `extent` elements from `start` along one axis.
    pub(super) fn part(&self, axis: usize, start: &Dim, extent: &Dim) -> View {
        let mut out = self.clone();
        out.offset = &out.offset + &(start * &self.strides[axis]);
        out.shape[axis] = extent.clone();
        out
    }

    /// The view repeated over the extents `over` (numpy rules): stride 0 where it is repeated.
    pub(super) fn broadcast(&self, over: &[Dim]) -> View {
        let lead = over.len().saturating_sub(self.shape.len());
        let stride = |i: usize, extent: &Dim| {
            let Some(axis) = i.checked_sub(lead) else { return Dim::from(0) };
            let (own, stride) = (&self.shape[axis], &self.strides[axis]);
            if own == extent {
                stride.clone()
            } else {
                // Repeated where the extent is 1, which may be known only at run time.
                stride * &(&Dim::from(1) - &own.equals(&1.into()))
            }
        };
        let strides = over.iter().enumerate().map(|(i, extent)| stride(i, extent)).collect();
        View { shape: over.to_vec(), offset: self.offset.clone(), strides }
    }

    /// The same elements in order under other extents, whose product is known to be the same; none if no strides do that.
    pub(super) fn reshape(&self, shape: &[Dim]) -> Option<View> {
        let offset = self.offset.clone();
        if self.shape == shape {
            return Some(self.clone());
        }
        if self.shape.iter().chain(shape).any(|d| d.is(0)) {
            return Some(View { shape: shape.to_vec(), offset, strides: strides(shape) });
        }
        let old: Vec<usize> = (0..self.shape.len()).filter(|i| !self.shape[*i].is(1)).collect();
        let new: Vec<usize> = (0..shape.len()).filter(|i| !shape[*i].is(1)).collect();
        let of = |axes: &[usize], shape: &[Dim]| axes.iter().map(|i| shape[*i].clone()).collect::<Vec<_>>();
        let mut out = vec![Dim::from(0); shape.len()];
        for (from, to) in blocks(&of(&old, &self.shape), &of(&new, shape)) {
            let from = &old[from];
            for pair in from.windows(2) {
                if self.strides[pair[0]] != &self.strides[pair[1]] * &self.shape[pair[1]] {
                    return None;
                }
            }
            let mut stride = from.last().map_or(Dim::from(0), |i| self.strides[*i].clone());
            for axis in new[to].iter().rev() {
                let next = &stride * &shape[*axis];
                out[*axis] = std::mem::replace(&mut stride, next);
            }
        }
        Some(View { shape: shape.to_vec(), offset, strides: out })
    }

    /// The axes from the largest stride to the smallest, as far as that is known.
    pub(super) fn storage_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shape.len()).collect();
        for _ in 0..order.len() {
            for i in 1..order.len() {
                let (outer, inner) = (&self.strides[order[i - 1]], &self.strides[order[i]]);
                // A multiple of a stride is larger; 0 says nothing.
                let swapped = !inner.is(0) && inner != outer && inner.exact_div(outer).is_some();
                if swapped {
                    order.swap(i - 1, i);
                }
            }
        }
        order
    }
}

type Axes = std::ops::Range<usize>;

/// Cuts two lists of extents with the same product into the smallest pieces whose products are known to be equal.
fn blocks(old: &[Dim], new: &[Dim]) -> Vec<(Axes, Axes)> {
    let prefixes = |s: &[Dim]| (0..=s.len()).map(|i| product(&s[..i])).collect::<Vec<_>>();
    let suffixes = |s: &[Dim]| (0..=s.len()).map(|i| product(&s[i..])).collect::<Vec<_>>();
    let (before, behind) = ((prefixes(old), prefixes(new)), (suffixes(old), suffixes(new)));
    let mut out = Vec::new();
    let mut at = (0, 0);
    while at != (old.len(), new.len()) {
        let pairs = (at.0 + 1..=old.len()).flat_map(|i| (at.1 + 1..=new.len()).map(move |j| (i, j)));
        let next = pairs
            .into_iter()
            .find(|(i, j)| before.0[*i] == before.1[*j] || behind.0[*i] == behind.1[*j])
            .unwrap_or((old.len(), new.len()));
        // The last piece takes all that is left of either list.
        let next = if next.0 == old.len() || next.1 == new.len() { (old.len(), new.len()) } else { next };
        out.push((at.0..next.0, at.1..next.1));
        at = next;
    }
    out
}

/// Merges neighbouring loop dimensions over which all accesses go on evenly. `strides[a]` are those of access `a` over `dims`.
pub(super) fn merge_loops(dims: &mut Vec<Dim>, strides: &mut [Vec<Dim>]) {
    let mut i = dims.len();
    while i >= 2 {
        i -= 1;
        let even = strides.iter().all(|s| s[i - 1] == &s[i] * &dims[i]);
        if even || dims[i - 1].is(1) {
            dims[i] = &dims[i - 1] * &dims[i];
            dims.remove(i - 1);
            for s in strides.iter_mut() {
                s.remove(i - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n() -> Dim {
        Dim::sym("N")
    }

    fn dims(v: &[i64]) -> Vec<Dim> {
        v.iter().map(|d| Dim::from(*d)).collect()
    }

    #[test]
    fn reshapes_split_any_axis_and_merge_contiguous_ones() {
        let x = View::dense(&[2.into(), n(), 12.into()]).permute(&[1, 0, 2]);
        let split = x.reshape(&[n(), 2.into(), 3.into(), 4.into()]).unwrap();
        assert_eq!(split.strides, [12.into(), &n() * &12.into(), 4.into(), 1.into()]);
        assert_eq!(x.reshape(&[&n() * &2.into(), 12.into()]), None);
        let merged = split.reshape(&[n(), 2.into(), 12.into()]).unwrap();
        assert_eq!(merged, x);
    }

    #[test]
    fn unit_axes_come_and_go() {
        let x = View::dense(&dims(&[2, 3])).permute(&[1, 0]);
        let y = x.reshape(&dims(&[1, 3, 1, 2, 1])).unwrap();
        assert!(y.is_same(&x));
        assert!(y.reshape(&dims(&[3, 2])).unwrap().is_same(&x));
    }

    #[test]
    fn blocks_are_found_from_either_end() {
        // The first extents are equal only by a guard, the last are known to be.
        let x = View::dense(&[n(), 2.into(), 5.into()]).slice(
            &dims(&[0, 0, 1]),
            &[n(), 2.into(), 3.into()],
            &[1; 3],
        );
        let y = x.reshape(&[Dim::sym("M"), 3.into()]).unwrap();
        assert_eq!((y.offset, y.strides), (1.into(), dims(&[5, 1])));
    }

    #[test]
    fn slices_reverse_and_broadcasts_repeat() {
        let x = View::dense(&dims(&[4, 6]));
        let y = x.slice(&dims(&[3, 1]), &dims(&[4, 3]), &[-1, 2]);
        assert_eq!((y.offset.clone(), y.strides.clone()), (19.into(), dims(&[-6, 2])));
        assert_eq!(y.broadcast(&dims(&[5, 4, 3])).strides, dims(&[0, -6, 2]));
        assert_eq!(View::dense(&dims(&[1, 3])).broadcast(&dims(&[4, 3])).strides, dims(&[0, 1]));
    }

    #[test]
    fn a_repeated_axis_merges_only_with_repeated_ones() {
        let x = View::dense(&dims(&[1, 1, 3])).broadcast(&dims(&[4, 5, 3]));
        assert_eq!(x.reshape(&dims(&[20, 3])).unwrap().strides, dims(&[0, 1]));
        assert_eq!(x.reshape(&dims(&[4, 15])), None);
    }

    #[test]
    fn storage_order_follows_the_strides() {
        let x = View::dense(&[n(), 3.into(), 4.into(), 5.into()]);
        assert_eq!(x.storage_order(), [0, 1, 2, 3]);
        assert_eq!(x.permute(&[0, 3, 1, 2]).storage_order(), [0, 2, 3, 1]);
    }

    #[test]
    fn loops_merge_where_every_access_is_even() {
        let mut loops = vec![n(), 3.into(), 4.into()];
        let mut strides = [strides(&loops), dims(&[0, 4, 1])];
        merge_loops(&mut loops, &mut strides);
        assert_eq!(loops, [n(), 12.into()]);
        assert_eq!(strides, [dims(&[12, 1]), dims(&[0, 1])]);
    }
}
