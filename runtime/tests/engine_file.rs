//! Writing and reading engine files.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use autoglm_runtime::engine::format::{self, PAGE};
use autoglm_runtime::engine::{Engine, EngineWriter, Mode};
use autoglm_runtime::program::{Program, Storage};
use std::path::PathBuf;

fn fresh_dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn names(dir: &PathBuf) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_kind_of_step_round_trips_through_file_map_and_memory() {
    let dir = fresh_dir("round_trip");
    let path = dir.join("engine.bin");
    let mut writer = EngineWriter::create(&path).unwrap();
    let program = common::all_kinds_program(&mut writer);
    let manifest = common::signature(&program);
    writer.finish(&manifest, &program).unwrap();
    assert_eq!(names(&dir), ["engine.bin"]);

    let memory = common::engine_bytes(common::all_kinds_program);
    assert_eq!(std::fs::read(&path).unwrap(), memory, "sinks write the same bytes");
    for engine in [
        Engine::open(&path).unwrap(),
        Engine::open_with(&path, Mode::Read).unwrap(),
        common::engine(memory.clone()),
    ] {
        assert_eq!(**engine.program(), program);
        assert_eq!(*engine.manifest(), manifest);
        assert_eq!(engine.weights(), [1; 64]);
        assert_eq!(engine.weights().as_ptr().addr() % 64, 0);
        engine.verify_weights().unwrap();
    }
}

#[test]
fn layout_is_as_documented() {
    let bytes = common::engine_bytes(common::rows_program);
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(&bytes[..8], b"\x89AGLM\r\n\x1a");
    assert_eq!((u32_at(8), u32_at(12), u64_at(16)), (3, 3, bytes.len() as u64));
    let mut zeroed = bytes[..64 + 3 * 64].to_vec();
    zeroed[32..64].fill(0);
    assert_eq!(bytes[32..64], *blake3::hash(&zeroed).as_bytes());
    let mut end = 256;
    for (i, kind) in [1, 2, 3].into_iter().enumerate() {
        let entry = 64 + 64 * i;
        let (offset, len) = (u64_at(entry + 8), u64_at(entry + 16));
        assert_eq!(u32_at(entry), kind);
        assert_eq!(offset, u64::next_multiple_of(end, PAGE));
        assert!(bytes[end as usize..offset as usize].iter().all(|&b| b == 0));
        end = offset + len;
        let hash = blake3::hash(&bytes[offset as usize..end as usize]);
        assert_eq!(bytes[entry + 32..entry + 64], *hash.as_bytes());
    }
    assert_eq!(end, bytes.len() as u64);
}

#[test]
fn weights_are_aligned_and_stored_once() {
    let mut writer = EngineWriter::in_memory().unwrap();
    assert_eq!(writer.add_weight(&[1; 100]).unwrap(), (0, 100));
    assert_eq!(writer.add_weight(&[2; 3]).unwrap(), (128, 3));
    assert_eq!(writer.add_weight(&[1; 100]).unwrap(), (0, 100));
    assert_eq!(writer.add_weight(&[3; 64]).unwrap(), (192, 64));
    let program = Program::default();
    let bytes = writer.finish(&common::signature(&program), &program).unwrap();
    let engine = common::engine(bytes);
    assert_eq!(engine.weights().len(), 256);
    assert_eq!(engine.weights()[100..128], [0; 28]);
    assert_eq!(engine.weights()[192..], [3; 64]);
}

