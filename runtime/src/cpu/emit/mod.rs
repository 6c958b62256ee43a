//! Machine code for the inner loops of tile programs on x86-64 with AVX2: eight f32 at a time, in microseconds.
//!
//! It makes code for maps over f32 whose operands are contiguous or stay in place, which most loops of a network are,
//! and declines everything else. What it emits is tested against the scalar interpreter.

mod asm;
mod graph;
mod lower;
mod math;
mod registers;

use crate::elem::ElemType;
use crate::tile::TileIsa;
use crate::tile::native::{CodeProvider, Declined, LoopSpec, Operand, Step, frame};
use asm::{Assembler, BROADCAST, Gpr, Jump, LOAD, RAX, RCX, RDI, RDX, RSI, Rm, STORE};
use graph::Graph;
use registers::Body;

/// Registers for the addresses of operands; all but the first four belong to the caller.
const BASES: [Gpr; 9] = [8, 9, 10, 11, 3, 12, 13, 14, 15];
const SCRATCH_BASES: usize = 4;
const RSP: Gpr = 4;
const RBP: Gpr = 5;

/// Most operations of a body: more would be better split.
const MAX_OPS: usize = 4096;
/// Most places on the stack, which must not step over its guard page.
const MAX_SLOTS: usize = 96;

/// Element-instructions, for each eight instructions of a body, whose interpretation costs what emitting them does.
const WORTH: u64 = 1 << 20;

/// Bytes of a vector.
const BYTES: i32 = 32;

/// Vectors that are worked on side by side: no more than displacements of a byte reach.
const VECTORS: u8 = 4;

/// The emitter as a provider of compiled loops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Emitter;

impl CodeProvider for Emitter {
    fn worth(&self, spec: &LoopSpec) -> u64 {
        WORTH.saturating_mul(spec.body.len().max(8) as u64 / 8)
    }

    fn compile(&self, spec: &LoopSpec) -> Result<Vec<u8>, Declined> {
        compile(spec)
    }
}

fn compile(spec: &LoopSpec) -> Result<Vec<u8>, Declined> {
    if !cfg!(target_arch = "x86_64") || cfg!(windows) || spec.isa == TileIsa::Scalar {
        return Err(Declined("no emitter for this processor"));
    }
    if !spec.folds.is_empty() {
        return Err(Declined("a fold"));
    }
    let operands: Vec<Operand> = spec.reads.iter().chain(&spec.writes).copied().collect();
    let used: Vec<usize> = (0..operands.len()).filter(|&i| operands[i].step != Step::Unused).collect();
    let fits = |o: &Operand| o.elem == ElemType::F32 && matches!(o.step, Step::Dense | Step::Broadcast);
    if used.len() > BASES.len() || !used.iter().all(|&i| fits(&operands[i])) {
        return Err(Declined("operands that are many, scattered or not f32"));
    }
    let mut bases = vec![RAX; operands.len()];
    used.iter().zip(BASES).for_each(|(&i, base)| bases[i] = base);
    let fixed: Vec<usize> = (0..spec.reads.len()).filter(|&i| operands[i].step == Step::Broadcast).collect();
    let graph = lower::lower(spec, &fixed)?;
    if graph.ops.len() > MAX_OPS {
        return Err(Declined("too many operations"));
    }
    // Once for nothing, to learn how much of the stack it takes.
    let slots =
        |graph: &Graph| Body::new(&mut Assembler::default(), graph, &bases, fixed.len(), false).emit();
    let several = graph.side_by_side(VECTORS);
    let (one, all) = (slots(&graph), slots(&several));
    if one > MAX_SLOTS {
        return Err(Declined("too many results at once"));
    }
    let (several, slots) = if all > MAX_SLOTS { (None, one) } else { (Some(&several), all.max(one)) };
    let (asm, graph) = (Assembler::default(), &graph);
    let mut function = Function { asm, graph, several, bases: &bases, used: &used, fixed: &fixed };
    function.emit(slots);
    Ok(function.asm.finish())
}

