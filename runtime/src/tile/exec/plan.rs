//! Building of plans.

use super::code::{Code, Registers, Section};
use super::layout::{Access, Loops, Nest, footprint, is_injective};
use super::native::Native;
use super::{BLOCK, fold};
use crate::elem::ElemType;
use crate::tile::{Instr, Lane, ReduceOp, TileError, TileProgram, TileTypes, check};

/// An affine access with known numbers: element `offset + sum_d index[d] * strides[d]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcreteAccess {
    /// Element type of the value.
    pub elem: ElemType,
    /// First element.
    pub offset: i64,
    /// One stride a loop dimension. A write has none for the reduced dimensions (or only zeros).
    pub strides: Vec<i64>,
}

/// How the loops run.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Some kept extent is 0.
    Nothing,
    /// One load that is stored as it is.
    Copy { arg: usize, out: usize },
    /// No reduction.
    Map,
    /// Each kept point by itself, blocks of reduced points folded to one value.
    Across { reduced: Nest },
    /// Blocks of kept points, one reduced point after the other folded in.
    Into { reduced: Vec<usize> },
}

/// A reduction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    pub(super) op: ReduceOp,
    /// Lane type of the source.
    pub(super) lane: Lane,
    /// Body lane.
    pub(super) src: usize,
    /// Byte offsets of the registers of accumulators, positions, and results.
    pub(super) acc: usize,
    pub(super) at: usize,
    pub(super) result: usize,
}

/// A tile program bound to extents and accesses, checked and ready to run.
#[derive(Clone, Debug)]
pub struct TilePlan {
    pub(super) kind: Kind,
    pub(super) reads: Vec<Access>,
    pub(super) writes: Vec<Access>,
    /// Extents of the loop dimensions, the kept ones first.
    pub(super) dims: Vec<i64>,
    pub(super) kept: Nest,
    /// Points of the outer dimensions of `kept`.
    pub(super) outer_points: i64,
    /// Points of the reduction.
    pub(super) reduced_points: i64,
    pub(super) body: Code,
    pub(super) folds: Vec<Fold>,
    pub(super) epilogue: Code,
    /// First lane of the epilogue.
    pub(super) epilogue_lanes: usize,
    pub(super) lanes: usize,
    pub(super) register_bytes: usize,
    /// Byte offset of room for one block of any element type.
    pub(super) stage: usize,
    /// The body as machine code; without it the body is interpreted.
    pub(super) native: Option<Native>,
}

impl TilePlan {
    /// Checks `program` and plans it for loops of extents `dims`; `read_lens` and `write_lens` are the lengths, in
    /// elements, of the values accessed.
    pub fn new(
        program: &TileProgram,
        dims: &[i64],
        reads: &[ConcreteAccess],
        writes: &[ConcreteAccess],
        read_lens: &[usize],
        write_lens: &[usize],
    ) -> Result<Self, TileError> {
        let elems = |accesses: &[ConcreteAccess]| accesses.iter().map(|a| a.elem).collect::<Vec<_>>();
        let types = check(program, dims.len(), &elems(reads), &elems(writes))?;
        let kept = dims.len() - usize::from(program.reduce_rank);
        let mut dims = dims.to_vec();
        check_shape(&mut dims, kept)?;
        if dims[..kept].contains(&0) {
            return Ok(Self::nothing());
        }
        let mut reads = check_reads(program, &dims, kept, reads, read_lens)?;
        let mut writes = check_writes(&dims, kept, writes, write_lens)?;
        let named = named(program, dims.len());
        let mut accesses: Vec<&mut Access> = reads.iter_mut().chain(&mut writes).collect();
        let loops = Loops::new(&dims, kept, &named, &mut accesses);
        let (kind, kept) = choose(program, &reads, &writes, &loops);
        Ok(Self::assemble(program, &types, loops, (reads, writes), (kind, kept)))
    }

    /// As [`Self::new`] for a map whose blocks are parts of rows: the last dimension of `dims` is that of columns.
    pub(super) fn of_rows(
        program: &TileProgram,
        dims: &[i64],
        (reads, read_lens): (&[ConcreteAccess], &[usize]),
        (write, write_len): (&ConcreteAccess, usize),
    ) -> Result<Self, TileError> {
        let elems: Vec<ElemType> = reads.iter().map(|a| a.elem).collect();
        let types = check(program, dims.len(), &elems, &[write.elem])?;
        let Some((last, cols)) = dims.len().checked_sub(1).zip(dims.last()) else {
            return Err(TileError::Program("no loop dimension"));
        };
        if program.reduce_rank != 0 {
            return Err(TileError::Program("reduces"));
        }
        check_shape(&mut dims.to_vec(), dims.len())?;
        if dims.contains(&0) {
            return Ok(Self::nothing());
        }
        let mut reads = check_reads(program, dims, dims.len(), reads, read_lens)?;
        let mut writes = check_writes(dims, dims.len(), std::slice::from_ref(write), &[write_len])?;
        let mut named = named(program, dims.len());
        // Columns stay apart from rows.
        named[last] = true;
        let mut accesses: Vec<&mut Access> = reads.iter_mut().chain(&mut writes).collect();
        let loops = Loops::new(dims, dims.len(), &named, &mut accesses);
        let nest = Nest::of_rows(&loops.dims, *cols != 1);
        Ok(Self::assemble(program, &types, loops, (reads, writes), (Kind::Map, nest)))
    }

