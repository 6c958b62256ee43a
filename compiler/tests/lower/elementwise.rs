//! Elementwise chains, reductions and activations.

use crate::harness::check;

const SIZES: &[&[(&str, i64)]] = &[&[("N", 1)], &[("N", 7)], &[("N", 64)]];

#[test]
fn chains_fuse_through_views() {
    let steps = check(
        "graph @g (%x: f32[N,6], %y: f32[6]) {
           %a = add %x, %y
           %b = exp %a
           %r = reshape %b {shape=[N,2,3]}
           %t = transpose %r {perm=[2,0,1]}
           %c = tanh %t
           %s = slice %c {starts=[2,0,0], sizes=[2,N,2], steps=[-1,1,1]}
           %d = mul %s, %s
           return %d
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile");
}

#[test]
fn cheap_values_are_repeated_and_costly_ones_stored() {
    let steps = check(
        "graph @g (%x: f32[N,6]) {
           %a = add %x, %x
           %b = exp %a
           %c = sin %a
           return %b, %c
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile");
    let steps = check(
        "graph @g (%x: f32[N,6]) {
           %a = exp %x
           %b = exp %a
           %c = sin %a
           return %b, %c
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile Tile");
}

#[test]
fn a_costly_value_is_not_computed_for_every_repetition() {
    let steps = check(
        "graph @g (%x: f32[6], %y: f32[N,6]) {
           %a = exp %x
           %b = mul %a, %y
           return %b
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile");
}

#[test]
fn reductions_take_producers_and_an_epilogue() {
    let steps = check(
        "graph @g (%x: f32[N,6], %y: f32[N,6], %z: f32[N,1]) {
           %half = const f32[] [0.5]
           %a = mul %x, %y
           %b = reduce_sum %a {axes=[1], keepdims=1}
           %c = mul %b, %half
           %d = add %c, %z
           %e = sqrt %d
           %m = reduce_max %x {axes=[0], keepdims=0}
           %r = reshape %m {shape=[1,6]}
           %n = add %r, %half
           return %e, %n
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile");
}

#[test]
fn a_reduction_without_axes_is_elementwise() {
    check(
        "graph @g (%x: f16[N,6]) {
           %a = reduce_sum %x {axes=[], keepdims=0}
           %b = neg %a
           return %b
         }",
        SIZES,
    );
}

#[test]
fn half_precision_reductions_round_before_their_epilogue() {
    check(
        "graph @g (%x: f16[N,6]) {
           %a = reduce_sum %x {axes=[1], keepdims=0}
           %b = mul %a, %a
           %c = sub %b, %a
           return %c
         }",
        SIZES,
    );
}

#[test]
fn activations() {
    let steps = check(
        "graph @g (%x: f32[N,6], %h: f16[N], %d: f64[N]) {
           %a = gelu %x
           %b = gelu %x {tanh=1}
           %c = silu %x
           %e = hard_swish %x
           %f = gelu %h {tanh=1}
           %g = silu %d
           return %a, %b, %c, %e, %f, %g
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile Tile Tile Tile Tile");
}

#[test]
fn powers_with_uniform_exponents() {
    check(
        "graph @g (%x: f32[N,6], %i: i64[N]) {
           %two = const f32[] [2]
           %three = const f32[N0] splat 3
           %half = const f32[] [0.5]
           %other = const f32[] [1.5]
           %ten = const i64[] [3]
           %special = const f32[6] [-inf, -0, 0, inf, nan, -1]
           %a = pow %x, %two
           %b = pow %x, %three
           %c = abs %x
           %d = pow %c, %half
           %e = pow %c, %other
           %f = pow %i, %ten
           %g = pow %special, %half
           return %a, %b, %d, %e, %f, %g
         }"
        .replace("f32[N0]", "f32[6]")
        .as_str(),
        SIZES,
    );
}

#[test]
fn masked_softmax() {
    let steps = check(
        "graph @g (%x: f32[N,6], %m: bool[N,6]) {
           %low = const f32[] [-inf]
           %s = select %m, %x, %low
           %p = softmax %s {zero_masked=1}
           return %p
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Softmax Tile");
}

#[test]
fn rope_of_both_kinds() {
    let steps = check(
        "graph @g (%x: f32[2,N,3,8], %c: f32[N,1,6], %s: f32[N,1,6]) {
           %a = rope %x, %c, %s
           %b = rope %x, %c, %s {interleaved=1}
           %t = transpose %a {perm=[0,2,1,3]}
           return %t, %b
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Copy Tile Copy Tile");
}
