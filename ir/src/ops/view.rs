//! Strided views over dense tensors: the one copy routine behind every movement operator.

use crate::op::OpError;
use crate::tensor::{Tensor, strides};
use bytes::Bytes;

/// Element `i` of the view is element `base + sum(i[a] * strides[a])` of the source.
pub(crate) struct View {
    base: i64,
    shape: Vec<usize>,
    strides: Vec<i64>,
}

fn signed(shape: &[usize]) -> Vec<i64> {
    strides(shape).into_iter().map(|s| s as i64).collect()
}

impl View {
    /// Numpy broadcasting of `from` to `to`; axes are aligned at the end.
    pub(crate) fn broadcast(from: &[usize], to: &[usize]) -> View {
        let own = signed(from);
        let strides = (0..to.len())
            .map(|i| match (i + from.len()).checked_sub(to.len()) {
                Some(j) if from[j] != 1 => own[j],
                _ => 0,
            })
            .collect();
        View { base: 0, shape: to.to_vec(), strides }
    }

    /// Axis `i` of the view is axis `perm[i]` of the source.
    pub(crate) fn transpose(shape: &[usize], perm: &[usize]) -> View {
        let own = signed(shape);
        let strides = perm.iter().map(|p| own[*p]).collect();
        View { base: 0, shape: perm.iter().map(|p| shape[*p]).collect(), strides }
    }

    /// Element `i` of axis `a` is element `starts[a] + i * steps[a]` of the source.
    pub(crate) fn slice(shape: &[usize], starts: &[i64], sizes: &[usize], steps: &[i64]) -> View {
        let own = signed(shape);
        let base =
            own.iter().zip(starts).fold(0i64, |at, (s, start)| at.saturating_add(s.saturating_mul(*start)));
        let strides = own.iter().zip(steps).map(|(s, step)| s.saturating_mul(*step)).collect();
        View { base, shape: sizes.to_vec(), strides }
    }

    fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Refuses a view that leaves a source of `len` elements.
    fn check(&self, len: usize) -> Result<(), OpError> {
        if self.is_empty() {
            return Ok(());
        }
        let (mut lo, mut hi) = (i128::from(self.base), i128::from(self.base));
        for (extent, stride) in self.shape.iter().zip(&self.strides) {
            let reach = (*extent as i128 - 1) * i128::from(*stride);
            if reach < 0 { lo += reach } else { hi += reach }
        }
        if lo < 0 || hi >= len as i128 {
            return Err(format!("reads elements {lo}..={hi} of a tensor of {len} elements"));
        }
        Ok(())
    }

    /// Source index of every element, in order.
    pub(crate) fn indices(&self, len: usize) -> Result<Vec<usize>, OpError> {
        self.check(len)?;
        let mut out = Vec::with_capacity(self.shape.iter().product());
        walk(&self.shape, &self.strides, self.base, &mut |at| out.push(at));
        Ok(out)
    }

    /// How many trailing axes are one contiguous run, and its length.
    fn contiguous_tail(&self) -> (usize, usize) {
        let (mut axes, mut run) = (0, 1usize);
        for (extent, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *extent != 1 && *stride != run as i64 {
                break;
            }
            run *= extent;
            axes += 1;
        }
        (axes, run)
    }

    /// Copies the view of `source` into dense bytes.
    pub(crate) fn copy(&self, source: &Tensor) -> Result<Bytes, OpError> {
        self.check(source.numel())?;
        if self.is_empty() {
            return Ok(Bytes::new());
        }
        let size = source.dtype.size();
        let (tail, run) = self.contiguous_tail();
        let outer = self.shape.len() - tail;
        if outer == 0 {
            let at = self.base as usize * size;
            return Ok(source.data.slice(at..at + run * size));
        }
        let mut out = Vec::with_capacity(self.shape.iter().product::<usize>() * size);
        if run > 1 {
            walk(&self.shape[..outer], &self.strides[..outer], self.base, &mut |at| {
                out.extend_from_slice(&source.data[at * size..(at + run) * size]);
            });
        } else {
            let row = (self.shape[outer - 1], self.strides[outer - 1]);
            walk(&self.shape[..outer - 1], &self.strides[..outer - 1], self.base, &mut |at| match size {
                1 => gather_row::<1>(&source.data, at, row, &mut out),
                2 => gather_row::<2>(&source.data, at, row, &mut out),
                4 => gather_row::<4>(&source.data, at, row, &mut out),
                _ => gather_row::<8>(&source.data, at, row, &mut out),
            });
        }
        Ok(out.into())
    }
}

/// Copies `row.0` elements of `N` bytes that lie `row.1` elements apart.
fn gather_row<const N: usize>(data: &[u8], at: usize, row: (usize, i64), out: &mut Vec<u8>) {
    let (elements, _) = data.as_chunks::<N>();
    let mut at = at as i64;
    for _ in 0..row.0 {
        out.extend_from_slice(&elements[at as usize]);
        at += row.1;
    }
}

/// Calls `f` with the offset of every index of `shape`, in row-major order.
pub(crate) fn walk(shape: &[usize], strides: &[i64], base: i64, f: &mut impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0usize; shape.len()];
    let mut at = base;
    loop {
        f(at as usize);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis] as i64;
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_with_indices() {
        let x = Tensor::i64s(vec![2, 3, 4], &(0..24).collect::<Vec<_>>());
        let views = [
            View::transpose(&x.shape, &[2, 0, 1]),
            View::transpose(&x.shape, &[1, 0, 2]),
            View::slice(&x.shape, &[1, 2, 0], &[1, 3, 2], &[1, -1, 2]),
            View::slice(&x.shape, &[0, 1, 0], &[2, 2, 4], &[1, 1, 1]),
            View::broadcast(&[3, 4], &[2, 3, 4]),
            View::broadcast(&[2, 1, 4], &[2, 3, 4]),
        ];
        for view in views {
            let shape = view.shape.clone();
            let copied = Tensor { dtype: x.dtype, data: view.copy(&x).unwrap(), shape };
            let want: Vec<i64> = view.indices(24).unwrap().into_iter().map(|i| i as i64).collect();
            assert_eq!(copied.to_i64(), want);
        }
    }

    #[test]
    fn leaving_the_source_is_an_error() {
        let x = Tensor::i64s(vec![3], &[1, 2, 3]);
        assert!(View::slice(&x.shape, &[1], &[3], &[1]).copy(&x).is_err());
        assert!(View::slice(&x.shape, &[1], &[3], &[-1]).copy(&x).is_err());
        assert!(View::slice(&x.shape, &[i64::MAX], &[2], &[i64::MAX]).copy(&x).is_err());
    }
}
