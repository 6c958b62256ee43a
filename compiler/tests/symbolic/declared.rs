//! Declared shapes that are not what the model computes: a warning at compile time, a guard where the inputs decide.

use super::common::{Model, check, compiled, noise, run, session, sessions};

fn product(declared: &str) -> Model {
    let model = Model::new().floats("x", "N,3").weight("w", &[3, 4]).node("y = MatMul x w", vec![]);
    model.output("y", Some(declared))
}

#[test]
fn an_extent_that_cannot_be_is_ignored_with_a_warning() {
    for declared in ["N,5", "N", "N,4,1"] {
        let c = compiled(product(declared).bytes(), &[]);
        assert!(
            c.warnings.len() == 1 && c.warnings[0].starts_with("warning[W0160]: output `y`"),
            "{:?}",
            c.warnings
        );
        let y = check(declared, &c.graph, &mut sessions(&c.engine), &[noise(&[2, 3], 1)]);
        assert_eq!(y[0].shape, [2, 4]);
    }
    let c = compiled(product("7,4").bytes(), &[("N", 1, 6)]);
    assert!(c.warnings[0].starts_with("warning[W0160]"), "{:?}", c.warnings);
}

#[test]
fn an_extent_that_the_input_decides_is_guarded() {
    let c = compiled(product("2,4").bytes(), &[]);
    let want = "warning[W0162]: output `y` is declared with extent 2 on axis 0, which is N";
    assert!(c.warnings.len() == 1 && c.warnings[0].starts_with(want), "{:?}", c.warnings);
    check("as declared", &c.graph, &mut sessions(&c.engine), &[noise(&[2, 3], 1)]);
    let error = run(&mut session(&c.engine, 1, None), &[noise(&[5, 3], 1)]).unwrap_err();
    assert_eq!(error.code(), "E0604");
    let want = "output \"y\": extent of axis 0 is declared as 2 and is N (5 vs 2), where N is 5 (axis 0 of input \"x\")";
    assert_eq!(error.to_string(), want);
}

#[test]
fn what_is_right_needs_no_warning() {
    for declared in ["N,4", "rows,4", "N,columns"] {
        assert_eq!(compiled(product(declared).bytes(), &[]).warnings, Vec::<String>::new(), "{declared}");
    }
    assert_eq!(compiled(product("2,4").bytes(), &[("N", 2, 2)]).warnings, Vec::<String>::new());
}

/// What an edit of the batch leaves behind inside the graph binds nobody, and is reported once.
#[test]
fn intermediate_declarations_are_only_compared() {
    let model = |first, second| {
        let model = Model::new().floats("x", "N,3").weight("w", &[3, 4]);
        let model = model.node("a = MatMul x w", vec![]).node("b = Relu a", vec![]).node("y = Neg b", vec![]);
        model.declare("a", first).declare("b", second).bytes()
    };
    let c = compiled(model("1,4", "1,4"), &[]);
    assert_eq!(c.warnings, Vec::<String>::new());
    check("another batch", &c.graph, &mut sessions(&c.engine), &[noise(&[5, 3], 1)]);
    let c = compiled(model("N,5", "N"), &[]);
    let text = c.warnings.join("\n");
    assert!(c.warnings.len() == 1 && text.contains("W0160") && text.contains("`a`"), "{text}");
    assert!(text.contains("1 other"), "{text}");
    check("wrong", &c.graph, &mut sessions(&c.engine), &[noise(&[5, 3], 1)]);
}
