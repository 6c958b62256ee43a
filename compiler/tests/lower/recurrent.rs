//! Recurrent layers against the interpreter: every cell, function and way to read and write.

use crate::harness::{Random, check, compile, parse};
use autoglm_compiler::lower::{self, Options, WeightSink};
use autoglm_ir::{DType, Tensor, interp};
use autoglm_runtime::session::{Engine, Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;

/// A layer of one direction.
#[derive(Clone, Copy)]
struct Layer<'a> {
    cell: &'a str,
    hidden: usize,
    functions: &'a str,
    attrs: &'a str,
    lengths: &'a str,
    /// The recurrent weight is known.
    constant: bool,
}

const LSTM: Layer<'_> = Layer {
    cell: "lstm",
    hidden: 5,
    functions: "f=sigmoid, g=tanh, h=tanh",
    attrs: "",
    lengths: "",
    constant: true,
};
const GRU: Layer<'_> = Layer { cell: "gru", functions: "f=sigmoid, g=tanh", ..LSTM };
const RNN: Layer<'_> = Layer { cell: "rnn", functions: "f=tanh", ..LSTM };

impl Layer<'_> {
    /// Weights are so small that rounding errors do not grow from step to step.
    fn source(&self) -> String {
        let Layer { cell, hidden, functions, attrs, lengths, constant } = *self;
        let gates = match cell {
            "lstm" => 4,
            "gru" => 3,
            _ => 1,
        };
        let all = gates * hidden;
        let mut inputs = format!("%x: f32[S,N,{all}], %h: f32[N,{hidden}]");
        let (mut args, mut outs) = ("%x, %r, %h".to_owned(), "%0, %1");
        let mut input = |name: &str, ty: String| {
            inputs.push_str(&format!(", %{name}: {ty}"));
            args.push_str(&format!(", %{name}"));
        };
        if cell == "lstm" {
            input("c", format!("f32[N,{hidden}]"));
            outs = "%0, %1, %2";
        }
        if attrs.contains("linear_before_reset") {
            input("b", format!("f32[{hidden}]"));
        }
        if attrs.contains("peepholes") {
            input("p", format!("f32[{}]", 3 * hidden));
        }
        if !lengths.is_empty() {
            input("l", format!("{lengths}[N]"));
        }
        let scale = 1.0 / (hidden as f64).sqrt();
        let weight = if constant {
            let mut random = Random(7);
            let element = || format!("{:.4}", (random.below(2000) as f64 / 1000.0 - 1.0) * scale);
            let elements: Vec<String> = std::iter::repeat_with(element).take(all * hidden).collect();
            format!("%r = const f32[{all},{hidden}] [{}]", elements.join(", "))
        } else {
            inputs.push_str(&format!(", %w: f32[{hidden},{all}]"));
            format!("%s = const f32[] [{scale:.4}]\n %t = transpose %w {{perm=[1,0]}}\n %r = mul %t, %s")
        };
        let attrs = if attrs.is_empty() { String::new() } else { format!(", {attrs}") };
        format!(
            "graph @g ({inputs}) {{\n {weight}\n {outs} = recurrent {args} {{cell={cell}, {functions}{attrs}}}\n return {outs} }}"
        )
    }

    /// Some have rows of no step, no row, or as many as the workers share out.
    fn check(&self) {
        let short: &[(&str, i64)] =
            if self.lengths.is_empty() { &[("S", 0), ("N", 2)] } else { &[("S", 4), ("N", 0)] };
        let steps = check(
            &self.source(),
            &[&[("S", 4), ("N", 1)], &[("S", 7), ("N", 3)], &[("S", 5), ("N", 13)], short],
        );
        assert_eq!(steps.list(), if self.constant { "Recurrent" } else { "Tile Recurrent" });
    }
}

#[test]
fn every_cell_and_size() {
    for hidden in [1, 3, 32, 33, 70] {
        for constant in [true, false] {
            for attrs in ["", "peepholes=1, reverse=1", "input_forget=1, clip=0.25"] {
                Layer { hidden, constant, attrs, ..LSTM }.check();
            }
            for attrs in
                ["", "reverse=1", "linear_before_reset=1", "clip=0.25, linear_before_reset=1, reverse=1"]
            {
                Layer { hidden, constant, attrs, ..GRU }.check();
            }
            for attrs in ["", "reverse=1, clip=0.25"] {
                Layer { hidden, constant, attrs, ..RNN }.check();
            }
        }
    }
}

