//! Options of `run` and `bench` that say what the inputs hold, judged by the outputs.

use crate::program::{Folder, case, command, ok, stderr, testdata};
use autoglm::tensor::{Array, npy, npz, pb, to_f64};
use std::io::Write as _;
use std::process::Stdio;

/// The first output of `run`, or of `bench` as a worker.
fn output(command_name: &str, folder: &Folder, model: &str, name: &str, options: &[&str]) -> Array {
    let out = folder.path("out");
    if command_name == "run" {
        ok(&[&["run", model, "-o", &out], options].concat());
    } else {
        let line = [&["bench", model, "--worker", "--threads", "1"], options].concat();
        let mut worker = command(&line);
        worker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = worker.spawn().unwrap();
        write!(child.stdin.take().unwrap(), "1\nw {out}\nq\n").unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{line:?}: {}", stderr(&ended));
    }
    let file = std::fs::read(folder.path(&format!("out/{name}.npy"))).unwrap();
    npy::read(&mut file.as_slice(), None, usize::MAX).unwrap()
}

/// The pictures of the digits as one array, and the logits that ONNX Runtime gives for them.
fn digits() -> (Array, Vec<Vec<f64>>) {
    let file = std::fs::read(testdata("digits/images.npy")).unwrap();
    let images = npy::read(&mut file.as_slice(), None, usize::MAX).unwrap();
    let text = std::fs::read_to_string(testdata("digits/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = |case: &serde_json::Value| -> Vec<f64> {
        case["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    (images, expected["cases"].as_array().unwrap().iter().map(row).collect())
}

fn close(got: &Array, want: &[f64]) {
    let got = to_f64(got);
    assert_eq!(got.len(), want.len());
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-3, "{worst}");
}

pub(crate) fn files_and_fills(command: &str) {
    let folder = Folder::new(&format!("options-files-{command}"));
    let model = testdata("digits/digits.onnx");
    let (images, expected) = digits();
    let all = expected.concat();
    let npz = folder.write("f.npz", npz::write(&[("image", &images)]).unwrap());
    let pb = folder.write("f.pb", pb::write("image", &images));
    let raw = folder.write("f.bin", &images.bytes);
    let file = |path: &str| format!("image=@{path}");
    for spec in [file(&testdata("digits/images.npy")), file(&npz), format!("@{npz}"), file(&pb)] {
        close(&output(command, &folder, &model, "logits", &["-i", &spec]), &all);
    }
    let line = ["--input", &file(&raw), "-D", "batch=13"];
    close(&output(command, &folder, &model, "logits", &line), &all);
    let png = file(&testdata("digits/images/digit-7-a.png"));
    close(&output(command, &folder, &model, "logits", &["-i", &png]), &expected[8]);
    let fill =
        |spec: &str| to_f64(&output(command, &folder, &model, "logits", &["-i", spec, "--dim", "batch=2"]));
    let (zeros, same) = (fill("image=zeros"), fill("image=fill:0"));
    assert!(zeros == same && zeros.len() == 20 && zeros[..10] == zeros[10..]);
    assert!(fill("image=fill:0.5") != zeros && fill("image=ones") != fill("image=arange"));
    let (random, narrow) = (fill("image=rand"), fill("image=rand:0..0.001"));
    assert!(random[..10] != random[10..]);
    assert!(narrow.iter().zip(&zeros).all(|(a, b)| (a - b).abs() < 0.1));
}

pub(crate) fn folder(command: &str) {
    let folder = Folder::new(&format!("options-data-{command}"));
    let set = testdata("conformance/core/node/test_relu/test_data_set_0");
    let got = output(command, &folder, &case("test_relu"), "y", &["--data", &set]);
    let file = std::fs::read(format!("{set}/output_0.pb")).unwrap();
    assert_eq!(got, pb::read(&file).unwrap().1);
}

pub(crate) fn seed(command: &str) {
    let folder = Folder::new(&format!("options-seed-{command}"));
    let model = case("test_relu");
    let with = |seed: &str| output(command, &folder, &model, "y", &["-i", "x=rand:1..2", "--seed", seed]);
    assert!(with("0") == with("0") && with("0") != with("1"));
}

pub(crate) fn image(command: &str) {
    let folder = Folder::new(&format!("options-image-{command}"));
    let model = testdata("digits/digits.onnx");
    let png = format!("image=@{}", testdata("digits/images/digit-3-a.png"));
    let with = |options: &str| output(command, &folder, &model, "logits", &["-i", &png, "--image", options]);
    let expected = &digits().1[3];
    close(&with("scale=255"), expected);
    close(&with("scale=127.5,std=2"), expected);
    assert_ne!(with("mean=0.5"), with("scale=255"));
}
