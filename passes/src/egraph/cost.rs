//! What a node costs, in nanoseconds on the reference machine: measured times of kernels where there is a table of them, a
//! roofline over arithmetic and bytes elsewhere.

use super::table::{CostTable, Kernel};
use super::zeros::time_share;
use autoglm_ir::egraph::{EGraph, ENode};
use autoglm_ir::op::{Fusion, InferCx, TensorType};
use autoglm_ir::sparsity::Zeros;
use autoglm_ir::{Const, ConstId, DType, Dim, OpId};
use egg::Id;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rates of a machine, and the sizes at which symbolic graphs are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CostModel {
    /// Arithmetic operations a nanosecond of one thread in contractions.
    pub flops: f64,
    /// Bytes a nanosecond that loops over tensors in cache read and write, on one thread.
    pub bytes: f64,
    /// Nanoseconds a step costs before it does anything.
    pub step: f64,
    /// Nanoseconds an element of a transcendental function takes on one thread.
    pub transcendental: f64,
    /// The value that symbols have.
    pub symbol: i64,
    /// Those of them whose value is known.
    pub symbols: BTreeMap<String, i64>,
    /// Weights in which zeros form a pattern.
    pub zeros: BTreeMap<ConstId, Zeros>,
    /// Threads of a run.
    pub threads: u32,
    /// Measured times.
    pub table: Option<Arc<CostTable>>,
}

impl Default for CostModel {
    /// Packed GEMM at 80 % of an AVX2 core's peak, TileIR loops in L2; nothing measured.
    fn default() -> CostModel {
        CostModel {
            flops: 80.0,
            bytes: 16.0,
            step: 500.0,
            transcendental: 0.8,
            symbol: 128,
            symbols: BTreeMap::new(),
            zeros: BTreeMap::new(),
            threads: 1,
            table: None,
        }
    }
}

/// Bytes a nanosecond of weights that no cache holds; all threads share them.
const MEMORY: f64 = 8.0;

/// How much longer a contraction takes as a loop than as a kernel.
const LOOP: f64 = 8.0;

/// The parts of a fused operator are taken instead of it only where they are faster by more than this share: measurements of a
/// machine that others use repeat no better, and results between parts, which lie in a cache where one kernel is measured over
/// and over, do not where a model is large.
const FUSED: f64 = 0.3;

/// Nanoseconds that a sort by positions takes for each element and level, of tens of thousands of elements.
const COMPARISON: f64 = 10.0;

/// An operator with the types of its arguments and results.
struct Node<'n> {
    op: OpId,
    cx: &'n InferCx<'n>,
    out: &'n TensorType,
    /// Whether each argument is a constant.
    constant: &'n dyn Fn(usize) -> bool,
}

impl CostModel {
    /// The default rates with a table of measured times.
    pub fn with_table(table: Option<Arc<CostTable>>) -> CostModel {
        CostModel { table, ..CostModel::default() }
    }

    /// The value of an extent at the profile point.
    fn size(&self, dim: &Dim) -> f64 {
        let symbol = |name: &str| match self.symbols.get(name) {
            Some(value) => Some(*value),
            None => Some(if name.contains('@') { 1 } else { self.symbol }),
        };
        dim.eval(&symbol).map_or(self.symbol as f64, |v| v.max(0) as f64)
    }

    fn product(&self, dims: &[Dim]) -> f64 {
        dims.iter().map(|d| self.size(d)).product()
    }

    fn elements(&self, ty: &TensorType) -> f64 {
        self.product(&ty.shape)
    }

    fn tensor_bytes(&self, ty: &TensorType) -> f64 {
        self.elements(ty) * ty.dtype.size() as f64
    }

