//! Random valid programs with data.

use super::{Case, ELEMS, Rng};
use crate::elem::ElemType;
use crate::tile::{BinaryOp, ConcreteAccess, Instr, Lane, Reduce, ReduceOp, TileProgram, UnaryOp};

/// One-operand operations.
pub const UNARY: [UnaryOp; 31] = {
    use UnaryOp::*;
    [
        Abs, Neg, Sign, Ceil, Floor, Trunc, Round, Sqrt, Reciprocal, Exp, Log, Erf, Sin, Cos, Tan, Asin,
        Acos, Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh, Sigmoid, Not, BitNot, IsNan, IsPosInf, IsNegInf,
        Exp,
    ]
};
/// Two-operand operations.
pub const BINARY: [BinaryOp; 20] = {
    use BinaryOp::*;
    [Add, Sub, Mul, Div, FloorMod, TruncMod, Pow, Max, Min, Eq, Ne, Lt, Le, Gt, Ge, And, Or, Xor, Shl, Shr]
};
const REDUCE: [ReduceOp; 8] = {
    use ReduceOp::*;
    [Sum, Prod, Max, Min, ArgMaxFirst, ArgMaxLast, ArgMinFirst, ArgMinLast]
};
/// Lane types.
pub const LANES: [Lane; 4] = [Lane::F32, Lane::F64, Lane::I64, Lane::U64];

/// How far values may go from one another between two orders of summation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Everything but sums and products of floats.
    Wild,
    /// Also those, over operations that do not magnify rounding errors.
    Tame,
}

/// What random programs are made of.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// How far results may differ.
    pub style: Style,
    /// About what the extents multiply to at most.
    pub limit: i64,
    /// Element types of arguments and outputs.
    pub elems: &'a [ElemType],
    /// Types of constants and of the results of conversions; indices come with i64.
    pub lanes: &'a [Lane],
    /// Extents to choose from.
    pub extents: &'a [i64],
    /// Most loop dimensions.
    pub max_rank: usize,
}

impl Recipe<'static> {
    /// Every element type, and extents on both sides of a block.
    pub const fn new(style: Style, limit: i64) -> Self {
        Self {
            style,
            limit,
            elems: &ELEMS,
            lanes: &LANES,
            extents: &[0, 1, 2, 3, 17, 513, 2, 3, 17, 513, 5, 8],
            max_rank: 5,
        }
    }
}

struct Builder<'a> {
    rng: &'a mut Rng,
    style: Style,
    instrs: Vec<Instr>,
    lanes: Vec<Lane>,
    given: usize,
    rank: usize,
    epilogue: bool,
    reads: &'a [ElemType],
    recipe: &'a Recipe<'a>,
}