    /// Whether running it does nothing because an extent is 0.
    pub fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Nothing)
    }

    fn nothing() -> Self {
        Self {
            kind: Kind::Nothing,
            reads: Vec::new(),
            writes: Vec::new(),
            dims: Vec::new(),
            kept: Nest::new(0..0, &[], &[], false),
            outer_points: 0,
            reduced_points: 0,
            body: Code::default(),
            folds: Vec::new(),
            epilogue: Code::default(),
            epilogue_lanes: 0,
            lanes: 0,
            register_bytes: 0,
            stage: 0,
            native: None,
        }
    }

    fn assemble(
        program: &TileProgram,
        types: &TileTypes,
        loops: Loops,
        (reads, writes): (Vec<Access>, Vec<Access>),
        (kind, kept): (Kind, Nest),
    ) -> Self {
        let reduced_points = loops.dims[loops.kept..].iter().product();
        let mut registers = Registers::default();
        let sources: Vec<u16> = program.reduces.iter().map(|r| r.src).collect();
        let body = Section {
            instrs: &program.body,
            types: types.body(),
            given: 0,
            reads: &reads,
            rank: loops.dims.len(),
            nest: if let Kind::Across { reduced } = &kind { reduced } else { &kept },
            loops: &loops,
            kept: &sources,
        };
        let runs_body = reduced_points > 0 && !matches!(kind, Kind::Copy { .. });
        let body = if runs_body { body.plan(&mut registers) } else { Code::default() };
        let width = kept.width();
        let folds = program.reduces.iter().map(|reduce| {
            let lane = types.body()[usize::from(reduce.src)].unwrap_or(Lane::I64);
            let (op, src) = (reduce.op, usize::from(reduce.src));
            let acc = registers.fresh(fold::accumulator(op, lane), width).0;
            let at = if op.is_arg() { registers.fresh(Lane::I64, width).0 } else { acc };
            let rounds = fold::accumulator(op, lane) != lane;
            let result = if rounds { registers.fresh(lane, width).0 } else { at };
            Fold { op, lane, src, acc, at, result }
        });
        let folds: Vec<Fold> = folds.collect();
        let epilogue = Section {
            instrs: &program.epilogue,
            types: types.epilogue(),
            given: folds.len(),
            reads: &reads,
            rank: loops.kept,
            nest: &kept,
            loops: &loops,
            kept: &[],
        };
        let epilogue = epilogue.plan(&mut registers);
        let stage = registers.fresh(Lane::I64, BLOCK as usize).0;
        Self {
            outer_points: kept.outer.iter().map(|&d| loops.dims[d]).product(),
            kind,
            reads,
            writes,
            dims: loops.dims,
            kept,
            reduced_points,
            body,
            folds,
            epilogue,
            epilogue_lanes: types.body().len(),
            lanes: types.body().len() + types.epilogue().len(),
            register_bytes: registers.end,
            stage,
            native: None,
        }
    }
}

/// Which of `rank` dimensions the instructions name.
fn named(program: &TileProgram, rank: usize) -> Vec<bool> {
    let mut named = vec![false; rank];
    for instr in program.body.iter().chain(&program.epilogue) {
        if let Instr::Index { dim } = *instr {
            named[usize::from(dim)] = true;
        }
    }
    named
}

/// Refuses negative extents and more points than can be counted.
fn check_shape(dims: &mut [i64], kept: usize) -> Result<(), TileError> {
    if dims.iter().any(|&d| d < 0) {
        return Err(TileError::Program("a negative extent"));
    }
    if dims[kept..].contains(&0) {
        dims[kept..].fill(0);
    }
    let points = dims.iter().filter(|&&d| d > 0).try_fold(1i64, |n, &d| n.checked_mul(d));
    match points {
        Some(n) if n <= i64::MAX >> 8 => Ok(()),
        _ => Err(TileError::Program("too many points")),
    }
}

fn bytes(elems: i64, elem: ElemType, len: usize) -> Result<usize, &'static str> {
    match usize::try_from(elems) {
        Ok(n) if n <= len && n <= isize::MAX as usize / 8 => Ok(n * elem.size()),
        _ => Err("it leaves its value"),
    }
}

