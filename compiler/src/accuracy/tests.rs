//! Compression of small networks with known structure.

use super::*;
use autoglm_ir::text::parse;
use autoglm_ir::{Const, ConstData, DType};

const K: usize = 160;

/// Numbers from -1 to 1.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// A product of two thin matrices, and noise.
fn nearly(rank: usize, off: f32) -> Vec<f32> {
    let (a, b) = (noise(1, K * rank), noise(2, rank * K));
    let product = |at: usize| (0..rank).map(|r| a[at / K * rank + r] * b[r * K + at % K]).sum::<f32>();
    noise(3, K * K).into_iter().enumerate().map(|(at, x)| product(at) + off * x).collect()
}

/// Two products, the first with a weight of about rank 16, the second with one of full rank.
fn network() -> Graph {
    network_of([nearly(16, 0.02), noise(4, K * K)])
}

fn network_of(weights: [Vec<f32>; 2]) -> Graph {
    let source = format!(
        "graph @g (%x: f32[N,{K}]) {{
          %w = const f32[{K},{K}] splat 0.5
          %v = const f32[{K},{K}] splat 0.25
          %0 = matmul %x, %w loc \"first\"
          %1 = tanh %0
          %2 = matmul %1, %v loc \"second\"
          return %2
        }}"
    );
    let mut graph = parse(&source).unwrap_or_else(|e| panic!("{e:?}"));
    for (constant, data) in graph.consts.iter_mut().zip(weights) {
        *constant = Const {
            ty: constant.ty.clone(),
            data: ConstData::Bytes(matrix::tensor(vec![K, K], data.into_iter()).data),
        };
    }
    graph
}

fn samples(seed: u64, count: usize) -> Vec<Sample> {
    let sample = |i: u64| {
        Sample::from([("x".to_owned(), matrix::tensor(vec![96, K], noise(seed + i, 96 * K).into_iter()))])
    };
    (0..count as u64).map(sample).collect()
}

fn wanted(gates: &str) -> Accuracy {
    Accuracy {
        gates: Gates::parse(gates).unwrap(),
        samples: samples(100, 8),
        held_out: Vec::new(),
        low_rank: true,
        sparse: true,
        keep: Vec::new(),
        objective: Objective::Latency,
    }
}

/// Compresses a canonical graph.
fn optimise(
    graph: &Graph,
    options: &passes::Options,
    accuracy: &Accuracy,
) -> Result<(Graph, passes::egraph::Explanation, AccuracyReport), String> {
    super::optimise(graph, &ordered(graph, options, accuracy)?, options, accuracy)
}

fn compress(accuracy: &Accuracy) -> (Graph, AccuracyReport) {
    let graph = passes::run(&passes::CANONICALISE, &network(), &passes::Options::default()).unwrap();
    let (graph, _, report) = optimise(&graph, &passes::Options::default(), accuracy).unwrap();
    (graph, report)
}

/// Cosine and relative error of the outputs of two graphs by the reference interpreter, over data that was not seen.
fn held_out(graph: &Graph) -> (f64, f64) {
    let (mut product, mut own, mut other, mut off) = (0.0, 0.0, 0.0, 0.0);
    for sample in samples(900, 4) {
        let run = |graph: &Graph| interp::run(graph, &[sample["x"].clone()]).unwrap()[0].to_f64();
        for (x, y) in run(&network()).into_iter().zip(run(graph)) {
            product += x * y;
            own += x * x;
            other += y * y;
            off += (x - y) * (x - y);
        }
    }
    (product / (own * other).sqrt(), off / own)
}

fn chosen<'r>(report: &'r AccuracyReport, layer: &str) -> Option<&'r Offer> {
    let layer = report.layers.iter().find(|l| l.name == layer).unwrap();
    layer.offers.iter().find(|o| o.refused.is_none())
}

#[test]
fn a_layer_of_low_rank_is_factored_and_gates_hold_on_other_data() {
    let (graph, report) = compress(&wanted("layer.cosine>=0.95,layer.mse<=0.01,out.cosine>=0.99"));
    let offer = chosen(&report, "first").unwrap_or_else(|| panic!("{report:#?}"));
    assert!(offer.name.starts_with("rank") && offer.bytes * 2 <= K * K * 4, "{offer:?}");
    assert!(report.latency.1 < report.latency.0 && report.bytes.1 < report.bytes.0);
    let (cosine, error) = held_out(&graph);
    assert!(cosine >= 0.99, "{cosine}");
    let measured = report.measured.out_mse;
    assert!(error < 2.0 * measured && measured < 2.0 * error, "{error} against {measured}");
}

