//! The optimiser as a whole: what it leaves alone it says so, equal graphs give equal results, and products merge.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use autoglm_ir::text::{parse, print};
use autoglm_ir::{Attrs, Graph, OpId};
use autoglm_passes::{Options, egraph};
use std::fmt::Write as _;

fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

#[test]
fn a_graph_of_too_many_values_is_left_and_the_report_says_so() {
    let mut g = parse("graph @g (%x: f32[2]) { return %x }").unwrap();
    let neg = OpId::of("neg").unwrap();
    for _ in 0..17_000 {
        let last = g.outputs[0].value;
        g.outputs[0].value = g.add(neg, Attrs::default(), vec![last], &"".into()).unwrap()[0];
    }
    let (after, said) = egraph::explain(&g, &Options::default()).unwrap();
    assert_eq!((after.nodes.len(), said.skipped.as_deref()), (17_000, Some("too many values")));
}

/// `x * 1 = x` makes the class of x refer to itself.
#[test]
fn cycles_in_the_e_graph_are_no_cycles_in_the_graph() {
    let source = "graph @g (%x: f32[2,N]) {
        %one = const f32[] [1]
        %0 = exp %x
        %1 = mul %0, %one
        %2 = neg %1
        %3 = neg %2
        return %3 }";
    let (after, said) = egraph::explain(&parse(source).unwrap(), &Options::default()).unwrap();
    assert_eq!((ops(&after), said.skipped), (vec!["exp"], None));
    assert!(said.cost.1 < said.cost.0);
}

#[test]
fn equal_graphs_give_equal_results() {
    let mut source = "graph @g (%x: f32[N,8]) {\n%half = const f32[] [0.5]\n".to_owned();
    for i in 0..8 {
        let from = if i == 0 { "x".to_owned() } else { format!("{}", 3 * i - 1) };
        write!(source, "%{} = sigmoid %{from}\n%{} = mul %{from}, %{}\n", 3 * i, 3 * i + 1, 3 * i).unwrap();
        writeln!(source, "%{} = add %{}, %half", 3 * i + 2, 3 * i + 1).unwrap();
    }
    source += "return %23 }";
    let graph = parse(&source).unwrap();
    let once = || egraph::explain(&graph, &Options::default()).unwrap();
    let ((a, said_a), (b, said_b)) = (once(), once());
    assert_eq!((print(&a), said_a), (print(&b), said_b));
    assert_eq!(ops(&a).iter().filter(|op| **op == "silu").count(), 8);
}

#[test]
fn products_of_one_input_become_one() {
    let linear = "graph @g (%x: f32[N,4]) {
        %v = const f32[4,2] splat 1
        %w = const f32[4,3] splat 2
        %0 = matmul %x, %v
        %1 = matmul %x, %w
        return %0, %1 }";
    let conv = |groups: usize, kernel: &str| {
        format!(
            "graph @g (%x: f32[N,4,32,32]) {{
        %v = const f32[8,{0},{kernel}] splat 1
        %w = const f32[6,{0},{kernel}] splat 2
        %b = const f32[6] splat 3
        %0 = conv %x, %v {{strides=[1,1], dilations=[1,1], pads=[0,0,0,0], groups={groups}}}
        %1 = conv %x, %w, %b {{strides=[1,1], dilations=[1,1], pads=[0,0,0,0], groups={groups}}}
        return %0, %1 }}",
            4 / groups
        )
    };
    let merged = |source: &str| {
        let graph = parse(source).unwrap();
        let (after, said) = egraph::explain(&graph, &Options::default()).unwrap();
        assert_eq!(autoglm_ir::verify::verify(&after), []);
        (said.merged, after.nodes.len())
    };
    assert_eq!(merged(linear), (1, 3));
    assert_eq!(merged(&conv(1, "1,1")), (1, 3));
    assert_eq!(merged(&conv(2, "1,1")), (0, 2));
    assert_eq!(merged(&conv(1, "3,3")), (0, 2));
    // The step of a convolution does the activation too, as long as it is behind the convolution itself.
    let activated = conv(1, "1,1").replace("return %0, %1", "%2 = tanh %0\nreturn %2, %1");
    assert_eq!(merged(&activated), (0, 3));
}

/// A model may claim any extent; a constant of that many ones must not be made element by element.
#[test]
fn extents_that_no_memory_holds_are_harmless() {
    let extent = 1i64 << 40;
    let source = format!(
        "graph @g (%x: f32[8,{extent}]) {{
        %n = const f32[] [{}]
        %e = const f32[] [1e-5]
        %0 = mul %x, %x
        %1 = reduce_sum %0 {{axes=[1], keepdims=1}}
        %2 = div %1, %n
        %3 = add %2, %e
        %4 = sqrt %3
        %5 = div %x, %4
        return %5 }}",
        extent as f32
    );
    let (after, _) = egraph::explain(&parse(&source).unwrap(), &Options::default()).unwrap();
    assert_eq!(ops(&after), ["layer_norm"]);
    let steps = "graph @g (%x: f32[2]) {
        %0 = slice %x {starts=[0], sizes=[1], steps=[4611686018427387904]}
        %1 = slice %0 {starts=[0], sizes=[1], steps=[4]}
        return %1 }";
    egraph::explain(&parse(steps).unwrap(), &Options::default()).unwrap();
    let wide = "graph @g (%x: f32[N,1]) {
        %v = const f32[1,4611686018427387904] splat 1
        %w = const f32[1,4611686018427387904] splat 2
        %0 = matmul %x, %v
        %1 = matmul %x, %w
        return %0, %1 }";
    egraph::explain(&parse(wide).unwrap(), &Options::default()).unwrap();
}

#[test]
fn near_misses_name_the_node_and_what_fails() {
    let gelu = |slope: f64| {
        format!(
            "graph @g (%x: f32[2,N]) {{
        %s = const f32[] [{slope}]
        %one = const f32[] [1]
        %half = const f32[] [0.5]
        %0 = mul %x, %s
        %1 = erf %0
        %2 = add %1, %one
        %3 = mul %x, %2
        %4 = mul %3, %half loc \"activation\"
        return %4 }}"
        )
    };
    let near = |slope| {
        let graph = parse(&gelu(slope)).unwrap();
        let (_, said) = egraph::explain(&graph, &Options::default()).unwrap();
        said.activities.rules.get("gelu").map(|a| (a.fired, a.near.clone())).unwrap_or_default()
    };
    let (fired, missed) = near(std::f64::consts::FRAC_1_SQRT_2);
    assert_eq!((fired, missed.len()), (1, 0));
    let (fired, missed) = near(0.8);
    let places: Vec<_> = missed.into_values().collect();
    assert_eq!((fired, places), (0, vec![(1, "activation".to_owned())]));
}