struct Function<'a> {
    asm: Assembler,
    /// The body for one vector.
    graph: &'a Graph,
    /// The body for [`VECTORS`] vectors, unless it needs too much of the stack.
    several: Option<&'a Graph>,
    /// The register of each operand's address.
    bases: &'a [Gpr],
    /// Operands that the loop touches.
    used: &'a [usize],
    /// Operands that stay in place, in the order of their copies on the stack.
    fixed: &'a [usize],
}

impl Function<'_> {
    /// RSI: bytes of a row, RDX: rows left, RAX: bytes of the row that are done, RCX: scratch.
    fn emit(&mut self, slots: usize) {
        let saved: Vec<Gpr> = BASES[SCRATCH_BASES..].iter().copied().chain([RBP]).collect();
        saved.iter().for_each(|&r| self.asm.push(r));
        self.asm.integer(0x89, RBP, RSP);
        self.asm.immediate(5, RSP, BYTES * slots as i32);
        self.asm.immediate(4, RSP, -BYTES);
        self.asm.load(RDX, RDI, frame::ROWS);
        self.asm.load(RSI, RDI, frame::COLS);
        self.asm.times_4(RSI);
        self.asm.load(RCX, RDI, frame::BASES);
        for &i in self.used {
            self.asm.load(self.bases[i], RCX, 8 * i as i32);
        }
        let row = self.asm.label();
        self.asm.bind(row);
        self.row();
        self.asm.load(RCX, RDI, frame::ROW_STEPS);
        for &i in self.used {
            self.asm.add_load(self.bases[i], RCX, 8 * i as i32);
        }
        self.asm.immediate(5, RDX, 1);
        self.asm.jump(Jump::NotZero, row);
        self.asm.zero_upper();
        self.asm.integer(0x89, RSP, RBP);
        saved.iter().rev().for_each(|&r| self.asm.pop(r));
        self.asm.ret();
    }

    fn row(&mut self) {
        for (slot, &i) in self.fixed.iter().enumerate() {
            self.asm.vector(BROADCAST, 0, None, Rm::Base(self.bases[i], 0), None);
            self.asm.vector(STORE, 0, None, Rm::Stack(slot), None);
        }
        let end = self.asm.label();
        self.asm.zero(RAX);
        if let Some(several) = self.several {
            self.vectors(several, VECTORS);
        }
        self.vectors(self.graph, 1);
        self.asm.integer(0x39, RAX, RSI);
        self.asm.jump(Jump::GreaterOrEqual, end);
        // Eight words of ones and eight of zeros: read so many bytes before the zeros as the row has left.
        let ones = self.asm.adjacent([u32::MAX; 8], [0; 8]);
        self.asm.address(RCX, ones);
        self.asm.integer(0x01, RCX, RAX);
        self.asm.integer(0x29, RCX, RSI);
        self.asm.vector(LOAD, registers::MASK, None, Rm::Base(RCX, BYTES as i8), None);
        self.body(self.graph, true);
        self.asm.bind(end);
    }

    /// Runs `graph`, the body for `count` vectors, as long as the row has so many.
    fn vectors(&mut self, graph: &Graph, count: u8) {
        let [full, rest] = [(); 2].map(|()| self.asm.label());
        let bytes = BYTES * i32::from(count);
        self.asm.integer(0x89, RCX, RSI);
        self.asm.immediate(5, RCX, bytes);
        self.asm.integer(0x39, RAX, RCX);
        self.asm.jump(Jump::Greater, rest);
        self.asm.bind(full);
        self.body(graph, false);
        self.asm.immediate(0, RAX, bytes);
        self.asm.integer(0x39, RAX, RCX);
        self.asm.jump(Jump::LessOrEqual, full);
        self.asm.bind(rest);
    }

    fn body(&mut self, graph: &Graph, masked: bool) {
        Body::new(&mut self.asm, graph, self.bases, self.fixed.len(), masked).emit();
    }
}
