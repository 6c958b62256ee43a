//! What layers read on the calibration samples.

use super::Sample;
use super::layer::HELD_BACK;
use super::matrix::{Rows, Window, floats};
use super::run::Runner;
use autoglm_ir::{Attrs, Graph, Tensor};
use autoglm_passes as passes;

/// Rows that are drawn for a layer, over all samples.
const ROWS: usize = 2048;

/// How a layer reads its input.
pub(super) struct Reads {
    /// Whether it is a convolution.
    pub(super) conv: bool,
    /// The attributes of the convolution.
    pub(super) attrs: Attrs,
    /// Extents of its weight; none where they are not constant.
    pub(super) shape: Option<Vec<usize>>,
}

/// Whether alternatives are not made for this one of so many samples, so that it tells how they do on others.
pub(super) fn held_back(samples: usize, sample: usize) -> bool {
    samples >= HELD_BACK && sample % HELD_BACK == HELD_BACK - 1
}

/// Rows of what layers read when a graph runs on the samples: its last outputs, one for each layer.
///
/// # Errors
/// Samples that do not fit the graph, or a bug.
pub(super) fn rows(
    graph: Graph,
    layers: &[Reads],
    options: &passes::Options,
    samples: &[Sample],
) -> Result<Vec<Rows>, String> {
    let first = graph.outputs.len() - layers.len();
    let mut rows = vec![Rows::default(); layers.len()];
    let mut runner = Runner::new(graph, options)?;
    let most = ROWS.div_ceil(samples.len().max(1));
    for (i, sample) in samples.iter().enumerate() {
        let outputs = runner.run(sample).map_err(|e| format!("calibration sample {i}: {e}"))?;
        for ((layer, x), rows) in layers.iter().zip(&outputs[first..]).zip(&mut rows) {
            if held_back(samples.len(), i) {
                let mut held_back = Rows::default();
                draw(layer, x, most, &mut held_back);
                rows.held_back.append(&mut held_back.data);
            } else {
                draw(layer, x, most, rows);
            }
        }
    }
    Ok(rows)
}

fn draw(layer: &Reads, x: &Tensor, most: usize, rows: &mut Rows) {
    let (Some(values), Some(shape)) = (floats(x), &layer.shape) else { return };
    if !layer.conv {
        rows.add_rows(shape[0], &values, most);
    } else if let Some(window) = Window::of(&layer.attrs, &shape[2..]) {
        rows.add_patches(&values, &x.shape, &window, most);
    }
}
