//! What every provider of compiled loops has to get right. A check fails by panicking; loops that the provider
//! declines are counted.

use super::shared::{halves, in_place};
use super::{BINARY, Case, LANES, Recipe, Rng, Style, UNARY, agree, case};
use crate::elem::ElemType::{self, F32, F64, I64, U64};
use crate::tile::native::{CodeCache, Declined};
use crate::tile::{BinaryOp, ConcreteAccess, Instr, Lane, TileIsa, TileProgram, UnaryOp};
use std::collections::BTreeMap;

/// How many loops were compiled, and why others were not.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Compiled, and right.
    pub compiled: usize,
    /// Declined, by reason.
    pub declined: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn check(&mut self, case: &Case, code: &CodeCache, style: Style, what: &str) {
        match compare(case, code, style, what) {
            Ok(()) => self.compiled += 1,
            Err(why) => *self.declined.entry(why.0).or_default() += 1,
        }
    }
}

/// Compares compiled results with the scalar interpreter's; fails if they differ.
///
/// # Errors
/// The loop was not compiled.
pub fn compare(case: &Case, code: &CodeCache, style: Style, what: &str) -> Result<(), Declined> {
    for parts in 1..=2 {
        let fast = case.compiled(code, TileIsa::detect(), parts)?;
        let slow = case.slow();
        case.assert_agree((&fast, &slow), style, &format!("{what}, {parts} parts"));
    }
    Ok(())
}

/// Random programs.
pub fn random(code: &CodeCache, recipe: &Recipe<'_>, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let case = case(&mut Rng::new(seed), recipe);
        tally.check(&case, code, recipe.style, &format!("seed {seed}"));
    }
    tally
}

/// Random programs whose output lies over their arguments, or whose outputs are parts of one value.
pub fn shared(code: &CodeCache, recipe: &Recipe<'_>, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let make = if seed % 2 == 0 { in_place } else { halves };
        let Some(case) = make(&mut Rng::new(seed), recipe) else { continue };
        let mut plan = case.plan();
        if let Err(why) = plan.compile(code, TileIsa::detect(), u64::MAX) {
            *tally.declined.entry(why.0).or_default() += 1;
            continue;
        }
        let (slow, elem) = (case.slow(), case.case.writes[0].elem);
        for parts in 1..=3 {
            let fast = case.run(&plan, TileIsa::detect(), parts);
            for (f, s) in fast.chunks(elem.size()).zip(slow.chunks(elem.size())) {
                assert!(agree(elem, recipe.style, f, s), "seed {seed}, {parts} parts: {case:#?}");
            }
        }
        tally.compiled += 1;
    }
    tally
}

/// Lengths on both sides of an iteration and of several.
pub const LENGTHS: [i64; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 23, 24, 31, 33, 47, 64, 66, 67];

/// Values where operations have corners.
const SPECIAL: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-40,
    -1e-45,
    3.4e38,
    -3.4e38,
    88.9,
    -104.5,
    4.0,
    3.92,
    9.0,
    -9.1,
    1e10,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1.1754943508222875e-38,
];

fn special(lane: Lane) -> (ElemType, Vec<u8>) {
    let integers = [0, 1, -1, 2, 63, 64, -64, i64::MIN, i64::MAX, 1 << 32, -(1 << 31), 12345, 3];
    match lane {
        Lane::F32 => (F32, SPECIAL.iter().flat_map(|x| (*x as f32).to_ne_bytes()).collect()),
        Lane::F64 => (F64, SPECIAL.iter().flat_map(|x| x.to_ne_bytes()).collect()),
        Lane::I64 => (I64, integers.iter().flat_map(|x| x.to_ne_bytes()).collect()),
        Lane::U64 => (U64, integers.iter().flat_map(|x| x.to_ne_bytes()).collect()),
    }
}

fn native(lane: Lane) -> ElemType {
    special(lane).0
}

