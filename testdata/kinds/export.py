#!/usr/bin/env python3
"""export.py --out DIR [NAME...] [--exporter legacy|dynamo] [--list]

Exports models of many kinds, made from configurations with random weights, with both ONNX exporters of PyTorch. Each becomes a folder
DIR/NAME.EXPORTER with model.onnx and, for each of two extents of its dynamic axes, SET/input/*.npy and SET/output/*.npy: what ONNX Runtime
computes with every graph optimisation disabled. What cannot be exported is reported and left out.

An entry of models.py is a name, what makes the model, its inputs, and options: `opset` (legacy, dynamo), `attn` (eager, sdpa), `static`.
"""
import argparse, os, shutil, sys, time, traceback, warnings
import numpy as np
import torch
import models

FIRST = dict(B=2, S=9, P=5, E=12, H=64, W=64, F=40)
SECOND = dict(B=3, S=14, P=11, E=7, H=96, W=64, F=57)


def randomise(model):
    """Gives parameters and statistics that no exporter can fold because they are one or zero."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                p.add_(torch.randn(p.shape, generator=g) * (0.05 if p.dim() < 2 else 0.01))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=g) * 0.1)
            elif name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=g) + 0.5)
    return model.eval()


def extent(d, sizes):
    """An extent: a number, a symbol, or a sum of symbols such as `P+S`."""
    return d if isinstance(d, int) else sum(sizes[s] for s in d.split("+"))


def make_inputs(inputs, sizes, seed=0):
    """name -> array; a kind is f (normal), i<n> (below n), ones, arange, mask (some zeros at the end)"""
    g, made = np.random.default_rng(seed), {}
    for name, (kind, *shape) in inputs.items():
        shape = [extent(d, sizes) for d in shape]
        if kind == "f":
            a = g.standard_normal(shape).astype(np.float32)
        elif kind == "ones":
            a = np.ones(shape, np.int64)
        elif kind == "mask":
            a = np.ones(shape, np.int64)
            a[0, -2:] = 0
        elif kind == "leftmask":
            a = np.ones(shape, np.int64)
            a[0, :2] = 0
        elif kind == "arange":
            a = np.broadcast_to(np.arange(shape[-1]) + sizes["P"] * (name == "position_ids_past"), shape).astype(np.int64).copy()
        else:
            a = g.integers(0, int(kind[1:]), shape).astype(np.int64)
        made[name] = a
    return made


class Positional(torch.nn.Module):
    """A model that is called by position and returns its tensors as one flat tuple."""

    def __init__(self, model, call, names):
        super().__init__()
        self.model, self.call, self.names = model, call, names

    def forward(self, *args):
        return tuple(models.flat(self.call(self.model, dict(zip(self.names, args)))))


def axes_of(inputs):
    found = {n: {i: d.replace("+", "_") for i, d in enumerate(s) if isinstance(d, str)} for n, (_, *s) in inputs.items()}
    return {n: a for n, a in found.items() if a}


def export(entry, exporter, path):
    model = Positional(randomise(entry["make"]()), entry["call"], list(entry["inputs"]))
    args = tuple(torch.from_numpy(a) for a in make_inputs(entry["inputs"], FIRST).values())
    names, dynamic = list(entry["inputs"]), not entry.get("static")
    with torch.no_grad():
        outputs = [f"out{i}" for i in range(len(model(*args)))]
        common = dict(input_names=names, output_names=outputs)
        if exporter == "legacy":
            common["dynamic_axes"] = axes_of(entry["inputs"]) if dynamic else None
            try:
                torch.onnx.export(model, args, path, dynamo=False, opset_version=entry["opset"][0], **common)
            except torch.onnx.errors.UnsupportedOperatorError:
                torch.onnx.export(model, args, path, dynamo=False, opset_version=20, **common)
        else:
            axes = axes_of(entry["inputs"])
            shapes = {"args": tuple(axes.get(n, {}) for n in names)} if dynamic else None
            torch.onnx.export(model, args, path, dynamo=True, opset_version=entry["opset"][1], dynamic_shapes=shapes, verbose=False,
                              external_data=False, **common)


def reference(entry, folder):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    for number, sizes in enumerate([FIRST] if entry.get("static") else [FIRST, SECOND]):
        feed = {n: a for n, a in make_inputs(entry["inputs"], sizes, number).items() if n in wanted}
        made = session.run(None, feed)
        for part, arrays in (("input", feed), ("output", dict(zip([o.name for o in session.get_outputs()], made)))):
            os.makedirs(os.path.join(folder, str(number), part))
            for name, array in arrays.items():
                np.save(os.path.join(folder, str(number), part, name + ".npy"), array)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("names", nargs="*")
    ap.add_argument("--out", default="/tmp/kinds")
    ap.add_argument("--exporter", choices=["legacy", "dynamo"])
    ap.add_argument("--list", action="store_true")
    a = ap.parse_args()
    if a.list:
        print(*models.MODELS, sep="\n")
        return
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in a.names or models.MODELS:
        for exporter in [a.exporter] if a.exporter else ["legacy", "dynamo"]:
            folder, begun = os.path.join(a.out, f"{name}.{exporter}"), time.time()
            if os.path.exists(os.path.join(folder, "0", "output")) and not a.names:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            try:
                torch.manual_seed(0)
                export(models.MODELS[name], exporter, os.path.join(folder, "model.onnx"))
                reference(models.MODELS[name], folder)
                print(f"{name}.{exporter}: {time.time() - begun:.1f} s", flush=True)
            except Exception as e:
                traceback.print_exc(file=open(os.path.join(folder, "error.txt"), "w"))
                print(f"{name}.{exporter}: {type(e).__name__}: {str(e).strip().splitlines()[0][:150] if str(e).strip() else ''}", flush=True)


if __name__ == "__main__":
    main()
