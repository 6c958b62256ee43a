//! Operations into instructions: every result gets a register, and the one that is needed last gives way.
//!
//! Its functions are never inlined into each other: LLVM's loop unswitching takes hours over all their small loops together.

use super::BYTES;
use super::asm::{
    Assembler, BLEND, FMA213, FMA231, Gpr, LOAD, MASKED_LOAD, MASKED_STORE, ROUND, Rm, SHIFT, STORE, Ymm,
};
use super::graph::{COMPARISON, Graph, Id, Op, commutes};

/// Registers that hold results; the last one holds the mask of the columns that exist.
const REGISTERS: usize = 15;
pub(super) const MASK: Ymm = 15;

/// What a register holds at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held(Id);

/// One emission of a body.
pub(super) struct Body<'a> {
    asm: &'a mut Assembler,
    graph: &'a Graph,
    /// Address of each operand.
    bases: &'a [Gpr],
    /// Whether only the columns in the mask exist.
    masked: bool,
    /// Positions of the operations that read each result, ascending.
    uses: Vec<Vec<usize>>,
    registers: [Option<Held>; REGISTERS],
    /// The place on the stack where each result was put.
    spilled: Vec<Option<usize>>,
    /// Places on the stack in use, those of fixed operands first.
    slots: usize,
    now: usize,
}

impl<'a> Body<'a> {
    pub(super) fn new(
        asm: &'a mut Assembler,
        graph: &'a Graph,
        bases: &'a [Gpr],
        slots: usize,
        masked: bool,
    ) -> Self {
        let mut uses = vec![Vec::new(); graph.ops.len()];
        for (at, op) in graph.ops.iter().enumerate() {
            op.operands().into_iter().flatten().for_each(|id| uses[id].push(at));
        }
        let spilled = vec![None; graph.ops.len()];
        Self { asm, graph, bases, masked, uses, registers: [None; REGISTERS], spilled, slots, now: 0 }
    }

    /// Emits everything; how many places on the stack it takes, which does not depend on the mask.
    pub(super) fn emit(mut self) -> usize {
        for (at, op) in self.graph.ops.iter().enumerate() {
            self.now = at;
            self.one(at, *op);
            self.release(at);
        }
        self.slots
    }

    /// Forgets results that no later operation than `at` reads.
    fn release(&mut self, at: usize) {
        for register in &mut self.registers {
            if register.is_some_and(|Held(id)| self.uses[id].last().is_none_or(|&last| last <= at)) {
                *register = None;
            }
        }
    }

    #[inline(never)]
    fn next_use(&self, id: Id) -> usize {
        self.uses[id].iter().copied().find(|&u| u >= self.now).unwrap_or(usize::MAX)
    }

    /// Whether this operation is the last one that reads `id`.
    fn dies(&self, id: Id) -> bool {
        self.uses[id].last().is_none_or(|&last| last <= self.now)
    }

    #[inline(never)]
    fn find(&self, id: Id) -> Option<Ymm> {
        self.registers.iter().position(|r| *r == Some(Held(id))).map(|r| r as Ymm)
    }

    /// Where `id` is in memory, if it is there.
    fn home(&mut self, id: Id) -> Option<Rm> {
        match self.graph.ops[id] {
            Op::Const(bits) => Some(Rm::Pool(self.asm.constant([bits; 8]))),
            Op::Fixed(slot) => Some(Rm::Stack(slot)),
            _ => self.spilled[id].map(Rm::Stack),
        }
    }

    #[inline(never)]
    fn anywhere(&mut self, id: Id) -> Rm {
        match self.find(id) {
            Some(register) => Rm::Reg(register),
            // A result is in a register or was put on the stack when its register was taken.
            None => self.home(id).unwrap_or(Rm::Reg(0)),
        }
    }

    /// A register for a result of this operation that is none of `kept`.
    #[inline(never)]
    fn take(&mut self, kept: &[Ymm]) -> Ymm {
        if let Some(free) = self.registers.iter().position(Option::is_none) {
            return free as Ymm;
        }
        let candidates = (0..REGISTERS as Ymm).filter(|r| !kept.contains(r));
        let distance =
            |r: &Ymm| self.registers[usize::from(*r)].map_or(usize::MAX, |Held(id)| self.next_use(id));
        let chosen = candidates.max_by_key(distance).unwrap_or(0);
        if let Some(Held(id)) = self.registers[usize::from(chosen)].take()
            && self.home(id).is_none()
            && self.next_use(id) != usize::MAX
        {
            self.spilled[id] = Some(self.slots);
            self.asm.vector(STORE, chosen, None, Rm::Stack(self.slots), None);
            self.slots += 1;
        }
        chosen
    }

    /// `id` in a register.
    #[inline(never)]
    fn register(&mut self, id: Id, kept: &[Ymm]) -> Ymm {
        if let Some(register) = self.find(id) {
            return register;
        }
        let home = self.anywhere(id);
        let register = self.take(kept);
        self.asm.vector(LOAD, register, None, home, None);
        self.registers[usize::from(register)] = Some(Held(id));
        register
    }

