//! Valid programs that between them use every kind of step, each size in a register of its own.

use crate::common::{all_kinds_program, port, rows_program, step, value};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::EngineWriter;
use autoglm_runtime::program::{
    Access, Activation, Cell, Curve, Epilogue, PoolMode, Port, Program, Reg, ScatterMode, ShapeOp, Sparsity,
    StepKind, Storage, ValueId,
};
use autoglm_runtime::tile::{BinaryOp, Instr, Lane, Reduce, ReduceOp, TileProgram, UnaryOp};

/// All of them. Every second one keeps no temporary: all its values are outputs, so that each lies in memory of its own.
pub fn programs(writer: &mut EngineWriter) -> Vec<Program> {
    let plain = vec![
        rows_program(writer),
        all_kinds_program(writer),
        matrices(writer),
        images(writer),
        sparse(writer),
        transformed(writer),
        indices(writer),
        chosen(writer),
        layers(writer),
        loops(writer),
        in_place(writer),
    ];
    plain.into_iter().flat_map(|p| [exposed(&p), p]).collect()
}

fn exposed(program: &Program) -> Program {
    let mut program = program.clone();
    for (i, value) in program.values.iter().enumerate() {
        let is_output = program.outputs.iter().any(|o| o.value as usize == i);
        let is_written = program.steps.iter().any(|s| s.outs.contains(&(i as ValueId)));
        if is_written && !is_output && value.storage == Storage::Temp {
            program.outputs.push(port(&format!("t{i}"), i as ValueId, &[]));
        }
    }
    program
}

struct Builder<'a> {
    program: Program,
    writer: &'a mut EngineWriter,
}

impl<'a> Builder<'a> {
    fn new(writer: &'a mut EngineWriter) -> Self {
        Self { program: Program::default(), writer }
    }

    fn reg(&mut self, n: i64) -> Reg {
        self.program.shape.ops.push(ShapeOp::Const(n));
        (self.program.shape.ops.len() - 1) as Reg
    }

    fn regs<const N: usize>(&mut self, ns: [i64; N]) -> [Reg; N] {
        ns.map(|n| self.reg(n))
    }

    fn add(&mut self, elem: ElemType, dims: &[i64], storage: Storage) -> ValueId {
        let dims: Vec<Reg> = dims.iter().map(|&d| self.reg(d)).collect();
        self.program.values.push(value(elem, &dims, storage));
        (self.program.values.len() - 1) as ValueId
    }

    fn input(&mut self, elem: ElemType, dims: &[i64]) -> ValueId {
        let at = self.program.inputs.len() as u32;
        let id = self.add(elem, dims, Storage::Input(at));
        let names: Vec<String> = dims.iter().map(i64::to_string).collect();
        self.program.inputs.push(Port { name: format!("x{at}"), value: id, dim_names: names });
        id
    }

    fn temp(&mut self, elem: ElemType, dims: &[i64]) -> ValueId {
        self.add(elem, dims, Storage::Temp)
    }

    fn floats(&mut self, dims: &[i64]) -> ValueId {
        self.temp(ElemType::F32, dims)
    }

    fn weights(&mut self, dims: &[i64]) -> ValueId {
        let count = dims.iter().product::<i64>();
        let bytes: Vec<u8> = (0..count).flat_map(|i| (i as f32 / 8.0).to_le_bytes()).collect();
        let (offset, len) = self.writer.add_weight(&bytes).unwrap();
        self.add(ElemType::F32, dims, Storage::Const { offset, len })
    }

    fn indices(&mut self, elems: &[i64]) -> ValueId {
        let bytes: Vec<u8> = elems.iter().flat_map(|i| i.to_le_bytes()).collect();
        let (offset, len) = self.writer.add_weight(&bytes).unwrap();
        self.add(ElemType::I64, &[elems.len() as i64], Storage::Const { offset, len })
    }

