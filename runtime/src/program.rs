//! What an engine executes: values, a shape program and a list of steps.
//!
//! A [`Program`] is pure data. It holds no addresses, no offsets into the arena and no native code: for every
//! concrete set of input shapes the session evaluates the shape program, checks the guards, checks each step's
//! footprint against the sizes of the values it touches, plans the arena, and only then runs. A program read from
//! a hostile file can therefore be wrong, but it cannot make a step touch memory outside its values.
//!
//! Sizes, strides and offsets are counted in elements unless a name says otherwise, and are given as registers
//! ([`Reg`]) of the shape program, so one program serves all shapes.

use crate::elem::ElemType;
use crate::tile::TileProgram;
use serde::{Deserialize, Serialize};
use std::mem;

/// Index of a value in [`Program::values`].
pub type ValueId = u32;
/// Index of a register of the shape program: register `i` is the result of `shape.ops[i]`.
pub type Reg = u32;

/// A whole executable program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Inputs in graph order; `Storage::Input(i)` refers to the `i`-th.
    pub inputs: Vec<Port>,
    /// Outputs in graph order. Every output value has `Storage::Temp`, and no value is an output twice.
    pub outputs: Vec<Port>,
    /// Computes every size from the input shapes.
    pub shape: ShapeProgram,
    /// All tensors.
    pub values: Vec<Value>,
    /// Fused loops that `StepKind::Tile` refers to.
    pub tiles: Vec<TileProgram>,
    /// Steps in execution order.
    pub steps: Vec<Step>,
    /// No step writes its result over an argument that nothing reads later: the baseline that in-place steps are
    /// measured against.
    pub separate: bool,
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The ONNX name.
    pub name: String,
    /// The value bound to it.
    pub value: ValueId,
    /// Dimensions as the user reads them (`batch`, `3`, `2*seq+1`), for messages only.
    pub dim_names: Vec<String>,
}

/// One tensor: dense, row-major.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Element type.
    pub elem: ElemType,
    /// Extents, outermost first.
    pub dims: Vec<Reg>,
    /// Where its bytes are.
    pub storage: Storage,
}

/// Where a value's bytes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// The caller's `i`-th input buffer (read only).
    Input(u32),
    /// A byte range of the weights section (read only), 64-byte aligned.
    Const {
        /// Byte offset within the section.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The arena, or the caller's output buffer when the value is an output.
    Temp,
    /// The bytes of an earlier value with as many elements of the same size (a reshape).
    Alias(ValueId),
}

/// Straight-line code over `i64` registers; every operation is checked, overflow is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeProgram {
    /// Operation `i` defines register `i` and reads only smaller registers.
    pub ops: Vec<ShapeOp>,
    /// Conditions that must hold, checked in order after the last operation.
    pub guards: Vec<Guard>,
}

/// One operation of the shape program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ShapeOp {
    /// A constant.
    Const(i64),
    /// Extent of `axis` of an input.
    InputDim {
        /// Index of the input.
        input: u32,
        /// Axis.
        axis: u32,
    },
    /// Element `index` of an integer or bool input (its contents are then part of the plan's key).
    InputElem {
        /// Index of the input.
        input: u32,
        /// Flat element index.
        index: u32,
    },
    /// `a + b`
    Add(Reg, Reg),
    /// `a - b`
    Sub(Reg, Reg),
    /// `a * b`
    Mul(Reg, Reg),
    /// `floor(a / b)`; an error when `b <= 0`.
    FloorDiv(Reg, Reg),
    /// `a - b * floor(a / b)`; an error when `b <= 0`.
    Mod(Reg, Reg),
    /// The smaller.
    Min(Reg, Reg),
    /// The larger.
    Max(Reg, Reg),
    /// 1 if equal, else 0.
    Eq(Reg, Reg),
}

/// A condition on registers, with the text to show when it fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// What must hold.
    pub cond: Cond,
    /// What the user did wrong, e.g. "MatMul \"/fc\": inner dimensions must be equal".
    pub message: String,
}

/// A comparison of two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cond {
    /// `a == b`
    Eq(Reg, Reg),
    /// `a <= b`
    Le(Reg, Reg),
    /// `a == b`, or either is 1 (broadcasting).
    Broadcast(Reg, Reg),
}

