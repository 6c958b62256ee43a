//! Properties of every operator and of the dims: inference against evaluation, e-graph and text round trips.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use autoglm_ir::budget::FoldLimits;
use autoglm_ir::egraph::{self, ENode};
use autoglm_ir::ops::OPS;
use autoglm_ir::{Attr, Attrs, DType, Dim, Graph, OpId, Tensor, TensorType, interp, text, verify};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A deterministic sequence of numbers (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Elements that are valid indices for every extent of at least 1.
fn tensor(ty: &TensorType, random: &mut Random) -> Tensor {
    let shape = ty.concrete().unwrap();
    let n = shape.iter().product();
    if ty.dtype.is_float() {
        Tensor::floats(ty.dtype, shape, (0..n).map(|_| random.below(200) as f64 / 50.0 - 2.0).collect())
    } else {
        Tensor::ints(ty.dtype, shape, (0..n).map(|_| -i128::from(random.below(2))).collect())
    }
}

fn at(dims: &[Dim], value: i64) -> Vec<Dim> {
    dims.iter().map(|d| d.substitute(&|_| Some(value.into())).unwrap()).collect()
}

fn concrete(attrs: &Attrs, value: i64) -> Attrs {
    let one = |(name, attr): (&'static str, &Attr)| match attr {
        Attr::Dims(dims) => (name, Attr::Dims(at(dims, value))),
        other => (name, other.clone()),
    };
    Attrs::new(attrs.iter().map(one).collect::<Vec<_>>())
}

/// Every sample: its operator, argument types and attributes.
fn samples() -> impl Iterator<Item = (OpId, &'static str, Vec<TensorType>, Attrs)> {
    let ops = OPS.iter().map(|op| (OpId::of(op.name).unwrap(), op.samples));
    ops.flat_map(|(op, samples)| {
        assert!(!samples.is_empty(), "{op:?} has no sample");
        samples.iter().map(move |s| {
            let (types, attrs) = text::parse_sample(op, s).unwrap_or_else(|e| panic!("{op:?} {s}: {e}"));
            (op, *s, types, attrs)
        })
    })
}

/// The graph of one sample with every symbol declared through an input of its own.
fn graph(op: OpId, types: &[TensorType], attrs: &Attrs) -> Graph {
    let mut used = BTreeSet::new();
    types.iter().flat_map(|t| &t.shape).for_each(|d| d.symbols(&mut used));
    attrs.iter().for_each(|(_, a)| {
        if let Attr::Dims(dims) = a {
            dims.iter().for_each(|d| d.symbols(&mut used))
        }
    });
    let mut g = Graph { name: op.name().into(), ..Graph::default() };
    let args = types.iter().enumerate().map(|(i, t)| g.add_input(&format!("x{i}"), t.clone())).collect();
    let sizes = used.iter().map(|s| Dim::sym(s)).collect();
    g.add_input("sizes", TensorType::new(DType::Bool, sizes));
    for (axis, name) in used.iter().enumerate() {
        let source = autoglm_ir::SymbolSource::InputDim { input: types.len(), axis };
        g.add_symbol(name, source, 0, i64::MAX);
    }
    let outs = g.add(op, attrs.clone(), args, &Arc::from("node")).unwrap();
    let output = |v| autoglm_ir::graph::Output { name: String::new(), value: v };
    g.outputs = outs.into_iter().map(output).collect();
    g
}

#[test]
fn evaluation_gives_the_inferred_types() {
    let mut random = Random(1);
    for (op, sample, types, attrs) in samples() {
        let g = graph(op, &types, &attrs);
        assert_eq!(verify::verify(&g), [], "{op:?} {sample}");
        for value in [1, 2, 5] {
            let at_value = |t: &TensorType| TensorType::new(t.dtype, at(&t.shape, value));
            let inputs: Vec<Tensor> =
                g.inputs.iter().map(|v| tensor(&at_value(g.ty(*v)), &mut random)).collect();
            // The interpreter checks each result against the symbolic type.
            let symbolic = interp::run(&g, &inputs);
            let direct = interp::eval(op, &concrete(&attrs, value), &inputs[..types.len()]);
            match (symbolic, direct) {
                (Ok(a), Ok(b)) => assert_eq!(a, b, "{op:?} {sample} at {value}"),
                // Some samples broadcast for no more than one extent.
                (Err(a), Err(_)) => assert_eq!(a.op, "guard", "{op:?} {sample} at {value}: {a}"),
                (a, b) => panic!("{op:?} {sample} at {value}: {a:?} but {b:?}"),
            }
        }
    }
}

#[test]
fn contents_are_what_evaluation_gives() {
    let mut random = Random(2);
    let mut checked = 0;
    for (op, sample, types, attrs) in samples() {
        let ints = types.iter().all(|t| !t.dtype.is_float());
        if op.def().content.is_none() || !ints {
            continue;
        }
        for value in [1, 2, 3] {
            let attrs = concrete(&attrs, value);
            let types: Vec<_> = types.iter().map(|t| TensorType::new(t.dtype, at(&t.shape, value))).collect();
            let inputs: Vec<Tensor> = types.iter().map(|t| tensor(t, &mut random)).collect();
            let mut g = Graph::default();
            let args = inputs.iter().map(|t| g.add_const("", t.clone())).collect();
            let Ok(outs) = g.add(op, attrs.clone(), args, &Arc::from("")) else { continue };
            if g.ty(outs[0]).dtype.is_float() {
                continue;
            }
            let want = interp::eval(op, &attrs, &inputs).unwrap();
            let Some(content) = &g.value(outs[0]).content else {
                panic!("{op:?} {sample}: nothing is known")
            };
            let got: Vec<i64> = content.iter().map(|d| d.as_const().unwrap()).collect();
            assert_eq!(got, want[0].to_i64(), "{op:?} {sample}");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} checks");
}

/// Evaluates a graph of symbols both as contents and as numbers.
#[test]
fn symbolic_contents_are_what_evaluation_gives() {
    let source = "graph @g (%s: i64[3]) where s@0 in 0..=9, s@1 in 0..=9, s@2 in -9..=9 {
        %k = const i64[3] [2, 3, 4]
        %z = const i64[3] [0, 0, 0]
        %p = add %s, %k %q = mul %p, %s %d = div %p, %k %m = mod %s, %k %n = sub %k, %s
        %lo = min %s, %k %hi = max %s, %k %lt = lt %s, %k %le = le %s, %k %gt = gt %s, %k %ge = ge %s, %k
        %eq = eq %s, %k %not = not %eq %or = or %eq, %lt %and = and %ge, %le %xor = xor %eq, %le
        %sel = select %or, %q, %n %bool = cast %s {to=bool}
        %cat = concat %s, %q {axis=0} %sum = reduce_sum %cat {axes=[0], keepdims=0}
        %prod = reduce_prod %p {axes=[0], keepdims=1} %max = reduce_max %q {axes=[0], keepdims=0}
        return %p, %q, %m, %n, %lo, %hi, %lt, %le, %gt, %ge, %eq, %not, %or, %and, %xor, %sel, %bool, %cat, %sum,
            %prod, %max
    }";
    let g = text::parse(source).unwrap();
    let mut random = Random(3);
    for _ in 0..50 {
        let s = [random.below(10) as i64, random.below(10) as i64, random.below(19) as i64 - 9];
        let outputs = interp::run(&g, &[Tensor::i64s(vec![3], &s)]).unwrap();
        for (output, tensor) in g.outputs.iter().zip(outputs) {
            let content = g.value(output.value).content.as_ref();
            let content = content.unwrap_or_else(|| panic!("{}: nothing is known", output.name));
            let value = |name: &str| name.strip_prefix("s@").map(|i| s[i.parse::<usize>().unwrap()]);
            let got: Vec<i64> = content.iter().map(|d| d.eval(&value).unwrap()).collect();
            assert_eq!(got, tensor.to_i64(), "{} at {s:?}", output.name);
        }
    }
}

#[test]
fn samples_survive_the_text_and_the_e_graph() {
    for (op, sample, types, attrs) in samples() {
        let g = graph(op, &types, &attrs);
        let printed = text::print(&g);
        let parsed = text::parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e:?}"));
        assert_eq!(text::print(&parsed), printed);
        assert_eq!(verify::verify(&parsed), []);
        let (egraph, classes) = egraph::from_graph(&g, FoldLimits::default()).unwrap();
        assert!(egraph.analysis.poison.is_empty(), "{op:?} {sample}: {:?}", egraph.analysis.poison);
        let outputs: Vec<_> = g.outputs.iter().map(|o| classes[o.value.0 as usize]).collect();
        let pick = |id| egraph[id].nodes.first().cloned();
        let back = egraph::to_graph(&egraph, &g, &outputs, &pick).unwrap();
        assert_eq!(text::print(&back), printed, "{op:?} {sample}");
    }
}

