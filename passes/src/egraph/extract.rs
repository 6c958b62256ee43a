//! Extraction: one node for each class, so that the whole graph is cheap and has no cycle.
//!
//! Costs are those of the graph as a DAG: what two nodes share is paid once. A greedy bottom-up choice comes first (the
//! `faster-greedy-dag` of extraction-gym: each class keeps the set of classes that its choice needs, and a node whose set
//! would hold its own class is passed over). Then single choices, and groups of choices that only pay together, are
//! changed as long as the recomputed price of the whole graph falls; a change that closes a cycle has no price.

use super::cost::CostModel;
use autoglm_ir::egraph::{EGraph, ENode};
use egg::{Id, Language};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// More classes than this are not extracted: the sets would take too much memory.
pub(crate) const CLASSES_MAX: usize = 16_384;

/// Rounds of changing single choices.
const ROUNDS_MAX: usize = 4;

/// An e-graph with dense numbers.
pub(crate) struct Dag {
    classes: Vec<Id>,
    number: BTreeMap<Id, usize>,
    nodes: Vec<Vec<Candidate>>,
    roots: Vec<usize>,
}

/// A node of a class.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its own cost, without its children.
    pub(crate) cost: f64,
    /// Distinct classes.
    pub(crate) children: Vec<usize>,
    /// Which approximation it is.
    pub(crate) approx: Option<u32>,
}

/// The node chosen for each class, by its position there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice(Vec<Option<usize>>);

impl Choice {
    /// The choice with another node of a class.
    pub(crate) fn with(mut self, class: usize, node: usize) -> Choice {
        if let Some(slot) = self.0.get_mut(class) {
            *slot = Some(node);
        }
        self
    }
}

impl Dag {
    /// Numbers the classes; none if there are too many.
    pub(crate) fn new(egraph: &EGraph, roots: &[Id], model: &CostModel) -> Option<Dag> {
        Dag::with(egraph, roots, |node| model.node(egraph, node))
    }

    /// The same with other costs.
    pub(crate) fn with(egraph: &EGraph, roots: &[Id], cost: impl Fn(&ENode) -> f64) -> Option<Dag> {
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
            let approx = match node {
                ENode::Approx(id, _) => Some(*id),
                _ => None,
            };
            Candidate { cost: cost(node), children, approx }
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
        self.walk(choice, |_, node| sum += node.cost)?;
        Some(sum)
    }