    /// Codes of sparse weights: any bits will do.
    fn codes(&mut self, len: i64) -> ValueId {
        let bytes: Vec<u8> =
            (0..len as u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        let (offset, len_bytes) = self.writer.add_weight(&bytes).unwrap();
        self.add(ElemType::U32, &[len], Storage::Const { offset, len: len_bytes })
    }

    fn access(&mut self, offset: i64, strides: &[i64]) -> Access {
        Access { offset: self.reg(offset), strides: strides.iter().map(|&s| self.reg(s)).collect() }
    }

    fn step(&mut self, kind: StepKind, args: &[ValueId], outs: &[ValueId]) {
        let name = kind.name();
        self.program.steps.push(step(name, kind, args, outs));
    }

    fn tile(
        &mut self,
        tile: TileProgram,
        dims: &[i64],
        reads: &[(ValueId, i64, &[i64])],
        writes: &[(ValueId, i64, &[i64])],
    ) {
        self.program.tiles.push(tile);
        let mut accesses = |list: &[(ValueId, i64, &[i64])]| {
            list.iter().map(|(_, offset, strides)| self.access(*offset, strides)).collect()
        };
        let (from, to) = (accesses(reads), accesses(writes));
        let dims = dims.iter().map(|&d| self.reg(d)).collect();
        let tile = (self.program.tiles.len() - 1) as u32;
        let ids = |list: &[(ValueId, i64, &[i64])]| list.iter().map(|(id, ..)| *id).collect::<Vec<_>>();
        self.step(StepKind::Tile { tile, dims, reads: from, writes: to }, &ids(reads), &ids(writes));
    }

    /// Twice the elements of a matrix in the first columns of a wider one.
    fn doubled(&mut self, x: ValueId, from: &[i64; 2], to: &[i64; 2]) -> ValueId {
        let out = self.floats(to);
        let body = vec![Instr::Load { arg: 0 }, Instr::Binary(BinaryOp::Add, 0, 0), store(0, 1)];
        let tile = TileProgram { body, ..TileProgram::default() };
        self.tile(tile, from, &[(x, 0, &[from[1], 1])], &[(out, 0, &[to[1], 1])]);
        out
    }

    fn finish(mut self, outputs: &[ValueId]) -> Program {
        for (i, &id) in outputs.iter().enumerate() {
            self.program.outputs.push(port(&format!("y{i}"), id, &[]));
        }
        self.program
    }
}

fn matrices(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let (x, w, bias) = (b.input(ElemType::F32, &[2, 17, 9]), b.weights(&[2, 9, 32]), b.weights(&[35]));
    let packed = b.floats(&[34, 35]);
    let [m, k, n] = b.regs([34, 9, 35]);
    let (a, unused) = (b.access(0, &[9, 1]), b.access(0, &[0, 0]));
    // The residual dies into the result.
    let residual = b.doubled(x, &[34, 9], &[34, 35]);
    b.program.tiles.push(TileProgram {
        body: vec![
            Instr::Load { arg: 0 },
            Instr::Load { arg: 1 },
            Instr::Binary(BinaryOp::Add, 0, 1),
            store(0, 2),
        ],
        ..TileProgram::default()
    });
    let tile = (b.program.tiles.len() - 1) as u32;
    let epilogue = Some(Epilogue { tile, reads: vec![b.access(0, &[35, 1])] });
    let out = b.access(0, &[35]);
    let kind = StepKind::MatMul {
        batch: vec![],
        m,
        k,
        n,
        a,
        b: unused,
        b_packed: true,
        sparsity: None,
        bias: true,
        epilogue,
        out,
    };
    b.step(kind, &[x, w, bias, residual], &[packed]);
    // Each image times itself transposed.
    let square = b.floats(&[2, 17, 17]);
    let [batch, m, k, n] = b.regs([2, 17, 9, 17]);
    let (left, right) = (b.access(0, &[153, 9, 1]), b.access(0, &[153, 1, 9]));
    let batch = vec![batch];
    let out = b.access(0, &[289, 17]);
    let (a, right) = (left, right);
    let kind = StepKind::MatMul {
        batch,
        m,
        k,
        n,
        a,
        b: right,
        b_packed: false,
        sparsity: None,
        bias: false,
        epilogue: None,
        out,
    };
    b.step(kind, &[x, x], &[square]);
    let soft = b.floats(&[2, 17, 17]);
    let [rows, cols] = b.regs([34, 17]);
    let (from, to) = (b.access(0, &[17]), b.access(0, &[17]));
    b.step(StepKind::Softmax { rows, cols, log: false, x: from, out: to }, &[square], &[soft]);
    let (norm, scale) = (b.floats(&[34, 35]), b.weights(&[35]));
    let [rows, cols] = b.regs([34, 35]);
    let (from, to) = (b.access(0, &[35]), b.access(0, &[35]));
    b.step(
        StepKind::LayerNorm { rows, cols, epsilon: 1e-5, bias: false, rms: true, x: from, out: to },
        &[packed, scale],
        &[norm],
    );
    b.finish(&[soft, norm])
}

fn images(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let x = b.input(ElemType::F32, &[2, 9, 7, 6]);
    // 3x3, stride 2 and 1, two groups of 3 to 4 channels: one packed block of 27 x 32 a group.
    let (w, bias, y) = (b.weights(&[2, 27, 32]), b.weights(&[8]), b.floats(&[2, 4, 5, 8]));
    let (kernel, stride, dilation) = (b.regs([3, 3]), b.regs([2, 1]), b.regs([1, 1]));
    let [groups, m] = b.regs([2, 8]);
    let (extents, out_extents) = (b.regs([2, 9, 7, 6]), b.regs([4, 5]));
    let (from, to) = (b.access(0, &[378, 42, 6]), b.access(0, &[160, 40, 8]));
    b.program.tiles.push(TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Sigmoid, 0), store(0, 1)],
        ..TileProgram::default()
    });
    let epilogue = Some(Epilogue { tile: 0, reads: vec![] });
    let kind = StepKind::Conv {
        extents,
        out_extents,
        x: from,
        out: to,
        kernel,
        stride,
        dilation,
        groups,
        m,
        sparsity: None,
        bias: true,
        epilogue,
    };
    b.step(kind, &[x, w, bias], &[y]);
    let (w, z) = (b.weights(&[9, 8]), b.floats(&[2, 2, 1, 8]));
    let (kernel, stride, dilation) = (b.regs([3, 3]), b.regs([1, 1]), b.regs([1, 2]));
    let [groups, m] = b.regs([8, 8]);
    let (extents, out_extents) = (b.regs([2, 4, 5, 8]), b.regs([2, 1]));
    let (from, to) = (b.access(0, &[160, 40, 8]), b.access(0, &[16, 8, 8]));
    let kind = StepKind::Conv {
        extents,
        out_extents,
        x: from,
        out: to,
        kernel,
        stride,
        dilation,
        groups,
        m,
        sparsity: None,
        bias: false,
        epilogue: None,
    };
    b.step(kind, &[y, w], &[z]);
    let mut pools = Vec::new();
    for mode in [PoolMode::Max, PoolMode::Average, PoolMode::AverageIncludePad, PoolMode::Sum] {
        let out = b.floats(&[2, 5, 4, 6]);
        let (kernel, stride, dilation) = (b.regs([3, 2]), b.regs([2, 2]), b.regs([1, 2]));
        let (pad, pad_end) = (b.regs([1, 1]), b.regs([1, 2]));
        let (extents, out_extents) = (b.regs([2, 9, 7, 6]), b.regs([5, 4]));
        let (from, to) = (b.access(0, &[378, 42, 6]), b.access(0, &[120, 24, 6]));
        let kind = StepKind::Pool {
            mode,
            extents,
            out_extents,
            x: from,
            out: to,
            kernel,
            stride,
            dilation,
            pad,
            pad_end,
        };
        b.step(kind, &[x], &[out]);
        pools.push(out);
    }
    b.finish(&[z, pools[0], pools[1], pools[2]])
}

