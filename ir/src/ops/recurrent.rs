//! Layers that go through a sequence step by step.

use super::common::{Domain, require_index, require_same_dtype};
use super::scalar;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::op::{Arity, AttrKind, AttrSpec, EvalCx, Fusion, InferCx, OpDef, OpError, TensorType, Work};
use crate::tensor::Tensor;

/// One direction of a recurrent layer, without the product of its input.
pub static RECURRENT: OpDef = OpDef {
    name: "recurrent",
    doc: "`recurrent(x, r, h0, ..)`: one direction of an `lstm` (Hochreiter and Schmidhuber, 1997), a `gru` (Cho et al., 2014) or a plain `rnn` \
          with the equations of ONNX: the hidden states y [s,b,n], the last one h [b,n] and of an lstm the last cell state c [b,n]. x \
          [s,b,gates*n] is the input's share of the gates with its biases, r [gates*n,n] the recurrent weights, gates in the order iofc or zrh. \
          There follow c0 [b,n] of an lstm; with `linear_before_reset` the bias [n] that the reset gate scales; with `peepholes` their weights [3n] \
          in the order iof; perhaps lengths [b], after which a row keeps its state and y is 0. With `reverse` a row is taken from its own end. \
          `f` is the function of the gates, `g` of the candidate, `h` of the cell state, and `clip` bounds the arguments of f and g; with \
          `input_forget` the forget gate is 1 less the input gate.",
    arity: Arity::range(3, 6),
    attrs: &[
        AttrSpec::required("cell", AttrKind::Str),
        AttrSpec::optional("reverse", AttrKind::Int),
        AttrSpec::required("f", AttrKind::Str),
        AttrSpec::optional("f_alpha", AttrKind::Float),
        AttrSpec::optional("f_beta", AttrKind::Float),
        AttrSpec::optional("g", AttrKind::Str),
        AttrSpec::optional("g_alpha", AttrKind::Float),
        AttrSpec::optional("g_beta", AttrKind::Float),
        AttrSpec::optional("h", AttrKind::Str),
        AttrSpec::optional("h_alpha", AttrKind::Float),
        AttrSpec::optional("h_beta", AttrKind::Float),
        AttrSpec::optional("clip", AttrKind::Float),
        AttrSpec::optional("input_forget", AttrKind::Int),
        AttrSpec::optional("peepholes", AttrKind::Int),
        AttrSpec::optional("linear_before_reset", AttrKind::Int),
    ],
    class: Fusion::Opaque,
    infer,
    eval,
    content: None,
    work: |cx, _| {
        let x = cx.args.first().map(|x| x.numel()).unwrap_or_default();
        let inner = cx.args.get(1).and_then(|r| r.shape.last()).cloned().unwrap_or_default();
        // A gate's function costs about as much as ten products.
        Work { flops: &x * &(&(&Dim::from(2) * &inner) + &Dim::from(20)) }
    },
    samples: &[
        "f32[S,N,12], f32[12,3], f32[N,3], f32[N,3] {cell=lstm, f=sigmoid, g=tanh, h=tanh}",
        "f32[2,N,8], f32[8,2], f32[N,2], f32[N,2], f32[6] \
         {cell=lstm, reverse=1, f=hard_sigmoid, f_alpha=0.2, f_beta=0.5, g=softsign, h=elu, h_alpha=1, clip=0.5, input_forget=1, peepholes=1}",
        "f32[S,2,3*N], f32[3*N,N], f32[2,N] {cell=gru, f=sigmoid, g=tanh}",
        "f32[S,2,6], f32[6,2], f32[2,2], f32[2] {cell=gru, f=sigmoid, g=relu, linear_before_reset=1}",
        "f32[S,1,N], f32[N,N], f32[1,N] {cell=rnn, f=scaled_tanh, f_alpha=0.5, f_beta=2}",
    ],
};

/// What a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory; gates i, o, f, c.
    Lstm,
    /// Gated recurrent unit; gates z, r, h.
    Gru,
    /// The function of one sum.
    Rnn,
}

