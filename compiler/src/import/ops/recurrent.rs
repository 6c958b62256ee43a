//! Recurrent layers: one product of the input with the weights of all gates and directions, then a step after another. Halves
//! are computed in f32, and the results are rounded once.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, float, int};
use super::super::node::{Importer, NodeCx, row};
use crate::diag::Diagnostic;
use Parameter::{Absent, Or, Required};
use autoglm_ir::ops::recurrent::{Cell, FUNCTION_ATTRS};
use autoglm_ir::{Attr, Dim, ValueId};

pub(crate) static IMPORTERS: &[Importer] = &[
    row("GRU", &[1, 3, 7, 14, 22], |cx, n| layer(cx, n, Cell::Gru)),
    row("LSTM", &[1, 7, 14, 22], |cx, n| layer(cx, n, Cell::Lstm)),
    row("RNN", &[1, 7, 14, 22], |cx, n| layer(cx, n, Cell::Rnn)),
];

/// A function of gates.
struct Function {
    onnx: &'static str,
    name: &'static str,
    alpha: Parameter,
    beta: Parameter,
}

/// A parameter of a function.
#[derive(Clone, Copy)]
enum Parameter {
    /// There is none.
    Absent,
    /// This counts where no value is given.
    Or(f32),
    /// A value must be given.
    Required,
}

const fn function(onnx: &'static str, name: &'static str, alpha: Parameter, beta: Parameter) -> Function {
    Function { onnx, name, alpha, beta }
}

/// The defaults are those of the operators of these names; ScaledTanh had none.
static FUNCTIONS: &[Function] = &[
    function("Affine", "affine", Or(1.0), Or(0.0)),
    function("Elu", "elu", Or(1.0), Absent),
    function("HardSigmoid", "hard_sigmoid", Or(0.2), Or(0.5)),
    function("LeakyRelu", "leaky_relu", Or(0.01), Absent),
    function("Relu", "relu", Absent, Absent),
    function("ScaledTanh", "scaled_tanh", Required, Required),
    function("Sigmoid", "sigmoid", Absent, Absent),
    function("Softplus", "softplus", Absent, Absent),
    function("Softsign", "softsign", Absent, Absent),
    function("Tanh", "tanh", Absent, Absent),
    function("ThresholdedRelu", "thresholded_relu", Or(1.0), Absent),
];

/// What all parts of a layer share.
struct Layer {
    cell: Cell,
    /// Whether each direction goes backwards.
    reverse: &'static [bool],
    batch_first: bool,
    /// The gate's biases are apart: that of the recurrent share of the candidate is scaled by the reset gate.
    linear_before_reset: bool,
    batch: Dim,
    hidden: Dim,
    /// Columns of all gates.
    columns: Dim,
}

/// X `[steps, batch, inputs]`, W `[directions, gates * hidden, inputs]`, R `[directions, gates * hidden, hidden]`, B
/// `[directions, 2 * gates * hidden]`, lengths `[batch]`, states `[directions, batch, hidden]` and peepholes
/// `[directions, 3 * hidden]`; with `layout` 1 the batch comes first.
fn layer(cx: &mut Cx, n: &NodeCx<'_>, cell: Cell) -> Outs {
    let given = n.input(cx, 0)?;
    let (x, w, r) = (operand(cx, n, 0)?, operand(cx, n, 1)?, operand(cx, n, 2)?);
    let layer = Layer::of(cx, n, cell, [x, r])?;
    let x = if layer.batch_first { cx.transpose(x, &[1, 0, 2])? } else { x };
    let (count, inputs) = (layer.reverse.len(), cx.shape(x)[2].clone());
    layer.require(cx, w, "W", &[count.into(), layer.columns.clone(), inputs])?;
    layer.require(cx, r, "R", &[count.into(), layer.columns.clone(), layer.hidden.clone()])?;
    let (sums, recurrent_bias) = layer.project(cx, n, x, w)?;
    let lengths = n.opt(4);
    if let Some(lengths) = lengths {
        layer.require(cx, lengths, "sequence_lens", std::slice::from_ref(&layer.batch))?;
    }
    let mut states = vec![layer.state(cx, n, x, (5, "initial_h"))?];
    let mut peepholes = None;
    if cell == Cell::Lstm {
        states.push(layer.state(cx, n, x, (6, "initial_c"))?);
        peepholes = optional(cx, n, 7)?;
    }
    if let Some(p) = peepholes {
        layer.require(cx, p, "P", &[count.into(), &Dim::from(3) * &layer.hidden])?;
    }
    let functions = functions(cx, n, cell, count)?;
    let mut results = Vec::with_capacity(count);
    for (d, functions) in functions.iter().enumerate() {
        let start = &Dim::from(d) * &layer.columns;
        let own = if count == 1 { sums } else { cx.slice_axis(sums, 2, &start, &layer.columns, 1)? };
        let mut args = vec![own];
        for stacked in [r].into_iter().chain(states.iter().copied()).chain(recurrent_bias).chain(peepholes) {
            args.push(cx.take(stacked, 0, d as i64)?);
        }
        args.extend(lengths);
        let attrs = layer.attrs(cx, n, layer.reverse[d], functions)?;
        results.push(cx.add("recurrent", attrs, &args)?);
    }
    let results = layer.stack(cx, &results)?;
    results.into_iter().map(|y| cx.cast(y, cx.dtype(given))).collect()
}

