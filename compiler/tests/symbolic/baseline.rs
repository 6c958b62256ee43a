//! `--no-opt`: the kernels and the layout of an optimised compile, one step an ONNX node, and nothing else.

use super::common::{Compiled, Model, check, compiled_with, int, ints, noise, sessions};
use autoglm_runtime::program::StepKind;

/// Steps by node: their kinds, `+` for one with an epilogue.
fn steps(c: &Compiled, node: &str) -> String {
    let kind = |kind: &StepKind| match kind {
        StepKind::MatMul { epilogue: Some(_), .. } | StepKind::Conv { epilogue: Some(_), .. } => {
            format!("{}+", kind.name())
        }
        _ => kind.name().to_string(),
    };
    let steps = c.engine.program().steps.iter().filter(|step| step.name == node);
    steps.map(|step| kind(&step.kind)).collect::<Vec<_>>().join(" ")
}

fn plain(model: Model) -> Compiled {
    let c = compiled_with(model.bytes(), &[], false);
    assert!(c.engine.program().separate);
    c
}

#[test]
fn a_convolution_keeps_its_kernel_and_loses_its_epilogue() {
    let c = plain(
        Model::new()
            .floats("x", "N,3,8,8")
            .weight("v", &[8, 3, 3, 3])
            .weight("w", &[8, 8, 3, 3])
            .weight("s", &[8])
            .numbers("var", &[0.5; 8])
            .node("a = Conv x v s", vec![ints("pads", &[1, 1, 1, 1])])
            .node("b = BatchNormalization a s s s var", vec![])
            .node("c = Relu b", vec![])
            .node("d = Conv c w", vec![ints("pads", &[1, 1, 1, 1])])
            .node("y = Add d c", vec![]),
    );
    // The input becomes channels-last with a border of zeros: two slabs and the copy.
    assert_eq!(steps(&c, "/Conv"), "Tiles Conv");
    // The normalisation folds to one factor and one term a channel.
    assert_eq!(steps(&c, "/BatchNormalization"), "Tile");
    // It writes to the middle of what the next convolution reads, whose border is all that is left to fill.
    assert_eq!(steps(&c, "/Relu"), "Tile");
    assert_eq!(steps(&c, "/Conv -> d"), "Tiles Conv");
    // The result of the model is channels-first again.
    assert_eq!(steps(&c, "/Add"), "Tile Tile");
    for batch in [0, 2] {
        check("convolution", &c.graph, &mut sessions(&c.engine), &[noise(&[batch, 3, 8, 8], 3)]);
    }
}

#[test]
fn what_one_node_became_is_one_step_and_no_two_nodes_share_one() {
    let c = plain(
        Model::at(20)
            .floats("x", "N,6")
            .weight("w", &[4, 6])
            .weight("s", &[4])
            .node("a = Gemm x w s", vec![int("transB", 1)])
            .node("b = Gelu a", vec![])
            .node("c = LayerNormalization b s s", vec![])
            .node("d = Neg c", vec![])
            .node("e = Neg d", vec![])
            .node("f = Transpose e", vec![ints("perm", &[1, 0])])
            .node("g = Softmax f", vec![int("axis", 0)])
            .node("h = Sub g g", vec![])
            .node("y = Gemm h w", vec![int("transA", 1)]),
    );
    for (node, kinds) in [
        ("/Gemm", "MatMul"),
        ("/Gelu", "Tile"),
        ("/LayerNormalization", "LayerNorm"),
        ("/Neg", "Tile"),
        ("/Neg -> e", "Tile"),
        ("/Transpose", "Tile"),
        // The kernel works along the last axis: there and back again.
        ("/Softmax", "Tile Softmax Tile"),
        ("/Sub", "Tile"),
        ("/Gemm -> y", "Tile MatMul"),
    ] {
        assert_eq!(steps(&c, node), kinds, "{node}");
    }
    for batch in [1, 5] {
        check("one node", &c.graph, &mut sessions(&c.engine), &[noise(&[batch, 6], 4)]);
    }
}
