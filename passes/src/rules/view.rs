//! Which axes of two shapes with equal element counts correspond.

use autoglm_ir::Dim;
use std::ops::Range;

/// Axes of one shape and axes of another that hold the same elements.
pub(crate) type Group = (Range<usize>, Range<usize>);

/// The finest contiguous groups of axes with equal products; none where that cannot be proven.
pub(crate) fn groups(a: &[Dim], b: &[Dim]) -> Option<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (start_a, start_b) = (i, j);
        let (mut p, mut q) = (a[i].clone(), b[j].clone());
        (i, j) = (i + 1, j + 1);
        while p != q {
            if i < a.len() && q.exact_div(&p).is_some() {
                p = &p * &a[i];
                i += 1;
            } else if j < b.len() && p.exact_div(&q).is_some() {
                q = &q * &b[j];
                j += 1;
            } else {
                return None;
            }
        }
        groups.push((start_a..i, start_b..j));
    }
    let units = |rest: &[Dim]| rest.iter().all(|d| d.is(1));
    if !units(&a[i..]) || !units(&b[j..]) {
        return None;
    }
    match groups.last_mut() {
        Some(last) => *last = (last.0.start..a.len(), last.1.start..b.len()),
        None if i < a.len() || j < b.len() => groups.push((0..a.len(), 0..b.len())),
        None => {}
    }
    Some(groups)
}

/// The shape that a tensor which broadcasts to `from` needs to broadcast to `to`, a regrouping of the same elements: in
/// each group of axes it has either all extents or ones only.
pub(crate) fn regroup(shape: &[Dim], from: &[Dim], to: &[Dim]) -> Option<Vec<Dim>> {
    let one = Dim::from(1);
    let lead = from.len().checked_sub(shape.len())?;
    let at = |axis: usize| axis.checked_sub(lead).map_or(&one, |i| &shape[i]);
    let mut out = Vec::with_capacity(to.len());
    for (old, new) in groups(from, to)? {
        if old.clone().all(|axis| *at(axis) == from[axis]) {
            out.extend(to[new].iter().cloned());
        } else if old.clone().all(|axis| at(axis).is(1)) {
            out.extend(new.map(|_| one.clone()));
        } else {
            return None;
        }
    }
    Some(out)
}

/// For a reshape from `a` to `b` followed by a transpose `perm` of `b`: the transpose of `a` that may come first.
///
/// Axes of one element hold nothing that could be moved; those of `a` go with the axis after them.
pub(crate) fn earlier_perm(a: &[Dim], b: &[Dim], perm: &[usize]) -> Option<Vec<usize>> {
    let wide = |shape: &[Dim]| (0..shape.len()).filter(|i| !shape[*i].is(1)).collect::<Vec<_>>();
    let of = |shape: &[Dim], axes: &[usize]| axes.iter().map(|i| shape[*i].clone()).collect::<Vec<_>>();
    let (wide_a, wide_b) = (wide(a), wide(b));
    let groups = groups(&of(a, &wide_a), &of(b, &wide_b))?;
    let moved: Vec<usize> =
        perm.iter().filter_map(|axis| wide_b.iter().position(|wide| wide == axis)).collect();
    let mut earlier = Vec::with_capacity(a.len());
    let (mut at, mut taken) = (0, 0);
    while at < moved.len() {
        let (old, new) = groups.iter().find(|(_, new)| new.contains(&moved[at]))?;
        let run = moved.get(at..at + new.len())?;
        if run.iter().copied().ne(new.clone()) {
            return None;
        }
        for axis in old.clone() {
            let start = axis.checked_sub(1).map_or(0, |before| wide_a[before] + 1);
            earlier.extend(start..=wide_a[axis]);
        }
        taken += old.len();
        at += new.len();
    }
    earlier.extend(wide_a.last().map_or(0, |last| last + 1)..a.len());
    (taken == wide_a.len()).then_some(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(v: &[i64]) -> Vec<Dim> {
        v.iter().map(|d| Dim::from(*d)).collect()
    }

    #[test]
    fn axes_are_grouped_as_finely_as_possible() {
        assert_eq!(groups(&dims(&[2, 12, 64]), &dims(&[2, 768])).unwrap(), [(0..1, 0..1), (1..3, 1..2)]);
        assert_eq!(groups(&dims(&[1, 6, 5]), &dims(&[2, 3, 5, 1])).unwrap(), [(0..2, 0..2), (2..3, 2..4)]);
        assert_eq!(groups(&dims(&[4, 6]), &dims(&[6, 4])).unwrap_or_default(), []);
        let n = Dim::sym("n");
        let split = [n.clone(), 3.into()];
        assert_eq!(groups(&[&n * &3.into()], &split).unwrap(), [(0..1, 0..2)]);
    }

    #[test]
    fn a_broadcast_operand_follows_a_regrouping() {
        let (from, to) = (dims(&[1, 64, 3, 49, 49]), dims(&[64, 3, 49, 49]));
        assert_eq!(regroup(&dims(&[64, 1, 49, 49]), &from, &to).unwrap(), dims(&[64, 1, 49, 49]));
        assert_eq!(regroup(&dims(&[64, 1]), &dims(&[64, 4]), &dims(&[256])), None);
    }

    #[test]
    fn a_transpose_passes_a_reshape_that_keeps_its_groups() {
        let (a, b) = (dims(&[12, 64, 128]), dims(&[1, 12, 64, 128]));
        assert_eq!(earlier_perm(&a, &b, &[0, 1, 3, 2]).unwrap(), [0, 2, 1]);
        assert_eq!(earlier_perm(&dims(&[12, 8]), &dims(&[3, 4, 8]), &[1, 0, 2]), None);
        assert_eq!(earlier_perm(&dims(&[1, 3, 4, 1]), &dims(&[3, 1, 4]), &[2, 1, 0]).unwrap(), [2, 0, 1, 3]);
    }
}
