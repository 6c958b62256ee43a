//! Extents of 0: an empty batch, an empty cache, nothing to reduce.

use super::common::{Model, check, compiled, int, ints, noise, sessions};
use autoglm_compiler::onnx::proto::AttributeProto;
use autoglm_ir::Tensor;

/// Compiles once, runs every set of inputs in every session, and gives the interpreter's first results.
fn firsts(model: Model, runs: &[Vec<Tensor>]) -> Vec<Tensor> {
    let c = compiled(model.bytes(), &[]);
    let mut sessions = sessions(&c.engine);
    let one = |(i, inputs): (usize, &Vec<Tensor>)| {
        check(&format!("run {i}"), &c.graph, &mut sessions, inputs).remove(0)
    };
    runs.iter().enumerate().map(one).collect()
}

fn shapes(tensors: &[Tensor]) -> Vec<Vec<usize>> {
    tensors.iter().map(|t| t.shape.clone()).collect()
}

fn f(shape: &[usize]) -> Tensor {
    noise(shape, 3)
}

/// A model of one node on one f32 input, run with shapes.
fn unary(op: &str, dims: &str, attrs: Vec<AttributeProto>, runs: &[&[usize]]) -> Vec<Tensor> {
    let model = Model::new().floats("x", dims).node(&format!("y = {op} x"), attrs);
    firsts(model, &runs.iter().map(|s| vec![f(s)]).collect::<Vec<_>>())
}

#[test]
fn products() {
    let model = || Model::new().floats("a", "B,M,K").floats("b", "B,K,N").node("y = MatMul a b", vec![]);
    let runs: Vec<Vec<Tensor>> = [[0, 2, 3, 4], [2, 0, 3, 4], [2, 3, 4, 0], [2, 3, 0, 4], [2, 3, 5, 4]]
        .iter()
        .map(|[b, m, k, n]| vec![f(&[*b, *m, *k]), f(&[*b, *k, *n])])
        .collect();
    let y = firsts(model(), &runs);
    assert_eq!(shapes(&y[..4]), [[0, 2, 4], [2, 0, 4], [2, 3, 0], [2, 3, 4]]);
    assert!(y[3].to_f64().iter().all(|v| *v == 0.0), "a sum of nothing is 0");
    let packed = Model::new().floats("x", "N,3").weight("w", &[3, 40]).weight("b", &[40]);
    let packed = packed.node("y = Gemm x w b", vec![]);
    assert_eq!(shapes(&firsts(packed, &[vec![f(&[0, 3])], vec![f(&[2, 3])]])), [[0, 40], [2, 40]]);
}

#[test]
fn convolutions_and_pools() {
    for group in [1, 4] {
        let model = Model::new().floats("x", "N,4,H,6").weight("w", &[8, 4 / group, 3, 3]).weight("b", &[8]);
        let attrs = vec![ints("pads", &[2, 1, 2, 1]), int("group", group as i64)];
        let y = firsts(
            model.node("y = Conv x w b", attrs),
            &[vec![f(&[0, 4, 5, 6])], vec![f(&[2, 4, 0, 6])], vec![f(&[1, 4, 3, 6])]],
        );
        assert_eq!(shapes(&y), [[0, 8, 7, 6], [2, 8, 2, 6], [1, 8, 5, 6]]);
    }
    for op in ["MaxPool", "AveragePool"] {
        let attrs = vec![
            ints("kernel_shape", &[3, 3]),
            ints("pads", &[1; 4]),
            int("ceil_mode", 1),
            ints("strides", &[2, 2]),
        ];
        let y = unary(op, "N,2,5,6", attrs, &[&[0, 2, 5, 6], &[1, 2, 5, 6]]);
        assert_eq!(y[0].shape[..2], [0, 2]);
    }
    assert_eq!(unary("GlobalAveragePool", "N,2,H,6", vec![], &[&[0, 2, 5, 6]])[0].shape, [0, 2, 1, 1]);
}

