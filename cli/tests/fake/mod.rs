//! A made-up compiler and runtime. The model's file name decides what it computes: `double` gives y = 2x, `triple`
//! y = 3x, `bf16` y = 2 in bf16; other names are refused in different ways.

#[path = "../folder/mod.rs"]
mod folder;

use autoglm::args::{Cli, Command};
use autoglm::backend::*;
use autoglm::cmd::{Ctx, dispatch};
use autoglm::error::{CliError, Exit};
use autoglm::linked::Linked;
use autoglm::report::Report;
use autoglm::spec::unknown_name;
use autoglm::tensor::{Array, to_f64};
use autoglm_runtime::elem::ElemType;
use clap::Parser;
pub(crate) use folder::Folder;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) struct Fake;

pub(crate) struct FakeEngine {
    signature: Signature,
    factor: f64,
    jit: bool,
    x: Vec<Array>,
    y: Option<Array>,
}

pub(crate) fn floats(dims: &[usize], values: impl IntoIterator<Item = f64>) -> Array {
    let bytes = values.into_iter().flat_map(|x| (x as f32).to_le_bytes()).collect();
    Array::new(ElemType::F32, dims.to_vec(), bytes).unwrap()
}

impl FakeEngine {
    fn scaled(&self, factor: f64) -> Array {
        floats(&self.x[0].dims, to_f64(&self.x[0]).into_iter().map(|x| x * factor))
    }
}

impl Engine for FakeEngine {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn bind(&mut self, inputs: Vec<Array>) -> Result<(), CliError> {
        self.x = inputs;
        Ok(())
    }

    fn run(&mut self) -> Result<(), CliError> {
        let twos =
            || Array::new(ElemType::BF16, self.x[0].dims.clone(), [0x00, 0x40].repeat(self.x[0].len()));
        self.y = Some(match self.signature.outputs[0].elem {
            ElemType::BF16 => twos()?,
            _ => self.scaled(self.factor),
        });
        Ok(())
    }

    fn time_steps(&mut self) -> Result<Vec<Duration>, CliError> {
        self.run().map(|()| Vec::new())
    }

    fn outputs(&mut self) -> Result<Vec<Array>, CliError> {
        self.y.clone().map(|y| vec![y]).ok_or_else(|| CliError::new("E0600", Exit::Bug, "not run"))
    }

    fn taps(&mut self, _: &Path) -> Result<Taps, CliError> {
        let tap = |node: &str, value: &str, factor| Tap {
            node: node.into(),
            value: value.into(),
            array: self.scaled(factor),
        };
        Ok(Taps { list: vec![tap("/copy", "hidden", 1.0), tap("/mul", "y:0", self.factor)], note: None })
    }

    fn describe(&self) -> Description {
        Description {
            ops: vec![("Mul".into(), 1)],
            step_kinds: vec![("Tile".into(), 1)],
            symbols: vec![SymbolRange { name: "batch".into(), min: 2, max: Some(8) }],
            sections: vec![("weights".into(), 2048)],
            manifest: vec![("producer".into(), "a\x1b[31m".into())],
            steps: vec![StepLine {
                kind: "Tile".into(),
                name: "/mul".into(),
                ops: vec!["mul".into()],
                shapes: "f32[batch,3]".into(),
            }],
        }
    }

    fn execution(&self) -> Option<Execution> {
        Some(Execution { threads: 1, isa: "scalar", mapped: false })
    }

    fn memory(&self) -> Option<MemoryUse> {
        let arena = self.x.first()?.bytes.len() as u64;
        Some(MemoryUse { arena, lower_bound: arena, scratch: 0 })
    }

    fn flops(&self) -> Option<f64> {
        Some(6.0)
    }

    fn loops(&self) -> Option<Loops> {
        let compiled = usize::from(self.jit);
        Some(Loops { compiled, interpreted: 1 - compiled, functions: compiled, code_bytes: 64 * compiled })
    }
}

