//! Symbolic dims to registers of the shape program.

use super::Failure;
use autoglm_ir::dim::Atom;
use autoglm_ir::{Dim, Graph, SymbolSource};
use autoglm_runtime::program::{Reg, ShapeOp, ShapeProgram};
use std::collections::HashMap;

/// Builds a shape program in which no register is computed twice.
pub(super) struct ShapeBuilder<'g> {
    graph: &'g Graph,
    /// The program so far.
    pub(super) program: ShapeProgram,
    dims: HashMap<Dim, Reg>,
    ops: HashMap<ShapeOp, Reg>,
}

impl<'g> ShapeBuilder<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let program = ShapeProgram::default();
        ShapeBuilder { graph, program, dims: HashMap::new(), ops: HashMap::new() }
    }

    fn op(&mut self, op: ShapeOp) -> Reg {
        let ops = &mut self.program.ops;
        *self.ops.entry(op).or_insert_with(|| {
            ops.push(op);
            (ops.len() - 1) as Reg
        })
    }

    /// The register that holds a dim.
    pub(super) fn reg(&mut self, dim: &Dim) -> Result<Reg, Failure> {
        if let Some(reg) = self.dims.get(dim) {
            return Ok(*reg);
        }
        if !dim.is_sane() {
            return Err(Failure::TooLarge(format!(
                "the extent {dim} does not fit 64 bits, or is too complex"
            )));
        }
        let mut sum: Option<Reg> = None;
        for (atoms, coefficient) in dim.terms() {
            let coefficient = i64::try_from(coefficient)
                .map_err(|_| Failure::TooLarge(format!("the extent {dim} does not fit 64 bits")))?;
            let mut product: Option<Reg> = None;
            for atom in atoms {
                let factor = self.atom(atom)?;
                product = Some(product.map_or(factor, |p| self.op(ShapeOp::Mul(p, factor))));
            }
            let term = match (product, coefficient) {
                (Some(p), 1) => p,
                (Some(p), c) => {
                    let c = self.op(ShapeOp::Const(c));
                    self.op(ShapeOp::Mul(p, c))
                }
                (None, c) => self.op(ShapeOp::Const(c)),
            };
            sum = Some(sum.map_or(term, |s| self.op(ShapeOp::Add(s, term))));
        }
        let reg = sum.unwrap_or_else(|| self.op(ShapeOp::Const(0)));
        self.dims.insert(dim.clone(), reg);
        Ok(reg)
    }

    /// The registers of several dims.
    pub(super) fn regs(&mut self, dims: &[Dim]) -> Result<Vec<Reg>, Failure> {
        dims.iter().map(|d| self.reg(d)).collect()
    }

    fn atom(&mut self, atom: &Atom) -> Result<Reg, Failure> {
        let mut pair = |a: &Dim, b: &Dim| -> Result<(Reg, Reg), Failure> { Ok((self.reg(a)?, self.reg(b)?)) };
        let op = match atom {
            Atom::Sym(name) => {
                let symbol = self.graph.symbols.get(name);
                match symbol.map(|s| s.source).ok_or_else(|| format!("symbol `{name}` is not declared"))? {
                    SymbolSource::InputDim { input, axis } => {
                        ShapeOp::InputDim { input: input as u32, axis: axis as u32 }
                    }
                    SymbolSource::InputElem { input, index } => {
                        ShapeOp::InputElem { input: input as u32, index: index as u32 }
                    }
                }
            }
            Atom::FloorDiv(a, b) => pair(a, b).map(|(a, b)| ShapeOp::FloorDiv(a, b))?,
            Atom::Mod(a, b) => pair(a, b).map(|(a, b)| ShapeOp::Mod(a, b))?,
            Atom::Min(a, b) => pair(a, b).map(|(a, b)| ShapeOp::Min(a, b))?,
            Atom::Max(a, b) => pair(a, b).map(|(a, b)| ShapeOp::Max(a, b))?,
            Atom::Eq(a, b) => pair(a, b).map(|(a, b)| ShapeOp::Eq(a, b))?,
            Atom::Broadcast(a, b) => {
                // a == 1 ? b : a
                let (a, b) = pair(a, b)?;
                let one = self.op(ShapeOp::Const(1));
                let is_one = self.op(ShapeOp::Eq(a, one));
                let difference = self.op(ShapeOp::Sub(b, a));
                let chosen = self.op(ShapeOp::Mul(is_one, difference));
                ShapeOp::Add(a, chosen)
            }
        };
        Ok(self.op(op))
    }
}
