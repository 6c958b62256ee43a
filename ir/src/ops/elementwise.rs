//! Operators that compute each element of the result from the elements at its own index.

use super::common::{Domain, fit, known, known_broadcast, require_same_dtype, work_per_element};
use super::scalar;
use super::view::View;
use crate::dim::{Dim, Extents};
use crate::dtype::DType;
use crate::encode;
use crate::op::{
    Arity, AttrKind, AttrSpec, ContentCx, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, Work,
};
use crate::tensor::{Elements, Tensor};

type Types = Result<Vec<TensorType>, OpError>;
type Tensors = Result<Vec<Tensor>, OpError>;
type IntUnary = fn(DType, i128) -> i128;
type IntBinary = fn(DType, i128, i128) -> i128;

fn infer_unary(cx: &InferCx<'_>, domain: Domain, to: Option<DType>) -> Types {
    let x = cx.arg(0)?;
    domain.require(x)?;
    Ok(vec![TensorType::new(to.unwrap_or(x.dtype), x.shape.clone())])
}

fn infer_binary(cx: &InferCx<'_>, domain: Domain, to: Option<DType>) -> Types {
    let (a, b) = (cx.arg(0)?, cx.arg(1)?);
    domain.require(a)?;
    require_same_dtype(a, b)?;
    Ok(vec![TensorType::new(to.unwrap_or(a.dtype), cx.broadcast(&a.shape, &b.shape)?)])
}

fn eval_unary(cx: &EvalCx<'_>, float: fn(f64) -> f64, int: IntUnary) -> Tensors {
    let x = cx.arg(0)?;
    let elements = match x.elements() {
        Elements::Float(v) => Elements::Float(v.into_iter().map(float).collect()),
        Elements::Int(v) => Elements::Int(v.into_iter().map(|e| int(x.dtype, e)).collect()),
    };
    Ok(vec![Tensor::from_elements(x.dtype, x.shape.clone(), &elements)])
}

/// Elements of argument `i`, repeated as broadcasting to the result asks.
fn spread(cx: &EvalCx<'_>, i: usize) -> Result<Elements, OpError> {
    let (x, out) = (cx.arg(i)?, cx.out(0)?);
    if x.shape == out.1 {
        return Ok(x.elements());
    }
    let indices = View::broadcast(&x.shape, &out.1).indices(x.numel())?;
    Ok(match x.elements() {
        Elements::Float(v) => Elements::Float(indices.into_iter().map(|i| v[i]).collect()),
        Elements::Int(v) => Elements::Int(indices.into_iter().map(|i| v[i]).collect()),
    })
}

fn eval_binary(cx: &EvalCx<'_>, float: fn(f64, f64) -> f64, int: IntBinary) -> Tensors {
    let (dtype, out) = (cx.arg(0)?.dtype, cx.out(0)?);
    let elements = match (spread(cx, 0)?, spread(cx, 1)?) {
        (Elements::Float(a), Elements::Float(b)) => {
            Elements::Float(a.into_iter().zip(b).map(|(a, b)| float(a, b)).collect())
        }
        (Elements::Int(a), Elements::Int(b)) => {
            Elements::Int(a.into_iter().zip(b).map(|(a, b)| int(dtype, a, b)).collect())
        }
        _ => return Err("element types differ".into()),
    };
    Ok(vec![Tensor::from_elements(out.0, out.1.clone(), &elements)])
}

fn content_unary(cx: &ContentCx<'_>, int: IntUnary, symbolic: fn(&Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
    let dtype = cx.out.dtype;
    let one = |d: &Dim| match d.as_const() {
        Some(v) => Dim::from_wrapped(dtype, int(dtype, v.into())),
        None => fit(dtype, symbolic(d)?),
    };
    known(cx, 0)?.0.iter().map(one).collect()
}

fn content_binary(
    cx: &ContentCx<'_>,
    int: IntBinary,
    symbolic: fn(&Dim, &Dim) -> Option<Dim>,
) -> Option<Vec<Dim>> {
    let (dtype, from) = (cx.out.dtype, cx.args.first()?.dtype);
    let one = |(a, b): (&Dim, &Dim)| match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => Dim::from_wrapped(dtype, int(from, a.into(), b.into())),
        _ => fit(dtype, symbolic(a, b)?),
    };
    let (a, b) = (known_broadcast(cx, 0)?, known_broadcast(cx, 1)?);
    a.iter().zip(&b).map(one).collect()
}