/// The specification: the neutral element, and for the largest and smallest the infinities.
#[test]
fn reductions_of_nothing() {
    let cases = [
        ("ReduceSum", 0.0),
        ("ReduceProd", 1.0),
        ("ReduceMax", f64::NEG_INFINITY),
        ("ReduceMin", f64::INFINITY),
        ("ReduceL1", 0.0),
        ("ReduceL2", 0.0),
        ("ReduceSumSquare", 0.0),
        ("ReduceLogSum", f64::NEG_INFINITY),
        ("ReduceLogSumExp", f64::NEG_INFINITY),
    ];
    for (op, want) in cases {
        for axes in [[1].as_slice(), &[0, 1], &[1, 2]] {
            let model = Model::new().floats("x", "2,N,3").constant("axes", axes);
            let model = model.node(&format!("y = {op} x axes"), vec![int("keepdims", 0)]);
            let y = firsts(model, &[vec![f(&[2, 0, 3])], vec![f(&[2, 4, 3])]]);
            assert!(
                !y[0].data.is_empty() && y[0].to_f64().iter().all(|v| *v == want),
                "{op} {axes:?}: {:?}",
                y[0].to_f64()
            );
        }
        let model = Model::new().floats("x", "N,3").constant("axes", &[1]);
        let y = firsts(model.node(&format!("y = {op} x axes"), vec![]), &[vec![f(&[0, 3])]]);
        assert_eq!(y[0].shape, [0, 1], "{op}");
    }
    // The specification leaves the mean open; 0 / 0 is what numpy and the others give.
    let model = Model::new().floats("x", "2,N").constant("axes", &[1]).node("y = ReduceMean x axes", vec![]);
    let y = firsts(model, &[vec![f(&[2, 0])], vec![f(&[2, 4])]]);
    assert!(y[0].shape == [2, 1] && y[0].to_f64().iter().all(|v| v.is_nan()));
    for (op, want) in [("ReduceMax", i64::MIN), ("ReduceMin", i64::MAX), ("ReduceSum", 0), ("ReduceProd", 1)]
    {
        let model = Model::new().integers("x", "2,N").constant("axes", &[1]);
        let y = firsts(
            model.node(&format!("y = {op} x axes"), vec![int("keepdims", 0)]),
            &[vec![Tensor::i64s(vec![2, 0], &[])]],
        );
        assert_eq!(y[0].to_i64(), [want, want], "{op}");
    }
}

#[test]
fn normalisations() {
    let y = unary("Softmax", "M,N", vec![int("axis", 1)], &[&[2, 0], &[0, 3], &[2, 3]]);
    assert_eq!(shapes(&y[..2]), [[2, 0], [0, 3]]);
    let y = unary("LogSoftmax", "M,N", vec![int("axis", 0)], &[&[2, 0], &[0, 3]]);
    assert_eq!(shapes(&y), [[2, 0], [0, 3]]);
    let model = Model::new().floats("x", "N,4").weight("g", &[4]).weight("b", &[4]);
    let y = firsts(model.node("y = LayerNormalization x g b", vec![]), &[vec![f(&[0, 4])], vec![f(&[3, 4])]]);
    assert_eq!(y[0].shape, [0, 4]);
    let model = Model::new().floats("x", "N,4,5").weight("g", &[4]).weight("b", &[4]);
    let y = firsts(model.node("y = InstanceNormalization x g b", vec![]), &[vec![f(&[0, 4, 5])]]);
    assert_eq!(y[0].shape, [0, 4, 5]);
}

#[test]
fn joins_and_picks() {
    let model =
        Model::new().floats("a", "N,2").floats("b", "M,2").node("y = Concat a b", vec![int("axis", 0)]);
    let y = firsts(
        model,
        &[vec![f(&[0, 2]), f(&[3, 2])], vec![f(&[3, 2]), f(&[0, 2])], vec![f(&[0, 2]), f(&[0, 2])]],
    );
    assert_eq!(shapes(&y), [[3, 2], [3, 2], [0, 2]]);
    assert_eq!(y[0].to_f64(), f(&[3, 2]).to_f64());
    let model = Model::new().floats("x", "N,3").integers("i", "M").node("y = Gather x i", vec![]);
    let none = || Tensor::i64s(vec![0], &[]);
    let y = firsts(model, &[vec![f(&[5, 3]), none()], vec![f(&[0, 3]), none()]]);
    assert_eq!(shapes(&y), [[0, 3], [0, 3]]);
    let model = Model::new().floats("x", "N,3").integers("i", "M,3").node("y = GatherElements x i", vec![]);
    assert_eq!(firsts(model, &[vec![f(&[5, 3]), Tensor::i64s(vec![0, 3], &[])]])[0].shape, [0, 3]);
    let model = Model::new().floats("x", "N,3").integers("i", "M,1").floats("u", "M,3");
    let model = model.node("y = ScatterND x i u", vec![]);
    let y = firsts(model, &[vec![f(&[5, 3]), Tensor::i64s(vec![0, 1], &[]), f(&[0, 3])]]);
    assert_eq!(y[0].to_f64(), f(&[5, 3]).to_f64(), "nothing is replaced");
}

