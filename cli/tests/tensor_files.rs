//! Readers and writers of tensor files against files made by NumPy, Pillow and the onnx package.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm::error::Exit;
use autoglm::files::{sanitize, write_tensors};
use autoglm::spec::{ImageOptions, parse_image};
use autoglm::tensor::{Array, npy, npz, pb, png, to_f64};
use autoglm_runtime::elem::ElemType::{self, *};
use std::io::Cursor;
use std::path::PathBuf;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn load(file: &[u8], expected: Option<ElemType>) -> Result<Array, autoglm::error::CliError> {
    npy::read(&mut Cursor::new(file), expected, usize::MAX)
}

fn numbers(n: usize) -> Vec<f64> {
    (0..n).map(|x| x as f64).collect()
}

#[test]
fn npy_files_made_by_numpy() {
    type Row = (&'static str, Option<ElemType>, ElemType, &'static [usize], Vec<f64>);
    let table: [Row; 14] = [
        ("f32_2x3", None, F32, &[2, 3], numbers(6).iter().map(|x| x / 4.0).collect()),
        ("f64_fortran_2x3", None, F64, &[2, 3], numbers(6)),
        ("i32_fortran_2x3x4", None, I32, &[2, 3, 4], numbers(24)),
        ("i16_big_endian", None, I16, &[3], vec![1.0, -2.0, 300.0]),
        ("bool_scalar", None, Bool, &[], vec![1.0]),
        ("i64_empty_0x3", None, I64, &[0, 3], vec![]),
        ("f16", None, F16, &[2], vec![1.5, -0.25]),
        ("bf16", None, BF16, &[2], vec![1.5, -2.0]),
        ("f8e4m3fn", Some(F8E4M3FN), F8E4M3FN, &[2], vec![1.0, 448.0]),
        ("f8e5m2", Some(F8E5M2), F8E5M2, &[2], vec![1.0, 57344.0]),
        ("u8_version2", None, U8, &[2], vec![7.0, 8.0]),
        ("u8_version3", None, U8, &[2], vec![7.0, 8.0]),
        ("rgb_2x3_pixels", Some(F32), U8, &[2, 3, 3], vec![]),
        ("int4", Some(I4), I4, &[2], vec![-8.0, 7.0]),
    ];
    for (name, expected, elem, dims, values) in table {
        let array =
            load(&fixture(&format!("{name}.npy")), expected).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!((array.elem, array.dims.as_slice()), (elem, dims), "{name}");
        if name != "rgb_2x3_pixels" {
            assert_eq!(to_f64(&array), values, "{name}");
        }
    }
}

#[test]
fn npy_writes_what_numpy_writes() {
    for name in ["f32_2x3", "bool_scalar", "f16", "u8_version2", "i64_empty_0x3"] {
        let file = fixture(&format!("{name}.npy"));
        let array = load(&file, None).unwrap();
        let written = npy::write(&array);
        assert_eq!(written.len() % 64, array.bytes.len() % 64, "{name}");
        assert_eq!(load(&written, None).unwrap(), array, "{name}");
        if name != "u8_version2" {
            assert_eq!(written, file, "{name}");
        }
    }
    for elem in
        [F32, F64, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool, F8E4M3FN, F8E5M2FNUZ, F4E2M1]
    {
        let array = Array::new(elem, vec![2, 1], vec![1; 2 * elem.size()]).unwrap();
        assert_eq!(load(&npy::write(&array), Some(elem)).unwrap(), array, "{elem:?}");
    }
    let narrow = Array::new(I4, vec![1], vec![0xff]).unwrap();
    assert_eq!(load(&npy::write(&narrow), None).unwrap().elem, I8);
}

/// A version 1 file with this header and data.
fn npy_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

