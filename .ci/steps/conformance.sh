# Sourced by .ci/run, from the root of the repository: the ONNX conformance suite against the release binary.

# Write the suite of the pinned onnx version into target/conformance/1.23.2, and hold the table of signatures to its schemas.
conformance_data() {
    local target=${CARGO_TARGET_DIR:-target} data=testdata/conformance
    python_ready
    python3 -m venv "$target/conformance/venv"
    "$target/conformance/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        --require-hashes -r "$data/requirements.txt"
    "$target/conformance/venv/bin/python" "$data/generate.py" "$target/conformance/1.23.2"
    "$target/conformance/venv/bin/python" "$data/schemas.py" compiler/schemas/ai.onnx.txt --check
}

# Run every case; one that does anything else than the list says is an error, be it better or worse.
conformance_run() { # extra arguments...
    local target=${CARGO_TARGET_DIR:-target}
    "$target/release/autoglm" conformance "$target/conformance/1.23.2" --ratchet testdata/conformance/expected.tsv "$@" |
        tail -n 1
}
