"""Writes the eval filetests of this folder: inputs, and outputs as numpy and the ONNX reference evaluator give them.

Needs the packages numpy, onnx and ml_dtypes. Run it in this folder. Floats are computed in f64 and rounded once, which is
what the interpreter promises.
"""

import numpy as np
import onnx
from math import erf
from onnx import helper
from onnx.reference import ReferenceEvaluator

NAMES = {np.float32: "f32", np.float64: "f64", np.float16: "f16", np.int64: "i64", np.int32: "i32", np.int8: "i8",
         np.uint8: "u8", np.uint32: "u32", np.bool_: "bool"}


def element(v, kind):
    if kind.startswith("f"):
        if np.isnan(v):
            return "nan"
        if np.isinf(v):
            return "inf" if v > 0 else "-inf"
        wide = v if kind in ("f32", "f64") else np.float64(v)
        if abs(wide) >= 1e16:
            return np.format_float_scientific(wide, unique=True, trim="-", exp_digits=1).replace("e+", "e")
        return np.format_float_positional(wide, unique=True, trim="-")
    return str(int(v))


def tensor(a):
    kind = NAMES[a.dtype.type]
    return f"{kind}[{','.join(map(str, a.shape))}] [{', '.join(element(v, kind) for v in a.reshape(-1))}]"


def onnx_run(op, inputs, opset=22, outputs=1, **attrs):
    """Outputs of one ONNX operator; floats go through f64."""
    kinds = [a.dtype for a in inputs]
    wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in inputs]
    names = [f"x{i}" for i in range(len(wide))]
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for n, a in zip(names, wide)]
    outs = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, outs, **attrs)
    graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info(o) for o in outs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    found = ReferenceEvaluator(model).run(None, dict(zip(names, wide)))
    return [f.astype(np.float32) if f.dtype == np.float64 and np.float32 in [k.type for k in kinds] else f for f in found]


def f64(f, *inputs):
    """Outputs of a numpy function of floats, computed in f64."""
    with np.errstate(all="ignore"):
        return [np.asarray(f(*[a.astype(np.float64) for a in inputs])).astype(inputs[0].dtype)]


def plain(f, *inputs):
    with np.errstate(all="ignore"):
        return [np.asarray(f(*inputs))]


class File:
    def __init__(self, name):
        self.name, self.cases = name, []

    def case(self, name, body, inputs, outputs, results=1):
        params = ", ".join(f"%x{i}: {NAMES[a.dtype.type]}[{','.join(map(str, a.shape))}]" for i, a in enumerate(inputs))
        made = ", ".join(f"%{i}" for i in range(results))
        lines = [f"graph @{name} ({params}) {{", f"  {made} = {body}", f"  return {made}", "}"]
        lines += [f"; in {tensor(a)}" for a in inputs] + [f"; out {tensor(np.asarray(o))}" for o in outputs]
        self.cases.append("\n".join(lines))

    def write(self):
        with open(f"{self.name}.agir", "w") as f:
            f.write("test eval\n\n" + "\n\n".join(self.cases) + "\n")


random = np.random.default_rng(1)


def quarters(*shape, dtype=np.float32):
    return (random.integers(-8, 9, shape) / 4).astype(dtype)


def ints(*shape, low=-5, high=6, dtype=np.int64):
    return random.integers(low, high, shape).astype(dtype)


