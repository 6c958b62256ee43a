//! The cost table that the compiler is built with.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm_compiler::compile::{CompileOptions, compile};
use autoglm_compiler::costs;
use autoglm_compiler::onnx::{file, limits::Limits};
use autoglm_passes::egraph::{CostModel, Kernel};
use autoglm_runtime::engine::EngineWriter;
use std::path::Path;

/// Roofline and measurement differ by at most this factor for the most work that was measured. The roofline knows memory
/// only at the speed of the caches, and nothing of strides.
const SEAM: f64 = 10.0;

fn model(threads: u32) -> CostModel {
    CostModel { threads, table: Some(costs::reference().unwrap()), ..CostModel::default() }
}

/// The smallest and the largest measured extents of each axis.
fn bounds(kernel: Kernel, threads: u32) -> Vec<(u64, u64)> {
    let table = costs::reference().unwrap();
    let points: Vec<_> = table.points().filter(|p| (p.kernel, p.threads) == (kernel, threads)).collect();
    assert!(!points.is_empty(), "{} on {threads} threads is not measured", kernel.name());
    let axis = |i: usize| {
        let extents = points.iter().map(|p| p.at[i]);
        (extents.clone().min().unwrap(), extents.max().unwrap())
    };
    (0..kernel.axes().len()).map(axis).collect()
}

/// All combinations of a few extents of each axis, from far below to far beyond what was measured.
fn samples(bounds: &[(u64, u64)]) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new()];
    for (low, high) in bounds {
        let (low, high) = (*low as f64, *high as f64);
        let middle = (low * high).sqrt();
        let axis = [1.0, low, (low * middle).sqrt(), middle, (middle * high).sqrt(), high, high * 7.0];
        all = all.iter().flat_map(|at| axis.map(|x| [at.as_slice(), &[x]].concat())).collect();
    }
    all
}

#[test]
fn every_kernel_is_measured_and_more_work_never_takes_less_time() {
    assert_eq!(costs::reference().unwrap().isa, "avx2");
    for kernel in Kernel::ALL {
        for threads in [1, 2] {
            let model = model(threads);
            for at in samples(&bounds(kernel, threads)) {
                let ns = model.predict(kernel, &at);
                assert!(ns.is_finite() && ns > 0.0, "{} {at:?}: {ns}", kernel.name());
                for axis in 0..at.len() {
                    let mut more = at.clone();
                    more[axis] *= 1.7;
                    let longer = model.predict(kernel, &more);
                    assert!(
                        longer >= ns * (1.0 - 1e-9),
                        "{} on {threads}: {at:?} {ns}, {more:?} {longer}",
                        kernel.name()
                    );
                }
            }
        }
    }
}

#[test]
fn the_roofline_takes_over_within_a_factor() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| *kernel != Kernel::Step) {
        for threads in [1, 2] {
            let (model, bounds) = (model(threads), bounds(kernel, threads));
            let largest: Vec<f64> = bounds.iter().map(|(_, high)| *high as f64).collect();
            let beyond: Vec<f64> = largest.iter().map(|x| x * 1.001).collect();
            let (measured, next) = (model.predict(kernel, &largest), model.predict(kernel, &beyond));
            assert!(next / measured < 1.01, "{}: a jump from {measured} to {next}", kernel.name());
            let ratio = measured / model.roofline(kernel, &largest);
            assert!(ratio < SEAM && ratio > 1.0 / SEAM, "{} on {threads}: {ratio}", kernel.name());
        }
    }
}

#[test]
fn equal_models_give_equal_engines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/digits/digits.onnx");
    let once = || {
        let mut model = file::open(&path, &Limits::default()).unwrap();
        let writer = EngineWriter::in_memory().unwrap();
        let options = CompileOptions::default();
        assert!(options.passes.costs.is_some());
        let (bytes, report) = compile(&mut model, &options, writer, &mut |_, _| {}).unwrap();
        (bytes, report.explanation.unwrap().cost)
    };
    let (first, second) = (once(), once());
    assert!(first == second && first.1.0 > first.1.1, "{:?} {:?}", first.1, second.1);
}
