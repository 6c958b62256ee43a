//! The whole way from bytes to results.

use autoglm_compiler::compile::{CompileOptions, compile};
use autoglm_compiler::diag::{Class, Diagnostic};
use autoglm_compiler::import::ImportOptions;
use autoglm_compiler::onnx::{Limits, ModelFile, from_bytes};
use autoglm_ir::budget::FoldLimits;
use autoglm_passes as passes;
use autoglm_runtime::engine::{Engine, EngineWriter};
use autoglm_runtime::error::RunError;
use autoglm_runtime::program::ShapeOp;
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use bytes::Bytes;
use std::cell::Cell;
use std::path::PathBuf;

/// Most bytes of any tensor, in the model or in a run.
const TENSOR: u64 = 1 << 20;

/// How far cases got.
#[derive(Default, Debug)]
pub struct Tally {
    pub unreadable: Cell<u64>,
    pub refused: Cell<u64>,
    pub failed: Cell<u64>,
    pub ran: Cell<u64>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// Most nodes of a mutant.
const NODES: u64 = 10_000;

fn limits(nodes: u64) -> Limits {
    Limits { nodes, decoded_bytes: 64 << 20, tensor_bytes: TENSOR, sparse_bytes: TENSOR, ..Limits::default() }
}

fn options(nodes: u64) -> CompileOptions {
    CompileOptions {
        import: ImportOptions { limits: limits(nodes), ..ImportOptions::default() },
        passes: passes::Options {
            fold: FoldLimits {
                bytes: TENSOR as usize,
                total_bytes: 4 * TENSOR as usize,
                ..FoldLimits::default()
            },
            ..passes::Options::default()
        },
        ..CompileOptions::default()
    }
}

/// Takes a file as far as it goes. A fault of ours, wherever it shows, is a panic.
pub fn attempt(bytes: &[u8], dir: Option<PathBuf>, tally: &Tally) {
    let Ok(mut model) = from_bytes(Bytes::copy_from_slice(bytes), &limits(NODES)) else {
        return add(&tally.unreadable);
    };
    model.dir = dir.unwrap_or_default();
    match compiled(&mut model, NODES) {
        Err(problems) => {
            let ours = problems.iter().find(|p| p.class == Class::Internal);
            assert!(
                ours.is_none(),
                "blamed on autoglm: {}",
                ours.map(ToString::to_string).unwrap_or_default()
            );
            add(&tally.refused);
        }
        Ok(engine) => match run(engine) {
            Ok(()) => add(&tally.ran),
            Err(RunError::Panic(text)) => panic!("a worker panicked: {text}"),
            Err(_) => add(&tally.failed),
        },
    }
}

/// The engine of a model of at most `nodes` nodes.
pub fn compiled(model: &mut ModelFile, nodes: u64) -> Result<Engine, Vec<Diagnostic>> {
    let writer = EngineWriter::in_memory().unwrap();
    let (bytes, _) = compile(model, &options(nodes), writer, &mut |_, _| {})?;
    // What we wrote must load.
    Ok(Engine::from_bytes(bytes.into()).unwrap())
}

fn run(engine: Engine) -> Result<(), RunError> {
    let program = engine.program().clone();
    let options = SessionOptions {
        threads: 2,
        max_memory: 16 * TENSOR,
        max_tensor: 4 * TENSOR,
        max_outputs: 16 * TENSOR,
        max_work: 1 << 22,
        ..SessionOptions::default()
    };
    let mut session = Session::new(engine, options)?;
    let extent = |reg: &u32| match program.shape.ops.get(*reg as usize) {
        Some(ShapeOp::Const(n)) => usize::try_from(*n).unwrap_or(0),
        _ => 3,
    };
    let mut inputs = Vec::new();
    for port in &program.inputs {
        let value = &program.values[port.value as usize];
        let dims: Vec<usize> = value.dims.iter().map(extent).collect();
        if dims.iter().fold(1u64, |n, d| n.saturating_mul(*d as u64)) > TENSOR {
            return Ok(());
        }
        let mut tensor = HostTensor::zeros(value.elem, &dims)?;
        tensor.bytes.iter_mut().step_by(value.elem.size()).enumerate().for_each(|(i, b)| *b = i as u8 % 3);
        inputs.push(tensor);
    }
    let inputs: Vec<_> = inputs.iter().map(HostTensor::as_ref).collect();
    session.run_alloc(&inputs).map(drop)
}
