//! Parts of one value written by several steps, and read in place: concatenations and slices without copies.

use super::{Build, Random, isas, same, spread};
use autoglm_runtime::program::{Access, PoolMode, StepKind, ValueId};

/// A step over `extents` whose input is read through the access and whose output is written through the access.
type Make = fn(&mut Build, &[usize], Access, Access) -> (StepKind, Vec<ValueId>);

fn softmax(build: &mut Build, extents: &[usize], x: Access, out: Access) -> (StepKind, Vec<ValueId>) {
    let (rows, cols) = (build.reg(extents[0]), build.reg(extents[1]));
    (StepKind::Softmax { rows, cols, log: false, x, out }, vec![])
}

fn norm(build: &mut Build, extents: &[usize], x: Access, out: Access) -> (StepKind, Vec<ValueId>) {
    let (rows, cols) = (build.reg(extents[0]), build.reg(extents[1]));
    let scale = build.floats(&mut Random(3), extents[1]);
    (StepKind::LayerNorm { rows, cols, epsilon: 1e-5, bias: false, rms: false, x, out }, vec![scale])
}

/// Windows of 3 x 3 and padding: the output has the input's extents.
fn pool(build: &mut Build, extents: &[usize], x: Access, out: Access) -> (StepKind, Vec<ValueId>) {
    let all = build.regs(extents);
    let (one, three) = (build.reg(1), build.reg(3));
    let kind = StepKind::Pool {
        mode: PoolMode::Max,
        extents: [all[0], all[1], all[2], all[3]],
        out_extents: [all[1], all[2]],
        x,
        out,
        kernel: [three; 2],
        stride: [one; 2],
        dilation: [one; 2],
        pad: [one; 2],
        pad_end: [one; 2],
    };
    (kind, vec![])
}

fn conv(build: &mut Build, extents: &[usize], x: Access, out: Access) -> (StepKind, Vec<ValueId>) {
    let c = extents[3];
    convolve(build, extents, (x, out), c.div_ceil(32) * 32 * c, 1)
}

fn depthwise(build: &mut Build, extents: &[usize], x: Access, out: Access) -> (StepKind, Vec<ValueId>) {
    // A single channel is an ordinary convolution.
    let weights = if extents[3] == 1 { 32 } else { extents[3] };
    convolve(build, extents, (x, out), weights, extents[3])
}

fn convolve(
    build: &mut Build,
    extents: &[usize],
    (x, out): (Access, Access),
    weights: usize,
    groups: usize,
) -> (StepKind, Vec<ValueId>) {
    let all = build.regs(extents);
    let one = build.reg(1);
    let kind = StepKind::Conv {
        extents: [all[0], all[1], all[2], all[3]],
        out_extents: [all[1], all[2]],
        x,
        out,
        kernel: [one; 2],
        stride: [one; 2],
        dilation: [one; 2],
        groups: build.reg(groups),
        m: all[3],
        sparsity: None,
        bias: false,
        epilogue: None,
    };
    (kind, vec![build.floats(&mut Random(4), weights)])
}

fn matmul(build: &mut Build, extents: &[usize], x: Access, out: Access) -> (StepKind, Vec<ValueId>) {
    let all = build.regs(extents);
    let one = build.reg(1);
    let mut a = x;
    a.strides.push(one);
    let kind = StepKind::MatMul {
        batch: vec![],
        m: all[0],
        k: all[1],
        n: all[1],
        a,
        b: build.access(0, &[extents[1], 1]),
        b_packed: false,
        sparsity: None,
        out,
        bias: false,
        epilogue: None,
    };
    (kind, vec![build.floats(&mut Random(5), extents[1] * extents[1])])
}

const STEPS: [(&str, Make); 6] = [
    ("softmax", softmax),
    ("norm", norm),
    ("pool", pool),
    ("conv", conv),
    ("depthwise", depthwise),
    ("matmul", matmul),
];

fn extents(name: &str, channels: usize) -> Vec<usize> {
    if ["softmax", "norm", "matmul"].contains(&name) { vec![7, channels] } else { vec![2, 5, 3, channels] }
}

