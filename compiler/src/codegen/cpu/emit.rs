//! The loops around a body.

use super::fold::Accumulators;
use super::vector::{Val, unchecked};
use autoglm_runtime::tile::native::{Declined, LoopSpec, Step, frame};
use autoglm_runtime::tile::{Instr, Lane, LaneId, MAX_RANK, UnaryOp};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32X4, F64X2, I64, I64X2};
use cranelift_codegen::ir::{AbiParam, Block, BlockArg, InstBuilder, SigRef, Signature, Value};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::FunctionBuilder;

/// Bodies with at most this cost are computed for eight columns at once: loop control would show.
const SHORT: usize = 12;

/// What is wrong with a spec that no plan makes.
pub(super) const MALFORMED: Declined = Declined("a malformed loop");

/// How the columns of an iteration are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of them exist.
    Full,
    /// Those past the last one are the last one.
    Clamped,
}

/// What is known about a lane.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// Not computed yet, or a store.
    Empty,
    /// Bits of a constant, made where it is used.
    Const(Lane, u64),
    /// One part, equal in all columns.
    Invariant(Val),
    /// As many parts as the iteration has.
    Varying(Val),
}

/// A function being made.
pub(super) struct Emitter<'a> {
    pub(super) b: FunctionBuilder<'a>,
    pub(super) spec: &'a LoopSpec,
    pub(super) slots: Vec<Slot>,
    /// Vectors of four columns in an iteration.
    pub(super) vectors: usize,
    pub(super) mode: Mode,
    /// The only argument.
    pub(super) frame: Value,
    pub(super) cols: Value,
    /// The current row.
    pub(super) row: Value,
    /// The first column of the iteration.
    pub(super) col: Value,
    /// First element of the current row of each operand that is used, reads first.
    pub(super) bases: Vec<Value>,
    /// Bytes from column to column of each strided operand.
    pub(super) steps: Vec<Value>,
    pub(super) helper: SigRef,
}

/// Makes the function of `spec` with `b`, whose function has the frame as its only parameter.
pub(super) fn emit(
    mut b: FunctionBuilder<'_>,
    spec: &LoopSpec,
    config: TargetFrontendConfig,
) -> Result<(), Declined> {
    if spec.body.len() != spec.lanes.len() {
        return Err(MALFORMED);
    }
    let helper = b.import_signature(helper_signature(config.default_call_conv));
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let frame = *b.block_params(entry).first().ok_or(MALFORMED)?;
    let nothing = b.ins().iconst(I64, 0);
    let mut emitter = Emitter {
        b,
        spec,
        slots: vec![Slot::Empty; spec.body.len()],
        vectors: if cost(spec) <= SHORT { 2 } else { 1 },
        mode: Mode::Full,
        frame,
        cols: nothing,
        row: nothing,
        col: nothing,
        bases: Vec::new(),
        steps: Vec::new(),
        helper,
    };
    emitter.rows()?;
    emitter.b.seal_all_blocks();
    emitter.b.finalize(config);
    Ok(())
}

fn helper_signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params = vec![AbiParam::new(I64); 2];
    signature.returns = vec![AbiParam::new(I64)];
    signature
}

/// About the number of vector instructions of a body.
fn cost(spec: &LoopSpec) -> usize {
    let one = |instr: &Instr| match instr {
        Instr::Const { .. } => 0,
        Instr::Unary(UnaryOp::Abs | UnaryOp::Neg | UnaryOp::Sqrt | UnaryOp::Not, _) => 1,
        Instr::Unary(..) | Instr::Convert { .. } => 8,
        _ => 1,
    };
    spec.body.iter().map(one).sum()
}

