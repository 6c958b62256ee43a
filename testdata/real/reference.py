"""BERT's forward pass in numpy and f64, straight from a safetensors file: the witness of the generated model.

Without padding and masks: each token attends to those of its own sentence, so that a masked or padded position that the
model handles wrongly shows. Written from the definition of the architecture; it shares no code with the generator.
"""
import json
import math
from pathlib import Path

import numpy as np

HEADS, EPSILON = 12, 1e-12
GRID = np.arange(-6 * 512, 6 * 512 + 1) / 512
GRID_ERF, GRID_SLOPE = np.array([math.erf(x) for x in GRID]), 2 / math.sqrt(math.pi) * np.exp(-GRID * GRID) / 512


def erf(x):
    """math.erf between the points of a grid by cubics through values and slopes: an error below 1e-12."""
    at = (np.clip(x, -6, 6) + 6) * 512
    i = np.minimum(at.astype(np.int64), len(GRID) - 2)
    t = at - i
    u = 1 - t
    start = GRID_ERF[i] * (1 + 2 * t) + GRID_SLOPE[i] * t
    end = GRID_ERF[i + 1] * (1 + 2 * u) - GRID_SLOPE[i + 1] * u
    return start * u * u + end * t * t


def safetensors(path):
    """{name: f64 array} of the f32 tensors of a file."""
    data = Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            values = np.frombuffer(data, "<f4", (end - start) // 4, 8 + size + start)
            tensors[name] = values.reshape(entry["shape"]).astype(np.float64)
    return tensors


class Encoder:
    def __init__(self, path):
        self.tensors = safetensors(path)
        self.layers = len({name.split(".")[2] for name in self.tensors if name.startswith("encoder.layer.")})

    def linear(self, x, name):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
        return centred / deviation * self.tensors[f"{name}.LayerNorm.weight"] + self.tensors[f"{name}.LayerNorm.bias"]

    def attention(self, x, name, sentences):
        q, k, v = (self.linear(x, f"{name}.{what}").reshape(len(x), HEADS, -1).transpose(1, 0, 2)
                   for what in ("query", "key", "value"))
        joined = np.empty_like(q)
        for at in sentences:
            scores = q[:, at] @ k[:, at].transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            joined[:, at] = weights / weights.sum(-1, keepdims=True) @ v[:, at]
        return joined.transpose(1, 0, 2).reshape(len(x), -1)

    def run(self, sentences):
        """[(token features [n, hidden], embedding [hidden])] of sentences given by their token ids."""
        t, table = self.tensors, "embeddings.{}_embeddings.weight"
        ends = np.cumsum([len(ids) for ids in sentences])
        parts = [slice(end - len(ids), end) for end, ids in zip(ends, sentences)]
        positions = np.concatenate([np.arange(len(ids)) for ids in sentences])
        x = t[table.format("word")][np.concatenate(sentences)] + t[table.format("position")][positions]
        x = self.norm(x + t[table.format("token_type")][0], "embeddings")
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}"
            attended = self.attention(x, f"{at}.attention.self", parts)
            x = self.norm(x + self.linear(attended, f"{at}.attention.output.dense"), f"{at}.attention.output")
            h = self.linear(x, f"{at}.intermediate.dense")
            h = h * 0.5 * (1 + erf(h / math.sqrt(2)))
            x = self.norm(x + self.linear(h, f"{at}.output.dense"), f"{at}.output")
        means = [x[part].mean(0) for part in parts]
        return [(x[part], mean / np.linalg.norm(mean)) for part, mean in zip(parts, means)]