/// Products and a convolution whose weights are stored in part.
fn sparse(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let x = b.input(ElemType::F32, &[7, 19]);
    // 5 groups of 4 rows, the last of 3; 10 stored rows in 2 panels.
    let (w, codes, bias) = (b.weights(&[2, 10, 32]), b.codes(64), b.weights(&[35]));
    let y = b.floats(&[7, 35]);
    let [m, k, n] = b.regs([7, 19, 35]);
    let (a, unused, out) = (b.access(0, &[19, 1]), b.access(0, &[]), b.access(0, &[35]));
    b.program.tiles.push(TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Neg, 0), store(0, 1)],
        ..TileProgram::default()
    });
    let kind = StepKind::MatMul {
        batch: vec![],
        m,
        k,
        n,
        a,
        b: unused,
        b_packed: true,
        sparsity: Some(Sparsity::Columns),
        out,
        bias: true,
        epilogue: Some(Epilogue { tile: 0, reads: vec![] }),
    };
    b.step(kind, &[x, w, codes, bias], &[y]);
    // 5 groups of 8 rows, 3 of them stored: 15 codes of 3 bits in 2 words.
    let (w, codes, z) = (b.weights(&[15, 32]), b.codes(2), b.floats(&[7, 6]));
    let [m, k, n] = b.regs([7, 35, 6]);
    let (a, unused, out) = (b.access(0, &[35, 1]), b.access(0, &[]), b.access(0, &[6]));
    let kind = StepKind::MatMul {
        batch: vec![],
        m,
        k,
        n,
        a,
        b: unused,
        b_packed: true,
        sparsity: Some(Sparsity::Panels { kept: 3, of: 8 }),
        out,
        bias: false,
        epilogue: None,
    };
    b.step(kind, &[y, w, codes], &[z]);
    // The first 36 elements as an image of 3 x 2 pixels of 6 channels in two groups: 2 taps of one group of 4, 2 stored.
    let image = b.floats(&[1, 3, 2, 6]);
    let copy = TileProgram { body: vec![Instr::Load { arg: 0 }, store(0, 0)], ..TileProgram::default() };
    b.tile(copy, &[36], &[(z, 0, &[1])], &[(image, 0, &[1])]);
    let (w, codes, bias) = (b.weights(&[2, 4, 32]), b.codes(2), b.weights(&[8]));
    let (kernel, stride, dilation) = (b.regs([2, 1]), b.regs([1, 1]), b.regs([1, 1]));
    let [groups, m] = b.regs([2, 8]);
    let (extents, out_extents) = (b.regs([1, 3, 2, 6]), b.regs([2, 2]));
    let (from, to) = (b.access(0, &[36, 12, 6]), b.access(0, &[32, 16, 8]));
    let pixels = b.floats(&[1, 2, 2, 8]);
    let kind = StepKind::Conv {
        extents,
        out_extents,
        x: from,
        out: to,
        kernel,
        stride,
        dilation,
        groups,
        m,
        sparsity: Some(Sparsity::Panels { kept: 2, of: 4 }),
        bias: true,
        epilogue: None,
    };
    b.step(kind, &[image, w, codes, bias], &[pixels]);
    b.finish(&[pixels])
}

