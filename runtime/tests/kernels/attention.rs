//! Attention.

use super::{Guarded, Random, U, all_kernels, close, in_parts};
use autoglm_runtime::cpu::kernels::{AttentionArgs, Heads, attention};

const BASE: AttentionArgs = AttentionArgs {
    batch: 1,
    heads: 2,
    kv_heads: 2,
    q_len: 5,
    kv_len: 7,
    head_dim: 8,
    v_dim: 8,
    scale: 0.25,
    q: Heads { offset: 0, steps: [0; 4] },
    k: Heads { offset: 0, steps: [0; 4] },
    v: Heads { offset: 0, steps: [0; 4] },
    out: Heads { offset: 0, steps: [0; 4] },
    mask: None,
    causal: None,
    fill: f32::NEG_INFINITY,
    zero_masked: false,
};

/// With dense operands and no mask.
fn dense(args: &AttentionArgs) -> AttentionArgs {
    AttentionArgs {
        q: Heads::dense([args.heads, args.q_len, args.head_dim]),
        k: Heads::dense([args.kv_heads, args.kv_len, args.head_dim]),
        v: Heads::dense([args.kv_heads, args.kv_len, args.v_dim]),
        out: Heads::dense([args.heads, args.q_len, args.v_dim]),
        ..*args
    }
}

/// An element of an operand.
fn at(data: &[f32], view: &Heads, index: [usize; 4]) -> f64 {
    let moved: isize = index.iter().zip(view.steps).map(|(&i, step)| i.cast_signed() * step).sum();
    f64::from(data[view.offset.wrapping_add_signed(moved)])
}

/// The naive result for one row, and a bound on its error.
fn reference_row(
    args: &AttentionArgs,
    [q, k, v, mask]: [&[f32]; 4],
    [b, h, i]: [usize; 3],
) -> Vec<(f64, f64)> {
    let g = h / (args.heads / args.kv_heads);
    let seen = args.causal.map_or(args.kv_len as i64, |offset| i as i64 + offset + 1);
    let visible = seen.clamp(0, args.kv_len as i64) as usize;
    let seen = if args.fill > f32::NEG_INFINITY { args.kv_len } else { visible };
    let mut size = 1.0_f64;
    let scores: Vec<f64> = (0..seen)
        .map(|j| {
            if j >= visible {
                return f64::from(args.fill);
            }
            let terms =
                (0..args.head_dim).map(|d| at(q, &args.q, [b, h, i, d]) * at(k, &args.k, [b, g, j, d]));
            let (dot, all) = terms.fold((0.0, 0.0), |(sum, all), x| (sum + x, all + x.abs()));
            let score = dot * f64::from(args.scale);
            if score.is_finite() {
                size = size.max(all * f64::from(args.scale).abs());
            }
            match &args.mask {
                // Masked scores are rounded as the kernel rounds them: to infinity too.
                Some(view) => f64::from((score + at(mask, view, [b, h, i, j])) as f32),
                None => score,
            }
        })
        .collect();
    let nan = scores.iter().any(|s| s.is_nan());
    let max = if nan { f64::NAN } else { scores.iter().copied().fold(f64::NEG_INFINITY, f64::max) };
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..args.v_dim)
        .map(|c| {
            if args.zero_masked && (total.is_nan() || seen == 0) {
                return (0.0, 0.0);
            }
            let terms = (0..seen).map(|j| weights[j] * at(v, &args.v, [b, g, j, c]));
            let (sum, all) = terms.fold((0.0, 0.0), |(sum, all), x| (sum + x, all + x.abs()));
            // An error of the scores is one of their exponentials; sums have one rounding a term.
            let factor = (args.head_dim + seen) as f64 + 60.0;
            (sum / total, U * factor * (2.0 * size + 8.0) * (all / total + 1e-30))
        })
        .collect()
}

