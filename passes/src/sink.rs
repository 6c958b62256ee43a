//! Movement goes behind the loops that follow it.
//!
//! An elementwise operator behind a transposed product computes in the product's own order instead, so that it becomes the
//! product's epilogue, and the movement says where the result is written (the windows of an image go back to their
//! places with the residual added). One behind a concatenation of slices (an image that is rolled) computes
//! each part where that is written, and a slice passes such a concatenation, so that no part is copied twice.

use crate::Options;
use crate::emitter::{Emitter, Keep, rebuild};
use autoglm_ir::dim::product;
use autoglm_ir::op::Fusion;
use autoglm_ir::{Attr, Attrs, DType, Dim, Graph, Node, OpId, ValueId};
use std::collections::{HashMap, HashSet};

/// Parts of a concatenation that an elementwise operator or a slice is repeated for: those of an image rolled along three axes.
const PARTS_MAX: usize = 8;
/// Concatenations within concatenations that are looked into.
const DEPTH_MAX: usize = 4;

/// Why a node is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Elementwise: this argument is moved out of the order of a product.
    Product { arg: usize },
    /// Elementwise: this argument is a concatenation of slices.
    Parts { arg: usize },
    /// A slice of a concatenation of slices along another axis.
    Slice,
}

/// Runs the pass.
pub(crate) fn run(graph: &Graph, options: &Options) -> Result<Graph, String> {
    let plans = Planner::new(graph).run();
    rebuild(graph, options, Keep::Simplified, &mut |e, node, args| {
        let plan = node.outs.first().and_then(|out| plans.get(out));
        let out = match plan {
            Some(Plan::Product { arg }) => in_order(e, node, &args, *arg)?,
            Some(Plan::Parts { arg }) => part_by_part(e, node, &args, *arg)?,
            Some(Plan::Slice) => slice_parts(e, node, args[0])?,
            None => None,
        };
        match out {
            Some(out) => Ok(vec![out]),
            None => e.emit(node.op, node.attrs.clone(), args, &node.loc),
        }
    })
}

/// What a value is, seen from the loop that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The result of a product, or of loops over it, perhaps moved; `lines`: the last axis stays as it is.
    Product { moved: bool, lines: bool },
    /// A concatenation of slices, or of loops over them.
    Parts,
    /// Anything else.
    Other,
}

struct Planner<'g> {
    graph: &'g Graph,
    /// Nodes that read each value; an output has one more that does not exist.
    readers: Vec<Vec<usize>>,
    sources: Vec<Source>,
    /// Concatenations of slices that nothing but slices along other axes reads.
    passed: HashSet<ValueId>,
    plans: HashMap<ValueId, Plan>,
}

impl<'g> Planner<'g> {
    fn new(graph: &'g Graph) -> Planner<'g> {
        let mut readers = vec![Vec::new(); graph.values.len()];
        let live = crate::live_nodes(graph);
        for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            node.args.iter().for_each(|v| readers[v.0 as usize].push(i));
        }
        graph.outputs.iter().for_each(|o| readers[o.value.0 as usize].push(graph.nodes.len()));
        let sources = vec![Source::Other; graph.values.len()];
        Planner { graph, readers, sources, passed: HashSet::new(), plans: HashMap::new() }
    }

    fn run(mut self) -> HashMap<ValueId, Plan> {
        for node in &self.graph.nodes {
            let [out] = node.outs.as_slice() else { continue };
            let (source, plan) = self.decide(node, *out);
            self.sources[out.0 as usize] = source;
            if source == Source::Parts && node.op.name() == "concat" && self.is_sliced(node, *out) {
                self.passed.insert(*out);
            }
            self.plans.extend(plan.map(|plan| (*out, plan)));
        }
        self.plans
    }

    /// What only one node reads.
    fn source(&self, v: ValueId) -> Source {
        if self.readers[v.0 as usize].len() == 1 { self.sources[v.0 as usize] } else { Source::Other }
    }

