//! Extraction: one node for each class, so that the whole graph is cheap and has no cycle.
//!
//! Costs are those of the graph as a DAG: what two nodes share is paid once. A greedy bottom-up choice comes first (the
//! `faster-greedy-dag` of extraction-gym: each class keeps the set of classes that its choice needs, and a node whose set
//! would hold its own class is passed over). Then single choices, and groups of choices that only pay together, are
//! changed as long as the recomputed price of the whole graph falls; a change that closes a cycle has no price.

use super::cost::CostModel;
use autoglm_ir::egraph::{EGraph, ENode};
use egg::{Id, Language};
use std::collections::{BTreeMap, VecDeque};

/// More classes than this are not extracted: the sets would take too much memory.
pub(crate) const CLASSES_MAX: usize = 16_384;

/// Rounds of changing single choices.
const ROUNDS_MAX: usize = 4;

/// An e-graph with dense numbers.
pub(crate) struct Dag {
    classes: Vec<Id>,
    number: BTreeMap<Id, usize>,
    /// Of each class its nodes: cost and distinct children.
    nodes: Vec<Vec<(f64, Vec<usize>)>>,
    roots: Vec<usize>,
}

/// The node chosen for each class, by its position there.
#[derive(Clone, Debug)]
pub(crate) struct Choice(Vec<Option<usize>>);

impl Dag {
    /// Numbers the classes; none if there are too many.
    pub(crate) fn new(egraph: &EGraph, roots: &[Id], model: &CostModel) -> Option<Dag> {
        let mut classes: Vec<Id> = egraph.classes().map(|c| egraph.find(c.id)).collect();
        classes.sort_unstable();
        if classes.len() > CLASSES_MAX {
            return None;
        }
        let number: BTreeMap<Id, usize> = classes.iter().enumerate().map(|(i, c)| (*c, i)).collect();
        let of = |node: &ENode| {
            let mut children: Vec<usize> = node.children().iter().map(|c| number[&egraph.find(*c)]).collect();
            children.sort_unstable();
            children.dedup();
            (model.node(egraph, node), children)
        };
        let nodes = classes.iter().map(|c| egraph[*c].nodes.iter().map(of).collect()).collect();
        let roots = roots.iter().map(|r| number[&egraph.find(*r)]).collect();
        Some(Dag { classes, number, nodes, roots })
    }

    /// The node of a class.
    pub(crate) fn node<'e>(&self, egraph: &'e EGraph, choice: &Choice, id: Id) -> Option<&'e ENode> {
        let class = *self.number.get(&egraph.find(id))?;
        egraph[self.classes[class]].nodes.get(choice.0[class]?)
    }

    /// Classes that the roots need, children first; none if there is a cycle or a class without a choice.
    pub(crate) fn reachable(&self, choice: &Choice) -> Option<Vec<Id>> {
        let mut order = Vec::new();
        self.walk(choice, |class, _| order.push(self.classes[class]))?;
        Some(order)
    }

    /// What the graph costs; none if it has a cycle or a class without a choice.
    pub(crate) fn cost(&self, choice: &Choice) -> Option<f64> {
        let mut sum = 0.0;
        self.walk(choice, |_, cost| sum += cost)?;
        Some(sum)
    }

    /// Visits every class that is needed, children first.
    fn walk(&self, choice: &Choice, mut visit: impl FnMut(usize, f64)) -> Option<()> {
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![0u8; self.classes.len()];
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for root in &self.roots {
            if state[*root] != DONE {
                state[*root] = OPEN;
                stack.push((*root, 0));
            }
            while let Some((class, next)) = stack.last_mut() {
                let (cost, children) = &self.nodes[*class][choice.0[*class]?];
                if let Some(child) = children.get(*next).copied() {
                    *next += 1;
                    match state[child] {
                        DONE => {}
                        OPEN => return None,
                        _ => {
                            state[child] = OPEN;
                            stack.push((child, 0));
                        }
                    }
                    continue;
                }
                state[*class] = DONE;
                visit(*class, *cost);
                stack.pop();
            }
        }
        Some(())
    }

    /// The cheapest graph that the method finds; none if a root cannot be built without a cycle.
    pub(crate) fn extract(&self, groups: &[Vec<(Id, ENode)>], egraph: &EGraph) -> Option<(Choice, usize)> {
        let mut choice = Greedy::new(self).run();
        let mut cost = self.cost(&choice)?;
        let mut taken = 0;
        for group in groups {
            let mut candidate = choice.clone();
            for (class, node) in group {
                let class = self.number[&egraph.find(*class)];
                let wanted = node.clone().map_children(|c| egraph.find(c));
                let found = egraph[self.classes[class]]
                    .nodes
                    .iter()
                    .position(|n| n.clone().map_children(|c| egraph.find(c)) == wanted);
                candidate.0[class] = found.or(candidate.0[class]);
            }
            if let Some(lower) = self.cost(&candidate).filter(|c| *c < cost) {
                (choice, cost, taken) = (candidate, lower, taken + 1);
            }
        }
        for _ in 0..ROUNDS_MAX {
            let before = cost;
            self.improve(&mut choice, &mut cost);
            if cost >= before {
                break;
            }
        }
        Some((choice, taken))
    }

    /// Changes single choices of needed classes while the whole gets cheaper.
    fn improve(&self, choice: &mut Choice, cost: &mut f64) {
        let mut needed = Vec::new();
        if self.walk(choice, |class, _| needed.push(class)).is_none() {
            return;
        }
        for class in needed {
            for node in 0..self.nodes[class].len() {
                let old = choice.0[class];
                if old == Some(node) {
                    continue;
                }
                choice.0[class] = Some(node);
                match self.cost(choice).filter(|c| *c < *cost) {
                    Some(lower) => *cost = lower,
                    None => choice.0[class] = old,
                }
            }
        }
    }
}

