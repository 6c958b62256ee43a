#!/usr/bin/env python3
"""experts.py --autoglm PATH --out DIR [--tokens 1,128] [--experts 8 --chosen 2 --hidden 512 --inner 1024] [--runs 20] [--threads 1]

A mixture of experts in the forms that exporters write, with the `onnx` package, compared with ONNX Runtime:
    sums      gathered weights [e,out,in], Einsum: gpt-fast through the TorchScript exporter
    bmm       the same as matrix products, as PyTorch decomposes Einsum
    left      gathered weights on the left, with biases: the reference of GPT-OSS
    products  gathered weights [e,in,out], one row for each choice
    dense     every expert for every token, weighed by zeros: transformers, for export
For each number of tokens the engine's result is compared with ONNX Runtime's without optimisations (exit 1 if they differ by more than
1e-4 x std), and one line says milliseconds of a run (the median) and MiB at the peak, of the engine, the engine of `--no-opt`, and ONNX
Runtime. Each has a process of its own; memory is its resident set, weights included, for ONNX Runtime less what Python has before a session.
"""
import argparse, json, os, subprocess, sys, time
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FORMS = ["sums", "bmm", "left", "products", "dense"]


class Graph:
    def __init__(self, args):
        self.a, self.nodes, self.weights, self.random = args, [], [], np.random.default_rng(1)

    def weight(self, *shape):
        name = f"w{len(self.weights)}"
        data = self.random.standard_normal(shape, dtype=np.float32) / np.float32(shape[-1]) ** 0.5
        self.weights.append(numpy_helper.from_array(data, name))
        return name

    def ints(self, *values):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def op(self, kind, *inputs, outs=1, **attrs):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"/{kind}_{len(self.nodes)}", **attrs))
        return names[0] if outs == 1 else names

    def gather(self, w, i):
        return self.op("Gather", w, i, axis=0)

    def einsum(self, equation, *inputs):
        return self.op("Einsum", *inputs, equation=equation)

    def gated(self, a, b):
        return self.op("Mul", self.op("Mul", a, self.op("Sigmoid", a)), b)

    def router(self):
        a = self.a
        p = self.op("Softmax", self.op("MatMul", "x", self.weight(a.hidden, a.experts)), axis=-1)
        values, index = self.op("TopK", p, self.ints(a.chosen), outs=2, axis=-1)
        return p, index, self.op("Div", values, self.op("ReduceSum", values, self.ints(-1), keepdims=1))

    def turned(self, w, perm):
        return self.op("Transpose", w, perm=perm)

    def sums(self):
        a, (_, i, q) = self.a, self.router()
        w1, w3, w2 = (self.gather(self.weight(a.experts, *s), i) for s in [(a.inner, a.hidden)] * 2 + [(a.hidden, a.inner)])
        h = self.gated(self.einsum("ti,taoi->tao", "x", w1), self.einsum("ti,taoi->tao", "x", w3))
        return self.einsum("tai,ta->ti", self.einsum("tao,taio->tai", h, w2), q)

    def bmm(self):
        a, (_, i, q) = self.a, self.router()
        w1, w3, w2 = (self.gather(self.weight(a.experts, *s), i) for s in [(a.inner, a.hidden)] * 2 + [(a.hidden, a.inner)])
        row = self.op("Unsqueeze", "x", self.ints(1))
        wide = self.ints(0, a.chosen * a.inner, a.hidden)
        split = self.ints(-1, a.chosen, a.inner)
        up = lambda w: self.op("Reshape", self.op("MatMul", row, self.turned(self.op("Reshape", w, wide), [0, 2, 1])), split)
        h = self.op("Reshape", self.gated(up(w1), up(w3)), self.ints(-1, 1, a.inner))
        down = self.turned(self.op("Reshape", w2, self.ints(-1, a.hidden, a.inner)), [0, 2, 1])
        o = self.op("Reshape", self.op("MatMul", h, down), self.ints(-1, a.chosen, a.hidden))
        return self.op("Squeeze", self.op("MatMul", self.op("Unsqueeze", q, self.ints(1)), o), self.ints(1))

    def left(self):
        a, (_, i, q) = self.a, self.router()
        w1, w3, w2 = (self.gather(self.weight(a.experts, *s), i) for s in [(a.inner, a.hidden)] * 2 + [(a.hidden, a.inner)])
        b1, b2 = (self.gather(self.weight(a.experts, s), i) for s in [a.inner, a.hidden])
        h = self.gated(self.op("Add", self.einsum("beck,bk->bec", w1, "x"), b1), self.einsum("beck,bk->bec", w3, "x"))
        return self.einsum("bec,be->bc", self.op("Add", self.einsum("beck,bek->bec", w2, h), b2), q)

    def products(self):
        a, (_, i, q) = self.a, self.router()
        w1, w3, w2 = (self.gather(self.weight(a.experts, *s), i) for s in [(a.hidden, a.inner)] * 2 + [(a.inner, a.hidden)])
        row = self.op("Unsqueeze", "x", self.ints(1, 2))
        o = self.op("MatMul", self.gated(self.op("MatMul", row, w1), self.op("MatMul", row, w3)), w2)
        part = self.op("Mul", self.op("Squeeze", o, self.ints(2)), self.op("Unsqueeze", q, self.ints(-1)))
        return self.op("ReduceSum", part, self.ints(1), keepdims=0)

    def dense(self):
        a, (p, i, q) = self.a, self.router()
        w1, w3, w2 = (self.weight(a.experts, *s) for s in [(a.hidden, a.inner)] * 2 + [(a.inner, a.hidden)])
        all_rows = self.op("ScatterElements", self.op("ConstantOfShape", self.op("Shape", p)), i, q, axis=1)
        row = self.op("Unsqueeze", "x", self.ints(0))
        o = self.op("MatMul", self.gated(self.op("MatMul", row, w1), self.op("MatMul", row, w3)), w2)
        part = self.op("Mul", o, self.op("Unsqueeze", self.turned(all_rows, [1, 0]), self.ints(-1)))
        return self.op("ReduceSum", part, self.ints(0), keepdims=0)

    def model(self, form):
        self.op("Identity", getattr(self, form)())
        self.nodes[-1].output[0] = "y"
        dims = ["tokens", self.a.hidden]
        of = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        graph = helper.make_graph(self.nodes, form, [of("x")], [of("y")], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        return model


ORT = """
import json, re, sys, time
import numpy as np, onnxruntime as ort
model, x, out, threads, runs, optimise = sys.argv[1:]
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, times = peak(), []
o = ort.SessionOptions()
o.intra_op_num_threads = int(threads)
if optimise == "0":
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
s = ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])
x = np.load(x)
for _ in range(int(runs) + 1):
    t = time.perf_counter()
    y = s.run(None, {"x": x})[0]
    times.append((time.perf_counter() - t) * 1e3)
np.save(out, y)
print(json.dumps([float(np.median(times[1:])), (peak() - before) / 1024]))
"""


def ort(model, x, out, args, optimise):
    command = [sys.executable, "-c", ORT, model, x, out, str(args.threads), str(args.runs if optimise else 0), str(int(optimise))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def autoglm(engine, x, out, args):
    options = ["-i", f"x=@{x}", "--threads", str(args.threads)]
    subprocess.run([args.autoglm, "run", engine, "-o", out, *options], check=True, capture_output=True)
    command = [args.autoglm, "bench", engine, "--worker", *options]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first = json.loads(worker.stdout.readline())
    worker.stdin.write(f"{args.runs}\n")
    worker.stdin.flush()
    times = json.loads(worker.stdout.readline())
    worker.stdin.write("q\n")
    worker.stdin.close()
    worker.wait()
    return float(np.median(times)) / 1e6, first["rss_peak_kb"] / 1024


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--autoglm", required=True)
    parse.add_argument("--out", required=True)
    parse.add_argument("--tokens", default="1,128")
    parse.add_argument("--forms", default=",".join(FORMS))
    for name, value in [("experts", 8), ("chosen", 2), ("hidden", 512), ("inner", 1024), ("runs", 20), ("threads", 1)]:
        parse.add_argument(f"--{name}", type=int, default=value)
    args = parse.parse_args()
    os.makedirs(args.out, exist_ok=True)
    failed = False
    for form in args.forms.split(","):
        path = lambda name: os.path.join(args.out, name)
        model, engine, plain = path(f"{form}.onnx"), path(f"{form}.bin"), path(f"{form}-no-opt.bin")
        onnx.save(Graph(args).model(form), model)
        for out, options in [(engine, []), (plain, ["--no-opt"])]:
            subprocess.run([args.autoglm, "compile", model, "-o", out, *options], check=True, capture_output=True)
        for tokens in map(int, args.tokens.split(",")):
            x = path("x.npy")
            np.save(x, np.random.default_rng(tokens).standard_normal((tokens, args.hidden), dtype=np.float32))
            ort(model, x, path("want.npy"), args, False)
            want = np.load(path("want.npy"))
            figures, worst = {"ort": ort(model, x, path("ort.npy"), args, True)}, 0.0
            for name, e in [("autoglm", engine), ("no-opt", plain)]:
                figures[name] = autoglm(e, x, path("got"), args)
                got = np.load(os.path.join(path("got"), "y.npy"))
                worst = max(worst, float(np.abs(got - want).max() / want.std()))
            failed |= not worst <= 1e-4
            told = ", ".join(f"{name} {ms:.2f} ms {mib:.0f} MiB" for name, (ms, mib) in sorted(figures.items()))
            print(f"{form:9} {tokens:5} tokens: error {worst:.1e} x std; {told}", flush=True)
    sys.exit(int(failed))


main()
