#!/usr/bin/env python3
"""Write the ONNX backend tests as files that a harness can read without Python.

    generate.py OUT                     node, pytorch-converted, pytorch-operator, simple, light   (onnx 1.23.2)
    generate.py OUT --wheel-1.22 DIR    node cases of the onnx 1.22.0 wheel found in DIR

Layout: OUT/<suite>/<case>/model.onnx, OUT/<suite>/<case>/test_data_set_<n>/{input,output}_<i>.pb, and OUT/manifest.tsv with
the columns suite, case, rtol, atol. `input_<i>.pb` belongs to the i-th graph input that no initializer provides and
`output_<i>.pb` to the i-th graph output. A .pb file holds a TensorProto, a SequenceProto or an OptionalProto, as the
type of that input or output says.

Since onnx 1.23 the wheel has no node directory: its cases exist only as Python objects. An upstream change of the number
of cases or of a model therefore stops here with status 1 rather than as a smaller suite that passes.
"""
import argparse
import hashlib
import os
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

COUNTS = {
    "1.23.2": {"node": 1884, "pytorch-converted": 82, "pytorch-operator": 35, "simple": 23, "light": 9},
    "1.22.0": {"node": 1765},
}
CHECKSUMS = Path(__file__).with_name("CHECKSUMS")

# numpy and its BLAS pick their code by CPU; one choice for all hosts keeps the last bits of expected outputs the same.
PINNED = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def fail(message):
    sys.exit(f"generate.py: {message}")


def pin_environment():
    """Restart with the pinned environment: numpy reads it only while it is loaded."""
    if any(os.environ.get(k) != v for k, v in PINNED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **PINNED})


def serialize(value, info):
    """One input or output as the bytes of its .pb file."""
    import numpy as np
    import onnx
    from onnx import numpy_helper as nh

    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString(deterministic=True)
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        proto = nh.from_list(value, info.name)
    elif kind == "optional_type":
        proto = nh.from_optional(value, info.name)
    elif kind == "tensor_type":
        proto = nh.from_array(np.asarray(value), info.name)
    else:
        fail(f"{info.name}: no file form for {kind}")
    return proto.SerializeToString(deterministic=True)


def given_inputs(model):
    """Graph inputs that a caller has to provide, in graph order."""
    constant = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constant]


def write_case(case_dir, model_bytes, data_sets):
    case_dir.mkdir(parents=True)
    (case_dir / "model.onnx").write_bytes(model_bytes)
    for n, files in enumerate(data_sets):
        data = case_dir / f"test_data_set_{n}"
        data.mkdir()
        for name, content in files.items():
            (data / name).write_bytes(content)


def node_cases(out):
    """The cases that the wheel builds in Python."""
    from onnx.backend.test.loader import load_node_model_tests

    warnings.simplefilter("ignore", RuntimeWarning)  # the cases divide by zero and overflow casts on purpose
    rows = []
    for case in load_node_model_tests():
        infos = {"input": case.model.graph.input, "output": case.model.graph.output}
        sets = []
        for inputs, outputs in case.data_sets:
            files = {}
            for side, values in (("input", inputs), ("output", outputs)):
                for i, value in enumerate(values):
                    files[f"{side}_{i}.pb"] = serialize(value, infos[side][i])
            sets.append(files)
        write_case(out / "node" / case.name, case.model.SerializeToString(deterministic=True), sets)
        rows.append(("node", case.name, case.rtol, case.atol))
    return rows


def stored_cases(out, suite):
    """The cases that the wheel carries as directories."""
    import onnx
    from onnx.backend.test.loader import load_model_tests

    rows = []
    for case in sorted(load_model_tests(kind=suite), key=lambda c: c.name):
        source = Path(case.model_dir)
        model = onnx.load(source / "model.onnx")
        for data in source.glob("test_data_set_*"):
            given = len(list(data.glob("input_*.pb")))
            if given != len(given_inputs(model)):
                fail(f"{suite}/{case.name}: {given} input files for {len(given_inputs(model))} inputs")
        target = out / suite / case.name
        for file in sorted(source.rglob("*")):
            if file.name == "model.onnx" or file.suffix == ".pb":
                copy = target / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        rows.append((suite, case.name, case.rtol, case.atol))
    return rows


