//! Measured times of kernels, and what they say about shapes between those that were measured.
//!
//! The text form has one line a measurement: the kernel, the element type, the number of threads, the extents, and
//! nanoseconds. Lines that begin with `#` are comments; `isa` and `machine` say what was measured where.

// Other than those of the C library these give the same bits on every machine.
use libm::{exp2, log2};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// More measurements than this are refused.
const POINTS_MAX: usize = 100_000;

/// What is measured. The element type is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// A product with a packed weight; one row is a matrix times a vector.
    Gemm,
    /// [`Kernel::HEADS`] products of two activations in one step, the mean of those whose second matrix is transposed and of
    /// those where it is not.
    Product,
    /// A convolution without groups. `window` is the number of taps, `pixels` that of the result.
    Conv,
    /// A convolution with windows of 3 x 3 by Winograd's algorithm.
    Winograd,
    /// A convolution of every channel with its own window.
    Depthwise,
    /// Attention of [`Kernel::HEADS`] heads.
    Attention,
    /// Layer normalisation of rows.
    LayerNorm,
    /// Softmax of rows.
    Softmax,
    /// Sums of rows.
    Reduce,
    /// The sum of two tensors; `bytes` are those read and written.
    Map,
    /// An exponential of every element.
    Transcendental,
    /// Rows picked from a table.
    Gather,
    /// A copy of a matrix in the other order.
    Transpose,
    /// A step that does next to nothing.
    Step,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Kernel; 14] = [
        Kernel::Gemm,
        Kernel::Product,
        Kernel::Conv,
        Kernel::Winograd,
        Kernel::Depthwise,
        Kernel::Attention,
        Kernel::LayerNorm,
        Kernel::Softmax,
        Kernel::Reduce,
        Kernel::Map,
        Kernel::Transcendental,
        Kernel::Gather,
        Kernel::Transpose,
        Kernel::Step,
    ];

    /// Heads of a measured attention, and products of activations that are measured together.
    pub const HEADS: usize = 8;

    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Gemm => "gemm",
            Kernel::Product => "product",
            Kernel::Conv => "conv",
            Kernel::Winograd => "winograd",
            Kernel::Depthwise => "depthwise",
            Kernel::Attention => "attention",
            Kernel::LayerNorm => "layer-norm",
            Kernel::Softmax => "softmax",
            Kernel::Reduce => "reduce",
            Kernel::Map => "map",
            Kernel::Transcendental => "transcendental",
            Kernel::Gather => "gather",
            Kernel::Transpose => "transpose",
            Kernel::Step => "step",
        }
    }

    /// The extents that its time depends on, in order.
    pub fn axes(self) -> &'static [&'static str] {
        match self {
            Kernel::Gemm | Kernel::Product => &["m", "k", "n"],
            Kernel::Conv => &["window", "pixels", "inputs", "outputs"],
            Kernel::Winograd => &["pixels", "inputs", "outputs"],
            Kernel::Depthwise => &["window", "pixels", "channels"],
            Kernel::Attention => &["queries", "keys", "columns"],
            Kernel::LayerNorm | Kernel::Softmax | Kernel::Reduce | Kernel::Gather | Kernel::Transpose => {
                &["rows", "columns"]
            }
            Kernel::Map => &["bytes"],
            Kernel::Transcendental => &["elements"],
            Kernel::Step => &[],
        }
    }

    /// Those of its axes along which two kernels can do the work of one, so that it never takes longer than they do.
    fn divisible(self) -> Range<usize> {
        match self {
            Kernel::Gemm | Kernel::Winograd => 1..3,
            Kernel::Conv => 2..4,
            Kernel::Depthwise => 2..3,
            _ => 0..0,
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What ran.
    pub kernel: Kernel,
    /// On how many threads.
    pub threads: u32,
    /// Its extents, one for each of [`Kernel::axes`].
    pub at: Vec<u64>,
    /// Nanoseconds.
    pub ns: f64,
}

/// Times over all combinations of some extents, row-major.
#[derive(Clone, Debug, PartialEq)]
struct Grid {
    axes: Vec<Vec<u64>>,
    ns: Vec<f64>,
}

/// Measured times of the kernels of one instruction set.
///
/// More work never takes less time: the extents of a kernel with the same name and threads form a grid along each axis of
/// which the times do not fall. Along the extents of weights they do not grow faster than the extents either, so that what
/// several products have in common is worth as much as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct CostTable {
    /// Instruction set.
    pub isa: String,
    /// Where it was measured.
    pub machine: String,
    grids: BTreeMap<(Kernel, u32), Grid>,
}