/// A set of classes.
type Bits = Vec<u64>;

struct Best {
    cost: f64,
    node: usize,
    needs: Bits,
}

struct Greedy<'d> {
    dag: &'d Dag,
    parents: Vec<Vec<usize>>,
    best: Vec<Option<Best>>,
    /// Cost of the chosen node alone.
    own: Vec<f64>,
    words: usize,
}

impl Greedy<'_> {
    fn new(dag: &Dag) -> Greedy<'_> {
        let count = dag.classes.len();
        let mut parents: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (class, nodes) in dag.nodes.iter().enumerate() {
            for child in nodes.iter().flat_map(|(_, children)| children) {
                if parents[*child].last() != Some(&class) {
                    parents[*child].push(class);
                }
            }
        }
        let best = (0..count).map(|_| None).collect();
        Greedy { dag, parents, best, own: vec![0.0; count], words: count.div_ceil(64) }
    }

    fn run(mut self) -> Choice {
        let count = self.dag.classes.len();
        let mut queue: VecDeque<usize> = (0..count).collect();
        let mut queued = vec![true; count];
        // Costs only fall, but the sums that they are compared by are snapshots; the cap bounds the time.
        let mut budget = count.saturating_mul(64);
        while let (Some(class), true) = (queue.pop_front(), budget > 0) {
            budget -= 1;
            queued[class] = false;
            if !self.improve(class) {
                continue;
            }
            for parent in &self.parents[class] {
                if !std::mem::replace(&mut queued[*parent], true) {
                    queue.push_back(*parent);
                }
            }
        }
        Choice(self.best.iter().map(|b| b.as_ref().map(|b| b.node)).collect())
    }

    /// Looks for a cheaper node of a class.
    fn improve(&mut self, class: usize) -> bool {
        let mut improved = false;
        for node in 0..self.dag.nodes[class].len() {
            let Some((cost, needs)) = self.price(class, node) else { continue };
            if self.best[class].as_ref().is_none_or(|b| cost < b.cost * (1.0 - 1e-12)) {
                self.own[class] = self.dag.nodes[class][node].0;
                self.best[class] = Some(Best { cost, node, needs });
                improved = true;
            }
        }
        improved
    }

    /// Cost of everything that a node needs, and which classes those are.
    fn price(&self, class: usize, node: usize) -> Option<(f64, Bits)> {
        let (own, children) = &self.dag.nodes[class][node];
        let mut needs = vec![0u64; self.words];
        for child in children {
            let best = self.best[*child].as_ref()?;
            needs.iter_mut().zip(&best.needs).for_each(|(a, b)| *a |= b);
        }
        let (word, bit) = (class / 64, 1u64 << (class % 64));
        if needs[word] & bit != 0 {
            return None;
        }
        let mut cost = *own;
        for (w, bits) in needs.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                cost += self.own[w * 64 + bits.trailing_zeros() as usize];
                bits &= bits - 1;
            }
        }
        needs[word] |= bit;
        cost.is_finite().then_some((cost, needs))
    }
}