/// One unit of work. Steps run in order; `args` are read, `outs` are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What to do.
    pub kind: StepKind,
    /// Values read.
    pub args: Vec<ValueId>,
    /// Values written; all `Temp`.
    pub outs: Vec<ValueId>,
    /// The ONNX node it came from, for messages and profiles.
    pub name: String,
}

/// An affine access to a value: element `offset + sum_d index[d] * strides[d]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// First element.
    pub offset: Reg,
    /// One stride a loop dimension; may be 0 (broadcast) or negative (reversed slice).
    pub strides: Vec<Reg>,
}

/// What is done to each element of a contraction's result while it is in cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epilogue {
    /// Index into [`Program::tiles`]: a map (`reduce_rank` 0) with one store. `Load { arg: 0 }` is the element of the result
    /// (after the bias); `Load { arg: i + 1 }` is the access `reads[i]` of the step's argument that follows the operands
    /// and the bias.
    pub tile: u32,
    /// Accesses over the step's output extents (MatMul: batch.., m, n; Conv: n, oh, ow, m).
    pub reads: Vec<Access>,
}

/// What of packed weights is stored; the rest is zero. The layout of rows is that of [`crate::cpu::sparse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sparsity {
    /// `kept` of every `of` successive rows, the same for the 32 columns of a panel. Saves arithmetic and bytes.
    Panels {
        /// At least 1, at most `of`.
        kept: u8,
        /// 2, 4, 8 or 16.
        of: u8,
    },
    /// 2 of every 4 successive rows, others for each column. Saves bytes, for products of few rows.
    Columns,
    /// Any elements, in the layout of [`crate::cpu::scattered`]. Zeros stay terms of the sums. Saves bytes, for products of few
    /// rows. Not for groups of a convolution.
    Scattered,
}

