//! Products, convolutions and attention: operands as views, results where they are needed, epilogues.

use crate::harness::check;

const SIZES: &[&[(&str, i64)]] = &[&[("N", 1), ("M", 1)], &[("N", 5), ("M", 2)], &[("N", 33), ("M", 17)]];

#[test]
fn elementwise_chains_become_epilogues() {
    let steps = check(
        "graph @g (%x: f32[2,N,6], %res: f32[N,2,4], %row: f32[N,1]) {
           %w = const f32[6,4] splat 0.1
           %bias = const f32[4] [1, 2, 3, 4]
           %y = linear %x, %w, %bias
           %g = gelu %y
           %t = transpose %res {perm=[1,0,2]}
           %a = add %g, %t
           %b = mul %a, %row
           return %b
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul+");
}

#[test]
fn one_of_two_products_takes_the_sum() {
    let steps = check(
        "graph @g (%x: f32[2,N,6], %w: f32[6,4], %v: f32[6,4]) {
           %y = matmul %x, %w
           %z = matmul %x, %v
           %a = add %y, %z
           %b = tanh %a
           return %a, %b
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul MatMul+ Tile");
}

#[test]
fn batched_products_with_broadcast_factors() {
    let steps = check(
        "graph @g (%x: f32[2,1,N,6], %y: f32[3,6,M], %v: f32[6], %w: f32[6,5], %z: f32[2,3,N,M]) {
           %a = matmul %x, %y
           %b = sub %a, %z
           %c = linear %v, %w
           %d = matmul %x, %w
           return %b, %c, %d
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul+ MatMul MatMul");
}

#[test]
fn the_output_of_a_batched_product_is_written_in_the_order_that_follows() {
    let steps = check(
        "graph @g (%p: f32[2,3,N,M], %v: f32[2,M,3,4], %w: f32[12,5]) {
           %t = transpose %v {perm=[0,2,1,3]}
           %a = matmul %p, %t
           %b = transpose %a {perm=[0,2,1,3]}
           %c = reshape %b {shape=[2,N,12]}
           %d = matmul %c, %w
           return %d
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul MatMul");
}

#[test]
fn other_element_types() {
    check(
        "graph @g (%x: f16[2,N,6], %w: f16[6,4], %b: f16[4], %d: f64[2,N,6], %e: f64[6,4], %f: f64[4], %i: i32[N,3], %j: i32[3,2], %v: f64[6]) {
           %a = linear %x, %w, %b
           %n = neg %a
           %c = linear %d, %e, %f
           %k = matmul %i, %j
           %l = neg %k
           %o = linear %v, %e, %f
           return %n, %c, %l, %o
         }",
        SIZES,
    );
}

#[test]
fn convolutions_take_residuals_and_activations() {
    let conv = "strides=[1,1], dilations=[1,1], pads=[1,1,1,1], groups=1, layout=\"nhwc\"";
    let steps = check(
        &format!(
            "graph @g (%x: f32[2,N,M,3]) {{
               %w = const f32[3,3,3,3] splat 0.1
               %b = const f32[3] [1, -2, 0.5]
               %zero = const f32[] [0]
               %y = conv %x, %w, %b {{{conv}}}
               %r = max %y, %zero
               %z = conv %r, %w {{{conv}}}
               %s = add %z, %x
               %t = max %s, %zero
               return %t
             }}"
        ),
        SIZES,
    );
    // The first result is computed in the middle of the second input; only borders are filled.
    assert_eq!(steps.list(), "Tile*3 Conv+ Tile*2 Conv+");
    assert_eq!(steps.ops, ["fill fill copy", "conv max", "fill fill", "conv add max"]);
}

#[test]
fn transformed_convolutions_take_residuals_and_activations() {
    let conv = "strides=[1,1], dilations=[1,1], groups=1, layout=\"nhwc\", algorithm=\"winograd\"";
    let steps = check(
        &format!(
            "graph @g (%x: f32[2,N,M,3]) {{
               %w = const f32[3,3,3,3] splat 0.1
               %b = const f32[3] [1, -2, 0.5]
               %zero = const f32[] [0]
               %y = conv %x, %w, %b {{{conv}, pads=[1,1,1,1]}}
               %r = max %y, %zero
               %z = conv %r, %w {{{conv}, pads=[1,1,1,1]}}
               %s = add %z, %x
               %t = max %s, %zero
               %u = conv %t, %w {{{conv}, pads=[2,0,1,3]}}
               return %t, %u
             }}"
        ),
        SIZES,
    );
    assert_eq!(steps.list().matches("Winograd").count(), 3);
}

