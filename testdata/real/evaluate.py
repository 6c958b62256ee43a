#!/usr/bin/env python3
"""Compare an engine with the exact one on the held-out runs of a data folder.

    evaluate.py --autoglm A --exact EXACT --engine ENGINE --data DIR [--json FILE|-] [--run-args '--threads 1'] [limits]

EXACT and ENGINE are engines or models that `autoglm run` takes, or folders with the outputs of every run (NNN.npz), such as
DIR/expected. DIR holds task.json and held_out/ (README.md says more). Needs numpy.

Every output: cosine of each row (a token where task.json gives a mask, else a sample), error relative to the exact output
(sum of squares over sum of squares), largest error. The task: accuracy of both in percent, their difference in points and the
share of equal answers; or Spearman's rank correlation of the similarities of sentence pairs.
Layers: what an engine that was compiled with `--accuracy` and `--holdout DIR/held_out` says of itself, as an engine keeps no
results of layers.
Exit status: 0; 1 if a limit is not kept; 2 if something cannot be run or read.
"""
import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


class Failed(Exception):
    """What cannot be run or read."""


# ---------------------------------------------------------------- measures
def rows_of(value, mask):
    """f64[rows, features]: the positions of a mask, or the samples of the first axis."""
    value = value.astype(np.float64)
    if mask is not None:
        return value[mask.astype(bool)].reshape(int(mask.astype(bool).sum()), -1)
    return value.reshape(len(value), -1)


def closeness(exact, got):
    """Cosine of each row, relative squared error and largest error of f64[rows, features]."""
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(got, axis=1)
    equal = (exact == got).all(1)
    cosine = np.where(equal, 1.0, (exact * got).sum(1) / np.where(lengths > 0, lengths, np.inf))
    error, power = float(((got - exact) ** 2).sum()), float((exact ** 2).sum())
    relative = error / power if power > 0 else (0.0 if error == 0 else float("inf"))
    return {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min()), "relative_mse": relative,
            "max_abs": float(np.abs(got - exact).max()), "rows": len(exact)}


def ranks(values):
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def spearman(a, b):
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    power = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / power) if power > 0 else 0.0


def classification(exact, got, data):
    labels = np.load(data / "held_out" / "labels.npy").astype(np.int64)
    if len(labels) != len(exact):
        raise Failed(f"{len(labels)} labels for {len(exact)} samples")
    first, second = exact.argmax(1), got.argmax(1)
    right = [int((answer == labels).sum()) for answer in (first, second)]
    exact_accuracy, accuracy = (100.0 * r / len(labels) for r in right)
    return {"samples": len(labels), "accuracy_exact": exact_accuracy, "accuracy": accuracy,
            "drop_points": exact_accuracy - accuracy, "agreement": float((first == second).mean())}


def similarity(exact, got, data):
    pairs, scores = (np.load(data / "held_out" / name) for name in ("pairs.npy", "scores.npy"))

    def similarities(embeddings):
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        return (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1)

    first, second = similarities(exact), similarities(got)
    return {"pairs": len(pairs), "spearman": spearman(first, second), "spearman_graded_exact": spearman(first, scores),
            "spearman_graded": spearman(second, scores), "similarity_max_abs": float(np.abs(first - second).max())}


TASKS = {"classification": classification, "similarity": similarity}


# ---------------------------------------------------------------- runs
def outputs(source, runs, args):
    """[{output: array}] of every run, from a folder of outputs or by `autoglm run`."""
    if source.is_dir():
        files = [source / run.name for run in runs]
        missing = [str(f) for f in files if not f.is_file()]
        if missing:
            raise Failed(f"no outputs {missing[0]}")
        return [dict(np.load(f)) for f in files]
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for run in runs:
            out = Path(folder) / run.name
            line = [args.autoglm, "run", str(source), "-i", f"@{run}", "-o", str(out), *shlex.split(args.run_args)]
            done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
            if done.returncode != 0:
                raise Failed(f"{shlex.join(line)}: exit status {done.returncode}: {done.stderr.strip()}")
            found.append(dict(np.load(out)))
        return found


def layers(args):
    """Figures of the layers on held-out data, which the compiler measured; none of an engine without them."""
    line = [args.autoglm, "inspect", str(args.engine), "--show", "manifest", "--json"]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise Failed(f"{shlex.join(line)}: exit status {done.returncode}: {done.stderr.strip()}")
    manifest, start = json.loads(done.stdout)["manifest"], "option accuracy.held_out."
    figures = {key.removeprefix(start): float(value) for key, value in manifest.items() if key.startswith(start)}
    return {key: value for key, value in figures.items() if key.startswith("layer.")}


