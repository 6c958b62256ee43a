//! Every operation against hand-computed values.

use super::{Case, access, isas};
use crate::elem::ElemType::{self, F32, F64, I8, I64, U8, U64};
use crate::tile::{BinaryOp, Instr, Lane, TileProgram, UnaryOp};

/// Bits of one element of each lane type.
trait Element: Copy + std::fmt::Debug {
    const ELEM: ElemType;
    fn bytes(self) -> Vec<u8>;
    fn same(bytes: &[u8], expected: Self) -> bool;
}

macro_rules! element {
    ($t:ty, $elem:expr, $a:ident, $b:ident => $same:expr) => {
        impl Element for $t {
            const ELEM: ElemType = $elem;
            fn bytes(self) -> Vec<u8> {
                self.to_ne_bytes().to_vec()
            }
            fn same(bytes: &[u8], $b: Self) -> bool {
                let $a = <$t>::from_ne_bytes(bytes.try_into().unwrap());
                $same
            }
        }
    };
}
element!(f32, F32, a, b => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (b != 0.0 && ((a - b) / b).abs() < 2e-7));
element!(f64, F64, a, b => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (b != 0.0 && ((a - b) / b).abs() < 2e-15));
element!(i64, I64, a, b => a == b);
element!(u64, U64, a, b => a == b);
element!(u8, U8, a, b => a == b);
element!(i8, I8, a, b => a == b);

/// Runs `instr` on lanes loaded from `inputs` everywhere, many copies at once, and compares.
fn check<O: Element>(instr: Instr, inputs: &[(ElemType, Vec<u8>)], expected: O) {
    const COPIES: usize = 37;
    let mut body: Vec<Instr> = (0..inputs.len()).map(|i| Instr::Load { arg: i as u16 }).collect();
    body.push(instr);
    body.push(Instr::Store { out: 0, src: inputs.len() as u16 });
    let case = Case {
        program: TileProgram { body, ..TileProgram::default() },
        dims: vec![COPIES as i64],
        reads: inputs.iter().map(|(elem, _)| access(*elem, 0, &[1])).collect(),
        inputs: inputs.iter().map(|(_, bytes)| bytes.repeat(COPIES)).collect(),
        writes: vec![access(O::ELEM, 0, &[1])],
        outputs: vec![vec![0; COPIES * O::ELEM.size()]],
    };
    let mut results: Vec<_> = isas().into_iter().map(|isa| case.fast(isa, 1).remove(0)).collect();
    results.push(case.slow().remove(0));
    for result in results {
        for bytes in result.chunks(O::ELEM.size()) {
            assert!(O::same(bytes, expected), "{instr:?} of {inputs:?}: {bytes:?}, expected {expected:?}");
        }
    }
}

fn unary<I: Element, O: Element>(op: UnaryOp, x: I, expected: O) {
    check(Instr::Unary(op, 0), &[(I::ELEM, x.bytes())], expected);
}

fn binary<I: Element, O: Element>(op: BinaryOp, x: I, y: I, expected: O) {
    check(Instr::Binary(op, 0, 1), &[(I::ELEM, x.bytes()), (I::ELEM, y.bytes())], expected);
}

