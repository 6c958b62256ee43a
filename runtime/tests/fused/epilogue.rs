//! Epilogues against the contraction followed by a loop.

use super::{Build, Random, count, dense, float, isas, one_of, same, spread};
use autoglm_runtime::cpu::Isa;
use autoglm_runtime::cpu::pack::{ConvWeights, packed_conv_len, packed_gemm_len, packed_winograd_len};
use autoglm_runtime::program::{Access, Epilogue, StepKind, ValueId};
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, TileProgram, UnaryOp};

/// A map of the result and `extra` more arguments, over `rank` dimensions.
fn map(random: &mut Random, extra: usize, rank: usize) -> TileProgram {
    let half = Instr::Const { lane: Lane::F32, bits: u64::from(0.5f32.to_bits()) };
    let mut body = vec![Instr::Load { arg: 0 }, half, Instr::Binary(BinaryOp::Mul, 0, 1)];
    let unary = one_of(random, &[UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Abs, UnaryOp::Neg]);
    body.push(Instr::Unary(unary, 2));
    let mut last = 3;
    for arg in 1..=extra as u16 {
        let op = one_of(random, &[BinaryOp::Add, BinaryOp::Mul, BinaryOp::Max]);
        body.push(Instr::Load { arg });
        body.push(Instr::Binary(op, last, body.len() as u16 - 1));
        last = body.len() as u16 - 1;
    }
    if random.below(3) == 0 {
        // The whole again from the result itself, and the index.
        body.push(Instr::Index { dim: random.below(rank) as u8 });
        body.push(Instr::Convert { to: Lane::F32, src: body.len() as u16 - 1 });
        body.push(Instr::Binary(BinaryOp::Add, body.len() as u16 - 1, 0));
        body.push(Instr::Binary(BinaryOp::Sub, body.len() as u16 - 1, last));
        last = body.len() as u16 - 1;
    }
    body.push(Instr::Store { out: 0, src: last });
    TileProgram { body, ..TileProgram::default() }
}

/// An argument for an epilogue over `extents`: dense, broadcast or with gaps, f32 or i32.
fn argument(build: &mut Build, random: &mut Random, extents: &[usize]) -> (ValueId, Access) {
    let kept: Vec<bool> = extents.iter().map(|_| random.below(3) > 0).collect();
    let own: Vec<usize> = extents.iter().zip(&kept).map(|(&e, &keep)| if keep { e } else { 1 }).collect();
    let gap = one_of(random, &[1, 1, 2]);
    let strides: Vec<usize> =
        dense(&own).iter().zip(&kept).map(|(&s, &keep)| if keep { s * gap } else { 0 }).collect();
    let offset = random.below(3);
    let len = offset + count(&own) * gap;
    let id = if random.below(4) == 0 {
        let elems: Vec<i32> = (0..len).map(|_| random.below(9) as i32 - 4).collect();
        build.input(HostTensor::from_i32(&[len], &elems).unwrap())
    } else {
        build.floats(random, len)
    };
    (id, build.access(offset, &strides))
}

/// Loads of integers are converted.
fn typed(build: &Build, mut tile: TileProgram, args: &[ValueId]) -> TileProgram {
    let is_int = |arg: u16| {
        arg > 0
            && build.program.values[args[arg as usize - 1] as usize].elem
                == autoglm_runtime::elem::ElemType::I32
    };
    let mut body = Vec::new();
    let mut renamed = Vec::new();
    for instr in tile.body {
        let lane = |l: u16| renamed[usize::from(l)];
        let instr = match instr {
            Instr::Unary(f, a) => Instr::Unary(f, lane(a)),
            Instr::Binary(f, a, b) => Instr::Binary(f, lane(a), lane(b)),
            Instr::Convert { to, src } => Instr::Convert { to, src: lane(src) },
            Instr::Store { out, src } => Instr::Store { out, src: lane(src) },
            other => other,
        };
        body.push(instr);
        if matches!(instr, Instr::Load { arg } if is_int(arg)) {
            body.push(Instr::Convert { to: Lane::F32, src: body.len() as u16 - 1 });
        }
        renamed.push(body.len() as u16 - 1);
    }
    tile.body = body;
    tile
}

