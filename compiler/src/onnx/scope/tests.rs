//! Tests of the module beside this file.

use super::*;
use crate::onnx::proto::{
    FunctionProto, SparseTensorProto, StringStringEntryProto, TensorProto, ValueInfoProto,
    attribute_type as ty,
};

/// `"Op a b -> c d"`, with `_` for an omitted name and `domain.Op` for a domain.
fn node(text: &str) -> NodeProto {
    let (left, right) = text.split_once("->").unwrap();
    let names = |s: &str| s.split_whitespace().map(|n| n.replace('_', "")).collect::<Vec<_>>();
    let mut input = names(left);
    let op = input.remove(0);
    let (domain, op_type) = op.split_once('.').map_or(("", op.as_str()), |(d, o)| (d, o));
    NodeProto {
        domain: domain.into(),
        op_type: op_type.into(),
        input,
        output: names(right),
        ..Default::default()
    }
}

fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

fn named(mut node: NodeProto, name: &str) -> NodeProto {
    node.name = name.into();
    node
}

fn nodes(text: &[&str]) -> Vec<NodeProto> {
    text.iter().map(|t| node(t)).collect()
}

fn values(names: &str) -> Vec<ValueInfoProto> {
    names.split_whitespace().map(|n| ValueInfoProto { name: n.into(), ..Default::default() }).collect()
}

fn graph(input: &str, node: Vec<NodeProto>, output: &str) -> GraphProto {
    GraphProto { input: values(input), node, output: values(output), ..Default::default() }
}

fn function(name: &str, input: &str, node: Vec<NodeProto>, output: &str) -> FunctionProto {
    let names = |s: &str| s.split_whitespace().map(str::to_owned).collect();
    FunctionProto {
        name: name.into(),
        domain: "f".into(),
        input: names(input),
        output: names(output),
        node,
        ..Default::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> ModelProto {
    ModelProto { graph: Some(graph), functions, opset_import: vec![opset("", 21)], ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: ty::INT, i: Some(i), ..Default::default() }
}

fn reference(name: &str, to: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind, ref_attr_name: to.into(), ..Default::default() }
}

fn body(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: ty::GRAPH, g: Some(Box::new(g)), ..Default::default() }
}

fn good(m: ModelProto) -> (GraphProto, Vec<Warning>) {
    let mut warnings = Vec::new();
    let graph = normalise(m, &mut warnings).unwrap_or_else(|e| panic!("{e:#?}"));
    (graph, warnings)
}

fn codes(m: ModelProto) -> Vec<&'static str> {
    normalise(m, &mut Vec::new()).unwrap_err().iter().map(|e| e.code).collect()
}

/// The nodes as text.
fn text(nodes: &[NodeProto]) -> Vec<String> {
    let list = |names: &[String]| {
        names.iter().map(|n| if n.is_empty() { "_" } else { n }).collect::<Vec<_>>().join(" ")
    };
    nodes.iter().map(|n| format!("{} {} -> {}", n.op_type, list(&n.input), list(&n.output))).collect()
}

#[test]
fn a_plain_graph_stays_as_it_is() {
    let g = graph("a b", nodes(&["Add a b -> c", "Clip c _ b -> d", "Relu d -> e"]), "e c");
    let (out, warnings) = good(model(g.clone(), vec![]));
    assert_eq!((out, warnings), (g, vec![]));
}

#[test]
fn the_two_spellings_of_the_default_domain() {
    let mut g = graph("a", nodes(&["Relu a -> b"]), "b");
    g.node[0].domain = "ai.onnx".into();
    let (out, _) = good(model(g, vec![]));
    assert_eq!(out.node[0].domain, "");
    let imports = opset_imports(&[opset("ai.onnx", 13), opset("x", 1), opset("", 13)]).unwrap();
    assert_eq!(node_opset(&out.node[0], &imports), Some(13));
    assert_eq!(opset_imports(&[opset("", 1), opset("ai.onnx", 2)]).unwrap_err().code, code::OPSET);
    assert_eq!(opset_imports(&[opset("", 0)]).unwrap_err().code, code::OPSET);
}

#[test]
fn unsorted_nodes_are_sorted_stably() {
    let g = graph("a", nodes(&["Z c -> z", "A a -> b", "Y a -> y", "B b -> c", "X y -> x"]), "z x");
    let (out, warnings) = good(model(g, vec![]));
    assert_eq!(text(&out.node), ["A a -> b", "Y a -> y", "B b -> c", "Z c -> z", "X y -> x"]);
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].code, warnings[0].node.as_deref()), (code::W_ORDER, Some("Z -> z")));
}

