//! A small model cannot ask for a large compile: what folding spends is bounded, and large constants stay recipes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use autoglm_ir::budget::FoldLimits;
use autoglm_ir::{Attrs, Const, ConstData, ConstId, Graph, OpId, ValueId, graph::Output, text};
use autoglm_passes::{CANONICALISE, Options, PIPELINE, run, run_all};

fn canonical(source: &str) -> Graph {
    run(&CANONICALISE, &text::parse(source).unwrap(), &Options::default()).unwrap()
}

fn nodes(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

fn recipes(graph: &Graph) -> impl Iterator<Item = &Const> {
    graph.consts.iter().filter(|c| matches!(c.data, ConstData::Recipe { .. }))
}

fn recipe_bytes(graph: &Graph) -> usize {
    recipes(graph).map(|c| c.ty.numel().as_usize().unwrap() * c.ty.dtype.size()).sum()
}

#[test]
fn what_takes_too_many_bytes_is_left_to_the_run() {
    let g = canonical(
        "graph @g () {
            %one = const f32[1] [1]
            %0 = expand %one {shape=[1000000000000]}
            %1 = reduce_sum %0 {axes=[0], keepdims=1}
            return %1 }",
    );
    assert_eq!(nodes(&g), ["expand", "reduce_sum"]);
    // Its extents fit, their product does not.
    let g = canonical(
        "graph @g () {
            %one = const f32[1,1] [1]
            %0 = expand %one {shape=[3000000000,3000000000]}
            %1 = concat %0, %0 {axis=0}
            return %1 }",
    );
    assert_eq!(nodes(&g), ["expand", "concat"]);
    // The argument is one element in memory, and 4 TB when it is evaluated.
    let g = canonical(
        "graph @g () {
            %many = const f32[1000000000000] splat 1
            %0 = reduce_sum %many {axes=[0], keepdims=1}
            %1 = slice %many {starts=[0], sizes=[2], steps=[1]}
            return %0, %1 }",
    );
    assert_eq!(nodes(&g), ["reduce_sum", "slice"]);
}

#[test]
fn what_takes_too_long_is_left_to_the_run() {
    let g = canonical(
        "graph @g () {
            %a = const f32[4000,4000] splat 1
            %0 = matmul %a, %a
            return %0 }",
    );
    assert_eq!(nodes(&g), ["matmul"]);
    let g = canonical(
        "graph @g () {
            %a = const f32[1,1,10,10] splat 1
            %0 = avg_pool %a {kernel=[1000000,1000], strides=[1,1], dilations=[1,1], pads=[500000,500,500000,500]}
            return %0 }",
    );
    assert_eq!(nodes(&g), ["avg_pool"]);
}

/// 121 windows of 200,000 taps each: few bytes, yet seconds for the interpreter if there are many of them.
#[test]
fn small_constants_of_much_work_stay_recipes_in_the_e_graph() {
    let g = text::parse(
        "graph @g () {
            %a = const f32[1,1,10,10] splat 1
            %0 = avg_pool %a {kernel=[1000,200], strides=[1,1], dilations=[1,1], pads=[500,100,500,100]}
            return %0 }",
    )
    .unwrap();
    let (egraph, classes) = autoglm_ir::egraph::from_graph(&g, FoldLimits::default()).unwrap();
    let id = egraph[classes[g.outputs[0].value.0 as usize]].data.constant.unwrap();
    assert!(matches!(egraph.analysis.consts[id.0 as usize].data, ConstData::Recipe { .. }));
}

/// `%k = abs %(k-1)` over a constant, `length` times; every `every`-th is an output.
fn chain(elems: usize, length: usize, every: usize) -> Graph {
    let mut g = text::parse(&format!("graph @g () {{ %a = const f32[{elems}] splat 1 return %a }}")).unwrap();
    let abs = OpId::of("abs").unwrap();
    let mut last: ValueId = g.outputs[0].value;
    g.outputs.clear();
    for i in 1..=length {
        last = g.add(abs, Attrs::default(), vec![last], &"".into()).unwrap()[0];
        if i % every == 0 {
            g.outputs.push(Output { name: i.to_string(), value: last });
        }
    }
    g
}

/// Each output's recipe is evaluated by itself, so that a chain of which every link is used costs its length squared.
#[test]
fn recipes_pay_for_what_they_are_made_from() {
    let options = Options {
        fold: FoldLimits { total_work: 3 * 5000 * 5050, ..FoldLimits::default() },
        ..Options::default()
    };
    let g = run(&CANONICALISE, &chain(5000, 1000, 1), &options).unwrap();
    // 1 + 2 + .. + 100 = 5050
    assert_eq!(recipes(&g).count(), 100);
    assert_eq!(g.nodes.len(), 900);
}

#[test]
fn all_passes_together_stay_within_the_budget() {
    let options = Options {
        fold: FoldLimits { total_bytes: 10 * 20_000, ..FoldLimits::default() },
        ..Options::default()
    };
    let mut g = chain(5000, 100, 1);
    for _ in 0..3 {
        g = run_all(PIPELINE, g, &options, &mut |_| {}).unwrap();
        assert_eq!((recipe_bytes(&g), g.nodes.len()), (10 * 20_000, 90));
    }
}

/// Walks over constants must not recurse as deep as the model says.
#[test]
fn long_chains_of_recipes_are_copied() {
    let mut g = text::parse("graph @g () { %a = const f32[5000] splat 1 return %a }").unwrap();
    let neg = OpId::of("neg").unwrap();
    let ty = g.consts[0].ty.clone();
    for i in 0..20_000 {
        let data = ConstData::Recipe { op: neg, attrs: Attrs::default(), args: vec![ConstId(i)], out: 0 };
        g.consts.push(Const { ty: ty.clone(), data });
    }
    let value = g.add_const_value("deep", ConstId(20_000), None);
    g.outputs[0].value = value;
    let out = run(&CANONICALISE, &g, &Options::default()).unwrap();
    assert_eq!(recipes(&out).count(), 20_000);
}

/// A recipe that cannot be evaluated shows that no pass evaluates it.
#[test]
fn recipes_stay_recipes() {
    let source = "graph @g (%x: f32[1,1,4,4]) {
        %t = const f32[5000] splat 1
        %i = const i64[5000] splat 7000
        %0 = gather %t, %i {axis=0}
        %1 = neg %0
        %w = const f32[1,1,1,1] [2]
        %2 = conv %x, %w {strides=[1,1], dilations=[1,1], pads=[0,0,0,0], groups=1}
        return %1, %2 }";
    let g = run_all(PIPELINE, text::parse(source).unwrap(), &Options::default(), &mut |_| {}).unwrap();
    assert_eq!(recipes(&g).count(), 2);
    assert!(autoglm_ir::interp::const_tensor(&g, g.constant(g.outputs[0].value).unwrap()).is_err());
}
