"""Weight bytes against output error: joint search, low rank alone, 2:4 alone, at six budgets. Fails if a curve is not monotone or
the joint one is above another.

    python testdata/real/curves.py --autoglm A --data DIR [--json FILE] [--reports DIR]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

BUDGETS = [0.999, 0.995, 0.99, 0.98, 0.95, 0.9]
MODES = {"joint": [], "low rank": ["--sparsity", "off"], "2:4": ["--low-rank", "off"]}


def compile_at(autoglm, model, calib, budget, options, engine, keep):
    """Bytes of the weights and the measured error of the outputs; the whole report goes into the file `keep`."""
    command = [autoglm, "compile", model, "-o", engine, "--accuracy", f"out.cosine>={budget}", "--calib", calib]
    done = subprocess.run([*command, "--objective", "bytes", "--json", *options], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    if keep:
        keep.write_text(done.stdout)
    report = json.loads(done.stdout)["compression"]
    return report["bytes"]["chosen"], report["measured"]["out.mse"], report["measured"]["out.cosine"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoglm", required=True, help="the binary")
    parser.add_argument("--data", required=True, type=pathlib.Path, help="folder with task.json, the model and calib/")
    parser.add_argument("--json", help="write the curves to this file")
    parser.add_argument("--reports", type=pathlib.Path, help="keep the report of every compile in this folder")
    args = parser.parse_args()
    if args.reports:
        args.reports.mkdir(parents=True, exist_ok=True)
    model = args.data / json.loads((args.data / "task.json").read_text())["model"]
    curves = {}
    with tempfile.TemporaryDirectory() as folder:
        engine = pathlib.Path(folder) / "engine.bin"
        for name, options in MODES.items():
            points = []
            for budget in BUDGETS:
                keep = args.reports and args.reports / f"{name.replace(' ', '-').replace(':', '-')}-{budget}.json"
                points.append(compile_at(args.autoglm, model, args.data / "calib", budget, options, engine, keep))
            curves[name] = points
            cells = "  ".join(f"{bytes_ / 1024:10.1f} ({mse:.5f})" for bytes_, mse, _ in points)
            print(f"{name:10}{cells}", flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"budgets": BUDGETS, "curves": curves}, indent=1))
    problems = []
    for name, points in curves.items():
        sizes = [bytes_ for bytes_, _, _ in points]
        if any(a < b for a, b in zip(sizes, sizes[1:])):
            problems.append(f"{name}: more bytes at a wider budget: {sizes}")
        for budget, (bytes_, _, _), (joint, _, _) in zip(BUDGETS, points, curves["joint"]):
            if joint > bytes_ + 1:
                problems.append(f"out.cosine>={budget}: joint needs {joint:.0f} bytes, {name} {bytes_:.0f}")
    print("\n".join(problems) or "monotone; the joint curve is never above another")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
