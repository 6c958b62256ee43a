//! Encoding of the few x86-64 instructions that emitted loops consist of.

/// A general register by its number.
pub(super) type Gpr = u8;
/// A vector register of 256 bits by its number.
pub(super) type Ymm = u8;

pub(super) const RAX: Gpr = 0;
pub(super) const RCX: Gpr = 1;
pub(super) const RDX: Gpr = 2;
pub(super) const RSI: Gpr = 6;
pub(super) const RDI: Gpr = 7;

/// Prefix, opcode map and opcode of an instruction on vectors of 256 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Opcode {
    /// 0: none, 1: 66.
    prefix: u8,
    /// 1: 0F, 2: 0F38, 3: 0F3A.
    map: u8,
    code: u8,
}

const fn op(prefix: u8, map: u8, code: u8) -> Opcode {
    Opcode { prefix, map, code }
}

pub(super) const LOAD: Opcode = op(0, 1, 0x10);
pub(super) const STORE: Opcode = op(0, 1, 0x11);
pub(super) const MASKED_LOAD: Opcode = op(1, 2, 0x2C);
pub(super) const MASKED_STORE: Opcode = op(1, 2, 0x2E);
pub(super) const BROADCAST: Opcode = op(1, 2, 0x18);
pub(super) const SQRT: Opcode = op(0, 1, 0x51);
pub(super) const AND: Opcode = op(0, 1, 0x54);
pub(super) const OR: Opcode = op(0, 1, 0x56);
pub(super) const XOR: Opcode = op(0, 1, 0x57);
pub(super) const ADD: Opcode = op(0, 1, 0x58);
pub(super) const MUL: Opcode = op(0, 1, 0x59);
pub(super) const INT_TO_FLOAT: Opcode = op(0, 1, 0x5B);
pub(super) const SUB: Opcode = op(0, 1, 0x5C);
pub(super) const MIN: Opcode = op(0, 1, 0x5D);
pub(super) const DIV: Opcode = op(0, 1, 0x5E);
pub(super) const MAX: Opcode = op(0, 1, 0x5F);
pub(super) const COMPARE: Opcode = op(0, 1, 0xC2);
pub(super) const SHIFT: Opcode = op(1, 1, 0x72);
pub(super) const INT_SUB: Opcode = op(1, 1, 0xFA);
pub(super) const INT_ADD: Opcode = op(1, 1, 0xFE);
pub(super) const ROUND: Opcode = op(1, 3, 0x08);
pub(super) const BLEND: Opcode = op(1, 3, 0x4A);
/// `dst = dst * vvvv + rm`
pub(super) const FMA213: Opcode = op(1, 2, 0xA8);
/// `dst = vvvv * rm + dst`
pub(super) const FMA231: Opcode = op(1, 2, 0xB8);

/// The last operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rm {
    Reg(Ymm),
    /// The 32 bytes of this number on the stack.
    Stack(usize),
    /// Where a general register points to.
    Base(Gpr, i8),
    /// The sum of a general register, RAX and bytes.
    Column(Gpr, i8),
    /// The constant of this number.
    Pool(usize),
}

/// A place to jump to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// Conditions of jumps, as in their opcodes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Jump {
    NotZero = 0x85,
    GreaterOrEqual = 0x8D,
    LessOrEqual = 0x8E,
    Greater = 0x8F,
}

/// Code under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<u8>,
    /// Displacements of 32 bits to constants: where, which constant, end of the instruction.
    pool_uses: Vec<(usize, usize, usize)>,
    pool: Vec<[u32; 8]>,
    /// Displacements to labels that were not bound yet: where, which label.
    jumps: Vec<(usize, usize)>,
    labels: Vec<Option<usize>>,
}

impl Assembler {
    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// The constant of eight times `bits`, or of eight different words.
    pub(super) fn constant(&mut self, words: [u32; 8]) -> usize {
        if let Some(at) = self.pool.iter().position(|c| *c == words) {
            return at;
        }
        self.pool.push(words);
        self.pool.len() - 1
    }

    /// Two constants, one after the other; the number of the first.
    pub(super) fn adjacent(&mut self, first: [u32; 8], second: [u32; 8]) -> usize {
        if let Some(at) = self.pool.windows(2).position(|pair| pair == [first, second]) {
            return at;
        }
        self.pool.extend([first, second]);
        self.pool.len() - 2
    }

