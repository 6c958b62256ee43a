//! Movement of data: copies, broadcasts, transpositions, partition into parts.

use super::{Case, ELEMS, Rng, access, bytes_of, isas, to_f32, to_i64};
use crate::elem::ElemType::{self, Bool, F16, F32, I4, I64, U4};
use crate::tile::exec::TilePlan;
use crate::tile::{BinaryOp, Instr, TileProgram, UnaryOp};

fn copy(
    elem: ElemType,
    dims: &[i64],
    read: (i64, &[i64]),
    write: (i64, &[i64]),
    input: Vec<u8>,
    out: usize,
) -> Case {
    Case {
        program: TileProgram {
            body: vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }],
            ..TileProgram::default()
        },
        dims: dims.to_vec(),
        reads: vec![access(elem, read.0, read.1)],
        inputs: vec![input],
        writes: vec![access(elem, write.0, write.1)],
        outputs: vec![vec![0xEE; out * elem.size()]],
    }
}

/// Naive copy of bytes.
fn expected(case: &Case) -> Vec<u8> {
    let size = case.reads[0].elem.size();
    let mut out = case.outputs[0].clone();
    let points: i64 = case.dims.iter().product();
    for p in 0..points {
        let (mut rest, mut from, mut to) = (p, case.reads[0].offset, case.writes[0].offset);
        for d in (0..case.dims.len()).rev() {
            let i = rest % case.dims[d];
            rest /= case.dims[d];
            from += i * case.reads[0].strides[d];
            to += i * case.writes[0].strides[d];
        }
        let (from, to) = (from as usize * size, to as usize * size);
        out[to..to + size].copy_from_slice(&case.inputs[0][from..from + size]);
    }
    out
}

#[test]
fn copies_of_every_element_type_preserve_bits() {
    let mut rng = Rng::new(5);
    for elem in ELEMS {
        let mut random = |n: usize| (0..n * elem.size()).map(|_| rng.bits() as u8).collect::<Vec<u8>>();
        let cases = [
            copy(elem, &[1000], (0, &[1]), (0, &[1]), random(1000), 1000),
            copy(elem, &[37, 41], (0, &[1, 37]), (0, &[41, 1]), random(37 * 41), 37 * 41),
            copy(elem, &[80, 64], (0, &[1, 80]), (3, &[70, 1]), random(80 * 64), 3 + 80 * 70),
            copy(elem, &[5, 33], (4, &[0, -1]), (0, &[33, 1]), random(40), 5 * 33),
            copy(elem, &[9, 3], (0, &[0, 0]), (0, &[3, 1]), random(1), 27),
            copy(elem, &[9, 31], (0, &[31, 1]), (1, &[1, 9]), random(9 * 31), 9 * 31 + 1),
            copy(elem, &[7, 5, 6], (0, &[1, 7, 35]), (0, &[60, 12, 2]), random(210), 420),
        ];
        for (i, mut case) in cases.into_iter().enumerate() {
            if case.reads[0].strides == [0, -1] {
                case.reads[0].offset = 36;
            }
            let expected = expected(&case);
            for isa in isas() {
                for parts in [1, 2, 5] {
                    assert_eq!(case.fast(isa, parts)[0], expected, "{elem:?} case {i}");
                }
            }
            assert_eq!(case.slow()[0], expected, "{elem:?} case {i}");
        }
    }
}

#[test]
fn transposition_with_arithmetic() {
    let (m, n) = (100i64, 75i64);
    for (elem, store) in [(F32, F32), (F16, F32), (F32, F16)] {
        let value = |i: i64| (i % 511) as f32 * 0.25;
        let encode = |elem, x: f32| {
            if elem == F32 { x.to_ne_bytes().to_vec() } else { half::f16::from_f32(x).to_ne_bytes().to_vec() }
        };
        let mut case = copy(elem, &[m, n], (0, &[1, m]), (0, &[n, 1]), vec![], 0);
        case.program.body = vec![
            Instr::Load { arg: 0 },
            Instr::Unary(UnaryOp::Neg, 0),
            Instr::Store { out: 0, src: 1 },
            Instr::Store { out: 1, src: 0 },
        ];
        case.inputs[0] = (0..m * n).flat_map(|i| encode(elem, value(i))).collect();
        case.writes = vec![access(store, 0, &[n, 1]), access(store, 0, &[1, m])];
        case.outputs = vec![vec![0; (m * n) as usize * store.size()]; 2];
        let transposed: Vec<u8> = (0..m * n).flat_map(|i| encode(store, -value(i % n * m + i / n))).collect();
        let straight: Vec<u8> = (0..m * n).flat_map(|i| encode(store, value(i))).collect();
        for isa in isas() {
            for parts in [1, 3] {
                let out = case.fast(isa, parts);
                assert!(out[0] == transposed && out[1] == straight, "{elem:?} {store:?} {isa:?}");
            }
        }
    }
}

