"""python -m unittest discover testdata/real        needs numpy"""
import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import evaluate


class Measures(unittest.TestCase):
    def test_ranks_share_places_of_equal_values(self):
        self.assertEqual(evaluate.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist(), [2.5, 0.0, 2.5, 1.0])

    def test_spearman(self):
        # Without ties 1 - 6 sum d^2 / (n (n^2 - 1)); with d = (1, 1, 0, 0, 0): 1 - 12 / 120.
        self.assertAlmostEqual(evaluate.spearman(np.arange(5), np.array([1, 0, 2, 3, 4])), 0.9)
        self.assertAlmostEqual(evaluate.spearman(np.arange(5.0), -np.exp(np.arange(5))), -1.0)
        # Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: covariance 4.5, variances 4.5 and 5.
        self.assertAlmostEqual(evaluate.spearman(np.array([1, 2, 2, 3]), np.arange(4)), 4.5 / np.sqrt(4.5 * 5))
        self.assertEqual(evaluate.spearman(np.ones(4), np.arange(4)), 0.0)

    def test_closeness(self):
        exact, got = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [2.0, 0.0]])
        found = evaluate.closeness(exact, got)
        self.assertAlmostEqual(found["cosine_min"], 24 / 25)
        self.assertAlmostEqual(found["cosine_mean"], (24 / 25 + 1) / 2)
        self.assertAlmostEqual(found["relative_mse"], 3 / 26)
        self.assertEqual((found["max_abs"], found["rows"]), (1.0, 2))

    def test_rows_of_zeros(self):
        zero, one = np.zeros((1, 2)), np.ones((1, 2))
        self.assertEqual(evaluate.closeness(zero, zero)["cosine_min"], 1.0)
        self.assertEqual(evaluate.closeness(zero, zero)["relative_mse"], 0.0)
        self.assertEqual(evaluate.closeness(zero, one)["cosine_min"], 0.0)
        self.assertEqual(evaluate.closeness(zero, one)["relative_mse"], float("inf"))

    def test_masked_rows(self):
        value = np.arange(12).reshape(2, 3, 2)
        rows = evaluate.rows_of(value, np.array([[1, 1, 0], [1, 0, 0]]))
        self.assertEqual(rows.tolist(), [[0, 1], [2, 3], [6, 7]])
        self.assertEqual(evaluate.rows_of(value, None).shape, (2, 6))


class Folders(unittest.TestCase):
    """The whole command on folders of outputs."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        (self.data / "held_out").mkdir()
        for run in range(2):
            np.savez(self.data / "held_out" / f"{run:03}.npz", x=np.zeros((2, 1), np.float32))

    def task(self, **task):
        (self.data / "task.json").write_text(json.dumps(task))

    def side(self, name, rows):
        (self.data / name).mkdir()
        for run in range(2):
            np.savez(self.data / name / f"{run:03}.npz", y=np.array(rows[2 * run:2 * run + 2], np.float32))

    def run_it(self, *limits):
        sides = ["--exact", str(self.data / "exact"), "--engine", str(self.data / "other")]
        line = ["--autoglm", "none", *sides, "--data", str(self.data), "--json", "-", *limits]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = evaluate.main(line)
        return status, json.loads(out.getvalue() or "null"), err.getvalue()

    def test_classification(self):
        self.task(task="classification", model="m.onnx", output="y")
        np.save(self.data / "held_out" / "labels.npy", np.array([0, 1, 1, 0], np.uint8))
        self.side("exact", [[2, 1], [1, 2], [1, 2], [1, 2]])
        self.side("other", [[2, 1], [2, 1], [1, 2], [2, 1]])
        status, report, _ = self.run_it()
        self.assertEqual((status, report["failures"]), (0, []))
        self.assertEqual(report["classification"], {"samples": 4, "accuracy_exact": 75.0, "accuracy": 75.0,
                                                    "drop_points": 0.0, "agreement": 0.5})
        status, report, err = self.run_it("--min-agreement", "0.6", "--max-drop", "0", "--min-cosine", "0.9", "--max-abs", "0.5")
        self.assertEqual((status, len(report["failures"])), (1, 3), err)

    def test_similarity(self):
        self.task(task="similarity", model="m.onnx", output="y")
        np.save(self.data / "held_out" / "pairs.npy", np.array([[0, 1], [0, 2], [0, 3]]))
        np.save(self.data / "held_out" / "scores.npy", np.array([3.0, 2.0, 1.0]))
        self.side("exact", [[1, 0], [3, 1], [2, 2], [0, 1]])
        self.side("other", [[1, 0], [1, 1], [9, 3], [0, 5]])
        status, report, _ = self.run_it("--min-spearman", "0.5")
        self.assertEqual(status, 0)
        found = report["similarity"]
        self.assertAlmostEqual(found["spearman_graded_exact"], 1.0)
        self.assertAlmostEqual(found["spearman"], 0.5)
        self.assertEqual(self.run_it("--min-spearman", "0.6")[0], 1)

    def test_layers(self):
        self.task(task="classification", model="m.onnx", output="y")
        np.save(self.data / "held_out" / "labels.npy", np.array([0, 1, 1, 0], np.uint8))
        self.side("exact", [[2, 1], [1, 2], [1, 2], [1, 2]])
        engine, program = self.data / "engine.bin", self.data / "program"
        engine.touch()
        # Writes the outputs of the exact side, and the manifest of an engine.
        program.write_text(f"""#!{sys.executable}
