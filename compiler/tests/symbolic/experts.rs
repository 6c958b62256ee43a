//! Mixtures of experts as exporters write them: a router chooses k of e feed-forward networks for each token.

use super::common::{
    Compiled, Model, check, compiled, compiled_with, int, integers, noise, run, session, sessions, text,
};
use autoglm_ir::Tensor;

const D: usize = 24;
const F: usize = 40;

fn einsum(model: Model, text_of: &str, equation: &'static str) -> Model {
    model.node(text_of, vec![text("equation", equation)])
}

fn gather(model: Model, out: &str, of: &str) -> Model {
    model.node(&format!("{out} = Gather {of} i"), vec![int("axis", 0)])
}

/// Tokens `x` [N,D], the chosen experts `i` [N,k] and their weights `q`, which sum to 1.
fn router(experts: usize, k: i64) -> Model {
    Model::new()
        .floats("x", &format!("N,{D}"))
        .weight("router", &[D, experts])
        .constant("k", &[k])
        .constant("one", &[1])
        .constant("last", &[-1])
        .node("logits = MatMul x router", vec![])
        .node("p = Softmax logits", vec![int("axis", -1)])
        .node("v i = TopK p k", vec![int("axis", -1)])
        .node("s = ReduceSum v last", vec![int("keepdims", 1)])
        .node("q = Div v s", vec![])
}

/// `act(x w1) * (x w3)` of `a` and `b`.
fn gated(model: Model) -> Model {
    model.node("sg = Sigmoid a", vec![]).node("silu = Mul a sg", vec![]).node("h = Mul silu b", vec![])
}

/// Sums in one expression, over weights [e,out,in] (`gpt-fast`).
fn sums(experts: usize, k: i64) -> Model {
    let w = router(experts, k)
        .weight("w1", &[experts, F, D])
        .weight("w3", &[experts, F, D])
        .weight("w2", &[experts, D, F]);
    let w = gather(gather(gather(w, "g1", "w1"), "g3", "w3"), "g2", "w2");
    let w = einsum(w, "a = Einsum x g1", "ti,taoi->tao");
    let w = einsum(w, "b = Einsum x g3", "ti,taoi->tao");
    let w = einsum(gated(w), "o = Einsum h g2", "tao,taio->tai");
    einsum(w, "y = Einsum o q", "tai,ta->ti")
}

/// The matrices on the left, and biases (the reference of GPT-OSS).
fn left(experts: usize, k: i64) -> Model {
    let w = router(experts, k)
        .weight("w1", &[experts, F, D])
        .weight("b1", &[experts, F])
        .weight("w3", &[experts, F, D])
        .weight("w2", &[experts, D, F])
        .weight("b2", &[experts, D]);
    let w = gather(gather(gather(w, "g1", "w1"), "g3", "w3"), "g2", "w2");
    let w = gather(gather(w, "c1", "b1"), "c2", "b2");
    let w = einsum(w, "a0 = Einsum g1 x", "beck,bk->bec").node("a = Add a0 c1", vec![]);
    let w = einsum(w, "b = Einsum g3 x", "beck,bk->bec");
    let w = einsum(gated(w), "o0 = Einsum g2 h", "beck,bek->bec").node("o = Add o0 c2", vec![]);
    einsum(w, "y = Einsum o q", "bec,be->bc")
}

/// Products of [N,k,1,..], with the second matrix transposed after it was gathered.
fn products(experts: usize, k: i64) -> Model {
    let w = router(experts, k)
        .weight("w1", &[experts, D, F])
        .weight("w3", &[experts, D, F])
        .weight("w2", &[experts, D, F])
        .constant("inner", &[1, 2])
        .constant("two", &[2]);
    let w = gather(gather(gather(w, "g1", "w1"), "g3", "w3"), "g2", "w2");
    let w = w
        .node("row = Unsqueeze x inner", vec![])
        .node("a = MatMul row g1", vec![])
        .node("b = MatMul row g3", vec![]);
    gated(w)
        .node("t = Transpose g2", vec![super::common::ints("perm", &[0, 1, 3, 2])])
        .node("o = MatMul h t", vec![])
        .node("flat = Squeeze o two", vec![])
        .node("wide = Unsqueeze q last", vec![])
        .node("part = Mul flat wide", vec![])
        .node("y = ReduceSum part one", vec![int("keepdims", 0)])
}

/// All choices of all tokens in one axis.
fn flat(experts: usize, k: i64) -> Model {
    let w = router(experts, k)
        .weight("w1", &[experts, D, F])
        .weight("w3", &[experts, D, F])
        .weight("w2", &[experts, F, D])
        .constant("repeat", &[1, k, 1])
        .constant("rows", &[-1, 1, D as i64])
        .constant("tokens", &[-1, k, D as i64])
        .node("list = Reshape i last", vec![])
        .node("g1 = Gather w1 list", vec![int("axis", 0)])
        .node("g3 = Gather w3 list", vec![int("axis", 0)])
        .node("g2 = Gather w2 list", vec![int("axis", 0)])
        .node("x1 = Unsqueeze x one", vec![])
        .node("xk = Expand x1 repeat", vec![])
        .node("row = Reshape xk rows", vec![])
        .node("a = MatMul row g1", vec![])
        .node("b = MatMul row g3", vec![]);
    gated(w)
        .node("o = MatMul h g2", vec![])
        .node("back = Reshape o tokens", vec![])
        .node("wide = Unsqueeze q last", vec![])
        .node("part = Mul back wide", vec![])
        .node("y = ReduceSum part one", vec![int("keepdims", 0)])
}