    fn decide(&self, node: &Node, out: ValueId) -> (Source, Option<Plan>) {
        let shape = |v: ValueId| &self.graph.ty(v).shape;
        match node.op.name() {
            "matmul" | "linear" if self.graph.ty(out).dtype == DType::F32 => {
                (Source::Product { moved: false, lines: true }, None)
            }
            name @ ("reshape" | "transpose") => match self.source(node.args[0]) {
                Source::Product { moved, lines } if product(shape(node.args[0])) == product(shape(out)) => {
                    let transposed = name == "transpose";
                    let last = match transposed {
                        true => node.attrs.ints("perm").last() == Some(&(shape(out).len() as i64 - 1)),
                        false => shape(node.args[0]).last() == shape(out).last(),
                    };
                    (Source::Product { moved: moved || transposed, lines: lines && last }, None)
                }
                _ => (Source::Other, None),
            },
            "concat" if self.is_parts(node) => (Source::Parts, None),
            "slice" if self.passed.contains(&node.args[0]) => (Source::Other, Some(Plan::Slice)),
            _ if node.op.def().class == Fusion::Elementwise => self.elementwise(node, out),
            _ => (Source::Other, None),
        }
    }

    fn elementwise(&self, node: &Node, out: ValueId) -> (Source, Option<Plan>) {
        let ty = self.graph.ty(out);
        for (arg, v) in node.args.iter().enumerate() {
            let others = || node.args.iter().enumerate().filter(|(i, _)| *i != arg).map(|(_, v)| *v);
            let single = |v: ValueId| self.graph.ty(v).numel().is(1);
            let whole = |v: ValueId| self.graph.ty(v).shape == ty.shape && self.graph.constant(v).is_none();
            if self.graph.ty(*v).shape != ty.shape {
                continue;
            }
            match self.source(*v) {
                source @ Source::Product { moved: false, .. } => return (source, None),
                source @ Source::Product { lines, .. }
                    if ty.dtype == DType::F32 && others().all(|v| single(v) || (lines && whole(v))) =>
                {
                    return (source, Some(Plan::Product { arg }));
                }
                Source::Parts if others().all(|v| single(v) || whole(v)) => {
                    return (Source::Parts, Some(Plan::Parts { arg }));
                }
                _ => {}
            }
        }
        (Source::Other, None)
    }

    /// A concatenation of slices, whose parts have the same extents along all other axes.
    fn is_parts(&self, node: &Node) -> bool {
        let Ok(axis) = usize::try_from(node.attrs.int("axis")) else { return false };
        let other = |v: &ValueId| {
            let mut shape = self.graph.ty(*v).shape.clone();
            shape.remove(axis);
            shape
        };
        node.args.len() <= PARTS_MAX
            && node.args.iter().all(|v| self.graph.producer(*v).is_some_and(|p| p.op.name() == "slice"))
            && node.args.iter().all(|v| other(v) == other(&node.args[0]))
    }

    /// Whether slices along other axes than that of a concatenation are all that reads it.
    fn is_sliced(&self, concat: &Node, out: ValueId) -> bool {
        let axis = concat.attrs.int("axis") as usize;
        let extent = &self.graph.ty(out).shape[axis];
        let along = |reader: &Node| reader.op.name() == "slice" && is_whole(reader, axis, extent);
        self.readers[out.0 as usize].iter().all(|i| self.graph.nodes.get(*i).is_some_and(along))
    }
}

/// Whether a slice takes all of an axis.
fn is_whole(slice: &Node, axis: usize, extent: &Dim) -> bool {
    slice.attrs.dims("starts")[axis].is(0)
        && slice.attrs.dims("sizes")[axis] == *extent
        && slice.attrs.ints("steps")[axis] == 1
}

/// One movement operator and the extents before it.
struct Moved {
    op: OpId,
    attrs: Attrs,
    before: Vec<Dim>,
}

