#!/usr/bin/env python3
"""Train a convolutional network on scikit-learn's handwritten digits and write the files of this directory.

    train.py [--out DIR]        needs numpy, scikit-learn, onnx, onnxruntime

Forward and backward passes are written out in numpy (layers.py), so that the data need no deep learning framework. The
expected values come from ONNX Runtime on the written file, not from the code here.
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

from layers import BatchNorm, Conv, Dropout, Flatten, Gemm, MatMul, MaxPool, Relu

SEED, HELD_OUT, EPOCHS, BATCH, RATE = 7, 540, 40, 32, 1e-3
CALIBRATION_RUNS, CALIBRATION_BATCH = 8, 32
MIN_ACCURACY, MIN_PARAMETERS = 0.97, 100_000


class Split:
    """The data set's grey levels 0..16 become 0..255; the first HELD_OUT pictures of a fixed permutation are held out,
    and the calibration set is the start of the rest."""

    def __init__(self):
        digits = load_digits()
        self.pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
        self.labels = digits.target.astype(np.int64)
        order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(self.pixels))
        self.held_out, self.train = order[:HELD_OUT], order[HELD_OUT:]
        self.calibration = self.train[:CALIBRATION_RUNS * CALIBRATION_BATCH]

    def input(self, picked):
        return (self.pixels[picked].astype(np.float32) / np.float32(255.0))[:, None]


def network(rng):
    return [
        Conv("conv1", rng, 1, 32, 3), Relu("relu1"),
        Conv("conv2", rng, 32, 64, 3), BatchNorm("norm2", 64), Relu("relu2"), MaxPool("pool"),
        Conv("conv3", rng, 64, 64, 1), BatchNorm("norm3", 64), Relu("relu3"), Flatten("flat"),
        Gemm("fc1", rng, 1024, 128), Relu("relu4"), Dropout("drop4", rng),
        MatMul("fc2", rng, 128, 128), Relu("relu5"), Dropout("drop5", rng),
        Gemm("logits", rng, 128, 10),
    ]


def train(x, labels):
    """Adam with a rate that falls to zero; every picture is moved by -1, 0 or 1 pixel sideways each time."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    layers = network(rng)
    state = {(layer.name, key): (np.zeros_like(v), np.zeros_like(v)) for layer in layers for key, v in layer.params.items()}
    count, total = 0, EPOCHS * (len(x) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            picked = order[start:start + BATCH]
            moved = moved_sideways(x[picked], rng.integers(-1, 2, BATCH))
            value = moved
            for layer in layers:
                value = layer.forward(value, True)
            e = np.exp(value - value.max(1, keepdims=True))
            grad = e / e.sum(1, keepdims=True)
            grad[np.arange(BATCH), labels[picked]] -= 1
            grad /= BATCH
            for layer in reversed(layers):
                grad = layer.backward(grad)
            count += 1
            update(layers, state, count, RATE * (1 - (count - 1) / total))
    return layers


def moved_sideways(x, steps):
    out = np.zeros_like(x)
    for i, step in enumerate(steps):
        lo, hi = max(step, 0), 8 + min(step, 0)
        out[i, ..., lo:hi] = x[i, ..., lo - step:hi - step]
    return out


def update(layers, state, count, rate):
    for layer in layers:
        for key, g in layer.grads.items():
            first, second = state[layer.name, key]
            first += np.float32(0.1) * (g - first)
            second += np.float32(0.001) * (g * g - second)
            change = first / (1 - 0.9 ** count) / (np.sqrt(second / (1 - 0.999 ** count)) + 1e-8)
            layer.params[key] -= (rate * change).astype(np.float32)


# ---------------------------------------------------------------- files
def model(layers):
    name, nodes = "image", []
    for layer in layers:
        made, name = layer.nodes(name)
        nodes += made
    nodes.append(helper.make_node("Softmax", [name], ["probabilities"], "softmax", axis=1))

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    weights = [numpy_helper.from_array(v, k) for layer in layers for k, v in layer.tensors().items()]
    graph = helper.make_graph(nodes, "digits", [value("image", 1, 8, 8)], [value("logits", 10), value("probabilities", 10)],
                              weights)
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
    """(file name, position): the first held-out picture of every digit and a second one of 4, 7 and 9."""
    for digit in range(10):
        found = np.flatnonzero(labels == digit)
        for letter, index in zip("ab" if digit in (4, 7, 9) else "a", found):
            yield f"digit-{digit}-{letter}.png", int(index)


def write_splits(out, split):
    """held_out/000.npz with its labels, calib/NNN.npz, and which pictures of the data set they are."""
    for name in ("held_out", "calib"):
        (out / name).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "held_out" / "000.npz", image=split.input(split.held_out))
    np.save(out / "held_out" / "labels.npy", split.labels[split.held_out].astype(np.uint8))
    for run, picked in enumerate(split.calibration.reshape(CALIBRATION_RUNS, CALIBRATION_BATCH)):
        np.savez_compressed(out / "calib" / f"{run:03}.npz", image=split.input(picked))
    recorded = {"data": "sklearn.datasets.load_digits", "held_out": split.held_out.tolist(),
                "calibration": split.calibration.tolist()}
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in recorded.items())
    (out / "split.json").write_text(f"{{\n{rows}\n}}\n")
    task = {"task": "classification", "model": "digits.onnx", "output": "logits"}
    (out / "task.json").write_text(json.dumps(task) + "\n")


