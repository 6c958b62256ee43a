//! The x86-64 emitter against the scalar interpreter.
#![cfg(all(target_arch = "x86_64", not(windows)))]

use crate::cpu::emit::Emitter;
use crate::elem::ElemType::F32;
use crate::tile::native::CodeCache;
use crate::tile::testing::checks::{self, LENGTHS, Tally};
use crate::tile::testing::{Recipe, Style};
use crate::tile::{BinaryOp, Instr, Lane, TileIsa, UnaryOp};
use std::sync::Arc;

fn code() -> Option<CodeCache> {
    TileIsa::Avx2.is_supported().then(|| CodeCache::eager(Arc::new(Emitter)))
}

const RECIPE: Recipe<'static> = Recipe {
    style: Style::Wild,
    limit: 3000,
    elems: &[F32],
    lanes: &[Lane::F32],
    extents: &LENGTHS,
    max_rank: 3,
};

fn assert_compiled(tally: &Tally, least: usize) {
    assert!(tally.compiled >= least, "{tally:?}");
    assert!(!tally.declined.contains_key("a malformed loop"), "{tally:?}");
}

#[test]
fn random_programs_of_floats_agree_bit_for_bit() {
    let Some(code) = code() else { return };
    assert_compiled(&checks::random(&code, &RECIPE, 0..4000), 400);
}

#[test]
fn programs_of_every_type_agree_or_are_declined() {
    let Some(code) = code() else { return };
    checks::random(&code, &Recipe::new(Style::Wild, 2000), 0..400);
}

#[test]
fn outputs_over_arguments_and_parts_of_values_agree() {
    let Some(code) = code() else { return };
    assert_compiled(&checks::shared(&code, &RECIPE, 40_000..44_000), 300);
}

#[test]
fn every_length_of_a_row() {
    let Some(code) = code() else { return };
    for n in 0..67 {
        let extents = [n];
        let recipe = Recipe { extents: &extents, limit: 67, max_rank: 1, ..RECIPE };
        checks::random(&code, &recipe, 1000 * n as u64..1000 * n as u64 + 8);
    }
}

#[test]
fn operations_at_special_values() {
    let Some(code) = code() else { return };
    // 14 operations of one operand, 6 of two, and the conversion of f32 to itself.
    assert_compiled(&checks::every_operation_at_special_values(&code), 21);
    assert_compiled(&checks::bounds_that_are_constants(&code), 28);
    assert_compiled(&checks::functions_of_f32_have_the_bits_of_the_interpreter(&code), 6);
}

/// More products alive at once than there are registers.
#[test]
fn results_without_a_register_go_to_the_stack() {
    let Some(code) = code() else { return };
    let (count, n) = (40u16, 67i64);
    let mut body = vec![Instr::Load { arg: 0 }];
    for i in 0..count {
        let bits = u64::from((f32::from(i) * 0.37 - 5.0).to_bits());
        body.push(Instr::Const { lane: Lane::F32, bits });
        body.push(Instr::Binary(BinaryOp::Mul, 2 * i, 2 * i + 1));
    }
    let mut sum = 2 * count;
    for i in 0..count {
        body.push(Instr::Binary(BinaryOp::Sub, sum, 2 * i));
        body.push(Instr::Unary(UnaryOp::Sqrt, 2 * i));
        let last = body.len() as u16 - 1;
        body.push(Instr::Binary(BinaryOp::Max, last - 1, last));
        sum = last + 1;
    }
    body.push(Instr::Store { out: 0, src: sum });
    let bytes = (0..n).flat_map(|i| (i as f32 * 0.11 - 3.0).to_ne_bytes()).collect();
    let case = checks::one_output(body, &[n], vec![(F32, &[1], bytes)], F32);
    checks::compare(&case, &code, Style::Wild, "many values").unwrap();
}