/// A map over dense outputs of the given extents.
pub fn one_output(
    body: Vec<Instr>,
    dims: &[i64],
    reads: Vec<(ElemType, &[i64], Vec<u8>)>,
    out: ElemType,
) -> Case {
    let points: i64 = dims.iter().product();
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    let access = |elem, strides: &[i64]| ConcreteAccess { elem, offset: 0, strides: strides.to_vec() };
    Case {
        program: TileProgram { body, ..TileProgram::default() },
        dims: dims.to_vec(),
        reads: reads.iter().map(|(elem, strides, _)| access(*elem, strides)).collect(),
        inputs: reads.into_iter().map(|(_, _, bytes)| bytes).collect(),
        writes: vec![access(out, &strides)],
        outputs: vec![vec![0x5A; points as usize * out.size()]],
    }
}

/// Every operation and conversion of every lane type.
pub fn every_operation_at_special_values(code: &CodeCache) -> Tally {
    let mut tally = Tally::default();
    for lane in LANES {
        let (elem, bytes) = special(lane);
        let n = (bytes.len() / elem.size()) as i64;
        for op in UNARY.into_iter().filter(|op| op.accepts(lane)) {
            let body = vec![Instr::Load { arg: 0 }, Instr::Unary(op, 0), Instr::Store { out: 0, src: 1 }];
            let case = one_output(body, &[n], vec![(elem, &[1], bytes.clone())], native(op.result(lane)));
            tally.check(&case, code, Style::Wild, &format!("{op:?} {lane:?}"));
        }
        for op in BINARY.into_iter().filter(|op| op.accepts(lane)) {
            let body = vec![
                Instr::Load { arg: 0 },
                Instr::Load { arg: 1 },
                Instr::Binary(op, 0, 1),
                Instr::Store { out: 0, src: 2 },
            ];
            let reads = vec![(elem, &[1, 0][..], bytes.clone()), (elem, &[0, 1][..], bytes.clone())];
            let case = one_output(body, &[n, n], reads, native(op.result(lane)));
            tally.check(&case, code, Style::Wild, &format!("{op:?} {lane:?}"));
        }
        for to in LANES {
            let body =
                vec![Instr::Load { arg: 0 }, Instr::Convert { to, src: 0 }, Instr::Store { out: 0, src: 1 }];
            let case = one_output(body, &[n], vec![(elem, &[1], bytes.clone())], native(to));
            tally.check(&case, code, Style::Wild, &format!("{lane:?} to {to:?}"));
        }
    }
    tally
}

/// A maximum or minimum with a constant has a short form; it must not change zeros and NaN.
pub fn bounds_that_are_constants(code: &CodeCache) -> Tally {
    let mut tally = Tally::default();
    for lane in [Lane::F32, Lane::F64] {
        let (elem, bytes) = special(lane);
        let n = (bytes.len() / elem.size()) as i64;
        for bound in [0.0, -0.0, 6.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let bits = if lane == Lane::F32 { u64::from((bound as f32).to_bits()) } else { bound.to_bits() };
            for op in [BinaryOp::Max, BinaryOp::Min] {
                for [a, b] in [[0, 1], [1, 0]] {
                    let constant = Instr::Const { lane, bits };
                    let (op, store) = (Instr::Binary(op, a, b), Instr::Store { out: 0, src: 2 });
                    let body = vec![Instr::Load { arg: 0 }, constant, op, store];
                    let case = one_output(body, &[n], vec![(elem, &[1], bytes.clone())], elem);
                    tally.check(&case, code, Style::Wild, &format!("{op:?} {bound}"));
                }
            }
        }
    }
    tally
}

/// Polynomials over a dense range, every one of whose results must have the interpreter's bits.
pub fn functions_of_f32_have_the_bits_of_the_interpreter(code: &CodeCache) -> Tally {
    let mut tally = Tally::default();
    let n = 20_000;
    let values = (0..n).flat_map(|i| ((i as f32 / n as f32 - 0.5) * 220.0).to_ne_bytes());
    let mut bytes: Vec<u8> = values.collect();
    bytes.extend((0..n as u32).flat_map(|i| (i * 214_748).to_ne_bytes()));
    for op in [UnaryOp::Exp, UnaryOp::Log, UnaryOp::Erf, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Round] {
        let body = vec![Instr::Load { arg: 0 }, Instr::Unary(op, 0), Instr::Store { out: 0, src: 1 }];
        let case = one_output(body, &[2 * n], vec![(F32, &[1], bytes.clone())], F32);
        tally.check(&case, code, Style::Wild, &format!("{op:?}"));
    }
    tally
}
