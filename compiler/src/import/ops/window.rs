//! Strides, dilations and padding of windows, shared by convolution and pooling.

use super::super::codes;
use super::super::cx::{Cx, Res};
use super::super::node::NodeCx;
use autoglm_ir::{Dim, ValueId};

/// The geometry of a window over the spatial dimensions.
pub(crate) struct Window {
    /// Extents of the window.
    pub(crate) kernel: Vec<i64>,
    /// Steps between windows.
    pub(crate) strides: Vec<i64>,
    /// Distances between the elements of a window.
    pub(crate) dilations: Vec<i64>,
    /// Padding before each dimension, then after each.
    pub(crate) pads: Vec<Dim>,
}

/// How padding is chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoPad {
    /// As the attribute `pads` says.
    Explicit,
    /// None.
    Valid,
    /// So that the output has `ceil(input / stride)` elements, the odd one after.
    SameUpper,
    /// The same, the odd one before.
    SameLower,
}

/// The attribute `auto_pad`.
pub(crate) fn auto_pad(cx: &Cx, n: &NodeCx<'_>) -> Res<AutoPad> {
    Ok(
        match n.known_mode(cx, "auto_pad", "NOTSET", &["NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"])? {
            "VALID" => AutoPad::Valid,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            _ => AutoPad::Explicit,
        },
    )
}

/// A list of one positive number a spatial dimension; ones when absent.
pub(crate) fn per_axis(cx: &Cx, n: &NodeCx<'_>, name: &str, spatial: usize) -> Res<Vec<i64>> {
    let v = n.ints(name)?.filter(|v| !v.is_empty()).unwrap_or_else(|| vec![1; spatial]);
    if v.len() != spatial || v.iter().any(|x| *x < 1) {
        let what = format!("`{name}` must hold {spatial} positive numbers, not {v:?}");
        return Err(cx.invalid(codes::VALUE, what));
    }
    Ok(v)
}

/// The explicit padding; zeros when absent.
pub(crate) fn explicit_pads(cx: &Cx, n: &NodeCx<'_>, spatial: usize) -> Res<Vec<i64>> {
    let v = n.ints("pads")?.filter(|v| !v.is_empty()).unwrap_or_else(|| vec![0; 2 * spatial]);
    if v.len() != 2 * spatial {
        return Err(cx.invalid(codes::VALUE, format!("`pads` must hold {} numbers, not {v:?}", 2 * spatial)));
    }
    Ok(v)
}

impl Window {
    /// Reads the geometry for an input of these spatial extents.
    pub(crate) fn read(cx: &Cx, n: &NodeCx<'_>, kernel: Vec<i64>, input: &[Dim]) -> Res<Window> {
        let spatial = input.len();
        if kernel.len() != spatial || kernel.iter().any(|k| *k < 1) {
            let what = format!("the kernel {kernel:?} must have {spatial} positive extents");
            return Err(cx.invalid(codes::VALUE, what));
        }
        let strides = per_axis(cx, n, "strides", spatial)?;
        let dilations = per_axis(cx, n, "dilations", spatial)?;
        let mut w = Window { kernel, strides, dilations, pads: Vec::new() };
        w.pads = match auto_pad(cx, n)? {
            AutoPad::Explicit => explicit_pads(cx, n, spatial)?.into_iter().map(Dim::from).collect(),
            AutoPad::Valid => vec![Dim::from(0); 2 * spatial],
            mode => w.same(cx, input, mode)?,
        };
        Ok(w)
    }

    /// The extent that a dilated window covers.
    pub(crate) fn covered(&self, axis: usize) -> Res<i64> {
        let k = self.kernel[axis].saturating_sub(1);
        Ok(k.saturating_mul(self.dilations[axis]).saturating_add(1))
    }

    fn same(&self, cx: &Cx, input: &[Dim], mode: AutoPad) -> Res<Vec<Dim>> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (i, extent) in input.iter().enumerate() {
            let (stride, covered) = (Dim::from(self.strides[i]), Dim::from(self.covered(i)?));
            let windows = cx.ceil_div(extent, &stride)?;
            let needed = &(&(&(&windows - &1.into()) * &stride) + &covered) - extent;
            let total = cx.larger(&needed, &0.into());
            let small = cx.floor_div(&total, &2.into())?;
            let large = &total - &small;
            let upper = mode == AutoPad::SameUpper;
            before.push(if upper { small.clone() } else { large.clone() });
            after.push(if upper { large } else { small });
        }
        before.extend(after);
        Ok(before)
    }

    /// The padding as numbers, where it does not depend on symbols.
    pub(crate) fn fixed_pads(&self) -> Option<Vec<i64>> {
        self.pads.iter().map(Dim::as_const).collect()
    }

    /// Pads the spatial dimensions of `x[n, c, ...]` and leaves no padding to the window.
    pub(crate) fn pad(&mut self, cx: &mut Cx, x: ValueId, value: f64) -> Res<ValueId> {
        let spatial = self.kernel.len();
        let lead = [Dim::from(0), Dim::from(0)];
        let before: Vec<Dim> = lead.iter().chain(&self.pads[..spatial]).cloned().collect();
        let after: Vec<Dim> = lead.iter().chain(&self.pads[spatial..]).cloned().collect();
        let value = cx.scalar(cx.dtype(x), value);
        self.pads = vec![Dim::from(0); 2 * spatial];
        cx.pad(x, value, &before, &after)
    }
}
