//! Sessions against naive results, and the errors of wrong calls.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use autoglm_runtime::elem::ElemType;
use autoglm_runtime::engine::EngineWriter;
use autoglm_runtime::error::RunError;
use autoglm_runtime::program::{Access, Cond, Guard, Program, ShapeOp, ShapeProgram, StepKind, Storage};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::shape::evaluate;
use autoglm_runtime::tensor::{HostTensor, TensorMut, TensorRef};
use autoglm_runtime::tile::{Instr, TileProgram};
use common::{port, step, value};

fn session(threads: usize, max_plans: usize) -> Session {
    let engine = common::engine(common::engine_bytes(common::rows_program));
    Session::new(engine, SessionOptions { threads, max_plans, ..SessionOptions::default() }).unwrap()
}

fn inputs(n: usize, idx: &[i64], pick: i64) -> [HostTensor; 3] {
    let x: Vec<f32> = (0..n * 4).map(|i| i as f32 + 0.5).collect();
    [
        HostTensor::from_f32(&[n, 4], &x).unwrap(),
        HostTensor::from_i64(&[idx.len()], idx).unwrap(),
        HostTensor::from_i64(&[1], &[pick]).unwrap(),
    ]
}

fn refs(inputs: &[HostTensor; 3]) -> [TensorRef<'_>; 3] {
    [inputs[0].as_ref(), inputs[1].as_ref(), inputs[2].as_ref()]
}

#[test]
fn results_are_those_of_the_naive_program() {
    for threads in [1, 2, 5] {
        let mut session = session(threads, 4);
        for (n, idx) in
            [(3, vec![2, 0]), (7, vec![-1, -7, 3]), (40, (0..5000).map(|i| i % 40 - 20).collect())]
        {
            let tensors = inputs(n, &idx, 9);
            let outputs = session.run_alloc(&refs(&tensors)).unwrap();
            let row = |i: i64| if i < 0 { i + n as i64 } else { i };
            let w: Vec<f32> =
                idx.iter().flat_map(|&i| (0..4).map(move |c| (row(i) * 4 + c) as f32 + 0.5)).collect();
            assert_eq!(outputs[0].to_f32().unwrap(), [w[5], w[0]]);
            assert_eq!(outputs[1].to_i64().unwrap(), [n as i64, 9, (n + idx.len()) as i64]);
            assert_eq!(outputs[2].dims, [idx.len(), 4]);
            assert_eq!(outputs[2].to_f32().unwrap(), w);
        }
    }
}

#[test]
fn steps_are_seen_in_order_when_they_are_done() {
    for threads in [1, 3] {
        let mut session = session(threads, 4);
        let tensors = inputs(3, &[2, 0], 9);
        let expected = session.run_alloc(&refs(&tensors)).unwrap();
        let steps = session.engine().program().steps.len();
        let shape = |t: &HostTensor| HostTensor::zeros(t.elem, &t.dims).unwrap();
        let mut found: Vec<HostTensor> = expected.iter().map(shape).collect();
        let mut seen = Vec::new();
        let mut outputs: Vec<TensorMut<'_>> = found.iter_mut().map(HostTensor::as_mut).collect();
        session.run_observed(&refs(&tensors), &mut outputs, |step| seen.push(step)).unwrap();
        assert_eq!(seen, (0..steps).collect::<Vec<_>>());
        assert!(steps > 1 && found.iter().zip(&expected).all(|(a, b)| *a.bytes == *b.bytes));
        // A run that fails has done no steps.
        let wrong = inputs(3, &[7, 0], 9);
        let mut outputs: Vec<TensorMut<'_>> = found.iter_mut().map(HostTensor::as_mut).collect();
        assert!(session.run_observed(&refs(&wrong), &mut outputs, |_| panic!("done")).is_err());
    }
}

#[test]
fn engines_are_shared_between_threads() {
    let engine = common::engine(common::engine_bytes(common::rows_program));
    std::thread::scope(|scope| {
        for pick in 0..4 {
            let engine = engine.clone();
            scope.spawn(move || {
                let options = SessionOptions { threads: 2, ..SessionOptions::default() };
                let mut session = Session::new(engine, options).unwrap();
                for _ in 0..50 {
                    let tensors = inputs(3, &[1, 2], pick);
                    assert_eq!(
                        session.run_alloc(&refs(&tensors)).unwrap()[1].to_i64().unwrap(),
                        [3, pick, 5]
                    );
                }
            });
        }
    });
}

