//! Same model, same bytes: whatever the folder, the process, the processors and the instruction sets of the compile.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const AUTOGLM: &str = env!("CARGO_BIN_EXE_autoglm");
/// What glibc is told so that its mathematical functions are those of a processor without wide or fused instructions.
const NO_VECTORS: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-AVX,-AVX2_Usable,-FMA_Usable,-AVX_Usable";

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

/// An empty folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("autoglm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compiles a model and gives the engine.
fn compile(mut command: Command, model: &Path, engine: &Path) -> Vec<u8> {
    command.arg("compile").arg(model).arg("-o").arg(engine).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(engine).unwrap()
}

/// Compiles the model in `files[0]`, beside the other files, in every way that must not matter.
fn assert_reproducible(name: &str, files: &[PathBuf]) {
    let (here, there) = (Folder::new(&format!("{name}-a")), Folder::new(&format!("{name}-other")));
    let elsewhere = there.0.join("deep/er");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let copy = |to: &Path| {
        for file in files {
            std::fs::copy(file, to.join(file.file_name().unwrap())).unwrap();
        }
        to.join(files[0].file_name().unwrap())
    };
    let model = copy(&here.0);
    let want = compile(Command::new(AUTOGLM), &model, &here.0.join("engine"));
    assert!(!want.is_empty());
    let equal = |what: &str, command: Command, model: &Path, engine: &Path| {
        let got = compile(command, model, engine);
        let first = want.iter().zip(&got).position(|(a, b)| a != b);
        assert!(
            want == got,
            "{name}, {what}: the first other byte is {first:?}, {} and {} bytes",
            want.len(),
            got.len()
        );
    };
    let mut from_its_folder = Command::new(AUTOGLM);
    from_its_folder.current_dir(&elsewhere);
    copy(&elsewhere);
    let relative = PathBuf::from(files[0].file_name().unwrap());
    equal("another folder", from_its_folder, &relative, &elsewhere.join("other-name.bin"));
    let mut one_processor = Command::new("taskset");
    one_processor.args(["--cpu-list", "0", AUTOGLM]);
    equal("one processor", one_processor, &model, &here.0.join("one"));
    let mut narrow = Command::new(AUTOGLM);
    narrow.env("AUTOGLM_ISA", "scalar").env("GLIBC_TUNABLES", NO_VECTORS);
    equal("without vector instructions", narrow, &model, &here.0.join("narrow"));
    let mut checked = Command::new(AUTOGLM);
    checked
        .args(["compile", "--check-reproducible", "--json"])
        .arg(&model)
        .arg("-o")
        .arg(here.0.join("checked"));
    let output = checked.stdin(Stdio::null()).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["reproducible"]["equal"], true, "{report}");
}

#[test]
fn the_digits_network() {
    assert_reproducible("digits", &[testdata("digits/digits.onnx")]);
}

#[test]
fn a_conformance_model_with_weights() {
    let case = "conformance/core/node/test_group_normalization_example_expanded/model.onnx";
    assert_reproducible("conformance", &[testdata(case)]);
}

#[test]
fn a_model_with_external_data() {
    let folder = Folder::new("external-source");
    let (model, data) = (folder.0.join("model.onnx"), folder.0.join("weights.bin"));
    std::fs::write(&model, external_model()).unwrap();
    let weights: Vec<u8> = (0..ROWS * COLS).flat_map(|i| (i as f32 / 7.0).sin().to_le_bytes()).collect();
    std::fs::write(&data, weights).unwrap();
    assert_reproducible("external", &[model, data]);
}

const ROWS: usize = 40;
const COLS: usize = 30;

/// `y = x * exp(w)` for a matrix product and a weight in `weights.bin`, and `z = exp(double(w))`, whose last bits depend
/// on the C library.
fn external_model() -> Vec<u8> {
    let shape = |dims: &[usize]| {
        let dim = |d: &usize| bytes(1, &int(1, *d));
        bytes(2, &dims.iter().flat_map(dim).collect::<Vec<u8>>())
    };
    let port = |name: &str, elem: usize, dims: &[usize]| {
        let tensor = [int(1, elem), shape(dims)].concat();
        [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
    };
    let entry = |key: &str, value: &str| bytes(13, &[text(1, key), text(2, value)].concat());
    let length = (ROWS * COLS * 4).to_string();
    let weight = [
        int(1, ROWS),
        int(1, COLS),
        int(2, 1),
        text(8, "w"),
        entry("location", "weights.bin"),
        entry("length", &length),
        int(14, 1),
    ];
    let node = |op: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
        bytes(1, &[inputs, text(2, output), text(4, op)].concat())
    };
    let double_attribute = [text(1, "to"), int(3, 11), int(20, 2)].concat();
    let graph = [
        node("Exp", &["w"], "e"),
        node("MatMul", &["x", "e"], "y"),
        bytes(1, &[text(1, "w"), text(2, "d"), text(4, "Cast"), bytes(5, &double_attribute)].concat()),
        node("Exp", &["d"], "z"),
        text(2, "g"),
        bytes(5, &weight.concat()),
        bytes(11, &port("x", 1, &[2, ROWS])),
        bytes(12, &port("y", 1, &[2, COLS])),
        bytes(12, &port("z", 11, &[ROWS, COLS])),
    ];
    [int(1, 8), bytes(7, &graph.concat()), bytes(8, &int(2, 17))].concat()
}

/// A protobuf field of variable length.
fn bytes(field: usize, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len()), value.to_vec()].concat()
}

fn text(field: usize, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

/// A protobuf integer field.
fn int(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
