//! Activations that exporters write as formulas.

use super::algebra::{require_factor, rule};
use super::norm::recovery;
use super::require_float;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::Attrs;
use egg::Id;

pub(super) const RULES: &[Rule] = &[
    recovery!("gelu", "x * (1 + erf(x / sqrt(2))) / 2 = gelu(x)",
        "(mul (mul ?x (add (erf (mul ?x 0.70710678)) 1)) 0.5)" => Rhs::Text("(gelu ?x)")),
    recovery!("gelu-tanh", "x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2 = gelu(x) by tanh",
        "(mul (mul ?x (add (tanh (mul (add ?x (mul (mul ?x (mul ?x ?x)) 0.044715)) 0.79788456)) 1)) 0.5)" =>
        Rhs::Text("(gelu{tanh=1} ?x)")),
    recovery!("sigmoid", "1 / (1 + exp(-x)) = sigmoid(x)",
        "(reciprocal (add (exp (neg ?x)) 1))" => Rhs::Text("(sigmoid ?x)")),
    recovery!("silu", "x * sigmoid(x) = silu(x)", "(mul ?x (sigmoid ?x))" => Rhs::Apply(silu)),
    rule!("quick-gelu", Reassociates, "x * sigmoid(c * x) = silu(c * x) / c",
        "(mul ?x (sigmoid ?y=(mul ?x ?c:scalar)))" => Rhs::Apply(quick_gelu)),
    recovery!("hard-swish", "x * min(max(x / 6 + 1/2, 0), 1) = hard_swish(x)",
        "(mul ?x (min (max (add (mul ?x 0.16666667) 0.5) 0) 1))" => Rhs::Text("(hard_swish ?x)")),
    recovery!("hard-swish-max", "x * max(min(x / 6 + 1/2, 1), 0) = hard_swish(x)",
        "(mul ?x (max (min (add (mul ?x 0.16666667) 0.5) 1) 0))" => Rhs::Text("(hard_swish ?x)")),
    recovery!("hard-swish-6", "x * min(max(x + 3, 0), 6) / 6 = hard_swish(x)",
        "(mul (mul ?x (min (max (add ?x 3) 0) 6)) 0.16666667)" => Rhs::Text("(hard_swish ?x)")),
    recovery!("hard-swish-6-max", "x * max(min(x + 3, 6), 0) / 6 = hard_swish(x)",
        "(mul (mul ?x (max (min (add ?x 3) 6) 0)) 0.16666667)" => Rhs::Text("(hard_swish ?x)")),
];

fn quick_gelu(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (y, c) = (b.var("y")?, b.var("c")?);
    let dtype = require_float(b, y)?;
    let inverse = 1.0 / require_factor(b, c)?;
    let product = b.op("silu", Attrs::default(), &[y])?;
    let inverse = b.scalar(dtype, inverse)?;
    require_factor(b, inverse)?;
    b.op("mul", Attrs::default(), &[product, inverse])
}

fn silu(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let x = b.var("x")?;
    require_float(b, x)?;
    b.op("silu", Attrs::default(), &[x])
}
