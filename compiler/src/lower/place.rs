//! Where values are, and where steps write their results.
//!
//! Every value of the graph has a [`Place`]: a view of a value of the program. Movement operators give a new view of the
//! same memory; a consumer that cannot read a view gets a dense copy, which all such consumers share. A step
//! writes its result where it is needed: into its part of a concatenation, or in the order of a transpose that follows.

use super::fusion::{Plan, Use};
use super::view::{Move, View, inverse};
use super::{Failure, Lowering};
use autoglm_ir::op::Fusion;
use autoglm_ir::{DType, Def, Dim, Graph, Node, ValueId, interp};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::program::{self as rt, Storage};

/// The elements of a value of the graph within a value of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Value of the program.
    pub(super) id: rt::ValueId,
    /// Its elements there.
    pub(super) view: View,
}

/// Where the result of a step is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// Argument `at` of this `concat` node.
    Part {
        /// Index of the node.
        node: usize,
        /// Position in its arguments.
        at: usize,
    },
    /// In the middle of the padded tensor that this `pad` or `conv` node makes of its first argument.
    Inside {
        /// Index of the node.
        node: usize,
    },
    /// In the order of the result of this transpose or reshape, its only consumer.
    Behind {
        /// Index of the node.
        node: usize,
    },
}

/// Which strides a step can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Any that meet no element twice.
    Any,
    /// Any whose last axis is contiguous.
    Lines,
    /// Lines with one stride between them.
    Rows,
}

impl Writes {
    fn accepts(self, view: &View) -> bool {
        match self {
            Writes::Any => true,
            Writes::Lines => view.has_lines(),
            Writes::Rows => view.rows().is_some(),
        }
    }
}

/// Decides for every value where it is needed.
pub(super) fn sinks(graph: &Graph, plan: &Plan) -> Vec<Option<Sink>> {
    let mut sinks = vec![None; graph.values.len()];
    // Consumers first: what they want of their results decides what they want of their arguments.
    for node in graph.nodes.iter().enumerate().rev().filter(|(i, _)| plan.live[*i]).map(|(_, n)| n) {
        for out in &node.outs {
            sinks[out.0 as usize] = sink(graph, plan, &sinks, *out);
        }
    }
    sinks
}

/// Keeps of the sinks only those that the layout of the kernels asks for: a convolution reads its input with a border, which
/// belongs to the layout if `borders`.
pub(super) fn keep_borders(graph: &Graph, sinks: &mut [Option<Sink>], borders: bool) {
    for sink in sinks {
        let inside = |node: usize| borders && graph.nodes[node].attrs.str("layout") == "nhwc";
        if !matches!(sink, Some(Sink::Inside { node }) if inside(*node)) {
            *sink = None;
        }
    }
}

fn sink(graph: &Graph, plan: &Plan, sinks: &[Option<Sink>], v: ValueId) -> Option<Sink> {
    if plan.is_output[v.0 as usize] || plan.inline[v.0 as usize] {
        return None;
    }
    let uses = plan.uses(v);
    // An argument that occurs twice has to be copied, which is cheaper from outside.
    let once = |u: &Use| uses.iter().filter(|o| o.node == u.node).count() == 1;
    let concat = |u: &&Use| graph.nodes[u.node].op.name() == "concat" && once(u);
    if let Some(u) = uses.iter().find(concat) {
        let node = &graph.nodes[u.node];
        let part = part(graph, node, u.at, &View::dense(&graph.ty(node.outs[0]).shape));
        let mut others = uses.iter().filter(|o| o.node != u.node);
        let readable = others.all(|o| can_read(graph, plan, o, &part));
        return readable.then_some(Sink::Part { node: u.node, at: u.at });
    }
    let pads = |u: &&Use| u.at == 0 && padding(graph, &graph.nodes[u.node]).is_some();
    if let Some(u) = uses.iter().find(pads) {
        let inside = inside(graph, &graph.nodes[u.node])?;
        let mut others = uses.iter().filter(|o| (o.node, o.at) != (u.node, u.at));
        let readable = others.all(|o| can_read(graph, plan, o, &inside));
        return readable.then_some(Sink::Inside { node: u.node });
    }
    let [u] = uses else { return None };
    let node = &graph.nodes[u.node];
    let moved = Move::of(node)?;
    let out = *node.outs.first()?;
    let behind = Some(Sink::Behind { node: u.node });
    match moved {
        Move::Permute(_) | Move::Reshape(_) if sinks[out.0 as usize].is_some() => behind,
        Move::Permute(perm) => {
            let view = View::dense(&graph.ty(v).shape).permute(&perm);
            // A step that writes another order than its own is slower, so only where that saves a copy.
            if is_readable(graph, plan, out, &view) { None } else { behind }
        }
        _ => None,
    }
}