fn transformed(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let x = b.input(ElemType::F32, &[2, 9, 7, 6]);
    let (w, bias, y) = (b.weights(&[36, 2, 6, 32]), b.weights(&[40]), b.floats(&[2, 7, 5, 40]));
    let (m, extents, out_extents) = (b.regs([40])[0], b.regs([2, 9, 7, 6]), b.regs([7, 5]));
    let (from, to) = (b.access(0, &[378, 42, 6]), b.access(0, &[1400, 200, 40]));
    b.program.tiles.push(TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Sigmoid, 0), store(0, 1)],
        ..TileProgram::default()
    });
    let epilogue = Some(Epilogue { tile: 0, reads: vec![] });
    let kind = StepKind::Winograd { extents, out_extents, x: from, out: to, m, bias: true, epilogue };
    b.step(kind, &[x, w, bias], &[y]);
    b.finish(&[y])
}

fn indices(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let (x, picks) = (b.input(ElemType::F32, &[3, 5, 4]), b.input(ElemType::I64, &[6]));
    let gathered = b.floats(&[3, 6, 4]);
    let [outer, axis, inner, count] = b.regs([3, 5, 4, 6]);
    b.step(StepKind::Gather { outer, axis, inner, count }, &[x, picks], &[gathered]);
    let (rows_index, rows_out) = (b.indices(&[0, 1, 2, -1]), b.floats(&[2, 4]));
    let [batch, rows, e0, e1, inner] = b.regs([1, 2, 3, 5, 4]);
    let kind = StepKind::GatherNd { batch, rows, extents: vec![e0, e1], inner };
    b.step(kind, &[x, rows_index], &[rows_out]);
    let scattered = b.floats(&[3, 5, 4]);
    let [rows, e0, e1, inner] = b.regs([2, 3, 5, 4]);
    let kind = StepKind::ScatterNd { rows, extents: vec![e0, e1], inner, mode: ScatterMode::Add };
    b.step(kind, &[x, rows_index, rows_out], &[scattered]);
    let (element_index, elements) = (b.indices(&[4, 0, -5, 2]), b.floats(&[1, 2, 2]));
    let (data, shape) = (b.regs([3, 5, 4]).to_vec(), b.regs([1, 2, 2]).to_vec());
    b.step(
        StepKind::GatherElements { data: data.clone(), shape: shape.clone(), axis: 1 },
        &[scattered, element_index],
        &[elements],
    );
    let put = b.floats(&[3, 5, 4]);
    let kind = StepKind::ScatterElements { data, shape, axis: 1, mode: ScatterMode::Max };
    b.step(kind, &[scattered, element_index, elements], &[put]);
    let (values, places) = (b.floats(&[3, 2, 4]), b.temp(ElemType::I64, &[3, 2, 4]));
    let [outer, axis, inner, k] = b.regs([3, 5, 4, 2]);
    b.step(StepKind::TopK { outer, axis, inner, k, largest: true }, &[put], &[values, places]);
    let sizes = b.temp(ElemType::I64, &[2]);
    let elems = b.regs([3, 5]).to_vec();
    b.step(StepKind::Dims { elems }, &[], &[sizes]);
    b.finish(&[gathered, values, places, sizes])
}

