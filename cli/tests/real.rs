//! The commands over the real compiler and runtime: what each can fail with.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod program;

use autoglm::args::Isa;
use autoglm::backend::{Backend, OpenOptions};
use autoglm::error::Exit;
use autoglm::linked::Linked;
use autoglm::tensor::Array;
use program::{Folder, case, failure, testdata};

#[test]
fn ir_text_and_rules() {
    let folder = Folder::new("real-ir");
    let bad = folder.write("bad.agir", "graph @g (%x: f32[2]) {\n  %0 = frobnicate %x\n  return %0\n}\n");
    assert_eq!(failure(&["opt", &bad, "--pass", "canonicalise"]), (3, "E0201".into()));
    assert_eq!(failure(&["opt", &bad, "--rule", "none"]), (4, "E0302".into()));
}

#[test]
fn inputs_and_outputs_that_do_not_fit_an_option() {
    let add = case("test_add_uint8");
    let line = ["run", &add, "-i", "x=fill:300", "-i", "y=ones"];
    assert_eq!(failure(&line), (2, "E0925".into()));
    let scalar = case("test_einsum_scalar");
    assert_eq!(failure(&["run", &scalar, "-i", "x=ones", "--top", "1"]), (2, "E0926".into()));
    let digits = testdata("digits/digits.onnx");
    assert_eq!(failure(&["verify", &digits, "--against", &add, "-D", "batch=1"]), (3, "E0943".into()));
}

#[test]
fn the_interpreter_refuses_inputs_of_other_extents() {
    let isa = Isa::Auto;
    let options = OpenOptions { threads: 1, isa, jit: false, mmap: true, check_weights: false, interp: true };
    let mut engine = Linked.open(testdata("digits/digits.onnx").as_ref(), &options).unwrap();
    let x = Array::new(autoglm_runtime::elem::ElemType::F32, vec![1, 1, 8, 9], vec![0; 288]).unwrap();
    engine.bind(vec![x]).unwrap();
    let error = engine.run().unwrap_err();
    assert_eq!((error.code, error.exit), ("E0701", Exit::Invalid));
}
