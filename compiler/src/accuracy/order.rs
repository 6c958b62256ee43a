//! The order of channels in which pruning two of every four loses least.
//!
//! Each group of four successive channels keeps two of them in every column, so that it matters which channels meet in a
//! group. The search is that of Pool and Yu, "Channel Permutations for N:M Sparsity" (NeurIPS 2021): channels of two
//! groups are swapped where both together lose less for it, here over pairs of groups in a fixed order and within a bound
//! on the work. It begins with the channels dealt out by their weight, so that each group has strong and weak ones.
//!
//! Channels are columns of the layers that give them, where the columns of a panel share a pattern: the groups are then
//! swapped between panels.

use autoglm_ir::sparsity::{GROUP, PANEL};
use std::collections::BTreeSet;

/// Columns that are summed up beside each other.
const LANES: usize = 8;
/// Elements that a search looks at, at most.
const WORK_MAX: usize = 1 << 29;
/// A swap is worth it if it saves this share of what two groups lose.
const WORTH: f32 = 1e-5;

/// What it costs to lose elements: a row for each channel.
pub(super) struct Scores {
    rows: Vec<Vec<f32>>,
}

impl Scores {
    /// Of no columns.
    pub(super) fn new(channels: usize) -> Scores {
        Scores { rows: vec![Vec::new(); channels] }
    }

    /// Appends elements to the row of a channel; all rows are to have equally many in the end.
    pub(super) fn extend(&mut self, channel: usize, scores: impl Iterator<Item = f32>) {
        self.rows[channel].extend(scores);
    }

    /// Orders, as the channel at each place, in which groups lose least as far as was found. In the first the groups that lose
    /// most come first: the rows after them make up for it. In the other, if there is one, panels lose little too by `columns`:
    /// for each channel what it costs to lose its elements, in groups of successive rows.
    pub(super) fn orders(mut self, columns: &Scores) -> Vec<Vec<usize>> {
        for row in &mut self.rows {
            row.resize(row.len().next_multiple_of(LANES), 0.0);
        }
        let starts = [(0..self.rows.len()).collect(), self.dealt()];
        let [as_is, dealt] = starts.map(|order: Vec<usize>| Groups::new(&self, order.as_chunks().0));
        let mut groups = if dealt.lost() < as_is.lost() { dealt } else { as_is };
        groups.search();
        let mut found = groups.found;
        found.sort_by(|a, b| b.lost.total_cmp(&a.lost));
        let mut panels = Panels::new(&found, columns);
        panels.search();
        let plain = (0..found.len()).collect();
        let orders = BTreeSet::from([plain, panels.order()]);
        let channels = |order: Vec<usize>| order.into_iter().flat_map(|group| found[group].members).collect();
        orders.into_iter().map(channels).collect()
    }

    /// Channels by their sums, dealt out to the groups back and forth.
    fn dealt(&self) -> Vec<usize> {
        let sums: Vec<f32> = self.rows.iter().map(|row| row.iter().sum()).collect();
        let mut by_sum: Vec<usize> = (0..sums.len()).collect();
        by_sum.sort_by(|a, b| sums[*b].total_cmp(&sums[*a]));
        let groups = sums.len() / GROUP;
        let place = |at: usize| {
            let (group, round) = (at / GROUP, at % GROUP);
            let within = if round.is_multiple_of(2) { group } else { groups - 1 - group };
            by_sum[round * groups + within]
        };
        (0..groups * GROUP).map(place).collect()
    }

    /// What three channels lose as long as a fourth is stronger than two of them, and in each column the middle one.
    fn rest(&self, three: [usize; GROUP - 1]) -> Rest {
        let [a, b, c] = three.map(|channel| &self.rows[channel]);
        let mut least = [0.0; LANES];
        let mut middle = Vec::with_capacity(a.len());
        for (i, ((a, b), c)) in a.iter().zip(b).zip(c).enumerate() {
            let (low, high) = (lesser(*a, *b), greater(*a, *b));
            least[i % LANES] += lesser(low, *c);
            middle.push(greater(low, lesser(high, *c)));
        }
        Rest { least: least.iter().sum(), middle }
    }

