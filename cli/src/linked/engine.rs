//! An engine in a session.

use super::{port_dim, run_error, taps};
use crate::args::Isa as IsaArg;
use crate::backend::{
    Description, Engine, Execution, Loops, MemoryUse, OpenOptions, Port, Signature, StepLine, SymbolRange,
    Taps,
};
use crate::codes;
use crate::error::{CliError, Exit};
use crate::tensor::Array;
use autoglm_compiler::codegen::cpu::Cranelift;
use autoglm_runtime::cpu::emit::Emitter;
use autoglm_runtime::cpu::features::Isa;
use autoglm_runtime::engine::Engine as EngineFile;
use autoglm_runtime::engine::manifest::SymbolBound;
use autoglm_runtime::program::{self, Program};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorMut, TensorRef};
use autoglm_runtime::tile::native::CodeProvider;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A loaded engine with the buffers of its inputs and outputs.
pub(super) struct Native {
    session: Session,
    options: OpenOptions,
    /// The model, if it was compiled to be opened.
    source: Option<PathBuf>,
    signature: Signature,
    inputs: Vec<HostTensor>,
    outputs: Vec<HostTensor>,
}

impl Native {
    /// Of a file, or of the engine that the model `source` was compiled to.
    pub(super) fn new(
        file: EngineFile,
        options: &OpenOptions,
        source: Option<&Path>,
    ) -> Result<Native, CliError> {
        if options.check_weights {
            file.verify_weights().map_err(|e| super::engine_error(&e))?;
        }
        let isa = choose_isa(options.isa, Isa::is_available)?;
        let signature = signature(file.program());
        let code = compilers(options.jit);
        let session = SessionOptions { threads: options.threads, isa, code, ..SessionOptions::default() };
        let session = Session::new(file, session).map_err(|e| run_error(&e))?;
        let source = source.map(Path::to_path_buf);
        Ok(Native {
            session,
            options: options.clone(),
            source,
            signature,
            inputs: Vec::new(),
            outputs: Vec::new(),
        })
    }
}

/// Who compiles the loops of a session: nobody unless `jit` is set.
pub(super) fn compilers(jit: bool) -> Vec<Arc<dyn CodeProvider>> {
    let mut code: Vec<Arc<dyn CodeProvider>> = Vec::new();
    if jit {
        code.push(Arc::new(Emitter));
        // A machine that the compiler does not know has its loops interpreted.
        code.extend(Cranelift::for_host().map(|compiler| Arc::new(compiler) as Arc<dyn CodeProvider>));
    }
    code
}

/// The instruction set to run with, none for the best; an error if the machine lacks it.
fn choose_isa(wanted: IsaArg, available: impl Fn(Isa) -> bool) -> Result<Option<Isa>, CliError> {
    match wanted.fixed().filter(|isa| !available(*isa)) {
        None => Ok(wanted.fixed()),
        Some(isa) => {
            let message = format!("this machine does not support {}", isa.name());
            Err(CliError::new(codes::NO_ISA, Exit::Target, message).help("use `--isa auto`"))
        }
    }
}

fn signature(program: &Program) -> Signature {
    let port = |p: &program::Port| Port {
        name: p.name.clone(),
        elem: program.values[p.value as usize].elem,
        dims: p.dim_names.iter().map(|d| port_dim(d)).collect(),
    };
    Signature {
        inputs: program.inputs.iter().map(port).collect(),
        outputs: program.outputs.iter().map(port).collect(),
    }
}

impl Engine for Native {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn bind(&mut self, inputs: Vec<Array>) -> Result<(), CliError> {
        self.outputs.clear();
        self.inputs = inputs
            .iter()
            .map(|a| HostTensor::from_bytes(a.elem, &a.dims, &a.bytes))
            .collect::<Result<_, _>>()
            .map_err(|e| run_error(&e))?;
        let refs: Vec<TensorRef<'_>> = self.inputs.iter().map(HostTensor::as_ref).collect();
        let shapes = self.session.output_shapes(&refs).map_err(|e| run_error(&e))?;
        for (port, dims) in self.signature.outputs.iter().zip(shapes) {
            self.outputs.push(HostTensor::zeros(port.elem, dims).map_err(|e| run_error(&e))?);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), CliError> {
        let inputs: Vec<TensorRef<'_>> = self.inputs.iter().map(HostTensor::as_ref).collect();
        let mut outputs: Vec<TensorMut<'_>> = self.outputs.iter_mut().map(HostTensor::as_mut).collect();
        self.session.run(&inputs, &mut outputs).map_err(|e| run_error(&e))
    }

