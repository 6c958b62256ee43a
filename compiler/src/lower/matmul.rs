//! Matrix products: the packed f32 kernel, or a TileIR loop for other element types.

use super::epilogue::Tail;
use super::place::{Place, Writes};
use super::tile::Body;
use super::view::{View, merge_loops};
use super::weights::{self, Packed};
use super::{Failure, Lowering, epilogue, split};
use autoglm_ir::{DType, Def, Dim, Node};
use autoglm_runtime::program::{self as rt, StepKind};
use autoglm_runtime::tile::{BinaryOp, Instr, ReduceOp};

/// The right factor.
enum Right {
    /// A constant matrix in the kernel's layout.
    Packed(Packed),
    /// Any tensor.
    View(Place),
}

/// `matmul` and `linear`.
pub(super) fn matmul(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    match cx.graph.ty(node.outs[0]).dtype {
        DType::F32 => product_f32(cx, node),
        DType::F16 | DType::BF16 => through_f32(cx, node),
        _ => product_loop(cx, node),
    }
}

fn product_f32(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let b_shape = &cx.graph.ty(node.args[1]).shape;
    let single = b_shape[..b_shape.len() - 2].iter().all(|d| d.is(1));
    let mut a = cx.readable(node.args[0], View::has_lines)?;
    let tail = epilogue::of_contraction(cx, node)?;
    let constant = single && matches!(cx.graph.value(node.args[1]).def, Def::Const(_));
    if constant && let Some(parts) = split::columns(cx, node, &a, tail.as_ref())? {
        return parts.into_iter().try_for_each(|part| columns(cx, node, part, tail.clone()));
    }
    let b = if constant {
        Right::Packed(weights::product(cx, node.args[1], None)?)
    } else {
        Right::View(cx.place(node.args[1])?)
    };
    let bias = node.args.get(2).map(|v| cx.dense(*v)).transpose()?;
    let mut args = vec![a.id];
    match &b {
        Right::Packed(weight) => args.extend(weight.args()),
        Right::View(place) => args.push(place.id),
    }
    args.extend(bias);
    if let Some(tail) = &tail {
        args.extend(&tail.args);
    }
    let mut reads = tail.as_ref().map_or(Vec::new(), |t| t.reads.clone());
    let split = if single { split::rows(cx, node, &args, (&a, &reads))? } else { None };
    let out = match split {
        Some(split) => {
            (a.view, reads) = (split.a, split.reads);
            split.out
        }
        None => cx.target_as(cx.result_of(node), &args, Writes::Lines, &cx.graph.ty(node.outs[0]).shape)?,
    };
    product_step(cx, (&a, &b, &out), (args, bias.is_some()), tail.map(|tail| (tail, reads)))
}

/// The product of one range of columns, as a step of its own.
fn columns(cx: &mut Lowering<'_>, node: &Node, part: split::Part, tail: Option<Tail>) -> Result<(), Failure> {
    let split::Part { columns, a, reads, out } = part;
    let weight = weights::product(cx, node.args[1], Some(columns.clone()))?;
    let mut args = vec![a.id];
    args.extend(weight.args());
    let bias = node.args.get(2).copied();
    if let Some(bias) = bias {
        let id = cx.graph.constant(bias).ok_or_else(|| Failure::Invalid("not a constant".into()))?;
        args.extend(weights::part(cx, id, columns)?.args());
    }
    if let Some(tail) = &tail {
        args.extend(&tail.args);
    }
    product_step(
        cx,
        (&a, &Right::Packed(weight), &out),
        (args, bias.is_some()),
        tail.map(|tail| (tail, reads)),
    )
}

fn product_step(
    cx: &mut Lowering<'_>,
    (a, b, out): (&Place, &Right, &Place),
    (args, bias): (Vec<rt::ValueId>, bool),
    tail: Option<(Tail, Vec<View>)>,
) -> Result<(), Failure> {
    let reads = tail.as_ref().map_or(&[][..], |(_, reads)| reads);
    let nest = Nest::new(a, b, out, reads)?;
    let epilogue = tail.map(|(tail, _)| tail.emit(cx, &nest.reads)).transpose()?;
    let weight = match b {
        Right::Packed(weight) => Some(*weight),
        Right::View(_) => None,
    };
    let kind = nest.step(cx, weight, bias, epilogue)?;
    cx.step(kind, args, vec![out.id]);
    Ok(())
}

/// The loops of a product: batch extents and rows, and how each operand is read over them and its own last axes.
struct Nest {
    /// Batch extents, then m.
    rows: Vec<Dim>,
    k: Dim,
    n: Dim,
    a: View,
    /// Over batch, k, n.
    b: View,
    out: View,
    reads: Vec<View>,
}

