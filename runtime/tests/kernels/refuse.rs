//! Arguments that do not fit their operands are errors, however large the numbers.

use super::all_kernels;
use autoglm_runtime::cpu::SharedMut;
use autoglm_runtime::cpu::kernels::*;
use autoglm_runtime::program::PoolMode;

const HUGE: [usize; 4] = [usize::MAX, usize::MAX / 2, 1 << 40, 1 << 32];

pub(super) fn with_out<R>(len: usize, f: impl Fn(&SharedMut<f32>) -> R) -> R {
    let mut out = vec![0.0; len];
    f(&SharedMut::new(&mut out))
}

#[test]
fn matmul_refuses_short_operands() {
    let args = MatMulArgs {
        batch: &[],
        m: 4,
        k: 5,
        n: 6,
        a: View::dense(5),
        b: View::dense(6),
        out: RowView::dense(6),
        limits: None,
    };
    for kernels in all_kernels() {
        let run = |args: &MatMulArgs, a: usize, b: usize, bias: usize, out: usize, scratch: usize| {
            let (a, b, bias, mut scratch) = (vec![0.0; a], vec![0.0; b], vec![0.0; bias], vec![0.0; scratch]);
            let b = MatB::Strided { data: &b, scratch: &mut scratch };
            with_out(out, |out| matmul(&kernels, args, &a, MatB::Packed(&[]), None, out, Part::WHOLE))
                .unwrap_err();
            let mut out = vec![0.0; out];
            matmul(&kernels, args, &a, b, Some(&bias), &SharedMut::new(&mut out), Part::WHOLE)
        };
        assert_eq!(run(&args, 20, 30, 6, 24, MATMUL_SCRATCH), Ok(()));
        for (a, b, bias, out, scratch) in [
            (19, 30, 6, 24, 0),
            (20, 29, 6, 24, 0),
            (20, 30, 5, 24, 0),
            (20, 30, 6, 23, 0),
            (20, 30, 6, 24, 1),
        ] {
            let scratch = MATMUL_SCRATCH - scratch;
            assert!(matches!(run(&args, a, b, bias, out, scratch), Err(KernelError::Footprint { .. })));
        }
        let before = MatMulArgs { a: View { offset: 3, row: -5, col: 1 }, ..args };
        let refused = run(&before, 20, 30, 6, 24, MATMUL_SCRATCH);
        assert_eq!(refused, Err(KernelError::BeforeStart { operand: "a" }));
        for huge in HUGE {
            assert!(run(&MatMulArgs { m: huge, ..args }, 20, 30, 6, 24, MATMUL_SCRATCH).is_err());
            assert!(run(&MatMulArgs { k: huge, ..args }, 20, 30, 6, 24, MATMUL_SCRATCH).is_err());
            assert!(run(&MatMulArgs { n: huge, ..args }, 20, 30, 6, 24, MATMUL_SCRATCH).is_err());
            let a = View { offset: huge, ..args.a };
            assert!(run(&MatMulArgs { a, ..args }, 20, 30, 6, 24, MATMUL_SCRATCH).is_err());
            let a = View { row: huge.cast_signed(), ..args.a };
            // A row stride of -1 (the largest number, as a signed one) is refused too: it starts before A.
            assert!(run(&MatMulArgs { a, ..args }, 20, 30, 6, 24, MATMUL_SCRATCH).is_err());
        }
    }
}

#[test]
fn parts_outside_their_count_are_refused() {
    for kernels in all_kernels() {
        let args = SoftmaxArgs { rows: 1, cols: 1, log: false, x: RowView::dense(1), out: RowView::dense(1) };
        for part in [Part { index: 1, count: 1 }, Part { index: 0, count: 0 }] {
            let refused = with_out(1, |out| softmax(&kernels, &args, &[0.0], out, part));
            assert!(matches!(refused, Err(KernelError::Args(_))));
        }
    }
}