/// Whether it cannot be negative.
fn is_natural(d: &Dim) -> bool {
    d.range(&Extents).0 >= 0
}

/// Truncating quotient, where it is the floor or exact.
fn dim_div(a: &Dim, b: &Dim) -> Option<Dim> {
    let divisor = b.as_const().filter(|d| *d != 0)?;
    if let Some(exact) = a.exact_div(b) {
        return Some(exact);
    }
    (divisor > 0 && is_natural(a)).then(|| a.floor_div(b))?
}

/// Remainder by a positive constant, with its sign.
fn dim_floor_mod(a: &Dim, b: &Dim) -> Option<Dim> {
    b.as_const()?;
    a.modulo(b)
}

/// Remainder with the sign of the dividend, where that is not negative.
fn dim_trunc_mod(a: &Dim, b: &Dim) -> Option<Dim> {
    is_natural(a).then(|| dim_floor_mod(a, b))?
}

/// 1 if `a < b`: the difference of integers cut to 0..=1.
fn dim_lt(a: &Dim, b: &Dim) -> Dim {
    (b - a).smaller(&1.into()).larger(&0.into())
}

fn complement(d: &Dim) -> Dim {
    &Dim::from(1) - d
}

macro_rules! unary {
    ($($id:ident $name:literal $domain:ident, $doc:literal, $float:expr, $int:expr, $content:expr, $samples:expr;)*) => { $(
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            arity: Arity::exactly(1),
            attrs: &[],
            class: Fusion::Elementwise,
            infer: |cx| infer_unary(cx, Domain::$domain, None),
            eval: |cx| eval_unary(cx, $float, $int),
            content: $content,
            work: work_per_element,
            samples: $samples,
        };
    )* };
}

macro_rules! float_unary {
    ($($id:ident $name:literal $doc:literal $float:expr;)*) => {
        unary! { $($id $name Float, $doc, $float, |_, x| x, None, &["f32[2,N]", "f16[]"];)* }
    };
}

float_unary! {
    CEIL "ceil" "The smallest integer that is not below." f64::ceil;
    FLOOR "floor" "The largest integer that is not above." f64::floor;
    ROUND "round" "The nearest integer, half to even." f64::round_ties_even;
    SQRT "sqrt" "Square root." f64::sqrt;
    RECIPROCAL "reciprocal" "`1 / x`." f64::recip;
    EXP "exp" "`e` to the power." f64::exp;
    LOG "log" "Natural logarithm." f64::ln;
    ERF "erf" "The error function." scalar::erf;
    SIN "sin" "Sine." f64::sin;
    COS "cos" "Cosine." f64::cos;
    TAN "tan" "Tangent." f64::tan;
    ASIN "asin" "Inverse sine." f64::asin;
    ACOS "acos" "Inverse cosine." f64::acos;
    ATAN "atan" "Inverse tangent." f64::atan;
    SINH "sinh" "Hyperbolic sine." f64::sinh;
    COSH "cosh" "Hyperbolic cosine." f64::cosh;
    TANH "tanh" "Hyperbolic tangent." f64::tanh;
    ASINH "asinh" "Inverse hyperbolic sine." f64::asinh;
    ACOSH "acosh" "Inverse hyperbolic cosine." f64::acosh;
    ATANH "atanh" "Inverse hyperbolic tangent." f64::atanh;
    SIGMOID "sigmoid" "`1 / (1 + exp(-x))`." scalar::sigmoid;
}

unary! {
    ABS "abs" Number, "Absolute value; the smallest integer wraps to itself.", f64::abs, |_, x| x.abs(),
        Some(|cx| content_unary(cx, |_, x| x.abs(), |d| is_natural(d).then(|| d.clone()))), &["f32[2,N]", "i64[N]"];
    NEG "neg" Number, "`-x`.", |x| -x, |_, x| -x,
        Some(|cx| content_unary(cx, |_, x| -x, |d| Some(&Dim::from(0) - d))), &["f32[2,N]", "i64[N]"];
    SIGN "sign" Number, "-1, 0 or 1.", scalar::sign, |_, x| x.signum(),
        Some(|cx| content_unary(cx, |_, x| x.signum(), dim_sign)), &["f32[2,N]", "i64[N]"];
    BIT_NOT "bit_not" Int, "Complement of every bit.", |x| x, |_, x| !x,
        Some(|cx| content_unary(cx, |_, x| !x, |_| None)), &["i32[2,N]", "u8[N]"];
    NOT "not" Bool, "Logical negation.", |x| x, |_, x| i128::from(x == 0),
        Some(|cx| content_unary(cx, |_, x| i128::from(x == 0), |d| Some(complement(d)))), &["bool[2,N]"];
}

