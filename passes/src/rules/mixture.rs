//! Mixtures of experts in dense form: every expert computes every token, and a matrix of weights that is zero but for the
//! experts that top_k chose sums them up (the inference branch of transformers 4 for export). What is summed is computed for
//! the chosen experts only, each product as a `gather_matmul`.

use super::norm::recovery;
use super::require_f32;
use super::shape::perm_of;
use crate::egraph::{Builder, Miss, Numerics, Rhs, Rule};
use autoglm_ir::dim::product;
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, Dim, OpId};
use egg::Id;
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule] = &[
    recovery!("dense-experts", "sum of y[e,t] * transpose(q at the experts i of top_k, else 0) over e = sum of y[i,t] * q over the choices",
        "(reduce_sum:p (mul ?y ?s=(reshape (transpose:t (scatter_elements:s ?z ?i=(result#1 (top_k:k ?l)) ?q)))))"
            => Rhs::Apply(chosen_only)),
    recovery!("dense-experts-token", "sum of y[e] * (q at the experts i of top_k, else 0) over e = sum of y[i] * q over the choices, for one token",
        "(reduce_sum:p (mul ?y ?s=(reshape (scatter_elements:s ?z ?i=(result#1 (top_k:k ?l)) ?q))))"
            => Rhs::Apply(chosen_only)),
];

