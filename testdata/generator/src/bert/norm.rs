//! Layer normalisation in its two forms.

use super::Norm;
use crate::builder::{Builder, float, int, ints};
use crate::weights::Init;

const EPSILON: f32 = 1e-12;

/// Normalises the last axis, of extent `hidden`; the result has the given name, if there is one.
pub(super) fn layer_norm(
    b: &mut Builder,
    x: &str,
    path: &str,
    hidden: usize,
    norm: Norm,
    name: Option<&str>,
) -> String {
    b.scope(&format!("/{}", path.replace('.', "/")));
    let weight = b.weight(&format!("{path}.weight"), &[hidden], Init::near(1.0));
    let bias = b.weight(&format!("{path}.bias"), &[hidden], Init::near(0.0));
    let (op, inputs, attributes) = match norm {
        Norm::Operator => {
            let attributes = vec![int("axis", -1), float("epsilon", EPSILON)];
            ("LayerNormalization", vec![x.to_owned(), weight, bias], attributes)
        }
        Norm::Decomposed => ("Add", vec![scaled(b, x, &weight), bias], vec![]),
    };
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    match name {
        Some(name) => {
            b.last(op, &inputs, attributes, name);
            name.to_owned()
        }
        None => b.node(op, &inputs, attributes),
    }
}

/// `(x - mean) / sqrt(variance + epsilon) * weight`.
fn scaled(b: &mut Builder, x: &str, weight: &str) -> String {
    let mean = mean(b, x);
    let centred = b.node("Sub", &[x, &mean], vec![]);
    let two = b.f32(2.0);
    let square = b.node("Pow", &[&centred, &two], vec![]);
    let variance = self::mean(b, &square);
    let epsilon = b.f32(EPSILON);
    let variance = b.node("Add", &[&variance, &epsilon], vec![]);
    let deviation = b.node("Sqrt", &[&variance], vec![]);
    let normal = b.node("Div", &[&centred, &deviation], vec![]);
    b.node("Mul", &[&normal, weight], vec![])
}

/// The mean over the last axis, which stays; operator set 18 made the axes an input.
fn mean(b: &mut Builder, x: &str) -> String {
    if b.opset() >= 18 {
        let axes = b.i64s(&[-1]);
        return b.node("ReduceMean", &[x, &axes], vec![]);
    }
    b.node("ReduceMean", &[x], vec![ints("axes", &[-1])])
}
