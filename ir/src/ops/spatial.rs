//! Window arithmetic that convolution and pooling share.

use super::common::{require_le, require_len};
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::op::{InferCx, OpError, TensorType};
use crate::tensor::numel;

/// Where windows lie along the spatial axes.
pub(super) struct Windows {
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    /// Padding before each axis.
    pub(super) begin: Vec<i64>,
    /// Padding after each axis.
    pub(super) end: Vec<i64>,
}

impl Windows {
    /// From the attributes `strides`, `dilations` and `pads` (all begins, then all ends) for `rank` spatial axes.
    pub(super) fn new(attrs: &Attrs, rank: usize) -> Result<Windows, OpError> {
        let (strides, dilations) = (attrs.ints("strides"), attrs.ints("dilations"));
        let pads = attrs.ints("pads");
        require_len("strides", strides.len(), rank)?;
        require_len("dilations", dilations.len(), rank)?;
        if pads.len() != 2 * rank {
            return Err(format!("`pads` has {} entries for {rank} spatial axes", pads.len()));
        }
        if let Some(bad) = strides.iter().chain(dilations).find(|v| **v < 1) {
            return Err(format!("strides and dilations must be positive, got {bad}"));
        }
        // Far above any real window, and small enough that no sum or product below overflows.
        if let Some(bad) = strides.iter().chain(dilations).chain(pads).find(|v| v.abs() > 1 << 30) {
            return Err(format!("strides, dilations and pads must be below 2^30, got {bad}"));
        }
        let (begin, end) = pads.split_at(rank);
        Ok(Windows {
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            begin: begin.to_vec(),
            end: end.to_vec(),
        })
    }

    /// How many windows of `kernel` taps fit along spatial axis `i` of extent `input`; with `ceil` also a last one that
    /// starts inside the input or the padding before it and reaches beyond the padding after it.
    pub(super) fn count(
        &self,
        cx: &InferCx<'_>,
        i: usize,
        input: &Dim,
        kernel: &Dim,
        ceil: bool,
    ) -> Result<Dim, OpError> {
        let (stride, one) = (Dim::from(self.strides[i]), Dim::from(1));
        let reach = &(&Dim::from(self.dilations[i]) * &(kernel - &one)) + &one;
        let padded = &(input + &self.begin[i].into()) + &self.end[i].into();
        require_le(
            cx,
            &reach,
            &padded,
            &format!("the window exceeds the padded extent of spatial axis {i}"),
        )?;
        let free = &padded - &reach;
        let quotient = if ceil { free.ceil_div(&stride) } else { free.floor_div(&stride) };
        let count = &quotient.ok_or("strides must be positive")? + &one;
        if !ceil {
            return Ok(count);
        }
        let starts = (input + &self.begin[i].into()).ceil_div(&stride).ok_or("strides must be positive")?;
        Ok(count.smaller(&starts))
    }

    /// Input position of tap `tap` of window `window` along spatial axis `i`; negative or beyond the extent in padding.
    pub(super) fn position(&self, i: usize, window: usize, tap: usize) -> i64 {
        window as i64 * self.strides[i] + tap as i64 * self.dilations[i] - self.begin[i]
    }

    /// Flat input position of each tap (inner) of each window (outer); -1 for a tap in padding, -2 for one beyond it.
    pub(super) fn taps(
        &self,
        input: &[usize],
        kernel: &[usize],
        windows: std::ops::Range<usize>,
        out: &[usize],
    ) -> Vec<i64> {
        let taps = numel(kernel).unwrap_or(0);
        let mut found = Vec::with_capacity(windows.len() * taps);
        for window in windows {
            for tap in 0..taps {
                found.push(self.tap(input, kernel, out, window, tap));
            }
        }
        found
    }

    fn tap(&self, input: &[usize], kernel: &[usize], out: &[usize], window: usize, tap: usize) -> i64 {
        let (mut window, mut tap, mut scale, mut flat, mut outside) = (window, tap, 1, 0, 0);
        for i in (0..input.len()).rev() {
            let at = self.position(i, window % out[i], tap % kernel[i]);
            let extent = input[i] as i64;
            if at >= extent + self.end[i] {
                outside = -2;
            } else if !(0..extent).contains(&at) && outside == 0 {
                outside = -1;
            }
            flat += at * scale;
            scale *= extent;
            window /= out[i];
            tap /= kernel[i];
        }
        if outside < 0 { outside } else { flat }
    }
}

/// Whether the attribute `layout` puts channels last; an error for an unknown layout.
pub(super) fn channels_last(attrs: &Attrs) -> Result<bool, OpError> {
    match attrs.str("layout") {
        "" => Ok(false),
        "nhwc" => Ok(true),
        other => Err(format!("unknown layout `{other}`")),
    }
}

/// Batch, channels and spatial extents of an image tensor.
pub(super) fn split<T: Clone>(shape: &[T], channels_last: bool) -> Result<(T, T, Vec<T>), OpError> {
    match shape {
        [n, spatial @ .., c] if channels_last && !spatial.is_empty() => {
            Ok((n.clone(), c.clone(), spatial.to_vec()))
        }
        [n, c, spatial @ ..] if !channels_last && !spatial.is_empty() => {
            Ok((n.clone(), c.clone(), spatial.to_vec()))
        }
        _ => Err(format!("an image needs at least 3 axes, got {}", shape.len())),
    }
}

/// The inverse of [`split`].
pub(super) fn join<T: Clone>(n: T, c: T, spatial: Vec<T>, channels_last: bool) -> Vec<T> {
    match channels_last {
        true => [vec![n], spatial, vec![c]].concat(),
        false => [vec![n, c], spatial].concat(),
    }
}

/// Swaps the two inner axes of `[outer, a, b]` data.
pub(super) fn swap_inner(v: &[f64], outer: usize, a: usize, b: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(v.len());
    for o in 0..outer {
        for j in 0..b {
            out.extend((0..a).map(|i| v[(o * a + i) * b + j]));
        }
    }
    out
}

/// Extents of an image argument after checking its layout.
pub(super) fn image(x: &TensorType, attrs: &Attrs) -> Result<(Dim, Dim, Vec<Dim>), OpError> {
    split(&x.shape, channels_last(attrs)?)
}
