//! External data stays beneath the model's directory, whatever that directory holds.

use autoglm_compiler::onnx::error::code;
use autoglm_compiler::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use autoglm_compiler::onnx::{ExternalFiles, Limits, ReadError, open, tensor};
use bytes::Bytes;
use prost::Message as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory of its own for each test, with `model/weights.bin` (256 bytes: 0, 1, 2, ...) and a `secret` beside
/// the model's directory.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let root = std::env::temp_dir().join(format!("autoglm-external-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("model/sub")).unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        std::fs::write(root.join("model/weights.bin"), &bytes).unwrap();
        std::fs::write(root.join("model/sub/weights.bin"), &bytes).unwrap();
        std::fs::write(root.join("secret"), [42; 256]).unwrap();
        Self(root)
    }

    fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    fn read(&self, pairs: &[(&str, &str)]) -> Result<Bytes, ReadError> {
        self.read_with(pairs, &Limits::default())
    }

    fn read_with(&self, pairs: &[(&str, &str)], limits: &Limits) -> Result<Bytes, ReadError> {
        let mut files = ExternalFiles::new(&self.model(), limits);
        Ok(tensor::decode(&external(pairs), &mut files, limits)?.dense()?.data)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tensor of eight bytes in another file.
fn external(pairs: &[(&str, &str)]) -> TensorProto {
    let entry = |(k, v): &(&str, &str)| StringStringEntryProto { key: (*k).into(), value: (*v).into() };
    TensorProto {
        name: "w".into(),
        dims: vec![8],
        data_type: 2,
        data_location: 1,
        external_data: pairs.iter().map(entry).collect(),
        ..Default::default()
    }
}

#[test]
fn good_references() {
    let s = Scratch::new("good");
    let at =
        |location, offset| s.read(&[("location", location), ("offset", offset), ("length", "8")]).unwrap();
    assert_eq!(at("weights.bin", "16"), &[16, 17, 18, 19, 20, 21, 22, 23][..]);
    assert_eq!(at("./sub//weights.bin", "248"), &[248, 249, 250, 251, 252, 253, 254, 255][..]);
    assert_eq!(s.read(&[("location", "weights.bin")]).unwrap(), &[0, 1, 2, 3, 4, 5, 6, 7][..]);
    let copied = Limits { copy_files: true, ..Limits::default() };
    assert_eq!(s.read_with(&[("location", "weights.bin"), ("offset", "8")], &copied).unwrap()[0], 8);
}

#[test]
fn a_file_is_mapped_once() {
    let s = Scratch::new("once");
    let limits = Limits { allow_links: true, ..Limits::default() };
    std::fs::hard_link(s.model().join("weights.bin"), s.model().join("same.bin")).unwrap();
    let mut files = ExternalFiles::new(&s.model(), &limits);
    let mut start = |location, offset| {
        let t = external(&[("location", location), ("offset", offset)]);
        tensor::decode(&t, &mut files, &limits).unwrap().dense().unwrap().data.as_ptr() as usize
    };
    let first = start("weights.bin", "0");
    assert_eq!((start("weights.bin", "16"), start("same.bin", "32")), (first + 16, first + 32));
    assert_ne!(start("sub/weights.bin", "0"), first);
}

#[test]
fn ranges_outside_of_the_file() {
    let s = Scratch::new("ranges");
    let max = u64::MAX.to_string();
    for (offset, length) in
        [("249", "8"), ("256", "8"), (max.as_str(), "8"), ("8", max.as_str()), ("0", "257")]
    {
        let e = s.read(&[("location", "weights.bin"), ("offset", offset), ("length", length)]).unwrap_err();
        assert_eq!((e.code, e.node.as_deref()), (code::EXTERNAL_RANGE, Some("w")), "{offset} {length}");
        assert!(
            e.message.contains("weights.bin")
                && e.message.contains("256")
                && e.message.contains("needs 8 bytes")
        );
    }
    let e = s.read(&[("location", "weights.bin"), ("length", "9")]).unwrap_err();
    assert_eq!(e.code, code::TENSOR_SIZE);
}

#[test]
fn links_lead_nowhere() {
    let s = Scratch::new("links");
    let dir = s.model();
    symlink("../secret", dir.join("link")).unwrap();
    symlink("weights.bin", dir.join("inside")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink("sub", dir.join("subdir")).unwrap();
    symlink(s.0.join("secret"), dir.join("absolute")).unwrap();
    symlink("/proc/self/environ", dir.join("environ")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    std::fs::hard_link(s.0.join("secret"), dir.join("hard")).unwrap();
    for location in
        ["link", "inside", "up/secret", "subdir/weights.bin", "absolute", "environ", "loop", "hard"]
    {
        let e = s.read(&[("location", location)]).unwrap_err();
        assert!([code::EXTERNAL_KIND, code::EXTERNAL_OPEN].contains(&e.code), "{location}: {e}");
    }
    let e = s.read(&[("location", "link")]).unwrap_err();
    assert!(e.message.contains("symbolic link") && e.help.unwrap().contains("allow-links"));
    assert_eq!(s.read(&[("location", "hard")]).unwrap_err().code, code::EXTERNAL_KIND);
    let trusting = Limits { allow_links: true, ..Limits::default() };
    assert_eq!(s.read_with(&[("location", "link")], &trusting).unwrap(), &[42; 8][..]);
    assert_eq!(s.read_with(&[("location", "hard")], &trusting).unwrap(), &[42; 8][..]);
    let e = s.read_with(&[("location", "../secret")], &trusting).unwrap_err();
    assert_eq!(e.code, code::EXTERNAL_LOCATION);
}

#[test]
fn things_that_are_no_files() {
    let s = Scratch::new("things");
    let dir = s.model();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    // Opening a pipe that nobody writes to must not wait.
    assert_eq!(s.read(&[("location", "pipe")]).unwrap_err().code, code::EXTERNAL_KIND);
    assert_eq!(s.read(&[("location", "sub")]).unwrap_err().code, code::EXTERNAL_KIND);
    assert_eq!(s.read(&[("location", "weights.bin/x")]).unwrap_err().code, code::EXTERNAL_OPEN);
    let e = s.read(&[("location", "gone.bin")]).unwrap_err();
    assert_eq!(e.code, code::EXTERNAL_OPEN);
    assert!(e.message.contains(&dir.join("gone.bin").display().to_string()), "{e}");
    let limits = Limits::default();
    let mut nowhere = ExternalFiles::new(Path::new(""), &limits);
    let e = tensor::decode(&external(&[("location", "weights.bin")]), &mut nowhere, &limits).unwrap_err();
    assert_eq!(e.code, code::EXTERNAL_OPEN);
}

#[test]
fn a_model_on_disk_with_its_data_beside_it() {
    let s = Scratch::new("open");
    let graph =
        GraphProto { initializer: vec![external(&[("location", "weights.bin")])], ..Default::default() };
    let bytes = ModelProto { ir_version: 8, graph: Some(graph), ..Default::default() }.encode_to_vec();
    let path = s.model().join("model.onnx");
    std::fs::write(&path, &bytes).unwrap();
    let limits = Limits::default();
    let mut file = open(&path, &limits).unwrap();
    assert_eq!((file.dir.as_path(), file.len()), (s.model().as_path(), bytes.len()));
    assert_eq!(file.content_hash(), blake3::hash(&bytes));
    let mut files = ExternalFiles::new(&file.dir, &limits);
    let tensor = &file.model.graph.as_ref().unwrap().initializer[0];
    assert_eq!(tensor::decode(tensor, &mut files, &limits).unwrap().dense().unwrap().data[7], 7);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let s = Scratch::new("badopen");
    let limits = Limits::default();
    for (path, want) in [
        (s.model().join("none.onnx"), code::IO),
        (s.model(), code::IO),
        (PathBuf::from("/dev/null"), code::IO),
        (s.model().join("weights.bin"), code::WIRE),
    ] {
        let e = open(&path, &limits).unwrap_err();
        assert_eq!(e.code, want, "{e}");
    }
    std::fs::write(s.model().join("empty.onnx"), b"").unwrap();
    let e = open(&s.model().join("empty.onnx"), &limits).unwrap_err();
    assert!(e.code == code::NOT_ONNX && e.message.contains("empty"), "{e}");
}
