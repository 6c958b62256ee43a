//! Sentence embeddings from token embeddings, as sentence-transformers exports them.

use crate::builder::{Builder, F32, int, ints};

/// Least number of tokens that a mean is divided by, and least length of a vector that is made a unit one.
const LEAST_COUNT: f32 = 1e-9;
const LEAST_LENGTH: f32 = 1e-12;

/// The mean of the tokens that count, made a unit vector: `tokens` f32\[batch, sequence, hidden\] and `mask`
/// i64\[batch, sequence\] to f32\[batch, hidden\], under the given name.
pub(super) fn sentence_embedding(b: &mut Builder, tokens: &str, mask: &str, name: &str) {
    b.scope("/pooling");
    let column = b.unsqueeze(mask, -1);
    let wanted = b.node("Shape", &[tokens], vec![]);
    let spread = b.node("Expand", &[&column, &wanted], vec![]);
    let spread = b.node("Cast", &[&spread], vec![int("to", F32.into())]);
    let kept = b.node("Mul", &[tokens, &spread], vec![]);
    let sum = sum(b, &kept);
    let count = self::sum(b, &spread);
    let count = at_least(b, &count, LEAST_COUNT);
    let mean = b.node("Div", &[&sum, &count], vec![]);
    b.scope("/normalize");
    let length = length(b, &mean);
    let length = at_least(b, &length, LEAST_LENGTH);
    let wanted = b.node("Shape", &[&mean], vec![]);
    let length = b.node("Expand", &[&length, &wanted], vec![]);
    b.last("Div", &[&mean, &length], vec![], name);
}

/// The sum over the tokens.
fn sum(b: &mut Builder, x: &str) -> String {
    let axes = b.i64s(&[1]);
    b.node("ReduceSum", &[x, &axes], vec![int("keepdims", 0)])
}

fn at_least(b: &mut Builder, x: &str, least: f32) -> String {
    let least = b.f32(least);
    b.node("Clip", &[x, &least], vec![])
}

/// The Euclidean length of the rows; operator set 18 made the axes an input.
fn length(b: &mut Builder, x: &str) -> String {
    if b.opset() >= 18 {
        let axes = b.i64s(&[-1]);
        return b.node("ReduceL2", &[x, &axes], vec![]);
    }
    b.node("ReduceL2", &[x], vec![ints("axes", &[-1])])
}
