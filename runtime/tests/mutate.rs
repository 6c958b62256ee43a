//! Hostile engines: whatever is done to the bytes, loading and running end in a result or an error.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use autoglm_runtime::engine::{Engine, format};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::HostTensor;
use common::Random;

#[derive(Default, Debug)]
struct Tally {
    refused: usize,
    failed: usize,
    ran: usize,
}

/// Loads the bytes and runs what loads, on the inputs that the unharmed engine takes.
fn attempt(bytes: &[u8], tally: &mut Tally) {
    let Ok(engine) = Engine::from_bytes(bytes.into()) else {
        tally.refused += 1;
        return;
    };
    let options =
        SessionOptions { threads: 1, max_memory: 1 << 22, max_tensor: 1 << 22, ..SessionOptions::default() };
    let mut session = Session::new(engine, options).unwrap();
    let inputs = [
        HostTensor::from_f32(&[3, 4], &[1.0; 12]).unwrap(),
        HostTensor::from_i64(&[2], &[1, -1]).unwrap(),
        HostTensor::from_i64(&[1], &[9]).unwrap(),
    ];
    let inputs: Vec<_> = inputs.iter().map(HostTensor::as_ref).collect();
    match session.run_alloc(&inputs) {
        Ok(_) => tally.ran += 1,
        Err(_) => tally.failed += 1,
    }
}

/// A byte that means something: padding between the sections is most of a small file.
fn meaningful(bytes: &[u8], random: &mut Random) -> usize {
    loop {
        let at = random.below(bytes.len());
        let near = &bytes[at.saturating_sub(4)..(at + 5).min(bytes.len())];
        if near.iter().any(|&b| b != 0) || random.below(50) == 0 {
            return at;
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for bytes in [common::engine_bytes(common::rows_program), common::engine_bytes(common::all_kinds_program)]
    {
        for len in 0..bytes.len() {
            assert!(Engine::from_bytes(bytes[..len].into()).is_err(), "{len} bytes of {}", bytes.len());
        }
    }
}

#[test]
fn truncations_that_hide_themselves_do_no_harm() {
    let bytes = common::engine_bytes(common::rows_program);
    let table = 64 + 3 * 64;
    let mut tally = Tally::default();
    for len in table..bytes.len() {
        let mut cut = bytes[..len].to_vec();
        cut[16..24].copy_from_slice(&(len as u64).to_le_bytes());
        for entry in (64..table).step_by(64) {
            let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let left = (len as u64).saturating_sub(field(entry + 8)).min(field(entry + 16));
            cut[entry + 16..entry + 24].copy_from_slice(&left.to_le_bytes());
        }
        format::repair_hashes(&mut cut);
        attempt(&cut, &mut tally);
    }
    assert_eq!(tally.ran, 0, "{tally:?}");
}

#[test]
fn bit_flips_are_noticed() {
    let bytes = common::engine_bytes(common::rows_program);
    let weights = format::PAGE as usize..format::PAGE as usize + 16;
    let mut random = Random(1);
    for _ in 0..5000 {
        let (at, bit) = (meaningful(&bytes, &mut random), random.below(8));
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        match Engine::from_bytes(flipped.into()) {
            Ok(engine) => {
                assert!(weights.contains(&at), "bit {bit} of byte {at} went unnoticed");
                assert!(engine.verify_weights().is_err());
            }
            Err(_) => assert!(!weights.contains(&at)),
        }
    }
}

#[test]
fn bit_flips_with_repaired_hashes_do_no_harm() {
    let mut random = Random(2);
    for bytes in [common::engine_bytes(common::rows_program), common::engine_bytes(common::all_kinds_program)]
    {
        let mut tally = Tally::default();
        for _ in 0..5000 {
            let mut flipped = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = meaningful(&bytes, &mut random);
                flipped[at] ^= 1 << random.below(8);
            }
            format::repair_hashes(&mut flipped);
            attempt(&flipped, &mut tally);
        }
        assert!(tally.refused > 1000 && tally.failed > 20, "{tally:?}");
    }
}

/// Flips are rarely in the program alone; here every byte of it takes interesting values.
#[test]
fn edited_programs_do_no_harm() {
    let bytes = common::engine_bytes(common::rows_program);
    let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (start, len) = (field(192 + 8), field(192 + 16));
    let mut tally = Tally::default();
    for at in start..start + len {
        for byte in (0..=12).chain([0x3f, 0x40, 0x7f, 0x80, 0xff]) {
            let mut edited = bytes.clone();
            edited[at] = byte;
            format::repair_hashes(&mut edited);
            attempt(&edited, &mut tally);
        }
    }
    assert!(tally.refused > 100 && tally.failed > 20 && tally.ran > 20, "{tally:?}");
}
