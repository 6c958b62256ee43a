//! From the graph to the program that an engine stores.
//!
//! Every node becomes steps through one row of [`LOWER`]. [`fusion`] decides which nodes get no step because others compute
//! them, [`place`] where every value is and where steps write.

mod attention;
mod conv;
mod elementwise;
mod epilogue;
mod fusion;
mod gather_matmul;
mod index;
mod matmul;
mod movement;
mod norm;
mod place;
mod pool;
mod recurrent;
mod reduce;
mod rope;
mod shape;
mod split;
mod tile;
mod view;
mod weights;

use crate::codes;
use autoglm_ir::{Cond, ConstId, DType, Dim, Graph, Node, OpId, Tensor, ValueId, interp};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::program as rt;
use place::Place;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use view::{Move, View};

pub use fusion::Fusion;
pub(crate) use matmul::f32s;
pub use weights::WeightZeros;

/// Takes the bytes of weights as they are made, so that they need not all be in memory.
pub trait WeightSink {
    /// Stores bytes; gives their offset in the weights section, 64-byte aligned, and their length.
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<(u64, u64)>;
}

/// A node that could not be lowered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {op} {loc:?}: {message}")]
pub struct LowerError {
    /// One of [`codes`], `E04xx`.
    pub code: &'static str,
    /// Operator.
    pub op: String,
    /// ONNX node.
    pub loc: String,
    /// What is wrong.
    pub message: String,
}

/// Lowers one node: emits its steps and binds its results.
type Lower = fn(&mut Lowering<'_>, &Node) -> Result<(), Failure>;

/// Why a node could not be lowered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A feature that the runtime lacks.
    Unsupported(String),
    /// A bug or an input that breaks an invariant.
    Invalid(String),
    /// A size beyond what an engine can hold.
    TooLarge(String),
    /// The engine file could not be written.
    Io(std::io::Error),
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Invalid(message)
    }
}

/// How each operator is lowered; elementwise operators and reductions are lowered by their class.
static LOWER: &[(&str, Lower)] = &[
    ("reshape", movement::view),
    ("transpose", movement::view),
    ("expand", movement::view),
    ("slice", movement::view),
    ("concat", movement::concat),
    ("pad", movement::pad),
    ("dims", movement::dims),
    ("iota", movement::iota),
    ("gather", index::gather),
    ("gather_nd", index::gather_nd),
    ("gather_elements", index::gather_elements),
    ("scatter_nd", index::scatter_nd),
    ("scatter_elements", index::scatter_elements),
    ("top_k", index::top_k),
    ("matmul", matmul::matmul),
    ("linear", matmul::matmul),
    ("gather_matmul", gather_matmul::gather_matmul),
    ("attention", attention::attention),
    ("rope", rope::rope),
    ("recurrent", recurrent::recurrent),
    ("conv", conv::conv),
    ("max_pool", pool::pool),
    ("avg_pool", pool::pool),
    ("softmax", norm::softmax),
    ("layer_norm", norm::layer_norm),
    ("reduce_sum", reduce::reduce),
    ("reduce_prod", reduce::reduce),
    ("reduce_max", reduce::reduce),
    ("reduce_min", reduce::reduce),
    ("arg_max", reduce::reduce),
    ("arg_min", reduce::reduce),
    ("cum_sum", reduce::cum_sum),
];

/// What the lowering may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which nodes are computed inside the steps of others.
    pub fusion: Fusion,
    /// Movement operators are views, and results are written where they are needed. Reshapes of dense tensors always are.
    pub views: bool,
    /// Weights are stored without zeros that form a pattern; a zero that is not stored is no factor of an infinity.
    pub sparse: bool,
    /// Steps write their results over arguments that nothing reads later.
    pub in_place: bool,
}

impl Options {
    /// Everything that makes the program faster.
    pub const FAST: Options = Options { fusion: Fusion::All, views: true, in_place: true, sparse: true };
    /// One step an ONNX node, as far as there is a kernel for all of it.
    pub const BASELINE: Options =
        Options { fusion: Fusion::OneNode, views: false, in_place: false, sparse: false };
    /// One step a node of the graph.
    pub const PLAIN: Options = Options { fusion: Fusion::None, views: false, in_place: true, sparse: false };
}