/// Results of both products of a graph of [`network`]'s kind, on samples that were not seen: least cosine and largest squared
/// error in units of the variance, in f64 from the weights.
fn layer_errors(first: &[f64], samples: &[Sample]) -> (f64, f64) {
    let product = |x: &[f64], w: &[f64]| -> Vec<f64> {
        let element = |at: usize| (0..K).map(|i| x[at / K * K + i] * w[i * K + at % K]).sum::<f64>();
        (0..x.len()).map(element).collect()
    };
    let wide = |w: &[f32]| w.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let (exact, second) = (wide(&nearly(16, 0.02)), wide(&noise(4, K * K)));
    let (mut all, mut others) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for sample in samples {
        let x = sample["x"].to_f64();
        for (weight, found) in [(exact.as_slice(), &mut all), (first, &mut others)] {
            let y = product(&x, weight);
            let z = product(&y.iter().map(|y| y.tanh()).collect::<Vec<_>>(), &second);
            found[0].extend(y);
            found[1].extend(z);
        }
    }
    let (mut cosine, mut mse) = (1.0f64, 0.0f64);
    for (x, y) in all.iter().zip(&others) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (count, mean) = (x.len() as f64, x.iter().sum::<f64>() / x.len() as f64);
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let off: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>() / count;
        cosine = cosine.min(dot(x, y) / (dot(x, x) * dot(y, y)).sqrt());
        mse = mse.max(off / variance);
    }
    (cosine, mse)
}

#[test]
fn held_out_data_are_measured_and_decide_nothing() {
    let gates = "layer.cosine>=0.95,layer.mse<=0.01,out.cosine>=0.99";
    // Results are computed from the weights here, which are in the model's order where none is pruned.
    let wanted = |gates| Accuracy { sparse: false, ..wanted(gates) };
    let (plain, alone) = compress(&wanted(gates));
    assert!(alone.held_out.is_none() && alone.layers.iter().all(|l| l.held_out.is_none()));
    let unseen = Accuracy { held_out: samples(900, 4), ..wanted(gates) };
    let (graph, report) = compress(&unseen);
    assert_eq!(autoglm_ir::text::print(&graph), autoglm_ir::text::print(&plain));
    let it = report.held_out.as_ref().unwrap();
    assert_eq!((it.samples, it.failures.len()), (4, 0), "{it:?}");
    let name = &chosen(&report, "first").unwrap().name;
    let rank: usize = name.strip_prefix("rank ").unwrap().parse().unwrap();
    assert!(chosen(&report, "second").is_none());
    let weights: Vec<Tensor> = (0..graph.consts.len())
        .map(|i| interp::const_tensor(&graph, autoglm_ir::ConstId(i as u32)).unwrap())
        .collect();
    let factor = |shape: [usize; 2]| weights.iter().find(|w| w.shape == shape).unwrap().to_f64();
    let (down, up) = (factor([K, rank]), factor([rank, K]));
    let element = |at: usize| (0..rank).map(|r| down[at / K * rank + r] * up[r * K + at % K]).sum::<f64>();
    let first: Vec<f64> = (0..K * K).map(element).collect();
    let (cosine, mse) = layer_errors(&first, &unseen.held_out);
    let m = it.measured;
    assert!((m.layer_cosine - cosine).abs() < 1e-4, "{} against {cosine}", m.layer_cosine);
    assert!((m.layer_mse / mse - 1.0).abs() < 0.02, "{} against {mse}", m.layer_mse);
    let facts = report.facts();
    let fact = |name: &str| facts.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(fact("accuracy.held_out.samples"), Some("4"));
    assert_eq!(fact("accuracy.held_out.layer.mse"), Some(format!("{:.6}", m.layer_mse).as_str()));
}

