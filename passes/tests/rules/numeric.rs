//! Equality of two graphs on inputs with awkward values and extents.

use autoglm_ir::interp;
use autoglm_ir::{Dim, Graph, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// SplitMix64 (Steele et al., 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Zeros of both signs, ones, negatives, large and tiny numbers among ordinary ones; infinities where `wild`.
fn value(random: &mut Random, wild: bool) -> f64 {
    match random.below(if wild { 14 } else { 12 }) {
        0 => 0.0,
        1 => -0.0,
        2 => 1.0,
        3 => -1.0,
        4 => 30.0,
        5 => -1e-3,
        12 => f64::INFINITY,
        13 => f64::NEG_INFINITY,
        _ => random.next() as f64 / u64::MAX as f64 * 4.0 - 2.0,
    }
}

fn inputs(graph: &Graph, extent: i64, random: &mut Random, wild: bool) -> Option<Vec<Tensor>> {
    let symbols: BTreeMap<Arc<str>, i64> = graph.symbols.keys().map(|s| (s.clone(), extent)).collect();
    let of = |dim: &Dim| dim.eval(&|s| symbols.get(s).copied()).and_then(|v| usize::try_from(v).ok());
    graph
        .inputs
        .iter()
        .map(|v| {
            let ty = graph.ty(*v);
            let shape = ty.shape.iter().map(of).collect::<Option<Vec<usize>>>()?;
            let count = shape.iter().product();
            Some(if ty.dtype.is_float() {
                Tensor::floats(ty.dtype, shape, (0..count).map(|_| value(random, wild)).collect())
            } else {
                Tensor::ints(ty.dtype, shape, (0..count).map(|_| random.below(2) as i128).collect())
            })
        })
        .collect()
}

/// Runs both graphs and compares: rules round in another order, so to 1e-4 of each output's largest finite element. With
/// infinities among the inputs what was finite must stay so; of what was not, sums may make another infinity or NaN.
pub(crate) fn check(original: &Graph, optimised: &Graph) -> Result<(), String> {
    let mut random = Random(7);
    for (extent, wild) in [(1, false), (2, false), (5, false), (5, true), (0, false)] {
        let Some(inputs) = inputs(original, extent, &mut random, wild) else { continue };
        let Ok(expected) = interp::run(original, &inputs) else { continue };
        let found = interp::run(optimised, &inputs).map_err(|e| format!("extent {extent}: {e}"))?;
        for (a, b) in expected.iter().zip(&found) {
            if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
                return Err(format!("{} {:?} became {} {:?}", a.dtype, a.shape, b.dtype, b.shape));
            }
            let (a, b) = (a.to_f64(), b.to_f64());
            let largest = a.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
            for (i, (x, y)) in a.iter().zip(&b).enumerate() {
                let same = match x.is_finite() {
                    true => (x - y).abs() <= 1e-4 * largest,
                    false => x == y || x.is_nan() && y.is_nan() || wild,
                };
                if !same {
                    return Err(format!("element {i}: {x} became {y} for extent {extent}"));
                }
            }
        }
    }
    Ok(())
}