#[test]
fn unions_of_different_types_are_poison() {
    let g =
        text::parse("graph @g (%x: f32[2,N], %y: f32[N]) { %0 = neg %x %1 = neg %y return %0, %1 }").unwrap();
    let (mut egraph, classes) = egraph::from_graph(&g, FoldLimits::default()).unwrap();
    egraph.union(classes[2], classes[3]);
    egraph.rebuild();
    assert_eq!(egraph.analysis.poison.len(), 1);
}

#[test]
fn a_rewrite_runs_and_cyclic_choices_are_refused() {
    let g = text::parse(
        "graph @g (%x: f32[2,N]) { %0 = neg %x loc \"a\" %1 = neg %0 loc \"b\" return %1 as \"y\" }",
    )
    .unwrap();
    let (egraph, classes) = egraph::from_graph(&g, FoldLimits::default()).unwrap();
    let rule = egg::Rewrite::<ENode, egraph::Facts>::new(
        "neg-neg",
        "(neg {} (neg {} ?x))".parse::<egg::Pattern<_>>().unwrap(),
        "?x".parse::<egg::Pattern<_>>().unwrap(),
    );
    let egraph = egg::Runner::default().with_egraph(egraph).run(&[rule.unwrap()]).egraph;
    let root = egraph.find(classes[2]);
    let leaf = |id: egg::Id| egraph[id].nodes.iter().find(|n| matches!(n, ENode::Input(_))).cloned();
    let back = egraph::to_graph(&egraph, &g, &[root], &leaf).unwrap();
    assert_eq!((back.nodes.len(), back.outputs[0].name.as_str()), (0, "y"));
    assert!("(neg {} ?x ?y)".parse::<egg::Pattern<ENode>>().is_err());
    assert!("(softmax softmax{log=1} ?x)".parse::<egg::Pattern<ENode>>().is_ok());
}