macro_rules! float_unary_test {
    ($name:ident, $t:ident) => {
        #[test]
        fn $name() {
            use UnaryOp::*;
            let table: &[(UnaryOp, f64, f64)] = &[
                (Abs, -2.5, 2.5),
                (Neg, 2.5, -2.5),
                (Neg, 0.0, -0.0),
                (Sign, -7.0, -1.0),
                (Sign, 3.0, 1.0),
                (Sign, -0.0, -0.0),
                (Sign, f64::NAN, f64::NAN),
                (Ceil, 1.25, 2.0),
                (Floor, -1.25, -2.0),
                (Trunc, -1.75, -1.0),
                (Round, 2.5, 2.0),
                (Round, -3.5, -4.0),
                (Sqrt, 2.25, 1.5),
                (Sqrt, -1.0, f64::NAN),
                (Reciprocal, 4.0, 0.25),
                (Exp, 1.0, std::f64::consts::E),
                (Exp, f64::NEG_INFINITY, 0.0),
                (Exp, 1000.0, f64::INFINITY),
                (Log, 10.0, std::f64::consts::LN_10),
                (Log, 0.0, f64::NEG_INFINITY),
                (Log, -1.0, f64::NAN),
                (Log, f64::INFINITY, f64::INFINITY),
                (Erf, 1.0, 0.842_700_792_949_714_9),
                (Erf, -0.5, -0.520_499_877_813_046_5),
                (Sin, 1.0, 0.841_470_984_807_896_5),
                (Cos, 1.0, 0.540_302_305_868_139_8),
                (Tan, 1.0, 1.557_407_724_654_902_3),
                (Asin, 0.5, std::f64::consts::FRAC_PI_6),
                (Acos, 0.5, std::f64::consts::FRAC_PI_3),
                (Atan, 1.0, std::f64::consts::FRAC_PI_4),
                (Sinh, 1.0, 1.175_201_193_643_801_4),
                (Cosh, 1.0, 1.543_080_634_815_243_7),
                (Tanh, 1.0, 0.761_594_155_955_764_9),
                (Tanh, -40.0, -1.0),
                (Asinh, 1.0, 0.881_373_587_019_543),
                (Acosh, 2.0, 1.316_957_896_924_816_7),
                (Atanh, 0.5, 0.549_306_144_334_054_8),
                (Sigmoid, 0.0, 0.5),
                (Sigmoid, 1.0, 0.731_058_578_630_004_9),
            ];
            for &(op, x, expected) in table {
                unary(op, x as $t, expected as $t);
            }
            for (x, nan, pos, neg) in
                [($t::NAN, 1, 0, 0), ($t::INFINITY, 0, 1, 0), (-$t::INFINITY, 0, 0, 1), (1.0, 0, 0, 0)]
            {
                unary(IsNan, x, nan as i64);
                unary(IsPosInf, x, pos as i64);
                unary(IsNegInf, x, neg as i64);
            }
        }
    };
}
float_unary_test!(unary_f32, f32);
float_unary_test!(unary_f64, f64);

#[test]
fn unary_ints() {
    unary(UnaryOp::Abs, i64::MIN, i64::MIN);
    unary(UnaryOp::Abs, -5i64, 5i64);
    unary(UnaryOp::Neg, 5i64, -5i64);
    unary(UnaryOp::Neg, 1u64, u64::MAX);
    unary(UnaryOp::Sign, -9i64, -1i64);
    unary(UnaryOp::Sign, 9u64, 1u64);
    unary(UnaryOp::Not, 7i64, 0i64);
    unary(UnaryOp::Not, 0u64, 1i64);
    unary(UnaryOp::BitNot, 0i64, -1i64);
    unary(UnaryOp::BitNot, 1u64, u64::MAX - 1);
}

