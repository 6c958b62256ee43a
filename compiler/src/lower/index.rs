//! Gathers, scatters and top-k.

use super::place::Place;
use super::view::View;
use super::{Failure, Lowering};
use autoglm_ir::dim::product;
use autoglm_ir::{DType, Dim, Graph, Node};
use autoglm_runtime::program::{ScatterMode, StepKind};

/// The axis attribute, which the importer has normalised.
fn axis(node: &Node) -> usize {
    node.attrs.int("axis") as usize
}

/// What a `gather` with known indices at regular steps shows of its data, if all of them are certain to be inside.
pub(super) fn gathered(graph: &Graph, node: &Node, data: &View) -> Option<View> {
    let index: Vec<i64> =
        graph.value(node.args[1]).content.as_ref()?.iter().map(Dim::as_const).collect::<Option<_>>()?;
    let axis = axis(node);
    let extent = data.shape[axis].as_const()?;
    let wrapped = |i: i64| if i < 0 { i + extent } else { i };
    let index: Vec<i64> = index.into_iter().map(wrapped).collect();
    let step = if index.len() > 1 { index[1] - index[0] } else { 1 };
    let inside = index.iter().all(|i| (0..extent).contains(i));
    if !inside || step == 0 || index.windows(2).any(|pair| pair[1] - pair[0] != step) {
        return None;
    }
    let (mut starts, mut sizes, mut steps) =
        (vec![Dim::from(0); data.shape.len()], data.shape.clone(), vec![1; data.shape.len()]);
    (starts[axis], sizes[axis], steps[axis]) = ((*index.first()?).into(), index.len().into(), step);
    data.slice(&starts, &sizes, &steps).reshape(&graph.ty(node.outs[0]).shape)
}

pub(super) fn gather(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    if cx.options.views {
        let place = cx.place(node.args[0])?;
        if let Some(view) = gathered(cx.graph, node, &place.view) {
            cx.bind(node.outs[0], Place { id: place.id, view });
            return Ok(());
        }
    }
    let (data, index) = (cx.dense(node.args[0])?, cx.dense(node.args[1])?);
    let shape = cx.graph.ty(node.args[0]).shape.clone();
    let axis = axis(node);
    let kind = StepKind::Gather {
        outer: cx.reg(&product(&shape[..axis]))?,
        axis: cx.reg(&shape[axis])?,
        inner: cx.reg(&product(&shape[axis + 1..]))?,
        count: cx.reg(&cx.graph.ty(node.args[1]).numel())?,
    };
    let out = cx.own_result(node.outs[0])?;
    cx.step(kind, vec![data, index], vec![out]);
    Ok(())
}

/// Rows of index coordinates and what they address: batch extents, extents, elements behind them.
fn coordinates(index: &[Dim], data: &[Dim], batch: usize) -> Result<(Dim, Vec<Dim>, Dim), Failure> {
    let Some((depth, rows)) = index.split_last() else {
        return Err(Failure::Invalid("the index has no dimension".into()));
    };
    let depth = depth.as_usize().ok_or_else(|| {
        Failure::Unsupported("the last extent of the index must be known at compile time".into())
    })?;
    if batch + depth > data.len() || batch > rows.len() {
        return Err(Failure::Invalid(format!("an index of {depth} coordinates does not fit the data")));
    }
    let extents = data[batch..batch + depth].to_vec();
    Ok((product(&rows[batch..]), extents, product(&data[batch + depth..])))
}

pub(super) fn gather_nd(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (data, index) = (cx.dense(node.args[0])?, cx.dense(node.args[1])?);
    let data_shape = cx.graph.ty(node.args[0]).shape.clone();
    let batch = node.attrs.int("batch_dims") as usize;
    let (rows, extents, inner) = coordinates(&cx.graph.ty(node.args[1]).shape.clone(), &data_shape, batch)?;
    let kind = StepKind::GatherNd {
        batch: cx.reg(&product(&data_shape[..batch]))?,
        rows: cx.reg(&rows)?,
        extents: cx.shape.regs(&extents)?,
        inner: cx.reg(&inner)?,
    };
    let out = cx.own_result(node.outs[0])?;
    cx.step(kind, vec![data, index], vec![out]);
    Ok(())
}

pub(super) fn gather_elements(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let (data, index) = (cx.dense(node.args[0])?, cx.dense(node.args[1])?);
    let kind = StepKind::GatherElements {
        data: cx.shape.regs(&cx.graph.ty(node.args[0]).shape)?,
        shape: cx.shape.regs(&cx.graph.ty(node.args[1]).shape)?,
        axis: axis(node) as u32,
    };
    let out = cx.own_result(node.outs[0])?;
    cx.step(kind, vec![data, index], vec![out]);
    Ok(())
}

fn mode(node: &Node) -> Result<ScatterMode, Failure> {
    Ok(match node.attrs.str("mode") {
        "" | "none" => ScatterMode::Replace,
        "add" => ScatterMode::Add,
        "mul" => ScatterMode::Mul,
        "max" => ScatterMode::Max,
        "min" => ScatterMode::Min,
        other => return Err(Failure::Unsupported(format!("scatter mode `{other}`"))),
    })
}

pub(super) fn scatter_nd(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let args = node.args.iter().map(|a| cx.dense(*a)).collect::<Result<Vec<_>, _>>()?;
    let data = cx.graph.ty(node.args[0]).shape.clone();
    let (rows, extents, inner) = coordinates(&cx.graph.ty(node.args[1]).shape.clone(), &data, 0)?;
    let kind = StepKind::ScatterNd {
        rows: cx.reg(&rows)?,
        extents: cx.shape.regs(&extents)?,
        inner: cx.reg(&inner)?,
        mode: mode(node)?,
    };
    let out = cx.own_result(node.outs[0])?;
    cx.step(kind, args, vec![out]);
    Ok(())
}

pub(super) fn scatter_elements(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let args = node.args.iter().map(|a| cx.dense(*a)).collect::<Result<Vec<_>, _>>()?;
    let kind = StepKind::ScatterElements {
        data: cx.shape.regs(&cx.graph.ty(node.args[0]).shape)?,
        shape: cx.shape.regs(&cx.graph.ty(node.args[1]).shape)?,
        axis: axis(node) as u32,
        mode: mode(node)?,
    };
    let out = cx.own_result(node.outs[0])?;
    cx.step(kind, args, vec![out]);
    Ok(())
}

pub(super) fn top_k(cx: &mut Lowering<'_>, node: &Node) -> Result<(), Failure> {
    let data = cx.dense(node.args[0])?;
    let shape = cx.graph.ty(node.args[0]).shape.clone();
    let axis = axis(node);
    let k =
        node.attrs.dims("k").first().cloned().ok_or_else(|| Failure::Invalid("top_k without k".into()))?;
    let kind = StepKind::TopK {
        outer: cx.reg(&product(&shape[..axis]))?,
        axis: cx.reg(&shape[axis])?,
        inner: cx.reg(&product(&shape[axis + 1..]))?,
        k: cx.reg(&k)?,
        largest: node.attrs.flag("largest"),
    };
    let outs = node.outs.iter().map(|o| cx.own_result(*o)).collect::<Result<Vec<_>, _>>()?;
    debug_assert_eq!(cx.graph.ty(node.outs[1]).dtype, DType::I64);
    cx.step(kind, vec![data], outs);
    Ok(())
}