#[test]
fn hostile_npy_files_are_named_errors() {
    let header =
        |descr: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}");
    let table = [
        (fixture("object.npy"), "E0911"),
        (fixture("structured.npy"), "E0912"),
        (fixture("string.npy"), "E0912"),
        (fixture("complex.npy"), "E0912"),
        (fixture("f8e4m3fn.npy"), "E0912"),
        (b"\x93NUMPY".to_vec(), "E0910"),
        (b"PK\x03\x04aaaaaaaaaaaaaaaa".to_vec(), "E0910"),
        (b"\x93NUMPY\x09\x00\x00\x00\x00\x00".to_vec(), "E0910"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "E0910"),
        (b"\x93NUMPY\x01\x00\xff\x00{".to_vec(), "E0910"),
        (npy_file("", &[]), "E0910"),
        (npy_file("{'descr': '<f4'}", &[]), "E0910"),
        (npy_file("{'descr': '<f4', 'descr': '<f4'}", &[]), "E0910"),
        (npy_file("{'evil': '<f4'}", &[]), "E0910"),
        (npy_file(&header("'<f4", "()"), &[]), "E0910"),
        (npy_file(&header("'<f4'", "(-1,)"), &[]), "E0910"),
        (npy_file(&header("'<f4'", "(1 2)"), &[]), "E0910"),
        (npy_file(&header("'<f4'", "(99999999999999999999,)"), &[]), "E0910"),
        (npy_file(&(header("'<f4'", "()") + "x"), &[]), "E0910"),
        (npy_file(&header("'f4'", "()"), &[0; 4]), "E0912"),
        (npy_file(&header("'<f4'", "(4294967296, 4294967296)"), &[]), "E0913"),
        (npy_file(&header("'<f4'", "(0, 4294967296, 4294967296)"), &[]), "E0913"),
        (npy_file(&header("'<f4'", "(4611686018427387904,)"), &[]), "E0913"),
        (npy_file(&header("'|u1'", &format!("({})", "1,".repeat(65))), &[0]), "E0913"),
        (npy_file(&header("'<f4'", "(1000000000000,)"), &[0; 8]), "E0914"),
        (npy_file(&header("'<f4'", "(2,)"), &[0; 7]), "E0914"),
        (npy_file(&header("'<f4'", "(2,)"), &[0; 9]), "E0914"),
    ];
    for (i, (file, code)) in table.into_iter().enumerate() {
        let error = load(&file, None).unwrap_err();
        assert_eq!(error.code, code, "row {i}: {error:?}");
    }
    let limited = npy::read(&mut Cursor::new(fixture("f32_2x3.npy")), None, 23).unwrap_err();
    assert_eq!(limited.code, "E0914");
    // Any byte is allowed to be wrong, none may panic.
    let good = fixture("f64_fortran_2x3.npy");
    for at in 0..good.len() {
        for value in [0, 0x27, 0x39, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = load(&bad, None);
        }
    }
}

#[test]
fn bools_are_normalised() {
    let file = npy_file("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", &[0, 7]);
    assert_eq!(load(&file, None).unwrap().bytes, [0, 1]);
}

#[test]
fn npz_files_made_by_numpy() {
    let mut stored = npz::Npz::open(Cursor::new(fixture("stored.npz"))).unwrap();
    assert_eq!(stored.names(), ["x", "a/b:0"]);
    assert_eq!(to_f64(&stored.read("x", None).unwrap()), numbers(4));
    assert_eq!(to_f64(&stored.read("a/b:0", None).unwrap()), [1.0, 2.0]);
    let missing = stored.read("X", None).unwrap_err();
    assert_eq!(missing.help.as_deref(), Some("did you mean \"x\"?"));
    let mut deflated = npz::Npz::open(Cursor::new(fixture("deflated.npz"))).unwrap();
    assert_eq!(to_f64(&deflated.read("x", None).unwrap()), vec![2.0; 64]);
    assert_eq!(deflated.read("flag", None).unwrap().bytes, [1, 0]);
}

#[test]
fn npz_round_trip_and_damage() {
    let a = load(&fixture("f32_2x3.npy"), None).unwrap();
    let b = load(&fixture("bool_scalar.npy"), None).unwrap();
    let file = npz::write(&[("a", &a), ("b/c", &b)]).unwrap();
    assert_eq!(file, npz::write(&[("a", &a), ("b/c", &b)]).unwrap(), "equal arrays, equal bytes");
    let mut archive = npz::Npz::open(Cursor::new(&file)).unwrap();
    assert_eq!(archive.read("a", None).unwrap(), a);
    assert_eq!(archive.read("b/c", None).unwrap(), b);
    assert_eq!(npz::write(&[("a", &a), ("a", &b)]).unwrap_err().code, "E0915");
    // The last data byte of the first member: the checksum must notice.
    let at = file.windows(a.bytes.len()).position(|w| w == a.bytes).unwrap() + a.bytes.len() - 1;
    let mut bad = file.clone();
    bad[at] ^= 1;
    let error = npz::Npz::open(Cursor::new(bad)).unwrap().read("a", None).unwrap_err();
    assert!(error.code == "E0903" && error.message.contains("checksum"), "{error:?}");
    for length in 0..file.len() {
        if let Ok(mut cut) = npz::Npz::open(Cursor::new(&file[..length])) {
            assert!(cut.read("a", None).is_err() || cut.read("b/c", None).is_err());
        }
    }
}