/// What of a constant a kernel reads, and in which layout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packing {
    /// The weight of a convolution with this number of groups.
    Conv(usize),
    /// The weight of a convolution by Winograd's algorithm.
    Winograd,
    /// These columns of a matrix; as they are for a bias.
    Columns(std::ops::Range<usize>),
    /// Matrices, one after the other.
    Stack,
    /// The recurrent weights of this number of gates.
    Gates(usize),
}

/// State of a lowering.
pub(crate) struct Lowering<'g> {
    pub(crate) graph: &'g Graph,
    options: Options,
    plan: fusion::Plan,
    sinks: Vec<Option<place::Sink>>,
    shape: shape::ShapeBuilder<'g>,
    program: rt::Program,
    /// Extents of each value of the program.
    shapes: Vec<Vec<Dim>>,
    /// Where the values of the graph are, as far as they have been computed.
    places: Vec<Option<Place>>,
    /// Where values that are written in parts go.
    wholes: HashMap<ValueId, Place>,
    /// Padded tensors by what they are made of and the padding.
    paddings: HashMap<(ValueId, Vec<Dim>, Vec<Dim>), Place>,
    /// Padded tensors whose border has been filled.
    filled: HashSet<rt::ValueId>,
    /// Dense copies of values that are views.
    copies: HashMap<ValueId, rt::ValueId>,
    consts: HashMap<ConstId, Place>,
    /// Packed forms of constants.
    packed: HashMap<(ConstId, Packing), weights::Packed>,
    /// Constants of one element.
    scalars: HashMap<ConstId, Tensor>,
    tiles: HashMap<String, u32>,
    /// The step that last wrote parts of a value in loops, and what these are.
    parts: Option<(usize, tile::Parts)>,
    /// Zeros of the weights.
    zeros: Vec<WeightZeros>,
    weights: &'g mut dyn WeightSink,
    /// ONNX name and operator of the node that is lowered.
    loc: String,
    op: &'static str,
    /// Operators that the next step computes besides that of the node.
    pending: Vec<&'static str>,
    /// Operators that each step computes.
    ops: Vec<Vec<&'static str>>,
}

/// A lowered graph.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The program.
    pub program: rt::Program,
    /// Its values that hold a value with an ONNX name, in execution order.
    pub names: Vec<NamedValue>,
    /// For each step the IR operators that it computes, in order; `copy` and `fill` stand for loops that only move elements or set
    /// them to a number.
    pub ops: Vec<Vec<&'static str>>,
    /// Zeros of the constant weights that are large enough to matter, in execution order.
    pub zeros: Vec<WeightZeros>,
}

/// A value of the graph that the program computes as a value of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    /// ONNX name of the value.
    pub name: String,
    /// ONNX name of the node that computes it.
    pub node: String,
    /// The program's value.
    pub value: rt::ValueId,
    /// Axis `i` of the named value is axis `perm[i]` of the program's.
    pub perm: Vec<usize>,
}

/// Lowers a whole graph; weights go to the sink as they are made.
pub fn lower(
    graph: &Graph,
    options: Options,
    weights: &mut dyn WeightSink,
) -> Result<rt::Program, Vec<LowerError>> {
    lower_described(graph, options, weights).map(|lowered| lowered.program)
}

