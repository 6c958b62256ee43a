#!/usr/bin/env python3
"""Train a small convolutional network on scikit-learn's handwritten digits and write the files of this directory.

    train.py [--out DIR]        needs numpy, scikit-learn, onnx, onnxruntime

Forward and backward passes are written out in numpy, so that the data need no deep learning framework. The expected
values come from ONNX Runtime on the written file, not from the code below.
"""
import argparse
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SEED, HELD_OUT, EPOCHS, BATCH, RATE, EPSILON = 7, 360, 30, 32, 2e-3, 1e-5
MIN_ACCURACY = 0.97


def pictures():
    """(pixels u8[n,8,8], labels i64[n]) of the two splits; the data set's grey levels 0..16 become 0..255."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(pixels))
    held_out, train = order[:HELD_OUT], order[HELD_OUT:]
    return (pixels[train], digits.target[train]), (pixels[held_out], digits.target[held_out])


def network_input(pixels):
    return (pixels.astype(np.float32) / np.float32(255.0))[:, None]


# ---------------------------------------------------------------- layers; each forward returns (output, backward state)
def patches(x):
    """f32[n,c,h,w] -> f32[n,h,w,c*9] of a 3x3 window with a border of zeros."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h, w, c * 9)


def conv(x, weight, bias):
    columns = patches(x)
    out = columns @ weight.reshape(len(weight), -1).T + bias
    return out.transpose(0, 3, 1, 2), columns


def conv_backward(grad, columns, weight):
    n, o, h, w = grad.shape
    rows = np.ascontiguousarray(grad.transpose(0, 2, 3, 1)).reshape(-1, o)
    flat = weight.reshape(o, -1)
    grad_weight = (rows.T @ columns.reshape(-1, flat.shape[1])).reshape(weight.shape)
    grad_columns = (rows @ flat).reshape(n, h, w, -1, 3, 3)
    grad_x = np.zeros((n, grad_columns.shape[3], h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            grad_x[:, :, i:i + h, j:j + w] += grad_columns[..., i, j].transpose(0, 3, 1, 2)
    return grad_x[:, :, 1:-1, 1:-1], grad_weight, rows.sum(0)


def channel(v):
    return v[None, :, None, None]


def norm(x, scale, shift, mean, variance):
    inverse = 1.0 / np.sqrt(variance + np.float32(EPSILON))
    normal = (x - channel(mean)) * channel(inverse)
    return normal * channel(scale) + channel(shift), (normal, inverse)


def norm_backward(grad, state, scale):
    normal, inverse = state
    axes, count = (0, 2, 3), grad.size // grad.shape[1]
    grad_shift, grad_scale = grad.sum(axes), (grad * normal).sum(axes)
    centred = grad - channel(grad_shift / count) - normal * channel(grad_scale / count)
    return centred * channel(scale * inverse), grad_scale, grad_shift


def pool(x):
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return windows.max(-1), windows.argmax(-1)


def pool_backward(grad, winner):
    n, c, h, w = grad.shape
    windows = (winner[..., None] == np.arange(4)) * grad[..., None]
    return windows.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


# ---------------------------------------------------------------- network
def initial(rng):
    def he(*shape):
        return (rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))).astype(np.float32)

    def zeros(n):
        return np.zeros(n, np.float32)

    return {"conv1.weight": he(16, 1, 3, 3), "conv1.bias": zeros(16), "conv2.weight": he(32, 16, 3, 3), "conv2.bias": zeros(32),
            "norm.scale": np.ones(32, np.float32), "norm.shift": zeros(32), "fc1.weight": he(64, 512), "fc1.bias": zeros(64),
            "fc2.weight": he(10, 64), "fc2.bias": zeros(10)}


def step(p, running, x, labels):
    """Loss gradients of one batch; updates the running mean and variance of the normalisation."""
    a1, columns1 = conv(x, p["conv1.weight"], p["conv1.bias"])
    h1 = np.maximum(a1, 0)
    a2, columns2 = conv(h1, p["conv2.weight"], p["conv2.bias"])
    mean, variance = a2.mean((0, 2, 3)), a2.var((0, 2, 3))
    for key, value in (("mean", mean), ("variance", variance)):
        running[key] += np.float32(0.1) * (value - running[key])
    a3, state = norm(a2, p["norm.scale"], p["norm.shift"], mean, variance)
    h2, winner = pool(np.maximum(a3, 0))
    flat = h2.reshape(len(x), -1)
    h3 = np.maximum(flat @ p["fc1.weight"].T + p["fc1.bias"], 0)
    logits = h3 @ p["fc2.weight"].T + p["fc2.bias"]

    e = np.exp(logits - logits.max(1, keepdims=True))
    grad = e / e.sum(1, keepdims=True)
    grad[np.arange(len(x)), labels] -= 1
    grad /= len(x)
    g = {"fc2.weight": grad.T @ h3, "fc2.bias": grad.sum(0)}
    grad = (grad @ p["fc2.weight"]) * (h3 > 0)
    g |= {"fc1.weight": grad.T @ flat, "fc1.bias": grad.sum(0)}
    grad = pool_backward((grad @ p["fc1.weight"]).reshape(h2.shape), winner) * (a3 > 0)
    grad, g["norm.scale"], g["norm.shift"] = norm_backward(grad, state, p["norm.scale"])
    grad, g["conv2.weight"], g["conv2.bias"] = conv_backward(grad, columns2, p["conv2.weight"])
    _, g["conv1.weight"], g["conv1.bias"] = conv_backward(grad * (a1 > 0), columns1, p["conv1.weight"])
    return g


