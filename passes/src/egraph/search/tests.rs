//! Alternatives in the e-graphs of networks, against exhaustive and random search.

use super::super::extract::tests::Random;
use super::*;
use autoglm_ir::text::parse;

/// A chain of `layers` linear products of `width` columns with activations and residuals between them.
fn network(layers: usize, width: usize) -> Graph {
    let mut text = format!("graph @g (%x: f32[8,{width}]) {{\n");
    for i in 0..layers {
        text += &format!(" %w{i} = const f32[{width},{width}] splat 0.{}\n", i + 1);
    }
    let mut x = "%x".to_owned();
    for (i, at) in (0..layers).map(|i| (i, 3 * i)) {
        text += &format!(" %{at} = matmul {x}, %w{i} loc \"p{i}\"\n %{} = tanh %{at}\n", at + 1);
        text += &format!(" %{} = add %{}, {x}\n", at + 2, at + 1);
        x = format!("%{}", at + 2);
    }
    parse(&format!("{text} return {x}\n}}")).unwrap_or_else(|e| panic!("{e:?}"))
}

fn zeros(shape: &[usize], seed: f64) -> Tensor {
    let count = shape.iter().product();
    Tensor::floats(DType::F32, shape.to_vec(), vec![seed; count])
}

/// Offers ranks for every layer with random errors.
fn search<'g>(graph: &'g Graph, width: usize, ranks: &[usize], r: &mut Random) -> Search<'g> {
    let started = Search::start(graph, &Options::default(), &BTreeMap::new()).unwrap();
    let Started::Search(search) = started else { panic!("left as it is") };
    let mut search = *search;
    let layers = search.layers().len();
    for layer in 0..layers {
        let mut error = 0.01 * (1 + r.below(40)) as f64;
        for rank in ranks {
            let seed = (layer * 100 + rank) as f64;
            let (down, up) = (zeros(&[width, *rank], seed), zeros(&[*rank, width], seed + 0.5));
            let offered = search.offer(layer, Alternative::LowRank { down, up, bias: None }, error).unwrap();
            assert!(offered.is_some());
            error *= 1.5 + r.below(10) as f64 / 10.0;
        }
    }
    search
}

/// The alternatives of each layer, and none.
fn choices(search: &Search<'_>, per_layer: usize) -> Vec<Vec<Option<u32>>> {
    let ids: Vec<u32> = search.offers.keys().copied().collect();
    let of = |ids: &[u32]| std::iter::once(None).chain(ids.iter().copied().map(Some)).collect();
    ids.chunks(per_layer).map(of).collect()
}

const BOTH: &[Kind] = &[Kind::LowRank, Kind::Sparse];

#[test]
fn small_networks_are_searched_as_if_exhaustively() {
    let mut r = Random(3);
    let graph = network(3, 256);
    let search = search(&graph, 256, &[32, 16], &mut r);
    assert_eq!(search.layers().len(), 3);
    let layers = choices(&search, 2);
    let mut all: Vec<Picked> = Vec::new();
    for code in 0..27usize {
        let digits = [code % 3, code / 3 % 3, code / 9];
        let ids: Vec<u32> = layers.iter().zip(digits).filter_map(|(ids, digit)| ids[digit]).collect();
        all.push(search.with(&ids).unwrap());
    }
    let frontier = search.frontier(Objective::Latency, BOTH).unwrap();
    for budget in [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 10.0] {
        let least = |picks: &[Picked]| {
            let within = picks.iter().filter(|p| p.error <= budget).map(|p| p.latency);
            within.fold(f64::INFINITY, f64::min)
        };
        let exact = search.exact_pick().unwrap().latency;
        let (found, best) = (least(&frontier).min(exact), least(&all));
        assert!((found - best).abs() < 1e-6, "budget {budget}: {found} against {best}");
    }
}

#[test]
fn large_networks_are_within_two_percent_of_random_search() {
    let mut r = Random(5);
    let graph = network(12, 256);
    let search = search(&graph, 256, &[96, 64, 32, 16], &mut r);
    let layers = choices(&search, 4);
    let frontier = search.frontier(Objective::Latency, BOTH).unwrap();
    assert!(frontier.is_sorted_by(|a, b| a.error < b.error && a.latency > b.latency));
    let random: Vec<Picked> = (0..1000)
        .map(|_| {
            let ids: Vec<u32> = layers.iter().filter_map(|ids| ids[r.below(ids.len())]).collect();
            search.with(&ids).unwrap()
        })
        .collect();
    for pick in &random {
        let within = frontier.iter().filter(|p| p.error <= pick.error).map(|p| p.latency);
        let found = within.fold(f64::INFINITY, f64::min);
        assert!(found <= pick.latency * 1.02, "{found} against {} at {}", pick.latency, pick.error);
    }
}

