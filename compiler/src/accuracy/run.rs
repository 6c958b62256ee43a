//! Runs of graphs on calibration data.

use super::Sample;
use crate::compile::{Sink, signature};
use crate::lower::{self, lower_described};
use autoglm_ir::{DType, Graph, Tensor, ValueId};
use autoglm_passes as passes;
use autoglm_runtime::engine::manifest::Manifest;
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorRef};
use std::sync::Arc;

/// A graph that can be run.
pub(super) struct Runner {
    session: Session,
    /// Names of its inputs, in order.
    inputs: Vec<String>,
}

impl Runner {
    /// Compiles an optimised graph as the engine will be: layout, clean-up, lowering. One thread and so one order of
    /// every sum, whatever the machine has.
    pub(super) fn new(graph: Graph, options: &passes::Options) -> Result<Runner, String> {
        let graph = passes::run_all(passes::after_search(), graph, options, &mut |_| {})
            .map_err(|e| e.to_string())?;
        let mut sink = Sink { writer: EngineWriter::in_memory().map_err(|e| e.to_string())? };
        let lowered = lower_described(&graph, lower::Options::FAST, &mut sink);
        let lowered = lowered
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let port = |(name, value): (&str, ValueId)| signature(&graph, name, value);
        let inputs = graph.inputs.iter().map(|v| (graph.value(*v).name.as_str(), *v)).map(port).collect();
        let outputs = graph.outputs.iter().map(|o| (o.name.as_str(), o.value)).map(port).collect();
        let bytes = sink
            .writer
            .finish(&Manifest { inputs, outputs, ..Manifest::default() }, &lowered.program)
            .map_err(|e| e.to_string())?;
        let engine = Engine::from_bytes(Arc::from(bytes)).map_err(|e| e.to_string())?;
        let inputs = graph.inputs.iter().map(|v| graph.value(*v).name.clone()).collect();
        let options = SessionOptions { threads: 1, ..SessionOptions::default() };
        Ok(Runner { session: Session::new(engine, options).map_err(|e| e.to_string())?, inputs })
    }

    /// The outputs for a sample.
    pub(super) fn run(&mut self, sample: &Sample) -> Result<Vec<Tensor>, String> {
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            let tensor = sample.get(name).ok_or_else(|| format!("the sample has no `{name}`"))?;
            let elem =
                lower::elem(tensor.dtype).map_err(|_| format!("`{name}` has elements of no engine"))?;
            tensors
                .push(HostTensor::from_bytes(elem, &tensor.shape, &tensor.data).map_err(|e| e.to_string())?);
        }
        let refs: Vec<TensorRef<'_>> = tensors.iter().map(HostTensor::as_ref).collect();
        let outputs = self.session.run_alloc(&refs).map_err(|e| e.to_string())?;
        outputs.into_iter().map(from_host).collect()
    }
}

fn from_host(tensor: HostTensor) -> Result<Tensor, String> {
    let dtype = DType::ALL.iter().copied().find(|d| lower::elem(*d).is_ok_and(|elem| elem == tensor.elem));
    let dtype = dtype.ok_or("an output has elements of no tensor")?;
    Ok(Tensor { dtype, shape: tensor.dims.clone(), data: bytes::Bytes::copy_from_slice(&tensor.bytes) })
}