    /// What three channels lose together with a fourth: the least of the three, and the lesser of the middle one and the fourth.
    fn lost(&self, rest: &Rest, fourth: usize) -> f32 {
        let (middle, fourth) = (rest.middle.as_chunks::<LANES>().0, self.rows[fourth].as_chunks::<LANES>().0);
        let mut sums = [0.0; LANES];
        for (a, b) in middle.iter().zip(fourth) {
            (0..LANES).for_each(|i| sums[i] += lesser(a[i], b[i]));
        }
        rest.least + sums.iter().sum::<f32>()
    }
}

/// The comparison of machines: here is nothing that is no number.
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn greater(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}

/// Three channels of a group.
struct Rest {
    /// Sum of the least of them over all columns.
    least: f32,
    /// The middle one in each column.
    middle: Vec<f32>,
}

struct Group {
    members: [usize; GROUP],
    /// The group without each of its members.
    rests: [Rest; GROUP],
    lost: f32,
}

impl Group {
    fn new(scores: &Scores, members: [usize; GROUP]) -> Group {
        let without = |i: usize| std::array::from_fn(|j| members[if j < i { j } else { j + 1 }]);
        let rests = std::array::from_fn(|i| scores.rest(without(i)));
        Group { lost: scores.lost(&rests[0], members[0]), members, rests }
    }
}

struct Groups<'s> {
    scores: &'s Scores,
    found: Vec<Group>,
}

impl<'s> Groups<'s> {
    fn new(scores: &'s Scores, members: &[[usize; GROUP]]) -> Groups<'s> {
        Groups { scores, found: members.iter().map(|members| Group::new(scores, *members)).collect() }
    }

    fn lost(&self) -> f64 {
        self.found.iter().map(|group| f64::from(group.lost)).sum()
    }

    /// Swaps until none is worth it, or there was enough work.
    fn search(&mut self) {
        let count = self.found.len();
        let pair = 2 * GROUP * GROUP * self.scores.rows.first().map_or(1, Vec::len).max(1);
        let mut left = WORK_MAX / pair;
        let mut swapped = true;
        while swapped {
            swapped = false;
            for distance in 1..=count / 2 {
                for group in 0..count {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    swapped |= self.swap(group, (group + distance) % count);
                }
            }
        }
    }

    /// Makes the best swap between two groups, if one is worth it.
    fn swap(&mut self, g: usize, h: usize) -> bool {
        let (a, b) = (&self.found[g], &self.found[h]);
        let now = a.lost + b.lost;
        let mut best = (now - WORTH * now, None);
        for (i, j) in (0..GROUP * GROUP).map(|at| (at / GROUP, at % GROUP)) {
            let lost =
                self.scores.lost(&a.rests[i], b.members[j]) + self.scores.lost(&b.rests[j], a.members[i]);
            if lost < best.0 {
                best = (lost, Some((i, j)));
            }
        }
        let Some((i, j)) = best.1 else { return false };
        let (mut first, mut second) = (a.members, b.members);
        std::mem::swap(&mut first[i], &mut second[j]);
        [self.found[g], self.found[h]] = [first, second].map(|members| Group::new(self.scores, members));
        true
    }
}

/// Groups that a panel is made of.
const MEMBERS: usize = PANEL / GROUP;

/// What groups of rows cost a panel or a part of it.
type Costs = Vec<[f32; GROUP]>;

struct Panels {
    /// Of each group of channels.
    costs: Vec<Costs>,
    /// The groups of each panel, the last of which may be short.
    found: Vec<Vec<usize>>,
    lost: Vec<f32>,
}

impl Panels {
    fn new(groups: &[Group], columns: &Scores) -> Panels {
        let costs = groups.iter().map(|group| {
            let rows = group.members.map(|channel| columns.rows[channel].as_chunks::<GROUP>().0);
            let of = |row: usize| std::array::from_fn(|i| rows.iter().map(|of| of[row][i]).sum());
            (0..rows[0].len()).map(of).collect()
        });
        let numbers: Vec<usize> = (0..groups.len()).collect();
        let found: Vec<Vec<usize>> = numbers.chunks(MEMBERS).map(<[usize]>::to_vec).collect();
        let mut panels = Panels { costs: costs.collect(), found, lost: Vec::new() };
        panels.lost = (0..panels.found.len()).map(|p| loss(panels.cost(p).into_iter())).collect();
        panels
    }