#[test]
fn estimates_are_of_alternatives_alone_and_add_up() {
    let mut r = Random(11);
    let graph = network(3, 256);
    let search = search(&graph, 256, &[64, 16], &mut r);
    let (exact, estimates) = (search.exact_pick().unwrap(), search.estimates().unwrap());
    assert_eq!(estimates.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    for (id, it) in &estimates {
        let alone = search.with(&[*id]).unwrap();
        assert!(
            near(alone.error, it.error) && near(exact.latency - alone.latency, it.latency),
            "{id}: {it:?}"
        );
        // In the order of bytes work decides between equals, with a weight of a millionth.
        let rank = [64.0, 16.0][*id as usize % 2];
        assert!((it.bytes - 4.0 * (256.0 * 256.0 - 2.0 * 256.0 * rank)).abs() < 1.0, "{id}: {it:?}");
    }
    let three = search.with(&[0, 3, 4]).unwrap();
    let sum: f64 = [0, 3, 4].iter().map(|id| estimates[id].latency).sum();
    assert!(near(exact.latency - three.latency, sum));
    let layers = search.layer_latencies().unwrap();
    assert!(
        layers.len() == 3 && layers.iter().sum::<f64>() < exact.latency && layers.iter().all(|ns| *ns > 0.0)
    );
}

#[test]
fn what_one_kind_can_do_both_can() {
    let mut r = Random(7);
    let graph = network(12, 256);
    let mut search = search(&graph, 256, &[64, 32], &mut r);
    let pattern = Zeros { density: 0.5, panels: (2, 4), rows: 0.5, two_four: true };
    for layer in 0..12 {
        let weight = zeros(&[256, 256], 1000.0 + layer as f64);
        let offer = Alternative::Sparse { weight, zeros: pattern, bias: None };
        search.offer(layer, offer, 0.05 * (1 + r.below(8)) as f64).unwrap();
    }
    for objective in [Objective::Latency, Objective::Bytes] {
        let of = |kinds| search.frontier(objective, kinds).unwrap();
        let cost = |p: &Picked| if objective == Objective::Bytes { p.bytes } else { p.latency };
        let (both, low_rank, sparse) = (of(BOTH), of(&[Kind::LowRank]), of(&[Kind::Sparse]));
        for pick in low_rank.iter().chain(&sparse) {
            let found = both.iter().filter(|p| p.error <= pick.error).map(cost).fold(f64::INFINITY, f64::min);
            assert!(found <= cost(pick) * (1.0 + 1e-9), "{objective:?}: {found} against {}", cost(pick));
        }
    }
}

#[test]
fn the_graph_of_a_pick_has_its_alternatives_and_taps() {
    let mut r = Random(9);
    let graph = network(2, 256);
    let search = search(&graph, 256, &[16], &mut r);
    let count = |graph: &Graph| graph.nodes.iter().filter(|n| n.op.name() == "linear").count();
    assert_eq!(count(&search.exact().unwrap()), 2);
    let both = search.with(&[0, 1]).unwrap();
    assert_eq!(count(&search.graph(&both).unwrap()), 4);
    let one = search.with(&[1]).unwrap();
    assert_eq!(one.alternatives, [1]);
    // All steps of a layer bear its name.
    let named = |graph: &Graph, name: &str| graph.nodes.iter().filter(|n| &*n.loc == name).count();
    assert_eq!(
        (named(&search.graph(&one).unwrap(), "p0"), named(&search.graph(&one).unwrap(), "p1")),
        (1, 2)
    );
    let tapped = search.tapped(Some(&one), &[Tap::Input(1), Tap::Output(1)]).unwrap();
    assert_eq!((count(&tapped), tapped.outputs.len()), (3, 3));
    assert_eq!(autoglm_ir::verify::verify(&tapped), []);
}

#[test]
fn an_alternative_must_have_the_shape_of_its_layer() {
    let graph = network(1, 64);
    let Started::Search(mut search) = Search::start(&graph, &Options::default(), &BTreeMap::new()).unwrap()
    else {
        panic!("left as it is")
    };
    let sparse =
        |shape: &[usize]| Alternative::Sparse { weight: zeros(shape, 0.5), zeros: Zeros::NONE, bias: None };
    assert!(search.offer(0, sparse(&[64, 64]), 0.1).unwrap().is_some());
    assert!(search.offer(0, sparse(&[32, 64]), 0.1).is_err());
    assert!(search.offer(1, sparse(&[64, 64]), 0.1).is_err());
}
