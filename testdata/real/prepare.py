#!/usr/bin/env python3
"""Tokenise the sentences and write the runs that evaluate.py and calibration take, with expected outputs.

    prepare.py --package DIR --out DIR        needs numpy and tokenizers; DIR of the package holds tokenizer.json and
                                              model.safetensors
"""
import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import reference

HERE = Path(__file__).parent
HELD_OUT_BATCH, CALIBRATION_BATCH = 32, 8


def pairs():
    """(sentences without repetition, left i64[n], right i64[n], graded score f64[n])."""
    rows = [line.split("\t") for line in (HERE / "pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    sentences = list(dict.fromkeys(s for row in rows for s in row[2:4]))
    place = {s: i for i, s in enumerate(sentences)}
    left, right = (np.array([place[row[i]] for row in rows]) for i in (2, 3))
    return sentences, left, right, np.array([float(row[0]) for row in rows])


def padded(ids):
    """The three inputs of one run: sentences of different lengths, padded on the right to the longest."""
    longest = max(map(len, ids))
    rows = np.array([row + [0] * (longest - len(row)) for row in ids], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in ids], np.int64)
    return {"input_ids": rows, "attention_mask": mask, "token_type_ids": np.zeros_like(rows)}


def expected(encoder, ids):
    """The outputs of the same run; the features of padding are 0."""
    answers = encoder.run(ids)
    longest = max(map(len, ids))
    features = [np.pad(x, ((0, longest - len(x)), (0, 0))) for x, _ in answers]
    outputs = {"last_hidden_state": np.stack(features), "sentence_embedding": np.stack([e for _, e in answers])}
    return {name: value.astype(np.float32) for name, value in outputs.items()}


def batches(ids, size):
    return [ids[start:start + size] for start in range(0, len(ids), size)]


def write_runs(folder, runs):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.npz"):
        old.unlink()
    for i, run in enumerate(runs):
        np.savez(folder / f"{i:03}.npz", **run)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.package / "tokenizer.json"))
    tokenizer.no_padding()

    def tokenised(sentences):
        return [e.ids for e in tokenizer.encode_batch(sentences)]

    sentences, left, right, scores = pairs()
    calibration = (HERE / "calibration.txt").read_text(encoding="utf-8").splitlines()
    if set(sentences) & set(calibration):
        raise SystemExit(f"sentences of pairs used for calibration: {set(sentences) & set(calibration)}")
    write_runs(args.out / "calib", [padded(b) for b in batches(tokenised(calibration), CALIBRATION_BATCH)])

    # Sentences of like length share a run; `place` says where each has gone.
    ids = tokenised(sentences)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    place = np.argsort(order)
    runs = batches([ids[i] for i in order], HELD_OUT_BATCH)
    encoder = reference.Encoder(args.package / "model.safetensors")
    write_runs(args.out / "held_out", [padded(run) for run in runs])
    write_runs(args.out / "expected", [expected(encoder, run) for run in runs])
    np.save(args.out / "held_out" / "pairs.npy", np.stack([place[left], place[right]], 1).astype(np.int64))
    np.save(args.out / "held_out" / "scores.npy", scores)
    task = {"task": "similarity", "model": "model.onnx", "output": "sentence_embedding",
            "mask": {"last_hidden_state": "attention_mask"}}
    (args.out / "task.json").write_text(json.dumps(task) + "\n")
    print(f"{len(sentences)} sentences in {len(scores)} pairs, {len(calibration)} for calibration: {args.out}")


if __name__ == "__main__":
    main()