    /// What the rows of a panel cost.
    fn cost(&self, panel: usize) -> Costs {
        let mut sums = vec![[0.0; GROUP]; self.costs.first().map_or(0, Vec::len)];
        for group in &self.found[panel] {
            for (sum, cost) in sums.iter_mut().zip(&self.costs[*group]) {
                (0..GROUP).for_each(|i| sum[i] += cost[i]);
            }
        }
        sums
    }

    /// Swaps until none is worth it, or there was enough work.
    fn search(&mut self) {
        let rows = self.costs.first().map_or(0, Vec::len);
        let mut left = WORK_MAX / (2 * MEMBERS * MEMBERS * GROUP * rows.max(1));
        let mut swapped = rows > 0;
        while swapped {
            swapped = false;
            for (p, q) in (0..self.found.len()).flat_map(|p| (0..p).map(move |q| (p, q))) {
                if left == 0 {
                    return;
                }
                left -= 1;
                swapped |= self.swap(p, q);
            }
        }
    }

    /// Makes the best swap between two panels, if one is worth it.
    fn swap(&mut self, p: usize, q: usize) -> bool {
        let costs = [self.cost(p), self.cost(q)];
        let now = self.lost[p] + self.lost[q];
        let mut best = (now - WORTH * now, None);
        for (i, j) in (0..self.found[p].len()).flat_map(|i| (0..self.found[q].len()).map(move |j| (i, j))) {
            let (a, b) = (&self.costs[self.found[p][i]], &self.costs[self.found[q][j]]);
            let other = |panel: &Costs, less: &Costs, more: &Costs| {
                let of = |row: usize| std::array::from_fn(|i| panel[row][i] - less[row][i] + more[row][i]);
                loss((0..panel.len()).map(of))
            };
            let lost = [other(&costs[0], a, b), other(&costs[1], b, a)];
            if lost[0] + lost[1] < best.0 {
                best = (lost[0] + lost[1], Some((i, j, lost)));
            }
        }
        let Some((i, j, lost)) = best.1 else { return false };
        (self.found[p][i], self.found[q][j]) = (self.found[q][j], self.found[p][i]);
        [self.lost[p], self.lost[q]] = lost;
        true
    }