fn dim_sign(d: &Dim) -> Option<Dim> {
    match d.range(&Extents) {
        (lo, _) if lo > 0 => Some(1.into()),
        (_, hi) if hi < 0 => Some((-1).into()),
        _ => None,
    }
}

/// Applies a predicate to the elements of a float tensor.
fn eval_test(cx: &EvalCx<'_>, test: impl Fn(f64) -> bool) -> Tensors {
    let x = cx.arg(0)?;
    let found = x.to_f64().into_iter().map(|e| i128::from(test(e))).collect();
    Ok(vec![Tensor::ints(DType::Bool, x.shape.clone(), found)])
}

/// Whether each element is NaN.
pub static IS_NAN: OpDef = OpDef {
    name: "is_nan",
    doc: "Whether each element is NaN.",
    arity: Arity::exactly(1),
    attrs: &[],
    class: Fusion::Elementwise,
    infer: |cx| infer_unary(cx, Domain::Float, Some(DType::Bool)),
    eval: |cx| eval_test(cx, f64::is_nan),
    content: None,
    work: work_per_element,
    samples: &["f32[2,N]"],
};

/// Whether each element is an infinity of a chosen sign.
pub static IS_INF: OpDef = OpDef {
    name: "is_inf",
    doc: "Whether each element is positive infinity (`positive`) or negative infinity (`negative`).",
    arity: Arity::exactly(1),
    attrs: &[AttrSpec::optional("positive", AttrKind::Int), AttrSpec::optional("negative", AttrKind::Int)],
    class: Fusion::Elementwise,
    infer: |cx| infer_unary(cx, Domain::Float, Some(DType::Bool)),
    eval: |cx| {
        let (positive, negative) = (cx.attrs.flag("positive"), cx.attrs.flag("negative"));
        eval_test(cx, |x| x.is_infinite() && if x > 0.0 { positive } else { negative })
    },
    content: None,
    work: work_per_element,
    samples: &["f32[2,N] {positive=1}", "f32[N] {positive=1, negative=1}"],
};

/// Converts numbers to another element type.
pub static CAST: OpDef = OpDef {
    name: "cast",
    doc: "Converts to the element type `to`. Floats become integers by truncation, saturating at the ends of the widest \
          integer type and then wrapping; anything becomes bool by `!= 0`; float8 types saturate unless `wrap_overflow`.",
    arity: Arity::exactly(1),
    attrs: &[AttrSpec::required("to", AttrKind::DType), AttrSpec::optional("wrap_overflow", AttrKind::Int)],
    class: Fusion::Elementwise,
    infer: |cx| {
        let to = cx.attrs.dtype("to").filter(|d| *d != DType::Str).ok_or("cannot cast to strings")?;
        infer_unary(cx, Domain::NumberOrBool, Some(to))
    },
    eval: eval_cast,
    content: Some(|cx| {
        let to = cx.out.dtype;
        let one = |d: &Dim| match to {
            DType::Bool => Some(complement(&d.equals(&0.into()))),
            _ => fit(to, d.clone()),
        };
        known(cx, 0)?.0.iter().map(one).collect()
    }),
    work: work_per_element,
    samples: &[
        "f32[2,N] {to=i64}",
        "i64[N] {to=f16}",
        "f32[3] {to=f8e4m3fn, wrap_overflow=1}",
        "i32[2] {to=bool}",
    ],
};

fn eval_cast(cx: &EvalCx<'_>) -> Tensors {
    let (x, saturate) = (cx.arg(0)?, !cx.attrs.flag("wrap_overflow"));
    let to = cx.out(0)?.0;
    if to == x.dtype {
        return Ok(vec![x.clone()]);
    }
    let mut data = Vec::with_capacity(x.numel() * to.size());
    match x.elements() {
        Elements::Float(v) if to.is_unsigned_int() => {
            v.into_iter().for_each(|e| encode::push_int(to, (e as u64).into(), &mut data));
        }
        Elements::Float(v) if to.is_int() => {
            v.into_iter().for_each(|e| encode::push_int(to, (e as i64).into(), &mut data));
        }
        Elements::Float(v) => v.into_iter().for_each(|e| encode::push_float_as(to, e, saturate, &mut data)),
        // Through f64 an integer would be rounded twice.
        Elements::Int(v) if to == DType::F32 => {
            v.into_iter().for_each(|e| data.extend_from_slice(&(e as f32).to_le_bytes()));
        }
        Elements::Int(v) if to.is_float() => {
            v.into_iter().for_each(|e| encode::push_float_as(to, e as f64, saturate, &mut data));
        }
        Elements::Int(v) => v.into_iter().for_each(|e| encode::push_int(to, e, &mut data)),
    }
    Ok(vec![Tensor { dtype: to, shape: x.shape.clone(), data: data.into() }])
}

