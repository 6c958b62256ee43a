//! Layers as matrix products: weights as [k,n] matrices, and the rows that they are multiplied with.

use crate::lower::f32s;
use autoglm_ir::{Attrs, DType, Tensor};
use bytes::Bytes;

/// A weight as a row-major matrix [k,n]. The k of a convolution runs over taps, and within a tap over channels, as its
/// kernels read them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) data: Vec<f32>,
}

impl Matrix {
    /// Of the weight of a layer: [k,n] of a product, [m,c,kernel..] of a convolution.
    pub(super) fn of(weight: &Tensor, conv: bool) -> Option<Matrix> {
        let data = floats(weight)?;
        match (weight.shape.as_slice(), conv) {
            ([k, n], false) => Some(Matrix { k: *k, n: *n, data }),
            ([m, c, kernel @ ..], true) => {
                let taps: usize = kernel.iter().product();
                let mut matrix = Matrix { k: taps * c, n: *m, data: vec![0.0; data.len()] };
                for (at, x) in data.into_iter().enumerate() {
                    let (m, c, tap) = (at / (taps * c), at / taps % c, at % taps);
                    let to = matrix.at(tap, c, weight.shape[1]) + m;
                    matrix.data[to] = x;
                }
                Some(matrix)
            }
            _ => None,
        }
    }

    /// Where the row of a tap and a channel starts.
    fn at(&self, tap: usize, channel: usize, channels: usize) -> usize {
        (tap * channels + channel) * self.n
    }

    /// The weight of a layer, of which `like` gives all extents but that of the results.
    pub(super) fn tensor(&self, like: &[usize], conv: bool) -> Tensor {
        match (like, conv) {
            ([_, channels, kernel @ ..], true) => {
                let taps: usize = kernel.iter().product();
                let of = |at: usize| {
                    let (m, c, tap) = (at / (taps * channels), at / taps % channels, at % taps);
                    self.data[self.at(tap, c, *channels) + m]
                };
                let shape = [&[self.n, *channels], kernel].concat();
                tensor(shape, (0..self.data.len()).map(of))
            }
            _ => tensor(vec![self.k, self.n], self.data.iter().copied()),
        }
    }
}

/// Floats as a tensor.
pub(super) fn tensor(shape: Vec<usize>, data: impl Iterator<Item = f32>) -> Tensor {
    let data: Vec<u8> = data.flat_map(f32::to_le_bytes).collect();
    Tensor { dtype: DType::F32, shape, data: Bytes::from(data) }
}

/// The elements of an f32 tensor.
pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    (tensor.dtype == DType::F32).then(|| f32s(&tensor.data))
}

/// The rows that a layer's matrix is multiplied with, drawn evenly from the inputs of the calibration runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) k: usize,
    pub(super) data: Vec<f32>,
    /// Rows of runs that alternatives are not made for.
    pub(super) held_back: Vec<f32>,
}

impl Rows {
    /// Adds at most `most` rows of an input of a linear product [..,k].
    pub(super) fn add_rows(&mut self, k: usize, x: &[f32], most: usize) {
        self.k = k;
        let rows = x.len() / k.max(1);
        for row in spread(rows, most) {
            self.data.extend_from_slice(&x[row * k..(row + 1) * k]);
        }
    }

    /// Adds at most `most` patches of an input [n,c,spatial..] of a convolution.
    pub(super) fn add_patches(&mut self, x: &[f32], shape: &[usize], window: &Window, most: usize) {
        let [images, channels, spatial @ ..] = shape else { return };
        let taps: usize = window.kernel.iter().product();
        self.k = taps * channels;
        let positions: Vec<usize> =
            (0..spatial.len()).map(|axis| window.count(axis, spatial[axis])).collect();
        let per_image: usize = positions.iter().product();
        let pixels: usize = spatial.iter().product();
        for at in spread(images * per_image, most) {
            let (image, position) = (at / per_image.max(1), at % per_image.max(1));
            let start = unravel(position, &positions);
            for tap in 0..taps {
                let pixel = window.pixel(&start, &unravel(tap, &window.kernel), spatial);
                let of = |c: usize| pixel.map_or(0.0, |p| x[(image * channels + c) * pixels + p]);
                self.data.extend((0..*channels).map(of));
            }
        }
    }
}

/// At most `most` of `count` numbers, one from each of equal stretches. Where in a stretch varies from one to the next: at even
/// distances all positions of an image may be of one column.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |i| {
        let (start, end) = (i * count / taken, (i + 1) * count / taken);
        // Fractional parts of multiples of the golden ratio fill the unit interval evenly.
        let part = (i as f64 * 0.618_033_988_749_894_9).fract();
        start + (part * (end - start) as f64) as usize
    })
}

/// The coordinates of a flat index.
fn unravel(mut at: usize, extents: &[usize]) -> Vec<usize> {
    let mut out = vec![0; extents.len()];
    for (slot, extent) in out.iter_mut().zip(extents).rev() {
        (*slot, at) = (at % extent.max(&1), at / extent.max(&1));
    }
    out
}