    /// The groups in order. Their numbers are by what they lose.
    fn order(mut self) -> Vec<usize> {
        let short = self.found.last().is_some_and(|last| last.len() < MEMBERS);
        let whole = self.found.len() - usize::from(short);
        self.found.iter_mut().for_each(|panel| panel.sort_unstable());
        self.found[..whole].sort_by_key(|panel| panel.iter().sum::<usize>());
        self.found.concat()
    }
}

/// What is lost of groups of rows: all but the two that cost most.
fn loss(costs: impl Iterator<Item = [f32; GROUP]>) -> f32 {
    let of = |[a, b, c, d]: [f32; GROUP]| {
        let (low, high) = (lesser(a, b), greater(a, b));
        let (other, top) = (lesser(c, d), greater(c, d));
        lesser(low, other) + lesser(greater(low, other), lesser(high, top))
    };
    costs.map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;
    use autoglm_ir::sparsity::KEPT;

    fn scores(rows: &[Vec<f32>]) -> Scores {
        let mut scores = Scores::new(rows.len());
        rows.iter().enumerate().for_each(|(i, row)| scores.extend(i, row.iter().copied()));
        scores
    }

    /// The order in which the rest makes up for most.
    fn order(rows: &[Vec<f32>]) -> Vec<usize> {
        let orders = scores(rows).orders(&Scores::new(rows.len()));
        assert_eq!(orders.len(), 1, "there are no columns");
        orders.concat()
    }

    /// What is lost in an order: all but the largest two of each group and column.
    fn lost(rows: &[Vec<f32>], order: &[usize]) -> f32 {
        let column = |group: &[usize], j: usize| -> f32 {
            let mut of: Vec<f32> = group.iter().map(|channel| rows[*channel][j]).collect();
            of.sort_by(f32::total_cmp);
            of[..GROUP - KEPT].iter().sum()
        };
        let groups = order.chunks_exact(GROUP);
        groups.flat_map(|group| (0..rows[0].len()).map(move |j| column(group, j))).sum()
    }

    fn squares(seed: u64, channels: usize, columns: usize) -> Vec<Vec<f32>> {
        let noise = noise(seed, channels * columns);
        noise.chunks_exact(columns).map(|row| row.iter().map(|x| x * x).collect()).collect()
    }

    #[test]
    fn strong_channels_are_spread() {
        // Four strong channels in a row, then twelve weak ones: two of the strong ones need not be lost.
        let rows: Vec<Vec<f32>> = (0..16).map(|i| vec![if i < 4 { 9.0 } else { 1.0 }; 5]).collect();
        let order = order(&rows);
        assert_eq!(lost(&rows, &order), 40.0, "{order:?}");
        assert_eq!(lost(&rows, &(0..16).collect::<Vec<_>>()), 120.0);
    }

    #[test]
    fn no_swap_is_left_that_saves() {
        for seed in 0..20 {
            let rows = squares(seed, 24, 13);
            let order = order(&rows);
            let found = lost(&rows, &order);
            for (i, j) in (0..24).flat_map(|i| (0..24).map(move |j| (i, j))) {
                let mut other = order.clone();
                other.swap(i, j);
                let swapped = lost(&rows, &other);
                assert!(swapped > found * (1.0 - 1e-4), "{seed}: {i} and {j}: {swapped} against {found}");
            }
        }
    }

    #[test]
    fn an_order_names_every_channel_once_and_loses_less() {
        for (channels, columns) in [(8, 1), (64, 40), (132, 9), (256, 64)] {
            let rows = squares(channels as u64, channels, columns);
            let order = order(&rows);
            assert_eq!(order, self::order(&rows));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..channels));
            let before = lost(&rows, &(0..channels).collect::<Vec<_>>());
            assert!(lost(&rows, &order) < 0.95 * before, "{channels} x {columns}");
            let of = |group: usize| lost(&rows, &order[group * GROUP..][..GROUP]);
            assert!((1..channels / GROUP).all(|group| of(group) <= of(group - 1) * 1.0001));
        }
    }

    #[test]
    fn panels_are_made_of_groups_that_keep_the_same_rows() {
        // Every other group is strong in the first two of four rows, the others in the last two.
        let strong = |channel: usize, row: usize| (channel / GROUP).is_multiple_of(2) == (row % 4 < 2);
        let column = |c: usize| (0..16).map(|row| if strong(c, row) { 3.0 } else { 1.0 }).collect();
        let panels = |count: usize| {
            let rows = scores(&squares(3, GROUP * count, 8));
            let groups = (0..count).map(|g| Group::new(&rows, std::array::from_fn(|i| GROUP * g + i)));
            let columns: Vec<Vec<f32>> = (0..GROUP * count).map(column).collect();
            Panels::new(&groups.collect::<Vec<_>>(), &scores(&columns))
        };
        let mut two = panels(16);
        assert_eq!(two.lost, [512.0, 512.0]);
        two.search();
        // A panel of one kind loses the weak half of its rows, a mixed one half of all.
        assert_eq!(two.lost, [256.0, 256.0]);
        let order = two.order();
        assert!(order[..8].iter().all(|g| g % 2 == order[0] % 2), "{order:?}");
        // A panel that is short stays the last.
        let mut three = panels(18);
        three.search();
        let (mut order, last) = (three.found.concat(), three.found[2].clone());
        assert!(three.order()[16..].iter().all(|group| last.contains(group)));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..18));
    }
}
