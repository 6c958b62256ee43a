//! The same computation as another exporter might have written it.

use crate::numeric::Random;
use autoglm_ir::graph::Output;
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, DType, Def, Dim, Graph, Node, OpId, Tensor, ValueId};
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

    fn number(&mut self, x: f64) -> ValueId {
        self.graph.add_const("", Tensor::scalar(DType::F32, x))
    }

    /// The one number of an f32 constant.
    fn constant(&self, v: ValueId) -> Option<f64> {
        let tensor = autoglm_ir::interp::const_tensor(&self.graph, self.graph.constant(v)?).ok()?;
        (tensor.dtype == DType::F32 && tensor.numel() == 1).then(|| tensor.to_f64()[0])
    }

    /// The same function of the same arguments in other operators; powers of two round nothing.
    fn rewritten(&mut self, name: &str, args: &[ValueId]) -> Option<ValueId> {
        let none = Attrs::default;
        let float = args.first().is_some_and(|x| self.graph.ty(*x).dtype == DType::F32);
        if !float || self.random.below(3) > 0 {
            return None;
        }
        let number = args.get(1).and_then(|c| self.constant(*c));
        match (name, args, number) {
            ("mul", [x, _], Some(c)) => {
                let (two, half) = (self.number(2.0), self.number(c / 2.0));
                let part = self.op("mul", none(), vec![*x, two]);
                Some(self.op("mul", none(), vec![part, half]))
            }
            ("add", [x, _], Some(c)) => {
                let half = self.number(c / 2.0);
                let part = self.op("add", none(), vec![*x, half]);
                Some(self.op("add", none(), vec![half, part]))
            }
            ("div", [x, _], Some(c)) => {
                let (two, half) = (self.number(2.0), self.number(c / 2.0));
                let part = self.op("div", none(), vec![*x, two]);
                Some(self.op("div", none(), vec![part, half]))
            }
            ("div", [x, y], None) => {
                let inverse = self.op("reciprocal", none(), vec![*y]);
                Some(self.op("mul", none(), vec![inverse, *x]))
            }
            ("sub", [x, y], _) => {
                let minus = self.op("neg", none(), vec![*y]);
                Some(self.op("add", none(), vec![minus, *x]))
            }
            ("neg", [x], _) => {
                let minus = self.number(-1.0);
                Some(self.op("mul", none(), vec![*x, minus]))
            }
            ("mul", [x, y], None) if x == y => {
                let two = self.number(2.0);
                Some(self.op("pow", none(), vec![*x, two]))
            }
            ("pow", [x, _], Some(2.0)) => Some(self.op("mul", none(), vec![*x, *x])),
            ("sqrt", [x], _) => {
                let half = self.number(0.5);
                Some(self.op("pow", none(), vec![*x, half]))
            }
            ("reciprocal", [x], _) => {
                let one = self.number(1.0);
                Some(self.op("div", none(), vec![one, *x]))
            }
            _ => None,
        }
    }

    /// An elementwise operator between two reshapes or two transposes.
    fn wrapped(&mut self, node: &Node, args: &[ValueId]) -> Option<ValueId> {
        let out = args.iter().map(|a| self.graph.ty(*a).clone()).max_by_key(|ty| ty.rank())?;
        let fits = |w: &Writer, a: &ValueId| w.graph.ty(*a).shape == out.shape || w.graph.ty(*a).rank() == 0;
        let elementwise = node.op.def().class == Fusion::Elementwise && args.iter().all(|a| fits(self, a));
        let (turned, way) = (out.rank() >= 2, self.random.below(4));
        if !elementwise || out.rank() == 0 || way > 1 || (way == 1 && !turned) {
            return None;
        }
        let perm: Vec<i64> = (1..out.rank() as i64).chain([0]).collect();
        let back: Vec<i64> = [out.rank() as i64 - 1].into_iter().chain(0..out.rank() as i64 - 1).collect();
        let mut moved = Vec::with_capacity(args.len());
        for arg in args {
            moved.push(match (self.graph.ty(*arg).rank(), way) {
                (0, _) => *arg,
                (_, 0) => self.reshape(*arg, vec![out.numel()]),
                _ => self.transpose(*arg, perm.clone()),
            });
        }
        let result = self.graph.add(node.op, node.attrs.clone(), moved, &node.loc).unwrap()[0];
        Some(if way == 0 { self.reshape(result, out.shape) } else { self.transpose(result, back) })
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
        let other = w.rewritten(name, &args);
        let outs = match other.or_else(|| w.wrapped(node, &args)) {
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
