#!/usr/bin/env python3
"""Write the signatures of the operators of ai.onnx, from the schemas of the installed onnx package.

    schemas.py OUT           write the table
    schemas.py OUT --check   compare only: status 1 if the file says anything else

A line is an operator, its versions with one signature, how many inputs and outputs it may have (`*`: any number) and its
attributes with their types.
"""
import sys
from collections import defaultdict
from pathlib import Path

import onnx

MANY = 2**31 - 1


def most(count):
    return "*" if count == MANY else str(count)


def signature(schema):
    attributes = (f"{name}:{a.type.name.lower()}" for name, a in sorted(schema.attributes.items()))
    return " ".join([most(schema.max_input), most(schema.max_output), *attributes])


def lines():
    history = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            history[schema.name].append((schema.since_version, signature(schema)))
    for name, versions in sorted(history.items()):
        runs = []
        for since, text in sorted(versions):
            if runs and runs[-1][1] == text:
                runs[-1][0].append(str(since))
            else:
                runs.append(([str(since)], text))
        yield from (f"{name} {','.join(since)} {text}" for since, text in runs)


def main():
    out = Path(sys.argv[1])
    text = f"# onnx {onnx.__version__}, written by testdata/conformance/schemas.py\n" + "\n".join(lines()) + "\n"
    if sys.argv[2:] == ["--check"]:
        sys.exit(f"schemas.py: {out} is not what onnx {onnx.__version__} says" if out.read_text() != text else 0)
    out.write_text(text)


if __name__ == "__main__":
    main()
