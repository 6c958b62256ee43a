//! Structural validation of a program, once at load: every index is in range and every value is written before it is
//! read. What depends on concrete sizes is checked when a plan is made for them.

use super::format::WEIGHT_ALIGN;
use super::manifest::{Manifest, TensorSignature};
use crate::cpu::sparse::Pattern;
use crate::elem::ElemType;
use crate::error::EngineError;
use crate::program::{
    Access, Cell, Cond, Epilogue, MAX_OPERANDS, NEST_OUTS_MAX, NESTS_MAX, Port, Program, Reg, ShapeOp,
    Sparsity, Step, StepKind, Storage, Value, ValueId,
};
use crate::steps::{check_map, nests};
use crate::tile::TileProgram;

/// Most values, steps, tile programs or ports.
pub const MAX_ITEMS: usize = 1 << 20;
/// Most operations or guards of the shape program.
pub const MAX_SHAPE_OPS: usize = 1 << 22;
/// Most dimensions of a value or of a loop nest.
pub const MAX_RANK: usize = 16;
/// Most instructions of the tile programs that all steps refer to, counted once for every step: a plan holds a copy of
/// each, so that a small file with many steps could make it as large as it likes.
pub const MAX_TILE_INSTRS: usize = 1 << 22;

/// Checks a tile program against the rank of its loop nest and the element types of its arguments and outputs.
pub type TileCheck<'a> = &'a dyn Fn(&TileProgram, usize, &[ElemType], &[ElemType]) -> Result<(), String>;

type Checked = Result<(), EngineError>;

fn invalid(place: impl Into<String>, detail: impl Into<String>) -> EngineError {
    EngineError::Program { place: place.into(), detail: detail.into() }
}

fn at_most(what: impl Into<String>, value: usize, limit: usize) -> Checked {
    if value > limit {
        return Err(EngineError::Limit { what: what.into(), value: value as u64, limit: limit as u64 });
    }
    Ok(())
}

/// Checks a program against a weights section of `weights_len` bytes.
pub fn validate(program: &Program, weights_len: u64) -> Checked {
    let cx = Cx { program, regs: program.shape.ops.len(), weights_len };
    at_most("number of values", program.values.len(), MAX_ITEMS)?;
    at_most("number of steps", program.steps.len(), MAX_ITEMS)?;
    at_most("number of tile programs", program.tiles.len(), MAX_ITEMS)?;
    at_most("number of inputs", program.inputs.len(), MAX_ITEMS)?;
    at_most("number of outputs", program.outputs.len(), MAX_ITEMS)?;
    at_most("number of shape operations", program.shape.ops.len(), MAX_SHAPE_OPS)?;
    at_most("number of guards", program.shape.guards.len(), MAX_SHAPE_OPS)?;
    let nests = program.steps.iter().map(|step| match &step.kind {
        StepKind::Tiles { nests } => nests.len(),
        _ => 0,
    });
    at_most("number of loop nests", nests.sum(), MAX_ITEMS)?;
    cx.values()?;
    cx.ports()?;
    cx.shape()?;
    for (i, step) in program.steps.iter().enumerate() {
        let place = || format!("step #{i} {:?}", step.name);
        cx.operands(step).and_then(|()| cx.kind(step)).map_err(|detail| invalid(place(), detail))?;
    }
    cx.order()
}

