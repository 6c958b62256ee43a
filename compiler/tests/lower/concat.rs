//! What is computed in its part of a concatenation.

use crate::harness::check;

const SIZES: &[&[(&str, i64)]] = &[&[("N", 1), ("M", 1)], &[("N", 5), ("M", 2)], &[("N", 33), ("M", 17)]];

#[test]
fn results_are_written_into_their_part() {
    // A skip connection: one argument is computed, the other is an input that others use too.
    let steps = check(
        "graph @g (%x: f32[1,N,M,3], %y: f32[1,N,M,5]) {
           %w = const f32[4,3,1,1] splat 0.25
           %v = const f32[2,9,1,1] splat 0.5
           %a = conv %x, %w {strides=[1,1], dilations=[1,1], pads=[0,0,0,0], groups=1, layout=\"nhwc\"}
           %r = tanh %y
           %c = concat %a, %r {axis=3}
           %d = conv %c, %v {strides=[1,1], dilations=[1,1], pads=[0,0,0,0], groups=1, layout=\"nhwc\"}
           %e = exp %r
           return %d, %e
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Conv Tile Conv Tile");
}

#[test]
fn a_cache_grows_by_one_copy() {
    let steps = check(
        "graph @g (%past: f32[1,2,N,4], %x: f32[1,M,8], %w: f32[8,8]) {
           %k = matmul %x, %w
           %r = reshape %k {shape=[1,M,2,4]}
           %t = transpose %r {perm=[0,2,1,3]}
           %e = exp %t
           %p = concat %past, %e {axis=2}
           %q = reduce_max %p {axes=[2], keepdims=0}
           return %p, %q
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul Tile Copy Tile");
}

#[test]
fn nested_and_repeated_arguments() {
    let steps = check(
        "graph @g (%x: f32[N,2], %y: f32[N,3]) {
           %a = exp %x
           %b = tanh %y
           %c = concat %a, %b {axis=1}
           %d = concat %c, %a, %c {axis=1}
           return %d
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile Copy Copy Copy");
}

#[test]
fn a_step_that_reads_another_part_writes_elsewhere() {
    // Densely connected layers: the second argument is computed from the first.
    check(
        "graph @g (%x: f32[N,4], %w: f32[4,4]) {
           %a = exp %x
           %b = tanh %a
           %m = matmul %b, %w
           %c = concat %a, %b, %m {axis=1}
           %t = transpose %a {perm=[1,0]}
           %f = reduce_sum %t {axes=[0], keepdims=1}
           %g = transpose %f {perm=[1,0]}
           %d = concat %c, %g {axis=1}
           return %d
         }",
        SIZES,
    );
}

#[test]
fn an_argument_that_is_a_part_in_another_order() {
    check(
        "graph @g (%x: f32[4,4]) {
           %a = exp %x
           %t = transpose %a {perm=[1,0]}
           %c = concat %a, %t {axis=0}
           %d = concat %t, %c {axis=0}
           return %c, %d
         }",
        &[&[]],
    );
}

#[test]
fn parts_behind_reshapes_and_transposes() {
    let steps = check(
        "graph @g (%x: f32[2,3,N], %y: f32[N,2]) {
           %a = exp %x
           %t = transpose %a {perm=[2,0,1]}
           %r = reshape %t {shape=[N,6]}
           %b = tanh %y
           %c = concat %r, %b {axis=1}
           return %c
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile");
}