    /// An instruction on vectors: `reg` is the destination (the source of a store) or a number that extends the opcode,
    /// `first` the operand that is always a register (0 if the instruction has none).
    pub(super) fn vector(
        &mut self,
        opcode: Opcode,
        reg: u8,
        first: Option<Ymm>,
        rm: Rm,
        immediate: Option<u8>,
    ) {
        let base = match rm {
            Rm::Reg(r) | Rm::Base(r, _) | Rm::Column(r, _) => r,
            Rm::Stack(_) | Rm::Pool(_) => 0,
        };
        let inverted = |number: u8, bit: u8| if number < 8 { 1 << bit } else { 0 };
        let rxb = inverted(reg, 7) | 1 << 6 | inverted(base, 5);
        let vvvv = !first.unwrap_or(0) & 15;
        self.bytes(&[0xC4, rxb | opcode.map, vvvv << 3 | 1 << 2 | opcode.prefix, opcode.code]);
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Reg(r) => self.bytes(&[0xC0 | reg | (r & 7)]),
            Rm::Stack(slot) => {
                self.bytes(&[0x84 | reg, 0x24]);
                self.bytes(&(32 * slot as i32).to_le_bytes());
            }
            // Through a SIB byte, so that R12 needs no special case.
            Rm::Base(b, offset) => self.bytes(&[0x44 | reg, 0x20 | (b & 7), offset as u8]),
            Rm::Column(b, offset) => self.bytes(&[0x44 | reg, b & 7, offset as u8]),
            Rm::Pool(constant) => {
                self.bytes(&[0x05 | reg]);
                let end = self.code.len() + 4 + usize::from(immediate.is_some());
                self.pool_uses.push((self.code.len(), constant, end));
                self.bytes(&[0; 4]);
            }
        }
        self.code.extend(immediate);
    }

    /// `reg = [base + offset]`
    pub(super) fn load(&mut self, reg: Gpr, base: Gpr, offset: i32) {
        self.memory(0x8B, reg, base, offset);
    }

    /// `reg += [base + offset]`
    pub(super) fn add_load(&mut self, reg: Gpr, base: Gpr, offset: i32) {
        self.memory(0x03, reg, base, offset);
    }

    fn memory(&mut self, opcode: u8, reg: Gpr, base: Gpr, offset: i32) {
        self.bytes(&[0x48 | (reg >> 3) << 2 | base >> 3, opcode, 0x84 | (reg & 7) << 3, 0x20 | (base & 7)]);
        self.bytes(&offset.to_le_bytes());
    }

    /// `a op b` of 64 bits; `opcode` 0x01: add, 0x29: subtract, 0x39: compare, 0x89: move.
    pub(super) fn integer(&mut self, opcode: u8, a: Gpr, b: Gpr) {
        self.bytes(&[0x48 | (b >> 3) << 2 | a >> 3, opcode, 0xC0 | (b & 7) << 3 | (a & 7)]);
    }

    /// `a = 0`
    pub(super) fn zero(&mut self, a: Gpr) {
        self.bytes(&[0x48 | (a >> 3) << 2 | a >> 3, 0x31, 0xC0 | (a & 7) << 3 | (a & 7)]);
    }

    /// `a op immediate` of 64 bits; `operation` 0: add, 4: and, 5: subtract.
    pub(super) fn immediate(&mut self, operation: u8, a: Gpr, value: i32) {
        self.bytes(&[0x48 | a >> 3, 0x81, 0xC0 | operation << 3 | (a & 7)]);
        self.bytes(&value.to_le_bytes());
    }

    /// `a <<= 2`
    pub(super) fn times_4(&mut self, a: Gpr) {
        self.bytes(&[0x48 | a >> 3, 0xC1, 0xE0 | (a & 7), 2]);
    }

    /// `a` = address of a constant
    pub(super) fn address(&mut self, a: Gpr, constant: usize) {
        self.bytes(&[0x48 | (a >> 3) << 2, 0x8D, 0x05 | (a & 7) << 3]);
        self.pool_uses.push((self.code.len(), constant, self.code.len() + 4));
        self.bytes(&[0; 4]);
    }

    pub(super) fn push(&mut self, a: Gpr) {
        self.bytes(&[0x40 | a >> 3, 0x50 | (a & 7)]);
    }

    pub(super) fn pop(&mut self, a: Gpr) {
        self.bytes(&[0x40 | a >> 3, 0x58 | (a & 7)]);
    }

    /// Clears the upper halves of the vector registers, which code without AVX needs to be fast.
    pub(super) fn zero_upper(&mut self) {
        self.bytes(&[0xC5, 0xF8, 0x77]);
    }

    /// Returns.
    pub(super) fn ret(&mut self) {
        self.bytes(&[0xC3]);
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    pub(super) fn jump(&mut self, condition: Jump, to: Label) {
        self.bytes(&[0x0F, condition as u8]);
        self.jumps.push((self.code.len(), to.0));
        self.bytes(&[0; 4]);
    }

    /// The code, with its constants after it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let relative = |from: usize, to: usize| (to as i64 - from as i64) as i32;
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label].unwrap_or(at + 4);
            self.code[at..at + 4].copy_from_slice(&relative(at + 4, target).to_le_bytes());
        }
        self.code.resize(self.code.len().next_multiple_of(32), 0xCC);
        let start = self.code.len();
        for (at, constant, end) in std::mem::take(&mut self.pool_uses) {
            let displacement = relative(end, start + 32 * constant);
            self.code[at..at + 4].copy_from_slice(&displacement.to_le_bytes());
        }
        let constants = self.pool.iter().flatten().flat_map(|word| word.to_le_bytes());
        self.code.extend(constants);
        self.code
    }
}