impl Builder<'_> {
    fn lane_of(&mut self, wanted: impl Fn(Lane) -> bool) -> Option<(u16, Lane)> {
        let fitting: Vec<usize> = (0..self.lanes.len()).filter(|&i| wanted(self.lanes[i])).collect();
        if fitting.is_empty() {
            return None;
        }
        let i = self.rng.pick(&fitting);
        Some((i as u16, self.lanes[i]))
    }

    fn push(&mut self, instr: Instr, lane: Lane) {
        assert_eq!(self.lanes.len(), self.given + self.instrs.len());
        self.instrs.push(instr);
        self.lanes.push(lane);
    }

    fn source(&mut self) {
        let has_index = self.rank > 0 && self.recipe.lanes.contains(&Lane::I64);
        let kind = self.rng.below(if has_index { 4 } else { 3 });
        match kind {
            0 | 1 if !self.reads.is_empty() => {
                let arg = self.rng.below(self.reads.len());
                self.push(Instr::Load { arg: arg as u16 }, Lane::of(self.reads[arg]));
            }
            3 => {
                let dim = self.rng.below(self.rank) as u8;
                self.push(Instr::Index { dim }, Lane::I64);
            }
            _ => {
                let lane = self.rng.pick(self.recipe.lanes);
                let x = self.rng.unit() * 8.0 - 4.0;
                let bits = match lane {
                    Lane::F32 => u64::from((x as f32).to_bits()),
                    Lane::F64 => x.to_bits(),
                    _ => (x as i64) as u64,
                };
                self.push(Instr::Const { lane, bits }, lane);
            }
        }
    }

    fn operation(&mut self) {
        let Some((a, lane)) = self.lane_of(|_| true) else { return self.source() };
        let tame = self.style == Style::Tame;
        match self.rng.below(if tame { 3 } else { 5 }) {
            0 => {
                let op =
                    if tame { self.rng.pick(&[UnaryOp::Abs, UnaryOp::Neg]) } else { self.rng.pick(&UNARY) };
                if op.accepts(lane) {
                    self.push(Instr::Unary(op, a), op.result(lane));
                }
            }
            1 => {
                let gentle = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Max, BinaryOp::Min];
                let op = if tame { self.rng.pick(&gentle) } else { self.rng.pick(&BINARY) };
                if let Some((b, _)) = self.lane_of(|l| l == lane)
                    && op.accepts(lane)
                {
                    self.push(Instr::Binary(op, a, b), op.result(lane));
                }
            }
            2 => {
                let b = self.lane_of(|l| l == lane);
                let cond = if tame && self.epilogue { None } else { self.lane_of(|l| l == Lane::I64) };
                if let (Some((b, _)), Some((cond, _))) = (b, cond) {
                    self.push(Instr::Select { cond, a, b }, lane);
                }
            }
            3 => {
                let to = self.rng.pick(self.recipe.lanes);
                self.push(Instr::Convert { to, src: a }, to);
            }
            _ => {
                let elems = self.elems_of(lane);
                if elems.is_empty() {
                    return;
                }
                let (elem, saturate) = (self.rng.pick(&elems), self.rng.below(2) == 0);
                self.push(Instr::Round { elem, saturate, src: a }, lane);
            }
        }
    }

    fn elems_of(&self, lane: Lane) -> Vec<ElemType> {
        self.recipe.elems.iter().copied().filter(|e| Lane::of(*e) == lane).collect()
    }

    /// Stores some lanes; the element types of the outputs.
    fn stores(&mut self) -> Vec<ElemType> {
        let count = 1 + self.rng.below(3);
        let mut writes = Vec::new();
        let mut storable: Vec<usize> =
            (0..self.lanes.len()).filter(|&i| !self.elems_of(self.lanes[i]).is_empty()).collect();
        while storable.is_empty() {
            self.source();
            let last = self.lanes.len() - 1;
            storable.extend(Some(last).filter(|&i| !self.elems_of(self.lanes[i]).is_empty()));
        }
        for out in 0..count {
            let at = if self.rng.below(2) == 0 { storable.len() - 1 } else { self.rng.below(storable.len()) };
            let src = storable[at];
            let lane = self.lanes[src];
            let elems = self.elems_of(lane);
            writes.push(if self.rng.below(2) == 0 { elems[0] } else { self.rng.pick(&elems) });
            self.push(Instr::Store { out: out as u16, src: src as u16 }, lane);
        }
        writes
    }
}

fn extents(rng: &mut Rng, recipe: &Recipe<'_>) -> Vec<i64> {
    let rank = rng.below(recipe.max_rank + 1);
    let mut dims = Vec::new();
    let mut points = 1;
    for _ in 0..rank {
        let mut extent = rng.pick(recipe.extents);
        if extent == 0 && rng.below(4) > 0 {
            extent = 4;
        }
        if points * extent > recipe.limit {
            extent = rng.pick(&[1, 2]);
        }
        points *= extent.max(1);
        dims.push(extent);
    }
    dims
}

fn reduces(rng: &mut Rng, style: Style, body: &[Lane]) -> Vec<Reduce> {
    let count = rng.below(4);
    let mut reduces = Vec::new();
    while reduces.len() < count {
        let src = rng.below(body.len());
        let op = rng.pick(&REDUCE);
        let order_matters = matches!(op, ReduceOp::Sum | ReduceOp::Prod) && body[src].is_float();
        if style == Style::Wild && order_matters {
            continue;
        }
        // A product of tame values may still overflow; a separate test multiplies.
        if order_matters && op == ReduceOp::Prod {
            continue;
        }
        reduces.push(Reduce { op, src: src as u16 });
    }
    reduces
}

fn read_access(rng: &mut Rng, elem: ElemType, dims: &[i64]) -> (ConcreteAccess, usize) {
    let mut strides = part_permuted(rng, dims);
    for stride in &mut strides {
        match rng.below(8) {
            0 | 1 => *stride = 0,
            2 => *stride = -*stride,
            3 => *stride = rng.below(7) as i64 - 3,
            _ => {}
        }
    }
    place(rng, elem, strides, dims)
}

fn write_access(rng: &mut Rng, elem: ElemType, dims: &[i64]) -> (ConcreteAccess, usize) {
    let mut strides = part_permuted(rng, dims);
    let gap = if rng.below(4) == 0 { 2 } else { 1 };
    for stride in &mut strides {
        *stride *= if rng.below(6) == 0 { -gap } else { gap };
    }
    place(rng, elem, strides, dims)
}

