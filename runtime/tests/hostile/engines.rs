//! Thousands of damaged engines, loaded and run with every buffer of the caller between guard pages.

use crate::common::isolate::{Bounds, isolated};
use crate::common::{Random, engine_bytes, rows_program, signature};
use crate::corpus;
use crate::guard::{Guarded, peak_of};
use crate::tokens::{Token, encode, mutate, tokens};
use autoglm_runtime::engine::{Engine, EngineWriter, format};
use autoglm_runtime::error::{EngineError, RunError};
use autoglm_runtime::program::{Program, ShapeOp};
use autoglm_runtime::session::{Session, SessionOptions};
use autoglm_runtime::tensor::{TensorMut, TensorRef};
use std::cell::Cell;

const MEMORY: u64 = 1 << 22;
const BOUNDS: Bounds = Bounds { cases: 1500, address_space: 2 << 30 };

#[derive(Default, Debug)]
struct Tally {
    refused: Cell<u64>,
    failed: Cell<u64>,
    ran: Cell<u64>,
}

/// Numbers for a case that differ from those of its neighbours.
fn random(case: u64) -> Random {
    let mut random = Random((case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..4 {
        random.next();
    }
    random
}

/// Loads an engine and runs it on inputs of the extents that it asks for, if those can be told.
fn attempt(bytes: &[u8], random: &mut Random, tally: &Tally) {
    let (result, peak) = peak_of(|| load_and_run(bytes, random));
    match result {
        Err(Failure::Load(error)) => {
            // Reading the message must be safe too.
            let _ = error.to_string();
            add(&tally.refused);
        }
        Err(Failure::Run(RunError::Panic(text))) => panic!("a worker panicked: {text}"),
        Err(Failure::Run(error)) => {
            let _ = error.to_string();
            add(&tally.failed);
        }
        Ok(()) => add(&tally.ran),
    }
    // What a byte decodes to, and a plan of it; then the arena with its scratch memory.
    let allowed = bytes.len() * 400 + 2 * MEMORY as usize + (1 << 20);
    assert!(peak <= allowed, "{peak} bytes for an engine of {}", bytes.len());
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

enum Failure {
    Load(EngineError),
    Run(RunError),
}

fn load_and_run(bytes: &[u8], random: &mut Random) -> Result<(), Failure> {
    let engine = Engine::from_bytes(bytes.into()).map_err(Failure::Load)?;
    let options = SessionOptions {
        threads: 1 + random.below(3),
        max_memory: MEMORY,
        max_tensor: MEMORY / 4,
        max_work: 1 << 22,
        ..SessionOptions::default()
    };
    let program = engine.program().clone();
    let mut session = Session::new(engine, options).map_err(Failure::Run)?;
    let at_end = random.below(2) == 0;
    let dims: Vec<Vec<usize>> = program.inputs.iter().map(|p| input_dims(&program, p.value)).collect();
    let elem = |value: u32| program.values[value as usize].elem;
    let mut memory: Vec<Guarded> = Vec::new();
    for (port, dims) in program.inputs.iter().zip(&dims) {
        let size = elem(port.value).size();
        let len = dims.iter().try_fold(size, |n, &d| n.checked_mul(d)).filter(|n| *n as u64 <= MEMORY);
        let mut guarded = Guarded::new(len.unwrap_or(0), at_end);
        for chunk in guarded.bytes().chunks_exact_mut(size) {
            // Small whole numbers: in range as indices, denormal as floats.
            let n = if random.below(40) == 0 { random.next() } else { random.below(5) as u64 };
            chunk.copy_from_slice(&n.to_le_bytes()[..size]);
        }
        memory.push(guarded);
    }
    let inputs: Vec<TensorRef<'_>> = program
        .inputs
        .iter()
        .zip(&dims)
        .zip(&mut memory)
        .map(|((port, dims), memory)| TensorRef { elem: elem(port.value), dims, bytes: memory.bytes() })
        .collect();
    let shapes = session.output_shapes(&inputs).map_err(Failure::Run)?.to_vec();
    let mut results = Vec::new();
    for (port, dims) in program.outputs.iter().zip(&shapes) {
        results.push(Guarded::new(elem(port.value).size() * dims.iter().product::<usize>(), at_end));
    }
    let mut outputs: Vec<TensorMut<'_>> = program
        .outputs
        .iter()
        .zip(&shapes)
        .zip(&mut results)
        .map(|((port, dims), memory)| TensorMut { elem: elem(port.value), dims, bytes: memory.bytes() })
        .collect();
    session.run(&inputs, &mut outputs).map_err(Failure::Run)
}

/// Extents that the program fixes; 3 where it takes any.
fn input_dims(program: &Program, value: u32) -> Vec<usize> {
    let extent = |reg: &u32| match program.shape.ops.get(*reg as usize) {
        Some(ShapeOp::Const(n)) => usize::try_from(*n).unwrap_or(0),
        _ => 3,
    };
    program.values[value as usize].dims.iter().map(extent).collect()
}

/// An engine with the weights of the corpus and the first program of `pick` that can be signed.
fn corpus_engines() -> Vec<(Program, Vec<u8>)> {
    let mut programs = Vec::new();
    engine_bytes(|writer| {
        programs = corpus::programs(writer);
        rows_program(writer)
    });
    programs.into_iter().map(|p| (p.clone(), signed(&p))).collect()
}

/// The program as an engine with the weights of the whole corpus.
fn signed(program: &Program) -> Vec<u8> {
    let mut writer = EngineWriter::in_memory().unwrap();
    corpus::programs(&mut writer);
    writer.finish(&signature(program), program).unwrap()
}

/// The engine with other bytes for its program, and all hashes right.
fn with_program(engine: &[u8], program: &[u8]) -> Vec<u8> {
    let entry = format::HEADER_LEN + 2 * format::ENTRY_LEN;
    let at = u64::from_le_bytes(engine[entry + 8..entry + 16].try_into().unwrap()) as usize;
    let mut out = [&engine[..at], program].concat();
    let len = out.len() as u64;
    out[16..24].copy_from_slice(&len.to_le_bytes());
    out[entry + 16..entry + 24].copy_from_slice(&(program.len() as u64).to_le_bytes());
    format::repair_hashes(&mut out);
    out
}

/// As [`with_program`], with a manifest that says what the program does where that can be told.
fn resigned(engine: &[u8], encoded: &[u8]) -> Vec<u8> {
    let bytes = with_program(engine, encoded);
    if let Err(EngineError::Manifest(_)) = Engine::from_bytes(bytes.as_slice().into())
        && let Ok(program) = postcard::from_bytes(encoded)
    {
        return signed(&program);
    }
    bytes
}

#[test]
fn the_corpus_runs() {
    let tally = Tally::default();
    for (_, bytes) in &corpus_engines() {
        attempt(bytes, &mut Random(9), &tally);
    }
    assert!(tally.refused.get() == 0 && tally.ran.get() >= 16, "{tally:?}");
}

/// An attacker's file: every field takes wild values, and all hashes are right.
#[test]
fn fields_with_wild_values() {
    let engines = corpus_engines();
    let decoded: Vec<Vec<Token>> = engines.iter().map(|(program, _)| tokens(program)).collect();
    let tally = Tally::default();
    let case = |case: u64| {
        let mut random = random(case);
        let which = random.below(engines.len());
        let mut bytes = Vec::new();
        // Most changes are refused at once; a few more tries get more cases to the planner and the kernels.
        for _ in 0..8 {
            let mut changed = decoded[which].clone();
            for _ in 0..=random.below(3) {
                mutate(&mut changed, &mut random);
            }
            bytes = resigned(&engines[which].1, &encode(&changed));
            if random.below(4) == 0 || Engine::from_bytes(bytes.as_slice().into()).is_ok() {
                break;
            }
        }
        attempt(&bytes, &mut random, &tally);
    };
    let bounds = Bounds { cases: 4000, ..BOUNDS };
    isolated("engines::fields_with_wild_values", &bounds, case, || {
        assert!(tally.failed.get() > 1000 && tally.ran.get() > 400, "{tally:?}");
    });
}

/// Bits of the control sections flip and the hashes are repaired.
#[test]
fn flipped_bits_with_right_hashes() {
    let engines = corpus_engines();
    let tally = Tally::default();
    let case = |case: u64| {
        let mut random = random(case);
        let mut bytes = engines[random.below(engines.len())].1.clone();
        for _ in 0..=random.below(4) {
            let at = control_byte(&bytes, &mut random);
            bytes[at] ^= 1 << random.below(8);
        }
        format::repair_hashes(&mut bytes);
        attempt(&bytes, &mut random, &tally);
    };
    isolated("engines::flipped_bits_with_right_hashes", &BOUNDS, case, || {
        assert!(tally.failed.get() > 50 && tally.ran.get() > 50, "{tally:?}");
    });
}

/// A byte of the header, the table, the manifest or the program.
fn control_byte(bytes: &[u8], random: &mut Random) -> usize {
    let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let section = |i: usize| {
        let entry = format::HEADER_LEN + i * format::ENTRY_LEN;
        field(entry + 8)..field(entry + 8) + field(entry + 16)
    };
    let head = 0..format::HEADER_LEN + 3 * format::ENTRY_LEN;
    let ranges = [head, section(1), section(2), section(2), section(2)];
    let range = ranges[random.below(ranges.len())].clone();
    (range.start + random.below(range.len().max(1))).min(bytes.len() - 1)
}

/// Damage that nobody repaired is noticed before anything is used, and is called damage.
#[test]
fn damage_of_control_sections_is_an_integrity_error() {
    let engines = corpus_engines();
    let case = |case: u64| {
        let mut random = random(case);
        let bytes = &engines[random.below(engines.len())].1;
        let mut damaged = bytes.clone();
        match case % 4 {
            // Of an empty file nobody can tell what it was.
            0 => damaged.truncate(1 + random.below(bytes.len() - 1)),
            1 => {
                let (at, len) = (control_byte(bytes, &mut random), random.below(64));
                let end = (at + len).min(bytes.len());
                damaged[at..end].fill(random.next() as u8);
            }
            2 => {
                let at = control_byte(bytes, &mut random);
                damaged[at] ^= 1 << random.below(8);
            }
            _ => damaged.extend_from_slice(&bytes[..random.below(64) + 1]),
        }
        if damaged == *bytes {
            return;
        }
        let (result, peak) = peak_of(|| Engine::from_bytes(damaged.as_slice().into()));
        let error = result.expect_err("the damage went unnoticed");
        // Where magic or version are gone together with other bytes, nothing tells damage from another kind of file.
        let recognisable = damaged.get(..12) == bytes.get(..12) || case % 4 != 1;
        assert!(!recognisable || is_integrity(&error), "{error:?}");
        assert!(peak < bytes.len() * 8 + (1 << 20), "{peak} bytes");
    };
    isolated("engines::damage_of_control_sections_is_an_integrity_error", &BOUNDS, case, || ());
}

fn is_integrity(error: &EngineError) -> bool {
    matches!(error, EngineError::Hash { .. } | EngineError::Length { .. } | EngineError::Padding { .. })
}