macro_rules! float_binary_test {
    ($name:ident, $t:ident) => {
        #[test]
        fn $name() {
            use BinaryOp::*;
            let nan = f64::NAN;
            let table: &[(BinaryOp, f64, f64, f64)] = &[
                (Add, 1.5, 2.0, 3.5),
                (Sub, 1.5, 2.0, -0.5),
                (Mul, 1.5, -2.0, -3.0),
                (Div, 3.0, 2.0, 1.5),
                (Div, 1.0, 0.0, f64::INFINITY),
                (FloorMod, -5.5, 2.0, 0.5),
                (FloorMod, 5.5, -2.0, -0.5),
                (FloorMod, 4.0, -2.0, -0.0),
                (FloorMod, 1.0, 0.0, nan),
                (TruncMod, -5.5, 2.0, -1.5),
                (TruncMod, 5.5, -2.0, 1.5),
                (Pow, 2.0, 10.0, 1024.0),
                (Pow, -8.0, 3.0, -512.0),
                (Max, 1.0, 2.0, 2.0),
                (Max, -0.0, 0.0, 0.0),
                (Max, 0.0, -0.0, 0.0),
                (Max, nan, 2.0, nan),
                (Max, 2.0, nan, nan),
                (Min, 1.0, 2.0, 1.0),
                (Min, 0.0, -0.0, -0.0),
                (Min, nan, 2.0, nan),
                (Min, 2.0, nan, nan),
            ];
            for &(op, x, y, expected) in table {
                binary(op, x as $t, y as $t, expected as $t);
            }
            for (x, y, flags) in [
                (1.0, 2.0, [0, 1, 1, 1, 0, 0]),
                (2.0, 2.0, [1, 0, 0, 1, 0, 1]),
                (3.0, 2.0, [0, 1, 0, 0, 1, 1]),
                (nan, 2.0, [0, 1, 0, 0, 0, 0]),
            ] {
                for (op, flag) in [Eq, Ne, Lt, Le, Gt, Ge].into_iter().zip(flags) {
                    binary(op, x as $t, y as $t, flag as i64);
                }
            }
        }
    };
}
float_binary_test!(binary_f32, f32);
float_binary_test!(binary_f64, f64);

#[test]
fn binary_i64() {
    use BinaryOp::*;
    let table = [
        (Add, i64::MAX, 1, i64::MIN),
        (Sub, i64::MIN, 1, i64::MAX),
        (Mul, 1 << 62, 4, 0),
        (Div, -7, 2, -3),
        (Div, 7, 0, 0),
        (Div, i64::MIN, -1, i64::MIN),
        (FloorMod, -7, 3, 2),
        (FloorMod, 7, -3, -2),
        (FloorMod, 6, -3, 0),
        (FloorMod, 7, 0, 0),
        (FloorMod, i64::MIN, -1, 0),
        (TruncMod, -7, 3, -1),
        (TruncMod, 7, 0, 0),
        (TruncMod, i64::MIN, -1, 0),
        (Pow, -3, 3, -27),
        (Pow, 5, 0, 1),
        (Pow, 1, -4, 1),
        (Pow, -1, -3, -1),
        (Pow, -1, -4, 1),
        (Pow, 2, -1, 0),
        (Pow, 0, -1, 0),
        (Max, -1, 1, 1),
        (Min, -1, 1, -1),
        (And, 6, 3, 2),
        (Or, 6, 3, 7),
        (Xor, 6, 3, 5),
        (Shl, 1, 63, i64::MIN),
        (Shl, 1, 64, 0),
        (Shl, 1, -1, 0),
        (Shr, -8, 1, -4),
        (Shr, -8, 64, -1),
        (Shr, 8, 64, 0),
        (Shr, -8, -1, -1),
        (Eq, 1, 1, 1),
        (Ne, 1, 1, 0),
        (Lt, -1, 1, 1),
        (Le, 1, 1, 1),
        (Gt, -1, 1, 0),
        (Ge, 1, 1, 1),
    ];
    for (op, x, y, expected) in table {
        binary(op, x, y, expected);
    }
}

#[test]
fn binary_u64() {
    use BinaryOp::*;
    let table = [
        (Add, u64::MAX, 1, 0),
        (Sub, 0, 1, u64::MAX),
        (Mul, 1 << 63, 2, 0),
        (Div, u64::MAX, 2, i64::MAX as u64),
        (Div, 7, 0, 0),
        (FloorMod, u64::MAX, 10, 5),
        (FloorMod, 7, 0, 0),
        (TruncMod, u64::MAX, 10, 5),
        (Pow, 3, 40, 12_157_665_459_056_928_801),
        (Max, 1, u64::MAX, u64::MAX),
        (Min, 1, u64::MAX, 1),
        (And, 6, 3, 2),
        (Or, 6, 3, 7),
        (Xor, 6, 3, 5),
        (Shl, 3, 63, 1 << 63),
        (Shl, 3, 64, 0),
        (Shr, u64::MAX, 63, 1),
        (Shr, u64::MAX, 64, 0),
        (Shr, u64::MAX, u64::MAX, 0),
    ];
    for (op, x, y, expected) in table {
        binary(op, x, y, expected);
    }
    for (op, flag) in [(Lt, 1i64), (Le, 1), (Gt, 0), (Ge, 0), (Eq, 0), (Ne, 1)] {
        binary(op, 1u64, u64::MAX, flag);
    }
}

