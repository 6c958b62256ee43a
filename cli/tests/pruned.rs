//! Models that arrive with zeros in a pattern run without them, and give what they gave.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod program;

use autoglm::tensor::{npy, to_f64};
use autoglm_compiler::onnx::file;
use autoglm_compiler::onnx::limits::Limits;
use program::{Folder, ok, report, testdata};

/// Sets elements of the digits network's weights to zero: `drop` is asked for initializer, its extents and the index.
fn pruned(folder: &Folder, drop: impl Fn(&str, &[usize], usize) -> bool) -> String {
    let path = testdata("digits/digits.onnx");
    let model = file::open(path.as_ref(), &Limits::default()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for tensor in &model.model.graph.as_ref().unwrap().initializer {
        let (Some(raw), true) = (tensor.raw_data.as_ref(), tensor.dims.len() > 1) else { continue };
        let dims: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
        let at = bytes.windows(raw.len()).position(|window| window == &raw[..]).unwrap();
        for i in (0..raw.len() / 4).filter(|i| drop(&tensor.name, &dims, *i)) {
            bytes[at + 4 * i..at + 4 * i + 4].fill(0);
        }
    }
    folder.write("pruned.onnx", bytes)
}

/// Row and column of an element of a weight as the matrix of a product, and the rows of a run.
fn place(name: &str, dims: &[usize], i: usize) -> (usize, usize) {
    match dims {
        // [m,c,kh,kw]: rows are channels, at each tap.
        [_, c, kh, kw] => (i / (kh * kw) % c, i / (c * kh * kw)),
        // Gemm with transB keeps [n,k], MatMul [k,n].
        [_, k] if name.starts_with("fc1") || name.starts_with("logits") => (i % k, i / k),
        [_, n] => (i / n, i % n),
        _ => panic!("{name}: {dims:?}"),
    }
}

/// Results for a batch of pictures.
fn logits(engine: &str, folder: &Folder) -> Vec<f64> {
    let input = format!("image=@{}:image", testdata("digits/calib/003.npz"));
    let out = folder.path("out");
    ok(&["run", engine, "-i", &input, "-o", &out, "--threads", "2"]);
    let bytes = std::fs::read(format!("{out}/logits.npy")).unwrap();
    to_f64(&npy::read(&mut bytes.as_slice(), None, usize::MAX).unwrap())
}

/// Compiles with and without zeros: they must agree, and the former must be of this share of the latter's bytes at most.
fn assert_recognised(folder: &Folder, model: &str, pattern: &str, share: f64) {
    let (sparse, dense) = (folder.path("sparse.bin"), folder.path("dense.bin"));
    let checked = report(&["compile", model, "-o", &sparse, "--sparsity", "check"]);
    let zeros = checked["zeros"].as_array().unwrap();
    let large = zeros.iter().filter(|w| w["extents"][0].as_u64() > Some(16));
    let patterns: Vec<&str> = large.map(|w| w["pattern"].as_str().unwrap_or("none")).collect();
    assert!(patterns.len() >= 4 && patterns.iter().all(|p| *p == pattern), "{zeros:#?}");
    ok(&["compile", model, "-o", &dense, "--sparsity", "off"]);
    let bytes = |path: &str| std::fs::metadata(path).unwrap().len() as f64;
    assert!(bytes(&sparse) <= share * bytes(&dense), "{} of {}", bytes(&sparse), bytes(&dense));
    let (a, b) = (logits(&sparse, folder), logits(&dense, folder));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} {b}");
    }
    // Bit for bit under --strict, where a zero is a factor of infinities.
    let strict = folder.path("strict.bin");
    ok(&["compile", model, "-o", &strict, "--strict"]);
    assert!(bytes(&strict) > bytes(&sparse));
}

#[test]
fn two_of_four_in_each_column() {
    let folder = Folder::new("pruned-columns");
    let model = pruned(&folder, |name, dims, i| {
        let (row, column) = place(name, dims, i);
        let kept = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (1, 2)][(row / 4 * 5 + column * 7) % 6];
        row % 4 != kept.0 && row % 4 != kept.1
    });
    assert_recognised(&folder, &model, "2:4", 0.6);
}

#[test]
fn two_of_four_shared_by_panels() {
    let folder = Folder::new("pruned-panels");
    let model = pruned(&folder, |name, dims, i| {
        let (row, column) = place(name, dims, i);
        (row + row / 4 + column / 32) % 2 == 0
    });
    assert_recognised(&folder, &model, "2 of 4 rows a panel", 0.6);
}

#[test]
fn blocks_of_zeros() {
    let folder = Folder::new("pruned-blocks");
    let model = pruned(&folder, |name, dims, i| {
        let (row, column) = place(name, dims, i);
        (row / 8 + column / 32) % 2 == 0
    });
    assert_recognised(&folder, &model, "8 of 16 rows a panel", 0.6);
}

/// A number from 0 to 63 for each place, as a generator of random ones gives it (splitmix64).
fn noise(i: usize) -> u64 {
    let z = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ z >> 27) & 63
}

#[test]
fn zeros_anywhere() {
    let folder = Folder::new("pruned-anywhere");
    for (kept, share) in [(32, 0.75), (6, 0.45)] {
        let model = pruned(&folder, |_, _, i| noise(i) >= kept);
        assert_recognised(&folder, &model, "single elements", share);
    }
}

#[test]
fn few_zeros_stay() {
    let folder = Folder::new("pruned-none");
    let model = pruned(&folder, |_, _, i| noise(i) >= 50);
    let checked = report(&["compile", &model, "-o", &folder.path("e"), "--sparsity", "check"]);
    let zeros = checked["zeros"].as_array().unwrap();
    assert!(zeros.iter().all(|w| w["pattern"].is_null()), "{zeros:#?}");
    assert!(zeros.iter().all(|w| w["density"].as_f64() < Some(0.85)), "{zeros:#?}");
}
