//! The errors that the other tests do not reach, by their codes.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::{Engine, EngineWriter, format};
use autoglm_runtime::program::{Program, ShapeOp, ShapeProgram, StepKind, Storage};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use autoglm_runtime::threads::Pool;
use common::{port, step, value};

/// The code of the first run of a program over `x[2, 4]` of bools.
fn run_code(build: impl FnOnce(&mut EngineWriter) -> Program, options: SessionOptions) -> &'static str {
    let mut session = Session::new(common::engine(common::engine_bytes(build)), options).unwrap();
    let x = HostTensor::zeros(ElemType::Bool, &[2, 4]).unwrap();
    session.run_alloc(&[x.as_ref()]).map(|_| ()).unwrap_err().code()
}

/// `values, indices = top_k(x)` with as many results as register `k` of 2, 4, 1 says.
fn top_k(k: u32, elem: ElemType) -> Program {
    let shape = ShapeProgram {
        ops: vec![
            ShapeOp::InputDim { input: 0, axis: 0 },
            ShapeOp::InputDim { input: 0, axis: 1 },
            ShapeOp::Const(1),
        ],
        guards: vec![],
    };
    let kind = StepKind::TopK { outer: 0, axis: 1, inner: 2, k, largest: true };
    Program {
        inputs: vec![port("x", 0, &["n", "m"])],
        outputs: vec![port("i", 2, &["n", "1"])],
        shape,
        values: vec![
            value(elem, &[0, 1], Storage::Input(0)),
            value(elem, &[0, 2], Storage::Temp),
            value(ElemType::I64, &[0, 2], Storage::Temp),
        ],
        tiles: vec![],
        steps: vec![step("top", kind, &[0], &[1, 2])],
        separate: false,
    }
}

#[test]
fn steps_that_do_not_fit_or_have_no_executor() {
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    assert_eq!(run_code(|_| top_k(2, ElemType::Bool), options.clone()), "E0599");
    assert_eq!(run_code(|_| top_k(0, ElemType::Bool), options), "E0608");
}

#[test]
fn memory_is_bounded() {
    let options = SessionOptions { threads: 1, max_tensor: 4, ..SessionOptions::default() };
    assert_eq!(run_code(|_| top_k(2, ElemType::Bool), options), "E0606");
    // More than any address space holds, so the allocator refuses it on every machine.
    let huge = HostTensor::zeros(ElemType::U8, &[1 << 62]).map(|_| ()).unwrap_err();
    assert_eq!(huge.code(), "E0607");
}

#[test]
fn threads_are_bounded_and_their_panics_reported() {
    let mut pool = Pool::new(2).unwrap();
    assert_eq!(pool.run(|_, _| panic!("no")).unwrap_err().code(), "E0609");
    for count in [Pool::MAX_WORKERS + 1, usize::MAX] {
        let error = Pool::new(count).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "E0610");
        assert!(error.to_string().contains("at most"), "{error}");
    }
}

#[test]
fn a_section_that_cannot_be_decoded() {
    let mut bytes = common::engine_bytes(common::rows_program);
    let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (start, len) = (field(192 + 8), field(192 + 16));
    // No variable-length number is that long.
    bytes[start..start + len].fill(0xff);
    format::repair_hashes(&mut bytes);
    assert_eq!(Engine::from_bytes(bytes.into()).map(|_| ()).unwrap_err().code(), "E0508");
}
