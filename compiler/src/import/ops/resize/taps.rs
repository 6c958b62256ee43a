//! Which input elements each output element of a resized axis reads, and their weights.

/// How an output position becomes an input coordinate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinate {
    /// Pixel centres correspond.
    HalfPixel,
    /// Pixel centres correspond around the middle of the axis.
    HalfPixelSymmetric,
    /// Pixel centres correspond; a single output reads the first element.
    PytorchHalfPixel,
    /// First and last elements correspond.
    AlignCorners,
    /// First elements correspond.
    Asymmetric,
    /// The ends of a region correspond.
    Crop,
}

/// Which neighbour is nearest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    /// The nearer, the lower one of two.
    PreferFloor,
    /// The nearer, the upper one of two.
    PreferCeil,
    /// The lower.
    Floor,
    /// The upper.
    Ceil,
}

/// The kernel.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// One neighbour.
    Nearest(Nearest),
    /// A triangle over two neighbours.
    Linear,
    /// Keys' cubic convolution with this coefficient over four neighbours.
    Cubic(f64),
}

/// A way of resizing.
#[derive(Clone, Copy)]
pub(super) struct Filter {
    /// Kernel.
    pub(super) mode: Mode,
    /// Coordinates.
    pub(super) coordinate: Coordinate,
    /// Widens the kernel when the axis shrinks.
    pub(super) antialias: bool,
    /// Gives elements outside the input no weight, instead of that of the nearest one inside.
    pub(super) exclude_outside: bool,
    /// Value outside a cropped region.
    pub(super) extrapolation: f64,
}

/// What one output element reads.
pub(super) struct Row {
    /// Input indices and weights.
    pub(super) taps: Vec<(usize, f64)>,
    /// Whether it lies outside a cropped region.
    pub(super) outside: bool,
}

/// The input coordinate of output `i`.
fn coordinate(c: Coordinate, i: usize, from: usize, to: usize, scale: f64, roi: (f64, f64)) -> f64 {
    let (i, n) = (i as f64, from as f64);
    // The unrounded length counts, so that a rounded extent keeps its factor.
    let length = scale * n;
    match c {
        Coordinate::HalfPixel => (i + 0.5) / scale - 0.5,
        Coordinate::PytorchHalfPixel if to == 1 => 0.0,
        Coordinate::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
        Coordinate::HalfPixelSymmetric => n / 2.0 * (1.0 - to as f64 / length) + (i + 0.5) / scale - 0.5,
        Coordinate::AlignCorners if length == 1.0 => 0.0,
        Coordinate::AlignCorners => i * (n - 1.0) / (length - 1.0),
        Coordinate::Asymmetric => i / scale,
        Coordinate::Crop if length == 1.0 => (roi.0 + roi.1) / 2.0 * (n - 1.0),
        Coordinate::Crop => roi.0 * (n - 1.0) + i * (roi.1 - roi.0) * (n - 1.0) / (length - 1.0),
    }
}

/// The rows of an axis of `from` elements resized to `to`.
pub(super) fn rows(f: &Filter, from: usize, to: usize, scale: f64, roi: (f64, f64)) -> Vec<Row> {
    (0..to)
        .map(|i| {
            let x = coordinate(f.coordinate, i, from, to, scale, roi);
            let outside = f.coordinate == Coordinate::Crop && (x < 0.0 || x > from as f64 - 1.0);
            Row { taps: weights(f, x, from, scale), outside }
        })
        .collect()
}

fn inside(j: f64, from: usize) -> usize {
    j.clamp(0.0, from as f64 - 1.0) as usize
}

fn weights(f: &Filter, x: f64, from: usize, scale: f64) -> Vec<(usize, f64)> {
    let (radius, a) = match f.mode {
        Mode::Nearest(nearest) => {
            let j = match nearest {
                Nearest::PreferFloor => (x - 0.5).ceil(),
                Nearest::PreferCeil => (x + 0.5).floor(),
                Nearest::Floor => x.floor(),
                Nearest::Ceil => x.ceil(),
            };
            return vec![(inside(j, from), 1.0)];
        }
        Mode::Linear => (1.0, None),
        Mode::Cubic(a) => (2.0, Some(a)),
    };
    let squeeze = if f.antialias { scale.min(1.0) } else { 1.0 };
    let reach = radius / squeeze;
    let (first, last) = ((x - reach).floor() as i64, (x + reach).ceil() as i64);
    let mut taps = Vec::new();
    let mut total = 0.0;
    for j in first..=last {
        let w = kernel((j as f64 - x) * squeeze, a);
        let beyond = j < 0 || j >= from as i64;
        if w != 0.0 && !(f.exclude_outside && beyond) {
            total += w;
            taps.push((inside(j as f64, from), w));
        }
    }
    if (f.exclude_outside || squeeze < 1.0) && total != 0.0 {
        taps.iter_mut().for_each(|t| t.1 /= total);
    }
    taps
}

/// The triangle, or the cubic of Keys, "Cubic convolution interpolation for digital image processing", 1981.
fn kernel(d: f64, cubic: Option<f64>) -> f64 {
    let d = d.abs();
    match cubic {
        None => (1.0 - d).max(0.0),
        Some(a) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        Some(a) if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        Some(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(mode: Mode, coordinate: Coordinate) -> Filter {
        Filter { mode, coordinate, antialias: false, exclude_outside: false, extrapolation: 0.0 }
    }

    #[test]
    fn doubling_linearly_reads_quarters() {
        let rows = rows(&plain(Mode::Linear, Coordinate::HalfPixel), 2, 4, 2.0, (0.0, 1.0));
        let weight =
            |i: usize, j: usize| -> f64 { rows[i].taps.iter().filter(|t| t.0 == j).map(|t| t.1).sum() };
        assert_eq!([weight(0, 0), weight(1, 0), weight(2, 0), weight(3, 0)], [1.0, 0.75, 0.25, 0.0]);
    }

    #[test]
    fn weights_add_up_to_one() {
        for antialias in [false, true] {
            for (from, to) in [(7, 3), (3, 7), (5, 5)] {
                let f = Filter { antialias, ..plain(Mode::Cubic(-0.5), Coordinate::HalfPixel) };
                for r in rows(&f, from, to, to as f64 / from as f64, (0.0, 1.0)) {
                    assert!((r.taps.iter().map(|t| t.1).sum::<f64>() - 1.0).abs() < 1e-12);
                }
            }
        }
    }
}
