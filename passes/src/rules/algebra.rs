//! Identities of arithmetic that bring what exporters write to one form.

use super::require_float;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::{Attrs, DType, Tensor};
use egg::Id;

macro_rules! rule {
    ($name:literal, $numerics:ident, $equation:literal, $lhs:literal => $rhs:expr) => {
        Rule {
            name: $name,
            equation: $equation,
            numerics: Numerics::$numerics,
            recovers: false,
            lhs: $lhs,
            rhs: $rhs,
        }
    };
}
pub(super) use rule;

pub(super) const RULES: &[Rule] = &[
    rule!("mul-one", Exact, "x * 1 = x", "(mul ?x 1)" => Rhs::Text("?x")),
    rule!("add-zero", Reassociates, "x + 0 = x", "(add ?x 0)" => Rhs::Text("?x")),
    rule!("sub-zero", Exact, "x - 0 = x", "(sub ?x 0)" => Rhs::Text("?x")),
    rule!("div-one", Exact, "x / 1 = x", "(div ?x 1)" => Rhs::Text("?x")),
    rule!("neg-neg", Exact, "-(-x) = x", "(neg (neg ?x))" => Rhs::Text("?x")),
    rule!("mul-minus-one", Exact, "x * -1 = -x", "(mul ?x -1)" => Rhs::Apply(negate)),
    rule!("add-neg", Exact, "x + (-y) = x - y", "(add ?x (neg ?y))" => Rhs::Text("(sub ?x ?y)")),
    rule!("reciprocal", Exact, "1 / x = reciprocal(x)", "(div 1 ?x)" => Rhs::Apply(reciprocal)),
    rule!("div-constant", Reassociates, "x / c = x * (1 / c)", "(div ?x ?c:scalar)" => Rhs::Apply(div_constant)),
    rule!("div-vector", Reassociates, "x / c = x * (1 / c) for each element of c",
        "(div ?x ?c:const)" => Rhs::Apply(div_vector)),
    rule!("div-computed", Reassociates, "x / y = x * reciprocal(y)", "(div ?x ?y)" => Rhs::Apply(div_computed)),
    rule!("root", Reassociates, "x ^ 0.5 = sqrt(x) for x >= 0", "(pow ?x 0.5)" => Rhs::Apply(root)),
    rule!("square", Reassociates, "x ^ 2 = x * x", "(pow ?x 2)" => Rhs::Text("(mul ?x ?x)")),
    rule!("cube", Reassociates, "x ^ 3 = x * (x * x)", "(pow ?x 3)" => Rhs::Apply(cube)),
    rule!("inverse-root", Reassociates, "x ^ -0.5 = reciprocal(sqrt(x)) for x >= 0",
        "(pow ?x -0.5)" => Rhs::Apply(inverse_root)),
    rule!("mul-constants", Reassociates, "(x * a) * b = x * (a * b)",
        "(mul (mul ?x ?a:const) ?b:const)" => Rhs::Apply(mul_constants)),
    rule!("add-constants", Reassociates, "(x + a) + b = x + (a + b)",
        "(add (add ?x ?a:const) ?b:const)" => Rhs::Apply(add_constants)),
    rule!("mul-hoist", Reassociates, "(x * c) * y = (x * y) * c",
        "(mul (mul ?x ?c:const) ?y)" => Rhs::Apply(mul_hoist)),
    rule!("mul-neg", Exact, "(-x) * y = -(x * y)", "(mul (neg ?x) ?y)" => Rhs::Text("(neg (mul ?x ?y))")),
    rule!("sub-neg", Exact, "x - (-y) = x + y", "(sub ?x (neg ?y))" => Rhs::Text("(add ?x ?y)")),
    rule!("neg-sub", Reassociates, "-(x - y) = y - x", "(neg (sub ?x ?y))" => Rhs::Text("(sub ?y ?x)")),
    rule!("centre", Reassociates, "x * i + (b - m * i) = (x - m) * i + b",
        "(add (mul ?x ?i) (sub ?b (mul ?m ?i)))" => Rhs::Apply(centre)),
    rule!("distribute", Reassociates, "x * c + c = (x + 1) * c",
        "(add (mul ?x ?c:scalar) ?d:scalar)" => Rhs::Apply(distribute)),
    rule!("factor-cube", Reassociates, "x * (1 + k x^2) = x + k x^3",
        "(mul ?x (add (mul (mul ?x ?x) ?k:scalar) 1))" =>
        Rhs::Text("(add ?x (mul (mul ?x (mul ?x ?x)) ?k))")),
    rule!("cast-back", Exact, "cast(cast(x, wider), back) = x", "(cast:p (cast:q ?x))" => Rhs::Apply(cast_back)),
];