def light_cases(out):
    """Whole networks with constant weights; their input is a ramp over [0, 1), as in the onnx runner."""
    import numpy as np
    import onnx
    from onnx import numpy_helper as nh
    from onnx.backend.test.loader import load_model_tests

    root = Path(onnx.__file__).parent.parent
    rows = []
    for case in sorted(load_model_tests(kind="real"), key=lambda c: c.name):
        source = root / case.url
        content = source.read_bytes()
        files = {}
        for i, info in enumerate(given_inputs(onnx.load_from_string(content))):
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            ramp = (np.arange(count).reshape(shape) / count).astype(np.float32)
            files[f"input_{i}.pb"] = nh.from_array(ramp, info.name).SerializeToString(deterministic=True)
        files["output_0.pb"] = source.with_name(source.stem + "_output_0.pb").read_bytes()
        write_case(out / "light" / case.name, content, [files])
        rows.append(("light", case.name, case.rtol, case.atol))
    return rows


def wheel_cases(out, directory):
    """The node directory of the 1.22.0 wheel."""
    wheels = sorted(Path(directory).glob("onnx-1.22.0-*.whl"))
    if len(wheels) != 1:
        fail(f"{directory}: {len(wheels)} wheels of onnx 1.22.0, expected 1")
    prefix = "onnx/backend/test/data/node/"
    names = set()
    with zipfile.ZipFile(wheels[0]) as wheel:
        for entry in wheel.namelist():
            parts = entry[len(prefix):].split("/")
            if not entry.startswith(prefix) or not entry.endswith((".onnx", ".pb")):
                continue
            if ".." in parts or len(parts) not in (2, 3):
                fail(f"unexpected entry in the wheel: {entry}")
            target = out.joinpath("node", *parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wheel.read(entry))
            names.add(parts[0])
    return [("node", name, 1e-3, 1e-7) for name in sorted(names)]


def digest(out, pattern):
    """Number of files and SHA-256 over path, size and content of each, in path order."""
    files = sorted(p for p in out.rglob(pattern) if p.is_file())
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.relative_to(out).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return len(files), total.hexdigest()


def check(version, rows, out, record):
    """Compare counts and digests with what this suite is known to hold."""
    for suite, expected in COUNTS[version].items():
        found = sum(1 for row in rows if row[0] == suite)
        on_disk = sum(1 for _ in (out / suite).glob("*/model.onnx"))
        if found != expected or on_disk != expected:
            fail(f"{version} {suite}: {found} cases, {on_disk} models on disk, expected {expected}")
        print(f"{version} {suite}: {found} cases")
    known = dict(line.split() for line in CHECKSUMS.read_text().splitlines()) if CHECKSUMS.exists() else {}
    for part, pattern in (("models", "model.onnx"), ("data", "*.pb")):
        key, (count, value) = f"{version}/{part}", digest(out, pattern)
        print(f"{key}: {count} files, sha256 {value}")
        if record:
            known[key] = value
        elif known.get(key) != value and part == "models":
            fail(f"{key}: the models are not those of CHECKSUMS ({known.get(key)})")
        elif known.get(key) != value:
            # Expected outputs come from numpy on this host; a last bit may differ from the recorded host's.
            print(f"{key}: not the recorded {known.get(key)}", file=sys.stderr)
    if record:
        CHECKSUMS.write_text("".join(f"{k} {v}\n" for k, v in sorted(known.items())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a directory that does not exist yet, or one that this script wrote")
    parser.add_argument("--wheel-1.22", dest="wheel", metavar="DIR", help="directory with the onnx 1.22.0 wheel")
    parser.add_argument("--record", action="store_true", help="write the digests into CHECKSUMS instead of checking them")
    args = parser.parse_args()
    if args.out.exists():
        if any(args.out.iterdir()) and not (args.out / "manifest.tsv").is_file():
            fail(f"{args.out} holds something else")
        shutil.rmtree(args.out)
    args.out.mkdir(parents=True)
    if args.wheel:
        version, rows = "1.22.0", wheel_cases(args.out, args.wheel)
    else:
        import onnx

        version, rows = onnx.__version__, []
        if version != "1.23.2":
            fail(f"onnx {version} is installed, expected 1.23.2")
        rows += node_cases(args.out)
        for suite in ("pytorch-converted", "pytorch-operator", "simple"):
            rows += stored_cases(args.out, suite)
        rows += light_cases(args.out)
    lines = ["suite\tcase\trtol\tatol", *("\t".join(map(str, row)) for row in sorted(rows))]
    (args.out / "manifest.tsv").write_text("\n".join(lines) + "\n")
    check(version, rows, args.out, args.record)


if __name__ == "__main__":
    pin_environment()
    main()
