//! An engine in a session.

use super::{port_dim, run_error};
use crate::args::Isa as IsaArg;
use crate::backend::{Description, Engine, Loops, OpenOptions, Port, Signature};
use crate::error::{CliError, Exit};
use crate::tensor::Array;
use autoglm_compiler::codegen::cpu::Cranelift;
use autoglm_runtime::cpu::emit::Emitter;
use autoglm_runtime::cpu::features::Isa;
use autoglm_runtime::engine::Engine as EngineFile;
use autoglm_runtime::program::{self, Program};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{HostTensor, TensorMut, TensorRef};
use autoglm_runtime::tile::native::{CodeProvider, FirstOf};
use std::sync::Arc;

/// A loaded engine with the buffers of its inputs and outputs.
pub(super) struct Native {
    session: Session,
    signature: Signature,
    inputs: Vec<HostTensor>,
    outputs: Vec<HostTensor>,
}

impl Native {
    pub(super) fn new(file: EngineFile, options: &OpenOptions) -> Result<Native, CliError> {
        if options.check_weights {
            file.verify_weights().map_err(|e| super::engine_error(&e))?;
        }
        let isa = match options.isa {
            IsaArg::Auto => None,
            IsaArg::Scalar => Some(Isa::Scalar),
            IsaArg::Avx2 => Some(Isa::Avx2),
            IsaArg::Avx512 => Some(Isa::Avx512),
        };
        if let Some(isa) = isa.filter(|isa| !isa.is_available()) {
            let message = format!("this machine does not support {}", isa.name());
            return Err(CliError::new("E0801", Exit::Target, message).help("use `--isa auto`"));
        }
        let signature = signature(file.program());
        // A machine that the compiler does not know has its loops interpreted.
        let code = options.jit.then(|| {
            let mut providers: Vec<Arc<dyn CodeProvider>> = vec![Arc::new(Emitter)];
            if let Ok(compiler) = Cranelift::for_host() {
                providers.push(Arc::new(compiler));
            }
            Arc::new(FirstOf(providers)) as Arc<dyn CodeProvider>
        });
        let session = SessionOptions { threads: options.threads, isa, code, ..SessionOptions::default() };
        let session = Session::new(file, session).map_err(|e| run_error(&e))?;
        Ok(Native { session, signature, inputs: Vec::new(), outputs: Vec::new() })
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

    fn outputs(&mut self) -> Result<Vec<Array>, CliError> {
        self.outputs.iter().map(|t| Array::new(t.elem, t.dims.clone(), t.bytes.to_vec())).collect()
    }

    fn taps(&mut self) -> Result<Vec<(String, Array)>, CliError> {
        let message = "an engine keeps no intermediate values";
        Err(CliError::new("E0902", Exit::Unsupported, message)
            .help("give the ONNX model instead of the engine: it is compiled with every value as an output"))
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
        facts.extend(manifest.symbols.iter().map(|(name, bound)| {
            let max = bound.max.map_or("unbounded".to_string(), |m| m.to_string());
            (format!("symbol {name}"), format!("{}..{max}", bound.min))
        }));
        let step = |s: &program::Step| [s.kind.name().to_string(), s.name.clone(), shapes(program, s)];
        Description {
            ops: manifest.op_histogram.iter().map(|(op, n)| (op.clone(), *n)).collect(),
            memory: vec![
                ("weights".into(), self.session.engine().weights().len() as u64),
                ("values".into(), program.values.len() as u64),
            ],
            manifest: facts,
            steps: program.steps.iter().map(step).collect(),
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