/// Runs `fused`, whose last step has no epilogue yet and writes value `out` with the access `write` over `extents`,
/// with the epilogue inside and behind.
pub(super) fn compare(mut fused: Build, random: &mut Random, extents: &[usize], write: (usize, &[usize])) {
    for limits in [limits(f32::INFINITY), limits(0.5)] {
        compare_map(fused.clone(), extents, write, limits, (Vec::new(), Vec::new()));
    }
    let extra = random.below(3);
    let (args, reads): (Vec<_>, Vec<_>) = (0..extra).map(|_| argument(&mut fused, random, extents)).unzip();
    let map = map(random, extra, extents.len());
    let map = typed(&fused, map, &args);
    compare_map(fused, extents, write, map, (args, reads));
}

/// A ReLU, with an upper bound unless that is infinite: a map that needs no stage.
fn limits(high: f32) -> TileProgram {
    let number = |x: f32| Instr::Const { lane: Lane::F32, bits: u64::from(x.to_bits()) };
    let mut body = vec![Instr::Load { arg: 0 }, number(0.0), Instr::Binary(BinaryOp::Max, 0, 1)];
    if high.is_finite() {
        body.extend([number(high), Instr::Binary(BinaryOp::Min, 3, 2)]);
    }
    body.push(Instr::Store { out: 0, src: body.len() as u16 - 1 });
    TileProgram { body, ..TileProgram::default() }
}

/// The same with a given map and its arguments.
fn compare_map(
    mut fused: Build,
    extents: &[usize],
    (offset, write): (usize, &[usize]),
    map: TileProgram,
    (args, reads): (Vec<ValueId>, Vec<Access>),
) {
    let out = fused.program.steps.last().unwrap().outs[0];
    let tile = fused.tile(map);
    fused.output(out);
    let mut apart = fused.clone();
    {
        let step = fused.program.steps.last_mut().unwrap();
        step.args.extend(&args);
        let fusion = Some(Epilogue { tile, reads: reads.clone() });
        match &mut step.kind {
            StepKind::MatMul { epilogue, .. }
            | StepKind::Conv { epilogue, .. }
            | StepKind::Winograd { epilogue, .. } => *epilogue = fusion,
            other => panic!("{other:?}"),
        }
    }
    // The contraction makes a dense value, which a loop reads.
    let whole = apart.temp(count(extents));
    let strides = dense(extents);
    let dense_lines = apart.access(0, &strides[..strides.len() - 1]);
    let step = apart.program.steps.last_mut().unwrap();
    step.outs = vec![whole];
    match &mut step.kind {
        StepKind::MatMul { out, .. } | StepKind::Conv { out, .. } | StepKind::Winograd { out, .. } => {
            *out = dense_lines;
        }
        other => panic!("{other:?}"),
    }
    let dims = apart.regs(extents);
    let mut all_reads = vec![apart.access(0, &strides)];
    all_reads.extend(reads);
    let writes = vec![apart.access(offset, &[write, &[1]].concat())];
    let kind = StepKind::Tile { tile, dims, reads: all_reads, writes };
    apart.step(kind, &[&[whole], args.as_slice()].concat(), out);
    for isa in isas() {
        let want = apart.run(isa, 1).unwrap();
        for threads in [1, 2, 3] {
            let got = fused.run(isa, threads).unwrap();
            same(&got[0], &want[0], &format!("{} {threads} {:?}", isa.name(), fused.program.steps.last()));
        }
    }
}

