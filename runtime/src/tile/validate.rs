//! Checks a tile program that may come from a hostile file.

use super::{BinaryOp, Instr, Lane, LaneId, MAX_INSTRS, MAX_RANK, TileError, TileProgram};
use crate::elem::ElemType;

/// Lane types of a checked program; `None` is the lane of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileTypes {
    body: Vec<Option<Lane>>,
    epilogue: Vec<Option<Lane>>,
}

impl TileTypes {
    /// Type of each body lane.
    pub fn body(&self) -> &[Option<Lane>] {
        &self.body
    }

    /// Type of each epilogue lane, the reductions first.
    pub fn epilogue(&self) -> &[Option<Lane>] {
        &self.epilogue
    }
}

/// Checks `program` for loops of rank `loop_rank` over arguments of the given element types.
pub fn check(
    program: &TileProgram,
    loop_rank: usize,
    reads: &[ElemType],
    writes: &[ElemType],
) -> Result<TileTypes, TileError> {
    let reduce_rank = usize::from(program.reduce_rank);
    let program_error = |what| Err(TileError::Program(what));
    if loop_rank > MAX_RANK {
        return program_error("more than 16 loop dimensions");
    }
    if reduce_rank > loop_rank {
        return program_error("more reduced dimensions than loop dimensions");
    }
    if reduce_rank == 0 && !(program.reduces.is_empty() && program.epilogue.is_empty()) {
        return program_error("reductions or epilogue without a reduced dimension");
    }
    if program.body.len() > MAX_INSTRS || program.epilogue.len() > MAX_INSTRS {
        return program_error("more than 512 instructions");
    }
    if program.reduces.len() > MAX_INSTRS || reads.len() > MAX_INSTRS || writes.len() > MAX_INSTRS {
        return program_error("more than 512 reductions or arguments");
    }
    let mut body = Section { name: "body", lanes: Vec::new(), rank: loop_rank, reads, writes };
    for (at, instr) in program.body.iter().enumerate() {
        if reduce_rank > 0 && matches!(instr, Instr::Store { .. }) {
            return Err(body.error(at, "a store before the reduction is complete"));
        }
        body.push(at, instr)?;
    }
    let kept = loop_rank - reduce_rank;
    let mut epilogue = Section { name: "epilogue", lanes: Vec::new(), rank: kept, reads, writes };
    for (at, reduce) in program.reduces.iter().enumerate() {
        let lane = body.lanes.get(usize::from(reduce.src)).copied().flatten();
        let what = "the source is not a value of the body";
        let lane = lane.ok_or(TileError::Instr { section: "reduces", at, what })?;
        epilogue.lanes.push(Some(reduce.op.result(lane)));
    }
    for (at, instr) in program.epilogue.iter().enumerate() {
        epilogue.push(at, instr)?;
    }
    let mut stored = vec![false; writes.len()];
    for instr in program.body.iter().chain(&program.epilogue) {
        if let Instr::Store { out, .. } = instr {
            stored[usize::from(*out)] = true;
        }
    }
    if stored.contains(&false) {
        return program_error("an output is never stored");
    }
    Ok(TileTypes { body: body.lanes, epilogue: epilogue.lanes })
}

struct Section<'a> {
    name: &'static str,
    lanes: Vec<Option<Lane>>,
    rank: usize,
    reads: &'a [ElemType],
    writes: &'a [ElemType],
}

impl Section<'_> {
    fn error(&self, at: usize, what: &'static str) -> TileError {
        TileError::Instr { section: self.name, at, what }
    }

    fn lane(&self, at: usize, id: LaneId) -> Result<Lane, TileError> {
        let lane = self.lanes.get(usize::from(id)).copied().flatten();
        lane.ok_or_else(|| self.error(at, "an operand is not an earlier value"))
    }

    fn push(&mut self, at: usize, instr: &Instr) -> Result<(), TileError> {
        let lane = self.type_of(at, instr)?;
        self.lanes.push(lane);
        Ok(())
    }

    fn type_of(&self, at: usize, instr: &Instr) -> Result<Option<Lane>, TileError> {
        let require = |ok: bool, what| if ok { Ok(()) } else { Err(self.error(at, what)) };
        Ok(Some(match *instr {
            Instr::Load { arg } => match self.reads.get(usize::from(arg)) {
                Some(elem) => Lane::of(*elem),
                None => return Err(self.error(at, "no such argument")),
            },
            Instr::Const { lane, bits } => {
                require(lane != Lane::F32 || bits <= u64::from(u32::MAX), "more than 32 bits in an f32")?;
                lane
            }
            Instr::Index { dim } => {
                require(usize::from(dim) < self.rank, "no such loop dimension")?;
                Lane::I64
            }
            Instr::Unary(op, a) => {
                let lane = self.lane(at, a)?;
                require(op.accepts(lane), "the operation has no meaning on this lane type")?;
                op.result(lane)
            }
            Instr::Binary(op, a, b) => self.binary(at, op, a, b)?,
            Instr::Select { cond, a, b } => {
                require(self.lane(at, cond)? == Lane::I64, "the condition is not an i64")?;
                let lane = self.lane(at, a)?;
                require(lane == self.lane(at, b)?, "operands of different lane types")?;
                lane
            }
            Instr::Convert { to, src } => {
                self.lane(at, src)?;
                to
            }
            Instr::Round { elem, src, .. } => {
                let lane = self.lane(at, src)?;
                require(lane == Lane::of(elem), "the element type belongs to another lane type")?;
                lane
            }
            Instr::Store { out, src } => {
                let lane = self.lane(at, src)?;
                match self.writes.get(usize::from(out)) {
                    Some(elem) => require(lane == Lane::of(*elem), "the output has another lane type")?,
                    None => return Err(self.error(at, "no such output")),
                }
                return Ok(None);
            }
        }))
    }

    fn binary(&self, at: usize, op: BinaryOp, a: LaneId, b: LaneId) -> Result<Lane, TileError> {
        let lane = self.lane(at, a)?;
        if lane != self.lane(at, b)? {
            return Err(self.error(at, "operands of different lane types"));
        }
        if !op.accepts(lane) {
            return Err(self.error(at, "the operation has no meaning on this lane type"));
        }
        Ok(op.result(lane))
    }
}