#[test]
fn pictures_match_pillow() {
    let raw = |text: &str| parse_image(text).unwrap();
    for (channels, pixels) in [(1, "gray_2x3_pixels"), (3, "rgb_2x3_pixels"), (4, "rgba_2x3_pixels")] {
        let expected = load(&fixture(&format!("{pixels}.npy")), None).unwrap();
        let shape = [Some(1), None, None, Some(channels)];
        let options = raw("layout=nhwc,scale=1");
        let array = png::read(&fixture("rgba_2x3.png"), U8, &shape, &options).unwrap();
        assert_eq!(array.dims, [1, 2, 3, channels]);
        assert_eq!(array.bytes, expected.bytes, "{pixels}");
        // The same through f32 NCHW: element [c, h, w] is pixel [h, w, c].
        let planar = [None, Some(channels), Some(2), Some(3)];
        let array = png::read(&fixture("rgba_2x3.png"), F32, &planar, &raw("scale=1")).unwrap();
        let values = to_f64(&array);
        for (i, &pixel) in expected.bytes.iter().enumerate() {
            assert_eq!(values[i % channels * 6 + i / channels], f64::from(pixel));
        }
    }
    let gray =
        png::read(&fixture("gray_2x3.png"), U8, &[Some(3), None, None], &ImageOptions::default()).unwrap();
    let luma = load(&fixture("gray_2x3_pixels.npy"), None).unwrap();
    assert_eq!(
        (gray.dims.as_slice(), &gray.bytes[..6], &gray.bytes[12..]),
        (&[3, 2, 3][..], &luma.bytes[..], &luma.bytes[..])
    );
}

#[test]
fn pictures_are_normalised_by_channel() {
    let pixels = load(&fixture("rgb_2x3_pixels.npy"), None).unwrap();
    let options = parse_image("mean=0.5,0.25,0,std=2,4,8").unwrap();
    let array = png::read(&fixture("rgb_2x3.png"), F32, &[None, None, None, None], &options).unwrap();
    assert_eq!(array.dims, [1, 3, 2, 3]);
    for (i, value) in to_f64(&array).into_iter().enumerate() {
        let (c, at) = (i / 6, i % 6);
        let pixel = f64::from(pixels.bytes[at * 3 + c]) / 255.0;
        let expected = (pixel - [0.5, 0.25, 0.0][c]) / [2.0, 4.0, 8.0][c];
        assert!((value - expected).abs() < 1e-6, "{i}: {value} {expected}");
    }
}

#[test]
fn pictures_that_do_not_fit() {
    let options = ImageOptions::default();
    let file = fixture("rgb_2x3.png");
    let read = |elem, shape: &[Option<usize>]| png::read(&file, elem, shape, &options).unwrap_err();
    let error = read(F32, &[Some(1), Some(3), Some(224), Some(224)]);
    assert_eq!((error.code, error.exit), ("E0917", Exit::Invalid));
    assert!(error.message.contains("2x3") && error.message.contains("224x224"), "{}", error.message);
    assert_eq!(read(F32, &[Some(2), Some(3), Some(2), Some(3)]).code, "E0917");
    assert_eq!(read(F32, &[Some(1), Some(2), Some(2), Some(3)]).code, "E0917");
    assert_eq!(read(F32, &[None, None]).code, "E0917");
    assert_eq!(read(I64, &[None; 4]).code, "E0917");
    let two = parse_image("mean=1,2").unwrap();
    assert_eq!(png::read(&file, F32, &[None; 4], &two).unwrap_err().exit, Exit::Usage);
    for length in 0..file.len() {
        let _ = png::read(&file[..length], F32, &[None; 4], &options);
    }
    assert_eq!(png::read(b"hello", F32, &[None; 4], &options).unwrap_err().code, "E0916");
}

