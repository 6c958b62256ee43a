//! Which loops of a plan are compiled.

use super::{CodeCache, LoopSpec};
use crate::tile::{TileIsa, TilePlan};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Compiles those of `plans` for which that pays. Loops of one spec share a function, so their work counts together.
pub(crate) fn compile_loops<'a>(
    plans: impl Iterator<Item = &'a mut TilePlan>,
    code: &CodeCache,
    isa: TileIsa,
) {
    let mut groups: Vec<(u64, Vec<&mut TilePlan>)> = Vec::new();
    let mut known: HashMap<LoopSpec, usize> = HashMap::new();
    for plan in plans {
        // A loop that is declined is interpreted, with the same results.
        let Ok(spec) = plan.loop_spec(isa) else { continue };
        let group = match known.entry(spec) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                groups.push((0, Vec::new()));
                *entry.insert(groups.len() - 1)
            }
        };
        if let Some((work, members)) = groups.get_mut(group) {
            *work = work.saturating_add(plan.loop_work());
            members.push(plan);
        }
    }
    for (work, members) in groups {
        for plan in members {
            let _declined = plan.compile(code, isa, work);
        }
    }
}