/// An input of the element type of X; halves are widened.
fn operand(cx: &mut Cx, n: &NodeCx<'_>, input: usize) -> Res<ValueId> {
    let v = n.input(cx, input)?;
    let (own, x) = (cx.dtype(v), cx.dtype(n.input(cx, 0)?));
    if own != x {
        return Err(cx.invalid(codes::SHAPE, format!("X is {x}, but input {input} is {own}")));
    }
    cx.cast(v, cx.wide(v))
}

/// The same, if it is given.
fn optional(cx: &mut Cx, n: &NodeCx<'_>, input: usize) -> Res<Option<ValueId>> {
    n.opt(input).map(|_| operand(cx, n, input)).transpose()
}

impl Layer {
    fn of(cx: &Cx, n: &NodeCx<'_>, cell: Cell, [x, r]: [ValueId; 2]) -> Res<Layer> {
        let reverse: &[bool] =
            match n.known_mode(cx, "direction", "forward", &["forward", "reverse", "bidirectional"])? {
                "reverse" => &[true],
                "bidirectional" => &[false, true],
                _ => &[false],
            };
        let batch_first = match n.int("layout", 0)? {
            0 => false,
            1 => true,
            other => return Err(cx.invalid(codes::VALUE, format!("`layout` must be 0 or 1, not {other}"))),
        };
        // Whether the states of all steps are wanted shows in the outputs.
        n.opt_int("output_sequence")?;
        let (x_shape, r_shape) = (cx.shape(x), cx.shape(r));
        let ([first, second, _], [_, _, hidden]) = (x_shape.as_slice(), r_shape.as_slice()) else {
            let found = format!("X and R must have three axes, got {} and {}", cx.ty(x), cx.ty(r));
            return Err(cx.invalid(codes::SHAPE, found));
        };
        let hidden = match n.opt_int("hidden_size")? {
            Some(given) if given < 0 => {
                let title = format!("`hidden_size` must not be negative, but is {given}");
                return Err(cx.invalid(codes::VALUE, title));
            }
            given => given.map_or_else(|| hidden.clone(), Dim::from),
        };
        Ok(Layer {
            cell,
            reverse,
            batch_first,
            linear_before_reset: cell == Cell::Gru && n.flag("linear_before_reset", false)?,
            batch: if batch_first { first } else { second }.clone(),
            columns: &Dim::from(cell.gates()) * &hidden,
            hidden,
        })
    }

    fn directions(&self) -> Dim {
        self.reverse.len().into()
    }

    /// Requires the extents of an input.
    fn require(&self, cx: &mut Cx, v: ValueId, name: &str, want: &[Dim]) -> Res<()> {
        let helped = |e: Box<Diagnostic>| Box::new(e.help(self.needs(name, want)));
        let found = cx.shape(v);
        if found.len() != want.len() {
            let title = format!("{name} must have {} axes, got {}", want.len(), cx.ty(v));
            return Err(helped(cx.invalid(codes::SHAPE, title)));
        }
        for (axis, (a, b)) in found.iter().zip(want).enumerate() {
            cx.require_eq(a, b, &format!("extents of {name} along axis {axis} differ")).map_err(helped)?;
        }
        Ok(())
    }