def checked(exact, got, runs):
    for run, e, g in zip(runs, exact, got):
        for name, value in e.items():
            if name not in g:
                raise Failed(f"{run.name}: the engine has no output {name}")
            if g[name].shape != value.shape:
                raise Failed(f"{run.name}: {name} has the shape {g[name].shape}, not {value.shape}")
            if not (np.isfinite(g[name]).all() and np.isfinite(value).all()):
                raise Failed(f"{run.name}: {name} is not finite")


def evaluate(args):
    task = json.loads((args.data / "task.json").read_text())
    runs = sorted((args.data / "held_out").glob("*.npz"))
    if not runs:
        raise Failed(f"no runs in {args.data / 'held_out'}")
    exact, got = outputs(args.exact, runs, args), outputs(args.engine, runs, args)
    checked(exact, got, runs)
    masks = task.get("mask", {})
    report = {"data": str(args.data), "exact": str(args.exact), "engine": str(args.engine), "outputs": {}}
    if args.exact.is_file() and args.engine.is_file():
        sizes = [source.stat().st_size for source in (args.exact, args.engine)]
        report["bytes"] = {"exact": sizes[0], "engine": sizes[1], "ratio": sizes[0] / sizes[1]}
    held_out = layers(args) if args.engine.is_file() and args.engine.suffix != ".onnx" else {}
    if held_out:
        report["layers"] = held_out
    elif args.min_layer_cosine is not None or args.max_layer_mse is not None:
        raise Failed(f"{args.engine} has no figures of layers: compile it with --holdout")
    for name in exact[0]:
        both = [[], []]
        for run, e, g in zip(runs, exact, got):
            mask = np.load(run)[masks[name]] if name in masks else None
            for rows, value in zip(both, (e, g)):
                rows.append(rows_of(value[name], mask))
        report["outputs"][name] = closeness(*map(np.concatenate, both))
    judged = [np.concatenate([rows_of(run[task["output"]], None) for run in side]) for side in (exact, got)]
    report[task["task"]] = TASKS[task["task"]](*judged, args.data)
    return report


# ---------------------------------------------------------------- report
def over_limits(report, args):
    for name, o in report["outputs"].items():
        if args.min_cosine is not None and not o["cosine_min"] >= args.min_cosine:
            yield f"{name}: cosine {o['cosine_min']:.7f}, at least {args.min_cosine}"
        if args.max_mse is not None and not o["relative_mse"] <= args.max_mse:
            yield f"{name}: relative squared error {o['relative_mse']:.3e}, at most {args.max_mse}"
        if args.max_abs is not None and not o["max_abs"] <= args.max_abs:
            yield f"{name}: error {o['max_abs']:.3e}, at most {args.max_abs}"
    wanted = [("classification", "drop_points", args.max_drop, 1), ("classification", "agreement", args.min_agreement, -1),
              ("similarity", "spearman", args.min_spearman, -1)]
    wanted += [("layers", "layer.cosine", args.min_layer_cosine, -1), ("layers", "layer.mse", args.max_layer_mse, 1)]
    for task, key, limit, sign in wanted:
        if limit is not None and task in report and not sign * report[task][key] <= sign * limit:
            yield f"{key} {report[task][key]:.6f}, at {'most' if sign > 0 else 'least'} {limit}"


def show(report):
    print(f"{'output':<22} {'cosine mean':>12} {'min':>12} {'relative mse':>13} {'max error':>11} {'rows':>6}")
    for name, o in report["outputs"].items():
        print(f"{name:<22} {o['cosine_mean']:>12.7f} {o['cosine_min']:>12.7f} {o['relative_mse']:>13.3e} {o['max_abs']:>11.3e}"
              f" {o['rows']:>6}")
    for task in [*TASKS, "layers"]:
        for key, value in report.get(task, {}).items():
            print(f"{key:<22} {value:>12.6g}")
    if "bytes" in report:
        size = report["bytes"]
        print(f"{'bytes':<22} {size['engine']:>12} of {size['exact']} ({size['ratio']:.2f}x smaller)")


def arguments(line):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoglm", required=True)
    for name in ("--exact", "--engine", "--data"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--run-args", default="", help="passed on to `autoglm run`")
    parser.add_argument("--json", help="write the report as JSON into a file; - instead of the table")
    for name in ("--min-cosine", "--max-mse", "--max-abs", "--max-drop", "--min-agreement", "--min-spearman",
                 "--min-layer-cosine", "--max-layer-mse"):
        parser.add_argument(name, type=float)
    return parser.parse_args(line)


def main(line=None):
    args = arguments(line)
    try:
        report = evaluate(args)
    except (Failed, OSError, KeyError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    failures = list(over_limits(report, args))
    report["failures"] = failures
    if args.json:
        text = json.dumps(report, indent=1) + "\n"
        print(text, end="") if args.json == "-" else Path(args.json).write_text(text)
    if args.json != "-":
        show(report)
    for failure in failures:
        print(f"not kept: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
