//! Compression, in the words of the command line.

use super::{elem, signature};
use crate::backend::{
    Alternative, CompressRequest, CompressedLayer, Compression, CompressionRound, Estimate, Figures, HeldOut,
    WeightZeros,
};
use crate::calib;
use crate::error::CliError;
use autoglm_compiler::accuracy::{Accuracy, AccuracyReport, Measured, Sample};
use autoglm_ir::{Graph, Tensor};
use autoglm_passes::egraph::{Kind, Objective};
use autoglm_runtime::program::Sparsity;
use std::path::Path;

/// The request with its calibration data, for a model's imported graph.
pub(super) fn accuracy(graph: &Graph, request: &CompressRequest) -> Result<Accuracy, CliError> {
    let ports = signature(graph)?;
    let sample = |arrays: Vec<crate::tensor::Array>| -> Result<Sample, CliError> {
        let mut sample = Sample::new();
        for (v, array) in graph.inputs.iter().zip(arrays) {
            let value = graph.value(*v);
            elem(value.ty.dtype)?;
            let what = array.describe();
            let tensor = Tensor::from_bytes(value.ty.dtype, array.dims, array.bytes.into());
            let misfit = || CliError::usage(format!("{what} does not fit {}", value.ty.dtype));
            sample.insert(value.name.clone(), tensor.ok_or_else(misfit)?);
        }
        Ok(sample)
    };
    let samples = |path: &Path| calib::samples(&ports, path)?.into_iter().map(sample).collect();
    Ok(Accuracy {
        gates: request.gates,
        samples: samples(&request.calib)?,
        held_out: request.holdout.as_deref().map_or_else(|| Ok(Vec::new()), samples)?,
        low_rank: request.low_rank,
        sparse: request.sparse,
        keep: request.keep.clone(),
        objective: if request.by_bytes { Objective::Bytes } else { Objective::Latency },
    })
}

/// The zeros of a weight.
pub(super) fn zeros(it: &autoglm_compiler::lower::WeightZeros) -> WeightZeros {
    let (pattern, arithmetic) = match it.pattern {
        Some(Sparsity::Panels { kept, of }) => (Some(format!("{kept} of {of} rows a panel")), it.zeros.rows),
        Some(Sparsity::Columns) => (Some("2:4".to_owned()), 1.0),
        Some(Sparsity::Scattered) => (Some("single elements".to_owned()), 1.0),
        None => (None, 1.0),
    };
    WeightZeros {
        node: it.node.clone(),
        extents: it.extents,
        density: it.zeros.density,
        pattern,
        arithmetic,
        bytes: it.bytes.map(|bytes| bytes as u64),
    }
}

fn figures(m: &Measured) -> Figures {
    Figures {
        layer_cosine: m.layer_cosine,
        layer_mse: m.layer_mse,
        out_cosine: m.out_cosine,
        out_worst: m.out_worst,
        out_mse: m.out_mse,
        out_top1: m.out_top1,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::LowRank => "low-rank",
        Kind::Sparse => "sparse",
    }
}

/// What happened.
pub(super) fn compression(it: &AccuracyReport) -> Compression {
    let round = |r: &autoglm_compiler::accuracy::Round| CompressionRound {
        objective: match r.objective {
            Objective::Latency => "latency",
            Objective::Bytes => "bytes",
        },
        kinds: r.kinds.iter().map(|k| kind(*k)).collect(),
        error: r.error,
        latency_ns: r.latency,
        bytes: r.bytes,
        alternatives: r.alternatives.clone(),
        measured: figures(&r.measured),
        failures: r.failures.clone(),
    };
    let alternative = |o: &autoglm_compiler::accuracy::Offer| Alternative {
        id: o.id,
        name: o.name.clone(),
        kind: kind(o.kind),
        bytes: o.bytes as u64,
        mse: o.error.mse,
        cosine: o.error.cosine,
        estimate: o.estimate.map(|e| Estimate { saves_ns: e.latency, saves_bytes: e.bytes, error: e.error }),
        refused: o.refused.clone(),
    };
    let layer = |l: &autoglm_compiler::accuracy::LayerReport| CompressedLayer {
        name: l.name.clone(),
        none: l.none.clone(),
        latency_ns: l.latency,
        permuted: l.permuted,
        alternatives: l.offers.iter().map(alternative).collect(),
        mse: l.measured.mse,
        cosine: l.measured.cosine,
        held_out: l.held_out.map(|e| (e.mse, e.cosine)),
    };
    Compression {
        gates: it.gates.to_string(),
        samples: it.samples as u64,
        measured: figures(&it.measured),
        skipped: it.skipped.clone(),
        latency_ns: it.latency,
        bytes: it.bytes,
        rounds: it.rounds.iter().map(round).collect(),
        layers: it.layers.iter().map(layer).collect(),
        held_out: it.held_out.as_ref().map(|h| HeldOut {
            samples: h.samples as u64,
            measured: figures(&h.measured),
            failures: h.failures.clone(),
        }),
    }
}
