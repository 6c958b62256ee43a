//! Self-attention.

use super::{Config, Extents, Known, linear, shape};
use crate::builder::{Builder, int, ints};

/// Queries, keys or values by head: `[batch, sequence, hidden]` to `[batch, sequence, heads, hidden / heads]`.
fn heads(b: &mut Builder, config: &Config, x: &str, wanted: &Extents) -> String {
    let each = Known::Number((config.hidden / config.heads) as i64);
    let wanted = shape(b, &[&wanted.batch, &wanted.sequence, &Known::Number(-1), &each]);
    b.node("Reshape", &[x, &wanted], vec![])
}

/// `softmax(q k^T / sqrt(d) + mask) v` of every head, joined again: `[batch, sequence, hidden]`.
pub(super) fn attention(b: &mut Builder, config: &Config, path: &str, x: &str, mask: &str) -> String {
    let scope = format!("/{}/attention/self", path.replace('.', "/"));
    b.scope(&scope);
    let extents = Extents::of(b, config, x);
    let project = |b: &mut Builder, what: &str| {
        let y = linear(b, x, &format!("{path}.attention.self.{what}"), config.hidden, config.hidden);
        b.scope(&scope);
        heads(b, config, &y, &extents)
    };
    let q = project(b, "query");
    let k = project(b, "key");
    let v = project(b, "value");
    let q = b.node("Transpose", &[&q], vec![ints("perm", &[0, 2, 1, 3])]);
    let v = b.node("Transpose", &[&v], vec![ints("perm", &[0, 2, 1, 3])]);
    let k = b.node("Transpose", &[&k], vec![ints("perm", &[0, 2, 3, 1])]);
    let scores = b.node("MatMul", &[&q, &k], vec![]);
    let root = b.f32(((config.hidden / config.heads) as f32).sqrt());
    let scores = b.node("Div", &[&scores, &root], vec![]);
    let scores = b.node("Add", &[&scores, mask], vec![]);
    let weights = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let context = b.node("MatMul", &[&weights, &v], vec![]);
    let context = b.node("Transpose", &[&context], vec![ints("perm", &[0, 2, 1, 3])]);
    let joined = shape(b, &[&extents.batch, &extents.sequence, &Known::Number(config.hidden as i64)]);
    b.node("Reshape", &[&context, &joined], vec![])
}
