//! Programs whose output lies over their arguments, or whose outputs are parts of one value, as the planner places them.

use super::{Rng, isas};
use crate::tile::testing::shared::{halves, in_place};
use crate::tile::testing::{Recipe, Style, agree};

#[test]
fn results_in_place_are_those_out_of_place() {
    let isas = isas();
    let mut compared = 0;
    for seed in 0..8000 {
        let limit = if seed % 50 == 0 { 60_000 } else { 2500 };
        let Some(shared) = in_place(&mut Rng::new(seed), &Recipe::new(Style::Wild, limit)) else { continue };
        for parts in 1..=3 {
            let isa = isas[(seed as usize + parts) % isas.len()];
            let apart = shared.case.fast(isa, parts);
            assert!(
                apart[0] == shared.run(&shared.plan(), isa, parts),
                "seed {seed}, {isa:?}, {parts} parts: {shared:#?}"
            );
            compared += 1;
        }
    }
    assert!(compared > 3000, "{compared} comparisons");
}

#[test]
fn parts_of_one_value_are_written_by_one_loop() {
    let isas = isas();
    let mut compared = 0;
    for seed in 0..3000 {
        let Some(shared) = halves(&mut Rng::new(seed), &Recipe::new(Style::Wild, 2500)) else { continue };
        let (slow, elem) = (shared.slow(), shared.case.writes[0].elem);
        let (isa, parts) = (isas[seed as usize % isas.len()], 1 + seed as usize % 3);
        let fast = shared.run(&shared.plan(), isa, parts);
        for (f, s) in fast.chunks(elem.size()).zip(slow.chunks(elem.size())) {
            assert!(agree(elem, Style::Wild, f, s), "seed {seed}, {isa:?}, {parts} parts: {shared:#?}");
        }
        compared += 1;
    }
    assert!(compared > 100, "{compared} comparisons");
}