/// Runs `check` for every step that runs a tile program. Call it after [`validate`].
pub fn validate_tiles(program: &Program, check: TileCheck<'_>) -> Checked {
    let elems = |ids: &[ValueId]| -> Vec<ElemType> {
        ids.iter().filter_map(|id| program.values.get(*id as usize)).map(|v| v.elem).collect()
    };
    let mut instrs = 0;
    for (i, step) in program.steps.iter().enumerate() {
        let place = || format!("step #{i} {:?}", step.name);
        if let StepKind::Tiles { .. } = step.kind {
            for nest in nests(step).map_err(|detail| invalid(place(), detail))? {
                let StepKind::Tile { tile, dims, .. } = &nest.kind else { continue };
                let operands = (elems(&nest.args), elems(&nest.outs));
                check_tile(program, (*tile, dims.len()), operands, check, &mut instrs, &place)?;
            }
            continue;
        }
        let (tile, rank, args) = match &step.kind {
            StepKind::Tile { tile, dims, .. } => (tile, dims.len(), elems(&step.args)),
            StepKind::MatMul { epilogue: Some(Epilogue { tile, .. }), batch, .. } => {
                (tile, batch.len() + 2, elems(&staged(step)))
            }
            StepKind::Conv { epilogue: Some(Epilogue { tile, .. }), .. }
            | StepKind::Winograd { epilogue: Some(Epilogue { tile, .. }), .. } => {
                (tile, 4, elems(&staged(step)))
            }
            _ => continue,
        };
        check_tile(program, (*tile, rank), (args, elems(&step.outs)), check, &mut instrs, &place)?;
    }
    Ok(())
}

/// Checks one use of a tile program, and counts its instructions.
fn check_tile(
    program: &Program,
    (tile, rank): (u32, usize),
    (args, outs): (Vec<ElemType>, Vec<ElemType>),
    check: TileCheck<'_>,
    instrs: &mut usize,
    place: &dyn Fn() -> String,
) -> Checked {
    let Some(tile_program) = program.tiles.get(tile as usize) else { return Ok(()) };
    *instrs += tile_program.body.len() + tile_program.epilogue.len() + tile_program.reduces.len();
    at_most("tile instructions of all steps", *instrs, MAX_TILE_INSTRS)?;
    check(tile_program, rank, &args, &outs)
        .map_err(|detail| invalid(place(), format!("tile program {tile}: {detail}")))
}

/// The arguments that a contraction's epilogue sees: the result, then what follows its own.
fn staged(step: &Step) -> Vec<ValueId> {
    step.outs.iter().copied().take(1).chain(step.args.iter().copied().skip(step.kind.own_args())).collect()
}

/// Checks that the manifest describes the ports that the program has.
pub fn validate_manifest(manifest: &Manifest, program: &Program) -> Checked {
    let compare = |what: &str, told: &[TensorSignature], ports: &[Port]| {
        if told.len() != ports.len() {
            return Err(EngineError::Manifest(format!("{} {what}s against {}", told.len(), ports.len())));
        }
        for (i, (told, port)) in told.iter().zip(ports).enumerate() {
            let elem = program.values.get(port.value as usize).map(|v| v.elem as u32);
            if told.name != port.name || Some(told.elem) != elem || told.dims != port.dim_names {
                return Err(EngineError::Manifest(format!(
                    "{what} {i} is {:?} (element type {}, {:?}) against {:?} ({elem:?}, {:?})",
                    told.name, told.elem, told.dims, port.name, port.dim_names
                )));
            }
        }
        Ok(())
    };
    compare("input", &manifest.inputs, &program.inputs)?;
    compare("output", &manifest.outputs, &program.outputs)
}

struct Cx<'a> {
    program: &'a Program,
    regs: usize,
    weights_len: u64,
}