fn check_reads(
    program: &TileProgram,
    dims: &[i64],
    kept: usize,
    reads: &[ConcreteAccess],
    lens: &[usize],
) -> Result<Vec<Access>, TileError> {
    if reads.len() != lens.len() {
        return Err(TileError::Program("not one length for each read"));
    }
    let uses = |code: &[Instr], index: usize| {
        code.iter().any(|i| matches!(*i, Instr::Load { arg } if usize::from(arg) == index))
    };
    let mut checked = Vec::with_capacity(reads.len());
    for (index, (access, &len)) in reads.iter().zip(lens).enumerate() {
        let error = |what| TileError::Access { kind: "read", index, what };
        if access.strides.len() != dims.len() {
            return Err(error("not one stride for each loop dimension"));
        }
        let mut needed = 0;
        if uses(&program.body, index) && !dims.contains(&0) {
            needed = footprint(access, dims).map_err(error)?;
        }
        if uses(&program.epilogue, index) {
            needed = needed.max(footprint(access, &dims[..kept]).map_err(error)?);
        }
        let bytes = bytes(needed, access.elem, len).map_err(error)?;
        let (elem, offset, strides) = (access.elem, access.offset, access.strides.clone());
        checked.push(Access { elem, offset, strides, bytes });
    }
    Ok(checked)
}

fn check_writes(
    dims: &[i64],
    kept: usize,
    writes: &[ConcreteAccess],
    lens: &[usize],
) -> Result<Vec<Access>, TileError> {
    if writes.len() != lens.len() {
        return Err(TileError::Program("not one length for each write"));
    }
    let mut checked = Vec::with_capacity(writes.len());
    for (index, (access, &len)) in writes.iter().zip(lens).enumerate() {
        let error = |what| TileError::Access { kind: "write", index, what };
        let rank = access.strides.len();
        if (rank != kept && rank != dims.len()) || access.strides[kept..].iter().any(|&s| s != 0) {
            return Err(error("not one stride for each loop dimension that is kept"));
        }
        let needed = footprint(access, &dims[..kept]).map_err(error)?;
        let bytes = bytes(needed, access.elem, len).map_err(error)?;
        if !is_injective(access, &dims[..kept]) {
            return Err(error("it may write an element twice"));
        }
        let mut strides = access.strides.clone();
        strides.resize(dims.len(), 0);
        checked.push(Access { elem: access.elem, offset: access.offset, strides, bytes });
    }
    Ok(checked)
}

/// Picks the way to run and the nest of the kept dimensions.
fn choose(program: &TileProgram, reads: &[Access], writes: &[Access], loops: &Loops) -> (Kind, Nest) {
    let loaded = |code: &[Instr]| -> Vec<(&Access, bool)> {
        let args = code.iter().filter_map(|i| if let Instr::Load { arg } = i { Some(*arg) } else { None });
        args.map(|arg| (&reads[usize::from(arg)], false)).collect()
    };
    let written: Vec<(&Access, bool)> = writes.iter().map(|w| (w, true)).collect();
    let (kept, reduced) = (0..loops.kept, loops.kept..loops.dims.len());
    let body = loaded(&program.body);
    if program.reduce_rank == 0 {
        let nest = Nest::new(kept, &loops.dims, &[body, written].concat(), false);
        if let [Instr::Load { arg }, Instr::Store { out, src: 0 }] = program.body[..] {
            let (arg, out) = (usize::from(arg), usize::from(out));
            if reads[arg].elem == writes[out].elem {
                return (Kind::Copy { arg, out }, nest);
            }
        }
        return (Kind::Map, nest);
    }
    // Folding across a block costs about this many elements' work for each kept point.
    const START: f64 = 64.0;
    let points: f64 = reduced.clone().map(|d| loops.dims[d] as f64).product();
    let across =
        Nest::best_column(&reduced, &loops.dims, &body).map(|(_, cost)| cost + START / points.max(1.0));
    let into = Nest::best_column(&kept, &loops.dims, &body).map(|(_, cost)| cost + 1.0);
    let folds_across = match (across, into) {
        (Some(across), Some(into)) => across <= into,
        (Some(_), None) => points > 0.0,
        _ => false,
    };
    if folds_across {
        let in_order = program.reduces.iter().any(|r| r.op.is_arg());
        let reduced = Nest::new(reduced, &loops.dims, &body, in_order);
        let around = [loaded(&program.epilogue), written].concat();
        return (Kind::Across { reduced }, Nest::new(kept, &loops.dims, &around, false));
    }
    (Kind::Into { reduced: reduced.collect() }, Nest::new(kept, &loops.dims, &body, false))
}
