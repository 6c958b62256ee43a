//! Random graphs of movement and elementwise operators: views of views, parts of parts, several uses of everything.

use crate::harness::{Random, compare, compile, inputs};
use autoglm_compiler::lower::Options;
use autoglm_ir::graph::{Output, SymbolSource};
use autoglm_ir::{Attr, Attrs, DType, Dim, Graph, OpId, TensorType, ValueId, verify};

struct Builder {
    graph: Graph,
    random: Random,
    /// Values that may be used, with the shape they have for the chosen symbols.
    values: Vec<ValueId>,
}

impl Builder {
    fn emit(&mut self, op: &str, attrs: Vec<(&'static str, Attr)>, args: Vec<ValueId>) -> bool {
        let made = self.graph.add(OpId::of(op).unwrap(), Attrs::new(attrs), args, &"".into());
        let Ok(outs) = made else { return false };
        let small = self.graph.ty(outs[0]).numel().eval(&|_| Some(4)).is_some_and(|n| n <= 4096);
        if small && self.graph.ty(outs[0]).rank() <= 6 {
            self.values.extend(outs);
        }
        true
    }

    fn pick(&mut self) -> ValueId {
        // Recent values make deep graphs.
        let n = self.values.len();
        let back = self.random.below(n.min(6));
        self.values[n - 1 - back]
    }

    fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.graph.ty(v).shape.clone()
    }

    fn step(&mut self) {
        let x = self.pick();
        let shape = self.shape(x);
        match self.random.below(12) {
            0 | 1 => self.unary(x),
            2 | 3 => self.binary(x, &shape),
            4 | 5 => self.transpose(x, &shape),
            6 | 7 => self.reshape(x, &shape),
            8 => self.slice(x, &shape),
            9 => self.concat(x, &shape),
            10 => self.expand(x, &shape),
            _ => self.fold(x, &shape),
        }
    }

    fn unary(&mut self, x: ValueId) {
        let ops = ["neg", "tanh", "abs", "silu"];
        let op = ops[self.random.below(ops.len())];
        self.emit(op, vec![], vec![x]);
    }

    fn binary(&mut self, x: ValueId, shape: &[Dim]) {
        let same: Vec<ValueId> = self.values.iter().copied().filter(|v| self.shape(*v) == shape).collect();
        let y = same[self.random.below(same.len())];
        let op = ["add", "max"][self.random.below(2)];
        self.emit(op, vec![], vec![x, y]);
    }

    fn transpose(&mut self, x: ValueId, shape: &[Dim]) {
        let mut perm: Vec<i64> = (0..shape.len() as i64).collect();
        for i in (1..perm.len()).rev() {
            perm.swap(i, self.random.below(i + 1));
        }
        self.emit("transpose", vec![("perm", Attr::Ints(perm))], vec![x]);
    }

    /// Merges two neighbours, splits an axis, or adds one of extent 1.
    fn reshape(&mut self, x: ValueId, shape: &[Dim]) {
        let mut to = shape.to_vec();
        let at = self.random.below(shape.len().max(1));
        match self.random.below(3) {
            0 if shape.len() >= 2 && at + 1 < shape.len() => {
                to[at] = &to[at] * &to[at + 1];
                to.remove(at + 1);
            }
            1 if !shape.is_empty() => {
                let Some(part) = to[at].exact_div(&2.into()) else { return };
                to[at] = part;
                to.insert(at + self.random.below(2), 2.into());
            }
            _ => to.insert(at, 1.into()),
        }
        self.emit("reshape", vec![("shape", Attr::Dims(to))], vec![x]);
    }

    fn slice(&mut self, x: ValueId, shape: &[Dim]) {
        let (mut starts, mut sizes, mut steps) =
            (vec![Dim::from(0); shape.len()], shape.to_vec(), vec![1; shape.len()]);
        let Some(at) = (!shape.is_empty()).then(|| self.random.below(shape.len())) else { return };
        match (self.random.below(3), shape[at].as_const()) {
            (0, _) => {
                starts[at] = &shape[at] - &1.into();
                steps[at] = -1;
            }
            (1, Some(n)) if n >= 3 => {
                starts[at] = 1.into();
                sizes[at] = (n / 2).into();
                steps[at] = 2;
                if 1 + (n / 2 - 1) * 2 >= n {
                    return;
                }
            }
            _ => {
                starts[at] = &shape[at] - &1.into();
                sizes[at] = 1.into();
            }
        }
        let attrs =
            vec![("starts", Attr::Dims(starts)), ("sizes", Attr::Dims(sizes)), ("steps", Attr::Ints(steps))];
        self.emit("slice", attrs, vec![x]);
    }

    fn concat(&mut self, x: ValueId, shape: &[Dim]) {
        let Some(axis) = (!shape.is_empty()).then(|| self.random.below(shape.len())) else { return };
        let fits = |v: &ValueId| {
            let other = self.shape(*v);
            other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other[i] == shape[i])
        };
        let others: Vec<ValueId> = self.values.iter().copied().filter(fits).collect();
        let mut args = vec![x];
        for _ in 0..1 + self.random.below(2) {
            args.push(others[self.random.below(others.len())]);
        }
        self.emit("concat", vec![("axis", Attr::Int(axis as i64))], args);
    }

    fn expand(&mut self, x: ValueId, shape: &[Dim]) {
        let mut to: Vec<Dim> = shape.iter().map(|d| if d.is(1) { 2.into() } else { d.clone() }).collect();
        if self.random.below(2) == 0 {
            to.insert(0, Dim::sym("N"));
        }
        self.emit("expand", vec![("shape", Attr::Dims(to))], vec![x]);
    }

    fn fold(&mut self, x: ValueId, shape: &[Dim]) {
        let Some(axis) = (!shape.is_empty()).then(|| self.random.below(shape.len())) else { return };
        let keep = self.random.below(2) as i64;
        let attrs = vec![("axes", Attr::Ints(vec![axis as i64])), ("keepdims", Attr::Int(keep))];
        self.emit("reduce_max", attrs, vec![x]);
    }
}

fn graph(seed: u64) -> Graph {
    let mut graph = Graph { name: format!("random{seed}"), ..Graph::default() };
    graph.add_symbol("N", SymbolSource::InputDim { input: 0, axis: 0 }, 0, i64::MAX);
    let ty = |shape: &[Dim]| TensorType::new(DType::F32, shape.to_vec());
    let a = graph.add_input("a", ty(&[Dim::sym("N"), 4.into(), 6.into()]));
    let b = graph.add_input("b", ty(&[4.into(), Dim::sym("N"), 1.into()]));
    let mut builder = Builder { graph, random: Random(seed * 0x9e37_79b9 + 1), values: vec![a, b] };
    for _ in 0..18 {
        builder.step();
    }
    let last = builder.values.len();
    for i in 0..2.min(last) {
        let value = builder.values[last - 1 - i * (1 + builder.random.below(3)).min(last - 1)];
        builder.graph.outputs.push(Output { name: format!("out{i}"), value });
    }
    builder.graph
}

#[test]
fn random_graphs_give_what_the_interpreter_gives() {
    for seed in 1..=300 {
        let graph = graph(seed);
        let violations = verify::verify(&graph);
        assert!(violations.is_empty(), "{violations:?}");
        let mut random = Random(seed);
        for options in [Options::FAST, Options::PLAIN] {
            let (_, engine) = compile(&graph, options);
            for n in [1, 4, 5] {
                let inputs = inputs(&graph, &[("N", n)].into(), &mut random);
                compare(&graph, &engine, &inputs);
            }
        }
    }
}