#[test]
fn reshapes() {
    let reshape = |dims: &str, to: &[i64], allow: i64| {
        let model = Model::new().floats("x", dims).constant("to", to);
        model.node("y = Reshape x to", vec![int("allowzero", allow)])
    };
    assert_eq!(firsts(reshape("N,4", &[-1, 2], 0), &[vec![f(&[0, 4])]])[0].shape, [0, 2]);
    assert_eq!(firsts(reshape("N,4", &[0, 2, 2], 0), &[vec![f(&[0, 4])]])[0].shape, [0, 2, 2]);
    assert_eq!(firsts(reshape("N,4", &[0, -1], 0), &[vec![f(&[3, 4])]])[0].shape, [3, 4]);
    assert_eq!(firsts(reshape("N,4", &[5, 0], 1), &[vec![f(&[0, 4])]])[0].shape, [5, 0]);
    let model = Model::new().floats("x", "N,4").integers("to", "2").node("y = Reshape x to", vec![]);
    let to = |a, b| Tensor::i64s(vec![2], &[a, b]);
    let y = firsts(
        model,
        &[vec![f(&[0, 4]), to(0, 4)], vec![f(&[0, 4]), to(-1, 2)], vec![f(&[3, 4]), to(2, -1)]],
    );
    assert_eq!(shapes(&y), [[0, 4], [0, 2], [2, 6]]);
}

/// An empty axis slices, splits, pads, repeats and broadcasts as numpy does.
#[test]
fn movement() {
    let slice = |bounds: [&[i64]; 4]| {
        let names = ["starts", "ends", "axes", "steps"];
        let model = Model::new().floats("x", "N,3");
        let model = names.iter().zip(bounds).fold(model, |m, (n, b)| m.constant(n, b));
        model.node("y = Slice x starts ends axes steps", vec![])
    };
    let runs = [vec![f(&[0, 3])], vec![f(&[1, 3])], vec![f(&[4, 3])]];
    let rows = |y: &[Tensor]| y.iter().map(|t| t.shape[0]).collect::<Vec<_>>();
    assert_eq!(rows(&firsts(slice([&[1], &[i64::MAX], &[0], &[1]]), &runs)), [0, 0, 3]);
    assert_eq!(rows(&firsts(slice([&[1], &[i64::from(i32::MAX)], &[0], &[1]]), &runs)), [0, 0, 3]);
    assert_eq!(rows(&firsts(slice([&[0], &[-1], &[0], &[1]]), &runs)), [0, 0, 3]);
    assert_eq!(rows(&firsts(slice([&[-1], &[i64::MIN], &[0], &[-1]]), &runs)), [0, 1, 4]);
    assert_eq!(rows(&firsts(slice([&[-2], &[i64::MAX], &[0], &[1]]), &runs)), [0, 1, 2]);
    let model =
        Model::new().floats("x", "N,3").constant("pads", &[1, 0, 2, 0]).node("y = Pad x pads", vec![]);
    let y = firsts(model, &runs);
    assert_eq!((rows(&y), y[0].to_f64()), (vec![3, 4, 7], vec![0.0; 9]));
    let model = Model::new().floats("x", "N,3").constant("r", &[2, 0]).node("y = Tile x r", vec![]);
    assert_eq!(firsts(model, &runs)[2].shape, [8, 0]);
    assert_eq!(unary("Transpose", "N,3", vec![], &[&[0, 3]])[0].shape, [3, 0]);
    let model = Model::new().floats("a", "N").floats("b", "M").node("y = Add a b", vec![]);
    let y = firsts(model, &[vec![f(&[0]), f(&[1])], vec![f(&[1]), f(&[0])], vec![f(&[0]), f(&[0])]]);
    assert_eq!(shapes(&y), [[0], [0], [0]]);
    let model = Model::new().floats("x", "N,3").constant("to", &[2, 1, 3]).node("y = Expand x to", vec![]);
    assert_eq!(firsts(model, &[vec![f(&[0, 3])], vec![f(&[1, 3])]])[0].shape, [2, 0, 3]);
    let model = Model::new().floats("x", "N").node("a b = Split x", vec![int("num_outputs", 2)]);
    assert_eq!(firsts(model, &[vec![f(&[0])], vec![f(&[5])]])[1].shape, [3]);
}