def elementwise():
    f = File("elementwise")
    x = np.array([-2.5, -1.5, -0.5, -0.0, 0.0, 0.25, 0.5, 1.5, 2.5, np.nan, np.inf, -np.inf], np.float32)
    for op, fn in [("abs", np.abs), ("neg", np.negative), ("sign", np.sign), ("ceil", np.ceil), ("floor", np.floor),
                   ("round", np.rint), ("sqrt", np.sqrt), ("reciprocal", np.reciprocal), ("exp", np.exp), ("log", np.log),
                   ("erf", np.vectorize(erf)), ("sin", np.sin), ("cos", np.cos), ("tan", np.tan), ("asin", np.arcsin),
                   ("acos", np.arccos), ("atan", np.arctan), ("sinh", np.sinh), ("cosh", np.cosh), ("tanh", np.tanh),
                   ("asinh", np.arcsinh), ("acosh", np.arccosh), ("atanh", np.arctanh),
                   ("sigmoid", lambda v: 1 / (1 + np.exp(-v)))]:
        f.case(op, f"{op} %x0", [x], f64(fn, x))
    i = np.array([-128, -3, 0, 3, 127], np.int8)
    f.case("abs_i8", "abs %x0", [i], plain(np.abs, i))
    f.case("neg_i8", "neg %x0", [i], plain(np.negative, i))
    f.case("sign_i8", "sign %x0", [i], plain(np.sign, i))
    f.case("bit_not_i8", "bit_not %x0", [i], plain(np.invert, i))
    b = np.array([True, False])
    f.case("not", "not %x0", [b], plain(np.logical_not, b))
    f.case("is_nan", "is_nan %x0", [x], plain(np.isnan, x))
    f.case("is_inf", "is_inf %x0 {positive=1, negative=1}", [x], plain(np.isinf, x))
    f.case("is_positive_inf", "is_inf %x0 {positive=1}", [x], plain(np.isposinf, x))
    f.write()