#[test]
fn tensor_files_made_by_onnx() {
    type Row = (&'static str, &'static str, ElemType, &'static [usize], Vec<f64>);
    let table: [Row; 8] = [
        ("f32_raw", "x", F32, &[2, 3], numbers(6).iter().map(|x| x / 4.0).collect()),
        ("f32_typed", "x", F32, &[3], vec![0.5, -1.0, 2.0]),
        ("f64_typed", "d", F64, &[1], vec![0.1]),
        ("i64_typed", "i", I64, &[2], vec![-1.0, 7.0]),
        ("f16_typed", "h", F16, &[2], vec![1.5, -0.25]),
        ("bool_typed", "b", Bool, &[], vec![1.0]),
        ("i4_typed", "q", I4, &[3], vec![-8.0, 7.0, -1.0]),
        ("u2_raw", "q", U2, &[5], vec![0.0, 1.0, 2.0, 3.0, 2.0]),
    ];
    for (file, name, elem, dims, values) in table {
        let (found, array) =
            pb::read(&fixture(&format!("{file}.pb"))).unwrap_or_else(|e| panic!("{file}: {e:?}"));
        assert_eq!((found.as_str(), array.elem, array.dims.as_slice()), (name, elem, dims), "{file}");
        assert_eq!(to_f64(&array), values, "{file}");
        assert_eq!(pb::read(&pb::write(name, &array)).unwrap(), (name.to_string(), array), "{file}");
    }
    let raw = fixture("f32_raw.pb");
    assert_eq!(pb::write("x", &pb::read(&raw).unwrap().1).len(), raw.len());
}

#[test]
fn hostile_tensor_files_are_named_errors() {
    for (file, code) in [
        (fixture("string.pb"), "E0919"),
        (fixture("external.pb"), "E0919"),
        (vec![0xff; 20], "E0918"),
        (vec![0x4a, 0x7f], "E0918"),
        (vec![0x10, 99], "E0918"),
        (vec![0x10, 14], "E0919"),
        // dims [-1], [2^62, 2^62], and one element without data.
        (vec![8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x10, 1], "E0918"),
        ([[8u8, 128, 128, 128, 128, 128, 128, 128, 128, 64].repeat(2), vec![0x10, 1]].concat(), "E0913"),
        (vec![8, 1, 0x10, 1], "E0914"),
        (vec![8, 3, 0x10, 22, 0x4a, 1, 0], "E0918"),
    ] {
        assert_eq!(pb::read(&file).map_err(|e| e.code), Err(code), "{file:?}");
    }
    let good = fixture("i4_typed.pb");
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = pb::read(&bad);
        }
    }
}

#[test]
fn output_files() {
    assert_eq!(sanitize("/model/Add:0 é"), "_model_Add_0__");
    assert_eq!(sanitize("../a-b_c.1"), ".._a-b_c.1");
    let dir = std::env::temp_dir().join(format!("autoglm-files-{}", std::process::id()));
    let one = Array::new(U8, vec![1], vec![1]).unwrap();
    let two = Array::new(U8, vec![1], vec![2]).unwrap();
    let tensors = [("a/b".to_string(), one.clone()), ("a:b".to_string(), two.clone())];
    let paths = write_tensors(&dir.join("deep"), &tensors).unwrap();
    assert_eq!(paths, [dir.join("deep/a_b.npy"), dir.join("deep/a_b-2.npy")]);
    assert_eq!(load(&std::fs::read(&paths[1]).unwrap(), None).unwrap(), two);
    let archive = dir.join("all.npz");
    write_tensors(&archive, &tensors).unwrap();
    let mut npz = npz::Npz::open(Cursor::new(std::fs::read(&archive).unwrap())).unwrap();
    assert_eq!(npz.read("a/b", None).unwrap(), one);
    let mut left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["all.npz", "deep"], "no temporary file stays behind");
    let error = write_tensors(&dir.join("all.npz/x"), &tensors).unwrap_err();
    assert_eq!((error.code, error.exit), ("E0903", Exit::Invalid));
    std::fs::remove_dir_all(&dir).unwrap();
}