/// The harness draws lengths of 0 to 4 steps.
#[test]
fn rows_end_where_their_length_says() {
    for (hidden, lengths) in [(5, "i32"), (40, "i64"), (70, "i32")] {
        for reverse in ["reverse=0", "reverse=1"] {
            Layer { hidden, lengths, attrs: reverse, ..LSTM }.check();
            Layer { hidden, lengths, attrs: reverse, ..GRU }.check();
            Layer { hidden, lengths, attrs: reverse, ..RNN }.check();
            let attrs = &format!("{reverse}, linear_before_reset=1");
            Layer { hidden, lengths, attrs, constant: false, ..GRU }.check();
            let attrs = &format!("{reverse}, peepholes=1, input_forget=1");
            Layer { hidden, lengths, attrs, ..LSTM }.check();
        }
    }
}

#[test]
fn every_function() {
    let values = |f: char| format!("{f}_alpha=0.75, {f}_beta=0.5");
    for name in [
        "sigmoid",
        "tanh",
        "relu",
        "hard_sigmoid",
        "affine",
        "leaky_relu",
        "thresholded_relu",
        "scaled_tanh",
        "elu",
        "softsign",
        "softplus",
    ] {
        for attrs in ["", "clip=0.5"] {
            let functions = &format!("f={name}, {}", values('f'));
            Layer { functions, attrs, hidden: 37, ..RNN }.check();
            let functions = &format!("f=sigmoid, g={name}, {}", values('g'));
            Layer { functions, attrs, ..GRU }.check();
            let functions = &format!("f=sigmoid, g=tanh, h={name}, {}", values('h'));
            Layer { functions, attrs, ..LSTM }.check();
        }
    }
}

const SIZES: &[&[(&str, i64)]] = &[&[("S", 4), ("N", 1)], &[("S", 5), ("N", 3)], &[("S", 1), ("N", 2)]];

#[test]
fn both_directions_read_one_product_and_write_one_tensor() {
    let steps = check(
        "graph @g (%x: f32[S,N,6], %w: f32[6,24], %r: f32[12,3], %q: f32[12,3]) {
           %y = matmul %x, %w
           %a = slice %y {starts=[0,0,0], sizes=[S,N,12], steps=[1,1,1]}
           %b = slice %y {starts=[0,0,12], sizes=[S,N,12], steps=[1,1,1]}
           %zero = const f32[] [0]
           %s = expand %zero {shape=[N,3]}
           %0, %1, %2 = recurrent %a, %r, %s, %s {cell=lstm, f=sigmoid, g=tanh, h=tanh}
           %3, %4, %5 = recurrent %b, %q, %s, %s {cell=lstm, reverse=1, f=sigmoid, g=tanh, h=tanh}
           %6 = reshape %0 {shape=[S,1,N,3]}
           %7 = reshape %3 {shape=[S,1,N,3]}
           %8 = concat %6, %7 {axis=1}
           %9 = transpose %8 {perm=[2,0,1,3]}
           return %9
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "MatMul Recurrent Recurrent");
}

#[test]
fn an_input_in_another_order_is_copied_and_states_are_views() {
    let steps = check(
        "graph @g (%x: f32[8,N,S], %r: f32[8,2], %s: f32[2,3,N]) {
           %y = transpose %x {perm=[2,1,0]}
           %t = transpose %s {perm=[2,1,0]}
           %h = slice %t {starts=[0,0,0], sizes=[N,1,2], steps=[1,1,1]}
           %i = reshape %h {shape=[N,2]}
           %c = slice %t {starts=[0,2,0], sizes=[N,1,2], steps=[1,1,1]}
           %d = reshape %c {shape=[N,2]}
           %0, %1, %2 = recurrent %y, %r, %i, %d {cell=lstm, f=sigmoid, g=tanh, h=tanh}
           return %0, %2
         }",
        SIZES,
    );
    assert_eq!(steps.list(), "Copy Recurrent");
}

/// A layer whose states of all steps nothing reads does not write them.
#[test]
fn results_that_nothing_reads_are_not_made() {
    let source = "graph @g (%x: f32[S,N,6], %r: f32[6,2], %h: f32[N,2], %l: i32[N]) {
           %0, %1 = recurrent %x, %r, %h, %l {cell=gru, f=sigmoid, g=tanh}
           %2 = neg %1
           return %2
         }";
    let steps = check(source, &[&[("S", 4), ("N", 3)]]);
    assert_eq!(steps.list(), "Recurrent Tile");
    let (lowered, _) = compile(&parse(source), Options::FAST);
    assert_eq!(lowered.program.steps[0].outs.len(), 2);
}