/// The kinds of step. Every kind has one module in `steps/` with its footprint and its execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepKind {
    /// A fused loop nest over `dims`: `reads[i]` accesses `args[i]`, `writes[i]` accesses `outs[i]`.
    /// The last `tiles[tile].reduce_rank` dims are reduced and have no stride in `writes`.
    Tile {
        /// Index into [`Program::tiles`].
        tile: u32,
        /// Loop extents, outermost first.
        dims: Vec<Reg>,
        /// One access an argument.
        reads: Vec<Access>,
        /// One access an output.
        writes: Vec<Access>,
    },
    /// f32 `out[b, m, n] = sum_k a[b, m, k] * B[b, k, n] + bias[n]`.
    /// args: a, b, then codes if `sparsity`, then bias[n] if `bias`, then those of the epilogue. A product with a weight that
    /// is not stored is no term of the sum, whatever the factor from a.
    MatMul {
        /// Batch extents, outermost first.
        batch: Vec<Reg>,
        /// Rows.
        m: Reg,
        /// Inner extent.
        k: Reg,
        /// Columns.
        n: Reg,
        /// Strides over batch, then m, k.
        a: Access,
        /// Strides over batch, then k, n. Not used when `b_packed`.
        b: Access,
        /// `b` is a constant in the packed layout `[ceil(n/32)][k][32]`, zero filled, without batch.
        b_packed: bool,
        /// Packed `b` is stored in part: it holds the stored rows, and the argument after it (u32) their codes.
        sparsity: Option<Sparsity>,
        /// Strides over batch, then m; the columns of a row are neighbours. Its elements are distinct.
        out: Access,
        /// The argument after b and its codes holds the bias.
        bias: bool,
        /// Applied to the result.
        epilogue: Option<Epilogue>,
    },
    /// f32 NHWC convolution without padding (a pad step comes before): args x[n,h,w,c], packed weights, codes if `sparsity`,
    /// bias[m]?, then those of the epilogue; out [n,oh,ow,m]. Weights, groups == 1: packed `[ceil(m/32)][kh*kw*c][32]`; depthwise (groups == c == m):
    /// `[kh*kw][m]`; other groups: one packed block a group over its c/groups inputs and m/groups outputs.
    Conv {
        /// Extents of x: n, h, w, c.
        extents: [Reg; 4],
        /// Extents of out: oh, ow.
        out_extents: [Reg; 2],
        /// Strides over n, h, w; the channels of a pixel are neighbours.
        x: Access,
        /// Strides over n, oh, ow; the channels of a pixel are neighbours. Its elements are distinct.
        out: Access,
        /// Kernel height and width.
        kernel: [Reg; 2],
        /// Strides.
        stride: [Reg; 2],
        /// Dilations.
        dilation: [Reg; 2],
        /// Groups.
        groups: Reg,
        /// Output channels.
        m: Reg,
        /// The weights are stored in part, as for `MatMul`, by groups of a tap's input channels. Not for depthwise ones.
        sparsity: Option<Sparsity>,
        /// The argument after the weights and their codes holds the bias.
        bias: bool,
        /// Applied to the result.
        epilogue: Option<Epilogue>,
    },
    /// f32 NHWC pooling: args x[n,h,w,c]; out [n,oh,ow,c].
    Pool {
        /// Maximum or average.
        mode: PoolMode,
        /// Extents of x: n, h, w, c.
        extents: [Reg; 4],
        /// Extents of out: oh, ow.
        out_extents: [Reg; 2],
        /// Strides over n, h, w; the channels of a pixel are neighbours.
        x: Access,
        /// Strides over n, oh, ow; the channels of a pixel are neighbours. Its elements are distinct.
        out: Access,
        /// Window.
        kernel: [Reg; 2],
        /// Strides.
        stride: [Reg; 2],
        /// Dilations.
        dilation: [Reg; 2],
        /// Padding before: top, left. What lies outside the input is ignored by `Max`.
        pad: [Reg; 2],
        /// Padding after: bottom, right; with `pad` it bounds the divisor of `Average` that includes padding.
        pad_end: [Reg; 2],
    },
    /// f32 softmax over the last of `[rows, cols]`.
    Softmax {
        /// Rows.
        rows: Reg,
        /// Columns.
        cols: Reg,
        /// Logarithm of the softmax instead.
        log: bool,
        /// Stride over rows; columns are neighbours.
        x: Access,
        /// Stride over rows; columns are neighbours. Its elements are distinct.
        out: Access,
    },
    /// f32 layer normalisation over the last of `[rows, cols]`: args x, scale[cols], bias[cols]?.
    LayerNorm {
        /// Rows.
        rows: Reg,
        /// Columns.
        cols: Reg,
        /// Added to the variance.
        epsilon: f32,
        /// A third argument holds the bias.
        bias: bool,
        /// Root mean square only: no mean is subtracted.
        rms: bool,
        /// Stride over rows; columns are neighbours.
        x: Access,
        /// Stride over rows; columns are neighbours. Its elements are distinct.
        out: Access,
    },
    /// Any element type: `out[o, i, e] = data[o, index[i], e]`; args data[outer, axis, inner], index (i64 or i32, any
    /// shape of `count` elements). A negative index counts from the end; one out of range is a run-time error.
    Gather {
        /// Product of the extents before the axis.
        outer: Reg,
        /// Extent of the axis.
        axis: Reg,
        /// Product of the extents after the axis.
        inner: Reg,
        /// Number of indices.
        count: Reg,
    },
    /// Any element type: args data[batch, ..], index (i64 or i32) `[batch, rows, depth]`; out `[batch, rows, inner]`. Row `r` of batch
    /// `b` copies `inner` elements from `data[b]` at the position whose coordinates over `extents` (`depth` of them) are
    /// the index row; negative ones count from the end, one out of range is a run-time error.
    GatherNd {
        /// Product of the batch extents.
        batch: Reg,
        /// Index rows a batch.
        rows: Reg,
        /// Extents that the index coordinates address, outermost first.
        extents: Vec<Reg>,
        /// Product of the extents after those.
        inner: Reg,
    },
    /// Any element type, as ONNX ScatterND: args data, index `[rows, depth]`, updates `[rows, inner]`; out starts as a copy of data.
    ScatterNd {
        /// Index rows.
        rows: Reg,
        /// Extents that the index coordinates address, outermost first.
        extents: Vec<Reg>,
        /// Product of the extents after those.
        inner: Reg,
        /// How an update meets what is there.
        mode: ScatterMode,
    },
    /// Any element type: args data (extents `data`), index (extents `shape`); out `[shape]`: element `i` is data at `i` with
    /// coordinate `axis` replaced by the index element.
    GatherElements {
        /// Extents of data.
        data: Vec<Reg>,
        /// Extents of index and out.
        shape: Vec<Reg>,
        /// Axis.
        axis: u32,
    },
    /// Any element type: args data (extents `data`), index and updates (extents `shape`); out starts as a copy of data.
    ScatterElements {
        /// Extents of data and out.
        data: Vec<Reg>,
        /// Extents of index and updates.
        shape: Vec<Reg>,
        /// Axis.
        axis: u32,
        /// How an update meets what is there.
        mode: ScatterMode,
    },
    /// The `k` largest or smallest of each `[outer, axis, inner]` column, ties by lower index: outs values, indices (i64).
    TopK {
        /// Product of the extents before the axis.
        outer: Reg,
        /// Extent of the axis.
        axis: Reg,
        /// Product of the extents after the axis.
        inner: Reg,
        /// How many.
        k: Reg,
        /// Largest instead of smallest.
        largest: bool,
    },
    /// Writes the registers as an i64, i32 or f32 tensor: args none.
    Dims {
        /// The elements.
        elems: Vec<Reg>,
    },
    /// f32 scaled dot-product attention: `out[b,h,i,:] = sum_j softmax_j(scale * q[b,h,i,:] . k[b,g,j,:] + mask[b,h,i,j])
    /// v[b,g,j,:]`, `g = h / (heads / kv_heads)`. args: q, k, v, then mask if `mask`. Rows whose scores are all negative
    /// infinity (or none, or NaN) give NaN. A value that is NaN or infinite can make NaN of rows that weigh it with 0.
    Attention {
        /// Batches.
        batch: Reg,
        /// Query heads.
        heads: Reg,
        /// Key heads; divides `heads`.
        kv_heads: Reg,
        /// Queries.
        q_len: Reg,
        /// Keys.
        kv_len: Reg,
        /// Columns of queries and keys.
        head_dim: Reg,
        /// Columns of values and the output.
        v_dim: Reg,
        /// Factor of the products.
        scale: f32,
        /// Over batch, heads, q_len, head_dim.
        q: Access,
        /// Over batch, kv_heads, kv_len, head_dim.
        k: Access,
        /// Over batch, kv_heads, kv_len, v_dim.
        v: Access,
        /// Over batch, heads, q_len, v_dim. Its elements are distinct.
        out: Access,
        /// Over batch, heads, q_len, kv_len.
        mask: Option<Access>,
        /// Query `i` sees only keys `j <= i + offset`; the scores of the others are `fill`.
        causal: Option<Reg>,
        /// No number of the keys that a query does not see matters unless its other scores are as low. Not NaN.
        fill: f32,
        /// Rows whose scores are all negative infinity (or none, or NaN) give zeros instead of NaN.
        zero_masked: bool,
    },
    /// Loop nests of which none reads what another writes; of two that may write the same element the later one counts.
    /// Arguments and outputs are those of the nests, one after the other.
    Tiles {
        /// The nests.
        nests: Vec<Nest>,
    },
    /// As `Conv` with 3 x 3 windows of neighbours, stride 1 and one group, by Winograd's algorithm: args x[n,h,w,c], the
    /// transformed weights (36 matrices `[c][m]`, each packed `[ceil(m/32)][c][32]`), bias[m]?, then those of the epilogue;
    /// out [n,oh,ow,m].
    Winograd {
        /// Extents of x: n, h, w, c.
        extents: [Reg; 4],
        /// Extents of out: oh, ow.
        out_extents: [Reg; 2],
        /// Strides over n, h, w; the channels of a pixel are neighbours.
        x: Access,
        /// Strides over n, oh, ow; the channels of a pixel are neighbours. Its elements are distinct.
        out: Access,
        /// Output channels.
        m: Reg,
        /// The argument after the weights holds the bias.
        bias: bool,
        /// Applied to the result.
        epilogue: Option<Epilogue>,
    },
    /// f32 `out[b, m, n] = sum_k a[b, m, k] * B[index[b], k, n]`; args a, b, index (i64 or i32). A negative index counts from
    /// the end; one out of range is a run-time error.
    GatherMatMul {
        /// Batch extents, outermost first.
        batch: Vec<Reg>,
        /// Rows.
        m: Reg,
        /// Inner extent.
        k: Reg,
        /// Columns.
        n: Reg,
        /// Matrices of `b`.
        matrices: Reg,
        /// Strides over batch, then m, k.
        a: Access,
        /// Strides over matrices, k, n. Not used when `b_packed`.
        b: Access,
        /// `b` is a constant in the packed layout `[matrices][ceil(n/32)][k][32]`, zero filled.
        b_packed: bool,
        /// Strides over batch.
        index: Access,
        /// Strides over batch, then m; the columns of a row are neighbours. Its elements are distinct.
        out: Access,
    },
    /// One direction of a recurrent layer in f32, with the equations of the ONNX operators LSTM, GRU and RNN. args: x, r, h0, c0 of an
    /// LSTM, bias[hidden] of a GRU with `linear_before_reset`, peephole weights[3 * hidden] if `peepholes`, lengths[batch] (i64 or i32) if
    /// `lengths`, of which one that is not in 0..=steps is a run-time error. outs: h[batch, hidden], c[batch, hidden] of an LSTM, memory
    /// [`Cell::states`, batch, hidden] that the steps share, then y if its access is given.
    Recurrent {
        /// What a step computes.
        cell: Cell,
        /// Steps of the longest row.
        steps: Reg,
        /// Rows.
        batch: Reg,
        /// Elements of a state.
        hidden: Reg,
        /// A row is taken from its last step to its first.
        reverse: bool,
        /// The functions of the gates, the candidate and the cell state, as far as the cell has them.
        functions: Vec<Activation>,
        /// Bounds the arguments of the first two; infinity for none. Positive.
        clip: f32,
        /// The input's share of all gates, biases included: strides over steps and batch; the gates' elements are neighbours.
        x: Access,
        /// Strides over gates * hidden, hidden. Not used when `r_packed`.
        r: Access,
        /// `r` is a constant: the weights of each gate, transposed, in the layout of `MatMul`.
        r_packed: bool,
        /// The hidden state before the first step: strides over batch, hidden.
        h: Access,
        /// The same of the cell state.
        c: Option<Access>,
        /// An argument holds peephole weights.
        peepholes: bool,
        /// The last argument holds the lengths of the rows.
        lengths: bool,
        /// The hidden states of all steps, 0 beyond a row's length: strides over steps and batch; the elements of a state are
        /// neighbours. Its elements are distinct.
        y: Option<Access>,
    },
}

