//! Recurrent layers as ONNX has them: every direction and layout, with any number of steps and rows.

use super::common::{Model, check, compiled, compiled_with, int, noise, sessions};
use autoglm_compiler::onnx::proto::{AttributeProto, attribute_type};
use autoglm_ir::{DType, Tensor};

fn text(name: &str, v: &'static str) -> AttributeProto {
    let s = Some(v.as_bytes().into());
    AttributeProto { name: name.into(), r#type: attribute_type::STRING, s, ..AttributeProto::default() }
}

const HIDDEN: usize = 6;

/// A layer with biases over x `[steps, batch, 4]`.
fn layer(op: &str, direction: &'static str, layout: i64, more: Vec<AttributeProto>) -> Model {
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let count = if direction == "bidirectional" { 2 } else { 1 };
    let attrs =
        [vec![text("direction", direction), int("layout", layout), int("hidden_size", HIDDEN as i64)], more];
    let outs = if op == "LSTM" { "y h c" } else { "y h" };
    Model::at(22)
        .floats("x", if layout == 1 { "N,S,4" } else { "S,N,4" })
        .weight("w", &[count, gates * HIDDEN, 4])
        .weight("r", &[count, gates * HIDDEN, HIDDEN])
        .weight("b", &[count, 2 * gates * HIDDEN])
        .node(&format!("{outs} = {op} x w r b"), attrs.concat())
}

#[test]
fn every_direction_and_layout() {
    for op in ["LSTM", "GRU", "RNN"] {
        for direction in ["forward", "reverse", "bidirectional"] {
            for layout in [0, 1] {
                let c = compiled(layer(op, direction, layout, vec![]).bytes(), &[]);
                let kinds = c.step_kinds.iter().filter(|kind| **kind != "Tile" && **kind != "Tiles");
                let want: &[&str] = match direction {
                    "bidirectional" => &["MatMul", "Recurrent", "Recurrent"],
                    _ => &["MatMul", "Recurrent"],
                };
                assert_eq!(kinds.copied().collect::<Vec<_>>(), want, "{op} {direction}");
                let mut sessions = sessions(&c.engine);
                for [steps, rows] in [[1, 1], [7, 3], [0, 2], [5, 0], [2, 13]] {
                    let shape = if layout == 1 { [rows, steps, 4] } else { [steps, rows, 4] };
                    let outputs = check(
                        &format!("{op} {direction} {shape:?}"),
                        &c.graph,
                        &mut sessions,
                        &[noise(&shape, 3)],
                    );
                    let directions = if direction == "bidirectional" { 2 } else { 1 };
                    let (y, h) = match layout {
                        1 => (vec![rows, steps, directions, HIDDEN], vec![rows, directions, HIDDEN]),
                        _ => (vec![steps, directions, rows, HIDDEN], vec![directions, rows, HIDDEN]),
                    };
                    assert_eq!((&outputs[0].shape, &outputs[1].shape), (&y, &h));
                }
            }
        }
    }
}

#[test]
fn without_the_optimiser() {
    for (op, more) in [("LSTM", vec![]), ("GRU", vec![int("linear_before_reset", 1)]), ("RNN", vec![])] {
        let c = compiled_with(layer(op, "bidirectional", 0, more).bytes(), &[], false);
        check(op, &c.graph, &mut sessions(&c.engine), &[noise(&[5, 3, 4], 3)]);
    }
}

/// Weights, states and lengths that the inputs bring.
#[test]
fn everything_can_be_an_input() {
    let model = |op: &str, gates: usize| {
        let mut model = Model::at(22).floats("x", "S,N,4").lengths("l", "N");
        for (name, dims) in [("w", gates * HIDDEN), ("r", gates * HIDDEN)] {
            model = model.floats(name, &format!("2,{dims},{}", if name == "w" { 4 } else { HIDDEN }));
        }
        model = model.floats("b", &format!("2,{}", 2 * gates * HIDDEN)).floats("h", &format!("2,N,{HIDDEN}"));
        let states = if op == "LSTM" { "h c p" } else { "h" };
        if op == "LSTM" {
            model = model.floats("c", &format!("2,N,{HIDDEN}")).floats("p", &format!("2,{}", 3 * HIDDEN));
        }
        model.node(&format!("y last = {op} x w r b l {states}"), vec![text("direction", "bidirectional")])
    };
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let c = compiled(model(op, gates).bytes(), &[]);
        let mut inputs = vec![noise(&[5, 3, 4], 1), Tensor::ints(DType::I32, vec![3], vec![5, 0, 2])];
        let all = gates * HIDDEN;
        let states: &[&[usize]] = &[&[2, all, 4], &[2, all, HIDDEN], &[2, 2 * all], &[2, 3, HIDDEN]];
        inputs.extend(states.iter().map(|shape| noise(shape, 2)));
        if op == "LSTM" {
            inputs.extend([noise(&[2, 3, HIDDEN], 4), noise(&[2, 3 * HIDDEN], 5)]);
        }
        check(op, &c.graph, &mut sessions(&c.engine), &inputs);
    }
}