impl Cell {
    /// By the attribute `cell`.
    pub fn of(attrs: &Attrs) -> Result<Cell, OpError> {
        match attrs.str("cell") {
            "lstm" => Ok(Cell::Lstm),
            "gru" => Ok(Cell::Gru),
            "rnn" => Ok(Cell::Rnn),
            other => Err(format!("`cell` must be lstm, gru or rnn, not {other:?}")),
        }
    }

    /// Sums of each hidden element.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Rnn => 1,
        }
    }

    /// How many of `f`, `g` and `h` it has.
    pub fn functions(self) -> usize {
        match self {
            Cell::Lstm => 3,
            Cell::Gru => 2,
            Cell::Rnn => 1,
        }
    }
}

/// The attributes of a function: its name, alpha and beta.
pub static FUNCTION_ATTRS: [[&str; 3]; 3] =
    [["f", "f_alpha", "f_beta"], ["g", "g_alpha", "g_beta"], ["h", "h_alpha", "h_beta"]];

/// A function of x, alpha and beta.
type Curve = fn(f64, f64, f64) -> f64;

/// The functions of gates, as the ONNX operators LSTM, GRU and RNN define them.
static CURVES: &[(&str, Curve)] = &[
    ("sigmoid", |x, _, _| scalar::sigmoid(x)),
    ("tanh", |x, _, _| x.tanh()),
    ("relu", |x, _, _| scalar::max(x, 0.0)),
    ("hard_sigmoid", |x, a, b| scalar::max(0.0, scalar::min(1.0, a * x + b))),
    ("affine", |x, a, b| a * x + b),
    ("leaky_relu", |x, a, _| if x < 0.0 { a * x } else { x }),
    ("thresholded_relu", |x, a, _| if x < a { 0.0 } else { x }),
    ("scaled_tanh", |x, a, b| a * (b * x).tanh()),
    ("elu", |x, a, _| if x < 0.0 { a * x.exp_m1() } else { x }),
    ("softsign", |x, _, _| x / (1.0 + x.abs())),
    ("softplus", |x, _, _| scalar::max(x, 0.0) + (-x.abs()).exp().ln_1p()),
];

/// The arguments by what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands<T> {
    /// Share of the input, [s,b,gates*n].
    pub x: T,
    /// Recurrent weights, [gates*n,n].
    pub r: T,
    /// First hidden state, [b,n].
    pub h: T,
    /// First cell state, [b,n], of an lstm.
    pub c: Option<T>,
    /// Bias of the candidate's recurrent share, [n], with `linear_before_reset`.
    pub bias: Option<T>,
    /// Weights of the cell state, [3n].
    pub peepholes: Option<T>,
    /// Steps of each row, [b].
    pub lengths: Option<T>,
}

impl<T: Copy> Operands<T> {
    /// The arguments of a node with these attributes.
    pub fn of(attrs: &Attrs, args: &[T]) -> Result<Operands<T>, OpError> {
        let mut rest = args.iter().copied();
        let mut next = |what: &str| rest.next().ok_or_else(|| format!("{what} is missing"));
        let operands = Operands {
            x: next("the input")?,
            r: next("the recurrent weight")?,
            h: next("the hidden state")?,
            c: (Cell::of(attrs)? == Cell::Lstm).then(|| next("the cell state")).transpose()?,
            bias: attrs.flag("linear_before_reset").then(|| next("the bias")).transpose()?,
            peepholes: attrs.flag("peepholes").then(|| next("the peephole weight")).transpose()?,
            lengths: next("").ok(),
        };
        match next("") {
            Err(_) => Ok(operands),
            Ok(_) => Err(format!("{} are too many arguments", args.len())),
        }
    }
}

/// Refuses attributes that the cell has no use for, and functions that do not exist.
fn check_attrs(attrs: &Attrs, cell: Cell) -> Result<(), OpError> {
    for (i, names) in FUNCTION_ATTRS.iter().enumerate() {
        if i < cell.functions() {
            curve(attrs.str(names[0]))?;
        } else if let Some(name) = names.iter().find(|name| attrs.get(name).is_some()) {
            return Err(format!("the cell {} has no `{name}`", attrs.str("cell")));
        }
    }
    for (name, owner) in
        [("input_forget", Cell::Lstm), ("peepholes", Cell::Lstm), ("linear_before_reset", Cell::Gru)]
    {
        if attrs.flag(name) && cell != owner {
            return Err(format!("the cell {} has no `{name}`", attrs.str("cell")));
        }
    }
    match attrs.get("clip") {
        Some(_) if attrs.float("clip").is_nan() || attrs.float("clip") <= 0.0 => {
            Err(format!("`clip` must be positive, not {}", attrs.float("clip")))
        }
        _ => Ok(()),
    }
}

