#!/usr/bin/env python3
"""structure.py --autoglm PATH [--zoo DIR] [--models A,B] [--show]

Compiles every model of structure.tsv and compares what its engine consists of with the figures there. A line of the table is a model, a figure,
a comparison (== or <=) and a number. Figures, all over the steps that `autoglm inspect --show steps --json` lists:

  steps        all of them
  kind K       those of kind K
  op O         how often operator O is computed, in whichever step
  loop O       loops (steps of kind Tile or Tiles) that compute O; `copy` and `fill` are loops that only move elements or set them
  loops        loops that compute anything but `copy` and `fill`

Without --zoo the models are made one at a time in a temporary folder (needs onnx and numpy). --show lists what the steps compute.
The exit status is 1 if a model does not compile or a figure is not as it should be.
"""
import argparse, collections, gzip, json, os, subprocess, sys, tempfile
import zoo

HERE = os.path.dirname(os.path.abspath(__file__))
LOOPS = ("Tile", "Tiles")
COMPARE = {"==": lambda found, wanted: found == wanted, "<=": lambda found, wanted: found <= wanted}


def table(path):
    """model -> [(figure, comparison, number)]"""
    wanted = collections.defaultdict(list)
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.split("#")[0].rstrip()
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != 4 or fields[2] not in COMPARE or not fields[3].isdigit():
            sys.exit(f"{path}:{number}: not model, figure, comparison and number, separated by tabs")
        wanted[fields[0]].append((fields[1], fields[2], int(fields[3])))
    return wanted


def figure(name, steps):
    what, _, of = name.partition(" ")
    moving = ("copy", "fill")
    if what == "steps":
        return len(steps)
    if what == "kind":
        return sum(s["kind"] == of for s in steps)
    if what == "op":
        return sum(s["ops"].count(of) for s in steps)
    if what == "loop":
        return sum(s["kind"] in LOOPS and of in s["ops"] for s in steps)
    if what == "loops":
        return sum(s["kind"] in LOOPS and any(op not in moving for op in s["ops"]) for s in steps)
    sys.exit(f"there is no figure `{name}`")


def make(name, folder):
    import onnx
    packed = gzip.open(os.path.join(zoo.MODELS, name + ".onnx.gz"), "rb").read()
    path = os.path.join(folder, "model.onnx")
    onnx.save(zoo.materialize(onnx.load_from_string(packed)), path)
    return path


def steps_of(autoglm, model, folder):
    """The steps of the engine that a model is compiled to, or why there are none."""
    engine = os.path.join(folder, "engine.bin")
    for command in (["compile", model, "-o", engine], ["inspect", engine, "--show", "steps", "--json"]):
        done = subprocess.run([autoglm] + command, capture_output=True, text=True)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return json.loads(done.stdout)["steps"], None


def check(name, wanted, steps):
    """How many figures are not as they should be."""
    failed = 0
    for text, comparison, number in wanted:
        found = figure(text, steps)
        if not COMPARE[comparison](found, number):
            failed += 1
            print(f"{name}: {text}: {found}, wanted {comparison} {number}", flush=True)
    return failed


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--autoglm", required=True)
    ap.add_argument("--zoo", help="folder of built models")
    ap.add_argument("--models", help="only these, separated by commas")
    ap.add_argument("--show", action="store_true")
    a = ap.parse_args()
    wanted = table(os.path.join(HERE, "structure.tsv"))
    names = a.models.split(",") if a.models else list(wanted)
    unknown = [n for n in names if n not in zoo.names()]
    if unknown:
        sys.exit(f"unknown model(s): {' '.join(unknown)}")
    failed, checked = 0, 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(a.zoo, name, "model.onnx") if a.zoo else make(name, folder)
            steps, why = steps_of(a.autoglm, model, folder)
        if steps is None:
            failed += 1
            print(f"{name}: {why}", flush=True)
            continue
        checked += len(wanted[name])
        failed += check(name, wanted[name], steps)
        if a.show:
            kinds = collections.Counter((s["kind"], " ".join(s["ops"])) for s in steps)
            print(f"{name}: {len(steps)} steps", *(f"{n:5d}  {k:10s} {o}" for (k, o), n in sorted(kinds.items())), sep="\n  ", flush=True)
    print(f"{len(names)} models, {checked} figures, {failed} not as they should be")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
