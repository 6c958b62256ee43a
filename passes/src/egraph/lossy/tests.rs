//! Budgets against exhaustive search.

use super::super::extract::tests::{Random, choices, dag, random};
use super::super::extract::{Candidate, Dag};
use super::*;

/// A random e-graph in which some classes have an approximation; `wide` ones have more ids than are tried in every set.
fn lossy(r: &mut Random, wide: bool) -> (Dag, BTreeMap<u32, Price>) {
    let mut prices = BTreeMap::new();
    if wide {
        // A chain of layers, each exact or approximate.
        let layers = 9 + r.below(4);
        let mut nodes = Vec::with_capacity(layers);
        for layer in 0..layers {
            let children: Vec<usize> = (layer + 1 < layers).then_some(layer + 1).into_iter().collect();
            let exact = 10.0 + r.below(20) as f64;
            let price = Price { latency: r.below(15) as f64, error: 1.0 + r.below(9) as f64 };
            prices.insert(layer as u32, price);
            let candidate = |cost, approx| Candidate { cost, children: children.clone(), approx };
            nodes.push(vec![candidate(exact, None), candidate(0.0, Some(layer as u32))]);
        }
        return (dag(nodes, vec![0]), prices);
    }
    let classes = 2 + r.below(5);
    let plain = random(r, classes, r.0.is_multiple_of(2));
    let (mut nodes, roots) = plain.parts();
    for of in nodes.iter_mut().take(4) {
        let id = prices.len() as u32;
        let child = r.below(classes);
        of.push(Candidate { cost: 0.0, children: vec![child], approx: Some(id) });
        prices.insert(id, Price { latency: r.below(4) as f64, error: r.below(6) as f64 });
    }
    (dag(nodes, roots), prices)
}

/// Latency and error of a choice; none if it has a cycle.
fn measure(dag: &Dag, prices: &BTreeMap<u32, Price>, choice: &Choice) -> Option<(f64, f64)> {
    let ids = dag.approximations(choice);
    let exact = dag.cost(choice)?;
    let sum = |of: fn(&Price) -> f64| ids.iter().map(|id| of(&prices[id])).sum::<f64>();
    Some((exact + sum(|p| p.latency), sum(|p| p.error)))
}

#[test]
fn budgets_are_kept_and_larger_ones_are_never_slower() {
    let mut r = Random(11);
    let (mut cases, mut optimal) = (0, 0);
    for round in 0..200 {
        let wide = round % 10 == 0;
        let (dag, prices) = lossy(&mut r, wide);
        let mut last = f64::INFINITY;
        for budget in [0.0, 1.0, 3.0, 6.0, 10.0, 30.0, 100.0] {
            let within = |(_, error): &(f64, f64)| *error <= budget;
            let measured = choices(&dag).filter_map(|c| measure(&dag, &prices, &c));
            let expected = measured.filter(within).map(|(latency, _)| latency).min_by(f64::total_cmp);
            // Without approximations there may be nothing to start from.
            let Some(pick) = extract(&dag, &prices, budget) else { continue };
            assert_eq!(measure(&dag, &prices, &pick.choice), Some((pick.latency, pick.error)));
            assert!(pick.error <= budget, "{} of {budget}", pick.error);
            assert!(pick.latency <= last, "slower with a larger budget");
            last = pick.latency;
            let expected = expected.unwrap();
            assert!(pick.latency >= expected);
            cases += 1;
            optimal += usize::from(pick.latency == expected);
            if wide {
                assert!(pick.latency <= expected * 1.05, "{} against {expected}", pick.latency);
            }
        }
    }
    assert!(cases > 500 && optimal * 100 >= cases * 95, "{optimal} of {cases} are optimal");
}

#[test]
fn no_budget_is_exact() {
    let mut r = Random(2);
    for _ in 0..50 {
        let (dag, mut prices) = lossy(&mut r, true);
        prices.values_mut().for_each(|p| p.error = p.error.max(0.5));
        let pick = extract(&dag, &prices, 0.0).unwrap();
        assert_eq!((pick.error, dag.approximations(&pick.choice)), (0.0, vec![]));
    }
}

#[test]
fn an_approximation_without_a_price_is_not_taken() {
    let candidate = |cost, approx| Candidate { cost, children: vec![], approx };
    let dag = dag(vec![vec![candidate(5.0, None), candidate(0.0, Some(7))]], vec![0]);
    let pick = extract(&dag, &BTreeMap::new(), 1.0).unwrap();
    assert_eq!((pick.latency, pick.error), (5.0, 0.0));
}

/// From a graph to a graph: the class of a tanh gains an approximation over an exponential.
#[test]
fn an_approximation_is_chosen_and_built() {
    use super::super::cost::CostModel;
    use autoglm_ir::budget::FoldLimits;
    use autoglm_ir::egraph::{ENode, from_graph, to_graph};
    let source = "graph @g (%x: f32[64]) { %0 = tanh %x %1 = neg %x %2 = neg %1 return %0, %2 }";
    let graph = autoglm_ir::text::parse(source).unwrap();
    let (mut egraph, classes) = from_graph(&graph, FoldLimits::default()).unwrap();
    let outputs: Vec<egg::Id> = graph.outputs.iter().map(|o| classes[o.value.0 as usize]).collect();
    let approx = egraph.add(ENode::Approx(0, [outputs[1]]));
    egraph.union(outputs[0], approx);
    egraph.rebuild();
    assert!(egraph.analysis.poison.is_empty());
    let dag = Dag::new(&egraph, &outputs, &CostModel::default()).unwrap();
    let prices = BTreeMap::from([(0, Price { latency: 1.0, error: 0.5 })]);
    for (budget, ops) in [(0.4, vec!["tanh", "neg", "neg"]), (0.5, vec!["neg", "neg"])] {
        let pick = extract(&dag, &prices, budget).unwrap();
        let node = |id| dag.node(&egraph, &pick.choice, id).cloned();
        let built = to_graph(&egraph, &graph, &outputs, &node).unwrap();
        assert_eq!(built.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>(), ops);
    }
}
