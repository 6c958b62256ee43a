"""Holds the search to random search: the graphs that a compile measured against 1,000 random choices of the same alternatives
within the same summed error, and against the bound that no choice can beat. Fails if one of them costs 2 % more than a
random one.

    python testdata/real/extraction.py --autoglm A --data DIR [--budgets 0.99,0.9] [--objectives latency] [--json FILE]
    python testdata/real/extraction.py --reports REPORT.json... [--json FILE]

The second form judges reports of compiles (`--json`) that were made before.

The alternatives, their errors and what each saves alone are those of the compile's own report; a choice takes at most one for each
layer, its error is the sum of their errors, and its cost is that of the exact graph less what they save.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

OBJECTIVES = {"latency": "ns", "bytes": "bytes"}
CHOICES = 1000
SLACK = 1.02


def compiled(autoglm, model, calib, budget, objective, engine):
    """The report of a compression."""
    command = [autoglm, "compile", model, "-o", engine, "--accuracy", f"out.cosine>={budget}", "--calib", calib]
    command += ["--objective", objective, "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return json.loads(done.stdout)["compression"]


def layers_of(report, unit):
    """For each layer its alternatives as {id: (error, saved)}."""
    offers = ([a for a in layer["alternatives"] if a["id"] is not None] for layer in report["layers"])
    return [{a["id"]: (a["estimate"]["error"], a["estimate"]["saves"][unit]) for a in layer} for layer in offers]


def random_choice(layers, budget, rng):
    """What a choice saves: layers in random order take a random one of the alternatives that still fit, or none."""
    left, saved = budget, 0.0
    for layer in rng.sample(layers, len(layers)):
        fitting = [(0.0, 0.0), *(a for a in layer.values() if a[0] <= left)]
        error, saves = rng.choice(fitting)
        left, saved = left - error, saved + saves
    return saved


def slope(a, b):
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else float("inf")


def bound(layers, budget):
    """The most that any choice saves if parts of alternatives could be taken (the linear relaxation, by Sinha and Zoltners):
    steps along the convex hulls of the layers, steepest first."""
    steps = []
    for layer in layers:
        hull = [(0.0, 0.0)]
        for error, saves in sorted(layer.values()):
            if saves <= hull[-1][1]:
                continue
            while len(hull) > 1 and slope(hull[-2], (error, saves)) >= slope(hull[-2], hull[-1]):
                hull.pop()
            hull.append((error, saves))
        steps += [(b[1] - a[1], b[0] - a[0]) for a, b in zip(hull, hull[1:])]
    saved = 0.0
    for saves, error in sorted(steps, key=lambda s: s[1] / s[0]):
        share = 1.0 if error <= budget else budget / error
        saved, budget = saved + share * saves, max(budget - error, 0.0)
    return saved


def judge(report, objective, seed):
    """For every graph that was measured while both kinds were allowed, and found in the order of graphs for the objective: its
    cost, the least of the random choices, the bound."""
    unit = OBJECTIVES[objective]
    layers = layers_of(report, unit)
    known = {id_: saves for layer in layers for id_, (_, saves) in layer.items()}
    errors = {id_: error for layer in layers for id_, (error, _) in layer.items()}
    exact = report["latency_ns" if unit == "ns" else "bytes"]["exact"]
    rng = random.Random(seed)
    for chosen in report["rounds"]:
        if len(chosen["kinds"]) < 2 or chosen["objective"] != objective:
            continue
        error = sum(errors[id_] for id_ in chosen["alternatives"])
        assert abs(error - chosen["error"]) <= 1e-9 * max(error, 1.0), "the report's sums differ"
        budget = error * (1 + 1e-12)
        cost = exact - sum(known[id_] for id_ in chosen["alternatives"])
        best = exact - max(random_choice(layers, budget, rng) for _ in range(CHOICES))
        yield {"error": error, "layers": len(chosen["alternatives"]), "cost": cost, "random": best,
               "bound": exact - bound(layers, budget), "exact": exact}


def compiled_all(args):
    """Reports of compiles at all budgets."""
    model = args.data / json.loads((args.data / "task.json").read_text())["model"]
    with tempfile.TemporaryDirectory() as folder:
        for objective in args.objectives.split(","):
            for budget in args.budgets.split(","):
                engine = pathlib.Path(folder) / "engine.bin"
                yield compiled(args.autoglm, model, args.data / "calib", budget, objective, engine)


def kept(args):
    """Reports of files."""
    for path in args.reports:
        yield json.loads(path.read_text())["compression"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoglm", help="the binary")
    parser.add_argument("--data", type=pathlib.Path, help="folder with task.json, the model and calib/")
    parser.add_argument("--budgets", default="0.995,0.98,0.9", help="least cosines of the outputs")
    parser.add_argument("--objectives", default="latency,bytes", help="of the compiles")
    parser.add_argument("--reports", nargs="+", type=pathlib.Path, help="judge these reports instead of compiling")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if not args.reports and not (args.autoglm and args.data):
        parser.error("give --autoglm and --data, or --reports")
    found, worse = [], 0
    print(f"{'objective':10}{'gates':>20}{'graphs':>8}{'layers':>9}{'worst against random':>22}{'against the bound':>19}")
    reports = kept(args) if args.reports else compiled_all(args)
    for report, objective in ((report, objective) for report in reports for objective in OBJECTIVES):
        graphs = list(judge(report, objective, args.seed))
        found.append({"objective": objective, "gates": report["gates"], "graphs": graphs})
        if not graphs:
            continue
        random_, ideal = (max(g["cost"] / g[key] - 1 for g in graphs) for key in ("random", "bound"))
        worse += sum(g["cost"] > SLACK * g["random"] for g in graphs)
        counts = [g["layers"] for g in graphs]
        print(f"{objective:10}{report['gates']:>20}{len(graphs):>8}{f'{min(counts)}-{max(counts)}':>9}{100 * random_:>20.2f} %"
              f"{100 * ideal:>17.2f} %", flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1))
    print(f"{worse} graphs cost more than {SLACK} times a random choice" if worse else "no graph costs 2 % more than a random choice")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