#[test]
fn broadcasts() {
    let add = vec![
        Instr::Load { arg: 0 },
        Instr::Load { arg: 1 },
        Instr::Load { arg: 2 },
        Instr::Binary(BinaryOp::Add, 0, 1),
        Instr::Binary(BinaryOp::Add, 3, 2),
        Instr::Store { out: 0, src: 4 },
    ];
    for (m, n) in [(3, 700), (700, 3), (40, 40), (1, 9), (9, 1)] {
        let case = Case {
            program: TileProgram { body: add.clone(), ..TileProgram::default() },
            dims: vec![m, n],
            reads: vec![access(F32, 0, &[0, 1]), access(F32, 0, &[1, 0]), access(F32, 0, &[0, 0])],
            inputs: vec![
                bytes_of!((0..n).map(|i| i as f32).collect::<Vec<_>>()),
                bytes_of!((0..m).map(|i| i as f32 * 1000.0).collect::<Vec<_>>()),
                bytes_of!([0.5f32]),
            ],
            writes: vec![access(F32, 0, &[n, 1])],
            outputs: vec![vec![0; (m * n * 4) as usize]],
        };
        let expected: Vec<f32> = (0..m * n).map(|i| (i % n) as f32 + (i / n) as f32 * 1000.0 + 0.5).collect();
        for isa in isas() {
            for parts in [1, 2, 7] {
                assert_eq!(to_f32(&case.fast(isa, parts)[0]), expected, "{m} {n} {isa:?} {parts}");
            }
        }
    }
}

#[test]
fn indices() {
    let body = vec![
        Instr::Index { dim: 0 },
        Instr::Index { dim: 1 },
        Instr::Index { dim: 2 },
        Instr::Binary(BinaryOp::Shl, 0, 1),
        Instr::Binary(BinaryOp::Sub, 3, 2),
        Instr::Store { out: 0, src: 4 },
    ];
    for dims in [[5, 4, 3], [2, 3, 600], [1, 7, 1], [600, 2, 2]] {
        let case = Case {
            program: TileProgram { body: body.clone(), ..TileProgram::default() },
            dims: dims.to_vec(),
            reads: vec![],
            inputs: vec![],
            writes: vec![super::dense(I64, &dims)],
            outputs: vec![vec![0; (dims.iter().product::<i64>() * 8) as usize]],
        };
        let [_, b, c] = dims;
        let expected: Vec<i64> =
            (0..dims.iter().product()).map(|i| ((i / (b * c)) << (i / c % b)) - i % c).collect();
        for isa in isas() {
            assert_eq!(to_i64(&case.fast(isa, 3)[0]), expected, "{dims:?}");
        }
    }
}

/// Through a `Round` that changes nothing, so that the elements are widened and narrowed.
#[test]
fn loads_normalise_bools_and_nibbles() {
    for (elem, input, output) in [
        (Bool, vec![0, 1, 2, 255], vec![0, 1, 1, 1]),
        (I4, vec![0x07, 0x08, 0x0F, 0xFF], vec![7, 0xF8, 0xFF, 0xFF]),
        (U4, vec![0x07, 0x08, 0x0F, 0xFF], vec![7, 8, 15, 15]),
        (ElemType::I2, vec![1, 2, 3, 0xFF], vec![1, 0xFE, 0xFF, 0xFF]),
        (ElemType::U2, vec![1, 2, 3, 0xFF], vec![1, 2, 3, 3]),
    ] {
        let mut case = copy(elem, &[4], (0, &[1]), (0, &[1]), input, 4);
        case.program.body = vec![
            Instr::Load { arg: 0 },
            Instr::Round { elem, saturate: true, src: 0 },
            Instr::Store { out: 0, src: 1 },
        ];
        for isa in isas() {
            assert_eq!(case.fast(isa, 1)[0], output, "{elem:?}");
        }
        assert_eq!(case.slow()[0], output, "{elem:?}");
    }
}

#[test]
fn values_at_odd_addresses() {
    let values: Vec<f32> = (0..300).map(|i| i as f32).collect();
    let mut input = vec![0u8];
    input.extend(bytes_of!(values));
    let mut output = vec![0u8; 1201];
    let program = TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Neg, 0), Instr::Store { out: 0, src: 1 }],
        ..TileProgram::default()
    };
    let dense = access(F32, 0, &[1]);
    let plan = TilePlan::new(
        &program,
        &[300],
        std::slice::from_ref(&dense),
        std::slice::from_ref(&dense),
        &[300],
        &[300],
    );
    for skip in [0, 1] {
        // SAFETY: `output` outlives the call and nothing else uses it meanwhile.
        let shared = unsafe { super::SharedBytes::new(output.as_mut_ptr().add(skip), 1200) };
        let mut scratch = super::TileScratch::new();
        // SAFETY: as above, and the input is only read.
        let input = unsafe { super::SharedBytes::new(input.as_ptr().add(1).cast_mut(), input.len() - 1) };
        super::exec::run(plan.as_ref().unwrap(), isas()[0], &mut scratch, &[input], &[shared], 0, 1).unwrap();
        let expected: Vec<f32> = values.iter().map(|x| -x).collect();
        assert_eq!(to_f32(&output[skip..skip + 1200]), expected);
    }
}

#[test]
fn empty_extents_do_nothing() {
    let case = copy(F32, &[3, 0], (0, &[0, 1]), (0, &[0, 1]), vec![], 2);
    assert_eq!(case.fast(isas()[0], 2)[0], [0xEE; 8]);
    assert!(case.plan().unwrap().is_empty());
}