impl CostTable {
    /// A table of measurements. What disturbs one makes it longer, so a time above that of more work is lowered to it, and one
    /// above that of several kernels that do its work to theirs.
    ///
    /// # Errors
    /// The extents of a kernel do not form a grid, or a number is no time.
    pub fn measured(isa: &str, machine: &str, points: &[Point]) -> Result<CostTable, String> {
        let mut table = CostTable::of(isa, machine, points)?;
        for ((kernel, _), grid) in &mut table.grids {
            grid.settle(kernel.divisible());
        }
        Ok(table)
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// What is wrong, with the line; extents that form no grid; less time for more work.
    pub fn parse(text: &str) -> Result<CostTable, String> {
        let (mut isa, mut machine, mut points) = (String::new(), String::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            match line.split_once(' ') {
                None if line.is_empty() || line == "#" => {}
                Some(("#", _)) => {}
                Some(("isa", name)) => name.trim().clone_into(&mut isa),
                Some(("machine", name)) => name.trim().clone_into(&mut machine),
                _ => points.push(point(line).map_err(|e| format!("line {}: {e}", at + 1))?),
            }
        }
        let table = CostTable::of(&isa, &machine, &points)?;
        for ((kernel, threads), grid) in &table.grids {
            if grid.clone().lower() {
                return Err(format!("{} on {threads} threads: more work takes less time", kernel.name()));
            }
        }
        Ok(table)
    }

    fn of(isa: &str, machine: &str, points: &[Point]) -> Result<CostTable, String> {
        if points.len() > POINTS_MAX {
            return Err(format!("{} measurements are too many", points.len()));
        }
        let mut sorted: BTreeMap<(Kernel, u32), BTreeMap<Vec<u64>, f64>> = BTreeMap::new();
        for point in points {
            let name = point.kernel.name();
            let fits = point.at.len() == point.kernel.axes().len() && point.at.iter().all(|e| *e > 0);
            let timed = point.ns.is_finite() && point.ns > 0.0;
            if !fits || !timed {
                return Err(format!("{name}: {:?} in {} ns is no measurement", point.at, point.ns));
            }
            let kernel = sorted.entry((point.kernel, point.threads)).or_default();
            if kernel.insert(point.at.clone(), point.ns).is_some() {
                return Err(format!("{name}: {:?} occurs twice", point.at));
            }
        }
        let mut grids = BTreeMap::new();
        for (key, points) in sorted {
            let grid = Grid::of(key.0.axes().len(), points);
            let partial = || format!("{} on {} threads: the extents form no grid", key.0.name(), key.1);
            grids.insert(key, grid.ok_or_else(partial)?);
        }
        Ok(CostTable { isa: isa.into(), machine: machine.into(), grids })
    }

    /// All measurements, sorted.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.grids.iter().flat_map(|((kernel, threads), grid)| {
            let point =
                |i: usize| Point { kernel: *kernel, threads: *threads, at: grid.extents(i), ns: grid.ns[i] };
            (0..grid.ns.len()).map(point)
        })
    }

    /// Nanoseconds of the most work that was measured of a kernel, and its extents.
    pub fn largest(&self, kernel: Kernel, threads: u32) -> Option<(f64, Vec<f64>)> {
        let grid = self.grids.get(&(kernel, threads))?;
        let top = grid.axes.iter().map(|axis| axis.last().map_or(1.0, |x| *x as f64)).collect();
        Some((*grid.ns.last()?, top))
    }

    /// Nanoseconds of a kernel for the nearest extents within what was measured, and these extents; none if the kernel was
    /// not measured on so many threads. Between measurements the logarithm of
    /// the time is linear in those of the extents.
    pub fn nearest(&self, kernel: Kernel, threads: u32, at: &[f64]) -> Option<(f64, Vec<f64>)> {
        let grid = self.grids.get(&(kernel, threads)).filter(|grid| grid.axes.len() == at.len())?;
        let inside = |(axis, x): (&Vec<u64>, &f64)| match (axis.first(), axis.last()) {
            (Some(first), Some(last)) => x.max(*first as f64).min(*last as f64),
            _ => *x,
        };
        let near: Vec<f64> = grid.axes.iter().zip(at).map(inside).collect();
        Some((grid.interpolate(&near), near))
    }
}

