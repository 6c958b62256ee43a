//! Reductions against hand-computed values.

use super::{Case, access, bytes_of, isas, to_f32, to_f64, to_i64};
use crate::elem::ElemType::{self, F32, F64, I32, I64};
use crate::tile::{BinaryOp, Instr, Lane, Reduce, ReduceOp, TileProgram, UnaryOp};

fn folding(op: ReduceOp, elem: ElemType, dims: &[i64], strides: &[i64], input: Vec<u8>) -> Case {
    let kept: Vec<i64> = dims[..dims.len() - 1].to_vec();
    let points: i64 = kept.iter().product();
    let out = match (op.is_arg(), elem) {
        (true, _) => I64,
        (false, elem) => elem,
    };
    Case {
        program: TileProgram {
            body: vec![Instr::Load { arg: 0 }],
            reduce_rank: 1,
            reduces: vec![Reduce { op, src: 0 }],
            epilogue: vec![Instr::Store { out: 0, src: 0 }],
        },
        dims: dims.to_vec(),
        reads: vec![access(elem, 0, strides)],
        inputs: vec![input],
        writes: vec![super::dense(out, &kept)],
        outputs: vec![vec![0; points as usize * out.size()]],
    }
}

/// Folds each of the rows, both as rows and as columns of the transposed matrix.
fn rows_and_columns(op: ReduceOp, rows: &[&[f32]]) -> Vec<Vec<u8>> {
    let (m, n) = (rows.len() as i64, rows[0].len() as i64);
    let row_major = bytes_of!(rows.concat());
    let columns: Vec<f32> = (0..rows[0].len()).flat_map(|c| rows.iter().map(move |r| r[c])).collect();
    let mut results = Vec::new();
    for isa in isas() {
        results.push(folding(op, F32, &[m, n], &[n, 1], row_major.clone()).fast(isa, 1).remove(0));
        results.push(folding(op, F32, &[m, n], &[1, m], bytes_of!(columns)).fast(isa, 2).remove(0));
    }
    results.push(folding(op, F32, &[m, n], &[n, 1], row_major).slow().remove(0));
    results
}

#[test]
fn values() {
    let nan = f32::NAN;
    let rows: [&[f32]; 3] = [&[3.0, -1.0, 2.0, 3.0], &[-0.0, 0.0, -0.0, -2.0], &[1.0, nan, 5.0, nan]];
    let cases: [(ReduceOp, [f32; 3]); 4] = [
        (ReduceOp::Sum, [7.0, -2.0, nan]),
        (ReduceOp::Prod, [-18.0, -0.0, nan]),
        (ReduceOp::Max, [3.0, 0.0, nan]),
        (ReduceOp::Min, [-1.0, -2.0, nan]),
    ];
    for (op, expected) in cases {
        for result in rows_and_columns(op, &rows) {
            for (got, expected) in to_f32(&result).into_iter().zip(expected) {
                assert!(
                    got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan()),
                    "{op:?} {got}"
                );
            }
        }
    }
}

#[test]
fn positions() {
    let nan = f32::NAN;
    let rows: [&[f32]; 3] = [&[3.0, -1.0, 3.0, -1.0], &[0.0, -0.0, 0.0, -0.0], &[1.0, nan, 5.0, nan]];
    let cases = [
        (ReduceOp::ArgMaxFirst, [0, 0, 1]),
        (ReduceOp::ArgMaxLast, [2, 3, 3]),
        (ReduceOp::ArgMinFirst, [1, 0, 1]),
        (ReduceOp::ArgMinLast, [3, 3, 3]),
    ];
    for (op, expected) in cases {
        for result in rows_and_columns(op, &rows) {
            assert_eq!(to_i64(&result), expected, "{op:?}");
        }
    }
}

#[test]
fn positions_in_long_rows() {
    // Ties in different blocks, and rows of -infinity.
    let mut values = vec![0.0f32; 2000];
    (values[700], values[1500]) = (9.0, 9.0);
    let low = vec![f32::NEG_INFINITY; 2000];
    for (op, expected) in [(ReduceOp::ArgMaxFirst, [700, 0]), (ReduceOp::ArgMaxLast, [1500, 1999])] {
        for result in rows_and_columns(op, &[&values, &low]) {
            assert_eq!(to_i64(&result), expected, "{op:?}");
        }
    }
}

#[test]
fn empty_folds_give_the_identity() {
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
        let expected = match op {
            ReduceOp::Sum => 0.0,
            ReduceOp::Prod => 1.0,
            ReduceOp::Max => f32::NEG_INFINITY,
            _ => f32::INFINITY,
        };
        let case = folding(op, F32, &[3, 0], &[5, 1], vec![]);
        for isa in isas() {
            assert_eq!(to_f32(&case.fast(isa, 2)[0]), [expected; 3], "{op:?}");
        }
        assert_eq!(to_f32(&case.slow()[0]), [expected; 3], "{op:?}");
    }
    let arg = folding(ReduceOp::ArgMinLast, F32, &[2, 0], &[0, 1], vec![]);
    assert_eq!(to_i64(&arg.fast(isas()[0], 1)[0]), [0, 0]);
    for (op, expected) in [(ReduceOp::Max, i64::MIN), (ReduceOp::Min, i64::MAX), (ReduceOp::Prod, 1)] {
        assert_eq!(to_i64(&folding(op, I64, &[1, 0], &[0, 1], vec![]).fast(isas()[0], 1)[0]), [expected]);
    }
}