/// Products with matrices that an index chooses, packed and as they are, for one row of x each and for two.
fn chosen(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let (x, picks) = (b.input(ElemType::F32, &[3, 2, 7]), b.input(ElemType::I64, &[3, 2]));
    let (packed, plain) = (b.weights(&[4, 2, 7, 32]), b.weights(&[4, 7, 9]));
    let [tokens, slots, m, k, n, matrices] = b.regs([3, 2, 1, 7, 35, 4]);
    let hidden = b.floats(&[3, 2, 35]);
    let (a, unused, index, out) =
        (b.access(0, &[14, 7, 7, 1]), b.access(0, &[]), b.access(0, &[2, 1]), b.access(0, &[70, 35, 35]));
    let kind = StepKind::GatherMatMul {
        batch: vec![tokens, slots],
        m,
        k,
        n,
        matrices,
        a,
        b: unused,
        b_packed: true,
        index,
        out,
    };
    b.step(kind, &[x, packed, picks], &[hidden]);
    let fixed = b.indices(&[3, -4, 0]);
    let [tokens, m, k, n, matrices] = b.regs([3, 2, 7, 9, 4]);
    let turned = b.floats(&[3, 2, 9]);
    let (a, right, index, out) =
        (b.access(0, &[14, 7, 1]), b.access(0, &[63, 9, 1]), b.access(2, &[-1]), b.access(0, &[18, 9]));
    let kind = StepKind::GatherMatMul {
        batch: vec![tokens],
        m,
        k,
        n,
        matrices,
        a,
        b: right,
        b_packed: false,
        index,
        out,
    };
    b.step(kind, &[x, plain, fixed], &[turned]);
    b.finish(&[hidden, turned])
}

/// Recurrent layers: one with everything that an LSTM has, one that packs its weights, and one that only ends in a state.
fn layers(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let (x, lens) = (b.input(ElemType::F32, &[4, 2, 140]), b.input(ElemType::I32, &[2]));
    let (r, start, peepholes) = (b.weights(&[4, 2, 35, 32]), b.weights(&[2, 35]), b.weights(&[105]));
    let (h, c, shared) = (b.floats(&[2, 35]), b.floats(&[2, 35]), b.floats(&[2, 2, 35]));
    let y = b.floats(&[4, 2, 35]);
    let curves = |curves: &[Curve]| -> Vec<Activation> {
        curves.iter().map(|&curve| Activation { curve, alpha: 0.5, beta: 0.25 }).collect()
    };
    let [steps, batch, hidden] = b.regs([4, 2, 35]);
    let kind = StepKind::Recurrent {
        cell: Cell::Lstm { input_forget: true },
        steps,
        batch,
        hidden,
        reverse: true,
        functions: curves(&[Curve::HardSigmoid, Curve::Softsign, Curve::Tanh]),
        clip: 3.0,
        x: b.access(0, &[280, 140]),
        r: b.access(0, &[]),
        r_packed: true,
        h: b.access(0, &[35, 1]),
        c: Some(b.access(34, &[35, -1])),
        peepholes: true,
        lengths: true,
        y: Some(b.access(0, &[70, 35])),
    };
    b.step(kind, &[x, r, start, start, peepholes, lens], &[h, c, shared, y]);
    let (last, shared, z) = (b.floats(&[2, 3]), b.floats(&[4, 2, 3]), b.floats(&[2, 4, 3]));
    let [steps, batch, hidden] = b.regs([4, 2, 3]);
    let kind = StepKind::Recurrent {
        cell: Cell::Gru { linear_before_reset: false },
        steps,
        batch,
        hidden,
        reverse: false,
        functions: curves(&[Curve::Sigmoid, Curve::ScaledTanh]),
        clip: f32::INFINITY,
        x: b.access(1, &[70, 35]),
        r: b.access(0, &[3, 1]),
        r_packed: false,
        h: b.access(0, &[0, 1]),
        c: None,
        peepholes: false,
        lengths: false,
        y: Some(b.access(0, &[3, 12])),
    };
    b.step(kind, &[y, r, c], &[last, shared, z]);
    let (end, shared) = (b.floats(&[2, 3]), b.floats(&[2, 2, 3]));
    let kind = StepKind::Recurrent {
        cell: Cell::Gru { linear_before_reset: true },
        steps,
        batch,
        hidden,
        reverse: true,
        functions: curves(&[Curve::Elu, Curve::Softplus]),
        clip: 2.0,
        x: b.access(0, &[0, 9]),
        r: b.access(0, &[3, 1]),
        r_packed: false,
        h: b.access(0, &[3, 1]),
        c: None,
        peepholes: false,
        lengths: true,
        y: None,
    };
    let bias = b.weights(&[3]);
    b.step(kind, &[z, r, last, bias, lens], &[end, shared]);
    b.finish(&[h, end])
}

