//! Files with damaged or spliced bytes.

use crate::isolate::{Bounds, isolated};
use crate::pipeline::{Tally, attempt};
use std::path::Path;

pub const ADDRESS_SPACE: u64 = 4 << 30;

/// A stream of numbers that belongs to a case.
pub struct Random(u64);

impl Random {
    pub fn new(case: u64) -> Self {
        let mut random = Self((case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The models of the vendored conformance cases, and the digits network.
pub fn corpus() -> Vec<Vec<u8>> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut paths: Vec<_> = std::fs::read_dir(testdata.join("conformance/core/node"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("model.onnx"))
        .filter(|path| path.exists())
        .collect();
    paths.sort();
    paths.push(testdata.join("digits/digits.onnx"));
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn damaged(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(corpus).clone();
    let len = bytes.len();
    match random.below(7) {
        0 => bytes.truncate(random.below(len)),
        1 | 2 => {
            for _ in 0..=random.below(4) {
                bytes[random.below(len)] ^= 1 << random.below(8);
            }
        }
        3 => bytes[random.below(len)] = *random.pick(&[0, 1, 2, 7, 8, 16, 0x7f, 0x80, 0xff]),
        4 => {
            let (at, run) = (random.below(len), random.below(24));
            let fill = *random.pick(&[0, 0x20, 0x7f, 0x80, 0xff]);
            bytes[at..len.min(at + run)].fill(fill);
        }
        5 => {
            let (at, other) = (random.below(len), random.pick(corpus));
            let from = random.below(other.len());
            let piece = other[from..other.len().min(from + random.below(64))].to_vec();
            bytes.splice(at..len.min(at + random.below(64)), piece);
        }
        _ => {
            // Head of one, tail of another.
            let other = random.pick(corpus);
            bytes.truncate(random.below(len));
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
    bytes
}

#[test]
fn damaged_bytes() {
    let (corpus, tally) = (corpus(), Tally::default());
    let case = |case: u64| attempt(&damaged(&corpus, &mut Random::new(case)), None, &tally);
    let bounds = Bounds { cases: 3400, address_space: ADDRESS_SPACE };
    isolated("models::damaged_bytes", &bounds, case, || {
        assert!(tally.refused.get() > 200 && tally.ran.get() > 200, "{tally:?}");
    });
}

#[test]
fn the_corpus_compiles() {
    let tally = Tally::default();
    corpus().iter().for_each(|bytes| attempt(bytes, None, &tally));
    assert!(tally.unreadable.get() == 0 && tally.ran.get() > 200, "{tally:?}");
}