def binary():
    f = File("binary")
    a = np.array([[7, -7, 7, -7], [0.5, 0, 3, -2]], np.float32)
    b = np.array([3, 3, -3, -3], np.float32)
    nan = np.array([1, np.nan, np.inf, -1], np.float32)
    for op, fn in [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide), ("mod", np.mod),
                   ("pow", np.power), ("max", np.maximum), ("min", np.minimum)]:
        f.case(op, f"{op} %x0, %x1", [a, b], f64(fn, a, b))
    f.case("fmod", "mod %x0, %x1 {fmod=1}", [a, b], f64(np.fmod, a, b))
    f.case("max_nan", "max %x0, %x1", [nan, b], f64(np.maximum, nan, b))
    f.case("min_nan", "min %x0, %x1", [b, nan], f64(np.minimum, b, nan))
    i, j = np.array([[127, -128, 7, -7]], np.int8), np.array([[2], [-3], [127]], np.int8)
    for op, fn in [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("mod", np.mod), ("max", np.maximum),
                   ("bit_and", np.bitwise_and), ("bit_or", np.bitwise_or), ("bit_xor", np.bitwise_xor)]:
        f.case(f"{op}_i8", f"{op} %x0, %x1", [i, j], plain(fn, i, j))
    f.case("fmod_i8", "mod %x0, %x1 {fmod=1}", [i, j], plain(np.fmod, i, j))
    f.case("div_i8", "div %x0, %x1", [i, j], [np.trunc(i.astype(float) / j).astype(np.int64).astype(np.int8)])
    f.case("pow_i8", "pow %x0, %x1", [i, np.array([3], np.int8)], plain(np.power, i, np.array([3], np.int8)))
    u, s = np.array([1, 0x80000001, 7], np.uint32), np.array([3, 1, 31], np.uint32)
    f.case("shl", "shl %x0, %x1", [u, s], plain(np.left_shift, u, s))
    f.case("shr", "shr %x0, %x1", [u, s], plain(np.right_shift, u, s))
    p, q = np.array([[True], [False]]), np.array([True, False])
    for op, fn in [("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor), ("eq", np.equal)]:
        f.case(f"{op}_bool", f"{op} %x0, %x1", [p, q], plain(fn, p, q))
    for op, fn in [("eq", np.equal), ("lt", np.less), ("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal)]:
        f.case(op, f"{op} %x0, %x1", [nan, np.array([1, 1, 1, 1], np.float32)], plain(fn, nan, np.float32(1)))
        f.case(f"{op}_i8", f"{op} %x0, %x1", [i, j], plain(fn, i, j))
    c, t, e = np.array([[True], [False]]), quarters(3), quarters(2, 3)
    f.case("select", "select %x0, %x1, %x2", [c, t, e], plain(np.where, c, t, e))
    f.write()


def cast():
    f = File("cast")
    x = np.array([-2.7, -0.5, 0.0, 0.5, 2.7, 300.0, 65519.0, 65520.0, 1e6], np.float32)
    for to in [np.float64, np.float16, np.bool_]:
        f.case(f"f32_{NAMES[to]}", f"cast %x0 {{to={NAMES[to]}}}", [x], plain(lambda v: v.astype(to), x))
    f.case("f32_i64", "cast %x0 {to=i64}", [x], [x.astype(np.int64)])
    f.case("f32_i8", "cast %x0 {to=i8}", [x], [x.astype(np.int64).astype(np.int8)])
    i = np.array([-(2**63), -300, -1, 0, 16777217, 2**53 + 1, 2**63 - 1], np.int64)
    for to in [np.float32, np.int32, np.uint8, np.bool_]:
        f.case(f"i64_{NAMES[to]}", f"cast %x0 {{to={NAMES[to]}}}", [i], [i.astype(to)])
    import ml_dtypes
    y = np.array([0.0, -0.0, 0.0009, 0.3, 1.0625, 17.0, 240.0, 447.0, -448.0, 464.0, 57344.0], np.float32)
    for name, to in [("f8e4m3fn", ml_dtypes.float8_e4m3fn), ("f8e5m2", ml_dtypes.float8_e5m2), ("bf16", ml_dtypes.bfloat16)]:
        graph = [f"graph @through_{name} (%x0: f32[{y.size}]) {{", f"  %0 = cast %x0 {{to={name}, wrap_overflow=1}}",
                 "  %1 = cast %0 {to=f32}", "  return %1", "}", f"; in {tensor(y)}",
                 f"; out {tensor(y.astype(to).astype(np.float32))}"]
        f.cases.append("\n".join(graph))
    f.write()


def reduce():
    f = File("reduce")
    x, i, i8 = quarters(2, 3, 4), ints(2, 3), ints(3, 4, low=-128, high=128, dtype=np.int8)
    axes = np.array([0, 2], np.int64)
    for op, name in [("sum", "ReduceSum"), ("prod", "ReduceProd"), ("max", "ReduceMax"), ("min", "ReduceMin")]:
        f.case(op, f"reduce_{op} %x0 {{axes=[0,2], keepdims=1}}", [x], onnx_run(name, [x, axes], keepdims=1))
        f.case(f"{op}_all", f"reduce_{op} %x0 {{axes=[0,1], keepdims=0}}", [i],
               onnx_run(name, [i, np.array([0, 1], np.int64)], keepdims=0))
    f.case("sum_wraps", "reduce_sum %x0 {axes=[1], keepdims=0}", [i8], [i8.sum(1, dtype=np.int8)])
    empty = np.zeros((2, 0), np.float32)
    for op, v in [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)]:
        f.case(f"{op}_empty", f"reduce_{op} %x0 {{axes=[1], keepdims=0}}", [empty], [np.full(2, v, np.float32)])
    ties = ints(3, 5, low=0, high=3)
    for op, name in [("arg_max", "ArgMax"), ("arg_min", "ArgMin")]:
        for last in [0, 1]:
            for axis in [0, 1]:
                f.case(f"{op}_{last}_{axis}", f"{op} %x0 {{axis={axis}, keepdims={axis}, last={last}}}", [ties],
                       onnx_run(name, [ties], axis=axis, keepdims=axis, select_last_index=last))
    for axis in [0, 1]:
        for exclusive in [0, 1]:
            for reverse in [0, 1]:
                f.case(f"cum_sum_{axis}{exclusive}{reverse}",
                       f"cum_sum %x0 {{axis={axis}, exclusive={exclusive}, reverse={reverse}}}", [i],
                       onnx_run("CumSum", [i, np.int64(axis).reshape(())], exclusive=exclusive, reverse=reverse))
    f.write()


def contraction():
    f = File("contraction")
    for name, a, b in [("plain", (2, 3), (3, 4)), ("batches", (2, 1, 2, 3), (3, 3, 2)), ("shared", (2, 2, 3), (3, 1))]:
        x, y = quarters(*a), quarters(*b)
        f.case(f"matmul_{name}", "matmul %x0, %x1", [x, y], f64(np.matmul, x, y))
    i, j = ints(2, 3, low=-128, high=128, dtype=np.int8), ints(3, 2, low=-128, high=128, dtype=np.int8)
    f.case("matmul_wraps", "matmul %x0, %x1", [i, j], plain(np.matmul, i, j))
    convs = [("plain", (1, 2, 4, 4), (3, 2, 3, 3), [1, 1], [1, 1], [0, 0, 0, 0], 1, True),
             ("strided", (2, 2, 5, 4), (2, 2, 3, 2), [2, 1], [1, 1], [1, 0, 1, 1], 1, False),
             ("grouped", (1, 4, 3, 3), (4, 2, 2, 2), [1, 1], [1, 1], [0, 1, 1, 0], 2, True),
             ("depthwise", (1, 3, 4, 4), (3, 1, 3, 3), [1, 1], [1, 1], [1, 1, 1, 1], 3, False),
             ("dilated", (1, 1, 6, 6), (1, 1, 2, 3), [1, 2], [3, 2], [0, 0, 0, 1], 1, True),
             ("one_axis", (2, 2, 7), (3, 2, 3), [2], [2], [1, 2], 1, True),
             ("three_axes", (1, 1, 3, 4, 3), (2, 1, 2, 2, 2), [1, 1, 1], [1, 1, 1], [0, 1, 0, 0, 0, 1], 1, False)]
    for name, xs, ws, strides, dilations, pads, groups, has_bias in convs:
        x, w = quarters(*xs), quarters(*ws)
        inputs = [x, w] + ([quarters(ws[0])] if has_bias else [])
        args = ", ".join(f"%x{i}" for i in range(len(inputs)))
        lists = f"strides={strides}, dilations={dilations}, pads={pads}, groups={groups}".replace(", ", ",")
        lists = lists.replace("],", "], ")
        out = onnx_run("Conv", inputs, strides=strides, dilations=dilations, pads=pads, group=groups, kernel_shape=ws[2:])
        f.case(f"conv_{name}", f"conv {args} {{{lists}}}", inputs, out)
        last = [np.ascontiguousarray(np.moveaxis(x, 1, -1))] + inputs[1:]
        f.case(f"conv_{name}_nhwc", f"conv {args} {{{lists}, layout=nhwc}}", last, [np.moveaxis(out[0], 1, -1)])
    f.write()


def window():
    f = File("window")
    pools = [("plain", (1, 2, 4, 4), [2, 2], [2, 2], [1, 1], [0, 0, 0, 0], 0),
             ("padded", (1, 1, 5, 5), [3, 3], [2, 2], [1, 1], [1, 1, 1, 1], 0),
             ("ceil", (1, 1, 6, 5), [3, 2], [2, 2], [1, 1], [0, 0, 0, 0], 1),
             ("ceil_padded", (1, 1, 6, 6), [3, 3], [2, 2], [1, 1], [1, 1, 1, 1], 1),
             ("dilated", (1, 1, 5, 6), [2, 2], [1, 1], [2, 3], [0, 0, 0, 0], 0),
             ("one_axis", (2, 1, 7), [3], [3], [1], [1, 0], 1)]
    for name, xs, kernel, strides, dilations, pads, ceil in pools:
        x = quarters(*xs)
        attrs = dict(kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, ceil_mode=ceil)
        text = f"kernel={kernel}, strides={strides}, dilations={dilations}, pads={pads}".replace(", ", ",").replace("],", "], ")
        text += f", ceil={ceil}"
        f.case(f"max_{name}", f"max_pool %x0 {{{text}}}", [x], onnx_run("MaxPool", [x], **attrs))
        for include in [0, 1]:
            out = onnx_run("AveragePool", [x], count_include_pad=include, **attrs)
            f.case(f"avg_{name}_{include}", f"avg_pool %x0 {{{text}, include_pad={include}}}", [x], out)
            last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
            f.case(f"avg_{name}_{include}_nhwc", f"avg_pool %x0 {{{text}, include_pad={include}, layout=nhwc}}", [last],
                   [np.moveaxis(out[0], 1, -1)])
    f.write()


def norm():
    f = File("norm")
    x, scale, bias = quarters(2, 3, 4), quarters(4), quarters(4)
    f.case("softmax", "softmax %x0", [x], onnx_run("Softmax", [x], axis=-1))
    f.case("log_softmax", "softmax %x0 {log=1}", [x], onnx_run("LogSoftmax", [x], axis=-1))
    big = np.array([1000, 1001, -1000], np.float32)
    f.case("softmax_large", "softmax %x0", [big], onnx_run("Softmax", [big], axis=-1))

    def layer(v, s, b):
        centred = v - v.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * s + b

    f.case("layer_norm", "layer_norm %x0, %x1, %x2 {epsilon=1e-5}", [x, scale, bias], f64(layer, x, scale, bias))
    f.case("rms_norm", "layer_norm %x0, %x1 {epsilon=1e-5, rms=1}", [x, scale],
           f64(lambda v, s: v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-5) * s, x, scale))
    f.write()


def movement():
    f = File("movement")
    x = ints(2, 3, 4)
    f.case("reshape", "reshape %x0 {shape=[4,6]}", [x], [x.reshape(4, 6)])
    for perm in [(1, 0, 2), (2, 1, 0), (0, 2, 1)]:
        f.case("transpose_" + "".join(map(str, perm)), f"transpose %x0 {{perm={list(perm)}}}", [x], [x.transpose(perm)])
    y = quarters(3, 1)
    f.case("expand", "expand %x0 {shape=[2,3,2]}", [y], [np.broadcast_to(y, (2, 3, 2))])
    f.case("slice", "slice %x0 {starts=[0,1,3], sizes=[2,2,2], steps=[1,1,-2]}", [x], [x[:, 1:3, 3::-2]])
    f.case("slice_empty", "slice %x0 {starts=[0,3,0], sizes=[2,0,4], steps=[1,1,1]}", [x], [x[:, 3:, :]])
    a, b = quarters(2, 1, 2), quarters(2, 3, 2)
    f.case("concat", "concat %x0, %x1, %x0 {axis=1}", [a, b], [np.concatenate([a, b, a], 1)])
    z, v = quarters(2, 3), np.array(9.5, np.float32)
    f.case("pad", "pad %x0, %x1 {before=[1,0], after=[0,2]}", [z, v],
           [np.pad(z, [(1, 0), (0, 2)], constant_values=9.5)])
    f.case("pad_and_cut", "pad %x0, %x1 {before=[-1,1], after=[1,-2]}", [z, v],
           [np.pad(z[1:, :1], [(0, 1), (1, 0)], constant_values=9.5)])
    f.case("pad_cuts_all", "pad %x0, %x1 {before=[-2,0], after=[3,0]}", [z, v], [np.full((3, 3), 9.5, np.float32)])
    ties = ints(3, 5, low=0, high=4)
    for largest in [0, 1]:
        out = onnx_run("TopK", [ties, np.array([3], np.int64)], outputs=2, axis=1, largest=largest)
        f.case(f"top_k_{largest}", f"top_k %x0 {{k=[3], axis=1, largest={largest}, sorted=1}}", [ties], out, results=2)
    f.case("dims", "dims {values=[3,-1], shape=[2,1], to=f32}", [], [np.array([[3], [-1]], np.float32)])
    f.case("iota", "iota {shape=[2,3], axis=1, to=i32}", [], [np.array([[0, 1, 2]] * 2, np.int32)])
    f.write()


def gather():
    f = File("gather")
    x, index = quarters(3, 4), np.array([[0, -1], [1, 1]], np.int64)
    for axis in [0, 1]:
        f.case(f"gather_{axis}", f"gather %x0, %x1 {{axis={axis}}}", [x, index], [np.take(x, index, axis)])
    for axis, shape in [(0, (2, 4)), (1, (3, 2))]:
        e = ints(*shape, low=-3, high=3)
        f.case(f"elements_{axis}", f"gather_elements %x0, %x1 {{axis={axis}}}", [x, e],
               [np.take_along_axis(x, e % x.shape[axis], axis)])
    y = quarters(2, 3, 2)
    for batch, nd in [(0, np.array([[0, 1], [-1, -3]])), (1, np.array([[[2], [0]], [[-1], [1]]])),
                      (0, np.array([[1, 2, 0]])), (2, np.array([[[0], [1], [0]], [[1], [1], [-2]]]))]:
        f.case(f"nd_{batch}_{nd.shape[-1]}", f"gather_nd %x0, %x1 {{batch_dims={batch}}}", [y, nd],
               onnx_run("GatherND", [y, nd], batch_dims=batch))
    for mode in ["none", "add", "mul", "max", "min"]:
        attr = "" if mode == "none" else f", mode={mode}"
        places = np.array([[1, 0, 2], [1, 2, -3]], np.int64) if mode != "none" else np.array([[1, 0, 2], [0, 2, -2]], np.int64)
        updates = quarters(2, 3)
        f.case(f"scatter_elements_{mode}", f"scatter_elements %x0, %x1, %x2 {{axis=0{attr}}}", [x, places, updates],
               onnx_run("ScatterElements", [x, places, updates], axis=0, reduction=mode))
        spots = np.array([[2], [0]] if mode == "none" else [[2], [2]], np.int64)
        rows = quarters(2, 4)
        attr = "" if mode == "none" else f" {{mode={mode}}}"
        f.case(f"scatter_nd_{mode}", f"scatter_nd %x0, %x1, %x2{attr}", [x, spots, rows],
               onnx_run("ScatterND", [x, spots, rows], reduction=mode))
    for name, a, index in [("slots", (2, 1, 1, 3), [[0, -1], [3, 0]]), ("rows", (2, 3), [1, 1, -4])]:
        x, w, index = quarters(*a), quarters(4, 3, 2), np.array(index)
        f.case(f"matmul_{name}", "gather_matmul %x0, %x1, %x2", [x, w, index], f64(np.matmul, x, w[index]))
    f.write()


FUNCTIONS = {
    "sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)), "tanh": lambda x, a, b: np.tanh(x), "relu": lambda x, a, b: np.maximum(x, 0),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1), "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x), "thresholded_relu": lambda x, a, b: np.where(x >= a, x, 0),
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x), "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "softsign": lambda x, a, b: x / (1 + abs(x)), "softplus": lambda x, a, b: np.logaddexp(0, x),
}