/// An expression of dims together with its value, computed beside it.
fn expression(random: &mut Random, symbols: &BTreeMap<&str, i64>, depth: usize) -> (Dim, i64) {
    if depth == 0 {
        let names: Vec<_> = symbols.iter().collect();
        let (name, value) = names[random.below(names.len() as u64) as usize];
        let constant = random.below(7) as i64 - 2;
        return if random.below(2) == 0 { (Dim::sym(name), *value) } else { (constant.into(), constant) };
    }
    let (a, x) = expression(random, symbols, depth - 1);
    let (b, y) = expression(random, symbols, depth - 1);
    let divisor = random.below(5) as i64 + 1;
    match random.below(8) {
        0 => (&a + &b, x + y),
        1 => (&a - &b, x - y),
        2 => (&a * &b, x * y),
        3 => (a.floor_div(&divisor.into()).unwrap(), x.div_euclid(divisor)),
        4 => (a.modulo(&divisor.into()).unwrap(), x.rem_euclid(divisor)),
        5 => (a.smaller(&b), x.min(y)),
        6 => (a.larger(&b), x.max(y)),
        _ => (a.equals(&b), i64::from(x == y)),
    }
}

#[test]
fn simplified_dims_have_the_value_of_the_expression() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut extent = || random.below(6) as i64;
        let symbols = BTreeMap::from([("N", extent()), ("M", extent()), ("x@0", extent() - 3)]);
        let depth = random.below(4) as usize;
        let (dim, want) = expression(&mut random, &symbols, depth);
        assert_eq!(dim.eval(&|s| symbols.get(s).copied()), Some(want), "{dim} at {symbols:?}");
        if dim.is_sane() {
            let (lo, hi) = dim.range(&autoglm_ir::dim::Extents);
            assert!(
                lo <= want.into() && i128::from(want) <= hi,
                "{dim} is outside {lo}..={hi} at {symbols:?}"
            );
        }
    }
}