impl Backend for Fake {
    fn compile(&self, request: &CompileRequest) -> Result<Compiled, CliError> {
        let phase = |name: &str, ir: &str| Phase {
            name: name.into(),
            time: Duration::from_millis(1),
            nodes: Some((2, 1)),
            ir: (request.keep_ir != KeepIr::No).then(|| ir.to_string()),
            rss_peak_kb: None,
        };
        if let Some(output) = &request.output {
            let engine = format!("engine of {:?} no_opt={}", request.dims, request.no_opt);
            std::fs::write(output, engine).map_err(|e| CliError::io(output, "write", &e))?;
        }
        Ok(Compiled {
            phases: vec![phase("import", "ir 1\n"), phase("lower", "ir 2\n")],
            ops_before: vec![("Mul".into(), 2)],
            ops_after: vec![("Mul".into(), 1), ("Tile".into(), 1)],
            warnings: vec!["a guess".into()],
            ..Compiled::default()
        })
    }

    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Box<dyn Engine>, CliError> {
        assert!(options.threads > 0);
        let whole = path.to_string_lossy();
        let port = |name: &str, elem| {
            let dims = vec![PortDim::Symbol("batch".into()), PortDim::Fixed(3)];
            Port { name: name.into(), elem, dims }
        };
        if whole.contains("bf16") {
            let signature = Signature {
                inputs: vec![port("x", ElemType::F32)],
                outputs: vec![port("y:0", ElemType::BF16)],
            };
            return Ok(Box::new(FakeEngine {
                signature,
                factor: 0.0,
                jit: options.jit,
                x: Vec::new(),
                y: None,
            }));
        }
        // What `compile` wrote doubles.
        let made = std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("engine of"));
        let factor = match (made || whole.contains("double"), whole.contains("triple")) {
            (true, _) => 2.0,
            (_, true) => 3.0,
            _ if whole.contains("panic") => panic!("a bug in the compiler"),
            _ if whole.contains("strange") => {
                return Err(CliError::new("E0201", Exit::Unsupported, "Strange is not supported"));
            }
            _ if whole.contains("damaged") => return Err(CliError::new("E0505", Exit::Integrity, "hash")),
            _ => return Err(CliError::new("E0100", Exit::Invalid, format!("cannot open {whole}"))),
        };
        let signature =
            Signature { inputs: vec![port("x", ElemType::F32)], outputs: vec![port("y:0", ElemType::F32)] };
        Ok(Box::new(FakeEngine { signature, factor, jit: options.jit, x: Vec::new(), y: None }))
    }

    fn open_exact(
        &self,
        request: &CompileRequest,
        options: &OpenOptions,
    ) -> Result<Box<dyn Engine>, CliError> {
        self.open(&request.model, options)
    }

    fn check(&self, request: &CompileRequest) -> Result<Vec<CliError>, CliError> {
        if request.model.to_string_lossy().contains("double") {
            return Ok(Vec::new());
        }
        let unsupported = CliError::new("E0201", Exit::Unsupported, "Strange is not supported");
        Ok(vec![unsupported, CliError::new("E0102", Exit::Invalid, "cut off")])
    }

    fn operators(&self, _: &Path) -> Result<Vec<String>, CliError> {
        Ok(vec!["Mul".into(), "Mul".into()])
    }

    fn opt(&self, text: &str, passes: &[String], rule: Option<&str>) -> Result<String, CliError> {
        match passes.iter().find(|pass| *pass != "fold") {
            Some(pass) => Err(unknown_name("pass", pass, &["fold"])),
            None => Ok(format!("{text}; {passes:?} {rule:?}\n")),
        }
    }
}

/// What a command gave, and what it said.
pub(crate) struct Ran {
    pub(crate) report: Option<Report>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command line in this process, with `stdin` for the worker.
pub(crate) fn autoglm_with(line: &[&str], stdin: &str, program: Option<PathBuf>) -> Result<Ran, CliError> {
    on(&Fake, line, stdin, program)
}

/// Runs a command line in this process with the real compiler and runtime.
pub(crate) fn autoglm_linked(line: &[&str]) -> Result<Ran, CliError> {
    on(&Linked, line, "", None)
}

fn on(backend: &dyn Backend, line: &[&str], stdin: &str, program: Option<PathBuf>) -> Result<Ran, CliError> {
    let mut all = vec!["autoglm"];
    all.extend(line);
    let cli = Cli::try_parse_from(all).map_err(|e| CliError::usage(e.to_string()))?;
    let command: &Command = &cli.command;
    let (mut stdin, mut stdout, mut stderr) = (Cursor::new(stdin.to_string()), Vec::new(), Vec::new());
    let mut ctx = Ctx {
        verbose: cli.global.verbose,
        watched: false,
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
        backend,
        program,
    };
    let report = dispatch(&mut ctx, command)?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ok(Ran { report, stdout: text(stdout), stderr: text(stderr) })
}

/// [`autoglm_with`] without input.
pub(crate) fn autoglm(line: &[&str]) -> Result<Ran, CliError> {
    autoglm_with(line, "", None)
}