fn product(random: &mut Random, batch: &[usize], [m, k, n]: [usize; 3], packed: bool, bias: bool) {
    let mut build = Build::default();
    let extents = [batch, &[m, n]].concat();
    let a = build.floats(random, count(batch) * m * k);
    let b = build.floats(random, if packed { packed_gemm_len(k, n).unwrap() } else { count(batch) * k * n });
    let mut args = vec![a, b];
    if bias {
        args.push(build.floats(random, n));
    }
    let (strides, len) = spread(random, &extents);
    let offset = random.below(5);
    let out = build.temp(offset + len);
    let over = |rows, cols| dense(&[batch, &[rows, cols]].concat());
    let kind = StepKind::MatMul {
        batch: build.regs(batch),
        m: build.reg(m),
        k: build.reg(k),
        n: build.reg(n),
        a: build.access(0, &over(m, k)),
        b: build.access(0, &over(k, n)),
        b_packed: packed,
        sparsity: None,
        out: build.access(offset, &strides),
        bias,
        epilogue: None,
    };
    build.step(kind, &args, out);
    compare(build, random, &extents, (offset, &strides));
}

#[test]
fn products_of_edge_shapes() {
    let mut random = Random(11);
    for m in [1, 2, 3, 5, 14, 61] {
        for n in [1, 2, 31, 32, 33, 64] {
            for k in [0, 1, 17] {
                let (packed, bias) = (random.below(2) == 0, random.below(2) == 0);
                let batch = one_of(&mut random, &[&[] as &[usize], &[2], &[1, 3]]);
                product(&mut random, batch, [m, k, n], packed, bias);
            }
        }
    }
}

#[test]
fn products_of_several_blocks_and_chunks() {
    let mut random = Random(12);
    // Several blocks of rows, of columns, and chunks of the inner extent, in every combination.
    for shape in
        [[150, 40, 530], [5, 600, 1100], [1, 1030, 520], [200, 520, 64], [70, 700, 600], [400, 30, 161]]
    {
        for packed in [false, true] {
            product(&mut random, &[], shape, packed, true);
        }
    }
    product(&mut random, &[3, 2], [20, 33, 300], false, false);
}

fn convolution(random: &mut Random, base: [usize; 4], m: usize, groups: usize, kernel: [usize; 2]) {
    let [n, h, w, c] = base;
    let (stride, dilation) = (one_of(random, &[[1, 1], [2, 1]]), one_of(random, &[[1, 1], [1, 2]]));
    let mut out_size = [0; 2];
    for i in 0..2 {
        out_size[i] = (base[1 + i] - (kernel[i] - 1) * dilation[i]).div_ceil(stride[i]);
    }
    let mut build = Build::default();
    let (x_strides, x_len) = spread(random, &base);
    let x = build.floats(random, x_len + 2);
    let shape = ConvWeights { m, c: c / groups, kernel, groups };
    let weights = build.floats(random, packed_conv_len(&shape).unwrap());
    let mut args = vec![x, weights];
    let bias = random.below(2) == 0;
    if bias {
        args.push(build.floats(random, m));
    }
    let extents = [n, out_size[0], out_size[1], m];
    let (strides, len) = spread(random, &extents);
    let offset = random.below(5);
    let out = build.temp(offset + len);
    let pair = |build: &mut Build, v: [usize; 2]| [build.reg(v[0]), build.reg(v[1])];
    let kind = StepKind::Conv {
        extents: [build.reg(n), build.reg(h), build.reg(w), build.reg(c)],
        out_extents: pair(&mut build, out_size),
        x: build.access(2, &x_strides),
        out: build.access(offset, &strides),
        kernel: pair(&mut build, kernel),
        stride: pair(&mut build, stride),
        dilation: pair(&mut build, dilation),
        groups: build.reg(groups),
        m: build.reg(m),
        sparsity: None,
        bias,
        epilogue: None,
    };
    build.step(kind, &args, out);
    compare(build, random, &extents, (offset, &strides));
}