/// Runs every kernel and compares with the naive result. The operands lie between guard pages.
fn check(args: &AttentionArgs, operands: [Vec<f32>; 4]) {
    let foot = args.footprint().unwrap();
    let [q, k, v, mask] = operands.map(|data| Guarded::new(&data, args.kv_len.is_multiple_of(2)));
    assert_eq!((q.len(), k.len(), v.len()), (foot.q.end, foot.k.end, foot.v.end), "{args:?}");
    assert_eq!(mask.len(), foot.mask.end);
    for kernels in all_kernels() {
        let got = in_parts(foot.out.len(), |out, part| {
            let mut scratch = Guarded::new(&vec![f32::NAN; foot.scratch], part.index.is_multiple_of(2));
            let mask = args.mask.is_some().then_some(&*mask);
            attention(&kernels, args, &q, &k, &v, mask, out, scratch.elements(), part)
        });
        for b in 0..args.batch {
            for h in 0..args.heads {
                for i in 0..args.q_len {
                    let want = reference_row(args, [&q, &k, &v, &mask], [b, h, i]);
                    for (c, &(want, bound)) in want.iter().enumerate() {
                        let what = || format!("[{b}, {h}, {i}, {c}] of {} {args:?}", kernels.isa().name());
                        let got = at(&got, &args.out, [b, h, i, c]) as f32;
                        if want.is_nan() {
                            assert!(got.is_nan(), "{}: got {got} instead of NaN", what());
                        } else {
                            close(got, want, bound, &what);
                        }
                    }
                }
            }
        }
    }
}

/// Random operands of the footprints' sizes.
fn operands(args: &AttentionArgs, random: &mut Random) -> [Vec<f32>; 4] {
    let foot = args.footprint().unwrap();
    [foot.q.end, foot.k.end, foot.v.end, foot.mask.end].map(|len| random.floats(len))
}

fn check_dense(args: &AttentionArgs) {
    let args = dense(args);
    check(&args, operands(&args, &mut Random::new((args.q_len * 31 + args.kv_len) as u64)));
}

#[test]
fn edge_shapes() {
    for (q_len, kv_len) in [(1, 1), (1, 9), (5, 1), (3, 33), (13, 64), (65, 31), (8, 100)] {
        for (head_dim, v_dim) in [(1, 1), (7, 9), (16, 32), (33, 17), (64, 64)] {
            check_dense(&AttentionArgs { q_len, kv_len, head_dim, v_dim, ..BASE });
        }
    }
    check_dense(&AttentionArgs { batch: 3, ..BASE });
}

#[test]
fn empty_extents() {
    for zero_masked in [false, true] {
        let base = AttentionArgs { zero_masked, ..BASE };
        check_dense(&AttentionArgs { q_len: 0, ..base });
        check_dense(&AttentionArgs { batch: 0, ..base });
        check_dense(&AttentionArgs { v_dim: 0, ..base });
        check_dense(&AttentionArgs { head_dim: 0, ..base });
        check_dense(&AttentionArgs { kv_len: 0, ..base });
        check_dense(&AttentionArgs { kv_len: 0, q_len: 70, ..base });
    }
}

#[test]
fn grouped_heads() {
    for (heads, kv_heads) in [(4, 2), (6, 1), (9, 3)] {
        for q_len in [1, 2, 40] {
            check_dense(&AttentionArgs { heads, kv_heads, q_len, batch: 2, kv_len: 19, ..BASE });
        }
    }
}

#[test]
fn keys_in_several_blocks_and_rows_in_several_chunks() {
    for kv_len in [511, 512, 513, 1100] {
        for q_len in [1, 3, 70] {
            check_dense(&AttentionArgs { heads: 1, kv_heads: 1, q_len, kv_len, head_dim: 9, ..BASE });
        }
    }
    check_dense(&AttentionArgs { q_len: 600, kv_len: 20, heads: 2, kv_heads: 1, ..BASE });
}

#[test]
fn causal_rows_see_keys_up_to_their_own() {
    for offset in [-600, -3, -1, 0, 1, 4, 600, i64::MAX, i64::MIN] {
        for (q_len, kv_len, heads) in [(5, 7, 2), (1, 9, 4), (130, 70, 2), (70, 530, 1)] {
            for zero_masked in [false, true] {
                let causal = Some(offset.clamp(-(1 << 40), 1 << 40));
                check_dense(&AttentionArgs {
                    q_len,
                    kv_len,
                    heads,
                    kv_heads: 1,
                    causal,
                    zero_masked,
                    ..BASE
                });
            }
        }
    }
}

