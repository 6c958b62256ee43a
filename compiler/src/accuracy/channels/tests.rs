//! Small networks whose channels have an order that is bad for pruning, or good.

use super::super::matrix::tensor;
use super::super::tests::noise;
use super::super::{Gates, LayerReport, Sample, optimise};
use super::*;
use autoglm_ir::text::{parse, print};
use autoglm_ir::{Const, ConstData};
use autoglm_passes::egraph::Objective;

/// The canonical graph of a source with these constants.
fn filled(source: &str, data: &[Vec<f32>]) -> Graph {
    let mut graph = parse(source).unwrap_or_else(|e| panic!("{e:?}"));
    for (constant, data) in graph.consts.iter_mut().zip(data) {
        let bytes = tensor(vec![data.len()], data.iter().copied()).data;
        *constant = Const { ty: constant.ty.clone(), data: ConstData::Bytes(bytes) };
    }
    passes::run(&passes::CANONICALISE, &graph, &passes::Options::default()).unwrap()
}

/// Two products with 64 channels between them, which an activation leaves apart; channel i of them is `strength(i)` strong.
fn mlp(seed: u64, strength: impl Fn(usize) -> f32) -> Graph {
    let source = "graph @g (%x: f32[N,48]) {
      %w = const f32[48,64] splat 0.5
      %b = const f32[64] splat 0.25
      %v = const f32[64,40] splat 0.75
      %0 = matmul %x, %w loc \"first\"
      %1 = add %0, %b
      %2 = gelu %1
      %3 = matmul %2, %v loc \"second\"
      return %3
    }";
    let scaled = |data: Vec<f32>| data.iter().enumerate().map(|(at, x)| x * strength(at % 64)).collect();
    filled(source, &[scaled(noise(seed, 48 * 64)), scaled(noise(seed + 1, 64)), noise(seed + 2, 64 * 40)])
}

/// A convolution, a scale, a pool, a convolution of each channel for itself, and one that reads all of them.
fn images() -> Graph {
    let same = "strides=[1,1], dilations=[1,1], pads=[1,1,1,1]";
    let source = format!(
        "graph @g (%x: f32[N,3,8,8]) {{
          %w = const f32[32,3,3,3] splat 0.5
          %s = const f32[32,1,1] splat 0.25
          %d = const f32[32,1,3,3] splat 0.75
          %v = const f32[16,32,3,3] splat 0.125
          %0 = conv %x, %w {{{same}, groups=1}} loc \"first\"
          %1 = mul %0, %s
          %2 = tanh %1
          %3 = max_pool %2 {{kernel=[2,2], strides=[2,2], dilations=[1,1], pads=[0,0,0,0]}}
          %4 = conv %3, %d {{{same}, groups=32}}
          %5 = conv %4, %v {{{same}, groups=1}} loc \"second\"
          return %5
        }}"
    );
    let scale = |at: usize| if at < 16 { 0.1 } else { 2.0 };
    let data = [864, 32, 288, 4608].into_iter().enumerate().map(|(i, count)| noise(40 + i as u64, count));
    let mut data: Vec<Vec<f32>> = data.collect();
    data[1] = (0..32).map(scale).collect();
    filled(&source, &data)
}

fn wanted(shape: &[usize]) -> Accuracy {
    let count = shape.iter().product();
    let sample =
        |i: u64| Sample::from([("x".to_owned(), tensor(shape.to_vec(), noise(500 + i, count).into_iter()))]);
    Accuracy {
        gates: Gates::parse("out.cosine>=0.5").unwrap(),
        samples: (0..8u64).map(sample).collect(),
        held_out: Vec::new(),
        low_rank: false,
        sparse: true,
        keep: Vec::new(),
        objective: Objective::Bytes,
    }
}

fn in_order(graph: &Graph, accuracy: &Accuracy) -> Permuted {
    ordered(graph, &passes::Options::default(), accuracy).unwrap()
}

/// What becomes of the layer that reads the channels.
fn second(graph: &Graph, ordered: &Permuted, accuracy: &Accuracy) -> LayerReport {
    let (_, _, report) = optimise(graph, ordered, &passes::Options::default(), accuracy).unwrap();
    report.layers.into_iter().find(|layer| layer.name == "second").unwrap()
}

/// Largest difference of the outputs of two graphs on the first sample by the reference interpreter, in units of the largest output.
fn difference(a: &Graph, b: &Graph, accuracy: &Accuracy) -> f64 {
    let run = |graph: &Graph| interp::run(graph, &[accuracy.samples[0]["x"].clone()]).unwrap()[0].to_f64();
    let (a, b) = (run(a), run(b));
    let largest = a.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    a.iter().zip(&b).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs())) / largest
}