/// Two steps write the two halves of the last dimension of one value, reading a part of another.
fn halves(name: &str, make: Make, channels: usize, gaps: bool) -> (Build, Build) {
    let mut random = Random(31);
    let extents = extents(name, channels);
    let lines = extents.len() - 1;
    let (strides, len) = if gaps {
        spread(&mut random, &extents)
    } else {
        (super::dense(&extents)[..lines].to_vec(), super::count(&extents))
    };
    let mut base = Build::default();
    let x = base.floats(&mut random, len + 3);
    let wide: Vec<usize> = [&extents[..lines], &[2 * channels]].concat();
    let joined = base.temp(super::count(&wide));
    let mut apart = base.clone();
    base.output(joined);
    let over = super::dense(&wide);
    for half in 0..2 {
        let from = base.access(3 * half, &strides);
        let to = base.access(half * channels, &over[..lines]);
        let (kind, more) = make(&mut base, &extents, from, to);
        base.step(kind, &[&[x], more.as_slice()].concat(), joined);
        // Alone, into a value of its own.
        let from = apart.access(3 * half, &strides);
        let to = apart.access(0, &super::dense(&extents)[..lines]);
        let (kind, more) = make(&mut apart, &extents, from, to);
        let own = apart.temp(super::count(&extents));
        apart.step(kind, &[&[x], more.as_slice()].concat(), own);
        apart.output(own);
    }
    (base, apart)
}

#[test]
fn halves_of_a_value_are_those_of_separate_values() {
    for (name, make) in STEPS {
        for channels in [1, 7, 32, 65] {
            for gaps in [false, true] {
                let (joined, apart) = halves(name, make, channels, gaps);
                for isa in isas() {
                    let want = apart.run(isa, 1).unwrap();
                    let want: Vec<f32> = want[0]
                        .chunks(channels)
                        .zip(want[1].chunks(channels))
                        .flat_map(|(a, b)| [a, b].concat())
                        .collect();
                    for threads in [1, 3] {
                        let got = joined.run(isa, threads).unwrap();
                        same(&got[0], &want, &format!("{name} {channels} {gaps} {}", isa.name()));
                    }
                }
            }
        }
    }
}

#[test]
fn outputs_that_overlap_or_leave_their_values_are_refused() {
    for (name, make) in STEPS {
        let extents = extents(name, 8);
        let lines = extents.len() - 1;
        let good = super::dense(&extents)[..lines].to_vec();
        let attempt = |of_input: bool, edit: &dyn Fn(&mut Build, &mut Access)| {
            let mut build = Build::default();
            let x = build.floats(&mut Random(1), super::count(&extents));
            let out = build.temp(super::count(&extents));
            let (mut from, mut to) = (build.access(0, &good), build.access(0, &good));
            edit(&mut build, if of_input { &mut from } else { &mut to });
            let (kind, more) = make(&mut build, &extents, from, to);
            build.step(kind, &[&[x], more.as_slice()].concat(), out);
            build.output(out);
            build
        };
        attempt(false, &|_, _| ()).run(autoglm_runtime::cpu::Isa::Scalar, 1).unwrap();
        for (d, &own) in good.iter().enumerate() {
            for stride in [0, 7, i64::MIN, i64::MAX, -8, own as i64 * 2] {
                attempt(false, &|build, access| access.strides[d] = build.signed(stride)).refusal();
            }
            for stride in [i64::MIN, i64::MAX, -8, own as i64 * 2] {
                attempt(true, &|build, access| access.strides[d] = build.signed(stride)).refusal();
            }
        }
        for offset in [1, -1, i64::MAX, i64::MIN] {
            for of_input in [false, true] {
                attempt(of_input, &|build, access| access.offset = build.signed(offset)).refusal();
            }
        }
        // Lines in reverse are distinct.
        let last = extents[0] as i64 - 1;
        let reversed = attempt(false, &|build, access| {
            access.offset = build.signed(last * good[0] as i64);
            access.strides[0] = build.signed(-(good[0] as i64));
        });
        let plain = attempt(false, &|_, _| ());
        for isa in isas() {
            let (got, want) = (reversed.run(isa, 2).unwrap(), plain.run(isa, 1).unwrap());
            let turned: Vec<f32> = got[0].rchunks(good[0]).flatten().copied().collect();
            same(&turned, &want[0], name);
        }
    }
}
