//! The grammar of the command line, as tables of what is accepted and what is not.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm::backend::EGraphFormat;
use autoglm::spec::Emit;
use autoglm::spec::*;
use std::time::Duration;

fn one(text: &str) -> (String, Source) {
    match parse_feed(text) {
        Ok(Feed::One { name, source }) => (name, source),
        other => panic!("{text}: {other:?}"),
    }
}

fn file(path: &str, kind: FileKind, member: Option<&str>) -> Source {
    Source::File(FileRef { path: path.into(), kind, member: member.map(str::to_string) })
}

#[test]
fn feeds() {
    let table = [
        ("x=@a.npy", "x", file("a.npy", FileKind::Npy, None)),
        ("x=@d/a.NPZ", "x", file("d/a.NPZ", FileKind::Npz, None)),
        ("x=@a.npz:y", "x", file("a.npz", FileKind::Npz, Some("y"))),
        ("x=@a.npz:m:0", "x", file("a.npz", FileKind::Npz, Some("m:0"))),
        ("x=@a.pb", "x", file("a.pb", FileKind::Pb, None)),
        ("x=@cat.png", "x", file("cat.png", FileKind::Png, None)),
        ("x=@a.bin", "x", file("a.bin", FileKind::Bin, None)),
        ("serving_default_x:0=zeros", "serving_default_x:0", Source::Fill(Fill::Value(Number::Int(0)))),
        ("/model/a=b=ones", "/model/a=b", Source::Fill(Fill::Value(Number::Int(1)))),
        ("x=@dir=1/a.npy", "x", file("dir=1/a.npy", FileKind::Npy, None)),
        ("x=arange", "x", Source::Fill(Fill::Arange)),
        ("x=rand", "x", Source::Fill(Fill::Rand(None))),
        ("x=rand:-1..1.5", "x", Source::Fill(Fill::Rand(Some((-1.0, 1.5))))),
        ("x=fill:-3", "x", Source::Fill(Fill::Value(Number::Int(-3)))),
        ("x=fill:2.5e-1", "x", Source::Fill(Fill::Value(Number::Float(0.25)))),
        ("x=fill:true", "x", Source::Fill(Fill::Value(Number::Int(1)))),
        ("x=fill:18446744073709551615", "x", Source::Fill(Fill::Value(Number::Int(u64::MAX.into())))),
    ];
    for (text, name, source) in table {
        assert_eq!(one(text), (name.to_string(), source), "{text}");
    }
    assert_eq!(parse_feed("@a=b.npz"), Ok(Feed::Bundle("a=b.npz".into())));
}