/// What a step of a recurrent layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// Long short-term memory (Hochreiter and Schmidhuber, 1997); gates i, o, f, c.
    Lstm {
        /// The forget gate is 1 less the input gate.
        input_forget: bool,
    },
    /// Gated recurrent unit (Cho et al., 2014); gates z, r, h.
    Gru {
        /// The reset gate scales the product with the state and a bias, not the state.
        linear_before_reset: bool,
    },
    /// The function of one sum.
    Rnn,
}

impl Cell {
    /// Sums of each element of the state.
    pub const fn gates(self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn => 1,
        }
    }

    /// How many functions it has.
    pub const fn functions(self) -> usize {
        match self {
            Self::Lstm { .. } => 3,
            Self::Gru { .. } => 2,
            Self::Rnn => 1,
        }
    }

    /// States that the workers of a step share: the hidden state before and after, and where the reset gate scales the state also that
    /// and the update gate.
    pub const fn states(self) -> usize {
        match self {
            Self::Gru { linear_before_reset: false } => 4,
            _ => 2,
        }
    }
}

/// A function with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// Which.
    pub curve: Curve,
    /// Parameters, where the function has them.
    pub alpha: f32,
    /// See `alpha`.
    pub beta: f32,
}

/// The functions that ONNX has for recurrent layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Curve {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`
    Relu,
    /// `min(max(alpha * x + beta, 0), 1)`
    HardSigmoid,
    /// `alpha * x + beta`
    Affine,
    /// `alpha * x` below 0, else x.
    LeakyRelu,
    /// 0 below alpha, else x.
    ThresholdedRelu,
    /// `alpha * tanh(beta * x)`
    ScaledTanh,
    /// `alpha * (e^x - 1)` below 0, else x.
    Elu,
    /// `x / (1 + |x|)`
    Softsign,
    /// `log(1 + e^x)`
    Softplus,
}