fn convert<I: Element, O: Element>(x: I, expected: O) {
    check(Instr::Convert { to: Lane::of(O::ELEM), src: 0 }, &[(I::ELEM, x.bytes())], expected);
}

#[test]
fn conversions() {
    convert(1e30f32, i64::MAX);
    convert(-1e30f64, i64::MIN);
    convert(f32::NAN, 0i64);
    convert(-1.0f32, 0u64);
    convert(-1.75f64, -1i64);
    convert(1e30f64, u64::MAX);
    convert(-1i64, u64::MAX);
    convert(u64::MAX, -1i64);
    convert(16_777_217i64, 16_777_216f32);
    convert(u64::MAX, 18_446_744_073_709_551_615f64);
    convert(1e300f64, f32::INFINITY);
    convert(0.1f32, f64::from(0.1f32));
    convert(3.5f32, 3.5f32);
    // Narrowing at the store wraps.
    convert(300i64, 44i8);
    convert(-1i64, 255u8);
    convert(1e30f32, -1i8);
}

#[test]
fn selection() {
    for (cond, expected) in [(1i64, 1.5f32), (-3, 1.5), (0, 2.5)] {
        let inputs = [(I64, cond.bytes()), (F32, 1.5f32.bytes()), (F32, 2.5f32.bytes())];
        check(Instr::Select { cond: 0, a: 1, b: 2 }, &inputs, expected);
    }
    let inputs = [(I64, 1i64.bytes()), (U64, 7u64.bytes()), (U64, 8u64.bytes())];
    check(Instr::Select { cond: 0, a: 1, b: 2 }, &inputs, 7u64);
}

fn round<T: Element>(elem: ElemType, saturate: bool, x: T, expected: T) {
    check(Instr::Round { elem, saturate, src: 0 }, &[(T::ELEM, x.bytes())], expected);
}

#[test]
fn rounding() {
    use ElemType::*;
    for (elem, x, expected) in [
        (I32, 1i64 << 31, -(1i64 << 31)),
        (I16, 0x1_8000, -0x8000),
        (I8, 200, -56),
        (I4, 8, -8),
        (I4, -9, 7),
        (I2, 2, -2),
        (Bool, -4, 1),
        (Bool, 0, 0),
        (I64, i64::MIN, i64::MIN),
    ] {
        round(elem, true, x, expected);
    }
    for (elem, x, expected) in [
        (U32, u64::MAX, u64::from(u32::MAX)),
        (U16, 65_537, 1),
        (U8, 511, 255),
        (U4, 17, 1),
        (U2, 7, 3),
        (U64, 9, 9),
    ] {
        round(elem, true, x, expected);
    }
    round(F16, true, 1.000_488_3f32, 1.0);
    round(F16, true, 70000.0f32, f32::INFINITY);
    round(BF16, true, 1.01f32, 1.007_812_5);
    round(F32, true, 1.1f32, 1.1);
    round(F64, true, 1.1f64, 1.1);
    round(F8E4M3FN, true, 1000.0f32, 448.0);
    round(F8E4M3FN, false, 1000.0f32, f32::NAN);
    round(F8E4M3FNUZ, true, -1000.0f32, -240.0);
    round(F8E5M2, true, f32::INFINITY, 57344.0);
    round(F8E5M2, false, -1e9f32, f32::NEG_INFINITY);
    round(F8E5M2FNUZ, false, 1e9f32, f32::NAN);
    round(F8E5M2FNUZ, true, -0.0f32, 0.0);
    round(F8E8M0, true, 3.0f32, 4.0);
    round(F4E2M1, true, 2.4f32, 2.0);
    round(F4E2M1, true, -100.0f32, -6.0);
}
