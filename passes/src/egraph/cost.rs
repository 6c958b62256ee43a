//! What a node costs, in nanoseconds on the reference machine (one core, AVX2): a roofline over arithmetic and bytes.

use autoglm_ir::egraph::{EGraph, ENode};
use autoglm_ir::op::{Fusion, InferCx, TensorType};
use autoglm_ir::{Dim, OpId};
use std::cell::RefCell;

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
}

impl Default for CostModel {
    /// Packed GEMM at 80 % of an AVX2 core's peak, TileIR loops in L2.
    fn default() -> CostModel {
        CostModel { flops: 80.0, bytes: 16.0, step: 500.0, transcendental: 0.8, symbol: 128 }
    }
}

impl CostModel {
    /// The value of an extent at the profile point.
    fn size(&self, dim: &Dim) -> f64 {
        let symbol = |name: &str| Some(if name.contains('@') { 1 } else { self.symbol });
        dim.eval(&symbol).map_or(self.symbol as f64, |v| v.max(0) as f64)
    }

    fn elements(&self, ty: &TensorType) -> f64 {
        ty.shape.iter().map(|d| self.size(d)).product()
    }

    fn tensor_bytes(&self, ty: &TensorType) -> f64 {
        self.elements(ty) * ty.dtype.size() as f64
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