/// One loop nest of [`StepKind::Tiles`], as [`StepKind::Tile`] has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nest {
    /// Index into [`Program::tiles`].
    pub tile: u32,
    /// Loop extents, outermost first.
    pub dims: Vec<Reg>,
    /// One access an argument.
    pub reads: Vec<Access>,
    /// One access an output.
    pub writes: Vec<Access>,
}

/// How a scattered update meets the element that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum ScatterMode {
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

/// Most loop nests of a step, and most outputs of all of them together: whether they are apart is checked pair by pair.
pub const NESTS_MAX: usize = 64;
/// Most arguments or outputs of one step.
pub const MAX_OPERANDS: usize = 1024;
/// See [`NESTS_MAX`].
pub const NEST_OUTS_MAX: usize = 128;

impl Step {
    /// Whether a loop nest with so many arguments and outputs can become a part of the step.
    pub fn can_join(&self, args: usize, outs: usize) -> bool {
        let nests = match &self.kind {
            StepKind::Tile { .. } => 1,
            StepKind::Tiles { nests } => nests.len(),
            _ => return false,
        };
        let fits = self.args.len() + args <= MAX_OPERANDS && self.outs.len() + outs <= NEST_OUTS_MAX;
        fits && nests < NESTS_MAX
    }

    /// Adds a loop nest to a step that is one or several; its arguments and outputs follow those that are there. No effect
    /// on other steps.
    pub fn join(&mut self, nest: Nest) {
        if let StepKind::Tile { tile, dims, reads, writes } = &mut self.kind {
            let (dims, reads, writes) = (mem::take(dims), mem::take(reads), mem::take(writes));
            self.kind = StepKind::Tiles { nests: vec![Nest { tile: *tile, dims, reads, writes }] };
        }
        if let StepKind::Tiles { nests } = &mut self.kind {
            nests.push(nest);
        }
    }
}