/// Each sample has eight directions of its own. A factor that is made for six samples serves these 48 directions, and no others.
#[test]
fn alternatives_are_not_judged_by_the_samples_that_they_are_made_for() {
    let mut accuracy = wanted("layer.mse<=0.2");
    let own = |i: u64| {
        let (shares, directions) = (noise(700 + i, 96 * 8), noise(800 + i, 8 * K));
        let element =
            |at: usize| (0..8).map(|d| shares[at / K * 8 + d] * directions[d * K + at % K]).sum::<f32>();
        Sample::from([("x".to_owned(), matrix::tensor(vec![96, K], (0..96 * K).map(element)))])
    };
    accuracy.samples = (0..8).map(own).collect();
    accuracy.sparse = false;
    let graph = network_of([noise(5, K * K), noise(4, K * K)]);
    let graph = passes::run(&passes::CANONICALISE, &graph, &passes::Options::default()).unwrap();
    let judge = |accuracy: &Accuracy| optimise(&graph, &passes::Options::default(), accuracy).unwrap().2;
    let report = judge(&accuracy);
    assert!(chosen(&report, "first").is_none(), "{report:#?}");
    assert!(report.layers[0].offers.iter().all(|o| o.error.mse > 0.2), "{report:#?}");
    // With the directions of all samples in each of them it would be made for all.
    let all: Vec<f64> = accuracy.samples[..6].iter().flat_map(|s| s["x"].to_f64()).collect();
    let mixed = |i: usize| {
        let rows = (0..96).flat_map(|r| all[(i + r * 6) * K..][..K].to_vec());
        Sample::from([("x".to_owned(), matrix::tensor(vec![96, K], rows.map(|x| x as f32)))])
    };
    accuracy.samples = (0..6).map(mixed).collect();
    assert!(judge(&accuracy).layers[0].offers[0].error.mse < 0.02);
}

#[test]
fn gates_may_fail_on_held_out_data() {
    // Calibration data have a mean, which the factors' bias keeps; held-out data have none, and are small beside that bias.
    let mut accuracy = wanted("layer.mse<=0.01");
    let moved = |seed: u64, scale: f32, mean: f32| {
        let data = noise(seed, 96 * K).into_iter().map(move |x| scale * x + mean);
        Sample::from([("x".to_owned(), matrix::tensor(vec![96, K], data))])
    };
    accuracy.samples = (0..8).map(|i| moved(100 + i, 1.0, 1.0)).collect();
    accuracy.held_out = vec![moved(900, 1e-3, 0.0)];
    let (_, report) = compress(&accuracy);
    assert!(chosen(&report, "first").is_some() && report.measured.layer_mse <= 0.01, "{report:#?}");
    let it = report.held_out.unwrap();
    assert!(it.measured.layer_mse > 0.01 && it.failures[0].starts_with("layer.mse is"), "{it:?}");
    // A run that does not fit is refused as such.
    accuracy.held_out = vec![Sample::new()];
    let graph = passes::run(&passes::CANONICALISE, &network(), &passes::Options::default()).unwrap();
    let refused = optimise(&graph, &passes::Options::default(), &accuracy).err().unwrap();
    assert!(refused.contains("held-out data: the sample has no `x`"), "{refused}");
}

#[test]
fn gates_that_nothing_keeps_leave_the_graph_exact() {
    let (graph, report) = compress(&wanted("layer.mse<=0.000000001"));
    assert!(report.rounds.is_empty() && report.measured == Measured::EQUAL);
    let (exact, _) = passes::egraph::explain(
        &passes::run(&passes::CANONICALISE, &network(), &passes::Options::default()).unwrap(),
        &passes::Options::default(),
    )
    .unwrap();
    let print = |graph: &Graph| {
        let graph = passes::run(&passes::CLEAN_UP, graph, &passes::Options::default()).unwrap();
        autoglm_ir::text::print(&graph)
    };
    assert_eq!(print(&graph), print(&exact));
}

#[test]
fn layers_may_be_kept_and_kinds_left_out() {
    let mut accuracy = wanted("out.cosine>=0.5");
    accuracy.keep = vec!["fir*".into()];
    let (_, report) = compress(&accuracy);
    assert!(report.layers[0].none.as_deref().unwrap().contains("fir*"), "{report:#?}");
    accuracy.keep.clear();
    accuracy.low_rank = false;
    let (_, report) = compress(&accuracy);
    assert!(report.layers.iter().flat_map(|l| &l.offers).all(|o| o.kind == Kind::Sparse));
}