    /// A register for result `id`: that of an operand which is not needed again, if there is one.
    #[inline(never)]
    fn result(&mut self, id: Id, kept: &[Ymm]) -> Ymm {
        let dead = kept
            .iter()
            .copied()
            .find(|&r| self.registers[usize::from(r)].is_some_and(|Held(i)| self.dies(i)));
        let register = dead.unwrap_or_else(|| self.take(kept));
        self.registers[usize::from(register)] = Some(Held(id));
        register
    }

    #[inline(never)]
    fn one(&mut self, id: Id, op: Op) {
        match op {
            Op::Const(_) | Op::Fixed(_) => {}
            Op::Load(operand, vector) => {
                let (register, from) = (self.result(id, &[]), self.column(operand, vector));
                if self.masked {
                    self.asm.vector(MASKED_LOAD, register, Some(MASK), from, None);
                } else {
                    self.asm.vector(LOAD, register, None, from, None);
                }
            }
            Op::Store(operand, vector, value) => {
                let (register, to) = (self.register(value, &[]), self.column(operand, vector));
                if self.masked {
                    self.asm.vector(MASKED_STORE, register, Some(MASK), to, None);
                } else {
                    self.asm.vector(STORE, register, None, to, None);
                }
            }
            Op::Two(opcode, a, b) => {
                // The second operand may stay in memory.
                let (a, b) = if commutes(opcode) && self.find(a).is_none() { (b, a) } else { (a, b) };
                self.binary(id, (opcode, None), a, b);
            }
            Op::Compare(order, a, b) => self.binary(id, (COMPARISON, Some(order as u8)), a, b),
            Op::One(opcode, a) => self.unary(id, opcode, a, None),
            Op::Round(rounding, a) => self.unary(id, ROUND, a, Some(rounding as u8)),
            Op::ShiftLeft(a, places) => self.shift(id, 6, a, places),
            Op::ShiftRight(a, places) => self.shift(id, 4, a, places),
            Op::Fma(a, b, c) => self.fma(id, a, b, c),
            Op::Blend(mask, a, b) => {
                let mask = self.register(mask, &[]);
                let otherwise = self.register(b, &[mask]);
                let chosen = self.anywhere(a);
                let kept = registers([Rm::Reg(mask), Rm::Reg(otherwise), chosen]);
                let result = self.result(id, &kept);
                self.asm.vector(BLEND, result, Some(otherwise), chosen, Some(mask << 4));
            }
        }
    }

    /// Where a vector of an operand is.
    fn column(&self, operand: usize, vector: u8) -> Rm {
        Rm::Column(self.bases[operand], BYTES as i8 * vector as i8)
    }

    #[inline(never)]
    fn binary(&mut self, id: Id, (opcode, immediate): (super::asm::Opcode, Option<u8>), a: Id, b: Id) {
        let kept: Vec<Ymm> = self.find(b).into_iter().collect();
        let first = self.register(a, &kept);
        let second = self.anywhere(b);
        let kept = registers([Rm::Reg(first), second, second]);
        let result = self.result(id, &kept);
        self.asm.vector(opcode, result, Some(first), second, immediate);
    }

    #[inline(never)]
    fn unary(&mut self, id: Id, opcode: super::asm::Opcode, a: Id, immediate: Option<u8>) {
        let source = self.anywhere(a);
        let result = self.result(id, &registers([source; 3]));
        self.asm.vector(opcode, result, None, source, immediate);
    }

    /// The destination of a shift is where other instructions have their first operand.
    #[inline(never)]
    fn shift(&mut self, id: Id, extension: u8, a: Id, places: u8) {
        let source = self.register(a, &[]);
        let result = self.result(id, &[source]);
        self.asm.vector(SHIFT, extension, Some(result), Rm::Reg(source), Some(places));
    }

    /// The destination of a multiply-add is one of its operands.
    #[inline(never)]
    fn fma(&mut self, id: Id, a: Id, b: Id, c: Id) {
        let (a, b) = if self.find(a).is_none() { (b, a) } else { (a, b) };
        let all: Vec<Ymm> = [a, b, c].into_iter().filter_map(|i| self.find(i)).collect();
        let first = self.register(a, &all);
        let mut kept = all.clone();
        kept.push(first);
        // c += a * b, where c is not needed again.
        if let Some(sum) = self.find(c).filter(|_| self.dies(c) && c != a && c != b) {
            let factor = self.anywhere(b);
            self.registers[usize::from(sum)] = Some(Held(id));
            self.asm.vector(FMA231, sum, Some(first), factor, None);
            return;
        }
        let second = self.register(b, &kept);
        kept.push(second);
        let addend = self.anywhere(c);
        let [reusable, other] = if self.dies(a) { [first, second] } else { [second, first] };
        let dying = if self.dies(a) { Some(a) } else { Some(b).filter(|&b| self.dies(b)) };
        let result = if dying.is_some() {
            reusable
        } else {
            let copy = self.take(&kept);
            self.asm.vector(LOAD, copy, None, Rm::Reg(reusable), None);
            copy
        };
        self.registers[usize::from(result)] = Some(Held(id));
        self.asm.vector(FMA213, result, Some(other), addend, None);
    }
}

/// The registers among operands.
fn registers(operands: [Rm; 3]) -> Vec<Ymm> {
    operands.into_iter().filter_map(|rm| if let Rm::Reg(r) = rm { Some(r) } else { None }).collect()
}
