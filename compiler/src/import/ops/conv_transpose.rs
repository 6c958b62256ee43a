//! Transposed convolutions: a pixel shuffle of a matrix product where windows tile the output, else a convolution over
//! the input with zeros between its elements.

use super::super::codes;
use super::super::cx::{Cx, Outs, Res, int, ints};
use super::super::node::{Importer, NodeCx, row};
use super::conv::{kernel, spatial};
use super::window::{AutoPad, auto_pad, explicit_pads, per_axis};
use autoglm_ir::{Dim, ValueId, dim};

pub(crate) static IMPORTERS: &[Importer] = &[row("ConvTranspose", &[1, 11, 22], conv_transpose)];

/// The geometry of a transposed convolution.
struct Geometry {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    output_padding: Vec<i64>,
    /// What is cut off the full output before each dimension, then after each.
    pads: Vec<Dim>,
    groups: i64,
}

impl Geometry {
    fn read(cx: &Cx, n: &NodeCx<'_>, kernel: Vec<i64>, input: &[Dim]) -> Res<Geometry> {
        let spatial = input.len();
        let strides = per_axis(cx, n, "strides", spatial)?;
        let dilations = per_axis(cx, n, "dilations", spatial)?;
        let output_padding =
            n.ints("output_padding")?.filter(|v| !v.is_empty()).unwrap_or_else(|| vec![0; spatial]);
        if kernel.len() != spatial || output_padding.len() != spatial || output_padding.iter().any(|p| *p < 0)
        {
            let what = format!(
                "kernel {kernel:?} and output_padding {output_padding:?} do not fit {spatial} dimensions"
            );
            return Err(cx.invalid(codes::VALUE, what));
        }
        let groups = n.int("group", 1)?;
        let mut g = Geometry { kernel, strides, dilations, output_padding, pads: Vec::new(), groups };
        g.pads = g.padding(cx, n, input)?;
        Ok(g)
    }

    /// `(kernel - 1) * dilation + 1`.
    fn covered(&self, axis: usize) -> i64 {
        (self.kernel[axis] - 1).saturating_mul(self.dilations[axis]).saturating_add(1)
    }