#[test]
fn both_kinds_together_are_never_worse_than_one_alone() {
    for objective in [Objective::Bytes, Objective::Latency] {
        for gates in ["out.cosine>=0.995", "out.cosine>=0.95", "out.cosine>=0.8", "out.cosine>=0.6"] {
            let report = |low_rank: bool, sparse: bool| {
                compress(&Accuracy { objective, low_rank, sparse, ..wanted(gates) }).1
            };
            let (both, alone) = (report(true, true), [report(true, false), report(false, true)]);
            for alone in &alone {
                let (of_both, of_one) = match objective {
                    Objective::Bytes => (both.bytes.1, alone.bytes.1),
                    Objective::Latency => (both.latency.1, alone.latency.1),
                };
                assert!(
                    of_both <= of_one * (1.0 + 1e-9),
                    "{objective:?} {gates}: {of_both} against {of_one}"
                );
                // What an alternative costs does not depend on what there is beside it.
                for (layer, same) in alone.layers.iter().zip(&both.layers) {
                    for offer in layer.offers.iter().filter(|offer| offer.id.is_some()) {
                        let twin = same.offers.iter().find(|o| o.name == offer.name).unwrap();
                        let [one, other] = [twin, offer].map(|offer| offer.estimate.unwrap());
                        let at = format!("{} of {}", offer.name, layer.name);
                        assert_eq!((one.latency, one.bytes), (other.latency, other.bytes), "{at}");
                        // Sums are in the order of the channels, which there is no other for without pruning.
                        assert!((one.error / other.error - 1.0).abs() < 1e-6, "{at}: {one:?} {other:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn sparse_weights_have_their_pattern_and_loose_gates_take_them() {
    let mut accuracy = wanted("out.cosine>=0.6");
    accuracy.low_rank = false;
    let (graph, report) = compress(&accuracy);
    let offer = chosen(&report, "second").unwrap_or_else(|| panic!("{report:#?}"));
    assert!(offer.name.contains("2:4"), "{offer:?}");
    assert!(held_out(&graph).0 >= 0.6);
    // The first layer, of low rank, cannot do without half of its elements.
    assert!(report.bytes.1 < 0.8 * report.bytes.0, "{:?}", report.bytes);
}

#[test]
fn the_same_request_gives_the_same_graph() {
    let accuracy = wanted("out.cosine>=0.9");
    let bits = |graph: &Graph| {
        let consts = graph.consts.iter().map(|c| format!("{:?}", c.data)).collect::<Vec<_>>();
        (autoglm_ir::text::print(graph), consts)
    };
    assert_eq!(bits(&compress(&accuracy).0), bits(&compress(&accuracy).0));
}

#[test]
fn samples_must_fit_the_model() {
    let graph = passes::run(&passes::CANONICALISE, &network(), &passes::Options::default()).unwrap();
    let mut accuracy = wanted("out.cosine>=0.9");
    let refuse = |accuracy: &Accuracy| optimise(&graph, &passes::Options::default(), accuracy).err().unwrap();
    accuracy.samples[0] = Sample::new();
    assert!(refuse(&accuracy).contains("the first sample has no `x`"));
    accuracy.samples[0].insert("x".into(), Tensor::floats(DType::F32, vec![2, 3], vec![0.0; 6]));
    assert!(refuse(&accuracy).contains("the first sample: "), "{}", refuse(&accuracy));
    accuracy.samples.clear();
    assert!(refuse(&accuracy).contains("no calibration samples"));
}

#[test]
fn patterns_match_whole_names() {
    for (pattern, name, does) in [
        ("/fc/MatMul", "/fc/MatMul", true),
        ("/fc/MatMul", "/fc/MatMul_1", false),
        ("*", "", true),
        ("/layer.*/fc*", "/layer.10/fc/MatMul", true),
        ("/layer.*/fc*", "/layer.10/qkv/MatMul", false),
        ("*MatMul", "/MatMul/MatMul", true),
        ("a*a", "a", false),
    ] {
        assert_eq!(matches(pattern, name), does, "{pattern} {name}");
    }
}