/// Every expert for every token, as transformers 4 writes for export; those that were not chosen weigh `zeros`.
fn dense(experts: usize, k: i64, zeros: &str) -> Model {
    let w = router(experts, k)
        .weight("w1", &[experts, D, F])
        .weight("w3", &[experts, D, F])
        .weight("w2", &[experts, F, D])
        .constant("zero", &[0])
        .numbers("none", &[0.0])
        .node("size = Shape p", vec![])
        .node(&format!("zeros = {zeros}"), vec![])
        .node("all = ScatterElements zeros i q", vec![int("axis", 1)])
        .node("turned = Transpose all", vec![super::common::ints("perm", &[1, 0])])
        .node("wide = Unsqueeze turned last", vec![])
        .node("row = Unsqueeze x zero", vec![])
        .node("a = MatMul row w1", vec![])
        .node("b = MatMul row w3", vec![]);
    gated(w)
        .node("o = MatMul h w2", vec![])
        .node("part = Mul o wide", vec![])
        .node("y = ReduceSum part zero", vec![int("keepdims", 0)])
}

fn count(c: &Compiled, kind: &str) -> usize {
    c.step_kinds.iter().filter(|k| **k == kind).count()
}

fn sweep(name: &str, c: &Compiled) {
    let mut sessions = sessions(&c.engine);
    for n in [1, 13, 29] {
        check(&format!("{name}, {n} tokens"), &c.graph, &mut sessions, &[noise(&[n, D], n as u64)]);
    }
}

#[test]
fn chosen_experts_are_not_copied() {
    type Form = fn(usize, i64) -> Model;
    let forms: [(&str, Form); 4] = [("sums", sums), ("left", left), ("products", products), ("flat", flat)];
    for (form, model) in forms {
        for (experts, k) in [(4, 1), (8, 2), (8, 4)] {
            let name = format!("{form}, {k} of {experts}");
            let c = compiled(model(experts, k).bytes(), &[("N", 1, 29)]);
            assert_eq!(count(&c, "GatherMatMul"), 3, "{name}: {:?}", c.step_kinds);
            let biases = if form == "left" { 2 } else { 0 };
            assert_eq!(count(&c, "Gather"), biases, "{name}: {:?}", c.step_kinds);
            sweep(&name, &c);
        }
        let plain = compiled_with(model(4, 2).bytes(), &[("N", 1, 29)], false);
        assert_eq!(count(&plain, "GatherMatMul"), 0);
        sweep(form, &plain);
    }
}

#[test]
fn experts_that_weigh_nothing_are_not_computed() {
    for k in [1, 2, 4] {
        let c = compiled(dense(8, k, "Expand none size").bytes(), &[("N", 1, 29)]);
        assert_eq!((count(&c, "GatherMatMul"), count(&c, "MatMul")), (3, 1), "{:?}", c.step_kinds);
        sweep(&format!("dense, {k}"), &c);
    }
}

/// A zero times what may be infinite need not be zero.
#[test]
fn experts_whose_weights_may_not_be_zero_are_computed() {
    let c = compiled(dense(8, 2, "Mul p none").bytes(), &[("N", 1, 29)]);
    assert_eq!((count(&c, "GatherMatMul"), count(&c, "MatMul")), (0, 4), "{:?}", c.step_kinds);
    sweep("dense, unknown zeros", &c);
}

#[test]
fn indices_are_checked_where_they_choose() {
    let model = Model::new()
        .floats("x", &format!("N,1,{D}"))
        .integers("i", "N")
        .weight("w", &[5, D, F])
        .node("g = Gather w i", vec![int("axis", 0)])
        .node("y = MatMul x g", vec![]);
    let c = compiled(model.bytes(), &[]);
    assert_eq!(c.step_kinds, ["GatherMatMul"]);
    let x = noise(&[7, 1, D], 3);
    let below = integers(&[7], 5, 1);
    let negative: Vec<i64> = below.to_i64().into_iter().map(|i| i - 5).collect();
    let mut all = sessions(&c.engine);
    let a = check("from the start", &c.graph, &mut all, &[x.clone(), below]);
    let b = check("from the end", &c.graph, &mut all, &[x.clone(), Tensor::i64s(vec![7], &negative)]);
    assert_eq!(a, b);
    check("no rows", &c.graph, &mut all, &[noise(&[0, 1, D], 1), Tensor::i64s(vec![0], &[])]);
    for hostile in [5, -6, i64::MAX, i64::MIN] {
        for threads in [1, 3] {
            let mut picks = [0; 7];
            picks[6] = hostile;
            let inputs = [x.clone(), Tensor::i64s(vec![7], &picks)];
            let error = run(&mut session(&c.engine, threads, None), &inputs).unwrap_err();
            assert_eq!(error.code(), "E0603", "{error}");
            assert!(error.to_string().contains(&hostile.to_string()), "{error}");
        }
    }
}