#[test]
fn an_unfinished_writer_leaves_nothing_and_keeps_the_old_file() {
    let dir = fresh_dir("unfinished");
    let path = dir.join("engine.bin");
    std::fs::write(&path, "old").unwrap();
    let mut writer = EngineWriter::create(&path).unwrap();
    let mut other = EngineWriter::create(&path).unwrap();
    writer.add_weight(&[1; 10_000]).unwrap();
    other.add_weight(&[2; 10_000]).unwrap();
    assert_eq!(names(&dir).len(), 3);
    drop(writer);
    drop(other);
    assert_eq!(names(&dir), ["engine.bin"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

#[test]
fn damaged_weights_load_but_do_not_verify() {
    let mut bytes = common::engine_bytes(common::rows_program);
    bytes[PAGE as usize] ^= 1;
    let engine = common::engine(bytes);
    assert_eq!(engine.verify_weights().unwrap_err().code(), "E0506");
}

fn load_error(bytes: Vec<u8>) -> (&'static str, String) {
    let error = Engine::from_bytes(bytes.into()).unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn other_files_are_named_for_what_they_are_not() {
    assert_eq!(load_error(b"PK\x03\x04 something else".to_vec()).0, "E0502");
    assert_eq!(load_error(Vec::new()).0, "E0502");
    let bytes = common::engine_bytes(common::rows_program);
    let mut newer = bytes.clone();
    newer[8] = 4;
    assert_eq!(load_error(newer.clone()).0, "E0506", "a flipped bit is not another version");
    // A newer version may hash otherwise; that the hash of this one does not fit must not hide what the file is.
    newer[32..64].fill(7);
    assert_eq!(
        load_error(newer),
        ("E0503", "engine format version 4; this runtime reads version 3: compile the model again".into())
    );
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(load_error(longer).0, "E0504");
    let mut many = bytes.clone();
    many[12] = 17;
    assert_eq!(load_error(many.clone()).0, "E0506");
    format::repair_hashes(&mut many);
    assert_eq!(load_error(many).0, "E0507");
    let mut program = bytes.clone();
    *program.last_mut().unwrap() ^= 1;
    assert_eq!(load_error(program).0, "E0506");
    let mut padding = bytes;
    padding[2000] = 1;
    assert_eq!(
        load_error(padding),
        ("E0512", "padding byte at 2000 is not zero: the file is damaged".into())
    );
    let missing = Engine::open("no/such/engine.bin").unwrap_err();
    assert_eq!(missing.code(), "E0501");
}

/// An entry edited to lie, with hashes that fit the lie.
#[test]
fn lies_in_the_section_table_are_refused() {
    let bytes = common::engine_bytes(common::rows_program);
    let cases: [(usize, u64, &str); 7] = [
        (64 + 8, u64::MAX - 7, "E0505"),
        (64 + 8, 0, "E0505"),
        (64 + 16, u64::MAX, "E0504"),
        (64 + 16, u64::MAX - 4096, "E0504"),
        (128 + 16, 9 << 20, "E0507"),
        (192 + 16, 65 << 20, "E0507"),
        (64 + 24, 1, "E0505"),
    ];
    for (at, lie, code) in cases {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        format::repair_hashes(&mut bytes);
        assert_eq!(load_error(bytes).0, code, "{lie} at {at}");
    }
    let mut twice = bytes;
    twice[128] = 1;
    format::repair_hashes(&mut twice);
    assert_eq!(load_error(twice).0, "E0505");
}

fn program_error(edit: impl FnOnce(&mut Program)) -> (&'static str, String) {
    load_error(common::engine_bytes(|writer| {
        let mut program = common::rows_program(writer);
        edit(&mut program);
        program
    }))
}

#[test]
fn programs_that_break_a_rule_are_refused() {
    let says = |edit: fn(&mut Program), text: &str| {
        let (code, message) = program_error(edit);
        assert_eq!(code, "E0509", "{message}");
        assert!(message.contains(text), "{message:?} should contain {text:?}");
    };
    says(|p| p.steps[0].args[0] = 99, "step #0 \"rows\": value 99 of 9");
    says(|p| p.steps[0].outs[0] = 0, "writes value 0, which is stored as Input(0)");
    says(|p| p.steps.swap(0, 1), "reads value 5, which no earlier step has written");
    says(|p| p.steps[1].outs = vec![4], "reads value 5 while it writes value 4, its memory");
    says(|p| p.values[5].storage = Storage::Alias(7), "is an alias of the later value 7");
    says(|p| p.values[5].elem = autoglm_runtime::elem::ElemType::F16, "which has another size");
    says(|p| p.values[3].storage = Storage::Const { offset: 8, len: 8 }, "unaligned");
    says(
        |p| p.values[3].storage = Storage::Const { offset: 0, len: 17 },
        "outside the weights section of 16",
    );
    says(|p| p.values[3].storage = Storage::Const { offset: u64::MAX - 63, len: 64 }, "outside");
    says(|p| p.values[4].storage = Storage::Input(0), "is stored in input 0, which is not bound to it");
    says(|p| p.values[4].dims[0] = 9, "register 9 of 9");
    says(|p| p.outputs[1].value = 6, "value 6 is an output twice");
    says(|p| p.outputs[1].value = 0, "its value is stored as Input(0)");
    says(|p| p.steps.truncate(3), "no step writes its value 8");
    says(
        |p| p.shape.ops[4] = autoglm_runtime::program::ShapeOp::Mul(4, 1),
        "shape operation 4: reads register 4, which is not smaller",
    );
    says(|p| p.steps[0].args.truncate(1), "(1, 1) arguments and outputs instead of (2, 1)");
    says(|p| p.steps[0].args[1] = 0, "indices are F32 instead of I64 or I32");
}

#[test]
fn manifest_and_program_must_agree() {
    let mut writer = EngineWriter::in_memory().unwrap();
    let program = common::rows_program(&mut writer);
    let mut manifest = common::signature(&program);
    manifest.inputs[1].name = "other".into();
    let (code, message) = load_error(writer.finish(&manifest, &program).unwrap());
    assert_eq!(code, "E0510");
    assert!(message.contains("input 1 is \"other\""), "{message}");
}