#[test]
fn feeds_that_are_refused() {
    for (text, part) in [
        ("x", "NAME=SPEC"),
        ("", "NAME=SPEC"),
        ("@a.npy", "NAME=SPEC"),
        ("=zeros", "the name is empty"),
        ("x=", "neither"),
        ("x=@a", "must end in"),
        ("x=@.npy", "must end in"),
        ("x=@a.npz:", "must end in"),
        ("x=rand:1..1", "LO below HI"),
        ("x=rand:0..inf", "LO below HI"),
        ("x=rand:5", "LO below HI"),
        ("x=fill", "needs a value"),
        ("x=fill:abc", "not a number"),
        ("x=zero", "neither"),
        ("x=zeros:1", "neither"),
    ] {
        let error = parse_feed(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn bounds() {
    let bound = |name: &str, min, max| Ok(Binding { name: name.to_string(), min, max });
    assert_eq!(parse_bound("batch=4"), bound("batch", 4, 4));
    assert_eq!(parse_bound("seq=1..512"), bound("seq", 1, 512));
    assert_eq!(parse_bound("a=b=0"), bound("a=b", 0, 0));
    assert_eq!(parse_binding("n=3"), Ok(("n".to_string(), 3)));
    for bad in [
        "batch",
        "batch=",
        "=3",
        "b=-1",
        "b=+1",
        "b=5..4",
        "b=..4",
        "b=1..",
        "b=9223372036854775808",
        "b=1.5",
    ] {
        assert!(parse_bound(bad).is_err(), "{bad}");
        assert!(parse_binding(bad).is_err(), "{bad}");
    }
    assert!(parse_binding("n=1..2").is_err());
}

#[test]
fn limits_and_durations() {
    for (text, value) in
        [("k=5", 5), ("k=2_000", 2000), ("k=3K", 3000), ("k=64MiB", 64 << 20), ("k=1GiB", 1 << 30)]
    {
        assert_eq!(parse_limit(text), Ok(Limit { key: "k".to_string(), value }), "{text}");
    }
    for bad in
        ["k", "k=", "k=x", "k=1X", "k=99999999999999999999", "k=18446744073709551615K", "k=-1", "k=MiB"]
    {
        assert!(parse_limit(bad).is_err(), "{bad}");
    }
    for (text, ns) in [
        ("10s", 10_000_000_000),
        ("10", 10_000_000_000),
        ("250ms", 250_000_000),
        ("80us", 80_000),
        ("5ns", 5),
        ("1.5m", 90_000_000_000),
        ("2h", 7_200_000_000_000),
        ("0", 0),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
    }
    for bad in ["", "s", "-1s", "1x", "nan", "inf", "1e300", "1 s"] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
    assert_eq!(parse_emit("ir=lower"), Ok(Emit::Ir("lower".to_string())));
    assert_eq!(parse_emit("egraph=dot"), Ok(Emit::EGraph(EGraphFormat::Dot)));
    assert!(parse_emit("egraph=svg").is_err());
    assert!(parse_emit("ir=").is_err() && parse_emit("dot").is_err());
    assert_eq!(parse_percentiles("99.9"), Ok(99.9));
    assert!(parse_percentiles("101").is_err() && parse_percentiles("nan").is_err());
}

#[test]
fn picture_options() {
    let default = ImageOptions::default();
    assert_eq!(parse_image("scale=1"), Ok(ImageOptions { scale: 1.0, ..default.clone() }));
    assert_eq!(
        parse_image("mean=0.5,0.25,0.125,std=2,layout=nhwc"),
        Ok(ImageOptions {
            mean: vec![0.5, 0.25, 0.125],
            std: vec![2.0],
            layout: Layout::Nhwc,
            ..default.clone()
        })
    );
    assert_eq!(parse_image("imagenet").map(|o| o.mean), Ok(vec![0.485, 0.456, 0.406]));
    for bad in ["", "scale=0", "std=1,0", "mean=a", "layout=hw", "scale=1,2", "x=1", "imagenet=1", "mean=nan"]
    {
        assert!(parse_image(bad).is_err(), "{bad}");
    }
}

#[test]
fn suggestions() {
    for (a, b, d) in [
        ("", "", 0),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("ab", "ba", 1),
        ("é", "e", 1),
        ("same", "same", 0),
    ] {
        assert_eq!(edit_distance(a, b), d, "{a} {b}");
        assert_eq!(edit_distance(b, a), d, "{b} {a}");
    }
    let known = ["input_ids", "attention_mask"];
    assert_eq!(nearest("inptu_ids", known), Some("input_ids"));
    assert_eq!(nearest("INPUT_IDS", known), Some("input_ids"));
    assert_eq!(nearest("position", known), None);
    assert_eq!(
        unknown_name("input", "inputids", &known).help.as_deref(),
        Some("did you mean \"input_ids\"?")
    );
    let far = unknown_name("input", "zz", &known);
    assert_eq!(far.help.as_deref(), Some("known: input_ids, attention_mask"));
    assert_eq!(far.exit, autoglm::error::Exit::Usage);
    assert_eq!(unknown_name("input", "x", &[]).help.as_deref(), Some("there is no input"));
}
