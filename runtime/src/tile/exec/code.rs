//! Instructions of a section, sorted by how often they run and with registers assigned.

use super::layout::{Access, Loops, Nest};
use crate::elem::ElemType;
use crate::tile::{Instr, Lane, LaneId};

/// An instruction ready to run.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) instr: Instr,
    /// The lane it defines.
    pub(super) id: usize,
    /// Lane type of its operands; for a load, constant or index that of its result.
    pub(super) lane: Lane,
    /// Lane type of its result.
    pub(super) result: Lane,
    /// Byte offset of its register.
    pub(super) reg: usize,
    /// Its one element is copied to the whole width of a block.
    pub(super) fill: bool,
    /// The output that may serve as its register.
    pub(super) direct: Option<u16>,
}

/// The instructions of a body or an epilogue.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    /// Once a run, one element.
    pub(super) once: Vec<Op>,
    /// Once a rectangle, one element.
    pub(super) rect: Vec<Op>,
    /// Once a block, every element.
    pub(super) block: Vec<Op>,
}

/// How often a lane changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Once,
    Rect,
    Block,
}

/// Assigns byte offsets of registers.
#[derive(Default)]
pub(super) struct Registers {
    /// Bytes in use so far.
    pub(super) end: usize,
    free: Vec<(usize, usize)>,
}

impl Registers {
    /// A register of `width` elements of `lane`, aligned to 64 bytes, that may have been used before.
    fn take(&mut self, lane: Lane, width: usize) -> (usize, usize) {
        let size = (width * lane_size(lane)).next_multiple_of(64);
        match self.free.iter().position(|&(_, s)| s == size) {
            Some(i) => self.free.swap_remove(i),
            None => self.fresh(lane, width),
        }
    }

    /// A register of its own, for what outlives a block.
    pub(super) fn fresh(&mut self, lane: Lane, width: usize) -> (usize, usize) {
        let size = (width * lane_size(lane)).next_multiple_of(64);
        let at = self.end;
        self.end += size;
        (at, size)
    }
}

pub(super) const fn lane_size(lane: Lane) -> usize {
    if matches!(lane, Lane::F32) { 4 } else { 8 }
}

/// Whether elements of `elem` in memory are lanes.
pub(super) const fn is_native(elem: ElemType) -> bool {
    matches!(elem, ElemType::F32 | ElemType::F64 | ElemType::I64 | ElemType::U64)
}

/// A body or an epilogue to be planned.
pub(super) struct Section<'a> {
    pub(super) instrs: &'a [Instr],
    /// Lane types; the first `given` lanes are defined before the instructions.
    pub(super) types: &'a [Option<Lane>],
    pub(super) given: usize,
    pub(super) reads: &'a [Access],
    /// How many of the loop dimensions the section runs over.
    pub(super) rank: usize,
    pub(super) nest: &'a Nest,
    pub(super) loops: &'a Loops,
    /// Lanes that are used after the last instruction.
    pub(super) kept: &'a [LaneId],
}