macro_rules! binary {
    ($($id:ident $name:literal $domain:ident, $doc:literal, $float:expr, $int:expr, $content:expr, $samples:expr;)*) => { $(
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            arity: Arity::exactly(2),
            attrs: &[],
            class: Fusion::Elementwise,
            infer: |cx| infer_binary(cx, Domain::$domain, None),
            eval: |cx| eval_binary(cx, $float, $int),
            content: Some(|cx| content_binary(cx, $int, $content)),
            work: work_per_element,
            samples: $samples,
        };
    )* };
}

const NUMBERS: &[&str] = &["f32[2,N], f32[N]", "i64[N,1], i64[1,3]", "f16[], f16[M]"];
const INTS: &[&str] = &["i32[2,N], i32[N]", "u8[N], u8[]"];
const BOOLS: &[&str] = &["bool[2,N], bool[N]"];

binary! {
    ADD "add" Number, "Sum.", |a, b| a + b, |_, a, b| a + b, |a, b| Some(a + b), NUMBERS;
    SUB "sub" Number, "Difference.", |a, b| a - b, |_, a, b| a - b, |a, b| Some(a - b), NUMBERS;
    MUL "mul" Number, "Product.", |a, b| a * b, |_, a, b| a.wrapping_mul(b), |a, b| Some(a * b), NUMBERS;
    DIV "div" Number, "Quotient; integers truncate, and a divisor of 0 gives 0.", |a, b| a / b, scalar::int_div, dim_div,
        NUMBERS;
    POW "pow" Number, "Power; integers wrap, and a negative exponent gives the truncated reciprocal.", f64::powf,
        scalar::int_pow, |_, _| None, NUMBERS;
    MAX "max" NumberOrBool, "The larger; NaN wins.", scalar::max, |_, a, b| a.max(b), |a, b| Some(a.larger(b)), NUMBERS;
    MIN "min" NumberOrBool, "The smaller; NaN wins.", scalar::min, |_, a, b| a.min(b), |a, b| Some(a.smaller(b)),
        NUMBERS;
    AND "and" Bool, "Logical conjunction.", |a, _| a, |_, a, b| a & b, |a, b| Some(a * b), BOOLS;
    OR "or" Bool, "Logical disjunction.", |a, _| a, |_, a, b| a | b, |a, b| Some(&(a + b) - &(a * b)), BOOLS;
    XOR "xor" Bool, "Logical exclusive disjunction.", |a, _| a, |_, a, b| a ^ b,
        |a, b| Some(&(a + b) - &(&Dim::from(2) * &(a * b))), BOOLS;
    BIT_AND "bit_and" Int, "Conjunction of every bit.", |a, _| a, |_, a, b| a & b, |_, _| None, INTS;
    BIT_OR "bit_or" Int, "Disjunction of every bit.", |a, _| a, |_, a, b| a | b, |_, _| None, INTS;
    BIT_XOR "bit_xor" Int, "Exclusive disjunction of every bit.", |a, _| a, |_, a, b| a ^ b, |_, _| None, INTS;
    SHL "shl" Unsigned, "Left shift; 0 when the amount reaches the width.", |a, _| a, scalar::shl, |_, _| None,
        &["u32[2,N], u32[N]"];
    SHR "shr" Unsigned, "Right shift; 0 when the amount reaches the width.", |a, _| a, scalar::shr, |_, _| None,
        &["u32[2,N], u32[N]"];
}

