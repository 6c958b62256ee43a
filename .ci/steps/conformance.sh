# Sourced by .ci/run, from the root of the repository: the ONNX conformance suite against the release binary.

# Write the suite of the pinned onnx version into target/conformance/1.23.2.
conformance_data() {
    local target=${CARGO_TARGET_DIR:-target} data=testdata/conformance
    if ! python3 -c 'import ensurepip' 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install --yes --quiet python3-venv
    fi
    if ! python3 -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
        echo 'The conformance suite needs python3, version 3.11 to 3.13, with venv and ensurepip.' >&2
        echo 'On Debian and Ubuntu: apt-get install python3 python3-venv' >&2
        return 1
    fi
    python3 -m venv "$target/conformance/venv"
    "$target/conformance/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        --require-hashes -r "$data/requirements.txt"
    "$target/conformance/venv/bin/python" "$data/generate.py" "$target/conformance/1.23.2"
}

# Run every case; one that does anything else than the list says is an error, be it better or worse.
conformance_run() { # extra arguments...
    local target=${CARGO_TARGET_DIR:-target}
    "$target/release/autoglm" conformance "$target/conformance/1.23.2" --ratchet testdata/conformance/expected.tsv "$@" |
        tail -n 1
}
