//! The same computation as another exporter might have written it.

use crate::numeric::Random;
use autoglm_ir::graph::Output;
use autoglm_ir::{Attr, Attrs, DType, Def, Dim, Graph, OpId, Tensor, ValueId};
use std::sync::Arc;

struct Writer {
    graph: Graph,
    random: Random,
    loc: Arc<str>,
}

impl Writer {
    fn op(&mut self, name: &str, attrs: Attrs, args: Vec<ValueId>) -> ValueId {
        self.graph.add(OpId::of(name).unwrap(), attrs, args, &self.loc).unwrap()[0]
    }

    fn reshape(&mut self, x: ValueId, shape: Vec<Dim>) -> ValueId {
        self.op("reshape", Attrs::new([("shape", Attr::Dims(shape))]), vec![x])
    }

    fn cast(&mut self, x: ValueId, to: DType) -> ValueId {
        self.op("cast", Attrs::new([("to", Attr::DType(to))]), vec![x])
    }

    fn transpose(&mut self, x: ValueId, perm: Vec<i64>) -> ValueId {
        self.op("transpose", Attrs::new([("perm", Attr::Ints(perm))]), vec![x])
    }

    /// The same value by way of a detour that changes nothing.
    fn detour(&mut self, x: ValueId) -> ValueId {
        let ty = self.graph.ty(x).clone();
        let rank = ty.rank();
        match self.random.below(6) {
            0 if ty.dtype == DType::F32 => {
                let wide = self.cast(x, DType::F64);
                self.cast(wide, DType::F32)
            }
            1 => {
                let other = ty.shape.iter().cloned().chain([Dim::from(1)]).collect();
                let there = self.reshape(x, other);
                self.reshape(there, ty.shape)
            }
            2 if rank >= 2 => {
                let there: Vec<i64> = (1..rank as i64).chain([0]).collect();
                let back: Vec<i64> = std::iter::once(rank as i64 - 1).chain(0..rank as i64 - 1).collect();
                let moved = self.transpose(x, there);
                self.transpose(moved, back)
            }
            _ => x,
        }
    }

    /// x * c as (x * 2) * (c / 2), x + c as (x + c / 2) + c / 2; powers of two round nothing.
    fn split(&mut self, name: &str, x: ValueId, c: ValueId) -> Option<ValueId> {
        let id = self.graph.constant(c)?;
        let tensor = autoglm_ir::interp::const_tensor(&self.graph, id).ok()?;
        if tensor.dtype != DType::F32 || tensor.numel() != 1 || self.random.below(3) > 0 {
            return None;
        }
        let half = self
            .graph
            .add_const("", Tensor::floats(DType::F32, tensor.shape.clone(), vec![tensor.to_f64()[0] / 2.0]));
        let first = match name {
            "mul" => self.graph.add_const("", Tensor::floats(DType::F32, tensor.shape, vec![2.0])),
            "add" => half,
            _ => return None,
        };
        let part = self.op(name, Attrs::default(), vec![x, first]);
        Some(self.op(name, Attrs::default(), vec![part, half]))
    }
}

/// Another way to write a graph.
pub(crate) fn perturb(old: &Graph, seed: u64) -> Graph {
    let graph = Graph {
        name: old.name.clone(),
        symbols: old.symbols.clone(),
        guards: old.guards.clone(),
        consts: old.consts.clone(),
        ..Graph::default()
    };
    let mut w = Writer { graph, random: Random(seed.wrapping_mul(0x5851_f42d) + 11), loc: "".into() };
    let mut map: Vec<Option<ValueId>> = vec![None; old.values.len()];
    for input in &old.inputs {
        let value = old.value(*input);
        map[input.0 as usize] = Some(w.graph.add_input(&value.name, value.ty.clone()));
    }
    for (i, value) in old.values.iter().enumerate() {
        if let Def::Const(c) = value.def {
            let constant = old.consts[c.0 as usize].clone();
            map[i] = Some(w.graph.add_lazy_const(&value.name, constant, value.content.clone()));
        }
    }
    for node in &old.nodes {
        let mut args: Vec<ValueId> = node.args.iter().map(|a| map[a.0 as usize].unwrap()).collect();
        for arg in &mut args {
            *arg = w.detour(*arg);
        }
        let name = node.op.name();
        if matches!(name, "add" | "mul" | "max" | "min") && w.random.below(2) == 0 {
            args.swap(0, 1);
        }
        let split = match args.as_slice() {
            [x, c] => w.split(name, *x, *c),
            _ => None,
        };
        let outs = match split {
            Some(out) => vec![out],
            None => w.graph.add(node.op, node.attrs.clone(), args, &node.loc).unwrap(),
        };
        for (old_out, new_out) in node.outs.iter().zip(outs) {
            map[old_out.0 as usize] = Some(new_out);
        }
    }
    for output in &old.outputs {
        let value = map[output.value.0 as usize].unwrap();
        w.graph.outputs.push(Output { name: output.name.clone(), value });
    }
    w.graph
}