#[test]
fn captured_values_order_nodes_too() {
    let branch = graph("", nodes(&["Neg late -> r"]), "r");
    let direct = graph("", vec![], "late");
    let branching = with(with(node("If c -> o"), body("then_branch", branch)), body("else_branch", direct));
    let (out, warnings) = good(model(graph("c a", vec![branching, node("Relu a -> late")], "o"), vec![]));
    assert_eq!(text(&out.node), ["Relu a -> late", "If c -> o"]);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn circles_are_spelled_out() {
    let g = graph(
        "a",
        vec![
            named(node("Add a z -> x"), "add"),
            named(node("Mul x -> y"), "mul"),
            named(node("Sub y -> z"), "sub"),
            named(node("Exp z -> e"), "behind"),
            named(node("Self s -> s"), "self"),
        ],
        "e",
    );
    let errors = normalise(model(g, vec![]), &mut Vec::new()).unwrap_err();
    let messages: Vec<&str> = errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(errors.len(), 2, "{messages:?}");
    assert!(errors.iter().all(|e| e.code == code::CYCLE));
    assert!(messages[0].ends_with("`mul` -> `sub` -> `add` -> `mul`"), "{}", messages[0]);
    assert!(messages[1].ends_with("`self` -> `self`"));
    let inner = graph("", nodes(&["Neg o -> r"]), "r");
    let g = graph("c", vec![with(node("If c -> o"), body("then_branch", inner))], "o");
    assert_eq!(codes(model(g, vec![])), [code::CYCLE]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut g = graph(
        "a a",
        vec![
            named(node("Add a gone -> x"), "n1"),
            named(node("Mul a a -> x"), "n2"),
            named(node("Sub a missing -> y"), "n3"),
        ],
        "x nowhere x",
    );
    g.output.push(ValueInfoProto::default());
    g.input.push(ValueInfoProto::default());
    let errors = normalise(model(g, vec![]), &mut Vec::new()).unwrap_err();
    let mut found: Vec<(&str, &str)> =
        errors.iter().map(|e| (e.code, e.node.as_deref().unwrap_or(""))).collect();
    found.sort_unstable();
    let mut want = vec![
        (code::VALUE_TWICE, "main graph"),
        (code::VALUE_TWICE, ""),
        (code::VALUE_TWICE, "n2"),
        (code::VALUE_MISSING, "n1"),
        (code::VALUE_MISSING, "n3"),
        (code::OUTPUT_MISSING, "main graph"),
        (code::EMPTY_NAME, "main graph"),
        (code::EMPTY_NAME, "main graph"),
    ];
    want.sort_unstable();
    assert_eq!(found, want);
    let gone = errors.iter().find(|e| e.node.as_deref() == Some("n1")).unwrap();
    assert!(gone.message.contains("`gone`") && gone.message.contains("input 1"));
}

#[test]
fn thousands_of_problems_are_counted() {
    let g = graph("", (0..2000).map(|i| node(&format!("Relu gone -> v{i}"))).collect(), "");
    let errors = normalise(model(g, vec![]), &mut Vec::new()).unwrap_err();
    assert_eq!(errors.len(), REPORTED + 1);
    assert!(errors[REPORTED].message.contains("1500 more"));
}

#[test]
fn repeated_initializers() {
    let tensor =
        |x: f32| TensorProto { name: "w".into(), data_type: 1, float_data: vec![x], ..Default::default() };
    let base = graph("a", nodes(&["Add a w -> b"]), "b");
    let same = GraphProto { initializer: vec![tensor(1.0), tensor(1.0)], ..base.clone() };
    let (out, warnings) = good(model(same, vec![]));
    assert_eq!((out.initializer.len(), warnings[0].code), (1, code::W_INITIALIZER));
    let different = GraphProto { initializer: vec![tensor(1.0), tensor(2.0)], ..base.clone() };
    assert_eq!(codes(model(different, vec![])), [code::INITIALIZER_TWICE]);
    let sparse = SparseTensorProto { values: Some(tensor(1.0)), ..Default::default() };
    let both =
        GraphProto { initializer: vec![tensor(1.0)], sparse_initializer: vec![sparse], ..base.clone() };
    assert_eq!(codes(model(both, vec![])), [code::INITIALIZER_TWICE]);
    // The default value of an input is no repetition, a node's output of that name is.
    let default = GraphProto { initializer: vec![tensor(1.0)], input: values("a w"), ..base.clone() };
    assert_eq!(good(model(default, vec![])).0.initializer.len(), 1);
    let clash = GraphProto {
        initializer: vec![TensorProto { name: "b".into(), ..tensor(1.0) }, tensor(0.0)],
        ..base
    };
    assert_eq!(codes(model(clash, vec![])), [code::VALUE_TWICE]);
}

#[test]
fn subgraph_names_become_unique() {
    let branch = |op: &str| graph("", nodes(&[&format!("{op} a -> t"), "Neg t -> r"]), "r");
    let branching =
        with(with(node("If c -> o"), body("then_branch", branch("Exp"))), body("else_branch", branch("Log")));
    let (out, warnings) = good(model(graph("c a", vec![branching, node("Relu o -> t")], "t"), vec![]));
    let inner: Vec<&GraphProto> = out.node[0].attribute.iter().map(|a| a.g.as_deref().unwrap()).collect();
    // The main graph's `t` keeps its name, wherever it stands.
    assert_eq!(text(&out.node)[1], "Relu o -> t");
    assert_eq!(text(&inner[0].node), ["Exp a -> t#2", "Neg t#2 -> r"]);
    assert_eq!(text(&inner[1].node), ["Log a -> t#3", "Neg t#3 -> r#2"]);
    assert_eq!((inner[0].output[0].name.as_str(), inner[1].output[0].name.as_str()), ("r", "r#2"));
    assert!(warnings.iter().all(|w| w.code == code::W_SHADOW) && warnings.len() == 2, "{warnings:?}");
}

#[test]
fn loop_bodies_have_inputs_of_their_own() {
    let mut inner = graph("i cond s", nodes(&["Add s w -> s2", "Add s2 a -> s3"]), "cond s3 s3");
    inner.initializer.push(TensorProto { name: "w".into(), ..Default::default() });
    inner.value_info = values("s2 nothing");
    let looping = with(node("Loop n c a -> b scan"), body("body", inner));
    let mut g = graph("n c a", vec![looping], "b");
    g.initializer.push(TensorProto { name: "w".into(), ..Default::default() });
    let (out, _) = good(model(g, vec![]));
    let inner = out.node[0].attribute[0].g.as_deref().unwrap();
    assert_eq!(text(&inner.node), ["Add s w#2 -> s2", "Add s2 a -> s3"]);
    assert_eq!(inner.initializer[0].name, "w#2");
    assert_eq!(inner.value_info.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["s2"]);
}

#[test]
fn calls_are_replaced_by_bodies() {
    let mut f = function("F", "x y", nodes(&["Mul x y -> t", "Clip t _ y -> u"]), "u");
    f.opset_import = vec![opset("", 18)];
    let g = graph("a", vec![named(node("f.F a a -> b"), "one"), named(node("f.F b _ -> c"), "two")], "c");
    let (out, _) = good(model(g, vec![f]));
    assert_eq!(
        text(&out.node),
        ["Mul a a -> one/t", "Clip one/t _ a -> b", "Mul b _ -> two/t", "Clip two/t _ _ -> c"]
    );
    assert_eq!(out.node[0].name, "one/Mul");
    let imports = opset_imports(&[opset("", 21)]).unwrap();
    assert_eq!(node_opset(&out.node[0], &imports), Some(18));
    assert_eq!(node_opset(&node("Relu a -> b"), &imports), Some(21));
    assert_eq!(node_opset(&node("x.Relu a -> b"), &imports), None);
}

#[test]
fn the_noted_opset_cannot_be_forged() {
    let mut n = node("Relu a -> b");
    n.metadata_props.push(StringStringEntryProto { key: OPSET_KEY.into(), value: "1".into() });
    let (out, _) = good(model(graph("a", vec![n], "b"), vec![]));
    assert!(out.node[0].metadata_props.is_empty());
}

#[test]
fn functions_call_functions() {
    let inner = function("Inner", "x", nodes(&["Exp x -> y"]), "y");
    // Defined out of order, and with nodes out of order.
    let outer = function("Outer", "p", nodes(&["Neg q -> r", "f.Inner p -> q"]), "r q");
    let g = graph("a", nodes(&["f.Outer a -> b c", "f.Outer b -> d"]), "c d");
    let (out, warnings) = good(model(g, vec![outer, inner]));
    let lines = text(&out.node);
    assert_eq!(lines.len(), 4);
    assert_eq!(&lines[..3], ["Exp a -> c", "Neg c -> b", "Exp b -> Outer -> d/q"]);
    assert!(!warnings.is_empty() && warnings.iter().all(|w| w.code == code::W_ORDER));
}

#[test]
fn overloads_are_told_apart() {
    let one = function("F", "x", nodes(&["Exp x -> y"]), "y");
    let mut two = function("F", "x", nodes(&["Log x -> y"]), "y");
    two.overload = "two".into();
    let mut call = node("f.F a -> b");
    call.overload = "two".into();
    let (out, _) =
        good(model(graph("a", vec![call, node("f.F b -> c"), node("g.F c -> d")], "d"), vec![one, two]));
    assert_eq!(text(&out.node), ["Log a -> b", "Exp b -> c", "F c -> d"]);
}

#[test]
fn outputs_that_are_inputs_or_twice_or_left_out() {
    let f = function("F", "x", nodes(&["Exp x -> y", "Log x -> z"]), "x y y z");
    let (out, _) =
        good(model(graph("a", nodes(&["f.F a -> p q r", "f.F a -> _ s"]), "p q r s"), vec![f.clone()]));
    let lines = text(&out.node);
    assert_eq!(lines[0], "Exp a -> q");
    assert!(lines.contains(&"Identity a -> p".into()) && lines.contains(&"Identity q -> r".into()));
    assert!(lines.contains(&"Exp a -> s".into()) && lines.len() == 6);
    let omitted = graph("", nodes(&["f.F _ -> p"]), "p");
    assert_eq!(codes(model(omitted, vec![f])), [code::FUNCTION_CALL]);
}

#[test]
fn attributes_of_calls_and_defaults() {
    let inner = |name: &str| with(node("Op x -> y"), reference("axis", name, ty::INT));
    let mut f = function("F", "x", vec![inner("k")], "y");
    f.attribute = vec!["k".into()];
    let mut d = function("D", "x", vec![inner("k")], "y");
    d.attribute_proto = vec![int("k", 7)];
    let calls = vec![
        with(node("f.F a -> b"), int("k", 3)),
        node("f.F b -> c"),
        node("f.D c -> d"),
        with(node("f.D d -> e"), int("k", 9)),
        with(node("f.D e -> g"), int("other", 1)),
    ];
    let (out, warnings) = good(model(graph("a", calls, "g"), vec![f, d]));
    let axes: Vec<Option<i64>> = out.node.iter().map(|n| n.attribute.first().and_then(|a| a.i)).collect();
    assert_eq!(axes, [Some(3), None, Some(7), Some(9), Some(7)]);
    assert!(
        out.node.iter().flat_map(|n| &n.attribute).all(|a| a.name == "axis" && a.ref_attr_name.is_empty())
    );
    assert_eq!(warnings.iter().map(|w| w.code).collect::<Vec<_>>(), [code::W_ATTRIBUTE]);
}

#[test]
fn attributes_pass_through_nested_calls() {
    let mut inner =
        function("Inner", "x", vec![with(node("Op x -> y"), reference("axis", "k", ty::INT))], "y");
    inner.attribute = vec!["k".into()];
    let call = with(node("f.Inner x -> y"), reference("k", "outer_k", ty::INT));
    let mut outer = function("Outer", "x", vec![call], "y");
    outer.attribute = vec!["outer_k".into()];
    let g = graph("a", vec![with(node("f.Outer a -> b"), int("outer_k", 5))], "b");
    assert_eq!(good(model(g, vec![inner.clone(), outer.clone()])).0.node[0].attribute[0].i, Some(5));
    let wrong = AttributeProto { r#type: ty::FLOAT, f: Some(1.0), i: None, ..int("outer_k", 0) };
    let g = graph("a", vec![with(node("f.Outer a -> b"), wrong)], "b");
    assert!(codes(model(g, vec![inner, outer])).contains(&code::ATTR_TYPE));
}

#[test]
fn a_graph_passed_to_a_function_keeps_its_captures() {
    let both = with(
        with(node("If c -> r"), reference("then_branch", "g", ty::GRAPH)),
        reference("else_branch", "g", ty::GRAPH),
    );
    let mut f = function("F", "c a", vec![node("Neg a -> t"), both, node("Add r t -> s")], "s");
    f.attribute = vec!["g".into()];
    // `a` and `t` here are the caller's.
    let passed = graph("", nodes(&["Mul a t -> u"]), "u");
    let g = graph("c a", vec![node("Exp a -> t"), with(node("f.F c t -> o"), body("g", passed))], "o");
    let (out, _) = good(model(g, vec![f]));
    assert_eq!(text(&out.node)[1], "Neg t -> F -> o/t");
    let graphs: Vec<&GraphProto> = out.node[2].attribute.iter().map(|a| a.g.as_deref().unwrap()).collect();
    let (then, other) = (text(&graphs[0].node), text(&graphs[1].node));
    assert!(then[0].starts_with("Mul a t -> ") && other[0].starts_with("Mul a t -> ") && then != other);
    assert_eq!(then[0], format!("Mul a t -> {}", graphs[0].output[0].name));
}

#[test]
fn calls_within_subgraphs_of_functions() {
    let leaf = function("Leaf", "x", nodes(&["Exp x -> y"]), "y");
    let branch = graph("", nodes(&["f.Leaf x -> r"]), "r");
    let f = function("F", "c x", vec![with(node("If c -> y"), body("then_branch", branch))], "y");
    let (out, _) = good(model(graph("c a", vec![named(node("f.F c a -> b"), "n")], "b"), vec![f, leaf]));
    let inner = out.node[0].attribute[0].g.as_deref().unwrap();
    assert_eq!((text(&inner.node), inner.output[0].name.as_str()), (vec!["Exp a -> n/r".to_owned()], "n/r"));
}

#[test]
fn function_circles() {
    let direct = function("A", "x", nodes(&["f.A x -> y"]), "y");
    assert_eq!(codes(model(graph("a", nodes(&["f.A a -> b"]), "b"), vec![direct])), [code::FUNCTION_CYCLE]);
    let branch = graph("", nodes(&["f.A x -> r"]), "r");
    let mutual = vec![
        function("A", "x", nodes(&["f.B x -> y"]), "y"),
        function("B", "x", vec![with(node("If x -> y"), body("then_branch", branch))], "y"),
    ];
    let errors = normalise(model(graph("a", vec![], "a"), mutual), &mut Vec::new()).unwrap_err();
    assert_eq!(errors[0].code, code::FUNCTION_CYCLE);
    assert!(errors[0].message.ends_with("`f::A` -> `f::B` -> `f::A`"), "{}", errors[0]);
}

#[test]
fn exponential_expansion_is_refused() {
    for nodes_in_leaf in [1, 0] {
        let twice = |i: u32| {
            let callee = format!("f.F{} x -> ", i - 1);
            function(&format!("F{i}"), "x", nodes(&[&format!("{callee} t"), &format!("{callee} y")]), "y")
        };
        let leaf = nodes(&["Exp x -> y"][..nodes_in_leaf]);
        let mut functions = vec![function("F0", "x", leaf, if nodes_in_leaf == 1 { "y" } else { "x" })];
        functions.extend((1..=40).map(twice));
        let start = std::time::Instant::now();
        let found = codes(model(graph("a", nodes(&["f.F40 a -> b"]), "b"), functions));
        assert_eq!(found, [code::FUNCTION_SIZE]);
        assert!(start.elapsed() < std::time::Duration::from_secs(2));
    }
}

#[test]
fn deep_chains_of_calls_are_refused_without_a_stack_overflow() {
    let chain = |depth: usize| {
        let call = |i: usize| function(&format!("F{i}"), "x", nodes(&[&format!("f.F{} x -> y", i - 1)]), "y");
        let mut functions = vec![function("F0", "x", nodes(&["Exp x -> y"]), "y")];
        functions.extend((1..depth).map(call));
        model(graph("a", nodes(&[&format!("f.F{} a -> b", depth - 1)]), "b"), functions)
    };
    assert_eq!(text(&good(chain(CALL_DEPTH)).0.node), ["Exp a -> b"]);
    assert_eq!(codes(chain(CALL_DEPTH + 1)), [code::FUNCTION_SIZE]);
    assert_eq!(codes(chain(9_000)), [code::FUNCTION_SIZE]);
}

#[test]
fn deep_subgraphs_are_refused() {
    // Each function adds one level of subgraph.
    let level = |i: usize| {
        let inner = graph("", nodes(&[&format!("f.F{} x -> r", i - 1)]), "r");
        function(&format!("F{i}"), "x", vec![with(node("If x -> y"), body("then_branch", inner))], "y")
    };
    let nested = |depth: usize| {
        let mut functions = vec![function("F0", "x", nodes(&["Exp x -> y"]), "y")];
        functions.extend((1..=depth).map(level));
        model(graph("a", nodes(&[&format!("f.F{depth} a -> b")]), "b"), functions)
    };
    assert_eq!(good(nested(GRAPH_DEPTH - 1)).0.node.len(), 1);
    assert_eq!(codes(nested(GRAPH_DEPTH)), [code::FUNCTION_SIZE]);
}

#[test]
fn contradictory_functions() {
    let f = || function("F", "x", nodes(&["Exp x -> y"]), "y");
    let g = || graph("a", nodes(&["f.F a -> b"]), "b");
    assert_eq!(codes(model(g(), vec![f(), f()])), [code::FUNCTION_DEFINITION]);
    let twice = FunctionProto { input: vec!["x".into(), "x".into()], ..f() };
    assert!(codes(model(g(), vec![twice])).contains(&code::FUNCTION_DEFINITION));
    let attrs = FunctionProto { attribute: vec!["k".into()], attribute_proto: vec![int("k", 1)], ..f() };
    assert_eq!(codes(model(g(), vec![attrs])), [code::FUNCTION_DEFINITION]);
    let no_output = FunctionProto { output: vec!["z".into()], ..f() };
    assert_eq!(codes(model(g(), vec![no_output])), [code::OUTPUT_MISSING]);
    let captures = FunctionProto { node: nodes(&["Add x a -> y"]), ..f() };
    assert_eq!(
        codes(model(g(), vec![captures])),
        [code::VALUE_MISSING],
        "functions see nothing of the caller"
    );
    let doubled = FunctionProto { node: nodes(&["Exp x -> y", "Log x -> y"]), ..f() };
    assert_eq!(codes(model(g(), vec![doubled])), [code::VALUE_TWICE]);
    let opsets = FunctionProto { opset_import: vec![opset("", 1), opset("", 2)], ..f() };
    assert_eq!(codes(model(g(), vec![opsets])), [code::OPSET]);
    let many = graph("a", nodes(&["f.F a a -> b", "f.F a -> c d"]), "b");
    assert_eq!(codes(model(many, vec![f()])), [code::FUNCTION_CALL, code::FUNCTION_CALL]);
}

#[test]
fn no_graph() {
    assert_eq!(codes(ModelProto::default()), [code::NO_GRAPH]);
}

fn noted(key: &str, value: &str) -> NodeProto {
    let entry = StringStringEntryProto { key: key.into(), value: value.into() };
    NodeProto { metadata_props: vec![entry], ..node("Relu a -> b") }
}

#[test]
fn exporter_scopes() {
    let scopes = "['', 'encoder', 'encoder.layer.0', 'linear_1']";
    assert_eq!(exporter_scope(&noted("pkg.torch.onnx.name_scopes", scopes)).unwrap(), "encoder.layer.0");
    let space = ": Model/encoder: models.Encoder/encoder.layer.0: Layer/linear: aten.linear.default";
    assert_eq!(exporter_scope(&noted("namespace", space)).unwrap(), "encoder.layer.0");
    for odd in ["", "[", "[]", "['']", "]["] {
        assert_eq!(exporter_scope(&noted("pkg.torch.onnx.name_scopes", odd)), None, "{odd}");
    }
    assert_eq!(exporter_scope(&noted("namespace", "x")), None);
    assert_eq!(exporter_scope(&node("Relu a -> b")), None);
}

#[test]
fn inlined_nodes_keep_the_callers_scope() {
    let f = function("F", "x", nodes(&["Exp x -> y"]), "y");
    let mut call = noted("namespace", ": Model/block: Block/f: F");
    (call.domain, call.op_type) = ("f".into(), "F".into());
    let (out, _) = good(model(graph("a", vec![call], "b"), vec![f]));
    assert_eq!(exporter_scope(&out.node[0]).unwrap(), "block");
}