import json, pathlib, shutil, sys
if sys.argv[1] == "run":
    run = pathlib.Path(sys.argv[sys.argv.index("-i") + 1][1:])
    shutil.copy(run.parent.parent / "exact" / run.name, sys.argv[sys.argv.index("-o") + 1])
else:
    assert sys.argv[1:] == ["inspect", {str(engine)!r}, "--show", "manifest", "--json"]
    facts = {{"option accuracy.layer.mse": "0.5", "model": "m"}}
    if pathlib.Path({str(engine)!r}).read_text():
        facts |= {{"option accuracy.held_out.layer.mse": "0.003", "option accuracy.held_out.layer.cosine": "0.9"}}
    print(json.dumps({{"manifest": facts}}))
""")
        program.chmod(0o755)

        def run(*limits):
            sides = ["--exact", str(self.data / "exact"), "--engine", str(engine)]
            line = ["--autoglm", str(program), *sides, "--data", str(self.data), "--json", "-", *limits]
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = evaluate.main(line)
            return status, json.loads(out.getvalue() or "null"), err.getvalue()

        status, report, err = run()
        self.assertEqual((status, "layers" in report), (0, False), err)
        self.assertIn("no figures of layers", run("--max-layer-mse", "0.1")[2])
        engine.write_text("measured")
        status, report, _ = run("--min-layer-cosine", "0.9", "--max-layer-mse", "0.003")
        self.assertEqual((status, report["layers"]), (0, {"layer.mse": 0.003, "layer.cosine": 0.9}))
        status, report, _ = run("--min-layer-cosine", "0.95", "--max-layer-mse", "0.002")
        self.assertEqual((status, len(report["failures"])), (1, 2))

    def test_what_cannot_be_compared(self):
        self.task(task="classification", model="m.onnx", output="y")
        np.save(self.data / "held_out" / "labels.npy", np.array([0, 1, 1, 0], np.uint8))
        self.side("exact", [[2, 1], [1, 2], [1, 2], [1, 2]])
        self.side("other", [[2, 1], [2, 1], [1, 2], [2, float("nan")]])
        status, _, err = self.run_it()
        self.assertEqual(status, 2)
        self.assertIn("001.npz: y is not finite", err)
        (self.data / "other" / "001.npz").unlink()
        self.assertIn("no outputs", self.run_it()[2])


if __name__ == "__main__":
    unittest.main()
