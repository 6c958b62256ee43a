//! Hostile files of the command line: tensors, pictures and textual IR. Reading them ends in a result or an error.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(unreachable_pub, reason = "modules of a test")]

#[path = "../../runtime/tests/common/isolate.rs"]
mod isolate;

use autoglm::spec::ImageOptions;
use autoglm::tensor::{npy, npz, pb, png};
use autoglm_ir::budget::FoldLimits;
use autoglm_passes as passes;
use autoglm_runtime::elem::ElemType;
use isolate::{Bounds, isolated};
use std::io::Cursor;
use std::path::{Path, PathBuf};

const ADDRESS_SPACE: u64 = 4 << 30;

/// A stream of numbers that belongs to a case.
struct Random(u64);

impl Random {
    fn new(case: u64) -> Self {
        let mut random = Self((case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Files under a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|e| path.extension().is_some_and(|x| x == *e)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn damaged(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let len = bytes.len();
    match random.below(5) {
        0 => bytes.truncate(random.below(len)),
        1 => {
            for _ in 0..=random.below(4) {
                bytes[random.below(len)] ^= 1 << random.below(8);
            }
        }
        2 => {
            let (at, fill) = (random.below(len), [0, b'9', 0x7f, 0x80, 0xff][random.below(5)]);
            bytes[at..len.min(at + random.below(12))].fill(fill);
        }
        3 => {
            let (at, from) = (random.below(len), random.below(other.len()));
            let piece = other[from..other.len().min(from + random.below(32))].to_vec();
            bytes.splice(at..len.min(at + random.below(32)), piece);
        }
        _ => {
            bytes.truncate(random.below(len));
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
}

/// The checksums of a picture's chunks are made right again, or nothing behind them is reached.
fn repair_png(file: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = file.get(at..at + 4) {
        let len = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(body) = file.get(at + 4..(at + 8).saturating_add(len)) else { return };
        let crc = body.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
        });
        let Some(slot) = file.get_mut(at + 8 + len..at + 12 + len) else { return };
        slot.copy_from_slice(&(!crc).to_be_bytes());
        at += 12 + len;
    }
}

fn read(kind: &str, bytes: &[u8], random: &mut Random) -> bool {
    match kind {
        "npy" => {
            let expected =
                [None, Some(ElemType::F32), Some(ElemType::I4), Some(ElemType::F8E5M2)][random.below(4)];
            npy::read(&mut Cursor::new(bytes), expected, 1 << 20).is_ok()
        }
        "npz" => npz::Npz::open(Cursor::new(bytes)).is_ok_and(|mut archive| {
            let names = archive.names().to_vec();
            names.iter().filter(|name| archive.read(name, None).is_ok()).count() > 0
        }),
        "pb" => pb::read(bytes).is_ok(),
        _ => {
            let elem = [ElemType::F32, ElemType::U8][random.below(2)];
            png::read(bytes, elem, &[None; 4], &ImageOptions::default()).is_ok()
        }
    }
}

#[test]
fn tensor_files() {
    let kinds = ["npy", "npz", "pb", "png"];
    let files: Vec<(String, Vec<u8>)> = files("tests/fixtures", &kinds)
        .iter()
        .map(|path| (path.extension().unwrap().to_str().unwrap().into(), std::fs::read(path).unwrap()))
        .collect();
    let case = |case: u64| {
        let mut random = Random::new(case);
        let of_kind: Vec<_> = files.iter().filter(|(kind, _)| *kind == kinds[case as usize % 4]).collect();
        let (kind, bytes) = of_kind[random.below(of_kind.len())];
        let other = &of_kind[random.below(of_kind.len())].1;
        let mut bytes = bytes.clone();
        damaged(&mut bytes, other, &mut random);
        if kind == "png" && random.below(4) > 0 {
            repair_png(&mut bytes);
        }
        read(kind, &bytes, &mut random);
    };
    isolated("tensor_files", &Bounds { cases: 2000, address_space: ADDRESS_SPACE }, case, || ());
}

/// What `autoglm opt` does with a text.
fn opt(text: &str) {
    let Ok(graphs) = autoglm_ir::text::parse_all(text, &autoglm_ir::text::Pool::default()) else { return };
    let options = passes::Options {
        fold: FoldLimits { bytes: 1 << 20, total_bytes: 1 << 22, ..FoldLimits::default() },
        ..passes::Options::default()
    };
    for mut graph in graphs {
        let printed = autoglm_ir::text::print(&graph);
        assert!(autoglm_ir::text::parse(&printed).is_ok(), "what is printed cannot be parsed:\n{printed}");
        for pass in passes::all() {
            match passes::run(pass, &graph, &options) {
                Ok(next) => graph = next,
                Err(_) => break,
            }
        }
    }
}

#[test]
fn textual_ir() {
    let texts: Vec<String> = files("../testdata/filetests", &["agir"])
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(!texts.is_empty());
    let deep = |open: &str, close: &str| {
        format!("graph @g(%x: f32[{}n{}]) {{\n}}\n", open.repeat(50_000), close.repeat(50_000))
    };
    let crafted = [
        deep("(", ")"),
        deep("max(mod(n, 3), ", ")"),
        deep("-", ""),
        deep("n*", ""),
        deep("(n+m)*", ""),
        deep("n+", ""),
        "graph @g(".repeat(50_000),
        "[".repeat(100_000),
        "\"".repeat(100_001),
        "%".repeat(100_000),
    ];
    let case = |case: u64| {
        if let Some(text) = crafted.get(case as usize) {
            return opt(text);
        }
        let mut random = Random::new(case);
        let mut bytes = texts[random.below(texts.len())].clone().into_bytes();
        let other = texts[random.below(texts.len())].as_bytes();
        for _ in 0..=random.below(2) {
            if !bytes.is_empty() {
                damaged(&mut bytes, other, &mut random);
            }
        }
        opt(&String::from_utf8_lossy(&bytes));
    };
    isolated("textual_ir", &Bounds { cases: 1500, address_space: ADDRESS_SPACE }, case, || ());
}