#[test]
fn zeros_that_form_a_pattern_are_left_out_rather_than_transformed() {
    // Every second channel is zero in all windows.
    let channel = |i: usize| {
        if i.is_multiple_of(2) { "0.5, -1, 2, 3, -0.25, 1, 4, 2, 1" } else { "0, 0, 0, 0, 0, 0, 0, 0, 0" }
    };
    let weight: Vec<&str> = (0..16 * 32).map(|i| channel(i % 16)).collect();
    let steps = check(
        &format!(
            "graph @g (%x: f32[1,N,M,16]) {{
               %w = const f32[32,16,3,3] [{}]
               %y = conv %x, %w {{strides=[1,1], dilations=[1,1], groups=1, layout=\"nhwc\", algorithm=\"winograd\", pads=[1,1,1,1]}}
               return %y
             }}",
            weight.join(", ")
        ),
        SIZES,
    );
    assert_eq!(steps.list().matches("Winograd").count(), 0);
}

#[test]
fn sums_of_images_are_pools() {
    let steps = check(
        "graph @g (%x: f32[2,N,M,5], %f: f32[3,N,4,M]) {
           %a = exp %x
           %s = reduce_sum %a {axes=[1,2], keepdims=1}
           %t = reduce_sum %x {axes=[2,1], keepdims=0}
           %l = reduce_sum %x {axes=[1,3], keepdims=1}
           %p = transpose %f {perm=[0,1,3,2]}
           %u = reduce_sum %p {axes=[1,2], keepdims=1}
           return %a, %s, %t, %l, %u
         }",
        SIZES,
    );
    assert_eq!(steps.list().matches("Pool").count(), 2);
}

#[test]
fn general_convolutions_and_pools_read_views() {
    check(
        "graph @g (%x: f32[N,2,8,8], %w: f32[4,1,3,3], %b: f32[4]) {
           %t = transpose %x {perm=[0,1,3,2]}
           %y = conv %t, %w, %b {strides=[1,2], dilations=[1,1], pads=[1,0,0,1], groups=2}
           %p = max_pool %y {kernel=[2,2], strides=[2,1], dilations=[1,1], pads=[0,1,1,0], ceil=0}
           %n = neg %p
           return %n
         }",
        SIZES,
    );
}

#[test]
fn pools_and_norms_read_and_write_strided() {
    let steps = check(
        "graph @g (%x: f32[2,8,8,6], %s: f32[3]) {
           %a = slice %x {starts=[0,0,0,3], sizes=[2,8,8,3], steps=[1,1,1,1]}
           %p = avg_pool %a {kernel=[2,2], strides=[2,2], dilations=[1,1], pads=[0,0,0,0], include_pad=0, ceil=0, layout=\"nhwc\"}
           %l = layer_norm %a, %s {epsilon=1e-5}
           %q = softmax %p
           %c = concat %p, %q {axis=3}
           return %l, %c
         }",
        &[&[]],
    );
    assert_eq!(steps.list(), "Pool LayerNorm Softmax Copy");
}

