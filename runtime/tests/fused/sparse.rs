//! Steps with sparse weights: through sessions, with epilogues, and refused where they do not fit.

use super::epilogue::compare;
use super::{Build, Random, count, dense, float, isas, one_of, spread};
use autoglm_runtime::cpu::pack::ConvWeights;
use autoglm_runtime::cpu::scattered::pack_scattered;
use autoglm_runtime::cpu::sparse::{SparseMatrix, pack_sparse_b};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::program::{Sparsity, StepKind, ValueId};
use autoglm_runtime::tensor::HostTensor;

const PANELS: Sparsity = Sparsity::Panels { kept: 2, of: 4 };

fn words(build: &mut Build, words: &[u32]) -> ValueId {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    build.input(HostTensor::from_bytes(ElemType::U32, &[words.len()], &bytes).unwrap())
}

/// Weights with any codes.
fn weights(build: &mut Build, random: &mut Random, matrix: &SparseMatrix) -> [ValueId; 2] {
    let values = build.floats(random, matrix.values_len().unwrap());
    let codes: Vec<u32> = (0..matrix.codes_len().unwrap()).map(|_| random.next() as u32).collect();
    [values, words(build, &codes)]
}

fn step(build: &mut Build, batch: &[usize], [m, k, n]: [usize; 3], sparsity: Sparsity) -> StepKind {
    let over = |rows, cols| dense(&[batch, &[rows, cols]].concat());
    let lines = over(m, n);
    StepKind::MatMul {
        batch: build.regs(batch),
        m: build.reg(m),
        k: build.reg(k),
        n: build.reg(n),
        a: build.access(0, &over(m, k)),
        b: build.access(0, &[]),
        b_packed: true,
        sparsity: Some(sparsity),
        out: build.access(0, &lines[..lines.len() - 1]),
        bias: false,
        epilogue: None,
    }
}

fn product(random: &mut Random, batch: &[usize], [m, k, n]: [usize; 3], sparsity: Sparsity) {
    let mut build = Build::default();
    let extents = [batch, &[m, n]].concat();
    let a = build.floats(random, count(batch) * m * k);
    let [values, codes] = weights(&mut build, random, &SparseMatrix::product(sparsity, k, n));
    let mut args = vec![a, values, codes];
    let with_bias = random.below(2) == 0;
    if with_bias {
        args.push(build.floats(random, n));
    }
    let (strides, len) = spread(random, &extents);
    let offset = random.below(5);
    let to = build.temp(offset + len);
    let mut kind = step(&mut build, batch, [m, k, n], sparsity);
    let write = build.access(offset, &strides);
    if let StepKind::MatMul { out, bias, .. } = &mut kind {
        (*out, *bias) = (write, with_bias);
    }
    build.step(kind, &args, to);
    compare(build, random, &extents, (offset, &strides));
}

#[test]
fn products_with_epilogues() {
    let mut random = Random(41);
    for m in [1, 2, 3, 5, 14, 61] {
        for n in [1, 32, 33, 70] {
            for k in [0, 1, 17, 64] {
                let sparsity = one_of(&mut random, &[Sparsity::Columns, PANELS]);
                let batch = one_of(&mut random, &[&[] as &[usize], &[2], &[1, 3]]);
                product(&mut random, batch, [m, k, n], sparsity);
            }
        }
    }
    for shape in [[150, 40, 530], [5, 1200, 1100], [1, 8300, 520], [200, 520, 64]] {
        for sparsity in [Sparsity::Columns, PANELS] {
            product(&mut random, &[], shape, sparsity);
        }
    }
}