fn store(out: u16, src: u16) -> Instr {
    Instr::Store { out, src }
}

fn loops(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let (x, h) = (b.input(ElemType::F32, &[7, 40]), b.input(ElemType::F16, &[40]));
    let copy = TileProgram { body: vec![Instr::Load { arg: 0 }, store(0, 0)], ..TileProgram::default() };
    let turned = b.floats(&[40, 7]);
    b.tile(copy, &[40, 7], &[(x, 0, &[1, 40])], &[(turned, 0, &[7, 1])]);
    // Two outputs of different types, a reversed read, a broadcast, an index and a selection.
    let body = vec![
        Instr::Load { arg: 0 },
        Instr::Load { arg: 1 },
        Instr::Binary(BinaryOp::Mul, 0, 1),
        Instr::Index { dim: 1 },
        Instr::Const { lane: Lane::I64, bits: 20 },
        Instr::Binary(BinaryOp::Lt, 3, 4),
        Instr::Select { cond: 5, a: 2, b: 0 },
        Instr::Convert { to: Lane::I64, src: 6 },
        store(0, 6),
        store(1, 7),
    ];
    let (mixed, bytes) = (b.temp(ElemType::BF16, &[7, 40]), b.temp(ElemType::I8, &[40, 7]));
    let (reads, writes) =
        ([(x, 39, &[40, -1][..]), (h, 0, &[0, 1])], [(mixed, 0, &[40, 1][..]), (bytes, 0, &[1, 7])]);
    b.tile(TileProgram { body, ..TileProgram::default() }, &[7, 40], &reads, &writes);
    // Folded along the rows and down the columns.
    let fold = |ops: [ReduceOp; 2]| TileProgram {
        body: vec![Instr::Load { arg: 0 }, Instr::Unary(UnaryOp::Abs, 0)],
        reduce_rank: 1,
        reduces: ops.map(|op| Reduce { op, src: 1 }).to_vec(),
        epilogue: vec![store(0, 0), store(1, 1)],
    };
    let (rows, first) = (b.floats(&[7]), b.temp(ElemType::I64, &[7]));
    let tile = fold([ReduceOp::Sum, ReduceOp::ArgMaxFirst]);
    b.tile(tile, &[7, 40], &[(x, 0, &[40, 1])], &[(rows, 0, &[1]), (first, 0, &[1])]);
    let (cols, last) = (b.floats(&[40]), b.temp(ElemType::I32, &[40]));
    let tile = fold([ReduceOp::Max, ReduceOp::ArgMinLast]);
    b.tile(tile, &[40, 7], &[(x, 0, &[1, 40])], &[(cols, 0, &[1]), (last, 0, &[1])]);
    b.finish(&[turned, mixed, bytes, rows, first, cols, last])
}

/// A chain of maps that the planner places over each other, with aliases between them.
fn in_place(writer: &mut EngineWriter) -> Program {
    let mut b = Builder::new(writer);
    let x = b.input(ElemType::F32, &[30, 20]);
    let mut from = x;
    for (i, op) in [UnaryOp::Neg, UnaryOp::Exp, UnaryOp::Abs, UnaryOp::Sqrt].into_iter().enumerate() {
        let body = vec![
            Instr::Load { arg: 0 },
            Instr::Unary(op, 0),
            Instr::Binary(BinaryOp::Add, 0, 1),
            store(0, 2),
        ];
        let to = b.floats(&[30, 20]);
        b.tile(
            TileProgram { body, ..TileProgram::default() },
            &[30, 20],
            &[(from, 0, &[20, 1])],
            &[(to, 0, &[20, 1])],
        );
        from = if i == 1 { b.add(ElemType::F32, &[20, 30], Storage::Alias(to)) } else { to };
    }
    b.finish(&[from])
}