#[test]
fn integers_wrap() {
    let values = [i32::MAX, 1, 5];
    let case = folding(ReduceOp::Sum, I32, &[3], &[1], bytes_of!(values));
    assert_eq!(case.fast(isas()[0], 1)[0], (i32::MIN + 5).to_ne_bytes());
    let case = folding(ReduceOp::Prod, I64, &[3], &[1], bytes_of!([i64::MAX, 2, 3]));
    assert_eq!(to_i64(&case.fast(isas()[0], 3)[0]), [i64::MAX.wrapping_mul(6)]);
}

#[test]
fn products_of_many_floats() {
    let values: Vec<f64> = (0..300).map(|i| if i % 2 == 0 { 1.5 } else { 0.75 }).collect();
    let exact: f64 = (0..150).map(|_| 1.125f64).product();
    for isa in isas() {
        let case = folding(ReduceOp::Prod, F64, &[300], &[1], bytes_of!(values));
        assert!((to_f64(&case.fast(isa, 1)[0])[0] / exact - 1.0).abs() < 1e-13);
    }
}

#[test]
fn a_million_tenths_sum_to_the_last_bit() {
    let values = vec![0.1f32; 1_000_000];
    let exact = (f64::from(0.1f32) * 1e6) as f32;
    for isa in isas() {
        let rows = folding(ReduceOp::Sum, F32, &[1_000_000], &[1], bytes_of!(values));
        assert_eq!(to_f32(&rows.fast(isa, 2)[0]), [exact]);
        let columns = folding(ReduceOp::Sum, F32, &[20, 50_000], &[1, 20], bytes_of!(values));
        let exact = (f64::from(0.1f32) * 5e4) as f32;
        assert_eq!(to_f32(&columns.fast(isa, 2)[0]), [exact; 20]);
    }
}

/// Mean and standard deviation of rows with an offset much larger than their spread, and a normalised index.
#[test]
fn moments_through_body_and_epilogue() {
    let (m, n) = (7, 600);
    let values: Vec<f32> = (0..m * n).map(|i| 1000.0 + (i % 600) as f32 * 0.01).collect();
    let program = TileProgram {
        body: vec![
            Instr::Load { arg: 0 },
            Instr::Convert { to: Lane::F64, src: 0 },
            Instr::Binary(BinaryOp::Mul, 1, 1),
        ],
        reduce_rank: 1,
        reduces: vec![Reduce { op: ReduceOp::Sum, src: 0 }, Reduce { op: ReduceOp::Sum, src: 2 }],
        epilogue: vec![
            Instr::Convert { to: Lane::F64, src: 0 },
            Instr::Const { lane: Lane::F64, bits: (n as f64).recip().to_bits() },
            Instr::Binary(BinaryOp::Mul, 1, 3),
            Instr::Unary(UnaryOp::Sqrt, 4),
            Instr::Store { out: 0, src: 0 },
            Instr::Store { out: 1, src: 5 },
            Instr::Load { arg: 1 },
            Instr::Index { dim: 0 },
            Instr::Convert { to: Lane::F32, src: 9 },
            Instr::Binary(BinaryOp::Add, 8, 10),
            Instr::Store { out: 2, src: 11 },
        ],
    };
    let dims = vec![m as i64, n as i64];
    let case = Case {
        program,
        reads: vec![super::dense(F32, &dims), access(F32, 0, &[1, 0])],
        inputs: vec![bytes_of!(values), bytes_of!((0..m).map(|i| i as f32 * 0.5).collect::<Vec<_>>())],
        writes: vec![access(F32, 0, &[1]), access(F64, 0, &[1]), access(F32, 0, &[1])],
        outputs: vec![vec![0; m * 4], vec![0; m * 8], vec![0; m * 4]],
        dims,
    };
    let row: Vec<f64> = values[..n].iter().map(|&v| f64::from(v)).collect();
    let sum = row.iter().sum::<f64>() as f32;
    let rms = (row.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
    for isa in isas() {
        for parts in [1, 3] {
            let out = case.fast(isa, parts);
            assert_eq!(to_f32(&out[0]), vec![sum; m]);
            assert!(to_f64(&out[1]).iter().all(|x| (x / rms - 1.0).abs() < 1e-14));
            assert_eq!(to_f32(&out[2]), (0..m).map(|i| i as f32 * 1.5).collect::<Vec<_>>());
        }
    }
}