    /// Which extents an input needs and what they follow from.
    fn needs(&self, name: &str, want: &[Dim]) -> String {
        let Layer { hidden, batch, .. } = self;
        let extents = want.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
        let layer = format!("for hidden_size {hidden} in {} directions", self.reverse.len());
        let (axis, layout) = if self.batch_first { (0, 1) } else { (1, 0) };
        let batch = format!("a batch of {batch}, axis {axis} of X with layout {layout}");
        match name {
            "sequence_lens" => format!("for {batch}, {name} needs [{extents}]"),
            "initial_h" | "initial_c" => format!("{layer} and {batch}, {name} needs [{extents}]"),
            _ => format!("{layer} {name} needs [{extents}]; check hidden_size and direction"),
        }
    }

    /// The input's share of all gates in all directions, `[steps, batch, directions * columns]`, and the bias that the reset
    /// gate scales, `[directions, hidden]`.
    fn project(
        &self,
        cx: &mut Cx,
        n: &NodeCx<'_>,
        x: ValueId,
        w: ValueId,
    ) -> Res<(ValueId, Option<ValueId>)> {
        let (count, inputs) = (self.directions(), cx.shape(x)[2].clone());
        let all = &count * &self.columns;
        let w = cx.reshape(w, &[all.clone(), inputs])?;
        let w = cx.transpose(w, &[1, 0])?;
        let sums = cx.op("matmul", [], &[x, w])?;
        let Some(b) = optional(cx, n, 3)? else {
            let shape = [count, self.hidden.clone()];
            let none = self.linear_before_reset.then(|| self.zeros(cx, sums, &shape)).transpose()?;
            return Ok((sums, none));
        };
        self.require(cx, b, "B", &[count.clone(), &Dim::from(2) * &self.columns])?;
        let gates = Dim::from(self.cell.gates());
        let b = cx.reshape(b, &[count, 2.into(), gates, self.hidden.clone()])?;
        let (input, recurrent) = (cx.take(b, 1, 0)?, cx.take(b, 1, 1)?);
        let (bias, apart) = if self.linear_before_reset {
            let two = |cx: &mut Cx, v| cx.slice_axis(v, 1, &0.into(), &2.into(), 1);
            let (a, c) = (two(cx, input)?, two(cx, recurrent)?);
            let both = cx.binary("add", a, c)?;
            let candidate = cx.slice_axis(input, 1, &2.into(), &1.into(), 1)?;
            (cx.concat(&[both, candidate], 1)?, Some(cx.take(recurrent, 1, 2)?))
        } else {
            (cx.binary("add", input, recurrent)?, None)
        };
        let bias = cx.reshape(bias, &[all])?;
        Ok((cx.binary("add", sums, bias)?, apart))
    }

    /// Zeros of the element type of `like`.
    fn zeros(&self, cx: &mut Cx, like: ValueId, shape: &[Dim]) -> Res<ValueId> {
        let zero = cx.scalar(cx.dtype(like), 0.0);
        cx.expand(zero, shape)
    }

    /// A first state `[directions, batch, hidden]`; zeros of the element type of `x` if it is not given.
    fn state(&self, cx: &mut Cx, n: &NodeCx<'_>, x: ValueId, (input, name): (usize, &str)) -> Res<ValueId> {
        let mut shape = [self.directions(), self.batch.clone(), self.hidden.clone()];
        let Some(state) = optional(cx, n, input)? else { return self.zeros(cx, x, &shape) };
        if self.batch_first {
            shape.swap(0, 1);
        }
        self.require(cx, state, name, &shape)?;
        if self.batch_first { cx.transpose(state, &[1, 0, 2]) } else { Ok(state) }
    }

