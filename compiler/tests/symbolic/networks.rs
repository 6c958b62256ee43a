//! Whole networks: every symbolic extent at 1, at a prime and at its bound, in all combinations.

use super::common::{Compiled, check, compiled, compiled_with, integers, noise, run, session, sessions};
use autoglm_generator::{Seeded, bert, cnn};
use autoglm_ir::Tensor;

/// Runs every combination of extents; `inputs` makes the inputs for one.
fn sweep(c: &Compiled, extents: &[&[usize]], inputs: impl Fn(&[usize]) -> Vec<Tensor>) {
    let mut sessions = sessions(&c.engine);
    let mut combinations = vec![Vec::new()];
    for choices in extents {
        let longer =
            |c: &Vec<usize>| choices.iter().map(|e| [c.as_slice(), &[*e]].concat()).collect::<Vec<_>>();
        combinations = combinations.iter().flat_map(longer).collect();
    }
    for extents in combinations {
        let outputs = check(&format!("{extents:?}"), &c.graph, &mut sessions, &inputs(&extents));
        assert!(outputs.iter().flat_map(Tensor::to_f64).all(f64::is_finite), "{extents:?}");
    }
}

fn small_bert(opset: i64, norm: bert::Norm) -> Vec<u8> {
    let config = bert::Config {
        hidden: 32,
        layers: 2,
        heads: 4,
        intermediate: 64,
        vocabulary: 50,
        positions: 29,
        batch: "batch".into(),
        sequence: "sequence".into(),
        opset,
        norm: Some(norm),
        ..bert::Config::default()
    };
    bert::model(&config).unwrap().to_bytes(&Seeded { seed: 1 }).unwrap()
}

/// Tokens, a mask that hides the end of every second sequence, and token types.
fn tokens(extents: &[usize]) -> Vec<Tensor> {
    let length = extents[1];
    let hidden = |i: usize| (i / length.max(1)) % 2 == 1 && i % length > length / 2;
    let mask: Vec<i64> = (0..extents[0] * length).map(|i| i64::from(!hidden(i))).collect();
    vec![integers(extents, 50, 1), Tensor::i64s(extents.to_vec(), &mask), integers(extents, 2, 2)]
}

#[test]
fn bert_runs_every_batch_and_sequence() {
    for (opset, norm) in [(17, bert::Norm::Operator), (13, bert::Norm::Decomposed)] {
        let c = compiled(small_bert(opset, norm), &[("batch", 1, 4), ("sequence", 1, 29)]);
        sweep(&c, &[&[1, 3, 4], &[1, 13, 29]], tokens);
        let plain = compiled_with(small_bert(opset, norm), &[], false);
        sweep(&plain, &[&[0, 3], &[1, 13]], tokens);
    }
}

/// The mask and the reshapes are all that a shape decides, and the exporter's arithmetic on shapes is done at compile
/// time: no step computes integers from extents.
#[test]
fn shape_arithmetic_leaves_no_step() {
    let bounded = compiled(small_bert(17, bert::Norm::Operator), &[("batch", 1, 4), ("sequence", 1, 29)]);
    let open = compiled(small_bert(17, bert::Norm::Operator), &[]);
    let fixed = compiled(small_bert(17, bert::Norm::Operator), &[("batch", 3, 3), ("sequence", 13, 13)]);
    assert_eq!(open.step_kinds, bounded.step_kinds);
    assert!(!open.step_kinds.contains(&"Dims"), "{:?}", open.step_kinds);
    // A fixed length has its positions and their embeddings folded: a slice, a gather and the loop that adds them.
    assert_eq!(open.step_kinds.len(), fixed.step_kinds.len() + 3, "{:?}", open.step_kinds);
    sweep(&open, &[&[0, 2], &[1, 29]], tokens);
    let error = run(&mut session(&open.engine, 1, None), &tokens(&[1, 30])).unwrap_err();
    assert_eq!(error.code(), "E0604");
    assert!(error.to_string().contains("sequence is 30 (axis 1 of input \"input_ids\")"), "{error}");
}

#[test]
fn a_convolutional_network_runs_every_image() {
    let config = cnn::Config { width: 8, ..cnn::Config::default() };
    let model = cnn::model(&config).unwrap().to_bytes(&Seeded { seed: 2 }).unwrap();
    let image = |e: &[usize]| vec![noise(&[e[0], 3, e[1], e[2]], 5)];
    let plain = compiled_with(model.clone(), &[], false);
    sweep(&plain, &[&[0, 2], &[5], &[19]], image);
    let c = compiled(model.clone(), &[("batch", 1, 4), ("height", 1, 32), ("width", 1, 24)]);
    sweep(&c, &[&[1, 3, 4], &[1, 17, 32], &[1, 13, 24]], image);
    let open = compiled(model, &[]);
    sweep(&open, &[&[0, 2], &[5], &[19]], image);
}