    /// Visits every class that is needed, children first.
    pub(crate) fn walk(&self, choice: &Choice, mut visit: impl FnMut(usize, &Candidate)) -> Option<()> {
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
                let node = self.nodes[*class].get(choice.0[*class]?)?;
                if let Some(child) = node.children.get(*next).copied() {
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
                visit(*class, node);
                stack.pop();
            }
        }
        Some(())
    }

    /// The same e-graph under other costs; a node of infinite cost is not chosen.
    pub(crate) fn priced(&self, cost: impl Fn(&Candidate) -> f64) -> Dag {
        let price = |node: &Candidate| Candidate { cost: cost(node), ..node.clone() };
        let nodes = self.nodes.iter().map(|nodes| nodes.iter().map(price).collect()).collect();
        Dag { classes: self.classes.clone(), number: self.number.clone(), nodes, roots: self.roots.clone() }
    }

    /// The approximations that a choice needs, ascending.
    pub(crate) fn approximations(&self, choice: &Choice) -> Vec<u32> {
        let mut ids = Vec::new();
        // A choice with a cycle needs nothing that could be priced.
        if self.walk(choice, |_, node| ids.extend(node.approx)).is_none() {
            return Vec::new();
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Every approximation: its class, its position there, its id.
    pub(crate) fn approximate(&self) -> impl Iterator<Item = (usize, usize, u32)> {
        let of = |(class, nodes): (usize, &Vec<Candidate>)| {
            let ids = nodes.iter().enumerate().filter_map(|(i, node)| Some((i, node.approx?)));
            ids.map(|(i, id)| (class, i, id)).collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(of)
    }

    /// All approximations that there are, ascending.
    pub(crate) fn all_approximations(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.nodes.iter().flatten().filter_map(|node| node.approx).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The cheapest graph that the method finds, and how many groups it took; none if a root cannot be built without a
    /// cycle.
    pub(crate) fn extract(&self, groups: &[Vec<(Id, ENode)>], egraph: &EGraph) -> Option<(Choice, usize)> {
        let (mut choice, mut cost) = self.start()?;
        let mut taken = 0;
        for group in groups {
            let candidate = self.adopt(egraph, choice.clone(), group);
            if let Some(lower) = self.cost(&candidate).filter(|c| *c < cost) {
                (choice, cost, taken) = (candidate, lower, taken + 1);
            }
        }
        self.settle(&mut choice, &mut cost);
        Some((choice, taken))
    }

    /// The choice with these nodes of these classes; a node that a class does not have is passed over.
    pub(crate) fn adopt(&self, egraph: &EGraph, mut choice: Choice, nodes: &[(Id, ENode)]) -> Choice {
        for (class, node) in nodes {
            let class = self.number[&egraph.find(*class)];
            let wanted = node.clone().map_children(|c| egraph.find(c));
            let found = egraph[self.classes[class]]
                .nodes
                .iter()
                .position(|n| n.clone().map_children(|c| egraph.find(c)) == wanted);
            choice.0[class] = found.or(choice.0[class]);
        }
        choice
    }

    /// The classes that a choice needs and their nodes.
    pub(crate) fn nodes_of(&self, egraph: &EGraph, choice: &Choice) -> Vec<(Id, ENode)> {
        let reachable = self.reachable(choice).unwrap_or_default();
        let of = |id: Id| Some((id, self.node(egraph, choice, id)?.clone()));
        reachable.into_iter().filter_map(of).collect()
    }

    /// The cheapest graph that the method finds, and its cost.
    pub(crate) fn best(&self) -> Option<(Choice, f64)> {
        let (mut choice, mut cost) = self.start()?;
        self.settle(&mut choice, &mut cost);
        Some((choice, cost))
    }

    /// The better of two choices to start from. The greedy one counts what is shared once, but its sets are snapshots, so
    /// that it may close a cycle; the other counts it for each use and never does.
    fn start(&self) -> Option<(Choice, f64)> {
        let price = |choice: Choice| self.cost(&choice).filter(|c| c.is_finite()).map(|c| (choice, c));
        let (greedy, tree) = (price(Greedy::new(self).run()), price(self.tree()));
        match (greedy, tree) {
            (Some(a), Some(b)) => Some(if b.1 < a.1 { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// The choice that is cheapest when every use of a class pays for it (Knuth, "A generalization of Dijkstra's
    /// algorithm", 1977): a class is settled after the children of its node, so there is no cycle.
    fn tree(&self) -> Choice {
        let mut choice = vec![None; self.classes.len()];
        let mut costs = vec![0.0f64; self.classes.len()];
        let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.classes.len()];
        let mut missing: Vec<Vec<usize>> = Vec::with_capacity(self.classes.len());
        let mut ready = BinaryHeap::new();
        for (class, nodes) in self.nodes.iter().enumerate() {
            missing.push(nodes.iter().map(|node| node.children.len()).collect());
            for (i, node) in nodes.iter().enumerate().filter(|(_, node)| node.cost.is_finite()) {
                node.children.iter().for_each(|child| users[*child].push((class, i)));
                if node.children.is_empty() {
                    ready.push(Ready { cost: node.cost, class, node: i });
                }
            }
        }
        while let Some(Ready { cost, class, node }) = ready.pop() {
            if choice[class].is_some() {
                continue;
            }
            (choice[class], costs[class]) = (Some(node), cost);
            for (user, i) in &users[class] {
                missing[*user][*i] -= 1;
                if missing[*user][*i] == 0 {
                    let node = &self.nodes[*user][*i];
                    let cost = node.cost + node.children.iter().map(|c| costs[*c]).sum::<f64>();
                    ready.push(Ready { cost, class: *user, node: *i });
                }
            }
        }
        Choice(choice)
    }

    /// Changes single choices until that no longer helps.
    fn settle(&self, choice: &mut Choice, cost: &mut f64) {
        for _ in 0..ROUNDS_MAX {
            let before = *cost;
            self.improve(choice, cost);
            if *cost >= before {
                break;
            }
        }
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

/// A node whose children are settled; the heap gives the cheapest first, of equal ones the first.
#[derive(PartialEq)]
struct Ready {
    cost: f64,
    class: usize,
    node: usize,
}

impl Eq for Ready {}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Ready) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ready {
    fn cmp(&self, other: &Ready) -> Ordering {
        other.cost.total_cmp(&self.cost).then_with(|| (other.class, other.node).cmp(&(self.class, self.node)))
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
            for child in nodes.iter().flat_map(|node| &node.children) {
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
                self.own[class] = self.dag.nodes[class][node].cost;
                self.best[class] = Some(Best { cost, node, needs });
                improved = true;
            }
        }
        improved
    }

    /// Cost of everything that a node needs, and which classes those are.
    fn price(&self, class: usize, node: usize) -> Option<(f64, Bits)> {
        let Candidate { cost: own, children, .. } = &self.dag.nodes[class][node];
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

#[cfg(test)]
pub(crate) mod tests;