impl Cx<'_> {
    fn value(&self, id: ValueId) -> Result<&Value, String> {
        let count = self.program.values.len();
        self.program.values.get(id as usize).ok_or_else(|| format!("value {id} of {count}"))
    }

    fn reg(&self, reg: Reg) -> Result<(), String> {
        if (reg as usize) < self.regs { Ok(()) } else { Err(format!("register {reg} of {}", self.regs)) }
    }

    fn all_regs(&self, regs: &[Reg]) -> Result<(), String> {
        regs.iter().try_for_each(|&r| self.reg(r))
    }

    fn values(&self) -> Checked {
        for (i, value) in self.program.values.iter().enumerate() {
            at_most(format!("rank of value {i}"), value.dims.len(), MAX_RANK)?;
            let checked = self.all_regs(&value.dims).and_then(|()| self.storage(i, value));
            checked.map_err(|detail| invalid(format!("value {i}"), detail))?;
        }
        Ok(())
    }

    fn storage(&self, id: usize, value: &Value) -> Result<(), String> {
        match value.storage {
            Storage::Temp => Ok(()),
            // Sizes of inputs are checked against their port's value, so no other value may claim the buffer.
            Storage::Input(i) => match self.program.inputs.get(i as usize) {
                Some(port) if port.value as usize == id => Ok(()),
                _ => Err(format!("is stored in input {i}, which is not bound to it")),
            },
            Storage::Const { offset, len } => match offset.checked_add(len) {
                Some(end) if end <= self.weights_len && offset.is_multiple_of(WEIGHT_ALIGN) => Ok(()),
                _ => Err(format!(
                    "constant at {offset} with {len} bytes is unaligned or outside the weights section of {}",
                    self.weights_len
                )),
            },
            Storage::Alias(of) if of as usize >= id => Err(format!("is an alias of the later value {of}")),
            Storage::Alias(of) => {
                let (mine, other) = (value.elem, self.value(of)?.elem);
                if mine.size() == other.size() {
                    Ok(())
                } else {
                    Err(format!("{mine:?} is an alias of {other:?}, which has another size"))
                }
            }
        }
    }

    fn ports(&self) -> Checked {
        for (i, port) in self.program.inputs.iter().enumerate() {
            let place = || format!("input {i} {:?}", port.name);
            let value = self.value(port.value).map_err(|e| invalid(place(), e))?;
            if value.storage != Storage::Input(i as u32) {
                return Err(invalid(place(), format!("its value is stored as {:?}", value.storage)));
            }
        }
        let mut seen = vec![false; self.program.values.len()];
        for (i, port) in self.program.outputs.iter().enumerate() {
            let place = || format!("output {i} {:?}", port.name);
            let value = self.value(port.value).map_err(|e| invalid(place(), e))?;
            if value.storage != Storage::Temp {
                return Err(invalid(place(), format!("its value is stored as {:?}", value.storage)));
            }
            if std::mem::replace(&mut seen[port.value as usize], true) {
                return Err(invalid(place(), format!("value {} is an output twice", port.value)));
            }
        }
        Ok(())
    }

    fn shape(&self) -> Checked {
        for (i, op) in self.program.shape.ops.iter().enumerate() {
            self.shape_op(i, *op).map_err(|e| invalid(format!("shape operation {i}"), e))?;
        }
        for (i, guard) in self.program.shape.guards.iter().enumerate() {
            let (Cond::Eq(a, b) | Cond::Le(a, b) | Cond::Broadcast(a, b)) = guard.cond;
            self.all_regs(&[a, b]).map_err(|e| invalid(format!("guard {i} {:?}", guard.message), e))?;
        }
        Ok(())
    }

    fn shape_op(&self, i: usize, op: ShapeOp) -> Result<(), String> {
        let input = |input: u32| -> Result<&Value, String> {
            let count = self.program.inputs.len();
            let port = self.program.inputs.get(input as usize).ok_or(format!("input {input} of {count}"))?;
            self.value(port.value)
        };
        match op {
            ShapeOp::Const(_) => Ok(()),
            ShapeOp::InputDim { input: n, axis } => {
                let rank = input(n)?.dims.len();
                if (axis as usize) < rank {
                    Ok(())
                } else {
                    Err(format!("axis {axis} of input {n}, rank {rank}"))
                }
            }
            ShapeOp::InputElem { input: n, .. } => {
                let elem = input(n)?.elem;
                if is_integer(elem) {
                    Ok(())
                } else {
                    Err(format!("element of input {n}, which is {elem:?}"))
                }
            }
            ShapeOp::Add(a, b)
            | ShapeOp::Sub(a, b)
            | ShapeOp::Mul(a, b)
            | ShapeOp::FloorDiv(a, b)
            | ShapeOp::Mod(a, b)
            | ShapeOp::Min(a, b)
            | ShapeOp::Max(a, b)
            | ShapeOp::Eq(a, b) => match [a, b].into_iter().find(|r| *r as usize >= i) {
                Some(late) => Err(format!("reads register {late}, which is not smaller")),
                None => Ok(()),
            },
        }
    }

    fn operands(&self, step: &Step) -> Result<(), String> {
        for (what, ids) in [("arguments", &step.args), ("outputs", &step.outs)] {
            if ids.len() > MAX_OPERANDS {
                return Err(format!("{} {what}, the limit is {MAX_OPERANDS}", ids.len()));
            }
        }
        step.args.iter().try_for_each(|&id| self.value(id).map(drop))?;
        for &id in &step.outs {
            let storage = self.value(id)?.storage;
            if storage != Storage::Temp {
                return Err(format!("writes value {id}, which is stored as {storage:?}"));
            }
        }
        Ok(())
    }

    fn counts(&self, step: &Step, args: usize, elem: Option<ElemType>) -> Result<(), String> {
        if step.args.len() != args || step.outs.len() != 1 {
            let found = (step.args.len(), step.outs.len());
            return Err(format!("{found:?} arguments and outputs instead of {:?}", (args, 1)));
        }
        let Some(elem) = elem else { return Ok(()) };
        for &id in step.args.iter().chain(&step.outs) {
            let found = self.value(id)?.elem;
            if found != elem {
                return Err(format!("value {id} is {found:?} instead of {elem:?}"));
            }
        }
        Ok(())
    }

    /// Operands of a contraction: its own arguments, of which the codes of sparse weights are u32 and the others f32, then
    /// those of the epilogue, which runs over `rank` dimensions.
    fn contraction(
        &self,
        step: &Step,
        rank: usize,
        sparsity: Option<Sparsity>,
        epilogue: Option<&Epilogue>,
    ) -> Result<(), String> {
        let own = step.kind.own_args();
        self.counts(step, own + epilogue.map_or(0, |e| e.reads.len()), None)?;
        for (i, &id) in step.args.iter().take(own).chain(&step.outs).enumerate() {
            let want = if sparsity.is_some() && i == 2 { ElemType::U32 } else { ElemType::F32 };
            let found = self.value(id)?.elem;
            if found != want {
                return Err(format!("value {id} is {found:?} instead of {want:?}"));
            }
        }
        if let Some(sparsity) = sparsity.filter(|sparsity| *sparsity != Sparsity::Scattered) {
            Pattern::new(sparsity).map_err(|e| format!("{sparsity:?}: {e}"))?;
        }
        let Some(epilogue) = epilogue else { return Ok(()) };
        let count = self.program.tiles.len();
        let tile = self.program.tiles.get(epilogue.tile as usize);
        check_map(tile.ok_or(format!("tile program {} of {count}", epilogue.tile))?)?;
        epilogue.reads.iter().try_for_each(|access| self.access(access, rank))
    }

    fn access(&self, access: &Access, rank: usize) -> Result<(), String> {
        if access.strides.len() != rank {
            return Err(format!("an access has {} strides instead of {rank}", access.strides.len()));
        }
        self.reg(access.offset)?;
        self.all_regs(&access.strides)
    }

    fn kind(&self, step: &Step) -> Result<(), String> {
        let f32s = Some(ElemType::F32);
        match &step.kind {
            StepKind::Tile { tile, dims, reads, writes } => self.tile(step, *tile, dims, reads, writes),
            StepKind::Tiles { nests: list } => {
                let (count, outs) = (list.len(), step.outs.len());
                if count > NESTS_MAX || outs > NEST_OUTS_MAX {
                    return Err(format!(
                        "{count} nests with {outs} outputs, the limits are {NESTS_MAX} and {NEST_OUTS_MAX}"
                    ));
                }
                nests(step)?.iter().try_for_each(|nest| self.kind(nest))
            }
            StepKind::MatMul { batch, m, k, n, a, b, b_packed, sparsity, out, bias: _, epilogue } => {
                self.contraction(step, batch.len() + 2, *sparsity, epilogue.as_ref())?;
                if sparsity.is_some() && !b_packed {
                    return Err("sparse weights are not packed".into());
                }
                let rank = batch.len() + 2;
                if rank > MAX_RANK {
                    return Err(format!("{} batch dimensions", batch.len()));
                }
                self.all_regs(batch)?;
                self.all_regs(&[*m, *k, *n])?;
                self.access(a, rank)?;
                self.access(out, rank - 1)?;
                self.access(b, if *b_packed { b.strides.len() } else { rank })
            }
            StepKind::GatherMatMul { .. } => self.gather_matmul(step),
            StepKind::Conv { .. } | StepKind::Winograd { .. } | StepKind::Pool { .. } => self.images(step),
            StepKind::Softmax { rows, cols, log: _, x, out } => {
                self.counts(step, 1, f32s)?;
                self.all_regs(&[*rows, *cols])?;
                [x, out].into_iter().try_for_each(|access| self.access(access, 1))
            }
            StepKind::LayerNorm { rows, cols, bias, epsilon: _, rms: _, x, out } => {
                self.counts(step, 2 + usize::from(*bias), f32s)?;
                self.all_regs(&[*rows, *cols])?;
                [x, out].into_iter().try_for_each(|access| self.access(access, 1))
            }
            StepKind::Dims { elems } => {
                self.counts(step, 0, None)?;
                let elem = self.value(step.outs[0])?.elem;
                if !matches!(elem, ElemType::I64 | ElemType::I32 | ElemType::F32) {
                    return Err(format!("writes {elem:?} instead of I64, I32 or F32"));
                }
                self.all_regs(elems)
            }
            StepKind::Attention { .. } => self.attention(step),
            StepKind::Recurrent { .. } => self.recurrent(step),
            other => self.indexed(step, other),
        }
    }

    fn gather_matmul(&self, step: &Step) -> Result<(), String> {
        let StepKind::GatherMatMul { batch, m, k, n, matrices, a, b, b_packed, index, out } = &step.kind
        else {
            return Err("has no check".into());
        };
        self.counts(step, 3, None)?;
        for &id in step.args.iter().take(2).chain(&step.outs) {
            let found = self.value(id)?.elem;
            if found != ElemType::F32 {
                return Err(format!("value {id} is {found:?} instead of F32"));
            }
        }
        self.index_elem(step.args[2])?;
        let rank = batch.len() + 2;
        if rank > MAX_RANK {
            return Err(format!("{} batch dimensions", batch.len()));
        }
        self.all_regs(batch)?;
        self.all_regs(&[*m, *k, *n, *matrices])?;
        self.access(a, rank)?;
        self.access(b, if *b_packed { b.strides.len() } else { 3 })?;
        self.access(index, rank - 2)?;
        self.access(out, rank - 1)
    }

    /// Convolutions and pools.
    fn images(&self, step: &Step) -> Result<(), String> {
        let (extents, pairs, accesses): (&[Reg; 4], &[&[Reg; 2]], [&Access; 2]) = match &step.kind {
            StepKind::Conv {
                extents,
                out_extents,
                x,
                out,
                kernel,
                stride,
                dilation,
                groups,
                m,
                sparsity,
                bias: _,
                epilogue,
            } => {
                self.contraction(step, 4, *sparsity, epilogue.as_ref())?;
                self.all_regs(&[*groups, *m])?;
                (extents, &[out_extents, kernel, stride, dilation], [x, out])
            }
            StepKind::Winograd { extents, out_extents, x, out, m, bias: _, epilogue } => {
                self.contraction(step, 4, None, epilogue.as_ref())?;
                self.reg(*m)?;
                (extents, &[out_extents], [x, out])
            }
            StepKind::Pool {
                mode: _,
                extents,
                out_extents,
                x,
                out,
                kernel,
                stride,
                dilation,
                pad,
                pad_end,
            } => {
                self.counts(step, 1, Some(ElemType::F32))?;
                (extents, &[out_extents, kernel, stride, dilation, pad, pad_end], [x, out])
            }
            _ => return Err("has no check".into()),
        };
        self.all_regs(extents)?;
        pairs.iter().try_for_each(|pair| self.all_regs(*pair))?;
        accesses.into_iter().try_for_each(|access| self.access(access, 3))
    }

    fn attention(&self, step: &Step) -> Result<(), String> {
        let StepKind::Attention {
            batch,
            heads,
            kv_heads,
            q_len,
            kv_len,
            head_dim,
            v_dim,
            scale: _,
            q,
            k,
            v,
            out,
            mask,
            causal,
            fill,
            zero_masked: _,
        } = &step.kind
        else {
            return Err("has no check".into());
        };
        self.counts(step, 3 + usize::from(mask.is_some()), Some(ElemType::F32))?;
        self.all_regs(&[*batch, *heads, *kv_heads, *q_len, *kv_len, *head_dim, *v_dim])?;
        causal.iter().try_for_each(|offset| self.reg(*offset))?;
        if fill.is_nan() {
            return Err("fills what a query does not see with NaN".into());
        }
        [q, k, v, out].into_iter().chain(mask).try_for_each(|access| self.access(access, 4))
    }

    fn recurrent(&self, step: &Step) -> Result<(), String> {
        let StepKind::Recurrent {
            cell,
            steps,
            batch,
            hidden,
            reverse: _,
            functions,
            clip,
            x,
            r,
            r_packed,
            h,
            c,
            peepholes,
            lengths,
            y,
        } = &step.kind
        else {
            return Err("has no check".into());
        };
        let has_cell = matches!(cell, Cell::Lstm { .. });
        if c.is_some() != has_cell || *peepholes && !has_cell {
            return Err(format!("{cell:?} with the operands of another cell"));
        }
        if functions.len() != cell.functions() || clip.is_nan() || *clip <= 0.0 {
            return Err(format!("{cell:?} with {} functions, clipped to {clip}", functions.len()));
        }
        let has_bias = matches!(cell, Cell::Gru { linear_before_reset: true });
        let floats = 3 + [has_cell, has_bias, *peepholes].into_iter().filter(|there| *there).count();
        let outs = 2 + usize::from(has_cell) + usize::from(y.is_some());
        let (found, want) = ((step.args.len(), step.outs.len()), (floats + usize::from(*lengths), outs));
        if found != want {
            return Err(format!("{found:?} arguments and outputs instead of {want:?}"));
        }
        for (i, &id) in step.args.iter().chain(&step.outs).enumerate() {
            let elem = self.value(id)?.elem;
            let fits = if *lengths && i == floats {
                matches!(elem, ElemType::I64 | ElemType::I32)
            } else {
                elem == ElemType::F32
            };
            if !fits {
                return Err(format!("value {id} is {elem:?}"));
            }
        }
        self.all_regs(&[*steps, *batch, *hidden])?;
        self.access(r, if *r_packed { r.strides.len() } else { 2 })?;
        [x, h].into_iter().chain(c).chain(y).try_for_each(|access| self.access(access, 2))
    }

    /// Gathers, scatters and top-k.
    fn indexed(&self, step: &Step, kind: &StepKind) -> Result<(), String> {
        match kind {
            StepKind::Gather { outer, axis, inner, count } => {
                self.counts(step, 2, None)?;
                self.gather_elems(step)?;
                self.all_regs(&[*outer, *axis, *inner, *count])
            }
            StepKind::GatherNd { batch, rows, extents, inner } => {
                self.counts(step, 2, None)?;
                self.gather_elems(step)?;
                self.extents(extents)?;
                self.all_regs(&[*batch, *rows, *inner])
            }
            StepKind::GatherElements { data, shape, axis: _ } => {
                self.counts(step, 2, None)?;
                self.gather_elems(step)?;
                self.extents(data).and_then(|()| self.extents(shape))
            }
            StepKind::ScatterNd { rows, extents, inner, mode: _ } => {
                self.counts(step, 3, None)?;
                self.gather_elems(step)?;
                self.extents(extents)?;
                self.all_regs(&[*rows, *inner])
            }
            StepKind::ScatterElements { data, shape, axis: _, mode: _ } => {
                self.counts(step, 3, None)?;
                self.gather_elems(step)?;
                self.extents(data).and_then(|()| self.extents(shape))
            }
            StepKind::TopK { outer, axis, inner, k, largest: _ } => {
                if (step.args.len(), step.outs.len()) != (1, 2) {
                    return Err("needs 1 argument and 2 outputs".into());
                }
                self.all_regs(&[*outer, *axis, *inner, *k])
            }
            _ => Err("has no check".into()),
        }
    }

    fn extents(&self, regs: &[Reg]) -> Result<(), String> {
        if regs.len() > MAX_RANK {
            return Err(format!("{} extents", regs.len()));
        }
        self.all_regs(regs)
    }

    fn gather_elems(&self, step: &Step) -> Result<(), String> {
        let elem = |id: ValueId| self.value(id).map(|v| v.elem);
        let (data, out) = (elem(step.args[0])?, elem(step.outs[0])?);
        if data != out {
            return Err(format!("gathers {data:?} into {out:?}"));
        }
        self.index_elem(step.args[1])
    }

    fn index_elem(&self, id: ValueId) -> Result<(), String> {
        match self.value(id)?.elem {
            ElemType::I64 | ElemType::I32 => Ok(()),
            other => Err(format!("indices are {other:?} instead of I64 or I32")),
        }
    }

    fn tile(
        &self,
        step: &Step,
        tile: u32,
        dims: &[Reg],
        reads: &[Access],
        writes: &[Access],
    ) -> Result<(), String> {
        let count = self.program.tiles.len();
        let program =
            self.program.tiles.get(tile as usize).ok_or(format!("tile program {tile} of {count}"))?;
        let rank = dims.len();
        let kept = rank.checked_sub(usize::from(program.reduce_rank));
        let kept = kept.ok_or(format!("{rank} loop dimensions, {} reduced", program.reduce_rank))?;
        if rank > MAX_RANK {
            return Err(format!("{rank} loop dimensions, the limit is {MAX_RANK}"));
        }
        if (reads.len(), writes.len()) != (step.args.len(), step.outs.len()) {
            return Err(format!(
                "{} reads and {} writes for {} arguments and {} outputs",
                reads.len(),
                writes.len(),
                step.args.len(),
                step.outs.len()
            ));
        }
        self.all_regs(dims)?;
        reads.iter().try_for_each(|access| self.access(access, rank))?;
        writes.iter().try_for_each(|access| self.access(access, kept))
    }

    /// Temporaries are written by an earlier step before they are read, and outputs by some step.
    fn order(&self) -> Checked {
        let roots = roots(self.program);
        let stored_in_arena = |id: ValueId| matches!(self.program.values[id as usize].storage, Storage::Temp);
        let mut written = vec![false; self.program.values.len()];
        for (i, step) in self.program.steps.iter().enumerate() {
            let fail = |detail: String| invalid(format!("step #{i} {:?}", step.name), detail);
            let mut outs = step.outs.clone();
            outs.sort_unstable();
            // Loops may write several parts of a value; whether they are apart is checked when a plan is made.
            let twice = outs.windows(2).find(|pair| pair[0] == pair[1]);
            if let Some(twice) =
                twice.filter(|_| !matches!(step.kind, StepKind::Tile { .. } | StepKind::Tiles { .. }))
            {
                return Err(fail(format!("writes value {} twice", twice[0])));
            }
            for &arg in &step.args {
                let root = roots[arg as usize];
                if outs.binary_search(&root).is_ok() {
                    return Err(fail(format!("reads value {arg} while it writes value {root}, its memory")));
                }
                if stored_in_arena(root) && !written[root as usize] {
                    return Err(fail(format!("reads value {arg}, which no earlier step has written")));
                }
            }
            outs.iter().for_each(|&out| written[out as usize] = true);
        }
        for (i, port) in self.program.outputs.iter().enumerate() {
            if !written[port.value as usize] {
                let place = format!("output {i} {:?}", port.name);
                return Err(invalid(place, format!("no step writes its value {}", port.value)));
            }
        }
        Ok(())
    }
}

/// For each value the value whose memory it uses: itself unless it is an alias.
pub(crate) fn roots(program: &Program) -> Vec<ValueId> {
    let mut roots: Vec<ValueId> = Vec::with_capacity(program.values.len());
    for (i, value) in program.values.iter().enumerate() {
        let own = i as ValueId;
        let root = match value.storage {
            Storage::Alias(of) => roots.get(of as usize).copied().unwrap_or(own),
            _ => own,
        };
        roots.push(root);
    }
    roots
}

/// Whether elements of this type can steer shapes.
pub(crate) fn is_integer(elem: ElemType) -> bool {
    use ElemType::*;
    matches!(elem, I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8 | Bool)
}