    /// The zeros of a constant weight that are known, and its type.
    fn zeros_of<'s>(
        &'s self,
        egraph: &'s EGraph,
        weight: Option<&Id>,
    ) -> Option<(&'s Zeros, &'s TensorType)> {
        let data = &egraph[*weight.filter(|_| !self.zeros.is_empty())?].data;
        Some((self.zeros.get(&data.constant?)?, data.ty()?))
    }

    /// Bytes of a constant in an engine.
    pub(crate) fn stored(&self, consts: &[Const], id: ConstId) -> f64 {
        let bytes = consts.get(id.0 as usize).map_or(0.0, |constant| self.tensor_bytes(&constant.ty));
        self.zeros.get(&id).map_or(bytes, |zeros| bytes * zeros.stored())
    }

    /// Nanoseconds of a kernel for extents of at least 1, one for each of its axes. More of any of them never takes less
    /// time. Below what was measured the time is that of the least work that was; beyond it the time grows by the
    /// roofline's arithmetic and bytes, at the efficiency of the most work that was; where nothing was measured it is the
    /// roofline.
    pub fn predict(&self, kernel: Kernel, at: &[f64]) -> f64 {
        let at: Vec<f64> = at.iter().map(|x| x.max(1.0)).collect();
        let table = self.table.as_deref();
        let known = table.and_then(|table| {
            Some((table.nearest(kernel, self.threads, &at)?, table.largest(kernel, self.threads)?))
        });
        let Some(((ns, near), (most, top))) = known else { return self.roofline(kernel, &at) };
        if near.iter().zip(&at).all(|(near, x)| near >= x) {
            return ns;
        }
        let beyond: Vec<f64> = near.iter().zip(&at).map(|(near, x)| near.max(*x)).collect();
        let sum = |at: &[f64]| {
            let (arithmetic, bytes) = self.work(kernel, at);
            arithmetic + bytes
        };
        ns + most / self.roofline(kernel, &top) * (sum(&beyond) - sum(&near))
    }

    /// Nanoseconds of a kernel by its arithmetic and the bytes that it moves.
    pub fn roofline(&self, kernel: Kernel, at: &[f64]) -> f64 {
        let (arithmetic, bytes) = self.work(kernel, at);
        self.step + arithmetic.max(bytes)
    }

    /// Nanoseconds that the arithmetic of a kernel takes at least, and its bytes.
    fn work(&self, kernel: Kernel, at: &[f64]) -> (f64, f64) {
        let heads = Kernel::HEADS as f64;
        let (operations, bytes) = match (kernel, at) {
            (Kernel::Gemm, [m, k, n]) => (2.0 * m * k * n, 4.0 * (m * k + k * n)),
            (Kernel::Product, [m, k, n]) => (2.0 * heads * m * k * n, 4.0 * heads * (m * k + k * n)),
            (Kernel::Conv, [w, p, c, m]) => (2.0 * w * p * c * m, 4.0 * (p * c + w * c * m)),
            (Kernel::Winograd, [pixels, c, m]) => {
                // Tiles of 6 x 6 are read and written, sums of 6 x 6 are read, tiles of 4 x 4 are written, all beside 36
                // products, with weights of four times the bytes.
                let tiles = pixels / 16.0;
                let transforms = 4.0 * tiles * (72.0 * c + 52.0 * m) / self.bytes;
                let weights = 4.0 * (36.0 - 9.0) * c * m / MEMORY;
                (36.0 * 2.0 * tiles * c * m + (transforms + weights) * self.flops, 0.0)
            }
            (Kernel::Depthwise, [w, p, c]) => (2.0 * w * p * c, 4.0 * (p * c + w * c)),
            (Kernel::Attention, [s, t, d]) => (4.0 * heads * s * t * d, 4.0 * heads * (s * d + 2.0 * t * d)),
            (Kernel::Reduce, [rows, cols]) => (0.0, 4.0 * rows * cols),
            (_, [rows, cols]) => (0.0, 8.0 * rows * cols),
            (Kernel::Transcendental, [elements]) => {
                (elements * self.transcendental * self.flops, 8.0 * elements)
            }
            (Kernel::Map, [bytes]) => (0.0, *bytes),
            _ => (0.0, 0.0),
        };
        let threads = f64::from(self.threads.max(1));
        (operations / self.flops / threads, bytes / self.bytes / threads)
    }

    /// Cost of a node of an e-graph; constants, inputs and attributes are free.
    pub(crate) fn node(&self, egraph: &EGraph, node: &ENode) -> f64 {
        let ENode::Op(op, children) = node else { return 0.0 };
        let dense = self.operator(egraph, *op, children);
        match self.zeros_of(egraph, children.get(2)) {
            Some((zeros, weight)) => {
                let share = time_share(zeros, self.rows(egraph, node, weight));
                self.step + (dense - self.step).max(0.0) * share
            }
            None => dense,
        }
    }

    /// Rows of a product with a weight.
    fn rows(&self, egraph: &EGraph, node: &ENode, weight: &TensorType) -> f64 {
        let result = egraph.lookup(node.clone()).and_then(|id| egraph[id].data.ty());
        let columns = weight.shape.get(usize::from(weight.rank() == 2)).and_then(Dim::as_const);
        result.map_or(1.0, |ty| self.elements(ty)) / columns.map_or(1.0, |n| n.max(1) as f64)
    }

    /// Cost of an operator whose weights are dense.
    fn operator(&self, egraph: &EGraph, op: OpId, children: &[Id]) -> f64 {
        let args: Option<Vec<&TensorType>> = children[1..].iter().map(|c| egraph[*c].data.ty()).collect();
        let (Some(args), Some(attrs)) = (args, egraph[children[0]].data.attrs()) else { return self.step };
        let cx = InferCx { args: &args, attrs, guards: RefCell::default() };
        let Ok(outs) = (op.def().infer)(&cx) else { return f64::INFINITY };
        if attrs.str("algorithm") == "winograd" {
            return self.winograd(&args, &outs).unwrap_or(f64::INFINITY);
        }
        let constant = |i: usize| children.get(i + 1).is_some_and(|c| egraph[*c].data.constant.is_some());
        let written: f64 = outs.iter().map(|t| self.tensor_bytes(t)).sum();
        if op.name() == "top_k" {
            let extent = usize::try_from(attrs.int("axis")).ok().and_then(|axis| args[0].shape.get(axis));
            let levels = extent.map_or(1.0, |n| self.size(n)).max(2.0).log2();
            return self.step + self.elements(args[0]) * levels * COMPARISON;
        }
        if let Some(out) = outs.first().filter(|out| self.table.is_some() && out.dtype == DType::F32) {
            let node = Node { op, cx: &cx, out, constant: &constant };
            if let Some(ns) = self.measured(&node) {
                return ns;
            }
        }
        let read = self.read(op, &args, &outs);
        let work = outs.first().map_or(0.0, |out| self.size(&(op.def().work)(&cx, out).flops));
        match op.def().class {
            // A weight that is known to be one is packed at compile time.
            Fusion::Contraction if op.name() == "matmul" => {
                1.1 * self.step + (work / self.flops).max(read / self.bytes)
            }
            // Kernels convolve images; over one axis or three it is a loop.
            Fusion::Contraction if op.name() == "conv" && args[0].rank() != 4 => {
                self.step + LOOP * (work / self.flops).max(read / self.bytes)
            }
            Fusion::Contraction => self.step + (work / self.flops).max(read / self.bytes),
            Fusion::Elementwise => {
                let each = if transcendental(op) { self.transcendental } else { 0.0 };
                let elements = outs.first().map_or(0.0, |t| self.elements(t));
                // A loop that joins its neighbours pays for its own arithmetic and little else.
                0.1 * self.step + elements * (0.02 + each) + written / self.bytes
            }
            // Views: no copy, but what reads a transpose reads it more slowly.
            Fusion::Movement if matches!(op.name(), "reshape" | "slice" | "expand") => 1.0,
            Fusion::Movement if op.name() == "transpose" => 1.0 + 0.05 * written / self.bytes,
            _ => self.step + (read + written) / self.bytes + work / self.flops,
        }
    }

    /// Bytes that an operator reads: a gather, of its data, what it gives.
    fn read(&self, op: OpId, args: &[&TensorType], outs: &[TensorType]) -> f64 {
        let of = |(i, ty): (usize, &&TensorType)| match (op.name(), outs.first()) {
            ("gather_matmul", _) if i == 1 => {
                let matrices = ty.shape.first().map_or(1.0, |count| self.size(count)).max(1.0);
                self.tensor_bytes(ty) / matrices * self.matrices(args)
            }
            ("gather" | "gather_nd" | "gather_elements", Some(out)) if i == 0 => self.tensor_bytes(out),
            _ => self.tensor_bytes(ty),
        };
        args.iter().enumerate().map(of).sum()
    }

    /// Matrices that the index of a `gather_matmul` chooses, at most.
    fn matrices(&self, args: &[&TensorType]) -> f64 {
        let count = args.get(1).and_then(|w| w.shape.first()).map_or(1.0, |count| self.size(count));
        args.get(2).map_or(count, |index| self.elements(index).min(count))
    }

    /// Cost by the measured kernels, of an operator that one of them computes.
    fn measured(&self, node: &Node<'_>) -> Option<f64> {
        let (out, args) = (node.out, node.cx.args);
        let arg = |i: usize| args.get(i).map(|ty| ty.shape.as_slice());
        let elements = self.elements(out);
        match node.op.def().class {
            Fusion::Elementwise => {
                // A loop that joins its neighbours has no step of its own.
                let step = self.predict(Kernel::Step, &[]);
                let alone = |kernel, x| (self.predict(kernel, &[x]) - step).max(0.0);
                let curve =
                    if transcendental(node.op) { alone(Kernel::Transcendental, elements) } else { 0.0 };
                let stream = alone(Kernel::Map, self.tensor_bytes(out)).max(0.02 * elements);
                return Some(0.1 * step + stream + curve);
            }
            Fusion::Movement if matches!(node.op.name(), "reshape" | "slice" | "expand" | "transpose") => {
                return None;
            }
            _ => {}
        }
        match node.op.name() {
            // What is said to be a weight is preferred over what merely is one.
            "matmul" => Some(self.matmul(node)? + 0.1 * self.step),
            "linear" => self.matmul(node),
            "gather_matmul" => {
                let ([.., k], [.., n]) = (arg(0)?, arg(1)?) else { return None };
                let (k, n, matrices) = (self.size(k), self.size(n), self.matrices(args).max(1.0));
                let rows = elements / n.max(1.0) / matrices;
                Some(self.products((node.constant)(1), matrices, [rows, k, n]))
            }
            "conv" => self.conv(node),
            "attention" => {
                let ([b, h, s, d], [_, _, t, _]) = (arg(0)?, arg(1)?) else { return None };
                let at = [self.size(s), self.size(t), self.size(d)];
                let heads = self.size(b) * self.size(h) / Kernel::HEADS as f64;
                Some(self.times(heads, self.predict(Kernel::Attention, &at)) * (1.0 - FUSED))
            }
            "softmax" | "layer_norm" => {
                let cols = self.size(out.shape.last()?);
                let kernel = if node.op.name() == "softmax" { Kernel::Softmax } else { Kernel::LayerNorm };
                Some(self.predict(kernel, &[elements / cols.max(1.0), cols]) * (1.0 - FUSED))
            }
            name if name.starts_with("reduce_") => {
                let folded = self.product(arg(0)?) / elements.max(1.0);
                Some(self.predict(Kernel::Reduce, &[elements, folded]))
            }
            "gather" => {
                let cols = arg(0)?.last().map_or(1.0, |d| self.size(d)).max(1.0);
                Some(self.predict(Kernel::Gather, &[elements / cols, cols]))
            }
            _ => {
                let read = self.read(node.op, args, std::slice::from_ref(out));
                let work = self.size(&(node.op.def().work)(node.cx, out).flops);
                Some(self.predict(Kernel::Map, &[read + self.tensor_bytes(out)]) + work / self.flops)
            }
        }
    }

    /// A kernel several times within one step.
    fn times(&self, count: f64, ns: f64) -> f64 {
        let step = self.predict(Kernel::Step, &[]);
        // The overhead of a step is paid once, but some of it is in every product.
        step + count * (ns - step).max(0.25 * ns)
    }

    fn matmul(&self, node: &Node<'_>) -> Option<f64> {
        let (a, b) = (node.cx.args.first()?, node.cx.args.get(1)?);
        let ([rows @ .., k], [lead @ .., _, n]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return None;
        };
        let (k, n) = (self.size(k), self.size(n));
        let single = lead.iter().all(|d| d.is(1));
        let all_rows = self.elements(node.out) / n.max(1.0);
        if single {
            return Some(self.products((node.constant)(1), 1.0, [all_rows, k, n]));
        }
        let m = rows.last().map_or(1.0, |m| self.size(m)).max(1.0);
        Some(self.products((node.constant)(1), all_rows / m, [m, k, n]))
    }

    /// So many products with weights or with activations.
    fn products(&self, weights: bool, count: f64, at: [f64; 3]) -> f64 {
        if weights {
            self.times(count, self.predict(Kernel::Gemm, &at))
        } else {
            self.times(count / Kernel::HEADS as f64, self.predict(Kernel::Product, &at))
        }
    }

    /// A convolution by Winograd's algorithm, on whole tiles of 4 x 4 pixels.
    fn winograd(&self, args: &[&TensorType], outs: &[TensorType]) -> Option<f64> {
        let ([m, c, ..], [n, _, height, width]) =
            (args.get(1)?.shape.as_slice(), outs.first()?.shape.as_slice())
        else {
            return None;
        };
        let along = |extent| (self.size(extent) / 4.0).ceil() * 4.0;
        let pixels = self.size(n) * along(height) * along(width);
        Some(self.predict(Kernel::Winograd, &[pixels, self.size(c), self.size(m)]))
    }

    fn conv(&self, node: &Node<'_>) -> Option<f64> {
        let weight = node.cx.args.get(1)?;
        let ([m, inputs, window @ ..], [batch, _, image @ ..]) =
            (weight.shape.as_slice(), node.out.shape.as_slice())
        else {
            return None;
        };
        if image.len() != 2 || !(node.constant)(1) || !node.cx.attrs.str("layout").is_empty() {
            return None;
        }
        let groups = node.cx.attrs.int("groups").max(1) as f64;
        let (m, inputs, window) = (self.size(m), self.size(inputs), self.product(window));
        let pixels = self.size(batch) * self.product(image);
        if inputs == 1.0 && m == groups {
            return Some(self.predict(Kernel::Depthwise, &[window, pixels, m]));
        }
        let one = self.predict(Kernel::Conv, &[window, pixels, inputs, m / groups]);
        Some(if groups > 1.0 { self.times(groups, one) } else { one })
    }
}

