# Sourced by .ci/run, from the root of the repository: what the engines of the model zoo consist of. Needs the Python environment that
# `conformance_data` makes.

# Compile every model of testdata/zoo/structure.tsv and compare the steps of its engine with the figures there.
zoo_structure() {
    local target=${CARGO_TARGET_DIR:-target}
    "$target/conformance/venv/bin/python" testdata/zoo/structure.py --autoglm "$target/release/autoglm"
}
