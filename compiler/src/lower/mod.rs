//! From the graph to the program that an engine stores.
//!
//! Every node becomes steps through one row of [`LOWER`]. Elementwise nodes and reductions become TileIR loops, and an
//! elementwise node with a single consumer that loops over the same shape is computed inside that loop.

mod conv;
mod elementwise;
mod fusion;
mod index;
mod matmul;
mod movement;
mod norm;
mod pool;
mod reduce;
mod shape;
mod tile;

use autoglm_ir::{Cond, ConstId, DType, Def, Dim, Graph, Node, OpId, ValueId, interp};
use autoglm_runtime::elem::ElemType;
use autoglm_runtime::program as rt;
use std::collections::HashMap;

/// Takes the bytes of weights as they are made, so that they need not all be in memory.
pub trait WeightSink {
    /// Stores bytes; gives their offset in the weights section, 64-byte aligned, and their length.
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<(u64, u64)>;
}

/// A node that could not be lowered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {op} {loc:?}: {message}")]
pub struct LowerError {
    /// `E04xx`.
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
    ("reshape", movement::reshape),
    ("transpose", movement::transpose),
    ("expand", movement::expand),
    ("slice", movement::slice),
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

/// State of a lowering.
pub(crate) struct Lowering<'g> {
    pub(crate) graph: &'g Graph,
    plan: fusion::Plan,
    shape: shape::ShapeBuilder<'g>,
    program: rt::Program,
    map: Vec<Option<rt::ValueId>>,
    consts: HashMap<ConstId, rt::ValueId>,
    tiles: HashMap<String, u32>,
    weights: &'g mut dyn WeightSink,
    loc: String,
}

/// Lowers a whole graph; weights go to the sink as they are made.
pub fn lower(graph: &Graph, weights: &mut dyn WeightSink) -> Result<rt::Program, Vec<LowerError>> {
    let mut lowering = Lowering {
        graph,
        plan: fusion::Plan::of(graph),
        shape: shape::ShapeBuilder::new(graph),
        program: rt::Program::default(),
        map: vec![None; graph.values.len()],
        consts: HashMap::new(),
        tiles: HashMap::new(),
        weights,
        loc: String::new(),
    };
    let whole = |f: Failure| vec![error(f, "graph", &graph.name)];
    lowering.inputs().map_err(whole)?;
    let mut errors = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        if !lowering.plan.live[i] || node.outs.iter().all(|o| lowering.plan.is_virtual(*o)) {
            continue;
        }
        lowering.loc = node.loc.to_string();
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
    lowering.program.shape = lowering.shape.program;
    Ok(lowering.program)
}

fn error(failure: Failure, op: &str, loc: &str) -> LowerError {
    let (code, message) = match failure {
        Failure::Unsupported(m) => ("E0401", m),
        Failure::Invalid(m) => ("E0402", m),
        Failure::TooLarge(m) => ("E0404", m),
        Failure::Io(e) => ("E0403", format!("the engine could not be written: {e}")),
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
            self.program.inputs.push(port(&value.name, id, &value.ty.shape));
            self.map[input.0 as usize] = Some(id);
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<(), Failure> {
        for output in &self.graph.outputs {
            let value = self.value(output.value)?;
            let ty = self.graph.ty(output.value);
            let direct = self.program.values[value as usize].storage == rt::Storage::Temp
                && self.program.outputs.iter().all(|o| o.value != value);
            let value = if direct {
                value
            } else {
                let copy = self.temp(ty.dtype, &ty.shape)?;
                self.copy_dense(value, copy, &ty.shape)?;
                copy
            };
            self.program.outputs.push(port(&output.name, value, &ty.shape));
        }
        Ok(())
    }

    fn guards(&mut self) -> Result<(), Failure> {
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
        for (name, symbol) in &self.graph.symbols {
            let value = self.shape.reg(&Dim::sym(name))?;
            if symbol.max != i64::MAX {
                let max = self.shape.reg(&symbol.max.into())?;
                let message = format!("{name} must be at most {}, as declared at compile time", symbol.max);
                self.shape.program.guards.push(rt::Guard { cond: rt::Cond::Le(value, max), message });
            }
            if symbol.min > 0 {
                let min = self.shape.reg(&symbol.min.into())?;
                let message = format!("{name} must be at least {}, as declared at compile time", symbol.min);
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

    /// The program's value for a value of the graph; constants are stored on first use.
    fn value(&mut self, v: ValueId) -> Result<rt::ValueId, Failure> {
        if let Some(id) = self.map[v.0 as usize] {
            return Ok(id);
        }
        let Def::Const(id) = self.graph.value(v).def else {
            return Err(Failure::Invalid(format!("value {} has not been computed", v.0)));
        };
        if let Some(done) = self.consts.get(&id) {
            return Ok(*done);
        }
        let tensor = interp::const_tensor(self.graph, id).map_err(Failure::Invalid)?;
        let dims: Vec<Dim> = tensor.shape.iter().map(|d| Dim::from(*d)).collect();
        let value = self.store(tensor.dtype, &dims, &tensor.data)?;
        self.consts.insert(id, value);
        Ok(value)
    }

    /// Stores bytes in the weights section as a value.
    fn store(&mut self, dtype: DType, dims: &[Dim], bytes: &[u8]) -> Result<rt::ValueId, Failure> {
        let (offset, len) = self.weights.add(bytes).map_err(Failure::Io)?;
        self.push_value(dtype, dims, rt::Storage::Const { offset, len })
    }

    fn push_value(
        &mut self,
        dtype: DType,
        dims: &[Dim],
        storage: rt::Storage,
    ) -> Result<rt::ValueId, Failure> {
        let dims = self.shape.regs(dims)?;
        self.program.values.push(rt::Value { elem: elem(dtype)?, dims, storage });
        Ok((self.program.values.len() - 1) as rt::ValueId)
    }

    /// A new value in the arena.
    fn temp(&mut self, dtype: DType, dims: &[Dim]) -> Result<rt::ValueId, Failure> {
        self.push_value(dtype, dims, rt::Storage::Temp)
    }

    /// A new value in the arena for a result of a node.
    fn result(&mut self, v: ValueId) -> Result<rt::ValueId, Failure> {
        let ty = self.graph.ty(v);
        let id = self.temp(ty.dtype, &ty.shape)?;
        self.map[v.0 as usize] = Some(id);
        Ok(id)
    }

    fn bind(&mut self, v: ValueId, id: rt::ValueId) {
        self.map[v.0 as usize] = Some(id);
    }

    fn step(&mut self, kind: rt::StepKind, args: Vec<rt::ValueId>, outs: Vec<rt::ValueId>) {
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
