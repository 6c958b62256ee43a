//! Machine code for the inner loops of tile programs, by Cranelift: vectors of 128 bits, whatever the processor has.
//!
//! One pass over the instructions makes one function: rows around columns, several vectors of columns at a time, then
//! four columns at a time whose addresses are kept from passing the last column. Optimisations are left off: the
//! program comes from an optimised graph, invariants are computed once a row by construction, and hoisted constants
//! would only be spilled, as there are 16 vector registers.

mod cast;
mod emit;
mod fold;
mod math;
mod memory;
mod ops;
mod vector;

use autoglm_runtime::tile::native::{CodeProvider, Declined, LoopSpec};
use autoglm_runtime::tile::{Instr, TileIsa, UnaryOp};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, ir::Endianness};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::fmt;

/// Element-instructions, for each eight instructions of a body, whose interpretation costs what compiling them does.
const WORTH: u64 = 8 << 20;

/// Compiles loops with Cranelift for the host.
pub struct Cranelift {
    target: OwnedTargetIsa,
    /// Declines what the interpreter does faster.
    only_faster: bool,
}

impl fmt::Debug for Cranelift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cranelift for {}", self.target.triple())
    }
}

impl Cranelift {
    /// A compiler for this machine; declines where it would need library calls for what the interpreter does in line.
    pub fn for_host() -> Result<Self, Declined> {
        if !has_features() {
            return Err(Declined("the processor has no fused multiply-add"));
        }
        let target = target().map_err(|_| Declined("Cranelift does not know this machine"))?;
        if target.endianness() != Endianness::Little || target.pointer_bits() != 64 {
            return Err(Declined("only for little-endian machines of 64 bits"));
        }
        Ok(Self { target, only_faster: cfg!(target_arch = "x86_64") })
    }

    /// As [`Self::for_host`], but declines only what it cannot do, not what the interpreter does faster.
    pub fn for_every_loop() -> Result<Self, Declined> {
        Ok(Self { only_faster: false, ..Self::for_host()? })
    }
}

/// Whether the instructions that [`target`] enables are there.
fn has_features() -> bool {
    #[cfg(target_arch = "x86_64")]
    return TileIsa::Avx2.is_supported();
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

fn target() -> Result<OwnedTargetIsa, Box<dyn std::error::Error>> {
    let system = if cfg!(windows) { "pc-windows-msvc" } else { "unknown-unknown" };
    let mut builder = isa::lookup_by_name(&format!("{}-{system}", std::env::consts::ARCH))?;
    if cfg!(target_arch = "x86_64") {
        // Every processor with AVX2 has these.
        let features = ["sse3", "ssse3", "sse41", "sse42", "popcnt", "avx", "avx2", "fma"];
        features.iter().try_for_each(|feature| builder.enable(&format!("has_{feature}")))?;
    }
    let mut flags = settings::builder();
    flags.set("opt_level", "none")?;
    flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    flags.set("enable_probestack", "false")?;
    flags.set("unwind_info", "false")?;
    Ok(builder.finish(settings::Flags::new(flags))?)
}

/// Functions that are long chains of arithmetic, or calls: there the interpreter's vectors of 256 or 512 bits gain more
/// than its passes through memory cost.
fn is_arithmetic_heavy(instr: &Instr) -> bool {
    use UnaryOp::{
        Abs, BitNot, Ceil, Floor, IsNan, IsNegInf, IsPosInf, Neg, Not, Reciprocal, Round, Sign, Sqrt, Trunc,
    };
    use autoglm_runtime::tile::BinaryOp::Pow;
    match instr {
        Instr::Unary(
            Abs | BitNot | Ceil | Floor | IsNan | IsNegInf | IsPosInf | Neg | Not | Reciprocal | Round | Sign
            | Sqrt | Trunc,
            _,
        ) => false,
        Instr::Unary(..) | Instr::Binary(Pow, ..) => true,
        _ => false,
    }
}

impl CodeProvider for Cranelift {
    fn worth(&self, spec: &LoopSpec) -> u64 {
        WORTH.saturating_mul(spec.body.len().max(8) as u64 / 8)
    }

    fn compile(&self, spec: &LoopSpec) -> Result<Vec<u8>, Declined> {
        if cfg!(target_arch = "x86_64") && spec.isa == TileIsa::Scalar {
            return Err(Declined("the code would need AVX2"));
        }
        if self.only_faster && spec.body.iter().any(is_arithmetic_heavy) {
            return Err(Declined("the interpreter's vectors are wider"));
        }
        let mut context = Context::new();
        let mut signature = Signature::new(self.target.default_call_conv());
        signature.params.push(AbiParam::new(types::I64));
        context.func = Function::with_name_signature(UserFuncName::default(), signature);
        let mut variables = FunctionBuilderContext::new();
        let builder = FunctionBuilder::new(&mut context.func, &mut variables);
        emit::emit(builder, spec, self.target.frontend_config())?;
        let failed = Declined("Cranelift has no instructions for it");
        let code = context.compile(&*self.target, &mut ControlPlane::default()).map_err(|_| failed)?;
        if !code.buffer.relocs().is_empty() {
            return Err(Declined("the code would have to be linked"));
        }
        Ok(code.code_buffer().to_vec())
    }
}