/// Hidden keys have a weight only in rows whose other scores are as low as theirs.
#[test]
fn hidden_keys_have_the_score_that_fills() {
    for (fill, low) in [(-3.4e38, -3.4e38), (-1e4, -1e4), (-20.0, 0.0), (0.0, 0.0), (-1e9, f32::NEG_INFINITY)]
    {
        for (q_len, kv_len, offset) in [(3, 9, 0), (20, 31, 11), (70, 600, 530), (5, 7, -2)] {
            let steps = [0, 0, 0, 1];
            let base = AttentionArgs { q_len, kv_len, heads: 4, causal: Some(offset), fill, ..BASE };
            let args = AttentionArgs { mask: Some(Heads { offset: 0, steps }), ..dense(&base) };
            let mut all = operands(&args, &mut Random::new(9));
            // The first rows see nothing but what the mask hides too.
            all[3].fill(0.0);
            all[3][..kv_len.div_ceil(2)].fill(low);
            check(&args, all);
        }
    }
}

#[test]
fn masks_broadcast_along_every_dimension() {
    for keep in 0..16_usize {
        for (q_len, kv_len) in [(1, 40), (9, 21), (4, if keep % 5 == 0 { 600 } else { 3 })] {
            let base = AttentionArgs { batch: 2, heads: 4, q_len, kv_len, ..BASE };
            let extents = [2, 4, q_len, kv_len];
            let mut steps = [0_isize; 4];
            let mut next = 1_usize;
            for d in (0..4).rev() {
                if keep >> d & 1 == 1 {
                    (steps[d], next) = (next.cast_signed(), next * extents[d]);
                }
            }
            let args = AttentionArgs { mask: Some(Heads { offset: 0, steps }), ..dense(&base) };
            let mut random = Random::new(keep as u64);
            let mut all = operands(&args, &mut random);
            // Some keys are masked, in both usual ways.
            for (i, m) in all[3].iter_mut().enumerate() {
                match i % 5 {
                    0 => *m = f32::NEG_INFINITY,
                    1 => *m = -3.4e38,
                    _ => {}
                }
            }
            check(&args, all);
        }
    }
}

#[test]
fn masks_with_gaps() {
    let steps = [0, 0, 43, 2];
    let args = AttentionArgs {
        q_len: 9,
        kv_len: 21,
        mask: Some(Heads { offset: 3, steps }),
        ..dense(&AttentionArgs { q_len: 9, kv_len: 21, ..BASE })
    };
    check(&args, operands(&args, &mut Random::new(5)));
}

#[test]
fn queries_keys_and_values_out_of_one_buffer() {
    // [batch, length, 3, heads, columns], as one product for all three makes it; the output is [batch, length, heads, columns].
    let (heads, columns) = (3_usize, 16_usize);
    for length in [1_usize, 6, 67] {
        let row = (3 * heads * columns).cast_signed();
        let steps = [row * length.cast_signed(), columns.cast_signed(), row, 1];
        let of = |i: usize| Heads { offset: i * heads * columns, steps };
        let out = (heads * columns).cast_signed();
        let args = AttentionArgs {
            batch: 2,
            heads,
            kv_heads: heads,
            q_len: length,
            kv_len: length,
            head_dim: columns,
            v_dim: columns,
            q: of(0),
            k: of(1),
            v: of(2),
            out: Heads { offset: 0, steps: [out * length.cast_signed(), columns.cast_signed(), out, 1] },
            ..BASE
        };
        check(&args, operands(&args, &mut Random::new(6)));
    }
}

#[test]
fn operands_of_any_strides() {
    for (q_len, kv_len) in [(2, 20), (40, 50)] {
        let base =
            dense(&AttentionArgs { q_len, kv_len, head_dim: 12, v_dim: 12, heads: 1, kv_heads: 1, ..BASE });
        let turned = |rows: usize, cols: usize| Heads {
            offset: 0,
            steps: [(rows * cols).cast_signed(), 0, 1, rows.cast_signed()],
        };
        let reversed = |rows: usize, cols: usize| Heads {
            offset: (rows - 1) * cols,
            steps: [(rows * cols).cast_signed(), 0, -cols.cast_signed(), 1],
        };
        let (q, k, v) = (turned(q_len, 12), turned(kv_len, 12), turned(kv_len, 12));
        for args in [
            AttentionArgs { q, ..base },
            AttentionArgs { k, ..base },
            AttentionArgs { v, ..base },
            AttentionArgs { out: turned(q_len, 12), ..base },
            AttentionArgs { k: reversed(kv_len, 12), v: reversed(kv_len, 12), ..base },
            AttentionArgs { out: reversed(q_len, 12), ..base },
        ] {
            check(&args, operands(&args, &mut Random::new(7)));
        }
    }
}

