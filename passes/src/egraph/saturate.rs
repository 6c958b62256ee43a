//! Equality saturation: all rules, until none finds anything new or a cap is reached.
//!
//! Rules are searched and applied in the order of the tables and classes in the order of their ids, and the caps count
//! nodes and rounds, so equal graphs give equal e-graphs on every machine.

use super::rule::{Compiled, Miss};
use autoglm_ir::egraph::EGraph;
use std::collections::{BTreeMap, HashSet};

/// Caps of a saturation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Rounds of searching and applying.
    pub(crate) rounds: usize,
    /// E-nodes, attributes included.
    pub(crate) nodes: usize,
}

/// What a rule did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// How often it made two classes equal that were not.
    pub fired: usize,
    /// Matches that it refused, by reason: how many, and an ONNX node where.
    pub refused: BTreeMap<String, (usize, String)>,
    /// Of places that match all but this many operators of its pattern: how many, and an ONNX node where. With 0 a number
    /// or an operand is another.
    pub near: BTreeMap<usize, (usize, String)>,
}

/// What a saturation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activities {
    /// By rule.
    pub rules: BTreeMap<&'static str, Activity>,
    /// Rounds that were run.
    pub rounds: usize,
    /// E-nodes at the end.
    pub nodes: usize,
    /// Whether the last round found nothing new.
    pub saturated: bool,
}

/// Runs the rules. An error is a bug in a rule, which it names.
pub(crate) fn saturate(
    egraph: &mut EGraph,
    rules: &[Compiled],
    limits: Limits,
    done: &mut Activities,
) -> Result<(), String> {
    // Looked up, never iterated.
    let (mut applied, mut refused) = (HashSet::new(), HashSet::new());
    for _ in 0..limits.rounds {
        done.rounds += 1;
        let before = (egraph.total_size(), egraph.number_of_classes());
        let mut found = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            for root in rule.lhs.roots(egraph) {
                found.extend(rule.lhs.matches(egraph, root).0.into_iter().map(|m| (i, m)));
            }
        }
        let mut changed = false;
        for (i, bindings) in found {
            let key = (i, bindings.canonical(egraph));
            if applied.contains(&key) {
                continue;
            }
            // What was refused may be possible once more is known of its parts.
            let again = refused.contains(&key);
            match apply(egraph, &rules[i], &key.1, limits, done)? {
                Ok(new) => {
                    changed |= new;
                    applied.insert(key);
                }
                Err(Miss(_)) if again => {}
                Err(Miss(reason)) => {
                    let at = place(egraph, key.1.root);
                    let refusals = &mut done.rules.entry(rules[i].rule.name).or_default().refused;
                    refusals.entry(reason).and_modify(|(n, _)| *n += 1).or_insert((1, at));
                    refused.insert(key);
                }
            }
        }
        egraph.rebuild();
        if let Some(poison) = egraph.analysis.poison.first() {
            return Err(format!("unsound rewriting: {poison}"));
        }
        if !changed && before == (egraph.total_size(), egraph.number_of_classes()) {
            done.saturated = true;
            break;
        }
    }
    done.nodes = egraph.total_size();
    Ok(())
}

/// Whether two classes became one, or why not.
fn apply(
    egraph: &mut EGraph,
    rule: &Compiled,
    found: &super::pattern::Bindings,
    limits: Limits,
    done: &mut Activities,
) -> Result<Result<bool, Miss>, String> {
    let activity = done.rules.entry(rule.rule.name).or_default();
    match rule.apply(egraph, found, limits.nodes) {
        Ok(id) => {
            let (root, id) = (egraph.find(found.root), egraph.find(id));
            if root == id {
                return Ok(Ok(false));
            }
            egraph.union(root, id);
            activity.fired += 1;
            match egraph.analysis.poison.first() {
                Some(poison) => Err(format!("rule `{}` is unsound: {poison}", rule.rule.name)),
                None => Ok(Ok(true)),
            }
        }
        Err(miss) => Ok(Err(miss)),
    }
}

/// The ONNX node that a class came from.
fn place(egraph: &EGraph, class: egg::Id) -> String {
    let data = &egraph[class].data;
    data.loc.as_deref().or(data.name.as_deref()).unwrap_or_default().to_owned()
}

/// Where a recovery rule nearly matched: counts roots at which more than half of its operators held, and nothing
/// else was recovered. All of them may hold where a number or an operand is another.
pub(crate) fn near_misses(egraph: &EGraph, rules: &[Compiled], done: &mut Activities) {
    let mut recovered = HashSet::new();
    let mut missed = Vec::new();
    for rule in rules.iter().filter(|r| r.rule.recovers) {
        let size = rule.lhs.size();
        for root in rule.lhs.roots(egraph) {
            let (matches, held) = rule.lhs.matches(egraph, root);
            if !matches.is_empty() {
                recovered.insert(root);
            } else if held * 2 > size {
                missed.push((rule.rule.name, root, size - held));
            }
        }
    }
    for (name, root, lacking) in missed.into_iter().filter(|(_, root, _)| !recovered.contains(root)) {
        let near = &mut done.rules.entry(name).or_default().near;
        near.entry(lacking).and_modify(|(n, _)| *n += 1).or_insert((1, place(egraph, root)));
    }
}