fn transcendental(op: OpId) -> bool {
    matches!(
        op.name(),
        "exp"
            | "log"
            | "erf"
            | "sin"
            | "cos"
            | "tan"
            | "tanh"
            | "sigmoid"
            | "pow"
            | "gelu"
            | "silu"
            | "div"
            | "reciprocal"
            | "sqrt"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_table_the_time_grows_as_the_roofline() {
        let table = "map f32 1 1000 900\nmap f32 1 4000 2000\n";
        let model = CostModel::with_table(Some(Arc::new(CostTable::parse(table).unwrap())));
        let roofline = CostModel::default();
        let at = |x| model.predict(Kernel::Map, &[x]);
        let line = |x| roofline.predict(Kernel::Map, &[x]);
        assert_eq!((at(1000.0), at(4000.0)), (900.0, 2000.0));
        let efficiency = 2000.0 / line(4000.0);
        assert_eq!(at(64000.0), 2000.0 + efficiency * (line(64000.0) - line(4000.0)));
        assert_eq!((at(0.0), at(999.0)), (900.0, 900.0));
        let mut last = 0.0;
        for i in 0..400 {
            let next = at(f64::from(i) * 20.0);
            assert!(next >= last, "{i}");
            last = next;
        }
        assert_eq!(
            model.predict(Kernel::Softmax, &[4.0, 8.0]),
            roofline.predict(Kernel::Softmax, &[4.0, 8.0])
        );
    }
}
