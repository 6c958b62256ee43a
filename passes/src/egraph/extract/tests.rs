//! Extraction against exhaustive search on small random e-graphs.

use super::*;

/// SplitMix64 (Steele et al., 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

pub(crate) fn dag(nodes: Vec<Vec<Candidate>>, roots: Vec<usize>) -> Dag {
    let classes: Vec<Id> = (0..nodes.len()).map(Id::from).collect();
    let number = classes.iter().enumerate().map(|(i, c)| (*c, i)).collect();
    Dag { classes, number, nodes, roots }
}

impl Dag {
    /// Its nodes and roots.
    pub(crate) fn parts(&self) -> (Vec<Vec<Candidate>>, Vec<usize>) {
        (self.nodes.clone(), self.roots.clone())
    }
}

/// A random e-graph whose nodes point to later classes, or with `cycles` to any.
pub(crate) fn random(random: &mut Random, classes: usize, cycles: bool) -> Dag {
    let mut nodes = Vec::with_capacity(classes);
    for class in 0..classes {
        let count = 1 + random.below(3);
        let mut of = Vec::with_capacity(count);
        for _ in 0..count {
            let (start, len) = if cycles { (0, classes) } else { (class + 1, classes - class - 1) };
            let arity = if len == 0 { 0 } else { random.below(4) };
            let mut children: Vec<usize> = (0..arity).map(|_| start + random.below(len)).collect();
            children.sort_unstable();
            children.dedup();
            of.push(Candidate { cost: random.below(20) as f64, children, approx: None });
        }
        nodes.push(of);
    }
    dag(nodes, vec![0, random.below(classes)])
}

/// Every choice of a node for each class.
pub(crate) fn choices(dag: &Dag) -> impl Iterator<Item = Choice> {
    let counts: Vec<usize> = dag.nodes.iter().map(Vec::len).collect();
    let all: usize = counts.iter().product();
    (0..all).map(move |mut n| {
        Choice(
            counts
                .iter()
                .map(|count| {
                    let node = n % count;
                    n /= count;
                    Some(node)
                })
                .collect(),
        )
    })
}

fn exhaustive(dag: &Dag) -> Option<f64> {
    choices(dag).filter_map(|c| dag.cost(&c)).min_by(f64::total_cmp)
}

#[test]
fn extraction_is_nearly_always_optimal_and_never_worse_than_its_start() {
    for cycles in [false, true] {
        let mut r = Random(if cycles { 5 } else { 3 });
        let (mut solvable, mut optimal) = (0, 0);
        for _ in 0..400 {
            let classes = 2 + r.below(7);
            let dag = random(&mut r, classes, cycles);
            let expected = exhaustive(&dag);
            let found = dag.best();
            assert_eq!(expected.is_some(), found.is_some(), "{:?}", dag.nodes);
            let (Some(expected), Some((choice, cost))) = (expected, found) else { continue };
            assert_eq!(dag.cost(&choice), Some(cost), "acyclic, and the cost is that of the choice");
            assert!(cost >= expected);
            let start = dag.cost(&Greedy::new(&dag).run()).unwrap_or(f64::INFINITY);
            assert!(cost <= start, "{cost} is worse than the greedy {start}");
            assert_eq!(dag.best().unwrap().0, choice, "deterministic");
            solvable += 1;
            optimal += usize::from(cost == expected);
        }
        assert!(
            solvable > 100 && optimal * 100 >= solvable * 95,
            "{optimal} of {solvable}, cycles: {cycles}"
        );
    }
}

#[test]
fn a_class_that_only_a_cycle_builds_has_no_graph() {
    let node = |cost, children| Candidate { cost, children, approx: None };
    let lost = dag(vec![vec![node(1.0, vec![1])], vec![node(1.0, vec![0])]], vec![0]);
    assert_eq!(lost.best(), None);
    let leaf = dag(vec![vec![node(0.0, vec![1])], vec![node(0.0, vec![0]), node(9.0, vec![])]], vec![0]);
    assert_eq!(leaf.best(), Some((Choice(vec![Some(0), Some(1)]), 9.0)));
}

#[test]
fn what_is_shared_is_paid_once() {
    let node = |cost, children: &[usize]| Candidate { cost, children: children.to_vec(), approx: None };
    // Two uses of class 3 for 10 are cheaper than 7 for each of two leaves.
    let dag = dag(
        vec![
            vec![node(0.0, &[1, 2])],
            vec![node(0.0, &[3]), node(7.0, &[])],
            vec![node(0.0, &[3]), node(7.0, &[])],
            vec![node(10.0, &[])],
        ],
        vec![0],
    );
    assert_eq!(exhaustive(&dag), Some(10.0));
    assert!(dag.best().unwrap().1 <= 14.0);
}