/// Remainder.
pub static MOD: OpDef = OpDef {
    name: "mod",
    doc: "Remainder with the sign of the divisor, or with `fmod` of the dividend; integers: 0 for a divisor of 0.",
    arity: Arity::exactly(2),
    attrs: &[AttrSpec::optional("fmod", AttrKind::Int)],
    class: Fusion::Elementwise,
    infer: |cx| infer_binary(cx, Domain::Number, None),
    eval: |cx| match cx.attrs.flag("fmod") {
        true => eval_binary(cx, |a, b| a % b, scalar::int_trunc_mod),
        false => eval_binary(cx, scalar::floor_mod, scalar::int_floor_mod),
    },
    content: Some(|cx| match cx.attrs.flag("fmod") {
        true => content_binary(cx, scalar::int_trunc_mod, dim_trunc_mod),
        false => content_binary(cx, scalar::int_floor_mod, dim_floor_mod),
    }),
    work: work_per_element,
    samples: &["f32[2,N], f32[N]", "i64[N], i64[] {fmod=1}"],
};

macro_rules! comparison {
    ($($id:ident $name:literal $domain:ident, $doc:literal, $op:tt, $content:expr;)*) => { $(
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            arity: Arity::exactly(2),
            attrs: &[],
            class: Fusion::Elementwise,
            infer: |cx| infer_binary(cx, Domain::$domain, Some(DType::Bool)),
            eval: |cx| {
                let out = cx.out(0)?;
                let found = match (spread(cx, 0)?, spread(cx, 1)?) {
                    (Elements::Float(a), Elements::Float(b)) => {
                        a.iter().zip(&b).map(|(a, b)| i128::from(a $op b)).collect()
                    }
                    (Elements::Int(a), Elements::Int(b)) => a.iter().zip(&b).map(|(a, b)| i128::from(a $op b)).collect(),
                    _ => return Err("element types differ".into()),
                };
                Ok(vec![Tensor::ints(DType::Bool, out.1.clone(), found)])
            },
            content: Some(|cx| content_binary(cx, |_, a, b| i128::from(a $op b), $content)),
            work: work_per_element,
            samples: NUMBERS,
        };
    )* };
}

comparison! {
    EQ "eq" NumberOrBool, "Whether equal.", ==, |a, b| Some(a.equals(b));
    LT "lt" Number, "Whether less.", <, |a, b| Some(dim_lt(a, b));
    LE "le" Number, "Whether less or equal.", <=, |a, b| Some(complement(&dim_lt(b, a)));
    GT "gt" Number, "Whether greater.", >, |a, b| Some(dim_lt(b, a));
    GE "ge" Number, "Whether greater or equal.", >=, |a, b| Some(complement(&dim_lt(a, b)));
}

/// `a` where the condition holds, else `b`.
pub static SELECT: OpDef = OpDef {
    name: "select",
    doc: "`select(cond, a, b)`: `a` where the bool `cond` holds, else `b`; broadcasts all three.",
    arity: Arity::exactly(3),
    attrs: &[],
    class: Fusion::Elementwise,
    infer: |cx| {
        let (cond, a, b) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
        Domain::Bool.require(cond)?;
        require_same_dtype(a, b)?;
        let shape = cx.broadcast(&cond.shape, &cx.broadcast(&a.shape, &b.shape)?)?;
        Ok(vec![TensorType::new(a.dtype, shape)])
    },
    eval: |cx| {
        let out = cx.out(0)?;
        let Elements::Int(cond) = spread(cx, 0)? else { return Err("the condition is not bool".into()) };
        let picked = match (spread(cx, 1)?, spread(cx, 2)?) {
            (Elements::Float(a), Elements::Float(b)) => Elements::Float(choose(&cond, &a, &b)),
            (Elements::Int(a), Elements::Int(b)) => Elements::Int(choose(&cond, &a, &b)),
            _ => return Err("element types differ".into()),
        };
        Ok(vec![Tensor::from_elements(out.0, out.1.clone(), &picked)])
    },
    content: Some(|cx| {
        let (cond, a, b) = (known_broadcast(cx, 0)?, known_broadcast(cx, 1)?, known_broadcast(cx, 2)?);
        let one = |((c, a), b): ((&Dim, &Dim), &Dim)| fit(cx.out.dtype, Dim::select(c, a, b));
        cond.iter().zip(&a).zip(&b).map(one).collect()
    }),
    work: |_, out| Work { flops: out.numel() },
    samples: &["bool[N,1], f32[3], f32[N,3]", "bool[], i64[N], i64[]"],
};

fn choose<T: Copy>(cond: &[i128], a: &[T], b: &[T]) -> Vec<T> {
    cond.iter().zip(a).zip(b).map(|((c, a), b)| if *c != 0 { *a } else { *b }).collect()
}