fn convolution(random: &mut Random, base: [usize; 4], m: usize, groups: usize, sparsity: Sparsity) {
    let [n, h, w, c] = base;
    let mut build = Build::default();
    let (x_strides, x_len) = spread(random, &base);
    let x = build.floats(random, x_len);
    let shape = ConvWeights { m, c: c / groups, kernel: [3, 2], groups };
    let matrix = SparseMatrix::conv(sparsity, &shape).unwrap();
    let [values, codes] = weights(&mut build, random, &matrix);
    let bias = build.floats(random, m);
    let extents = [n, h - 2, w - 1, m];
    let (strides, len) = spread(random, &extents);
    let out = build.temp(len);
    let [one, two, three] = [1, 2, 3].map(|i| build.reg(i));
    let kind = StepKind::Conv {
        extents: base.map(|extent| build.reg(extent)),
        out_extents: [build.reg(h - 2), build.reg(w - 1)],
        x: build.access(0, &x_strides),
        out: build.access(0, &strides),
        kernel: [three, two],
        stride: [one; 2],
        dilation: [one; 2],
        groups: build.reg(groups),
        m: build.reg(m),
        sparsity: Some(sparsity),
        bias: true,
        epilogue: None,
    };
    build.step(kind, &[x, values, codes, bias], out);
    compare(build, random, &extents, (0, &strides));
}

#[test]
fn convolutions_with_epilogues() {
    let mut random = Random(42);
    for (c, m, groups) in [(3, 5, 1), (16, 40, 1), (6, 4, 2), (70, 300, 2), (200, 600, 1)] {
        for sparsity in [Sparsity::Columns, PANELS] {
            convolution(&mut random, [2, 6, 5, c], m, groups, sparsity);
        }
    }
}

/// `[2, 6] x [6, 3]` without a bias.
fn small(sparsity: Sparsity) -> (Build, Vec<f32>) {
    let mut random = Random(43);
    let mut build = Build::default();
    let a: Vec<f32> = (0..12).map(|_| float(&mut random)).collect();
    // Rows 0 and 3, and 5 of the second group.
    let w: Vec<f32> =
        (0..18).map(|i| if [0, 3, 5].contains(&(i / 3)) { 0.25 + i as f32 } else { 0.0 }).collect();
    let (values, codes) = match sparsity {
        Sparsity::Scattered => pack_scattered(6, 3, |i, j| w[i * 3 + j]).unwrap(),
        _ => {
            let matrix = SparseMatrix::product(sparsity, 6, 3);
            let (mut values, mut codes) =
                (vec![0.0; matrix.values_len().unwrap()], vec![0; matrix.codes_len().unwrap()]);
            pack_sparse_b(&w, &matrix, [3, 1], &mut values, &mut codes).unwrap();
            (values, codes)
        }
    };
    let left = build.input(HostTensor::from_f32(&[12], &a).unwrap());
    let values = build.input(HostTensor::from_f32(&[values.len()], &values).unwrap());
    let codes = words(&mut build, &codes);
    let out = build.temp(6);
    let kind = step(&mut build, &[], [2, 6, 3], sparsity);
    build.step(kind, &[left, values, codes], out);
    build.output(out);
    let want = (0..6).map(|at| (0..6).map(|k| a[at / 3 * 6 + k] * w[k * 3 + at % 3]).sum()).collect();
    (build, want)
}

#[test]
fn sessions_give_the_product_of_the_matrix_that_was_packed() {
    for sparsity in [Sparsity::Columns, PANELS, Sparsity::Scattered] {
        let (build, want) = small(sparsity);
        for isa in isas() {
            for threads in [1, 3] {
                let got = build.run(isa, threads).unwrap();
                got[0].iter().zip(&want).for_each(|(got, want)| assert!((got - want).abs() < 1e-4));
            }
        }
    }
}

#[test]
fn weights_of_other_sizes_are_refused() {
    for sparsity in [Sparsity::Columns, PANELS] {
        let refusal = |edit: &dyn Fn(&mut Build)| {
            let (mut build, _) = small(sparsity);
            edit(&mut build);
            build.refusal()
        };
        let resized = |build: &mut Build, input: usize, by: isize| {
            let tensor = &build.inputs[input];
            let len = tensor.dims[0].saturating_add_signed(by);
            build.inputs[input] = HostTensor::zeros(tensor.elem, &[len]).unwrap();
            build.program.values[input].dims = build.regs(&[len]);
        };
        for by in [-1, 1] {
            assert!(refusal(&|build| resized(build, 1, by)).contains("the weights has"));
            assert!(refusal(&|build| resized(build, 2, by)).contains("the codes has"));
        }
        assert!(refusal(&|build| resized(build, 0, -1)).contains("value 0"));
    }
    let (mut build, _) = small(PANELS);
    let huge = build.signed(1 << 60);
    if let StepKind::MatMul { n, .. } = &mut build.program.steps[0].kind {
        *n = huge;
    }
    build.refusal();
}