#[test]
fn halves_are_computed_in_f32() {
    for (dtype, cell, gates, c) in [("f16", LSTM, 4, ", %c: f16[N,40]"), ("bf16", GRU, 3, "")] {
        let (all, outs) = (gates * 40, if gates == 4 { "%0, %1, %2" } else { "%0, %1" });
        let args = if gates == 4 { "%x, %w, %h, %c, %l" } else { "%x, %w, %h, %l" };
        let source = format!(
            "graph @g (%x: {dtype}[S,N,{all}], %r: {dtype}[{all},40], %h: {dtype}[N,40]{c}, %l: i64[N]) {{
               %s = const {dtype}[] [0.15625]
               %w = mul %r, %s
               {outs} = recurrent {args} {{cell={}, reverse=1, {}}}
               return {outs} }}",
            cell.cell, cell.functions,
        );
        let steps = check(&source, &[&[("S", 4), ("N", 1)], &[("S", 6), ("N", 3)]]);
        assert!(steps.list().contains("Recurrent"), "{}", steps.list());
    }
}

/// The session stays usable, whichever worker found the length first.
#[test]
fn lengths_that_do_not_fit_are_errors() {
    let graph = parse(&Layer { hidden: 70, lengths: "i32", ..LSTM }.source());
    let (_, engine) = compile(&graph, Options::FAST);
    let engine = Engine::from_bytes(engine.into()).unwrap();
    let tensors = |lengths: [i128; 3]| -> Vec<Tensor> {
        let zeros =
            |shape: &[usize]| Tensor::floats(DType::F32, shape.to_vec(), vec![0.0; shape.iter().product()]);
        let lengths = Tensor::ints(DType::I32, vec![3], lengths.to_vec());
        vec![zeros(&[4, 3, 280]), zeros(&[3, 70]), zeros(&[3, 70]), lengths]
    };
    for threads in [1, 3] {
        let options = SessionOptions { threads, ..SessionOptions::default() };
        let mut session = Session::new(engine.clone(), options).unwrap();
        let mut run = |lengths| {
            let hosts: Vec<HostTensor> = tensors(lengths)
                .iter()
                .map(|t| {
                    HostTensor::from_bytes(lower::elem_type(t.dtype).unwrap(), &t.shape, &t.data).unwrap()
                })
                .collect();
            session.run_alloc(&hosts.iter().map(HostTensor::as_ref).collect::<Vec<_>>()).map(|_| ())
        };
        for (lengths, row, length) in [
            ([4, 0, 5], 2, 5),
            ([-1, 9, 4], 0, -1),
            ([0, i128::from(i32::MAX), -5], 1, i64::from(i32::MAX)),
            ([i128::from(i32::MIN), 4, 4], 0, i64::from(i32::MIN)),
        ] {
            run([4, 0, 2]).unwrap();
            let error = run(lengths).unwrap_err();
            assert_eq!(error.code(), "E0603");
            let text = format!("the length of row {row} is {length}, must be in 0..=4");
            assert!(error.to_string().contains(&text), "{error}");
            let error = interp::run(&graph, &tensors(lengths)).unwrap_err();
            assert!(error.message.contains(&format!("the length of row {row} is not in 0..=4")), "{error}");
        }
        run([1, 2, 3]).unwrap();
    }
}

#[test]
fn doubles_are_refused_by_name() {
    struct Nowhere;
    impl WeightSink for Nowhere {
        fn add(&mut self, _: &[u8]) -> std::io::Result<(u64, u64)> {
            Ok((0, 0))
        }
    }
    let graph = parse(
        "graph @g (%x: f64[S,N,2], %r: f64[2,2], %h: f64[N,2]) {
           %0, %1 = recurrent %x, %r, %h {cell=rnn, f=tanh}
           return %0 }",
    );
    let errors = lower::lower(&graph, Options::FAST, &mut Nowhere).unwrap_err();
    assert_eq!(errors[0].code, "E0401");
    assert!(errors[0].message.contains("`recurrent` of f64"), "{}", errors[0]);
}