#[test]
fn convolutions() {
    let mut random = Random(13);
    for (c, m, groups) in [(1, 1, 1), (3, 5, 1), (16, 40, 1), (6, 4, 2), (9, 9, 3), (70, 300, 2)] {
        convolution(&mut random, [2, 6, 7, c], m, groups, [3, 3]);
        convolution(&mut random, [1, 5, 4, c], m, groups, [1, 1]);
    }
    convolution(&mut random, [1, 9, 9, 300], 600, 1, [2, 2]);
    // Depthwise.
    for c in [2, 7, 33, 100, 600] {
        convolution(&mut random, [2, 6, 7, c], c, c, [3, 3]);
    }
    convolution(&mut random, [1, 20, 20, 40], 40, 40, [1, 3]);
}

#[test]
fn transformed_convolutions() {
    let mut random = Random(15);
    for (n, in_size, c, m) in [
        (2, [6, 7], 1, 1),
        (1, [3, 3], 5, 33),
        (1, [21, 30], 3, 40),
        (3, [9, 5], 16, 170),
        (1, [6, 300], 4, 200),
        (1, [34, 34], 40, 32),
    ] {
        let mut build = Build::default();
        let base = [n, in_size[0], in_size[1], c];
        let (x_strides, x_len) = spread(&mut random, &base);
        let x = build.floats(&mut random, x_len + 2);
        let mut args = vec![x, build.floats(&mut random, packed_winograd_len(c, m).unwrap())];
        let bias = random.below(2) == 0;
        if bias {
            args.push(build.floats(&mut random, m));
        }
        let extents = [n, in_size[0] - 2, in_size[1] - 2, m];
        let (strides, len) = spread(&mut random, &extents);
        let offset = random.below(5);
        let out = build.temp(offset + len);
        let kind = StepKind::Winograd {
            extents: base.map(|extent| build.reg(extent)),
            out_extents: [build.reg(extents[1]), build.reg(extents[2])],
            x: build.access(2, &x_strides),
            out: build.access(offset, &strides),
            m: build.reg(m),
            bias,
            epilogue: None,
        };
        build.step(kind, &args, out);
        compare(build, &mut random, &extents, (offset, &strides));
    }
}

