//! Identities of arithmetic that bring what exporters write to one form.

use super::require_float;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::Attrs;
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
    rule!("div-sqrt", Reassociates, "x / sqrt(y) = x * reciprocal(sqrt(y))",
        "(div ?x (sqrt ?y))" => Rhs::Text("(mul ?x (reciprocal (sqrt ?y)))")),
    rule!("square", Reassociates, "x ^ 2 = x * x", "(pow ?x 2)" => Rhs::Text("(mul ?x ?x)")),
    rule!("cube", Reassociates, "x ^ 3 = x * (x * x)", "(pow ?x 3)" => Rhs::Apply(cube)),
    rule!("inverse-root", Reassociates, "x ^ -0.5 = reciprocal(sqrt(x)) for x >= 0",
        "(pow ?x -0.5)" => Rhs::Apply(inverse_root)),
    rule!("mul-constants", Reassociates, "(x * a) * b = x * (a * b)",
        "(mul (mul ?x ?a:const) ?b:const)" => Rhs::Apply(mul_constants)),
    rule!("add-constants", Reassociates, "(x + a) + b = x + (a + b)",
        "(add (add ?x ?a:const) ?b:const)" => Rhs::Apply(add_constants)),
    rule!("mul-hoist", Reassociates, "(x * c) * y = (x * y) * c",
        "(mul (mul ?x ?c:scalar) ?y)" => Rhs::Apply(mul_hoist)),
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
    if !inverse.is_finite() || inverse == 0.0 {
        return Err("the divisor has no finite inverse".into());
    }
    let inverse = b.scalar(dtype, inverse)?;
    b.op("mul", Attrs::default(), &[x, inverse])
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

/// Whether no element can be below 0, as far as `depth` operators show.
pub(super) fn nonnegative(b: &Builder<'_>, x: Id, depth: usize) -> bool {
    if let Some(value) = b.data(x).uniform() {
        return value >= 0.0;
    }
    if depth == 0 {
        return false;
    }
    let all = |name: &str| {
        b.nodes(x, name).iter().any(|(_, args)| args.iter().all(|a| nonnegative(b, *a, depth - 1)))
    };
    let square = b.nodes(x, "mul").iter().any(|(_, args)| args[0] == args[1]);
    let always = ["abs", "exp", "sqrt", "sigmoid", "softmax"].iter().any(|n| !b.nodes(x, n).is_empty());
    square || always || ["add", "mul", "div", "reduce_sum", "reshape", "transpose"].iter().any(|n| all(n))
}

fn mul_constants(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, a, c) = (b.var("x")?, b.var("a")?, b.var("b")?);
    require_float(b, x)?;
    let product = b.op("mul", Attrs::default(), &[a, c])?;
    b.op("mul", Attrs::default(), &[x, product])
}

fn add_constants(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, a, c) = (b.var("x")?, b.var("a")?, b.var("b")?);
    require_float(b, x)?;
    let sum = b.op("add", Attrs::default(), &[a, c])?;
    b.op("add", Attrs::default(), &[x, sum])
}

fn mul_hoist(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, y) = (b.var("x")?, b.var("c")?, b.var("y")?);
    require_float(b, x)?;
    if b.data(x).uniform().is_some() || b.data(y).uniform().is_some() || b.ty(c)?.numel().is(1) != true {
        return Err("a factor is a number itself".into());
    }
    let product = b.op("mul", Attrs::default(), &[x, y])?;
    b.op("mul", Attrs::default(), &[product, c])
}

fn distribute(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (x, c, d) = (b.var("x")?, b.var("c")?, b.var("d")?);
    let dtype = require_float(b, x)?;
    let factor = b.uniform(c)?;
    if factor != b.uniform(d)? || factor == 1.0 || factor == 0.0 {
        return Err("the factor is not the summand".into());
    }
    let one = b.scalar(dtype, 1.0)?;
    let sum = b.op("add", Attrs::default(), &[x, one])?;
    b.op("mul", Attrs::default(), &[sum, c])
}

fn cast_back(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    let from = b.ty(x)?.dtype;
    let wide = b.attrs("q")?.dtype("to").ok_or("a cast without a type")?;
    let back = b.attrs("p")?.dtype("to").ok_or("a cast without a type")?;
    let wider = from.is_float() && wide.is_float() && wide.bits() > from.bits() && from.bits() >= 16
        || from.is_int()
            && wide.is_int()
            && wide.bits() > from.bits()
            && (from.is_unsigned_int() || !wide.is_unsigned_int());
    // bf16 has the exponents of f32, which f16 has not; both fit f32.
    if back != from || !wider {
        return Err(Miss(format!("{from} to {wide} to {back} is not the identity")));
    }
    Ok(x)
}