impl Section<'_> {
    fn ty(&self, id: LaneId) -> Lane {
        self.types[usize::from(id)].unwrap_or(Lane::I64)
    }

    /// The instruction over the normalised loop dimensions.
    fn rename(&self, instr: Instr) -> Instr {
        let Instr::Index { dim } = instr else { return instr };
        match self.loops.renamed[usize::from(dim)] {
            Some(dim) => Instr::Index { dim },
            None => Instr::Const { lane: Lane::I64, bits: 0 },
        }
    }

    fn level(&self, instr: &Instr, levels: &[Level]) -> Level {
        match *instr {
            Instr::Const { .. } => Level::Once,
            Instr::Index { dim } if self.nest.in_block(usize::from(dim)) => Level::Block,
            Instr::Index { .. } => Level::Rect,
            Instr::Load { arg } => {
                let strides = &self.reads[usize::from(arg)].strides[..self.rank];
                let varying = |d: usize| strides[d] != 0;
                if (0..self.rank).any(|d| varying(d) && self.nest.in_block(d)) {
                    Level::Block
                } else if (0..self.rank).any(varying) {
                    Level::Rect
                } else {
                    Level::Once
                }
            }
            Instr::Store { .. } => Level::Block,
            _ => operands(instr)
                .into_iter()
                .flatten()
                .map(|id| levels[usize::from(id)])
                .max()
                .unwrap_or(Level::Once),
        }
    }

    /// The output that each lane may be computed into: that of its only store, where no other store touches it.
    fn direct(&self) -> Vec<Option<u16>> {
        let outs = || {
            self.instrs
                .iter()
                .filter_map(|i| if let Instr::Store { out, .. } = i { Some(*out) } else { None })
        };
        let mut stores = vec![0usize; outs().max().map_or(0, |out| usize::from(out) + 1)];
        outs().for_each(|out| stores[usize::from(out)] += 1);
        let mut direct = vec![None; self.types.len()];
        for instr in self.instrs {
            if let Instr::Store { out, src } = *instr
                && stores[usize::from(out)] == 1
            {
                direct[usize::from(src)] = Some(out);
            }
        }
        direct
    }

    pub(super) fn plan(&self, registers: &mut Registers) -> Code {
        let width = self.nest.width();
        let instrs: Vec<Instr> = self.instrs.iter().map(|i| self.rename(*i)).collect();
        let mut levels = vec![Level::Block; self.given];
        for instr in &instrs {
            levels.push(self.level(instr, &levels));
        }
        let mut last_use: Vec<usize> = vec![0; levels.len()];
        let mut fill = vec![false; levels.len()];
        for (i, instr) in instrs.iter().enumerate() {
            for id in operands(instr).into_iter().flatten().map(usize::from) {
                last_use[id] = i;
                fill[id] |= levels[self.given + i] == Level::Block;
            }
        }
        for id in self.kept.iter().copied().map(usize::from) {
            last_use[id] = usize::MAX;
            fill[id] = true;
        }
        let direct = self.direct();
        let mut code = Code::default();
        let mut held: Vec<Option<(usize, usize)>> = vec![None; levels.len()];
        for (i, instr) in instrs.into_iter().enumerate() {
            let id = self.given + i;
            let level = levels[id];
            let result = self.types[id].unwrap_or(Lane::I64);
            let is_store = matches!(instr, Instr::Store { .. });
            let reg = match level {
                _ if is_store => (0, 0),
                Level::Block => registers.take(result, width),
                _ => registers.fresh(result, width),
            };
            if level == Level::Block {
                // Registers of lanes that are not used again; the result of this instruction is taken already.
                for operand in operands(&instr).into_iter().flatten().map(usize::from) {
                    if last_use[operand] == i {
                        registers.free.extend(held[operand].take());
                    }
                }
                held[id] = Some(reg).filter(|_| !is_store);
                if last_use[id] <= i {
                    registers.free.extend(held[id].take());
                }
            }
            let lane = operands(&instr)[OPERAND].map_or(result, |a| self.ty(a));
            let fill = level != Level::Block && fill[id];
            let direct = direct[id].filter(|_| level == Level::Block);
            let op = Op { instr, id, lane, result, reg: reg.0, fill, direct };
            match level {
                Level::Once => code.once.push(op),
                Level::Rect => code.rect.push(op),
                Level::Block => code.block.push(op),
            }
        }
        code
    }
}

/// The operand whose lane type selects the loop.
const OPERAND: usize = 0;

/// Lanes that an instruction reads.
pub(super) fn operands(instr: &Instr) -> [Option<LaneId>; 3] {
    match *instr {
        Instr::Load { .. } | Instr::Const { .. } | Instr::Index { .. } => [None; 3],
        Instr::Unary(_, a) => [Some(a), None, None],
        Instr::Binary(_, a, b) => [Some(a), Some(b), None],
        Instr::Select { cond, a, b } => [Some(a), Some(b), Some(cond)],
        Instr::Convert { src, .. } | Instr::Round { src, .. } | Instr::Store { src, .. } => {
            [Some(src), None, None]
        }
    }
}