/// Over the reals: a weight of zero keeps an infinity of an expert that is not chosen out of the sum. The indices of one
/// top_k differ from each other, so that each weight of the matrix is 0 or one of `q`.
fn chosen_only(b: &mut Builder<'_>) -> Result<Id, Miss> {
    let (y, s, z, i, q) = (b.var("y")?, b.var("s")?, b.var("z")?, b.var("i")?, b.var("q")?);
    require_f32(b, y)?;
    let (matrix, index, dense) = (b.ty(z)?.shape, b.ty(i)?.shape, b.ty(y)?.shape);
    let ([tokens, experts], [_, choices]) = (matrix.as_slice(), index.as_slice()) else {
        return Err("the weights are no matrix of tokens and experts".into());
    };
    let scattered = b.attrs("s")?;
    let along = (scattered.int("axis"), b.attrs("k")?.int("axis"), b.ty(b.var("l")?)?.shape == matrix);
    if along != (1, 1, true) || index != [tokens.clone(), choices.clone()] {
        return Err("the choice is not one among all experts for each token".into());
    }
    // What is added to zero, each at its own place, is set.
    if !matches!(scattered.str("mode"), "" | "add") || !is_zero(b, z) {
        return Err("the weights of experts that are not chosen are not zero".into());
    }
    match b.attrs("t") {
        Ok(t) if perm_of(&t) != [1, 0] => return Err("the weights are not transposed".into()),
        Err(_) if !tokens.is(1) => return Err("the weights of several tokens are not transposed".into()),
        _ => {}
    }
    let [first, middle @ .., _] = dense.as_slice() else { return Err("the sum is one of numbers".into()) };
    let weights = [&dense[..=middle.len()], &[Dim::from(1)]].concat();
    if first != experts || product(middle) != *tokens || b.ty(s)?.shape != weights {
        return Err("the weights are not one for each expert and token".into());
    }
    if b.attrs("p")?.ints("axes") != [0] || experts.is(1) {
        return Err("the sum runs over something else than experts".into());
    }
    let of = [tokens.clone(), choices.clone(), 1.into(), 1.into()].to_vec();
    let (experts, tokens) = (experts.clone(), tokens.clone());
    let parts = Picked { experts, tokens, index: i, known: BTreeMap::new() }.of(b, y)?;
    let q = b.reshape(q, of)?;
    let parts = b.op("mul", Attrs::default(), &[parts, q])?;
    let sum = b.op(
        "reduce_sum",
        Attrs::new([("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(0))]),
        &[parts],
    )?;
    let root = b.ty(b.root()?)?.shape;
    b.reshape(sum, root)
}

fn is_zero(b: &Builder<'_>, x: Id) -> bool {
    let zero = |x: Id| b.uniform(x).is_ok_and(|v| v == 0.0);
    zero(x) || b.nodes(x, "expand").iter().any(|(_, args)| zero(args[0]))
}

/// Classes of an expert that are looked at.
const CLASSES_MAX: usize = 256;

/// Makes what is computed for all experts [experts, tokens.., n] for those alone that an index [tokens, choices] names:
/// [tokens, choices, 1, n], with 1 choice of what does not depend on the expert.
struct Picked {
    experts: Dim,
    tokens: Dim,
    index: Id,
    /// What was made of each class; none while it is being made and if it cannot be.
    known: BTreeMap<Id, Option<Id>>,
}

impl Picked {
    fn of(&mut self, b: &mut Builder<'_>, x: Id) -> Result<Id, Miss> {
        let x = b.find(x);
        if let Some(known) = self.known.get(&x) {
            return known.ok_or_else(|| "an expert is no product or elementwise operator".into());
        }
        if self.known.len() == CLASSES_MAX {
            return Err("an expert is too large".into());
        }
        self.known.insert(x, None);
        let made = self.made(b, x)?;
        self.known.insert(x, Some(made));
        Ok(made)
    }

    fn made(&mut self, b: &mut Builder<'_>, x: Id) -> Result<Id, Miss> {
        let shape = b.ty(x)?.shape;
        let (first, middle, last) = match shape.as_slice() {
            [] | [_] => return Ok(x),
            [_, _] => return Err("tokens have no axis".into()),
            [first, middle @ .., last] => (first, middle, last),
        };
        let tokens = product(middle);
        if first.is(1) && tokens.is(1) {
            return b.reshape(x, vec![1.into(), 1.into(), 1.into(), last.clone()]);
        }
        if first.is(1) && tokens == self.tokens {
            return b.reshape(x, vec![tokens, 1.into(), 1.into(), last.clone()]);
        }
        if *first == self.experts && tokens.is(1) && b.data(x).constant.is_some() {
            let rows = b.reshape(x, vec![first.clone(), 1.into(), last.clone()])?;
            return b.op("gather", Attrs::new([("axis", Attr::Int(0))]), &[rows, self.index]);
        }
        if *first != self.experts || tokens != self.tokens {
            return Err("an expert does more than compute each token for itself".into());
        }
        for (op, attrs, args) in b.all_nodes(x) {
            if let Ok(made) = self.operator(b, &shape, op, &attrs, &args) {
                return Ok(made);
            }
        }
        Err("an expert is no product or elementwise operator".into())
    }

    /// The operator with the extents `shape` over what is made of its operands.
    fn operator(
        &mut self,
        b: &mut Builder<'_>,
        shape: &[Dim],
        op: OpId,
        attrs: &Attrs,
        args: &[Id],
    ) -> Result<Id, Miss> {
        let first = *args.first().ok_or("no operand")?;
        let (own, last) = (b.ty(first)?.shape, shape.len() - 1);
        match op.name() {
            "reshape" if own.last() == Some(&shape[last]) => self.of(b, first),
            "expand" if own.last() == Some(&shape[last]) => match own.as_slice() {
                rows if rows == &shape[1..] => {
                    b.reshape(first, [&[Dim::from(1)], rows].concat()).and_then(|x| self.of(b, x))
                }
                _ => self.of(b, first),
            },
            "slice" if own[..last] == shape[..last] => {
                let (start, step) = (&attrs.dims("starts")[last], attrs.ints("steps"));
                if step[..last].iter().any(|step| *step != 1) {
                    return Err("experts or tokens are taken in another order".into());
                }
                let x = self.of(b, first)?;
                columns(b, x, start, &shape[last], step[last])
            }
            "matmul" if shape.len() == 3 => {
                let w = b.ty(args[1])?.shape;
                let rows = match own.as_slice() {
                    [t, k] if *t == self.tokens => {
                        b.reshape(first, vec![t.clone(), 1.into(), 1.into(), k.clone()])?
                    }
                    [_, t, _] if *t == self.tokens => self.of(b, first)?,
                    _ => return Err("the rows are not tokens".into()),
                };
                if w.len() != 3 || w[0] != self.experts {
                    return Err("the matrices are not those of the experts".into());
                }
                b.op("gather_matmul", Attrs::default(), &[rows, args[1], self.index])
            }
            _ if op.def().class == Fusion::Elementwise => {
                let mut made = Vec::with_capacity(args.len());
                for arg in args {
                    let rank = b.ty(*arg)?.rank();
                    made.push(if rank < 2 || rank == shape.len() {
                        self.of(b, *arg)?
                    } else {
                        return Err("an operand of other axes".into());
                    });
                }
                b.op(op.name(), attrs.clone(), &made)
            }
            _ => Err("no operator of an expert".into()),
        }
    }
}

/// Elements of the last axis.
fn columns(b: &mut Builder<'_>, x: Id, start: &Dim, size: &Dim, step: i64) -> Result<Id, Miss> {
    let mut sizes = b.ty(x)?.shape;
    let last = sizes.len().checked_sub(1).ok_or("a number has no axis")?;
    let (mut starts, mut steps) = (vec![Dim::from(0); last + 1], vec![1; last + 1]);
    (starts[last], sizes[last], steps[last]) = (start.clone(), size.clone(), step);
    let attrs = [("starts", Attr::Dims(starts)), ("sizes", Attr::Dims(sizes)), ("steps", Attr::Ints(steps))];
    b.op("slice", Attrs::new(attrs), &[x])
}
