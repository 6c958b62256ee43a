#!/usr/bin/env python3
"""Run the held-out runs of a data folder in ONNX Runtime, without graph optimisations, and write what evaluate.py takes as
`--exact`.

    onnxruntime_outputs.py DATA OUT        needs numpy and onnxruntime
"""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    data, out = map(Path, sys.argv[1:])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = data / json.loads((data / "task.json").read_text())["model"]
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    out.mkdir(parents=True, exist_ok=True)
    for run in sorted((data / "held_out").glob("*.npz")):
        np.savez(out / run.name, **dict(zip(names, session.run(names, dict(np.load(run))))))


if __name__ == "__main__":
    main()