/// A decoder's first step: the cache is empty, and joining it with the new keys and values changes nothing.
#[test]
fn an_empty_cache() {
    let model = Model::new().floats("q", "B,2,S,4");
    let model = ["pk", "pv"].iter().fold(model, |m, n| m.floats(n, "B,2,P,4"));
    let model = ["k", "v"].iter().fold(model, |m, n| m.floats(n, "B,2,S,4"));
    let model = model
        .node("K = Concat pk k", vec![int("axis", 2)])
        .node("V = Concat pv v", vec![int("axis", 2)])
        .node("T = Transpose K", vec![ints("perm", &[0, 1, 3, 2])])
        .node("s = MatMul q T", vec![])
        .node("w = Softmax s", vec![int("axis", -1)])
        .node("y = MatMul w V", vec![]);
    let run = |b: usize, p: usize, s: usize| {
        let (past, new) = (f(&[b, 2, p, 4]), f(&[b, 2, s, 4]));
        vec![new.clone(), past.clone(), past, new.clone(), new]
    };
    let y = firsts(model, &[run(1, 0, 3), run(1, 5, 1), run(0, 5, 1), run(2, 0, 1)]);
    assert_eq!(shapes(&y), [[1, 2, 3, 4], [1, 2, 1, 4], [0, 2, 1, 4], [2, 2, 1, 4]]);
    // One key: its weight is 1, and the result is its value.
    let (found, want) = (y[3].to_f64(), f(&[2, 2, 1, 4]).to_f64());
    assert_eq!(found, want);
}

/// An empty batch through operators that have a kernel or a decomposition of their own.
#[test]
fn an_empty_batch_everywhere() {
    type Case = (&'static str, Vec<AttributeProto>, &'static [usize]);
    let cases: [Case; 16] = [
        ("ArgMax x", vec![int("axis", 1)], &[0, 1, 4, 4]),
        ("CumSum x axis", vec![], &[0, 4, 4, 4]),
        ("DepthToSpace x", vec![int("blocksize", 2)], &[0, 1, 8, 8]),
        ("SpaceToDepth x", vec![int("blocksize", 2)], &[0, 16, 2, 2]),
        ("Resize x _ scales", vec![], &[0, 4, 8, 8]),
        ("Resize x _ _ own", vec![], &[0, 4, 6, 2]),
        ("ConvTranspose x w", vec![ints("strides", &[2, 2])], &[0, 2, 10, 10]),
        ("Flatten x", vec![], &[0, 64]),
        ("Mean x x", vec![], &[0, 4, 4, 4]),
        ("Where c x x", vec![], &[0, 4, 4, 4]),
        ("Gelu x", vec![], &[0, 4, 4, 4]),
        ("PRelu x slope", vec![], &[0, 4, 4, 4]),
        ("BatchNormalization x slopes slopes slopes slopes", vec![], &[0, 4, 4, 4]),
        ("GroupNormalization x slopes slopes", vec![int("num_groups", 4)], &[0, 4, 4, 4]),
        ("LRN x", vec![int("size", 3)], &[0, 4, 4, 4]),
        ("Trilu x", vec![], &[0, 4, 4, 4]),
    ];
    for (node, attrs, want) in cases {
        let opset = if node.starts_with("Gelu") { 20 } else { 18 };
        let model = Model::at(opset).floats("x", "N,4,4,4").constant("axis", &[2]);
        let model = model
            .numbers("scales", &[1.0, 1.0, 2.0, 2.0])
            .weight("w", &[4, 2, 4, 4])
            .weight("slope", &[4, 1, 1]);
        let model = model.numbers("slopes", &[0.5, 1.0, 2.0, 0.25]);
        let op = node.split(' ').next().unwrap();
        // The sizes of `Resize` and the condition of `Where` follow the batch.
        let model = match (op, node.ends_with("own")) {
            ("Where", _) => model.node("c = Greater x x", vec![]).node(&format!("y = {node}"), attrs),
            ("Resize", true) => model
                .constant("zero", &[0])
                .node("shape = Shape x", vec![])
                .node("n = Gather shape zero", vec![])
                .constant("rest", &[4, 6, 2])
                .node("own = Concat n rest", vec![int("axis", 0)])
                .node(&format!("y = {node}"), attrs),
            _ => model.node(&format!("y = {node}"), attrs),
        };
        let y = firsts(model, &[vec![f(&[0, 4, 4, 4])], vec![f(&[2, 4, 4, 4])]]);
        assert_eq!(y[0].shape, want, "{node}");
        assert_eq!(y[1].shape[1..], want[1..], "{node}");
    }
    let model =
        Model::new().floats("x", "N,4").constant("k", &[2]).node("y i = TopK x k", vec![int("axis", 1)]);
    assert_eq!(firsts(model, &[vec![f(&[0, 4])], vec![f(&[3, 4])]])[0].shape, [0, 2]);
}
