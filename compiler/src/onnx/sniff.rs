//! Names what a file is that was given as an ONNX model but is none.

use super::error::{ReadError, code};

/// A kind of file and what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What it is, as in "this is {what}".
    pub what: &'static str,
    /// What to do about it.
    pub help: &'static str,
}

impl Kind {
    /// The error that says so.
    pub fn error(self) -> ReadError {
        ReadError::new(code::NOT_ONNX, format!("not an ONNX model: this is {}", self.what)).help(self.help)
    }
}

/// How the first bytes of some formats look: offset, bytes, kind.
const MAGICS: &[(usize, &[u8], Kind)] = &[
    (
        0,
        b"\x89AGLM",
        Kind { what: "an autoglm engine", help: "Run it with `autoglm run`; `compile` takes ONNX." },
    ),
    (0, b"\x1f\x8b", Kind { what: "a gzip archive", help: "Unpack it first." }),
    (0, b"\x28\xb5\x2f\xfd", Kind { what: "a zstd archive", help: "Unpack it first." }),
    (0, b"\xfd7zXZ\0", Kind { what: "an xz archive", help: "Unpack it first." }),
    (0, b"BZh", Kind { what: "a bzip2 archive", help: "Unpack it first." }),
    (0, b"7z\xbc\xaf\x27\x1c", Kind { what: "a 7-zip archive", help: "Unpack it first." }),
    (257, b"ustar", Kind { what: "a tar archive", help: "Unpack it first." }),
    (
        4,
        b"ORTM",
        Kind { what: "an ONNX Runtime .ort file", help: "Give the .onnx file that it was made from." },
    ),
    (
        4,
        b"TFL3",
        Kind { what: "a TensorFlow Lite model", help: "Convert it to ONNX, for example with tf2onnx." },
    ),
    (0, b"GGUF", Kind { what: "a GGUF file", help: "Export the original model to ONNX." }),
    (0, b"\x89HDF\r\n\x1a\n", Kind { what: "an HDF5 (Keras) file", help: "Export the model to ONNX." }),
    (0, b"\x93NUMPY", Kind { what: "a NumPy array", help: "Give it as an input to `autoglm run`." }),
    (0, b"\x7fELF", Kind { what: "a program or shared library", help: "Give the .onnx file." }),
    (0, b"ftrt", Kind { what: "a TensorRT engine", help: "Give the .onnx file that it was built from." }),
    (0, b"ptrt", Kind { what: "a TensorRT engine", help: "Give the .onnx file that it was built from." }),
    (0, b"\x80\x02\x8a\x0a", TORCH),
    (
        0,
        b"version https://git-lfs",
        Kind { what: "a Git LFS pointer, not the model itself", help: "Run `git lfs pull`." },
    ),
];

const TORCH: Kind = Kind {
    what: "a pickled PyTorch file",
    help: "Load it in PyTorch and export it with `torch.onnx.export`.",
};
const EMPTY: Kind = Kind { what: "an empty file", help: "The download or export was probably interrupted." };
const ZIP: Kind = Kind { what: "a zip archive", help: "Unpack it and give the .onnx file inside." };
const SAFETENSORS: Kind = Kind {
    what: "a safetensors file, which holds weights but no graph",
    help: "Export the model to ONNX, for example with `optimum-cli export onnx`.",
};
const HTML: Kind = Kind {
    what: "a web page",
    help: "The download gave a page instead of the file: use the link of the file itself, or log in first.",
};
const JSON: Kind = Kind { what: "a JSON file", help: "Give the .onnx file." };
const TEXT: Kind = Kind { what: "a text file", help: "Give the binary .onnx file." };

/// Recognises files that are certainly no ONNX models.
pub fn sniff(bytes: &[u8]) -> Option<Kind> {
    if bytes.is_empty() {
        return Some(EMPTY);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        let head = &bytes[..bytes.len().min(512)];
        let pickled = head.windows(9).any(|w| w == b"/data.pkl" || w == b"/version\n");
        return Some(if pickled { TORCH } else { ZIP });
    }
    if bytes.get(8..10) == Some(b"{\"") && bytes.get(4..8).is_some_and(|b| b == [0; 4]) {
        return Some(SAFETENSORS);
    }
    let found = MAGICS.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|b| b.starts_with(magic)));
    if let Some((_, _, kind)) = found {
        return Some(*kind);
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).trim_start().to_ascii_lowercase();
    (head.starts_with("<!doctype") || head.starts_with("<html") || head.starts_with("<?xml")).then_some(HTML)
}

/// Guesses what a file is that turned out to be no ONNX model.
pub fn guess(bytes: &[u8]) -> Option<Kind> {
    let head = &bytes[..bytes.len().min(512)];
    let printable = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if head.is_empty() || !head.iter().all(printable) {
        return None;
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character cut by the window is no objection.
        Err(e) if e.error_len().is_none() => "",
        Err(_) => return None,
    };
    Some(if text.trim_start().starts_with(['{', '[']) { JSON } else { TEXT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8]) -> &'static str {
        sniff(bytes).or_else(|| guess(bytes)).map_or("", |k| k.what)
    }

    #[test]
    fn wrong_files_are_named() {
        let mut tar = vec![b'm'; 300];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], &str); 16] = [
            (b"", "empty"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"\n  <HTML><head>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
            (b"PK\x03\x04\x14\0\0\0\0\0xx/model.onnx", "zip"),
            (b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl", "PyTorch"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}", "safetensors"),
            (b"\x89AGLM\r\n\x1a", "engine"),
            (b"\x18\0\0\0ORTM\0\0", ".ort"),
            (b"\x80\x02\x8a\x0al\xfc", "PyTorch"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"{\"a\": 1}", "JSON"),
            (b"hello world, this is text", "text"),
            (&tar, "tar"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        ];
        for (bytes, want) in cases {
            assert!(what(bytes).contains(want), "{want}: got `{}`", what(bytes));
        }
    }

    #[test]
    fn models_are_not_mistaken() {
        assert_eq!(what(b"\x08\x0a\x12\x07pytorch\x1a\x052.6.0:\x10\x0a\x05"), "");
    }
}