/// Strides of a tensor whose axes are often in another order than the loops, and sometimes longer: then the loops go
/// through a part of it, as for slices, concatenations and halos.
fn part_permuted(rng: &mut Rng, dims: &[i64]) -> Vec<i64> {
    let mut order: Vec<usize> = (0..dims.len()).collect();
    if rng.below(3) == 0 {
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i + 1));
        }
    }
    let mut strides = vec![0; dims.len()];
    let mut next = 1;
    for &d in order.iter().rev() {
        strides[d] = next;
        let around = if rng.below(4) == 0 { rng.below(3) as i64 } else { 0 };
        next *= dims[d].max(1) + around;
    }
    strides
}

fn place(rng: &mut Rng, elem: ElemType, strides: Vec<i64>, dims: &[i64]) -> (ConcreteAccess, usize) {
    let span = |sign: i64| -> i64 {
        dims.iter().zip(&strides).map(|(e, s)| (s * sign * (e - 1).max(0)).max(0)).sum()
    };
    let below = span(-1);
    let offset = below + rng.below(4) as i64;
    let len = offset + span(1) + 1 + rng.below(3) as i64;
    (ConcreteAccess { elem, offset, strides }, len as usize)
}

fn contents(rng: &mut Rng, style: Style, elem: ElemType, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len * elem.size());
    let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-40, 3e38, -1.0, 0.5, 2.5];
    for _ in 0..len {
        let wild = style == Style::Wild && rng.below(8) == 0;
        let x = if wild { rng.pick(&special) } else { (rng.below(64) as f64 - 32.0) / 8.0 };
        let x = if style == Style::Wild && rng.below(4) == 0 { x * (1.0 + rng.unit()) } else { x };
        match elem {
            ElemType::F32 => bytes.extend((x as f32).to_ne_bytes()),
            ElemType::F64 => bytes.extend(x.to_ne_bytes()),
            ElemType::F16 => bytes.extend(half::f16::from_f64(x).to_ne_bytes()),
            ElemType::BF16 => bytes.extend(half::bf16::from_f64(x).to_ne_bytes()),
            // Codes below 0x70 are finite and moderate in every one-byte float.
            _ if elem.size() == 1 && style == Style::Tame => bytes.push(rng.below(0x50) as u8),
            _ => {
                let value = if rng.below(2) == 0 { rng.bits() } else { rng.below(9) as u64 };
                bytes.extend(&value.to_ne_bytes()[..elem.size()]);
            }
        }
    }
    bytes
}

/// A random case.
pub fn case(rng: &mut Rng, recipe: &Recipe<'_>) -> Case {
    let style = recipe.style;
    let dims = extents(rng, recipe);
    let reduce_rank = if rng.below(2) == 0 { 0 } else { rng.below(dims.len() + 1) };
    let kept = dims.len() - reduce_rank;
    let elems: Vec<ElemType> = (0..rng.below(4)).map(|_| rng.pick(recipe.elems)).collect();
    let build = |rng: &mut Rng, given: Vec<Lane>, rank, epilogue, stores: bool| {
        let count = given.len();
        let (reads, sources) = (&elems[..], 1 + rng.below(3));
        let instrs = Vec::new();
        let mut b = Builder { rng, style, instrs, lanes: given, given: count, rank, epilogue, reads, recipe };
        for _ in 0..sources {
            b.source();
        }
        for _ in 0..b.rng.below(12) {
            b.operation();
        }
        let writes = if stores { b.stores() } else { Vec::new() };
        (b.instrs, b.lanes, writes)
    };
    let (body, lanes, mut outs) = build(rng, Vec::new(), dims.len(), false, reduce_rank == 0);
    let mut program = TileProgram { body, reduce_rank: reduce_rank as u8, ..TileProgram::default() };
    if reduce_rank > 0 {
        program.reduces = reduces(rng, style, &lanes);
        let given = program.reduces.iter().map(|r| r.op.result(lanes[usize::from(r.src)])).collect();
        (program.epilogue, _, outs) = build(rng, given, kept, true, true);
    }
    let mut case = Case { program, dims, reads: vec![], inputs: vec![], writes: vec![], outputs: vec![] };
    for elem in elems {
        let (access, len) = read_access(rng, elem, &case.dims);
        case.reads.push(access);
        case.inputs.push(contents(rng, style, elem, len));
    }
    for elem in outs {
        let (access, len) = write_access(rng, elem, &case.dims[..kept]);
        case.writes.push(access);
        case.outputs.push(vec![0x5A; len * elem.size()]);
    }
    case
}