/// Where a convolution's kernel goes.
#[derive(Clone, Debug)]
pub(super) struct Window {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<i64>,
}

impl Window {
    /// Of the attributes of a convolution and the extents of its kernel; none if they do not fit.
    pub(super) fn of(attrs: &Attrs, kernel: &[usize]) -> Option<Window> {
        let sizes = |name: &str| -> Option<Vec<usize>> {
            let sizes: Vec<usize> =
                attrs.ints(name).iter().filter_map(|v| usize::try_from(*v).ok()).collect();
            (sizes.len() == kernel.len()).then_some(sizes)
        };
        let pads = attrs.ints("pads").to_vec();
        (pads.len() == 2 * kernel.len()).then_some(())?;
        Some(Window {
            kernel: kernel.to_vec(),
            strides: sizes("strides")?,
            dilations: sizes("dilations")?,
            pads,
        })
    }

    /// Positions along an axis of `extent` pixels.
    fn count(&self, axis: usize, extent: usize) -> usize {
        let padded = extent as i64 + self.pads[axis] + self.pads[axis + self.kernel.len()];
        let reach = (self.dilations[axis] * self.kernel[axis].saturating_sub(1)) as i64;
        usize::try_from((padded - reach - 1).div_euclid(self.strides[axis].max(1) as i64) + 1).unwrap_or(0)
    }

    /// The pixel under a tap of the window at a position; none in the padding.
    fn pixel(&self, position: &[usize], tap: &[usize], spatial: &[usize]) -> Option<usize> {
        let mut at = 0;
        for (axis, extent) in spatial.iter().enumerate() {
            let coordinate = (position[axis] * self.strides[axis] + tap[axis] * self.dilations[axis]) as i64;
            let coordinate = usize::try_from(coordinate - self.pads[axis]).ok().filter(|c| c < extent)?;
            at = at * extent + coordinate;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoglm_ir::{Attr, OpId};

    #[test]
    fn weights_of_convolutions_go_both_ways() {
        let shape = [3, 2, 2, 2];
        let weight = tensor(shape.to_vec(), (0..24).map(|i| i as f32));
        let matrix = Matrix::of(&weight, true).unwrap();
        assert_eq!((matrix.k, matrix.n), (8, 3));
        // Tap 1, channel 1, of results 0, 1, 2.
        assert_eq!(matrix.data[9..12], [5.0, 13.0, 21.0]);
        assert_eq!(matrix.tensor(&shape, true), weight);
    }

    #[test]
    fn rows_are_spread_over_all_columns_of_an_image() {
        for most in [1, 7, 64, 256] {
            let at: Vec<usize> = spread(2048, most).collect();
            assert_eq!(at.len(), most);
            assert!(at.is_sorted_by(|a, b| a < b) && at[most - 1] < 2048);
            let columns: std::collections::BTreeSet<usize> = at.iter().map(|at| at % 8).collect();
            assert!(columns.len() >= most.min(8) * 3 / 4, "{most}: {columns:?}");
        }
        assert_eq!(spread(5, 9).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(spread(0, 9).count(), 0);
    }

    /// Patches times the matrix are the convolution, by the reference interpreter.
    #[test]
    fn patches_are_those_of_the_convolution() {
        let attrs = Attrs::new([
            ("strides", Attr::Ints(vec![2, 1])),
            ("dilations", Attr::Ints(vec![1, 2])),
            ("pads", Attr::Ints(vec![1, 0, 0, 2])),
            ("groups", Attr::Int(1)),
        ]);
        let x = tensor(vec![2, 3, 5, 6], (0..180).map(|i| (i * 37 % 23) as f32 - 11.0));
        let w = tensor(vec![4, 3, 3, 2], (0..72).map(|i| (i * 29 % 17) as f32 - 8.0));
        let expected =
            autoglm_ir::interp::eval(OpId::of("conv").unwrap(), &attrs, &[x.clone(), w.clone()]).unwrap();
        let [n, m, h, wide] = expected[0].shape[..] else { panic!("no image") };
        let expected = floats(&expected[0]).unwrap();
        let matrix = Matrix::of(&w, true).unwrap();
        let mut rows = Rows::default();
        let window = Window::of(&attrs, &[3, 2]).unwrap();
        rows.add_patches(&floats(&x).unwrap(), &x.shape, &window, usize::MAX);
        assert_eq!(rows.data.len(), rows.k * n * h * wide);
        for (at, row) in rows.data.chunks_exact(rows.k).enumerate() {
            let (image, pixel) = (at / (h * wide), at % (h * wide));
            for column in 0..m {
                let sum: f32 = row.iter().enumerate().map(|(i, x)| x * matrix.data[i * m + column]).sum();
                assert_eq!(sum, expected[(image * m + column) * h * wide + pixel]);
            }
        }
        let mut few = Rows::default();
        few.add_patches(&floats(&x).unwrap(), &x.shape, &window, 5);
        assert_eq!(few.data.len(), 5 * few.k);
    }
}
