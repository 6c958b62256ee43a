//! The fast executor against the scalar one on random programs.

use super::isas;
use crate::tile::testing::{Case, Recipe, Rng, Style, case};

fn compare(case: &Case, style: Style, seed: u64) {
    let slow = case.slow();
    let isas = isas();
    for parts in 1..=3 {
        let isa = isas[(seed as usize + parts) % isas.len()];
        let fast = case.fast(isa, parts);
        case.assert_agree((&fast, &slow), style, &format!("seed {seed}, {isa:?}, {parts} parts"));
    }
}

#[test]
fn wild_programs_agree_bit_for_bit() {
    for seed in 0..2400 {
        compare(&case(&mut Rng::new(seed), &Recipe::new(Style::Wild, 2500)), Style::Wild, seed);
    }
}

#[test]
fn programs_with_float_sums_agree_within_rounding() {
    for seed in 0..800 {
        compare(&case(&mut Rng::new(77_000 + seed), &Recipe::new(Style::Tame, 2500)), Style::Tame, seed);
    }
}

#[test]
fn large_programs_agree() {
    for seed in 0..60 {
        compare(&case(&mut Rng::new(555_000 + seed), &Recipe::new(Style::Wild, 60_000)), Style::Wild, seed);
    }
}
