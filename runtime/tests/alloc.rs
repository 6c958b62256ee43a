//! After the first run for given shapes, runs allocate nothing. Alone in its process, because it counts allocations
//! of all threads.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::EngineWriter;
use autoglm_runtime::program::{Access, Program, ShapeOp, ShapeProgram, StepKind, Storage};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use common::{port, step, value};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn runs_of_known_shapes_allocate_nothing() {
    loops_allocate_nothing();
    products_allocate_nothing();
}

fn loops_allocate_nothing() {
    let engine = common::engine(common::engine_bytes(common::rows_program));
    let options = SessionOptions { threads: 3, max_plans: 4, ..SessionOptions::default() };
    let mut session = Session::new(engine, options).unwrap();
    let x = HostTensor::zeros(ElemType::F32, &[10, 4]).unwrap();
    let pick = HostTensor::from_i64(&[1], &[5]).unwrap();
    // The longer index makes every worker useful.
    let indices =
        [vec![1i64, -2], vec![3; 20_000]].map(|idx| HostTensor::from_i64(&[idx.len()], &idx).unwrap());
    let mut y = HostTensor::zeros(ElemType::F32, &[2]).unwrap();
    let mut z = HostTensor::zeros(ElemType::I64, &[3]).unwrap();
    let mut w = indices.each_ref().map(|i| HostTensor::zeros(ElemType::F32, &[i.dims[0], 4]).unwrap());
    let mut before = 0;
    for round in 0..50 {
        if round == 2 {
            before = CALLS.load(Ordering::Relaxed);
        }
        for (index, w) in indices.iter().zip(&mut w) {
            let inputs = [x.as_ref(), index.as_ref(), pick.as_ref()];
            session.run(&inputs, &mut [y.as_mut(), z.as_mut(), w.as_mut()]).unwrap();
        }
    }
    assert_eq!(CALLS.load(Ordering::Relaxed) - before, 0);
    assert_eq!(z.to_i64().unwrap(), [10, 5, 20_010]);
    layers_allocate_nothing();
}

/// The workers of a layer meet at every step.
fn layers_allocate_nothing() {
    let engine = common::engine(common::engine_bytes(common::layer_program));
    let options = SessionOptions { threads: 3, ..SessionOptions::default() };
    let mut session = Session::new(engine, options).unwrap();
    let x = HostTensor::zeros(ElemType::F32, &[5, 2, 400]).unwrap();
    let mut y = HostTensor::zeros(ElemType::F32, &[2, 100]).unwrap();
    let mut before = 0;
    for round in 0..20 {
        if round == 2 {
            before = CALLS.load(Ordering::Relaxed);
        }
        session.run(&[x.as_ref()], &mut [y.as_mut()]).unwrap();
    }
    assert_eq!(CALLS.load(Ordering::Relaxed) - before, 0);
}

fn products_allocate_nothing() {
    let options = SessionOptions { threads: 3, ..SessionOptions::default() };
    let mut session = Session::new(common::engine(common::engine_bytes(products)), options).unwrap();
    let x = HostTensor::zeros(ElemType::F32, &[8, 4]).unwrap();
    let pick = HostTensor::from_i64(&[8], &[0, 2, -1, 0, 1, 1, 2, -3]).unwrap();
    let mut z = HostTensor::zeros(ElemType::F32, &[8, 4]).unwrap();
    let mut before = 0;
    for round in 0..50 {
        if round == 2 {
            before = CALLS.load(Ordering::Relaxed);
        }
        session.run(&[x.as_ref(), pick.as_ref()], &mut [z.as_mut()]).unwrap();
    }
    assert_eq!(CALLS.load(Ordering::Relaxed) - before, 0);
}

/// `z[t] = (x[t] a[pick[t]]) b` for 8 tokens of 4 numbers, matrices a [3,4,64] and one matrix b [64,4].
fn products(writer: &mut EngineWriter) -> Program {
    let mut constant = |count: usize| {
        let (offset, len) = writer.add_weight(&vec![0x3f; 4 * count]).unwrap();
        Storage::Const { offset, len }
    };
    // Register n holds n.
    let ops = (0..=256).map(ShapeOp::Const).collect();
    let access = |strides: &[u32]| Access { offset: 0, strides: strides.to_vec() };
    let values = vec![
        value(ElemType::F32, &[8, 4], Storage::Input(0)),
        value(ElemType::I64, &[8], Storage::Input(1)),
        value(ElemType::F32, &[3, 4, 64], constant(768)),
        value(ElemType::F32, &[64, 4], constant(256)),
        value(ElemType::F32, &[8, 64], Storage::Temp),
        value(ElemType::F32, &[8, 4], Storage::Temp),
    ];
    let chosen = StepKind::GatherMatMul {
        batch: vec![8],
        m: 1,
        k: 4,
        n: 64,
        matrices: 3,
        a: access(&[4, 4, 1]),
        b: access(&[256, 64, 1]),
        b_packed: false,
        index: access(&[1]),
        out: access(&[64, 64]),
    };
    let plain = StepKind::MatMul {
        batch: vec![2],
        m: 4,
        k: 64,
        n: 4,
        a: access(&[256, 64, 1]),
        b: access(&[0, 4, 1]),
        b_packed: false,
        sparsity: None,
        out: access(&[16, 4]),
        bias: false,
        epilogue: None,
    };
    Program {
        inputs: vec![port("x", 0, &["8", "4"]), port("pick", 1, &["8"])],
        outputs: vec![port("z", 5, &["8", "4"])],
        shape: ShapeProgram { ops, guards: vec![] },
        values,
        tiles: vec![],
        steps: vec![step("chosen", chosen, &[0, 2, 1], &[4]), step("plain", plain, &[4, 3], &[5])],
        separate: false,
    }
}
