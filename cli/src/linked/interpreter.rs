//! A model in the reference interpreter.

use super::signature;
use crate::backend::{Description, Engine, Execution, Loops, MemoryUse, Signature, Tap, Taps};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::tensor::Array;
use autoglm_ir::{Def, Graph, Tensor, interp};
use std::path::Path;
use std::time::Duration;

/// A graph with its bound inputs.
pub(super) struct Interpreter {
    graph: Graph,
    signature: Signature,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Interpreter {
    pub(super) fn new(graph: Graph) -> Result<Interpreter, CliError> {
        let signature = signature(&graph)?;
        Ok(Interpreter { graph, signature, inputs: Vec::new(), outputs: Vec::new() })
    }
}

fn array(tensor: &Tensor) -> Result<Array, CliError> {
    Array::new(super::elem(tensor.dtype)?, tensor.shape.clone(), tensor.data.to_vec())
}

fn failed(error: &interp::RunError) -> CliError {
    CliError::new(codes::INTERPRETER, Exit::Invalid, error.to_string())
}

impl Engine for Interpreter {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn bind(&mut self, inputs: Vec<Array>) -> Result<(), CliError> {
        let tensor = |(array, input): (Array, &autoglm_ir::ValueId)| {
            let dtype = self.graph.ty(*input).dtype;
            let what = array.describe();
            Tensor::from_bytes(dtype, array.dims, array.bytes.into()).ok_or_else(|| {
                CliError::new(
                    autoglm_runtime::codes::RUN_TENSOR,
                    Exit::Invalid,
                    format!("{what} does not fit {dtype}"),
                )
            })
        };
        self.inputs = inputs.into_iter().zip(&self.graph.inputs).map(tensor).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn run(&mut self) -> Result<(), CliError> {
        self.outputs = interp::run(&self.graph, &self.inputs).map_err(|e| failed(&e))?;
        Ok(())
    }

    fn time_steps(&mut self) -> Result<Vec<Duration>, CliError> {
        self.run().map(|()| Vec::new())
    }

    fn outputs(&mut self) -> Result<Vec<Array>, CliError> {
        self.outputs.iter().map(array).collect()
    }

    fn taps(&mut self, _: &Path) -> Result<Taps, CliError> {
        let graph = &self.graph;
        let mut taps = Vec::new();
        interp::run_tapped(graph, &self.inputs, &mut |id, tensor| {
            let value = graph.value(id);
            if let (false, Def::Node(node, _)) = (value.name.is_empty(), value.def) {
                taps.push((graph.node(node).loc.to_string(), value.name.clone(), array(tensor)));
            }
        })
        .map_err(|e| failed(&e))?;
        let tap = |(node, value, array)| -> Result<Tap, CliError> { Ok(Tap { node, value, array: array? }) };
        Ok(Taps { list: taps.into_iter().map(tap).collect::<Result<_, _>>()?, note: None })
    }

    fn describe(&self) -> Description {
        let ops = super::count(self.graph.nodes.iter().map(|n| n.op.name()));
        Description { ops, ..Description::default() }
    }

    fn execution(&self) -> Option<Execution> {
        None
    }

    fn memory(&self) -> Option<MemoryUse> {
        None
    }

    fn flops(&self) -> Option<f64> {
        None
    }

    fn loops(&self) -> Option<Loops> {
        None
    }
}