impl Grid {
    fn of(rank: usize, points: BTreeMap<Vec<u64>, f64>) -> Option<Grid> {
        let mut axes = vec![Vec::new(); rank];
        for at in points.keys() {
            axes.iter_mut().zip(at).for_each(|(axis, x)| axis.push(*x));
        }
        for axis in &mut axes {
            axis.sort_unstable();
            axis.dedup();
        }
        let size = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.len()))?;
        // Sorted keys of a complete grid are its row-major order.
        (size == points.len()).then(|| Grid { axes, ns: points.into_values().collect() })
    }

    /// The extents of a measurement.
    fn extents(&self, i: usize) -> Vec<u64> {
        let mut rest = i;
        let mut at: Vec<u64> = Vec::with_capacity(self.axes.len());
        for axis in self.axes.iter().rev() {
            at.push(axis[rest % axis.len()]);
            rest /= axis.len();
        }
        at.reverse();
        at
    }

    /// Lowers every time to the smallest of those of more work, and to those of kernels that share the work along the axes
    /// `divisible`. Times are those of a shortest path, as all ratios are at least 1, so this ends.
    fn settle(&mut self, divisible: Range<usize>) {
        loop {
            let lowered = self.lower();
            let shared = divisible.clone().any(|axis| self.share(axis));
            if !lowered && !shared {
                break;
            }
        }
        // More digits than repeat; this keeps their order.
        self.ns.iter_mut().for_each(|ns| *ns = (*ns * 10.0).round() / 10.0);
    }

    /// Distance of neighbours along an axis.
    fn stride(&self, axis: usize) -> usize {
        self.axes[axis + 1..].iter().map(Vec::len).product()
    }

    /// Lowers every time to the smallest of those of more work; whether there was one.
    fn lower(&mut self) -> bool {
        let mut changed = false;
        for axis in 0..self.axes.len() {
            let (stride, len) = (self.stride(axis), self.axes[axis].len());
            for i in (0..self.ns.len()).rev().filter(|i| i / stride % len + 1 < len) {
                changed |= self.ns[i + stride] < self.ns[i];
                self.ns[i] = self.ns[i].min(self.ns[i + stride]);
            }
        }
        changed
    }

    /// Lowers every time to that of several kernels that are smaller along an axis; whether one was longer.
    fn share(&mut self, axis: usize) -> bool {
        let (stride, extents, mut changed) = (self.stride(axis), &self.axes[axis], false);
        for i in 0..self.ns.len() {
            let at = i / stride % extents.len();
            if at > 0 {
                let several = self.ns[i - stride] * (extents[at] as f64 / extents[at - 1] as f64);
                changed |= several < self.ns[i];
                self.ns[i] = self.ns[i].min(several);
            }
        }
        changed
    }

    /// The time for extents within the grid.
    fn interpolate(&self, at: &[f64]) -> f64 {
        // (index of the measurement, weight): each axis splits every entry in two.
        let mut corners = vec![(0usize, 1.0f64)];
        for (axis, x) in self.axes.iter().zip(at) {
            let above = axis.partition_point(|e| (*e as f64) < *x).min(axis.len() - 1);
            let below = above.saturating_sub(1);
            let (low, high) = (log2(axis[below] as f64), log2(axis[above] as f64));
            let share = if high > low { (log2(*x) - low) / (high - low) } else { 0.0 };
            corners = corners
                .iter()
                .flat_map(|(i, weight)| {
                    let i = i * axis.len();
                    [(i + below, weight * (1.0 - share)), (i + above, weight * share)]
                })
                .filter(|(_, weight)| *weight > 0.0)
                .collect();
        }
        match corners.as_slice() {
            [(i, _)] => self.ns[*i],
            _ => exp2(corners.iter().map(|(i, weight)| weight * log2(self.ns[*i])).sum()),
        }
    }
}

fn point(line: &str) -> Result<Point, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[name, dtype, threads, extents, ns] = words.as_slice() else {
        return Err("needs a kernel, an element type, threads, extents and nanoseconds".into());
    };
    let kernel = Kernel::ALL.into_iter().find(|kernel| kernel.name() == name);
    let kernel = kernel.ok_or_else(|| format!("there is no kernel {name:?}"))?;
    if dtype != "f32" {
        return Err(format!("element type {dtype:?} is not measured"));
    }
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let at = match extents {
        "-" => Vec::new(),
        _ => extents.split('x').map(number).collect::<Result<_, _>>()?,
    };
    let threads = u32::try_from(number(threads)?).map_err(|e| e.to_string())?;
    let ns = ns.parse().map_err(|e| format!("{ns:?}: {e}"))?;
    Ok(Point { kernel, threads, at, ns })
}

impl fmt::Display for CostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Nanoseconds of the kernels: kernel, element type, threads, extents, time.")?;
        for kernel in Kernel::ALL {
            writeln!(f, "# {}: {}", kernel.name(), kernel.axes().join(" x "))?;
        }
        writeln!(f, "isa {}\nmachine {}", self.isa, self.machine)?;
        for Point { kernel, threads, at, ns } in self.points() {
            let extents: Vec<String> = at.iter().map(u64::to_string).collect();
            let extents = if at.is_empty() { "-".into() } else { extents.join("x") };
            writeln!(f, "{} f32 {threads} {extents} {ns}", kernel.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