impl Emitter<'_> {
    /// An 8-byte field of the frame.
    pub(super) fn field(&mut self, offset: i32) -> Value {
        let frame = self.frame;
        self.b.ins().load(I64, unchecked(), frame, offset)
    }

    /// Entry `i` of an array that the frame points to.
    pub(super) fn entry(&mut self, array: i32, i: usize) -> Value {
        let array = self.field(array);
        self.b.ins().load(I64, unchecked(), array, i as i32 * 8)
    }

    pub(super) fn block(&mut self, params: &Accumulators) -> (Block, Accumulators) {
        let block = self.b.create_block();
        let params = params.map(|v| {
            let ty = self.b.func.dfg.value_type(v);
            self.b.append_block_param(block, ty)
        });
        (block, params)
    }

    /// Every row, then the end of the function.
    fn rows(&mut self) -> Result<(), Declined> {
        let rows = self.field(frame::ROWS);
        self.cols = self.field(frame::COLS);
        let start = self.identities()?;
        let zero = self.b.ins().iconst(I64, 0);
        let (row_block, sums) = self.block(&start);
        self.row = self.b.append_block_param(row_block, I64);
        let args = start.args([zero]);
        self.b.ins().jump(row_block, &args);
        self.b.switch_to_block(row_block);
        self.row_start()?;
        let sums = self.columns(sums)?;
        let next = self.b.ins().iadd_imm_s(self.row, 1);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, rows);
        let (done, totals) = self.block(&sums);
        let (again, finish) = (sums.args([next]), sums.args([]));
        self.b.ins().brif(more, row_block, &again, done, &finish);
        self.b.switch_to_block(done);
        self.finish_folds(&totals)?;
        self.b.ins().return_(&[]);
        Ok(())
    }

    /// Addresses and everything that is the same in all columns of the row.
    fn row_start(&mut self) -> Result<(), Declined> {
        self.bases.clear();
        self.steps.clear();
        let operands: Vec<_> = self.spec.reads.iter().chain(&self.spec.writes).copied().collect();
        for (i, operand) in operands.iter().enumerate() {
            let (mut base, mut step) = (self.row, self.row);
            if operand.step != Step::Unused {
                let first = self.entry(frame::BASES, i);
                let row_step = self.entry(frame::ROW_STEPS, i);
                let moved = self.b.ins().imul(self.row, row_step);
                base = self.b.ins().iadd(first, moved);
            }
            if operand.step == Step::Strided {
                step = self.entry(frame::COL_STEPS, i);
            }
            self.bases.push(base);
            self.steps.push(step);
        }
        self.slots.fill(Slot::Empty);
        self.mode = Mode::Full;
        for id in 0..self.spec.body.len() {
            self.invariant(id)?;
        }
        Ok(())
    }

    /// Defines lane `id` if it is the same in all columns.
    fn invariant(&mut self, id: usize) -> Result<(), Declined> {
        let instr = self.spec.body[id];
        let is_fixed = |slots: &[Slot], id: LaneId| {
            matches!(slots.get(usize::from(id)), Some(Slot::Const(..) | Slot::Invariant(_)))
        };
        let fixed = match instr {
            Instr::Const { lane, bits } => {
                self.slots[id] = Slot::Const(lane, bits);
                return Ok(());
            }
            Instr::Load { arg } => self.read(usize::from(arg))?.step == Step::Broadcast,
            Instr::Index { dim } => self.spec.block_dims[1] != Some(dim),
            Instr::Store { .. } => false,
            Instr::Unary(_, a) | Instr::Convert { src: a, .. } | Instr::Round { src: a, .. } => {
                is_fixed(&self.slots, a)
            }
            Instr::Binary(_, a, b) => is_fixed(&self.slots, a) && is_fixed(&self.slots, b),
            Instr::Select { cond, a, b } => [cond, a, b].iter().all(|&i| is_fixed(&self.slots, i)),
        };
        if fixed {
            let vectors = std::mem::replace(&mut self.vectors, 1);
            let value = self.value(instr)?;
            self.vectors = vectors;
            self.slots[id] = Slot::Invariant(value);
        }
        Ok(())
    }

    /// The columns of a row: whole iterations, then four columns at a time.
    fn columns(&mut self, sums: Accumulators) -> Result<Accumulators, Declined> {
        let wide = self.vectors;
        let zero = self.b.ins().iconst(I64, 0);
        let last = self.b.ins().iadd_imm_s(self.cols, -4 * wide as i64);
        let (full, full_sums) = self.loop_block(&sums);
        let full_col = self.col;
        let (rest, rest_sums) = self.loop_block(&sums);
        let rest_col = self.col;
        let (end, end_sums) = self.block(&sums);
        let enough = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, last, zero);
        let args = sums.args([zero]);
        self.b.ins().brif(enough, full, &args, rest, &args);

        self.b.switch_to_block(full);
        (self.col, self.mode) = (full_col, Mode::Full);
        let sums = self.iteration(full_sums)?;
        let next = self.b.ins().iadd_imm_s(full_col, 4 * wide as i64);
        let more = self.b.ins().icmp(IntCC::SignedLessThanOrEqual, next, last);
        let args = sums.args([next]);
        let (after, after_sums) = self.loop_block(&sums);
        let after_col = self.col;
        self.b.ins().brif(more, full, &args, after, &args);
        self.b.switch_to_block(after);
        let any = self.b.ins().icmp(IntCC::SignedLessThan, after_col, self.cols);
        let (args, finish) = (after_sums.args([after_col]), after_sums.args([]));
        self.b.ins().brif(any, rest, &args, end, &finish);

        self.b.switch_to_block(rest);
        (self.col, self.mode, self.vectors) = (rest_col, Mode::Clamped, 1);
        let sums = self.iteration(rest_sums)?;
        self.vectors = wide;
        let next = self.b.ins().iadd_imm_s(rest_col, 4);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, self.cols);
        let (args, finish) = (sums.args([next]), sums.args([]));
        self.b.ins().brif(more, rest, &args, end, &finish);
        self.b.switch_to_block(end);
        Ok(end_sums)
    }

    /// A block with the accumulators and, in `self.col`, the column as parameters.
    fn loop_block(&mut self, sums: &Accumulators) -> (Block, Accumulators) {
        let (block, params) = self.block(sums);
        self.col = self.b.append_block_param(block, I64);
        (block, params)
    }

    /// Computes the body at the columns from `self.col` on.
    fn iteration(&mut self, sums: Accumulators) -> Result<Accumulators, Declined> {
        for id in 0..self.spec.body.len() {
            if matches!(self.slots[id], Slot::Const(..) | Slot::Invariant(_)) {
                continue;
            }
            let instr = self.spec.body[id];
            if let Instr::Store { out, src } = instr {
                self.store(usize::from(out), src)?;
            } else {
                let value = self.value(instr)?;
                self.slots[id] = Slot::Varying(value);
            }
        }
        let sums = self.fold(sums)?;
        for slot in &mut self.slots {
            if matches!(slot, Slot::Varying(_)) {
                *slot = Slot::Empty;
            }
        }
        Ok(sums)
    }

    /// The value of an instruction that is no store.
    fn value(&mut self, instr: Instr) -> Result<Val, Declined> {
        match instr {
            Instr::Load { arg } => self.load(usize::from(arg)),
            Instr::Const { lane, bits } => Ok(self.constant_value(lane, bits)),
            Instr::Index { dim } if usize::from(dim) < MAX_RANK => Ok(self.index(dim)),
            Instr::Index { .. } => Err(MALFORMED),
            Instr::Unary(op, a) => {
                let a = self.get(a)?;
                self.unary(op, a, self.lane_of(instr)?)
            }
            Instr::Binary(op, a, b) => self.binary(op, a, b),
            Instr::Select { cond, a, b } => self.select(cond, a, b),
            Instr::Convert { to, src } => {
                let (value, from) = (self.get(src)?, self.lane(src)?);
                self.convert(value, from, to)
            }
            Instr::Round { elem, src, .. } => {
                let value = self.get(src)?;
                self.round(value, elem)
            }
            Instr::Store { .. } => Err(MALFORMED),
        }
    }

    /// The type of lane `id`.
    pub(super) fn lane(&self, id: LaneId) -> Result<Lane, Declined> {
        self.spec.lanes.get(usize::from(id)).copied().flatten().ok_or(MALFORMED)
    }

    /// The lane type that a one-operand instruction computes in.
    fn lane_of(&self, instr: Instr) -> Result<Lane, Declined> {
        if let Instr::Unary(_, a) = instr { self.lane(a) } else { Err(MALFORMED) }
    }

    /// Lane `id` with as many parts as the iteration has.
    pub(super) fn get(&mut self, id: LaneId) -> Result<Val, Declined> {
        match self.slots.get(usize::from(id)).cloned() {
            Some(Slot::Const(lane, bits)) => Ok(self.constant_value(lane, bits)),
            Some(Slot::Invariant(value)) => Ok(value.repeat(self.vectors)),
            Some(Slot::Varying(value)) => Ok(value),
            _ => Err(MALFORMED),
        }
    }

    fn constant_value(&mut self, lane: Lane, bits: u64) -> Val {
        let n = self.vectors;
        match lane {
            Lane::F32 => Val::F32(vec![self.all32(F32X4, bits as u32); n]),
            Lane::F64 => Val::F64(vec![self.all64(F64X2, bits); 2 * n]),
            Lane::I64 | Lane::U64 => Val::Int(vec![self.all64(I64X2, bits); 2 * n]),
        }
    }

    /// The index of loop dimension `dim` in every column.
    fn index(&mut self, dim: u8) -> Val {
        let [row, col] = self.spec.block_dims;
        let mut first = self.entry(frame::INDEX, usize::from(dim));
        if row == Some(dim) {
            first = self.b.ins().iadd(first, self.row);
        }
        let varies = col == Some(dim);
        if varies {
            first = self.b.ins().iadd(first, self.col);
        }
        let first = self.b.ins().splat(I64X2, first);
        let part = |e: &mut Self, i: usize| {
            if !varies {
                return first;
            }
            let offsets = e.pair(2 * i as i64, 2 * i as i64 + 1);
            e.b.ins().iadd(first, offsets)
        };
        Val::Int((0..2 * self.vectors).map(|i| part(self, i)).collect())
    }
}

impl Val {
    /// An invariant of one vector, for `vectors` of them.
    fn repeat(self, vectors: usize) -> Self {
        let all = |parts: Vec<Value>| parts.iter().copied().cycle().take(parts.len() * vectors).collect();
        match self {
            Self::F32(p) => Self::F32(all(p)),
            Self::F64(p) => Self::F64(all(p)),
            Self::Int(p) => Self::Int(all(p)),
            Self::Mask32(p) => Self::Mask32(all(p)),
            Self::Mask64(p) => Self::Mask64(all(p)),
        }
    }
}

impl Accumulators {
    /// As arguments of a jump, before `more`.
    pub(super) fn args<const N: usize>(&self, more: [Value; N]) -> Vec<BlockArg> {
        self.0.iter().flatten().copied().chain(more).map(BlockArg::from).collect()
    }

    fn map(&self, mut f: impl FnMut(Value) -> Value) -> Self {
        Self(self.0.iter().map(|parts| parts.iter().map(|&v| f(v)).collect()).collect())
    }
}