def steps(cell, x, r, h0, c0=None, bias=None, peepholes=None, lengths=None, reverse=0, clip=np.inf, input_forget=0, **attrs):
    """The equations of the ONNX operators LSTM, GRU and RNN in f64, a row after the other."""
    x, r, h = x.astype(np.float64), r.astype(np.float64), h0.astype(np.float64)
    c = np.zeros_like(h) if c0 is None else c0.astype(np.float64)
    n, (count, batch, _) = h.shape[1], x.shape
    p = np.zeros(3 * n) if peepholes is None else peepholes.astype(np.float64)
    y = np.zeros((count, batch, n))

    def function(name, value):
        wanted = FUNCTIONS[attrs[name]]
        value = value if name == "h" else np.clip(value, -clip, clip)
        return wanted(value, attrs.get(name + "_alpha", 0), attrs.get(name + "_beta", 0))

    def part(v, i):
        return v[i * n:(i + 1) * n]

    for b in range(batch):
        length = count if lengths is None else int(lengths[b])
        for t in range(length)[::-1] if reverse else range(length):
            z = x[t, b] + r @ h[b]
            if cell == "rnn":
                h[b] = function("f", z)
            elif cell == "lstm":
                i = function("f", part(z, 0) + part(p, 0) * c[b])
                f = 1 - i if input_forget else function("f", part(z, 2) + part(p, 2) * c[b])
                c[b] = f * c[b] + i * function("g", part(z, 3))
                h[b] = function("f", part(z, 1) + part(p, 1) * c[b]) * function("h", c[b])
            else:
                update, reset = function("f", part(z, 0)), function("f", part(z, 1))
                if bias is None:
                    new = function("g", part(x[t, b], 2) + part(r, 2) @ (reset * h[b]))
                else:
                    new = function("g", part(x[t, b], 2) + reset * (part(r, 2) @ h[b] + bias))
                h[b] = (1 - update) * new + update * h[b]
            y[t, b] = h[b]
    found = [y, h, c] if cell == "lstm" else [y, h]
    return [v.astype(np.float32) for v in found]