/// f(move(x), y) = move(f(x, unmove(y))). A reshape right behind the product becomes one of its rows, so that the other
/// operands need not merge axes.
fn in_order(
    e: &mut Emitter<'_>,
    node: &Node,
    args: &[ValueId],
    arg: usize,
) -> Result<Option<ValueId>, String> {
    let (mut source, mut chain) = (args[arg], Vec::new());
    while let Some(moved) =
        e.graph.producer(source).filter(|n| matches!(n.op.name(), "reshape" | "transpose"))
    {
        let before = e.graph.ty(moved.args[0]).shape.clone();
        chain.push(Moved { op: moved.op, attrs: moved.attrs.clone(), before });
        source = moved.args[0];
    }
    if let Some(split) = chain.pop_if(|first| first.op.name() == "reshape") {
        match split_rows(e, node, source, split.attrs.dims("shape"))? {
            Some(product) => source = product,
            None if args.iter().enumerate().all(|(i, v)| i == arg || e.graph.ty(*v).numel().is(1)) => {
                chain.push(split);
            }
            None => return Ok(None),
        }
    }
    let mut inner = Vec::with_capacity(args.len());
    for (i, v) in args.iter().enumerate() {
        inner.push(if i == arg { source } else { unmoved(e, node, *v, &chain)? });
    }
    let mut out = single(e.emit(node.op, node.attrs.clone(), inner, &node.loc)?)?;
    for moved in chain.into_iter().rev() {
        out = single(e.emit(moved.op, moved.attrs, vec![out], &node.loc)?)?;
    }
    Ok(Some(out))
}

/// The product with its rows as other axes, if a reshape to `shape` does no more than that.
fn split_rows(
    e: &mut Emitter<'_>,
    node: &Node,
    source: ValueId,
    shape: &[Dim],
) -> Result<Option<ValueId>, String> {
    let Some(made) = e.graph.producer(source).filter(|n| matches!(n.op.name(), "matmul" | "linear")) else {
        return Ok(None);
    };
    let (op, attrs, mut args, loc) = (made.op, made.attrs.clone(), made.args.clone(), made.loc.clone());
    let (Some(k), Some((columns, rows))) = (e.graph.ty(args[0]).shape.last(), shape.split_last()) else {
        return Ok(None);
    };
    let own = e.graph.ty(source);
    if e.graph.ty(args[1]).rank() != 2 || e.graph.ty(args[0]).rank() < 2 || own.shape.last() != Some(columns)
    {
        return Ok(None);
    }
    let split = Attrs::new([("shape", Attr::Dims([rows, std::slice::from_ref(k)].concat()))]);
    args[0] = e.op("reshape", split, vec![args[0]], &node.loc)?;
    e.emit(op, attrs, args, &loc).and_then(single).map(Some)
}

fn single(values: Vec<ValueId>) -> Result<ValueId, String> {
    values.first().copied().ok_or_else(|| "an operator without a result".to_string())
}

/// A value before the moves of a chain, the last of which comes first; a number needs no axes.
fn unmoved(e: &mut Emitter<'_>, node: &Node, v: ValueId, chain: &[Moved]) -> Result<ValueId, String> {
    let reshape = |shape: &[Dim]| Attrs::new([("shape", Attr::Dims(shape.to_vec()))]);
    if e.graph.ty(v).numel().is(1) {
        return e.op("reshape", reshape(&[]), vec![v], &node.loc);
    }
    let mut at = v;
    for moved in chain {
        at = if moved.op.name() == "reshape" {
            e.op("reshape", reshape(&moved.before), vec![at], &node.loc)?
        } else {
            let perm = moved.attrs.ints("perm");
            let mut back = vec![0; perm.len()];
            perm.iter().enumerate().for_each(|(i, p)| back[*p as usize] = i as i64);
            e.op("transpose", Attrs::new([("perm", Attr::Ints(back))]), vec![at], &node.loc)?
        };
    }
    Ok(at)
}

