//! The fast executor against the scalar one on random programs.

use super::generate::{Style, case};
use super::{Case, Rng, isas};
use crate::elem::ElemType;
use crate::tile::scalar::decode_byte;

fn number(elem: ElemType, bytes: &[u8]) -> Option<f64> {
    Some(match elem {
        ElemType::F32 => f64::from(f32::from_ne_bytes(bytes.try_into().ok()?)),
        ElemType::F64 => f64::from_ne_bytes(bytes.try_into().ok()?),
        ElemType::F16 => half::f16::from_ne_bytes(bytes.try_into().ok()?).to_f64(),
        ElemType::BF16 => half::bf16::from_ne_bytes(bytes.try_into().ok()?).to_f64(),
        _ if elem >= ElemType::F8E4M3FN => decode_byte(elem, bytes[0]),
        _ => return None,
    })
}

/// Bits agree, both are NaN, or (when the order of a sum matters) the numbers are within 4 units in the last place.
fn agree(elem: ElemType, style: Style, fast: &[u8], slow: &[u8]) -> bool {
    if fast == slow {
        return true;
    }
    let (Some(a), Some(b)) = (number(elem, fast), number(elem, slow)) else { return false };
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let ulp = match elem {
        ElemType::F64 => 1e-12,
        ElemType::F32 => 1.2e-7,
        ElemType::F16 => 1e-3,
        _ => 0.25,
    };
    style == Style::Tame && ((a - b).abs() <= 1e-10 || (a - b).abs() <= 4.0 * ulp * a.abs().max(b.abs()))
}

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
        compare(&case(&mut Rng::new(seed), Style::Wild, 2500), Style::Wild, seed);
    }
}

#[test]
fn programs_with_float_sums_agree_within_rounding() {
    for seed in 0..800 {
        compare(&case(&mut Rng::new(77_000 + seed), Style::Tame, 2500), Style::Tame, seed);
    }
}

#[test]
fn large_programs_agree() {
    for seed in 0..60 {
        compare(&case(&mut Rng::new(555_000 + seed), Style::Wild, 60_000), Style::Wild, seed);
    }
}