#[test]
fn scattered_weights_of_other_sizes_are_refused() {
    let resized = |input: usize, len: usize| {
        let (mut build, _) = small(Sparsity::Scattered);
        let elem = build.inputs[input].elem;
        build.inputs[input] = HostTensor::zeros(elem, &[len]).unwrap();
        build.program.values[input].dims = build.regs(&[len]);
        build.refusal()
    };
    assert!(resized(1, 31).contains("scattered weights have fewer than 32 elements"));
    for len in [8, 10] {
        assert!(resized(2, len).contains("the codes has"));
    }
}

#[test]
fn sparse_weights_of_groups_are_refused() {
    let refused = grouped(PANELS);
    assert!(refused.contains("a depthwise convolution has no rows to leave out"), "{refused}");
    assert!(grouped(Sparsity::Scattered).contains("no rows to leave out"));
}

/// What a depthwise convolution with such weights is refused for.
fn grouped(sparsity: Sparsity) -> String {
    let mut random = Random(44);
    let mut build = Build::default();
    let x = build.floats(&mut random, 3 * 3 * 4);
    let values = build.floats(&mut random, 4);
    let codes = words(&mut build, &[0]);
    let out = build.temp(36);
    let [one, three, four] = [1, 3, 4].map(|i| build.reg(i));
    let kind = StepKind::Conv {
        extents: [one, three, three, four],
        out_extents: [three; 2],
        x: build.access(0, &[36, 12, 4]),
        out: build.access(0, &[36, 12, 4]),
        kernel: [one; 2],
        stride: [one; 2],
        dilation: [one; 2],
        groups: four,
        m: four,
        sparsity: Some(sparsity),
        bias: false,
        epilogue: None,
    };
    build.step(kind, &[x, values, codes], out);
    build.output(out);
    build.refusal()
}

#[test]
fn malformed_sparse_steps_do_not_load() {
    let says = |edit: &dyn Fn(&mut Build), text: &str| {
        let (mut build, _) = small(PANELS);
        edit(&mut build);
        let writer = EngineWriter::in_memory().unwrap();
        let bytes = writer.finish(&super::common::signature(&build.program), &build.program).unwrap();
        let error = Engine::from_bytes(bytes.into()).unwrap_err();
        assert_eq!(error.code(), "E0509", "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    let set = |build: &mut Build, to: Option<Sparsity>| {
        if let StepKind::MatMul { sparsity, .. } = &mut build.program.steps[0].kind {
            *sparsity = to;
        }
    };
    for (kept, of) in [(0, 4), (5, 4), (1, 3), (1, 1), (8, 32), (255, 255)] {
        says(&|b| set(b, Some(Sparsity::Panels { kept, of })), "groups must have 2, 4, 8 or 16 rows");
    }
    says(&|b| set(b, None), "(3, 1) arguments and outputs instead of (2, 1)");
    says(&|b| b.program.steps[0].args.truncate(2), "(2, 1) arguments and outputs instead of (3, 1)");
    says(&|b| b.program.steps[0].args[2] = 1, "value 1 is F32 instead of U32");
    says(&|b| b.program.steps[0].args[1] = 2, "value 2 is U32 instead of F32");
    let unpacked = |b: &mut Build| {
        if let StepKind::MatMul { b_packed, .. } = &mut b.program.steps[0].kind {
            *b_packed = false;
        }
    };
    says(&unpacked, "sparse weights are not packed");
}
