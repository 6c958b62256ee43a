#!/usr/bin/env python3
"""check.py --autoglm PATH [--dir DIR] [NAME.EXPORTER...] [--modes default,no-opt,strict] [--show]

Compiles what export.py made, runs each set of inputs and compares with the stored outputs. A line per model: the result of each mode, the
milliseconds of the optimiser, then what the engine consists of: steps by kind, and how often the recovered operators are computed. --show lists
the loops.
"""
import argparse, collections, glob, json, os, subprocess, sys, tempfile
import numpy as np

MODES = {"default": [], "no-opt": ["--no-opt"], "strict": ["--strict"]}
RECOVERED = ("gelu", "silu", "hard_swish", "rope", "softmax")


def call(command, limit):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return 124, "", "timed out"
    return done.returncode, done.stdout, done.stderr


def why(status, stderr):
    lines = [l for l in stderr.strip().splitlines() if l.startswith("error")] or stderr.strip().splitlines() or [""]
    return f"{status}:{lines[0][:110]}"


def compare(wanted, found):
    """Why two arrays differ, or nothing: cosine 0.9999 and 1e-2 standard deviations, integers exact, NaN where NaN."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return f"{found.dtype}{found.shape} for {wanted.dtype}{wanted.shape}"
    if wanted.dtype.kind != "f":
        return "" if np.array_equal(wanted, found) else f"{(wanted != found).mean():.0%} of the integers"
    a, b = wanted.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    odd = ~np.isfinite(a)
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return f"{odd.sum()} values that are not finite"
    a, b = a[~odd], b[~odd]
    if not a.size:
        return ""
    worst = np.abs(a - b).max()
    cosine = a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-30)
    fine = worst <= 1e-2 * max(a.std(), 1e-6) and (cosine >= 0.9999 or worst < 1e-6)
    return "" if fine else f"error {worst:.2g}, std {a.std():.2g}, cosine {cosine:.5f}"


def run(autoglm, engine, folder, limit):
    for number in sorted(n for n in os.listdir(folder) if n.isdigit()):
        with tempfile.TemporaryDirectory() as out:
            command = [autoglm, "run", engine, "-o", out]
            for path in glob.glob(os.path.join(folder, number, "input", "*.npy")):
                command += ["-i", f"{os.path.basename(path)[:-4]}=@{path}"]
            status, _, stderr = call(command, limit)
            if status:
                return f"run{number} {why(status, stderr)}"
            for path in sorted(glob.glob(os.path.join(folder, number, "output", "*.npy"))):
                name = os.path.basename(path)
                wrong = compare(np.load(path), np.load(os.path.join(out, name)))
                if wrong:
                    return f"WRONG{number} {name[:-4]}: {wrong}"
    return "ok"


def consists_of(autoglm, engine):
    status, stdout, _ = call([autoglm, "inspect", engine, "--show", "steps", "--json"], 60)
    return json.loads(stdout)["steps"] if not status else []


def check(autoglm, folder, modes, show, limit):
    name, results, ms, figures, loops = os.path.basename(folder), [], 0, "", []
    with tempfile.TemporaryDirectory() as work:
        engine = os.path.join(work, "e.bin")
        for mode in modes:
            status, stdout, stderr = call([autoglm, "compile", os.path.join(folder, "model.onnx"), "-o", engine, "--json", *MODES[mode]], limit)
            if status:
                try:
                    first = json.loads(stdout)["diagnostics"][0]
                    stderr = f"error {first.get('code', '')} {first.get('message', '')}"
                except (ValueError, KeyError, IndexError):
                    pass
                results.append(why(status, stderr))
                continue
            results.append(run(autoglm, engine, folder, limit))
            if mode == "default":
                ms = sum(p["ms"] for p in json.loads(stdout)["phases"] if p["name"] == "optimise")
                steps = consists_of(autoglm, engine)
                kinds = collections.Counter(s["kind"] for s in steps)
                ops = collections.Counter(o for s in steps for o in s["ops"] if o in RECOVERED)
                loops = [" ".join(s["ops"]) + "  @" + s["name"] for s in steps if s["kind"] in ("Tile", "Tiles", "Reduce")]
                lone = sum(any(o not in ("copy", "fill") for o in s["ops"]) for s in steps if s["kind"] in ("Tile", "Tiles"))
                copies = sum(s["ops"].count("copy") for s in steps)
                figures = " ".join(f"{k}={v}" for k, v in [*sorted(kinds.items()), *sorted(ops.items()), ("loops", lone), ("copies", copies)])
    print(name, " | ".join(results), f"{ms:.0f}ms", figures, sep="\t", flush=True)
    if show:
        print(*("    " + l for l in loops if not set(l.split("  @")[0].split()) <= {"fill"}), sep="\n", flush=True)
    return all(r == "ok" for r in results)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("names", nargs="*")
    ap.add_argument("--autoglm", required=True)
    ap.add_argument("--dir", default="/tmp/kinds")
    ap.add_argument("--modes", default="default,no-opt,strict")
    ap.add_argument("--limit", type=float, default=300, help="seconds a command may take")
    ap.add_argument("--show", action="store_true")
    a = ap.parse_args()
    names = a.names or sorted(n for n in os.listdir(a.dir) if os.path.isdir(os.path.join(a.dir, n, "0", "output")))
    failed = sum(not check(a.autoglm, os.path.join(a.dir, n), a.modes.split(","), a.show, a.limit) for n in names)
    print(f"{len(names)} models, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