/// The part of a concatenation that is one of its arguments, with the argument's extents: those of the other axes may be
/// the result's by a guard only.
pub(super) fn part(graph: &Graph, concat: &Node, at: usize, whole: &View) -> View {
    let axis = concat.attrs.int("axis") as usize;
    let shape = |v: &ValueId| graph.ty(*v).shape.clone();
    let start = concat.args[..at].iter().fold(Dim::from(0), |sum, v| &sum + &shape(v)[axis]);
    let own = shape(&concat.args[at]);
    View { shape: own.clone(), ..whole.part(axis, &start, &own[axis]) }
}

/// Elements that a node adds before and after its first argument along each axis, if it makes a padded tensor of that.
pub(super) fn padding(graph: &Graph, node: &Node) -> Option<(Vec<Dim>, Vec<Dim>)> {
    let (before, after) = match node.op.name() {
        "pad" => (node.attrs.dims("before").to_vec(), node.attrs.dims("after").to_vec()),
        "conv" => {
            let rank = graph.ty(node.args[0]).shape.len();
            let nhwc = node.attrs.str("layout") == "nhwc";
            super::conv::pads(node, rank, if nhwc { 1 } else { 2 })
        }
        _ => return None,
    };
    let all = || before.iter().chain(&after);
    // Negative numbers cut.
    let adds = all().all(|d| d.as_const().is_some_and(|d| d >= 0)) && all().any(|d| !d.is(0));
    adds.then_some((before, after))
}

/// The argument within the padded tensor that a node makes of it, which is dense.
fn inside(graph: &Graph, node: &Node) -> Option<View> {
    let (before, after) = padding(graph, node)?;
    let shape = &graph.ty(node.args[0]).shape;
    let whole = View::dense(&super::movement::padded_shape(shape, &before, &after));
    Some(whole.slice(&before, shape, &vec![1; shape.len()]))
}

/// Whether everything that reads a value can read it through this view.
fn is_readable(graph: &Graph, plan: &Plan, v: ValueId, view: &View) -> bool {
    !plan.is_output[v.0 as usize] && plan.uses(v).iter().all(|u| can_read(graph, plan, u, view))
}

/// Whether a step reads an argument through this view without a copy.
fn can_read(graph: &Graph, plan: &Plan, u: &Use, view: &View) -> bool {
    let node = &graph.nodes[u.node];
    if node.op.def().class == Fusion::Elementwise {
        return true;
    }
    if let Some(moved) = Move::of(node) {
        let next = view.apply(&moved);
        return next.is_some_and(|next| is_readable(graph, plan, node.outs[0], &next));
    }
    if (node.op.name(), u.at) == ("gather", 0) {
        let next = super::index::gathered(graph, node, view);
        return next.is_some_and(|next| is_readable(graph, plan, node.outs[0], &next));
    }
    let f32_arg = graph.ty(node.args[0]).dtype == DType::F32;
    let nhwc = node.attrs.str("layout") == "nhwc";
    match (node.op.name(), u.at) {
        ("matmul" | "linear", 0) => !f32_arg || view.has_lines(),
        ("matmul" | "linear", 1) => true,
        ("gather_matmul", at) => at > 0 || view.has_lines(),
        ("conv", 0) => !nhwc || view.has_lines() || node.attrs.ints("pads").iter().any(|p| *p != 0),
        ("max_pool" | "avg_pool", 0) => !nhwc || view.has_lines(),
        ("softmax" | "layer_norm", 0) => view.rows().is_some(),
        ("recurrent", 0) => !f32_arg || view.has_lines(),
        ("recurrent", at) => super::recurrent::reads_views(node, at),
        ("concat" | "pad" | "attention" | "rope" | "cum_sum", _) => true,
        (name, _) => name.starts_with("reduce_") || name.starts_with("arg_"),
    }
}