/// As [`lower`], with what the program says of the graph.
pub fn lower_described(
    graph: &Graph,
    options: Options,
    weights: &mut dyn WeightSink,
) -> Result<Lowered, Vec<LowerError>> {
    let plan = fusion::Plan::of(graph, options.fusion);
    let mut sinks = place::sinks(graph, &plan);
    if !options.views {
        place::keep_borders(graph, &mut sinks, options.fusion == Fusion::OneNode);
    }
    let mut lowering = Lowering {
        graph,
        options,
        plan,
        sinks,
        shape: shape::ShapeBuilder::new(graph),
        program: rt::Program { separate: !options.in_place, ..rt::Program::default() },
        shapes: Vec::new(),
        places: vec![None; graph.values.len()],
        wholes: HashMap::new(),
        paddings: HashMap::new(),
        filled: HashSet::new(),
        copies: HashMap::new(),
        consts: HashMap::new(),
        packed: HashMap::new(),
        scalars: HashMap::new(),
        tiles: HashMap::new(),
        parts: None,
        zeros: Vec::new(),
        weights,
        loc: String::new(),
        op: "",
        pending: Vec::new(),
        ops: Vec::new(),
    };
    let whole = |f: Failure| vec![error(f, "graph", &graph.name)];
    lowering.inputs().map_err(whole)?;
    let mut errors = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        if !lowering.plan.live[i] || lowering.plan.is_virtual(node) {
            continue;
        }
        // The step of an epilogue is that of the contraction or reduction before it.
        let node = lowering.plan.anchors[i].map_or(node, |anchor| &graph.nodes[anchor]);
        (lowering.loc, lowering.op) = (node.loc.to_string(), node.op.name());
        if let Err(failure) = lowering.node(node) {
            errors.push(error(failure, node.op.name(), &node.loc));
            // What follows would only report that its argument is missing.
            break;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    lowering.outputs().and_then(|()| lowering.guards()).map_err(whole)?;
    let names = lowering.names();
    lowering.program.shape = lowering.shape.program;
    let zeros = lowering.zeros;
    Ok(Lowered { program: lowering.program, names, ops: lowering.ops, zeros })
}

fn error(failure: Failure, op: &str, loc: &str) -> LowerError {
    let (code, message) = match failure {
        Failure::Unsupported(m) => (codes::LOWER_UNSUPPORTED, m),
        Failure::Invalid(m) => (codes::LOWER_INVALID, m),
        Failure::TooLarge(m) => (codes::LOWER_TOO_LARGE, m),
        Failure::Io(e) => (codes::LOWER_IO, format!("the engine could not be written: {e}")),
    };
    LowerError { code, op: op.into(), loc: loc.into(), message }
}

/// The engine's element type for an IR element type; none for strings.
pub fn elem_type(dtype: DType) -> Option<ElemType> {
    elem(dtype).ok()
}

/// As [`elem_type`], with the reason.
pub(crate) fn elem(dtype: DType) -> Result<ElemType, Failure> {
    use ElemType as E;
    Ok(match dtype {
        DType::F32 => E::F32,
        DType::F64 => E::F64,
        DType::F16 => E::F16,
        DType::BF16 => E::BF16,
        DType::I64 => E::I64,
        DType::I32 => E::I32,
        DType::I16 => E::I16,
        DType::I8 => E::I8,
        DType::I4 => E::I4,
        DType::I2 => E::I2,
        DType::U64 => E::U64,
        DType::U32 => E::U32,
        DType::U16 => E::U16,
        DType::U8 => E::U8,
        DType::U4 => E::U4,
        DType::U2 => E::U2,
        DType::Bool => E::Bool,
        DType::F8E4M3FN => E::F8E4M3FN,
        DType::F8E4M3FNUZ => E::F8E4M3FNUZ,
        DType::F8E5M2 => E::F8E5M2,
        DType::F8E5M2FNUZ => E::F8E5M2FNUZ,
        DType::F8E8M0 => E::F8E8M0,
        DType::F4E2M1 => E::F4E2M1,
        DType::Str => return Err(Failure::Unsupported("string tensors have no kernels".into())),
    })
}

impl Lowering<'_> {
    fn names(&self) -> Vec<NamedValue> {
        let outs = self.graph.nodes.iter().flat_map(|node| node.outs.iter().map(move |out| (node, *out)));
        let named = outs.filter_map(|(node, out)| {
            let name = &self.graph.value(out).name;
            let rank = self.graph.ty(out).rank();
            let found = self.own(out).map(|id| (id, (0..rank).collect()));
            let (value, perm) = found.or_else(|| self.own_in_other_order(node))?;
            let node = node.loc.to_string();
            (!name.is_empty()).then(|| NamedValue { name: name.clone(), node, value, perm })
        });
        named.collect()
    }

    /// The program's value that holds exactly a value of the graph.
    fn own(&self, v: ValueId) -> Option<rt::ValueId> {
        let (shape, place) = (&self.graph.ty(v).shape, self.places[v.0 as usize].as_ref()?);
        let own = self.program.values[place.id as usize].storage == rt::Storage::Temp
            && self.shapes[place.id as usize] == *shape
            && place.view == View::dense(shape);
        own.then_some(place.id)
    }

    /// The program's value that a transpose which no step computes reads, and the order of its axes.
    fn own_in_other_order(&self, node: &Node) -> Option<(rt::ValueId, Vec<usize>)> {
        let Some(Move::Permute(perm)) = Move::of(node) else { return None };
        Some((self.own(node.args[0])?, perm))
    }

    fn inputs(&mut self) -> Result<(), Failure> {
        for &input in &self.graph.inputs {
            let value = self.graph.value(input);
            let index = self.program.inputs.len() as u32;
            // An input's extents are what the caller brings; what was declared is a guard.
            let mut dims = Vec::new();
            for (axis, declared) in value.ty.shape.iter().enumerate() {
                let actual = self.shape.program.ops.len() as rt::Reg;
                self.shape.program.ops.push(rt::ShapeOp::InputDim { input: index, axis: axis as u32 });
                let reg = self.shape.reg(declared)?;
                self.shape.program.guards.push(rt::Guard {
                    cond: rt::Cond::Eq(actual, reg),
                    message: format!("input {:?}: extent of axis {axis} must be {declared}", value.name),
                });
                dims.push(reg);
            }
            let id = self.program.values.len() as rt::ValueId;
            let storage = rt::Storage::Input(index);
            self.program.values.push(rt::Value { elem: elem(value.ty.dtype)?, dims, storage });
            self.shapes.push(value.ty.shape.clone());
            self.program.inputs.push(port(&value.name, id, &value.ty.shape));
            self.bind(input, Place { id, view: View::dense(&value.ty.shape) });
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<(), Failure> {
        for output in &self.graph.outputs {
            let place = self.place(output.value)?;
            let ty = self.graph.ty(output.value);
            let direct = self.is_whole(&place)
                && self.program.values[place.id as usize].storage == rt::Storage::Temp
                && self.program.outputs.iter().all(|o| o.value != place.id);
            let id = if direct {
                // The steps that wrote it may have seen it under other extents.
                self.program.values[place.id as usize].dims = self.shape.regs(&ty.shape)?;
                place.id
            } else {
                let copy = self.temp(ty.dtype, &ty.shape)?;
                self.copy(&place, &copy)?;
                copy.id
            };
            self.program.outputs.push(port(&output.name, id, &ty.shape));
        }
        Ok(())
    }

    /// Bounds of symbols come first: what the model requires may fail only because of them.
    fn guards(&mut self) -> Result<(), Failure> {
        self.bounds()?;
        for guard in &self.graph.guards {
            let cond = match &guard.cond {
                Cond::Eq(a, b) => rt::Cond::Eq(self.shape.reg(a)?, self.shape.reg(b)?),
                Cond::Le(a, b) => rt::Cond::Le(self.shape.reg(a)?, self.shape.reg(b)?),
                Cond::Broadcast(a, b) => rt::Cond::Broadcast(self.shape.reg(a)?, self.shape.reg(b)?),
            };
            let guard = rt::Guard { cond, message: guard.message.clone() };
            if !self.shape.program.guards.contains(&guard) {
                self.shape.program.guards.push(guard);
            }
        }
        Ok(())
    }

    fn bounds(&mut self) -> Result<(), Failure> {
        for (name, symbol) in &self.graph.symbols {
            let value = self.shape.reg(&Dim::sym(name))?;
            if symbol.max != i64::MAX {
                let max = self.shape.reg(&symbol.max.into())?;
                let message =
                    format!("{} must be at most {}, as declared at compile time", Dim::sym(name), symbol.max);
                self.shape.program.guards.push(rt::Guard { cond: rt::Cond::Le(value, max), message });
            }
            if symbol.min > 0 {
                let min = self.shape.reg(&symbol.min.into())?;
                let message = format!(
                    "{} must be at least {}, as declared at compile time",
                    Dim::sym(name),
                    symbol.min
                );
                self.shape.program.guards.push(rt::Guard { cond: rt::Cond::Le(min, value), message });
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), Failure> {
        if node.op.def().class == autoglm_ir::op::Fusion::Elementwise {
            return elementwise::map(self, node);
        }
        match LOWER.iter().find(|(name, _)| *name == node.op.name()) {
            Some((_, lower)) => lower(self, node),
            None => Err(Failure::Unsupported("the runtime has no kernel for this operator".into())),
        }
    }

    /// The packed form of a constant, made on first use: the recipe of a constant with many uses is evaluated once.
    fn packed(
        &mut self,
        id: ConstId,
        how: Packing,
        pack: impl FnOnce(&mut Self, &Tensor) -> Result<weights::Form, Failure>,
    ) -> Result<weights::Packed, Failure> {
        if let Some(done) = self.packed.get(&(id, how.clone())) {
            return Ok(*done);
        }
        let tensor = interp::const_tensor(self.graph, id).map_err(Failure::Invalid)?;
        let packed = pack(self, &tensor)?.store(self)?;
        self.packed.insert((id, how), packed);
        Ok(packed)
    }

    /// The only element of a constant.
    fn scalar(&mut self, id: ConstId) -> Result<&Tensor, Failure> {
        match self.scalars.entry(id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(slot) => {
                Ok(slot.insert(interp::const_tensor(self.graph, id).map_err(Failure::Invalid)?))
            }
        }
    }

    /// Stores bytes in the weights section as a value.
    fn store(&mut self, dtype: DType, dims: &[Dim], bytes: &[u8]) -> Result<rt::ValueId, Failure> {
        let (offset, len) = self.weights.add(bytes).map_err(Failure::Io)?;
        self.push_value(elem(dtype)?, dims, rt::Storage::Const { offset, len })
    }

    fn push_value(
        &mut self,
        elem: ElemType,
        dims: &[Dim],
        storage: rt::Storage,
    ) -> Result<rt::ValueId, Failure> {
        let regs = self.shape.regs(dims)?;
        self.program.values.push(rt::Value { elem, dims: regs, storage });
        self.shapes.push(dims.to_vec());
        Ok((self.program.values.len() - 1) as rt::ValueId)
    }

    /// A new value for a result that is written densely.
    fn own_result(&mut self, v: ValueId) -> Result<rt::ValueId, Failure> {
        let ty = self.graph.ty(v);
        let place = self.temp(ty.dtype, &ty.shape)?;
        let id = place.id;
        self.bind(v, place);
        Ok(id)
    }

    fn bind(&mut self, v: ValueId, place: Place) {
        self.places[v.0 as usize] = Some(place);
    }

    fn step(&mut self, kind: rt::StepKind, args: Vec<rt::ValueId>, outs: Vec<rt::ValueId>) {
        let ops = std::iter::once(self.op).chain(std::mem::take(&mut self.pending)).collect();
        self.step_of(ops, kind, args, outs);
    }

    fn step_of(
        &mut self,
        ops: Vec<&'static str>,
        kind: rt::StepKind,
        args: Vec<rt::ValueId>,
        outs: Vec<rt::ValueId>,
    ) {
        self.ops.push(ops);
        self.program.steps.push(rt::Step { kind, args, outs, name: self.loc.clone() });
    }

    fn reg(&mut self, dim: &Dim) -> Result<rt::Reg, Failure> {
        self.shape.reg(dim)
    }

    fn is_op(&self, node: &Node, name: &str) -> bool {
        Some(node.op) == OpId::of(name)
    }
}

fn port(name: &str, value: rt::ValueId, shape: &[Dim]) -> rt::Port {
    rt::Port { name: name.into(), value, dim_names: shape.iter().map(Dim::to_string).collect() }
}
