//! Matrix products: the packed f32 kernel, or a TileIR loop for other element types.

use super::tile::{Body, broadcast_strides, strides};
use super::{Failure, Lowering};
use autoglm_ir::dim::product;
use autoglm_ir::{DType, Def, Dim, Node, ValueId, interp};
use autoglm_runtime::cpu::pack;
use autoglm_runtime::program::{self as rt, Access, StepKind};
use autoglm_runtime::tile::{BinaryOp, Instr, ReduceOp};

/// A factor: its value, and its shape and strides as the product sees them.
struct Factor {
    id: rt::ValueId,
    shape: Vec<Dim>,
    strides: Vec<Dim>,
}

pub(super) fn matmul(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let out = node.outs[0];
    match cx.graph.ty(out).dtype {
        DType::F32 => product_f32(cx, node),
        DType::F16 | DType::BF16 => through_f32(cx, node),
        _ => product_loop(cx, node),
    }
}

/// The value behind a transpose that is read through, with permuted strides.
fn factor(cx: &mut Lowering<'_>, v: ValueId) -> Result<Factor, Failure> {
    let shape = cx.graph.ty(v).shape.clone();
    if let (true, Some(node)) = (cx.plan.through[v.0 as usize], cx.graph.producer(v)) {
        let source = strides(&cx.graph.ty(node.args[0]).shape);
        let strides = node.attrs.ints("perm").iter().map(|p| source[*p as usize].clone()).collect();
        return Ok(Factor { id: cx.value(node.args[0])?, shape, strides });
    }
    let strides = strides(&shape);
    Ok(Factor { id: cx.value(v)?, shape, strides })
}

fn product_f32(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (av, bv) = (node.args[0], node.args[1]);
    let b_shape = cx.graph.ty(bv).shape.clone();
    let single_b = b_shape[..b_shape.len() - 2].iter().all(|d| d.is(1));
    let packed = match cx.graph.value(bv).def {
        Def::Const(_) if single_b => Some(packed_weight(cx, bv)?),
        _ => None,
    };
    let a = factor(cx, av)?;
    if let Some(b) = packed {
        return packed_product(cx, node, a, b);
    }
    let b = factor(cx, bv)?;
    let (id, kind) = general(cx, node, &a, &b)?;
    cx.step(kind, vec![a.id, b.id], vec![id]);
    Ok(())
}

/// A product of two tensors with broadcast batch dimensions.
fn general(
    cx: &mut Lowering<'_>,
    node: &Node,
    a: &Factor,
    b: &Factor,
) -> Result<(rt::ValueId, StepKind), Failure> {
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let (batch, mn) = out_shape.split_at(out_shape.len() - 2);
    let k = a.shape[a.shape.len() - 1].clone();
    let a_access = batched(cx, a, batch)?;
    let b_access = batched(cx, b, batch)?;
    let kind = StepKind::MatMul {
        batch: cx.shape.regs(batch)?,
        m: cx.reg(&mn[0])?,
        k: cx.reg(&k)?,
        n: cx.reg(&mn[1])?,
        a: a_access,
        b: b_access,
        b_packed: false,
        out: cx.access(&0.into(), &strides(&out_shape)[..out_shape.len() - 1])?,
        bias: false,
        epilogue: None,
    };
    Ok((cx.result(node.outs[0])?, kind))
}

/// Strides over the product's batch (0 where the factor is broadcast), then the factor's own two.
fn batched(cx: &mut Lowering<'_>, f: &Factor, batch: &[Dim]) -> Result<Access, Failure> {
    let own = f.shape.len() - 2;
    let lead = batch.len() - own;
    let mut out = vec![Dim::from(0); lead];
    for i in 0..own {
        let keep = &Dim::from(1) - &f.shape[i].equals(&1.into());
        out.push(if f.shape[i] == batch[lead + i] { f.strides[i].clone() } else { &f.strides[i] * &keep });
    }
    out.extend_from_slice(&f.strides[own..]);
    cx.access(&0.into(), &out)
}

