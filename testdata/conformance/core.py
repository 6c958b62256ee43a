#!/usr/bin/env python3
"""core.py SUITE [CASE...]: copy the cases of core/node/, and the cases named, afresh from a directory that generate.py wrote.

core/node/ is the part of the suite that tests read without Python and network; the directories in it are the list of its cases.
"""
import shutil
import sys
from pathlib import Path

CORE = Path(__file__).with_name("core") / "node"


def main(suite, added):
    names = {p.name for p in CORE.iterdir() if p.is_dir()} | set(added)
    missing = [n for n in sorted(names) if not (suite / "node" / n / "model.onnx").is_file()]
    if missing:
        sys.exit(f"not in {suite}: {' '.join(missing)}")
    for name in names:
        shutil.rmtree(CORE / name, ignore_errors=True)
        shutil.copytree(suite / "node" / name, CORE / name)
    files = [p for p in CORE.rglob("*") if p.is_file()]
    print(f"{len(names)} cases, {len(files)} files, {sum(p.stat().st_size for p in files)} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