def recurrent():
    f = File("recurrent")
    count, batch, n = 3, 2, 2

    def case(name, cell, lengths=None, **attrs):
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
        inputs = {"x": quarters(count, batch, gates * n), "r": quarters(gates * n, n), "h0": quarters(batch, n)}
        if cell == "lstm":
            inputs["c0"] = quarters(batch, n)
        if attrs.get("linear_before_reset"):
            inputs["bias"] = quarters(n)
        if attrs.get("peepholes"):
            inputs["peepholes"] = quarters(3 * n)
        if lengths is not None:
            inputs["lengths"] = lengths
        usual = {"lstm": {"f": "sigmoid", "g": "tanh", "h": "tanh"}, "gru": {"f": "sigmoid", "g": "tanh"}, "rnn": {"f": "tanh"}}[cell]
        attrs = usual | attrs
        given = {k: v for k, v in attrs.items() if k not in ("peepholes", "linear_before_reset")}
        out = steps(cell, **given, **inputs)
        text = ", ".join([f"cell={cell}"] + [f"{k}={v}" for k, v in attrs.items()])
        args = ", ".join(f"%x{i}" for i in range(len(inputs)))
        f.case(name, f"recurrent {args} {{{text}}}", list(inputs.values()), out, results=len(out))

    case("lstm", "lstm")
    case("lstm_reverse", "lstm", reverse=1)
    case("lstm_peepholes", "lstm", peepholes=1, lengths=np.array([3, 1], np.int32))
    case("lstm_input_forget", "lstm", input_forget=1, clip=0.75, reverse=1, lengths=np.array([0, 2], np.int64))
    case("gru", "gru")
    case("gru_lengths", "gru", reverse=1, clip=0.5, lengths=np.array([2, 0], np.int32))
    case("gru_linear", "gru", linear_before_reset=1)
    case("gru_linear_reverse", "gru", linear_before_reset=1, reverse=1, lengths=np.array([1, 3], np.int32))
    for name in FUNCTIONS:
        case(f"rnn_{name}", "rnn", f=name, f_alpha=0.5, f_beta=0.2)
    case("functions", "lstm", f="hard_sigmoid", f_alpha=0.25, f_beta=0.5, g="softsign", h="elu", h_alpha=0.5)
    f.write()


for family in [elementwise, binary, cast, reduce, contraction, window, norm, movement, gather, recurrent]:
    family()
