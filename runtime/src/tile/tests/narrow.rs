//! Rounding to narrow floats: f16 and bf16 against the `half` crate, the one-byte types against their tables.

use crate::elem::ElemType::{self, F4E2M1, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0};
use crate::tile::narrow::{self, E2M1, E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ};
use crate::tile::scalar::decode_byte;

fn encode(elem: ElemType, x: f32, saturate: bool) -> u32 {
    match elem {
        F8E4M3FN => E4M3FN.encode(x, saturate),
        F8E4M3FNUZ => E4M3FNUZ.encode(x, saturate),
        F8E5M2 => E5M2.encode(x, saturate),
        F8E5M2FNUZ => E5M2FNUZ.encode(x, saturate),
        F4E2M1 => E2M1.encode(x, saturate),
        _ => narrow::encode_e8m0(x, saturate),
    }
}

#[test]
fn half_floats_decode_as_the_half_crate_does() {
    for code in 0..=u16::MAX {
        let (ours, theirs) = (narrow::decode_f16(code), half::f16::from_bits(code).to_f32());
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{code:x}");
        let (ours, theirs) = (narrow::decode_bf16(code), half::bf16::from_bits(code).to_f32());
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{code:x}");
    }
}

#[test]
fn half_floats_encode_as_the_half_crate_does() {
    // Every code, its neighbours and the midpoints to the next code, in f32.
    let near = (0..=u16::MAX).flat_map(|code| {
        let at = half::f16::from_bits(code).to_f32().to_bits();
        [at, at ^ 1, at.wrapping_add(0x1000), at.wrapping_add(0x0FFF), at.wrapping_add(0x1001)]
    });
    for bits in (0..u32::MAX).step_by(499).chain(near) {
        let x = f32::from_bits(bits);
        let (ours, theirs) = (half::f16::from_bits(narrow::encode_f16(x)), half::f16::from_f32(x));
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{x:e}");
        let (ours, theirs) = (half::bf16::from_bits(narrow::encode_bf16(x)), half::bf16::from_f32(x));
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{x:e}");
    }
}

#[test]
fn known_f16_and_bf16() {
    let cases =
        [(1.0, 0x3C00), (65504.0, 0x7BFF), (65519.0, 0x7BFF), (65520.0, 0x7C00), (-2.0, 0xC000), (6e-8, 1)];
    for (x, code) in cases {
        assert_eq!(narrow::encode_f16(x), code, "{x}");
    }
    for (x, code) in [(1.0, 0x3F80), (1.003_906_3, 0x3F80), (1.011_718_8, 0x3F82), (f32::MAX, 0x7F80)] {
        assert_eq!(narrow::encode_bf16(x), code, "{x}");
    }
}

#[test]
fn every_code_decodes_by_its_definition_and_encodes_to_itself() {
    for elem in [F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1] {
        let codes = if elem == F4E2M1 { 16 } else { 256 };
        for code in 0..codes {
            let value = narrow::byte_table(elem)[code as usize];
            let expected = decode_byte(elem, code as u8);
            assert!(
                f64::from(value) == expected || (value.is_nan() && expected.is_nan()),
                "{elem:?} {code:x}"
            );
            if value.is_finite() {
                assert_eq!(encode(elem, value, true), code, "{elem:?} {value}");
                assert_eq!(encode(elem, value, false), code, "{elem:?} {value}");
            }
        }
    }
}

/// `(x, saturated, not saturated)`.
fn check(elem: ElemType, table: &[(f32, u32, u32)]) {
    for &(x, saturated, not) in table {
        assert_eq!(encode(elem, x, true), saturated, "{elem:?} of {x} saturated");
        assert_eq!(encode(elem, x, false), not, "{elem:?} of {x}");
    }
}

#[test]
fn casts_to_e4m3_follow_the_tables_of_onnx() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    check(
        F8E4M3FN,
        &[
            (0.0, 0, 0),
            (-0.0, 0x80, 0x80),
            (nan, 0x7F, 0x7F),
            (inf, 0x7E, 0x7F),
            (-inf, 0xFE, 0xFF),
            (448.0, 0x7E, 0x7E),
            (464.0, 0x7E, 0x7E),
            (465.0, 0x7E, 0x7F),
            (-1e30, 0xFE, 0xFF),
            (1.0, 0x38, 0x38),
            (1.0625, 0x38, 0x38),
            (1.1875, 0x3A, 0x3A),
            (0.001_953_125, 1, 1),
            (0.000_976_562_5, 0, 0),
            (0.002_929_687_5, 2, 2),
        ],
    );
    check(
        F8E4M3FNUZ,
        &[
            (0.0, 0, 0),
            (-0.0, 0, 0),
            (nan, 0x80, 0x80),
            (inf, 0x7F, 0x80),
            (-inf, 0xFF, 0x80),
            (240.0, 0x7F, 0x7F),
            (247.0, 0x7F, 0x7F),
            (248.0, 0x7F, 0x80),
            (-1e30, 0xFF, 0x80),
            (1.0, 0x40, 0x40),
            (-1e-9, 0, 0),
        ],
    );
}

#[test]
fn casts_to_e5m2_follow_the_tables_of_onnx() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    check(
        F8E5M2,
        &[
            (-0.0, 0x80, 0x80),
            (nan, 0x7F, 0x7F),
            (inf, 0x7B, 0x7C),
            (-inf, 0xFB, 0xFC),
            (57344.0, 0x7B, 0x7B),
            (61439.0, 0x7B, 0x7B),
            (61440.0, 0x7B, 0x7C),
            (1.0, 0x3C, 0x3C),
            (1.125, 0x3C, 0x3C),
            (1.375, 0x3E, 0x3E),
        ],
    );
    check(
        F8E5M2FNUZ,
        &[
            (-0.0, 0, 0),
            (nan, 0x80, 0x80),
            (inf, 0x7F, 0x80),
            (57344.0, 0x7F, 0x7F),
            (61440.0, 0x7F, 0x80),
            (1.0, 0x40, 0x40),
        ],
    );
}

#[test]
fn casts_to_e2m1_and_e8m0() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    check(
        F4E2M1,
        &[
            (nan, 8, 8),
            (inf, 7, 7),
            (-inf, 15, 15),
            (0.25, 0, 0),
            (0.75, 2, 2),
            (2.5, 4, 4),
            (3.5, 6, 6),
            (5.0, 6, 6),
            (-9.0, 15, 15),
            (-0.0, 8, 8),
        ],
    );
    check(
        F8E8M0,
        &[
            (1.0, 127, 127),
            (1.49, 127, 127),
            (1.5, 128, 128),
            (-2.0, 128, 128),
            (0.0, 0, 0),
            (nan, 255, 255),
            (inf, 255, 255),
            (f32::MAX, 254, 255),
            (f32::MIN_POSITIVE, 1, 1),
            (f32::MIN_POSITIVE * 0.5, 0, 0),
            (f32::MIN_POSITIVE * 0.75, 1, 1),
        ],
    );
}