    fn padding(&self, cx: &Cx, n: &NodeCx<'_>, input: &[Dim]) -> Res<Vec<Dim>> {
        let mode = auto_pad(cx, n)?;
        let shape = n.ints("output_shape")?.filter(|s| !s.is_empty());
        let wanted: Vec<Dim> = match (shape, mode) {
            (Some(shape), _) => {
                // Some exporters give batch and channels too.
                let skip = shape.len().saturating_sub(input.len());
                shape[skip..].iter().map(|d| Dim::from(*d)).collect()
            }
            (None, AutoPad::SameUpper | AutoPad::SameLower) => {
                input.iter().zip(&self.strides).map(|(d, s)| d * &Dim::from(*s)).collect()
            }
            (None, AutoPad::Valid) => return Ok(vec![Dim::from(0); 2 * input.len()]),
            (None, AutoPad::Explicit) => {
                return Ok(explicit_pads(cx, n, input.len())?.into_iter().map(Dim::from).collect());
            }
        };
        if wanted.len() != input.len() {
            return Err(cx.invalid(codes::VALUE, "`output_shape` has too few entries"));
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (i, want) in wanted.iter().enumerate() {
            let full = &(&(&input[i] - &1.into()) * &Dim::from(self.strides[i]))
                + &Dim::from(self.output_padding[i].saturating_add(self.covered(i)));
            let total = &full - want;
            let small = cx.floor_div(&total, &2.into())?;
            let large = &total - &small;
            let upper = mode == AutoPad::SameUpper;
            before.push(if upper { small.clone() } else { large.clone() });
            after.push(if upper { large } else { small });
        }
        before.extend(after);
        Ok(before)
    }

    /// Whether the windows tile the output without gaps and overlaps.
    fn tiles(&self) -> bool {
        self.kernel == self.strides
            && self.groups == 1
            && self.pads.iter().all(|p| p.is(0))
            && self.output_padding.iter().all(|p| *p == 0)
            && self.kernel.iter().zip(&self.dilations).all(|(k, d)| *k == 1 || *d == 1)
    }
}

fn conv_transpose(cx: &mut Cx, n: &NodeCx<'_>) -> Outs {
    let (x, w) = (n.input(cx, 0)?, n.input(cx, 1)?);
    let input = spatial(cx, x)?;
    if cx.rank(w) != input.len() + 2 {
        return Err(cx.invalid(codes::SHAPE, format!("weights {} do not fit {}", cx.ty(w), cx.ty(x))));
    }
    let g = Geometry::read(cx, n, kernel(cx, n, w)?, &input)?;
    if g.groups < 1 {
        return Err(cx.invalid(codes::VALUE, format!("`group` must be positive, not {}", g.groups)));
    }
    if g.tiles() {
        return Ok(vec![shuffled(cx, x, w, n.opt(2), &g)?]);
    }
    let w = flipped(cx, w, &g)?;
    let x = stuffed(cx, x, &g)?;
    let zeros = vec![0; 2 * input.len()];
    let ones = vec![1; input.len()];
    let attrs = [
        ints("strides", &ones),
        ints("dilations", &g.dilations),
        ints("pads", &zeros),
        int("groups", g.groups),
    ];
    let args: Vec<ValueId> = [Some(x), Some(w), n.opt(2)].into_iter().flatten().collect();
    Ok(vec![cx.op("conv", attrs, &args)?])
}

/// `x[n, c, d..]` times `w[c, m, k..]`, the products laid out as blocks of the output. The columns of the product are one group
/// of channels for each position in a block, so that the channels of a pixel stay neighbours.
fn shuffled(cx: &mut Cx, x: ValueId, w: ValueId, bias: Option<ValueId>, g: &Geometry) -> Res<ValueId> {
    let (sx, sw) = (cx.shape(x), cx.shape(w));
    let spatial = g.kernel.len();
    let (pixels, m) = (dim::product(&sx[2..]), sw[1].clone());
    let rows = cx.reshape(x, &[sx[0].clone(), sx[1].clone(), pixels])?;
    let rows = cx.transpose(rows, &[0, 2, 1])?;
    let channels_last: Vec<usize> = [0].into_iter().chain(2..2 + spatial).chain([1]).collect();
    let w = cx.transpose(w, &channels_last)?;
    let w = cx.reshape(w, &[sw[0].clone(), dim::product(&sw[1..])])?;
    let mut y = cx.op("matmul", [], &[rows, w])?;
    if let Some(bias) = bias {
        let block = dim::product(&sw[2..]);
        let bias = cx.expand(bias, &[block.clone(), m.clone()])?;
        let bias = cx.reshape(bias, &[&block * &m])?;
        y = cx.binary("add", y, bias)?;
    }
    let mut shape = vec![sx[0].clone()];
    shape.extend(sx[2..].iter().cloned());
    shape.extend(g.kernel.iter().map(|k| Dim::from(*k)));
    shape.push(m.clone());
    let y = cx.reshape(y, &shape)?;
    // [n, d.., k.., m] -> [n, m, d0, k0, d1, k1, ..]
    let mut perm = vec![0, 1 + 2 * spatial];
    perm.extend((0..spatial).flat_map(|i| [1 + i, 1 + spatial + i]));
    let y = cx.transpose(y, &perm)?;
    let mut out = vec![sx[0].clone(), m];
    out.extend((0..spatial).map(|i| &sx[2 + i] * &Dim::from(g.kernel[i])));
    cx.reshape(y, &out)
}

/// `w[c, m/g, k..]` as the weights `[m, c/g, k..]` of the convolution, reversed in space.
fn flipped(cx: &mut Cx, w: ValueId, g: &Geometry) -> Res<ValueId> {
    let shape = cx.shape(w);
    let groups = Dim::from(g.groups);
    let Some(inner) = shape[0].exact_div(&groups) else {
        return Err(cx.invalid(codes::SHAPE, format!("{} channels do not form {groups} groups", shape[0])));
    };
    let (m, space) = (shape[1].clone(), &shape[2..]);
    let with = |head: &[Dim]| -> Vec<Dim> { head.iter().chain(space).cloned().collect() };
    let split = cx.reshape(w, &with(&[groups.clone(), inner.clone(), m.clone()]))?;
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..3 + space.len()).collect();
    let swapped = cx.transpose(split, &perm)?;
    let mut y = cx.reshape(swapped, &with(&[&groups * &m, inner]))?;
    for axis in 0..space.len() {
        if g.kernel[axis] > 1 {
            y = cx.reverse(y, axis + 2)?;
        }
    }
    Ok(y)
}

/// The input with `stride - 1` zeros between its elements and the padding that turns the operator into a convolution.
fn stuffed(cx: &mut Cx, x: ValueId, g: &Geometry) -> Res<ValueId> {
    let shape = cx.shape(x);
    let spatial = g.kernel.len();
    let zero = cx.scalar(cx.dtype(x), 0.0);
    let mut y = x;
    if g.strides.iter().any(|s| *s > 1) {
        let lead = &shape[..2];
        let split: Vec<Dim> =
            lead.iter().cloned().chain(shape[2..].iter().flat_map(|d| [d.clone(), Dim::from(1)])).collect();
        y = cx.reshape(y, &split)?;
        let before = vec![Dim::from(0); split.len()];
        let mut after = before.clone();
        for (i, s) in g.strides.iter().enumerate() {
            after[3 + 2 * i] = Dim::from(s - 1);
        }
        y = cx.pad(y, zero, &before, &after)?;
        let joined: Vec<Dim> = lead
            .iter()
            .cloned()
            .chain((0..spatial).map(|i| &shape[2 + i] * &Dim::from(g.strides[i])))
            .collect();
        y = cx.reshape(y, &joined)?;
    }
    let (mut before, mut after) = (vec![Dim::from(0); 2], vec![Dim::from(0); 2]);
    for i in 0..spatial {
        let reach = Dim::from(g.covered(i) - 1);
        before.push(&reach - &g.pads[i]);
        // The stuffing leaves zeros after the last element too.
        let extra = Dim::from(g.output_padding[i] - (g.strides[i] - 1));
        after.push(&(&reach - &g.pads[spatial + i]) + &extra);
    }
    cx.pad(y, zero, &before, &after)
}
