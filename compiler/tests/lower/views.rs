//! Movement operators as views, and the copies that remain.

use crate::harness::check;

const SIZES: &[&[(&str, i64)]] = &[&[("N", 1), ("M", 3)], &[("N", 5), ("M", 2)], &[("N", 33), ("M", 17)]];

#[test]
fn movement_between_products_costs_nothing() {
    // The heads of an attention block before its own step.
    let steps = check(
        "graph @g (%x: f32[2,N,8], %w: f32[8,8]) {
           %y = matmul %x, %w
           %r = reshape %y {shape=[2,N,2,4]}
           %q = transpose %r {perm=[0,2,1,3]}
           %k = transpose %r {perm=[0,2,3,1]}
           %s = matmul %q, %k
           %p = softmax %s
           %o = matmul %p, %q
           %t = transpose %o {perm=[0,2,1,3]}
           %z = reshape %t {shape=[2,N,8]}
           %u = matmul %z, %w
           return %u
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul MatMul Softmax MatMul MatMul");
}

#[test]
fn slices_of_a_product_are_views() {
    let steps = check(
        "graph @g (%x: f32[N,6], %w: f32[6,12]) {
           %y = matmul %x, %w
           %a = slice %y {starts=[0,0], sizes=[N,4], steps=[1,1]}
           %b = slice %y {starts=[0,4], sizes=[N,8], steps=[1,1]}
           %c = slice %b {starts=[0,7], sizes=[N,4], steps=[1,-2]}
           %s = add %a, %c
           %t = softmax %a
           %u = mul %s, %t
           return %u
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul Softmax Tile");
}

#[test]
fn outputs_are_dense_and_written_in_their_order() {
    let steps = check(
        "graph @g (%x: f32[N,6], %y: f32[6]) {
           %e = exp %x
           %t = transpose %e {perm=[1,0]}
           %a = add %t, %t
           return %t, %a
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Tile");
    let steps = check(
        "graph @g (%x: f32[N,6]) {
           %e = exp %x
           %t = transpose %e {perm=[1,0]}
           return %t
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile");
}

#[test]
fn a_view_that_several_cannot_read_is_copied_once() {
    let steps = check(
        "graph @g (%x: f32[N,6,4], %i: i64[3], %j: i64[2]) {
           %t = transpose %x {perm=[1,0,2]}
           %a = gather %t, %i {axis=0}
           %b = gather %t, %j {axis=0}
           return %a, %b
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Copy Gather Gather");
}

#[test]
fn window_partition_copies_at_most_once() {
    let steps = check(
        "graph @g (%x: f32[2,8,8,4], %s: f32[4], %w: f32[4,4]) {
           %n = layer_norm %x, %s {epsilon=1e-5}
           %a = reshape %n {shape=[2,2,4,2,4,4]}
           %b = transpose %a {perm=[0,1,3,2,4,5]}
           %c = reshape %b {shape=[8,16,4]}
           %d = matmul %c, %w
           %e = reshape %d {shape=[2,2,2,4,4,4]}
           %f = transpose %e {perm=[0,1,3,2,4,5]}
           %g = reshape %f {shape=[2,8,8,4]}
           %h = add %g, %x
           return %h
         }",
        &[&[]],
    );
    assert!(steps.kinds.iter().filter(|k| *k == "Copy").count() <= 1, "{steps:?}");
    assert!(steps.kinds.len() <= 4, "{steps:?}");
}

#[test]
fn a_reshape_whose_extents_only_a_guard_equates() {
    check(
        "graph @g (%x: f32[N,2], %y: f32[M,1]) {
           %r = reshape %x {shape=[M,1]}
           %a = add %r, %y
           %s = reshape %r {shape=[1,M]}
           return %a, %s
         }",
        &[&[("N", 2), ("M", 4)], &[("N", 5), ("M", 10)]],
    );
}

#[test]
fn inputs_and_constants_as_outputs_are_copied() {
    let steps = check(
        "graph @g (%x: f32[N,6]) {
           %c = const f32[2] [1, 2]
           %r = reshape %x {shape=[6,N]}
           return %x, %c, %r, %x
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Copy Copy Copy Copy");
}

#[test]
fn broadcasts_that_are_known_only_at_run_time() {
    check(
        "graph @g (%x: f32[N,M], %y: f32[M,N]) {
           %a = add %x, %y
           %e = expand %x {shape=[3,M,M]}
           %t = transpose %e {perm=[2,1,0]}
           return %a, %t
         }",
        &[&[("N", 1), ("M", 4)], &[("N", 4), ("M", 4)]],
    );
}

#[test]
fn a_copy_that_is_computed_in_place() {
    // The first value dies with the copy, so the planner gives both the same memory.
    let steps = check(
        "graph @g (%x: f32[N,4], %i: i64[3]) {
           %a = exp %x
           %g = gather %a, %i {axis=1}
           %c = concat %a {axis=0}
           return %g, %c
         }",
        &[&[("N", 5)]],
    );
    assert_eq!(steps.list(), "Tile Gather Copy");
}

#[test]
fn known_indices_at_regular_steps_are_views() {
    // Queries, keys and values of one product.
    let steps = check(
        "graph @g (%x: f32[2,N,4], %w: f32[4,24]) {
           %zero = const i64[] [0]
           %one = const i64[1] [-2]
           %odd = const i64[2,1] [3, 1]
           %some = const i64[3] [0, 1, 3]
           %y = matmul %x, %w
           %r = reshape %y {shape=[2,N,3,2,4]}
           %t = transpose %r {perm=[2,0,3,1,4]}
           %q = gather %t, %zero {axis=0}
           %k = gather %t, %one {axis=0}
           %u = reshape %k {shape=[2,2,N,4]}
           %v = transpose %u {perm=[0,1,3,2]}
           %s = matmul %q, %v
           %g = gather %q, %odd {axis=3}
           %n = neg %g
           %h = gather %q, %some {axis=3}
           return %s, %n, %h
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul MatMul Tile Copy Gather");
}
