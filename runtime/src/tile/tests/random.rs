//! The fast executor against the scalar one on random programs.

use super::isas;
use crate::tile::testing::{Case, Recipe, Rng, Style, agree, case, number};

fn compare(case: &Case, style: Style, seed: u64) {
    let slow = case.slow();
    let isas = isas();
    for parts in 1..=3 {
        let isa = isas[(seed as usize + parts) % isas.len()];
        let fast = case.fast(isa, parts);
        for (out, access) in case.writes.iter().enumerate() {
            let size = access.elem.size();
            for (i, (f, s)) in fast[out].chunks(size).zip(slow[out].chunks(size)).enumerate() {
                assert!(
                    agree(access.elem, style, f, s),
                    "seed {seed}, {isa:?}, {parts} parts, output {out} element {i}: {f:?} {:?}, expected {s:?} {:?}\n{:#?}\n{:?} {:?} {:?}",
                    number(access.elem, f),
                    number(access.elem, s),
                    case.program,
                    case.dims,
                    case.reads,
                    case.writes,
                );
            }
        }
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