fn curve(name: &str) -> Result<Curve, OpError> {
    let found = CURVES.iter().find(|(known, _)| *known == name);
    found.map(|(_, curve)| *curve).ok_or_else(|| format!("there is no function {name:?} of gates"))
}

fn infer(cx: &InferCx<'_>) -> Result<Vec<TensorType>, OpError> {
    let cell = Cell::of(cx.attrs)?;
    check_attrs(cx.attrs, cell)?;
    let Operands { x, r, h, c, bias, peepholes, lengths } = Operands::of(cx.attrs, cx.args)?;
    Domain::Float.require(x)?;
    for other in [Some(r), Some(h), c, bias, peepholes].into_iter().flatten() {
        require_same_dtype(x, other)?;
    }
    let ([steps, batch, gates], [rows, n]) = (x.shape.as_slice(), r.shape.as_slice()) else {
        return Err(format!("needs an input of 3 and a weight of 2 axes, got {x} and {r}"));
    };
    let all = &Dim::from(cell.gates()) * n;
    cx.require_eq(gates, &all, "columns of the input and those of all gates")?;
    cx.require_eq(rows, &all, "rows of the recurrent weight and those of all gates")?;
    for state in [Some(h), c].into_iter().flatten() {
        let [b, k] = state.shape.as_slice() else {
            return Err(format!("a state must have 2 axes, got {state}"));
        };
        cx.require_eq(batch, b, "batch extents of the input and a state")?;
        cx.require_eq(n, k, "hidden extents of the weight and a state")?;
    }
    let triple = &Dim::from(3) * n;
    let vectors = [
        (bias, n, "hidden extent and that of the bias"),
        (peepholes, &triple, "three hidden extents and that of the peephole weight"),
        (lengths, batch, "batch extents of the input and the lengths"),
    ];
    for (vector, extent, what) in vectors {
        let Some(vector) = vector else { continue };
        let [d] = vector.shape.as_slice() else { return Err(format!("needs one axis, got {vector}")) };
        cx.require_eq(extent, d, what)?;
    }
    lengths.map_or(Ok(()), require_index)?;
    let state = TensorType::new(x.dtype, vec![batch.clone(), n.clone()]);
    let y = TensorType::new(x.dtype, vec![steps.clone(), batch.clone(), n.clone()]);
    Ok([Some(y), Some(state.clone()), c.map(|_| state)].into_iter().flatten().collect())
}

/// What stays the same over all steps.
struct Layer<'a> {
    cell: Cell,
    n: usize,
    r: Vec<f64>,
    bias: Option<Vec<f64>>,
    peepholes: Option<Vec<f64>>,
    attrs: &'a Attrs,
}

fn eval(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let args: Vec<&Tensor> = cx.args.iter().collect();
    let Operands { x, r, h, c, bias, peepholes, lengths } = Operands::of(cx.attrs, &args)?;
    let &[steps, batch, all] = x.shape.as_slice() else { return Err("needs an input of 3 axes".into()) };
    let layer = Layer {
        cell: Cell::of(cx.attrs)?,
        n: h.shape.get(1).copied().unwrap_or(0),
        r: r.to_f64(),
        bias: bias.map(Tensor::to_f64),
        peepholes: peepholes.map(Tensor::to_f64),
        attrs: cx.attrs,
    };
    let n = layer.n;
    let lengths = lengths.map(Tensor::to_i64);
    let (x, mut h, mut c) = (x.to_f64(), h.to_f64(), c.map(Tensor::to_f64));
    let mut y = vec![0.0; steps * batch * n];
    for row in 0..batch {
        let length = lengths.as_ref().map_or(steps as i64, |l| l[row]);
        let length = usize::try_from(length).ok().filter(|l| *l <= steps);
        let length = length.ok_or_else(|| format!("the length of row {row} is not in 0..={steps}"))?;
        let own = row * n..(row + 1) * n;
        let mut none = [];
        for step in 0..length {
            let t = if cx.attrs.flag("reverse") { length - 1 - step } else { step };
            let at = t * batch + row;
            let cell_state = c.as_mut().map_or(&mut none[..], |c| &mut c[own.clone()]);
            layer.step(&x[at * all..(at + 1) * all], &mut h[own.clone()], cell_state)?;
            y[at * n..(at + 1) * n].copy_from_slice(&h[own.clone()]);
        }
    }
    let values = [Some(y), Some(h), c].into_iter().flatten();
    Ok(values.zip(cx.outs).map(|(v, (dtype, shape))| Tensor::floats(*dtype, shape.clone(), v)).collect())
}