    fn time_steps(&mut self) -> Result<Vec<Duration>, CliError> {
        let inputs: Vec<TensorRef<'_>> = self.inputs.iter().map(HostTensor::as_ref).collect();
        let mut outputs: Vec<TensorMut<'_>> = self.outputs.iter_mut().map(HostTensor::as_mut).collect();
        let mut times = Vec::with_capacity(self.session.engine().program().steps.len());
        let mut last = Instant::now();
        let done = |_| {
            times.push(last.elapsed());
            last = Instant::now();
        };
        self.session.run_observed(&inputs, &mut outputs, done).map_err(|e| run_error(&e))?;
        Ok(times)
    }

    fn outputs(&mut self) -> Result<Vec<Array>, CliError> {
        self.outputs.iter().map(|t| Array::new(t.elem, t.dims.clone(), t.bytes.to_vec())).collect()
    }

    fn taps(&mut self, model: &Path) -> Result<Taps, CliError> {
        let model = self.source.as_deref().unwrap_or(model);
        taps::taps(self.session.engine(), self.source.is_none(), model, &self.options, &self.inputs)
    }

    fn describe(&self) -> Description {
        let program = self.session.engine().program();
        let manifest = self.session.engine().manifest();
        let mut facts = vec![
            ("producer version".to_string(), manifest.producer_version.clone()),
            ("model".to_string(), manifest.model_name.clone()),
            ("model blake3".to_string(), hex(&manifest.model_hash)),
        ];
        facts.extend(manifest.opsets.iter().map(|(d, v)| (format!("opset {d:?}"), v.to_string())));
        facts.extend(manifest.options.iter().map(|(k, v)| (format!("option {k}"), v.clone())));
        let step = |(i, s): (usize, &program::Step)| StepLine {
            kind: s.kind.name().to_string(),
            name: s.name.clone(),
            ops: manifest
                .step_ops
                .get(i)
                .into_iter()
                .flat_map(|ops| ops.split(' '))
                .map(Into::into)
                .collect(),
            shapes: shapes(program, s),
        };
        let symbol = |(name, bound): (&String, &SymbolBound)| SymbolRange {
            name: name.clone(),
            min: bound.min,
            max: bound.max,
        };
        let sections = self.session.engine().sections().iter();
        Description {
            ops: manifest.op_histogram.iter().map(|(op, n)| (op.clone(), *n)).collect(),
            step_kinds: super::count(program.steps.iter().map(|s| s.kind.name())),
            symbols: manifest.symbols.iter().map(symbol).collect(),
            sections: sections.map(|s| (s.kind.name().to_string(), s.len)).collect(),
            manifest: facts,
            steps: program.steps.iter().enumerate().map(step).collect(),
        }
    }

    fn loops(&self) -> Option<Loops> {
        let plan = self.session.last_plan()?.loops();
        let code = self.session.code_counts();
        Some(Loops {
            compiled: plan.compiled,
            interpreted: plan.interpreted,
            functions: code.functions,
            code_bytes: code.code_bytes,
        })
    }

    fn execution(&self) -> Option<Execution> {
        let mapped = self.session.engine().is_mapped();
        Some(Execution { threads: self.session.threads(), isa: self.session.isa().name(), mapped })
    }

    fn memory(&self) -> Option<MemoryUse> {
        let plan = self.session.last_plan()?;
        Some(MemoryUse {
            arena: plan.memory().arena_bytes as u64,
            lower_bound: plan.memory().lower_bound as u64,
            scratch: plan.scratch_bytes() as u64,
        })
    }

    fn flops(&self) -> Option<f64> {
        self.session.last_plan().map(|plan| plan.flops() as f64)
    }
}

fn shapes(program: &Program, step: &program::Step) -> String {
    let elem = |v: &u32| program.values.get(*v as usize).map_or("?".into(), |v| format!("{:?}", v.elem));
    let list = |ids: &[u32]| ids.iter().map(elem).collect::<Vec<_>>().join(", ");
    format!("{} -> {}", list(&step.args), list(&step.outs))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_that_the_machine_lacks_is_refused() {
        let old = |isa| isa == Isa::Scalar;
        let error = choose_isa(IsaArg::Avx2, old).unwrap_err();
        assert_eq!((error.code, error.exit), ("E0801", Exit::Target));
        assert_eq!(choose_isa(IsaArg::Scalar, old), Ok(Some(Isa::Scalar)));
        assert_eq!(choose_isa(IsaArg::Auto, old), Ok(None));
    }
}