#[test]
fn special_values_pass_through() {
    let mut random = Random(14);
    let mut build = Build::default();
    let a = build.floats(&mut random, 8);
    build.inputs[0] =
        HostTensor::from_f32(&[8], &[f32::NAN, f32::INFINITY, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
    let b = build.floats(&mut random, 3);
    let out = build.temp(24);
    let kind = StepKind::MatMul {
        batch: vec![],
        m: build.reg(8),
        k: build.reg(1),
        n: build.reg(3),
        a: build.access(0, &[1, 1]),
        b: build.access(0, &[3, 1]),
        b_packed: false,
        sparsity: None,
        out: build.access(0, &[3]),
        bias: false,
        epilogue: None,
    };
    build.step(kind, &[a, b], out);
    compare(build, &mut random, &[8, 3], (0, &[3]));
    assert!(float(&mut random).is_finite());
}

/// A product `[4, 5] x [5, 6]` with an epilogue that adds a dense argument.
fn sum_after_product() -> Build {
    let mut random = Random(15);
    let mut build = Build::default();
    let (a, b) = (build.floats(&mut random, 20), build.floats(&mut random, 30));
    let other = build.floats(&mut random, 24);
    let out = build.temp(24);
    let tile = build.tile(super::common::sum_tile());
    let kind = StepKind::MatMul {
        batch: vec![],
        m: build.reg(4),
        k: build.reg(5),
        n: build.reg(6),
        a: build.access(0, &[5, 1]),
        b: build.access(0, &[6, 1]),
        b_packed: false,
        sparsity: None,
        out: build.access(0, &[6]),
        bias: false,
        epilogue: Some(Epilogue { tile, reads: vec![build.access(0, &[6, 1])] }),
    };
    build.step(kind, &[a, b, other], out);
    build.output(out);
    build
}

#[test]
fn epilogues_are_compiled() {
    if !Isa::Avx2.is_available() {
        return;
    }
    let build = sum_after_product();
    let inputs: Vec<_> = build.inputs.iter().map(HostTensor::as_ref).collect();
    for (isa, want) in [(Isa::Scalar, (0, 1)), (Isa::Avx2, (1, 0))] {
        let mut session = build.compiling(isa, 1);
        let loops = session.plan(&inputs).unwrap().loops();
        assert_eq!((loops.compiled, loops.interpreted), want, "{}", isa.name());
    }
}

/// The refusal of the product after `edit`.
#[track_caller]
fn refused(edit: impl FnOnce(&mut Build, &mut Access, &mut Epilogue, &mut Access)) -> String {
    let mut build = sum_after_product();
    let mut kind = build.program.steps[0].kind.clone();
    let StepKind::MatMul { out, epilogue: Some(epilogue), b, .. } = &mut kind else { panic!() };
    edit(&mut build, out, epilogue, b);
    build.program.steps[0].kind = kind;
    build.refusal()
}

#[test]
fn accesses_that_leave_their_values_or_overlap_are_refused() {
    assert!(sum_after_product().run(Isa::Scalar, 1).is_ok());
    let bound = refused(|build, _, e, _| e.reads[0] = build.access(1, &[6, 1]));
    assert!(bound.contains("read 1: it leaves its value"), "{bound}");
    refused(|build, _, e, _| e.reads[0].strides[0] = build.signed(-6));
    refused(|build, _, e, _| e.reads[0].strides[1] = build.signed(i64::MAX));
    refused(|build, _, e, _| e.reads[0].offset = build.signed(i64::MIN));
    let overlap = refused(|build, out, _, _| out.strides[0] = build.reg(5));
    assert!(overlap.contains("overlap") || overlap.contains("twice"), "{overlap}");
    refused(|build, out, _, _| out.strides[0] = build.reg(0));
    refused(|build, out, _, _| out.strides[0] = build.reg(7));
    refused(|build, out, _, _| out.offset = build.reg(1));
    refused(|build, out, _, _| out.offset = build.signed(-1));
    refused(|build, out, _, _| out.strides[0] = build.signed(i64::MIN));
    refused(|build, _, _, b| b.strides[0] = build.signed(i64::MAX));
}

#[test]
fn malformed_epilogues_do_not_load() {
    let load = |edit: &dyn Fn(&mut Build, &mut Epilogue)| {
        let mut build = sum_after_product();
        let mut kind = build.program.steps[0].kind.clone();
        let StepKind::MatMul { epilogue: Some(epilogue), .. } = &mut kind else { panic!() };
        edit(&mut build, epilogue);
        build.program.steps[0].kind = kind;
        let writer = autoglm_runtime::engine::EngineWriter::in_memory().unwrap();
        let bytes = writer.finish(&super::common::signature(&build.program), &build.program).unwrap();
        autoglm_runtime::engine::Engine::from_bytes(bytes.into()).map(drop).map_err(|e| e.to_string())
    };
    let says = |edit: &dyn Fn(&mut Build, &mut Epilogue), text: &str| {
        let message = load(edit).unwrap_err();
        assert!(message.contains(text), "{message}");
    };
    load(&|_, _| ()).unwrap();
    says(&|_, e| e.tile = 1, "tile program 1 of 1");
    says(&|_, e| e.reads.clear(), "(3, 1) arguments and outputs instead of (2, 1)");
    says(&|_, e| e.reads[0].strides.truncate(1), "an access has 1 strides instead of 2");
    says(&|b, e| e.reads[0].offset = b.program.shape.ops.len() as u32, "register");
    says(&|b, _| b.program.tiles[0].reduce_rank = 1, "reduces 1 loop dimensions");
    says(&|b, _| b.program.tiles[0].body.push(Instr::Store { out: 0, src: 0 }), "has 2 stores");
    says(&|b, _| b.program.tiles[0].body[3] = Instr::Store { out: 1, src: 2 }, "no such output");
    says(&|b, _| b.program.tiles[0].body[1] = Instr::Load { arg: 2 }, "no such argument");
}
