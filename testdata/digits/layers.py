"""The layers that train.py needs, forward and backward in numpy, each able to write itself as ONNX nodes.

`forward(x, train)` keeps what `backward(grad)` needs; `backward` gives the gradient of the input and leaves those of the
parameters in `grads`, under the keys of `params`. `statistics` are stored in the model and not learned.
"""
import numpy as np
from onnx import helper

EPSILON = np.float32(1e-5)


class Layer:
    def __init__(self, name, **params):
        self.name, self.params, self.grads, self.statistics = name, params, {}, {}

    def tensors(self):
        return {f"{self.name}.{key}": value for key, value in (self.params | self.statistics).items()}

    def nodes(self, x):
        """(nodes, name of the result) for an input of the name `x`."""
        made = helper.make_node(self.op, [x, *self.tensors()], [self.name], self.name, **self.attributes())
        return [made], self.name

    def attributes(self):
        return {}


class Conv(Layer):
    """Convolution with stride 1 and a border of zeros that keeps the extents; odd window."""

    op = "Conv"

    def __init__(self, name, rng, inputs, outputs, window):
        self.window = window
        weight = he(rng, outputs, inputs, window, window)
        super().__init__(name, weight=weight, bias=np.zeros(outputs, np.float32))

    def attributes(self):
        return {"kernel_shape": [self.window] * 2, "pads": [self.window // 2] * 4}

    def forward(self, x, train):
        n, c, h, w = self.shape = x.shape
        border, size = self.window // 2, (self.window, self.window)
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
        self.columns = np.ascontiguousarray(windows).reshape(n, h, w, -1)
        out = self.columns @ self.params["weight"].reshape(len(self.params["weight"]), -1).T + self.params["bias"]
        return out.transpose(0, 3, 1, 2)

    def backward(self, grad):
        n, c, h, w = self.shape
        weight, k, border = self.params["weight"], self.window, self.window // 2
        rows, flat = np.ascontiguousarray(grad.transpose(0, 2, 3, 1)).reshape(-1, len(weight)), weight.reshape(len(weight), -1)
        columns = self.columns.reshape(-1, flat.shape[1])
        self.grads = {"weight": (rows.T @ columns).reshape(weight.shape), "bias": rows.sum(0)}
        parts = (rows @ flat).reshape(n, h, w, c, k, k)
        grad_x = np.zeros((n, c, h + 2 * border, w + 2 * border), np.float32)
        for i in range(k):
            for j in range(k):
                grad_x[:, :, i:i + h, j:j + w] += parts[..., i, j].transpose(0, 3, 1, 2)
        return grad_x[:, :, border:border + h, border:border + w]


class BatchNorm(Layer):
    op = "BatchNormalization"

    def __init__(self, name, channels):
        super().__init__(name, scale=np.ones(channels, np.float32), shift=np.zeros(channels, np.float32))
        self.statistics = {"mean": np.zeros(channels, np.float32), "variance": np.ones(channels, np.float32)}

    def attributes(self):
        return {"epsilon": float(EPSILON)}

    def forward(self, x, train):
        mean, variance = self.statistics["mean"], self.statistics["variance"]
        if train:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            for key, value in (("mean", mean), ("variance", variance)):
                self.statistics[key] += np.float32(0.1) * (value - self.statistics[key])
        self.inverse = 1.0 / np.sqrt(variance + EPSILON)
        self.normal = (x - channel(mean)) * channel(self.inverse)
        return self.normal * channel(self.params["scale"]) + channel(self.params["shift"])

    def backward(self, grad):
        axes, count = (0, 2, 3), grad.size // grad.shape[1]
        shift, scale = grad.sum(axes), (grad * self.normal).sum(axes)
        self.grads = {"scale": scale, "shift": shift}
        centred = grad - channel(shift / count) - self.normal * channel(scale / count)
        return centred * channel(self.params["scale"] * self.inverse)


class Relu(Layer):
    op = "Relu"

    def forward(self, x, train):
        self.open = x > 0
        return np.maximum(x, 0)

    def backward(self, grad):
        return grad * self.open


class MaxPool(Layer):
    """Windows of 2x2."""

    op = "MaxPool"

    def attributes(self):
        return {"kernel_shape": [2, 2], "strides": [2, 2]}

    def forward(self, x, train):
        n, c, h, w = x.shape
        windows = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        self.winner = windows.argmax(-1)
        return windows.max(-1)

    def backward(self, grad):
        n, c, h, w = grad.shape
        windows = (self.winner[..., None] == np.arange(4)) * grad[..., None]
        return windows.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


class Flatten(Layer):
    op = "Flatten"

    def attributes(self):
        return {"axis": 1}

    def forward(self, x, train):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad):
        return grad.reshape(self.shape)


class Gemm(Layer):
    """A dense layer as PyTorch stores it: weight [outputs, inputs]."""

    op = "Gemm"

    def __init__(self, name, rng, inputs, outputs):
        super().__init__(name, weight=he(rng, outputs, inputs), bias=np.zeros(outputs, np.float32))

    def attributes(self):
        return {"transB": 1}

    def forward(self, x, train):
        self.x = x
        return x @ self.params["weight"].T + self.params["bias"]

    def backward(self, grad):
        self.grads = {"weight": grad.T @ self.x, "bias": grad.sum(0)}
        return grad @ self.params["weight"]


class MatMul(Layer):
    """A dense layer as TensorFlow stores it: MatMul with weight [inputs, outputs], then Add."""

    def __init__(self, name, rng, inputs, outputs):
        super().__init__(name, weight=he(rng, outputs, inputs).T.copy(), bias=np.zeros(outputs, np.float32))

    def nodes(self, x):
        product, weight, bias = f"{self.name}.product", *self.tensors()
        return [helper.make_node("MatMul", [x, weight], [product], product),
                helper.make_node("Add", [product, bias], [self.name], self.name)], self.name

    def forward(self, x, train):
        self.x = x
        return x @ self.params["weight"] + self.params["bias"]

    def backward(self, grad):
        self.grads = {"weight": self.x.T @ grad, "bias": grad.sum(0)}
        return grad @ self.params["weight"].T


class Dropout(Layer):
    """Half of the features, in training only; no node."""

    def __init__(self, name, rng):
        super().__init__(name)
        self.rng = rng

    def nodes(self, x):
        return [], x

    def forward(self, x, train):
        if train:
            self.kept = self.rng.integers(0, 2, x.shape).astype(np.float32) * np.float32(2)
            return x * self.kept
        return x

    def backward(self, grad):
        return grad * self.kept


def he(rng, *shape):
    return (rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))).astype(np.float32)


def channel(v):
    return v[None, :, None, None]