/// A product with one packed weight matrix: the batch of the left side is folded into its rows where that is dense.
fn packed_product(cx: &mut Lowering<'_>, node: &Node, a: Factor, b: rt::ValueId) -> Result<(), Failure> {
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let rank = a.shape.len();
    let (k, n) = (a.shape[rank - 1].clone(), out_shape[out_shape.len() - 1].clone());
    let dense = a.strides == strides(&a.shape);
    let rows = if dense { product(&a.shape[..rank - 1]) } else { a.shape[rank - 2].clone() };
    let batch: Vec<Dim> = if dense { Vec::new() } else { a.shape[..rank - 2].to_vec() };
    let mut a_strides: Vec<Dim> = a.strides[..batch.len()].to_vec();
    a_strides.extend(if dense {
        [k.clone(), 1.into()]
    } else {
        [a.strides[rank - 2].clone(), a.strides[rank - 1].clone()]
    });
    let b_strides = vec![Dim::from(0); batch.len() + 2];
    let out_strides = strides(&[batch.as_slice(), &[rows.clone(), n.clone()]].concat());
    let kind = StepKind::MatMul {
        batch: cx.shape.regs(&batch)?,
        m: cx.reg(&rows)?,
        k: cx.reg(&k)?,
        n: cx.reg(&n)?,
        a: cx.access(&0.into(), &a_strides)?,
        b: cx.access(&0.into(), &b_strides)?,
        b_packed: true,
        out: cx.access(&0.into(), &out_strides[..batch.len() + 1])?,
        bias: false,
        epilogue: None,
    };
    let out = cx.result(node.outs[0])?;
    cx.step(kind, vec![a.id, b], vec![out]);
    Ok(())
}

/// Packs a constant right factor and stores it.
fn packed_weight(cx: &mut Lowering<'_>, v: ValueId) -> Result<rt::ValueId, Failure> {
    let Some(id) = cx.graph.constant(v) else { return Err(Failure::Invalid("not a constant".into())) };
    let tensor = interp::const_tensor(cx.graph, id).map_err(Failure::Invalid)?;
    let rank = tensor.shape.len();
    let (k, n) = (tensor.shape[rank - 2], tensor.shape[rank - 1]);
    let source = f32s(&tensor.data);
    let too_large = || Failure::Unsupported(format!("a weight of {k} x {n} overflows"));
    let mut packed = vec![0f32; pack::packed_gemm_len(k, n).ok_or_else(too_large)?];
    pack::pack_gemm_b(&source, k, n, n, 1, &mut packed).map_err(|e| Failure::Invalid(e.to_string()))?;
    store_f32(cx, &packed)
}

/// Stores floats as a one-dimensional value.
pub(super) fn store_f32(cx: &mut Lowering<'_>, data: &[f32]) -> Result<rt::ValueId, Failure> {
    let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    cx.store(DType::F32, &[data.len().into()], &bytes)
}

/// Little-endian bytes as floats.
pub(super) fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// Half-precision factors are widened, the product is rounded once.
fn through_f32(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let dtype = cx.graph.ty(node.outs[0]).dtype;
    let mut wide = Vec::with_capacity(2);
    for arg in &node.args {
        let shape = cx.graph.ty(*arg).shape.clone();
        let id = cx.value(*arg)?;
        let id = cx.convert(id, &shape, (dtype, DType::F32))?;
        wide.push(Factor { id, strides: strides(&shape), shape });
    }
    let shape = cx.graph.ty(node.outs[0]).shape.clone();
    let (_, kind) = general(cx, node, &wide[0], &wide[1])?;
    let product = cx.temp(DType::F32, &shape)?;
    cx.step(kind, vec![wide[0].id, wide[1].id], vec![product]);
    let out = cx.convert(product, &shape, (DType::F32, dtype))?;
    cx.bind(node.outs[0], out);
    Ok(())
}

/// Any element type: a loop over batch, m, n with a reduction over k.
fn product_loop(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let out_shape = cx.graph.ty(node.outs[0]).shape.clone();
    let (a, b) = (factor(cx, node.args[0])?, factor(cx, node.args[1])?);
    let batch = &out_shape[..out_shape.len() - 2];
    let mut shape = out_shape.clone();
    shape.push(a.shape[a.shape.len() - 1].clone());
    let mut body = Body::new(&shape, (0..shape.len()).collect());
    let lead = |f: &Factor| broadcast_strides(&f.shape, &[batch, &f.shape[f.shape.len() - 2..]].concat());
    let (mut over_a, mut over_b) = (lead(&a), lead(&b));
    // (.., m, k) becomes (.., m, 0, k); (.., k, n) becomes (.., 0, n, k).
    over_a.insert(batch.len() + 1, 0.into());
    let k_stride = over_b.remove(batch.len());
    over_b.insert(batch.len(), 0.into());
    over_b.push(k_stride);
    let (x, y) = (body.load(a.id, over_a), body.load(b.id, over_b));
    let src = body.push(Instr::Binary(BinaryOp::Mul, x, y));
    let out = cx.result(node.outs[0])?;
    body.finish(cx, Some((1, super::reduce::fold(ReduceOp::Sum, src))), out)
}
