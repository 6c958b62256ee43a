//! Products whose result is needed where one product cannot write it: with other rows, or column by column.

use super::epilogue::Tail;
use super::place::Place;
use super::view::View;
use super::{Failure, Lowering};
use autoglm_ir::{Dim, Node};
use autoglm_runtime::program as rt;
use std::ops::Range;

/// Fewer rows than this at a time cost a product more than copying its result.
const ROWS_MIN: i64 = 4;
/// As for rows: a kernel computes this many columns in the time that it takes for fewer.
const COLUMNS_MIN: usize = 16;
/// Most products that one becomes.
const PARTS_MAX: usize = 64;

/// A product whose rows are split into more axes.
pub(super) struct Rows {
    pub(super) a: View,
    pub(super) reads: Vec<View>,
    pub(super) out: Place,
}

/// Where a reshape that only splits the rows follows, and the step can write its result where that is needed but not its own
/// (the windows of an image, say): the product with the rows of that reshape.
pub(super) fn rows(
    cx: &mut Lowering<'_>,
    node: &Node,
    args: &[rt::ValueId],
    (a, reads): (&Place, &[View]),
) -> Result<Option<Rows>, Failure> {
    let result = cx.result_of(node);
    let shape = &cx.graph.ty(node.outs[0]).shape;
    if cx.graph.ty(result).shape != *shape {
        return Ok(None);
    }
    let Some(out) = cx.split_target(result, args)? else { return Ok(None) };
    let Some((columns, rows)) = out.view.shape.split_last() else { return Ok(None) };
    if shape.last() != Some(columns) || few(rows) {
        return Ok(None);
    }
    let a = a.view.reshape(&[rows, &a.view.shape[a.view.shape.len() - 1..]].concat());
    let reads: Option<Vec<View>> = reads.iter().map(|r| r.reshape(&out.view.shape)).collect();
    let (Some(a), Some(reads)) = (a, reads) else { return Ok(None) };
    cx.bind_reshaped(result, out.clone());
    Ok(Some(Rows { a, reads, out }))
}

fn few(rows: &[Dim]) -> bool {
    rows.last().and_then(Dim::as_const).is_some_and(|m| m < ROWS_MIN)
}

/// The product of some columns.
pub(super) struct Part {
    pub(super) columns: Range<usize>,
    pub(super) a: Place,
    pub(super) reads: Vec<View>,
    pub(super) out: Place,
}

/// Where a reshape follows that splits the columns into groups which are needed apart (as the pixels of a block that a
/// transposed convolution makes of one): a product for each group.
pub(super) fn columns(
    cx: &mut Lowering<'_>,
    node: &Node,
    a: &Place,
    tail: Option<&Tail>,
) -> Result<Option<Vec<Part>>, Failure> {
    let result = cx.result_of(node);
    let shape = &cx.graph.ty(node.outs[0]).shape;
    let bias_is_known = node.args.get(2).is_none_or(|bias| cx.graph.constant(*bias).is_some());
    let all = shape.last().and_then(Dim::as_usize);
    let Some(all) = all.filter(|_| bias_is_known && cx.graph.ty(result).shape == *shape) else {
        return Ok(None);
    };
    let args: Vec<rt::ValueId> = [a.id].into_iter().chain(tail.iter().flat_map(|t| t.args.clone())).collect();
    let Some(whole) = cx.split_target(result, &args)? else { return Ok(None) };
    let Some((at, groups)) = trailing(&whole.view.shape, all) else { return Ok(None) };
    let (rows, own) = (&whole.view.shape[..at], all / groups.iter().product::<usize>().max(1));
    let k = &a.view.shape[a.view.shape.len() - 1..];
    let (a_view, reads) = (a.view.reshape(&[rows, k].concat()), tail.map_or(&[][..], |t| &t.reads));
    let reads: Option<Vec<View>> = reads.iter().map(|r| r.reshape(&whole.view.shape)).collect();
    let (Some(a_view), Some(reads)) = (a_view, reads) else { return Ok(None) };
    let count = groups.iter().product::<usize>();
    if own < COLUMNS_MIN || !(2..=PARTS_MAX).contains(&count) || few(rows) {
        return Ok(None);
    }
    let shape = [rows, &[Dim::from(own)]].concat();
    let part = |view: &View, number: usize| -> Option<View> {
        let mut starts = vec![Dim::from(0); view.shape.len()];
        let (mut sizes, mut rest) = (view.shape.clone(), number);
        for (i, group) in groups.iter().enumerate().rev() {
            (starts[at + i], sizes[at + i]) = (Dim::from(rest % group), Dim::from(1));
            rest /= group;
        }
        view.slice(&starts, &sizes, &vec![1; starts.len()]).reshape(&shape)
    };
    let parts: Option<Vec<Part>> = (0..count)
        .map(|i| {
            Some(Part {
                columns: i * own..(i + 1) * own,
                a: Place { id: a.id, view: a_view.clone() },
                reads: reads.iter().map(|r| part(r, i)).collect::<Option<_>>()?,
                out: Place { id: whole.id, view: part(&whole.view, i)? },
            })
        })
        .collect();
    if parts.is_some() {
        cx.bind_reshaped(result, whole);
    }
    Ok(parts)
}

/// Where the axes begin that are `all` columns together, and the extents of all of them but the last.
fn trailing(shape: &[Dim], all: usize) -> Option<(usize, Vec<usize>)> {
    let mut groups = Vec::new();
    let mut product = shape.last()?.as_usize()?;
    for (at, extent) in shape.iter().enumerate().rev().skip(1) {
        if product == all {
            break;
        }
        let extent = extent.as_usize()?;
        product = product.checked_mul(extent)?;
        groups.insert(0, extent);
        if product == all {
            return Some((at, groups));
        }
    }
    None
}
