//! What a node costs, in nanoseconds on the reference machine (one core, AVX2): a roofline over arithmetic and bytes.

use autoglm_ir::egraph::{EGraph, ENode};
use autoglm_ir::op::{Fusion, InferCx, TensorType};
use autoglm_ir::sparsity::{PANEL, Zeros};
use autoglm_ir::{Const, ConstId, Dim, OpId};
use egg::Id;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Rates of a machine, and the sizes at which symbolic graphs are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CostModel {
    /// Arithmetic operations a nanosecond in contractions.
    pub flops: f64,
    /// Bytes a nanosecond that loops over tensors in cache read and write.
    pub bytes: f64,
    /// Nanoseconds a step costs before it does anything.
    pub step: f64,
    /// Nanoseconds an element of a transcendental function takes.
    pub transcendental: f64,
    /// The value that symbols have.
    pub symbol: i64,
    /// Those of them whose value is known.
    pub symbols: BTreeMap<String, i64>,
    /// Weights in which zeros form a pattern.
    pub zeros: BTreeMap<ConstId, Zeros>,
}

impl Default for CostModel {
    /// Packed GEMM at 80 % of an AVX2 core's peak, TileIR loops in L2.
    fn default() -> CostModel {
        CostModel {
            flops: 80.0,
            bytes: 16.0,
            step: 500.0,
            transcendental: 0.8,
            symbol: 128,
            symbols: BTreeMap::new(),
            zeros: BTreeMap::new(),
        }
    }
}

impl CostModel {
    /// The value of an extent at the profile point.
    fn size(&self, dim: &Dim) -> f64 {
        let symbol = |name: &str| match self.symbols.get(name) {
            Some(value) => Some(*value),
            None => Some(if name.contains('@') { 1 } else { self.symbol }),
        };
        dim.eval(&symbol).map_or(self.symbol as f64, |v| v.max(0) as f64)
    }

    fn elements(&self, ty: &TensorType) -> f64 {
        ty.shape.iter().map(|d| self.size(d)).product()
    }

    fn tensor_bytes(&self, ty: &TensorType) -> f64 {
        self.elements(ty) * ty.dtype.size() as f64
    }

    fn zeros_of(&self, egraph: &EGraph, weight: Option<&Id>) -> Option<&Zeros> {
        if self.zeros.is_empty() {
            return None;
        }
        self.zeros.get(&egraph[*weight?].data.constant?)
    }

    /// Bytes of a constant in an engine.
    pub(crate) fn stored(&self, consts: &[Const], id: ConstId) -> f64 {
        let bytes = consts.get(id.0 as usize).map_or(0.0, |constant| self.tensor_bytes(&constant.ty));
        self.zeros.get(&id).map_or(bytes, |zeros| bytes * stored_share(zeros))
    }

    /// Cost of a node of an e-graph; constants, inputs and attributes are free.
    pub(crate) fn node(&self, egraph: &EGraph, node: &ENode) -> f64 {
        let ENode::Op(op, children) = node else { return 0.0 };
        let args: Option<Vec<&TensorType>> = children[1..].iter().map(|c| egraph[*c].data.ty()).collect();
        let (Some(args), Some(attrs)) = (args, egraph[children[0]].data.attrs()) else { return self.step };
        let cx = InferCx { args: &args, attrs, guards: RefCell::default() };
        let Ok(outs) = (op.def().infer)(&cx) else { return f64::INFINITY };
        let written: f64 = outs.iter().map(|t| self.tensor_bytes(t)).sum();
        let read: f64 = args.iter().map(|t| self.tensor_bytes(t)).sum();
        let work = outs.first().map_or(0.0, |out| self.size(&(op.def().work)(&cx, out).flops));
        let (work, read) = match self.zeros_of(egraph, children.get(2)) {
            Some(zeros) => {
                let weight = args.get(1).map_or(0.0, |ty| self.tensor_bytes(ty));
                let rows = outs.first().map_or(0.0, |out| self.elements(out)) / columns(*op, &args);
                let (arithmetic, bytes) = left(zeros, rows);
                (work * arithmetic, read - weight * (1.0 - bytes))
            }
            None => (work, read),
        };
        match op.def().class {
            // A weight that is known to be one is packed at compile time.
            Fusion::Contraction if op.name() == "matmul" => {
                1.1 * self.step + (work / self.flops).max(read / self.bytes)
            }
            Fusion::Contraction => self.step + (work / self.flops).max(read / self.bytes),
            Fusion::Elementwise => {
                let each = if transcendental(*op) { self.transcendental } else { 0.0 };
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
}

/// Rows at most for which a product is bound by the bytes of its weight.
const FEW_ROWS: f64 = 4.0;

/// Share of the rows of panels up to which it pays to leave out the others.
const USEFUL: f64 = 0.75;

/// Share of the arithmetic and of the bytes of a weight that are left without its zeros, for a product of so many rows.
fn left(zeros: &Zeros, rows: f64) -> (f64, f64) {
    if zeros.two_four && rows <= FEW_ROWS && zeros.rows() > USEFUL {
        return (1.0, stored_share(zeros));
    }
    // Rows that a block of columns does not need cost nothing; those that are left are found through an index.
    let arithmetic = if zeros.rows() <= USEFUL { zeros.rows() * 1.15 } else { 1.0 };
    (arithmetic.min(1.0), stored_share(zeros))
}

/// Share of the bytes of a weight that are stored.
fn stored_share(zeros: &Zeros) -> f64 {
    if zeros.rows() <= USEFUL {
        // Values, and at most four bits for each row of a panel.
        zeros.rows() * (1.0 + 1.0 / (8 * PANEL) as f64)
    } else if zeros.two_four {
        // Half of the values, and two bits for each.
        0.5 + 0.5 / 16.0
    } else {
        1.0
    }
}

/// Columns of a product: extent of the weight that the result has.
fn columns(op: OpId, args: &[&TensorType]) -> f64 {
    let axis = usize::from(op.name() != "conv");
    let extent = args.get(1).and_then(|w| w.shape.get(axis)).and_then(Dim::as_const);
    extent.map_or(1.0, |n| n.max(1) as f64)
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