fn negate(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_float(b, x)?;
    b.op("neg", Attrs::default(), &[x])
}

fn reciprocal(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_float(b, x)?;
    b.op("reciprocal", Attrs::default(), &[x])
}

fn div_constant(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c) = (b.var("x")?, b.var("c")?);
    let dtype = require_float(b, x)?;
    let inverse = 1.0 / b.uniform(c)?;
    if !is_normal(dtype, inverse) {
        return Err(Miss(format!("the inverse of the divisor is no normal {dtype}")));
    }
    let inverse = b.scalar(dtype, inverse)?;
    b.op("mul", Attrs::default(), &[x, inverse])
}

fn div_vector(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c) = (b.var("x")?, b.var("c")?);
    let dtype = require_float(b, x)?;
    if b.data(c).uniform().is_some() || b.data(x).constant.is_some() {
        return Err("the divisor is a number, or the dividend a constant".into());
    }
    let (least, largest) = (b.least(c)?, b.largest(c)?);
    if !is_normal(dtype, 1.0 / least) || !is_normal(dtype, 1.0 / largest) {
        return Err(Miss(format!("the inverse of a divisor is no normal {dtype}")));
    }
    let inverse = b.op("reciprocal", Attrs::default(), &[c])?;
    b.op("mul", Attrs::default(), &[x, inverse])
}

fn div_computed(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, y) = (b.var("x")?, b.var("y")?);
    require_float(b, x)?;
    if b.data(y).constant.is_some() {
        return Err("the divisor is a constant".into());
    }
    let inverse = b.op("reciprocal", Attrs::default(), &[y])?;
    b.op("mul", Attrs::default(), &[x, inverse])
}

fn root(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_float(b, x)?;
    if !nonnegative(b, x, 6) {
        return Err("the base may be negative".into());
    }
    b.op("sqrt", Attrs::default(), &[x])
}

/// Whether an element type holds a number with full precision.
fn is_normal(dtype: DType, x: f64) -> bool {
    let (least, most) = match dtype {
        DType::F16 => (6.103_515_625e-5, 65_504.0),
        DType::BF16 | DType::F32 => (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)),
        DType::F64 => (f64::MIN_POSITIVE, f64::MAX),
        _ => return false,
    };
    (least..=most).contains(&x.abs())
}

/// The number that a factor is. One that may move past products and sums is neither 0 nor infinite: those make NaN of
/// what overflows elsewhere.
pub(super) fn require_factor(b: &Builder<'_>, c: Id) -> Result<f64, Miss> {
    let (dtype, factor) = (b.ty(c)?.dtype, b.uniform(c)?);
    if dtype.is_float() && !is_normal(dtype, factor) {
        return Err(Miss(format!("the factor {factor} is no normal {dtype}")));
    }
    Ok(factor)
}

/// The product of two constants, whose elements are finite if those of the constants are.
pub(super) fn product_of_constants(b: &mut Builder<'_>, a: Id, c: Id) -> Result<Id, Miss> {
    let bound = b.largest(a)? * b.largest(c)?;
    of_constants(b, "mul", bound, a, c)
}

/// The sum of two constants, whose elements are finite if those of the constants are.
pub(super) fn sum_of_constants(b: &mut Builder<'_>, a: Id, c: Id) -> Result<Id, Miss> {
    let bound = b.largest(a)? + b.largest(c)?;
    of_constants(b, "add", bound, a, c)
}

fn of_constants(b: &mut Builder<'_>, op: &str, bound: f64, a: Id, c: Id) -> Result<Id, Miss> {
    let dtype = b.ty(a)?.dtype;
    if !Tensor::scalar(dtype, bound).to_f64().iter().all(|x| x.is_finite()) {
        return Err(Miss(format!("the constants together may be as large as {bound}")));
    }
    let both = b.op(op, Attrs::default(), &[a, c])?;
    match b.data(both).constant {
        Some(_) => Ok(both),
        None => Err("the constants are too large to be computed here".into()),
    }
}