#[test]
fn strong_channels_in_a_row_are_parted_and_less_is_lost() {
    for (graph, shape) in [
        (mlp(1, |i| if i < 32 { 4.0 } else { 0.1 }), vec![96, 48]),
        (mlp(5, |i| 0.1 + (i / 8) as f32), vec![96, 48]),
        (images(), vec![4, 3, 8, 8]),
    ] {
        let accuracy = wanted(&shape);
        let found = in_order(&graph, &accuracy);
        assert_eq!(autoglm_ir::verify::verify(&found.graph), []);
        assert_eq!(found.weights.len(), 1);
        assert!(difference(&graph, &found.graph, &accuracy) < 1e-6);
        let as_is = Permuted { graph: graph.clone(), weights: BTreeSet::new() };
        let [before, after] = [&as_is, &found].map(|ordered| second(&graph, ordered, &accuracy));
        assert!(!before.permuted && after.permuted);
        assert_eq!(before.offers.len(), 2);
        for (before, after) in before.offers.iter().zip(&after.offers) {
            let share = after.error.mse / before.error.mse;
            assert!(share < 0.8, "{}: {} to {}", before.name, before.error.mse, after.error.mse);
        }
    }
}

#[test]
fn no_alternative_is_ever_worse_for_it() {
    let mut kept = 0;
    for seed in 0..12 {
        let strengths = noise(900 + seed, 64);
        let graph = mlp(10 * seed, |i| 1.0 + strengths[i] * (seed % 4) as f32 / 3.0);
        let accuracy = wanted(&[24, 48]);
        let found = in_order(&graph, &accuracy);
        kept += found.weights.len();
        let as_is = Permuted { graph: graph.clone(), weights: BTreeSet::new() };
        let [before, after] = [&as_is, &found].map(|ordered| second(&graph, ordered, &accuracy));
        for (before, after) in before.offers.iter().zip(&after.offers) {
            // Rows are drawn from graphs that sum in different orders.
            let (before, after) = (before.error.mse, after.error.mse);
            assert!(after <= before * (1.0 + 1e-4), "{seed}: {before} to {after}");
        }
    }
    assert!(kept > 6, "{kept}");
}

#[test]
fn an_order_that_is_as_good_as_any_stays() {
    // The second weight has its zeros already: two of four in the order in which they are.
    let mut graph = mlp(3, |_| 1.0);
    let zeros: Vec<f32> =
        noise(8, 64 * 40).iter().enumerate().map(|(at, x)| if at / 40 % 4 < 2 { *x } else { 0.0 }).collect();
    let second = graph.consts.iter_mut().find(|c| c.ty.concrete() == Some(vec![64, 40])).unwrap();
    second.data = ConstData::Bytes(tensor(vec![64, 40], zeros.into_iter()).data);
    let found = in_order(&graph, &Accuracy { keep: vec!["first".into()], ..wanted(&[96, 48]) });
    assert!(found.weights.is_empty());
    assert_eq!(print(&found.graph), print(&graph));
}

#[test]
fn nothing_is_moved_where_nothing_is_pruned() {
    let graph = mlp(1, |i| if i < 32 { 4.0 } else { 0.1 });
    let accuracy = wanted(&[96, 48]);
    let same = |accuracy: &Accuracy| {
        let found = in_order(&graph, accuracy);
        let bits = |graph: &Graph| (print(graph), format!("{:?}", graph.consts));
        found.weights.is_empty() && bits(&found.graph) == bits(&graph)
    };
    assert!(!same(&accuracy));
    assert!(same(&Accuracy { sparse: false, low_rank: true, ..accuracy.clone() }));
    assert!(same(&Accuracy { keep: vec!["sec*".into()], ..accuracy.clone() }));
    // If no graph keeps the gates the engine is the exact one of the model.
    let exact = |accuracy: &Accuracy| {
        let options = passes::Options::default();
        let found = in_order(&graph, accuracy);
        let (graph, _, report) = optimise(&graph, &found, &options, accuracy).unwrap();
        (format!("{} {:?}", print(&graph), graph.consts), report)
    };
    let tight = Gates::parse("out.cosine>=0.99999999").unwrap();
    let (text, report) = exact(&Accuracy { gates: tight, ..accuracy.clone() });
    assert!(report.layers.iter().all(|layer| !layer.permuted));
    assert_eq!(text, exact(&Accuracy { gates: tight, sparse: false, ..accuracy }).0);
}

#[test]
fn the_same_request_gives_the_same_order() {
    let (graph, accuracy) = (images(), wanted(&[4, 3, 8, 8]));
    let once = || format!("{:?}", in_order(&graph, &accuracy).graph.consts);
    assert_eq!(once(), once());
}