impl Layer<'_> {
    /// The function `i` of `f`, `g`, `h`, behind the clipping of its argument. ONNX does not say whether the cell state is
    /// clipped for `h`; ONNX Runtime and OpenVINO do not.
    fn function(&self, i: usize) -> Result<impl Fn(f64) -> f64, OpError> {
        let [name, alpha, beta] = FUNCTION_ATTRS[i];
        let curve = curve(self.attrs.str(name))?;
        let (alpha, beta) = (self.attrs.float(alpha), self.attrs.float(beta));
        let clips = i < 2 && self.attrs.get("clip").is_some();
        let clip = if clips { self.attrs.float("clip") } else { f64::INFINITY };
        Ok(move |x| curve(scalar::max(-clip, scalar::min(clip, x)), alpha, beta))
    }

    /// Products of the weights of a gate with a state.
    fn product(&self, gate: usize, h: &[f64]) -> Vec<f64> {
        let n = self.n;
        let rows = self.r[gate * n * n..(gate + 1) * n * n].chunks_exact(n.max(1));
        rows.map(|row| row.iter().zip(h).map(|(a, b)| a * b).sum()).collect()
    }

    /// Replaces the states of a row by those after a step with the input's share `x`.
    fn step(&self, x: &[f64], h: &mut [f64], c: &mut [f64]) -> Result<(), OpError> {
        let f = self.function(0)?;
        let sum = |gate: usize| -> Vec<f64> {
            let share = &x[gate * self.n..(gate + 1) * self.n];
            self.product(gate, h).iter().zip(share).map(|(a, b)| a + b).collect()
        };
        match self.cell {
            Cell::Rnn => {
                let next: Vec<f64> = sum(0).into_iter().map(f).collect();
                h.copy_from_slice(&next);
            }
            Cell::Lstm => {
                let (g, out) = (self.function(1)?, self.function(2)?);
                let sums = [sum(0), sum(1), sum(2), sum(3)];
                let peephole = |gate: usize, j: usize, c: f64| {
                    self.peepholes.as_ref().map_or(0.0, |p| p[gate * self.n + j] * c)
                };
                for j in 0..self.n {
                    let i = f(sums[0][j] + peephole(0, j, c[j]));
                    let forget = if self.attrs.flag("input_forget") {
                        1.0 - i
                    } else {
                        f(sums[2][j] + peephole(2, j, c[j]))
                    };
                    c[j] = forget * c[j] + i * g(sums[3][j]);
                    h[j] = f(sums[1][j] + peephole(1, j, c[j])) * out(c[j]);
                }
            }
            Cell::Gru => {
                let g = self.function(1)?;
                let z: Vec<f64> = sum(0).into_iter().map(&f).collect();
                let r: Vec<f64> = sum(1).into_iter().map(&f).collect();
                let recurrent = if let Some(bias) = &self.bias {
                    let product = self.product(2, h);
                    (0..self.n).map(|j| r[j] * (product[j] + bias[j])).collect()
                } else {
                    let reset: Vec<f64> = r.iter().zip(h.iter()).map(|(r, h)| r * h).collect();
                    self.product(2, &reset)
                };
                for j in 0..self.n {
                    let candidate = g(recurrent[j] + x[2 * self.n + j]);
                    h[j] = (1.0 - z[j]) * candidate + z[j] * h[j];
                }
            }
        }
        Ok(())
    }
}