    /// The attributes of a direction.
    fn attrs(
        &self,
        cx: &Cx,
        n: &NodeCx<'_>,
        reverse: bool,
        functions: &[Chosen],
    ) -> Res<Vec<(&'static str, Attr)>> {
        let cell = match self.cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::Rnn => "rnn",
        };
        let mut attrs = vec![("cell", Attr::Str(cell.into()))];
        let mut flag = |name, on: bool| attrs.extend(on.then(|| int(name, 1)));
        flag("reverse", reverse);
        flag("linear_before_reset", self.linear_before_reset);
        if self.cell == Cell::Lstm {
            flag("input_forget", n.flag("input_forget", false)?);
            flag("peepholes", n.opt(7).is_some());
        }
        for (chosen, [name, alpha, beta]) in functions.iter().zip(FUNCTION_ATTRS) {
            attrs.push((name, Attr::Str(chosen.name.into())));
            attrs.extend(chosen.alpha.map(|v| float(alpha, v)));
            attrs.extend(chosen.beta.map(|v| float(beta, v)));
        }
        if let Some(clip) = n.opt_float("clip")? {
            if clip.is_nan() || clip <= 0.0 {
                return Err(cx.invalid(codes::VALUE, format!("`clip` must be positive, not {clip}")));
            }
            attrs.push(float("clip", clip));
        }
        Ok(attrs)
    }

    /// The results of the directions, joined along an axis of their own.
    fn stack(&self, cx: &mut Cx, results: &[Vec<ValueId>]) -> Outs {
        let first = results.first().map_or(&[][..], Vec::as_slice);
        let mut outs = Vec::with_capacity(first.len());
        for i in 0..first.len() {
            // The directions come before the batch.
            let axis = cx.rank(first[i]) - 2;
            let mut parts = Vec::with_capacity(results.len());
            for result in results {
                let mut shape = cx.shape(result[i]);
                shape.insert(axis, 1.into());
                parts.push(cx.reshape(result[i], &shape)?);
            }
            let mut y = if parts.len() == 1 { parts[0] } else { cx.concat(&parts, axis)? };
            if self.batch_first {
                y = cx.transpose(y, if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] })?;
            }
            outs.push(y);
        }
        Ok(outs)
    }
}

/// A function with its parameters.
struct Chosen {
    name: &'static str,
    alpha: Option<f64>,
    beta: Option<f64>,
}

/// The functions of each direction: those that `activations` names, else the cell's own. Values of alpha and beta go to the
/// functions that have such a parameter, in order.
fn functions(cx: &Cx, n: &NodeCx<'_>, cell: Cell, directions: usize) -> Res<Vec<Vec<Chosen>>> {
    let usual: &[&str] = match cell {
        Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Cell::Gru => &["Sigmoid", "Tanh"],
        Cell::Rnn => &["Tanh"],
    };
    let mut names = n.strings("activations")?.unwrap_or_default();
    if names.is_empty() {
        names = usual.repeat(directions).into_iter().map(str::to_owned).collect();
    }
    // The default of RNN, which exporters write out, names a function for each of two directions.
    let written_out = cell == Cell::Rnn && names.len() == 2;
    if names.len() != usual.len() * directions && !written_out {
        let (want, found) = (usual.len() * directions, names.len());
        let title = format!("needs {want} activations for {directions} directions, got {found}");
        return Err(cx.invalid(codes::VALUE, title));
    }
    let mut alphas = n.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = n.floats("activation_beta")?.unwrap_or_default().into_iter();
    let mut chosen = Vec::with_capacity(names.len());
    for name in &names {
        let known = FUNCTIONS.iter().find(|f| f.onnx.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let all: Vec<&str> = FUNCTIONS.iter().map(|f| f.onnx).collect();
            cx.refuse(format!("the activation {name:?}"), &format!("supported are {}", all.join(", ")))
        })?;
        let value = |parameter: Parameter, given: &mut dyn Iterator<Item = f64>, attr: &str| match parameter {
            Absent => Ok(None),
            Or(v) => Ok(Some(given.next().unwrap_or(v.into()))),
            Required => given.next().map(Some).ok_or_else(|| {
                cx.invalid(
                    codes::VALUE,
                    format!("`{attr}` has no value for {}, which has no default", known.onnx),
                )
            }),
        };
        let alpha = value(known.alpha, &mut alphas, "activation_alpha")?;
        let beta = value(known.beta, &mut betas, "activation_beta")?;
        chosen.push(Chosen { name: known.name, alpha, beta });
    }
    let mut chosen = chosen.into_iter();
    Ok((0..directions).map(|_| chosen.by_ref().take(usual.len()).collect()).collect())
}