#[test]
fn plans_are_kept_by_extents_and_elements_read() {
    let mut session = session(1, 2);
    let mut address = |pick, k: usize| {
        let tensors = inputs(3, &vec![1; k], pick);
        session.run_alloc(&refs(&tensors)).unwrap();
        let plan: *const _ = session.plan(&refs(&tensors)).unwrap().output_dims().as_ptr();
        (plan.addr(), session.cached_plans())
    };
    let (first, one) = address(1, 2);
    let (second, two) = address(2, 2);
    assert_eq!((one, two), (1, 2));
    assert_ne!(first, second, "an element that sizes depend on is part of the key");
    assert_eq!(address(1, 2), (first, 2), "kept");
    let (third, _) = address(1, 3);
    assert_eq!(address(1, 2), (first, 2), "the one used last stays");
    assert_eq!(address(1, 3), (third, 2));
    address(2, 2);
    assert_eq!(address(1, 3), (third, 2), "the one used least recently went");
}

fn run_error(inputs: &[TensorRef<'_>]) -> (&'static str, String) {
    let error = session(2, 4).run_alloc(inputs).unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn wrong_calls_are_explained() {
    let good = inputs(3, &[0, 1], 0);
    let [x, idx, pick] = refs(&good);
    let (code, text) = run_error(&[x, idx]);
    assert_eq!((code, text.as_str()), ("E0601", "the engine has 3 inputs (x, idx, pick), 2 were passed"));
    let says = |inputs: &[TensorRef<'_>], code: &str, part: &str| {
        let (found, text) = run_error(inputs);
        assert!(found == code && text.contains(part), "{found} {text:?} should be {code} with {part:?}");
    };
    says(&[idx, idx, pick], "E0602", "input \"x\": element type is I64, must be F32");
    says(
        &[TensorRef { dims: &[12], ..x }, idx, pick],
        "E0602",
        "rank is 1 ([12]), must be 2; its extents are [n, 4]",
    );
    let narrow = HostTensor::from_f32(&[4, 3], &[0.0; 12]).unwrap();
    says(&[narrow.as_ref(), idx, pick], "E0602", "input \"x\": extent 1 (4) is 3, must be 4");
    says(&[TensorRef { dims: &[2, 4], ..x }, idx, pick], "E0602", "48 bytes were passed for F32[2, 4]");
    says(&[TensorRef { dims: &[1 << 40, 1 << 40], ..x }, idx, pick], "E0602", "48 bytes were passed");
    let shifted = HostTensor::zeros(ElemType::U8, &[64]).unwrap();
    says(&[TensorRef { bytes: &shifted.bytes[1..49], ..x }, idx, pick], "E0602", "not a multiple of 4");
    let one = inputs(3, &[0], 0);
    says(&refs(&one), "E0604", "idx: needs two rows (2 vs 1)");
    for (bad, shown) in
        [(3, "3"), (-4, "-4"), (i64::MIN, "-9223372036854775808"), (i64::MAX, "9223372036854775807")]
    {
        let tensors = inputs(3, &[0, bad], 0);
        says(
            &refs(&tensors),
            "E0603",
            &format!("step \"rows\": index {shown} is out of range for an axis of extent 3"),
        );
    }
}

#[test]
fn wrong_outputs_are_refused_and_the_session_goes_on() {
    let mut session = session(2, 4);
    let tensors = inputs(3, &[0, 1], 0);
    let shapes = session.output_shapes(&refs(&tensors)).unwrap().to_vec();
    assert_eq!(shapes, [vec![2], vec![3], vec![2, 4]]);
    let mut y = HostTensor::zeros(ElemType::F32, &[2]).unwrap();
    let mut z = HostTensor::zeros(ElemType::I64, &[3]).unwrap();
    let mut short = HostTensor::zeros(ElemType::F32, &[1, 4]).unwrap();
    let mut w = HostTensor::zeros(ElemType::F32, &[2, 4]).unwrap();
    let error = session.run(&refs(&tensors), &mut [y.as_mut(), z.as_mut(), short.as_mut()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output \"w\": extents are [1, 4], these inputs give [2, 4]; ask output_shapes for the extents"
    );
    assert_eq!(session.run(&refs(&tensors), &mut [y.as_mut()]).unwrap_err().code(), "E0601");
    session.run(&refs(&tensors), &mut [y.as_mut(), z.as_mut(), w.as_mut()]).unwrap();
    assert_eq!(w.to_f32().unwrap(), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]);
}

#[test]
fn memory_limits_hold() {
    let engine = common::engine(common::engine_bytes(common::rows_program));
    let run = |max_memory, max_tensor| {
        let options = SessionOptions { threads: 1, max_memory, max_tensor, ..SessionOptions::default() };
        let tensors = inputs(3, &[0; 100], 0);
        let result = Session::new(engine.clone(), options).unwrap().run_alloc(&refs(&tensors));
        result.map(drop).map_err(|e| e.to_string())
    };
    let text = "the arena needs 1600 bytes, the limit is 1599: use smaller inputs or raise the limit";
    assert_eq!(run(1599, 1600), Err(text.into()));
    assert_eq!(run(1600, 1600), Ok(()));
    assert!(run(1 << 20, 1599).unwrap_err().contains("F32[100, 4], needs 1600 bytes, the limit is 1599"));
}

fn eval(ops: &[ShapeOp]) -> Result<Vec<i64>, RunError> {
    let mut regs = Vec::new();
    evaluate(&ShapeProgram { ops: ops.to_vec(), guards: vec![] }, &[], &mut regs).map(|()| regs)
}

#[test]
fn shape_arithmetic_is_checked() {
    use ShapeOp::*;
    let last = |a: i64, b: i64, op: ShapeOp| eval(&[Const(a), Const(b), op]).map(|regs| regs[2]);
    assert_eq!(last(-7, 2, FloorDiv(0, 1)), Ok(-4));
    assert_eq!(last(-7, 2, Mod(0, 1)), Ok(1));
    assert_eq!(last(i64::MIN, 1, FloorDiv(0, 1)), Ok(i64::MIN));
    assert_eq!(last(3, 3, Eq(0, 1)), Ok(1));
    assert_eq!((last(3, -4, Min(0, 1)), last(3, -4, Max(0, 1))), (Ok(-4), Ok(3)));
    for (a, b, op) in [
        (i64::MAX, 1, Add(0, 1)),
        (i64::MIN, 1, Sub(0, 1)),
        (i64::MAX, 2, Mul(0, 1)),
        (i64::MIN, -1, Mul(0, 1)),
        (1, 0, FloorDiv(0, 1)),
        (1, -1, FloorDiv(0, 1)),
        (1, 0, Mod(0, 1)),
        (i64::MIN, -1, Mod(0, 1)),
    ] {
        assert_eq!(last(a, b, op).unwrap_err().code(), "E0605", "{a} {op:?} {b}");
    }
    let error = last(i64::MAX, 2, Mul(0, 1)).unwrap_err();
    assert_eq!(error.to_string(), "size computation: 9223372036854775807 * 2 in register 2: overflow");
    assert!(eval(&[Add(0, 0)]).is_err() && eval(&[InputDim { input: 0, axis: 0 }]).is_err());
}

#[test]
fn a_failed_guard_explains_arithmetic_that_broke_down() {
    let guard = |a, b| Guard { cond: Cond::Le(a, b), message: "x: must not be empty".into() };
    let program = ShapeProgram {
        ops: vec![ShapeOp::Const(1), ShapeOp::Const(0), ShapeOp::FloorDiv(0, 1)],
        guards: vec![guard(2, 0), guard(0, 1)],
    };
    let error = evaluate(&program, &[], &mut Vec::new()).unwrap_err();
    assert_eq!(
        error,
        RunError::Guard { message: "x: must not be empty".into(), left: 1, right: 0, given: String::new() }
    );
}

#[test]
fn input_elements_of_every_width_are_read() {
    let cases: [(ElemType, &[u8], Option<i64>); 8] = [
        (ElemType::I8, &[0, 0x80], Some(-128)),
        (ElemType::U8, &[0, 0x80], Some(128)),
        (ElemType::I16, &[0, 0, 0xfe, 0xff], Some(-2)),
        (ElemType::U32, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], Some(4_294_967_295)),
        (ElemType::Bool, &[0, 3], Some(1)),
        (ElemType::U64, &[0xff; 16], None),
        (ElemType::I64, &[0xff; 16], Some(-1)),
        (ElemType::F32, &[0; 8], None),
    ];
    for (elem, bytes, want) in cases {
        let tensor = TensorRef { elem, dims: &[2], bytes };
        let program = ShapeProgram { ops: vec![ShapeOp::InputElem { input: 0, index: 1 }], guards: vec![] };
        let mut regs = Vec::new();
        let found = evaluate(&program, &[tensor], &mut regs).ok().map(|()| regs[0]);
        assert_eq!(found, want, "{elem:?}");
        let beyond = ShapeProgram { ops: vec![ShapeOp::InputElem { input: 0, index: 2 }], guards: vec![] };
        assert!(evaluate(&beyond, &[tensor], &mut regs).is_err());
    }
}

#[test]
fn negative_extents_and_misfits_are_refused() {
    let run = |ops: Vec<ShapeOp>, edit: fn(&mut Program)| {
        let engine = common::engine(common::engine_bytes(|_| {
            let mut program = Program {
                outputs: vec![port("d", 0, &["1"])],
                shape: ShapeProgram { ops, guards: vec![] },
                values: vec![
                    value(ElemType::I32, &[0], Storage::Temp),
                    value(ElemType::I32, &[1], Storage::Alias(0)),
                ],
                steps: vec![step("dims", StepKind::Dims { elems: vec![2] }, &[], &[0])],
                ..Program::default()
            };
            edit(&mut program);
            program
        }));
        let options = SessionOptions { threads: 1, ..SessionOptions::default() };
        let outputs = Session::new(engine, options).unwrap().run_alloc(&[]);
        outputs.map(|o| o[0].to_i32().unwrap()).map_err(|e| e.to_string())
    };
    use ShapeOp::Const;
    assert_eq!(run(vec![Const(1), Const(1), Const(77)], |_| {}), Ok(vec![77]));
    assert_eq!(
        run(vec![Const(-1), Const(-1), Const(7)], |_| {}),
        Err("size computation: an extent of output \"d\" is -1".into())
    );
    assert_eq!(
        run(vec![Const(1), Const(2), Const(7)], |_| {}),
        Err("size computation: value 1 has 8 bytes, the value it is an alias of has 4".into())
    );
    assert_eq!(
        run(vec![Const(2), Const(2), Const(7)], |_| {}),
        Err("step \"dims\": the output has 2 elements instead of those of [1]".into())
    );
    assert_eq!(
        run(vec![Const(1), Const(1), Const(1 << 40)], |_| {}),
        Err("step \"dims\": 1099511627776 does not fit an i32".into())
    );
    let huge = run(vec![Const(1 << 62), Const(1), Const(7)], |p| p.values[0].dims = vec![0, 0, 0]);
    assert!(huge.unwrap_err().contains("needs 18446744073709551615 bytes"));
}

/// The second copy is placed over the first one's result, and must still give every element.
#[test]
fn a_copy_in_place_keeps_every_element() {
    let copy = || {
        let access = Access { offset: 2, strides: vec![1] };
        StepKind::Tile { tile: 0, dims: vec![0], reads: vec![access.clone()], writes: vec![access] }
    };
    let program = |_: &mut EngineWriter| Program {
        inputs: vec![port("x", 0, &["n"])],
        outputs: vec![port("y", 2, &["n"])],
        shape: ShapeProgram {
            ops: vec![ShapeOp::InputDim { input: 0, axis: 0 }, ShapeOp::Const(1), ShapeOp::Const(0)],
            guards: vec![],
        },
        values: vec![
            value(ElemType::F32, &[0], Storage::Input(0)),
            value(ElemType::F32, &[0], Storage::Temp),
            value(ElemType::F32, &[0], Storage::Temp),
        ],
        tiles: vec![TileProgram {
            body: vec![Instr::Load { arg: 0 }, Instr::Store { out: 0, src: 0 }],
            reduce_rank: 0,
            reduces: vec![],
            epilogue: vec![],
        }],
        steps: vec![step("first", copy(), &[0], &[1]), step("second", copy(), &[1], &[2])],
        separate: false,
    };
    let engine = common::engine(common::engine_bytes(program));
    let options = SessionOptions { threads: 2, ..SessionOptions::default() };
    let mut session = Session::new(engine, options).unwrap();
    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let tensor = HostTensor::from_f32(&[1000], &x).unwrap();
    let y = session.run_alloc(&[tensor.as_ref()]).unwrap();
    assert_eq!(y[0].to_f32().unwrap(), x);
    let memory = session.last_plan().unwrap().memory();
    assert_eq!(memory.places[1], memory.places[2]);
}