impl Lowering<'_> {
    /// Where a value is; constants are stored on first use.
    pub(super) fn place(&mut self, v: ValueId) -> Result<Place, Failure> {
        if let Some(place) = &self.places[v.0 as usize] {
            return Ok(place.clone());
        }
        let Def::Const(id) = self.graph.value(v).def else {
            return Err(Failure::Invalid(format!("value {} has not been computed", v.0)));
        };
        if let Some(done) = self.consts.get(&id) {
            return Ok(done.clone());
        }
        let tensor = interp::const_tensor(self.graph, id).map_err(Failure::Invalid)?;
        let dims: Vec<Dim> = tensor.shape.iter().map(|d| Dim::from(*d)).collect();
        let id_of_value = self.store(tensor.dtype, &dims, &tensor.data)?;
        let place = Place { id: id_of_value, view: View::dense(&dims) };
        self.consts.insert(id, place.clone());
        Ok(place)
    }

    /// Where a value is, if a step that needs `accepts` can read that, else where a dense copy of it is.
    pub(super) fn readable(&mut self, v: ValueId, accepts: impl Fn(&View) -> bool) -> Result<Place, Failure> {
        let place = self.place(v)?;
        if accepts(&place.view) {
            return Ok(place);
        }
        let id = self.dense(v)?;
        Ok(Place { id, view: View::dense(&place.view.shape) })
    }

    /// A value of the program that holds exactly the elements of a value, in order.
    pub(super) fn dense(&mut self, v: ValueId) -> Result<rt::ValueId, Failure> {
        let place = self.place(v)?;
        if self.is_whole(&place) {
            return Ok(place.id);
        }
        if let Some(id) = self.copies.get(&v) {
            return Ok(*id);
        }
        let ty = self.graph.ty(v);
        let copy = self.temp(ty.dtype, &ty.shape)?;
        self.copy(&place, &copy)?;
        self.copies.insert(v, copy.id);
        Ok(copy.id)
    }

    /// Whether a place is all of its value of the program, in order.
    pub(super) fn is_whole(&self, place: &Place) -> bool {
        place.view.offset.is(0)
            && place.view.is_dense()
            && self.shapes.get(place.id as usize).map(autoglm_ir::dim::product) == Some(place.view.numel())
    }

    /// Where a step that reads `reads` writes a result of the graph.
    pub(super) fn target(
        &mut self,
        v: ValueId,
        reads: &[rt::ValueId],
        writes: Writes,
    ) -> Result<Place, Failure> {
        let graph = self.graph;
        self.target_as(v, reads, writes, &graph.ty(v).shape)
    }

    /// As [`Self::target`] for a step that sees the result under the extents `shape`; the place has these.
    pub(super) fn target_as(
        &mut self,
        v: ValueId,
        reads: &[rt::ValueId],
        writes: Writes,
        shape: &[Dim],
    ) -> Result<Place, Failure> {
        let seen = |place: &Place| place.view.reshape(shape).map(|view| Place { id: place.id, view });
        if let Some(place) = self.wanted(v)?
            && let Some(target) = seen(&place).filter(|target| self.is_free(target, reads, writes))
        {
            self.bind(v, place);
            return Ok(target);
        }
        let ty = self.graph.ty(v);
        let place = self.temp(ty.dtype, &ty.shape)?;
        let target = Place { id: place.id, view: View::dense(shape) };
        self.bind(v, place);
        Ok(target)
    }

    /// Where the result of the reshape that follows a product is needed, if strides express that but not where the
    /// product's own result would be.
    pub(super) fn split_target(
        &mut self,
        v: ValueId,
        reads: &[rt::ValueId],
    ) -> Result<Option<Place>, Failure> {
        let Some(Sink::Behind { node }) = self.sinks[v.0 as usize] else { return Ok(None) };
        let node = &self.graph.nodes[node];
        if node.op.name() != "reshape" || self.wanted(v)?.is_some() {
            return Ok(None);
        }
        let place = self.whole(node.outs[0])?;
        Ok(Some(place).filter(|place| self.is_free(place, reads, Writes::Lines)))
    }

    /// Says where the result of the reshape that follows a value is; the value itself is nowhere.
    pub(super) fn bind_reshaped(&mut self, v: ValueId, place: Place) {
        if let Some(Sink::Behind { node }) = self.sinks[v.0 as usize] {
            self.bind(self.graph.nodes[node].outs[0], place);
        }
    }

    /// Whether a step that reads `reads` can write to a place: no step reads and writes the same memory.
    pub(super) fn is_free(&self, place: &Place, reads: &[rt::ValueId], writes: Writes) -> bool {
        let root = self.root(place.id);
        writes.accepts(&place.view) && reads.iter().all(|r| self.root(*r) != root)
    }

    /// Whether a place is the middle of what a `pad` node makes of it.
    pub(super) fn is_inside(&self, node: &Node, place: &Place, whole: &Place) -> bool {
        let Some((before, _)) = padding(self.graph, node) else { return false };
        let shape = &self.graph.ty(node.args[0]).shape;
        place.id == whole.id && whole.view.slice(&before, shape, &vec![1; shape.len()]).is_same(&place.view)
    }

    /// Where a value is needed, if anywhere.
    fn wanted(&mut self, v: ValueId) -> Result<Option<Place>, Failure> {
        match self.sinks[v.0 as usize] {
            None => Ok(None),
            Some(Sink::Part { node, at }) => {
                let concat = &self.graph.nodes[node];
                let whole = self.whole(concat.outs[0])?;
                let view = part(self.graph, concat, at, &whole.view);
                Ok(Some(Place { id: whole.id, view }))
            }
            Some(Sink::Inside { node }) => {
                let node = &self.graph.nodes[node];
                let Some((before, after)) = padding(self.graph, node) else { return Ok(None) };
                let whole = if node.op.name() == "pad" {
                    self.whole(node.outs[0])?
                } else {
                    self.padded_input(v, (&before, &after))?
                };
                let shape = &self.graph.ty(v).shape;
                let view = whole.view.slice(&before, shape, &vec![1; shape.len()]);
                Ok(Some(Place { id: whole.id, view }))
            }
            Some(Sink::Behind { node }) => {
                let node = &self.graph.nodes[node];
                let (out, shape) = (node.outs[0], &self.graph.ty(v).shape);
                let behind = self.whole(out)?;
                let view = match Move::of(node) {
                    Some(Move::Permute(perm)) => Some(behind.view.permute(&inverse(&perm))),
                    Some(Move::Reshape(_)) => behind.view.reshape(shape),
                    _ => None,
                };
                Ok(view.map(|view| Place { id: behind.id, view }))
            }
        }
    }

    /// Where a value that other steps write in parts is: where it is needed, or in memory of its own.
    pub(super) fn whole(&mut self, v: ValueId) -> Result<Place, Failure> {
        if let Some(place) = self.wholes.get(&v) {
            return Ok(place.clone());
        }
        let place = match self.wanted(v)? {
            Some(place) => place,
            None => {
                let ty = self.graph.ty(v);
                self.temp(ty.dtype, &ty.shape)?
            }
        };
        self.wholes.insert(v, place.clone());
        Ok(place)
    }

    /// The tensor that a convolution makes of an argument by padding, shared by all that pad it alike.
    pub(super) fn padded_input(
        &mut self,
        v: ValueId,
        (before, after): (&[Dim], &[Dim]),
    ) -> Result<Place, Failure> {
        let key = (v, before.to_vec(), after.to_vec());
        if let Some(place) = self.paddings.get(&key) {
            return Ok(place.clone());
        }
        let ty = self.graph.ty(v);
        let shape = super::movement::padded_shape(&ty.shape, before, after);
        let place = self.temp(ty.dtype, &shape)?;
        self.paddings.insert(key, place.clone());
        Ok(place)
    }

    /// A new dense value in the arena.
    pub(super) fn temp(&mut self, dtype: DType, dims: &[Dim]) -> Result<Place, Failure> {
        self.temp_of(super::elem(dtype)?, dims)
    }

    /// As [`Self::temp`], for an element type of the program.
    pub(super) fn temp_of(&mut self, elem: ElemType, dims: &[Dim]) -> Result<Place, Failure> {
        let id = self.push_value(elem, dims, Storage::Temp)?;
        Ok(Place { id, view: View::dense(dims) })
    }

    /// The value whose memory a value uses.
    pub(super) fn root(&self, id: rt::ValueId) -> rt::ValueId {
        match self.program.values[id as usize].storage {
            Storage::Alias(of) => self.root(of),
            _ => id,
        }
    }
}