def train(pixels, labels):
    rng = np.random.Generator(np.random.PCG64(SEED))
    p = initial(rng)
    running = {"mean": np.zeros(32, np.float32), "variance": np.ones(32, np.float32)}
    first, second = ({k: np.zeros_like(v) for k, v in p.items()} for _ in range(2))
    x, count, total = network_input(pixels), 0, EPOCHS * (len(pixels) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            picked = order[start:start + BATCH]
            count += 1
            rate = RATE * (1 - (count - 1) / total)
            for key, g in step(p, running, x[picked], labels[picked]).items():
                first[key] += np.float32(0.1) * (g - first[key])
                second[key] += np.float32(0.001) * (g * g - second[key])
                update = first[key] / (1 - 0.9 ** count) / (np.sqrt(second[key] / (1 - 0.999 ** count)) + 1e-8)
                p[key] -= (rate * update).astype(np.float32)
    return p, running


# ---------------------------------------------------------------- files
def model(p, running):
    weights = p | {"norm.mean": running["mean"], "norm.variance": running["variance"]}
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["conv1"], ["relu1"], "relu1"),
        node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["conv2", "norm.scale", "norm.shift", "norm.mean", "norm.variance"], ["norm"], "norm",
             epsilon=EPSILON),
        node("Relu", ["norm"], ["relu2"], "relu2"),
        node("MaxPool", ["relu2"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pool"], ["flat"], "flat", axis=1),
        node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["fc1"], "fc1", transB=1),
        node("Relu", ["fc1"], ["relu3"], "relu3"),
        node("Gemm", ["relu3", "fc2.weight", "fc2.bias"], ["logits"], "fc2", transB=1),
        node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    graph = helper.make_graph(nodes, "digits", [value("image", 1, 8, 8)], [value("logits", 10), value("probabilities", 10)],
                              [numpy_helper.from_array(v, k) for k, v in weights.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="autoglm-testdata")
    onnx.checker.check_model(made, full_check=True)
    return made


def png(pixels):
    """An 8-bit greyscale PNG."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def samples(labels):
    """(file name, index): the first held-out picture of every digit and a second one of 4, 7 and 9."""
    for digit in range(10):
        found = np.flatnonzero(labels == digit)
        for letter, index in zip("ab" if digit in (4, 7, 9) else "a", found):
            yield f"digit-{digit}-{letter}.png", int(index)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    (train_pixels, train_labels), (pixels, labels) = pictures()
    content = model(*train(train_pixels, train_labels)).SerializeToString(deterministic=True)

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answers = session.run(["logits"], {"image": network_input(pixels)})[0].argmax(1)
    right = int((answers == labels).sum())
    print(f"{right} of {len(labels)} held-out digits, {100 * right / len(labels):.2f} %; {len(content)} bytes")
    if right < MIN_ACCURACY * len(labels):
        raise SystemExit(f"below {MIN_ACCURACY:.0%}")

    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "digits.onnx").write_bytes(content)
    (out / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    chosen = list(samples(labels))
    batch = network_input(pixels[[index for _, index in chosen]])
    np.save(out / "images.npy", batch)
    expected = []
    for (name, index), image in zip(chosen, batch):
        (out / "images" / name).write_bytes(png(pixels[index]))
        logits, probabilities = (v[0].tolist() for v in session.run(["logits", "probabilities"], {"image": image[None]}))
        if int(np.argmax(logits)) != labels[index]:
            raise SystemExit(f"{name}: the network answers {np.argmax(logits)}")
        expected.append({"image": name, "label": int(labels[index]), "logits": logits, "probabilities": probabilities})
    source = {"oracle": f"onnxruntime {onnxruntime.__version__}", "held_out": len(labels), "right": right}
    rows = ",\n".join(json.dumps(row) for row in expected)
    (out / "expected.json").write_text(f'{json.dumps(source)[:-1]}, "cases": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
