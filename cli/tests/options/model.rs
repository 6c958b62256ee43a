//! Small ONNX models, written field by field as the protobuf encoding says.

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(field: u64, n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(n, &mut out);
    out
}

fn bytes(field: u64, contents: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 2, &mut out);
    varint(contents.as_ref().len() as u64, &mut out);
    out.extend(contents.as_ref());
    out
}

/// A value `name`: f32[2].
fn value(name: &str) -> Vec<u8> {
    let shape = bytes(1, number(1, 2));
    let tensor = [number(1, 1), bytes(2, shape)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

/// `y = op(x, w)` over f32[2], where `w` is `[1, 2]`, or the first eight bytes of the file `external`.
pub(crate) fn binary(op: &str, external: Option<&str>) -> Vec<u8> {
    let weights = match external {
        None => bytes(9, [1.0f32, 2.0].map(f32::to_le_bytes).concat()),
        Some(file) => [bytes(13, [bytes(1, "location"), bytes(2, file)].concat()), number(14, 1)].concat(),
    };
    let w = [number(1, 2), number(2, 1), bytes(8, "w"), weights].concat();
    let node = [bytes(1, "x"), bytes(1, "w"), bytes(2, "y"), bytes(3, "node"), bytes(4, op)].concat();
    let graph =
        [bytes(1, node), bytes(2, "graph"), bytes(5, w), bytes(11, value("x")), bytes(12, value("y"))];
    let opset = number(2, 13);
    [number(1, 8), bytes(7, graph.concat()), bytes(8, opset)].concat()
}

/// `y = tanh(x * sigmoid(x)) + x` over f32[n].
pub(crate) fn chain() -> Vec<u8> {
    let node = |op: &str, args: &[&str], out: &str| {
        let args = args.iter().flat_map(|arg| bytes(1, arg)).collect::<Vec<u8>>();
        bytes(1, [args, bytes(2, out), bytes(3, out), bytes(4, op)].concat())
    };
    let port = |name: &str| {
        let shape = bytes(2, bytes(1, bytes(2, "n")));
        [bytes(1, name), bytes(2, bytes(1, [number(1, 1), shape].concat()))].concat()
    };
    let graph = [
        node("Sigmoid", &["x"], "gate"),
        node("Mul", &["x", "gate"], "gated"),
        node("Tanh", &["gated"], "bounded"),
        node("Add", &["bounded", "x"], "y"),
        bytes(2, "chain"),
        bytes(11, port("x")),
        bytes(12, port("y")),
    ];
    [number(1, 8), bytes(7, graph.concat()), bytes(8, number(2, 13))].concat()
}
