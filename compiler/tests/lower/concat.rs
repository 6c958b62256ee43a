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
    assert_eq!(steps.list(), "MatMul Tile*2 Tile");
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
    assert_eq!(steps.list(), "Tile*2 Copy*3");
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

#[test]
fn a_transposed_convolution_writes_every_pixel_of_a_block_into_its_part() {
    let steps = check(
        "graph @g (%x: f32[1,N,M,3], %y: f32[1,2*N,2*M,5]) {
           %w = const f32[3,64] splat 0.25
           %b = const f32[64] splat 2
           %v = const f32[4,21,3,3] splat 0.5
           %a = linear %x, %w, %b
           %r = reshape %a {shape=[1,N,M,2,2,16]}
           %t = transpose %r {perm=[0,5,1,3,2,4]}
           %s = reshape %t {shape=[1,16,2*N,2*M]}
           %p = transpose %s {perm=[0,2,3,1]}
           %e = exp %y
           %c = concat %e, %p {axis=3}
           %d = conv %c, %v {strides=[1,1], dilations=[1,1], pads=[1,1,1,1], groups=1, layout=\"nhwc\"}
           return %d
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul MatMul MatMul MatMul Tile*3 Conv");
}

#[test]
fn groups_of_columns_take_their_share_of_bias_and_epilogue() {
    let steps = check(
        "graph @g (%x: f32[N,6,7], %y: f32[N,6,48], %b: f32[N,1,1]) {
           %w = const f32[7,48] splat 0.25
           %c = const f32[48] splat 1
           %a = linear %x, %w, %c
           %f = mul %a, %y
           %g = add %f, %b
           %r = reshape %g {shape=[N,6,3,16]}
           %t = transpose %r {perm=[2,0,1,3]}
           %e = exp %t
           %s = reshape %e {shape=[3*N,96]}
           %z = const f32[96,2] splat 0.1
           %o = matmul %s, %z
           return %o, %t
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul+ MatMul+ MatMul+ Tile MatMul");
}

#[test]
fn parts_that_have_their_extents_by_a_guard() {
    let steps = check(
        "graph @g (%x: f32[1,N,3], %y: f32[1,floordiv(N, 2),4]) {
           %e = exp %x
           %t = tanh %y
           %r = concat %t, %t {axis=2}
           %s = reshape %r {shape=[1,2*floordiv(N, 2),4]}
           %n = neg %s
           %c = concat %e, %n {axis=2}
           guard eq N, 2*floordiv(N, 2) \"N is even\"
           return %c
         }",
        &[&[("N", 2)], &[("N", 34)]],
    );
    assert_eq!(steps.list(), "Tile Tile Copy*2 Tile");
}

#[test]
fn a_roll_is_one_step_and_so_is_a_roll_with_a_residual() {
    let steps = check(
        "graph @g (%x: f32[1,4,6,8], %y: f32[1,4,6,8]) {
           %a = exp %x
           %0 = slice %a {starts=[0,1,0,0], sizes=[1,3,6,8], steps=[1,1,1,1]}
           %1 = slice %a {starts=[0,0,0,0], sizes=[1,1,6,8], steps=[1,1,1,1]}
           %2 = slice %0 {starts=[0,0,2,0], sizes=[1,3,4,8], steps=[1,1,1,1]}
           %3 = slice %1 {starts=[0,0,2,0], sizes=[1,1,4,8], steps=[1,1,1,1]}
           %4 = concat %2, %3 {axis=1}
           %5 = slice %0 {starts=[0,0,0,0], sizes=[1,3,2,8], steps=[1,1,1,1]}
           %6 = slice %1 {starts=[0,0,0,0], sizes=[1,1,2,8], steps=[1,1,1,1]}
           %7 = slice %y {starts=[0,0,4,0], sizes=[1,3,2,8], steps=[1,1,1,1]}
           %8 = slice %y {starts=[0,3,4,0], sizes=[1,1,2,8], steps=[1,1,1,1]}
           %9 = add %5, %7
           %10 = add %6, %8
           %11 = concat %9, %10 {axis=1}
           %12 = concat %4, %11 {axis=2}
           return %12
         }",
        &[&[]],
    );
    assert_eq!(steps.list(), "Tile Tile*4");
}
