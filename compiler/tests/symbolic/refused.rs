//! Shapes that an engine does not take: the error has a code and names the symbol, its values and the inputs.

use super::common::{Model, compiled, ints, noise, run, session};
use autoglm_ir::Tensor;

/// The code and text of the error of a run.
fn refusal(model: Model, bounds: &[(&str, i64, i64)], inputs: &[Tensor]) -> (&'static str, String) {
    let c = compiled(model.bytes(), bounds);
    let error = run(&mut session(&c.engine, 1, None), inputs).unwrap_err();
    (error.code(), error.to_string())
}

fn add() -> Model {
    Model::new().floats("a", "batch,n").floats("b", "batch,n").node("y = Add a b", vec![])
}

#[test]
fn a_value_outside_the_bounds() {
    let x = |n| noise(&[n, 2], 1);
    let (code, text) = refusal(add(), &[("batch", 1, 4)], &[x(5), x(5)]);
    assert_eq!(code, "E0604");
    let want = "batch must be at most 4, as declared at compile time (5 vs 4), where batch is 5 (axis 0 of input \"a\")";
    assert_eq!(text, want);
    let (_, text) = refusal(add(), &[("batch", 2, 4)], &[x(1), x(1)]);
    let want = "batch must be at least 2, as declared at compile time (2 vs 1), where batch is 1 (axis 0 of input \"a\")";
    assert_eq!(text, want);
    let (code, text) = refusal(add(), &[("batch", 3, 3)], &[x(5), x(5)]);
    assert_eq!((code, text.as_str()), ("E0604", "input \"a\": extent of axis 0 must be 3 (5 vs 3)"));
}

#[test]
fn one_symbol_with_two_values() {
    let (code, text) = refusal(add(), &[], &[noise(&[2, 3], 1), noise(&[5, 3], 1)]);
    assert_eq!(code, "E0604");
    let want = "input \"b\": extent of axis 0 must be batch (5 vs 2), where batch is 2 (axis 0 of input \"a\"), batch is 5 \
                (axis 0 of input \"b\")";
    assert_eq!(text, want);
}

#[test]
fn an_extent_that_does_not_divide() {
    let model = || Model::new().floats("x", "N").constant("to", &[-1, 4]).node("y = Reshape x to", vec![]);
    let c = compiled(model().bytes(), &[]);
    assert_eq!(run(&mut session(&c.engine, 1, None), &[noise(&[8], 1)]).unwrap()[0].shape, [2, 4]);
    let (code, text) = refusal(model(), &[], &[noise(&[6], 1)]);
    assert_eq!(code, "E0604");
    assert!(text.contains("Reshape") && text.contains("N is 6 (axis 0 of input \"x\")"), "{text}");
}

#[test]
fn extents_that_do_not_broadcast() {
    let model = Model::new().floats("a", "N").floats("b", "M").node("y = Add a b", vec![]);
    let (code, text) = refusal(model, &[], &[noise(&[2], 1), noise(&[3], 1)]);
    assert_eq!(code, "E0604");
    assert!(text.contains("N is 2 (axis 0 of input \"a\"), M is 3 (axis 0 of input \"b\")"), "{text}");
}

/// A window that does not fit has no result of extent -1.
#[test]
fn an_image_smaller_than_the_window() {
    let model = Model::new().floats("x", "1,1,H,8").weight("w", &[1, 1, 5, 5]);
    let model = model.node("y = Conv x w", vec![ints("strides", &[1, 1])]);
    let (code, text) = refusal(model, &[], &[noise(&[1, 1, 2, 8], 1)]);
    assert_eq!(code, "E0604");
    assert!(text.contains("H is 2 (axis 2 of input \"x\")"), "{text}");
}

/// Arithmetic on extents is checked: the number of elements of the result does not fit 64 bits.
#[test]
fn sizes_that_overflow() {
    let model = Model::new().integers("to", "2").floats("x", "1").node("y = Expand x to", vec![]);
    let to = Tensor::i64s(vec![2], &[1 << 40, 1 << 40]);
    let (code, text) = refusal(model, &[], &[to, noise(&[1], 1)]);
    assert!(code == "E0605" || code == "E0606", "{code}: {text}");
}