#[test]
fn dims_survive_the_text() {
    let mut random = Random(9);
    let symbols = BTreeMap::from([("N", 1), ("M", 2), ("a b", 3)]);
    let iota = OpId::of("iota").unwrap();
    for _ in 0..2_000 {
        let depth = random.below(4) as usize;
        let (dim, _) = expression(&mut random, &symbols, depth);
        let sample = format!("{{shape=[{dim}], axis=0, to=i64}}");
        match text::parse_sample(iota, &sample) {
            Ok((_, attrs)) => assert_eq!(attrs.dims("shape"), [dim]),
            Err(e) => assert!(e.contains("terms") || e.contains("overflows"), "{sample}: {e}"),
        }
    }
}

#[test]
fn damaged_texts_do_not_panic() {
    let mut random = Random(11);
    let texts: Vec<Vec<u8>> =
        samples().map(|(op, _, types, attrs)| text::print(&graph(op, &types, &attrs)).into_bytes()).collect();
    for round in 0..20_000 {
        let mut bytes = texts[round % texts.len()].clone();
        let donor = &texts[random.below(texts.len() as u64) as usize];
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => drop(bytes.splice(at..(at + 1 + random.below(4) as usize).min(bytes.len()), [])),
                1 => bytes[at] = b"0123456789-[]{}(),:=%@*;\"NMx "[random.below(29) as usize],
                2 => bytes.insert(at, b"0123456789-[]{}(),:=%@*;\"NMx "[random.below(29) as usize]),
                _ => {
                    let from = random.below(donor.len() as u64) as usize;
                    let to = (from + random.below(20) as usize).min(donor.len());
                    drop(bytes.splice(at..at, donor[from..to].iter().copied()));
                }
            }
        }
        let Ok(damaged) = String::from_utf8(bytes) else { continue };
        if let Ok(g) = text::parse(&damaged) {
            let printed = text::print(&g);
            let again = text::parse(&printed).unwrap_or_else(|e| panic!("{damaged}\n{printed}: {e:?}"));
            assert_eq!(text::print(&again), printed, "{damaged}");
            // Declared bounds and undeclared symbols are for the verifier to refuse, which must not panic either.
            verify::verify(&g);
        }
    }
}

/// What a hostile model can build node by node must not grow without bound.
#[test]
fn dims_stop_growing() {
    let sum = |i: usize| &Dim::sym(&format!("a{i}")) + &Dim::sym(&format!("b{i}"));
    let product = (0..1000).fold(Dim::from(1), |p, i| &p * &sum(i));
    let tower = (0..1000).fold(Dim::sym("a@0"), |d, _| d.larger(&d.modulo(&3.into()).unwrap()));
    let power = (0..100_000).fold(Dim::from(1), |p, _| &p * &Dim::sym("a"));
    let total = (0..100_000).fold(Dim::from(0), |s, i| &s + &Dim::sym(&format!("a{}", i % 1000)));
    for dim in [product, tower, power, total] {
        assert!(!dim.is_sane() && dim.to_string().len() < 10);
        // Nothing is known of it: not even that it is equal to itself.
        assert_eq!((&dim - &dim).as_const(), None);
        assert_eq!(dim.equals(&dim).as_const(), None);
        assert_eq!(dim.floor_div(&dim).and_then(|q| q.as_const()), None);
        assert!(!(&dim * &Dim::from(0)).is_sane());
    }
    assert!((0..8).fold(Dim::from(1), |p, i| &p * &sum(i)).is_sane());
}