#[test]
fn special_values_are_those_of_the_formula() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for (q_len, kv_len) in [(2, 9), (20, 9), (2, 600), (20, 600)] {
        for zero_masked in [false, true] {
            let base = AttentionArgs { q_len, kv_len, zero_masked, ..BASE };
            let steps = [0, 0, kv_len.cast_signed(), 1];
            let args = AttentionArgs { mask: Some(Heads { offset: 0, steps }), ..dense(&base) };
            let all = operands(&args, &mut Random::new(8));
            // Of the second row all scores, or one of the first or last block, are special.
            for (special, range) in [
                (-inf, 0..kv_len),
                (-3.4e38, 0..kv_len),
                (-inf, 0..kv_len - 1),
                (-inf, 0..kv_len.min(520)),
                (nan, 3..4),
                (nan, kv_len - 1..kv_len),
                (inf, 0..1),
                (inf, kv_len - 1..kv_len),
            ] {
                let mut all = all.clone();
                all[3][kv_len..][range].fill(special);
                check(&args, all);
            }
            // A query, a key or a value that is not a number.
            for operand in 0..3 {
                let mut all = all.clone();
                all[operand][9] = nan;
                check(&args, all);
            }
        }
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let args = dense(&BASE);
    let [q, k, v, _] = operands(&args, &mut Random::new(9));
    let foot = args.footprint().unwrap();
    for kernels in all_kernels() {
        let run = |args: &AttentionArgs, short: usize| {
            let cut = |data: &[f32], i: usize| data[..data.len() - usize::from(short == i)].to_vec();
            let mut out = vec![0.0; foot.out.end - usize::from(short == 4)];
            let mut scratch = vec![0.0; foot.scratch - usize::from(short == 5)];
            let out = autoglm_runtime::cpu::SharedMut::new(&mut out);
            let (q, k, v) = (cut(&q, 1), cut(&k, 2), cut(&v, 3));
            let part = autoglm_runtime::cpu::kernels::Part::WHOLE;
            attention(&kernels, args, &q, &k, &v, None, &out, &mut scratch, part)
        };
        assert_eq!(run(&args, 0), Ok(()));
        for short in 1..=5 {
            assert!(run(&args, short).is_err());
        }
        for kv_heads in [0, 3, 4] {
            assert!(run(&AttentionArgs { kv_heads, ..args }, 0).is_err());
        }
        assert!(run(&AttentionArgs { mask: Some(args.q), ..args }, 0).is_err(), "a mask is missing");
        let overlapping = Heads { offset: 0, steps: [80, 40, 7, 1] };
        assert!(run(&AttentionArgs { out: overlapping, ..args }, 0).is_err());
        for huge in [usize::MAX, usize::MAX / 2, 1 << 40, 1 << 32] {
            for edited in [
                AttentionArgs { batch: huge, ..args },
                AttentionArgs { heads: huge, kv_heads: huge, ..args },
                AttentionArgs { q_len: huge, ..args },
                AttentionArgs { kv_len: huge, ..args },
                AttentionArgs { head_dim: huge, ..args },
                AttentionArgs { v_dim: huge, ..args },
                AttentionArgs { q: Heads { offset: huge, ..args.q }, ..args },
                AttentionArgs { k: Heads { steps: [0, 0, huge.cast_signed(), 1], ..args.k }, ..args },
                AttentionArgs { v: Heads { steps: [0, 0, 8, huge.cast_signed()], ..args.v }, ..args },
                AttentionArgs { out: Heads { steps: [0, 0, huge.cast_signed(), 1], ..args.out }, ..args },
            ] {
                assert!(run(&edited, 0).is_err(), "{edited:?}");
            }
        }
    }
}