#[test]
fn conv_refuses_what_does_not_fit() {
    let args = ConvArgs {
        batch: 1,
        in_size: [3, 3],
        channels: 2,
        m: 4,
        kernel: [2, 2],
        stride: [1, 1],
        dilation: [1, 1],
        groups: 1,
        x: Pixels::dense([3, 3], 2),
        out: Pixels::dense([2, 2], 4),
        limits: None,
    };
    for kernels in all_kernels() {
        let run = |args: &ConvArgs, x: usize, w: usize, bias: usize, out: usize| {
            let (x, w, bias) = (vec![0.0; x], vec![0.0; w], vec![0.0; bias]);
            with_out(out, |out| conv(&kernels, args, &x, ConvB::Packed(&w), Some(&bias), out, Part::WHOLE))
        };
        assert_eq!(run(&args, 18, 256, 4, 16), Ok(()));
        for (x, w, bias, out) in [(17, 256, 4, 16), (18, 255, 4, 16), (18, 256, 3, 16), (18, 256, 4, 15)] {
            assert!(matches!(run(&args, x, w, bias, out), Err(KernelError::Footprint { .. })));
        }
        for groups in [0, 3, 4] {
            assert!(run(&ConvArgs { groups, ..args }, 18, 256, 4, 16).is_err());
        }
        assert!(run(&ConvArgs { stride: [0, 1], ..args }, 18, 256, 4, 16).is_err());
        assert!(run(&ConvArgs { kernel: [1, 0], ..args }, 18, 256, 4, 16).is_err());
        for huge in HUGE {
            assert!(run(&ConvArgs { batch: huge, ..args }, 18, 256, 4, 16).is_err());
            assert!(run(&ConvArgs { in_size: [huge, huge], ..args }, 18, 256, 4, 16).is_err());
            assert!(run(&ConvArgs { channels: huge, ..args }, 18, 256, 4, 16).is_err());
            assert!(run(&ConvArgs { m: huge, ..args }, 18, 256, 4, 16).is_err());
            // These leave nothing to do, or a single window: no access, and no overflow either.
            let _ = run(&ConvArgs { kernel: [huge, huge], ..args }, 18, 256, 4, 16);
            let _ = run(&ConvArgs { dilation: [huge, huge], ..args }, 18, 256, 4, 16);
            let _ = run(&ConvArgs { in_size: [huge, huge], channels: 0, ..args }, 18, 256, 4, 16);
            assert_eq!(run(&ConvArgs { stride: [huge, huge], ..args }, 18, 256, 4, 16), Ok(()));
        }
    }
}

#[test]
fn pool_and_rows_refuse_what_does_not_fit() {
    let args = PoolArgs {
        mode: PoolMode::AverageIncludePad,
        batch: 1,
        in_size: [2, 2],
        channels: 3,
        out_size: [2, 2],
        kernel: [2, 2],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        pad_end: [1, 1],
        x: Pixels::dense([2, 2], 3),
        out: Pixels::dense([2, 2], 3),
    };
    for kernels in all_kernels() {
        let run = |args: &PoolArgs, x: usize, out: usize| {
            let x = vec![0.0; x];
            with_out(out, |out| pool(&kernels, args, &x, out, Part::WHOLE))
        };
        assert_eq!(run(&args, 12, 12), Ok(()));
        assert!(matches!(run(&args, 11, 12), Err(KernelError::Footprint { .. })));
        assert!(matches!(run(&args, 12, 11), Err(KernelError::Footprint { .. })));
        assert!(run(&PoolArgs { kernel: [0, 1], ..args }, 12, 12).is_err());
        for huge in HUGE {
            assert!(run(&PoolArgs { in_size: [huge, 2], ..args }, 12, 12).is_err());
            assert!(run(&PoolArgs { out_size: [huge, 2], ..args }, 12, 12).is_err());
            let _ = run(&PoolArgs { pad: [huge, huge], ..args }, 12, 12);
            let _ = run(&PoolArgs { pad_end: [huge, huge], kernel: [huge, huge], ..args }, 12, 12);
            let _ = run(&PoolArgs { stride: [huge, huge], dilation: [huge, huge], ..args }, 12, 12);
            let _ = run(&PoolArgs { in_size: [0, huge], channels: 3, ..args }, 12, 12);
        }
        let wide = SoftmaxArgs {
            rows: usize::MAX,
            cols: 2,
            log: false,
            x: RowView::dense(2),
            out: RowView::dense(2),
        };
        assert!(with_out(1, |out| softmax(&kernels, &wide, &[0.0], out, Part::WHOLE)).is_err());
        let norm = NormArgs {
            rows: 1,
            cols: 2,
            epsilon: 0.0,
            rms: false,
            x: RowView::dense(2),
            out: RowView::dense(2),
        };
        let x = [0.0; 2];
        let refused = with_out(2, |out| layer_norm(&kernels, &norm, &x, &x[1..], None, out, Part::WHOLE));
        assert!(matches!(refused, Err(KernelError::Footprint { operand: "scale", .. })));
    }
}