impl Nest {
    /// Batch axes over which every operand goes on evenly are merged, also into the rows where the right factor is the same for all.
    fn new(a: &Place, b: &Right, out: &Place, reads: &[View]) -> Result<Nest, Failure> {
        let no_axes = || Failure::Invalid("a factor without axes".into());
        let (n, lead) = out.view.shape.split_last().ok_or_else(no_axes)?;
        let k = a.view.shape.last().cloned().ok_or_else(no_axes)?;
        // A vector is one row.
        let rows = if lead.is_empty() { vec![Dim::from(1)] } else { lead.to_vec() };
        let batch = &rows[..rows.len() - 1];
        let over = |inner: &[Dim]| [batch, inner].concat();
        let m = &rows[rows.len() - 1];
        let a_view = a.view.broadcast(&over(&[m.clone(), k.clone()]));
        let b_view = match b {
            Right::Packed(_) => View::dense(&[]).broadcast(&over(&[k.clone(), n.clone()])),
            Right::View(place) => place.view.broadcast(&over(&[k.clone(), n.clone()])),
        };
        let whole = over(&[m.clone(), n.clone()]);
        let out_view = out.view.broadcast(&whole);
        let reads: Vec<View> = reads.iter().map(|r| r.broadcast(&whole)).collect();
        let batch = batch.len();
        let mut nest = Nest { rows, k, n: n.clone(), a: a_view, b: b_view, out: out_view, reads };
        let leading = |v: &View| v.strides[..=batch].to_vec();
        let mut strides: Vec<Vec<Dim>> =
            [&nest.a, &nest.out].into_iter().chain(&nest.reads).map(leading).collect();
        // The right factor does not depend on the row.
        let mut b_strides = nest.b.strides[..batch].to_vec();
        b_strides.push(Dim::from(0));
        strides.push(b_strides);
        let mut merged = nest.rows.clone();
        merge_loops(&mut merged, &mut strides);
        nest.set(merged, strides);
        Ok(nest)
    }

    fn set(&mut self, rows: Vec<Dim>, strides: Vec<Vec<Dim>>) {
        let before = self.rows.len();
        let batch = rows.len() - 1;
        let mut new = strides.into_iter();
        for view in [&mut self.a, &mut self.out].into_iter().chain(&mut self.reads) {
            let own = view.strides.split_off(before);
            view.strides = new.next().unwrap_or_default();
            view.strides.extend(own);
        }
        let own = self.b.strides.split_off(before - 1);
        self.b.strides = new.next().unwrap_or_default();
        self.b.strides.truncate(batch);
        self.b.strides.extend(own);
        self.rows = rows;
    }

    fn step(
        &self,
        cx: &mut Lowering<'_>,
        weight: Option<Packed>,
        bias: bool,
        epilogue: Option<rt::Epilogue>,
    ) -> Result<StepKind, Failure> {
        let (batch, m) = self.rows.split_at(self.rows.len() - 1);
        Ok(StepKind::MatMul {
            batch: cx.shape.regs(batch)?,
            m: cx.reg(&m[0])?,
            k: cx.reg(&self.k)?,
            n: cx.reg(&self.n)?,
            a: cx.view_access(&self.a)?,
            b: cx.view_access(&self.b)?,
            b_packed: weight.is_some(),
            sparsity: weight.and_then(|w| w.sparsity),
            out: cx.lines_access(&self.out)?,
            bias,
            epilogue,
        })
    }
}

/// Stores floats as a one-dimensional value.
pub(super) fn store_f32(cx: &mut Lowering<'_>, data: &[f32]) -> Result<rt::ValueId, Failure> {
    let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    cx.store(DType::F32, &[data.len().into()], &bytes)
}

/// Little-endian bytes as floats.
pub(crate) fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// Half-precision factors are widened, the product is rounded once.
fn through_f32(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let ty = cx.graph.ty(node.outs[0]).clone();
    let mut wide = Vec::with_capacity(3);
    for arg in &node.args {
        let place = cx.place(*arg)?;
        wide.push(cx.convert(&place, (ty.dtype, DType::F32))?);
    }
    let product = cx.temp(DType::F32, &ty.shape)?;
    let args = wide.iter().map(|p| p.id).collect();
    let kind = Nest::new(&wide[0], &Right::View(wide[1].clone()), &product, &[])?;
    let kind = kind.step(cx, None, wide.len() > 2, None)?;
    cx.step(kind, args, vec![product.id]);
    let out = cx.target(node.outs[0], &[product.id], Writes::Any)?;
    cx.convert_to(&product, (DType::F32, ty.dtype), &out)
}

/// Any element type: a loop over batch, m, n with a reduction over k.
fn product_loop(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (a, b) = (cx.place(node.args[0])?, cx.place(node.args[1])?);
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let k = a.view.shape[a.view.shape.len() - 1].clone();
    let mut dims = out_shape.clone();
    dims.push(k.clone());
    let lead = out_shape.len() - 1;
    // (.., m, k) becomes (.., m, 0, k); (.., k, n) becomes (.., 0, n, k).
    let mut over_a = a.view.broadcast(&[&out_shape[..lead], std::slice::from_ref(&k)].concat());
    over_a.strides.insert(lead, Dim::from(0));
    let batch = lead.saturating_sub(1);
    let mut over_b = b.view.broadcast(&[&out_shape[..batch], &[k, out_shape[lead].clone()]].concat());
    let k_stride = over_b.strides.remove(batch);
    if lead > 0 {
        over_b.strides.insert(batch, Dim::from(0));
    }
    over_b.strides.push(k_stride);
    (over_a.shape, over_b.shape) = (dims.clone(), dims.clone());
    let mut body = Body::new();
    let (x, y) = (body.load(&Place { id: a.id, view: over_a }), body.load(&Place { id: b.id, view: over_b }));
    let src = body.push(Instr::Binary(BinaryOp::Mul, x, y));
    let mut fold = super::reduce::fold(ReduceOp::Sum, src);
    if let Some(bias) = node.args.get(2) {
        let bias = cx.place(*bias)?;
        let arg = body.arg(&Place { id: bias.id, view: bias.view.broadcast(&out_shape) });
        fold.epilogue =
            vec![Instr::Load { arg }, Instr::Binary(BinaryOp::Add, 0, 1), Instr::Store { out: 0, src: 2 }];
    }
    let out = cx.target(node.outs[0], &body.args, Writes::Any)?;
    body.finish_fold(cx, &dims, fold, None, &out)
}