def write_expected(out, split, session):
    (out / "expected").mkdir(parents=True, exist_ok=True)
    names = ["logits", "probabilities"]
    values = session.run(names, {"image": split.input(split.held_out)})
    np.savez_compressed(out / "expected" / "000.npz", **dict(zip(names, values)))


def write_samples(out, split, session, right):
    labels = split.labels[split.held_out]
    chosen = list(samples(labels))
    batch = split.input(split.held_out[[index for _, index in chosen]])
    np.save(out / "images.npy", batch)
    expected = []
    (out / "images").mkdir(parents=True, exist_ok=True)
    for (name, index), image in zip(chosen, batch):
        (out / "images" / name).write_bytes(png(split.pixels[split.held_out[index]]))
        logits, probabilities = (v[0].tolist() for v in session.run(["logits", "probabilities"], {"image": image[None]}))
        if int(np.argmax(logits)) != labels[index]:
            raise SystemExit(f"{name}: the network answers {np.argmax(logits)}")
        expected.append({"image": name, "label": int(labels[index]), "logits": logits, "probabilities": probabilities})
    source = {"oracle": f"onnxruntime {onnxruntime.__version__}", "held_out": len(labels), "right": right}
    rows = ",\n".join(json.dumps(row) for row in expected)
    (out / "expected.json").write_text(f'{json.dumps(source)[:-1]}, "cases": [\n{rows}\n]}}\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    split = Split()
    layers = train(split.input(split.train), split.labels[split.train])
    parameters = sum(v.size for layer in layers for v in layer.params.values())
    content = model(layers).SerializeToString(deterministic=True)

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def accuracy(picked):
        answers = session.run(["logits"], {"image": split.input(picked)})[0].argmax(1)
        return int((answers == split.labels[picked]).sum())

    right = accuracy(split.held_out)
    print(f"{right} of {HELD_OUT} held-out digits, {100 * right / HELD_OUT:.2f} %; {accuracy(split.train)} of {len(split.train)} "
          f"in training; {parameters} parameters, {len(content)} bytes")
    if right < MIN_ACCURACY * HELD_OUT or parameters < MIN_PARAMETERS:
        raise SystemExit(f"below {MIN_ACCURACY:.0%} or {MIN_PARAMETERS} parameters")
    out.mkdir(parents=True, exist_ok=True)
    (out / "digits.onnx").write_bytes(content)
    (out / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    write_splits(out, split)
    write_expected(out, split, session)
    write_samples(out, split, session, right)


if __name__ == "__main__":
    main()