#[test]
fn attention_is_one_step_between_products() {
    let steps = check(
        "graph @g (%x: f32[2,N,8], %mask: f32[2,1,1,N]) {
           %wq = const f32[8,8] splat 0.1
           %wk = const f32[8,4] splat 0.2
           %b = const f32[8] [1, 2, 3, 4, 5, 6, 7, 8]
           %y = linear %x, %wq, %b
           %q = reshape %y {shape=[2,N,4,2]}
           %qt = transpose %q {perm=[0,2,1,3]}
           %z = linear %x, %wk
           %k = reshape %z {shape=[2,N,2,2]}
           %kt = transpose %k {perm=[0,2,1,3]}
           %a = attention %qt, %kt, %kt, %mask {scale=0.5}
           %t = transpose %a {perm=[0,2,1,3]}
           %r = reshape %t {shape=[2,N,8]}
           %o = linear %r, %wq, %b
           %s = add %o, %x
           return %s
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul MatMul Attention MatMul+");
}

#[test]
fn attention_over_a_cache_with_turned_keys() {
    let steps = check(
        "graph @g (%past: f32[1,2,N,4], %x: f32[1,M,8], %cos: f32[M,4], %sin: f32[M,4], %h: f16[1,2,M,4]) {
           %w = const f32[8,8] splat 0.1
           %y = linear %x, %w
           %r = reshape %y {shape=[1,M,2,4]}
           %t = transpose %r {perm=[0,2,1,3]}
           %k = rope %t, %cos, %sin
           %present = concat %past, %k {axis=2}
           %a = attention %t, %present, %present {scale=1, zero_masked=1}
           %b = attention %h, %h, %h {scale=1}
           return %a, %present, %b
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul Tile*2 Attention Copy Copy Copy Attention Copy");
}

#[test]
fn keys_and_values_of_a_cache_are_copied_together() {
    let steps = check(
        "graph @g (%pk: f32[2,2,M,4], %pv: f32[2,2,M,4], %x: f32[2,N,6]) {
           %w = const f32[6,24] splat 0.1
           %y = linear %x, %w
           %qs = slice %y {starts=[0,0,0], sizes=[2,N,8], steps=[1,1,1]}
           %ks = slice %y {starts=[0,0,8], sizes=[2,N,8], steps=[1,1,1]}
           %vs = slice %y {starts=[0,0,16], sizes=[2,N,8], steps=[1,1,1]}
           %qr = reshape %qs {shape=[2,N,2,4]}
           %kr = reshape %ks {shape=[2,N,2,4]}
           %vr = reshape %vs {shape=[2,N,2,4]}
           %q = transpose %qr {perm=[0,2,1,3]}
           %k = transpose %kr {perm=[0,2,1,3]}
           %v = transpose %vr {perm=[0,2,1,3]}
           %keys = concat %pk, %k {axis=2}
           %values = concat %pv, %v {axis=2}
           %a = attention %q, %keys, %values {scale=0.5, causal=[M], fill=-inf}
           return %a, %keys, %values
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul Copy*2 Copy*2 Attention");
}

/// The parts of a concatenation are one step, after what makes them.
#[test]
fn copies_wait_for_what_they_copy() {
    let steps = check(
        "graph @g (%x: f32[2,N], %y: f32[2,N]) {
           %a = concat %x, %y {axis=0}
           %e = softmax %a
           %b = concat %e, %e {axis=1}
           %c = concat %x, %x, %y {axis=0}
           return %a, %b, %c
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Copy*2 Softmax Copy*2 Copy*3");
}

#[test]
fn rotation_of_a_part_is_one_loop() {
    // What stays of the second is less than what turns.
    for (interleaved, list) in [(0, "Tile Tile*2"), (1, "Tile Copy Tile")] {
        let steps = check(
            &format!(
                "graph @g (%x: f32[2,3,N,16], %y: f32[2,N,6], %cos: f32[N,4], %sin: f32[N,4]) {{
                   %a = rope %x, %cos, %sin {{interleaved={interleaved}}}
                   %b = rope %y, %cos, %sin {{interleaved={interleaved}}}
                   return %a, %b
                 }}"
            ),
            SIZES,
        );
        assert_eq!(steps.list(), list);
    }
}

#[test]
fn attention_that_sees_keys_up_to_a_symbolic_diagonal() {
    let steps = check(
        "graph @g (%past: f32[2,2,M,4], %q: f32[2,4,N,4], %k: f32[2,2,N,4], %pad: bool[2,1,1,M+N]) {
           %zero = const f32[] [0]
           %low = const f32[] [-3.4028235e38]
           %mask = select %pad, %zero, %low
           %keys = concat %past, %k {axis=2}
           %a = attention %q, %keys, %keys, %mask {scale=0.5, causal=[M], fill=-3.4028234663852886e38}
           %b = attention %q, %keys, %keys {scale=0.5, causal=[M-2], fill=-inf, zero_masked=1}
           %c = attention %q, %keys, %keys {scale=0.5, causal=[-1], fill=-1e4}
           return %a, %b, %c
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile Copy*2 Attention Attention Attention");
}

#[test]
fn convolutions_that_pad_one_value_alike_share_it() {
    let conv = "strides=[1,1], dilations=[1,1], groups=1, layout=\"nhwc\"";
    let steps = check(
        &format!(
            "graph @g (%x: f32[2,N,M,3], %zero: f32[]) {{
               %w = const f32[4,3,3,3] splat 0.1
               %e = exp %x
               %a = conv %e, %w {{{conv}, pads=[1,1,1,1]}}
               %b = conv %e, %w {{{conv}, pads=[2,1,1,1]}}
               %c = conv %e, %w {{{conv}, pads=[1,1,1,1]}}
               %d = pad %a, %zero {{before=[0,1,0,0], after=[0,0,2,0]}}
               %f = add %e, %x
               return %b, %c, %d, %f
             }}"
        ),
        SIZES,
    );
    assert_eq!(steps.list(), "Tile*3 Conv Tile*4 Conv Conv Copy*2 Tile");
}

#[test]
fn epilogues_reach_through_reshapes_of_the_rows() {
    let steps = check(
        "graph @g (%x: f32[2,N,6], %res: f32[2,N,4], %row: f32[2,1,4], %s: f32[N,2]) {
           %w = const f32[6,4] splat 0.1
           %b = const f32[4] [1, 2, 3, 4]
           %r = reshape %x {shape=[2*N,6]}
           %y = linear %r, %w, %b
           %z = reshape %y {shape=[2,N,4]}
           %g = gelu %z
           %a = add %g, %res
           %k = linear %r, %w
           %l = reshape %k {shape=[2,N,4]}
           %m = mul %l, %row
           %v = const f32[2,4] splat 0.3
           %n = matmul %s, %v
           %o = reshape %n {shape=[N,2,2]}
           %p = neg %o
           return %a, %m, %p
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul+ MatMul Tile MatMul Tile");
}

#[test]
fn windows_go_back_to_their_places_with_the_residual() {
    let steps = check(
        "graph @g (%x: f32[N,28,21,8], %y: f32[N,4,3,7,7,8]) {
           %w = const f32[8,8] splat 0.5
           %e = exp %x
           %l = linear %y, %w
           %r = transpose %e {perm=[0,3,1,2]}
           %v = reshape %e {shape=[N,4,7,3,7,8]}
           %u = transpose %v {perm=[0,1,3,2,4,5]}
           %a = add %u, %l
           %t = transpose %a {perm=[0,1,3,2,4,5]}
           %s = reshape %t {shape=[N,28,21,8]}
           %n = const f32[8] [1, 2, 3, 4, 5, 6, 7, 8]
           %o = layer_norm %s, %n {epsilon=1e-5}
           %p = add %o, %s
           return %p, %r
         }",
        SIZES,
    );
    assert_eq!(steps.ops, ["exp", "linear add", "layer_norm", "add", "copy"]);
}

#[test]
fn chosen_matrices_are_read_where_they_are() {
    let steps = check(
        "graph @g (%x: f32[N,2,6], %w: f32[5,3,6], %i: i64[M,N], %j: i32[2]) {
           %packed = const f32[5,2,3] [1, 2, 3, -1, 0.5, 2, 4, 1, 0, 2, -2, 1, 3, 3, 1, 0, 1, -3, 2, 5, 1, 1, -1, 7, 0.25, 2, 2, 1, 9, -4]
           %wt = transpose %w {perm=[0,2,1]}
           %it = transpose %i {perm=[1,0]}
           %five = const i64[] [5]
           %back = sub %it, %five
           %rows = slice %x {starts=[0,1,0], sizes=[N,1,6], steps=[1,1,1]}
           %xs = reshape %rows {shape=[N,1,1,6]}
           %0 = gather_matmul %xs, %wt, %back
           %1 = reshape %j {shape=[2,1,1]}
           %2 = slice %0 {starts=[0,0,0,0], sizes=[N,M,1,2], steps=[1,1,1,2]}
           %3 = gather_matmul %2, %packed, %1
           %4 = transpose %3 {perm=[3,1,2,0,4]}
           return %0, %4
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Tile GatherMatMul Copy GatherMatMul");
}

#[test]
fn chosen_matrices_of_other_types_are_refused() {
    let graph = crate::harness::parse(
        "graph @g (%x: f16[N,6], %w: f16[5,6,3], %i: i64[]) {
           %0 = gather_matmul %x, %w, %i
           return %0
         }",
    );
    let refused = crate::harness::refusal(&graph);
    assert_eq!((refused.code, refused.message.as_str()), ("E0401", "`gather_matmul` of f16 tensors"));
}