impl StepKind {
    /// Arguments that a contraction has itself, before those of its epilogue.
    pub(crate) fn own_args(&self) -> usize {
        match self {
            StepKind::MatMul { sparsity, bias, .. } | StepKind::Conv { sparsity, bias, .. } => {
                2 + usize::from(sparsity.is_some()) + usize::from(*bias)
            }
            StepKind::Winograd { bias, .. } => 2 + usize::from(*bias),
            _ => 0,
        }
    }

    /// The kind's name.
    pub const fn name(&self) -> &'static str {
        match self {
            StepKind::Tile { .. } => "Tile",
            StepKind::MatMul { .. } => "MatMul",
            StepKind::Conv { .. } => "Conv",
            StepKind::Pool { .. } => "Pool",
            StepKind::Softmax { .. } => "Softmax",
            StepKind::LayerNorm { .. } => "LayerNorm",
            StepKind::Gather { .. } => "Gather",
            StepKind::GatherNd { .. } => "GatherNd",
            StepKind::ScatterNd { .. } => "ScatterNd",
            StepKind::GatherElements { .. } => "GatherElements",
            StepKind::ScatterElements { .. } => "ScatterElements",
            StepKind::TopK { .. } => "TopK",
            StepKind::Dims { .. } => "Dims",
            StepKind::Attention { .. } => "Attention",
            StepKind::Tiles { .. } => "Tiles",
            StepKind::Winograd { .. } => "Winograd",
            StepKind::GatherMatMul { .. } => "GatherMatMul",
            StepKind::Recurrent { .. } => "Recurrent",
        }
    }
}

/// What a pooling window computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolMode {
    /// Largest element.
    Max,
    /// Mean over the elements inside the input.
    Average,
    /// Mean over the elements inside the input and its padding.
    AverageIncludePad,
    /// Sum of the elements inside the input.
    Sum,
}