fn cube(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_float(b, x)?;
    let square = b.op("mul", Attrs::default(), &[x, x])?;
    b.op("mul", Attrs::default(), &[x, square])
}

fn inverse_root(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_float(b, x)?;
    if !nonnegative(b, x, 6) {
        return Err("the base may be negative".into());
    }
    let root = b.op("sqrt", Attrs::default(), &[x])?;
    b.op("reciprocal", Attrs::default(), &[root])
}

/// Whether no element can be below 0 or be the negative zero, as far as `depth` operators show.
pub(super) fn nonnegative(b: &Builder<'_>, x: Id, depth: usize) -> bool {
    if let Some(value) = b.data(x).uniform() {
        return value >= 0.0 && value.is_sign_positive();
    }
    if depth == 0 {
        return false;
    }
    let all = |name: &str| {
        b.nodes(x, name).iter().any(|(_, args)| args.iter().all(|a| nonnegative(b, *a, depth - 1)))
    };
    let square = b.nodes(x, "mul").iter().any(|(_, args)| args[0] == args[1]);
    let always = ["abs", "exp", "sigmoid", "softmax"].iter().any(|n| !b.nodes(x, n).is_empty());
    square
        || always
        || ["add", "mul", "div", "sqrt", "reduce_sum", "reshape", "transpose"].iter().any(|n| all(n))
}

fn mul_constants(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, a, c) = (b.var("x")?, b.var("a")?, b.var("b")?);
    require_float(b, x)?;
    let product = product_of_constants(b, a, c)?;
    b.op("mul", Attrs::default(), &[x, product])
}

fn add_constants(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, a, c) = (b.var("x")?, b.var("a")?, b.var("b")?);
    require_float(b, x)?;
    let sum = sum_of_constants(b, a, c)?;
    b.op("add", Attrs::default(), &[x, sum])
}

fn mul_hoist(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, y) = (b.var("x")?, b.var("c")?, b.var("y")?);
    require_float(b, x)?;
    if b.data(c).uniform().is_some() {
        require_factor(b, c)?;
    } else if !b.largest(c)?.is_finite() {
        return Err("the constant is not finite".into());
    }
    if b.data(x).constant.is_some() || b.data(y).constant.is_some() {
        return Err("another factor is a constant, too".into());
    }
    let product = b.op("mul", Attrs::default(), &[x, y])?;
    b.op("mul", Attrs::default(), &[product, c])
}

fn centre(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, i, shift, m) = (b.var("x")?, b.var("i")?, b.var("b")?, b.var("m")?);
    require_float(b, x)?;
    let centred = b.op("sub", Attrs::default(), &[x, m])?;
    let scaled = b.op("mul", Attrs::default(), &[centred, i])?;
    b.op("add", Attrs::default(), &[scaled, shift])
}

fn distribute(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, d) = (b.var("x")?, b.var("c")?, b.var("d")?);
    let dtype = require_float(b, x)?;
    let factor = require_factor(b, c)?;
    if factor != b.uniform(d)? || factor == 1.0 {
        return Err("the factor is not the summand".into());
    }
    let one = b.scalar(dtype, 1.0)?;
    let sum = b.op("add", Attrs::default(), &[x, one])?;
    b.op("mul", Attrs::default(), &[sum, c])
}

/// Whether an element type holds every value of another, in the same order. bf16 has the exponents of f32, which f16 has
/// not; both fit f32.
pub(super) fn widens(from: DType, to: DType) -> bool {
    let signs = from.is_unsigned_int() || !to.is_unsigned_int();
    to.bits() > from.bits()
        && (from.is_float() && to.is_float() && from.bits() >= 16 || from.is_int() && to.is_int() && signs)
}

fn cast_back(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    let from = b.ty(x)?.dtype;
    let wide = b.attrs("q")?.dtype("to").ok_or("a cast without a type")?;
    let back = b.attrs("p")?.dtype("to").ok_or("a cast without a type")?;
    if back != from || !widens(from, wide) {
        return Err(Miss(format!("{from} to {wide} to {back} is not the identity")));
    }
    Ok(x)
}