/// The concatenation that gives a value: its axis and parts. None if it has too many, also within its parts.
fn parts(e: &Emitter<'_>, v: ValueId) -> Option<(usize, Vec<ValueId>)> {
    let concat = e.graph.producer(v).filter(|n| n.op.name() == "concat")?;
    let few = leaves(e, v, DEPTH_MAX).is_some_and(|leaves| leaves <= PARTS_MAX);
    few.then_some((usize::try_from(concat.attrs.int("axis")).ok()?, concat.args.clone()))
}

/// Parts that are no concatenations themselves.
fn leaves(e: &Emitter<'_>, v: ValueId, depth: usize) -> Option<usize> {
    match e.graph.producer(v).filter(|n| n.op.name() == "concat") {
        Some(concat) if concat.args.len() > PARTS_MAX || depth == 0 => None,
        Some(concat) => concat.args.iter().map(|part| leaves(e, *part, depth - 1)).sum(),
        None => Some(1),
    }
}

fn concat(e: &mut Emitter<'_>, node: &Node, axis: usize, parts: Vec<ValueId>) -> Result<ValueId, String> {
    e.op("concat", Attrs::new([("axis", Attr::Int(axis as i64))]), parts, &node.loc)
}

/// f(concat(a, b), y) = concat(f(a, y's part), f(b, y's part)), also within parts that are concatenations.
fn part_by_part(
    e: &mut Emitter<'_>,
    node: &Node,
    args: &[ValueId],
    arg: usize,
) -> Result<Option<ValueId>, String> {
    let Some((axis, pieces)) = parts(e, args[arg]) else { return Ok(None) };
    let (mut start, mut outs) = (Dim::from(0), Vec::with_capacity(pieces.len()));
    for piece in pieces {
        let shape = e.graph.ty(piece).shape.clone();
        let mut own = Vec::with_capacity(args.len());
        for (i, v) in args.iter().enumerate() {
            own.push(match i == arg {
                true => piece,
                false if e.graph.ty(*v).numel().is(1) => *v,
                false => {
                    let mut starts = vec![Dim::from(0); shape.len()];
                    starts[axis] = start.clone();
                    let attrs = cut(starts, shape.clone(), vec![1; shape.len()]);
                    e.op("slice", attrs, vec![*v], &node.loc)?
                }
            });
        }
        start = &start + &shape[axis];
        outs.push(match part_by_part(e, node, &own, arg)? {
            Some(out) => out,
            None => single(e.emit(node.op, node.attrs.clone(), own, &node.loc)?)?,
        });
    }
    concat(e, node, axis, outs).map(Some)
}

fn cut(starts: Vec<Dim>, sizes: Vec<Dim>, steps: Vec<i64>) -> Attrs {
    Attrs::new([("starts", Attr::Dims(starts)), ("sizes", Attr::Dims(sizes)), ("steps", Attr::Ints(steps))])
}

/// slice(concat(a, b)) = concat(slice(a), slice(b)) along another axis.
fn slice_parts(e: &mut Emitter<'_>, node: &Node, whole: ValueId) -> Result<Option<ValueId>, String> {
    let Some((axis, pieces)) = parts(e, whole) else { return Ok(None) };
    if !is_whole(node, axis, &e.graph.ty(whole).shape[axis]) {
        return Ok(None);
    }
    let mut outs = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let mut sizes = node.attrs.dims("sizes").to_vec();
        sizes[axis] = e.graph.ty(piece).shape[axis].clone();
        let attrs = cut(node.attrs.dims("starts").to_vec(), sizes, node.attrs.ints("steps").to_vec());
        // What this slice reads of a concatenation that was a slice itself nothing else reads.
        let part = Node { attrs: attrs.clone(), ..node.clone() };
        outs.push(match slice_parts(e, &part, piece)? {
            Some(out) => out,
            None => e.op("slice", attrs, vec![piece], &node.loc)?,
        });
    }
    concat(e, node, axis, outs).map(Some)
}
